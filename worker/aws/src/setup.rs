//! `lamplighter setup`: queues, table and rules, created where they are missing.
//!
//! *Theory.* Every step looks first, changes only what is missing, and says what it found, so that a
//! second run changes nothing. What somebody has set otherwise on purpose (a retention, say) is left
//! alone; what Lamplighter cannot work with (another key schema) is refused by name. What an endpoint
//! does not offer, and is not needed to work, is left out with a note.
//!
//! *Not here.* Tables (`setup_table`); roles, alarms and schedules (infra/).

mod step;
mod table;

use std::collections::BTreeMap;

use aws_sdk_eventbridge::error::ProvideErrorMetadata;
use aws_sdk_eventbridge::types::Target;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use self::step::failed;
pub use self::step::{Change, SetupError, SetupStep};
use crate::client::Aws;
use crate::disposition::{ErrorCode, call_error};
use crate::names::Names;
use crate::queue_policy::merged;
use crate::sqs::{MESSAGE_BYTES_MAX, MESSAGE_BYTES_NEEDED, QueueUrl};

/// SQS's longest: somebody has two weeks to see what went wrong.
const DEAD_LETTER_RETENTION_SECONDS: u32 = 14 * 24 * 3600;
/// A command that is older helps nobody. SQS moves a message to the dead letters with its first time of
/// sending, so this must be well below their retention.
const COMMAND_RETENTION_SECONDS: u32 = 4 * 24 * 3600;
/// Six heartbeats of ten seconds; what a dead worker held comes back after a minute.
const VISIBILITY_SECONDS: u32 = 60;
/// SQS's longest poll.
const LONG_POLL_SECONDS: u32 = 20;
/// Receives also count bounces and lost answers (QUEUE.md); poison is parked by us, with its reason.
/// This is the net below that.
const RECEIVES_MAX: u32 = 1_000;
/// AWS's own events arrive on this bus and no other.
const AWS_BUS: &str = "default";
/// Our statement in the queue's policy.
const STATEMENT: &str = "LamplighterRules";
/// The longest id of a rule's target.
const TARGET_ID_CHARS_MAX: usize = 64;
/// The rules for AWS's signals: name, and the pattern of what they match.
const RULES: &[(&str, &str)] = &[
    (
        "lamplighter-ec2-state",
        r#"{"source":["aws.ec2"],"detail-type":["EC2 Instance State-change Notification","EC2 Spot Instance Interruption Warning"]}"#,
    ),
    (
        "lamplighter-ssm-command",
        r#"{"source":["aws.ssm"],"detail-type":["EC2 Command Status-change Notification","EC2 Command Invocation Status-change Notification"]}"#,
    ),
    // Only the ends of a task's way up and down: of its other steps a pass could make nothing.
    (
        "lamplighter-ecs-task",
        r#"{"source":["aws.ecs"],"detail-type":["ECS Task State Change"],"detail":{"lastStatus":["RUNNING","STOPPED"]}}"#,
    ),
];

/// What `apply` would do. Changes nothing.
///
/// # Errors
/// Where AWS refuses a look, or something of another shape is in the way.
pub async fn plan(aws: &Aws, names: &Names) -> Result<Vec<SetupStep>, SetupError> {
    Setup { aws, names, dry: true }.run().await
}

/// Creates what is missing, and waits until it can be used.
///
/// # Errors
/// Where AWS refuses, or something of another shape is in the way.
pub async fn apply(aws: &Aws, names: &Names) -> Result<Vec<SetupStep>, SetupError> {
    Setup { aws, names, dry: false }.run().await
}

struct Setup<'a> {
    aws: &'a Aws,
    names: &'a Names,
    dry: bool,
}

type Attributes = BTreeMap<QueueAttributeName, String>;

