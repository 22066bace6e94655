//! SQS in its JSON protocol. A receive with a wait truly waits, and wakes when a message becomes visible.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use awsim_core::{AwsError, Protocol, RequestContext, ServiceHandler};
use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::queue::{
    BATCH_MAX, MESSAGE_BYTES_MAX, MessageAttribute, Outgoing, Received, size_of_message,
};
use serde_json::{Map, Value, json};

use crate::checksum;
use crate::input::{integer, list, map, required, text, texts};
use crate::shared::{Shared, fault, refuse};

/// The longest wait of a receive.
const WAIT_SECONDS_MAX: i64 = 20;

pub(crate) struct Sqs {
    pub(crate) shared: Arc<Shared>,
}

#[async_trait]
impl ServiceHandler for Sqs {
    fn service_name(&self) -> &'static str {
        "sqs"
    }

    fn protocol(&self) -> Protocol {
        Protocol::AwsJson1_0
    }

    async fn handle(
        &self,
        operation: &str,
        input: Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        match operation {
            "ReceiveMessage" => self.receive(&input).await,
            "SendMessage" => self.send(&input),
            "SendMessageBatch" => self.send_batch(&input),
            "DeleteMessage" => self.delete(queue_of(&input)?, &input),
            "DeleteMessageBatch" => {
                let queue = queue_of(&input)?;
                self.batch(queue, &input, |entry| self.delete(queue, entry))
            }
            "ChangeMessageVisibility" => self.change_visibility(queue_of(&input)?, &input),
            "ChangeMessageVisibilityBatch" => {
                let queue = queue_of(&input)?;
                self.batch(queue, &input, |entry| self.change_visibility(queue, entry))
            }
            "CreateQueue" => self.create(&input, ctx),
            "GetQueueUrl" => {
                let name = required(&input, "QueueName")?;
                self.shared
                    .read(|world, _| world.queues.get(name).map(|_| ()))
                    .map_err(|error| refuse(&error))?;
                Ok(json!({"QueueUrl": queue_url(ctx, name)}))
            }
            "GetQueueAttributes" => self.attributes(&input),
            "SetQueueAttributes" => {
                let queue = queue_of(&input)?;
                let attributes = map(&input, "Attributes");
                self.shared
                    .with(|world, now| world.set_queue_attributes(now, queue, &attributes))
                    .map_err(|error| refuse(&error))?;
                Ok(json!({}))
            }
            "ListQueues" => self.list(&input, ctx),
            "ListDeadLetterSourceQueues" => {
                let queue = queue_of(&input)?;
                let names = self.shared.read(|world, _| {
                    let arn = world.queue_arn(queue);
                    world.queues.get(queue).map(|_| world.queues.sources_of(&arn))
                });
                let names = names.map_err(|error| refuse(&error))?;
                let urls: Vec<String> = names.iter().map(|name| queue_url(ctx, name)).collect();
                Ok(json!({"queueUrls": urls}))
            }
            "PurgeQueue" => self.simple(&input, |world, queue| world.queues.purge(queue)),
            "DeleteQueue" => self.simple(&input, |world, queue| world.queues.delete(queue)),
            "TagQueue" => {
                let tags = map(&input, "Tags");
                self.simple(&input, |world, queue| world.queues.tag(queue, tags))
            }
            "UntagQueue" => {
                let keys = texts(&input, "TagKeys");
                self.simple(&input, |world, queue| world.queues.untag(queue, &keys))
            }
            "ListQueueTags" => {
                let queue = queue_of(&input)?;
                let tags = self
                    .shared
                    .read(|world, _| world.queues.get(queue).map(|queue| queue.tags.clone()));
                Ok(json!({"Tags": tags.map_err(|error| refuse(&error))?}))
            }
            _ => Err(AwsError::unknown_operation(operation)),
        }
    }
}

impl Sqs {
    fn simple(
        &self,
        input: &Value,
        change: impl FnOnce(
            &mut lamplighter_cloud::World,
            &str,
        ) -> Result<(), lamplighter_cloud::queue::QueueError>,
    ) -> Result<Value, AwsError> {
        let queue = queue_of(input)?;
        self.shared.with(|world, _| change(world, queue)).map_err(|error| refuse(&error))?;
        Ok(json!({}))
    }

