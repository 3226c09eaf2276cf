"""Every recorded file opened as every other source: an error of our tree that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from featureplane import native
from featureplane.errors import FeaturePlaneError
from featureplane.market.reading import read_events
from featureplane.market.sources import source_names
from tests.shared_data import shared

FILES = {
    "binance": "binance_raw/spot/ethusdt_20240808.gz",
    "lobster": "lobster/LOBSTER_SampleFile_AAPL_2012-06-21_1.zip",
    "lobster text": "lobster/AAPL_2012-06-21_first999rows_message_10.csv.gz",
    "parquet": "taifex/TXO35000Q6_2026-04-17_replay_actual.parquet",
    "binary": "iex/DEEP10.pcap.gz",
    "json": "binance_hourly/ETHBTC_2020-11-01T09-00-00_snapshot.json.gz",
    "dbn": "databento/glbx/definition-glbx-es-fut.dbn.zst",
}
RIGHT = {
    ("binance", "binance-spot"),
    ("binance", "binance-usdm"),  # the names of the streams are the same; the ids tell, when frames are made
    ("binance", "binance-coinm"),
    ("lobster", "lobster"),
    ("lobster text", "lobster"),
    ("parquet", "hftbacktest"),
}
BACKENDS = ["python", *(["rust"] if native.available() else [])]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("source", source_names())
@pytest.mark.parametrize("file", FILES)
def test_a_file_of_another_source_is_named(file: str, source: str, backend: str) -> None:
    if (file, source) in RIGHT:
        pytest.skip("the right source")
    path = shared(FILES[file])
    with pytest.raises(FeaturePlaneError) as caught:
        read_events(path, source, backend=backend)
    assert caught.value.hint or hasattr(caught.value, "expected")
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("source", source_names())
@pytest.mark.parametrize("content", [b"", b"\0" * 5_000, b"[" * 100_000, b"\xff\xfe" * 999], ids=len)
def test_junk_is_named(source: str, content: bytes, backend: str, tmp_path: Path) -> None:
    for suffix in ("", ".gz", ".zip", ".csv", ".npz", ".npy", ".parquet"):
        path = tmp_path / f"X_2024-01-01_message_1{suffix}"
        path.write_bytes(content)
        with pytest.raises(FeaturePlaneError):
            read_events(path, source, backend=backend)
