//! The record of a target: the truth, one DynamoDB item, one version number.
//!
//! *Invariants.*
//! - `rev` rises by one with every commit and never otherwise; it is the fencing token.
//! - `doing` is set only by the commit that allows its effect, and cleared by the answer's commit or
//!   by the first decision after `act_by`, which moves it to `unanswered`.
//! - A record with unsent events, an unanswered effect, an open wait or a hold with an end has a
//!   `wake_at`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lamplighter_events::{
    Action, Cause, CommandId, Holder, LifecycleEvent, Outcome, TargetName, Verdict,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::accepted::AcceptedChanges;
use crate::capability::{WaitsFor, capability};
use crate::effect::{Effect, EffectKind, Unanswered};
use crate::hold::{Hold, Sent};
use crate::idle::IdleMemory;
use crate::kinds::Kind;
use crate::limits::UNANSWERED_MAX;
use crate::observed::{Bounds, Observed, PowerState};
use crate::phase::{Phase, Step};
use crate::probe::IdleOverride;
use crate::resource::Resource;
use crate::runs::Run;
use crate::template::LaunchRecord;

/// The effect that the last commit allowed: the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doing {
    /// What may be done.
    pub effect: Effect,
    /// Names this permission; its answer is committed by it.
    pub nonce: String,
    /// Not after this, by the issuing worker's clock.
    pub act_by: Timestamp,
}

/// The consistency margin after an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// Until here an observation that does not agree concludes nothing.
    pub until: Timestamp,
    /// The effect that it follows.
    pub after: EffectKind,
}

/// An observation that contradicts the record, since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradiction {
    /// First seen.
    pub at: Timestamp,
    /// What was seen.
    pub state: PowerState,
}

/// A command that was accepted and has no outcome yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCommand {
    /// Its id.
    pub id: CommandId,
    /// What it asks.
    pub action: Action,
    /// For whom.
    pub holder: Holder,
    /// Its place in the order.
    pub sent: Sent,
    /// The sender's trace (W3C traceparent), so that every later pass joins it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// EC2's word when it was accepted (`previous_state` of a stop's answer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<PowerState>,
    /// The caller's own idea of idle.
    #[serde(default, skip_serializing_if = "IdleOverride::is_none")]
    pub idle: IdleOverride,
}

impl OpenCommand {
    /// What a wake found, in the words of seed 001's clients: none wanted, some on their way, or all there.
    pub fn wake_word(&self) -> &'static str {
        match self.found {
            Some(PowerState::Running) => "already_running",
            Some(PowerState::Pending) => "starting",
            _ => "waking",
        }
    }

    /// Whether it ends when the target is on.
    pub fn wants_on(&self) -> bool {
        capability(self.action).waits_for == WaitsFor::On
    }
}

/// Why a target failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The typed cause.
    pub cause: Cause,
    /// For people.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// What a question to the host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckPurpose {
    /// Part of starting.
    Verify,
    /// A look at a unit that should be alive: by the clock, or since somebody asked for the status.
    Watch,
    /// The idle policy's command.
    Idle,
    /// The template's bootstrap.
    Bootstrap,
}

/// An open question to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its token.
    pub token: String,
    /// SSM's id, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<String>,
    /// What for.
    pub purpose: CheckPurpose,
    /// When it was decided.
    pub asked_at: Timestamp,
}

/// What is known of the unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitHealth {
    /// systemd's word, or `unknown`.
    pub state: String,
    /// When it was said.
    pub at: Timestamp,
}

/// Somebody told us to keep our hands off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Who.
    pub by: Holder,
    /// Since when.
    pub at: Timestamp,
    /// The latest pause that it stands for.
    pub sent: Sent,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One line of a target's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    pub at: Timestamp,
    /// The version that it was committed with.
    pub rev: u64,
    /// What happened, as a sentence.
    pub what: String,
}

/// What became of the last command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastOutcome {
    /// Its id.
    pub command: CommandId,
    /// What it asked.
    pub action: Action,
    /// For whom.
    pub holder: Holder,
    /// How it ended.
    pub outcome: Verdict,
    /// Why, where it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// For people.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// The item of a command: its identity and, in the end, its outcome. It lives 45 days.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandRecord {
    /// The id.
    pub id: CommandId,
    /// SHA-256 of the payload: the same id with another payload is refused.
    pub fingerprint: String,
    /// Its target, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetName>,
    /// What it asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// The queue's time.
    pub sent_at: Timestamp,
    /// When a worker took it.
    pub accepted_at: Timestamp,
    /// The one terminal result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// SQS's id of the message that was parked as a dead letter before this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_as: Option<String>,
}

/// Whether a command is taken however many events wait to be sent.
pub fn never_waits_for_the_bus(action: Action) -> bool {
    match action {
        // Idle stops go on while the bus is away, so a keep-alive must count too.
        Action::KeepAlive => true,
        action => ends_cost(action),
    }
}

