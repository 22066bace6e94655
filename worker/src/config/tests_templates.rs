//! Rows: templates in the fleet file, and seed 004's environment variable.

#![allow(clippy::needless_pass_by_value)] // `expect![…]` reads best by value.

use expect_test::{Expect, expect};
use lamplighter_lifecycle::{Bootstrap, Market, TargetSpec, TemplateSpec};

use super::tests_services::{beside, check_beside, variables};
use super::{Config, ConfigError, environment, parse, templates};

pub(super) fn fleet(text: &str) -> Result<Config, ConfigError> {
    parse("f.toml", text)
}

#[track_caller]
fn check(text: &str, expected: Expect) {
    match fleet(text) {
        Err(error) => expected.assert_eq(&error.to_string()),
        Ok(_) => panic!("it was taken:\n{text}"),
    }
}

pub(super) const HEAD: &str =
    "[templates.a]\nkind = \"ec2-template\"\nlaunch_template = \"lt-0123456789abcdef0\"\n";

/// More lines in a template that is otherwise right; the first is line 4.
pub(super) fn template(lines: &str) -> String {
    format!("{HEAD}{lines}\n")
}

#[track_caller]
pub(super) fn check_line(lines: &str, expected: Expect) {
    check(&template(lines), expected);
}

fn spec(config: &Config, name: &str) -> TargetSpec {
    config.fleet.templates[name].clone()
}

pub(super) fn its(config: &Config, name: &str) -> TemplateSpec {
    spec(config, name).template().unwrap().clone()
}

#[test]
fn a_template_is_taken_with_its_defaults() {
    let config = fleet(&template("")).unwrap();
    assert_eq!(config.warnings, [""; 0]);
    let spec = spec(&config, "a");
    let timings = spec.timings;
    assert_eq!((timings.start_timeout.seconds(), timings.ready_timeout.seconds()), (300, 300));
    assert_eq!((timings.health_timeout.seconds(), timings.poll.seconds()), (180, 5));
    assert!(!spec.settles() && !spec.keep_failed && !spec.exclusive);
    let its = its(&config, "a");
    assert_eq!((its.version.as_str(), its.limit, its.market), ("$Default", 20, Market::OnDemand));
    assert_eq!((its.owner.as_str(), its.name_prefix.as_str()), ("lamplighter-commands", "a-vm"));
    assert_eq!(its.tags["ManagedBy"], "lamplighter");
    assert_eq!((its.retention.seconds(), its.wait_for_public_ip), (7 * 86_400, false));
    assert!(its.bootstrap.is_none() && its.parameters.is_empty() && its.dedupe.is_none());
    assert_eq!(its.options().len(), 1);
}

