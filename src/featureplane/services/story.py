"""What strategies do in a running service: counted, and told to the log with the message it answers.

Leans on `strategy` and `telemetry`. It has no say in anything.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from featureplane.execution.orders import EventKind, OrderEvent
from featureplane.strategy.desk import Decision
from featureplane.strategy.states import Listener, StrategyState
from featureplane.telemetry import Telemetry, log_event

__all__ = ["Story"]

_log = logging.getLogger(__name__)


class Story(Listener):
    """Counts decisions, refusals and order events.

    The `trace` of a line is `m` and the number of the message a strategy decided at: that of an order's
    decision, of everything that happens to it, and of the strategy's end.
    """

    def __init__(self) -> None:
        self.decisions: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.stopped: Counter[str] = Counter()
        self._over_budget: Counter[tuple[str, str]] = Counter()
        self.message = 0
        """The message at hand; whoever runs the strategies says so."""

    def on_decision(self, decision: Decision) -> None:
        """See `Listener`."""
        self.decisions[decision.strategy, decision.action] += 1
        if decision.outcome != "sent":
            self.refused[decision.outcome] += 1
        self.message = decision.message
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

    def on_order_event(self, strategy: str, event: OrderEvent) -> None:
        """See `Listener`."""
        self.events[event.kind.value] += 1
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

    def on_stopped(self, state: StrategyState) -> None:
        """See `Listener`."""
        self.stopped[state.name] += 1
        _log.error(
            "a strategy was stopped by an error of its own",
            exc_info=state.error,
            extra={
                "fields": {"trace": f"m{self.message}", "strategy": state.name, "error": repr(state.error)}
            },
        )

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
                        trace=f"m{self.message}",
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
            telemetry.put_all("strategy_exceptions_total", state.exceptions, name)
            telemetry.put_all("strategy_over_budget_total", state.over_budget, name)
        telemetry.put_all("risk_refused_total", self.refused)
        telemetry.put_all("order_events_total", {kind.value: self.events[kind.value] for kind in EventKind})
