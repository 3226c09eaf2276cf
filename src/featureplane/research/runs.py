"""What one run over events read, dropped and put out; the same for tables, files and commands.

Leans on `market` and `features.spec`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featureplane import __version__
from featureplane.features.columns import Columns, LateColumns
from featureplane.features.frame import FRAME_MARKER
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch, SourceFile
from featureplane.market.instruments import Instrument
from featureplane.market.quality import Quality

__all__ = ["RunReport"]


@dataclass(slots=True, repr=False)
class RunReport:
    """What one run read, dropped and put out.

    `rows` are book and trade events, `messages` all messages. `dropped` counts by reason, of reader
    and guard together; `resets` the steps at which kernels were reset and `broken` the books that broke,
    by cause (`FeatureEngine.counts`); `flags` counts frames by the name of a quality flag;
    `undefined_here` has, by symbol, the features that feed can never define and why.
    """

    feature_set: FeatureSet
    instruments: tuple[Instrument, ...] = ()
    source: str = ""
    local_time: bool = True
    options: dict[str, str] = field(default_factory=dict)
    files: tuple[SourceFile, ...] = ()
    events: int = 0
    frames: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    resets: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    undefined_here: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: float = 0.0
    out: Path | None = None
    _rows: int = 0
    _messages: int = 0
    _flags: Counter[str] = field(default_factory=Counter)
    _uncounted: list[EventBatch | Columns | LateColumns | npt.NDArray[np.uint32]] = field(
        default_factory=list, repr=False
    )

    def __repr__(self) -> str:
        symbols = ", ".join(one.symbol for one in self.instruments)
        dropped = ", ".join(f"{name} {count}" for name, count in sorted(self.dropped.items())) or "nothing"
        return (
            f"<{self.feature_set.feature_set_id} over {self.source} {symbols}: {self.events} events, "
            f"{self.frames} frames, dropped {dropped}, {self.seconds:.3f} s>"
        )

    def add_events(self, batch: EventBatch) -> None:
        """Take note of a batch that was read."""
        self.events += len(batch)
        self.dropped.update(batch.dropped)
        self.files += tuple(file for file in batch.files if file not in self.files)
        self._uncounted.append(batch)

    def add_table(self, rows: int) -> None:
        """Take note of a prepared table that was read: each row is one event and one message."""
        self.events += rows
        self._rows += rows
        self._messages += rows

    def add_frames(self, columns: Columns | LateColumns) -> None:
        """Take note of frames that were put out."""
        self.frames += len(columns)
        self._uncounted.append(columns)

    def add_flagged(self, frames: int, flags: npt.NDArray[np.uint32]) -> None:
        """Take note of frames that were put out, and of the flags of those that have some."""
        self.frames += frames
        self._uncounted.append(flags)

    def add_counts(self, counts: Mapping[str, Counter[str]]) -> None:
        """Take note of what the engine counted over the whole run."""
        for name, own in (("dropped", self.dropped), ("resets", self.resets), ("broken", self.broken)):
            if counts[name]:
                own.update(counts[name])

    def count(self) -> None:
        """Count what was noted so far, and hold it no longer.

        Counting reads all events once more, which costs as much as computing; so it waits until
        somebody asks, or until memory is to be given back.
        """
        for part in self._uncounted:
            if isinstance(part, EventBatch):
                self._rows += part.rows
                self._messages += part.messages
                continue
            if isinstance(part, LateColumns):
                part = part.make()  # noqa: PLW2901 - what it is, taken apart
            flags = part.quality_flags if isinstance(part, Columns) else part
            for flag in Quality:
                self._flags[str(flag.name)] += int(np.count_nonzero(flags & np.uint32(flag)))
        self._uncounted.clear()

    @property
    def rows(self) -> int:
        """Book and trade events read."""
        self.count()
        return self._rows

    @property
    def messages(self) -> int:
        """Messages read, quotes and status among them."""
        self.count()
        return self._messages

    @property
    def flags(self) -> dict[str, int]:
        """Frames by the name of a quality flag."""
        self.count()
        return {str(flag.name): self._flags[str(flag.name)] for flag in Quality}

    def metadata(self) -> dict[str, str]:
        """What a table of this run says about itself; the same whenever the same is computed."""
        return {
            "marker": FRAME_MARKER,
            "instrument": json.dumps([_described(one) for one in self.instruments]),
            "source": self.source,
            "source_files": json.dumps([{"name": f.name, "sha256": f.sha256} for f in self.files]),
            "local_time": "venue and receiver" if self.local_time else "none; local_ts_ns = source_ts_ns",
            "undefined_here": json.dumps(self.undefined_here),
            "dropped": json.dumps(_by_name(self.dropped)),
            "options": json.dumps(self.options),
            "featureplane": __version__,
        }

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        described = [_described(one) for one in self.instruments]
        return {
            "set": self.feature_set.feature_set_id,
            "fingerprint": self.feature_set.fingerprint,
            "version": __version__,
            "source": self.source,
            "files": [{"name": file.name, "sha256": file.sha256} for file in self.files],
            "instrument": described[0] if len(described) == 1 else described,
            "events": self.events,
            "rows": self.rows,
            "messages": self.messages,
            "frames": self.frames,
            "features": len(self.feature_set),
            "dropped": _by_name(self.dropped),
            "resets": _by_name(self.resets),
            "broken": _by_name(self.broken),
            "flags": self.flags,
            "undefined_here": self.undefined_here,
            "seconds": round(self.seconds, 6),
            "out": None if self.out is None else str(self.out),
        }


def _by_name(counts: Counter[str]) -> dict[str, int]:
    return {str(name): count for name, count in sorted(counts.items())}


def _described(one: Instrument) -> dict[str, Any]:
    return {
        "venue": one.venue,
        "symbol": one.symbol,
        "symbol_id": one.symbol_id,
        "price_exponent": one.price_exponent,
        "qty_exponent": one.qty_exponent,
        "tick_size": one.tick_size,
        "lot_size": one.lot_size,
        "vpin_bucket": one.vpin_bucket,
        "book_levels": one.book_levels,
        "inferred": one.inferred,
    }
