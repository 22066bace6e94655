//! The adapters over the real wire, against the embedded endpoint.

// The lint's own exception knows test functions, not the helpers beside them.
#![allow(clippy::unwrap_used)]

mod commands;
mod formats;
mod outages;
mod services;
mod templates;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lamplighter_aws::dead_letters::{self, Which};
use lamplighter_aws::setup::{self, Change};
use lamplighter_aws::{Aws, ConnectOptions, Names, StaticCredentials, check, connect};
use lamplighter_events::{Action, Cause, CommandId, InstanceId, Outcome, TargetName, Verdict};
use lamplighter_events::{AttentionKind, EventBody, LifecycleEvent};
use lamplighter_lifecycle::{
    Agent, CheckReading, CommandRecord, Effect, InstanceRef, InstanceSpec, Kind, ObservePlan,
    Phase, Place, PowerState, Question, Resource, TargetRecord, UnitName, UnitProbe,
};
use lamplighter_local::{Endpoint, Fault, MachineSeed, Options, SecretSeed, Timings};
use lamplighter_runtime::ports::{
    Applied, Commit, Committed, Disposition, Outgoing, Ports, PutCommand,
};

const KEEPER: &str = "i-0aaaaaaaaaaaaaaa1";
const OTHER: &str = "i-0aaaaaaaaaaaaaaa2";
const NOBODY: &str = "i-0bbbbbbbbbbbbbbb9";

