//! Machines for each request, as people see them: made, shown, ended, and what is left over.
//!
//! *Not here.* What a template may say (the fleet file's own tests), and whether one request is ever two machines
//! (the simulation).

use serde_json::{Value, json};

use crate::harness::{Answer, FLEET, Local, TEMPLATE, eventually, seat, table};

fn fleet() -> String {
    format!("{FLEET}{TEMPLATE}")
}

#[track_caller]
fn says(answer: &Answer, code: i32, words: &[&str]) {
    answer.is(code);
    for word in words {
        let (out, err) = (&answer.stdout, &answer.stderr);
        assert!(out.contains(word), "{word:?} is not in: {out}\n{err}");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// A machine of its own: its target, and its id.
#[track_caller]
fn made(local: &Local, blob: &str) -> (String, String) {
    let made = local.send(&["create", "walrus", "--set", &format!("blob_id={blob}")]);
    assert_eq!(made["outcome"], "done", "{made}");
    let of = |field: &str| text(&made["answer"][field]).to_owned();
    (of("target"), of("instance_id"))
}

#[test]
fn a_machine_is_made_shown_and_ended_by_its_name_and_by_its_id() {
    let local = Local::with_fleet(&fleet(), &[]);
    // The only template need not be named, and the machine's name is known before any worker has heard of it.
    let sent = local.json(&["send", "create", "--set", "blob_id=one", "--id", "c-1"]);
    let first = text(&sent["target"]).to_owned();
    assert!(first.starts_with("walrus.") && first.len() == "walrus.".len() + 16, "{sent}");
    let shown = local.run(&["send", "create", "walrus", "--set", "blob-id=two", "--wait"]);
    let steps = ["provisioning", "waiting_for_instance", "waiting_for_ssm", "fetching_blob"];
    says(&shown, 0, &steps);
    says(&shown, 0, &["sent create of walrus.", "done: ", "instance  i-", "address   "]);
    let outcome = local.outcome("c-1");
    let (answer, machine) = (&outcome["answer"], text(&outcome["answer"]["instance_id"]));
    assert_eq!((&answer["target"], &answer["blob_id"]), (&json!(first), &json!("one")));
    says(&local.run(&["outcome", "c-1"]), 0, &["done: ", "target    walrus.", machine]);

    // status: everything, the template, the machine by its name and by its id.
    let words = ["position-keeper", "template walrus: 2 of 3 machines", &first, machine, "ready"];
    says(&local.run(&["status"]), 0, &words);
    says(
        &local.run(&["status", "walrus", "--live"]),
        0,
        &["blob_id=two", &format!("{first} now: running")],
    );
    let all = local.json(&["status"]);
    assert_eq!(all.as_array().map(Vec::len), Some(5), "{all}");
    let template = local.json(&["status", "walrus"]);
    assert_eq!((&template["taken"], &template["limit"]), (&json!(2), &json!(3)), "{template}");
    assert_eq!(template["machines"].as_array().map(Vec::len), Some(2), "{template}");
    for word in [&first, machine] {
        let one = local.json(&["status", word]);
        assert_eq!((&one["target"], &one["phase"]), (&json!(first), &json!("on")), "{one}");
        assert_eq!((&one["processing_status"], &one["launches"]), (&json!("ready"), &json!(1)));
        assert!(one["cost"].is_f64() && one["public_ip"].is_string(), "{one}");
        let words =
            ["template   walrus", "with       ", "blob_id=one", "cost       ", "launches   1"];
        says(&local.run(&["status", word]), 0, &words);
        says(&local.run(&["why", word]), 0, &[&format!("{first} is on")]);
        says(
            &local.run(&["history", word]),
            0,
            &["RunInstances", "the bootstrap walrus succeeded"],
        );
    }

    // Hands off, for all of them and for one by its id.
    let paused = local.json(&["pause", "--all", "--wait"]);
    assert_eq!(paused.as_array().map(Vec::len), Some(5), "{paused}");
    local.run(&["resume", machine, "--wait"]).is(0);
    local.run(&["resume", "--all", "--wait"]).is(0);

    // Seed 004's clients end what they made by EC2's id.
    let ended = local.run(&["send", "destroy", machine, "--wait"]);
    says(&ended, 0, &[&format!("sent destroy of {first}"), "terminating", "done: "]);
    let template = local.json(&["status", "walrus"]);
    assert_eq!(
        (&template["taken"], template["machines"].as_array().map(Vec::len)),
        (&json!(1), Some(1))
    );
    let all = local.json(&["status", "walrus", "--all"])["machines"].clone();
    let gone = all.as_array().and_then(|all| all.iter().find(|it| it["target"] == first.as_str()));
    let gone = gone.unwrap_or_else(|| panic!("{first} is not in {all}"));
    assert_eq!(
        (&gone["processing_status"], &gone["phase"]),
        (&json!("terminated"), &json!("absent"))
    );
    assert!(gone["ended_at"].is_string(), "{gone}");
    says(&local.run(&["status", "--all"]), 0, &[&first, "terminated"]);
    says(&local.run(&["leaks"]), 0, &["no leaks"]);
}

#[test]
fn a_machine_that_nobody_made_is_named_as_such() {
    let local = Local::with_fleet(&fleet(), &["--no-worker"]);
    let nobody = "walrus.0123456789abcdef";
    local.run(&["status", nobody]).complains(1, &["nothing is known of walrus.0123456789abcdef"]);
    local.run(&["status", "i-0123456789abcdef0"]).complains(1, &["belongs to no target"]);
    local.run(&["why", "walrus"]).complains(2, &["walrus is a template"]);
    says(&local.run(&["status", "walrus"]), 0, &["template walrus: 0 of 3 machines"]);
    for (set, words) in [
        ("blob_id", "NAME=VALUE"),
        ("1=2", "is no parameter's name"),
        ("holder=ann", "field of every command"),
    ] {
        local.run(&["send", "create", "--set", set]).complains(2, &[words]);
    }
    let twice = ["send", "create", "--set", "blob_id=a", "--set", "BLOB_ID=b"];
    local.run(&twice).complains(2, &["twice"]);
}

#[test]
fn what_leaks_is_listed_and_put_right() {
    let local = Local::with_fleet(&fleet(), &["--no-worker"]);
    let mut worker = local.worker("first", &[]);
    let (first, lost) = made(&local, "one");
    let (second, ended) = made(&local, "two");
    assert_ne!(first, second);
    local.run(&["leaks"]).is(0);
    worker.signal("-TERM");
    assert_eq!(worker.wait(), 0, "{}", worker.log());

    // The one's record is lost, the other's machine; a place is taken by nobody.
    let key = json!({"pk": {"S": format!("TARGET#{first}")}, "sk": {"S": "RECORD"}});
    table(&local, "DeleteItem", json!({"Key": key}));
    local.control("POST", &format!("machines/{ended}/terminate"), "");
    eventually("it is terminated", || {
        (local.machine(&ended)["state"] == "terminated").then_some(())
    });
    seat(&local, "walrus", "walrus.0123456789abcdef");
    let found = local.run(&["leaks", "--json"]).is(1).json();
    let list = found.as_array().cloned().expect("a list");
    let leak = |kind: &str, target: &str| {
        let its = |it: &&Value| it["leak"] == kind && it["target"] == target;
        list.iter().find(its).cloned().unwrap_or_else(|| panic!("no {kind} {target} in {found}"))
    };
    let orphan = leak("orphan", &first);
    assert_eq!((&orphan["instance"], &orphan["state"]), (&json!(lost), &json!("running")));
    assert!(orphan["cost"].is_f64() && orphan["age_seconds"].is_u64(), "{orphan}");
    assert_eq!(leak("gone", &second)["instance"], json!(ended));
    leak("stale-place", "walrus.0123456789abcdef");
    // Its place is taken still.
    leak("stale-place", &first);
    let words = ["LEAK", "WHAT TO DO", "orphan", "gone", "stale-place", "a worker adopts it"];
    says(&local.run(&["leaks"]), 1, &words);

    // What is minded is not ended by its id, and nothing else is done then.
    let minded = local.run(&["leaks", "--fix", "--terminate", &ended]);
    minded.complains(1, &["is gone", "Nothing was done"]);
    let fixed = local.run(&["leaks", "--fix", "--terminate", &lost]);
    let words = ["EC2 was told to terminate it", "its place was given back", "a worker was asked"];
    says(&fixed, 1, &words);
    let left = local.run(&["leaks", "--json"]).is(1).json();
    assert_eq!((left.as_array().map(Vec::len), &left[0]["leak"]), (Some(1), &json!("gone")));
    let _worker = local.worker("second", &[]);
    eventually("nothing leaks", || (local.run(&["leaks"]).code == 0).then_some(()));
    assert_eq!(local.machine(&lost)["state"], "terminated");
}
