//! `scripts/bench`: the numbers that the README names, measured on the machine that it runs on.
//!
//! What is counted (calls, writes) is exact and the same everywhere. What is timed stands beside its like
//! from the same run, as a ratio, since the machine decides the rest. Nothing here passes or fails: the
//! budgets are kept by tests.

#![allow(
    clippy::unwrap_used,
    reason = "a tool of the tests: what it needs is there, or it says so"
)]

#[path = "../e2e/harness.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod harness;
mod ticks;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use harness::{Local, Process, eventually, sdk_of};
use lamplighter_sim::crowd::{Play, play};
use lamplighter_sim::drill::{EXERCISES, drill, length};
use lamplighter_sim::fault::Fault;
use serde_json::json;

/// Crowds of one run: some seconds of an optimised build.
const CROWDS: u64 = 400;
/// Pure commands of one round.
const COMMANDS: usize = 2000;
/// The targets that they are for.
const TARGETS: usize = 20;
/// SQS's largest batch.
const BATCH: usize = 10;

fn main() {
    // `scripts/bench ticks` prints one part; without a word, all of them.
    let only = std::env::args().nth(1);
    let wants = |part: &str| only.as_deref().is_none_or(|only| only == part);
    println!("{}", machine());
    let parts: [(&str, fn()); 4] = [
        ("simulation", simulation),
        ("budgets", budgets),
        ("throughput", throughput),
        ("ticks", ticks::ticks),
    ];
    for (name, part) in parts {
        if wants(name) {
            part();
        }
    }
}

/// The machine's kind: processor, cores, memory, system, build.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let processor = field(&read("/proc/cpuinfo"), "model name");
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory = memory.and_then(|it| it.split(' ').next()?.parse::<u64>().ok());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    format!(
        "machine: {}, {cores} cores, {} GiB, {} {}, {} build",
        processor.unwrap_or_else(|| "unknown processor".to_owned()),
        memory.map_or_else(|| "?".to_owned(), |kib| (kib / 1024 / 1024).to_string()),
        std::env::consts::OS,
        std::env::consts::ARCH,
        if cfg!(debug_assertions) { "debug" } else { "release" },
    )
}

fn simulation() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let next = AtomicU64::new(0);
    let [steps, faults, commands, findings] = [(); 4].map(|()| AtomicUsize::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= CROWDS {
                        return;
                    }
                    let report = play(seed, Play::default());
                    steps.fetch_add(report.steps, Ordering::Relaxed);
                    faults.fetch_add(report.faults, Ordering::Relaxed);
                    commands.fetch_add(report.commands, Ordering::Relaxed);
                    findings.fetch_add(report.findings.len(), Ordering::Relaxed);
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    println!(
        "simulation: {CROWDS} crowds, {} commands, {} steps, {} faults, {} findings: {:.0} crowds/s, \
         {:.0} steps/s, {:.0} faults/s on {threads} threads",
        count(&commands),
        count(&steps),
        count(&faults),
        count(&findings),
        CROWDS as f64 / seconds,
        count(&steps) as f64 / seconds,
        count(&faults) as f64 / seconds,
    );
    let mut tried = 0;
    let mut wrong = 0;
    for exercise in EXERCISES {
        for number in 0..length(exercise) {
            for fault in Fault::EACH {
                tried += 1;
                wrong += drill(exercise, &[(number, fault)]).findings.len();
            }
        }
    }
    println!(
        "drills: {tried} single faults, every call of {} exercises, {wrong} findings",
        EXERCISES.len()
    );
}

/// What a command costs, by the endpoint's own count.
fn budgets() {
    let local = Local::start(&[]);
    eventually("it has looked at the fleet", || {
        (local.count("ec2:DescribeInstances") > 0).then_some(())
    });
    for (what, action) in
        [("a start with a unit", "start"), ("a start of what is on", "start"), ("a stop", "stop")]
    {
        std::thread::sleep(Duration::from_secs(1));
        local.control("DELETE", "calls", "");
        local.run(&["send", action, "position-keeper", "--wait"]).is(0);
        std::thread::sleep(Duration::from_secs(1));
        println!("budget: {what}: {}", counted(&local));
    }
}

fn counted(local: &Local) -> String {
    let counts = local.control("GET", "counts", "");
    let mut writes = 0;
    let mut calls: BTreeMap<String, u64> = BTreeMap::new();
    for (operation, count) in counts.as_object().into_iter().flatten() {
        let count = count.as_u64().unwrap_or(0);
        match operation.as_str() {
            "dynamodb:PutItem" | "dynamodb:UpdateItem" | "dynamodb:TransactWriteItems" => {
                writes += count;
            }
            it if it.starts_with("ec2:") || it.starts_with("ssm:") || it == "events:PutEvents" => {
                calls.insert(operation.clone(), count);
            }
            _ => {}
        }
    }
    calls.iter().fold(format!("{writes} writes"), |mut text, (operation, count)| {
        let _ = write!(text, ", {count} {operation}");
        text
    })
}

/// Pure commands through the whole binary: sent, taken, committed, told, deleted.
fn throughput() {
    let mut fleet = "[local]\nboot = \"0s\"\nstop = \"0s\"\n".to_owned();
    for number in 0..TARGETS {
        let _ = write!(
            fleet,
            "[targets.t{number}]\nkind = \"ec2-instance\"\ninstance_id = \"i-01f5d046c86e4f3{number:02}\"\n"
        );
    }
    let mut first = None;
    for workers in [1, 2, 4] {
        let local = Local::with_fleet(&fleet, &["--no-worker"]);
        let staff: Vec<Process> =
            (0..workers).map(|number| local.worker(&format!("worker-{number}"), &[])).collect();
        round(&local, TARGETS);
        local.control("DELETE", "calls", "");
        let rate = round(&local, COMMANDS);
        let writes = local.count("dynamodb:TransactWriteItems");
        let ratio = rate / *first.get_or_insert(rate);
        println!(
            "throughput: {COMMANDS} pure commands through `local` with {workers} worker(s): {rate:.0} a \
             second ({ratio:.2} of one worker), {:.2} write requests each",
            (writes + local.count("dynamodb:PutItem")) as f64 / COMMANDS as f64
        );
        drop(staff);
    }
}

/// Sends so many and waits until the queue is empty; commands a second.
fn round(local: &Local, commands: usize) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sqs = aws_sdk_sqs::Client::new(&sdk_of(&local.endpoint).await);
        let began = Instant::now();
        let numbers: Vec<usize> = (0..commands).collect();
        for batch in numbers.chunks(BATCH) {
            let entries = batch.iter().map(|number| {
                let target = format!("t{}", number % TARGETS);
                let body = json!({"action": "status", "target": target}).to_string();
                let entry = SendMessageBatchRequestEntry::builder().id(number.to_string());
                entry.message_body(body).build().expect("an id and a body")
            });
            let send = sqs.send_message_batch().queue_url(&local.queue);
            let sent = send.set_entries(Some(entries.collect())).send().await;
            assert!(sent.expect("SQS takes the batch").failed().is_empty());
        }
        until_empty(&sqs, &local.queue).await;
        commands as f64 / began.elapsed().as_secs_f64()
    })
}

/// Until no message is left in the queue, nor in anybody's hand.
pub(crate) async fn until_empty(sqs: &aws_sdk_sqs::Client, queue: &str) {
    loop {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let ask = sqs.get_queue_attributes().queue_url(queue);
        let answer = ask.set_attribute_names(Some(names.to_vec())).send().await.unwrap();
        let mut left = answer.attributes().into_iter().flatten();
        if left.all(|(_, count)| count == "0") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
