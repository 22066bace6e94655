//! Seed 000: one EC2 instance, one unit, one holder at a time (201, 200, 409; the holder is `X-Current-User-Id`).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lamplighter_events::Verdict;
use serde_json::{Value, json};

use super::{
    Fields, GATEWAY_SECONDS, GATEWAY_SLACK_SECONDS, ended, fields_of, goes_on, has_ended,
    not_taken, only,
};
use crate::Door;
use crate::access::Caller;
use crate::commands::Followed;
use crate::inbound::Asking;
use crate::problem::Problem;
use crate::settings::Seed;

/// `POST /position-keeper/start`
pub(super) async fn start(
    State(door): State<Arc<Door>>,
    asking: Asking,
) -> Result<Response, Problem> {
    let command = door.of_seed(asking.command(Some("start"))?, Seed::PositionKeeper)?;
    let deadline = asking.patience.until(GATEWAY_SECONDS, GATEWAY_SLACK_SECONDS);
    let followed = door.ask(&asking, command, deadline, has_ended).await?;
    let Some(outcome) = followed.outcome() else {
        return Ok(starting(&door, &asking.caller, &followed).await);
    };
    let started = outcome.answer.get("started").and_then(Value::as_bool).unwrap_or(false);
    Ok(match (outcome.outcome, started) {
        (Verdict::Done, true) => (StatusCode::CREATED, Json(fields_of(outcome))).into_response(),
        // The seed refused to start what runs.
        (Verdict::Done, false) => {
            let mut fields = fields_of(outcome);
            fields.insert("error".to_owned(), outcome.message.clone().into());
            (StatusCode::CONFLICT, Json(fields)).into_response()
        }
        _ => ended(outcome),
    })
}

/// It takes longer than a gateway waits.
async fn starting(door: &Door, caller: &Caller, followed: &Followed) -> Response {
    let mut fields = Fields::new();
    if let Some(record) = door.record_of(followed).await {
        let begun = followed.taken() && record.attempt.accepted_at.is_some();
        if let Some(looked) = door.so_far(&followed.asked, record) {
            let json = looked.json(caller, door.clock.now());
            fields = only(&json, &["instance", "holder", "expires_at"]);
            fields.insert("message".to_owned(), json["why"].clone());
            fields.insert("started".to_owned(), begun.into());
            fields.insert("current_state".to_owned(), json["ec2_state"].clone());
            fields.insert("status".to_owned(), json["instance_status"].clone());
        }
    }
    if !followed.taken() {
        fields.insert("started".to_owned(), false.into());
        not_taken(&mut fields);
    }
    goes_on(door, followed, fields)
}

/// `POST /position-keeper/stop`
pub(super) async fn stop(
    State(door): State<Arc<Door>>,
    asking: Asking,
) -> Result<Response, Problem> {
    let command = door.of_seed(asking.command(Some("stop"))?, Seed::PositionKeeper)?;
    let deadline = asking.patience.until(GATEWAY_SECONDS, GATEWAY_SLACK_SECONDS);
    let followed = door.ask(&asking, command, deadline, has_ended).await?;
    if let Some(outcome) = followed.outcome() {
        return Ok(ended(outcome));
    }
    let mut fields = Fields::from_iter([("stopped".to_owned(), false.into())]);
    match door.record_of(&followed).await {
        Some(it) if followed.taken() => {
            let open = it.open.iter().find(|open| open.id == followed.asked.id);
            let before = open.and_then(|open| open.found).map(|found| found.as_str());
            fields.insert("previous_state".to_owned(), json!(before));
            fields.insert("message".to_owned(), it.why.into());
        }
        _ => not_taken(&mut fields),
    }
    Ok(goes_on(&door, &followed, fields))
}

/// `GET /position-keeper/status`
pub(super) async fn status(
    State(door): State<Arc<Door>>,
    caller: Caller,
) -> Result<Json<Fields>, Problem> {
    caller.need_sight()?;
    let target = door.seeds_name(&caller, Seed::PositionKeeper)?;
    door.first_sight(&caller, &target).await?;
    let looked = door.look_at(&caller, target.as_str()).await?;
    let json = looked.json(&caller, door.clock.now());
    let names = [
        "lock_status",
        "instance_status",
        "instance",
        "expires_at",
        "holder",
        "phase",
        "step",
        "why",
        "observed_age_seconds",
    ];
    Ok(Json(only(&json, &names)))
}