impl Setup<'_> {
    async fn run(&self) -> Result<Vec<SetupStep>, SetupError> {
        self.names.check().map_err(SetupError::Name)?;
        let mut steps = Vec::new();
        let dead_letters = self
            .queue(&mut steps, &self.names.dead_letters, "dead-letter queue", |attributes| {
                let retention = DEAD_LETTER_RETENTION_SECONDS.to_string();
                attributes.insert(QueueAttributeName::MessageRetentionPeriod, retention);
            })
            .await?;
        let redrive = dead_letters.as_ref().map(|queue| {
            json!({"deadLetterTargetArn": queue.arn, "maxReceiveCount": RECEIVES_MAX}).to_string()
        });
        let commands = self
            .queue(&mut steps, &self.names.commands, "command queue", |attributes| {
                let numbers = [
                    (QueueAttributeName::VisibilityTimeout, VISIBILITY_SECONDS),
                    (QueueAttributeName::MessageRetentionPeriod, COMMAND_RETENTION_SECONDS),
                    (QueueAttributeName::ReceiveMessageWaitTimeSeconds, LONG_POLL_SECONDS),
                ];
                attributes.extend(numbers.map(|(name, value)| (name, value.to_string())));
                if let Some(redrive) = &redrive {
                    attributes.insert(QueueAttributeName::RedrivePolicy, redrive.clone());
                }
            })
            .await?;
        steps.push(self.redrive(commands.as_ref(), redrive).await?);
        steps.push(self.policy(commands.as_ref()).await?);
        steps.extend(table::run(self.aws, &self.names.table, self.dry).await?);
        steps.push(self.bus().await?);
        for (name, pattern) in RULES {
            steps.push(self.rule(name, pattern, commands.as_ref()).await?);
        }
        Ok(steps)
    }

    /// The queue, created where it is missing; `None` in a plan that would create it.
    async fn queue(
        &self,
        steps: &mut Vec<SetupStep>,
        name: &str,
        kind: &str,
        shape: impl Fn(&mut Attributes),
    ) -> Result<Option<FoundQueue>, SetupError> {
        let queue = QueueUrl::new(name);
        let what = format!("{kind} {}", queue.short());
        let client = &self.aws.sqs;
        let answer = client.get_queue_url().queue_name(queue.short()).send().await;
        let step = SetupStep::new(&what, Change::Exists);
        let (url, step) = match answer {
            Ok(answer) => (answer.queue_url, step),
            Err(error) if ErrorCode::parse(error.code(), 400) != ErrorCode::NoSuchQueue => {
                return Err(failed(&what, call_error("sqs:GetQueueUrl", &error)));
            }
            Err(_) if self.dry => {
                steps.push(SetupStep::new(&what, Change::Created));
                return Ok(None);
            }
            Err(_) => {
                let mut attributes = Attributes::new();
                shape(&mut attributes);
                self.create_queue(&what, queue.short(), attributes).await?
            }
        };
        let url = url.ok_or(SetupError::Incomplete { what: what.clone(), missing: "queue URL" })?;
        let found = FoundQueue::read(client, &what, url).await?;
        steps.push(match found.bytes_max().filter(|bytes| *bytes < MESSAGE_BYTES_NEEDED) {
            Some(bytes) => step.noting(format!(
                "its MaximumMessageSize is {bytes} bytes and was left alone; Lamplighter needs {MESSAGE_BYTES_NEEDED}"
            )),
            None => step,
        });
        Ok(Some(found))
    }

    async fn create_queue(
        &self,
        what: &str,
        name: &str,
        attributes: Attributes,
    ) -> Result<(Option<String>, SetupStep), SetupError> {
        let step = SetupStep::new(what, Change::Created);
        // What older endpoints do not have, or have otherwise.
        let of_aws = [
            (QueueAttributeName::SqsManagedSseEnabled, "true".to_owned()),
            (QueueAttributeName::MaximumMessageSize, MESSAGE_BYTES_MAX.to_string()),
        ];
        let create = |as_on_aws: bool| {
            let mut call = self.aws.sqs.create_queue().queue_name(name);
            for (attribute, value) in &attributes {
                call = call.attributes(attribute.clone(), value);
            }
            for (attribute, value) in of_aws.iter().filter(|_| as_on_aws) {
                call = call.attributes(attribute.clone(), value);
            }
            call.send()
        };
        let error = match create(true).await {
            Ok(answer) => return Ok((answer.queue_url, step)),
            Err(error) => error,
        };
        let code = ErrorCode::parse(error.code(), 400);
        if !matches!(code, ErrorCode::Invalid | ErrorCode::NoSuchCall) {
            return Err(failed(what, call_error("sqs:CreateQueue", &error)));
        }
        let answer = create(false)
            .await
            .map_err(|error| failed(what, call_error("sqs:CreateQueue", &error)))?;
        Ok((
            answer.queue_url,
            step.noting(
                "without encryption at rest and with the endpoint's own MaximumMessageSize, since it refuses ours",
            ),
        ))
    }

    /// Gives a command queue without dead letters ours.
    async fn redrive(
        &self,
        commands: Option<&FoundQueue>,
        wanted: Option<String>,
    ) -> Result<SetupStep, SetupError> {
        let what = "redrive policy of the command queue";
        let (Some(commands), Some(wanted)) = (commands, wanted) else {
            return Ok(SetupStep::new(what, Change::Created));
        };
        match commands.json(&QueueAttributeName::RedrivePolicy) {
            Some(found) => {
                let wanted: Value = serde_json::from_str(&wanted).unwrap_or_default();
                let step = SetupStep::new(what, Change::Exists);
                if found["deadLetterTargetArn"] == wanted["deadLetterTargetArn"] {
                    return Ok(step);
                }
                Ok(step
                    .noting("it names another queue than [queue] dead_letters, and was left alone"))
            }
            None => {
                let set = (QueueAttributeName::RedrivePolicy, wanted);
                self.set_attribute(what, commands, set).await?;
                Ok(SetupStep::new(what, Change::Updated))
            }
        }
    }

    /// Lets our rules send to the command queue.
    async fn policy(&self, commands: Option<&FoundQueue>) -> Result<SetupStep, SetupError> {
        let what = "policy of the command queue";
        let Some(commands) = commands else {
            return Ok(SetupStep::new(what, Change::Created));
        };
        let wanted = Some(statement(&commands.arn));
        let policy = merged(commands.policy(), STATEMENT, wanted).map_err(SetupError::Policy)?;
        let Some(policy) = policy else {
            return Ok(SetupStep::new(what, Change::Exists));
        };
        self.set_attribute(what, commands, (QueueAttributeName::Policy, policy)).await?;
        Ok(SetupStep::new(what, Change::Updated))
    }

    async fn set_attribute(
        &self,
        what: &str,
        queue: &FoundQueue,
        (name, value): (QueueAttributeName, String),
    ) -> Result<(), SetupError> {
        if self.dry {
            return Ok(());
        }
        let call =
            self.aws.sqs.set_queue_attributes().queue_url(&queue.url).attributes(name, value);
        let answer = call.send().await;
        answer.map(drop).map_err(|error| failed(what, call_error("sqs:SetQueueAttributes", &error)))
    }

    /// The bus that our own events go to.
    async fn bus(&self) -> Result<SetupStep, SetupError> {
        let name = &self.names.bus;
        let what = format!("event bus {name}");
        if name == AWS_BUS {
            return Ok(SetupStep::new(what, Change::Exists));
        }
        let found = self.aws.events.describe_event_bus().name(name).send().await;
        match found {
            Ok(_) => Ok(SetupStep::new(what, Change::Exists)),
            Err(error) if ErrorCode::parse(error.code(), 400) == ErrorCode::NoSuchResource => {
                if !self.dry {
                    let answer = self.aws.events.create_event_bus().name(name).send().await;
                    answer.map_err(|error| {
                        failed(&what, call_error("events:CreateEventBus", &error))
                    })?;
                }
                Ok(SetupStep::new(what, Change::Created))
            }
            Err(error) => Err(failed(&what, call_error("events:DescribeEventBus", &error))),
        }
    }

    /// A rule that brings AWS's signals to the command queue.
    async fn rule(
        &self,
        name: &str,
        pattern: &str,
        commands: Option<&FoundQueue>,
    ) -> Result<SetupStep, SetupError> {
        let what = format!("rule {name}");
        let events = &self.aws.events;
        let change = match events.describe_rule().name(name).event_bus_name(AWS_BUS).send().await {
            Ok(rule) if same_json(rule.event_pattern(), pattern) => Change::Exists,
            Ok(_) => Change::Updated,
            Err(error) => match ErrorCode::parse(error.code(), 400) {
                ErrorCode::NoSuchResource => Change::Created,
                // Without signals Lamplighter polls.
                ErrorCode::NoSuchCall => {
                    let step = SetupStep::new(what, Change::Skipped);
                    return Ok(step.noting("this endpoint has no rules; Lamplighter polls instead"));
                }
                _ => return Err(failed(&what, call_error("events:DescribeRule", &error))),
            },
        };
        let Some(commands) = commands else {
            return Ok(SetupStep::new(what, change));
        };
        if change != Change::Exists && !self.dry {
            let call = events.put_rule().name(name).event_bus_name(AWS_BUS).event_pattern(pattern);
            let call = call.description("Tells Lamplighter what AWS does to its machines");
            call.send()
                .await
                .map_err(|error| failed(&what, call_error("events:PutRule", &error)))?;
        }
        if change == Change::Exists && self.has_target(&what, name, commands).await? {
            return Ok(SetupStep::new(what, Change::Exists));
        }
        if !self.dry {
            self.put_target(&what, name, commands).await?;
        }
        Ok(SetupStep::new(what, if change == Change::Exists { Change::Updated } else { change }))
    }

    async fn has_target(
        &self,
        what: &str,
        rule: &str,
        commands: &FoundQueue,
    ) -> Result<bool, SetupError> {
        let call = self.aws.events.list_targets_by_rule().rule(rule).event_bus_name(AWS_BUS);
        let answer = call
            .send()
            .await
            .map_err(|error| failed(what, call_error("events:ListTargetsByRule", &error)))?;
        Ok(answer.targets().iter().any(|target| target.arn() == commands.arn))
    }

    async fn put_target(
        &self,
        what: &str,
        rule: &str,
        commands: &FoundQueue,
    ) -> Result<(), SetupError> {
        let id = target_id(&commands.arn);
        let target = Target::builder().id(id).arn(&commands.arn).build().map_err(|_| {
            SetupError::Incomplete { what: what.to_owned(), missing: "ARN of the command queue" }
        })?;
        let call = self.aws.events.put_targets().rule(rule).event_bus_name(AWS_BUS).targets(target);
        let answer = call
            .send()
            .await
            .map_err(|error| failed(what, call_error("events:PutTargets", &error)))?;
        match answer.failed_entries().first() {
            None => Ok(()),
            Some(entry) => Err(failed(
                what,
                crate::disposition::entry_error(
                    "events:PutTargets",
                    entry.error_code(),
                    entry.error_message(),
                    true,
                ),
            )),
        }
    }
}

