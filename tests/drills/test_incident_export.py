"""Drill: what happened between two times is taken out, and played back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from featureplane.cli.app import main
from featureplane.services.recording import frame_files
from tests.drills.page import Page
from tests.integration.test_cli_run import Child, options
from tests.services import SAMPLE


def test_a_folder_that_anybody_can_play_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page("incident-export", capsys)
    # The incident: a service that is recorded, and killed.
    record = tmp_path / "var" / "recording"
    child = Child(*options(f"replay:{SAMPLE}@30", "--record", str(record)))
    while int(child.until("order accepted")["trace"][1:]) < 4_000:
        pass
    child.process.kill()
    child.process.communicate(timeout=60)
    monkeypatch.chdir(tmp_path)
    # What the page says.
    assert "ls -l var/recording" in page.commands
    shown = subprocess.run(["ls", "-l", "var/recording"], capture_output=True, text=True, check=True).stdout
    assert all(kind in shown for kind in ("raw-", "frames-", "metrics-", "log-", "runs.jsonl"))
    times = {"2026-01-05T10:00:00Z": "2024-08-08T23:54:16Z", "2026-01-05T10:10:00Z": "2024-08-08T23:54:20Z"}
    told = page.ask("incident export", **times, DIR="incident")
    assert told["messages"] > 100
    assert "every file is as it was exported" in page.run("incident verify", DIR="incident")
    # Its effect: the same frames, as many as were exported; the manifest says the command too.
    again = ("--record", "again")
    assert "export HFT_FEATURE_ROLLOUT_STATE_PATH=DIR.rollout.json" in page.commands
    monkeypatch.setenv("HFT_FEATURE_ROLLOUT_STATE_PATH", "incident.rollout.json")
    answer = page.ask("run --source", *again, **{"replay:DIR": "replay:incident"})
    assert answer["frames"] == told["frames"] > 10
    frames = [b"".join(path.read_bytes() for path in frame_files(Path(one))) for one in ("incident", "again")]
    assert frames[0] == frames[1]
    words = "featureplane run --source replay:incident --control off --features lob_shared_v1"
    assert told["replay"] == f"env HFT_FEATURE_ROLLOUT_STATE_PATH=incident.rollout.json {words}"
    # A time in which nothing was received is said, with what there is.
    nothing = {"2026-01-05T10:00:00Z": "2024-08-08T22:00:00Z", "2026-01-05T10:10:00Z": "2024-08-08T23:00:00Z"}
    said = page.refuse("incident export", **nothing, DIR="nothing")
    assert "it has messages from 2024-08-08T23:54:14" in said
    assert not Path("nothing").exists()
    assert main(["incident", "verify", "nothing"]) == 2
