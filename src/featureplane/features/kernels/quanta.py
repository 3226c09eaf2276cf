"""Windows of time, counted in quanta (rule 8).

A window of W is cut into a thousand quanta of q = W / 1000. At clock c it is [e, c], where the edge
e = (floor(c / q) - 999) q is the beginning of the first of the thousand quanta that end with the
clock's own. So what is inside can be told from the numbers of the quanta alone, and a window is at
most a thousand sums, however much happens in it.

Used by `window`, `returns` and `averages`. Twin: `kernels/quanta.rs`, which keeps the sum of the
window and takes out what the edge passes; here it is added up anew, item by item, for every other set
of quanta behind the newest.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import Final, Literal

from featureplane.features.kernels.state import StateReader, StateWriter

__all__ = ["QUANTA", "Coverage", "Kind", "Quanta", "check_span"]

QUANTA: Final = 1000
"""Quanta in a window."""

Kind = Literal["state", "flow"]
"""What an input means: a state has a value between its advances, a flow counts once at each."""

Word = Literal["i64", "i128", "u64"]


class Coverage:
    """Where windows begin, and since when the input has been watched.

    A window is covered when the watch began before its edge: for a flow with the first step after
    the reset, for a state with its first defined value.

    >>> watch = Coverage(1_000_000, "flow")
    >>> watch.step(5_000)
    >>> watch.first(1_005_000), watch.covers(1_005_000)
    (6, True)
    >>> watch.first(1_004_999), watch.covers(1_004_999)
    (5, False)
    """

    __slots__ = ("_kind", "_since", "quantum_ns")

    def __init__(self, window_ns: int, kind: Kind) -> None:
        self.quantum_ns, rest = divmod(window_ns, QUANTA)
        if rest or self.quantum_ns <= 0:
            raise ValueError(f"window of {window_ns} ns, expected a positive multiple of {QUANTA}")
        self._kind = kind
        self.reset()

    def reset(self) -> None:
        """Watch anew."""
        self._since: int | None = None

    def index(self, clock_ns: int) -> int:
        """Number of the quantum a clock lies in."""
        return clock_ns // self.quantum_ns

    def first(self, clock_ns: int) -> int:
        """Number of the first quantum inside the window that ends at `clock_ns`."""
        return self.index(clock_ns) - (QUANTA - 1)

    def step(self, clock_ns: int) -> None:
        """A step begins."""
        if self._since is None and self._kind == "flow":
            self._since = clock_ns

    def value(self, clock_ns: int) -> None:
        """A defined value was seen."""
        if self._since is None and self._kind == "state":
            self._since = clock_ns

    def covers(self, clock_ns: int) -> bool:
        """Whether the watch began before the edge of the window that ends at `clock_ns`."""
        return self._since is not None and self._since < self.first(clock_ns) * self.quantum_ns

    def save(self, out: StateWriter) -> None:
        """One optional clock."""
        out.option_i64(self._since)

    def load(self, state: StateReader) -> None:
        """Take what `save` wrote."""
        self._since = state.option_i64()


class Quanta:
    """Sums of integers over the quanta of a window, several side by side.

    `words` names the columns by the width in which each is saved.

    >>> sums = Quanta(1_000_000, "flow", ("i128",))
    >>> for x in range(3):
    ...     sums.add(sums.watch.index(400_000 * x), x)
    >>> sums.total(0, 800_000), sums.total(0, 1_400_000)
    (3, 2)
    """

    __slots__ = ("_behind", "_columns", "_keys", "_words", "watch")

    def __init__(self, window_ns: int, kind: Kind, words: tuple[Word, ...]) -> None:
        self.watch = Coverage(window_ns, kind)
        self._words = words
        self.reset()

    @property
    def keys(self) -> tuple[int, ...]:
        """Numbers of the quanta kept, ascending."""
        return tuple(self._keys)

    def reset(self) -> None:
        """Forget everything."""
        self.watch.reset()
        self._keys: list[int] = []
        self._columns: tuple[list[int], ...] = tuple([] for _ in self._words)
        self._changed()

    def _changed(self) -> None:
        # Of each column the first quantum added up last, and the sum from it to the newest, without that.
        self._behind: list[tuple[int, int]] = [(-1, 0)] * len(self._words)

    def add(self, index: int, *items: int) -> None:
        """Add to quantum `index`, the newest so far; forget what its window does not hold."""
        if not self._keys or self._keys[-1] != index:
            self.forget(index - (QUANTA - 1))
            self._changed()
            self._keys.append(index)
            for column in self._columns:
                column.append(0)
        for column, item in zip(self._columns, items, strict=True):
            column[-1] += item

    def forget(self, first: int) -> None:
        """Forget what lies before quantum `first`."""
        old = bisect_left(self._keys, first)
        if old:
            self._changed()
            for column in (self._keys, *self._columns):
                del column[:old]

    def total(self, column: int, clock_ns: int) -> int:
        """Sum of one column over the window that ends at `clock_ns`."""
        items = self._columns[column]
        start = bisect_left(self._keys, self.watch.first(clock_ns))
        if start == len(items):
            return 0
        known, behind = self._behind[column]
        if known != start:
            behind = 0
            for item in items[start:-1]:
                behind += item
            self._behind[column] = start, behind
        return behind + items[-1]

    def save(self, out: StateWriter) -> None:
        """Count of quanta, then number and sums of each."""
        write = {"i64": out.i64, "i128": out.i128, "u64": out.u64}
        out.u64(len(self._keys))
        for key, *items in zip(self._keys, *self._columns, strict=True):
            out.i64(key)
            for word, item in zip(self._words, items, strict=True):
                write[word](item)

    def load(self, state: StateReader) -> None:
        """Take what `save` wrote."""
        read = {"i64": state.i64, "i128": state.i128, "u64": state.u64}
        self._changed()
        for column in (self._keys, *self._columns):
            column.clear()
        for _ in range(state.count()):
            self._keys.append(state.i64())
            for word, column in zip(self._words, self._columns, strict=True):
                column.append(read[word]())
        check_span(self._keys)


def check_span(keys: list[int], before: int = 0) -> None:
    """Refuse numbers of quanta that do not ascend, or that no window holds.

    The first `before` of them may lie before the window, any time before.
    """
    ascending = all(a < b for a, b in pairwise(keys))
    inside = keys[before:]
    if not ascending or (inside and inside[-1] - inside[0] >= QUANTA):
        raise ValueError(f"state has quanta {keys[:3]} to {keys[-1:]}, expected those of one window")
