"""Risk check, paper venue and portfolio together, over the recorded sample and over made-up markets."""

from __future__ import annotations

import functools
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureplane.execution.limits import RiskLimits
from featureplane.execution.money import Worth
from featureplane.execution.orders import OrderEvent, OrderIntent, OrderState, Side, TimeInForce
from featureplane.execution.risk import Approved, RiskCheck
from featureplane.execution.venues.fills import FILL_MODELS
from featureplane.execution.venues.paper import PaperOptions, PaperVenue
from featureplane.market.events import EventBatch, EventFlag
from featureplane.market.sample import sample_events
from featureplane.market.synthetic import synthetic_events, synthetic_instruments
from featureplane.units import NANOS_PER_MS

LIMITS = RiskLimits(order_qty_max="0.5", position_max="0.6", reference_age_ms_max=2000, duplicate_order_ms=1)


class Played(NamedTuple):
    """What a quoter did."""

    check: RiskCheck
    venue: PaperVenue
    events: list[OrderEvent]
    refused: Counter[str]
    positions: list[int]


@functools.cache
def sample() -> EventBatch:
    return sample_events().part(0, 8000)


def quote(batch: EventBatch, fill: str, *, qty: int, every: int) -> Played:
    """Keep one post-only order of `qty` on each side at the touch; look at the market now and then."""
    options = PaperOptions(
        fill=fill,
        entry_ns=2 * NANOS_PER_MS,
        response_ns=2 * NANOS_PER_MS,
        maker_bps="-0.5",
        taker_bps="5",
    )
    symbol = batch.instrument.symbol
    venue, check = PaperVenue(batch.instruments, options), RiskCheck(batch.instruments, LIMITS)
    played = Played(check, venue, [], Counter(), [])
    quotes: dict[Side, int] = {}
    number = first = 0
    for i, end in enumerate(batch.message_ends.tolist()):
        venue.on_market(batch.array[first:end], checked=True)
        first, now_ns = end, int(batch.array["local_ts_ns"][end - 1])
        for event in venue.poll(now_ns):
            check.on_event(event)
            played.events.append(event)
            played.positions.append(check.portfolio[symbol].qty)
        prices = venue.best(symbol)
        check.on_market(symbol, *prices, ts_ns=now_ns)
        for side, price in zip(Side, prices, strict=True):
            working = check.working.get(quotes.get(side, 0))
            if i % every or price is None:
                continue
            if working is None:
                number += 1
                intent = OrderIntent(
                    symbol=symbol,
                    side=side,
                    qty=qty,
                    price=price,
                    tif=TimeInForce.POST_ONLY,
                    client_id=number,
                )
                answer = check.review(intent, now_ns)
                if isinstance(answer, Approved):
                    venue.send(answer, now_ns)
                    quotes[side] = number
                else:
                    played.refused[answer.code] += 1
            elif working.state is OrderState.WORKING and working.intent.price != price:
                venue.cancel(working.intent.client_id, now_ns)
    return played


@pytest.mark.parametrize("fill", FILL_MODELS)
def test_a_quoter_on_the_sample_keeps_its_books(fill: str) -> None:
    batch = sample()
    played = quote(batch, fill, qty=4000, every=5)
    position, worth = played.check.portfolio[batch.instrument.symbol], Worth(batch.instrument)
    fills = [event for event in played.events if event.is_fill]
    assert len(fills) > 20
    assert played.refused
    assert set(played.refused) <= {"position"}
    assert position.qty == sum(event.side.sign * event.qty for event in fills)
    assert position.cash == -sum(worth.of(e.price, e.side.sign * e.qty) + e.fee for e in fills)
    assert position.fees == sum(event.fee for event in fills) < 0
    assert position.unrealised is not None
    assert position.cash + (position.value or 0) == position.realised + position.unrealised - position.fees
    assert max(map(abs, played.positions)) <= 60_000


def test_the_sample_is_played_the_same_way_twice() -> None:
    one, two = (quote(sample(), "queue", qty=4000, every=5) for _ in range(2))
    assert one.events == two.events
    assert one.refused == two.refused


class Wish(NamedTuple):
    """Something done after a message."""

    qty: int
    is_buy: bool
    offset: int | None  # from the touch of its side; None: at market
    reduces: bool
    cancels: bool  # the oldest working order instead


WISHES = st.dictionaries(
    st.integers(0, 250),
    st.builds(
        Wish,
        st.integers(1, 900),
        st.booleans(),
        st.none() | st.integers(-3, 3),
        st.booleans(),
        st.booleans(),
    ),
    max_size=60,
)
TIGHT = RiskLimits(
    position_max="1.2",
    order_qty_max="0.8",
    reference_age_ms_max=86_400_000,
    order_value_max="1000000000000",
    gross_value_max="1000000000000",
    open_value_max="1000000000000",
    daily_loss_max="1000000000000",
    drawdown_max="1000000000000",
    price_collar_ppm_max=1_000_000,
)


def wished(wish: Wish, number: int, touch: tuple[int, int]) -> OrderIntent:
    side = Side.BUY if wish.is_buy else Side.SELL
    market = wish.offset is None
    return OrderIntent(
        symbol="SYN0",
        side=side,
        qty=wish.qty,
        price=None if wish.offset is None else touch[side - 1] + wish.offset,
        tif=TimeInForce.IOC if market else TimeInForce.GTC,
        reduce_only=wish.reduces,
        client_id=number,
    )


@pytest.mark.parametrize("fill", FILL_MODELS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), wishes=WISHES)
def test_no_wishes_over_any_market_bring_a_position_beyond_its_limit(
    fill: str, seed: int, wishes: dict[int, Wish]
) -> None:
    """Orders and cancels cross on their ways, and every event must still be one the check can take."""
    about = synthetic_instruments()
    venue = PaperVenue(
        about, PaperOptions(fill=fill, entry_ns=3 * NANOS_PER_MS, response_ns=5 * NANOS_PER_MS)
    )
    check = RiskCheck(about, TIGHT)
    array = synthetic_events(400, seed=seed)
    ends = (np.flatnonzero(array["flags"] & EventFlag.LAST) + 1).tolist()
    now_ns = first = 0
    for i, end in enumerate(ends):
        venue.on_market(array[first:end])
        now_ns, first = max(now_ns, int(array["local_ts_ns"][first])), end
        for event in venue.poll(now_ns):
            check.on_event(event)
        low, high = venue.best("SYN0")
        check.on_market("SYN0", low, high, now_ns)
        wish = wishes.get(i)
        if wish and wish.cancels and check.working:
            number = min(check.working)
            if check.working[number].state is not OrderState.CANCELLING:
                venue.cancel(number, now_ns)
        elif wish and low is not None and high is not None:
            answer = check.review(wished(wish, i + 1, (low, high)), now_ns)
            if isinstance(answer, Approved):
                venue.send(answer, now_ns)
        for event in venue.poll(now_ns):
            check.on_event(event)
        assert abs(check.portfolio["SYN0"].qty) <= 1200
