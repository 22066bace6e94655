//! What to look at and what to ask before a decision, given the record and the inputs.
//!
//! *Invariant.* A plan costs nothing where nothing hangs on it: what is off is only described, and probes are
//! asked only while idleness could end a hold.

use jiff::Timestamp;
use lamplighter_events::{Action, HumanDuration};

use crate::accepted::AcceptedChanges;
use crate::idle::IdleMemory;
use crate::input::Input;
use crate::kinds::Kind;
use crate::lag;
use crate::observed::{CheckReading, ObservePlan, Observed, PowerState, Seen, Sighting};
use crate::phase::{Phase, Step};
use crate::probe::{HttpReads, IdleOverride, Probe, ProbePlan};
use crate::record::{CheckPurpose, TargetRecord};
use crate::resource::Resource;
use crate::spec::TargetSpec;
use crate::time::{add, later};
use crate::watch::ends_by_idleness;

/// From a plan to its decision, at most: calls that the SDK repeats, and a wait for the probes.
const PASS_SECONDS: i64 = 30;

/// The record with the resource that the fleet names now. A target that is up, or whose last effect may
/// still happen, keeps its old one until it is surely off: two machines are never minded as one.
pub fn align(mut record: TargetRecord, resource: &Resource, now: Timestamp) -> TargetRecord {
    // A launched machine's record says itself which it is.
    let at_rest = !record.kind.stop_destroys()
        && !record.is_up()
        && record.doing.is_none()
        && record.unanswered.is_empty()
        && !lag::awaits_own_start(&record, now);
    if record.resource != *resource && at_rest {
        record.resource = resource.clone();
        record.observed = None;
        record.up.unit = None;
        record.attempt.contradiction = None;
        record.quiet = None;
        record.bounds = None;
        record.accepted = AcceptedChanges::default();
    }
    record
}

fn asks(inputs: &[Input], which: impl Fn(Action) -> bool) -> bool {
    inputs.iter().any(|input| matches!(input, Input::Command(command) if which(command.action)))
}

/// What to look at before `decide`.
pub fn plan_observation(
    record: &TargetRecord,
    spec: &TargetSpec,
    inputs: &[Input],
    now: Timestamp,
) -> ObservePlan {
    let asks_status = asks(inputs, |action| action == Action::Status);
    let waits = record.phase == Phase::Starting
        && matches!(
            record.step,
            None | Some(
                Step::StartInstance | Step::WaitRunning | Step::WaitMachine | Step::WaitAgent
            )
        );
    // A start of a machine that runs already goes on to its agent in the same pass.
    let first = record.rev == 0 || record.phase != Phase::On;
    let starts = first && asks(inputs, |action| action == Action::Start);
    let watches = record.phase == Phase::On && watch_is_due(record, spec, now);
    // Whoever is to be stopped is not asked how it is: trouble with SSM must not keep it on.
    let ends =
        asks(inputs, |action| matches!(action, Action::Stop | Action::Kill | Action::Destroy));
    let asks_host = !ends && (starts || record.wanted(now));
    let bootstraps = spec.template().is_some_and(|template| template.bootstrap.is_some());
    let unit = asks_host && (spec.unit().is_some() || (bootstraps && waits));
    let command = asks_host
        && spec.idle.as_ref().is_some_and(|idle| idle.host_command().is_some())
        && idleness_is_asked(record, spec, inputs, now);
    let check = record.attempt.check.as_ref().filter(|_| asks_host);
    let service = Kind::of(&record.resource, spec.kind()).runs_tasks();
    let rests = matches!(record.phase, Phase::Off | Phase::Failed) && !starts;
    let wants_health = spec.service().is_some_and(|service| service.healthy);
    ObservePlan {
        resource: record.resource.clone(),
        stopped_tasks: service && !ends && !rests,
        task_health: service
            && !ends
            && wants_health
            && (starts || record.phase == Phase::Starting),
        // What may soon be switched, or may have been switched late.
        bounds: service
            && (starts
                || ends
                || !rests
                || record.wanted(now)
                || window_opens(record, spec, now)
                || !record.unanswered.is_empty()),
        agent: record.attempt.check.is_none()
            && (command || (unit && (waits || starts || watches || asks_status))),
        check: check.map(|check| (check.command_id.clone(), check.token.clone())),
        health: spec.health.clone().filter(|_| record.step == Some(Step::VerifyHealth)),
    }
}

/// Whether a window of office hours starts the target in this pass: its hold is not in the record yet. A service that
/// is started before its suspended bounds are set back is put to 0 again by its scaling.
fn window_opens(record: &TargetRecord, spec: &TargetSpec, now: Timestamp) -> bool {
    let soon = later(now, PASS_SECONDS);
    let suppressed = record.suppressed_until.is_some_and(|until| soon < until);
    !suppressed && spec.hours.as_ref().is_some_and(|hours| hours.at(soon).is_some())
}