fn options() -> Options {
    let timings =
        r#"{"boot":"200ms","stop":"200ms","agent":"100ms","command":"50ms","invocation":"0s"}"#;
    let machine = |id: &str| {
        let json = format!(r#"{{"id":"{id}","name":"keeper","units":{{"keeper":{{}}}}}}"#);
        serde_json::from_str::<MachineSeed>(&json).unwrap()
    };
    let secret = |id: &str, value: &str| SecretSeed { id: id.to_owned(), value: value.to_owned() };
    Options {
        timings: serde_json::from_str::<Timings>(timings).unwrap(),
        machines: vec![machine(KEEPER), machine(OTHER)],
        secrets: vec![
            secret("pk/prod", &format!(r#"{{"PK_INSTANCE":"{KEEPER}"}}"#)),
            secret("pk/broken", "hunter2"),
        ],
        seed: Some(1),
        ..Options::default()
    }
}

/// How many calls of each operation there were.
async fn counts(bench: &Bench) -> BTreeMap<String, u64> {
    let url = format!("{}/_lamplighter/counts", bench.endpoint.url());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

struct Bench {
    endpoint: Endpoint,
    aws: Aws,
    names: Names,
    ports: Ports,
}

async fn bench_without_setup(options: Options) -> Bench {
    let endpoint = Endpoint::start(options).await.unwrap();
    let (aws, ports) = ports(endpoint.url()).await;
    Bench { endpoint, aws, names: names(), ports }
}

fn names() -> Names {
    Names {
        commands: "commands".to_owned(),
        dead_letters: "dead-letters".to_owned(),
        table: "lamplighter".to_owned(),
        bus: "default".to_owned(),
    }
}

async fn ports(endpoint_url: String) -> (Aws, Ports) {
    let aws = connect(&ConnectOptions {
        region: Some("us-east-1".to_owned()),
        endpoint_url: Some(endpoint_url),
        static_credentials: Some(StaticCredentials {
            access_key_id: "worker".to_owned(),
            secret_access_key: "none".to_owned(),
        }),
        ..ConnectOptions::default()
    })
    .await
    .unwrap();
    let ports = aws.ports(&names()).unwrap();
    (aws, ports)
}

async fn bench(options: Options) -> Bench {
    let bench = bench_without_setup(options).await;
    setup::apply(&bench.aws, &bench.names).await.unwrap();
    bench
}

fn id(text: &str) -> InstanceId {
    InstanceId::parse(text).unwrap()
}

fn of(text: &str) -> Resource {
    Resource::parse(text).unwrap()
}

fn record(name: &str, rev: u64) -> TargetRecord {
    let now = Timestamp::from_second(1_795_000_000).unwrap();
    let target = TargetName::parse(name).unwrap();
    let mut record = TargetRecord::first_contact(target, Kind::Instance, of(KEEPER), now);
    record.rev = rev;
    record
}

fn commit(record: TargetRecord, nonce: &str) -> Commit {
    Commit {
        expected_rev: record.rev - 1,
        record,
        nonce: nonce.to_owned(),
        accepted: None,
        outcomes: Vec::new(),
        claims: None,
        seat: None,
    }
}

fn command(name: &str) -> CommandRecord {
    let now = Timestamp::from_second(1_795_000_000).unwrap();
    CommandRecord {
        id: CommandId::parse(name).unwrap(),
        fingerprint: "f".to_owned(),
        target: None,
        action: Some(Action::Start),
        sent_at: now,
        accepted_at: now,
        outcome: None,
        parked_as: None,
    }
}

fn outcome(name: &str, message: &str) -> Outcome {
    Outcome {
        command: CommandId::parse(name).unwrap(),
        target: None,
        action: Some(Action::Start),
        outcome: Verdict::Done,
        cause: None,
        message: message.to_owned(),
        answer: serde_json::Map::new(),
        at: Timestamp::from_second(1_795_000_100).unwrap(),
        took_ms: 100,
    }
}

fn fault(json: &str) -> Vec<Fault> {
    vec![serde_json::from_str(json).unwrap()]
}

#[tokio::test]
async fn setup_creates_what_is_missing_and_a_second_run_changes_nothing() {
    let bench = bench_without_setup(options()).await;
    let planned = setup::plan(&bench.aws, &bench.names).await.unwrap();
    assert!(planned.iter().any(|step| step.change == Change::Created), "{planned:#?}");
    let missing = bench.ports.queue.receive(1, Duration::ZERO).await.unwrap_err();
    assert_eq!(missing.disposition, Disposition::Retry);
    assert!(missing.message.contains("lamplighter setup"), "{missing}");
    let missing = bench.ports.store.load(&record("a", 1).target).await.unwrap_err();
    assert_eq!(missing.disposition, Disposition::Retry);
    assert!(missing.message.contains("lamplighter setup"), "{missing}");
    let first = setup::apply(&bench.aws, &bench.names).await.unwrap();
    assert!(first.iter().any(|step| step.change == Change::Created), "{first:#?}");
    let second = setup::apply(&bench.aws, &bench.names).await.unwrap();
    let changed: Vec<_> = second
        .iter()
        .filter(|step| matches!(step.change, Change::Created | Change::Updated))
        .collect();
    assert!(changed.is_empty(), "{changed:#?}");
    assert_eq!(bench.ports.queue.receive(1, Duration::ZERO).await.unwrap(), []);
}

#[tokio::test]
async fn a_commit_is_done_once_and_fenced_after() {
    let bench = bench(options()).await;
    let store = &bench.ports.store;
    let first = commit(record("keeper", 1), "n-1");
    assert_eq!(store.commit(&first).await.unwrap(), Committed::Done);
    // The answer was lost: our own write is told by its nonce.
    assert_eq!(store.commit(&first).await.unwrap(), Committed::Done);
    let rival = commit(record("keeper", 1), "n-2");
    assert_eq!(store.commit(&rival).await.unwrap(), Committed::Fenced);
    let next = commit(record("keeper", 2), "n-3");
    assert_eq!(store.commit(&next).await.unwrap(), Committed::Done);
    let found = store.load(&next.record.target).await.unwrap().unwrap();
    assert_eq!(found, next.record);
}

#[tokio::test]
async fn a_transaction_takes_record_command_and_machine_together_or_not_at_all() {
    let bench = bench(options()).await;
    let store = &bench.ports.store;
    let mut first = commit(record("keeper", 1), "n-1");
    first.accepted = Some(command("c-1"));
    first.claims = Some(of(KEEPER));
    assert_eq!(store.commit(&first).await.unwrap(), Committed::Done);
    assert_eq!(store.commit(&first).await.unwrap(), Committed::Done);
    assert_eq!(store.owner(&of(KEEPER)).await.unwrap(), Some(first.record.target.clone()));

    let mut again = commit(record("keeper", 2), "n-2");
    again.accepted = Some(command("c-1"));
    let Committed::CommandExists(known) = store.commit(&again).await.unwrap() else {
        panic!("the command is not new")
    };
    assert_eq!(known.id, CommandId::parse("c-1").unwrap());
    assert_eq!(store.load(&again.record.target).await.unwrap().unwrap().rev, 1);

    let mut thief = commit(record("thief", 1), "n-3");
    thief.claims = Some(of(KEEPER));
    assert_eq!(
        store.commit(&thief).await.unwrap(),
        Committed::ResourceTaken(first.record.target.clone())
    );
    assert_eq!(store.load(&thief.record.target).await.unwrap(), None);

    let mut fenced = commit(record("keeper", 1), "n-4");
    fenced.accepted = Some(command("c-2"));
    assert_eq!(store.commit(&fenced).await.unwrap(), Committed::Fenced);
    assert_eq!(store.load_command(&CommandId::parse("c-2").unwrap()).await.unwrap(), None);
}

#[tokio::test]
async fn an_outcome_never_changes() {
    let bench = bench(options()).await;
    let store = &bench.ports.store;
    let mut first = commit(record("keeper", 1), "n-1");
    first.accepted = Some(command("c-1"));
    assert_eq!(store.commit(&first).await.unwrap(), Committed::Done);
    for (rev, words) in [(2, "first"), (3, "second")] {
        let mut done = commit(record("keeper", rev), &format!("n-{rev}"));
        done.outcomes = vec![outcome("c-1", words)];
        assert_eq!(store.commit(&done).await.unwrap(), Committed::Done);
    }
    let found = store.load_command(&CommandId::parse("c-1").unwrap()).await.unwrap().unwrap();
    assert_eq!(found.outcome, Some(outcome("c-1", "first")));
    // Accepted and ended in one commit: one item, one part of the transaction.
    let mut both = commit(record("keeper", 4), "n-4");
    both.accepted = Some(command("c-2"));
    both.outcomes = vec![outcome("c-2", "at once")];
    assert_eq!(store.commit(&both).await.unwrap(), Committed::Done);
    let found = store.load_command(&CommandId::parse("c-2").unwrap()).await.unwrap().unwrap();
    assert_eq!(found.outcome, Some(outcome("c-2", "at once")));
}

#[tokio::test]
async fn a_command_without_a_target_is_put_once() {
    let bench = bench(options()).await;
    let store = &bench.ports.store;
    let mut first = command("c-1");
    first.outcome = Some(outcome("c-1", "rejected"));
    assert_eq!(store.put_command(&first).await.unwrap(), PutCommand::Done);
    assert_eq!(store.put_command(&first).await.unwrap(), PutCommand::Done);
    let mut other = command("c-1");
    other.fingerprint = "g".to_owned();
    assert_eq!(store.put_command(&other).await.unwrap(), PutCommand::Exists(Box::new(first)));
}

#[tokio::test]
async fn the_indexes_hold_what_is_due_and_what_is_up() {
    let bench = bench(options()).await;
    let store = &bench.ports.store;
    let now = Timestamp::from_second(1_795_000_500).unwrap();
    for n in 0..30 {
        let mut due = record(&format!("t{n}"), 1);
        due.wake_at = Some(now + SignedDuration::from_secs(if n % 2 == 0 { 0 } else { 60 }));
        if n % 3 == 0 {
            due.phase = Phase::On;
        }
        assert_eq!(store.commit(&commit(due, "n")).await.unwrap(), Committed::Done);
    }
    let mut due = Vec::new();
    let mut up = Vec::new();
    for shard in 0..lamplighter_runtime::ports::SHARDS {
        due.extend(store.due(shard, now).await.unwrap());
        up.extend(store.up(shard).await.unwrap());
    }
    assert_eq!((due.len(), up.len()), (15, 10));
    assert!(up.iter().all(|line| line.phase == Phase::On && line.resource == of(KEEPER)));
    let mut rest = record("t0", 2);
    rest.wake_at = None;
    assert_eq!(store.commit(&commit(rest, "m")).await.unwrap(), Committed::Done);
    let targets: Vec<TargetName> =
        (0..40).map(|n| TargetName::parse(&format!("t{n}")).unwrap()).collect();
    assert_eq!(store.load_all(&targets).await.unwrap().len(), 30);
}

fn plan(instance: &str) -> ObservePlan {
    ObservePlan { agent: true, ..ObservePlan::bare(of(instance)) }
}

#[tokio::test]
async fn one_bad_id_among_good_ones_harms_no_other() {
    let bench = bench(options()).await;
    let before = Timestamp::now();
    let seen = bench.ports.cloud.observe(&[plan(KEEPER), plan(NOBODY), plan(OTHER)]).await;
    let states: Vec<PowerState> = seen
        .into_iter()
        .map(|seen| seen.unwrap().unwrap())
        .map(|seen| {
            assert!(seen.at >= before);
            seen.state()
        })
        .collect();
    assert_eq!(states, [PowerState::Stopped, PowerState::Missing, PowerState::Stopped]);
    assert!(bench.ports.clock.skew().unwrap().abs() < SignedDuration::from_secs(2));
}

async fn until(
    bench: &Bench,
    plan: &ObservePlan,
    wanted: impl Fn(&lamplighter_lifecycle::Observed) -> bool,
) {
    for _ in 0..100 {
        let seen = bench.ports.cloud.observe(std::slice::from_ref(plan)).await.remove(0);
        if wanted(&seen.unwrap().unwrap()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it never came about: {plan:?}");
}

#[tokio::test]
async fn a_machine_is_started_asked_for_its_unit_and_stopped() {
    let bench = bench(options()).await;
    let cloud = &bench.ports.cloud;
    let soon = || Timestamp::now() + SignedDuration::from_secs(15);
    let up = Effect::StartInstance { instance: id(KEEPER) };
    assert_eq!(cloud.execute(&up, soon()).await.unwrap(), None);
    let late =
        cloud.execute(&up, Timestamp::now() - SignedDuration::from_secs(1)).await.unwrap_err();
    assert_eq!((late.applied, late.cause), (Applied::No, Cause::Deadline));
    until(&bench, &plan(KEEPER), |seen| seen.agent == Some(Agent::Online)).await;

    let token = "0123456789abcdef".to_owned();
    let probe = UnitProbe {
        unit: UnitName::parse("keeper").unwrap(),
        settle_seconds: 1,
        activating_seconds: 5,
    };
    let question = Question::Unit(probe);
    let ask = Effect::SendCommand { instance: id(KEEPER), token: token.clone(), question };
    let absent = ObservePlan { check: Some((None, token.clone())), ..plan(KEEPER) };
    until(&bench, &absent, |seen| seen.check == Some(CheckReading::Absent)).await;
    let command_id = cloud.execute(&ask, soon()).await.unwrap();
    assert!(command_id.is_some());
    let active = CheckReading::Said { state: "active".to_owned() };
    let by_id = ObservePlan { check: Some((command_id, token.clone())), ..plan(KEEPER) };
    until(&bench, &by_id, |seen| seen.check.as_ref() == Some(&active)).await;
    let by_token = ObservePlan { check: Some((None, token)), ..plan(KEEPER) };
    until(&bench, &by_token, |seen| seen.check.as_ref() == Some(&active)).await;

    bench.endpoint.world(|world, _| {
        let behaviour = &mut world.machines.get_mut(KEEPER).unwrap().behaviour;
        (behaviour.host_exit, behaviour.host_output) = (Some(7), Some("busy".to_owned()));
    });
    let token = "fedcba9876543210".to_owned();
    let question = Question::Idle { script: "who | wc -l".to_owned(), timeout_seconds: 10 };
    let ask = Effect::SendCommand { instance: id(KEEPER), token: token.clone(), question };
    let command_id = cloud.execute(&ask, soon()).await.unwrap();
    let exited = CheckReading::Exited { code: 7, output: "busy".to_owned() };
    let by_id = ObservePlan { check: Some((command_id, token)), ..plan(KEEPER) };
    until(&bench, &by_id, |seen| seen.check.as_ref() == Some(&exited)).await;

    let down = Effect::StopInstance { instance: id(KEEPER) };
    cloud.execute(&down, soon()).await.unwrap();
    until(&bench, &plan(KEEPER), |seen| {
        seen.state() == PowerState::Stopped && seen.instance().unwrap().user_stopped_at.is_some()
    })
    .await;
    let gone = Effect::StartInstance { instance: id(NOBODY) };
    let refused = cloud.execute(&gone, soon()).await.unwrap_err();
    assert_eq!((refused.cause, refused.disposition), (Cause::NotFound, Disposition::Fail));
}

#[tokio::test]
async fn starts_that_come_together_share_a_call_and_a_bad_one_is_taken_out() {
    let bench = bench(options()).await;
    let cloud = &bench.ports.cloud;
    let soon = Timestamp::now() + SignedDuration::from_secs(15);
    let start = |instance: &str| Effect::StartInstance { instance: id(instance) };
    let (a, b, c) = (start(KEEPER), start(NOBODY), start(OTHER));
    let (a, b, c) =
        tokio::join!(cloud.execute(&a, soon), cloud.execute(&b, soon), cloud.execute(&c, soon));
    assert!(a.is_ok() && c.is_ok(), "{a:?} {c:?}");
    assert_eq!(b.unwrap_err().cause, Cause::NotFound);
}

#[tokio::test]
async fn no_capacity_is_answered_at_once_and_not_retried() {
    let faults = fault(
        r#"{"service":"ec2","operation":"StartInstances","kind":"before",
            "code":"InsufficientInstanceCapacity","message":"none left","status":500}"#,
    );
    let bench = bench(Options { faults, ..options() }).await;
    let soon = Timestamp::now() + SignedDuration::from_secs(15);
    let up = Effect::StartInstance { instance: id(KEEPER) };
    let refused = bench.ports.cloud.execute(&up, soon).await.unwrap_err();
    assert_eq!((refused.cause, refused.applied), (Cause::Capacity, Applied::No));
    assert!(matches!(refused.disposition, Disposition::RetryAfter(_)));
}

#[tokio::test]
async fn secrets_name_machines_or_say_what_is_wrong() {
    let bench = bench(options()).await;
    let ask = |secret: &str, key: &str| {
        let instance = InstanceRef::Secret { secret: secret.to_owned(), key: key.to_owned() };
        Place::Instance(InstanceSpec { instance, systemd_unit: None, unit_check_every: None })
    };
    let cloud = &bench.ports.cloud;
    assert_eq!(cloud.resolve(&ask("pk/prod", "PK_INSTANCE")).await.unwrap(), of(KEEPER));
    for (secret, key, cause) in [
        ("pk/prod", "OTHER", Cause::NotFound),
        ("pk/broken", "PK_INSTANCE", Cause::Invalid),
        ("pk/none", "PK_INSTANCE", Cause::NotFound),
    ] {
        let error = cloud.resolve(&ask(secret, key)).await.unwrap_err();
        assert_eq!((error.cause, error.disposition), (cause, Disposition::Fail), "{error}");
        assert!(error.message.contains(secret) && !error.message.contains("hunter2"), "{error}");
    }
}

fn outgoing(body: &str, attributes: &[(&str, &str)]) -> Outgoing {
    Outgoing {
        body: body.to_owned(),
        attributes: attributes.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        delay_seconds: 0,
    }
}

#[tokio::test]
async fn messages_are_sent_received_delayed_and_deleted() {
    let bench = bench(options()).await;
    let queue = &bench.ports.queue;
    for n in 0..12 {
        queue.send(&outgoing(&format!("{n}"), &[("action", "start"), ("none", "")])).await.unwrap();
    }
    let mut bodies = BTreeMap::new();
    while bodies.len() < 12 {
        for message in queue.receive(10, Duration::from_secs(1)).await.unwrap() {
            assert_eq!(message.attributes.get("action").map(String::as_str), Some("start"));
            assert_eq!(message.attributes.len(), 1);
            bodies.insert(message.body.clone(), message);
        }
    }
    let back = bodies.remove("3").unwrap();
    queue.delay(&back.receipt, 0).await.unwrap();
    let deletes: Vec<_> = bodies.values().map(|message| queue.delete(&message.receipt)).collect();
    for delete in deletes {
        delete.await.unwrap();
    }
    let again = queue.receive(10, Duration::from_secs(2)).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].body.as_str(), again[0].receives), ("3", 2));
    queue.delete(&again[0].receipt).await.unwrap();
    queue.delete(&again[0].receipt).await.unwrap();
    queue.delay(&again[0].receipt, 5).await.unwrap();
}

#[tokio::test]
async fn dead_letters_are_listed_shown_and_replayed() {
    let bench = bench(options()).await;
    let (aws, names) = (&bench.aws, &bench.names);
    // As the previous release parked them, too: without any mark but SQS's first id.
    let sent = (Timestamp::now() - SignedDuration::from_hours(30)).to_string();
    for n in 0..13 {
        let reason = if n < 3 { "unknown action" } else { "not JSON" };
        let id = format!("c-{n}");
        let letter = outgoing(
            "{}",
            &[
                ("id", &id),
                ("reason", reason),
                ("lamplighter-sent-at", &sent),
                ("lamplighter-message-id", "5fea7756-0ea4-451a-a703-a558b933e274"),
            ],
        );
        bench.ports.queue.park(&letter).await.unwrap();
    }
    let all = dead_letters::list(aws, names, 100).await.unwrap();
    assert_eq!(all.len(), 13);
    let one = dead_letters::show(aws, names, "c-7").await.unwrap().unwrap();
    assert_eq!(one.reason.as_deref(), Some("not JSON"));
    assert_eq!(dead_letters::show(aws, names, "c-99").await.unwrap(), None);

    let which = Which::Reason("unknown action".to_owned());
    let done = dead_letters::replay(aws, names, &which, 100, |_| {}).await.unwrap();
    assert_eq!((done.replayed, done.kept), (3, 10));
    let done =
        dead_letters::replay(aws, names, &Which::Id("c-7".to_owned()), 100, |_| {}).await.unwrap();
    assert_eq!(done.replayed, 1);
    let done = dead_letters::replay(aws, names, &Which::All, 1000, |_| {}).await.unwrap();
    assert_eq!(done.replayed, 9);
    assert_eq!(dead_letters::list(aws, names, 100).await.unwrap(), []);
    let message = bench.ports.queue.receive(1, Duration::from_secs(1)).await.unwrap().remove(0);
    assert_eq!(message.sent_at.to_string(), sent);
    assert_eq!(message.attributes["lamplighter-message-id"].len(), 36);
    assert!(!message.attributes.contains_key("reason"));
    assert!(message.attributes["id"].starts_with("c-"));
}

#[tokio::test]
async fn events_are_acknowledged_one_by_one() {
    let bench = bench(options()).await;
    let events: Vec<LifecycleEvent> = (0..13)
        .map(|n| LifecycleEvent {
            id: format!("keeper:1:{n}"),
            at: Timestamp::now(),
            target: None,
            body: EventBody::Attention {
                attention: AttentionKind::UnitDied,
                message: "it died".to_owned(),
                instance: None,
            },
        })
        .collect();
    let sent = bench.ports.bus.emit(&events).await.unwrap();
    assert_eq!(sent.len(), 13);
}

#[tokio::test]
async fn a_missing_endpoint_changed_nothing_and_is_tried_again() {
    let bench = bench(options()).await;
    let Bench { endpoint, ports, .. } = bench;
    endpoint.shutdown().await;
    let error = ports.store.commit(&commit(record("a", 1), "n")).await.unwrap_err();
    assert_eq!((error.disposition, error.applied), (Disposition::Retry, Applied::No), "{error}");
}

#[tokio::test]
async fn a_check_changes_nothing_and_says_what_is_wrong() {
    let bench = bench(options()).await;
    let common = check::check_common(&bench.aws, &bench.names).await;
    assert!(common.iter().all(|finding| finding.level == check::Level::Ok), "{common:#?}");
    let seen = bench.ports.cloud.observe(&[plan(KEEPER)]).await.remove(0).unwrap().unwrap();
    assert_eq!(seen.state(), PowerState::Stopped);
}

#[tokio::test]
async fn a_check_names_the_oldest_event_that_waits_and_a_bus_that_is_not_there() {
    let bench = bench(options()).await;
    let errors = async |names: &Names| -> Vec<String> {
        let findings = check::check_common(&bench.aws, names).await;
        let errors = findings.into_iter().filter(|it| it.level == check::Level::Error);
        errors.map(|it| it.what).collect()
    };
    let waits_since = |minutes: i64, name: &str| {
        let mut record = record(name, 1);
        let at = Timestamp::now() - SignedDuration::from_mins(minutes);
        let body = EventBody::Attention {
            attention: AttentionKind::UnitDied,
            message: "it died".to_owned(),
            instance: None,
        };
        let (id, target) = (format!("{name}:1:0"), Some(record.target.clone()));
        record.outbox.push(LifecycleEvent { id, at, target, body });
        record.wake_at = Some(at);
        record
    };
    // What was decided a moment ago may just be on its way.
    let store = &bench.ports.store;
    store.commit(&commit(waits_since(1, "new"), "n-1")).await.unwrap();
    assert_eq!(errors(&bench.names).await, Vec::<String>::new());
    store.commit(&commit(waits_since(20, "old"), "n-2")).await.unwrap();
    let found = errors(&bench.names).await;
    assert!(found.len() == 1 && found[0].contains("1 events of old wait"), "{found:?}");
    let elsewhere = Names { bus: "nowhere".to_owned(), ..bench.names.clone() };
    let found = errors(&elsewhere).await;
    assert!(found.iter().any(|it| it.contains("event bus nowhere")), "{found:?}");
}

#[tokio::test]
async fn the_endpoint_delivers_signals_twice_where_it_is_told_to() {
    let bench = bench(options()).await;
    let url = format!("{}/_lamplighter/deliveries", bench.endpoint.url());
    let told = reqwest::Client::new().put(url).body(r#"{"duplicate_per_mille":1000}"#).send();
    assert!(told.await.unwrap().status().is_success());
    let up = Effect::StartInstance { instance: id(KEEPER) };
    bench.ports.cloud.execute(&up, Timestamp::now() + SignedDuration::from_secs(15)).await.unwrap();
    let mut running = 0;
    for _ in 0..20 {
        for message in bench.ports.queue.receive(10, Duration::from_secs(1)).await.unwrap() {
            running += usize::from(message.body.contains(r#""state":"running""#));
        }
        if running >= 2 {
            break;
        }
    }
    assert_eq!(running, 2);
}

#[tokio::test]
async fn an_answer_that_was_lost_on_the_way_is_told_by_the_nonce() {
    let lost = |operation: &str| {
        fault(&format!(
            r#"{{"service":"dynamodb","operation":"{operation}","kind":"after","count":1}}"#
        ))
    };
    let alone = bench(Options { faults: lost("PutItem"), ..options() }).await;
    let first = commit(record("keeper", 1), "n-1");
    assert_eq!(alone.ports.store.commit(&first).await.unwrap(), Committed::Done);
    let together = bench(Options { faults: lost("TransactWriteItems"), ..options() }).await;
    let mut first = commit(record("keeper", 1), "n-1");
    first.accepted = Some(command("c-1"));
    assert_eq!(together.ports.store.commit(&first).await.unwrap(), Committed::Done);
}
