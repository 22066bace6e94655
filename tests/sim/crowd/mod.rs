//! Seeded crowds: several workers, several targets, people who come, go, pause and kill, who use what runs
//! there, schedules and ticks, somebody at the console, faults at any call, workers that die. Then the faults cease, and after the
//! repair bound nothing may be left of all that ([`crate::checker`]).

mod cast;
mod deeds;
mod lengths;
mod policies;
mod requests;
mod without_bus;

pub use cast::{service_spec, spec};
pub use requests::{play_requests, seed_walrus, walrus_spec};
pub use without_bus::play_without_bus;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cast::{Cast, Member};
use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::delivery::Unrest;
use lamplighter_events::{Action, CommandId, HumanDuration, TargetName};
use lamplighter_lifecycle::STORED_FORMAT;
use lamplighter_runtime::{FIRST_ID_ATTRIBUTE, Fleet, SENT_AT_ATTRIBUTE, WorkerOptions};
use serde_json::{Value, json};

use crate::backends::PUBLISHED_EVERY;
use crate::breakage::Breakage;
use crate::checker::{Ending, Said};
use crate::fault::Chaos;
use crate::rule::{Finding, Rule};
use crate::staff::{Place, run};
use crate::tale;
use crate::world::Sim;

/// 15 minutes and the skew bound for a lost answer (until then a target keeps its old machine), 15 more
/// for the look at what is off, and some sweeps.
const REPAIR_BOUND: Duration = Duration::from_secs(34 * 60);
/// Nothing is asked any more so long before the end.
const LAST_WORD: SignedDuration = SignedDuration::from_mins(2);
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

/// EventBridge delivers at least once, and in an incident hours late.
fn unrest(dice: &mut Dice) -> Unrest {
    if !dice.one_in(3) {
        return Unrest::default();
    }
    Unrest {
        duplicate_per_mille: 200,
        late_per_mille: [100, 300, 900][dice.roll(3) as usize],
        late_seconds_max: [20, 600, 3 * 3600][dice.roll(3) as usize],
    }
}

/// Plays the crowd of a seed while a release rolls forward and back: workers of two formats at once.
pub fn play_releases(seed: u64, how: Play) -> Report {
    run(|| async move {
        let mut crowd = Crowd::new(seed, how);
        crowd.rolls = true;
        crowd.sim.set_release(STORED_FORMAT - 1);
        crowd.live().await;
        crowd.end().await
    })
}

struct Crowd {
    seed: u64,
    sim: Sim,
    dice: Dice,
    /// What senders forge is drawn apart, so that it moves nothing else of a seed's story.
    forger: Dice,
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
    /// Somebody asks the probes by hand, again and again.
    is_watched: bool,
    /// How late metrics are while CloudWatch is well.
    metric_timings: (SignedDuration, SignedDuration),
    /// Releases roll forward and back.
    rolls: bool,
    ticks_every: SignedDuration,
    next_tick: Timestamp,
    publisher: tokio::task::JoinHandle<()>,
}

