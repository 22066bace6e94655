//! Services, their bounds, metrics and commands on a host, over the real wire; and how many calls they cost.

use jiff::{SignedDuration, Timestamp};
use lamplighter_aws::check::{self, Level};
use lamplighter_cloud::metrics::{Datum, MetricName, StatisticSet};
use lamplighter_events::{Cause, HumanDuration, TargetName};
use lamplighter_lifecycle::{
    Bounds, Condition, Effect, HealthUrl, HttpProbe, HttpReads, IdleOverride, IdleSpec,
    MetricProbe, MetricReads, Missing, ObservePlan, Observed, Place, PowerState, Probe, ProbePlan,
    Reading, Resource, ServiceId, ServiceSpec, Statistic, TargetSpec, Timings as Times,
};
use lamplighter_local::{Options, ServiceSeed, Timings};
use lamplighter_runtime::ports::{Applied, Disposition};

use super::{Bench, bench, counts, fault, options, until};

fn seed(json: &str) -> ServiceSeed {
    serde_json::from_str(json).unwrap()
}

fn with_services(services: Vec<ServiceSeed>) -> Options {
    let timings = r#"{"placement":"50ms","task_start":"100ms","task_stop":"50ms","health":"50ms",
                      "scaling":"1h","metric_lag":"0s","metric_scatter":"0s"}"#;
    let timings = serde_json::from_str::<Timings>(timings).unwrap();
    Options { services, timings, ..options() }
}

fn service(name: &str) -> ServiceId {
    let (cluster, service) = name.split_once('/').unwrap();
    ServiceId::parse(cluster, service).unwrap()
}

fn plan(name: &str) -> ObservePlan {
    ObservePlan::bare(Resource::Service(service(name)))
}

fn soon() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(15)
}

async fn look(bench: &Bench, plan: &ObservePlan) -> Observed {
    bench.ports.cloud.observe(std::slice::from_ref(plan)).await.remove(0).unwrap().unwrap()
}

#[tokio::test]
async fn services_are_observed_ten_a_call_and_their_bounds_fifty() {
    let many = |cluster: &str, count: usize| {
        let text = |n| {
            format!(
                r#"{{"cluster":"{cluster}","name":"s{n}","desired":1,"scaling":{{"min":1,"max":{}}}}}"#,
                n + 1
            )
        };
        (0..count).map(|n| seed(&text(n))).collect::<Vec<_>>()
    };
    let bench = bench(with_services([many("a", 25), many("b", 4)].concat())).await;
    let plans: Vec<ObservePlan> =
        (0..25).map(|n| ObservePlan { bounds: true, ..plan(&format!("a/s{n}")) }).collect();
    let before = Timestamp::now();
    for (n, seen) in bench.ports.cloud.observe(&plans).await.into_iter().enumerate() {
        let seen = seen.unwrap().unwrap();
        assert!(seen.at >= before && seen.state() == PowerState::Running);
        let max = i64::try_from(n).unwrap() + 1;
        assert_eq!(seen.service().unwrap().bounds, Some(Bounds { min: 1, max }));
    }
    let calls = counts(&bench).await;
    assert_eq!(calls["ecs:DescribeServices"], 3);
    assert_eq!(calls["application-autoscaling:DescribeScalableTargets"], 1);
    assert!(!calls.contains_key("ecs:ListTasks"), "{calls:?}");

    let mixed: Vec<ObservePlan> =
        ["b/s0", "a/s3", "none/s", "a/none", "b/s3"].iter().map(|name| plan(name)).collect();
    let states: Vec<PowerState> = bench
        .ports
        .cloud
        .observe(&mixed)
        .await
        .into_iter()
        .map(|seen| seen.unwrap().unwrap().state())
        .collect();
    let (on, gone) = (PowerState::Running, PowerState::Missing);
    assert_eq!(states, [on, on, gone, gone, on]);
    assert_eq!(counts(&bench).await["ecs:DescribeServices"], 6);
}

