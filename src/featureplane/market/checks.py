"""What holds for every run of events, whoever made it (rules 1.2, 2.1, 2.2). Vectorised.

Finds the first event that `messages.fault_of` would refuse, in a pass over columns. Readers make
events that hold these rules by construction; arrays given by a user are checked here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from featureplane.errors import MalformedEvent, UnknownSymbol
from featureplane.market.events import EVENT_DTYPE, EventFlag, Kind, Side
from featureplane.market.instruments import Instrument
from featureplane.market.messages import EVENT_BYTES, Event, check_array, fault_of
from featureplane.units import MAGNITUDE_LIMIT, TIME_LIMIT_NS

__all__ = ["check_events"]

_KINDS: Final = np.isin(np.arange(256), [int(kind) for kind in Kind])
_SIDED: Final = np.isin(np.arange(256), [Kind.LEVEL, Kind.SNAPSHOT_LEVEL, Kind.QUOTE, Kind.ADD])
_SHARED: Final = ("symbol_id", "seq_last", "seq_prev", "source_ts_ns", "local_ts_ns")
_FLAG_BITS: Final = 0xFF


def check_events(array: object, instruments: tuple[Instrument, ...], on_malformed: str) -> npt.NDArray[Any]:
    """`array` without a last message that has no `LAST`; a view.

    Raises `MalformedEvent` for another dtype or shape and, with `on_malformed="raise"`, for the first
    event that no rule accepts; `UnknownSymbol` for events of other instruments.
    """
    array = check_array(array)
    if not array.flags.c_contiguous:
        raise MalformedEvent(f"events {array.strides[0]} bytes apart", "a contiguous array of EVENT_DTYPE")
    last = array["flags"] & EventFlag.LAST != 0
    whole = int(np.flatnonzero(last)[-1]) + 1 if last.any() else 0
    array, last = array[:whole], last[:whole]
    known = np.array([one.symbol_id for one in instruments], "u4")
    strangers = ~np.isin(array["symbol_id"], known)
    if strangers.any():
        stranger = int(array["symbol_id"][np.argmax(strangers)])
        raise UnknownSymbol(stranger, [one.symbol for one in instruments])
    if on_malformed == "raise":
        torn = _torn(array, last)
        bad = torn | _faulty(array)
        if bad.any():
            at = int(np.argmax(bad))
            fault = fault_of(Event._make(array[at].tolist()))
            found, expected = fault or ("another message", "the rest of one that has no LAST")
            raise MalformedEvent(found, expected, offset=at * EVENT_BYTES)
    return array


def _torn(array: npt.NDArray[Any], last: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    torn = np.zeros(len(array), np.bool_)
    for name in _SHARED:
        torn[1:] |= ~last[:-1] & (array[name][1:] != array[name][:-1])
    return torn


def _faulty(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    kind, side, flags, _, price, qty, _, seq_last, seq_prev, source, local = (
        array[name] for name in EVENT_DTYPE.names or ()
    )
    bad = ~_KINDS[kind] | (flags & ~np.uint16(_FLAG_BITS) != 0) | (side > Side.ASK)
    bad |= _SIDED[kind] & (side == Side.NONE)
    bad |= (price >= MAGNITUDE_LIMIT) | (price <= -MAGNITUDE_LIMIT) | (qty >= MAGNITUDE_LIMIT) | (qty < 0)
    bad |= (kind == Kind.STATUS) & (qty > 3)
    bad |= seq_prev > seq_last
    for times in (source, local):
        bad |= (times < 0) | (times >= TIME_LIMIT_NS)
    return np.asarray(bad)
