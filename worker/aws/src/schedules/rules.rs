//! Rules of EventBridge: found, made, changed, removed, switched.
//!
//! Only rules of the default bus fire by a schedule. A rule sends to one target, our queue, by an input
//! transformer that carries the rule's name and when it was due.

use aws_sdk_eventbridge::error::ProvideErrorMetadata;
use aws_sdk_eventbridge::operation::describe_rule::DescribeRuleOutput;
use aws_sdk_eventbridge::types::{InputTransformer, RetryPolicy, Rule, RuleState, Tag, Target};
use lamplighter_runtime::ports::CallError;
use serde_json::json;

use super::plan::{Change, EXPRESSION, Found, Planned, Shape};
use super::{
    DESCRIPTION, Home, LATE_SECONDS_MAX, Owner, QUEUE_TAG, SchedulesError, Wanted, failed, owner,
};
use crate::client::Aws;
use crate::disposition::{ErrorCode, call_error, entry_error};

/// Our one target in a rule of ours.
const TARGET: &str = "lamplighter";
/// Where a Scheduled Event says when it was due, and what the template calls it.
const DUE: (&str, &str) = ("due", "$.time");

fn what(name: &str) -> String {
    format!("rule {name}")
}

/// The tick, as the parser of ticks wants it; EventBridge quotes what it puts in.
fn template(name: &str) -> String {
    let due = DUE.0;
    format!("{{\"lamplighter\":\"tick\",\"rule\":{},\"scheduled\":<{due}>}}", json!(name))
}

pub(super) fn shape(wanted: &Wanted, queue_arn: &str) -> Shape {
    Shape::from([
        (EXPRESSION, wanted.expression.clone()),
        ("queue", queue_arn.to_owned()),
        ("input", format!("{} with {}={}", template(&wanted.name), DUE.0, DUE.1)),
        ("retries", retries(Some(LATE_SECONDS_MAX))),
    ])
}

pub(super) fn retries(seconds: Option<i32>) -> String {
    seconds.map_or_else(|| "for a day".to_owned(), |it| format!("for {it}s"))
}

/// The rules of these names, whosever they are, and all that are ours.
pub(super) async fn look(
    aws: &Aws,
    names: &[&str],
    queue_arn: &str,
) -> Result<Vec<Found>, SchedulesError> {
    let mut found = Vec::new();
    let mut token = None;
    loop {
        let call = aws.events.list_rules().set_next_token(token);
        let answer = call.send().await;
        let answer =
            answer.map_err(|error| failed("rules", call_error("events:ListRules", &error)))?;
        for rule in answer.rules() {
            let Some(name) = rule.name() else { continue };
            // A rule of ours always has a schedule.
            if rule.schedule_expression().is_some() || names.contains(&name) {
                found.push(read(aws, rule, name, queue_arn).await?);
            }
        }
        token = answer.next_token().map(str::to_owned);
        if token.is_none() {
            return Ok(found);
        }
    }
}

async fn read(
    aws: &Aws,
    rule: &Rule,
    name: &str,
    queue_arn: &str,
) -> Result<Found, SchedulesError> {
    let what = what(name);
    let missing = || SchedulesError::Incomplete { what: what.clone(), missing: "ARN" };
    let call = aws.events.list_tags_for_resource().resource_arn(rule.arn().ok_or_else(missing)?);
    let answer = call.send().await;
    let answer =
        answer.map_err(|error| failed(&what, call_error("events:ListTagsForResource", &error)))?;
    let tag = answer.tags().iter().find(|tag| tag.key() == QUEUE_TAG).map(Tag::value);
    let owner = owner(tag, queue_arn);
    let mut shape = Shape::new();
    if let Some(expression) = rule.schedule_expression() {
        shape.insert(EXPRESSION, expression.to_owned());
    }
    if let Some(pattern) = rule.event_pattern() {
        shape.insert("pattern", pattern.to_owned());
    }
    let mut targets = Vec::new();
    if owner == Owner::Us {
        for target in list_targets(aws, name).await? {
            if target.id() == TARGET {
                shape.insert("queue", target.arn().to_owned());
                shape.insert("input", input_of(&target));
                let retry = target.retry_policy().and_then(|it| it.maximum_event_age_in_seconds());
                shape.insert("retries", retries(retry));
            }
            targets.push(target.id);
        }
    }
    let enabled = rule.state() != Some(&RuleState::Disabled);
    Ok(Found { home: Home::Rule, name: name.to_owned(), owner, enabled, shape, targets })
}