    async fn receive(&self, input: &Value) -> Result<Value, AwsError> {
        let queue = queue_of(input)?;
        let max = integer(input, "MaxNumberOfMessages")?.unwrap_or(1);
        let max = usize::try_from(max).unwrap_or(0);
        let visibility = integer(input, "VisibilityTimeout")?;
        let wait = match integer(input, "WaitTimeSeconds")? {
            Some(seconds) => seconds,
            None => self
                .shared
                .read(|world, _| world.queues.get(queue).map(|queue| queue.wait_seconds))
                .map_err(|error| refuse(&error))?,
        };
        if !(0..=WAIT_SECONDS_MAX).contains(&wait) {
            return Err(fault(
                400,
                "InvalidParameterValue",
                format!(
                    "Value {wait} for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided."
                ),
            ));
        }
        let until = Timestamp::now().checked_add(SignedDuration::from_secs(wait));
        let until = until.unwrap_or(Timestamp::MAX);
        let mut arrivals = self.shared.subscribe_arrivals();
        let mut closing = self.shared.subscribe_closing();
        // The first look is a receive in any case, so that wrong parameters are refused at once; later
        // ones only where there is a message, since a look that finds none changes nothing.
        let mut first = true;
        loop {
            arrivals.borrow_and_update();
            let ready = self.shared.read(|world, now| {
                world.advance(now);
                world.queues.get(queue).map(|queue| queue.has_visible(now))
            });
            let ready = ready.map_err(|error| refuse(&error))?;
            let received = if ready || std::mem::take(&mut first) {
                self.shared
                    .with(|world, now| world.receive_messages(now, queue, max, visibility))
                    .map_err(|error| refuse(&error))?
            } else {
                Vec::new()
            };
            let (now, next) = self.shared.read(|world, now| {
                let next = world.queues.get(queue).ok().and_then(|it| it.next_visible(now));
                (now, next)
            });
            if !received.is_empty() || now >= until || self.shared.is_closing() {
                return Ok(messages_json(&received, input));
            }
            let sleep_until = next.unwrap_or(until).min(until);
            let nap = Duration::try_from(sleep_until.duration_since(now)).unwrap_or_default();
            // A timer is as fine as a millisecond: one more, so that it does not wake just before.
            tokio::select! {
                biased;
                _ = closing.changed() => {}
                _ = arrivals.changed() => {}
                () = tokio::time::sleep(nap + Duration::from_millis(1)) => {}
            }
        }
    }

    fn send(&self, input: &Value) -> Result<Value, AwsError> {
        let queue = queue_of(input)?;
        self.send_one(queue, outgoing_of(input)?)
    }

    fn send_one(&self, queue: &str, outgoing: Outgoing) -> Result<Value, AwsError> {
        let body_sum = checksum::of_body(&outgoing.body);
        let attributes_sum = checksum::of_attributes(&outgoing.attributes);
        let id = self
            .shared
            .with(|world, now| world.send_message(now, queue, outgoing))
            .map_err(|error| refuse(&error))?;
        let mut answer = json!({"MessageId": id, "MD5OfMessageBody": body_sum});
        if let Some(sum) = attributes_sum {
            answer["MD5OfMessageAttributes"] = sum.into();
        }
        Ok(answer)
    }

    fn send_batch(&self, input: &Value) -> Result<Value, AwsError> {
        let queue = queue_of(input)?;
        let entries = list(input, "Entries");
        let total: usize = entries
            .iter()
            .filter_map(|entry| outgoing_of(entry).ok())
            .map(|outgoing| size_of_message(&outgoing))
            .sum();
        if total > MESSAGE_BYTES_MAX {
            return Err(fault(
                400,
                "BatchRequestTooLong",
                format!(
                    "Batch requests cannot be longer than {MESSAGE_BYTES_MAX} bytes. You have sent {total} bytes."
                ),
            ));
        }
        self.batch(queue, input, |entry| self.send_one(queue, outgoing_of(entry)?))
    }

