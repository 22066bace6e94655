//! Sweeps: what no message may ever be needed for.
//!
//! Each worker asks, at a jittered minute of its own, which targets are due (the sparse index on
//! `wake_at`), so that a lost wake-up costs a minute. More rarely it looks at what is up, and more
//! rarely still at what is off, in batches; a target whose machine is not where the record has it gets a
//! pass. A sweep writes nothing itself.
//!
//! *Invariant.* What fails for one target, or one shard of an index, does not end the round for the others. A round
//! in which something failed comes again in a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use lamplighter_events::TargetName;
use lamplighter_lifecycle::{
    OFF_LOOK_SECONDS, ON_LOOK_SECONDS, ObservePlan, Phase, Resource, hours_need_a_look,
    hours_want_it_at, is_unexpected,
};

use crate::failures::Failures;
use crate::ledger;
use crate::ports::{CallError, Disposition, SHARDS, Stored};
use crate::shared::Shared;

/// A describe takes this many instances at once; the adapter may cut it smaller.
const LOOK_MAX: usize = 400;
/// Records that are loaded at once: one batch of DynamoDB's. A batch that fails leaves the others alone, and each record
/// may have 64 KB. The read may be some moments old; what it misses is found by the next sweep.
const DUE_MAX: usize = 100;
/// An event is sent within a second or two of its commit, and tried again each half minute.
const UNSENT_IS_LATE: SignedDuration = SignedDuration::from_secs(120);

pub(crate) async fn keep_sweeping(shared: Arc<Shared>) {
    let started = shared.ports.clock.now();
    let mut next_up = started;
    let mut next_off = started;
    let mut left = BTreeSet::new();
    let mut strays = BTreeSet::new();
    loop {
        let now = shared.ports.clock.now();
        if let Err(error) = due(&shared).await {
            tracing::warn!(%error, "the sweep for what is due failed in part; the next one comes");
        }
        let look_up = now >= next_up;
        let look_off = now >= next_off;
        if look_off && let Err(error) = ledger::reconcile(&shared, &mut strays).await {
            tracing::warn!(%error, "machines with our tags could not be looked for; the next sweep does");
        }
        if look_up || look_off {
            match look(&shared, look_off, &mut left).await {
                Ok(()) => {
                    next_up = later(&shared, ON_LOOK_SECONDS);
                    if look_off {
                        next_off = later(&shared, OFF_LOOK_SECONDS);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a look at the fleet failed in part; again in a minute");
                }
            }
        }
        let jitter = 0.75 + shared.ports.clock.jitter() / 2.0;
        tokio::time::sleep(shared.options.sweep_every.mul_f64(jitter)).await;
    }
}

/// Earlier by up to a sweep's length, so that the promised interval is kept in spite of its jitter.
fn later(shared: &Shared, seconds: i64) -> jiff::Timestamp {
    let slack = i64::try_from(shared.options.sweep_every.as_secs()).unwrap_or(0) * 5 / 4;
    let pause = SignedDuration::from_secs((seconds - slack).max(1));
    shared.ports.clock.now().saturating_add(pause).unwrap_or(jiff::Timestamp::MAX)
}

/// Nudges what is due; what is due before the next sweep gets a timer, so that a wait longer than a
/// delayed message can last ends on time all the same.
async fn due(shared: &Arc<Shared>) -> Result<(), CallError> {
    let now = shared.ports.clock.now();
    let ahead = SignedDuration::try_from(shared.options.sweep_every.mul_f64(1.25))
        .unwrap_or(SignedDuration::ZERO);
    let horizon = now.saturating_add(ahead).unwrap_or(now);
    let mut failures = Failures::default();
    // A record with unsent events is due within half a minute, so each of them is seen here.
    let mut oldest_event: Option<jiff::Timestamp> = None;
    for shard in 0..SHARDS {
        let Some(targets) = failures.note(shared.ports.store.due(shard, horizon).await) else {
            continue;
        };
        let named: Vec<TargetName> =
            targets.into_iter().filter(|target| shared.fleet.has(target)).collect();
        for some in named.chunks(DUE_MAX) {
            let loaded = failures.note(shared.ports.store.load_all(some).await);
            for stored in loaded.into_iter().flatten() {
                let record = match stored {
                    Stored::Record(record) => record,
                    Stored::Unreadable { error, .. } => {
                        // A newer release's workers look after it: that is no failure.
                        if error.disposition != Disposition::Newer {
                            failures.note(Err::<(), _>(error));
                        }
                        continue;
                    }
                };
                if let Some(event) = record.outbox.first() {
                    oldest_event =
                        Some(oldest_event.map_or(event.at, |oldest| oldest.min(event.at)));
                }
                let Some(wake_at) = record.wake_at else { continue };
                if wake_at <= now {
                    shared.nudge(&record.target);
                } else {
                    let wait = wake_at.duration_since(now);
                    nudge_at(shared, record.target.clone(), record.rev, wait);
                }
            }
        }
    }
    tell_unsent(shared, oldest_event.map(|at| now.duration_since(at)));
    failures.end()
}

/// The field `oldest_event_seconds` is what the stack's alarm reads from the log.
fn tell_unsent(shared: &Shared, age: Option<SignedDuration>) {
    let age = age.unwrap_or_default().max(SignedDuration::ZERO);
    shared.meters.oldest_event_seconds(age.as_secs_f64());
    if age >= UNSENT_IS_LATE {
        tracing::warn!(
            oldest_event_seconds = age.as_secs(),
            "EventBridge does not take our events: they wait in the records; see the bus, its policy and our rights"
        );
    }
}

/// A timer in this process; it looks only if nothing was written since.
fn nudge_at(shared: &Arc<Shared>, target: TargetName, rev: u64, wait: SignedDuration) {
    let shared = Arc::clone(shared);
    let wait = Duration::try_from(wait).unwrap_or(Duration::ZERO);
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        match shared.ports.store.load(&target).await {
            Ok(Some(record)) if record.rev == rev => shared.nudge(&target),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a timer's look failed; the sweep looks again"),
        }
    });
}