#[tokio::test]
async fn a_service_is_switched_by_its_count_alone() {
    let json = r#"{"cluster":"c","name":"s","health_check":true}"#;
    let bench = bench(with_services(vec![seed(json)])).await;
    let cloud = &bench.ports.cloud;
    let set = |desired| Effect::UpdateService { service: service("c/s"), desired };
    assert_eq!(look(&bench, &plan("c/s")).await.state(), PowerState::Stopped);
    assert_eq!(cloud.execute(&set(2), soon()).await.unwrap(), None);
    let late = cloud.execute(&set(0), Timestamp::now() - SignedDuration::from_secs(1)).await;
    let late = late.unwrap_err();
    assert_eq!((late.applied, late.cause), (Applied::No, Cause::Deadline));
    let healthy = ObservePlan { task_health: true, ..plan("c/s") };
    until(&bench, &healthy, |seen| {
        let seen = seen.service().unwrap();
        (seen.running, seen.healthy) == (2, Some(2))
    })
    .await;
    cloud.execute(&set(0), soon()).await.unwrap();
    until(&bench, &plan("c/s"), |seen| seen.state() == PowerState::Stopped).await;
    assert_eq!(counts(&bench).await["ecs:UpdateService"], 2);

    for (name, cause) in [("c/none", Cause::NotFound), ("none/s", Cause::NotFound)] {
        let effect = Effect::UpdateService { service: service(name), desired: 1 };
        let refused = cloud.execute(&effect, soon()).await.unwrap_err();
        assert_eq!((refused.cause, refused.disposition), (cause, Disposition::Fail), "{refused}");
    }
}

