//! Traces, metrics and logs of a command, as a collector hears them.
//!
//! The collector is the test's own: OTLP/HTTP with JSON, on a free port. It keeps all that was posted,
//! word for word, so that "nothing secret leaves" is asked of everything that left.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::{Answer, FLEET, Local, aws_json, eventually, send_raw};

/// What no log and no exporter may say: in a secret of the fleet, and in bodies that are parked.
const SECRET: &str = "hunter2-swordfish";

/// Path and body of each post.
type Posts = Arc<Mutex<Vec<(String, String)>>>;

struct Collector {
    endpoint: String,
    posts: Posts,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let posts = Posts::default();
        let kept = Arc::clone(&posts);
        // Its threads end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || take(&stream, &kept));
            }
        });
        Self { endpoint, posts }
    }

    /// What makes a process of ours tell everything, and soon.
    fn env(&self) -> Vec<(&str, &str)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &self.endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
            ("LAMPLIGHTER_LOG_FORMAT", "json"),
        ]
    }

    fn send(&self, local: &Local, arguments: &[&str]) -> Answer {
        Answer::of(local.command().envs(self.env()).arg("send").args(arguments).arg("--json"))
    }

    fn everything(&self) -> String {
        let posts = self.posts.lock().expect("no test thread panicked");
        posts.iter().map(|(path, body)| format!("{path} {body}\n")).collect()
    }

    /// The innermost lists of every post to `path`: `resource…` → `scope…` → `items`.
    fn items(&self, path: &str, resource: &str, scope: &str, items: &str) -> Vec<Value> {
        let posts = self.posts.lock().expect("no test thread panicked");
        let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
        posts
            .iter()
            .filter(|(posted, _)| posted == path)
            .map(|(_, body)| serde_json::from_str::<Value>(body).expect("OTLP in JSON"))
            .flat_map(|body| list(&body, resource))
            .flat_map(|body| list(&body, scope))
            .flat_map(|body| list(&body, items))
            .collect()
    }

    fn spans(&self) -> Vec<Value> {
        self.items("/v1/traces", "resourceSpans", "scopeSpans", "spans")
    }

    /// The labels of each data point of a metric.
    fn points(&self, metric: &str) -> Vec<Value> {
        self.items("/v1/metrics", "resourceMetrics", "scopeMetrics", "metrics")
            .iter()
            .filter(|found| found["name"] == metric)
            .flat_map(|found| {
                ["sum", "gauge", "histogram"]
                    .iter()
                    .find_map(|form| found[form]["dataPoints"].as_array().cloned())
                    .unwrap_or_default()
            })
            .collect()
    }

    #[track_caller]
    fn check_metric(&self, metric: &str, labels: &[(&str, &str)]) {
        let points = self.points(metric);
        let found = points
            .iter()
            .any(|point| labels.iter().all(|(key, value)| attribute(point, key) == Some(*value)));
        assert!(found, "{metric} with {labels:?} is not among {points:?}");
    }
}

fn take(stream: &TcpStream, posts: &Posts) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).is_err() || header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        // Kept before it is answered: whoever was answered may look.
        let body = String::from_utf8(body).expect("JSON is text");
        posts.lock().expect("no test thread panicked").push((path, body));
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        let mut stream = stream;
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// An attribute that is a string.
fn attribute<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    of["attributes"]
        .as_array()?
        .iter()
        .find(|attribute| attribute["key"] == key)
        .and_then(|attribute| attribute["value"]["stringValue"].as_str())
}

fn nanos(span: &Value, key: &str) -> u128 {
    span[key].as_str().and_then(|text| text.parse().ok()).expect("a time in nanoseconds")
}

/// Whether the command's outcome was told in this pass.
fn tells_outcome(pass: &Value, command: &str) -> bool {
    pass["events"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|event| event["name"] == "outcome" && attribute(event, "command") == Some(command))
}

