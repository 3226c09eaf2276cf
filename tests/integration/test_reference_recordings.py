"""The reference over whole recordings: the frames that rule 10.6 expects."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest

from featureplane.features import kernels as k
from featureplane.features.engine import FeatureEngine
from featureplane.features.spec import FeatureSet
from featureplane.market.quality import Quality
from featureplane.market.reading import read_events
from tests.shared_data import shared


class Recording(NamedTuple):
    """Files that continue each other, and the frames of sets that read the book, or trades too."""

    source: str
    files: tuple[str, ...]
    book: int
    trades: int
    stale: bool = False  # it holds the stall of 2023


SPOT = Recording("binance-spot", ("spot/ethusdt_20240808.gz", "spot/ethusdt_20240809.gz"), 6_469, 20_984)
OTHERS = {
    "USD-M 2024": Recording("binance-usdm", ("usdm/btcusdt_20240808.gz",), 6_546, 27_854),
    "USD-M 2023": Recording(
        "binance-usdm",
        ("usdm/btcusdt_20230404.dat.gz", "usdm/btcusdt_20230405.dat.gz"),
        16_111,
        29_039,
        stale=True,
    ),
    "COIN-M 2024": Recording(
        "binance-coinm", ("cm/ethusd_perp_20240808.gz", "cm/ethusd_perp_20240809.gz"), 39_132, 42_727
    ),
}

BOOK = FeatureSet("book", features={"mid": k.mid_x2()})
TRADES = FeatureSet("trades", features={"mid": k.mid_x2(), "price": k.trade_price()})


def flag_counts(recording: Recording, fset: FeatureSet) -> Counter[Quality]:
    paths = [shared(f"binance_raw/{name}") for name in recording.files]
    events = read_events(paths, source=recording.source)
    return Counter(frame.flags for frame in FeatureEngine(fset, backend="python").replay(events))


def check(recording: Recording) -> None:
    for fset, expected in ((BOOK, recording.book), (TRADES, recording.trades)):
        flags = flag_counts(recording, fset)
        assert flags.total() == expected
        # The first frame, and the first one after midnight.
        assert flags[Quality.STATE_RESET] == 2
        assert set(flags) <= {Quality(0), Quality.STATE_RESET, Quality.STALE_INPUT}
        assert (flags[Quality.STALE_INPUT] > 0) is recording.stale


def test_rule_10_6_frames_of_the_spot_pair() -> None:
    check(SPOT)


@pytest.mark.soak
@pytest.mark.parametrize("recording", OTHERS.values(), ids=OTHERS)
def test_rule_10_6_frames_of_the_other_recordings(recording: Recording) -> None:
    check(recording)
