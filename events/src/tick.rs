//! What a schedule asks: a rule of EventBridge or a schedule of EventBridge Scheduler came due.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{Command, CommandId};

/// A rule that came due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// The rule's name, without its ARN.
    pub rule: String,
    /// When it was due.
    pub scheduled: Timestamp,
    /// What it asks for.
    pub command: Option<Command>,
}

impl Tick {
    /// The id of what it asks for: the same tick delivered twice is one command.
    #[must_use]
    pub fn command_id(&self) -> CommandId {
        CommandId::from_parts(&format!("tick:{}:{}", self.rule, self.scheduled))
    }

    /// The tick as the body of a message; parses back.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        json.insert("lamplighter".to_owned(), "tick".into());
        json.insert("rule".to_owned(), self.rule.as_str().into());
        json.insert("scheduled".to_owned(), self.scheduled.to_string().into());
        if let Some(command) = &self.command {
            json.insert("command".to_owned(), command.to_json());
        }
        Value::Object(json)
    }
}
