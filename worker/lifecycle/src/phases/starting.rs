//! Starting: from the first wish to a verified machine.
//!
//! The steps: wait until a stopping machine has stopped; StartInstances; wait until it runs (and its
//! agent answers); settle; verify the unit; verify the health address; on. With a unit, the host
//! itself waits until it has been up for `settle` (its own uptime is exact, and the wait costs no
//! write and no message); without one the wait is a `wake_at`.

use lamplighter_events::{Cause, Verdict};

use super::{
    Asked, begin_stop, fail_start, launched, read_check, ready_by, running_by, service,
    start_effect, stopped_outside,
};
use crate::answer;
use crate::effect::EffectKind;
use crate::limits::{CONSISTENCY_MARGIN_SECONDS, FELL_BACK_SECONDS};
use crate::observed::{Agent, HealthReading, PowerState};
use crate::pass::{Flow, Pass};
use crate::phase::{Phase, Step};
use crate::phases::agent::no_agent;
use crate::record::{Attempt, CheckPurpose, OpenCommand, UnitHealth};
use crate::resource::Resource;
use crate::template::TemplateSpec;
use crate::time::add;

pub(super) fn advance(pass: &mut Pass<'_>) -> Flow {
    if !pass.wanted() {
        begin_stop(pass, "nobody wants it any more");
        return Flow::Again;
    }
    let Some(state) = launched::state(pass) else { return Flow::Rest };
    match state {
        PowerState::Stopped => stopped(pass),
        PowerState::Pending => pending(pass),
        PowerState::Running => running(pass),
        PowerState::Stopping => stopping(pass),
        state @ (PowerState::ShuttingDown | PowerState::Terminated | PowerState::Missing) => {
            if !pass.confirmed(state) {
                return Flow::Rest;
            }
            let resource = &pass.record.resource;
            let message = match (state, resource) {
                (PowerState::Missing, Resource::Instance(id)) => {
                    format!("EC2 knows no instance {id}")
                }
                (PowerState::Missing, Resource::Service(id)) => format!(
                    "ECS has no active service {} in the cluster {}",
                    id.service(),
                    id.cluster()
                ),
                (_, resource) => format!("{resource} is {}", state.as_str()),
            };
            fail_start(pass, Cause::NotFound, message);
            Flow::Again
        }
    }
}

/// Whether AWS took the start, or the machine was seen to go up.
fn is_under_way(pass: &Pass<'_>) -> bool {
    pass.record.attempt.accepted_at.is_some()
        && !pass.record.step.is_some_and(Step::is_before_the_way)
}

fn stopped(pass: &mut Pass<'_>) -> Flow {
    if is_under_way(pass) {
        return fell_back(pass);
    }
    pass.record.attempt.contradiction = None;
    if let Some(until) = pass.quiet_after(EffectKind::Start) {
        pass.why("a start whose answer was lost may still show; looking again");
        pass.look(until);
        return Flow::Rest;
    }
    let began = pass.record.began_at.unwrap_or(pass.now);
    let retries_until = add(began, pass.spec.timings.start_timeout);
    let waits_for_stop = pass.record.step == Some(Step::WaitStoppedFirst);
    // While it is paused nothing can be tried, and so nothing has failed.
    let over = pass.now >= retries_until && pass.record.paused.is_none();
    if let (Some(refusal), true) = (&pass.record.attempt.refusal, over) {
        let (cause, message) = (refusal.cause, refusal.message.clone());
        let tries = pass.record.attempt.refusals;
        let message = match launched::refusals(pass) {
            Some(told) => format!("{told} until the deadline; last: {message}"),
            None => format!("{message} (refused {tries} times until the deadline)"),
        };
        fail_start(pass, cause, message);
        return Flow::Again;
    }
    if over && pass.kind().stop_destroys() && pass.unanswered(EffectKind::Start) {
        // What comes of it all the same is ended when it shows.
        let limit = pass.spec.timings.start_timeout;
        fail_start(pass, Cause::Deadline, format!("EC2 did not answer the launch within {limit}"));
        return Flow::Again;
    }
    if let Some(retry_at) = pass.record.attempt.retry_at.filter(|at| *at > pass.now) {
        pass.look(retry_at);
        let refusal = pass.record.attempt.refusal.as_ref().map(|refusal| refusal.message.clone());
        let tried = launched::refusals_in_full(pass);
        pass.why(format!("trying again at {retry_at:.0}: {}{tried}", refusal.unwrap_or_default()));
        return Flow::Rest;
    }
    if let Some(template) = pass.spec.template() {
        let gone = pass.seen().is_some_and(|seen| seen.state() != PowerState::Stopped);
        if gone {
            return launch(pass, template);
        }
    }
    let why = if waits_for_stop { "it has stopped and is wanted again" } else { "it is wanted" };
    if let Some(flow) = restore_bounds(pass) {
        return flow;
    }
    pass.record.up.started_by_us = true;
    pass.record.attempt.accepted_at = None;
    let Some(effect) = start_effect(pass) else { return Flow::Rest };
    let step = pass.kind().first_step();
    pass.act(effect, Some(step), why)
}

