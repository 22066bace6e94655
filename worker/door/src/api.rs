//! Our own API: commands, targets, and whether the door is well.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use lamplighter_events::{Action, CommandId, Outcome, TargetName, Verdict};
use lamplighter_lifecycle::{CommandRecord, HistoryEntry};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Door;
use crate::access::Caller;
use crate::inbound::{Asking, JsonBody, PREFER, Patience, Said};
use crate::problem::Problem;
use crate::query::pairs;
use crate::settings::{Auth, Right};
use crate::targets::RunShown;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// What is not known after it was said to be sent for so long, was not sent: SQS keeps a message for 14 days.
const SENT_SECONDS_MAX: i64 = 14 * 86_400;
/// The time that AWS may take for a command that nobody waits for: the SDK's attempts and their pauses.
pub(crate) const SLACK_SECONDS: u64 = 20;
/// The readiness check's own deadline: balancers ask every few seconds.
const READY_WITHIN: Duration = Duration::from_secs(4);
/// How long what was found holds.
const READY_FOR: Duration = Duration::from_secs(1);

/// How far a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CommandState {
    /// On the queue.
    Sent,
    /// A worker has taken it.
    Accepted,
    /// What was asked is so.
    Done,
    /// It was not begun.
    Rejected,
    /// It was begun and did not succeed.
    Failed,
}

/// A command, and what became of it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CommandStatus")]
pub(crate) struct Command {
    /// Its id.
    id: CommandId,
    /// What was asked, as far as it is known.
    action: Option<Action>,
    /// Whose it is, as far as it is known.
    target: Option<TargetName>,
    /// How far it is.
    state: CommandState,
    /// When it was sent: by the door's clock, and once it was taken by the queue's.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    sent_at: Option<Timestamp>,
    /// When a worker took it.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    accepted_at: Option<Timestamp>,
    /// What became of it, once it has ended.
    outcome: Option<Outcome>,
    /// Why it was not waited for, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<String>,
}

impl Command {
    fn of(record: &CommandRecord) -> Self {
        let state = match record.outcome.as_ref().map(|outcome| outcome.outcome) {
            None => CommandState::Accepted,
            Some(Verdict::Done) => CommandState::Done,
            Some(Verdict::Rejected) => CommandState::Rejected,
            Some(Verdict::Failed) => CommandState::Failed,
        };
        Self {
            id: record.id.clone(),
            action: record.action,
            target: record.target.clone(),
            state,
            sent_at: Some(record.sent_at),
            accepted_at: Some(record.accepted_at),
            outcome: record.outcome.clone(),
            notice: None,
        }
    }

    fn sent(
        id: &CommandId,
        action: Option<Action>,
        target: Option<TargetName>,
        at: Timestamp,
    ) -> Self {
        Self {
            id: id.clone(),
            action,
            target,
            state: CommandState::Sent,
            sent_at: Some(at),
            accepted_at: None,
            outcome: None,
            notice: None,
        }
    }
}

/// Where a command is found again. A worker may not have taken it by then, and the door remembers nothing: so its
/// address says that it was sent, and when.
pub(crate) fn location(id: &CommandId, now: Timestamp) -> String {
    let escaped: String = url::form_urlencoded::byte_serialize(id.as_str().as_bytes()).collect();
    // A plus is a space in a query, and itself in a path.
    format!("/v1/commands/{}?sent={}", escaped.replace('+', "%20"), now.as_second())
}

