//! Stored items and messages as earlier releases wrote them, and whether this one still reads them.
//!
//! *Theory.* `fixtures/format-1` was written by the last code before items had a `format`, and never changes. A release
//! that raises the format writes its own folder with `LAMPLIGHTER_WRITE_FIXTURES=1` and commits it, so that the next
//! release has it to read.
//!
//! *Invariant.* Every optional field of a record is set in at least one fixture, or a reader that drops it would pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::Timestamp;
use lamplighter_events::{
    Action, AttentionKind, Cause, EventBody, Holder, IdleShard, Inbound, InstanceId,
    LifecycleEvent, Thresholds, Verdict, WakeUp,
};
use lamplighter_lifecycle::{
    Agent, Bootstrap, Bounds, Check, CheckPurpose, CheckReading, Contradiction, Doing, Effect,
    EffectKind, Failure, HealthReading, HistoryEntry, Hold, HoldKind, HostReading, IdleMemory,
    IdleOverride, InstanceSeen, Kind, LastOutcome, Launch, LaunchOption, LaunchRecord, LaunchToken,
    Observed, OpenCommand, OwnProbe, Paused, PowerState, Question, Quiet, Reading, Run, Seen, Sent,
    ServiceId, ServiceSeen, Step, Streak, TaskStopped, Unanswered, UnitHealth, UnitName, UnitProbe,
    stored_bytes,
};
use serde_json::{Map, Value, json};

use super::*;

const PHASES: [Phase; 5] = [Phase::Off, Phase::Starting, Phase::On, Phase::Stopping, Phase::Failed];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + seconds).unwrap()
}

fn instance() -> InstanceId {
    InstanceId::parse("i-01f5d046c86e4f36e").unwrap()
}

fn service() -> ServiceId {
    ServiceId::parse("main", "pyelli").unwrap()
}

fn holder(name: &str) -> Holder {
    Holder::parse(name).unwrap()
}

fn sent(seconds: i64, id: &str) -> Sent {
    Sent::new(at(seconds), id)
}

