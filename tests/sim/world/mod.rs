//! The ports over the small model of AWS, on a virtual clock, with a fault for any call.
//!
//! *Theory.* Every port call passes [`Sim::call`]: it takes its time, it is counted, and it may fail in
//! any way in which a call can: not made, made without an answer, late, or with its worker dying beside
//! it. Plans name the calls that fail by their number; [`Chaos`] draws them.
//!
//! *Invariant.* Same seed and plan, same run: no other source of time or chance is used.

mod bus;
mod clock;
mod cloud;
mod ending;
mod launches;
mod machines;
mod probes;
mod publishing;
mod queue;
mod refusals;
mod services;
mod store;
mod weather;

pub use weather::{Refusal, Weather};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::bus::{RuleSpec, Target};
use lamplighter_cloud::queue::{Message, Outgoing as CloudMessage};
use lamplighter_cloud::{MachineSeed, Timings, World};
use lamplighter_events::{CommandId, InstanceId, LifecycleEvent, TargetName};
use lamplighter_lifecycle::{
    Bounds, CommandRecord, Phase, Resource, Round, STORED_FORMAT, ServiceId, TargetRecord,
};
use lamplighter_runtime::ports::{CallError, Ports};
use serde_json::json;
use tokio::sync::Notify;

use crate::backends::Backend;
use crate::breakage::Breakage;
use crate::call::Call;
use crate::checker::Watch;
use crate::fault::{Chance, Chaos, Fault, Gate, fail};
use crate::table::Table;

/// The command queue.
pub const COMMANDS: &str = "commands";
/// Its dead letters.
pub const DEAD: &str = "dead";
/// The machine that every world has.
pub const INSTANCE: &str = "i-01f5d046c86e4f36e";
/// The largest message that either queue takes: SQS's own limit until August 2025, which queues of that time keep.
pub const QUEUE_BYTES: usize = 256 * 1024;
/// How long a received message is hidden, seconds.
pub const VISIBILITY_SECONDS: u32 = 60;
/// An operation that mutates the world on its own tells nobody; a receive looks again this often.
const RECEIVE_LOOK: Duration = Duration::from_secs(20);

/// When a machine's health address answers.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// From running to the first 2xx.
    pub after: SignedDuration,
    /// It never does.
    pub never: bool,
}

/// All that the world holds.
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) table: Table,
    pub(crate) watch: Watch,
    pub(crate) emitted: Vec<LifecycleEvent>,
    pub(crate) breakage: Option<Breakage>,
    /// Names to machines, as Secrets Manager holds them.
    pub(crate) secrets: BTreeMap<String, InstanceId>,
    pub(crate) health: BTreeMap<Resource, Health>,
    /// What runs on the targets, and who uses it.
    pub(crate) backends: BTreeMap<Resource, Backend>,
    /// The last round of readings of each worker and target (a breakage gives them again).
    rounds: BTreeMap<(u64, Resource), (Timestamp, Round)>,
    calls: Vec<Call>,
    made: usize,
    faults: usize,
    plan: BTreeMap<usize, Fault>,
    chaos: Option<Chaos>,
    weather: Vec<Weather>,
    /// The bodies behind the receipts.
    bodies: BTreeMap<String, String>,
    /// The effect's call under way takes place so many seconds later.
    later: Option<u64>,
    chance: Chance,
    /// A series of its own, so that the other draws stay what they were.
    index_chance: Chance,
    ids: u64,
    workers: u64,
    /// The format that workers to come read and write.
    format: u32,
    formats: BTreeMap<u64, u32>,
    /// How far the machine clocks of workers to come are ahead of AWS's.
    ahead: SignedDuration,
    clocks: BTreeMap<u64, clock::MachineClock>,
    /// What each worker remembers of the secrets.
    remembered: BTreeMap<(u64, String), (Timestamp, InstanceId)>,
    /// What every call takes beyond its usual time.
    slow: Duration,
    /// EventBridge refuses everything.
    bus_away: bool,
    /// Commands whose work panics (a bug in the worker, for all it knows).
    cursed: BTreeSet<String>,
    /// Calls are told as they happen.
    loud: bool,
}

/// The world that a test drives, seen through the ports of one worker.
#[derive(Clone)]
pub struct Sim {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    base: Timestamp,
    started: tokio::time::Instant,
    /// Whose ports these are; a killed worker's go dead at once, and its tasks wait for ever.
    killed: Arc<AtomicBool>,
    died: Arc<Notify>,
    worker: u64,
}

