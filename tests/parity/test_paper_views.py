"""The paper venue tells the same of orders whoever looks at the market for it."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from featureplane.errors import FeaturePlaneError, StateError, UnknownSymbol
from featureplane.execution.orders import EventKind, OrderEvent, OrderIntent, Side, TimeInForce
from featureplane.execution.venues.native_view import NativeView
from featureplane.execution.venues.paper import PaperOptions, PaperVenue
from featureplane.market.events import EventBatch, StreamOptions
from tests.orders import approve
from tests.parity.any_messages import any_batch
from tests.parity.streams import synthetic

pytestmark = pytest.mark.native


class Pair:
    """Two venues that are told and asked the same."""

    def __init__(self, events: EventBatch, options: PaperOptions, rng: random.Random) -> None:
        self.events, self.rng = events, rng
        self.plain, self.native = (
            PaperVenue(events.instruments, options, stream=events.options, backend=backend)
            for backend in ("python", "rust")
        )
        self.count = 0
        self.working: dict[int, str] = {}
        self.told: list[OrderEvent] = []

    def both(self, call: Any) -> Any:
        """The answers, or what was raised."""
        answers: list[tuple[Any, Any]] = []
        for venue in (self.plain, self.native):
            try:
                answers.append((None, call(venue)))
            except FeaturePlaneError as error:
                answers.append((type(error), None))
        assert answers[0] == answers[1]
        return answers[0]

    def send(self, now_ns: int) -> None:
        rng, about = self.rng, self.rng.choice(self.events.instruments)
        bids_asks = self.both(lambda venue: venue.best(about.symbol))[1]
        side = rng.choice((Side.BUY, Side.SELL))
        known = [price for price in bids_asks if price is not None] or [10_000]
        price = max(1, rng.choice(known) + rng.randint(-3, 3) * (about.tick or 1))
        tif = rng.choice((TimeInForce.GTC, TimeInForce.GTC, TimeInForce.POST_ONLY, TimeInForce.IOC))
        self.count += 1
        intent = OrderIntent(
            symbol=about.symbol,
            side=side,
            qty=rng.randint(1, 9) * (about.lot or 1),
            price=price,
            tif=tif,
            client_id=self.count,
            reduce_only=rng.random() < 0.1,
        )
        approvals = [approve(about, intent) for _ in range(2)]
        self.both(lambda venue: venue.send(approvals[venue is self.native], now_ns))
        self.working[self.count] = about.symbol

    def cancel(self, now_ns: int) -> None:
        number = self.rng.choice(list(self.working))
        self.both(lambda venue: venue.cancel(number, now_ns))

    def see(self, start: int, stop: int) -> Any:
        """One message to both, the native one as the runner gives it."""
        part = self.events.array[start:stop]
        as_runner = self.rng.random() < 0.8

        def take(venue: PaperVenue) -> None:
            if venue is self.native and as_runner:
                venue.on_message(self.events, start, stop)
            else:
                venue.on_market(part)

        return self.both(take)[0]

    def hear(self, now_ns: int) -> None:
        for event in self.both(lambda venue: venue.poll(now_ns))[1]:
            self.told.append(event)
            if event.kind in {EventKind.FILLED, EventKind.CANCELLED, EventKind.EXPIRED, EventKind.REJECTED}:
                self.working.pop(event.client_id, None)

    def walk(self) -> None:
        start = now_ns = 0
        for stop in self.events.message_ends.tolist():
            if self.rng.random() < 0.01:
                self.both(lambda venue: venue.reconnect(self.events.instruments[0].symbol))
            if self.see(start, stop) is not None:
                return
            now_ns = max(now_ns, int(self.events.array["local_ts_ns"][start]))
            for about in self.events.instruments:
                self.both(lambda venue, symbol=about.symbol: venue.best(symbol))
            self.hear(now_ns)
            if self.rng.random() < 0.25:
                self.send(now_ns)
            if self.working and self.rng.random() < 0.1:
                self.cancel(now_ns)
            self.hear(now_ns)
            start = stop


def walked(events: EventBatch, seed: int) -> Counter[str]:
    """Walk both venues over events; what was told, by kind."""
    rng = random.Random(seed)
    options = PaperOptions(
        fill=rng.choice(("queue", "queue", "touch", "through")),
        entry_ns=rng.choice((0, 3_000_000, 40_000_000)),
        response_ns=rng.choice((0, 2_000_000)),
        life_ns=rng.choice((None, None, 5_000_000_000)),
        own_orders=rng.choice(("share", "apart")),
    )
    pair = Pair(events, options, rng)
    pair.walk()
    return Counter(event.kind.value for event in pair.told)


@pytest.mark.parametrize("seed", range(80))
def test_any_messages_fill_alike(seed: int) -> None:
    walked(any_batch(seed, 300), seed)


@pytest.mark.parametrize("level", ["levels", "orders"])
@pytest.mark.parametrize("options", [{}, {"on_gap": "continue"}, {"on_malformed": "drop"}], ids=str)
def test_faulty_streams_fill_alike(level: str, options: dict[str, Any]) -> None:
    told = Counter[str]()
    for seed in range(3):
        events = synthetic(
            2_500, seed=seed, symbols=2, order_level=level == "orders", options=StreamOptions(**options)
        )
        told += walked(events, seed)
    assert all(told[kind] for kind in ("accepted", "rejected", "filled", "partially_filled", "cancelled"))


def test_who_needs_hours_or_the_last_level_looks_in_python() -> None:
    events = synthetic(10, seed=1)
    for options, native in ((PaperOptions(), True), (PaperOptions(level_exit=True), False)):
        venue = PaperVenue(events.instruments, options, backend="rust")
        assert isinstance(venue._desk(events.instruments[0].symbol)._view, NativeView) == native


def test_messages_of_other_symbols_are_refused() -> None:
    two, one = synthetic(300, seed=2, symbols=2), synthetic(300, seed=2)
    venue = PaperVenue(one.instruments, backend="rust")
    with pytest.raises(UnknownSymbol):
        venue.on_market(two.array)
    with pytest.raises(StateError):
        venue.cancel(1, 0)
