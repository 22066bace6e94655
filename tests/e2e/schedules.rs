//! The fleet's schedules in AWS: what is planned, what is made, and what is never touched.
//!
//! Most of it against our own endpoint, which counts what was written; one journey against ministack,
//! whose EventBridge fires the rules that `schedule apply` made.

use aws_sdk_eventbridge::types::{RuleState, Tag};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::harness::{FLEET, Local, eventually, lamplighter, sdk_of, send_raw};
use crate::ministack::{Ministack, on_its_own};
use crate::ticks::{QUICK, check_done, done_by};

const QUEUE: &str = "arn:aws:sqs:us-east-1:000000000000:lamplighter-commands";
const OWNER: &str = "lamplighter:managed";
const NIGHTLY: &str = r#"
[schedules.nightly]
expression = "cron(0 23 * * ? *)"
command = { action = "kill", target = "pyelli" }
"#;
const MORNING: &str = r#"
[schedules.morning]
expression = "cron(0 8 ? * MON-FRI *)"
zone = "Europe/Berlin"
command = { action = "start", target = "pyelli" }
"#;
const SCHEDULER: &str = r#"
[scheduler]
role = "arn:aws:iam::000000000000:role/sender"
"#;

fn write_fleet(local: &Local, parts: &[&str]) {
    std::fs::write(local.fleet(), format!("{FLEET}{}", parts.concat())).expect("the fleet file");
}

/// Without schedules yet, and without a worker.
fn quiet(parts: &[&str]) -> Local {
    let local = Local::start(&["--no-worker"]);
    write_fleet(&local, parts);
    local
}

/// `name: change` of each schedule, and of what they need.
fn changes(report: &Value) -> Vec<String> {
    let each = |list: &str, name: &str| -> Vec<String> {
        let list = report[list].as_array().expect("a list");
        let text = |it: &Value, key: &str| it[key].as_str().expect("a text").to_owned();
        list.iter().map(|it| format!("{}: {}", text(it, name), text(it, "change"))).collect()
    };
    [each("needs", "what"), each("schedules", "name")].concat()
}

/// The calls since a number that change something.
fn writes_since(local: &Local, seq: u64) -> Vec<String> {
    let calls = local.control("GET", &format!("calls?since={seq}"), "")["calls"].clone();
    let calls = calls.as_array().expect("a call log");
    let name = |call: &Value| call["operation"].as_str().expect("an operation").to_owned();
    let looks = ["List", "Get", "Describe", "Receive"];
    calls.iter().map(name).filter(|it| !looks.iter().any(|look| it.starts_with(look))).collect()
}

fn last_call(local: &Local) -> u64 {
    let calls = local.control("GET", "calls?since=0", "")["calls"].clone();
    calls.as_array().and_then(|calls| calls.last()?["seq"].as_u64()).unwrap_or(0)
}

async fn events(endpoint: &str) -> aws_sdk_eventbridge::Client {
    aws_sdk_eventbridge::Client::new(&sdk_of(endpoint).await)
}

/// Makes a rule beside Lamplighter, with this owner's tag or none.
fn rule_of(local: &Local, name: &str, owner: Option<&str>) {
    on_its_own(async {
        let tag = owner.map(|it| Tag::builder().key(OWNER).value(it).build().expect("a tag"));
        let call = events(&local.endpoint).await.put_rule().name(name);
        let call = call.schedule_expression("rate(7 days)").description("somebody's");
        call.set_tags(tag.map(|it| vec![it])).send().await.expect("EventBridge takes the rule");
    });
}

/// Expression, state and number of targets of a rule; `None`: there is none.
fn rule(endpoint: &str, name: &str) -> Option<(String, bool, usize)> {
    on_its_own(async {
        let events = events(endpoint).await;
        let rule = events.describe_rule().name(name).send().await.ok()?;
        let targets = events.list_targets_by_rule().rule(name).send().await.expect("its targets");
        let expression = rule.schedule_expression().unwrap_or_default().to_owned();
        Some((expression, rule.state() == Some(&RuleState::Enabled), targets.targets().len()))
    })
}

