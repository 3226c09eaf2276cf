//! From what nodes hold to columns of frames: masks, and the values that features publish.

#![allow(unsafe_code, reason = "what is compiled for a better processor runs on one")]
#![allow(clippy::inline_always, reason = "what is not inlined is compiled for any processor")]

use std::ops::Range;

use super::super::nodes::Nodes;
use super::super::output::{Output, is_partial};
use super::late::Late;
use super::lines::Lines;
use super::standing::Standing;
use super::steps::{Books, Steps};
use super::tracks::{self, Class, Node, Track};
use crate::frame::Layout;
use crate::frame::quality::PARTIAL_FEATURES;
use crate::kernels::Cell;
use crate::kernels::cell::why;
use crate::plan::{Feature, Plan};
use crate::stores::Sheet;

/// So many states are looked at together, for most are 0.
const STATES: usize = 32;

/// Masks of the frames of a block, one vector a word.
#[derive(Clone, Debug)]
pub(super) struct Masks {
    pub(super) ready: Vec<Vec<u64>>,
    pub(super) changed: Vec<Vec<u64>>,
}

/// Masks and values of the frames of a block.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) masks: Masks,
    /// The node of each feature.
    nodes: Vec<usize>,
    /// What features publish where steps are not the ticks of their nodes.
    copies: Vec<Option<Track>>,
    /// Every step has one tick of the book, so that what stands run by run can be published so.
    book_alone: bool,
    /// In this block it is.
    by_runs: bool,
    standing: Standing,
    late: Late,
}

impl Published {
    pub(super) fn new(
        plan: &Plan,
        layout: &Layout,
        (tracks, nodes): (&[Node], &Nodes),
        steps: &Steps,
    ) -> Self {
        let masks = || vec![vec![0; steps.size]; layout.mask_words()];
        let moves_with_ticks =
            |feature: &Feature| matches!(tracks[feature.node].class, Class::Runs | Class::Ticks(_));
        let copy = |feature: &Feature| {
            (moves_with_ticks(feature) && !steps.book_alone)
                .then(|| Track::new(feature.dtype, steps.size + 1))
        };
        let in_runs =
            plan.features.iter().filter(|feature| steps.book_alone && moves_with_ticks(feature)).count();
        Self {
            masks: Masks { ready: masks(), changed: masks() },
            nodes: plan.features.iter().map(|feature| feature.node).collect(),
            copies: plan.features.iter().map(copy).collect(),
            book_alone: steps.book_alone,
            by_runs: false,
            standing: Standing::new(in_runs, steps.size),
            late: if steps.book_alone { Late::new(plan, tracks, nodes) } else { Late::default() },
        }
    }

    /// Brings to ticks what is published run by run.
    pub(super) fn lay_out(&self, tracks: &mut [Node], books: &Books) {
        tracks::lay_out(&self.nodes, tracks, books);
    }

    /// What a feature that is not published run by run, or is laid out, publishes in each of `count` steps.
    pub(super) fn values<'a>(&'a self, feature: usize, count: usize, tracks: &'a [Node]) -> &'a [u64] {
        debug_assert!(!self.by_runs || tracks[self.nodes[feature]].is_laid_out());
        &track(&self.copies, &self.nodes, feature, tracks).bits[1..=count]
    }

    /// Begins a block; with `late` the means that can be are computed when they are written. Whether there are
    /// such.
    pub(super) fn begin(&mut self, late: bool, books: &Books, nodes: &Nodes) -> bool {
        self.by_runs = self.book_alone && !books.are_short();
        self.late.begin(late && self.by_runs, nodes)
    }

    /// Writes what features publish in the steps named, one column each.
    pub(super) fn write(&mut self, steps: Range<usize>, tracks: &mut [Node], sheet: &mut Sheet<'_>) {
        let waits = self.late.waits_from(steps.start);
        for (feature, &node) in self.nodes.iter().enumerate() {
            let in_lines = tracks[node].in_runs || (waits && self.late.has(node));
            if !self.by_runs || !in_lines {
                sheet.copy(feature, &self.values(feature, steps.end, tracks)[steps.start..]);
            }
        }
        if self.by_runs {
            self.lines(tracks).write(steps, sheet);
        }
    }

    fn lines<'a>(&'a mut self, tracks: &'a mut [Node]) -> Lines<'a> {
        let Self { standing, late, masks, .. } = self;
        Lines { standing, late, tracks, changed: &mut masks.changed }
    }

    /// All frames are put out: brings to its end what was to be computed when they are written.
    pub(super) fn settle(
        &mut self,
        count: usize,
        tracks: &mut [Node],
        nodes: &mut Nodes,
        output: &mut Output,
    ) {
        let left = self.late.left(count);
        self.lines(tracks).follow_all(left);
        self.late.settle(count, tracks, nodes, output);
    }