    /// Runs every entry for itself; a batch as a whole fails only where it is malformed.
    fn batch(
        &self,
        queue: &str,
        input: &Value,
        mut run: impl FnMut(&Value) -> Result<Value, AwsError>,
    ) -> Result<Value, AwsError> {
        let entries = list(input, "Entries");
        self.shared
            .read(|world, _| world.queues.get(queue).map(|_| ()))
            .map_err(|error| refuse(&error))?;
        if entries.is_empty() {
            return Err(fault(
                400,
                "EmptyBatchRequest",
                "There should be at least one entry in the request.",
            ));
        }
        if entries.len() > BATCH_MAX {
            return Err(fault(
                400,
                "TooManyEntriesInBatchRequest",
                format!(
                    "Maximum number of entries per request are 10. You have sent {}.",
                    entries.len()
                ),
            ));
        }
        let ids: BTreeSet<&str> = entries.iter().map(|entry| text(entry, "Id")).collect();
        if ids.len() != entries.len() {
            return Err(fault(
                400,
                "BatchEntryIdsNotDistinct",
                "Two or more batch entries have the same Id.",
            ));
        }
        let well_formed = |id: &&str| {
            (1..=80).contains(&id.len())
                && id.chars().all(|it| it.is_ascii_alphanumeric() || it == '-' || it == '_')
        };
        if !ids.iter().all(well_formed) {
            return Err(fault(
                400,
                "InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
            ));
        }
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let id = text(entry, "Id");
            match run(entry) {
                Ok(mut answer) => {
                    answer["Id"] = id.into();
                    successful.push(answer);
                }
                Err(error) => failed.push(json!({
                    "Id": id, "SenderFault": true, "Code": error.code, "Message": error.message,
                })),
            }
        }
        Ok(json!({"Successful": successful, "Failed": failed}))
    }

    fn delete(&self, queue: &str, entry: &Value) -> Result<Value, AwsError> {
        let handle = required(entry, "ReceiptHandle")?;
        self.shared
            .with(|world, now| world.delete_message(now, queue, handle))
            .map_err(|error| refuse(&error))?;
        Ok(json!({}))
    }

    fn change_visibility(&self, queue: &str, entry: &Value) -> Result<Value, AwsError> {
        let handle = required(entry, "ReceiptHandle")?;
        let seconds = integer(entry, "VisibilityTimeout")?.ok_or_else(|| {
            fault(
                400,
                "MissingParameter",
                "The request must contain the parameter VisibilityTimeout.",
            )
        })?;
        self.shared
            .with(|world, now| world.change_visibility(now, queue, handle, seconds))
            .map_err(|error| refuse(&error))?;
        Ok(json!({}))
    }

    fn create(&self, input: &Value, ctx: &RequestContext) -> Result<Value, AwsError> {
        let name = required(input, "QueueName")?;
        let attributes = map(input, "Attributes");
        let tags = map(input, "tags");
        self.shared
            .with(|world, now| world.create_queue(now, name, &attributes, tags))
            .map_err(|error| refuse(&error))?;
        Ok(json!({"QueueUrl": queue_url(ctx, name)}))
    }

    fn attributes(&self, input: &Value) -> Result<Value, AwsError> {
        let queue = queue_of(input)?;
        let wanted = texts(input, "AttributeNames");
        let all = self.shared.read(|world, now| {
            let arn = world.queue_arn(queue);
            world.queues.get(queue).map(|queue| queue.attributes(&arn, now))
        });
        let all = all.map_err(|error| refuse(&error))?;
        let every = wanted.iter().any(|name| name == "All");
        let shown: BTreeMap<String, String> =
            all.into_iter().filter(|(name, _)| every || wanted.contains(name)).collect();
        Ok(json!({"Attributes": shown}))
    }

    fn list(&self, input: &Value, ctx: &RequestContext) -> Result<Value, AwsError> {
        let prefix = text(input, "QueueNamePrefix");
        let limit = integer(input, "MaxResults")?.unwrap_or(1000);
        let after = input.get("NextToken").and_then(Value::as_str);
        let names: Vec<String> = self.shared.read(|world, _| {
            let names = world.queues.names().filter(|name| name.starts_with(prefix));
            names.map(str::to_owned).collect()
        });
        let limit = usize::try_from(limit).unwrap_or(1000).clamp(1, 1000);
        let (names, token) = super::page(names, String::as_str, after, limit);
        let urls: Vec<String> = names.iter().map(|name| queue_url(ctx, name)).collect();
        let mut answer = json!({"QueueUrls": urls});
        if let Some(token) = token {
            answer["NextToken"] = token.into();
        }
        Ok(answer)
    }
}