fn parameters() -> BTreeMap<String, String> {
    [("model", "llama-3"), ("blob_id", "0xabc")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn launch() -> Launch {
    Launch {
        token: LaunchToken::parse("0123456789abcdef0123456789abcdef").unwrap(),
        launch_template: "lt-0abc".to_owned(),
        version: "$Default".to_owned(),
        option: LaunchOption {
            subnet: Some("subnet-1".to_owned()),
            instance_type: Some("g5.xlarge".to_owned()),
            spot: true,
        },
        tags: [("Name", "walrus-20261120"), ("lamplighter:managed", "true")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

fn effects(kind: Kind) -> Vec<Effect> {
    let unit = UnitProbe {
        unit: UnitName::parse("keeper.service").unwrap(),
        settle_seconds: 30,
        activating_seconds: 45,
    };
    let idle = Question::Idle { script: "exit 1".to_owned(), timeout_seconds: 20 };
    let script = Bootstrap::Script {
        name: "walrus".to_owned(),
        script: "#!/bin/sh\nfetch \"$BLOB_ID\"\n".to_owned(),
        check: "test -f /srv/blob".to_owned(),
    };
    let document = Bootstrap::Document { name: "AWS-ApplyAnsiblePlaybooks".to_owned() };
    let bootstrap = |bootstrap| Question::Bootstrap {
        bootstrap,
        parameters: parameters(),
        timeout_seconds: 900,
    };
    let ask = |question| Effect::SendCommand {
        instance: instance(),
        token: "00112233445566778899aabbccddeeff".to_owned(),
        question,
    };
    match kind {
        Kind::Service => vec![
            Effect::UpdateService { service: service(), desired: 2 },
            Effect::UpdateService { service: service(), desired: 0 },
            Effect::RegisterScalableTarget {
                service: service(),
                bounds: Bounds { min: 1, max: 4 },
            },
        ],
        Kind::Launched => vec![
            Effect::RunInstance(Box::new(launch())),
            Effect::TerminateInstance { instance: instance() },
            ask(bootstrap(script)),
            ask(bootstrap(document)),
        ],
        _ => vec![
            Effect::StartInstance { instance: instance() },
            Effect::StopInstance { instance: instance() },
            ask(Question::Unit(unit)),
            ask(idle),
        ],
    }
}

fn steps(kind: Kind, phase: Phase) -> Vec<Option<Step>> {
    let steps: &[Step] = match (phase, kind) {
        (Phase::Starting, Kind::Service) => &[
            Step::RestoreScaling,
            Step::StartService,
            Step::WaitRunning,
            Step::Settle,
            Step::VerifyHealth,
        ],
        (Phase::Starting, Kind::Launched) => &[
            Step::LaunchInstance,
            Step::WaitMachine,
            Step::WaitAgent,
            Step::Bootstrap,
            Step::VerifyUnit,
        ],
        (Phase::Starting, _) => &[
            Step::WaitStoppedFirst,
            Step::StartInstance,
            Step::WaitRunning,
            Step::Settle,
            Step::VerifyUnit,
            Step::VerifyHealth,
        ],
        (Phase::Stopping, Kind::Service) => {
            &[Step::SuspendScaling, Step::StopService, Step::WaitStopped]
        }
        (Phase::Stopping, Kind::Launched) => &[Step::TerminateInstance, Step::WaitStopped],
        (Phase::Stopping, _) => &[Step::WaitStoppable, Step::StopInstance, Step::WaitStopped],
        _ => return vec![None],
    };
    steps.iter().copied().map(Some).collect()
}

fn holds() -> Vec<Hold> {
    [
        (HoldKind::Firm, "c-1", "alice"),
        (HoldKind::IdleBounded, "c-2", "bob ∞ \"quoted\""),
        (HoldKind::UntilReleased, "c-3", "default"),
        (HoldKind::Adopted, "adopted:3", "adopted"),
        (HoldKind::Window, "window:2026-11-20T08:00:00Z", "office-hours"),
    ]
    .into_iter()
    .map(|(kind, id, name)| Hold {
        id: id.to_owned(),
        holder: holder(name),
        kind,
        from: at(10),
        until: matches!(kind, HoldKind::Firm | HoldKind::Window).then(|| at(7_200)),
        sent: sent(9, id),
        reason: (kind == HoldKind::Firm).then(|| "nightly job".to_owned()),
    })
    .collect()
}

fn outcome(id: &str, action: Action, verdict: Verdict, cause: Option<Cause>) -> Outcome {
    let mut answer = Map::new();
    answer.insert("started".to_owned(), json!(true));
    answer.insert("expires_at".to_owned(), Value::Null);
    Outcome {
        command: CommandId::parse(id).unwrap(),
        target: Some(TargetName::parse("position-keeper").unwrap()),
        action: Some(action),
        outcome: verdict,
        cause,
        message: "it is on".to_owned(),
        answer,
        at: at(90),
        took_ms: 71_234,
    }
}

fn outbox(target: &TargetName, kind: Kind) -> Vec<LifecycleEvent> {
    let failed = outcome("c-8", Action::Start, Verdict::Failed, Some(Cause::Capacity));
    let refused = outcome("c-9", Action::Stop, Verdict::Rejected, Some(Cause::Superseded));
    let bodies = [
        EventBody::TargetStateChanged {
            kind: kind.to_string(),
            from: "off".to_owned(),
            to: "starting".to_owned(),
            step: Some("start-instance".to_owned()),
            cause: Some(Cause::Bounced),
            why: "it is wanted".to_owned(),
            instance: Some(instance().to_string()),
        },
        EventBody::CommandCompleted { outcome: failed },
        EventBody::CommandRejected { outcome: refused },
        EventBody::Attention {
            attention: AttentionKind::StoppedOutside,
            message: "somebody else stopped it".to_owned(),
            instance: Some(instance().to_string()),
        },
    ];
    let events = bodies.into_iter().enumerate().map(|(index, body)| LifecycleEvent {
        id: format!("{target}:41:{index}"),
        at: at(80),
        target: Some(target.clone()),
        body,
    });
    events.collect()
}

fn open() -> Vec<OpenCommand> {
    let over = IdleOverride { after_seconds: Some(600), look_back_seconds: Some(1_200) };
    [
        (Action::Start, None, IdleOverride::default()),
        (Action::Stop, Some(PowerState::Running), IdleOverride::default()),
        (Action::CheckIdle, Some(PowerState::Pending), over),
    ]
    .into_iter()
    .enumerate()
    .map(|(index, (action, found, idle))| OpenCommand {
        id: CommandId::parse(&format!("open-{index}")).unwrap(),
        action,
        holder: holder("alice"),
        sent: sent(20, &format!("open-{index}")),
        trace: (index == 0)
            .then(|| "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        found,
        idle,
    })
    .collect()
}

fn idle_memory() -> IdleMemory {
    let label = "http backend /idle".to_owned();
    let own = OwnProbe {
        asked_at: at(50),
        answered_at: at(51),
        said: at(40),
        real: Some(at(30)),
        marks: Some(true),
    };
    IdleMemory {
        streaks: [("cpu".to_owned(), Streak { since: at(1), read_at: at(60) })].into(),
        own: [(label, own)].into(),
        unreachable_since: Some(at(5)),
        unreachable_said_at: Some(at(6)),
        kept_alive_at: Some(at(7)),
        host: Some(HostReading {
            at: at(8),
            reading: Reading::Exit { code: 0, output: "idle".to_owned() },
        }),
        look_at: Some(at(300)),
        ended_since: Some(at(2)),
        ended_level: Some(0.25),
        ..IdleMemory::default()
    }
}

fn seen(kind: Kind) -> Observed {
    let seen = match kind {
        Kind::Service => Seen::Service(ServiceSeen {
            active: true,
            desired: 2,
            running: 1,
            pending: 1,
            healthy: Some(1),
            rollout_failed: Some("circuit breaker".to_owned()),
            unplaced: Some((at(33), "no container instance met its requirements".to_owned())),
            stopped: vec![TaskStopped {
                at: at(34),
                code: Some("EssentialContainerExited".to_owned()),
                reason: "exit 1".to_owned(),
            }],
            bounds: Some(Bounds { min: 1, max: 4 }),
            newest_event_at: None,
        }),
        _ => Seen::Instance(InstanceSeen {
            launched_at: None,
            id: Some(instance()),
            state: PowerState::Running,
            reason: Some("Client.UserInitiatedShutdown".to_owned()),
            user_stopped_at: Some(at(35)),
            private_ip: Some("10.0.0.7".to_owned()),
            public_ip: Some("203.0.113.7".to_owned()),
        }),
    };
    Observed {
        at: at(70),
        seen,
        agent: Some(Agent::Online),
        check: Some(CheckReading::Said { state: "active".to_owned() }),
        health: Some(HealthReading::Unhealthy { detail: "503".to_owned() }),
    }
}

fn failure() -> Failure {
    let message = "AWS refused for now: InsufficientInstanceCapacity".to_owned();
    Failure { cause: Cause::Capacity, message, at: at(61) }
}

/// A record with every field set that its kind has.
fn full(kind: Kind, phase: Phase, step: Option<Step>, effect: &Effect) -> TargetRecord {
    let (name, resource) = match kind {
        Kind::Service => ("pyelli", Resource::Service(service())),
        Kind::Launched => ("walrus.0123456789abcdef", Resource::Instance(instance())),
        _ => ("position-keeper", Resource::Instance(instance())),
    };
    let target = TargetName::parse(name).unwrap();
    let mut record = TargetRecord::first_contact(target.clone(), kind, resource, at(0));
    record.rev = 41;
    record.phase = phase;
    record.step = step;
    record.generation = 3;
    record.up.started_by_us = true;
    record.holds = holds();
    record.releases = [("alice".to_owned(), sent(3, "c-0"))].into();
    record.last_kill = Some(sent(2, "kill-1"));
    record.last_resume = Some(sent(1, "resume-1"));
    record.doing =
        Some(Doing { effect: effect.clone(), nonce: "nonce-1".to_owned(), act_by: at(95) });
    record.unanswered = effects(kind)
        .into_iter()
        .map(|effect| {
            let (nonce, repeats) = ("nonce-0".to_owned(), vec![("nonce-9".to_owned(), at(900))]);
            Unanswered { effect, nonce, until: at(1_000), repeats, refusals: 0 }
        })
        .collect();
    record.quiet = Some(Quiet { until: at(100), after: EffectKind::Start });
    record.attempt.contradiction =
        Some(Contradiction { at: at(71), state: PowerState::ShuttingDown });
    record.began_at = Some(at(60));
    record.attempt.accepted_at = Some(at(62));
    record.attempt.retry_at = Some(at(110));
    record.attempt.refusal = Some(failure());
    record.attempt.refusals = 4;
    record.attempt.settle_until = Some(at(120));
    record.attempt.health_since = Some(at(63));
    record.attempt.check = Some(Check {
        token: "00112233445566778899aabbccddeeff".to_owned(),
        command_id: Some("7a1b".to_owned()),
        purpose: CheckPurpose::Verify,
        asked_at: at(64),
    });
    record.checks = 9;
    record.up.unit = Some(UnitHealth { state: "activating".to_owned(), at: at(65) });
    record.up.unit_down = true;
    record.up.kept = true;
    record.overdue = true;
    record.failure = Some(failure());
    record.idle = idle_memory();
    record.paused = Some(Paused {
        by: holder("ops"),
        at: at(66),
        sent: sent(66, "pause-1"),
        reason: Some("maintenance".to_owned()),
    });
    record.open = open();
    record.observed = Some(seen(kind));
    record.wake_at = Some(at(96));
    record.outbox = outbox(&target, kind);
    record.history = vec![
        HistoryEntry { at: at(10), rev: 40, what: "off → starting: it is wanted".to_owned() },
        HistoryEntry { at: at(61), rev: 41, what: "refused (capacity): none left".to_owned() },
    ];
    let over = Run { from: at(-900), ready: Some(at(-800)), until: Some(at(-100)) };
    record.runs = vec![over, Run { from: at(0), ready: None, until: None }];
    record.last_outcome = Some(LastOutcome {
        command: CommandId::parse("c-8").unwrap(),
        action: Action::Start,
        holder: holder("alice"),
        outcome: Verdict::Failed,
        cause: Some(Cause::Capacity),
        message: "no capacity".to_owned(),
        at: at(61),
    });
    record.suppressed_until = Some(at(3_600));
    record.why = "trying again at 2026-11-20T10:00:00Z".to_owned();
    record.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    match kind {
        Kind::Service => record.bounds = Some(Bounds { min: 1, max: 4 }),
        Kind::Launched => {
            record.provision.seated = true;
            record.provision.retire_at = (phase == Phase::Off).then(|| at(86_400));
            record.provision.launch = Some(LaunchRecord {
                given_up: Vec::new(),
                parameters: parameters(),
                created_at: at(1),
                number: 2,
                option: 5,
                tried: vec![
                    "g5.xlarge in subnet-1, spot: InsufficientInstanceCapacity: none".to_owned(),
                    "g5.xlarge in subnet-2: InsufficientInstanceCapacity: none".to_owned(),
                ],
                refused: 2,
                name: "walrus-20261120-100000-ab12".to_owned(),
                launched_at: Some(at(2)),
                bootstrap_token: Some("00112233445566778899aabbccddeeff".to_owned()),
                bootstrapped: true,
                interrupted_at: Some(at(3)),
                ended_at: Some(at(4)),
                price_per_hour_millionths: Some(1_006_000),
            });
        }
        _ => {}
    }
    record
}

/// A record with nothing set that may be left out.
fn bare(kind: Kind, phase: Phase) -> TargetRecord {
    let full = full(kind, phase, None, &effects(kind)[0]);
    let mut record = TargetRecord::first_contact(full.target, kind, full.resource, at(0));
    record.rev = 1;
    record.phase = phase;
    record
}

fn targets() -> Vec<(String, Item)> {
    let mut items = Vec::new();
    for kind in [Kind::Instance, Kind::Service, Kind::Launched] {
        let effects = effects(kind);
        let mut next = 0;
        for phase in PHASES {
            let word = phase.as_str();
            items.push((
                format!("{kind} {word} bare"),
                target_item(&bare(kind, phase), "n").unwrap(),
            ));
            for step in steps(kind, phase) {
                let effect = &effects[next % effects.len()];
                next += 1;
                let record = full(kind, phase, step, effect);
                let step = step.map_or("", Step::as_str);
                items.push((
                    format!("{kind} {word} {step} {}", effect.operation()),
                    target_item(&record, "nonce-1").unwrap(),
                ));
            }
        }
    }
    let mut launching = full(
        Kind::Launched,
        Phase::Starting,
        Some(Step::LaunchInstance),
        &effects(Kind::Launched)[0],
    );
    launching.resource = Resource::Launch(launch().token);
    items.push(("a launch without an instance".to_owned(), target_item(&launching, "n").unwrap()));
    items
}

fn command(id: &str, action: Option<Action>, outcome: Option<Outcome>) -> CommandRecord {
    CommandRecord {
        id: CommandId::parse(id).unwrap(),
        fingerprint: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
        target: action.map(|_| TargetName::parse("position-keeper").unwrap()),
        action,
        sent_at: at(20),
        accepted_at: at(21),
        outcome,
        parked_as: None,
    }
}

fn commands() -> Vec<(String, Item)> {
    let of = |name: &str, record: &CommandRecord| (name.to_owned(), command_item(record).unwrap());
    let done = outcome("c-1", Action::Start, Verdict::Done, None);
    let failed = outcome("c-2", Action::Create, Verdict::Failed, Some(Cause::Capacity));
    let refused = outcome("c-3", Action::Stop, Verdict::Rejected, Some(Cause::Invalid));
    let mut orphan = command_key(&CommandId::parse("c-1").unwrap());
    orphan.insert("outcome".to_owned(), text(serde_json::to_string(&done).unwrap()));
    orphan.insert("expires_at".to_owned(), number(1_798_888_000));
    vec![
        of("open", &command("c-0", Some(Action::Start), None)),
        of("done", &command("c-1", Some(Action::Start), Some(done))),
        of("failed", &command("c-2", Some(Action::Create), Some(failed))),
        of("rejected, never addressed", &command("c-3", None, Some(refused))),
        ("an outcome whose command is gone".to_owned(), orphan),
    ]
}

/// As `plan_transaction` writes them.
fn claims() -> Vec<(String, Item)> {
    let resources = [Resource::Instance(instance()), Resource::Service(service())];
    let items = resources.iter().map(|resource| {
        let mut item = resource_key(resource);
        item.insert("owner".to_owned(), text("position-keeper"));
        if matches!(resource, Resource::Instance(_)) {
            item.insert("expires_at".to_owned(), number(1_795_086_400));
        }
        (resource.to_string(), item)
    });
    items.collect()
}

/// As `update_seats` leaves them.
fn seats() -> Vec<(String, Item)> {
    let template = TargetName::parse("walrus").unwrap();
    let taken = ["walrus.0123456789abcdef", "walrus.fedcba9876543210"].map(str::to_owned);
    let mut item = template_key(&template);
    item.insert("seats".to_owned(), AttributeValue::Ss(taken.to_vec()));
    // A set that becomes empty is no attribute.
    vec![("two".to_owned(), item), ("none".to_owned(), template_key(&template))]
}

/// Each with its attributes; the dead letters have those that parking adds.
fn messages() -> Vec<(String, Value)> {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let target = TargetName::parse("position-keeper").unwrap();
    let wake_up = WakeUp { target: target.clone(), rev: 41, at: at(96) }.to_json();
    let on = full(Kind::Instance, Phase::On, None, &effects(Kind::Instance)[0]);
    let note = json!({ "resource": on.resource, "watch": IdleWatch::of(&on) });
    let thresholds = Thresholds { idle_threshold_mins: Some(10), lookback_period_mins: Some(20) };
    let shard = IdleShard { targets: vec![target], notes: vec![note], thresholds }.to_json();
    let tick = json!({
        "lamplighter": "tick", "rule": "nightly-stop", "scheduled": "2026-11-20T22:00:00Z",
    });
    let carries = json!({
        "lamplighter": "tick", "rule": "check-idle", "scheduled": "2026-11-20T22:05:00Z",
        "command": { "action": "check-idle" },
    });
    let start = json!({ "action": "start", "target": "position-keeper", "id": "c-1", "for": "2h" });
    let dead = |reason: &str, words: &str| {
        json!({
            "id": "c-1",
            "lamplighter-message-id": "7e0c3c34-0b5c-4a86-a9d7-2d8f5d9e2a3b",
            "lamplighter-sent-at": "2026-11-20T09:59:59.123Z",
            "reason": reason,
            "reason-message": words,
            "traceparent": trace,
        })
    };
    let shard_attributes =
        json!({ "lamplighter-sent-at": "2026-11-20T22:05:01Z", "traceparent": trace });
    [
        ("wake-up", wake_up, json!({ "traceparent": trace })),
        (
            "wake-up without a trace",
            WakeUp { target: on.target, rev: 1, at: at(1) }.to_json(),
            json!({}),
        ),
        ("idle shard", shard, shard_attributes),
        ("tick of a rule", tick, json!({})),
        ("tick with its command", carries, json!({})),
        (
            "dead letter: unknown target",
            start.clone(),
            dead("unknown-target", "no target \"position-keeper\""),
        ),
        ("dead letter: panicked", start, dead("panicked", "the worker panicked on it, repeatedly")),
    ]
    .into_iter()
    .map(|(name, body, attributes)| {
        (name.to_owned(), json!({ "body": body.to_string(), "attributes": attributes }))
    })
    .collect()
}

fn folder(format: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/format-{format}"))
}

/// DynamoDB's own JSON.
fn as_json(item: &Item) -> Value {
    let attribute = |value: &AttributeValue| match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::Ss(set) => json!({ "SS": set }),
        other => panic!("{other:?} is in no item of ours"),
    };
    let sorted: BTreeMap<&String, Value> =
        item.iter().map(|(name, value)| (name, attribute(value))).collect();
    json!(sorted)
}

fn from_json(value: &Value) -> Item {
    let attribute = |value: &Value| {
        let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
        match kind.as_str() {
            "S" => text(value.as_str().unwrap()),
            "N" => AttributeValue::N(value.as_str().unwrap().to_owned()),
            "SS" => AttributeValue::Ss(serde_json::from_value(value.clone()).unwrap()),
            other => panic!("{other} is in no item of ours"),
        }
    };
    let attributes = value.as_object().unwrap().iter();
    attributes.map(|(name, value)| (name.clone(), attribute(value))).collect()
}

type Named = Vec<(String, Value)>;

fn items(of: &[(String, Item)]) -> Named {
    of.iter().map(|(name, item)| (name.clone(), as_json(item))).collect()
}

#[test]
fn the_fixtures_are_written_where_that_is_asked_for() {
    if std::env::var_os("LAMPLIGHTER_WRITE_FIXTURES").is_none() {
        return;
    }
    let folder = folder(STORED_FORMAT);
    std::fs::create_dir_all(&folder).unwrap();
    let all: [(&str, Named); 5] = [
        ("targets", items(&targets())),
        ("commands", items(&commands())),
        ("claims", items(&claims())),
        ("seats", items(&seats())),
        ("messages", messages()),
    ];
    for (name, fixtures) in all {
        let line = |(name, value): &(String, Value)| {
            format!("{}\n", json!({ "name": name, "fixture": value }))
        };
        let lines: String = fixtures.iter().map(line).collect();
        std::fs::write(folder.join(format!("{name}.jsonl")), lines).unwrap();
    }
}

#[track_caller]
fn read(format: u32, name: &str) -> Named {
    let path = folder(format).join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let named: Named = text
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            (line["name"].as_str().unwrap().to_owned(), line["fixture"].clone())
        })
        .collect();
    assert!(!named.is_empty(), "{path:?}");
    named
}

/// What DynamoDB counts of an item.
fn bytes(item: &Item) -> usize {
    let value = |value: &AttributeValue| match value {
        AttributeValue::S(text) => text.len(),
        // At most so many, whatever the number.
        AttributeValue::N(_) => 21,
        other => panic!("{other:?} is in no target's item"),
    };
    item.iter().map(|(name, it)| name.len() + value(it)).sum()
}

#[test]
fn an_item_is_no_larger_than_the_rules_count_it() {
    let nonce = "n".repeat(36);
    for (name, fixture) in read(1, "targets") {
        let record = read_target(&from_json(&fixture)).unwrap();
        let (counted, is) = (stored_bytes(&record), bytes(&target_item(&record, &nonce).unwrap()));
        assert!((is..=is + 256).contains(&counted), "{name}: {is} bytes, counted as {counted}");
    }
}

/// Whatever an older document says is still said by the record that was read from it.
#[track_caller]
fn check_kept(name: &str, old: &Value, new: &Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (field, value) in old {
                let kept = new.get(field).unwrap_or_else(|| panic!("{name}: {field} is lost"));
                check_kept(&format!("{name}.{field}"), value, kept);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len(), "{name}");
            for (old, new) in old.iter().zip(new) {
                check_kept(name, old, new);
            }
        }
        (old, new) => assert_eq!(old, new, "{name}"),
    }
}

#[test]
fn records_of_the_previous_release_are_read_and_lose_nothing() {
    let fixtures = read(1, "targets");
    let mut fields = BTreeSet::new();
    for (name, fixture) in &fixtures {
        let item = from_json(fixture);
        let record = read_target(&item).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read_name(&item).unwrap(), record.target, "{name}");
        let old: Value = serde_json::from_str(string(&item, "doc").unwrap()).unwrap();
        check_kept(name, &old, &serde_json::to_value(&record).unwrap());
        fields.extend(old.as_object().unwrap().keys().cloned());
        // Whatever conditions and indexes read stands where it stood.
        let again = as_json(&target_item(&record, string(&item, "nonce").unwrap()).unwrap());
        for (attribute, value) in fixture.as_object().unwrap() {
            if !matches!(attribute.as_str(), "doc" | "watch") {
                assert_eq!(again.get(attribute), Some(value), "{name}: {attribute}");
            }
        }
        if item.contains_key("up_shard") {
            assert_eq!(read_up(&item).unwrap().resource, record.resource, "{name}");
        }
    }
    assert_eq!(fields.len(), 47, "every field of a record is in some fixture: {fields:?}");
}

