"""What the nodes of a plan are told at a tick (rules 5.2, 8; readings 38, 39)."""

from __future__ import annotations

import pytest

from featureplane.features import kernels as k
from featureplane.features.kernels.binding import Terms
from featureplane.features.kernels.cell import Cell
from featureplane.features.kernels.rolling import Mean
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


def test_what_learned_nothing_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not move with the clock says the same until its next advance."""
    asked: list[int] = []
    read = Mean.read

    def counted(self: Mean, clock_ns: int) -> Cell:
        asked.append(clock_ns)
        return read(self, clock_ns)

    features = FeatureSet("test", features={"mean": k.mean(k.trade_price(), window=2)})
    life = Nodes(features.plan, Terms(), trade_sides=True)
    monkeypatch.setattr(Mean, "read", counted)
    for clock, price in ((10, 100), (20, 103)):
        trade = TradeTick(price=price, qty=3, sign=1, clock_ns=clock, mid_before=None)
        life.trade_tick(trade, trades_only=False)
        life.finish(clock)
        life.finish(clock + 5)
    assert asked == [10, 20]
    assert life.features[0].cell.value == 101.5
    life.reset(life.reads)
    life.finish(30)
    assert life.features[0].cell.value is None
