//! Books of the common kind, one a tick and many ticks at once: kernels of the best levels, and of sums over them.
//!
//! WHY: a book is asked for a side, a level and a size that is not too large by each kernel at each tick, and hardly
//! ever lacks one.

#![allow(unsafe_code, reason = "what is compiled for a better processor runs on one")]
#![allow(clippy::inline_always, reason = "what is not inlined is compiled for any processor")]

use super::super::nodes::Nodes;
use super::steps::Books;
use super::tracks::{Class, Node, Track};
use crate::book::Level;
use crate::event::side;
use crate::kernels::bound::Kernel;
use crate::kernels::touch::{Lane, ROWS, Touches, Values, imbalances};

/// Sizes below this, of no more levels than that, add up to what fits 64 bits.
const SUMMED: (u64, usize) = (1 << 50, 1 << 10);

/// What kernels hold along the ticks of a block whose books are of the common kind.
#[derive(Clone, Debug)]
pub(super) struct Usual {
    /// Best bid, best ask and their sizes; in front of each what an order flow compares the first tick with.
    best: [Vec<i64>; 4],
    /// Those of 64 ticks each.
    values: Vec<Values>,
    sums: Vec<Sums>,
    ticks: usize,
    /// Some kernel asks for the best levels.
    wanted: bool,
}

/// Sums over so many levels of bids and of asks, and their imbalance.
#[derive(Clone, Debug)]
struct Sums {
    levels: usize,
    sides: [Vec<i64>; 2],
    imbalance: Vec<i64>,
}

impl Usual {
    /// Room for blocks of `size` ticks.
    pub(super) fn new(tracks: &[Node], nodes: &Nodes, size: usize) -> Self {
        let parts = size.div_ceil(ROWS);
        let column = || vec![0; parts * ROWS + 1];
        let kernels = || nodes.kernels.iter().zip(tracks).filter(|(_, node)| node.class == Class::Runs);
        let mut levels: Vec<usize> = kernels()
            .filter_map(|(kernel, _)| match *kernel {
                Kernel::Depth(_, levels) | Kernel::ImbalancePpm(levels) => Some(levels),
                _ => None,
            })
            .collect();
        levels.retain(|levels| (2..=SUMMED.1).contains(levels));
        levels.sort_unstable();
        levels.dedup();
        let sums = |levels| Sums { levels, sides: [column(), column()], imbalance: column() };
        Self {
            best: [(); 4].map(|()| column()),
            values: vec![Values::new(); parts],
            sums: levels.into_iter().map(sums).collect(),
            ticks: 0,
            wanted: kernels().any(|(kernel, _)| is_of_touch(kernel)),
        }
    }

    /// Takes the books of a block; whether they are of the common kind, and kernels may be asked for with `write`.
    pub(super) fn take(&mut self, books: &Books, nodes: &Nodes) -> bool {
        if !self.wanted || !books.are_by_tick() {
            return false;
        }
        let Some(mut whole) = books.whole() else { return false };
        let mut flows = nodes.kernels.iter().filter_map(|kernel| match kernel {
            Kernel::Ofi(flow) if flow.is_of_touch() => Some(flow.before()),
            _ => None,
        });
        let first = whole.clone().next().and_then(|(bids, asks)| Some((*bids.first()?, *asks.first()?)));
        let before = flows.next().unwrap_or(first);
        let Some(before) = before.filter(|_| flows.all(|other| other == before)) else { return false };
        self.ticks = books.runs();
        self.put(0, before);
        self.gather(&mut whole) && self.compute()
    }

    fn put(&mut self, at: usize, (bid, ask): (Level, Level)) {
        for (column, value) in self.best.iter_mut().zip([bid.price, ask.price, bid.qty, ask.qty]) {
            column[at] = value;
        }
    }