impl Sim {
    /// One stopped machine with an active unit, a queue with dead letters, and AWS's signals.
    pub fn new(seed: u64, timings: Timings) -> Self {
        Self::beginning(seed, timings, "2026-11-20T10:00:00Z".parse().unwrap())
    }

    /// The same, at another time.
    pub fn beginning(seed: u64, timings: Timings, base: Timestamp) -> Self {
        let state = State {
            world: Self::account(seed, timings, base),
            table: Table::default(),
            watch: Watch::default(),
            emitted: Vec::new(),
            breakage: None,
            secrets: BTreeMap::new(),
            health: BTreeMap::new(),
            backends: BTreeMap::new(),
            rounds: BTreeMap::new(),
            calls: Vec::new(),
            made: 0,
            faults: 0,
            plan: BTreeMap::new(),
            chaos: None,
            weather: Vec::new(),
            bodies: BTreeMap::new(),
            later: None,
            chance: Chance::new(seed),
            index_chance: Chance::new(seed ^ 0x1dea),
            ids: 0,
            workers: 0,
            format: STORED_FORMAT,
            formats: BTreeMap::new(),
            ahead: SignedDuration::ZERO,
            clocks: BTreeMap::new(),
            remembered: BTreeMap::new(),
            slow: Duration::ZERO,
            bus_away: false,
            cursed: BTreeSet::new(),
            loud: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            changed: Arc::default(),
            base,
            started: tokio::time::Instant::now(),
            killed: Arc::default(),
            died: Arc::default(),
            worker: 0,
        }
    }

    fn account(seed: u64, timings: Timings, base: Timestamp) -> World {
        let mut world = World::new("000000000000", "eu-central-1", timings, seed, base);
        let size = ("MaximumMessageSize".to_owned(), QUEUE_BYTES.to_string());
        let of_dead = BTreeMap::from([size.clone()]);
        world.create_queue(base, DEAD, &of_dead, BTreeMap::new()).unwrap();
        let redrive =
            json!({"deadLetterTargetArn": world.queue_arn(DEAD), "maxReceiveCount": 1000});
        let attributes = BTreeMap::from([
            ("VisibilityTimeout".to_owned(), VISIBILITY_SECONDS.to_string()),
            ("RedrivePolicy".to_owned(), redrive.to_string()),
            size,
        ]);
        world.create_queue(base, COMMANDS, &attributes, BTreeMap::new()).unwrap();
        for (name, pattern) in [
            ("ec2", json!({"source": ["aws.ec2"]})),
            ("ssm", json!({"source": ["aws.ssm"]})),
            ("ecs", json!({"source": ["aws.ecs"], "detail-type": ["ECS Task State Change"]})),
        ] {
            let spec =
                RuleSpec { name: name.into(), pattern: Some(pattern), ..RuleSpec::default() };
            world.put_rule(base, spec).unwrap();
            let target = Target {
                id: "queue".to_owned(),
                arn: world.queue_arn(COMMANDS),
                input: None,
                input_path: None,
                transformer: None,
                role_arn: None,
                retry_policy: None,
            };
            world.bus.rule_mut("default", name).unwrap().put_targets(vec![target]).unwrap();
        }
        let seeded: MachineSeed = serde_json::from_value(json!({
            "id": INSTANCE, "units": {"positionkeeper": {}}
        }))
        .unwrap();
        world.seed_machine(base, &seeded);
        world
    }

    /// The ports of this worker.
    pub fn ports(&self) -> Ports {
        Ports {
            queue: Arc::new(self.clone()),
            store: Arc::new(self.clone()),
            cloud: Arc::new(self.clone()),
            bus: Arc::new(self.clone()),
            clock: Arc::new(self.clone()),
        }
    }

    /// The same world through the ports of one more worker, on a machine of its own.
    pub fn for_worker(&self) -> Self {
        let worker = {
            let mut state = self.lock();
            state.workers += 1;
            let (number, ahead) = (state.workers, state.ahead);
            state.clocks.insert(number, clock::MachineClock::ahead(ahead));
            let format = state.format;
            state.formats.insert(number, format);
            number
        };
        Self { killed: Arc::default(), died: Arc::default(), worker, ..self.clone() }
    }

    /// Workers to come are of a release that reads and writes this format.
    pub fn set_release(&self, format: u32) {
        self.lock().format = format;
    }

    /// What this worker reads at most, and writes.
    pub(crate) fn format(&self) -> u32 {
        let state = self.lock();
        state.formats.get(&self.worker).copied().unwrap_or(STORED_FORMAT)
    }

    /// Whose ports these are.
    pub fn worker(&self) -> u64 {
        self.worker
    }

