//! The fleet of an incident and its users.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::launch_templates::TemplateData;
use lamplighter_cloud::queue::Disorder;
use lamplighter_cloud::{MachineSeed, ServiceSeed, Timings};
use lamplighter_events::{
    Action, Command, CommandId, HumanDuration, InstanceId, TargetName, Tick, Verdict,
};
use lamplighter_lifecycle::{
    HealthUrl, HttpProbe, HttpReads, IdleSpec, InstanceRef, InstanceSpec, Phase, Place as Kind,
    Probe, Resource, TargetSpec, UnitName,
};
use lamplighter_runtime::{Fleet, WorkerOptions};
use serde_json::{Value, json};

use super::{Incident, What};
use crate::backends::{Backend, Marks};
use crate::breakage::Breakage;
use crate::checker::{Ending, Policy, Said};
use crate::crowd::{seed_walrus, service_spec, spec, walrus_spec};
use crate::rule::Finding;
use crate::staff::Place;
use crate::tale;
use crate::world::{COMMANDS, DEAD, Sim, Weather};

/// Machines that users start and stop, the first half of them in the zone that may be out.
const BOXES: usize = 4;
const WORKERS: usize = 3;
/// The rule that looks for idleness.
const IDLE_CHECK: &str = "idle-check";
/// A user who was told that it is on finds it off for longer than this: it was wrongly stopped. EC2 needs some seconds.
const OFF_MINUTES: i64 = 2;
/// A hold that ends in the next minute may have ended by the time of the look.
const NEARLY_OVER: SignedDuration = SignedDuration::from_mins(1);

/// What one machine's user has.
#[derive(Debug, Clone, Default)]
struct Lane {
    /// The start that was sent last, its id and the end of its hold.
    start: Option<(CommandId, Timestamp)>,
    /// For how many looks it was off while its user had it.
    off_for: i64,
    said: bool,
}

pub(super) struct Office {
    sim: Sim,
    fleet: Arc<Fleet>,
    places: Vec<Place>,
    ending: Ending,
    boxes: Vec<(TargetName, InstanceId)>,
    busy: Resource,
    lanes: Vec<Lane>,
    /// Walrus's machines by the ids of their creates.
    created: Vec<CommandId>,
    happenings: Vec<(Timestamp, Timestamp, What)>,
    /// What EventBridge has not delivered yet.
    held_back: Vec<(Timestamp, Value)>,
    /// EC2's words of the last look, for signals that come late.
    seen: BTreeMap<String, &'static str>,
    wrongly_stopped: Vec<String>,
    story: Vec<(Timestamp, String)>,
    pace: i64,
    minutes: i64,
}

