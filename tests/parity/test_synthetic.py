"""Reference = streaming = block over a market with accidents (rule 10.1)."""

from __future__ import annotations

from typing import Any

import pytest

from featureplane.errors import SequenceGap
from featureplane.features.parity import parity
from featureplane.features.sampling import Emit
from featureplane.features.spec import FeatureSet
from featureplane.market.events import SourceInfo, StreamOptions
from featureplane.market.synthetic import Faults
from tests.parity.streams import ODD, SETS, TRADES, V1, V2, assert_agrees, synthetic
from tests.soak import share

pytestmark = pytest.mark.native

EACH_SET = pytest.mark.parametrize("fset", SETS, ids=lambda fset: fset.feature_set_id)

INSTRUMENTS = {
    "five levels": {"book_levels": 5},
    "locked is valid": {"locked": "valid"},
    "one clock": {"clock": "synchronised"},
    "resets in New York": {"reset_at": "09:30", "time_zone": "America/New_York"},
    "never reset": {"reset_at": "none"},
    "no bucket, no tick": {"vpin_bucket": None, "tick_size": None},
}


@pytest.mark.parametrize("part", range(8))
def test_rule_10_1_a_million_events_of_several_symbols(part: int) -> None:
    # Half of them under the big set; a part is what one worker does in a minute.
    fset, count = ((V2, 40_000), (V1, 210_000))[part % 2]
    assert_agrees(parity(synthetic(count, seed=100 + part, symbols=1 + part // 2), fset))


@pytest.mark.soak
@pytest.mark.parametrize("part", range(40))
def test_rule_10_1_ten_million_events_of_several_symbols(part: int) -> None:
    fset = (V2, V1, ODD, TRADES)[part % 4]
    assert_agrees(parity(synthetic(share(250_000), seed=1000 + part, symbols=2 + part // 8), fset))


@EACH_SET
@pytest.mark.parametrize("on_gap", ["wait", "continue"])
@pytest.mark.parametrize("seed_after", [None, 500])
def test_rules_3_5_and_3_7_all_ways_to_take_it(fset: FeatureSet, on_gap: str, seed_after: int | None) -> None:
    seed = "snapshot" if seed_after is None else "increments"
    options = StreamOptions(on_gap=on_gap, seed=seed, seed_after=seed_after)
    assert_agrees(parity(synthetic(4_000, seed=7, options=options), fset))


@EACH_SET
def test_rule_3_5_a_refused_gap_is_the_same_error_behind_the_same_frames(fset: FeatureSet) -> None:
    report = parity(synthetic(4_000, seed=7, options=StreamOptions(on_gap="refuse")), fset)
    assert_agrees(report)
    assert isinstance(report.error, SequenceGap)


@EACH_SET
def test_rule_10_1_malformed_messages_are_dropped_alike(fset: FeatureSet) -> None:
    options = StreamOptions(on_malformed="drop")
    report = parity(synthetic(8_000, seed=3, faults=Faults(corrupt=5_000), options=options), fset)
    assert_agrees(report)
    assert report.dropped["malformed"] > 0


@EACH_SET
def test_an_order_level_feed(fset: FeatureSet) -> None:
    assert_agrees(parity(synthetic(6_000, seed=5, symbols=2, order_level=True), fset))


@EACH_SET
@pytest.mark.parametrize("instrument", INSTRUMENTS.values(), ids=INSTRUMENTS)
def test_every_kind_of_instrument(fset: FeatureSet, instrument: dict[str, Any]) -> None:
    assert_agrees(parity(synthetic(4_000, seed=11, **instrument), fset))


@EACH_SET
@pytest.mark.parametrize("without", ["local_time", "trade_sides", "has_snapshots"])
def test_rule_10_3_what_a_source_lacks(fset: FeatureSet, without: str) -> None:
    facts = {"sequenced": True, "has_snapshots": True, "local_time": True, "trade_sides": True}
    source = SourceInfo("synthetic", **(facts | {without: False}))
    assert_agrees(parity(synthetic(4_000, seed=13, source=source), fset))


@EACH_SET
@pytest.mark.parametrize(
    ("every", "emit"), [(7, "update"), ("100ms", "update"), (None, "change"), ("1s", "change")]
)
def test_rules_5_5_and_5_6_sampled_frames(fset: FeatureSet, every: int | str | None, emit: Emit) -> None:
    assert_agrees(parity(synthetic(4_000, seed=17, symbols=2), fset, every=every, emit=emit))
