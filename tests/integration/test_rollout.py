"""A whole rollout on recorded data, by commands alone: no service runs between them, the files carry it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featureplane import native
from featureplane.cli.app import main
from featureplane.features.loading import load_feature_set
from featureplane.release.criteria import CRITERIA as CRITERIA_NAMES
from featureplane.release.rollout_file import RolloutFile
from tests.services import INSTRUMENTS, SAMPLE, sample_part

pytestmark = pytest.mark.skipif(not native.available(), reason="a whole rollout takes its time in Python")

FORMS = "featureplane.strategy.examples.market_maker:FORMS"
MAKER = "SharedMarketMaker"
CRITERIA = """\
frames_min = 400
session_minutes = 10
samples_min = 100
baseline_messages = 2000
baseline_minutes = 0
canary_frames_min = 20
queue_p99_ratio_max = 1000
latency_p99_ratio_max = 1000

[guard]
p99_ratio_max = 1000
"""
SLOW = 'base = "lob_shared_v1"\nprofile = "slow"\n[parameters]\nspread_ema8_scaled = { span = 16 }\n'
SLOWER = SLOW.replace("slow", "slower").replace("16", "32")
READER = """\
from featureplane.strategy.api import BaseStrategy

class Reader(BaseStrategy):
    required_features = ("{}", "{}")

    def on_features(self, frame):
        pass
"""
ANN = ["--by", "ann", "--why", "a test"]


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("featureplane")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with criteria that the sample can reach, and candidates."""
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("SHADOW_PARITY", "1"),
        ("SHADOW_SAMPLE_EVERY", "2"),
        ("LATENCY_SAMPLE_EVERY", "4"),
    ):
        monkeypatch.setenv(f"HFT_FEATURE_{name}", value)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "feature_rollout.criteria.toml").write_text(CRITERIA)
    (tmp_path / "slow.toml").write_text(SLOW)
    (tmp_path / "slower.toml").write_text(SLOWER)
    return tmp_path


def rollout(*words: str, status: int = 0) -> None:
    assert main(["rollout", *words]) == status


def run(source: Path | str = SAMPLE, *more: str, status: int = 0, strategy: str = FORMS) -> None:
    given = ["--source", f"replay:{source}", "--feed", "binance-spot", "--instruments", str(INSTRUMENTS)]
    assert main(["run", *given, "--strategy", strategy, "--control", "off", *more]) == status


def compared_forms(capsys: pytest.CaptureFixture[str], features: str, out: Path) -> None:
    capsys.readouterr()
    given = ["--data", str(SAMPLE), "--source", "binance-spot", "--instruments", str(INSTRUMENTS)]
    assert main(["backtest", FORMS, "--ab", "--json", *given, "--features", features]) == 0
    out.write_text(capsys.readouterr().out)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    rollout("status", "--json")
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def missing(answer: dict[str, Any]) -> list[str]:
    return [one["name"] for one in answer["criteria"] if not one["reached"]]


def promoted(capsys: pytest.CaptureFixture[str], candidate: str) -> None:
    """From the shadow to everybody."""
    rollout("shadow", candidate, *ANN)
    run()
    assert missing(told(capsys)) == ["canary", "ab_report"]
    rollout("canary", "--strategy", MAKER, *ANN)
    run()
    assert missing(told(capsys)) == ["ab_report"]
    compared_forms(capsys, candidate, Path("ab.json"))
    rollout("promote", *ANN, status=2)
    rollout("promote", "--ab", "ab.json", *ANN)


