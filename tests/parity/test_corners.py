"""Reference = streaming = block in the corners (rules 10.1, 10.5): a few messages of every kind, any order.

Also that a state saved anywhere by either language is continued by the other as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from featureplane.errors import FeaturePlaneError, FeatureSetMismatch, MalformedEvent, UnknownSymbol
from featureplane.features.native_engine import NativeEngine
from featureplane.features.reference import ReferenceEngine
from featureplane.features.sampling import parse_every
from featureplane.features.spec import FeatureSet
from featureplane.market.events import Kind, Side, SourceInfo, StreamOptions
from featureplane.market.instruments import Instrument
from tests.parity.corners import FAULTS, INSTRUMENTS, SYMBOLS, Op, book, instruments, script, streams
from tests.parity.streams import SETS, TRADES, V1, V2
from tests.soak import share
from tests.streams import Change

pytestmark = pytest.mark.native
SHORT_STREAMS = True

EACH_SET = pytest.mark.parametrize("fset", SETS, ids=lambda fset: fset.feature_set_id)


Engine = ReferenceEngine | NativeEngine
Make = Callable[..., Engine]

EXECUTIONS: dict[str, dict[str, Any]] = {
    "streaming": {"execution": "streaming"},
    "block": {"execution": "block"},
}


class Feed(NamedTuple):
    """How a stream is taken."""

    instruments: tuple[Instrument, ...]
    source: SourceInfo
    options: StreamOptions
    emit: Any = "update"
    every: int | str | None = None

    def engine(self, fset: FeatureSet, make: Any, **how: Any) -> Any:
        """An engine before its first event."""
        plain = (fset, self.instruments, self.source, self.options)
        return make(*plain, emit=self.emit, every=parse_every(self.every), **how)


@st.composite
def feeds(draw: st.DrawFn, *, sampled: bool = True) -> Feed:
    """All options of streams, sources and instruments."""
    facts = {name: draw(st.integers(0, 3)) > 0 for name in ("has_snapshots", "local_time", "trade_sides")}
    seed = draw(st.sampled_from(["snapshot", "snapshot", "increments"]))
    options = StreamOptions(
        on_gap=draw(st.sampled_from(["wait", "wait", "continue", "refuse"])),
        on_malformed="drop",
        seed=seed,
        seed_after=draw(st.sampled_from([None, 0, 3])) if seed == "increments" else None,
    )
    about = instruments(**draw(st.sampled_from(INSTRUMENTS)))
    feed = Feed(about, SourceInfo("test", sequenced=True, **facts), options)
    if not sampled:
        return feed
    every = draw(st.sampled_from([None, None, None, 2, "1ms", "1s"]))
    return feed._replace(emit=draw(st.sampled_from(["update", "update", "change"])), every=every)


def told(engine: Engine, pieces: Sequence[npt.NDArray[Any]]) -> Iterator[object]:
    """Everything an execution says: frames and grid points, errors in their words, states behind a piece."""
    for piece in pieces:
        try:
            for frame, point in engine.process(piece):
                yield frame.pack().hex(), point
        except FeaturePlaneError as error:
            yield type(error).__name__, vars(error)
            return
        yield tuple(engine.snapshot(symbol_id).hex() for symbol_id in SYMBOLS)
    engine.finish()


def pieces_of(ops: Sequence[Op], cuts: set[int]) -> list[npt.NDArray[Any]]:
    """The stream in pieces, cut behind some of its messages."""
    events, ends = script(ops)
    bounds = [0, *sorted({ends[cut % len(ends)] for cut in cuts} - {len(events)}), len(events)]
    return [events[start:stop] for start, stop in itertools.pairwise(bounds)]


BUY, SELL = ((Change(Kind.TRADE, side, 100, 2),) for side in (Side.BID, Side.ASK))
CUTS = st.sets(st.integers(0, 60), max_size=3)
LIGHT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(LIGHT, max_examples=6, phases=[Phase.explicit, Phase.reuse, Phase.generate])
HEAVY = settings(LIGHT, max_examples=share(2_500))


def check_executions(fset: FeatureSet, ops: Sequence[Op], feed: Feed, cuts: set[int]) -> None:
    whole = [op for op in ops if op.fault != "cut"]  # a piece may end inside of it
    pieces = pieces_of(ops if not cuts else whole or ops, cuts)
    expected = list(told(feed.engine(fset, ReferenceEngine), pieces))
    for name, how in EXECUTIONS.items():
        assert list(told(feed.engine(fset, NativeEngine, **how), pieces)) == expected, name


def check_columns(fset: FeatureSet, ops: Sequence[Op], feed: Feed) -> None:
    """Frames as columns are the frames."""
    (piece,) = pieces_of(ops, set())
    try:
        expected = feed.engine(fset, ReferenceEngine).columns(piece)
    except FeaturePlaneError:
        return
    for name, how in EXECUTIONS.items():
        got = feed.engine(fset, NativeEngine, **how).columns(piece)
        for field in dataclasses.fields(expected):
            left, right = getattr(expected, field.name), getattr(got, field.name)
            assert plain(left) == plain(right), f"{name}: {field.name}"


def plain(column: Any) -> object:
    if isinstance(column, tuple):
        return [plain(one) for one in column]
    return None if column is None else column.tobytes()


@EACH_SET
@LIGHT
@given(ops=streams(faults=FAULTS), feed=feeds(), cuts=CUTS)
def test_rule_10_1_whatever_comes(fset: FeatureSet, ops: list[Op], feed: Feed, cuts: set[int]) -> None:
    check_executions(fset, ops, feed, cuts)


@pytest.mark.soak
@EACH_SET
@HEAVY
@given(ops=streams(80, faults=FAULTS), feed=feeds(), cuts=CUTS)
def test_rule_10_1_whatever_comes_for_hours(
    fset: FeatureSet, ops: list[Op], feed: Feed, cuts: set[int]
) -> None:
    check_executions(fset, ops, feed, cuts)


@EACH_SET
@FEW
@given(ops=streams(), feed=feeds())
def test_rule_10_5_blocks_are_cut_at_any_step(fset: FeatureSet, ops: list[Op], feed: Feed) -> None:
    # Long enough for several blocks of 512 steps, with their accidents anywhere in them.
    # Hours between messages would take them beyond the days whose sessions are known.
    brisk = [op._replace(source_ms=min(op.source_ms, 300_000)) for op in ops]
    check_executions(fset, brisk * (2_200 // len(ops)), feed, {1_500})


@pytest.mark.parametrize("faults", [[], [Op(BUY)], [Op(BUY, "gap"), Op(SELL, "fill")]])
@pytest.mark.parametrize("fset", [V1, TRADES], ids=lambda fset: fset.feature_set_id)
def test_rule_3_4_a_buffer_that_runs_over(fset: FeatureSet, faults: list[Op]) -> None:
    feed = Feed(instruments(), SourceInfo("test", *[True] * 4), StreamOptions())
    waiting = [Op((Change(Kind.LEVEL, Side.BID, 90 + i % 10, i % 7),)) for i in range(4_100)]
    ops = [book(), Op(waiting[0].changes, "gap"), *waiting, *faults, book(), *waiting[:3], *faults]
    check_executions(fset, ops, feed, {4_090, 4_101})


@EACH_SET
@LIGHT
@given(ops=streams(), feed=feeds())
def test_rule_10_1_trusted_events(fset: FeatureSet, ops: list[Op], feed: Feed) -> None:
    # Without faults to expect the Rust engine leaves out the checks, and may take other ways.
    options = dataclasses.replace(feed.options, on_malformed="raise")
    check_executions(fset, ops, feed._replace(options=options), set())
    check_columns(fset, ops, feed._replace(options=options))


def check_continued(fset: FeatureSet, ops: Sequence[Op], feed: Feed, cut: int) -> None:
    """A state saved by any execution is continued by any other as if nothing had happened."""
    pieces = pieces_of(ops, {cut})
    expected = list(told(feed.engine(fset, ReferenceEngine), pieces))
    head = pieces[0]
    makes: list[tuple[Any, dict[str, Any]]] = [(NativeEngine, how) for how in EXECUTIONS.values()]
    makes.append((ReferenceEngine, {}))
    for make, how in makes:
        for other, other_how in makes:
            engine = feed.engine(fset, make, **how)
            said = list(told(engine, [head]))
            assert said == expected[: len(said)]
            if len(pieces) == 1 or len(said) == len(expected):
                continue
            after = feed.engine(fset, other, **other_how)
            for symbol_id in SYMBOLS:
                after.restore(symbol_id, engine.snapshot(symbol_id))
            assert list(told(after, pieces[1:])) == expected[len(said) :], (make, other)


@EACH_SET
@LIGHT
@given(ops=streams(60), feed=feeds(sampled=False), cut=st.integers(0, 60))
def test_rule_10_5_a_state_is_continued_by_the_other_language(
    fset: FeatureSet, ops: list[Op], feed: Feed, cut: int
) -> None:
    check_continued(fset, ops, feed, cut)


def restored(feed: Feed, fset: FeatureSet, make: Any, state: bytes) -> object:
    """What becomes of a state: the same again, or the class of an error."""
    engine = feed.engine(fset, make)
    try:
        engine.restore(SYMBOLS[0], state)
    except FeaturePlaneError as error:
        return type(error)
    return engine.snapshot(SYMBOLS[0])


@EACH_SET
@LIGHT
@given(ops=streams(), feed=feeds(sampled=False), data=st.binary(max_size=24), at=st.floats(0, 1))
def test_rule_10_5_bytes_that_rust_takes_for_a_state_are_one(
    fset: FeatureSet, ops: list[Op], feed: Feed, data: bytes, at: float
) -> None:
    (piece,) = pieces_of(ops, set())
    engine = feed.engine(fset, ReferenceEngine)
    list(told(engine, [piece]))
    state = engine.snapshot(SYMBOLS[0])
    place = int(at * len(state))
    spoiled = state[:place] + data + state[place + len(data) :]
    got = restored(feed, fset, NativeEngine, spoiled)
    assert got in (restored(feed, fset, ReferenceEngine, spoiled), MalformedEvent)


def test_rule_10_5_a_state_of_something_else_is_refused_alike() -> None:
    feed = Feed(instruments(), SourceInfo("test", *[True] * 4), StreamOptions())
    state = feed.engine(V1, NativeEngine).snapshot(SYMBOLS[0])
    broken = (b"", state[:-3], state[:-8], state + bytes(8), bytes(8) + state[8:], state[:16] + bytes(816))
    for make in (ReferenceEngine, NativeEngine):
        assert restored(feed, V2, make, state) is FeatureSetMismatch
        assert {restored(feed, V1, make, one) for one in broken} == {MalformedEvent}
        with pytest.raises(UnknownSymbol):
            feed.engine(V1, make).restore(99, state)
