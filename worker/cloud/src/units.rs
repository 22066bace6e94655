//! The systemd units of a machine, as far as `systemctl is-active` can tell.
//!
//! A unit's state is a function of what happens to its machine (boot, stop), of its seed (what becomes
//! of it after a boot, and when), and of what a person does to it (die, fail, repair).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::queue::plus;
use crate::timings::{maybe_not_negative, not_negative};

/// What `systemctl is-active` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitState {
    /// It runs.
    Active,
    /// It is on its way.
    Activating,
    /// It does not run and nobody minds.
    Inactive,
    /// It ended badly.
    Failed,
}

impl UnitState {
    /// The word systemd prints.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Activating => "activating",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
        }
    }
}

/// How a unit behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnitSeed {
    /// What becomes of it after a boot: `active`, `failed` or `inactive`.
    pub after_boot: UnitState,
    /// Whether a boot starts it at all.
    pub enabled: bool,
    /// How long after `running` it gets there; it is `activating` until then.
    #[serde(deserialize_with = "not_negative")]
    pub active_after: SignedDuration,
    /// How long after it became active it fails by itself.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub dies_after: Option<SignedDuration>,
}

impl Default for UnitSeed {
    fn default() -> Self {
        Self {
            after_boot: UnitState::Active,
            enabled: true,
            active_after: SignedDuration::ZERO,
            dies_after: None,
        }
    }
}

/// One unit on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// How it behaves.
    pub seed: UnitSeed,
    /// Its state now; meaningless while the machine is not running.
    pub state: UnitState,
    next: Option<(Timestamp, UnitState)>,
}

impl Unit {
    /// A unit on a machine that is off.
    #[must_use]
    pub fn new(seed: UnitSeed) -> Self {
        Self { seed, state: UnitState::Inactive, next: None }
    }

    /// When its state changes by itself.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.next.map(|(at, _)| at)
    }

    pub(crate) fn boot(&mut self, at: Timestamp) {
        self.next = None;
        if !self.seed.enabled {
            self.state = UnitState::Inactive;
        } else if self.seed.active_after.is_zero() {
            self.reach(at, self.seed.after_boot);
        } else {
            self.state = UnitState::Activating;
            self.next = Some((plus(at, self.seed.active_after), self.seed.after_boot));
        }
    }

    pub(crate) fn halt(&mut self) {
        self.state = UnitState::Inactive;
        self.next = None;
    }

    /// Ends badly now; the next boot starts it again.
    pub(crate) fn die(&mut self) {
        self.state = UnitState::Failed;
        self.next = None;
    }

    /// Runs now, and after every later boot.
    pub(crate) fn repair(&mut self, at: Timestamp, running: bool) {
        self.seed.after_boot = UnitState::Active;
        self.seed.dies_after = None;
        if running {
            self.reach(at, UnitState::Active);
        }
    }

    /// Fails now, and after every later boot.
    pub(crate) fn fail(&mut self, running: bool) {
        self.seed.after_boot = UnitState::Failed;
        if running {
            self.die();
        }
    }

    pub(crate) fn step(&mut self, now: Timestamp) {
        if let Some((at, state)) = self.next
            && at <= now
        {
            self.reach(at, state);
        }
    }

    fn reach(&mut self, at: Timestamp, state: UnitState) {
        self.state = state;
        let dies = self.seed.dies_after.filter(|_| state == UnitState::Active);
        self.next = dies.map(|after| (plus(at, after), UnitState::Failed));
    }
}
