"""Reference = streaming = block over everything recorded that a source reads (rule 10.1), and rule 10.6."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from featureplane.features.engine import FeatureEngine
from featureplane.features.parity import parity
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch
from featureplane.market.hftbacktest_export import save_hftbacktest
from featureplane.market.reading import read_events
from featureplane.market.sources.capture import write_capture
from tests.parity.streams import ODD, TRADES, V1, V2, assert_agrees
from tests.shared_data import shared
from tests.soak import share

pytestmark = pytest.mark.native

MESSAGES = 20_000
INSTRUMENTS = Path(__file__).parents[1] / "instruments"


class Recording(NamedTuple):
    """Files that continue each other and how they are read."""

    source: str
    files: Sequence[str]
    instruments: str | None = None  # a file of `tests/instruments`
    symbol: str | None = None
    options: dict[str, Any] = {}  # noqa: RUF012 - never written to


BINANCE = {
    "spot ETHUSDT": Recording(
        "binance-spot",
        ["binance_raw/spot/ethusdt_20240808.gz", "binance_raw/spot/ethusdt_20240809.gz"],
        "binance",
        "ETHUSDT",
    ),
    "USD-M BTCUSDT 2024": Recording(
        "binance-usdm", ["binance_raw/usdm/btcusdt_20240808.gz"], "binance", "BTCUSDT"
    ),
    "USD-M BTCUSDT 2023": Recording(
        "binance-usdm",
        ["binance_raw/usdm/btcusdt_20230404.dat.gz", "binance_raw/usdm/btcusdt_20230405.dat.gz"],
        "binance",
        "BTCUSDT",
    ),
    "COIN-M ETHUSD": Recording(
        "binance-coinm",
        ["binance_raw/cm/ethusd_perp_20240808.gz", "binance_raw/cm/ethusd_perp_20240809.gz"],
        "binance",
        "ETHUSD_PERP",
    ),
}
OTHERS = {
    "LOBSTER AAPL 1": Recording(
        "lobster", ["lobster/LOBSTER_SampleFile_AAPL_2012-06-21_1.zip"], "lobster_level1", "AAPL"
    ),
    "LOBSTER AMZN 1": Recording(
        "lobster", ["lobster/LOBSTER_SampleFile_AMZN_2012-06-21_1.zip"], "lobster_level1", "AMZN"
    ),
    "LOBSTER AMZN 5": Recording(
        "lobster", ["lobster/LOBSTER_SampleFile_AMZN_2012-06-21_5.zip"], "lobster_level5"
    ),
    "LOBSTER AAPL 10": Recording(
        "lobster", ["lobster/AAPL_2012-06-21_first999rows_message_10.csv.gz"], "lobster_level10"
    ),
    "LOBSTER AAPL messages alone": Recording(
        "lobster",
        ["lobster/AAPL_2012-06-21_34200000_37800000_message_50.csv.gz"],
        "lobster_level50",
        options={"seed": "increments", "seed_after": 10_000},
    ),
    "TAIFEX future": Recording(
        "hftbacktest", ["taifex/TMFD6_2026-04-08_replay_actual.parquet"], "taifex", "TMFD6"
    ),
    "TAIFEX option": Recording(
        "hftbacktest", ["taifex/TXO35000Q6_2026-04-17_replay_actual.parquet"], "taifex", "TXO35000Q6"
    ),
}
# By themselves, for the first messages of each: they begin without a snapshot.
LATER_FILES = {
    f"{name}, the second file": one._replace(files=one.files[1:], options={"seed": "increments"})
    for name, one in BINANCE.items()
    if one.files[1:]
}
RECORDINGS = BINANCE | OTHERS
FRAMES = {  # of sets that read the book only, and trades too (rule 10.6)
    "spot ETHUSDT": (6_469, 20_984),
    "USD-M BTCUSDT 2024": (6_546, 27_854),
    "USD-M BTCUSDT 2023": (16_111, 29_039),
    "COIN-M ETHUSD": (39_132, 42_727),
}
SHIPPED = pytest.mark.parametrize("fset", [V1, V2], ids=lambda fset: fset.feature_set_id)


@functools.cache
def recording(name: str) -> EventBatch:
    source, files, instruments, symbol, options = (RECORDINGS | LATER_FILES)[name]
    about = None if instruments is None else INSTRUMENTS / f"{instruments}.toml"
    return read_events([shared(file) for file in files], source, symbol, about, **options)


def head_of(events: EventBatch, most: int) -> EventBatch:
    """So many messages, with 0 those of a soak: all, or in a rehearsal enough to have frames of any set."""
    return events.part(0, most or max(share(events.messages), 1_000))


@SHIPPED
@pytest.mark.parametrize("name", BINANCE)
def test_rule_10_6_frames_to_expect(name: str, fset: FeatureSet) -> None:
    expected = FRAMES[name][0 if fset is V1 else 1]
    assert sum(map(len, FeatureEngine(fset, backend="rust").columns(recording(name)))) == expected


@SHIPPED
@pytest.mark.parametrize("name", RECORDINGS | LATER_FILES)
def test_rule_10_1_the_first_messages_of_a_recording(name: str, fset: FeatureSet) -> None:
    assert_agrees(parity(recording(name).part(0, MESSAGES), fset))


@pytest.mark.soak
@pytest.mark.parametrize("fset", [V1, V2, ODD, TRADES], ids=lambda fset: fset.feature_set_id)
@pytest.mark.parametrize("name", RECORDINGS)
def test_rule_10_1_whole_recordings(name: str, fset: FeatureSet) -> None:
    assert_agrees(parity(head_of(recording(name), 0), fset))


# -- the same markets in other forms


def captured(events: EventBatch, path: Path) -> EventBatch:
    write_capture(path / "events.fpcap", events, compression="zstd")
    return read_events(path / "events.fpcap", "capture")


def as_our_rows(events: EventBatch, path: Path) -> EventBatch:
    save_hftbacktest(path / "rows.npz", events)
    return read_events(path / "rows.npz", "hftbacktest", events.instrument.symbol, events.instrument)


def as_their_rows(name: str, path: Path) -> EventBatch:
    """Rows of hftbacktest's own converter: full books in two halves, no ids."""
    tools = importlib.import_module("hftbacktest.data.utils.binancefutures")
    one, *_ = RECORDINGS[name].files
    np.savez(path / "rows.npz", data=tools.convert(str(shared(one)), combined_stream=True))
    about = recording(name).instrument
    return read_events(path / "rows.npz", "hftbacktest", about.symbol, about)


MOST = pytest.mark.parametrize(
    "most", [pytest.param(MESSAGES, id="head"), pytest.param(0, id="whole", marks=pytest.mark.soak)]
)


@MOST
def test_rule_10_1_a_capture_of_a_recording(most: int, tmp_path: Path) -> None:
    events = head_of(recording("USD-M BTCUSDT 2024"), most)
    back = captured(events, tmp_path)
    assert back.array.tobytes() == events.array.tobytes()
    assert_agrees(parity(back, V1 if most else V2))


@MOST
@pytest.mark.parametrize("name", BINANCE)
def test_rule_10_1_rows_of_our_converter(name: str, most: int, tmp_path: Path) -> None:
    events = head_of(recording(name), most)
    assert_agrees(parity(as_our_rows(events, tmp_path), V1 if most else V2))


@MOST
@pytest.mark.parametrize("name", ["USD-M BTCUSDT 2024", "COIN-M ETHUSD"])
def test_rule_10_1_rows_of_hftbacktests_converter(name: str, most: int, tmp_path: Path) -> None:
    events = as_their_rows(name, tmp_path)
    assert not events.source.sequenced
    assert_agrees(parity(head_of(events, most), V1 if most else V2))
