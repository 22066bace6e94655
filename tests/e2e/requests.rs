//! Requests for machines over real sockets: what one costs, and what comes of many at once, of no room, of failing
//! bootstraps, of spot machines that are taken back, and of workers that die in every step.
//!
//! *Not here.* How it looks to people (`machines`), and every fault at every call (the simulation).

use std::time::Duration;

use serde_json::{Value, json};

use crate::gang::Gang;
use crate::harness::{FLEET, Local, TEMPLATE, eventually, send_raw};
use crate::wire::Wire;

const LAUNCH_TEMPLATE: &str = "[local.launch_templates.lt-0123456789abcdef0]\n";

/// The template with more of its own, and machines with more of theirs.
fn fleet(template: &str, machines: &str) -> String {
    let section = format!("\n{LAUNCH_TEMPLATE}");
    let (head, tail) = TEMPLATE.split_once(&section).expect("it has both sections");
    format!("{FLEET}{head}\n{template}{section}{machines}{tail}")
}

fn create(blob: &str, id: &str) -> String {
    json!({"action": "create", "template": "walrus", "blob_id": blob, "id": id}).to_string()
}

/// The machines that are there and were launched.
fn launched(local: &Local) -> Vec<Value> {
    let all = local.control("GET", "machines", "");
    let list = all.get("machines").unwrap_or(&all).as_array().cloned().unwrap_or_default();
    let there = |it: &Value| !it["launch"].is_null() && it["state"] != "terminated";
    list.into_iter().filter(there).collect()
}

#[test]
fn a_create_and_a_destroy_cost_what_the_budget_says() {
    // The watch over its unit has a budget of its own.
    let local = Local::with_fleet(&fleet("unit_check_every = \"off\"", ""), &[]);
    eventually("it has looked at the fleet", || {
        (local.count("ec2:DescribeInstances") > 1).then_some(())
    });
    let wire = Wire::to(&local);
    let writes = |local: &Local| {
        ["PutItem", "UpdateItem", "TransactWriteItems", "DeleteItem"]
            .iter()
            .map(|operation| local.count(&format!("dynamodb:{operation}")))
            .sum::<u64>()
    };
    local.control("DELETE", "calls", "");
    let made = local.send(&["create", "walrus", "--set", "blob_id=one"]);
    assert_eq!(made["outcome"], "done", "{made}");
    wire.await_rest();
    assert_eq!(local.count("ec2:RunInstances"), 1);
    assert_eq!(local.count("ssm:SendCommand"), 1);
    // The request with its launch, its answer, waiting for the agent, the bootstrap, its answer, ready; and, of
    // those that send an event and allow no effect, one each that clears it.
    assert_eq!(writes(&local), 9);

    local.control("DELETE", "calls", "");
    let target = made["answer"]["target"].as_str().expect("its name");
    local.run(&["send", "destroy", target, "--wait"]).is(0);
    wire.await_rest();
    assert_eq!(local.count("ec2:TerminateInstances"), 1);
    assert_eq!(writes(&local), 4);
    assert!(launched(&local).is_empty());
}

#[test]
fn the_same_request_is_one_machine_and_the_limit_holds_while_workers_die() {
    let local = Local::with_fleet(&fleet("dedupe = \"blob_id\"", ""), &["--no-worker"]);
    let mut gang = Gang::new(&local, 3);
    let mut bodies = Vec::new();
    for number in 0..6 {
        // Seconds apart or at once, from clients that know nothing of each other, and one of them twice.
        bodies.push(create("same", &format!("same-{number}")));
        bodies.push(create(&format!("other-{number}"), &format!("other-{number}")));
    }
    bodies.push(create("same", "same-0"));
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    send_raw(&local, &bodies);
    for at in 0..3 {
        std::thread::sleep(Duration::from_millis(400));
        assert!(launched(&local).len() <= 3, "never more than the limit");
        gang.kill(&local, at);
    }
    let outcomes: Vec<Value> = (0..6)
        .flat_map(|number| [format!("same-{number}"), format!("other-{number}")])
        .map(|id| local.outcome(&id))
        .collect();
    assert!(launched(&local).len() <= 3);
    let done: Vec<&Value> = outcomes.iter().filter(|it| it["outcome"] == "done").collect();
    let full = outcomes.iter().filter(|it| it["outcome"] == "rejected").count();
    assert_eq!(done.len() + full, outcomes.len(), "{outcomes:?}");
    let mut machines: Vec<&str> =
        done.iter().filter_map(|it| it["answer"]["instance_id"].as_str()).collect();
    machines.sort_unstable();
    machines.dedup();
    assert_eq!(machines.len(), 3, "as many as there may be: {outcomes:?}");
    let same: Vec<&Value> = done
        .iter()
        .filter(|it| it["answer"]["blob_id"] == "same")
        .map(|it| &it["answer"]["instance_id"])
        .collect();
    assert!(same.windows(2).all(|two| two[0] == two[1]), "{same:?}");

    for machine in machines {
        local.run(&["send", "destroy", machine, "--wait"]).is(0);
    }
    assert!(launched(&local).is_empty());
    local.run(&["leaks"]).is(0);
    gang.end();
}

