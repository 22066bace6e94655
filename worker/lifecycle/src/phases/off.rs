//! Off, and failed: at rest.
//!
//! A machine that runs though nobody here asked for it is *adopted*: first contact never stops a
//! machine, and neither does anything later but a stop, a kill or (later) idleness. The exceptions are
//! ours: a start of ours that came late, and a failed start's machine that was kept and is no longer.

use jiff::Timestamp;
use lamplighter_events::{AttentionKind, Holder};

use super::{asked_to_stop, begin_start, begin_stop, is_gone, service};
use crate::effect::EffectKind;
use crate::hold::{Hold, HoldKind, Sent};
use crate::idle::IdleMemory;
use crate::kinds::Kind;
use crate::observed::{Observed, PowerState};
use crate::pass::{Flow, Pass};
use crate::phase::Phase;
use crate::record::UpState;
use crate::retry::UNANSWERED_LOOK_SECONDS;

pub(super) fn first_contact(pass: &mut Pass<'_>) {
    if is_up(pass) {
        let why = "it was found running at first contact";
        match pass.kind() {
            Kind::Launched => adopt_orphan(pass, why),
            Kind::Instance | Kind::Service => adopt(pass, why),
        }
    }
}

fn adopt_orphan(pass: &mut Pass<'_>, why: &str) {
    let resource = &pass.record.resource;
    let message = format!("{resource} bears our tags, and no record knew it; it is adopted");
    pass.attention(AttentionKind::Orphan, message);
    adopt(pass, why);
}

/// Running; or a service that wants tasks, which may never settle and costs all the same.
fn is_up(pass: &Pass<'_>) -> bool {
    match pass.seen().map(Observed::state) {
        Some(PowerState::Running) => true,
        Some(PowerState::Pending) => pass.kind().runs_tasks(),
        _ => false,
    }
}

fn adopt(pass: &mut Pass<'_>, why: &str) {
    // Whoever started it did so since it was last off: a stop that was sent after that is newer, though
    // it is we who come late. At first contact every command is.
    let at = match pass.record.rev {
        0 => Timestamp::MIN,
        _ => pass.record.since,
    };
    pass.record.generation += 1;
    pass.record.attempt.contradiction = None;
    pass.record.failure = None;
    pass.record.up = UpState::default();
    pass.record.idle = IdleMemory::default();
    let max_lifetime = pass.spec.template().and_then(|template| template.max_lifetime);
    let until = max_lifetime.map(|long| pass.after(long));
    if pass.kind().counts_toward_limit() {
        pass.record.provision.seated = true;
    }
    let id = format!("adopted:{}", pass.record.generation);
    // "outside" is a word, not a name: it cannot be wrong.
    let holder = Holder::parse("outside").unwrap_or_else(|_| Holder::shared());
    pass.record.holds.push(Hold {
        sent: Sent::new(at, id.clone()),
        id,
        holder,
        kind: HoldKind::Adopted,
        from: pass.now,
        until,
        reason: Some(why.to_owned()),
    });
    pass.enter(Phase::On, None, None, why);
}

