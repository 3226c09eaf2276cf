"""Ctrl-C, and being told to end: remembered, because an interrupt can get lost.

Python raises it wherever it happens to stand. A library that is just being loaded may swallow it or
turn it into another error, and NumPy's interface is looked up from Rust, where an exception is a panic;
so it waits until such code is left, long work asks `check` now and then, and the end is judged by `asked`.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Final, NoReturn

from featureplane.clock import SYSTEM

__all__ = ["asked", "check", "watch"]

_LATER_S: Final = 0.01
_LEAVING_NS: Final = 1_000_000_000
_NOT_HERE: Final = ("importlib", "numpy")

_numbers: list[int] = []
_raised: list[int] = []  # when


def watch() -> None:
    """Remember SIGINT and SIGTERM from now on, and raise them where that does no harm."""
    _numbers.clear()
    _raised.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _remember)


def asked() -> int:
    """The signal that asked for the end; 0 if none did."""
    return _numbers[0] if _numbers else 0


def check() -> None:
    """Raise again what was asked for and got lost."""
    if _numbers:
        _end()


def _remember(number: int, frame: FrameType | None) -> None:
    _numbers.append(number)
    if _is_bad_place(frame):
        later = threading.Timer(_LATER_S, _remind, [number])
        later.daemon = True
        later.start()
    elif not _raised or SYSTEM.monotonic_ns() - _raised[-1] > _LEAVING_NS:
        _end()  # else the command is leaving already, and is left to clean up


def _remind(number: int) -> None:
    if not _raised:
        os.kill(os.getpid(), number)


def _is_bad_place(frame: FrameType | None) -> bool:
    """Whether a library that is being loaded, or NumPy, stands between here and our own code."""
    while frame is not None:
        room = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if room in {"featureplane", *_NOT_HERE}:
            return room in _NOT_HERE
        frame = frame.f_back
    return False


def _end() -> NoReturn:
    """Leave by the front door, so that nothing half-written is left."""
    _raised.append(SYSTEM.monotonic_ns())
    raise KeyboardInterrupt
