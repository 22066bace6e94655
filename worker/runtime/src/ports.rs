//! The ports: everything the runtime needs of the world, by verb, in domain types.
//!
//! *Contracts that adapters must keep.*
//! - A method that returned `Err` with `Applied::No` changed nothing; with `Applied::Perhaps` it may
//!   have. `Queue::delete` and `Queue::delay` of something already gone are successes.
//! - `Store::commit` tells a lost answer from a lost race by itself (by the commit's nonce).
//! - `Cloud::execute` signs its request at the moment of the call, and makes no attempt after `act_by`.
//! - Nothing here names a type of the AWS SDK.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{Cause, CommandId, InstanceId, LifecycleEvent, Outcome, TargetName};
use lamplighter_lifecycle::{
    CommandRecord, Effect, IdleWatch, ObservePlan, Phase, Place, PowerState, ProbePlan, Resource,
    Round, Seat, Sighting, TargetRecord,
};

/// What a failed call means for whoever made it. Where an error's code is known, this is decided in
/// one exhaustive match in the adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Passing trouble: again, with growing pauses.
    Retry,
    /// Passing trouble that named its pause.
    RetryAfter(Duration),
    /// The message itself can never succeed: to the dead letters, with the reason.
    Park,
    /// It will not succeed until somebody changes something: an outcome with the cause.
    Fail,
    /// What is stored was written by a newer release, whose workers know what to do with it. Nothing is changed, and the
    /// message waits for one of them.
    Newer,
}

/// Whether a failed call may have had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Certainly not.
    No,
    /// Its answer was lost or ambiguous.
    Perhaps,
}

/// A call to AWS that failed, in our words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {message}")]
pub struct CallError {
    /// The operation, as `ec2:StartInstances`.
    pub operation: &'static str,
    /// The typed cause.
    pub cause: Cause,
    /// AWS's words (code and message), or the transport's.
    pub message: String,
    /// What it means.
    pub disposition: Disposition,
    /// Whether it may have happened.
    pub applied: Applied,
}

/// A handle for a received message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt(pub String);

/// A message from the command queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// SQS's id of the message; the id of a command that brought none.
    pub message_id: String,
    /// For delete and visibility.
    pub receipt: Receipt,
    /// The body.
    pub body: String,
    /// String attributes (`action`, `id`, `traceparent`, …).
    pub attributes: BTreeMap<String, String>,
    /// When it counts as sent: [`crate::effective_sent_at`] of its attributes and SQS's `SentTimestamp`.
    pub sent_at: Timestamp,
    /// How often it was received, this one included.
    pub receives: u32,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The body.
    pub body: String,
    /// String attributes; empty values must not be sent (SQS refuses them).
    pub attributes: BTreeMap<String, String>,
    /// Seconds before it can be received; 0 to 900.
    pub delay_seconds: u32,
}

/// The command queue and its dead letters.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Up to `max` (1 to 10) messages, waiting up to `wait` for the first.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Received>, CallError>;
    /// Sends to the command queue.
    async fn send(&self, message: &Outgoing) -> Result<(), CallError>;
    /// Deletes a message.
    async fn delete(&self, receipt: &Receipt) -> Result<(), CallError>;
    /// Makes a message visible again after `seconds` (0 to 43 200); also the heartbeat.
    async fn delay(&self, receipt: &Receipt, seconds: u32) -> Result<(), CallError>;
    /// Sends to the dead letters. Attributes that would pass SQS's size limit are dropped by the
    /// adapter, the least important (alphabetically last) first; the body never is.
    async fn park(&self, message: &Outgoing) -> Result<(), CallError>;
}

/// A record as it is stored, for those who show it.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// It was read.
    Record(Box<TargetRecord>),
    /// It is there and cannot be read.
    Unreadable {
        /// What stands beside its document; its `why` says what is wrong.
        outline: Box<TargetRecord>,
        /// Why it cannot be read.
        error: CallError,
    },
}

impl Stored {
    /// Whose it is.
    pub fn target(&self) -> &TargetName {
        match self {
            Self::Record(record) | Self::Unreadable { outline: record, .. } => &record.target,
        }
    }

    /// What may be decided by.
    pub fn record(&self) -> Option<&TargetRecord> {
        match self {
            Self::Record(record) => Some(record),
            Self::Unreadable { .. } => None,
        }
    }

    /// What there is to show.
    pub fn shown(self) -> TargetRecord {
        match self {
            Self::Record(record) | Self::Unreadable { outline: record, .. } => *record,
        }
    }

    /// Why it cannot be read, where it cannot.
    pub fn unreadable(&self) -> Option<String> {
        match self {
            Self::Record(_) => None,
            Self::Unreadable { outline, .. } => Some(outline.why.clone()),
        }
    }
}

/// What one commit writes, all of it or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The record, with its new `rev`.
    pub record: TargetRecord,
    /// The `rev` it must have now; 0: it must not exist.
    pub expected_rev: u64,
    /// Names this commit, so that a lost answer can be told.
    pub nonce: String,
    /// A command's item to create; its id must be new.
    pub accepted: Option<CommandRecord>,
    /// Outcomes of commands whose items exist.
    pub outcomes: Vec<Outcome>,
    /// What this target takes for its own (`RESOURCE#<id>`): it must be nobody else's.
    pub claims: Option<Resource>,
    /// What it does to its template's places.
    pub seat: Option<Seat>,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq)]
pub enum Committed {
    /// It is durable.
    Done,
    /// Somebody else was first: read again.
    Fenced,
    /// The command's id is not new.
    CommandExists(Box<CommandRecord>),
    /// The machine belongs to another target.
    ResourceTaken(TargetName),
    /// The template has no place left.
    Full,
}

