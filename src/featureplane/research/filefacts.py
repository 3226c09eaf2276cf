"""What one file holds of a symbol: from when to when, and whether a book can begin there.

Found by reading the file once, and remembered by its content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from featureplane.errors import SettingError
from featureplane.market.events import EventBatch, EventFlag, Kind
from featureplane.market.instruments import Instrument
from featureplane.market.sources import lobster
from featureplane.units import NANOS_PER_SECOND

__all__ = ["FileFacts", "find_facts", "parts_of", "symbol_of"]

_NONE: Final = 1 << 62
_BOOK: Final = np.array([Kind.LEVEL, Kind.CLEAR, Kind.SNAPSHOT_LEVEL, 10, 11, 12, 13], "u1")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file holds of one symbol; times in nanoseconds, those of the venue without a prefix.

    `first_prev` and `last_id` are the ids before its first and of its last book message, 0 where there are
    none. `begins_whole` says that its first book message is a snapshot.
    """

    events: int = 0
    first_ns: int = _NONE
    last_ns: int = -_NONE
    first_local_ns: int = _NONE
    last_local_ns: int = -_NONE
    has_snapshot: bool = False
    begins_whole: bool = False
    first_prev: int = 0
    last_id: int = 0

    def overlaps(self, start_ns: int, end_ns: int) -> bool:
        """Whether something of it may lie in [start, end)."""
        return self.events > 0 and self.first_ns < end_ns and self.last_ns >= start_ns

    def continues(self, before: FileFacts) -> bool:
        """Whether its book goes on without a hole where that of the file before ends."""
        return 0 < self.first_prev <= before.last_id

    def told(self) -> str:
        """From when to when, to read."""
        first, last = (
            datetime.fromtimestamp(ns // NANOS_PER_SECOND, UTC) for ns in (self.first_ns, self.last_ns)
        )
        return f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC"

    def to_json(self) -> str:
        """For whoever remembers it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FileFacts:
        """What was remembered."""
        return cls(**json.loads(text))


def find_facts(batches: Iterable[EventBatch]) -> FileFacts:
    """Read all events of a file."""
    told: dict[str, Any] = asdict(FileFacts())
    book_begun = False
    for batch in batches:
        array = batch.array
        if not len(array):
            continue
        times = array["source_ts_ns"]
        known = times[times > 0]
        told["events"] += len(array)
        if len(known):
            told["first_ns"] = min(told["first_ns"], int(known.min()))
            told["last_ns"] = max(told["last_ns"], int(known.max()))
        local = array["local_ts_ns"]
        told["first_local_ns"] = min(told["first_local_ns"], int(local[0]))
        told["last_local_ns"] = max(told["last_local_ns"], int(local[-1]))
        snapshot = batch.has_snapshot
        told["has_snapshot"] |= snapshot
        book = np.flatnonzero(np.isin(array["kind"], _BOOK))
        if not len(book):
            continue
        if not book_begun:
            book_begun = True
            head = array[int(book[0])]
            told["first_prev"] = int(head["seq_prev"])
            cleared = head["kind"] == Kind.CLEAR and not head["flags"] & EventFlag.BOUND
            told["begins_whole"] = bool(cleared or head["flags"] & EventFlag.RECOVERY)
        told["last_id"] = max(told["last_id"], int(array["seq_last"][book].max()))
    return FileFacts(**told)


def parts_of(path: Path, source: str) -> tuple[Path, ...]:
    """A file and those that are read with it: LOBSTER's order book stands beside its messages."""
    if source != "lobster":
        return (path,)
    pairs = lobster.find_pairs((path,))
    members = [member.path for pair in pairs for member in (pair.messages, pair.book) if member]
    return tuple(dict.fromkeys(members))


def symbol_of(path: Path, source: str, instruments: tuple[Instrument, ...]) -> str | None:
    """The symbol a file is of, as its name or the instruments tell; None where only its content does.

    Raises `SettingError` where nothing tells.
    """
    if source == "lobster":
        return lobster.find_pairs((path,))[0].symbol
    if len(instruments) == 1:
        return instruments[0].symbol
    if source == "capture":
        return None
    names = {one.symbol.casefold(): one.symbol for one in instruments}
    head = path.name.casefold()
    fitting = [symbol for folded, symbol in names.items() if _begins(head, folded)]
    if len(fitting) == 1:
        return fitting[0]
    raise SettingError(
        f"{path}: which symbol it is of is not clear",
        hint="name files SYMBOL_..., or say `symbol` in a catalogue (docs/concepts/store.md)",
    )


def _begins(name: str, symbol: str) -> bool:
    return name.startswith(symbol) and not name[len(symbol) : len(symbol) + 1].isalnum()


def days_near(days: Iterable[date]) -> frozenset[date]:
    """Days, and those before and after each."""
    return frozenset(day + timedelta(days=by) for day in days for by in (-1, 0, 1))
