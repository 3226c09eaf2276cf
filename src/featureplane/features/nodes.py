"""The kernels of a plan at work for one symbol: ticks, evaluation, resets (rules 5.2, 5.4, 7).

A node shows a cell at any moment. At a tick the nodes its channel reaches run in plan order; after
the last tick of a step all are read once at the clock. `features.reference` decides which ticks
there are.

Leans on `plan` and `kernels`. Knows nothing of guards, messages or frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from featureplane.features.kernels.binding import Family, InputType, Terms, bind, family_of, is_timed
from featureplane.features.kernels.cell import NOT_WARM, Cell, Why, published, stateless
from featureplane.features.kernels.interface import Begins, BookView, Settles
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.features.kernels.trades import TradeTick
from featureplane.features.plan import Plan, PlanNode
from featureplane.market.quality import Reads

__all__ = ["Node", "Nodes"]

_UNDEFINED: Final = int(Why.UNDEFINED)
_COLD: Final = int(Why.COLD)
_LACK: Final = int(Why.LACK)


class Node:
    """One kernel call: its kernel, and the cell it shows.

    `reads` are the channels it reads, transitively; `moves` says that its cell may change with the
    clock alone. `touched` and `advanced` are the numbers of the last tick that did so to it. `own` is
    what the kernel said when it was read last, None since it learned something. A kernel of None
    belongs to a feed that never has what it asks for.
    """

    __slots__ = (
        "advanced",
        "begins",
        "cell",
        "dtype",
        "family",
        "inputs",
        "kernel",
        "moves",
        "own",
        "reads",
        "settles",
        "timed",
        "touched",
    )

    def __init__(self, plan_node: PlanNode, kernel: Any, inputs: tuple[Node, ...], reads: Reads) -> None:
        self.family = family_of(plan_node.kernel)
        self.kernel = kernel
        self.inputs = inputs
        self.dtype = plan_node.dtype
        self.reads = reads
        self.timed = is_timed(plan_node.kernel)
        self.moves: bool = self.timed or any(one.moves for one in inputs)
        self.begins = isinstance(kernel, Begins)
        self.settles = isinstance(kernel, Settles)
        self.touched = self.advanced = 0
        self.cell = NOT_WARM
        self.own: Cell | None = None

    def reset(self) -> None:
        """Forget everything; what it shows is not warm until it advances again."""
        if self.keeps_state:
            self.kernel.reset()
        self.cell = NOT_WARM
        self.own = None

    @property
    def keeps_state(self) -> bool:
        """Whether there is a kernel that remembers something."""
        return self.kernel is not None and self.family not in {Family.STATELESS, Family.RELATIVE}

    # -- ticks

    def tick(self, tick: int, clock_ns: int) -> None:
        """Run because an input was touched: advance if one advanced and all have values."""
        advances, defined = False, True
        for one in self.inputs:
            advances = advances or one.advanced == tick
            defined = defined and one.cell.value is not None
        if advances and defined:
            self.advanced = tick
            if self.family is Family.STATEFUL and self.kernel is not None and not self.settles:
                self.kernel.update(*[one.cell.value for one in self.inputs], clock_ns)
                self.own = None
        self.touched = tick
        self.show(clock_ns)

    def is_reached(self, tick: int) -> bool:
        """Whether an input was touched at this tick."""
        for one in self.inputs:  # noqa: SIM110 - as often as nodes times events
            if one.touched == tick:
                return True
        return False

    def show(self, clock_ns: int) -> None:
        """Bring the cell up to date with inputs and clock; nothing is learned."""
        if self.kernel is None:
            self.cell = NOT_WARM
            return
        match self.family:
            case Family.BOOK:
                if self.timed and self.cell.value is not None:
                    self.cell = self.kernel.read(clock_ns)
            case Family.TRADES:
                self.cell = self.kernel.read(clock_ns)
            case Family.STATEFUL | Family.KYLE:
                if self.own is None or self.timed:
                    self.own = self.kernel.read(clock_ns)
                self.cell = published(self.own, tuple([one.cell for one in self.inputs]))
            case Family.STATELESS | Family.RELATIVE:
                self.cell = self._evaluated(clock_ns)

    def _evaluated(self, clock_ns: int) -> Cell:
        cells = tuple([one.cell for one in self.inputs])
        for cell in cells:
            if cell.value is None:
                return published(_NOTHING, cells)
        if self.family is Family.RELATIVE:
            own = self.kernel.value(cells[0].value, *self.inputs[1].kernel.integral(clock_ns))
        else:
            own = self.kernel.value(*[cell.value for cell in cells])
        return stateless(own, cells)

    def look(self, book: BookView, tick: int, clock_ns: int) -> None:
        """A valid book: advance if it has what the kernel needs."""
        self.touched = tick
        if self.kernel is None:
            return
        if self.kernel.sees(book):
            self.advanced = tick
            self.cell = self.kernel.look(book, clock_ns)
        else:
            self.cell = Cell(None, _UNDEFINED | _LACK | (self.cell.why & _COLD))

    def lose_book(self) -> None:
        """The book is invalid or cannot be read: no value, as cold as before."""
        self.cell = Cell(None, _UNDEFINED | (self.cell.why & _COLD))

    def save(self, out: StateWriter) -> None:
        """The cell, then the kernel's state."""
        out.u64(self.cell.why)
        out.raw(bytes(8) if self.cell.value is None else self.cell.bits(self.dtype))
        if self.keeps_state:
            self.kernel.save(out)