#[tokio::test]
async fn what_ails_a_service_is_told_in_ecs_s_own_words() {
    let json = |name: &str, behaviour: &str| {
        seed(&format!(
            r#"{{"cluster":"c","name":"{name}","circuit_breaker":true,"behaviour":{behaviour}}}"#
        ))
    };
    let bench = bench(with_services(vec![
        json("exits", r#"{"exits_after":"50ms","exit_code":3}"#),
        json("image", r#"{"no_image":true}"#),
        json("full", r#"{"no_capacity":true}"#),
    ]))
    .await;
    for name in ["exits", "image", "full"] {
        let up = Effect::UpdateService { service: service(&format!("c/{name}")), desired: 1 };
        bench.ports.cloud.execute(&up, soon()).await.unwrap();
    }
    let stopped = |name: &str| ObservePlan { stopped_tasks: true, ..plan(name) };
    let told = |words: &'static [&'static str]| {
        move |seen: &Observed| {
            let seen = seen.service().unwrap();
            seen.stopped.first().is_some_and(|task| {
                assert!(seen.stopped.len() <= 10);
                words.iter().all(|words| task.reason.contains(words)) && task.code.is_some()
            })
        }
    };
    until(&bench, &stopped("c/exits"), told(&["Essential container", "exit code 3"])).await;
    until(&bench, &stopped("c/image"), told(&["CannotPullContainerError"])).await;
    until(&bench, &plan("c/full"), |seen| {
        let seen = seen.service().unwrap();
        seen.unplaced.as_ref().is_some_and(|(_, words)| words.contains("unable to place a task"))
    })
    .await;
    // Nothing is asked of tasks where none is missing, and nothing by a bare look.
    let before = counts(&bench).await.get("ecs:ListTasks").copied();
    look(&bench, &plan("c/exits")).await;
    assert_eq!(counts(&bench).await.get("ecs:ListTasks").copied(), before);
}

#[tokio::test]
async fn bounds_are_registered_and_the_rest_is_left() {
    let json = r#"{"cluster":"c","name":"s","desired":1,"scaling":{"min":1,"max":4}}"#;
    let bench = bench(with_services(vec![seed(json), seed(r#"{"cluster":"c","name":"t"}"#)])).await;
    let set = |bounds| Effect::RegisterScalableTarget { service: service("c/s"), bounds };
    let cloud = &bench.ports.cloud;
    let asked = ObservePlan { bounds: true, ..plan("c/s") };
    for bounds in [Bounds::ZERO, Bounds { min: 1, max: 4 }] {
        cloud.execute(&set(bounds), soon()).await.unwrap();
        assert_eq!(look(&bench, &asked).await.service().unwrap().bounds, Some(bounds));
    }
    let none = ObservePlan { bounds: true, ..plan("c/t") };
    assert_eq!(look(&bench, &none).await.service().unwrap().bounds, None);
    let late = cloud.execute(&set(Bounds::ZERO), Timestamp::now()).await.unwrap_err();
    assert_eq!((late.applied, late.cause), (Applied::No, Cause::Deadline));
}

#[tokio::test]
async fn a_right_that_is_lacking_is_named_and_lost_bounds_are_not_none() {
    let json = r#"{"cluster":"c","name":"s","desired":1,"scaling":{"min":1,"max":4}}"#;
    let asked = ObservePlan { bounds: true, ..plan("c/s") };
    let with = |code: &str, status: u16| {
        fault(&format!(
            r#"{{"service":"application-autoscaling","operation":"DescribeScalableTargets",
                "kind":"before","code":"{code}","message":"no","status":{status}}}"#
        ))
    };
    let sees = async |code: &str, status: u16| {
        let options = with_services(vec![seed(json)]);
        let bench = bench(Options { faults: with(code, status), ..options }).await;
        bench.ports.cloud.observe(std::slice::from_ref(&asked)).await.remove(0)
    };
    let denied = sees("AccessDeniedException", 400).await.unwrap().unwrap_err();
    assert_eq!(denied.cause, Cause::Denied);
    let right = "lacks application-autoscaling:DescribeScalableTargets";
    assert!(denied.message.contains(right), "{denied:?}");
    let absent = sees("UnknownOperationException", 400).await.unwrap().unwrap();
    assert_eq!(absent.service().unwrap().bounds, None);
    let slow = sees("ThrottlingException", 400).await.unwrap_err();
    assert_eq!(slow.disposition, Disposition::Retry);
}

fn metric(name: &str, dimension: (&str, &str), reads: MetricReads) -> Probe {
    Probe::Metric(MetricProbe {
        namespace: "Fluidity".to_owned(),
        name: name.to_owned(),
        dimensions: [(dimension.0.to_owned(), dimension.1.to_owned())].into(),
        statistic: Statistic::Average,
        period_seconds: 60,
        look_back: HumanDuration::from_seconds(600),
        lag: HumanDuration::from_seconds(180).unwrap(),
        missing: Missing::Unknown,
        reads,
    })
}

fn idle_when(condition: &str) -> MetricReads {
    MetricReads::IdleWhen(Condition::parse(condition).unwrap())
}

fn put(bench: &Bench, name: &str, dimension: (&str, &str), value: f64, at: Timestamp) {
    let metric = MetricName {
        namespace: "Fluidity".to_owned(),
        name: name.to_owned(),
        dimensions: [(dimension.0.to_owned(), dimension.1.to_owned())].into(),
    };
    let datum = Datum { metric, time: Some(at), unit: None, set: StatisticSet::of(value, 1.0) };
    bench.endpoint.world(|world, now| world.put_metric_data(now, &[datum]).unwrap());
}

fn values(reading: Option<Reading>) -> Vec<f64> {
    match reading {
        Some(Reading::Series { points }) => points.iter().map(|point| point.value).collect(),
        other => panic!("no series: {other:?}"),
    }
}

#[tokio::test]
async fn the_metrics_of_forty_probes_are_one_call_and_each_gets_its_own() {
    let bench = bench(options()).await;
    let now = Timestamp::now();
    let minute = |ago: i64| now - SignedDuration::from_mins(ago);
    for n in 0..40 {
        let service = format!("s{n}");
        for (ago, more) in [(0, 0.0), (2, 1.0), (5, 2.0), (30, 99.0)] {
            let value = f64::from(n) * 10.0 + more;
            put(&bench, "Connections", ("Service", &service), value, minute(ago));
        }
    }
    let plans: Vec<ProbePlan> = (0..40)
        .map(|n| ProbePlan {
            resource: Resource::Service(service(&format!("c/s{n}"))),
            private_ip: None,
            public_ip: None,
            probes: vec![
                metric("Connections", ("Service", "{service}"), idle_when("== 0")),
                metric("LastActivity", ("Cluster", "{cluster}"), MetricReads::Epoch),
            ],
            http_order: Vec::new(),
            over: IdleOverride::default(),
        })
        .collect();
    let cloud = &bench.ports.cloud;
    let mut asked = tokio::task::JoinSet::new();
    for (n, plan) in plans.into_iter().enumerate() {
        let cloud = std::sync::Arc::clone(cloud);
        asked.spawn(async move { (n, cloud.probe(&plan).await) });
    }
    while let Some(done) = asked.join_next().await {
        let (n, round) = done.unwrap();
        let [connections, activity] = <[_; 2]>::try_from(round.readings).unwrap();
        let first = n as f64 * 10.0;
        assert_eq!(values(connections), [first, first + 1.0, first + 2.0], "{n}");
        assert!(values(activity).is_empty());
        assert!(round.at >= now);
    }
    assert_eq!(counts(&bench).await["cloudwatch:GetMetricData"], 1);
}

#[tokio::test]
async fn a_metric_that_cloudwatch_refuses_harms_no_other() {
    let bench = bench(options()).await;
    put(&bench, "Connections", ("Service", "s"), 3.0, Timestamp::now());
    let mut probes: Vec<Probe> = (0..6)
        .map(|_| metric("Connections", ("Service", "{service}"), idle_when("== 0")))
        .collect();
    let Probe::Metric(odd) = &mut probes[3] else { panic!("it is a metric") };
    odd.period_seconds = 61;
    probes.push(metric("X", ("Id", "{instance_id}"), idle_when("== 0")));
    let plan = ProbePlan {
        resource: Resource::Service(service("c/s")),
        private_ip: None,
        public_ip: None,
        probes,
        http_order: Vec::new(),
        over: IdleOverride::default(),
    };
    let readings = bench.ports.cloud.probe(&plan).await.readings;
    for (at, reading) in readings.into_iter().enumerate() {
        match at {
            3 | 6 => assert!(
                matches!(reading, Some(Reading::Unknown { unreachable: false, .. })),
                "{at}: {reading:?}"
            ),
            _ => assert_eq!(values(reading), [3.0], "{at}"),
        }
    }
}

#[tokio::test]
async fn a_denied_metric_is_unknown_and_says_what_is_lacking() {
    let faults = fault(
        r#"{"service":"cloudwatch","operation":"GetMetricData","kind":"before",
            "code":"AccessDenied","message":"no","status":403}"#,
    );
    let bench = bench(Options { faults, ..options() }).await;
    let plan = ProbePlan {
        resource: Resource::Service(service("c/s")),
        private_ip: None,
        public_ip: None,
        probes: vec![
            metric("X", ("Service", "s"), idle_when("== 0")),
            Probe::Http(HttpProbe {
                url: HealthUrl::parse("http://{private_ip}/a").unwrap(),
                pointer: "/a".to_owned(),
                reads: HttpReads::Epoch,
                ignore_own: true,
            }),
        ],
        http_order: vec![1],
        over: IdleOverride::default(),
    };
    let readings = bench.ports.cloud.probe(&plan).await.readings;
    let words: Vec<&str> = readings
        .iter()
        .map(|reading| match reading {
            Some(Reading::Unknown { detail, unreachable: false }) => detail.as_str(),
            other => panic!("not unknown: {other:?}"),
        })
        .collect();
    assert!(words[0].contains("lacks cloudwatch:GetMetricData"), "{words:?}");
    assert!(words[1].contains("no address"), "{words:?}");
}

fn spec(name: &str, desired: i64) -> TargetSpec {
    let duration = |text: &str| HumanDuration::parse(text).unwrap();
    let probe = metric("Connections", ("Service", "{service}"), idle_when("== 0"));
    TargetSpec {
        name: TargetName::parse("fluidity").unwrap(),
        place: Place::Service(ServiceSpec {
            service: service(name),
            desired,
            healthy: false,
            also: Vec::new(),
        }),
        health: None,
        timings: Times {
            start_timeout: duration("2m"),
            settle: duration("1s"),
            ready_timeout: duration("2m"),
            health_timeout: duration("2m"),
            stop_timeout: duration("2m"),
            poll: duration("1s"),
        },
        log_group: None,
        exclusive: false,
        max_hold: None,
        keep_failed: false,
        idle: Some(IdleSpec { probes: vec![probe], ..IdleSpec::after(duration("10m")) }),
        hours: None,
    }
}

#[tokio::test]
async fn a_check_of_a_service_says_what_is_wrong_and_changes_nothing() {
    let tagged = r#"{"cluster":"c","name":"s","desired":1,"scaling":{"min":1,"max":4},
                     "tags":{"lamplighter:managed":"true"}}"#;
    let bare = r#"{"cluster":"c","name":"t","desired":0}"#;
    let gone = r#"{"cluster":"c","name":"u","status":"INACTIVE"}"#;
    let bench = bench(with_services([tagged, bare, gone].map(seed).to_vec())).await;
    let of = async |name: &str, desired: i64| {
        let findings = check::check_target(&bench.aws, &spec(name, desired)).await;
        let worst = findings.iter().map(|finding| finding.level).max().unwrap();
        let words: Vec<String> = findings.into_iter().map(|finding| finding.what).collect();
        (worst, words.join("\n"))
    };
    let (level, words) = of("c/s", 1).await;
    assert_eq!(level, Level::Warn, "{words}");
    for part in ["is ACTIVE: 1 desired, 1 running", "from 1 to 4", "no data"] {
        assert!(words.contains(part), "{part:?} is not in {words}");
    }
    put(&bench, "Connections", ("Service", "s"), 0.0, Timestamp::now());
    let (level, words) = of("c/s", 1).await;
    assert_eq!(level, Level::Ok, "{words}");
    let (level, words) = of("c/s", 9).await;
    assert!(level == Level::Warn && words.contains("outside the bounds"), "{words}");
    let (level, words) = of("c/t", 1).await;
    assert!(level == Level::Warn && words.contains("lacks the tag"), "{words}");
    assert!(words.contains("it is not on"), "{words}");
    for (name, part) in
        [("c/u", "not ACTIVE"), ("c/none", "does not know none"), ("none/s", "the cluster none")]
    {
        let (level, words) = of(name, 1).await;
        assert!(level == Level::Error && words.contains(part), "{part:?} is not in {words}");
    }
    let changes = ["ecs:UpdateService", "application-autoscaling:RegisterScalableTarget"];
    let calls = counts(&bench).await;
    assert!(changes.iter().all(|call| !calls.contains_key(*call)), "{calls:?}");
}
