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

    /// Takes the times of a step: whether its clock is at fault, and whether it is stale.
    pub(super) fn see(&mut self, source_ns: i64, local_ns: i64) -> (bool, bool) {
        if !self.local_time {
            return (false, false);
        }
        let late = local_ns - source_ns;
        let before = if self.synchronised { Some(0) } else { self.offset };
        let faulty = before.is_some_and(|offset| late < offset - FAULT_NS);
        self.faults = if faulty { self.faults + 1 } else { 0 };
        if faulty && self.faults < FAULTS_BELIEVED {
            return (true, false);
        }
        let offset = match before {
            _ if self.synchronised => 0,
            // A clock that was set, or a first step.
            None => late,
            Some(_) if faulty => late,
            Some(offset) => late.min(offset + (local_ns - self.local_before).div_euclid(DRIFT)),
        };
        if !self.synchronised {
            (self.offset, self.local_before) = (Some(offset), local_ns);
        }
        (false, late - offset > self.stale_ns)
    }
}
