//! What commands do to the holds (DESIGN.md §4), and what can be answered.
//!
//! *Order.* A command counts from its `Sent`. A stop or kill ends only what is older; a start that is
//! older than its holder's last release, or than the last kill, is `superseded`; so is a pause that is
//! older than the last resume, and a resume that is older than the pause. A hold that came to its end
//! counts as released by its latest start: that start had decided the end.

use jiff::Timestamp;
use lamplighter_events::{Action, Cause, HumanDuration, Verdict};

use crate::effect::EffectKind;
use crate::hold::{Hold, HoldKind};
use crate::holds::{end_holds, remember_release};
use crate::input::AcceptedCommand;
use crate::limits::{HOLDS_MAX, OPEN_COMMANDS_MAX, RECORD_BYTES_TAKEN_MAX};
use crate::observed::Agent;
use crate::pass::Pass;
use crate::phase::Phase;
use crate::record::{CommandRecord, OpenCommand, Paused};
use crate::template::LaunchRecord;
use crate::time::add;
use crate::{answer, lag, phases};

/// Takes a command: its item, and what it does to the record.
pub(crate) fn apply(pass: &mut Pass<'_>, command: &AcceptedCommand) {
    pass.accepted = Some(CommandRecord {
        id: command.id.clone(),
        fingerprint: command.fingerprint.clone(),
        target: Some(pass.record.target.clone()),
        action: Some(command.action),
        sent_at: command.sent_at,
        accepted_at: pass.now,
        outcome: None,
        parked_as: None,
    });
    let open = OpenCommand {
        id: command.id.clone(),
        action: command.action,
        holder: command.holder.clone(),
        sent: command.sent(),
        trace: command.trace.clone(),
        found: pass.seen().map(|seen| seen.state()),
        idle: command.idle,
    };
    if command.trace.is_some() && command.action != Action::Status {
        pass.record.trace.clone_from(&command.trace);
    }
    if let Some(expires) = command.expires.filter(|expires| *expires <= pass.now) {
        let message = format!("it was to be done before {expires}; it is too late now");
        return reject(pass, &open, Cause::Expired, &message);
    }
    if !pass.kind().takes(command.action) {
        let message = format!(
            "{} is not something that a target of kind {} can do",
            command.action.as_str(),
            pass.record.kind
        );
        return reject(pass, &open, Cause::Invalid, &message);
    }
    match command.action {
        Action::Start if rests_without_machine(pass) => {
            let message = "there is no such machine: a create makes one";
            reject(pass, &open, Cause::NotFound, message);
        }
        Action::Start => start(pass, command, open),
        Action::Stop => stop(pass, open),
        Action::Kill => kill(pass, open),
        Action::Status => status(pass, open),
        Action::CheckIdle => check_idle(pass, open),
        Action::KeepAlive => keep_alive(pass, &open),
        Action::Pause => pause(pass, command, &open),
        Action::Resume => resume(pass, &open),
        Action::Create => create(pass, command, open),
        Action::Destroy => kill(pass, open),
    }
}

fn rests_without_machine(pass: &Pass<'_>) -> bool {
    let rests = matches!(pass.record.phase, Phase::Off | Phase::Failed) && !pass.record.up.kept;
    pass.kind().stop_destroys() && rests
}

/// A machine of the template's: this request's own, or the one that a request of the same `dedupe` value has.
fn create(pass: &mut Pass<'_>, command: &AcceptedCommand, open: OpenCommand) {
    let Some(template) = pass.spec.template() else { return };
    let parameters = match template.check(&command.parameters) {
        Ok(parameters) => parameters,
        Err(bad) => return reject(pass, &open, Cause::Invalid, &bad.to_string()),
    };
    let rests = rests_without_machine(pass) && !pass.in_flight();
    let before = pass.record.provision.launch.clone();
    let others = before.as_ref().is_some_and(|it| it.parameters != parameters);
    // A launch whose answer was lost may have led to a machine after all.
    let left = before.clone().filter(|_| rests && phases::has_machine(pass));
    let is_used = left.as_ref().is_some_and(|launch| launch.bootstrap_token.is_some());
    if others && (!rests || is_used) {
        let message = "its machine was made with other parameters; destroy it first";
        return reject(pass, &open, Cause::Conflict, message);
    }
    if pass.no_seat && !pass.record.provision.seated {
        let message = format!(
            "the template {} has {} machines, which is its limit; send it again when one is gone",
            template.template, template.limit
        );
        return reject(pass, &open, Cause::Capacity, &message);
    }
    let (waiting, now) = (pass.record.open.len(), pass.now);
    if rests {
        pass.record.provision.launch = Some(match left {
            // No parameter is part of a launch: a machine that nobody has made ready serves this request as well.
            Some(left) => LaunchRecord { parameters, ..left },
            None => {
                let given_up = before.iter().flat_map(|launch| launch.given_up.clone()).collect();
                LaunchRecord { given_up, ..LaunchRecord::new(parameters, now) }
            }
        });
    }
    start(pass, command, open);
    if pass.record.open.len() == waiting {
        // It was refused: nothing of it stays.
        pass.record.provision.launch = before;
    }
}

