//! The phases, one file each: what an observation means in it, and what is done next.
//!
//! Every `advance` ends in one of: rest until a stated time, an effect, or another phase (`Again`).

mod agent;
mod idling;
mod instance;
mod launched;
mod off;
mod on;
mod service;
mod starting;
mod stopping;

pub(crate) use idling::{check_answer, host_said_nothing};
pub(crate) use launched::{
    end_given_up_launch, ended_given_up_launch, has_machine, is_gone, is_of_given_up_launch,
    launched, notice, recognise, refused_again, settle_ledger, try_next_option, try_other_options,
};

use lamplighter_events::{Action, AttentionKind, Cause, Verdict};

use crate::capability::{WaitsFor, capability};
use crate::effect::{Effect, EffectKind};
use crate::hold::{HoldKind, Sent};
use crate::holds::end_holds;
use crate::idle::IdleMemory;
use crate::kinds::Kind;
use crate::limits::{
    BOOTSTRAP_GRACE_SECONDS, CHECK_GRACE_SECONDS, MESSAGE_CHARS_MAX, UNIT_ACTIVATING_SECONDS,
};
use crate::observed::{CheckReading, PowerState};
use crate::pass::{Flow, Pass};
use crate::phase::Phase;
use crate::record::{Attempt, Check, CheckPurpose, Failure, OpenCommand, UpState};
use crate::retry::{
    BOUNDS_REFUSED_SECONDS, CANNOT_OBSERVE_SECONDS, QUESTION_REFUSED_SECONDS, RIGHTS_RETRY_SECONDS,
    STOP_REFUSED_SECONDS, WINDOW_RETRY_SECONDS,
};
use crate::text::within;
use crate::time::{add, later};
use crate::{answer, lag, retry};

/// What must be settled before commands are looked at: a machine that runs at first contact is
/// adopted, so that no command can stop it by the way.
pub(crate) fn reconcile(pass: &mut Pass<'_>) {
    if pass.record.rev == 0 {
        off::first_contact(pass);
    }
}

/// One transition of the record's phase.
pub(crate) fn advance(pass: &mut Pass<'_>) -> Flow {
    if let Some(Err(trouble)) = pass.sighting {
        let (cause, message) = (trouble.cause, trouble.message.clone());
        return cannot_see(pass, cause, &message);
    }
    match pass.record.phase {
        Phase::Off | Phase::Failed => off::advance(pass),
        Phase::Starting => starting::advance(pass),
        Phase::On => on::advance(pass),
        Phase::Stopping => stopping::advance(pass),
    }
}

/// AWS does not let us look, and waiting does not help: nothing is concluded of the machine, and
/// whoever waits is told.
fn cannot_see(pass: &mut Pass<'_>, cause: Cause, message: &str) -> Flow {
    let at = pass.in_seconds(CANNOT_OBSERVE_SECONDS);
    if matches!(pass.record.phase, Phase::Off | Phase::Stopping) && pass.wanted() {
        begin_start(pass);
    }
    if rights_may_arrive(pass, cause) {
        let at = pass.in_seconds(RIGHTS_RETRY_SECONDS);
        pass.look(at);
        pass.why(format!(
            "it cannot be observed ({cause}): {message}; new rights take seconds to arrive, so it is tried again"
        ));
        return Flow::Rest;
    }
    match pass.record.phase {
        Phase::Starting => fail_start(pass, cause, message.to_owned()),
        Phase::Off | Phase::Failed => {}
        Phase::On | Phase::Stopping => pass.look(at),
    }
    if pass.record.phase == Phase::Stopping {
        pass.look(at);
    }
    close_waiting(pass, Verdict::Failed, Some(cause), false, message);
    for open in pass.take_open(|open| open.action == Action::CheckIdle) {
        let answer = check_answer(pass, &open, false, message, None);
        pass.close(&open, Verdict::Failed, Some(cause), message, answer);
    }
    pass.why(format!("it cannot be observed ({cause}): {message}"));
    Flow::Rest
}

/// Whether a refusal may be a denial of rights that were given a moment ago: within a minute of the beginning of a start
/// or stop, or of the oldest command that waits.
pub(crate) fn rights_may_arrive(pass: &Pass<'_>, cause: Cause) -> bool {
    let record = &pass.record;
    let began = match record.phase {
        Phase::Starting | Phase::Stopping => record.began_at,
        Phase::Off | Phase::On | Phase::Failed => record.open.iter().map(|it| it.sent.at).min(),
    };
    began.is_some_and(|began| retry::rights_may_arrive(cause, began, pass.now))
}

