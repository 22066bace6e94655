//! The dead letters: list, show, replay.
//!
//! *Theory.* SQS has no look without a receive. A list therefore takes messages out of sight for a
//! while, and puts them back at once when it has seen enough. A replay sends a message to the command
//! queue first and deletes it here after: at least once, and what repeats dies at its id. What was sent
//! first, and when, stays with the message, so a replay can undo nothing that is newer.
//!
//! *Invariants.* A replay takes only what was there when it began, by AWS's clock: what it sends, and is parked again,
//! is not sent again. What came later is left, and counted. `reason*` attributes do not go along.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, Message, MessageSystemAttributeName,
};
use jiff::{SignedDuration, Timestamp};
use lamplighter_events::Cause;
use lamplighter_runtime::ports::{Applied, CallError, Disposition, Outgoing};
use lamplighter_runtime::{
    FIRST_ID_ATTRIBUTE as FIRST_ID, ID_ATTRIBUTE, SENT_AT_ATTRIBUTE as SENT_AT,
};
use serde::Serialize;

use crate::client::Aws;
use crate::disposition::{call_error, own_error};
use crate::names::Names;
use crate::sqs::{QueueUrl, received, send};

const RECEIVE: &str = "sqs:ReceiveMessage";
const RELEASE: &str = "sqs:ChangeMessageVisibilityBatch";
const DELETE: &str = "sqs:DeleteMessage";
/// Long enough to page through a few thousand messages, short enough to wait for after a crash.
const HIDE_SECONDS: i32 = 60;
/// One second asks all of SQS's servers; none has a message then.
const WAIT_SECONDS: i32 = 1;
/// Nobody reads more than this; replay has no such bound.
pub const LISTED_MAX: usize = 10_000;
/// The prefix of the attributes that say why a message is here.
const REASON: &str = "reason";

/// A message that could not be worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// SQS's id of it here.
    pub message_id: String,
    /// The command's id, or SQS's first id of the message; `None` where SQS moved it, and its body was
    /// read by nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Why it is here; a message that SQS itself moved says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was first sent.
    pub sent_at: Timestamp,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Its body, as it came.
    pub body: String,
}

/// Which messages to replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All that were there at the beginning.
    All,
    /// The one with this message id, or with this command id.
    Id(String),
    /// Those whose reason contains this.
    Reason(String),
}

/// How far a replay has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Sent to the command queue and deleted here.
    pub replayed: u64,
    /// Looked at and left here.
    pub kept: u64,
    /// Of those, what arrived after the replay had begun: another replay takes them.
    pub late: u64,
}

struct Held {
    letter: DeadLetter,
    receipt: String,
    /// When it came into this queue.
    arrived: Option<Timestamp>,
}

/// Up to `limit` dead letters, oldest first. They are out of sight for some seconds meanwhile.
///
/// # Errors
/// Where SQS refuses or does not answer.
pub async fn list(aws: &Aws, names: &Names, limit: usize) -> Result<Vec<DeadLetter>, CallError> {
    let queue = QueueUrl::new(&names.dead_letters);
    let mut held: Vec<Held> = Vec::new();
    let limit = limit.min(LISTED_MAX);
    let result = page(&aws.sqs, &queue, &mut held, limit, |_| false).await;
    let receipts: Vec<&str> = held.iter().map(|held| held.receipt.as_str()).collect();
    let released = release(&aws.sqs, &queue, &receipts).await;
    result?;
    released?;
    let mut letters: Vec<DeadLetter> = held.into_iter().map(|held| held.letter).collect();
    letters.sort_by(|a, b| (a.sent_at, &a.message_id).cmp(&(b.sent_at, &b.message_id)));
    letters.truncate(limit);
    Ok(letters)
}

/// The dead letter with this message id or command id.
///
/// # Errors
/// Where SQS refuses or does not answer.
pub async fn show(aws: &Aws, names: &Names, id: &str) -> Result<Option<DeadLetter>, CallError> {
    let queue = QueueUrl::new(&names.dead_letters);
    let wanted = Which::Id(id.to_owned());
    let mut held: Vec<Held> = Vec::new();
    let result =
        page(&aws.sqs, &queue, &mut held, LISTED_MAX, |letter| matches(letter, &wanted)).await;
    let receipts: Vec<&str> = held.iter().map(|held| held.receipt.as_str()).collect();
    let released = release(&aws.sqs, &queue, &receipts).await;
    result?;
    released?;
    Ok(held.into_iter().map(|held| held.letter).find(|letter| matches(letter, &wanted)))
}

