//! Holds: the recorded reasons for a target to be on.
//!
//! *Invariant.* There is at most one requested hold per holder; its end is that of the newest start.
//! *Order* is by `Sent`: the time SQS took the message, ties by command id, so that reordering and
//! replays cannot change who wins.

use jiff::Timestamp;
use lamplighter_events::Holder;
use serde::{Deserialize, Serialize};

/// When something was asked: the queue's `SentTimestamp`, ties broken by the command's id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sent {
    /// The queue's time.
    pub at: Timestamp,
    /// The command's id.
    pub id: String,
}

impl Sent {
    /// A position in the order.
    pub fn new(at: Timestamp, id: impl Into<String>) -> Self {
        Self { at, id: id.into() }
    }
}

/// Why a hold exists, and so what may end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldKind {
    /// A start with an end: idleness does not end it.
    Firm,
    /// A start without an end, where the target has an idle policy.
    IdleBounded,
    /// A start without an end and without an idle policy.
    UntilReleased,
    /// The machine was found running, or started by someone else.
    Adopted,
    /// A window of the target's office hours.
    Window,
}

impl HoldKind {
    /// The word used in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firm => "firm",
            Self::IdleBounded => "idle-bounded",
            Self::UntilReleased => "until-released",
            Self::Adopted => "adopted",
            Self::Window => "window",
        }
    }
}

/// A recorded reason for a target to be on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The id of the command that made it, or `adopted:<generation>`, or `window:<from>`.
    pub id: String,
    /// Who wants it.
    pub holder: Holder,
    /// Why, and so what may end it.
    pub kind: HoldKind,
    /// In force from here (inclusive).
    pub from: Timestamp,
    /// Up to here (exclusive), if it has an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The latest start that it stands for.
    pub sent: Sent,
    /// What its holder said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Hold {
    /// Whether it wants the target on at `now`.
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.from <= now && !self.expired(now)
    }
    /// Whether its end has come.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
    /// Whether somebody asked for it.
    pub fn requested(&self) -> bool {
        !matches!(self.kind, HoldKind::Adopted | HoldKind::Window)
    }
}
