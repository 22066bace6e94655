//! The changes of a resource that AWS accepted from us.
//!
//! *Not here.* What follows from them for an observation (`lag`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::effect::{Effect, EffectKind, Unanswered};
use crate::limits::{SIGNATURE_LIFE_SECONDS, SKEW_MAX_SECONDS};
use crate::observed::{Bounds, Observed};
use crate::time::later;

/// Bounds that Application Auto Scaling took from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedBounds {
    /// When.
    pub at: Timestamp,
    /// Which.
    pub bounds: Bounds,
}

/// The last changes of the resource that AWS accepted from us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedChanges {
    /// The last start, or launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// The last stop, or termination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Timestamp>,
    /// The launch time that EC2 showed before the last stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_launch: Option<Timestamp>,
    /// The last time that scaling's bounds were set to 0 and 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspension: Option<Timestamp>,
    /// The last bounds; absent while a later change of them has no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<AcceptedBounds>,
}

impl AcceptedChanges {
    /// Nothing was accepted yet.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Takes note of an effect that AWS accepted at this time, or just before. `known` is what was observed before it.
    pub(crate) fn note(&mut self, effect: &Effect, at: Timestamp, known: Option<&Observed>) {
        let newest = |known: &mut Option<Timestamp>| *known = (*known).max(Some(at));
        match effect.kind() {
            EffectKind::Start => newest(&mut self.start),
            EffectKind::Stop => {
                newest(&mut self.stop);
                self.stopped_launch = known.and_then(launched_at_of);
            }
            EffectKind::Send => {}
            EffectKind::Scale => {
                if let Effect::RegisterScalableTarget { bounds, .. } = effect {
                    if *bounds == Bounds::ZERO {
                        newest(&mut self.suspension);
                    }
                    self.bounds = Some(AcceptedBounds { at, bounds: *bounds });
                }
            }
        }
    }

    /// A start whose answer was lost shows, so AWS accepted it: by the end of its permission.
    pub(crate) fn note_lost_start(&mut self, unanswered: &[Unanswered], now: Timestamp) {
        let starts = unanswered.iter().filter(|lost| lost.effect.kind() == EffectKind::Start);
        self.start = starts.map(|lost| made_by(lost.until).min(now)).max().max(self.start);
    }

    /// Whether the last of both was the start: then nothing of ours has sent it down since.
    pub(crate) fn ends_with_start(&self) -> bool {
        self.start.is_some() && self.start > self.stop
    }

    pub(crate) fn ends_with_stop(&self) -> bool {
        self.stop.is_some() && self.stop > self.start
    }
}

/// When the call was made at the latest whose signed request is accepted until then.
pub(crate) fn made_by(until: Timestamp) -> Timestamp {
    later(until, -(SIGNATURE_LIFE_SECONDS + SKEW_MAX_SECONDS))
}

/// When the machine was last started, where EC2 tells.
pub(crate) fn launched_at_of(seen: &Observed) -> Option<Timestamp> {
    seen.instance().and_then(|instance| instance.launched_at)
}