/// Sends dead letters back to the command queue, at most `per_second` of them a second.
///
/// # Errors
/// Where SQS refuses or does not answer; what was replayed until then stays so.
pub async fn replay(
    aws: &Aws,
    names: &Names,
    which: &Which,
    per_second: u32,
    mut progress: impl FnMut(&Replayed),
) -> Result<Replayed, CallError> {
    let from = QueueUrl::new(&names.dead_letters);
    let to = QueueUrl::new(&names.commands);
    let pause = Duration::from_secs(1) / per_second.max(1);
    let called = Timestamp::now();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut kept: Vec<String> = Vec::new();
    let mut so_far = Replayed::default();
    let mut work = async || -> Result<(), CallError> {
        loop {
            let batch = receive(&aws.sqs, &from).await?;
            // The first answer tells AWS's time, which stamps what arrives.
            let began = began_at(called, aws.clock().skew());
            let before = seen.len();
            let mut open = batch.into_iter();
            while let Some(held) = open.next() {
                let is_new = seen.insert(held.letter.message_id.clone());
                let late = held.arrived.is_some_and(|arrived| arrived > began);
                if !is_new || late || !matches(&held.letter, which) {
                    so_far.kept += u64::from(is_new);
                    so_far.late += u64::from(is_new && late && matches(&held.letter, which));
                    kept.push(held.receipt);
                    continue;
                }
                let moved = match send(&aws.sqs, &to, &outgoing(&held.letter)).await {
                    Ok(()) => delete(&aws.sqs, &from, &held.receipt).await,
                    refused => refused,
                };
                if let Err(error) = moved {
                    kept.push(held.receipt);
                    kept.extend(open.map(|held| held.receipt));
                    return Err(error);
                }
                so_far.replayed += 1;
                progress(&so_far);
                if matches!(which, Which::Id(_)) {
                    kept.extend(open.map(|held| held.receipt));
                    return Ok(());
                }
                tokio::time::sleep(pause).await;
            }
            // Nothing new: the queue is empty, or what we hold has come into sight again.
            if seen.len() == before {
                return Ok(());
            }
        }
    };
    let result = work().await;
    let receipts: Vec<&str> = kept.iter().map(String::as_str).collect();
    let released = release(&aws.sqs, &from, &receipts).await;
    result?;
    released?;
    Ok(so_far)
}

/// When a replay began by AWS's clock. An endpoint that tells no time is taken to have this machine's.
fn began_at(called: Timestamp, skew: Option<SignedDuration>) -> Timestamp {
    called.saturating_add(skew.unwrap_or_default()).unwrap_or(called)
}

/// The command's id: its own, else SQS's first one of the message.
fn id_of(attributes: &BTreeMap<String, String>) -> Option<String> {
    attributes.get(ID_ATTRIBUTE).or_else(|| attributes.get(FIRST_ID)).cloned()
}

/// A dead letter as the command that it was.
fn outgoing(letter: &DeadLetter) -> Outgoing {
    let mut attributes: BTreeMap<String, String> = letter
        .attributes
        .iter()
        .filter(|(name, _)| !name.starts_with(REASON))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    attributes.entry(FIRST_ID.to_owned()).or_insert_with(|| letter.message_id.clone());
    // Not what the letter says, but what was believed of it: the mark above would make a forged time count.
    attributes.insert(SENT_AT.to_owned(), letter.sent_at.to_string());
    Outgoing { body: letter.body.clone(), attributes, delay_seconds: 0 }
}

fn matches(letter: &DeadLetter, which: &Which) -> bool {
    match which {
        Which::All => true,
        Which::Id(id) => letter.message_id == *id || letter.id.as_deref() == Some(id),
        Which::Reason(text) => letter
            .attributes
            .iter()
            .any(|(name, value)| name.starts_with(REASON) && value.contains(text.as_str())),
    }
}

/// Pages until nothing new comes, `limit` are held, or one is `enough`.
async fn page(
    client: &Client,
    queue: &QueueUrl,
    held: &mut Vec<Held>,
    limit: usize,
    enough: impl Fn(&DeadLetter) -> bool,
) -> Result<(), CallError> {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    while held.len() < limit {
        let before = seen.len();
        for message in receive(client, queue).await? {
            if seen.insert(message.letter.message_id.clone()) {
                held.push(message);
            }
        }
        if seen.len() == before || held[before.min(held.len())..].iter().any(|h| enough(&h.letter))
        {
            break;
        }
    }
    Ok(())
}

async fn receive(client: &Client, queue: &QueueUrl) -> Result<Vec<Held>, CallError> {
    let url = queue.get(client).await?;
    let answer = client
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(10)
        .visibility_timeout(HIDE_SECONDS)
        .wait_time_seconds(WAIT_SECONDS)
        .message_attribute_names("All")
        .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
        .send()
        .await
        .map_err(|error| call_error(RECEIVE, &error))?;
    Ok(answer.messages.unwrap_or_default().into_iter().filter_map(held).collect())
}

