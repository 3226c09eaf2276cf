"""A recorded service with accidents is computed again: equal, or the first event that differs is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featureplane.cli.app import main
from featureplane.features.frame import read_head
from featureplane.research.store.ledger import FOLDER, merged
from featureplane.services.reconcile import reconcile
from featureplane.services.recording import frame_files
from tests.binance_lines import backends
from tests.binance_render import Way, rendered
from tests.incidents import packed, record


@backends
def test_a_day_with_faults_is_what_was_emitted(backend: str, tmp_path: Path) -> None:
    items = list(Way(1, 2).items(rendered(6_000, 1, 2)))
    record(tmp_path / "all", items, backend=backend)
    found = reconcile(tmp_path / "all", backend="python" if backend == "rust" else "auto")
    assert found.first is None
    assert found.equal == found.frames == len(packed(tmp_path / "all")) > 500
    assert (found.ratio, found.cut_off) == (1.0, 0)
    assert found.messages > 1_000


def test_the_first_event_that_differs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, root = tmp_path / "all", tmp_path / "root"
    record(folder, Way(1, 2).items(rendered(6_000, 1, 2)))
    frames = packed(folder)
    size = read_head(frames[0])[0]
    path = frame_files(folder)[0]
    data = bytearray(path.read_bytes())
    data[100 * size + 16] ^= 1  # of its sequence number (rule 6)
    path.write_bytes(data)
    assert main(["reconcile", str(folder), "--root", str(root), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["frames"] - said["equal"] == 1
    assert said["first"]["differs"].keys() == {"_frame"}
    assert 100 < said["first"]["message"] <= said["messages"]
    assert said["first"]["text"][:19].isdigit() or said["first"]["text"].startswith("{")
    counts = merged(root / FOLDER)
    assert (counts["consistency|different"], counts["consistency|equal"]) == (1, said["equal"])


def test_frames_that_are_missing_differ_and_those_cut_off_by_the_end_do_not(tmp_path: Path) -> None:
    record(tmp_path, Way(1, 2).items(rendered(3_000, 1, 2)))
    path, size = frame_files(tmp_path)[-1], read_head(packed(tmp_path)[0])[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: -40 * size])
    found = reconcile(tmp_path)
    assert found.frames - found.equal == 40
    assert found.first is not None
    assert found.first.differs == {"_frame": ("missing", "there")}
    path.write_bytes(whole + whole[-size:])
    found = reconcile(tmp_path)
    assert found.frames - found.equal == 1
    assert found.first is not None


def test_no_recording_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconcile", str(tmp_path)]) == 2
    assert "no recording" in capsys.readouterr().err
