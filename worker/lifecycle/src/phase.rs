//! The phases of a target, and the steps inside them.

use serde::{Deserialize, Serialize};

/// The large state of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Phase {
    Off,
    Starting,
    On,
    Stopping,
    Failed,
}

impl Phase {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::On => "on",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// Where inside a phase a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Starting: the machine is still stopping; it will be started when it has stopped.
    WaitStoppedFirst,
    /// Starting: StartInstances is to be made, or is being made.
    StartInstance,
    /// Starting: the bounds that Application Auto Scaling had are to be set again, or are being set.
    RestoreScaling,
    /// Starting: the desired count is to be set, or is being set.
    StartService,
    /// Starting: RunInstances is to be made, or is being made.
    LaunchInstance,
    /// Starting: launched; until it runs and has its address (seed 004's word).
    #[serde(rename = "waiting_for_instance")]
    WaitMachine,
    /// Starting: it runs; until its agent answers (seed 004's word).
    #[serde(rename = "waiting_for_ssm")]
    WaitAgent,
    /// Starting: its bootstrap runs (seed 004's word).
    #[serde(rename = "fetching_blob")]
    Bootstrap,
    /// Starting: accepted; until it runs and, where a unit is to be verified, its agent answers.
    WaitRunning,
    /// Starting: it runs; left alone until it has settled.
    Settle,
    /// Starting: the host was asked for its unit.
    VerifyUnit,
    /// Starting: until the health address answers 2xx.
    VerifyHealth,
    /// Stopping: a machine that is `pending` cannot be stopped; it is waited out.
    WaitStoppable,
    /// Stopping: StopInstances is to be made, or is being made.
    StopInstance,
    /// Stopping: TerminateInstances is to be made, or is being made.
    TerminateInstance,
    /// Stopping: Application Auto Scaling's bounds are to be set to 0, or are being set.
    SuspendScaling,
    /// Stopping: the desired count is to be set to 0, or is being set.
    StopService,
    /// Stopping: accepted; until it is `stopped`.
    WaitStopped,
}

impl Step {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitStoppedFirst => "wait-stopped-first",
            Self::StartInstance => "start-instance",
            Self::RestoreScaling => "restore-scaling",
            Self::StartService => "start-service",
            Self::LaunchInstance => "launch-instance",
            Self::WaitMachine => "waiting_for_instance",
            Self::WaitAgent => "waiting_for_ssm",
            Self::Bootstrap => "fetching_blob",
            Self::WaitRunning => "wait-running",
            Self::Settle => "settle",
            Self::VerifyUnit => "verify-unit",
            Self::VerifyHealth => "verify-health",
            Self::WaitStoppable => "wait-stoppable",
            Self::StopInstance => "stop-instance",
            Self::TerminateInstance => "terminate-instance",
            Self::SuspendScaling => "suspend-scaling",
            Self::StopService => "stop-service",
            Self::WaitStopped => "wait-stopped",
        }
    }

    /// Before AWS took the start.
    pub(crate) fn is_before_the_way(self) -> bool {
        matches!(
            self,
            Self::StartInstance
                | Self::LaunchInstance
                | Self::RestoreScaling
                | Self::StartService
                | Self::WaitStoppedFirst
        )
    }
}
