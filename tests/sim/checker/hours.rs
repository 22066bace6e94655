//! W1: office hours.
//!
//! The windows were drawn in true time and only then written in the words of a zone; the worker reads the
//! words, this reads what was drawn. A stop, a kill or a stop outside within a window suppresses it until its
//! end; around a window's edges, by as much as clocks differ and looks take, either may be so.

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{Action, Verdict};
use lamplighter_lifecycle::{HoldKind, TargetRecord};

use super::Watch;
use super::end::Ending;
use crate::rule::Rule;
use crate::table::Table;

/// A window's beginning and end are found by a sweep within a minute, or by a message at once.
const EDGE: SignedDuration = SignedDuration::from_mins(3);
/// A stop this near to a window's beginning may count as either.
const CLOCKS: SignedDuration = SignedDuration::from_secs(5);

impl Watch {
    pub(super) fn check_hours(
        &mut self,
        record: &TargetRecord,
        table: &Table,
        ending: &Ending,
        now: Timestamp,
    ) {
        let name = &record.target;
        let Some(policy) = self.policies.get(name) else { return };
        let held = record.holds.iter().any(|hold| hold.kind == HoldKind::Window);
        let edge = policy.windows.iter().any(|(from, until)| {
            (*from - EDGE..*from + EDGE).contains(&now)
                || (*until - EDGE..*until + EDGE).contains(&now)
        });
        if edge {
            return;
        }
        let inside = policy.windows.iter().find(|(from, until)| *from <= now && now < *until);
        let Some((from, until)) = inside.copied() else {
            if held {
                self.wrong(Rule::W1, now, format!("{name}: held by a window that is not"));
            }
            return;
        };
        let ends = ending
            .said
            .iter()
            .filter(|one| one.target == *name && matches!(one.action, Action::Stop | Action::Kill));
        let taken = ends.filter_map(|one| table.commands.get(&one.id)).filter(|command| {
            command.outcome.as_ref().is_none_or(|it| it.outcome != Verdict::Rejected)
        });
        let times: Vec<Timestamp> = taken.map(|command| command.sent_at).collect();
        let surely = times.iter().any(|at| *at > from + CLOCKS);
        let perhaps = times.iter().any(|at| *at > from - CLOCKS) || self.was_stopped_outside(name);
        if held && surely {
            self.wrong(Rule::W1, now, format!("{name}: held by a window that was suppressed"));
        }
        if !held && !perhaps {
            let what = format!("{name}: inside its window {from} to {until}, and not held by it");
            self.wrong(Rule::W1, now, what);
        }
    }
}
