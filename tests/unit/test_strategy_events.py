"""Events stand until their handler returns; who keeps one gets an error, or keeps what was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import featureplane as fp
from featureplane import native
from featureplane.errors import StateError
from featureplane.market.events import Side
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.events import BidAskEvent, GapEvent, LOBStatsEvent, MarketEvent, TickEvent
from featureplane.strategy.runner import StrategyRunner
from tests.parity.streams import synthetic

BACKENDS = ("python", "rust") if native.available() else ("python",)
EACH_BACKEND = pytest.mark.parametrize("backend", BACKENDS)
V1 = fp.feature_set("lob_shared_v1")


class Keeper(BaseStrategy):
    """Keeps every event, its copy and what it said."""

    required_features = "lob_shared_v1"

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[Any, Any, Any]] = []

    def _keep(self, event: MarketEvent) -> None:
        self.kept.append((event, event.copy(), event.as_tuple()))

    on_tick = on_bid_ask = on_lob_stats = on_gap = _keep

    def on_features(self, frame: fp.FeatureUpdateEvent) -> None:
        self.kept.append((frame, frame.copy(), frame.pack()))


def run(strategy: BaseStrategy, backend: str, messages: int = 3_000) -> None:
    events = synthetic(messages, seed=5)
    engine = fp.FeatureEngine(V1, backend)
    StrategyRunner([strategy], events.instruments, engine=engine, stream=events.options).run(events)


@EACH_BACKEND
def test_what_is_kept_raises_and_a_copy_stays(backend: str) -> None:
    keeper = Keeper()
    run(keeper, backend)
    kinds = {type(copy) for _, copy, _ in keeper.kept}
    assert kinds == {TickEvent, BidAskEvent, LOBStatsEvent, GapEvent, fp.FeatureFrame}
    for event, copy, said in keeper.kept:
        if isinstance(copy, fp.FeatureFrame):
            assert copy.pack() == said
            with pytest.raises(StateError):
                event["best_bid"]
        else:
            assert copy.as_tuple() == said
            with pytest.raises(StateError):
                event.as_tuple()
        for name in ("symbol", "copy", "layout", "price"):
            with pytest.raises(StateError):
                getattr(event, name)
        assert "ended" in repr(event)


@EACH_BACKEND
def test_what_is_kept_raises_in_the_very_next_call(backend: str) -> None:
    """Also when one alone is kept, and every time."""

    class One(BaseStrategy):
        required_features = "lob_shared_v1"

        def __init__(self) -> None:
            super().__init__()
            self.last: dict[str, Any] = {}
            self.raised: dict[str, int] = {}

        def _look(self, kind: str, event: Any) -> None:
            last = self.last.pop(kind, None)
            if last is None:
                self.last[kind] = event
                return
            try:
                last.symbol  # noqa: B018 - reading it is the question
            except StateError:
                self.raised[kind] = self.raised.get(kind, 0) + 1
            else:
                raise AssertionError(kind)

    for handler in ("on_tick", "on_bid_ask", "on_lob_stats", "on_gap", "on_features"):
        setattr(One, handler, lambda self, event, handler=handler: self._look(handler, event))
    one = One()
    events = synthetic(3_000, seed=5)
    engine = fp.FeatureEngine(V1, backend)
    run_ = StrategyRunner([one], events.instruments, engine=engine, stream=events.options)
    run_.run(events)
    assert run_.states["One"].error is None
    assert len(one.raised) == 5
    assert one.raised["on_features"] > 100


@EACH_BACKEND
def test_one_object_a_kind_as_long_as_nobody_keeps_it(backend: str) -> None:
    class Looker(BaseStrategy):
        required_features = "lob_shared_v1"
        ids: set[int] = set()  # noqa: RUF012 - of this test alone
        rooms: set[int] = set()  # noqa: RUF012 - as above

        def _look(self, event: Any) -> None:
            self.ids.add(id(event))
            if isinstance(event, BidAskEvent):
                self.rooms.add(id(event.bids.base))

        on_tick = on_bid_ask = on_lob_stats = _look

        def on_features(self, frame: fp.FeatureFrame) -> None:
            self.ids.add(id(frame))

    looker = Looker()
    run(looker, backend)
    assert len(looker.ids) == 4
    assert len(looker.rooms) == 1


@EACH_BACKEND
def test_arrays_that_are_kept_stay_as_they_were(backend: str) -> None:
    class Arrays(BaseStrategy):
        def __init__(self) -> None:
            super().__init__()
            self.kept: list[tuple[Any, Any]] = []

        def on_bid_ask(self, event: BidAskEvent) -> None:
            with pytest.raises(ValueError, match="read-only"):
                event.bids[...] = 0
            one = (event.bids, event.asks, event.bids[:, 0], event.asks[1:])[len(self.kept) % 4]
            self.kept.append((one, one.tolist()))

    arrays = Arrays()
    run(arrays, backend)
    assert len(arrays.kept) > 100
    assert all(one.tolist() == said for one, said in arrays.kept)
    assert len({str(said) for _, said in arrays.kept}) > 50


@EACH_BACKEND
def test_statistics_are_the_same_behind_arrays_that_are_kept(backend: str) -> None:
    class Both(BaseStrategy):
        def __init__(self, *, keeps: bool) -> None:
            super().__init__()
            self.keeps, self.kept = keeps, list[Any]()
            self.seen: list[tuple[Any, ...]] = []

        def on_bid_ask(self, event: BidAskEvent) -> None:
            if self.keeps:
                self.kept.append(event.bids)

        def on_lob_stats(self, event: LOBStatsEvent) -> None:
            self.seen.append(event.as_tuple())

    found = []
    for keeps in (False, True):
        both = Both(keeps=keeps)
        run(both, backend, 500)
        found.append(both.seen)
    assert len(both.kept) > 100
    assert found[0] == found[1]
    assert len(set(found[0])) > 100


def test_fields_are_those_of_the_contract() -> None:
    assert TickEvent.FIELDS == ("symbol", "ts", "local_ts", "price", "qty", "side")
    assert BidAskEvent.FIELDS == ("symbol", "ts", "local_ts", "seq", "bids", "asks")
    assert LOBStatsEvent.FIELDS[:4] == ("symbol", "ts", "local_ts", "seq")
    assert set(LOBStatsEvent.FIELDS[4:]) == {
        "best_bid",
        "best_ask",
        "bid_depth",
        "ask_depth",
        "mid_price_x2",
        "spread_scaled",
        "imbalance_ppm",
    }


@EACH_BACKEND
def test_ticks_are_the_market_trades_of_the_recording(backend: str) -> None:
    class Ticks(BaseStrategy):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[int, int, int, int]] = []

        def on_tick(self, event: TickEvent) -> None:
            assert isinstance(event.side, Side)
            self.seen.append((event.ts, event.price, event.qty, event.side))

    events = fp.sample_events().part(0, 3_000)
    ticks = Ticks()
    StrategyRunner([ticks], events.instruments, backend=backend).run(events)
    trades = events.array[events.array["kind"] == 2]
    wanted = trades[["source_ts_ns", "price", "qty", "side"]].tolist()
    assert [(a, b, c, int(d)) for a, b, c, d in ticks.seen] == wanted
    assert len(np.unique(trades["price"])) > 5