/// The way up begins.
fn begin_start(pass: &mut Pass<'_>) {
    let record = &mut pass.record;
    record.generation += 1;
    record.began_at = Some(pass.now);
    record.failure = None;
    record.up = UpState::default();
    record.idle = IdleMemory::default();
    record.attempt = Attempt::default();
    if let Some(launch) = &mut record.provision.launch {
        launch.option = 0;
        launch.tried.clear();
        launch.refused = 0;
    }
    if pass.kind().counts_toward_limit() {
        pass.record.provision.seated = true;
        pass.record.provision.retire_at = None;
    }
    let step = pass.kind().first_step();
    pass.enter(Phase::Starting, Some(step), None, "it is wanted");
}

/// The call that turns it on.
fn start_effect(pass: &Pass<'_>) -> Option<Effect> {
    match pass.kind() {
        Kind::Instance | Kind::Launched => instance::turn_on(pass),
        Kind::Service => service::turn_on(pass),
    }
}

/// The call that turns it off.
fn stop_effect(pass: &Pass<'_>) -> Option<Effect> {
    match pass.kind() {
        Kind::Instance => instance::turn_off(pass),
        Kind::Launched => launched::terminate(pass),
        Kind::Service => service::turn_off(pass),
    }
}

/// The way down begins. A failure that led here stays, and shows again once the machine is off.
fn begin_stop(pass: &mut Pass<'_>, why: &str) {
    pass.record.attempt = Attempt::default();
    pass.record.began_at = Some(pass.now);
    pass.record.overdue = false;
    if pass.kind().counts_toward_limit() {
        // It counts until it is gone, whatever was thought of it before.
        pass.record.provision.seated = true;
        pass.record.provision.retire_at = None;
    }
    let step = pass.kind().stop_step();
    pass.enter(Phase::Stopping, Some(step), None, why);
}

/// A start was accepted: a target that failed gets another way up.
pub(crate) fn welcome_start(pass: &mut Pass<'_>) {
    if pass.in_flight() {
        return;
    }
    let again = pass.record.phase == Phase::Failed
        || (pass.record.phase == Phase::On && pass.record.up.unit_down);
    if again {
        begin_start(pass);
    }
}

/// Whether this command is answered when the target is off. (A check that asks for idleness is, once its
/// holds were ended by it.)
pub(crate) fn waits_for_off(open: &OpenCommand) -> bool {
    capability(open.action).waits_for == WaitsFor::Off
}

/// Ends what waits for the target to be off.
pub(crate) fn close_waiting(
    pass: &mut Pass<'_>,
    verdict: Verdict,
    cause: Option<Cause>,
    stopped: bool,
    message: &str,
) {
    let checks_too = pass.record.phase != Phase::On;
    let waiting = pass
        .take_open(|open| waits_for_off(open) || (checks_too && open.action == Action::CheckIdle));
    for open in waiting {
        let answer = match open.action {
            Action::CheckIdle => check_answer(pass, &open, stopped, message, None),
            _ => answer::stop(pass, &open, stopped, message),
        };
        pass.close(&open, verdict, cause, message, answer);
    }
}

/// Whether a stop or kill waits for the target to be off.
fn asked_to_stop(pass: &Pass<'_>) -> bool {
    pass.record.open.iter().any(waits_for_off)
}

