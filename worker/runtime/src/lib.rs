//! The plumbing around the rules: messages in, passes, effects, waits, sweeps.
//!
//! *Theory.* Records decide, messages nudge (DESIGN.md §3). A message is parsed and routed to its
//! target's task; the task loads the record, observes, decides (crate lifecycle), commits once, acts.
//! The message is deleted only after all that it caused is durable.
//!
//! *Invariants.* No AWS SDK type here. No slot is held across a wait. One target is worked on by one
//! task at a time. Every bound is named.

mod attributes;
mod backoff;
mod failures;
pub mod fleet;
mod held;
mod idle_check;
mod inbox;
pub mod leaks;
pub mod ledger;
mod liveness;
mod options;
mod outcomes;
mod ownership;
mod pass;
pub mod ports;
mod sent;
mod shared;
mod sweep;
pub mod telemetry;
mod work;
mod worker;

pub use attributes::{ID_ATTRIBUTE, REASON_ATTRIBUTE, REASON_MESSAGE_ATTRIBUTE, TRACE_ATTRIBUTE};
pub use fleet::{Fleet, Unaddressed};
pub use idle_check::asked_message;
pub use liveness::Liveness;
pub use options::WorkerOptions;
pub use ownership::owner_of;
pub use sent::{FIRST_ID_ATTRIBUTE, KEPT_DAYS_MAX, SENT_AT_ATTRIBUTE, effective_sent_at};
pub use worker::Worker;
