"""Two feature sets in one service: who consumes which, from when on, and that one cannot hurt the other."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial
from typing import Any

import pytest

import featureplane as fp
from featureplane import native
from featureplane.errors import NotReady, StateError, UnknownStrategy, UnknownSymbol
from featureplane.features.frame import FrameLayout
from featureplane.features.profiles import profile_of
from featureplane.market.quality import Quality
from featureplane.strategy.examples.market_maker import LegacyMarketMaker, SharedMarketMaker
from featureplane.strategy.examples.ofi_taker import SharedOfiTaker
from tests.binance_render import instruments
from tests.services import SYMBOL, V1, sample_lines, service
from tests.versions import FASTER, V2, Both, Everything, Scribe, accidents, made_up, play

BACKENDS = ("rust", "python") if native.available() else ("python",)
EACH_BACKEND = pytest.mark.parametrize("backend", BACKENDS)
A, B = (one.symbol for one in instruments(2))


def lines(backend: str, most: int = 6_000) -> list[Any]:
    """The sample, a part of it for the slow reference."""
    return [(line, None, None) for line in sample_lines(most if backend == "rust" else most // 4)]


def alone(fset: fp.FeatureSet, items: list[Any], backend: str, *, make: Any = service) -> tuple[Scribe, Both]:
    """What one strategy hears in a service that only runs that set, and the frames of it."""
    scribe, frames = Scribe("alone"), Both()
    play(make(scribe, fset=fset, backend=backend, subscribers=[frames]), items)
    return scribe, frames


@EACH_BACKEND
def test_each_strategy_consumes_its_set_as_if_there_were_no_other(backend: str) -> None:
    """Begun with the stream, both are byte for byte what services of one set make of it."""
    items = lines(backend)
    stays, goes, frames = Scribe("stays"), Scribe("goes"), Both()
    running = service(stays, goes, backend=backend, subscribers=[frames])
    running.rollout.begin_candidate(V2)
    running.rollout.set_canary((), ["goes"])
    play(running, items)
    (first, first_frames), (second, second_frames) = alone(V1, items, backend), alone(V2, items, backend)
    assert stays.heard == first.heard
    assert goes.heard == second.heard
    assert frames.packed == first_frames.packed
    assert frames.candidates == second_frames.packed
    assert len(goes.heard) > len(stays.heard) > 300


@EACH_BACKEND
@pytest.mark.parametrize("seed", range(2))
def test_accidents_reach_both_sets_alike(seed: int, backend: str) -> None:
    """Two symbols, one of which is consumed of the candidate; gaps, reconnects and damaged messages."""
    items = accidents(seed, 16_000 if backend == "rust" else 2_500)
    stays, goes = Scribe("stays"), Scribe("goes")
    running = made_up(stays, goes, backend=backend)
    running.rollout.begin_candidate(V2)
    running.rollout.set_canary([B], ["goes"])
    play(running, items)
    (first, _), (second, _) = (alone(one, items, backend, make=made_up) for one in (V1, V2))
    assert stays.heard == first.heard
    assert goes.of(A) == first.of(A)
    assert goes.of(B) == second.of(B)
    said = Counter(one[0] for one in goes.of(B))
    assert min(said[what] for what in ("tick", "book", "frame")) > 50, said
    assert said["gap"]
    assert running.reconnects
    assert goes.of(B) != first.of(B)


def test_a_book_that_stays_crossed_is_broken_for_each_set_at_its_own_step() -> None:
    """Books and venue follow the active set; frames and gaps of a candidate are its own."""
    items = accidents(7, 60_000, crossed=2_000)
    stays, goes = Scribe("stays"), Scribe("goes")
    running = made_up(stays, goes)
    running.rollout.begin_candidate(V2)
    running.rollout.set_canary((), ["goes"])
    play(running, items)
    (first, _), (second, _) = (alone(one, items, "rust", make=made_up) for one in (V1, V2))
    assert stays.heard == first.heard

    def told(scribe: Scribe, *what: str) -> list[Any]:
        return [one for one in scribe.heard if one[0] in what]

    assert told(goes, "tick", "gap", "frame") == told(second, "tick", "gap", "frame")
    assert told(first, "gap") != told(second, "gap"), "or this shows nothing"


@EACH_BACKEND
def test_a_candidate_begun_on_the_way_goes_on_with_what_both_compute(backend: str) -> None:
    items = lines(backend)
    begun, canary = len(items) // 4, len(items) // 2
    scribe, frames = Scribe("one"), Both()
    running = service(scribe, backend=backend, subscribers=[frames])
    handed: list[int] = []

    def consume() -> None:
        handed.append(len(scribe.heard))
        running.rollout.set_canary([SYMBOL], ["one"])

    play(running, items, {begun: lambda: running.rollout.begin_candidate(V2), canary: consume})
    (old, _), (_, whole) = alone(V1, items, backend), alone(V2, items, backend)
    assert scribe.heard[: handed[0]] == old.heard[: handed[0]]
    assert running.rollout.about()["consuming"] == [f"one {SYMBOL}"]
    ours = [unpacked(frame, V2) for frame in frames.candidates]
    theirs = [unpacked(frame, V2) for frame in whole.packed[-len(ours) :]]
    young = 0
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.flags, mine.source_ts_ns) == (other.flags, other.source_ts_ns)
        for feature_id in V1:
            assert mine[feature_id] == other[feature_id], "what both compute has the same bits at once"
        young += mine.ready != other.ready
        assert not mine.ready & ~other.ready, "nothing is ready before its time"
    assert 0 < young < len(ours)
    consumed = {one[2] for one in scribe.heard[handed[0] :] if one[0] == "frame"}
    assert consumed <= set(frames.candidates) | set(frames.packed)
    assert consumed & set(frames.candidates)


def unpacked(packed: bytes, fset: fp.FeatureSet) -> fp.FeatureFrame:
    return fp.FeatureFrame.unpack(packed, FrameLayout.of(fset, {}))


def test_who_waits_is_said_and_consumes_the_active_set_until_then() -> None:
    """A profile's own feature has to warm up first; a strategy waits for what it has handles to."""

    class Slow(Scribe):
        pulled = ("best_bid", "ofi_l1_ema8")

    class Quick(Scribe):
        pulled = ("best_bid",)

    slow, quick = Slow("slow"), Quick("quick")
    running = service(slow, quick)
    items = lines("rust", 3_000)
    for number, (line, _, _) in enumerate(items):
        if number == 2_000:
            running.rollout.begin_candidate(FASTER)
            running.rollout.set_canary((), ["slow", "quick"])
            before = len(slow.heard)
            assert running.rollout.about()["consuming"] == []
            assert set(running.rollout.about()["waiting"]) == {f"slow {SYMBOL}", f"quick {SYMBOL}"}
        running.take(line)
    assert running.rollout.about()["waiting"] == {}
    sets = [
        unpacked(one[2], V1 if one[2][40:48] == V1_PREFIX else FASTER).feature_set_id
        for one in slow.heard[before:]
        if one[0] == "frame"
    ]
    first = sets.index(FASTER.feature_set_id)
    assert set(sets[:first]) == {"lob_shared_v1"}
    assert set(sets[first:]) == {FASTER.feature_set_id}
    assert 4 <= first <= 12, "five flows have to come"
    assert all(one[3][1] is not None for one in slow.heard[before:]), "no feature was lost by the change"
    running.finish()


