"""What one message of Binance means, or why it means nothing (rules 1.2, 2.3, 2.5, 3.2).

Twin of `normalize/binance/judge.rs` and its neighbours: a message is judged field by field in the
same order, and complaints are the same words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, NoReturn, TypeVar

from featureplane.market.decimals import BadDecimal
from featureplane.market.events import Side
from featureplane.units import NANOS_PER_MS, TIME_LIMIT_NS

__all__ = [
    "Class",
    "Complaint",
    "Judge",
    "Levels",
    "Meaning",
    "class_of",
    "complain",
    "message_of",
    "parse",
    "printable",
]

V = TypeVar("V")

_NESTING_MAX: Final = 16
_ID_LIMIT: Final = 1 << 64
_SHOWN_CHARACTERS: Final = 40
_LISTS: Final = ("b", "a", "bids", "asks")
_LEVEL: Final = "a level [price, size]"
_NOT_BELOW: Final = "an id not below the first one of the message"
_TIME: Final = "milliseconds since 1970"


class Complaint(Exception):
    """A field, or a line, that cannot be used."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found, expected)
        self.found, self.expected = found, expected


class Class(Enum):
    """What kind of message a line holds."""

    DIFF = "depthUpdate"
    TRADE = "trade"
    AGGREGATE = "aggTrade"
    QUOTE = "bookTicker"
    SNAPSHOT = "snapshot"
    FOREIGN = "foreign"  # of another stream, or an answer of the connection

    @property
    def is_book(self) -> bool:
        """Whether a message lost is a hole in the book."""
        return self in (Class.DIFF, Class.SNAPSHOT)


_TYPES: Final = {kind.value: kind for kind in (Class.DIFF, Class.TRADE, Class.AGGREGATE, Class.QUOTE)}


class _Number:
    """A number that is no id."""


_NUMBER: Final = _Number()


def _number(text: str) -> int | _Number:
    if float(text) in (float("inf"), float("-inf")):
        raise ValueError(text)
    if text.isdigit():
        value = int(text)
        if value < _ID_LIMIT:
            return value
    return _NUMBER


def _no_constant(text: str) -> NoReturn:
    raise ValueError(text)


_LOADS: Final = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_no_constant).decode


