"""Instruments: what one must know of a market to read its numbers.

An instruments file is TOML, one `[[instrument]]` table each; the keys are the fields of
`Instrument`. Prices and sizes stand in it as decimal text. A file that cannot be meant as it
stands is refused with its line.

Leans on `market.decimals`, `market.sessions`. Knows nothing of events; `infer` asks the sources.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from featureplane.arguments import as_path, each
from featureplane.errors import InvalidInstrument, SettingError, UnknownSymbol, UnreadableFile
from featureplane.market.decimals import EXPONENT_MAX, BadDecimal, scaled
from featureplane.market.sessions import Session, TimeOfDay, check_sessions, zone
from featureplane.whole_file import WholeFile

if TYPE_CHECKING:
    from featureplane.market.reading import EventsPaths

__all__ = [
    "Instrument",
    "Origin",
    "check_ids",
    "choose_instrument",
    "default_symbol_id",
    "infer",
    "instruments_text",
    "load_instruments",
    "save_instruments",
]

_CHOICES: Final = {"clock": ("received", "synchronised"), "locked": ("crossed", "valid")}
_FILE_BYTES_MAX: Final = 16 << 20
_INSTRUMENTS: Final = "`load_instruments(file)` has some, `events.instruments` are those of a batch"
_HEADER: Final = re.compile(r"\s*\[\[\s*instrument\s*\]\]")
_KEY: Final = re.compile(r"\s*[\"']?(\w+)[\"']?\s*=")


def default_symbol_id(venue: str, symbol: str) -> int:
    """The first four bytes of sha-256("venue:symbol"), little-endian (rule 2.1).

    >>> hex(default_symbol_id("binance-spot", "ETHUSDT"))
    '0x1db4dc82'
    """
    return int.from_bytes(hashlib.sha256(f"{venue}:{symbol}".encode()).digest()[:4], "little")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an instrument was read: its file, the line of its table, and the line of each of its keys."""

    file: str
    line: int
    lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One instrument of one venue.

    Prices of events are in units of 10^-`price_exponent`, sizes in units of 10^-`qty_exponent`:
    the venue's precision, not its tick or lot (rule 1.1). `tick_size`, `lot_size` and
    `vpin_bucket` are decimal text or None; `tick`, `lot` and `vpin_bucket_scaled` the same in
    the units of events. Raises `InvalidInstrument` for a value that cannot be meant.
    """

    venue: str
    symbol: str
    price_exponent: int
    qty_exponent: int
    symbol_id: int = -1  # -1: `default_symbol_id`
    tick_size: str | None = None
    lot_size: str | None = None
    time_zone: str = "UTC"
    sessions: tuple[Session, ...] = ()  # empty: always trading, unless status events say otherwise
    reset_at: str | None = None  # time of day in `time_zone`, "none", or None: the default of rule 3.6
    stale_ms: int = 1000
    clock: str = "received"  # or "synchronised": local and source time are of one clock (rule 3.10)
    locked: str = "crossed"  # or "valid": a book with bid = ask is sound (rule 3.9)
    book_levels: int = 0  # levels a side the feed shows; 0: all (rule 7.3)
    vpin_bucket: str | None = None
    inferred: bool = field(default=False, compare=False)  # found in the data, not declared
    origin: Origin | None = field(default=None, compare=False)  # where it was read, if from a file

    def __post_init__(self) -> None:
        """Complete the id, then check every field."""
        for name in ("venue", "symbol"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or not value.isprintable():
                raise self._wrong(name, value, "text")
        if self.symbol_id == -1:
            object.__setattr__(self, "symbol_id", default_symbol_id(self.venue, self.symbol))
        for name, most in (
            ("symbol_id", (1 << 32) - 1),
            ("price_exponent", EXPONENT_MAX),
            ("qty_exponent", EXPONENT_MAX),
            ("stale_ms", 86_400_000),
            ("book_levels", 65_535),
        ):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= most:
                raise self._wrong(name, value, f"an integer of 0 to {most}")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise self._wrong(name, getattr(self, name), f"one of {', '.join(allowed)}")
        self._check_times()
        for name in ("tick_size", "lot_size", "vpin_bucket"):
            self._scaled(name)

    @property
    def tick(self) -> int | None:
        """`tick_size` in the units of event prices."""
        return self._scaled("tick_size")

    @property
    def lot(self) -> int | None:
        """`lot_size` in the units of event sizes."""
        return self._scaled("lot_size")

    @property
    def vpin_bucket_scaled(self) -> int | None:
        """`vpin_bucket` in the units of event sizes."""
        return self._scaled("vpin_bucket")

    @property
    def daily_reset(self) -> TimeOfDay | None:
        """When kernels are reset each day (rule 3.6), or None: never.

        Without `reset_at` it is 00:00 UTC for an instrument without sessions, and never for one
        that has them: there the entry into trading resets.
        """
        if self.reset_at == "none" or (self.reset_at is None and self.sessions):
            return None
        if self.reset_at is None:
            return TimeOfDay(0, "UTC")
        return TimeOfDay.parse(self.reset_at, self.time_zone)

    def place_of(self, name: str) -> tuple[str | None, int | None]:
        """File and line that declare a field, or the instrument where the field is not written out."""
        if self.origin is None:
            return None, None
        return self.origin.file, self.origin.lines.get(name, self.origin.line)

    def _scaled(self, name: str) -> int | None:
        text = getattr(self, name)
        if text is None:
            return None
        exponent = self.price_exponent if name == "tick_size" else self.qty_exponent
        try:
            value = scaled(text, exponent, size=True) if isinstance(text, str) else 0
        except BadDecimal as error:
            raise self._wrong(name, text, error.expected) from None
        if value == 0:
            raise self._wrong(name, text, "decimal text above 0")
        return value

    def _check_times(self) -> None:
        try:
            zone(self.time_zone)
        except ValueError as error:
            raise self._wrong("time_zone", self.time_zone, str(error)) from None
        if self.reset_at is not None and self.reset_at != "none":
            try:
                TimeOfDay.parse(self.reset_at, self.time_zone)
            except ValueError as error:
                raise self._wrong("reset_at", self.reset_at, f"{error}, or `none`") from None
        try:
            check_sessions(self.sessions)
        except ValueError as error:
            raise self._wrong("sessions", self.sessions, str(error)) from None

    def _wrong(self, name: str, found: object, expected: str) -> InvalidInstrument:
        file, line = self.place_of(name)
        return InvalidInstrument(f"{self.symbol}: {name}", found, expected, file=file, line=line)


def check_ids(instruments: Iterable[Instrument]) -> tuple[Instrument, ...]:
    """The instruments as a tuple; refuses two of one symbol or of one id (rule 2.1).

    Raises `InvalidInstrument` at the second of the two.
    """
    names, ids = dict[tuple[str, str], Instrument](), dict[int, Instrument]()
    for one in each("instruments", instruments, Instrument, "instruments or their file", hint=_INSTRUMENTS):
        if (one.venue, one.symbol) in names:
            file, line = one.place_of("")
            raise InvalidInstrument(
                "symbol", f"{one.venue}:{one.symbol} twice", "one table each", file=file, line=line
            )
        if (other := ids.get(one.symbol_id)) is not None:
            file, line = one.place_of("symbol_id")
            found = f"{one.symbol_id} of {other.symbol} for {one.symbol} too"
            raise InvalidInstrument("symbol_id", found, "an id of its own", file=file, line=line)
        names[one.venue, one.symbol] = ids[one.symbol_id] = one
    return tuple(names.values())


def choose_instrument(
    instruments: Iterable[Instrument], symbol: str | None, venue: str | None = None
) -> Instrument:
    """The instrument called `symbol`; None: the only one, or the only one of `venue`.

    Of several with the symbol the one of `venue` is meant. Raises `UnknownSymbol`, and
    `SettingError` where the choice is not clear.
    """
    given = tuple(instruments)
    fitting = [one for one in given if symbol is None or one.symbol == symbol]
    if not fitting:
        raise UnknownSymbol(symbol, [one.symbol for one in given])
    if len(fitting) > 1:
        fitting = [one for one in fitting if one.venue == venue]
    if len(fitting) != 1:
        names = ", ".join(f"{one.symbol} of {one.venue}" for one in given)
        raise SettingError("which instrument is not clear", hint=f"name a symbol; there are: {names}")
    return fitting[0]


def infer(
    paths: EventsPaths,
    source: str,
    symbol: str | None = None,
    *,
    backend: str = "auto",
    on_malformed: str = "raise",
) -> tuple[Instrument, ...]:
    """The instruments that a first pass over all files of a stream finds (rule 1.1).

    Exponents are the most significant decimals any price or size has, tick and lot the greatest
    common divisors, `vpin_bucket` a fiftieth of the volume traded but at least one lot; all are
    marked `inferred`. `on_malformed="drop"` passes over what no rule accepts. Raises what
    `reading.read_events` raises, and `SettingError` for a source whose data do not tell.
    """
    from featureplane.market.events import StreamOptions  # noqa: PLC0415 - as below
    from featureplane.market.reading import request_for  # noqa: PLC0415 - readers lean on instruments
    from featureplane.market.sources import find_source  # noqa: PLC0415 - as above

    scan = find_source(source).infer
    if scan is None:
        raise SettingError(f"instruments of {source} cannot be inferred", hint="give an instruments file")
    options = StreamOptions(on_malformed=on_malformed)
    return scan(request_for(paths, source, symbol, options=options, backend=backend))


_FIELDS: Final = tuple(f.name for f in fields(Instrument) if f.name not in ("inferred", "origin"))
_REQUIRED: Final = ("venue", "symbol", "price_exponent", "qty_exponent")


def load_instruments(path: str | os.PathLike[str]) -> tuple[Instrument, ...]:
    """The instruments of a TOML file, in its order.

    Raises `UnreadableFile` if it is missing, too large or no TOML, `InvalidInstrument` with file
    and line for a key or value that cannot be meant, also two instruments with one id.
    """
    file = str(as_path("path", path))
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UnreadableFile(file, error.strerror or str(error), "an instruments file") from None
    if len(data) > _FILE_BYTES_MAX:
        raise UnreadableFile(file, f"more than {_FILE_BYTES_MAX} bytes", "an instruments file")
    try:
        text = data.decode("utf-8")
        document = tomllib.loads(text, parse_float=str)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnreadableFile(file, f"no TOML ({error})", "an instruments file") from None
    tables = document.pop("instrument", None)
    if document or not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables) or not tables:
        found = f"the keys {', '.join(document)}" if document else "no [[instrument]] table"
        raise UnreadableFile(file, found, "[[instrument]] tables and nothing else")
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines, 1) if _HEADER.match(line)]
    if len(starts) != len(tables):
        raise UnreadableFile(file, "tables in another form", "one [[instrument]] line for each")
    ends = [*starts[1:], len(lines) + 1]
    return check_ids(
        _read_table(table, file, start, lines[start : end - 1])
        for table, start, end in zip(tables, starts, ends, strict=True)
    )


def _read_table(table: Mapping[str, Any], file: str, start: int, lines: list[str]) -> Instrument:
    at = {match[1]: start + n for n, text in enumerate(lines, 1) if (match := _KEY.match(text))}
    unknown = [key for key in table if key not in _FIELDS]
    if unknown:
        expected = f"one of {', '.join(_FIELDS)}"
        raise InvalidInstrument("key", unknown[0], expected, file=file, line=at.get(unknown[0], start))
    missing = [key for key in _REQUIRED if key not in table]
    if missing:
        raise InvalidInstrument(missing[0], "nothing", "a value", file=file, line=start)
    values = dict(table)
    for key in ("tick_size", "lot_size", "vpin_bucket"):
        if type(values.get(key)) is int:
            values[key] = str(values[key])
    try:
        if "sessions" in values:
            values["sessions"] = Session.read_all(values["sessions"])
    except ValueError as error:
        raise InvalidInstrument(
            "sessions", values["sessions"], str(error), file=file, line=at.get("sessions", start)
        ) from None
    return Instrument(**values, origin=Origin(file, start, at))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def instruments_text(instruments: Iterable[Instrument]) -> str:
    """The instruments as TOML: the same text for the same instruments, every field written out."""
    tables = []
    for one in check_ids(instruments):
        rows = ["[[instrument]]"]
        for name in _FIELDS:
            value = getattr(one, name)
            if value is None or (name == "sessions" and not value):
                continue
            if name == "sessions":
                rows += ["sessions = [", *(f"  {session.toml()}," for session in value), "]"]
            else:
                rows.append(f"{name} = {_quoted(value) if isinstance(value, str) else value}")
        tables.append("\n".join(rows) + "\n")
    return "\n".join(tables)


def save_instruments(path: str | os.PathLike[str], instruments: Iterable[Instrument]) -> None:
    """Write an instruments file; a failure leaves what was there before.

    Raises `SettingError` where it cannot be written.
    """
    text = instruments_text(instruments)
    with WholeFile(as_path("path", path)) as file:
        file.part.write_text(text, encoding="utf-8", newline="\n")
