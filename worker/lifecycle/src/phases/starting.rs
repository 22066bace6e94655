//! Starting: from the first wish to a verified machine.
//!
//! The steps: wait until a stopping machine has stopped; StartInstances; wait until it runs (and its
//! agent answers); settle; verify the unit; verify the health address; on. With a unit, the host
//! itself waits until it has been up for `settle` (its own uptime is exact, and the wait costs no
//! write and no message); without one the wait is a `wake_at`.

use lamplighter_events::{Cause, Verdict};

use super::{Asked, begin_stop, fail_start, read_check, ready_by, running_by, stopped_outside};
use crate::answer;
use crate::effect::{Effect, EffectKind};
use crate::observed::{Agent, Ec2State, HealthReading};
use crate::pass::{Flow, Pass, add};
use crate::record::{CheckPurpose, Phase, Step, UnitHealth};

pub(super) fn advance(pass: &mut Pass<'_>) -> Flow {
    if !pass.wanted() {
        begin_stop(pass, "nobody wants it any more");
        return Flow::Again;
    }
    let Some(seen) = pass.seen() else { return Flow::Rest };
    match seen.state() {
        Ec2State::Stopped => stopped(pass),
        Ec2State::Pending => pending(pass),
        Ec2State::Running => running(pass),
        Ec2State::Stopping => stopping(pass),
        state @ (Ec2State::ShuttingDown | Ec2State::Terminated | Ec2State::Missing) => {
            if !pass.confirmed(state) {
                return Flow::Rest;
            }
            let message = match state {
                Ec2State::Missing => format!("EC2 knows no instance {}", pass.record.instance),
                _ => format!("{} is {}", pass.record.instance, state.as_str()),
            };
            fail_start(pass, Cause::NotFound, message);
            Flow::Again
        }
    }
}

/// Whether AWS took the start, or the machine was seen to go up.
fn is_under_way(pass: &Pass<'_>) -> bool {
    pass.record.accepted_at.is_some()
        && !matches!(pass.record.step, Some(Step::StartInstance | Step::WaitStoppedFirst))
}

fn stopped(pass: &mut Pass<'_>) -> Flow {
    if is_under_way(pass) {
        return fell_back(pass);
    }
    pass.record.contradiction = None;
    if let Some(until) = pass.quiet_after(EffectKind::Start) {
        pass.why("a start whose answer was lost may still show; looking again");
        pass.look(until);
        return Flow::Rest;
    }
    let began = pass.record.began_at.unwrap_or(pass.now);
    let retries_until = add(began, pass.spec.ec2.start_timeout);
    let waits_for_stop = pass.record.step == Some(Step::WaitStoppedFirst);
    // While it is paused nothing can be tried, and so nothing has failed.
    let over = pass.now >= retries_until && pass.record.paused.is_none();
    if let (Some(refusal), true) = (&pass.record.refusal, over) {
        let (cause, message) = (refusal.cause, refusal.message.clone());
        let tries = pass.record.refusals;
        fail_start(pass, cause, format!("{message} (refused {tries} times until the deadline)"));
        return Flow::Again;
    }
    if let Some(retry_at) = pass.record.retry_at.filter(|at| *at > pass.now) {
        pass.look(retry_at);
        let refusal = pass.record.refusal.as_ref().map(|refusal| refusal.message.clone());
        pass.why(format!("trying again at {retry_at}: {}", refusal.unwrap_or_default()));
        return Flow::Rest;
    }
    let why = if waits_for_stop { "it has stopped and is wanted again" } else { "it is wanted" };
    pass.record.started_by_us = true;
    pass.record.accepted_at = None;
    let instance = pass.record.instance.clone();
    pass.act(Effect::StartInstance { instance }, Some(Step::StartInstance), why)
}

/// It was going up, and EC2 says `stopped`.
fn fell_back(pass: &mut Pass<'_>) -> Flow {
    if pass.unanswered(EffectKind::Stop) && pass.record.quiet.is_none() {
        pass.note("a stop of ours took effect late; starting again");
        return start_over(pass);
    }
    if !pass.confirmed(Ec2State::Stopped) {
        return Flow::Rest;
    }
    let instance = pass.seen().map(|seen| &seen.instance);
    let accepted = pass.record.accepted_at;
    let by_user = instance.and_then(|instance| instance.user_stopped_at);
    if by_user.is_some_and(|at| accepted.is_some_and(|accepted| at >= accepted)) {
        stopped_outside(pass);
        return Flow::Again;
    }
    let reason = instance.and_then(|instance| instance.reason.clone());
    let reason = reason.unwrap_or_else(|| "EC2 gave no reason".to_owned());
    fail_start(pass, Cause::Bounced, format!("it fell back to stopped: {reason}"));
    Flow::Again
}

fn start_over(pass: &mut Pass<'_>) -> Flow {
    super::clear_way(pass);
    pass.record.began_at = Some(pass.now);
    pass.record.step = Some(Step::StartInstance);
    Flow::Again
}

