//! What is different about a machine that is launched for a request: before it is there it has no id, a stop
//! destroys it, and a second launch would be a second machine.
//!
//! *Theory.* A launch is known by its client token until EC2 gives it an id; the same token always goes with the
//! same request, so an answer that was lost is asked for again by making the same call. A new token, for another
//! way to launch or for another machine, is drawn only while no launch of this target is without an answer, or once
//! the same token was refused late enough and often enough: so there is at most one machine for a launch. A machine
//! of a launch that was given up is known by its token, and is ended.
//!
//! *Invariants.* A machine counts as gone when EC2 says `terminated`, or does not know it although it must show
//! by now. `seated` is set before the launch and cleared only when the machine is gone and no launch can come
//! true any more. A bootstrap runs once for a launch.

use std::collections::BTreeSet;

use jiff::Timestamp;
use lamplighter_events::{AttentionKind, Cause, InstanceId};

use super::{Asked, fail_start, read_check, ready_by, running_by};
use crate::accepted::AcceptedChanges;
use crate::effect::{Effect, EffectAnswer, EffectKind, Unanswered};
use crate::input::SpotNotice;
use crate::kinds::Kind;
use crate::limits::{
    GIVEN_UP_AFTER_SECONDS, GIVEN_UP_MAX, GIVEN_UP_REFUSALS, LAUNCH_VISIBLE_SECONDS,
    SIGNATURE_LIFE_SECONDS, SKEW_MAX_SECONDS, TRIED_CHARS_MAX, TRIED_MAX,
};
use crate::observed::{Agent, CheckReading, InstanceSeen, PowerState};
use crate::pass::{Flow, Pass};
use crate::phase::{Phase, Step};
use crate::record::{Check, CheckPurpose, TargetRecord};
use crate::resource::{LaunchToken, Resource, token_of};
use crate::retry::OPTIONS_PAUSE_SECONDS;
use crate::template::{GivenUpLaunch, Launch, LaunchOption, LaunchRecord, TemplateSpec};
use crate::text::shortened;
use crate::time::{add, later};

/// What a look brought, for the rules of the ways up and down: these are about something that is switched.
/// A machine that is gone is off; one that is stopped is not, since it is still there.
pub(super) fn state(pass: &Pass<'_>) -> Option<PowerState> {
    let state = pass.seen()?.state();
    match pass.kind() {
        Kind::Launched => {}
        Kind::Instance | Kind::Service => return Some(state),
    }
    Some(match (state, pass.record.phase) {
        (PowerState::Missing, _) if !is_gone(pass, state) => PowerState::Pending,
        (PowerState::Terminated | PowerState::Missing, _) => PowerState::Stopped,
        (PowerState::ShuttingDown, _) => PowerState::Stopping,
        // Whatever it does, it can be terminated.
        (PowerState::Pending | PowerState::Stopping | PowerState::Stopped, Phase::Stopping) => {
            PowerState::Running
        }
        (state, _) => state,
    })
}

/// Whether the machine is no more.
pub(crate) fn is_gone(pass: &Pass<'_>, state: PowerState) -> bool {
    match pass.kind() {
        Kind::Launched => {}
        Kind::Instance | Kind::Service => return state.is_off(),
    }
    match state {
        PowerState::Terminated => true,
        PowerState::Missing => {
            // EC2 may not know what it has just launched, and not even when it has shown it once: what finds it
            // by its token and what finds it by its id agree later. What has ended shows for an hour.
            let launched =
                pass.record.provision.launch.as_ref().and_then(|launch| launch.launched_at);
            let shows_by = launched.map(|at| later(at, LAUNCH_VISIBLE_SECONDS));
            pass.record.resource.instance().is_none()
                || shows_by.is_none_or(|shows_by| pass.seen_at() >= shows_by)
        }
        _ => false,
    }
}

/// Whether the target has a machine that is there, whatever its record was made to think of it.
pub(crate) fn has_machine(pass: &Pass<'_>) -> bool {
    let there = |state| !is_gone(pass, state);
    pass.record.resource.instance().is_some() && pass.seen().is_some_and(|seen| there(seen.state()))
}

/// Takes from a look what it says of a launch: the id that it led to.
pub(crate) fn recognise(pass: &mut Pass<'_>) {
    let Some(seen) = pass.seen().and_then(|seen| seen.instance()) else { return };
    if pass.record.provision.launch.is_none() {
        return;
    }
    if let (Resource::Launch(token), Some(id)) = (&pass.record.resource, &seen.id) {
        let (token, id) = (token.clone(), id.to_string());
        launched(pass, &token, &id);
    }
}

