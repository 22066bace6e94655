//! One tick's `check-idle` for the whole fleet.
//!
//! *Theory.* What is off costs nothing: the index of what is up names the targets whose idleness could end
//! something, with what is remembered of their probes. They are shared out as messages, a thousand each at most, so
//! that the pool works on them side by side. A part is observed in one look; each target's probes are asked by
//! themselves, so that a slow backend delays no other, and all at once, so that the metrics of many fill one
//! call: how many backends are asked at the same moment is the port's to bound. Where nothing would change,
//! nothing is written and no record is loaded; where something would, the target gets a pass, to which these
//! readings are the first of two rounds.
//!
//! Whoever asks probes outside of a pass (a person, by `lamplighter probe`) sends what was asked in the same form, so that
//! the record knows those requests as our own ([`asked_message`]).
//!
//! *Invariant.* Nothing is decided here: a pass looks again, with the record, and asks once more.

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter_events::{Command, CommandId, IdleShard, TargetName, Thresholds, Verdict};
use lamplighter_lifecycle::{
    IdleOverride, IdleWatch, ObservePlan, Observed, PowerState, Resource, Round, plan_probes,
};
use tokio::task::JoinSet;

use crate::attributes::{TRACE_ATTRIBUTE, trace_of};
use crate::failures::Failures;
use crate::outcomes::{Concluded, announce, conclude};
use crate::ports::{CallError, Outgoing, Received, SHARDS, UpTarget};
use crate::shared::Shared;
use crate::work::{Routed, Work};

/// A queue that was made before August 2025, or by a template of that time, takes messages of 256 KiB. This fits with
/// room for attributes and for a target whose notes are long; smaller parts cost nothing, since the calls that a part
/// makes are bounded by its number of targets.
const SHARD_BYTES: usize = 200 * 1024;
const SECONDS_PER_MINUTE: u64 = 60;

/// The caller's thresholds, in the rules' words.
pub(crate) fn override_of(thresholds: &Thresholds) -> IdleOverride {
    let seconds = |minutes: Option<u32>| minutes.map(|it| u64::from(it) * SECONDS_PER_MINUTE);
    IdleOverride {
        after_seconds: seconds(thresholds.idle_threshold_mins),
        look_back_seconds: seconds(thresholds.lookback_period_mins),
    }
}

/// The targets that are on and whose idleness could end something.
async fn watched(shared: &Shared, failures: &mut Failures) -> Vec<UpTarget> {
    let mut targets = Vec::new();
    for shard in 0..SHARDS {
        for up in failures.note(shared.ports.store.up(shard).await).unwrap_or_default() {
            let spec = shared.fleet.spec(&up.target);
            if up.watch.is_some() && spec.is_some_and(|spec| spec.idle.is_some()) {
                targets.push(up);
            }
        }
    }
    targets
}

/// One message for each part of what is on.
pub(crate) async fn share_out(
    shared: &Arc<Shared>,
    message: &Received,
    command: &Command,
    id: &CommandId,
) -> Result<Routed, CallError> {
    // A redelivery may lack nothing but its event: then nobody is asked again, however long the bus is away.
    if message.receives > 1
        && let Some(shared_out) = shared.ports.store.load_command(id).await?
        && shared_out.fingerprint == command.fingerprint()
        && let Some(outcome) = shared_out.outcome
    {
        announce(shared, id, None, outcome).await?;
        return Ok(Routed::Done);
    }
    let expired = command.expires.is_some_and(|expires| expires <= shared.ports.clock.now());
    let mut failures = Failures::default();
    let watched = if expired { Vec::new() } else { watched(shared, &mut failures).await };
    if shared.options.dry_run {
        tracing::info!(targets = watched.len(), "would be asked whether they are idle");
        return Ok(Routed::Done);
    }
    let names: Vec<TargetName> = watched.iter().map(|up| up.target.clone()).collect();
    let mut sends = JoinSet::new();
    for shard in parts(watched, command.thresholds) {
        let mut attributes = BTreeMap::new();
        if let Some(trace) = trace_of(message) {
            attributes.insert(TRACE_ATTRIBUTE.to_owned(), trace);
        }
        let outgoing = Outgoing { body: shard.to_json().to_string(), attributes, delay_seconds: 0 };
        let queue = Arc::clone(&shared.ports.queue);
        sends.spawn(async move { queue.send(&outgoing).await });
    }
    while let Some(sent) = sends.join_next().await {
        // A panic in there would be a fault of ours; the message comes again either way.
        failures.note(sent.unwrap_or(Ok(())));
    }
    // The tick comes again, for the parts that are missing; asking the others twice does no harm.
    failures.end()?;
    // Last, so that whoever dies before sends them all again; asking twice does no harm.
    let specs = shared.fleet.targets.values().chain(shared.fleet.templates.values());
    let with_policy = specs.filter(|spec| spec.idle.is_some()).count();
    let (verdict, cause, text) = match (expired, with_policy, names.len()) {
        (true, ..) => {
            let text = "it was to be done before now; it is too late".to_owned();
            (Verdict::Rejected, Some(lamplighter_events::Cause::Expired), text)
        }
        (_, 0, _) => {
            let text = "no target has an idle policy: there is nothing to check".to_owned();
            (Verdict::Done, None, text)
        }
        (.., 0) => {
            let text = "nothing is on that idleness could stop".to_owned();
            (Verdict::Done, None, text)
        }
        (.., asked) => {
            let noun = if asked == 1 { "target" } else { "targets" };
            (Verdict::Done, None, format!("{asked} {noun} asked"))
        }
    };
    let answer = serde_json::Map::from_iter([
        ("asked".to_owned(), names.len().into()),
        ("targets".to_owned(), names.iter().take(20).map(TargetName::as_str).collect()),
    ]);
    let concluded = Concluded {
        id: Some(id.clone()),
        fingerprint: command.fingerprint(),
        action: Some(command.action),
        target: None,
        verdict,
        cause,
        message: text,
        answer,
    };
    conclude(shared, message.sent_at, concluded).await?;
    Ok(Routed::Done)
}

