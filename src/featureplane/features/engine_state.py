"""The saved state of a symbol as canonical bytes (`docs/reference/engine-state.md`).

Leans on `symbol` and `kernels.state`. Knows nothing of files.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from featureplane.book.levels import LevelSide
from featureplane.book.orders import Order, OrderBook
from featureplane.errors import FeatureSetMismatch, MalformedEvent
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.features.symbol import SymbolRun
from featureplane.market.messages import EVENT_BYTES, Event, Message
from featureplane.market.quality import (
    Base,
    BookState,
    Cause,
    Chain,
    Quality,
    Reads,
    ResetCause,
    StreamGuard,
)
from featureplane.market.stream_clock import StreamClock

__all__ = ["STATE_MAGIC", "StateParts", "load_symbol", "save_symbol", "state_parts"]

STATE_MAGIC: Final = b"FPSTATE1"


def save_symbol(run: SymbolRun) -> bytes:
    """The whole state of a symbol."""
    parts = state_parts(run)
    return b"".join((STATE_MAGIC, run.layout.prefix, *parts[:-1], *parts.nodes))


class StateParts(NamedTuple):
    """A saved state behind its magic and fingerprint, in its order."""

    guard: bytes  # with the symbol's id
    clock: bytes  # status, session and all times
    seq: bytes
    values: bytes  # of the last frame
    book: bytes
    nodes: tuple[bytes, ...]  # in the order of the plan


def state_parts(run: SymbolRun) -> StateParts:
    """The whole state of a symbol, part by part."""
    guard, clock, book = StateWriter(), StateWriter(), StateWriter()
    guard.u64(run.instrument.symbol_id)
    _save_guard(run.guard, guard)
    clock.u64(run.status)
    clock.flag(run.session_open)
    clock.option_i64(run.crossed_since)
    _save_clock(run.clock, clock)
    _save_book(run.book, book)
    nodes = []
    for node in run.nodes.all:
        out = StateWriter()
        node.save(out)
        nodes.append(out.bytes())
    seq = run.seq.to_bytes(8, "little")
    return StateParts(guard.bytes(), clock.bytes(), seq, run.values, book.bytes(), tuple(nodes))


def load_symbol(run: SymbolRun, data: bytes) -> None:
    """Put a saved state in the place of the present one.

    Raises `FeatureSetMismatch` for a state of another plan, `MalformedEvent` for anything that
    `save_symbol` cannot have written; what was there is lost then.
    """
    state = StateReader(data)
    try:
        _load(run, state)
        state.finish()
    except ValueError as error:
        expected = f"a saved state of {run.instrument.symbol}"
        raise MalformedEvent(str(error), expected, offset=len(data) - state.left) from None


def _load(run: SymbolRun, state: StateReader) -> None:
    if state.raw(8) != STATE_MAGIC:
        raise ValueError("no saved state")
    if (prefix := state.raw(8)) != run.layout.prefix:
        raise FeatureSetMismatch(run.layout.prefix.hex(), prefix.hex())
    if (symbol_id := state.u64()) != run.instrument.symbol_id:
        raise ValueError(f"state of symbol {symbol_id}")
    _load_guard(run.guard, state)
    run.status = _below(state, 4)
    run.session_open = state.flag()
    run.crossed_since = state.option_i64()
    _load_clock(run.clock, state)
    run.seq = state.u64()
    run.values = state.raw(len(run.layout.undefined))
    run.flags = Quality(0)  # not in the state: it changes no frame
    _load_book(run.book, state)
    run.nodes.load(state)


def _below(state: StateReader, limit: int) -> int:
    word = state.u64()
    if word >= limit:
        raise ValueError(f"state has {word} where 0 to {limit - 1} must stand")
    return word


def _save_guard(guard: StreamGuard, out: StateWriter) -> None:
    out.u64(guard.state)
    out.u64(guard.cause)
    for chain in (guard.book, guard.trades, guard.status):
        out.u64(chain.kind)
        out.u64(chain.base)
        out.u64(chain.applied)
    for flag in (guard.mixed, guard.passed_over, guard.seeded):
        out.flag(flag)
    out.u64(guard.seed_frames)
    out.u64(len(guard.buffer))
    for message in guard.buffer:
        out.u64(len(message.events))
        for event in message.events:
            out.raw(event.pack())
    out.u64(guard.pending_flags)
    out.u64(guard.pending_resets)


def _load_guard(guard: StreamGuard, state: StateReader) -> None:
    guard.state = BookState(_below(state, len(BookState)))
    guard.cause = Cause(_below(state, len(Cause)))
    for chain in (guard.book, guard.trades, guard.status):
        _load_chain(chain, state)
    guard.mixed, guard.passed_over, guard.seeded = state.flag(), state.flag(), state.flag()
    guard.seed_frames = state.u64()
    guard.buffer = []
    for _ in range(state.count()):
        events = [Event.unpack(state.raw(EVENT_BYTES)) for _ in range(state.count(EVENT_BYTES))]
        if not events:
            raise ValueError("state has a message without events")
        guard.buffer.append(Message(events))
    guard.pending_flags = Quality(_below(state, 1 << len(Quality)))
    guard.pending_resets = Reads(_below(state, 1 << len(Reads)))
    guard.causes = {ResetCause.RESTORED} if guard.pending_resets else set()


def _load_chain(chain: Chain, state: StateReader) -> None:
    chain.begin(Base(_below(state, len(Base))), state.u64(), state.u64())


def _save_clock(clock: StreamClock, out: StateWriter) -> None:
    out.option_i64(clock.now)
    out.option_i64(clock.offset)
    out.i64(clock.local_before)
    out.u64(clock.faults)


def _load_clock(clock: StreamClock, state: StateReader) -> None:
    clock.now = state.option_i64()
    clock.offset = state.option_i64()
    clock.local_before = state.i64()
    clock.faults = state.u64()


def _save_book(book: OrderBook, out: StateWriter) -> None:
    for side in (book.bids, book.asks):
        levels = side.levels()
        out.u64(len(levels))
        for price, qty in levels:
            out.i64(price)
            out.i64(qty)
    out.u64(len(book.orders))
    for order_id, order in sorted(book.orders.items()):
        out.u64(order_id)
        out.u64(order.side)
        out.i64(order.price)
        out.i64(order.qty)
    out.u64(book.unknown)


def _load_book(book: OrderBook, state: StateReader) -> None:
    book.clear()
    for side in (book.bids, book.asks):
        _load_side(side, state)
    for _ in range(state.count(4 * 8)):
        order_id = state.u64()
        book.orders[order_id] = Order(_below(state, 3), state.i64(), state.i64())
    book.unknown = state.u64()


def _load_side(side: LevelSide, state: StateReader) -> None:
    for _ in range(state.count(2 * 8)):
        price, qty = state.i64(), state.i64()
        if qty <= 0:
            raise ValueError(f"state has a level of size {qty}")
        side.set(price, qty)
