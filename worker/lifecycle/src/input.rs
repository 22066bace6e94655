//! What may change a record besides what AWS says.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lamplighter_events::{Action, CommandId, Holder, HumanDuration, InstanceId};

use crate::hold::Sent;
use crate::probe::{IdleOverride, Round};

/// A command that was parsed and found its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedCommand {
    /// Its id: its own, the tick's, or the message's.
    pub id: CommandId,
    /// SHA-256 of its payload.
    pub fingerprint: String,
    /// What it asks.
    pub action: Action,
    /// For whom; the shared holder where none was named.
    pub holder: Holder,
    /// The queue's `SentTimestamp`.
    pub sent_at: Timestamp,
    /// `for`
    pub hold_for: Option<HumanDuration>,
    /// `until`
    pub until: Option<Timestamp>,
    /// `reason`
    pub reason: Option<String>,
    /// Not to be done after this.
    pub expires: Option<Timestamp>,
    /// The sender's trace.
    pub trace: Option<String>,
    /// The caller's own idea of idle.
    pub idle: IdleOverride,
    /// A create's parameters.
    pub parameters: BTreeMap<String, String>,
}

impl AcceptedCommand {
    /// Its place in the order.
    pub fn sent(&self) -> Sent {
        Sent::new(self.sent_at, self.id.as_str())
    }
}

/// What may change a record besides what AWS says. Signals and wake-ups are no inputs: they only
/// cause a pass.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A new command (its id was not seen before; the commit's condition makes sure).
    Command(Box<AcceptedCommand>),
    /// These events were acknowledged by EventBridge.
    EventsSent(Vec<String>),
    /// Answers of the idle policy's probes, oldest round first.
    Round(Round),
    /// A round that is not judged any more: its requests were ours.
    Asked(Round),
    /// EC2 said that it takes the spot machine back, at this time.
    SpotNotice(SpotNotice),
    /// The template has its most machines already: no place was left when a launch was to be committed.
    NoSeat,
    /// A sweep found this machine, of a launch of the target that was given up.
    GivenUpLaunch(InstanceId),
}

/// EC2 takes a spot machine back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpotNotice {
    /// Which: a target may have had others before.
    pub instance: InstanceId,
    /// When EC2 said so.
    pub at: Timestamp,
}
