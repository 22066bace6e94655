//! What is remembered of a bootstrap that ran on a machine.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A bootstrap that began on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapRun {
    /// The command that ran it.
    pub command_id: String,
    /// Its token, where it had one.
    pub token: Option<String>,
    /// Its name.
    pub name: String,
    /// Its environment, as far as it could be decoded.
    pub environment: BTreeMap<String, String>,
    /// When it began.
    pub began: Timestamp,
    /// When it ended; never, where it was killed.
    pub ended: Option<Timestamp>,
    /// What it came to, once it ended.
    pub exit: Option<u8>,
    /// When it will end by itself.
    pub(crate) ends: Option<Timestamp>,
    /// Its guard lay in memory, and its machine was stopped since.
    #[serde(default)]
    pub(crate) is_forgotten: bool,
}

impl BootstrapRun {
    pub(crate) fn is_of(&self, token: &str) -> bool {
        !self.is_forgotten && self.token.as_deref() == Some(token)
    }
}
