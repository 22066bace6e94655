//! What an operator does: setup, workers, dead letters, pauses, checks, limits.

use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use crate::harness::{Answer, FLEET, Local, aws_json, eventually, lamplighter, send_raw};
use crate::wire::Wire;

const MACHINE: &str = "i-01f5d046c86e4f36e";

#[test]
fn setup_may_be_repeated_and_a_worker_of_its_own_then_works() {
    let local = Local::start(&["--no-worker"]);
    let again = local.run(&["setup"]);
    again.is(0);
    let worker = local.worker("worker", &[]);
    local.run(&["send", "start", "position-keeper", "--wait"]).is(0);
    worker.signal("-TERM");
    let mut worker = worker;
    assert_eq!(worker.wait(), 0, "{}", worker.log());
}

/// What a container's health check sees, whose worker neither ends nor works.
#[test]
fn health_tells_a_worker_that_hangs_from_one_that_waits() {
    let local = Local::start(&["--no-worker"]);
    let file = local.folder.path().join("alive");
    let path = file.to_str().expect("a plain path");
    let health = || local.run(&["health", "--liveness-file", path]);
    let long_ago = || {
        let at = std::time::SystemTime::now() - std::time::Duration::from_secs(600);
        let file = std::fs::File::options().write(true).open(&file).expect("the liveness file");
        file.set_modified(at).expect("its time can be set");
    };
    health().complains(1, &["does the worker run?"]);
    let unwritable = local.worker("unwritable", &["--liveness-file", "/nowhere/alive"]);
    let mut unwritable = unwritable;
    assert_eq!(unwritable.wait(), 1, "{}", unwritable.log());
    assert!(unwritable.log().contains("/nowhere/alive"), "{}", unwritable.log());

    let worker = local.worker("worker", &["--liveness-file", path]);
    eventually("it gives a sign of life", || (health().code == 0).then_some(()));
    long_ago();
    health().complains(1, &["the worker hangs"]);
    // Each message is a turn of its loop.
    local.run(&["send", "status", "position-keeper", "--wait"]).is(0);
    eventually("its loop turns", || (health().code == 0).then_some(()));
    worker.signal("-STOP");
    long_ago();
    // Running, it would turn at this message.
    local.run(&["send", "status", "position-keeper"]).is(0);
    health().complains(1, &["the worker hangs"]);
    worker.signal("-CONT");
    eventually("it works again", || (health().code == 0).then_some(()));
}

/// Rules are an account's; each fleet has its own place in them.
#[test]
fn setup_of_a_second_fleet_leaves_the_first_its_signals() {
    let local = Local::start(&["--no-worker"]);
    let second = local.folder.path().join("second.toml");
    let names = "[queue]\ncommands = \"second-commands\"\ndead_letters = \"second-dead\"\n\
                 [store]\ntable = \"second\"\n";
    std::fs::write(&second, format!("{names}{}", crate::harness::FLEET)).expect("a file");
    let second = second.to_str().expect("a plain path");
    local.run(&["setup", "--fleet", second]).is(0);
    local.run(&["setup"]).is(0);
    let body = json!({"Rule": "lamplighter-ec2-state"}).to_string();
    let operation = "AWSEvents.ListTargetsByRule";
    let (status, targets) = aws_json(&local.endpoint, "events", operation, &body);
    assert_eq!(status, 200, "{targets}");
    for queue in [":lamplighter-commands\"", ":second-commands\""] {
        assert!(targets.contains(queue), "{queue} is not in {targets}");
    }
}