V1_PREFIX = bytes.fromhex(V1.fingerprint)[:8]


@EACH_BACKEND
def test_the_way_there_and_back_and_on(backend: str) -> None:
    """Canary, back, canary, promotion, back to the old set: values are never those of another set."""
    items = lines(backend, 4_800)
    at = [len(items) * part // 6 for part in range(1, 6)]
    scribe, frames, messages = Scribe("one"), Both(), list[int]()
    running = service(scribe, backend=backend, subscribers=[frames])
    rollout = running.rollout

    def begin() -> None:
        rollout.begin_candidate(FASTER)
        rollout.set_canary((), ["one"])

    def promote() -> None:
        assert rollout.promote() is V1
        assert scribe.ctx.get_feature_set_id() == FASTER.feature_set_id
        assert running.fset is FASTER

    def back() -> None:
        assert rollout.activate(V1).feature_set_id == FASTER.feature_set_id
        with pytest.raises(NotReady):
            scribe.doors[SYMBOL][0]()
        assert scribe.read(SYMBOL, "best_bid", default=None) is None

    steps: dict[int, Any] = {at[0]: begin, at[1]: rollout.withdraw, at[2]: begin, at[3]: promote, at[4]: back}
    play(running, items, steps)
    old, new = alone(V1, items, backend)[0], alone(FASTER, items, backend)[0]
    assert [one[:2] for one in scribe.heard] == [one[:2] for one in old.heard]
    sets = Counter[str]()
    for mine, first, second in zip(scribe.heard, old.heard, new.heard, strict=True):
        if mine[0] != "frame":
            continue
        fset = V1 if mine[2][40:48] == V1_PREFIX else FASTER
        messages.append(fset is V1)
        frame = unpacked(mine[2], fset)
        sets[fset.feature_set_id] += 1
        there = unpacked((first if fset is V1 else second)[2], fset)
        same = [one for one in fset if one != "ofi_l1_ema8"]
        assert [frame[one] for one in same] == [there[one] for one in same]
        assert mine[3][0] in {frame["best_bid"], None}
    assert min(sets.values()) > 50, sets
    assert sum(a != b for a, b in itertools.pairwise(messages)) == 4
    assert running.frames == len(frames.packed)
    updates = rollout.updates()
    assert sum(updates[one]["emitted"] for one in updates) >= running.frames
    assert updates["lob_shared_v1"]["emitted"] + updates[FASTER.feature_set_id]["emitted"] > running.frames


@EACH_BACKEND
@pytest.mark.parametrize("error", [ZeroDivisionError("kernel"), type("Panic", (BaseException,), {})("panic")])
def test_a_candidate_that_raises_is_gone_before_anybody_sees_it(
    backend: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = lines(backend, 4_000)
    stays, goes, told = Scribe("stays"), Scribe("goes"), list[str]()
    running = service(stays, goes, backend=backend, settings=None)
    running.rollout.on_lost = told.append
    dies_at = len(items) // 2

    def die() -> None:
        candidate = running.runner.candidate
        assert candidate is not None
        assert running.runner.consuming

        def push(*_: object) -> Any:
            raise error

        monkeypatch.setattr(candidate.pipeline, "push", push)

    running.rollout.begin_candidate(FASTER)
    running.rollout.set_canary((), ["goes"])
    play(running, items, {dies_at: die})
    old, new = alone(V1, items, backend)[0], alone(FASTER, items, backend)[0]
    assert stays.heard == old.heard
    cut = sum(1 for one in goes.heard if one[0] == "frame" and one[2][40:48] != V1_PREFIX)
    assert cut > 20
    at = next(i for i, one in enumerate(goes.heard) if one != new.heard[i])
    assert goes.heard[at:] == old.heard[at:], "this very message is the active set's"
    assert len(told) == running.rollout.lost == 1
    assert FASTER.feature_set_id in told[0]
    assert str(error) in told[0]
    assert running.rollout.about()["candidate"] is None
    assert running.errors == 0


UNREAD = profile_of(V1, "unread", {"depth_imbalance_ppm": {"levels": 4}})


class Pinned(Scribe):
    """Takes one set alone, by its fingerprint."""

    required_features = V1.fingerprint


class Wide(Scribe):
    """Reads what only the larger set has."""

    pulled = ("best_bid", "vpin50_ppm")
    required_features = ("lob_shared_v2", "lob_shared_v1")


def test_who_does_not_accept_a_candidate_is_named_and_nothing_changes() -> None:
    running = service(
        SharedMarketMaker("maker"), LegacyMarketMaker("legacy"), Pinned("pinned"), Scribe("any")
    )
    rollout = running.rollout
    for call in (rollout.promote, lambda: rollout.set_canary((), ["maker"])):
        with pytest.raises(StateError, match="no candidate"):
            call()
    with pytest.raises(StateError, match="is the active set"):
        rollout.begin_candidate(V1)
    rollout.begin_candidate(V2)
    with pytest.raises(StateError, match="there is a candidate"):
        rollout.begin_candidate(FASTER)
    for name, why in (
        ("maker", "maker does not accept lob_shared_v2"),
        ("pinned", "pinned does not accept lob_shared_v2"),
        ("legacy", "legacy reads no features"),
    ):
        with pytest.raises(StateError, match=why):
            rollout.set_canary((), ["any", name])
    with pytest.raises(UnknownStrategy, match="nobody"):
        rollout.set_canary((), ["nobody"])
    with pytest.raises(UnknownSymbol, match="NONE"):
        rollout.set_canary(["NONE"], ["any"])
    assert running.runner.wanted == frozenset()
    with pytest.raises(StateError, match="maker does not accept lob_shared_v2"):
        rollout.promote()
    with pytest.raises(StateError, match="maker does not accept lob_shared_v2"):
        rollout.activate(V2)
    rollout.set_canary((), ["any"])
    assert rollout.withdraw() is V2
    assert rollout.withdraw() is None
    rollout.begin_candidate(FASTER)
    rollout.set_canary((), ["any", "maker"])
    with pytest.raises(StateError, match="pinned does not accept lob_shared_v1@faster"):
        rollout.promote()
    running.finish()


def test_a_handle_to_what_the_candidate_does_not_have_refuses_it_by_name() -> None:
    running = service(Wide("wide"), fset=V2)
    running.rollout.begin_candidate(V1)
    with pytest.raises(StateError, match="wide reads vpin50_ppm, which lob_shared_v1 does not have"):
        running.rollout.set_canary((), ["wide"])
    running.finish()


@pytest.mark.parametrize("make", [SharedMarketMaker, SharedOfiTaker])
def test_orders_are_the_strategys_own_whatever_it_consumes(make: Any) -> None:
    """A candidate that differs in what nobody reads changes no decision, order or position on its way."""
    told = []
    items = lines("rust", 12_000)
    for switches in (False, True):
        listener = Everything()
        running = service(make("one"), story=listener)

        def begin(running: Any = running) -> None:
            running.rollout.begin_candidate(UNREAD)
            running.rollout.set_canary((), ["one"])

        steps: dict[int, Any] = {
            2_000: begin,
            4_000: running.rollout.withdraw,
            5_000: begin,
            8_000: running.rollout.promote,
            10_000: partial(running.rollout.activate, V1),
        }
        play(running, items, steps if switches else None)
        told.append((listener.said, dict(running.runner.states["one"].desk.positions)))
    assert len(told[0][0]) > 20
    assert told[0] == told[1]


OWN_FLAGS = Quality.PARTIAL_FEATURES | Quality.STALE_INPUT
"""Of what is warm, and of delays over a set's own steps: the active set has others."""


@pytest.mark.parametrize("seed", range(4))
def test_a_candidate_goes_on_from_whatever_state_the_stream_is_in(seed: int) -> None:
    """Books that wait, are broken, or buffer: from there on what both sets compute is what it would be."""
    items = accidents(seed, 12_000, crossed=500)
    whole = Both()
    play(made_up(fset=V2, subscribers=[whole]), items)
    begins = list(range(200 + 97 * seed, len(items), len(items) // 8))
    seen = Both()
    running = made_up(subscribers=[seen])
    compared, broken, unlike = 0, list[bool](), 0

    def begin() -> None:
        running.rollout.withdraw()
        running.rollout.begin_candidate(V2)
        broken.append(not all(running.runner.is_whole(one) for one in (A, B)))

    play(running, items, dict.fromkeys(begins, begin))
    by_place = {}
    for packed in whole.packed:
        frame = unpacked(packed, V2)
        by_place[frame.symbol_id, frame.local_ts_ns, frame.source_ts_ns, frame.source_seq] = frame
    for packed in seen.candidates:
        mine = unpacked(packed, V2)
        other = by_place[mine.symbol_id, mine.local_ts_ns, mine.source_ts_ns, mine.source_seq]
        assert {one: mine[one] for one in V1} == {one: other[one] for one in V1}
        assert not mine.ready & ~other.ready
        unlike += (mine.flags ^ other.flags) & ~OWN_FLAGS != 0
        compared += 1
    assert compared > 1_000
    assert any(broken)
    # WHY some: what waits for the active set's next frame is told with the candidate's first one.
    assert unlike <= 2 * len(begins)


def test_without_a_candidate_messages_go_the_short_way() -> None:
    running = service(Scribe("one"))
    rollout, runner = running.rollout, running.runner
    assert "_dispatch" not in vars(runner)
    assert running._push == runner.push
    rollout.begin_candidate(FASTER)
    assert "_dispatch" in vars(runner)
    assert running._push != runner.push
    rollout.withdraw()
    assert "_dispatch" not in vars(runner)
    assert running._push == runner.push
    rollout.begin_candidate(FASTER)
    rollout.promote()
    assert "_dispatch" not in vars(runner)
    assert running._push == runner.push
    running.finish()
