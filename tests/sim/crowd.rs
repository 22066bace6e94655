//! Seeded crowds: several workers, several targets, people who come, go, pause and kill, somebody at the
//! console, faults at any call, workers that die. Then the faults cease, and after the repair bound
//! nothing may be left of all that (`checker`).
//!
//! `LAMPLIGHTER_SIM_START` and `LAMPLIGHTER_SIM_SEEDS` choose the seeds; a failing one is printed with its
//! story and replays alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use lamplighter_cloud::queue::Disorder;
use lamplighter_cloud::{MachineSeed, Timings};
use lamplighter_events::{Action, CommandId, HumanDuration, InstanceId, TargetName};
use lamplighter_lifecycle::{InstanceRef, TargetSpec};
use lamplighter_runtime::{Fleet, WorkerOptions};
use serde_json::json;

use crate::checker::{Said, check_the_end};
use crate::pool::{Running, employ, run, spec};
use crate::world::{Chaos, Sim};

/// Few enough for every run of the tests.
const SEEDS: u64 = 25;
/// 15 minutes and the skew bound for a lost answer, the look at what is off, and some sweeps.
const REPAIR_BOUND: Duration = Duration::from_secs(23 * 60);
/// What is quiet stays quiet: the calls of one worker in the last minutes beyond its polls, a minute.
const QUIET_CALLS: usize = 60;

/// Chance, of its own, so that the ports' draws do not move the story.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
    fn seconds(&mut self, from: u64, to: u64) -> SignedDuration {
        SignedDuration::from_millis((from * 1000 + self.roll((to - from) * 1000)) as i64)
    }
}

struct Crowd {
    sim: Sim,
    dice: Dice,
    fleet: Arc<Fleet>,
    targets: Vec<(TargetName, InstanceId)>,
    workers: Vec<Option<Running>>,
    said: Vec<Said>,
    /// Bodies to be sent again.
    sent: Vec<serde_json::Value>,
    story: Vec<(jiff::Timestamp, String)>,
    console: bool,
    skewed: bool,
    employed: u64,
}

