"""The same features, over history: tables and files.

compute   events, or files     -> engine, in chunks of whole messages
tables    columns of frames    -> Arrow, Polars, pandas, Parquet
runs      what one run read, dropped and put out
"""
