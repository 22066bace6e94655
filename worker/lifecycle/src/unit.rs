//! Names of systemd units.

use serde::{Deserialize, Serialize};

/// Why a value of a spec was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not a systemd unit name.
    #[error(
        "systemd_unit {0:?} is not a unit name: expected letters, digits and `:_.@-` only, at most 128"
    )]
    Unit(String),
}

/// A systemd unit's name. It is written into a script, so it may hold nothing a shell would read
/// (systemd.unit(5) allows backslashes as well; we do not).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

impl UnitName {
    /// Accepts `[A-Za-z0-9:_.@-]{1,128}` that does not begin with a dash.
    pub fn parse(name: &str) -> Result<Self, SpecError> {
        let fits = !name.is_empty()
            && name.len() <= 128
            && !name.starts_with('-')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b":_.@-".contains(&b));
        if fits { Ok(Self(name.to_owned())) } else { Err(SpecError::Unit(name.to_owned())) }
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UnitName {
    type Error = SpecError;
    fn try_from(name: String) -> Result<Self, SpecError> {
        Self::parse(&name)
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.0
    }
}
