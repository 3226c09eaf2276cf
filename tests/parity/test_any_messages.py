"""Reference = streaming = block whatever messages come (rule 10.1)."""

from __future__ import annotations

from typing import Any

import pytest

from featureplane.errors import EmptyStream
from featureplane.features import kernels as k
from featureplane.features.parity import ParityReport, parity
from featureplane.features.spec import FeatureSet
from tests import soak
from tests.parity.any_messages import any_batch
from tests.parity.streams import TRADES, V2

pytestmark = pytest.mark.native
SHORT_STREAMS = True

BOOK = FeatureSet(
    "book_v1",
    features={
        "bid": k.best_bid(),
        "ofi": k.ofi(),
        "ofi3": k.ofi_multi(3),
        "deep": k.deep_flow(3),
        "depth": k.depth("ask", 4),
        "slope": k.book_slope(2),
        "vwap": k.vwap_x2(3),
        "survival": k.tob_survival_ms(),
        "cum": k.cumsum(k.ofi()),
        "mean": k.mean_over(k.mid_x2(), ms=200),
        "z": k.zscore(k.spread(), window=5),
        "vol": k.realized_vol(ms=500),
    },
)
MIXED = FeatureSet(
    "mixed_v1",
    features={
        "above_bid": k.trade_price() - k.best_bid(),
        "flow": k.ema(k.sum_over(k.ofi(), seconds=1) + k.signed_qty(), span=4),
        "signed_mean": k.mean_over(k.signed_qty(), ms=200),
        "kyle": k.kyle_lambda(4),
        "level3": k.level_price("bid", 3),
        "ofi3": k.ofi(level=3),
        "ages": k.diff(k.tob_survival_ms() + k.ms_since_trade()),
        "relative": k.relative_ticks(k.microprice_x2(), k.mean_over(k.mid_x2(), ms=300)),
        "lag": k.lag(k.trade_price() - k.best_ask(), n=2),
        "least": k.min(k.trade_price() * k.qty("bid"), window=3),
        "short": k.zscore(k.depth("bid", 4), window=2),
    },
)
SETS = (BOOK, MIXED, TRADES, V2)
CHOICES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"emit": "change"},
    {"every": 3},
    {"every": "50ms", "emit": "change"},
)


def compared(seed: int, messages: int) -> ParityReport | None:
    """The comparison of a stream; None if it ended in a refusal or never had a book."""
    try:
        return parity(any_batch(seed, messages), SETS[seed % len(SETS)], **CHOICES[seed % len(CHOICES)])
    except EmptyStream:
        return None


def check(seed: int, messages: int) -> None:
    report = compared(seed, messages)
    if report is not None:
        soak.compared.update(events=report.events, frames=report.frames)
    if report is not None and report.first_mismatch is not None:
        batch = any_batch(seed, messages)
        raise AssertionError((seed, batch.options, batch.source, report.first_mismatch))


@pytest.mark.parametrize("seed", range(60))
def test_rule_10_1_any_messages(seed: int) -> None:
    check(seed, 250)


def test_reading_7_a_clear_takes_no_order_of_a_book_that_was_emptied() -> None:
    check(16, 160)  # id 21 stood elsewhere before


@pytest.mark.soak
@pytest.mark.parametrize("part", range(40))
def test_rule_10_1_many_more_of_them(part: int) -> None:
    for seed in range(1_000 + 100 * part, 1_000 + 100 * part + soak.share(60)):
        check(seed, 600)
