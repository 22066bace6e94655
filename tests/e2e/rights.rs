//! The policies of `infra/` are enough for their jobs, and allow nothing that their jobs do not use.
//!
//! *Theory.* The endpoint denies by default and logs, with each call, what its caller's policy was asked
//! for. So one broad run under a policy shows both: a call that it does not allow is denied, and a right
//! that no call asked for is left over. A right is one action of one statement: an action that two
//! statements allow, on two resources, must be used on both.
//!
//! What the endpoint asks for is compared with AWS's own reference, which says of each action which resources it
//! takes.
//!
//! *Not here.* What IAM does beyond an identity's own policy (roles, boundaries, keys of KMS).

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::harness::{
    Answer, FLEET, Local, Process, TEMPLATE, eventually, sdk_of, seat, send_raw, tag,
};

const REGION_AND_ACCOUNT: &str = "us-east-1:000000000000";

/// A policy of `infra/`, its marks filled in for the endpoint, as its README says.
fn shipped(file: &str, queues: [&str; 2], table: &str, bus: &str) -> String {
    let path = format!("{}/../infra/{file}", env!("CARGO_MANIFEST_DIR"));
    let policy = std::fs::read_to_string(path).expect("the policy is there");
    let marks = [
        ("REGION:ACCOUNT", REGION_AND_ACCOUNT),
        ("REGION", "us-east-1"),
        ("ACCOUNT", "000000000000"),
        ("SCHEDULE_GROUP", "lamplighter"),
        ("SCHEDULER_ROLE", "sender"),
        ("COMMAND_QUEUE", queues[0]),
        ("DEAD_LETTER_QUEUE", queues[1]),
        ("TABLE", table),
        ("BUS", bus),
        ("SECRET_NAME", "render"),
        ("LAUNCH_TEMPLATE", "lt-0123456789abcdef0"),
        ("INSTANCE_PROFILE_ROLE", "models"),
        ("BOOTSTRAP_DOCUMENT", "Models"),
        ("IMAGE_PARAMETER", "aws/service/ami-amazon-linux-latest/*"),
    ];
    marks.iter().fold(policy, |policy, (mark, value)| policy.replace(mark, value))
}

fn with_default_names(file: &str) -> String {
    let queues = ["lamplighter-commands", "lamplighter-dead-letters"];
    shipped(file, queues, "lamplighter", "default")
}

/// One right: the statement's name and the action.
type Right = (String, String);

fn texts(value: &Value) -> Vec<String> {
    let many = value.as_array().map(Vec::as_slice).unwrap_or(std::slice::from_ref(value));
    many.iter().map(|text| text.as_str().expect("text").to_owned()).collect()
}

fn statements(policy: &str) -> Vec<Value> {
    let policy: Value = serde_json::from_str(policy).expect("a policy is JSON");
    policy["Statement"].as_array().cloned().expect("it has statements")
}

fn rights_of(policy: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for statement in statements(policy) {
        let sid = statement["Sid"].as_str().expect("each statement has a name").to_owned();
        for action in texts(&statement["Action"]) {
            assert!(!action.contains('*'), "{sid}: {action} is not one action");
            let new = rights.insert((sid.clone(), action.clone()));
            assert!(new, "{sid} names {action} twice");
        }
    }
    rights
}

/// The rights that a call asked for, as the endpoint logged it: `sqs:SendMessage arn:…`.
fn asked_by<'c>(policy: &str, calls: impl Iterator<Item = &'c Value>) -> BTreeSet<Right> {
    let statements = statements(policy);
    let mut used = BTreeSet::new();
    for right in calls.flat_map(|call| texts(&call["rights"])) {
        let (action, resource) = right.split_once(' ').expect("an action and a resource");
        for statement in &statements {
            let covers = texts(&statement["Resource"]).iter().any(|it| fits(it, resource));
            if covers && texts(&statement["Action"]).iter().any(|it| it == action) {
                let sid = statement["Sid"].as_str().unwrap_or_default();
                used.insert((sid.to_owned(), action.to_owned()));
            }
        }
    }
    used
}

/// IAM's own wildcards: `*` is any text, `?` one character.
fn fits(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = &pattern[1..];
            (0..=text.len()).any(|at| text.is_char_boundary(at) && fits(rest, &text[at..]))
        }
        (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
            fits(&pattern[wanted.len_utf8()..], &text[found.len_utf8()..])
        }
        _ => false,
    }
}