pub(super) fn advance(pass: &mut Pass<'_>) -> Flow {
    if pass.wanted() && (pass.record.phase == Phase::Off || retries_for_window(pass)) {
        if pass.no_seat && pass.kind().counts_toward_limit() && !pass.record.provision.seated {
            let at = pass.in_seconds(UNANSWERED_LOOK_SECONDS);
            pass.look(at);
            pass.why("its template has its most machines; looking again");
            return Flow::Rest;
        }
        begin_start(pass);
        return Flow::Again;
    }
    let Some(state) = pass.seen().map(|seen| seen.state()) else { return Flow::Rest };
    if pass.kind().stop_destroys() && !is_gone(pass, state) {
        return still_there(pass, state);
    }
    match state {
        PowerState::Stopped | PowerState::Terminated | PowerState::Missing => {
            pass.record.attempt.contradiction = None;
            // A machine that is kept may not show yet: it is given up only when surely off.
            if let Some(until) = pass.quiet_after(EffectKind::Start) {
                pass.why("a start made just before may still show; looking again");
                pass.look(until);
                return Flow::Rest;
            }
            if (pass.record.up.kept || asked_to_stop(pass)) && pass.may_be_old() {
                return Flow::Rest;
            }
            pass.record.up.kept = false;
            if let Some(flow) = service::suspend_what_came_late(pass) {
                return flow;
            }
            if asked_to_stop(pass) {
                begin_stop(pass, "somebody asked for it to be off");
                return Flow::Again;
            }
            let why = match &pass.record.failure {
                Some(failure) if pass.record.phase == Phase::Failed => {
                    format!("the start failed ({}): {}", failure.cause, failure.message)
                }
                _ if state == PowerState::Stopped => "nobody wants it".to_owned(),
                _ => {
                    let speaker = pass.record.resource.speaker();
                    format!("nobody wants it; {speaker} says {}", state.as_str())
                }
            };
            pass.why(why);
            Flow::Rest
        }
        PowerState::Stopping | PowerState::ShuttingDown => {
            pass.why("nobody wants it, and somebody is stopping it");
            pass.look_after_poll();
            Flow::Rest
        }
        PowerState::Pending | PowerState::Running => up(pass, state),
    }
}

/// A launched machine is never anybody's but ours: what shows up was late.
fn still_there(pass: &mut Pass<'_>, state: PowerState) -> Flow {
    if pass.record.up.kept && pass.wanted() && !asked_to_stop(pass) {
        pass.why("its start failed, and its machine is kept for a while (keep_failed)");
        return Flow::Rest;
    }
    let known = pass.record.provision.launch.is_some() || asked_to_stop(pass);
    match state {
        PowerState::ShuttingDown => {
            pass.why("nobody wants it, and it is going");
            pass.look_after_poll();
            Flow::Rest
        }
        // One that no record knew: contact destroys nothing.
        PowerState::Running if !known => {
            adopt_orphan(pass, "a machine with our tags runs, and no record says why");
            Flow::Again
        }
        PowerState::Stopped if !known => {
            pass.why(
                "a machine with our tags stands here that no record knows, and it does not run",
            );
            Flow::Rest
        }
        _ if !known => {
            pass.why("a machine with our tags is here that no record knows; looking again");
            pass.look_after_poll();
            Flow::Rest
        }
        _ => {
            begin_stop(pass, "a machine of ours that nobody wants is there");
            Flow::Again
        }
    }
}

/// A window's failed start is tried again, once its pause is over.
fn retries_for_window(pass: &mut Pass<'_>) -> bool {
    let by_window = pass.record.holds_in_force(pass.now).any(|it| it.kind == HoldKind::Window);
    if pass.record.phase != Phase::Failed || !by_window {
        return false;
    }
    match pass.record.attempt.retry_at {
        // A window that began after the failure, or whose pause is over.
        None => true,
        Some(at) if at <= pass.now => true,
        Some(at) => {
            pass.look(at);
            false
        }
    }
}

fn up(pass: &mut Pass<'_>, state: PowerState) -> Flow {
    if asked_to_stop(pass) {
        begin_stop(pass, "somebody asked for it to be off");
        return Flow::Again;
    }
    if pass.record.up.kept {
        if pass.wanted() {
            pass.why("its start failed, and its machine is kept (keep_failed)");
            return Flow::Rest;
        }
        begin_stop(pass, "its start failed, and nobody wants its machine any more");
        return Flow::Again;
    }
    if pass.own_stop_does_not_show() {
        return Flow::Rest;
    }
    let ours = pass.unanswered(EffectKind::Start) || pass.own_start_shows();
    if ours || service::scaled_up_late(pass) {
        begin_stop(pass, "a start of ours took effect late, and nobody wants it any more");
        return Flow::Again;
    }
    if pass.phase_is_young() || !pass.confirmed(state) {
        return Flow::Rest;
    }
    if !is_up(pass) {
        pass.why("somebody else is starting it");
        pass.look_after_poll();
        return Flow::Rest;
    }
    let why = "somebody else started it";
    pass.attention(AttentionKind::StartedOutside, why);
    adopt(pass, why);
    Flow::Again
}
