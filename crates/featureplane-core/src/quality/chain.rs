//! The ids of one channel, and where a message stands among them (rule 3.3).

use crate::event::Event;

/// What set the beginning of a chain of ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// Nothing yet.
    #[default]
    Unset,
    /// A snapshot.
    Snapshot,
    /// A gap that was not waited for.
    PassedOver,
    /// The first message that had ids.
    First,
}

/// The ids applied of one channel: (base, applied], unbroken (rule 3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// What set `base`.
    pub kind: Base,
    /// The id from which the chain is unbroken.
    pub base: u64,
    /// The last id applied, 0 if none.
    pub applied: u64,
}

/// Where a message with ids stands in its chain (rule 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It ends at or before `base`.
    Before,
    /// It ends at or before `applied`.
    Duplicate,
    /// It continues the chain.
    Next,
    /// It overlaps the end of the chain.
    Overlap,
    /// Ids are missing before it.
    Gap,
}

impl Chain {
    /// Whether any id is known.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.kind != Base::Unset
    }

    /// See [`Place`]; everything continues a chain that is not set.
    #[inline]
    #[must_use]
    pub fn place(&self, head: &Event) -> Place {
        if !self.is_set() {
            Place::Next
        } else if head.seq_last <= self.base {
            Place::Before
        } else if head.seq_last <= self.applied {
            Place::Duplicate
        } else if head.seq_prev > self.applied {
            Place::Gap
        } else if head.seq_prev < self.applied {
            Place::Overlap
        } else {
            Place::Next
        }
    }

    /// Whether a message has no ids, or the next ones.
    #[inline]
    #[must_use]
    pub fn goes_on(&self, head: &Event) -> bool {
        let follows = head.seq_prev == self.applied && head.seq_last > self.applied && self.is_set();
        head.seq_last == 0 || follows
    }

    /// Takes a message that continues it, or is its first.
    #[inline]
    pub fn apply(&mut self, head: &Event) {
        if !self.is_set() {
            (self.kind, self.base) = (Base::First, head.seq_prev);
        }
        self.applied = head.seq_last;
    }

    /// Takes a message behind a gap that is passed over.
    pub fn pass(&mut self, head: &Event) {
        *self = Self { kind: Base::PassedOver, base: head.seq_prev, applied: head.seq_last };
    }
}