_NOTHING: Final = Cell(None, 0)


class Nodes:
    """All nodes of a plan for one symbol.

    `terms` are the instrument's; without `trade_sides` the sign of a trade is read off the book.
    """

    def __init__(self, plan: Plan, terms: Terms, *, trade_sides: bool) -> None:
        self.all: list[Node] = []
        for plan_node in plan.nodes:
            inputs = tuple(self.all[i] for i in plan_node.inputs)
            types = [InputType(plan.nodes[i].dtype, plan.nodes[i].kind) for i in plan_node.inputs]
            kernel = bind(plan_node.kernel, plan_node.params, types, terms)
            reads = _reads_of(plan_node, inputs, trade_sides=trade_sides)
            self.all.append(Node(plan_node, kernel, inputs, reads))
        self.features = [self.all[feature.node] for feature in plan.features]
        self.reads = Reads.NOTHING
        for node in self.all:
            self.reads |= node.reads
        self._book = [node for node in self.all if node.family is Family.BOOK]
        self._of_book = [node for node in self.all if node.reads & Reads.BOOK]
        self._of_trades = [node for node in self.all if node.reads & Reads.TRADES]
        self._of_trades_only = [node for node in self.all if node.reads == Reads.TRADES]
        self._after_trades = [node for node in self.all if node.moves or node.reads & Reads.TRADES]
        self._before_ticks = _read_before_ticks(self.all)
        self._ticks = 0
        for node in self.all:
            node.show(0)

    # -- the parts of a step, in their order (reading 25)

    def reset(self, channels: Reads) -> bool:
        """Reset the kernels that read one of `channels`; whether there are any."""
        concerned = [node for node in self.all if node.reads & channels]
        for node in concerned:
            node.reset()
        return bool(concerned)

    def begin(self, clock_ns: int, *, trades_only: bool) -> None:
        """A step begins for the nodes that take part in it."""
        for node in self._of_trades_only if trades_only else self.all:
            if node.begins:
                node.kernel.begin(clock_ns)
        for node in self._before_ticks:
            if not trades_only or node.reads == Reads.TRADES:
                node.show(clock_ns)

    def trade_tick(self, trade: TradeTick, *, trades_only: bool) -> None:
        """A market trade."""
        self._ticks += 1
        tick, clock_ns = self._ticks, trade.clock_ns
        # What reads trades alone is not shown the book: a sign is the same in every plan (reading 38).
        without_book = trade._replace(mid_before=None)
        for node in self._of_trades_only if trades_only else self._of_trades:
            if node.family is Family.TRADES:
                if node.kernel.update(trade if node.reads & Reads.BOOK else without_book):
                    node.touched = node.advanced = tick
                    node.show(clock_ns)
            elif node.family is Family.KYLE:
                self._kyle_tick(node, trade)
            elif node.is_reached(tick):
                node.tick(tick, clock_ns)

    def _kyle_tick(self, node: Node, trade: TradeTick) -> None:
        signed = node.inputs[0]
        if signed.advanced == self._ticks:
            node.kernel.update(signed.cell.value, trade.mid_before, trade.step)
            node.own = None
            node.advanced = node.touched = self._ticks
            node.show(trade.clock_ns)

    def book_tick(self, book: BookView, clock_ns: int) -> None:
        """A valid book after a message."""
        self._ticks += 1
        tick = self._ticks
        for node in self._of_book:
            if node.family is Family.BOOK:
                node.look(book, tick, clock_ns)
            elif node.family is Family.KYLE:
                node.touched = tick
                node.show(clock_ns)
            elif node.is_reached(tick):
                node.tick(tick, clock_ns)

    def lose_book(self) -> None:
        """The book is invalid, or broken: no kernel of the book has a value or advances."""
        for node in self._book:
            node.lose_book()

    def finish(self, clock_ns: int, *, trades_only: bool = False, book_stands: bool = False) -> None:
        """The last tick is over: every node is read at the clock (rule 5.4).

        With `book_stands` nothing happened to the book; with `trades_only` nobody may look at it.
        """
        nodes = self._of_trades_only if trades_only else self._after_trades if book_stands else self.all
        for node in nodes:
            if node.settles:
                node.kernel.settle(node.inputs[0].cell, clock_ns)
            if node.moves or node.inputs:
                node.show(clock_ns)

    # -- saved state

    def save(self, out: StateWriter) -> None:
        """Of every node its cell, then its kernel's state."""
        for node in self.all:
            node.save(out)

    def load(self, state: StateReader) -> None:
        """Take what `save` wrote; ValueError for what cannot have been."""
        for node in self.all:
            why, word = state.u64(), state.raw(8)
            if why >= 2 * Why.SHORT or (why & _UNDEFINED and any(word)):
                raise ValueError(f"state has a cell with the reasons {why}")
            if why & _UNDEFINED:
                node.cell = Cell(None, why)
            else:
                words = StateReader(word)
                node.cell = Cell(words.f64() if node.dtype == "f64" else words.i64(), why)
            if node.keeps_state:
                node.kernel.load(state)
            node.own = None


def _reads_of(plan_node: PlanNode, inputs: Iterable[Node], *, trade_sides: bool) -> Reads:
    reads = Reads.NOTHING
    family = family_of(plan_node.kernel)
    if family is Family.BOOK:
        reads = Reads.BOOK
    elif family is Family.TRADES:
        reads = Reads.TRADES
        if plan_node.kernel == "signed_qty" and not trade_sides:
            reads |= Reads.BOOK
    for one in inputs:
        reads |= one.reads
    return reads


def _read_before_ticks(nodes: list[Node]) -> list[Node]:
    """Nodes that move with the clock and may be read by another at a tick at which they do not run.

    Only a kernel of several inputs reads one that did not run: where all of them read the book
    alone they run together, else their moving inputs are brought up to the clock first (reading 36).
    """
    wanted: set[int] = set()

    def want(node: Node) -> None:
        if node.moves and id(node) not in wanted:
            wanted.add(id(node))
            for one in node.inputs:
                want(one)

    for node in nodes:
        if len(node.inputs) > 1 and any(one.reads != Reads.BOOK for one in node.inputs):
            for one in node.inputs:
                want(one)
    return [node for node in nodes if id(node) in wanted]
