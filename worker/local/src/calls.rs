//! The call log: what was asked of the endpoint, without what was in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::input::{list, text, texts};

/// How many calls are remembered: enough for a long test, a few megabytes at most.
pub const CALLS_MAX: usize = 10_000;
/// The longest summary; ids are short, and nobody reads more.
const SUMMARY_CHARS_MAX: usize = 200;

/// One call.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// Rises by one with every call since the start.
    pub seq: u64,
    /// When it came.
    pub time: Timestamp,
    /// `sqs`, `ec2`, …
    pub service: String,
    /// The operation.
    pub operation: String,
    /// The caller's access key id, which is no secret.
    pub access_key: Option<String>,
    /// What it was about: ids and names only.
    pub target: String,
    /// What its caller's policy was asked for and allowed, each an action and a resource; empty where no
    /// policy is in force.
    pub rights: Vec<String>,
    /// `ok`, or the error code; `gone` where the caller went away before it was answered.
    pub outcome: String,
    /// Whether it was done, whatever became of its answer.
    pub done: bool,
    /// How long it took in milliseconds, waiting included.
    pub took_ms: u64,
}

/// The remembered calls and the counts of all.
#[derive(Debug, Default)]
pub(crate) struct CallLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    calls: VecDeque<Call>,
    counts: BTreeMap<String, u64>,
    next_seq: u64,
}

impl CallLog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a call; its number is given here.
    pub(crate) fn record(&self, mut call: Call) {
        let mut inner = self.lock();
        inner.next_seq += 1;
        call.seq = inner.next_seq;
        *inner.counts.entry(format!("{}:{}", call.service, call.operation)).or_default() += 1;
        if inner.calls.len() == CALLS_MAX {
            inner.calls.pop_front();
        }
        inner.calls.push_back(call);
    }

    /// The remembered calls after number `seq`.
    pub(crate) fn since(&self, seq: u64) -> Vec<Call> {
        self.lock().calls.iter().filter(|call| call.seq > seq).cloned().collect()
    }

    /// How many calls of each operation there were.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    /// Forgets all; numbers go on rising.
    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        inner.calls.clear();
        inner.counts.clear();
    }
}

/// What a call is about, by ids and names: never a body, a parameter's value or a secret's.
pub(crate) fn summary(service: &str, input: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    match service {
        "sqs" => {
            let url = text(input, "QueueUrl");
            parts.push(url.rsplit('/').next().unwrap_or_default().to_owned());
            parts.push(text(input, "QueueName").to_owned());
        }
        "ec2" => {
            parts.extend(texts(input, "InstanceId"));
            for holder in [input, &input["LaunchTemplate"]] {
                parts.push(text(holder, "LaunchTemplateId").to_owned());
                parts.push(text(holder, "LaunchTemplateName").to_owned());
            }
            parts.push(text(input, "ClientToken").to_owned());
        }
        "ssm" => {
            parts.extend(texts(input, "InstanceIds"));
            parts.push(text(input, "InstanceId").to_owned());
            parts.push(text(input, "CommandId").to_owned());
        }
        "events" => {
            parts.push(text(input, "Name").to_owned());
            parts.push(text(input, "Rule").to_owned());
            let kinds = list(input, "Entries").iter().map(|it| text(it, "DetailType").to_owned());
            parts.extend(kinds);
        }
        "scheduler" => {
            let names = ["GroupName", "groupName", "ScheduleGroup", "Name", "ResourceArn"];
            parts.extend(names.map(|name| text(input, name).to_owned()));
        }
        "dynamodb" => {
            parts.push(text(input, "TableName").to_owned());
            parts.push(text(input, "IndexName").to_owned());
            let tables = input.get("RequestItems").and_then(Value::as_object);
            parts.extend(tables.into_iter().flatten().map(|(table, _)| table.clone()));
            let items = list(input, "TransactItems").iter();
            let items = items.filter_map(Value::as_object).flatten();
            parts.extend(items.map(|(kind, it)| format!("{kind} {}", text(it, "TableName"))));
        }
        "secretsmanager" => {
            parts.push(text(input, "SecretId").to_owned());
            parts.push(text(input, "Name").to_owned());
        }
        "ecs" => {
            let names = ["cluster", "service", "serviceName"].map(|name| text(input, name));
            parts.extend(names.map(str::to_owned));
            parts.extend(texts(input, "services"));
            parts.extend(texts(input, "tasks"));
            parts.extend(texts(input, "clusters"));
            let desired = input.get("desiredCount").and_then(Value::as_i64);
            parts.extend(desired.map(|it| format!("desiredCount {it}")));
        }
        "application-autoscaling" => {
            parts.extend(texts(input, "ResourceIds"));
            parts.push(text(input, "ResourceId").to_owned());
            let min = input.get("MinCapacity").and_then(Value::as_i64);
            parts.extend(min.map(|it| format!("MinCapacity {it}")));
        }
        "cloudwatch" => {
            parts.push(text(input, "Namespace").to_owned());
            let put = list(input, "MetricData").iter().map(|it| text(it, "MetricName").to_owned());
            parts.extend(put);
            let asked = list(input, "MetricDataQueries").iter();
            let asked = asked.filter_map(|it| it.get("MetricStat")?.get("Metric"));
            parts.extend(asked.map(|metric| {
                format!("{}/{}", text(metric, "Namespace"), text(metric, "MetricName"))
            }));
        }
        "logs" => parts.push(text(input, "logGroupNamePrefix").to_owned()),
        _ => {}
    }
    parts.retain(|part| !part.is_empty());
    parts.join(", ").chars().take(SUMMARY_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(service: &str, input: &str, expected: &str) {
        assert_eq!(summary(service, &serde_json::from_str(input).unwrap()), expected);
    }

    #[test]
    fn a_summary_has_ids_and_nothing_secret() {
        check("sqs", r#"{"QueueUrl":"http://h/0/q","MessageBody":"secret"}"#, "q");
        check("ec2", r#"{"InstanceId":["i-1","i-2"]}"#, "i-1, i-2");
        let launch =
            r#"{"LaunchTemplate":{"LaunchTemplateId":"lt-1"},"ClientToken":"t","X":"hush"}"#;
        check("ec2", launch, "lt-1, t");
        check("secretsmanager", r#"{"SecretId":"s","SecretString":"hush"}"#, "s");
        check("ecs", r#"{"cluster":"c","service":"s","desiredCount":1}"#, "c, s, desiredCount 1");
        check("scheduler", r#"{"GroupName":"g","Name":"s","Target":{"Input":"hush"}}"#, "g, s");
        check(
            "application-autoscaling",
            r#"{"ResourceId":"service/c/s","MinCapacity":0}"#,
            "service/c/s, MinCapacity 0",
        );
        check(
            "cloudwatch",
            r#"{"MetricDataQueries":[{"Id":"a","MetricStat":{"Metric":{"Namespace":"N","MetricName":"m"}}}]}"#,
            "N/m",
        );
        check(
            "cloudwatch",
            r#"{"Namespace":"N","MetricData":[{"MetricName":"m","Value":7}]}"#,
            "N, m",
        );
        check(
            "dynamodb",
            r#"{"TransactItems":[{"Put":{"TableName":"t","Item":{"pk":{"S":"hush"}}}}]}"#,
            "Put t",
        );
    }
}
