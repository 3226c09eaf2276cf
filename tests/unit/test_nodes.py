"""What the nodes of a plan are told at a tick (rules 5.2, 8; readings 38, 39)."""

from __future__ import annotations

import pytest

from featureplane.features import kernels as k
from featureplane.features.kernels.binding import Terms
from featureplane.features.kernels.trades import TradeTick
from featureplane.features.nodes import Nodes
from featureplane.features.spec import FeatureSet


def nodes(*, trade_sides: bool) -> Nodes:
    features = FeatureSet("test", features={"signed": k.signed_qty(), "mid": k.mid_x2()})
    return Nodes(features.plan, Terms(), trade_sides=trade_sides)


@pytest.mark.parametrize(("trade_sides", "expected"), [(False, 3), (True, None)])
def test_reading_38_a_missing_side_is_read_off_the_book_where_no_trade_has_one(
    *, trade_sides: bool, expected: int | None
) -> None:
    life = nodes(trade_sides=trade_sides)
    life.trade_tick(TradeTick(price=101, qty=3, sign=0, clock_ns=0, mid_before=200), trades_only=False)
    assert life.features[0].cell.value == expected


def test_reading_38_the_tick_rule_alone_where_trades_have_sides() -> None:
    life = nodes(trade_sides=True)
    for price, sign in ((101, 1), (100, 0)):
        trade = TradeTick(price=price, qty=3, sign=sign, clock_ns=0, mid_before=100)
        life.trade_tick(trade, trades_only=False)
    assert life.features[0].cell.value == -3
