"""The reference execution: a plan over events, one message at a time, in plain Python.

This is the definition the other executions are held against (rule 10.1). Leans on `symbol` and
`sampling`. Knows nothing of tables or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from featureplane.errors import UnknownSymbol
from featureplane.features.columns import Columns
from featureplane.features.counts import COUNTS
from featureplane.features.engine_state import load_symbol, save_symbol
from featureplane.features.frame import FeatureFrame, FrameLayout
from featureplane.features.latest import LatestFrames, check_symbols
from featureplane.features.pushed import FrameRoom, check_range
from featureplane.features.sampling import ComputedFrame, Emit, Every, Sampler
from featureplane.features.shadow_queue import NOTHING, Probe, Queue, probe_of
from featureplane.features.spec import FeatureSet
from featureplane.features.symbol import SymbolRun
from featureplane.market.events import EventBatch, SourceInfo, StreamOptions
from featureplane.market.instruments import Instrument
from featureplane.market.messages import EVENT_BYTES, Channel, MessageReader
from featureplane.market.quality import Drop
from featureplane.market.stages import ASIDE, Stages

__all__ = ["ReferenceEngine"]


class ReferenceEngine:
    """A feature set over a stream of one or several symbols.

    `process` takes the stream piece by piece; a message may be cut by the end of a piece, not by
    the end of the stream. Frames come out in the order of the messages that make them.

    Raises `MalformedEvent`, `UnknownSymbol` and `SequenceGap` where the options ask for it; all
    frames up to the message before have been put out then.
    """

    def __init__(
        self,
        fset: FeatureSet,
        instruments: tuple[Instrument, ...],
        source: SourceInfo,
        options: StreamOptions | None = None,
        *,
        emit: Emit = "update",
        every: Every | None = None,
    ) -> None:
        options = options or StreamOptions()
        self._fset = fset
        self.instruments = instruments
        self._grid = every is not None and every.period_ns is not None
        self.layout = FrameLayout.of(fset, {one.symbol_id: one.symbol for one in instruments})
        self._symbols = {
            one.symbol_id: SymbolRun(fset.plan, self.layout, one, source, options) for one in instruments
        }
        self._samplers = {
            one.symbol_id: Sampler(emit, every, local_time=source.local_time) for one in instruments
        }
        self._reader = MessageReader(self._symbols.keys(), on_malformed=options.on_malformed)
        self._incomplete = 0
        self._room = FrameRoom(self.layout)
        self._rows = {one.symbol_id: row for row, one in enumerate(instruments)}
        self._latest: LatestFrames | None = None
        self._probe: Probe | None = None
        self._stages: Stages | None = None
        self.pushed: tuple[FeatureFrame, ...] = ()

    def process(self, events: npt.NDArray[Any]) -> Iterator[tuple[FeatureFrame, int]]:
        """The frames of these events, each with the grid point it stands for, or 0."""
        if self._probe is not None:
            yield from self._process_watched(events, self._probe)
            return
        for message in self._reader.read(events):
            yield from self._put_out(self._symbols[message.symbol_id].take(message))

    def _process_watched(self, events: npt.NDArray[Any], probe: Probe) -> Iterator[tuple[FeatureFrame, int]]:
        """The same; the shadow is handed what it wants."""
        before, begins = self.events, self.events
        for message in self._reader.read(events):
            run, until = self._symbols[message.symbol_id], self.events
            quotes = message.channel is Channel.QUOTE
            due, before_it, behind_it, whole = NOTHING if quotes else probe.wanted(message.symbol_id, run.seq)
            state = save_symbol(run) if before_it else b""
            self._lap(ASIDE)
            frame = run.take(message)
            if due or whole:
                made = frame is not None and frame.seq == due
                packed = self.pack(frame) if frame is not None and made else b""
                after = save_symbol(run) if made and behind_it else b""
                if made or whole:
                    raw = events[before - begins : until - begins].tobytes()
                    probe.taken(message.symbol_id, until, raw, (state, packed, after))
                self._lap(ASIDE)
            before = until
            yield from self._put_out(frame)

    def columns(self, events: npt.NDArray[Any]) -> Columns:
        """The frames of these events as columns."""
        made = list(self.process(events))
        packed = np.frombuffer(b"".join(frame.pack() for frame, _ in made), np.uint8)
        points = np.array([point for _, point in made], np.int64) if self._grid else None
        frames = packed.reshape(-1, self.layout.size)
        return Columns.from_frames(self._fset, frames, tuple(self._symbols), points)

    def turn_to(self, events: EventBatch) -> None:
        """Let `push` take from this batch."""
        self._pushed_from = events

    def push(self, start: int, stop: int) -> tuple[FeatureFrame, ...]:
        """The frames of whole messages; see `FeatureEngine.push`."""
        check_range(self._pushed_from, start, stop)
        made: list[bytes] = []
        try:
            for frame, _ in self.process(self._pushed_from.array[start:stop]):
                made.append(frame.pack())
                if self._latest is not None:
                    self._latest.store.put(self._rows[frame.symbol_id], made[-1])
        finally:
            self.pushed = self._room.put(made)
            if made:
                self._lap("features")
        return self.pushed

    def follow(self, latest: LatestFrames | None) -> None:
        """Put the last frame of each symbol there from now on."""
        check_symbols(latest, self.layout)
        self._latest = latest

    def watch(self, queue: Queue | None) -> None:
        """Hand every push to the shadow behind this queue too, or to none."""
        self._probe = None if queue is None else probe_of(queue, self._symbols)

    def tell(self, stages: Stages | None) -> None:
        """Tell how long the parts of each message take, from now on; None: nobody."""
        self._stages = stages
        for run in self._symbols.values():
            run.stages = stages

    def retire(self) -> None:
        """See `FeatureEngine.retire`."""
        self._room.retire(len(self.pushed))

    def _lap(self, stage: str) -> None:
        if self._stages is not None:
            self._stages.lap(stage)

    def _put_out(self, frame: ComputedFrame | None) -> Iterator[tuple[FeatureFrame, int]]:
        if frame is None:
            return
        for kept in self._samplers[frame.symbol_id].take(frame):
            yield FeatureFrame(self.pack(kept), self.layout), kept.grid_ts_ns

    def pack(self, frame: ComputedFrame) -> bytes:
        """The bytes of a computed frame."""
        return self.layout.pack(
            symbol_id=frame.symbol_id,
            flags=frame.flags,
            seq=frame.seq,
            source_ts_ns=frame.source_ts_ns,
            local_ts_ns=frame.local_ts_ns,
            source_seq=frame.source_seq,
            changed=frame.changed,
            ready=frame.ready,
            values=frame.values,
        )

    def finish(self) -> None:
        """End of the stream: a message without its `LAST` is dropped and counted."""
        self._incomplete += bool(self._reader.finish())

    def symbol(self, symbol_id: int) -> SymbolRun:
        """The state of one symbol; `UnknownSymbol` for one that is not here."""
        try:
            return self._symbols[symbol_id]
        except KeyError:
            raise UnknownSymbol(symbol_id, tuple(self._symbols)) from None

    @property
    def events(self) -> int:
        """Events taken so far."""
        return self._reader.offset // EVENT_BYTES

    @property
    def dropped(self) -> Counter[str]:
        """Messages and empty trades that were not used, by reason, all symbols together."""
        return self.counts["dropped"]

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """Exact counts so far, all symbols together; see `FeatureEngine.counts`."""
        tables: dict[str, Counter[str]] = {name: Counter() for name in COUNTS}
        tables["dropped"][Drop.INCOMPLETE] = self._incomplete
        for run in self._symbols.values():
            guard, clock = run.guard, run.clock.counts
            steps = {
                "back": clock["clock_back"],
                "clock_fault": clock["clock_fault"],
                "unread_trade": run.unread_trades,
            }
            by_name = (guard.dropped, guard.gaps, guard.broken, run.resets, run.rises, steps)
            for name, counts in zip(COUNTS, by_name, strict=True):
                tables[name].update({str(cause): count for cause, count in counts.items()})
        return {name: +table for name, table in tables.items()}

    def reset(self, symbol_id: int) -> None:
        """Reset all kernels of a symbol at its next step."""
        self.symbol(symbol_id).reset()
        self._changed(symbol_id)

    def reconnect(self, symbol_id: int) -> None:
        """A symbol's connection is another one, without proof that it continues the one before."""
        self.symbol(symbol_id).reconnect()
        self._changed(symbol_id)

    def snapshot(self, symbol_id: int) -> bytes:
        """The whole state of a symbol (`docs/reference/engine-state.md`)."""
        return save_symbol(self.symbol(symbol_id))

    def restore(self, symbol_id: int, state: bytes) -> None:
        """Continue a symbol from a state of the same plan, instrument and options.

        Raises `FeatureSetMismatch` for a state of another plan, `MalformedEvent` for other bytes.
        """
        load_symbol(self.symbol(symbol_id), state)
        self._changed(symbol_id)

    def _changed(self, symbol_id: int) -> None:
        if self._probe is not None:
            self._probe.changed(symbol_id)