    /// Lays out books by column; whether all sizes are small.
    fn gather<'a>(&mut self, books: &mut impl Iterator<Item = (&'a [Level], &'a [Level])>) -> bool {
        let mut any = 0;
        for (at, (bids, asks)) in books.enumerate() {
            self.put(at + 1, (bids[0], asks[0]));
            for sums in &mut self.sums {
                for (column, held) in sums.sides.iter_mut().zip([bids, asks]) {
                    let mut sum = 0i64;
                    for level in &held[..sums.levels] {
                        sum = sum.wrapping_add(level.qty);
                        any |= level.qty.cast_unsigned();
                    }
                    column[at] = sum;
                }
            }
        }
        any < SUMMED.0
    }

    /// Computes everything; whether all numbers are of the common kind.
    fn compute(&mut self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has it.
            return unsafe { self.compute_by_four() };
        }
        self.compute_all()
    }

    /// The same, compiled for processors that take four at once. No operation on floats is another one there.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn compute_by_four(&mut self) -> bool {
        self.compute_all()
    }

    #[inline(always)]
    fn compute_all(&mut self) -> bool {
        let Self { best, values, sums, ticks, .. } = self;
        let mut any = 0;
        for (values, at) in values.iter_mut().zip((0..*ticks).step_by(ROWS)) {
            let [Some(bid), Some(ask), Some(bid_qty), Some(ask_qty)] =
                best.each_ref().map(|column| column[at..].first_chunk())
            else {
                return false;
            };
            let rows = Touches { bid, ask, bid_qty, ask_qty };
            if at == 0 && !rows.begins_usual() {
                return false;
            }
            any |= values.compute(&rows, 0, ROWS.min(*ticks - at));
        }
        for Sums { sides: [bids, asks], imbalance, .. } in sums {
            any |= imbalances(&bids[..*ticks], &asks[..*ticks], &mut imbalance[..*ticks]);
        }
        any >> 63 == 0
    }

    /// What the kernel holds at each tick goes to its track, and the kernel is as behind the last of them; false,
    /// and nothing has happened, if it is none of those here.
    pub(super) fn write(&self, kernel: &mut Kernel, own: &mut Track) -> bool {
        let best = |column: usize| Some(&self.best[column][1..=self.ticks]);
        let of = |levels: usize| self.sums.iter().find(|sums| sums.levels == levels);
        let column = match kernel {
            Kernel::LevelPrice(side, 1) => best(usize::from(*side != side::BID)),
            Kernel::Qty(side, 1) | Kernel::Depth(side, 1) => best(2 + usize::from(*side != side::BID)),
            Kernel::Depth(side, levels) => {
                of(*levels).map(|sums| &sums.sides[usize::from(*side != side::BID)][..self.ticks])
            }
            Kernel::ImbalancePpm(levels) if *levels > 1 => {
                of(*levels).map(|sums| &sums.imbalance[..self.ticks])
            }
            _ => None,
        };
        if let Some(column) = column {
            own.fill_in(column, 0);
            own.end_plain(self.ticks);
            return true;
        }
        let lane: fn(&Values) -> &Lane = match kernel {
            Kernel::Mid => |values| &values.mid_x2,
            Kernel::Spread => |values| &values.spread,
            Kernel::Microprice => |values| &values.microprice_x2,
            Kernel::ImbalancePpm(1) => |values| &values.imbalance_ppm,
            Kernel::Ofi(flow) if flow.is_of_touch() => {
                let last = [0, 1, 2, 3].map(|column| self.best[column][self.ticks]);
                let [bid, ask] = [0, 1].map(|side| Level { price: last[side], qty: last[side + 2] });
                flow.follow(bid, ask);
                |values| &values.ofi
            }
            _ => return false,
        };
        for (values, at) in self.values.iter().zip((0..self.ticks).step_by(ROWS)) {
            own.fill_in(&lane(values)[..ROWS.min(self.ticks - at)], at);
        }
        own.end_plain(self.ticks);
        true
    }
}

/// `Usual` has it if anything.
fn is_of_touch(kernel: &Kernel) -> bool {
    match kernel {
        Kernel::Mid | Kernel::Spread | Kernel::Microprice | Kernel::ImbalancePpm(_) | Kernel::Depth(..) => {
            true
        }
        Kernel::LevelPrice(_, level) | Kernel::Qty(_, level) => *level == 1,
        Kernel::Ofi(flow) => flow.is_of_touch(),
        _ => false,
    }
}
