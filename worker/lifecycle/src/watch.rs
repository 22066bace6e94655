//! What a tick needs to know of a target that is on, and what idleness may end.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::hold::{Hold, HoldKind};
use crate::idle::{IdleMemory, IdleVerdict, Judged, judge};
use crate::phase::Phase;
use crate::probe::{IdleOverride, IdleSpec, Round};
use crate::record::TargetRecord;
use crate::spec::TargetSpec;

/// Whether idleness may end this hold. An exclusive machine's holder is not put out by it.
pub fn ends_by_idleness(hold: &Hold, spec: &TargetSpec) -> bool {
    match hold.kind {
        HoldKind::IdleBounded => !spec.exclusive,
        HoldKind::Adopted => true,
        HoldKind::Firm | HoldKind::UntilReleased | HoldKind::Window => false,
    }
}

/// The time from before which idleness does not count: readiness, the latest start, the latest keep-alive.
pub fn idle_floor(record: &TargetRecord, now: Timestamp) -> Timestamp {
    let starts = record
        .holds_in_force(now)
        .filter(|hold| hold.kind == HoldKind::IdleBounded)
        .map(|hold| hold.sent.at);
    starts.chain(record.idle.kept_alive_at).fold(record.since, Timestamp::max)
}

/// What a tick needs to know of a target that is on, so that it need not load its record. It stands in the
/// index of what is up, of exactly those whose idleness could end something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdleWatch {
    /// As `idle_floor` has it.
    pub floor: Timestamp,
    /// What is remembered of the probes.
    pub memory: IdleMemory,
}

impl IdleWatch {
    /// Of a record; `None` where a tick has nothing to look at.
    pub fn of(record: &TargetRecord) -> Option<Self> {
        let may_end = |hold: &Hold| matches!(hold.kind, HoldKind::IdleBounded | HoldKind::Adopted);
        let on = record.phase == Phase::On && record.holds.iter().any(may_end);
        // A future hold does not matter to its floor: a pass looks again with the record itself.
        on.then(|| Self { floor: idle_floor(record, Timestamp::MAX), memory: record.idle.clone() })
    }

    /// Judges a tick's first round; whether a pass is worth it (`None`: nothing would change).
    pub fn judge(
        &self,
        idle: &IdleSpec,
        over: IdleOverride,
        round: &Round,
        now: Timestamp,
    ) -> (Judged, bool) {
        let judged = judge(idle, over, &self.memory, std::slice::from_ref(round), self.floor, now);
        let acts = matches!(judged.verdict, IdleVerdict::Idle | IdleVerdict::AskHost);
        let gone = judged.unreachable_for_long
            && (judged.memory.unreachable_said_at.is_none() || idle.stop_unreachable);
        let silent = judged.silent_for_long && judged.memory.silent_said_at.is_none();
        let pass = acts || gone || silent || judged.memory != self.memory;
        (judged, pass)
    }
}
