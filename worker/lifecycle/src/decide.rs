//! `decide` and `apply_answer`: the two ways in which a record moves.
//!
//! A pass: what is over is dropped (holds, permissions, margins); what AWS says is reconciled with
//! the record (adopted, stopped outside); the command is applied to the holds; the phase advances
//! until it rests or names an effect; what can be answered is answered.
//!
//! *Invariant.* `Decision::changed` is false exactly when nothing but the observation, `why` and the
//! time of the next look differ: then nothing is written (a poll inside a wait costs no write).

use jiff::Timestamp;
use lamplighter_events::{Cause, Outcome};

use crate::effect::{Effect, EffectAnswer, EffectKind, Refusal};
use crate::idle::remember_requests;
use crate::input::Input;
use crate::limits::{
    CONSISTENCY_MARGIN_SECONDS, MESSAGE_CHARS_MAX, NEWS_AFTER_SECONDS, SIGNATURE_LIFE_SECONDS,
    SKEW_MAX_SECONDS, WHY_CHARS_MAX,
};
use crate::observed::Sighting;
use crate::pass::{Flow, Pass};
use crate::phase::{Phase, Step};
use crate::record::{CheckPurpose, CommandRecord, Failure, Quiet, TargetRecord, UnitHealth};
use crate::retry::{OUTBOX_LOOK_SECONDS, RIGHTS_RETRY_SECONDS, UNANSWERED_LOOK_SECONDS};
use crate::spec::TargetSpec;
use crate::text::shortened;
use crate::time::later;
use crate::{accepted, commands, holds, lag, phases, run_log, size, windows};

/// A phase can hand over to another in the same pass; more than this would be a circle.
const TRANSITIONS_MAX: usize = 8;
/// Polls inside a wait leave a due `wake_at` as it is for this long, and then write it anew: or every
/// worker's sweep would find the target due each minute for nothing. The new version also makes void what
/// wake-ups the queue has doubled since; each would go on as a chain of its own.
const DUE_SLACK_SECONDS: i64 = 60;

/// What a pass came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The record to commit (with `rev` one higher), if `changed`.
    pub next: TargetRecord,
    /// Whether anything is worth a write.
    pub changed: bool,
    /// The effect that this commit allows.
    pub effect: Option<Effect>,
    /// The item of the command that this pass took, with its outcome if it has one already.
    pub accepted: Option<CommandRecord>,
    /// Outcomes of commands that were taken earlier.
    pub outcomes: Vec<Outcome>,
    /// When somebody must look again; also in `next.wake_at`.
    pub look_at: Option<Timestamp>,
    /// The same, once all events are sent.
    pub look_when_sent: Option<Timestamp>,
    /// It looks idle by one round of readings: nothing of this is to be committed before the probes were
    /// asked once more (DESIGN.md §4: holds are looked at last).
    pub asks_again: bool,
    /// Why; never empty.
    pub why: String,
}

/// What became of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ApplyAnswer {
    /// Commit this.
    Commit(Box<Decision>),
    /// The record no longer knows this permission: the answer says nothing any more.
    Stale,
}

/// The record after these events were acknowledged: nothing else of it changes.
pub fn clear_sent(decision: &Decision, sent: &[String]) -> TargetRecord {
    let mut next = decision.next.clone();
    drop_sent(&mut next, &[Input::EventsSent(sent.to_vec())]);
    if next.outbox.is_empty() {
        next.wake_at = decision.look_when_sent;
    }
    next.rev += 1;
    next
}

/// Folds inputs and an observation into the next record. `nonce` names the permission of the effect,
/// if one is decided; it must be new.
pub fn decide(
    record: &TargetRecord,
    spec: &TargetSpec,
    inputs: &[Input],
    sighting: &Sighting,
    now: Timestamp,
    nonce: &str,
) -> Decision {
    // A terminated machine stays so: an older description is read as the last one.
    let ended = sighting.as_ref().ok().and_then(|seen| lag::ended(record, seen)).map(Ok);
    let sighting = ended.as_ref().unwrap_or(sighting);
    let pass = Pass::new(record.clone(), spec, Some(sighting), now, nonce);
    let (decision, fits) = decide_in(pass, record, inputs, sighting, now);
    if fits {
        return decision;
    }
    // Its command is decided anew, as one for which the record has no room.
    let mut pass = Pass::new(record.clone(), spec, Some(sighting), now, nonce);
    pass.room = false;
    decide_in(pass, record, inputs, sighting, now).0
}

