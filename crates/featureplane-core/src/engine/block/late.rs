//! Exponential means that are computed while frames are written.

use std::ops::Range;

use super::super::nodes::Nodes;
use super::super::output::Output;
use super::standing::Standing;
use super::tracks::{Channel, Class, Node};
use crate::kernels::Dtype;
use crate::kernels::averages::Ema;
use crate::kernels::bound::Kernel;
use crate::plan::Plan;

/// See `running::SIDE_BY_SIDE`.
pub(super) const SIDE_BY_SIDE: usize = 3;

/// Means of what stands run by run.
#[derive(Clone, Debug, Default)]
pub(super) struct Late {
    pub(super) means: Vec<Mean>,
    /// They wait in this block.
    waits: bool,
    /// Ticks of this block that they have followed.
    pub(super) followed: usize,
}

/// One of them, and who publishes it and what it follows.
#[derive(Clone, Debug)]
pub(super) struct Mean {
    pub(super) node: usize,
    pub(super) feature: usize,
    /// The feature that it follows.
    input: usize,
    /// Where the input stands in the rows of this block.
    pub(super) slot: usize,
    pub(super) ema: Ema,
    /// What was published last.
    pub(super) before: u64,
}

impl Late {
    /// Those of a plan: all of them, or none if one is wanted before, by another node or as it is.
    pub(super) fn new(plan: &Plan, tracks: &[Node], nodes: &Nodes) -> Self {
        let publishes = |node: usize| {
            let mut features =
                (0..plan.features.len()).filter(|&feature| plan.features[feature].node == node);
            (features.next(), features.next())
        };
        let late = |node: usize| {
            let input = nodes.wiring[node].inputs[0];
            let is_read = nodes.wiring.iter().any(|wire| wire.reads_from().contains(&node));
            match (publishes(node), publishes(input).0) {
                ((Some(feature), None), Some(input)) if !is_read => {
                    Some(Mean { node, feature, input, slot: 0, ema: Ema::new(1), before: 0 })
                }
                _ => None,
            }
        };
        let is_one = |&node: &usize| {
            tracks[node].class == Class::Ticks(Channel::Book)
                && matches!(nodes.kernels[node], Kernel::Ema(_, Dtype::I64))
                && tracks[nodes.wiring[node].inputs[0]].class == Class::Runs
        };
        let means = (0..tracks.len()).filter(is_one).map(late).collect::<Option<Vec<_>>>();
        Self { means: means.unwrap_or_default(), waits: false, followed: 0 }
    }

    /// Begins a block; with `wanted` they wait, if they can. Whether they do.
    pub(super) fn begin(&mut self, wanted: bool, nodes: &Nodes) -> bool {
        let warm = |mean: &Mean| matches!(&nodes.kernels[mean.node], Kernel::Ema(mean, _) if mean.is_warm());
        self.waits = wanted && !self.means.is_empty() && self.means.iter().all(warm);
        self.followed = 0;
        for mean in self.means.iter_mut().filter(|_| self.waits) {
            if let Kernel::Ema(before, _) = &nodes.kernels[mean.node] {
                mean.ema.clone_from(before);
            }
        }
        self.waits
    }

    /// The rows of the block are there.
    pub(super) fn find(&mut self, standing: &Standing, output: &Output) {
        for mean in self.means.iter_mut().filter(|_| self.waits) {
            mean.slot = standing.slot(mean.input);
            mean.before = output.before(mean.feature);
        }
    }

    /// The means wait, and this is one of them.
    pub(super) fn has(&self, node: usize) -> bool {
        self.waits && self.means.iter().any(|mean| mean.node == node)
    }

    /// The means have followed the ticks up to `tick`, and not those behind it.
    pub(super) fn waits_from(&self, tick: usize) -> bool {
        self.waits && self.followed == tick
    }

    /// Ticks that they have not followed, of `count`.
    pub(super) fn left(&self, count: usize) -> Range<usize> {
        if self.waits { self.followed..count } else { count..count }
    }

    /// All ticks are followed: `nodes` and `output` are as behind the last of them.
    pub(super) fn settle(&mut self, count: usize, tracks: &[Node], nodes: &mut Nodes, output: &mut Output) {
        if !std::mem::take(&mut self.waits) {
            return;
        }
        for mean in &self.means {
            nodes.kernels[mean.node] = Kernel::Ema(mean.ema.clone(), Dtype::I64);
            nodes.cells[mean.node] = tracks[mean.node].ticks.cell(count);
            output.set_before(mean.feature, mean.before);
        }
    }
}
