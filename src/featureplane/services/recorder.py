"""Writes what came, and what was made of it, to disk: an ordinary subscriber of the service.

Leans on `recording` for names and forms. Never stops who it listens to: what cannot be written ends the
recording, with whole lines and frames, and is said.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from featureplane.clock import SYSTEM, Clock
from featureplane.errors import SettingError
from featureplane.features.frame import FeatureFrame
from featureplane.features.loading import to_toml
from featureplane.features.spec import FeatureSet
from featureplane.market.instruments import Instrument, instruments_text
from featureplane.market.sources.binance_plain import local_time
from featureplane.services.diary import NUMBERS_NS, Diary
from featureplane.services.recording import (
    ABOUT,
    INSTRUMENTS,
    START,
    Beginning,
    beginning_line,
    features_file,
    is_recording,
    raw_files,
    read_about,
    reconnect_line,
)
from featureplane.services.recording_files import FILE_BYTES_MAX, KEEP_BYTES, RecordedFiles
from featureplane.telemetry import log_event
from featureplane.units import NANOS_PER_SECOND
from featureplane.whole_file import WholeFile

__all__ = ["STATE_NS", "Recorder", "States", "check_folder"]

STATE_NS: Final = 300 * NANOS_PER_SECOND
"""By the messages' times: so often the state is written from which a replay can begin."""

States = Callable[[], Mapping[str, bytes] | None]
"""The state of each symbol between two messages; none of them before a stream, None where none can be had."""

_FLUSH_NS: Final = NANOS_PER_SECOND
_HELD_BYTES: Final = 1 << 16
_DAY_NS: Final = 86_400 * NANOS_PER_SECOND

_log = logging.getLogger(__name__)


def check_folder(
    folder: Path, source: str, instruments: Sequence[Instrument], fset: FeatureSet | None
) -> None:
    """Raise `SettingError` for a folder that cannot take this recording; nothing is written.

    A recording that is there is gone on with if it is of the same source, instruments and feature set, or of
    a set that became the active one while it was made.
    """
    at = next(one for one in (folder, *folder.parents) if one.exists())
    if not at.is_dir() or not os.access(at, os.W_OK):
        raise SettingError(f"--record {folder}: {at} cannot be written to", hint="name a folder of yours")
    if is_recording(folder):
        there, wanted = read_about(folder), _about(source, fset)
        if fset is not None and features_file(folder, fset.fingerprint).exists():
            there |= {name: wanted[name] for name in ("feature_set", "fingerprint")}
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


