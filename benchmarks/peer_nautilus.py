"""The peer: nautilus_trader's engine, which calls a Python handler for each message, timed beside us.

Runs in an environment of its own (`peers` makes it). Speaks the protocol of `benchmarks/limit`: one line
`job runs` in, one JSON object out. Its data are the rows of our recording for hftbacktest, message by
message, made into its own objects before any clock runs.

Where there is a choice, the faster one is taken: no logging, no analysis, no checks of risk, no orders; its
data engine keeps the book, in Rust, and the handlers ask that book for what they need.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import nautilus_trader
import numpy as np
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import BacktestEngineConfig, LoggingConfig, RiskEngineConfig
from nautilus_trader.model.book import OrderBook
from nautilus_trader.model.currencies import BTC, USDT
from nautilus_trader.model.data import BookOrder, OrderBookDelta, OrderBookDeltas, TradeTick
from nautilus_trader.model.enums import (
    AccountType,
    AggressorSide,
    BookAction,
    BookType,
    OmsType,
    OrderSide,
    RecordFlag,
)
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, Venue
from nautilus_trader.model.instruments import CurrencyPair
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

from benchmarks.harness import now

DEPTH: Final = 1
TRADE: Final = 2
CLEAR: Final = 3
LOCAL: Final = 1 << 30
BUY: Final = 1 << 29
MASK: Final = 0xFF
VENUE: Final = "BENCH"
LARGE: Final = 1_000  # units of size: what a handler calls a large trade


class Watcher(Strategy):
    """A handler for every trade and every message of the book, as `bench_nautilus` has one of ours."""

    def __init__(self, instrument_id: InstrumentId, large: float) -> None:
        super().__init__()
        self.watched, self.large = instrument_id, large
        self.books = self.trades = self.wanted = 0
        self.book: OrderBook | None = None

    def on_start(self) -> None:
        """Ask for both."""
        self.subscribe_order_book_deltas(self.watched, BookType.L2_MBP)
        self.subscribe_trade_ticks(self.watched)

    def on_order_book_deltas(self, deltas: OrderBookDeltas) -> None:
        """A message of the book; the book has it already."""
        book = self.book
        if book is None:
            book = self.book = self.cache.order_book(deltas.instrument_id)
        self.books += 1
        self.wanted += book.best_bid_size() > book.best_ask_size()

    def on_trade_tick(self, tick: TradeTick) -> None:
        """A trade."""
        self.trades += 1
        self.wanted += tick.size.as_double() > self.large


class Day:
    """The rows as nautilus's instrument and data."""

    def __init__(self, rows: Path, units: int, price_exponent: int, qty_exponent: int) -> None:
        self.units = units
        self.price_exponent, self.qty_exponent = price_exponent, qty_exponent
        self.instrument = self._instrument()
        array = np.load(rows)
        self.data = list(self._messages(array[array["ev"] & LOCAL != 0]))

    def _instrument(self) -> CurrencyPair:
        price = Price(10.0**-self.price_exponent, self.price_exponent)
        size = Quantity(10.0**-self.qty_exponent, self.qty_exponent)
        return CurrencyPair(
            instrument_id=InstrumentId(Symbol("COIN"), Venue(VENUE)),
            raw_symbol=Symbol("COIN"),
            base_currency=BTC,
            quote_currency=USDT,
            price_precision=self.price_exponent,
            size_precision=self.qty_exponent,
            price_increment=price,
            size_increment=size,
            ts_event=0,
            ts_init=0,
            maker_fee=Decimal(0),
            taker_fee=Decimal(0),
        )

    def _messages(self, rows: Any) -> Iterator[Any]:
        """A trade, or the longest run of book rows of one message (rule 3.11)."""
        kinds, times = (rows["ev"] & MASK).tolist(), rows["local_ts"].tolist()
        at, ids = rows["exch_ts"].tolist(), rows["ival"].tolist()
        start = 0
        while start < len(rows):
            stop = start + 1
            if kinds[start] == TRADE:
                yield self._trade(rows[start], start)
            else:
                while (
                    stop < len(rows)
                    and kinds[stop] not in {TRADE, CLEAR}
                    and (times[stop], at[stop], ids[stop]) == (times[start], at[start], ids[start])
                ):
                    stop += 1
                yield self._book(rows[start:stop])
            start = stop

    def _trade(self, row: Any, number: int) -> TradeTick:
        side = AggressorSide.BUYER if int(row["ev"]) & BUY else AggressorSide.SELLER
        return TradeTick(
            self.instrument.id,
            Price(row["px"], self.price_exponent),
            Quantity(row["qty"], self.qty_exponent),
            side,
            TradeId(str(number)),
            int(row["exch_ts"]),
            int(row["local_ts"]),
        )

    def _book(self, rows: Any) -> OrderBookDeltas:
        deltas = [
            self._delta(row, RecordFlag.F_LAST if i == len(rows) - 1 else 0) for i, row in enumerate(rows)
        ]
        return OrderBookDeltas(self.instrument.id, deltas)

    def _delta(self, row: Any, flags: int) -> OrderBookDelta:
        sequence, exch, local = int(row["ival"]), int(row["exch_ts"]), int(row["local_ts"])
        kind, qty = int(row["ev"]) & MASK, float(row["qty"])
        if kind == CLEAR:
            return OrderBookDelta.clear(self.instrument.id, sequence, exch, local)
        action = BookAction.DELETE if not qty else BookAction.UPDATE if kind == DEPTH else BookAction.ADD
        side = OrderSide.BUY if int(row["ev"]) & BUY else OrderSide.SELL
        order = BookOrder(side, Price(row["px"], self.price_exponent), Quantity(qty, self.qty_exponent), 0)
        return OrderBookDelta(self.instrument.id, action, order, flags, sequence, exch, local)

    def run(self) -> tuple[float, Watcher]:
        """Seconds of the engine's run over all data; what is made before does not count."""
        engine = BacktestEngine(
            BacktestEngineConfig(
                logging=LoggingConfig(bypass_logging=True),
                risk_engine=RiskEngineConfig(bypass=True),
                run_analysis=False,
            )
        )
        engine.add_venue(
            Venue(VENUE),
            OmsType.NETTING,
            AccountType.CASH,
            [Money(1_000_000, USDT)],
            book_type=BookType.L2_MBP,
        )
        engine.add_instrument(self.instrument)
        engine.add_data(self.data, validate=False, sort=False)
        watcher = Watcher(self.instrument.id, LARGE / 10.0**self.qty_exponent)
        engine.add_strategy(watcher)
        gc.collect()
        start = now()
        engine.run()
        seconds = now() - start
        engine.dispose()
        return seconds, watcher

    def answer(self, runs: int) -> dict[str, Any]:
        """Answer of one request."""
        outcomes = [self.run() for _ in range(runs)]
        seen = outcomes[-1][1]
        assert seen.book is not None
        price = 10**self.price_exponent
        bid, ask = (
            round(float(one) * price) for one in (seen.book.best_bid_price(), seen.book.best_ask_price())
        )
        return {
            "units": self.units,
            "checksum": f"{seen.books} books, {seen.trades} trades, {seen.wanted} wanted, {bid} {ask}",
            "seconds": [seconds for seconds, _ in outcomes],
            "version": nautilus_trader.__version__,
        }


def main() -> int:
    """Serve requests until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, help="rows for hftbacktest, .npy")
    parser.add_argument("--units", type=int, required=True, help="book and trade events of the recording")
    parser.add_argument("--price-exponent", type=int, required=True)
    parser.add_argument("--qty-exponent", type=int, required=True)
    args = parser.parse_args()
    day = Day(args.rows, args.units, args.price_exponent, args.qty_exponent)
    for line in sys.stdin:
        _, runs = line.split()
        sys.stdout.write(json.dumps(day.answer(int(runs))) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