/// Our target in each rule, by the name of our queue: the rules are shared by all fleets of an account, and
/// none may take another's place in them. (What is nobody's is dropped by whoever hears it.) A queue's name
/// may be longer than an id; its end tells more than its beginning.
fn target_id(queue_arn: &str) -> &str {
    let name = queue_arn.rsplit(':').next().unwrap_or(queue_arn);
    // SQS's names are ASCII, so that every place is a boundary.
    name.get(name.len().saturating_sub(TARGET_ID_CHARS_MAX)..).unwrap_or(name)
}

/// A queue that is there.
pub(crate) struct FoundQueue {
    pub(crate) url: String,
    pub(crate) arn: String,
    attributes: Attributes,
}

impl FoundQueue {
    /// The queue of this name or URL; `None`: there is none.
    pub(crate) async fn find(aws: &Aws, name: &str) -> Result<Option<Self>, SetupError> {
        let queue = QueueUrl::new(name);
        let what = format!("queue {}", queue.short());
        match aws.sqs.get_queue_url().queue_name(queue.short()).send().await {
            Ok(answer) => {
                let missing = "queue URL";
                let url = answer.queue_url;
                let url = url.ok_or(SetupError::Incomplete { what: what.clone(), missing })?;
                Self::read(&aws.sqs, &what, url).await.map(Some)
            }
            Err(error) if ErrorCode::parse(error.code(), 400) == ErrorCode::NoSuchQueue => Ok(None),
            Err(error) => Err(failed(&what, call_error("sqs:GetQueueUrl", &error))),
        }
    }

