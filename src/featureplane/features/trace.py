"""Why a number is what it is: one message through the reference, with everything a feature read on its way.

The frame is found with the fastest backend there is, in pieces whose beginning is kept as saved state. The
reference goes on from the piece's beginning, so that a frame deep in a file costs no more than one at its
start, and has to make the same bytes.

Leans on `reference`, `native_engine` and `parity`'s errors. Knows nothing of files or of the command line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from featureplane import native
from featureplane.errors import EmptyStream, ParityBreach, SettingError, UnknownSymbol
from featureplane.features.frame import FeatureFrame
from featureplane.features.kernels.cell import Cell, Why
from featureplane.features.kernels.declarations import KERNELS
from featureplane.features.kernels.expression import Expression
from featureplane.features.kernels.state import StateWriter
from featureplane.features.native_engine import NativeEngine
from featureplane.features.nodes import Node
from featureplane.features.reference import ReferenceEngine
from featureplane.features.spec import FeatureSet, FeatureSpec
from featureplane.features.symbol import SymbolRun
from featureplane.market.agreement import check_declared
from featureplane.market.events import EventBatch
from featureplane.market.instruments import Instrument
from featureplane.market.messages import Message, MessageReader
from featureplane.market.quality import BookState

__all__ = ["Level", "Moment", "NodeMoment", "Trace", "TracedNode", "Word", "trace"]

_PIECE_EVENTS: Final = 1_024

Word = int | float | str | None
"""One entry of a saved state: a number, bytes as hex, or None for an optional value that is not there."""
Level = tuple[int, int]
"""Price and size."""


class Moment(NamedTuple):
    """A symbol before or after a message; prices, sizes and times as integers.

    `book` is waiting, whole or broken, `applied` its last id. Levels are (price, size), best first; there
    are none where the set reads no book. `clock_ns` is None before the first step.
    """

    book: str
    applied: int
    buffered: int
    trading: bool
    clock_ns: int | None
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class NodeMoment(NamedTuple):
    """A kernel before or after a message: what it shows, and its saved state word by word."""

    cell: Cell
    state: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class TracedNode:
    """One kernel call on the way to the feature.

    `text` is the call, with features by their id and other inputs as `#n`; `inputs` are such numbers.
    `advanced` says whether it learned from this message, `state_text` what its state's words are, in order.
    """

    number: int
    features: tuple[str, ...]
    text: str
    inputs: tuple[int, ...]
    kernel: str
    formula: str
    state_text: str
    warm: str
    advanced: bool
    before: NodeMoment
    after: NodeMoment
    reason: str  # why it has no value, or not the whole of one; empty if there is nothing to say


@dataclass(frozen=True, slots=True)
class Trace:
    """One feature of one frame, and all it was made of.

    `nodes` are in the order in which they run, the feature's own last. `message` counts the symbol's
    messages from 1. `resets` are causes of kernels being reset in this message; `restored` is one that
    an earlier message asked for. `reason` says why there is no value.
    """

    spec: FeatureSpec
    instrument: Instrument
    frame: FeatureFrame
    events: Message
    message: int
    resets: tuple[str, ...]
    before: Moment
    after: Moment
    nodes: tuple[TracedNode, ...]
    value: int | float | None
    reason: str
    executions: tuple[str, ...]


def trace(
    events: EventBatch | Iterable[EventBatch],
    fset: FeatureSet,
    feature_id: str,
    seq: int,
    *,
    symbol: str | None = None,
    levels: int = 5,
    backend: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> Trace:
    """Tell how `feature_id` got its value in the symbol's frame number `seq`.

    `events` are a stream from its beginning; it is read up to that frame. `levels` are shown of each side
    of the book. `progress` is told of the events looked through.

    Raises
    ------
    UnknownFeature, UnknownSymbol
        The set or the stream does not have it.
    SettingError
        There is no such frame; the hint has the nearest.
    EmptyStream
        There is no frame at all.
    ParityBreach
        The reference makes other bytes of the message than the backend.
    """
    index = fset.index(feature_id)
    if seq < 1:
        raise SettingError(f"found frame {seq}, expected one from 1", hint="frames are numbered from 1")
    if levels < 1:
        raise SettingError(f"levels={levels}", hint="a number of levels above 0")
    batches = iter([events] if isinstance(events, EventBatch) else events)
    first = next(batches, None)
    if first is None:
        raise EmptyStream("a stream without batches", hint="give at least one batch")
    search = _Search(fset, first, _instrument(first, symbol), backend)
    found = search.find(_pieces(first, batches), seq, progress)
    return _Walk(fset, search, found).trace(index, levels)


def _instrument(batch: EventBatch, symbol: str | None) -> Instrument:
    if symbol is None:
        return batch.instrument
    for one in batch.instruments:
        if one.symbol == symbol:
            return one
    raise UnknownSymbol(symbol, [one.symbol for one in batch.instruments])


def _pieces(first: EventBatch, rest: Iterator[EventBatch]) -> Iterator[EventBatch]:
    yield from first.chunks(_PIECE_EVENTS)
    for batch in rest:
        yield from batch.chunks(_PIECE_EVENTS)


class _Found(NamedTuple):
    """The piece that makes the frame, and the symbol's state before the piece."""

    piece: EventBatch
    state: bytes
    messages: int  # of the symbol, before the piece
    frame: FeatureFrame