impl Crowd {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x5851_F42D_4C95_7F2D));
        let timings = Timings {
            boot: dice.seconds(1, 40),
            stop: dice.seconds(1, 20),
            agent: dice.seconds(1, 10),
            invocation: dice.seconds(0, 2),
            describe_lag: if dice.one_in(2) { SignedDuration::ZERO } else { dice.seconds(0, 3) },
            ..Timings::default()
        };
        let sim = Sim::new(seed, timings);
        let mut targets = Vec::new();
        let mut specs = BTreeMap::new();
        let count = 1 + dice.roll(3);
        let may_fail = dice.one_in(5);
        for number in 0..count {
            let id = format!("i-01f5d046c86e4f3{number:02}");
            let name = TargetName::parse(&format!("t{number}")).unwrap();
            let mut behaviour = json!({});
            if may_fail && dice.one_in(2) {
                behaviour = match dice.roll(3) {
                    0 => json!({"no_capacity": true}),
                    1 => json!({"bounce": "5s"}),
                    _ => json!({"agent_never": true}),
                };
            }
            let unit = match may_fail && dice.one_in(3) {
                true => json!({"after_boot": "failed"}),
                false => json!({}),
            };
            let seeded: MachineSeed = serde_json::from_value(json!({
                "id": id, "units": {"positionkeeper": unit}, "behaviour": behaviour
            }))
            .unwrap();
            sim.with_world(|world, now| world.seed_machine(now, &seeded));
            let instance = InstanceId::parse(&id).unwrap();
            let one = Self::spec(&mut dice, name.clone(), instance.clone());
            specs.insert(name.clone(), one);
            targets.push((name, instance));
        }
        if dice.one_in(2) {
            sim.with_world(|world, _| {
                world.queues.disorder = Disorder { shuffle: true, duplicate_per_mille: 100 };
            });
        }
        sim.inspect(|watch, _, _, _| watch.may_fail = may_fail);
        let fleet =
            Arc::new(Fleet { targets: specs, default_target: None, rules: BTreeMap::new() });
        let (console, skewed) = (dice.one_in(3), dice.one_in(3));
        Self {
            sim,
            dice,
            fleet,
            targets,
            workers: Vec::new(),
            said: Vec::new(),
            sent: Vec::new(),
            story: Vec::new(),
            console,
            skewed,
            employed: 0,
        }
    }

    fn spec(dice: &mut Dice, name: TargetName, instance: InstanceId) -> TargetSpec {
        let mut spec = spec();
        spec.name = name;
        spec.ec2.instance = InstanceRef::Id(instance);
        spec.exclusive = dice.one_in(4);
        spec.keep_failed = dice.one_in(4);
        if dice.one_in(2) {
            spec.ec2.systemd_unit = None;
        } else if dice.one_in(3) {
            spec.ec2.unit_check_every = Some(HumanDuration::parse("30s").unwrap());
        }
        spec
    }

    fn tell(&mut self, what: impl Into<String>) {
        self.story.push((self.sim.true_now(), what.into()));
    }

    /// A worker's clock is AWS's time by its last answer's `Date`, which knows whole seconds only. (Clocks
    /// that differ by more than the consistency margin would break it: a worker that is 26 s ahead holds
    /// every margin for over.)
    fn hire(&mut self, place: usize) {
        self.employed += 1;
        let offset = match self.skewed {
            true => SignedDuration::from_secs(self.dice.roll(3) as i64 - 1),
            false => SignedDuration::ZERO,
        };
        let ports = self.sim.for_worker_with(self.employed, offset);
        let options = WorkerOptions { slots: 4, ..WorkerOptions::default() };
        self.tell(format!("worker {} begins, its clock off by {offset:#}", self.employed));
        self.workers[place] = Some(employ(ports, Arc::clone(&self.fleet), options));
    }

    fn say(&mut self, action: Action, target: usize, holder: &str, hold_for: Option<&str>) {
        let (target, _) = self.targets[target].clone();
        let id = format!("c{:03}", self.said.len());
        let mut body = json!({
            "action": action.as_str(), "target": target.as_str(), "id": id, "holder": holder
        });
        if let Some(long) = hold_for {
            body["for"] = json!(long);
        }
        self.tell(format!("{body}"));
        self.sim.say(&body);
        self.sent.push(body);
        self.said.push(Said {
            id: CommandId::parse(&id).unwrap(),
            target,
            action,
            holder: holder.to_owned(),
            hold_for: hold_for.map(|long| HumanDuration::parse(long).unwrap().as_signed()),
        });
    }

    fn somebody_acts(&mut self) {
        let target = self.dice.roll(self.targets.len() as u64) as usize;
        let holder = ["ann", "bob", "cyd"][self.dice.roll(3) as usize];
        match self.dice.roll(100) {
            0..40 => {
                let long = match self.dice.roll(5) {
                    0 => Some("20s"),
                    1 => Some("90s"),
                    2 => Some("4m"),
                    _ => None,
                };
                self.say(Action::Start, target, holder, long);
            }
            40..65 => self.say(Action::Stop, target, holder, None),
            65..70 => self.say(Action::Kill, target, holder, None),
            70..75 => self.say(Action::Status, target, holder, None),
            75..78 => self.say(Action::Pause, target, holder, None),
            78..82 => self.say(Action::Resume, target, holder, None),
            82..88 if !self.sent.is_empty() => {
                let again = self.dice.roll(self.sent.len() as u64) as usize;
                let body = self.sent[again].clone();
                self.tell(format!("again: {body}"));
                self.sim.say(&body);
            }
            88..94 => self.lose_a_worker(),
            94..100 if self.console => self.somebody_at_the_console(target),
            _ => {}
        }
    }

    fn lose_a_worker(&mut self) {
        let place = self.dice.roll(self.workers.len() as u64) as usize;
        match self.workers[place].take() {
            Some(worker) if self.dice.one_in(3) => {
                self.tell(format!("the worker in place {place} drains"));
                tokio::spawn(worker.drain());
            }
            Some(worker) => {
                self.tell(format!("the worker in place {place} is killed"));
                worker.kill();
            }
            None => self.hire(place),
        }
    }

    fn somebody_at_the_console(&mut self, target: usize) {
        let (_, instance) = self.targets[target].clone();
        let ids = [instance.to_string()];
        let start = self.dice.one_in(2);
        let changed = self.sim.with_world(|world, now| match start {
            true => world.start_machines(now, &ids, false),
            false => world.stop_machines(now, &ids, false),
        });
        let changed = changed.is_ok_and(|it| it.iter().any(|it| it.previous != it.current));
        if changed {
            self.tell(format!("console: {} {instance}", if start { "start" } else { "stop" }));
            self.sim.inspect(|watch, _, _, _| match start {
                true => watch.started_outside.insert(instance),
                false => watch.stopped_outside.insert(instance),
            });
        }
    }

    async fn live(&mut self) {
        let places = 2 + self.dice.roll(2) as usize;
        self.workers.resize_with(places, || None);
        (0..places).for_each(|place| self.hire(place));
        let minutes = 2 + self.dice.roll(6);
        let per_mille = [0, 20, 50, 100, 200][self.dice.roll(5) as usize];
        let until = self.sim.true_now() + SignedDuration::from_mins(minutes as i64);
        self.sim.unleash(Chaos { until, per_mille });
        // Some crowds are hectic, others leave time between.
        let pause = [2, 10, 30, 60][self.dice.roll(4) as usize];
        while self.sim.true_now() < until && self.said.len() < 120 {
            let pause = 1 + self.dice.roll(pause * 2000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.somebody_acts();
        }
        tokio::time::sleep_until(
            tokio::time::Instant::now()
                + Duration::try_from(until.duration_since(self.sim.true_now()))
                    .unwrap_or(Duration::ZERO),
        )
        .await;
        self.tell("the faults cease");
        for place in 0..places {
            if self.workers[place].is_none() {
                self.hire(place);
            }
        }
        for target in 0..self.targets.len() {
            self.say(Action::Resume, target, "admin", None);
        }
    }

    async fn end(&mut self) -> Vec<String> {
        tokio::time::sleep(REPAIR_BOUND).await;
        let mut wrong = {
            let keep = self.fleet.targets.values().filter(|spec| spec.keep_failed);
            let keep = keep.map(|spec| spec.name.clone()).collect();
            check_the_end(&self.sim, &self.said, &keep)
        };
        let quiet_from = self.sim.true_now() - SignedDuration::from_mins(3);
        let calls = self.sim.calls();
        let busy = calls
            .iter()
            .filter(|call| call.at > quiet_from && call.operation != "sqs:ReceiveMessage")
            .count();
        let bound = 3 * QUIET_CALLS * self.workers.len();
        if busy > bound {
            wrong.push(format!("budget: {busy} calls in 3 quiet minutes, {bound} allowed"));
        }
        for worker in self.workers.drain(..).flatten() {
            worker.drain().await;
        }
        wrong
    }

    /// Calls and deeds in the order of time.
    fn tale(&self) -> String {
        let mut lines: Vec<(jiff::Timestamp, String)> = self.story.clone();
        for call in self.sim.calls() {
            if call.operation == "sqs:ReceiveMessage" && call.fault.is_none() {
                continue;
            }
            let fault = call.fault.map(|fault| format!(" !{fault:?}")).unwrap_or_default();
            let line = format!("  {} {} {}{fault}", call.worker, call.operation, call.what);
            lines.push((call.at, line));
        }
        lines.sort_by_key(|(at, _)| *at);
        lines.iter().fold(String::new(), |mut tale, (at, line)| {
            let _ = writeln!(tale, "{at:.3} {line}");
            tale
        })
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What went wrong in the crowd of this seed, and its tale.
fn play(seed: u64) -> Option<(Vec<String>, String)> {
    let result = std::sync::Mutex::new(None);
    run(|| async {
        let mut crowd = Crowd::new(seed);
        crowd.live().await;
        let wrong = crowd.end().await;
        if !wrong.is_empty() {
            *result.lock().unwrap() = Some((wrong, crowd.tale()));
        }
    });
    result.into_inner().unwrap()
}

#[test]
fn a_crowd_leaves_nothing_behind() {
    let start = number("LAMPLIGHTER_SIM_START", 0);
    let seeds = number("LAMPLIGHTER_SIM_SEEDS", SEEDS);
    let mut failed = Vec::new();
    for seed in start..start + seeds {
        if let Some((wrong, tale)) = play(seed) {
            if failed.is_empty() {
                println!("{tale}");
            }
            let first: Vec<&str> = wrong.iter().take(6).map(String::as_str).collect();
            println!("seed {seed}:\n    {}", first.join("\n    "));
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "{} of {seeds} seeds failed: {failed:?}", failed.len());
}
