"""The Rust executions of a plan behind the same door as the reference.

Hours and daily resets are written out as instants for it: the core crate knows no time zones.
Leans on `native` and `market`. Knows nothing of tables or files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache, partial
from typing import Any, Final, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from featureplane import native
from featureplane.errors import FeatureSetMismatch, MalformedEvent, PlanError, SettingError, UnknownSymbol
from featureplane.features.columns import Columns, LateColumns
from featureplane.features.counts import COUNTS
from featureplane.features.engine_state import STATE_MAGIC
from featureplane.features.frame import FeatureFrame, FrameLayout
from featureplane.features.latest import LatestFrames, check_symbols
from featureplane.features.pushed import FrameRoom, check_range
from featureplane.features.sampling import Emit, Every
from featureplane.features.shadow_queue import Queue
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch, SourceInfo, StreamOptions
from featureplane.market.instruments import Instrument
from featureplane.market.sessions import daily_instants, session_intervals
from featureplane.units import NANOS_PER_SECOND

__all__ = ["BLOCK_STEPS", "Doors", "Execution", "NativeEngine", "is_dated"]

Doors = tuple[Callable[[int, int], tuple[FeatureFrame, ...] | int | None], Callable[[int], None]]
"""What takes one message, events `start` to `stop`, and what ends so many of its frames."""

Execution = Literal["streaming", "block"]
"""Event by event, or over blocks of steps; the same bytes."""

BLOCK_STEPS: Final = 512
"""Steps of a block: what they need stays in the second-level cache."""

_DAY_NS: Final = 86_400 * NANOS_PER_SECOND
_BEFORE_NS: Final = 9 * _DAY_NS
_FIRST_EVENTS: Final = 4_096  # a look at the rest would cost as much as computing
_YEARS_NS: Final = 10 * 366 * _DAY_NS  # LIMIT: hours and resets are known for ten years of a stream


class NativeEngine:
    """A feature set over a stream of one or several symbols, in Rust.

    `process` and `columns` take the stream piece by piece, whole messages each. Frames come out in
    the order of the messages that make them.

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
        execution: Execution = "block",
        block_steps: int = BLOCK_STEPS,
    ) -> None:
        self._fset = fset
        self._block = block_steps if execution == "block" else 0
        self.instruments = instruments
        self._source = source
        self._options = options or StreamOptions()
        self._emit: Emit = emit
        self._every = every
        self._grid = every is not None and every.period_ns is not None
        # Events that were not checked are those of a stream in which malformed ones are left for the guard.
        self._trusted = self._options.on_malformed == "raise"
        self._engine: Any = None
        # Calls before the first event, which says when the stream begins: name, symbol, and what else.
        self._before: list[tuple[str, int, *tuple[bytes, ...]]] = []
        self._pushed_from: EventBatch | None = None

    @cached_property
    def layout(self) -> FrameLayout:
        """Of the frames of this stream."""
        return FrameLayout.of(self._fset, {one.symbol_id: one.symbol for one in self.instruments})

    @cached_property
    def _room(self) -> FrameRoom:
        """Made by the first push: who computes tables needs none."""
        return FrameRoom(self.layout)

    def process(self, events: npt.NDArray[Any]) -> Iterator[tuple[FeatureFrame, int]]:
        """The frames of these events, each with the grid point it stands for, or 0."""
        engine = self._started(events)
        try:
            engine.run_frames(_words(events), trusted=self._trusted, block=self._block)
        finally:
            packed, grid = engine.take_frames()
            yield from zip(FeatureFrame.run(packed, self.layout), grid.tolist(), strict=True)

    def columns(self, events: npt.NDArray[Any]) -> Columns:
        """The frames of these events as columns."""
        return self.late_columns(events).make()

    def late_columns(self, events: npt.NDArray[Any]) -> LateColumns:
        """The same, computed now and taken apart when somebody looks."""
        engine = self._started(events)
        engine.run_columns(_words(events), trusted=self._trusted, block=self._block)
        given = engine.take_columns()
        return LateColumns(given["rows"], partial(Columns.from_native, self._fset, given, grid=self._grid))

    def turn_to(self, events: EventBatch) -> None:
        """Let `push` take from this batch."""
        engine = self._engine = self._started(events.array)
        engine.bind_events(_words(events.array))
        self._bind_room(engine)
        self._pushed_from, self._push = events, engine.push

    def _bind_room(self, engine: Any) -> None:
        engine.bind_room(self._room.words)
        engine.bind_runs(self._room.runs)

    @property
    def doors(self) -> Doors:
        """See `FeatureEngine.doors`."""
        return self._engine.step, self._room.retire

    def follow(self, latest: LatestFrames | None) -> None:
        """Put the last frame of each symbol there from now on."""
        check_symbols(latest, self.layout)
        self._engine.bind_latest(None if latest is None else latest.store)

    def watch(self, queue: Queue | None) -> None:
        """Hand every push to the shadow behind this queue too, or to none."""
        self._engine.bind_shadow(None if queue is None else queue.words)

    def bind_market(self, market: Any) -> None:
        """Let every push take its message to these books too, or to none; see `FeatureEngine.bind_market`."""
        self._engine.bind_market(market)

    def retire(self) -> None:
        """See `FeatureEngine.retire`."""
        self._room.retire(self._engine.pushed)

    def push(self, start: int, stop: int) -> tuple[FeatureFrame, ...]:
        """The frames of whole messages, event by event; see `FeatureEngine.push`."""
        frames = self._push(start, stop)
        if frames is None:
            self._refuse(start, stop)
        return self._seen(-frames) if isinstance(frames, int) else frames

    @property
    def pushed(self) -> tuple[FeatureFrame, ...]:
        """The frames of the last push, those before the message that it raised for."""
        count = 0 if self._engine is None else self._engine.pushed
        return self._seen(count)

    def finish(self) -> None:
        """End of the stream."""

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """Exact counts so far, all symbols together; see `FeatureEngine.counts`."""
        tables: Mapping[str, Any] = {} if self._engine is None else self._engine.counts()
        return {name: Counter(tables.get(name, {})) for name in COUNTS}

    @property
    def dropped(self) -> Counter[str]:
        """Messages and empty trades that were not used, by reason, all symbols together."""
        return self.counts["dropped"]

    def reset(self, symbol_id: int) -> None:
        """Reset all kernels of a symbol at its next step."""
        self._symbol(symbol_id)
        self._ask("reset", symbol_id)

    def reconnect(self, symbol_id: int) -> None:
        """A symbol's connection is another one, without proof that it continues the one before."""
        self._symbol(symbol_id)
        self._ask("reconnect", symbol_id)

    def _ask(self, what: Literal["reset", "reconnect"], symbol_id: int) -> None:
        """At once: between two calls no step waits to be computed, in either execution."""
        if self._engine is None:
            self._before.append((what, symbol_id))
        else:
            getattr(self._engine, what)(symbol_id)

    def snapshot(self, symbol_id: int) -> bytes:
        """The whole state of a symbol (`docs/reference/engine-state.md`)."""
        self._symbol(symbol_id)
        return bytes((self._engine or self._made(_NOTHING)).save(symbol_id))

    def restore(self, symbol_id: int, state: bytes) -> None:
        """Continue a symbol from a state of the same plan, instrument and options.

        Raises `FeatureSetMismatch` for a state of another plan, `MalformedEvent` for other bytes.
        """
        symbol = self._symbol(symbol_id)
        try:
            (self._engine or self._made(_NOTHING)).restore(symbol_id, state)
        except PlanError as error:
            if state[:8] == STATE_MAGIC and (prefix := state[8:16]) != self.layout.prefix:
                raise FeatureSetMismatch(self.layout.prefix.hex(), prefix.hex()) from None
            raise MalformedEvent(error.found, f"a saved state of {symbol.symbol}") from None
        if self._engine is None:
            self._before.append(("restore", symbol_id, state))

    def _seen(self, count: int) -> tuple[FeatureFrame, ...]:
        if count > self._room.frames:
            self._room.grow(2 * count)
            self._engine.bind_room(self._room.words)
        return self._room.seen(count)

    def _refuse(self, start: int, stop: int) -> NoReturn:
        if self._pushed_from is not None:
            check_range(self._pushed_from, start, stop)
        raise SettingError(
            f"events {start} to {stop} are not one message of a symbol that is here",
            hint=f"these are: {', '.join(one.symbol for one in self.instruments)}",
        )

    def _symbol(self, symbol_id: int) -> Instrument:
        for one in self.instruments:
            if one.symbol_id == symbol_id:
                return one
        raise UnknownSymbol(symbol_id, [one.symbol_id for one in self.instruments])

    def _started(self, events: npt.NDArray[Any]) -> Any:
        """The engine, made when the first events say when the stream begins; no events say nothing."""
        if self._engine is not None:
            return self._engine
        engine = self._made(events)
        if len(events):
            self._engine = engine
        return engine

    def _made(self, events: npt.NDArray[Any]) -> Any:
        dated = any(is_dated(one) for one in self.instruments)
        begins_ns = _begins_ns(events["source_ts_ns"]) if dated else 0
        config = _config(
            self.instruments,
            self._source,
            self._options,
            emit=self._emit,
            every=self._every,
            begins_ns=begins_ns,
        )
        fingerprint = bytes.fromhex(self._fset.fingerprint)[:8]
        engine = native.module().Engine(self._fset.plan_json, fingerprint, config)
        for what, *given in self._before:
            getattr(engine, what)(*given)
        return engine