/// The decision, and whether its record is within the bound for its command.
fn decide_in(
    mut pass: Pass<'_>,
    record: &TargetRecord,
    inputs: &[Input],
    sighting: &Sighting,
    now: Timestamp,
) -> (Decision, bool) {
    pass.rounds = inputs
        .iter()
        .filter_map(|input| match input {
            Input::Round(round) if round.is_of(&record.resource) => Some(round.clone()),
            _ => None,
        })
        .collect();
    pass.no_seat = inputs.contains(&Input::NoSeat);
    drop_sent(&mut pass.record, inputs);
    drop_what_is_over(&mut pass);
    // An observation from before the end of the last permission says nothing (DESIGN.md §3).
    let last_act_by =
        pass.record.quiet.map(|quiet| later(quiet.until, -CONSISTENCY_MARGIN_SECONDS));
    let fresh = match sighting {
        Ok(seen) => last_act_by.is_none_or(|act_by| seen.at >= act_by),
        Err(_) => true,
    };
    let goes_back = sighting.as_ref().is_ok_and(|seen| lag::goes_back(record, seen));
    let may_conclude = !pass.in_flight() && fresh && !goes_back;
    if let (true, Ok(seen)) = (may_conclude, sighting) {
        pass.record.observed = Some(seen.shortened());
        phases::recognise(&mut pass);
        phases::reconcile(&mut pass);
    }
    holds::end_expired_holds(&mut pass);
    windows::open(&mut pass);
    for input in inputs {
        match input {
            Input::Command(command) => commands::apply(&mut pass, command),
            Input::SpotNotice(notice) => phases::notice(&mut pass, notice),
            Input::Asked(round) => {
                if let Some(idle) = &pass.spec.idle
                    && round.is_of(&pass.record.resource)
                {
                    remember_requests(idle, &mut pass.record.idle, round);
                }
            }
            Input::EventsSent(_) | Input::Round(_) | Input::NoSeat | Input::GivenUpLaunch(_) => {}
        }
    }
    if may_conclude {
        let mut rounds = 0;
        while phases::advance(&mut pass) == Flow::Again && rounds < TRANSITIONS_MAX {
            rounds += 1;
        }
        for input in inputs {
            if let Input::GivenUpLaunch(instance) = input {
                phases::end_given_up_launch(&mut pass, instance);
            }
        }
    } else if !fresh {
        // Another worker's clock may be ahead: looking again at once would only find the same.
        pass.look(last_act_by.map_or(now, |act_by| act_by.max(now)));
        pass.why("the observation is older than the last effect's permission; looking again");
    } else if goes_back && !pass.in_flight() {
        pass.look_after_poll();
        let speaker = pass.record.resource.speaker();
        pass.why(format!("{speaker} shows an older state than before; looking again"));
    } else if let Some(doing) = &pass.record.doing {
        let (operation, act_by) = (doing.effect.operation(), doing.act_by);
        pass.why(format!(
            "{operation} may be under way until {act_by}; nothing is concluded before"
        ));
    }
    commands::answer_what_can_be(&mut pass);
    finish(pass, record)
}