#[test]
fn everything_that_a_template_may_say_is_taken() {
    let config = fleet(
        r#"
        [queue]
        commands = "https://sqs.eu-west-1.amazonaws.com/123456789012/mine"
        [templates.gpu]
        kind = "ec2-template"
        launch_template = "gpu/one"
        version = 7
        limit = 3
        subnets = ["subnet-0123456789abcdef0", "subnet-12345678"]
        instance_types = ["g5.xlarge", "u-6tb1.112xlarge"]
        market = "spot-then-on-demand"
        tags = { Team = "ml", ManagedBy = "us" }
        name_prefix = "models"
        wait_for = "public_ip"
        max_lifetime = "12h"
        max_hold = "8h"
        health = "http://{public_ip}:8000/health"
        start_timeout = "2m"
        ready_timeout = "10m"
        settle = "5s"
        stop_timeout = "1m"
        poll = "1s"
        log_group = "/models"
        keep_failed = "2h"
        retention = "30d"
        dedupe = "model"
        price_per_hour = 1.006
        systemd_unit = "model"
        unit_check_every = "off"
        bootstrap = { document = "Prepare-Model", timeout = "20m" }
        one_of = ["model", "url"]
        [templates.gpu.idle]
        after = "15m"
        metrics = [{ namespace = "M", name = "Requests", dimensions = { InstanceId = "{instance_id}" }, idle_when = "== 0" }]
        [templates.gpu.parameters]
        model = { pattern = "[a-z]+" }
        url = { pattern = "https://[a-z./]{1,80}", required = false }
        size = { pattern = "small|large", default = "small" }
        count = { pattern = "[1-9]", required = true }
        [templates.gpu.fixed]
        region_of_data = "eu (west)"
        [schedules.idle-check]
        expression = "rate(5 minutes)"
        command = { action = "check-idle" }
        [schedules.fresh]
        expression = "rate(1 day)"
        command = { action = "create", template = "gpu", model = "x", count = 3 }
        "#,
    )
    .unwrap();
    assert_eq!(config.warnings, [""; 0]);
    let spec = spec(&config, "gpu");
    assert!(spec.keep_failed && spec.settles() && spec.idle.is_some());
    assert_eq!(spec.max_hold.map(|it| it.seconds()), Some(8 * 3600));
    assert_eq!(spec.unit().map(|unit| unit.as_str()), Some("model"));
    let its = its(&config, "gpu");
    assert_eq!((its.owner.as_str(), its.version.as_str(), its.limit), ("mine", "7", 3));
    assert_eq!(its.options().len(), 8);
    assert_eq!(its.tags["ManagedBy"], "us");
    assert_eq!(its.keep_failed_for.map(|it| it.seconds()), Some(7200));
    assert_eq!(its.price_per_hour_millionths, Some(1_006_000));
    assert_eq!(its.bootstrap_timeout.seconds(), 1200);
    assert!(
        matches!(&its.bootstrap, Some(Bootstrap::Document { name }) if name == "Prepare-Model")
    );
    let fixed = &its.parameters["region_of_data"];
    assert!(fixed.pattern.fits("eu (west)") && !fixed.pattern.fits("eu west"));
    assert_eq!(config.fleet.rules["fresh"].parameters["count"], "3");
}

#[test]
fn the_shipped_bootstrap_brings_what_it_takes() {
    let config = fleet(&template("bootstrap = \"walrus\"\ndedupe = \"blob_id\"")).unwrap();
    assert_eq!(config.warnings, [""; 0]);
    let its = its(&config, "a");
    assert_eq!((its.name_prefix.as_str(), its.wait_for_public_ip), ("walrus-vm", true));
    assert_eq!((its.bootstrap_timeout.seconds(), its.one_of.len()), (150, 2));
    let Some(Bootstrap::Script { name, script, check }) = &its.bootstrap else { panic!() };
    assert_eq!(name, "walrus");
    assert!(script.starts_with("#!/bin/sh") && check.contains("walrus-model"));
    assert!(script.len() + check.len() <= 24 * 1024);
    for name in its.parameters.keys() {
        assert!(script.contains(&format!("LAMPLIGHTER_{}", name.to_uppercase())), "{name}");
    }
    let fits = |name: &str, value: &str| its.parameters[name].pattern.fits(value);
    assert!(fits("blob_id", "M4hsZGQ1oCktdzegB6HnI6Mi28S2nqOPHxK-W7_4BUk"));
    assert!(fits(
        "object_id",
        "0x94b84b6e6a9f2a9a0fcd5d9d2f7e8f7a1c1d2e3f4a5b6c7d8e9fa0b1c2d3e4f5"
    ));
    for value in ["", "a b", "a;reboot", "$(id)", "a\n", "é", &"a".repeat(129)] {
        assert!(!fits("blob_id", value) && !fits("object_id", value), "{value:?}");
    }
    let good = ["https://a.example", "https://a.example:8443/v0/", "https://10.0.0.1/x"];
    for value in good {
        assert!(fits("aggregator", value), "{value:?}");
    }
    for value in [
        "http://a.example",
        "https://",
        "https://a b",
        "https://u@a",
        "https://a/\"",
        "https://-a",
        "https://a:x",
    ] {
        assert!(!fits("aggregator", value), "{value:?}");
    }
    let default = its.parameters["aggregator"].default.clone().unwrap();
    assert!(fits("aggregator", &default));
}

