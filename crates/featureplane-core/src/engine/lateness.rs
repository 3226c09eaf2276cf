//! How late messages are, against the least lateness seen (rule 3.10).

/// Beyond this a message's clock is not believed.
const FAULT_NS: i64 = 60_000_000_000;
/// So many faults in a row are a step of the clock.
const FAULTS_BELIEVED: u32 = 32;
/// The offset may grow by one part in this many of the time that passes: 50 ppm.
const DRIFT: i64 = 20_000;

/// Offset between source and local clock, and what it makes of the present message.
#[derive(Clone, Debug)]
pub(super) struct Lateness {
    stale_ns: i64,
    synchronised: bool,
    local_time: bool,
    pub(super) offset: Option<i64>,
    pub(super) local_before: i64,
    pub(super) faults: u32,
}

impl Lateness {
    pub(super) fn new(stale_ms: i64, synchronised: bool, local_time: bool) -> Self {
        let stale_ns = stale_ms.saturating_mul(1_000_000);
        Self { stale_ns, synchronised, local_time, offset: None, local_before: 0, faults: 0 }
    }

    /// The next step is a first one.
    pub(super) fn forget(&mut self) {
        (self.offset, self.local_before, self.faults) = (None, 0, 0);
    }

    /// A session begins with this message.
    pub(super) fn begin(&mut self, source_ns: i64, local_ns: i64) {
        self.forget();
        self.is_fault(source_ns, local_ns);
    }

    /// Takes the times of a step; whether its clock is at fault.
    #[inline]
    pub(super) fn is_fault(&mut self, source_ns: i64, local_ns: i64) -> bool {
        if !self.local_time {
            return false;
        }
        let late = local_ns - source_ns;
        let mut before = if self.synchronised { Some(0) } else { self.offset };
        if before.is_some_and(|offset| late < offset - FAULT_NS) {
            self.faults += 1;
            if self.faults < FAULTS_BELIEVED {
                return true;
            }
            // A clock was set: this step is a first one.
            before = None;
        } else {
            self.faults = 0;
        }
        if !self.synchronised {
            let drift = (local_ns - self.local_before).div_euclid(DRIFT);
            self.offset = Some(before.map_or(late, |offset| late.min(offset + drift)));
            self.local_before = local_ns;
        }
        false
    }

    /// Takes the times of a step behind others: whether it is stale; none, and nothing is taken, if it is
    /// a first one or its clock at fault.
    #[inline]
    pub(super) fn of_plain(&mut self, source_ns: i64, local_ns: i64) -> Option<bool> {
        if !self.local_time {
            return Some(false);
        }
        let late = local_ns - source_ns;
        let before = if self.synchronised { 0 } else { self.offset? };
        if late < before - FAULT_NS {
            return None;
        }
        self.faults = 0;
        if self.synchronised {
            return Some(late > self.stale_ns);
        }
        let drift = (local_ns - self.local_before).div_euclid(DRIFT);
        let offset = late.min(before + drift);
        (self.offset, self.local_before) = (Some(offset), local_ns);
        Some(late - offset > self.stale_ns)
    }

    /// Whether the message of this step is later than the limit allows.
    #[inline]
    pub(super) fn is_stale(&self, source_ns: i64, local_ns: i64) -> bool {
        self.local_time && local_ns - source_ns - self.offset.unwrap_or(0) > self.stale_ns
    }
}
