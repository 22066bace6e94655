//! The dead letters, for whoever may everything: listed by their reasons, and sent again.
//!
//! A body is shown to nobody here: it may hold what its sender would not show (`lamplighter dlq show` does, on the
//! operator's own machine).

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use lamplighter_runtime::ports::CallError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Door;
use crate::access::Caller;
use crate::inbound::JsonBody;
use crate::problem::Problem;
use crate::settings::Right;

/// A page shows no more, and a person reads no more.
const SHOWN_MAX: usize = 200;

/// A dead letter, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Letter {
    /// SQS's id of it.
    pub message_id: String,
    /// The command's id, where it is known.
    pub id: Option<String>,
    /// Why it is there, in a word; a message that SQS itself moved says nothing.
    pub reason: Option<String>,
    /// The reason in words.
    pub message: Option<String>,
    /// When it was first sent.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub sent_at: Timestamp,
    /// How long its body is.
    pub bytes: usize,
}

/// What a replay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Replayed {
    /// Sent to the command queue again.
    pub replayed: u64,
    /// Looked at and left.
    pub kept: u64,
    /// Of those, what arrived after the replay had begun: another replay takes them.
    pub late: u64,
}

/// The dead-letter queue.
#[async_trait]
pub trait Letters: Send + Sync {
    /// Up to `limit` letters, oldest first.
    async fn list(&self, limit: usize) -> Result<Vec<Letter>, CallError>;
    /// Sends the letter of this message id or command id again, or all of them.
    async fn replay(&self, id: Option<&str>) -> Result<Replayed, CallError>;
}

/// The list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LetterList {
    messages: Vec<Letter>,
    /// There are more than these.
    more: bool,
}

/// What to replay: exactly one of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replay {
    /// The one with this message id or command id.
    #[serde(default)]
    id: Option<String>,
    /// All that are there now.
    #[serde(default)]
    all: bool,
}

fn letters<'d>(door: &'d Door, caller: &Caller) -> Result<&'d dyn Letters, Problem> {
    caller.need(Right::Admin)?;
    if !caller.sees_all() {
        return Err(Problem::forbidden("dead letters are for tokens of every target"));
    }
    door.letters.as_deref().ok_or_else(|| Problem::not_found("this door has no dead letters"))
}

/// `GET /v1/dead-letters`
pub(crate) async fn list(
    State(door): State<Arc<Door>>,
    caller: Caller,
) -> Result<Json<LetterList>, Problem> {
    let letters = letters(&door, &caller)?;
    // One more than is shown tells whether there are more.
    let mut messages = letters.list(SHOWN_MAX + 1).await?;
    let more = messages.len() > SHOWN_MAX;
    messages.truncate(SHOWN_MAX);
    Ok(Json(LetterList { messages, more }))
}

/// `POST /v1/dead-letters/replay`
pub(crate) async fn replay(
    State(door): State<Arc<Door>>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Json<Replayed>, Problem> {
    let letters = letters(&door, &caller)?;
    let expected = "expected {\"id\": \"…\"} or {\"all\": true}";
    let read: Replay = serde_json::from_slice(&body)
        .map_err(|error| Problem::invalid(format!("the body: {error}; {expected}")))?;
    let replayed = match (&read.id, read.all) {
        (Some(id), false) => letters.replay(Some(id)).await?,
        (None, true) => letters.replay(None).await?,
        _ => return Err(Problem::invalid(format!("the body names not exactly one; {expected}"))),
    };
    if read.id.is_some() && replayed.replayed == 0 {
        return Err(Problem::not_found("no dead letter has this id"));
    }
    tracing::info!(
        by = caller.name(),
        replayed = replayed.replayed,
        "dead letters were sent again"
    );
    Ok(Json(replayed))
}
