//! `/openapi.json`: OpenAPI 3.1, made of the routes and of the types' own schemas (its schemas are JSON Schema
//! 2020-12, as `schemars` writes them).

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use lamplighter_events::Command as CommandBody;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::Door;
use crate::api::{Command, Me};
use crate::inbound::WAIT_SECONDS_MAX;
use crate::letters::{LetterList, Replay, Replayed};
use crate::problem::{MEDIA_TYPE, Told};
use crate::route::Route;
use crate::settings::Auth;
use crate::templates::TemplateList;
use crate::waiting_room::{LinkMade, LinkWanted};

/// The schema of what is serialised from types of crate lifecycle, which knows no schemas: the fields that are always
/// there, and room for those of a kind.
macro_rules! shape {
    ($name:ident, $schema:tt) => {
        struct $name;
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

shape!(Target, {
    "type": "object",
    "description": "A target as `lamplighter status --json` shows it. Services have their counts, launched machines \
                    their addresses beside these fields.",
    "properties": {
        "target": { "type": "string" },
        "kind": { "type": "string" },
        "phase": {
            "enum": ["off", "starting", "on", "stopping", "failed", "absent", "provisioning", "terminating"],
        },
        "step": { "type": ["string", "null"] },
        "wanted": { "type": "boolean" },
        "holds": { "type": "array", "items": { "type": "object" } },
        "why": { "type": "string" },
        "since": { "type": "string", "format": "date-time" },
        "observed": { "type": ["object", "null"] },
        "observed_age_seconds": { "type": ["integer", "null"] },
        "holder": { "type": ["string", "null"] },
        "instance": { "type": ["string", "null"] },
        "expires_at": { "type": ["string", "null"], "format": "date-time" },
        "failure": { "type": ["object", "null"] },
        "paused": { "type": ["object", "null"] },
        "wake_at": { "type": ["string", "null"], "format": "date-time" },
        "rev": { "type": "integer", "minimum": 0 },
        "last_outcome": {
            "type": ["object", "null"],
            "properties": {
                "command": { "type": "string" },
                "action": { "type": "string" },
                "holder": { "type": "string" },
                "outcome": { "enum": ["done", "rejected", "failed"] },
                "cause": { "type": "string" },
                "message": { "type": "string" },
                "at": { "type": "string", "format": "date-time" },
            },
            "required": ["command", "action", "holder", "outcome", "message", "at"],
        },
        "usual_start_seconds": { "type": ["integer", "null"], "minimum": 0 },
        "runs": {
            "type": "array",
            "description": "When it was up, oldest first. `from`: its start began, or it was found up; `ready`: it was \
                            on; `until`: it was off again.",
            "items": {
                "type": "object",
                "properties": {
                    "from": { "type": "string", "format": "date-time" },
                    "ready": { "type": ["string", "null"], "format": "date-time" },
                    "until": { "type": ["string", "null"], "format": "date-time" },
                },
                "required": ["from", "ready", "until"],
            },
        },
        "actions": { "type": "array", "items": { "type": "string" } },
        "stop_destroys": {
            "type": "boolean",
            "description": "Whether a stop terminates its machine, so that what is on it is lost.",
        },
    },
    "required": [
        "target", "kind", "phase", "step", "wanted", "holds", "why", "since", "observed", "holder", "instance",
        "failure", "paused", "rev", "last_outcome", "usual_start_seconds", "runs", "actions",
        "stop_destroys",
    ],
});

shape!(Targets, {
    "type": "object",
    "properties": { "targets": { "type": "array", "items": { "type": "object" } } },
    "required": ["targets"],
});

shape!(Why, {
    "type": "object",
    "properties": {
        "target": { "type": "string" },
        "phase": { "type": "string" },
        "step": { "type": ["string", "null"] },
        "why": { "type": "string" },
        "since": { "type": "string", "format": "date-time" },
        "failure": { "type": ["object", "null"] },
        "wake_at": { "type": ["string", "null"], "format": "date-time" },
        "rev": { "type": "integer", "minimum": 0 },
    },
    "required": ["target", "phase", "step", "why", "since", "failure", "wake_at", "rev"],
});

shape!(History, {
    "type": "object",
    "properties": {
        "target": { "type": "string" },
        "entries": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "at": { "type": "string", "format": "date-time" },
                    "rev": { "type": "integer" },
                    "what": { "type": "string" },
                },
                "required": ["at", "rev", "what"],
            },
        },
        "runs": { "type": "array", "items": { "type": "object" } },
    },
    "required": ["target", "entries", "runs"],
});

shape!(Status, {
    "type": "object",
    "properties": { "status": { "type": "string" } },
    "required": ["status"],
});

/// What is said of a route.
struct Doc {
    tag: &'static str,
    summary: &'static str,
    description: &'static str,
    parameters: &'static [Parameter],
    body: Option<Value>,
    answer: Answer,
    problems: &'static [u16],
}

