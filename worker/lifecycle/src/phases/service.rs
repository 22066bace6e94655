//! What is different about an ECS service: it can be turned at any time, its scaling has bounds, and it can
//! fail to come up while ECS goes on trying for ever.
//!
//! *Theory.* Where Application Auto Scaling minds the service, its bounds are set to 0 and 0 before the desired
//! count is, or it would undo that; they are remembered first, and set again before the way up. Bounds of 0 and 0
//! are ours by definition: nobody else keeps a service from ever running. Others are left as they are found.
//!
//! ECS replaces tasks that stop, for ever. So a service whose tasks stop again and again, or whose deployment
//! was given up by its circuit breaker, has failed to start, with ECS's own reason; one whose tasks cannot be
//! placed waits, as ECS does, until the deadline.

use lamplighter_events::Cause;

use crate::effect::{Effect, EffectKind};
use crate::limits::{CONSISTENCY_MARGIN_SECONDS, STOPPED_TASKS_MAX};
use crate::observed::{Bounds, ServiceSeen, TaskStopped};
use crate::pass::{Flow, Pass};
use crate::phase::Step;
use crate::time::later;

/// What was seen of the service, if the target is one.
pub(super) fn seen<'a>(pass: &Pass<'a>) -> Option<&'a ServiceSeen> {
    pass.seen().and_then(|seen| seen.service())
}

/// The bounds that are in force, where scaling manages the service. Those that it has just accepted from us count,
/// whatever its descriptions say: they lag, and a read of our own 0 and 0 must never pass for somebody's bounds.
fn settled_bounds(pass: &Pass<'_>) -> Option<Bounds> {
    let shown = seen(pass).and_then(|service| service.bounds);
    shown.map(|bounds| pass.bounds_in_force(bounds))
}

/// A change of the bounds has no answer and may not show yet: a look after its margin tells what they are.
fn bounds_may_still_show(pass: &mut Pass<'_>) -> Option<Flow> {
    let until = pass.quiet_after(EffectKind::Scale)?;
    let answered = pass.record.accepted.bounds.is_some();
    if answered || seen(pass).is_none_or(|service| service.bounds.is_none()) {
        return None;
    }
    pass.look(until);
    pass.why("a change of its scaling's bounds may not show yet; looking again");
    Some(Flow::Rest)
}

/// On the way up, and while on: bounds of 0 and 0 are set back to what they were.
pub(super) fn restore_bounds(pass: &mut Pass<'_>, step: Option<Step>) -> Option<Flow> {
    if let Some(flow) = bounds_may_still_show(pass) {
        return Some(flow);
    }
    let bounds = settled_bounds(pass)?;
    if bounds != Bounds::ZERO {
        // A suspension that was lost may yet come true, and one that was undone may yet show: then these are to be
        // set again.
        let keeps = pass.unanswered(EffectKind::Scale) || pass.bounds_were_set_lately();
        pass.record.bounds = Some(bounds).filter(|_| keeps);
        return None;
    }
    let desired = pass.spec.service().map_or(1, |service| service.desired);
    // Nothing remembered (a record that was lost): the configured count is what is surely allowed.
    let before = pass.record.bounds.unwrap_or(Bounds { min: desired, max: desired });
    let why = format!("its scaling is to have its bounds again: {} to {}", before.min, before.max);
    Some(scale(pass, before, step, &why))
}

/// On the way down: the bounds are remembered and set to 0 and 0.
pub(super) fn suspend_bounds(pass: &mut Pass<'_>, step: Option<Step>) -> Option<Flow> {
    if let Some(flow) = bounds_may_still_show(pass) {
        return Some(flow);
    }
    let bounds = settled_bounds(pass)?;
    if bounds == Bounds::ZERO {
        return None;
    }
    pass.record.bounds = Some(bounds);
    let why = format!("its scaling ({} to {}) is suspended first", bounds.min, bounds.max);
    Some(scale(pass, Bounds::ZERO, step, &why))
}

