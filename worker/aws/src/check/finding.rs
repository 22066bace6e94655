//! What a check found, and what to do about it.

use lamplighter_lifecycle::{Observed, Resource};
use lamplighter_runtime::ports::CallError;
use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but.
    Warn,
    /// It will not work.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

pub(crate) fn ok(what: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, what: what.into(), hint: None }
}

pub(crate) fn warn(what: impl Into<String>, hint: &str) -> Finding {
    Finding { level: Level::Warn, what: what.into(), hint: Some(hint.to_owned()) }
}

pub(crate) fn error(what: impl Into<String>, hint: &str) -> Finding {
    Finding { level: Level::Error, what: what.into(), hint: Some(hint.to_owned()) }
}

pub(crate) fn refused(asked: &str, refusal: &CallError) -> Finding {
    error(
        format!("{asked}: {refusal}"),
        "see the message; infra/ has the rights that a worker needs",
    )
}

/// What was seen of a target on the way.
pub(crate) type SeenBy = Option<(Resource, Observed)>;
