//! From a message to work: parsed, and addressed to a target.
//!
//! What cannot be understood goes to the dead letters at once, with its reason as an attribute, and
//! with a rejected outcome where it had an id. It is never dropped and never tried to death. A message
//! that is nobody's (a signal of a foreign machine) is dropped, since it says nothing about ours.
//!
//! What names something that this worker's fleet does not have waits in the queue for some minutes, since a rolling
//! deployment has two fleets at work at once. It uses up no id meanwhile. See [`waits_for_newer_fleet`].

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{
    Action, Cause, Command, CommandId, EventBody, Holder, Inbound, InstanceId, LifecycleEvent,
    Malformed, MalformedKind, Outcome, Signal, TargetName, Verdict,
};
use lamplighter_lifecycle::{
    AcceptedCommand, CommandRecord, Resource, Round, ServiceId, SpotNotice,
};

use crate::idle_check;
use crate::ports::{Applied, CallError, Disposition, Outgoing, PutCommand, Received};
use crate::sent::{FIRST_ID_ATTRIBUTE, SENT_AT_ATTRIBUTE};
use crate::telemetry;
use crate::worker::Shared;

/// A tick is worth nothing long after it was due: a nightly stop that comes in the morning would stop what the
/// day has begun. Half an hour is some ticks of the usual five minutes, and a worker's longest restart.
const TICK_LIFE_SECONDS: i64 = 30 * 60;
/// What this fleet does not name is received at least this often before it is given up, however old it is. A message
/// that waited out an outage of all workers, and a replayed letter, meet more than one worker too.
const UNKNOWN_RECEIVES_MIN: u32 = 3;
/// The least pause between those receives; it grows as that of every redelivery. That makes seven receives in the usual
/// three minutes, so that even where half of the workers are old throughout, a message misses the newer fleet once in 128.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(20);
/// The attribute with a command's id.
pub const ID_ATTRIBUTE: &str = "id";
/// The attribute with the sender's trace.
pub const TRACE_ATTRIBUTE: &str = "traceparent";
/// Why a message was parked: one word.
pub const REASON_ATTRIBUTE: &str = "reason";
/// Why a message was parked: a sentence.
pub const REASON_MESSAGE_ATTRIBUTE: &str = "reason-message";

/// What a message asks of a target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// A new input.
    Command(Box<AcceptedCommand>),
    /// A look; a wake-up's carries the version that set it. `look`: somebody else asked for it too (a
    /// signal, a sweep), so that it is made even if the wake-up turns out to be void.
    Nudge {
        wake_rev: Option<u64>,
        look: bool,
        /// A tick's answers of the target's probes, where they look as if something followed from them.
        round: Option<Box<Round>>,
        /// Rounds that somebody else has asked: their requests were ours.
        asked: Vec<Round>,
        /// EC2 said that it takes the spot machine back.
        notice: Option<SpotNotice>,
        /// A machine that bears the target's tags, where a sweep found one that no record knows.
        found: Option<InstanceId>,
        /// A machine of a launch that the target gave up.
        given_up: Option<InstanceId>,
    },
}

impl Work {
    /// Whether it brings what nobody would bring again: it must not be taken for a look among others.
    pub(crate) fn brings_news(&self) -> bool {
        match self {
            Self::Nudge { round, asked, notice, found, given_up, .. } => {
                let told = round.is_some() || !asked.is_empty();
                told || notice.is_some() || found.is_some() || given_up.is_some()
            }
            Self::Command(_) => false,
        }
    }
    /// A look that a signal or a sweep asks for.
    pub(crate) fn look() -> Self {
        Self::Nudge {
            wake_rev: None,
            look: true,
            round: None,
            asked: Vec::new(),
            notice: None,
            found: None,
            given_up: None,
        }
    }
    /// A look with a tick's answers.
    pub(crate) fn round(round: Round) -> Self {
        let mut work = Self::look();
        if let Self::Nudge { round: place, .. } = &mut work {
            *place = Some(Box::new(round));
        }
        work
    }
    /// A look that remembers a round which somebody else has asked.
    pub(crate) fn asked(round: Round) -> Self {
        let mut work = Self::look();
        if let Self::Nudge { asked, .. } = &mut work {
            asked.push(round);
        }
        work
    }
    /// A look for a wake-up of this version.
    pub(crate) fn wake_up(rev: u64) -> Self {
        let mut work = Self::look();
        if let Self::Nudge { wake_rev, look, .. } = &mut work {
            (*wake_rev, *look) = (Some(rev), false);
        }
        work
    }
    /// A look at a machine that no record knows.
    pub(crate) fn found(instance: InstanceId) -> Self {
        let mut work = Self::look();
        if let Self::Nudge { found, .. } = &mut work {
            *found = Some(instance);
        }
        work
    }
    /// A look that ends a machine of a launch that was given up.
    pub(crate) fn given_up(instance: InstanceId) -> Self {
        let mut work = Self::look();
        if let Self::Nudge { given_up, .. } = &mut work {
            *given_up = Some(instance);
        }
        work
    }
}