impl Crowd {
    fn new(seed: u64, how: Play) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x5851_F42D_4C95_7F2D));
        let timings = cast::timings(&mut dice);
        let metric_timings = (timings.metric_lag, timings.metric_scatter);
        let sim = Sim::beginning(seed, timings, cast::beginning(&mut dice));
        sim.break_it(how.breakage);
        if how.loud {
            sim.set_loud();
        }
        let cast = Cast::draw(&sim, &mut dice);
        sim.inspect(|state| {
            state.watch.may_fail = cast.may_fail;
            state.watch.limit_slots(SLOTS);
            state.watch.describe_lag = state.world.timings.describe_lag;
        });
        let keeps = cast.fleet.targets.values().filter(|spec| spec.keep_failed);
        let ending = Ending {
            keep_failed: keeps.map(|spec| spec.name.clone()).collect(),
            resources: cast.resources,
            ..Ending::default()
        };
        let mut forger = Dice(!seed);
        sim.with_world(|world, _| world.deliveries.unrest = unrest(&mut forger));
        let (console, bad_clocks) = (dice.one_in(3), dice.one_in(3));
        let is_watched = dice.one_in(6);
        let next_tick = sim.true_now() + dice.seconds(10, 60);
        let backends = sim.clone();
        let publisher = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::try_from(PUBLISHED_EVERY).unwrap()).await;
                backends.publish();
            }
        });
        Self {
            seed,
            sim,
            dice,
            forger,
            ticks_every: cast.ticks_every,
            next_tick,
            publisher,
            fleet: Arc::new(cast.fleet),
            members: cast.members,
            places: Vec::new(),
            ending,
            sent: Vec::new(),
            story: Vec::new(),
            loud: how.loud,
            console,
            bad_clocks,
            is_watched,
            metric_timings,
            rolls: false,
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
        self.places.push(Place::open(&self.sim, &self.fleet, &self.options()));
    }

    fn options(&self) -> WorkerOptions {
        let usual = WorkerOptions { slots: SLOTS, ..WorkerOptions::default() };
        match self.sim.broken(Breakage::RejectsUnknownAtOnce) {
            true => WorkerOptions { unknown_wait: Duration::ZERO, ..usual },
            false => usual,
        }
    }

    /// In some crowds a deployment is under way: a worker whose fleet lacks a target and the schedules is still there for
    /// a while.
    fn old_worker(&mut self) -> Option<(Timestamp, Place)> {
        if self.members.len() < 2 || !self.forger.one_in(3) {
            return None;
        }
        let mut fleet = (*self.fleet).clone();
        let last = self.members.last().map(|member| member.name.clone())?;
        fleet.targets.remove(&last);
        fleet.rules.clear();
        let until = self.sim.true_now() + self.forger.seconds(20, 100);
        self.tell(format!("until {until} a worker of the old fleet is there, without {last}"));
        Some((until, Place::open(&self.sim, &Arc::new(fleet), &self.options())))
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
        self.say_more(action, target, holder, hold_for, &json!({}));
    }

    fn say_more(
        &mut self,
        action: Action,
        target: usize,
        holder: &str,
        hold_for: Option<&str>,
        more: &Value,
    ) {
        let target = self.members[target].name.clone();
        let id = format!("c{:03}", self.ending.said.len());
        let mut body = json!({
            "action": action.as_str(), "target": target.as_str(), "id": id, "holder": holder
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        if let Some(long) = hold_for {
            body["for"] = json!(long);
        }
        // Some swap places on their way.
        let delay = self.dice.one_in(5).then(|| self.dice.roll(15) as i64);
        self.tell(format!("{body}{}", delay.map(|it| format!(" ({it} s)")).unwrap_or_default()));
        let forged = self.forge();
        self.sim.say_with(&body.to_string(), &forged, delay);
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

    /// Some senders claim another time of sending: it counts for nothing without the mark, and with it into the past
    /// alone (as a replay's does).
    fn forge(&mut self) -> BTreeMap<String, String> {
        if !self.forger.one_in(12) {
            return BTreeMap::new();
        }
        let ahead = SignedDuration::from_hours(1 + self.forger.roll(1_000_000) as i64);
        let (marked, future) = (self.forger.one_in(2), self.forger.one_in(2));
        let now = self.sim.true_now();
        let claimed = if marked || future { now + ahead } else { now - ahead };
        self.tell(format!(
            "its sender claims {claimed}{}",
            if marked { ", with the mark" } else { "" }
        ));
        let mark = marked.then(|| (FIRST_ID_ATTRIBUTE.to_owned(), "forged".to_owned()));
        let sent_at = (SENT_AT_ATTRIBUTE.to_owned(), claimed.to_string());
        mark.into_iter().chain([sent_at]).collect()
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

    async fn live(&mut self) {
        for _ in 0..2 + self.dice.roll(3) {
            self.hire();
        }
        let mut old = self.old_worker();
        let minutes = 2 + self.dice.roll(6);
        let per_mille = [0, 20, 50, 100, 200][self.dice.roll(5) as usize];
        let deaths_per_mille = [0, 20, 100][self.dice.roll(3) as usize];
        let until = self.sim.true_now() + SignedDuration::from_mins(minutes as i64);
        self.sim.unleash(Chaos { until, per_mille, deaths_per_mille });
        self.tell(format!("{per_mille} of 1000 calls fail until {until}"));
        // Drawn by itself, so that the story of a seed without an outage stays as it was.
        let mut outage = Dice(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let out_from =
            outage.one_in(4).then(|| self.sim.true_now() + outage.seconds(0, minutes * 40));
        // Some crowds are hectic, others leave time between.
        let pause = [2, 10, 30, 60][self.dice.roll(4) as usize];
        while self.sim.true_now() < until && self.ending.said.len() < COMMANDS_MAX {
            let pause = 1 + self.dice.roll(pause * 2000);
            let at = self.sim.true_now() + SignedDuration::from_millis(pause as i64);
            self.ticks_until(at, false).await;
            self.zone_goes_out(out_from);
            self.somebody_acts();
            self.roll_a_release();
            if let Some((_, place)) = old.take_if(|(until, _)| *until <= self.sim.true_now()) {
                tokio::spawn(place.close());
            }
        }
        if let Some((_, place)) = old {
            tokio::spawn(place.close());
        }
        self.zone_goes_out(out_from);
        self.ticks_until(until, false).await;
        self.sim.set_zone_out(cast::ZONE_AT_RISK, false);
        if self.rolls {
            self.tell("the newer release stays");
            self.sim.set_release(STORED_FORMAT);
            self.places.iter().for_each(Place::deploy);
        }
        self.tell("the faults cease");
        self.backends_heal();
        for target in 0..self.members.len() {
            self.say(Action::Resume, target, "admin", None);
        }
        // A call that was struck just before is still under way, and so is a drain.
        let calm = self.sim.true_now() + SignedDuration::from_mins(2);
        self.sim.inspect(|state| state.watch.calm(calm));
    }

    /// From a time on a zone is impaired, until the faults cease.
    fn zone_goes_out(&mut self, from: Option<Timestamp>) {
        if from.is_some_and(|from| from <= self.sim.true_now()) {
            self.tell("a zone is impaired");
            self.sim.set_zone_out(cast::ZONE_AT_RISK, true);
        }
    }

    /// One worker after another is replaced by one of the newer release, or of the one before.
    fn roll_a_release(&mut self) {
        if !self.rolls || !self.dice.one_in(4) {
            return;
        }
        let format = STORED_FORMAT - u32::from(self.dice.one_in(2));
        let place = self.dice.roll(self.places.len() as u64) as usize;
        self.tell(format!("worker {place} is replaced by one of format {format}"));
        self.sim.set_release(format);
        self.places[place].deploy();
    }

    async fn end(mut self) -> Report {
        let until = self.sim.true_now() + SignedDuration::try_from(REPAIR_BOUND).unwrap();
        self.ticks_until(until - LAST_WORD, true).await;
        tokio::time::sleep(Duration::try_from(LAST_WORD).unwrap()).await;
        self.ending.working = self.places.iter().filter_map(Place::working).collect();
        let mut findings = self.sim.check_the_end(&self.ending);
        findings.extend(self.check_quiet());
        if findings.is_empty() {
            findings = self.replay().await;
        }
        for place in self.places.drain(..) {
            // A broken worker may never end.
            let _ = tokio::time::timeout(Duration::from_secs(60), place.close()).await;
        }
        self.publisher.abort();
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
        let recent: Vec<&str> = recent.map(|call| call.operation).collect();
        let count = |operation: &str| recent.iter().filter(|it| **it == operation).count();
        // AWS chooses how often it reports (a service whose tasks crash is started again every few seconds). A message
        // that was deleted and that no worker sent is such a report. Each may cost its deletion and one further call.
        let reports = count("sqs:DeleteMessage").saturating_sub(count("sqs:SendMessage"));
        let busy = recent.len() - count("sqs:ReceiveMessage") - reports;
        let who = self.places.len() + self.members.len();
        let bound = QUIET_MINUTES as usize * QUIET_CALLS * who + reports;
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
            let sent = BTreeMap::from([
                (SENT_AT_ATTRIBUTE.to_owned(), command.sent_at.to_string()),
                (FIRST_ID_ATTRIBUTE.to_owned(), "replayed".to_owned()),
            ]);
            self.sim.say_with(&body.to_string(), &sent, None);
            before.insert(one.id, outcome);
        }
        tokio::time::sleep(Duration::from_secs(90)).await;
        self.sim.check_the_replay(&before)
    }
}
