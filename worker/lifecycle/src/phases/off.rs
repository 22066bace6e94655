//! Off, and failed: at rest.
//!
//! A machine that runs though nobody here asked for it is *adopted*: first contact never stops a
//! machine, and neither does anything later but a stop, a kill or (later) idleness. The exceptions are
//! ours: a start of ours that came late, and a failed start's machine that was kept and is no longer.

use jiff::Timestamp;
use lamplighter_events::{AttentionKind, Holder};

use super::{asked_to_stop, begin_start, begin_stop};
use crate::effect::EffectKind;
use crate::hold::{Hold, HoldKind, Sent};
use crate::observed::Ec2State;
use crate::pass::{Flow, Pass};
use crate::record::Phase;

pub(super) fn first_contact(pass: &mut Pass<'_>) {
    if pass.seen().is_some_and(|seen| seen.state() == Ec2State::Running) {
        adopt(pass, "it was found running at first contact");
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
    pass.record.started_by_us = false;
    pass.record.contradiction = None;
    pass.record.failure = None;
    pass.record.kept = false;
    pass.record.unit = None;
    pass.record.unit_down = false;
    let id = format!("adopted:{}", pass.record.generation);
    // "outside" is a word, not a name: it cannot be wrong.
    let holder = Holder::parse("outside").unwrap_or_else(|_| Holder::shared());
    pass.record.holds.push(Hold {
        sent: Sent::new(at, id.clone()),
        id,
        holder,
        kind: HoldKind::Adopted,
        from: pass.now,
        until: None,
        reason: Some(why.to_owned()),
    });
    pass.enter(Phase::On, None, None, why);
}

pub(super) fn advance(pass: &mut Pass<'_>) -> Flow {
    if pass.record.phase == Phase::Off && pass.wanted() {
        begin_start(pass);
        return Flow::Again;
    }
    let Some(state) = pass.seen().map(|seen| seen.state()) else { return Flow::Rest };
    match state {
        Ec2State::Stopped | Ec2State::Terminated | Ec2State::Missing => {
            pass.record.contradiction = None;
            // A machine that is kept may not show yet: it is given up only when surely off.
            if let Some(until) = pass.quiet_after(EffectKind::Start) {
                pass.why("a start made just before may still show; looking again");
                pass.look(until);
                return Flow::Rest;
            }
            pass.record.kept = false;
            if asked_to_stop(pass) {
                begin_stop(pass, "somebody asked for it to be off");
                return Flow::Again;
            }
            let why = match &pass.record.failure {
                Some(failure) if pass.record.phase == Phase::Failed => {
                    format!("the start failed ({}): {}", failure.cause, failure.message)
                }
                _ if state == Ec2State::Stopped => "nobody wants it".to_owned(),
                _ => format!("nobody wants it; EC2 says {}", state.as_str()),
            };
            pass.why(why);
            Flow::Rest
        }
        Ec2State::Stopping | Ec2State::ShuttingDown => {
            pass.why("nobody wants it, and somebody is stopping it");
            pass.look_after_poll();
            Flow::Rest
        }
        Ec2State::Pending | Ec2State::Running => up(pass, state),
    }
}

fn up(pass: &mut Pass<'_>, state: Ec2State) -> Flow {
    if asked_to_stop(pass) {
        begin_stop(pass, "somebody asked for it to be off");
        return Flow::Again;
    }
    if pass.record.kept {
        if pass.wanted() {
            pass.why("its start failed, and its machine is kept (keep_failed)");
            return Flow::Rest;
        }
        begin_stop(pass, "its start failed, and nobody wants its machine any more");
        return Flow::Again;
    }
    if pass.unanswered(EffectKind::Start) {
        begin_stop(pass, "a start of ours took effect late, and nobody wants it any more");
        return Flow::Again;
    }
    if !pass.confirmed(state) {
        return Flow::Rest;
    }
    if state == Ec2State::Pending {
        pass.why("somebody else is starting it");
        pass.look_after_poll();
        return Flow::Rest;
    }
    let why = "somebody else started it";
    pass.attention(AttentionKind::StartedOutside, why);
    adopt(pass, why);
    Flow::Again
}
