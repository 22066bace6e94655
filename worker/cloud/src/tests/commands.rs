//! Agents and what they run.

use std::collections::BTreeMap;

use super::{ID, at, ids, world};
use crate::commands::{Command, CommandError, CommandSpec, DOCUMENT};
use crate::{ServiceFault as _, World};

fn spec(script: &str) -> CommandSpec {
    CommandSpec {
        document: DOCUMENT.to_owned(),
        instance_ids: ids(),
        parameters: BTreeMap::from([("commands".to_owned(), vec![script.to_owned()])]),
        timeout_seconds: Some(30),
        ..CommandSpec::default()
    }
}

/// A world whose machine runs since second 3, its agent online since 5.
fn running() -> World {
    let mut world = world();
    world.start_machines(at(0), &ids(), false).unwrap();
    world.advance(at(10));
    world
}

fn send(world: &mut World, seconds: i64, script: &str) -> Command {
    world.send_command(at(seconds), spec(script)).unwrap()
}

/// Status, details, exit code and output at a time.
fn result(world: &mut World, seconds: i64, id: &str) -> (&'static str, &'static str, i64, String) {
    let (_, it) = world.command_invocation(at(seconds), id, ID).unwrap();
    (it.progress.status(), it.progress.details(), it.response_code, it.stdout)
}

#[track_caller]
fn check(script: &str, code: i64, stdout: &str) {
    let mut world = running();
    let id = send(&mut world, 10, script).id;
    let status = if code == 0 { "Success" } else { "Failed" };
    assert_eq!(result(&mut world, 10, &id).0, "InProgress");
    assert_eq!(result(&mut world, 11, &id), (status, status, code, stdout.to_owned()));
}

#[test]
fn a_script_says_of_a_unit_what_systemctl_says() {
    check("unit='web'", 0, "active\n");
    check("unit='web.service'", 0, "active\n");
    check("unit='other'", 4, "unknown\n");
    check("unit='web'\ncheck='is-enabled'", 0, "enabled\n");
    check("unit='other'\ncheck='is-enabled'", 1, "not-found\n");
    check("echo hello", 0, "");
}

#[test]
fn a_guarded_script_runs_once_and_a_repeat_prints_the_first_result() {
    let mut world = running();
    let first = send(&mut world, 10, "token='t'\nunit='web'").id;
    world.advance(at(12));
    world.kill_unit(at(12), ID, "web");
    let second = send(&mut world, 13, "token='t'\nunit='web'").id;
    let third = send(&mut world, 13, "token='u'\nunit='web'").id;
    assert_eq!(result(&mut world, 20, &first).3, "active\n");
    assert_eq!(result(&mut world, 20, &second).3, "active\n");
    assert_eq!(result(&mut world, 20, &third).3, "failed\n");
    assert_eq!(world.commands.executions("t"), 1);
    assert_eq!(world.commands.executions("u"), 1);
}

#[test]
fn settling_delays_the_result_until_the_machine_ran_so_long() {
    let mut world = running();
    let id = send(&mut world, 10, "unit='web'\nsettle_seconds=20").id;
    assert_eq!(result(&mut world, 22, &id).0, "InProgress");
    assert_eq!(result(&mut world, 23, &id).0, "Success");
}

#[test]
fn a_command_waits_for_its_agent() {
    let mut world = world();
    world.start_machines(at(0), &ids(), false).unwrap();
    let id = send(&mut world, 3, "unit='web'").id;
    assert_eq!(result(&mut world, 4, &id).0, "Pending");
    assert_eq!(result(&mut world, 5, &id).0, "InProgress");
    assert_eq!(result(&mut world, 6, &id).0, "Success");
}

#[test]
fn a_command_that_is_never_delivered_times_out_as_such() {
    let mut world = running();
    world.machines.get_mut(ID).unwrap().behaviour.agent_never = true;
    let id = send(&mut world, 10, "unit='web'").id;
    let (status, details, code, _) = result(&mut world, 40, &id);
    assert_eq!((status, details, code), ("TimedOut", "Delivery Timed Out", -1));
}