impl Office {
    pub(super) fn open(seed: u64, breakage: Option<Breakage>, pace: i64) -> Self {
        let sim = Sim::new(seed, Timings::default());
        sim.break_it(breakage);
        let mut fleet = Fleet::default();
        let mut boxes = Vec::new();
        for number in 0..BOXES {
            let (name, id) = (format!("box-{number}"), format!("i-01f5d046c86e4f3{number:02}"));
            let spec = machine(&name, &id);
            boxes.push((spec.name.clone(), InstanceId::parse(&id).unwrap()));
            seed_machine(&sim, &id);
            fleet.targets.insert(spec.name.clone(), spec);
        }
        let busy_id = "i-0abc123def456000";
        seed_machine(&sim, busy_id);
        let busy_spec = idle_policy(machine("busy", busy_id));
        let busy = Resource::Instance(InstanceId::parse(busy_id).unwrap());
        sim.set_backend(&busy, Backend::new(sim.true_now(), Marks::Before, SignedDuration::ZERO));
        let policy = Policy {
            spec: busy_spec.clone(),
            windows: Vec::new(),
            ticks_every: SignedDuration::from_mins(5),
        };
        sim.inspect(|state| state.watch.set_policy(policy));
        fleet.targets.insert(busy_spec.name.clone(), busy_spec);
        let service = service_spec();
        let id = service.resource().unwrap();
        let id = id.service().unwrap();
        let seeded = ServiceSeed {
            cluster: id.cluster().to_owned(),
            name: id.service().to_owned(),
            ..ServiceSeed::default()
        };
        sim.with_world(|world, now| world.seed_service(now, &seeded));
        fleet.targets.insert(service.name.clone(), service);
        seed_walrus(&sim, TemplateData::default());
        let walrus = walrus_spec();
        fleet.templates.insert(walrus.name.clone(), walrus);
        let check = json!({"action": Action::CheckIdle.as_str()}).to_string();
        match lamplighter_events::parse(&check, &BTreeMap::new(), &BTreeMap::new()) {
            Ok(lamplighter_events::Inbound::Command(command)) => {
                fleet.rules.insert(IDLE_CHECK.to_owned(), command)
            }
            other => panic!("a rule's command is one: {other:?}"),
        };
        // Starts may honestly fail while EC2 has no room.
        sim.inspect(|state| state.watch.may_fail = true);
        let fleet = Arc::new(fleet);
        let options = WorkerOptions::default();
        let places = (0..WORKERS).map(|_| Place::open(&sim, &fleet, &options)).collect();
        let resources: BTreeSet<Resource> =
            boxes.iter().map(|(_, id)| Resource::Instance(id.clone())).collect();
        let mut office = Self {
            sim,
            fleet,
            places,
            ending: Ending { resources, ..Ending::default() },
            lanes: vec![Lane::default(); boxes.len() + 1],
            boxes,
            busy,
            created: Vec::new(),
            happenings: Vec::new(),
            held_back: Vec::new(),
            seen: BTreeMap::new(),
            wrongly_stopped: Vec::new(),
            story: Vec::new(),
            pace,
            minutes: 0,
        };
        office.say(Action::Start, "busy", "ann", None);
        office
    }

    pub(super) fn now(&self) -> Timestamp {
        self.sim.true_now()
    }

    /// What happens when.
    pub(super) fn foresee(&mut self, incident: &Incident, begins: Timestamp) {
        let after = |minutes: i64| begins + SignedDuration::from_mins(minutes);
        let mut weather = Vec::new();
        let zone: Vec<String> =
            self.boxes.iter().take(BOXES / 2).map(|(_, id)| id.to_string()).collect();
        for happening in incident.timeline {
            let (from, until) = (after(happening.from), after(happening.until));
            let mut refuse = |operation, about, per_mille, refusal| {
                weather.push(Weather { operation, about, from, until, per_mille, refusal });
            };
            match happening.what {
                What::Refuses(operation, per_mille, refusal) => {
                    refuse(operation, Vec::new(), per_mille, refusal);
                }
                What::ZoneOut => {
                    use crate::world::Refusal::{NoCapacity, Unavailable};
                    refuse("ec2:DescribeInstances", zone.clone(), 1000, Unavailable);
                    refuse("ec2:StopInstances", zone.clone(), 1000, Unavailable);
                    refuse("ec2:StartInstances", zone.clone(), 1000, NoCapacity);
                    refuse("ssm:", zone.clone(), 1000, Unavailable);
                }
                What::NoNetwork | What::LateEvents(_) | What::Duplicates => {}
            }
            self.happenings.push((from, until, happening.what));
        }
        self.sim.set_weather(weather);
    }

    fn happens(&self, which: impl Fn(What) -> bool) -> Option<What> {
        let now = self.now();
        let mut all = self.happenings.iter();
        all.find(|(from, until, what)| *from <= now && now < *until && which(*what)).map(|it| it.2)
    }

    /// One minute of the day; `open`: users ask for something.
    pub(super) async fn minute(&mut self, open: bool) {
        self.conditions();
        self.use_what_is_busy();
        if open && self.minutes % self.pace == 0 {
            self.somebody_asks();
        }
        if self.minutes % 5 == 0 {
            self.tick();
        }
        self.deliver_what_was_held_back();
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.minutes += 1;
        self.look();
    }

