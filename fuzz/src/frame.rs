//! The frame decoder: any bytes are a frame or an error, and a frame is what its writer makes of it again.

use featureplane_core::frame::{Frame, Layout};

use crate::choices::Choices;
use crate::streams::{PLANS, plan};

/// One byte chooses the set; the rest is the frame, or, with a tail of zeros, a part of one.
pub fn any(data: &[u8]) {
    let mut choices = Choices::new(data);
    let layout = Layout::new(plan(choices.below(PLANS)));
    let bytes = choices.rest();
    check(&layout, bytes);
    // Mostly right: a fuzzer does not find eight bytes of a fingerprint by itself.
    let mut patched = bytes.to_vec();
    patched.resize(layout.frame_bytes(), 0);
    let undefined = Frame {
        head: featureplane_core::frame::Head::default(),
        changed: &vec![0; layout.mask_words()],
        ready: &vec![0; layout.mask_words()],
        values: layout.sentinels(),
    };
    let mut sound = Vec::new();
    layout.write(&undefined, &mut sound);
    check(&layout, &sound);
    for (at, byte) in patched.iter_mut().enumerate().take(64) {
        if [0..8, 40..56].iter().any(|known| known.contains(&at)) {
            *byte = sound[at];
        }
    }
    check(&layout, &patched);
}

fn check(layout: &Layout, bytes: &[u8]) {
    let Ok(view) = layout.read(bytes) else { return };
    let words = layout.mask_words();
    let mask = |bit: &dyn Fn(usize) -> bool| -> Vec<u64> {
        (0..words)
            .map(|word| (0..64).fold(0, |mask, at| mask | u64::from(bit(64 * word + at)) << at))
            .collect()
    };
    let (changed, ready) = (mask(&|at| view.is_changed(at)), mask(&|at| view.is_ready(at)));
    let values: Vec<u64> =
        (0..view.features()).map(|at| view.value(at).unwrap_or(layout.sentinels()[at])).collect();
    let frame = Frame { head: view.head(), changed: &changed, ready: &ready, values: &values };
    let mut again = Vec::new();
    layout.write(&frame, &mut again);
    assert_eq!(again, bytes);
}
