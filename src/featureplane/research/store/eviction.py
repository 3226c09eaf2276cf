"""What goes when room is needed: by what it costs to have again, how often it is used, and its size.

Each stored day has a priority, `level + (uses + 1) * seconds / bytes`, set anew when it is used; what has
the lowest goes first, and the level rises to the priority of what went. So what is used often or dear
to compute stays, what was read once in passing goes, and nothing stays for good because it was once dear
(GreedyDual-Size with frequency). The hot tier is dropped first, what was used longest ago before the rest.

Leans on `manifest` and `shelf`. What somebody reads, and what is pinned, is left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from featureplane.clock import SYSTEM, Clock
from featureplane.research.store.hot import hot_path
from featureplane.research.store.manifest import Manifest, Row
from featureplane.research.store.shelf import Shelf
from featureplane.units import NANOS_PER_SECOND

__all__ = ["Eviction"]

_DAY_NS: Final = 86_400 * NANOS_PER_SECOND
_AT_ONCE: Final = 256


class Eviction:
    """Frees room in one store; `removed` counts what went, by reason."""

    def __init__(
        self,
        manifest: Manifest,
        shelf: Shelf,
        clock: Clock = SYSTEM,
        on_removed: Callable[[str], None] | None = None,
    ) -> None:
        self._manifest = manifest
        self._shelf = shelf
        self._clock = clock
        self.removed: Counter[str] = Counter()
        self._on_removed = on_removed

    def free(self, size: int) -> int:
        """Free at least so many bytes if it can be done; how many it were."""
        freed, kept = self.free_hot(size), set[str]()
        while freed < size:
            first = self._manifest.rows(
                "pinned = 0", order="priority, accessed_ns", most=len(kept) + _AT_ONCE
            )
            rows = [row for row in first if row.key not in kept]
            if not rows:
                break
            for row in rows:
                if freed >= size:
                    break
                gone = self.drop(row, "evicted", age=True)
                if gone < max(row.bytes, 1):  # somebody reads it
                    kept.add(row.key)
                freed += gone
        return freed

    def free_hot(self, size: int) -> int:
        """Free at least so many bytes of the hot tier alone if it can be done."""
        freed = 0
        for row in self._manifest.rows("hot_bytes > 0", order="accessed_ns"):
            if freed >= size:
                break
            freed += self.drop_hot(row)
        return freed

    def expire(self, days: float) -> int:
        """Remove what nobody has used for so many days; bytes freed."""
        before_ns = self._clock.wall_ns() - int(days * _DAY_NS)
        rows = self._manifest.rows("pinned = 0 AND accessed_ns < ?", (before_ns,))
        return sum(self.drop(row, "expired") for row in rows)

    def drop_hot(self, row: Row) -> int:
        """Remove the hot copy of a day; bytes freed, 0 while somebody reads it."""
        if not row.hot_bytes or not self._shelf.local.remove(str(hot_path(row.key))):
            return 0
        self._shelf.reached("hot_removed")
        with self._manifest.writing() as connection:
            self._manifest.forget_hot(row, connection)
        self._count("hot")
        return row.hot_bytes

    def drop(self, row: Row, reason: str, *, age: bool = False) -> int:
        """Remove a day; bytes freed, 0 while somebody reads it or if it was stored anew.

        `age` raises the level to its priority.
        """
        freed = self.drop_hot(row)
        if row.hot_bytes and not freed:
            return 0
        if not self._shelf.remove(row.path, partial(self._marked, row, reason)):
            return freed
        self._shelf.reached("removed")
        with self._manifest.writing() as connection:
            self._manifest.drop(row, reason, self._clock.wall_ns(), connection)
            if age:
                connection.execute("UPDATE aging SET level = max(level, ?)", (row.priority,))
        self._count(reason)
        return freed + row.bytes

    def _marked(self, row: Row, reason: str) -> bool:
        with self._manifest.writing() as connection:
            if not self._manifest.is_current(row, connection):
                return False
            self._manifest.mark_gone(row, reason, self._clock.wall_ns(), connection)
        self._shelf.reached("marked")
        return True

    def _count(self, reason: str) -> None:
        self.removed[reason] += 1
        if self._on_removed is not None:
            self._on_removed(reason)
