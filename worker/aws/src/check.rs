//! `lamplighter check --aws`: does what the fleet file names exist, and may we do what we need to?
//!
//! *Theory.* Each question is one call and one finding, and a refused question is a finding too. Rights
//! are asked with `DryRun`, which EC2 answers without doing anything. A host is asked whether its unit
//! starts at boot only where it runs anyway and its agent answers.
//!
//! *Invariant.* Nothing is started, stopped or written.
//!
//! *Not here.* What differs by kind, and idle policies: one file each beneath.

pub(crate) mod finding;
pub(crate) mod host;
pub(crate) mod idle;
pub(crate) mod instance;
pub(crate) mod service;
pub(crate) mod template;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{Cause, TargetName};
use lamplighter_lifecycle::{HealthUrl, Place, TargetSpec};
use lamplighter_runtime::ports::{CallError, SHARDS, Store as _};

pub use self::finding::{Finding, Level};
use self::finding::{error, ok, refused, warn};
use self::idle::check_idle;
use self::instance::check_instance;
use self::service::check_service;
use self::template::check_template;
use crate::client::Aws;
use crate::disposition::call_error;
use crate::dynamodb::DynamoStore;
use crate::names::Names;
use crate::secrets::Secrets;
use crate::sqs::{MESSAGE_BYTES_NEEDED, QueueUrl, look_at};

/// An event is sent within a second or two of its commit, and tried again each half minute.
const UNSENT_IS_LATE_SECONDS: i64 = 120;

/// Looks at queues and table.
pub async fn check_common(aws: &Aws, names: &Names) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut limits = Vec::new();
    for (kind, name) in
        [("command queue", &names.commands), ("dead-letter queue", &names.dead_letters)]
    {
        let queue = QueueUrl::new(name);
        let look = look_at(&aws.sqs, &queue).await;
        findings.push(match &look {
            Ok(look) if kind == "dead-letter queue" && look.waiting > 0 => warn(
                format!("{kind} {}: {} messages", queue.short(), look.waiting),
                "see `lamplighter dlq list`",
            ),
            Ok(_) => ok(format!("{kind} {}", queue.short())),
            Err(refusal) => refused(&format!("{kind} {}", queue.short()), refusal),
        });
        let bytes_max = look.ok().and_then(|look| look.message_bytes_max);
        findings.extend(check_size(&format!("{kind} {}", queue.short()), bytes_max));
        limits.push(bytes_max);
    }
    if let [Some(commands), Some(letters)] = limits[..]
        && letters < commands
    {
        findings.push(warn(
            format!("the dead-letter queue takes {letters} bytes, the command queue {commands}"),
            "a larger message that cannot be understood could not be parked: raise the dead-letter queue's \
             MaximumMessageSize",
        ));
    }
    findings.extend(check_bus(aws, names).await);
    let table = aws.dynamodb.describe_table().table_name(&names.table).send().await;
    findings.push(match table {
        Ok(_) => ok(format!("table {}", names.table)),
        Err(refusal) => refused(
            &format!("table {}", names.table),
            &call_error("dynamodb:DescribeTable", &refusal),
        ),
    });
    findings
}

fn check_size(queue: &str, bytes_max: Option<usize>) -> Option<Finding> {
    let bytes = bytes_max.filter(|bytes| *bytes < MESSAGE_BYTES_NEEDED)?;
    Some(warn(
        format!("{queue} takes messages of {bytes} bytes"),
        "raise its MaximumMessageSize to 262144 at least, or idle checks of large fleets are refused",
    ))
}

