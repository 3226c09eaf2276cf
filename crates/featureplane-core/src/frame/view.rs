//! Packed frames from elsewhere: checked once, then read in place.
//!
//! Twin of `FrameLayout.check` in `featureplane/features/frame.py`: the same questions in the same order, and
//! the same offsets.

use super::{HEADER_BYTES, Head, Layout, MAGIC, VERSION, quality};
use crate::error::{Error, Place};
use crate::kernels::cell::UNDEFINED_F64;

/// Every bit of the flags that has a meaning.
const FLAGS: u32 = quality::GAP_DETECTED
    | quality::STATE_RESET
    | quality::STALE_INPUT
    | quality::OUT_OF_ORDER_INPUT
    | quality::PARTIAL_FEATURES
    | quality::CROSSED_BOOK;

/// One packed frame, borrowed and known to be whole.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    bytes: &'a [u8],
    mask_words: usize,
    features: usize,
}

impl Layout {
    /// The frame in `bytes`, which must be all of it and nothing else.
    ///
    /// # Errors
    /// [`Error::FeatureSetMismatch`] for a frame of another set, [`Error::Malformed`] with the offset for
    /// anything else.
    pub fn read<'a>(&self, bytes: &'a [u8]) -> Result<FrameView<'a>, Error> {
        let whole = format!("a frame of {} bytes", self.frame_bytes());
        if bytes.len() < HEADER_BYTES {
            return Err(malformed(format!("{} bytes", bytes.len()), whole, 0));
        }
        let view = FrameView { bytes, mask_words: self.mask_words(), features: self.sentinels.len() };
        let (version, header_bytes) = (view.u16(4), view.u16(54));
        if bytes[..4] != MAGIC || version != VERSION || usize::from(header_bytes) != HEADER_BYTES {
            return Err(malformed(
                format!("magic {:02x?}, version {version}, header of {header_bytes} bytes", &bytes[..4]),
                format!("magic {MAGIC:02x?}, version {VERSION}, header of {HEADER_BYTES} bytes"),
                0,
            ));
        }
        if bytes[40..48] != self.fingerprint {
            let got = view.word(5).to_le_bytes();
            return Err(Error::FeatureSetMismatch { expected: self.fingerprint, got });
        }
        let (features, mask_words, schema) = (view.u16(6), view.u16(52), view.u32(48));
        if usize::from(features) != view.features
            || usize::from(mask_words) != view.mask_words
            || schema != self.schema_version
        {
            return Err(malformed(
                format!("{features} features, {mask_words} mask words, schema {schema}"),
                format!("{}, {}, {}", view.features, view.mask_words, self.schema_version),
                6,
            ));
        }
        if bytes.len() != self.frame_bytes() {
            return Err(malformed(format!("{} bytes", bytes.len()), whole, HEADER_BYTES));
        }
        if view.u32(12) & !FLAGS != 0 {
            return Err(malformed("flags beyond bit 5", "reserved bits of 0", 12));
        }
        if view.has_spare_bits() {
            return Err(malformed("mask bits beyond the last feature", "spare bits of 0", HEADER_BYTES));
        }
        (0..view.features).try_for_each(|feature| self.check_value(&view, feature))?;
        Ok(view)
    }

    /// Ready means defined, and what is defined is a value of its type.
    fn check_value(&self, view: &FrameView<'_>, feature: usize) -> Result<(), Error> {
        let (bits, sentinel) = (view.bits(feature), self.sentinels[feature]);
        let refuse = |expected: &str| {
            Err(malformed(format!("feature {feature} = {bits:#018x}"), expected, view.value_at(feature)))
        };
        if view.is_ready(feature) == (bits == sentinel) {
            return refuse("its ready bit to say so");
        }
        let is_value = bits == sentinel
            || if sentinel == UNDEFINED_F64 {
                f64::from_bits(bits).is_finite() && bits != (-0.0_f64).to_bits()
            } else {
                !self.codes[feature] || u32::try_from(bits).is_ok()
            };
        if is_value { Ok(()) } else { refuse("a value of its type") }
    }
}