#[test]
fn a_plan_says_what_apply_does_and_a_second_apply_writes_nothing() {
    let local = quiet(&[NIGHTLY, MORNING, SCHEDULER]);
    let expected = [
        "policy of the command queue: updated",
        "schedule group lamplighter: created",
        "morning: add",
        "nightly: add",
    ];
    let before = last_call(&local);
    assert_eq!(changes(&local.json(&["schedule", "plan"])), expected);
    assert_eq!(writes_since(&local, before), [""; 0], "a plan only looks");
    let said = local.run(&["schedule", "plan"]);
    for line in [
        "add        rule nightly: cron(0 23 * * ? *)\n",
        "add        schedule morning of group lamplighter: cron(0 8 ? * MON-FRI *) in Europe/Berlin\n",
    ] {
        assert!(said.is(0).stdout.contains(line), "{}", said.stdout);
    }
    let said = local.run(&["schedule", "apply"]);
    assert!(said.is(0).stdout.contains("added      rule nightly: "), "{}", said.stdout);
    assert_eq!(rule(&local.endpoint, "nightly"), Some(("cron(0 23 * * ? *)".to_owned(), true, 1)));

    let before = last_call(&local);
    let settled = [
        "policy of the command queue: exists",
        "schedule group lamplighter: exists",
        "morning: unchanged",
        "nightly: unchanged",
    ];
    assert_eq!(changes(&local.json(&["schedule", "apply"])), settled);
    assert_eq!(changes(&local.json(&["schedule", "plan"])), settled);
    assert_eq!(writes_since(&local, before), [""; 0], "all was as it should be");
    // Neither undoes the other's part of the queue's policy.
    assert!(!local.run(&["setup"]).is(0).stdout.contains("updated"));
    assert_eq!(changes(&local.json(&["schedule", "plan"])), settled);
}

#[test]
fn a_change_is_named_from_and_to_and_what_left_the_file_is_removed() {
    let local = quiet(&[NIGHTLY, MORNING, SCHEDULER]);
    local.run(&["schedule", "apply"]).is(0);
    let later = NIGHTLY.replace("0 23", "30 22");
    write_fleet(&local, &[&later]);
    let said = local.run(&["schedule", "plan"]);
    for line in [
        "change     rule nightly: expression from cron(0 23 * * ? *) to cron(30 22 * * ? *)\n",
        "remove     schedule morning of group lamplighter\n",
    ] {
        assert!(said.is(0).stdout.contains(line), "{}", said.stdout);
    }
    local.run(&["schedule", "apply"]).is(0);
    assert_eq!(rule(&local.endpoint, "nightly"), Some(("cron(30 22 * * ? *)".to_owned(), true, 1)));
    // A zone moves it from one service to the other.
    let zoned = later.replace("command", "zone = \"Europe/Berlin\"\ncommand");
    write_fleet(&local, &[&zoned, SCHEDULER]);
    local.run(&["schedule", "apply"]).is(0);
    assert_eq!(rule(&local.endpoint, "nightly"), None);
    let nightly = local.json(&["schedule", "plan"])["schedules"][0].clone();
    assert_eq!(
        (&nightly["change"], &nightly["zone"]),
        (&json!("unchanged"), &json!("Europe/Berlin"))
    );
    write_fleet(&local, &[]);
    local.run(&["schedule", "apply"]).is(0);
    assert_eq!(local.json(&["schedule", "plan"])["schedules"], json!([]));
}

