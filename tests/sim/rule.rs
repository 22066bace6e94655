//! The rules of the checker, and what breaks one.

use std::fmt;

use jiff::Timestamp;

/// What may never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the table in DESIGN.md §7 says what each means")]
pub enum Rule {
    D1,
    D2,
    D3,
    D4,
    D5,
    D6,
    D7,
    D8,
    D9,
    D10,
    /// Stopped by idleness, and it was used, wanted or kept alive too short a time before.
    I1,
    /// Idle for long enough, and still on.
    I2,
    /// What nobody could know ended a hold.
    I3,
    /// Office hours: inside a window that nobody suppressed it is wanted, outside not by one.
    W1,
    /// Scaling's bounds: on, those from before the way down; off, 0 and 0.
    B1,
    /// Launches: no more machines of a template than its limit, and no place that nobody has.
    L1,
    /// A stored record is within its bound in bytes.
    R1,
    /// What a newer release wrote is not written over.
    R2,
    /// A structural promise of DESIGN.md §3: unique event ids, a `wake_at` for whatever waits.
    Section3,
    /// More calls than a quiet worker may make.
    Budget,
}

/// Something that may never be, and was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it breaks.
    pub rule: Rule,
    /// When it was seen, by AWS's clock.
    pub at: Timestamp,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.rule {
            Rule::Section3 => "§3".to_owned(),
            Rule::Budget => "budget".to_owned(),
            rule => format!("{rule:?}"),
        };
        write!(f, "{:.3} {rule}: {}", self.at, self.what)
    }
}
