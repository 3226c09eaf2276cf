//! Steps gathered into blocks, and kernels run through a block node by node (rule 10.5).
//!
//! The kernels are those of streaming, and what they leave behind is the same: a block ends at any
//! step. What is no plain step goes through streaming, between two blocks.

mod books;
mod late;
mod lines;
mod publish;
mod rows;
mod running;
mod scans;
mod standing;
mod steps;
mod tracks;
mod usual;

use self::publish::Published;
use self::rows::Rows;
use self::running::Running;
use self::steps::Steps;
use self::tracks::{Channel, Class, Node};
use self::usual::Usual;
use super::nodes::Nodes;
use super::output::Output;
use super::plain::PlainStep;
use super::symbol::Shared;
use crate::book::Book;
use crate::frame::{FrameColumns, Frames};
use crate::kernels::trades::TradeTick;
use crate::stores::Sheet;

/// Steps of one symbol that wait to be computed.
#[derive(Clone, Debug)]
pub(super) struct Block {
    steps: Steps,
    usual: Usual,
    running: Running,
    rows: Rows,
    results: Results,
    /// Frames handed out since they were computed.
    handed_out: usize,
}

/// What was computed of the steps of a block.
#[derive(Clone, Debug)]
struct Results {
    /// Number of steps.
    len: usize,
    tracks: Vec<Node>,
    published: Published,
}

impl Block {
    /// Room for `size` steps.
    pub(super) fn new(shared: &Shared, nodes: &Nodes, size: usize) -> Self {
        let steps = Steps::new(size, shared.plan.depth.max(1), shared.reads);
        let tracks = tracks::of_plan(&shared.plan, nodes, size);
        Self {
            usual: Usual::new(&tracks, nodes, size),
            running: Running::new(&tracks, nodes),
            rows: Rows::new(&tracks, nodes),
            results: Results {
                len: 0,
                published: Published::new(&shared.plan, &shared.layout, (&tracks, nodes), &steps),
                tracks,
            },
            steps,
            handed_out: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// No further step has room.
    pub(super) fn is_full(&self) -> bool {
        self.steps.is_full()
    }

    /// How many further steps have room.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.steps.room()
    }

    /// A trade of the step to come.
    pub(super) fn trade(&mut self, trade: TradeTick) {
        self.steps.trade(trade);
    }

    /// The book as the step `ahead` steps from now has left it; with `changed` it may differ from the last
    /// one shown.
    #[inline]
    pub(super) fn see(&mut self, ahead: usize, book: &Book, valid: bool, changed: bool) {
        self.steps.see(ahead, book, valid, changed);
    }

    /// Flags of the step `ahead` steps from now, and the last applied id of the book.
    #[inline]
    pub(super) fn note(&mut self, ahead: usize, flags: u32, source_seq: u64) {
        self.steps.note(ahead, flags, source_seq);
    }

    /// Adds steps of one moment that were noted; with `book` each has a tick of the book, which was seen.
    /// `seq` is that of the first, which gets the flags `pending` too.
    #[inline]
    pub(super) fn add(&mut self, count: usize, book: bool, step: PlainStep, seq: u64, pending: u32) {
        self.steps.raise(pending);
        self.steps.add(count, book, step, seq);
    }

    /// Runs all kernels through the steps. `nodes` and `output` are as behind the last of them when `settle`
    /// was called, too. With `late` some wait until the frames are written, all together and by column.
    pub(super) fn compute(&mut self, nodes: &mut Nodes, output: &mut Output, late: bool) {
        let Self { steps, results: Results { len, tracks, published }, usual, running, rows, .. } = self;
        *len = steps.len();
        steps.books.close();
        let late = published.begin(late, &steps.books, nodes);
        let ticks = [Channel::Book, Channel::Trades].map(|channel| steps.of(channel).ticks());
        let ticks_of = |node: &Node| ticks[usize::from(node.channel == Channel::Trades)];
        for (node, &before) in tracks.iter_mut().zip(&nodes.cells) {
            let most = if node.class == Class::Constant { ticks[0].max(ticks[1]) } else { ticks_of(node) };
            node.begin(before, most, steps.len(), steps.books.are_by_tick());
        }
        books::run(tracks, nodes, &steps.books, usual);
        running.run(late, tracks, nodes, &steps.books);
        for at in 0..tracks.len() {
            if !running.is_done(at) && tracks[at].is_scanned() {
                tracks::lay_out(nodes.wiring[at].reads_from(), tracks, &steps.books);
                scans::run(at, tracks, nodes, steps);
            }
        }
        rows.run(tracks, nodes, steps);
        for (node, cell) in tracks.iter().zip(&mut nodes.cells) {
            *cell = match node.class {
                Class::Constant => *cell,
                Class::Runs | Class::Ticks(_) if node.in_runs => node.rest().last().copied().unwrap_or(*cell),
                Class::Runs | Class::Ticks(_) => node.ticks.cell(ticks_of(node)),
                Class::Steps(_) | Class::Row => node.steps.cell(steps.len()),
            }
        }
        published.run(tracks, steps, output);
    }

    /// Flags of the frames of all steps, which are computed.
    pub(super) fn flags(&self) -> &[u32] {
        self.steps.flags()
    }

    /// The frames of the next `count` steps that were not handed out; all of them are computed. Their
    /// values can be looked at one by one unless they are wanted `by_column`.
    pub(super) fn frames(&mut self, symbol_id: u32, count: usize, by_column: bool) -> Frames<'_> {
        let from = self.handed_out;
        if !by_column {
            self.results.published.lay_out(&mut self.results.tracks, &self.steps.books);
        }
        self.handed_out += count;
        let range = from..from + count;
        Frames {
            symbol_id,
            first_seq: self.steps.first_seq + from as u64,
            source_seq: &self.steps.source_seq()[range.clone()],
            source_ts_ns: &self.steps.source_ns()[range.clone()],
            local_ts_ns: &self.steps.local_ns()[range.clone()],
            flags: &self.steps.flags()[range],
            columns: (&mut self.results, from),
        }
    }

    /// All frames are handed out.
    pub(super) fn settle(&mut self, nodes: &mut Nodes, output: &mut Output) {
        let Results { len, tracks, published } = &mut self.results;
        published.settle(*len, tracks, nodes, output);
    }

    /// Forgets the steps.
    pub(super) fn clear(&mut self) {
        self.steps.clear();
        self.handed_out = 0;
    }
}

impl FrameColumns for Results {
    fn value(&self, feature: usize) -> &[u64] {
        self.published.values(feature, self.len, &self.tracks)
    }

    fn write(&mut self, from: usize, count: usize, sheet: &mut Sheet<'_>) {
        self.published.write(from..from + count, &mut self.tracks, sheet);
    }

    fn ready(&self, word: usize) -> &[u64] {
        &self.published.masks.ready[word][..self.len]
    }

    fn changed(&self, word: usize) -> &[u64] {
        &self.published.masks.changed[word][..self.len]
    }
}