fn lost_bounds(pass: &Pass<'_>, which: impl Fn(Bounds) -> bool) -> bool {
    pass.record.unanswered.iter().any(|lost| match lost.effect {
        Effect::RegisterScalableTarget { bounds, .. } => which(bounds),
        _ => false,
    })
}

/// Whether its count may have gone to 0 by bounds of ours: Application Auto Scaling puts a count that is above
/// its maximum down to it.
pub(super) fn scaled_down_by_us(pass: &Pass<'_>) -> bool {
    if seen(pass).is_none() {
        return false;
    }
    // Bounds are remembered from their suspension on, and for a while after they were set again.
    let last = pass.record.accepted.bounds;
    let suspended =
        pass.record.bounds.is_some() && last.is_none_or(|last| last.bounds == Bounds::ZERO);
    settled_bounds(pass) == Some(Bounds::ZERO)
        || suspended
        || pass.own_suspension_shows()
        || lost_bounds(pass, |bounds| bounds == Bounds::ZERO)
}

/// Whether bounds of ours that came late may have pulled its count up.
pub(super) fn scaled_up_late(pass: &Pass<'_>) -> bool {
    lost_bounds(pass, |bounds| bounds.min > 0)
}

/// A bounds' call of ours that came true late, while the target is off: set to 0 and 0 again.
pub(super) fn suspend_what_came_late(pass: &mut Pass<'_>) -> Option<Flow> {
    let ours = pass.unanswered(EffectKind::Scale) && pass.record.bounds.is_some();
    let quiet = pass.quiet_after(EffectKind::Scale).is_some();
    if !ours || quiet || settled_bounds(pass).is_none_or(|bounds| bounds == Bounds::ZERO) {
        return None;
    }
    let step = pass.record.step;
    Some(scale(pass, Bounds::ZERO, step, "a call that set its scaling's bounds came late"))
}

fn scale(pass: &mut Pass<'_>, bounds: Bounds, step: Option<Step>, why: &str) -> Flow {
    if let Some(retry_at) = pass.record.attempt.retry_at.filter(|at| *at > pass.now) {
        pass.look(retry_at);
        return Flow::Rest;
    }
    let Some(service) = pass.record.resource.service().cloned() else { return Flow::Rest };
    pass.act(Effect::RegisterScalableTarget { service, bounds }, step, why)
}

/// The call that turns a service on.
pub(super) fn turn_on(pass: &Pass<'_>) -> Option<Effect> {
    let service = pass.record.resource.service()?.clone();
    let desired = pass.spec.service().map_or(1, |service| service.desired);
    let bounds = settled_bounds(pass).filter(|bounds| *bounds != Bounds::ZERO);
    let bounds = bounds.or(pass.record.bounds);
    // Bounds that allow nothing would turn a start into a stop.
    let desired = bounds.map_or(desired, |bounds| bounds.clamp(desired)).max(1);
    Some(Effect::UpdateService { service, desired })
}

/// The call that turns it off.
pub(super) fn turn_off(pass: &Pass<'_>) -> Option<Effect> {
    let service = pass.record.resource.service()?.clone();
    Some(Effect::UpdateService { service, desired: 0 })
}

/// What keeps the service from coming up, of what waiting does not cure.
pub(super) fn hopeless(pass: &Pass<'_>) -> Option<(Cause, String)> {
    let service = seen(pass)?;
    if let Some(reason) = &service.rollout_failed {
        return Some((Cause::UnitFailed, format!("ECS gave its deployment up: {reason}")));
    }
    let stopped: Vec<&TaskStopped> = stopped_since(pass, service).collect();
    let last = stopped.first().filter(|_| stopped.len() >= STOPPED_TASKS_MAX)?;
    Some((
        cause_of(last),
        format!("{} of its tasks stopped; ECS says: {}", stopped.len(), last.reason),
    ))
}