/// The parts of a tick's work, each of which fits into a message. Like stands with like, and the services of a
/// cluster together, so that a full part fills its calls by itself: whether another one is with the same worker at
/// the same moment, nobody knows.
fn parts(mut watched: Vec<UpTarget>, thresholds: Thresholds) -> Vec<IdleShard> {
    watched.sort_by(|one, other| one.resource.cmp(&other.resource));
    let mut parts: Vec<IdleShard> = Vec::new();
    let mut bytes = 0;
    for up in watched {
        let note = serde_json::json!({ "resource": up.resource, "watch": up.watch });
        let length = note.to_string().len() + up.target.as_str().len() + 4;
        let full = parts.last().is_none_or(|part| part.targets.len() >= IdleShard::TARGETS_MAX);
        if full || bytes + length > SHARD_BYTES {
            parts.push(IdleShard { targets: Vec::new(), notes: Vec::new(), thresholds });
            bytes = 0;
        }
        bytes += length;
        if let Some(part) = parts.last_mut() {
            part.targets.push(up.target);
            part.notes.push(note);
        }
    }
    parts
}

/// What the index said of a target when the tick came.
#[derive(serde::Deserialize)]
struct Note {
    resource: Resource,
    #[serde(default)]
    watch: Option<IdleWatch>,
    /// What somebody else has asked already: it is only to be remembered.
    #[serde(default)]
    asked: Option<Round>,
}

/// The message that tells the workers of a round that was asked outside of them.
pub fn asked_message(target: &TargetName, resource: &Resource, round: &Round) -> Outgoing {
    let shard = IdleShard {
        targets: vec![target.clone()],
        notes: vec![serde_json::json!({ "resource": resource, "asked": round })],
        thresholds: Thresholds::default(),
    };
    let body = shard.to_json().to_string();
    Outgoing { body, attributes: BTreeMap::new(), delay_seconds: 0 }
}

/// Asks one part's targets, and gives those a pass for which something follows from it.
pub(crate) async fn ask_shard(shared: &Arc<Shared>, shard: &IdleShard) -> Result<(), CallError> {
    let noted = shard.targets.iter().zip(&shard.notes).filter_map(|(target, note)| {
        // Of another version's worker: its target is asked with the next tick.
        let note: Note = serde_json::from_value(note.clone()).ok()?;
        Some((target.clone(), note))
    });
    let mut asked = Vec::new();
    for (target, Note { resource, watch, asked: round }) in noted {
        match (watch, round) {
            (_, Some(mut round)) if !shared.options.dry_run => {
                round.of.get_or_insert(resource);
                shared.nudge_with(&target, Work::asked(round));
            }
            (Some(watch), None) => asked.push((target, resource, watch)),
            (..) => {}
        }
    }
    let plans: Vec<ObservePlan> =
        asked.iter().map(|(_, resource, _)| ObservePlan::bare(resource.clone())).collect();
    let sightings = shared.ports.cloud.observe(&plans).await;
    let over = override_of(&shard.thresholds);
    let mut asking = JoinSet::new();
    for ((target, resource, watch), sighting) in asked.into_iter().zip(sightings) {
        match sighting {
            Ok(Ok(seen)) if seen.state() == PowerState::Running => {
                let shared = Arc::clone(shared);
                asking.spawn(async move {
                    ask(&shared, &target, &resource, &watch, &seen, over).await;
                });
            }
            // What is not as the record has it gets a look of its own.
            Ok(Ok(_)) => shared.nudge(&target),
            Ok(Err(trouble)) => {
                tracing::warn!(target_name = %target, cause = %trouble.cause, why = %trouble.message, "it cannot be asked");
            }
            Err(error) => tracing::warn!(target_name = %target, %error, "it cannot be asked now"),
        }
    }
    while asking.join_next().await.is_some() {}
    Ok(())
}

