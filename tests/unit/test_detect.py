"""Which source wrote a file, told from its beginning or its name."""

from __future__ import annotations

from pathlib import Path

import pytest

import featureplane as fp
from featureplane.errors import SettingError, UnreadableFile
from featureplane.market.sources.capture import write_capture
from featureplane.market.sources.detect import guess_source
from tests.shared_data import shared

SAMPLE = str(Path(fp.__file__).parent / "sample" / "ethusdt_20240808.gz")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("binance_raw/spot/ethusdt_20240809.gz", "binance-spot"),
        ("binance_raw/usdm/btcusdt_20230404.dat.gz", "binance-usdm"),
        ("binance_raw/usdm/btcusdt_20230405.dat.gz", "binance-usdm"),
        ("binance_raw/usdm/btcusdt_20240808.gz", "binance-usdm"),
        ("binance_raw/cm/ethusd_perp_20240808.gz", "binance-coinm"),
        ("lobster/LOBSTER_SampleFile_AMZN_2012-06-21_5.zip", "lobster"),
        ("lobster/AAPL_2012-06-21_first999rows_orderbook_10.csv.gz", "lobster"),
        ("taifex/TMFD6_2026-04-08_replay_actual.parquet", "hftbacktest"),
    ],
)
def test_recordings_tell_who_wrote_them(name: str, source: str) -> None:
    assert guess_source([str(shared(name))]) == source


def test_sample_capture_and_made_up_streams(tmp_path: Path) -> None:
    assert guess_source([SAMPLE]) == "binance-spot"
    assert guess_source(["synthetic:7"]) == "synthetic"
    path = tmp_path / "any.name"
    write_capture(path, fp.sample_events().part(0, 100))
    assert guess_source([str(path)]) == "capture"


def test_what_is_not_clear_is_asked_for(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("nothing of ours\n", encoding="utf-8")
    with pytest.raises(SettingError, match="unknown"):
        guess_source([str(text)])
    with pytest.raises(SettingError) as caught:
        guess_source([str(text)], option="--feed")
    assert caught.value.hint == "name it with --feed, if these are the right files"
    with pytest.raises(SettingError, match=r"binance-spot.*synthetic"):
        guess_source([SAMPLE, "synthetic:7"])
    with pytest.raises(UnreadableFile):
        guess_source([str(tmp_path / "nowhere.gz")])
