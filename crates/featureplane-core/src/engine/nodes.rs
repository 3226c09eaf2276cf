//! The nodes of one symbol's plan: what each holds now, and how ticks move them (rule 5).

use crate::error::Error;
use crate::kernels::Cell;
use crate::kernels::book::BookView;
use crate::kernels::bound::{Drive, Inputs, Instrument, Kernel};
use crate::kernels::cell::why;
use crate::kernels::state::{StateReader, StateWriter};
use crate::kernels::trades::TradeTick;
use crate::plan::{Op, Plan};

/// Reasons that travel from an undefined input to what is computed from it.
pub(super) const TRAVELS: u8 = why::COLD | why::LACK | why::OVERFLOW | why::SHORT;

/// What a node reads; resets name the same two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The book, by itself or through an input.
    pub book: bool,
    /// Trades, by itself or through an input.
    pub trades: bool,
}

impl Reads {
    /// Both channels.
    pub const ALL: Self = Self { book: true, trades: true };
    /// The book alone.
    pub const BOOK: Self = Self { book: true, trades: false };
    /// Trades alone.
    pub const TRADES: Self = Self { book: false, trades: true };

    pub(super) const fn meets(self, other: Self) -> bool {
        (self.book && other.book) || (self.trades && other.trades)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Wiring {
    pub(super) drive: Drive,
    /// Places of the inputs; a missing one points to the node itself and is never read.
    pub(super) inputs: [usize; 2],
    pub(super) count: usize,
    pub(super) reads: Reads,
    /// It or an ancestor is evaluated at the clock of each frame.
    pub(super) timed: bool,
    /// Something reads it at ticks.
    pub(super) needed_at_ticks: bool,
    /// The kernel reads a mean's integral, not its value.
    pub(super) relative: bool,
    /// It advances with its first input alone; the second only has to be defined when it is read.
    first_only: bool,
    pub(super) begins: bool,
}

impl Wiring {
    /// Places of the nodes it reads.
    pub(super) fn reads_from(&self) -> &[usize] {
        &self.inputs[..self.count]
    }
}

/// Which nodes run when, in plan order.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    book: Vec<usize>,
    trade: Vec<usize>,
    silent_trade: Vec<usize>,
    frame: Vec<usize>,
    begin: Vec<usize>,
    /// Nodes that move with the clock and may be read at a tick at which they do not run (reading 36).
    before_ticks: Vec<usize>,
}

impl Orders {
    /// The orders of the nodes that `test` names.
    pub(super) fn of(wiring: &[Wiring], test: impl Fn(usize) -> bool) -> Self {
        let places = |own: fn(&Wiring) -> bool| -> Vec<usize> {
            (0..wiring.len()).filter(|&at| test(at) && own(&wiring[at])).collect()
        };
        Self {
            book: places(|wire| wire.reads.book),
            trade: places(|wire| wire.reads.trades),
            silent_trade: places(|wire| wire.reads.trades && !wire.reads.book),
            frame: places(|wire| wire.timed),
            begin: places(|wire| wire.begins),
            before_ticks: before_ticks(wiring).into_iter().filter(|&at| test(at)).collect(),
        }
    }
}

/// Kernels, wiring and present cells of one symbol.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    pub(super) kernels: Vec<Kernel>,
    pub(super) wiring: Vec<Wiring>,
    pub(super) cells: Vec<Cell>,
    pub(super) advanced: Vec<bool>,
    pub(super) orders: Orders,
}

impl Nodes {
    pub(super) fn new(plan: &Plan, instrument: Instrument, book_levels: usize) -> Result<Self, Error> {
        let (mut kernels, mut wiring) = (Vec::new(), Vec::new());
        let mut is_read = vec![false; plan.nodes.len()];
        plan.nodes.iter().flat_map(|node| &node.inputs).for_each(|&input| is_read[input] = true);
        for (at, node) in plan.nodes.iter().enumerate() {
            let inputs: Vec<_> = node.inputs.iter().filter_map(|&input| plan.nodes.get(input)).collect();
            let mut kernel = Kernel::bind(&node.op, &inputs, instrument)?;
            if book_levels > 0 && node.op.depth() > book_levels {
                kernel = Kernel::Never;
            }
            let input = |place: usize| node.inputs.get(place).copied().unwrap_or(at);
            wiring.push(Wiring {
                drive: kernel.drive(),
                inputs: [input(0), input(1)],
                count: node.inputs.len(),
                reads: Reads { book: node.reads_book, trades: node.reads_trades },
                timed: node.timed,
                needed_at_ticks: !node.timed || is_read[at],
                relative: matches!(node.op, Op::RelativeTicks {}),
                first_only: matches!(node.op, Op::KyleLambda { .. }),
                begins: kernel.begins(),
            });
            kernels.push(kernel);
        }
        let mut nodes = Self {
            orders: Orders::of(&wiring, |_| true),
            cells: vec![Cell::COLD; kernels.len()],
            advanced: vec![false; kernels.len()],
            kernels,
            wiring,
        };
        nodes.settle_constants();
        Ok(nodes)
    }

