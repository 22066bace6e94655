//! Rows: what an idle policy may say, and how a wrong one is refused.

#![allow(clippy::needless_pass_by_value)] // `expect![…]` reads best by value.

use expect_test::{Expect, expect};
use lamplighter_lifecycle::{HttpReads, IdleSpec, MetricReads, Missing, Probe, Statistic};

use super::{Config, ConfigError, parse};

const SERVICE: &str = "kind = \"ecs-service\"\ncluster = \"prod\"\nservice = \"server\"";
const MACHINE: &str = "kind = \"ec2-instance\"\ninstance_id = \"i-01234567\"\nsettle = \"1s\"";

/// A policy's lines, of which the first is line 6 of the file.
fn with(place: &str, lines: &str) -> Result<Config, ConfigError> {
    parse("f.toml", &format!("[targets.a]\n{place}\n[targets.a.idle]\n{lines}\n"))
}

#[track_caller]
fn policy(place: &str, lines: &str) -> IdleSpec {
    with(place, lines).unwrap().fleet.targets["a"].idle.clone().unwrap()
}

#[track_caller]
fn check(place: &str, lines: &str, expected: Expect) {
    match with(place, lines) {
        Err(error) => expected.assert_eq(&error.to_string()),
        Ok(_) => panic!("it was taken: {lines}"),
    }
}

