//! What the services do, told in claims. Times are seconds after one fixed moment.

mod bus;
mod commands;
mod launches;
mod machines;
mod metrics;
mod queue;
mod scaling;
mod schedules;
mod services;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::{MachineSeed, Timings, World};

/// The machine of most tests.
const ID: &str = "i-0aaaaaaaaaaaaaaa1";

/// So many seconds after the beginning.
fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
    start.checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

/// A world with one stopped machine that boots in 3 s, stops in 2 s, has its agent 2 s after running, and
/// runs commands in 1 s.
fn world() -> World {
    let timings = Timings {
        command: SignedDuration::from_secs(1),
        invocation: SignedDuration::ZERO,
        ..Timings::default()
    };
    let mut world = World::new("000000000000", "us-east-1", timings, 1, at(0));
    seed(&mut world, r#"{"units":{"web":{}}}"#);
    world
}

/// Puts the machine in, with these fields of its seed.
fn seed(world: &mut World, fields: &str) {
    let mut seed: serde_json::Value = serde_json::from_str(fields).unwrap();
    seed["id"] = ID.into();
    seed["name"] = "web-1".into();
    let seed: MachineSeed = serde_json::from_value(seed).unwrap();
    world.seed_machine(at(0), &seed);
}

fn ids() -> Vec<String> {
    vec![ID.to_owned()]
}

fn queue(world: &mut World, name: &str, attributes: &[(&str, &str)]) {
    let attributes: BTreeMap<String, String> =
        attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    world.create_queue(at(0), name, &attributes, BTreeMap::new()).unwrap();
}

/// The bodies that lie in a queue, in the order they came.
fn bodies(world: &World, name: &str) -> Vec<String> {
    world.queues.get(name).unwrap().messages().map(|it| it.body.clone()).collect()
}

#[test]
fn a_world_that_was_stored_is_the_same_world() {
    let mut world = world();
    queue(&mut world, "q", &[]);
    world.start_machines(at(1), &ids(), false).unwrap();
    let text = serde_json::to_string(&world).unwrap();
    let mut again: World = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    world.advance(at(60));
    again.advance(at(60));
    assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&world).unwrap());
}

#[test]
fn the_clock_never_runs_backwards() {
    let mut world = world();
    world.advance(at(10));
    world.start_machines(at(1), &ids(), false).unwrap();
    assert_eq!(world.clock(), at(10));
    assert_eq!(world.next_due(), Some(at(13)));
}
