//! The door, with real sockets: what a request costs in calls, and that whoever waits is answered.
//!
//! The seeds' clients and the attacks are in `tests/door` (Python); here is what only the endpoint's own count shows.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Local, Process, eventually, http};

const FLEET: &str = r#"
[targets.backend]
kind = "ec2-instance"
instance_id = "i-0abc123def456"
settle = "1s"
poll = "1s"
max_hold = "8h"

[http]
auth = "none"
compat = ["pyelli"]
[http.limits]
per_address = 1000

[local]
boot = "500ms"
agent = "300ms"
stop = "300ms"
"#;

const SEND: &str = "sqs:SendMessage";
const READ_ONE: &str = "dynamodb:GetItem";
const READ_MANY: &str = "dynamodb:BatchGetItem";

#[track_caller]
fn ask(local: &Local, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, text) = http(local.door_url(), method, path, &body);
    let json =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {status} {text}"));
    (status, json)
}

#[test]
fn a_command_is_one_message_and_its_outcome_one_read_each_look() {
    // Without a worker nothing else calls.
    let local = Local::with_fleet(FLEET, &["--no-worker"]);
    let before = [SEND, READ_ONE, READ_MANY].map(|call| local.count(call));
    let command = json!({ "action": "start", "target": "backend" });
    let (status, sent) = ask(&local, "POST", "/v1/commands", &command);
    assert_eq!((status, &sent["state"]), (202, &json!("sent")));
    let after = [SEND, READ_ONE, READ_MANY].map(|call| local.count(call));
    assert_eq!(after, [before[0] + 1, before[1], before[2]], "one message, and nothing is read");
    // An id that the caller chose may have been used.
    let began = Instant::now();
    let chosen = json!({ "action": "start", "target": "backend", "id": "mine" });
    let (status, waited) = ask(&local, "POST", "/v1/commands?wait=5", &chosen);
    assert_eq!((status, &waited["state"]), (202, &json!("sent")), "nobody takes it");
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    let last = [SEND, READ_ONE, READ_MANY].map(|call| local.count(call));
    assert_eq!((last[0] - after[0], last[1] - after[1]), (1, 1), "{last:?}");
    // Five a second for three seconds, then one a second; fewer on a loaded machine.
    let looks = last[2] - after[2];
    let most = 20 + began.elapsed().as_secs().saturating_sub(5);
    assert!((1..=most).contains(&looks), "{looks} looks in {:?}", began.elapsed());
    // And none when nobody waits.
    std::thread::sleep(Duration::from_secs(2));
    assert!(local.count(READ_MANY) - last[2] <= 1);
}

#[test]
fn two_hundred_who_wait_share_one_look() {
    let local = Local::with_fleet(FLEET, &["--no-worker"]);
    let before = local.count(READ_MANY);
    let began = Instant::now();
    let each = |at: u32| {
        let door = local.door_url().to_owned();
        std::thread::spawn(move || {
            let command =
                json!({ "action": "keep-alive", "target": "backend", "id": format!("c-{at}") });
            http(&door, "POST", "/v1/commands?wait=6", &command.to_string()).0
        })
    };
    let all: Vec<_> = (0..200).map(each).collect();
    let statuses: Vec<u16> =
        all.into_iter().map(|one| one.join().expect("it is answered")).collect();
    assert!(statuses.iter().all(|status| *status == 202), "{statuses:?}");
    let took = began.elapsed();
    let looks = local.count(READ_MANY) - before;
    // Two batches of a hundred a look, five looks a second at most.
    let most = 2 * 5 * (took.as_secs() + 1);
    assert!(looks <= most, "{looks} reads in {took:?}; each for itself would have made a thousand");
}

#[test]
fn a_command_that_is_waited_for_brings_its_outcome() {
    let local = Local::with_fleet(FLEET, &[]);
    let command = json!({ "action": "start", "target": "backend", "holder": "ann", "id": "first" });
    let (status, done) = ask(&local, "POST", "/v1/commands?wait=60", &command);
    assert_eq!((status, &done["state"]), (200, &json!("done")), "{done}");
    assert_eq!(done["outcome"]["answer"]["started"], true);
    let sent = local.count(SEND);
    let (status, again) = ask(&local, "POST", "/v1/commands?wait=60", &command);
    assert_eq!((status, again == done), (200, true), "{again}");
    assert_eq!(local.count(SEND), sent, "a repetition is answered and not sent");
    let other = json!({ "action": "stop", "target": "backend", "id": "first" });
    let (status, refused) = ask(&local, "POST", "/v1/commands", &other);
    assert_eq!((status, &refused["type"]), (422, &json!("urn:lamplighter:id-used")));
    let (_, target) = ask(&local, "GET", "/v1/targets/backend", &Value::Null);
    assert_eq!((&target["phase"], &target["holder"]), (&json!("on"), &json!("ann")));
    assert_eq!(target["last_outcome"]["command"], "first");
    assert!(
        target["runs"][0]["ready"].is_string() && target["usual_start_seconds"].is_u64(),
        "{target}"
    );
    let (_, by_machine) = ask(&local, "GET", "/v1/targets/i-0abc123def456", &Value::Null);
    assert_eq!(by_machine["target"], "backend");
    let (_, history) = ask(&local, "GET", "/v1/targets/backend/history", &Value::Null);
    assert!(!history["entries"].as_array().expect("entries").is_empty());
}

#[test]
fn an_end_leaves_nobody_without_an_answer() {
    let mut local = Local::with_fleet(FLEET, &["--no-worker"]);
    let door = local.door_url().to_owned();
    let waiting = std::thread::spawn(move || {
        let command = json!({ "action": "start", "target": "backend" }).to_string();
        http(&door, "POST", "/v1/commands?wait=300", &command)
    });
    eventually("it waits", || {
        let (_, text) = http(local.door_url(), "GET", "/metrics", "");
        text.contains("lamplighter_waits 1").then_some(())
    });
    local.process.signal("-TERM");
    let (status, body) = waiting.join().expect("it is answered");
    assert_eq!(status, 202, "{body}");
    assert_eq!(local.process.wait(), 0, "{}", local.process.log());
}

/// A door of its own, and its address.
fn serve(local: &Local, name: &str) -> (Process, String) {
    let mut command = local.command();
    command.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::null());
    let process = Process::spawn(command, &local.folder.path().join(name));
    let address = process.listens_on();
    (process, format!("http://{address}"))
}

/// The door holds nothing that dies with it: another one answers the same key with what the first one's command came to.
#[test]
fn a_door_that_dies_takes_nothing_with_it() {
    let local = Local::with_fleet(FLEET, &[]);
    let (dying, first) = serve(&local, "dying.log");
    let command = json!({ "action": "start", "target": "backend", "id": "mine" }).to_string();
    let sent = local.count(SEND);
    let asking = {
        let command = command.clone();
        // Whoever it was that asked hears nothing.
        std::thread::spawn(move || {
            std::panic::catch_unwind(|| http(&first, "POST", "/v1/commands?wait=60", &command)).ok()
        })
    };
    eventually("its command is on the queue", || (local.count(SEND) > sent).then_some(()));
    dying.signal("-KILL");
    assert!(asking.join().expect("the thread ends").is_none());
    let (_other, second) = serve(&local, "other.log");
    let (status, body) = http(&second, "POST", "/v1/commands?wait=60", &command);
    let done: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &done["state"]), (200, &json!("done")), "{done}");
    assert_eq!(done["outcome"]["answer"]["started"], true);
    assert_eq!(local.count("ec2:StartInstances"), 1);
}
