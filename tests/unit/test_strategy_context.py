"""What a strategy can pull: by name, by handle, by view; what is not there is never a number."""

from __future__ import annotations

from typing import Any

import pytest

import featureplane as fp
from featureplane import native
from featureplane.errors import (
    FeatureSetMismatch,
    NotReady,
    SettingError,
    StateError,
    UnknownFeature,
    UnknownFeatureSet,
    UnknownSymbol,
)
from featureplane.features.latest import LatestFrames
from featureplane.market.events import EventBatch
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.runner import StrategyRunner
from featureplane.units import NANOS_PER_MS
from tests.parity.streams import synthetic

BACKENDS = ("python", "rust") if native.available() else ("python",)
EACH_BACKEND = pytest.mark.parametrize("backend", BACKENDS)
V1, V2 = fp.feature_set("lob_shared_v1"), fp.feature_set("lob_shared_v2")


class Reader(BaseStrategy):
    """Reads, and does nothing else."""

    required_features = "lob_shared_v1"


def reader(events: EventBatch, backend: str, messages: int | None = None) -> Reader:
    """A strategy behind so many messages."""
    strategy = Reader()
    engine = fp.FeatureEngine(V1, backend)
    runner = StrategyRunner([strategy], events.instruments, engine=engine, stream=events.options)
    if messages != 0:
        runner.run(events if messages is None else events.part(0, messages))
    return strategy


@EACH_BACKEND
def test_pulls_are_the_values_of_the_last_frame_of_each_symbol(backend: str) -> None:
    """Also while another symbol's message is at hand, and behind messages without a frame."""
    events = synthetic(1_500, seed=5, symbols=2)
    last: dict[str, fp.FeatureFrame] = {}
    compared = not_ready = 0

    class Puller(Reader):
        def on_features(self, frame: fp.FeatureFrame) -> None:
            nonlocal compared, not_ready
            last[frame.symbol] = frame.copy()
            for symbol, known in last.items():
                assert self.ctx.get_feature_view(symbol) == known
                for feature_id in known.feature_ids:
                    handle = self.ctx.handle(feature_id, symbol)
                    value = known[feature_id]
                    assert self.ctx.get_feature(symbol, feature_id, default=None) == value
                    assert handle.is_ready is (value is not None)
                    if value is None:
                        not_ready += 1
                        for read in (handle, lambda h=handle: h.value):
                            with pytest.raises(NotReady, match=f"frame {known.seq}"):
                                read()
                    else:
                        compared += 1
                        pulled = self.ctx.get_feature(symbol, feature_id)
                        assert (pulled, type(pulled)) == (value, type(value))
                        assert handle() == handle.value == value

    runner = StrategyRunner(
        [Puller()], events.instruments, engine=fp.FeatureEngine(V1, backend), stream=events.options
    )
    runner.run(events.part(0, 300))
    assert {state.error for state in runner.states.values()} == {None}
    assert len(last) == 2
    assert compared > 1_000
    assert not_ready > 10


@EACH_BACKEND
def test_errors_name_what_is_wrong_and_a_default_hides_no_typing_error(backend: str) -> None:
    strategy = reader(synthetic(200, seed=1), backend)
    ctx = strategy.ctx
    symbol = ctx.symbols[0]
    for options in ({}, {"default": 0}):
        with pytest.raises(UnknownFeature) as unknown:
            ctx.get_feature(symbol, "ofi_l1_rav", **options)
        assert str(unknown.value.hint).startswith("did you mean ofi_l1_raw?")
        with pytest.raises(UnknownSymbol):
            ctx.get_feature("NONE", "ofi_l1_raw", **options)
        with pytest.raises((UnknownFeature, TypeError)):
            ctx.get_feature(symbol, ["ofi"], **options)
    with pytest.raises(TypeError):
        ctx.get_feature(symbol, "ofi_l1_raw", fallback=0)
    with pytest.raises(TypeError):
        ctx.get_feature(symbol, "ofi_l1_raw", 0)
    for call in (
        lambda: ctx.handle("ofi_l1_raw", "NONE"),
        lambda: ctx.get_feature_view("NONE"),
        lambda: ctx.get_feature_set_id("NONE"),
        lambda: ctx.is_feature_stale("NONE", 1),
        lambda: ctx.position("NONE"),
    ):
        with pytest.raises(UnknownSymbol):
            call()
    with pytest.raises(UnknownFeature):
        ctx.handle("nothing")
    assert ctx.get_feature_set_id() == ctx.get_feature_set_id(symbol) == "lob_shared_v1"
    assert ctx.get_feature(symbol, "ofi_l1_raw_"[:-1]) == ctx.handle("ofi_l1_raw")()


@EACH_BACKEND
def test_before_the_first_frame_nothing_is_ready(backend: str) -> None:
    strategy = reader(synthetic(50, seed=1), backend, messages=0)
    ctx, symbol = strategy.ctx, strategy.ctx.symbols[0]
    handle = ctx.handle("mid_price_x2")
    for read in (
        handle,
        lambda: ctx.get_feature(symbol, "mid_price_x2"),
        lambda: ctx.get_feature_view(symbol),
    ):
        with pytest.raises(NotReady, match="no frame yet"):
            read()
    assert ctx.get_feature(symbol, "mid_price_x2", default=None) is None
    assert ctx.is_feature_stale(symbol, 1 << 62)


