//! On: it runs and was verified (or adopted). Watched, until nobody wants it.

use jiff::Timestamp;
use lamplighter_events::{Action, AttentionKind};

use super::{Asked, begin_start, begin_stop, read_check, stopped_outside};
use crate::answer;
use crate::effect::EffectKind;
use crate::observed::{Agent, Ec2State};
use crate::pass::{Flow, Pass, add};
use crate::record::{Check, CheckPurpose, TargetRecord, UnitHealth};
use crate::spec::TargetSpec;

pub(super) fn advance(pass: &mut Pass<'_>) -> Flow {
    let Some(state) = pass.seen().map(|seen| seen.state()) else { return Flow::Rest };
    if state != Ec2State::Running {
        // Whatever the unit said last, it said before this.
        pass.record.unit = None;
    }
    match state {
        Ec2State::Running => {
            pass.record.contradiction = None;
            if !pass.wanted() {
                begin_stop(pass, "nobody wants it any more");
                return Flow::Again;
            }
            let asked = pass.record.open.iter().any(|open| open.action == Action::Start);
            if asked && pass.record.unit_down && pass.record.check.is_none() {
                begin_start(pass);
                return Flow::Again;
            }
            let why = format!("held by {}", answer::holders(pass).join(", "));
            pass.why(why);
            watch(pass)
        }
        // Stopped and started again by somebody between two looks.
        Ec2State::Pending => {
            pass.why("EC2 says pending: somebody restarted it; looking again");
            pass.look_after_poll();
            Flow::Rest
        }
        Ec2State::Stopping | Ec2State::Stopped => {
            if pass.unanswered(EffectKind::Stop) && pass.record.quiet.is_none() {
                return own_stop_came_late(pass);
            }
            if !pass.confirmed(state) {
                return Flow::Rest;
            }
            stopped_outside(pass);
            Flow::Again
        }
        Ec2State::ShuttingDown | Ec2State::Terminated | Ec2State::Missing => {
            if !pass.confirmed(state) {
                return Flow::Rest;
            }
            stopped_outside(pass);
            Flow::Again
        }
    }
}

fn own_stop_came_late(pass: &mut Pass<'_>) -> Flow {
    if pass.wanted() {
        pass.note("a stop of ours took effect late; it is wanted, so it starts again");
        begin_start(pass);
    } else {
        begin_stop(pass, "a stop of ours took effect late");
    }
    Flow::Again
}

/// Asks for the unit now and then, and when somebody wants the status.
fn watch(pass: &mut Pass<'_>) -> Flow {
    if pass.spec.ec2.systemd_unit.is_none() {
        return Flow::Rest;
    }
    if let Some(check) = pass.record.check.clone() {
        return read(pass, check);
    }
    if watch_is_due(&pass.record, pass.spec, pass.now) {
        match pass.seen().and_then(|seen| seen.agent) {
            Some(Agent::Online) => {
                return pass.ask(CheckPurpose::Watch, "it is wanted; asking how its unit is");
            }
            Some(Agent::Offline | Agent::Unregistered) => learn(pass, "unknown"),
            // It fell due after the look was planned: the next look asks for the agent.
            None => {
                pass.look(pass.now);
                return Flow::Rest;
            }
        }
    }
    plan_next(pass);
    Flow::Rest
}

/// Whether the unit is to be asked for: its time has come, or somebody waits for the status.
pub(crate) fn watch_is_due(record: &TargetRecord, spec: &TargetSpec, now: Timestamp) -> bool {
    let asked = record.open.iter().any(|open| open.action == Action::Status);
    let last = record.unit.as_ref().map(|unit| unit.at);
    let due = |every| last.is_none_or(|last| add(last, every) <= now);
    asked || spec.ec2.unit_check_every.is_some_and(due)
}

fn plan_next(pass: &mut Pass<'_>) {
    if let (Some(every), Some(unit)) = (pass.spec.ec2.unit_check_every, &pass.record.unit) {
        let at = add(unit.at, every);
        pass.look(at);
    }
    if pass.record.unit_down {
        let state = pass.record.unit.as_ref().map_or("unknown", |unit| &unit.state).to_owned();
        pass.why(format!("it is wanted, but its unit is {state}"));
    }
}

fn read(pass: &mut Pass<'_>, check: Check) -> Flow {
    match read_check(pass, check) {
        Asked::Waits => return Flow::Rest,
        Asked::Lost(check) => {
            return pass
                .ask_again(check, "the question never arrived; asking again under the same token");
        }
        Asked::Said(state) => learn(pass, &state),
        Asked::Mute(detail) => {
            pass.note(format!("its unit could not be asked for: {detail}"));
            learn(pass, "unknown");
        }
    }
    plan_next(pass);
    Flow::Rest
}

/// Takes the unit's word. `unknown` neither kills nor cures it.
fn learn(pass: &mut Pass<'_>, state: &str) {
    let down = match state {
        "active" | "reloading" | "activating" => false,
        "unknown" => pass.record.unit_down,
        _ => true,
    };
    pass.record.unit = Some(UnitHealth { state: state.to_owned(), at: pass.now });
    if down && !pass.record.unit_down {
        let unit = pass.spec.ec2.systemd_unit.as_ref().map_or("", |unit| unit.as_str());
        let message = format!("its unit {unit} is {state} while the target is on");
        pass.attention(AttentionKind::UnitDied, message);
    }
    if !down && pass.record.unit_down {
        pass.note("its unit is active again");
    }
    pass.record.unit_down = down;
}
