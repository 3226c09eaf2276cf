"""The runner: order of calls, orders and their fates, one strategy's error is its own affair."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import featureplane as fp
from featureplane import native
from featureplane.errors import MalformedEvent, SettingError, StateError, UnknownSymbol
from featureplane.execution.limits import RiskLimits
from featureplane.execution.orders import EventKind, OrderEvent, OrderIntent, Side, TimeInForce
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.paper import PaperOptions, PaperVenue
from featureplane.market.events import EventBatch, StreamOptions
from featureplane.market.synthetic import Faults
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.desk import Decision
from featureplane.strategy.events import LOBStatsEvent, TickEvent
from featureplane.strategy.runner import Listener, StrategyRunner
from tests import streams
from tests.orders import WIDE
from tests.parity.streams import synthetic

V1 = fp.feature_set("lob_shared_v1")


class Story(Listener):
    """All that is told."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.events: list[tuple[str, OrderEvent]] = []
        self.stopped: list[str] = []

    def on_decision(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def on_order_event(self, strategy: str, event: OrderEvent) -> None:
        self.events.append((strategy, event))

    def on_stopped(self, state: Any) -> None:
        self.stopped.append(state.name)


def runner(
    events: EventBatch,
    *strategies: BaseStrategy,
    story: Story | None = None,
    limits: RiskLimits = WIDE,
    **how: Any,
) -> StrategyRunner:
    paper = {key: how.pop(key) for key in ("entry_ns", "response_ns", "fill") if key in how}
    venue = PaperVenue(events.instruments, PaperOptions(**paper), stream=events.options)
    return StrategyRunner(
        strategies,
        events.instruments,
        engine=fp.FeatureEngine(V1),
        venue=venue,
        risk=RiskCheck(events.instruments, limits),
        stream=events.options,
        listener=story,
        **how,
    )


class Quoter(BaseStrategy):
    """One order a side at the touch, moved when the touch moves; takes now and then; dies when told."""

    required_features = "lob_shared_v1"

    def __init__(self, name: str, seed: int, dies: float = 0) -> None:
        super().__init__(name)
        self.rng = random.Random(seed)
        self.dies = dies
        self.heard: list[tuple[str, int]] = []
        self.calls = 0

    def _maybe_die(self) -> None:
        self.calls += 1
        if self.rng.random() < self.dies:
            raise ZeroDivisionError(self.name)

    def on_lob_stats(self, event: LOBStatsEvent) -> None:
        self._maybe_die()
        if self.rng.random() < 0.7:
            return
        for number in list(self.ctx.working):
            self.ctx.cancel(number)
            assert not self.ctx.cancel(number), "asked twice"
        side = self.rng.choice((Side.BUY, Side.SELL))
        price = event.best_bid if side is Side.BUY else event.best_ask
        if self.rng.random() < 0.3:
            intent = OrderIntent(symbol=event.symbol, side=side, qty=1, tif=TimeInForce.IOC)
        else:
            intent = OrderIntent(symbol=event.symbol, side=side, qty=2, price=price)
        self.ctx.submit(intent)
        self._maybe_die()

    def on_features(self, _frame: fp.FeatureFrame) -> None:
        self._maybe_die()

    def on_tick(self, _event: Any) -> None:
        self._maybe_die()

    def on_fill(self, event: OrderEvent) -> None:
        self.heard.append((event.kind, event.qty))
        self._maybe_die()

    def on_order(self, event: OrderEvent) -> None:
        self.heard.append((event.kind, event.qty))


@pytest.mark.parametrize("seed", range(12))
def test_a_strategy_does_the_same_beside_others_that_die(seed: int) -> None:
    """Isolation: what dies, where and when changes nothing for who lives, and leaves no order behind."""
    events = synthetic(
        1_200, seed=seed + 5, options=StreamOptions(on_malformed="drop"), faults=Faults(corrupt=20_000)
    )
    alone, beside = Story(), Story()
    single = Quoter("lives", 1)
    first = runner(events, single, story=alone)
    first.run(events)
    first.finish()
    others = [Quoter(f"dies{i}", 100 * seed + i, dies=0.004 * (i + 1)) for i in range(3)]
    survivor = Quoter("lives", 1)
    together = [*others[:2], survivor, *others[2:]]
    second = runner(events, *together, story=beside, entry_ns=0)
    second.run(events)
    second.finish()
    mine = [d._replace(order_id=0) for d in beside.decisions if d.strategy == "lives"]
    assert mine == [d._replace(order_id=0) for d in alone.decisions]
    assert survivor.calls == single.calls
    assert len(mine) > 50
    assert beside.stopped
    for name in beside.stopped:
        state = second.states[name]
        assert isinstance(state.error, ZeroDivisionError)
        assert sum(state.exceptions.values()) == 1
        assert not state.desk.working
    assert second.states["lives"].error is None
    assert not second.states["lives"].desk.working


@pytest.mark.parametrize("entry_ns", [0, 3_000_000])
def test_positions_orders_and_account_agree(entry_ns: int) -> None:
    events = synthetic(1_500, seed=8)
    story, quoter = Story(), Quoter("q", 3)
    run = runner(events, quoter, story=story, entry_ns=entry_ns, response_ns=entry_ns // 3)
    run.run(events)
    run.finish()
    fills = [event for _, event in story.events if event.is_fill]
    symbol = events.instruments[0].symbol
    assert len(fills) > 20
    assert quoter.ctx.position(symbol) == sum(event.side.sign * event.qty for event in fills)
    assert [(e.kind, e.qty) for _, e in story.events if e.kind is not EventKind.CANCEL_REQUESTED][:100] == [
        heard for heard in quoter.heard if heard[0] is not EventKind.CANCEL_REQUESTED
    ][:100]
    sent = [d for d in story.decisions if d.action == "submit"]
    assert [d.order_id for d in sent] == sorted({d.order_id for d in sent})
    assert {e.trace_id for _, e in story.events} <= {f"m{d.message}" for d in sent}


def test_two_runs_are_the_same_run() -> None:
    events = synthetic(1_000, seed=4)
    stories = []
    for budget_ns in (None, 0):
        story = Story()
        run = runner(events, Quoter("a", 1), Quoter("b", 2, dies=0.01), story=story, budget_ns=budget_ns)
        run.run(events)
        run.finish()
        stories.append((story.decisions, story.events, story.stopped))
    assert stories[0] == stories[1]
    assert stories[0][0]


def test_a_slow_handler_is_counted_and_named() -> None:
    ticks = iter(range(0, 1 << 60, 1_000))
    events = synthetic(400, seed=4)
    run = runner(events, Quoter("a", 1), budget_ns=999, timer=lambda: next(ticks))
    run.run(events)
    late = run.states["a"].over_budget
    assert set(late) >= {"on_lob_stats", "on_features"}
    assert run.states["a"].is_running
    on_time = runner(events, Quoter("a", 1), budget_ns=1_000, timer=lambda: next(ticks))
    on_time.run(events)
    assert not on_time.states["a"].over_budget


def test_handlers_are_called_in_their_order_and_the_gap_before_its_frame() -> None:
    calls: list[tuple[str, int]] = []

    class Order(BaseStrategy):
        required_features = "lob_shared_v1"

        def on_gap(self, event: Any) -> None:
            calls.append(("gap", event.local_ts))

        def on_tick(self, event: Any) -> None:
            calls.append(("tick", event.local_ts))

        def on_bid_ask(self, event: Any) -> None:
            calls.append(("bid_ask", event.local_ts))

        def on_lob_stats(self, event: Any) -> None:
            calls.append(("stats", event.local_ts))

        def on_features(self, frame: Any) -> None:
            calls.append(("gap frame" if frame.has_gap else "frame", frame.local_ts_ns))

    events = synthetic(3_000, seed=5)
    ends = events.message_ends.tolist()
    run = StrategyRunner([Order()], events.instruments, engine=fp.FeatureEngine(V1), stream=events.options)
    rank = {"gap": 0, "tick": 1, "bid_ask": 2, "stats": 3, "gap frame": 4, "frame": 4}
    start = gaps = 0
    for stop in ends:
        calls.clear()
        run.step(events, start, stop)
        start = stop
        kinds = [kind for kind, _ in calls]
        assert kinds == sorted(kinds, key=rank.__getitem__)
        if "gap frame" in kinds:
            gaps += 1
            assert kinds[0] == "gap"
        if "frame" in kinds:
            assert kinds.count("gap") == 0 or "gap frame" in kinds
    assert gaps > 1


@pytest.mark.parametrize("backend", ["python", pytest.param("rust", marks=pytest.mark.native)])
def test_a_message_is_asked_for_when_the_one_before_is_over(backend: str) -> None:
    events, told = synthetic(400, seed=6), list[tuple[int, int, int]]()
    asked: list[tuple[int, int]] = []

    class Trades(BaseStrategy):
        def on_tick(self, event: TickEvent) -> None:
            told.append((event.local_ts, event.price, event.qty))

    def spans() -> Iterator[tuple[int, int]]:
        start = 0
        for stop in events.message_ends.tolist():
            asked.append((run.messages, len(told)))
            yield start, stop
            start = stop

    engine = fp.FeatureEngine(V1, backend=backend)
    run = StrategyRunner([Trades()], events.instruments, engine=engine, stream=events.options)
    run.steps(events, spans())
    assert [messages for messages, _ in asked] == list(range(len(events.message_ends)))
    alone, one_by_one = told.copy(), [count for _, count in asked]
    told.clear()
    again = StrategyRunner([Trades()], events.instruments, stream=events.options, backend="python")
    counts, start = [], 0
    for stop in events.message_ends.tolist():
        counts.append(len(told))
        again.step(events, start, stop)
        start = stop
    assert (alone, one_by_one) == (told, counts)
    assert len(told) > 50


def test_only_what_is_overridden_is_called() -> None:
    run = runner(synthetic(10, seed=1), BaseStrategy("nothing"))
    assert not any(run._handlers.values())


def test_a_refused_order_has_no_number_and_says_why() -> None:
    events = fp.sample_events().part(0, 2_000)
    story = Story()

    class Greedy(BaseStrategy):
        answers: list[int] = []  # noqa: RUF012 - of this test alone

        def on_lob_stats(self, event: LOBStatsEvent) -> None:
            self.answers.append(
                self.ctx.submit(
                    OrderIntent(symbol=event.symbol, side=Side.BUY, qty=1_000, price=event.best_bid // 2)
                )
            )

    run = runner(events, Greedy(), story=story, limits=RiskLimits())
    run.run(events)
    assert set(Greedy.answers) == {0}
    assert {d.outcome for d in story.decisions} == {"price_collar"}
    assert run.states["Greedy"].desk.refused == len(Greedy.answers) > 10


def test_an_order_of_somebody_else_cannot_be_cancelled() -> None:
    events = fp.sample_events().part(0, 2_000)
    numbers: list[int] = []

    class Sends(BaseStrategy):
        def on_lob_stats(self, event: LOBStatsEvent) -> None:
            if not numbers:
                price = event.best_bid - 100
                numbers.append(
                    self.ctx.submit(OrderIntent(symbol=event.symbol, side=Side.BUY, qty=100, price=price))
                )

    class Steals(BaseStrategy):
        def on_lob_stats(self, _event: LOBStatsEvent) -> None:
            self.ctx.cancel(numbers[0])

    story = Story()
    run = runner(events, Sends(), Steals(), story=story)
    run.run(events)
    assert isinstance(run.states["Steals"].error, StateError)
    assert numbers == [1]
    assert all(decision.action == "submit" for decision in story.decisions)


def test_switching_takes_the_position_along_and_leaves_no_order() -> None:
    events = synthetic(2_000, seed=8)
    half = len(events.message_ends) // 2
    story = Story()
    run = runner(events, Quoter("q", 3), story=story)
    run.run(events.part(0, half))
    old = run.states["q"]
    symbol = events.instruments[0].symbol
    fresh = Quoter("other", 4)
    run.switch("q", fresh)
    assert not old.is_running
    assert not old.desk.working
    assert fresh.name == "q"
    assert fresh.ctx.position(symbol) == old.desk.positions[symbol] != 0
    run.run(events.part(half, 2 * half))
    assert fresh.calls > 0
    run.switch("q", None)
    calls = fresh.calls
    assert not run.states["q"].is_running
    with pytest.raises(StateError):
        fresh.ctx.submit(OrderIntent(symbol=symbol, side=Side.BUY, qty=1, price=1))
    run.finish()
    assert fresh.calls == calls
    with pytest.raises(SettingError, match="no strategy"):
        run.switch("p", None)


def test_what_cannot_be_meant_is_refused() -> None:
    events = synthetic(10, seed=1)
    with pytest.raises(SettingError, match="two strategies"):
        StrategyRunner([BaseStrategy(), BaseStrategy()], events.instruments)
    with pytest.raises(SettingError, match="risk check"):
        StrategyRunner([], events.instruments, venue=PaperVenue(events.instruments))
    with pytest.raises(SettingError, match="budget_ns"):
        StrategyRunner([], events.instruments, budget_ns=-1)
    with pytest.raises(SettingError, match="levels"):
        StrategyRunner([], events.instruments, levels=0)
    run = StrategyRunner([], events.instruments)
    run.finish()
    with pytest.raises(StateError):
        run.finish()


def test_a_message_nobody_can_read_leaves_no_value_behind() -> None:
    events = fp.sample_events().part(0, 1_000)
    strategy = Quoter("q", 1)
    run = StrategyRunner([strategy], events.instruments, engine=fp.FeatureEngine(V1))
    run.run(events)
    handle = strategy.ctx.handle("mid_price_x2")
    assert handle.is_ready
    array = events.array[:1].copy()
    array["price"] = 1 << 60
    array["flags"] |= 1
    bad = EventBatch(array, events.instruments, events.source, events.options, checked=True)
    with pytest.raises(MalformedEvent):
        run.run(bad)
    for later in (bad, events):
        with pytest.raises(StateError, match="has ended with an error"):
            run.run(later)
    with pytest.raises(StateError, match="has ended with an error"):
        run.reconnect()
    assert run.messages == len(events.message_ends)
    assert run.now_ns == int(events.array["local_ts_ns"].max())
    assert not handle.is_ready


@pytest.mark.parametrize("engine", [None, "python", "rust"])
def test_what_is_no_message_is_refused_and_changes_nothing(engine: str | None) -> None:
    if engine == "rust" and not native.available():
        pytest.skip("the extension is not installed")
    events = fp.sample_events().part(0, 1_000)
    feed = None if engine is None else fp.FeatureEngine(V1, engine)
    run = StrategyRunner([], events.instruments, engine=feed, stream=events.options)
    first, second = events.message_ends[:2].tolist()
    assert second - first > 1 or first > 1
    for _ in range(2):
        for start, stop in ((0, len(events) + 1), (-1, first), (0, 0 if first == 1 else first - 1)):
            with pytest.raises(SettingError):
                run.step(events, start, stop)
        assert run.messages == 0
    run.step(events, 0, first)
    assert run.messages == 1


def _names() -> Iterator[str]:
    yield from ("on_tick", "on_bid_ask", "on_lob_stats", "on_features", "on_fill", "on_order")


@pytest.mark.parametrize("handler", list(_names()))
def test_an_exception_anywhere_stops_that_strategy_alone(handler: str) -> None:
    events = synthetic(1_500, seed=8)
    dies = type("Dies", (Quoter,), {handler: lambda _self, _event: 1 / 0})("dies", 3)
    lives = Quoter("lives", 4)
    run = runner(events, dies, lives)
    run.run(events)
    state = run.states["dies"]
    assert dict(state.exceptions) == {handler: 1}
    assert "ZeroDivisionError" in repr(state)
    assert run.states["lives"].is_running
    assert lives.calls > 100


@pytest.mark.parametrize("handler", ["on_tick", "on_bid_ask", "on_features", "on_stop"])
def test_who_leaves_by_sys_exit_leaves_alone(handler: str) -> None:
    def leave(*_: object) -> None:
        sys.exit(3)

    events = synthetic(1_500, seed=8)
    lives = Quoter("lives", 4)
    run = runner(events, type("Leaves", (Quoter,), {handler: leave})("leaves", 3), lives)
    run.run(events)
    run.finish()
    assert dict(run.states["leaves"].exceptions) == {handler: 1}
    assert isinstance(run.states["leaves"].error, SystemExit)
    assert run.states["lives"].error is None
    assert lives.calls > 100


def test_ctrl_c_in_a_handler_is_not_the_strategys() -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    events = synthetic(1_500, seed=8)
    run = runner(events, type("Asked", (Quoter,), {"on_tick": interrupted})("asked", 3))
    with pytest.raises(KeyboardInterrupt):
        run.run(events)
    assert run.states["asked"].is_running


def test_who_stops_at_the_first_of_two_trades_does_not_see_the_second() -> None:
    trades = [streams.buy(101, 5), streams.sell(100, 7)]
    array = streams.as_array(
        [streams.snapshot(streams.bid(99, 1), streams.ask(103, 1)), streams.message(*trades, at=5)]
    )
    events = EventBatch(array, (streams.instrument(),), streams.source())
    seen: dict[str, list[int]] = {"dies": [], "lives": []}

    class Counts(BaseStrategy):
        def on_tick(self, event: Any) -> None:
            seen[self.name].append(event.qty)
            if self.name == "dies":
                raise ValueError("enough")

    run = runner(events, Counts("dies"), Counts("lives"))
    run.run(events)
    assert seen == {"dies": [5], "lives": [5, 7]}
    assert dict(run.states["dies"].exceptions) == {"on_tick": 1}


@pytest.mark.parametrize("backend", ["python", pytest.param("rust", marks=pytest.mark.native)])
def test_behind_another_connection_nothing_is_ready_until_the_next_snapshot(backend: str) -> None:
    told: list[tuple[str, bool]] = []

    class Watches(BaseStrategy):
        required_features = "lob_shared_v1"

        def on_gap(self, event: Any) -> None:
            told.append(("gap", event.is_whole))

        def on_bid_ask(self, _event: Any) -> None:
            told.append(("book", True))

    events = fp.sample_events().part(0, 1_500)
    strategy = Watches()
    run = StrategyRunner([strategy], events.instruments, engine=fp.FeatureEngine(V1, backend))
    symbol = events.instruments[0].symbol
    run.run(events.part(0, 1_000))
    handle = strategy.ctx.handle("mid_price_x2")
    ready = [handle.is_ready]
    with pytest.raises(UnknownSymbol):
        run.reconnect("NONE")
    run.reconnect(symbol)
    ready.append(handle.is_ready)
    told.clear()
    run.run(events.part(1_000, 1_400))
    ready.append(handle.is_ready)
    assert told == [("gap", False)], "no snapshot, no book"
    run.reconnect()
    run.run(events)  # from its snapshot
    ready.append(handle.is_ready)
    assert ready == [True, False, False, True]
    assert ("gap", True) in told
    assert ("book", True) in told


def test_without_events_of_features_values_are_pulled_all_the_same() -> None:
    events = fp.sample_events().part(0, 1_000)
    strategy = Quoter("q", 1)
    run = StrategyRunner(
        [strategy], events.instruments, engine=fp.FeatureEngine(V1), emit_features=False, budget_ns=0
    )
    run.run(events)
    assert "on_features" not in run.states["q"].over_budget
    assert strategy.ctx.handle("mid_price_x2").is_ready
