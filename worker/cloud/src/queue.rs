//! SQS standard queues.
//!
//! A message is delivered at least once and in no promised order: with [`Disorder`] set the model
//! shuffles and doubles, otherwise it takes the longest visible first. A receive counts once for each
//! message it returns. A message whose receive count has reached the redrive policy's
//! `maxReceiveCount` is moved to the dead-letter queue by the receive that would have returned it.
//! A receipt handle names one receive: deleting with an older one succeeds and deletes nothing once
//! the message was received again, which is the worst that AWS allows itself.
//!
//! Not here: FIFO queues, encryption, message-move tasks, waiting (whoever serves the model waits until
//! [`Queues::next_visible`]) and the MD5 sums of the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::message::check_outgoing;
pub use crate::message::{
    DELAY_SECONDS_MAX, MessageAttribute, Outgoing, QueueError, size_of_message,
};
use crate::{ServiceFault, World};

/// SQS's limit for one message, attributes included.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The most messages one receive returns, and the most entries of a batch.
pub const BATCH_MAX: usize = 10;
/// The longest visibility timeout, in total from the receive.
pub const VISIBILITY_SECONDS_MAX: i64 = 43_200;
/// How many messages of a standard queue may be in flight at once.
pub const IN_FLIGHT_MAX: usize = 120_000;

/// How many visible messages one receive looks at; more than it returns, since spent ones are moved.
const LOOKED_AT_MAX: usize = 100;

impl ServiceFault for QueueError {
    fn code(&self) -> &'static str {
        match self {
            Self::DoesNotExist => "QueueDoesNotExist",
            Self::NameExists(_) => "QueueNameExists",
            Self::ReceiptHandleIsInvalid(_) => "ReceiptHandleIsInvalid",
            Self::MessageNotInflight => "MessageNotInflight",
            Self::InvalidParameterValue(_) => "InvalidParameterValue",
            Self::InvalidAttributeName(_) => "InvalidAttributeName",
            Self::InvalidAttributeValue(_) => "InvalidAttributeValue",
            Self::InvalidMessageContents => "InvalidMessageContents",
            Self::OverLimit => "OverLimit",
        }
    }
}

/// A message as it lies in a queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// The message id.
    pub id: String,
    /// The body.
    pub body: String,
    /// The sender's attributes.
    pub attributes: BTreeMap<String, MessageAttribute>,
    /// When it was sent.
    pub sent: Timestamp,
    /// How often it was received.
    pub receive_count: u32,
    /// When it was first received.
    pub first_received: Option<Timestamp>,
    /// The ARN of the queue it was moved from, for a dead letter.
    pub dead_letter_source: Option<String>,
    visible_at: Timestamp,
    last_received: Option<Timestamp>,
    /// Until its first visibility it counts as delayed.
    delayed: bool,
}

/// A message handed to a receiver.
#[derive(Debug, Clone)]
pub struct Received {
    /// Names this receive of this message.
    pub receipt_handle: String,
    /// The message after this receive was counted.
    pub message: Message,
}

/// Where messages go that were received too often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// The ARN of the dead-letter queue.
    #[serde(rename = "deadLetterTargetArn")]
    pub target_arn: String,
    /// A message received this often is moved by the next receive.
    #[serde(rename = "maxReceiveCount")]
    pub max_receive_count: u32,
}

/// What a standard queue does that a test wants more of. All off: the longest visible comes first and
/// every receive hides what it returns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Disorder {
    /// Returns visible messages in a drawn order.
    pub shuffle: bool,
    /// How many of a thousand received messages stay visible, and so come twice.
    pub duplicate_per_mille: u16,
}

