//! Seed 001: one ECS service at 0 or 1.
//!
//! Its wake answered as soon as ECS had taken the new count, and its clients go on from there; so does this one, with
//! the counts that were seen. `killed` is said of what is down.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use lamplighter_events::Outcome;
use lamplighter_lifecycle::{
    CommandRecord, Observed, OpenCommand, TargetRecord, usual_start_seconds,
};
use serde_json::{Value, json};

use super::{
    AT_ONCE_SECONDS, Fields, GATEWAY_SECONDS, GATEWAY_SLACK_SECONDS, body_of, fields_of, goes_on,
    has_ended, not_taken, only, status_of,
};
use crate::Door;
use crate::access::Caller;
use crate::commands::Followed;
use crate::inbound::{Asking, Said};
use crate::parse::read;
use crate::problem::Problem;
use crate::query::pairs;
use crate::settings::Seed;

/// How long the new count may take to be seen: a wake just after a kill is looked at after the consistency margin.
const COUNT_WITHIN: Duration = Duration::from_secs(8);

/// `POST /wake`
pub(super) async fn wake(
    State(door): State<Arc<Door>>,
    asking: Asking,
) -> Result<Response, Problem> {
    let command = door.of_seed(asking.command(Some("wake"))?, Seed::Fluidity)?;
    // Taken is enough, unless the caller says how long it waits for more.
    let says = matches!(asking.patience.said, Said::Seconds(_));
    let enough = |record: &CommandRecord| !says || has_ended(record);
    let deadline = asking.patience.until(AT_ONCE_SECONDS, GATEWAY_SECONDS - AT_ONCE_SECONDS);
    let followed = door.ask(&asking, command, deadline, enough).await?;
    let answer = |mut fields: Fields| {
        fields.insert("action".to_owned(), "wake".into());
        fields
    };
    if !followed.taken() {
        let seen = door.record_of(&followed).await;
        let mut fields = answer(seen.as_ref().map(counts).unwrap_or_default());
        fields.insert("status".to_owned(), "queued".into());
        not_taken(&mut fields);
        return Ok(goes_on(&door, &followed, fields));
    }
    match woken(&door, &followed).await {
        Woken::Ended(outcome) => {
            let fields = answer(fields_of(&outcome));
            Ok((status_of(&outcome), Json(fields)).into_response())
        }
        Woken::SoFar(fields) => Ok(Json(answer(fields)).into_response()),
    }
}

/// What a wake that was taken has come to, once its count is seen.
pub(super) enum Woken {
    Ended(Box<Outcome>),
    SoFar(Fields),
}

/// Waits until the new count is seen, for some seconds: clients take it for the sign that their wake was taken.
pub(super) async fn woken(door: &Door, followed: &Followed) -> Woken {
    if let Some(outcome) = followed.outcome() {
        return Woken::Ended(Box::new(outcome.clone()));
    }
    let id = &followed.asked.id;
    let counted = |record: &TargetRecord| {
        let seen = record.observed.as_ref().and_then(Observed::service);
        let open = record.open.iter().any(|open| open.id == *id);
        !open || seen.is_some_and(|seen| seen.desired > 0)
    };
    let record = door.record_when(followed, COUNT_WITHIN, counted).await;
    // It may have ended meanwhile.
    let item = followed.deadline.meets(door.store.load_command(id)).await;
    if let Some(Ok(Some(CommandRecord { outcome: Some(outcome), .. }))) = item {
        return Woken::Ended(Box::new(outcome));
    }
    let now = door.clock.now();
    let so_far = record.map(|record| waking(&record, id.as_str(), now));
    Woken::SoFar(so_far.unwrap_or_default())
}

/// What is so far of a wake.
fn waking(record: &TargetRecord, id: &str, now: Timestamp) -> Fields {
    let open = record.open.iter().find(|open| open.id.as_str() == id);
    // No longer open: it has ended since.
    let status = open.map_or("waking", OpenCommand::wake_word);
    let mut fields = counts(record);
    let begun = record.runs.last().filter(|run| run.until.is_none()).map_or(now, |run| run.from);
    let ready = usual_start_seconds(&record.runs)
        .and_then(|seconds| i64::try_from(seconds).ok())
        .and_then(|seconds| begun.checked_add(SignedDuration::from_secs(seconds)).ok());
    fields.insert("status".to_owned(), status.into());
    fields.insert("estimatedStartTime".to_owned(), json!(ready));
    fields.insert("message".to_owned(), record.why.clone().into());
    fields
}

fn counts(record: &TargetRecord) -> Fields {
    let seen = record.observed.as_ref().and_then(Observed::service);
    let count = |of: Option<i64>| of.map_or(Value::Null, Value::from);
    Fields::from_iter([
        ("desiredCount".to_owned(), count(seen.map(|seen| seen.desired))),
        ("runningCount".to_owned(), count(seen.map(|seen| seen.running))),
        ("pendingCount".to_owned(), count(seen.map(|seen| seen.pending))),
    ])
}

/// `POST /kill`
pub(super) async fn kill(
    State(door): State<Arc<Door>>,
    asking: Asking,
) -> Result<Response, Problem> {
    let command = door.of_seed(asking.command(Some("kill"))?, Seed::Fluidity)?;
    let deadline = asking.patience.until(GATEWAY_SECONDS, GATEWAY_SLACK_SECONDS);
    let followed = door.ask(&asking, command, deadline, has_ended).await?;
    if let Some(outcome) = followed.outcome() {
        let mut fields = fields_of(outcome);
        fields.insert("action".to_owned(), "kill".into());
        return Ok((status_of(outcome), Json(fields)).into_response());
    }
    let mut fields = Fields::new();
    match door.record_of(&followed).await {
        Some(now) if followed.taken() => {
            fields = counts(&now);
            fields.insert("message".to_owned(), now.why.into());
        }
        _ => not_taken(&mut fields),
    }
    fields.insert("action".to_owned(), "kill".into());
    fields.insert("status".to_owned(), "stopping".into());
    Ok(goes_on(&door, &followed, fields))
}

/// `GET /status`
pub(super) async fn status(
    State(door): State<Arc<Door>>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<Fields>, Problem> {
    caller.need_sight()?;
    let command = read(&body_of(&pairs(uri.query())), Some("status"), &HeaderMap::new())?;
    let command = door.of_seed(command, Seed::Fluidity)?;
    let name = door.seen_by(&caller, command).await?;
    door.first_sight(&caller, &name).await?;
    let looked = door.look_at(&caller, name.as_str()).await?;
    let json = looked.json(&caller, door.clock.now());
    let mut fields = counts(&looked.record);
    fields.insert("status".to_owned(), json["overall_status"].clone());
    fields.insert("message".to_owned(), json["why"].clone());
    fields.extend(only(&json, &["phase", "step", "since", "observed_age_seconds"]));
    Ok(Json(fields))
}
