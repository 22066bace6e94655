//! What a message asks of a target.

use lamplighter_events::{InstanceId, TargetName};
use lamplighter_lifecycle::{AcceptedCommand, Round, SpotNotice};

/// What a message asks of a target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// A new input.
    Command(Box<AcceptedCommand>),
    /// A look; a wake-up's carries the version that set it. `look`: somebody else asked for it too (a
    /// signal, a sweep), so that it is made even if the wake-up turns out to be void.
    Nudge {
        wake_rev: Option<u64>,
        look: bool,
        /// A tick's answers of the target's probes, where they look as if something followed from them.
        round: Option<Box<Round>>,
        /// Rounds that somebody else has asked: their requests were ours.
        asked: Vec<Round>,
        /// EC2 said that it takes the spot machine back.
        notice: Option<SpotNotice>,
        /// A machine that bears the target's tags, where a sweep found one that no record knows.
        found: Option<InstanceId>,
        /// A machine of a launch that the target gave up.
        given_up: Option<InstanceId>,
    },
}

impl Work {
    /// Whether it brings what nobody would bring again: it must not be taken for a look among others.
    pub(crate) fn brings_news(&self) -> bool {
        match self {
            Self::Nudge { round, asked, notice, found, given_up, .. } => {
                let told = round.is_some() || !asked.is_empty();
                told || notice.is_some() || found.is_some() || given_up.is_some()
            }
            Self::Command(_) => false,
        }
    }
    /// A look that a signal or a sweep asks for.
    pub(crate) fn look() -> Self {
        Self::Nudge {
            wake_rev: None,
            look: true,
            round: None,
            asked: Vec::new(),
            notice: None,
            found: None,
            given_up: None,
        }
    }
    /// A look with a tick's answers.
    pub(crate) fn round(round: Round) -> Self {
        let mut work = Self::look();
        if let Self::Nudge { round: place, .. } = &mut work {
            *place = Some(Box::new(round));
        }
        work
    }
    /// A look that remembers a round which somebody else has asked.
    pub(crate) fn asked(round: Round) -> Self {
        let mut work = Self::look();
        if let Self::Nudge { asked, .. } = &mut work {
            asked.push(round);
        }
        work
    }
    /// A look for a wake-up of this version.
    pub(crate) fn wake_up(rev: u64) -> Self {
        let mut work = Self::look();
        if let Self::Nudge { wake_rev, look, .. } = &mut work {
            (*wake_rev, *look) = (Some(rev), false);
        }
        work
    }
    /// A look at a machine that no record knows.
    pub(crate) fn found(instance: InstanceId) -> Self {
        let mut work = Self::look();
        if let Self::Nudge { found, .. } = &mut work {
            *found = Some(instance);
        }
        work
    }
    /// A look that ends a machine of a launch that was given up.
    pub(crate) fn given_up(instance: InstanceId) -> Self {
        let mut work = Self::look();
        if let Self::Nudge { given_up, .. } = &mut work {
            *given_up = Some(instance);
        }
        work
    }
}

/// Where a message goes.
pub(crate) enum Routed {
    /// To a target's task.
    To(TargetName, Work),
    /// Nowhere: it is done with.
    Done,
}
