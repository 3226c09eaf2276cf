"""A book that the engine breaks for being crossed too long (rule 3.9) is broken for whoever looks at one."""

from __future__ import annotations

from dataclasses import replace

import featureplane as fp
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.paper import PaperVenue
from featureplane.market.synthetic import Faults
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.events import BidAskEvent, GapEvent
from featureplane.strategy.runner import StrategyRunner
from tests.binance_lines import backends
from tests.parity.streams import synthetic

V1 = fp.feature_set("lob_shared_v1")
CROSSED = replace(Faults.none(), crossed_long=5_000)


class Onlooker(BaseStrategy):
    """Compares the book it is shown with the features, and remembers gaps."""

    required_features = "lob_shared_v1"

    def __init__(self, venue: PaperVenue) -> None:
        super().__init__()
        self.venue, self.books = venue, 0
        self.gaps: list[bool] = []

    def on_gap(self, event: GapEvent) -> None:
        self.gaps.append(event.is_whole)
        if not event.is_whole:
            assert self.venue.best(event.symbol) == (None, None)

    def on_bid_ask(self, event: BidAskEvent) -> None:
        self.books += 1
        for feature_id, side in (("best_bid", event.bids), ("best_ask", event.asks)):
            value = self.ctx.get_feature(event.symbol, feature_id, default=None)
            assert value == (side[0, 0] if len(side) else None)


@backends
def test_rule_3_9_books_of_strategies_and_venue_are_broken_with_the_engines(backend: str) -> None:
    events = synthetic(6_000, seed=4, symbols=2, faults=CROSSED)
    engine, venue = fp.FeatureEngine(V1, backend), PaperVenue(events.instruments, stream=events.options)
    onlooker = Onlooker(venue)
    runner = StrategyRunner(
        [onlooker], events.instruments, engine=engine, venue=venue, risk=RiskCheck(events.instruments)
    )
    runner.run(events)
    assert runner.states["Onlooker"].error is None
    broken = engine.counts["broken"]
    assert broken["crossed"] == broken.total() >= 2
    assert onlooker.gaps.count(False) == broken["crossed"]
    assert onlooker.gaps.count(True) > 0, "and whole again behind a snapshot"
    assert onlooker.books > 300
