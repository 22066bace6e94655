//! The table of decisions: for each operation that this crate calls and each error code that AWS declares or
//! publishes for it, what the code means.
//!
//! `errors/declared.json` comes from AWS's service models (`tests/errors/declared.py`), `errors/published.json` from
//! AWS's documents. `errors/decisions.txt` is written by this test with `UPDATE_DECISIONS=1`, so that a change of a
//! meaning shows in review.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(folder("errors").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn codes(list: &Value) -> impl Iterator<Item = String> {
    list.as_array().into_iter().flatten().map(|code| code.as_str().unwrap().to_owned())
}

/// The codes of each operation.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let (declared, published) = (json("declared.json"), json("published.json"));
    let mut table = BTreeMap::new();
    for (operation, list) in declared.as_object().unwrap() {
        let (service, name) = operation.split_once(':').unwrap();
        let of = |service: &str, name: &str| codes(&published[service][name]);
        let all = codes(list).chain(of("*", "*")).chain(of(service, "*")).chain(of(service, name));
        table.insert(operation.clone(), all.collect());
    }
    table
}

fn decision(operation: &str, code: &str) -> String {
    let meaning = meaning(operation, ErrorCode::parse(Some(code), 400));
    let disposition = match meaning.disposition {
        Disposition::Retry => "retry".to_owned(),
        Disposition::RetryAfter(pause) => format!("retry after {} s", pause.as_secs()),
        Disposition::Park => "park".to_owned(),
        Disposition::Newer => "newer".to_owned(),
        Disposition::Fail => "fail".to_owned(),
    };
    let applied = match meaning.applied {
        Applied::No => "",
        Applied::Perhaps => ", may have happened",
    };
    format!("{}, {disposition}{applied}", meaning.cause)
}

fn decisions() -> String {
    let mut text =
        "# Written by `UPDATE_DECISIONS=1 cargo nextest run -p lamplighter-aws decisions`.\n"
            .to_owned();
    for (operation, codes) in table() {
        let mut by_decision: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for code in codes {
            by_decision.entry(decision(&operation, &code)).or_default().push(code);
        }
        text.push_str(&format!("\n{operation}\n"));
        for (decision, codes) in by_decision {
            text.push_str(&format!("  {decision}: {}\n", codes.join(" ")));
        }
    }
    text
}

#[test]
fn each_code_that_aws_names_has_a_decided_meaning() {
    for (operation, codes) in table() {
        for code in codes {
            let parsed = ErrorCode::parse(Some(&code), 400);
            assert!(!matches!(parsed, ErrorCode::Unknown(_)), "{operation}: {code} is not decided");
        }
    }
}

#[test]
fn the_decisions_are_those_that_were_reviewed() {
    let file = folder("errors/decisions.txt");
    if std::env::var_os("UPDATE_DECISIONS").is_some() {
        std::fs::write(&file, decisions()).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let hint = "write it anew with UPDATE_DECISIONS=1, and review the difference";
    assert!(written == decisions(), "{} is out of date: {hint}", file.display());
}

fn sources(folder: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, texts);
        } else if path.extension().is_some_and(|it| it == "rs")
            && !path.ends_with("tests.rs")
            && !path.ends_with("table.rs")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            texts.push(shipped.to_owned());
        }
    }
}

/// What stands in quotes and has the form of an operation.
fn operations_in(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').filter(|text| {
        let Some((service, name)) = text.split_once(':') else { return false };
        // A condition key of a policy has the same form.
        let service_fits = service != "aws"
            && service.starts_with(|c: char| c.is_ascii_lowercase())
            && service.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let name_fits = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|b| b.is_ascii_alphanumeric());
        service_fits && name_fits
    })
}

#[test]
fn each_operation_that_is_called_is_in_the_table() {
    let mut texts = Vec::new();
    sources(&folder("src"), &mut texts);
    let called: BTreeSet<&str> = texts.iter().flat_map(|text| operations_in(text)).collect();
    assert!(called.len() > 40, "found only {} operations: has the crate moved?", called.len());
    let table = table();
    let missing: Vec<&&str> = called.iter().filter(|it| !table.contains_key(**it)).collect();
    assert!(missing.is_empty(), "{missing:?}: run tests/errors/declared.py --write");
    let found: Vec<&str> = operations_in("call(\"ec2:NewThing\", \"a: B\", \"x:y\")").collect();
    assert_eq!(found, ["ec2:NewThing"]);
}
