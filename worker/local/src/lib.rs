//! The embedded AWS endpoint: an account of one's own on 127.0.0.1, without a cloud.
//!
//! The wire is `awsim-core`'s gateway; DynamoDB, Secrets Manager and STS are `awsim`'s; SQS, EventBridge
//! and its Scheduler, EC2, ECS, Application Auto Scaling, SSM, CloudWatch and its Logs are thin readers
//! and writers of the wire over `lamplighter-cloud`'s [`World`]. One decorator around every service adds
//! policies, faults, latency and the call log.
//!
//! Invariants:
//! - It listens on 127.0.0.1 only; the paths under `/_lamplighter/` also want a loopback `Host`.
//! - Any credentials are taken; regions do not divide the state: there is one world.
//! - The world's lock is never held across an await.
//! - The call log and the logs hold ids, never bodies or values.
//!
//! Deliberately not here: the model itself, TLS, signature checks, SQS's older query protocol.

mod calls;
mod checksum;
mod control;
mod cut;
mod decorator;
mod endpoint;
mod faults;
mod iam;
mod input;
mod options;
mod persist;
mod services;
mod shared;
mod wire;

pub use calls::{CALLS_MAX, Call};
pub use endpoint::Endpoint;
pub use faults::{Fault, FaultKind, Latency};
pub use lamplighter_cloud::{
    Behaviour, LaunchTemplateSeed, MachineSeed, MachineState, Scarce, ServiceBehaviour,
    ServiceSeed, Shortage, TemplateData, Timings, UnitSeed, UnitState, World,
};
pub use options::{LocalError, Options, SecretSeed};
