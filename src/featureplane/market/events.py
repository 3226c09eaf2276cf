"""Market events: one change of a market each, 64 bytes, the same bytes everywhere (rule 2.1).

`EVENT_DTYPE` is the NumPy view of those bytes; `EventBatch` is a run of events with what one
must know to read them: instruments, source, options, files, what readers dropped.

Four conventions of events that the rules leave to the sources:

- `source_ts_ns` is 0 where the venue sends no time (best quotes and snapshots of Binance spot). The
  latest time of the messages in a joined snapshot is then right without a special case; if all are
  0 it is `local_ts_ns` (rule 3.7).
- A snapshot message is two `CLEAR` events, bid and ask, then its `SNAPSHOT_LEVEL` events; all of them
  carry the snapshot's id in `seq_last`, `seq_prev` 0 and, if it restarts the book, `RECOVERY`. An
  empty book is the two clears alone.
- A book message that names no level is one `LEVEL` event with price 0 and size 0, which deletes
  nothing: its ids and its step stay.
- With `on_malformed="drop"` what may have been a book message but could not be read is one event of
  kind 0, which no rule accepts: the guard counts it and breaks the book (rule 10.1). Its times are
  the local time of the line and the source time of the event before it.

Leans on `market.instruments`, `market.checks`. Knows nothing of books or features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag
from types import MappingProxyType, NoneType
from typing import Any, Final, SupportsIndex

import numpy as np
import numpy.typing as npt

from featureplane.arguments import each, expect, whole_number
from featureplane.errors import SettingError
from featureplane.market.instruments import Instrument, check_ids

__all__ = [
    "EVENT_DTYPE",
    "EventBatch",
    "EventFlag",
    "Kind",
    "Side",
    "SourceFile",
    "SourceInfo",
    "StreamOptions",
]

EVENT_DTYPE: Final = np.dtype(
    [
        ("kind", "u1"),
        ("side", "u1"),
        ("flags", "<u2"),
        ("symbol_id", "<u4"),
        ("price", "<i8"),
        ("qty", "<i8"),
        ("order_id", "<u8"),
        ("seq_last", "<u8"),
        ("seq_prev", "<u8"),
        ("source_ts_ns", "<i8"),
        ("local_ts_ns", "<i8"),
    ]
)
"""Layout of one event; rule 2.1, pinned by `tests/unit/test_events.py`."""


class Kind(IntEnum):
    """What one event changes."""

    LEVEL = 1  # one price level; size 0 deletes it
    TRADE = 2
    CLEAR = 3  # the book, or with BOUND a part of it, is empty
    SNAPSHOT_LEVEL = 4  # one level of a full book
    QUOTE = 5  # one side of the venue's own best quote; never input to a book
    STATUS = 6  # qty 0 closed, 1 pre-open, 2 halted, 3 trading
    ADD = 10  # a new order
    CANCEL = 11  # size taken away from an order; 0 takes all
    MODIFY = 12  # new price and size of an order
    EXECUTE = 13  # size executed against an order


class Side(IntEnum):
    """Side of the book, or the aggressor of a trade."""

    NONE = 0
    BID = 1  # or buy aggressor
    ASK = 2  # or sell aggressor


class EventFlag(IntFlag):
    """What else is known about one event."""

    LAST = 1 << 0  # the last event of its message
    RECOVERY = 1 << 1  # this snapshot restarts the book
    REVEALED = 1 << 2  # came into view from beyond the feed's depth
    CONCEALED = 1 << 3  # left the feed's view
    HIDDEN = 1 << 4  # execution against a hidden order
    NOT_MARKET = 1 << 5  # not a market trade; read by no kernel
    SIDE_INFERRED = 1 << 6  # aggressor inferred by the source
    BOUND = 1 << 7  # a clear from the best level to `price`, inclusive


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream is to be taken; rides on the batch to whoever computes with it.

    `seed_after`: with `seed="increments"`, the number of frames after which the book counts as
    whole; None: never (rule 3.7).
    """

    on_gap: str = "wait"  # or "continue", "refuse"
    on_malformed: str = "raise"  # or "drop" (rule 10.1)
    seed: str = "snapshot"  # or "increments"
    seed_after: int | None = None
    on_mismatch: str = "raise"  # or "adopt": take a row of LOBSTER's order-book file as it stands (rule 3.11)

    def __post_init__(self) -> None:
        """Refuse words that are not options."""
        for name, allowed in _OPTIONS.items():
            value = getattr(self, name)
            if value not in allowed:
                raise SettingError(f"{name}={value!r}", hint=f"choose one of {', '.join(allowed)}")
        after = self.seed_after
        if after is not None and (type(after) is not int or after < 0):
            raise SettingError(f"seed_after={after!r}", hint="a number of frames")
        if after is not None and self.seed != "increments":
            raise SettingError("seed_after without increments", hint='it goes with seed="increments"')


_READ: Final = "`read_events(paths, source=...)` makes one of files and of arrays"
_OPTIONS: Final = {
    "on_gap": ("wait", "continue", "refuse"),
    "on_malformed": ("raise", "drop"),
    "seed": ("snapshot", "increments"),
    "on_mismatch": ("raise", "adopt"),
}


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source has and lacks (rules 3.4, 3.9, 3.10, 10.3)."""

    name: str
    sequenced: bool  # messages carry ids: gaps and duplicates can be seen
    has_snapshots: bool  # a broken book can be mended
    local_time: bool  # `local_ts_ns` is our own clock, not a copy
    trade_sides: bool  # the venue names the aggressor


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a stream: its name without folders, and the sha-256 of its bytes as hex.

    `path` is where it lay when it was read, and no part of what it is; empty where it was read from no file.
    """

    name: str
    sha256: str
    path: str = field(default="", compare=False, repr=False)


