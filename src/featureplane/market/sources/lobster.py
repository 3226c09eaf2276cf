"""LOBSTER: a message file and, beside it, the order book after each of its rows.

Files are `.zip` packages, `.csv` or `.csv.gz`, as LOBSTER names them:
`SYMBOL_YYYY-MM-DD_START_END_message_LEVELS.csv` and the same with `orderbook`. A message file finds
its order-book file beside it; without one the messages are read alone (`seed="increments"`).
Prices are dollars x 10,000, times are New York's.

Instruments that are found have the venue `nasdaq`, the exponents 4 and 0 that the format fixes, and
`book_levels` as the name says.

Leans on `sources.lobster_plain` or its native twin.
"""

from __future__ import annotations

import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from featureplane import native
from featureplane.errors import (
    BookMismatch,
    FileOrder,
    InstrumentMismatch,
    MalformedEvent,
    SettingError,
    UnknownSymbol,
    UnreadableFile,
)
from featureplane.market.events import EVENT_DTYPE, EventBatch, SourceInfo
from featureplane.market.instruments import Instrument, choose_instrument
from featureplane.market.sources import Request, Source
from featureplane.market.sources.batches import Counts, Grid, batches
from featureplane.market.sources.files import check_file_order, source_file
from featureplane.market.sources.lobster_plain import LobsterConfig, PlainReader, first_time
from featureplane.units import NANOS_PER_SECOND

__all__ = ["SOURCES", "Pair", "find_pairs", "midnight_ns", "read_pair"]

Array = npt.NDArray[Any]

VENUE: Final = "nasdaq"
PRICE_EXPONENT: Final = 4
QTY_EXPONENT: Final = 0
TIME_ZONE: Final = "America/New_York"

_CHUNK_BYTES: Final = 1 << 16
_DAY_MIN: Final = date(1970, 1, 1)
_DAY_MAX: Final = date(2115, 12, 31)  # times of events end soon after
_NAME: Final = re.compile(
    r"(?:.*_)?(?P<symbol>[A-Za-z0-9.\-]+)_(?P<date>\d{4}-\d{2}-\d{2})_(?:.*_)?"
    r"(?P<kind>message|orderbook)_(?P<levels>\d{1,4})\.csv(?:\.gz)?"
)
_PATTERN: Final = "SYMBOL_YYYY-MM-DD_START_END_message_LEVELS.csv"


@dataclass(frozen=True, slots=True)
class Member:
    """One text: a file, or a member of a zip package."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def match(self) -> re.Match[str] | None:
        """The parts of its name, if it is named as LOBSTER does."""
        return _NAME.fullmatch(Path(self.member or self.path).name)

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the text, unpacked; raises `UnreadableFile`."""
        with ExitStack() as stack:
            try:
                stream = self._open(stack)
                while chunk := stream.read(_CHUNK_BYTES):
                    yield chunk
            except EOFError:
                found = f"its end at byte {self.path.stat().st_size} inside packed data"
                raise UnreadableFile(self.name, found, "a whole archive") from None
            except (zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
                raise UnreadableFile(self.name, f"damaged data ({error})", "a whole archive") from None
            except (OSError, NotImplementedError, RuntimeError) as error:
                found = getattr(error, "strerror", None) or str(error)
                raise UnreadableFile(self.name, found, "a LOBSTER file") from None

    def _open(self, stack: ExitStack) -> IO[bytes] | gzip.GzipFile:
        if self.member is not None:
            return stack.enter_context(zipfile.ZipFile(self.path)).open(self.member)
        stream = stack.enter_context(self.path.open("rb"))
        if stream.read(2) == b"\x1f\x8b":
            stream.seek(0)
            return gzip.GzipFile(fileobj=stream)
        stream.seek(0)
        return stream


@dataclass(frozen=True, slots=True)
class Pair:
    """A message file with its order-book file, or alone; symbol, day and levels as in its name."""

    messages: Member
    book: Member | None
    symbol: str
    day: date
    levels: int


def find_pairs(paths: tuple[Path, ...]) -> list[Pair]:
    """The pairs among `paths`, in the order given; those of one package by name.

    Raises `UnreadableFile` for a file that is no part of a pair.
    """
    members = [member for path in paths for member in _members(path)]
    books = [member for member in members if _parts(member)["kind"] == "orderbook"]
    pairs = []
    for member in members:
        if _parts(member)["kind"] == "message":
            book = next((other for other in books if _belong(member, other)), None) or _beside(member)
            if book in books:
                books.remove(book)
            pairs.append(_pair(member, book))
    if books:
        raise UnreadableFile(books[0].name, "no message file that goes with it", "both files of a pair")
    return pairs


def _members(path: Path) -> list[Member]:
    if path.suffix.lower() != ".zip":
        if path.suffix.lower() in (".7z", ".rar"):
            hint = "unpack it; .zip, .csv and .csv.gz are read as they are"
            raise UnreadableFile(str(path), f"a {path.suffix} archive", "a LOBSTER file", hint=hint)
        return [Member(path)]
    try:
        with zipfile.ZipFile(path) as package:
            names = sorted(name for name in package.namelist() if _NAME.fullmatch(Path(name).name))
    except zipfile.BadZipFile:
        raise UnreadableFile(str(path), "no zip archive", "a LOBSTER package") from None
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error), "a LOBSTER package") from None
    if not names:
        raise UnreadableFile(str(path), "no message or order-book file in it", f"`{_PATTERN}`")
    return [Member(path, name) for name in names]


