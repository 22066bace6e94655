//! Old descriptions: what AWS shows of our own changes may come late, and may go back.
//!
//! *Theory.* EC2 asks for patience "from a couple of seconds … up to five minutes" (*Eventual consistency in the
//! Amazon EC2 API*), and two reads in a row may come from two replicas. So an observation is compared with what AWS
//! accepted from us. For [`SHOWS_WITHIN_SECONDS`] after an accepted start or stop, a state from before it may be old,
//! and nothing is concluded from it. For [`OWN_CHANGE_SECONDS`], what shows up is ours. EC2's own times tell more: an
//! instance's launch time is that of its latest start, and its transition reason names the time of a user's stop.
//! Where they are newer than our change, somebody else acted. A service has no such times, but a description of it is
//! not older than the newest of its events.
//!
//! *Not here.* Effects without an answer (`unanswered`), and the margin of seconds after each effect (`quiet`).

use jiff::Timestamp;

use crate::accepted::launched_at_of;
use crate::kinds::Kind;
use crate::limits::{OWN_CHANGE_SECONDS, SHOWS_WITHIN_SECONDS, TIMES_DIFFER_SECONDS};
use crate::observed::{Bounds, InstanceSeen, Observed, PowerState, Seen};
use crate::pass::Pass;
use crate::phase::Phase;
use crate::record::TargetRecord;
use crate::time::later;

/// Whether a start of ours may show though the target is at rest. It is looked for until then.
pub(crate) fn awaits_own_start(record: &TargetRecord, now: Timestamp) -> bool {
    matches!(record.phase, Phase::Off | Phase::Failed)
        && record.accepted.ends_with_start()
        && is_within(record.accepted.start, OWN_CHANGE_SECONDS, now)
}

fn is_within(at: Option<Timestamp>, seconds: i64, now: Timestamp) -> bool {
    at.is_some_and(|at| now < later(at, seconds))
}

/// When a user last stopped the machine, where EC2 tells.
fn stopped_at(seen: &Observed) -> Option<Timestamp> {
    seen.instance().and_then(|instance| instance.user_stopped_at)
}

/// What the record knows of the resource that `seen` shows, unless it had another one then: a target that is launched has
/// had others before.
fn known_of_same<'r>(record: &'r TargetRecord, seen: &Observed) -> Option<&'r Observed> {
    let known = record.observed.as_ref()?;
    let launched_at = record.provision.launch.as_ref().and_then(|launch| launch.launched_at);
    let same = match (&known.seen, &seen.seen) {
        (Seen::Instance(_), Seen::Instance(_)) => record.resource.instance().is_some(),
        (Seen::Service(_), Seen::Service(_)) => true,
        _ => false,
    };
    (same && launched_at.is_none_or(|at| known.at > at)).then_some(known)
}

/// What is known of a machine that has ended, where `seen` shows it as it was before, or as before its launch.
pub(crate) fn ended(record: &TargetRecord, seen: &Observed) -> Option<Observed> {
    let known = known_of_same(record, seen)?;
    let ended = known.state() == PowerState::Terminated;
    (ended && seen.state() != PowerState::Terminated)
        .then(|| Observed { at: seen.at, ..known.clone() })
}

/// The time of the newest change that a description shows, by AWS's own clock.
fn newest_change(of: &Observed) -> Option<Timestamp> {
    match &of.seen {
        Seen::Instance(it) => {
            it.launched_at.map(|at| it.user_stopped_at.map_or(at, |it| it.max(at)))
        }
        Seen::Service(service) => service.newest_event_at,
    }
}

/// Whether `seen` shows an older state of the same resource than the record knows. Replicas agree again within
/// [`SHOWS_WITHIN_SECONDS`].
pub(crate) fn goes_back(record: &TargetRecord, seen: &Observed) -> bool {
    let Some(known) = known_of_same(record, seen) else { return false };
    let older =
        newest_change(seen).zip(newest_change(known)).is_some_and(|(seen, known)| seen < known);
    older && seen.at < later(known.at, SHOWS_WITHIN_SECONDS)
}

/// Until when this state may be one from before the last start or stop that AWS accepted; `None`: it is newer.
pub(crate) fn old_until(record: &TargetRecord, seen: &Observed) -> Option<Timestamp> {
    let changes = &record.accepted;
    let kind = Kind::of(&record.resource, record.kind);
    let at = match seen.state() {
        PowerState::Pending | PowerState::Running => {
            changes.stop.filter(|stop| !is_up_since(seen, *stop, changes.stopped_launch))
        }
        // A service has no time of its last stop: what follows an accepted one is taken for it.
        PowerState::Stopping | PowerState::Stopped
            if !kind.tells_its_times() && changes.ends_with_stop() =>
        {
            None
        }
        PowerState::Stopping | PowerState::Stopped if !kind.stop_destroys() => {
            changes.start.filter(|start| !is_down_since(seen, *start))
        }
        // These are final, or waited for elsewhere.
        _ => None,
    };
    let until = later(at?, SHOWS_WITHIN_SECONDS);
    (seen.at < until).then_some(until)
}

/// Whether a time of EC2's is after one of ours, whichever clock is ahead.
fn is_newer(theirs: Option<Timestamp>, ours: Timestamp) -> bool {
    theirs.is_some_and(|theirs| theirs > later(ours, TIMES_DIFFER_SECONDS))
}