#[test]
fn where_there_is_no_room_the_next_subnet_is_asked_and_each_once() {
    let more = "subnets = [\"subnet-0a1b2c3d\", \"subnet-1a1b2c3d\"]\n\
                market = \"spot-then-on-demand\"\n";
    let local = Local::with_fleet(&fleet(more, ""), &[]);
    local.control("PUT", "shortages", r#"[{"of": "spot"}, {"of": "subnet-0a1b2c3d"}]"#);
    let made = local.send(&["create", "walrus", "--set", "blob_id=one"]);
    assert_eq!(made["outcome"], "done", "{made}");
    let all = launched(&local);
    assert_eq!(
        (&all[0]["launch"]["subnet"], &all[0]["launch"]["spot"]),
        (&json!("subnet-1a1b2c3d"), &json!(false))
    );
    assert_eq!(local.count("ec2:RunInstances"), 4, "spot in both, then on demand in both");
    let target = made["answer"]["target"].as_str().expect("its name");
    let history = local.run(&["history", target]).is(0).stdout.clone();
    assert!(history.contains("refusals in 2 subnets"), "{history}");
}

#[test]
fn a_template_that_has_no_room_for_long_fails_and_says_what_was_tried() {
    let local = Local::with_fleet(&fleet("start_timeout = \"3s\"\n", ""), &[]);
    local.control("PUT", "shortages", r#"[{"of": "everything"}]"#);
    let failed = local.send(&["create", "walrus", "--set", "blob_id=one"]);
    assert_eq!((&failed["outcome"], &failed["cause"]), (&json!("failed"), &json!("capacity")));
    assert!(failed["message"].as_str().unwrap_or_default().contains("on demand"), "{failed}");
    assert_eq!(local.json(&["status", "walrus"])["taken"], json!(0));
    local.run(&["leaks"]).is(0);
}

#[test]
fn a_bootstrap_that_fails_ends_its_machine_and_the_record_says_why() {
    let trouble = "bootstrap_exit = 12\nbootstrap_output = \"fetch: blob not found (404)\"\n";
    let local = Local::with_fleet(&fleet("", trouble), &[]);
    let failed = local.send(&["create", "walrus", "--set", "blob_id=gone"]);
    assert_eq!((&failed["outcome"], &failed["cause"]), (&json!("failed"), &json!("unit-failed")));
    let said = "the bootstrap walrus failed (exit 12): fetch: blob not found (404)";
    assert_eq!(failed["message"], said);
    eventually("its machine is gone", || launched(&local).is_empty().then_some(()));
    let target = failed["answer"]["target"].as_str().expect("its name");
    let status = eventually("it rests", || {
        let status = local.json(&["status", target]);
        (status["phase"] == "failed").then_some(status)
    });
    assert_eq!(status["processing_status"], "failed");
    assert!(status["error"].as_str().is_some_and(|error| error.contains(said)), "{status}");
    local.run(&["leaks"]).is(0);
}

#[test]
fn hostile_requests_are_refused_before_anything_is_launched() {
    let local = Local::with_fleet(&fleet("", ""), &[]);
    let long = "a".repeat(4000);
    for (number, blob) in ["x\"; rm -rf / #", "$(id)", "", "..", "`id`", &long].iter().enumerate() {
        send_raw(&local, &[&create(blob, &format!("bad-{number}"))]);
        let refused = local.outcome(&format!("bad-{number}"));
        let both = (&refused["outcome"], &refused["cause"]);
        assert_eq!(both, (&json!("rejected"), &json!("invalid")), "{blob:.20}: {refused}");
    }
    // What is too long for a parameter at all, or names no template, is a dead letter with an outcome.
    send_raw(&local, &[&create(&"a".repeat(10_240), "long")]);
    send_raw(&local, &[r#"{"action":"create","template":"other","blob_id":"a","id":"other"}"#]);
    for id in ["long", "other"] {
        assert_eq!(local.outcome(id)["outcome"], "rejected");
    }
    assert_eq!(local.count("ec2:RunInstances"), 0);
}

#[test]
fn a_spot_machine_that_is_taken_back_is_replaced_while_somebody_holds_it() {
    let fleet =
        fleet("market = \"spot\"\n", "").replace("[local]\n", "[local]\nspot_notice = \"1s\"\n");
    assert!(fleet.contains("spot_notice"), "{fleet}");
    let local = Local::with_fleet(&fleet, &[]);
    let made = local.send(&["create", "walrus", "--set", "blob_id=one"]);
    assert_eq!(made["outcome"], "done", "{made}");
    let first = made["answer"]["instance_id"].as_str().expect("its id").to_owned();
    let target = made["answer"]["target"].as_str().expect("its name").to_owned();
    local.control("POST", &format!("machines/{first}/interrupt"), "");
    let second = eventually("another one is ready", || {
        let status = local.json(&["status", &target]);
        let other =
            status["instance_id"] != first.as_str() && status["processing_status"] == "ready";
        other.then_some(status)
    });
    assert_eq!(second["launches"], json!(2), "{second}");
    let history = local.run(&["history", &target]).is(0).stdout.clone();
    for words in ["takes the spot machine", "EC2 took the spot machine back"] {
        assert!(history.contains(words), "{words:?} is not in {history}");
    }
    assert_eq!(launched(&local).len(), 1);
}

#[test]
fn whatever_is_restarted_a_create_goes_on_where_it_was() {
    let slow = "not_found_for = \"1s\"\n";
    let data = tempfile::tempdir().expect("a temporary directory");
    let data = data.path().to_str().expect("a path in UTF-8");
    let mut local = Local::with_fleet(&fleet("", slow), &["--data", data]);
    send_raw(&local, &[&create("one", "it")]);
    for pause in [300, 700, 1100] {
        std::thread::sleep(Duration::from_millis(pause));
        local = local.restart(&["--data", data]);
    }
    let made = local.outcome("it");
    assert_eq!(made["outcome"], "done", "{made}");
    let all = launched(&local);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["bootstraps"].as_array().map(Vec::len), Some(1), "it ran once");
    local
        .run(&["send", "destroy", made["answer"]["target"].as_str().expect("its name"), "--wait"])
        .is(0);
    assert!(launched(&local).is_empty());
}

#[test]
fn a_script_that_fails_after_its_bootstrap_is_seen() {
    let dies = "[local.launch_templates.lt-0123456789abcdef0.units.walrus-model]\n\
                enabled = false\ndies_after = \"3s\"\n";
    let fleet = format!("{}{dies}", fleet("unit_check_every = \"1s\"", ""));
    let local = Local::with_fleet(&fleet, &[]);
    let made = local.send(&["create", "walrus", "--set", "blob_id=one"]);
    assert_eq!(made["outcome"], "done", "{made}");
    let target = made["answer"]["target"].as_str().expect("its name");
    let failed = eventually("its unit is seen to have failed", || {
        let status = local.json(&["status", target]);
        (status["processing_status"] == "failed").then_some(status)
    });
    assert!(failed["error"].as_str().is_some_and(|it| it.contains("unit")), "{failed}");
    assert!(local.run(&["history", target]).is(0).stdout.contains("walrus-model is failed"));
}