def test_a_whole_rollout_by_commands_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rollout("enable", "lob_shared_v1", *ANN)
    rollout("promote", *ANN, status=2)
    promoted(capsys, "slow.toml")
    answer = told(capsys)
    assert answer["phase"] == "active"
    assert answer["active"]["feature_set_id"] == "lob_shared_v1@slow"
    assert [one["feature_set_id"] for one in answer["good"]] == ["lob_shared_v1"]
    run(sample_part(folder, 1_000), "--json")
    assert json.loads(capsys.readouterr().out)["feature_set"] == "lob_shared_v1@slow"

    rollout("shadow", "slower.toml", *ANN)
    rollout("rollback", "--cause", "config", "--by", "bob", "--why", "not slower after all")
    rollout("shadow", "slower.toml", *ANN, status=2)
    rollout("rollback", "--cause", "kernel", "--by", "bob", "--why", "spreads are off")
    rollout("rollback", "--cause", "data", "--by", "bob", "--why", "all of them are")
    rollout("rollback", "--cause", "data", "--by", "bob", "--why", "once more", status=2)

    answer = told(capsys)
    assert [
        (one["revision"], one["action"], f"{one['before']} -> {one['after']}", one["by"], one["cause"])
        for one in answer["history"]
    ] == [
        (1, "enable", "disabled -> active", "ann", None),
        (2, "shadow", "active -> shadow", "ann", None),
        (3, "canary", "shadow -> canary", "ann", None),
        (4, "promote", "canary -> active", "ann", None),
        (5, "shadow", "active -> shadow", "ann", None),
        (6, "rollback", "shadow -> active", "bob", "config"),
        (7, "rollback", "active -> active", "bob", "kernel"),
        (8, "rollback", "active -> disabled", "bob", "data"),
    ]
    assert [one["version"].split()[0] for one in answer["history"][5:]] == [
        "lob_shared_v1@slower",
        "lob_shared_v1@slow",
        "lob_shared_v1",
    ]
    proof = answer["history"][3]["evidence"]
    assert "bound 3/n" in proof["mismatches"]
    assert proof["criteria_other_than_default"]["frames_min"] == 400
    assert proof["reports"][0]["strategy"] == MAKER
    run(sample_part(folder, 100), "--features", "lob_shared_v1", status=2)


def test_evidence_adds_up_over_runs_until_another_candidate_comes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = sample_part(folder, 8_000)
    rollout("enable", "lob_shared_v1", *ANN)
    rollout("shadow", "slow.toml", *ANN)
    seen = []
    for _ in range(2):
        run(part)
        seen.append(told(capsys)["evidence"])
    assert 0 < 2 * seen[0]["compared"] == seen[1]["compared"]
    assert [len(one["runs"]) for one in seen] == [1, 2]
    rollout("shadow", "slower.toml", *ANN)
    assert told(capsys)["evidence"] is None
    run(part)
    assert told(capsys)["evidence"]["compared"] == seen[0]["compared"]


