"""The folder of a store as one process has it: manifest, files, leases, room, and whether it may write.

Leans on `manifest`, `shelf`, `leases`, `eviction`, `hot`. Knows nothing of datasets.
"""

from __future__ import annotations

import atexit
import errno
import logging
import os
import sqlite3
import threading
import weakref
from contextlib import suppress
from typing import Final

from featureplane.clock import SYSTEM, Clock
from featureplane.research.store.eviction import Eviction
from featureplane.research.store.hot import MappedDay, check_hot, hot_bytes, open_hot, publish_hot
from featureplane.research.store.leases import Lease, LeaseLost, Leases
from featureplane.research.store.limits import StoreLimits
from featureplane.research.store.manifest import Manifest, Row, UnreadableManifest
from featureplane.research.store.measures import Measures
from featureplane.research.store.places import Place
from featureplane.research.store.repair import is_damage, opened_manifest, row_of
from featureplane.research.store.resolving import Resolved
from featureplane.research.store.shelf import Damaged, Gone, OpenFile, Shelf, Unreachable
from featureplane.telemetry import log_event
from featureplane.units import NANOS_PER_SECOND

__all__ = ["Root"]

_USES_HELD: Final = 256
_USES_NS: Final = 5 * NANOS_PER_SECOND
_LOST_NS: Final = 60 * NANOS_PER_SECOND
_HOT: Final = "hot:"

_log = logging.getLogger("featureplane.store")


