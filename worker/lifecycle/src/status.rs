//! What `status` shows: a record in the words of people and of seed 000's clients.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lamplighter_events::{Cause, Holder, InstanceId, TargetName};
use serde::Serialize;

use crate::effect::Unanswered;
use crate::hold::Hold;
use crate::kinds::Kind;
use crate::observed::{Observed, PowerState};
use crate::phase::{Phase, Step};
use crate::record::{Failure, Paused, TargetRecord};
use crate::resource::Resource;
use crate::spec::TargetSpec;

/// Seed 000's `instance_status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstanceStatus {
    /// EC2's word, or `unknown`.
    pub ec2_state: String,
    /// systemd's word, `unknown`, or `n/a` when the machine does not run or has no unit.
    pub service_state: String,
    /// `running`, `stopped`, `starting`, `stopping` or `error`.
    pub overall_status: String,
}

/// A service's counts, in the words of seed 001's clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// How many tasks it is to have.
    pub desired_count: i64,
    /// How many run.
    pub running_count: i64,
    /// How many are on their way.
    pub pending_count: i64,
}

/// A provisioned target's machine, in the words of seed 004's clients.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProvisionedStatus {
    /// The machine, once EC2 has named it.
    pub instance_id: Option<InstanceId>,
    /// Its name.
    pub name: Option<String>,
    /// Its public address.
    pub public_ip: Option<String>,
    /// `waiting_for_instance`, `waiting_for_ssm`, `fetching_blob`, `ready`, `failed`; and ours, which the seed had
    /// no words for: `terminating`, `terminated`.
    pub processing_status: &'static str,
    /// When it was asked for.
    pub created_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
    /// What it has cost, where the fleet names a price.
    pub cost: Option<f64>,
    /// What it was asked for with.
    #[serde(flatten)]
    pub parameters: BTreeMap<String, String>,
}

impl ProvisionedStatus {
    /// A record as people see it at `now`.
    pub fn of(record: &TargetRecord, now: Timestamp) -> Self {
        let launch = record.provision.launch.as_ref();
        let seen = record.observed.as_ref().and_then(Observed::instance);
        Self {
            instance_id: record.resource.instance().cloned(),
            name: launch.map(|it| it.name.clone()).filter(|name| !name.is_empty()),
            public_ip: seen.and_then(|seen| seen.public_ip.clone()),
            processing_status: processing_status(record),
            created_at: launch.map(|launch| launch.created_at),
            error: match (&record.failure, &record.up.unit) {
                (Some(it), _) => Some(format!("{}: {}", it.cause, it.message)),
                (None, Some(unit)) if record.up.unit_down => {
                    Some(format!("{}: its unit is {}", Cause::UnitFailed, unit.state))
                }
                (None, _) => None,
            },
            cost: launch.and_then(|it| it.cost_millionths(now)).map(in_units),
            parameters: launch.map(|launch| launch.parameters.clone()).unwrap_or_default(),
        }
    }
}

/// Millionths as people read money.
#[allow(clippy::cast_precision_loss)] // Exact up to nine billion.
fn in_units(millionths: u64) -> f64 {
    (millionths as f64) / 1e6
}

fn processing_status(record: &TargetRecord) -> &'static str {
    match (record.phase, record.step) {
        (Phase::Starting, Some(Step::WaitAgent)) => Step::WaitAgent.as_str(),
        (
            Phase::Starting,
            Some(Step::Bootstrap | Step::Settle | Step::VerifyUnit | Step::VerifyHealth),
        ) => Step::Bootstrap.as_str(),
        (Phase::Starting, _) => Step::WaitMachine.as_str(),
        (Phase::On, _) if record.up.unit_down => "failed",
        (Phase::On, _) => "ready",
        (Phase::Failed, _) => "failed",
        (Phase::Stopping, _) if record.failure.is_some() => "failed",
        (Phase::Stopping, _) => "terminating",
        (Phase::Off, _) => "terminated",
    }
}