/// AWS's Service Authorization Reference, of the actions that the policies name.
static REFERENCE: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../worker/local/src/iam/actions.json");
    serde_json::from_str::<Value>(text).expect("it is JSON")["actions"].take()
});

/// Each action of a call that the reference knows was asked for a resource of a type that it takes, and for one
/// of each type that it demands; an action without resources was asked for `*`.
#[track_caller]
fn is_as_the_reference_has_it(call: &Value) {
    let rights = texts(&call["rights"]);
    let rights: Vec<(&str, &str)> = rights.iter().filter_map(|it| it.split_once(' ')).collect();
    for (action, resource) in &rights {
        let Some(known) = REFERENCE.get(action) else { continue };
        let types = known["resources"].as_object().cloned().unwrap_or_default();
        let is_of =
            |kind: &Value, resource: &str| fits(kind["arn"].as_str().unwrap_or_default(), resource);
        if types.is_empty() {
            assert_eq!(*resource, "*", "{action} knows no resources: {call}");
            continue;
        }
        let taken = types.values().any(|kind| is_of(kind, resource));
        assert!(taken, "{action} does not take {resource}, but {types:?}");
        for (name, kind) in types.iter().filter(|(_, kind)| kind["required"] == true) {
            let same = rights.iter().filter(|(other, _)| other == action);
            let asked = same.into_iter().any(|(_, resource)| is_of(kind, resource));
            assert!(asked, "{action} needs a right to its {name}, and none was asked for: {call}");
        }
    }
}

#[test]
fn a_right_that_is_not_used_is_found() {
    let policy = json!({"Statement": [
        {"Sid": "A", "Action": ["s:Get", "s:Put"], "Resource": "arn:one"},
        {"Sid": "B", "Action": "s:Get", "Resource": ["arn:two", "arn:th*-??"]},
    ]});
    let right = |sid: &str, action: &str| (sid.to_owned(), action.to_owned());
    let all = BTreeSet::from([right("A", "s:Get"), right("A", "s:Put"), right("B", "s:Get")]);
    assert_eq!(rights_of(&policy.to_string()), all);
    let call = |right: &str| json!({"rights": [right]});
    let calls = [call("s:Get arn:one"), call("s:Put arn:two"), json!({"rights": []})];
    let used = asked_by(&policy.to_string(), calls.iter());
    assert_eq!(used, [right("A", "s:Get")].into());
    let used = asked_by(&policy.to_string(), [call("s:Get arn:three-77")].iter());
    assert_eq!(used, [right("B", "s:Get")].into());
    assert!(!fits("arn:th*-??", "arn:three-7") && fits("*", "") && !fits("a", ""));
}

/// A caller with a policy and a key of its own.
struct Caller<'l> {
    local: &'l Local,
    key: &'static str,
    policy: String,
}

impl<'l> Caller<'l> {
    fn bound(local: &'l Local, key: &'static str, policy: String) -> Self {
        local.control("PUT", &format!("policy?access_key={key}"), &policy);
        Self { local, key, policy }
    }

    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> Answer {
        let mut command = self.local.command();
        let answer = Answer::of(command.env("AWS_ACCESS_KEY_ID", self.key).args(arguments));
        answer.is(code);
        answer
    }

    fn serve(&self, arguments: &[&str]) -> Process {
        let mut command = self.local.command();
        command.env("AWS_ACCESS_KEY_ID", self.key).args(arguments).stdout(Stdio::null());
        let log = self.local.folder.path().join(format!("{}-{}.log", self.key, arguments[0]));
        Process::spawn(command, &log)
    }

    /// Nothing was denied, and every right was used.
    #[track_caller]
    fn needs_just_this(&self) {
        let calls = self.local.control("GET", "calls?since=0", "")["calls"].clone();
        let calls = calls.as_array().expect("a call log");
        let own = || calls.iter().filter(|call| call["access_key"] == self.key);
        let is_denied = |call: &&Value| {
            let outcome = call["outcome"].as_str().unwrap_or_default();
            outcome.contains("Denied") || outcome.contains("Unauthorized")
        };
        let denied: Vec<&Value> = own().filter(is_denied).collect();
        assert!(denied.is_empty(), "{} may not: {denied:#?}", self.key);
        for call in own() {
            is_as_the_reference_has_it(call);
        }
        let used = asked_by(&self.policy, own());
        let unused: Vec<Right> = rights_of(&self.policy).difference(&used).cloned().collect();
        assert!(unused.is_empty(), "{} may, and never does: {unused:#?}", self.key);
    }
}

