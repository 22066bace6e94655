//! Stopping: until EC2 says `stopped`, and never only until it accepted the call.

use lamplighter_events::{AttentionKind, Cause, Verdict};

use super::{begin_start, close_waiting, launched, service, stop_effect};
use crate::effect::EffectKind;
use crate::idle::IdleMemory;
use crate::kinds::Kind;
use crate::observed::PowerState;
use crate::pass::{Flow, Pass};
use crate::phase::{Phase, Step};
use crate::record::{Attempt, UpState};
use crate::retry::STOP_OVERDUE_SECONDS;
use crate::time::add;

pub(super) fn advance(pass: &mut Pass<'_>) -> Flow {
    if pass.wanted() {
        return turn_back(pass);
    }
    let Some(state) = launched::state(pass) else { return Flow::Rest };
    match state {
        PowerState::Stopped | PowerState::Terminated | PowerState::Missing => {
            // A start that was just made may not show yet: it rests only when surely off.
            if let Some(until) = pass.quiet_after(EffectKind::Start) {
                pass.why("a start made just before may still show; looking again");
                pass.look(until);
                return Flow::Rest;
            }
            if pass.may_be_old() {
                wait(pass);
                return Flow::Rest;
            }
            if let Some(flow) = service::suspend_bounds(pass, Some(Step::SuspendScaling)) {
                return flow;
            }
            rest(pass)
        }
        PowerState::Stopping | PowerState::ShuttingDown => {
            if let Some(flow) = service::suspend_bounds(pass, Some(Step::SuspendScaling)) {
                return flow;
            }
            pass.record.step = Some(Step::WaitStopped);
            pass.why(format!("the {} is stopping", pass.record.resource.noun()));
            wait(pass)
        }
        // ECS takes a stop at any time.
        PowerState::Pending if pass.kind().turns_any_time() => running(pass),
        PowerState::Pending => {
            pass.record.step = Some(Step::WaitStoppable);
            pass.why(match pass.kind() {
                Kind::Launched => "EC2 does not show the machine yet; waiting for it",
                Kind::Instance | Kind::Service => {
                    "a machine that is pending cannot be stopped; waiting until it runs"
                }
            });
            wait(pass)
        }
        PowerState::Running => running(pass),
    }
}

fn running(pass: &mut Pass<'_>) -> Flow {
    if pass.record.step == Some(Step::WaitStopped)
        && let Some(until) = pass.quiet_after(EffectKind::Stop)
    {
        pass.why("the stop was accepted and does not show yet; looking again");
        pass.look(until);
        return Flow::Rest;
    }
    if pass.own_stop_does_not_show() {
        pass.record.step = Some(Step::WaitStopped);
        return Flow::Rest;
    }
    if let Some(retry_at) = pass.record.attempt.retry_at.filter(|at| *at > pass.now) {
        pass.look(retry_at);
        let refusal = pass.record.attempt.refusal.as_ref().map(|refusal| refusal.message.clone());
        pass.why(format!("stopping again at {retry_at:.0}: {}", refusal.unwrap_or_default()));
        wait(pass);
        return Flow::Rest;
    }
    wait(pass);
    if let Some(flow) = service::suspend_bounds(pass, Some(Step::SuspendScaling)) {
        return flow;
    }
    let Some(effect) = stop_effect(pass) else { return Flow::Rest };
    let step = pass.kind().stop_step();
    pass.act(effect, Some(step), "nobody wants it")
}

/// Looks again, and says so once when it takes too long.
fn wait(pass: &mut Pass<'_>) -> Flow {
    let from = pass.record.attempt.accepted_at.or(pass.record.began_at).unwrap_or(pass.now);
    if pass.now < add(from, pass.spec.timings.stop_timeout) {
        pass.look_after_poll();
        return Flow::Rest;
    }
    let limit = pass.spec.timings.stop_timeout;
    let message = format!("it did not stop within {limit}");
    if !pass.record.overdue {
        pass.record.overdue = true;
        pass.attention(AttentionKind::StopOverdue, message.clone());
    }
    close_waiting(pass, Verdict::Failed, Some(Cause::Deadline), false, &message);
    let at = pass.in_seconds(STOP_OVERDUE_SECONDS);
    pass.look(at);
    pass.why(format!("{message}; still trying"));
    Flow::Rest
}

/// Wanted again on the way down: a stop that was accepted runs its course, then it starts again.
fn turn_back(pass: &mut Pass<'_>) -> Flow {
    let down = matches!(pass.record.step, Some(Step::WaitStopped))
        || pass.quiet_after(EffectKind::Stop).is_some();
    begin_start(pass);
    // A service can be turned at any time; only a stop that does not show yet is waited out.
    let waits = !pass.kind().turns_any_time() || pass.quiet_after(EffectKind::Stop).is_some();
    if down && waits {
        pass.record.step = Some(Step::WaitStoppedFirst);
    }
    Flow::Again
}

fn rest(pass: &mut Pass<'_>) -> Flow {
    pass.record.attempt = Attempt::default();
    pass.record.up = UpState::default();
    pass.record.began_at = None;
    pass.record.overdue = false;
    match pass.record.failure.clone() {
        Some(failure) => {
            let why = format!("the start failed ({}): {}", failure.cause, failure.message);
            pass.enter(Phase::Failed, None, Some(failure.cause), why);
        }
        None => {
            let state = pass.kind().rest();
            pass.enter(Phase::Off, None, None, format!("nobody wants it, and it is {state}"));
        }
    }
    let word = pass.kind().stopped();
    close_waiting(pass, Verdict::Done, None, true, &format!("it is {word}"));
    pass.record.idle = IdleMemory::default();
    Flow::Rest
}
