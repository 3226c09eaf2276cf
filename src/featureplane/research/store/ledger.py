"""What all processes of a store have counted together, since there is a store.

    <root>/metrics/PID-RANDOM.counts    counts of one process (`tally`)
    <root>/metrics/total.json           counts of processes that have ended, folded into one
    <root>/metrics/minutes-DAY.txt      requests by minute, good and bad, a line a minute and process

A crash at any moment loses no count and counts none twice: the total names what went into it until that is
removed, and a minute that stands there twice is the same one. Leans on `tally`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from featureplane.clock import SYSTEM, Clock
from featureplane.research.store.tally import SUFFIX, is_idle, read_tally
from featureplane.telemetry import log_event
from featureplane.units import NANOS_PER_SECOND

__all__ = ["BAD", "FOLDER", "GOOD", "MINUTE", "Minutes", "fold", "merged", "minutes_since", "note_minute"]

FOLDER: Final = "metrics"
MINUTE, GOOD, BAD = "minute", "minute|good", "minute|bad"
"""The minute a process is in, since 1970, and its requests in it; no counts of the whole."""

KEEP_DAYS: Final = 92
"""So long the minutes of a day are kept."""

_TOTAL: Final = "total.json"
_LOCK: Final = ".lock"
_MINUTES: Final = "minutes-"
_DAY_MINUTES: Final = 1_440
_PART_NS: Final = 3_600 * NANOS_PER_SECOND

Minutes = dict[int, tuple[int, int]]
"""Good and bad requests by minute since 1970."""

_log: Final = logging.getLogger("featureplane.store")


def merged(folder: Path) -> Counter[str]:
    """The sum of what all processes counted."""
    with _locked(folder, fcntl.LOCK_SH):
        total, folded = _total(folder)
        for _, counts in _living(folder, folded):
            total.update(counts)
    for name in (MINUTE, GOOD, BAD):
        total.pop(name, None)
    return total


def fold(folder: Path, *, above: int = 0, clock: Clock = SYSTEM) -> int:
    """Add the counts of processes that have ended to the total, and remove their files; how many it were.

    Nothing is done while there are at most `above` files. Raises `OSError`.
    """
    if len(list(folder.glob(f"*{SUFFIX}"))) <= above:
        return 0
    with _locked(folder, fcntl.LOCK_EX):
        total, folded = _total(folder)
        _remove(folder, folded)
        ended = [(name, counts) for name, counts in _living(folder, set(), ended=True)]
        for name, counts in ended:
            note_minute(folder, name, counts.pop(MINUTE, 0), counts.pop(GOOD, 0), counts.pop(BAD, 0))
            total.update(counts)
        if ended:
            names = [name for name, _ in ended]
            _write(folder, {"counts": dict(sorted(total.items())), "folded": names})
            _remove(folder, names)
        _forget_old(folder, clock.wall_ns())
    return len(ended)


def note_minute(folder: Path, name: str, minute: int, good: int, bad: int) -> None:
    """Write down what a process counted in a minute; raises `OSError`."""
    if good or bad:
        path = folder / f"{_MINUTES}{_day(minute)}.txt"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, f"{minute} {name} {good} {bad}\n".encode())
        finally:
            os.close(descriptor)


def minutes_since(folder: Path, first: int) -> Minutes:
    """The requests of each minute from that one on in which there were any, those of now as well."""
    found: dict[tuple[int, str], tuple[int, int]] = {}
    with _locked(folder, fcntl.LOCK_SH):
        _, folded = _total(folder)
        for name, counts in _living(folder, folded):
            found[counts[MINUTE], name] = counts[GOOD], counts[BAD]
        for path in sorted(folder.glob(f"{_MINUTES}*.txt")):
            if path.stem.removeprefix(_MINUTES) >= _day(first):
                found.update(_noted(path))
    sums: Minutes = {}
    for (minute, _), (good, bad) in sorted(found.items()):
        if minute >= first and (good or bad):
            before = sums.get(minute, (0, 0))
            sums[minute] = before[0] + good, before[1] + bad
    return sums


def _noted(path: Path) -> Iterator[tuple[tuple[int, str], tuple[int, int]]]:
    with suppress(FileNotFoundError):
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            with suppress(ValueError):  # a line that a full disk cut off
                minute, name, good, bad = line.split(" ")
                yield (int(minute), name), (int(good), int(bad))


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """A root that cannot be written is read without: nobody folds there."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        if how == fcntl.LOCK_EX:
            raise
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks: then no file is idle, and none is folded
            fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _total(folder: Path) -> tuple[Counter[str], set[str]]:
    try:
        said: Any = json.loads((folder / _TOTAL).read_bytes())
        return Counter({str(name): int(count) for name, count in said["counts"].items()}), set(said["folded"])
    except FileNotFoundError:
        return Counter(), set()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log_event(_log, logging.WARNING, "the sum of counts cannot be read; it begins anew", error=str(error))
        return Counter(), set()


def _living(folder: Path, without: set[str], *, ended: bool = False) -> Iterator[tuple[str, Counter[str]]]:
    """Files of counts that can be read, or only those in which nobody counts any more."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.name in without:
            continue
        with suppress(OSError), path.open("rb") as stream:
            if ended and not is_idle(stream.fileno()):
                continue
            try:
                counts = read_tally(stream.read())
            except ValueError as error:
                log_event(_log, logging.WARNING, f"{path.name} is left out: {error}")
                counts = Counter()
            yield path.name, counts


def _write(folder: Path, said: dict[str, Any]) -> None:
    part = folder / f".{_TOTAL}.{os.getpid()}"
    with part.open("wb") as stream:
        stream.write(json.dumps(said).encode())
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(folder / _TOTAL)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path, names: list[str] | set[str]) -> None:
    for name in names:
        (folder / Path(name).name).unlink(missing_ok=True)


def _forget_old(folder: Path, now_ns: int) -> None:
    oldest = _day(now_ns // (60 * NANOS_PER_SECOND) - KEEP_DAYS * _DAY_MINUTES)
    for path in folder.glob(f"{_MINUTES}*.txt"):
        if path.stem.removeprefix(_MINUTES) < oldest:
            path.unlink(missing_ok=True)
    for path in folder.glob(".*.new"):  # of a process that ended while it began
        with suppress(OSError):
            if now_ns - path.stat().st_mtime_ns > _PART_NS:
                path.unlink()


def _day(minute: int) -> str:
    return f"{datetime.fromtimestamp(minute * 60, UTC):%Y%m%d}"