/// Where a message goes.
pub(crate) enum Routed {
    /// To a target's task.
    To(TargetName, Work),
    /// Nowhere: it is done with.
    Done,
}

/// Reads a message and finds its target. `Err`: again later.
pub(crate) async fn route(shared: &Arc<Shared>, message: &Received) -> Result<Routed, CallError> {
    match lamplighter_events::parse(&message.body, &message.attributes, &shared.fleet.rules) {
        Ok(Inbound::Command(command)) => {
            let given = command.id.clone();
            let id = given.clone().unwrap_or_else(|| message_command_id(message));
            address(shared, message, message.sent_at, &command, id, given.is_some()).await
        }
        Ok(Inbound::Tick(tick)) => {
            let id = tick.command_id();
            let rule = tick.rule.clone();
            // What it asks was asked when it was due, however late it comes: a kill of eleven o'clock does
            // not end the hold of midnight.
            let sent_at = tick.scheduled.min(message.sent_at);
            match tick.command {
                Some(mut command) => {
                    let life = SignedDuration::from_secs(TICK_LIFE_SECONDS);
                    let expires = tick.scheduled.saturating_add(life).unwrap_or(Timestamp::MAX);
                    command.expires = command.expires.or(Some(expires));
                    address(shared, message, sent_at, &command, id, true).await
                }
                // The parser has refused a tick of an unknown rule; nothing is left to do here.
                None => park(shared, message, "unknown-rule", &rule, None).await,
            }
        }
        Ok(Inbound::Signal(signal)) => route_signal(shared, message, signal).await,
        Ok(Inbound::WakeUp(wake_up)) if shared.fleet.has(&wake_up.target) => {
            Ok(Routed::To(wake_up.target, Work::wake_up(wake_up.rev)))
        }
        Ok(Inbound::IdleShard(shard)) => {
            idle_check::ask_shard(shared, &shard).await?;
            Ok(Routed::Done)
        }
        Ok(Inbound::WakeUp(wake_up)) if waits_for_newer_fleet(shared, message) => {
            Err(unknown_for_now(shared, &format!("a wake-up for {}", wake_up.target)))
        }
        Ok(Inbound::WakeUp(wake_up)) => {
            tracing::info!(target_name = %wake_up.target, "a wake-up for a target that left the fleet");
            Ok(Routed::Done)
        }
        Err(malformed)
            if malformed.kind == MalformedKind::UnknownRule
                && waits_for_newer_fleet(shared, message) =>
        {
            Err(unknown_for_now(shared, &malformed.to_string()))
        }
        Err(malformed) => refuse_malformed(shared, message, malformed).await,
    }
}

/// SQS's id of the message, the first one where it was replayed.
fn first_id(message: &Received) -> &str {
    message.attributes.get(FIRST_ID_ATTRIBUTE).unwrap_or(&message.message_id)
}

fn message_command_id(message: &Received) -> CommandId {
    let first = first_id(message);
    // SQS ids are UUIDs; an endpoint with stranger ids still gets a stable one.
    CommandId::parse(first).unwrap_or_else(|_| {
        let safe: String = first.chars().filter(char::is_ascii_alphanumeric).take(128).collect();
        CommandId::parse(&format!("message:{safe}"))
            .unwrap_or_else(|_| unreachable!("a short alphanumeric word is an id"))
    })
}

