"""Drill: the disk is full under a recording."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from featureplane.market.instruments import load_instruments
from featureplane.services.recorder import Recorder
from featureplane.services.recording import frame_files, raw_files
from featureplane.services.replay_source import raw_lines
from tests.drills.scene import Scene, scene
from tests.services import INSTRUMENTS, SOURCE, V1, sample_lines

ETH = load_instruments(INSTRUMENTS)
RECORD = Path("var/recording")


def look(stage: Scene) -> list[str]:
    """What the page says to look at, which is no command of ours."""
    told = []
    for line in ("df -h .", "ls -l var/recording"):
        assert line in stage.page.commands
        done = subprocess.run(line.split(), capture_output=True, text=True, check=True)
        told.append(done.stdout)
    return told


def test_the_service_goes_on_and_the_next_one_goes_on_with_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines, write = sample_lines(6_000), os.write
    recorder = Recorder(RECORD, SOURCE, ETH, V1)
    with scene("recording-stopped", tmp_path, capsys, subscribers=[recorder]) as stage:
        stage.feed(lines[:2_000])
        before = stage.metrics()
        assert stage.value('subscriber_stopped_total{subscriber="recorder"}') == 0

        def full(_file: int, _data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(recorder._raw, "_write", lambda: full(0, b""))
            stage.feed(lines[2_000:4_000])
        stage.metrics()
        # The symptom: the service goes on.
        assert stage.value('subscriber_stopped_total{subscriber="recorder"}') == 1
        assert stage.running.messages == 4_000
        space, names = look(stage)
        assert "Avail" in space
        assert "raw-20240808-000001.txt" in names
    kept = list(raw_lines(raw_files(RECORD)))
    assert kept == lines[: len(kept)]
    assert os.write is write
    # What the page says: start again, with the same folder. Its effect, and the recovery.
    sizes = sum(path.stat().st_size for path in RECORD.iterdir())
    phases = stage.phases
    again = Recorder(RECORD, SOURCE, ETH, V1)
    with scene("recording-stopped", tmp_path, capsys, subscribers=[again]) as stage:
        stage.feed(lines)
        stage.metrics(40)
        assert stage.value('subscriber_stopped_total{subscriber="recorder"}') == 0
        stage.phases = [*phases, *stage.phases]
        stage.alarms(*stage.page.alerts)
    assert sum(path.stat().st_size for path in RECORD.iterdir()) > sizes
    assert list(raw_lines(raw_files(RECORD)))[-6_000:] == lines
    assert len(frame_files(RECORD)) >= 1
    assert before