class Recorder:
    """Records messages and frames into a folder, which it makes.

    A file that has become larger than `bytes_max` is followed by another, and so is each UTC day of the
    messages' local times; the oldest files go where more than `keep_bytes` are left. Everything is handed to
    the system at least once a second while messages come. Frames of a candidate stand in files of
    their own. With `states`, that of the pipeline, each file of messages begins where a replay can, and so
    does a place every `STATE_NS`. `diary` writes numbers every `NUMBERS_NS` of the messages' time.

    Raises `SettingError` as `check_folder` does, `OSError` where the folder cannot be made.
    """

    name = "recorder"
    messages: int
    """Written so far."""

    local_ts_ns: int
    """Local time of the last one; 0 before the first."""

    def __init__(
        self,
        folder: Path,
        source: str,
        instruments: Sequence[Instrument],
        fset: FeatureSet | None,
        *,
        bytes_max: int = FILE_BYTES_MAX,
        keep_bytes: int = KEEP_BYTES,
        states: States | None = None,
        diary: Diary | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        check_folder(folder, source, instruments, fset)
        folder.mkdir(parents=True, exist_ok=True)
        if not is_recording(folder):
            (folder / INSTRUMENTS).write_text(instruments_text(instruments), encoding="utf-8")
            (folder / ABOUT).write_text(json.dumps(_about(source, fset)) + "\n", encoding="utf-8")
        self.folder, self._source = folder, source
        self._describe(fset)
        room = bytes_max, keep_bytes
        self._raw = RecordedFiles(folder, "raw", *room)
        self._frames = RecordedFiles(folder, "frames", *room)
        self._candidates = RecordedFiles(folder, "candidate", *room)
        self._states = RecordedFiles(folder, "state", *room)
        self._files = self._raw, self._frames, self._candidates, self._states
        self._state, self._diary, self._clock = states, diary, clock
        self._owes = False
        self._goes_on = bool(raw_files(folder))
        self._flushed_ns = clock.monotonic_ns()
        self._day_ends_ns = self.local_ts_ns = 0
        self._begun_ns = self._noted_ns = 0  # times of the last place where a replay can begin, and numbers
        self._calm_from = self._calm_until = 0  # between these nothing is due
        self._held = 0  # bytes
        if diary is not None:
            diary.follow(self)
        self.is_stopped = self._has_failed = False
        self.messages = 0

    @property
    def has_failed(self) -> bool:
        """Whether something could not be written."""
        return self._has_failed or (self._diary is not None and self._diary.has_failed)

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
        if self.is_stopped or not self.local_ts_ns:
            return
        try:
            self._note(reconnect_line(self.local_ts_ns, symbol, reason) + b"\n", self.local_ts_ns)
        except OSError as error:
            self._stop(error)

    def on_frames(self, frames: Sequence[FeatureFrame]) -> None:
        """Frames were made of the last message."""
        if self.is_stopped:
            return
        try:
            for frame in frames:
                packed = frame.pack()
                self._frames.add(packed)
                self._held += len(packed)
            if self._owes:
                self._owes = False
                self._frames.flush()
        except OSError as error:
            self._stop(error)

    def on_set(self, fset: FeatureSet) -> None:
        """Another set is the active one from the next message on."""
        if self.is_stopped:
            return
        try:
            self._describe(fset)
            if not self.messages and not self._goes_on:
                self._write_about()
        except OSError as error:
            self._stop(error)
        self._begun_ns = self._calm_until = 0  # WHY: a replay of what follows begins there

    def on_candidate(self, frames: Sequence[FeatureFrame]) -> None:
        """Frames of a candidate were made of the last message."""
        if not self.is_stopped:
            for frame in frames:
                self._candidates.add(frame.pack())

    def finish(self) -> None:
        """Write what is left."""
        if self.is_stopped:
            return
        self.is_stopped = True
        for files in self._files:
            try:
                files.close()
            except OSError as error:
                self._stop(error)

    def _describe(self, fset: FeatureSet | None) -> None:
        self._about = _about(self._source, fset)
        if fset is not None and not (path := features_file(self.folder, fset.fingerprint)).exists():
            path.write_text(to_toml(fset), encoding="utf-8")

    def _write_about(self) -> None:
        """WHY again: before the first message the set is another one where a rollout had promoted it."""
        with WholeFile(self.folder / ABOUT) as file:
            file.part.write_text(json.dumps(self._about) + "\n", encoding="utf-8")

    def _note(self, line: bytes, local_ts_ns: int | None) -> None:
        if local_ts_ns is None:
            read = local_time(line)
            local_ts_ns = self.local_ts_ns if read is None else read[0]
        self.local_ts_ns = local_ts_ns
        is_calm = self._calm_from <= local_ts_ns < self._calm_until
        if not is_calm:
            self._look(local_ts_ns)
        self._raw.add(line)
        self.messages += 1
        self._held += len(line)
        if not is_calm:
            self._note_numbers(local_ts_ns)
        now_ns = self._clock.monotonic_ns()
        self._owes = now_ns - self._flushed_ns >= _FLUSH_NS or self._held >= _HELD_BYTES
        if self._owes:  # WHY all at once, and this message's frames behind it: whoever reads finds both
            self._flushed_ns, self._held = now_ns, 0
            for files in self._files:
                files.flush()
            if self._raw.is_full:
                self._calm_until = 0

    def _look(self, local_ts_ns: int) -> None:
        """Where something may be due that is not at every message, before that is written."""
        if local_ts_ns >= self._day_ends_ns:
            self._turn_day(local_ts_ns)
        if not self.messages:
            self._begin(local_ts_ns)
        elif self._raw.is_full or abs(local_ts_ns - self._begun_ns) >= STATE_NS:
            self._mark(local_ts_ns)

    def _note_numbers(self, local_ts_ns: int) -> None:
        """Now and then; and when something is due again."""
        if abs(local_ts_ns - self._noted_ns) >= NUMBERS_NS:
            self._noted_ns = local_ts_ns
            if self._diary is not None:
                self._diary.note()
        self._calm_from = max(self._begun_ns - STATE_NS, self._noted_ns - NUMBERS_NS) + 1
        due = (self._day_ends_ns, self._begun_ns + STATE_NS, self._noted_ns + NUMBERS_NS)
        self._calm_until = min(due)

    def _turn_day(self, local_ts_ns: int) -> None:
        self._day_ends_ns = local_ts_ns // _DAY_NS * _DAY_NS + _DAY_NS
        day = f"{datetime.fromtimestamp(local_ts_ns // NANOS_PER_SECOND, UTC):%Y%m%d}"
        for files in self._files:
            files.turn_to(day)
        self._begun_ns = 0  # WHY: the messages of that day begin a file

    def _begin(self, local_ts_ns: int) -> None:
        """The first message of this service; one that goes on with a recording begins another stream."""
        self._begun_ns = local_ts_ns
        if self._goes_on:
            self._write_beginning(local_ts_ns, {})
            self._raw.add(reconnect_line(local_ts_ns, None, START) + b"\n")

    def _mark(self, local_ts_ns: int) -> None:
        """A place where a replay can begin, with all that was before the next message."""
        self._begun_ns = local_ts_ns
        states = None if self._state is None else self._state()
        if states is not None:
            self._write_beginning(local_ts_ns, states)

    def _write_beginning(self, local_ts_ns: int, states: Mapping[str, bytes]) -> None:
        raw, frames = self._raw.place(), self._frames.place()
        here = Beginning(local_ts_ns, raw, frames, self._about, dict(states))
        self._states.add(beginning_line(here))

    def _stop(self, error: OSError) -> None:
        self.is_stopped = self._has_failed = True
        log_event(
            _log,
            logging.ERROR,
            "the recording ends here, the service goes on",
            folder=str(self.folder),
            error=error.strerror or str(error),
            messages=self.messages,
        )
        for files in self._files:
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
