//! Calls that fail, and an endpoint that goes away, under running workers.
//!
//! *Theory.* As in `chaos.rs`: a [`Crowd`] asks, and the endpoint counts. A fault here is meant for the
//! workers' access key alone, so that what the test asks itself is always answered.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::crowd::{Crowd, fleet};
use crate::gang::{Gang, WORKER};
use crate::harness::{FLEET, Local, eventually, set_visibility};

const MACHINE: &str = "i-01f5d046c86e4f36e";

/// Of all calls, in hundredths: what goes wrong with them.
const FAULTS: [(&str, u32, &str); 6] = [
    ("throttle", 7, ""),
    ("before", 7, ""),
    ("after", 5, ""),
    ("cut", 5, ""),
    ("slow", 5, "700ms"),
    // Longer than a worker waits.
    ("hold", 1, "7s"),
];

/// The faults as the endpoint takes them: it asks one after the other whether it strikes.
fn faults() -> Value {
    let mut left = 1.0;
    let rows = FAULTS.map(|(kind, hundredths, hold)| {
        let wanted = f64::from(hundredths) / 100.0;
        let mut fault = json!({"kind": kind, "access_key": WORKER, "probability": wanted / left});
        if !hold.is_empty() {
            fault["hold"] = hold.into();
        }
        left -= wanted;
        fault
    });
    Value::from(rows.to_vec())
}

#[test]
fn faults_on_thirty_percent_of_all_calls_lose_and_double_nothing() {
    assert_eq!(FAULTS.map(|(_, hundredths, _)| hundredths).iter().sum::<u32>(), 30);
    let local = Local::with_fleet(&fleet(4), &["--no-worker"]);
    let mut crowd = Crowd::new(&local, 4, 1);
    set_visibility(&local, 5);
    local.control("PUT", "faults", &faults().to_string());
    let mut gang = Gang::new(&local, 2);
    crowd.goes_on = true;
    crowd.step_until("everybody had a whole round", |crowd| crowd.rounds_over() > 0);
    local.control("DELETE", "faults", "");
    crowd.finish();
    crowd.check_outcomes();
    gang.end();
    gang.check_logs();
    // Each sort of fault struck, and about as many calls as they should.
    let of_workers = || crowd.calls.iter().filter(|call| call["access_key"] == WORKER);
    for outcome in ["InternalError", "cut", "gone", "RequestLimitExceeded"] {
        assert!(of_workers().any(|call| call["outcome"] == outcome), "no {outcome}");
    }
    let spoiled = |call: &&Value| call["outcome"] != "ok" || call["took_ms"].as_u64() >= Some(700);
    let (all, spoiled) = (of_workers().count(), of_workers().filter(spoiled).count());
    println!("{} commands, {all} calls, {spoiled} of them spoiled", crowd.asked());
    assert!(spoiled * 5 > all, "{spoiled} of {all} calls");
}

/// A port that is free, and not one of those that outgoing connections are given: a worker that keeps
/// asking for an endpoint which is away must not be connected to itself.
fn quiet_port() -> String {
    let first = 20_000 + u16::try_from(std::process::id() % 5_000).expect("a small number");
    let mut ports = first..first + 1_000;
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.expect("a free port").to_string()
}

/// The lines that tell of trouble: each can be read, and says what it is about.
#[track_caller]
fn trouble(log: &str) -> Vec<String> {
    let mut told = Vec::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).expect("a log line is JSON");
        if line["level"] == "WARN" || line["level"] == "ERROR" {
            let error = line["error"].as_str().unwrap_or_default();
            told.push(format!("{}: {error}", line["message"].as_str().expect("a message")));
        }
    }
    told
}

#[test]
fn an_endpoint_that_restarts_under_load_stops_nobody_and_loses_nothing() {
    let data = tempfile::tempdir().expect("a directory");
    let (data, port) = (data.path().to_str().expect("a plain path"), quiet_port());
    let arguments = ["--no-worker", "--data", data, "--aws-port", &port];
    let mut local = Local::with_fleet(&fleet(6), &arguments);
    set_visibility(&local, 5);
    let mut crowd = Crowd::new(&local, 6, 1);
    let mut gang = Gang::new(&local, 2);
    crowd.goes_on = true;
    for away in [300, 2000, 4000] {
        crowd.step_for(Duration::from_millis(1500));
        let pause = || std::thread::sleep(Duration::from_millis(away));
        local = local.restart_after("-INT", pause, &arguments);
        crowd.forget_calls();
    }
    crowd.finish();
    crowd.check();
    gang.end();
    gang.check_logs();
    let trouble = trouble(&gang.log());
    println!("{} commands, {} lines of trouble", crowd.asked(), trouble.len());
    // Each message in hand may say twice what became of it, each time the endpoint was away.
    assert!((1..=300).contains(&trouble.len()), "{} lines: {trouble:#?}", trouble.len());
}

/// When this file was written last.
fn written(path: &Path) -> SystemTime {
    let known = std::fs::metadata(path).and_then(|it| it.modified());
    known.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[test]
fn an_endpoint_that_crashes_is_waited_for_in_few_words() {
    let data = tempfile::tempdir().expect("a directory");
    let world = data.path().join("world.json");
    let (data, port) = (data.path().to_str().expect("a plain path"), quiet_port());
    let arguments = ["--no-worker", "--data", data, "--aws-port", &port];
    let local = Local::with_fleet(FLEET, &arguments);
    set_visibility(&local, 5);
    let mut gang = Gang::new(&local, 1);
    let machine = format!("machines/{MACHINE}");
    local.control("PUT", &machine, r#"{"agent_never":true}"#);
    local.run(&["send", "start", "position-keeper", "--id", "kept"]).is(0);
    eventually("the start waits for its agent", || {
        (local.machine(MACHINE)["state"] == "running").then_some(())
    });
    // A crash loses what the endpoint has not saved yet, as it says; AWS does not.
    let from = SystemTime::now() + Duration::from_secs(1);
    eventually("that is saved", || (written(&world) > from).then_some(()));
    let local =
        local.restart_after("-KILL", || std::thread::sleep(Duration::from_secs(6)), &arguments);
    local.control("PUT", &machine, r#"{"agent_never":false}"#);
    eventually("the start is done", || {
        let answer = local.run(&["outcome", "kept", "--json"]);
        (answer.code == 0 && answer.json()["outcome"] == "done").then_some(())
    });
    assert_eq!(local.machine(MACHINE)["starts"], json!(1));
    gang.end();
    gang.check_logs();
    let trouble = trouble(&gang.log());
    // The pauses grow: it says so some times, and does not fill a disk.
    assert!((1..=12).contains(&trouble.len()), "{trouble:#?}");
    assert!(
        trouble
            .iter()
            .any(|line| line.contains("nothing can be received")
                && line.contains("Connection refused")),
        "{trouble:#?}"
    );
}