#[test]
fn one_trace_covers_the_sender_the_command_its_wake_ups_and_its_signals_until_the_outcome() {
    let collector = Collector::start();
    let mut local = Local::with_env(FLEET, &collector.env(), &[]);
    for action in ["start", "stop"] {
        collector.send(&local, &[action, "position-keeper", "--id", action, "--wait"]).is(0);
    }
    local.process.signal("-INT");
    assert_eq!(local.process.wait(), 0, "{}", local.process.log());

    let spans = collector.spans();
    let senders = spans.iter().filter(|span| span["name"] == "send").count();
    assert_eq!(senders, 2, "{spans:#?}");
    let mut passes: Vec<&Value> = spans
        .iter()
        .filter(|span| span["name"] == "pass")
        .filter(|pass| attribute(pass, "target_name") == Some("position-keeper"))
        .collect();
    passes.sort_by_key(|pass| nanos(pass, "startTimeUnixNano"));
    let mut asked_by = BTreeSet::new();
    for command in ["start", "stop"] {
        let taken = passes.iter().position(|pass| attribute(pass, "command") == Some(command));
        let taken = taken.expect("a pass took the command");
        let told = passes.iter().position(|pass| tells_outcome(pass, command));
        let told = told.expect("a pass told the outcome");
        assert!(taken < told, "{passes:#?}");
        let trace = &passes[taken]["traceId"];
        let sender = spans.iter().find(|span| span["name"] == "send" && &span["traceId"] == trace);
        let sender = sender.expect("the trace begins at the sender");
        for pass in &passes[taken..=told] {
            assert_eq!(&pass["traceId"], trace, "{pass}");
            assert_eq!(pass["parentSpanId"], sender["spanId"], "{pass}");
            asked_by.extend(attribute(pass, "asked_by"));
        }
    }
    assert_eq!(asked_by, BTreeSet::from(["command", "nudge", "wake-up"]));
}

#[test]
fn a_sender_that_exports_nothing_hands_on_the_trace_of_its_caller() {
    let collector = Collector::start();
    let mut local = Local::with_env(FLEET, &collector.env(), &[]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut send = local.command();
    send.env("TRACEPARENT", format!("00-{trace}-00f067aa0ba902b7-01"));
    Answer::of(send.args(["send", "start", "pyelli", "--id", "called", "--wait"])).is(0);
    local.process.signal("-INT");
    assert_eq!(local.process.wait(), 0, "{}", local.process.log());
    let spans = collector.spans();
    let told = spans.iter().find(|span| span["name"] == "pass" && tells_outcome(span, "called"));
    assert_eq!(told.expect("a pass told the outcome")["traceId"], trace);
}

#[test]
fn metrics_are_told_by_action_kind_and_cause_and_nothing_secret_is_told_at_all() {
    let collector = Collector::start();
    let mut local = Local::with_env(FLEET, &collector.env(), &[]);
    hide_in_the_secret(&local);
    collector.send(&local, &["start", "position-keeper", "--holder", "a", "--wait"]).is(0);
    collector.send(&local, &["start", "position-keeper", "--holder", "b", "--wait"]).is(1);
    collector.send(&local, &["start", "render-box", "--wait"]).is(1);
    let field = json!({"action": "start", "target": "pyelli", "password": SECRET}).to_string();
    let text = format!("{SECRET} is no JSON");
    send_raw(&local, &[&text, &format!("[\"{SECRET}\"]"), &field]);
    eventually("each is a dead letter", || {
        let letters = local.json(&["dlq", "list"]);
        (letters.as_array().map(Vec::len) == Some(3)).then_some(())
    });
    local.process.signal("-INT");
    assert_eq!(local.process.wait(), 0, "{}", local.process.log());

    let kind = ("kind", "ec2-instance");
    let start = ("action", "start");
    collector.check_metric("lamplighter.messages.received", &[]);
    collector.check_metric("lamplighter.messages.in_flight", &[]);
    collector.check_metric("lamplighter.messages.oldest_age", &[]);
    collector.check_metric("lamplighter.commands.done", &[start, kind]);
    collector.check_metric("lamplighter.commands.rejected", &[start, kind, ("cause", "conflict")]);
    collector.check_metric("lamplighter.commands.failed", &[start, kind, ("cause", "unit-failed")]);
    collector.check_metric("lamplighter.command.duration", &[start, kind]);
    collector.check_metric("lamplighter.command.to_ready", &[kind]);
    for reason in ["not-json", "not-an-object", "unknown-field"] {
        collector.check_metric("lamplighter.messages.parked", &[("reason", reason)]);
    }

    let log = local.process.log();
    let lines: Vec<Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(lines.len(), log.lines().count(), "a line is not JSON: {log}");
    assert!(lines.iter().any(|line| line["message"] == "outcome" && line["took_ms"].is_u64()));
    assert!(!log.contains(SECRET), "{log}");
    assert!(!collector.everything().contains(SECRET), "{}", collector.everything());
}

/// Beside the machine's id, as a fleet's secret has other things in it.
fn hide_in_the_secret(local: &Local) {
    let call = |operation: &str, body: Value| {
        let operation = format!("secretsmanager.{operation}");
        let (status, answer) =
            aws_json(&local.endpoint, "secretsmanager", &operation, &body.to_string());
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).expect("Secrets Manager answers JSON")
    };
    let there = call("GetSecretValue", json!({"SecretId": "render"}));
    let text = there["SecretString"].as_str().expect("a secret's text");
    let mut value: Value = serde_json::from_str(text).expect("a fleet's secret is JSON");
    value["DB_PASS"] = SECRET.into();
    call("PutSecretValue", json!({"SecretId": "render", "SecretString": value.to_string()}));
}
