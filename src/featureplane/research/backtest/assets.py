"""A recording twice: rows that hftbacktest replays, and the events our book and features take.

hftbacktest's rows hold one book and no session, no id of a trade, no status. So ours walk beside
them, each message at the time at which hftbacktest's clock shows it. Leans on `market`. Knows
nothing of hftbacktest itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from featureplane.errors import EmptyStream, MalformedEvent, SettingError
from featureplane.market.agreement import check_declared
from featureplane.market.events import EventBatch, Kind
from featureplane.market.hftbacktest_export import to_hftbacktest
from featureplane.market.instruments import Instrument
from featureplane.market.reading import EventsPaths, InstrumentsLike, read_events, request_for
from featureplane.market.sources.hftbacktest_rows import ROW_DTYPE, Rows

__all__ = ["HftAsset", "Stream", "joined"]

Array = npt.NDArray[Any]

_EXCH: Final = np.uint64(1 << 31)
_LOCAL: Final = np.uint64(1 << 30)


class HftAsset:
    """One instrument for `HftBacktestAdapter`, made by `read` or `of`.

    `rows` has dtype `ROW_DTYPE` and is ours: no caller's array is handed to hftbacktest. Local times
    in it are those of the events plus `shift_ns`, which made them not earlier than the venue's.
    """

    def __init__(self, batch: EventBatch, rows: Array, shift_ns: int) -> None:
        check_declared(batch)
        if not len(rows) or not len(batch):
            raise EmptyStream(f"rows of {batch.instrument.symbol}", hint="has it a snapshot to begin with?")
        _check_order(rows)
        rows.flags.writeable = False
        self.batch, self.rows, self.shift_ns = batch, rows, shift_ns

    @classmethod
    def of(cls, events: EventBatch) -> HftAsset:
        """Events of one instrument of any source; local times that go back are held (`to_hftbacktest`).

        Raises what `to_hftbacktest` raises.
        """
        array = to_hftbacktest(events, local_time="hold")
        return cls(events, array.rows, array.local_shift_ns)

    @classmethod
    def read(
        cls,
        paths: EventsPaths,
        symbol: str | None = None,
        instruments: InstrumentsLike | None = None,
        *,
        backend: str = "auto",
        **reading: Any,
    ) -> HftAsset:
        """Arrays of hftbacktest of any converter, in files or in memory; `reading` is that of `read_events`.

        Where there are no local times the venue's are taken. Files that were shifted differently get
        one shift. Raises what `read_events` raises, and `MalformedEvent` where a clock goes back:
        hftbacktest takes rows as they come.
        """
        batch = read_events(paths, "hftbacktest", symbol, instruments, backend=backend, **reading)
        files = [Rows(one) for one in request_for(paths, "hftbacktest").inputs]
        shift_ns = max(one.local_shift_ns for one in files)
        parts = [_local_times(chunk, one, shift_ns) for one in files for chunk in one.chunks()]
        return cls(batch, np.concatenate(parts), shift_ns)

    @property
    def instrument(self) -> Instrument:
        """What is traded."""
        return self.batch.instrument

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """For every message the index just behind its last event."""
        return self.batch.message_ends

    @cached_property
    def clock_ns(self) -> npt.NDArray[np.int64]:
        """For every message the time at which hftbacktest's clock shows it; never descends."""
        local = self.batch.array["local_ts_ns"][self.ends - 1]
        return np.maximum.accumulate(local) + self.shift_ns

    @cached_property
    def is_ordered(self) -> bool:
        """Whether our local times never go back."""
        local = self.batch.array["local_ts_ns"]
        return bool((local[1:] >= local[:-1]).all())

    @cached_property
    def least_latency_ns(self) -> int:
        """The shortest way of a row from the venue to us, as hftbacktest sees it."""
        return int((self.rows["local_ts"] - self.rows["exch_ts"]).min())


def _local_times(chunk: Array, of: Rows, shift_ns: int) -> Array:
    """A copy with a local time in every row, shifted by `shift_ns` in all."""
    rows = np.array(chunk, ROW_DTYPE)
    if of.local_time:
        told = rows["local_ts"] != 0
        rows["local_ts"] = np.where(told, rows["local_ts"] - of.local_shift_ns, rows["exch_ts"])
    else:
        rows["local_ts"] = rows["exch_ts"]
    rows["local_ts"] += shift_ns
    return rows


def _check_order(rows: Array) -> None:
    for bit, name in ((_EXCH, "exch_ts"), (_LOCAL, "local_ts")):
        at = np.flatnonzero(rows["ev"] & bit)
        times = rows[name][at]
        back = np.flatnonzero(times[1:] < times[:-1])
        if len(back):
            row = int(back[0])
            found = f"{name} {times[row + 1]} behind {times[row]}"
            raise MalformedEvent(found, "rows in the order of both clocks", line=int(at[row + 1]) + 1)


class Stream(NamedTuple):
    """The messages of all assets as they become known, but for those of quotes, which nothing reads.

    Message i is events `spans[i][0]` to `spans[i][1]` of the batch.
    """

    batch: EventBatch
    spans: list[tuple[int, int]]
    clock_ns: list[int]


def joined(assets: Sequence[HftAsset], offsets_ns: Sequence[int]) -> Stream:
    """One stream in the order of hftbacktest's clock; where that is equal, of the assets.

    `offsets_ns` is what the clock has more than `HftAsset.clock_ns`. Raises `SettingError` for assets whose
    sources or options differ: one engine takes them all.
    """
    first = assets[0]
    clock = np.concatenate(
        [one.clock_ns + np.int64(more) for one, more in zip(assets, offsets_ns, strict=True)]
    )
    if len(assets) == 1:
        return _stream(first.batch, first.ends, clock)
    for one in assets[1:]:
        source = replace(one.batch.source, name=first.batch.source.name)
        if (source, one.batch.options) != (first.batch.source, first.batch.options):
            raise SettingError(
                f"{one.instrument.symbol} is not read as {first.instrument.symbol} is",
                hint="the same kind of source and the same options, or a backtest each",
            )
    lengths = np.concatenate([np.diff(one.ends, prepend=0) for one in assets])
    order = np.argsort(clock, kind="stable")
    stops = np.cumsum(lengths[order])
    begins = (np.cumsum(lengths) - lengths)[order]  # in the events of all assets, one behind the other
    events = np.repeat(begins - (stops - lengths[order]), lengths[order]) + np.arange(stops[-1])
    batch = replace(
        first.batch,
        array=np.concatenate([one.batch.array for one in assets])[events],
        instruments=tuple(one.instrument for one in assets),
        files=tuple(file for one in assets for file in one.batch.files),
        dropped={},
        checked=True,
    )
    return _stream(batch, stops, clock[order])


def _stream(batch: EventBatch, stops: npt.NDArray[np.int64], clock: npt.NDArray[np.int64]) -> Stream:
    starts = np.concatenate([[0], stops[:-1]])
    is_read = np.logical_or.reduceat(batch.array["kind"] != Kind.QUOTE, starts)
    spans = list(zip(starts[is_read].tolist(), stops[is_read].tolist(), strict=True))
    return Stream(batch, spans, clock[is_read].tolist())