/// The queue's name: the last part of its URL.
fn queue_of(input: &Value) -> Result<&str, AwsError> {
    let url = required(input, "QueueUrl")?;
    Ok(url.trim_end_matches('/').rsplit('/').next().unwrap_or(url))
}

fn queue_url(ctx: &RequestContext, name: &str) -> String {
    let authority = ctx.endpoint_authority.as_deref().unwrap_or("127.0.0.1");
    format!("http://{authority}/{}/{name}", ctx.account_id)
}

fn outgoing_of(entry: &Value) -> Result<Outgoing, AwsError> {
    let attributes = entry.get("MessageAttributes").and_then(Value::as_object);
    let attributes = attributes
        .into_iter()
        .flatten()
        .map(|(name, value)| {
            let attribute = MessageAttribute {
                data_type: text(value, "DataType").to_owned(),
                text: value.get("StringValue").and_then(Value::as_str).map(str::to_owned),
                binary: value.get("BinaryValue").and_then(Value::as_str).map(str::to_owned),
            };
            (name.clone(), attribute)
        })
        .collect();
    Ok(Outgoing {
        body: text(entry, "MessageBody").to_owned(),
        attributes,
        delay_seconds: integer(entry, "DelaySeconds")?,
    })
}

fn messages_json(received: &[Received], input: &Value) -> Value {
    if received.is_empty() {
        return json!({});
    }
    let mut system = texts(input, "MessageSystemAttributeNames");
    system.extend(texts(input, "AttributeNames"));
    let wanted = texts(input, "MessageAttributeNames");
    let messages: Vec<Value> =
        received.iter().map(|received| message_json(received, &system, &wanted)).collect();
    json!({"Messages": messages})
}

fn message_json(received: &Received, system: &[String], wanted: &[String]) -> Value {
    let message = &received.message;
    let mut shown = json!({
        "MessageId": message.id,
        "ReceiptHandle": received.receipt_handle,
        "MD5OfBody": checksum::of_body(&message.body),
        "Body": message.body,
    });
    let every = system.iter().any(|name| name == "All");
    let mut attributes = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value
            && (every || system.iter().any(|it| it == name))
        {
            attributes.insert(name.to_owned(), value.into());
        }
    };
    put("SentTimestamp", Some(message.sent.as_millisecond().to_string()));
    put("ApproximateReceiveCount", Some(message.receive_count.to_string()));
    let first = message.first_received.map(|at| at.as_millisecond().to_string());
    put("ApproximateFirstReceiveTimestamp", first);
    put("SenderId", Some("AIDALAMPLIGHTERLOCAL".to_owned()));
    put("DeadLetterQueueSourceArn", message.dead_letter_source.clone());
    if !attributes.is_empty() {
        shown["Attributes"] = Value::Object(attributes);
    }
    let chosen: BTreeMap<String, MessageAttribute> = message
        .attributes
        .iter()
        .filter(|(name, _)| wanted.iter().any(|wanted| names_attribute(wanted, name)))
        .map(|(name, attribute)| (name.clone(), attribute.clone()))
        .collect();
    if let Some(sum) = checksum::of_attributes(&chosen) {
        let values: Map<String, Value> = chosen
            .into_iter()
            .map(|(name, it)| {
                let mut value = json!({"DataType": it.data_type});
                if let Some(text) = it.text {
                    value["StringValue"] = text.into();
                }
                if let Some(binary) = it.binary {
                    value["BinaryValue"] = binary.into();
                }
                (name, value)
            })
            .collect();
        shown["MD5OfMessageAttributes"] = sum.into();
        shown["MessageAttributes"] = Value::Object(values);
    }
    shown
}

/// `All`, `.*`, a name, or a prefix with `.*`.
fn names_attribute(wanted: &str, name: &str) -> bool {
    wanted == "All"
        || wanted == name
        || wanted.strip_suffix(".*").is_some_and(|prefix| name.starts_with(prefix))
}