/// EC2 said which machine the launch led to.
pub(crate) fn launched(pass: &mut Pass<'_>, answered: &LaunchToken, id: &str) {
    let Ok(instance) = lamplighter_events::InstanceId::parse(id) else {
        // Found by its token at the next look.
        return pass.note("EC2's answer to the launch names no instance");
    };
    let Resource::Launch(token) = pass.record.resource.clone() else { return };
    if token != *answered {
        // It was given up; a sweep finds its machine.
        return pass.note(format!("{instance} is of a launch that was given up"));
    }
    // Every other call with this token has the same answer.
    pass.record.unanswered.retain(
        |lost| !matches!(&lost.effect, Effect::RunInstance(launch) if launch.token == token),
    );
    pass.note(format!("launched: {instance}"));
    pass.record.resource = Resource::Instance(instance);
    // That was of the machine before it.
    pass.record.accepted.stop = None;
    pass.record.up.started_by_us = true;
    let now = pass.now;
    if let Some(launch) = &mut pass.record.provision.launch {
        launch.launched_at = Some(now);
        launch.ended_at = None;
    }
}

/// The launch of a target that is wanted and has no machine.
pub(super) fn launch(pass: &mut Pass<'_>, template: &TemplateSpec) -> Option<Effect> {
    let lost = pass.record.unanswered.iter().rev().find_map(must_be_repeated).cloned();
    if let Some(launch) = lost {
        pass.record.resource = Resource::Launch(launch.token.clone());
        return Some(Effect::RunInstance(Box::new(launch)));
    }
    let now = pass.now;
    let target = pass.record.target.clone();
    let Some(launch) = pass.record.provision.launch.as_mut() else {
        // An orphan that was adopted, and is gone: nobody knows with what it was made.
        let message = "its record does not say what it was made with; create it anew".to_owned();
        fail_start(pass, Cause::NotFound, message);
        return None;
    };
    give_up_lost(launch, &pass.record.unanswered, now);
    launch.number += 1;
    launch.launched_at = None;
    launch.bootstrap_token = None;
    launch.bootstrapped = false;
    launch.interrupted_at = None;
    launch.ended_at = None;
    launch.name = template.machine_name(&target, now);
    launch.price_per_hour_millionths = template.price_per_hour_millionths;
    let token = token_of(&target, launch.created_at, launch.number);
    let options = template.options();
    let option = options.get(launch.option % options.len().max(1)).cloned().unwrap_or_default();
    let tags = template.launch_tags(&target, &launch.name, launch.number);
    pass.record.resource = Resource::Launch(token.clone());
    // What was seen of the machine before it, and accepted for it, says nothing of this one.
    pass.record.observed = None;
    pass.record.accepted = AcceptedChanges::default();
    pass.record.up.unit = None;
    Some(Effect::RunInstance(Box::new(Launch {
        token,
        launch_template: template.launch_template.clone(),
        version: template.version.clone(),
        option,
        tags,
    })))
}

/// Ends the machine for good.
pub(super) fn terminate(pass: &Pass<'_>) -> Option<Effect> {
    Some(Effect::TerminateInstance { instance: pass.record.resource.instance()?.clone() })
}

/// A launch without an answer that may still come true: the next call has its token.
fn must_be_repeated(lost: &Unanswered) -> Option<&Launch> {
    match &lost.effect {
        Effect::RunInstance(launch) if lost.refusals < GIVEN_UP_REFUSALS => Some(launch),
        _ => None,
    }
}

/// EC2 has no capacity for this token. It would have named the machine, had it made one: late enough, that says that
/// the requests without an answer did not arrive.
pub(crate) fn refused_again(pass: &mut Pass<'_>, token: &LaunchToken) {
    let now = pass.now;
    for lost in &mut pass.record.unanswered {
        let same = matches!(&lost.effect, Effect::RunInstance(launch) if launch.token == *token);
        let act_by = later(lost.until, -(SIGNATURE_LIFE_SECONDS + SKEW_MAX_SECONDS));
        if same && now >= later(act_by, GIVEN_UP_AFTER_SECONDS) {
            lost.refusals = lost.refusals.saturating_add(1);
        }
    }
}

/// Remembers the launches without an answer in whose place another one is made.
fn give_up_lost(launch: &mut LaunchRecord, unanswered: &[Unanswered], now: Timestamp) {
    for lost in unanswered {
        let Effect::RunInstance(lost) = &lost.effect else { continue };
        if launch.given_up.iter().all(|known| known.token != lost.token) {
            launch.given_up.push(GivenUpLaunch { token: lost.token.clone(), at: now });
        }
    }
    let excess = launch.given_up.len().saturating_sub(GIVEN_UP_MAX);
    launch.given_up.drain(..excess);
}

