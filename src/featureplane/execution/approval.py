"""`Approved`: an order that passed the risk check, as a type of its own.

Forgetting the check is then an error of types, and going around it one of values: a venue opens
an approval before it uses it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, TypeVar

from featureplane.errors import StateError
from featureplane.execution.limits import RefusalCode

__all__ = ["Approved", "Refused"]

T = TypeVar("T")


class _Seal:
    """Known to the risk check alone, and good for one item."""

    __slots__ = ("item",)

    def __init__(self, item: object) -> None:
        self.item = item


@dataclass(frozen=True, slots=True)
class Approved(Generic[T]):
    """Made by `RiskCheck.review` alone; venues accept nothing else.

    Anything that only looks like one raises `StateError` when it is made or when a venue opens it.
    """

    item: T
    _seal: Any = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse a forgery at once."""
        self.open()

    def open(self) -> T:
        """The item; raises `StateError` if the risk check did not approve this very item."""
        seal = getattr(self, "_seal", None)
        if type(self) is not Approved or type(seal) is not _Seal or seal.item is not self.item:
            raise StateError("an approval that no risk check made", hint="ask `RiskCheck.review`")
        return self.item


@dataclass(frozen=True, slots=True)
class Refused(Generic[T]):
    """What the risk check refused, and why.

    `limit` is what would have passed and `actual` what was found, in the unit that the table of
    limits gives; None where there is no number.
    """

    item: T
    code: RefusalCode
    limit: Decimal | None
    actual: Decimal | None


def _approve(item: T) -> Approved[T]:
    """For `RiskCheck.review`."""
    return Approved(item, _Seal(item))