    /// What reads neither book nor trades has its value before anything happened.
    fn settle_constants(&mut self) {
        for at in 0..self.wiring.len() {
            let wire = self.wiring[at];
            if wire.reads == Reads::default() {
                let state = self.inputs(&wire).0;
                self.cells[at] = self.value(at, &wire, state, 0);
            }
        }
    }

    pub(super) fn cell(&self, node: usize) -> Cell {
        self.cells[node]
    }

    /// Resets the kernels that read one of the channels named; whether there are any.
    pub(super) fn reset(&mut self, what: Reads) -> bool {
        let mut any = false;
        for (at, wire) in self.wiring.iter().enumerate() {
            if wire.reads.meets(what) {
                self.kernels[at].reset();
                self.cells[at] = Cell::COLD;
                any = true;
            }
        }
        any
    }

    /// A step begins; with `silent`, only for kernels that read trades alone.
    #[inline]
    pub(super) fn begin(&mut self, clock_ns: i64, silent: bool) {
        for &at in &self.orders.begin {
            if !(silent && self.wiring[at].reads.book) {
                self.kernels[at].begin(clock_ns);
            }
        }
        for place in 0..self.orders.before_ticks.len() {
            let at = self.orders.before_ticks[place];
            if !(silent && self.wiring[at].reads.book) {
                self.show(at, clock_ns);
            }
        }
    }

    /// One trade.
    pub(super) fn trade(&mut self, trade: &TradeTick, silent: bool) {
        self.advanced.fill(false);
        self.run_trade(trade, silent);
    }

    /// [`Self::trade`] where `advanced` says already which inputs moved.
    pub(super) fn run_trade(&mut self, trade: &TradeTick, silent: bool) {
        let order =
            std::mem::take(if silent { &mut self.orders.silent_trade } else { &mut self.orders.trade });
        // What reads trades alone is not shown the book: a sign is the same in every plan (reading 38).
        let without_book = TradeTick { mid_before: None, ..*trade };
        for &at in &order {
            if self.wiring[at].drive == Drive::Trade {
                let seen = if self.wiring[at].reads.book { trade } else { &without_book };
                self.advanced[at] = self.kernels[at].trade(seen);
                self.cells[at] = self.kernels[at].read(trade.clock_ns);
            } else {
                self.advance(at, trade.clock_ns, trade.mid_before, trade.step);
            }
        }
        *if silent { &mut self.orders.silent_trade } else { &mut self.orders.trade } = order;
    }

    /// One book tick; `None` is an invalid book.
    pub(super) fn book(&mut self, book: Option<&BookView<'_>>, clock_ns: i64) {
        self.advanced.fill(false);
        self.run_book(book, clock_ns);
    }

    /// [`Self::book`] where `advanced` says already which inputs moved.
    pub(super) fn run_book(&mut self, book: Option<&BookView<'_>>, clock_ns: i64) {
        let order = std::mem::take(&mut self.orders.book);
        for &at in &order {
            if self.wiring[at].drive == Drive::Book {
                let mut cell = book.map_or(Cell::undefined(0), |book| self.kernels[at].book(book, clock_ns));
                self.source(at, book, &mut cell);
                self.cells[at] = cell;
            } else if self.wiring[at].drive != Drive::Trade {
                self.advance(at, clock_ns, None, 0);
            }
        }
        self.orders.book = order;
    }

    /// Readiness of a book source without a value: it is as cold as before, but one without a memory
    /// warms on a book that only lacks the level it asks for (reading 34).
    #[inline]
    fn source(&mut self, at: usize, book: Option<&BookView<'_>>, cell: &mut Cell) {
        self.advanced[at] = cell.is_defined();
        if !cell.is_defined()
            && self.cells[at].state & why::COLD != 0
            && !book.is_some_and(|book| self.kernels[at].warms_on(book))
        {
            cell.state |= why::COLD;
        }
    }

    /// Why some input has no value now, and what the defined ones say of the book.
    #[inline]
    fn inputs(&self, wire: &Wiring) -> (u8, bool) {
        let (mut state, mut advanced) = (0, false);
        for &input in wire.reads_from() {
            state |= self.cells[input].state;
            advanced |= self.advanced[input];
        }
        (state, advanced)
    }

