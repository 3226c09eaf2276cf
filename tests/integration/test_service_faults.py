"""A million events through the service with accidents from seeds; ten million in `make soak`.

Deterministic, flags and values as the reference has them, and no strategy that sees as ready what is not.
Whatever fails names its seed: `play(seed, events)` plays it again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import featureplane as fp
from featureplane.errors import NotReady
from featureplane.services.marketdata import MarketDataService
from featureplane.services.raw_queue import Item, RawQueue
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.desk import Decision
from featureplane.strategy.events import BidAskEvent, GapEvent, TickEvent
from featureplane.strategy.examples.market_maker import SharedMarketMaker
from tests.binance_render import SOURCE, Way, instruments, rendered
from tests.orders import WIDE
from tests.services import V1, Frames, service
from tests.soak import compared, share

SYMBOLS = 2
SLICE = 6_000
"""Items that the reference takes too."""


class Watchful(BaseStrategy):
    """Compares, at every call, what is said to be ready with what there is."""

    required_features = "lob_shared_v1"

    def on_start(self) -> None:
        self.ids = V1.feature_ids
        self.doors = {
            symbol: [self.ctx.handle(feature_id, symbol) for feature_id in self.ids]
            for symbol in self.ctx.symbols
        }
        self.last: dict[str, tuple[object, ...]] = dict.fromkeys(self.ctx.symbols, (None,) * len(self.ids))
        self.seen: Counter[str] = Counter()

    def _pulled(self, symbol: str) -> tuple[object, ...]:
        """What can be read now, by handle; what has none raises."""
        out: list[object] = []
        for door in self.doors[symbol]:
            if door.is_ready:
                out.append(door.value)
                continue
            out.append(None)
            with pytest.raises(NotReady):
                _ = door.value
            assert self.ctx.get_feature(symbol, door.feature_id, default=None) is None
        return tuple(out)

    def on_gap(self, event: GapEvent) -> None:
        self.seen["gaps"] += 1
        if not event.is_whole:
            assert self._pulled(event.symbol) == (None,) * len(self.ids), "ready without a book"
            self.last[event.symbol] = (None,) * len(self.ids)

    def on_tick(self, event: TickEvent) -> None:
        self.seen["ticks"] += 1
        # WHY two: the frame of this very message can be read already, and is told later.
        if self.seen["ticks"] % 16 == 0 and self.last[event.symbol] != self._pulled(event.symbol):
            self.seen["newer"] += 1

    def on_bid_ask(self, event: BidAskEvent) -> None:
        self.seen["books"] += 1
        for feature_id, side in (("best_bid", event.bids), ("best_ask", event.asks)):
            value = self.ctx.get_feature(event.symbol, feature_id, default=None)
            assert value == (side[0, 0] if len(side) else None), "of another book"
            self.seen["of this book"] += value is not None

    def on_features(self, frame: fp.FeatureFrame) -> None:
        self.seen["frames"] += 1
        values, ready = frame.values, frame.ready
        assert [value is not None for value in values] == [bool(ready >> i & 1) for i in range(len(values))]
        if self.seen["frames"] % 8 == 0 or not ready:
            assert self._pulled(frame.symbol) == values, "what is pulled is not what was pushed"
            self.seen["pulled"] += 1
        if frame.has_gap and not ready:
            self.seen["gap frames"] += 1
        self.last[frame.symbol] = values


class Feed:
    """Items that the loop reads."""

    waits = True

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = items

    def items(self) -> Iterator[Item]:
        yield from self._items

    def run(self, _queue: RawQueue) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        pass


class Run:
    """What one pass over a stream showed."""

    def __init__(self, items: Iterable[Item], *, backend: str = "auto") -> None:
        self.watchful, self.frames = Watchful(), Frames()
        self.decisions: list[Decision] = []
        self.service: MarketDataService = service(
            self.watchful,
            SharedMarketMaker(),
            instruments=instruments(SYMBOLS),
            source=SOURCE,
            limits=WIDE,
            backend=backend,
            subscribers=[self.frames],
        )
        self.service.runner._exchange.told = self._decided
        self.service.run(Feed(items))

    def _decided(self, decision: Decision) -> None:
        self.decisions.append(decision)

    @property
    def digest(self) -> str:
        """Of all frames, decisions and counts."""
        running = self.service
        counts = {name: sorted(table.items()) for name, table in running.feed.counts.items()}
        said = repr((self.decisions, sorted(running.story.events.items()), sorted(counts.items())))
        return hashlib.sha256(b"".join(self.frames.packed) + said.encode()).hexdigest()


def stream(seed: int, events: int) -> tuple[list[Item], Way]:
    way = Way(seed, SYMBOLS)
    return list(way.items(rendered(events, seed, SYMBOLS))), way


def play(seed: int, events: int) -> None:
    """Everything that is asked of one seed."""
    items, way = stream(seed, events)
    first = Run(items)
    states = first.service.runner.states
    errors = {name: repr(state.error) for name, state in states.items() if state.error is not None}
    assert not errors, f"seed {seed}, message {first.service.story.message}: {errors}"
    assert Run(items).digest == first.digest, f"seed {seed} is not the same twice"
    reference = Run(items[:SLICE], backend="python")
    native = Run(items[:SLICE])
    assert reference.frames.packed == native.frames.packed, f"seed {seed} differs from the reference"
    assert reference.digest == native.digest, f"seed {seed}: counts or decisions differ from the reference"
    assert first.frames.packed[: len(native.frames.packed) - SYMBOLS] == native.frames.packed[:-SYMBOLS]
    if events >= 100_000:
        _saw_enough(seed, first, way, reference)
    compared["events"] += events
    compared["frames"] += len(reference.frames.packed)


def _saw_enough(seed: int, run: Run, way: Way, reference: Run) -> None:
    """A test of accidents that had none proves nothing."""
    counts, seen = run.service.feed.counts, run.watchful.seen
    assert len(reference.frames.packed) > SLICE // 10, f"seed {seed}"
    assert run.service.frames > run.service.messages // 10, f"seed {seed}"
    assert all(way.did[what] for what in ("drop", "duplicate", "reorder", "corrupt", "reconnect")), way.did
    assert run.service.reconnects == way.did["reconnect"]
    found: dict[str, Any] = {
        "malformed": counts["dropped"]["malformed"],
        "duplicate": counts["dropped"]["duplicate"],
        "gap": counts["broken"]["gap"],
        "reconnect": counts["resets"]["reconnect"],
        "recovery": counts["resets"]["recovery"],
        "out of order": counts["flags"]["OUT_OF_ORDER_INPUT"],
        **{what: seen[what] for what in ("gaps", "gap frames", "ticks", "books", "of this book", "pulled")},
        "decisions": len(run.decisions),
    }
    assert all(found.values()), f"seed {seed}: {found}"


@pytest.mark.native
@pytest.mark.parametrize("seed", range(8))
def test_a_million_events_with_accidents(seed: int) -> None:
    play(seed, 125_000)


@pytest.mark.native
@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1_000, 1_040))
def test_ten_million_events_with_accidents(seed: int) -> None:
    play(seed, share(250_000))


def test_without_accidents_frames_are_those_of_a_replay(tmp_path: Any) -> None:
    """The renderer says what the events say."""
    lines = list(rendered(2_000, 5, SYMBOLS))
    path = tmp_path / "made-up.txt"
    path.write_bytes(b"\n".join(lines) + b"\n")
    run = Run((line, None, None) for line in lines)
    for one in instruments(SYMBOLS):
        events = fp.read_events(path, SOURCE, one.symbol, [one])
        frames = [frame.pack() for frame in fp.FeatureEngine(V1).replay(events)]
        own = [data for data in run.frames.packed if data[8:12] == one.symbol_id.to_bytes(4, "little")]
        assert own == frames
        assert len(frames) > 100
