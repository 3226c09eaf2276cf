//! What features publish that stand run by run: a row of values wherever one of them may change.

#![allow(clippy::inline_always, reason = "callers are compiled for several processors")]

use std::ops::Range;

use super::super::output::Output;
use super::publish::{Masks, unready};
use super::steps::Books;
use super::tracks::Node;
use crate::kernels::Cell;
use crate::stores::{LINE, Sheet, copy_line, fill_line};

/// Values of features from a tick on until the next row of them begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// The features of this block that stand run by run.
    features: Vec<usize>,
    /// Slots in a row whose features are neighbours too: the first of both, and how many.
    neighbours: Vec<(usize, usize, usize)>,
    /// Nodes of theirs that hold something else behind the first tick of a run.
    unsteady: Vec<usize>,
    /// The tick at which each row begins.
    starts: Vec<usize>,
    /// The run of each row, doubled; odd for the ticks behind its first.
    sources: Vec<usize>,
    /// 1 for each tick at which a row begins, and a line of zeros behind the last one.
    begins: Vec<u8>,
    /// Features of one mask word that differ in each row from the one before.
    differs: Vec<u64>,
    /// The words of each feature in all rows, from the second place on, and room for a line more.
    words: Vec<u64>,
    /// Words of a feature there are.
    stride: usize,
}

/// Ticks that are written together: a line of each column, or less at the ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) at: usize,
    pub(super) end: usize,
    /// The row of the first of them, counted from 1.
    row: usize,
    /// How many rows behind it each one's is, a byte each.
    behind: u64,
}

impl Group {
    /// Its ticks fill a line.
    #[inline(always)]
    pub(super) fn is_whole(&self) -> bool {
        self.end - self.at == LINE
    }

    /// All of them are of one row.
    #[inline(always)]
    pub(super) fn is_even(&self) -> bool {
        self.behind == 0
    }

    /// The place of tick `at` among the rows of these.
    #[inline(always)]
    fn place(&self, at: usize) -> usize {
        usize::from(self.behind.to_le_bytes()[at]) % LINE
    }
}

impl Standing {
    /// Room for blocks of `size` ticks.
    pub(super) fn new(features: usize, size: usize) -> Self {
        let stride = (size.div_ceil(LINE) | 1) * LINE + 2 * LINE;
        Self {
            features: Vec::with_capacity(features),
            neighbours: Vec::with_capacity(features),
            unsteady: Vec::with_capacity(features),
            starts: Vec::with_capacity(2 * size + 1),
            sources: Vec::with_capacity(2 * size + 1),
            begins: vec![0; size + LINE],
            differs: Vec::with_capacity(2 * size + 1),
            words: vec![0; features * stride],
            stride,
        }
    }

    /// Takes the rows of a block, and fills the masks of what they hold; the flags of the frames too.
    pub(super) fn take(
        &mut self,
        (tracks, nodes): (&[Node], &[usize]),
        books: &Books,
        (masks, flags): (&mut Masks, &mut [u32]),
        output: &mut Output,
    ) {
        self.features.clear();
        self.features.extend((0..nodes.len()).filter(|&feature| tracks[nodes[feature]].in_runs));
        self.neighbours.clear();
        for (slot, &feature) in self.features.iter().enumerate() {
            match self.neighbours.last_mut() {
                Some((_, first, count)) if *first + *count == feature => *count += 1,
                _ => self.neighbours.push((slot, feature, 1)),
            }
        }
        self.unsteady.clear();
        let node_of = |&feature: &usize| nodes[feature];
        self.unsteady.extend(self.features.iter().map(node_of).filter(|&node| !tracks[node].steady));
        self.find(tracks, books);
        let Self { features, words, differs, sources, starts, .. } = self;
        for word in 0..masks.changed.len() {
            differs.clear();
            differs.resize(starts.len(), 0);
            for (slot, &feature) in features.iter().enumerate().filter(|(_, feature)| **feature / 64 == word)
            {
                let node = &tracks[nodes[feature]];
                let bit = feature % 64;
                let words = &mut words[slot * self.stride..][1..];
                let places = words.iter_mut().zip(&mut *differs).zip(&*sources);
                let mut before = output.before(feature);
                let any = read(node, places, &mut before, bit);
                output.set_before(feature, before);
                if any != 0 {
                    let ready = &mut masks.ready[word];
                    let ends = starts.iter().skip(1).copied().chain([flags.len()]);
                    for ((&start, &source), end) in starts.iter().zip(&*sources).zip(ends) {
                        let state = [&node.first, node.rest()][source % 2][source / 2].state;
                        for at in if state == 0 { 0..0 } else { start..end } {
                            unready(&mut ready[at], &mut flags[at], state, bit);
                        }
                    }
                }
            }
            for (&start, &differs) in starts.iter().zip(&*differs) {
                masks.changed[word][start] |= differs;
            }
        }
    }

