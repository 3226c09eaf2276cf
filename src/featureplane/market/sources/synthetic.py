"""The made-up source: `synthetic:SEED[:COUNT[:SYMBOLS]][:FAULT=RATE]...` in place of a path.

COUNT events (100,000 if it is left out) of SYMBOLS symbols (1), with the usual accidents. Each FAULT is
a field of `market.synthetic.Faults`, its RATE in millionths of the messages: `corrupt=5000` makes some
that no rule accepts, which the usual stream has none of.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from featureplane.errors import MalformedEvent, SettingError, UnknownSymbol
from featureplane.market.checks import check_events
from featureplane.market.events import EVENT_DTYPE, EventBatch, EventFlag, SourceFile, SourceInfo
from featureplane.market.instruments import Instrument
from featureplane.market.messages import EVENT_BYTES
from featureplane.market.sources import Request, Source
from featureplane.market.sources.batches import Counts, batches
from featureplane.market.synthetic import Faults, SyntheticStream, synthetic_instruments

__all__ = ["SOURCES"]

_SPEC: Final = re.compile(r"synthetic:(\d{1,18})(?::(\d{1,12}))?(?::(\d{1,4}))?((?::[a-z_]+=\d{1,7})*)")
_FORM: Final = "synthetic:SEED[:COUNT[:SYMBOLS]][:FAULT=RATE]..."
_RATES: Final = "a RATE is in millionths of the messages: `corrupt=5000` is one of 200"
_COUNT: Final = 100_000


class _Spec(NamedTuple):
    """What a spec asks for."""

    seed: int
    events: int
    symbols: int
    faults: Faults


def _spec(request: Request) -> _Spec:
    if len(request.inputs) != 1:
        raise SettingError(f"{len(request.inputs)} made-up streams", hint="name one seed")
    match = _SPEC.fullmatch(str(request.inputs[0]))
    if match is None:
        raise SettingError(
            f"{str(request.inputs[0])!r} is no made-up stream", hint=f"write {_FORM}; {_RATES}"
        )
    return _Spec(int(match[1]), int(match[2] or _COUNT), max(1, int(match[3] or 1)), _faults(match[4]))


def _faults(text: str) -> Faults:
    """The usual rates, but for those that are named."""
    rates: dict[str, int] = {}
    names = [field.name for field in fields(Faults)]
    for part in text.split(":")[1:]:
        name, _, rate = part.partition("=")
        if name not in names or name in rates:
            found = f"{name!r} is named twice" if name in rates else f"{name!r} is no fault"
            raise SettingError(found, hint=f"there are: {', '.join(names)}; {_RATES}")
        rates[name] = int(rate)
    return Faults(**rates)


def infer(request: Request) -> tuple[Instrument, ...]:
    """The instruments, as they are made."""
    symbols = _spec(request).symbols
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
    spec = _spec(request)
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
    blocks = _blocks(SyntheticStream(spec.seed, spec.symbols, faults=spec.faults), spec.events, instruments)
    if spec.faults.corrupt and request.options.on_malformed == "raise":
        blocks = _checked(blocks, instruments, name)
    return batches(blocks, template, request.events_max, Counts())


def _blocks(
    stream: SyntheticStream, count: int, instruments: tuple[Instrument, ...]
) -> Iterator[npt.NDArray[Any]]:
    ids = np.array([one.symbol_id for one in instruments], np.uint32)
    for block in stream.blocks(count):
        yield block[np.isin(block["symbol_id"], ids)]


def _checked(
    blocks: Iterator[npt.NDArray[Any]], instruments: tuple[Instrument, ...], name: str
) -> Iterator[npt.NDArray[Any]]:
    """The blocks up to the message that no rule accepts, which is an error."""
    taken = 0
    for block in blocks:
        try:
            check_events(block, instruments, "raise")
        except MalformedEvent as error:
            at = error.offset or 0
            ends = np.flatnonzero(block["flags"][: at // EVENT_BYTES] & EventFlag.LAST)
            yield block[: int(ends[-1]) + 1 if len(ends) else 0]
            raise MalformedEvent(error.found, error.expected, file=name, offset=taken + at) from None
        taken += block.nbytes
        yield block


SOURCES: Final = {
    "synthetic": Source(
        SourceInfo("synthetic", sequenced=True, has_snapshots=True, local_time=True, trade_sides=False),
        read,
        infer,
    )
}
