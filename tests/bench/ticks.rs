//! One `check-idle` tick through one worker, for fleets of many sizes: calls, time, peak memory.
//!
//! The worker is a process of its own, so that its memory is its own. Half of the targets are EC2 instances, half
//! are ECS services; each has one metric, which says active, so that nothing is stopped and nothing written. Time
//! is from the sending of the tick until its last part is deleted.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Local, Process, eventually, sdk_of, send_raw};

/// Fleets of so many targets.
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// For the largest, adopting them all takes a while.
const PATIENCE: Duration = Duration::from_secs(900);
/// The calls that are not the tick's: the poller's, and who asks for the outcome and the counts.
const NOT_COUNTED: [&str; 4] = [
    "dynamodb:GetItem",
    "sqs:ReceiveMessage",
    "sqs:GetQueueAttributes",
    "sqs:ChangeMessageVisibility",
];

pub(crate) fn ticks() {
    for targets in SIZES {
        for on in [targets / 10, targets] {
            tick(targets, on);
        }
    }
}

fn fleet(targets: usize, on: usize) -> String {
    let mut fleet = String::new();
    for number in 0..targets {
        let up = number < on;
        if number % 2 == 0 {
            let _ = writeln!(
                fleet,
                "[targets.t{number}]\nkind = \"ec2-instance\"\ninstance_id = \"i-{number:017x}\"\n\
                 idle = {{ after = \"15m\", cpu = \"< 5\" }}"
            );
            let state = if up { "running" } else { "stopped" };
            let _ = writeln!(fleet, "[local.machines.t{number}]\nstate = \"{state}\"");
        } else {
            let _ = writeln!(
                fleet,
                "[targets.t{number}]\nkind = \"ecs-service\"\ncluster = \"c\"\nservice = \"s{number}\"\n\
                 idle = {{ after = \"15m\", cpu = \"< 5\" }}"
            );
            let _ = writeln!(fleet, "[local.services.t{number}]\nrunning = {}", u8::from(up));
        }
    }
    fleet
}

fn tick(targets: usize, on: usize) {
    let local = Local::with_fleet(&fleet(targets, on), &["--no-worker"]);
    let worker = local.worker("worker", &[]);
    // Its first look finds them running, and adopts them.
    let until = Instant::now() + PATIENCE;
    while asked(&local) < on {
        assert!(Instant::now() < until, "never all on; its log:\n{}", worker.log());
        std::thread::sleep(Duration::from_secs(1));
    }
    wait_until_empty(&local);
    // What adopting took is not the tick's: a worker of its own for the measurement.
    drop(worker);
    let worker = local.worker("measured", &[]);
    eventually("it looks at what is due", || (local.count("dynamodb:Query") > 0).then_some(()));
    wait_until_quiet(&local);
    local.control("DELETE", "calls", "");
    let began = Instant::now();
    let asked = asked(&local);
    wait_until_empty(&local);
    let took = began.elapsed();
    let counts = local.control("GET", "counts", "");
    let calls: u64 = counts
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(operation, _)| !NOT_COUNTED.contains(&operation.as_str()))
        .filter_map(|(_, count)| count.as_u64())
        .sum();
    let of = |operation: &str| counts[operation].as_u64().unwrap_or(0);
    println!(
        "tick: {targets} targets, {asked} on: {calls} calls ({} DescribeInstances, {} DescribeServices, \
         {} GetMetricData, {} Query, {} writes), {:.1} s, {} MiB at most",
        of("ec2:DescribeInstances"),
        of("ecs:DescribeServices"),
        of("cloudwatch:GetMetricData"),
        of("dynamodb:Query"),
        of("dynamodb:PutItem") + of("dynamodb:TransactWriteItems"),
        took.as_secs_f64(),
        peak_mib(&worker).map_or_else(|| "?".to_owned(), |mib| mib.to_string()),
    );
}

/// A worker that starts looks at its whole fleet, part by part: until nothing of that was to be seen for a while.
fn wait_until_quiet(local: &Local) {
    let looks = || {
        let counts = local.control("GET", "counts", "");
        ["ec2:DescribeInstances", "ecs:DescribeServices"].map(|it| counts[it].as_u64())
    };
    let mut before = [None; 2];
    loop {
        std::thread::sleep(Duration::from_secs(5));
        let now = looks();
        if now == before {
            return;
        }
        before = now;
    }
}

/// Sends a tick; how many targets it found on.
fn asked(local: &Local) -> usize {
    let id = format!("tick-{}", Instant::now().elapsed().as_nanos() ^ nanos());
    send_raw(local, &[&json!({"action": "check-idle", "id": id}).to_string()]);
    let until = Instant::now() + PATIENCE;
    let outcome: Value = loop {
        let answer = local.run(&["outcome", &id, "--json"]);
        if answer.code == 0 {
            break answer.json();
        }
        assert!(Instant::now() < until, "the tick has no outcome");
        std::thread::sleep(Duration::from_millis(100));
    };
    let asked = outcome["answer"]["asked"].as_u64().unwrap_or(0);
    usize::try_from(asked).unwrap_or(0)
}

fn nanos() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_nanos())
}

fn wait_until_empty(local: &Local) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sqs = aws_sdk_sqs::Client::new(&sdk_of(&local.endpoint).await);
        crate::until_empty(&sqs, &local.queue).await;
    });
}

/// The most memory that the process held, in whole MiB; `None` where there is no /proc.
fn peak_mib(process: &Process) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}
