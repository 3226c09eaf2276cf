"""Drill: the shadow computes something else, or does not compute at all."""

from __future__ import annotations

import os
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from featureplane import native
from featureplane.cli.app import main
from featureplane.features.shadow import Shadow
from featureplane.services.control import ask_service
from scripts.mutations import Mutation, read_list
from tests.drills.scene import Scene, forms, maker, scene
from tests.drills.stage import prepare_rollout, rollout_scene, told
from tests.services import SAMPLE, Frames, Lines, sample_lines, service
from tests.shadow import WAIT_S, closing, mutated, until

pytestmark = pytest.mark.skipif(not native.available(), reason="a shadow on the other backend needs both")


def coefficient() -> Mutation:
    return next(one for one in read_list() if one.what == "one coefficient" and one.file.endswith(".py"))


def mend(package: Path, mutation: Mutation) -> None:
    """Put back the line that was changed."""
    file = package / Path(mutation.file).relative_to("src")
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(mutation.after, mutation.before), encoding="utf-8")


def again(shadow: Shadow) -> None:
    """End its process: another one begins, with what its package says now."""
    before = shadow.pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(lambda: bool(shadow.pids) and shadow.pids != before)


def compared(stage: Scene, result: str) -> float:
    return stage.value(f'feature_shadow_parity_checks_total{{feature_set="lob_shared_v1",result="{result}"}}')


def test_a_mismatch_is_named_replayed_and_kept_away_from_strategies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, wrong = sample_lines(16_000), coefficient()
    package = mutated(wrong, tmp_path / "changed")
    shadow = Shadow(
        sample_every=16, last_path=tmp_path / "last.json", package=package, recording=[str(SAMPLE)]
    )
    with (
        closing(shadow),
        scene("shadow", tmp_path, capsys, maker(), shadow=shadow, **forms()) as stage,
    ):
        stage.metrics()
        stage.feed(lines[:6_000])
        assert shadow.drain(WAIT_S)
        stage.metrics()
        # The symptom.
        assert compared(stage, "mismatch") > 3
        named = 'feature_shadow_parity_mismatch_total{feature_id="ofi_l1_ema8",feature_set="lob_shared_v1"}'
        assert stage.value(named) > 3
        status = stage.page.ask("shadow status")
        assert status["mismatch"] == compared(stage, "mismatch")
        assert "ofi_l1_ema8" in status["by_name"]
        # What the page says: replay to it. What is installed agrees; it was the other build.
        last = stage.page.ask("shadow last")["last"]
        assert "ofi_l1_ema8" in last["differs"]
        for command in last["replay"]:
            words = shlex.split(command)
            assert words[0] == "featureplane"
            assert main(words[1:]) == 0, command
        # Strategies that read the feature go to the form that does not.
        assert stage.page.ask("strategy list")["strategies"] == {"mm": "shared"}
        stage.page.run("strategy set NAME legacy", NAME="mm")
        before = stage.running.story.decisions["mm", "submit"]
        stage.feed(lines[6_000:9_000])
        assert stage.running.story.decisions["mm", "submit"] > before
        # The recovery: a shadow of the right build.
        assert shadow.drain(WAIT_S)
        mend(package, wrong)
        again(shadow)
        seen = shadow.counts.mismatch
        stage.feed(lines[9_000:])
        assert shadow.drain(WAIT_S)
        stage.metrics(40)
        assert compared(stage, "mismatch") == seen
        assert stage.page.ask("shadow status")["match"] > 20
        stage.alarms("ShadowMismatch")


