"""Drill: what is taken back, in which order, and a rollout whose file cannot be read or written."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from featureplane import native
from featureplane.cli.app import main
from featureplane.services.configuration import ServiceConfiguration
from featureplane.services.preparation import problems
from featureplane.settings import read_settings
from tests.drills.page import Page
from tests.drills.stage import ANN, FORMS, prepare_rollout, rollout_scene, told
from tests.services import INSTRUMENTS, SAMPLE, sample_lines

pytestmark = pytest.mark.skipif(not native.available(), reason="shadows of two backends need both")


def promote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A candidate that is good by every criterion, from the shadow to everybody, by commands alone."""
    words = ["--data", str(SAMPLE), "--source", "binance-spot", "--instruments", str(INSTRUMENTS)]
    run = ["run", "--source", f"replay:{SAMPLE}", "--feed", "binance-spot", "--control", "off"]
    run += ["--instruments", str(INSTRUMENTS), "--strategy", f"mm={FORMS}"]
    no_service = ["--control", str(folder / "none.sock")]
    for begin in (["enable", "lob_shared_v1"], ["shadow", "slow.toml"]):
        assert main(["rollout", *begin, *ANN, *no_service]) == 0
    assert main(run) == 0
    assert main(["rollout", "canary", "--strategy", "mm", *ANN, *no_service]) == 0
    assert main(run) == 0
    capsys.readouterr()
    assert main(["backtest", FORMS, "--ab", "--json", *words, "--features", "slow.toml"]) == 0
    Path("ab.json").write_text(capsys.readouterr().out, encoding="utf-8")
    assert main(["rollout", "promote", "--ab", "mm=ab.json", *ANN, *no_service]) == 0


def test_strategies_first_then_the_newest_version_then_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare_rollout(tmp_path, monkeypatch)
    promote(tmp_path, capsys)
    lines = sample_lines(20_000)
    with rollout_scene("rollback-order", tmp_path, capsys, None) as stage:
        stage.feed(lines[:4_000])
        stage.metrics()
        answer = stage.page.ask("rollout status")
        assert (answer["phase"], answer["active"]["feature_set_id"]) == ("active", "lob_shared_v1@slow")
        # 1. A strategy misbehaves: it goes off.
        stage.page.run("strategy set NAME off", NAME="mm")
        assert not stage.running.runner.states["mm"].desk.working
        # 2. The version that was promoted last.
        stage.page.run("rollout rollback", NAME="ann", TEXT="spreads are off")
        stage.feed(lines[4_000:8_000])
        stage.metrics()
        assert stage.value('feature_rollout_rollback_total{cause="kernel"}') == 1
        answer = stage.page.ask("rollout status")
        assert answer["active"]["feature_set_id"] == "lob_shared_v1"
        last = answer["history"][-1]
        assert (last["by"], last["why"], last["before"]) == ("ann", "spreads are off", "active")
        assert stage.readyz()[0] == 200
        assert stage.running.forms() == {"mm": "off", "other": "shared"}
        # 3. Once more: there is none left, and never the one that was rolled back.
        again = [one for one in stage.page.commands if "the one before is bad too" in one]
        assert len(again) == 1
        more = ["--by", "ann", "--why", "the one before is bad too", "--cause", "kernel"]
        assert main(["rollout", "rollback", *more, "--control", str(stage.page.control)]) == 0
        stage.feed(lines[8_000:12_000])
        answer = stage.page.ask("rollout status")
        assert (answer["phase"], answer["active"]) == ("disabled", None)
        assert len(answer["bad"]) == 2
        assert stage.running.forms() == {"mm": "off", "other": "legacy"}
        stage.metrics(90)
        stage.alarms("RolloutRolledBack")


def test_a_state_that_cannot_be_read_or_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, lines = prepare_rollout(tmp_path, monkeypatch), sample_lines(10_000)
    with rollout_scene("rollback-order", tmp_path, capsys) as stage:
        stage.feed(lines[:3_000])
        told(stage, "enable")
        told(stage, "shadow", str(tmp_path / "slow.toml"))
        stage.metrics()
        # Unwritable: the rollout freezes, the service goes on, the command fails and says so.
        aside = state.parent.with_name("aside")
        shutil.move(state.parent, aside)
        state.parent.write_text("in the way", encoding="utf-8")
        frames = stage.running.frames
        stage.page.refuse("rollout rollback", NAME="ann", TEXT="a drill")
        time.sleep(1.1)  # the file is looked at once a second
        stage.feed(lines[3_000:7_000])
        assert stage.running.frames > frames
        stage.metrics()
        assert stage.value("feature_rollout_frozen") == 1
        # Room is made, and the command repeated.
        state.parent.unlink()
        shutil.move(aside, state.parent)
        stage.page.run("rollout rollback", NAME="ann", TEXT="a drill")
        time.sleep(1.1)
        stage.feed(lines[7_000:])
        stage.metrics(40)
        assert stage.value("feature_rollout_frozen") == 0
        assert stage.page.ask("rollout status")["phase"] == "active"
        stage.alarms("RolloutFrozen")
    # Corrupt: the service does not start, until the last whole copy is put back, or it is moved away.
    copy = state.read_bytes()
    asked = ServiceConfiguration(
        source=f"replay:{SAMPLE}",
        feed="binance-spot",
        instruments=str(INSTRUMENTS),
        features="lob_shared_v1",
        settings=read_settings(),
    )
    assert problems(asked) == []
    state.write_bytes(copy[: len(copy) // 2])
    (refused,) = problems(asked)
    assert str(state) in str(refused)
    page = Page("rollback-order", capsys, tmp_path / "none.sock")
    page.refuse("rollout status")
    state.write_bytes(copy)
    assert problems(asked) == []
    assert page.ask("rollout status")["phase"] == "active"
    state.unlink()
    assert problems(asked) == []
    assert page.ask("rollout status")["phase"] == "disabled"
