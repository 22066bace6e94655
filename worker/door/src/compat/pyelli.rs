//! Seed 002: a function URL that takes a payload with its action, and answers at once.
//!
//! It takes every seed's payload that names its action: on one address the body alone tells them apart. A body that
//! names none is refused; the seed took it for a start, and its own document warns of that.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use lamplighter_events::{Action, MalformedKind};
use lamplighter_lifecycle::CommandRecord;
use serde_json::{Value, json};

use super::fluidity::Woken;
use super::{
    AT_ONCE_SECONDS, Fields, GATEWAY_SECONDS, GATEWAY_SLACK_SECONDS, allowed, ended, fluidity,
    goes_on, has_ended, not_taken, only,
};
use crate::Door;
use crate::access::Caller;
use crate::commands::Followed;
use crate::inbound::{Asking, Said};
use crate::problem::Problem;
use crate::settings::Seed;

/// `POST /`
pub(super) async fn post(
    State(door): State<Arc<Door>>,
    asking: Asking,
) -> Result<Response, Problem> {
    let mut command = asking.command(None).map_err(|problem| {
        let about_action = [MalformedKind::NoAction, MalformedKind::UnknownAction]
            .into_iter()
            .any(|kind| problem.is(kind.as_str()));
        if about_action { problem.with("allowed", json!(allowed())) } else { problem }
    })?;
    if command.target.is_none() && command.action != Action::Create {
        command.target = door.seeds_target(Seed::PyElli);
    }
    let at_once =
        command.action == Action::Start && !matches!(asking.patience.said, Said::Seconds(_));
    // A client that starts polls the backend itself: taken is enough.
    let enough = |record: &CommandRecord| at_once || has_ended(record);
    let deadline = match at_once {
        true => asking.patience.until(AT_ONCE_SECONDS, GATEWAY_SECONDS - AT_ONCE_SECONDS),
        false => asking.patience.until(GATEWAY_SECONDS, GATEWAY_SLACK_SECONDS),
    };
    let followed = door.ask(&asking, command, deadline, enough).await?;
    if let Some(outcome) = followed.outcome() {
        return Ok(ended(outcome));
    }
    let service = followed.asked.target.as_ref().and_then(|target| door.fleet.spec(target));
    if at_once && followed.taken() && service.is_some_and(|spec| spec.service().is_some()) {
        // Seed 001's clients read the counts.
        return Ok(match fluidity::woken(&door, &followed).await {
            Woken::Ended(outcome) => ended(&outcome),
            Woken::SoFar(fields) => Json(fields).into_response(),
        });
    }
    let fields = so_far(&door, &asking.caller, &followed).await;
    if at_once && followed.taken() {
        return Ok(Json(fields).into_response());
    }
    Ok(goes_on(&door, &followed, fields))
}

/// What is so far: the fields of the outcome to come.
async fn so_far(door: &Door, caller: &Caller, followed: &Followed) -> Fields {
    let (asked, taken) = (&followed.asked, followed.taken());
    let mut fields = Fields::new();
    if let Some(record) = door.record_of(followed).await {
        let begun = record.attempt.accepted_at.is_some();
        if let Some(looked) = door.so_far(asked, record) {
            let json = looked.json(caller, door.clock.now());
            fields = only(&json, &["target", "instance", "phase", "step"]);
            fields.insert("status".to_owned(), json["overall_status"].clone());
            fields.insert("current_state".to_owned(), json["ec2_state"].clone());
            fields.insert("message".to_owned(), json["why"].clone());
            match asked.command.action {
                Action::Start => fields.insert("started".to_owned(), (taken && begun).into()),
                Action::Stop | Action::Kill | Action::CheckIdle => {
                    fields.insert("stopped".to_owned(), Value::Bool(false))
                }
                _ => None,
            };
        }
    }
    if !taken {
        not_taken(&mut fields);
    }
    fields
}
