//! Exact counts by cause: resets of kernels (rule 3.6), and frames on which a flag rises (rule 4).

/// Why kernels were reset. Names are those of counters and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`NAMES` and rule 3.6 say what each is")]
pub enum ResetCause {
    First,
    Recovery,
    Trading,
    Daily,
    Gap,
    Reconnect,
    Explicit,
    Restored,
}

impl ResetCause {
    /// Names in the order of the counts.
    pub const NAMES: [&'static str; 8] =
        ["first", "recovery", "trading", "daily", "gap", "reconnect", "explicit", "restored"];
}

/// Steps at which kernels were reset, by cause.
pub type Resets = [u64; ResetCause::NAMES.len()];

/// Why the resets that are pending are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Causes(u8);

impl Causes {
    pub(super) fn add(&mut self, cause: ResetCause) {
        self.0 |= 1 << cause as u8;
    }

    /// They are carried out; each counts once, whatever it was pending for.
    pub(super) fn count(&mut self, resets: &mut Resets) {
        let causes = std::mem::take(self).0;
        for (at, count) in resets.iter_mut().enumerate() {
            *count += u64::from(causes >> at & 1);
        }
    }
}

/// Quality flags by bit: how often each stood on a frame and not on the one computed before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rises {
    before: u32,
    pub(super) counts: [u64; 6],
}

impl Rises {
    /// Takes the flags of the next frame.
    #[inline]
    pub(super) fn note(&mut self, flags: u32) {
        if flags != self.before {
            self.change(flags);
        }
    }

    /// Takes the flags of the next frames.
    pub(super) fn note_all(&mut self, flags: &[u32]) {
        let any = flags.iter().fold(0, |any, flags| any | (flags ^ self.before));
        if any != 0 {
            for &flags in flags {
                self.note(flags);
            }
        }
    }

    /// What the frame before had is not known any more.
    pub(super) fn forget(&mut self) {
        self.before = 0;
    }

    #[cold]
    fn change(&mut self, flags: u32) {
        let risen = flags & !self.before;
        for (bit, count) in self.counts.iter_mut().enumerate() {
            *count += u64::from(risen >> bit & 1);
        }
        self.before = flags;
    }
}
