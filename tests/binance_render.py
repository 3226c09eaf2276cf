"""Made-up events as lines of Binance's futures, and what can happen to lines on their way to us."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from featureplane.market.events import EventFlag, Kind, Side
from featureplane.market.instruments import Instrument
from featureplane.market.synthetic import Faults, SyntheticStream, symbol_name
from featureplane.services.raw_queue import Item, Reconnect
from featureplane.units import NANOS_PER_MS

SOURCE = "binance-usdm"
PRICE_EXPONENT, QTY_EXPONENT = 2, 3
SAYABLE = Faults(snapshot_redundant=3_000, snapshot_plain=0, clear=0, halt=0, no_side=0, corrupt=0)
"""Accidents that a feed of Binance can have; snapshots come often, as a service asks for them."""

_LAST = int(EventFlag.LAST)
_NAMES = {1: "b", 2: "a"}


def instruments(symbols: int) -> tuple[Instrument, ...]:
    return tuple(
        Instrument(
            venue=SOURCE,
            symbol=symbol_name(index),
            price_exponent=PRICE_EXPONENT,
            qty_exponent=QTY_EXPONENT,
            tick_size="0.01",
            lot_size="0.001",
            vpin_bucket="1000",
        )
        for index in range(symbols)
    )


def rendered(count: int, seed: int, symbols: int, faults: Faults = SAYABLE) -> Iterator[bytes]:
    """At least `count` events, a line a message; trades inside messages of the book are left out."""
    stream = SyntheticStream(seed, symbols, faults=faults)
    names = {line.symbol_id: symbol_name(index) for index, line in enumerate(stream._lines)}
    message: list[tuple[int, ...]] = []
    for block in stream.blocks(count):
        for row in block.tolist():
            message.append(row)
            if row[2] & _LAST:
                yield from _lines(message, names[row[3]])
                message = []


def _lines(message: list[tuple[int, ...]], symbol: str) -> Iterator[bytes]:
    last, prev, source, local = message[0][7:11]
    if {row[0] for row in message} == {int(Kind.TRADE)}:
        for number, row in enumerate(message):
            yield _trade(symbol, row, prev + 1 + number, (source, local))
    elif message[0][0] == Kind.QUOTE:
        (_, _, _, _, bid, bid_qty, *_), (_, _, _, _, ask, ask_qty, *_) = message
        text = (
            f'"e":"bookTicker","u":{last},"s":"{symbol}","b":"{_price(bid)}","B":"{_qty(bid_qty)}",'
            f'"a":"{_price(ask)}","A":"{_qty(ask_qty)}",{_times(source)}'
        )
        yield _line(local, text)
    elif message[0][2] & EventFlag.RECOVERY:
        bids, asks = _levels(message)
        text = f'"lastUpdateId":{last},"symbol":"{symbol}",{_times(source)},"bids":[{bids}],"asks":[{asks}]'
        yield _line(local, text)
    else:
        bids, asks = _levels(message)
        head = f'"e":"depthUpdate",{_times(source)},"s":"{symbol}","U":{prev + 1},"u":{last},"pu":{prev}'
        yield _line(local, f'{head},"b":[{bids}],"a":[{asks}]')


def _trade(symbol: str, row: tuple[int, ...], number: int, times: tuple[int, int]) -> bytes:
    kind = "NA" if row[2] & EventFlag.NOT_MARKET else "MARKET"
    maker = "true" if row[1] == Side.ASK else "false"
    text = (
        f'"e":"trade",{_times(times[0])},"s":"{symbol}","t":{number},"p":"{_price(row[4])}",'
        f'"q":"{_qty(row[5])}","X":"{kind}","m":{maker}'
    )
    return _line(times[1], text)


def _line(local: int, text: str) -> bytes:
    return f"{local:019d} {{{text}}}".encode()


def _times(source: int) -> str:
    ms = source // NANOS_PER_MS
    return f'"E":{ms},"T":{ms}'


def _levels(message: Iterable[tuple[int, ...]]) -> tuple[str, str]:
    sides: dict[int, list[str]] = {1: [], 2: []}
    for row in message:
        if row[0] in {Kind.LEVEL, Kind.SNAPSHOT_LEVEL}:
            sides[row[1]].append(f'["{_price(row[4])}","{_qty(row[5])}"]')
    return ",".join(sides[1]), ",".join(sides[2])


def _decimal(value: int, exponent: int) -> str:
    whole, rest = divmod(abs(value), 10**exponent)
    return f"{'-' if value < 0 else ''}{whole}.{rest:0{exponent}d}"


def _price(value: int) -> str:
    return _decimal(value, PRICE_EXPONENT)


def _qty(value: int) -> str:
    return _decimal(value, QTY_EXPONENT)


class Way:
    """What stands between the venue and us, from a seed: lines are dropped, doubled, swapped, corrupted."""

    def __init__(self, seed: int, symbols: int | Sequence[str]) -> None:
        self._random = random.Random(seed)
        made_up = [symbol_name(index) for index in range(symbols)] if isinstance(symbols, int) else symbols
        self._symbols = list(made_up)
        self.did: Counter[str] = Counter()

    def items(self, lines: Iterable[bytes]) -> Iterator[Item]:
        held: bytes | None = None
        for line in lines:
            draw = self._random.randrange(1_000_000)
            if held is not None:
                yield line, None, None
                yield held, None, None
                held = None
            elif draw < 300:
                self.did["drop"] += 1
            elif draw < 900:
                self.did["duplicate"] += 1
                yield line, None, None
                yield line, None, None
            elif draw < 1_500:
                self.did["reorder"] += 1
                held = line
            elif draw < 1_800:
                self.did["corrupt"] += 1
                yield self._corrupted(line), None, None
            elif draw < 1_950:
                self.did["reconnect"] += 1
                yield Reconnect(self._random.choice([*self._symbols, None]))
                yield line, None, None
            else:
                yield line, None, None

    def _corrupted(self, line: bytes) -> bytes:
        """Cut off, a byte of it another one, or none of it left."""
        how, at = self._random.randrange(4), self._random.randrange(len(line))
        if how == 0:
            return line[:at] or b"?"
        if how == 1:
            return b"what"
        if how == 2:
            return line[:20] + b"{}"
        return line[:at] + bytes([self._random.choice(b'{}[]",:xX-. ')]) + line[at + 1 :]
