"""Drill: a canary that is called back by itself, and one that a person takes back."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from featureplane import native
from featureplane.cli.app import main
from tests.drills.scene import Scene
from tests.drills.stage import ANN, prepare_rollout, rollout_scene, told
from tests.services import sample_lines

pytestmark = pytest.mark.skipif(not native.available(), reason="shadows of two backends need both")

CHECKED = 'feature_shadow_parity_checks_total{feature_set="lob_shared_v1",result="match"}'
DAY = 24 * 60  # minutes


def begin(stage: Scene, candidate: Path, lines: list[bytes]) -> None:
    """From nothing to a canary of one strategy."""
    stage.feed(lines[:3_000])
    told(stage, "enable")
    told(stage, "shadow", str(candidate))
    stage.feed(lines[3_000:6_000])
    told(stage, "canary", "--strategy", "mm")


def series_of(text: str, name: str) -> float:
    """The value of a series in an exposition."""
    (line,) = [one for one in text.splitlines() if one.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


def recovered(stage: Scene, said: int) -> None:
    """What the page says it is over by."""
    answer = stage.page.ask("rollout status")
    assert (answer["phase"], answer["candidate"]) == ("active", None)
    assert answer["active"]["feature_set_id"] == "lob_shared_v1"
    infos = [line for line in stage.phases[-1].text.splitlines() if line.startswith("feature_set_info{")]
    standing = [line for line in infos if line.endswith(" 1.0")]
    assert len(standing) == 1
    assert 'feature_set="lob_shared_v1"' in standing[0]
    assert stage.value('feature_rollout_phase{phase="canary"}') == 0
    assert stage.running.story.decisions["mm", "submit"] > said, "it goes on, on the active version"


def test_a_candidate_that_decides_otherwise_is_called_back_by_itself(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepare_rollout(tmp_path, monkeypatch)
    lines = sample_lines(30_000)
    with rollout_scene("canary", tmp_path, capsys) as stage:
        begin(stage, tmp_path / "hasty.toml", lines)
        stage.metrics()
        assert stage.value('feature_rollout_phase{phase="canary"}') == 1
        stage.feed(lines[6_000:16_000])
        stage.metrics()
        # The symptom.
        assert (
            sum(
                float(line.rpartition(" ")[2])
                for line in stage.phases[-1].text.splitlines()
                if line.startswith("feature_rollout_rollback_total{")
            )
            == 1
        )
        (said,) = [one for one in caplog.records if one.message == "the canary was called back"]
        assert "decision" in said.__dict__["fields"]["why"]
        # What the page says to look at.
        answer = stage.page.ask("rollout status")
        assert [one["action"] for one in answer["history"]] == ["enable", "shadow", "canary", "rollback"]
        assert answer["history"][-1]["by"] == "featureplane"
        assert stage.page.look("shadow last")
        assert set(stage.page.ask("strategy list")["strategies"]) == {"mm", "other"}
        # It is over by itself.
        before = stage.running.story.decisions["mm", "submit"]
        stage.feed(lines[16_000:])
        stage.metrics(90)
        recovered(stage, before)
        stage.alarms("RolloutRolledBack")


def test_a_person_takes_a_canary_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_rollout(tmp_path, monkeypatch)
    lines = sample_lines(20_000)
    given = {"NAME": "ann", "TEXT": "spreads look odd"}
    with rollout_scene("canary", tmp_path, capsys) as stage:
        stage.metrics()
        begin(stage, tmp_path / "slow.toml", lines)
        stage.feed(lines[6_000:12_000])
        stage.metrics(DAY + 10)
        assert stage.value('feature_rollout_phase{phase="canary"}') == 1
        assert stage.page.ask("rollout status")["candidate"]["feature_set_id"] == "lob_shared_v1@slow"
        # What the page says, and its effect.
        before = stage.running.story.decisions["mm", "submit"]
        stage.page.run("rollout rollback", **given)
        stage.feed(lines[12_000:])
        stage.metrics()
        recovered(stage, before)
        stage.alarms("RolloutLeftInCanary")
        last = stage.page.ask("rollout status")["history"][-1]
        assert (last["by"], last["why"], last["cause"]) == ("ann", "spreads look odd", "kernel")
    # If the service does not answer, the state file is changed, and the next start follows it.
    stage.page.control = tmp_path / "none.sock"
    told(stage, "shadow", str(tmp_path / "hasty.toml"))
    assert "no service runs here" in stage.page.run("rollout rollback", **given)
    with rollout_scene("canary", tmp_path, capsys) as stage:
        stage.feed(lines[:2_000])
        answer = stage.page.ask("rollout status")
        assert (answer["phase"], answer["candidate"]) == ("active", None)
        assert len(answer["bad"]) == 2


def test_a_candidate_that_is_compared_with_nothing_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_rollout(tmp_path, monkeypatch)
    lines, slow = sample_lines(9_000), str(tmp_path / "slow.toml")
    for words in (["enable", "lob_shared_v1"], ["shadow", slow]):
        assert main(["rollout", *words, *ANN, "--control", str(tmp_path / "none.sock")]) == 0
    monkeypatch.setenv("HFT_FEATURE_SHADOW_PARITY", "0")
    with rollout_scene("canary", tmp_path, capsys) as stage:
        stage.metrics(20)
        stage.feed(lines[:6_000])
        stage.metrics(50)
        assert stage.value('feature_rollout_phase{phase="shadow"}') == 1
        missing = [one["name"] for one in stage.page.ask("rollout status")["criteria"] if not one["reached"]]
        assert "shadow" in missing
        stage.page.run("rollout rollback", NAME="ann", TEXT="nothing compares it")
    # What the page says: the shadow is switched on; then it is compared.
    monkeypatch.setenv("HFT_FEATURE_SHADOW_PARITY", "1")
    phases = stage.phases
    with rollout_scene("canary", tmp_path, capsys) as stage:
        stage.feed(lines[:3_000])
        told(stage, "shadow", str(tmp_path / "hasty.toml"))
        stage.feed(lines[3_000:])
        assert stage.running.shadow is not None
        assert stage.running.shadow.drain(60)
        stage.metrics(60, grows=60)
        stage.phases = [*phases, *stage.phases]
        assert stage.page.ask("rollout status")["evidence"]["compared"] > 50
        stage.alarms("RolloutNotComparing")


def test_a_candidate_that_cannot_be_loaded_is_told_of_though_the_other_backend_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = prepare_rollout(tmp_path, monkeypatch)
    lines, slow = sample_lines(12_000), tmp_path / "slow.toml"
    with rollout_scene("canary", tmp_path, capsys) as stage:
        stage.feed(lines[:3_000])
        told(stage, "enable")
        assert stage.running.shadow is not None
        assert stage.running.shadow.drain(60)
        stage.metrics(20)
        # Asked past the service, which finds another file when it looks.
        assert main(["rollout", "shadow", str(slow), *ANN, "--control", str(tmp_path / "none.sock")]) == 0
        slow.write_text(slow.read_text(encoding="utf-8").replace("16", "20"), encoding="utf-8")
        shutil.rmtree(state.with_suffix(".versions"))  # what was kept of it, too
        for at in range(3_000, 12_000, 500):
            stage.feed(lines[at : at + 500])
            if stage.page.ask("rollout status")["phase"] == "shadow":
                break
            time.sleep(0.3)  # it looks once a second
        assert stage.running.shadow.drain(60)
        stage.metrics(70, grows=70)
        assert stage.value('feature_rollout_phase{phase="shadow"}') == 1
        first, second = (series_of(one.text, CHECKED) for one in stage.phases)
        assert 0 < first < second
        assert stage.page.ask("rollout status")["service"]["trouble"]
        stage.page.run("rollout rollback", NAME="ann", TEXT="its file is another one")
        stage.metrics(60)
        stage.alarms("RolloutNotComparing")
