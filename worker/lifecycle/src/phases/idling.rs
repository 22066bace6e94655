//! Idleness of a target that is on: the verdict on its probes, and what follows.
//!
//! *Invariants.* Idleness ends idle-bounded and adopted holds, and nothing else. It is believed only after two
//! rounds of readings in one pass, and the holds are looked at after the second: the record that the decision
//! writes has none left when the target is stopped. A check that was asked for is always answered.

use lamplighter_events::{Action, AttentionKind, Verdict};
use serde_json::{Map, Value};

use super::{Asked, read_check};
use crate::answer;
use crate::hold::HoldKind;
use crate::idle::{HostReading, IdleVerdict, Judged, judge};
use crate::limits::{CHECK_GRACE_SECONDS, IDLE_LOOK_SECONDS};
use crate::observed::{Agent, CheckReading};
use crate::pass::{Flow, Pass};
use crate::plan::idle_override;
use crate::probe::{IdleSpec, Reading};
use crate::record::{Check, CheckPurpose, OpenCommand};
use crate::retry::UNREACHABLE_SECONDS;
use crate::time::{add, later};
use crate::watch::{ends_by_idleness, idle_floor};

/// What is to be done about idleness before anything else of a target that is on. `None`: nothing that
/// keeps the phase from going on.
pub(super) fn look(pass: &mut Pass<'_>) -> Option<Flow> {
    if let Some(check) =
        pass.record.attempt.check.clone().filter(|it| it.purpose == CheckPurpose::Idle)
        && let Some(flow) = hear_host(pass, check)
    {
        return Some(flow);
    }
    let Some(idle) = pass.spec.idle.clone() else {
        answer_checks(pass, "it has no idle policy; nothing is stopped", None);
        return None;
    };
    let endable = |pass: &Pass<'_>| {
        pass.record.holds_in_force(pass.now).any(|hold| ends_by_idleness(hold, pass.spec))
    };
    if !endable(pass) {
        // Nobody asks, so nothing is due: a look of its own that stayed would come again and again.
        pass.record.idle.look_at = None;
        if pass.wanted() {
            let holders = answer::holders(pass).join(", ");
            let message = format!("held by {holders}, which idleness does not end");
            answer_checks(pass, &message, None);
        }
        return None;
    }
    if pass.rounds.is_empty() {
        if asks(pass) {
            // It came on, or the command came in, after the look was planned.
            pass.look(pass.now);
        }
        return None;
    }
    let rounds = std::mem::take(&mut pass.rounds);
    let asked = rounds.iter().map(|round| round.over).find(|over| !over.is_none());
    let over = asked.unwrap_or_else(|| idle_override(&pass.record, &[]));
    let floor = idle_floor(&pass.record, pass.now);
    let judged = judge(&idle, over, &pass.record.idle, &rounds, floor, pass.now);
    pass.record.idle = judged.memory.clone();
    if judged.silent_for_long && pass.record.idle.silent_said_at.is_none() {
        pass.record.idle.silent_said_at = Some(pass.now);
        let why = format!("{}; it stays on, since unknown is not idle", judged.silence());
        pass.attention(AttentionKind::MetricSilent, why);
    }
    if judged.unreachable_for_long {
        let enough = unreachable(pass, &judged, idle.stop_unreachable);
        // Whoever has just started it, kept it alive, or uses it by what another probe tells, has the policy's time all
        // the same.
        let ready = idle.grace.map_or(floor, |grace| add(floor, grace));
        let earliest = match judged.is_used {
            true => pass.in_seconds(IDLE_LOOK_SECONDS),
            false => add(ready, judged.after),
        };
        if enough && pass.now < earliest {
            let look_at = pass.record.idle.look_at;
            pass.record.idle.look_at = Some(look_at.map_or(earliest, |at| at.min(earliest)));
        } else if enough {
            return believe(
                pass,
                &judged,
                rounds.len(),
                "its backend has been unreachable for too long",
            );
        }
    }
    match judged.verdict {
        IdleVerdict::Idle => believe(pass, &judged, rounds.len(), &judged.why),
        IdleVerdict::AskHost => ask_host(pass),
        IdleVerdict::NotYet | IdleVerdict::Active | IdleVerdict::Unknown => {
            answer_checks(pass, &judged.why, Some(&judged));
            None
        }
    }
}

fn asks(pass: &Pass<'_>) -> bool {
    pass.record.open.iter().any(|open| open.action == Action::CheckIdle)
}

/// Says once that a backend cannot be reached; whether it is to be stopped for that. The warning comes
/// first, and the stop at a later look.
fn unreachable(pass: &mut Pass<'_>, judged: &Judged, stops: bool) -> bool {
    match pass.record.idle.unreachable_said_at {
        Some(said) => stops && said < pass.now,
        None => {
            pass.record.idle.unreachable_said_at = Some(pass.now);
            let then = match stops {
                true => "it is stopped if that goes on",
                false => "it stays on, since unknown is not idle",
            };
            let why = format!("its backend cannot be reached: {}; {then}", judged.why);
            pass.attention(AttentionKind::BackendUnreachable, why);
            if stops {
                let at = pass.in_seconds(UNREACHABLE_SECONDS);
                pass.record.idle.look_at = Some(at);
            }
            false
        }
    }
}

