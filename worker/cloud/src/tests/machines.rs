//! Machines up, down, and what they say meanwhile.

use super::{ID, at, bodies, ids, queue, seed, world};
use crate::bus::{RuleSpec, Target};
use crate::machines::MachineError;
use crate::{MachineState, ServiceFault as _, UnitState, World};

fn state(world: &mut World, seconds: i64) -> MachineState {
    world.advance(at(seconds));
    world.machines.get(ID).unwrap().state()
}

#[test]
fn a_machine_boots_and_stops_in_its_time() {
    let mut world = world();
    world.start_machines(at(0), &ids(), false).unwrap();
    assert_eq!(state(&mut world, 2), MachineState::Pending);
    assert_eq!(state(&mut world, 3), MachineState::Running);
    world.stop_machines(at(10), &ids(), false).unwrap();
    assert_eq!(state(&mut world, 11), MachineState::Stopping);
    assert_eq!(state(&mut world, 12), MachineState::Stopped);
    let view = &world.machines.get(ID).unwrap().view;
    assert_eq!(view.transition_reason, "User initiated (2026-11-20 10:00:10 GMT)");
    assert_eq!(view.public_ip, None);
}

#[test]
fn each_change_of_state_is_one_event() {
    let mut world = world();
    queue(&mut world, "q", &[]);
    let pattern = serde_json::json!({"source": ["aws.ec2"]});
    let spec = RuleSpec { name: "r".into(), pattern: Some(pattern), ..RuleSpec::default() };
    world.put_rule(at(0), spec).unwrap();
    let target = serde_json::json!({"Id": "q", "Arn": "arn:aws:sqs:us-east-1:000000000000:q",
                                    "InputPath": "$.detail.state"});
    let target: Target = serde_json::from_value(target).unwrap();
    world.bus.rule_mut("default", "r").unwrap().put_targets(vec![target]).unwrap();
    world.start_machines(at(0), &ids(), false).unwrap();
    world.start_machines(at(1), &ids(), false).unwrap();
    world.stop_machines(at(5), &ids(), false).unwrap();
    world.advance(at(60));
    let expected = ["\"pending\"", "\"running\"", "\"stopping\"", "\"stopped\""];
    assert_eq!(bodies(&world, "q"), expected);
}

/// Starts at 0, so that it is running from 3 on, and asks at `seconds`.
#[track_caller]
fn check(
    seconds: i64,
    change: impl FnOnce(&mut World) -> Result<(), MachineError>,
    expected: Result<(), (&str, u16)>,
) {
    let mut world = world();
    world.start_machines(at(0), &ids(), false).unwrap();
    world.advance(at(seconds));
    let got = change(&mut world).map_err(|error| (error.code(), error.status()));
    assert_eq!(got, expected);
}

#[test]
fn what_ec2_refuses_is_refused() {
    let start = |world: &mut World, seconds, ids: &[&str], dry_run| {
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        world.start_machines(at(seconds), &ids, dry_run).map(|_| ())
    };
    check(
        1,
        |it| it.stop_machines(at(1), &ids(), false).map(|_| ()),
        Err(("IncorrectInstanceState", 400)),
    );
    check(4, |it| it.stop_machines(at(4), &ids(), false).map(|_| ()), Ok(()));
    check(4, |it| start(it, 4, &[ID], false), Ok(()));
    check(4, |it| start(it, 4, &[ID], true), Err(("DryRunOperation", 412)));
    check(4, |it| start(it, 4, &["web"], false), Err(("InvalidInstanceID.Malformed", 400)));
    check(
        4,
        |it| start(it, 4, &[ID, "i-0bbbbbbbbbbbbbbb2"], false),
        Err(("InvalidInstanceID.NotFound", 400)),
    );
    check(
        6,
        |it| {
            it.stop_machines(at(5), &ids(), false)?;
            start(it, 6, &[ID], false)
        },
        Err(("IncorrectInstanceState", 400)),
    );
}

#[test]
fn unknown_ids_are_named_as_ec2_names_them() {
    let one = MachineError::NotFound(vec!["i-a".into()]);
    assert_eq!(one.to_string(), "The instance ID 'i-a' does not exist");
    let two = MachineError::NotFound(vec!["i-a".into(), "i-b".into()]);
    assert_eq!(two.to_string(), "The instance IDs 'i-a, i-b' do not exist");
}

#[test]
fn a_machine_that_bounces_falls_back_with_its_reason() {
    let mut world = world();
    world.machines.get_mut(ID).unwrap().behaviour.bounce = Some(jiff::SignedDuration::from_secs(1));
    world.start_machines(at(0), &ids(), false).unwrap();
    assert_eq!(state(&mut world, 1), MachineState::Stopped);
    let reason = world.machines.get(ID).unwrap().view.state_reason.clone().unwrap();
    assert_eq!(reason.0, "Client.InternalError");
}

#[test]
fn a_start_without_capacity_is_refused_with_a_500_and_changes_nothing() {
    let mut world = world();
    world.machines.get_mut(ID).unwrap().behaviour.no_capacity = true;
    let error = world.start_machines(at(0), &ids(), false).unwrap_err();
    assert_eq!((error.code(), error.status()), ("InsufficientInstanceCapacity", 500));
    assert_eq!(state(&mut world, 60), MachineState::Stopped);
}

