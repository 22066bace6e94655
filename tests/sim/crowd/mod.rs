//! Seeded crowds: several workers, several targets, people who come, go, pause and kill, schedules,
//! somebody at the console, faults at any call, workers that die. Then the faults cease, and after the
//! repair bound nothing may be left of all that ([`crate::checker`]).

mod cast;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{Action, CommandId, HumanDuration, InstanceId, TargetName, Tick};
use lamplighter_runtime::{Fleet, SENT_AT_ATTRIBUTE, WorkerOptions};
use serde_json::{Value, json};

use crate::breakage::Breakage;
use crate::checker::{Ending, Finding, Rule, Said, check_the_end, check_the_replay};
use crate::staff::{Place, run};
use crate::tale;
use crate::world::{Chaos, Sim};
pub use cast::spec;
use cast::{Cast, MORNING, Member, NIGHTLY};

/// 15 minutes and the skew bound for a lost answer (until then a target keeps its old machine), 15 more
/// for the look at what is off, and some sweeps.
const REPAIR_BOUND: Duration = Duration::from_secs(34 * 60);
/// What is quiet stays quiet: calls a minute beyond the polls, for each worker (its sweeps) and each
/// target (one that is asked for its unit every half minute).
const QUIET_CALLS: usize = 60;
/// The last minutes that are looked at for that.
const QUIET_MINUTES: i64 = 3;
/// Few, so that they are scarce.
const SLOTS: usize = 4;
/// A run stays readable.
const COMMANDS_MAX: usize = 120;
/// How many finished commands are sent once more in the end.
const REPLAYS: usize = 6;

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

/// What a crowd came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which crowd.
    pub seed: u64,
    /// What may never be, and was, in the order of time.
    pub findings: Vec<Finding>,
    /// How many calls the workers made.
    pub steps: usize,
    /// How many of them were struck by a fault.
    pub faults: usize,
    /// How many commands were sent.
    pub commands: usize,
    /// All of it, in the order of time.
    pub tale: String,
}

/// How a crowd is played.
#[derive(Debug, Clone, Copy, Default)]
pub struct Play {
    /// The worker is broken so.
    pub breakage: Option<Breakage>,
    /// Every call is printed as it is made.
    pub loud: bool,
}

/// Plays the crowd of a seed.
pub fn play(seed: u64, how: Play) -> Report {
    run(|| async move {
        let mut crowd = Crowd::new(seed, how);
        crowd.live().await;
        crowd.end().await
    })
}

struct Crowd {
    seed: u64,
    sim: Sim,
    dice: Dice,
    fleet: Arc<Fleet>,
    members: Vec<Member>,
    places: Vec<Place>,
    ending: Ending,
    /// Bodies to be sent again.
    sent: Vec<Value>,
    story: Vec<(Timestamp, String)>,
    loud: bool,
    /// Somebody has the console open.
    console: bool,
    /// The machines of the workers keep bad time.
    bad_clocks: bool,
}