/// A target as `status --json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusView {
    /// Its name.
    pub target: TargetName,
    /// Its kind.
    pub kind: Kind,
    /// Its phase, in its kind's word.
    #[serde(skip)]
    pub phase: Phase,
    /// Its phase, in its kind's word.
    #[serde(rename = "phase")]
    pub phase_word: &'static str,
    /// Its step.
    pub step: Option<Step>,
    /// Whether a hold is in force.
    pub wanted: bool,
    /// Its holds, future ones too.
    pub holds: Vec<Hold>,
    /// What AWS was last seen to say.
    pub observed: Option<Observed>,
    /// How old that is, seconds.
    pub observed_age_seconds: Option<i64>,
    /// Why it is as it is.
    pub why: String,
    /// Since when it is in this phase.
    pub since: Timestamp,
    /// `running` while somebody's hold is in force, else `idle` (seed 000's lock).
    pub lock_status: &'static str,
    /// Who holds it, where there is exactly one word for it.
    pub holder: Option<Holder>,
    /// The machine, or the service as `cluster/service`.
    pub instance: Resource,
    /// A service's counts.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceStatus>,
    /// A provisioned target's machine.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<ProvisionedStatus>,
    /// A window of its office hours is suppressed until then.
    pub suppressed_until: Option<Timestamp>,
    /// When the last of the requested holds ends; null where one has no end.
    pub expires_at: Option<Timestamp>,
    /// EC2's word.
    pub ec2_state: String,
    /// systemd's word.
    pub service_state: String,
    /// The two in one word.
    pub overall_status: String,
    /// The three together, as seed 000 nests them.
    pub instance_status: InstanceStatus,
    /// Why the last start failed.
    pub failure: Option<Failure>,
    /// Hands off.
    pub paused: Option<Paused>,
    /// Effects whose answers were lost and that may yet happen.
    pub unanswered: Vec<Unanswered>,
    /// When somebody looks again.
    pub wake_at: Option<Timestamp>,
    /// The version.
    pub rev: u64,
}

impl StatusView {
    /// A record as people see it at `now`.
    pub fn of(record: &TargetRecord, spec: &TargetSpec, now: Timestamp) -> Self {
        let requested: Vec<&Hold> =
            record.holds_in_force(now).filter(|hold| hold.requested()).collect();
        let state = record.observed.as_ref().map(Observed::state);
        let ec2_state = state.map_or("unknown", PowerState::as_str).to_owned();
        let service_state = match (state, spec.unit(), &record.up.unit) {
            (Some(PowerState::Running), Some(_), Some(unit)) => unit.state.clone(),
            (Some(PowerState::Running), Some(_), None) | (None, _, _) => "unknown".to_owned(),
            _ => "n/a".to_owned(),
        };
        let overall_status = match record.phase {
            Phase::On if record.up.unit_down => "error",
            Phase::On => "running",
            Phase::Starting => "starting",
            Phase::Stopping => "stopping",
            Phase::Off => "stopped",
            Phase::Failed => "error",
        }
        .to_owned();
        let expires_at = if requested.iter().any(|hold| hold.until.is_none()) {
            None
        } else {
            requested.iter().filter_map(|hold| hold.until).max()
        };
        let holder = match requested.as_slice() {
            [only] => Some(only.holder.clone()),
            _ => None,
        };
        Self {
            target: record.target.clone(),
            kind: record.kind,
            phase: record.phase,
            phase_word: record.phase_name(),
            step: record.step,
            wanted: record.wanted(now),
            holds: record.holds.clone(),
            observed: record.observed.clone(),
            observed_age_seconds: record
                .observed
                .as_ref()
                .map(|seen| now.duration_since(seen.at).as_secs().max(0)),
            why: record.why.clone(),
            since: record.since,
            lock_status: if requested.is_empty() { "idle" } else { "running" },
            holder,
            instance: record.resource.clone(),
            service: record.observed.as_ref().and_then(Observed::service).map(|seen| {
                ServiceStatus {
                    desired_count: seen.desired,
                    running_count: seen.running,
                    pending_count: seen.pending,
                }
            }),
            provisioned: spec.template().map(|_| ProvisionedStatus::of(record, now)),
            suppressed_until: record.suppressed_until,
            expires_at,
            ec2_state: ec2_state.clone(),
            service_state: service_state.clone(),
            overall_status: overall_status.clone(),
            instance_status: InstanceStatus { ec2_state, service_state, overall_status },
            failure: record.failure.clone(),
            paused: record.paused.clone(),
            unanswered: record.unanswered.clone(),
            wake_at: record.wake_at,
            rev: record.rev,
        }
    }
}
