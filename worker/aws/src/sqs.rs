//! SQS: the command queue and its dead letters.
//!
//! *Theory.* Names become URLs at their first use, so a worker starts before its queues exist and says
//! what is missing. Deletes share requests of ten, and so do sends; each entry is acknowledged for itself.
//! The poller has a client of its own: its waits and retries take nothing from the deletes.
//!
//! *Invariants.* A receive always ends: its wait and ten seconds. A delete or delay of a message that is
//! no longer ours is a success. What goes out passes SQS's limits, except for a body that does not. A letter also
//! passes the limit of the dead-letter queue, which may be smaller: its attributes give way, ours last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, DeleteMessageBatchRequestEntry, Message, MessageAttributeValue,
    MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
};
use jiff::Timestamp;
use lamplighter_events::Cause;
use lamplighter_runtime::ports::{
    Applied, CallError, Disposition, Outgoing, Queue, Receipt, Received,
};
use lamplighter_runtime::{
    FIRST_ID_ATTRIBUTE, ID_ATTRIBUTE, REASON_ATTRIBUTE, REASON_MESSAGE_ATTRIBUTE,
    SENT_AT_ATTRIBUTE, effective_sent_at,
};
use tokio::sync::OnceCell;

use crate::attempts::Attempts;
use crate::batch::{Batcher, Shared};
use crate::client::Aws;
use crate::disposition::{ErrorCode, call_error, entry_error, own_error};
use crate::timeouts::{RECEIVE_GRACE, timeouts};

const RECEIVE: &str = "sqs:ReceiveMessage";
const DELAY: &str = "sqs:ChangeMessageVisibility";
pub(crate) const SEND: &str = "sqs:SendMessage";
const FIND: &str = "sqs:GetQueueUrl";
/// SQS's bound for body and attributes together. A queue may have a smaller one (`MaximumMessageSize`).
pub(crate) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// What the command queue must take: the largest message of ours is a part of an idle check, of up to 200 KiB. It is also
/// the most bytes of our requests with several messages: their bound was this for years, and still is at other endpoints.
pub(crate) const MESSAGE_BYTES_NEEDED: usize = 256 * 1024;
/// SQS's bound for the entries of one request.
const BATCH_MAX: usize = 10;
/// SQS's bound for message attributes.
const ATTRIBUTES_MAX: usize = 10;
/// SQS's bounds for a delay and a visibility.
const DELAY_SECONDS_MAX: u32 = 900;
const VISIBILITY_SECONDS_MAX: u32 = 43_200;

/// A queue by name or URL; the URL is looked up once.
#[derive(Debug, Clone)]
pub(crate) struct QueueUrl {
    name: String,
    url: Arc<OnceCell<String>>,
}

impl QueueUrl {
    pub(crate) fn new(name: &str) -> Self {
        let url = name.contains("://").then(|| name.to_owned());
        Self { name: name.to_owned(), url: Arc::new(OnceCell::new_with(url)) }
    }

    /// The name, also where a URL was given.
    pub(crate) fn short(&self) -> &str {
        self.name.trim_end_matches('/').rsplit('/').next().unwrap_or(&self.name)
    }

    pub(crate) async fn get(&self, client: &Client) -> Result<&str, CallError> {
        let find = async || {
            let answer = client.get_queue_url().queue_name(&self.name).send().await;
            let answer = answer.map_err(|error| {
                let error = call_error(FIND, &error);
                CallError {
                    message: format!("the queue {}: {}", self.name, error.message),
                    ..error
                }
            })?;
            answer.queue_url.ok_or_else(|| {
                let words = format!("the queue {} has no URL", self.name);
                own_error(FIND, Cause::NotFound, Disposition::Retry, Applied::No, words)
            })
        };
        self.url.get_or_try_init(find).await.map(String::as_str)
    }
}

/// The port over two queues.
pub(crate) struct SqsQueue {
    poller: Client,
    edits: Client,
    parks: Client,
    commands: QueueUrl,
    dead_letters: QueueUrl,
    letter_bytes: OnceCell<usize>,
    sends: Batcher<Sends>,
    deletes: Batcher<Deletes>,
}

impl SqsQueue {
    pub(crate) fn new(aws: &Aws, commands: QueueUrl, dead_letters: QueueUrl) -> Self {
        let sends = Sends { client: aws.sqs.clone(), queue: commands.clone() };
        let deletes = Deletes { client: aws.edits.clone(), queue: commands.clone() };
        Self {
            poller: aws.poller.clone(),
            edits: aws.edits.clone(),
            parks: aws.sqs.clone(),
            commands,
            dead_letters,
            letter_bytes: OnceCell::new(),
            sends: Batcher::new(sends),
            deletes: Batcher::new(deletes),
        }
    }
}

