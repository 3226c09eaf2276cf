"""Reference = streaming = block over recorded markets (rule 10.1), and the frames of rule 10.6."""

from __future__ import annotations

import functools

import pytest

from featureplane.features.engine import FeatureEngine
from featureplane.features.parity import parity
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch
from featureplane.market.reading import read_events
from tests.parity.streams import V1, V2, assert_agrees
from tests.shared_data import shared

pytestmark = pytest.mark.native

MESSAGES = 20_000

RECORDINGS = {
    "spot ETHUSDT": ("binance-spot", ["spot/ethusdt_20240808.gz", "spot/ethusdt_20240809.gz"], 6_469, 20_984),
    "USD-M BTCUSDT 2024": ("binance-usdm", ["usdm/btcusdt_20240808.gz"], 6_546, 27_854),
    "USD-M BTCUSDT 2023": (
        "binance-usdm",
        ["usdm/btcusdt_20230404.dat.gz", "usdm/btcusdt_20230405.dat.gz"],
        16_111,
        29_039,
    ),
    "COIN-M ETHUSD": (
        "binance-coinm",
        ["cm/ethusd_perp_20240808.gz", "cm/ethusd_perp_20240809.gz"],
        39_132,
        42_727,
    ),
}
EACH = pytest.mark.parametrize("name", RECORDINGS)


@functools.cache
def recording(name: str) -> EventBatch:
    source, files, *_ = RECORDINGS[name]
    return read_events([shared(f"binance_raw/{file}") for file in files], source=source)


@EACH
@pytest.mark.parametrize("fset", [V1, V2], ids=lambda fset: fset.feature_set_id)
def test_rule_10_6_frames_to_expect(name: str, fset: FeatureSet) -> None:
    expected = RECORDINGS[name][2 if fset is V1 else 3]
    assert sum(map(len, FeatureEngine(fset, backend="rust").columns(recording(name)))) == expected


@EACH
@pytest.mark.parametrize("fset", [V1, V2], ids=lambda fset: fset.feature_set_id)
def test_rule_10_1_the_first_messages_of_a_recording(name: str, fset: FeatureSet) -> None:
    assert_agrees(parity(recording(name).part(0, MESSAGES), fset))


@pytest.mark.soak
@EACH
@pytest.mark.parametrize("fset", [V1, V2], ids=lambda fset: fset.feature_set_id)
def test_rule_10_1_whole_recordings(name: str, fset: FeatureSet) -> None:
    assert_agrees(parity(recording(name), fset))