/// Whether one more command can wait for its outcome. Only those that must wait are refused: whoever
/// resumes or kills a target that is full of others' starts must get through.
fn has_room(pass: &Pass<'_>) -> bool {
    pass.room && pass.record.open.len() < OPEN_COMMANDS_MAX
}

fn reject_for_room(pass: &mut Pass<'_>, open: &OpenCommand) {
    let target = &pass.record.target;
    let message = match pass.room {
        true => format!(
            "{OPEN_COMMANDS_MAX} commands of {target} have no outcome yet, which is the limit; send it again \
             later"
        ),
        false => format!(
            "the record of {target} has no room for it: its holds and the commands that wait take {} KB, which \
             is the limit; send it again when some have ended, or with shorter ids, holders and reasons",
            RECORD_BYTES_TAKEN_MAX / 1024
        ),
    };
    reject(pass, open, Cause::Conflict, &message);
}

fn start(pass: &mut Pass<'_>, command: &AcceptedCommand, open: OpenCommand) {
    if !has_room(pass) {
        return reject_for_room(pass, &open);
    }
    let sent = command.sent();
    if pass.record.last_kill.as_ref().is_some_and(|kill| *kill >= sent) {
        return reject(pass, &open, Cause::Superseded, "a kill that was sent later came first");
    }
    let release = pass.record.releases.get(open.holder.as_str());
    if release.is_some_and(|release| *release >= sent) {
        let message = "its holder's stop, or a start with an end that has come, was sent later";
        return reject(pass, &open, Cause::Superseded, message);
    }
    let until = end_of_hold(command, pass.spec.max_hold);
    let until = match lifetime_ends(pass, command) {
        Some(end) => Some(until.map_or(end, |until| until.min(end))),
        None => until,
    };
    if let Some(until) = until.filter(|until| *until <= pass.now) {
        let message = format!("the hold that it asks for would have ended at {until}");
        return reject(pass, &open, Cause::Expired, &message);
    }
    if pass.spec.exclusive {
        let now = pass.now;
        let other = pass
            .record
            .holds_in_force(now)
            .find(|hold| hold.requested() && hold.holder != open.holder)
            .cloned();
        if let Some(other) = other {
            let message = match other.until {
                Some(until) => format!("{} holds it until {until}", other.holder),
                None => format!("{} holds it until releasing it", other.holder),
            };
            let answer = answer::conflict(pass, &other, &message);
            return pass.close(&open, Verdict::Rejected, Some(Cause::Conflict), message, answer);
        }
    }
    let firm = command.hold_for.is_some() || command.until.is_some();
    let kind = match (firm, &pass.spec.idle) {
        (true, _) => HoldKind::Firm,
        (false, Some(_)) => HoldKind::IdleBounded,
        (false, None) => HoldKind::UntilReleased,
    };
    let hold = Hold {
        id: command.id.to_string(),
        holder: open.holder.clone(),
        kind,
        from: pass.now,
        until,
        sent: sent.clone(),
        reason: command.reason.clone(),
    };
    let mine =
        pass.record.holds.iter().position(|held| held.requested() && held.holder == open.holder);
    match mine {
        Some(index) if pass.record.holds[index].sent > sent => {
            pass.note(format!("{}: a newer start of {} decides", command.id, open.holder));
        }
        Some(index) => {
            let from = pass.record.holds[index].from;
            pass.record.holds[index] = Hold { from, ..hold };
        }
        None if pass.record.holds.len() >= HOLDS_MAX => {
            let message = format!("{HOLDS_MAX} holds are in force, which is the limit");
            return reject(pass, &open, Cause::Conflict, &message);
        }
        None => pass.record.holds.push(hold),
    }
    phases::welcome_start(pass);
    pass.record.open.push(open);
}

