"""Engines that agree are found to, those that do not are told by name, live bytes stay what they are."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest

import featureplane as fp
from featureplane import native
from featureplane.errors import SettingError, StateError
from featureplane.features import kernels as k
from featureplane.features.shadow import Shadow, ShadowCounts, ShadowMode
from featureplane.market.events import StreamOptions
from featureplane.market.synthetic import Faults
from scripts.mutations import Mutation, read_list
from tests.parity.streams import ODD, TRADES, V1, V2, synthetic
from tests.shadow import WAIT_S, closing, frames, messages, mutated, until

pytestmark = pytest.mark.skipif(not native.available(), reason="a shadow on the other backend needs both")

FAULTS = StreamOptions(on_malformed="drop")
BOTH_WAYS = pytest.mark.parametrize("live", ["rust", "python"])


def due_in(made: list[bytes], every: int) -> int:
    """Frames that the sampling says are compared: every so manieth `seq` of a symbol."""
    return sum(int.from_bytes(frame[16:24], "little") % every == 0 for frame in made)


@BOTH_WAYS
@pytest.mark.parametrize("mode", ["sample", "full"])
@pytest.mark.parametrize("fset", [V2, ODD, TRADES], ids=lambda fset: fset.feature_set_id)
def test_equal_backends_agree_on_every_frame_that_is_due(
    live: str, mode: ShadowMode, fset: fp.FeatureSet
) -> None:
    events = synthetic(6_000, seed=11, symbols=2, faults=Faults(corrupt=10_000), options=FAULTS)
    with closing(Shadow(mode=mode, sample_every=8)) as shadow:
        made = frames(events, fset, live, shadow)
        assert shadow.counts == ShadowCounts(due=due_in(made, 8), match=due_in(made, 8))
        assert shadow.counts.match > 80
    assert made == frames(events, fset, live)


@BOTH_WAYS
def test_the_sample_agrees_and_is_compared_as_often_as_asked(live: str) -> None:
    events = fp.sample_events().part(0, 12_000)
    with closing(Shadow(sample_every=16)) as shadow:
        made = frames(events, V1, live, shadow)
        assert shadow.counts.match == len(made) // 16 > 20
        assert shadow.counts.due == shadow.counts.match


@BOTH_WAYS
def test_frames_that_are_not_put_out_are_compared_too(live: str) -> None:
    events = synthetic(4_000, seed=3)
    computed = frames(events, V1, live)
    engine = fp.FeatureEngine(V1, live, emit="change", every=7)
    with closing(Shadow(sample_every=5)) as shadow:
        engine.watch(shadow)
        for start, stop in messages(events):
            engine.push(events, start, stop)
        assert shadow.drain(WAIT_S)
        assert shadow.counts.match == len(computed) // 5


@BOTH_WAYS
def test_a_pipeline_has_a_shadow_too(live: str) -> None:
    lines = _sample_lines()
    pipeline = fp.Pipeline(V1, "binance-spot", fp.sample_events().instruments, backend=live, live=False)
    with closing(Shadow(sample_every=4)) as shadow:
        pipeline.watch(shadow)
        made = sum(len(pipeline.push(line)) for line in lines)
        assert shadow.drain(WAIT_S)
        assert shadow.counts.match == made // 4 > 50
        pipeline.finish()


@pytest.mark.parametrize("live", ["rust", "python"])
@pytest.mark.parametrize("candidate", [None, V2])
def test_a_shadow_of_a_pipeline_may_begin_in_the_middle(live: str, candidate: fp.FeatureSet | None) -> None:
    lines, instruments = _sample_lines()[:2_500], fp.sample_events().instruments
    plain = fp.Pipeline(V1, "binance-spot", instruments, live=False, backend=live)
    watched = fp.Pipeline(V1, "binance-spot", instruments, live=False, backend=live)
    with closing(Shadow(candidate, sample_every=2)) as shadow:
        due = 0
        for at, line in enumerate(lines):
            if at == 700:
                watched.watch(shadow)
            expected = [frame.pack() for frame in plain.push(line)]
            made = watched.push(line)
            assert [frame.pack() for frame in made] == expected
            due += sum(at >= 700 and frame.seq % 2 == 0 for frame in made)
        assert shadow.drain(WAIT_S)
        counts = shadow.counts
        assert (counts.match, counts.mismatch, counts.skipped, counts.error) == (due, 0, 0, 0)
        assert due > 50
        flags = counts.live_flags
        assert flags == counts.shadow_flags
        assert set(flags) == {str(one.name) for one in fp.Quality}


def _sample_lines() -> list[bytes]:
    import gzip  # noqa: PLC0415 - here alone

    sample = Path(fp.__file__).parent / "sample" / "ethusdt_20240808.gz"
    with gzip.open(sample) as file:
        return [next(file) for _ in range(3_000)]


@BOTH_WAYS
def test_resets_and_reconnects_from_outside_reach_a_full_shadow(live: str) -> None:
    events = synthetic(3_000, seed=21, symbols=2)

    def ask(at: int, engine: fp.FeatureEngine) -> None:
        if at % 500 == 250:
            engine.reset("SYN0")
        if at % 700 == 350:
            engine.reconnect("SYN1")

    with closing(Shadow(mode="full", sample_every=1)) as shadow:
        made = frames(events, V1, live, shadow, between=ask)
        assert shadow.counts == ShadowCounts(due=len(made), match=len(made))


def test_sampling_is_changed_while_it_runs() -> None:
    events = synthetic(4_000, seed=4)
    with closing(Shadow(sample_every=100)) as shadow:

        def ask(at: int, _: fp.FeatureEngine) -> None:
            if at == 1_000:
                shadow.sample_every = 3

        made = frames(events, V1, "rust", shadow, between=ask)
        numbers = [int.from_bytes(frame[16:24], "little") for frame in made]
        before = len(frames(events.part(0, 1_001), V1, "rust"))
        due = sum(n % 3 == 0 for n in numbers if n > before) + sum(
            n % 100 == 0 for n in numbers if n <= before
        )
        assert shadow.counts.match == due > 50
        with pytest.raises(SettingError, match="SAMPLE_EVERY"):
            shadow.sample_every = 0


# -- a candidate set


@pytest.mark.parametrize("backend", ["rust", "python"])
def test_a_candidate_is_compared_on_the_features_that_both_have(backend: str) -> None:
    events = synthetic(4_000, seed=8, symbols=2)
    with closing(Shadow(V2, backend=backend, sample_every=2)) as shadow:
        made = frames(events, V1, "rust", shadow)
        assert shadow.counts == ShadowCounts(due=due_in(made, 2), match=due_in(made, 2))
        assert shadow.left_out(V1) == {}


def test_what_a_candidate_defines_otherwise_is_left_out_and_the_rest_compared() -> None:
    candidate = fp.FeatureSet(
        "candidate",
        features={
            "best_bid": k.best_bid(),
            "ofi_l1_ema8": k.ema(k.ofi(level=1), span=9),
            "ofi_l1_cum": k.cumsum(k.ofi(level=1)),
            "own": k.sum_over(k.signed_qty(), seconds=1),
        },
    )
    shadow = Shadow(candidate, sample_every=1)
    out = shadow.left_out(V1)
    assert "ofi_l1_ema8" in out
    assert "another definition" in out["ofi_l1_ema8"]
    assert set(V1) - set(out) == {"best_bid", "ofi_l1_cum"}
    events = synthetic(2_000, seed=9)
    with closing(shadow):
        made = frames(events, V1, "rust", shadow)
        assert shadow.counts.match == len(made)


def test_frames_that_a_candidate_has_no_step_for_are_skipped() -> None:
    events = synthetic(2_000, seed=9)
    with closing(Shadow(V1, sample_every=1)) as shadow:
        made = frames(events, V2, "rust", shadow)
        counts = shadow.counts
        assert counts.match > 0
        assert counts.skipped > 0
        assert counts.match + counts.skipped == counts.due == len(made)


def test_a_candidate_goes_on_from_a_live_state_after_it_lost_messages() -> None:
    events = synthetic(6_000, seed=10)
    with closing(Shadow(V2, sample_every=1, queue_bytes=1 << 17)) as shadow:
        _stop_for(shadow, events, V1, messages_stopped=700)
        assert shadow.counts.skipped > 100
        assert shadow.counts.match > 80
        assert shadow.counts.mismatch == 0


# -- a shadow that computes something else


def _mutation(what: str) -> Mutation:
    return next(one for one in read_list() if one.what == what and one.file.endswith(".py"))


def test_a_last_bit_is_found_and_names_those_that_are_computed_from_it(tmp_path: Path) -> None:
    one = _mutation("another order of operations")
    events = synthetic(8_000, seed=18)
    with closing(Shadow(sample_every=16, package=mutated(one, tmp_path))) as shadow:
        frames(events, V1, "rust", shadow)
        names = set(shadow.counts.by_name)
    assert names & {"ofi_l1_ema8", "spread_ema8_scaled", "depth_imbalance_ema8_ppm"}
    assert names <= {"ofi_l1_ema8", "spread_ema8_scaled", "depth_imbalance_ema8_ppm", "_changed"}


def test_a_tolerance_lets_floats_differ_and_nothing_else(tmp_path: Path) -> None:
    events = synthetic(4_000, seed=18)
    order = mutated(_mutation("another order of operations"), tmp_path / "order")
    with closing(Shadow(sample_every=4, abs_tol=1e-3, package=order)) as shadow:
        frames(events, V1, "rust", shadow)
        assert shadow.counts.mismatch == 0
        assert shadow.counts.match > 200
    floor = mutated(_mutation("floor instead of half-even"), tmp_path / "floor")
    with closing(Shadow(sample_every=4, abs_tol=1e6, package=floor)) as shadow:
        frames(events, V1, "rust", shadow)
        assert set(shadow.counts.by_name) <= {"microprice_x2", "_changed"}
        assert shadow.counts.mismatch > 0


def test_one_line_is_logged_for_so_many_mismatches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = synthetic(6_000, seed=19)
    package = mutated(_mutation("one coefficient"), tmp_path)
    with (
        closing(Shadow(sample_every=4, warn_every=50, package=package)) as shadow,
        caplog.at_level(logging.WARNING, "featureplane.shadow"),
    ):
        frames(events, V1, "rust", shadow)
        shadow.close()
        mismatches = shadow.counts.mismatch
    lines = [record for record in caplog.records if "differ in the shadow" in record.getMessage()]
    assert mismatches > 100
    assert 1 <= len(lines) <= -(-mismatches // 50)


# -- a shadow that stalls, raises or dies


def _stop_for(
    shadow: Shadow,
    events: fp.EventBatch,
    fset: fp.FeatureSet,
    *,
    messages_stopped: int,
    backend: str = "rust",
) -> list[bytes]:
    """Stop the shadow's process for the first messages, then let it go on."""

    def between(at: int, _: fp.FeatureEngine) -> None:
        if at == 20:
            assert shadow.drain(WAIT_S)
            for pid in shadow.pids:
                os.kill(pid, signal.SIGSTOP)
        if at == messages_stopped:
            for pid in shadow.pids:
                os.kill(pid, signal.SIGCONT)
            assert shadow.drain(WAIT_S)
        if at > messages_stopped and at % 20 == 0:
            assert shadow.drain(WAIT_S)

    made = frames(events, fset, backend, shadow, drain_every=0, between=between)
    assert shadow.drain(WAIT_S)
    return made


