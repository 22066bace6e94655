//! What Lamplighter tells the world, on EventBridge.
//!
//! A [`LifecycleEvent`] is the `detail` of an EventBridge event with [`LifecycleEvent::SOURCE`] and
//! [`LifecycleEvent::detail_type`]. Delivery is at least once; the id tells a resend from a new event,
//! because it is derived from the committed record: target, rev, index.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Rfc3339;
use crate::{Cause, Outcome, TargetName};

/// One event, as the `detail` that is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LifecycleEvent {
    /// `target:rev:index`; the same again for a resend.
    pub id: String,
    /// When it was decided.
    #[schemars(with = "Rfc3339")]
    pub at: Timestamp,
    /// The target it is about, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetName>,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened; the field `event` tells which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventBody {
    /// A target went from one phase to another.
    TargetStateChanged {
        /// The target's kind, such as `ec2-instance`.
        kind: String,
        /// The phase before.
        from: String,
        /// The phase now.
        to: String,
        /// Where inside the phase.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<String>,
        /// What made it so, where it is a failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
        /// The decision in words.
        why: String,
        /// The EC2 instance, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<String>,
    },
    /// A command is done or has failed.
    CommandCompleted {
        /// Its result.
        outcome: Outcome,
    },
    /// A command was not begun.
    CommandRejected {
        /// Its result.
        outcome: Outcome,
    },
    /// Something a person should look at.
    Attention {
        /// What it is about.
        attention: AttentionKind,
        /// One sentence for people.
        message: String,
        /// The EC2 instance, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<String>,
    },
}

/// What a person should look at.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionKind {
    /// The systemd unit died while the target was on.
    UnitDied,
    /// Somebody else stopped the machine.
    StoppedOutside,
    /// Somebody else started the machine.
    StartedOutside,
    /// A stop takes longer than the fleet allows.
    StopOverdue,
    /// The target is no longer in the fleet file and still on.
    LeftFleet,
    /// The target's instance is another one than before.
    InstanceChanged,
    /// The machine runs and its backend does not answer.
    BackendUnreachable,
    /// A metric of an idle policy has no new data: its publisher may be dead.
    MetricSilent,
    /// A machine bears our tag and no record knows it.
    Orphan,
    /// EC2 takes a spot machine back.
    SpotInterruption,
}

impl AttentionKind {
    /// The kind in kebab case, as on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnitDied => "unit-died",
            Self::StoppedOutside => "stopped-outside",
            Self::StartedOutside => "started-outside",
            Self::StopOverdue => "stop-overdue",
            Self::LeftFleet => "left-fleet",
            Self::InstanceChanged => "instance-changed",
            Self::BackendUnreachable => "backend-unreachable",
            Self::MetricSilent => "metric-silent",
            Self::Orphan => "orphan",
            Self::SpotInterruption => "spot-interruption",
        }
    }
}

impl fmt::Display for AttentionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl LifecycleEvent {
    /// The `source` of every event of ours.
    pub const SOURCE: &str = "lamplighter";

    /// The `detail-type` that rules match on.
    #[must_use]
    pub const fn detail_type(&self) -> &'static str {
        match self.body {
            EventBody::TargetStateChanged { .. } => "Target State Changed",
            EventBody::CommandCompleted { .. } => "Command Completed",
            EventBody::CommandRejected { .. } => "Command Rejected",
            EventBody::Attention { .. } => "Attention",
        }
    }
}