/// `for` counts from the sending, so that a replay does not stretch it; `max_hold` bounds all.
fn end_of_hold(command: &AcceptedCommand, max_hold: Option<HumanDuration>) -> Option<Timestamp> {
    let asked = command.until.or(command.hold_for.map(|long| add(command.sent_at, long)));
    let bound = max_hold.map(|long| add(command.sent_at, long));
    match (asked, bound) {
        (Some(asked), Some(bound)) => Some(asked.min(bound)),
        (asked, bound) => asked.or(bound),
    }
}

/// When a launched machine must go, whoever wants it.
fn lifetime_ends(pass: &Pass<'_>, command: &AcceptedCommand) -> Option<Timestamp> {
    let long = pass.spec.template()?.max_lifetime?;
    let launched = pass.record.provision.launch.as_ref().map(|launch| launch.created_at);
    Some(add(launched.unwrap_or(command.sent_at), long))
}

fn stop(pass: &mut Pass<'_>, open: OpenCommand) {
    remember_release(pass, &open.holder, &open.sent);
    let (holder, sent) = (open.holder.clone(), open.sent.clone());
    end_holds(pass, &sent, |hold| !hold.requested() || hold.holder == holder);
    release(pass, open);
}

fn kill(pass: &mut Pass<'_>, open: OpenCommand) {
    if pass.record.last_kill.as_ref().is_none_or(|last| *last < open.sent) {
        pass.record.last_kill = Some(open.sent.clone());
    }
    let sent = open.sent.clone();
    end_holds(pass, &sent, |_| true);
    release(pass, open);
}

/// After a stop or kill: what remains, or the way down.
fn release(pass: &mut Pass<'_>, open: OpenCommand) {
    if pass.wanted() {
        return close_held(pass, &open);
    }
    let off = pass.seen().is_some_and(|seen| {
        phases::is_gone(pass, seen.state()) && lag::old_until(&pass.record, seen).is_none()
    });
    let rests = matches!(pass.record.phase, Phase::Off | Phase::Failed);
    if rests && off && !pass.in_flight() && pass.quiet_after(EffectKind::Start).is_none() {
        let answer = answer::stop(pass, &open, false, "it was not running");
        return pass.close(&open, Verdict::Done, None, "it was not running", answer);
    }
    if !pass.room {
        let message =
            "it is being stopped; its record has no room for one more that waits until it is off";
        let answer = answer::stop(pass, &open, false, message);
        return pass.close(&open, Verdict::Done, None, message, answer);
    }
    // Nobody wants it, so no start waits: it is full of stops, and one more would change nothing.
    if !has_room(pass) {
        return reject_for_room(pass, &open);
    }
    pass.record.open.push(open);
}

fn close_held(pass: &mut Pass<'_>, open: &OpenCommand) {
    let holders = answer::holders(pass).join(", ");
    let message = format!("it stays on: held by {holders}");
    let answer = answer::stop(pass, open, false, &message);
    pass.close(open, Verdict::Done, None, message, answer);
}

/// A status is answered at once, but where a living unit is to be asked: then by its answer.
fn status(pass: &mut Pass<'_>, open: OpenCommand) {
    let reachable = pass.record.attempt.check.is_some()
        || pass.seen().is_some_and(|seen| seen.agent == Some(Agent::Online));
    let can_ask = pass.record.phase == Phase::On
        && pass.spec.unit().is_some()
        && pass.record.paused.is_none()
        && !pass.in_flight()
        && reachable
        && has_room(pass);
    if can_ask {
        pass.record.open.push(open);
    } else {
        close_status(pass, &open);
    }
}

fn close_status(pass: &mut Pass<'_>, open: &OpenCommand) {
    let answer = answer::status(pass);
    let word = pass.record.phase_name();
    pass.close(open, Verdict::Done, None, format!("it is {word}"), answer);
}

/// A target that is on is judged by its probes; one that is not is told of at once.
fn check_idle(pass: &mut Pass<'_>, open: OpenCommand) {
    let judges = pass.record.phase == Phase::On && pass.spec.idle.is_some();
    if judges && has_room(pass) {
        return pass.record.open.push(open);
    }
    if judges {
        return reject_for_room(pass, &open);
    }
    let message = match pass.spec.idle {
        Some(_) => {
            let word = pass.record.phase_name();
            format!("it is {word}; nothing is stopped")
        }
        None => "it has no idle policy; nothing is stopped".to_owned(),
    };
    let answer = phases::check_answer(pass, &open, false, &message, None);
    pass.close(&open, Verdict::Done, None, message, answer);
}

