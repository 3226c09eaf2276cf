"""What a recorded service said of itself: its log, its numbers now and then, and what it was started with.

Beside the messages and frames of the `recorder`, which tells it the time. Leans on `recording_files` and
`telemetry`. Like the recorder it stops nobody: what cannot be written ends it, and is said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from featureplane.clock import SYSTEM, Clock
from featureplane.services.recording import RUNS
from featureplane.services.recording_files import FILE_BYTES_MAX, KEEP_BYTES, RecordedFiles
from featureplane.telemetry import Picture, json_text, label_names, log_also, log_event
from featureplane.units import NANOS_PER_SECOND

__all__ = ["NUMBERS_NS", "Diary"]

NUMBERS_NS: Final = 10 * NANOS_PER_SECOND
"""By the messages' times: so often the numbers are written."""

_log = logging.getLogger(__name__)


class Place(Protocol):
    """How far a recording is."""

    messages: int
    local_ts_ns: int


class Diary:
    """Keeps log and numbers in the folder of a recording, from `with` to its end.

    `numbers` gathers the picture of the service, between two messages; `about` is what it was started with.
    Each line says when it was written, and the time of the message before it. The log is what the service
    logs anyway, at its level, written line by line: a crash loses nothing of it.
    """

    def __init__(
        self,
        folder: Path,
        numbers: Callable[[], Picture],
        about: Mapping[str, Any],
        *,
        bytes_max: int = FILE_BYTES_MAX,
        keep_bytes: int = KEEP_BYTES,
        clock: Clock = SYSTEM,
    ) -> None:
        self._folder, self._picture, self._about, self._clock = folder, numbers, dict(about), clock
        self._metrics = RecordedFiles(folder, "metrics", bytes_max, keep_bytes)
        self._lines = RecordedFiles(folder, "log", bytes_max, keep_bytes)
        self._stack = ExitStack()
        self._place: Place | None = None
        self._is_open = self._has_begun = False
        self.has_failed = False

    def __enter__(self) -> Self:
        """Begin; from now on the log stands here too."""
        self._is_open = True
        with suppress(OSError):  # WHY: who records has been refused a folder that cannot be had before
            self._folder.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(log_also(self._keep))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the last numbers, and end; of the log too."""
        if self._is_open:
            self._note()
        self._stack.close()
        self._is_open = False
        for files in (self._metrics, self._lines):
            with suppress(OSError):
                files.close()

    def follow(self, place: Place) -> None:
        """Say of each line behind which message it was written; before the first."""
        self._place = place

    def note(self) -> None:
        """Write the numbers down, between two messages; with the first ones what was started."""
        if self._is_open and not self._has_begun:
            self._has_begun = True
            self._tell_start()
        self._note()

    def _tell_start(self) -> None:
        """What was started, in a line that stays."""
        try:
            with (self._folder / RUNS).open("ab") as stream:
                stream.write(self._line(self._about))
        except OSError as error:
            self._stop(error)

    def _note(self) -> None:
        if not self._is_open:
            return
        try:
            self._metrics.turn_to(self._day(self._local_ts_ns or self._clock.wall_ns()))
            self._metrics.add(self._line({"metrics": _plain(self._picture())}))
            self._metrics.flush()
        except OSError as error:
            self._stop(error)

    def _keep(self, record: Mapping[str, object]) -> None:
        """A line of the log; from any thread, one at a time."""
        if not self._is_open:
            return
        try:
            self._lines.turn_to(self._day(self._clock.wall_ns()))
            self._lines.add(self._line(record))
            self._lines.flush()
        except OSError as error:
            self._stop(error)

    def _line(self, what: Mapping[str, object]) -> bytes:
        wall = datetime.fromtimestamp(self._clock.wall_ns() / NANOS_PER_SECOND, UTC)
        when = {"time": wall.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
        message = 0 if self._place is None else self._place.messages
        place = {"local_ts_ns": self._local_ts_ns, "after_message": message}
        return json_text({**when, **place, **what}).encode() + b"\n"

    @property
    def _local_ts_ns(self) -> int | None:
        return (self._place.local_ts_ns or None) if self._place is not None else None

    @staticmethod
    def _day(ns: int) -> str:
        return f"{datetime.fromtimestamp(ns // NANOS_PER_SECOND, UTC):%Y%m%d}"

    def _stop(self, error: OSError) -> None:
        self._is_open, self.has_failed = False, True
        log_event(
            _log,
            logging.ERROR,
            "log and numbers are recorded no more, the service goes on",
            folder=str(self._folder),
            error=error.strerror or str(error),
        )


def _plain(picture: Picture) -> dict[str, list[Any]]:
    """A picture as JSON: series by metric, each its labels and a number, or counts and sum of a histogram."""
    out: dict[str, list[Any]] = {}
    for name, series in picture.items():
        names = label_names(name)
        out[name] = [
            [
                dict(zip(names, labels, strict=True)),
                {"counts": number[0], "sum": number[1]} if isinstance(number, tuple) else number,
            ]
            for labels, number in series.items()
        ]
    return out
