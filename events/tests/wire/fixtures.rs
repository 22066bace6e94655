//! Each file under `fixtures/` is the body of one message; the `.txt` beside it says what it means, or what
//! is wrong with it. `NAME.attributes.json` holds the message's attributes where there are any.
//! `UPDATE_EXPECT=1` writes the `.txt` files anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use lamplighter_events::{
    Command, EventBody, Inbound, LifecycleEvent, Malformed, Verdict, parse, schemas,
};
use serde_json::Value;

pub(crate) fn rules() -> BTreeMap<String, Command> {
    [
        ("idle-check", serde_json::json!({ "action": "check-idle" })),
        ("nightly", serde_json::json!({ "action": "kill", "target": "fluidity" })),
    ]
    .map(|(rule, command)| (rule.to_owned(), Command::from_json(&command).unwrap()))
    .into()
}

/// The fixtures of one folder by name, in order.
pub(crate) fn fixtures(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.to_string_lossy();
            name.ends_with(".json") && !name.ends_with(".attributes.json")
        })
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no fixtures in {}", folder.display());
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn parsed(path: &Path, body: &str) -> Result<Inbound, Malformed> {
    let attributes = fs::read_to_string(path.with_extension("attributes.json"))
        .map(|text| serde_json::from_str(&text).unwrap())
        .unwrap_or_default();
    parse(body, &attributes, &rules())
}

fn rendered(result: &Result<Inbound, Malformed>) -> String {
    match result {
        Ok(Inbound::Command(command)) => format!("command {}\n", command.to_json()),
        Ok(Inbound::Tick(tick)) => format!("tick {} {}\n", tick.command_id(), tick.to_json()),
        Ok(Inbound::Signal(signal)) => format!("{signal:#?}\n"),
        Ok(Inbound::IdleShard(shard)) => format!("idle-shard {}\n", shard.to_json()),
        Ok(Inbound::WakeUp(wake_up)) => format!("wake-up {}\n", wake_up.to_json()),
        Err(malformed) => {
            let mut text = format!("{}: {malformed}\n", malformed.kind);
            for (name, value) in [
                ("command", malformed.command.as_ref().map(ToString::to_string)),
                ("action", malformed.action.map(|action| action.to_string())),
                ("target", malformed.target.as_ref().map(ToString::to_string)),
            ] {
                if let Some(value) = value {
                    text += &format!("  {name} {value}\n");
                }
            }
            text
        }
    }
}

#[track_caller]
fn check_folder(folder: &str, good: bool) {
    for (path, body) in fixtures(folder) {
        let result = parsed(&path, &body);
        assert_eq!(result.is_ok(), good, "{}: {result:?}", path.display());
        expect_file![path.with_extension("txt")].assert_eq(&rendered(&result));
    }
}

#[test]
fn every_good_fixture_means_what_its_text_says() {
    for folder in ["commands", "envelopes", "signals", "ticks"] {
        check_folder(folder, true);
    }
}

#[test]
fn every_bad_fixture_is_refused_for_the_reason_its_text_gives() {
    check_folder("bad", false);
}

#[test]
fn no_refusal_says_twice_what_was_expected() {
    for (path, body) in fixtures("bad") {
        let malformed = parsed(&path, &body).unwrap_err();
        let told = malformed.message.matches("expected").count();
        assert!(told <= 1, "{}: {malformed}", path.display());
    }
}

#[test]
fn good_fixtures_are_valid_by_their_schemas() {
    for (folder, schema) in [
        ("commands", "command.schema.json"),
        ("signals", "signal.schema.json"),
        ("ticks", "tick.schema.json"),
        ("events", "lifecycle-event.schema.json"),
    ] {
        let validator = jsonschema::draft202012::new(&schemas()[schema]).unwrap();
        for (path, body) in fixtures(folder) {
            let value: Value = serde_json::from_str(&body).unwrap();
            let errors: Vec<String> =
                validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        }
    }
}

#[test]
fn every_event_reads_back_as_it_was_written() {
    let outcome_schema = jsonschema::draft202012::new(&schemas()["outcome.schema.json"]).unwrap();
    for (path, body) in fixtures("events") {
        let event: LifecycleEvent = serde_json::from_str(&body).unwrap();
        let written: Value = serde_json::to_value(&event).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(&body).unwrap(), "{}", path.display());
        let detail_type = match &event.body {
            EventBody::TargetStateChanged { .. } => "Target State Changed",
            EventBody::CommandCompleted { outcome } => {
                assert_ne!(outcome.outcome, Verdict::Rejected);
                "Command Completed"
            }
            EventBody::CommandRejected { outcome } => {
                assert_eq!(outcome.outcome, Verdict::Rejected);
                "Command Rejected"
            }
            EventBody::Attention { .. } => "Attention",
        };
        assert_eq!(event.detail_type(), detail_type);
        if let Some(outcome) = written.get("outcome") {
            assert!(outcome_schema.is_valid(outcome), "{}", path.display());
        }
    }
}

#[test]
fn commands_are_the_same_once_spelled_canonically() {
    for (path, body) in fixtures("commands") {
        let Ok(Inbound::Command(command)) = parsed(&path, &body) else {
            panic!("{} is no command", path.display());
        };
        let again = Command::from_json(&command.to_json()).unwrap();
        assert_eq!(again, command);
        assert_eq!(again.fingerprint(), command.fingerprint());
    }
}