async fn look(
    shared: &Arc<Shared>,
    off_too: bool,
    left: &mut BTreeSet<TargetName>,
) -> Result<(), CallError> {
    let mut failures = Failures::default();
    let mut expected: BTreeMap<TargetName, (Resource, Option<Phase>)> = BTreeMap::new();
    let mut every_shard = true;
    for shard in 0..SHARDS {
        let lines = failures.note(shared.ports.store.up(shard).await);
        every_shard &= lines.is_some();
        for up in lines.unwrap_or_default() {
            if shared.fleet.has(&up.target) {
                expected.insert(up.target, (up.resource, Some(up.phase)));
            } else if left.insert(up.target.clone()) {
                tracing::error!(
                    target_name = %up.target, resource = %up.resource,
                    "a target that left the fleet file is still up; put it back, or stop it by hand"
                );
                failures.note(announce_left(shared, &up.target, &up.resource).await);
            }
        }
    }
    let up: BTreeSet<TargetName> = expected.keys().cloned().collect();
    // What an unread shard holds would pass for off.
    if off_too && every_shard {
        failures.note(mind_hours(shared, &up).await);
        for (name, spec) in shared.fleet.targets.iter().filter(|(name, _)| !up.contains(*name)) {
            match shared.ports.cloud.resolve(&spec.place).await {
                Ok(resource) => {
                    expected.insert(name.clone(), (resource, None));
                }
                Err(error) => tracing::warn!(target_name = %name, %error, "it has no machine"),
            }
        }
    }
    let expected: Vec<_> = expected.into_iter().collect();
    for chunk in expected.chunks(LOOK_MAX) {
        let plans: Vec<ObservePlan> =
            chunk.iter().map(|(_, (resource, _))| ObservePlan::bare(resource.clone())).collect();
        let sightings = shared.ports.cloud.observe(&plans).await;
        for ((target, (_, phase)), sighting) in chunk.iter().zip(sightings) {
            let Some(Ok(seen)) = failures.note(sighting) else { continue };
            if is_unexpected(*phase, seen.state()) {
                tracing::info!(target_name = %target, state = seen.state().as_str(), "unexpected");
                shared.nudge(target);
            }
        }
    }
    failures.end()
}

/// A target with office hours has a `wake_at` for its next window. One that nobody has looked at yet, or whose
/// hours are new or others than before, gets its first look here.
async fn mind_hours(shared: &Arc<Shared>, up: &BTreeSet<TargetName>) -> Result<(), CallError> {
    let now = shared.ports.clock.now();
    let timed: Vec<(&TargetName, jiff::Timestamp)> = shared
        .fleet
        .targets
        .iter()
        .filter(|(name, _)| !up.contains(*name))
        .filter_map(|(name, spec)| {
            let hours = spec.hours.as_ref()?;
            Some((name, hours_want_it_at(hours, now)?))
        })
        .collect();
    let names: Vec<TargetName> = timed.iter().map(|(name, _)| (*name).clone()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let records = shared.ports.store.load_all(&names).await?;
    for (name, needed) in timed {
        let stored = records.iter().find(|stored| stored.target() == name);
        // What cannot be read here is looked after by a newer release's workers.
        if stored.is_some_and(|stored| stored.record().is_none()) {
            continue;
        }
        let record = stored.and_then(Stored::record);
        if hours_need_a_look(record, needed) {
            shared.nudge(name);
        }
    }
    Ok(())
}

/// Said once a process: the record of such a target is nobody's to write.
async fn announce_left(
    shared: &Shared,
    target: &TargetName,
    resource: &Resource,
) -> Result<(), CallError> {
    use lamplighter_events::{AttentionKind, EventBody, LifecycleEvent};
    let event = LifecycleEvent {
        id: format!("{target}:left-fleet"),
        at: shared.ports.clock.now(),
        target: Some(target.clone()),
        body: EventBody::Attention {
            attention: AttentionKind::LeftFleet,
            message: "it left the fleet file and is still up".to_owned(),
            instance: Some(resource.to_string()),
        },
    };
    shared.ports.bus.emit(&[event]).await.map(|_| ())
}
