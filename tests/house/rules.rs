//! The checkers: a file's text in, findings out. They read nothing and know no path but the file's own.

use std::fmt;

use serde_json::Value;

use crate::code::{blanked, is_word};
use crate::tree::File;

/// A file longer than this says why: what one cannot read in a sitting has to earn it.
const LINES_MAX: usize = 800;
/// Where the reason for its length has to stand.
const REASON_WITHIN_LINES: usize = 40;

/// What was found, and where.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

fn at(file: &File, line: usize, what: impl Into<String>) -> Finding {
    Finding { file: file.path.clone(), line, what: what.into() }
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// Where `needle` stands in `text`, as a word of its own on each side that is a letter (so `rand` is not
/// found in `random`, but `aws_sdk_` is in `aws_sdk_ec2`).
fn places(text: &str, needle: &str) -> Vec<usize> {
    let whole_left = needle.starts_with(is_word);
    let whole_right = needle.ends_with(char::is_alphanumeric);
    text.match_indices(needle)
        .map(|(offset, _)| offset)
        .filter(|offset| !(whole_left && text[..*offset].ends_with(is_word)))
        .filter(|offset| !(whole_right && text[offset + needle.len()..].starts_with(is_word)))
        .collect()
}

fn words(file: &File, text: &str, needles: &[&str]) -> Vec<Finding> {
    let found = needles.iter().flat_map(|needle| {
        let places = places(text, needle);
        places.into_iter().map(move |offset| at(file, line_of(text, offset), format!("`{needle}`")))
    });
    found.collect()
}

fn code_words(file: &File, needles: &[&str]) -> Vec<Finding> {
    words(file, &blanked(&file.text), needles)
}

pub(crate) fn clocks_and_dice(file: &File) -> Vec<Finding> {
    code_words(
        file,
        &[
            "::now",
            "SystemTime",
            "std::time::Instant",
            "UNIX_EPOCH",
            "rand",
            "getrandom",
            "thread_rng",
            "new_v4",
            "RandomState",
            "tokio",
        ],
    )
}

pub(crate) fn sdk_names(file: &File) -> Vec<Finding> {
    code_words(file, &["aws_sdk_", "aws_smithy", "aws_config", "aws_types", "aws_credential"])
}

pub(crate) fn tokio_or_awsim(file: &File) -> Vec<Finding> {
    code_words(file, &["tokio", "awsim", "awsim_"])
}

pub(crate) fn untyped_errors(file: &File) -> Vec<Finding> {
    code_words(file, &["anyhow"])
}

pub(crate) fn unordered_maps(file: &File) -> Vec<Finding> {
    code_words(file, &["HashMap", "HashSet"])
}

pub(crate) fn left_undone(file: &File) -> Vec<Finding> {
    let mut findings = code_words(file, &["todo!", "unimplemented!", "dbg!"]);
    // In pieces, or this line would be found itself. In comments too, where they are at home.
    findings.extend(words(file, &file.text, &[concat!("FIX", "ME"), concat!("XX", "X")]));
    findings
}

pub(crate) fn unbiased_selects(file: &File) -> Vec<Finding> {
    let code = blanked(&file.text);
    let selects = places(&code, "select!").into_iter().filter(|offset| {
        let inside = code[offset + "select!".len()..].trim_start();
        let inside = inside.strip_prefix(['{', '(', '[']).unwrap_or(inside).trim_start();
        !inside.strip_prefix("biased").is_some_and(|rest| rest.trim_start().starts_with(';'))
    });
    selects.map(|offset| at(file, line_of(&code, offset), "`select!` without `biased;`")).collect()
}

/// A name in its words, in small letters: `WorkerPool`, `worker_pool` and `worker-pool` alike.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_small = false;
    for c in name.chars() {
        if matches!(c, '_' | '-' | '.') || (c.is_uppercase() && before_small) {
            words.push(String::new());
        }
        before_small = c.is_lowercase() || c.is_ascii_digit();
        if c.is_alphanumeric() {
            let last = words.last_mut().expect("there is always a word");
            last.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_vague(name: &str) -> bool {
    // AWS's own name of a service is not ours to choose.
    let ours = name.replace("SecretsManager", "Secrets").replace("secrets_manager", "secrets");
    let vague = ["manager", "managers", "util", "utils"];
    words_of(&ours).iter().any(|word| vague.contains(&word.as_str()))
}

/// Calls of ports that are a worker's, in the door.
pub(crate) fn more_than_a_door(file: &File) -> Vec<Finding> {
    if !file.path.starts_with("worker/door/") {
        return Vec::new();
    }
    let code = blanked(&file.text);
    let mut findings = Vec::new();
    for word in ["commit", "put_command", "receive", "execute", "park", "free_seat", "decide"] {
        for offset in places(&code, word) {
            let called = code[offset + word.len()..].starts_with('(');
            if called && code[..offset].ends_with('.') {
                findings.push(at(file, line_of(&code, offset), format!("`.{word}(`")));
            }
        }
    }
    findings
}

pub(crate) fn vague_names(file: &File) -> Vec<Finding> {
    let code = blanked(&file.text);
    let mut findings = Vec::new();
    for word in ["fn", "mod", "struct", "enum", "trait", "type", "union"] {
        for offset in places(&code, word) {
            let name: String = code[offset + word.len()..]
                .trim_start()
                .chars()
                .take_while(|c| is_word(*c))
                .collect();
            let vague_verb =
                word == "fn" && (name.starts_with("handle_") || name.starts_with("process_"));
            let vague_noun = word != "fn" && is_vague(&name);
            if vague_verb || vague_noun {
                findings.push(at(file, line_of(&code, offset), format!("`{word} {name}`")));
            }
        }
    }
    if file.path.split('/').any(is_vague) {
        findings.push(at(file, 1, "the path itself"));
    }
    findings
}

pub(crate) fn no_opening(file: &File) -> Vec<Finding> {
    let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let says_something = first.strip_prefix("//!").is_some_and(|rest| rest.trim().len() > 3);
    if says_something { Vec::new() } else { vec![at(file, 1, format!("opens with `{first}`"))] }
}

pub(crate) fn too_long(file: &File) -> Vec<Finding> {
    let count = file.text.lines().count();
    let reason = file.text.lines().take(REASON_WITHIN_LINES).any(|line| {
        line.trim_start().strip_prefix("// Long because:").is_some_and(|why| !why.trim().is_empty())
    });
    if count <= LINES_MAX || reason {
        return Vec::new();
    }
    vec![at(file, LINES_MAX + 1, format!("{count} lines, and no `// Long because:`"))]
}

/// In pieces, or this file would be found itself.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/opt/", "wheels"),
    concat!("C:", "\\Us", "ers"),
];

pub(crate) fn machine_paths(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for needle in MACHINE_PATHS {
        for (offset, _) in file.text.match_indices(needle) {
            // `https://host/work/…` and `src/work/…` are no machine's paths: one begins with its slash.
            if !file.text[..offset].ends_with(|c: char| is_word(c) || matches!(c, '.' | '}' | '*'))
            {
                findings.push(at(file, line_of(&file.text, offset), format!("`{needle}`")));
            }
        }
    }
    findings.extend(foreign_registries(file));
    findings
}

/// Cargo's lock file, cargo's and pip's own settings: whatever may name where packages come from.
fn foreign_registries(file: &File) -> Vec<Finding> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim();
        let foreign = match name {
            "Cargo.lock" => {
                line.starts_with("source = ")
                    && line != r#"source = "registry+https://github.com/rust-lang/crates.io-index""#
            }
            "config.toml" | "config" if file.path.contains(".cargo/") => {
                line.starts_with("[source") || line.starts_with("[registr")
            }
            "requirements.txt" | "pip.conf" => {
                ["--index-url", "--extra-index-url", "--find-links", "-i ", "-f ", "index-url"]
                    .iter()
                    .any(|option| line.starts_with(option))
            }
            _ => false,
        };
        if foreign {
            findings.push(at(file, index + 1, format!("`{line}`")));
        }
    }
    findings
}

