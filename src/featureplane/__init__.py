"""Order-book features, bit for bit the same in research, backtest and live."""