fn held(message: Message) -> Option<Held> {
    let arrived = message
        .attributes()
        .and_then(|all| all.get(&MessageSystemAttributeName::SentTimestamp))
        .and_then(|millis| Timestamp::from_millisecond(millis.parse().ok()?).ok());
    let message = received(message)?;
    Some(Held {
        receipt: message.receipt.0,
        arrived,
        letter: DeadLetter {
            message_id: message.message_id,
            id: id_of(&message.attributes),
            reason: message.attributes.get(REASON).cloned(),
            sent_at: message.sent_at,
            attributes: message.attributes,
            body: message.body,
        },
    })
}

/// Puts messages back into sight.
async fn release(client: &Client, queue: &QueueUrl, receipts: &[&str]) -> Result<(), CallError> {
    for some in receipts.chunks(10) {
        let url = queue.get(client).await?;
        let mut call = client.change_message_visibility_batch().queue_url(url);
        for (at, receipt) in some.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(at.to_string())
                .receipt_handle(*receipt)
                .visibility_timeout(0)
                .build()
                .map_err(|error| {
                    let words = error.to_string();
                    own_error(RELEASE, Cause::Invalid, Disposition::Fail, Applied::No, words)
                })?;
            call = call.entries(entry);
        }
        // An entry that fails is in sight again, or will be within the minute.
        call.send().await.map_err(|error| call_error(RELEASE, &error))?;
    }
    Ok(())
}

async fn delete(client: &Client, queue: &QueueUrl, receipt: &str) -> Result<(), CallError> {
    let url = queue.get(client).await?;
    let call = client.delete_message().queue_url(url).receipt_handle(receipt);
    call.send().await.map(drop).map_err(|error| call_error(DELETE, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(attributes: &[(&str, &str)]) -> DeadLetter {
        let attributes: BTreeMap<String, String> =
            attributes.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        DeadLetter {
            message_id: "m-1".to_owned(),
            id: id_of(&attributes),
            reason: attributes.get("reason").cloned(),
            sent_at: Timestamp::UNIX_EPOCH,
            attributes,
            body: "{}".to_owned(),
        }
    }

    #[test]
    fn a_replayed_message_keeps_its_id_and_time_and_loses_its_reason() {
        let sent = outgoing(&letter(&[
            ("reason", "no action"),
            ("reason-field", "x"),
            ("action", "start"),
        ]));
        let expected = [("action", "start"), (FIRST_ID, "m-1"), (SENT_AT, "1970-01-01T00:00:00Z")];
        let expected = expected.map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(sent.attributes, BTreeMap::from(expected));
        // Parked before, and so seen under another id of SQS's now.
        let sent = outgoing(&letter(&[(FIRST_ID, "m-0")]));
        assert_eq!(sent.attributes[FIRST_ID], "m-0");
    }

    #[test]
    fn a_replay_does_not_vouch_for_a_time_that_was_not_believed() {
        // SQS moved it here, with the attributes of its sender.
        let sent = outgoing(&letter(&[(SENT_AT, "2099-01-01T00:00:00Z")]));
        assert_eq!(sent.attributes[SENT_AT], "1970-01-01T00:00:00Z");
        assert_eq!(sent.attributes[FIRST_ID], "m-1");
    }

    #[test]
    fn a_replay_from_a_machine_whose_clock_is_wrong_takes_what_was_there() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let check = |called: &str, skew: Option<i64>, expected: &str| {
            let began = began_at(at(called), skew.map(SignedDuration::from_secs));
            assert_eq!(began, at(expected), "{called} {skew:?}");
        };
        check("2026-11-20T10:00:00Z", None, "2026-11-20T10:00:00Z");
        check("2026-11-20T10:00:00Z", Some(0), "2026-11-20T10:00:00Z");
        // This machine is 40 s behind: by its own clock, what arrived 10 s ago comes from the future.
        check("2026-11-20T10:00:00Z", Some(40), "2026-11-20T10:00:40Z");
        check("2026-11-20T10:00:00Z", Some(-40), "2026-11-20T09:59:20Z");
    }

    #[test]
    fn letters_are_chosen_by_id_or_reason() {
        let letter = letter(&[("id", "c-7"), ("reason", "unknown action \"jump\"")]);
        for (which, expected) in [
            (Which::All, true),
            (Which::Id("m-1".to_owned()), true),
            (Which::Id("c-7".to_owned()), true),
            (Which::Id("c-8".to_owned()), false),
            (Which::Reason("unknown action".to_owned()), true),
            (Which::Reason("not JSON".to_owned()), false),
        ] {
            assert_eq!(matches(&letter, &which), expected, "{which:?}");
        }
    }
}
