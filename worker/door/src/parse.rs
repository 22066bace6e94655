//! From a request's body, path and headers to a command.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, StatusCode};
use lamplighter_events::{Action, Command, Holder, Inbound, MalformedKind, parse};
use serde_json::{Map, Value, json};

use crate::access::CALLER;
use crate::problem::Problem;

/// Reads a body as the queue's own parser does. `action` is the word of the path, where the path names one.
pub(crate) fn read(
    body: &[u8],
    action: Option<&str>,
    headers: &HeaderMap,
) -> Result<Command, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| {
        let detail = "the body is not UTF-8; expected a JSON object";
        Problem::new(StatusCode::BAD_REQUEST, MalformedKind::NotUtf8.as_str(), detail)
    })?;
    let mut envelope = Map::from_iter([("body".to_owned(), Value::from(text))]);
    if let Some(action) = action {
        envelope.insert("rawPath".to_owned(), format!("/{action}").into());
    }
    let mut named = None;
    let mut callers = headers.get_all(CALLER).iter();
    if let Some(caller) = callers.next() {
        // With two of them the wrong one might be believed.
        let caller = caller.to_str().ok().filter(|_| callers.next().is_none());
        let caller = caller.ok_or_else(|| {
            Problem::invalid(
                "the header X-Current-User-Id is no text, or comes twice; expected one name",
            )
        })?;
        // What is none is said by the parser.
        named = Holder::parse(caller.trim()).ok();
        envelope.insert("headers".to_owned(), json!({ CALLER.as_str(): caller }));
    }
    let none = BTreeMap::new();
    let envelope = Value::Object(envelope).to_string();
    match parse(&envelope, &none, &BTreeMap::new()) {
        Ok(Inbound::Command(command)) => match action.map(Action::parse) {
            Some(Ok(path)) if path != command.action => Err(Problem::invalid(format!(
                "the path says {path}, and the body {}; expected one of them",
                command.action
            ))),
            _ if named.is_some() && command.holder != named => {
                let detail = "the header X-Current-User-Id and the body's `holder` differ; expected one of them";
                Err(Problem::invalid(detail))
            }
            _ => Ok(command),
        },
        Ok(_) => Err(Problem::invalid("the body is no command; expected one")),
        Err(malformed) if malformed.kind == MalformedKind::NoAction => {
            let detail =
                format!("the body names no action; expected \"action\": {}", Action::expected());
            Err(Problem::new(StatusCode::BAD_REQUEST, malformed.kind.as_str(), detail))
        }
        Err(malformed) => Err(malformed.into()),
    }
}
