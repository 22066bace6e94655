//! The ports over the small model of AWS, on a virtual clock, with a fault for any call.
//!
//! *Theory.* The runtime runs unchanged. `tokio`'s paused time is the clock: when every task waits, time
//! jumps to the next timer. Every port call is numbered; a plan says which numbers fail and how. Each
//! call takes a little time, drawn from a seed, so that interleavings differ between seeds.
//!
//! *Invariant.* Same seed and plan, same run: no other source of time or chance is used.

mod cloud;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::bus::{Entry, RuleSpec, Target};
use lamplighter_cloud::queue::{MessageAttribute, Outgoing as CloudMessage};
use lamplighter_cloud::{MachineSeed, Timings, World};
use lamplighter_events::{Cause, CommandId, InstanceId, LifecycleEvent, TargetName};
use lamplighter_lifecycle::{CommandRecord, TargetRecord};
use lamplighter_runtime::ports::{
    Applied, Bus, CallError, Clock, Commit, Committed, Disposition, Outgoing, Ports, PutCommand,
    Queue, Receipt, Received, SHARDS, Store, UpTarget,
};
use serde_json::json;

use crate::checker::Watch;

pub(crate) const COMMANDS: &str = "commands";
pub(crate) const DEAD: &str = "dead";
pub(crate) const INSTANCE: &str = "i-01f5d046c86e4f36e";

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing was done, and the error says so.
    Before,
    /// It was done; the answer is an ambiguous error.
    Lost,
    /// Nothing was done, and nobody knows.
    Unclear,
    /// It is done, and answered, late, seconds.
    Slow(u64),
    /// It is done at once and answered late, seconds: the answer is old when it comes.
    Stale(u64),
    /// Nobody knows, and an effect takes place so many seconds later, as a signed request can.
    Late(u64),
}

/// Random faults, for as long as they last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chaos {
    /// No faults from here on.
    pub until: Timestamp,
    /// How many of a thousand calls fail.
    pub per_mille: u64,
}

/// A call as it was made: for counting, and for a failing run's story.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub at: Timestamp,
    /// Which worker's ports.
    pub worker: u64,
    pub fault: Option<Fault>,
    pub operation: &'static str,
    pub what: String,
}

#[derive(Default)]
pub(crate) struct Table {
    pub(crate) records: BTreeMap<TargetName, (String, TargetRecord)>,
    pub(crate) commands: BTreeMap<CommandId, CommandRecord>,
    resources: BTreeMap<InstanceId, TargetName>,
}

struct State {
    world: World,
    table: Table,
    calls: Vec<Call>,
    plan: BTreeMap<usize, Fault>,
    chaos: Option<Chaos>,
    watch: Watch,
    /// The bodies behind the receipts.
    bodies: BTreeMap<String, String>,
    /// The effect's call under way takes place so many seconds later.
    later: Option<u64>,
    emitted: Vec<LifecycleEvent>,
    chance: u64,
    ids: u64,
    skew_seconds: i64,
    /// What every call takes beyond its usual time.
    slow: Duration,
    /// EventBridge refuses everything.
    bus_away: bool,
    /// Commands whose handling panics (a bug in the worker, for all it knows).
    cursed: BTreeSet<String>,
}

/// The world that a test drives.
#[derive(Clone)]
pub(crate) struct Sim {
    state: Arc<Mutex<State>>,
    base: Timestamp,
    started: tokio::time::Instant,
    /// Whose ports these are; a killed worker's go dead at once, and its tasks wait for ever.
    killed: Arc<AtomicBool>,
    worker: u64,
    /// How far this worker's clock is ahead of AWS's.
    offset: SignedDuration,
}

fn fail(operation: &'static str, applied: Applied) -> CallError {
    CallError {
        operation,
        cause: Cause::Throttled,
        message: "a fault of the simulation".to_owned(),
        disposition: Disposition::Retry,
        applied,
    }
}