/// `POST /v1/commands`
pub(crate) async fn post_command(
    State(door): State<Arc<Door>>,
    asking: Asking<JsonBody>,
) -> Result<Response, Problem> {
    let command = asking.command(None)?;
    let deadline = asking.patience.until(0, SLACK_SECONDS);
    let ended = |record: &CommandRecord| record.outcome.is_some();
    let followed = door.ask(&asking, command, deadline, ended).await?;
    let asked = &followed.asked;
    let mut view = match &followed.record {
        Some(record) => Command::of(record),
        None => {
            let action = Some(asked.command.action);
            Command::sent(&asked.id, action, asked.target.clone(), door.clock.now())
        }
    };
    let status = if view.outcome.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let crowded = followed.crowded().filter(|_| view.outcome.is_none());
    view.notice = crowded.map(not_waited);
    let mut response = (status, Json(view)).into_response();
    let added = response.headers_mut();
    if let Ok(location) = location(&asked.id, door.clock.now()).parse() {
        added.insert(LOCATION, location);
    }
    if let Some(seconds) = crowded.and_then(|problem| problem.retry_seconds()) {
        added.insert(RETRY_AFTER, seconds.into());
    } else if let (Some(_), Said::Seconds(seconds)) =
        (asking.headers.get(PREFER), asking.patience.said)
        && let Ok(applied) = format!("wait={seconds}").parse()
    {
        added.insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// What is said to whoever was to wait and got no place.
pub(crate) fn not_waited(problem: &Problem) -> String {
    format!("the command was sent, and its outcome is not waited for: {}", problem.detail)
}

/// When an address says that its command was sent, if that can have been.
pub(crate) fn sent(uri: &Uri, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = pairs(uri.query()).remove("sent") else { return Ok(None) };
    let at = text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let at = at
        .ok_or_else(|| Problem::invalid("the query's `sent` is no time; expected epoch seconds"))?;
    let age = now.duration_since(at).as_secs();
    // The clock of the door that wrote it may be ahead of this one's.
    Ok(Some(at).filter(|_| (-60..=SENT_SECONDS_MAX).contains(&age)))
}

/// `GET /v1/commands/{id}`
pub(crate) async fn get_command(
    State(door): State<Arc<Door>>,
    caller: Caller,
    patience: Patience,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<Command>, Problem> {
    caller.need_sight()?;
    let id = CommandId::parse(&id).map_err(|error| Problem::invalid(error.to_string()))?;
    let said = sent(&uri, door.clock.now())?;
    let unknown = || {
        let detail = format!(
            "no command with the id {id} is known: it was never sent, no worker has taken it yet, or it ended \
             more than 45 days ago"
        );
        Problem::not_found(detail).retry_after(1)
    };
    let soft = patience.until(0, 0).soft;
    let record = match door.await_outcome(&caller, &id, said.is_some(), soft).await? {
        Some(record) => Some(record),
        None => door.store.load_command(&id).await?.map(Arc::new),
    };
    // What is another's is not known, in the same words.
    let record = record.filter(|record| caller.sees_command(record));
    let Some(record) = record else {
        return match said {
            Some(at) => Ok(Json(Command::sent(&id, None, None, at))),
            None => Err(unknown()),
        };
    };
    Ok(Json(Command::of(&record)))
}

/// `GET /v1/targets`
pub(crate) async fn targets(
    State(door): State<Arc<Door>>,
    caller: Caller,
) -> Result<Json<Value>, Problem> {
    caller.need(Right::Read)?;
    let now = door.clock.now();
    let looked = door.all().await?;
    let visible = looked.values().filter(|one| caller.sees(&one.record.target));
    let targets: Vec<Value> = visible.map(|one| one.json(&caller, now)).collect();
    Ok(Json(json!({ "targets": targets })))
}

/// `GET /v1/targets/{name}`
pub(crate) async fn target(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let looked = door.target(&caller, &name).await?;
    Ok(Json(looked.json(&caller, door.clock.now())))
}

/// `GET /v1/targets/{name}/why`
pub(crate) async fn why(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Map<String, Value>>, Problem> {
    Ok(Json(door.target(&caller, &name).await?.why()))
}

/// A target's history.
#[derive(Debug, Serialize)]
pub(crate) struct History {
    target: TargetName,
    entries: Vec<HistoryEntry>,
    runs: Vec<RunShown>,
}

/// `GET /v1/targets/{name}/history`
pub(crate) async fn history(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<History>, Problem> {
    let record = door.target(&caller, &name).await?.record;
    Ok(Json(History {
        target: record.target,
        entries: record.history,
        runs: RunShown::all(&record.runs),
    }))
}

/// Who is asking.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Me {
    /// `none` or `tokens`.
    auth: &'static str,
    /// The token's name.
    name: Option<String>,
    /// What it may.
    may: Vec<Right>,
    /// Whom it speaks for; `*`: anyone.
    holder: String,
    /// Which targets there are for it.
    targets: Vec<String>,
}

/// `GET /v1/me`
pub(crate) async fn me(State(door): State<Arc<Door>>, caller: Caller) -> Json<Me> {
    Json(Me {
        auth: match door.access.auth() {
            Auth::None => "none",
            Auth::Tokens => "tokens",
        },
        name: caller.name().map(str::to_owned),
        may: caller.rights(),
        holder: caller.speaks_for().to_owned(),
        targets: caller.targets(),
    })
}

/// `GET /healthz`: the process lives.
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: the table can be read. (Whether the queue takes a message only a message could tell.)
pub(crate) async fn readyz(State(door): State<Arc<Door>>) -> Result<Json<Value>, Problem> {
    let closing = *door.closing.borrow();
    if closing {
        return Err(Problem::unavailable("this door is about to close"));
    }
    // Anybody may ask, as often as it likes: one look serves all who ask within a moment.
    let mut looked = door.ready.lock().await;
    if let Some((at, well)) = &*looked
        && at.elapsed() < READY_FOR
    {
        return ready(*well);
    }
    let probe =
        CommandId::parse("readiness").map_err(|error| Problem::invalid(error.to_string()))?;
    let well = match tokio::time::timeout(READY_WITHIN, door.store.load_command(&probe)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the table cannot be read");
            false
        }
        Err(_) => false,
    };
    *looked = Some((Instant::now(), well));
    ready(well)
}

fn ready(well: bool) -> Result<Json<Value>, Problem> {
    match well {
        true => Ok(Json(json!({ "status": "ready" }))),
        false => Err(Problem::unavailable("the table cannot be read")),
    }
}