/// What a signal is about, where that is worth a look. A machine that goes up says `running` soon after
/// `pending`, and a command that runs says how it ended: the former of each pair tells nothing that a
/// pass could act on. Of a task's many steps the end of its way up or down counts.
fn newsworthy(signal: Signal) -> Option<Resource> {
    match signal {
        Signal::Ec2StateChange { instance, state, .. } => {
            (state != "pending").then_some(Resource::Instance(instance))
        }
        Signal::Ec2SpotInterruption { instance, .. } => Some(Resource::Instance(instance)),
        Signal::SsmCommandStatus { instance, status, .. } => instance
            .filter(|_| !matches!(status.as_str(), "Pending" | "InProgress" | "Delayed"))
            .map(Resource::Instance),
        Signal::EcsTaskStateChange { cluster, group, last_status, .. } => {
            let service = group.strip_prefix("service:")?;
            let ended = matches!(last_status.as_str(), "RUNNING" | "STOPPED");
            let id = ServiceId::parse(&cluster, service).ok().filter(|_| ended)?;
            Some(Resource::Service(id))
        }
    }
}

async fn route_signal(
    shared: &Shared,
    message: &Received,
    signal: Signal,
) -> Result<Routed, CallError> {
    let notice = match &signal {
        Signal::Ec2SpotInterruption { instance, at, .. } => {
            Some(SpotNotice { instance: instance.clone(), at: *at })
        }
        _ => None,
    };
    let Some(resource) = newsworthy(signal) else { return Ok(Routed::Done) };
    let owner = match shared.fleet.owner(&resource) {
        Some(owner) => Some(owner),
        // A service is always named by the fleet, so nobody need be asked whose another one is.
        None if resource.service().is_some() => None,
        None => shared.ports.store.owner(&resource).await?,
    };
    match owner {
        Some(owner) if shared.fleet.has(&owner) => {
            let mut look = Work::look();
            if let Work::Nudge { notice: place, .. } = &mut look {
                *place = notice;
            }
            Ok(Routed::To(owner, look))
        }
        // A record has it, and so some fleet had it, or has it now.
        Some(owner) if waits_for_newer_fleet(shared, message) => {
            Err(unknown_for_now(shared, &format!("a signal of {resource}, which is {owner}'s")))
        }
        _ => {
            tracing::debug!(%resource, "a signal of what is nobody's");
            Ok(Routed::Done)
        }
    }
}

/// Whether a message for what this fleet does not name goes back to the queue: while it is young, and until it was
/// received some times. During a rolling deployment old and new workers take from the same queue for minutes, and
/// an old one must not reject what the new fleet names.
fn waits_for_newer_fleet(shared: &Shared, message: &Received) -> bool {
    let wait = shared.options.unknown_wait;
    let age = shared.ports.clock.now().duration_since(message.sent_at);
    let is_young = Duration::try_from(age).is_ok_and(|age| age < wait) || age.is_negative();
    !wait.is_zero() && (is_young || message.receives < UNKNOWN_RECEIVES_MIN)
}

fn unknown_for_now(shared: &Shared, what: &str) -> CallError {
    CallError {
        operation: "lamplighter:Route",
        cause: Cause::NotFound,
        message: format!("{what}; it waits for a worker with a newer fleet file"),
        disposition: Disposition::RetryAfter(UNKNOWN_PAUSE.min(shared.options.unknown_wait)),
        applied: Applied::No,
    }
}

/// The sender's trace. An attribute can hold a megabyte, and the record would keep it.
pub(crate) fn trace_of(message: &Received) -> Option<String> {
    let trace = message.attributes.get(TRACE_ATTRIBUTE)?;
    telemetry::is_traceparent(trace).then(|| trace.clone())
}