def test_nothing_is_measured_where_the_shadow_is_off(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout("enable", "lob_shared_v1", *ANN)
    rollout("shadow", "slow.toml", *ANN)
    monkeypatch.setenv("HFT_FEATURE_SHADOW_PARITY", "0")
    run(sample_part(folder, 6_000))
    assert "shadows are switched off" in capsys.readouterr().err
    answer = told(capsys)
    assert (answer["evidence"]["shadow"], answer["evidence"]["compared"]) == (False, 0)
    assert missing(answer) == [one for one in CRITERIA_NAMES if one != "abs_tol"]


def test_a_run_without_the_shadow_is_no_longer_all_the_time(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout("enable", "lob_shared_v1", *ANN)
    rollout("shadow", "slow.toml", *ANN)
    run()
    assert "shadow" not in missing(told(capsys))
    rollout("canary", "--strategy", "nobody_of_this_name", "--symbol", "NOSUCH", *ANN)
    compared_forms(capsys, "slow.toml", Path("ab.json"))
    rollout("promote", "--ab", "nobody_of_this_name=ab.json", *ANN, status=2)
    said = capsys.readouterr().err
    assert "canary: nobody_of_this_name 0" in said
    assert "ab_report: nobody_of_this_name: its class is not known" in said
    rollout("canary", "--strategy", MAKER, *ANN)
    monkeypatch.setenv("HFT_FEATURE_SHADOW_PARITY", "0")
    run(sample_part(folder, 500))
    monkeypatch.setenv("HFT_FEATURE_SHADOW_PARITY", "1")
    run()
    assert missing(told(capsys)) == ["shadow", "ab_report"]
    rollout("promote", "--ab", "ab.json", *ANN, status=2)
    assert "shadow: off, on all the time asked for" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_tolerance_is_shown_and_refuses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout("enable", "lob_shared_v1", *ANN)
    rollout("shadow", "slow.toml", *ANN)
    monkeypatch.setenv("HFT_FEATURE_SHADOW_ABS_TOL", "1e-9")
    run()
    assert "abs_tol" in missing(told(capsys))
    capsys.readouterr()
    rollout("status")
    assert "abs_tol" in capsys.readouterr().out.split("state")[0]


def test_a_candidate_that_is_too_slow_is_called_back_by_itself(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, features in (("light", 5), ("heavy", 2_500)):
        lines = "\n".join(f'e{n} = "zscore(spread(), window={n + 10})"' for n in range(features))
        (folder / f"{name}.toml").write_text(f'id = "{name}"\n[features]\n{lines}\n')
    prints = [load_feature_set(f"{name}.toml").fingerprint for name in ("light", "heavy")]
    (folder / "reader.py").write_text(READER.format(*prints))
    criteria = CRITERIA.replace("[guard]\np99_ratio_max = 1000", "[guard]\np99_minutes = 1")
    (folder / "var" / "feature_rollout.criteria.toml").write_text(criteria)
    rollout("enable", "light.toml", *ANN)
    rollout("shadow", "heavy.toml", *ANN)
    rollout("canary", "--strategy", "Reader", *ANN)
    run(SAMPLE, "--allow-code", strategy="reader.py:Reader")
    assert "the canary was called back" in capsys.readouterr().err
    answer = told(capsys)
    last = answer["history"][-1]
    assert (last["by"], last["action"], last["cause"]) == ("featureplane", "rollback", "config")
    assert last["why"].startswith("p99 of pipeline_latency_ns above ")
    assert answer["phase"] == "active"
    assert answer["active"]["feature_set_id"] == "light"
    assert answer["bad"] == [prints[1]]


def test_a_bad_candidate_is_called_back_by_itself_and_the_history_reads_as_what_happened(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.toml").write_text(SLOW.replace("slow", "bad").replace("spread_ema8_scaled", "ofi_l1_ema8"))
    rollout("enable", "lob_shared_v1", *ANN)
    promoted(capsys, "slow.toml")
    rollout("shadow", "bad.toml", *ANN)
    run()
    rollout("canary", "--strategy", MAKER, *ANN)
    run()
    rollout("rollback", "--cause", "data", "--by", "bob", "--why", "the feed was wrong")
    rollout("rollback", "--cause", "data", "--by", "bob", "--why", "this one too")
    answer = told(capsys)
    assert [
        (one["action"], f"{one['before']} -> {one['after']}", one["version"].split()[0], one["by"])
        for one in answer["history"]
    ] == [
        ("enable", "disabled -> active", "lob_shared_v1", "ann"),
        ("shadow", "active -> shadow", "lob_shared_v1@slow", "ann"),
        ("canary", "shadow -> canary", "lob_shared_v1@slow", "ann"),
        ("promote", "canary -> active", "lob_shared_v1@slow", "ann"),
        ("shadow", "active -> shadow", "lob_shared_v1@bad", "ann"),
        ("canary", "shadow -> canary", "lob_shared_v1@bad", "ann"),
        ("rollback", "canary -> active", "lob_shared_v1@bad", "featureplane"),
        ("rollback", "active -> active", "lob_shared_v1@slow", "bob"),
        ("rollback", "active -> disabled", "lob_shared_v1", "bob"),
    ]
    called_back = answer["history"][6]
    assert called_back["why"].startswith(f"legacy and shared form of {MAKER} decided differently: ")
    assert called_back["cause"] == "kernel"
    assert called_back["evidence"]["divergences"] == {MAKER: 1}
    assert called_back["evidence"]["message"] > 2_000
    assert answer["history"][7]["active"].startswith("lob_shared_v1 ")
    assert answer["history"][7]["evidence"]["promoted"]["revision"] == 4
    assert "bound 3/n" in answer["history"][7]["evidence"]["promoted"]["mismatches"]
    assert "promoted" not in answer["history"][8]["evidence"]
    rollout("status")
    told_plainly = " ".join(capsys.readouterr().out.split())
    for words in (
        f"- strategies: {MAKER} ",
        "- symbols: all ",
        "- criteria other than default: frames_min 400, ",
        f"- ab report: {MAKER}: ",
        f"- divergences: {MAKER} 1 ",
        "- promoted: revision 4, frames ",
        f"bad lob_shared_v1@bad ({answer['bad'][0][:12]})",
    ):
        assert words in told_plainly


def test_a_damaged_state_keeps_the_service_from_starting(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout("enable", "lob_shared_v1", *ANN)
    path = folder / "var" / "feature_rollout.json"
    path.write_bytes(path.read_bytes()[:-40])
    part = sample_part(folder, 100)
    run(part, status=2)
    run(part, "--check", status=1)
    said = capsys.readouterr().err
    assert "expected the state of a rollout" in said
    assert "put a whole copy back" in said
    rollout("status", status=2)
    rollout("rollback", "--cause", "data", *ANN, status=2)


def test_a_way_back_depends_on_nothing_that_was_measured(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout("enable", "lob_shared_v1", *ANN)
    rollout("shadow", "slow.toml", *ANN)
    rollout("canary", "--strategy", MAKER, *ANN)
    (folder / "var" / "feature_rollout.criteria.toml").write_text("frames_min = ")
    (folder / "var" / "feature_rollout.evidence.json").write_text("{")
    assert len(told(capsys)["refused"]) == 2
    rollout("promote", *ANN, status=2)
    run(sample_part(folder, 100), status=2)
    now = told(capsys)
    about = {name: now[name]["fingerprint"] for name in ("active", "candidate")}
    measured = about | {"began": 2, "mismatches": 5, "divergences": [1]}
    (folder / "var" / "feature_rollout.evidence.json").write_text(json.dumps({"evidence_v1": measured}))
    rollout("rollback", "--cause", "data", *ANN)
    assert told(capsys)["phase"] == "active"


def test_what_was_measured_of_a_rollout_that_is_gone_proves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for is_anew in (False, True):
        rollout("enable", "lob_shared_v1", *ANN)
        rollout("shadow", "slow.toml", *ANN)
        if not is_anew:
            run(sample_part(folder, 6_000))
            assert told(capsys)["evidence"]["compared"] > 0
            (folder / "var" / "feature_rollout.json").unlink()
    assert told(capsys)["revision"] == 2  # the same step, of another rollout
    assert told(capsys)["evidence"] is None


def test_another_set_than_the_active_one_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = sample_part(folder, 100)
    rollout("enable", "slow.toml", *ANN)
    run(part, "--features", "lob_shared_v1", status=2)
    assert "makes it a candidate" in capsys.readouterr().err
    run(part, "--features", "slow.toml")
    (folder / "slow.toml").write_text(SLOWER)
    run(part)  # what was enabled, whatever the file has become
    shutil.rmtree(folder / "var" / "feature_rollout.versions")
    run(part, status=2)
    assert "was changed since" in capsys.readouterr().err


def test_a_canary_that_cannot_consume_it_is_refused_at_the_start(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout("enable", "lob_shared_v1", *ANN)
    rollout("shadow", "lob_shared_v2", *ANN)
    rollout("canary", "--strategy", MAKER, *ANN)
    part = sample_part(folder, 100)
    run(part, status=2)
    assert f"{MAKER} does not accept the candidate lob_shared_v2" in capsys.readouterr().err
    rollout("canary", "--strategy", "nobody", *ANN)
    run(part, "--check", status=1)
    assert "'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["rollback", *ANN],
        ["rollback", "--cause", "weather", *ANN],
        ["shadow", "slow.toml", "--by", "ann"],
        ["shadow", "slow.toml", "--why", "x"],
        ["shadow", "slow.toml", "--by", " ", "--why", "x"],
        ["shadow", "slow.toml", "--by", "featureplane", "--why", "x"],
        ["shadow", "slow.toml", "--by", " FeaturePlane", "--why", "x"],
        ["shadow", "slow.toml", "--by", "ann", "--why", "x\n9  promote"],
        ["shadow", "none.toml", *ANN],
        ["shadow", "lob_shared_v1", *ANN],
        ["canary", *ANN],
        ["promote", "--ab", "none.json", *ANN],
        ["enable", "lob_shared_v2", *ANN],
    ],
)
def test_what_is_asked_for_is_asked_for(folder: Path, words: list[str]) -> None:
    rollout("enable", "lob_shared_v1", *ANN)
    before = RolloutFile(folder / "var" / "feature_rollout.json").read()
    rollout(*words, status=2)
    assert RolloutFile(folder / "var" / "feature_rollout.json").read() == before