def _words(events: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(events).view(np.uint64)


_NOTHING: Final = np.empty(0, np.dtype([("source_ts_ns", "<i8")]))


def _every(every: Every | None) -> dict[str, int] | None:
    if every is None:
        return None
    return {"nanos": every.period_ns} if every.period_ns is not None else {"frames": every.frames or 0}


def is_dated(instrument: Instrument) -> bool:
    """Whether its hours or resets go by the date."""
    at = instrument.daily_reset
    return bool(instrument.sessions) or (at is not None and at.time_zone != "UTC")


def _begins_ns(times: npt.NDArray[np.int64]) -> int:
    first = times[:_FIRST_EVENTS]
    known = first[first > 0] if first.any() else times[times > 0]
    return int(known.min()) if len(known) else 0


@lru_cache(maxsize=64)  # who computes one day after the other asks for the same each time
def _config(
    instruments: tuple[Instrument, ...],
    source: SourceInfo,
    options: StreamOptions,
    *,
    emit: Emit,
    every: Every | None,
    begins_ns: int,
) -> str:
    return json.dumps(
        {
            "symbols": [_symbol(one, begins_ns) for one in instruments],
            "on_gap": options.on_gap,
            "on_malformed": options.on_malformed,
            "seed": options.seed,
            "seed_after": options.seed_after,
            "has_snapshots": source.has_snapshots,
            "local_time": source.local_time,
            "trade_sides": source.trade_sides,
            "emit": emit,
            "every": _every(every),
        }
    )


def _symbol(instrument: Instrument, begins_ns: int) -> dict[str, Any]:
    start, stop = begins_ns - _BEFORE_NS, begins_ns + _YEARS_NS
    return {
        "symbol": instrument.symbol,
        "symbol_id": instrument.symbol_id,
        "tick": instrument.tick or 0,
        "vpin_bucket": instrument.vpin_bucket_scaled,
        "book_levels": instrument.book_levels,
        "stale_ms": instrument.stale_ms,
        "synchronised": instrument.clock == "synchronised",
        "locked_valid": instrument.locked == "valid",
        "resets": _resets(instrument, start, stop),
        "sessions": session_intervals(instrument.sessions, instrument.time_zone, start, stop)
        if instrument.sessions
        else None,
    }


def _resets(instrument: Instrument, start_ns: int, stop_ns: int) -> list[int] | dict[str, int] | None:
    at = instrument.daily_reset
    if at is None:
        return None
    if at.time_zone == "UTC":
        return {"period_ns": _DAY_NS, "offset_ns": at.seconds * NANOS_PER_SECOND}
    return daily_instants(at, start_ns, stop_ns)