_ROW_KINDS: Final = np.array([Kind.LEVEL, Kind.TRADE, Kind.CLEAR, Kind.SNAPSHOT_LEVEL, 10, 11, 12, 13], "u1")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EventBatch:
    """Whole messages in order of arrival, and what one must know to read them.

    `array` has dtype `EVENT_DTYPE`, one dimension, contiguous; the batch holds a read-only view of
    it, never a copy. Made by a caller it is checked (rules 1.2, 2.2): a last message without `LAST` is
    cut off and counted as `incomplete`, and with `on_malformed="raise"` the first event that no
    rule accepts raises `MalformedEvent`. With `"drop"` such events stay: the guard drops their
    message and breaks the book (rule 10.1). Readers pass `checked=True`.

    Raises `MalformedEvent`, or `UnknownSymbol` for an event of an instrument that is not given.
    """

    array: npt.NDArray[Any]
    instruments: tuple[Instrument, ...]
    source: SourceInfo
    options: StreamOptions = StreamOptions()
    files: tuple[SourceFile, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)  # by reason, by the reader alone
    checked: bool = False

    def __post_init__(self) -> None:
        """Check what was not checked, and forbid writing."""
        from featureplane.market.checks import check_events  # noqa: PLC0415 - it needs the kinds above

        set_field = object.__setattr__
        expect("source", self.source, SourceInfo, "a `SourceInfo`")
        expect("options", self.options, StreamOptions, "`StreamOptions`")
        set_field(self, "instruments", check_ids(self.instruments))
        if not self.checked:
            whole = check_events(self.array, self.instruments, self.options.on_malformed)
            if len(whole) < len(self.array):
                count = self.dropped.get("incomplete", 0) + 1
                set_field(self, "dropped", {**self.dropped, "incomplete": count})
            set_field(self, "array", whole)
        view = self.array.view()
        view.flags.writeable = False
        set_field(self, "array", view)
        set_field(self, "dropped", MappingProxyType(dict(self.dropped)))

    @classmethod
    def each(cls, events: EventBatch | Iterable[EventBatch]) -> Iterator[EventBatch]:
        """One batch or several, as functions take them; `WrongArgument` for anything else, when it comes."""
        if isinstance(events, EventBatch):
            return iter((events,))
        return each("events", events, EventBatch, "an `EventBatch` or several", hint=_READ)

    def __len__(self) -> int:
        return len(self.array)

    def __repr__(self) -> str:
        names = ", ".join(one.symbol for one in self.instruments)
        return f"EventBatch({len(self)} events of {names}, source={self.source.name!r})"

    @property
    def rows(self) -> int:
        """Book and trade events: quotes and status events do not count. The unit of every ns/row."""
        counts = np.bincount(self.array["kind"], minlength=256)
        return int(counts[_ROW_KINDS].sum())

    @property
    def messages(self) -> int:
        """Messages, quotes and status among them."""
        return len(self.message_ends)

    @property
    def message_ends(self) -> npt.NDArray[np.int64]:
        """For every message the index just behind its last event, ascending."""
        return np.flatnonzero(self.array["flags"] & EventFlag.LAST) + 1

    @property
    def has_snapshot(self) -> bool:
        """Whether a book can start here: a recovery snapshot, or a clear of everything."""
        kind, flags = self.array["kind"], self.array["flags"]
        restarts = (flags & EventFlag.RECOVERY != 0) | ((kind == Kind.CLEAR) & (flags & EventFlag.BOUND == 0))
        return bool(restarts.any())

    @property
    def instrument(self) -> Instrument:
        """The instrument of a stream that has one; raises `SettingError` where there are several."""
        if len(self.instruments) != 1:
            names = ", ".join(one.symbol for one in self.instruments)
            raise SettingError(
                f"this batch holds {len(self.instruments)} instruments", hint=f"they are: {names}"
            )
        return self.instruments[0]

    def part(self, start: int, stop: int) -> EventBatch:
        """Messages `start` to `stop` (not included) as a batch of their own; a view, no copy.

        `dropped` stays with the first part of a stream: it is empty unless `start` is 0.
        """
        for name, place in (("start", start), ("stop", stop)):
            expect(name, place, (SupportsIndex, NoneType), "the number of a message")
        ends = self.message_ends
        start, stop, _ = slice(start, stop).indices(len(ends))
        first = int(ends[start - 1]) if start else 0
        return self._cut(first, max(first, int(ends[stop - 1]) if stop else 0))

    def _cut(self, first: int, behind: int) -> EventBatch:
        dropped = self.dropped if first == 0 else {}
        return replace(self, array=self.array[first:behind], dropped=dropped, checked=True)

    def chunks(self, events_max: int) -> Iterator[EventBatch]:
        """The batch in parts of at most `events_max` events, cut between messages.

        A message longer than that is a part of its own. Parts are views.
        """
        whole_number("events_max", events_max, "a number of events above 0", least=1)
        ends = self.message_ends
        first = 0
        while first < len(self.array):
            fits = int(np.searchsorted(ends, first + events_max, side="right"))
            at_least = int(np.searchsorted(ends, first, side="right"))
            behind = int(ends[max(fits - 1, at_least)])
            yield self._cut(first, behind)
            first = behind
        if not len(self.array):
            yield self
