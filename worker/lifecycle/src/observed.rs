//! What AWS was seen to say, in our words.
//!
//! *Invariant.* `Observed::at` is the time *before* the describe was sent, by the worker's clock, so
//! that "made after `act_by`" can be told.

use jiff::Timestamp;
use lamplighter_events::{Cause, InstanceId};
use serde::{Deserialize, Serialize};

use crate::spec::HealthUrl;

/// An instance's state. `Missing` is ours: EC2 does not know the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Ec2State {
    Pending,
    Running,
    Stopping,
    Stopped,
    ShuttingDown,
    Terminated,
    Missing,
}

impl Ec2State {
    /// EC2's word (`missing` where EC2 has none).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Missing => "missing",
        }
    }
    /// EC2's word, read.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "pending" => Self::Pending,
            "running" => Self::Running,
            "stopping" => Self::Stopping,
            "stopped" => Self::Stopped,
            "shutting-down" => Self::ShuttingDown,
            "terminated" => Self::Terminated,
            _ => return None,
        })
    }
    /// The machine is off and stays so unless somebody starts it.
    pub fn is_off(self) -> bool {
        matches!(self, Self::Stopped | Self::Terminated | Self::Missing)
    }
    /// The machine is gone for good.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::ShuttingDown | Self::Terminated | Self::Missing)
    }
}

/// One describe of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSeen {
    /// Its state.
    pub state: Ec2State,
    /// `StateReason` (code and message) or the transition reason, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The time in `StateTransitionReason`, as "User initiated (2026-11-20 10:00:00 GMT)", and only
    /// where it says that a user did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_stopped_at: Option<Timestamp>,
    /// Private address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip: Option<String>,
    /// Public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ip: Option<String>,
}

impl InstanceSeen {
    /// A bare state.
    pub fn state(state: Ec2State) -> Self {
        Self { state, reason: None, user_stopped_at: None, private_ip: None, public_ip: None }
    }
}

/// Whether SSM can reach the machine's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Agent {
    /// `PingStatus` is `Online`.
    Online,
    /// Registered, but not answering.
    Offline,
    /// SSM has never heard of it.
    Unregistered,
}

/// What became of a question that was sent with `SendCommand`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reading", rename_all = "kebab-case")]
pub enum CheckReading {
    /// SSM does not list it (by id, or by its token).
    Absent,
    /// Under way.
    Pending {
        /// SSM's id, where it was found by its token.
        command_id: Option<String>,
    },
    /// The script ran; this is the unit's state word.
    Said {
        /// `active`, `failed`, `inactive`, …
        state: String,
    },
    /// It never reached the agent.
    Undelivered {
        /// SSM's status details.
        detail: String,
    },
    /// It was delivered and did not run to its end.
    Broken {
        /// SSM's status details, and the end of its error output.
        detail: String,
    },
}

/// What the health address said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reading", rename_all = "kebab-case")]
pub enum HealthReading {
    /// A 2xx answer.
    Healthy,
    /// Anything else.
    Unhealthy {
        /// The status, or why there was no answer.
        detail: String,
    },
}

/// One look at a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Just before the look, by the worker's clock.
    pub at: Timestamp,
    /// EC2's word.
    pub instance: InstanceSeen,
    /// SSM's word on the agent, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// SSM's word on the open question, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckReading>,
    /// The health address's word, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthReading>,
}

impl Observed {
    /// A bare look at the machine.
    pub fn bare(at: Timestamp, state: Ec2State) -> Self {
        Self { at, instance: InstanceSeen::state(state), agent: None, check: None, health: None }
    }
    /// EC2's word.
    pub fn state(&self) -> Ec2State {
        self.instance.state
    }
}

/// Why a target could not be observed, where waiting does not help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObserveTrouble {
    /// The typed cause.
    pub cause: Cause,
    /// What was asked, and what AWS said.
    pub message: String,
}

/// The result of a look: passing trouble never comes this far, it sends the message back.
pub type Sighting = Result<Observed, ObserveTrouble>;

/// What to look at in the next pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservePlan {
    /// The machine.
    pub instance: InstanceId,
    /// Ask SSM for the agent, if the machine runs.
    pub agent: bool,
    /// Ask SSM what became of a question: its id, or else its token.
    pub check: Option<(Option<String>, String)>,
    /// Ask the health address, if the machine runs.
    pub health: Option<HealthUrl>,
}