/// What became of putting a command's item.
#[derive(Debug, Clone, PartialEq)]
pub enum PutCommand {
    /// It is there now.
    Done,
    /// It was there already.
    Exists(Box<CommandRecord>),
}

/// A line of the index of what is up.
#[derive(Debug, Clone, PartialEq)]
pub struct UpTarget {
    /// The target.
    pub target: TargetName,
    /// Its machine, or its service.
    pub resource: Resource,
    /// Its phase when it was written.
    pub phase: Phase,
    /// What a tick needs to know of it, where its idleness could end something.
    pub watch: Option<IdleWatch>,
}

/// The table.
#[async_trait]
pub trait Store: Send + Sync {
    /// A target's record, read consistently, whether or not it can be read here.
    async fn look_up(&self, target: &TargetName) -> Result<Option<Stored>, CallError>;
    /// A target's record, read consistently. One that cannot be read here is an error.
    async fn load(&self, target: &TargetName) -> Result<Option<TargetRecord>, CallError> {
        match self.look_up(target).await? {
            Some(Stored::Record(record)) => Ok(Some(*record)),
            Some(Stored::Unreadable { error, .. }) => Err(error),
            None => Ok(None),
        }
    }
    /// Several records (eventually consistent); missing ones are left out. In no order.
    async fn load_all(&self, targets: &[TargetName]) -> Result<Vec<Stored>, CallError>;
    /// A command's item, read consistently.
    async fn load_command(&self, id: &CommandId) -> Result<Option<CommandRecord>, CallError>;
    /// Several commands' items, read consistently; missing ones are left out. In no order.
    async fn load_commands(&self, ids: &[CommandId]) -> Result<Vec<CommandRecord>, CallError>;
    /// One conditional write.
    async fn commit(&self, commit: &Commit) -> Result<Committed, CallError>;
    /// The item of a command that never reached a target.
    async fn put_command(&self, command: &CommandRecord) -> Result<PutCommand, CallError>;
    /// The targets of a shard whose `wake_at` is not after `now`, paged to the end.
    async fn due(&self, shard: u32, now: Timestamp) -> Result<Vec<TargetName>, CallError>;
    /// The targets of a shard that are up, paged to the end.
    async fn up(&self, shard: u32) -> Result<Vec<UpTarget>, CallError>;
    /// Whose a machine or service is.
    async fn owner(&self, resource: &Resource) -> Result<Option<TargetName>, CallError>;
    /// The targets that have a place of this template, read consistently.
    async fn seats(&self, template: &TargetName) -> Result<Vec<TargetName>, CallError>;
    /// Every record of this template's machines, also of those that are gone and not yet forgotten, read
    /// consistently. It reads the whole table: for people who ask, and for no worker.
    async fn records_of(&self, template: &TargetName) -> Result<Vec<Stored>, CallError>;
    /// Takes its place from a target whose record has none at this `rev` (0: that has no record). `false`: the
    /// record is another one by now, and nothing was changed.
    async fn free_seat(
        &self,
        template: &TargetName,
        target: &TargetName,
        rev: u64,
    ) -> Result<bool, CallError>;
}

/// A machine that bears our tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// The machine.
    pub instance: InstanceId,
    /// Its target, as its tag says: not checked.
    pub target: String,
    /// Its launch's client token.
    pub token: String,
    /// What it does.
    pub state: PowerState,
    /// Since when.
    pub launched_at: Option<Timestamp>,
    /// Its type.
    pub instance_type: String,
}

/// The shards of the sparse indexes. Two, so that an idle worker asks twice a minute; a partition of
/// an index takes a thousand writes a second, far beyond what small fleets need.
pub const SHARDS: u32 = 2;

/// EC2, ECS, SSM, CloudWatch, the backends' addresses and the secrets.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// Looks at targets, sharing calls. `Err` is passing trouble; trouble that waiting does not cure
    /// is in the `Sighting`. `at` is the time just before. Answers stand in the order of the plans.
    async fn observe(&self, plans: &[ObservePlan]) -> Vec<Result<Sighting, CallError>>;
    /// Makes the call, unless `act_by` has passed. `Ok` is SSM's id of a command, or EC2's of a machine that was
    /// launched.
    async fn execute(
        &self,
        effect: &Effect,
        act_by: Timestamp,
    ) -> Result<Option<String>, CallError>;
    /// Asks the probes of an idle policy once, all but a command on the host (its place stays `None`),
    /// sharing calls with whoever asks at the same moment. Trouble of any sort is a reading: unknown.
    async fn probe(&self, plan: &ProbePlan) -> Round;
    /// The machines that are there and bear the tags of this owner's workers (the lifecycle's `OWNER_TAG`).
    async fn tagged(&self, owner: &str) -> Result<Vec<Tagged>, CallError>;
    /// What a target is made of; never asked of a template. Secrets are remembered for some minutes.
    async fn resolve(&self, place: &Place) -> Result<Resource, CallError>;
}

/// EventBridge.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Sends events; the ids of those that were acknowledged, entry by entry.
    async fn emit(&self, events: &[LifecycleEvent]) -> Result<Vec<String>, CallError>;
}

/// Time, identity and chance.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// A new unique id.
    fn new_id(&self) -> String;
    /// A number in `[0, 1)`.
    fn jitter(&self) -> f64;
    /// AWS's clock minus ours, as its last answers' `Date` told, if any did.
    fn skew(&self) -> Option<SignedDuration>;
}

/// All of them.
#[derive(Clone)]
pub struct Ports {
    /// Messages.
    pub queue: Arc<dyn Queue>,
    /// Records.
    pub store: Arc<dyn Store>,
    /// Machines.
    pub cloud: Arc<dyn Cloud>,
    /// Events.
    pub bus: Arc<dyn Bus>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}