/// There is no machine, or none any more: one is launched.
fn launch(pass: &mut Pass<'_>, template: &TemplateSpec) -> Flow {
    if let Some(paused) = &pass.record.paused {
        let by = paused.by.clone();
        pass.why(format!("paused by holder {by}: nothing is launched"));
        return Flow::Rest;
    }
    pass.record.up.started_by_us = true;
    pass.record.attempt.accepted_at = None;
    let Some(effect) = launched::launch(pass, template) else { return Flow::Again };
    let why = match launched::refusals(pass) {
        Some(told) => format!("it is wanted; {told} so far"),
        None => "it is wanted".to_owned(),
    };
    pass.act(effect, Some(Step::LaunchInstance), &why)
}

/// Scaling's bounds first; where AWS goes on refusing that, until the deadline.
fn restore_bounds(pass: &mut Pass<'_>) -> Option<Flow> {
    let over = pass.now >= running_by(pass) && pass.record.paused.is_none();
    let waits =
        pass.record.attempt.retry_at.is_some() && pass.record.step == Some(Step::RestoreScaling);
    if let (Some(refusal), true) = (pass.record.attempt.refusal.clone(), over && waits) {
        fail_start(pass, refusal.cause, refusal.message);
        return Some(Flow::Again);
    }
    service::restore_bounds(pass, Some(Step::RestoreScaling))
}

/// It was going up, and EC2 says `stopped`.
fn fell_back(pass: &mut Pass<'_>) -> Flow {
    let is_service = pass.kind().turns_any_time();
    if is_service && pass.may_be_old() {
        return Flow::Rest;
    }
    let ours =
        pass.own_stop_may_come() || pass.own_stop_shows() || service::scaled_down_by_us(pass);
    if ours && pass.record.quiet.is_none() {
        pass.note("a stop of ours took effect late; starting again");
        return start_over(pass);
    }
    if !pass.confirmed_for(PowerState::Stopped, until_believed(pass)) {
        return Flow::Rest;
    }
    if is_service {
        // ECS does not set a desired count back by itself: somebody did.
        stopped_outside(pass);
        return Flow::Again;
    }
    let instance = pass.seen().and_then(|seen| seen.instance());
    let accepted = pass.record.attempt.accepted_at;
    let by_user = instance.and_then(|instance| instance.user_stopped_at);
    if by_user.is_some_and(|at| accepted.is_some_and(|accepted| at >= accepted)) {
        stopped_outside(pass);
        return Flow::Again;
    }
    if launched::was_taken_back(pass) {
        pass.note("EC2 took the spot machine back; another one is launched");
        return start_over(pass);
    }
    let reason = instance.and_then(|instance| instance.reason.clone());
    let reason = reason.unwrap_or_else(|| "EC2 gave no reason".to_owned());
    let state = pass.seen().map_or("stopped", |seen| seen.state().as_str());
    fail_start(pass, Cause::Bounced, format!("it fell back to {state}: {reason}"));
    Flow::Again
}

/// How long it must show as stopped. A launched machine that is terminated stays so; another one may show a state from
/// before its start, unless EC2 names a newer stop.
fn until_believed(pass: &Pass<'_>) -> i64 {
    let final_state = pass.kind().stop_destroys() || pass.kind().turns_any_time();
    match final_state || pass.stopped_by_somebody() {
        true => CONSISTENCY_MARGIN_SECONDS,
        false => FELL_BACK_SECONDS,
    }
}

fn start_over(pass: &mut Pass<'_>) -> Flow {
    pass.record.attempt = Attempt::default();
    pass.record.began_at = Some(pass.now);
    pass.record.step = Some(pass.kind().first_step());
    Flow::Again
}

