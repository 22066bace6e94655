//! Lengths of time, from their text.

use lamplighter_events::HumanDuration;

pub(super) fn long(text: &str) -> HumanDuration {
    HumanDuration::parse(text).unwrap()
}
