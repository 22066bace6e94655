//! Bad input and bad days: each has a clear error in the right place, and loses nothing.

use serde_json::json;

use crate::harness::{Answer, FLEET, Local, aws_json, eventually, lamplighter, send_raw};

/// The reasons in the dead letters, once there are `count`.
fn reasons(local: &Local, count: usize) -> Vec<String> {
    eventually("every bad body is a dead letter", || {
        let letters = local.json(&["dlq", "list", "--limit", "50"]);
        let list = letters.get("letters").unwrap_or(&letters).as_array().cloned()?;
        let reasons: Vec<String> = list
            .iter()
            .map(|letter| letter["reason"].as_str().unwrap_or("no room for one").to_owned())
            .collect();
        (reasons.len() == count).then_some(reasons)
    })
}

#[test]
fn every_bad_body_is_parked_with_its_reason_and_good_ones_go_on() {
    let local = Local::start(&[]);
    let full = format!("{{\"action\":\"start\",\"reason\":\"{}\"}}", "x".repeat(1_048_576 - 32));
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let long_id = json!({"action": "start", "id": "i".repeat(10_000)}).to_string();
    let rows: Vec<(&str, &str)> = vec![
        ("not json", "not-json"),
        ("[1,2]", "not-an-object"),
        ("\"start\"", "not-an-object"),
        ("{}", "no-action"),
        (r#"{"action":"dance"}"#, "unknown-action"),
        (r#"{"action":"start","target":"nobody"}"#, "unknown-target"),
        (r#"{"action":"start","colour":"red"}"#, "unknown-field"),
        (r#"{"action":"start","target":"position-keeper","for":"-1h"}"#, "invalid-field"),
        (r#"{"action":"start","target":"a\nb"}"#, "invalid-field"),
        (&long_id, "invalid-field"),
        // Of a full mebibyte nothing can be added: the reason stands in the log alone.
        (&full, "no room for one"),
        (&deep, "too-deep"),
        (
            r#"{"lamplighter":"tick","rule":"no-such-rule","scheduled":"2026-11-20T10:00:00Z"}"#,
            "unknown-rule",
        ),
    ];
    let bodies: Vec<&str> = rows.iter().map(|(body, _)| *body).collect();
    send_raw(&local, &bodies);
    // A signal of a machine that is nobody's is no news, and no dead letter.
    let foreign = json!({
        "version": "0", "id": "1", "source": "aws.ec2", "account": "1", "region": "us-east-1",
        "time": "2026-11-20T10:00:00Z", "resources": [],
        "detail-type": "EC2 Instance State-change Notification",
        "detail": {"instance-id": "i-0fffffffffffffff0", "state": "running"}
    });
    send_raw(&local, &[&foreign.to_string()]);
    let mut expected: Vec<String> = rows.iter().map(|(_, reason)| (*reason).to_owned()).collect();
    let mut found = reasons(&local, rows.len());
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    local.run(&["send", "start", "pyelli", "--wait"]).is(0);
    assert_eq!(reasons(&local, rows.len()).len(), rows.len());
    // The body never reaches a log.
    assert!(!local.process.log().contains(&"x".repeat(600)));
}

#[track_caller]
fn check_fleet(from: &str, to: &str, words: &[&str]) {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("lamplighter.toml");
    assert!(FLEET.contains(from), "{from}");
    std::fs::write(&path, FLEET.replacen(from, to, 1)).expect("a file");
    let answer = Answer::of(lamplighter().arg("check").arg(&path));
    answer.complains(2, words);
}

#[test]
fn a_wrong_fleet_file_is_refused_with_line_and_expectation() {
    check_fleet("exclusive = true", "exclusive = \"yes\"", &["lamplighter.toml:6", "exclusive"]);
    check_fleet("i-0abc123def456", "i-01f5d046c86e4f36e", &["i-01f5d046c86e4f36e", "pyelli"]);
    check_fleet(
        "settle = \"1s\"",
        "settle = \"5 parsecs\"",
        &["lamplighter.toml:7", "settle", "parsecs"],
    );
    check_fleet("settle = \"1s\"", "settle = \"-1s\"", &["settle"]);
    check_fleet("exclusive", "exclusiv", &["exclusiv", "exclusive"]);
    check_fleet("kind = \"ec2-instance\"", "kind = \"ec3\"", &["kind", "ec2-instance"]);
}

#[test]
fn an_absent_fleet_file_is_named() {
    Answer::of(lamplighter().args(["check", "/nowhere/fleet.toml"]))
        .complains(2, &["/nowhere/fleet.toml"]);
}

#[test]
fn no_credentials_are_a_clear_error() {
    let local = Local::start(&["--no-worker"]);
    let answer = Answer::of(
        local
            .command()
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .args(["send", "start", "pyelli"]),
    );
    answer.complains(1, &["credentials"]);
}

#[test]
fn no_network_is_a_clear_error() {
    let local = Local::start(&["--no-worker"]);
    // A port that nobody listens on.
    let answer = Answer::of(
        local
            .command()
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            .args(["send", "start", "pyelli"]),
    );
    answer.complains(1, &["127.0.0.1:9"]);
}

#[test]
fn a_missing_queue_or_table_says_what_makes_it() {
    let local = Local::start(&["--no-worker"]);
    let fleet = format!("[queue]\ncommands = \"other\"\n[store]\ntable = \"other\"\n{FLEET}");
    let path = local.folder.path().join("other.toml");
    std::fs::write(&path, fleet).expect("a file");
    let other = path.to_str().expect("a plain path");
    local
        .run(&["send", "start", "pyelli", "--fleet", other])
        .complains(1, &["other", "lamplighter setup"]);
    local
        .run(&["status", "pyelli", "--fleet", other])
        .complains(1, &["other", "lamplighter setup"]);
}

#[track_caller]
fn check_secret(value: &str, words: &[&str]) {
    let local = Local::start(&["--no-worker"]);
    let body = json!({"SecretId": "render", "SecretString": value}).to_string();
    let (status, answer) =
        aws_json(&local.endpoint, "secretsmanager", "secretsmanager.PutSecretValue", &body);
    assert_eq!(status, 200, "{answer}");
    let worker = local.worker("worker", &[]);
    let answer = local.run(&["send", "start", "render-box", "--wait", "--json"]);
    let outcome = answer.is(1).json();
    assert_eq!(outcome["outcome"], "failed");
    let message = outcome["message"].as_str().expect("a message");
    for word in words {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    // Nothing of what it holds is shown anywhere.
    assert!(!message.contains("hunter2"), "{message}");
    assert!(!worker.log().contains("hunter2"), "{}", worker.log());
}

#[test]
fn a_secret_that_is_not_json_or_lacks_the_key_fails_the_command_and_shows_nothing_of_itself() {
    check_secret("hunter2", &["render", "JSON"]);
    check_secret(r#"{"DB_PASS":"hunter2"}"#, &["render", "RENDER_INSTANCE"]);
    check_secret(r#"{"RENDER_INSTANCE":"hunter2"}"#, &["RENDER_INSTANCE", "instance id"]);
}

#[test]
fn a_secret_that_is_absent_fails_the_command_with_its_name() {
    let fleet = FLEET.replace("secret = \"render\"", "secret = \"nowhere\"");
    let local = Local::start(&["--no-worker"]);
    std::fs::write(local.fleet(), fleet).expect("a file");
    let _worker = local.worker("worker", &[]);
    let outcome = local.run(&["send", "start", "render-box", "--wait", "--json"]);
    let outcome = outcome.is(1).json();
    assert_eq!(outcome["cause"], "not-found");
    assert!(outcome["message"].as_str().is_some_and(|it| it.contains("nowhere")), "{outcome}");
}
