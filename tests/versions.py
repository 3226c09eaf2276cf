"""Strategies that write down all they hear and read, for services with two versions of a feature set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import featureplane as fp
from featureplane.features.profiles import profile_of
from featureplane.market.synthetic import symbol_name
from featureplane.services.marketdata import MarketDataService
from featureplane.services.raw_queue import Item, Reconnect
from featureplane.services.story import Story
from featureplane.strategy.api import BaseStrategy
from tests.binance_render import SAYABLE, SOURCE, Way, instruments, rendered
from tests.orders import WIDE
from tests.services import V1, Frames, service

V2 = fp.feature_set("lob_shared_v2")
FASTER = profile_of(V1, "faster", {"ofi_l1_ema8": {"span": 5}})


class Scribe(BaseStrategy):
    """Writes down every event, and at each what it pulls of the event's symbol, by handle and by name."""

    required_features: ClassVar[Any] = ("lob_shared_v1", "lob_shared_v2")
    pulled: ClassVar[tuple[str, ...]] = ("best_bid", "ofi_l1_ema8")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.heard: list[tuple[Any, ...]] = []

    def on_start(self) -> None:
        self.doors = {s: [self.ctx.handle(one, s) for one in self.pulled] for s in self.ctx.symbols}
        self.read = self.ctx.get_feature  # kept, as strategies may

    def _note(self, what: str, symbol: str, told: object) -> None:
        doors = self.doors[symbol]
        values = tuple(door.value if door.is_ready else None for door in doors)
        assert values == tuple(self.read(symbol, one, default=None) for one in self.pulled)
        assert values == tuple(self.ctx.get_feature(symbol, one, default=None) for one in self.pulled)
        self.heard.append((what, symbol, told, values))

    def on_tick(self, event: Any) -> None:
        self._note("tick", event.symbol, event.as_tuple())

    def on_bid_ask(self, event: Any) -> None:
        self._note("book", event.symbol, event.as_tuple())

    def on_lob_stats(self, event: Any) -> None:
        self._note("stats", event.symbol, event.as_tuple())

    def on_gap(self, event: Any) -> None:
        self._note("gap", event.symbol, event.as_tuple())

    def on_features(self, frame: fp.FeatureFrame) -> None:
        assert frame.pack() == self.ctx.get_feature_view(frame.symbol).pack()
        assert frame.feature_set_id == self.ctx.get_feature_set_id(frame.symbol)
        self._note("frame", frame.symbol, frame.pack())

    def of(self, *symbols: str) -> list[tuple[Any, ...]]:
        """What it heard of these symbols."""
        return [one for one in self.heard if one[1] in symbols]


class Both(Frames):
    """A subscriber that keeps the candidate's frames too."""

    def __init__(self) -> None:
        super().__init__()
        self.candidates: list[bytes] = []

    def on_candidate(self, frames: Iterable[fp.FeatureFrame]) -> None:
        self.candidates += [frame.pack() for frame in frames]


class Everything(Story):
    """Keeps all decisions and what became of orders."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[Any] = []

    def on_decision(self, decision: Any) -> None:
        super().on_decision(decision)
        self.said.append(decision)

    def on_order_event(self, strategy: str, event: Any) -> None:
        super().on_order_event(strategy, event)
        self.said.append((strategy, event))


def accidents(seed: int, events: int, symbols: int = 2, *, crossed: int = 0) -> list[Item]:
    """Messages of several symbols of which some are lost, doubled, late or damaged, and reconnects.

    `crossed`: so many of a million leave a book crossed for long.
    """
    faults = replace(SAYABLE, gap_book=3_000, gap_trades=3_000, crossed=crossed, crossed_long=crossed)
    items = list(Way(seed, symbols).items(rendered(events, seed, symbols, faults)))
    for at in range(700, len(items), 1_700):  # and some at places known to be there
        items.insert(at, Reconnect(symbol_name(at % symbols)))
    return items


def made_up(*strategies: BaseStrategy, symbols: int = 2, **how: Any) -> MarketDataService:
    """A service of made-up symbols."""
    return service(*strategies, instruments=instruments(symbols), source=SOURCE, limits=WIDE, **how)


def play(
    running: MarketDataService,
    items: Iterable[Item],
    steps: Mapping[int, Callable[[], object]] | None = None,
) -> MarketDataService:
    """Take all of it, each step before the message of its number, to the end."""
    for number, item in enumerate(items):
        if steps and number in steps:
            steps[number]()
        if isinstance(item, tuple):
            running.take(*item)
        else:
            running.reconnect(item.symbol, item.reason)
    running.finish()
    for state in running.runner.states.values():
        assert state.error is None, f"{state.name}: {state.error!r}"
    return running