/// The bus that takes our events, and the oldest that it has not taken.
async fn check_bus(aws: &Aws, names: &Names) -> Vec<Finding> {
    let what = format!("event bus {}", names.bus);
    let described = aws.events.describe_event_bus().name(&names.bus).send().await;
    let bus = match described.map_err(|error| call_error("events:DescribeEventBus", &error)) {
        Ok(_) => ok(what),
        Err(refusal) if refusal.cause == Cause::Denied => warn(
            format!("{what}: {refusal}"),
            "whether it is there is unknown; see `events:DescribeEventBus` in infra/",
        ),
        Err(refusal) => refused(&what, &refusal),
    };
    let unsent = match oldest_unsent(aws, names).await {
        Ok(None) => return vec![bus],
        Ok(Some(Unsent { target, events, at })) => {
            let age = aws.clock().now().duration_since(at).as_secs();
            let what =
                format!("{events} events of {target} wait to be sent, the oldest for {age} s");
            let hint = "the worker's log says what EventBridge answers; outcomes are readable with `lamplighter \
                        outcome` meanwhile";
            if age > UNSENT_IS_LATE_SECONDS { error(what, hint) } else { return vec![bus] }
        }
        Err(refusal) => refused("events that wait to be sent", &refusal),
    };
    vec![bus, unsent]
}

struct Unsent {
    target: TargetName,
    events: usize,
    at: Timestamp,
}

/// A record with unsent events is due within half a minute.
async fn oldest_unsent(aws: &Aws, names: &Names) -> Result<Option<Unsent>, CallError> {
    let store = DynamoStore::new(aws.dynamodb.clone(), &names.table);
    let soon = aws.clock().now() + SignedDuration::from_mins(1);
    let mut oldest: Option<Unsent> = None;
    for shard in 0..SHARDS {
        let due = store.due(shard, soon).await?;
        for stored in store.load_all(&due).await? {
            // The events of a newer release's records are its workers' to send.
            let Some(record) = stored.record() else { continue };
            let Some(event) = record.outbox.first() else { continue };
            if oldest.as_ref().is_none_or(|oldest| event.at < oldest.at) {
                let (target, events) = (record.target.clone(), record.outbox.len());
                oldest = Some(Unsent { target, events, at: event.at });
            }
        }
    }
    Ok(oldest)
}

/// Looks at everything that one target needs.
pub async fn check_target(aws: &Aws, spec: &TargetSpec) -> Vec<Finding> {
    let (mut findings, seen) = match &spec.place {
        Place::Instance(instance) => check_instance(aws, instance).await,
        Place::Service(service) => check_service(aws, service).await,
        Place::Template(template) => check_template(aws, template).await,
    };
    findings.extend(check_health_secrets(aws, spec).await);
    findings.extend(check_idle(aws, spec, seen).await);
    if let Some(group) = &spec.log_group {
        findings.push(check_logs(aws, group).await);
    }
    findings
}

/// Whether the secrets that the health address names can be read; those of probes are, when the probes are asked.
async fn check_health_secrets(aws: &Aws, spec: &TargetSpec) -> Vec<Finding> {
    let secrets = Secrets::new(aws.secrets.clone());
    let mut findings = Vec::new();
    for secret in spec.health.iter().flat_map(HealthUrl::secrets) {
        findings.push(match secrets.value(&secret).await {
            Ok(_) => ok(format!("health: the secret {} has a value", secret.secret)),
            Err(refusal) => error(
                format!("health: {refusal}"),
                "the worker needs secretsmanager:GetSecretValue for it, and a text in it",
            ),
        });
    }
    findings
}

async fn check_logs(aws: &Aws, group: &str) -> Finding {
    let answer = aws.logs.describe_log_groups().log_group_name_prefix(group).send().await;
    match answer {
        Ok(answer)
            if answer.log_groups().iter().any(|found| found.log_group_name() == Some(group)) =>
        {
            ok(format!("log group {group}"))
        }
        Ok(_) => warn(
            format!("there is no log group {group}"),
            "create it, or have the CloudWatch agent on the machine create it",
        ),
        Err(refusal) => {
            let refusal = call_error("logs:DescribeLogGroups", &refusal);
            warn(format!("log group {group}: {refusal}"), "the log group could not be checked")
        }
    }
}
