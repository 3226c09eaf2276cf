"""Lines as Binance's streams have them, made up for tests."""

from __future__ import annotations

import json
from typing import Any

LOCAL = 1_723_161_255_030_314_667
SYMBOL = "BTCUSDT"


def envelope(data: Any, stream: str = "btcusdt@any") -> dict[str, Any]:
    return {"stream": stream, "data": data}


def line(message: Any, local: int | str = LOCAL) -> bytes:
    return f"{local} {json.dumps(message, separators=(',', ':'))}\n".encode()


def diff(**fields: Any) -> dict[str, Any]:
    """A diff of USD-M covering (9, 12]; a field given as `...` is left out."""
    return _with(
        {
            "e": "depthUpdate",
            "E": 1723161256299,
            "T": 1723161256298,
            "s": SYMBOL,
            "U": 10,
            "u": 12,
            "pu": 9,
            "b": [["58710.20", "0.014"], ["58710.10", "0.000"]],
            "a": [["61496.50", "1.010"]],
        },
        fields,
    )


def spot_diff(**fields: Any) -> dict[str, Any]:
    return diff(**({"pu": ..., "T": ...} | fields))


def trade(**fields: Any) -> dict[str, Any]:
    return _with(
        {
            "e": "trade",
            "E": 1723161256322,
            "T": 1723161256320,
            "s": SYMBOL,
            "t": 77,
            "p": "61800.30",
            "q": "0.006",
            "X": "MARKET",
            "m": False,
        },
        fields,
    )


def aggregate(**fields: Any) -> dict[str, Any]:
    message = trade(e="aggTrade", a=5, f=70, l=77, t=..., X=...)
    return _with(message, fields)


def quote(**fields: Any) -> dict[str, Any]:
    return _with(
        {
            "e": "bookTicker",
            "u": 12,
            "s": SYMBOL,
            "b": "61800.20",
            "B": "2.507",
            "a": "61800.30",
            "A": "2.510",
            "T": 1723161256313,
            "E": 1723161256315,
        },
        fields,
    )


def snapshot(**fields: Any) -> dict[str, Any]:
    return _with(
        {
            "lastUpdateId": 11,
            "E": 1723161256501,
            "T": 1723161256493,
            "bids": [["61800.20", "2.909"], ["61800.10", "0.696"]],
            "asks": [["61800.30", "1.000"]],
        },
        fields,
    )


def _with(message: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (message | fields).items() if value is not ...}
