//! Bounds that put a desired count back.

use jiff::SignedDuration;

use super::at;
use super::services::{CLUSTER, NAME, scale, service_world, sight};
use crate::scaling::{Suspended, TargetSpec};
use crate::{ServiceFault as _, World};

const ID: &str = "service/prod/web";

fn register(world: &mut World, seconds: i64, min: i64, max: i64) {
    let spec = TargetSpec { min: Some(min), max: Some(max), ..TargetSpec::default() };
    world.register_scalable_target(at(seconds), ID, spec).unwrap();
}

#[track_caller]
fn desired(world: &mut World, seconds: i64, expected: u32) {
    assert_eq!(sight(world, seconds).view.desired, expected, "at {seconds}");
}

#[test]
fn a_service_below_its_min_is_put_back_a_little_later() {
    let mut world = service_world(r#"{"desired":2,"scaling":{"min":1,"max":4}}"#);
    scale(&mut world, 0, 0);
    desired(&mut world, 4, 0);
    desired(&mut world, 5, 1);
    scale(&mut world, 10, 9);
    desired(&mut world, 15, 4);
    assert_eq!(sight(&mut world, 60).running(), 4);
}

#[test]
fn with_min_at_zero_first_a_service_stays_off() {
    let mut world = service_world(r#"{"desired":1,"scaling":{"min":1,"max":4}}"#);
    let spec = TargetSpec { min: Some(0), ..TargetSpec::default() };
    let target = world.register_scalable_target(at(0), ID, spec).unwrap();
    assert_eq!((target.min, target.max), (0, 4), "what is not given stays");
    scale(&mut world, 0, 0);
    desired(&mut world, 600, 0);
    // And back on: the bound rises, and the count with it though nobody set it.
    register(&mut world, 600, 2, 4);
    desired(&mut world, 604, 0);
    desired(&mut world, 605, 2);
}

#[test]
fn a_count_that_is_back_in_time_is_left_alone() {
    let mut world = service_world(r#"{"desired":1,"scaling":{"min":1,"max":4}}"#);
    scale(&mut world, 0, 0);
    scale(&mut world, 4, 2);
    desired(&mut world, 60, 2);
    assert_eq!(world.next_due(), None);
}

#[test]
fn suspended_or_forgotten_bounds_do_nothing() {
    let mut world = service_world(r#"{"desired":1,"scaling":{"min":1,"max":4}}"#);
    let suspended = Suspended { scaling_out: true, ..Suspended::default() };
    let spec = TargetSpec { suspended: Some(suspended), ..TargetSpec::default() };
    world.register_scalable_target(at(0), ID, spec).unwrap();
    scale(&mut world, 0, 0);
    desired(&mut world, 60, 0);
    scale(&mut world, 60, 9);
    desired(&mut world, 70, 4);
    world.deregister_scalable_target(at(70), ID).unwrap();
    assert!(world.scaling.get(ID).is_none());
    scale(&mut world, 70, 9);
    desired(&mut world, 90, 9);
    let error = world.deregister_scalable_target(at(90), ID).unwrap_err();
    assert_eq!(error.code(), "ObjectNotFoundException");
}

#[track_caller]
fn refuse(id: &str, min: Option<i64>, max: Option<i64>, part: &str) {
    let mut world = service_world("{}");
    let spec = TargetSpec { min, max, ..TargetSpec::default() };
    let error = world.register_scalable_target(at(0), id, spec).unwrap_err();
    assert_eq!(error.code(), "ValidationException");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn what_application_auto_scaling_refuses_is_refused() {
    refuse("web", Some(0), Some(1), "Unsupported service namespace");
    refuse("service/web", Some(0), Some(1), "Unsupported service namespace");
    refuse(&format!("service/{CLUSTER}/none"), Some(0), Some(1), "doesn't exist");
    refuse(&format!("service/{CLUSTER}/{NAME}"), None, Some(1), "MinCapacity is required");
    refuse(ID, Some(2), Some(1), "cannot be less than");
    refuse(ID, Some(-1), Some(1), "MinCapacity");
}

#[test]
fn descriptions_of_bounds_lag_and_go_back() {
    let mut world = service_world("{}");
    register(&mut world, 0, 1, 4);
    world.timings.describe_lag = SignedDuration::from_secs(60);
    world.describes_go_back = true;
    register(&mut world, 100, 0, 0);
    let mut shown = |seconds| {
        let found = world.describe_scalable_targets(at(seconds));
        (found[0].min, found[0].max)
    };
    let seen: Vec<(u32, u32)> = (101..200).map(&mut shown).collect();
    let goes_back = |two: &[(u32, u32)]| two[0] == (0, 0) && two[1] == (1, 4);
    assert!(seen.windows(2).any(goes_back), "{seen:?}");
    assert!(seen[59..].iter().all(|bounds| *bounds == (0, 0)), "{seen:?}");
}
