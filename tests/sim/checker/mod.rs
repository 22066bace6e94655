//! The independent checker: DESIGN.md §7's table, asked of the whole world.
//!
//! *Theory.* `Watch` is told of each commit, effect, delete and receive as it happens, and finds what may
//! never be, at once; `end` looks at the world when faults have ceased and the repair bound has passed,
//! and finds what should have come about by then. Who should hold what is worked out anew from what users
//! sent; no rule of the worker is called, its records are only read.
//!
//! *Invariant.* A finding names one of D1 to D10, or `§3` for a structural promise of that section.

mod end;
mod live;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{
    Action, CommandId, EventBody, InstanceId, LifecycleEvent, Outcome, TargetName,
};
use lamplighter_lifecycle::{CommandRecord, Effect, Hold, TargetRecord};

pub use end::{Ending, check_the_end, check_the_replay};

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

/// A command as a user sent it.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its id.
    pub id: CommandId,
    /// To whom.
    pub target: TargetName,
    /// What.
    pub action: Action,
    /// For whom.
    pub holder: String,
    /// `for`
    pub hold_for: Option<SignedDuration>,
    /// When the queue took it: several times, if it was sent again under its id.
    pub sent: Vec<Timestamp>,
}

impl Said {
    /// Its place in the order: by the time of the message that was taken, ties by id.
    fn order(&self, command: Option<&CommandRecord>) -> (Option<Timestamp>, &str) {
        let taken = command.map(|command| command.sent_at).filter(|at| self.sent.contains(at));
        (taken.or(self.sent.first().copied()), self.id.as_str())
    }
}

/// What was seen to go wrong, and what is needed to tell.
#[derive(Default)]
pub struct Watch {
    findings: Vec<Finding>,
    /// Permissions that were committed, and whether they were used.
    permitted: Vec<(Effect, Timestamp, bool)>,
    /// When somebody last really started a machine at the console.
    started_outside: BTreeMap<InstanceId, Timestamp>,
    /// When somebody last really stopped (or terminated) one.
    stopped_outside: BTreeMap<InstanceId, Timestamp>,
    /// Machines that a start of ours sent up, and that no stop sent down since.
    sent_up: BTreeMap<InstanceId, Timestamp>,
    /// Every machine that a target ever minded.
    minded: BTreeMap<TargetName, BTreeSet<InstanceId>>,
    /// Every event as it was first committed: an id names one event.
    events: BTreeMap<String, LifecycleEvent>,
    slots: slots::Slots,
    /// Bodies that belong among the dead letters.
    pub(crate) poison: BTreeSet<String>,
    /// A fleet in which a start may honestly fail (no capacity, a unit that dies).
    pub(crate) may_fail: bool,
}

impl Watch {
    fn wrong(&mut self, rule: Rule, at: Timestamp, what: impl Into<String>) {
        self.findings.push(Finding { rule, at, what: what.into() });
    }

    /// Somebody at the console started this machine.
    pub(crate) fn started_by_somebody(&mut self, instance: &InstanceId, at: Timestamp) {
        self.started_outside.insert(instance.clone(), at);
    }

    /// Somebody at the console stopped or terminated this machine.
    pub(crate) fn stopped_by_somebody(&mut self, instance: &InstanceId, at: Timestamp) {
        self.stopped_outside.insert(instance.clone(), at);
        self.sent_up.remove(instance);
    }

    /// Whether somebody stopped a machine that this target minds, or minded.
    fn was_stopped_outside(&self, target: &TargetName) -> bool {
        let minded = self.minded.get(target).into_iter().flatten();
        minded.into_iter().any(|machine| self.stopped_outside.contains_key(machine))
    }

    /// A start of ours was accepted.
    pub(crate) fn went_up(&mut self, instance: &InstanceId, at: Timestamp) {
        self.sent_up.insert(instance.clone(), at);
    }

    /// A stop of ours was accepted.
    pub(crate) fn went_down(&mut self, instance: &InstanceId) {
        self.sent_up.remove(instance);
    }

    /// Whether a start of ours was accepted, and no stop since.
    pub(crate) fn is_going_up(&self, instance: &InstanceId) -> bool {
        self.sent_up.contains_key(instance)
    }
}

/// Whether a hold wants its target on: from its beginning (inclusive) to its end (exclusive).
fn in_force(hold: &Hold, at: Timestamp) -> bool {
    hold.from <= at && hold.until.is_none_or(|until| at < until)
}

fn is_wanted(record: &TargetRecord, at: Timestamp) -> bool {
    record.holds.iter().any(|hold| in_force(hold, at))
}

fn outcome_of(event: &LifecycleEvent) -> Option<&Outcome> {
    match &event.body {
        EventBody::CommandCompleted { outcome } | EventBody::CommandRejected { outcome } => {
            Some(outcome)
        }
        _ => None,
    }
}
