//! Plans of the common kind over rows of the common kind, 64 at once: kernels of the best levels, and sums and
//! exponential means of them.

#![allow(unsafe_code, reason = "what is compiled for a better processor runs on one; stores past the caches")]
#![allow(clippy::inline_always, reason = "what is not inlined is compiled for any processor")]

use super::nodes::Nodes;
use super::touch::Rows;
use crate::event::side;
use crate::kernels::Cell;
use crate::kernels::averages::Ema;
use crate::kernels::bound::Kernel;
use crate::kernels::rolling::CumSum;
use crate::kernels::touch::{Lane, ROWS, Touches, Values};
use crate::plan::Plan;
use crate::units::small_to_f64;

/// Means that are computed side by side. WHY: each waits for its last value, and the processor has time for
/// others meanwhile.
const SIDE_BY_SIDE: usize = 3;
/// Rows that are computed in between, for the next lanes: what waits for the means and these fit the
/// processor's window. 8 are too many, as what waits fills its queues.
const BETWEEN: usize = 4;
/// Bytes of a line of the caches.
const LINE: usize = 64;
/// Words of a table beyond which its columns do not stay in the caches.
const BEYOND_CACHES: usize = 1 << 19;
/// Sums up to this stay in 64 bits whatever 64 small rows add.
const SUM_MAX: u64 = 1 << 62;

/// What a node shows row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Bid,
    Ask,
    BidQty,
    AskQty,
    Mid,
    Spread,
    Microprice,
    Imbalance,
    Ofi,
    Sum(usize),
    Mean(usize),
}

/// A node that remembers, and what it reads.
#[derive(Clone, Copy, Debug)]
struct Running {
    node: usize,
    input: Source,
}

/// Where the values of a plan come from.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    sources: Vec<Source>,
    /// The node each feature publishes.
    features: Vec<usize>,
    sums: Vec<Running>,
    means: Vec<Running>,
    flows: Vec<usize>,
    /// Of the rows in hand, and of those behind them.
    values: Box<[Values; 2]>,
    /// Which are those in hand.
    in_hand: usize,
    summed: Vec<Lane>,
    averaged: Vec<[u64; ROWS]>,
}

impl Lanes {
    /// None if a node is of no common kind.
    pub(super) fn new(plan: &Plan, nodes: &Nodes) -> Option<Self> {
        let mut lanes = Self {
            sources: Vec::new(),
            features: plan.features.iter().map(|feature| feature.node).collect(),
            sums: Vec::new(),
            means: Vec::new(),
            flows: Vec::new(),
            values: Box::new([Values::new(), Values::new()]),
            in_hand: 0,
            summed: Vec::new(),
            averaged: Vec::new(),
        };
        for (node, (kernel, wire)) in nodes.kernels.iter().zip(&nodes.wiring).enumerate() {
            let input = lanes.sources.get(wire.inputs[0]).copied();
            let input = input.filter(|input| !matches!(input, Source::Sum(_) | Source::Mean(_)));
            let source = match kernel {
                Kernel::LevelPrice(side::BID, 1) => Source::Bid,
                Kernel::LevelPrice(_, 1) => Source::Ask,
                Kernel::Qty(side::BID, 1) | Kernel::Depth(side::BID, 1) => Source::BidQty,
                Kernel::Qty(_, 1) | Kernel::Depth(_, 1) => Source::AskQty,
                Kernel::Mid => Source::Mid,
                Kernel::Spread => Source::Spread,
                Kernel::Microprice => Source::Microprice,
                Kernel::ImbalancePpm(1) => Source::Imbalance,
                Kernel::Ofi(flow) if flow.is_of_touch() => {
                    lanes.flows.push(node);
                    Source::Ofi
                }
                Kernel::CumSum(_) => {
                    lanes.sums.push(Running { node, input: input? });
                    Source::Sum(lanes.sums.len() - 1)
                }
                Kernel::Ema(..) => {
                    lanes.means.push(Running { node, input: input? });
                    Source::Mean(lanes.means.len() - 1)
                }
                _ => return None,
            };
            lanes.sources.push(source);
        }
        lanes.summed = vec![[0; ROWS]; lanes.sums.len()];
        lanes.averaged = vec![[0; ROWS]; lanes.means.len()];
        Some(lanes)
    }