pub(crate) fn shared_lints(file: &File) -> Vec<Finding> {
    let mut lines = file.text.lines().map(str::trim);
    let shared = lines.any(|line| line == "[lints]")
        && lines.take_while(|line| !line.starts_with('[')).any(|line| line == "workspace = true");
    if shared { Vec::new() } else { vec![at(file, 1, "takes no lints from the workspace")] }
}

/// What has to be at the top level.
const GIVEN: [&str; 9] = [
    "Cargo.toml",
    "README.md",
    "events",
    "infra",
    "scripts",
    "tests",
    "worker",
    "LICENSE-MIT",
    "LICENSE-APACHE",
];
/// What tools want to find there.
const TOOLS: [&str; 14] = [
    "Cargo.lock",
    "clippy.toml",
    "deny.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
    ".cargo",
    ".ci",
    ".config",
    ".dockerignore",
    ".editorconfig",
    ".gitattributes",
    ".github",
    ".gitignore",
    ".git-blame-ignore-revs",
];

pub(crate) fn top_level(names: &[String]) -> Vec<Finding> {
    let finding =
        |name: &str, what: &str| Finding { file: name.to_owned(), line: 1, what: what.to_owned() };
    let missing = GIVEN.iter().filter(|given| !names.iter().any(|name| name == **given));
    let strange = names
        .iter()
        .filter(|name| !GIVEN.contains(&name.as_str()) && !TOOLS.contains(&name.as_str()));
    let mut findings: Vec<Finding> =
        missing.map(|name| finding(name, "is missing from the top level")).collect();
    findings.extend(strange.map(|name| finding(name, "does not belong at the top level")));
    findings
}

/// An IAM policy: JSON, each statement named and with an effect, and no action by wildcard.
pub(crate) fn policy(file: &File) -> Vec<Finding> {
    let policy: Value = match serde_json::from_str(&file.text) {
        Ok(policy) => policy,
        Err(error) => return vec![at(file, error.line(), error.to_string())],
    };
    let mut findings = Vec::new();
    if policy["Version"] != "2012-10-17" {
        findings.push(at(file, 1, "expected `\"Version\": \"2012-10-17\"`"));
    }
    let Some(statements) = policy["Statement"].as_array().filter(|all| !all.is_empty()) else {
        findings.push(at(file, 1, "expected `Statement`, an array that is not empty"));
        return findings;
    };
    for statement in statements {
        let sid = statement["Sid"].as_str().unwrap_or_default();
        let line = file.text.lines().position(|line| line.contains(&format!("\"{sid}\"")));
        let line = line.map_or(1, |index| index + 1);
        let list = |key: &str| match &statement[key] {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => {
                many.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        let (actions, resources) = (list("Action"), list("Resource"));
        if sid.is_empty() || !sid.chars().all(|c| c.is_ascii_alphanumeric()) {
            findings.push(at(file, line, format!("`Sid` is `{sid}`, expected letters and digits")));
        }
        if statement["Effect"] != "Allow" && statement["Effect"] != "Deny" {
            findings.push(at(file, line, format!("`Effect` of {sid}: expected Allow or Deny")));
        }
        if actions.is_empty() || resources.is_empty() {
            findings.push(at(file, line, format!("{sid} lacks `Action` or `Resource`")));
        }
        for action in actions {
            if action.contains('*') || !action.contains(':') {
                findings.push(at(file, line, format!("{sid} allows `{action}`: name each action")));
            }
        }
    }
    findings
}
