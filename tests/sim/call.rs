//! A call to AWS, for counting and for a run's tale.

use jiff::Timestamp;

use crate::fault::Fault;

/// A call as it was made: for counting, and for a run's tale.
#[derive(Debug, Clone)]
pub struct Call {
    /// When it was made.
    pub at: Timestamp,
    /// Which worker's ports.
    pub worker: u64,
    /// What was done to it.
    pub fault: Option<Fault>,
    /// As `dynamodb:write`.
    pub operation: &'static str,
    /// What it was about.
    pub what: String,
}