/// Whether the effect is the end of a machine that is not, or no longer, the target's.
pub(crate) fn is_of_given_up_launch(record: &TargetRecord, effect: &Effect) -> bool {
    match effect {
        Effect::TerminateInstance { instance } => record.resource.instance() != Some(instance),
        _ => false,
    }
}

/// Ends a machine of a launch that was given up. The target itself is not concerned.
pub(crate) fn end_given_up_launch(pass: &mut Pass<'_>, instance: &InstanceId) {
    let known =
        pass.record.provision.launch.as_ref().is_some_and(|launch| !launch.given_up.is_empty());
    let other = pass.record.resource.instance() != Some(instance);
    if !known || !other || pass.in_flight() {
        return;
    }
    let (step, why) = (pass.record.step, pass.take_why());
    pass.note(format!("{instance} is of a launch that was given up, and is ended"));
    pass.act(Effect::TerminateInstance { instance: instance.clone() }, step, &why);
}

/// What EC2 said to that. Where it refused, the next sweep finds the machine again.
pub(crate) fn ended_given_up_launch(pass: &mut Pass<'_>, effect: &Effect, answer: &EffectAnswer) {
    let resource = effect.resource();
    if let EffectAnswer::Refused { cause, message, .. } = answer {
        pass.note(format!("{resource} could not be ended ({cause}): {message}"));
    }
    let why = pass.record.why.clone();
    pass.why(why);
    pass.look(pass.now);
}

/// A way to launch was refused: the next in order at once; after the last, with a pause. Whether there was a next one.
pub(crate) fn try_next_option(pass: &mut Pass<'_>, refused: &LaunchOption, message: &str) -> bool {
    let Some(options) = pass.spec.template().map(|template| template.options().len()) else {
        return false;
    };
    let repeats = pass.record.unanswered.iter().find_map(must_be_repeated).is_some();
    let Some(launch) = &mut pass.record.provision.launch else { return false };
    let way = format!("{refused}: ");
    launch.tried.retain(|tried| !tried.starts_with(&way));
    launch.tried.push(shortened(&format!("{way}{message}"), TRIED_CHARS_MAX));
    launch.refused = launch.refused.saturating_add(1);
    let excess = launch.tried.len().saturating_sub(TRIED_MAX);
    launch.tried.drain(..excess);
    if repeats {
        return false;
    }
    launch.option += 1;
    let next = launch.option % options.max(1) != 0;
    if next {
        pass.record.attempt.retry_at = None;
        pass.look(pass.now);
    }
    next
}

/// A way to launch was refused for good, which another one need not be: a subnet that is gone, a type that the image
/// does not run on, a code that is not known. `false`: there is none left that could still do.
pub(crate) fn try_other_options(
    pass: &mut Pass<'_>,
    refused: &LaunchOption,
    cause: Cause,
    message: &str,
) -> bool {
    if try_next_option(pass, refused, message) {
        pass.why(format!(
            "{refused} was refused ({cause}): {message}; trying the next way to launch"
        ));
        return true;
    }
    let short = pass.record.attempt.refusal.as_ref().is_some_and(|it| it.cause == Cause::Capacity);
    if short {
        let at = pass.in_seconds(OPTIONS_PAUSE_SECONDS);
        pass.record.attempt.retry_at = Some(at);
        pass.look(at);
        pass.why(format!(
            "{refused} was refused ({cause}): {message}; another way to launch lacks room and is tried again"
        ));
    }
    short
}

/// How many launches of this start were refused, and where: AWS's words for each would fill the record.
pub(super) fn refusals(pass: &Pass<'_>) -> Option<String> {
    let template = pass.spec.template()?;
    let launch = pass.record.provision.launch.as_ref()?;
    let refused = launch.refused.max(u32::try_from(launch.tried.len()).unwrap_or(u32::MAX));
    if refused == 0 {
        return None;
    }
    let options = template.options();
    let tried = options.iter().take(launch.option.clamp(1, options.len().max(1)));
    let tried: Vec<&LaunchOption> = tried.collect();
    let different = |of: fn(&LaunchOption) -> Option<&String>| {
        tried.iter().filter_map(|option| of(option)).collect::<BTreeSet<_>>().len()
    };
    let counted = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    let mut told = counted(usize::try_from(refused).unwrap_or(usize::MAX), "refusal");
    let types = different(|option| option.instance_type.as_ref());
    if types > 1 {
        told.push_str(&format!(" of {types} instance types"));
    }
    let subnets = different(|option| option.subnet.as_ref());
    if subnets > 0 {
        told.push_str(&format!(" in {}", counted(subnets, "subnet")));
    }
    let spot = tried.iter().filter(|option| option.spot).count();
    told.push_str(match spot {
        0 => ", on demand",
        all if all == tried.len() => ", spot",
        _ => ", spot and on demand",
    });
    Some(told)
}