    /// Finds where rows begin: with each run, and behind its first tick where something is another there.
    fn find(&mut self, tracks: &[Node], books: &Books) {
        self.starts.resize(2 * books.runs() + 1, 0);
        self.sources.resize(2 * books.runs() + 1, 0);
        self.begins.fill(0);
        let mut found = 0;
        for (run, (start, ticks)) in books.spans().enumerate() {
            let mut splits = false;
            for &node in &self.unsteady {
                let (first, rest) = (tracks[node].first[run], tracks[node].rest()[run]);
                splits |= first.bits != rest.bits;
                splits |= first.state != rest.state;
            }
            let splits = u8::from(splits) & u8::from(ticks > 1);
            // WHY no branch: nobody foresees which run is long, or which one moves a sum.
            (self.starts[found], self.sources[found]) = (start, 2 * run);
            (self.starts[found + 1], self.sources[found + 1]) = (start + 1, 2 * run + 1);
            found += 1 + usize::from(splits);
            self.begins[start] = 1;
            self.begins[start + 1] = splits;
        }
        self.starts.truncate(found);
        self.sources.truncate(found);
    }

    /// Where a feature stands in a row.
    pub(super) fn slot(&self, feature: usize) -> usize {
        self.features.iter().position(|&one| one == feature).unwrap_or_default()
    }

    /// The ticks named in groups, the first of as many as are left before a line begins.
    #[inline(always)]
    pub(super) fn groups(&self, ticks: Range<usize>, lead: usize) -> impl Iterator<Item = Group> + '_ {
        let mut rows = self.starts.partition_point(|&start| start < ticks.start);
        let mut at = ticks.start;
        let mut end = ticks.end.min(at + if lead == 0 { LINE } else { lead });
        std::iter::from_fn(move || {
            if at >= ticks.end {
                return None;
            }
            let begins = u64::from_le_bytes(*self.begins.get(at..)?.first_chunk()?);
            let begins = begins & u64::MAX >> (8 * (LINE - (end - at)));
            // Each byte of the product is the sum of those up to its own.
            let begun = begins.wrapping_mul(0x0101_0101_0101_0101);
            let first = begins & 1;
            let behind = begun - first * 0x0101_0101_0101_0101;
            let [first, .., all] = begun.to_le_bytes().map(usize::from);
            let group = Group { at, end, row: rows + first, behind };
            rows += all;
            (at, end) = (end, ticks.end.min(end + LINE));
            Some(group)
        })
    }

    /// Writes what stands so in a group that is whole, from a row of the sheet on.
    #[inline(always)]
    pub(super) fn write<const AVX2: bool, const PAST: bool>(
        &self,
        group: &Group,
        row: usize,
        sheet: &mut Sheet<'_>,
    ) {
        for &(slot, feature, count) in &self.neighbours {
            let words = self.words[slot * self.stride..].chunks_exact(self.stride);
            let words = words.take(count).zip(sheet.lines(feature, row));
            if group.is_even() {
                words.for_each(|(words, place)| fill_line::<AVX2, PAST>(place, words[group.row]));
            } else {
                words.for_each(|(words, place)| copy_line::<AVX2, PAST>(place, &line(words, group)));
            }
        }
    }

    /// Writes what stands so in a group that is not whole. See `write`.
    #[inline(never)]
    pub(super) fn write_part(&self, group: &Group, row: usize, sheet: &mut Sheet<'_>) {
        for (&feature, words) in self.features.iter().zip(self.words.chunks_exact(self.stride)) {
            sheet.part(feature, row, &line(words, group)[..group.end - group.at]);
        }
    }

    /// What stands in a slot in the first tick of a group.
    #[inline(always)]
    pub(super) fn word(&self, slot: usize, group: &Group) -> u64 {
        self.words[slot * self.stride + group.row]
    }

    /// What stands in a slot in each tick of a group.
    #[inline(always)]
    pub(super) fn line(&self, slot: usize, group: &Group) -> [u64; LINE] {
        line(&self.words[slot * self.stride..][..self.stride], group)
    }
}

/// Reads what a node publishes in each row, and notes where it differs from the row `before`, which is the last
/// one then; some state of theirs is not 0 if the answer is not.
#[inline]
fn read<'a>(
    node: &Node,
    rows: impl Iterator<Item = ((&'a mut u64, &'a mut u64), &'a usize)>,
    before: &mut u64,
    bit: usize,
) -> u8 {
    let cells = [node.first.as_slice(), node.rest()];
    let mut any = 0;
    let mut take = |cell: Cell, word: &mut u64, differs: &mut u64| {
        *word = node.ticks.bits_of(cell);
        *differs |= u64::from(*word != *before) << bit;
        *before = *word;
        any |= cell.state;
    };
    if node.steady {
        rows.for_each(|((word, differs), &source)| take(cells[0][source / 2], word, differs));
    } else {
        rows.for_each(|((word, differs), &source)| take(cells[source % 2][source / 2], word, differs));
    }
    any
}

/// One of the rows of each tick of a group, and the last again behind them if it is less than a line.
#[inline(always)]
fn line(words: &[u64], group: &Group) -> [u64; LINE] {
    let Some(rows) = words[group.row..].first_chunk::<LINE>() else { return [0; LINE] };
    let of = |at| rows[group.place(at)];
    [of(0), of(1), of(2), of(3), of(4), of(5), of(6), of(7)]
}
