//! What one tick asks of AWS, call by call, as the endpoint logged it.
//!
//! *Theory.* The fleet is adopted by a first worker; the tick is counted with a second one, when that has looked
//! at the fleet for the first time. What a worker does by the clock is told from the tick's: receives are left out,
//! sweeps query another index, and a look at the fleet does not come again for minutes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use crate::harness::{Local, Process, eventually, send_raw};
use crate::wire::Wire;

const MACHINES: usize = 40;
const SERVICES: usize = 45;

/// All on from the beginning, a metric each that has no data: unknown, so that nothing follows from it.
fn fleet() -> String {
    // The schedule that a fleet needs; none of its ticks comes while the test runs.
    let mut fleet =
        "[schedules.idle]\nexpression = \"rate(1 day)\"\ncommand = { action = \"check-idle\" }\n"
            .to_owned();
    let idle = "idle = { after = \"15m\", cpu = \"< 5\" }";
    for number in 0..MACHINES {
        let _ = writeln!(
            fleet,
            "[targets.m{number}]\nkind = \"ec2-instance\"\ninstance_id = \"i-{number:08x}\"\n{idle}\n\
             [local.machines.m{number}]\nstate = \"running\""
        );
    }
    for number in 0..SERVICES {
        let _ = writeln!(
            fleet,
            "[targets.s{number}]\nkind = \"ecs-service\"\ncluster = \"c\"\nservice = \"s{number}\"\n{idle}\n\
             [local.services.s{number}]\nrunning = 1"
        );
    }
    fleet
}

fn tick(local: &Local, id: &str) -> serde_json::Value {
    send_raw(local, &[&json!({"action": "check-idle", "id": id}).to_string()]);
    local.outcome(id)["answer"]["asked"].clone()
}

/// A worker that has looked at the fleet.
fn settled(local: &Local, name: &str) -> Process {
    local.control("DELETE", "calls", "");
    let worker = local.worker(name, &[]);
    eventually("its first look is over", || {
        let looked = local.count("ec2:DescribeInstances") >= 1
            && local.count("ecs:DescribeServices") >= SERVICES.div_ceil(10) as u64;
        looked.then_some(())
    });
    worker
}

#[test]
fn a_tick_costs_these_calls_and_writes_nothing_of_a_target() {
    let local = Local::with_fleet(&fleet(), &["--no-worker"]);
    let wire = Wire::to(&local);
    let first = settled(&local, "first");
    let mut ticks = 0;
    eventually("all of them are adopted", || {
        ticks += 1;
        (tick(&local, &format!("before-{ticks}")) == json!(MACHINES + SERVICES)).then_some(())
    });
    wire.await_rest();
    drop(first);
    let _second = settled(&local, "second");
    local.control("DELETE", "calls", "");
    assert_eq!(tick(&local, "counted"), json!(MACHINES + SERVICES));
    wire.await_rest();
    let log = local.control("GET", "calls", "");
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for call in log["calls"].as_array().expect("a list of calls") {
        let text = |field: &str| call[field].as_str().unwrap_or_default();
        let what = match text("operation") {
            // The poller's; a heartbeat, where the machine is slow; who asks for the outcome and for the queue's rest.
            "ReceiveMessage" | "ChangeMessageVisibility" | "GetItem" | "GetQueueAttributes" => {
                continue;
            }
            "Query" if text("target").ends_with("due") => continue,
            "Query" => format!("Query {}", text("target")),
            operation => operation.to_owned(),
        };
        *calls.entry(what).or_default() += 1;
    }
    // The tick's and its part's, which share a request where both are done at the same moment.
    let deletes = calls.remove("DeleteMessageBatch");
    assert!(matches!(deletes, Some(1 | 2)), "{deletes:?}");
    let expected = [
        ("DescribeInstances", 1),
        ("DescribeServices", SERVICES.div_ceil(10)),
        ("GetMetricData", 1),
        ("Query lamplighter, what-is-up", 2),
        // The tick's, which is ours, and its one part's.
        ("SendMessage", 2),
        // The tick's own outcome, and its event.
        ("PutItem", 1),
        ("PutEvents", 1),
    ];
    let expected = expected.map(|(what, count)| (what.to_owned(), count));
    assert_eq!(calls, BTreeMap::from(expected));
}
