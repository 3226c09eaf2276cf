"""The store: features over history, computed once for the same data and the same definition.

    request -> days -> key of each -> hot file | Parquet file | computed, published -> StoreEntry

Leans on everything below it in `research`. Nothing here decides what a frame is.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Self

from featureplane.arguments import each, expect
from featureplane.clock import SYSTEM, Clock
from featureplane.errors import MissingDay, SettingError, StoreError
from featureplane.features.spec import FeatureSet
from featureplane.market.days import Day
from featureplane.research.datasets import Dataset
from featureplane.research.store.entry import Piece, StoreEntry
from featureplane.research.store.explaining import explained
from featureplane.research.store.fetching import Fetcher
from featureplane.research.store.limits import StoreLimits, limits_from
from featureplane.research.store.manifest import MANIFEST_NAME
from featureplane.research.store.measures import RESULTS
from featureplane.research.store.places import place_of
from featureplane.research.store.repair import FsckReport, fsck, rebuild, sweep
from featureplane.research.store.requests import Instant, Request, request_for
from featureplane.research.store.root import Root
from featureplane.research.store.shelf import Damaged, Unreachable
from featureplane.research.store.snapshots import publish_snapshot
from featureplane.telemetry import log_event
from featureplane.units import NANOS_PER_SECOND

__all__ = ["RESULTS", "FeatureStore"]

_log: Final = logging.getLogger("featureplane.store")


class FeatureStore:
    """Features of a dataset, by symbol and session day, in a folder that many processes share.

    `root` is a folder or `s3://BUCKET/PREFIX`; else `FEATURE_STORE_PATH`, else `~/.feature_cache`. Without
    `data` nothing can be asked for, only looked after. `limits` are a `StoreLimits` or the table
    `feature_store` of a configuration. Threads may share a store; each process has its own.

    Raises `StoreError` for a root that a newer version wrote and for a bucket that is not there, refuses or
    does not answer, `SettingError` for a root that cannot be meant and for limits that are none. A root that
    cannot be written is no error: features are computed, not stored, and that is said once.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        data: Dataset | None = None,
        *,
        limits: StoreLimits | Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        if data is not None:
            expect("data", data, Dataset, "a `Dataset`", hint="`Dataset(paths, source)` makes one")
        place = place_of(root)
        chosen = limits if isinstance(limits, StoreLimits) else limits_from(limits)
        self._root = Root(place, chosen, clock, place.shelf(on_step))
        self._data = data
        self._fetcher = None if data is None else Fetcher(data, self._root)
        self._verifying = threading.Lock()

    @property
    def root(self) -> Path:
        """Where it is; of one on object storage the folder with all but its days."""
        return self._root.path

    @property
    def read_only(self) -> bool:
        """Whether nothing is stored."""
        return self._root.read_only

    # -- asking

    def get_or_compute(
        self, symbol: str, start: Instant, end: Instant, feature_set: FeatureSet | str
    ) -> StoreEntry:
        """The frames of a symbol over [start, end), from the store as far as they are there.

        Days that are missing are computed and stored before this returns; what is there is opened and not
        read. A frame belongs to the range in which the clock of its step lies (rule 5.3), so ranges beside
        each other share none and miss none.

        Raises
        ------
        SettingError
            Instants without a time zone or in the wrong order; a store without data.
        UnknownSymbol, UnknownFeatureSet
            As it says.
        MissingDay
            A day of the range on which the market was open and that no file holds.
        InputError
            Raw files that cannot be read or computed with.
        """
        request, root = request_for(symbol, start, end, feature_set), self._root
        began = root.clock.monotonic_ns()
        try:
            return StoreEntry(request, self._pieces(request, warming=False), self._asked)
        finally:
            root.measures.took("request", root.clock.monotonic_ns() - began)

    def warm(
        self, symbols: str | Iterable[str], start: Instant, end: Instant, feature_set: FeatureSet | str
    ) -> Counter[str]:
        """Compute what is missing and fill the hot tier, before anybody asks; what came of the days."""
        came: Counter[str] = Counter()
        for symbol in (symbols,) if isinstance(symbols, str) else each("symbols", symbols, str, "symbols"):
            request = request_for(symbol, start, end, feature_set)
            for piece in self._pieces(request, warming=True):
                came[piece.result] += 1
                with suppress(Damaged):
                    self._asked.heat(piece)
        return came

    def explain(
        self, symbol: str, start: Instant, end: Instant, feature_set: FeatureSet | str
    ) -> list[dict[str, Any]]:
        """For each day of a request its key, whether it is stored and in which tier, or why it is missing.

        A missing day has a `cause` (`new_symbol`, `new_features`, `new_data`, `evicted`, `corrupt`) and, if
        another key of the same day and set is stored, the parts in which that one `differs` (`keys.PARTS`).
        Nothing is computed but books.
        """
        request = request_for(symbol, start, end, feature_set)
        return [explained(self._asked.resolver, self._root, request, day) for day in self._days(request)]

    def _pieces(self, request: Request, *, warming: bool) -> list[Piece]:
        asked = self._asked
        pieces, newly, symbol, fset = list[Piece](), set[str](), request.symbol, request.feature_set
        for day in self._days(request):
            try:
                pieces.append(asked.piece(symbol, day, fset, warming=warming, newly=newly))
            except MissingDay:
                if request.start_ns < day.closes_ns and day.start_ns < request.end_ns:
                    raise
        if _log.isEnabledFor(logging.DEBUG):
            came = Counter(piece.result for piece in pieces)
            span = f"{pieces[0].day} to {pieces[-1].day}" if pieces else "no day"
            result = ", ".join(f"{count} {result}" for result, count in came.items())
            text = f"get_or_compute {symbol} {span} {fset.feature_set_id}: {result or 'nothing'}"
            log_event(_log, logging.DEBUG, text, symbol=symbol, days=len(pieces), came=dict(came))
        return pieces

    def _days(self, request: Request) -> tuple[Day, ...]:
        calendar = self._asked.data.calendar(request.symbol)
        return calendar.between(request.start_ns, request.end_ns) if request.start_ns < request.end_ns else ()

    @property
    def _asked(self) -> Fetcher:
        if self._fetcher is None:
            raise SettingError("a store without data", hint="give it a `Dataset` as `data`")
        return self._fetcher

    # -- looking after it

    def stats(self) -> dict[str, Any]:
        """What this process counted, and what the store holds."""
        fetcher, root = self._fetcher, self._root
        root.flush()
        days, size, hot_days, hot = (0, 0, 0, 0) if root.manifest is None else root.manifest.totals()
        return {
            "root": str(root.place),
            "read_only": root.read_only,
            "requests": dict.fromkeys(RESULTS, 0) if fetcher is None else dict(fetcher.counts),
            "misses": {} if fetcher is None else dict(fetcher.causes),
            "days": days,
            "bytes": size,
            "hot_days": hot_days,
            "hot_bytes": hot,
            "bytes_max": root.limits.bytes_max,
            "removed": {} if root.manifest is None else dict(root.eviction.removed),
        }

    def status(self) -> dict[str, Any]:
        """How much the store holds, and how much it may; by set and symbol too."""
        root = self._root
        names = "root", "read_only", "days", "bytes", "hot_days", "hot_bytes"
        told = {name: counted for name, counted in self.stats().items() if name in names}
        limits = asdict(root.limits)
        by = [] if root.manifest is None else root.manifest.summary()
        return told | {"limits": limits, "pinned": sum(one["pinned"] for one in by), "holds": by}

    def leases(self) -> list[dict[str, Any]]:
        """Who is computing what: holder, age, token, and bytes promised to it; the oldest first."""
        root = self._root
        now_ns = root.clock.wall_ns()
        held = [] if root.manifest is None else root.leases.all()
        return [
            {
                "key": one.key,
                "holder": one.holder,
                "token": one.token,
                "age_seconds": (now_ns - one.taken_ns) / NANOS_PER_SECOND,
                "renewed_seconds": (now_ns - one.renewed_ns) / NANOS_PER_SECOND,
                "dead": one.is_dead(now_ns),
                "reserved": one.reserved,
            }
            for one in held
        ]

    def verify(
        self, sample: int = 10, *, seed: int | None = None, sets: Iterable[FeatureSet] = ()
    ) -> dict[str, Any]:
        """Compute so many stored days of this dataset again, by lot, and compare them byte by byte.

        `sets` are those of one's own beside the registered ones and those this store was asked for. Days of
        other sets, and days whose raw data this dataset has not, or has no more, are left out. `different`
        lists the paths of those that differ, which should never be any; they are put aside. `hot` lists the
        keys of those whose copy in the hot tier has other bytes than were written; it is dropped.
        """
        asked, manifest = self._asked, self._root.manifest
        asked.know(sets)
        rows = [] if manifest is None else manifest.rows()
        random.Random(seed).shuffle(rows)  # noqa: S311 - a sample, no secret
        report: dict[str, Any] = {"checked": 0, "equal": 0, "different": [], "hot": [], "left_out": 0}
        with self._verifying:
            for row in rows:
                if report["checked"] >= sample:
                    break
                same = asked.verified(row)
                if same is None:
                    report["left_out"] += 1
                    continue
                report["checked"] += 1
                report["equal"] += same
                if not self._root.hot_is_sound(row.key):
                    report["hot"].append(row.key)
                if not same:
                    report["different"].append(row.path)
                    self._root.discard(row)
        return report

    def evict(self) -> dict[str, int]:
        """Remove what nobody has used for `retention_days`, then down to `cleanup_threshold` of the limit.

        The hot tier is brought below its own limit, too: it may have been another one. What processes that
        ended while they wrote left behind goes first; whole files without a row are left to `fsck`.
        """
        root = self._root
        if root.manifest is None or root.read_only:
            return {"removed": 0, "bytes": 0}
        root.flush()
        sweep(root.manifest, root.path, root.clock)
        before = root.manifest.totals()[0]
        freed = root.eviction.expire(root.limits.retention_days)
        _, size, _, hot = root.manifest.totals()
        if hot > root.limits.hot_max:
            freed += root.eviction.free_hot(hot - root.limits.hot_max)
            _, size, _, hot = root.manifest.totals()
        if size + hot > root.limits.bytes_kept:
            freed += root.eviction.free(size + hot - root.limits.bytes_kept)
        return {"removed": before - root.manifest.totals()[0], "bytes": freed}

    def clear(self, symbol: str | None = None) -> int:
        """Remove all days of a symbol, or all there are; how many. What somebody reads stays."""
        root = self._root
        if root.manifest is None or root.read_only:
            return 0
        if self._fetcher is not None:
            self._fetcher.forget()
        rows = root.manifest.rows() if symbol is None else root.manifest.rows("symbol = ?", (symbol,))
        before = root.manifest.totals()[0]
        for row in rows:
            root.eviction.drop(row, "cleared")
        return before - root.manifest.totals()[0]

    def pin(self, symbol: str, start: Instant, end: Instant, *, pinned: bool = True) -> int:
        """Keep the stored days of a symbol that share an instant with [start, end), or no more; how many."""
        request = request_for(symbol, start, end, "lob_shared_v1")
        root = self._root
        if root.manifest is None or root.read_only:
            return 0
        told = int(pinned), symbol, request.end_ns, request.start_ns
        text = "UPDATE manifest SET pinned = ? WHERE symbol = ? AND start_ts < ? AND end_ts > ?"
        with root.manifest.writing() as connection:
            return connection.execute(text, told).rowcount

    def fsck(self, *, repair: bool = False) -> FsckReport:
        """Hold manifest and files against each other, every byte; `repair` puts right what is wrong.

        Raises `StoreError` where object storage does not answer.
        """
        root = self._root
        if root.manifest is None:
            return FsckReport()
        repair = repair and not root.read_only
        whole = root.manifest.is_whole()
        if repair and not whole:
            self.rebuild_manifest()
        with _answering():
            report = fsck(root.manifest, root.shelf, repair=repair, clock=root.clock)
        if not whole:
            report.damaged.insert(0, MANIFEST_NAME)
        return report

    def rebuild_manifest(self) -> int:
        """Make the manifest anew from the files; how many days it has then. Raises as `fsck` does."""
        root = self._root
        if root.read_only:
            return 0
        root.flush()
        if root.manifest is not None:
            root.manifest.close()
        with _answering():
            return rebuild(root.path, root.shelf, root.clock)

    def snapshot(self) -> Path:
        """Publish what the manifest knows now as `manifest.duckdb`, for DuckDB to read; where it is.

        Raises `SettingError` without DuckDB (extra `research`), `StoreError` where it cannot be written.
        """
        self._root.flush()
        return publish_snapshot(self._root)

    def close(self) -> None:
        """Tell what was used and let go of everything; entries stay readable."""
        if self._fetcher is not None:
            self._fetcher.forget()
        self._root.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FeatureStore {self._root.place}{', read-only' if self.read_only else ''}>"


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except Unreachable as error:
        raise StoreError(str(error), hint="nothing was changed from here on; try it again") from None
