"""The port every venue stands behind, simulated or real.

Leans on `execution.approval` and `execution.orders`. Implementations are in `execution.venues`.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Protocol

import numpy.typing as npt

from featureplane.errors import StateError
from featureplane.execution.approval import Approved
from featureplane.execution.orders import OrderEvent, OrderIntent

__all__ = ["OrderVenue", "open_once"]


class OrderVenue(Protocol):
    """Takes approved orders, and says what becomes of them.

    All times are nanoseconds on one clock, that of receipt (`local_ts_ns`), and do not go back.
    """

    @property
    def name(self) -> str:
        """What settings, logs and people call it."""

    def send(self, approved: Approved[OrderIntent], now_ns: int) -> None:
        """Hand over an order; raises `StateError` for what no risk check approved, or sent twice."""

    def cancel(self, client_id: int, now_ns: int) -> None:
        """Ask for the end of an order; raises `StateError` for one that is known to be over."""

    def on_market(self, events: npt.NDArray[Any], *, checked: bool = False) -> None:
        """Whole messages of the market, an array of `EVENT_DTYPE`; real venues need none.

        `checked`: they come from an `EventBatch`, and hold the rules of events.
        """

    def poll(self, now_ns: int) -> list[OrderEvent]:
        """What has become known until now and was not told before, in order of `ts_ns`."""


def open_once(approved: Approved[OrderIntent], sent: Container[int]) -> OrderIntent:
    """The order in an approval; raises `StateError` for anything else, and for a number among `sent`."""
    if not isinstance(approved, Approved):
        raise StateError(f"a {type(approved).__name__} was sent", hint="ask `RiskCheck.review` first")
    intent = approved.open()
    if intent.client_id in sent:
        raise StateError(f"order {intent.client_id} was sent before")
    return intent