    /// Fills masks and flags of all frames. `output` has the frame before, and has the last one then.
    pub(super) fn run(&mut self, tracks: &mut [Node], steps: &mut Steps, output: &mut Output) {
        let count = steps.len();
        for word in 0..self.masks.ready.len() {
            let features = self.nodes.len().min(64 * word + 64) - 64 * word;
            self.masks.ready[word][..count].fill(u64::MAX >> (64 - features));
            self.masks.changed[word][..count].fill(0);
        }
        if self.by_runs {
            let (books, flags) = steps.books_and_flags();
            self.standing.take((tracks, &self.nodes), books, (&mut self.masks, flags), output);
            self.late.find(&self.standing, output);
        } else {
            self.lay_out(tracks, &steps.books);
            self.copy(tracks, steps);
        }
        for feature in 0..self.nodes.len() {
            if !self.by_runs || !tracks[self.nodes[feature]].in_runs {
                self.mark(feature, tracks, steps, output);
            }
        }
    }

    /// Masks of what is published step by step.
    fn mark(&mut self, feature: usize, tracks: &[Node], steps: &mut Steps, output: &mut Output) {
        let (count, word, bit) = (steps.len(), feature / 64, feature % 64);
        let track = track(&self.copies, &self.nodes, feature, tracks);
        if !self.late.has(self.nodes[feature]) {
            let changed = &mut self.masks.changed[word][..count];
            mark(changed, &track.bits[1..=count], output.before(feature), bit);
            output.set_before(feature, track.bits[count]);
        }
        if !track.plain {
            let (ready, flags) = (&mut self.masks.ready[word], steps.flags_mut());
            for (part, states) in track.state[1..=count].chunks(STATES).enumerate() {
                if states.iter().fold(0, |any, state| any | state) != 0 {
                    for (at, &state) in (STATES * part..).zip(states) {
                        unready(&mut ready[at], &mut flags[at], state, bit);
                    }
                }
            }
        }
    }

    /// Brings what moves with ticks to steps.
    fn copy(&mut self, tracks: &[Node], steps: &Steps) {
        for (copy, &at) in self.copies.iter_mut().zip(&self.nodes) {
            let Some(copy) = copy else { continue };
            let node = &tracks[at];
            let grid = steps.of(node.channel);
            copy.begin(Cell { bits: 0, state: 0 }, steps.len());
            for (place, &end) in copy.bits[1..].iter_mut().zip(grid.ends) {
                *place = node.ticks.bits[end];
            }
            if node.ticks.plain {
                copy.make_plain();
            } else {
                let mut any = 0;
                for (place, &end) in copy.state[1..].iter_mut().zip(grid.ends) {
                    *place = node.ticks.state[end];
                    any |= *place;
                }
                copy.end(any);
            }
        }
    }
}

/// The track of a feature; the cell of step n stands in place n + 1.
fn track<'a>(copies: &'a [Option<Track>], nodes: &[usize], feature: usize, tracks: &'a [Node]) -> &'a Track {
    let node = &tracks[nodes[feature]];
    match (&copies[feature], node.class) {
        (Some(copy), _) => copy,
        (None, Class::Steps(_) | Class::Row) => &node.steps,
        (None, _) => &node.ticks,
    }
}

/// Marks with bit `bit` where a value differs from the one before it.
fn mark(changed: &mut [u64], values: &[u64], before: u64, bit: usize) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has it.
        return unsafe { mark_by_four(changed, values, before, bit) };
    }
    mark_all(changed, values, before, bit);
}

/// The same, compiled for processors that take four at once.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn mark_by_four(changed: &mut [u64], values: &[u64], before: u64, bit: usize) {
    mark_all(changed, values, before, bit);
}

#[inline(always)]
fn mark_all(changed: &mut [u64], values: &[u64], before: u64, bit: usize) {
    let (Some(first), Some(value)) = (changed.first_mut(), values.first()) else { return };
    *first |= u64::from(*value != before) << bit;
    for (changed, (value, before)) in changed[1..].iter_mut().zip(values[1..].iter().zip(values)) {
        *changed |= u64::from(value != before) << bit;
    }
}

/// Takes the ready bit from a frame where a state says so, and tells whether that makes it partial.
#[inline]
pub(super) fn unready(ready: &mut u64, flags: &mut u32, state: u8, bit: usize) {
    *ready &= !(u64::from(state & why::UNDEFINED) << bit);
    *flags |= if is_partial(state) { PARTIAL_FEATURES } else { 0 };
}
