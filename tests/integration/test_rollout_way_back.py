"""A rollout whose files are gone, edited or elsewhere: the way back is there, or it is said why not."""

from __future__ import annotations

import fcntl
import json
import shlex
import shutil
from pathlib import Path

import pytest

from featureplane import native
from featureplane.cli.app import main
from featureplane.release.rollout import Phase, Proof, Request, RolloutState
from featureplane.release.rollout_file import RolloutFile
from scripts.mutations import read_list
from tests.integration.test_rollout import ANN, SLOW, SLOWER, rollout, run
from tests.rollouts import PLACE, Live, consumed, folder, running
from tests.services import INSTRUMENTS, sample_part
from tests.shadow import WAIT_S, mutated, until

__all__ = ["folder"]

pytestmark = pytest.mark.skipif(not native.available(), reason="both backends are needed")

KEPT = Path("var/feature_rollout.versions")
MAKER = "SharedMarketMaker"
ASKED = Request("ann", "a test", "2026-01-05T10:00:00Z")


def promoted(state: RolloutState) -> RolloutState:
    assert state.active is not None
    assert state.candidate is not None
    proof = Proof(state.active.fingerprint, state.candidate.fingerprint, (), {})
    return state.canary([MAKER], [], ASKED).promote(proof, ASKED)


def promoted_to_slower() -> None:
    """`slow` in good standing and `slower` active, both from files that are gone now."""
    Path("slower.toml").write_text(SLOWER)
    rollout("enable", "slow.toml", *ANN)
    rollout("shadow", "slower.toml", *ANN)
    RolloutFile(PLACE).change(promoted)
    Path("slow.toml").write_text(SLOW.replace("16", "20"))
    Path("slower.toml").unlink()


def beside(live: Live) -> str:
    assert live.service.fset is not None
    return live.service.fset.feature_set_id


def test_a_way_back_needs_no_file_that_a_version_came_from(folder: Path) -> None:
    promoted_to_slower()
    with running(folder, features=None) as live:
        assert beside(live) == "lob_shared_v1@slower"
        live.more(2_000)
        live.rollout("rollback", "--cause", "kernel", *ANN)
        live.more(1_000)
        assert (beside(live), consumed(live)) == ("lob_shared_v1@slow",) * 2
        assert live.service.picture(20)["feature_rollout_frozen"][()] == 0


def test_a_service_that_cannot_go_back_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featureplane.services.rollout.pilot._FOLLOW_NS", 0)
    promoted_to_slower()
    with running(folder, features=None) as live:
        live.more(2_000)
        shutil.move(KEPT, "elsewhere")
        live.rollout("rollback", "--cause", "kernel", *ANN, status=2)
        assert beside(live) == "lob_shared_v1@slower"
        assert live.pilot.state.phase is Phase.ACTIVE
        rollout("rollback", "--cause", "kernel", *ANN, "--control", "nobody.sock")
        live.more(2_000)
        told = live.told(capsys)
        assert told["active"]["feature_set_id"] == "lob_shared_v1@slow"
        assert "cannot be computed" in told["service"]["frozen"]
        assert live.service.picture(20)["feature_rollout_frozen"][()] == 1
        assert live.service.forms()[MAKER] == "off"  # what is bad is consumed by nobody
        shutil.move("elsewhere", KEPT)
        live.more(2_000)
        assert beside(live) == "lob_shared_v1@slow"
        assert live.service.picture(20)["feature_rollout_frozen"][()] == 0