#[test]
fn beside_the_shipped_bootstrap_only_values_are_said() {
    let walrus = |lines: &str| template(&format!("bootstrap = \"walrus\"\n{lines}"));
    let config = fleet(&walrus(
        "fixed = { aggregator = \"https://a.example\", max_bytes = \"1000\" }\nname_prefix = \"m\"\n\
         wait_for = \"running\"\n[templates.a.parameters]\nblob_id = { default = \"abc\" }",
    ));
    let spec = its(&config.unwrap(), "a");
    assert_eq!(spec.parameters["blob_id"].default.as_deref(), Some("abc"));
    assert!(!spec.parameters["aggregator"].pattern.fits("https://b.example"));
    assert_eq!(spec.parameters["max_bytes"].default.as_deref(), Some("1000"));
    assert!(!spec.wait_for_public_ip && spec.name_prefix == "m");
    let config = fleet(&template("bootstrap = { name = \"walrus\", timeout = \"20m\" }")).unwrap();
    assert_eq!(its(&config, "a").bootstrap_timeout.seconds(), 1200);

    check(
        &walrus("parameters = { blob_id = { pattern = \"[a-z]+\" } }"),
        expect![[
            r#"f.toml:5:28: templates.a.parameters.blob_id.pattern: the bootstrap walrus says itself what it takes; expected default = "…" alone"#
        ]],
    );
    check(
        &walrus("parameters = { blob = { default = \"x\" } }"),
        expect![
            "f.toml:5:16: templates.a.parameters.blob: the bootstrap walrus takes nothing of that name; expected one of aggregator, blob_id, object_id"
        ],
    );
    check(
        &walrus("parameters = { blob_id = { default = \"a b\" } }"),
        expect![[
            r#"f.toml:5:38: templates.a.parameters.blob_id.default: "a b" does not match the pattern; expected what matches [A-Za-z0-9_-]{1,128}"#
        ]],
    );
    check(
        &walrus("parameters = { blob_id = {} }"),
        expect![[
            r#"f.toml:5:16: templates.a.parameters.blob_id: default is missing; expected default = "…""#
        ]],
    );
    check(
        &walrus("fixed = { aggregator = \"http://a.example\" }"),
        expect![[
            r#"f.toml:5:24: templates.a.fixed.aggregator: "http://a.example" is nothing that walrus takes; expected what matches https://[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]…"#
        ]],
    );
    check(
        &walrus("fixed = { colour = \"red\" }"),
        expect![
            "f.toml:5:11: templates.a.fixed.colour: the bootstrap walrus takes nothing of that name; expected one of aggregator, blob_id, object_id, install_seconds, max_bytes, model_dir, settle_seconds, stall_seconds"
        ],
    );
    check(
        &walrus("one_of = [\"blob_id\", \"aggregator\"]"),
        expect![
            "f.toml:5:1: templates.a.one_of: the bootstrap walrus says itself which it needs (blob_id or object_id); expected it only beside a bootstrap of the fleet's own"
        ],
    );
    check(
        &walrus("dedupe = \"blobid\""),
        expect![[
            r#"f.toml:5:10: templates.a.dedupe: no parameter is named "blobid"; expected one of aggregator, blob_id, object_id"#
        ]],
    );
    check_line(
        "bootstrap = \"walrsu\"",
        expect![[
            r#"f.toml:4:13: templates.a.bootstrap: no bootstrap "walrsu" is shipped; did you mean "walrus"?"#
        ]],
    );
    check_line(
        "bootstrap = \"nginx\"",
        expect![[
            r#"f.toml:4:13: templates.a.bootstrap: no bootstrap "nginx" is shipped; expected "walrus", or { script = "path" }, or { document = "name or ARN" }"#
        ]],
    );
}