@EACH_BACKEND
def test_a_frame_is_stale_when_it_is_older_than_asked(backend: str) -> None:
    ages: list[tuple[int, bool, bool]] = []

    class Aging(Reader):
        def on_tick(self, event: Any) -> None:
            try:
                age = self.ctx.now_ns - self.ctx.get_feature_view(event.symbol).local_ts_ns
            except NotReady:
                return
            stale = self.ctx.is_feature_stale
            ages.append((age, stale(event.symbol, age), stale(event.symbol, age - 1)))

    events = fp.sample_events().part(0, 3_000)
    runner = StrategyRunner([Aging()], events.instruments, engine=fp.FeatureEngine(V1, backend))
    runner.run(events)
    assert max(age for age, _, _ in ages) > 10 * NANOS_PER_MS
    assert all(later for _, _, later in ages)
    assert not any(now for _, now, _ in ages)


def test_several_symbols_need_a_name() -> None:
    strategy = reader(synthetic(20, seed=1, symbols=2), "python", messages=0)
    with pytest.raises(SettingError):
        strategy.ctx.handle("ofi_l1_raw")


def test_without_an_engine_there_are_no_features() -> None:
    events = synthetic(20, seed=1)
    plain = BaseStrategy()
    StrategyRunner([plain], events.instruments).run(events)
    symbol = plain.ctx.symbols[0]
    with pytest.raises(NotReady):
        plain.ctx.get_feature(symbol, "ofi_l1_raw")
    for call in (lambda: plain.ctx.handle("ofi_l1_raw"), lambda: plain.ctx.get_feature_view(symbol)):
        with pytest.raises(StateError):
            call()
    with pytest.raises(StateError, match="no feature engine"):
        StrategyRunner([Reader()], events.instruments)


def test_other_features_are_refused_at_the_start() -> None:
    events = synthetic(20, seed=1)

    class ByPrint(BaseStrategy):
        required_features = V1.fingerprint

    class Unknown(BaseStrategy):
        required_features = "lob_shared_v9"

    class Silent(BaseStrategy):
        def on_features(self, _frame: fp.FeatureFrame) -> None:
            raise AssertionError

    for strategy in (Reader(), ByPrint()):
        with pytest.raises(FeatureSetMismatch) as wrong:
            StrategyRunner([strategy], events.instruments, engine=fp.FeatureEngine(V2))
        assert wrong.value.first is not None
        said = f"{strategy.name} requires the features {strategy.required_features}, not lob_shared_v2: "
        assert str(wrong.value).startswith(said)
        StrategyRunner([strategy], events.instruments, engine=fp.FeatureEngine(V1))
    with pytest.raises(UnknownFeatureSet):
        StrategyRunner([Unknown()], events.instruments, engine=fp.FeatureEngine(V1))
    with pytest.raises(SettingError, match="required_features"):
        StrategyRunner([Silent()], events.instruments, engine=fp.FeatureEngine(V1))


@EACH_BACKEND
def test_a_changed_set_stops_who_needs_the_other_at_its_first_frame(backend: str) -> None:
    events = fp.sample_events().part(0, 800)
    half = events.message_ends.tolist()

    class Counts(Reader):
        frames = 0

        def on_features(self, frame: fp.FeatureFrame) -> None:
            assert frame.feature_set_id == "lob_shared_v1"
            self.frames += 1

    class Any_(BaseStrategy):  # noqa: N801 - beside `Any`
        ticks = 0

        def on_tick(self, _event: Any) -> None:
            self.ticks += 1

    counts, other = Counts(), Any_()
    runner = StrategyRunner([counts, other], events.instruments, engine=fp.FeatureEngine(V1, backend))
    start = 0
    for stop in half[:400]:
        runner.step(events, start, stop)
        start = stop
    handle = counts.ctx.handle("mid_price_x2")
    ready = [handle.is_ready]
    seen, ticks = counts.frames, other.ticks
    runner.use_engine(fp.FeatureEngine(V2, backend))
    ready.append(handle.is_ready)
    runner.run(events)
    assert counts.frames == seen > 10
    state = runner.states["Counts"]
    assert isinstance(state.error, FeatureSetMismatch)
    assert not state.is_running
    ready.append(handle.is_ready)
    assert ready == [True, False, False], "a value of a set that is gone"
    assert other.ticks > ticks
    assert runner.states["Any_"].is_running


@EACH_BACKEND
def test_the_same_set_again_goes_on_with_its_handles(backend: str) -> None:
    events = fp.sample_events().part(0, 400)
    strategy = Reader()
    runner = StrategyRunner([strategy], events.instruments, engine=fp.FeatureEngine(V1, backend))
    runner.run(events)
    handle = strategy.ctx.handle("mid_price_x2")
    value = handle()
    runner.use_engine(fp.FeatureEngine(V1, backend))
    with pytest.raises(NotReady):
        handle()
    runner.run(events)
    assert handle() == value


@EACH_BACKEND
def test_an_engine_forgets_what_a_stream_had_when_it_ends(backend: str) -> None:
    events = synthetic(300, seed=1)
    engine = fp.FeatureEngine(V1, backend)
    latest = LatestFrames(V1, events.instruments, backend)
    engine.follow(latest)
    engine.push(events)
    symbol = events.instruments[0].symbol
    assert latest.get_feature(symbol, "mid_price_x2") > 0
    engine.finish()
    first = events.message_ends.tolist()[0]
    engine.push(events, 0, first)
    with pytest.raises(NotReady):
        latest.get_feature(symbol, "mid_price_x2")
    with pytest.raises(FeatureSetMismatch):
        engine.follow(LatestFrames(V2, events.instruments, backend))