def test_a_candidate_that_cannot_be_loaded_at_the_start_is_left(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout("enable", "lob_shared_v1", *ANN)
    rollout("shadow", "slow.toml", *ANN)
    rollout("canary", "--strategy", MAKER, *ANN)
    Path("slow.toml").write_text(SLOW.replace("16", "20"))
    shutil.rmtree(KEPT)
    with running(folder) as live:
        live.more(3_000)
        assert consumed(live) == "lob_shared_v1"
        assert "slow.toml was changed since" in live.told(capsys)["service"]["trouble"]


def test_a_version_that_was_promoted_again_goes_on_whatever_its_next_candidate_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promoted_to_slower()
    Path("slower.toml").write_text(SLOWER)
    rollout("rollback", "--cause", "kernel", *ANN)
    rollout("shadow", "slower.toml", "--again", *ANN)
    RolloutFile(PLACE).change(promoted)
    rollout("shadow", "lob_shared_v1", *ANN)
    rollout("shadow", "slow.toml", "--again", *ANN)
    Path("slow.toml").write_text(SLOW)
    shutil.rmtree(KEPT)
    with running(folder, features=None) as live:
        live.more(3_000)
        assert "slow.toml was changed since" in live.told(capsys)["service"]["trouble"]
        assert (beside(live), consumed(live)) == ("lob_shared_v1@slower",) * 2
        assert live.service.forms()[MAKER] != "off"


def test_a_damaged_definition_is_not_believed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rollout("enable", "slow.toml", *ANN)
    (kept,) = KEPT.iterdir()
    kept.write_text(kept.read_text().replace("16", "17"))
    part = sample_part(folder, 100)
    run(part, "--json")
    assert json.loads(capsys.readouterr().out)["feature_set"] == "lob_shared_v1@slow"
    assert "17" not in kept.read_text()  # written anew
    kept.write_text("")
    Path("slow.toml").unlink()
    run(part, status=2)


def test_a_start_without_its_active_version_says_where_it_was_looked_for_and_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout("enable", "slow.toml", *ANN)
    (kept,) = KEPT.iterdir()
    shutil.rmtree(KEPT)
    part = sample_part(folder, 100)
    for damage, why in ((SLOW.replace("16", "20"), "was changed since"), (None, "No such file")):
        Path("slow.toml").unlink() if damage is None else Path("slow.toml").write_text(damage)
        capsys.readouterr()
        run(part, status=2)
        said = capsys.readouterr().err
        for words in ("lob_shared_v1@slow (", "cannot be computed", str(kept), "slow.toml", why):
            assert words in said
        assert "`featureplane rollout rollback --cause config` returns to the last good version" in said
    rollout("rollback", "--cause", "config", *ANN)  # what it says to do
    run(part, "--features", "lob_shared_v1")


def test_a_state_that_is_removed_freezes_the_rollout_and_nothing_is_forgotten(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featureplane.services.rollout.pilot._FOLLOW_NS", 0)
    with running(folder) as live:
        live.more(3_000)
        live.rollout("shadow", "slow.toml", *ANN)
        live.rollout("rollback", "--cause", "kernel", *ANN)
        known = live.pilot.state
        PLACE.rename("elsewhere.json")
        live.more(2_000)
        told = live.told(capsys)
        assert "was removed or begun anew" in told["service"]["frozen"]
        assert (told["phase"], len(told["bad"])) == ("active", 1)
        assert live.service.picture(20)["feature_rollout_frozen"][()] == 1
        live.rollout("shadow", "slow.toml", *ANN, status=2)
        rollout("enable", "lob_shared_v1", *ANN, "--control", "nobody.sock")
        live.more(2_000)
        assert live.pilot.state == known
        assert live.service.picture(20)["feature_rollout_frozen"][()] == 1
        Path("elsewhere.json").rename(PLACE)
        live.more(2_000)
        assert live.service.picture(20)["feature_rollout_frozen"][()] == 0
        live.rollout("shadow", "slow.toml", *ANN, "--again")


def test_a_service_without_messages_follows_and_keeps_evidence(folder: Path) -> None:
    evidence = Path("var/feature_rollout.evidence.json")
    with running(folder) as live:
        live.more(3_000)
        live.rollout("shadow", "slow.toml", *ANN)
        live.more(600)
        before = live.pilot.state.revision
        rollout("canary", "--strategy", MAKER, *ANN, "--control", "nobody.sock")
        until(lambda: live.pilot.state.revision == before + 1)
        live.more(300)
        until(evidence.exists)
        assert sum(json.loads(evidence.read_text())["evidence_v1"]["thirds"]) > 0


def test_who_asks_a_service_that_gathers_no_evidence_is_told_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "gathered by another service: ask there"
    with Path("var/feature_rollout.evidence.json.lock").open("w") as other, running(folder) as live:
        fcntl.flock(other, fcntl.LOCK_EX)
        live.more(3_000)
        live.rollout("status")
        assert said not in capsys.readouterr().out
        live.rollout("shadow", "slow.toml", *ANN)
        live.more(600)
        live.rollout("status")
        assert said in capsys.readouterr().out


def test_what_differs_in_a_profile_is_replayed_without_its_file_and_from_anywhere(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted_to_slower()
    wrong = next(one for one in read_list() if one.what == "one coefficient" and one.file.endswith(".py"))
    with running(folder, features=None) as live:
        shadow = live.service.shadow
        assert shadow is not None
        shadow._package = mutated(wrong, folder / "changed")  # before its process begins
        live.more(4_000)
        assert shadow.drain(WAIT_S)
        last = live.service.shadow.last() if live.service.shadow else None
    assert last is not None
    sample_part(folder, 4_000)  # the messages it was given, where it was told to look for them
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert {shlex.split(one)[1] for one in last["replay"]} == {"parity", "features"}
    for command in last["replay"]:
        assert f"--instruments {INSTRUMENTS}" in command
        assert main(shlex.split(command)[1:]) == 0, command
    assert str(last["seq"]) in capsys.readouterr().out