class _Search:
    """Looks for a frame."""

    def __init__(self, fset: FeatureSet, first: EventBatch, instrument: Instrument, backend: str) -> None:
        self.instrument = instrument
        self.stream = (fset, first.instruments, first.source, first.options)
        self.is_native = native.resolve(backend) == "rust"
        make = NativeEngine if self.is_native else ReferenceEngine
        self._engine: NativeEngine | ReferenceEngine = make(*self.stream)

    def find(self, pieces: Iterable[EventBatch], seq: int, progress: Callable[[int], None] | None) -> _Found:
        symbol_id, engine = self.instrument.symbol_id, self._engine
        last = events = messages = 0
        for piece in pieces:
            check_declared(piece)
            state = engine.snapshot(symbol_id)
            for frame, _ in engine.process(piece.array):
                if frame.symbol_id == symbol_id:
                    last = frame.seq
                    if last == seq:
                        return _Found(piece, state, messages, frame)
            events += len(piece)
            messages += int((piece.array["symbol_id"][piece.message_ends - 1] == symbol_id).sum())
            if progress is not None:
                progress(events)
        if not last:
            hint = (
                "`featureplane data inspect` says what is in it; without a snapshot use `--seed increments`"
            )
            raise EmptyStream(f"frames of {self.instrument.symbol}", hint=hint)
        found = f"found frame {seq} of {self.instrument.symbol}, expected one from 1 to {last}"
        raise SettingError(found, hint=f"the nearest, the last, is {last}")


class _Walk:
    """The reference from the beginning of the piece to the message."""

    def __init__(self, fset: FeatureSet, search: _Search, found: _Found) -> None:
        self._fset, self._search, self._found = fset, search, found
        plan = fset.plan
        self._published: dict[int, list[str]] = {}
        for feature in plan.features:
            self._published.setdefault(feature.node, []).append(feature.feature_id)
        self._expressions: list[Expression] = []
        for node in plan.nodes:
            inputs = tuple(self._expressions[i] for i in node.inputs)
            self._expressions.append(Expression(node.kernel, tuple(sorted(node.params.items())), inputs))

    def trace(self, index: int, levels: int) -> Trace:
        """What the message did to the feature's kernels."""
        found, instrument = self._found, self._search.instrument
        numbers = self._needed(self._fset.plan.features[index].node)
        messages = self._messages()
        at = self._at(messages)
        engine, run = self._begun()
        for message in messages[:at]:
            run.take(message)
        before, cells = _moment(run, levels), [_node_moment(run.nodes.all[i]) for i in numbers]
        ticks, causes = [run.nodes.all[i].advanced for i in numbers], run.resets.copy()
        made = run.take(messages[at])
        frame = None if made is None else FeatureFrame(engine.pack(made), engine.layout)
        if frame is None or frame != found.frame:
            raise self._breach(frame)
        nodes = tuple(
            self._node(i, run.nodes.all[i], cell, tick)
            for i, cell, tick in zip(numbers, cells, ticks, strict=True)
        )
        spec = self._fset.specs[index]
        value = frame[spec.feature_id]
        reason = nodes[-1].reason
        if value is None and nodes[-1].after.cell.value is not None:
            reason = "the whole frame is undefined, see its flags"
        return Trace(
            spec=spec,
            instrument=instrument,
            frame=frame,
            events=messages[at],
            message=found.messages + at + 1,
            resets=tuple((run.resets - causes).elements()),
            before=before,
            after=_moment(run, levels),
            nodes=nodes,
            value=value,
            reason=reason,
            executions=("reference", "block") if self._search.is_native else ("reference",),
        )

    def _messages(self) -> list[Message]:
        piece, instrument = self._found.piece, self._search.instrument
        reader = MessageReader(
            [one.symbol_id for one in piece.instruments], on_malformed=piece.options.on_malformed
        )
        return [one for one in reader.read(piece.array) if one.symbol_id == instrument.symbol_id]

    def _at(self, messages: list[Message]) -> int:
        """Which of the piece's messages makes the frame."""
        _, run = self._begun()
        for at, message in enumerate(messages):
            made = run.take(message)
            if made is not None and made.seq == self._found.frame.seq:
                return at
        raise self._breach(None)

    def _begun(self) -> tuple[ReferenceEngine, SymbolRun]:
        symbol_id = self._search.instrument.symbol_id
        engine = ReferenceEngine(*self._search.stream)
        engine.restore(symbol_id, self._found.state)
        return engine, engine.symbol(symbol_id)

    def _breach(self, frame: FeatureFrame | None) -> ParityBreach:
        theirs = self._found.frame
        where = f"{theirs.symbol}: frame {theirs.seq}"
        mine = "missing" if frame is None else frame.pack().hex()
        return ParityBreach(where, mine, theirs.pack().hex(), replay="featureplane parity")

    def _needed(self, node: int) -> list[int]:
        """The nodes a node reads, transitively, and itself, in the order in which they run."""
        wanted, left = {node}, [node]
        while left:
            for one in self._fset.plan.nodes[left.pop()].inputs:
                if one not in wanted:
                    wanted.add(one)
                    left.append(one)
        return sorted(wanted)

    def _node(self, number: int, node: Node, before: NodeMoment, tick: int) -> TracedNode:
        planned = self._fset.plan.nodes[number]
        declaration = KERNELS[planned.kernel]
        names = {self._expressions[i]: self._name(i) for i in planned.inputs}
        after = _node_moment(node)
        return TracedNode(
            number=number,
            features=tuple(self._published.get(number, ())),
            text=self._expressions[number].text(names),
            inputs=planned.inputs,
            kernel=planned.kernel,
            formula=declaration.formula,
            state_text=_state_text(node.kernel) if after.state or before.state else "",
            warm=_warm(planned.warm_events, planned.warm_ns),
            advanced=node.advanced != tick,
            before=before,
            after=after,
            reason=_reason(node, declaration.no_value),
        )

    def _name(self, number: int) -> str:
        return self._published.get(number, [f"#{number}"])[0]