/// One queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// When its attributes last changed.
    pub modified: Timestamp,
    /// The default visibility timeout in seconds.
    pub visibility_seconds: i64,
    /// The default delay in seconds.
    pub delay_seconds: i64,
    /// The default wait of a receive in seconds.
    pub wait_seconds: i64,
    /// How long a message is kept in seconds.
    pub retention_seconds: i64,
    /// The largest message in bytes.
    pub message_bytes_max: usize,
    /// The dead-letter queue, if there is one.
    pub redrive: Option<Redrive>,
    /// Attributes that the model keeps and does not read (`Policy`, `RedriveAllowPolicy`, …).
    pub kept: BTreeMap<String, String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    messages: BTreeMap<u64, Message>,
    /// Every message once, by when it is visible.
    by_visibility: BTreeSet<(Timestamp, u64)>,
    next_seq: u64,
}

/// Approximate counts; here they are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Can be received.
    pub visible: usize,
    /// Was received and is hidden.
    pub in_flight: usize,
    /// Was sent with a delay that is not over.
    pub delayed: usize,
}

/// All queues.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Queues {
    queues: BTreeMap<String, Queue>,
    /// Disorder for tests.
    pub disorder: Disorder,
    /// Rises whenever a message may have become receivable: what a long poll waits for.
    arrivals: u64,
}

impl Queues {
    /// The queue of this name.
    pub fn get(&self, name: &str) -> Result<&Queue, QueueError> {
        self.queues.get(name).ok_or(QueueError::DoesNotExist)
    }

    fn get_mut(&mut self, name: &str) -> Result<&mut Queue, QueueError> {
        self.queues.get_mut(name).ok_or(QueueError::DoesNotExist)
    }

    /// The names of all queues.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.queues.keys().map(String::as_str)
    }

    /// Rises whenever a message may have become receivable other than by the passing of time.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// When a message that is hidden now becomes visible, in any queue.
    #[must_use]
    pub fn next_visible(&self, now: Timestamp) -> Option<Timestamp> {
        self.queues.values().filter_map(|queue| queue.next_visible(now)).min()
    }

    /// Removes a queue with all its messages.
    pub fn delete(&mut self, name: &str) -> Result<(), QueueError> {
        self.queues.remove(name).map(|_| ()).ok_or(QueueError::DoesNotExist)
    }

    /// Removes all messages of a queue.
    pub fn purge(&mut self, name: &str) -> Result<(), QueueError> {
        let queue = self.get_mut(name)?;
        queue.messages.clear();
        queue.by_visibility.clear();
        Ok(())
    }

    /// Sets tags.
    pub fn tag(&mut self, name: &str, tags: BTreeMap<String, String>) -> Result<(), QueueError> {
        self.get_mut(name)?.tags.extend(tags);
        Ok(())
    }

    /// Removes tags.
    pub fn untag(&mut self, name: &str, keys: &[String]) -> Result<(), QueueError> {
        let queue = self.get_mut(name)?;
        queue.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    }

    /// The names of the queues whose dead letters come to the queue of this ARN.
    #[must_use]
    pub fn sources_of(&self, arn: &str) -> Vec<String> {
        self.queues
            .values()
            .filter(|queue| queue.redrive.as_ref().is_some_and(|it| it.target_arn == arn))
            .map(|queue| queue.name.clone())
            .collect()
    }
}

impl Queue {
    /// When a message that is hidden at `now` becomes visible.
    #[must_use]
    pub fn next_visible(&self, now: Timestamp) -> Option<Timestamp> {
        let after = (Bound::Excluded((now, u64::MAX)), Bound::Unbounded);
        self.by_visibility.range(after).next().map(|(at, _)| *at)
    }

