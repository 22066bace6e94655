//! How large a target's item is, and what is left out of a record that grew too large.
//!
//! *Theory.* DynamoDB refuses an item above 400 KB, and bills every write by the item's size. A record that is refused
//! can no longer be stopped, so the record has a bound of its own far below, and what grows gives way in a fixed order:
//! history, the answers of unsent events (the command's item keeps the whole answer), and then the command that would
//! add to it. What ends cost is never refused: room is kept for it, and what only informs gives way to it.
//!
//! *Invariant.* `fit_for_good` leaves the record within `RECORD_BYTES_MAX`, as long as what cannot give way (holds, open
//! commands, effects that may still happen) fits: the limits for new commands see to that.

use lamplighter_events::{Action, EventBody, LifecycleEvent, Outcome};
use serde_json::{Map, Value};

use crate::idle::IdleMemory;
use crate::json_size::json_bytes;
use crate::limits::{
    EVENT_ANSWER_BYTES_MAX, RECORD_BYTES_FOR_STOPS, RECORD_BYTES_MAX, RECORD_BYTES_TAKEN_MAX,
};
use crate::record::TargetRecord;
use crate::text::shortened;
use crate::watch::IdleWatch;

/// The names of the item's attributes, its numbers and its nonce.
const ITEM_BYTES: usize = 256;
/// What a decision changes after it was measured: the version, the next look, the newest runs.
const LATER_BYTES: usize = 256;
/// What is left of an outcome's message where room is short.
const SHORT_CHARS: usize = 80;

/// How many bytes DynamoDB counts of a target's item at most: its document, and what stands beside it for conditions
/// and indexes.
pub fn stored_bytes(record: &TargetRecord) -> usize {
    let watch = IdleWatch::of(record).map_or(0, |watch| json_bytes(&watch));
    let beside = record.target.as_str().len() + record.resource.to_string().len();
    json_bytes(record) + watch + beside + record.kind.as_str().len() + ITEM_BYTES
}

/// How large the record may be with this command in it. What makes no record larger has the room that others must
/// leave, so that it is always taken.
pub(crate) fn bytes_max_for(action: Option<Action>) -> usize {
    match action {
        Some(
            Action::Start
            | Action::Create
            | Action::Status
            | Action::CheckIdle
            | Action::KeepAlive
            | Action::Pause
            | Action::Resume,
        ) => RECORD_BYTES_TAKEN_MAX,
        Some(Action::Stop | Action::Kill | Action::Destroy) => RECORD_BYTES_FOR_STOPS,
        None => RECORD_BYTES_MAX,
    }
}

/// Drops history, and then the answers of unsent events, until the record has at most `bytes_max`. Whether it has.
pub(crate) fn fit(record: &mut TargetRecord, bytes_max: usize) -> bool {
    let mut bytes = stored_bytes(record);
    let mut dropped = 0;
    for entry in &record.history {
        if bytes <= bytes_max {
            break;
        }
        bytes = bytes.saturating_sub(json_bytes(entry));
        dropped += 1;
    }
    record.history.drain(..dropped);
    if bytes <= bytes_max {
        return true;
    }
    for outcome in record.outbox.iter_mut().filter_map(outcome_of) {
        outcome.answer.clear();
    }
    stored_bytes(record) <= bytes_max
}

/// The same, and then everything that only informs, or whose loss makes the target wait longer at most; the events of
/// outcomes, which stand in the commands' items, come last.
pub(crate) fn fit_for_good(record: &mut TargetRecord) {
    const BYTES_MAX: usize = RECORD_BYTES_MAX - LATER_BYTES;
    if fit(record, BYTES_MAX) {
        return;
    }
    let gives_way: [fn(&mut TargetRecord); 5] = [
        |record| {
            record.outbox.retain(|event| outcome_of(&mut event.clone()).is_some());
            for outcome in record.outbox.iter_mut().filter_map(outcome_of) {
                outcome.message = shortened(&outcome.message, SHORT_CHARS);
            }
        },
        |record| {
            record.runs.clear();
            if let Some(launch) = &mut record.provision.launch {
                launch.tried.clear();
            }
            if let Some(crate::observed::Seen::Service(service)) =
                record.observed.as_mut().map(|seen| &mut seen.seen)
            {
                service.stopped.clear();
            }
        },
        |record| {
            for hold in &mut record.holds {
                hold.reason = None;
            }
            for open in &mut record.open {
                open.trace = None;
            }
        },
        // Its probes count from now on, which only keeps it on for longer.
        |record| {
            let kept_alive_at = record.idle.kept_alive_at;
            record.idle = IdleMemory { kept_alive_at, ..IdleMemory::default() };
        },
        |record| {
            while record.releases.len() > 1 && stored_bytes(record) > BYTES_MAX {
                let oldest = record.releases.iter().min_by(|a, b| a.1.cmp(b.1));
                let Some(oldest) = oldest.map(|(holder, _)| holder.clone()) else { break };
                record.releases.remove(&oldest);
            }
        },
    ];
    for give_way in gives_way {
        give_way(record);
        if stored_bytes(record) <= BYTES_MAX {
            return;
        }
    }
    while stored_bytes(record) > BYTES_MAX && !record.outbox.is_empty() {
        record.outbox.remove(0);
    }
}

fn outcome_of(event: &mut LifecycleEvent) -> Option<&mut Outcome> {
    match &mut event.body {
        EventBody::CommandCompleted { outcome } | EventBody::CommandRejected { outcome } => {
            Some(outcome)
        }
        EventBody::TargetStateChanged { .. } | EventBody::Attention { .. } => None,
    }
}

/// An outcome as its event tells it: without the holds, and without the largest fields of an answer that is long. The
/// command's item keeps the whole.
pub(crate) fn for_event(outcome: &Outcome) -> Outcome {
    let mut told = outcome.clone();
    told.answer.remove("holds");
    while json_bytes(&told.answer) > EVENT_ANSWER_BYTES_MAX {
        let Some(largest) = largest(&told.answer) else { break };
        told.answer.remove(&largest);
    }
    told
}

fn largest(answer: &Map<String, Value>) -> Option<String> {
    answer.iter().max_by_key(|(_, value)| json_bytes(*value)).map(|(name, _)| name.clone())
}