async fn ask(
    shared: &Arc<Shared>,
    target: &TargetName,
    resource: &Resource,
    watch: &IdleWatch,
    seen: &Observed,
    over: IdleOverride,
) {
    let Some(spec) = shared.fleet.spec(target) else { return };
    let plan = plan_probes(&spec, seen, resource, &watch.memory, over);
    let (Some(idle), Some(plan)) = (&spec.idle, plan) else { return };
    let round = shared.ports.cloud.probe(&plan).await;
    let (judged, pass) = watch.judge(idle, over, &round, shared.ports.clock.now());
    tracing::debug!(target_name = %target, why = %judged.why, pass, "asked whether it is idle");
    if pass && !shared.options.dry_run {
        shared.nudge_with(target, Work::round(round));
    }
}

#[cfg(test)]
mod tests {
    use lamplighter_lifecycle::Phase;
    use serde_json::Value;

    use super::*;

    fn up(name: &str, resource: &str) -> UpTarget {
        UpTarget {
            target: TargetName::parse(name).unwrap(),
            resource: Resource::parse(resource).unwrap(),
            phase: Phase::On,
            watch: None,
        }
    }

    /// What the adapter makes of a part by itself: five hundred machines, ten services of a cluster.
    fn calls(part: &IdleShard) -> (usize, usize) {
        let resource = |note: &Value| Resource::parse(note["resource"].as_str().unwrap()).unwrap();
        let resources: Vec<Resource> = part.notes.iter().map(resource).collect();
        let machines = resources.iter().filter(|it| it.instance().is_some()).count();
        let mut clusters: BTreeMap<&str, usize> = BTreeMap::new();
        for service in resources.iter().filter_map(Resource::service) {
            *clusters.entry(service.cluster()).or_default() += 1;
        }
        (machines.div_ceil(500), clusters.values().map(|services| services.div_ceil(10)).sum())
    }

    #[test]
    fn full_parts_fill_their_calls_by_themselves_whatever_order_the_index_has() {
        // Four thousand, mixed as a fleet is that grew: machines, and services of two clusters.
        let watched = (0..4_000).map(|number| match number % 4 {
            0 => up(&format!("a{number}"), &format!("web/s{number}")),
            1 => up(&format!("b{number}"), &format!("batch/s{number}")),
            _ => up(&format!("c{number}"), &format!("i-{number:017x}")),
        });
        let parts = parts(watched.collect(), Thresholds::default());
        let each: Vec<(usize, usize)> = parts.iter().map(calls).collect();
        assert_eq!(each, [(2, 0), (2, 0), (0, 100), (0, 100)]);
        assert!(parts.iter().all(|part| part.targets.len() == IdleShard::TARGETS_MAX));
    }

    #[test]
    fn a_part_fits_into_the_smallest_queue_whatever_its_notes_are() {
        // As it was until August 2025, and as many templates set it.
        const QUEUE_BYTES: usize = 256 * 1024;
        for letters in [1, 40, 200, 400] {
            let watched = (0..IdleShard::TARGETS_MAX).map(|number| {
                let name = format!("{}{number}", "t".repeat(40));
                up(&name, &format!("web/{}{number}", "s".repeat(letters.min(200))))
            });
            let parts = parts(watched.collect(), Thresholds::default());
            for part in parts {
                let bytes = part.to_json().to_string().len();
                assert!(bytes + 1024 <= QUEUE_BYTES, "{bytes} bytes, names of {letters}");
            }
        }
    }

    #[test]
    fn a_note_stands_at_the_place_of_its_target() {
        let watched = vec![up("late", "web/late"), up("early", "i-0123456789abcdef0")];
        let parts = parts(watched, Thresholds::default());
        let [part] = parts.as_slice() else { panic!("{parts:?}") };
        assert_eq!(part.targets, ["early", "late"].map(|name| TargetName::parse(name).unwrap()));
        assert_eq!(part.notes[0]["resource"], "i-0123456789abcdef0");
    }
}
