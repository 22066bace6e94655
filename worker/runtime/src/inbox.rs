//! From a message to work: parsed, and addressed to a target.
//!
//! What cannot be understood goes to the dead letters at once, with its reason as an attribute, and
//! with a rejected outcome where it had an id. It is never dropped and never tried to death. A message
//! that is nobody's (a signal of a foreign machine) is dropped, since it says nothing about ours.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{
    Action, Cause, Command, CommandId, EventBody, Holder, Inbound, InstanceId, LifecycleEvent,
    Malformed, Outcome, Signal, TargetName, Verdict,
};
use lamplighter_lifecycle::{
    AcceptedCommand, CommandRecord, Resource, Round, ServiceId, SpotNotice,
};

use crate::idle_check;
use crate::ports::{CallError, Outgoing, PutCommand, Received};
use crate::worker::Shared;

/// A tick is worth nothing long after it was due: a nightly stop that comes in the morning would stop what the
/// day has begun. Half an hour is some ticks of the usual five minutes, and a worker's longest restart.
const TICK_LIFE_SECONDS: i64 = 30 * 60;
/// The attribute that keeps the first sending's time through a replay or a fan-out.
pub const SENT_AT_ATTRIBUTE: &str = "lamplighter-sent-at";
/// The attribute with a command's id.
pub const ID_ATTRIBUTE: &str = "id";
/// The attribute that keeps SQS's first id of a message through a replay. It is the command's where that
/// has none of its own, and not one of its own: a command that is parked again is not used up by it.
pub const FIRST_ID_ATTRIBUTE: &str = "lamplighter-message-id";
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
        /// EC2 said that it takes the spot machine back.
        notice: Option<SpotNotice>,
        /// A machine that bears the target's tags, where a sweep found one that no record knows.
        found: Option<InstanceId>,
    },
}

impl Work {
    /// Whether it brings what nobody would bring again: it must not be taken for a look among others.
    pub(crate) fn brings_news(&self) -> bool {
        match self {
            Self::Nudge { notice, found, .. } => notice.is_some() || found.is_some(),
            Self::Command(_) => false,
        }
    }
    /// A look that a signal or a sweep asks for.
    pub(crate) fn look() -> Self {
        Self::Nudge { wake_rev: None, look: true, round: None, notice: None, found: None }
    }
    /// A look with a tick's answers.
    pub(crate) fn round(round: Round) -> Self {
        let round = Some(Box::new(round));
        Self::Nudge { wake_rev: None, look: true, round, notice: None, found: None }
    }
    /// A look at a machine that no record knows.
    pub(crate) fn found(instance: InstanceId) -> Self {
        let found = Some(instance);
        Self::Nudge { wake_rev: None, look: true, round: None, notice: None, found }
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
        Ok(Inbound::Signal(signal)) => Ok(route_signal(shared, signal).await?),
        Ok(Inbound::WakeUp(wake_up)) if shared.fleet.has(&wake_up.target) => Ok(Routed::To(
            wake_up.target,
            Work::Nudge {
                wake_rev: Some(wake_up.rev),
                look: false,
                round: None,
                notice: None,
                found: None,
            },
        )),
        Ok(Inbound::IdleShard(shard)) => {
            idle_check::ask_shard(shared, &shard).await?;
            Ok(Routed::Done)
        }
        Ok(Inbound::WakeUp(wake_up)) => {
            tracing::info!(target_name = %wake_up.target, "a wake-up for a target that left the fleet");
            Ok(Routed::Done)
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

async fn route_signal(shared: &Shared, signal: Signal) -> Result<Routed, CallError> {
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
    Ok(match owner.filter(|owner| shared.fleet.has(owner)) {
        Some(owner) => {
            let look = Work::Nudge { wake_rev: None, look: true, round: None, notice, found: None };
            Routed::To(owner, look)
        }
        None => {
            tracing::debug!(%resource, "a signal of what is nobody's");
            Routed::Done
        }
    })
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
                trace: message.attributes.get(TRACE_ATTRIBUTE).cloned(),
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

/// Rejected outcome first, then the dead letter: whoever dies between does it again, once.
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
    let id = refused.as_ref().and_then(|refused| refused.id.as_ref()).map(ToString::to_string);
    if let Some(refused) = refused.filter(|refused| refused.id.is_some()) {
        conclude(shared, message.sent_at, refused).await?;
    }
    let mut attributes = message.attributes.clone();
    attributes.insert(REASON_ATTRIBUTE.to_owned(), reason.to_owned());
    attributes.insert(REASON_MESSAGE_ATTRIBUTE.to_owned(), shorten(text));
    attributes.insert(SENT_AT_ATTRIBUTE.to_owned(), message.sent_at.to_string());
    attributes.insert(FIRST_ID_ATTRIBUTE.to_owned(), first_id(message).to_owned());
    if let Some(id) = id {
        attributes.entry(ID_ATTRIBUTE.to_owned()).or_insert(id);
    }
    let outgoing = Outgoing { body: message.body.clone(), attributes, delay_seconds: 0 };
    shared.ports.queue.park(&outgoing).await?;
    shared.meters.parked(reason);
    // Never the body: it may hold what should not be in a log.
    tracing::warn!(message_id = %message.message_id, reason, why = %text, "parked as a dead letter");
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
    };
    let outcome = match shared.ports.store.put_command(&record).await? {
        PutCommand::Done => outcome,
        PutCommand::Exists(existing) => match existing.outcome {
            // Ours, from a try that died before its event was acknowledged: told now, under the same id.
            Some(told) if is_the_same(&told, &outcome) => told,
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
        disposition: crate::ports::Disposition::Retry,
        applied: crate::ports::Applied::No,
    })
}