class Root:
    """One root, opened for writing, else for reading; `read_only` where nothing is stored, `lost` says why.

    Raises `StoreError` for a root that a newer version wrote.
    """

    def __init__(
        self, place: Place, limits: StoreLimits, clock: Clock = SYSTEM, shelf: Shelf | None = None
    ) -> None:
        self.place = place
        self.path = path = place.folder
        self.limits = limits
        self.clock = clock
        self.shelf = shelf or place.shelf()
        self.measures = Measures(path, clock)
        self._lost_ns: int | None = None
        self.lost = ""
        self._warned: set[str] = set()
        self._uses: dict[str, tuple[int, int]] = {}
        self._uses_since_ns = clock.monotonic_ns()
        self._lock = threading.Lock()
        self._attach()
        atexit.register(_flush, weakref.ref(self))

    def _attach(self, *, thorough: bool = False) -> None:
        self.manifest = self._manifest(thorough=thorough)
        if self.manifest is not None:
            self.leases = Leases(self.manifest, self.clock)
            self.eviction = Eviction(self.manifest, self.shelf, self.clock, self.measures.removed)

    def heal(self) -> None:
        """Begin again with a manifest that was found to be damaged: it is made anew from the files."""
        log_event(_log, logging.WARNING, "the manifest is damaged; it is made anew", root=str(self.place))
        if self.manifest is not None:
            self.leases.close()
            self.manifest.close_here()
        self._attach(thorough=True)

    @property
    def written(self) -> Manifest:
        """The manifest of a root that is not read-only."""
        assert self.manifest is not None
        return self.manifest

    def _manifest(self, *, thorough: bool) -> Manifest | None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK):  # SQLite says so at the first write only
                raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))
            made = opened_manifest(self.path, self.shelf, self.clock, thorough=thorough)
            with made.writing():
                pass
        except (OSError, sqlite3.OperationalError) as error:
            self.lose(error)
            with suppress(UnreadableManifest, sqlite3.Error):
                return Manifest(self.path, read_only=True)
            return None
        return made

    @property
    def read_only(self) -> bool:
        """Whether nothing is stored now: the root cannot be written, or could not a minute ago."""
        if self.manifest is None or self.manifest.read_only:
            return True
        return self._lost_ns is not None and self.clock.monotonic_ns() - self._lost_ns < _LOST_NS

    def tried_again(self) -> bool:
        """Whether a root that could not be opened for writing a while ago can be written now."""
        unopened = self.manifest is None or self.manifest.read_only
        lost_ns = self.clock.monotonic_ns() - (self._lost_ns or 0)
        if not unopened or lost_ns < _LOST_NS:
            return False
        self._lost_ns = None
        if self.manifest is not None:  # while it is open for reading, SQLite opens it for nothing else
            self.manifest.close_here()
        self._attach()
        return not self.read_only

    def lose(self, error: Exception) -> None:
        """The root cannot be written: for a while nothing is stored, and that is said once."""
        self._lost_ns, self.lost = self.clock.monotonic_ns(), str(error)
        self.warn_once(f"{self.place} cannot be written ({error}); features are computed and not stored")

    def warn_once(self, text: str) -> None:
        """A warning that is not repeated."""
        if text not in self._warned:
            self._warned.add(text)
            log_event(_log, logging.WARNING, text)

    # -- what is stored

    def find(self, key: str) -> Row | None:
        """The stored day of a key."""
        return None if self.manifest is None else self.manifest.find(key)

    def used(self, key: str) -> None:
        """Count a use; told to the manifest now and then, many at once."""
        now_ns = self.clock.wall_ns()
        with self._lock:
            count, _ = self._uses.get(key, (0, 0))
            self._uses[key] = count + 1, now_ns
            due = len(self._uses) >= _USES_HELD or self.clock.monotonic_ns() - self._uses_since_ns > _USES_NS
        if due:
            self.flush()

    def flush(self) -> None:
        """Tell the manifest what was used."""
        with self._lock:
            uses, self._uses = self._uses, {}
            self._uses_since_ns = self.clock.monotonic_ns()
        if uses and self.manifest is not None and not self.read_only:
            with suppress(sqlite3.Error):
                self.manifest.note_uses(uses)

    def discard(self, row: Row, error: Damaged | None = None) -> None:
        """Put a damaged day aside and forget it; not if it was stored anew meanwhile.

        One that another machine stored in other bytes, whole ones, is forgotten and left where it is. Where
        nothing is known because storage does not answer, nothing is stored for a while.
        """
        if isinstance(error, Unreachable):
            self.lose(error)
        if self.manifest is None or self.read_only:
            return
        try:
            self._put_aside(row)
        except OSError:
            pass  # it stays, and is found again
        except sqlite3.DatabaseError as found:
            if is_damage(found):
                self.heal()
            elif not isinstance(found, sqlite3.OperationalError):
                raise

    def _put_aside(self, row: Row) -> None:
        if self.manifest is not None:
            self.eviction.drop_hot(row)
            whole = self.shelf.is_shared and row_of(self.shelf, row.path, self.clock) is not None
            with self.manifest.writing() as connection:
                if self.manifest.is_current(row, connection):
                    if not whole:
                        self.shelf.quarantine(row.path)
                    self.manifest.drop(row, "corrupt", self.clock.wall_ns(), connection)

    def was_removed(self, row: Row) -> bool:
        """Whether a day whose file is gone was evicted or cleared, and is to be asked for anew.

        Its row is forgotten then: who removed it may have ended between the two.
        """
        if self.manifest is None:
            return False
        with suppress(sqlite3.OperationalError):
            why = self.manifest.why_gone(row.key)
            if why in (None, "corrupt"):
                return not self.manifest.is_current(row, self.manifest.connection())
            if not self.read_only:
                with self.manifest.writing() as connection:
                    self.manifest.drop(row, why, self.clock.wall_ns(), connection)
            return True
        return False

    def why_missing(self, resolved: Resolved) -> str:
        """Why a day is not stored: `corrupt`, `evicted`, `new_symbol`, `new_features` or `new_data`."""
        gone = self.written.why_gone(resolved.key.key)
        if gone is not None:
            return "corrupt" if gone == "corrupt" else "evicted"
        beside = self.written.rows("symbol = ?", (resolved.symbol,), most=1)
        if not beside:
            return "new_symbol"
        print_ = resolved.feature_set.fingerprint
        same = self.written.rows("symbol = ? AND fingerprint = ?", (resolved.symbol, print_), most=1)
        return "new_data" if same else "new_features"

    def other_key(self, resolved: Resolved) -> Row | None:
        """What was stored last of the same set, symbol and day under another key."""
        place = resolved.symbol, str(resolved.day), resolved.feature_set.feature_set_id, resolved.key.key
        where = "symbol = ? AND day = ? AND feature_set = ? AND key != ?"
        found = self.written.rows(where, place, order="created_ns DESC", most=1)
        return found[0] if found else None

    def expected_seconds(self, resolved: Resolved) -> float:
        """How long the last day of this symbol and set took; 0 where none was computed."""
        place = resolved.symbol, resolved.feature_set.fingerprint
        last = self.written.rows("symbol = ? AND fingerprint = ?", place, order="created_ns DESC", most=1)
        return last[0].seconds if last else 0.0

    def make_room(self) -> None:
        """Evict what lies above the threshold, so that the limit itself is seldom reached."""
        _, size, _, hot = self.written.totals()
        if size + hot > self.limits.bytes_kept:
            self.flush()  # what was used counts
            self.eviction.free(size + hot - self.limits.bytes_kept)

    # -- the hot tier

    def open_hot(self, row: Row) -> MappedDay | None:
        """A hot day, mapped; None where the file is not the one that was written."""
        try:
            return open_hot(self.shelf.local, row)
        except Damaged as error:
            self._drop_damaged(row, error)
            return None

    def hot_is_sound(self, key: str) -> bool:
        """Whether each byte of a hot day is as it was written, if it has one; dropped if not."""
        row = self.find(key)
        if row is None or not row.hot_bytes:
            return True
        try:
            check_hot(self.shelf.local, row)
        except Damaged as error:
            self._drop_damaged(row, error)
            return False
        return True

    def _drop_damaged(self, row: Row, error: Damaged) -> None:
        if isinstance(error, Gone):  # it is the copy that goes first
            if self.manifest is not None and not self.read_only:
                with suppress(sqlite3.OperationalError):
                    self.manifest.forget_hot(row, self.manifest.connection())
            return
        log_event(_log, logging.WARNING, f"a hot day is damaged: {error}", symbol=row.symbol, day=row.day)
        if self.manifest is not None and not self.read_only:
            with suppress(sqlite3.OperationalError):
                self.eviction.drop_hot(row)

    def wants_hot(self, row: Row) -> bool:
        """Whether a day is read for the second time, by anybody, and a hot tier is there for it."""
        if self.read_only or not self.limits.hot_max:
            return False
        with suppress(sqlite3.Error):
            row = self.find(row.key) or row
        return row.uses + self._uses.get(row.key, (0, 0))[0] > 1

    def fill_hot(self, row: Row, opened: OpenFile) -> MappedDay | None:
        """Put a day into the hot tier; None where it has no room. Raises `Damaged` for a damaged file."""
        key = row.key
        try:
            known = self.written.find(key)
            if known is None or self.read_only:
                return None
            if known.hot_bytes and (mapped := self.open_hot(known)) is not None:
                return mapped
            lease = self.leases.take(_HOT + key)
        except sqlite3.OperationalError:  # a full disk; the day is read from Parquet
            return None
        if lease is None:
            return None
        with self.leases.held(lease), suppress(LeaseLost, OSError, sqlite3.OperationalError):
            with self.shelf.parquet(row, opened) as file:
                table = file.read()

            def fenced() -> None:
                self.leases.check(lease, self.written.connection())

            if self._hot_room(lease, hot_bytes(table, key)):
                size, identity = publish_hot(self.shelf.local, table, key, fenced)
                with self.written.writing() as connection:
                    self.leases.check(lease, connection)
                    told = (size, identity, key)
                    text = "UPDATE manifest SET hot_bytes = ?, hot_identity = ? WHERE key = ?"
                    connection.execute(text, told)
                    connection.execute("UPDATE leases SET reserved = 0 WHERE key = ?", (lease.key,))
                self.shelf.reached("hot")
                self.make_room()
                found = self.written.find(key)
                return None if found is None or not found.hot_bytes else self.open_hot(found)
        return None

    def _hot_room(self, lease: Lease, size: int) -> bool:
        limits = self.limits
        if size > limits.hot_max:
            return False
        over = self.written.totals()[3] + size - limits.hot_max
        if over > 0:
            self.eviction.free_hot(over)
            if self.written.totals()[3] + size > limits.hot_max:
                return False
        return not self.leases.reserve(lease, size, limits.bytes_max)

    def close(self) -> None:
        """Tell what was used, and let go of the manifest."""
        self.flush()
        self.measures.close()
        if self.manifest is not None:
            self.leases.close()
            self.manifest.close()


def _flush(root: weakref.ref[Root]) -> None:
    """At the end of the process."""
    found = root()
    if found is not None:
        found.flush()