async fn address(
    shared: &Arc<Shared>,
    message: &Received,
    sent_at: Timestamp,
    command: &Command,
    id: CommandId,
    had_id: bool,
) -> Result<Routed, CallError> {
    let claimed = match &command.target {
        Some(lamplighter_events::TargetRef::Instance(instance)) => {
            let resource = Resource::Instance(instance.clone());
            match shared.fleet.owner(&resource) {
                Some(_) => None,
                None => shared.ports.store.owner(&resource).await?,
            }
        }
        _ => None,
    };
    let fingerprint = command.fingerprint();
    if command.target.is_none() && command.action == Action::CheckIdle {
        return idle_check::share_out(shared, message, command, &id).await;
    }
    let addressed = match command.action {
        Action::Create => shared.fleet.address_create(command, &id),
        _ => shared.fleet.address(command, claimed.as_ref()),
    };
    match addressed {
        Err(unaddressed)
            if unaddressed.names_something() && waits_for_newer_fleet(shared, message) =>
        {
            Err(unknown_for_now(shared, &unaddressed.to_string()))
        }
        Err(unaddressed) => {
            let id = had_id.then_some(id);
            let text = unaddressed.to_string();
            let refusal = Concluded {
                action: Some(command.action),
                ..Concluded::rejected(id, fingerprint, Cause::NotFound, text)
            };
            park(shared, message, "unknown-target", &unaddressed.to_string(), Some(refusal)).await
        }
        Ok(spec) => {
            let accepted = AcceptedCommand {
                id,
                fingerprint,
                action: command.action,
                holder: command.holder.clone().unwrap_or_else(Holder::shared),
                sent_at,
                hold_for: command.hold_for,
                until: command.until,
                reason: command.reason.clone(),
                expires: command.expires,
                trace: trace_of(message),
                idle: idle_check::override_of(&command.thresholds),
                parameters: command.parameters.clone(),
            };
            Ok(Routed::To(spec.name.clone(), Work::Command(Box::new(accepted))))
        }
    }
}

/// What the outcome says of a command that reaches no record, if it has an id.
pub(crate) struct Concluded {
    pub(crate) id: Option<CommandId>,
    pub(crate) fingerprint: String,
    pub(crate) action: Option<lamplighter_events::Action>,
    pub(crate) target: Option<TargetName>,
    pub(crate) verdict: Verdict,
    pub(crate) cause: Option<Cause>,
    pub(crate) message: String,
    pub(crate) answer: serde_json::Map<String, serde_json::Value>,
}

impl Concluded {
    /// Refused: nothing was begun.
    fn rejected(id: Option<CommandId>, fingerprint: String, cause: Cause, message: String) -> Self {
        Self {
            id,
            fingerprint,
            action: None,
            target: None,
            verdict: Verdict::Rejected,
            cause: Some(cause),
            message,
            answer: serde_json::Map::new(),
        }
    }
}

async fn refuse_malformed(
    shared: &Shared,
    message: &Received,
    malformed: Malformed,
) -> Result<Routed, CallError> {
    let text = malformed.to_string();
    // What cannot be read has no canonical form, and so no fingerprint.
    let none = String::new();
    let refusal = Concluded {
        action: malformed.action,
        target: malformed.target,
        ..Concluded::rejected(malformed.command, none, Cause::Invalid, text.clone())
    };
    park(shared, message, malformed.kind.as_str(), &text, Some(refusal)).await
}

/// The dead letter first, then the outcome's item, then its event, then (by the caller) the delete. So a letter needs
/// no bus. The item names the message that was parked: while the bus is away, each redelivery finds it there and only
/// tries the event again. Whoever dies between letter and item parks it twice. An event that the bus does not
/// take within the queue's retention is lost; its outcome stays readable.
pub(crate) async fn park(
    shared: &Shared,
    message: &Received,
    reason: &'static str,
    text: &str,
    refused: Option<Concluded>,
) -> Result<Routed, CallError> {
    if shared.options.dry_run {
        tracing::info!(message_id = %message.message_id, reason, why = %text, "would be parked");
        return Ok(Routed::Done);
    }
    let refused = refused.filter(|refused| refused.id.is_some());
    let id = refused.as_ref().and_then(|refused| refused.id.clone());
    if let Some(id) = &id
        && let Some(existing) = shared.ports.store.load_command(id).await?
        && existing.parked_as.as_deref() == Some(message.message_id.as_str())
        && let Some(outcome) = existing.outcome
    {
        tracing::info!(command = %id, "parked before; only its event is missing");
        announce(shared, id, existing.target, outcome).await?;
        return Ok(Routed::Done);
    }
    let mut attributes = message.attributes.clone();
    attributes.insert(REASON_ATTRIBUTE.to_owned(), reason.to_owned());
    attributes.insert(REASON_MESSAGE_ATTRIBUTE.to_owned(), shorten(text));
    attributes.insert(SENT_AT_ATTRIBUTE.to_owned(), message.sent_at.to_string());
    attributes.insert(FIRST_ID_ATTRIBUTE.to_owned(), first_id(message).to_owned());
    if let Some(id) = &id {
        attributes.entry(ID_ATTRIBUTE.to_owned()).or_insert_with(|| id.to_string());
    }
    let outgoing = Outgoing { body: message.body.clone(), attributes, delay_seconds: 0 };
    shared.ports.queue.park(&outgoing).await?;
    shared.meters.parked(reason);
    // Never the body: it may hold what should not be in a log.
    tracing::warn!(message_id = %message.message_id, reason, why = %text, "parked as a dead letter");
    if let Some(refused) = refused {
        conclude_as(shared, message.sent_at, refused, Some(&message.message_id)).await?;
    }
    Ok(Routed::Done)
}

