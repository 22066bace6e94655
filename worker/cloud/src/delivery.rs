//! How EventBridge and its Scheduler bring a message to their targets.
//!
//! Both promise "at least once" and no time. A target that throttles is tried again for up to 24 hours, and in an
//! incident deliveries come hours late. With [`Unrest`] set the model doubles deliveries and holds them up;
//! otherwise each comes once, in the same moment. A delivery to a queue that does not exist, or that is too large
//! for it, is dropped and counted, as AWS drops what it need not retry.
//!
//! Not here: targets other than queues, dead-letter queues of targets.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::World;
use crate::message::Outgoing;
use crate::queue::queue_name_of;

/// For so long EventBridge tries a delivery.
pub const RETRY_SECONDS_MAX: u32 = 24 * 3600;

/// What deliveries do that a test wants more of. All off: each comes once and at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unrest {
    /// How many of a thousand deliveries come twice.
    pub duplicate_per_mille: u16,
    /// How many of a thousand deliveries are held up, or tried again.
    pub late_per_mille: u16,
    /// For how many seconds at most; no more than [`RETRY_SECONDS_MAX`].
    pub late_seconds_max: u32,
}

/// What is on its way.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Deliveries {
    /// Unrest for tests.
    pub unrest: Unrest,
    /// By when they come and the order in which they were sent.
    #[serde(with = "as_list")]
    pending: BTreeMap<(Timestamp, u64), Pending>,
    sent: u64,
    /// How many late deliveries found no queue.
    pub failed: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    arn: String,
    body: String,
}

/// JSON has no keys that are pairs.
mod as_list {
    use super::{BTreeMap, Deserialize, Pending, Serialize, Timestamp};

    type Map = BTreeMap<(Timestamp, u64), Pending>;

    pub(super) fn serialize<S: serde::Serializer>(map: &Map, to: S) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Map, D::Error> {
        Ok(Vec::<((Timestamp, u64), Pending)>::deserialize(from)?.into_iter().collect())
    }
}

impl Deliveries {
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.pending.keys().next().map(|(at, _)| *at)
    }
}

impl World {
    /// Brings a body to the queue of this ARN, now or later, once or twice. `false`: it was dropped.
    pub(crate) fn deliver_to(&mut self, now: Timestamp, arn: &str, body: &str) -> bool {
        let unrest = self.deliveries.unrest.clone();
        let twice = self.ids.chance(unrest.duplicate_per_mille);
        let mut taken = true;
        for _ in 0..=u8::from(twice) {
            let bound = u64::from(unrest.late_seconds_max.min(RETRY_SECONDS_MAX));
            if bound > 0 && self.ids.chance(unrest.late_per_mille) {
                let late = i64::try_from(1 + self.ids.draw() % bound).unwrap_or(1);
                let at = now.saturating_add(SignedDuration::from_secs(late)).unwrap_or(now);
                self.deliveries.sent += 1;
                let pending = Pending { arn: arn.to_owned(), body: body.to_owned() };
                self.deliveries.pending.insert((at, self.deliveries.sent), pending);
            } else {
                taken &= self.enqueue_at(now, arn, body.to_owned());
            }
        }
        taken
    }

    fn enqueue_at(&mut self, now: Timestamp, arn: &str, body: String) -> bool {
        let outgoing = Outgoing { body, ..Outgoing::default() };
        queue_name_of(arn).is_some_and(|name| self.enqueue(now, name, outgoing).is_ok())
    }

    /// Brings what is due at `at`.
    pub(crate) fn step_deliveries(&mut self, at: Timestamp) {
        while let Some(first) = self.deliveries.pending.first_entry() {
            if first.key().0 > at {
                return;
            }
            let Pending { arn, body } = first.remove();
            let taken = self.enqueue_at(at, &arn, body);
            self.deliveries.failed += u64::from(!taken);
        }
    }
}