#[test]
fn commands_of_the_previous_release_are_read_and_lose_nothing() {
    for (name, fixture) in read(1, "commands") {
        let item = from_json(&fixture);
        let record = read_command(&item).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(command_key(&record.id)["pk"], item["pk"], "{name}");
        for (attribute, found) in [("doc", json!(record)), ("outcome", json!(record.outcome))] {
            let Some(old) = string(&item, attribute) else { continue };
            check_kept(&name, &serde_json::from_str(old).unwrap(), &found);
        }
    }
}

#[test]
fn claims_and_seats_of_the_previous_release_are_read() {
    for (name, fixture) in read(1, "claims") {
        let item = from_json(&fixture);
        assert_eq!(read_owner(&item).unwrap().as_str(), "position-keeper", "{name}");
        let resource = Resource::parse(&name).unwrap();
        assert_eq!(resource_key(&resource)["pk"], item["pk"], "{name}");
    }
    let template = TargetName::parse("walrus").unwrap();
    for (name, fixture) in read(1, "seats") {
        let item = from_json(&fixture);
        assert_eq!(template_key(&template)["pk"], item["pk"], "{name}");
        let taken = item.get("seats").map_or(0, |seats| seats.as_ss().unwrap().len());
        assert_eq!(taken, if name == "two" { 2 } else { 0 }, "{name}");
    }
}

