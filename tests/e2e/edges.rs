//! The edges between what a user set and what a service says.

use serde_json::json;

use crate::harness::{Answer, FLEET, Local, eventually, send_raw};

/// Every question to SSM fails for the time being, as in an outage.
const SSM_IS_DOWN: [&str; 2] = ["--fault", "kind=before,service=ssm,status=503"];

fn impatient() -> String {
    let quick = "systemd_unit = \"positionkeeper\"\nstart_timeout = \"2s\"\nready_timeout = \"2s\"";
    FLEET.replacen("systemd_unit = \"positionkeeper\"", quick, 1)
}

#[test]
fn while_ssm_is_down_a_start_ends_at_its_deadline_and_nothing_stays_on() {
    let local = Local::with_fleet(&impatient(), &SSM_IS_DOWN);
    let answer = local.run(&["send", "start", "position-keeper", "--wait", "--json"]);
    let outcome = answer.is(1).json();
    assert_eq!(outcome["cause"], "agent-unreachable", "{outcome}");
    eventually("what nobody wants is stopped", || {
        (local.machine("i-01f5d046c86e4f36e")["state"] == "stopped").then_some(())
    });
}

#[test]
fn while_ssm_is_down_a_stop_is_done() {
    // The unit is asked for all the time, so that each pass would need SSM.
    let watched = "systemd_unit = \"positionkeeper\"\nunit_check_every = \"1s\"";
    let fleet = FLEET.replacen("systemd_unit = \"positionkeeper\"", watched, 1);
    let local = Local::with_fleet(&fleet, &[]);
    local.run(&["send", "start", "position-keeper", "--wait"]).is(0);
    let fault = json!([{"kind": "before", "service": "ssm", "status": 503}]);
    local.control("PUT", "faults", &fault.to_string());
    eventually("SSM is not heard", || local.process.log().contains("not heard").then_some(()));
    local.run(&["send", "stop", "position-keeper", "--wait", "--timeout", "30s"]).is(0);
}

#[test]
fn an_empty_region_is_none() {
    let local = Local::start(&["--no-worker"]);
    Answer::of(local.command().env("AWS_REGION", "").args(["status", "pyelli"]))
        .complains(1, &["no AWS region", "AWS_REGION"]);
}

#[test]
fn a_list_of_dead_letters_that_ends_at_its_limit_says_so() {
    let local = Local::start(&[]);
    send_raw(&local, &["one", "two", "three"]);
    eventually("all are dead letters", || {
        (local.json(&["dlq", "list"]).as_array().map(Vec::len) == Some(3)).then_some(())
    });
    let cut = local.run(&["dlq", "list", "--limit", "2"]);
    assert!(cut.is(0).stdout.contains("2 are shown, and there are more"), "{}", cut.stdout);
    let whole = local.run(&["dlq", "list", "--limit", "3"]);
    assert!(!whole.is(0).stdout.contains("shown"), "{}", whole.stdout);
    let json = local.json(&["dlq", "list", "--limit", "2"]);
    assert_eq!(json.as_array().map(Vec::len), Some(2));
}
