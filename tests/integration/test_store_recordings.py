"""Days of real recordings: computed alone they are the days that were lived."""

from __future__ import annotations

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
