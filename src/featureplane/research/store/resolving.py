"""From a symbol's day to its key: which files, which bytes, which book it starts from.

A key that was found once stands as long as its files are the same ones: then all it takes is to look at
them. Books between two files are rolled when a key needs their hash, and kept.

Leans on `datasets`, `books`, `dayrun` and `keys`. Knows nothing of what is stored under a key.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from featureplane.errors import MissingSnapshot, SettingError, StoreError, UnreadableFile
from featureplane.features.spec import FeatureSet
from featureplane.market.days import Day
from featureplane.market.events import EventBatch
from featureplane.research.catalogue import DataFile
from featureplane.research.contents import Identity, identity_of
from featureplane.research.datasets import Dataset, DayFiles, FileMemory, OwnMemory
from featureplane.research.store.books import BookCheckpoint, reads_of
from featureplane.research.store.dayrun import roll_book
from featureplane.research.store.keys import DayKey, chain_key, day_key
from featureplane.research.store.manifest import Manifest
from featureplane.research.store.shelf import BOOKS

__all__ = ["Resolved", "Resolver"]

_KEPT_MAX: Final = 1 << 16
_HELD_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Resolved:
    """A day's key, and what it is computed from."""

    key: DayKey
    symbol: str
    day: Day
    feature_set: FeatureSet
    files: DayFiles
    stamps: tuple[tuple[str, Identity], ...]

    def stands(self) -> bool:
        """Whether its files are still the ones it was made from."""
        try:
            for path, identity in self.stamps:
                if identity_of(os.stat(path)) != identity:  # noqa: PTH116 - the hot path of a hit
                    return False
        except OSError:
            return False
        return True