impl Sim {
    /// One stopped machine with an active unit, a queue with dead letters, and AWS's signals.
    pub(crate) fn new(seed: u64, timings: Timings) -> Self {
        let base: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let mut world = World::new("000000000000", "eu-central-1", timings, seed, base);
        world.create_queue(base, DEAD, &BTreeMap::new(), BTreeMap::new()).unwrap();
        let redrive =
            json!({"deadLetterTargetArn": world.queue_arn(DEAD), "maxReceiveCount": 1000});
        let attributes = BTreeMap::from([
            ("VisibilityTimeout".to_owned(), "60".to_owned()),
            ("RedrivePolicy".to_owned(), redrive.to_string()),
        ]);
        world.create_queue(base, COMMANDS, &attributes, BTreeMap::new()).unwrap();
        for (name, pattern) in
            [("ec2", json!({"source": ["aws.ec2"]})), ("ssm", json!({"source": ["aws.ssm"]}))]
        {
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
            };
            world.bus.rule_mut("default", name).unwrap().put_targets(vec![target]).unwrap();
        }
        let seeded: MachineSeed = serde_json::from_value(json!({
            "id": INSTANCE, "units": {"positionkeeper": {}}
        }))
        .unwrap();
        world.seed_machine(base, &seeded);
        let state = State {
            world,
            table: Table::default(),
            calls: Vec::new(),
            plan: BTreeMap::new(),
            chaos: None,
            watch: Watch::default(),
            bodies: BTreeMap::new(),
            later: None,
            emitted: Vec::new(),
            chance: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            ids: 0,
            skew_seconds: 0,
            slow: Duration::ZERO,
            bus_away: false,
            cursed: BTreeSet::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            base,
            started: tokio::time::Instant::now(),
            killed: Arc::default(),
            worker: 0,
            offset: SignedDuration::ZERO,
        }
    }

    pub(crate) fn ports(&self) -> Ports {
        Ports {
            queue: Arc::new(self.clone()),
            store: Arc::new(self.clone()),
            cloud: Arc::new(self.clone()),
            bus: Arc::new(self.clone()),
            clock: Arc::new(self.clone()),
        }
    }

    /// The same world through the ports of one more worker.
    pub(crate) fn for_worker(&self) -> Self {
        self.for_worker_with(0, SignedDuration::ZERO)
    }

    /// The same, for a worker with a number and with a clock that is ahead by `offset`.
    pub(crate) fn for_worker_with(&self, worker: u64, offset: SignedDuration) -> Self {
        Self { killed: Arc::default(), worker, offset, ..self.clone() }
    }

    /// AWS's time.
    pub(crate) fn true_now(&self) -> Timestamp {
        self.base + SignedDuration::try_from(self.started.elapsed()).unwrap()
    }

    pub(crate) fn unleash(&self, chaos: Chaos) {
        self.lock().chaos = Some(chaos);
    }

    /// Looks at everything that the independent checker needs.
    pub(crate) fn inspect<R>(
        &self,
        look: impl FnOnce(&mut Watch, &Table, &[LifecycleEvent], &mut World) -> R,
    ) -> R {
        let mut state = self.lock();
        let State { watch, table, emitted, world, .. } = &mut *state;
        look(watch, table, emitted, world)
    }

    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }

    async fn die_if_killed(&self) {
        if self.killed.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The call with this number (from 0, counted from the world's beginning) fails so.
    pub(crate) fn plan(&self, number: usize, fault: Fault) {
        self.lock().plan.insert(number, fault);
    }

    pub(crate) fn with_world<R>(&self, act: impl FnOnce(&mut World, Timestamp) -> R) -> R {
        let now = self.true_now();
        act(&mut self.lock().world, now)
    }

    pub(crate) fn curse(&self, word: &str) {
        self.lock().cursed.insert(word.to_owned());
    }

    pub(crate) fn set_bus_away(&self, away: bool) {
        self.lock().bus_away = away;
    }

    pub(crate) fn set_slow(&self, slow: Duration) {
        self.lock().slow = slow;
    }

    pub(crate) fn set_skew(&self, seconds: i64) {
        self.lock().skew_seconds = seconds;
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    pub(crate) fn count(&self, operation: &str) -> usize {
        self.lock().calls.iter().filter(|call| call.operation == operation).count()
    }

    pub(crate) fn emitted(&self) -> Vec<LifecycleEvent> {
        self.lock().emitted.clone()
    }

    pub(crate) fn record(&self) -> Option<TargetRecord> {
        self.lock().table.records.values().next().map(|(_, record)| record.clone())
    }

    pub(crate) fn command(&self, id: &str) -> Option<CommandRecord> {
        let id = CommandId::parse(id).unwrap();
        self.lock().table.commands.get(&id).cloned()
    }

    /// A user sends a message.
    pub(crate) fn say(&self, body: &serde_json::Value) {
        self.say_raw(&body.to_string());
    }

    pub(crate) fn say_raw(&self, body: &str) {
        self.with_world(|world, now| {
            let message = CloudMessage {
                body: body.to_owned(),
                attributes: BTreeMap::new(),
                delay_seconds: None,
            };
            world.send_message(now, COMMANDS, message).unwrap();
        });
    }

    pub(crate) fn machine_state(&self) -> &'static str {
        self.with_world(|world, now| {
            world.advance(now);
            world.machines.get(INSTANCE).unwrap().state().name()
        })
    }

    /// Messages that wait, are in hand, or are delayed.
    pub(crate) fn queued(&self, queue: &str) -> usize {
        self.with_world(|world, now| {
            world.advance(now);
            let counts = world.queues.get(queue).unwrap().counts(now);
            counts.visible + counts.in_flight + counts.delayed
        })
    }

    /// Messages that somebody has in hand.
    pub(crate) fn in_hand(&self) -> usize {
        self.with_world(|world, now| {
            world.advance(now);
            world.queues.get(COMMANDS).unwrap().counts(now).in_flight
        })
    }

    pub(crate) fn dead_letters(&self) -> Vec<lamplighter_cloud::queue::Message> {
        self.with_world(|world, _| world.queues.get(DEAD).unwrap().messages().cloned().collect())
    }

    fn chance(&self) -> u64 {
        let mut state = self.lock();
        // xorshift64*: enough for drawing delays, and the same on every machine.
        state.chance ^= state.chance >> 12;
        state.chance ^= state.chance << 25;
        state.chance ^= state.chance >> 27;
        state.chance.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Every call passes here: it takes its time, it is noted, and it may fail.
    async fn call<R>(
        &self,
        operation: &'static str,
        what: String,
        act: impl FnOnce(&mut State, Timestamp) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let slow = self.lock().slow;
        tokio::time::sleep(slow + Duration::from_millis(5 + self.chance() % 40)).await;
        self.die_if_killed().await;
        let now = self.true_now();
        let drawn = self.draw_fault(now);
        let fault = {
            let mut state = self.lock();
            let number = state.calls.len();
            let fault = state.plan.get(&number).copied().or(drawn);
            state.calls.push(Call { at: now, worker: self.worker, fault, operation, what });
            fault
        };
        match fault {
            Some(Fault::Before) => return Err(fail(operation, Applied::No)),
            Some(Fault::Unclear) => return Err(fail(operation, Applied::Perhaps)),
            Some(Fault::Slow(seconds)) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            Some(Fault::Lost | Fault::Stale(_) | Fault::Late(_)) | None => {}
        }
        let now = self.true_now();
        self.die_if_killed().await;
        let result = {
            let mut state = self.lock();
            if let Some(Fault::Late(seconds)) = fault {
                state.later = Some(seconds);
            }
            let result = act(&mut state, now);
            state.later = None;
            result
        };
        if let Some(Fault::Stale(seconds)) = fault {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        // The answer takes its time too: a worker can die between deed and answer.
        tokio::time::sleep(Duration::from_millis(self.chance() % 20)).await;
        self.die_if_killed().await;
        if matches!(fault, Some(Fault::Lost | Fault::Late(_))) {
            return Err(fail(operation, Applied::Perhaps));
        }
        result
    }

    fn draw_fault(&self, now: Timestamp) -> Option<Fault> {
        let chaos = self.lock().chaos.filter(|chaos| now < chaos.until)?;
        if self.chance() % 1000 >= chaos.per_mille {
            return None;
        }
        let size = self.chance();
        Some(match self.chance() % 100 {
            0..25 => Fault::Before,
            25..45 => Fault::Lost,
            45..65 => Fault::Unclear,
            65..80 => Fault::Slow(1 + size % 20),
            80..90 => Fault::Stale(1 + size % 15),
            // Mostly soon; sometimes nearly as late as its signature allows.
            _ if size.is_multiple_of(4) => Fault::Late(60 + size % 780),
            _ => Fault::Late(1 + size % 40),
        })
    }
}

impl Clock for Sim {
    fn now(&self) -> Timestamp {
        self.true_now() + self.offset
    }
    fn new_id(&self) -> String {
        let mut state = self.lock();
        state.ids += 1;
        format!("id-{}", state.ids)
    }
    fn jitter(&self) -> f64 {
        (self.chance() >> 11) as f64 / (1u64 << 53) as f64
    }
    fn skew(&self) -> Option<SignedDuration> {
        Some(SignedDuration::from_secs(self.lock().skew_seconds) - self.offset)
    }
}

fn texts(attributes: &BTreeMap<String, String>) -> BTreeMap<String, MessageAttribute> {
    attributes
        .iter()
        .map(|(name, value)| {
            let value = MessageAttribute {
                data_type: "String".to_owned(),
                text: Some(value.clone()),
                binary: None,
            };
            (name.clone(), value)
        })
        .collect()
}

#[async_trait]
impl Queue for Sim {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Received>, CallError> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let now = self.true_now();
            let ready = self.with_world(|world, now| {
                world.advance(now);
                world.queues.get(COMMANDS).unwrap().has_visible(now)
            });
            if ready || tokio::time::Instant::now() >= until {
                break;
            }
            let due = self.lock().world.next_due();
            let pause = due.map_or(wait, |due| {
                Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO)
            });
            // A send by somebody else can come before anything that is due now.
            let pause = pause.clamp(Duration::from_millis(1), Duration::from_millis(250));
            self.die_if_killed().await;
            tokio::time::sleep(pause).await;
        }
        self.call("sqs:ReceiveMessage", String::new(), |state, now| {
            let received = state.world.receive_messages(now, COMMANDS, max, Some(60)).unwrap();
            for one in &received {
                state.bodies.insert(one.receipt_handle.clone(), one.message.body.clone());
            }
            Ok(received
                .into_iter()
                .map(|received| {
                    let attributes: BTreeMap<String, String> = received
                        .message
                        .attributes
                        .iter()
                        .filter_map(|(name, value)| Some((name.clone(), value.text.clone()?)))
                        .collect();
                    let kept = attributes
                        .get(lamplighter_runtime::SENT_AT_ATTRIBUTE)
                        .and_then(|at| at.parse().ok());
                    Received {
                        message_id: received.message.id.clone(),
                        receipt: Receipt(received.receipt_handle.clone()),
                        body: received.message.body.clone(),
                        sent_at: kept.unwrap_or(received.message.sent),
                        receives: received.message.receive_count,
                        attributes,
                    }
                })
                .collect())
        })
        .await
    }

    async fn send(&self, message: &Outgoing) -> Result<(), CallError> {
        self.call("sqs:SendMessage", message.body.clone(), |state, now| {
            let message = CloudMessage {
                body: message.body.clone(),
                attributes: texts(&message.attributes),
                delay_seconds: Some(i64::from(message.delay_seconds)),
            };
            state.world.send_message(now, COMMANDS, message).unwrap();
            Ok(())
        })
        .await
    }

    async fn delete(&self, receipt: &Receipt) -> Result<(), CallError> {
        self.call("sqs:DeleteMessage", receipt.0.clone(), |state, now| {
            state.world.delete_message(now, COMMANDS, &receipt.0).unwrap();
            let body = state.bodies.get(&receipt.0).map_or("", String::as_str);
            state.watch.deleted(&state.table, &state.emitted, body);
            Ok(())
        })
        .await
    }

    async fn delay(&self, receipt: &Receipt, seconds: u32) -> Result<(), CallError> {
        let what = format!("{} {seconds}", receipt.0);
        self.call("sqs:ChangeMessageVisibility", what, |state, now| {
            // Of something already visible again, or gone: a success by the port's contract.
            let _ = state.world.change_visibility(now, COMMANDS, &receipt.0, i64::from(seconds));
            Ok(())
        })
        .await
    }

    async fn park(&self, message: &Outgoing) -> Result<(), CallError> {
        self.call("sqs:SendMessage(dead)", String::new(), |state, now| {
            let message = CloudMessage {
                body: message.body.clone(),
                attributes: texts(&message.attributes),
                delay_seconds: None,
            };
            state.world.send_message(now, DEAD, message).unwrap();
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Store for Sim {
    async fn load(&self, target: &TargetName) -> Result<Option<TargetRecord>, CallError> {
        self.call("dynamodb:GetItem", target.to_string(), |state, _| {
            Ok(state.table.records.get(target).map(|(_, record)| record.clone()))
        })
        .await
    }

    async fn load_all(&self, targets: &[TargetName]) -> Result<Vec<TargetRecord>, CallError> {
        self.call("dynamodb:BatchGetItem", String::new(), |state, _| {
            let records = targets.iter().filter_map(|target| state.table.records.get(target));
            Ok(records.map(|(_, record)| record.clone()).collect())
        })
        .await
    }

    async fn load_command(&self, id: &CommandId) -> Result<Option<CommandRecord>, CallError> {
        self.call("dynamodb:GetItem", id.to_string(), |state, _| {
            Ok(state.table.commands.get(id).cloned())
        })
        .await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, CallError> {
        assert!(
            !commit.accepted.as_ref().is_some_and(|it| self.lock().cursed.contains(it.id.as_str())),
            "cursed"
        );
        let what = format!(
            "rev {} {} {:?}: {}",
            commit.record.rev,
            commit.record.phase.as_str(),
            commit.record.step,
            commit.record.why
        );
        self.call("dynamodb:write", what, |state, now| {
            let table = &mut state.table;
            let name = &commit.record.target;
            let there = table.records.get(name);
            if there.is_some_and(|(nonce, _)| *nonce == commit.nonce) {
                return Ok(Committed::Done);
            }
            if there.map_or(0, |(_, record)| record.rev) != commit.expected_rev {
                return Ok(Committed::Fenced);
            }
            if let Some(accepted) = &commit.accepted
                && let Some(existing) = table.commands.get(&accepted.id)
            {
                return Ok(Committed::CommandExists(Box::new(existing.clone())));
            }
            if let Some(claimed) = &commit.claims
                && let Some(owner) = table.resources.get(claimed).filter(|owner| *owner != name)
            {
                return Ok(Committed::ResourceTaken(owner.clone()));
            }
            assert_eq!(commit.record.rev, commit.expected_rev + 1, "D6: rev rises by one");
            let worker_now = now + self.offset;
            state.watch.committed(there.map(|(_, record)| record), commit, worker_now);
            if let Some(claimed) = &commit.claims {
                table.resources.insert(claimed.clone(), name.clone());
            }
            if let Some(accepted) = &commit.accepted {
                table.commands.insert(accepted.id.clone(), accepted.clone());
            }
            for outcome in &commit.outcomes {
                let command = table.commands.get_mut(&outcome.command).expect("it was accepted");
                assert!(command.outcome.is_none(), "D8: a second outcome for {}", outcome.command);
                command.outcome = Some(outcome.clone());
            }
            table.records.insert(name.clone(), (commit.nonce.clone(), commit.record.clone()));
            Ok(Committed::Done)
        })
        .await
    }

    async fn put_command(&self, command: &CommandRecord) -> Result<PutCommand, CallError> {
        self.call("dynamodb:write", format!("command {}", command.id), |state, _| {
            if let Some(existing) = state.table.commands.get(&command.id) {
                return Ok(PutCommand::Exists(Box::new(existing.clone())));
            }
            state.table.commands.insert(command.id.clone(), command.clone());
            Ok(PutCommand::Done)
        })
        .await
    }

    async fn due(&self, shard: u32, now: Timestamp) -> Result<Vec<TargetName>, CallError> {
        self.call("dynamodb:Query(due)", String::new(), |state, _| {
            let records = state.table.records.values().map(|(_, record)| record);
            Ok(records
                .filter(|record| shard_of(&record.target) == shard)
                .filter(|record| record.wake_at.is_some_and(|at| at <= now))
                .map(|record| record.target.clone())
                .collect())
        })
        .await
    }

    async fn up(&self, shard: u32) -> Result<Vec<UpTarget>, CallError> {
        self.call("dynamodb:Query(up)", String::new(), |state, _| {
            let records = state.table.records.values().map(|(_, record)| record);
            Ok(records
                .filter(|record| shard_of(&record.target) == shard && record.is_up())
                .map(|record| UpTarget {
                    target: record.target.clone(),
                    instance: record.instance.clone(),
                    phase: record.phase,
                })
                .collect())
        })
        .await
    }

    async fn owner(&self, instance: &InstanceId) -> Result<Option<TargetName>, CallError> {
        self.call("dynamodb:GetItem", instance.to_string(), |state, _| {
            Ok(state.table.resources.get(instance).cloned())
        })
        .await
    }
}

fn shard_of(target: &TargetName) -> u32 {
    target.as_str().bytes().map(u32::from).sum::<u32>() % SHARDS
}

#[async_trait]
impl Bus for Sim {
    async fn emit(&self, events: &[LifecycleEvent]) -> Result<Vec<String>, CallError> {
        self.call("events:PutEvents", String::new(), |state, now| {
            if state.bus_away {
                return Err(fail("events:PutEvents", Applied::No));
            }
            let entries: Vec<Entry> = events
                .iter()
                .map(|event| Entry {
                    source: LifecycleEvent::SOURCE.to_owned(),
                    detail_type: event.detail_type().to_owned(),
                    detail: serde_json::to_string(event).unwrap(),
                    ..Entry::default()
                })
                .collect();
            for entries in entries.chunks(10) {
                for answer in state.world.put_events(now, entries).unwrap() {
                    answer.expect("the model takes well-formed events");
                }
            }
            state.emitted.extend(events.iter().cloned());
            Ok(events.iter().map(|event| event.id.clone()).collect())
        })
        .await
    }
}
