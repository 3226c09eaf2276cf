"""Small hand-written streams: changes, the messages they make, and what the reference says of them.

Times are in milliseconds after an arbitrary start, ids as (prev, last].
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from featureplane.features.frame import FeatureFrame
from featureplane.features.kernels.expression import Expression
from featureplane.features.reference import ReferenceEngine
from featureplane.features.sampling import parse_every
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EVENT_DTYPE, EventFlag, Kind, Side, SourceInfo, StreamOptions
from featureplane.market.instruments import Instrument
from featureplane.market.messages import Event, Message

MS = 1_000_000
START_NS = 1_700_000_000_000 * MS  # 2023-11-14 22:13:20 UTC
SYMBOL_ID = 7


class Change(NamedTuple):
    """One event without the head its message gives it."""

    kind: int
    side: int = 0
    price: int = 0
    qty: int = 0
    flags: int = 0
    order_id: int = 0


def bid(price: int, qty: int) -> Change:
    return Change(Kind.LEVEL, Side.BID, price, qty)


def ask(price: int, qty: int) -> Change:
    return Change(Kind.LEVEL, Side.ASK, price, qty)


def buy(price: int, qty: int, flags: int = 0) -> Change:
    return Change(Kind.TRADE, Side.BID, price, qty, flags)


def sell(price: int, qty: int, flags: int = 0) -> Change:
    return Change(Kind.TRADE, Side.ASK, price, qty, flags)


def order(kind: Kind, order_id: int, side: int, price: int, qty: int) -> Change:
    return Change(kind, side, price, qty, order_id=order_id)


def clear(side: int = 0, flags: int = 0, price: int = 0) -> Change:
    return Change(Kind.CLEAR, side, price, 0, flags)


def message(
    *changes: Change,
    ids: tuple[int, int] = (0, 0),
    at: float = 0,
    local: float | None = None,
    symbol_id: int = SYMBOL_ID,
    flags: int = 0,
) -> list[Event]:
    """The events of one message; `local` is `at` unless it is given."""
    source_ts_ns = START_NS + round(at * MS)
    local_ts_ns = source_ts_ns if local is None else START_NS + round(local * MS)
    prev, last = ids
    events = [
        Event(
            c.kind,
            c.side,
            c.flags | flags,
            symbol_id,
            c.price,
            c.qty,
            c.order_id,
            last,
            prev,
            source_ts_ns,
            local_ts_ns,
        )
        for c in changes
    ]
    events[-1] = events[-1]._replace(flags=events[-1].flags | EventFlag.LAST)
    return events


def snapshot(
    *changes: Change, last: int = 0, at: float = 0, local: float | None = None, recovery: bool = True
) -> list[Event]:
    """A full book as of id `last`; levels become snapshot levels, all marked `RECOVERY` or none."""
    full = [c._replace(kind=Kind.SNAPSHOT_LEVEL) if c.kind == Kind.LEVEL else c for c in changes]
    flags = int(EventFlag.RECOVERY) if recovery else 0
    return message(*full, ids=(0, last), at=at, local=local, flags=flags)


def status(state: int, *, at: float = 0) -> list[Event]:
    return message(Change(Kind.STATUS, qty=state), at=at)


def as_message(events: list[Event]) -> Message:
    return Message(events)


def as_array(messages: Iterable[list[Event]]) -> npt.NDArray[Any]:
    return np.array([tuple(event) for one in messages for event in one], dtype=EVENT_DTYPE)


def instrument(**fields: Any) -> Instrument:
    defaults: dict[str, Any] = {
        "venue": "test",
        "symbol": "ABC",
        "price_exponent": 2,
        "qty_exponent": 0,
        "symbol_id": SYMBOL_ID,
    }
    return Instrument(**(defaults | fields))


def source(**fields: Any) -> SourceInfo:
    defaults: dict[str, Any] = {
        "name": "test",
        "sequenced": True,
        "has_snapshots": True,
        "local_time": True,
        "trade_sides": True,
    }
    return SourceInfo(**(defaults | fields))


def feature_set(**features: Expression) -> FeatureSet:
    return FeatureSet("test_v1", features=features)


def engine(
    fset: FeatureSet,
    *,
    about: Instrument | None = None,
    feed: SourceInfo | None = None,
    emit: Any = "update",
    every: int | str | None = None,
    **options: Any,
) -> ReferenceEngine:
    """A reference engine before its first event."""
    return ReferenceEngine(
        fset,
        (about or instrument(),),
        feed or source(),
        StreamOptions(**options),
        emit=emit,
        every=parse_every(every),
    )


def frames(fset: FeatureSet, messages: Iterable[list[Event]], **how: Any) -> list[FeatureFrame]:
    """The frames of a stream."""
    return [frame for frame, _ in engine(fset, **how).process(as_array(messages))]
