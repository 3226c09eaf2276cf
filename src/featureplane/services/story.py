"""What strategies do in a running service: counted, and told to the log with the message it answers.

Leans on `strategy` and `telemetry`. It has no say in anything.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from featureplane.execution.limits import RefusalCode
from featureplane.execution.orders import EventKind, OrderEvent
from featureplane.strategy.api import HANDLERS
from featureplane.strategy.desk import Decision
from featureplane.strategy.states import Listener, OwnError, StrategyState
from featureplane.telemetry import Telemetry, log_event

__all__ = ["Story"]

_log = logging.getLogger(__name__)


class _Stopped(NamedTuple):
    strategy: str
    error: OwnError | None
    message: int


class Story(Listener):
    """Counts decisions, refusals and order events.

    The `trace` of a line is `m` and the number of the message a strategy decided at: that of an order's
    decision and of everything that happens to it. For a strategy's end it is the message at which it ended,
    for a late handler the one at which that was noticed.
    """

    def __init__(self) -> None:
        self.decisions: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.stopped: Counter[str] = Counter()
        self._over_budget: Counter[tuple[str, str]] = Counter()  # of those that run, logged
        self._raised: Counter[tuple[str, str]] = Counter()  # of those that were exchanged
        self._late: Counter[tuple[str, str]] = Counter()
        self.message = 0  # at which the last decision was taken
        self.news: list[Decision | tuple[str, OrderEvent] | _Stopped] = []
        """What was not logged yet."""

    def on_decision(self, decision: Decision) -> None:
        """See `Listener`."""
        self.decisions[decision.strategy, decision.action] += 1
        if decision.outcome != "sent":
            self.refused[decision.outcome] += 1
        self.message = decision.message
        self.news.append(decision)

    def on_order_event(self, strategy: str, event: OrderEvent) -> None:
        """See `Listener`."""
        self.events[event.kind.value] += 1
        self.news.append((strategy, event))

    def on_stopped(self, state: StrategyState) -> None:
        """See `Listener`."""
        self.stopped[state.name] += 1
        self.news.append(_Stopped(state.name, state.error, state.desk.message))

    def tell(self) -> None:
        """Log what happened; behind the message, because nobody's handler is to wait for it."""
        news, self.news = self.news, []
        for one in news:
            if isinstance(one, Decision):
                self._log_decision(one)
                continue
            if not isinstance(one, _Stopped):
                self._log_order_event(*one)
                continue
            fields = {"trace": f"m{one.message}", "strategy": one.strategy, "error": repr(one.error)}
            _log.error(
                "a strategy was stopped by an error of its own", exc_info=one.error, extra={"fields": fields}
            )

    @staticmethod
    def _log_decision(decision: Decision) -> None:
        log_event(
            _log,
            logging.INFO,
            f"order {decision.action}",
            trace=f"m{decision.message}",
            strategy=decision.strategy,
            order=decision.order_id,
            symbol=decision.symbol,
            side=decision.side,
            qty=decision.qty,
            price=decision.price,
            tif=decision.tif,
            outcome=decision.outcome,
            local_ts_ns=decision.local_ts_ns,
        )

    @staticmethod
    def _log_order_event(strategy: str, event: OrderEvent) -> None:
        log_event(
            _log,
            logging.INFO,
            f"order {event.kind.value}",
            trace=event.trace_id,
            strategy=strategy,
            order=event.client_id,
            symbol=event.symbol,
            qty=event.qty,
            price=event.price,
            ts_ns=event.ts_ns,
            reason=event.reason,
        )

    def leave(self, state: StrategyState) -> None:
        """A state whose strategy is about to be exchanged: what it counted stays counted."""
        for past, counts in ((self._raised, state.exceptions), (self._late, state.over_budget)):
            for handler, count in counts.items():
                past[state.name, handler] += count
                self._over_budget.pop((state.name, handler), None)

    def tell_late(self, states: Iterable[StrategyState]) -> None:
        """Log which handlers took too long since this was asked last."""
        for state in states:
            for handler, count in state.over_budget.items():
                more = count - self._over_budget[state.name, handler]
                if more > 0:
                    log_event(
                        _log,
                        logging.WARNING,
                        "a handler took longer than its budget",
                        trace=f"m{state.desk.message}",
                        strategy=state.name,
                        handler=handler,
                        times=more,
                    )
                self._over_budget[state.name, handler] = count

    def numbers(self, telemetry: Telemetry, states: Iterable[StrategyState]) -> None:
        """Write the numbers of strategies and orders."""
        for state in states:
            name = state.name
            for kind in ("submit", "cancel"):
                telemetry.put("strategy_decisions_total", self.decisions[name, kind], name, kind)
            telemetry.put("strategy_running", int(state.is_running), name)
            telemetry.put("strategy_stopped_total", self.stopped[name], name)
            for handler in (*HANDLERS, "on_stop"):
                raised = state.exceptions[handler] + self._raised[name, handler]
                late = state.over_budget[handler] + self._late[name, handler]
                telemetry.put("strategy_exceptions_total", raised, name, handler)
                telemetry.put("strategy_over_budget_total", late, name, handler)
        telemetry.put_all(
            "risk_refused_total", {code.value: self.refused[code.value] for code in RefusalCode}
        )
        telemetry.put_all("order_events_total", {kind.value: self.events[kind.value] for kind in EventKind})
