"""What a recording holds, before anything is computed from it: counts, holes, repeats, clocks.

Batches go in one after the other; memory stays bounded by one batch. Sequences are judged by
symbol and channel without a book, so a snapshot heals nothing here.

Leans on `market.events`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featureplane.errors import EmptyStream
from featureplane.market.events import EventBatch, EventFlag, Kind
from featureplane.market.instruments import Instrument

__all__ = ["ChannelFacts", "Clock", "Inspection", "SymbolFacts", "inspect_events"]

_ALONE: Final = {Kind.TRADE: "trade", Kind.QUOTE: "quote", Kind.STATUS: "status"}
_HOLES_KEPT: Final = 4096


@dataclass(slots=True)
class ChannelFacts:
    """The messages of one channel of one symbol (rules 2.4, 3.2).

    `gaps`: ids were skipped before so many messages; `first_gap` are the first ids missing, as
    (after, before]. `late`: messages that fill a hole behind one that skipped it. `duplicates`:
    messages whose ids had all come. `overlaps`: messages of which some had.
    """

    messages: int = 0
    snapshots: int = 0
    with_ids: int = 0
    gaps: int = 0
    first_gap: tuple[int, int] | None = None
    late: int = 0
    duplicates: int = 0
    overlaps: int = 0
    newest: int = -1
    holes: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Clock:
    """How one clock went, message by message: times in ns, `back` counts steps back."""

    first: int | None = None
    last: int | None = None
    back: int = 0
    back_most_ns: int = 0
    silence_most_ns: int = 0
    newest: int = 0

    def add(self, times: NDArray[np.int64]) -> None:
        """Take the times of further messages, in order of arrival."""
        if not len(times):
            return
        steps = np.diff(times, prepend=times[0] if self.first is None else self.newest)
        self.first = int(times.min()) if self.first is None else min(self.first, int(times.min()))
        self.last = int(times.max()) if self.last is None else max(self.last, int(times.max()))
        self.back += int(np.count_nonzero(steps < 0))
        self.back_most_ns = max(self.back_most_ns, -int(steps.min()))
        self.silence_most_ns = max(self.silence_most_ns, int(steps.max()))
        self.newest = int(times[-1])


@dataclass(slots=True)
class SymbolFacts:
    """All of one symbol. `events` are counted by kind, `trade_flags` by name."""

    instrument: Instrument
    events: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    channels: dict[str, ChannelFacts] = field(default_factory=dict)
    source_clock: Clock = field(default_factory=Clock)
    local_clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the stream holds. `dropped` is by reason, as the reader counted it."""

    source: str
    local_time: bool
    sequenced: bool
    symbols: Mapping[int, SymbolFacts]
    dropped: Mapping[str, int]
    rows: int


def inspect_events(batches: Iterable[EventBatch]) -> Inspection:
    """Look at a stream, batch by batch, to its end."""
    symbols: dict[int, SymbolFacts] = {}
    dropped: Counter[str] = Counter()
    batch, rows = None, 0
    for batch in batches:
        dropped.update(batch.dropped)
        rows += batch.rows
        for instrument in batch.instruments:
            facts = symbols.setdefault(instrument.symbol_id, SymbolFacts(instrument))
            _add(facts, batch.array[batch.array["symbol_id"] == instrument.symbol_id])
    if batch is None:
        raise EmptyStream("the stream", hint="are these the right files for the source?")
    return Inspection(
        batch.source.name, batch.source.local_time, batch.source.sequenced, symbols, dict(dropped), rows
    )


def _add(facts: SymbolFacts, events: NDArray[Any]) -> None:
    """Take further events of one symbol: whole messages."""
    if not len(events):
        return
    kinds, counts = np.unique(events["kind"], return_counts=True)
    facts.events.update({Kind(kind).name.lower(): int(n) for kind, n in zip(kinds, counts, strict=True)})
    for flag in EventFlag:
        if flag is not EventFlag.LAST and (count := int(np.count_nonzero(events["flags"] & flag))):
            facts.flags[str(flag.name)] += count
    starts = np.flatnonzero(np.concatenate(([True], events["flags"][:-1] & EventFlag.LAST != 0)))
    heads = events[starts]
    lowest, highest = (f.reduceat(events["kind"], starts) for f in (np.minimum, np.maximum))
    flags = np.bitwise_or.reduceat(events["flags"], starts)
    snapshot = (highest == Kind.SNAPSHOT_LEVEL) | (flags & EventFlag.RECOVERY != 0)
    facts.local_clock.add(heads["local_ts_ns"])
    # WHY: a best quote of Binance spot has no time of its own, a snapshot may carry none.
    timed = ~snapshot & ~((lowest == Kind.QUOTE) & (highest == Kind.QUOTE)) & (heads["source_ts_ns"] > 0)
    facts.source_clock.add(heads["source_ts_ns"][timed])
    alone = lowest == highest
    taken = np.zeros(len(starts), dtype=bool)
    for kind, name in _ALONE.items():
        mine = alone & (lowest == kind)
        taken |= mine
        _follow(facts.channels, name, heads[mine], snapshot[mine])
    _follow(facts.channels, "book", heads[~taken], snapshot[~taken])


def _follow(
    channels: dict[str, ChannelFacts], name: str, heads: NDArray[Any], snapshot: NDArray[Any]
) -> None:
    """Follow the ids of one channel through its message heads."""
    if not len(heads):
        return
    facts = channels.setdefault(name, ChannelFacts())
    facts.messages += len(heads)
    facts.snapshots += int(np.count_nonzero(snapshot))
    if name == "quote":  # a quote's id is the book's: nothing to follow
        return
    chain = heads[~snapshot & (heads["seq_last"] != 0)]
    facts.with_ids += len(chain)
    if not len(chain):
        return
    last, prev = chain["seq_last"].astype(np.int64), chain["seq_prev"].astype(np.int64)
    first = facts.newest if facts.newest >= 0 else prev[0]
    newest = np.maximum.accumulate(np.concatenate(([first], last)))
    before = newest[:-1]
    gap = prev > before
    facts.gaps += int(np.count_nonzero(gap))
    holes = [(int(b), int(p)) for b, p in zip(before[gap], prev[gap], strict=True)]
    if holes and facts.first_gap is None:
        facts.first_gap = holes[0]
    facts.holes = (facts.holes + holes)[-_HOLES_KEPT:]
    facts.overlaps += int(np.count_nonzero((prev < before) & (last > before)))
    old = last <= before
    late = sum(
        any(p < high and n > low for low, high in facts.holes)
        for p, n in zip(prev[old].tolist(), last[old].tolist(), strict=True)
    )
    facts.late += late
    facts.duplicates += int(np.count_nonzero(old)) - late
    facts.newest = int(newest[-1])
