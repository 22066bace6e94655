//! Effects: AWS calls that change something, as data before they are made, and their answers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lamplighter_events::{Cause, InstanceId};
use serde::{Deserialize, Serialize};

use crate::observed::Bounds;
use crate::resource::{Resource, ServiceId};
use crate::template::{Bootstrap, Launch};
use crate::unit::UnitName;

/// What the script on a host is asked to find out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitProbe {
    /// The unit whose `systemctl is-active` is wanted.
    pub unit: UnitName,
    /// The machine must have been up for this long before the answer counts, seconds.
    pub settle_seconds: i64,
    /// How long a unit that is `activating` is waited for on the host, seconds.
    pub activating_seconds: i64,
}

/// What a host is asked by `SendCommand`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "kebab-case")]
pub enum Question {
    /// How its unit is.
    Unit(UnitProbe),
    /// Whether it is idle: the fleet's own script.
    Idle {
        /// The shell script.
        script: String,
        /// It is ended after this long, seconds.
        timeout_seconds: u32,
    },
    /// To make itself ready: the template's bootstrap.
    Bootstrap {
        /// What is run.
        #[serde(flatten)]
        bootstrap: Bootstrap,
        /// What it is told.
        parameters: BTreeMap<String, String>,
        /// It is ended after this long, seconds.
        timeout_seconds: u32,
    },
}

/// One AWS call that changes something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "kebab-case")]
pub enum Effect {
    /// `ec2:StartInstances`. Level-triggered: a repeat does no harm.
    StartInstance {
        /// The machine.
        instance: InstanceId,
    },
    /// `ec2:StopInstances`. Level-triggered: a repeat does no harm.
    StopInstance {
        /// The machine.
        instance: InstanceId,
    },
    /// `ec2:RunInstances` of one machine. Its client token makes a repeat harmless.
    RunInstance(Box<Launch>),
    /// `ec2:TerminateInstances`. Level-triggered: a repeat does no harm.
    TerminateInstance {
        /// The machine.
        instance: InstanceId,
    },
    /// `ssm:SendCommand`. AWS has no token for it: the token is in the comment, and a create-once
    /// guard on the host makes a repeat harmless.
    SendCommand {
        /// The machine.
        instance: InstanceId,
        /// Names this question; the same token is asked at most once per host.
        token: String,
        /// The question.
        question: Question,
    },
    /// `ecs:UpdateService` of the desired count alone. Level-triggered: a repeat does no harm.
    UpdateService {
        /// The service.
        service: ServiceId,
        /// How many tasks it is to have.
        desired: i64,
    },
    /// `application-autoscaling:RegisterScalableTarget` of the bounds alone. Level-triggered.
    RegisterScalableTarget {
        /// The service.
        service: ServiceId,
        /// The bounds.
        bounds: Bounds,
    },
}

/// The sort of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectKind {
    /// `StartInstance`, `RunInstance`, or `UpdateService` to some tasks
    Start,
    /// `StopInstance`, `TerminateInstance`, or `UpdateService` to none
    Stop,
    /// `SendCommand`
    Send,
    /// `RegisterScalableTarget`
    Scale,
}

impl Effect {
    /// Its sort.
    pub fn kind(&self) -> EffectKind {
        match self {
            Self::StartInstance { .. } | Self::RunInstance(_) => EffectKind::Start,
            Self::StopInstance { .. } | Self::TerminateInstance { .. } => EffectKind::Stop,
            Self::SendCommand { .. } => EffectKind::Send,
            Self::UpdateService { desired, .. } if *desired > 0 => EffectKind::Start,
            Self::UpdateService { .. } => EffectKind::Stop,
            Self::RegisterScalableTarget { .. } => EffectKind::Scale,
        }
    }
    /// The AWS operation, for people.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::StartInstance { .. } => "StartInstances",
            Self::StopInstance { .. } => "StopInstances",
            Self::RunInstance(_) => "RunInstances",
            Self::TerminateInstance { .. } => "TerminateInstances",
            Self::SendCommand { .. } => "SendCommand",
            Self::UpdateService { .. } => "UpdateService",
            Self::RegisterScalableTarget { .. } => "RegisterScalableTarget",
        }
    }
    /// What a record keeps of it: not what is run on a host, which is larger than all the rest and is known by its token.
    #[must_use]
    pub fn noted(&self) -> Self {
        let mut noted = self.clone();
        if let Self::SendCommand { question, .. } = &mut noted {
            match question {
                Question::Unit(_) => {}
                Question::Idle { script, .. } => script.clear(),
                Question::Bootstrap { bootstrap, parameters, .. } => {
                    parameters.clear();
                    if let Bootstrap::Script { script, check, .. } = bootstrap {
                        script.clear();
                        check.clear();
                    }
                }
            }
        }
        noted
    }
    /// What it concerns.
    pub fn resource(&self) -> Resource {
        match self {
            Self::StartInstance { instance }
            | Self::StopInstance { instance }
            | Self::TerminateInstance { instance }
            | Self::SendCommand { instance, .. } => Resource::Instance(instance.clone()),
            Self::RunInstance(launch) => Resource::Launch(launch.token.clone()),
            Self::UpdateService { service, .. } | Self::RegisterScalableTarget { service, .. } => {
                Resource::Service(service.clone())
            }
        }
    }
}

/// What AWS said to an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectAnswer {
    /// It was accepted. (Accepted is not done: only an observation tells that.)
    Accepted {
        /// SSM's id of the command, for `SendCommand`; EC2's of the machine, for `RunInstance`.
        id: Option<String>,
    },
    /// Its time was over before the call could be made (a slow commit, a paused worker): nobody asked
    /// AWS anything, and so nobody refused.
    NotMade,
    /// It was certainly not carried out.
    Refused {
        /// The typed cause.
        cause: Cause,
        /// AWS's words.
        message: String,
        /// Whether to try again.
        refusal: Refusal,
    },
}

/// What follows from a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Passing trouble (throttled, no capacity): again after this pause, milliseconds.
    RetryAfter(u64),
    /// It will not be accepted (denied, no such machine).
    Final,
}

/// An effect whose answer was never recorded: it may have happened, and may yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// What may have been done.
    pub effect: Effect,
    /// Its permission.
    pub nonce: String,
    /// After this its signed request can no longer be accepted.
    pub until: Timestamp,
    /// Earlier calls of the same effect, each with its permission and its end. A launch that is repeated for a quarter of
    /// an hour would fill the record with copies of its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repeats: Vec<(String, Timestamp)>,
    /// How often a launch with its token was refused for want of capacity, late enough to tell.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refusals: u32,
}

impl Unanswered {
    /// Whether it is about the call that was permitted by this nonce.
    pub(crate) fn knows(&self, nonce: &str) -> bool {
        self.nonce == nonce || self.repeats.iter().any(|(earlier, _)| earlier == nonce)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
