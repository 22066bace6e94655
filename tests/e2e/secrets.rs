//! Secrets in the addresses of backends: sent to the backend, and to be found nowhere else.

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::backend::{Backend, Says, now};
use crate::harness::{Local, aws_json};

/// What an address would end at, were it not encoded.
const TOKEN: &str = "hunter2/&x=#1";
const ENCODED: &str = "hunter2%2F%26x%3D%231";

fn fleet(url: &str, secrets: &str) -> String {
    format!(
        "[targets.pyelli]\nkind = \"ec2-instance\"\ninstance_id = \"i-00000001\"\nsettle = \"200ms\"\n\
         poll = \"1s\"\nhealth = \"{url}/health?token=${{secret:ours/probe}}\"\n[targets.pyelli.idle]\n\
         after = \"1h\"\nhttp = {{ url = \"{url}/idle?token=${{secret:ours/keys#idle}}\", pointer = \"/last\" }}\n\
         [local]\nboot = \"300ms\"\nagent = \"300ms\"\nstop = \"300ms\"\n{secrets}"
    )
}

#[test]
fn a_secret_of_an_address_reaches_the_backend_and_nothing_else() {
    let paths = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&paths);
    let backend = Backend::start(move |_, path| {
        asked.lock().expect("no test panics here").push(path.to_owned());
        match path.ends_with(&format!("token={ENCODED}")) {
            true => Says::json(&json!({"last": now()})),
            false => Says::Body(403, "text/plain", "who are you?".to_owned()),
        }
    });
    let keys = json!({"idle": TOKEN}).to_string();
    let secrets =
        format!("[local.secrets]\n\"ours/probe\" = '{TOKEN}'\n\"ours/keys\" = '{keys}'\n");
    let local = Local::with_fleet(&fleet(&backend.url, &secrets), &["--no-worker"]);
    let worker = local.worker("worker", &[]);
    let started = local.run(&["send", "start", "pyelli", "--id", "one", "--wait", "--json"]);
    let probed = local.run(&["probe", "pyelli", "--json"]);
    assert_eq!(probed.is(0).json()["probes"][0]["says"], "active", "{}", probed.stdout);
    let checked = local.run(&["send", "check-idle", "pyelli", "--wait", "--json"]);
    let all = [
        started.is(0).stdout.clone(),
        checked.is(0).stdout.clone(),
        probed.stdout,
        local.run(&["check", "--aws"]).is(0).stdout.clone(),
        local.run(&["status", "pyelli", "--json"]).is(0).stdout.clone(),
        local.run(&["history", "pyelli", "--json"]).is(0).stdout.clone(),
        scan(&local),
        worker.log(),
        local.process.log(),
    ];
    for text in all {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let paths = paths.lock().expect("no test panics here").clone();
    for path in ["/health", "/idle"] {
        let wanted = format!("{path}?token={ENCODED}");
        assert!(paths.contains(&wanted), "{paths:?}");
    }
    // Each is read once, and remembered.
    assert_eq!(local.count("secretsmanager:GetSecretValue"), 2 + 1 + 2, "worker, probe, check");
}

/// The whole table, as it is stored.
fn scan(local: &Local) -> String {
    let body = json!({"TableName": "lamplighter"}).to_string();
    let (status, text) = aws_json(&local.endpoint, "dynamodb", "DynamoDB_20120810.Scan", &body);
    assert_eq!((status, text.contains("pyelli")), (200, true), "{text}");
    text
}

#[test]
fn a_secret_that_cannot_be_read_is_named_and_nothing_is_asked() {
    let backend = Backend::start(|_, _| Says::json(&json!({"last": now()})));
    let fleet = fleet(&backend.url, "").replace("settle =", "health_timeout = \"2s\"\nsettle =");
    let local = Local::with_fleet(&fleet, &[]);
    let probed = local.run(&["probe", "pyelli"]);
    assert!(probed.is(0).stdout.contains("the secret ours/keys"), "{}", probed.stdout);
    let started = local.run(&["send", "start", "pyelli", "--wait", "--json"]).is(1).json();
    let said = (started["cause"].as_str(), started["message"].to_string());
    assert_eq!(said.0, Some("unhealthy"), "{started}");
    assert!(said.1.contains("the secret ours/probe"), "{started}");
    assert_eq!(backend.asked(), 0);
    let findings = local.run(&["check", "--aws"]).is(1).stdout.clone();
    for word in ["health: ", "the secret ours/probe"] {
        assert!(findings.contains(word), "{word:?} is not in: {findings}");
    }
}
