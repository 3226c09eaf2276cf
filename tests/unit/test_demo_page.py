"""What the demo's page says beside its numbers: of what they are, and in which unit."""

from __future__ import annotations

import pytest

from featureplane.cli.backtest import _signed
from featureplane.ops.chart import chart_of
from featureplane.ops.demo import run_demo
from featureplane.ops.demo_page import demo_page
from featureplane.research.compute import compute


@pytest.mark.native
def test_the_head_says_that_a_slice_was_compared_and_what_the_time_is_of() -> None:
    demo = run_demo(backend="rust")
    demo.ns_per_row["limit"] = 2.0
    figures = {one.label: one for one in demo_page(demo).figures}
    assert demo.parity is not None
    assert figures["Python against Rust"].note == f"frames of the first {demo.parity.events:,} events differ"
    assert figures["Speed"].note == "a row of lob_shared_v1; 2.0 ns in a program written by hand"
    table = compute(demo.events.part(0, 4000), "lob_shared_v2")
    panels = {
        one.feature_id: one
        for one in chart_of(demo.events.part(0, 4000), table, (), base="A", quote="B").panels
    }
    assert panels["trade_intensity_5s"].unit == "trades/s"
    shown = panels["depth_imbalance_ppm"]
    assert shown.unit == "%"
    values, defined = table.column("depth_imbalance_ppm")
    assert shown.values[defined].tolist() == pytest.approx((values[defined] / 10_000).tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("value", "said"), [(-2.34816e-05, "-0.000023"), (0.0, "+0.000000"), (1234.5, "+1,234.5"), (None, "none")]
)
def test_a_small_amount_of_money_is_no_power_of_ten(value: float | None, said: str) -> None:
    assert _signed(value) == said
