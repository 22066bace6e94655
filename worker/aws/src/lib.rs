//! The ports of the runtime over the AWS SDK: the only place that sees it.
//!
//! *Theory.* One file per service. Each turns domain types into requests and answers into domain types,
//! and every failure into a [`CallError`](lamplighter_runtime::ports::CallError) with one meaning
//! (`disposition`). Calls of several targets share requests where AWS lets them (`batch`).
//!
//! *Invariants.* No decision about a target is made here. No code path knows whether its endpoint is AWS.
//! Nothing secret reaches an error or a log.
//!
//! *Not here.* The rules (crate lifecycle), the plumbing (crate runtime), the endpoint (crate local).
#![warn(missing_docs)]

mod addresses;
mod attempts;
mod batch;
pub mod bootstraps;
pub mod check;
mod client;
mod clock;
mod cloud;
mod cloudwatch;
pub mod dead_letters;
mod disposition;
mod dynamodb;
mod ec2;
mod ecs;
mod events;
mod health;
mod item;
mod launch;
mod names;
mod ports;
mod probe;
mod queue_policy;
mod retry;
mod scaling;
pub mod schedules;
mod secrets;
pub mod setup;
mod sqs;
mod ssm;
mod timeouts;
mod transaction;

pub use client::{Aws, ConnectError, ConnectOptions, StaticCredentials, connect};
pub use health::HealthError;
pub use names::Names;
pub use secrets::{SecretError, read_secret};