impl Crowd {
    fn new(seed: u64, how: Play) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x5851_F42D_4C95_7F2D));
        let sim = Sim::new(seed, cast::timings(&mut dice));
        sim.break_it(how.breakage);
        if how.loud {
            sim.set_loud();
        }
        let cast = Cast::draw(&sim, &mut dice);
        sim.inspect(|state| {
            state.watch.may_fail = cast.may_fail;
            state.watch.limit_slots(SLOTS);
        });
        let keeps = cast.fleet.targets.values().filter(|spec| spec.keep_failed);
        let ending = Ending {
            keep_failed: keeps.map(|spec| spec.name.clone()).collect(),
            machines: cast.machines,
            ..Ending::default()
        };
        let (console, bad_clocks) = (dice.one_in(3), dice.one_in(3));
        Self {
            seed,
            sim,
            dice,
            fleet: Arc::new(cast.fleet),
            members: cast.members,
            places: Vec::new(),
            ending,
            sent: Vec::new(),
            story: Vec::new(),
            loud: how.loud,
            console,
            bad_clocks,
        }
    }

    fn tell(&mut self, what: impl Into<String>) {
        let (at, what) = (self.sim.true_now(), what.into());
        if self.loud {
            println!("{at:.3} {what}");
        }
        self.story.push((at, what));
    }

    fn hire(&mut self) {
        self.set_clocks();
        let options = WorkerOptions { slots: SLOTS, ..WorkerOptions::default() };
        self.places.push(Place::open(&self.sim, &self.fleet, &options));
    }

    /// Machines' clocks differ and jump; the worker's own is set by AWS's answers, so that it is wrong
    /// only from a jump to the next answer.
    fn set_clocks(&mut self) {
        if self.bad_clocks {
            let ahead = self.dice.seconds(0, 56) - SignedDuration::from_secs(28);
            self.sim.set_ahead(ahead);
        }
    }

    fn say(&mut self, action: Action, target: usize, holder: &str, hold_for: Option<&str>) {
        let target = self.members[target].name.clone();
        let id = format!("c{:03}", self.ending.said.len());
        let mut body = json!({
            "action": action.as_str(), "target": target.as_str(), "id": id, "holder": holder
        });
        if let Some(long) = hold_for {
            body["for"] = json!(long);
        }
        // Some swap places on their way.
        let delay = self.dice.one_in(5).then(|| self.dice.roll(15) as i64);
        self.tell(format!("{body}{}", delay.map(|it| format!(" ({it} s)")).unwrap_or_default()));
        self.sim.say_with(&body.to_string(), &BTreeMap::new(), delay);
        self.sent.push(body);
        let hold_for = hold_for.map(|long| HumanDuration::parse(long).unwrap().as_signed());
        self.ending.said.push(Said {
            id: CommandId::parse(&id).unwrap(),
            hold_for: self.bounded(&target, hold_for),
            target,
            action,
            holder: holder.to_owned(),
            sent: vec![self.sim.true_now()],
        });
    }

    /// No hold of a target lasts longer than its `max_hold`.
    fn bounded(
        &self,
        target: &TargetName,
        asked: Option<SignedDuration>,
    ) -> Option<SignedDuration> {
        let bound = self.fleet.targets[target].max_hold.map(|long| long.as_signed());
        match (asked, bound) {
            (Some(asked), Some(bound)) => Some(asked.min(bound)),
            (asked, bound) => asked.or(bound),
        }
    }

    fn somebody_acts(&mut self) {
        let target = self.dice.roll(self.members.len() as u64) as usize;
        let holder = ["ann", "bob", "cyd"][self.dice.roll(3) as usize];
        match self.dice.roll(120) {
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
                let now = self.sim.true_now();
                let said = self.ending.said.iter_mut().find(|it| body["id"] == it.id.as_str());
                said.expect("it was sent before").sent.push(now);
            }
            88..94 => self.lose_a_worker(),
            94..100 if self.console => self.somebody_at_the_console(target),
            100..104 => self.a_schedule_ticks(),
            104..108 => self.old_news(target),
            108..111 => self.poison(),
            111..114 => self.the_machine_moves(target),
            114..116 if self.bad_clocks => {
                let ahead = self.dice.seconds(0, 56) - SignedDuration::from_secs(28);
                self.tell(format!("the clocks jump to {ahead:#}"));
                self.sim.jump_clocks(ahead);
            }
            116..118 => self.units_and_capacity(target),
            _ => {}
        }
    }

    fn lose_a_worker(&mut self) {
        let place = self.dice.roll(self.places.len() as u64) as usize;
        self.set_clocks();
        if self.dice.one_in(3) {
            self.tell(format!("place {place} gets a new worker"));
            self.places[place].deploy();
        } else {
            self.tell(format!("the worker in place {place} is killed"));
            self.places[place].kill();
        }
    }

    fn somebody_at_the_console(&mut self, target: usize) {
        let instance = self.members[target].instance.clone();
        let ids = [instance.to_string()];
        let start = self.dice.one_in(2);
        let changed = self.sim.with_world(|world, now| match start {
            true => world.start_machines(now, &ids, false),
            false => world.stop_machines(now, &ids, false),
        });
        if changed.is_ok_and(|it| it.iter().any(|it| it.previous != it.current)) {
            self.tell(format!("console: {} {instance}", if start { "start" } else { "stop" }));
            let now = self.sim.true_now();
            self.sim.inspect(|state| match start {
                true => state.watch.started_by_somebody(&instance, now),
                false => state.watch.stopped_by_somebody(&instance, now),
            });
        }
    }

    /// A tick that comes on time or late, once, twice or never.
    fn a_schedule_ticks(&mut self) {
        let now = self.sim.true_now();
        let (rule, action, holder) = match self.dice.one_in(3) {
            true => (NIGHTLY, Action::Kill, "default"),
            false => (MORNING, Action::Start, MORNING),
        };
        let tick = Tick { rule: rule.to_owned(), scheduled: now, command: None };
        let times = [0, 1, 1, 2][self.dice.roll(4) as usize];
        self.tell(format!("{rule} ticks {times} times"));
        for _ in 0..times {
            let delay = self.dice.one_in(3).then(|| self.dice.roll(60) as i64);
            self.sim.say_with(&tick.to_json().to_string(), &BTreeMap::new(), delay);
        }
        let id = tick.command_id();
        if times == 0 || self.ending.said.iter().any(|one| one.id == id) {
            return;
        }
        let target = self.members[0].name.clone();
        let hold_for = (action == Action::Start).then(|| SignedDuration::from_secs(90));
        self.ending.said.push(Said {
            id,
            hold_for: self.bounded(&target, hold_for),
            target,
            action,
            holder: holder.to_owned(),
            sent: vec![now],
        });
    }

    /// A signal of AWS's that says something that is no longer so.
    fn old_news(&mut self, target: usize) {
        let instance = &self.members[target].instance;
        let state = ["running", "stopping", "stopped"][self.dice.roll(3) as usize];
        let body = json!({
            "version": "0", "id": "00000000-0000-0000-0000-000000000001",
            "detail-type": "EC2 Instance State-change Notification", "source": "aws.ec2",
            "account": "000000000000", "time": "2026-11-20T10:00:00Z", "region": "eu-central-1",
            "resources": [], "detail": {"instance-id": instance, "state": state}
        });
        self.tell(format!("old news: {instance} {state}"));
        self.sim.say(&body);
    }

    fn poison(&mut self) {
        let number = self.dice.roll(u64::MAX);
        let body = match self.dice.roll(5) {
            0 => format!("poison {number}"),
            1 => {
                // Whoever brought an id is told by it.
                let id = format!("poison-{number}");
                self.ending.refused.insert(CommandId::parse(&id).unwrap());
                format!("{{\"action\":\"dance\",\"id\":\"{id}\"}}")
            }
            2 => format!("{{\"action\":\"dance\",\"reason\":\"{number}\"}}"),
            3 => format!("{{\"action\":\"start\",\"target\":\"nobody-{number}\"}}"),
            _ => format!("[{number}]"),
        };
        self.tell(format!("poison: {body}"));
        self.sim.say_raw(&body);
        self.sim.inspect(|state| state.watch.poison.insert(body));
    }

    /// The secret names another machine from now on.
    fn the_machine_moves(&mut self, target: usize) {
        let Some(spare) = self.members[target].spare.clone() else { return };
        let member = &mut self.members[target];
        let old = std::mem::replace(&mut member.instance, spare.clone());
        member.spare = Some(old);
        let name = member.name.clone();
        self.tell(format!("{name} is {spare} from now on"));
        self.sim.set_secret(name.as_str(), &spare);
    }

    /// A unit dies or comes back; capacity comes back.
    fn units_and_capacity(&mut self, target: usize) {
        if !self.sim.inspect(|state| state.watch.may_fail) {
            return;
        }
        let instance: InstanceId = self.members[target].instance.clone();
        let what = self.dice.roll(3);
        self.tell(format!(
            "{instance}: {}",
            ["a unit dies", "a unit is repaired", "capacity"][what as usize]
        ));
        self.sim.with_world(|world, now| match what {
            0 => drop(world.kill_unit(now, instance.as_str(), "positionkeeper")),
            1 => drop(world.repair_unit(now, instance.as_str(), "positionkeeper")),
            _ => {
                if let Some(machine) = world.machines.get_mut(instance.as_str()) {
                    machine.behaviour.no_capacity = false;
                }
            }
        });
    }

    async fn live(&mut self) {
        for _ in 0..2 + self.dice.roll(3) {
            self.hire();
        }
        let minutes = 2 + self.dice.roll(6);
        let per_mille = [0, 20, 50, 100, 200][self.dice.roll(5) as usize];
        let deaths_per_mille = [0, 20, 100][self.dice.roll(3) as usize];
        let until = self.sim.true_now() + SignedDuration::from_mins(minutes as i64);
        self.sim.unleash(Chaos { until, per_mille, deaths_per_mille });
        self.tell(format!("{per_mille} of 1000 calls fail until {until}"));
        // Some crowds are hectic, others leave time between.
        let pause = [2, 10, 30, 60][self.dice.roll(4) as usize];
        while self.sim.true_now() < until && self.ending.said.len() < COMMANDS_MAX {
            let pause = 1 + self.dice.roll(pause * 2000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.somebody_acts();
        }
        let left = until.duration_since(self.sim.true_now());
        tokio::time::sleep(Duration::try_from(left).unwrap_or(Duration::ZERO)).await;
        self.tell("the faults cease");
        for target in 0..self.members.len() {
            self.say(Action::Resume, target, "admin", None);
        }
        // A call that was struck just before is still under way, and so is a drain.
        let calm = self.sim.true_now() + SignedDuration::from_mins(2);
        self.sim.inspect(|state| state.watch.calm(calm));
    }

    async fn end(mut self) -> Report {
        tokio::time::sleep(REPAIR_BOUND).await;
        self.ending.working = self.places.iter().filter_map(Place::working).collect();
        let mut findings = check_the_end(&self.sim, &self.ending);
        findings.extend(self.check_quiet());
        if findings.is_empty() {
            findings = self.replay().await;
        }
        for place in self.places.drain(..) {
            // A broken worker may never end.
            let _ = tokio::time::timeout(Duration::from_secs(60), place.close()).await;
        }
        Report {
            seed: self.seed,
            findings,
            steps: self.sim.calls_made(),
            faults: self.sim.faults(),
            commands: self.ending.said.len(),
            tale: tale::tell(&self.story, &self.sim.calls()),
        }
    }

    fn check_quiet(&self) -> Option<Finding> {
        let at = self.sim.true_now();
        let quiet_from = at - SignedDuration::from_mins(QUIET_MINUTES);
        let calls = self.sim.calls();
        let recent = calls.iter().rev().take_while(|call| call.at > quiet_from);
        let busy = recent.filter(|call| call.operation != "sqs:ReceiveMessage").count();
        let who = self.places.len() + self.members.len();
        let bound = QUIET_MINUTES as usize * QUIET_CALLS * who;
        let what = format!("{busy} calls in {QUIET_MINUTES} quiet minutes, {bound} allowed");
        (busy > bound).then_some(Finding { rule: Rule::Budget, at, what })
    }

    /// What is finished is sent once more, as a replay of dead letters sends it: with its id and time.
    async fn replay(&mut self) -> Vec<Finding> {
        let mut before = BTreeMap::new();
        for _ in 0..REPLAYS {
            let again = self.dice.roll(self.ending.said.len() as u64) as usize;
            let one = self.ending.said[again].clone();
            let body = self.sent.iter().find(|body| body["id"] == one.id.as_str()).cloned();
            let Some(command) = self.sim.command(one.id.as_str()) else { continue };
            let (Some(body), Some(outcome)) = (body, command.outcome) else { continue };
            self.tell(format!("replayed: {body}"));
            let sent =
                BTreeMap::from([(SENT_AT_ATTRIBUTE.to_owned(), command.sent_at.to_string())]);
            self.sim.say_with(&body.to_string(), &sent, None);
            before.insert(one.id, outcome);
        }
        tokio::time::sleep(Duration::from_secs(90)).await;
        check_the_replay(&self.sim, &before)
    }
}
