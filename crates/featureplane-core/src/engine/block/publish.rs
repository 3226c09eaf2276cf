//! From what nodes hold to columns of frames: masks, and the values that features publish.

use super::super::output::{Output, is_partial};
use super::steps::Steps;
use super::tracks::{Class, Node, Track};
use crate::frame::Layout;
use crate::frame::quality::PARTIAL_FEATURES;
use crate::kernels::Cell;
use crate::kernels::cell::why;
use crate::plan::Plan;

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
}

impl Published {
    pub(super) fn new(plan: &Plan, layout: &Layout, tracks: &[Node], steps: &Steps) -> Self {
        let masks = || vec![vec![0; steps.size]; layout.mask_words()];
        let copies = |class: Class| match class {
            Class::Runs | Class::Ticks(_) => !steps.book_alone,
            Class::Constant | Class::Steps(_) | Class::Row => false,
        };
        Self {
            ready: masks(),
            changed: masks(),
            nodes: plan.features.iter().map(|feature| feature.node).collect(),
            copies: (plan.features.iter())
                .map(|feature| {
                    copies(tracks[feature.node].class).then(|| Track::new(feature.dtype, steps.size + 1))
                })
                .collect(),
        }
    }

    /// The track of a feature; the cell of step n stands in place n + 1.
    fn track<'a>(&'a self, feature: usize, tracks: &'a [Node]) -> &'a Track {
        let node = &tracks[self.nodes[feature]];
        match (&self.copies[feature], node.class) {
            (Some(copy), _) => copy,
            (None, Class::Steps(_) | Class::Row) => &node.steps,
            (None, _) => &node.ticks,
        }
    }

    /// What a feature publishes in each of `count` steps.
    pub(super) fn values<'a>(&'a self, feature: usize, count: usize, tracks: &'a [Node]) -> &'a [u64] {
        &self.track(feature, tracks).bits[1..=count]
    }

    /// Fills masks and flags of all frames. `output` has the frame before, and has the last one then.
    pub(super) fn run(&mut self, tracks: &[Node], steps: &mut Steps, output: &mut Output) {
        let count = steps.len();
        self.copy(tracks, steps);
        for word in 0..self.ready.len() {
            let features = self.nodes.len().min(64 * (word + 1)) - 64 * word;
            self.ready[word][..count].fill(u64::MAX >> (64 - features));
            self.changed[word][..count].fill(0);
        }
        for feature in 0..self.nodes.len() {
            let node = &tracks[self.nodes[feature]];
            let track = match (&self.copies[feature], node.class) {
                (Some(copy), _) => copy,
                (None, Class::Steps(_) | Class::Row) => &node.steps,
                (None, _) => &node.ticks,
            };
            let (word, bit) = (feature / 64, feature % 64);
            mark(&mut self.changed[word][..count], &track.bits[1..=count], output.before(feature), bit);
            if !track.plain {
                let ready = &mut self.ready[word][..count];
                for ((ready, flags), &state) in ready.iter_mut().zip(&mut steps.flags).zip(&track.state[1..])
                {
                    *ready &= !(u64::from(state & why::UNDEFINED) << bit);
                    *flags |= if is_partial(state) { PARTIAL_FEATURES } else { 0 };
                }
            }
            output.set_before(feature, track.bits[count]);
        }
    }

    /// Brings what moves with ticks to steps.
    fn copy(&mut self, tracks: &[Node], steps: &Steps) {
        for (copy, &at) in self.copies.iter_mut().zip(&self.nodes) {
            let Some(copy) = copy else { continue };
            let node = &tracks[at];
            let grid = steps.of(node.channel);
            copy.begin(Cell { bits: 0, state: 0 }, steps.len());
            for (step, &end) in grid.ends.iter().enumerate() {
                copy.bits[step + 1] = node.ticks.bits[end];
            }
            if node.ticks.plain {
                copy.make_plain();
            } else {
                let mut any = 0;
                for (step, &end) in grid.ends.iter().enumerate() {
                    copy.state[step + 1] = node.ticks.state[end];
                    any |= node.ticks.state[end];
                }
                copy.end(any);
            }
        }
    }
}

/// Marks with bit `bit` where a value differs from the one before it.
fn mark(changed: &mut [u64], values: &[u64], before: u64, bit: usize) {
    let (Some(first), Some(value)) = (changed.first_mut(), values.first()) else { return };
    *first |= u64::from(*value != before) << bit;
    for (changed, pair) in changed[1..].iter_mut().zip(values.windows(2)) {
        *changed |= u64::from(pair[0] != pair[1]) << bit;
    }
}