/// An attribute of a kilobyte is plenty for a reason.
fn shorten(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect()
}

/// The outcome of a command that never reached a record, and its event.
pub(crate) async fn conclude(
    shared: &Shared,
    sent_at: Timestamp,
    concluded: Concluded,
) -> Result<(), CallError> {
    conclude_as(shared, sent_at, concluded, None).await
}

async fn conclude_as(
    shared: &Shared,
    sent_at: Timestamp,
    concluded: Concluded,
    parked_as: Option<&str>,
) -> Result<(), CallError> {
    let Some(id) = concluded.id else { return Ok(()) };
    let now = shared.ports.clock.now();
    let took = now.duration_since(sent_at).as_millis().max(0);
    let outcome = Outcome {
        command: id.clone(),
        target: concluded.target.clone(),
        action: concluded.action,
        outcome: concluded.verdict,
        cause: concluded.cause,
        message: concluded.message,
        answer: concluded.answer,
        at: now,
        took_ms: u64::try_from(took).unwrap_or(u64::MAX),
    };
    let record = CommandRecord {
        id: id.clone(),
        fingerprint: concluded.fingerprint,
        target: concluded.target.clone(),
        action: concluded.action,
        sent_at,
        accepted_at: now,
        outcome: Some(outcome.clone()),
        parked_as: parked_as.map(str::to_owned),
    };
    let outcome = match shared.ports.store.put_command(&record).await? {
        PutCommand::Done => outcome,
        PutCommand::Exists(existing) => match existing.outcome {
            // Ours, from a try that died before its event was acknowledged, or from another delivery of this message
            // that is still at it: told now, under the same id. Where another message was parked, that one tells it.
            Some(told)
                if is_the_same(&told, &outcome)
                    && existing.parked_as.as_deref().is_none_or(|it| Some(it) == parked_as) =>
            {
                told
            }
            _ => {
                tracing::info!(command = %id, "it was taken before: its first outcome stands");
                return Ok(());
            }
        },
    };
    announce(shared, &id, concluded.target, outcome).await
}

/// Whether two outcomes say the same, apart from when.
fn is_the_same(one: &Outcome, other: &Outcome) -> bool {
    (one.outcome, one.cause, &one.message) == (other.outcome, other.cause, &other.message)
}

/// Sends an outcome's event straight away (there is no record whose outbox could hold it). The
/// message is deleted only after the acknowledgement.
pub(crate) async fn announce(
    shared: &Shared,
    id: &CommandId,
    target: Option<TargetName>,
    outcome: Outcome,
) -> Result<(), CallError> {
    let body = match outcome.outcome {
        Verdict::Rejected => EventBody::CommandRejected { outcome },
        Verdict::Done | Verdict::Failed => EventBody::CommandCompleted { outcome },
    };
    let event =
        LifecycleEvent { id: format!("command:{id}"), at: shared.ports.clock.now(), target, body };
    let sent = shared.ports.bus.emit(std::slice::from_ref(&event)).await?;
    if sent.contains(&event.id) {
        return Ok(());
    }
    Err(CallError {
        operation: "events:PutEvents",
        cause: Cause::Throttled,
        message: format!("the event {} was not acknowledged", event.id),
        disposition: Disposition::Retry,
        applied: Applied::No,
    })
}
