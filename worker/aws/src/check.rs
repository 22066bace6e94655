//! `lamplighter check --aws`: does what the fleet file names exist, and may we do what we need to?
//!
//! *Theory.* Each question is one call and one finding, and a refused question is a finding too. Rights
//! are asked with `DryRun`, which EC2 answers without doing anything. A host is asked whether its unit
//! starts at boot only where it runs anyway and its agent answers.
//!
//! *Invariant.* Nothing is started, stopped or written.
//!
//! *Not here.* Services (`check_service`), templates (`check_template`), idle policies (`check_idle`).

use std::time::Duration;

use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::types::{Instance, InstanceAttributeName};
use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{Cause, InstanceId, TargetName};
use lamplighter_lifecycle::{
    Agent, CheckReading, HealthUrl, InstanceRef, InstanceSpec, Observed, Place, PowerState,
    Resource, Seen, TargetSpec, UnitName, UnitProbe,
};
use lamplighter_runtime::ports::{CallError, SHARDS, Store as _};
use serde::Serialize;

use crate::batch::Batcher;
use crate::check_idle::check_idle;
use crate::check_service::check_service;
use crate::check_template::check_template;
use crate::client::{Aws, Names};
use crate::disposition::{ErrorCode, call_error};
use crate::dynamodb::DynamoStore;
use crate::ec2::{Describe, seen};
use crate::secrets::Secrets;
use crate::sqs::{MESSAGE_BYTES_NEEDED, QueueUrl, look_at};
use crate::ssm::{self, Agents, Asked, Verb};

/// How long a host may take to say whether its unit starts at boot.
const HOST_SECONDS: u32 = 40;
/// An event is sent within a second or two of its commit, and tried again each half minute.
const UNSENT_IS_LATE_SECONDS: i64 = 120;

const ATTRIBUTE: &str = "ec2:DescribeInstanceAttribute";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but.
    Warn,
    /// It will not work.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

pub(crate) fn ok(what: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, what: what.into(), hint: None }
}

pub(crate) fn warn(what: impl Into<String>, hint: &str) -> Finding {
    Finding { level: Level::Warn, what: what.into(), hint: Some(hint.to_owned()) }
}

pub(crate) fn error(what: impl Into<String>, hint: &str) -> Finding {
    Finding { level: Level::Error, what: what.into(), hint: Some(hint.to_owned()) }
}

pub(crate) fn refused(asked: &str, refusal: &CallError) -> Finding {
    error(
        format!("{asked}: {refusal}"),
        "see the message; infra/ has the rights that a worker needs",
    )
}

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

/// What was seen of a target on the way.
pub(crate) type SeenBy = Option<(Resource, Observed)>;

async fn check_instance(aws: &Aws, spec: &InstanceSpec) -> (Vec<Finding>, SeenBy) {
    let mut findings = Vec::new();
    let secrets = Secrets::new(aws.secrets.clone());
    let instance = match secrets.resolve(&spec.instance).await {
        Ok(instance) => instance,
        Err(refusal) => {
            findings.push(error(
                refusal.to_string(),
                "the secret must be a JSON object with that key, and readable for the worker",
            ));
            return (findings, None);
        }
    };
    if let InstanceRef::Secret { secret, key } = &spec.instance {
        findings.push(ok(format!("secret {secret} has {key:?}: {instance}")));
    }
    let describe = Describe::new(aws.ec2.clone(), aws.clock());
    let described = Batcher::new(describe).call(instance.clone()).await;
    let described = match described {
        Ok(described) => described,
        Err(refusal) => {
            findings.push(refused(&format!("instance {instance}"), &refusal));
            return (findings, None);
        }
    };
    let Some(machine) = described.instance else {
        let hint = "check the id, the account and the region";
        findings.push(error(format!("EC2 does not know {instance} in {}", aws.region), hint));
        return (findings, None);
    };
    let observed = Observed::of(described.at, Seen::Instance(seen(Some(&machine))));
    let state = observed.state();
    findings.push(match state {
        PowerState::Terminated | PowerState::ShuttingDown => {
            error(format!("{instance} is {}", state.as_str()), "name another instance")
        }
        _ => ok(format!("{instance} is {}", state.as_str())),
    });
    findings.push(rights(aws, &instance, true).await);
    findings.push(rights(aws, &instance, false).await);
    findings.extend(protection(aws, &instance, InstanceAttributeName::DisableApiStop).await);
    if let Some(unit) = &spec.systemd_unit {
        findings.extend(check_host(aws, &instance, &machine, state, unit).await);
    }
    (findings, Some((Resource::Instance(instance), observed)))
}

