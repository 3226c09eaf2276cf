"""LOBSTER rows to events, the plain way: the oracle of `normalize/lobster`, and what stands in for it.

Rule 3.11 is written out here step by step; the twin does the same with less copying.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from featureplane.errors import BookMismatch, MalformedEvent
from featureplane.market.events import EVENT_DTYPE, EventFlag, Kind, Side
from featureplane.market.sources.text import Line, Lines
from featureplane.units import MAGNITUDE_LIMIT, NANOS_PER_SECOND

__all__ = ["LobsterConfig", "PlainReader", "first_time"]

_LINE_BYTES_MAX: Final = 1 << 20
_EMPTY_PRICE: Final = 9_999_999_999
_SECONDS_MAX: Final = 86_400
_ORDER_ID_MAX: Final = (1 << 64) - 1
_LEVELS_MAX: Final = 200
_FIELDS: Final = "6 fields: time, type, order id, size, price, direction"
_SECONDS: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?")
_INTEGER: Final = re.compile(r"-?[0-9]+")
_FOUND_MAX: Final = 120
_BOOK_FIELDS: Final = (("price", "an integer within 2^53"), ("size", "an integer of 0 to 2^53 - 1"))

_Row = tuple[int, ...]
_Levels = dict[int, int]


class LobsterConfig(NamedTuple):
    """How a pair of files is read; the arguments of the native reader."""

    symbol_id: int
    midnight_ns: int  # of the files' date at the exchange, UTC
    book: bool  # there is an order-book file
    adopt: bool  # take a row of it that the messages do not explain
    drop_malformed: bool  # leave a mark for what cannot be read, instead of refusing it


class _Message(NamedTuple):
    line: int
    since_midnight_ns: int
    time_cut: bool
    kind: int
    order_id: int
    size: int
    price: int
    bid: bool


class _Refused(NamedTuple):
    """A line that is no row; `cut` if it was the last and not ended."""

    error: MalformedEvent
    cut: bool


def _malformed(found: str, expected: str, line: int) -> MalformedEvent:
    shown = found if len(found) <= _FOUND_MAX else found[:_FOUND_MAX] + "…"
    return MalformedEvent(shown, expected, line=line)


def _fields(line: Line) -> list[str]:
    if line.text is None:
        found = f"a line beyond {_LINE_BYTES_MAX} bytes"
        raise _malformed(found, "rows of a LOBSTER file", line.number)
    return line.text.decode("utf-8", "replace").split(",")


def _integer(text: str) -> int | None:
    """An integer within the magnitude of rule 1.2, or None."""
    if not _INTEGER.fullmatch(text) or len(text.lstrip("-0")) > 16:
        return None
    value = int(text)
    return value if abs(value) < MAGNITUDE_LIMIT else None


def _seconds(text: str) -> tuple[int, bool] | None:
    """Nanoseconds, cut off and not rounded, and whether something was cut (rule 1.1)."""
    match = _SECONDS.fullmatch(text)
    if not match or len(match[1].lstrip("0")) > 5 or int(match[1]) >= _SECONDS_MAX:
        return None
    decimals = match[2] or ""
    nanos = Decimal(f"{match[1]}.{decimals[:9] or '0'}") * NANOS_PER_SECOND
    return int(nanos), len(decimals) > 9


def first_time(text: bytes) -> int | None:
    """Nanoseconds after midnight of the first row of a message file, where they can be read."""
    read = _seconds(text.partition(b",")[0].decode("utf-8", "replace"))
    return read[0] if read else None


def _order_id(text: str) -> int | None:
    if text == "-1":
        return 0
    if not re.fullmatch(r"[0-9]+", text) or len(text.lstrip("0")) > 20:
        return None
    value = int(text)
    return value if value <= _ORDER_ID_MAX else None


def _message(line: Line) -> _Message:
    """One row of the message file; raises `MalformedEvent`."""
    number = line.number
    fields = _fields(line)
    if len(fields) != 6:
        raise _malformed(f"`{','.join(fields)}`", _FIELDS, number)

    def wrong(name: str, text: str, expected: str) -> MalformedEvent:
        return _malformed(f"{name} `{text}`", expected, number)

    time, kind, order_id, size, price, direction = fields
    nanos = _seconds(time)
    if nanos is None:
        raise wrong("time", time, "seconds after midnight below 86400")
    if kind not in tuple("1234567"):
        raise wrong("type", kind, "1 to 7")
    order = _order_id(order_id)
    if order is None:
        raise wrong("order id", order_id, "an integer, or -1")
    shares = _integer(size)
    if shares is None or shares < 0:
        raise wrong("size", size, "an integer of 0 to 2^53 - 1")
    value = _integer(price)
    if value is None:
        raise wrong("price", price, "an integer within 2^53")
    if kind == "7" and value not in (-1, 0, 1):
        raise wrong("price", price, "-1, 0 or 1 in a row of type 7")
    if direction not in ("1", "-1"):
        raise wrong("direction", direction, "1 or -1")
    return _Message(number, *nanos, int(kind), order, shares, value, direction == "1")


class PlainReader:
    """Reads a message file, with or without its order-book file. The interface is that of the twin."""

    def __init__(self, config: LobsterConfig) -> None:
        self._config = config
        self._lines = Lines(_LINE_BYTES_MAX), Lines(_LINE_BYTES_MAX)
        self._messages: deque[_Message | _Refused] = deque()
        self._books: deque[list[int] | _Refused] = deque()
        self._width = 0
        self._before: tuple[_Levels, _Levels] | None = None
        self._known: tuple[_Levels, _Levels] = {}, {}
        self._line = 0
        self._time_ns = 0
        self._counts = dict.fromkeys(("adopted", "empty_trade", "incomplete", "time_cut", "unknown_level"), 0)

    def feed(self, messages: bytes, books: bytes) -> tuple[npt.NDArray[np.void], MalformedEvent | None]:
        """The events of the rows that the next bytes of both files complete, and the error that ends them."""
        return self._take(self._lines[0].feed(messages), self._lines[1].feed(books), ended=False)

    def finish(self) -> tuple[npt.NDArray[np.void], MalformedEvent | None]:
        """As `feed`, at the end of both files."""
        return self._take(self._lines[0].finish(), self._lines[1].finish(), ended=True)

    def waiting(self) -> tuple[int, int]:
        """Rows that wait for their partner: of the message file, of the order-book file."""
        return len(self._messages), len(self._books)

    def depth(self) -> int:
        """Levels a side of the order-book file; 0 before its first row."""
        return self._width // 4

    def counts(self) -> list[tuple[str, int]]:
        """What was left out or taken as it stood, by reason."""
        return list(self._counts.items())

    # -- lines to rows

    def _take(
        self, messages: Iterator[Line], books: Iterator[Line], *, ended: bool
    ) -> tuple[npt.NDArray[np.void], MalformedEvent | None]:
        for line in messages:
            try:
                self._messages.append(_message(line))
            except MalformedEvent as error:
                self._messages.append(_Refused(error, line.tail))
        for line in books:
            try:
                self._books.append(self._book(line))
            except MalformedEvent as error:
                self._books.append(_Refused(error, line.tail))
        out: list[_Row] = []
        failed = None
        try:
            self._pair(out)
            if ended:
                self._lone_rows(out)
        except MalformedEvent as error:
            failed = error
        return np.array(out, EVENT_DTYPE), failed

    def _book(self, line: Line) -> list[int]:
        number = line.number
        fields = _fields(line)
        values: list[int] = []
        for place, field in enumerate(fields):
            value = _integer(field)
            if value is None or (place % 2 == 1 and value < 0):
                name, bound = _BOOK_FIELDS[place % 2]
                raise _malformed(f"{name} `{field}`", bound, number)
            values.append(value)
        if self._width == 0 and len(values) % 4 == 0:
            if len(values) // 4 > _LEVELS_MAX:
                expected = f"at most {_LEVELS_MAX} levels a side"
                raise _malformed(f"{len(values) // 4} levels", expected, number)
            self._width = len(values)
        if self._width == 0:
            expected = "4 fields a level: ask price, size, bid price, size"
            raise _malformed(f"{len(values)} fields", expected, number)
        if len(values) != self._width:
            raise _malformed(f"{len(values)} fields", f"{self._width} fields, as before", number)
        return values

    def _pair(self, out: list[_Row]) -> None:
        while self._messages and (self._books or not self._config.book):
            message = self._messages.popleft()
            book = self._books.popleft() if self._config.book else []
            self._line += 1
            refused = message if isinstance(message, _Refused) else book
            if isinstance(refused, _Refused):
                if refused.cut:
                    self._counts["incomplete"] += 1
                else:
                    self._refuse(refused.error, out)
                continue
            assert isinstance(message, _Message)
            assert isinstance(book, list)
            events: list[_Row] = []
            try:
                self._row(message, book, events)
            except MalformedEvent as error:
                self._refuse(error, out)
                continue
            if events:
                kind, side, flags, *rest = events[-1]
                events[-1] = (kind, side, flags | EventFlag.LAST, *rest)
                out += events

    def _lone_rows(self, out: list[_Row]) -> None:
        messages, books = self.waiting()
        left, missing = (messages, "order-book") if messages else (books, "message")
        self._messages.clear()
        self._books.clear()
        for _ in range(left):
            self._line += 1
            expected = "as many rows in both files"
            self._refuse(_malformed(f"the end of the {missing} file", expected, self._line), out)

    def _refuse(self, error: MalformedEvent, out: list[_Row]) -> None:
        """Ends the stream, or leaves a mark that breaks the book; the next row starts it again."""
        if not self._config.drop_malformed:
            raise error
        out.append(self._event(0, Side.NONE, flags=EventFlag.LAST))
        self._before = None

    # -- rows to events

    def _event(
        self, kind: int, side: int, *, flags: int = 0, price: int = 0, qty: int = 0, order_id: int = 0
    ) -> _Row:
        symbol_id, time = self._config.symbol_id, self._time_ns
        return (kind, side, flags, symbol_id, price, qty, order_id, 0, 0, time, time)

    def _row(self, row: _Message, book: list[int], out: list[_Row]) -> None:
        self._time_ns = self._config.midnight_ns + row.since_midnight_ns
        self._counts["time_cut"] += row.time_cut
        if not self._config.book:
            out += self._told(row)
            if row.kind <= 4:
                out += self._blind(row)
            return
        now = _sides(book, row.line)
        if self._before is None:
            out += self._whole(now, EventFlag.RECOVERY)
            out += self._told(row)
            self._before = now
            return
        before, self._before = self._before, None
        out += self._told(row)
        try:
            out += self._explained(row, before, now)
        except BookMismatch:
            if not self._config.adopt:
                raise
            self._counts["adopted"] += 1
            out += self._whole(now, 0)
        self._before = now

    def _told(self, row: _Message) -> list[_Row]:
        """Step 1: the trade or status of a row."""
        if row.kind == 7:
            return [self._event(Kind.STATUS, Side.NONE, qty={-1: 2, 0: 1, 1: 3}[row.price])]
        if row.kind not in (4, 5, 6):
            return []
        if row.size == 0:
            self._counts["empty_trade"] += 1
            return []
        flags = {4: 0, 5: EventFlag.HIDDEN, 6: EventFlag.NOT_MARKET}[row.kind]
        side = Side.ASK if row.bid else Side.BID
        level = {"price": row.price, "qty": row.size}
        return [self._event(Kind.TRADE, side, flags=flags, **level, order_id=row.order_id)]

    def _explained(
        self, row: _Message, before: tuple[_Levels, _Levels], now: tuple[_Levels, _Levels]
    ) -> list[_Row]:
        """Steps 2 to 5: the levels of the row before, changed by the message, must be this row."""
        out: list[_Row] = []
        result = dict(before[0]), dict(before[1])
        if row.kind <= 4:
            levels, side = (result[0], Side.BID) if row.bid else (result[1], Side.ASK)
            v = levels.pop(row.price, 0)
            size = v + row.size if row.kind == 1 else max(v - row.size, 0)
            if size:
                levels[row.price] = size
            out.append(self._event(Kind.LEVEL, side, price=row.price, qty=size, order_id=row.order_id))
        for levels, side in zip(result, (Side.BID, Side.ASK), strict=True):
            for price in _best_first(levels, side)[self.depth() :]:
                del levels[price]
                out.append(self._event(Kind.LEVEL, side, flags=EventFlag.CONCEALED, price=price))
        for levels, row_levels, side in zip(result, now, (Side.BID, Side.ASK), strict=True):
            out += self._revealed(levels, row_levels, side, row.line)
        return out

    def _revealed(self, result: _Levels, now: _Levels, side: int, line: int) -> list[_Row]:
        """Steps 4 and 5 for one side; `result` becomes `now` or `BookMismatch` is raised."""
        out: list[_Row] = []
        name = "bid" if side == Side.BID else "ask"
        for price, size in now.items():
            held = result.get(price)
            if held is None:
                if any(_better(side, price, other) for other in result):
                    raise BookMismatch(name, price, size, 0, line=line)
                result[price] = size
                out.append(self._event(Kind.LEVEL, side, flags=EventFlag.REVEALED, price=price, qty=size))
            elif held != size:
                raise BookMismatch(name, price, size, held, line=line)
        for price in _best_first(result, side):
            if price not in now:
                raise BookMismatch(name, price, 0, result[price], line=line)
        return out

    def _whole(self, now: tuple[_Levels, _Levels], flags: int) -> list[_Row]:
        sides = (Side.BID, Side.ASK)
        clears = [self._event(Kind.CLEAR, side, flags=flags) for side in sides]
        return clears + [
            self._event(Kind.SNAPSHOT_LEVEL, side, flags=flags, price=price, qty=size)
            for levels, side in zip(now, sides, strict=True)
            for price, size in levels.items()
        ]

    def _blind(self, row: _Message) -> list[_Row]:
        """The change of a level where only the messages are known."""
        levels, side = (self._known[0], Side.BID) if row.bid else (self._known[1], Side.ASK)
        held = levels.get(row.price)
        if held is None and row.kind != 1:
            self._counts["unknown_level"] += 1
            return []
        size = (held or 0) + row.size if row.kind == 1 else max((held or 0) - row.size, 0)
        if size >= MAGNITUDE_LIMIT:
            raise _malformed("a level beyond 2^53 - 1", "sizes within 2^53", row.line)
        levels.pop(row.price, None)
        if size:
            levels[row.price] = size
        return [self._event(Kind.LEVEL, side, price=row.price, qty=size, order_id=row.order_id)]


def _better(side: int, a: int, b: int) -> bool:
    return a > b if side == Side.BID else a < b


def _best_first(levels: _Levels, side: int) -> list[int]:
    return sorted(levels, reverse=side == Side.BID)


def _sides(values: list[int], line: int) -> tuple[_Levels, _Levels]:
    """Bids and asks of an order-book row, best first, without levels that are not there."""
    bids: _Levels = {}
    asks: _Levels = {}
    for levels, side, name, first in ((bids, Side.BID, "bid", 2), (asks, Side.ASK, "ask", 0)):
        last: int | None = None
        for price, size in zip(values[first::4], values[first + 1 :: 4], strict=True):
            if size == 0 or abs(price) == _EMPTY_PRICE:
                continue
            if last is not None and not _better(side, last, price):
                raise _malformed(f"{name} {price} behind {last}", "levels in order, best first", line)
            levels[price] = size
            last = price
    return bids, asks