#[test]
fn disabled_stays_disabled_whatever_is_applied() {
    let made_off = "\n[schedules.made-off]\nexpression = \"rate(1 day)\"\nenabled = false\n\
                    command = { action = \"check-idle\" }\n";
    let local = quiet(&[NIGHTLY, MORNING, made_off, SCHEDULER]);
    let early = local.run(&["schedule", "disable", "nightly"]);
    early.complains(1, &["no schedule nightly is in AWS", "lamplighter schedule apply"]);
    local.run(&["schedule", "apply"]).is(0);
    for name in ["nightly", "morning"] {
        assert_eq!(local.json(&["schedule", "disable", name])["changed"], true);
        assert_eq!(local.json(&["schedule", "disable", name])["changed"], false);
    }
    local.run(&["schedule", "enable", "made-off"]).is(0);
    let states = |local: &Local| -> Vec<bool> {
        let report = local.json(&["schedule", "apply"]);
        let list = report["schedules"].as_array().cloned().unwrap_or_default();
        list.iter().map(|it| it["enabled"].as_bool().expect("a state")).collect()
    };
    // made-off, morning, nightly
    assert_eq!(states(&local), [true, false, false]);
    let changed = [NIGHTLY.replace("0 23", "0 22"), MORNING.replace("0 8", "0 9")];
    write_fleet(&local, &[&changed[0], &changed[1], made_off, SCHEDULER]);
    assert_eq!(states(&local), [true, false, false]);
    assert_eq!(rule(&local.endpoint, "nightly"), Some(("cron(0 22 * * ? *)".to_owned(), false, 1)));
    // From a rule to Scheduler it stays off, too.
    let zoned = changed[0].replace("command", "zone = \"UTC\"\ncommand");
    write_fleet(&local, &[&zoned, &changed[1], made_off, SCHEDULER]);
    assert_eq!(states(&local)[..2], [true, false]);
    local.run(&["schedule", "enable", "nightly"]).is(0);
    local.run(&["schedule", "enable", "morning"]).is(0);
    assert_eq!(states(&local), [true, true, true]);
    local.run(&["schedule", "enable", "nightli"]).complains(2, &["did you mean \"nightly\"?"]);
}

#[test]
fn what_is_not_ours_is_named_and_never_touched() {
    let evening = NIGHTLY.replace("nightly", "evening");
    let local = quiet(&[NIGHTLY, &evening, MORNING, SCHEDULER]);
    let other = QUEUE.replace("lamplighter", "another");
    rule_of(&local, "nightly", None);
    rule_of(&local, "theirs", Some(&other));
    rule_of(&local, "anybodys", None);
    let group = json!({"Tags": [{"Key": OWNER, "Value": other}]}).to_string();
    let made = crate::harness::aws_rest(
        &local.endpoint,
        "scheduler",
        "/schedule-groups/lamplighter",
        &group,
    );
    assert_eq!(made.0, 200, "{}", made.1);

    let plan = local.run(&["schedule", "plan"]);
    for line in [
        "not ours   rule nightly: it has no tag lamplighter:managed; it was left alone\n",
        &format!(
            "not ours   schedule morning of group lamplighter: its tag lamplighter:managed names {other}"
        ),
        "add        rule evening: ",
    ] {
        assert!(plan.is(0).stdout.contains(line), "{line}: {}", plan.stdout);
    }
    assert!(!plan.stdout.contains("theirs") && !plan.stdout.contains("anybodys"));
    // The rest is done, and the exit code says that it was not all.
    local.run(&["schedule", "apply"]).is(1);
    assert!(rule(&local.endpoint, "evening").is_some());
    for name in ["nightly", "theirs", "anybodys"] {
        assert_eq!(rule(&local.endpoint, name), Some(("rate(7 days)".to_owned(), true, 0)));
    }
    local.run(&["schedule", "disable", "nightly"]).complains(1, &["is not this fleet's"]);
    write_fleet(&local, &[]);
    local.run(&["schedule", "apply"]).is(0);
    for name in ["nightly", "theirs", "anybodys"] {
        assert_eq!(rule(&local.endpoint, name), Some(("rate(7 days)".to_owned(), true, 0)));
    }
}

