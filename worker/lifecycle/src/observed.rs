//! What AWS was seen to say, in our words.
//!
//! *Invariant.* `Observed::at` is the time *before* the describe was sent, by the worker's clock, so
//! that "made after `act_by`" can be told.

use jiff::Timestamp;
use lamplighter_events::{Cause, InstanceId};
use serde::{Deserialize, Serialize};

use crate::address::HealthUrl;
use crate::limits::{HISTORY_CHARS_MAX, STOPPED_TASKS_MAX};
use crate::resource::Resource;
use crate::text::shortened;

/// An instance's state, in EC2's words; they fit a service too (see [`ServiceSeen::state`]). `Missing` is
/// ours: AWS does not know the thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum PowerState {
    Pending,
    Running,
    Stopping,
    Stopped,
    ShuttingDown,
    Terminated,
    Missing,
}

impl PowerState {
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
    /// Its id, where it was looked for by its launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<InstanceId>,
    /// Its state.
    pub state: PowerState,
    /// `StateReason` (code and message) or the transition reason, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The time in `StateTransitionReason`, as "User initiated (2026-11-20 10:00:00 GMT)", and only
    /// where it says that a user did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_stopped_at: Option<Timestamp>,
    /// EC2's `LaunchTime`. After a stop and a start it is the time of that start (*Find the initial and most recent
    /// launch times*, EC2 User Guide).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched_at: Option<Timestamp>,
    /// Private address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip: Option<String>,
    /// Public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ip: Option<String>,
}

impl InstanceSeen {
    /// A bare state.
    pub fn state(state: PowerState) -> Self {
        Self {
            id: None,
            state,
            reason: None,
            user_stopped_at: None,
            launched_at: None,
            private_ip: None,
            public_ip: None,
        }
    }
}

/// The bounds between which Application Auto Scaling keeps a service's desired count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The least.
    pub min: i64,
    /// The most.
    pub max: i64,
}

impl Bounds {
    /// What keeps a service off.
    pub const ZERO: Self = Self { min: 0, max: 0 };
    /// A count that the bounds allow.
    pub fn clamp(self, count: i64) -> i64 {
        count.min(self.max).max(self.min)
    }
}

/// A task that stopped by itself, or was stopped by ECS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStopped {
    /// When.
    pub at: Timestamp,
    /// ECS's `stopCode`, where it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// ECS's words: the task's reason, and its container's.
    pub reason: String,
}

/// One describe of an ECS service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSeen {
    /// ECS knows it, and it is `ACTIVE`.
    pub active: bool,
    /// How many tasks it is to have.
    pub desired: i64,
    /// How many are `RUNNING`.
    pub running: i64,
    /// How many are on their way.
    pub pending: i64,
    /// How many of the running are `HEALTHY`; `None` where it was not asked, or none has a health check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<i64>,
    /// Why its deployment failed (the circuit breaker's words), where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_failed: Option<String>,
    /// ECS's last words on why a task could not be placed, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unplaced: Option<(Timestamp, String)>,
    /// The time of its newest event. The description is not older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_event_at: Option<Timestamp>,
    /// The tasks that stopped lately, newest first; asked only where it matters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<TaskStopped>,
    /// Application Auto Scaling's bounds, where it minds the service and was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
}

impl ServiceSeen {
    /// A bare count.
    pub fn counts(desired: i64, running: i64, pending: i64) -> Self {
        Self { active: true, desired, running, pending, ..Self::default() }
    }
    /// EC2's word for it: wanting tasks it has not is `pending`, having tasks it does not want is `stopping`.
    pub fn state(&self) -> PowerState {
        let there = self.running + self.pending;
        match (self.active, self.desired) {
            (false, _) if there > 0 => PowerState::ShuttingDown,
            (false, _) => PowerState::Missing,
            (true, ..=0) if there > 0 => PowerState::Stopping,
            (true, ..=0) => PowerState::Stopped,
            (true, desired) => {
                let healthy = self.healthy.is_none_or(|healthy| healthy >= desired);
                if self.running >= desired && healthy {
                    PowerState::Running
                } else {
                    PowerState::Pending
                }
            }
        }
    }
}

/// What AWS says of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Of an instance.
    Instance(InstanceSeen),
    /// Of a service.
    Service(ServiceSeen),
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

impl ObservePlan {
    /// A bare look.
    pub fn bare(resource: Resource) -> Self {
        Self {
            resource,
            stopped_tasks: false,
            task_health: false,
            bounds: false,
            agent: false,
            check: None,
            health: None,
        }
    }
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
    /// The idle policy's command, or the bootstrap, ran to its end.
    Exited {
        /// Its exit code.
        code: i64,
        /// A line that it printed.
        output: String,
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
    /// EC2's word, or ECS's.
    #[serde(flatten)]
    pub seen: Seen,
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
    /// What a record keeps of it: AWS's words are for people, and have no bound.
    #[must_use]
    pub(crate) fn shortened(&self) -> Self {
        let short = |text: &mut String| *text = shortened(text, HISTORY_CHARS_MAX);
        let mut kept = self.clone();
        match &mut kept.seen {
            Seen::Instance(instance) => instance.reason.iter_mut().for_each(short),
            Seen::Service(service) => {
                service.rollout_failed.iter_mut().for_each(short);
                service.unplaced.iter_mut().for_each(|(_, words)| short(words));
                service.stopped.truncate(STOPPED_TASKS_MAX);
                service.stopped.iter_mut().for_each(|task| short(&mut task.reason));
            }
        }
        match &mut kept.check {
            Some(
                CheckReading::Said { state: text } | CheckReading::Exited { output: text, .. },
            ) => {
                short(text);
            }
            Some(CheckReading::Undelivered { detail } | CheckReading::Broken { detail }) => {
                short(detail);
            }
            Some(CheckReading::Absent | CheckReading::Pending { .. }) | None => {}
        }
        if let Some(HealthReading::Unhealthy { detail }) = &mut kept.health {
            short(detail);
        }
        kept
    }
    /// A bare look at a machine.
    pub fn bare(at: Timestamp, state: PowerState) -> Self {
        Self::of(at, Seen::Instance(InstanceSeen::state(state)))
    }
    /// A look at something, and no more.
    pub fn of(at: Timestamp, seen: Seen) -> Self {
        Self { at, seen, agent: None, check: None, health: None }
    }
    /// EC2's word.
    pub fn state(&self) -> PowerState {
        match &self.seen {
            Seen::Instance(instance) => instance.state,
            Seen::Service(service) => service.state(),
        }
    }
    /// The machine, where it is one.
    pub fn instance(&self) -> Option<&InstanceSeen> {
        match &self.seen {
            Seen::Instance(instance) => Some(instance),
            Seen::Service(_) => None,
        }
    }
    /// The service, where it is one.
    pub fn service(&self) -> Option<&ServiceSeen> {
        match &self.seen {
            Seen::Service(service) => Some(service),
            Seen::Instance(_) => None,
        }
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
    /// The machine, or the service.
    pub resource: Resource,
    /// Ask ECS why tasks of the service stopped, where it has fewer than it is to have.
    pub stopped_tasks: bool,
    /// Ask ECS how healthy the service's running tasks are.
    pub task_health: bool,
    /// Ask Application Auto Scaling for the service's bounds.
    pub bounds: bool,
    /// Ask SSM for the agent, if the machine runs.
    pub agent: bool,
    /// Ask SSM what became of a question: its id, or else its token.
    pub check: Option<(Option<String>, String)>,
    /// Ask the health address, if the machine runs.
    pub health: Option<HealthUrl>,
}
