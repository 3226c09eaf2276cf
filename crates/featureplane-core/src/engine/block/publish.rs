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
    /// Every step has one tick of the book, so that what stands run by run is published so.
    by_runs: bool,
    runs: Vec<RunMasks>,
}

/// One word of the masks of a run of ticks that see the same book: at its first tick, and behind it.
#[derive(Clone, Copy, Debug, Default)]
struct RunMasks {
    ready: [u64; 2],
    /// The second is that of the second tick; behind it nothing changes.
    changed: [u64; 2],
    partial: [bool; 2],
}

impl Published {
    pub(super) fn new(plan: &Plan, layout: &Layout, tracks: &[Node], steps: &Steps) -> Self {
        let masks = || vec![vec![0; steps.size]; layout.mask_words()];
        let class = |feature: &Feature| tracks[feature.node].class;
        let copy = |feature: &Feature| {
            let moves_with_ticks = matches!(class(feature), Class::Runs | Class::Ticks(_));
            (moves_with_ticks && !steps.book_alone).then(|| Track::new(feature.dtype, steps.size + 1))
        };
        Self {
            ready: masks(),
            changed: masks(),
            nodes: plan.features.iter().map(|feature| feature.node).collect(),
            copies: plan.features.iter().map(copy).collect(),
            by_runs: steps.book_alone,
            runs: Vec::with_capacity(steps.size),
        }
    }

    /// The node of a feature that is published run by run.
    pub(super) fn in_runs<'a>(&self, feature: usize, tracks: &'a [Node]) -> Option<&'a Node> {
        Some(&tracks[self.nodes[feature]]).filter(|node| self.by_runs && node.in_runs)
    }

    /// Brings to ticks what is published run by run.
    pub(super) fn lay_out(&self, tracks: &mut [Node], books: &Books) {
        tracks::lay_out(&self.nodes, tracks, books);
    }

    /// What a feature that is not published run by run, or is laid out, publishes in each of `count` steps.
    pub(super) fn values<'a>(&'a self, feature: usize, count: usize, tracks: &'a [Node]) -> &'a [u64] {
        &track(&self.copies, &self.nodes, feature, tracks).bits[1..=count]
    }

    /// Fills masks and flags of all frames. `output` has the frame before, and has the last one then.
    pub(super) fn run(&mut self, tracks: &mut [Node], steps: &mut Steps, output: &mut Output) {
        let count = steps.len();
        if !self.by_runs {
            self.lay_out(tracks, &steps.books);
            self.copy(tracks, steps);
        }
        for word in 0..self.ready.len() {
            let features = 64 * word..self.nodes.len().min(64 * word + 64);
            self.ready[word][..count].fill(u64::MAX >> (64 - features.len()));
            self.changed[word][..count].fill(0);
            if features.clone().any(|feature| self.in_runs(feature, tracks).is_some()) {
                self.mark_runs(word, features.clone(), tracks, steps, output);
            }
            for feature in features {
                if self.in_runs(feature, tracks).is_some() {
                    continue;
                }
                let track = track(&self.copies, &self.nodes, feature, tracks);
                let changed = &mut self.changed[word][..count];
                mark(changed, &track.bits[1..=count], output.before(feature), feature % 64);
                if !track.plain {
                    let ready = &mut self.ready[word][..count];
                    unready(ready, steps.books_and_flags().1, &track.state[1..=count], feature % 64);
                }
                output.set_before(feature, track.bits[count]);
            }
        }
    }

    /// Masks of what changes with the book alone: twice a run.
    fn mark_runs(
        &mut self,
        word: usize,
        features: Range<usize>,
        tracks: &[Node],
        steps: &mut Steps,
        output: &mut Output,
    ) {
        self.runs.clear();
        self.runs.resize(steps.books.runs(), RunMasks::default());
        let mut own = 0;
        for feature in features {
            let Some(node) = self.in_runs(feature, tracks) else { continue };
            let bit = feature % 64;
            own |= 1 << bit;
            let before = output.before(feature);
            output.set_before(feature, mark_feature(&mut self.runs, node, before, bit));
        }
        let (books, flags) = steps.books_and_flags();
        for ((start, ticks), masks) in books.spans().zip(&self.runs) {
            let (ready, changed) =
                (&mut self.ready[word][start..][..ticks], &mut self.changed[word][start..]);
            let others = ready[0] & !own;
            ready.fill(others | masks.ready[1]);
            ready[0] = others | masks.ready[0];
            changed[0] |= masks.changed[0];
            if ticks > 1 {
                changed[1] |= masks.changed[1];
            }
            if masks.partial[0] {
                flags[start] |= PARTIAL_FEATURES;
            }
            if masks.partial[1] {
                flags[start + 1..start + ticks].iter_mut().for_each(|flags| *flags |= PARTIAL_FEATURES);
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

/// Marks one feature in all runs; the eight bytes it ends with.
fn mark_feature(runs: &mut [RunMasks], node: &Node, before: u64, bit: usize) -> u64 {
    let mut before = before;
    for (masks, (&first, &rest)) in runs.iter_mut().zip(node.first.iter().zip(&node.rest)) {
        let (a, b) = (node.ticks.bits_of(first), node.ticks.bits_of(rest));
        masks.ready[0] |= u64::from(first.is_defined()) << bit;
        masks.ready[1] |= u64::from(rest.is_defined()) << bit;
        masks.changed[0] |= u64::from(a != before) << bit;
        masks.changed[1] |= u64::from(b != a) << bit;
        if first.state | rest.state != 0 {
            masks.partial[0] |= is_partial(first.state);
            masks.partial[1] |= is_partial(rest.state);
        }
        before = b;
    }
    before
}

/// Marks with bit `bit` where a value differs from the one before it.
fn mark(changed: &mut [u64], values: &[u64], before: u64, bit: usize) {
    let (Some(first), Some(value)) = (changed.first_mut(), values.first()) else { return };
    *first |= u64::from(*value != before) << bit;
    for (changed, (value, before)) in changed[1..].iter_mut().zip(values[1..].iter().zip(values)) {
        *changed |= u64::from(value != before) << bit;
    }
}

/// Takes the ready bit from frames whose state says so, and tells which are partial.
fn unready(ready: &mut [u64], flags: &mut [u32], states: &[u8], bit: usize) {
    for (at, &state) in states.iter().enumerate() {
        if state != 0 {
            ready[at] &= !(u64::from(state & why::UNDEFINED) << bit);
            flags[at] |= if is_partial(state) { PARTIAL_FEATURES } else { 0 };
        }
    }
}
