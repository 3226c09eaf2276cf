"""The state of a rollout in a file: whole or not at all, one change at a time.

JSON with a digest of its own: what was damaged, or changed by hand, is refused and never guessed at. A
change is written beside the file, brought to the disk and renamed over it, under a lock, and only where
nobody else has changed it meanwhile. Leans on `rollout`.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from featureplane.clock import SYSTEM
from featureplane.errors import FeaturePlaneError, SettingError, StateError, UnreadableFile
from featureplane.release.rollout import Action, Cause, Phase, RolloutState, Transition, Version
from featureplane.units import NANOS_PER_MS, NANOS_PER_SECOND
from featureplane.whole_file import WholeFile

__all__ = ["RolloutFile", "digest_of", "packed"]

_FORMAT: Final = 1
_WAIT_NS: Final = 2 * NANOS_PER_SECOND
_BYTES_MAX: Final = 64 << 20
_WHAT: Final = "the state of a rollout"
_HINT: Final = "put a whole copy back; without the file a rollout begins anew, and knows no bad versions"


class RolloutFile:
    """The file of one rollout. Where there is none, the rollout is `disabled` and has no history."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> RolloutState:
        """What it holds; `UnreadableFile` for a file that is damaged or none."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_BYTES_MAX + 1)
        except (FileNotFoundError, NotADirectoryError):
            return RolloutState()
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from None
        try:
            return _state(json.loads(data))
        except FeaturePlaneError as error:
            raise self._unreadable(str(error)) from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._unreadable(f"{type(error).__name__}: {error}") from None

    def blocked(self) -> str | None:
        """Why nothing can be written here, whoever makes room: below something that is no folder."""
        wrong = next((one for one in self.path.parents if one.exists() and not one.is_dir()), None)
        return None if wrong is None else f"{self.path} cannot be written: {wrong} is no folder"

    def change(
        self,
        step: Callable[[RolloutState], RolloutState],
        act: Callable[[RolloutState], None] = lambda _: None,
    ) -> RolloutState:
        """Read, let `step` make the next state, and write that; nobody else changes it meanwhile.

        `act` is called with the next state when that stands on the disk and is not yet the file's: where it
        raises, nothing was changed. Raises what `read`, `step` and `act` raise, and `StateError` where it
        cannot be written.
        """
        with self._alone():
            before = self.read()
            after = step(before)
            if after != before:
                self._write(packed(after), lambda: act(after))
            return after

    def _write(self, data: bytes, act: Callable[[], None]) -> None:
        try:
            file = WholeFile(self.path)
        except SettingError as error:
            raise self._frozen(str(error)) from None
        try:
            _to_disk(file.part, data)
        except OSError as error:
            file.discard()
            raise self._frozen(error.strerror or str(error)) from None
        try:
            act()
        except BaseException:
            file.discard()
            raise
        try:
            file.publish()
        except SettingError as error:
            raise self._frozen(str(error)) from None

    def stamp(self) -> tuple[int, int, int] | None:
        """What tells one content from another without reading it; None where there is no file."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._frozen(error.strerror or str(error)) from None
        try:
            self._wait_for(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _wait_for(self, descriptor: int) -> None:
        """Have the lock, or refuse: whoever holds it longer than a change takes is stuck."""
        until_ns, never = SYSTEM.monotonic_ns() + _WAIT_NS, threading.Event()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if SYSTEM.monotonic_ns() > until_ns:
                    raise self._frozen(f"somebody keeps its lock: {error.strerror}") from None
                SYSTEM.wait(NANOS_PER_MS, never)
            else:
                return

    def _frozen(self, why: str) -> StateError:
        hint = "nothing was changed; make room, or the place writable, and ask again"
        return StateError(
            f"the rollout is frozen: its state cannot be written to {self.path} ({why})", hint=hint
        )

    def _unreadable(self, found: str) -> UnreadableFile:
        return UnreadableFile(str(self.path), found, _WHAT, hint=_HINT)


def _to_disk(path: Path, data: bytes) -> None:
    """What has no room is found out here, before anybody acts on it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def packed(state: RolloutState) -> bytes:
    """A state as the content of its file."""
    content = dataclasses.asdict(state)
    table = {"format": _FORMAT, "sha256": digest_of(content), "state": content}
    return (json.dumps(table, indent=1, allow_nan=False) + "\n").encode()


def digest_of(content: Mapping[str, Any]) -> str:
    """The digest that a file has beside its content."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _state(table: Any) -> RolloutState:
    """The state that a file's content says; raises whatever shows that it says none."""
    if not isinstance(table, dict) or table.keys() != {"format", "sha256", "state"}:
        raise ValueError("no format, sha256 and state")
    if table["format"] != _FORMAT:
        raise ValueError(f"format {table['format']!r}")
    content = table["state"]
    if digest_of(content) != table["sha256"]:
        raise ValueError("its digest is another one: damaged, or changed by hand")
    if content.keys() != {one.name for one in dataclasses.fields(RolloutState)}:
        raise ValueError("other fields than a state has")
    return RolloutState(
        revision=content["revision"],
        phase=Phase(content["phase"]),
        active=_version(content["active"]),
        candidate=_version(content["candidate"]),
        canary_symbols=tuple(content["canary_symbols"]),
        canary_strategies=tuple(content["canary_strategies"]),
        good=tuple(Version(**one) for one in content["good"]),
        bad=tuple(content["bad"]),
        held=None if content["held"] is None else Phase(content["held"]),
        began=content["began"],
        history=tuple(_transition(one) for one in content["history"]),
    )


def _version(content: Mapping[str, Any] | None) -> Version | None:
    return None if content is None else Version(**content)


def _transition(content: Mapping[str, Any]) -> Transition:
    words: dict[str, Any] = {
        "action": Action(content["action"]),
        "before": Phase(content["before"]),
        "after": Phase(content["after"]),
        "cause": None if content["cause"] is None else Cause(content["cause"]),
    }
    return Transition(**{**content, **words})
