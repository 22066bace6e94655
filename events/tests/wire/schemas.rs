//! The schemas in `schemas/` are the ones that the types give. `UPDATE_SCHEMAS=1` writes them anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lamplighter_events::{AttentionKind, Cause, schemas};
use serde_json::json;

#[test]
fn schemas_have_not_drifted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let update = std::env::var_os("UPDATE_SCHEMAS").is_some_and(|value| value == "1");
    let mut expected = BTreeSet::new();
    for (name, schema) in schemas() {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = folder.join(name);
        if update {
            fs::write(&path, &text).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "{name} has drifted from the types; UPDATE_SCHEMAS=1 writes it anew");
        expected.insert(name.to_owned());
    }
    let found: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(found, expected, "a schema that no type gives");
}

#[test]
fn every_schema_is_a_schema_of_2020_12() {
    for (name, schema) in schemas() {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        jsonschema::draft202012::meta::validate(&schema).unwrap();
    }
}

#[test]
fn the_command_schema_refuses_what_the_parser_refuses() {
    let validator = jsonschema::draft202012::new(&schemas()["command.schema.json"]).unwrap();
    for bad in [
        json!({ "action": "restart" }),
        json!({ "action": "start", "holdr": "x" }),
        json!({ "action": "start", "for": "-1h" }),
        json!({ "action": "start", "for": 7200 }),
        json!({ "action": "start", "for": "1h", "until": "2026-12-01T18:00:00Z" }),
        json!({ "action": "start", "target": "position\nkeeper" }),
        json!({ "action": "start", "id": "x".repeat(10_000) }),
        json!({ "action": "start", "reason": "\u{0}" }),
        json!({ "action": "create", "blob_id": { "$ne": "" } }),
        json!({ "action": "sleep", "idle_threshold_mins": 0 }),
        json!([]),
    ] {
        assert!(!validator.is_valid(&bad), "{bad:.80}");
    }
}

#[test]
fn words_on_the_wire_are_those_that_are_displayed() {
    for cause in Cause::ALL {
        assert_eq!(serde_json::to_value(cause).unwrap(), json!(cause.to_string()));
    }
    for kind in [
        AttentionKind::UnitDied,
        AttentionKind::StoppedOutside,
        AttentionKind::StartedOutside,
        AttentionKind::StopOverdue,
        AttentionKind::MetricSilent,
        AttentionKind::LeftFleet,
        AttentionKind::InstanceChanged,
        AttentionKind::BackendUnreachable,
        AttentionKind::Orphan,
        AttentionKind::SpotInterruption,
    ] {
        assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.to_string()));
    }
}
