"""What is measured on: one recording in memory, the same with every row a message, and both as files.

The canonical workload is USD-M BTCUSDT of 2024-08-08 from the shared data; where that is absent, the
embedded sample, and the figures say so. Files for the programs beside us are kept under `var/bench`.

Leans on the package's public surface.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import featureplane as fp
from featureplane.market.events import EventBatch, EventFlag, Kind
from featureplane.market.sources.capture import write_capture

__all__ = ["CACHE", "ROOT", "Recording", "canonical", "every_row"]

ROOT: Final = Path(__file__).resolve().parents[1]
CACHE: Final = ROOT / "var" / "bench"
_SHARED: Final = Path(os.environ.get("FEATUREPLANE_SHARED_DATA", ROOT.parent / "shared" / "data"))
_CANONICAL: Final = ("binance_raw/usdm/btcusdt_20240808.gz", "binance-usdm", "BTCUSDT")


@dataclass(frozen=True)
class Recording:
    """One recording; `path` is None for the embedded sample."""

    name: str
    path: Path | None
    source: str
    events: EventBatch

    @cached_property
    def rows(self) -> int:
        """Book and trade events: the unit of every ns a row."""
        return self.events.rows

    @cached_property
    def every_row(self) -> EventBatch:
        """See `every_row`."""
        return every_row(self.events)

    @cached_property
    def captures(self) -> tuple[Path, Path]:
        """Capture files of the events, and of the events with every row a message."""
        CACHE.mkdir(parents=True, exist_ok=True)
        paths = CACHE / f"{self.name}.fpcap", CACHE / f"{self.name}.rows.fpcap"
        for path, batch in zip(paths, (self.events, self.every_row), strict=True):
            write_capture(path, batch)
        return paths


def every_row(batch: EventBatch) -> EventBatch:
    """The same book, with each level change and each trade a message of its own.

    The snapshot stays one message; what it makes superfluous and the quotes are left out. Ids are
    taken away: rows of one message share theirs, and only one of them could be new.
    """
    array = batch.array
    of_snapshot = array["flags"] & EventFlag.RECOVERY != 0
    first = int(np.flatnonzero(of_snapshot)[0])
    base = array["seq_last"][first]
    is_trade = array["kind"] == Kind.TRADE
    wanted = is_trade | (array["kind"] == Kind.LEVEL) & (array["seq_last"] > base)
    parts = [array[of_snapshot & (array["seq_last"] == base)], array[wanted]]
    parts[1]["flags"] |= np.uint16(EventFlag.LAST)
    rows = np.concatenate(parts)
    rows["seq_last"] = 0
    rows["seq_prev"] = 0
    return replace(batch, array=rows, dropped={}, checked=True)


def canonical(*, messages_max: int | None = None) -> Recording:
    """The workload, or its first messages."""
    name, source, symbol = _CANONICAL
    path: Path | None = _SHARED / name
    if path is not None and path.exists():
        events = fp.read_events(path, source=source, symbol=symbol)
    else:
        path, events = None, fp.sample_events()
        source = events.source.name
    if messages_max is not None:
        events = events.part(0, messages_max)
    stem = f"{source}-{events.instrument.symbol.lower()}"
    if messages_max is not None:
        stem += f"-{messages_max}"
    return Recording(stem, path, source, events)


def columns_of(table: Any) -> list[npt.NDArray[Any]]:
    """Values of a feature table as the checksum takes them: undefined is the sentinel of rule 6."""
    columns = []
    for spec in table.feature_set.specs:
        values, defined = table.column(spec.feature_id)
        undefined = np.nan if spec.dtype == "f64" else np.iinfo(np.int64).min
        columns.append(np.where(defined, values, values.dtype.type(undefined)))
    return columns
