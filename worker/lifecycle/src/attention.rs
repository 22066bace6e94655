//! When a target gets a look that nobody asked for: a signal of AWS's, a sweep that finds it otherwise, its hours.

use jiff::Timestamp;
use lamplighter_events::Signal;

use crate::hours::Hours;
use crate::observed::PowerState;
use crate::phase::Phase;
use crate::record::TargetRecord;
use crate::resource::{Resource, ServiceId};

/// What a signal is about, where that is worth a look. A machine that goes up says `running` soon after `pending`, and a
/// command that runs says how it ended: the former of each pair tells nothing that a pass could act on. Of a task's many
/// steps the end of its way up or down counts.
pub fn newsworthy(signal: Signal) -> Option<Resource> {
    match signal {
        Signal::Ec2StateChange { instance, state, .. } => {
            (state != "pending").then_some(Resource::Instance(instance))
        }
        Signal::Ec2SpotInterruption { instance, .. } => Some(Resource::Instance(instance)),
        Signal::SsmCommandStatus { instance, status, .. } => instance
            .filter(|_| !matches!(status.as_str(), "Pending" | "InProgress" | "Delayed"))
            .map(Resource::Instance),
        Signal::EcsTaskStateChange { cluster, group, last_status, .. } => {
            let service = group.strip_prefix("service:")?;
            let ended = matches!(last_status.as_str(), "RUNNING" | "STOPPED");
            let id = ServiceId::parse(&cluster, service).ok().filter(|_| ended)?;
            Some(Resource::Service(id))
        }
    }
}

/// Whether a sweep that sees this state finds the target otherwise than expected. `phase` is what the index of what is up
/// says; `None`: the target is not in it.
pub fn is_unexpected(phase: Option<Phase>, state: PowerState) -> bool {
    match phase {
        // What is on its way has a wait of its own.
        Some(Phase::Starting | Phase::Stopping) => false,
        Some(Phase::On | Phase::Off | Phase::Failed) => state != PowerState::Running,
        None => !state.is_off() && state != PowerState::ShuttingDown,
    }
}

/// When the hours of a target that is off next want it, from now on.
pub fn hours_want_it_at(hours: &Hours, now: Timestamp) -> Option<Timestamp> {
    hours.at(now).map(|_| now).or_else(|| hours.next_from(now))
}

/// Whether nobody looks at a target in time for its hours, which want it at `needed`: it has no record yet, or its hours
/// are others than when its record was written.
pub fn hours_need_a_look(record: Option<&TargetRecord>, needed: Timestamp) -> bool {
    let suppressed = record.and_then(|record| record.suppressed_until);
    let needed = suppressed.map_or(needed, |until| until.max(needed));
    record.and_then(|record| record.wake_at).is_none_or(|at| at > needed)
}