    /// Its policy, as it is written.
    pub(crate) fn policy(&self) -> Option<&str> {
        self.attributes.get(&QueueAttributeName::Policy).map(String::as_str)
    }

    async fn read(
        client: &aws_sdk_sqs::Client,
        what: &str,
        url: String,
    ) -> Result<Self, SetupError> {
        let call = client.get_queue_attributes().queue_url(&url);
        let answer = call
            .attribute_names(QueueAttributeName::All)
            .send()
            .await
            .map_err(|error| failed(what, call_error("sqs:GetQueueAttributes", &error)))?;
        let attributes: Attributes = answer.attributes.unwrap_or_default().into_iter().collect();
        let arn = attributes.get(&QueueAttributeName::QueueArn).cloned();
        let arn = arn.ok_or(SetupError::Incomplete { what: what.to_owned(), missing: "ARN" })?;
        Ok(Self { url, arn, attributes })
    }

    fn bytes_max(&self) -> Option<usize> {
        self.attributes.get(&QueueAttributeName::MaximumMessageSize)?.parse().ok()
    }

    fn json(&self, name: &QueueAttributeName) -> Option<Value> {
        let text = self.attributes.get(name).filter(|text| !text.is_empty())?;
        serde_json::from_str(text).ok()
    }
}

/// What lets our rules, and no others, send to a queue.
fn statement(queue_arn: &str) -> Value {
    // arn:aws:sqs:REGION:ACCOUNT:NAME
    let part = |n: usize| queue_arn.split(':').nth(n).unwrap_or("*");
    let rules: Vec<String> = RULES
        .iter()
        .map(|(name, _)| format!("arn:{}:events:{}:{}:rule/{name}", part(1), part(3), part(4)))
        .collect();
    json!({
        "Sid": STATEMENT,
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnLike": {"aws:SourceArn": rules}},
    })
}

