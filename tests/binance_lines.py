"""Lines as Binance's streams have them, made up for tests, and what a reader says of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest

from featureplane import native
from featureplane.errors import InputError
from featureplane.market.events import EVENT_DTYPE
from featureplane.market.sources.binance_plain import PlainReader

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


BACKENDS = [
    pytest.param("python", id="python"),
    pytest.param("rust", id="rust", marks=pytest.mark.skipif(not native.available(), reason="no extension")),
]
backends = pytest.mark.parametrize("backend", BACKENDS)

Array = npt.NDArray[np.void]


class Outcome:
    """All a reader has to say about one text."""

    def __init__(
        self,
        chunks: Sequence[bytes],
        backend: str,
        *,
        futures: bool = True,
        symbol: str = SYMBOL,
        exponents: tuple[int, int] = (1, 3),
        drop: bool = False,
        line_bytes_max: int = 1 << 20,
        events_max: int = 1 << 60,
    ) -> None:
        kind = native.module().BinanceReader if backend == "rust" else PlainReader
        reader = kind(symbol, 7, *exponents, futures, drop, line_bytes_max)
        self.error: InputError | None = None
        parts = []
        reader.begin("some file")
        try:
            for chunk in chunks:
                place = 0
                while place < len(chunk):
                    place = reader.feed(chunk, place, events_max)
                    if reader.pending() >= events_max:
                        parts.append(reader.take())
            reader.end()
        except InputError as error:
            self.error = error
        parts.append(reader.take())
        self.events: Array = np.concatenate(parts).view(EVENT_DTYPE)
        self.dropped = {reason: count for reason, count in reader.dropped() if count}
        self.symbols = reader.symbols()
        self.local_max = reader.local_max()

    def said(self) -> tuple[object, ...]:
        error = None if self.error is None else (type(self.error), str(self.error), vars(self.error))
        return self.events.tobytes(), error, self.dropped, self.symbols, self.local_max


def read(text: bytes, backend: str, **options: Any) -> Outcome:
    return Outcome([text], backend, **options)


def events(text: bytes, backend: str, **options: Any) -> Array:
    outcome = read(text, backend, **options)
    assert outcome.error is None
    return outcome.events


MALFORMED: Final = {
    "no time": b'{"e":"trade"}\n',
    "time of 18 digits": line(trade(), 172316125503031466),
    "time beyond 64 bits": line(trade(), 9999999999999999999),
    "no JSON": b"1723161255030314667 what\n",
    "no object": line([trade()]),
    "JSON and more": line(trade())[:-1] + b" x\n",
    "not UTF-8": b'1723161255030314667 {"e":"tr\xffade"}\n',
    "half a surrogate pair": b'1723161255030314667 {"e":"\\ud800"}\n',
    "NaN": b'1723161255030314667 {"e":NaN}\n',
    "a number beyond floats": b'1723161255030314667 {"x":1e999}\n',
    "nested too deeply": b"1723161255030314667 " + b'{"x":' * 17 + b"1" + b"}" * 17 + b"\n",
    "nested far too deeply": b"1723161255030314667 " + b'{"x":' * 9999 + b"1" + b"}" * 9999 + b"\n",
    "too many decimals": line(trade(p="61800.31")),
    "exponent": line(trade(p="6e4")),
    "price as number": line(trade(p=61800.3)),
    "size below 0": line(trade(q="-0.001")),
    "price of 2^53": line(trade(p="900719925474099.2")),
    "no symbol": line(trade(s=...)),
    "symbol as number": line(trade(s=5)),
    "trade id 0": line(trade(t=0)),
    "trade id as text": line(trade(t="77")),
    "trade id below 0": line(trade(t=-1)),
    "trade id beyond 64 bits": line(trade(t=1 << 64)),
    "no time of the venue": line(trade(E=..., T=...)),
    "time beyond nanoseconds": line(trade(T=1 << 62)),
    "time as text": line(trade(T="1723161256320")),
    "no maker": line(trade(m=...)),
    "maker as number": line(trade(m=1)),
    "kind null": line(trade(X=None)),
    "ids backwards": line(diff(U=13)),
    "pu beyond u": line(diff(pu=13)),
    "no pu": line(diff(pu=...)),
    "no bids": line(diff(b=...)),
    "bids as text": line(diff(b="61800.30")),
    "a level of three": line(diff(b=[["1.0", "1.000", []]])),
    "a level of one": line(diff(a=[["1.0", "1.0"], ["1.0"]])),
    "a level as object": line(diff(a=[{"p": "1.0"}])),
    "a level null": line(diff(a=[None])),
    "a size as number": line(diff(a=[["1.0", 1.5]])),
    "a size as list": line(diff(a=[["1.0", [[]]]])),
    "a size below 0": line(diff(a=[["1.0", "-1"]])),
    "aggregate backwards": line(aggregate(f=78)),
    "quote without id": line(quote(u=None)),
    "quote without size": line(quote(A=[])),
    "snapshot id 0": line(snapshot(lastUpdateId=0)),
    "snapshot symbol null": line(snapshot(symbol=None)),
    "asks as object": line(snapshot(asks={})),
}