/// The start failed for good: whoever waits is told, the holds that wait go (unless `keep_failed`),
/// and a machine that may be up and is wanted by nobody is wound down.
fn fail_start(pass: &mut Pass<'_>, cause: Cause, message: String) {
    let message = within(message, MESSAGE_CHARS_MAX);
    let starts = pass.take_open(OpenCommand::wants_on);
    let off = is_surely_off(pass);
    if let Some(template) = pass.spec.template() {
        // What was launched and failed is nobody's, whoever was told before that it was ready; and where there is
        // no machine there is nothing to keep.
        match template.keep_failed_for.map(|long| pass.after(long)).filter(|_| !off) {
            None => pass.record.holds.clear(),
            Some(until) => {
                for hold in &mut pass.record.holds {
                    hold.until = Some(hold.until.map_or(until, |end| end.min(until)));
                }
            }
        }
    } else if !pass.spec.keep_failed {
        pass.record.holds.retain(|hold| {
            !(hold.requested()
                && starts
                    .iter()
                    .any(|start| start.holder == hold.holder && start.sent >= hold.sent))
        });
    }
    let why = format!("the start failed ({cause}): {message}");
    if off || pass.wanted() {
        pass.record.attempt = Attempt::default();
        pass.record.up.kept = !off;
        pass.enter(Phase::Failed, None, Some(cause), why);
        // Whom the clock wants, the clock tries again, as long as the window lasts.
        let by_window = pass.record.holds_in_force(pass.now).any(|it| it.kind == HoldKind::Window);
        if by_window {
            let at = pass.in_seconds(WINDOW_RETRY_SECONDS);
            pass.record.attempt.retry_at = Some(at);
            pass.look(at);
        }
    } else {
        begin_stop(pass, &format!("{why}; nobody else wants it, so it is stopped"));
    }
    for start in starts {
        let answer = answer::start(pass, &start, false, &message);
        pass.close(&start, Verdict::Failed, Some(cause), message.clone(), answer);
    }
    pass.record.failure = Some(Failure { cause, message, at: pass.now });
}

/// Whether nothing of it can be up. What was seen before the end of the last effect's margin says nothing of what it
/// made.
fn is_surely_off(pass: &Pass<'_>) -> bool {
    let quiet_until = pass.record.quiet.map(|quiet| quiet.until);
    let off = match &pass.record.observed {
        Some(seen) => {
            is_gone(pass, seen.state())
                && quiet_until.is_none_or(|until| until <= seen.at)
                && lag::old_until(&pass.record, seen).is_none()
        }
        None => pass.record.attempt.accepted_at.is_none() && pass.record.unanswered.is_empty(),
    };
    // Bounds that were given back would pull its count up: they are suspended on the way down.
    off && service::seen(pass).is_none_or(|service| service.bounds.is_none())
}

/// An effect was refused and will not be accepted later either.
pub(crate) fn refused_for_good(pass: &mut Pass<'_>, kind: EffectKind, failure: Failure) {
    let Failure { cause, message, .. } = failure;
    match (kind, pass.record.phase) {
        (EffectKind::Start, _) | (EffectKind::Send, Phase::Starting) => {
            fail_start(pass, cause, message);
            if pass.record.phase == Phase::Stopping {
                pass.look(pass.now);
            }
        }
        (EffectKind::Send, _) => {
            pass.why(format!("the unit cannot be asked for ({cause}): {message}"));
            let at = later(pass.now, QUESTION_REFUSED_SECONDS);
            pass.look(at);
        }
        // Scaling's bounds go with the way that they are part of.
        (EffectKind::Scale, Phase::Starting) => {
            fail_start(pass, cause, message);
            if pass.record.phase == Phase::Stopping {
                pass.look(pass.now);
            }
        }
        (EffectKind::Scale, Phase::Off | Phase::On | Phase::Failed) => {
            let at = later(pass.now, BOUNDS_REFUSED_SECONDS);
            pass.record.attempt.retry_at = Some(at);
            pass.look(at);
            pass.why(format!("its scaling's bounds cannot be set ({cause}): {message}"));
        }
        (EffectKind::Stop, _) | (EffectKind::Scale, Phase::Stopping) => {
            close_waiting(pass, Verdict::Failed, Some(cause), false, &message);
            if !pass.record.overdue {
                pass.record.overdue = true;
                pass.attention(
                    AttentionKind::StopOverdue,
                    format!("it is wanted by nobody and cannot be stopped ({cause}): {message}"),
                );
            }
            let at = later(pass.now, STOP_REFUSED_SECONDS);
            pass.record.attempt.retry_at = Some(at);
            pass.look(at);
            pass.why(format!(
                "the stop was refused ({cause}): {message}; trying again in a minute"
            ));
        }
    }
}

