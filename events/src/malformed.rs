//! What is said about a message that cannot be taken, with what could still be read of it, so that a rejected outcome
//! can name the command. It never carries the body.

use crate::error::FieldError;
use crate::{Action, CommandId, TargetName};

/// Why a message cannot be understood; the `reason` attribute of the dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MalformedKind {
    /// The bytes are no UTF-8 text.
    NotUtf8,
    /// The body is longer than a queue message can be.
    TooLarge,
    /// The text is no JSON.
    NotJson,
    /// The JSON is not an object.
    NotAnObject,
    /// Objects and arrays are nested deeper than any message of ours.
    TooDeep,
    /// Nothing says what is to be done.
    NoAction,
    /// An action that does not exist.
    UnknownAction,
    /// A field that does not exist.
    UnknownField,
    /// A field whose value cannot be taken, or two fields that contradict each other.
    InvalidField,
    /// A tick of a rule that the fleet does not have.
    UnknownRule,
    /// An event that nobody here understands.
    UnknownEvent,
    /// An envelope's path that names no action.
    InvalidPath,
}

impl MalformedKind {
    /// Every kind, for tables and help.
    pub const ALL: [Self; 12] = [
        Self::NotUtf8,
        Self::TooLarge,
        Self::NotJson,
        Self::NotAnObject,
        Self::TooDeep,
        Self::NoAction,
        Self::UnknownAction,
        Self::UnknownField,
        Self::InvalidField,
        Self::UnknownRule,
        Self::UnknownEvent,
        Self::InvalidPath,
    ];

    /// The kind in kebab case, as the dead letter's `reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not-utf8",
            Self::TooLarge => "too-large",
            Self::NotJson => "not-json",
            Self::NotAnObject => "not-an-object",
            Self::TooDeep => "too-deep",
            Self::NoAction => "no-action",
            Self::UnknownAction => "unknown-action",
            Self::UnknownField => "unknown-field",
            Self::InvalidField => "invalid-field",
            Self::UnknownRule => "unknown-rule",
            Self::UnknownEvent => "unknown-event",
            Self::InvalidPath => "invalid-path",
        }
    }
}

impl std::fmt::Display for MalformedKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message that cannot be understood, and what could be read of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    /// What sort of mistake it is.
    pub kind: MalformedKind,
    /// What is wrong, where, and what was expected. Never the body.
    pub message: String,
    /// The command's id, where it had a valid one: it gets a rejected outcome.
    pub command: Option<CommandId>,
    /// The action, where it is known.
    pub action: Option<Action>,
    /// The target, where it was given by a valid name.
    pub target: Option<TargetName>,
}

impl Malformed {
    pub(crate) fn new(kind: MalformedKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), command: None, action: None, target: None }
    }
}

impl From<FieldError> for Malformed {
    fn from(error: FieldError) -> Self {
        Self::new(MalformedKind::InvalidField, error.to_string())
    }
}