/// Whether a command ends cost, keeps us from making any, or lets us end it again: a paused target is not stopped.
pub(crate) fn ends_cost(action: Action) -> bool {
    match action {
        Action::Stop | Action::Kill | Action::Destroy | Action::Pause | Action::Resume => true,
        Action::Start | Action::Create | Action::Status | Action::CheckIdle | Action::KeepAlive => {
            false
        }
    }
}

/// What belongs to one start or stop, and to no later one. The target comes to rest, or on, and it is forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// An observation that does not fit, waiting to be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contradiction: Option<Contradiction>,
    /// When AWS accepted the start or stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Timestamp>,
    /// An effect that was refused is not tried before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// The last refusal on this way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Failure>,
    /// How often an effect of this way was refused: the pause grows with it.
    #[serde(default)]
    pub refusals: u32,
    /// The end of the settling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle_until: Option<Timestamp>,
    /// From when the health address is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_since: Option<Timestamp>,
    /// The open question to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
}

/// What belongs to one time for which the target is up, from the decision to start it until it is off again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpState {
    /// This way up needed a StartInstances of ours.
    #[serde(default)]
    pub started_by_us: bool,
    /// The start failed and its machine was left up, since somebody holds it.
    #[serde(default)]
    pub kept: bool,
    /// The unit's last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitHealth>,
    /// The unit died while the target is on.
    #[serde(default)]
    pub unit_down: bool,
}

/// What only a target has that is launched for a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provision {
    /// A provisioned target's machine, beyond what EC2 says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<LaunchRecord>,
    /// It counts for its template's limit: from before its launch until it is surely gone.
    #[serde(default)]
    pub seated: bool,
    /// The record of a machine that is gone is forgotten then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retire_at: Option<Timestamp>,
}

/// Everything known of a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// Its name.
    pub target: TargetName,
    /// Its kind.
    pub kind: Kind,
    /// The version; 0 was never stored.
    pub rev: u64,
    /// The machine or service that this record minds. It changes only while the target is off.
    pub resource: Resource,
    /// The large state.
    pub phase: Phase,
    /// The small one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// Since when it is in this phase.
    pub since: Timestamp,
    /// Rises with every way up; part of every token.
    pub generation: u64,
    /// The reasons to be on.
    pub holds: Vec<Hold>,
    /// Each holder's last release: its stop, or the latest start of a hold that came to its end.
    #[serde(default)]
    pub releases: BTreeMap<String, Sent>,
    /// The last kill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_kill: Option<Sent>,
    /// The last resume: an older pause does not undo it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_resume: Option<Sent>,
    /// The effect that may be under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<Doing>,
    /// Effects whose answers were lost.
    #[serde(default)]
    pub unanswered: Vec<Unanswered>,
    /// The consistency margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
    /// What is known of the start or stop that is under way.
    #[serde(flatten)]
    pub attempt: Attempt,
    /// What is known of the time for which the target is up.
    #[serde(flatten)]
    pub up: UpState,
    /// What only a target has that is launched for a request.
    #[serde(flatten)]
    pub provision: Provision,
    /// When the way up or down began (the first attempt).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at: Option<Timestamp>,
    /// The last changes that AWS accepted, which it may show late.
    #[serde(default, skip_serializing_if = "AcceptedChanges::is_none")]
    pub accepted: AcceptedChanges,
    /// Numbers the questions.
    #[serde(default)]
    pub checks: u64,
    /// The stop deadline passed, and it was said.
    #[serde(default)]
    pub overdue: bool,
    /// Why the last start failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Application Auto Scaling's bounds, as they were before the way down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
    /// The window that was suppressed ends here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed_until: Option<Timestamp>,
    /// What is remembered of the idle probes.
    #[serde(default, skip_serializing_if = "IdleMemory::is_empty")]
    pub idle: IdleMemory,
    /// Hands off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Commands without an outcome.
    #[serde(default)]
    pub open: Vec<OpenCommand>,
    /// What AWS was last seen to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// When somebody must look again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_at: Option<Timestamp>,
    /// Events not yet known to be sent.
    #[serde(default)]
    pub outbox: Vec<LifecycleEvent>,
    /// The last things that happened.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
    /// When it was up, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
    /// The last outcome of a command that asked for more than the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<LastOutcome>,
    /// Why the target is as it is.
    pub why: String,
    /// The trace of the command that last set this target in motion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

impl TargetRecord {
    /// A target that nobody has looked at yet.
    pub fn first_contact(
        target: TargetName,
        kind: Kind,
        resource: Resource,
        now: Timestamp,
    ) -> Self {
        Self {
            target,
            kind,
            rev: 0,
            resource,
            phase: Phase::Off,
            step: None,
            since: now,
            generation: 0,
            holds: Vec::new(),
            releases: BTreeMap::new(),
            last_kill: None,
            last_resume: None,
            doing: None,
            unanswered: Vec::new(),
            quiet: None,
            attempt: Attempt::default(),
            up: UpState::default(),
            provision: Provision::default(),
            began_at: None,
            accepted: AcceptedChanges::default(),
            checks: 0,
            overdue: false,
            failure: None,
            bounds: None,
            suppressed_until: None,
            idle: IdleMemory::default(),
            paused: None,
            open: Vec::new(),
            observed: None,
            wake_at: None,
            outbox: Vec::new(),
            history: Vec::new(),
            runs: Vec::new(),
            last_outcome: None,
            why: "nobody has looked at it yet".to_owned(),
            trace: None,
        }
    }