/// A policy of somebody's may be all that keeps strangers from the queue.
#[test]
fn setup_keeps_what_others_wrote_into_the_queues_policy() {
    let local = Local::start(&["--no-worker"]);
    let sqs = |operation: &str, body: Value| {
        let operation = format!("AmazonSQS.{operation}");
        let (status, answer) = aws_json(&local.endpoint, "sqs", &operation, &body.to_string());
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let answer = sqs("GetQueueUrl", json!({"QueueName": "lamplighter-commands"}));
    let url: Value = serde_json::from_str(&answer).expect("an answer is JSON");
    let url = url["QueueUrl"].clone();
    let put = |policy: &str| {
        sqs("SetQueueAttributes", json!({"QueueUrl": url, "Attributes": {"Policy": policy}}));
    };
    let policy = || {
        let answer =
            sqs("GetQueueAttributes", json!({"QueueUrl": url, "AttributeNames": ["Policy"]}));
        let answer: Value = serde_json::from_str(&answer).expect("an answer is JSON");
        answer["Attributes"]["Policy"].as_str().unwrap_or_default().to_owned()
    };
    // IAM takes a single statement without its list.
    put(r#"{"Version":"2012-10-17","Statement":{"Sid":"OnlyTls","Effect":"Deny"}}"#);
    local.run(&["setup"]).is(0);
    let merged = policy();
    assert!(merged.contains("OnlyTls") && merged.contains("LamplighterRules"), "{merged}");
    let unread = r#"{"Statement": [{"#;
    put(unread);
    local.run(&["setup"]).complains(1, &["policy cannot be read", "left alone"]);
    local.run(&["schedule", "apply"]).complains(1, &["policy cannot be read", "left alone"]);
    assert_eq!(policy(), unread);
}

#[test]
fn a_machine_that_nobody_can_name_hides_no_other_from_the_status() {
    let fleet = crate::harness::FLEET.replace("secret = \"render\"", "secret = \"nowhere\"");
    let local = Local::start(&["--no-worker"]);
    std::fs::write(local.fleet(), fleet).expect("a file");
    let all = local.run(&["status"]);
    assert!(all.is(0).stdout.contains("position-keeper"), "{}", all.stdout);
    assert!(all.stderr.contains("render-box"), "{}", all.stderr);
    local.run(&["status", "render-box"]).complains(1, &["nowhere"]);
}

#[test]
fn sigterm_in_mid_work_loses_nothing() {
    let local = Local::start(&["--no-worker"]);
    let mut first = local.worker("first", &[]);
    let body = r#"{"action":"start","target":"position-keeper","id":"mid"}"#;
    send_raw(&local, &[body]);
    eventually("the start is made", || (local.count("ec2:StartInstances") == 1).then_some(()));
    first.signal("-TERM");
    assert_eq!(first.wait(), 0, "{}", first.log());
    let _second = local.worker("second", &[]);
    eventually("the second worker finishes it", || {
        let answer = local.run(&["outcome", "mid", "--json"]);
        (answer.code == 0 && answer.json()["outcome"] == "done").then_some(())
    });
    assert_eq!(local.count("ec2:StartInstances"), 1);
}

#[test]
fn a_killed_worker_loses_nothing() {
    let local = Local::start(&["--no-worker"]);
    let mut first = local.worker("first", &[]);
    send_raw(&local, &[r#"{"action":"start","target":"position-keeper","id":"mid"}"#]);
    eventually("the start is made", || (local.count("ec2:StartInstances") == 1).then_some(()));
    first.signal("-KILL");
    first.wait();
    let _second = local.worker("second", &[]);
    eventually("the second worker finishes it", || {
        let answer = local.run(&["outcome", "mid", "--json"]);
        (answer.code == 0 && answer.json()["outcome"] == "done").then_some(())
    });
}

#[test]
fn pause_means_hands_off_until_resume() {
    let local = Local::start(&[]);
    local.run(&["pause", "position-keeper"]).is(0);
    eventually("it is paused", || {
        (!local.json(&["status", "position-keeper"])["paused"].is_null()).then_some(())
    });
    local.run(&["send", "start", "position-keeper", "--id", "held"]).is(0);
    Wire::to(&local).await_rest();
    assert_eq!(local.count("ec2:StartInstances"), 0);
    assert!(local.run(&["why", "position-keeper"]).is(0).stdout.contains("paused"));
    local.run(&["resume", "position-keeper"]).is(0);
    eventually("it starts", || {
        let answer = local.run(&["outcome", "held", "--json"]);
        (answer.code == 0 && answer.json()["outcome"] == "done").then_some(())
    });
}

#[test]
fn a_dry_run_prints_decisions_and_changes_nothing() {
    let local = Local::start(&["--no-worker"]);
    let worker = local.worker("dry", &["--dry-run"]);
    send_raw(&local, &[r#"{"action":"start","target":"position-keeper","id":"dry"}"#]);
    eventually("it says what it would do", || {
        worker.log().contains("StartInstances").then_some(())
    });
    assert_eq!(local.count("ec2:StartInstances"), 0);
    assert_eq!(local.count("dynamodb:TransactWriteItems"), 0);
}

#[test]
fn dead_letters_are_listed_shown_and_replayed() {
    let local = Local::start(&[]);
    // The fleet of the worker does not have it yet.
    let bodies = [r#"{"action":"start","target":"later"}"#, "not json at all"];
    send_raw(&local, &bodies);
    let letters = eventually("both are parked", || {
        let letters = local.json(&["dlq", "list"]);
        let list = letters.get("letters").unwrap_or(&letters).as_array().cloned()?;
        (list.len() == 2).then_some(list)
    });
    let reasons: Vec<&str> =
        letters.iter().filter_map(|letter| letter["reason"].as_str()).collect();
    assert!(reasons.contains(&"unknown-target") && reasons.contains(&"not-json"), "{reasons:?}");
    let id = letters.iter().find(|letter| letter["reason"] == "unknown-target");
    let id = id.and_then(|letter| letter["id"].as_str()).expect("a letter has an id").to_owned();
    assert!(local.run(&["dlq", "show", &id]).is(0).stdout.contains("later"));
    // What was parked for its target comes back once the target exists.
    let wider = format!(
        "{}\n[targets.later]\nkind = \"ec2-instance\"\ninstance_id = \"i-0abc123def499\"\n\
         settle = \"1s\"\npoll = \"1s\"\n",
        crate::harness::FLEET
    );
    std::fs::write(local.fleet(), wider).expect("a file");
    local.run(&["dlq", "replay", "--reason", "unknown-target"]).is(0);
    eventually("the other stays, the replayed one is judged anew", || {
        let letters = local.json(&["dlq", "list"]);
        let list = letters.get("letters").unwrap_or(&letters).as_array().cloned()?;
        // The running worker has the old fleet: it is parked again, with the id that it had.
        let again = list.iter().any(|letter| letter["id"] == json!(id));
        (list.len() == 2 && again).then_some(())
    });
}

#[test]
fn what_the_policy_does_not_allow_is_denied_and_named() {
    let folder = tempfile::tempdir().expect("a directory");
    let policy = folder.path().join("policy.json");
    let document = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["sqs:*", "dynamodb:*", "events:*", "ssm:*", "sts:*",
            "ec2:DescribeInstances", "secretsmanager:*", "logs:*"], "Resource": "*"}
    ]});
    std::fs::write(&policy, document.to_string()).expect("a file");
    let local = Local::start(&["--policy", policy.to_str().expect("a plain path")]);
    let outcome = local.run(&["send", "start", "position-keeper", "--wait", "--json"]);
    let outcome = outcome.is(1).json();
    assert_eq!(outcome["cause"], "denied");
    assert!(
        outcome["message"].as_str().is_some_and(|it| it.contains("ec2:StartInstances")),
        "{outcome}"
    );
}

#[test]
fn throttling_lost_answers_and_errors_delay_and_lose_nothing() {
    let local = Local::start(&[]);
    let faults = json!([
        {"kind": "throttle", "service": "ec2", "probability": 0.3},
        {"kind": "after", "service": "dynamodb", "probability": 0.2},
        {"kind": "before", "service": "ssm", "probability": 0.2},
        {"kind": "after", "service": "sqs", "operation": "DeleteMessage", "probability": 0.3}
    ]);
    local.control("PUT", "faults", &faults.to_string());
    local.run(&["send", "start", "position-keeper", "--id", "hard"]);
    eventually("it is on in spite of it", || {
        let answer = local.run(&["outcome", "hard", "--json"]);
        (answer.code == 0 && answer.json()["outcome"] == "done").then_some(())
    });
    local.control("DELETE", "faults", "");
    local.run(&["send", "stop", "position-keeper", "--wait"]).is(0);
}

#[test]
fn check_finds_what_is_missing_and_changes_nothing() {
    let local = Local::start(&["--no-worker"]);
    let before = local.machine(MACHINE);
    let findings = local.run(&["check", "--aws", "--json"]);
    assert!(findings.code <= 1, "{}", findings.stderr);
    assert!(findings.stdout.contains("position-keeper"), "{}", findings.stdout);
    assert_eq!(local.machine(MACHINE)["state"], before["state"]);
}

#[test]
fn a_queue_that_takes_less_than_lamplighter_sends_is_named() {
    let local = Local::start(&["--no-worker"]);
    let wire = Wire::to(&local);
    let said = |words: &str| {
        let findings = local.run(&["check", "--aws"]).stdout;
        findings.contains(words)
    };
    assert!(!said("takes messages of"), "setup makes both queues large enough");
    wire.set(&wire.commands, QueueAttributeName::MaximumMessageSize, "65536");
    assert!(said("takes messages of 65536 bytes"));
    let setup = local.run(&["setup"]).is(0).stdout.clone();
    assert!(setup.contains("its MaximumMessageSize is 65536 bytes and was left alone"), "{setup}");
    wire.set(&wire.commands, QueueAttributeName::MaximumMessageSize, "1048576");
    wire.set(&wire.dead_letters, QueueAttributeName::MaximumMessageSize, "524288");
    assert!(said("the dead-letter queue takes 524288 bytes, the command queue 1048576"));
    // A letter passes the smaller limit: the reason gives way before the time of sending and its mark do.
    let body = format!("poison{}", " ".repeat(524_288 - 156));
    wire.send(&[&body]);
    let _worker = local.worker("worker", &[]);
    let letters = eventually("it is parked", || {
        let letters = local.json(&["dlq", "list"]);
        letters.as_array().filter(|letters| letters.len() == 1).cloned()
    });
    let id = letters[0]["message_id"].as_str().expect("it has one").to_owned();
    let shown = local.json(&["dlq", "show", &id]);
    assert!(shown["attributes"]["lamplighter-sent-at"].is_string(), "{}", shown["attributes"]);
    assert!(shown["attributes"]["reason-message"].is_null(), "{}", shown["attributes"]);
}

/// A message waits for a worker with a newer fleet file, as in a rolling deployment.
#[test]
fn an_old_worker_leaves_what_it_does_not_know_to_a_newer_one() {
    let fleet = FLEET.replace("pyelli", "later");
    let local = Local::with_fleet(&fleet, &["--no-worker"]);
    std::fs::write(local.fleet(), FLEET).expect("the fleet file");
    let mut old = local.worker("old", &["--unknown-wait", "2m"]);
    send_raw(&local, &[r#"{"action":"status","target":"later","id":"known-later"}"#]);
    eventually("the old worker releases it", || {
        old.log().contains("it waits for a worker with a newer fleet file").then_some(())
    });
    std::fs::write(local.fleet(), &fleet).expect("the fleet file");
    let _new = local.worker("new", &["--unknown-wait", "2m"]);
    old.signal("-TERM");
    assert_eq!(old.wait(), 0);
    eventually("the new worker does it", || {
        let answer = local.run(&["outcome", "known-later", "--json"]);
        (answer.code == 0 && answer.json()["outcome"] == "done").then_some(())
    });
    assert_eq!(local.json(&["dlq", "list"]), json!([]));
}

/// The budget is 40 MB resident for the binary that is deployed. This one is a debug build, whose code
/// alone is larger: what is bounded here is the memory it holds beside its own file. The README has the
/// release build's figure.
#[test]
fn an_idle_worker_is_small() {
    let local = Local::start(&["--no-worker"]);
    let worker = local.worker("idle", &[]);
    eventually("it has looked at the fleet and polls", || {
        let polls = local.count("sqs:ReceiveMessage") > 1;
        (polls && local.count("ec2:DescribeInstances") > 0).then_some(())
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid()));
    let Ok(status) = status else { return };
    let kilobytes = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1))
            .and_then(|it| it.parse().ok())
            .unwrap_or(0)
    };
    // Anonymous memory is what the process holds; the rest is the file itself, shared and discardable.
    let held = kilobytes("RssAnon:");
    println!("idle worker: {} kB resident, {held} kB of it anonymous", kilobytes("VmRSS:"));
    assert!(held < 40_000, "{held} kB");
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let answer = Answer::of(lamplighter().args(["completions", shell]));
        assert!(answer.is(0).stdout.contains("lamplighter"));
    }
}