    fn conditions(&mut self) {
        let network = self.happens(|what| what == What::NoNetwork).is_none();
        let duplicates = self.happens(|what| what == What::Duplicates).is_some();
        let late = self.happens(|what| matches!(what, What::LateEvents(_))).is_some();
        self.sim.with_world(|world, _| {
            let ids: Vec<String> = world.machines.iter().map(|it| it.id.clone()).collect();
            for id in ids {
                if let Some(machine) = world.machines.get_mut(&id) {
                    machine.behaviour.agent_never = !network;
                }
            }
            world.queues.disorder = match duplicates {
                true => Disorder { shuffle: true, duplicate_per_mille: 700 },
                false => Disorder::default(),
            };
            for name in ["ec2", "ssm", "ecs"] {
                if let Ok(rule) = world.bus.rule_mut("default", name) {
                    rule.enabled = !late;
                }
            }
        });
    }

    /// Somebody works there without a pause: whatever AWS does, it is not idle.
    fn use_what_is_busy(&mut self) {
        let now = self.now();
        let until = now + SignedDuration::from_secs(61);
        self.sim.with_backend(&self.busy, |backend| backend.use_it(now, until));
    }

    fn say(&mut self, action: Action, target: &str, holder: &str, long: Option<&str>) -> CommandId {
        let id = format!("c{:04}", self.ending.said.len());
        let mut body = json!({
            "action": action.as_str(), "target": target, "id": id, "holder": holder
        });
        if let Some(long) = long {
            body["for"] = json!(long);
        }
        self.send(&body, action, TargetName::parse(target).unwrap(), holder, long)
    }

    fn send(
        &mut self,
        body: &Value,
        action: Action,
        target: TargetName,
        holder: &str,
        long: Option<&str>,
    ) -> CommandId {
        self.story.push((self.now(), format!("said: {body}")));
        self.sim.say(body);
        let id = CommandId::parse(body["id"].as_str().unwrap()).unwrap();
        self.ending.said.push(Said {
            id: id.clone(),
            target,
            action,
            holder: holder.to_owned(),
            hold_for: long.map(|long| HumanDuration::parse(long).unwrap().as_signed()),
            sent: vec![self.now()],
        });
        id
    }

    fn somebody_asks(&mut self) {
        let at = (self.sim.draw() % (self.boxes.len() as u64 + 2)) as usize;
        let choice = self.sim.draw() % 10;
        if at > self.boxes.len() {
            return self.somebody_needs_a_model(choice);
        }
        let (name, holder) = match self.boxes.get(at) {
            Some((name, _)) => (name.to_string(), format!("user-{at}")),
            None => (service_spec().name.to_string(), "user-web".to_owned()),
        };
        match choice {
            0..6 => {
                let long = ["15m", "30m", "90m"][(self.sim.draw() % 3) as usize];
                let until = self.now() + HumanDuration::parse(long).unwrap().as_signed();
                let id = self.say(Action::Start, &name, &holder, Some(long));
                self.lanes[at] = Lane { start: Some((id, until)), ..Lane::default() };
            }
            6 | 7 => {
                self.say(Action::Stop, &name, &holder, None);
                self.lanes[at] = Lane::default();
            }
            8 => drop(self.say(Action::Status, &name, &holder, None)),
            _ => drop(self.say(Action::CheckIdle, "busy", &holder, None)),
        }
    }

    /// A create, or the end of an earlier one.
    fn somebody_needs_a_model(&mut self, choice: u64) {
        let done = self.created.iter().find_map(|id| {
            let command = self.sim.command(id.as_str())?;
            let outcome = command.outcome.filter(|it| it.outcome == Verdict::Done)?;
            Some((id.clone(), outcome.answer.get("target")?.as_str()?.to_owned()))
        });
        if let (Some((id, target)), true) = (done, choice < 5) {
            self.created.retain(|it| *it != id);
            self.say(Action::Destroy, &target, "user-w", None);
            return;
        }
        let id = format!("c{:04}", self.ending.said.len());
        let body = json!({
            "action": "create", "template": "walrus", "blob_id": format!("b{}", self.ending.said.len()),
            "id": id, "holder": "user-w"
        });
        let command = Command::from_json(&body).expect("it is one");
        let asked = CommandId::parse(&id).unwrap();
        let target = self.fleet.address_create(&command, &asked).unwrap().name.clone();
        let id = self.send(&body, Action::Create, target, "user-w", None);
        self.created.push(id);
    }