#[test]
fn what_was_left_half_done_is_completed_and_lost_answers_do_no_harm() {
    let local = quiet(&[NIGHTLY, MORNING, SCHEDULER]);
    // The rule is made; its target never is, however often it is tried.
    let dies = json!([{"kind": "before", "service": "events", "operation": "PutTargets"}]);
    local.control("PUT", "faults", &dies.to_string());
    local.run(&["schedule", "apply"]).complains(1, &["rule nightly", "events:PutTargets"]);
    assert_eq!(rule(&local.endpoint, "nightly"), Some(("cron(0 23 * * ? *)".to_owned(), true, 0)));
    local.control("PUT", "faults", "[]");
    let half = local.json(&["schedule", "plan"]);
    let nightly = &half["schedules"][1];
    assert_eq!((&nightly["name"], &nightly["change"]), (&json!("nightly"), &json!("change")));
    assert_eq!(nightly["differences"][1]["what"], "queue", "{nightly}");

    // It is done, and each answer is lost once.
    let lost = |service: &str, operations: &[&str]| {
        let each = operations.iter().map(|operation| {
            json!({"kind": "after", "service": service, "operation": operation, "count": 1})
        });
        let faults: Vec<Value> = each.collect();
        local.control("PUT", "faults", &json!(faults).to_string());
        let report = local.json(&["schedule", "apply"]);
        let left = local.control("GET", "faults", "")["faults"].clone();
        let left = left.as_array().cloned().expect("a list of faults");
        assert!(left.iter().all(|fault| fault["count"] == 0), "none is lost: {left:?}");
        report
    };
    lost("events", &["PutTargets"]);
    write_fleet(&local, &[]);
    lost("events", &["RemoveTargets", "DeleteRule"]);
    assert_eq!(rule(&local.endpoint, "nightly"), None);
    let other_group = SCHEDULER.to_owned() + "group = \"other\"\n";
    write_fleet(&local, &[MORNING, &other_group]);
    lost("scheduler", &["CreateScheduleGroup", "CreateSchedule"]);
    write_fleet(&local, &[&MORNING.replace("0 8", "0 9"), &other_group]);
    lost("scheduler", &["UpdateSchedule"]);
    let settled = local.json(&["schedule", "plan"]);
    assert_eq!(changes(&settled)[2..], ["morning: unchanged"]);
    // The group of another name is found again by its tag.
    write_fleet(&local, &[]);
    let report = lost("scheduler", &["DeleteSchedule"]);
    assert_eq!(changes(&report)[1..], ["morning: remove"]);
    assert_eq!(local.json(&["schedule", "plan"])["schedules"], json!([]));
}

/// The ids of the starts of pyelli that are done.
fn starts(local: &Local) -> Vec<String> {
    let history = local.json(&["history", "pyelli"]);
    let id = |entry: &Value| {
        let rest = entry["what"].as_str()?.strip_prefix("start by default (")?;
        let (id, rest) = rest.split_once("): ")?;
        rest.starts_with("done").then(|| id.to_owned())
    };
    history.as_array().expect("a list").iter().filter_map(id).collect()
}

#[test]
fn local_fires_a_schedule_by_its_zone_and_a_tick_that_comes_twice_is_one_command() {
    let soon = Timestamp::now() + SignedDuration::from_secs(20);
    let zone = jiff::tz::TimeZone::get("Asia/Tokyo").expect("a zone");
    let shown = soon.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let once = format!(
        "\n[schedules.once]\nexpression = \"at({shown})\"\nzone = \"Asia/Tokyo\"\n\
         command = {{ action = \"start\", target = \"pyelli\" }}\n"
    );
    let local = Local::with_fleet(&format!("{FLEET}{once}{SCHEDULER}"), &[]);
    let due = Timestamp::from_second(soon.as_second()).expect("a time").to_string();
    let id = format!("tick:once:{due}");
    eventually("the tick's command is done", || (starts(&local) == [id.clone()]).then_some(()));
    let again = json!({"lamplighter": "tick", "rule": "once", "scheduled": due}).to_string();
    send_raw(&local, &[&again, &again]);
    let stop = json!({"action": "stop", "target": "pyelli", "id": "after"}).to_string();
    send_raw(&local, &[&stop]);
    eventually("the stop is done", || (local.run(&["outcome", "after"]).code == 0).then_some(()));
    eventually("it is off, and stays so", || {
        (local.json(&["status", "pyelli"])["phase"] == "off").then_some(())
    });
    assert_eq!(starts(&local), [id]);
    assert_eq!(local.count("ec2:StartInstances"), 1);
    assert_eq!(local.json(&["dlq", "list"]), json!([]));
}

#[test]
fn local_applies_the_files_schedules_at_each_start() {
    let data = tempfile::tempdir().expect("a directory");
    let data = data.path().to_str().expect("a plain path").to_owned();
    let arguments = ["--no-worker", "--data", &data];
    let fleet = |parts: &[&str]| format!("{FLEET}{}", parts.concat());
    let local = Local::with_fleet(&fleet(&[NIGHTLY, MORNING, SCHEDULER]), &arguments);
    local.run(&["schedule", "disable", "morning"]).is(0);
    let path = local.fleet().to_owned();
    let evening = NIGHTLY.replace("nightly", "evening");
    let changed = fleet(&[&evening, MORNING, SCHEDULER]);
    let local = local.restart_after(
        "-INT",
        || std::fs::write(path, changed).expect("the fleet file"),
        &arguments,
    );
    let report = local.json(&["schedule", "plan"]);
    assert_eq!(changes(&report)[2..], ["evening: unchanged", "morning: unchanged"]);
    assert_eq!(report["schedules"][1]["enabled"], false, "what was kept has its state");
    assert_eq!(rule(&local.endpoint, "nightly"), None);
}

