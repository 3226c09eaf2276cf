"""What a caller hands over is what the function takes, or the error says what would be.

Asked once where a caller comes in, never on the way of an event.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, SupportsIndex, TypeVar

from featureplane.errors import WrongArgument

__all__ = ["as_path", "as_paths", "each", "expect", "whole_number"]

T = TypeVar("T")

_PATH: Final = "a path: text or a `pathlib.Path`"
_PATHS: Final = "a path or several"
_GIVE_PATHS: Final = "give a file's name, or a list of names"


def expect(
    argument: str, given: object, kind: type | tuple[type, ...], expected: str, *, hint: str | None = None
) -> None:
    """Raise `WrongArgument` unless `given` is of `kind`."""
    if not isinstance(given, kind):
        raise WrongArgument(argument, given, expected, hint=hint)


def each(
    argument: str, given: Iterable[T], kind: type[T], expected: str, *, hint: str | None = None
) -> Iterator[T]:
    """The items as they come; raises `WrongArgument` for what has none, and at the first of another kind."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise WrongArgument(argument, given, expected, hint=hint)
    return _checked(argument, given, kind, expected, hint)


def _checked(
    argument: str, given: Iterable[T], kind: type[T], expected: str, hint: str | None
) -> Iterator[T]:
    for place, item in enumerate(given):
        expect(f"{argument}[{place}]", item, kind, expected, hint=hint)
        yield item


def as_path(argument: str, given: object) -> Path:
    """A path; raises `WrongArgument` for what is none."""
    if not isinstance(given, str | os.PathLike):
        raise WrongArgument(argument, given, _PATH, hint="give a file's name")
    return Path(given)


def as_paths(argument: str, given: Any, *also: type) -> tuple[Any, ...]:
    """One path or several, as they were given; `also` are what else may stand in the place of one."""
    kinds = (str, os.PathLike, *also)
    if isinstance(given, kinds):
        return (given,)
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise WrongArgument(argument, given, _PATHS, hint=_GIVE_PATHS)
    items = tuple(given)
    for place, item in enumerate(items):
        expect(f"{argument}[{place}]", item, kinds, _PATH, hint=_GIVE_PATHS)
    return items


def whole_number(argument: str, given: object, expected: str, *, least: int) -> None:
    """Raise `WrongArgument` unless `given` is an integer, NumPy's too, of at least `least`."""
    if not isinstance(given, SupportsIndex) or isinstance(given, bool) or given.__index__() < least:
        raise WrongArgument(argument, given, expected)