/// A service whose health and bounds are minded, and whose idleness a metric tells.
const SERVICE: &str = r#"
[targets.fluidity]
kind = "ecs-service"
cluster = "fluidity-prod"
service = "fluidity-server-prod"
healthy = true
settle = "0s"
poll = "1s"
[targets.fluidity.idle]
after = "1h"
metrics = [{ namespace = "Fluidity", name = "ActiveConnections", idle_when = "== 0" }]
"#;
/// And the world it lives in, after `[local]`'s other tables. Scaling's least is 0, or scaling itself would start it.
const SERVICE_WORLD: &str = r#"
[local.services.fluidity]
running = 0
health_check = true
scaling = { min = 0, max = 4 }
"#;

/// Beside [`TEMPLATE`] one whose bootstrap is a document, and a subnet that the fleet names. The launch template
/// has all that needs a right of its own: a profile, a snapshot, and an image that a parameter names.
fn templates() -> String {
    let profile = "boot = \"500ms\"\nprofile = \"models\"\nsnapshot = \"snap-0123456789abcdef0\"\n\
                   image = \"resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023\"";
    let document = TEMPLATE
        .split("[local")
        .next()
        .expect("the template's own table")
        .replace("templates.walrus", "templates.models")
        .replace("bootstrap = \"walrus\"", "bootstrap = { document = \"Models\" }")
        .replace("limit = 3", "limit = 3\nsubnets = [\"subnet-0123456789abcdef0\"]");
    format!("{document}{}", TEMPLATE.replacen("boot = \"500ms\"", profile, 1))
}

#[test]
fn the_workers_policy_is_just_what_run_and_check_need() {
    let fleet = FLEET.replacen(
        "instance_id = \"i-0abc123def456\"",
        "instance_id = \"i-0abc123def456\"\nlog_group = \"/pyelli\"",
        1,
    );
    // Office hours that are minded, however far away.
    let hours = "[targets.pyelli.hours]\nweekly = \"Sun 03:00-03:01\"\nzone = \"UTC\"\n";
    let fleet = format!("{SERVICE}{hours}{fleet}{SERVICE_WORLD}{}", templates());
    let local = Local::with_fleet(&fleet, &["--no-worker"]);
    let caller = Caller::bound(&local, "worker", with_default_names("worker-policy.json"));
    let worker = caller.serve(&["run"]);
    eventually("the office hours are minded", || {
        (local.json(&["status", "pyelli"])["rev"].as_u64() > Some(0)).then_some(())
    });
    // A message that must be given back, and a check whose answer is lost and must be looked for.
    let faults = json!([
        {"kind": "throttle", "service": "dynamodb", "operation": "GetItem", "count": 3,
         "access_key": "worker"},
        {"kind": "after", "service": "ssm", "operation": "SendCommand", "count": 1,
         "access_key": "worker"},
    ]);
    local.control("PUT", "faults", &faults.to_string());
    local.run(&["send", "start", "position-keeper", "--wait"]).is(0);
    local.run(&["send", "start", "render-box", "--wait"]).is(1);
    local.run(&["send", "status", "position-keeper", "--wait"]).is(0);
    local.run(&["send", "start", "fluidity", "--wait"]).is(0);
    local.run(&["send", "check-idle", "fluidity", "--wait"]).is(0);
    local.run(&["send", "kill", "fluidity", "--wait"]).is(0);
    let made = local.send(&["create", "walrus", "--set", "blob_id=abc"]);
    assert_eq!(made["outcome"], "done", "{made}");
    let machine = made["answer"]["instance_id"].as_str().expect("an instance id");
    local.run(&["send", "destroy", machine, "--wait"]).is(0);
    // What the document does there is no matter of rights.
    local.send(&["create", "models"]);
    caller.run(&["check", "--aws"], 0);
    send_raw(&local, &["poison"]);
    local.run(&["send", "stop", "position-keeper", "--wait"]).is(0);
    eventually("the poison is parked", || {
        (local.json(&["dlq", "list"]).as_array().map(Vec::len) == Some(1)).then_some(())
    });
    assert!(worker.log().contains("back to the queue"), "{}", worker.log());
    caller.needs_just_this();
}