async fn check_host(
    aws: &Aws,
    instance: &InstanceId,
    machine: &Instance,
    state: PowerState,
    unit: &UnitName,
) -> Vec<Finding> {
    let mut findings =
        vec![match machine.iam_instance_profile().and_then(|profile| profile.arn()) {
            Some(arn) => ok(format!("instance profile {arn}")),
            None => error(
                format!("{instance} has no instance profile, so its SSM agent cannot register"),
                "attach one with the policy AmazonSSMManagedInstanceCore",
            ),
        }];
    if state != PowerState::Running {
        findings.push(warn(
            format!("{instance} is {}: its agent and unit were not asked", state.as_str()),
            "check again while it runs",
        ));
        return findings;
    }
    match Batcher::new(Agents { client: aws.ssm.clone() }).call(instance.clone()).await {
        Ok(Agent::Online) => {
            findings.push(ok("the SSM agent is online"));
            findings.push(boot_enabled(aws, instance, unit).await);
        }
        Ok(Agent::Offline) => findings.push(error(
            "the SSM agent is registered and does not answer",
            "look at amazon-ssm-agent on the machine, and at its way to the internet",
        )),
        Ok(Agent::Unregistered) => findings.push(error(
            "SSM has never heard of this machine",
            "install amazon-ssm-agent and attach an instance profile",
        )),
        Err(refusal) => findings.push(refused("SSM agent", &refusal)),
    }
    findings
}

/// Asks the host whether its unit starts at boot.
async fn boot_enabled(aws: &Aws, instance: &InstanceId, unit: &UnitName) -> Finding {
    let probe = UnitProbe { unit: unit.clone(), settle_seconds: 0, activating_seconds: 0 };
    let what = format!("whether {} starts at boot", unit.as_str());
    let asked = Asked::Unit(&probe, Verb::IsEnabled);
    match ask_host(aws, instance, asked, &what, HOST_SECONDS).await {
        Ok(CheckReading::Said { state }) => enabled(unit, &state),
        Ok(other) => warn(
            format!("{what}: {}", strange(&other)),
            "ask `systemctl is-enabled` on the machine",
        ),
        Err(finding) => *finding,
    }
}

/// The host's answer, once there is one.
pub(crate) async fn ask_host(
    aws: &Aws,
    instance: &InstanceId,
    asked: Asked<'_>,
    what: &str,
    wait_seconds: u32,
) -> Result<CheckReading, Box<Finding>> {
    let clock = aws.clock();
    let token = clock.new_id();
    let act_by = clock.now() + SignedDuration::from_secs(10);
    let refused = |refusal: CallError| Box::new(refused(what, &refusal));
    let sent = ssm::send(&aws.ssm, &clock, instance, &token, asked, act_by).await;
    let command_id = sent.map_err(refused)?;
    for _ in 0..wait_seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match ssm::read_check(&aws.ssm, instance, command_id.as_deref(), &token).await {
            Ok(CheckReading::Pending { .. } | CheckReading::Absent) => {}
            Ok(answer) => return Ok(answer),
            Err(refusal) => return Err(refused(refusal)),
        }
    }
    let words = format!("{what}: no answer within {wait_seconds} s");
    Err(Box::new(warn(words, "check again later")))
}

/// An answer of another sort than the question.
pub(crate) fn strange(reading: &CheckReading) -> String {
    match reading {
        CheckReading::Undelivered { detail } | CheckReading::Broken { detail } => detail.clone(),
        CheckReading::Said { state } => format!("the host says {state:?}"),
        CheckReading::Exited { code, .. } => format!("it exited with {code}"),
        CheckReading::Pending { .. } | CheckReading::Absent => "no answer".to_owned(),
    }
}

