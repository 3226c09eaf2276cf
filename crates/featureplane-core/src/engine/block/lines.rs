//! Frames of a block by column, a line of each at a time, and the means that wait until then.
//!
//! WHY: each value of a mean waits for the one before it, and each line on its way to the memory for those
//! before it. Side by side both take as long as one.

#![allow(unsafe_code, reason = "what is compiled for a better processor runs on one")]
#![allow(clippy::inline_always, reason = "what is not inlined is compiled for any processor")]

use std::ops::Range;

use super::late::{Late, Mean, SIDE_BY_SIDE};
use super::standing::{Group, Standing};
use super::tracks::Node;
use crate::kernels::cell::{UNDEFINED_F64, UNDEFINED_I64};
use crate::stores::{LINE, Sheet, copy_line};
use crate::units::i64_to_f64;

/// What stands run by run, and the means that follow it.
pub(super) struct Lines<'a> {
    pub(super) standing: &'a Standing,
    pub(super) late: &'a mut Late,
    pub(super) tracks: &'a mut [Node],
    pub(super) changed: &'a mut [Vec<u64>],
}

impl Lines<'_> {
    /// Writes the ticks named.
    pub(super) fn write(&mut self, ticks: Range<usize>, sheet: &mut Sheet<'_>) {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has it.
            return unsafe { self.write_by_four(ticks, sheet) };
        }
        self.write_all::<false>(ticks, sheet);
    }

    /// The same, compiled for processors that take four at once. No operation on floats is another one there.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn write_by_four(&mut self, ticks: Range<usize>, sheet: &mut Sheet<'_>) {
        self.write_all::<true>(ticks, sheet);
    }

    /// `AVX2`: what this is inlined in is compiled for processors that have it.
    #[inline(always)]
    fn write_all<const AVX2: bool>(&mut self, ticks: Range<usize>, sheet: &mut Sheet<'_>) {
        if sheet.passes_caches() {
            self.write_lines::<AVX2, true>(ticks, sheet);
        } else {
            self.write_lines::<AVX2, false>(ticks, sheet);
        }
    }

    #[inline(always)]
    fn write_lines<const AVX2: bool, const PAST: bool>(
        &mut self,
        ticks: Range<usize>,
        sheet: &mut Sheet<'_>,
    ) {
        let waits = self.late.waits_from(ticks.start);
        for group in self.standing.groups(ticks.clone(), sheet.lead()) {
            let row = group.at - ticks.start;
            if !group.is_whole() {
                self.standing.write_part(&group, row, sheet);
                if waits {
                    self.follow_part(&group, |feature, words| sheet.part(feature, row, words));
                }
                continue;
            }
            self.standing.write::<AVX2, PAST>(&group, row, sheet);
            if waits {
                self.follow(&group, |feature, line| {
                    if let Some(place) = sheet.lines(feature, row).next() {
                        copy_line::<AVX2, PAST>(place, line);
                    }
                });
            }
        }
    }

    /// Follows the ticks named, and writes nothing.
    pub(super) fn follow_all(&mut self, ticks: Range<usize>) {
        for group in self.standing.groups(ticks, 0) {
            self.follow_part(&group, |_, _| ());
        }
    }

    /// Follows a group that is whole, and shows what each feature publishes in it.
    #[inline(always)]
    fn follow(&mut self, group: &Group, mut show: impl FnMut(usize, &[u64; LINE])) {
        let Self { standing, late, tracks, changed } = self;
        let (threes, others) = late.means.as_chunks_mut::<SIDE_BY_SIDE>();
        for means in threes {
            follow(means, group, standing, tracks, changed, &mut show);
        }
        for means in others.as_chunks_mut::<1>().0 {
            follow(means, group, standing, tracks, changed, &mut show);
        }
        late.followed = group.end;
    }

    /// Follows any group. See `follow`.
    #[inline(never)]
    fn follow_part(&mut self, group: &Group, mut show: impl FnMut(usize, &[u64])) {
        let ticks = group.end - group.at;
        for mean in &mut self.late.means {
            let line = step_aside(mean, &self.standing.line(mean.slot, group), ticks);
            take(mean, &line[..ticks], group, self.tracks, self.changed);
            show(mean.feature, &line[..ticks]);
        }
        self.late.followed = group.end;
    }
}

