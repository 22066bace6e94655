//! When a message counts as sent.
//!
//! Commands are ordered by the time at which they were sent. SQS stamps each message (`SentTimestamp`), and stamps
//! it anew when a dead letter is sent back to the command queue. Parking and replaying therefore keep the first
//! stamp as an attribute, beside the first message id, which is the mark that the attribute is ours. Both
//! survive a redrive from the SQS console.
//!
//! *Invariants.* A message never counts from later than its own stamp: a time in the future would make a hold
//! that no stop ends, or a kill that supersedes every start until then. It counts from no earlier than
//! [`KEPT_DAYS_MAX`] before its stamp. A kept time without the mark is ignored.
//!
//! The mark is no authentication. Whoever may send to the command queue can set it, and so make a command of their
//! own look older, which gives it less effect and no other command more. Letters that the previous release parked
//! bear the same mark, so they keep their order too.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// The attribute that keeps the time of the first sending.
pub const SENT_AT_ATTRIBUTE: &str = "lamplighter-sent-at";
/// The attribute that keeps SQS's first id of a message through a replay, and the mark of [`SENT_AT_ATTRIBUTE`]. The id
/// is the command's where that has none of its own, and not one of its own: a command that is parked again is not
/// used up by it.
pub const FIRST_ID_ATTRIBUTE: &str = "lamplighter-message-id";
/// SQS keeps a message for 14 days at most, and a dead letter for 14 more.
pub const KEPT_DAYS_MAX: i64 = 28;

/// When a message with these attributes and this stamp of SQS's counts as sent.
pub fn effective_sent_at(attributes: &BTreeMap<String, String>, stamp: Timestamp) -> Timestamp {
    let is_ours = attributes.contains_key(FIRST_ID_ATTRIBUTE);
    let kept = attributes
        .get(SENT_AT_ATTRIBUTE)
        .filter(|_| is_ours)
        .and_then(|text| text.parse::<Timestamp>().ok());
    let longest = SignedDuration::from_hours(24 * KEPT_DAYS_MAX);
    let earliest = stamp.saturating_sub(longest).unwrap_or(Timestamp::MIN);
    kept.map_or(stamp, |kept| kept.clamp(earliest, stamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "2026-11-20T10:00:00Z";

    #[track_caller]
    fn check(attributes: &[(&str, &str)], expected: &str) {
        let attributes: BTreeMap<String, String> =
            attributes.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let found = effective_sent_at(&attributes, STAMP.parse().unwrap());
        assert_eq!(found.to_string(), expected, "{attributes:?}");
    }

    #[test]
    fn a_kept_time_counts_only_beside_the_mark_and_only_into_the_past() {
        let kept = |at| [(SENT_AT_ATTRIBUTE, at), (FIRST_ID_ATTRIBUTE, "m-1")];
        check(&[], STAMP);
        check(&kept("2026-11-19T08:00:00.123Z"), "2026-11-19T08:00:00.123Z");
        check(&kept("2099-01-01T00:00:00Z"), STAMP);
        check(&kept("1970-01-01T00:00:00Z"), "2026-10-23T10:00:00Z");
        check(&kept("yesterday"), STAMP);
        check(&[(SENT_AT_ATTRIBUTE, "2026-11-19T08:00:00Z")], STAMP);
        check(&[(SENT_AT_ATTRIBUTE, "2099-01-01T00:00:00Z")], STAMP);
        check(&[(FIRST_ID_ATTRIBUTE, "m-1")], STAMP);
    }

    #[test]
    fn a_letter_that_the_previous_release_parked_keeps_its_order() {
        let attributes = [
            ("id", "c-7"),
            (FIRST_ID_ATTRIBUTE, "5fea7756-0ea4-451a-a703-a558b933e274"),
            (SENT_AT_ATTRIBUTE, "2026-11-12T10:00:00Z"),
            ("reason", "unknown-target"),
            ("reason-message", "unknown target \"nobody\": the fleet has keeper"),
        ];
        check(&attributes, "2026-11-12T10:00:00Z");
        // And what its `dlq replay` had just sent, without the reasons.
        check(&attributes[..3], "2026-11-12T10:00:00Z");
    }
}
