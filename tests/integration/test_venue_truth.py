"""Venue truth: after every applied diff the touch is the one the exchange published itself.

The quotes are taken from the text of the recordings by the standard library; no reader of ours stands
between the exchange and the expectation.
"""

from __future__ import annotations

import functools
import gzip
import json
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from featureplane.features import kernels as k
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch, Kind, Side
from featureplane.market.reading import read_events
from featureplane.research.compute import compute
from featureplane.research.tables import FeatureTable
from tests.shared_data import shared

pytestmark = pytest.mark.native

TOUCH = FeatureSet(
    "venue_touch_test_v1",
    features={
        "bid": k.best_bid(),
        "bid_qty": k.qty("bid", 1),
        "ask": k.best_ask(),
        "ask_qty": k.qty("ask", 1),
    },
)


class Recording(NamedTuple):
    """Files that continue each other; `quotes` and `diffs` as their README counts them."""

    source: str
    files: tuple[str, ...]
    quotes: int
    diffs: int  # applied, those joined to the snapshot among them
    frames: int  # of rule 10.6


RECORDINGS = {
    "spot ETHUSDT": Recording(
        "binance-spot", ("spot/ethusdt_20240808.gz", "spot/ethusdt_20240809.gz"), 58_758, 6_468, 6_469
    ),
    "USD-M BTCUSDT 2024": Recording("binance-usdm", ("usdm/btcusdt_20240808.gz",), 66_089, 6_547, 6_546),
    "USD-M BTCUSDT 2023": Recording(
        "binance-usdm",
        ("usdm/btcusdt_20230404.dat.gz", "usdm/btcusdt_20230405.dat.gz"),
        44_205,
        16_110,
        16_111,
    ),
    "COIN-M ETHUSD": Recording(
        "binance-coinm", ("cm/ethusd_perp_20240808.gz", "cm/ethusd_perp_20240809.gz"), 35_563, 39_133, 39_132
    ),
}
EACH = pytest.mark.parametrize("name", RECORDINGS)


@functools.cache
def events_of(name: str) -> EventBatch:
    source, files, *_ = RECORDINGS[name]
    return read_events([shared(f"binance_raw/{file}") for file in files], source)


@functools.cache
def touch_of(name: str) -> FeatureTable:
    return compute(events_of(name), TOUCH)


@functools.cache
def published(name: str) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Ids of all best quotes, ascending, and beside each bid, its size, ask, its size."""
    one = events_of(name).instrument
    found: dict[int, tuple[int, ...]] = {}
    for file in RECORDINGS[name].files:
        with gzip.open(shared(f"binance_raw/{file}"), "rt", encoding="ascii") as lines:
            for line in lines:
                if "@bookTicker" in line:
                    said = json.loads(line.partition(" ")[2])["data"]
                    prices = (scaled(said[key], one.price_exponent) for key in "ba")
                    sizes = (scaled(said[key], one.qty_exponent) for key in "BA")
                    found[said["u"]] = tuple(x for pair in zip(prices, sizes, strict=True) for x in pair)
    ids = sorted(found)
    return np.array(ids, np.uint64), np.array([found[i] for i in ids], np.int64)


def scaled(text: str, exponent: int) -> int:
    whole, _, digits = text.partition(".")
    assert not digits[exponent:].strip("0")
    return int(whole + digits[:exponent].ljust(exponent, "0"))


def columns(table: FeatureTable) -> npt.NDArray[np.int64]:
    """Values of all features by row; every one of them is defined."""
    made = [table.column(feature_id) for feature_id in table.feature_set]
    assert all(defined.all() for _, defined in made)
    return np.stack([values for values, _ in made], axis=1)


def header(table: FeatureTable, name: str) -> npt.NDArray[Any]:
    return np.asarray(table.to_arrow()[name].to_numpy())


@EACH
def test_the_touch_after_every_diff_is_the_best_quote_of_the_exchange(name: str) -> None:
    ids, quotes = published(name)
    applied = header(touch_of(name), "source_seq")
    assert len(applied) == RECORDINGS[name].frames
    assert (np.diff(applied.astype(np.int64)) > 0).all()
    nearest = np.searchsorted(ids, applied, side="right") - 1
    assert (nearest >= 0).all()
    wrong = np.flatnonzero((columns(touch_of(name)) != quotes[nearest]).any(axis=1))
    assert not len(wrong), f"{len(wrong)} of {len(applied)}, the first after id {applied[wrong[0]]}"


@EACH
def test_every_diff_behind_the_snapshot_is_applied(name: str) -> None:
    events = events_of(name).array
    (snapshot,) = np.unique(events["seq_last"][events["kind"] == Kind.SNAPSHOT_LEVEL])
    diffs = np.unique(events["seq_last"][events["kind"] == Kind.LEVEL])
    assert int((diffs > snapshot).sum()) == RECORDINGS[name].diffs
    applied = header(touch_of(name), "source_seq")
    # The first frame is the snapshot with the diffs that joined it.
    assert (applied[1:] == diffs[diffs > applied[0]]).all()


@EACH
def test_quotes_keep_what_the_exchange_wrote(name: str) -> None:
    events = events_of(name).array
    told = events[events["kind"] == Kind.QUOTE]
    assert len(told) == 2 * RECORDINGS[name].quotes
    bids, asks = told[0::2], told[1::2]
    assert (bids["side"] == Side.BID).all()
    assert (asks["side"] == Side.ASK).all()
    ids, quotes = published(name)
    order = np.argsort(bids["seq_last"], kind="stable")
    _, last = np.unique(bids["seq_last"][order][::-1], return_index=True)
    kept = order[::-1][last]
    assert (bids["seq_last"][kept] == ids).all()
    both = [bids["price"], bids["qty"], asks["price"], asks["qty"]]
    assert (np.stack([column[kept] for column in both], axis=1) == quotes).all()
