"""Small streams shaped by hand or by Hypothesis: what goes wrong on a wire, in a few messages.

An `Op` says what one message does; `script` writes the messages down, with ids and times that
follow from those before unless the op says otherwise. Times start two seconds before midnight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from featureplane.market.events import EVENT_DTYPE, EventFlag, Kind, Side
from featureplane.market.instruments import Instrument
from featureplane.market.messages import Event
from featureplane.market.sessions import Session
from tests.streams import MS, Change

MIDNIGHT_NS: Final = 1_700_006_400_000 * MS  # 2023-11-15 00:00 UTC
FIRST_NS: Final = MIDNIGHT_NS - 2_000 * MS
SYMBOLS: Final = (7, 8)
LARGEST: Final = (1 << 53) - 1
_LAST: Final = int(EventFlag.LAST)
_RECOVERY: Final = int(EventFlag.RECOVERY)


class Op(NamedTuple):
    """One message: its changes, how its ids follow, how much later it comes.

    `ids`: `next` joins, `wide` joins and covers several, `gap` leaves a hole, `fill` closes the last
    hole, `overlap` covers ids that have come, `again` repeats the last, `old` ends before it, `none`
    has none. `source_ms`: step of the venue's clock; `shift_ms` moves this message's stamp alone;
    `lat_ms`: our time less its stamp.
    """

    changes: tuple[Change, ...]
    ids: str = "next"
    symbol: int = 0
    source_ms: int = 1
    shift_ms: int = 0
    lat_ms: int = 0
    fault: str = ""  # spoils the message: needs `on_malformed="drop"`


@dataclass(slots=True)
class _Chain:
    """Ids of one channel of one symbol."""

    last: int = 100
    before: tuple[int, int] = (99, 100)
    hole: tuple[int, int] = (100, 100)


_CHANNELS: Final = {int(Kind.TRADE): "trade", int(Kind.STATUS): "status", int(Kind.QUOTE): "quote"}


@dataclass(slots=True)
class _Writer:
    chains: dict[tuple[int, str], _Chain] = field(default_factory=dict)
    source_ns: int = FIRST_NS

    def write(self, op: Op) -> list[Event]:
        self.source_ns += op.source_ms * MS
        source = max(0, self.source_ns + op.shift_ms * MS)
        local = max(0, source + op.lat_ms * MS)
        prev, last = self._ids(op)
        symbol_id = SYMBOLS[op.symbol]
        events = [
            Event(c.kind, c.side, c.flags, symbol_id, c.price, c.qty, c.order_id, last, prev, source, local)
            for c in op.changes
        ]
        events[-1] = events[-1]._replace(flags=events[-1].flags | _LAST)
        return _FAULTS[op.fault](events) if op.fault else events

    def _ids(self, op: Op) -> tuple[int, int]:
        kinds = {c.kind for c in op.changes}
        alone = kinds.pop() if len(kinds) == 1 else 0
        channel = _CHANNELS.get(alone, "book")
        chain = self.chains.setdefault((op.symbol, channel), _Chain())
        if op.ids == "none":
            return 0, 0
        if any(c.flags & _RECOVERY or c.kind == Kind.SNAPSHOT_LEVEL for c in op.changes):
            return _snapshot_ids(chain, op.ids)
        prev, last = _IDS[op.ids](chain)
        if op.ids == "gap":
            chain.hole = (chain.last, prev)
        chain.before = prev, last
        chain.last = max(chain.last, last)
        return prev, last


def _snapshot_ids(chain: _Chain, how: str) -> tuple[int, int]:
    """A snapshot is as of an id: now, some ids ago, or one we have not heard of."""
    last = chain.last + {"old": -2, "overlap": -1, "gap": 3, "wide": 1}.get(how, 0)
    if how == "again":  # an ordinary message that holds a full book
        last += 1
        chain.before = last - 1, last
    prev = last - 1 if how == "again" else 0
    chain.last = max(chain.last, last)
    return prev, last


_IDS: Final[dict[str, Callable[[_Chain], tuple[int, int]]]] = {
    "next": lambda c: (c.last, c.last + 1),
    "wide": lambda c: (c.last, c.last + 5),
    "gap": lambda c: (c.last + 2, c.last + 4),
    "fill": lambda c: c.hole,
    "overlap": lambda c: (c.last - 2, c.last + 1),
    "again": lambda c: c.before,
    "old": lambda c: (c.last - 3, c.last - 2),
}


def _uncut(events: list[Event]) -> list[Event]:
    return [*events[:-1], events[-1]._replace(flags=events[-1].flags & ~_LAST)]


def _spoil(**fields: Any) -> Any:
    return lambda events: [*events[:-1], events[-1]._replace(**fields)]


_FAULTS: Final[dict[str, Any]] = {
    "kind": _spoil(kind=99),
    "unread": _spoil(kind=0),
    "side": _spoil(side=3),
    "price": _spoil(price=LARGEST + 1),
    "qty": _spoil(qty=-1),
    "flag": lambda events: [*events[:-1], events[-1]._replace(flags=events[-1].flags | 1 << 9)],
    "time": _spoil(local_ts_ns=-1),
    "cut": _uncut,
    "strange": lambda events: [*_uncut(events[:1]), *(e._replace(seq_last=e.seq_last + 1) for e in events)],
}


def script(ops: Sequence[Op]) -> tuple[npt.NDArray[Any], list[int]]:
    """The events of a stream, and behind which of them a message of an op ends."""
    writer, events, ends = _Writer(), list[Event](), []
    for op in ops:
        events += writer.write(op)
        ends.append(len(events))
    return np.array([tuple(event) for event in events], EVENT_DTYPE), ends


# -- strategies


def _tuples(
    least: int, most: int, *kinds: st.SearchStrategy[Change]
) -> st.SearchStrategy[tuple[Change, ...]]:
    return st.lists(st.one_of(*kinds), min_size=least, max_size=most).map(tuple)


def _changes(  # noqa: PLR0917 - the fields of a change
    kind: Any, side: Any = 0, price: Any = 0, qty: Any = 0, flags: Any = 0, order_id: Any = 0
) -> st.SearchStrategy[Change]:
    """Changes whose fields are drawn, or as given."""
    fields = (kind, side, price, qty, flags, order_id)
    drawn = [one if isinstance(one, st.SearchStrategy) else st.just(one) for one in fields]
    return st.tuples(*drawn).map(Change._make)


SIDES: Final = st.sampled_from([Side.BID, Side.ASK])
SIZES: Final = st.sampled_from([0, 0, 1, 2, 3, 5, 8, LARGEST, LARGEST - 1])
AMOUNTS: Final = st.sampled_from([1, 1, 2, 3, 5, 8, 5_000, LARGEST])
EXTREMES: Final = st.sampled_from([0, -1, -3, LARGEST, -LARGEST, 1 << 46, 1 << 47])
BIDS: Final = st.integers(96, 100)
ASKS: Final = st.integers(101, 105)
ANYWHERE: Final = st.one_of(st.integers(95, 106), EXTREMES)


@st.composite
def levels(draw: st.DrawFn, kind: Kind = Kind.LEVEL, sizes: Any = SIZES, flags: int = 0) -> Change:
    """One level; nine times of ten on the side of the market where it belongs."""
    side = draw(SIDES)
    ordinary = draw(st.integers(0, 9)) > 0
    price = draw((BIDS if side == Side.BID else ASKS) if ordinary else ANYWHERE)
    return Change(kind, side, price, draw(sizes), flags)


TRADES: Final = _changes(
    Kind.TRADE,
    st.sampled_from([Side.BID, Side.ASK, Side.NONE]),
    st.one_of(st.integers(99, 102), ANYWHERE),
    SIZES,
    st.sampled_from(
        [0, 0, 0, int(EventFlag.HIDDEN), int(EventFlag.NOT_MARKET), int(EventFlag.SIDE_INFERRED)]
    ),
)
STATUSES: Final = _changes(Kind.STATUS, qty=st.sampled_from([3, 3, 3, 2, 1, 0]))
QUOTES: Final = st.just((Change(Kind.QUOTE, Side.BID, 99, 1), Change(Kind.QUOTE, Side.ASK, 102, 1)))
ORDERS: Final = _changes(
    st.sampled_from([Kind.ADD, Kind.ADD, Kind.CANCEL, Kind.MODIFY, Kind.EXECUTE]),
    SIDES,
    st.integers(98, 103),
    SIZES,
    order_id=st.integers(1, 6),
)
CLEARS: Final = _changes(
    Kind.CLEAR,
    st.sampled_from([Side.NONE, Side.BID, Side.ASK]),
    st.integers(96, 105),
    flags=st.sampled_from([0, 0, int(EventFlag.BOUND)]),
)


@st.composite
def snapshots(draw: st.DrawFn) -> tuple[Change, ...]:
    """A full book, perhaps one-sided or empty, with or without clears; most restart the book."""
    flags = _RECOVERY if draw(st.integers(0, 4)) else 0
    full = list(draw(_tuples(0, 6, levels(Kind.SNAPSHOT_LEVEL, AMOUNTS, flags))))
    clears = draw(st.integers(0, 2))
    if clears == 2 or not full:
        full[:0] = [Change(Kind.CLEAR, side, flags=flags) for side in (Side.BID, Side.ASK)]
    elif clears:
        full.insert(0, draw(CLEARS)._replace(flags=flags | draw(st.sampled_from([0, int(EventFlag.BOUND)]))))
    if not draw(st.integers(0, 7)):
        full.append(draw(TRADES))
    return tuple(full)


@st.composite
def order_snapshots(draw: st.DrawFn) -> tuple[Change, ...]:
    """A clear and orders that restart an order-level book."""
    adds = draw(st.lists(ORDERS, min_size=0, max_size=5, unique_by=lambda c: c.order_id))
    orders = [c._replace(kind=Kind.ADD, flags=_RECOVERY) for c in adds]
    return (Change(Kind.CLEAR, flags=_RECOVERY), *orders)


CHANGES: Final = st.one_of(
    _tuples(1, 4, levels()),
    _tuples(1, 4, levels()),
    _tuples(1, 3, TRADES),
    _tuples(1, 4, levels(), TRADES),
    snapshots(),
    _tuples(1, 3, CLEARS, levels()),
    _tuples(1, 4, ORDERS),
    _tuples(1, 4, ORDERS, TRADES),
    order_snapshots(),
    _tuples(1, 2, STATUSES),
    _tuples(1, 4, levels(), STATUSES, TRADES),
    QUOTES,
)
IDS: Final = st.sampled_from(
    [*["next"] * 12, "wide", "gap", "gap", "fill", "overlap", "again", "old", "none"]
)
STEPS_MS: Final = st.sampled_from(
    [*[0, 1, 1, 7, 250] * 3, 600, 1_001, 1_500, 5_000, 61_000, 300_000, 43_200_000]
)
SHIFTS_MS: Final = st.sampled_from([*[0] * 12, -1, -3_000, 70_000, -70_000])
LATENESS_MS: Final = st.sampled_from([*[0] * 8, 1, -1_270, 1_500, 70_000, -70_000])
NO_FAULT: Final = st.just("")
FAULTS: Final = st.sampled_from([*[""] * 15, *_FAULTS])


def ops(faults: st.SearchStrategy[str] = NO_FAULT) -> st.SearchStrategy[Op]:
    """One message of whatever kind."""
    return st.tuples(CHANGES, IDS, st.integers(0, 1), STEPS_MS, SHIFTS_MS, LATENESS_MS, faults).map(Op._make)


def book(size: int = 5, *, symbol: int = 0) -> Op:
    """A recovery snapshot of two levels a side."""
    sides = ((Side.BID, (100, 99)), (Side.ASK, (101, 102)))
    full = [Change(Kind.SNAPSHOT_LEVEL, s, p, size, _RECOVERY) for s, prices in sides for p in prices]
    return Op(tuple(full), symbol=symbol)


def streams(most: int = 40, faults: st.SearchStrategy[str] = NO_FAULT) -> st.SearchStrategy[list[Op]]:
    """A few messages of two symbols; most begin with a book of each."""
    begins = st.sampled_from([[book(), book(symbol=1)], [book(), book(symbol=1)], [book()], []])
    return st.builds(lambda head, tail: head + tail, begins, st.lists(ops(faults), min_size=1, max_size=most))


_TOKYO: Final = tuple(
    Session(state, 3_600 * opens, 3_600 * closes)
    for state, opens, closes in (("trading", 6, 9), ("pre_open", 9, 10), ("trading", 10, 21))
)
"""Midnight UTC is 09:00 in Tokyo: trading stops there for an hour."""

INSTRUMENTS: Final[Sequence[dict[str, Any]]] = (
    {},
    {"book_levels": 3},
    {"locked": "valid", "clock": "synchronised"},
    {"sessions": _TOKYO, "time_zone": "Asia/Tokyo"},
    {"sessions": _TOKYO, "time_zone": "Asia/Tokyo", "reset_at": "09:00"},
    {"reset_at": "19:00", "time_zone": "America/New_York", "vpin_bucket": None, "tick_size": None},
    {"reset_at": "none", "stale_ms": 0},
)


def instruments(**fields: Any) -> tuple[Instrument, ...]:
    """The two symbols, alike but for their ids."""
    made = {"price_exponent": 2, "qty_exponent": 3, "tick_size": "0.01", "vpin_bucket": "0.005", **fields}
    return tuple(Instrument(venue="test", symbol=f"S{i}", symbol_id=i, **made) for i in SYMBOLS)