/// Twice idle is idle: its holds end.
fn believe(pass: &mut Pass<'_>, judged: &Judged, rounds: usize, why: &str) -> Option<Flow> {
    if let Some(paused) = &pass.record.paused {
        let message = format!("paused by holder {}: it would be stopped ({why})", paused.by);
        answer_checks(pass, &message, Some(judged));
        return None;
    }
    if rounds < 2 {
        pass.asks_again = true;
        pass.why(format!("{why}; asking once more"));
        return Some(Flow::Rest);
    }
    let (now, spec) = (pass.now, pass.spec);
    let (ended, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut pass.record.holds)
        .into_iter()
        .partition(|hold| hold.in_force(now) && ends_by_idleness(hold, spec));
    pass.record.holds = kept;
    for hold in ended {
        pass.note(format!("the hold of {} ended: {why}", hold.holder));
        if hold.kind == HoldKind::IdleBounded {
            crate::holds::remember_release(pass, &hold.holder, &hold.sent);
        }
    }
    pass.record.idle.look_at = None;
    pass.record.idle.ended_since = judged.since;
    pass.record.idle.ended_level = judged.level();
    pass.idle_why = Some(why.to_owned());
    if pass.wanted() {
        let holders = answer::holders(pass).join(", ");
        let message = format!("idle, but held by {holders}");
        answer_checks(pass, &message, Some(judged));
    }
    // Whoever asked for the check is told when it is off.
    None
}

fn ask_host(pass: &mut Pass<'_>) -> Option<Flow> {
    if pass.record.attempt.check.is_some() {
        // The unit's question first: one at a time. The tick that asked is over by then, so the look says why.
        let at = pass.after(pass.spec.timings.poll);
        pass.record.idle.look_at = Some(at);
        pass.look(at);
        return None;
    }
    if pass.record.paused.is_some() {
        host_said_nothing(pass, "it is paused, so its host is not asked");
        return None;
    }
    match pass.seen().and_then(|seen| seen.agent) {
        Some(Agent::Online) => {
            Some(pass.ask(CheckPurpose::Idle, "all else says idle; its host is asked"))
        }
        Some(Agent::Offline | Agent::Unregistered) => {
            learn_unreachable(pass, "its SSM agent does not answer");
            None
        }
        None => {
            pass.look(pass.now);
            None
        }
    }
}

/// Takes the host's word, if it is there.
fn hear_host(pass: &mut Pass<'_>, check: Check) -> Option<Flow> {
    if let Some(CheckReading::Exited { code, output }) = pass.seen().and_then(|it| it.check.clone())
    {
        pass.record.attempt.check = None;
        let reading = Reading::Exit { code, output };
        // However late it is read: the host has said it by the end of the command's time.
        let timeout = pass.spec.idle.as_ref().and_then(IdleSpec::host_command);
        let timeout = timeout.map_or(0, |command| i64::from(command.timeout_seconds));
        let said_by = later(check.asked_at, CHECK_GRACE_SECONDS + timeout);
        pass.record.idle.host = Some(HostReading { at: said_by.min(pass.seen_at()), reading });
        return None;
    }
    match read_check(pass, check) {
        Asked::Waits => {
            pass.why("waiting for its host to say whether it is idle");
            Some(Flow::Rest)
        }
        Asked::Lost(check) => {
            let why = "the question never arrived; asking again under the same token";
            Some(pass.ask_again(check, why))
        }
        Asked::Said(word) => {
            learn_unreachable(pass, &format!("its host said {word:?}"));
            None
        }
        Asked::Mute(detail) => {
            learn_unreachable(pass, &detail);
            None
        }
    }
}

fn learn_unreachable(pass: &mut Pass<'_>, detail: &str) {
    let reading = Reading::Unknown { detail: detail.to_owned(), unreachable: true };
    pass.record.idle.host = Some(HostReading { at: pass.seen_at(), reading });
    // Judged with this at once, if somebody waits for it.
    if asks(pass) {
        pass.look(pass.now);
    }
}

/// The host could not be asked: whoever waits for a verdict is told that nothing is known.
pub(crate) fn host_said_nothing(pass: &mut Pass<'_>, detail: &str) {
    let message = format!("unknown is not idle; command: {detail}");
    answer_checks(pass, &message, None);
}

/// Answers the checks that wait: nothing is stopped.
pub(crate) fn answer_checks(pass: &mut Pass<'_>, message: &str, judged: Option<&Judged>) {
    for open in pass.take_open(|open| open.action == Action::CheckIdle) {
        let answer = check_answer(pass, &open, false, message, judged);
        pass.close(&open, Verdict::Done, None, message, answer);
    }
}

/// The answer to one check.
pub(crate) fn check_answer(
    pass: &Pass<'_>,
    open: &OpenCommand,
    stopped: bool,
    message: &str,
    judged: Option<&Judged>,
) -> Map<String, Value> {
    let memory = &pass.record.idle;
    let since = judged.map_or(memory.ended_since.filter(|_| stopped), |judged| judged.since);
    let level = judged.map_or(memory.ended_level.filter(|_| stopped), Judged::level);
    answer::check_idle(pass, open, stopped, message, &answer::Idleness { since, level })
}