/// Folds in what AWS said to the effect that `nonce` permitted. `sent` are events acknowledged since.
pub fn apply_answer(
    record: &TargetRecord,
    spec: &TargetSpec,
    nonce: &str,
    answer: &EffectAnswer,
    sent: &[String],
    now: Timestamp,
) -> ApplyAnswer {
    let mut pass = Pass::new(record.clone(), spec, None, now, nonce);
    drop_sent(&mut pass.record, &[Input::EventsSent(sent.to_vec())]);
    let effect = match pass.record.doing.take_if(|doing| doing.nonce == nonce) {
        Some(doing) => doing.effect,
        None => {
            let until = pass.record.unanswered_until(nonce);
            let Some(lost) = pass.record.forget_unanswered(nonce) else {
                return ApplyAnswer::Stale;
            };
            let ours = !phases::is_of_given_up_launch(&pass.record, &lost);
            if let (true, EffectAnswer::Accepted { .. }, Some(until)) = (ours, answer, until) {
                // The call was made by then, whenever its answer is committed.
                let known = pass.record.observed.as_ref();
                pass.record.accepted.note(&lost, accepted::made_by(until).min(now), known);
            }
            if let (Effect::RunInstance(launch), EffectAnswer::Accepted { id: Some(id) }) =
                (&lost, answer)
            {
                phases::launched(&mut pass, &launch.token, id);
            }
            // Decided anew already: all that this answer still says is that nothing is outstanding.
            pass.why(record.why.clone());
            pass.look(now);
            return ApplyAnswer::Commit(Box::new(finish(pass, record).0));
        }
    };
    match answer {
        _ if phases::is_of_given_up_launch(&pass.record, &effect) => {
            phases::ended_given_up_launch(&mut pass, &effect, answer);
        }
        EffectAnswer::Accepted { id } => accepted(&mut pass, &effect, id.clone()),
        EffectAnswer::NotMade => not_made(&mut pass, effect.kind()),
        EffectAnswer::Refused { cause, message, refusal } => {
            refused(&mut pass, &effect, *cause, message, *refusal);
        }
    }
    commands::answer_what_can_be(&mut pass);
    let turned = match pass.record.phase {
        Phase::Starting => !pass.wanted(),
        Phase::Stopping => pass.wanted(),
        // A stop that waited for the start is answered by a look.
        Phase::Off | Phase::Failed => !pass.record.open.is_empty(),
        Phase::On => false,
    };
    if turned {
        pass.look(now);
    }
    ApplyAnswer::Commit(Box::new(finish(pass, record).0))
}

fn accepted(pass: &mut Pass<'_>, effect: &Effect, id: Option<String>) {
    let kind = effect.kind();
    let until = pass.in_seconds(CONSISTENCY_MARGIN_SECONDS);
    pass.record.attempt.retry_at = None;
    pass.record.attempt.refusal = None;
    pass.record.accepted.note(effect, pass.now, pass.record.observed.as_ref());
    let (speaker, noun) = (pass.record.resource.speaker(), pass.record.resource.noun());
    match kind {
        EffectKind::Start => {
            pass.record.quiet = Some(Quiet { until, after: kind });
            pass.record.attempt.accepted_at = Some(pass.now);
            if let (Effect::RunInstance(launch), Some(id)) = (effect, &id) {
                phases::launched(pass, &launch.token, id);
            }
            let step = pass.kind().accepted_step();
            let asked = if matches!(effect, Effect::RunInstance(_)) { "launch" } else { "start" };
            let why = format!("{speaker} accepted the {asked}; waiting until the {noun} runs");
            // The record may have turned to the way down in the meantime.
            match pass.record.phase {
                Phase::Starting => pass.enter(Phase::Starting, Some(step), None, why),
                _ => pass.why(why),
            }
        }
        EffectKind::Stop => {
            pass.record.quiet = Some(Quiet { until, after: kind });
            pass.record.attempt.accepted_at = Some(pass.now);
            pass.record.step = Some(Step::WaitStopped);
            pass.why(match effect {
                Effect::TerminateInstance { .. } => {
                    format!("{speaker} accepted the end; waiting until the {noun} is terminated")
                }
                _ => format!("{speaker} accepted the stop; waiting until the {noun} is stopped"),
            });
        }
        EffectKind::Scale => {
            pass.record.quiet = Some(Quiet { until, after: kind });
            pass.why("the bounds of its scaling are set");
            return pass.look(pass.now);
        }
        EffectKind::Send => {
            if let Some(check) = &mut pass.record.attempt.check {
                check.command_id = id;
            }
            pass.why("SSM took the question; waiting for the host's answer");
        }
    }
    pass.look_after_poll();
}

/// Decided anew at the next look, with all its time before it.
fn not_made(pass: &mut Pass<'_>, kind: EffectKind) {
    match kind {
        EffectKind::Start | EffectKind::Stop | EffectKind::Scale => {
            pass.record.began_at = Some(pass.now);
        }
        EffectKind::Send => drop_question(pass),
    }
    pass.look(pass.now);
    pass.why("the time to act was over before the call could be made; deciding anew");
}