def parse(data: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None if it is none, is no UTF-8 or is nested too deeply."""
    try:
        text = data.decode("utf-8")
        value = _LOADS(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or _too_deep(value) or ("\\" in text and _torn_text(value)):
        return None
    return value


def _too_deep(value: dict[str, Any]) -> bool:
    message, depth = message_of(value)
    beside = [item for item in value.values() if item is not message]
    items = (item for key, item in message.items() if key not in _LISTS or not _flat(item))
    return any(_depth(item) + 1 > _NESTING_MAX for item in beside) or any(
        _depth(item) + depth > _NESTING_MAX for item in items
    )


def _flat(item: object) -> bool:
    return isinstance(item, list) and all(
        type(level) is list and all(type(part) is str for part in level) for level in item
    )


def _depth(value: object, limit: int = _NESTING_MAX + 1) -> int:
    if limit == 0 or not isinstance(value, (dict, list)):
        return 0
    items = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(item, limit - 1) for item in items), default=0)


def _torn_text(value: object) -> bool:
    """Whether a text, or a key, has half of a surrogate pair, which is no character."""
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return any(_torn_text(key) or _torn_text(item) for key, item in value.items())
    return isinstance(value, list) and any(_torn_text(item) for item in value)


def message_of(value: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The message of a line and how deep it stands: 2 in an envelope, else 1."""
    if "data" not in value:
        return value, 1
    data = value["data"]
    return (data if isinstance(data, dict) else {}), 2


def class_of(message: dict[str, Any], *, enveloped: bool) -> Class:
    """What kind of message this is."""
    if "e" in message:
        kind = message["e"]
        return _TYPES.get(kind, Class.FOREIGN) if isinstance(kind, str) else Class.FOREIGN
    if "lastUpdateId" in message:
        # WHY: in an envelope it is a partial book of a few levels, which restarts nothing.
        return Class.FOREIGN if enveloped else Class.SNAPSHOT
    return Class.QUOTE if {"u", "B", "A"} <= message.keys() else Class.FOREIGN


_ABSENT: Final = object()


_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Text as it can be shown on a terminal, whatever it is."""
    return _CONTROLS.sub("\ufffd", text)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{printable(value[:_SHOWN_CHARACTERS])}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if value is None or value is _ABSENT:
        return "null" if value is None else "nothing"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    return "another number"


def complain(key: str, message: dict[str, Any], expected: str) -> NoReturn:
    """Raise the complaint about a field."""
    raise Complaint(f"`{key}`: {_shown(message.get(key, _ABSENT))}", expected)


class Levels(NamedTuple, Generic[V]):
    """The levels of both sides, as read."""

    bids: list[tuple[V, V]]
    asks: list[tuple[V, V]]


class Meaning(NamedTuple, Generic[V]):
    """A message that can become events; `time` 0 where the venue sends none."""

    kind: Class
    last: int
    previous: int
    time: int
    levels: Levels[V] | None = None  # of a diff or a snapshot
    quote: tuple[tuple[V, V], tuple[V, V]] | None = None  # bid, ask
    trade: tuple[V, V, Side, bool] | None = None  # price, size, aggressor, market trade


class Judge(Generic[V]):
    """Judges messages of one market; `price` and `size` read decimal text or raise `BadDecimal`."""

    def __init__(self, price: Callable[[str], V], size: Callable[[str], V], *, futures: bool) -> None:
        self._price, self._size, self._futures = price, size, futures

    def meaning(self, kind: Class, message: dict[str, Any]) -> Meaning[V]:
        """What a message means; raises `Complaint`."""
        if kind is Class.DIFF:
            return self._diff(message)
        if kind is Class.TRADE:
            return self._trade(kind, message, "t", "t")
        if kind is Class.AGGREGATE:
            return self._trade(kind, message, "f", "l")
        if kind is Class.QUOTE:
            last = _id(message, "u")
            bid = self._decimal(message, "b", self._price), self._decimal(message, "B", self._size)
            ask = self._decimal(message, "a", self._price), self._decimal(message, "A", self._size)
            return Meaning(kind, last, 0, _time(message) or 0, quote=(bid, ask))
        last = _id(message, "lastUpdateId")
        time = _time(message) or 0
        return Meaning(kind, last, 0, time, levels=self._sides(message, "bids", "asks"))

    def _diff(self, message: dict[str, Any]) -> Meaning[V]:
        first, last = _id(message, "U"), _id(message, "u")
        previous = message.get("pu", _ABSENT)
        if self._futures:
            if type(previous) is not int:
                complain("pu", message, "an id")
        elif previous is _ABSENT:
            previous = first - 1
        else:
            complain("pu", message, "a diff of the spot market, without it")
        if last < first or last < previous:
            complain("u", message, _NOT_BELOW)
        time = _event_time(message)
        return Meaning(Class.DIFF, last, previous, time, levels=self._sides(message, "b", "a"))

    def _trade(self, kind: Class, message: dict[str, Any], first_key: str, last_key: str) -> Meaning[V]:
        first, last = _id(message, first_key), _id(message, last_key)
        if last < first:
            complain(last_key, message, _NOT_BELOW)
        price = self._decimal(message, "p", self._price)
        qty = self._decimal(message, "q", self._size)
        maker, market = message.get("m", _ABSENT), message.get("X", "MARKET")
        if not isinstance(maker, bool):
            complain("m", message, "true or false")
        if not isinstance(market, str):
            complain("X", message, "text")
        side = Side.ASK if maker else Side.BID
        time = _event_time(message)
        return Meaning(kind, last, first - 1, time, trade=(price, qty, side, market == "MARKET"))

    def _decimal(self, message: dict[str, Any], key: str, read: Callable[[str], V]) -> V:
        text = message.get(key, _ABSENT)
        if not isinstance(text, str):
            complain(key, message, "decimal text")
        try:
            return read(text)
        except BadDecimal as fault:
            complain(key, message, fault.expected)

    def _sides(self, message: dict[str, Any], bids: str, asks: str) -> Levels[V]:
        return Levels(list(self._levels(message, bids)), list(self._levels(message, asks)))

    def _levels(self, message: dict[str, Any], key: str) -> Iterator[tuple[V, V]]:
        levels = message.get(key, _ABSENT)
        if not isinstance(levels, list):
            complain(key, message, "a list of levels")
        for number, level in enumerate(levels, 1):
            try:
                yield self._level(level)
            except Complaint as error:
                raise Complaint(f"`{key}` level {number}: {error.found}", error.expected) from None

    def _level(self, level: object) -> tuple[V, V]:
        if not isinstance(level, list):
            raise Complaint(_kind_of(level), _LEVEL)
        if len(level) != 2:
            raise Complaint("another list", _LEVEL)
        return self._part(level[0], self._price), self._part(level[1], self._size)

    def _part(self, text: object, read: Callable[[str], V]) -> V:
        if not isinstance(text, str):
            raise Complaint(_kind_of(text), "decimal text `-?digits[.digits]`")
        try:
            return read(text)
        except BadDecimal as fault:
            raise Complaint(_shown(text), fault.expected) from None


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _id(message: dict[str, Any], key: str) -> int:
    value = message.get(key)
    if type(value) is not int or value == 0:
        complain(key, message, "an id of at least 1")
    return value


def _time(message: dict[str, Any]) -> int | None:
    """Transaction time where there is one, else event time, in nanoseconds (rule 2.3)."""
    key = "T" if "T" in message else "E"
    if key not in message:
        return None
    value = message[key]
    if type(value) is not int or value * NANOS_PER_MS >= TIME_LIMIT_NS:
        complain(key, message, _TIME)
    return value * NANOS_PER_MS


def _event_time(message: dict[str, Any]) -> int:
    time = _time(message)
    if time is None:
        complain("E", message, _TIME)
    return time