class _Shared(OwnMemory):
    """What was found out about raw files, here and, where it may be written, in the manifest."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        self._manifest = manifest

    def content(self, identity: Identity) -> bytes | None:
        known = super().content(identity)
        return known if known is not None else self._manifest.content(identity)

    def remember_content(self, identity: Identity, digest: bytes) -> None:
        super().remember_content(identity, digest)
        with suppress(sqlite3.Error):
            self._manifest.remember_content(identity, digest)

    def facts(self, key: str) -> str | None:
        known = super().facts(key)
        return known if known is not None else self._manifest.facts(key)

    def remember_facts(self, key: str, facts: str) -> None:
        super().remember_facts(key, facts)
        with suppress(sqlite3.Error):
            self._manifest.remember_facts(key, facts)


class Resolver:
    """Keys of one dataset; with a manifest what it finds out is there for other processes too."""

    def __init__(self, data: Dataset, root: Path, manifest: Manifest | None) -> None:
        self._data = data
        self._books = root / BOOKS
        self._manifest = manifest
        self._memory: FileMemory = OwnMemory() if manifest is None else _Shared(manifest)
        self._known: dict[tuple[str, int, FeatureSet], Resolved] = {}
        self._held: dict[str, BookCheckpoint] = {}
        self._hashes: dict[str, bytes] = {}

    def resolve(self, symbol: str, day: Day, fset: FeatureSet) -> Resolved:
        """The key of a day.

        Raises `MissingDay`, `MissingSnapshot` where no book can begin, and what reading files raises.
        """
        place = symbol, day.start_ns, fset
        known = self._known.get(place)
        if known is not None and known.stands():
            return known
        found = self._resolved(symbol, day, fset)
        if len(self._known) >= _KEPT_MAX:
            self._known.clear()
        self._known[place] = found
        return found

    def look(self, file: DataFile, symbol: str) -> None:
        """Find out what a file holds of a symbol, and remember it."""
        self._data.facts(file, symbol, self._memory)

    def known(self, symbol: str, day: Day, fset: FeatureSet) -> Resolved | None:
        """What was found last time, whether or not it stands."""
        return self._known.get((symbol, day.start_ns, fset))

    def events(self, resolved: Resolved) -> Iterator[EventBatch]:
        """The events of the files of a day."""
        of = self._data.events
        return chain.from_iterable(of(file, resolved.symbol) for file in resolved.files.own)

    def start(self, resolved: Resolved) -> BookCheckpoint | None:
        """The book that a day starts from; None where it begins anew."""
        rolled = resolved.files.rolled
        return self._rolled(resolved.symbol, rolled, resolved.feature_set) if rolled else None

    def _resolved(self, symbol: str, day: Day, fset: FeatureSet) -> Resolved:
        data = self._data
        files = data.day_files(symbol, day, self._memory)
        waits = data.options.seed == "snapshot" and not files.has_snapshot
        if waits and "book" in reads_of(fset, data.source_info(files.own[0])):
            raise MissingSnapshot(symbol, data.source)
        stamps = self._stamps(symbol, files)
        raw = [data.content(file, self._memory) for file in files.own]
        book = self._book_hash(symbol, files.rolled, fset) if files.rolled else None
        key = day_key(
            raw=raw,
            book=book,
            fset=fset,
            instrument=data.instrument(symbol),
            day=day,
            source=data.source,
            options=data.options,
        )
        return Resolved(key, symbol, day, fset, files, stamps)

    def _stamps(self, symbol: str, files: DayFiles) -> tuple[tuple[str, Identity], ...]:
        """The files that decide, and those beside them: what they hold says that nothing else does."""
        read = (*files.rolled, *files.own)
        watched = (*read, *self._data.beside(symbol, read))
        paths = [path for file in watched for path in self._data.parts(file)]
        try:
            return tuple((str(path), identity_of(path.stat())) for path in paths)
        except OSError as error:
            found = error.strerror or str(error)
            raise UnreadableFile(str(error.filename), found, "a file that can be read") from None

    # -- books

    def _chains(self, symbol: str, files: tuple[DataFile, ...], reads: str) -> list[str]:
        """The key of the book behind each of these files."""
        data, chains = self._data, list[str]()
        for file in files:
            made = chain_key(
                raw=data.content(file, self._memory),
                before=chains[-1].encode() if chains else None,
                reads=reads,
                instrument=data.instrument(symbol),
                source=data.source,
                options=data.options,
            )
            chains.append(made)
        return chains

    def _book_hash(self, symbol: str, files: tuple[DataFile, ...], fset: FeatureSet) -> bytes:
        """The hash of the book behind these files."""
        chains = self._chains(symbol, files, reads_of(fset, self._data.source_info(files[0])))
        known = self._hashes.get(chains[-1])
        return self._rolled(symbol, files, fset).hash if known is None else known

    def _rolled(self, symbol: str, files: tuple[DataFile, ...], fset: FeatureSet) -> BookCheckpoint:
        """The book behind these files, rolled on from the last one that is kept."""
        data = self._data
        reads = reads_of(fset, data.source_info(files[0]))
        chains = self._chains(symbol, files, reads)
        at, book = len(files), None
        while at and (book := self._load(chains[at - 1])) is None:
            at -= 1
        for number in range(at, len(files)):
            book = roll_book(data.events(files[number], symbol), reads, book, backend=data.backend)
            if book is not None:
                self._keep(chains[number], book)
        assert book is not None  # a file that is rolled holds events
        return book

    def _load(self, made: str) -> BookCheckpoint | None:
        """A book that is there and whole."""
        held = self._held.get(made)
        if held is None:
            try:
                held = BookCheckpoint.load(self._books / f"{made}.book")
            except (OSError, StoreError):
                return None
            self._hold(made, held)
        return held

    def _hold(self, made: str, book: BookCheckpoint) -> None:
        if len(self._held) >= _HELD_MAX:
            self._held.clear()
        self._held[made] = book
        self._hashes[made] = book.hash

    def _keep(self, made: str, book: BookCheckpoint) -> None:
        """Keep a book, on disk too where that can be done."""
        self._hold(made, book)
        if self._manifest is None or self._manifest.read_only:
            return
        with suppress(OSError, SettingError):
            book.save(self._books / f"{made}.book")