/// The best word for a service that did not come up in time.
pub(super) fn late(pass: &Pass<'_>, limit: impl std::fmt::Display) -> (Cause, String) {
    let late = |what: &str| format!("it had not all of its tasks within {limit}{what}");
    let Some(service) = seen(pass) else { return (Cause::Deadline, late("")) };
    if let Some(last) = stopped_since(pass, service).next() {
        return (cause_of(last), late(&format!("; a task stopped: {}", last.reason)));
    }
    if let Some((at, words)) = &service.unplaced
        && *at >= since(pass)
    {
        return (Cause::Capacity, late(&format!("; ECS says: {words}")));
    }
    let (running, desired) = (service.running, service.desired);
    match service.healthy {
        Some(healthy) if running >= desired && healthy < desired => {
            (Cause::Unhealthy, late(&format!("; {healthy} of {desired} are healthy")))
        }
        _ => (Cause::Deadline, late(&format!("; {running} of {desired} run"))),
    }
}

/// What ECS says of a service on its way up, for people.
pub(super) fn progress(pass: &Pass<'_>) -> String {
    let Some(service) = seen(pass) else { return "ECS is starting its tasks".to_owned() };
    let (running, pending, desired) = (service.running, service.pending, service.desired);
    let health = match service.healthy {
        Some(healthy) if healthy < running => format!(", {healthy} healthy"),
        _ => String::new(),
    };
    let placed = service.unplaced.as_ref().filter(|(at, _)| *at >= since(pass));
    let words = placed.map(|(_, words)| format!("; ECS says: {words}")).unwrap_or_default();
    format!("{running} of {desired} tasks run, {pending} pending{health}{words}")
}

fn since(pass: &Pass<'_>) -> jiff::Timestamp {
    let began = pass.record.began_at.unwrap_or(pass.record.since);
    later(began, -CONSISTENCY_MARGIN_SECONDS)
}

fn stopped_since<'s>(
    pass: &Pass<'_>,
    service: &'s ServiceSeen,
) -> impl Iterator<Item = &'s TaskStopped> {
    let since = since(pass);
    // Whom the scheduler or a user told to stop did not fail.
    let told = |task: &TaskStopped| {
        matches!(task.code.as_deref(), Some("UserInitiated" | "TerminationNotice"))
            || task.reason.contains("Scaling activity initiated by")
    };
    service.stopped.iter().filter(move |task| task.at >= since && !told(task))
}

/// ECS's reason in our words.
/// Source: "Amazon ECS stopped tasks error messages", Developer Guide.
fn cause_of(task: &TaskStopped) -> Cause {
    let says = |words: &[&str]| words.iter().any(|word| task.reason.contains(word));
    if says(&["AccessDenied", "not authorized", "UnrecognizedClientException"]) {
        Cause::Denied
    } else if says(&["CannotPull", "image not found", "manifest unknown"]) {
        Cause::NotFound
    } else if says(&["Capacity is unavailable", "SpotInterruption", "RESOURCE:"])
        || task.code.as_deref() == Some("SpotInterruption")
    {
        Cause::Capacity
    } else if says(&["health check"]) {
        Cause::Unhealthy
    } else {
        Cause::UnitFailed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reason: &str, cause: Cause) {
        let at = jiff::Timestamp::MIN;
        let task = TaskStopped { at, code: None, reason: reason.to_owned() };
        assert_eq!(cause_of(&task), cause, "{reason}");
    }

    #[test]
    fn ecs_says_why_and_it_becomes_a_typed_cause() {
        check("Essential container in task exited (exit code 1)", Cause::UnitFailed);
        check(
            "CannotPullContainerError: pull image manifest has been retried 5 time(s): not found",
            Cause::NotFound,
        );
        check(
            "ResourceInitializationError: unable to pull secrets or registry auth: AccessDeniedException: not authorized",
            Cause::Denied,
        );
        check("Capacity is unavailable at this time. Please try again later", Cause::Capacity);
        check("Task failed container health checks", Cause::Unhealthy);
        check("Task failed ELB health checks in (target-group x)", Cause::Unhealthy);
        check("OutOfMemoryError: Container killed due to memory usage", Cause::UnitFailed);
    }
}
