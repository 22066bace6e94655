//! Rules, patterns, schedules and targets.

use super::{at, bodies, queue, world};
use crate::bus::{Entry, RuleSpec, Target};
use crate::delivery::Unrest;
use crate::{ServiceFault as _, World};

const QUEUE: &str = "arn:aws:sqs:us-east-1:000000000000:q";

fn rule(world: &mut World, spec: RuleSpec, target: &str) {
    let name = spec.name.clone();
    world.put_rule(at(0), spec).unwrap();
    let mut target: serde_json::Value = serde_json::from_str(target).unwrap();
    target["Id"] = "q".into();
    target["Arn"] = QUEUE.into();
    let target: Target = serde_json::from_value(target).unwrap();
    world.bus.rule_mut("default", &name).unwrap().put_targets(vec![target]).unwrap();
}

fn every_minute() -> RuleSpec {
    RuleSpec {
        name: "tick".to_owned(),
        expression: Some("rate(1 minute)".to_owned()),
        ..RuleSpec::default()
    }
}

fn sample() -> World {
    let mut world = world();
    queue(&mut world, "q", &[]);
    world
}

#[test]
fn a_schedule_fires_at_its_times_and_not_while_it_is_off() {
    let mut world = sample();
    rule(&mut world, every_minute(), r#"{"InputPath":"$.time"}"#);
    world.advance(at(125));
    let expected = ["\"2026-11-20T10:01:00Z\"", "\"2026-11-20T10:02:00Z\""];
    assert_eq!(bodies(&world, "q"), expected);
    world.set_rule_enabled(at(130), "default", "tick", false).unwrap();
    world.advance(at(300));
    assert_eq!(bodies(&world, "q").len(), 2);
    world.set_rule_enabled(at(310), "default", "tick", true).unwrap();
    world.advance(at(370));
    assert_eq!(bodies(&world, "q").len(), 3);
}

#[test]
fn a_rule_put_again_unchanged_keeps_its_rhythm_and_its_targets() {
    let mut world = sample();
    rule(&mut world, every_minute(), "{}");
    world.put_rule(at(30), every_minute()).unwrap();
    assert_eq!(world.bus.rule("default", "tick").unwrap().next_fire(), Some(at(60)));
    assert_eq!(world.bus.rule("default", "tick").unwrap().targets.len(), 1);
}

#[test]
fn a_scheduled_event_is_shaped_as_aws_shapes_it() {
    let mut world = sample();
    let target = r#"{"InputTransformer":{"InputPathsMap":{"at":"$.time","rule":"$.resources[0]"},
        "InputTemplate":"{\"at\":<at>,\"rule\":\"<rule>\",\"type\":\"<aws.events.rule-name>\"}"}}"#;
    rule(&mut world, every_minute(), target);
    world.advance(at(60));
    let arn = "arn:aws:events:us-east-1:000000000000:rule/tick";
    let expected = format!(r#"{{"at":"2026-11-20T10:01:00Z","rule":"{arn}","type":"tick"}}"#);
    assert_eq!(bodies(&world, "q"), [expected]);
}

#[test]
fn a_world_that_slept_does_not_fire_what_it_missed() {
    let mut world = sample();
    rule(&mut world, every_minute(), "{}");
    world.resume(at(3600));
    assert!(bodies(&world, "q").is_empty());
    assert_eq!(world.next_due(), Some(at(3660)));
}

#[test]
fn entries_fail_one_by_one() {
    let mut world = sample();
    let pattern = serde_json::json!({"source": ["mine"]});
    let spec = RuleSpec { name: "r".into(), pattern: Some(pattern), ..RuleSpec::default() };
    rule(&mut world, spec, r#"{"Input":"{\"constant\":true}"}"#);
    let entry = |source: &str, detail: &str| Entry {
        source: source.to_owned(),
        detail_type: "X".to_owned(),
        detail: detail.to_owned(),
        ..Entry::default()
    };
    let entries = [
        entry("mine", "{}"),
        entry("mine", "no"),
        entry("mine", "[]"),
        entry("", "{}"),
        entry("aws.ec2", "{}"),
        entry("other", "{}"),
    ];
    let results = world.put_events(at(0), &entries).unwrap();
    let codes: Vec<&str> =
        results.iter().map(|it| it.as_ref().map_or_else(|error| error.code, |_| "ok")).collect();
    let refused = ["MalformedDetail", "MalformedDetail", "InvalidArgument"];
    assert_eq!(codes[1..4], refused);
    assert_eq!([codes[0], codes[4], codes[5]], ["ok", "NotAuthorizedForSourceException", "ok"]);
    assert_eq!(bodies(&world, "q"), [r#"{"constant":true}"#]);
    let eleven = vec![entry("mine", "{}"); 11];
    assert_eq!(world.put_events(at(0), &eleven).unwrap_err().code(), "ValidationException");
}

#[track_caller]
fn refuse(change: impl FnOnce(&mut RuleSpec), code: &str) {
    let mut spec = every_minute();
    change(&mut spec);
    let error = sample().put_rule(at(0), spec).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
}

#[test]
fn what_eventbridge_refuses_is_refused() {
    refuse(|it| it.expression = None, "ValidationException");
    refuse(|it| it.expression = Some("rate(1 minutes)".into()), "ValidationException");
    refuse(|it| it.name = "a b".into(), "ValidationException");
    refuse(|it| it.bus = "none".into(), "ResourceNotFoundException");
    refuse(|it| it.pattern = Some(serde_json::json!({"a": 1})), "InvalidEventPatternException");
}

#[test]
fn deliveries_come_twice_and_hours_late_where_a_test_asks_for_it() {
    let mut world = sample();
    rule(&mut world, every_minute(), "{}");
    world.deliveries.unrest.duplicate_per_mille = 1000;
    world.advance(at(60));
    assert_eq!(bodies(&world, "q").len(), 2);
    world.deliveries.unrest =
        Unrest { duplicate_per_mille: 0, late_per_mille: 1000, late_seconds_max: 7200 };
    world.advance(at(120));
    assert_eq!(bodies(&world, "q").len(), 2, "it is on its way");
    let due = world.next_due();
    assert!(due.is_some_and(|due| due > at(120)), "{due:?}");
    let disabled = RuleSpec { disabled: true, ..every_minute() };
    world.put_rule(at(121), disabled).unwrap();
    // A stored world keeps what is on its way.
    let stored = serde_json::to_string(&world).unwrap();
    let mut world: World = serde_json::from_str(&stored).unwrap();
    world.advance(at(120 + 7200));
    assert_eq!(bodies(&world, "q").len(), 3);
    assert_eq!(world.next_due(), None);
}

#[test]
fn a_delivery_to_no_queue_is_dropped_and_counted() {
    let mut world = sample();
    rule(&mut world, every_minute(), "{}");
    world.queues.delete("q").unwrap();
    world.advance(at(60));
    assert_eq!(world.bus.failed_deliveries, 1);
}
