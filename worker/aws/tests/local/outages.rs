//! One zone's outage, one bad id, one error of AWS's own: each harms what it concerns, and nothing else.

use lamplighter_lifecycle::{
    InstanceRef, InstanceSpec, Observed, Place, Sighting, TargetSpec, Timings as Patience,
};
use lamplighter_runtime::ports::CallError;

use super::*;

const THIRD: &str = "i-0aaaaaaaaaaaaaaa3";

/// `KEEPER` and `OTHER` are in zone a, `THIRD` is in zone b.
async fn zones() -> Bench {
    let json = format!(r#"{{"id":"{THIRD}","zone":"b"}}"#);
    let mut options = options();
    options.machines.push(serde_json::from_str::<MachineSeed>(&json).unwrap());
    bench(options).await
}

async fn put_faults(bench: &Bench, faults: &str) {
    let url = format!("{}/_lamplighter/faults", bench.endpoint.url());
    let answer = reqwest::Client::new().put(url).body(faults.to_owned()).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

async fn look(bench: &Bench, ids: &[&str]) -> Vec<Result<Sighting, CallError>> {
    let plans: Vec<ObservePlan> = ids.iter().map(|id| ObservePlan::bare(of(id))).collect();
    bench.ports.cloud.observe(&plans).await
}

async fn calls_of(bench: &Bench, operation: &str) -> u64 {
    counts(bench).await.get(operation).copied().unwrap_or(0)
}

#[tokio::test]
async fn the_machines_of_the_healthy_zones_are_seen_while_one_is_out() {
    let bench = zones().await;
    let all = [KEEPER, OTHER, THIRD];
    assert!(look(&bench, &all).await.iter().all(|seen| matches!(seen, Ok(Ok(_)))));
    assert_eq!(calls_of(&bench, "ec2:DescribeInstances").await, 1, "a healthy look is one call");
    put_faults(&bench, r#"{"kind":"zone-out","zone":"us-east-1b"}"#).await;
    let seen = look(&bench, &all).await;
    assert!(matches!((&seen[0], &seen[1]), (Ok(Ok(_)), Ok(Ok(_)))), "{seen:?}");
    let unseen = seen[2].as_ref().unwrap_err();
    assert_eq!(unseen.disposition, Disposition::Retry, "{unseen}");
    // The whole three times, and once by zone.
    assert_eq!(calls_of(&bench, "ec2:DescribeInstances").await, 1 + 3 + 2);
    put_faults(&bench, "[]").await;
    assert!(look(&bench, &all).await.iter().all(|seen| matches!(seen, Ok(Ok(_)))));
}

#[tokio::test]
async fn a_start_in_a_healthy_zone_does_not_share_the_fate_of_one_in_an_impaired_zone() {
    let bench = zones().await;
    put_faults(&bench, r#"{"kind":"zone-out","zone":"b"}"#).await;
    let soon = Timestamp::now() + SignedDuration::from_secs(15);
    let start = |instance: &str| Effect::StartInstance { instance: id(instance) };
    let (well, out) = (start(KEEPER), start(THIRD));
    let cloud = &bench.ports.cloud;
    let (well, out) = tokio::join!(cloud.execute(&well, soon), cloud.execute(&out, soon));
    assert_eq!(well, Ok(None));
    let out = out.unwrap_err();
    assert_eq!((out.disposition, out.applied), (Disposition::Retry, Applied::Perhaps), "{out}");
}

async fn agents(bench: &Bench) -> Vec<Option<Agent>> {
    let seen = bench.ports.cloud.observe(&[plan(KEEPER), plan(OTHER)]).await;
    let agent = |seen: Result<Sighting, CallError>| seen.unwrap().unwrap().agent;
    seen.into_iter().map(agent).collect()
}

#[tokio::test]
async fn an_id_that_ssm_does_not_take_hides_no_other_agent() {
    let bench = bench(options()).await;
    let soon = Timestamp::now() + SignedDuration::from_secs(15);
    for instance in [KEEPER, OTHER] {
        let up = Effect::StartInstance { instance: id(instance) };
        bench.ports.cloud.execute(&up, soon).await.unwrap();
        until(&bench, &plan(instance), |seen| seen.agent == Some(Agent::Online)).await;
    }
    // The batch is refused, and then one of its two halves.
    put_faults(
        &bench,
        r#"{"service":"ssm","operation":"DescribeInstanceInformation","kind":"before",
            "code":"InvalidInstanceId","status":400,"count":2}"#,
    )
    .await;
    let found = agents(&bench).await;
    let count = |agent| found.iter().filter(|it| **it == Some(agent)).count();
    assert_eq!((count(Agent::Online), count(Agent::Unregistered)), (1, 1), "{found:?}");
    put_faults(
        &bench,
        r#"{"service":"ssm","operation":"DescribeInstanceInformation","kind":"before",
            "code":"UnknownOperationException","status":400}"#,
    )
    .await;
    // A call that is blocked on its way is no machine without an agent.
    let seen: Vec<Observed> = bench
        .ports
        .cloud
        .observe(&[plan(KEEPER)])
        .await
        .into_iter()
        .filter_map(|seen| seen.ok()?.ok())
        .collect();
    assert_eq!(seen, []);
}

#[tokio::test]
async fn a_protected_machine_says_so_when_it_is_stopped_and_when_it_is_checked() {
    let bench = bench(options()).await;
    let soon = || Timestamp::now() + SignedDuration::from_secs(15);
    let up = Effect::StartInstance { instance: id(KEEPER) };
    bench.ports.cloud.execute(&up, soon()).await.unwrap();
    until(&bench, &plan(KEEPER), |seen| seen.state() == PowerState::Running).await;
    bench.endpoint.world(|world, _| {
        world.machines.get_mut(KEEPER).unwrap().behaviour.disable_api_stop = true;
    });
    let down = Effect::StopInstance { instance: id(KEEPER) };
    let refused = bench.ports.cloud.execute(&down, soon()).await.unwrap_err();
    assert_eq!((refused.cause, refused.disposition), (Cause::Denied, Disposition::Fail));
    for part in ["OperationNotPermitted", "DisableApiStop", "--no-disable-api-stop"] {
        assert!(refused.message.contains(part), "{refused}");
    }
    let spec = InstanceSpec {
        instance: InstanceRef::Id(id(KEEPER)),
        systemd_unit: None,
        unit_check_every: None,
    };
    let findings = check::check_target(&bench.aws, &target(spec)).await;
    let warned = |it: &check::Finding| {
        it.level == check::Level::Warn && it.what.contains("stop protection (DisableApiStop)")
    };
    assert!(findings.iter().any(warned), "{findings:#?}");
    let end = Effect::TerminateInstance { instance: id(KEEPER) };
    let refused = bench.ports.cloud.execute(&end, soon()).await.unwrap_err();
    assert!(refused.message.contains("disableApiStop"), "{refused}");
}

fn target(spec: InstanceSpec) -> TargetSpec {
    let long = |text: &str| lamplighter_events::HumanDuration::parse(text).unwrap();
    TargetSpec {
        name: TargetName::parse("keeper").unwrap(),
        place: Place::Instance(spec),
        health: None,
        timings: Patience {
            start_timeout: long("1m"),
            settle: long("1ms"),
            ready_timeout: long("1m"),
            health_timeout: long("1m"),
            stop_timeout: long("1m"),
            poll: long("1s"),
        },
        log_group: None,
        exclusive: false,
        max_hold: None,
        keep_failed: false,
        idle: None,
        hours: None,
    }
}
