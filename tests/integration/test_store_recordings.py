"""Days of real recordings: computed alone they are the days that were lived."""

from __future__ import annotations

import gzip
import shutil
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import featureplane as fp
from featureplane.features.columns import Columns
from featureplane.research.tables import FeatureTable
from tests.contract.project import ROOT
from tests.shared_data import shared

UNLIKE = ["seq", "changed_mask"]


class Recording(NamedTuple):
    """Files of one symbol."""

    source: str
    files: tuple[str, ...]
    instruments: str
    symbol: str
    days: dict[str, int]  # frames of lob_shared_v2


RECORDINGS = {
    "spot": Recording(
        "binance-spot",
        ("binance_raw/spot/ethusdt_20240808.gz", "binance_raw/spot/ethusdt_20240809.gz"),
        "binance",
        "ETHUSDT",
        {"2024-08-08": 9_519, "2024-08-09": 11_465},
    ),
    "COIN-M": Recording(
        "binance-coinm",
        ("binance_raw/cm/ethusd_perp_20240808.gz", "binance_raw/cm/ethusd_perp_20240809.gz"),
        "binance",
        "ETHUSD_PERP",
        {"2024-08-08": 24_536, "2024-08-09": 18_191},
    ),
    "USD-M, the second day without a snapshot": Recording(
        "binance-usdm",
        ("binance_raw/usdm/btcusdt_20230404.dat.gz", "binance_raw/usdm/btcusdt_20230405.dat.gz"),
        "binance",
        "BTCUSDT",
        {"2023-04-04": 6_514, "2023-04-05": 22_525},
    ),
    "TAIFEX, with sessions": Recording(
        "hftbacktest", ("taifex/TXO35000Q6_2026-04-17_replay_actual.parquet",), "taifex", "TXO35000Q6", {}
    ),
    "LOBSTER": Recording(
        "lobster", ("lobster/LOBSTER_SampleFile_AAPL_2012-06-21_1.zip",), "lobster_level1", "AAPL", {}
    ),
}


@pytest.mark.native
@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.parametrize("set_id", ["lob_shared_v1", "lob_shared_v2"])
def test_days_of_recordings_are_the_days_that_were_lived(name: str, set_id: str, tmp_path: Path) -> None:
    source, files, about, symbol, days = RECORDINGS[name]
    instruments = ROOT / "tests" / "instruments" / f"{about}.toml"
    data = fp.Dataset([shared(file) for file in files], source, instruments)
    fset = fp.feature_set(set_id)
    events = chain.from_iterable(data.events(file, symbol) for file in data.files)
    parts: list[Columns] = list(fp.FeatureEngine(fset).columns(events))
    lived = FeatureTable(fset, parts, (symbol,)).to_arrow()
    facts = [data.facts(file, symbol) for file in data.files]
    first, last = (np.datetime64(ns, "ns") for ns in (facts[0].first_ns, facts[-1].last_ns + 1_000))
    with fp.FeatureStore(tmp_path, data) as store:
        entry = store.get_or_compute(symbol, f"{first}"[:26] + "Z", f"{last}"[:26] + "Z", fset)
        alone = entry.table()
        assert len(alone) == len(lived)
        assert alone.drop_columns(UNLIKE).equals(lived.drop_columns(UNLIKE))
        begins = np.flatnonzero(alone["seq"].to_numpy() == 1)
        unlike = alone["changed_mask"].to_numpy() != lived["changed_mask"].to_numpy()
        assert set(np.flatnonzero(unlike)) <= set(begins[1:])
        if set_id == "lob_shared_v2" and days:
            assert dict(zip(entry.days, np.diff([*begins, len(alone)]).tolist(), strict=True)) == days
        assert store.verify(sample=1)["equal"] == 1


def test_a_weekend_is_an_empty_entry_and_a_session_without_data_an_error(tmp_path: Path) -> None:
    path = shared("taifex/TXO35000Q6_2026-04-17_replay_actual.parquet")
    data = fp.Dataset(path, "hftbacktest", ROOT / "tests" / "instruments" / "taifex.toml")

    def asked(start: str, end: str) -> fp.StoreEntry:
        return store.get_or_compute("TXO35000Q6", f"{start}+08:00", f"{end}+08:00", "lob_shared_v1")

    with fp.FeatureStore(tmp_path, data) as store:
        friday = asked("2026-04-17T08:30", "2026-04-20T08:30")
        assert friday.days == {"2026-04-17": "miss"}
        assert len(friday.table()) > 1_000
        assert asked("2026-04-25T08:30", "2026-04-26T12:00").days == {}
        assert len(asked("2026-04-25T08:30", "2026-04-26T12:00").table()) == 0
        for night in (("2026-04-17T04:00", "2026-04-17T09:00"), ("2026-04-20T08:30", "2026-04-20T08:31")):
            with pytest.raises(fp.FeaturePlaneError, match="no file of the hftbacktest dataset holds"):
                asked(*night)


def test_the_order_book_file_beside_lobsters_messages_counts(tmp_path: Path) -> None:
    names = [f"AAPL_2012-06-21_first999rows_{kind}_10.csv.gz" for kind in ("message", "orderbook")]
    for name in names:
        shutil.copy(shared(f"lobster/{name}"), tmp_path / name)
    data = fp.Dataset(tmp_path / names[0], "lobster", ROOT / "tests" / "instruments" / "lobster_level10.toml")
    day = "AAPL", "2012-06-21T00:00Z", "2012-06-22T00:00Z", "lob_shared_v1"
    with fp.FeatureStore(tmp_path / "root", data) as store:
        before = store.get_or_compute(*day)
        assert len(before.table()) > 900
        book = tmp_path / names[1]
        book.write_bytes(gzip.compress(gzip.decompress(book.read_bytes())))
        assert store.get_or_compute(*day).keys != before.keys