def _moment(run: SymbolRun, levels: int) -> Moment:
    guard, book = run.guard, run.book
    return Moment(
        book=BookState(guard.state).name.lower(),
        applied=guard.book.applied,
        buffered=len(guard.buffer),
        trading=run.is_trading,
        clock_ns=run.clock.now,
        bids=tuple(book.bids.levels()[:levels]),
        asks=tuple(book.asks.levels()[:levels]),
    )


def _node_moment(node: Node) -> NodeMoment:
    words = _Words()
    if node.keeps_state:
        node.kernel.save(words)
    return NodeMoment(node.cell, tuple(words.words))


class _Words(StateWriter):
    """Takes what a kernel saves as numbers, where its parent takes bytes."""

    __slots__ = ("words",)

    def __init__(self) -> None:
        super().__init__()
        self.words: list[Word] = []

    def u64(self, value: int) -> None:
        self.words.append(value)

    i64 = i128 = u64

    def f64(self, value: float) -> None:
        self.words.append(value)

    def option_u64(self, value: int | None) -> None:
        self.words.append(value)

    option_i64 = option_i128 = option_u64

    def option_f64(self, value: float | None) -> None:
        self.words.append(value)

    def raw(self, data: bytes) -> None:
        self.words.append(data.hex())


def _state_text(kernel: object) -> str:
    """What a kernel's docstring says of its state; empty where Python was told to drop docstrings."""
    lines = (inspect.getdoc(type(kernel)) or "").splitlines()
    begins = next((at for at, line in enumerate(lines) if line.startswith("State ")), None)
    if begins is None:
        return ""
    text = [lines[begins].removeprefix("State")]
    for line in lines[begins + 1 :]:
        if not line.startswith(" "):
            break
        text.append(line)
    return " ".join(" ".join(text).split())


def _warm(events: int, span_ns: int) -> str:
    """When a kernel and all it reads are warm, in words."""
    advances = f"{events} advance{'s' * (events != 1)}"
    return f"{advances} and {span_ns / 1e9:g} s" if span_ns else advances


def _reason(node: Node, no_value: str) -> str:
    if node.kernel is None:
        return "the feed or the instrument does not have what it asks for"
    why, words = node.cell.why, []
    if why & Why.COLD:
        words.append("not warm")
    if why & Why.LACK:
        words.append("the book lacks a side or level")
    if why & Why.OVERFLOW:
        words.append("an integer beyond 2^63 - 1")
    if why & Why.SHORT:
        words.append("a depth in it sums fewer levels than asked")
    if why & Why.UNDEFINED and not words:
        words.append(no_value or "an input has no value")
    return ", ".join(words)