/// Somebody stopped the machine. Their word is newer than the holds that are older than it; a newer
/// hold starts it again.
fn stopped_outside(pass: &mut Pass<'_>) {
    if launched::was_taken_back(pass) {
        // EC2 did: nobody's word is newer than anybody's hold.
        pass.note("EC2 took the spot machine back");
        match pass.wanted() {
            true => begin_start(pass),
            false => begin_stop(pass, "EC2 took the spot machine back"),
        }
        return;
    }
    let seen = pass.seen();
    let first_seen = pass.record.attempt.contradiction.map_or(pass.now, |seen| seen.at);
    let at = seen
        .and_then(|seen| seen.instance())
        .and_then(|instance| instance.user_stopped_at)
        // A describe can name the time of an earlier stop; this one cannot be older than the way up.
        .filter(|at| {
            pass.record.attempt.accepted_at.or(pass.record.began_at).is_none_or(|up| *at >= up)
        })
        .unwrap_or(first_seen);
    let state = seen.map_or(PowerState::Stopped, |seen| seen.state());
    let reason = seen.and_then(|seen| seen.instance()).and_then(|it| it.reason.as_ref());
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    // Ids sort after every printable command id, so that equal times count as older.
    let ended = end_holds(pass, &Sent::new(at, "\u{10FFFF}"), |_| true);
    pass.attention(
        AttentionKind::StoppedOutside,
        format!("it was {} outside at {at:.0}{reason}; {ended} hold(s) ended", state.as_str()),
    );
    pass.record.failure = None;
    if pass.wanted() {
        begin_start(pass);
    } else {
        begin_stop(pass, "it was stopped outside");
    }
}

/// What a question to the host came to.
enum Asked {
    /// Nothing yet.
    Waits,
    /// To be sent again under the same token.
    Lost(Check),
    /// The unit's state.
    Said(String),
    /// No answer will come.
    Mute(String),
}

/// Reads the open question. Clears it unless it goes on.
fn read_check(pass: &mut Pass<'_>, check: Check) -> Asked {
    let reading = pass.seen().and_then(|seen| seen.check.clone());
    let patience = CHECK_GRACE_SECONDS
        + match check.purpose {
            CheckPurpose::Verify | CheckPurpose::Watch => {
                pass.spec.settle_seconds() + UNIT_ACTIVATING_SECONDS
            }
            CheckPurpose::Idle => {
                let command = pass.spec.idle.as_ref().and_then(|idle| idle.host_command());
                command.map_or(0, |command| i64::from(command.timeout_seconds))
            }
            CheckPurpose::Bootstrap => {
                let template = pass.spec.template();
                let long = template.map_or(0, |template| template.bootstrap_timeout.seconds());
                i64::try_from(long).unwrap_or(i64::MAX / 2) + BOOTSTRAP_GRACE_SECONDS
            }
        };
    let gives_up_at = later(check.asked_at, patience);
    let asked = match reading {
        Some(CheckReading::Said { state }) => Asked::Said(state),
        Some(CheckReading::Exited { code, .. }) => Asked::Mute(format!("it exited with {code}")),
        Some(CheckReading::Undelivered { detail }) => Asked::Mute(detail),
        Some(CheckReading::Broken { detail }) => Asked::Mute(detail),
        // Not listed: either the answer was lost before it arrived there, or SSM lags.
        Some(CheckReading::Absent) if check.command_id.is_none() => {
            match pass.quiet_after(EffectKind::Send) {
                Some(until) => {
                    pass.look(until);
                    Asked::Waits
                }
                None => return Asked::Lost(check),
            }
        }
        Some(CheckReading::Pending { command_id }) => {
            if let (Some(open), Some(id)) = (&mut pass.record.attempt.check, command_id) {
                open.command_id = Some(id);
            }
            Asked::Waits
        }
        Some(CheckReading::Absent) | None => Asked::Waits,
    };
    match asked {
        Asked::Waits if pass.now >= gives_up_at => {
            pass.record.attempt.check = None;
            Asked::Mute(format!("no answer from the host within {patience} s"))
        }
        Asked::Waits => {
            pass.look_after_poll();
            Asked::Waits
        }
        said => {
            pass.record.attempt.check = None;
            said
        }
    }
}

/// The end of the time in which the machine must be `running`.
fn running_by(pass: &Pass<'_>) -> jiff::Timestamp {
    let from = pass.record.attempt.accepted_at.or(pass.record.began_at).unwrap_or(pass.now);
    add(from, pass.spec.timings.start_timeout)
}

/// The end of the time in which agent and unit must have answered.
fn ready_by(pass: &Pass<'_>) -> jiff::Timestamp {
    add(running_by(pass), pass.spec.timings.ready_timeout)
}
