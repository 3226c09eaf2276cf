"""Order-book features, bit for bit the same in research, backtest and live."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
