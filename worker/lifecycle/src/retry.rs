//! How soon what did not succeed is tried again, and how soon what waits is looked at: one constant for each meaning.
//!
//! *Not here.* How pauses grow between these bounds, and their jitter (crate runtime).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::Cause;

use crate::time::later;

/// A target that AWS does not let us look at, or whose AWS service does not answer, is looked at again after this.
pub(crate) const CANNOT_OBSERVE_SECONDS: i64 = 60;
/// A host that could not be asked for its unit is asked again after this.
pub(crate) const QUESTION_REFUSED_SECONDS: i64 = 60;
/// Bounds of scaling that were refused are set again after this.
pub(crate) const BOUNDS_REFUSED_SECONDS: i64 = 60;
/// A stop that was refused for good is tried again after this: what runs costs.
pub(crate) const STOP_REFUSED_SECONDS: i64 = 60;
/// A target that did not stop in time is looked at, and told to stop, again after this.
pub(crate) const STOP_OVERDUE_SECONDS: i64 = 60;
/// A service that has been short of tasks for a while is looked at again after this; ECS's events come sooner.
pub(crate) const SHORT_OF_TASKS_SECONDS: i64 = 60;
/// A backend that cannot be reached, and was warned of, is asked again after this before it is stopped for it.
pub(crate) const UNREACHABLE_SECONDS: i64 = 60;
/// How often a target with an unanswered effect is looked at, also when off.
pub const UNANSWERED_LOOK_SECONDS: i64 = 60;
/// When a record still has unsent events, somebody looks after this time.
pub const OUTBOX_LOOK_SECONDS: i64 = 30;
/// A window whose start failed tries again after this, until it ends.
pub const WINDOW_RETRY_SECONDS: i64 = 5 * 60;
/// New rights take seconds to arrive everywhere: for so long after a way began, or a command was sent, a denied call
/// is tried again.
pub const RIGHTS_ARRIVE_SECONDS: i64 = 60;
/// The pause between two such tries.
pub const RIGHTS_RETRY_SECONDS: i64 = 5;
/// The pause before the ways to launch are tried again from the first, where the last of them was refused for good and
/// another one only lacked room.
pub const OPTIONS_PAUSE_SECONDS: i64 = 10;
/// A tick is worth nothing long after it was due: a nightly stop that comes in the morning would stop what the
/// day has begun. Half an hour is some ticks of the usual five minutes, and a worker's longest restart.
const TICK_LIFE_SECONDS: i64 = 30 * 60;
/// What this fleet does not name is received at least this often before it is given up, however old it is. A message
/// that waited out an outage of all workers, and a replayed letter, meet more than one worker too.
const UNKNOWN_RECEIVES_MIN: u32 = 3;
/// The first pause of a redelivery.
pub const REDELIVERY_MIN: Duration = Duration::from_secs(2);
/// Five minutes: an outage of a day costs a message some 300 receives of its 1 000.
pub const REDELIVERY_MAX: Duration = Duration::from_secs(300);
/// A message that only a newer release may work on waits for its workers, at worst for its whole life of 14 days. Pauses
/// of 22.5 minutes at least are fewer than 900 receives in that time, of the 1 000 that make it a dead letter.
pub const NEWER_MAX: Duration = Duration::from_secs(45 * 60);
/// The first pause after AWS refused an effect.
pub const REFUSAL_MIN: Duration = Duration::from_secs(2);
/// Short against the start deadline of 2 min, so that capacity which comes back is found.
pub const REFUSAL_MAX: Duration = Duration::from_secs(20);

/// When a tick that was due then is worth nothing any more.
pub fn tick_expires_at(due: Timestamp) -> Timestamp {
    later(due, TICK_LIFE_SECONDS)
}

/// Whether a message for what this fleet does not name goes back to the queue: for `wait` after it was sent, and until
/// it was received some times. During a rolling deployment old and new workers take from the same queue for minutes,
/// and an old one must not reject what the new fleet names.
pub fn waits_for_newer_fleet(age: SignedDuration, receives: u32, wait: Duration) -> bool {
    let is_young = Duration::try_from(age).is_ok_and(|age| age < wait) || age.is_negative();
    !wait.is_zero() && (is_young || receives < UNKNOWN_RECEIVES_MIN)
}

/// Whether a refusal may only mean that new rights have not arrived everywhere, for what was begun or sent then.
pub fn rights_may_arrive(cause: Cause, since: Timestamp, now: Timestamp) -> bool {
    cause == Cause::Denied && now < later(since, RIGHTS_ARRIVE_SECONDS)
}
