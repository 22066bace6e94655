//! Seed 004: an EC2 instance for each request, as its FastAPI application had it.
//!
//! A POST waits until the machine is ready, for ten minutes; whoever prefers not to gets `202` and an address. Machines
//! are named by their EC2 ids, and before EC2 has named them by ours.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use lamplighter_events::{Cause, Outcome, TargetName, TargetRef, Verdict};
use lamplighter_lifecycle::{Observed, ProvisionedStatus};
use serde_json::{Value, json};

use super::{
    Fields, GATEWAY_SECONDS, GATEWAY_SLACK_SECONDS, ended, fields_of, goes_on, has_ended,
    not_taken, notice, status_of,
};
use crate::Door;
use crate::access::Caller;
use crate::api::{SLACK_SECONDS, sent};
use crate::assets::{for_people, index};
use crate::commands::Followed;
use crate::inbound::{Asking, WAIT_SECONDS_MAX};
use crate::problem::Problem;
use crate::settings::{Right, Seed};
use crate::targets::Looked;

/// `GET /`: a sign of life for programs, the page for people.
pub(super) async fn alive(headers: HeaderMap) -> Response {
    if for_people(&headers) {
        return index().await;
    }
    let message = "AWS EC2 + Walrus Manager, by Lamplighter";
    Json(json!({ "status": "healthy", "message": message })).into_response()
}

/// `POST /api/instances`
pub(super) async fn create(
    State(door): State<Arc<Door>>,
    asking: Asking,
) -> Result<Response, Problem> {
    let mut command = asking.command(Some("create"))?;
    // Both of them where neither is named: FastAPI's form for a field that is missing.
    if command.parameters.is_empty() {
        let missing =
            json!([{ "loc": ["body", "blob_id"], "msg": "Field required", "type": "missing" }]);
        let problem =
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "blob_id: field required");
        return Err(problem.with("detail", missing));
    }
    if command.template.is_none() && command.target.is_none() {
        command.template = door.http.seeds.get(&Seed::Walrus).cloned();
    }
    let deadline = asking.patience.until(WAIT_SECONDS_MAX, SLACK_SECONDS);
    let followed = door.ask(&asking, command, deadline, has_ended).await?;
    Ok(match followed.outcome() {
        Some(outcome) if outcome.outcome == Verdict::Done => {
            (StatusCode::CREATED, Json(fields_of(outcome))).into_response()
        }
        Some(outcome) => refused(outcome),
        None => launching(&door, &followed).await,
    })
}

/// A request that FastAPI would not have let in is 422.
fn refused(outcome: &Outcome) -> Response {
    let status = match outcome.cause {
        Some(Cause::Invalid) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => status_of(outcome),
    };
    let mut fields = fields_of(outcome);
    fields.insert("detail".to_owned(), outcome.message.clone().into());
    (status, Json(fields)).into_response()
}

async fn launching(door: &Door, followed: &Followed) -> Response {
    let (asked, taken) = (&followed.asked, followed.taken());
    let now = door.clock.now();
    let mut fields = match door.record_of(followed).await {
        Some(record) => provisioned(&ProvisionedStatus::of(&record, now)),
        None => {
            Fields::from_iter([("processing_status".to_owned(), "waiting_for_instance".into())])
        }
    };
    let status = fields.get("processing_status").cloned().unwrap_or_default();
    fields.insert("status".to_owned(), status);
    fields.insert("command".to_owned(), asked.id.as_str().into());
    let message = if taken { "it is on its way" } else { "it is on the queue" };
    fields.insert("message".to_owned(), message.into());
    notice(followed, &mut fields);
    let target = asked.target.as_ref().map(TargetName::as_str).unwrap_or_default();
    fields.insert("target".to_owned(), target.into());
    let mut response = (StatusCode::ACCEPTED, Json(fields)).into_response();
    let location = format!("{}/api/instances/{target}?sent={}", door.http.prefix, now.as_second());
    if let Ok(location) = location.parse() {
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert(RETRY_AFTER, 5.into());
    response
}

fn provisioned(status: &ProvisionedStatus) -> Fields {
    match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Fields::new(),
    }
}

