"""Datasets: which files hold which symbol and day.

    paths, or a TOML catalogue -> Dataset -> the files of a symbol's day, in order

What a file holds is found by reading it once and remembered by its content. A catalogue may say which days
a file is of; then no other file is opened to find one.

Leans on `market`. Knows nothing of feature sets or stores.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol

from featureplane.arguments import as_paths
from featureplane.errors import FileOrder, MissingDay, SettingError, UnknownSymbol
from featureplane.market.days import Calendar, Day
from featureplane.market.events import EventBatch, SourceInfo, StreamOptions
from featureplane.market.instruments import Instrument, check_ids, choose_instrument, load_instruments
from featureplane.market.reading import InstrumentsLike, iter_events
from featureplane.market.sources import find_source
from featureplane.market.sources.capture import CaptureFile
from featureplane.research.catalogue import DataFile, Listed, read_catalogue
from featureplane.research.contents import ContentMemory, Identity, hash_file
from featureplane.research.filefacts import FileFacts, days_near, find_facts, parts_of, symbol_of
from featureplane.research.store.keys import reading_key

__all__ = ["DataFile", "Dataset", "DayFiles", "FileMemory", "OwnMemory"]

_VENUES: Final = {"lobster": "nasdaq"}  # whose instruments a source means, where several have a symbol


class FileMemory(ContentMemory, Protocol):
    """What was found out about files, kept by whoever can."""

    def facts(self, key: str) -> str | None:
        """What somebody found in a file, as JSON."""

    def remember_facts(self, key: str, facts: str) -> None:
        """Keep what was found in a file."""


class OwnMemory:
    """That of one process; see `FileMemory`."""

    def __init__(self) -> None:
        self._contents: dict[Identity, bytes] = {}
        self._facts: dict[str, str] = {}

    def content(self, identity: Identity) -> bytes | None:
        """The content hash of a file."""
        return self._contents.get(identity)

    def remember_content(self, identity: Identity, digest: bytes) -> None:
        """Keep it."""
        self._contents[identity] = digest

    def facts(self, key: str) -> str | None:
        """What somebody found in a file, as JSON."""
        return self._facts.get(key)

    def remember_facts(self, key: str, facts: str) -> None:
        """Keep it."""
        self._facts[key] = facts


@dataclass(frozen=True, slots=True)
class DayFiles:
    """The files of one symbol's day: those that hold it, and those before them as far as a book needs them.

    `own` may hold other days too. `rolled` are the files whose book the first of them continues, from the
    last one in which a book begins anew; empty where the first does so itself.
    """

    own: tuple[DataFile, ...]
    rolled: tuple[DataFile, ...]
    has_snapshot: bool  # somewhere in all of them


class Dataset:
    """Recorded files of one source, and what one must know to compute with them.

    `paths` are files in the order of time, or one catalogue (`.toml`; `docs/concepts/store.md`), which may
    say the rest too. `instruments` is required (rule 1.1), but for captures, which carry theirs.
    `holidays` are dates on which instruments with sessions do not trade. The other options are those of
    `read_events` and hold for every file.

    Raises
    ------
    SettingError
        No source, no instruments or no files.
    UnreadableFile, InvalidInstrument
        A catalogue or an instruments file that cannot be meant.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        source: str | None = None,
        instruments: InstrumentsLike | None = None,
        *,
        on_gap: str | None = None,
        on_malformed: str | None = None,
        on_mismatch: str | None = None,
        seed: str | None = None,
        seed_after: int | None = None,
        holidays: Iterable[date] | None = None,
        backend: str = "auto",
    ) -> None:
        listed = _listed(paths)
        given = {
            "on_gap": on_gap,
            "on_malformed": on_malformed,
            "on_mismatch": on_mismatch,
            "seed": seed,
            "seed_after": seed_after,
        }
        told: dict[str, Any] = dict(listed.options) | {
            name: value for name, value in given.items() if value is not None
        }
        self.options = StreamOptions(**told)
        named = source or listed.source
        if named is None:
            raise SettingError("files without a source", hint='say what they are, like source="binance-spot"')
        find_source(named)
        self.source = named
        self.backend = backend
        self.holidays = frozenset(listed.holidays if holidays is None else holidays)
        self.files = tuple(DataFile(one.path, one.symbol, one.days) for one in listed.files)
        if not self.files:
            raise SettingError("a dataset without files", hint="name at least one")
        self.instruments = self._declared(instruments if instruments is not None else listed.instruments)
        self._calendars: dict[str, Calendar] = {}
        self._of_symbol: dict[str, tuple[DataFile, ...]] = {}
        self.memory: FileMemory = OwnMemory()

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol there is a file of, in the order of the files."""
        return tuple(dict.fromkeys(symbol for file in self.files for symbol in self._symbols(file)))

    def instrument(self, symbol: str) -> Instrument:
        """The instrument of a symbol; raises `UnknownSymbol` for one that is not here."""
        return choose_instrument(self.instruments, symbol, _VENUES.get(self.source, self.source))

    def calendar(self, symbol: str) -> Calendar:
        """The days of a symbol; raises `UnknownSymbol`, and `SettingError` where days are no days."""
        known = self._calendars.get(symbol)
        if known is None:
            known = self._calendars[symbol] = Calendar(self.instrument(symbol), self.holidays)
        return known

    def day_files(self, symbol: str, day: Day, memory: FileMemory | None = None) -> DayFiles:
        """The files that a day of a symbol is computed from.

        Raises `MissingDay` for a day that no file holds, `UnknownSymbol`, `FileOrder` for files that do not
        continue each other, and what reading a file raises that is looked at for the first time.
        """
        kept = memory or self.memory
        files = self._files(symbol)
        near = [number for number in range(len(files)) if _may_hold(files, number, day.date)]
        facts = {number: self.facts(files[number], symbol, kept) for number in near}
        self._check_order(files, facts)
        own = [number for number in near if facts[number].overlaps(day.start_ns, day.end_ns)]
        if not own:
            raise MissingDay(symbol, str(day), self.source)
        first = own[0]
        while first > 0 and not self._begins_anew(files, first, symbol, kept):
            first -= 1
        read = range(first, own[-1] + 1)
        has_snapshot = any(self.facts(files[number], symbol, kept).has_snapshot for number in read)
        own_files = tuple(files[number] for number in own)
        return DayFiles(own_files, files[first : own[0]], has_snapshot)

    def _begins_anew(self, files: tuple[DataFile, ...], number: int, symbol: str, memory: FileMemory) -> bool:
        """Whether nothing before a file is needed for its book, or nothing before it is of use."""
        facts = self.facts(files[number], symbol, memory)
        if facts.begins_whole or not facts.has_snapshot:
            return facts.begins_whole
        return not facts.continues(self.facts(files[number - 1], symbol, memory))

    def facts(self, file: DataFile, symbol: str, memory: FileMemory | None = None) -> FileFacts:
        """What a file holds of a symbol, found by reading it unless that is remembered."""
        kept = memory or self.memory
        content, instrument = self.content(file, kept), self.instrument(symbol)
        key = reading_key(content, instrument, self.source, self.options)
        told = kept.facts(key)
        if told is None:
            told = find_facts(self.events(file, symbol)).to_json()
            kept.remember_facts(key, told)
        found = FileFacts.from_json(told)
        if file.days is not None and found.events:
            span = self.calendar(symbol).between(found.first_ns, found.last_ns + 1)
            if not {day.date for day in span} <= days_near(file.days):
                raise SettingError(
                    f"{file.path}: holds {found.told()}, which is not of {', '.join(map(str, file.days))}",
                    hint="correct the `days` of the catalogue, or leave them out",
                )
        return found

    def content(self, file: DataFile, memory: FileMemory | None = None) -> bytes:
        """The content hash of a file and of what is read with it; raises `UnreadableFile`."""
        kept = memory or self.memory
        return b"".join(hash_file(path, kept)[0] for path in parts_of(file.path, self.source))

    def beside(self, symbol: str, files: tuple[DataFile, ...]) -> tuple[DataFile, ...]:
        """The file before the first of these and the one behind the last, where there are."""
        known = self._files(symbol)
        first, last = known.index(files[0]), known.index(files[-1])
        return (*known[max(first - 1, 0) : first], *known[last + 1 : last + 2])

    def near(self, symbol: str, dates: frozenset[date] | None) -> tuple[DataFile, ...]:
        """Files of a symbol that may hold something of these days, as far as the catalogue says; or all."""
        files = self._files(symbol)
        if dates is None:
            return files
        says = [file.days is None or not dates.isdisjoint(file.days) for file in files]
        return tuple(file for number, file in enumerate(files) if any(says[max(number - 1, 0) : number + 2]))

    def source_info(self, file: DataFile) -> SourceInfo:
        """What the source of a file has and lacks."""
        if self.source == "capture":
            return CaptureFile(file.path).header.source
        return find_source(self.source).info

    def parts(self, file: DataFile) -> tuple[Path, ...]:
        """The files that are read where this one is named."""
        return parts_of(file.path, self.source)

    def events(self, file: DataFile, symbol: str) -> Iterator[EventBatch]:
        """The events of one symbol in one file, in batches."""
        options = self.options
        return iter_events(
            file.path,
            self.source,
            symbol,
            self.instruments or None,
            on_gap=options.on_gap,
            on_malformed=options.on_malformed,
            seed=options.seed,
            seed_after=options.seed_after,
            on_mismatch=options.on_mismatch,
            backend=self.backend,
            events_max=1 << 16,
        )

    def _declared(self, given: InstrumentsLike | None) -> tuple[Instrument, ...]:
        if given is None and self.source == "capture":
            found: dict[str, Instrument] = {}
            for file in self.files:
                found |= {one.symbol: one for one in CaptureFile(file.path).header.instruments}
            return tuple(found.values())
        if given is None:
            raise SettingError(
                "a dataset without instruments",
                hint="`featureplane instruments infer` writes a file of them; give it as `instruments`",
            )
        if isinstance(given, (str, os.PathLike)):
            return load_instruments(given)
        return check_ids((given,) if isinstance(given, Instrument) else given)

    def _symbols(self, file: DataFile) -> tuple[str, ...]:
        symbol = file.symbol or symbol_of(file.path, self.source, self.instruments)
        if symbol is not None:
            return (symbol,)
        return tuple(one.symbol for one in CaptureFile(file.path).header.instruments)

    def _files(self, symbol: str) -> tuple[DataFile, ...]:
        known = self._of_symbol.get(symbol)
        if known is None:
            known = tuple(file for file in self.files if symbol in self._symbols(file))
            if not known:
                raise UnknownSymbol(symbol, self.symbols)
            self._of_symbol[symbol] = known
        return known

    def _check_order(self, files: tuple[DataFile, ...], facts: dict[int, FileFacts]) -> None:
        held = [(number, one) for number, one in facts.items() if one.events]
        for (before, one), (after, two) in pairwise(held):
            if two.first_local_ns < one.last_local_ns:
                names = [str(files[before].path), str(files[after].path)]
                right = names if two.last_local_ns > one.first_local_ns else names[::-1]
                raise FileOrder(names, right)

    def __getstate__(self) -> dict[str, Any]:
        """For another process: what is declared, not what was found out."""
        return self.__dict__ | {"_calendars": {}, "_of_symbol": {}, "memory": OwnMemory()}

    def __repr__(self) -> str:
        return f"<Dataset of {len(self.files)} files of {self.source}>"


def _may_hold(files: tuple[DataFile, ...], number: int, on: date) -> bool:
    """Whether a file may hold something of a day, as far as the catalogue says.

    WHY neighbours: what was received at midnight may stand in the file of the day before or after.
    """
    around = files[max(number - 1, 0) : number + 2]
    return any(file.days is None or on in file.days for file in around)


def _listed(paths: Any) -> Listed:
    if isinstance(paths, (str, os.PathLike)):
        path = Path(paths)
        if path.suffix == ".toml":
            return read_catalogue(path)
        return Listed(files=(DataFile(path),))
    return Listed(files=tuple(DataFile(Path(path)) for path in as_paths("paths", paths)))