/// The same with the last refusal of each way, for whoever asks why it waits.
pub(super) fn refusals_in_full(pass: &Pass<'_>) -> String {
    let tried = pass.record.provision.launch.as_ref().map(|launch| launch.tried.join("; "));
    match refusals(pass).zip(tried) {
        Some((told, tried)) => format!("; {told}: {tried}"),
        None => String::new(),
    }
}

/// It runs: its address, its agent, its bootstrap. `None`: all of that is there.
pub(super) fn prepare(pass: &mut Pass<'_>) -> Option<Flow> {
    let template = pass.spec.template()?;
    let instance = pass.seen().and_then(|seen| seen.instance()).cloned()?;
    if template.wait_for_public_ip && instance.public_ip.is_none() {
        if pass.now >= running_by(pass) {
            let limit = pass.spec.timings.start_timeout;
            let message = format!("it has no public address within {limit}");
            fail_start(pass, Cause::Deadline, message);
            return Some(Flow::Again);
        }
        pass.record.step = Some(Step::WaitMachine);
        pass.why("it runs; waiting for its public address");
        pass.look_after_poll();
        return Some(Flow::Rest);
    }
    let done = pass.record.provision.launch.as_ref().is_none_or(|launch| launch.bootstrapped);
    if template.bootstrap.is_none() || done {
        return None;
    }
    match pass.record.attempt.check.clone() {
        Some(check) if check.purpose == CheckPurpose::Bootstrap => Some(read_bootstrap(pass)),
        _ => Some(ask_agent(pass)),
    }
}

fn ask_agent(pass: &mut Pass<'_>) -> Flow {
    if pass.record.step != Some(Step::WaitAgent) {
        pass.enter(Phase::Starting, Some(Step::WaitAgent), None, "it runs");
        // Its agent was not asked for in this look.
        if pass.seen().is_some_and(|seen| seen.agent.is_none()) {
            pass.look(pass.now);
        }
    }
    if let Some(retry_at) = pass.record.attempt.retry_at.filter(|at| *at > pass.now) {
        pass.look(retry_at);
        return Flow::Rest;
    }
    let agent = pass.seen().and_then(|seen| seen.agent);
    if agent == Some(Agent::Online) {
        return bootstrap(pass);
    }
    if pass.now >= ready_by(pass) {
        let message = super::agent::no_agent(pass, agent);
        fail_start(pass, Cause::AgentUnreachable, message);
        return Flow::Again;
    }
    pass.why("it runs; waiting for its SSM agent");
    pass.look_after_poll();
    Flow::Rest
}

/// Runs the bootstrap. One that was begun before somebody turned the target down and up again is asked for under
/// its first token.
fn bootstrap(pass: &mut Pass<'_>) -> Flow {
    let why = "its agent answers: making it ready";
    if pass.record.paused.is_none() {
        pass.enter(Phase::Starting, Some(Step::Bootstrap), None, why);
    }
    let known =
        pass.record.provision.launch.as_ref().and_then(|launch| launch.bootstrap_token.clone());
    if let Some(token) = known {
        let purpose = CheckPurpose::Bootstrap;
        let check = Check { token, command_id: None, purpose, asked_at: pass.now };
        return pass.ask_again(check, why);
    }
    let flow = pass.ask(CheckPurpose::Bootstrap, why);
    let token = pass.record.attempt.check.as_ref().map(|check| check.token.clone());
    if let Some(launch) = pass.record.provision.launch.as_mut().filter(|_| pass.effect.is_some()) {
        launch.bootstrap_token = token;
    }
    flow
}