def _parts(member: Member) -> re.Match[str]:
    match = member.match
    if match is None:
        hint = "LOBSTER's names tell symbol and day; keep them"
        raise UnreadableFile(member.name, "another name", f"`{_PATTERN}`", hint=hint)
    return match


def _stem(member: Member) -> str:
    return Path(member.member or member.path).name.removesuffix(".gz").replace("_orderbook_", "_message_")


def _belong(messages: Member, book: Member) -> bool:
    return _stem(messages) == _stem(book) and (messages.member is None or messages.path == book.path)


def _beside(messages: Member) -> Member | None:
    """The order-book file that stands beside a message file, packed or not."""
    if messages.member is not None:
        return None
    name = messages.path.name.replace("_message_", "_orderbook_").removesuffix(".gz")
    found = (messages.path.with_name(name), messages.path.with_name(name + ".gz"))
    return next((Member(path) for path in found if path.exists()), None)


def _pair(messages: Member, book: Member | None) -> Pair:
    parts = _parts(messages)
    try:
        day = date.fromisoformat(parts["date"])
    except ValueError:
        day = date.min
    if not _DAY_MIN <= day <= _DAY_MAX:
        raise UnreadableFile(messages.name, f"the date {parts['date']}", "a day of 1970 to 2115")
    return Pair(messages, book, parts["symbol"], day, int(parts["levels"]))


def midnight_ns(day: date) -> int:
    """Midnight of a day in New York, UTC nanoseconds.

    >>> midnight_ns(date(2012, 6, 21)) // 10**9
    1340251200
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(TIME_ZONE))
    return (
        int((midnight.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * NANOS_PER_SECOND
    )


def read_pair(
    pair: Pair,
    symbol_id: int,
    *,
    on_mismatch: str = "raise",
    on_malformed: str = "raise",
    backend: str = "auto",
    counts: Counts | None = None,
) -> Iterator[Array]:
    """The events of a pair in blocks of whole messages; `counts` gets what was left out.

    Raises `BookMismatch`, `MalformedEvent` with file and line, `UnreadableFile`; behind the events
    of all rows before.
    """
    config = LobsterConfig(
        symbol_id,
        midnight_ns(pair.day),
        book=pair.book is not None,
        adopt=on_mismatch == "adopt",
        drop_malformed=on_malformed == "drop",
    )
    rust = native.resolve(backend) == "rust"
    reader = native.module().LobsterReader(*config) if rust else PlainReader(config)
    (counts or Counts()).follow(reader.counts)
    messages = pair.messages.chunks()
    books = pair.book.chunks() if pair.book else iter(())
    for events, error in _fed(reader, messages, books, alone=pair.book is None):
        _check_depth(pair, reader.depth())
        yield events.view(EVENT_DTYPE)
        if error is not None:
            raise _placed(error, pair)


def _fed(
    reader: Any, messages: Iterator[bytes], books: Iterator[bytes], *, alone: bool
) -> Iterator[tuple[Array, MalformedEvent | None]]:
    """Feeds both files in step: the one with fewer rows waiting is read on, so that few wait."""
    ended, book_ended = False, alone
    while not (ended and book_ended):
        waiting, book_waiting = reader.waiting()
        if (ended and book_waiting > 1) or (book_ended and not alone and waiting > 1):
            break  # the shorter file is over: reading on would only fill the memory
        wanted = not ended and (book_ended or waiting <= book_waiting)
        book_wanted = not book_ended and (ended or book_waiting <= waiting)
        chunk = next(messages, b"") if wanted else b""
        book_chunk = next(books, b"") if book_wanted else b""
        ended = ended or (wanted and not chunk)
        book_ended = book_ended or (book_wanted and not book_chunk)
        yield reader.feed(chunk, book_chunk)
    yield reader.finish()


def _check_depth(pair: Pair, depth: int) -> None:
    if pair.book is not None and depth not in (0, pair.levels):
        raise UnreadableFile(pair.book.name, f"{depth} levels a side", f"{pair.levels}, as its name says")


def _placed(error: MalformedEvent, pair: Pair) -> MalformedEvent:
    file = pair.messages.name
    if isinstance(error, BookMismatch):
        return BookMismatch(
            error.side, error.price, error.expected_size, error.got_size, file=file, line=error.line
        )
    return MalformedEvent(error.found, error.expected, file=file, line=error.line)


# -- the source


def infer(request: Request) -> tuple[Instrument, ...]:
    """The instrument as a pass over all rows shows it; its exponents are the format's."""
    pairs = _pairs(request)
    draft = Instrument(
        venue=VENUE,
        symbol=pairs[0].symbol,
        price_exponent=PRICE_EXPONENT,
        qty_exponent=QTY_EXPONENT,
        time_zone=TIME_ZONE,
        book_levels=min(pair.levels for pair in pairs),
    )
    grid = Grid()
    for events in _events(pairs, draft, request, Counts()):
        grid.feed(events)
    return (grid.instrument(draft),)


