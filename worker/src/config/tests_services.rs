//! Rows: ECS services and office hours in the fleet file, and the seeds' environment variables.

#![allow(clippy::needless_pass_by_value)] // `expect![…]` reads best by value.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use lamplighter_lifecycle::{InstanceRef, Probe};

use super::{Config, ConfigError, environment, parse};

/// The design's page, §5, as it stands (but for its schedules, which are rows of their own).
const DESIGN: &str = r#"
[queue]
commands = "lamplighter-commands"        # name or URL
dead_letters = "lamplighter-dead-letters"
[store]
table = "lamplighter"
[events]
bus = "default"
[defaults]
target = "pyelli"                        # for payloads that name none

[targets.position-keeper]
kind = "ec2-instance"
instance_id = "i-01f5d046c86e4f36e"      # or { secret = "arn:…", key = "PK_INSTANCE" }
systemd_unit = "positionkeeper"
exclusive = true
start_timeout = "2m"
settle = "10s"

[targets.pyelli]
kind = "ec2-instance"
instance_id = "i-0abc123def456"
health = "http://{private_ip}:8000/health"
[targets.pyelli.idle]
after = "15m"
http = { url = "http://10.0.1.50:8000/api/last-activity", pointer = "/last_activity" }

[targets.fluidity]
kind = "ecs-service"
cluster = "fluidity-prod"
service = "fluidity-server-prod"
[targets.fluidity.idle]
after = "15m"
metrics = [{ namespace = "Fluidity", name = "ActiveConnections", statistic = "Average", idle_when = "== 0" }]

[schedules.idle-check]
expression = "rate(5 minutes)"
command = { action = "check-idle" }
[schedules.nightly]
expression = "cron(0 23 * * ? *)"
command = { action = "kill", target = "fluidity" }
"#;

fn fleet(text: &str) -> Result<Config, ConfigError> {
    parse("f.toml", text)
}

#[track_caller]
fn check(text: &str, expected: Expect) {
    match fleet(text) {
        Err(error) => expected.assert_eq(&error.to_string()),
        Ok(_) => panic!("it was taken:\n{text}"),
    }
}

/// More lines in a service that is otherwise right; the first is line 5.
fn service(lines: &str) -> String {
    format!(
        "[targets.f]\nkind = \"ecs-service\"\ncluster = \"prod\"\nservice = \"server\"\n{lines}\n"
    )
}

#[track_caller]
fn check_service(lines: &str, expected: Expect) {
    check(&service(lines), expected);
}

