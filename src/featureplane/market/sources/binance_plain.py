"""Recordings of Binance with the standard library alone: the reference of `normalize/binance`.

A line is an envelope `{"stream": .., "data": {..}}`, a message without one, or the bare answer to a
request for a snapshot. Depth diffs, trades, aggregated trades, best quotes and snapshots are read;
other streams are counted and skipped, lines of other symbols are skipped and remembered.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from featureplane.errors import MalformedEvent
from featureplane.market.decimals import scaled, written
from featureplane.market.events import EVENT_DTYPE, EventFlag, Kind, Side
from featureplane.market.sources.binance_messages import (
    Class,
    Complaint,
    Judge,
    Levels,
    Meaning,
    class_of,
    complain,
    message_of,
    parse,
    printable,
)
from featureplane.market.sources.text import LINE_BYTES_MAX, Line, Lines, Unpacker
from featureplane.units import TIME_LIMIT_NS

__all__ = ["LINE_BYTES_MAX", "PlainReader", "PlainScan", "Refused", "is_cut", "local_time", "overlong"]

V = TypeVar("V")

_OTHERS_MAX: Final = 64
_SHOWN_BYTES: Final = 480
_FOUND_CHARACTERS: Final = 120
_UNREADABLE: Final = 0
_LAST: Final = int(EventFlag.LAST)
_NOT_MARKET: Final = int(EventFlag.NOT_MARKET)
_RECOVERY: Final = int(EventFlag.RECOVERY)
_VOLUME_EXPONENT: Final = 18
_VOLUME_MAX: Final = (1 << 127) - 1


def local_time(text: bytes) -> tuple[int, bytes] | None:
    """Local time of a line in nanoseconds and what stands behind it; None if it has none."""
    digits, space, rest = text.partition(b" ")
    scale = {16: 1000, 19: 1}.get(len(digits))
    if scale is None or not space or not digits.isdigit():
        return None
    value = int(digits) * scale
    return None if value >= TIME_LIMIT_NS else (value, rest)


def is_cut(text: bytes) -> bool:
    """Whether the text ends inside its local time or inside its JSON."""
    digits, space, rest = text.partition(b" ")
    if not space:
        return digits.isdigit()
    depth, quoted, escaped = 0, False, False
    for character in rest.decode("latin-1"):
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
    return depth > 0 or quoted or not rest


class Refused(Exception):
    """A line that cannot be used, and whether the book may have lost something by it."""

    def __init__(self, complaint: Complaint, local: int | None, *, book: bool) -> None:
        super().__init__(complaint)
        self.complaint, self.local, self.book = complaint, local, book


def overlong(local: int | None) -> Refused:
    """The refusal of a line beyond the limit."""
    return Refused(Complaint("a line without end", "lines of at most 64 MiB"), local, book=True)


def _shown(text: bytes) -> str:
    return printable(text[:_SHOWN_BYTES].decode("utf-8", "replace"))


class _Stage(Generic[V]):
    """Lines in, messages out; what both passes over a recording share."""

    def __init__(self, judge: Judge[V], *, drop_malformed: bool, line_bytes_max: int) -> None:
        self._judge, self._drops = judge, drop_malformed
        self._unpacker, self._lines = Unpacker(), Lines(line_bytes_max)
        self._file = ""
        self._local_max = 0
        self._counts = dict.fromkeys(
            ("incomplete", "malformed", "other_stream", "other_symbol", "unnamed_snapshot"), 0
        )

    # What a pass makes of the messages.

    def _wants(self, symbol: str | None) -> bool:
        raise NotImplementedError

    def _take(self, local: int, meaning: Meaning[V]) -> None:
        raise NotImplementedError

    def _lost(self, local: int) -> None:
        raise NotImplementedError

    # The interface of the native readers.

    def begin(self, file: str) -> None:
        """Begin a file; errors will name it."""
        self._file = file
        self._unpacker.begin(file)

    def end(self) -> None:
        """End the file; the next one continues the stream, its lines count from 1."""
        self._text(self._unpacker.finish())
        for line in self._lines.finish():
            self._line(line)

    def local_max(self) -> int:
        """The latest local time of any line, 0 before the first."""
        return self._local_max

    def _piece(self, data: bytes) -> int:
        text, used = self._unpacker.step(data)
        self._text(text)
        return used

    def _text(self, text: bytes) -> None:
        for line in self._lines.feed(text):
            self._line(line)

    def _line(self, line: Line) -> None:
        try:
            self._judged(line)
        except Refused as refused:
            self._settle(refused, line.number)

    def _settle(self, refused: Refused, number: int) -> None:
        """What becomes of a line that cannot be used."""
        complaint = refused.complaint
        if not self._drops:
            found = complaint.found
            if len(found) > _FOUND_CHARACTERS:
                found = found[:_FOUND_CHARACTERS] + "…"
            raise MalformedEvent(found, complaint.expected, file=self._file, line=number) from None
        if refused.book:
            self._lost(self._local_max if refused.local is None else refused.local)
        else:
            self._counts["malformed"] += 1

    def _judged(self, line: Line) -> None:
        if line.text is None:
            raise overlong(None)
        try:
            self._message(line.text)
        except Refused:
            if not line.tail or not is_cut(line.text):
                raise
            self._counts["incomplete"] += 1

    def _message(self, text: bytes) -> None:
        if not text:
            return
        read = local_time(text)
        if read is None:
            expected = "a local time of 16 (microseconds) or 19 digits (nanoseconds) and a space"
            raise Refused(Complaint(_shown(text), expected), None, book=True)
        self._json(*read)

    def _json(self, local: int, data: bytes) -> None:
        self._local_max = max(self._local_max, local)
        value = parse(data)
        if value is None:
            raise Refused(Complaint(_shown(data), "one JSON object"), local, book=True)
        message, depth = message_of(value)
        kind = class_of(message, enveloped=depth > 1)
        if kind is Class.FOREIGN:
            self._counts["other_stream"] += 1
            return
        try:
            if self._wants(_symbol(kind, message)):
                self._take(local, self._judge.meaning(kind, message))
        except Complaint as complaint:
            raise Refused(complaint, local, book=kind.is_book) from None


def _symbol(kind: Class, message: dict[str, Any]) -> str | None:
    key = "symbol" if kind is Class.SNAPSHOT else "s"
    symbol = message.get(key)
    if isinstance(symbol, str):
        return symbol
    if kind is not Class.SNAPSHOT or key in message:
        complain(key, message, "a symbol")
    return None


_Row = tuple[int, int, int, int, int, int, int, int, int, int, int]


class PlainReader(_Stage[int]):
    """Reads one symbol of a recording. The interface is that of `_native.BinanceReader`.

    Raises `MalformedEvent` and `UnreadableFile` as it does; `take` then has the events of all lines
    before.
    """

    def __init__(  # noqa: PLR0917 - the signature of the native reader
        self,
        symbol: str,
        symbol_id: int,
        price_exponent: int,
        qty_exponent: int,
        futures: bool,  # noqa: FBT001 - as above
        drop_malformed: bool,  # noqa: FBT001 - as above
        line_bytes_max: int,
    ) -> None:
        read = functools.lru_cache(1 << 16)(scaled)
        judge = Judge(
            lambda text: read(text, price_exponent),
            lambda text: read(text, qty_exponent, size=True),
            futures=futures,
        )
        super().__init__(judge, drop_malformed=drop_malformed, line_bytes_max=line_bytes_max)
        self._symbol, self._symbol_id = symbol, symbol_id
        self._seen = False
        self._others: list[str] = []
        self._source_ts_ns = 0
        self._events: list[_Row] = []

    def feed(self, data: bytes, start: int, events_max: int) -> int:
        """Read `data` from `start` until `events_max` events wait; the place behind what was used."""
        while start < len(data):
            start += self._piece(data[start:])
            if len(self._events) >= events_max:
                break
        return start

    def pending(self) -> int:
        """Events waiting to be taken."""
        return len(self._events)

    def take(self) -> npt.NDArray[np.uint64]:
        """The events waiting, eight words each."""
        events, self._events = np.array(self._events, EVENT_DTYPE), []
        return events.view(np.uint64)

    def dropped(self) -> list[tuple[str, int]]:
        """Lines that became no event since the beginning, by reason."""
        return list(self._counts.items())

    def symbols(self) -> list[str]:
        """Symbols seen, the wanted one first if it is among them."""
        return [*([self._symbol] if self._seen else []), *self._others]

    def _wants(self, symbol: str | None) -> bool:
        if symbol is None:
            if self._others:
                self._counts["unnamed_snapshot"] += 1
            return not self._others
        if symbol == self._symbol:
            self._seen = True
            return True
        self._counts["other_symbol"] += 1
        if symbol not in self._others and len(self._others) < _OTHERS_MAX:
            self._others.append(symbol)
        return False

    def _take(self, local: int, meaning: Meaning[int]) -> None:
        rows = list(_rows(meaning))
        rows[-1] = (*rows[-1][:2], rows[-1][2] | _LAST, *rows[-1][3:])
        ids_and_times = (0, meaning.last, meaning.previous, meaning.time, local)
        self._events += [(*row[:3], self._symbol_id, *row[3:], *ids_and_times) for row in rows]
        self._source_ts_ns = meaning.time or self._source_ts_ns

    def _lost(self, local: int) -> None:
        times = (self._source_ts_ns, local)
        self._events.append((_UNREADABLE, 0, _LAST, self._symbol_id, 0, 0, 0, 0, 0, *times))


def _rows(meaning: Meaning[int]) -> list[tuple[int, int, int, int, int]]:
    """Kind, side, flags, price and size of every event of a message."""
    bid, ask = int(Side.BID), int(Side.ASK)
    if meaning.trade is not None:
        price, qty, side, market = meaning.trade
        return [(int(Kind.TRADE), int(side), 0 if market else _NOT_MARKET, price, qty)]
    if meaning.quote is not None:
        quote = int(Kind.QUOTE)
        return [(quote, bid, 0, *meaning.quote[0]), (quote, ask, 0, *meaning.quote[1])]
    levels = meaning.levels or Levels([], [])
    if meaning.kind is Class.DIFF:
        return _both(int(Kind.LEVEL), 0, levels) or [(int(Kind.LEVEL), bid, 0, 0, 0)]
    clear = int(Kind.CLEAR)
    clears = [(clear, bid, _RECOVERY, 0, 0), (clear, ask, _RECOVERY, 0, 0)]
    return clears + _both(int(Kind.SNAPSHOT_LEVEL), _RECOVERY, levels)


def _both(kind: int, flags: int, levels: Levels[int]) -> list[tuple[int, int, int, int, int]]:
    sides = ((int(Side.BID), levels.bids), (int(Side.ASK), levels.asks))
    return [(kind, side, flags, price, qty) for side, rows in sides for price, qty in rows]


_Written = tuple[int, int]


class _Grid:
    """Greatest common divisor and most decimals of the values seen."""

    def __init__(self) -> None:
        self.places, self.divisor = 0, 0

    def add(self, mantissa: int, places: int) -> None:
        if places > self.places:
            self.divisor *= 10 ** (places - self.places)
            self.places = places
        self.divisor = math.gcd(self.divisor, mantissa * 10 ** (self.places - places))


class _Found:
    """What was seen of one symbol."""

    def __init__(self) -> None:
        self.price, self.qty, self.volume = _Grid(), _Grid(), 0

    def row(self, price: _Written, qty: _Written) -> None:
        self.price.add(*price)
        self.qty.add(*qty)


class PlainScan(_Stage[_Written]):
    """Looks through a recording for its precision. The interface is that of `_native.BinanceScan`."""

    def __init__(
        self,
        futures: bool,  # noqa: FBT001 - the signature of the native scan
        drop_malformed: bool,  # noqa: FBT001 - as above
        line_bytes_max: int,
    ) -> None:
        read = functools.lru_cache(1 << 16)(written)
        judge = Judge(read, lambda text: read(text, size=True), futures=futures)
        super().__init__(judge, drop_malformed=drop_malformed, line_bytes_max=line_bytes_max)
        self._found: dict[str, _Found] = {}
        self._unnamed = _Found()
        self._current = self._unnamed

    def feed(self, data: bytes) -> None:
        """Look at `data`, all of it."""
        while data:
            data = data[self._piece(data) :]

    def found(self) -> list[tuple[str, tuple[int, int], tuple[int, int], int]]:
        """Symbol, (decimals, common divisor) of prices and of sizes, volume in units of 10^-18.

        A row a symbol, in order of appearance; snapshots without a symbol count for the only one named
        before them, or for all if none was.
        """
        for one in self._found.values():
            one.row(
                (self._unnamed.price.divisor, self._unnamed.price.places),
                (self._unnamed.qty.divisor, self._unnamed.qty.places),
            )
        return [
            (symbol, (one.price.places, one.price.divisor), (one.qty.places, one.qty.divisor), one.volume)
            for symbol, one in self._found.items()
        ]

    def _wants(self, symbol: str | None) -> bool:
        if symbol is None:
            only = next(iter(self._found.values()), self._unnamed)
            self._current = only if len(self._found) < 2 else _Found()  # behind several names nobody reads it
            return True
        if symbol not in self._found and len(self._found) < _OTHERS_MAX:
            self._found[symbol] = _Found()
        self._current = self._found.get(symbol, self._unnamed)
        return symbol in self._found

    def _take(self, local: int, meaning: Meaning[_Written]) -> None:
        del local
        found = self._current
        if meaning.trade is not None:
            price, (mantissa, places), _, market = meaning.trade
            if mantissa:
                found.row(price, (mantissa, places))
                volume = found.volume + market * mantissa * 10 ** (_VOLUME_EXPONENT - places)
                found.volume = min(volume, _VOLUME_MAX)
            return
        rows = [*meaning.quote] if meaning.quote is not None else []
        if meaning.levels is not None:
            rows = [*meaning.levels.bids, *meaning.levels.asks]
        for price, qty in rows:
            found.row(price, qty)

    def _lost(self, local: int) -> None:
        """Nothing to note: a first pass makes no events."""