    /// How many messages it holds at `now`, by their state.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> Counts {
        let mut counts = Counts { visible: 0, in_flight: 0, delayed: 0 };
        for message in self.messages.values() {
            if message.visible_at <= now {
                counts.visible += 1;
            } else if message.delayed {
                counts.delayed += 1;
            } else {
                counts.in_flight += 1;
            }
        }
        counts
    }

    /// Whether a receive at `now` would find a message.
    #[must_use]
    pub fn has_visible(&self, now: Timestamp) -> bool {
        self.by_visibility.first().is_some_and(|(at, _)| *at <= now)
    }

    /// The messages in the order they were sent, visible or not: for tests and checkers.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.values()
    }

    fn insert(&mut self, message: Message) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.by_visibility.insert((message.visible_at, seq));
        self.messages.insert(seq, message);
    }

    fn remove(&mut self, seq: u64) -> Option<Message> {
        let message = self.messages.remove(&seq)?;
        self.by_visibility.remove(&(message.visible_at, seq));
        Some(message)
    }

    fn hide(&mut self, seq: u64, until: Timestamp) {
        if let Some(message) = self.messages.get_mut(&seq) {
            self.by_visibility.remove(&(message.visible_at, seq));
            message.visible_at = until;
            self.by_visibility.insert((until, seq));
        }
    }

    fn drop_expired(&mut self, now: Timestamp) {
        let kept = SignedDuration::from_secs(self.retention_seconds);
        // Messages are numbered in the order they came, and those sent straight here also in the order
        // they expire; a dead letter is older than its place, so only a look at each would find it.
        while let Some((&seq, message)) = self.messages.first_key_value() {
            if plus(message.sent, kept) > now {
                break;
            }
            self.remove(seq);
        }
    }

    fn handle(&self, seq: u64, receive_count: u32) -> String {
        // Opaque to clients; to the model it says which receive of which message it is.
        format!("AQEB{seq:016x}{receive_count:08x}{}", self.name)
    }

    /// The message number and the receive that a handle names.
    fn parse_handle(&self, handle: &str) -> Result<(u64, u32), QueueError> {
        let invalid = || QueueError::ReceiptHandleIsInvalid(handle.to_owned());
        let rest = handle.strip_prefix("AQEB").ok_or_else(invalid)?;
        let (seq, rest) = rest.split_at_checked(16).ok_or_else(invalid)?;
        let (count, name) = rest.split_at_checked(8).ok_or_else(invalid)?;
        if name != self.name {
            return Err(invalid());
        }
        let seq = u64::from_str_radix(seq, 16).map_err(|_| invalid())?;
        let count = u32::from_str_radix(count, 16).map_err(|_| invalid())?;
        if seq >= self.next_seq {
            return Err(invalid());
        }
        Ok((seq, count))
    }

    /// Applies one attribute as the wire has it: the name as AWS spells it, the value as text.
    fn set_attribute(&mut self, name: &str, value: &str) -> Result<(), QueueError> {
        let ranged = |low: i64, high: i64| {
            value
                .parse::<i64>()
                .ok()
                .filter(|number| (low..=high).contains(number))
                .ok_or_else(|| QueueError::InvalidAttributeValue(name.to_owned()))
        };
        match name {
            "VisibilityTimeout" => self.visibility_seconds = ranged(0, VISIBILITY_SECONDS_MAX)?,
            "DelaySeconds" => self.delay_seconds = ranged(0, DELAY_SECONDS_MAX)?,
            "ReceiveMessageWaitTimeSeconds" => self.wait_seconds = ranged(0, 20)?,
            "MessageRetentionPeriod" => self.retention_seconds = ranged(60, 1_209_600)?,
            "MaximumMessageSize" => {
                let bytes = ranged(1024, 1_048_576)?;
                self.message_bytes_max = usize::try_from(bytes).unwrap_or(MESSAGE_BYTES_MAX);
            }
            "RedrivePolicy" if value.is_empty() => self.redrive = None,
            "RedrivePolicy" => {
                self.redrive = Some(
                    parse_redrive(value)
                        .ok_or_else(|| QueueError::InvalidAttributeValue(name.to_owned()))?,
                );
            }
            "FifoQueue" | "ContentBasedDeduplication" => {
                return Err(QueueError::InvalidAttributeName(name.to_owned()));
            }
            "Policy"
            | "RedriveAllowPolicy"
            | "SqsManagedSseEnabled"
            | "KmsMasterKeyId"
            | "KmsDataKeyReusePeriodSeconds" => {
                if value.is_empty() {
                    self.kept.remove(name);
                } else {
                    self.kept.insert(name.to_owned(), value.to_owned());
                }
            }
            _ => return Err(QueueError::InvalidAttributeName(name.to_owned())),
        }
        Ok(())
    }

    /// Every attribute that AWS would return, as text.
    #[must_use]
    pub fn attributes(&self, arn: &str, now: Timestamp) -> BTreeMap<String, String> {
        let counts = self.counts(now);
        let mut all = self.kept.clone();
        let mut put = |name: &str, value: String| all.insert(name.to_owned(), value);
        put("QueueArn", arn.to_owned());
        put("ApproximateNumberOfMessages", counts.visible.to_string());
        put("ApproximateNumberOfMessagesNotVisible", counts.in_flight.to_string());
        put("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string());
        put("CreatedTimestamp", self.created.as_second().to_string());
        put("LastModifiedTimestamp", self.modified.as_second().to_string());
        put("VisibilityTimeout", self.visibility_seconds.to_string());
        put("DelaySeconds", self.delay_seconds.to_string());
        put("ReceiveMessageWaitTimeSeconds", self.wait_seconds.to_string());
        put("MessageRetentionPeriod", self.retention_seconds.to_string());
        put("MaximumMessageSize", self.message_bytes_max.to_string());
        if let Some(redrive) = &self.redrive {
            let text = serde_json::json!({
                "deadLetterTargetArn": redrive.target_arn,
                "maxReceiveCount": redrive.max_receive_count,
            });
            put("RedrivePolicy", text.to_string());
        }
        if !self.kept.contains_key("SqsManagedSseEnabled") {
            put("SqsManagedSseEnabled", "true".to_owned());
        }
        all
    }
}

