//! The two queues as any client sees them: through the SDK, without the binary.
//!
//! What the binary itself says about its queues (`dlq list`, `check --aws`) is tested elsewhere; here is
//! the other witness, who also sees bodies and counts, and hears what goes out on the bus.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    Message, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    SendMessageBatchRequestEntry,
};

use serde_json::Value;

use crate::harness::{Local, eventually, sdk_of};

/// SQS's bound for the bodies of one batch, with room for what else counts.
const BATCH_BYTES_MAX: usize = 900_000;
const BATCH_MAX: usize = 10;
/// Receivers side by side; the endpoint and the SDK in debug are slow one by one.
const RECEIVERS: usize = 4;

pub(crate) struct Wire {
    runtime: tokio::runtime::Runtime,
    sqs: Client,
    pub(crate) commands: String,
    pub(crate) dead_letters: String,
}

impl Wire {
    pub(crate) fn to(local: &Local) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
        let sqs = runtime.block_on(async { Client::new(&sdk_of(&local.endpoint).await) });
        let dead_letters = local.queue.replace("lamplighter-commands", "lamplighter-dead-letters");
        assert_ne!(dead_letters, local.queue, "the queue's name is another than the default");
        Self { runtime, sqs, commands: local.queue.clone(), dead_letters }
    }

    /// Sends the bodies to the command queue in batches; the message ids in the bodies' order.
    pub(crate) fn send(&self, bodies: &[&str]) -> Vec<String> {
        let mut ids = Vec::new();
        let mut rest = bodies;
        while !rest.is_empty() {
            let (mut fits, mut bytes) = (0, 0);
            while fits < rest.len().min(BATCH_MAX) {
                bytes += rest[fits].len();
                if bytes > BATCH_BYTES_MAX && fits > 0 {
                    break;
                }
                fits += 1;
            }
            let (batch, after) = rest.split_at(fits);
            rest = after;
            ids.extend(self.runtime.block_on(self.send_batch(batch)));
        }
        ids
    }

    async fn send_batch(&self, bodies: &[&str]) -> Vec<String> {
        let mut call = self.sqs.send_message_batch().queue_url(&self.commands);
        for (at, body) in bodies.iter().enumerate() {
            let entry =
                SendMessageBatchRequestEntry::builder().id(at.to_string()).message_body(*body);
            call = call.entries(entry.build().expect("an entry with id and body"));
        }
        let answer = call.send().await.expect("SQS takes the batch");
        assert!(answer.failed().is_empty(), "{:?}", answer.failed());
        let mut sent: Vec<(usize, String)> = answer
            .successful()
            .iter()
            .map(|entry| (entry.id().parse().expect("our number"), entry.message_id().to_owned()))
            .collect();
        sent.sort();
        assert_eq!(sent.len(), bodies.len());
        sent.into_iter().map(|(_, id)| id).collect()
    }

    /// How many messages a queue holds: to be received now, and in somebody's hand. (Here SQS counts
    /// exactly.)
    pub(crate) fn depth(&self, queue: &str) -> (usize, usize) {
        let answer = self.runtime.block_on(
            self.sqs
                .get_queue_attributes()
                .queue_url(queue)
                .attribute_names(QueueAttributeName::All)
                .send(),
        );
        let answer = answer.expect("SQS tells its counts");
        let count = |name: QueueAttributeName| -> usize {
            let text = answer.attributes().and_then(|all| all.get(&name));
            text.and_then(|text| text.parse().ok()).expect("a count")
        };
        (
            count(QueueAttributeName::ApproximateNumberOfMessages),
            count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
        )
    }

    /// Waits until no command waits or is worked on. A message is deleted after its events are sent.
    pub(crate) fn await_rest(&self) {
        eventually("the command queue is at rest", || {
            (self.depth(&self.commands) == (0, 0)).then_some(())
        });
    }

    /// Sets an attribute of a queue.
    pub(crate) fn set(&self, queue: &str, name: QueueAttributeName, value: &str) {
        let call = self.sqs.set_queue_attributes().queue_url(queue).attributes(name, value);
        self.runtime.block_on(call.send()).expect("SQS takes the attribute");
    }

    /// Every message that can be received from a queue. They are hidden from then on.
    pub(crate) fn take_all(&self, queue: &str) -> Vec<Message> {
        self.runtime.block_on(async {
            let mut receivers = tokio::task::JoinSet::new();
            for _ in 0..RECEIVERS {
                let (sqs, queue) = (self.sqs.clone(), queue.to_owned());
                receivers.spawn(async move {
                    let mut taken = Vec::new();
                    loop {
                        let some = receive(&sqs, &queue).await;
                        if some.is_empty() {
                            return taken;
                        }
                        taken.extend(some);
                    }
                });
            }
            receivers.join_all().await.into_iter().flatten().collect()
        })
    }
}