#[test]
fn what_comes_next_is_printed_without_asking_anybody() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("lamplighter.toml");
    let never = NIGHTLY.replace("nightly", "never").replace("* * ?", "31 2 ?");
    let often = "\n[schedules.often]\nexpression = \"rate(5 minutes)\"\n\
                 command = { action = \"check-idle\" }\n";
    let fleet = [FLEET, NIGHTLY, MORNING, &never, often, SCHEDULER].concat();
    std::fs::write(&path, fleet).expect("the fleet file");
    // No credentials, no region, no endpoint.
    let next = |more: &[&str]| {
        let mut command = lamplighter();
        command.args(["schedule", "next", "--fleet"]).arg(&path).args(more);
        crate::harness::Answer::of(&mut command)
    };
    let said = next(&["--count", "12"]);
    let text = &said.is(0).stdout;
    for part in [
        "often fires every 5 minutes",
        "never never fires again",
        "kill pyelli",
        "08:00 CE",
        "(Europe/Berlin)",
        "T23:00:00Z",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let one = next(&["--count", "3", "--name", "morning", "--json"]).json();
    let firings = one["firings"].as_array().expect("a list");
    assert_eq!(firings.len(), 3);
    assert!(firings.iter().all(|it| it["zone"] == "Europe/Berlin" && it["name"] == "morning"));
    next(&["--name", "mornin"]).complains(2, &["did you mean \"morning\"?"]);
}

#[test]
fn without_a_queue_or_a_file_it_says_what_to_do() {
    let local = quiet(&["\n[queue]\ncommands = \"nowhere\"\n", NIGHTLY]);
    local.run(&["schedule", "plan"]).complains(1, &["nowhere does not exist", "lamplighter setup"]);
    let mut command = local.command();
    command.env_remove("LAMPLIGHTER_FLEET").env("INSTANCE_ID", "i-0123456789abcdef0");
    command.args(["schedule", "apply"]).current_dir(local.folder.path().join("."));
    std::fs::remove_file(local.fleet()).expect("it was there");
    crate::harness::Answer::of(&mut command).complains(2, &["schedules are in a fleet file"]);
}

#[test]
fn a_rule_that_apply_made_in_ministack_ticks_and_its_command_is_done() {
    let more = [
        "[schedules.often]\nexpression = \"rate(1 minute)\"\n\
         command = { action = \"start\", target = \"plain\", holder = \"often\" }\n",
        "[schedules.zoned]\nexpression = \"cron(0 8 * * ? *)\"\nzone = \"Europe/Berlin\"\nenabled = false\n\
         command = { action = \"start\", target = \"plain\", holder = \"zoned\" }\n",
        SCHEDULER,
    ]
    .concat();
    let Some(stack) = Ministack::working_with(&["-c", QUICK], &more) else { return };
    let made = ["often: add", "zoned: add"];
    assert_eq!(changes(&stack.json(&["schedule", "apply"]))[2..], made);
    let ids = eventually("two ticks are done", || {
        let ids = done_by(&stack, "often");
        (ids.len() >= 2 && ids[0] != ids[1]).then_some(ids)
    });
    assert!(ids.iter().all(|id| id.starts_with("tick:often:20")), "{ids:?}");
    check_done(&stack, &ids[0]);
    stack.run(&["schedule", "disable", "often"]).is(0);
    let again = stack.json(&["schedule", "apply"]);
    let settled = ["often: unchanged", "zoned: unchanged"];
    assert_eq!(changes(&again)[2..], settled, "{again}");
    assert_eq!(rule(&stack.endpoint, "often"), Some(("rate(1 minute)".to_owned(), false, 1)));
    assert!(stack.reasons().is_empty(), "{:?}", stack.reasons());
}