fn stopping(pass: &mut Pass<'_>) -> Flow {
    if is_under_way(pass) {
        // Not a state on the way up. What it becomes tells why.
        pass.why("EC2 says stopping while it starts; waiting to see what becomes of it");
        pass.look_after_poll();
        return Flow::Rest;
    }
    pass.record.step = Some(Step::WaitStoppedFirst);
    let began = pass.record.began_at.unwrap_or(pass.now);
    if pass.now >= add(began, pass.spec.ec2.stop_timeout) {
        let message = "it was stopping and did not stop in time to be started".to_owned();
        fail_start(pass, Cause::Deadline, message);
        return Flow::Again;
    }
    pass.why("it is still stopping; it is started when it has stopped");
    pass.look_after_poll();
    Flow::Rest
}

fn pending(pass: &mut Pass<'_>) -> Flow {
    if stop_may_still_show(pass) {
        return Flow::Rest;
    }
    enter_way(pass);
    if pass.now >= running_by(pass) {
        let limit = pass.spec.ec2.start_timeout;
        fail_start(pass, Cause::Deadline, format!("it was not running within {limit}"));
        return Flow::Again;
    }
    pass.why("EC2 is starting the machine");
    pass.look_after_poll();
    Flow::Rest
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
    pass.record.contradiction = None;
    if matches!(pass.record.step, None | Some(Step::StartInstance | Step::WaitStoppedFirst)) {
        if pass.unanswered(EffectKind::Start) {
            pass.record.started_by_us = true;
        }
        pass.record.accepted_at = pass.record.accepted_at.or(Some(pass.now));
        pass.record.refusal = None;
        pass.record.step = Some(Step::WaitRunning);
    }
}

fn running(pass: &mut Pass<'_>) -> Flow {
    if stop_may_still_show(pass) {
        return Flow::Rest;
    }
    enter_way(pass);
    match pass.record.step {
        Some(Step::Settle) => settle(pass),
        Some(Step::VerifyUnit) => verify_unit(pass),
        Some(Step::VerifyHealth) => verify_health(pass),
        _ if pass.spec.ec2.systemd_unit.is_some() => ask_unit(pass),
        _ => settle(pass),
    }
}

fn settle(pass: &mut Pass<'_>) -> Flow {
    let until = match pass.record.settle_until {
        Some(until) => until,
        None => pass.after(pass.spec.ec2.settle),
    };
    if pass.now < until {
        pass.record.settle_until = Some(until);
        pass.record.step = Some(Step::Settle);
        pass.look(until);
        pass.why(format!("it runs; left alone until {until} to settle"));
        return Flow::Rest;
    }
    verified(pass)
}

fn ask_unit(pass: &mut Pass<'_>) -> Flow {
    if let Some(retry_at) = pass.record.retry_at.filter(|at| *at > pass.now) {
        pass.look(retry_at);
        return Flow::Rest;
    }
    let agent = pass.seen().and_then(|seen| seen.agent);
    if agent == Some(Agent::Online) {
        return pass
            .ask(CheckPurpose::Verify, "it runs and its agent answers: asking for its unit");
    }
    if pass.now >= ready_by(pass) {
        let message = match (&pass.record.refusal, agent) {
            (Some(refusal), _) => refusal.message.clone(),
            (None, Some(Agent::Offline)) => "its SSM agent lost its connection".to_owned(),
            _ => {
                "its SSM agent never registered: is it installed, and is there an instance profile \
                  with AmazonSSMManagedInstanceCore?"
                    .to_owned()
            }
        };
        fail_start(pass, Cause::AgentUnreachable, message);
        return Flow::Again;
    }
    pass.why("it runs; waiting for its SSM agent");
    pass.look_after_poll();
    Flow::Rest
}

fn verify_unit(pass: &mut Pass<'_>) -> Flow {
    let Some(check) = pass.record.check.clone() else {
        pass.record.step = Some(Step::WaitRunning);
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
            pass.record.unit = Some(UnitHealth { state: state.clone(), at: pass.now });
            if state == "active" {
                return verified(pass);
            }
            let unit = pass.spec.ec2.systemd_unit.as_ref().map_or("", |unit| unit.as_str());
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
            pass.record.step = Some(Step::WaitRunning);
            pass.record.retry_at = Some(pass.after(pass.spec.ec2.poll));
            pass.look_after_poll();
            pass.why(format!("no answer for the unit ({detail}); asking again"));
            Flow::Rest
        }
    }
}

/// Unit active, or settled without one.
fn verified(pass: &mut Pass<'_>) -> Flow {
    if pass.spec.ec2.health.is_some() {
        pass.record.step = Some(Step::VerifyHealth);
        pass.record.health_since = Some(pass.now);
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
    let since = pass.record.health_since.unwrap_or(pass.now);
    if pass.now >= add(since, pass.spec.ec2.health_timeout) {
        fail_start(pass, Cause::Unhealthy, format!("its health address says: {detail}"));
        return Flow::Again;
    }
    pass.look_after_poll();
    pass.why(format!("not healthy yet: {detail}"));
    Flow::Rest
}

fn came_on(pass: &mut Pass<'_>) -> Flow {
    let started = pass.record.started_by_us;
    super::clear_way(pass);
    let message = if started { "it is on" } else { "it was running already, and is verified" };
    pass.enter(Phase::On, None, None, message);
    for open in pass.take_open(|open| open.action == lamplighter_events::Action::Start) {
        let answer = answer::start(pass, &open, started, message);
        pass.close(&open, Verdict::Done, None, message, answer);
    }
    Flow::Again
}