async fn receive(sqs: &Client, queue: &str) -> Vec<Message> {
    let answer = sqs
        .receive_message()
        .queue_url(queue)
        .max_number_of_messages(10)
        .visibility_timeout(3_600)
        .wait_time_seconds(0)
        .message_attribute_names("All")
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .send()
        .await;
    answer.expect("SQS answers a receive").messages.unwrap_or_default()
}

/// Every lifecycle event, in a queue of its own behind a rule of its own.
pub(crate) struct Ear {
    queue: String,
    heard: BTreeMap<String, Value>,
}

impl Ear {
    pub(crate) fn to(local: &Local, wire: &Wire) -> Self {
        wire.runtime.block_on(async {
            let made = wire.sqs.create_queue().queue_name("ear").send().await;
            let queue = made.expect("SQS makes a queue").queue_url().expect("a URL").to_owned();
            let events = aws_sdk_eventbridge::Client::new(&sdk_of(&local.endpoint).await);
            let rule = events.put_rule().name("ear").event_pattern(r#"{"source":["lamplighter"]}"#);
            rule.send().await.expect("EventBridge takes the rule");
            let target = aws_sdk_eventbridge::types::Target::builder()
                .id("ear")
                .arn("arn:aws:sqs:us-east-1:000000000000:ear")
                .build()
                .expect("a target with id and ARN");
            let target = events.put_targets().rule("ear").targets(target).send().await;
            assert_eq!(target.expect("EventBridge takes the target").failed_entry_count(), 0);
            Self { queue, heard: BTreeMap::new() }
        })
    }

    /// The outcomes that were announced of each command: one that was sent again has the same event id,
    /// and counts once.
    pub(crate) fn outcomes(&mut self, wire: &Wire) -> BTreeMap<String, Vec<Value>> {
        for message in wire.take_all(&self.queue) {
            let event: Value =
                serde_json::from_str(message.body().unwrap_or_default()).expect("an event is JSON");
            let id = event["detail"]["id"].as_str().expect("each has an id").to_owned();
            self.heard.insert(id, event["detail"].clone());
        }
        let mut outcomes: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for event in self.heard.values().filter(|event| event["outcome"].is_object()) {
            let command = event["outcome"]["command"].as_str().expect("a command's id").to_owned();
            outcomes.entry(command).or_default().push(event["outcome"].clone());
        }
        outcomes
    }

    /// Each of the commands has one outcome, and no other command has any.
    #[track_caller]
    pub(crate) fn check_one_each(&mut self, wire: &Wire, commands: &[&str]) {
        let outcomes = self.outcomes(wire);
        let with_one: BTreeSet<&str> = outcomes.keys().map(String::as_str).collect();
        assert_eq!(with_one, commands.iter().copied().collect());
        let more: Vec<_> = outcomes.iter().filter(|(_, outcomes)| outcomes.len() != 1).collect();
        assert!(more.is_empty(), "commands with several outcomes: {more:#?}");
    }
}

/// An attribute of the sender's.
pub(crate) fn attribute<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.message_attributes()?.get(name).and_then(MessageAttributeValue::string_value)
}
