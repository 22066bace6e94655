//! What crosses the wire, and nothing else: commands, ticks, signals, wake-ups, lifecycle events, and the
//! expressions of schedules.
//!
//! [`parse`] turns the body of one queue message into an [`Inbound`], or into a [`Malformed`] that says
//! what was wrong, where, and what was expected. [`LifecycleEvent`] and [`Outcome`] are what leaves.
//! [`schemas`] generates the JSON Schemas of both directions from the same types and tables.
//!
//! Invariants: everything here is a pure function of its arguments; no clock, no I/O, no randomness. Every
//! string that got in is bounded and free of control characters. No input, whatever its bytes, panics.
//!
//! Deliberately not here: which targets exist, what a command does to them, and how messages travel. A
//! [`TargetRef`] is only a well-formed reference; the fleet knows whether anything answers to it.

mod command;
mod duration;
mod envelope;
mod error;
mod event;
mod fields;
mod http;
mod idle_shard;
mod ids;
mod json;
mod malformed;
mod nearest;
mod outcome;
mod schedule;
mod schema;
mod signal;
mod tick;
mod time;
mod wake_up;

pub use command::{Action, Command, TargetRef, Thresholds, UnknownAction};
pub use duration::HumanDuration;
pub use envelope::{BODY_BYTES_MAX, Inbound, parse, parse_bytes};
pub use error::FieldError;
pub use event::{AttentionKind, EventBody, LifecycleEvent};
pub use idle_shard::IdleShard;
pub use ids::{CommandId, Holder, InstanceId, TargetName};
pub use json::DEPTH_MAX;
pub use malformed::{Malformed, MalformedKind};
pub use nearest::nearest;
pub use outcome::{Cause, Outcome, Verdict};
pub use schedule::{Cron, Expression, ScheduleError, Unit};
pub use schema::schemas;
pub use signal::Signal;
pub use tick::Tick;
pub use wake_up::WakeUp;
