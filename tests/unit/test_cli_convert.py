"""`featureplane convert`: any source into hftbacktest's arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import featureplane as fp
from featureplane.cli import main
from featureplane.market.events import Kind
from featureplane.market.reading import read_events
from featureplane.market.sources.capture import write_capture
from tests.shared_data import shared

LOCAL: Final = 1 << 30
SOURCES: Final = {
    "binance-spot": "binance_raw/spot/ethusdt_20240808.gz",
    "binance-coinm": "binance_raw/cm/ethusd_perp_20240808.gz",
    "lobster": "lobster/LOBSTER_SampleFile_AMZN_2012-06-21_1.zip",
}


def converted(words: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["convert", *words, "--to", "hftbacktest", "--out", str(out), "--json"]) == 0
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    assert answer["bytes"] == out.stat().st_size
    with np.load(out) as archive:
        rows = archive["data"]
        assert answer["rows"] == len(rows) > 100
        assert answer["local_shift_ns"] == int(archive["local_shift_ns"])
    assert (np.diff(rows["local_ts"][rows["ev"] & LOCAL != 0]) >= 0).all()
    assert (rows["local_ts"] >= rows["exch_ts"]).all()
    return answer


@pytest.mark.parametrize("source", SOURCES)
def test_recordings(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shared(SOURCES[source])
    batch = read_events(path, source).part(0, 8_000)
    write_capture(tmp_path / "head.fpcap", batch)
    out = tmp_path / "rows.npz"
    converted([str(tmp_path / "head.fpcap"), "--source", "capture"], out, capsys)
    back = read_events(out, "hftbacktest", batch.instrument.symbol, batch.instrument)
    told, kept = (one.array[one.array["kind"] == Kind.LEVEL] for one in (batch, back))
    assert set(kept["seq_last"].tolist()) <= set(told["seq_last"].tolist())
    assert (kept["seq_last"] > 0).any() == source.startswith("binance")
    assert set(back.array["local_ts_ns"].tolist()) <= set(batch.array["local_ts_ns"].tolist())


def test_gaps_survive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = fp.sample_events()
    whole = [batch.part(0, 2_000), batch.part(2_040, batch.messages)]
    holed = fp.EventBatch(
        np.concatenate([one.array for one in whole]), batch.instruments, batch.source, checked=True
    )
    write_capture(tmp_path / "holed.fpcap", holed)
    converted([str(tmp_path / "holed.fpcap")], tmp_path / "rows.npz", capsys)
    back = read_events(tmp_path / "rows.npz", "hftbacktest", batch.instrument.symbol, batch.instrument)
    fset = fp.feature_set("lob_shared_v1")
    flags = [[f.quality_flags for f in fp.FeatureEngine(fset).replay(one)] for one in (holed, back)]
    assert fp.Quality.GAP_DETECTED in {flag & fp.Quality.GAP_DETECTED for flag in flags[0]}
    assert flags[0] == flags[1]


def test_a_clock_that_was_set_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.npz"
    words = ["synthetic:3:20000", "--source", "synthetic"]
    assert main(["convert", *words, "--to", "hftbacktest", "--out", str(out)]) == 2
    assert "--local-time hold" in capsys.readouterr().err
    assert not out.exists()
    held = converted([*words, "--local-time", "hold"], out, capsys)["held"]
    assert isinstance(held, int)
    assert held > 0