@BOTH_WAYS
@pytest.mark.parametrize("mode", ["sample", "full"])
def test_a_full_queue_skips_and_goes_on_from_a_live_state(live: str, mode: ShadowMode) -> None:
    events = synthetic(6_000, seed=12, symbols=2)
    plain = frames(events, V1, live)
    with closing(Shadow(mode=mode, sample_every=1, queue_bytes=1 << 17)) as shadow:
        assert _stop_for(shadow, events, V1, messages_stopped=700, backend=live) == plain
        counts = shadow.counts
    assert counts.skipped > 100
    assert counts.match > 100
    assert counts == ShadowCounts(due=len(plain), match=len(plain) - counts.skipped, skipped=counts.skipped)


@BOTH_WAYS
@pytest.mark.parametrize("mode", ["sample", "full"])
def test_a_killed_shadow_is_counted_and_starts_again(live: str, mode: ShadowMode) -> None:
    events = synthetic(6_000, seed=13, symbols=2)
    plain = frames(events, V1, live)
    with closing(Shadow(mode=mode, sample_every=2)) as shadow:

        def kill(at: int, _: fp.FeatureEngine) -> None:
            if at in {500, 1_500}:
                until(lambda: bool(shadow.pids))
                for pid in shadow.pids:
                    os.kill(pid, signal.SIGKILL)

        assert frames(events, V1, live, shadow, drain_every=100, between=kill) == plain
        counts = shadow.counts
    assert counts.died == 2
    assert counts.error >= 2
    assert counts.mismatch == 0
    assert counts.match > 100
    assert counts.outstanding == 0
    assert counts.due == due_in(plain, 2)


def test_an_interrupt_is_for_the_live_process() -> None:
    events = synthetic(1_500, seed=20)

    def interrupt(at: int, _: fp.FeatureEngine) -> None:
        if at == 200:
            assert len(shadow.pids) == 1
            os.kill(shadow.pids[0], signal.SIGINT)

    with closing(Shadow(sample_every=2)) as shadow:
        made = frames(events, V1, "rust", shadow, between=interrupt)
        assert shadow.counts == ShadowCounts(due=len(made) // 2, match=len(made) // 2)


def test_a_shadow_that_raises_is_counted_and_goes_on(tmp_path: Path) -> None:
    source = "src/featureplane/features/kernels/flow.py"
    before = "ask_taken = before.ask_qty if now.ask >= before.ask else 0"
    raising = Mutation("raises", source, before, "ask_taken = before.ask_qty // (now.ask % 5)")
    events = synthetic(4_000, seed=14)
    plain = frames(events, V1, "rust")
    with closing(Shadow(sample_every=4, package=mutated(raising, tmp_path))) as shadow:
        assert frames(events, V1, "rust", shadow) == plain
        counts = shadow.counts
    assert counts.error > 20
    assert counts.died == 0
    assert counts.outstanding == 0


def test_a_shadow_that_does_not_start_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "featureplane").mkdir()
    (tmp_path / "featureplane" / "__init__.py").write_text("raise SystemExit(7)\n")
    events = synthetic(2_000, seed=15)
    with closing(Shadow(sample_every=4, package=tmp_path)) as shadow:
        assert frames(events, V1, "rust", shadow, drain_every=0) == frames(events, V1, "rust")
        until(lambda: shadow.counts.died >= 2)
        assert shadow.counts.compared == 0


# -- what is refused, and what is left behind


def test_the_same_set_on_the_same_backend_is_refused() -> None:
    with pytest.raises(SettingError, match="beside rust"):
        fp.FeatureEngine(V1, "rust").watch(Shadow(backend="rust"))
    with pytest.raises(SettingError, match="beside python"):
        fp.FeatureEngine(V1, "python").watch(Shadow(backend="python"))
    with pytest.raises(SettingError, match="mode"):
        Shadow(mode="some")  # type: ignore[arg-type] # what is tested


def test_a_stream_that_has_begun_gets_no_shadow() -> None:
    events = synthetic(100, seed=1)
    engine = fp.FeatureEngine(V1, "rust")
    engine.push(events, 0, int(events.message_ends[0]))
    with pytest.raises(StateError):
        engine.watch(Shadow())


def test_nothing_is_left_behind() -> None:
    events = synthetic(500, seed=16)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        shadow = Shadow(sample_every=8)
        frames(events, V1, "rust", shadow)
        pids = shadow.pids
        shadow.close()
        assert shadow.pids == ()
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert shadow.counts.match == shadow.counts.due > 0
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