fn idleness_is_asked(
    record: &TargetRecord,
    spec: &TargetSpec,
    inputs: &[Input],
    now: Timestamp,
) -> bool {
    let endable = record.holds_in_force(now).any(|hold| ends_by_idleness(hold, spec));
    let told =
        inputs.iter().any(|input| matches!(input, Input::Round(it) if it.is_of(&record.resource)));
    let open = record.open.iter().any(|open| open.action == Action::CheckIdle);
    let due = record.idle.look_at.is_some_and(|at| at <= now);
    spec.idle.is_some()
        && record.phase == Phase::On
        && endable
        && (told || open || due || asks(inputs, |action| action == Action::CheckIdle))
}

/// Whether the probes are to be asked after this look: somebody wants to know, or a count of ours is due,
/// or the host has just said its part; and nothing else is going on.
pub fn probes_are_due(
    record: &TargetRecord,
    spec: &TargetSpec,
    inputs: &[Input],
    sighting: &Sighting,
    now: Timestamp,
) -> bool {
    let Ok(seen) = sighting else { return false };
    let asked =
        record.attempt.check.as_ref().is_some_and(|check| check.purpose == CheckPurpose::Idle);
    let answered = asked
        && !matches!(seen.check, None | Some(CheckReading::Absent | CheckReading::Pending { .. }));
    let waits = asked && !answered;
    let told =
        inputs.iter().any(|input| matches!(input, Input::Round(it) if it.is_of(&record.resource)));
    let endable = record.holds_in_force(now).any(|hold| ends_by_idleness(hold, spec));
    let wanted = answered && endable && spec.idle.is_some() && record.phase == Phase::On;
    !told
        && !waits
        && record.doing.is_none()
        && seen.state() == PowerState::Running
        && (wanted || idleness_is_asked(record, spec, inputs, now))
}

/// Whom to ask what; `None` where there is no policy. Thresholds of the command's own come in here.
pub fn plan_probes(
    spec: &TargetSpec,
    seen: &Observed,
    resource: &Resource,
    memory: &IdleMemory,
    over: IdleOverride,
) -> Option<ProbePlan> {
    let idle = spec.idle.as_ref()?;
    let after = over.after_seconds.and_then(HumanDuration::from_seconds).unwrap_or(idle.after);
    let look_back = over.look_back_seconds.and_then(HumanDuration::from_seconds);
    let mut probes = idle.probes.clone();
    for probe in &mut probes {
        if let Probe::Metric(metric) = probe {
            metric.look_back = look_back.or(metric.look_back).or(Some(after));
        }
    }
    let (private_ip, public_ip) = match &seen.seen {
        Seen::Instance(instance) => (instance.private_ip.clone(), instance.public_ip.clone()),
        Seen::Service(_) => (None, None),
    };
    let http_order = http_order(&probes, memory);
    let resource = resource.clone();
    Some(ProbePlan { resource, private_ip, public_ip, probes, http_order, over })
}

/// Only the first of a round is surely told of more than our own requests: whoever was told of it longest ago comes
/// first. Those whose answers do not depend on that come last.
fn http_order(probes: &[Probe], memory: &IdleMemory) -> Vec<usize> {
    let mut order: Vec<usize> = (0..probes.len())
        .filter(|place| matches!(probes.get(*place), Some(Probe::Http(_))))
        .collect();
    order.sort_by_key(|place| match probes.get(*place) {
        Some(Probe::Http(http)) if http.ignore_own && http.reads != HttpReads::Count => {
            let label = Probe::Http(http.clone()).label();
            match memory.requests.is_unmarked(&label) {
                false => (false, memory.requests.clear_at(&label)),
                true => (true, None),
            }
        }
        _ => (true, None),
    });
    order
}

/// The caller's idea of idle: that of the newest check that names one.
pub fn idle_override(record: &TargetRecord, inputs: &[Input]) -> IdleOverride {
    let given = inputs.iter().filter_map(|input| match input {
        Input::Command(command) if command.action == Action::CheckIdle => Some(command.idle),
        Input::Round(round) => Some(round.over),
        _ => None,
    });
    let open = record.open.iter().rev().filter(|open| open.action == Action::CheckIdle);
    given.chain(open.map(|open| open.idle)).find(|over| !over.is_none()).unwrap_or_default()
}

/// Whether the unit is to be asked for: its time has come, or somebody waits for the status.
pub(crate) fn watch_is_due(record: &TargetRecord, spec: &TargetSpec, now: Timestamp) -> bool {
    let asked = record.open.iter().any(|open| open.action == Action::Status);
    let last = record.up.unit.as_ref().map(|unit| unit.at);
    let due = |every| last.is_none_or(|last| add(last, every) <= now);
    asked || spec.unit_check_every().is_some_and(due)
}
