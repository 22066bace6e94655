//! When a target was up: its *runs*.
//!
//! *Theory.* A run is as long as the record counts the target as up (`TargetRecord::is_up`), so that whoever draws
//! runs and whoever reads the index of what is up are told the same. Within that time a machine can have been off all
//! the same (stopped outside and wanted still, or wanted again while it stopped): a start that is made of what was seen
//! off, after it had been ready, ends one run and begins the next. Phases pass through each other inside one pass; only
//! what a pass comes to is a run, so that a start which fails at once (nobody may look, say) is none.
//!
//! *Invariants.* Runs stand in their order and never overlap; at most the last one is open, and it is exactly while the
//! target is up. Times are whole seconds: what is read back is what was written. Workers' clocks differ, so a time that
//! lies before the one it follows counts as that one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::limits::USUAL_RUNS_MAX;

/// A time in which a target was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Packed", try_from = "Packed")]
pub struct Run {
    /// Its start began, or it was found up.
    pub from: Timestamp,
    /// It was on.
    pub ready: Option<Timestamp>,
    /// It was off again; none while it is up.
    pub until: Option<Timestamp>,
}

/// A run as it is written: epoch seconds, then how many seconds after that it was ready, and off. A record is billed
/// by its size, and holds dozens of them.
type Packed = (i64, Option<i64>, Option<i64>);

impl From<Run> for Packed {
    fn from(run: Run) -> Self {
        let from = run.from.as_second();
        let after = |at: Option<Timestamp>| at.map(|at| at.as_second() - from);
        (from, after(run.ready), after(run.until))
    }
}

impl TryFrom<Packed> for Run {
    type Error = jiff::Error;

    fn try_from((from, ready, until): Packed) -> Result<Self, jiff::Error> {
        let at = |after: i64| Timestamp::from_second(from.saturating_add(after));
        Ok(Self {
            from: at(0)?,
            ready: ready.map(at).transpose()?,
            until: until.map(at).transpose()?,
        })
    }
}

impl Run {
    /// How long its start took; none where it was found up, and where it never was ready.
    fn start_seconds(&self) -> Option<u64> {
        let took = self.ready?.as_second() - self.from.as_second();
        u64::try_from(took).ok().filter(|took| *took > 0)
    }

    /// The last time that is known of it.
    pub(crate) fn last(&self) -> Timestamp {
        self.until.or(self.ready).unwrap_or(self.from)
    }
}

/// How long a start of this target usually takes until it is on: the median of its last ones.
pub fn usual_start_seconds(runs: &[Run]) -> Option<u64> {
    let took = runs.iter().rev().filter_map(Run::start_seconds);
    let mut took: Vec<u64> = took.take(USUAL_RUNS_MAX).collect();
    took.sort_unstable();
    let (low, high) = (took.get(took.len().checked_sub(1)? / 2)?, took.get(took.len() / 2)?);
    Some(low.midpoint(*high))
}