    /// A node driven by its inputs, at a tick.
    #[inline]
    fn advance(&mut self, at: usize, clock_ns: i64, mid_before: Option<i64>, step: u64) {
        let wire = self.wiring[at];
        let (state, mut moved) = self.inputs(&wire);
        if wire.first_only {
            moved = self.advanced[wire.inputs[0]];
            if moved && self.cells[wire.inputs[0]].is_defined() {
                self.update(at, clock_ns, mid_before, step);
            }
            self.advanced[at] = moved && state & why::UNDEFINED == 0;
        } else {
            let defined = state & why::UNDEFINED == 0;
            self.advanced[at] = moved && defined;
            if moved && defined && wire.drive == Drive::Stateful {
                self.update(at, clock_ns, mid_before, step);
            }
        }
        if wire.needed_at_ticks {
            self.cells[at] = self.value(at, &wire, travelling(state), clock_ns);
        }
    }

    #[inline]
    fn update(&mut self, at: usize, clock_ns: i64, mid_before: Option<i64>, step: u64) {
        let [x, y] = self.wiring[at].inputs.map(|input| self.cells[input].bits);
        self.kernels[at].update(Inputs { x, y, mid_before, step }, clock_ns);
    }

    /// The cell of a node whose inputs' reasons are `state`.
    #[inline]
    fn value(&mut self, at: usize, wire: &Wiring, state: u8, clock_ns: i64) -> Cell {
        let stateful = wire.drive != Drive::Stateless;
        if state & why::UNDEFINED != 0 {
            let own = if stateful { self.kernels[at].read(clock_ns).state & why::COLD } else { 0 };
            return Cell::undefined(state & TRAVELS | own);
        }
        let [x, y] = wire.inputs;
        let cell = if stateful {
            self.kernels[at].read(clock_ns)
        } else if wire.relative {
            let (means, own) = self.kernels.split_at_mut(at);
            own[0].relative(self.cells[x].bits, &mut means[y], clock_ns)
        } else {
            self.kernels[at].evaluate(self.cells[x].bits, self.cells[y].bits)
        };
        Cell { state: cell.state | state, ..cell }
    }

    /// Brings a node's cell up to date with its inputs and the clock; nothing is learned.
    #[inline]
    fn show(&mut self, at: usize, clock_ns: i64) {
        let wire = self.wiring[at];
        self.cells[at] = match wire.drive {
            Drive::Book if self.cells[at].is_defined() => self.kernels[at].read(clock_ns),
            Drive::Book => self.cells[at],
            Drive::Trade => self.kernels[at].read(clock_ns),
            Drive::Stateful | Drive::Stateless => {
                let state = travelling(self.inputs(&wire).0);
                self.value(at, &wire, state, clock_ns)
            }
        };
    }

    /// The step ends: what depends on the clock is evaluated at it (rule 5.4).
    pub(super) fn finish(&mut self, clock_ns: i64, silent: bool) {
        for place in 0..self.orders.frame.len() {
            let at = self.orders.frame[place];
            let wire = self.wiring[at];
            if !(silent && wire.reads.book) {
                if wire.count > 0 {
                    self.kernels[at].settle(self.cells[wire.inputs[0]], clock_ns);
                }
                self.show(at, clock_ns);
            }
        }
    }

    /// Writes of every node its cell, then its kernel's memory.
    pub(super) fn save(&self, out: &mut StateWriter, pause: &mut impl FnMut(&mut StateWriter)) {
        for (kernel, cell) in self.kernels.iter().zip(&self.cells) {
            out.words([u64::from(cell.state), cell.bits]);
            kernel.save(out);
            pause(out);
        }
    }

    /// Reads what [`Self::save`] wrote.
    pub(super) fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        for (kernel, cell) in self.kernels.iter_mut().zip(&mut self.cells) {
            let (state, bits) = (from.u64()?, from.u64()?);
            let known = u8::try_from(state).ok().filter(|&state| state < 2 * why::SHORT);
            match known {
                Some(state) if state & why::UNDEFINED == 0 || bits == 0 => *cell = Cell { bits, state },
                _ => return Err(from.refuse(format!("a cell with the reasons {state}"), "reasons 0 to 31")),
            }
            kernel.load(from)?;
        }
        Ok(())
    }
}

/// What travels from inputs of these reasons to what is computed from them.
#[inline]
pub(super) const fn travelling(state: u8) -> u8 {
    state & if state & why::UNDEFINED == 0 { why::SHORT } else { TRAVELS | why::UNDEFINED }
}

/// Only a kernel of several inputs reads one that did not run: where all of them read the book alone
/// they run together, else its timed inputs are brought up to the clock first.
fn before_ticks(wiring: &[Wiring]) -> Vec<usize> {
    let mut wanted = vec![false; wiring.len()];
    let book_alone = Reads { book: true, trades: false };
    for (at, wire) in wiring.iter().enumerate().rev() {
        let inputs = &wire.inputs[..wire.count];
        let mixed = inputs.len() > 1 && inputs.iter().any(|&input| wiring[input].reads != book_alone);
        if mixed || wanted[at] {
            for &input in inputs {
                wanted[input] |= wiring[input].timed;
            }
        }
    }
    wanted.iter().enumerate().filter(|&(_, &wanted)| wanted).map(|(at, _)| at).collect()
}