/// A machine as seed 004 showed it: what EC2 says of it, and what it was asked for.
fn shown(looked: &Looked<'_>, door: &Door) -> Fields {
    let record = &looked.record;
    let mut fields = provisioned(&ProvisionedStatus::of(record, door.clock.now()));
    let seen = record.observed.as_ref();
    let instance = seen.and_then(Observed::instance);
    fields.insert("state".to_owned(), json!(seen.map(|seen| seen.state().as_str())));
    fields.insert("private_ip".to_owned(), json!(instance.and_then(|it| it.private_ip.clone())));
    fields.insert("target".to_owned(), record.target.as_str().into());
    fields
        .insert("status".to_owned(), fields.get("processing_status").cloned().unwrap_or_default());
    fields
}

/// `GET /api/instances`
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    caller: Caller,
) -> Result<Json<Value>, Problem> {
    caller.need(Right::Read)?;
    let template = door.http.seeds.get(&Seed::Walrus);
    let looked = door.all().await?;
    let machines = looked.values().filter(|one| {
        let of = one.spec.template().map(|spec| &spec.template);
        of.is_some() && of == template && caller.sees(&one.record.target)
    });
    let instances: Vec<Fields> = machines.map(|one| shown(one, &door)).collect();
    Ok(Json(json!({ "total": instances.len(), "instances": instances })))
}

/// `GET /api/instances/{instance_id}`
pub(super) async fn one(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<Fields>, Problem> {
    caller.need_sight()?;
    let problem = match door.look_at(&caller, &id).await {
        Ok(looked) if looked.spec.kind().is_created() => return Ok(Json(shown(&looked, &door))),
        Ok(_) => Problem::not_found("Instance not found"),
        Err(problem) => problem,
    };
    // It was asked for a moment ago, and no worker has taken it yet.
    let sent = sent(&uri, door.clock.now())?;
    let made = TargetName::parse(&id).ok().filter(|name| {
        let spec = door.fleet.spec(name);
        caller.sees(name) && spec.is_some_and(|spec| spec.kind().is_created())
    });
    match (sent, made) {
        (Some(_), Some(name)) if problem.status() == StatusCode::NOT_FOUND => {
            let word = Value::from("waiting_for_instance");
            let mut fields = Fields::from_iter([("target".to_owned(), name.as_str().into())]);
            fields.insert("instance_id".to_owned(), Value::Null);
            fields.insert("processing_status".to_owned(), word.clone());
            fields.insert("status".to_owned(), word);
            Ok(Json(fields))
        }
        _ => Err(problem),
    }
}

/// `DELETE /api/instances/{instance_id}`
pub(super) async fn delete(
    State(door): State<Arc<Door>>,
    Path(id): Path<String>,
    asking: Asking,
) -> Result<Response, Problem> {
    asking.caller.need(Right::Kill)?;
    let looked = door.look_at(&asking.caller, &id).await?;
    if !looked.spec.kind().is_created() {
        return Err(Problem::not_found("Instance not found"));
    }
    let name = looked.record.target.clone();
    let mut command = asking.command(Some("destroy"))?;
    command.target = Some(TargetRef::Name(name));
    let deadline = asking.patience.until(GATEWAY_SECONDS, GATEWAY_SLACK_SECONDS);
    let followed = door.ask(&asking, command, deadline, has_ended).await?;
    if let Some(outcome) = followed.outcome() {
        return Ok(if outcome.outcome == Verdict::Done {
            ended(outcome)
        } else {
            refused(outcome)
        });
    }
    let mut fields = shown(&looked, &door);
    match door.record_of(&followed).await {
        Some(now) if followed.taken() => {
            fields = provisioned(&ProvisionedStatus::of(&now, door.clock.now()));
            fields.insert("message".to_owned(), now.why.into());
        }
        _ => not_taken(&mut fields),
    }
    Ok(goes_on(&door, &followed, fields))
}
