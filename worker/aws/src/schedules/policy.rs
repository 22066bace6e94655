//! The statement in the command queue's policy that lets the fleet's rules send there.
//!
//! EventBridge Scheduler needs none: it sends by its role.

use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use super::{SchedulesError, failed};
use crate::client::Aws;
use crate::disposition::call_error;
use crate::queue_policy::{UnreadablePolicy, merged};
use crate::setup::FoundQueue;

/// Our statement; setup's is another.
const STATEMENT: &str = "LamplighterSchedules";
/// SQS takes 8 KiB of policy, and an ARN has about a hundred bytes. Beyond so many rules all of the
/// account's may send: whoever may make rules could send anyway, by a rule of one of the names.
const NAMED_MAX: usize = 40;

/// The policy as it should be; `None`: it is so.
pub(super) fn wanted(
    found: Option<&str>,
    queue_arn: &str,
    rules: &[&str],
) -> Result<Option<String>, UnreadablePolicy> {
    merged(found, STATEMENT, (!rules.is_empty()).then(|| statement(queue_arn, rules)))
}

fn statement(queue_arn: &str, rules: &[&str]) -> Value {
    // arn:aws:sqs:REGION:ACCOUNT:NAME
    let part = |n: usize| queue_arn.split(':').nth(n).unwrap_or("*");
    let arn = |rule: &str| format!("arn:{}:events:{}:{}:rule/{rule}", part(1), part(3), part(4));
    let sources: Vec<String> = if rules.len() > NAMED_MAX {
        vec![arn("*")]
    } else {
        let mut rules = rules.to_vec();
        rules.sort_unstable();
        rules.into_iter().map(arn).collect()
    };
    json!({
        "Sid": STATEMENT,
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnLike": {"aws:SourceArn": sources}},
    })
}

pub(super) async fn put(
    aws: &Aws,
    queue: &FoundQueue,
    policy: String,
) -> Result<(), SchedulesError> {
    let call = aws.sqs.set_queue_attributes().queue_url(&queue.url);
    let answer = call.attributes(QueueAttributeName::Policy, policy).send().await;
    answer.map(drop).map_err(|error| {
        failed("policy of the command queue", call_error("sqs:SetQueueAttributes", &error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(found: Option<&str>, queue_arn: &str, rules: &[&str]) -> Option<String> {
        super::wanted(found, queue_arn, rules).unwrap()
    }

    const QUEUE: &str = "arn:aws:sqs:eu-central-1:123456789012:commands";

    fn arns(policy: &str) -> Value {
        let policy: Value = serde_json::from_str(policy).unwrap();
        let ours = policy["Statement"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&ours["Sid"], &ours["Resource"]), (&json!(STATEMENT), &json!(QUEUE)));
        ours["Condition"]["ArnLike"]["aws:SourceArn"].clone()
    }

    #[test]
    fn the_fleets_rules_may_send_and_a_second_look_changes_nothing() {
        let policy = wanted(None, QUEUE, &["nightly", "idle"]).unwrap();
        let arn = |rule: &str| format!("arn:aws:events:eu-central-1:123456789012:rule/{rule}");
        assert_eq!(arns(&policy), json!([arn("idle"), arn("nightly")]));
        assert_eq!(wanted(Some(&policy), QUEUE, &["idle", "nightly"]), None);
        let fewer = wanted(Some(&policy), QUEUE, &["idle"]).unwrap();
        assert_eq!(arns(&fewer), json!([arn("idle")]));
        assert_eq!(wanted(Some(&policy), QUEUE, &[]), Some(String::new()));
    }

    #[test]
    fn without_rules_there_is_nothing_to_allow() {
        assert_eq!(wanted(None, QUEUE, &[]), None);
        assert_eq!(wanted(Some(""), QUEUE, &[]), None);
        assert_eq!(wanted(Some(r#"{"Statement":[{"Sid":"X"}]}"#), QUEUE, &[]), None);
    }

    #[test]
    fn many_rules_are_allowed_together_within_the_size_that_sqs_takes() {
        let name = |n: usize| format!("{n:064}");
        let names: Vec<String> = (0..=NAMED_MAX).map(name).collect();
        let rules: Vec<&str> = names.iter().map(String::as_str).collect();
        let all = wanted(None, QUEUE, &rules).unwrap();
        assert_eq!(arns(&all), json!(["arn:aws:events:eu-central-1:123456789012:rule/*"]));
        let most = wanted(None, QUEUE, &rules[..NAMED_MAX]).unwrap();
        assert!(most.len() < 6 * 1024, "{}", most.len());
    }
}
