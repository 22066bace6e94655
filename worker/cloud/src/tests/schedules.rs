//! Schedules of EventBridge Scheduler: zones, states, inputs, groups.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::{at, bodies, queue, world};
use crate::schedules::ScheduleSpec;
use crate::{ServiceFault as _, World};

fn spec(expression: &str) -> ScheduleSpec {
    ScheduleSpec {
        name: "s".to_owned(),
        expression: expression.to_owned(),
        target: json!({"Arn": "arn:aws:sqs:us-east-1:000000000000:q", "RoleArn": "arn:role",
            "Input": "<aws.scheduler.scheduled-time>"}),
        window: json!({"Mode": "OFF"}),
        ..ScheduleSpec::default()
    }
}

fn sample() -> World {
    let mut world = world();
    queue(&mut world, "q", &[]);
    world
}

#[test]
fn a_schedule_fires_by_the_clock_of_its_zone_and_its_input_is_filled_in() {
    let mut world = sample();
    let mut berlin = spec("cron(0 12 * * ? *)");
    berlin.zone = "Europe/Berlin".to_owned();
    berlin.target["Input"] = "<aws.scheduler.schedule-arn> <aws.scheduler.scheduled-time> \
        <aws.scheduler.attempt-number> <aws.scheduler.execution-id>"
        .into();
    let arn = world.create_schedule(at(0), berlin).unwrap();
    // It is 11:00 in Berlin.
    world.advance(at(3600));
    let sent = bodies(&world, "q");
    let words: Vec<&str> = sent[0].split(' ').filter(|it| !it.is_empty()).collect();
    assert_eq!(words[..3], [&*arn, "2026-11-20T11:00:00Z", "1"]);
    assert_eq!((sent.len(), words[3].len()), (1, 36));
    let next: Timestamp = "2026-11-21T11:00:00Z".parse().unwrap();
    assert_eq!(world.schedules.get("", "s").unwrap().next_fire(), Some(next));
}

#[test]
fn a_rate_fires_at_once_and_a_moment_once() {
    let mut world = sample();
    world.create_schedule(at(5), spec("rate(1 minute)")).unwrap();
    let once = ScheduleSpec { name: "once".to_owned(), ..spec("at(2026-11-20T10:00:30)") };
    world.create_schedule(at(5), once).unwrap();
    world.advance(at(70));
    let expected = ["2026-11-20T10:00:05Z", "2026-11-20T10:00:30Z", "2026-11-20T10:01:05Z"];
    assert_eq!(bodies(&world, "q"), expected);
    assert_eq!(world.schedules.get("default", "once").unwrap().next_fire(), None);
}

#[test]
fn without_an_input_an_event_is_sent() {
    let mut world = sample();
    let mut bare = spec("at(2026-11-20T10:00:30)");
    bare.target.as_object_mut().unwrap().remove("Input");
    let arn = world.create_schedule(at(0), bare).unwrap();
    world.advance(at(30));
    let event: serde_json::Value = serde_json::from_str(&bodies(&world, "q")[0]).unwrap();
    assert_eq!(event["detail-type"], "Scheduled Event");
    assert_eq!(event["source"], "aws.scheduler");
    assert_eq!((&event["resources"][0], &event["detail"]), (&json!(arn), &json!("{}")));
    assert_eq!(event["time"], "2026-11-20T10:00:30Z");
}

#[test]
fn an_update_sets_all_of_it_also_the_state() {
    let mut world = sample();
    let off = ScheduleSpec { disabled: true, ..spec("rate(1 minute)") };
    world.create_schedule(at(0), off.clone()).unwrap();
    world.advance(at(100));
    assert!(bodies(&world, "q").is_empty());
    world.update_schedule(at(100), spec("rate(1 minute)")).unwrap();
    assert_eq!(world.next_due(), Some(at(160)));
    // The same again keeps its rhythm.
    world.update_schedule(at(130), spec("rate(1 minute)")).unwrap();
    assert_eq!(world.next_due(), Some(at(160)));
    world.update_schedule(at(130), off).unwrap();
    assert_eq!(world.next_due(), None);
}

#[test]
fn the_same_call_again_is_no_conflict_and_another_is() {
    let mut world = sample();
    let token = |it: &str| ScheduleSpec { token: Some(it.to_owned()), ..spec("rate(1 day)") };
    let arn = world.create_schedule(at(0), token("a")).unwrap();
    assert_eq!(world.create_schedule(at(1), token("a")).unwrap(), arn);
    assert_eq!(world.create_schedule(at(1), token("b")).unwrap_err().code(), "ConflictException");
    let mut group = |token: &str| {
        world.create_schedule_group(at(1), "g", BTreeMap::new(), Some(token.to_owned()))
    };
    assert!(group("a").is_ok() && group("a").is_ok());
    assert_eq!(group("b").unwrap_err().status(), 409);
}

#[test]
fn groups_keep_their_schedules_apart() {
    let mut world = sample();
    let grouped = ScheduleSpec { group: "g".to_owned(), ..spec("rate(1 day)") };
    assert_eq!(world.create_schedule(at(0), grouped.clone()).unwrap_err().status(), 404);
    let tags = BTreeMap::from([("who".to_owned(), "me".to_owned())]);
    world.create_schedule_group(at(0), "g", tags, None).unwrap();
    world.create_schedule(at(0), grouped).unwrap();
    world.create_schedule(at(0), spec("rate(1 day)")).unwrap();
    assert_eq!(world.schedules.iter().count(), 2);
    assert_eq!(world.schedules.group("g").unwrap().tags["who"], "me");
    world.schedules.delete("", "s").unwrap();
    assert_eq!(world.schedules.delete("", "s").unwrap_err().status(), 404);
    world.schedules.delete_group("g").unwrap();
    assert_eq!(world.schedules.iter().count(), 0);
    assert_eq!(world.schedules.delete_group("default").unwrap_err().code(), "ValidationException");
}

#[track_caller]
fn refuse(change: impl FnOnce(&mut ScheduleSpec)) {
    let mut spec = spec("rate(1 day)");
    change(&mut spec);
    let error = sample().create_schedule(at(0), spec).unwrap_err();
    assert_eq!(error.code(), "ValidationException", "{error}");
}

#[test]
fn what_scheduler_refuses_is_refused() {
    refuse(|it| it.expression = "rate(1 days)".to_owned());
    refuse(|it| it.zone = "Europe/Nowhere".to_owned());
    refuse(|it| it.name = "a b".to_owned());
    refuse(|it| it.window = json!({}));
    refuse(|it| it.target["RoleArn"] = json!(null));
    refuse(|it| it.target["Arn"] = json!("arn:aws:lambda:us-east-1:000000000000:function:f"));
    refuse(|it| it.target["RetryPolicy"] = json!({"MaximumEventAgeInSeconds": 59}));
}

#[test]
fn a_world_that_slept_skips_what_it_missed_and_keeps_its_schedules() {
    let mut world = sample();
    world.create_schedule(at(0), spec("rate(1 minute)")).unwrap();
    world.advance(at(0));
    let stored = serde_json::to_string(&world).unwrap();
    let mut again: World = serde_json::from_str(&stored).unwrap();
    again.resume(at(3600));
    assert_eq!(bodies(&again, "q").len(), 1);
    assert_eq!(again.next_due(), Some(at(3660)));
}

#[test]
fn a_delivery_to_no_queue_is_dropped_and_counted() {
    let mut world = world();
    world.create_schedule(at(0), spec("rate(1 minute)")).unwrap();
    world.advance(at(0));
    assert_eq!(world.schedules.failed_deliveries, 1);
}
