//! From what nodes hold to columns of frames: masks, and the values that features publish.

use std::ops::Range;

use super::super::output::{Output, is_partial};
use super::steps::{Books, Steps};
use super::tracks::{self, Class, Node, Track};
use crate::frame::Layout;
use crate::frame::quality::PARTIAL_FEATURES;
use crate::kernels::Cell;
use crate::kernels::cell::why;
use crate::plan::{Feature, Plan};
use crate::stores::Place;

/// So many states are looked at together, for most are 0.
const STATES: usize = 32;

/// Masks and values of the frames of a block.
#[derive(Clone, Debug)]
pub(super) struct Published {
    /// One vector a mask word.
    pub(super) ready: Vec<Vec<u64>>,
    pub(super) changed: Vec<Vec<u64>>,
    /// The node of each feature.
    nodes: Vec<usize>,
    /// What features publish where steps are not the ticks of their nodes.
    copies: Vec<Option<Track>>,
    /// Every step has one tick of the book, so that what stands run by run can be published so.
    book_alone: bool,
    /// In this block it is.
    by_runs: bool,
    /// Those of each feature, of this block.
    stretches: Vec<Vec<Stretch>>,
}

/// The same eight bytes in the same state, from a tick on until the next stretch begins.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    from: usize,
    bits: u64,
    state: u8,
}

impl Published {
    pub(super) fn new(plan: &Plan, layout: &Layout, tracks: &[Node], steps: &Steps) -> Self {
        let masks = || vec![vec![0; steps.size]; layout.mask_words()];
        let class = |feature: &Feature| tracks[feature.node].class;
        let copy = |feature: &Feature| {
            let moves_with_ticks = matches!(class(feature), Class::Runs | Class::Ticks(_));
            (moves_with_ticks && !steps.book_alone).then(|| Track::new(feature.dtype, steps.size + 1))
        };
        let stretches = |feature: &Feature| {
            let in_runs = steps.book_alone && matches!(class(feature), Class::Runs | Class::Ticks(_));
            Vec::with_capacity(if in_runs { 2 * steps.size + 1 } else { 0 })
        };
        Self {
            ready: masks(),
            changed: masks(),
            nodes: plan.features.iter().map(|feature| feature.node).collect(),
            copies: plan.features.iter().map(copy).collect(),
            book_alone: steps.book_alone,
            by_runs: false,
            stretches: plan.features.iter().map(stretches).collect(),
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

    /// Writes what a feature publishes in `count` steps from step `from` on; the whole block, if it stands run
    /// by run and is not laid out.
    pub(super) fn write(&self, feature: usize, steps: Range<usize>, tracks: &[Node], place: &mut Place<'_>) {
        let node = &tracks[self.nodes[feature]];
        if !self.by_runs || node.is_laid_out() {
            return place.copy(&self.values(feature, steps.end, tracks)[steps.start..]);
        }
        let stretches = &self.stretches[feature];
        let ends = stretches.iter().skip(1).map(|next| next.from).chain([steps.end]);
        for (stretch, end) in stretches.iter().zip(ends) {
            place.fill(stretch.bits, end - stretch.from);
        }
    }

    /// Fills masks and flags of all frames. `output` has the frame before, and has the last one then.
    pub(super) fn run(&mut self, tracks: &mut [Node], steps: &mut Steps, output: &mut Output) {
        let count = steps.len();
        self.by_runs = self.book_alone && !steps.books.are_short();
        if !self.by_runs {
            self.lay_out(tracks, &steps.books);
            self.copy(tracks, steps);
        }
        for word in 0..self.ready.len() {
            let features = 64 * word..self.nodes.len().min(64 * word + 64);
            self.ready[word][..count].fill(u64::MAX >> (64 - features.len()));
            self.changed[word][..count].fill(0);
            for feature in features {
                let node = &tracks[self.nodes[feature]];
                if self.by_runs && node.in_runs {
                    self.mark_stretches(feature, node, steps, output);
                    continue;
                }
                let track = track(&self.copies, &self.nodes, feature, tracks);
                let changed = &mut self.changed[word][..count];
                mark(changed, &track.bits[1..=count], output.before(feature), feature % 64);
                if !track.plain {
                    let (ready, flags) = (&mut self.ready[word], steps.flags_mut());
                    for (part, states) in track.state[1..=count].chunks(STATES).enumerate() {
                        if states.iter().fold(0, |any, state| any | state) != 0 {
                            for (at, &state) in (STATES * part..).zip(states) {
                                unready(&mut ready[at], &mut flags[at], state, feature % 64);
                            }
                        }
                    }
                }
                output.set_before(feature, track.bits[count]);
            }
        }
    }

    /// Masks of what is published stretch by stretch.
    fn mark_stretches(&mut self, feature: usize, node: &Node, steps: &mut Steps, output: &mut Output) {
        let (word, bit) = (feature / 64, feature % 64);
        let stretches = &mut self.stretches[feature];
        find_stretches(stretches, node, &steps.books);
        let mut before = output.before(feature);
        let changed = &mut self.changed[word];
        for stretch in stretches.iter() {
            changed[stretch.from] |= u64::from(stretch.bits != before) << bit;
            before = stretch.bits;
        }
        output.set_before(feature, before);
        let count = steps.len();
        if stretches.iter().any(|stretch| stretch.state != 0) {
            let (ready, flags) = (&mut self.ready[word], steps.flags_mut());
            let ends = stretches.iter().skip(1).map(|next| next.from).chain([count]);
            for (stretch, end) in stretches.iter().zip(ends).filter(|(stretch, _)| stretch.state != 0) {
                for at in stretch.from..end {
                    unready(&mut ready[at], &mut flags[at], stretch.state, bit);
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

/// Finds where the cells of a node that stand run by run differ from those before.
fn find_stretches(stretches: &mut Vec<Stretch>, node: &Node, books: &Books) {
    stretches.resize(2 * books.runs() + 1, Stretch::default());
    let mut found = 0;
    let mut last = Cell { bits: 0, state: u8::MAX };
    // WHY no branch: nobody foresees which run changes what.
    let mut look = |from, cell: Cell, is_there: bool| {
        stretches[found] = Stretch { from, bits: node.ticks.bits_of(cell), state: cell.state };
        let differs = u8::from(cell.bits != last.bits) | u8::from(cell.state != last.state);
        found += usize::from(differs & u8::from(is_there));
        last = cell;
    };
    for ((start, ticks), (first, rest)) in books.spans().zip(node.cells()) {
        look(start, first, true);
        if !node.steady {
            look(start + 1, rest, ticks > 1);
        }
    }
    stretches.truncate(found);
}

/// Marks with bit `bit` where a value differs from the one before it.
fn mark(changed: &mut [u64], values: &[u64], before: u64, bit: usize) {
    let (Some(first), Some(value)) = (changed.first_mut(), values.first()) else { return };
    *first |= u64::from(*value != before) << bit;
    for (changed, (value, before)) in changed[1..].iter_mut().zip(values[1..].iter().zip(values)) {
        *changed |= u64::from(value != before) << bit;
    }
}

/// Takes the ready bit from a frame where a state says so, and tells whether that makes it partial.
#[inline]
fn unready(ready: &mut u64, flags: &mut u32, state: u8, bit: usize) {
    *ready &= !(u64::from(state & why::UNDEFINED) << bit);
    *flags |= if is_partial(state) { PARTIAL_FEATURES } else { 0 };
}
