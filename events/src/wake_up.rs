//! A durable timer: a delayed message that the worker sends itself, so that no slot ever waits.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::TargetName;

/// Says: look at this target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WakeUp {
    /// Which target.
    pub target: TargetName,
    /// The record's version that asked for it; for the log, since any pass is welcome.
    pub rev: u64,
    /// When the look was due.
    pub at: Timestamp,
}

impl WakeUp {
    /// The wake-up as the body of a message; parses back.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "lamplighter": "wake-up",
            "target": self.target.as_str(),
            "rev": self.rev,
            "at": self.at.to_string(),
        })
    }
}