async fn list_targets(aws: &Aws, name: &str) -> Result<Vec<Target>, SchedulesError> {
    let mut targets = Vec::new();
    let mut token = None;
    loop {
        let answer = aws.events.list_targets_by_rule().rule(name).set_next_token(token);
        let answer = answer
            .send()
            .await
            .map_err(|error| failed(&what(name), call_error("events:ListTargetsByRule", &error)))?;
        token = answer.next_token().map(str::to_owned);
        targets.extend(answer.targets.unwrap_or_default());
        if token.is_none() {
            return Ok(targets);
        }
    }
}

/// What a target sends, in words that differ where the sending does.
fn input_of(target: &Target) -> String {
    if let Some(transformer) = target.input_transformer() {
        let paths = transformer.input_paths_map().into_iter().flatten();
        let mut paths: Vec<String> = paths.map(|(name, path)| format!("{name}={path}")).collect();
        paths.sort_unstable();
        return format!("{} with {}", transformer.input_template(), paths.join(" "));
    }
    match (target.input(), target.input_path()) {
        (Some(input), _) => format!("always {input}"),
        (None, Some(path)) => format!("the event's {path}"),
        (None, None) => "the event".to_owned(),
    }
}

/// Does what is planned about a rule.
pub(super) async fn carry_out(
    aws: &Aws,
    planned: &Planned,
    queue_arn: &str,
) -> Result<(), SchedulesError> {
    let name = &planned.name;
    match &planned.change {
        Change::Unchanged | Change::NotOurs { .. } => Ok(()),
        Change::Add => {
            if describe(aws, name).await?.is_some() {
                return Err(SchedulesError::Meanwhile { what: what(name), done: "made" });
            }
            put_rule(aws, planned, planned.enabled, Some(queue_arn)).await?;
            put_target(aws, name, queue_arn).await
        }
        Change::Change { differences } => {
            let there = describe(aws, name).await?;
            let there = there
                .ok_or_else(|| SchedulesError::Meanwhile { what: what(name), done: "removed" })?;
            let of_rule = |what: &str| what == EXPRESSION || what == "pattern";
            if differences.iter().any(|it| of_rule(it.what)) {
                let enabled = there.state() != Some(&RuleState::Disabled);
                put_rule(aws, planned, enabled, None).await?;
            }
            if differences.iter().any(|it| !of_rule(it.what)) {
                put_target(aws, name, queue_arn).await?;
            }
            Ok(())
        }
        Change::Remove => remove(aws, name, &planned.targets).await,
    }
}

async fn describe(aws: &Aws, name: &str) -> Result<Option<DescribeRuleOutput>, SchedulesError> {
    match aws.events.describe_rule().name(name).send().await {
        Ok(rule) => Ok(Some(rule)),
        Err(error) if ErrorCode::parse(error.code(), 400) == ErrorCode::NoSuchResource => Ok(None),
        Err(error) => Err(failed(&what(name), call_error("events:DescribeRule", &error))),
    }
}

/// Sets all of a rule: what PutRule is not told it forgets, the state included.
async fn put_rule(
    aws: &Aws,
    planned: &Planned,
    enabled: bool,
    owner: Option<&str>,
) -> Result<(), SchedulesError> {
    let name = &planned.name;
    let tag = owner.map(|queue| Tag::builder().key(QUEUE_TAG).value(queue).build()).transpose();
    let tag = tag.map_err(|_| SchedulesError::Incomplete { what: what(name), missing: "tag" })?;
    let state = if enabled { RuleState::Enabled } else { RuleState::Disabled };
    let call = aws.events.put_rule().name(name).description(DESCRIPTION).state(state);
    let call = call.set_schedule_expression(planned.expression.clone());
    let answer = call.set_tags(tag.map(|tag| vec![tag])).send().await;
    answer.map(drop).map_err(|error| failed(&what(name), call_error("events:PutRule", &error)))
}