fn enabled(unit: &UnitName, state: &str) -> Finding {
    let unit = unit.as_str();
    match state {
        "enabled" | "alias" | "static" | "indirect" | "generated" => {
            ok(format!("{unit} is {state} at boot"))
        }
        "unknown" | "not-found" => error(
            format!("systemd on the machine does not know {unit}"),
            "check systemd_unit in the fleet file",
        ),
        _ => error(
            format!("{unit} is {state}: it will not start when the machine does"),
            &format!("run `systemctl enable {unit}` on the machine"),
        ),
    }
}

/// A machine that is protected by this attribute is never stopped, or never terminated: a dry run does not tell.
pub(crate) async fn protection(
    aws: &Aws,
    instance: &InstanceId,
    attribute: InstanceAttributeName,
) -> Option<Finding> {
    let stop = attribute == InstanceAttributeName::DisableApiStop;
    let call = aws.ec2.describe_instance_attribute().instance_id(instance.as_str());
    let value = match call.attribute(attribute).send().await {
        Ok(answer) if stop => answer.disable_api_stop().and_then(|it| it.value()),
        Ok(answer) => answer.disable_api_termination().and_then(|it| it.value()),
        Err(refusal) => {
            let refusal = call_error(ATTRIBUTE, &refusal);
            let what = format!("whether {instance} is protected could not be asked: {refusal}");
            return Some(warn(what, "allow ec2:DescribeInstanceAttribute to whoever checks"));
        }
    };
    (value == Some(true)).then(|| match stop {
        true => warn(
            format!("{instance} has stop protection (DisableApiStop): it can be started and never stopped"),
            "end it: `aws ec2 modify-instance-attribute --instance-id ID --no-disable-api-stop`",
        ),
        false => warn(
            format!("{instance} has termination protection (DisableApiTermination): it cannot be ended"),
            "end it: `aws ec2 modify-instance-attribute --instance-id ID --no-disable-api-termination`",
        ),
    })
}

/// Asks EC2 whether we might start or stop a machine.
async fn rights(aws: &Aws, instance: &InstanceId, up: bool) -> Finding {
    let (operation, answer) = if up {
        let call = aws.ec2.start_instances().instance_ids(instance.as_str()).dry_run(true);
        let answer = call.send().await;
        let operation = "ec2:StartInstances";
        (operation, answer.map(drop).map_err(|e| (code(e.code()), call_error(operation, &e))))
    } else {
        let call = aws.ec2.stop_instances().instance_ids(instance.as_str()).dry_run(true);
        let answer = call.send().await;
        let operation = "ec2:StopInstances";
        (operation, answer.map(drop).map_err(|e| (code(e.code()), call_error(operation, &e))))
    };
    match answer {
        // A dry run that is allowed is an error, of this name.
        Err((ErrorCode::DryRun, _)) => ok(format!("may call {operation}")),
        Ok(()) => warn(
            format!("{operation}: this endpoint does not answer a dry run as EC2 does"),
            "the right could not be checked",
        ),
        Err((ErrorCode::Denied, refusal)) => error(
            refusal.to_string(),
            &format!("allow {operation} on {instance} for the worker's role"),
        ),
        Err((_, refusal)) => refused(operation, &refusal),
    }
}

fn code(code: Option<&str>) -> ErrorCode {
    ErrorCode::parse(code, 400)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_does_not_start_at_boot_is_an_error_with_its_cure() {
        let unit = UnitName::parse("positionkeeper").unwrap();
        for (state, level) in [
            ("enabled", Level::Ok),
            ("static", Level::Ok),
            ("disabled", Level::Error),
            ("masked", Level::Error),
            ("not-found", Level::Error),
        ] {
            assert_eq!(enabled(&unit, state).level, level, "{state}");
        }
        let hint = enabled(&unit, "disabled").hint.unwrap();
        assert!(hint.contains("systemctl enable positionkeeper"));
    }
}