#[async_trait]
impl Queue for SqsQueue {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Received>, CallError> {
        let wait = Duration::from_secs(wait.as_secs().min(20));
        let limit = wait + RECEIVE_GRACE;
        let url = self.commands.get(&self.poller).await?;
        let answer = self
            .poller
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(i32::try_from(max.clamp(1, 10)).unwrap_or(10))
            .wait_time_seconds(i32::try_from(wait.as_secs()).unwrap_or(20))
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .customize()
            .config_override(
                aws_sdk_sqs::Config::builder().timeout_config(timeouts(limit, limit * 2)),
            )
            .send()
            .await
            .map_err(|error| call_error(RECEIVE, &error))?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(received).collect())
    }

    async fn send(&self, message: &Outgoing) -> Result<(), CallError> {
        self.sends.call(message.clone()).await
    }

    async fn delete(&self, receipt: &Receipt) -> Result<(), CallError> {
        self.deletes.call(receipt.clone()).await
    }

    async fn delay(&self, receipt: &Receipt, seconds: u32) -> Result<(), CallError> {
        let url = self.commands.get(&self.edits).await?;
        let answer = self
            .edits
            .change_message_visibility()
            .queue_url(url)
            .receipt_handle(&receipt.0)
            .visibility_timeout(seconds.min(VISIBILITY_SECONDS_MAX).cast_signed())
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if is_stale(error.code(), error.message()) => Ok(()),
            Err(error) => Err(call_error(DELAY, &error)),
        }
    }

    async fn park(&self, message: &Outgoing) -> Result<(), CallError> {
        send_within(&self.parks, &self.dead_letters, message, self.letter_bytes().await).await
    }
}

impl SqsQueue {
    /// The largest message that the dead-letter queue takes, read once. A letter must not wait for that, so where it
    /// cannot be read the queue is taken to be as SQS makes it.
    async fn letter_bytes(&self) -> usize {
        let read = async || match look_at(&self.parks, &self.dead_letters).await {
            Ok(look) => Ok(look.message_bytes_max.unwrap_or(MESSAGE_BYTES_MAX)),
            Err(error) => {
                tracing::warn!(%error, "the dead-letter queue's MaximumMessageSize cannot be read");
                Err(())
            }
        };
        self.letter_bytes.get_or_try_init(read).await.copied().unwrap_or(MESSAGE_BYTES_MAX)
    }
}

/// Sends one message, with as many attributes as SQS takes.
pub(crate) async fn send(
    client: &Client,
    to: &QueueUrl,
    message: &Outgoing,
) -> Result<(), CallError> {
    send_within(client, to, message, MESSAGE_BYTES_MAX).await
}

/// The same, to a queue with a limit of its own.
async fn send_within(
    client: &Client,
    to: &QueueUrl,
    message: &Outgoing,
    bytes_max: usize,
) -> Result<(), CallError> {
    let url = to.get(client).await?;
    let mut call = client
        .send_message()
        .queue_url(url)
        .message_body(&message.body)
        .delay_seconds(message.delay_seconds.min(DELAY_SECONDS_MAX).cast_signed());
    for (name, value) in fitting(message, bytes_max) {
        call = call.message_attributes(name, text(value)?);
    }
    // A first attempt that was lost may have sent it, whatever became of the others.
    let attempts = Attempts::default();
    let answer = call.customize().interceptor(attempts.clone()).send().await;
    answer.map(drop).map_err(|error| attempts.correct(call_error(SEND, &error)))
}

fn text(value: String) -> Result<MessageAttributeValue, CallError> {
    let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
    value.map_err(|error| unwritten(SEND, &error.to_string()))
}

/// Something that the SDK does not let us write: a fault of ours.
fn unwritten(operation: &'static str, words: &str) -> CallError {
    own_error(operation, Cause::Invalid, Disposition::Fail, Applied::No, words)
}

/// What SQS counts of a message.
fn size(message: &Outgoing) -> usize {
    let attributes = fitting(message, MESSAGE_BYTES_MAX);
    let sizes = attributes.iter().map(|(name, value)| name.len() + "String".len() + value.len());
    message.body.len() + sizes.sum::<usize>()
}

