//! The independent checker: DESIGN.md §7's table, asked of the whole world.
//!
//! *Theory.* `Watch` is told of each commit, effect, delete and receive as it happens, and finds what may
//! never be, at once; `end` looks at the world when faults have ceased and the repair bound has passed,
//! and finds what should have come about by then. Who should hold what is worked out anew from what users
//! sent; no rule of the worker is called, its records are only read.
//!
//! Idleness has truths of its own (`idle`), office hours (`hours`) and scaling's bounds (`bounds`) too.
//!
//! Launches have one more (`launches`).
//!
//! *Invariant.* A finding names one of D1 to D10, I1 to I3, W1, B1, L1, R1 or R2, or `§3` for a structural promise of that
//! section.

mod bounds;
mod end;
mod hours;
mod idle;
mod launches;
mod live;
mod slots;

pub use end::Ending;
pub(crate) use end::Remains;
pub use idle::Sample;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::World;
use lamplighter_events::{Action, CommandId, EventBody, LifecycleEvent, Outcome, TargetName};
use lamplighter_lifecycle::{CommandRecord, Effect, Hold, Resource, TargetRecord, TargetSpec};

use crate::backends::Backend;
use crate::rule::{Finding, Rule};
use crate::table::Table;

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

/// What a target is, and what follows from it, worked out by whoever drew it.
#[derive(Debug, Clone)]
pub struct Policy {
    /// As the fleet has it; only its data are read.
    pub spec: TargetSpec,
    /// Its office hours in true time, from (inclusive) and until (exclusive).
    pub windows: Vec<(Timestamp, Timestamp)>,
    /// How often its idleness is looked at in quiet times.
    pub ticks_every: SignedDuration,
}

/// Who writes, and when that was decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer {
    pub(crate) worker: u64,
    /// By the worker's clock.
    pub(crate) worker_now: Timestamp,
    /// The true time then.
    pub(crate) decided: Timestamp,
    /// What its release writes.
    pub(crate) format: u32,
}

/// The world around a commit.
pub(crate) struct Around<'a> {
    pub(crate) table: &'a Table,
    pub(crate) world: &'a World,
    pub(crate) backends: &'a BTreeMap<Resource, Backend>,
}

/// What was seen to go wrong, and what is needed to tell.
#[derive(Default)]
pub struct Watch {
    findings: Vec<Finding>,
    /// Permissions that were committed, and whether they were used.
    permitted: Vec<(Effect, Timestamp, bool)>,
    /// When somebody last really started a machine at the console.
    started_outside: BTreeMap<Resource, Timestamp>,
    /// When somebody last really stopped (or terminated) one.
    stopped_outside: BTreeMap<Resource, Timestamp>,
    /// What a start of ours sent up, and no stop sent down since.
    sent_up: BTreeMap<Resource, Timestamp>,
    /// Everything that a target ever minded.
    minded: BTreeMap<TargetName, BTreeSet<Resource>>,
    /// Every event as it was first committed: an id names one event.
    events: BTreeMap<String, LifecycleEvent>,
    slots: slots::Slots,
    idle: idle::Idleness,
    bounds: bounds::Scaling,
    launches: launches::Launches,
    policies: BTreeMap<TargetName, Policy>,
    /// Bodies that belong among the dead letters.
    pub(crate) poison: BTreeSet<String>,
    /// How old a description is at most.
    pub(crate) describe_lag: SignedDuration,
    /// A fleet in which a start may honestly fail (no capacity, a unit that dies).
    pub(crate) may_fail: bool,
}

impl Watch {
    fn wrong(&mut self, rule: Rule, at: Timestamp, what: impl Into<String>) {
        self.findings.push(Finding { rule, at, what: what.into() });
    }

    /// What a target is.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policies.insert(policy.spec.name.clone(), policy);
    }

    /// Somebody at the console started this machine.
    pub(crate) fn started_by_somebody(&mut self, resource: &Resource, at: Timestamp) {
        self.started_outside.insert(resource.clone(), at);
    }

    /// Somebody at the console stopped or terminated this machine.
    pub(crate) fn stopped_by_somebody(&mut self, resource: &Resource, at: Timestamp) {
        self.stopped_outside.insert(resource.clone(), at);
        self.sent_up.remove(resource);
    }

    /// Whether somebody stopped a machine that this target minds, or minded.
    fn was_stopped_outside(&self, target: &TargetName) -> bool {
        let minded = self.minded.get(target).into_iter().flatten();
        minded.into_iter().any(|machine| self.stopped_outside.contains_key(machine))
    }

    /// A start of ours was accepted.
    pub(crate) fn went_up(&mut self, resource: &Resource, at: Timestamp) {
        self.sent_up.insert(resource.clone(), at);
    }

    /// A stop of ours was accepted.
    pub(crate) fn went_down(&mut self, resource: &Resource) {
        self.sent_up.remove(resource);
    }

    /// Whether a start of ours was accepted, and no stop since.
    pub(crate) fn is_going_up(&self, resource: &Resource) -> bool {
        self.sent_up.contains_key(resource)
    }
}

/// Whether a hold wants its target on: from its beginning (inclusive) to its end (exclusive).
fn in_force(hold: &Hold, at: Timestamp) -> bool {
    hold.from <= at && hold.until.is_none_or(|until| at < until)
}

fn is_wanted(record: &TargetRecord, at: Timestamp) -> bool {
    record.holds.iter().any(|hold| in_force(hold, at))
}

/// Whether an event tells this outcome. It may leave out parts of the answer, and of the words, that the command's item
/// keeps.
fn tells(told: &Outcome, outcome: &Outcome) -> bool {
    let bare = |it: &Outcome| Outcome {
        answer: serde_json::Map::new(),
        message: String::new(),
        ..it.clone()
    };
    bare(told) == bare(outcome)
}

/// An event without what may be left out of it while it waits to be sent.
fn without_answer(event: &LifecycleEvent) -> LifecycleEvent {
    let mut event = event.clone();
    if let EventBody::CommandCompleted { outcome } | EventBody::CommandRejected { outcome } =
        &mut event.body
    {
        outcome.answer.clear();
        outcome.message.clear();
    }
    event
}

fn outcome_of(event: &LifecycleEvent) -> Option<&Outcome> {
    match &event.body {
        EventBody::CommandCompleted { outcome } | EventBody::CommandRejected { outcome } => {
            Some(outcome)
        }
        _ => None,
    }
}
