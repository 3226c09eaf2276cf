"""The paper venue's desk for one instrument: it accepts, matches and ends orders.

Times are handed in by the venue. Leans on `venues.fills` and `venues.market_view`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypedDict

from featureplane.errors import SettingError
from featureplane.execution.money import Worth, amount
from featureplane.execution.orders import EventKind, OrderIntent, Side, TimeInForce
from featureplane.execution.venues.fills import FILL_MODELS, Resting, RestingSide
from featureplane.execution.venues.market_view import MarketView, Step
from featureplane.execution.venues.native_view import NativeView
from featureplane.market.instruments import Instrument
from featureplane.market.messages import Event, Message
from featureplane.units import NANOS_PER_MICRO, half_even_div

__all__ = ["Asked", "Desk", "PaperOptions", "Terms", "terms_of"]

_BPS_PLACES: Final = 4
_BPS: Final = 10 ** (4 + _BPS_PLACES)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperOptions:
    """How the paper venue treats orders. Raises `SettingError`.

    `fill` is a fill model; `entry_ns` the way of orders and cancels to the venue and `response_ns` the
    way back; fees are decimal text in basis points, negative for a rebate. After `life_ns` a
    waiting order expires. `level_exit`: so does one whose price lies beyond the visible levels of
    its side, for feeds of few levels, which cannot tell what happens there. `own_orders="share"`:
    a trade fills orders of ours one after another; `"apart"`: each as if it were the only one.
    """

    fill: str = "queue"
    entry_ns: int = 0
    response_ns: int = 0
    maker_bps: str = "0"
    taker_bps: str = "0"
    life_ns: int | None = None
    level_exit: bool = False
    own_orders: str = "share"

    def __post_init__(self) -> None:
        """Refuse words and numbers that are not options."""
        for name, known in (("fill", tuple(FILL_MODELS)), ("own_orders", ("share", "apart"))):
            if getattr(self, name) not in known:
                raise SettingError(
                    f"{name}={getattr(self, name)!r}", hint=f"choose one of {', '.join(known)}"
                )
        for name in ("entry_ns", "response_ns", "life_ns"):
            value = getattr(self, name)
            if (name, value) != ("life_ns", None) and (type(value) is not int or value < 0):
                raise SettingError(f"{name}={value!r}", hint="nanoseconds, an integer from 0")
        for name in ("maker_bps", "taker_bps"):
            if amount(getattr(self, name), _BPS_PLACES) is None:
                expected = f"decimal text of at most {_BPS_PLACES} decimals"
                found = f"{name}: found {getattr(self, name)!r}, expected {expected}"
                raise SettingError(found, hint='basis points, like "2.5"; below 0 is a rebate')


class Asked(Protocol):
    """How a market is asked for in words that people write: microseconds each way, fees as decimal text."""

    @property
    def fill(self) -> str: ...  # noqa: D102 - as in `PaperOptions`, so for the others
    @property
    def latency_us(self) -> int: ...  # noqa: D102
    @property
    def maker_bps(self) -> str: ...  # noqa: D102
    @property
    def taker_bps(self) -> str: ...  # noqa: D102


class Terms(TypedDict):
    """The same as any venue takes it."""

    fill: str
    entry_ns: int
    response_ns: int
    maker_bps: str
    taker_bps: str


def terms_of(asked: Asked) -> Terms:
    """What was asked for in words, as options of a venue."""
    way_ns = asked.latency_us * NANOS_PER_MICRO
    return Terms(
        fill=asked.fill,
        entry_ns=way_ns,
        response_ns=way_ns,
        maker_bps=asked.maker_bps,
        taker_bps=asked.taker_bps,
    )


class Tell(Protocol):
    """How the desk says what happened."""

    def __call__(
        self,
        intent: OrderIntent,
        kind: EventKind,
        at_ns: int,
        *,
        qty: int = 0,
        price: int = 0,
        fee: int = 0,
        is_maker: bool = False,
        reason: str = "",
    ) -> None:
        """One event, at a time of the venue."""


class Desk:
    """One instrument at the paper venue.

    `position` is what was traded here, from 0; reduce-only orders are held to it.
    """

    def __init__(
        self,
        instrument: Instrument,
        options: PaperOptions,
        view: MarketView | NativeView,
        tell: Tell,
        moved: Callable[[int], None],
    ) -> None:
        self._instrument = instrument
        self._worth = Worth(instrument)
        self._view = view
        self._moved = moved  # told when orders wait elsewhere than before
        self._model = FILL_MODELS[options.fill]
        self._shares = options.own_orders == "share"
        self._level_exit = options.level_exit
        self._fees = (
            amount(options.taker_bps, _BPS_PLACES) or 0,
            amount(options.maker_bps, _BPS_PLACES) or 0,
        )
        self._tell = tell
        self._sides = {side: RestingSide(side.sign) for side in Side}
        self._side_of = {int(side): orders for side, orders in self._sides.items()}
        self._orders = dict[int, Resting]()
        self._taken = dict[tuple[int, int], int]()
        self.position = 0

    @property
    def best(self) -> tuple[int | None, int | None]:
        """Best bid and ask of the market."""
        return self._view.best(Side.BUY), self._view.best(Side.SELL)

    # -- orders come and go

    def arrive(self, intent: OrderIntent, at_ns: int) -> Resting | None:
        """Accept or reject an order, and match it with the book; the order if it waits."""
        if reason := self._objection(intent):
            self._tell(intent, EventKind.REJECTED, at_ns, reason=reason)
            return None
        self._tell(intent, EventKind.ACCEPTED, at_ns)
        order = Resting(intent, 0 if intent.price is None else intent.price, intent.qty)
        self._orders[intent.client_id] = order
        if intent.tif is not TimeInForce.POST_ONLY:
            self._take(order, at_ns)
        if intent.client_id not in self._orders:
            return None
        if intent.tif is TimeInForce.IOC:
            self._end(order, EventKind.EXPIRED, at_ns, "ioc")
            return None
        self._model.rest(order, self._view.size_at(intent.side, order.price))
        self._sides[intent.side].add(order)
        self._move()
        return order

    def cancel(self, intent: OrderIntent, at_ns: int) -> None:
        """End a waiting order, or say that it is over."""
        order = self._orders.get(intent.client_id)
        if order is None or order.intent is not intent:
            self._tell(intent, EventKind.CANCEL_REJECTED, at_ns, reason="not_working")
        else:
            self._end(order, EventKind.CANCELLED, at_ns)

    def expire(self, order: Resting, at_ns: int) -> None:
        """The order's life is over, if it still waits."""
        if self._orders.get(order.intent.client_id) is order:
            self._end(order, EventKind.EXPIRED, at_ns, "life")

    def _objection(self, intent: OrderIntent) -> str:
        """Why an order is rejected, or nothing; the first that is so."""
        about, price = self._instrument, intent.price
        reasons = {
            "off_lot": intent.qty % (about.lot or 1) != 0,
            "off_tick": price is not None and price % (about.tick or 1) != 0,
            "not_trading": not self._view.is_trading,
            "no_book": not self._view.is_readable,
            "reduce_only": intent.reduce_only and not self._reducible(intent.side),
            "would_cross": intent.tif is TimeInForce.POST_ONLY and self._would_cross(intent),
        }
        return next((reason for reason, is_so in reasons.items() if is_so), "")

    def _would_cross(self, intent: OrderIntent) -> bool:
        best = self._view.best(intent.side.opposite)
        if best is None or intent.price is None:
            return False
        return (intent.price - best) * intent.side.sign >= 0

    def _take(self, order: Resting, at_ns: int) -> None:
        """Match with the visible levels; what was taken of them is gone until they are told anew."""
        intent = order.intent
        side, sign = intent.side.opposite, intent.side.sign
        for price, shown in self._view.walk(side):
            if order.left == 0 or (intent.price is not None and (price - intent.price) * sign > 0):
                return
            taken = self._taken.get((side, price), 0)
            qty = min(order.left, shown - taken)
            if qty > 0:
                before = self.position
                self._fill(order, qty, price, at_ns, is_maker=False)
                self._taken[side, price] = taken + abs(self.position - before)
                self._move()
            if intent.client_id not in self._orders:
                return

    def _reducible(self, side: Side) -> int:
        return max(0, -side.sign * self.position)

    def _fill(self, order: Resting, qty: int, price: int, at_ns: int, *, is_maker: bool) -> None:
        intent = order.intent
        if intent.reduce_only:
            qty = min(qty, self._reducible(intent.side))
        if qty:
            order.left -= qty
            self.position += intent.side.sign * qty
            fee = half_even_div(abs(self._worth.of(price, qty)) * self._fees[is_maker], _BPS)
            kind = EventKind.PARTIALLY_FILLED if order.left else EventKind.FILLED
            self._tell(intent, kind, at_ns, qty=qty, price=price, fee=fee, is_maker=is_maker)
        if not order.left:
            self._forget(order)
        elif intent.reduce_only and not self._reducible(intent.side):
            self._end(order, EventKind.EXPIRED, at_ns, "reduce_only")

    def _end(self, order: Resting, kind: EventKind, at_ns: int, reason: str = "") -> None:
        self._forget(order)
        self._tell(order.intent, kind, at_ns, reason=reason)

    def _forget(self, order: Resting) -> None:
        del self._orders[order.intent.client_id]
        side = self._sides[order.intent.side]
        if order in side.at(order.price):
            side.remove(order)
            self._move()

    # -- the market moves

    def reconnect(self) -> None:
        """The market data begin anew; what waits goes on waiting."""
        self._view.reconnect()
        self._taken.clear()
        self._move()

    def _move(self) -> None:
        self._moved(self._instrument.symbol_id)

    def waits(self) -> tuple[list[int], list[int], list[tuple[int, int]]]:
        """Prices at which orders wait, to buy and to sell, and the levels that were taken from."""
        taken = [(int(side), price) for side, price in self._taken]
        return self._sides[Side.BUY].prices, self._sides[Side.SELL].prices, taken

    def on_message(self, message: Message, now_ns: int) -> None:
        """Take the next message of the instrument, and fill what it fills."""
        if isinstance(self._view, MarketView):
            step = self._view.take(message, detailed=bool(self._orders or self._taken))
            if step is not None:
                self.on_step(step, now_ns)

    def on_step(self, step: Step, now_ns: int) -> None:
        """Fill what the message that was taken last fills."""
        if self._orders and self._view.is_trading:
            for trade in step.trades:
                self._on_trade(trade, now_ns)
        self._follow(step)
        if not self._orders or not self._view.is_readable:
            return
        if self._view.is_trading:
            self._on_reach(now_ns)
        if self._level_exit:
            self._leave(now_ns)

    def _on_trade(self, trade: Event, now_ns: int) -> None:
        for side in self._sides.values():
            for order in side.passed_by(trade.price):
                self._fill(order, order.left, order.price, now_ns, is_maker=True)
            left = trade.qty
            for order in side.at(trade.price):
                filled = self._model.trade(order, trade, left)
                if filled:
                    self._fill(order, filled, order.price, now_ns, is_maker=True)
                if self._shares:
                    left = max(0, left - filled)

    def _follow(self, step: Step) -> None:
        """Tell the orders what changed where they wait."""
        if self._taken:
            self._move()
        if step.resynced:
            self._taken.clear()
            for side, orders in self._sides.items():
                for order in orders:
                    self._model.resync(order, self._view.size_at(side, order.price), step.source_ts_ns)
        for change in step.changes:
            self._taken.pop((change.side, change.price), None)
            waiting = self._side_of[change.side].at(change.price)
            if waiting:
                traded = any(trade.price == change.price for trade in step.trades)
                for order in waiting:
                    self._model.change(order, change, traded=traded, source_ts_ns=step.source_ts_ns)

    def _on_reach(self, now_ns: int) -> None:
        """The other side's best price, without what we took of it, reaches orders."""
        for side, orders in self._sides.items():
            if orders and (best := self._standing(side.opposite)) is not None:
                for order in orders.reached_by(best):
                    self._fill(order, order.left, order.price, now_ns, is_maker=True)

    def _standing(self, side: Side) -> int | None:
        if not self._taken:
            return self._view.best(side)
        return next(
            (price for price, qty in self._view.walk(side) if qty > self._taken.get((side, price), 0)), None
        )

    def _leave(self, now_ns: int) -> None:
        for side, orders in self._sides.items():
            if orders and (worst := self._view.worst(side)) is not None:
                for order in orders.beyond(worst):
                    self._end(order, EventKind.EXPIRED, now_ns, "level_exit")
