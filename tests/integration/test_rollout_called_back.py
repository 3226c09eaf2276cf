"""What calls a candidate back, or freezes a rollout, in a service that goes on."""

from __future__ import annotations

import json
import threading
from functools import partial
from pathlib import Path

import pytest

import featureplane as fp
from featureplane import native
from featureplane.cli.app import main
from featureplane.features.loading import load_feature_set
from featureplane.release.rollout import Phase, Request, RolloutState, Version
from featureplane.release.rollout_file import RolloutFile, packed
from tests.integration.test_rollout import ANN
from tests.rollouts import MAKER, PLACE, changed_ema, consumed, folder, running
from tests.services import SYMBOL
from tests.shadow import until

__all__ = ["folder"]

pytestmark = pytest.mark.skipif(not native.available(), reason="both backends are needed")


def test_a_candidate_that_computes_wrongly_is_called_back_by_itself(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(folder, backend="python") as live:
        live.more(3_000)
        live.rollout("shadow", "slow.toml", *ANN)
        changed_ema(monkeypatch)
        live.rollout("canary", "--strategy", MAKER, *ANN)
        live.more(3_000)
        assert consumed(live) == "lob_shared_v1"
        told = live.told(capsys)
        picture = live.service.picture(20)
        until(lambda: "mismatch" not in {one.name for one in threading.enumerate()})
        capsys.readouterr()
        assert main(["shadow", "last", "--json", "--control", str(live.control)]) == 0
        found = json.loads(capsys.readouterr().out)["last"]
    assert found == json.loads(Path("var/shadow_last.json").read_text())[SYMBOL]
    assert (found["feature_set"], found["shadow_set"]) == ("lob_shared_v1", "lob_shared_v1@slow")
    assert {"ofi_l1_ema8"} <= set(found["differs"]) <= set(fp.feature_set("lob_shared_v1").feature_ids)
    for name, (left, right) in found["differs"].items():
        assert left.split()[0] == repr(found["live_values"][name])
        assert right.split()[0] == repr(found["shadow_values"][name])
    named = load_feature_set("slow.toml").fingerprint
    assert [f"{named}.toml" in one for one in found["replay"]] == [False, True]
    assert all(f"--at {found['seq']} --feature" in one for one in found["replay"])
    last = told["history"][-1]
    assert (last["by"], last["action"], last["cause"]) == ("featureplane", "rollback", "kernel")
    assert last["why"].startswith("3 mismatches in 5 minutes, the last in ")
    assert "ofi_l1_ema8" in last["why"]
    assert last["evidence"]["mismatches"]["ofi_l1_ema8"] == 3
    assert RolloutFile(PLACE).read() == live.pilot.state
    assert picture["feature_rollout_rollback_total"]["kernel",] == 1
    assert picture["feature_shadow_parity_mismatch_total"]["lob_shared_v1", "ofi_l1_ema8"] == 3
    assert picture["feature_shadow_parity_checks_total"]["lob_shared_v1", "mismatch"] == 3
    assert told["bad"] == [load_feature_set("slow.toml").fingerprint]


def _put(state: RolloutState, _before: RolloutState) -> RolloutState:
    return state


def test_the_same_messages_call_it_back_at_the_same_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_ema(monkeypatch)
    slow, live_set = load_feature_set("slow.toml"), fp.feature_set("lob_shared_v1")
    asked = Request("ann", "x", "2026-01-05T10:00:00Z")
    seen = []
    for _ in range(2):
        PLACE.unlink(missing_ok=True)
        state = RolloutState().enable(asked, active=Version.of(live_set, "lob_shared_v1"))
        state = state.shadow(Version.of(slow, str(Path("slow.toml").absolute())), asked)
        RolloutFile(PLACE).change(partial(_put, state.canary([MAKER], [], asked)))
        with running(folder, backend="python") as live:
            live.more(7_000)
        line = RolloutFile(PLACE).read().history[-1]
        seen.append((line.why, line.evidence["message"], line.evidence["local_ts_ns"]))
    assert seen[0] == seen[1]
    assert seen[0][0].startswith("3 mismatches in 5 minutes")
    assert 2_000 < seen[0][1] < 7_000


def test_a_candidate_that_raises_is_called_back_by_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(folder) as live:
        live.more(3_000)
        live.rollout("shadow", "slow.toml", *ANN)
        live.rollout("canary", "--strategy", MAKER, *ANN)
        live.more(1_000)

        def fails(*_: object) -> None:
            raise ZeroDivisionError("of its own, told\nat length" + "." * 2_000)

        candidate = live.service.runner.candidate
        assert candidate is not None
        monkeypatch.setattr(candidate.pipeline, "push", fails)
        live.more(100)
        assert live.pilot.state.phase is Phase.ACTIVE
        assert consumed(live) == "lob_shared_v1"
    line = RolloutFile(PLACE).read().history[-1]
    assert line.by == "featureplane"
    assert "ZeroDivisionError: of its own" in line.why


def test_where_the_state_cannot_be_written_the_rollout_freezes_and_the_service_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featureplane.services.rollout.pilot._FOLLOW_NS", 0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with running(folder, backend="python") as live:
        live.more(3_000)
        live.rollout("shadow", "slow.toml", *ANN)
        changed_ema(monkeypatch)
        live.rollout("canary", "--strategy", MAKER, *ANN)
        with monkeypatch.context() as patch:
            patch.setattr("featureplane.release.rollout_file._to_disk", full)
            live.rollout("disable", *ANN, status=2)
            assert "the rollout is frozen" in capsys.readouterr().err
            live.more(3_000)
            assert consumed(live) == "lob_shared_v1"  # called back, though it cannot be written
            frozen = live.told(capsys)
            assert (frozen["phase"], frozen["service"]["consuming"]) == ("canary", [])
            assert "No space left" in frozen["service"]["frozen"]
            assert live.service.picture(20)["feature_rollout_frozen"][()] == 1
            live.rollout("canary", "--strategy", MAKER, *ANN, status=2)
            wider = RolloutFile(PLACE).read().canary([MAKER], [SYMBOL], Request("ann", "x", "now"))
            PLACE.write_bytes(packed(wider))  # by somebody who can write
            live.more(2_000)
            assert live.pilot.state == wider
            assert consumed(live) == "lob_shared_v1"
            PLACE.write_bytes(packed(wider.disable(Request("ann", "x", "now"))))
            live.more(2_000)
        live.more(2_000)
        assert live.pilot.state.phase is Phase.ACTIVE
        assert live.service.picture(20)["feature_rollout_frozen"][()] == 0
    line = RolloutFile(PLACE).read().history[-1]
    assert (line.by, line.cause) == ("featureplane", "kernel")


def test_a_fault_of_the_rollout_itself_stops_no_service(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(folder) as live:
        live.more(3_000)
        live.rollout("shadow", "slow.toml", *ANN)
        live.rollout("canary", "--strategy", MAKER, *ANN)
        live.more(1_000)
        assert consumed(live) == "lob_shared_v1@slow"
        with monkeypatch.context() as patch:
            patch.setattr(live.pilot.keeper, "count", lambda _: 1 / 0)
            live.more(2_000)
        assert consumed(live) == "lob_shared_v1"
        assert "ZeroDivisionError" in live.told(capsys)["service"]["trouble"]
        live.more(2_000)
        assert live.service.errors == 0


def test_a_state_that_is_damaged_meanwhile_freezes_the_rollout(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featureplane.services.rollout.pilot._FOLLOW_NS", 0)
    with running(folder) as live:
        live.more(3_000)
        live.rollout("shadow", "slow.toml", *ANN)
        whole = PLACE.read_bytes()
        PLACE.write_bytes(whole[:-9])
        live.more(2_000)
        assert "expected the state of a rollout" in live.told(capsys)["service"]["frozen"]
        assert live.told(capsys)["service"]["compared_in"] == "shadow"
        PLACE.write_bytes(whole)
        live.more(2_000)
        assert live.told(capsys)["service"]["frozen"] is None


def test_below_what_is_no_folder_the_rollout_is_frozen_and_the_service_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_text("here already")
    monkeypatch.setenv("HFT_FEATURE_ROLLOUT_STATE_PATH", str(folder / "file" / "deeper" / "rollout.json"))
    with running(folder) as live:
        live.more(2_000)
        assert live.service.picture(20)["feature_rollout_frozen"][()] == 1
        assert "is no folder" in live.told(capsys)["service"]["frozen"]
        live.rollout("enable", *ANN, status=2)
        assert "the rollout is frozen" in capsys.readouterr().err
        live.more(2_000)
        assert live.service.frames > 200