#[test]
fn the_policy_for_setup_is_just_what_setup_needs() {
    let local = Local::start(&["--no-worker"]);
    let names = "[queue]\ncommands = \"other\"\ndead_letters = \"other-dead\"\n[store]\n\
                 table = \"other\"\n[events]\nbus = \"other-bus\"\n";
    let path = local.folder.path().join("other.toml");
    std::fs::write(&path, format!("{names}{FLEET}")).expect("a file");
    let fleet = path.to_str().expect("a plain path");
    // The endpoint has rules already, as every `lamplighter local`.
    forget_the_rules(&local);
    let policy = shipped("setup-policy.json", ["other", "other-dead"], "other", "other-bus");
    let caller = Caller::bound(&local, "setup", policy);
    for arguments in [&["setup", "--dry-run"][..], &["setup"], &["setup"]] {
        caller.run(&[arguments, &["--fleet", fleet]].concat(), 0);
    }
    caller.needs_just_this();
}

fn forget_the_rules(local: &Local) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let events = aws_sdk_eventbridge::Client::new(&sdk_of(&local.endpoint).await);
        for rule in ["lamplighter-ec2-state", "lamplighter-ssm-command", "lamplighter-ecs-task"] {
            let remove = events.remove_targets().rule(rule).ids("lamplighter-commands");
            remove.send().await.expect("EventBridge removes the target");
            events.delete_rule().name(rule).send().await.expect("EventBridge deletes the rule");
        }
    });
}

#[test]
fn the_schedule_policy_is_just_what_schedules_need() {
    let local = Local::start(&["--no-worker"]);
    let caller = Caller::bound(&local, "planner", with_default_names("schedule-policy.json"));
    let rule = "[schedules.nightly]\nexpression = \"cron(0 23 * * ? *)\"\n\
                command = { action = \"kill\", target = \"pyelli\" }\n";
    let zoned = "[schedules.morning]\nexpression = \"cron(0 8 * * ? *)\"\nzone = \"Europe/Berlin\"\n\
                 command = { action = \"start\", target = \"pyelli\" }\n\
                 [scheduler]\nrole = \"arn:aws:iam::000000000000:role/sender\"\n";
    let fleet = |schedules: &str| {
        std::fs::write(local.fleet(), format!("{FLEET}{schedules}")).expect("the fleet file");
    };
    let both = format!("{rule}{zoned}");
    fleet(&both);
    caller.run(&["schedule", "plan"], 0);
    caller.run(&["schedule", "apply"], 0);
    for switch in ["disable", "enable"] {
        caller.run(&["schedule", switch, "nightly"], 0);
        caller.run(&["schedule", switch, "morning"], 0);
    }
    fleet(&both.replace("cron(0 23", "cron(0 22").replace("cron(0 8", "cron(0 7"));
    caller.run(&["schedule", "apply"], 0);
    fleet("");
    caller.run(&["schedule", "apply"], 0);
    caller.needs_just_this();

    // A rule that is not this fleet's is out of its reach, whatever it asks for.
    let foreign = json!({"Name": "theirs", "ScheduleExpression": "rate(1 day)"});
    crate::harness::aws_json(&local.endpoint, "events", "AWSEvents.PutRule", &foreign.to_string());
    let policy = caller.policy;
    local.control("PUT", "policy?access_key=test", &policy);
    for operation in ["DeleteRule", "DisableRule", "PutRule"] {
        let target = format!("AWSEvents.{operation}");
        let (status, said) =
            crate::harness::aws_json(&local.endpoint, "events", &target, &foreign.to_string());
        assert_eq!((status, said.contains("not authorized")), (400, true), "{operation}: {said}");
    }
}

