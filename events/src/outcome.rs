//! The one terminal result of a command.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::time::Rfc3339;
use crate::{Action, CommandId, TargetName};

/// How a command ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// What was asked is so.
    Done,
    /// It was not begun: the command itself could not be taken.
    Rejected,
    /// It was begun and did not succeed.
    Failed,
}

impl Verdict {
    /// The verdict in kebab case, as on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a command was rejected or failed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// AWS has no machine of this sort to give, or a limit of the account is reached.
    Capacity,
    /// AWS refused the pace, for longer than the deadline.
    Throttled,
    /// The worker's role may not do this.
    Denied,
    /// The target or its resource does not exist.
    NotFound,
    /// The machine started and fell back to stopped.
    Bounced,
    /// The machine runs, its systemd unit does not.
    UnitFailed,
    /// The machine runs, its health URL does not answer as it should.
    Unhealthy,
    /// The machine runs, its SSM agent was not heard.
    AgentUnreachable,
    /// It took longer than the fleet allows.
    Deadline,
    /// Another holder has the exclusive target.
    Conflict,
    /// The command cannot be understood, or contradicts an earlier one of its id.
    Invalid,
    /// A newer command undid it.
    Superseded,
    /// It came after its own `expires`.
    Expired,
}

impl Cause {
    /// Every cause, for tables and metrics.
    pub const ALL: [Self; 13] = [
        Self::Capacity,
        Self::Throttled,
        Self::Denied,
        Self::NotFound,
        Self::Bounced,
        Self::UnitFailed,
        Self::Unhealthy,
        Self::AgentUnreachable,
        Self::Deadline,
        Self::Conflict,
        Self::Invalid,
        Self::Superseded,
        Self::Expired,
    ];

    /// The cause in kebab case, as on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::NotFound => "not-found",
            Self::Bounced => "bounced",
            Self::UnitFailed => "unit-failed",
            Self::Unhealthy => "unhealthy",
            Self::AgentUnreachable => "agent-unreachable",
            Self::Deadline => "deadline",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The one terminal result of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// The command that ended.
    pub command: CommandId,
    /// The target that it was for, where one was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetName>,
    /// What was asked, where it was understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// How it ended.
    pub outcome: Verdict,
    /// Why, where it is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// One sentence for people.
    pub message: String,
    /// The kind's own fields, named as its clients know them.
    #[serde(default)]
    pub answer: Map<String, Value>,
    /// When it ended.
    #[schemars(with = "Rfc3339")]
    pub at: Timestamp,
    /// Milliseconds from when the command was sent.
    pub took_ms: u64,
}