#[test]
fn the_keys_of_a_template_are_checked() {
    check(
        "[templates.a]\nlaunch_template = \"x\"",
        expect![[r#"f.toml:1:12: templates.a: kind is missing; expected kind = "ec2-template""#]],
    );
    check(
        "[templates.a]\nkind = \"ec2-instance\"",
        expect![
            "f.toml:2:8: templates.a.kind: an ec2-instance is a target, which is there before anybody asks for it; expected it under [targets.NAME] instead of [templates.NAME]"
        ],
    );
    check(
        "[templates.a]\nkind = \"ec2-templat\"",
        expect![[
            r#"f.toml:2:8: templates.a.kind: unknown kind "ec2-templat"; did you mean "ec2-template"?"#
        ]],
    );
    check(
        "[templates.a]\nkind = \"ec2-template\"",
        expect![
            "f.toml:1:12: templates.a: launch_template is missing; expected a launch template's id (lt- and 8 to 17 hex digits), or its name (3 to 128 letters, digits and ().-/_)"
        ],
    );
    check(
        "[templates]\na = 1",
        expect!["f.toml:2:5: templates.a: found the number 1; expected a table"],
    );
    for bad in ["lt-12", "lt-0123456789ABCDEF0", "lt-gpu", "ab", "a b"] {
        let text = HEAD.replace("lt-0123456789abcdef0", bad);
        let words = fleet(&text).unwrap_err().to_string();
        let expected =
            format!("f.toml:3:19: templates.a.launch_template: \"{bad}\" is not valid; ");
        assert!(words.starts_with(&expected), "{words}");
    }
    check_line(
        "limits = 3",
        expect![[r#"f.toml:4:1: templates.a: unknown key "limits"; did you mean "limit"?"#]],
    );
    check_line(
        "limit = 0",
        expect![
            "f.toml:4:9: templates.a.limit: 0 is not valid; expected a whole number from 1 to 1000"
        ],
    );
    check_line(
        "limit = 1001",
        expect![
            "f.toml:4:9: templates.a.limit: 1001 is not valid; expected a whole number from 1 to 1000"
        ],
    );
    check_line(
        "limit = \"3\"",
        expect![[
            r#"f.toml:4:9: templates.a.limit: found the string "3"; expected a whole number from 1 to 1000"#
        ]],
    );
    check_line(
        "version = 0",
        expect![[
            r#"f.toml:4:11: templates.a.version: "0" is not valid; expected a version's number, "$Default" or "$Latest""#
        ]],
    );
    check_line(
        "version = \"$default\"",
        expect![[
            r#"f.toml:4:11: templates.a.version: "$default" is not valid; expected a version's number, "$Default" or "$Latest""#
        ]],
    );
    check_line(
        "version = true",
        expect![[
            r#"f.toml:4:11: templates.a.version: found true; expected a version's number, "$Default" or "$Latest""#
        ]],
    );
    check_line(
        "subnets = \"subnet-12345678\"",
        expect![[
            r#"f.toml:4:11: templates.a.subnets: found the string "subnet-12345678"; expected a list in order of preference, each a subnet's id: subnet- and 8 to 17 hex digits"#
        ]],
    );
    check_line(
        "subnets = []",
        expect![
            "f.toml:4:11: templates.a.subnets: names none; expected a subnet's id: subnet- and 8 to 17 hex digits, or no list for the launch template's"
        ],
    );
    check_line(
        "subnets = [\"subnet-1\"]",
        expect![[
            r#"f.toml:4:12: templates.a.subnets[0]: "subnet-1" is not valid; expected a subnet's id: subnet- and 8 to 17 hex digits"#
        ]],
    );
    check_line(
        "subnets = [\"subnet-12345678\", \"subnet-12345678\"]",
        expect![
            "f.toml:4:31: templates.a.subnets[1]: subnet-12345678 is there already; expected each once"
        ],
    );
    check_line(
        "instance_types = [\"t3.medium\", \"medium\"]",
        expect![[
            r#"f.toml:4:32: templates.a.instance_types[1]: "medium" is not valid; expected an instance type such as "t3.medium""#
        ]],
    );
    check_line(
        "market = \"cheap\"",
        expect![[
            r#"f.toml:4:10: templates.a.market: "cheap" is not valid; expected "on-demand" or "spot" or "spot-then-on-demand""#
        ]],
    );
    check_line(
        "wait_for = \"ssh\"",
        expect![[
            r#"f.toml:4:12: templates.a.wait_for: "ssh" is not valid; expected "public_ip" or "running""#
        ]],
    );
    check_line(
        "name_prefix = \"\"",
        expect![[
            r#"f.toml:4:15: templates.a.name_prefix: "" is not valid; expected what machines' names begin with, 1 to 200 characters"#
        ]],
    );
    check_line(
        "keep_failed = true",
        expect![[
            r#"f.toml:4:15: templates.a.keep_failed: found true; expected a duration above zero and up to 366 days, such as "2h", "90s", "1h30m" or "500ms""#
        ]],
    );
    check_line(
        "retention = \"0d\"",
        expect![[
            r#"f.toml:4:13: templates.a.retention: "0d" is not valid; expected a duration above zero and up to 366 days, such as "2h", "90s", "1h30m" or "500ms""#
        ]],
    );
    check_line(
        "price_per_hour = \"0.04\"",
        expect![[
            r#"f.toml:4:18: templates.a.price_per_hour: found the string "0.04"; expected a number from 0 to 10000, such as 0.0416"#
        ]],
    );
    check_line(
        "price_per_hour = -1",
        expect![
            "f.toml:4:18: templates.a.price_per_hour: -1 is not valid; expected a number from 0 to 10000, such as 0.0416"
        ],
    );
    check_line(
        "price_per_hour = inf",
        expect![
            "f.toml:4:18: templates.a.price_per_hour: inf is not a finite number; expected a value that JSON can hold"
        ],
    );
    check_line(
        "systemd_unit = \"a b\"",
        expect![[
            r#"f.toml:4:16: templates.a.systemd_unit: "a b" is not valid; expected a systemd unit's name: letters, digits and :_.@- only, at most 128"#
        ]],
    );
    check_line(
        "health = \"{public_ip}\"",
        expect![[
            r#"f.toml:4:10: templates.a.health: "{public_ip}" is not valid; expected an address with http:// or https://, in which {private_ip}, {public_ip} and ${secret:NAME} are the only placeholders"#
        ]],
    );
}

#[test]
fn the_keys_of_targets_are_refused_with_the_reason() {
    check_line(
        "exclusive = true",
        expect![
            "f.toml:4:1: templates.a.exclusive: each create has a machine of its own, so there is nobody to exclude; expected limit = 1 where there is to be one machine at a time"
        ],
    );
    check_line(
        "hours = { weekly = \"Mon 08:00-18:00\", zone = \"UTC\" }",
        expect![
            "f.toml:4:1: templates.a.hours: a machine lives from its create to its end, so there is nothing to switch by the clock; expected max_lifetime, or a schedule whose command is a create"
        ],
    );
    check_line(
        "instance_id = \"i-01234567\"",
        expect![[
            r#"f.toml:4:1: templates.a.instance_id: its machines are launched, and have no id before; expected launch_template, or a target of kind = "ec2-instance""#
        ]],
    );
}

#[test]
fn tags_are_ec2_s_and_not_ours() {
    check_line(
        "tags = { Name = \"x\" }",
        expect![
            "f.toml:4:10: templates.a.tags.Name: a machine's name is made from name_prefix and the time; expected name_prefix"
        ],
    );
    check_line(
        "tags = { \"AWS:x\" = \"y\" }",
        expect![
            "f.toml:4:10: templates.a.tags.AWS:x: tags that begin with aws: are AWS's own; expected another key"
        ],
    );
    check_line(
        "tags = { \"lamplighter:managed\" = \"false\" }",
        expect![
            "f.toml:4:10: templates.a.tags.lamplighter:managed: tags that begin with lamplighter: are what the worker goes by; expected another key"
        ],
    );
    check_line(
        "tags = { \"\" = \"y\" }",
        expect![
            "f.toml:4:10: templates.a.tags.: the key is not valid; expected 1 to 128 characters"
        ],
    );
    check_line(
        "tags = { x = 1 }",
        expect![
            "f.toml:4:14: templates.a.tags.x: found the number 1; expected a tag's value, at most 256 characters"
        ],
    );
    let long = format!("tags = {{ x = \"{}\" }}", "y".repeat(257));
    assert!(fleet(&template(&long)).unwrap_err().to_string().contains("at most 256 characters"));
    let many: Vec<String> = (0..46).map(|n| format!("t{n} = \"\"")).collect();
    check_line(
        &format!("tags = {{ {} }}", many.join(", ")),
        expect![
            "f.toml:4:8: templates.a.tags: has 46 tags; expected at most 45 beside those of ours"
        ],
    );
}

#[test]
fn a_name_means_one_thing() {
    let machine = |name: &str| {
        format!("[targets.\"{name}\"]\nkind = \"ec2-instance\"\ninstance_id = \"i-01234567\"\n")
    };
    check(
        &format!("{HEAD}{}", machine("a")),
        expect![
            "f.toml:1:12: templates.a: a target has that name already (line 4); expected a name of its own, since payloads name both alike"
        ],
    );
    check(
        &format!("{HEAD}{}", machine("a.0123456789abcdef")),
        expect![
            "f.toml:4:10: targets.a.0123456789abcdef: a machine of the template a (line 1) may be called so; expected another name"
        ],
    );
    assert!(fleet(&format!("{HEAD}{}", machine("a.0123456789abcde"))).is_ok());
    assert!(fleet(&format!("{HEAD}{}", machine("b.0123456789abcdef"))).is_ok());
    let other = HEAD.replace("templates.a", "templates.\"a.0123456789abcdef\"");
    check(
        &format!("{HEAD}{other}"),
        expect![
            "f.toml:4:12: templates.a.0123456789abcdef: a machine of the template a (line 1) may be called so; expected another name"
        ],
    );
    let service = "[targets.f]\nkind = \"ecs-service\"\ncluster = \"c\"\nservice = \"s\"\nalso = [\"dev/*\"]\n";
    check(
        &format!("{service}{}", HEAD.replace("templates.a", "templates.\"f.dev\"")),
        expect![
            "f.toml:6:12: templates.f.dev: names that begin with f. are of services that it allows (line 1); expected another name"
        ],
    );
    let named = |name: &str| HEAD.replace("templates.a", &format!("templates.\"{name}\""));
    assert!(fleet(&named(&"a".repeat(46))).is_ok());
    check(
        &named(&"a".repeat(47)),
        expect![
            "f.toml:1:12: templates.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: the name has 47 characters; expected at most 46, since its machines are called by it and 17 more"
        ],
    );
    check(
        &named("A"),
        expect![[
            r#"f.toml:1:12: templates.A: the name "A" is not valid; expected a name of 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"#
        ]],
    );
    check(&format!("{HEAD}{HEAD}"), expect!["f.toml:4:12: this is not TOML: duplicate key"]);
    check(
        &format!("[queue]\ncommands = \"https://\\u0007\"\n{HEAD}"),
        expect![[
            r#"f.toml:3:12: templates.a: its machines bear the command queue's name, and "\u{7}" is none; expected [queue] commands to end in a queue's name"#
        ]],
    );
}

#[test]
fn what_makes_machines_judge_one_another_is_refused_or_said() {
    let metric = "idle = { after = \"15m\", metrics = [{ namespace = \"N\", name = \"M\", idle_when = \"== 0\" }] }";
    check_line(
        metric,
        expect![[
            r#"f.toml:4:36: templates.a.idle.metrics[0]: the metric N/M without dimensions is that of every machine of a: each would be judged by the others' traffic; expected dimensions such as { InstanceId = "{instance_id}" }"#
        ]],
    );
    let config = fleet(&template(&format!("limit = 1\n{metric}"))).unwrap();
    expect![[r#"
        [
            "templates.a.idle: the metric N/M has no dimensions: whoever else publishes under that name keeps a on, or stops it",
            "templates.a.idle: no schedule asks whether a is idle, so nobody will know that it is; expected one such as [schedules.idle-check] with expression = \"rate(5 minutes)\" and command = { action = \"check-idle\" }",
        ]
    "#]].assert_debug_eq(&config.warnings);
    let config = fleet(&template(
        "health = \"http://x/health\"\nidle = { after = \"15m\", http = { url = \"http://x/\", pointer = \"\" } }",
    ));
    expect![[r#"
        [
            "templates.a.health: the address is the same for every machine, so each is judged by whoever answers there; {public_ip} and {private_ip} stand for a machine's own",
            "templates.a.idle.http: the address is the same for every machine, so each is judged by whoever answers there; {public_ip} and {private_ip} stand for a machine's own",
            "templates.a.idle: no schedule asks whether a is idle, so nobody will know that it is; expected one such as [schedules.idle-check] with expression = \"rate(5 minutes)\" and command = { action = \"check-idle\" }",
        ]
    "#]].assert_debug_eq(&config.unwrap().warnings);
}

#[test]
fn a_fleet_of_templates_alone_is_a_fleet() {
    let config = fleet(HEAD).unwrap();
    assert!(config.fleet.targets.is_empty() && config.warnings.is_empty());
    check(
        &format!("{HEAD}[defaults]\ntarget = \"a\""),
        expect![
            "f.toml:5:10: defaults.target: a is a template; expected a target: a create without a template means the only one"
        ],
    );
}

/// A command of a schedule beside a template with parameters.
#[track_caller]
fn check_command(command: &str, expected: Expect) {
    let text = template(&format!(
        "one_of = [\"x\", \"y\"]\n[templates.a.parameters]\nx = {{ pattern = \"[a-z]+\" }}\n\
         y = {{ pattern = \"[a-z]+\" }}\nz = {{ pattern = \"[0-9]+\" }}\n[targets.t]\n\
         kind = \"ec2-instance\"\ninstance_id = \"i-01234567\"\n[schedules.s]\nexpression = \"rate(1 day)\"\n\
         command = {command}"
    ));
    let said = fleet(&text).map_or_else(|error| error.to_string(), |_| "taken".to_owned());
    expected.assert_eq(&said);
}

#[test]
fn creates_of_schedules_are_checked_against_their_template() {
    check_command("{ action = \"create\", template = \"a\", x = \"q\" }", expect!["taken"]);
    check_command("{ action = \"create\", target = \"a\", x = \"q\", z = 3 }", expect!["taken"]);
    check_command("{ action = \"create\", x = \"q\" }", expect!["taken"]);
    check_command(
        "{ action = \"create\", template = \"b\", x = \"q\" }",
        expect![[
            r#"f.toml:14:11: schedules.s.command: no template is named "b"; expected template = "NAME" with one of a"#
        ]],
    );
    check_command(
        "{ action = \"create\", target = \"t\" }",
        expect![[
            r#"f.toml:14:11: schedules.s.command: no template is named "t"; expected template = "NAME" with one of a"#
        ]],
    );
    check_command(
        "{ action = \"create\", instance_id = \"i-01234567\" }",
        expect![[
            r#"f.toml:14:11: schedules.s.command: a create makes a machine, and this names one that is there; expected template = "NAME""#
        ]],
    );
    check_command(
        "{ action = \"create\" }",
        expect![
            "f.toml:14:11: schedules.s.command: x or y is missing; expected what the template a takes, or every tick would fail"
        ],
    );
    check_command(
        "{ action = \"create\", x = \"q\", w = \"1\" }",
        expect![[
            r#"f.toml:14:11: schedules.s.command: the template a takes no parameter "w"; expected x, y, z"#
        ]],
    );
    check_command(
        "{ action = \"create\", x = \"Q\" }",
        expect![[
            r#"f.toml:14:11: schedules.s.command: x "Q" does not match its pattern, [a-z]+; expected what the template a takes, or every tick would fail"#
        ]],
    );
    check_command(
        "{ action = \"kill\", target = \"a\" }",
        expect![
            "f.toml:14:11: schedules.s.command: a is a template, and kill is for a target; expected a target, or create"
        ],
    );
    check(
        "[schedules.s]\nexpression = \"rate(1 day)\"\ncommand = { action = \"create\" }",
        expect![
            "f.toml:3:11: schedules.s.command: it names no template; expected a template of this file, which has none"
        ],
    );
    let two = format!("{HEAD}{}", HEAD.replace("templates.a", "templates.b"));
    check(
        &format!(
            "{two}[schedules.s]\nexpression = \"rate(1 day)\"\ncommand = {{ action = \"create\" }}"
        ),
        expect![[
            r#"f.toml:9:11: schedules.s.command: it names no template; expected template = "NAME" with one of a, b"#
        ]],
    );
}

#[test]
fn an_idle_policy_of_a_template_wants_to_be_asked_too() {
    let config = fleet(&template("idle = { after = \"15m\", cpu = \"< 5\" }")).unwrap();
    expect![[r#"
        [
            "templates.a.idle: no schedule asks whether a is idle, so nobody will know that it is; expected one such as [schedules.idle-check] with expression = \"rate(5 minutes)\" and command = { action = \"check-idle\" }",
        ]
    "#]].assert_debug_eq(&config.warnings);
}

#[test]
fn seed_004_s_variable_alone_makes_a_fleet_of_one_template() {
    let env = variables(&[("AWS_LAUNCH_TEMPLATE_ID", "lt-0123456789abcdef0")]);
    let mut warnings = Vec::new();
    let fleet = environment::fleet(&env, &mut warnings).unwrap().unwrap();
    expect![[r#"
        [
            "no fleet file: the fleet is the one template walrus, made from AWS_LAUNCH_TEMPLATE_ID",
        ]
    "#]]
    .assert_debug_eq(&warnings);
    assert!(fleet.targets.is_empty());
    let walrus = fleet.templates["walrus"].template().unwrap();
    assert_eq!(
        (walrus.owner.as_str(), walrus.name_prefix.as_str()),
        ("lamplighter-commands", "walrus-vm")
    );
    let text = HEAD.replace("templates.a", "templates.walrus") + "bootstrap = \"walrus\"\n";
    let config = parse("f.toml", &text).unwrap();
    assert_eq!(config.fleet.templates, fleet.templates);
    assert!(!templates::ends(&fleet.templates["walrus"]));
}

#[test]
fn beside_a_file_the_variable_names_the_only_template_s() {
    let env = [("AWS_LAUNCH_TEMPLATE_ID", "lt-0aaaaaaaa")];
    let (config, _) = beside(HEAD, &env).unwrap();
    assert_eq!(its(&config, "a").launch_template, "lt-0aaaaaaaa");
    check_beside(
        HEAD,
        &env,
        expect![
            "environment variable AWS_LAUNCH_TEMPLATE_ID overrides the launch_template of template a in f.toml"
        ],
    );
    check_beside(HEAD, &[("AWS_LAUNCH_TEMPLATE_ID", "lt-0123456789abcdef0")], expect![""]);
    check_beside(
        &format!("{HEAD}{}", HEAD.replace("templates.a", "templates.b")),
        &env,
        expect![
            "environment variable AWS_LAUNCH_TEMPLATE_ID is set, but f.toml has 2 templates of kind ec2-template, so it is not clear which of them is meant; expected it to be unset, or a file with one such template"
        ],
    );
    check_beside(
        "",
        &env,
        expect![
            "environment variable AWS_LAUNCH_TEMPLATE_ID is set, but f.toml has no template of kind ec2-template; expected it to be unset, or a file with one such template"
        ],
    );
    check_beside(
        HEAD,
        &[env[0], ("SECRET_ARN", "x")],
        expect![
            "environment variables SECRET_ARN and AWS_LAUNCH_TEMPLATE_ID are both set, and each names what is to be switched; expected one of them, or a fleet file that has both"
        ],
    );
}
