"""What a backfill will do, before it does it: tasks, bytes, and about how long.

Only the catalogue, the sizes of files and the manifest are looked at. How long it takes follows from days of
the same set that are stored already, else from what was measured once (`docs/concepts/scaling.md`).

Leans on `backfill_tasks`. Knows nothing of pools.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from featureplane.clock import SYSTEM, Clock
from featureplane.errors import FeaturePlaneError, SettingError
from featureplane.market.days import Day
from featureplane.research.backfill.tasks import Job, Task
from featureplane.research.catalogue import DataFile
from featureplane.research.datasets import Dataset
from featureplane.research.store.manifest import MANIFEST_NAME, Manifest

__all__ = ["Plan", "plan_of"]

_SAMPLE: Final = 1_000
_SECONDS_A_BYTE: Final = 7e-8
_BYTES_A_BYTE: Final = 0.6
"""Both of recordings of Binance, gzip, with `lob_shared_v2`, where nothing is known yet."""
_SECONDS_A_DAY: Final = 0.01  # however small: a lease, a file, a row
_BEFORE: Final = 0.5
"""Looking at files and rolling books, as a part of computing the days."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks of a backfill in three turns, each of which needs the one before.

    `stored` of the days have an entry of that set already, and are computed again only if its key is
    another one. `closed` dates have no session, `open_days` are not over and left out. `bytes` and `seconds`
    are estimates of what is missing, from `known` days of the same set; from none where that is 0.
    """

    looks: tuple[Task, ...]
    rolls: tuple[Task, ...]
    days: tuple[Task, ...]
    stored: int
    closed: int
    open_days: int
    raw_bytes: int
    bytes: int
    seconds: float
    known: int

    @property
    def turns(self) -> tuple[tuple[Task, ...], ...]:
        """What is done one after the other."""
        return self.looks, self.rolls, self.days

    def told(self) -> dict[str, Any]:
        """As numbers."""
        tasks = len(self.looks) + len(self.rolls) + len(self.days)
        counts = {"look": len(self.looks), "roll": len(self.rolls), "day": len(self.days)}
        return {
            "tasks": tasks,
            "of_kind": counts,
            "days_stored": self.stored,
            "days_closed": self.closed,
            "days_open": self.open_days,
            "raw_bytes": self.raw_bytes,
            "bytes_about": self.bytes,
            "seconds_about": round(self.seconds, 2),
            "estimated_from_days": self.known,
        }


def plan_of(
    job: Job, symbols: Sequence[str], dates: Iterable[date], workers: int, clock: Clock = SYSTEM
) -> Plan:
    """The tasks for these symbols and dates; raises `UnknownSymbol`, and `SettingError` for none at all."""
    wanted = tuple(sorted(set(dates)))
    names = tuple(dict.fromkeys(symbols))
    if not names or not wanted:
        raise SettingError("a backfill of nothing", hint="name at least one symbol and one day")
    sizes = _Sizes(job.data, len(wanted))
    looks, rolls, days = list[Task](), list[Task](), list[Task]()
    closed = still_open = 0
    now_ns = clock.wall_ns()
    for symbol in names:
        found: list[Day] = []
        for on in wanted:
            day = job.data.calendar(symbol).on(on)
            closed += day is None
            if day is not None and day.end_ns > now_ns:
                still_open += 1
            elif day is not None:
                found.append(day)
        mine = tuple(day.date for day in found)
        if not mine:
            continue
        files = job.data.near(symbol, frozenset(mine))
        looks += [Task("look", symbol, sizes.of(file), file) for file in files]
        own = [Task("day", symbol, sizes.of_day(symbol, on), days=(on,)) for on in mine]
        rolls.append(Task("roll", symbol, sum(task.raw_bytes for task in own), days=mine))
        days += own
    days.sort(key=lambda task: -task.raw_bytes)  # the longest first: no worker is left with one at the end
    return _estimated(job, (looks, rolls, days), (closed, still_open), sizes, workers)


class _Sizes:
    """Bytes of raw files, as far as nobody has to read them to know."""

    def __init__(self, data: Dataset, dates: int) -> None:
        self._data, self._dates = data, dates
        self._by_date: dict[str, dict[date | None, int]] = {}

    def of(self, file: DataFile) -> int:
        return sum(_size(path) for path in self._data.parts(file))

    def of_day(self, symbol: str, on: date) -> int:
        """Of the files that a catalogue says are of a day; its share of them all where it says nothing."""
        by_date = self._by_date.get(symbol)
        if by_date is None:
            by_date = self._by_date[symbol] = {}
            for file in self._data.near(symbol, None):
                for day in file.days or (None,):
                    by_date[day] = by_date.get(day, 0) + self.of(file)
        return by_date.get(on, 0) + by_date.get(None, 0) // self._dates


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # whoever reads it says what is wrong


def _estimated(
    job: Job,
    tasks: tuple[list[Task], list[Task], list[Task]],
    left_out: tuple[int, int],
    sizes: _Sizes,
    workers: int,
) -> Plan:
    looks, rolls, days = tasks
    stored = _stored_days(job)
    missing = [task for task in days if (task.symbol, str(task.days[0])) not in stored]
    raw = sum(task.raw_bytes for task in missing)
    seconds_a_byte, bytes_a_byte, known = _rates(stored, sizes)
    longest = max((task.raw_bytes for task in missing), default=0)
    work = seconds_a_byte * raw * (1 + _BEFORE) + _SECONDS_A_DAY * len(missing)
    seconds = max(work / workers, seconds_a_byte * longest)
    return Plan(
        tuple(looks),
        tuple(rolls),
        tuple(days),
        len(days) - len(missing),
        *left_out,
        sum(task.raw_bytes for task in days),
        round(raw * bytes_a_byte),
        seconds,
        known,
    )


_Stored = dict[tuple[str, str], tuple[float, int]]


def _stored_days(job: Job) -> _Stored:
    """Seconds and bytes of the days of this set that the manifest knows, by symbol and day."""
    if not (job.place.folder / MANIFEST_NAME).exists():
        return {}
    manifest = Manifest(job.place.folder, read_only=True)
    try:
        rows = manifest.rows("fingerprint = ?", (job.feature_set.fingerprint,))
    finally:
        manifest.close()
    return {(row.symbol, row.day): (row.seconds, row.bytes) for row in rows}


def _rates(stored: _Stored, sizes: _Sizes) -> tuple[float, float, int]:
    """Seconds and stored bytes for one raw byte, and from how many days that is known."""
    raw, seconds, size, known = 0, 0.0, 0, 0
    for (symbol, day), (took, wrote) in list(stored.items())[:_SAMPLE]:
        try:
            read = sizes.of_day(symbol, date.fromisoformat(day))
        except FeaturePlaneError:  # of another dataset
            continue
        raw, seconds, size, known = raw + read, seconds + took, size + wrote, known + 1
    if not raw:
        return _SECONDS_A_BYTE, _BYTES_A_BYTE, 0
    return seconds / raw, size / raw, known
