"""A runner beside whose strategies silent forms of them can run.

Leans on `strategy.runner` and `strategy.twins`. Knows nothing of versions of feature sets.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from featureplane.execution.orders import OrderEvent
from featureplane.market.stages import ASIDE
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.desk import Decision, Desk
from featureplane.strategy.runner import StrategyRunner
from featureplane.strategy.twins import Twin

__all__ = ["AccompaniedRunner"]


class AccompaniedRunner(StrategyRunner):
    """A `StrategyRunner` with silent legacy forms, or none; whoever takes messages lets them follow."""

    on_parted: Callable[[Twin, str], None] | None = None
    """Told which silent form decided otherwise than its strategy, or raised, and how, in words."""

    twins: Mapping[str, Twin] = {}
    """Silent legacy forms by strategy."""

    _plain_told: Callable[[Decision], None] | None = None

    def _accompany(self, legacy: Mapping[str, BaseStrategy], kept: Collection[str]) -> None:
        """Begin silent forms, and end those of strategies that are not to be kept."""
        begins = self._exchange.message == 0
        made = {
            name: Twin(self.states[name], one, self.instruments, self._exchange, in_step=begins)
            for name, one in legacy.items()
            if name not in self.twins
        }
        self.twins = {name: one for name, one in self.twins.items() if name in kept} | made
        self._watch()

    def _told_twins(self, decision: Decision) -> None:
        if self._plain_told is not None:
            self._plain_told(decision)
        twin = self.twins.get(decision.strategy)
        if twin is not None:
            twin.desk.told.append(decision)

    def _follow_twins(self, bits: int) -> None:
        """Let the silent forms see the message; what that takes is no part of it."""
        stages = self._exchange.stages
        began = 0 if stages is None else stages.timer()
        self._let_follow(bits)
        if stages is not None:
            stages.add(ASIDE, began)

    def _let_follow(self, bits: int) -> None:
        for name, twin in self.twins.items():
            if twin.real.is_running:
                twin.follow(self._room, bits)
            why = twin.why_over
            if why is None and twin.real.is_running:
                continue
            self._accompany({}, kept=self.twins.keys() - {name})
            if why is not None:
                self._parted(name)
                if self.on_parted is not None:
                    self.on_parted(twin, why)
        if self._exchange.late:
            self._exchange.late.clear()

    def _parted(self, name: str) -> None:
        """A silent form has ended, and its strategy may go on."""

    def _watch(self) -> None:
        """Listen to decisions while there is somebody to hold them against."""
        exchange, told = self._exchange, self._told_twins
        if self.twins and exchange.told != told:
            self._plain_told, exchange.told, exchange.late = exchange.told, told, set()
        elif not self.twins and exchange.told == told:
            exchange.told, exchange.late = self._plain_told, None
        self._subscribe()

    def _subscribe(self) -> None:
        super()._subscribe()
        twins = self.twins.values()
        if twins:
            levels = bool(self._on_bid_ask) or any(one.hears("on_bid_ask") for one in twins)
            stats = bool(self._on_stats) or any(one.hears("on_lob_stats") for one in twins)
            self._books.watch(levels=levels, sums=stats or self._exchange.risk is not None)

    def _tell(self, desk: Desk, event: OrderEvent) -> None:
        twin = self.twins.get(desk.name) if self.twins else None
        if twin is not None and twin.real.desk is desk:
            twin.hear(event)
        super()._tell(desk, event)

    def switch(self, name: str, strategy: BaseStrategy | None) -> None:
        """See `StrategyRunner.switch`; the silent form of what was there ends."""
        super().switch(name, strategy)
        self._accompany({}, kept=self.twins.keys() - {name})