/// What a route answers with.
enum Answer {
    Json(Value),
    Text(&'static str),
}

/// What may stand in an address, or in a header.
#[derive(Clone, Copy)]
enum Parameter {
    CommandId,
    Sent,
    Wait,
    Prefer,
    IdempotencyKey,
    Name,
}

impl Parameter {
    fn json(self) -> Value {
        let wait = json!({ "type": "integer", "minimum": 0, "maximum": WAIT_SECONDS_MAX });
        let id = json!({ "type": "string", "pattern": "^[!-~]([ -~]{0,254}[!-~])?$" });
        let (place, name, required, schema, description) = match self {
            Self::CommandId => ("path", "id", true, id, "The command's id"),
            Self::Sent => {
                let about = "When it was sent, in epoch seconds; as the Location says it";
                ("query", "sent", false, json!({ "type": "integer" }), about)
            }
            Self::Wait => ("query", "wait", false, wait, "Wait so many seconds for the outcome"),
            Self::Prefer => (
                "header",
                "Prefer",
                false,
                json!({ "type": "string" }),
                "`wait=25`, as RFC 7240 has it",
            ),
            Self::IdempotencyKey => {
                let about = "The command's id: a repetition with the same key does nothing twice";
                ("header", "Idempotency-Key", false, id, about)
            }
            Self::Name => (
                "path",
                "name",
                true,
                json!({ "type": "string" }),
                "The target's name, or its EC2 instance's id",
            ),
        };
        json!({
            "in": place, "name": name, "required": required, "schema": schema, "description": description,
        })
    }
}

fn doc(route: Route, schemas: &mut SchemaGenerator) -> Doc {
    let (tag, summary, description) = words(route);
    let json_of = |schema: Schema| Answer::Json(schema.to_value());
    let answer = match route {
        Route::PostCommand | Route::GetCommand => json_of(schemas.subschema_for::<Command>()),
        Route::Targets => json_of(schemas.subschema_for::<Targets>()),
        Route::Target => json_of(schemas.subschema_for::<Target>()),
        Route::Why => json_of(schemas.subschema_for::<Why>()),
        Route::History => json_of(schemas.subschema_for::<History>()),
        Route::Templates => json_of(schemas.subschema_for::<TemplateList>()),
        Route::Me => json_of(schemas.subschema_for::<Me>()),
        Route::Letters => json_of(schemas.subschema_for::<LetterList>()),
        Route::Replay => json_of(schemas.subschema_for::<Replayed>()),
        Route::Links => json_of(schemas.subschema_for::<LinkMade>()),
        Route::Health | Route::Ready => json_of(schemas.subschema_for::<Status>()),
        Route::Events => Answer::Text("text/event-stream"),
        Route::Metrics => Answer::Text("text/plain"),
    };
    let parameters: &[Parameter] = match route {
        Route::PostCommand => &[Parameter::Wait, Parameter::Prefer, Parameter::IdempotencyKey],
        Route::GetCommand => &[Parameter::CommandId, Parameter::Wait, Parameter::Sent],
        Route::Target | Route::Why | Route::History => &[Parameter::Name],
        _ => &[],
    };
    let body = match route {
        Route::PostCommand => Some(schemas.subschema_for::<CommandBody>().to_value()),
        Route::Replay => Some(schemas.subschema_for::<Replay>().to_value()),
        Route::Links => Some(schemas.subschema_for::<LinkWanted>().to_value()),
        _ => None,
    };
    let problems: &[u16] = match route {
        Route::PostCommand => &[400, 401, 403, 404, 408, 413, 415, 422, 429, 503],
        Route::GetCommand => &[400, 401, 403, 404, 429, 503],
        Route::Target | Route::Why | Route::History => &[400, 401, 403, 404, 429, 503],
        Route::Replay | Route::Links => &[400, 401, 403, 404, 408, 413, 415, 429, 503],
        Route::Letters => &[401, 403, 404, 429, 503],
        Route::Targets | Route::Templates | Route::Events | Route::Metrics => &[401, 403, 429, 503],
        Route::Me => &[401, 429],
        Route::Ready => &[503],
        Route::Health => &[],
    };
    Doc { tag, summary, description, parameters, body, answer, problems }
}

fn words(route: Route) -> (&'static str, &'static str, &'static str) {
    match route {
        Route::PostCommand => (
            "commands",
            "Send a command",
            "Puts a command on the queue. 202 says that it is there, and where its outcome will be; with `wait` 200 \
             brings the outcome, if it comes in time. An outcome may be a failure: it says so in `outcome`.",
        ),
        Route::GetCommand => (
            "commands",
            "What became of a command",
            "With `wait`, once it has ended or the time is over.",
        ),
        Route::Targets => {
            ("targets", "All targets", "With the machines that were launched for requests.")
        }
        Route::Target => ("targets", "One target", ""),
        Route::Why => ("targets", "Why a target is as it is", ""),
        Route::History => {
            ("targets", "What happened to a target", "The last things that happened, oldest first.")
        }
        Route::Templates => (
            "targets",
            "What machines can be made from",
            "A `create` names one, and its parameters.",
        ),
        Route::Events => (
            "targets",
            "What changes, as it changes",
            "Server-sent events: first every target as `target`, then `ready`, then a `target` for each change, and \
             `gone` for one that is no more.",
        ),
        Route::Me => ("access", "Who is asking", "What this token may."),
        Route::Letters => {
            ("dead letters", "Messages that could not be worked on", "Without their bodies.")
        }
        Route::Replay => {
            ("dead letters", "Send them again", "With their ids and their times of sending.")
        }
        Route::Links => (
            "access",
            "Make a link to a waiting room",
            "Whoever has the link may wake the target and see how far it is, and nothing else, until it expires. It \
             carries no token.",
        ),
        Route::Health => ("health", "The process lives", ""),
        Route::Ready => ("health", "The table answers", ""),
        Route::Metrics => ("health", "Numbers for Prometheus", ""),
    }
}

fn operation(route: Route, open: bool, schemas: &mut SchemaGenerator) -> Value {
    let doc = doc(route, schemas);
    let content = match &doc.answer {
        Answer::Json(schema) => json!({ "application/json": { "schema": schema } }),
        Answer::Text(media_type) => json!({ *media_type: { "schema": { "type": "string" } } }),
    };
    let mut responses = Map::new();
    let good = json!({ "description": "As asked", "content": content });
    if route == Route::PostCommand {
        let header = json!({ "Location": { "schema": { "type": "string" }, "description": "Where its outcome is" } });
        let sent =
            json!({ "description": "It is on the queue", "content": content, "headers": header });
        responses.insert("202".to_owned(), sent);
    }
    let status = if route == Route::Links { "201" } else { "200" };
    responses.insert(status.to_owned(), good);
    let problem = json!({ MEDIA_TYPE: { "schema": schemas.subschema_for::<Told>().to_value() } });
    for status in doc.problems {
        let name =
            axum::http::StatusCode::from_u16(*status).ok().and_then(|it| it.canonical_reason());
        let response = json!({ "description": name.unwrap_or("Problem"), "content": problem });
        responses.insert(status.to_string(), response);
    }
    let parameters: Vec<Value> = doc.parameters.iter().map(|parameter| parameter.json()).collect();
    let mut operation = json!({
        "operationId": format!("{route:?}"), "tags": [doc.tag], "summary": doc.summary,
        "parameters": parameters, "responses": responses,
    });
    if !doc.description.is_empty() {
        operation["description"] = doc.description.into();
    }
    if let Some(schema) = doc.body {
        let mut content = json!({ "application/json": { "schema": schema } });
        if route == Route::PostCommand {
            // No field but the action is always there, and some exclude each other: a tool could not make one up.
            content["application/json"]["examples"] = examples();
        }
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    if open || matches!(route, Route::Health | Route::Ready) {
        operation["security"] = json!([]);
    }
    operation
}

/// Commands to try.
fn examples() -> Value {
    let start = json!({ "action": "start", "target": "pyelli", "for": "2h", "reason": "a demo" });
    let create = json!({ "action": "create", "template": "walrus", "blob_id": "abc" });
    json!({
        "start": { "summary": "Start for two hours", "value": start },
        "stop": { "summary": "Stop", "value": { "action": "stop", "target": "pyelli" } },
        "status": { "summary": "Ask how it is", "value": { "action": "status", "target": "pyelli" } },
        "create": { "summary": "A machine for one request", "value": create },
    })
}

/// The document.
fn openapi(auth: Auth) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut schemas = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in Route::ALL {
        let method = if route.posts() { "post" } else { "get" };
        let operation = operation(route, auth == Auth::None, &mut schemas);
        let path = paths.entry(route.path()).or_insert_with(|| json!({}));
        path[method] = operation;
    }
    let definitions = schemas.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lamplighter",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Keeps cloud compute on exactly while someone needs it.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// `GET /openapi.json`
pub(crate) async fn document(State(door): State<Arc<Door>>) -> Response {
    // Made once: it takes longer than all that is asked otherwise.
    let text = door.document.get_or_init(|| openapi(door.access.auth()).to_string());
    ([(CONTENT_TYPE, "application/json")], text.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` of the document leads to something in it.
    fn refs<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| refs(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| refs(value, found)),
            _ => {}
        }
    }

    #[test]
    fn what_the_document_refers_to_is_in_it() {
        let document = openapi(Auth::Tokens);
        let mut found = Vec::new();
        refs(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_placeholder_of_a_path_is_a_parameter() {
        let document = openapi(Auth::Tokens);
        for route in Route::ALL {
            let method = if route.posts() { "post" } else { "get" };
            let operation = &document["paths"][route.path()][method];
            let parameters = operation["parameters"].as_array().unwrap();
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(in_path, route.path().matches('{').count(), "{}", route.path());
        }
    }
}
