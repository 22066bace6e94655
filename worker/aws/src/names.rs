//! The names of what a fleet uses in AWS.

use crate::client::ConnectError;

/// Names of what a fleet uses, as in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The command queue: name or URL.
    pub commands: String,
    /// The dead-letter queue: name or URL.
    pub dead_letters: String,
    /// The DynamoDB table.
    pub table: String,
    /// The EventBridge bus: name or ARN.
    pub bus: String,
}

impl Names {
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        let all = [
            ("[queue] commands", &self.commands),
            ("[queue] dead_letters", &self.dead_letters),
            ("[store] table", &self.table),
            ("[events] bus", &self.bus),
        ];
        for (what, value) in all {
            if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(ConnectError::Invalid {
                    what,
                    value: value.clone(),
                    expected: "a name without spaces",
                });
            }
        }
        Ok(())
    }
}
