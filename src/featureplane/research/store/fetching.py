"""One day for a request: found, waited for, or made; and read when somebody asks.

    mapped | hot file | Parquet file | somebody else is computing it | computed here

Leans on everything below it in the store. Knows nothing of ranges.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from featureplane.clock import Clock
from featureplane.errors import FeaturePlaneError, InputError
from featureplane.features.catalog import feature_set
from featureplane.features.spec import FeatureSet
from featureplane.market.days import Day
from featureplane.research.contents import Identity
from featureplane.research.datasets import Dataset
from featureplane.research.store.consistency import equal_rows
from featureplane.research.store.dayfile import day_schema
from featureplane.research.store.entry import Piece
from featureplane.research.store.hot import MappedDay
from featureplane.research.store.leases import Lease, LeaseLost
from featureplane.research.store.making import FilesChanged, Maker, NoRoom
from featureplane.research.store.manifest import Row
from featureplane.research.store.measures import BAD_RESULTS, GOOD_RESULTS, RESULTS
from featureplane.research.store.repair import is_damage
from featureplane.research.store.resolving import Resolved, Resolver
from featureplane.research.store.root import Root
from featureplane.research.store.shelf import VERIFY, Damaged, Gone, OpenFile, Unreachable
from featureplane.telemetry import log_event
from featureplane.units import NANOS_PER_MS, NANOS_PER_SECOND

__all__ = ["Fetcher"]

_MAPPED_MAX: Final = 256
_TRIES: Final = 5
_WAIT_NS_LEAST: Final = 60 * NANOS_PER_SECOND
_WAIT_TIMES: Final = 3
_POLL_NS_MAX: Final = 50 * NANOS_PER_MS
_NEW: Final = ("new_symbol", "new_features")

_log = logging.getLogger("featureplane.store")


class Fetcher:
    """Finds or makes the days of one dataset in one root; safe for threads.

    `counts` has what came of days (`RESULTS`), `causes` why days had to be computed.
    """

    def __init__(self, data: Dataset, root: Root) -> None:
        self.data = data
        self.root = root
        self._sets: dict[str, FeatureSet] = {}
        self.counts: Counter[str] = Counter(dict.fromkeys(RESULTS, 0))
        self.causes: Counter[str] = Counter()
        self._clock: Clock = root.clock
        self._mapped: OrderedDict[str, MappedDay] = OrderedDict()
        self._rows: dict[str, tuple[Row, Identity]] = {}  # of files that were opened
        self._lock = threading.Lock()
        self.attach()

    def attach(self) -> None:
        """Begin with the root as it is now."""
        root = self.root
        self.measures = root.measures
        self._rows.clear()
        self.resolver = Resolver(self.data, root.path, root.manifest)
        self.maker = Maker(self.data, self.resolver, root)

    def piece(
        self,
        symbol: str,
        day: Day,
        fset: FeatureSet,
        *,
        warming: bool = False,
        newly: set[str] | None = None,
    ) -> Piece:
        """A day, counted; raises what resolving and computing it raise.

        `newly` is kept for the days of one request: as new as symbol or set are on the first of them, they
        are on the others.
        """
        for _ in range(_TRIES):
            try:
                found = self._one(symbol, day, fset, newly, warming=warming)
            except FilesChanged:
                continue
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self.root.heal()
                self.attach()
                continue
            in_slo = found.result in GOOD_RESULTS or found.result in BAD_RESULTS
            self._count(symbol, "warm" if warming and in_slo else found.result)
            return found
        raise InputError(
            f"{symbol}: the files of {day} change while they are read",
            hint="ask again when they are complete",
        )

    def _one(
        self, symbol: str, day: Day, fset: FeatureSet, newly: set[str] | None, *, warming: bool
    ) -> Piece:
        before = self.resolver.known(symbol, day, fset)
        if before is not None and before.stands():
            found = self._found(before)
            return found or self._unfound(before, newly, warming=warming)
        resolved = self.resolver.resolve(symbol, day, fset)
        was = None if before is None or before.key.key == resolved.key.key else before.key
        if was is not None:
            self._invalidated(was.key, was.parts, resolved)
        found = self._found(resolved)
        if found is None:
            found = self._unfound(resolved, newly, warming=warming, is_told=was is not None)
        return found

    def _invalidated(self, key: str, parts: Sequence[str], resolved: Resolved) -> None:
        symbol, day, now = resolved.symbol, str(resolved.day), resolved.key.key[:16]
        differs = ", ".join(resolved.key.differs_from(parts))
        text = f"Cache key {key[:16]} invalidated: {symbol} {day} is {now} now ({differs})"
        log_event(_log, logging.INFO, text, symbol=symbol, day=day, now=now, differs=differs)

    def _count(self, symbol: str, result: str) -> None:
        self.counts[result] += 1
        self.measures.asked(symbol, result)

    # -- what is there

    def _found(self, resolved: Resolved) -> Piece | None:
        if resolved.day.end_ns > self._clock.wall_ns():
            return self._alone(resolved, "open_day")
        began = self._clock.monotonic_ns()
        key = resolved.key.key
        mapped = self._mapped.get(key)
        if mapped is not None and not mapped.is_current:
            self._mapped.pop(key, None)
            mapped = None
        if mapped is None:
            again = self._opened_again(key)
            if again is not None:
                self.measures.took("lookup", self._clock.monotonic_ns() - began)
                self.root.used(key)
                return Piece(str(resolved.day), "hit", key, None, again, partial(self._remake, resolved))
        try:
            row = None if mapped is not None else self.root.find(key)
        except sqlite3.OperationalError as error:
            if is_damage(error):
                raise
            self.root.lose(error)
            return self._alone(resolved, "read_only")
        self.measures.took("lookup", self._clock.monotonic_ns() - began)
        if mapped is not None:
            self.root.used(key)
            return Piece(str(resolved.day), "hit", key, mapped)
        return None if row is None else self._opened(resolved, row, "hit")

    def _opened(self, resolved: Resolved, row: Row, result: str) -> Piece | None:
        """A stored day as it is opened; None where it cannot be the one that was published."""
        self._sets[row.fingerprint] = resolved.feature_set
        key, day = row.key, str(resolved.day)
        if row.hot_bytes:
            mapped = self.root.open_hot(row)
            if mapped is not None:
                self._remember(mapped)
                self.root.used(key)
                return Piece(day, result, key, mapped)
        try:
            opened = self.root.shelf.open(row)
        except Damaged as error:
            if not (isinstance(error, Gone) and self.root.was_removed(row)):
                self._damaged(row, error)
            return None
        if not self.root.shelf.is_shared:
            if len(self._rows) >= _MAPPED_MAX:
                self._rows.clear()
            self._rows[key] = row, opened.identity
        self.root.used(key)
        return Piece(day, result, key, None, (row, opened), partial(self._remake, resolved))

    def _opened_again(self, key: str) -> tuple[Row, OpenFile] | None:
        """A stored day whose file is the one that was opened last time: as long as it is, its row stands.

        Whoever forgets a day removes its file first or puts it aside, which changes what tells a file from
        another; so nobody has to look the row up.
        """
        known = self._rows.get(key)
        if known is None:
            return None
        row, identity = known
        try:
            opened = self.root.shelf.opened(row.path)
        except Damaged:
            opened = None
        if opened is not None and opened.identity == identity:
            return row, opened
        self._rows.pop(key, None)
        return None

    def _damaged(self, row: Row, error: Damaged) -> None:
        facts = row.facts
        what = "cannot be read now" if isinstance(error, Unreachable) else "is damaged"
        log_event(
            _log,
            logging.WARNING,
            f"a stored day {what}: {error}",
            symbol=facts.symbol,
            day=facts.day,
            key=facts.key,
        )
        self._mapped.pop(facts.key, None)
        self.root.discard(row, error)

    # -- what is not

    def _unfound(
        self,
        resolved: Resolved,
        newly: set[str] | None = None,
        *,
        warming: bool = False,
        is_told: bool = False,
    ) -> Piece:
        if self.root.read_only:
            if not self.root.tried_again():
                return self._alone(resolved, "read_only")
            self.attach()
        cause, result = "", "read_only"
        self._sets[resolved.feature_set.fingerprint] = resolved.feature_set
        try:
            cause = self._why(resolved, newly)
            if not is_told and (other := self.root.other_key(resolved)) is not None:
                self._invalidated(other.key, other.facts.parts, resolved)
            result = "corrupt" if cause == "corrupt" else "warm" if warming else "miss"
            made = self._made(resolved, result, cause)
        except NoRoom:
            self.root.warn_once("the store is full and nothing more can go; days are computed and not stored")
            made = self._alone(resolved, result)
        except (OSError, sqlite3.OperationalError) as error:
            if isinstance(error, sqlite3.Error) and is_damage(error):
                raise
            self.root.lose(error)
            return self._alone(resolved, "read_only")
        if made.result in BAD_RESULTS and not warming:
            self.measures.missed(cause)
        return made

    def _why(self, resolved: Resolved, newly: set[str] | None) -> str:
        cause = self.root.why_missing(resolved)
        if newly is None:
            return cause
        if cause in _NEW:
            newly.add(cause)
        return next(iter(newly)) if newly and cause == "new_data" else cause

    def _made(self, resolved: Resolved, result: str, cause: str) -> Piece:
        """Compute and publish a day, or take what another process publishes meanwhile."""
        leases, key = self.root.leases, resolved.key.key
        began, poll, never = self._clock.monotonic_ns(), NANOS_PER_MS, threading.Event()
        patience = max(
            _WAIT_NS_LEAST, int(_WAIT_TIMES * NANOS_PER_SECOND * self.root.expected_seconds(resolved))
        )
        waited = False
        while True:
            held = leases.find(key)
            lease = leases.take(key) if held is None or held.is_dead(self._clock.wall_ns()) else None
            if lease is not None:
                if waited:
                    self.measures.took("lock_wait", self._clock.monotonic_ns() - began)
                with leases.held(lease):
                    found = self._published(resolved, waited=waited) or self._adopted(resolved, lease)
                    if found is not None:
                        return found
                    try:
                        return self._publish(resolved, lease, result, cause)
                    except LeaseLost:
                        continue
            waited = True
            self._clock.wait(poll, never)
            poll = min(2 * poll, _POLL_NS_MAX)
            found, spent = self._published(resolved, waited=True), self._clock.monotonic_ns() - began
            if found is None and spent > patience:
                found = self._alone(resolved, result)
            if found is not None:
                self.measures.took("lock_wait", spent)
                return found

    def _published(self, resolved: Resolved, *, waited: bool) -> Piece | None:
        row = self.root.find(resolved.key.key)
        return None if row is None else self._opened(resolved, row, "coalesced" if waited else "hit")

    def _adopted(self, resolved: Resolved, lease: Lease) -> Piece | None:
        """A day that lies there without a row: of another machine, or of a process that ended before it."""
        row = self.maker.adopt(resolved, lease)
        return None if row is None else self._opened(resolved, row, "hit")

    def _publish(self, resolved: Resolved, lease: Lease, result: str, cause: str) -> Piece:
        self.root.shelf.reached("leased")
        symbol, day, set_id = resolved.symbol, str(resolved.day), resolved.feature_set.feature_set_id
        text = f"Cache MISS {resolved.key.key[:16]} {symbol} {day} {set_id}: {cause}"
        log_event(_log, logging.INFO, text, symbol=symbol, day=day, cause=cause)
        self.causes[cause] += 1
        with self.measures.timed("compute"):
            made = self.maker.publish(resolved, lease)
        self.root.used(resolved.key.key)
        remade = partial(self._remake, resolved)
        return Piece(str(resolved.day), result, resolved.key.key, None, made, remade)

    def _alone(self, resolved: Resolved, result: str) -> Piece:
        """The day, computed for this request alone."""
        with self.measures.timed("compute"):
            return Piece(str(resolved.day), result, resolved.key.key, self.maker.in_memory(resolved))

    def know(self, sets: Iterable[FeatureSet]) -> None:
        """Sets of one's own, of which stored days can be computed again, beside those that were asked for."""
        self._sets |= {fset.fingerprint: fset for fset in sets}

    def verified(self, row: Row) -> bool | None:
        """Whether a stored day has the bytes that computing it again gives; None where it cannot be asked."""
        resolved = self._resolved(row)
        if resolved is None:
            return None
        part = self.root.shelf.local.part_path(Path(VERIFY, row.key))
        try:
            opened = self.root.shelf.open(row)
            self.maker.write_again(part, resolved)
            same = opened.buffer().equals(pa.py_buffer(part.read_bytes()))
            equal = row.rows if same else self._equal_rows(row, resolved.feature_set, part, opened)
        except (FilesChanged, Unreachable):
            return None
        except Damaged:
            same, equal = False, 0
        finally:
            part.unlink(missing_ok=True)
        self.measures.compared(row.rows, equal)
        return same

    def _equal_rows(self, row: Row, fset: FeatureSet, part: Path, opened: OpenFile) -> int:
        """How many rows of a stored day are what computing it again gives."""
        names = day_schema(fset).names
        stored = self.root.shelf.read(row, opened, row.start_ts, row.end_ts, names)
        return equal_rows(stored, pq.read_table(part, columns=names))

    def _resolved(self, row: Row) -> Resolved | None:
        """What a stored day was computed from, if this dataset has the same."""
        facts = row.facts
        try:
            fset = self._sets.get(facts.fingerprint) or feature_set(facts.feature_set)
            day = self.data.calendar(facts.symbol).at(facts.start_ts)
            resolved = self.resolver.resolve(facts.symbol, day, fset)
        except FeaturePlaneError:
            return None
        return resolved if resolved.key.key == facts.key else None

    # -- reading

    def read(self, piece: Piece, start_ns: int, end_ns: int, columns: list[str]) -> pa.Table:
        """Rows with times in [start, end) or around, of a day that is not mapped: the columns asked for.

        What is read for the second time is put into the hot tier: then `piece.mapped` is set. So it is with
        a day that turns out to be damaged, which is computed again.
        """
        assert piece.stored is not None
        row, opened = piece.stored
        try:
            with self.measures.timed("read"):
                if self.root.wants_hot(row):
                    self.heat(piece)
                if piece.mapped is None:
                    return self.root.shelf.read(row, opened, start_ns, end_ns, columns)
        except Damaged as error:
            self._replace(piece, row, error)
        assert piece.mapped is not None
        return piece.mapped.with_times(columns)

    def check(self, piece: Piece) -> None:
        """See `entry.Reader`."""
        if piece.stored is None:
            return
        row, opened = piece.stored
        try:
            if self.root.wants_hot(row):
                self.heat(piece)
            self.root.shelf.check(row, opened)
        except Damaged as error:
            self._replace(piece, row, error)

    def _replace(self, piece: Piece, row: Row, error: Damaged) -> None:
        self._damaged(row, error)
        result = "read_only" if isinstance(error, Unreachable) else "corrupt"
        self._count(row.symbol, result)
        assert piece.remade is not None
        piece.mapped, piece.result = piece.remade(), result

    def heat(self, piece: Piece) -> None:
        """Put a stored day into the hot tier, if it has room, and map it; raises `Damaged`."""
        if piece.mapped is not None or piece.stored is None:
            return
        row, opened = piece.stored
        try:
            mapped = self.root.fill_hot(row, opened)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self.root.heal()
            self.attach()
            return
        if mapped is not None:
            self._remember(mapped)
            piece.mapped = mapped

    def _remake(self, resolved: Resolved) -> MappedDay:
        """A day whose file was damaged, computed again and stored again where that can be done."""
        made = self._unfound(resolved)
        if made.mapped is None and made.stored is not None:
            row, opened = made.stored
            try:
                names = day_schema(resolved.feature_set).names
                table = self.root.shelf.read(row, opened, row.start_ts, row.end_ts, names)
                return MappedDay.of(row.key, table.combine_chunks())
            except Damaged:  # the disk itself, then
                return self.maker.in_memory(resolved)
        assert made.mapped is not None
        return made.mapped

    def _remember(self, mapped: MappedDay) -> None:
        with self._lock:
            self._mapped[mapped.key] = mapped
            self._rows.pop(mapped.key, None)  # its hot file comes first
            while len(self._mapped) > _MAPPED_MAX:
                self._mapped.popitem(last=False)

    def forget(self) -> None:
        """Let go of what is mapped."""
        with self._lock:
            self._mapped.clear()
            self._rows.clear()