/// Activity, by somebody's word. It counts from its sending, so a late one keeps nothing alive.
fn keep_alive(pass: &mut Pass<'_>, open: &OpenCommand) {
    let message = match (&pass.spec.idle, pass.record.phase) {
        (None, _) => "it has no idle policy, so there is nothing to keep off",
        (Some(_), Phase::On | Phase::Starting) => {
            let kept = &mut pass.record.idle.kept_alive_at;
            *kept = (*kept).max(Some(open.sent.at));
            "it counts as active"
        }
        (Some(_), _) => "it is not on; a keep-alive starts nothing",
    };
    let answer = answer::keep_alive(pass, message);
    pass.close(open, Verdict::Done, None, message, answer);
}

fn pause(pass: &mut Pass<'_>, command: &AcceptedCommand, open: &OpenCommand) {
    if pass.record.last_resume.as_ref().is_some_and(|resume| *resume >= open.sent) {
        return reject(pass, open, Cause::Superseded, "a resume that was sent later came first");
    }
    match &mut pass.record.paused {
        Some(paused) => paused.sent = paused.sent.clone().max(open.sent.clone()),
        None => {
            pass.record.paused = Some(Paused {
                by: command.holder.clone(),
                at: pass.now,
                sent: open.sent.clone(),
                reason: command.reason.clone().filter(|_| pass.room),
            });
        }
    }
    let answer = answer::paused(pass, true);
    pass.close(open, Verdict::Done, None, "paused: it is only observed from now on", answer);
}

fn resume(pass: &mut Pass<'_>, open: &OpenCommand) {
    if pass.record.last_resume.as_ref().is_none_or(|last| *last < open.sent) {
        pass.record.last_resume = Some(open.sent.clone());
    }
    if pass.record.paused.as_ref().is_some_and(|paused| paused.sent > open.sent) {
        return reject(pass, open, Cause::Superseded, "a pause that was sent later came first");
    }
    let was = pass.record.paused.take().is_some();
    let message = if was { "resumed" } else { "it was not paused" };
    let answer = answer::paused(pass, false);
    pass.close(open, Verdict::Done, None, message, answer);
    if was {
        // Nothing could be tried while it was paused: that time is not the way's.
        if pass.record.phase == Phase::Starting && pass.record.attempt.accepted_at.is_none() {
            pass.record.began_at = Some(pass.now);
        }
        pass.look(pass.now);
    }
}

pub(crate) fn reject(pass: &mut Pass<'_>, open: &OpenCommand, cause: Cause, message: &str) {
    let answer = match open.action {
        Action::Start | Action::Create => answer::start(pass, open, false, message),
        Action::Stop | Action::Kill | Action::Destroy => answer::stop(pass, open, false, message),
        _ => serde_json::Map::new(),
    };
    pass.close(open, Verdict::Rejected, Some(cause), message, answer);
}

/// Answers whatever the record, as it will be written, can answer.
pub(crate) fn answer_what_can_be(pass: &mut Pass<'_>) {
    if pass.wanted() {
        for open in pass.take_open(phases::waits_for_off) {
            close_held(pass, &open);
        }
    }
    // A check is judged while the target is on, and answered at the end of the way down that it led to.
    let turned = pass.wanted() && pass.record.phase == Phase::Starting;
    if turned || matches!(pass.record.phase, Phase::Off | Phase::Failed) {
        let stopped = pass.record.phase == Phase::Off;
        for open in pass.take_open(|open| open.action == Action::CheckIdle) {
            let message = match turned {
                true => "it was wanted again before it had stopped".to_owned(),
                false => format!("it is {}", pass.record.phase_name()),
            };
            let answer = phases::check_answer(pass, &open, stopped, &message, None);
            pass.close(&open, Verdict::Done, None, message, answer);
        }
    }
    let on = pass.record.phase == Phase::On
        && pass.record.attempt.contradiction.is_none()
        && !pass.in_flight()
        // A start while the unit is down waits for the verdict on it.
        && !pass.record.up.unit_down
        && pass.wanted();
    if on {
        for open in pass.take_open(OpenCommand::wants_on) {
            let message = "it is on already";
            let answer = answer::start(pass, &open, false, message);
            pass.close(&open, Verdict::Done, None, message, answer);
        }
    }
    let asks = pass.record.phase == Phase::On
        && (pass.record.attempt.check.is_some()
            || pass.in_flight()
            || pass.record.attempt.contradiction.is_some());
    if !asks {
        for open in pass.take_open(|open| open.action == Action::Status) {
            close_status(pass, &open);
        }
    }
}