/// Whether a description of what is up is from after a stop that AWS accepted. `known` is the launch that was stopped:
/// EC2's times are whole seconds, so another launch in the second of the stop is from after it.
fn is_up_since(seen: &Observed, stop: Timestamp, known: Option<Timestamp>) -> bool {
    let another = |launch| known.is_some_and(|known| known < launch) && is_not_before(launch, stop);
    match &seen.seen {
        Seen::Instance(instance) => {
            instance.launched_at.is_some_and(|launch| launch > stop || another(launch))
        }
        Seen::Service(service) => service.newest_event_at.is_some_and(|at| at > stop),
    }
}

/// Whether a description of what is down is from after a start that AWS accepted: by the time of its stop, or since it
/// shows this start as its launch.
fn is_down_since(seen: &Observed, start: Timestamp) -> bool {
    let launched =
        |instance: &InstanceSeen| instance.launched_at.is_some_and(|at| is_not_before(at, start));
    match &seen.seen {
        Seen::Instance(instance) => is_newer(instance.user_stopped_at, start) || launched(instance),
        Seen::Service(service) => service.newest_event_at.is_some_and(|at| at > start),
    }
}

/// Whether a time of EC2's is not before one of ours.
fn is_not_before(theirs: Timestamp, ours: Timestamp) -> bool {
    later(theirs, TIMES_DIFFER_SECONDS) >= ours
}

impl Pass<'_> {
    /// What was seen may be from before a start or stop of ours. Somebody looks again.
    pub(crate) fn may_be_old(&mut self) -> bool {
        let Some(seen) = self.seen() else { return false };
        if old_until(&self.record, seen).is_none() {
            return false;
        }
        self.why(format!(
            "{} says {}, which may be from before the last change; looking again",
            self.record.resource.speaker(),
            seen.state().as_str()
        ));
        self.look_after_poll();
        true
    }

    /// A stop of ours was accepted after the last start, and does not show yet.
    pub(crate) fn own_stop_does_not_show(&mut self) -> bool {
        self.record.accepted.ends_with_stop() && self.may_be_old()
    }

    /// What shows up was sent up by a start of ours.
    pub(crate) fn own_start_shows(&self) -> bool {
        let changes = &self.record.accepted;
        let Some(seen) = self.seen() else { return false };
        let Some(start) = changes.start else { return false };
        let ours = match launched_at_of(seen) {
            Some(launched) => !is_newer(Some(launched), start),
            None => changes.ends_with_start(),
        };
        ours && is_within(Some(start), OWN_CHANGE_SECONDS, self.seen_at())
    }

    /// What shows as going down, or down, was sent there by a stop of ours.
    pub(crate) fn own_stop_shows(&self) -> bool {
        let changes = &self.record.accepted;
        let Some(seen) = self.seen() else { return false };
        let Some(stop) = changes.stop.filter(|_| changes.ends_with_stop()) else { return false };
        !is_newer(stopped_at(seen), stop)
            && is_within(Some(stop), OWN_CHANGE_SECONDS, self.seen_at())
    }

    /// Somebody stopped the machine after our last change of it, by EC2's own time.
    pub(crate) fn stopped_by_somebody(&self) -> bool {
        let changes = &self.record.accepted;
        let stopped = self.seen().and_then(stopped_at);
        changes.start.max(changes.stop).is_some_and(|ours| is_newer(stopped, ours))
    }

    /// A start of ours was accepted minutes ago at most.
    pub(crate) fn started_lately(&self) -> bool {
        is_within(self.record.accepted.start, OWN_CHANGE_SECONDS, self.seen_at())
    }

    /// A service went to 0 by bounds of 0 and 0 that were accepted minutes ago, and no start was since.
    pub(crate) fn own_suspension_shows(&self) -> bool {
        let changes = &self.record.accepted;
        changes.suspension > changes.start
            && is_within(changes.suspension, OWN_CHANGE_SECONDS, self.seen_at())
    }

    /// Just after a phase began, another state of a service may be older than that.
    pub(crate) fn phase_is_young(&mut self) -> bool {
        let until = later(self.record.since, SHOWS_WITHIN_SECONDS);
        let timeless = !self.kind().tells_its_times();
        let newest = self.seen().and_then(Observed::service).and_then(|it| it.newest_event_at);
        let newer = newest.is_some_and(|at| at > self.record.since);
        let young = timeless && !newer && self.record.rev > 0 && self.seen_at() < until;
        if young {
            self.why("ECS says otherwise than a moment ago; looking again");
            self.look_after_poll();
        }
        young
    }

    /// The bounds that are in force: those that were accepted last, until others must show.
    pub(crate) fn bounds_in_force(&self, seen: Bounds) -> Bounds {
        let accepted = self.record.accepted.bounds;
        let hidden = accepted.filter(|it| self.seen_at() < later(it.at, SHOWS_WITHIN_SECONDS));
        hidden.map_or(seen, |it| it.bounds)
    }

    /// Bounds that we set minutes ago may still be taken for others by a read that goes back.
    pub(crate) fn bounds_were_set_lately(&self) -> bool {
        let changes = &self.record.accepted;
        let at = changes.bounds.map(|it| it.at).max(changes.suspension);
        is_within(at, OWN_CHANGE_SECONDS, self.seen_at())
    }
}
