//! Schedules of another team's EventBridge: real rules with real targets, whose ticks arrive as bodies
//! that we had no hand in.
//!
//! *Theory.* There are four ways from a schedule to a command: the tick as it is, with its meaning in the
//! fleet's `[schedules]`; a constant input that is the command; an input transformer that carries rule,
//! time and command; and EventBridge Scheduler. The first, the third and the fourth know when they were
//! due, so that a tick which is delivered twice is one command; a constant input does not.
//!
//! *What is changed of ministack*: its clock alone. It looks for what is due every ten seconds, and a
//! `rate(1 minute)` is the shortest; [`QUICK`] makes both a thirtieth. What it sends stays as it is.
//!
//! *What ministack lacks*: Scheduler's context attributes (`<aws.scheduler.scheduled-time>`).

use aws_sdk_eventbridge::types::{InputTransformer, RuleState, Target};
use serde_json::{Value, json};

use crate::harness::{aws_rest, eventually, sdk_of};
use crate::ministack::{Ministack, on_its_own};

/// Starts ministack with a faster clock for schedules.
pub(crate) const QUICK: &str = "
from ministack.app import main
from ministack.services import eventbridge, scheduler
assert eventbridge._SCHEDULER_TICK_INTERVAL == scheduler._SCHEDULE_TICK_INTERVAL == 10
eventbridge._SCHEDULER_TICK_INTERVAL = scheduler._SCHEDULE_TICK_INTERVAL = 0.3
seconds = eventbridge._parse_rate_seconds
eventbridge._parse_rate_seconds = lambda text: seconds(text) and seconds(text) / 30
main()
";

/// What the ticks of two rules mean that carry nothing themselves.
const SCHEDULES: &str = r#"
[schedules.as-it-is]
expression = "rate(1 minute)"
command = { action = "start", target = "plain", holder = "as-it-is" }
[schedules.by-scheduler]
expression = "rate(1 minute)"
command = { action = "start", target = "plain", holder = "by-scheduler" }
"#;

const QUEUE: &str = "arn:aws:sqs:us-east-1:000000000000:lamplighter-commands";

fn target() -> aws_sdk_eventbridge::types::builders::TargetBuilder {
    Target::builder().id("commands").arn(QUEUE)
}

/// Makes a rule with this target that is due once a minute, which here is every other second.
fn rule(
    stack: &Ministack,
    name: &str,
    target: aws_sdk_eventbridge::types::builders::TargetBuilder,
) {
    on_its_own(async {
        let events = aws_sdk_eventbridge::Client::new(&sdk_of(&stack.endpoint).await);
        let rule = events.put_rule().name(name).schedule_expression("rate(1 minute)");
        rule.state(RuleState::Enabled).send().await.expect("EventBridge takes the rule");
        let target = target.build().expect("a target with id and ARN");
        let answer = events.put_targets().rule(name).targets(target).send().await;
        assert_eq!(answer.expect("EventBridge takes the target").failed_entry_count(), 0);
    });
}

fn disable(stack: &Ministack, name: &str) {
    on_its_own(async {
        let events = aws_sdk_eventbridge::Client::new(&sdk_of(&stack.endpoint).await);
        events.disable_rule().name(name).send().await.expect("EventBridge disables the rule");
    });
}

/// Makes a schedule of EventBridge Scheduler, of which no SDK is at hand.
fn schedule(stack: &Ministack, name: &str, input: Option<&str>) {
    let mut target = json!({"Arn": QUEUE, "RoleArn": "arn:aws:iam::000000000000:role/scheduler"});
    if let Some(input) = input {
        target["Input"] = json!(input);
    }
    let body = json!({"ScheduleExpression": "at(2020-01-01T00:00:00)",
        "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": target});
    let path = format!("/schedules/{name}");
    let (status, answer) = aws_rest(&stack.endpoint, "scheduler", &path, &body.to_string());
    assert_eq!(status, 200, "{answer}");
}

/// The ids of the starts of a holder that are done, by the history.
pub(crate) fn done_by(stack: &Ministack, holder: &str) -> Vec<String> {
    let history = stack.json(&["history", "plain"]);
    let opening = format!("start by {holder} (");
    let id = |entry: &Value| {
        let (id, rest) = entry["what"].as_str()?.strip_prefix(&opening)?.split_once("): ")?;
        rest.starts_with("done").then(|| id.to_owned())
    };
    history.as_array().expect("a list").iter().filter_map(id).collect()
}

#[track_caller]
pub(crate) fn check_done(stack: &Ministack, id: &str) {
    let outcome = stack.json(&["outcome", id]);
    assert_eq!((&outcome["outcome"], &outcome["action"]), (&json!("done"), &json!("start")));
}