impl FrameView<'_> {
    /// Everything but values.
    #[must_use]
    pub fn head(&self) -> Head {
        Head {
            symbol_id: self.u32(8),
            flags: self.u32(12),
            seq: self.word(2),
            source_ts_ns: self.word(3).cast_signed(),
            local_ts_ns: self.word(4).cast_signed(),
            source_seq: self.word(7),
            grid_ts_ns: 0,
        }
    }

    /// Number of features.
    #[must_use]
    pub const fn features(&self) -> usize {
        self.features
    }

    /// Whether a feature differs from the frame computed before; no for a feature that is not there.
    #[must_use]
    pub fn is_changed(&self, feature: usize) -> bool {
        self.mask_bit(8, feature)
    }

    /// Whether a feature has a value; no for a feature that is not there.
    #[must_use]
    pub fn is_ready(&self, feature: usize) -> bool {
        self.mask_bit(8 + self.mask_words, feature)
    }

    /// The eight bytes of a feature that has a value.
    #[must_use]
    pub fn value(&self, feature: usize) -> Option<u64> {
        self.is_ready(feature).then(|| self.bits(feature))
    }

    fn has_spare_bits(&self) -> bool {
        let used = self.features % 64;
        let spare = if used == 0 { 0 } else { u64::MAX << used };
        let last = |mask: usize| self.word(8 + (mask + 1) * self.mask_words - 1);
        self.mask_words > 0 && (last(0) | last(1)) & spare != 0
    }

    fn mask_bit(&self, first: usize, feature: usize) -> bool {
        feature < self.features && self.word(first + feature / 64) >> (feature % 64) & 1 == 1
    }

    const fn value_at(&self, feature: usize) -> usize {
        HEADER_BYTES + 16 * self.mask_words + 8 * feature
    }

    fn bits(&self, feature: usize) -> u64 {
        self.word(self.value_at(feature) / 8)
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(8 * at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    /// Bytes that the checks of [`Layout::read`] have found to be there.
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.bytes[at..at + N]);
        bytes
    }
}

fn malformed(found: impl Into<String>, expected: impl Into<String>, offset: usize) -> Error {
    Error::malformed(found, expected, Place::offset(offset as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;
    use crate::kernels::cell::UNDEFINED_I64;

    const FIVE: u64 = 5;

    /// An integer, a float and a code, the code without a value.
    fn layout() -> Layout {
        Layout {
            fingerprint: *b"set of 3",
            schema_version: 7,
            sentinels: vec![UNDEFINED_I64, UNDEFINED_F64, UNDEFINED_I64],
            codes: vec![false, false, true],
        }
    }

    fn packed() -> Vec<u8> {
        let head =
            Head { symbol_id: 9, flags: 3, seq: 11, source_ts_ns: -1, local_ts_ns: 2, ..Head::default() };
        let values = [FIVE, 0.5_f64.to_bits(), UNDEFINED_I64];
        let mut bytes = Vec::new();
        layout().write(&Frame { head, changed: &[0b101], ready: &[0b011], values: &values }, &mut bytes);
        bytes
    }

    #[test]
    fn rule_6_what_is_written_is_read() {
        let bytes = packed();
        let view = layout().read(&bytes).unwrap();
        assert_eq!((view.head().symbol_id, view.head().seq, view.head().source_ts_ns), (9, 11, -1));
        assert_eq!([0, 1, 2, 3].map(|at| view.is_changed(at)), [true, false, true, false]);
        assert_eq!([0, 1, 2].map(|at| view.value(at)), [Some(FIVE), Some(0.5_f64.to_bits()), None]);
    }

    #[test]
    fn rule_6_anything_else_is_refused_with_its_offset() {
        for (at, byte, offset) in [
            (0, b'G', 0),   // magic
            (4, 2, 0),      // version
            (54, 72, 0),    // header bytes
            (6, 4, 6),      // features
            (52, 2, 6),     // mask words
            (48, 8, 6),     // schema version
            (12, 0x40, 12), // a reserved flag
            (64, 8, 64),    // a spare bit of the changed mask
            (72, 11, 64),   // a spare bit of the ready mask
            (72, 2, 80),    // defined, but not ready
            (72, 7, 96),    // ready, but not defined
        ] {
            let mut bytes = packed();
            bytes[at] = byte;
            let Err(Error::Malformed { place, .. }) = layout().read(&bytes) else { panic!("byte {at}") };
            assert_eq!(place.offset, Some(offset), "byte {at}");
        }
        for value in [-0.0, f64::INFINITY, f64::from_bits(UNDEFINED_F64 | 1)] {
            let mut bytes = packed();
            bytes[88..96].copy_from_slice(&value.to_le_bytes());
            assert!(layout().read(&bytes).is_err(), "{value}");
        }
        let mut code = packed();
        code[72] = 0b111;
        code[96..104].copy_from_slice(&(1_u64 << 32).to_le_bytes());
        assert!(layout().read(&code).is_err());
    }

    #[test]
    fn a_frame_of_another_set_is_named() {
        let mut bytes = packed();
        bytes[40] = b'S';
        let error = layout().read(&bytes).unwrap_err();
        assert_eq!(error, Error::FeatureSetMismatch { expected: *b"set of 3", got: *b"Set of 3" });
    }

    #[test]
    fn every_other_length_is_refused() {
        let mut bytes = packed();
        bytes.push(0);
        assert!((0..=bytes.len()).filter(|&end| layout().read(&bytes[..end]).is_ok()).eq([104]));
    }
}
