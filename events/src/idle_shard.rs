//! A part of one tick's work: some targets that are on, to be asked whether they are idle.
//!
//! A tick for the whole fleet becomes such parts, so that the pool works on them side by side. A part that is
//! lost costs one tick; one that comes twice asks twice.

use serde_json::{Map, Value};

use crate::{TargetName, Thresholds};

/// Says: ask these targets' probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleShard {
    /// Which targets.
    pub targets: Vec<TargetName>,
    /// The worker's own notes on each of them, in their order: what the index said, so that nobody need
    /// ask it again.
    pub notes: Vec<Value>,
    /// The tick's own idea of idle.
    pub thresholds: Thresholds,
}

impl IdleShard {
    /// The most targets of one part: two full calls for metrics, two for machines or a hundred for services, and a
    /// fraction of what a message holds. (Each part costs a message and its delete, so that smaller ones would cost
    /// more than they share.)
    pub const TARGETS_MAX: usize = 1000;

    /// The part as the body of a message; parses back.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        json.insert("lamplighter".to_owned(), "idle-shard".into());
        let names: Vec<&str> = self.targets.iter().map(TargetName::as_str).collect();
        json.insert("targets".to_owned(), names.into());
        json.insert("notes".to_owned(), self.notes.clone().into());
        for (name, minutes) in [
            ("idle_threshold_mins", self.thresholds.idle_threshold_mins),
            ("lookback_period_mins", self.thresholds.lookback_period_mins),
        ] {
            if let Some(minutes) = minutes {
                json.insert(name.to_owned(), minutes.into());
            }
        }
        Value::Object(json)
    }
}