#[inline(always)]
fn follow<const N: usize>(
    means: &mut [Mean; N],
    group: &Group,
    standing: &Standing,
    tracks: &mut [Node],
    changed: &mut [Vec<u64>],
    show: &mut impl FnMut(usize, &[u64; LINE]),
) {
    let slots = means.each_ref().map(|mean| mean.slot);
    let words = slots.map(|slot| standing.word(slot, group));
    let lines = if group.is_even() && words.iter().all(|&word| word != UNDEFINED_I64) {
        let inputs = words.map(number);
        side_by_side(means, |lane, _| inputs[lane])
    } else {
        let words = slots.map(|slot| standing.line(slot, group));
        if words.iter().flatten().all(|&word| word != UNDEFINED_I64) {
            let inputs = words.map(|line| line.map(number));
            side_by_side(means, |lane, at| inputs[lane][at])
        } else {
            std::array::from_fn(|lane| step_aside(&mut means[lane], &words[lane], LINE))
        }
    };
    for (mean, line) in means.iter_mut().zip(&lines) {
        show(mean.feature, line);
        let places = tracks[mean.node].ticks.bits[group.at + 1..].first_chunk_mut();
        let changed = changed[mean.feature / 64][group.at..].first_chunk_mut::<LINE>();
        if let (Some(place), Some(changed)) = (places, changed) {
            *place = *line;
            let before: [u64; LINE] =
                std::array::from_fn(|at| if at == 0 { mean.before } else { line[at - 1] });
            let bit = 1 << (mean.feature % 64);
            *changed = std::array::from_fn(|at| changed[at] | if line[at] == before[at] { 0 } else { bit });
            mean.before = line[LINE - 1];
        }
    }
}

/// Takes what a mean publishes in a group, and marks where it has changed.
fn take(mean: &mut Mean, words: &[u64], group: &Group, tracks: &mut [Node], changed: &mut [Vec<u64>]) {
    let bit = 1 << (mean.feature % 64);
    tracks[mean.node].ticks.bits[group.at + 1..][..words.len()].copy_from_slice(words);
    for (changed, &word) in changed[mean.feature / 64][group.at..][..words.len()].iter_mut().zip(words) {
        *changed |= if word == mean.before { 0 } else { bit };
        mean.before = word;
    }
}

#[inline(always)]
fn number(word: u64) -> f64 {
    i64_to_f64(word.cast_signed())
}

/// A line in which every input has a value.
#[inline(always)]
fn side_by_side<const N: usize>(
    means: &mut [Mean; N],
    input: impl Fn(usize, usize) -> f64,
) -> [[u64; LINE]; N] {
    let mut here = means.each_ref().map(|mean| mean.ema.clone());
    let mut lines = [[0; LINE]; N];
    for at in 0..LINE {
        for (lane, (ema, line)) in here.iter_mut().zip(&mut lines).enumerate() {
            line[at] = ema.follow(input(lane, at));
        }
    }
    for (mean, here) in means.iter_mut().zip(here) {
        mean.ema = here;
    }
    lines
}

/// So many ticks in which the input may have none.
#[inline(never)]
fn step_aside(mean: &mut Mean, inputs: &[u64; LINE], ticks: usize) -> [u64; LINE] {
    let mut line = [UNDEFINED_F64; LINE];
    for (place, &word) in line.iter_mut().zip(inputs).take(ticks) {
        if word != UNDEFINED_I64 {
            *place = mean.ema.follow(number(word));
        }
    }
    line
}