#[test]
fn http_probes_are_taken_with_their_defaults() {
    let idle = policy(
        MACHINE,
        "after = \"15m\"\ngrace = \"5m\"\nunreachable_after = \"1h\"\nwhen_unreachable = \"stop\"\n\
         http = [{ url = \"http://{private_ip}/a\", pointer = \"/t\" },\n\
         { url = \"http://x/jobs\", pointer = \"\", reads = \"count\" },\n\
         { url = \"http://x/idle\", pointer = \"/a~1b/0\", reads = \"idle-seconds\", ignore_own = false }]",
    );
    assert_eq!(idle.grace.map(|grace| grace.seconds()), Some(300));
    assert_eq!(idle.unreachable_after.map(|limit| limit.seconds()), Some(3600));
    assert!(idle.stop_unreachable);
    let told: Vec<(HttpReads, bool)> = idle
        .probes
        .iter()
        .map(|probe| match probe {
            Probe::Http(http) => (http.reads, http.ignore_own),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected =
        [(HttpReads::Epoch, true), (HttpReads::Count, false), (HttpReads::IdleSeconds, false)];
    assert_eq!(told, expected);
}

#[test]
fn metrics_are_taken_with_their_defaults() {
    let idle = policy(
        SERVICE,
        "after = \"2s\"\n\
         metrics = [{ namespace = \"F\", name = \"C\", dimensions = { Service = \"{cluster}/{service}\" }, \
         idle_when = \"== 0\" },\n\
         { namespace = \"F\", name = \"T\", dimensions = { S = \"x\" }, reads = \"epoch\", period = \"5m\", \
         look_back = \"10m\" }]\ncpu = \"< 5\"",
    );
    let [Probe::Metric(count), Probe::Metric(time), Probe::Metric(cpu)] = idle.probes.as_slice()
    else {
        panic!("{idle:?}")
    };
    assert_eq!((count.statistic, count.period_seconds), (Statistic::Average, 60));
    assert_eq!(count.look_back.map(|back| back.seconds()), Some(60), "a whole period");
    assert_eq!((time.statistic, time.period_seconds), (Statistic::Maximum, 300));
    assert_eq!(time.reads, MetricReads::Epoch);
    assert_eq!(cpu.namespace, "AWS/ECS");
    assert_eq!(cpu.dimensions["ServiceName"], "{service}");

    let idle = policy(MACHINE, "after = \"1h\"\ncpu = { idle_when = \"< 5\", period = \"10m\" }");
    let [Probe::Metric(cpu)] = idle.probes.as_slice() else { panic!("{idle:?}") };
    assert_eq!((cpu.namespace.as_str(), cpu.period_seconds), ("AWS/EC2", 600));
    assert_eq!(cpu.dimensions["InstanceId"], "{instance_id}");
    assert_eq!(cpu.look_back, None, "the policy's own");
    assert_eq!((cpu.lag.seconds(), cpu.missing), (180, Missing::Unknown));
}

#[test]
fn how_late_a_metric_is_and_what_a_missing_point_means_can_be_said() {
    let metric = |more: &str| {
        format!(
            "after = \"15m\"\nmetrics = [{{ namespace = \"F\", name = \"C\", dimensions = {{ S = \"x\" }}, \
             idle_when = \"== 0\", {more} }}]"
        )
    };
    let idle = policy(SERVICE, &metric("lag = \"10m\", missing = \"idle\""));
    let [Probe::Metric(count)] = idle.probes.as_slice() else { panic!("{idle:?}") };
    assert_eq!((count.lag.seconds(), count.missing), (600, Missing::Idle));
    let idle = policy(MACHINE, "after = \"1h\"\ncpu = { idle_when = \"< 5\", lag = \"5m\" }");
    let [Probe::Metric(cpu)] = idle.probes.as_slice() else { panic!("{idle:?}") };
    assert_eq!(cpu.lag.seconds(), 300);
    check(
        SERVICE,
        &metric("lag = \"2h\""),
        expect![[
            r#"f.toml:7:95: targets.a.idle.metrics[0].lag: "2h" is not valid; expected up to 1h"#
        ]],
    );
    check(
        SERVICE,
        &metric("period = \"1s\", look_back = \"1m\", lag = \"5m\""),
        expect![[
            r#"f.toml:7:128: targets.a.idle.metrics[0].lag: "5m" is not valid; expected up to 200s"#
        ]],
    );
    check(
        SERVICE,
        &metric("missing = \"zero\""),
        expect![[
            r#"f.toml:7:99: targets.a.idle.metrics[0].missing: "zero" is not valid; expected "unknown" or "idle""#
        ]],
    );
}

#[test]
fn a_command_is_taken_of_a_machine_alone() {
    let idle = policy(
        MACHINE,
        "after = \"15m\"\ncommand = { script = \"pgrep x && exit 1; exit 0\", reads = \"exit-code\" }",
    );
    assert_eq!(idle.host_command().unwrap().timeout_seconds, 30);
    check(
        SERVICE,
        "after = \"15m\"\ncommand = { script = \"true\", reads = \"exit-code\" }",
        expect![
            "f.toml:7:1: targets.a.idle.command: a command runs on a machine by SSM, and the tasks of an ECS service have none of their own; expected http, metrics or cpu"
        ],
    );
    let command = |fields: &str| format!("after = \"15m\"\ncommand = {{ {fields} }}");
    check(
        MACHINE,
        &command("reads = \"exit-code\""),
        expect![[
            r#"f.toml:7:1: targets.a.idle.command: script is missing; expected a shell script, such as "pgrep renderer >/dev/null && exit 1; exit 0""#
        ]],
    );
    check(
        MACHINE,
        &command("script = \" \", reads = \"exit-code\""),
        expect![[
            r#"f.toml:7:22: targets.a.idle.command.script: is empty or holds a zero byte; expected a shell script, such as "pgrep renderer >/dev/null && exit 1; exit 0""#
        ]],
    );
    check(
        MACHINE,
        &command("script = \"who\""),
        expect![[
            r#"f.toml:7:1: targets.a.idle.command: it must say in one way what the command means; expected reads = "exit-code" (0 is idle, 1 is active), or idle_when = "== 0" on the number that it prints"#
        ]],
    );
    check(
        MACHINE,
        &command("script = \"who\", reads = \"exit-code\", idle_when = \"== 0\""),
        expect![[
            r#"f.toml:7:1: targets.a.idle.command: it must say in one way what the command means; expected reads = "exit-code" (0 is idle, 1 is active), or idle_when = "== 0" on the number that it prints"#
        ]],
    );
    check(
        MACHINE,
        &command("script = \"who\", idle_when = \"zero\""),
        expect![[
            r#"f.toml:7:41: targets.a.idle.command.idle_when: "zero" is not valid; expected a comparison with a number, such as "== 0" or "< 5""#
        ]],
    );
    check(
        MACHINE,
        &command("script = \"who\", idle_when = \"== 0\", timeout = \"1h\""),
        expect![[
            r#"f.toml:7:59: targets.a.idle.command.timeout: "1h" is not valid; expected whole seconds, up to 5m"#
        ]],
    );
}

#[test]
fn a_policy_that_asks_nobody_must_say_so() {
    check(
        MACHINE,
        "after = \"15m\"",
        expect![
            "f.toml:5:12: targets.a.idle: it asks nobody whether the target is idle; expected http, metrics, cpu or command, or keep_alive = true: then it is idle when nobody has sent keep-alive for `after`"
        ],
    );
    check(
        MACHINE,
        "after = \"15m\"\nkeep_alive = false",
        expect![
            "f.toml:5:12: targets.a.idle: it asks nobody whether the target is idle; expected http, metrics, cpu or command, or keep_alive = true: then it is idle when nobody has sent keep-alive for `after`"
        ],
    );
    check(
        MACHINE,
        "keep_alive = true",
        expect![[r#"f.toml:5:12: targets.a.idle: after is missing; expected after = "15m""#]],
    );
    assert!(policy(SERVICE, "after = \"15m\"\nkeep_alive = true").probes.is_empty());
    check(
        MACHINE,
        "after = \"15m\"\nkeep_alive = 1\ncpu = \"< 5\"",
        expect![
            "f.toml:7:14: targets.a.idle.keep_alive: found the number 1; expected true or false"
        ],
    );
}

#[test]
fn what_could_have_no_effect_is_refused() {
    check(
        MACHINE,
        "after = \"15m\"\ncpu = \"< 5\"\nunreachable_after = \"1h\"",
        expect![
            "f.toml:8:1: targets.a.idle.unreachable_after: nothing is asked that could be unreachable; expected an http or a command probe beside it"
        ],
    );
    check(
        MACHINE,
        "after = \"15m\"\nhttp = { url = \"http://x\", pointer = \"\" }\nwhen_unreachable = \"stop\"",
        expect![[
            r#"f.toml:8:1: targets.a.idle.when_unreachable: it says what follows unreachable_after, which is missing; expected unreachable_after = "1h" beside it"#
        ]],
    );
    check(
        MACHINE,
        "after = \"15m\"\nhttp = { url = \"http://x\", pointer = \"\" }\nunreachable_after = \"1h\"\n\
         when_unreachable = \"panic\"",
        expect![[
            r#"f.toml:9:20: targets.a.idle.when_unreachable: "panic" is not valid; expected "keep" or "stop""#
        ]],
    );
}

#[test]
fn http_probes_are_checked() {
    let http = |fields: &str| format!("after = \"15m\"\nhttp = {fields}");
    check(
        MACHINE,
        &http("\"http://x\""),
        expect![[
            r#"f.toml:7:8: targets.a.idle.http: found the string "http://x"; expected a table { url = "…", pointer = "…" }, or a list of them"#
        ]],
    );
    check(
        MACHINE,
        &http("{ url = \"http://x\" }"),
        expect![[
            r#"f.toml:7:1: targets.a.idle.http: pointer is missing; expected pointer = "/last_activity""#
        ]],
    );
    check(
        MACHINE,
        &http("{ pointer = \"/a\" }"),
        expect![[r#"f.toml:7:1: targets.a.idle.http: url is missing; expected url = "http://…""#]],
    );
    check(
        MACHINE,
        &http("{ url = \"x\", pointer = \"/a\" }"),
        expect![[
            r#"f.toml:7:16: targets.a.idle.http.url: "x" is not valid; expected an address with http:// or https://, in which {private_ip}, {public_ip} and ${secret:NAME} are the only placeholders"#
        ]],
    );
    check(
        MACHINE,
        &http("{ url = \"http://x\", pointer = \"a\" }"),
        expect![[
            r#"f.toml:7:38: targets.a.idle.http.pointer: "a" is not valid; expected a JSON pointer such as "/last_activity", or "" for the whole answer"#
        ]],
    );
    check(
        MACHINE,
        &http("{ url = \"http://x\", pointer = \"/a~2\" }"),
        expect![[
            r#"f.toml:7:38: targets.a.idle.http.pointer: "/a~2" is not valid; expected a JSON pointer such as "/last_activity", or "" for the whole answer"#
        ]],
    );
    check(
        SERVICE,
        &http("{ url = \"http://{public_ip}\", pointer = \"\" }"),
        expect![
            "f.toml:7:16: targets.a.idle.http.url: an ECS service has no address of its own to fill in, since each of its tasks has another; expected an address with http:// or https://, that of its load balancer or of its name in DNS"
        ],
    );
    check(
        MACHINE,
        &http("{ url = \"http://x\", pointer = \"\", reads = \"minutes\" }"),
        expect![[
            r#"f.toml:7:50: targets.a.idle.http.reads: "minutes" is not valid; expected "epoch" or "idle-seconds" or "count""#
        ]],
    );
    check(
        MACHINE,
        &http("{ url = \"http://x\", pointer = \"\", reads = \"count\", ignore_own = true }"),
        expect![[
            r#"f.toml:7:72: targets.a.idle.http.ignore_own: a count has no time by which our own request could be told from others'; expected it only beside reads = "epoch" or "idle-seconds""#
        ]],
    );
    check(
        MACHINE,
        &http(
            "[{ url = \"http://x\", pointer = \"/a\" },\n{ url = \"http://x\", pointer = \"/b\" }]",
        ),
        expect![
            "f.toml:8:1: targets.a.idle.http[1]: this address is asked already; expected each address once in a policy"
        ],
    );
    check(
        MACHINE,
        &http("[1]"),
        expect!["f.toml:7:9: targets.a.idle.http[0]: found the number 1; expected a table"],
    );
}

#[test]
fn metrics_are_checked() {
    let metric = |fields: &str| {
        format!("after = \"15m\"\nmetrics = [{{ namespace = \"F\", name = \"C\", {fields} }}]")
    };
    check(
        SERVICE,
        "after = \"15m\"\nmetrics = { namespace = \"F\" }",
        expect![[
            r#"f.toml:7:11: targets.a.idle.metrics: found a table; expected a list of tables { namespace = "…", name = "…", … }"#
        ]],
    );
    check(
        SERVICE,
        "after = \"15m\"\nmetrics = [{ name = \"C\" }]",
        expect![[
            r#"f.toml:7:12: targets.a.idle.metrics[0]: namespace is missing; expected a CloudWatch namespace, such as "Fluidity""#
        ]],
    );
    check(
        SERVICE,
        &metric("statistic = \"Average\""),
        expect![[
            r#"f.toml:7:12: targets.a.idle.metrics[0]: it does not say what the value means; expected idle_when = "== 0", or reads = "epoch" where it is the time of the last activity"#
        ]],
    );
    check(
        SERVICE,
        &metric("idle_when = \"== 0\", reads = \"epoch\""),
        expect![[
            r#"f.toml:7:63: targets.a.idle.metrics[0].reads: idle_when and reads are both said; expected one of them: a condition on the value, or "epoch" where it is the time of the last activity"#
        ]],
    );
    check(
        SERVICE,
        &metric("idle_when = \"is 0\""),
        expect![[
            r#"f.toml:7:55: targets.a.idle.metrics[0].idle_when: "is 0" is not valid; expected a comparison with a number, such as "== 0" or "< 5""#
        ]],
    );
    check(
        SERVICE,
        &metric("idle_when = \"== 0\", statistic = \"p99\""),
        expect![[
            r#"f.toml:7:75: targets.a.idle.metrics[0].statistic: "p99" is not valid; expected "Average" or "Maximum" or "Minimum" or "Sum" or "SampleCount""#
        ]],
    );
    check(
        SERVICE,
        &metric("idle_when = \"== 0\", period = \"90s\""),
        expect![[
            r#"f.toml:7:72: targets.a.idle.metrics[0].period: "90s" is no period of CloudWatch's; expected 1s, 5s, 10s, 30s, or whole minutes up to a day"#
        ]],
    );
    check(
        SERVICE,
        &metric("idle_when = \"== 0\", period = \"5m\", look_back = \"1m\""),
        expect![[
            r#"f.toml:7:90: targets.a.idle.metrics[0].look_back: "1m" is shorter than the period; expected 5m or more"#
        ]],
    );
    check(
        SERVICE,
        &metric("idle_when = \"== 0\", period = \"1s\""),
        expect![
            "f.toml:7:12: targets.a.idle.metrics[0]: it reads back 15m in periods of 1s, which makes 900 of them; expected at most 200: a longer period, or a shorter look_back"
        ],
    );
    check(
        SERVICE,
        &metric("idle_when = \"== 0\", dimensions = { I = \"{instance_id}\" }"),
        expect![[
            r#"f.toml:7:82: targets.a.idle.metrics[0].dimensions.I: "{instance_id}" has an unknown mark; expected only {cluster}, {service} in that of an ECS service"#
        ]],
    );
    check(
        MACHINE,
        &metric("idle_when = \"== 0\", dimensions = { I = \"\" }"),
        expect![[
            r#"f.toml:7:82: targets.a.idle.metrics[0].dimensions.I: "" is not valid; expected a dimension's value, in which the target's own marks are filled in"#
        ]],
    );
    check(
        MACHINE,
        "after = \"15m\"\ncpu = 5",
        expect![[
            r#"f.toml:7:7: targets.a.idle.cpu: found the number 5; expected a condition such as "< 5" (percent), or { idle_when = "< 5", period = "5m" }"#
        ]],
    );
    check(
        MACHINE,
        "after = \"15m\"\ncpu = \"5\"",
        expect![[
            r#"f.toml:7:7: targets.a.idle.cpu: "5" is not valid; expected a comparison with a number, such as "== 0" or "< 5""#
        ]],
    );
    check(
        MACHINE,
        "after = \"2d\"\ncpu = \"< 5\"",
        expect![[
            r#"f.toml:7:7: targets.a.idle.cpu: it reads back 2d in periods of 5m, which are more than 200; expected { idle_when = "…", period = "…" } with a longer period"#
        ]],
    );
    check(
        MACHINE,
        "after = \"15m\"\nhtp = {}",
        expect![[r#"f.toml:7:1: targets.a.idle: unknown key "htp"; did you mean "http"?"#]],
    );
}

#[test]
fn two_targets_are_not_judged_by_one_metric() {
    let metric = |dimensions: &str| {
        let target = |name: &str| {
            format!(
                "[targets.{name}]\nkind = \"ecs-service\"\ncluster = \"prod\"\nservice = \"{name}\"\n\
                 [targets.{name}.idle]\nafter = \"15m\"\nmetrics = [\n\
                 {{ namespace = \"F\", name = \"C\", idle_when = \"== 0\"{dimensions} }}]\n"
            )
        };
        parse("f.toml", &format!("{}{}", target("a"), target("b")))
    };
    let refused = metric("").unwrap_err().to_string();
    expect!["f.toml:16:1: targets.b.idle.metrics[0]: the metric F/C without dimensions is a's too (line 8): each would be judged by the other's traffic; expected dimensions that tell them apart"].assert_eq(&refused);
    assert!(metric(", dimensions = { Service = \"{service}\" }").is_ok());
}