    /// Takes rows from `at` on, whole lanes of them, as long as they are of the common kind; how many. There
    /// is a row before, and the nodes have taken it.
    pub(super) fn run(
        &mut self,
        rows: &Rows<'_>,
        at: usize,
        nodes: &mut Nodes,
        out: &mut [Vec<u64>],
    ) -> usize {
        if !are_warm(nodes) {
            return 0;
        }
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has it.
            return unsafe { self.run_by_four(rows, at, nodes, out) };
        }
        self.run_all::<false>(rows, at, nodes, out)
    }

    /// The same, compiled for processors that take four at once. No operation on floats is another one there.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn run_by_four(&mut self, rows: &Rows<'_>, at: usize, nodes: &mut Nodes, out: &mut [Vec<u64>]) -> usize {
        self.run_all::<true>(rows, at, nodes, out)
    }

    /// `AVX2`: what this is inlined in is compiled for processors that have it.
    #[inline(always)]
    pub(super) fn run_all<const AVX2: bool>(
        &mut self,
        rows: &Rows<'_>,
        at: usize,
        nodes: &mut Nodes,
        out: &mut [Vec<u64>],
    ) -> usize {
        let past_caches = rows.len() * out.len() >= BEYOND_CACHES;
        let mut coming = touches(rows, at).filter(Touches::begins_usual);
        if let Some(first) = &coming
            && (self.values[self.in_hand].compute(first, 0, ROWS) >> 63 != 0 || !self.have_room(nodes))
        {
            coming = None;
        }
        let mut taken = 0;
        while let Some(now) = coming {
            coming = touches(rows, at + taken + ROWS);
            if self.run_on(&now, coming.as_ref(), nodes) >> 63 != 0 || !self.have_room(nodes) {
                coming = None;
            }
            for (&node, column) in self.features.iter().zip(&mut *out) {
                append::<AVX2>(column, self.shown(&now, node), past_caches);
            }
            taken += ROWS;
            if coming.is_none() {
                self.settle(&now, nodes);
            }
            self.in_hand = 1 - self.in_hand;
        }
        if past_caches {
            past::fence();
        }
        taken
    }

    /// Whether sums stay within 64 bits.
    #[inline(always)]
    fn have_room(&self, nodes: &Nodes) -> bool {
        self.sums.iter().all(|running| match nodes.kernels[running.node] {
            Kernel::CumSum(CumSum::Sum(sum)) => sum.unsigned_abs() < SUM_MAX,
            _ => false,
        })
    }

    /// Follows the means, and in between the sums, and computes the rows to come; see [`Values::compute`].
    #[inline(always)]
    fn run_on(&mut self, now: &Touches<'_>, coming: Option<&Touches<'_>>, nodes: &mut Nodes) -> u64 {
        let [even, odd] = &mut *self.values;
        let (values, next) = if self.in_hand == 0 { (even, odd) } else { (odd, even) };
        let summed = &mut self.summed[..];
        let mut between = Between { now, values, sums: &self.sums, summed, coming, next, unusual: 0 };
        let mut groups = self.means.chunks(SIDE_BY_SIDE).zip(self.averaged.chunks_mut(SIDE_BY_SIDE));
        if let Some((means, out)) = groups.next() {
            follow_all(means, out, now, values, nodes, Some(&mut between));
        } else {
            for from in (0..ROWS).step_by(BETWEEN) {
                between.run(from, nodes);
            }
        }
        for (means, out) in groups {
            follow_all(means, out, now, values, nodes, None);
        }
        between.unusual
    }

    /// What a node shows.
    #[inline(always)]
    fn shown<'a>(&'a self, now: &Touches<'a>, node: usize) -> &'a [u64; ROWS] {
        match self.sources[node] {
            Source::Mean(at) => &self.averaged[at],
            Source::Sum(at) => zerocopy::transmute_ref!(&self.summed[at]),
            source => zerocopy::transmute_ref!(lane(now, &self.values[self.in_hand], source)),
        }
    }

    /// Leaves the nodes as they are behind the last of these rows.
    fn settle(&self, now: &Touches<'_>, nodes: &mut Nodes) {
        let (bid, ask) = now.levels(ROWS);
        for &node in &self.flows {
            if let Kernel::Ofi(flow) = &mut nodes.kernels[node] {
                flow.follow(bid, ask);
            }
        }
        for (node, cell) in nodes.cells.iter_mut().enumerate() {
            *cell = Cell { bits: self.shown(now, node)[ROWS - 1], state: 0 };
        }
    }
}