fn same_json(found: Option<&str>, wanted: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    found.and_then(read).is_some_and(|found| Some(found) == read(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_has_a_place_of_its_own_in_the_shared_rules() {
        let arn = |name: &str| format!("arn:aws:sqs:eu-central-1:123456789012:{name}");
        assert_eq!(target_id(&arn("lamplighter-commands")), "lamplighter-commands");
        let long = target_id(&arn(&format!("{}-prod", "x".repeat(75)))).to_owned();
        assert_eq!((long.len(), long.ends_with("-prod")), (64, true));
    }

    #[test]
    fn only_our_rules_may_send_to_the_queue() {
        let statement = statement("arn:aws-cn:sqs:cn-north-1:123456789012:commands");
        assert_eq!(
            statement["Condition"]["ArnLike"]["aws:SourceArn"][0],
            "arn:aws-cn:events:cn-north-1:123456789012:rule/lamplighter-ec2-state"
        );
        assert_eq!(statement["Principal"]["Service"], "events.amazonaws.com");
    }

    #[test]
    fn every_pattern_is_json_and_is_compared_as_such() {
        for (name, pattern) in RULES {
            assert!(serde_json::from_str::<Value>(pattern).is_ok(), "{name}");
        }
        assert!(same_json(Some("{ \"a\": [1] }"), "{\"a\":[1]}"));
        assert!(!same_json(None, "{}"));
    }
}
