//! Cutting messages out of any events: every event is taken once, and what is taken is sound.

use featureplane_core::error::Error;
use featureplane_core::event::Event;
use featureplane_core::message::{Message, Next, channel_of, take};
use zerocopy::FromBytes;

use crate::streams::aligned;

/// Events of 64 bytes, any bytes at all.
pub fn any(data: &[u8]) {
    let words = aligned(data);
    let mut rest = <[Event]>::ref_from_bytes(zerocopy::IntoBytes::as_bytes(&words[..])).unwrap_or_default();
    while !rest.is_empty() {
        let taken = match take(rest) {
            Next::Message(message) => {
                check(&message);
                message.events.len()
            }
            Next::Malformed { events, at, error } => {
                let Error::Malformed { place, .. } = error else { panic!("{error}") };
                let offset = place.offset.unwrap_or(u64::MAX);
                assert_eq!(rest.get(usize::try_from(offset / 64).unwrap_or(usize::MAX)), Some(at));
                let _ = channel_of(events);
                if events.is_empty() { rest.len() } else { events.len() }
            }
            Next::Incomplete => {
                assert!(!rest.iter().any(Event::is_last));
                rest.len()
            }
        };
        rest = &rest[taken..];
    }
}

fn check(message: &Message<'_>) {
    let (last, before) = message.events.split_last().expect("a message has events");
    assert!(last.is_last() && !before.iter().any(Event::is_last));
    for event in message.events {
        assert!(event.same_message(message.head()));
        assert!(event.price.unsigned_abs() < 1 << 53 && (0..1 << 53).contains(&event.qty));
        assert!(event.source_ts_ns >= 0 && event.local_ts_ns >= 0 && event.seq_prev <= event.seq_last);
    }
}
