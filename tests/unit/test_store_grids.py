"""Rows chosen out of stored ones are those that sampling keeps while they are computed."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pyarrow as pa
import pytest

import featureplane as fp
from featureplane.errors import SettingError
from featureplane.features import kernels as k
from featureplane.features.columns import Columns
from featureplane.research.tables import FeatureTable
from tests import stored
from tests.stored import SET, SYMBOL, at, whole

WIDE = fp.FeatureSet("wide", features={f"ema{n}": k.ema(k.spread(), span=n + 2) for n in range(70)})


def computed(data: fp.Dataset, fset: fp.FeatureSet, every: int | str) -> pa.Table:
    """The first day, sampled while it is computed."""
    events = chain.from_iterable(data.events(file, SYMBOL) for file in data.files[:1])
    parts: list[Columns] = list(fp.FeatureEngine(fset, every=every).columns(events))
    return FeatureTable(fset, parts, (SYMBOL,)).to_arrow()


@pytest.mark.parametrize("fset", [SET, stored.TRADES, WIDE], ids=lambda fset: fset.feature_set_id)
@pytest.mark.parametrize("every", ["100ms", "1s", "7ms", 1, 3, 50])
def test_a_day_is_sampled_as_it_would_have_been(
    fset: fp.FeatureSet, every: int | str, tmp_path: Path
) -> None:
    data = stored.dataset(tmp_path / "raw")
    with fp.FeatureStore(tmp_path / "root", data) as store:
        kept = store.get_or_compute(SYMBOL, at(0), at(1), fset).sampled(every)
    expected = computed(data, fset, every)
    assert len(expected) > 1
    assert kept.schema.names == expected.schema.names
    assert kept.cast(expected.schema).equals(expected)


def test_an_interval_that_goes_on_behind_a_day_ends_with_the_next(tmp_path: Path) -> None:
    data = stored.dataset(tmp_path / "raw")
    with fp.FeatureStore(tmp_path / "root", data) as store:
        both = whole(store).sampled("1s")
        first = store.get_or_compute(SYMBOL, at(0), at(1), SET).sampled("1s")
        nothing = store.get_or_compute(SYMBOL, at(0), at(0), SET).sampled("1s")
    assert both.slice(0, len(first)).equals(first)
    assert both["grid_ts_ns"].to_numpy()[len(first)] > first["grid_ts_ns"].to_numpy()[-1]
    assert len(nothing) == 0
    assert nothing.schema == both.schema


@pytest.mark.parametrize("every", ["soon", 0, None])
def test_what_is_no_period(every: int | str, tmp_path: Path) -> None:
    data = stored.dataset(tmp_path / "raw")
    with fp.FeatureStore(tmp_path / "root", data) as store, pytest.raises(SettingError):
        whole(store).sampled(every)
