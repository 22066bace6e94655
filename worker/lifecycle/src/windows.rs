//! Office hours as holds: a window in force is a hold like any other, made and ended by the clock.
//!
//! *Invariants.* At most one window's hold at a time. A window that was suppressed (by a stop, a kill, or a stop
//! outside) stays so until its own end. When the fleet file's hours change, the hold follows.

use jiff::Timestamp;
use lamplighter_events::Holder;

use crate::hold::{Hold, HoldKind, Sent};
use crate::pass::Pass;

/// Makes, moves or drops the window's hold, so that the record agrees with the hours at `now`.
pub(crate) fn open(pass: &mut Pass<'_>) {
    let now = pass.now;
    let window = pass.spec.hours.as_ref().and_then(|hours| hours.at(now));
    if pass.record.suppressed_until.is_some_and(|until| until <= now) {
        pass.record.suppressed_until = None;
    }
    let mine = pass.record.holds.iter().position(|hold| hold.kind == HoldKind::Window);
    match (window, mine) {
        (None, None) => {}
        (None, Some(index)) => {
            pass.record.holds.remove(index);
            pass.note("the office hours changed: its window is over");
        }
        (Some(window), Some(index)) => pass.record.holds[index].until = Some(window.until),
        (Some(_), None) if pass.record.suppressed_until.is_some() => {}
        (Some(window), None) => {
            let id = format!("window:{}", window.from);
            // "office-hours" is a word, not a name: it cannot be wrong.
            let holder = Holder::parse("office-hours").unwrap_or_else(|_| Holder::shared());
            let reason = pass.spec.hours.as_ref().map(crate::hours::Hours::describe);
            pass.note(format!("a window of its office hours began, until {}", window.until));
            pass.record.holds.push(Hold {
                // A stop that was sent before the window began does not end it.
                sent: Sent::new(window.from, id.clone()),
                id,
                holder,
                kind: HoldKind::Window,
                from: window.from,
                until: Some(window.until),
                reason,
            });
        }
    }
}

/// A window's hold was ended by somebody: it does not come back before its end.
pub(crate) fn suppress(pass: &mut Pass<'_>, ended: &Hold) {
    if ended.kind == HoldKind::Window {
        pass.record.suppressed_until = pass.record.suppressed_until.max(ended.until);
    }
}

/// When a window begins next.
pub(crate) fn next(pass: &Pass<'_>) -> Option<Timestamp> {
    let hours = pass.spec.hours.as_ref()?;
    let from = pass.record.suppressed_until.map_or(pass.now, |until| until.max(pass.now));
    // A suppressed window may be followed by another at once.
    match pass.record.suppressed_until {
        Some(until) if hours.at(until).is_some() => Some(until),
        _ => hours.next_from(from),
    }
}