def read(request: Request) -> Iterator[EventBatch]:
    """The events of the pairs; see `reading.read_events`."""
    pairs = _pairs(request)
    instrument = choose_instrument(request.instruments or infer(request), pairs[0].symbol, VENUE)
    _check_instrument(instrument, pairs)
    counts = Counts()
    paths = [member.path for pair in pairs for member in (pair.messages, pair.book) if member]
    template = EventBatch(
        np.zeros(0, EVENT_DTYPE),
        (instrument,),
        SOURCES["lobster"].info,
        request.options,
        tuple(source_file(path) for path in dict.fromkeys(paths)),
        checked=True,
    )
    return batches(_events(pairs, instrument, request, counts), template, request.events_max, counts)


def _pairs(request: Request) -> list[Pair]:
    pairs = find_pairs(tuple(path for path in request.inputs if isinstance(path, Path)))
    symbols = sorted({pair.symbol for pair in pairs})
    if request.symbol is not None and request.symbol not in symbols:
        raise UnknownSymbol(request.symbol, symbols)
    if request.symbol is None and len(symbols) > 1:
        raise SettingError("which symbol is not clear", hint=f"there are: {', '.join(symbols)}")
    pairs = [pair for pair in pairs if request.symbol in (None, pair.symbol)]
    check_file_order([Path(pair.messages.name) for pair in pairs], [_start(pair) for pair in pairs])
    return pairs


def _start(pair: Pair) -> int | None:
    """Time of the first row, where it can be read."""
    since = first_time(next(pair.messages.chunks(), b""))
    return None if since is None else midnight_ns(pair.day) + since


def _check_instrument(instrument: Instrument, pairs: list[Pair]) -> None:
    levels = min(pair.levels for pair in pairs)
    for name, declared, found in (
        ("price_exponent", instrument.price_exponent, PRICE_EXPONENT),
        ("qty_exponent", instrument.qty_exponent, QTY_EXPONENT),
        ("book_levels", instrument.book_levels or levels, levels),
    ):
        if declared != found:
            file, line = instrument.place_of(name)
            raise InstrumentMismatch(name, declared, found, file=file, line=line)


def _events(pairs: list[Pair], instrument: Instrument, request: Request, counts: Counts) -> Iterator[Array]:
    options = request.options
    ended: int | None = None
    for pair in pairs:
        start = _start(pair)
        if ended is not None and start is not None and start < ended:
            names = [one.messages.name for one in pairs]
            raise FileOrder(names, names)
        for events in read_pair(
            pair,
            instrument.symbol_id,
            on_mismatch=options.on_mismatch,
            on_malformed=options.on_malformed,
            backend=request.backend,
            counts=counts,
        ):
            if len(events):
                ended = int(events["source_ts_ns"][-1])
            yield events


SOURCES: Final = {
    "lobster": Source(
        SourceInfo("lobster", sequenced=False, has_snapshots=False, local_time=False, trade_sides=True),
        read,
        infer,
    )
}