fn read_bootstrap(pass: &mut Pass<'_>) -> Flow {
    let Some(check) = pass.record.attempt.check.clone() else { return Flow::Rest };
    let ended = match pass.seen().and_then(|seen| seen.check.clone()) {
        Some(CheckReading::Exited { code, output }) => Some((code, output)),
        _ => None,
    };
    let name = bootstrap_name(pass);
    if let Some((code, output)) = ended {
        pass.record.attempt.check = None;
        if code == 0 {
            if let Some(launch) = &mut pass.record.provision.launch {
                launch.bootstrapped = true;
            }
            let said = if output.is_empty() { String::new() } else { format!(": {output}") };
            pass.note(format!("the bootstrap {name} succeeded{said}"));
            return Flow::Again;
        }
        // What `timeout` exits with.
        let cause = if code == 124 { Cause::Deadline } else { Cause::UnitFailed };
        let said = if output.is_empty() { "it said nothing".to_owned() } else { output };
        fail_start(pass, cause, format!("the bootstrap {name} failed (exit {code}): {said}"));
        return Flow::Again;
    }
    match read_check(pass, check) {
        Asked::Waits => {
            pass.why(format!("its bootstrap {name} runs"));
            Flow::Rest
        }
        Asked::Lost(check) => {
            pass.ask_again(check, "the bootstrap never arrived; sending it under the same token")
        }
        Asked::Said(word) => {
            let message = format!("the bootstrap {name} said {word:?}, which is no end of it");
            fail_start(pass, Cause::UnitFailed, message);
            Flow::Again
        }
        Asked::Mute(detail) => {
            // It may have run: a second run could find the first one's half of the work.
            let message = format!("the bootstrap {name} did not come to an end: {detail}");
            fail_start(pass, Cause::AgentUnreachable, message);
            Flow::Again
        }
    }
}

fn bootstrap_name(pass: &Pass<'_>) -> String {
    let bootstrap = pass.spec.template().and_then(|template| template.bootstrap.as_ref());
    bootstrap.map_or_else(String::new, |bootstrap| bootstrap.name().to_owned())
}

/// EC2 took a spot machine back: nobody asked for it to be off.
pub(super) fn was_taken_back(pass: &Pass<'_>) -> bool {
    let said = |seen: &InstanceSeen| {
        seen.reason.as_ref().is_some_and(|reason| reason.contains("SpotInstance"))
    };
    let noticed =
        pass.record.provision.launch.as_ref().is_some_and(|it| it.interrupted_at.is_some());
    let seen = pass.seen().and_then(|seen| seen.instance());
    // A user's own end of it, within the notice's two minutes, is the user's.
    let by_user = seen.is_some_and(|seen| seen.user_stopped_at.is_some());
    pass.kind().stop_destroys() && (seen.is_some_and(said) || (noticed && !by_user))
}

/// EC2 says that it will take the machine back.
pub(crate) fn notice(pass: &mut Pass<'_>, notice: &SpotNotice) {
    if pass.record.resource.instance() != Some(&notice.instance) {
        // Of a machine that the target had before.
        return;
    }
    let Some(launch) = &mut pass.record.provision.launch else { return };
    // Told twice, or of what is gone.
    if launch.interrupted_at.is_some() || launch.ended_at.is_some() {
        return;
    }
    launch.interrupted_at = Some(notice.at);
    let next = match pass.wanted() {
        true => "another one is launched for whoever holds it",
        false => "nobody holds it",
    };
    pass.attention(
        AttentionKind::SpotInterruption,
        format!("EC2 takes the spot machine {} back; {next}", pass.record.resource),
    );
}

/// What a record's rest means for the ledger: its place is given back, and it will be forgotten, once no machine
/// of it is there and none can come any more.
pub(crate) fn settle_ledger(pass: &mut Pass<'_>) {
    let Some(template) = pass.spec.template() else { return };
    // An answer that comes late may name a machine that nobody has seen yet.
    let gone = pass.record.resource.instance().is_none()
        || pass.seen().is_some_and(|seen| is_gone(pass, seen.state()));
    let at_rest = matches!(pass.record.phase, Phase::Off | Phase::Failed) && !pass.record.up.kept;
    if at_rest && !gone && pass.sighting.is_none() {
        pass.look(pass.now);
    }
    let record = &mut pass.record;
    let rests = at_rest && gone;
    let may_come = record.doing.is_some()
        || record.unanswered.iter().any(|lost| lost.effect.kind() == EffectKind::Start);
    if !rests || may_come || !record.open.is_empty() || record.wanted(pass.now) {
        record.provision.retire_at = None;
        return;
    }
    record.provision.seated = false;
    if record.paused.is_some() {
        // A pause is not forgotten before somebody ends it.
        return record.provision.retire_at = None;
    }
    if let Some(launch) =
        record.provision.launch.as_mut().filter(|launch| launch.ended_at.is_none())
    {
        launch.ended_at = Some(pass.now);
    }
    if record.provision.retire_at.is_none() {
        record.provision.retire_at = Some(add(pass.now, template.retention));
    }
}
