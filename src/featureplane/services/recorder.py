"""Writes what came, and what was made of it, to disk: an ordinary subscriber of the service.

Leans on `recording` for names and forms. Never stops who it listens to: what cannot be written ends the
recording, with whole lines and frames, and is said.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from featureplane.clock import SYSTEM, Clock
from featureplane.errors import SettingError
from featureplane.features.frame import FeatureFrame
from featureplane.features.spec import FeatureSet
from featureplane.market.instruments import Instrument, instruments_text
from featureplane.market.sources.binance_plain import local_time
from featureplane.services.recording import (
    ABOUT,
    INSTRUMENTS,
    SUFFIXES,
    Kind,
    is_recording,
    read_about,
    reconnect_line,
)
from featureplane.telemetry import log_event
from featureplane.units import NANOS_PER_SECOND

__all__ = ["FILE_BYTES_MAX", "Recorder", "check_folder"]

FILE_BYTES_MAX: Final = 256 << 20
"""A file that has become larger is followed by another one."""

_BUFFER_BYTES: Final = 1 << 16
_FLUSH_NS: Final = NANOS_PER_SECOND
_DAY_NS: Final = 86_400 * NANOS_PER_SECOND

_log = logging.getLogger(__name__)


def check_folder(
    folder: Path, source: str, instruments: Sequence[Instrument], fset: FeatureSet | None
) -> None:
    """Raise `SettingError` for a folder that cannot take this recording; nothing is written.

    A recording that is there is gone on with if it is of the same source, instruments and feature set.
    """
    at = next(one for one in (folder, *folder.parents) if one.exists())
    if not at.is_dir() or not os.access(at, os.W_OK):
        raise SettingError(f"--record {folder}: {at} cannot be written to", hint="name a folder of yours")
    if is_recording(folder):
        there, wanted = read_about(folder), _about(source, fset)
        named = next((key for key in wanted if there.get(key) != wanted[key]), None)
        known = (folder / INSTRUMENTS).read_text(encoding="utf-8") if (folder / INSTRUMENTS).exists() else ""
        if named is None and known != instruments_text(instruments):
            named = "instruments"
        if named is not None:
            hint = "record into another folder"
            raise SettingError(f"--record {folder}: its recording has another {named}", hint=hint)
    elif folder.exists() and any(folder.iterdir()):
        raise SettingError(f"--record {folder}: not empty, and no recording", hint="name an empty folder")


def _about(source: str, fset: FeatureSet | None) -> dict[str, str | None]:
    return {
        "source": source,
        "feature_set": None if fset is None else fset.feature_set_id,
        "fingerprint": None if fset is None else fset.fingerprint,
    }


class _Files:
    """The files of one kind: appended to, one after the other, whole pieces only."""

    def __init__(self, folder: Path, kind: Kind, bytes_max: int) -> None:
        self._folder, self._kind, self._bytes_max = folder, kind, bytes_max
        self._buffer = bytearray()
        self._file = -1
        self._written = 0
        self._day = ""
        self.bytes = 0

    def add(self, piece: bytes) -> None:
        """Take a piece that is to be found whole, or not at all."""
        self._buffer += piece
        if len(self._buffer) >= _BUFFER_BYTES:
            self.flush()

    def turn_to(self, day: str) -> None:
        """Write the files of that day from now on; days do not go back."""
        if day > self._day:
            self.close()
            self._day = day

    def flush(self) -> None:
        """Hand everything to the system; raises `OSError`, with whole pieces in the file."""
        if not self._buffer:
            return
        if self._file >= 0 and self._written >= self._bytes_max:
            self._end_file()
        if self._file < 0:
            self._open()
        self._write()

    def _write(self) -> None:
        left = memoryview(self._buffer)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            with suppress(OSError):  # it cannot be made worse
                os.ftruncate(self._file, self._written)
            raise
        finally:
            left.release()
        self._written += len(self._buffer)
        self.bytes += len(self._buffer)
        self._buffer.clear()

    def _open(self) -> None:
        taken = sorted(self._folder.glob(f"{self._kind}-{self._day}-*{SUFFIXES[self._kind]}"))
        number = int(taken[-1].stem.rpartition("-")[2]) + 1 if taken else 1
        path = self._folder / f"{self._kind}-{self._day}-{number:06d}{SUFFIXES[self._kind]}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._written = 0

    def _end_file(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def abandon(self) -> None:
        """Leave what was not written."""
        self._buffer.clear()
        self._end_file()

    def close(self) -> None:
        """Write what is left, and end the file."""
        try:
            self.flush()
        finally:
            self._end_file()


class Recorder:
    """Records messages and frames into a folder, which it makes.

    A file that has become larger than `bytes_max` is followed by another, and so is each UTC day of the
    messages' local times. Everything is handed to the system at least once a second while messages come.

    Raises `SettingError` as `check_folder` does, `OSError` where the folder cannot be made.
    """

    name = "recorder"

    def __init__(
        self,
        folder: Path,
        source: str,
        instruments: Sequence[Instrument],
        fset: FeatureSet | None,
        *,
        bytes_max: int = FILE_BYTES_MAX,
        clock: Clock = SYSTEM,
    ) -> None:
        check_folder(folder, source, instruments, fset)
        folder.mkdir(parents=True, exist_ok=True)
        if not is_recording(folder):
            (folder / INSTRUMENTS).write_text(instruments_text(instruments), encoding="utf-8")
            (folder / ABOUT).write_text(json.dumps(_about(source, fset)) + "\n", encoding="utf-8")
        self.folder = folder
        self._raw = _Files(folder, "raw", bytes_max)
        self._frames = _Files(folder, "frames", bytes_max)
        self._clock = clock
        self._flushed_ns = clock.monotonic_ns()
        self._day_ends_ns = self._local_ts_ns = 0
        self.is_stopped = self.has_failed = False
        self.messages = 0

    def on_message(self, data: bytes, local_ts_ns: int | None, symbol: str | None) -> None:
        """A message came, and was not yet taken."""
        if self.is_stopped:
            return
        try:
            self._note(_line(data, local_ts_ns, symbol), local_ts_ns)
        except OSError as error:
            self._stop(error)

    def on_reconnect(self, symbol: str | None, reason: str) -> None:
        """What comes next comes over another connection."""
        if self.is_stopped or not self._local_ts_ns:
            return
        try:
            self._note(reconnect_line(self._local_ts_ns, symbol, reason) + b"\n", self._local_ts_ns)
        except OSError as error:
            self._stop(error)

    def on_frames(self, frames: Sequence[FeatureFrame]) -> None:
        """Frames were made of the last message."""
        if self.is_stopped:
            return
        try:
            for frame in frames:
                self._frames.add(frame.pack())
        except OSError as error:
            self._stop(error)

    def finish(self) -> None:
        """Write what is left."""
        if self.is_stopped:
            return
        self.is_stopped = True
        for files in (self._raw, self._frames):
            try:
                files.close()
            except OSError as error:
                self._stop(error)

    def _note(self, line: bytes, local_ts_ns: int | None) -> None:
        if local_ts_ns is None:
            read = local_time(line)
            local_ts_ns = self._local_ts_ns if read is None else read[0]
        self._local_ts_ns = local_ts_ns
        if local_ts_ns >= self._day_ends_ns:
            self._day_ends_ns = local_ts_ns // _DAY_NS * _DAY_NS + _DAY_NS
            day = f"{datetime.fromtimestamp(local_ts_ns // NANOS_PER_SECOND, UTC):%Y%m%d}"
            self._raw.turn_to(day)
            self._frames.turn_to(day)
        self._raw.add(line)
        self.messages += 1
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._flushed_ns >= _FLUSH_NS:
            self._flushed_ns = now_ns
            self._raw.flush()
            self._frames.flush()

    def _stop(self, error: OSError) -> None:
        self.is_stopped = self.has_failed = True
        log_event(
            _log,
            logging.ERROR,
            "the recording ends here, the service goes on",
            folder=str(self.folder),
            error=error.strerror or str(error),
            messages=self.messages,
        )
        for files in (self._raw, self._frames):
            with suppress(OSError):
                files.abandon()


def _line(data: bytes, local_ts_ns: int | None, symbol: str | None) -> bytes:
    """A message as a line of a recording, with its time and its symbol in it."""
    text = data.rstrip(b"\r\n")
    if local_ts_ns is None:
        return text + b"\n"
    if b"\n" in text or b"\r" in text:  # JSON may have them between its tokens, a line may not
        text = text.replace(b"\n", b" ").replace(b"\r", b" ")
    if symbol is not None and text.startswith(b"{") and not text.startswith(b"{}"):
        text = b'{"symbol":%s,%s' % (json.dumps(symbol).encode(), text[1:])
    return b"%019d %s\n" % (local_ts_ns, text)
