//! Workers that share a queue, are killed, and are told to end: over real sockets, with real processes.
//!
//! *Theory.* What the simulation checks for every single call, these check for the whole: binary, SDK,
//! connections, signals. The load is a [`Crowd`]; what happened is counted by the endpoint, never by our
//! own records.

use std::time::Duration;

use lamplighter_cloud::Ids;
use serde_json::Value;

use crate::crowd::{Crowd, fleet};
use crate::gang::{Gang, WORKER};
use crate::harness::{Local, eventually, set_visibility};
use crate::wire::Wire;

/// How often a worker is killed.
const KILLS: u32 = 100;

/// How often a worker is told to end.
const ENDS: u32 = 5;

/// What is drawn, so that a failure can be had again: the moments differ, the order does not.
fn dice() -> Ids {
    let seed = std::env::var("LAMPLIGHTER_CHAOS_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or(1);
    println!("LAMPLIGHTER_CHAOS_SEED={seed}");
    Ids::new(seed)
}

#[track_caller]
fn check_workers(count: usize) {
    let local = Local::with_fleet(&fleet(12), &["--no-worker"]);
    local.control("PUT", "disorder", r#"{"shuffle":true,"duplicate_per_mille":50}"#);
    let mut crowd = Crowd::new(&local, 12, 1);
    let mut gang = Gang::new(&local, count);
    crowd.finish();
    assert!(crowd.asked() > 100, "{} commands", crowd.asked());
    crowd.check();
    crowd.check_calls();
    gang.end();
    gang.check_logs();
}

#[test]
fn two_workers_on_one_queue_lose_and_double_nothing() {
    check_workers(2);
}

#[test]
fn four_workers_on_one_queue_lose_and_double_nothing() {
    check_workers(4);
}

#[test]
fn a_hundred_killed_workers_lose_and_double_nothing() {
    let mut dice = dice();
    let local = Local::with_fleet(&fleet(16), &["--no-worker"]);
    let mut crowd = Crowd::new(&local, 16, 1);
    let mut gang = Gang::new(&local, 3);
    // A call takes as long as one does in a cloud nearby, so that a kill meets many in the middle.
    local.control("PUT", "latency", r#"{"base":"2ms","jitter":"15ms"}"#);
    set_visibility(&local, 5);
    crowd.goes_on = true;
    for _ in 0..KILLS {
        crowd.step_for(Duration::from_millis(dice.draw() % 200));
        let at = usize::try_from(dice.draw() % 3).expect("a small number");
        gang.kill(&local, at);
    }
    local.control("DELETE", "latency", "");
    crowd.finish();
    crowd.check();
    crowd.check_calls();
    gang.end();
    gang.check_logs();
    // A long poll is no work: these were killed at a call that mattered.
    let gone = crowd.calls.iter().filter(|call| call["outcome"] == "gone");
    let cut_short = gone.filter(|call| call["operation"] != "ReceiveMessage").count();
    println!("{} commands, {cut_short} calls cut short", crowd.asked());
    assert!(cut_short >= 10, "only {cut_short} calls were cut short by {KILLS} kills");
}

/// What the worker of this log had in hand when it was told to end.
fn in_hand_at_the_end(log: &str) -> u64 {
    let line = log.lines().find(|line| line.contains("draining")).expect("it says so");
    let line: serde_json::Value = serde_json::from_str(line).expect("a log line is JSON");
    line["in_hand"].as_u64().expect("a number")
}

#[test]
fn sigterm_under_load_gives_everything_back_and_the_next_goes_on() {
    let mut dice = dice();
    let local = Local::with_fleet(&fleet(12), &["--no-worker"]);
    let mut crowd = Crowd::new(&local, 12, 1);
    // So long that what is not given back stays away for the whole test.
    set_visibility(&local, 600);
    local.control("PUT", "latency", r#"{"base":"10ms","jitter":"40ms"}"#);
    let mut gang = Gang::new(&local, 1);
    let mut in_hand = 0;
    crowd.goes_on = true;
    for _ in 0..ENDS {
        crowd.step_until("it works", |_| gang.log_of_newest().contains("working"));
        crowd.step_for(Duration::from_millis(300 + dice.draw() % 700));
        gang.tell("-TERM");
        crowd.step_until("it ends", |_| gang.have_ended());
        in_hand += gang.end().iter().map(|log| in_hand_at_the_end(log)).sum::<u64>();
        let (_, kept) = crowd.in_queue();
        assert_eq!(kept, 0, "messages were not given back: {}", gang.log());
        gang.add(&local, 1);
    }
    local.control("DELETE", "latency", "");
    println!("{in_hand} messages in hand at {ENDS} ends");
    assert!(in_hand >= u64::from(ENDS), "{in_hand} messages in hand at {ENDS} ends");
    crowd.finish();
    crowd.check();
    crowd.check_calls();
    gang.end();
    gang.check_logs();
}

const WRITES: [&str; 5] =
    ["PutItem", "UpdateItem", "TransactWriteItems", "DeleteItem", "BatchWriteItem"];

/// How often the workers called any of these, since the log was cleared.
fn called(local: &Local, operations: &[&str]) -> usize {
    let calls = local.control("GET", "calls?since=0", "");
    let calls = calls["calls"].as_array().expect("a call log");
    let named = |call: &&Value| operations.iter().any(|operation| call["operation"] == *operation);
    calls.iter().filter(|call| call["access_key"] == WORKER).filter(named).count()
}

/// The budgets of `journeys.rs`, with twice the workers. Signals of the same moment may reach both, and
/// then one of them loses its write: that costs a request now and then, and no more.
#[test]
fn two_workers_cost_what_one_costs() {
    let local = Local::with_fleet(&fleet(12), &["--no-worker"]);
    let mut gang = Gang::new(&local, 2);
    let wire = Wire::to(&local);
    eventually("both have looked at the fleet", || {
        (called(&local, &["DescribeInstances"]) >= 2).then_some(())
    });
    let (mut starts, mut pure) = (Vec::new(), Vec::new());
    // Those with a unit.
    for number in [0, 3] {
        let name = format!("box-{number}");
        for costs in [&mut starts, &mut pure] {
            // What is under way from before is over.
            wire.await_rest();
            local.control("DELETE", "calls", "");
            local.run(&["send", "start", &name, "--wait"]).is(0);
            wire.await_rest();
            let effects = called(&local, &["StartInstances", "SendCommand"]);
            costs.push((called(&local, &WRITES), effects));
        }
    }
    gang.end();
    println!("writes and effects: starts {starts:?}, pure commands {pure:?}");
    assert!(starts.iter().all(|(_, effects)| *effects == 2), "{starts:?}");
    assert!(pure.iter().all(|(_, effects)| *effects == 0), "{pure:?}");
    for (costs, writes) in [(&starts, 6), (&pure, 2)] {
        assert_eq!(costs.iter().map(|(writes, _)| *writes).min(), Some(writes), "{costs:?}");
        let all: usize = costs.iter().map(|(writes, _)| writes).sum();
        assert!(all <= (writes + 1) * costs.len(), "{costs:?}");
    }
}
