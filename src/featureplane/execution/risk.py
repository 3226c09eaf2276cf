"""The risk check: who may say yes to an order.

One `RiskCheck` an account. It keeps the book of working orders, positions and the references
orders are judged by, and is told everything by `on_market` and `on_event`. Limits stand in
`execution.limits`; the first that is overstepped refuses. Leans on `portfolio`, `orders`,
`approval`. Knows no venue, no clock and no strategy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import ClassVar, Final, NamedTuple, TypeAlias

from featureplane.errors import InvalidOrder, SettingError, StateError, UnknownSymbol
from featureplane.execution.approval import Approved, Refused, _approve
from featureplane.execution.limits import LIMITS, RefusalCode, RiskLimits
from featureplane.execution.money import MONEY_EXPONENT, Worth, money, shown
from featureplane.execution.orders import EventKind, Order, OrderEvent, OrderIntent, Side
from featureplane.execution.portfolio import Portfolio
from featureplane.market.instruments import Instrument
from featureplane.units import MAGNITUDE_LIMIT, NANOS_PER_MS, NANOS_PER_SECOND

__all__ = ["Approved", "Reference", "Refused", "RiskCheck"]

_DAY_NS: Final = 86_400 * NANOS_PER_SECOND
_PEAKS: Final = 60
_KEYS_MAX: Final = 1024
_MILLION: Final = 1_000_000
_SHRINKS: Final = frozenset(spec.code for spec in LIMITS if spec.shrinks)

Breach: TypeAlias = tuple[Decimal | None, Decimal | None]


class Reference(NamedTuple):
    """The best prices an order is judged by, and when they were told."""

    bid: int
    ask: int
    ts_ns: int


class _Rules:
    """The limits of one symbol, in its own units."""

    __slots__ = ("collar_ppm", "fat_ticks", "instrument", "position", "qty", "tick", "value", "worth")

    def __init__(self, instrument: Instrument, limits: RiskLimits) -> None:
        self.instrument = instrument
        self.worth = Worth(instrument)
        self.tick = instrument.tick or 1
        unit = 10 ** (MONEY_EXPONENT - instrument.qty_exponent)
        self.qty = money(limits.order_qty_max) // unit  # LIMIT: the largest size that passes
        self.position = money(limits.position_max) // unit
        self.value = money(limits.order_value_max)
        self.collar_ppm = limits.price_collar_ppm_max
        self.fat_ticks = limits.fat_finger_ticks_max


class _Asked(NamedTuple):
    """An order with what it is judged by; `price` is what it would pay at worst, or now at market."""

    intent: OrderIntent
    now_ns: int
    rules: _Rules
    reference: Reference
    price: int
    equity: int
    gross: int

    @property
    def worth(self) -> int:
        return abs(self.rules.worth.of(self.price, self.intent.qty))


class _Open(NamedTuple):
    """A working order, the price it is valued at, and when it was approved."""

    order: Order
    price: int
    ts_ns: int


class RiskCheck:
    """Judges every order of an account, and keeps its positions.

    `limits` hold for the account; `by_symbol` gives other ones for a symbol, of which those that
    concern one symbol are read. An approved order counts as working from that moment; what becomes of
    it must come back through `on_event`, else it counts for good. A refusal changes nothing.

    >>> coin = Instrument(venue="v", symbol="COIN", price_exponent=2, qty_exponent=0)
    >>> check = RiskCheck([coin], RiskLimits(order_qty_max="10"))
    >>> check.on_market("COIN", bid=99_99, ask=100_01, ts_ns=0)
    >>> answer = check.review(
    ...     OrderIntent(symbol="COIN", side=Side.BUY, qty=11, price=99_99, client_id=1), now_ns=0
    ... )
    >>> answer.code.value, str(answer.limit), str(answer.actual)
    ('order_qty', '10', '11')
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        limits: RiskLimits | None = None,
        *,
        by_symbol: Mapping[str, RiskLimits] | None = None,
    ) -> None:
        given, special = tuple(instruments), dict(by_symbol or {})
        self.limits = limits = limits or RiskLimits()
        if unknown := [symbol for symbol in special if symbol not in {one.symbol for one in given}]:
            raise UnknownSymbol(unknown[0], [one.symbol for one in given])
        self.portfolio = Portfolio(given)
        self.loss_streak = 0
        self._rules = {one.symbol: _Rules(one, special.get(one.symbol, limits)) for one in given}
        self._references = dict[str, Reference | None]()
        self._open = dict[int, _Open]()
        self._last_id = 0
        self._orders = deque[int](maxlen=limits.orders_per_second_max)
        self._messages = deque[int](maxlen=limits.messages_per_second_max)
        self._executions = dict[tuple[str, Side, int], deque[int]]()
        self._day = -1
        self._day_equity = 0
        self._peaks = deque[tuple[int, int]](maxlen=_PEAKS)
        self._peak_ns = max(1, limits.drawdown_s * NANOS_PER_SECOND // _PEAKS)
        self._gross_max = money(limits.gross_value_max)
        self._open_max = money(limits.open_value_max)
        self._loss_max = money(limits.daily_loss_max)
        self._drawdown_max = money(limits.drawdown_max)

    # -- what it is told

    @property
    def working(self) -> Mapping[int, Order]:
        """Orders approved and not known to be over, by number."""
        return {number: entry.order for number, entry in self._open.items()}

    def on_market(self, symbol: str, bid: float | None, ask: float | None, ts_ns: int) -> None:
        """The best prices in force; anything but two whole numbers in order is no reference."""
        rules = self._rules_of(symbol)
        low, high = _whole(bid), _whole(ask)
        reference = None
        if low is not None and high is not None:
            locked = low == high and rules.instrument.locked == "valid"
            reference = Reference(low, high, ts_ns) if low < high or locked else None
        self._references[symbol] = reference
        self.portfolio.mark(symbol, None if reference is None else reference.bid + reference.ask)
        self._observe(ts_ns)

    def on_event(self, event: OrderEvent) -> None:
        """What became of an order.

        Raises `StateError` for an order that is not working, but for the late answer to a
        cancel, and what `Order.apply` raises; nothing is changed then.
        """
        entry = self._open.get(event.client_id)
        if entry is None:
            if event.kind is EventKind.CANCEL_REJECTED:
                return
            raise StateError(f"`{event.kind}` for order {event.client_id}, which is not working")
        entry.order.apply(event)
        if event.kind is EventKind.CANCEL_REQUESTED:
            self._messages.append(event.ts_ns)
        if event.is_fill:
            self._on_fill(event, entry.order.intent, is_first=entry.order.filled == event.qty)
        if entry.order.is_final:
            del self._open[event.client_id]

    def lift_loss_streak(self, *, by: str, why: str) -> None:
        """A person takes responsibility for going on; raises `SettingError` without name or reason."""
        if not by.strip() or not why.strip():
            raise SettingError("a loss streak is lifted by a person, with a reason", hint="give by= and why=")
        self.loss_streak = 0

    def _on_fill(self, event: OrderEvent, intent: OrderIntent, *, is_first: bool) -> None:
        ended = self.portfolio.fill(event.symbol, event.side, event.qty, event.price, event.fee)
        if ended is not None:
            self.loss_streak = self.loss_streak + 1 if ended < 0 else 0
        self._observe(event.ts_ns)
        if is_first:
            self._count_execution(intent, event.ts_ns)

    def _count_execution(self, intent: OrderIntent, ts_ns: int) -> None:
        key = (intent.symbol, intent.side, intent.qty)
        fills = self._executions.setdefault(key, deque(maxlen=self.limits.repeated_execution_max))
        fills.append(ts_ns)
        if len(self._executions) > _KEYS_MAX:
            since = ts_ns - self.limits.repeated_execution_ms * NANOS_PER_MS
            self._executions = {k: times for k, times in self._executions.items() if times[-1] > since}

    def _observe(self, now_ns: int) -> None:
        """Note the equity: what the day began with, and the best of each sixtieth of the time looked back."""
        equity = self.portfolio.equity
        if equity is None:
            return
        if now_ns // _DAY_NS > self._day:
            self._day, self._day_equity = now_ns // _DAY_NS, equity
        at = now_ns // self._peak_ns
        if self._peaks and self._peaks[-1][0] >= at:
            at, best = self._peaks.pop()
            equity = max(equity, best)
        self._peaks.append((at, equity))

    # -- what it answers

    def review(self, intent: OrderIntent, now_ns: int) -> Approved[OrderIntent] | Refused[OrderIntent]:
        """Approve or refuse an order; `now_ns` is on the clock of the references.

        Raises `InvalidOrder` for one without number, `UnknownSymbol`.
        """
        rules = self._rules_of(intent.symbol)
        if intent.client_id == 0:
            raise InvalidOrder("client_id", 0, "a number above 0")
        if intent.client_id <= self._last_id:
            limit, actual = Decimal(self._last_id + 1), Decimal(intent.client_id)
            return Refused(intent, RefusalCode.DUPLICATE_ID, limit, actual)
        reference = self._references.get(intent.symbol)
        equity, gross = self.portfolio.equity, self.portfolio.gross_value
        if reference is None or equity is None or gross is None:
            return Refused(intent, RefusalCode.NO_REFERENCE, None, None)
        price = intent.price
        if price is None:
            price = reference.ask if intent.side is Side.BUY else reference.bid
        asked = _Asked(intent, now_ns, rules, reference, price, equity, gross)
        for code, question in self._QUESTIONS:
            if intent.reduce_only and code in _SHRINKS:
                continue
            if breach := question(self, asked):
                return Refused(intent, code, *breach)
        self._take(asked)
        return _approve(intent)

    def _take(self, asked: _Asked) -> None:
        intent, now_ns = asked.intent, asked.now_ns
        self._last_id = intent.client_id
        self._open[intent.client_id] = _Open(Order(intent), asked.price, now_ns)
        self._orders.append(now_ns)
        self._messages.append(now_ns)

    def _rules_of(self, symbol: str) -> _Rules:
        try:
            return self._rules[symbol]
        except KeyError:
            raise UnknownSymbol(symbol, list(self._rules)) from None

    def _working_qty(self, symbol: str, side: Side) -> int:
        orders = (entry.order for entry in self._open.values())
        return sum(
            order.leaves for order in orders if order.intent.symbol == symbol and order.intent.side is side
        )

    def _open_value(self, asked: _Asked) -> int:
        """Money of all working orders and this one."""
        total = asked.worth
        for entry in self._open.values():
            order = entry.order
            total += abs(self._rules[order.intent.symbol].worth.of(entry.price, order.leaves))
        return total

    # -- the questions, each answered by what would have passed and what was found

    def _stale_reference(self, asked: _Asked) -> Breach | None:
        age_ns = abs(asked.now_ns - asked.reference.ts_ns)
        return _over(self.limits.reference_age_ms_max * NANOS_PER_MS, age_ns, 6)

    def _reduce_only(self, asked: _Asked) -> Breach | None:
        intent, places = asked.intent, asked.rules.instrument.qty_exponent
        if not intent.reduce_only:
            return None
        held = -intent.side.sign * self.portfolio[intent.symbol].qty
        return _over(max(0, held - self._working_qty(intent.symbol, intent.side)), intent.qty, places)

    def _order_qty(self, asked: _Asked) -> Breach | None:
        return _over(asked.rules.qty, asked.intent.qty, asked.rules.instrument.qty_exponent)

    def _order_value(self, asked: _Asked) -> Breach | None:
        return _over(asked.rules.value, asked.worth)

    def _price_collar(self, asked: _Asked) -> Breach | None:
        mid_x2 = asked.reference.bid + asked.reference.ask
        away = abs(2 * asked.price - mid_x2) * _MILLION
        if away <= asked.rules.collar_ppm * abs(mid_x2):
            return None
        actual = Decimal(-(-away // abs(mid_x2))) if mid_x2 else None
        return Decimal(asked.rules.collar_ppm), actual

    def _fat_finger(self, asked: _Asked) -> Breach | None:
        best = asked.reference.ask if asked.intent.side is Side.BUY else asked.reference.bid
        through = (asked.price - best) * asked.intent.side.sign
        return _over(asked.rules.fat_ticks, -(-through // asked.rules.tick), 0)

    def _position(self, asked: _Asked) -> Breach | None:
        intent, rules = asked.intent, asked.rules
        worst = intent.side.sign * self.portfolio[intent.symbol].qty
        worst += self._working_qty(intent.symbol, intent.side) + intent.qty
        return _over(rules.position, worst, rules.instrument.qty_exponent)

    def _gross_value(self, asked: _Asked) -> Breach | None:
        return _over(self._gross_max, asked.gross + self._open_value(asked))

    def _open_orders(self, asked: _Asked) -> Breach | None:
        return _over(self._open_max, self._open_value(asked))

    def _order_rate(self, asked: _Asked) -> Breach | None:
        return _too_many(self._orders, asked.now_ns - NANOS_PER_SECOND)

    def _message_rate(self, asked: _Asked) -> Breach | None:
        return _too_many(self._messages, asked.now_ns - NANOS_PER_SECOND)

    def _repeated_execution(self, asked: _Asked) -> Breach | None:
        intent = asked.intent
        fills = self._executions.get((intent.symbol, intent.side, intent.qty))
        since = asked.now_ns - self.limits.repeated_execution_ms * NANOS_PER_MS
        return None if fills is None else _too_many(fills, since)

    def _duplicate_order(self, asked: _Asked) -> Breach | None:
        wanted_ns = self.limits.duplicate_order_ms * NANOS_PER_MS
        alike = _alike(asked.intent)
        for entry in self._open.values():
            age_ns = asked.now_ns - entry.ts_ns
            if age_ns < wanted_ns and _alike(entry.order.intent) == alike:
                return shown(wanted_ns, 6), shown(age_ns, 6)
        return None

    def _self_trade(self, asked: _Asked) -> Breach | None:
        intent, met = asked.intent, 0
        for entry in self._open.values():
            other = entry.order.intent
            if other.symbol == intent.symbol and other.side is not intent.side:
                met += _meets(intent, other)
        return _over(self.limits.self_trades_max, met, 0)

    def _daily_loss(self, asked: _Asked) -> Breach | None:
        began = self._day_equity if asked.now_ns // _DAY_NS <= self._day else asked.equity
        return _over(self._loss_max, began - asked.equity)

    def _drawdown(self, asked: _Asked) -> Breach | None:
        since = asked.now_ns // self._peak_ns - _PEAKS
        peak = max((best for at, best in self._peaks if at > since), default=asked.equity)
        return _over(self._drawdown_max, peak - asked.equity)

    def _loss_streak(self, _asked: _Asked) -> Breach | None:
        return _over(self.limits.loss_streak_max, self.loss_streak, 0)

    _QUESTIONS: ClassVar[tuple[tuple[RefusalCode, Callable[[RiskCheck, _Asked], Breach | None]], ...]] = (
        (RefusalCode.STALE_REFERENCE, _stale_reference),
        (RefusalCode.REDUCE_ONLY, _reduce_only),
        (RefusalCode.ORDER_QTY, _order_qty),
        (RefusalCode.ORDER_VALUE, _order_value),
        (RefusalCode.PRICE_COLLAR, _price_collar),
        (RefusalCode.FAT_FINGER, _fat_finger),
        (RefusalCode.POSITION, _position),
        (RefusalCode.GROSS_VALUE, _gross_value),
        (RefusalCode.OPEN_VALUE, _open_orders),
        (RefusalCode.ORDER_RATE, _order_rate),
        (RefusalCode.MESSAGE_RATE, _message_rate),
        (RefusalCode.REPEATED_EXECUTION, _repeated_execution),
        (RefusalCode.DUPLICATE_ORDER, _duplicate_order),
        (RefusalCode.SELF_TRADE, _self_trade),
        (RefusalCode.DAILY_LOSS, _daily_loss),
        (RefusalCode.DRAWDOWN, _drawdown),
        (RefusalCode.LOSS_STREAK, _loss_streak),
    )


def _whole(value: float | None) -> int | None:
    """A price as an integer; None for what is not finite, not whole or out of range."""
    if value is None or not -MAGNITUDE_LIMIT < value < MAGNITUDE_LIMIT or value != int(value):
        return None
    return int(value)


def _over(limit: int, actual: int, exponent: int = 18) -> Breach | None:
    return None if actual <= limit else (shown(limit, exponent), shown(actual, exponent))


def _too_many(times: deque[int], since_ns: int) -> Breach | None:
    """Whether one more would be more than `times` holds, all of them later than `since_ns`."""
    most = times.maxlen or 0
    full = len(times) == most and times[0] > since_ns
    return (Decimal(most), Decimal(most + 1)) if full else None


def _alike(intent: OrderIntent) -> tuple[object, ...]:
    return intent.symbol, intent.side, intent.qty, intent.price, intent.tif, intent.reduce_only


def _meets(intent: OrderIntent, other: OrderIntent) -> bool:
    if intent.price is None or other.price is None:
        return True
    return (intent.price - other.price) * intent.side.sign >= 0