async fn put_target(aws: &Aws, name: &str, queue_arn: &str) -> Result<(), SchedulesError> {
    let incomplete = |_| SchedulesError::Incomplete { what: what(name), missing: "target" };
    let transformer = InputTransformer::builder()
        .input_paths_map(DUE.0, DUE.1)
        .input_template(template(name))
        .build()
        .map_err(incomplete)?;
    let retries = RetryPolicy::builder().maximum_event_age_in_seconds(LATE_SECONDS_MAX).build();
    let target = Target::builder().id(TARGET).arn(queue_arn).input_transformer(transformer);
    let target = target.retry_policy(retries).build().map_err(incomplete)?;
    let answer = aws.events.put_targets().rule(name).targets(target).send().await;
    let answer =
        answer.map_err(|error| failed(&what(name), call_error("events:PutTargets", &error)))?;
    let refused = answer.failed_entries().first().map(|entry| {
        entry_error("events:PutTargets", entry.error_code(), entry.error_message(), true)
    });
    entry_result(name, refused)
}

fn entry_result(name: &str, refused: Option<CallError>) -> Result<(), SchedulesError> {
    refused.map_or(Ok(()), |error| Err(failed(&what(name), error)))
}

/// A rule goes without its targets, or not at all.
async fn remove(aws: &Aws, name: &str, targets: &[String]) -> Result<(), SchedulesError> {
    if !targets.is_empty() {
        let call = aws.events.remove_targets().rule(name).set_ids(Some(targets.to_vec()));
        match call.send().await {
            Ok(answer) => {
                let refused = answer.failed_entries().first().map(|entry| {
                    let (code, message) = (entry.error_code(), entry.error_message());
                    entry_error("events:RemoveTargets", code, message, true)
                });
                entry_result(name, refused)?;
            }
            // Somebody was faster.
            Err(error) if ErrorCode::parse(error.code(), 400) == ErrorCode::NoSuchResource => {
                return Ok(());
            }
            Err(error) => {
                return Err(failed(&what(name), call_error("events:RemoveTargets", &error)));
            }
        }
    }
    match aws.events.delete_rule().name(name).send().await {
        Ok(_) => Ok(()),
        Err(error) if ErrorCode::parse(error.code(), 400) == ErrorCode::NoSuchResource => Ok(()),
        Err(error) => Err(failed(&what(name), call_error("events:DeleteRule", &error))),
    }
}

pub(super) async fn switch(aws: &Aws, name: &str, enabled: bool) -> Result<(), SchedulesError> {
    let events = &aws.events;
    let refused = if enabled {
        let answer = events.enable_rule().name(name).send().await;
        answer.err().map(|error| call_error("events:EnableRule", &error))
    } else {
        let answer = events.disable_rule().name(name).send().await;
        answer.err().map(|error| call_error("events:DisableRule", &error))
    };
    entry_result(name, refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_tick_once_its_time_is_put_in() {
        let body = template("nightly").replace("<due>", "\"2026-11-20T23:00:00Z\"");
        let rules = [(
            "nightly".to_owned(),
            lamplighter_events::Command::from_json(&json!({"action": "status"})).unwrap(),
        )];
        let parsed = lamplighter_events::parse(&body, &[].into(), &rules.into()).unwrap();
        let lamplighter_events::Inbound::Tick(tick) = parsed else { panic!("{parsed:?}") };
        assert_eq!(tick.command_id().to_string(), "tick:nightly:2026-11-20T23:00:00Z");
    }

    #[test]
    fn what_a_target_sends_is_told_apart() {
        let target = || Target::builder().id(TARGET).arn("q");
        let sends = |it: aws_sdk_eventbridge::types::builders::TargetBuilder| {
            input_of(&it.build().unwrap())
        };
        let transformer = |path: &str| {
            let it = InputTransformer::builder().input_paths_map(DUE.0, path);
            it.input_template(template("a")).build().unwrap()
        };
        let wanted = Wanted {
            name: "a".to_owned(),
            expression: "rate(1 day)".to_owned(),
            zone: None,
            enabled: true,
        };
        let ours = sends(target().input_transformer(transformer(DUE.1)));
        assert_eq!(shape(&wanted, "q")["input"], ours);
        assert_ne!(sends(target().input_transformer(transformer("$.id"))), ours);
        assert_eq!(sends(target()), "the event");
        assert_eq!(sends(target().input("{}")), "always {}");
        assert_eq!(sends(target().input_path("$.detail")), "the event's $.detail");
    }
}