/// Every kernel has its value at the next valid book.
fn are_warm(nodes: &Nodes) -> bool {
    nodes.kernels.iter().all(|kernel| match kernel {
        Kernel::Ofi(flow) => flow.is_warm(),
        Kernel::Ema(mean, _) => mean.is_warm(),
        Kernel::CumSum(sum) => matches!(sum, CumSum::Sum(_)),
        _ => true,
    })
}

/// Rows from `at` on with the one before them, if there are so many.
fn touches<'a>(rows: &Rows<'a>, at: usize) -> Option<Touches<'a>> {
    let of = |column: &'a [i64]| column.get(at - 1..)?.first_chunk();
    Some(Touches {
        bid: of(rows.bid)?,
        ask: of(rows.ask)?,
        bid_qty: of(rows.bid_qty)?,
        ask_qty: of(rows.ask_qty)?,
    })
}

/// What a node of the book shows. Sums and means are none.
#[inline(always)]
fn lane<'a>(touches: &Touches<'a>, values: &'a Values, source: Source) -> &'a Lane {
    let behind = |column: &'a [i64; ROWS + 1]| column.last_chunk().unwrap_or(&[0; ROWS]);
    match source {
        Source::Bid => behind(touches.bid),
        Source::Ask => behind(touches.ask),
        Source::BidQty => behind(touches.bid_qty),
        Source::AskQty => behind(touches.ask_qty),
        Source::Mid => &values.mid_x2,
        Source::Spread => &values.spread,
        Source::Microprice => &values.microprice_x2,
        Source::Imbalance => &values.imbalance_ppm,
        Source::Ofi | Source::Sum(_) | Source::Mean(_) => &values.ofi,
    }
}

/// What is done while means wait.
struct Between<'a> {
    now: &'a Touches<'a>,
    values: &'a Values,
    sums: &'a [Running],
    summed: &'a mut [Lane],
    coming: Option<&'a Touches<'a>>,
    /// Of the rows to come, of which `unusual` tells.
    next: &'a mut Values,
    unusual: u64,
}

impl Between<'_> {
    #[inline(always)]
    fn run(&mut self, from: usize, nodes: &mut Nodes) {
        if let Some(coming) = self.coming {
            self.unusual |= self.next.compute(coming, from, from + BETWEEN);
        }
        for (running, summed) in self.sums.iter().zip(&mut *self.summed) {
            let Kernel::CumSum(CumSum::Sum(sum)) = &mut nodes.kernels[running.node] else { continue };
            let inputs = lane(self.now, self.values, running.input);
            let mut here = *sum;
            for row in from..from + BETWEEN {
                here += inputs[row];
                summed[row] = here;
            }
            *sum = here;
        }
    }
}

/// Follows a group of means.
#[inline(always)]
fn follow_all(
    means: &[Running],
    out: &mut [[u64; ROWS]],
    now: &Touches<'_>,
    values: &Values,
    nodes: &mut Nodes,
    between: Option<&mut Between<'_>>,
) {
    match (means, out) {
        ([one], [out]) => follow([one], [out], now, values, nodes, between),
        ([one, two], [out, out_two]) => follow([one, two], [out, out_two], now, values, nodes, between),
        ([one, two, three], [out, out_two, out_three]) => {
            follow([one, two, three], [out, out_two, out_three], now, values, nodes, between);
        }
        _ => {}
    }
}