/// The messages in runs that one request may hold.
fn runs(messages: &[Outgoing]) -> Vec<&[Outgoing]> {
    let (mut runs, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, message) in messages.iter().enumerate() {
        let size = size(message);
        if at > from && (bytes + size > MESSAGE_BYTES_NEEDED || at - from == BATCH_MAX) {
            runs.push(&messages[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += size;
    }
    runs.push(&messages[from..]);
    runs
}

/// The shared SendMessageBatch.
struct Sends {
    client: Client,
    queue: QueueUrl,
}

impl Sends {
    async fn request(
        &self,
        messages: &[Outgoing],
    ) -> Result<BTreeMap<usize, CallError>, CallError> {
        if let [alone] = messages {
            return send(&self.client, &self.queue, alone).await.map(|()| BTreeMap::new());
        }
        let url = self.queue.get(&self.client).await?;
        let mut call = self.client.send_message_batch().queue_url(url);
        for (at, message) in messages.iter().enumerate() {
            let delay = message.delay_seconds.min(DELAY_SECONDS_MAX).cast_signed();
            let mut entry = SendMessageBatchRequestEntry::builder()
                .id(at.to_string())
                .message_body(&message.body)
                .delay_seconds(delay);
            for (name, value) in fitting(message, MESSAGE_BYTES_MAX) {
                entry = entry.message_attributes(name, text(value)?);
            }
            let entry = entry.build();
            call = call.entries(entry.map_err(|it| unwritten(Self::OPERATION, &it.to_string()))?);
        }
        let attempts = Attempts::default();
        let answer = call.customize().interceptor(attempts.clone()).send().await;
        let answer = answer.map_err(|it| attempts.correct(call_error(Self::OPERATION, &it)))?;
        Ok(refusals(Self::OPERATION, answer.failed()))
    }
}

#[async_trait]
impl Shared for Sends {
    type Item = Outgoing;
    type Answer = ();
    const OPERATION: &'static str = "sqs:SendMessageBatch";
    const ITEMS_MAX: usize = BATCH_MAX;

    async fn call(&self, items: Vec<Outgoing>) -> Vec<Result<(), CallError>> {
        let mut answers = Vec::new();
        for run in runs(&items) {
            answers.extend(each(run.len(), self.request(run).await));
        }
        answers
    }
}

/// The entries of a batch that SQS refused, by their places.
fn refusals(
    operation: &'static str,
    failed: &[BatchResultErrorEntry],
) -> BTreeMap<usize, CallError> {
    let refused = failed.iter().filter_map(|entry| {
        let (code, ours) = (Some(entry.code()), entry.sender_fault());
        let error = entry_error(operation, code, entry.message(), ours);
        Some((entry.id().parse().ok()?, error))
    });
    refused.collect()
}

/// What became of each of so many entries.
fn each(
    entries: usize,
    answer: Result<BTreeMap<usize, CallError>, CallError>,
) -> Vec<Result<(), CallError>> {
    match answer {
        Ok(mut refused) => (0..entries).map(|at| refused.remove(&at).map_or(Ok(()), Err)).collect(),
        Err(error) => (0..entries).map(|_| Err(error.clone())).collect(),
    }
}

/// The attributes that go along: none that is empty, none with a character that SQS refuses. Where all would pass a
/// bound, ours stay (the time of sending and its mark before the reason), and the sender's alphabetically last are left out.
fn fitting(message: &Outgoing, bytes_max: usize) -> Vec<(&str, String)> {
    const OURS: [&str; 5] = [
        FIRST_ID_ATTRIBUTE,
        SENT_AT_ATTRIBUTE,
        ID_ATTRIBUTE,
        REASON_ATTRIBUTE,
        REASON_MESSAGE_ATTRIBUTE,
    ];
    let rank = |name: &str| OURS.iter().position(|ours| *ours == name).unwrap_or(OURS.len());
    let mut attributes: Vec<(&String, &String)> = message.attributes.iter().collect();
    attributes.sort_by_key(|(name, _)| rank(name));
    let mut bytes = message.body.len();
    let mut kept = Vec::new();
    for (name, value) in attributes {
        let value: String = value
            .chars()
            .map(|c| if is_sendable(c) { c } else { char::REPLACEMENT_CHARACTER })
            .collect();
        let size = name.len() + "String".len() + value.len();
        if value.is_empty() {
            continue;
        }
        if kept.len() == ATTRIBUTES_MAX || bytes + size > bytes_max {
            break;
        }
        bytes += size;
        kept.push((name.as_str(), value));
    }
    kept
}

fn is_sendable(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// A message of SQS in our words; one without receipt or body is no message.
pub(crate) fn received(message: Message) -> Option<Received> {
    let attributes: BTreeMap<String, String> = message
        .message_attributes
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(name, value)| value.string_value.map(|text| (name, text)))
        .collect();
    let system = message.attributes.unwrap_or_default();
    let stamp = system
        .get(&MessageSystemAttributeName::SentTimestamp)
        .and_then(|millis| Timestamp::from_millisecond(millis.parse().ok()?).ok());
    // An endpoint that stamps nothing leaves us with the time of receipt.
    let sent_at = effective_sent_at(&attributes, stamp.unwrap_or_else(Timestamp::now));
    let receives = system
        .get(&MessageSystemAttributeName::ApproximateReceiveCount)
        .and_then(|count| count.parse().ok());
    Some(Received {
        message_id: message.message_id.unwrap_or_default(),
        receipt: Receipt(message.receipt_handle?),
        body: message.body?,
        attributes,
        sent_at,
        receives: receives.unwrap_or(1),
    })
}

/// A receipt that SQS no longer takes: the message is deleted, or somebody else's by now.
fn is_stale(code: Option<&str>, message: Option<&str>) -> bool {
    match ErrorCode::parse(code, 400) {
        ErrorCode::StaleReceipt => true,
        ErrorCode::Invalid => message.is_some_and(|words| {
            words.contains("receipt handle has expired") || words.contains("Message does not exist")
        }),
        _ => false,
    }
}

/// The shared DeleteMessageBatch.
struct Deletes {
    client: Client,
    queue: QueueUrl,
}

impl Deletes {
    async fn request(&self, receipts: &[Receipt]) -> Result<BTreeMap<usize, CallError>, CallError> {
        let url = self.queue.get(&self.client).await?;
        let mut call = self.client.delete_message_batch().queue_url(url);
        for (at, receipt) in receipts.iter().enumerate() {
            // The same message can stand twice in one batch, so its place is its id.
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(at.to_string())
                .receipt_handle(&receipt.0)
                .build()
                .map_err(|error| unwritten(Self::OPERATION, &error.to_string()))?;
            call = call.entries(entry);
        }
        let answer = call.send().await.map_err(|error| call_error(Self::OPERATION, &error))?;
        let failed = answer.failed.into_iter();
        let refused = failed.filter(|entry| !is_stale(Some(entry.code()), entry.message()));
        Ok(refusals(Self::OPERATION, &refused.collect::<Vec<_>>()))
    }
}

#[async_trait]
impl Shared for Deletes {
    type Item = Receipt;
    type Answer = ();
    const OPERATION: &'static str = "sqs:DeleteMessageBatch";
    const ITEMS_MAX: usize = BATCH_MAX;

    async fn call(&self, items: Vec<Receipt>) -> Vec<Result<(), CallError>> {
        each(items.len(), self.request(&items).await)
    }
}

/// What a queue says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueLook {
    /// Messages that can be received now (SQS counts approximately).
    pub(crate) waiting: u64,
    /// `MaximumMessageSize`; some endpoints have none.
    pub(crate) message_bytes_max: Option<usize>,
}

pub(crate) async fn look_at(client: &Client, queue: &QueueUrl) -> Result<QueueLook, CallError> {
    let url = queue.get(client).await?;
    let answer = client
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
        .attribute_names(QueueAttributeName::MaximumMessageSize)
        .send()
        .await
        .map_err(|error| call_error("sqs:GetQueueAttributes", &error))?;
    let all = answer.attributes();
    let text = |name| all.and_then(|all| all.get(&name));
    let waiting = text(QueueAttributeName::ApproximateNumberOfMessages);
    let bytes = text(QueueAttributeName::MaximumMessageSize);
    Ok(QueueLook {
        waiting: waiting.and_then(|text| text.parse().ok()).unwrap_or(0),
        message_bytes_max: bytes.and_then(|text| text.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(body: usize, attributes: &[(&str, &str)]) -> Outgoing {
        Outgoing {
            body: "x".repeat(body),
            attributes: attributes
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
            delay_seconds: 0,
        }
    }

    #[track_caller]
    fn check(message: &Outgoing, expected: &[&str]) {
        let names: Vec<&str> =
            fitting(message, MESSAGE_BYTES_MAX).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn attributes_that_would_pass_a_bound_are_left_out_from_the_end() {
        check(&outgoing(10, &[("id", "1"), ("empty", ""), ("reason", "r")]), &["id", "reason"]);
        check(&outgoing(MESSAGE_BYTES_MAX, &[("id", "1")]), &[]);
        check(&outgoing(MESSAGE_BYTES_MAX - 12, &[("id", "1"), ("reason", "r")]), &["id"]);
        let many: Vec<String> = (10..25).map(|n| format!("a{n}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "v")).collect();
        assert_eq!(fitting(&outgoing(1, &many), MESSAGE_BYTES_MAX).len(), ATTRIBUTES_MAX);
        let odd = outgoing(1, &[("reason", "a\u{0}b")]);
        assert_eq!(fitting(&odd, MESSAGE_BYTES_MAX)[0].1, "a\u{fffd}b");
    }

    #[test]
    fn a_letter_keeps_what_its_replay_needs_however_many_attributes_its_sender_gave_it() {
        let theirs: Vec<String> = (10..20).map(|n| format!("a{n}")).collect();
        let mut all: Vec<(&str, &str)> = theirs.iter().map(|name| (name.as_str(), "v")).collect();
        let ours =
            [FIRST_ID_ATTRIBUTE, SENT_AT_ATTRIBUTE, REASON_ATTRIBUTE, REASON_MESSAGE_ATTRIBUTE];
        all.extend(ours.map(|name| (name, "x")));
        let letter = outgoing(10, &all);
        let names = |bytes_max: usize| -> Vec<&str> {
            fitting(&letter, bytes_max).into_iter().map(|(name, _)| name).collect()
        };
        let kept = names(MESSAGE_BYTES_MAX);
        assert_eq!((&kept[..4], kept.len()), (&ours[..], ATTRIBUTES_MAX));
        // The dead-letter queue takes less: the time and its mark go along before anything else.
        let time = ours[..2].iter().map(|name| name.len() + "String".len() + 1).sum::<usize>();
        assert_eq!(names(10 + time), ours[..2]);
    }

    #[test]
    fn messages_share_a_request_as_far_as_its_bounds_reach() {
        let check = |bodies: &[usize], expected: &[usize]| {
            let messages: Vec<Outgoing> = bodies.iter().map(|it| outgoing(*it, &[])).collect();
            let lengths: Vec<usize> = runs(&messages).into_iter().map(<[_]>::len).collect();
            assert_eq!(lengths, expected, "{bodies:?}");
        };
        check(&[1], &[1]);
        check(&[1; 10], &[10]);
        check(&[1; 11], &[10, 1]);
        check(&[MESSAGE_BYTES_NEEDED / 4; 6], &[4, 2]);
        check(&[MESSAGE_BYTES_NEEDED, 1], &[1, 1]);
        // Nobody else suffers from one that no request can hold.
        check(&[1, MESSAGE_BYTES_MAX + 1, 1], &[1, 1, 1]);
        // Attributes count, too: "id", "String" and "1" are nine bytes.
        let one = outgoing(MESSAGE_BYTES_MAX - 9, &[("id", "1")]);
        assert_eq!(size(&one), MESSAGE_BYTES_MAX);
    }

    #[test]
    fn a_replayed_message_counts_from_its_first_sending_and_no_message_from_the_future() {
        let message = |kept: &[(&str, &str)]| {
            let mut message = Message::builder()
                .message_id("m-1")
                .receipt_handle("r-1")
                .body("{}")
                .attributes(MessageSystemAttributeName::SentTimestamp, "1795000000000")
                .attributes(MessageSystemAttributeName::ApproximateReceiveCount, "3");
            for (name, value) in kept {
                message = message.message_attributes(*name, text((*value).to_owned()).unwrap());
            }
            received(message.build()).unwrap()
        };
        let kept = |at| [(SENT_AT_ATTRIBUTE, at), (FIRST_ID_ATTRIBUTE, "m-0")];
        assert_eq!(message(&[]).sent_at.as_millisecond(), 1_795_000_000_000);
        assert_eq!(message(&[]).receives, 3);
        let replayed = message(&kept("2026-11-01T10:00:00.123Z"));
        assert_eq!(replayed.sent_at.to_string(), "2026-11-01T10:00:00.123Z");
        let forged = message(&kept("2099-01-01T00:00:00Z"));
        assert_eq!(forged.sent_at.as_millisecond(), 1_795_000_000_000);
    }

    #[test]
    fn a_message_that_is_no_longer_ours_needs_no_delete() {
        assert!(is_stale(Some("ReceiptHandleIsInvalid"), None));
        assert!(is_stale(Some("MessageNotInflight"), None));
        assert!(is_stale(
            Some("InvalidParameterValue"),
            Some("Reason: The receipt handle has expired.")
        ));
        assert!(!is_stale(Some("InvalidParameterValue"), Some("VisibilityTimeout is too large")));
        assert!(!is_stale(Some("AccessDenied"), None));
    }

    #[test]
    fn a_queue_is_named_by_name_or_url() {
        assert_eq!(QueueUrl::new("commands").short(), "commands");
        assert_eq!(
            QueueUrl::new("http://127.0.0.1:4566/000000000000/commands").short(),
            "commands"
        );
    }
}
