//! Outcomes of commands that reach no record, and dead letters.

use jiff::Timestamp;
use lamplighter_events::{
    Cause, CommandId, EventBody, LifecycleEvent, Outcome, TargetName, Verdict,
};
use lamplighter_lifecycle::CommandRecord;

use crate::attributes::{ID_ATTRIBUTE, REASON_ATTRIBUTE, REASON_MESSAGE_ATTRIBUTE};
use crate::ports::{Applied, CallError, Disposition, Outgoing, PutCommand, Received};
use crate::sent::{FIRST_ID_ATTRIBUTE, SENT_AT_ATTRIBUTE};
use crate::shared::Shared;
use crate::work::Routed;

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
    pub(crate) fn rejected(
        id: Option<CommandId>,
        fingerprint: String,
        cause: Cause,
        message: String,
    ) -> Self {
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

/// SQS's id of the message, the first one where it was replayed.
pub(crate) fn first_id(message: &Received) -> &str {
    message.attributes.get(FIRST_ID_ATTRIBUTE).unwrap_or(&message.message_id)
}