fn stopping(pass: &mut Pass<'_>) -> Flow {
    if pass.kind().turns_any_time() {
        // Its last tasks are going; it is turned on all the same.
        return stopped(pass);
    }
    if is_under_way(pass) {
        // Not a state on the way up. What it becomes tells why.
        pass.why("EC2 says stopping while it starts; waiting to see what becomes of it");
        pass.look_after_poll();
        return Flow::Rest;
    }
    pass.record.step = Some(Step::WaitStoppedFirst);
    let began = pass.record.began_at.unwrap_or(pass.now);
    if pass.now >= add(began, pass.spec.timings.stop_timeout) {
        let message = "it was stopping and did not stop in time to be started".to_owned();
        fail_start(pass, Cause::Deadline, message);
        return Flow::Again;
    }
    pass.why("it is still stopping; it is started when it has stopped");
    pass.look_after_poll();
    Flow::Rest
}

fn pending(pass: &mut Pass<'_>) -> Flow {
    if let Some(flow) = shows_what_was_before(pass) {
        return flow;
    }
    if stop_may_still_show(pass) {
        return Flow::Rest;
    }
    if let Some(flow) = restore_bounds(pass) {
        return flow;
    }
    enter_way(pass);
    let limit = pass.spec.timings.start_timeout;
    let over = pass.now >= running_by(pass);
    if pass.kind().turns_any_time() {
        // A task that ran for a moment and is gone has settled nothing.
        pass.record.attempt.settle_until = None;
        if pass.record.step != Some(Step::RestoreScaling) {
            pass.record.step = Some(pass.kind().accepted_step());
        }
        let late = over.then(|| service::late(pass, limit));
        if let Some((cause, message)) = service::hopeless(pass).or(late) {
            fail_start(pass, cause, message);
            return Flow::Again;
        }
        pass.why(service::progress(pass));
    } else if over {
        fail_start(pass, Cause::Deadline, format!("it was not running within {limit}"));
        return Flow::Again;
    } else {
        pass.why("EC2 is starting the machine");
    }
    pass.look_after_poll();
    Flow::Rest
}

/// It looks up, and may only look as it did before our last stop. A service is set to its count all the same; a machine
/// is waited for.
fn shows_what_was_before(pass: &mut Pass<'_>) -> Option<Flow> {
    if !pass.may_be_old() {
        return None;
    }
    if !is_under_way(pass) {
        if pass.kind().turns_any_time() {
            return Some(stopped(pass));
        }
        pass.record.step = Some(Step::WaitStoppedFirst);
    }
    Some(Flow::Rest)
}

/// Turned back after a stop that was accepted: within its margin a machine that looks up is going down.
fn stop_may_still_show(pass: &mut Pass<'_>) -> bool {
    let until = pass.quiet_after(EffectKind::Stop);
    let Some(until) = until.filter(|_| pass.record.step == Some(Step::WaitStoppedFirst)) else {
        return false;
    };
    pass.why("a stop was accepted and does not show yet; looking again");
    pass.look(until);
    true
}

/// It is up: whatever was awaited before that is past.
fn enter_way(pass: &mut Pass<'_>) {
    pass.record.attempt.contradiction = None;
    if pass.record.step.is_none_or(Step::is_before_the_way) {
        if pass.unanswered(EffectKind::Start) {
            pass.record.up.started_by_us = true;
            pass.record.accepted.note_lost_start(&pass.record.unanswered, pass.now);
        }
        pass.record.attempt.accepted_at = pass.record.attempt.accepted_at.or(Some(pass.now));
        pass.record.attempt.refusal = None;
        let step = pass.kind().accepted_step();
        pass.enter(Phase::Starting, Some(step), None, "it is on its way");
    }
}

fn running(pass: &mut Pass<'_>) -> Flow {
    if let Some(flow) = shows_what_was_before(pass) {
        return flow;
    }
    if stop_may_still_show(pass) {
        return Flow::Rest;
    }
    if let Some(flow) = restore_bounds(pass) {
        return flow;
    }
    enter_way(pass);
    if let Some(flow) = launched::prepare(pass) {
        return flow;
    }
    match pass.record.step {
        Some(Step::Settle) => settle(pass),
        // What it brought was looked at by the bootstrap itself; the watch asks for its unit from now on.
        Some(Step::Bootstrap) => settle(pass),
        Some(Step::VerifyUnit) => verify_unit(pass),
        Some(Step::VerifyHealth) => verify_health(pass),
        _ if pass.spec.unit().is_some() => ask_unit(pass),
        _ => settle(pass),
    }
}