#[test]
fn the_design_s_file_is_taken_as_it_stands() {
    let config = fleet(DESIGN).unwrap();
    let fluidity = &config.fleet.targets["fluidity"];
    let its = fluidity.service().unwrap();
    assert_eq!(its.service.to_string(), "fluidity-prod/fluidity-server-prod");
    assert_eq!((its.desired, its.healthy), (1, false));
    assert_eq!(fluidity.timings.start_timeout.seconds(), 300);
    assert_eq!(fluidity.timings.settle.seconds(), 5);
    assert_eq!(config.fleet.targets["pyelli"].idle.as_ref().unwrap().probes.len(), 1);
    let about: Vec<&String> =
        config.warnings.iter().filter(|warning| warning.contains("idle:")).collect();
    expect![[r#"
        [
            "targets.fluidity.idle: the metric Fluidity/ActiveConnections has no dimensions: whoever else publishes under that name keeps fluidity on, or stops it",
        ]
    "#]]
    .assert_debug_eq(&about);
}

#[test]
fn a_service_is_named_by_names_or_arns() {
    let arn = "arn:aws:ecs:eu-central-1:123456789012";
    let text = service("desired = 3\nhealthy = true\nsettle = \"0s\"\nstart_timeout = \"10m\"")
        .replace("\"prod\"", &format!("\"{arn}:cluster/prod\""))
        .replace("\"server\"", &format!("\"{arn}:service/prod/server\""));
    let config = fleet(&text).unwrap();
    let spec = &config.fleet.targets["f"];
    let its = spec.service().unwrap();
    assert_eq!((its.service.to_string().as_str(), its.desired), ("prod/server", 3));
    assert!(its.healthy);
    assert_eq!(spec.timings.start_timeout.seconds(), 600);
    check(
        &service("").replace("\"server\"", "\"arn:aws:ecs:x:1:service/test/server\""),
        expect![[
            r#"f.toml:4:11: targets.f.service: "arn:aws:ecs:x:1:service/test/server" is not a service of that cluster; expected 1 to 255 letters, digits, '-' and '_', or the ARN"#
        ]],
    );
    check(
        &service("").replace("\"prod\"", "\"a b\""),
        expect![[
            r#"f.toml:3:11: targets.f.cluster: "a b" is not a cluster; expected 1 to 255 letters, digits, '-' and '_', or the ARN"#
        ]],
    );
    check(
        "[targets.f]\nkind = \"ecs-service\"\nservice = \"s\"",
        expect![[
            r#"f.toml:1:10: targets.f: cluster is missing; expected cluster = "name or ARN""#
        ]],
    );
    check(
        "[targets.f]\nkind = \"ecs-service\"\ncluster = \"c\"",
        expect![[
            r#"f.toml:1:10: targets.f: service is missing; expected service = "name or ARN""#
        ]],
    );
}

#[test]
fn a_service_s_keys_are_checked() {
    check_service(
        "desired = 0",
        expect![
            "f.toml:5:11: targets.f.desired: 0 is not valid; expected a whole number from 1 to 5000"
        ],
    );
    check_service(
        "desired = \"2\"",
        expect![[
            r#"f.toml:5:11: targets.f.desired: found the string "2"; expected a whole number from 1 to 5000"#
        ]],
    );
    check_service(
        "healthy = 1",
        expect!["f.toml:5:11: targets.f.healthy: found the number 1; expected true or false"],
    );
    check_service(
        "health = \"http://{private_ip}/\"",
        expect![
            "f.toml:5:10: targets.f.health: an ECS service has no address of its own to fill in, since each of its tasks has another; expected an address with http:// or https://, that of its load balancer or of its name in DNS"
        ],
    );
    check_service(
        "desird = 2",
        expect![[r#"f.toml:5:1: targets.f: unknown key "desird"; did you mean "desired"?"#]],
    );
    check_service(
        "settle = \"0m\"",
        expect![[
            r#"f.toml:5:10: targets.f.settle: "0m" is not valid; expected a duration above zero and up to 366 days, such as "2h", "90s", "1h30m" or "500ms""#
        ]],
    );
}

#[test]
fn a_payload_may_name_the_services_that_also_says() {
    let config = fleet(&service("also = [\"prod-*/server\", \"dev/*\"]")).unwrap();
    let named =
        |name: &str| config.fleet.has(&lamplighter_events::TargetName::parse(name).unwrap());
    assert!(named("f.prod-2.server") && named("f.dev.anything") && !named("f.prod-2.other"));
    check_service(
        "also = [\"dev\"]",
        expect![[
            r#"f.toml:5:9: targets.f.also[0]: "dev" is not a pattern of services; expected cluster/service, in which '*' stands for any characters"#
        ]],
    );
}

#[test]
fn keys_of_the_other_kind_are_refused_with_the_reason() {
    check_service(
        "instance_id = \"i-01234567\"",
        expect![
            "f.toml:5:1: targets.f.instance_id: an ECS service has no instance of its own; expected cluster and service"
        ],
    );
    check_service(
        "systemd_unit = \"x\"",
        expect![[
            r#"f.toml:5:1: targets.f.systemd_unit: the tasks of an ECS service have no systemd; expected healthy = true, or health = "http://…""#
        ]],
    );
    check_service(
        "unit_check_every = \"off\"",
        expect![
            "f.toml:5:1: targets.f.unit_check_every: the tasks of an ECS service have no systemd unit; expected it only beside systemd_unit"
        ],
    );
    check_service(
        "ready_timeout = \"1m\"",
        expect![
            "f.toml:5:1: targets.f.ready_timeout: it bounds the wait for an agent and a unit, which an ECS service has not; expected start_timeout or health_timeout"
        ],
    );
    let instance = |line: &str| {
        format!("[targets.a]\nkind = \"ec2-instance\"\ninstance_id = \"i-01234567\"\n{line}")
    };
    check(
        &instance("cluster = \"c\""),
        expect![[
            r#"f.toml:4:1: targets.a.cluster: an EC2 instance is in no cluster; expected instance_id, or kind = "ecs-service""#
        ]],
    );
    check(
        &instance("service = \"s\""),
        expect![[
            r#"f.toml:4:1: targets.a.service: an EC2 instance is no service; expected instance_id, or kind = "ecs-service""#
        ]],
    );
    check(
        &instance("desired = 1"),
        expect![[
            r#"f.toml:4:1: targets.a.desired: an EC2 instance has no desired count; expected it only of kind = "ecs-service""#
        ]],
    );
    check(
        &instance("healthy = true"),
        expect![
            "f.toml:4:1: targets.a.healthy: it asks for the health checks of a service's containers; expected systemd_unit or health for an EC2 instance"
        ],
    );
}

#[test]
fn a_service_belongs_to_one_target() {
    let arn = "arn:aws:ecs:eu-central-1:123456789012:service/prod/server";
    let two = format!(
        "{}{}",
        service(""),
        service("").replace("targets.f", "targets.g").replace("\"server\"", &format!("\"{arn}\""))
    );
    check(
        &two,
        expect![
            "f.toml:9:11: targets.g.service: prod/server belongs to target f already (line 4); expected a service that no other target has"
        ],
    );
}

#[test]
fn office_hours_are_taken_and_checked() {
    let hours = |lines: &str| service(&format!("[targets.f.hours]\n{lines}"));
    let text = hours(
        "weekly = \"Mon-Fri 08:00-18:00\"\nzone = \"Europe/Berlin\"\nexcept = [\"2026-12-25\", 2026-12-26]",
    );
    let config = fleet(&text).unwrap();
    let its = config.fleet.targets["f"].hours.as_ref().unwrap();
    assert_eq!(its.describe(), "Mon-Fri 08:00-18:00 Europe/Berlin");
    assert!(its.at("2026-11-26T12:00:00Z".parse().unwrap()).is_some());
    assert!(its.at("2026-12-25T12:00:00Z".parse().unwrap()).is_none());

    check(
        &hours("zone = \"UTC\""),
        expect![[
            r#"f.toml:5:12: targets.f.hours: weekly is missing; expected weekly = "Mon-Fri 08:00-18:00""#
        ]],
    );
    check(
        &hours("weekly = \"Mon-Fri 08:00-18:00\""),
        expect![[
            r#"f.toml:5:12: targets.f.hours: zone is missing; expected zone = "Europe/Berlin""#
        ]],
    );
    check(
        &hours("weekly = \"Mon-Fri 8-18\"\nzone = \"UTC\""),
        expect![[
            r#"f.toml:6:10: targets.f.hours.weekly: "Mon-Fri 8-18" begins at no time of day; expected parts such as "Mon-Fri 08:00-18:00", separated by commas"#
        ]],
    );
    check(
        &hours("weekly = \"Mon 08:00-18:00\"\nzone = \"Berlin\""),
        expect![[
            r#"f.toml:7:8: targets.f.hours.zone: "Berlin" is not known; expected an IANA name such as "Europe/Berlin""#
        ]],
    );
    check(
        &hours("weekly = \"Mon 08:00-18:00\"\nzone = \"UTC\"\nexcept = [\"2026-12-24\", \"xmas\"]"),
        expect![[
            r#"f.toml:8:25: targets.f.hours.except[1]: "xmas" is not a day; expected a day such as "2026-12-25""#
        ]],
    );
    check(
        &hours("weekly = \"Mon 08:00-18:00\"\nzone = \"UTC\"\nexcept = \"2026-12-25\""),
        expect![[
            r#"f.toml:8:10: targets.f.hours.except: found the string "2026-12-25"; expected a list of days such as ["2026-12-25"]"#
        ]],
    );
    check(
        &hours("weekly = \"Mon 08:00-18:00\"\nzone = \"UTC\"\nday = 1"),
        expect![[
            r#"f.toml:8:1: targets.f.hours: unknown key "day"; expected one of weekly, zone, except"#
        ]],
    );
}

#[cfg(feature = "local")]
#[test]
fn the_local_services_are_seeded_and_checked() {
    let local = |lines: &str| service(&format!("healthy = true\n[local.services.f]\n{lines}"));
    let text =
        local("running = 1\nstart = \"1s\"\nno_image = true\nscaling = { min = 1, max = 4 }");
    let config = fleet(&text).unwrap();
    let seeds = config.local.services(&config.fleet);
    let [seed] = seeds.as_slice() else { panic!("{seeds:?}") };
    assert_eq!((seed.cluster.as_str(), seed.name.as_str(), seed.desired), ("prod", "server", 1));
    assert!(seed.health_check && seed.behaviour.no_image);
    assert_eq!(seed.scaling.map(|bounds| (bounds.min, bounds.max)), Some((1, 4)));
    assert!(config.local.machines(&config.fleet).is_empty());

    check(
        &service("[local.services.g]"),
        expect![[
            r#"f.toml:5:17: local.services.g: no target has this service; did you mean "f"?"#
        ]],
    );
    check(
        &service("[local.machines.f]"),
        expect![
            "f.toml:5:17: local.machines.f: no target has this machine; expected a target of this file, which has none, or one's instance id"
        ],
    );
    check(
        &local("strat = \"1s\""),
        expect![[
            r#"f.toml:7:1: local.services.f: unknown key "strat"; expected one of running, health_check, circuit_breaker, scaling, start, stop, health, never_healthy, exits_after, exit_code, fails_to_start, no_image, no_capacity, never_settles, scaling_rolls_out"#
        ]],
    );
    check(
        &local("start = \"soon\""),
        expect![[
            r#"f.toml:7:9: local.services.f.start: expected a duration of zero or more, such as "3s" or "1m 30s"; got "soon""#
        ]],
    );
    check(
        &local("exit_code = 700"),
        expect![
            "f.toml:7:13: local.services.f.exit_code: it is out of range; expected a whole number from 0 to 255"
        ],
    );
    check(
        &local("scaling = { min = 2, max = 1 }"),
        expect![
            "f.toml:7:11: local.services.f.scaling: min is 2 and max is 1; expected min up to max"
        ],
    );
    check(
        &local("no_image = \"yes\""),
        expect![[
            r#"f.toml:7:12: local.services.f.no_image: invalid type: string "yes", expected a boolean"#
        ]],
    );
}

pub(super) fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Variables that make no fleet, and why.
#[track_caller]
fn check_variables(pairs: &[(&str, &str)], expected: Expect) {
    match environment::fleet(&variables(pairs), &mut Vec::new()) {
        Err(error) => expected.assert_eq(&error.to_string()),
        Ok(fleet) => panic!("taken as {fleet:?}"),
    }
}

#[test]
fn the_seeds_variables_alone_make_a_fleet_of_one() {
    let mut warnings = Vec::new();
    let env = variables(&[
        ("INSTANCE_ID", "i-0abc123def456"),
        ("BACKEND_BASE_URL", "http://10.0.1.50:8000/"),
        ("SECRET_ARN", ""),
    ]);
    let fleet = environment::fleet(&env, &mut warnings).unwrap().unwrap();
    let backend = &fleet.targets["backend"];
    assert_eq!(
        backend.health.as_ref().map(|health| health.as_str()),
        Some("http://10.0.1.50:8000/health")
    );
    let idle = backend.idle.as_ref().unwrap();
    assert_eq!(idle.after.seconds(), 900);
    let [Probe::Http(http)] = idle.probes.as_slice() else { panic!("{idle:?}") };
    assert_eq!(http.url.as_str(), "http://10.0.1.50:8000/api/last-activity");
    assert!(http.ignore_own && http.pointer == "/last_activity");

    let env = variables(&[("SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:1:secret:pk")]);
    let fleet = environment::fleet(&env, &mut warnings).unwrap().unwrap();
    let keeper = &fleet.targets["position-keeper"];
    assert!(keeper.exclusive && keeper.idle.is_none());
    assert_eq!(keeper.unit().map(|unit| unit.as_str()), Some("positionkeeper"));
    assert_eq!(keeper.log_group.as_deref(), Some("/aws/ec2/positionkeeper"));

    let env = variables(&[
        ("ECS_CLUSTER_NAME", "fluidity-prod"),
        ("ECS_SERVICE_NAME", "fluidity-server-prod"),
        ("IDLE_THRESHOLD_MINUTES", "20"),
        ("SLEEP_CHECK_INTERVAL_MINUTES", "5"),
    ]);
    let fleet = environment::fleet(&env, &mut warnings).unwrap().unwrap();
    let fluidity = &fleet.targets["fluidity"];
    assert_eq!(fluidity.resource().unwrap().to_string(), "fluidity-prod/fluidity-server-prod");
    let idle = fluidity.idle.as_ref().unwrap();
    assert_eq!(idle.after.seconds(), 20 * 60);
    let labels: Vec<String> = idle.probes.iter().map(Probe::label).collect();
    assert_eq!(
        labels,
        ["metric Fluidity/ActiveConnections", "metric Fluidity/LastActivityEpochSeconds"]
    );
    let back = idle.probes.iter().all(|probe| match probe {
        Probe::Metric(metric) => metric.look_back.is_some_and(|back| back.seconds() == 600),
        _ => false,
    });
    assert!(back, "{idle:?}");
    let interval = environment::sleep_check_interval(&env).unwrap();
    assert_eq!(interval.map(|interval| interval.seconds()), Some(300));

    assert!(environment::fleet(&variables(&[]), &mut warnings).unwrap().is_none());
}

#[test]
fn variables_that_make_no_fleet_are_refused() {
    let id = ("INSTANCE_ID", "i-0abc123def456");
    let cluster = ("ECS_CLUSTER_NAME", "c");
    let service = ("ECS_SERVICE_NAME", "s");
    check_variables(
        &[id, ("SECRET_ARN", "x")],
        expect![
            "environment variables INSTANCE_ID and SECRET_ARN are both set, and each names what is to be switched; expected one of them, or a fleet file that has both"
        ],
    );
    check_variables(
        &[id, cluster, service],
        expect![
            "environment variables INSTANCE_ID and ECS_CLUSTER_NAME are both set, and each names what is to be switched; expected one of them, or a fleet file that has both"
        ],
    );
    check_variables(
        &[("INSTANCE_ID", "web-1")],
        expect![[
            r#"environment variable INSTANCE_ID: "web-1" is not valid; expected an EC2 instance id: i- and 8 to 17 hex digits in lower case"#
        ]],
    );
    check_variables(
        &[id, ("BACKEND_BASE_URL", "http://x"), ("IDLE_TIMEOUT_SECONDS", "15m")],
        expect![[
            r#"environment variable IDLE_TIMEOUT_SECONDS: "15m" is not valid; expected whole seconds above zero, up to 366 days"#
        ]],
    );
    check_variables(
        &[id, ("IDLE_TIMEOUT_SECONDS", "900")],
        expect![
            "environment variable IDLE_TIMEOUT_SECONDS is set and BACKEND_BASE_URL is not; expected both: the backend's /api/last-activity tells whether it is idle"
        ],
    );
    check_variables(
        &[id, ("BACKEND_BASE_URL", "10.0.0.1")],
        expect![[
            r#"environment variable BACKEND_BASE_URL: "10.0.0.1" is not valid; expected an address such as "http://10.0.1.50:8000""#
        ]],
    );
    check_variables(
        &[cluster],
        expect![
            "environment variable ECS_CLUSTER_NAME is set and ECS_SERVICE_NAME is not; expected both, since a service is named by its cluster and itself"
        ],
    );
    check_variables(
        &[service],
        expect![
            "environment variable ECS_SERVICE_NAME is set and ECS_CLUSTER_NAME is not; expected both, since a service is named by its cluster and itself"
        ],
    );
    check_variables(
        &[("ECS_CLUSTER_NAME", "a b"), service],
        expect![[
            r#"environment variable ECS_CLUSTER_NAME: "a b" is not a cluster; expected 1 to 255 letters, digits, '-' and '_', or the ARN"#
        ]],
    );
    check_variables(
        &[cluster, service, ("IDLE_THRESHOLD_MINUTES", "0")],
        expect![[
            r#"environment variable IDLE_THRESHOLD_MINUTES: "0" is not valid; expected whole minutes above zero, up to 366 days"#
        ]],
    );
    check_variables(
        &[cluster, service, ("LOOKBACK_PERIOD_MINUTES", "1e3")],
        expect![[
            r#"environment variable LOOKBACK_PERIOD_MINUTES: "1e3" is not valid; expected whole minutes above zero, up to 366 days"#
        ]],
    );
    check_variables(
        &[cluster, service, ("SLEEP_CHECK_INTERVAL_MINUTES", "often")],
        expect![[
            r#"environment variable SLEEP_CHECK_INTERVAL_MINUTES: "often" is not valid; expected whole minutes above zero, up to 366 days"#
        ]],
    );
    check_variables(
        &[("AWS_LAUNCH_TEMPLATE_ID", "lt-1")],
        expect![[
            r#"environment variable AWS_LAUNCH_TEMPLATE_ID: "lt-1" is not valid; expected a launch template's id (lt- and 8 to 17 hex digits), or its name (3 to 128 letters, digits and ().-/_)"#
        ]],
    );
    check_variables(
        &[id, ("AWS_LAUNCH_TEMPLATE_ID", "lt-0123456789abcdef0")],
        expect![
            "environment variables INSTANCE_ID and AWS_LAUNCH_TEMPLATE_ID are both set, and each names what is to be switched; expected one of them, or a fleet file that has both"
        ],
    );
}

/// A fleet file beside variables: the warnings that they make.
pub(super) fn beside(
    text: &str,
    pairs: &[(&str, &str)],
) -> Result<(Config, Vec<String>), ConfigError> {
    let mut config = fleet(text)?;
    let mut warnings = Vec::new();
    environment::override_fleet(&variables(pairs), "f.toml", &mut config.fleet, &mut warnings)?;
    Ok((config, warnings))
}

#[track_caller]
pub(super) fn check_beside(text: &str, pairs: &[(&str, &str)], expected: Expect) {
    match beside(text, pairs) {
        Ok((_, warnings)) => expected.assert_eq(&warnings.join("\n")),
        Err(error) => expected.assert_eq(&error.to_string()),
    }
}

#[test]
fn beside_a_file_the_variables_name_the_only_target_of_their_kind() {
    let id = ("INSTANCE_ID", "i-0abc123def456");
    let ecs = [("ECS_CLUSTER_NAME", "c"), ("ECS_SERVICE_NAME", "s")];
    let machine =
        "[targets.a]\nkind = \"ec2-instance\"\ninstance_id = \"i-0123456789\"\n".to_owned();
    let another = machine.replace("targets.a", "targets.b").replace("456789", "456780");
    let idle = "[targets.f.idle]\nafter = \"5m\"\ncpu = \"< 5\"\n";
    let both = format!("{machine}{}", service(idle));

    let (config, _) = beside(&both, &[id]).unwrap();
    let its = &config.fleet.targets["a"].instance().unwrap().instance;
    assert!(matches!(its, InstanceRef::Id(id) if id.as_str() == "i-0abc123def456"));
    let (config, _) = beside(&both, &ecs).unwrap();
    assert_eq!(config.fleet.targets["f"].resource().unwrap().to_string(), "c/s");
    let (config, _) = beside(&both, &[("IDLE_THRESHOLD_MINUTES", "30")]).unwrap();
    assert_eq!(config.fleet.targets["f"].idle.as_ref().unwrap().after.seconds(), 1800);

    check_beside(
        &both,
        &[id, ("SLEEP_CHECK_INTERVAL_MINUTES", "5")],
        expect!["environment variable INSTANCE_ID overrides the instance_id of target a in f.toml"],
    );
    check_beside(
        &both,
        &ecs,
        expect![
            "environment variable ECS_CLUSTER_NAME overrides the service of target f in f.toml"
        ],
    );
    check_beside(
        &both,
        &[("IDLE_THRESHOLD_MINUTES", "30")],
        expect![
            "environment variable IDLE_THRESHOLD_MINUTES overrides the idle.after of target f in f.toml"
        ],
    );
    check_beside(
        &both,
        &[("LOOKBACK_PERIOD_MINUTES", "30")],
        expect![
            "environment variable LOOKBACK_PERIOD_MINUTES overrides the look-back of the idle metrics of target f in f.toml"
        ],
    );
    check_beside(
        &both,
        &[("IDLE_TIMEOUT_SECONDS", "30")],
        expect![
            "environment variable IDLE_TIMEOUT_SECONDS has no effect: target a in f.toml has no idle policy"
        ],
    );
    check_beside(
        &machine,
        &[("IDLE_THRESHOLD_MINUTES", "30")],
        expect![
            "environment variable IDLE_THRESHOLD_MINUTES has no effect: f.toml has no target of kind ecs-service"
        ],
    );
    check_beside(
        &format!("{machine}{another}"),
        &[id],
        expect![
            "environment variable INSTANCE_ID is set, but f.toml has 2 targets of kind ec2-instance, so it is not clear which of them is meant; expected it to be unset, or a file with one such target"
        ],
    );
    check_beside(
        &machine,
        &ecs,
        expect![
            "environment variables ECS_CLUSTER_NAME, ECS_SERVICE_NAME are set, but f.toml has no target of kind ecs-service; expected them to be unset, or a file with one such target"
        ],
    );
    check_beside(
        &format!("{machine}{another}"),
        &[("IDLE_TIMEOUT_SECONDS", "30")],
        expect![
            "environment variable IDLE_TIMEOUT_SECONDS is set, but f.toml has 2 targets of kind ec2-instance, so it is not clear which of them is meant; expected it to be unset, or a file with one such target"
        ],
    );
}
