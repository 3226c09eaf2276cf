"""Ctrl-C, and being told to end: remembered, because an interrupt can get lost.

Python raises it wherever it happens to stand. A library that is just being loaded may swallow it or
turn it into another error; so long work asks `check` now and then, and the end is judged by `asked`.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

__all__ = ["asked", "check", "watch"]

_numbers: list[int] = []


def watch() -> None:
    """Remember SIGINT and SIGTERM from now on, and raise them as before."""
    _numbers.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _remember)


def asked() -> int:
    """The signal that asked for the end; 0 if none did."""
    return _numbers[0] if _numbers else 0


def check() -> None:
    """Raise again what was asked for and got lost."""
    if _numbers:
        _end()


def _remember(number: int, _frame: FrameType | None) -> None:
    _numbers.append(number)
    _end()


def _end() -> NoReturn:
    """Leave by the front door, so that nothing half-written is left."""
    raise KeyboardInterrupt