#[test]
fn the_operators_policy_is_just_what_asking_and_looking_need() {
    let local = Local::with_fleet(&format!("{SERVICE}{FLEET}{SERVICE_WORLD}{TEMPLATE}"), &[]);
    let caller = Caller::bound(&local, "operator", with_default_names("operator-policy.json"));
    caller
        .run(&["send", "start", "position-keeper", "--holder", "ann", "--id", "one", "--wait"], 0);
    caller.run(&["outcome", "one"], 0);
    caller.run(&["pause", "--all", "--wait"], 0);
    caller.run(&["resume", "--all", "--wait"], 0);
    for verb in ["status", "why", "history"] {
        caller.run(&[verb, "position-keeper"], 0);
    }
    caller.run(&["status"], 0);
    caller.run(&["status", "--live"], 0);
    // While its tasks come up, they are looked at.
    local.run(&["send", "wake", "fluidity"]).is(0);
    for _ in 0..20 {
        caller.run(&["status", "fluidity", "--live"], 0);
    }
    local.run(&["send", "wake", "fluidity", "--wait"]).is(0);
    caller.run(&["probe", "fluidity"], 0);
    let mut watch = caller.serve(&["watch"]);
    send_raw(&local, &["poison", r#"{"action":"start","target":"nobody","id":"lost"}"#]);
    eventually("both are parked", || {
        let letters = caller.run(&["dlq", "list", "--json"], 0).json();
        (letters.as_array().map(Vec::len) == Some(2)).then_some(())
    });
    caller.run(&["dlq", "show", "lost"], 0);
    caller.run(&["dlq", "replay", "--reason", "not-json"], 0);
    caller.run(&["status", "--all"], 0);
    caller.run(&["leaks"], 0);
    seat(&local, "walrus", "walrus.0123456789abcdef");
    let pyelli = "i-0abc123def456";
    tag(&local, pyelli, &[("lamplighter:owner", "lamplighter-commands")]);
    caller.run(&["leaks", "--fix", "--terminate", pyelli], 0);
    caller.run(&["leaks"], 0);
    watch.signal("-INT");
    assert_eq!(watch.wait(), 0, "{}", watch.log());
    caller.needs_just_this();
}

#[test]
fn without_the_right_to_launch_nothing_is_left_behind() {
    let local = Local::with_fleet(&format!("{FLEET}{}", templates()), &["--no-worker"]);
    let policy = with_default_names("worker-policy.json");
    let mut without: Value = serde_json::from_str(&policy).expect("a policy is JSON");
    let all = statements(&policy).into_iter();
    let kept = all.filter(|one| !texts(&one["Action"]).contains(&"ec2:RunInstances".to_owned()));
    without["Statement"] = kept.collect();
    let caller = Caller::bound(&local, "worker", without.to_string());
    let _worker = caller.serve(&["run"]);
    let refused = local.send(&["create", "walrus", "--set", "blob_id=abc"]);
    let said = (&refused["outcome"], &refused["cause"]);
    assert_eq!(said, (&json!("failed"), &json!("denied")), "{refused}");
    let machines = local.control("GET", "machines", "")["machines"].clone();
    let machines = machines.as_array().expect("a list of machines");
    assert!(machines.iter().all(|it| it["state"] != "running"), "{machines:?}");
    eventually("its place is free again", || {
        (local.json(&["status", "walrus"])["taken"] == 0).then_some(())
    });
    local.run(&["leaks"]).is(0);
}

#[test]
fn a_machine_without_the_tag_is_not_touched() {
    let local = Local::start(&["--no-worker"]);
    let caller = Caller::bound(&local, "worker", with_default_names("worker-policy.json"));
    let _worker = caller.serve(&["run"]);
    let machine = "i-0abc123def456";
    tag(&local, machine, &[("lamplighter:managed", "false")]);
    let outcome = local.run(&["send", "start", "pyelli", "--wait", "--json"]).is(1).json();
    assert_eq!((&outcome["outcome"], &outcome["cause"]), (&json!("failed"), &json!("denied")));
    assert_eq!(local.machine(machine)["state"], "stopped");
    // The others are ours as before.
    local.run(&["send", "start", "position-keeper", "--wait"]).is(0);
}

#[test]
fn rights_that_arrive_seconds_after_a_deploy_fail_no_command() {
    let local = Local::start(&["--no-worker"]);
    let full = with_default_names("worker-policy.json");
    let mut early: Value = serde_json::from_str(&full).expect("a policy is JSON");
    let lacking = ["ec2:DescribeInstances", "ec2:StartInstances"];
    for statement in early["Statement"].as_array_mut().expect("it has statements") {
        let left: Vec<String> = texts(&statement["Action"])
            .into_iter()
            .filter(|action| !lacking.contains(&action.as_str()))
            .collect();
        // A statement without an action is none.
        statement["Action"] = if left.is_empty() { json!("none:Nothing") } else { json!(left) };
    }
    let caller = Caller::bound(&local, "worker", early.to_string());
    local.control("PUT", "policy?access_key=worker&after=4s", &full);
    let _worker = caller.serve(&["run"]);
    let done = local.send(&["start", "position-keeper"]);
    assert_eq!(done["outcome"], "done", "{done}");
    let calls = local.control("GET", "calls?since=0", "")["calls"].clone();
    let denied =
        |call: &Value| call["access_key"] == "worker" && call["outcome"] == "UnauthorizedOperation";
    let denied = calls.as_array().expect("a call log").iter().filter(|call| denied(call)).count();
    assert!((1..8).contains(&denied), "{denied} denied calls");
}