/// A question that was not asked: a start goes back to where it asks, a watch waits for its next time.
fn drop_question(pass: &mut Pass<'_>) {
    match pass.record.attempt.check.take().map(|check| check.purpose) {
        Some(CheckPurpose::Watch) => {
            pass.record.up.unit = Some(UnitHealth { state: "unknown".to_owned(), at: pass.now });
        }
        // Asked again at the next tick; whoever waits is told that nothing is known.
        Some(CheckPurpose::Idle) => phases::host_said_nothing(pass, "its host could not be asked"),
        Some(CheckPurpose::Bootstrap) => pass.record.step = Some(Step::WaitAgent),
        Some(CheckPurpose::Verify) | None => pass.record.step = Some(pass.kind().accepted_step()),
    }
}

fn refused(pass: &mut Pass<'_>, effect: &Effect, cause: Cause, message: &str, refusal: Refusal) {
    let kind = effect.kind();
    let message = &shortened(message, MESSAGE_CHARS_MAX);
    let failure = Failure { cause, message: message.clone(), at: pass.now };
    pass.record.attempt.refusals = pass.record.attempt.refusals.saturating_add(1);
    pass.note(match (effect, cause) {
        // There are many of them, and each says the same in as many words.
        (Effect::RunInstance(launch), Cause::Capacity) => {
            format!("refused ({cause}): {}", launch.option)
        }
        _ => format!("refused ({cause}): {message}"),
    });
    if kind == EffectKind::Send {
        drop_question(pass);
    }
    let refusal = match refusal {
        Refusal::Final if phases::rights_may_arrive(pass, cause) => {
            Refusal::RetryAfter(RIGHTS_RETRY_SECONDS.unsigned_abs() * 1000)
        }
        refusal => refusal,
    };
    match refusal {
        Refusal::RetryAfter(millis) => {
            let pause = i64::try_from(millis).unwrap_or(i64::MAX).max(1);
            let retry_at = pass.now.saturating_add(jiff::SignedDuration::from_millis(pause));
            let retry_at = retry_at.unwrap_or(Timestamp::MAX);
            pass.record.attempt.retry_at = Some(retry_at);
            pass.record.attempt.refusal = Some(failure);
            pass.look(retry_at);
            pass.why(format!("AWS refused for now ({cause}): {message}; trying again"));
            if let (Effect::RunInstance(launch), Cause::Capacity) = (effect, cause) {
                phases::refused_again(pass, &launch.token);
                phases::try_next_option(pass, &launch.option, message);
            }
        }
        Refusal::Final => {
            let goes_on = match effect {
                Effect::RunInstance(launch) => {
                    phases::try_other_options(pass, &launch.option, cause, message)
                }
                _ => false,
            };
            if !goes_on {
                phases::refused_for_good(pass, kind, failure);
            }
        }
    }
}

fn drop_sent(record: &mut TargetRecord, inputs: &[Input]) {
    for input in inputs {
        if let Input::EventsSent(ids) = input {
            record.outbox.retain(|event| !ids.contains(&event.id));
        }
    }
}

/// Permissions that ran out become unanswered; what can no longer happen is forgotten.
fn drop_what_is_over(pass: &mut Pass<'_>) {
    let now = pass.now;
    if let Some(doing) = pass.record.doing.take_if(|doing| doing.act_by < now) {
        let kind = doing.effect.kind();
        let until = later(doing.act_by, SIGNATURE_LIFE_SECONDS + SKEW_MAX_SECONDS);
        let quiet = Quiet { until: later(doing.act_by, CONSISTENCY_MARGIN_SECONDS), after: kind };
        let ours = !phases::is_of_given_up_launch(&pass.record, &doing.effect);
        pass.note(format!("the answer to {} was lost", doing.effect.operation()));
        if kind == EffectKind::Scale {
            // It may be in force, or not: only a look tells.
            pass.record.accepted.bounds = None;
        }
        pass.record.remember_unanswered(doing.effect, doing.nonce, until);
        if ours {
            pass.record.quiet = Some(quiet);
        }
    }
    pass.record.forget_unanswered_before(now);
    // A margin is over once something was seen after it: a look that failed saw nothing.
    let seen_at = pass.seen().map(|_| pass.seen_at());
    if pass.record.quiet.is_some_and(|quiet| seen_at.is_some_and(|at| quiet.until <= at)) {
        pass.record.quiet = None;
    }
}