/// `maxReceiveCount` comes as a number or as text, both in use.
fn parse_redrive(text: &str) -> Option<Redrive> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let count = value.get("maxReceiveCount")?;
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
    let count = u32::try_from(count).ok().filter(|count| (1..=1000).contains(count))?;
    Some(Redrive {
        target_arn: value.get("deadLetterTargetArn")?.as_str()?.to_owned(),
        max_receive_count: count,
    })
}

/// Time arithmetic that stays inside what a timestamp can be.
pub(crate) fn plus(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

impl World {
    /// The ARN of a queue of this name in this account.
    #[must_use]
    pub fn queue_arn(&self, name: &str) -> String {
        format!("arn:aws:sqs:{}:{}:{name}", self.region, self.account)
    }

    /// Makes a queue, or finds the one of the same name; another value of a given attribute is refused.
    pub fn create_queue(
        &mut self,
        now: Timestamp,
        name: &str,
        attributes: &BTreeMap<String, String>,
        tags: BTreeMap<String, String>,
    ) -> Result<(), QueueError> {
        let now = self.at(now);
        let well_named = (1..=80).contains(&name.len())
            && name.chars().all(|it| it.is_ascii_alphanumeric() || it == '-' || it == '_');
        if !well_named {
            return Err(QueueError::InvalidParameterValue(
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
                    .to_owned(),
            ));
        }
        let mut queue = Queue {
            name: name.to_owned(),
            created: now,
            modified: now,
            visibility_seconds: 30,
            delay_seconds: 0,
            wait_seconds: 0,
            retention_seconds: 345_600,
            message_bytes_max: MESSAGE_BYTES_MAX,
            redrive: None,
            kept: BTreeMap::new(),
            tags,
            messages: BTreeMap::new(),
            by_visibility: BTreeSet::new(),
            next_seq: 0,
        };
        for (attribute, value) in attributes {
            queue.set_attribute(attribute, value)?;
        }
        self.check_redrive(&queue)?;
        if let Ok(existing) = self.queues.get(name) {
            let (new, old) = (queue.attributes("", now), existing.attributes("", now));
            return match attributes.keys().find(|key| new.get(*key) != old.get(*key)) {
                Some(differs) => Err(QueueError::NameExists(differs.clone())),
                None => Ok(()),
            };
        }
        self.queues.queues.insert(name.to_owned(), queue);
        Ok(())
    }

    /// Changes attributes; either all are applied or none.
    pub fn set_queue_attributes(
        &mut self,
        now: Timestamp,
        name: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<(), QueueError> {
        let now = self.at(now);
        let mut settings = self.queues.get(name)?.clone();
        for (attribute, value) in attributes {
            settings.set_attribute(attribute, value)?;
        }
        settings.modified = now;
        self.check_redrive(&settings)?;
        self.queues.queues.insert(name.to_owned(), settings);
        Ok(())
    }

    fn check_redrive(&self, queue: &Queue) -> Result<(), QueueError> {
        let Some(redrive) = &queue.redrive else { return Ok(()) };
        let exists = queue_name_of(&redrive.target_arn)
            .is_some_and(|target| self.queues.queues.contains_key(target));
        if exists {
            return Ok(());
        }
        Err(QueueError::InvalidParameterValue(format!(
            "Value {} for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist.",
            serde_json::json!({"deadLetterTargetArn": redrive.target_arn,
                               "maxReceiveCount": redrive.max_receive_count})
        )))
    }

    /// Sends one message and returns its id.
    pub fn send_message(
        &mut self,
        now: Timestamp,
        queue: &str,
        outgoing: Outgoing,
    ) -> Result<String, QueueError> {
        let now = self.at(now);
        self.enqueue(now, queue, outgoing)
    }

    /// [`World::send_message`] for the services inside, which are already at `now`.
    pub(crate) fn enqueue(
        &mut self,
        now: Timestamp,
        queue: &str,
        outgoing: Outgoing,
    ) -> Result<String, QueueError> {
        let id = self.ids.uuid();
        let queue = self.queues.get_mut(queue)?;
        let delay_seconds = outgoing.delay_seconds.unwrap_or(queue.delay_seconds);
        check_outgoing(&outgoing, delay_seconds, queue.message_bytes_max)?;
        queue.drop_expired(now);
        let visible_at = plus(now, SignedDuration::from_secs(delay_seconds));
        queue.insert(Message {
            id: id.clone(),
            body: outgoing.body,
            attributes: outgoing.attributes,
            sent: now,
            receive_count: 0,
            first_received: None,
            dead_letter_source: None,
            visible_at,
            last_received: None,
            delayed: visible_at > now,
        });
        self.queues.arrivals += 1;
        Ok(id)
    }

    /// Receives up to `max` visible messages and hides them for `visibility_seconds`.
    pub fn receive_messages(
        &mut self,
        now: Timestamp,
        name: &str,
        max: usize,
        visibility_seconds: Option<i64>,
    ) -> Result<Vec<Received>, QueueError> {
        let now = self.at(now);
        if !(1..=BATCH_MAX).contains(&max) {
            return Err(QueueError::InvalidParameterValue(format!(
                "Value {max} for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."
            )));
        }
        check_visibility(visibility_seconds.unwrap_or(0))?;
        let arn = self.queue_arn(name);
        let disorder = self.queues.disorder.clone();
        let queue = self.queues.get_mut(name)?;
        queue.drop_expired(now);
        if queue.messages.len() >= IN_FLIGHT_MAX && queue.counts(now).in_flight >= IN_FLIGHT_MAX {
            return Err(QueueError::OverLimit);
        }
        let hidden_until = plus(
            now,
            SignedDuration::from_secs(visibility_seconds.unwrap_or(queue.visibility_seconds)),
        );
        // A shuffled receive may draw any message; an ordered one looks at a bounded head of the line.
        let looked_at = if disorder.shuffle { usize::MAX } else { LOOKED_AT_MAX };
        let mut visible: Vec<u64> = queue
            .by_visibility
            .range(..=(now, u64::MAX))
            .take(looked_at)
            .map(|(_, seq)| *seq)
            .collect();
        let redrive = queue.redrive.clone();
        let mut received = Vec::new();
        let mut dead = Vec::new();
        let mut at = 0;
        while at < visible.len() && received.len() < max {
            if disorder.shuffle {
                let left = u64::try_from(visible.len() - at).unwrap_or(1);
                let pick = at + usize::try_from(self.ids.draw() % left).unwrap_or(0);
                visible.swap(at, pick);
            }
            let seq = visible[at];
            at += 1;
            let spent = redrive.as_ref().is_some_and(|redrive| {
                queue
                    .messages
                    .get(&seq)
                    .is_some_and(|it| it.receive_count >= redrive.max_receive_count)
            });
            if spent {
                dead.extend(queue.remove(seq));
                continue;
            }
            let stays = self.ids.chance(disorder.duplicate_per_mille);
            queue.hide(seq, if stays { now } else { hidden_until });
            let Some(message) = queue.messages.get_mut(&seq) else { continue };
            message.receive_count += 1;
            message.first_received.get_or_insert(now);
            message.last_received = Some(now);
            message.delayed = false;
            let message = message.clone();
            let receipt_handle = queue.handle(seq, message.receive_count);
            received.push(Received { receipt_handle, message });
        }
        if let Some(redrive) = redrive {
            self.bury(now, &arn, &redrive, dead);
        }
        Ok(received)
    }

    /// Moves spent messages to the dead-letter queue. They keep their id, sent time and count.
    fn bury(&mut self, now: Timestamp, source_arn: &str, redrive: &Redrive, dead: Vec<Message>) {
        let target = queue_name_of(&redrive.target_arn).unwrap_or_default();
        for mut message in dead {
            message.visible_at = now;
            message.dead_letter_source = Some(source_arn.to_owned());
            // A dead-letter queue that was deleted takes its dead letters with it, as on AWS.
            if let Ok(queue) = self.queues.get_mut(target) {
                queue.insert(message);
                self.queues.arrivals += 1;
            }
        }
    }

    /// Deletes what a receipt handle names. A handle of an earlier receive deletes nothing and succeeds.
    pub fn delete_message(
        &mut self,
        now: Timestamp,
        queue: &str,
        handle: &str,
    ) -> Result<(), QueueError> {
        self.at(now);
        let queue = self.queues.get_mut(queue)?;
        let (seq, count) = queue.parse_handle(handle)?;
        if queue.messages.get(&seq).is_some_and(|message| message.receive_count == count) {
            queue.remove(seq);
        }
        Ok(())
    }

    /// Sets how much longer a received message stays hidden, counted from now.
    pub fn change_visibility(
        &mut self,
        now: Timestamp,
        queue: &str,
        handle: &str,
        seconds: i64,
    ) -> Result<(), QueueError> {
        let now = self.at(now);
        check_visibility(seconds)?;
        let queue = self.queues.get_mut(queue)?;
        let (seq, count) = queue.parse_handle(handle)?;
        let Some(message) = queue.messages.get(&seq) else {
            return Err(QueueError::InvalidParameterValue(format!(
                "Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change."
            )));
        };
        if message.receive_count != count || message.visible_at <= now {
            return Err(QueueError::MessageNotInflight);
        }
        let until = plus(now, SignedDuration::from_secs(seconds));
        let limit = SignedDuration::from_secs(VISIBILITY_SECONDS_MAX);
        if message.last_received.is_some_and(|received| until > plus(received, limit)) {
            return Err(QueueError::InvalidParameterValue(format!(
                "Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds]."
            )));
        }
        queue.hide(seq, until);
        self.queues.arrivals += 1;
        Ok(())
    }
}

/// The queue name at the end of an SQS ARN.
#[must_use]
pub fn queue_name_of(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let head = [parts.next()?, parts.next()?, parts.next()?];
    (head[0] == "arn" && head[2] == "sqs").then(|| parts.nth(2)).flatten()
}

fn check_visibility(seconds: i64) -> Result<(), QueueError> {
    if (0..=VISIBILITY_SECONDS_MAX).contains(&seconds) {
        return Ok(());
    }
    Err(QueueError::InvalidParameterValue(format!(
        "Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200, if provided."
    )))
}
