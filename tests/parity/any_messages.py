"""Messages no market would send in such company: every kind, in every order, with every fault.

A seed gives a stream, an instrument and options. Times jump, ids repeat, overlap and are missing,
snapshots come alone, late and in halves, trades stand among levels, statuses among both.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from featureplane.market.events import (
    EVENT_DTYPE,
    EventBatch,
    EventFlag,
    Kind,
    Side,
    SourceInfo,
    StreamOptions,
)
from featureplane.market.instruments import Instrument
from featureplane.market.sessions import Session
from featureplane.units import MAGNITUDE_LIMIT, NANOS_PER_MS

START_NS: Final = 1_700_000_000_000 * NANOS_PER_MS
LAST, RECOVERY, BOUND = int(EventFlag.LAST), int(EventFlag.RECOVERY), int(EventFlag.BOUND)
HIDDEN, NOT_MARKET = int(EventFlag.HIDDEN), int(EventFlag.NOT_MARKET)
HOUR: Final = 3600

SESSIONS: Final = (
    Session("trading", 22 * HOUR, 22 * HOUR + 900),
    Session("pre_open", 22 * HOUR + 900, 22 * HOUR + 960),
    Session("trading", 22 * HOUR + 960, 5 * HOUR),
    Session("trading", 16 * HOUR, 17 * HOUR + 1000),
    Session("halted", 17 * HOUR + 1000, 17 * HOUR + 1200),
    Session("trading", 17 * HOUR + 1200, 20 * HOUR),
)


class Change(NamedTuple):
    """One event without its head."""

    kind: int
    side: int
    flags: int
    price: int
    qty: int
    order_id: int = 0


class Stream:
    """Messages of a few symbols, one at a time."""

    def __init__(self, rng: random.Random, symbols: int, *, spoils: bool) -> None:
        self.rng = rng
        self.spoils = spoils
        self.rows: list[tuple[int, ...]] = []
        self.starts: list[int] = []
        self.ids = {symbol: {"book": 100, "trade": 50, "status": 5} for symbol in range(1, symbols + 1)}
        self.source_ns = dict.fromkeys(self.ids, START_NS)
        self.local_ns = START_NS
        self.makers: dict[str, Callable[[], list[Change]]] = {
            "levels": lambda: self._some(self._level),
            "trades": lambda: self._some(self._trade),
            "mixed": lambda: self._some(self._level, self._trade),
            "orders": lambda: self._some(self._order),
            "snapshot": self._snapshot,
            "plain snapshot": lambda: [
                self._level()._replace(kind=int(Kind.SNAPSHOT_LEVEL)) for _ in range(6)
            ],
            "clear": lambda: [self._clear(), *self._some(self._level)],
            "status": lambda: self._some(self._status),
            "status in a book message": lambda: [self._level(), self._status(), *self._some(self._trade)],
            "quote": lambda: [Change(Kind.QUOTE, side, 0, 100, 1) for side in (Side.BID, Side.ASK)],
        }
        self.weights = (40, 25, 8, 10, 4, 3, 2, 1, 1, 3)

    # -- changes

    def _some(self, *makers: Callable[[], Change]) -> list[Change]:
        return [self.rng.choice(makers)() for _ in range(self.rng.randint(1, 4))]

    def _qty(self) -> int:
        return MAGNITUDE_LIMIT - 1 if self.rng.random() < 0.01 else self.rng.choice((0, 0, 1, 2, 3, 9, 9))

    def _price(self, side: int) -> int:
        price = self.rng.randint(95, 100) if side == Side.BID else self.rng.randint(101, 106)
        return 201 - price if self.rng.random() < 0.015 else price

    def _level(self) -> Change:
        side = self.rng.choice((Side.BID, Side.ASK))
        return Change(Kind.LEVEL, side, 0, self._price(side), self._qty())

    def _trade(self) -> Change:
        flags = self.rng.choice((0, 0, 0, 0, HIDDEN, NOT_MARKET))
        return Change(Kind.TRADE, self.rng.randint(0, 2), flags, self.rng.randint(95, 106), self._qty())

    def _order(self) -> Change:
        kind = self.rng.choice((Kind.ADD, Kind.ADD, Kind.ADD, Kind.CANCEL, Kind.MODIFY, Kind.EXECUTE))
        side = self.rng.choice((Side.BID, Side.ASK))
        return Change(kind, side, 0, self._price(side), self._qty(), self.rng.randint(1, 12))

    def _clear(self) -> Change:
        return Change(
            Kind.CLEAR,
            self.rng.choice((0, 0, 1, 2)),
            self.rng.choice((0, BOUND)),
            self.rng.randint(95, 106),
            0,
        )

    def _status(self) -> Change:
        return Change(Kind.STATUS, 0, 0, 0, self.rng.choice((0, 1, 2, 3, 3, 3)))

    def _snapshot(self) -> list[Change]:
        if self.rng.random() < 0.2:
            full = [Change(Kind.CLEAR, 0, 0, 0, 0)]
            full += [
                Change(Kind.ADD, side, 0, self._price(side), 3, 20 + side) for side in (Side.BID, Side.ASK)
            ]
        else:
            full = [self._level()._replace(kind=int(Kind.SNAPSHOT_LEVEL)) for _ in range(8)]
            if self.rng.random() < 0.3:
                full.insert(0, self._clear())
            if self.rng.random() < 0.2:
                full.append(self._trade())
        return [change._replace(flags=change.flags | RECOVERY) for change in full]

    # -- heads

    def _times(self, symbol: int) -> tuple[int, int]:
        rng = self.rng
        ahead = rng.choice((0, 0, 1, 1, 1, 5, 100, 400, rng.choice((0, 0, 3_000, 70_000, 40_000_000))))
        self.source_ns[symbol] += (-ahead if rng.random() < 0.01 else ahead) * NANOS_PER_MS
        self.local_ns += rng.choice((0, 1, 1, 2)) * NANOS_PER_MS
        if rng.random() < 0.01:
            self.local_ns += rng.choice((2_000, 90_000, -90_000)) * NANOS_PER_MS
        if rng.random() < 0.02:
            self.local_ns = max(self.local_ns, self.source_ns[symbol])
        stray = rng.choice((70_000, -5_000)) * NANOS_PER_MS if rng.random() < 0.02 else 0
        return self.source_ns[symbol] + stray, self.local_ns

    def _ids(self, symbol: int, channel: str, kind: str) -> tuple[int, int]:
        rng, known = self.rng, self.ids[symbol]
        now, wide = known[channel], self.rng.choice((1, 2, 5))
        if kind == "quote" or rng.random() < 0.04:
            return 0, 0
        if kind == "snapshot":
            last = now + rng.choice((0, 0, 0, 1, -2, -5, 3))
            known[channel] = max(now, last)
            return rng.choice((0, last - 1)), last
        prev, last = rng.choices(
            (
                (now, now + wide),
                (now + rng.randint(1, 3), now + rng.randint(4, 6)),  # a gap
                (now - rng.randint(1, 3), now + wide),  # an overlap
                (now - rng.randint(4, 6), now - rng.randint(0, 3)),  # known already
            ),
            (90, 3, 3, 4),
        )[0]
        if rng.random() < 0.97:
            known[channel] = max(now, last)
        return max(prev, 0), last

    # -- messages

    def step(self) -> None:
        rng = self.rng
        if self.starts and rng.random() < 0.03:
            self._repeat()
            return
        symbol = rng.choice(list(self.ids))
        kind = rng.choices(list(self.makers), self.weights)[0]
        changes = self.makers[kind]()
        channel = {"trades": "trade", "status": "status"}.get(kind, "book")
        prev, last = self._ids(symbol, channel, kind)
        source_ns, local_ns = self._times(symbol)
        if kind == "snapshot" and rng.random() < 0.2:
            source_ns = 0
        rows: list[tuple[int, ...]] = [
            (c.kind, c.side, c.flags, symbol, c.price, c.qty, c.order_id, last, prev, source_ns, local_ns)
            for c in changes
        ]
        rows[-1] = _with(rows[-1], 2, rows[-1][2] | LAST)
        if self.spoils and rng.random() < 0.01:
            self._spoil(rows)
        self.starts.append(len(self.rows))
        self.rows += rows

    def _repeat(self) -> None:
        i = self.rng.randrange(max(0, len(self.starts) - 12), len(self.starts))
        end = self.starts[i + 1] if i + 1 < len(self.starts) else len(self.rows)
        again = self.rows[self.starts[i] : end]
        self.starts.append(len(self.rows))
        self.rows += again

    def _spoil(self, rows: list[tuple[int, ...]]) -> None:
        i = self.rng.randrange(len(rows))
        wrong = {0: 77, 1: 3, 2: 0x101, 4: MAGNITUDE_LIMIT, 5: -1, 9: -1, 10: 1 << 62}
        field = self.rng.choice((*wrong, -1))
        if field < 0:
            rows[-1] = _with(rows[-1], 2, rows[-1][2] & ~LAST)  # cut
        else:
            rows[i] = _with(rows[i], field, wrong[field])


def _with(row: tuple[int, ...], field: int, value: int) -> tuple[int, ...]:
    return (*row[:field], value, *row[field + 1 :])


def any_batch(seed: int, messages: int) -> EventBatch:
    """A stream, its instruments, source and options, all from one seed."""
    rng = random.Random(seed)
    symbols = rng.choice((1, 1, 2))
    stream = Stream(rng, symbols, spoils=rng.random() < 0.4)
    for _ in range(messages):
        stream.step()
    events = np.array(stream.rows, EVENT_DTYPE)
    if not stream.rows[-1][2] & LAST:
        events["flags"][-1] |= LAST
    about: dict[str, Any] = {}
    if rng.random() < 0.3:
        about |= {"time_zone": rng.choice(("UTC", "America/New_York")), "sessions": SESSIONS}
    for name, value in (
        ("book_levels", 2),
        ("clock", "synchronised"),
        ("locked", "valid"),
        ("vpin_bucket", "20"),
    ):
        if rng.random() < 0.25:
            about[name] = value
    instruments = tuple(
        Instrument(
            venue="any",
            symbol=f"S{i}",
            price_exponent=2,
            qty_exponent=0,
            symbol_id=i,
            tick_size="0.01",
            **about,
        )
        for i in stream.ids
    )
    source = SourceInfo("synthetic", True, rng.random() < 0.8, rng.random() < 0.85, rng.random() < 0.7)  # noqa: FBT003 - has ids
    seeded = rng.random() < 0.3
    options = StreamOptions(
        on_gap=rng.choice(
            ("wait", "wait", "continue", "refuse") if rng.random() < 0.3 else ("wait", "continue")
        ),
        on_malformed="drop",
        seed="increments" if seeded else "snapshot",
        seed_after=rng.choice((None, 5)) if seeded else None,
    )
    return EventBatch(events, instruments, source, options)
