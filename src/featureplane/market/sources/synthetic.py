"""The made-up source: `synthetic:SEED[:COUNT[:SYMBOLS]]` in place of a path.

COUNT events (100,000 if it is left out) of SYMBOLS symbols (1), with the usual accidents; see
`market.synthetic`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from featureplane.errors import SettingError, UnknownSymbol
from featureplane.market.events import EVENT_DTYPE, EventBatch, SourceFile, SourceInfo
from featureplane.market.instruments import Instrument
from featureplane.market.sources import Request, Source
from featureplane.market.sources.batches import Counts, batches
from featureplane.market.synthetic import SyntheticStream, synthetic_instruments

__all__ = ["SOURCES"]

_SPEC: Final = re.compile(r"synthetic:(\d{1,18})(?::(\d{1,12}))?(?::(\d{1,4}))?")
_COUNT: Final = 100_000


def _spec(request: Request) -> tuple[int, int, int]:
    """Seed, count, symbols."""
    if len(request.inputs) != 1:
        raise SettingError(f"{len(request.inputs)} made-up streams", hint="name one seed")
    match = _SPEC.fullmatch(str(request.inputs[0]))
    if match is None:
        raise SettingError(
            f"{str(request.inputs[0])!r} is no made-up stream", hint="write synthetic:SEED[:COUNT[:SYMBOLS]]"
        )
    return int(match[1]), int(match[2] or _COUNT), max(1, int(match[3] or 1))


def infer(request: Request) -> tuple[Instrument, ...]:
    """The instruments, as they are made."""
    _, _, symbols = _spec(request)
    instruments = {one.symbol: one for one in synthetic_instruments(symbols)}
    for given in request.instruments or ():
        if given.symbol in instruments and given.symbol_id == instruments[given.symbol].symbol_id:
            instruments[given.symbol] = given
    if request.symbol is None:
        return tuple(instruments.values())
    if request.symbol not in instruments:
        raise UnknownSymbol(request.symbol, list(instruments))
    return (instruments[request.symbol],)


def read(request: Request) -> Iterator[EventBatch]:
    """The events of a seed; see `reading.read_events`."""
    seed, count, symbols = _spec(request)
    instruments = infer(request)
    name = str(request.inputs[0])
    template = EventBatch(
        np.zeros(0, EVENT_DTYPE),
        instruments,
        SOURCES["synthetic"].info,
        request.options,
        (SourceFile(name, hashlib.sha256(name.encode()).hexdigest()),),
        checked=True,
    )
    blocks = _blocks(SyntheticStream(seed, symbols), count, instruments)
    return batches(blocks, template, request.events_max, Counts())


def _blocks(
    stream: SyntheticStream, count: int, instruments: tuple[Instrument, ...]
) -> Iterator[npt.NDArray[Any]]:
    ids = np.array([one.symbol_id for one in instruments], np.uint32)
    for block in stream.blocks(count):
        yield block[np.isin(block["symbol_id"], ids)]


SOURCES: Final = {
    "synthetic": Source(
        SourceInfo("synthetic", sequenced=True, has_snapshots=True, local_time=True, trade_sides=False),
        read,
        infer,
    )
}