    /// AWS's time.
    pub fn true_now(&self) -> Timestamp {
        self.base + SignedDuration::try_from(self.started.elapsed()).unwrap()
    }

    /// Faults are drawn from here on.
    pub fn unleash(&self, chaos: Chaos) {
        self.lock().chaos = Some(chaos);
    }

    /// The worker is broken so.
    pub fn break_it(&self, breakage: Option<Breakage>) {
        let mut state = self.lock();
        state.world.guards_in_memory = breakage == Some(Breakage::GuardsInMemory);
        state.breakage = breakage;
    }

    /// Looks at everything that the independent checker needs.
    pub(crate) fn inspect<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.lock())
    }

    /// As by `kill -9`: nothing of this worker happens any more.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        // Kept for whoever asks later.
        self.died.notify_one();
    }

    /// Until this worker is killed.
    pub async fn death(&self) {
        self.died.notified().await;
    }

    async fn die_if_killed(&self) {
        if self.killed.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The call with this number (from 0, counted from the world's beginning) fails so.
    pub fn plan(&self, number: usize, fault: Fault) {
        self.lock().plan.insert(number, fault);
    }

    /// Changes the world from outside.
    pub fn with_world<R>(&self, act: impl FnOnce(&mut World, Timestamp) -> R) -> R {
        let now = self.true_now();
        let result = act(&mut self.lock().world, now);
        self.changed.notify_waiters();
        result
    }

    /// Working on the command with this id panics.
    pub fn curse(&self, id: &str) {
        self.lock().cursed.insert(id.to_owned());
    }

    /// EventBridge refuses everything, or no longer.
    pub fn set_bus_away(&self, away: bool) {
        self.lock().bus_away = away;
    }

    /// A zone of EC2's is impaired, or no longer.
    pub fn set_zone_out(&self, zone: &str, out: bool) {
        let zones = &mut self.lock().world.machines.zones_out;
        if out {
            zones.insert(zone.to_owned());
        } else {
            zones.remove(zone);
        }
    }

    /// Every call takes so much longer.
    pub fn set_slow(&self, slow: Duration) {
        self.lock().slow = slow;
    }

    /// Every call is printed as it is made.
    pub fn set_loud(&self) {
        self.lock().loud = true;
    }

    /// Eventually consistent reads are so old.
    pub fn set_index_lag(&self, lag: SignedDuration) {
        self.lock().table.lag = lag;
    }

    /// A target's record is lost; its machine is not.
    pub fn lose_record(&self, target: &TargetName) {
        self.lock().table.lose(target);
    }

    /// When a target's health address answers.
    pub fn set_health(&self, resource: &Resource, health: Health) {
        self.lock().health.insert(resource.clone(), health);
    }

    /// What runs on a target.
    pub fn set_backend(&self, resource: &Resource, backend: Backend) {
        self.lock().backends.insert(resource.clone(), backend);
    }

    /// What a secret names from now on.
    pub fn set_secret(&self, secret: &str, instance: &InstanceId) {
        self.lock().secrets.insert(secret.to_owned(), instance.clone());
    }

    /// Somebody gives a service's scaling bounds.
    pub fn set_bounds(&self, service: &ServiceId, bounds: Bounds) {
        let now = self.true_now();
        cloud::register(&mut self.lock(), service, bounds, now).expect("the service is there");
        self.changed.notify_waiters();
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How many calls were made so far: the number of the next one.
    pub fn calls_made(&self) -> usize {
        self.lock().made
    }

    /// How many faults struck so far.
    pub fn faults(&self) -> usize {
        self.lock().faults
    }

    /// How often an operation was called.
    pub fn count(&self, operation: &str) -> usize {
        self.lock().calls.iter().filter(|call| call.operation == operation).count()
    }

    /// All events that EventBridge took.
    pub fn emitted(&self) -> Vec<LifecycleEvent> {
        self.lock().emitted.clone()
    }

    /// The first target's record.
    pub fn record(&self) -> Option<TargetRecord> {
        self.lock().table.records().next().cloned()
    }

    /// The first target's phase.
    pub fn phase(&self) -> Option<Phase> {
        self.record().map(|record| record.phase)
    }

    /// A target's record.
    pub fn record_of(&self, target: &TargetName) -> Option<TargetRecord> {
        self.lock().table.record(target).cloned()
    }

    /// A command's item.
    pub fn command(&self, id: &str) -> Option<CommandRecord> {
        let id = CommandId::parse(id).unwrap();
        self.lock().table.commands.get(&id).cloned()
    }

    /// A user sends a message.
    pub fn say(&self, body: &serde_json::Value) {
        self.say_raw(&body.to_string());
    }

    /// Somebody sends anything.
    pub fn say_raw(&self, body: &str) {
        self.say_with(body, &BTreeMap::new(), None);
    }

    /// With attributes, and a delay in seconds.
    pub fn say_with(
        &self,
        body: &str,
        attributes: &BTreeMap<String, String>,
        delay_seconds: Option<i64>,
    ) {
        let attributes = queue::texts(attributes);
        let message = CloudMessage { body: body.to_owned(), attributes, delay_seconds };
        self.with_world(|world, now| world.send_message(now, COMMANDS, message).unwrap());
    }

    /// EC2's word for the machine that every world has.
    pub fn machine_state(&self) -> &'static str {
        self.state_of(INSTANCE)
    }

    /// EC2's word for a machine.
    pub fn state_of(&self, instance: &str) -> &'static str {
        self.with_world(|world, now| {
            world.advance(now);
            world.machines.get(instance).unwrap().state().name()
        })
    }

    /// Messages that wait, are in hand, or are delayed.
    pub fn queued(&self, queue: &str) -> usize {
        self.with_world(|world, now| {
            world.advance(now);
            let counts = world.queues.get(queue).unwrap().counts(now);
            counts.visible + counts.in_flight + counts.delayed
        })
    }

    /// Messages that somebody has in hand.
    pub fn in_hand(&self) -> usize {
        self.with_world(|world, now| {
            world.advance(now);
            world.queues.get(COMMANDS).unwrap().counts(now).in_flight
        })
    }

    /// All dead letters.
    pub fn dead_letters(&self) -> Vec<Message> {
        self.with_world(|world, _| world.queues.get(DEAD).unwrap().messages().cloned().collect())
    }

    pub(crate) fn draw(&self) -> u64 {
        self.lock().chance.next()
    }

    pub(crate) fn broken(&self, breakage: Breakage) -> bool {
        self.lock().breakage == Some(breakage)
    }

    /// Every call passes here: it takes its time, it is noted, and it may fail.
    pub(crate) async fn call<R>(
        &self,
        operation: &'static str,
        what: impl FnOnce() -> String,
        act: impl FnOnce(&mut State, Timestamp) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let slow = self.lock().slow;
        tokio::time::sleep(slow + Duration::from_millis(5 + self.draw() % 40)).await;
        self.die_if_killed().await;
        let asked = self.true_now();
        let what = what();
        let refused = self.lock().refused_by_weather(operation, &what, asked);
        let fault = self.note(asked, operation, what);
        if let Some(error) = refused {
            return Err(error);
        }
        match fault {
            Some(Fault::Before) => {
                self.learn_the_time(asked);
                return Err(fail(operation, Gate::Closed));
            }
            Some(Fault::Unclear) => return Err(fail(operation, Gate::Unknown)),
            Some(Fault::DiesBefore) => self.kill(),
            Some(Fault::Slow(seconds)) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            _ => {}
        }
        self.die_if_killed().await;
        let now = self.true_now();
        let result = {
            let mut state = self.lock();
            state.later = match fault {
                Some(Fault::Late(seconds)) => Some(seconds),
                _ => None,
            };
            let result = act(&mut state, now);
            state.later = None;
            result
        };
        self.changed.notify_waiters();
        match fault {
            Some(Fault::DiesAfter) => self.kill(),
            Some(Fault::Stale(seconds)) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            _ => {}
        }
        self.die_if_killed().await;
        // The answer takes its time too: a worker can die between deed and answer.
        tokio::time::sleep(Duration::from_millis(self.draw() % 20)).await;
        self.die_if_killed().await;
        if matches!(fault, Some(Fault::Lost | Fault::Late(_))) {
            return Err(fail(operation, Gate::Unknown));
        }
        self.learn_the_time(asked);
        result
    }

    fn note(&self, at: Timestamp, operation: &'static str, what: String) -> Option<Fault> {
        let mut state = self.lock();
        let number = state.made;
        state.made += 1;
        let State { chaos, chance, plan, .. } = &mut *state;
        let drawn = chaos.as_ref().and_then(|chaos| chaos.draw(at, operation, chance));
        let fault = plan.get(&number).copied().or(drawn);
        state.faults += usize::from(fault.is_some());
        let call = Call { at, worker: self.worker, fault, operation, what };
        if state.loud {
            println!("{}", crate::tale::line(&call));
        }
        state.calls.push(call);
        fault
    }
}
