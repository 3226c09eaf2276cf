"""From blocks of events to batches of the size asked for, and what passes over events show.

What readers share whose normalisers hand over blocks of whole messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from featureplane.errors import EmptyStream, InputError
from featureplane.market.decimals import decimal_text
from featureplane.market.events import EVENT_DTYPE, EventBatch, EventFlag, Kind
from featureplane.market.instruments import Instrument

__all__ = ["Counts", "Grid", "batches"]

Array = npt.NDArray[Any]

_VPIN_BUCKETS = 50


class Counts:
    """What readers left out, by reason; each batch tells what came since the batch before."""

    def __init__(self) -> None:
        self._ended: Counter[str] = Counter()
        self._now: Callable[[], Iterable[tuple[str, int]]] = tuple
        self._told: Counter[str] = Counter()

    def follow(self, reader: Callable[[], Iterable[tuple[str, int]]]) -> None:
        """Count what `reader` tells from now on, on top of what those before it told."""
        self._ended.update(dict(self._now()))
        self._now = reader

    def total(self) -> dict[str, int]:
        """Every reason so far, with its count above 0."""
        return dict(+(self._ended + Counter(dict(self._now()))))

    def take(self) -> dict[str, int]:
        """What was counted since the last call."""
        total = Counter(self.total())
        since = total - self._told
        self._told = total
        return dict(since)


def batches(
    blocks: Iterable[Array], template: EventBatch, events_max: int | None, counts: Counts
) -> Iterator[EventBatch]:
    """`blocks` of whole messages as batches like `template`.

    With `events_max` None one batch, else each is cut at the first message end at or behind that many
    events, and what stands before an error is handed over before it is raised (rule 10.1).
    """
    held: list[Array] = []
    number = 0
    try:
        for block in blocks:
            held.append(block)
            number += len(block)
            if events_max is not None and number >= events_max:
                *full, rest = _cut(_joined(held), events_max)
                for part in full:
                    yield replace(template, array=part, dropped=counts.take())
                held, number = [rest], len(rest)
    except InputError:
        if events_max is not None and number:
            yield replace(template, array=_joined(held), dropped=counts.take())
        raise
    yield replace(template, array=_joined(held), dropped=counts.take())


def _joined(blocks: list[Array]) -> Array:
    full = [block for block in blocks if len(block)]
    if len(full) == 1:
        return full[0]
    return np.concatenate(full) if full else np.zeros(0, EVENT_DTYPE)


def _cut(events: Array, events_max: int) -> Iterator[Array]:
    """Parts that end at the first message end at or behind `events_max` events; the rest last."""
    ends = np.flatnonzero(events["flags"] & EventFlag.LAST) + 1
    first = 0
    while len(events) - first >= events_max:
        behind = int(ends[np.searchsorted(ends, first + events_max)])
        yield events[first:behind]
        first = behind
    yield events[first:]


class Grid:
    """Tick, lot and volume, as a pass over events shows them."""

    def __init__(self) -> None:
        self._tick = self._lot = self._volume = self._events = 0

    def feed(self, events: Array) -> None:
        """Learn from some events: prices of levels, sizes of levels and trades."""
        kind = events["kind"]
        self._events += len(events)
        level = np.isin(kind, (Kind.LEVEL, Kind.SNAPSHOT_LEVEL))
        trade = kind == Kind.TRADE
        self._tick = int(np.gcd.reduce(events["price"][level], initial=self._tick))
        self._lot = int(np.gcd.reduce(events["qty"][level | trade], initial=self._lot))
        market = trade & (events["flags"] & EventFlag.NOT_MARKET == 0)
        self._volume += int(events["qty"][market].sum())

    def instrument(self, draft: Instrument) -> Instrument:
        """`draft` with what was learned; a VPIN bucket is a fiftieth of the volume, at least a lot.

        Raises `EmptyStream` where there was no event to learn from.
        """
        if not self._events:
            hint = "is this the right file, and the right source?"
            raise EmptyStream(f"events of {draft.symbol}", hint=hint)
        bucket = max(self._lot, self._volume // _VPIN_BUCKETS)
        price, qty = draft.price_exponent, draft.qty_exponent
        return replace(
            draft,
            tick_size=decimal_text(self._tick, price) if self._tick else None,
            lot_size=decimal_text(self._lot, qty) if self._lot else None,
            vpin_bucket=decimal_text(bucket, qty) if bucket else None,
            inferred=True,
        )
