"""The same features, over history: tables and files.

compute   events, or files     -> engine, in chunks of whole messages
tables    columns of frames    -> Arrow, Polars, pandas, Parquet
labels    what came after each row, for models
runs      what one run read, dropped and put out

The store: the same, computed once.

datasets  which files hold which symbol and day
books     the book between two files, for any feature set
dayrun    the frames of one day
keys      what a stored day's name is made of
manifest  which days are stored, in SQLite
shelf     their files; `hot` the mapped ones
store     the door; `entry` what it answers, `grids` what is chosen out of it
backfill  many days by many workers
repair    what does not fit, found and mended
"""