#[test]
fn a_refusal_for_want_of_capacity_is_a_paragraph() {
    let mut world = world();
    world.machines.get_mut(ID).unwrap().behaviour.no_capacity = true;
    let text = world.start_machines(at(0), &ids(), false).unwrap_err().to_string();
    assert!((280..450).contains(&text.len()), "{} {text}", text.len());
    assert!(text.contains("not specifying an Availability Zone"), "{text}");
}

#[test]
fn a_protected_machine_refuses_to_be_stopped_or_terminated() {
    let mut world = world();
    world.start_machines(at(0), &ids(), false).unwrap();
    world.advance(at(10));
    let mut check = |stop, termination, stops: Option<&str>, ends: Option<&str>| {
        let behaviour = &mut world.machines.get_mut(ID).unwrap().behaviour;
        (behaviour.disable_api_stop, behaviour.disable_api_termination) = (stop, termination);
        for (result, part) in [
            (world.clone().stop_machines(at(11), &ids(), false), stops),
            (world.clone().terminate_machines(at(11), &ids(), false), ends),
        ] {
            match part {
                None => drop(result.unwrap()),
                Some(part) => {
                    let error = result.unwrap_err();
                    assert_eq!(error.code(), "OperationNotPermitted");
                    assert!(error.to_string().contains(part), "{error}");
                }
            }
        }
    };
    check(false, false, None, None);
    check(false, true, None, Some("disableApiTermination"));
    check(true, false, Some("disableApiStop"), Some("disableApiStop"));
}

#[test]
fn an_impaired_zone_fails_whole_calls_and_those_that_name_nothing() {
    let mut world = world();
    let there = r#"{"id":"i-0bbbbbbbbbbbbbbb2","zone":"b"}"#;
    world.seed_machine(at(0), &serde_json::from_str(there).unwrap());
    let (here, there) = (ids(), vec!["i-0bbbbbbbbbbbbbbb2".to_owned()]);
    let both = [here.clone(), there.clone()].concat();
    world.machines.zones_out.insert("b".to_owned());
    let mut code = |ids: &[String]| {
        let found = world.describe_machines(at(1), ids, |_, _| true);
        found.err().map(|error| (error.code(), error.status()))
    };
    let out = Some(("Unavailable", 503));
    assert_eq!(code(&here), None);
    assert_eq!((code(&there), code(&both), code(&[])), (out, out, out));
    assert!(world.start_machines(at(1), &both, false).is_err());
    assert_eq!(state(&mut world, 10), MachineState::Stopped, "for all or for none");
    world.machines.zones_out.clear();
    assert_eq!(world.describe_machines(at(12), &[], |_, _| true).unwrap().len(), 2);
}

#[test]
fn a_description_lags_by_what_was_asked() {
    let mut world = world();
    world.timings.describe_lag = jiff::SignedDuration::from_secs(2);
    world.start_machines(at(0), &ids(), false).unwrap();
    let mut seen = |seconds| {
        let found = world.describe_machines(at(seconds), &ids(), |_, _| true).unwrap();
        found[0].1.state
    };
    assert_eq!(seen(1), MachineState::Stopped);
    assert_eq!(seen(2), MachineState::Pending);
    assert_eq!(seen(4), MachineState::Pending);
    assert_eq!(seen(5), MachineState::Running);
}

#[test]
fn units_follow_their_machine_and_their_seed() {
    let mut world = world();
    world.machines.get_mut(ID).unwrap().units.clear();
    let fields = r#"{"units":{"slow":{"active_after":"5s"},"bad":{"after_boot":"failed"},
        "off":{"enabled":false},"frail":{"dies_after":"4s"}}}"#;
    seed(&mut world, fields);
    world.start_machines(at(0), &ids(), false).unwrap();
    let mut words = |seconds| {
        world.advance(at(seconds));
        ["slow", "bad", "off", "frail.service"].map(|unit| world.unit_state(ID, unit).unwrap())
    };
    use UnitState::{Activating, Active, Failed, Inactive};
    assert_eq!(words(3), [Activating, Failed, Inactive, Active]);
    assert_eq!(words(8), [Active, Failed, Inactive, Failed]);
    assert!(world.repair_unit(at(9), ID, "bad"));
    assert!(world.kill_unit(at(9), ID, "slow"));
    assert!(!world.kill_unit(at(9), ID, "none"));
    assert_eq!(world.unit_state(ID, "bad"), Some(Active));
    assert_eq!(world.unit_state(ID, "slow"), Some(Failed));
}

#[test]
fn descriptions_go_back_and_are_never_older_than_the_lag() {
    let mut world = world();
    world.timings.describe_lag = jiff::SignedDuration::from_secs(60);
    world.describes_go_back = true;
    world.start_machines(at(0), &ids(), false).unwrap();
    let seen: Vec<MachineState> = (1..120)
        .map(|seconds| {
            let found = world.describe_machines(at(seconds), &ids(), |_, _| true).unwrap();
            found[0].1.state
        })
        .collect();
    let goes_back =
        |two: &[MachineState]| two[0] == MachineState::Running && two[1] == MachineState::Stopped;
    assert!(seen.windows(2).any(goes_back), "{seen:?}");
    assert!(seen[63..].iter().all(|state| *state == MachineState::Running), "{seen:?}");
}
