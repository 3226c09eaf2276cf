"""The same features, over history: tables, files, what is stored of them, and backtests.

compute       events, or files     -> engine, in chunks of whole messages
tables        columns of frames    -> Arrow, Polars, pandas, Parquet
labels        what came after each row, for models
runs          what one run read, dropped and put out
touch         features of a prepared table of best prices and sizes
verification  whether the book is the venue's

datasets      which files hold which symbol and day; `catalogue`, `filefacts` and `contents` of them
store         features computed once
backfill      many days by many workers
backtest      strategies on engine, plan and rules of research
"""
