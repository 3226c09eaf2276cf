"""The numbers of a store as metrics: what all its processes counted, and what lies there.

Leans on `research.ledger` for the sum. Reads; the only thing it writes is that sum, folded now and then.
"""

from __future__ import annotations

import math
import shutil
import sqlite3
import threading
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from featureplane.clock import SYSTEM, Clock
from featureplane.errors import StoreError
from featureplane.research.store import measures as m
from featureplane.research.store.ledger import FOLDER, fold, merged
from featureplane.research.store.limits import StoreLimits
from featureplane.research.store.manifest import MANIFEST_NAME, Manifest
from featureplane.telemetry import Labels, Number, Picture, exposition
from featureplane.units import NANOS_PER_SECOND

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["StoreNumbers", "hit_ratio", "store_app"]

_WINDOW_NS: Final = 300 * NANOS_PER_SECOND
_EVERY_NS: Final = 5 * NANOS_PER_SECOND
_FOLD_ABOVE: Final = 8

_LABELLED: Final = (
    ("featurestore_requests_total", "requests", m.RESULTS),
    ("featurestore_misses_total", "misses", m.CAUSES),
    ("featurestore_evictions_total", "evictions", m.REASONS),
    ("feature_consistency_frames_total", "consistency", ("equal", "different")),
)


def hit_ratio(counts: Counter[str]) -> float:
    """(hit + coalesced) / (hit + coalesced + miss + corrupt); NaN without any."""
    good = sum(counts[f"requests|{one}"] for one in m.GOOD_RESULTS)
    return _ratio(good, good + sum(counts[f"requests|{one}"] for one in m.BAD_RESULTS))


class StoreNumbers:
    """The numbers of one root, asked for by whoever scrapes; safe for threads.

    `watch` is to be called every few seconds: a ratio of five minutes needs to know what was.
    """

    def __init__(self, root: Path, limits: StoreLimits, clock: Clock = SYSTEM) -> None:
        self._root, self._limits, self._clock = root, limits, clock
        self._past: deque[tuple[int, Counter[str]]] = deque()
        self._symbols: dict[str, None] = {}
        self._lock = threading.Lock()

    def watch(self) -> Counter[str]:
        """Look what was counted so far."""
        folder = self._root / FOLDER
        with self._lock:
            with suppress(OSError):
                fold(folder, above=_FOLD_ABOVE, clock=self._clock)
            counts, now_ns = merged(folder), self._clock.monotonic_ns()
            if not self._past or now_ns - self._past[-1][0] >= _EVERY_NS:
                self._past.append((now_ns, counts))
            while len(self._past) > 1 and now_ns - self._past[1][0] >= _WINDOW_NS:
                self._past.popleft()
            return counts

    def picture(self) -> Picture:
        """All numbers, every series that a rule reads among them."""
        counts = self.watch()
        table: dict[str, dict[Labels, Number]] = {}
        for metric, name, labels in _LABELLED:
            table[metric] = {(one,): counts[f"{name}|{one}"] for one in labels}
        table["featurestore_symbol_requests_total"] = self._by_symbol(counts)
        since = counts.copy()
        since.subtract(self._past[0][1])
        table["featurestore_hit_ratio"] = {(): hit_ratio(since)}
        for name in m.TIMES:
            table[f"featurestore_{name}_seconds"] = {(): _histogram(counts, name)}
        equal = counts["consistency|equal"]
        table["feature_consistency_ratio"] = {(): _ratio(equal, equal + counts["consistency|different"])}
        return table | self._there()

    def _by_symbol(self, counts: Counter[str]) -> dict[Labels, Number]:
        """Series by symbol; who comes when there are enough of them is one of the others."""
        found: dict[Labels, Number] = {}
        for name, count in sorted(counts.items()):
            if name.startswith("symbol|"):
                _, symbol, result = name.split("|")
                if len(self._symbols) < 2 * m.SYMBOLS_MAX:
                    self._symbols.setdefault(symbol)
                shown = symbol if symbol in self._symbols else m.OTHER_SYMBOL
                for one in (*m.GOOD_RESULTS, *m.BAD_RESULTS):
                    found.setdefault((shown, one), 0)
                before = found[shown, result]
                assert not isinstance(before, tuple)
                found[shown, result] = before + count
        return found

    def _there(self) -> dict[str, dict[Labels, Number]]:
        """What lies there; a store that nobody has begun yet is empty."""
        days = size = hot_days = hot = readable = 0
        if not (self._root / MANIFEST_NAME).exists():
            readable = 1
        else:
            with suppress(sqlite3.Error, StoreError):
                manifest = Manifest(self._root, read_only=True)
                try:
                    days, size, hot_days, hot = manifest.totals()
                finally:
                    manifest.close()
                readable = 1
        near = next(one for one in (self._root, *self._root.absolute().parents) if one.exists())
        disk = shutil.disk_usage(near)
        return {
            "featurestore_bytes": {("parquet",): size, ("hot",): hot},
            "featurestore_days": {("parquet",): days, ("hot",): hot_days},
            "featurestore_bytes_max": {(): self._limits.bytes_max},
            "featurestore_manifest_readable": {(): readable},
            # WHY not of the total: a part of a disk may be kept for root, and is no room for anybody else
            "featurestore_disk_used_ratio": {(): disk.used / max(disk.used + disk.free, 1)},
        }


def store_app(numbers: StoreNumbers) -> Starlette:
    """The application that answers `/metrics`, and `/healthz` while the manifest can be read."""
    from starlette.applications import Starlette  # noqa: PLC0415 - an extra
    from starlette.responses import JSONResponse, Response  # noqa: PLC0415 - as above
    from starlette.routing import Route  # noqa: PLC0415 - as above

    def metrics(_request: Request) -> Response:
        text, kind = exposition(numbers.picture(), m.METRICS)
        return Response(text, media_type=kind)

    def healthz(_request: Request) -> Response:
        well = numbers.picture()["featurestore_manifest_readable"][()] == 1
        return JSONResponse({"manifest": "readable" if well else "unreadable"}, 200 if well else 503)

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz)])


def _histogram(counts: Counter[str], name: str) -> tuple[tuple[int, ...], float]:
    buckets = tuple(counts[f"{name}#{number}"] for number in range(len(m.EDGES_S) + 1))
    return buckets, counts[f"{name}#ns"] / NANOS_PER_SECOND


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