#[test]
fn messages_of_the_previous_release_are_read() {
    let rules = BTreeMap::from([(
        "nightly-stop".to_owned(),
        lamplighter_events::Command::new(Action::Stop),
    )]);
    for (name, fixture) in read(1, "messages") {
        let attributes: BTreeMap<String, String> =
            serde_json::from_value(fixture["attributes"].clone()).unwrap();
        let body = fixture["body"].as_str().unwrap();
        let inbound = lamplighter_events::parse(body, &attributes, &rules)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let said = match inbound {
            Inbound::WakeUp(wake_up) => wake_up.to_json(),
            Inbound::IdleShard(shard) => {
                let watch = &shard.notes[0]["watch"];
                let watch: IdleWatch = serde_json::from_value(watch.clone()).unwrap();
                assert!(!watch.memory.is_empty());
                shard.to_json()
            }
            Inbound::Tick(tick) => {
                assert!(tick.command.is_some(), "{name}");
                continue;
            }
            Inbound::Command(command) => {
                assert_eq!(command.id.unwrap().as_str(), "c-1", "{name}");
                continue;
            }
            Inbound::Signal(signal) => panic!("{name}: {signal:?}"),
        };
        check_kept(&name, &serde_json::from_str(body).unwrap(), &said);
    }
}
