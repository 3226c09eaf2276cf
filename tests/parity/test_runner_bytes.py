"""Strategies are called alike whether a runner is given the bytes of messages or their events."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane.errors import MalformedEvent, NotReady, SettingError, StateError
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.paper import PaperVenue
from featureplane.market.events import EventBatch, StreamOptions
from featureplane.market.feed import MessageFeed
from featureplane.market.instruments import Instrument
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.runner import StrategyRunner
from tests.binance_lines import LOCAL, SYMBOL, diff, line, quote, snapshot, trade
from tests.orders import WIDE
from tests.parity.test_pipeline import (
    EACH_BACKEND,
    ONE,
    OTHER,
    SAMPLE,
    Message,
    alone,
    lines_of,
    session,
)
from tests.parity.test_recordings import BINANCE, INSTRUMENTS, Recording
from tests.shared_data import shared
from tests.unit.test_strategy_runner import Quoter, Story

V1, V2 = fp.feature_set("lob_shared_v1"), fp.feature_set("lob_shared_v2")


class Scribe(BaseStrategy):
    """Writes down every call."""

    def __init__(self) -> None:
        super().__init__("scribe")
        self.heard: list[Any] = []

    def on_start(self) -> None:
        def writer(name: str) -> Callable[[Any], None]:
            return lambda event: self.heard.append((name, event.as_tuple()))

        for name in ("on_tick", "on_bid_ask", "on_lob_stats", "on_gap"):
            setattr(self, name, writer(name))

    def on_tick(self, event: Any) -> None: ...

    def on_bid_ask(self, event: Any) -> None: ...

    def on_lob_stats(self, event: Any) -> None: ...

    def on_gap(self, event: Any) -> None: ...


class FrameScribe(Scribe):
    """And every frame."""

    def on_features(self, frame: fp.FeatureFrame) -> None:
        self.heard.append(("on_features", frame.pack()))


SCRIBES = {
    fset.feature_set_id: type("Scribe", (FrameScribe,), {"required_features": fset.fingerprint})
    for fset in (V1, V2)
}


class Told:
    """One run: its strategies, its runner, and all that was said."""

    def __init__(self, engine: Any, instruments: Sequence[Instrument], **how: Any) -> None:
        self.fset = getattr(engine, "fset", None)
        self.scribe = Scribe() if self.fset is None else SCRIBES[self.fset.feature_set_id]()
        strategies: list[BaseStrategy] = [self.scribe]
        self.story = Story()
        if self.fset is V1:
            strategies.append(Quoter("quotes", 3))
        self.runner = StrategyRunner(
            strategies,
            instruments,
            engine=engine,
            venue=PaperVenue(
                instruments,
                stream=how.get("stream") or getattr(engine, "options", None),
                backend=getattr(engine, "backend", how.get("backend", "auto")),
            ),
            risk=RiskCheck(instruments, WIDE),
            listener=self.story,
            **how,
        )

    def end(self) -> tuple[Any, ...]:
        messages, now_ns = self.runner.messages, self.runner.now_ns
        self.runner.finish()
        return self.scribe.heard, self.story.decisions, self.story.events, messages, now_ns


def stepped(events: EventBatch, fset: fp.FeatureSet | None, backend: str, reconnects: frozenset[int]) -> Any:
    engine = None if fset is None else fp.FeatureEngine(fset, backend)
    told = Told(engine, events.instruments, stream=events.options, backend=backend)
    start = 0
    for number, stop in enumerate(events.message_ends.tolist()):
        if number in reconnects:
            told.runner.reconnect()
        told.runner.step(events, start, stop)
        start = stop
    return told.end()


def pushed(feed: Any, messages: Sequence[Message], reconnects: frozenset[int]) -> Any:
    told = Told(feed, feed.instruments, backend=feed.backend)
    for data, local in messages:
        if told.runner.messages in reconnects and told.runner.messages:
            told.runner.reconnect()
            reconnects -= {told.runner.messages}
        frames = told.runner.push(data, local)
        assert frames == (() if told.fset is None else feed.pushed)
    return told.end()


def compare(
    events: EventBatch,
    messages: Sequence[Message],
    fset: fp.FeatureSet | None,
    backend: str,
    source: str,
    *,
    reconnects: frozenset[int] = frozenset(),
) -> Any:
    """Compare both ways; what was heard."""
    options = events.options
    how: dict[str, Any] = {
        "backend": backend,
        "on_gap": options.on_gap,
        "on_malformed": options.on_malformed,
        "seed": options.seed,
        "seed_after": options.seed_after,
        "live": False,
    }
    feed = (
        MessageFeed(source, events.instruments, **how)
        if fset is None
        else fp.Pipeline(fset, source, events.instruments, **how)
    )
    by_bytes = pushed(feed, messages, reconnects)
    by_events = stepped(events, fset, backend, reconnects)
    assert by_bytes == by_events
    return by_bytes


SETS = pytest.mark.parametrize(
    "fset", [V1, V2, None], ids=lambda fset: "none" if fset is None else fset.feature_set_id
)


@EACH_BACKEND
@SETS
def test_the_sample_by_bytes_and_by_events(backend: str, fset: fp.FeatureSet | None, tmp_path: Path) -> None:
    lines = list(lines_of([SAMPLE / "ethusdt_20240808.gz"], 4_000 if backend == "rust" else 900))
    (tmp_path / "lines").write_bytes(b"".join(lines))
    events = fp.read_events(tmp_path / "lines", "binance-spot", instruments=SAMPLE / "instruments.toml")
    heard, decisions, *_ = compare(
        events, [alone(text) for text in lines], fset, backend, "binance-spot", reconnects=frozenset({150})
    )
    kinds = {kind for kind, _ in heard}
    assert {"on_tick", "on_bid_ask", "on_lob_stats", "on_gap"} <= kinds
    assert ("on_features" in kinds) == (fset is not None)
    assert bool(decisions) == (fset is V1)


@EACH_BACKEND
@pytest.mark.parametrize("recording", BINANCE.values(), ids=BINANCE)
def test_recordings_by_bytes_and_by_events(recording: Recording, backend: str, tmp_path: Path) -> None:
    texts = list(lines_of([shared(recording.files[0])], 2_000 if backend == "rust" else 500))
    (tmp_path / "head").write_bytes(b"".join(texts))
    instruments = INSTRUMENTS / f"{recording.instruments}.toml"
    events = fp.read_events(tmp_path / "head", recording.source, recording.symbol, instruments)
    heard, *_ = compare(events, [(text, None) for text in texts], V1, backend, recording.source)
    assert heard


def faulty() -> list[bytes]:
    """Holes, repeats, unreadable lines, what belongs to nobody, and a book that begins again."""
    lines = session(40)
    lines[10:12] = []
    lines[20] = b"%d {\n" % (LOCAL + 20_000_000)
    lines[24:24] = [
        line({"result": None, "id": 1}, LOCAL + 24_000_000),
        line(trade(s="XRPUSDT"), LOCAL + 24_000_001),
        line(quote(s=SYMBOL), LOCAL + 24_000_002),
        lines[23],
        line(trade(s=SYMBOL, p="-"), LOCAL + 24_000_003),
        line(diff(s=SYMBOL, U=0), LOCAL + 24_000_004),
    ]
    return [*lines, *(text.replace(b"1723161254", b"1723161255", 1) for text in session(30))]


@EACH_BACKEND
@SETS
@pytest.mark.parametrize("options", [{}, {"on_gap": "continue"}, {"seed": "increments"}], ids=str)
def test_faults_by_bytes_and_by_events(
    backend: str, fset: fp.FeatureSet | None, options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "lines").write_bytes(b"".join(faulty()))
    events = fp.read_events(
        tmp_path / "lines", "binance-usdm", instruments=ONE, on_malformed="drop", **options
    )
    messages = [alone(text) for text in faulty()]
    heard, _, _, count, _ = compare(
        events, messages, fset, backend, "binance-usdm", reconnects=frozenset({35})
    )
    assert sum(kind == "on_gap" for kind, _ in heard) >= 2
    assert count < len(messages)


@EACH_BACKEND
def test_what_may_be_anybodys_message_is_everybodys(backend: str) -> None:
    feed = fp.Pipeline(V1, "binance-usdm", (ONE, OTHER), backend=backend, on_malformed="drop")
    told = Told(feed, (ONE, OTHER))
    for pair in zip(session(20), session(20, OTHER), strict=True):
        for text in pair:
            told.runner.push(text)
    before = len(told.scribe.heard)
    told.runner.push(b"x", LOCAL + 90_000_000)
    heard = told.scribe.heard[before:]
    assert [kind for kind, _ in heard] == ["on_gap", "on_features"] * 2
    assert [what[0] for kind, what in heard if kind == "on_gap"] == [ONE.symbol, OTHER.symbol]
    told.runner.push(b"x", LOCAL + 90_000_001, OTHER.symbol)
    assert len(told.scribe.heard) == before + 4


@EACH_BACKEND
def test_features_are_pulled_until_an_error_ends_the_stream(backend: str) -> None:
    feed = fp.Pipeline(V1, "binance-usdm", ONE, backend=backend)
    told = Told(feed, (ONE,))
    for text in session(20):
        told.runner.push(text)
    assert told.scribe.ctx.get_feature(SYMBOL, "best_bid") == 6180020
    with pytest.raises(MalformedEvent):
        told.runner.push(b"x", LOCAL)
    with pytest.raises(NotReady):
        told.scribe.ctx.get_feature(SYMBOL, "best_bid")
    with pytest.raises(StateError):
        told.runner.push(session(1)[0])


@EACH_BACKEND
@pytest.mark.parametrize("fset", [V1, None], ids=["v1", "none"])
def test_another_stream_begins_behind_an_error(backend: str, fset: fp.FeatureSet | None) -> None:
    feed: Any = (
        MessageFeed("binance-usdm", (ONE, OTHER), backend=backend)
        if fset is None
        else fp.Pipeline(fset, "binance-usdm", (ONE, OTHER), backend=backend)
    )
    told = Told(feed, (ONE, OTHER))
    stories = []
    for _ in range(2):
        first = len(told.scribe.heard)
        for pair in zip(session(20), session(20, OTHER), strict=True):
            for text in pair:
                told.runner.push(text)
        stories.append([one for one in told.scribe.heard[first:] if one[0] != "on_features"])
        with pytest.raises(MalformedEvent):
            told.runner.push(b"x", LOCAL)
        with contextlib.suppress(StateError):
            told.runner.reconnect()
        feed.finish()
    assert stories[0] == [one for one in stories[1] if one[0] != "on_gap"]
    assert sum(kind == "on_gap" for kind, _ in stories[1]) == 2
    assert {"on_tick", "on_bid_ask"} <= {kind for kind, _ in stories[0]}


@EACH_BACKEND
def test_a_feed_without_features_ends_and_begins_as_a_pipeline(backend: str) -> None:
    feed = MessageFeed("binance-usdm", ONE, backend=backend)
    for data, local in (("text", LOCAL), (b"{}", 0), (b"{}", 1.5)):
        with pytest.raises(SettingError):
            feed.push(data, local)  # type: ignore[arg-type]  # what is no message is refused
    for text in session(3):
        assert feed.push(text) == ()
    assert feed.push(line({"result": None, "id": 1})) == ()
    assert feed.taken[1] == 0
    assert feed.counts == {"dropped": {"other_stream": 1}}
    big = line(snapshot(bids=[[f"{n}.5", "1"] for n in range(9000)]))
    feed.push(big)
    assert feed.taken[1] == 9003
    with pytest.raises(MalformedEvent, match="binance-usdm:9: "):
        feed.push(b"x", LOCAL)
    with pytest.raises(StateError):
        feed.push(big)
    feed.finish()
    feed.push(big)
    assert feed.taken[1] == 9003


def test_a_runner_takes_what_it_was_made_for() -> None:
    events = fp.sample_events()
    pipeline = fp.Pipeline(V1, "binance-usdm", ONE)
    by_events = StrategyRunner([], events.instruments, engine=fp.FeatureEngine(V1))
    by_bytes = StrategyRunner([], (ONE,), engine=pipeline)
    with pytest.raises(SettingError, match="bytes for a runner"):
        by_events.push(b"{}", LOCAL)
    with pytest.raises(SettingError, match="events for a runner"):
        by_bytes.run(events)
    with pytest.raises(SettingError, match="other instruments"):
        StrategyRunner([], events.instruments, engine=pipeline)
    with pytest.raises(SettingError, match="for a feed of"):
        StrategyRunner([], (ONE,), engine=pipeline, stream=StreamOptions("continue"))


@EACH_BACKEND
def test_the_engine_is_changed_between_two_messages(backend: str) -> None:
    lines = session(40)
    told = Told(fp.Pipeline(V1, "binance-usdm", ONE, backend=backend), (ONE,))
    for text in lines[:20]:
        told.runner.push(text)
    told.runner.use_engine(MessageFeed("binance-usdm", ONE, backend=backend))
    assert isinstance(told.runner.states["scribe"].error, StateError)
    watcher = Scribe()
    told.runner.switch("scribe", watcher)
    for text in lines[20:30]:
        told.runner.push(text)
    assert {"on_bid_ask", "on_lob_stats"} <= {kind for kind, _ in watcher.heard}
    told.runner.reconnect()
    told.runner.use_engine(fp.Pipeline(V2, "binance-usdm", ONE, backend=backend))
    frames = [told.runner.push(text) for text in session(40)]
    assert sum(len(one) for one in frames) > 20
    told.runner.finish()
