//! After an outage: what became dead letters in its course comes back, whole and in its order.
//!
//! *Theory.* A replay keeps a command's id and its time of sending. So it may be partial, in any order,
//! twice, or by several people at once: what repeats dies at the id, and what is older than what was
//! done meanwhile is `superseded`. Each command's one outcome is counted on the bus, where everybody
//! hears it, and not only read from the table.
//!
//! *Not here.* Workers that die, and crowds of them (`chaos`).

use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use crate::harness::{Answer, FLEET, Local, eventually};
use crate::wire::{Ear, Wire};

const LATER: &str = "\n[targets.later]\nkind = \"ec2-instance\"\ninstance_id = \"i-0abc123def499\"\n\
                     settle = \"1s\"\npoll = \"1s\"\n";

/// Faster than anybody would dare, so that a test need not wait.
const AT_ONCE: [&str; 4] = ["dlq", "replay", "--rate", "1000"];

fn replay(local: &Local, which: &[&str]) -> Value {
    let answer = local.run(&[&AT_ONCE, which, &["--json"]].concat());
    answer.is(0).json()
}

fn letters(local: &Local) -> Vec<Value> {
    let letters = local.json(&["dlq", "list"]);
    letters.as_array().cloned().expect("a list")
}

fn outcome(local: &Local, id: &str) -> Option<Value> {
    let outcome: Value =
        serde_json::from_str(&local.run(&["outcome", id, "--json"]).stdout).ok()?;
    outcome["outcome"].is_string().then_some(outcome)
}

#[track_caller]
fn check(local: &Local, id: &str, outcome: &str, cause: Option<&str>) {
    let found = self::outcome(local, id).unwrap_or_else(|| panic!("{id} has no outcome"));
    assert_eq!((&found["outcome"], &found["cause"]), (&json!(outcome), &json!(cause)), "{found}");
}