#[test]
fn a_rule_of_ministack_ticks_and_its_command_is_done() {
    let Some(stack) = Ministack::working_with(&["-c", QUICK], SCHEDULES) else { return };
    // The event as EventBridge makes it.
    rule(&stack, "as-it-is", target());
    // A constant, which is a command like any other.
    let constant = json!({"action": "start", "target": "plain", "holder": "constant"});
    rule(&stack, "constant", target().input(constant.to_string()));
    // The tick with its command, as the input transformer writes it.
    let transformer = InputTransformer::builder()
        .input_paths_map("due", "$.time")
        .input_template(
            r#"{"lamplighter": "tick", "rule": <aws.events.rule-name>, "scheduled": <due>,
                "command": {"action": "start", "target": "plain", "holder": "transformed"}}"#,
        )
        .build()
        .expect("a transformer with a template");
    rule(&stack, "transformed", target().input_transformer(transformer));

    // Each rule ticks again and again: twice shows that a tick's id is its own.
    let ids = ["as-it-is", "constant", "transformed"].map(|holder| {
        eventually("two ticks are done", || {
            let ids = done_by(&stack, holder);
            (ids.len() >= 2 && ids[0] != ids[1]).then_some(ids)
        })
    });
    for rule in ["as-it-is", "constant", "transformed"] {
        disable(&stack, rule);
    }
    let status = stack.json(&["status", "plain"]);
    assert_eq!((&status["phase"], &status["ec2_state"]), (&json!("on"), &json!("running")));
    let [as_it_is, constant, transformed] = ids;
    for id in [&as_it_is[0], &constant[0], &transformed[0]] {
        check_done(&stack, id);
    }
    assert!(as_it_is.iter().all(|id| id.starts_with("tick:as-it-is:20")), "{as_it_is:?}");
    assert!(transformed.iter().all(|id| id.starts_with("tick:transformed:20")), "{transformed:?}");
    // Of SQS's making: nothing in a constant tells one tick from the next.
    assert!(constant.iter().all(|id| id.len() == 36), "{constant:?}");
    assert!(stack.reasons().is_empty(), "{:?}", stack.reasons());
}

#[test]
fn a_tick_of_a_rule_that_the_fleet_does_not_have_is_a_dead_letter_that_names_it() {
    let Some(stack) = Ministack::working_with(&["-c", QUICK], SCHEDULES) else { return };
    rule(&stack, "forgotten", target());
    eventually("it is parked", || {
        stack.reasons().contains(&"unknown-rule".to_owned()).then_some(())
    });
    disable(&stack, "forgotten");
    let letters = stack.json(&["dlq", "list"]);
    let message = letters[0]["message"].as_str().expect("a reason in words").to_owned();
    assert!(message.contains("forgotten") && message.contains("as-it-is"), "{message}");
    // It was due at a time, which makes an id; so there is an outcome.
    let id = letters[0]["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("tick:forgotten:20"), "{id}");
    assert_eq!(stack.run(&["outcome", &id, "--json"]).is(1).json()["cause"], "invalid");
}

/// ministack hands Scheduler's context attributes on as they stand; AWS fills them in. A schedule whose
/// time was not filled in cannot be told from its own repeat, so it is refused and not guessed at.
#[test]
fn a_schedule_is_done_and_one_whose_time_ministack_does_not_fill_in_says_so() {
    let Some(stack) = Ministack::working_with(&["-c", QUICK], SCHEDULES) else { return };
    let unfilled = json!({
        "lamplighter": "tick", "rule": "by-scheduler", "scheduled": "<aws.scheduler.scheduled-time>",
        "command": {"action": "kill", "target": "plain"},
    });
    schedule(&stack, "unfilled", Some(&unfilled.to_string()));
    eventually("it is parked", || (stack.reasons() == ["invalid-field"]).then_some(()));
    let letters = stack.json(&["dlq", "list"]);
    let message = letters[0]["message"].as_str().expect("a reason in words").to_owned();
    assert!(message.contains("scheduled") && message.contains("a time with its zone"), "{message}");

    // Without an input Scheduler sends an event, as a rule does, whose time is filled in.
    schedule(&stack, "by-scheduler", None);
    let ids = eventually("it is done", || {
        let ids = done_by(&stack, "by-scheduler");
        (!ids.is_empty()).then_some(ids)
    });
    assert!(ids[0].starts_with("tick:by-scheduler:20"), "{ids:?}");
    check_done(&stack, &ids[0]);
    assert_eq!(stack.reasons(), ["invalid-field"], "the other stays what it was");
}
