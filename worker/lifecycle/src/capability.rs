//! What each action takes: a right, a kind of target that can do it, and something to wait for.
//!
//! This is the one table of it. The rules here, the HTTP API and through it the page read it.

use lamplighter_events::Action;

use crate::kinds::Kind;
use crate::kinds::Kind::{Instance, Launched, Service};

/// The right that a caller of the HTTP API needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To send commands for a holder.
    Command,
    /// To end what others hold.
    Kill,
    /// To change how the fleet is run.
    Admin,
}

/// What the outcome waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// Nothing but what it asks itself.
    Nothing,
    /// The target is on, or its start failed.
    On,
    /// The target is off.
    Off,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// The right that it takes.
    pub need: Need,
    /// What its outcome waits for.
    pub waits_for: WaitsFor,
    /// The kinds that can do it.
    pub kinds: &'static [Kind],
    /// The kinds whose targets it is offered for, to people who look at one.
    pub offered_for: &'static [Kind],
}

/// The kinds whose targets the fleet file names.
const NAMED: &[Kind] = &[Instance, Service];
/// The kinds whose targets a create makes.
const CREATED: &[Kind] = &[Launched];
const NONE: &[Kind] = &[];

/// The row of an action.
pub const fn capability(action: Action) -> Capability {
    const ALL: &[Kind] = &Kind::ALL;
    const fn row(
        need: Need,
        waits_for: WaitsFor,
        kinds: &'static [Kind],
        offered_for: &'static [Kind],
    ) -> Capability {
        Capability { need, waits_for, kinds, offered_for }
    }
    match action {
        // Somebody who has a launched machine already can hold it for longer by a start.
        Action::Start => row(Need::Command, WaitsFor::On, ALL, NAMED),
        // A template makes the target; nobody looks at it before.
        Action::Create => row(Need::Command, WaitsFor::On, CREATED, NONE),
        Action::Stop => row(Need::Command, WaitsFor::Off, ALL, ALL),
        Action::Kill => row(Need::Kill, WaitsFor::Off, ALL, ALL),
        Action::Destroy => row(Need::Kill, WaitsFor::Off, CREATED, CREATED),
        Action::Status | Action::CheckIdle | Action::KeepAlive => {
            row(Need::Command, WaitsFor::Nothing, ALL, ALL)
        }
        Action::Pause | Action::Resume => row(Need::Admin, WaitsFor::Nothing, ALL, ALL),
    }
}

impl Kind {
    /// Whether a target of this kind can do this.
    pub fn takes(self, action: Action) -> bool {
        capability(action).kinds.contains(&self)
    }

    /// Whether a create makes its targets; the fleet file names those of the other kinds.
    pub fn is_created(self) -> bool {
        self.takes(Action::Create)
    }

    /// Whether it is offered to people who look at a target of this kind.
    pub fn offers(self, action: Action) -> bool {
        capability(action).offered_for.contains(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_offered_that_is_refused() {
        for action in Action::ALL {
            let capability = capability(action);
            assert!(!capability.kinds.is_empty(), "{action:?}");
            for kind in capability.offered_for {
                assert!(kind.takes(action), "{action:?} of {kind}");
            }
        }
    }

    /// (action, instance, service, launched): whether the kind can do it, and whether it is offered.
    #[test]
    fn what_each_kind_can_do() {
        let rows = [
            (Action::Start, "yes", "yes", "silently"),
            (Action::Create, "no", "no", "silently"),
            (Action::Stop, "yes", "yes", "yes"),
            (Action::Kill, "yes", "yes", "yes"),
            (Action::Destroy, "no", "no", "yes"),
            (Action::Status, "yes", "yes", "yes"),
            (Action::CheckIdle, "yes", "yes", "yes"),
            (Action::KeepAlive, "yes", "yes", "yes"),
            (Action::Pause, "yes", "yes", "yes"),
            (Action::Resume, "yes", "yes", "yes"),
        ];
        assert_eq!(rows.len(), Action::ALL.len());
        for (action, instance, service, launched) in rows {
            for (kind, expected) in Kind::ALL.into_iter().zip([instance, service, launched]) {
                let found = match (kind.takes(action), kind.offers(action)) {
                    (true, true) => "yes",
                    (true, false) => "silently",
                    (false, _) => "no",
                };
                assert_eq!(found, expected, "{action:?} of {kind}");
            }
        }
    }
}
