"""hftbacktest as an `OrderVenue`: approved orders in, and what its simulation made of them out.

hftbacktest keeps the last state of an order, not what happened to it: events are read off what changed
since they were asked for last. Fills of one order at one moment come as one, at the price of the last,
which is the worst of them. Leans on `execution` and `library`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import Any, Final, NamedTuple

import numpy.typing as npt

from featureplane.errors import StateError, UnknownSymbol
from featureplane.execution.approval import Approved
from featureplane.execution.money import Worth, amount
from featureplane.execution.orders import EventKind, OrderEvent, OrderIntent, Side, TimeInForce
from featureplane.execution.venue import open_once
from featureplane.market.instruments import Instrument
from featureplane.research.backtest.library import BPS_PLACES, HftMarket, Simulation
from featureplane.units import half_even_div

__all__ = ["HftVenue", "compile_calls"]

_NONE, _NEW, _EXPIRED, _FILLED, _CANCELED, _PARTLY = range(6)
_LIMIT, _MARKET = 0, 1
_IN_FORCE: Final = {TimeInForce.GTC: 0, TimeInForce.POST_ONLY: 1, TimeInForce.IOC: 3}
_NO_WAIT: Final = False
_RESPONSES_TOO: Final = True
_DONE: Final = frozenset({_EXPIRED, _FILLED, _CANCELED})


def _nothing() -> None:
    """Nobody wants to know."""


def compile_calls(simulation: Simulation) -> None:
    """Let numba compile what an adapter and a venue call: it belongs to no backtest's time.

    The simulation is of no use afterwards.
    """
    hbt = simulation.hbt
    hbt.wait_next_feed(_RESPONSES_TOO, 1)
    hbt.elapse(0)
    for number, submit in enumerate((hbt.submit_buy_order, hbt.submit_sell_order), 1):
        submit(0, number, 1.0, 1.0, _IN_FORCE[TimeInForce.GTC], _LIMIT, _NO_WAIT)
    hbt.orders(0).get(1)
    hbt.cancel(0, 1, _NO_WAIT)
    hbt.clear_inactive_orders(0)
    hbt.position(0), hbt.state_values(0), hbt.current_timestamp


class _Sent:
    """An order at hftbacktest, and what was told of it."""

    __slots__ = ("accepted", "cancel", "ended", "intent", "left")

    def __init__(self, intent: OrderIntent) -> None:
        self.intent = intent
        self.left = intent.qty
        self.accepted = False
        self.ended = False
        self.cancel = ""  # "wanted" before the venue has answered the order, then "sent"


class _Seen(NamedTuple):
    """What hftbacktest says of an order now, in units of events."""

    status: int
    is_asked: bool  # a request is on its way
    left: int
    last_price: int
    venue_ts_ns: int
    is_maker: bool


class _Account:
    """One asset: its orders, and how much of its account was told."""

    def __init__(self, number: int, instrument: Instrument, market: HftMarket) -> None:
        self.number = number
        self.instrument = instrument
        self._worth = Worth(instrument)
        self._fees = amount(market.taker_bps, BPS_PLACES) or 0, amount(market.maker_bps, BPS_PLACES) or 0
        self.tick = instrument.tick or 1
        self.price_unit = 10.0**instrument.price_exponent
        self.qty_unit = 10.0**instrument.qty_exponent
        self.orders = dict[int, _Sent]()

    def fee(self, price: int, qty: int, *, is_maker: bool) -> int:
        return half_even_div(abs(self._worth.of(price, qty)) * self._fees[is_maker], 10 ** (4 + BPS_PLACES))

    def look(self, hbt: Any, client_id: int) -> _Seen:
        order = hbt.orders(self.number).get(client_id)
        if order is None:
            raise StateError(f"hftbacktest has lost order {client_id}")
        row = order.arr[0]
        return _Seen(
            status=int(row["status"]),
            is_asked=int(row["req"]) != _NONE,
            left=round(float(row["leaves_qty"]) * self.qty_unit),
            last_price=int(row["exec_price_tick"]) * self.tick,
            venue_ts_ns=int(row["exch_timestamp"]),
            is_maker=bool(row["maker"]),
        )


class HftVenue:
    """An `OrderVenue` on a simulation that somebody else drives.

    Assets are numbered as the instruments are. Times told are those given, on our clock, and the venue's.
    Fees are those of `HftMarket`. Behind the end of the data (`is_over`) orders are rejected. hftbacktest has
    no `reduce_only`: what the risk check says of it counts. `before_sending` is called before it gets
    an order, so that it may be left behind while nothing of the venue is `busy`.
    """

    name = "hftbacktest"

    def __init__(self, instruments: Iterable[Instrument], simulation: Simulation) -> None:
        self._hbt = simulation.hbt
        self._accounts = {
            one.symbol: _Account(number, one, simulation.market) for number, one in enumerate(instruments)
        }
        self._of: dict[int, _Account] = {}
        self.pending: Sized = self._of
        """Orders of which there may be something to be polled; what is told of others, `send` has told."""
        self._told: list[OrderEvent] = []
        self.is_over = False
        self.before_sending: Callable[[], None] = _nothing

    def send(self, approved: Approved[OrderIntent], now_ns: int) -> None:
        """Hand over an order that the risk check approved, once; raises `StateError` for anything else."""
        intent = open_once(approved, self._of)
        account = self._account(intent.symbol)
        if reason := self._objection(account, intent):
            self._tell(intent, EventKind.REJECTED, now_ns, now_ns, reason=reason)
            return
        self.before_sending()
        submit = self._hbt.submit_buy_order if intent.side is Side.BUY else self._hbt.submit_sell_order
        price, kind = (0, _MARKET) if intent.price is None else (intent.price, _LIMIT)
        code = submit(
            account.number,
            intent.client_id,
            price / account.price_unit,
            intent.qty / account.qty_unit,
            _IN_FORCE[intent.tif],
            kind,
            _NO_WAIT,
        )
        if code:
            raise StateError(f"hftbacktest refused order {intent.client_id} with {code}")
        self._of[intent.client_id] = account
        account.orders[intent.client_id] = _Sent(intent)

    @property
    def busy(self) -> tuple[Sized, Sized]:
        """Orders on their way, working or still to be answered, and answers; quiet while both are empty."""
        return self._of, self._told

    def cancel(self, client_id: int, now_ns: int) -> None:
        """Ask for the end of an order; raises `StateError` for one known to be over, or never sent."""
        account = self._of.get(client_id)
        sent = None if account is None else account.orders[client_id]
        if account is None or sent is None or sent.ended:
            raise StateError(f"order {client_id} is not working", hint="its last event has been told")
        if sent.cancel:
            return
        self._tell(sent.intent, EventKind.CANCEL_REQUESTED, now_ns, now_ns)
        if self.is_over:
            sent.ended = True
            self._tell(sent.intent, EventKind.CANCELLED, now_ns, now_ns, reason="end_of_data")
            return
        sent.cancel = "wanted"
        self._ask_cancel(account, client_id, sent)

    def on_market(self, events: npt.NDArray[Any], *, checked: bool = False) -> None:
        """Nothing: hftbacktest has the market's rows."""

    def poll(self, now_ns: int) -> list[OrderEvent]:
        """What has become known until now and was not told before."""
        for account in self._accounts.values():
            if account.orders:
                self._look_after(account, now_ns)
        told = self._told.copy()
        self._told.clear()
        return told

    # -- one account

    def _look_after(self, account: _Account, now_ns: int) -> None:
        seen = {number: account.look(self._hbt, number) for number in account.orders}
        moved = sorted(seen.items(), key=lambda pair: pair[1].venue_ts_ns)
        for number, one in moved:
            sent = account.orders[number]
            if not sent.ended:
                self._progress(account, sent, one, now_ns)
        for number, one in seen.items():
            self._answer_cancel(account, number, one, now_ns)
        if all(sent.ended and not sent.cancel for sent in account.orders.values()):
            # WHY all at once: hftbacktest forgets every order that is over, told or not.
            self._hbt.clear_inactive_orders(account.number)
            for number in account.orders:
                del self._of[number]
            account.orders.clear()

    def _progress(self, account: _Account, sent: _Sent, seen: _Seen, now_ns: int) -> None:
        intent, at_ns = sent.intent, seen.venue_ts_ns
        if seen.status == _NONE:
            return
        filled = sent.left - seen.left
        never_there = seen.status == _EXPIRED and not sent.accepted and not filled
        if never_there and (at_ns == 0 or intent.tif is TimeInForce.POST_ONLY):
            sent.ended = True
            reason = "would_cross" if at_ns else "not_sent"
            self._tell(intent, EventKind.REJECTED, at_ns or now_ns, now_ns, reason=reason)
            return
        if not sent.accepted:
            sent.accepted = True
            self._tell(intent, EventKind.ACCEPTED, at_ns, now_ns)
        if filled:
            sent.left = seen.left
            kind = EventKind.PARTIALLY_FILLED if sent.left else EventKind.FILLED
            price, is_maker = seen.last_price, seen.is_maker
            fee = account.fee(price, filled, is_maker=is_maker)
            self._tell(intent, kind, at_ns, now_ns, qty=filled, price=price, fee=fee, is_maker=is_maker)
        if seen.status in _DONE:
            sent.ended = True
            if seen.status == _CANCELED:
                sent.cancel = ""
                self._tell(intent, EventKind.CANCELLED, at_ns, now_ns)
            elif seen.status == _EXPIRED:
                self._tell(intent, EventKind.EXPIRED, at_ns, now_ns, reason=str(intent.tif))

    def _answer_cancel(self, account: _Account, number: int, seen: _Seen, now_ns: int) -> None:
        sent = account.orders[number]
        if sent.cancel and not sent.ended and self.is_over:
            sent.ended, sent.cancel = True, ""
            self._tell(sent.intent, EventKind.CANCELLED, now_ns, now_ns, reason="end_of_data")
        elif sent.cancel == "wanted" and not sent.ended:
            self._ask_cancel(account, number, sent)
        elif sent.cancel and (self.is_over or not seen.is_asked):
            # The order was over before the request came, or before it was sent.
            sent.cancel = ""
            self._tell(sent.intent, EventKind.CANCEL_REJECTED, seen.venue_ts_ns, now_ns, reason="not_working")

    def _ask_cancel(self, account: _Account, number: int, sent: _Sent) -> None:
        """Hftbacktest takes a cancel only of an order it has answered; until then it waits here."""
        if not sent.accepted:
            return
        code = self._hbt.cancel(account.number, number, _NO_WAIT)
        if code:
            raise StateError(f"hftbacktest refused to cancel order {number} with {code}")
        sent.cancel = "sent"

    def _objection(self, account: _Account, intent: OrderIntent) -> str:
        about, price = account.instrument, intent.price
        reasons = {
            "end_of_data": self.is_over,
            "off_lot": intent.qty % (about.lot or 1) != 0,
            "off_tick": price is not None and price % account.tick != 0,
        }
        return next((reason for reason, is_so in reasons.items() if is_so), "")

    def _account(self, symbol: str) -> _Account:
        try:
            return self._accounts[symbol]
        except KeyError:
            raise UnknownSymbol(symbol, list(self._accounts)) from None

    def _tell(self, intent: OrderIntent, kind: EventKind, venue_ts_ns: int, ts_ns: int, **more: Any) -> None:
        event = OrderEvent(
            kind=kind,
            client_id=intent.client_id,
            symbol=intent.symbol,
            side=intent.side,
            venue_ts_ns=venue_ts_ns,
            ts_ns=ts_ns,
            trace_id=intent.trace_id,
            **more,
        )
        self._told.append(event)