def test_a_shadow_that_does_not_compare_is_told_of_and_told_to_compare_less(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = sample_lines(20_000)
    package = mutated(coefficient(), tmp_path / "broken")
    init = package / "featureplane" / "__init__.py"
    whole = init.read_text(encoding="utf-8")
    init.write_text("raise SystemExit(7)\n", encoding="utf-8")
    mend(package, coefficient())
    shadow = Shadow(sample_every=4, package=package)
    with closing(shadow), scene("shadow", tmp_path, capsys, shadow=shadow) as stage:
        stage.metrics()
        stage.feed(lines[:6_000])
        until(lambda: shadow.counts.died >= 4)
        stage.metrics(30, grows=30)
        # The symptom: frames are made, nothing is compared, the live ones are what they are.
        assert stage.running.frames > 400
        assert compared(stage, "match") == compared(stage, "mismatch") == 0
        assert compared(stage, "error") > 3
        assert stage.page.ask("shadow status")["died"] >= 4
        # What the page says; the shadow begins again by itself, once what it lacked is there.
        stage.page.run("shadow set --sample-every 1024")
        assert shadow.sample_every == 1_024
        init.write_text(whole, encoding="utf-8")
        until(lambda: bool(shadow.pids) and shadow.counts.outstanding == 0)
        shadow.sample_every = 4
        begun = shadow.counts.match
        at = 6_000
        while shadow.counts.match == begun and at < len(lines):
            stage.feed(lines[at : at + 500])
            shadow.drain(1.0)
            at += 500
        # The recovery.
        stage.feed(lines[at:])
        assert shadow.drain(WAIT_S)
        stage.metrics(60)
        assert compared(stage, "match") > 10
        assert compared(stage, "mismatch") == 0
        stage.alarms("ShadowNotComparing")
        stage.phases[1] = replace(stage.phases[1], grows=2)  # as it is where it dies at once
        stage.alarms("ShadowFailing")


def test_a_candidate_in_the_shadow_is_taken_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_rollout(tmp_path, monkeypatch)
    lines = sample_lines(9_000)
    with rollout_scene("shadow", tmp_path, capsys) as stage:
        stage.feed(lines[:3_000])
        told(stage, "enable")
        told(stage, "shadow", str(tmp_path / "slow.toml"))
        stage.feed(lines[3_000:6_000])
        stage.metrics()
        assert stage.value('feature_rollout_phase{phase="shadow"}') == 1
        assert stage.page.ask("shadow status")["candidate"] == "lob_shared_v1@slow"
        stage.page.run("rollout rollback", NAME="ann")
        stage.feed(lines[6_000:])
        stage.metrics()
        assert stage.value('feature_rollout_phase{phase="active"}') == 1
        assert stage.page.ask("shadow status")["candidate"] is None
        told_last = ask_service(tmp_path / "s.sock", "rollout")["history"][-1]
        assert (told_last["why"], told_last["cause"]) == ("differs in the shadow", "kernel")
        assert stage.running.fset is not None
        assert stage.running.fset.feature_set_id == "lob_shared_v1"


def test_a_shadow_that_stalls_fills_its_queue_and_changes_no_live_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, plain, seen = sample_lines(16_000), Frames(), Frames()
    service(subscribers=[plain]).run(Lines(lines))
    shadow = Shadow(mode="full", sample_every=1, queue_bytes=1 << 17)
    with closing(shadow), scene("shadow", tmp_path, capsys, shadow=shadow, subscribers=[seen]) as stage:
        for at in range(0, 3_000, 100):
            stage.feed(lines[at : at + 100])
            assert shadow.drain(WAIT_S)
        stage.metrics()
        assert compared(stage, "skipped") < 10
        for pid in shadow.pids:
            os.kill(pid, signal.SIGSTOP)
        stage.feed(lines[3_000:9_000])
        stage.metrics()
        # The symptom.
        assert compared(stage, "skipped") > 100
        assert stage.page.ask("shadow status")["skipped"] > 100
        for pid in shadow.pids:
            os.kill(pid, signal.SIGCONT)
        # What the page says: less often. It goes on from a live state.
        stage.page.run("shadow set --sample-every 1024")
        assert shadow.drain(WAIT_S)
        shadow.sample_every = 4
        before = shadow.counts.match
        stage.feed(lines[9_000:10_000])
        assert shadow.drain(WAIT_S)
        for at in range(10_000, 16_000, 500):
            stage.feed(lines[at : at + 500])
            assert shadow.drain(WAIT_S)
        stage.metrics(60)
        assert shadow.counts.match > before + 100
        assert shadow.counts.mismatch == 0
        stage.alarms("ShadowSkipping")
    assert seen.packed == plain.packed
