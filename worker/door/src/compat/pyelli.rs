//! Seed 002: a function URL that takes a payload with its action, and answers at once.
//!
//! It takes every seed's payload that names its action: on one address the body alone tells them apart. A body that
//! names none is refused; the seed took it for a start, and its own document warns of that.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use lamplighter_events::{Action, MalformedKind};
use serde_json::{Value, json};

use super::fluidity::Woken;
use super::{
    AT_ONCE_SECONDS, Fields, GATEWAY_SECONDS, allowed, ended, fluidity, goes_on, not_taken, only,
    outcome_of,
};
use crate::Door;
use crate::access::Caller;
use crate::commands::{Asked, read};
use crate::inbound::{Body, Key, Patience};
use crate::problem::Problem;
use crate::settings::Seed;

/// `POST /`
pub(super) async fn post(
    State(door): State<Arc<Door>>,
    caller: Caller,
    patience: Patience,
    Key(key): Key,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let mut command = read(&body, None, &headers).map_err(|problem| {
        let about_action = [MalformedKind::NoAction, MalformedKind::UnknownAction]
            .into_iter()
            .any(|kind| problem.is(kind.as_str()));
        if about_action { problem.with("allowed", json!(allowed())) } else { problem }
    })?;
    if command.target.is_none() && command.action != Action::Create {
        command.target = door.seeds_target(Seed::PyElli);
    }
    let asked = door.admit(&caller, command, key).await?;
    door.send(&asked, &headers).await?;
    let at_once =
        asked.command.action == Action::Start && !matches!(patience, Patience::Seconds(_));
    let record = match at_once {
        // The client polls the backend itself: taken is enough.
        true => door.follow(&asked, patience.or(AT_ONCE_SECONDS), |_| true).await?,
        false => {
            let wait = patience.or(GATEWAY_SECONDS);
            door.follow(&asked, wait, |record| record.outcome.is_some()).await?
        }
    };
    if let Some(outcome) = outcome_of(record.as_deref()) {
        return Ok(ended(outcome));
    }
    let service = asked.target.as_ref().and_then(|target| door.fleet.spec(target));
    if at_once && record.is_some() && service.is_some_and(|spec| spec.service().is_some()) {
        // Seed 001's clients read the counts.
        return Ok(match fluidity::woken(&door, &asked).await? {
            Woken::Ended(outcome) => ended(&outcome),
            Woken::SoFar(fields) => Json(fields).into_response(),
        });
    }
    let fields = so_far(&door, &caller, &asked, record.is_some()).await?;
    if at_once && record.is_some() {
        return Ok(Json(fields).into_response());
    }
    Ok(goes_on(&door, &asked, fields))
}

/// What is so far: the fields of the outcome to come.
async fn so_far(
    door: &Door,
    caller: &Caller,
    asked: &Asked,
    taken: bool,
) -> Result<Fields, Problem> {
    let mut fields = Fields::new();
    if let Some(record) = door.record_of(asked).await? {
        let begun = record.accepted_at.is_some();
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
    Ok(fields)
}