    /// What is known of a record that this release cannot read, by what stands beside its document. It is for people who
    /// look: nothing may be decided by it, and it is never written.
    pub fn outline(
        target: TargetName,
        kind: Kind,
        resource: Resource,
        phase: Phase,
        since: Timestamp,
        why: String,
    ) -> Self {
        Self { phase, why, ..Self::first_contact(target, kind, resource, since) }
    }

    /// The name of its phase, by its kind.
    pub fn phase_name(&self) -> &'static str {
        self.kind.phase_name(self.phase)
    }

    /// The holds in force.
    pub fn holds_in_force(&self, now: Timestamp) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(move |hold| hold.in_force(now))
    }

    /// Whether it should be on.
    pub fn wanted(&self, now: Timestamp) -> bool {
        self.holds_in_force(now).next().is_some()
    }

    /// An effect whose answer was lost may still happen until `until`. The answer to one call says nothing of another call
    /// of the same effect, so each keeps its nonce.
    pub(crate) fn remember_unanswered(&mut self, effect: Effect, nonce: String, until: Timestamp) {
        let known = self.unanswered.iter_mut().find(|lost| lost.effect == effect);
        match known {
            Some(known) => {
                let earlier = std::mem::replace(&mut known.nonce, nonce);
                known.repeats.push((earlier, std::mem::replace(&mut known.until, until)));
                // What was refused before says nothing of this call.
                known.refusals = 0;
                let excess = known.repeats.len().saturating_sub(UNANSWERED_MAX);
                known.repeats.drain(..excess);
            }
            None => {
                let repeats = Vec::new();
                self.unanswered.push(Unanswered { effect, nonce, until, repeats, refusals: 0 });
            }
        }
        let excess = self.unanswered.len().saturating_sub(UNANSWERED_MAX);
        self.unanswered.drain(..excess);
    }

    /// Until when the call that was permitted by this nonce may be accepted.
    pub(crate) fn unanswered_until(&self, nonce: &str) -> Option<Timestamp> {
        let lost = self.unanswered.iter().find(|lost| lost.knows(nonce))?;
        let earlier = lost.repeats.iter().find(|(earlier, _)| earlier == nonce);
        Some(earlier.map_or(lost.until, |(_, until)| *until))
    }

    /// The answer to this call came after all. The effect, if the record knew of the call.
    pub(crate) fn forget_unanswered(&mut self, nonce: &str) -> Option<Effect> {
        let index = self.unanswered.iter().position(|lost| lost.knows(nonce))?;
        let lost = &mut self.unanswered[index];
        let effect = lost.effect.clone();
        lost.repeats.retain(|(earlier, _)| earlier != nonce);
        if lost.nonce == nonce {
            match lost.repeats.pop() {
                Some((earlier, until)) => (lost.nonce, lost.until) = (earlier, until),
                None => drop(self.unanswered.remove(index)),
            }
        }
        Some(effect)
    }

    /// Forgets the calls that can no longer be accepted.
    pub(crate) fn forget_unanswered_before(&mut self, now: Timestamp) {
        for lost in &mut self.unanswered {
            lost.repeats.retain(|(_, until)| *until > now);
            // Workers' clocks differ: an earlier call can have the later end.
            if lost.until <= now
                && let Some((nonce, until)) = lost.repeats.pop()
            {
                (lost.nonce, lost.until) = (nonce, until);
            }
        }
        self.unanswered.retain(|lost| lost.until > now);
    }

    /// Whether a new command of this sort is taken now. While the bus is away most wait in the queue; what ends cost, or
    /// keeps a machine in use from being stopped, does not.
    pub fn takes(&self, action: Action) -> bool {
        never_waits_for_the_bus(action) || self.outbox.len() < crate::limits::OUTBOX_BACKLOG_MAX
    }

    /// Whether it is on and does its work: whoever waited for it may go to it.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::On && !self.up.unit_down
    }

    /// Whether it belongs into the sparse index of what is on (or on its way there or back).
    pub fn is_up(&self) -> bool {
        match self.phase {
            Phase::Starting | Phase::On | Phase::Stopping => true,
            Phase::Off => false,
            Phase::Failed => self.up.kept,
        }
    }
}

/// Names a question to a host: 32 hex digits of (target, generation, number). It fits into SSM's
/// comment (100 characters) and into a file name, and cannot be guessed to collide.
pub(crate) fn token(record: &TargetRecord) -> String {
    let mut hash = Sha256::new();
    hash.update(record.target.as_str());
    hash.update([0]);
    hash.update(record.resource.to_string());
    hash.update([0]);
    hash.update(record.generation.to_be_bytes());
    hash.update(record.checks.to_be_bytes());
    // A record that was deleted and made anew counts from 1 again; its host still knows old tokens.
    hash.update(record.since.as_millisecond().to_be_bytes());
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