#[test]
fn a_stop_kills_what_runs_on_the_machine() {
    let mut world = running();
    let mut long = spec("unit='web'\nsettle_seconds=60");
    long.parameters.insert("executionTimeout".to_owned(), vec!["100".to_owned()]);
    let id = world.send_command(at(10), long).unwrap().id;
    world.stop_machines(at(11), &ids(), false).unwrap();
    assert_eq!(result(&mut world, 80, &id).0, "InProgress");
    assert_eq!(result(&mut world, 110, &id).1, "Execution Timed Out");
}

#[track_caller]
fn refuse(change: impl FnOnce(&mut CommandSpec), code: &str) {
    let mut wanted = spec("unit='web'");
    change(&mut wanted);
    let error = running().send_command(at(10), wanted).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
}

#[test]
fn what_ssm_refuses_is_refused() {
    refuse(|it| it.document = "Other".to_owned(), "InvalidDocument");
    refuse(|it| it.parameters.clear(), "InvalidParameters");
    refuse(|it| it.comment = "x".repeat(101), "ValidationException");
    refuse(|it| it.timeout_seconds = Some(29), "ValidationException");
    refuse(|it| it.instance_ids.clear(), "ValidationException");
    refuse(|it| it.instance_ids = vec!["i-0bbbbbbbbbbbbbbb2".to_owned()], "InvalidInstanceId");
    let stopped = world().send_command(at(0), spec("x")).unwrap_err();
    assert!(matches!(stopped, CommandError::InvalidInstanceId { .. }));
}

#[test]
fn an_invocation_is_not_found_for_a_moment() {
    let mut world = running();
    world.timings.invocation = jiff::SignedDuration::from_secs(1);
    let id = send(&mut world, 10, "x").id;
    let early = world.command_invocation(at(10), &id, ID).unwrap_err();
    assert_eq!(early, CommandError::InvocationDoesNotExist);
    assert_eq!(result(&mut world, 11, &id).0, "Success");
}

#[test]
fn a_cancelled_command_ends_at_once() {
    let mut world = running();
    let id = send(&mut world, 10, "unit='web'").id;
    world.cancel_command(at(10), &id, &[]).unwrap();
    assert_eq!(result(&mut world, 60, &id).0, "Cancelled");
}

#[test]
fn a_stopped_machine_is_left_out_and_one_that_comes_up_again_is_known_before_its_agent_is() {
    let mut world = running();
    assert!(world.describe_agents(at(10), &[]).unwrap()[0].online);
    world.stop_machines(at(11), &ids(), false).unwrap();
    assert_eq!(world.describe_agents(at(60), &ids()).unwrap(), []);
    world.timings.agent = jiff::SignedDuration::from_secs(5);
    world.start_machines(at(61), &ids(), false).unwrap();
    let agents = world.describe_agents(at(66), &ids()).unwrap();
    assert!(!agents[0].online);
    assert_eq!(agents[0].last_ping, at(11));
}

#[test]
fn an_id_that_ssm_does_not_take_fails_the_whole_description() {
    let mut world = running();
    let unknown = "i-0bbbbbbbbbbbbbbb9".to_owned();
    let error = world.describe_agents(at(10), &[ids(), vec![unknown]].concat()).unwrap_err();
    assert_eq!(error.code(), "InvalidInstanceId");
    assert!(error.to_string().contains("i-0bbbbbbbbbbbbbbb9"), "{error}");
}

#[test]
fn a_command_is_listed_by_its_machine_once_it_reached_it() {
    let mut world = running();
    let id = ids()[0].clone();
    world.stop_machines(at(11), &ids(), false).unwrap();
    world.start_machines(at(20), &ids(), false).unwrap();
    world.timings.agent = jiff::SignedDuration::from_secs(5);
    let sent = send(&mut world, 23, "unit='web'");
    assert_eq!(world.commands_to(&id).count(), 0, "it is still pending");
    world.advance(at(40));
    let listed: Vec<&str> = world.commands_to(&id).map(|it| it.id.as_str()).collect();
    assert_eq!(listed, [sent.id.as_str()]);
}
