"""The running service, end to end on the embedded sample."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import featureplane as fp
from featureplane.errors import SettingError, StateError, UnknownStrategy, UnreadableFile
from featureplane.execution.orders import EventKind
from featureplane.execution.venues.paper import PaperOptions
from featureplane.features.shadow import Shadow
from featureplane.market.instruments import load_instruments
from featureplane.market.stages import ASIDE, ENGINE_STAGES, Stages
from featureplane.services.marketdata import StrategyForms
from featureplane.services.raw_queue import RawQueue
from featureplane.services.replay_source import ReplaySource
from featureplane.settings import Settings
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.events import BidAskEvent
from featureplane.strategy.examples import market_maker
from featureplane.strategy.runner import StrategyRunner
from tests.binance_lines import backends
from tests.services import INSTRUMENTS, SAMPLE, SOURCE, SYMBOL, V1, Frames, Lines, sample_lines, service


@functools.cache
def replayed() -> tuple[bytes, ...]:
    events = fp.sample_events()
    return tuple(frame.pack() for frame in fp.FeatureEngine(V1).replay(events))


def test_frames_of_the_service_are_those_of_a_replay() -> None:
    seen = Frames()
    running = service(subscribers=[seen])
    running.run(ReplaySource([SAMPLE], None, [SYMBOL]))
    assert len(seen.packed) == len(replayed()) == running.frames > 3000
    assert tuple(seen.packed) == replayed()
    assert seen.messages == running.messages == len(sample_lines())
    assert seen.is_finished
    assert running.queue.dropped == running.errors == 0


@backends
def test_both_backends_and_several_files_give_the_same(backend: str, tmp_path: Any) -> None:
    lines = sample_lines(2000)
    paths = []
    for number, at in enumerate(range(0, 2000, 700)):
        paths.append(tmp_path / f"{number}.txt")
        paths[-1].write_bytes(b"".join(line + b"\n" for line in lines[at : at + 700]))
    seen = Frames()
    service(subscribers=[seen], backend=backend).run(ReplaySource(paths, None, [SYMBOL]))
    assert 0 < len(seen.packed) < 2000
    assert tuple(seen.packed) == replayed()[: len(seen.packed)]


def test_a_feed_that_fails_ends_the_service_in_order(tmp_path: Any) -> None:
    part = SAMPLE.read_bytes()[:200_000]
    torn = tmp_path / "torn.gz"
    torn.write_bytes(part)
    seen = Frames()
    running = service(subscribers=[seen])
    with pytest.raises(UnreadableFile, match="inside gzip data"):
        running.run(ReplaySource([torn], None, [SYMBOL]))
    assert seen.is_finished
    assert tuple(seen.packed) == replayed()[: len(seen.packed)]
    assert len(seen.packed) > 100


def test_what_others_want_is_done_between_two_messages() -> None:
    asked: list[int] = []
    running = service()
    release = threading.Event()

    def lines() -> Any:
        for number, line in enumerate(sample_lines(500)):
            if number == 400:
                release.wait(20)
            yield line

    thread = threading.Thread(target=running.run, args=(Lines(lines(), waits=False),))
    thread.start()
    asked.append(running.ask(lambda: running.messages, 20))
    with pytest.raises(ZeroDivisionError):
        running.ask(lambda: 1 // 0, 20)
    release.set()
    thread.join(20)
    assert 0 <= asked[0] <= 500
    assert running.messages == 500
    with pytest.raises(StateError, match="the service has ended"):
        running.ask(lambda: None, 20)


def test_a_full_queue_loses_messages_counts_them_and_breaks_the_book_there() -> None:
    lines = sample_lines(3000)
    queue = RawQueue(2, whose=lambda _: SYMBOL)
    seen = Frames()
    running = service(subscribers=[seen], queue=queue)
    for line in lines[:1000]:
        running.take(line)
    before = len(seen.packed)
    assert running.runner.is_whole(SYMBOL)
    assert [queue.put(line) for line in lines[1000:1004]] == [True, True, False, False]
    running.take(*queue.take())  # type: ignore[misc] # those two are messages
    running.take(*queue.take())  # type: ignore[misc] # as above
    running.run(Lines(lines[1004:], waits=False))
    assert seen.reconnects[0] == (SYMBOL, "queue")
    assert running.queue_breaks == running.telemetry.picture["book_broken_total"]["queue",] == 1
    assert running.reconnects == len(seen.reconnects)
    assert running.messages == 3000 - queue.dropped
    assert len(seen.packed) <= before + 2, "no book without another snapshot"
    assert not running.runner.is_whole(SYMBOL)
    assert running.telemetry.picture["raw_queue_dropped_total"][()] == queue.dropped >= 2


class Slow(BaseStrategy):
    """Late once, and broken once."""

    required_features = "lob_shared_v1"

    def __init__(self, timer: list[int]) -> None:
        super().__init__()
        self.now, self.calls = timer, 0
        self.runner: StrategyRunner | None = None
        self.ended_at = 0

    def on_bid_ask(self, _event: BidAskEvent) -> None:
        self.calls += 1
        if self.calls == 10:
            self.now[0] += 5_000_000
        if self.calls == 20:
            assert self.runner is not None
            self.ended_at = self.runner.messages
            raise ValueError("on purpose")


def test_a_handler_that_is_late_or_raises_is_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    now = [0]
    seen = Frames()
    slow = Slow(now)
    running = service(slow, subscribers=[seen], budget_ns=10**12)
    running.runner._budget_ns, running.runner._timer = 1_000_000, lambda: now[0]
    running.runner._subscribe()
    slow.runner = running.runner
    with caplog.at_level("INFO", "featureplane"):
        running.run(Lines(sample_lines(3000)))
    (state,) = running.runner.states.values()
    assert dict(state.over_budget) == {"on_bid_ask": 1}
    assert dict(state.exceptions) == {"on_bid_ask": 1}
    assert not state.is_running
    picture = running.telemetry.picture
    assert picture["strategy_over_budget_total"]["Slow", "on_bid_ask"] == 1
    assert picture["strategy_exceptions_total"]["Slow", "on_bid_ask"] == 1
    assert picture["strategy_stopped_total"]["Slow",] == 1
    assert picture["strategy_running"]["Slow",] == 0
    texts = [record.message for record in caplog.records]
    assert texts.count("a handler took longer than its budget") == 1
    assert texts.count("a strategy was stopped by an error of its own") == 1
    (stopped,) = [one for one in caplog.records if one.message.startswith("a strategy was stopped")]
    assert stopped.__dict__["fields"]["trace"] == f"m{slow.ended_at}"
    assert tuple(seen.packed) == replayed()[: len(seen.packed)]
    assert running.messages == 3000


def test_what_cannot_be_read_is_counted_and_breaks_the_book_until_it_is_known_to_be_whole() -> None:
    lines = sample_lines(2000)
    running = service()
    for line in [*lines[:1000], b"what", b"1723161255030314667 {"]:
        running.take(line)
    assert not running.runner.is_whole(SYMBOL)
    running.run(Lines(lines[1000:]))
    picture = running.telemetry.picture
    assert running.messages == 2002
    assert picture["events_dropped_total"]["malformed",] == 2
    assert picture["book_broken_total"]["malformed",] == 1
    assert picture["feature_plane_updates_total"]["error", "lob_shared_v1"] == 2
    assert running.runner.is_whole(SYMBOL), "the ids that follow show that nothing was missed"


class Broken(Frames):
    """A subscriber that cannot bear its tenth frame."""

    name = "broken"

    def on_frames(self, frames: Sequence[fp.FeatureFrame]) -> None:
        super().on_frames(frames)
        if len(self.packed) == 10:
            raise RuntimeError("on purpose")


def test_a_subscriber_that_raises_hears_nothing_more_and_stops_nobody() -> None:
    broken, seen = Broken(), Frames()
    running = service(subscribers=[broken, seen])
    running.run(Lines(sample_lines(1000)))
    assert len(broken.packed) == 10
    assert tuple(seen.packed) == replayed()[: len(seen.packed)]
    assert len(seen.packed) > 10
    assert running.telemetry.picture["subscriber_stopped_total"] == {("broken",): 1, ("frames",): 0}


def test_orders_still_working_are_cancelled_at_the_end_and_their_end_is_heard() -> None:
    latency = PaperOptions(entry_ns=1_000_000, response_ns=2_000_000)
    running = service(market_maker.SharedMarketMaker(), paper=latency, answers_ns=3_000_001)
    running.run(Lines(sample_lines(20_000)))
    events, decisions = running.story.events, running.story.decisions
    submitted = decisions["SharedMarketMaker", "submit"] - sum(running.story.refused.values())
    assert submitted > 10
    ends = (EventKind.FILLED, EventKind.CANCELLED, EventKind.EXPIRED, EventKind.REJECTED)
    assert sum(events[kind.value] for kind in ends) == submitted
    (state,) = running.runner.states.values()
    assert not state.desk.working


def test_engine_flags_are_honoured(caplog: pytest.LogCaptureFixture) -> None:
    lines = sample_lines(3000)
    with pytest.raises(StateError, match="there is no feature engine"):
        service(market_maker.SharedMarketMaker(), fset=None)
    legacy = service(market_maker.LegacyMarketMaker(), fset=None)
    legacy.run(Lines(lines))
    assert not [one for one in caplog.records if "is not called" in one.message]
    assert legacy.frames == 0
    assert legacy.story.decisions["LegacyMarketMaker", "submit"] > 0
    told = legacy.telemetry.picture
    assert told["feature_set_info"] == {("none", "", legacy.feed.backend): 1}
    assert {one for one, count in told["feature_plane_updates_total"].items() if count} == set()
    assert set(told["book_broken_total"].values()) == {0}  # there, and nobody computes what would break
    quiet = service(
        market_maker.SharedMarketMaker(),
        settings=Settings(engine_emit_events=False, latency_sample_every=7),
    )
    quiet.run(Lines(lines))
    assert not quiet.story.decisions
    (warned,) = [one for one in caplog.records if "`on_features` is not called" in one.message]
    assert warned.__dict__["fields"] == {"strategy": "SharedMarketMaker"}
    updates = quiet.telemetry.picture["feature_plane_updates_total"]
    assert updates["emitted", "lob_shared_v1"] == 0
    assert updates["updated", "lob_shared_v1"] == quiet.frames > 0
    timed = quiet.telemetry.picture["pipeline_latency_ns"]["normalize",]
    assert isinstance(timed, tuple)
    assert sum(timed[0]) == 3000 // 7


def test_a_strategy_is_switched_between_two_messages() -> None:
    lines = sample_lines(9000)
    makers = {"legacy": market_maker.LegacyMarketMaker, "shared": market_maker.SharedMarketMaker}
    running = service(market_maker.SharedMarketMaker("mm"), forms={"mm": StrategyForms(makers, "shared")})
    for line in lines[:3000]:
        running.take(line)
    assert running.forms() == {"mm": "shared"}
    assert not running.set_form("mm", "shared")
    assert running.set_form("mm", "legacy")
    assert isinstance(running.runner.states["mm"].strategy, market_maker.LegacyMarketMaker)
    for line in lines[3000:6000]:
        running.take(line)
    assert running.set_form("mm", "off")
    assert not running.set_form("mm", "off")
    said = dict(running.story.decisions)
    for line in lines[6000:]:
        running.take(line)
    assert dict(running.story.decisions) == said
    assert running.set_form("mm", "shared")
    with pytest.raises(UnknownStrategy) as caught:
        running.set_form("m", "off")
    assert caught.value.hint is not None
    assert "mm" in caught.value.hint
    with pytest.raises(SettingError, match="form 'lagacy'"):
        running.set_form("mm", "lagacy")
    running.finish()
    assert running.forms() == {"mm": "off"}


class Clumsy(BaseStrategy):
    """Raises at its first book."""

    def on_bid_ask(self, _event: BidAskEvent) -> None:
        raise ValueError("on purpose")


def test_what_was_counted_stays_counted_when_a_strategy_is_exchanged() -> None:
    running = service(Clumsy("c"), forms={"c": StrategyForms({"legacy": Clumsy}, "legacy")})
    for line in sample_lines(100):
        running.take(line)
    assert running.forms() == {"c": "off"}
    assert running.set_form("c", "legacy"), "it did not run any more"
    for line in sample_lines(200)[100:]:
        running.take(line)
    running.finish()
    picture = running.telemetry.picture
    assert picture["strategy_exceptions_total"]["c", "on_bid_ask"] == 2
    assert picture["strategy_stopped_total"]["c",] == 2
    assert picture["strategy_over_budget_total"]["c", "on_bid_ask"] == 0


def test_a_message_that_was_not_taken_changes_nothing_and_one_that_ends_the_stream_begins_another() -> None:
    lines = sample_lines(3000)
    dated = [
        replace(one, reset_at="09:30", time_zone="America/New_York") for one in load_instruments(INSTRUMENTS)
    ]
    running = service(instruments=dated)
    running.take(b"what")  # hours are known from the first message's time on
    assert running.errors == 1
    for line in lines[:1500]:
        running.take(line)
    assert running.runner.is_whole(SYMBOL)
    running.take(b"{}", 1723161255030314667, "NOBODY")
    running.take(b"{}", -5)
    assert running.errors == 3
    assert running.runner.is_whole(SYMBOL)
    frames = running.frames
    for line in lines[1500:]:
        running.take(line)
    assert running.frames > frames > 100
    running.finish()
    assert running.telemetry.picture["feature_plane_updates_total"]["error", "lob_shared_v1"] == 3


@backends
def test_a_symbol_is_ready_while_its_book_is_whole_and_once_everything_had_a_value(backend: str) -> None:
    lines = sample_lines(1500)
    running = service(backend=backend)
    said = []
    for line in lines:
        running.take(line)
        said.append(running.readiness.look()[SYMBOL])
    changes = [text for before, text in zip(["", *said], said, strict=False) if text != before]
    assert changes[0] == "its book is not whole"
    assert any(text.startswith("no value yet: ") for text in changes)
    assert changes[-1] == ""
    running.reconnect(SYMBOL)
    assert running.readiness.look() == {SYMBOL: "its book is not whole"}
    assert not running.runner.is_whole(SYMBOL)


@backends
@pytest.mark.parametrize("fset", [V1, None])
def test_stages_of_a_message_are_told_and_nothing_else_changes(
    backend: str, fset: fp.FeatureSet | None
) -> None:
    lines = sample_lines(1500)
    strategy = market_maker.SharedMarketMaker if fset else market_maker.LegacyMarketMaker
    timed, plain = (
        service(strategy(), fset=fset, backend=backend, settings=Settings(latency_sample_every=every))
        for every in (1, 1_000_000)
    )
    for running in (timed, plain):
        running.run(Lines(lines))
    assert timed.story.decisions == plain.story.decisions
    assert timed.story.decisions.total() > 0
    assert timed.frames == plain.frames
    counts = {stage: sum(one.counts) for stage, one in timed.latencies.stages.items()}
    assert counts["dispatch"] == counts["normalize"] == 1500
    assert counts["risk"] >= counts["order"] > 0
    assert sum(timed.latencies.frames.counts) == counts["features"] == timed.frames
    assert counts["guard"] >= counts["book"] == timed.frames
    unmade = {"guard", "book", "features"} if fset is None else set()
    assert {stage for stage, one in timed.latencies.stages.items() if not one.total} == unmade
    spent = [timed.latencies.stages[stage].total for stage in ("book", "features")]
    assert timed.latencies.frames.total == sum(spent)
    assert not any(sum(one.counts) for one in plain.latencies.stages.values())


@pytest.mark.native
def test_a_message_goes_through_the_same_stages_in_both_backends() -> None:
    lines = sample_lines(1200)
    lines = [line for at, line in enumerate(lines) if at % 90 != 89 or at < 900]
    lines.insert(800, b"what")
    counts = []
    for backend in ("python", "rust"):
        running = service(
            fset=fp.feature_set("lob_shared_v2"), backend=backend, settings=Settings(latency_sample_every=1)
        )
        running.run(Lines(lines))
        assert running.feed.counts["broken"].total() > 0
        stages = running.latencies.stages.items()
        counts.append({stage: sum(one.counts) for stage, one in stages} | {"frames": running.frames})
    assert counts[0] == counts[1]
    assert counts[0]["guard"] > counts[0]["features"] >= counts[0]["book"] > 0


@backends
def test_what_is_done_for_a_shadow_is_in_no_stage(backend: str) -> None:
    pipeline = fp.Pipeline(V1, SOURCE, INSTRUMENTS, backend=backend, live=False)
    other = "python" if backend == "rust" else "rust"
    shadow = Shadow(sample_every=1, backend=other)
    pipeline.watch(shadow)
    ticks = itertools.count()
    aside = 0
    try:
        for line in sample_lines(600):
            stages = Stages(lambda: next(ticks))
            pipeline.time(stages)
            frames = pipeline.push(line)
            assert {*stages.spent} <= {*ENGINE_STAGES}
            assert not frames or {"guard", "book", "features"} <= {*stages.spent}
            aside += bool(frames) and ASIDE in stages.spent
    finally:
        pipeline.finish()
        shadow.close()
    assert aside > 10