/// Sends each body a moment after the one before it: SQS stamps milliseconds.
fn send_in_order(wire: &Wire, bodies: &[Value]) -> Vec<String> {
    let mut ids = Vec::new();
    for body in bodies {
        ids.extend(wire.send(&[&body.to_string()]));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    ids
}

/// A worker whose fleet lacks the target parks the messages; one whose fleet has it does them, in the
/// order of their sending, whatever order they come back in.
#[test]
fn what_was_parked_for_a_missing_target_is_done_once_the_fleet_has_it() {
    let wide = format!("{FLEET}{LATER}");
    // The endpoint has the machine; only the worker's fleet lacks it, as before a deployment.
    let local = Local::with_fleet(&wide, &["--no-worker"]);
    std::fs::write(local.fleet(), FLEET).expect("the fleet file");
    let wire = Wire::to(&local);
    let mut ear = Ear::to(&local, &wire);
    let mut narrow = local.worker("narrow", &[]);
    let ids = send_in_order(
        &wire,
        &[
            json!({"action": "start", "target": "later", "holder": "ann"}),
            json!({"action": "start", "target": "later", "holder": "ben", "for": "2h"}),
            json!({"action": "stop", "target": "later", "holder": "ann"}),
            json!({"action": "status", "target": "later"}),
            // An instance is a target, too.
            json!({"action": "start", "instance_id": "i-0abc123def499", "holder": "cat"}),
        ],
    );
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    eventually("all are dead letters", || (letters(&local).len() == 5).then_some(()));
    for letter in letters(&local) {
        assert_eq!(letter["reason"], "unknown-target", "{letter}");
        // Without an id of their own, SQS's first one is theirs, for good.
        assert!(ids.contains(&letter["id"].as_str().unwrap_or_default()), "{letter}");
    }
    assert_eq!(replay(&local, &["--all"])["replayed"], 5);
    eventually("the same worker parks them again", || (letters(&local).len() == 5).then_some(()));
    assert!(ear.outcomes(&wire).is_empty(), "what has no id and is parked has no outcome yet");

    narrow.signal("-TERM");
    assert_eq!(narrow.wait(), 0, "{}", narrow.log());
    std::fs::write(local.fleet(), &wide).expect("the fleet file");
    let _wide = local.worker("wide", &[]);
    let [ann, ben, anns_stop, status, cat] = ids[..] else { panic!("five were sent") };
    // The newer first: ann has left before she is heard to come.
    assert_eq!(replay(&local, &["--id", anns_stop])["replayed"], 1);
    eventually("the stop is done", || outcome(&local, anns_stop));
    let rest = replay(&local, &["--all"]);
    assert_eq!(rest["replayed"], 4);
    for id in [ann, ben, status, cat] {
        eventually("each has its outcome", || outcome(&local, id));
    }
    check(&local, anns_stop, "done", None);
    check(&local, ann, "rejected", Some("superseded"));
    check(&local, ben, "done", None);
    check(&local, status, "done", None);
    check(&local, cat, "done", None);
    let holders = local.json(&["status", "later"])["holds"].clone();
    let holders = holders.as_array().cloned().unwrap_or_default();
    let mut holders: Vec<&str> =
        holders.iter().filter_map(|hold| hold["holder"].as_str()).collect();
    holders.sort_unstable();
    assert_eq!(holders, ["ben", "cat"]);
    assert_eq!(local.count("ec2:StartInstances"), 1);
    wire.await_rest();
    ear.check_one_each(&wire, &ids);

    assert!(letters(&local).is_empty());
    assert_eq!(replay(&local, &["--all"])["replayed"], 0);
    let none = local.run(&[&AT_ONCE[..], &["--id", ben]].concat());
    assert!(none.is(1).stdout.contains("replayed 0"), "{}", none.stdout);
}

/// The table is away for so long that SQS itself moves the messages: nothing is wrong with them, and no
/// worker could write a reason.
#[test]
fn healthy_messages_that_an_outage_of_the_table_made_dead_letters_are_all_recovered() {
    let local = Local::start(&["--no-worker"]);
    let wire = Wire::to(&local);
    let mut ear = Ear::to(&local, &wire);
    // `setup` allows a thousand receives, which is days; here two, which is seconds.
    let redrive = json!({
        "deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:lamplighter-dead-letters",
        "maxReceiveCount": 2,
    });
    wire.set(&wire.commands, QueueAttributeName::RedrivePolicy, &redrive.to_string());
    let down = json!([{"kind": "before", "service": "dynamodb", "status": 503}]);
    local.control("PUT", "faults", &down.to_string());
    let worker = local.worker("worker", &[]);
    let command = |id: &str, action: &str, target: &str, holder: &str| json!({"id": id, "action": action, "target": target, "holder": holder});
    let sent = send_in_order(
        &wire,
        &[
            command("1-ann", "start", "pyelli", "ann"),
            command("2-ben", "start", "pyelli", "ben"),
            command("3-ann-off", "stop", "pyelli", "ann"),
            command("4-cat", "start", "position-keeper", "cat"),
            command("5-dan", "start", "position-keeper", "dan"),
            command("6-kill", "kill", "render-box", "eve"),
            command("7-pause", "pause", "render-box", "eve"),
            command("8-resume", "resume", "render-box", "eve"),
            json!({"action": "status", "target": "pyelli"}),
        ],
    );
    let count = sent.len();
    eventually("SQS has moved them all", || {
        (wire.depth(&wire.commands) == (0, 0) && wire.depth(&wire.dead_letters).0 == count)
            .then_some(())
    });
    let found = letters(&local);
    assert!(found.iter().all(|letter| letter["reason"].is_null()), "{found:?}");
    let shown = local.run(&["dlq", "list"]);
    assert_eq!(shown.is(0).stdout.matches("moved by SQS").count(), count, "{}", shown.stdout);
    // By SQS's id, since there was nobody to read the command's.
    let letter = |id: &str| {
        let at = sent.iter().position(|sent| sent == id).expect("one of those that were sent");
        at + 1
    };
    let mut order: Vec<usize> = found
        .iter()
        .map(|letter_| letter(letter_["message_id"].as_str().unwrap_or_default()))
        .collect();
    assert!(order.is_sorted(), "the list is not in the order of sending: {order:?}");
    order.dedup();
    assert_eq!(order.len(), count);
    assert!(ear.outcomes(&wire).is_empty(), "nothing was decided without a table");

    local.control("DELETE", "faults", "");
    // The worker has come through, and the newest comes back first.
    for at in [2, 7, 8] {
        assert_eq!(replay(&local, &["--id", &sent[at]])["replayed"], 1);
    }
    eventually("the stop is done", || outcome(&local, "3-ann-off"));
    eventually("the resume is done", || outcome(&local, "8-resume"));
    assert_eq!(replay(&local, &["--all"])["replayed"], count - 3);
    let ids = [
        "1-ann",
        "2-ben",
        "3-ann-off",
        "4-cat",
        "5-dan",
        "6-kill",
        "7-pause",
        "8-resume",
        &sent[8],
    ];
    for id in ids {
        eventually("each has its outcome", || outcome(&local, id));
    }
    check(&local, "1-ann", "rejected", Some("superseded"));
    check(&local, "2-ben", "done", None);
    check(&local, "7-pause", "rejected", Some("superseded"));
    check(&local, "6-kill", "done", None);
    assert!(local.json(&["status", "render-box"])["paused"].is_null());
    // One of two wins an exclusive machine; both are told.
    let both =
        ["4-cat", "5-dan"].map(|id| outcome(&local, id).expect("it was there")["outcome"].clone());
    assert!(both.contains(&json!("done")) && both.contains(&json!("rejected")), "{both:?}");
    wire.await_rest();
    ear.check_one_each(&wire, &ids);
    // Two that start in the same moment may share a call.
    let calls = local.control("GET", "calls?since=0", "")["calls"].clone();
    let calls = calls.as_array().expect("a call log");
    for machine in ["i-0abc123def456", "i-01f5d046c86e4f36e"] {
        let starts = calls.iter().filter(|call| call["operation"] == "StartInstances");
        let of_it =
            starts.filter(|call| call["target"].as_str().unwrap_or_default().contains(machine));
        assert_eq!(of_it.count(), 1, "{machine}: {calls:?}");
    }
    assert!(letters(&local).is_empty());
    assert!(!worker.log().contains("panicked"), "{}", worker.log());
}

#[test]
fn replays_side_by_side_and_half_done_ones_do_nothing_twice() {
    let wide = format!("{FLEET}{LATER}");
    let local = Local::with_fleet(&wide, &["--no-worker"]);
    std::fs::write(local.fleet(), FLEET).expect("the fleet file");
    let wire = Wire::to(&local);
    let mut ear = Ear::to(&local, &wire);
    let mut narrow = local.worker("narrow", &[]);
    let bodies: Vec<Value> = (0..40)
        .map(|n| {
            let action = ["start", "status", "check-idle"][n % 3];
            json!({"action": action, "target": "later", "holder": format!("holder-{n}")})
        })
        .collect();
    let bodies: Vec<String> = bodies.iter().map(Value::to_string).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    let ids = wire.send(&bodies);
    eventually("all are dead letters", || {
        (wire.depth(&wire.dead_letters).0 == ids.len()).then_some(())
    });
    narrow.signal("-TERM");
    assert_eq!(narrow.wait(), 0, "{}", narrow.log());
    std::fs::write(local.fleet(), &wide).expect("the fleet file");

    // A replay whose deletes are refused has sent what it cannot take away.
    let fault = json!([{"kind": "before", "service": "sqs", "operation": "DeleteMessage",
        "access_key": "careless", "status": 403, "code": "AccessDenied", "message": "no"}]);
    local.control("PUT", "faults", &fault.to_string());
    for _ in 0..3 {
        let mut careless = local.command();
        careless.env("AWS_ACCESS_KEY_ID", "careless").args(AT_ONCE).arg("--all");
        Answer::of(&mut careless).complains(1, &["sqs:DeleteMessage"]);
    }
    local.control("DELETE", "faults", "");
    assert_eq!(wire.depth(&wire.dead_letters).0, ids.len(), "a letter that was not deleted stays");
    assert_eq!(wire.depth(&wire.commands).0, 3, "each of the three sent one before it stopped");

    let _wide = local.worker("wide", &[]);
    let replayed: u64 = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| replay(&local, &["--all"])["replayed"].as_u64()))
            .collect();
        runs.into_iter().filter_map(|run| run.join().expect("no panic")).sum()
    });
    assert!(replayed >= ids.len() as u64, "{replayed} of {} letters", ids.len());
    for id in &ids {
        eventually("each has its outcome", || outcome(&local, id));
    }
    wire.await_rest();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    ear.check_one_each(&wire, &ids);
    for id in &ids {
        check(&local, id, "done", None);
    }
    assert_eq!(local.count("ec2:StartInstances"), 1);
    assert!(wire.take_all(&wire.dead_letters).is_empty());
}
