//! On: it runs and was verified (or adopted). Watched, until nobody wants it.

use lamplighter_events::AttentionKind;

use super::{
    Asked, begin_start, begin_stop, idling, is_gone, read_check, service, stopped_outside,
};
use crate::answer;
use crate::limits::{CONSISTENCY_MARGIN_SECONDS, FELL_BACK_SECONDS};
use crate::observed::{Agent, PowerState};
use crate::pass::{Flow, Pass};
use crate::plan::watch_is_due;
use crate::record::{Check, CheckPurpose, Contradiction, OpenCommand, UnitHealth};
use crate::retry::SHORT_OF_TASKS_SECONDS;
use crate::time::add;

pub(super) fn advance(pass: &mut Pass<'_>) -> Flow {
    let Some(state) = pass.seen().map(|seen| seen.state()) else { return Flow::Rest };
    if state != PowerState::Running {
        // Whatever the unit said last, it said before this.
        pass.record.up.unit = None;
    }
    match state {
        PowerState::Running => {
            pass.record.attempt.contradiction = None;
            came_back(pass);
            if let Some(flow) = idling::look(pass) {
                return flow;
            }
            if !pass.wanted() {
                let why = pass.idle_why.take();
                let why = why.unwrap_or_else(|| "nobody wants it any more".to_owned());
                begin_stop(pass, &why);
                return Flow::Again;
            }
            if let Some(flow) = service::restore_bounds(pass, None) {
                return flow;
            }
            let asked = pass.record.open.iter().any(OpenCommand::wants_on);
            if asked && pass.record.up.unit_down && pass.record.attempt.check.is_none() {
                begin_start(pass);
                return Flow::Again;
            }
            let why = format!("held by {}", answer::holders(pass).join(", "));
            pass.why(why);
            watch(pass)
        }
        PowerState::Pending if pass.kind().runs_tasks() => short_of_tasks(pass),
        // Stopped and started again by somebody between two looks.
        PowerState::Pending => {
            pass.why("EC2 says pending: somebody restarted it; looking again");
            pass.look_after_poll();
            Flow::Rest
        }
        PowerState::Stopping | PowerState::Stopped => {
            if pass.may_be_old() {
                return Flow::Rest;
            }
            let ours = pass.own_stop_may_come()
                || pass.own_stop_shows()
                || service::scaled_down_by_us(pass);
            if ours && pass.record.quiet.is_none() {
                return own_stop_came_late(pass);
            }
            if pass.phase_is_young() || !pass.confirmed_for(state, until_believed(pass)) {
                return Flow::Rest;
            }
            stopped_outside(pass);
            Flow::Again
        }
        PowerState::Missing if pass.kind().stop_destroys() && !is_gone(pass, state) => {
            pass.why("EC2 does not know the machine that it has just launched; looking again");
            pass.look_after_poll();
            Flow::Rest
        }
        PowerState::ShuttingDown | PowerState::Terminated | PowerState::Missing => {
            let launched = pass.kind().stop_destroys();
            let ours = pass.own_stop_may_come() || pass.own_stop_shows();
            if launched && ours && pass.record.quiet.is_none() {
                return own_stop_came_late(pass);
            }
            if !pass.confirmed(state) {
                return Flow::Rest;
            }
            stopped_outside(pass);
            Flow::Again
        }
    }
}

/// A service that is on has fewer tasks than it is to have: ECS replaces them, or cannot.
fn short_of_tasks(pass: &mut Pass<'_>) -> Flow {
    if !pass.wanted() {
        begin_stop(pass, "nobody wants it any more");
        return Flow::Again;
    }
    if let Some(flow) = service::restore_bounds(pass, None) {
        return flow;
    }
    let asked = pass.record.open.iter().any(OpenCommand::wants_on);
    if asked {
        // Whoever asks now waits for what comes of it, within a start's time.
        begin_start(pass);
        return Flow::Again;
    }
    let at = pass.seen_at();
    let since = pass.record.attempt.contradiction.map_or(at, |seen| seen.at);
    pass.record.attempt.contradiction =
        Some(Contradiction { at: since, state: PowerState::Pending });
    let progress = service::progress(pass);
    if at >= add(since, pass.spec.timings.start_timeout) && !pass.record.up.unit_down {
        pass.record.up.unit_down = true;
        let (_, why) = service::late(pass, pass.spec.timings.start_timeout);
        pass.attention(AttentionKind::UnitDied, format!("it is on, and short of tasks: {why}"));
    }
    if pass.record.up.unit_down {
        let message =
            format!("it is short of tasks, so whether it is idle is not known: {progress}");
        idling::answer_checks(pass, &message, None);
    }
    pass.why(format!("it is wanted, and short of tasks: {progress}"));
    let pause = match pass.record.up.unit_down {
        true => pass.in_seconds(SHORT_OF_TASKS_SECONDS),
        false => pass.after(pass.spec.timings.poll),
    };
    pass.look(pause);
    Flow::Rest
}

/// A service that was short of tasks has them again.
fn came_back(pass: &mut Pass<'_>) {
    if pass.kind().runs_tasks() && pass.record.up.unit_down {
        pass.record.up.unit_down = false;
        pass.note("it has all of its tasks again");
    }
}

/// How long a machine that is on must show as stopped. Minutes after our start an older state may show, unless EC2
/// names a newer stop.
fn until_believed(pass: &Pass<'_>) -> i64 {
    let machine = !pass.kind().runs_tasks();
    match machine && pass.started_lately() && !pass.stopped_by_somebody() {
        true => FELL_BACK_SECONDS,
        false => CONSISTENCY_MARGIN_SECONDS,
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
    if pass.spec.unit().is_none() {
        return Flow::Rest;
    }
    if let Some(check) = pass.record.attempt.check.clone() {
        return match check.purpose {
            CheckPurpose::Idle | CheckPurpose::Bootstrap => Flow::Rest,
            CheckPurpose::Verify | CheckPurpose::Watch => read(pass, check),
        };
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

fn plan_next(pass: &mut Pass<'_>) {
    if let (Some(every), Some(unit)) = (pass.spec.unit_check_every(), &pass.record.up.unit) {
        let at = add(unit.at, every);
        pass.look(at);
    }
    if pass.record.up.unit_down {
        let state = pass.record.up.unit.as_ref().map_or("unknown", |unit| &unit.state).to_owned();
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
        "unknown" => pass.record.up.unit_down,
        _ => true,
    };
    pass.record.up.unit = Some(UnitHealth { state: state.to_owned(), at: pass.now });
    if down && !pass.record.up.unit_down {
        let unit = pass.spec.unit().map_or("", |unit| unit.as_str());
        let message = format!("its unit {unit} is {state} while the target is on");
        pass.attention(AttentionKind::UnitDied, message);
    }
    if !down && pass.record.up.unit_down {
        pass.note("its unit is active again");
    }
    pass.record.up.unit_down = down;
}