    fn tick(&mut self) {
        let now = self.now();
        let tick = Tick { rule: IDLE_CHECK.to_owned(), scheduled: now, command: None };
        let body = tick.to_json();
        self.ending.said.push(Said {
            id: tick.command_id(),
            hold_for: None,
            target: TargetName::parse("busy").unwrap(),
            action: Action::CheckIdle,
            holder: "default".to_owned(),
            sent: vec![now],
        });
        self.deliver(body);
    }

    /// Now, or as late as EventBridge is.
    fn deliver(&mut self, body: Value) {
        match self.happens(|what| matches!(what, What::LateEvents(_))) {
            Some(What::LateEvents(minutes)) => {
                self.held_back.push((self.now() + SignedDuration::from_mins(minutes), body));
            }
            _ => self.sim.say(&body),
        }
    }

    fn deliver_what_was_held_back(&mut self) {
        let now = self.now();
        // What is late when EventBridge recovers comes at once.
        let recovered = self.happens(|what| matches!(what, What::LateEvents(_))).is_none();
        let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held_back)
            .into_iter()
            .partition(|(at, _)| recovered || *at <= now);
        self.held_back = rest;
        for (_, body) in due {
            // A late tick counts from when the queue takes it.
            if let Some(rule) = body["rule"].as_str() {
                let scheduled: Timestamp = body["scheduled"].as_str().unwrap().parse().unwrap();
                let tick = Tick { rule: rule.to_owned(), scheduled, command: None };
                let id = tick.command_id();
                if let Some(said) = self.ending.said.iter_mut().find(|it| it.id == id) {
                    said.sent.push(now);
                }
            }
            self.sim.say(&body);
        }
    }

    /// What EC2 would report, and who finds off what was told to be on.
    fn look(&mut self) {
        let now = self.now();
        let late = self.happens(|what| matches!(what, What::LateEvents(_))).is_some();
        let ids: Vec<InstanceId> = self.boxes.iter().map(|(_, id)| id.clone()).collect();
        for (at, id) in ids.iter().enumerate() {
            let state = self.sim.state_of(id.as_str());
            let before = self.seen.insert(id.to_string(), state);
            if late && before.is_some_and(|before| before != state) {
                self.deliver(json!({
                    "version": "0", "id": "00000000-0000-0000-0000-000000000001",
                    "detail-type": "EC2 Instance State-change Notification", "source": "aws.ec2",
                    "account": "000000000000", "time": now.to_string(), "region": "eu-central-1",
                    "resources": [], "detail": {"instance-id": id, "state": state}
                }));
            }
            let Some((start, until)) = self.lanes[at].start.clone() else { continue };
            let told = self.sim.command(start.as_str()).and_then(|it| it.outcome);
            let has =
                told.is_some_and(|it| it.outcome == Verdict::Done) && now + NEARLY_OVER < until;
            let lane = &mut self.lanes[at];
            lane.off_for = if has && state != "running" { lane.off_for + 1 } else { 0 };
            if lane.off_for > OFF_MINUTES && !lane.said {
                lane.said = true;
                let what = format!("{now:.0} {id} is {state}, and {start} holds it until {until}");
                self.wrongly_stopped.push(what);
            }
        }
        let state = self.sim.state_of(&self.busy.to_string());
        let first = self.seen.insert("busy".to_owned(), state);
        if first == Some("running") && state != "running" {
            self.wrongly_stopped.push(format!("{now:.0} {} is {state}, and in use", self.busy));
        }
    }

    /// Whether nothing is open any more: no command, no effect, no event, no message that could be received.
    pub(super) fn is_at_rest(&self) -> bool {
        let now = self.now();
        let answered = self.ending.said.iter().all(|one| {
            self.sim.command(one.id.as_str()).is_some_and(|command| command.outcome.is_some())
        });
        let still = self.sim.inspect(|state| {
            state.table.records().all(|record| {
                let turns = matches!(record.phase, Phase::Starting | Phase::Stopping);
                let wanted = record.holds.iter().any(|hold| hold.in_force(now));
                let right = wanted == (record.phase == Phase::On);
                let quiet =
                    record.open.is_empty() && record.outbox.is_empty() && record.doing.is_none();
                !turns && right && quiet && record.unanswered.is_empty()
            })
        });
        let held = self.sim.with_world(|world, at| {
            world.advance(at);
            let counts = world.queues.get(COMMANDS).unwrap().counts(at);
            counts.visible + counts.in_flight
        });
        answered && still && held == 0 && self.held_back.is_empty()
    }

    /// Commands without an outcome, and dead letters: nothing that is sent here is poison.
    pub(super) fn lost(&self) -> Vec<String> {
        let unanswered = self.ending.said.iter().filter(|one| {
            self.sim.command(one.id.as_str()).is_none_or(|command| command.outcome.is_none())
        });
        let mut lost: Vec<String> =
            unanswered.map(|one| format!("{} of {} has no outcome", one.id, one.holder)).collect();
        let dead = self.sim.with_world(|world, _| {
            let letters = world.queues.get(DEAD).unwrap().messages();
            letters.map(|letter| letter.body.clone()).collect::<Vec<_>>()
        });
        lost.extend(dead.into_iter().map(|body| format!("a dead letter: {body}")));
        lost
    }

    pub(super) fn wrongly_stopped(&self) -> Vec<String> {
        self.wrongly_stopped.clone()
    }

    pub(super) fn check(&mut self) -> Vec<Finding> {
        self.ending.working = self.places.iter().filter_map(Place::working).collect();
        self.sim.check_the_end(&self.ending)
    }

    /// Commands, those that are done, those that are not.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let outcomes = self.ending.said.iter().filter_map(|one| {
            let command = self.sim.command(one.id.as_str())?;
            command.outcome.map(|outcome| outcome.outcome == Verdict::Done)
        });
        let outcomes: Vec<bool> = outcomes.collect();
        let done = outcomes.iter().filter(|done| **done).count();
        (self.ending.said.len(), done, outcomes.len() - done)
    }

    pub(super) async fn close(mut self) -> (usize, String) {
        for place in self.places.drain(..) {
            // A broken worker may never end.
            let _ = tokio::time::timeout(Duration::from_secs(60), place.close()).await;
        }
        (self.sim.calls_made(), tale::tell(&self.story, &self.sim.calls()))
    }
}

fn machine(name: &str, id: &str) -> TargetSpec {
    let mut spec = spec();
    spec.name = TargetName::parse(name).unwrap();
    spec.exclusive = false;
    spec.place = Kind::Instance(InstanceSpec {
        instance: InstanceRef::Id(InstanceId::parse(id).unwrap()),
        systemd_unit: Some(UnitName::parse("positionkeeper").unwrap()),
        unit_check_every: None,
    });
    spec
}

fn idle_policy(mut spec: TargetSpec) -> TargetSpec {
    let mut idle = IdleSpec::after(HumanDuration::parse("15m").unwrap());
    idle.probes = vec![Probe::Http(HttpProbe {
        url: HealthUrl::parse("http://backend.internal:8000/last-activity").unwrap(),
        pointer: "/it".to_owned(),
        reads: HttpReads::Epoch,
        ignore_own: true,
    })];
    spec.idle = Some(idle);
    spec
}

fn seed_machine(sim: &Sim, id: &str) {
    let seed: MachineSeed =
        serde_json::from_value(json!({"id": id, "units": {"positionkeeper": {}}})).unwrap();
    sim.with_world(|world, now| world.seed_machine(now, &seed));
}
