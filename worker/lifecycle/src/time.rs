//! Arithmetic of times that saturates instead of overflowing.

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::HumanDuration;

pub(crate) fn later(at: Timestamp, seconds: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

pub(crate) fn add(at: Timestamp, duration: HumanDuration) -> Timestamp {
    at.saturating_add(duration.as_signed()).unwrap_or(Timestamp::MAX)
}
