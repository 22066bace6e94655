//! Rows: what a fleet file may say, and how a wrong one is refused.

#![allow(clippy::needless_pass_by_value)] // `expect![…]` reads best by value.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use lamplighter_lifecycle::InstanceRef;

use super::tests_services::variables;
use super::{Config, ConfigError, load, parse};

fn fleet(text: &str) -> Result<Config, ConfigError> {
    parse("lamplighter.toml", text)
}

/// A fleet file that is refused, and how.
#[track_caller]
fn check(text: &str, expected: Expect) {
    match fleet(text) {
        Err(error) => expected.assert_eq(&error.to_string()),
        Ok(_) => panic!("it was taken:\n{text}"),
    }
}

/// One more line in a target that is otherwise right.
#[track_caller]
fn check_line(line: &str, expected: Expect) {
    check(
        &format!("[targets.a]\nkind = \"ec2-instance\"\ninstance_id = \"i-0123456789\"\n{line}\n"),
        expected,
    );
}

#[test]
fn the_design_s_targets_are_taken_with_their_defaults() {
    let config = fleet(
        r#"
        [queue]
        commands = "my-commands"
        [defaults]
        target = "pyelli"
        [targets.position-keeper]
        kind = "ec2-instance"
        instance_id = { secret = "arn:aws:secretsmanager:eu-west-1:1:secret:pk", key = "PK_INSTANCE" }
        systemd_unit = "positionkeeper"
        exclusive = true
        unit_check_every = "off"
        [targets.pyelli]
        kind = "ec2-instance"
        instance_id = "i-0abc123def456"
        health = "http://{private_ip}:8000/health"
        max_hold = "8h"
        [targets.pyelli.idle]
        after = "15m"
        http = { url = "http://10.0.1.50:8000/api/last-activity", pointer = "/last_activity" }
        "#,
    )
    .unwrap();
    assert_eq!(config.commands, "my-commands");
    assert_eq!(config.dead_letters, "lamplighter-dead-letters");
    assert_eq!(config.fleet.default_target.as_ref().map(|name| name.as_str()), Some("pyelli"));
    let keeper = &config.fleet.targets["position-keeper"];
    assert!(keeper.exclusive && keeper.unit_check_every().is_none());
    assert_eq!(keeper.timings.start_timeout.seconds(), 120);
    assert_eq!(keeper.timings.settle.seconds(), 10);
    let instance = &keeper.instance().unwrap().instance;
    assert!(matches!(instance, InstanceRef::Secret { key, .. } if key == "PK_INSTANCE"));
    let pyelli = &config.fleet.targets["pyelli"];
    assert_eq!(pyelli.idle.as_ref().map(|idle| idle.after.seconds()), Some(900));
    expect![[r#"
        [
            "targets.pyelli.idle: no schedule asks whether pyelli is idle, so nobody will know that it is; expected one such as [schedules.idle-check] with expression = \"rate(5 minutes)\" and command = { action = \"check-idle\" }",
        ]
    "#]]
    .assert_debug_eq(&config.warnings);
}

#[test]
fn the_built_in_example_is_a_fleet_whose_machines_exist() {
    let config = Config::example().unwrap();
    let about_targets: Vec<&String> =
        config.warnings.iter().filter(|it| !it.starts_with("schedules:")).collect();
    // It says so itself, and is for one machine.
    assert!(
        matches!(about_targets.as_slice(), [door] if door.starts_with("[http] auth")),
        "{about_targets:?}"
    );
    #[cfg(feature = "local")]
    {
        let machines = config.local.machines(&config.fleet);
        let secrets = config.local.secrets(&config.fleet);
        assert_eq!(machines.len(), 3);
        assert_eq!(config.local.services(&config.fleet).len(), 1);
        let named: serde_json::Value =
            serde_json::from_str(&secrets["lamplighter/example"]).unwrap();
        assert_eq!(named["RENDER_INSTANCE"], machines[2].id);
        assert!(machines[0].units.contains_key("positionkeeper"));
    }
}

#[test]
fn what_is_no_toml_is_refused_with_its_place() {
    check(
        "[queue\n",
        expect!["lamplighter.toml:1:7: this is not TOML: unclosed table, expected `]`"],
    );
    check("a = 1\na = 2", expect!["lamplighter.toml:2:1: this is not TOML: duplicate key"]);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    check(
        "[tragets.a]",
        expect![[r#"lamplighter.toml:1:2: unknown key "tragets"; did you mean "targets"?"#]],
    );
    check(
        "[queue]\nname = \"x\"",
        expect![[
            r#"lamplighter.toml:2:1: queue: unknown key "name"; expected one of commands, dead_letters"#
        ]],
    );
    check_line(
        "start_timeot = \"2m\"",
        expect![[
            r#"lamplighter.toml:4:1: targets.a: unknown key "start_timeot"; did you mean "start_timeout"?"#
        ]],
    );
    check_line(
        "idle = { after = \"5m\", htp = {} }",
        expect![[
            r#"lamplighter.toml:4:24: targets.a.idle: unknown key "htp"; did you mean "http"?"#
        ]],
    );
}

#[test]
fn wrong_types_are_refused() {
    check(
        "targets = 3",
        expect!["lamplighter.toml:1:11: targets: found the number 3; expected a table"],
    );
    check(
        "[targets]\na = \"b\"",
        expect![[r#"lamplighter.toml:2:5: targets.a: found the string "b"; expected a table"#]],
    );
    check(
        "[store]\ntable = []",
        expect!["lamplighter.toml:2:9: store.table: found a list; expected a name"],
    );
    check(
        "[store]\ntable = ''",
        expect!["lamplighter.toml:2:9: store.table: is empty; expected a name"],
    );
    check_line(
        "exclusive = \"yes\"",
        expect![[
            r#"lamplighter.toml:4:13: targets.a.exclusive: found the string "yes"; expected true or false"#
        ]],
    );
    check_line(
        "settle = 10",
        expect![[
            r#"lamplighter.toml:4:10: targets.a.settle: found the number 10; expected a duration above zero and up to 366 days, such as "2h", "90s", "1h30m" or "500ms""#
        ]],
    );
    check_line(
        "max_hold = 2026-01-01",
        expect![[
            r#"lamplighter.toml:4:12: targets.a.max_hold: found the time 2026-01-01; expected a duration above zero and up to 366 days, such as "2h", "90s", "1h30m" or "500ms""#
        ]],
    );
}

#[test]
fn impossible_durations_are_refused() {
    check_line(
        "start_timeout = \"-5m\"",
        expect![[
            r#"lamplighter.toml:4:17: targets.a.start_timeout: "-5m" is not valid; expected a duration above zero and up to 366 days, such as "2h", "90s", "1h30m" or "500ms""#
        ]],
    );
    check_line(
        "settle = \"0s\"",
        expect![[
            r#"lamplighter.toml:4:10: targets.a.settle: "0s" is not valid; expected a duration above zero and up to 366 days, such as "2h", "90s", "1h30m" or "500ms""#
        ]],
    );
    check_line(
        "poll = \"5 parsecs\"",
        expect![[
            r#"lamplighter.toml:4:8: targets.a.poll: "5 parsecs" is not valid; expected a duration above zero and up to 366 days, such as "2h", "90s", "1h30m" or "500ms""#
        ]],
    );
    check_line(
        "unit_check_every = \"never\"",
        expect![[
            r#"lamplighter.toml:4:20: targets.a.unit_check_every: "never" is not valid; expected "off", or a duration above zero and up to 366 days, such as "2h", "90s", "1h30m" or "500ms""#
        ]],
    );
}

#[test]
fn names_and_ids_are_checked() {
    check(
        "[targets.\"Bad Name\"]\nkind = \"ec2-instance\"",
        expect![[
            r#"lamplighter.toml:1:10: targets.Bad Name: the name "Bad Name" is not valid; expected a name of 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"#
        ]],
    );
    check(
        "[targets.\"a\\nb\"]\nkind = \"ec2-instance\"",
        expect![[
            r#"lamplighter.toml:1:10: targets.a\nb: the name "a\nb" is not valid; expected a name of 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"#
        ]],
    );
    check_line(
        "systemd_unit = \"a; reboot\"",
        expect![[
            r#"lamplighter.toml:4:16: targets.a.systemd_unit: "a; reboot" is not valid; expected a systemd unit's name: letters, digits and :_.@- only, at most 128"#
        ]],
    );
    check_line(
        "health = \"ftp://x\"",
        expect![[
            r#"lamplighter.toml:4:10: targets.a.health: "ftp://x" is not valid; expected an address with http:// or https://, in which {private_ip}, {public_ip} and ${secret:NAME} are the only placeholders"#
        ]],
    );
    check_line(
        "health = \"http://${secret:ours/host}/\"",
        expect![[
            r#"lamplighter.toml:4:10: targets.a.health: "http://${secret:ours/host}/": a secret stands in its host: expected it in the user, the path or the query"#
        ]],
    );
    check_line(
        "health = \"http://a/?token=${secret:our token}\"",
        expect![[
            r#"lamplighter.toml:4:10: targets.a.health: "http://a/?token=${secret:our token}": `${secret:our token}` names no secret: expected a secret's name or ARN, and behind `#` a key of it where it is a JSON object"#
        ]],
    );
    let id = |id: &str| format!("[targets.a]\nkind = \"ec2-instance\"\ninstance_id = {id}");
    check(
        &id("\"i-xyz\""),
        expect![[
            r#"lamplighter.toml:3:15: targets.a.instance_id: "i-xyz" is not valid; expected an EC2 instance id: i- and 8 to 17 hex digits in lower case"#
        ]],
    );
    check(
        &id("7"),
        expect![[
            r#"lamplighter.toml:3:15: targets.a.instance_id: found the number 7; expected an instance id, or { secret = "name or ARN", key = "KEY" }"#
        ]],
    );
    check(
        &id("{ secret = \"s\" }"),
        expect![
            "lamplighter.toml:3:1: targets.a.instance_id: key is missing; expected a key of the secret's JSON object"
        ],
    );
    check(
        &id("{ secret = \"a b\", key = \"K\" }"),
        expect![[
            r#"lamplighter.toml:3:26: targets.a.instance_id.secret: "a b" is not valid; expected the name or ARN of a secret"#
        ]],
    );
    check(
        "[targets.a]\nkind = \"ec2-instance\"",
        expect![[
            r#"lamplighter.toml:1:10: targets.a: instance_id is missing; expected instance_id = "i-…", or instance_id = { secret = "name or ARN", key = "KEY" }"#
        ]],
    );
}

#[test]
fn kinds_of_a_later_release_are_refused_as_such() {
    check(
        "[targets.f]\nkind = \"ec2-template\"",
        expect![[
            r#"lamplighter.toml:2:8: targets.f.kind: an ec2-template is no target: each create makes one from it; expected it under [templates.NAME] instead of [targets.NAME]"#
        ]],
    );
    check(
        "[targets.f]\nkind = \"ecs-tenant\"",
        expect![[
            r#"lamplighter.toml:2:8: targets.f.kind: the kind "ecs-tenant" is not in this release; expected "ec2-instance" or "ecs-service""#
        ]],
    );
    check(
        "[targets.f]\nkind = \"ec2-instanz\"",
        expect![[
            r#"lamplighter.toml:2:8: targets.f.kind: unknown kind "ec2-instanz"; did you mean "ec2-instance"?"#
        ]],
    );
    check(
        "[targets.f]\nkind = \"lambda\"",
        expect![[
            r#"lamplighter.toml:2:8: targets.f.kind: unknown kind "lambda"; expected "ec2-instance" or "ecs-service""#
        ]],
    );
    check(
        "[targets.f]\ninstance_id = \"i-01234567\"",
        expect![[
            r#"lamplighter.toml:1:10: targets.f: kind is missing; expected kind = "ec2-instance" or "ecs-service""#
        ]],
    );
}

#[test]
fn a_machine_belongs_to_one_target() {
    let two = |id: &str| {
        format!(
            "[targets.a]\nkind = \"ec2-instance\"\ninstance_id = {id}\n\
             [targets.b]\nkind = \"ec2-instance\"\ninstance_id = {id}\n"
        )
    };
    check(
        &two("\"i-0abc123def456\""),
        expect![
            "lamplighter.toml:6:15: targets.b.instance_id: i-0abc123def456 belongs to target a already (line 3); expected a machine that no other target has"
        ],
    );
    check(
        &two("{ secret = \"s\", key = \"K\" }"),
        expect![
            "lamplighter.toml:6:15: targets.b.instance_id: key K of secret s belongs to target a already (line 3); expected a machine that no other target has"
        ],
    );
}

#[test]
fn references_to_targets_are_checked() {
    check_line(
        "[defaults]\ntarget = \"b\"",
        expect![[
            r#"lamplighter.toml:5:10: defaults.target: no target is named "b"; expected one of a"#
        ]],
    );
    check(
        "[defaults]\ntarget = \"b\"",
        expect![[
            r#"lamplighter.toml:2:10: defaults.target: no target is named "b"; expected a target of this file, which has none"#
        ]],
    );
    check(
        "[queue]\ncommands = \"x\"\ndead_letters = \"x\"",
        expect![[
            r#"lamplighter.toml:1:1: queue: commands and dead_letters are both "x"; expected two queues"#
        ]],
    );
}

#[test]
fn schedules_are_checked() {
    check_line(
        "[schedules.x]\nexpression = \"every day\"\ncommand = {}",
        expect![[
            r#"lamplighter.toml:5:14: schedules.x.expression: "every day" is not an expression; expected "rate(5 minutes)", "cron(0 23 * * ? *)" or "at(2026-12-01T18:00:00)""#
        ]],
    );
    check_line(
        "[schedules.x]\nexpression = \"cron(0 25 * * ? *)\"\ncommand = {}",
        expect![[
            r#"lamplighter.toml:5:14: schedules.x.expression: cron: hours "25" is none of its values; expected 0 to 23 or *, alone or in lists (a,b), ranges (a-b) and steps (a/n)"#
        ]],
    );
    check_line(
        "[schedules.x]\nexpression = \"at(2027-01-01T00:00:00)\"\ncommand = {}",
        expect![[
            r#"lamplighter.toml:5:14: schedules.x.expression: at(…) without a zone: a rule of EventBridge knows rate and cron alone; expected a zone beside it, such as zone = "UTC""#
        ]],
    );
    check_line(
        "[schedules.x]\nexpression = \"rate(1 day)\"\nenabled = \"no\"\ncommand = {}",
        expect![[
            r#"lamplighter.toml:6:11: schedules.x.enabled: found the string "no"; expected true or false"#
        ]],
    );
    check_line(
        "[schedules.x]\nexpression = \"rate(1 day)\"",
        expect![[
            r#"lamplighter.toml:4:12: schedules.x: command is missing; expected command = { action = "…" }"#
        ]],
    );
    check_line(
        "[schedules.\"a b\"]\nexpression = \"rate(1 day)\"",
        expect![
            "lamplighter.toml:4:12: schedules.a b: the name is not valid; expected a rule's name: 1 to 64 letters, digits, '.', '_' and '-'"
        ],
    );
    check_line(
        "[schedules.x]\nexpression = \"rate(1 day)\"\ncommand = \"kill\"",
        expect![[
            r#"lamplighter.toml:6:11: schedules.x.command: found the string "kill"; expected a table"#
        ]],
    );
}

/// A schedule with a zone, and a `[scheduler]`.
#[track_caller]
fn check_zoned(expression: &str, zone: &str, scheduler: &str, expected: Expect) {
    check_line(
        &format!(
            "[schedules.x]\nexpression = \"{expression}\"\nzone = \"{zone}\"\n\
             command = {{ action = \"check-idle\" }}\n[scheduler]\n{scheduler}\n"
        ),
        expected,
    );
}

#[test]
fn a_zone_needs_a_role_and_a_name_and_no_rate() {
    let role = "role = \"arn:aws:iam::123456789012:role/sender\"";
    check_zoned(
        "cron(0 8 * * ? *)",
        "Europe/Berlin",
        "",
        expect![[
            r#"lamplighter.toml:6:8: schedules.x.zone: a schedule with a zone is sent by EventBridge Scheduler, which needs a role; expected [scheduler] role = "arn:aws:iam::…:role/…", a role that scheduler.amazonaws.com may assume and that may send to the command queue"#
        ]],
    );
    check_zoned(
        "cron(0 8 * * ? *)",
        "Europe/Bonn",
        role,
        expect![[
            r#"lamplighter.toml:6:8: schedules.x.zone: no time zone is named "Europe/Bonn"; expected the name of a time zone, such as "Europe/Berlin""#
        ]],
    );
    check_zoned(
        "cron(0 8 * * ? *)",
        "europe/berlin",
        role,
        expect![[
            r#"lamplighter.toml:6:8: schedules.x.zone: no time zone is named "europe/berlin"; expected the name of a time zone, such as "Europe/Berlin""#
        ]],
    );
    check_zoned(
        "rate(5 minutes)",
        "Europe/Berlin",
        role,
        expect![
            "lamplighter.toml:6:8: schedules.x.zone: a rate has no time zone: it counts from when it was made; expected cron(…) beside a zone, or no zone"
        ],
    );
    check_zoned(
        "rate(5 minutes)",
        "UTC",
        "role = \"sender\"",
        expect![[
            r#"lamplighter.toml:9:8: scheduler.role: "sender" is no role; expected the ARN of a role, such as "arn:aws:iam::123456789012:role/lamplighter-scheduler""#
        ]],
    );
    check_zoned(
        "rate(5 minutes)",
        "UTC",
        "group = \"a b\"",
        expect![[
            r#"lamplighter.toml:9:9: scheduler.group: "a b" is not valid; expected 1 to 64 letters, digits, '.', '_' and '-'"#
        ]],
    );
    check_zoned(
        "rate(5 minutes)",
        "UTC",
        "name = \"x\"",
        expect![[
            r#"lamplighter.toml:9:1: scheduler: unknown key "name"; expected one of role, group"#
        ]],
    );
}

#[test]
fn schedules_are_taken_with_their_zones_and_states() {
    let config = fleet(
        r#"
        [targets.a]
        kind = "ec2-instance"
        instance_id = "i-0123456789"
        [scheduler]
        role = "arn:aws:iam::123456789012:role/sender"
        group = "office"
        [schedules.morning]
        expression = "cron(0 8 ? * MON-FRI *)"
        zone = "Europe/Berlin"
        command = { action = "start", target = "a", for = "10h" }
        [schedules.once]
        expression = "at(2027-01-01T00:00:00)"
        zone = "UTC"
        command = { action = "kill", target = "a" }
        [schedules.nightly]
        expression = "cron(0 23 * * ? *)"
        enabled = false
        command = { action = "kill", target = "a" }
        "#,
    )
    .unwrap();
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(config.scheduler.group, "office");
    assert_eq!(config.schedules["morning"].zone_name(), Some("Europe/Berlin"));
    assert_eq!(config.schedules["nightly"].zone_name(), None);
    assert!(config.schedules["morning"].enabled && !config.schedules["nightly"].enabled);
    assert_eq!(config.schedules.len(), config.fleet.rules.len());
    assert_eq!(config.schedules["once"].text, "at(2027-01-01T00:00:00)");
}

/// The warnings about schedules, for a target with an idle policy and these schedules.
#[track_caller]
fn check_warnings(schedules: &str, expected: Expect) {
    let config = fleet(&format!(
        "[targets.a]\nkind = \"ec2-instance\"\ninstance_id = \"i-0123456789\"\n\
         idle = {{ after = \"15m\", cpu = \"< 5\" }}\n[targets.b]\nkind = \"ec2-instance\"\n\
         instance_id = \"i-0abcdef0123\"\n{schedules}"
    ));
    let warnings = config.unwrap().warnings;
    let ours: Vec<String> = warnings.into_iter().filter(|it| it.contains("schedule")).collect();
    expected.assert_debug_eq(&ours);
}

#[test]
fn an_idle_policy_that_nobody_asks_for_is_warned_of() {
    let asks = |command: &str, more: &str| {
        format!("[schedules.x]\nexpression = \"rate(5 minutes)\"\ncommand = {command}\n{more}\n")
    };
    check_warnings(
        "",
        expect![[r#"
        [
            "targets.a.idle: no schedule asks whether a is idle, so nobody will know that it is; expected one such as [schedules.idle-check] with expression = \"rate(5 minutes)\" and command = { action = \"check-idle\" }",
        ]
    "#]],
    );
    check_warnings(
        &asks("{ action = \"check-idle\" }", ""),
        expect![[r#"
        []
    "#]],
    );
    check_warnings(
        &asks("{ action = \"sleep\", target = \"a\" }", ""),
        expect![[r#"
        []
    "#]],
    );
    check_warnings(
        &asks("{ action = \"check-idle\", target = \"b\" }", ""),
        expect![[r#"
        [
            "targets.a.idle: no schedule asks whether a is idle, so nobody will know that it is; expected one such as [schedules.idle-check] with expression = \"rate(5 minutes)\" and command = { action = \"check-idle\" }",
        ]
    "#]],
    );
    check_warnings(
        &asks("{ action = \"check-idle\" }", "enabled = false"),
        expect![[r#"
        [
            "targets.a.idle: no schedule asks whether a is idle, so nobody will know that it is; expected one such as [schedules.idle-check] with expression = \"rate(5 minutes)\" and command = { action = \"check-idle\" }",
        ]
    "#]],
    );
    check_warnings(
        &asks("{ action = \"check-idle\" }", "").replace("rate(5 minutes)", "cron(0 0 31 2 ? *)"),
        expect![[r#"
            [
                "schedules.x: \"cron(0 0 31 2 ? *)\" never fires: no calendar has such a day",
                "targets.a.idle: no schedule asks whether a is idle, so nobody will know that it is; expected one such as [schedules.idle-check] with expression = \"rate(5 minutes)\" and command = { action = \"check-idle\" }",
            ]
        "#]],
    );
}

#[test]
fn the_design_s_schedules_are_taken_and_their_targets_checked() {
    let text = "[targets.a]\nkind = \"ec2-instance\"\ninstance_id = \"i-0123456789\"\n\
                [schedules.nightly]\nexpression = \"cron(0 23 * * ? *)\"\n\
                command = { action = \"kill\", target = \"a\" }\n\
                [schedules.idle-check]\nexpression = \"rate(5 minutes)\"\n\
                command = { action = \"check-idle\" }\n";
    let config = fleet(text).unwrap();
    assert_eq!(config.fleet.rules.len(), 2);
    assert_eq!(config.fleet.rules["nightly"].action, lamplighter_events::Action::Kill);
    assert_eq!(config.warnings, [""; 0]);
    check(
        &text.replace("target = \"a\"", "target = \"b\""),
        expect![[
            r#"lamplighter.toml:6:11: schedules.nightly.command: no target is named "b"; expected one of a"#
        ]],
    );
    check(
        &text.replace("\"kill\"", "\"kil\""),
        expect![[
            r#"lamplighter.toml:6:11: schedules.nightly.command: unknown action "kil"; expected one of start (or wake), stop (or release), kill, status, check-idle (or sleep), keep-alive, create, destroy (or delete), pause, resume"#
        ]],
    );
}

#[cfg(feature = "local")]
#[test]
fn the_local_table_is_checked() {
    check(
        "[local]\nboots = \"1s\"",
        expect![[r#"lamplighter.toml:2:1: local: unknown key "boots"; did you mean "boot"?"#]],
    );
    check(
        "[local]\nboot = \"-1s\"",
        expect![[
            r#"lamplighter.toml:2:8: local.boot: expected a duration of zero or more, such as "3s" or "1m 30s"; got "-1s""#
        ]],
    );
    check_line(
        "[local.machines.b]",
        expect![
            "lamplighter.toml:4:17: local.machines.b: no target has this machine; did you mean \"a\"?"
        ],
    );
    check_line(
        "[local.machines.a.units.u]\nafter_boot = \"bored\"",
        expect![
            "lamplighter.toml:5:14: local.machines.a.units.u.after_boot: unknown variant `bored`, expected one of `active`, `activating`, `inactive`, `failed`"
        ],
    );
    check(
        "[local]\nboot = \"a\\u0007\"",
        expect![[
            r#"lamplighter.toml:2:8: local.boot: "a\u{7}" is not valid; expected a short text without control characters"#
        ]],
    );
    check_line(
        "[local.machines.a.units.u]\nafter_boot = { \"\\r\" = 1 }",
        expect![
            "lamplighter.toml:5:14: local.machines.a.units.u.after_boot: found a table; expected a duration or a word as text, or true or false"
        ],
    );
    check_line(
        "[local.machines.a]\nhost_exit = 300",
        expect![
            "lamplighter.toml:5:13: local.machines.a.host_exit: it is out of range; expected a whole number from 0 to 255"
        ],
    );
    check_line(
        "[local.machines.a]\nstate = \"asleep\"",
        expect![[
            r#"lamplighter.toml:5:9: local.machines.a.state: found the string "asleep"; expected "stopped" or "running""#
        ]],
    );
}

#[test]
fn a_refusal_names_a_few_targets_of_many() {
    let targets = |many: u32| {
        let each = (0..many).map(|index| {
            format!("[targets.t{index}]\nkind = \"ec2-instance\"\ninstance_id = \"i-{index:08}\"\n")
        });
        each.collect::<String>()
    };
    let nobody = "[defaults]\ntarget = \"nobody\"\n";
    check(
        &format!("{nobody}{}", targets(9)),
        expect![[
            r#"lamplighter.toml:2:10: defaults.target: no target is named "nobody"; expected one of t0, t1, t2, t3, t4, t5, t6, t7, …"#
        ]],
    );
    check(
        "[schedules.s]\nexpression = \"rate(1 day)\"\ncommand = { action = \"stop\", target = \"nobody\" }",
        expect![[
            r#"lamplighter.toml:3:11: schedules.s.command: no target is named "nobody"; expected a target of this file, which has none"#
        ]],
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Some("no/such.toml".as_ref()), &BTreeMap::new()).unwrap_err();
    expect!["cannot read the fleet file no/such.toml"].assert_eq(&error.to_string());
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_variable_may_hold_the_files_text_and_says_so_in_errors() {
    let one = "[targets.a]\nkind = \"ec2-instance\"\ninstance_id = \"i-0123456789\"\n";
    let config = load(None, &variables(&[("LAMPLIGHTER_FLEET_TOML", one)])).unwrap();
    assert!(config.fleet.targets.contains_key("a"));
    assert_eq!(config.origin.to_string(), "LAMPLIGHTER_FLEET_TOML");

    let error = load(None, &variables(&[("LAMPLIGHTER_FLEET_TOML", "[targets]\nx = 1\n")]));
    let words = error.unwrap_err().to_string();
    assert!(words.starts_with("LAMPLIGHTER_FLEET_TOML:2:"), "{words}");

    let both = load(Some("f.toml".as_ref()), &variables(&[("LAMPLIGHTER_FLEET_TOML", one)]));
    expect!["environment variable LAMPLIGHTER_FLEET_TOML holds a fleet file, and another is named: f.toml; expected one of them"]
        .assert_eq(&both.unwrap_err().to_string());
}
