//! What a setup did, and why it stopped.

use lamplighter_runtime::ports::CallError;
use serde::Serialize;

use crate::client::ConnectError;
use crate::queue_policy::UnreadablePolicy;

/// What became of one thing (or would, in a plan).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was missing.
    Created,
    /// It was there, as it should be.
    Exists,
    /// It was there, and lacked something.
    Updated,
    /// This endpoint does not offer it; Lamplighter works without.
    Skipped,
}

/// One thing that Lamplighter needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetupStep {
    /// Kind and name.
    pub what: String,
    /// What became of it.
    pub change: Change,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl SetupStep {
    pub(crate) fn new(what: impl Into<String>, change: Change) -> Self {
        Self { what: what.into(), change, note: None }
    }
    pub(crate) fn noting(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }
}

/// Why setup stopped. The steps before are done; a second run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A name in the fleet file.
    #[error("the fleet file names something that cannot be set up")]
    Name(#[source] ConnectError),
    /// AWS refused.
    #[error("{what} cannot be set up")]
    Call {
        /// Kind and name.
        what: String,
        /// What AWS said.
        #[source]
        source: CallError,
    },
    /// The command queue's policy is none.
    #[error("the command queue does not let the rules for AWS's signals send")]
    Policy(#[source] UnreadablePolicy),
    /// There is a table of another shape.
    #[error(
        "the table {table} has {found}, and Lamplighter needs {expected}; choose another [store] table"
    )]
    Shape {
        /// Its name.
        table: String,
        /// What it has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// It takes longer than it should.
    #[error(
        "the table {table} is not ACTIVE after {waited_seconds} s; run `lamplighter setup` again"
    )]
    NotActive {
        /// Its name.
        table: String,
        /// How long it was waited for.
        waited_seconds: u64,
    },
    /// An answer that lacks what it must have.
    #[error("{what}: the endpoint told no {missing}")]
    Incomplete {
        /// Kind and name.
        what: String,
        /// What was missing.
        missing: &'static str,
    },
}

pub(crate) fn failed(what: &str, source: CallError) -> SetupError {
    SetupError::Call { what: what.to_owned(), source }
}
