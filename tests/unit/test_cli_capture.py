"""`featureplane capture`: any source into our own format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from featureplane.cli import main
from featureplane.market.reading import read_events


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_what_was_captured_reads_back(
    compression: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "events.fpcap"
    words = ["capture", "synthetic:7:5000", "--source", "synthetic", "--compression", compression]
    assert main([*words, "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bytes"] == out.stat().st_size
    made, read = read_events("synthetic:7:5000", "synthetic"), read_events(out, "capture")
    assert answer["events"] == len(made)
    assert np.array_equal(made.array, read.array)


def test_nothing_is_left_where_the_input_is_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["capture", str(tmp_path / "no.gz"), "--source", "binance-spot"]
    assert main([*words, "--out", str(tmp_path / "events.fpcap")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []
