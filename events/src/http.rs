//! HTTP requests as they arrive on a queue: function URLs, API Gateway (both payload formats), load balancers.
//!
//! The payload is a JSON string in `body`; the path may name action and target; one header names the
//! caller. Segments are compared whole, never searched: a path that merely *contained* `/start` once
//! started a machine. What is ambiguous is refused, since the cost of guessing is someone else's machine.
//!
//! Deliberately not here: methods, answers, authentication. Who may send is decided before the queue.

use serde_json::{Map, Value};

use crate::error::{FieldError, quoted};
use crate::fields::Field;
use crate::json::{self, kind_of};
use crate::malformed::{Malformed, MalformedKind};
use crate::{Action, Holder, TargetName};

/// The header in which the seeds' gateways name the caller.
const CALLER_HEADER: &str = "x-current-user-id";

/// Longer than any path of ours.
const PATH_CHARS_MAX: usize = 2_048;

/// What a request says.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) payload: Map<String, Value>,
    pub(crate) path: PathSays,
    pub(crate) caller: Option<Holder>,
}

/// What a path says: nothing, unless its last segment is an action.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PathSays {
    pub(crate) action: Option<Action>,
    pub(crate) target: Option<TargetName>,
    /// The last segment, where it is no action; for the error, should nothing else name one.
    pub(crate) other: Option<String>,
}

pub(crate) fn is_request(envelope: &Map<String, Value>) -> bool {
    ["body", "rawPath", "path", "requestContext", "httpMethod", "headers"]
        .iter()
        .any(|field| envelope.contains_key(*field))
}

impl Request {
    pub(crate) fn read(envelope: &Map<String, Value>) -> Result<Self, Malformed> {
        refuse_fields_outside_the_body(envelope)?;
        let stage = inner(envelope, &["requestContext", "stage"]).and_then(Value::as_str);
        let path = [&["rawPath"][..], &["path"], &["requestContext", "http", "path"]]
            .iter()
            .find_map(|keys| inner(envelope, keys).filter(|path| !path.is_null()));
        let path = match path {
            None => PathSays::default(),
            Some(Value::String(path)) => read_path(path, stage)?,
            Some(other) => {
                return Err(invalid_path(&format!("the path is {}", kind_of(other))));
            }
        };
        let read = payload(envelope).and_then(|payload| Ok((payload, caller(envelope)?)));
        match read {
            Ok((payload, caller)) => Ok(Self { payload, path, caller }),
            Err(malformed) => {
                Err(Malformed { action: path.action, target: path.target, ..malformed })
            }
        }
    }
}

/// A field of a command beside `body`, or in the query, would be overlooked; so it is refused.
fn refuse_fields_outside_the_body(envelope: &Map<String, Value>) -> Result<(), Malformed> {
    let query = ["queryStringParameters", "multiValueQueryStringParameters"]
        .into_iter()
        .filter_map(|field| envelope.get(field)?.as_object());
    let beside = envelope.keys().map(|name| (name, "beside the body of a request"));
    let queried = query.flat_map(Map::keys).map(|name| (name, "in a query string"));
    for (name, place) in beside.chain(queried) {
        if Field::parse(name).is_some() {
            let error = FieldError::new(name, format!("stands {place}"), "it inside `body`");
            return Err(error.into());
        }
    }
    Ok(())
}

fn inner<'v>(envelope: &'v Map<String, Value>, keys: &[&str]) -> Option<&'v Value> {
    let (first, rest) = keys.split_first()?;
    rest.iter().try_fold(envelope.get(*first)?, |value, key| value.get(key))
}

fn payload(envelope: &Map<String, Value>) -> Result<Map<String, Value>, Malformed> {
    let encoded = match envelope.get("isBase64Encoded") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(encoded)) => *encoded,
        Some(other) => {
            let problem = format!("is {}", kind_of(other));
            return Err(FieldError::new("isBase64Encoded", problem, "true or false").into());
        }
    };
    let body = match envelope.get("body") {
        None | Some(Value::Null) => return Ok(Map::new()),
        // No gateway sends this; people who try things out by hand do.
        Some(Value::Object(payload)) => return Ok(payload.clone()),
        Some(Value::String(body)) => body,
        Some(other) => {
            let problem = format!("is {}", kind_of(other));
            return Err(FieldError::new("body", problem, "a JSON object as text").into());
        }
    };
    let decoded;
    let text = if encoded {
        let bytes = decode_base64(body)
            .ok_or_else(|| FieldError::new("body", "is not base64", "base64 of a JSON object"))?;
        decoded = String::from_utf8(bytes).map_err(|_| {
            Malformed::new(
                MalformedKind::NotUtf8,
                "the request's `body` is not UTF-8 once its base64 is decoded; expected JSON",
            )
        })?;
        &decoded
    } else {
        body
    };
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    json::object(text, "the request's `body`")
}

fn caller(envelope: &Map<String, Value>) -> Result<Option<Holder>, Malformed> {
    let single = envelope.get("headers").and_then(Value::as_object);
    let multiple = envelope.get("multiValueHeaders").and_then(Value::as_object);
    let mut values = single.into_iter().chain(multiple).flatten().filter_map(|(name, value)| {
        let first = value.as_str().or_else(|| value.get(0)?.as_str());
        name.eq_ignore_ascii_case(CALLER_HEADER).then_some(first?)
    });
    match values.next().map(str::trim) {
        // A gateway without a user sends the header empty.
        None | Some("") => Ok(None),
        Some(caller) => {
            let holder =
                Holder::parse(caller).map_err(|error| error.at("header X-Current-User-Id"))?;
            Ok(Some(holder))
        }
    }
}

fn invalid_path(problem: &str) -> Malformed {
    let message = format!("{problem}; expected a path such as /start or /position-keeper/start");
    Malformed::new(MalformedKind::InvalidPath, message)
}

/// The last segment is the action; the one before it, stage, version and `api` aside, the target.
pub(crate) fn read_path(path: &str, stage: Option<&str>) -> Result<PathSays, Malformed> {
    let refuse = |problem: &str| Err(invalid_path(&format!("the path {} {problem}", quoted(path))));
    if path.chars().count() > PATH_CHARS_MAX {
        return refuse("is too long");
    }
    if path.chars().any(|char| char.is_control() || matches!(char, '%' | '\\' | ';' | '?' | '#')) {
        return refuse("has a character that no path of ours has");
    }
    let trimmed = path.strip_prefix('/').unwrap_or(path);
    let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
    if trimmed.is_empty() {
        return Ok(PathSays::default());
    }
    let mut segments: Vec<&str> = trimmed.split('/').collect();
    if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
        return refuse("has an empty segment or one of dots");
    }
    // A named stage of an HTTP API is the first segment of its rawPath.
    if stage.is_some_and(|stage| segments.len() > 1 && segments[0] == stage) {
        segments.remove(0);
    }
    let Some((last, before)) = segments.split_last() else { return Ok(PathSays::default()) };
    let Ok(action) = Action::parse(last) else {
        return Ok(PathSays { other: Some((*last).to_owned()), ..PathSays::default() });
    };
    let target = match before.last() {
        None => None,
        Some(segment) if is_prefix(segment) => None,
        // Passing over it would do to the default target what was meant for this one.
        Some(segment) => match TargetName::parse(segment) {
            Ok(target) => Some(target),
            Err(_) => return refuse("has no valid target name before its action"),
        },
    };
    Ok(PathSays { action: Some(action), target, other: None })
}

/// `api`, or a version such as `v1`.
fn is_prefix(segment: &str) -> bool {
    let version = segment.strip_prefix(['v', 'V']);
    segment.eq_ignore_ascii_case("api")
        || version.is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
}

/// Base64 with the standard or the URL alphabet, padded or not; `None` where it is something else.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim().trim_end_matches('=');
    let padding = text.trim().len() - digits.len();
    if padding > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for digit in chunk {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        // Two digits make one byte, three make two, four make three; the bits left over are dropped.
        let made = chunk.len() * 6 / 8;
        let whole = bits << (6 * (4 - chunk.len()));
        bytes.extend(whole.to_be_bytes().into_iter().skip(1).take(made));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, stage: Option<&str>, expected: Result<(Option<&str>, Option<&str>), ()>) {
        let found = read_path(path, stage).map_err(|malformed| {
            assert_eq!(malformed.kind, MalformedKind::InvalidPath);
        });
        let found = match &found {
            Err(()) => Err(()),
            Ok(says) => {
                Ok((says.action.map(Action::as_str), says.target.as_ref().map(TargetName::as_str)))
            }
        };
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn whole_segments_name_action_and_target() {
        check("/wake", None, Ok((Some("start"), None)));
        check("wake/", None, Ok((Some("start"), None)));
        check("/position-keeper/start", None, Ok((Some("start"), Some("position-keeper"))));
        check(
            "/api/v1/position-keeper/checkIdle",
            None,
            Ok((Some("check-idle"), Some("position-keeper"))),
        );
        check("/v2/kill", None, Ok((Some("kill"), None)));
        check("/api/kill", None, Ok((Some("kill"), None)));
        check("/", None, Ok((None, None)));
        check("", None, Ok((None, None)));
    }

    #[test]
    fn a_path_that_merely_contains_an_action_names_none() {
        check("/restart", None, Ok((None, None)));
        check("/start/position-keeper", None, Ok((None, None)));
        check("/startup", None, Ok((None, None)));
        check("/docs/start-here", None, Ok((None, None)));
    }

    #[test]
    fn the_stage_is_no_target() {
        check("/prod/start", Some("prod"), Ok((Some("start"), None)));
        check("/prod/pyelli/start", Some("prod"), Ok((Some("start"), Some("pyelli"))));
        check("/start", Some("start"), Ok((Some("start"), None)));
        check("/prod/start", Some("$default"), Ok((Some("start"), Some("prod"))));
    }

    #[test]
    fn traversal_and_names_that_are_none_are_refused() {
        for path in [
            "/../start",
            "/a/../start",
            "/./start",
            "//start",
            "/a//start",
            "/%2e%2e/start",
            "/a\\start",
            "/a;b/start",
            "/Position-Keeper/start",
            "/a\n/start",
            "/start?x=1",
        ] {
            check(path, None, Err(()));
        }
        check(&format!("/{}", "a".repeat(5_000)), None, Err(()));
    }

    #[test]
    fn base64_is_decoded_as_gateways_send_it() {
        for (text, expected) in [
            ("", Some("")),
            ("e30=", Some("{}")),
            ("e30", Some("{}")),
            ("eyJhIjoxfQ==", Some(r#"{"a":1}"#)),
            ("Zm9vYmFy", Some("foobar")),
            ("e", None),
            ("e30===", None),
            ("e3 0", None),
        ] {
            let found = decode_base64(text);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{text}");
        }
    }
}