/// The next look, the history, and whether anything changed.
fn finish(mut pass: Pass<'_>, before: &TargetRecord) -> (Decision, bool) {
    if let Some(doing) = &pass.record.doing {
        pass.look_at = Some(later(doing.act_by, 1));
    }
    let ends: Vec<Timestamp> = pass
        .record
        .holds
        .iter()
        .flat_map(|hold| [Some(hold.from), hold.until])
        .flatten()
        .filter(|at| *at > pass.now)
        .collect();
    for at in ends {
        pass.look(at);
    }
    if !pass.record.unanswered.is_empty() {
        let at = pass.in_seconds(UNANSWERED_LOOK_SECONDS);
        pass.look(at);
    }
    if lag::awaits_own_start(&pass.record, pass.now) {
        let at = pass.in_seconds(UNANSWERED_LOOK_SECONDS);
        pass.look(at);
    }
    if let Some(at) = windows::next(&pass) {
        pass.look(at);
    }
    if let Some(at) = pass.record.idle.look_at.filter(|_| pass.record.phase == Phase::On) {
        // What is due and could not be asked now (short of tasks, a host that takes its time) has its pause.
        let again = pass.after(pass.spec.timings.poll);
        pass.look(if at > pass.now { at } else { again });
    }
    phases::settle_ledger(&mut pass);
    let mut why = pass.take_why();
    if why.is_empty() {
        why.clone_from(&before.why);
    }
    let why = shortened(&why, WHY_CHARS_MAX);
    pass.record.why.clone_from(&why);
    let rev = before.rev + 1;
    pass.seal(rev);
    let taken = pass.accepted.as_ref().and_then(|accepted| accepted.action);
    let fits = if pass.room && taken.is_some() {
        size::fit(&mut pass.record, size::bytes_max_for(taken))
    } else {
        size::fit_for_good(&mut pass.record);
        true
    };
    let look_when_sent = pass.look_at;
    if !pass.record.outbox.is_empty() {
        let at = pass.in_seconds(OUTBOX_LOOK_SECONDS);
        pass.look(at);
    }
    let look_at = pass.look_at;
    let changed = pass.effect.is_some()
        || pass.accepted.is_some()
        || !pass.outcomes.is_empty()
        || before.rev == 0
        || is_news(&pass.record, before, pass.now)
        || differs(&pass.record, before)
        // The due index must not promise a look later than it is needed.
        || match (before.wake_at, look_at) {
            (None, Some(_)) => true,
            (Some(recorded), Some(needed)) => {
                let due = recorded <= pass.now;
                let long_due = later(recorded, DUE_SLACK_SECONDS) <= pass.now;
                needed < recorded
                    || (due && needed > later(pass.now, DUE_SLACK_SECONDS))
                    || long_due
            }
            (Some(recorded), None) => recorded <= pass.now,
            (None, None) => false,
        };
    let Pass { record: mut next, effect, accepted, outcomes, asks_again, now, .. } = pass;
    next.wake_at = look_at;
    next.rev = rev;
    // Last, so that runs alone are no reason to write: a record of a version that had none gets them with its next
    // news.
    run_log::keep(&mut next, before, effect.as_ref().map(Effect::kind), now);
    let decision = Decision {
        next,
        changed,
        effect,
        accepted,
        outcomes,
        look_at,
        look_when_sent,
        asks_again,
        why,
    };
    (decision, fits)
}

/// A long wait that writes nothing would leave people with an old sight: once it is old, a look that
/// saw another state is written down, with its `why`. A quick start never comes to that.
fn is_news(after: &TargetRecord, before: &TargetRecord, now: Timestamp) -> bool {
    let (Some(saw), Some(seen)) = (&after.observed, &before.observed) else { return false };
    let told_otherwise = saw.state() != seen.state()
        || (saw.agent != seen.agent && saw.agent.is_some() && after.phase == Phase::Starting);
    told_otherwise && now >= later(seen.at, NEWS_AFTER_SECONDS)
}

/// Whether anything differs that a reader of the record would miss.
fn differs(after: &TargetRecord, before: &TargetRecord) -> bool {
    let mut after = after.clone();
    after.rev = before.rev;
    after.wake_at = before.wake_at;
    after.why.clone_from(&before.why);
    after.observed.clone_from(&before.observed);
    // A margin that ran out is not news.
    if after.quiet.is_none() {
        after.quiet = before.quiet;
    }
    after != *before
}
