//! Messages: hidden, seen again, delayed, and dead.

use std::collections::BTreeMap;

use super::{at, bodies, queue, world};
use crate::queue::{MessageAttribute, Outgoing, QueueError};
use crate::{ServiceFault as _, World};

fn send(world: &mut World, seconds: i64, body: &str, delay: i64) -> String {
    let outgoing =
        Outgoing { body: body.to_owned(), delay_seconds: Some(delay), ..Outgoing::default() };
    world.send_message(at(seconds), "q", outgoing).unwrap()
}

/// Body, receive count and handle of what a receive finds.
fn receive(world: &mut World, seconds: i64) -> Vec<(String, u32, String)> {
    let received = world.receive_messages(at(seconds), "q", 10, None).unwrap();
    received
        .into_iter()
        .map(|it| (it.message.body, it.message.receive_count, it.receipt_handle))
        .collect()
}

fn sample() -> World {
    let mut world = world();
    queue(&mut world, "dead", &[]);
    let redrive =
        r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":2}"#;
    queue(&mut world, "q", &[("VisibilityTimeout", "30"), ("RedrivePolicy", redrive)]);
    world
}

#[test]
fn a_delayed_message_comes_when_its_delay_is_over() {
    let mut world = sample();
    send(&mut world, 0, "later", 5);
    assert!(receive(&mut world, 4).is_empty());
    assert_eq!(world.next_due(), Some(at(5)));
    assert_eq!(receive(&mut world, 5)[0].0, "later");
}

#[test]
fn a_received_message_is_hidden_counted_once_and_comes_back() {
    let mut world = sample();
    send(&mut world, 0, "a", 0);
    assert_eq!(receive(&mut world, 1)[0].1, 1);
    assert!(receive(&mut world, 30).is_empty());
    assert_eq!(receive(&mut world, 31)[0].1, 2);
}

#[test]
fn a_message_received_too_often_becomes_a_dead_letter_with_its_id_and_time() {
    let mut world = sample();
    let id = send(&mut world, 0, "poison", 0);
    receive(&mut world, 1);
    receive(&mut world, 31);
    assert!(receive(&mut world, 61).is_empty());
    let dead = world.receive_messages(at(61), "dead", 1, None).unwrap();
    assert_eq!(dead[0].message.id, id);
    assert_eq!(dead[0].message.sent, at(0));
    assert!(dead[0].message.dead_letter_source.as_ref().unwrap().ends_with(":q"));
}

#[test]
fn an_older_handle_deletes_nothing_once_the_message_was_received_again() {
    let mut world = sample();
    send(&mut world, 0, "a", 0);
    let first = receive(&mut world, 1).remove(0).2;
    let second = receive(&mut world, 31).remove(0).2;
    world.delete_message(at(32), "q", &first).unwrap();
    assert_eq!(bodies(&world, "q").len(), 1);
    world.delete_message(at(99), "q", &second).unwrap();
    assert!(bodies(&world, "q").is_empty());
}

#[track_caller]
fn check_visibility(seconds: i64, visibility: i64, expected: Result<(), &str>) {
    let mut world = sample();
    send(&mut world, 0, "a", 0);
    let handle = receive(&mut world, 0).remove(0).2;
    let changed = world.change_visibility(at(seconds), "q", &handle, visibility);
    assert_eq!(changed.map_err(|error| error.code()), expected);
}

#[test]
fn visibility_is_changed_in_flight_only_and_within_twelve_hours() {
    check_visibility(29, 0, Ok(()));
    check_visibility(29, 43_171, Ok(()));
    check_visibility(29, 43_172, Err("InvalidParameterValue"));
    check_visibility(29, 43_201, Err("InvalidParameterValue"));
    check_visibility(29, -1, Err("InvalidParameterValue"));
    check_visibility(30, 5, Err("MessageNotInflight"));
}

#[track_caller]
fn refuse(outgoing: Outgoing, code: &str) {
    let error = sample().send_message(at(0), "q", outgoing).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
}

#[test]
fn what_sqs_refuses_to_send_is_refused() {
    let body = |body: &str| Outgoing { body: body.to_owned(), ..Outgoing::default() };
    refuse(body(""), "InvalidParameterValue");
    refuse(body("\u{1}"), "InvalidMessageContents");
    refuse(body(&"x".repeat(1024 * 1024 + 1)), "InvalidParameterValue");
    refuse(Outgoing { delay_seconds: Some(901), ..body("x") }, "InvalidParameterValue");
    let empty = MessageAttribute {
        data_type: "String".to_owned(),
        text: Some(String::new()),
        binary: None,
    };
    let attributes = BTreeMap::from([("a".to_owned(), empty)]);
    refuse(Outgoing { attributes, ..body("x") }, "InvalidParameterValue");
    sample().send_message(at(0), "q", body(&"x".repeat(1024 * 1024))).unwrap();
}

#[test]
fn a_handle_of_another_queue_or_of_nobody_is_refused() {
    let mut world = sample();
    send(&mut world, 0, "a", 0);
    let handle = receive(&mut world, 0).remove(0).2;
    for (queue, handle) in [("dead", handle.as_str()), ("q", "bogus"), ("q", "AQEBé")] {
        let error = world.delete_message(at(1), queue, handle).unwrap_err();
        assert_eq!(error.code(), "ReceiptHandleIsInvalid");
    }
    let error = world.delete_message(at(1), "none", &handle).unwrap_err();
    assert_eq!(error, QueueError::DoesNotExist);
}

#[test]
fn a_queue_made_again_is_the_same_queue_unless_an_attribute_differs() {
    let mut world = sample();
    let same = BTreeMap::from([("VisibilityTimeout".to_owned(), "30".to_owned())]);
    world.create_queue(at(1), "q", &same, BTreeMap::new()).unwrap();
    let other = BTreeMap::from([("VisibilityTimeout".to_owned(), "31".to_owned())]);
    let error = world.create_queue(at(1), "q", &other, BTreeMap::new()).unwrap_err();
    assert_eq!(error.code(), "QueueNameExists");
}

#[test]
fn a_message_older_than_the_retention_is_gone() {
    let mut world = world();
    queue(&mut world, "q", &[("MessageRetentionPeriod", "60")]);
    send(&mut world, 0, "old", 0);
    send(&mut world, 30, "young", 0);
    assert_eq!(receive(&mut world, 60)[0].0, "young");
}

#[test]
fn disorder_shuffles_and_doubles() {
    let mut world = sample();
    world.queues.disorder.shuffle = true;
    for body in ["a", "b", "c", "d", "e", "f"] {
        send(&mut world, 0, body, 0);
    }
    let order: String = receive(&mut world, 1).into_iter().map(|it| it.0).collect();
    assert_ne!(order, "abcdef");
    assert_eq!(order.len(), 6);
    world.queues.disorder.duplicate_per_mille = 1000;
    assert_eq!(receive(&mut world, 31).len(), 6);
    assert_eq!(world.queues.get("q").unwrap().counts(at(31)).visible, 6);
}