fn settle(pass: &mut Pass<'_>) -> Flow {
    if !pass.spec.settles() {
        return verified(pass);
    }
    let until = match pass.record.attempt.settle_until {
        Some(until) => until,
        None => pass.after(pass.spec.timings.settle),
    };
    if pass.now < until {
        pass.record.attempt.settle_until = Some(until);
        pass.record.step = Some(Step::Settle);
        pass.look(until);
        pass.why(format!("it runs; left alone until {until:.0} to settle"));
        return Flow::Rest;
    }
    verified(pass)
}

fn ask_unit(pass: &mut Pass<'_>) -> Flow {
    if let Some(retry_at) = pass.record.attempt.retry_at.filter(|at| *at > pass.now) {
        pass.look(retry_at);
        return Flow::Rest;
    }
    let agent = pass.seen().and_then(|seen| seen.agent);
    if agent == Some(Agent::Online) {
        return pass
            .ask(CheckPurpose::Verify, "it runs and its agent answers: asking for its unit");
    }
    if pass.now >= ready_by(pass) {
        let message = no_agent(pass, agent);
        fail_start(pass, Cause::AgentUnreachable, message);
        return Flow::Again;
    }
    pass.why("it runs; waiting for its SSM agent");
    pass.look_after_poll();
    Flow::Rest
}

fn verify_unit(pass: &mut Pass<'_>) -> Flow {
    let Some(check) = pass.record.attempt.check.clone() else {
        pass.record.step = Some(pass.kind().accepted_step());
        return ask_unit(pass);
    };
    match read_check(pass, check) {
        Asked::Waits => {
            pass.why("waiting for the host to say whether its unit is active");
            Flow::Rest
        }
        Asked::Lost(check) => {
            pass.ask_again(check, "the question never arrived; asking again under the same token")
        }
        Asked::Said(state) => {
            pass.record.up.unit = Some(UnitHealth { state: state.clone(), at: pass.now });
            if state == "active" {
                return verified(pass);
            }
            let unit = pass.spec.unit().map_or("", |unit| unit.as_str());
            let message = format!("systemctl is-active {unit} says {state:?}, expected \"active\"");
            fail_start(pass, Cause::UnitFailed, message);
            Flow::Again
        }
        Asked::Mute(detail) => {
            if pass.now >= ready_by(pass) {
                let message = format!("its agent did not answer for the unit: {detail}");
                fail_start(pass, Cause::AgentUnreachable, message);
                return Flow::Again;
            }
            pass.note(format!("no answer for the unit ({detail}); asking again"));
            pass.record.step = Some(pass.kind().accepted_step());
            pass.record.attempt.retry_at = Some(pass.after(pass.spec.timings.poll));
            pass.look_after_poll();
            pass.why(format!("no answer for the unit ({detail}); asking again"));
            Flow::Rest
        }
    }
}

/// Unit active, or settled without one.
fn verified(pass: &mut Pass<'_>) -> Flow {
    if pass.spec.health.is_some() {
        pass.record.step = Some(Step::VerifyHealth);
        pass.record.attempt.health_since = Some(pass.now);
        pass.look(pass.now);
        pass.why("asking the health address");
        return Flow::Rest;
    }
    came_on(pass)
}

fn verify_health(pass: &mut Pass<'_>) -> Flow {
    let detail = match pass.seen().and_then(|seen| seen.health.clone()) {
        Some(HealthReading::Healthy) => return came_on(pass),
        Some(HealthReading::Unhealthy { detail }) => detail,
        None => "the machine has no such address".to_owned(),
    };
    let since = pass.record.attempt.health_since.unwrap_or(pass.now);
    if pass.now >= add(since, pass.spec.timings.health_timeout) {
        fail_start(pass, Cause::Unhealthy, format!("its health address says: {detail}"));
        return Flow::Again;
    }
    pass.look_after_poll();
    pass.why(format!("not healthy yet: {detail}"));
    Flow::Rest
}

fn came_on(pass: &mut Pass<'_>) -> Flow {
    let started = pass.record.up.started_by_us;
    pass.record.attempt = Attempt::default();
    let message = if started { "it is on" } else { "it was running already, and is verified" };
    pass.enter(Phase::On, None, None, message);
    for open in pass.take_open(OpenCommand::wants_on) {
        let answer = answer::start(pass, &open, started, message);
        pass.close(&open, Verdict::Done, None, message, answer);
    }
    Flow::Again
}