/// Follows means of rows in which every input has a value.
#[inline(always)]
#[allow(clippy::needless_pass_by_value, reason = "places of one call")]
fn follow<const N: usize>(
    group: [&Running; N],
    out: [&mut [u64; ROWS]; N],
    now: &Touches<'_>,
    values: &Values,
    nodes: &mut Nodes,
    mut between: Option<&mut Between<'_>>,
) {
    let mut means = group.map(|running| match &nodes.kernels[running.node] {
        Kernel::Ema(mean, _) => mean.clone(),
        _ => Ema::new(1),
    });
    let inputs = group.map(|running| lane(now, values, running.input));
    for from in (0..ROWS).step_by(BETWEEN) {
        if let Some(between) = &mut between {
            between.run(from, nodes);
        }
        for row in from..from + BETWEEN {
            for at in 0..N {
                out[at][row] = means[at].take(small_to_f64(inputs[at][row])).to_bits();
            }
        }
    }
    // WHY all at once: four cost what one costs in between.
    for lane in out {
        for word in lane {
            *word = (f64::from_bits(*word) + 0.0).to_bits();
        }
    }
    for (running, mean) in group.iter().zip(means) {
        if let Kernel::Ema(place, _) = &mut nodes.kernels[running.node] {
            *place = mean;
        }
    }
}

/// Appends a lane to a column that has room.
#[inline(always)]
fn append<const AVX2: bool>(column: &mut Vec<u64>, lane: &[u64; ROWS], past_caches: bool) {
    if past_caches && past::append::<AVX2>(column, lane) {
        return;
    }
    column.extend_from_slice(lane);
}

/// Writes of what is not read again soon, past the caches: an ordinary store first fetches what it
/// overwrites.
#[cfg(target_arch = "x86_64")]
mod past {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128, _mm256_loadu_si256,
        _mm256_stream_si256,
    };

    use super::{LINE, ROWS};

    pub(super) fn fence() {
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_sfence() };
    }

    /// Whether it was done: only where whole lines of the caches are free.
    #[inline(always)]
    #[allow(clippy::cast_ptr_alignment, reason = "loads need none, and that of the stores was asked for")]
    pub(super) fn append<const AVX2: bool>(column: &mut Vec<u64>, lane: &[u64; ROWS]) -> bool {
        let rows = column.len();
        let spare = column.spare_capacity_mut();
        if spare.len() < ROWS || !spare.as_ptr().addr().is_multiple_of(LINE) {
            return false;
        }
        let (from, to) = (lane.as_ptr(), spare.as_mut_ptr().cast::<u64>());
        for at in (0..ROWS).step_by(if AVX2 { 4 } else { 2 }) {
            // SAFETY: words of the lane, and as many of the room behind the column, which is aligned; the
            // processor has the wide stores where it is asked for them.
            unsafe {
                let (from, to) = (from.add(at), to.add(at));
                if AVX2 {
                    _mm256_stream_si256(to.cast::<__m256i>(), _mm256_loadu_si256(from.cast::<__m256i>()));
                } else {
                    _mm_stream_si128(to.cast::<__m128i>(), _mm_loadu_si128(from.cast::<__m128i>()));
                }
            }
        }
        // SAFETY: so many more words were written. Nobody else sees them before the fence.
        unsafe { column.set_len(rows + ROWS) };
        true
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod past {
    pub(super) fn fence() {}

    pub(super) fn append<const AVX2: bool>(_: &mut Vec<u64>, _: &[u64; super::ROWS]) -> bool {
        false
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn what_passes_the_caches_arrives() {
        let lane = std::array::from_fn(|at| 1_000 + at as u64);
        let mut tried = 0;
        for wide in [false, true].into_iter().filter(|wide| !wide || std::is_x86_feature_detected!("avx2")) {
            for before in 0..8 {
                let mut column: Vec<u64> = Vec::with_capacity(ROWS + 8);
                column.extend(0..before);
                let aligned = column.spare_capacity_mut().as_ptr().addr().is_multiple_of(LINE);
                let append = if wide { past::append::<true> } else { past::append::<false> };
                assert_eq!(append(&mut column, &lane), aligned);
                past::fence();
                if aligned {
                    assert!(column.into_iter().eq((0..before).chain(lane)));
                    tried += 1;
                }
            }
        }
        assert!(tried > 0);
    }

    #[test]
    fn a_column_without_room_grows_as_any() {
        let mut column = Vec::new();
        append::<false>(&mut column, &[7; ROWS], true);
        assert_eq!(column, [7; ROWS]);
    }
}
