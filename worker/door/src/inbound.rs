//! What a request brings: its body within bounds, and what its headers prefer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use http_body::Body as _;
use lamplighter_events::{Command, CommandId};

use tokio::time::Instant;

use crate::Door;
use crate::access::Caller;
use crate::parse;
use crate::problem::Problem;
use crate::query::pairs;

/// A command has some hundred bytes; a create's parameters may have kilobytes.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;
/// From the end of the headers to the end of the body.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Longer than the longest deadline that anybody waits for at a socket: seed 004's ten minutes.
pub(crate) const WAIT_SECONDS_MAX: u64 = 600;
/// RFC 7240.
pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The draft of the IETF, and common practice.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A whole body.
#[derive(Debug)]
pub(crate) struct Body(pub(crate) Bytes);

impl FromRequest<Arc<Door>> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<Door>) -> Result<Self, Problem> {
        if let Some(encoding) = request.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            let detail = "the body is compressed; expected it as it is";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::new(status, "unsupported-encoding", detail));
        }
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
        let announced = announced.and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
        if announced > BODY_BYTES_MAX as u64 {
            return Err(too_large());
        }
        let read = read(request.into_body());
        match tokio::time::timeout(BODY_WITHIN, read).await {
            Ok(read) => read.map(Self),
            Err(_) => {
                let detail = format!("the body did not come within {} s", BODY_WITHIN.as_secs());
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail))
            }
        }
    }
}

fn too_large() -> Problem {
    let detail = format!("the body is larger than {BODY_BYTES_MAX} bytes; expected a command");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
}

async fn read(mut body: axum::body::Body) -> Result<Bytes, Problem> {
    let mut whole = Vec::new();
    loop {
        let frame =
            std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context));
        match frame.await {
            None => return Ok(whole.into()),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if whole.len() + data.len() > BODY_BYTES_MAX {
                    return Err(too_large());
                }
                whole.extend_from_slice(&data);
            }
            Some(Err(_)) => return Err(Problem::invalid("the body ended early, or is no HTTP")),
        }
    }
}

/// A whole body that says of itself that it is JSON: a browser lets a stranger's page send nothing of the kind unasked.
/// The seeds' paths take what their clients send.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Bytes);

impl FromRequest<Arc<Door>> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, door: &Arc<Door>) -> Result<Self, Problem> {
        let said =
            request.headers().get(CONTENT_TYPE).map(|said| said.to_str().unwrap_or_default());
        let essence = said.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let is_json = essence.eq_ignore_ascii_case("application/json")
            || essence.to_ascii_lowercase().ends_with("+json");
        if !is_json {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            let detail =
                "the body does not say that it is JSON; expected Content-Type: application/json";
            return Err(Problem::new(status, "unsupported-media-type", detail));
        }
        Body::from_request(request, door).await.map(|Body(body)| Self(body))
    }
}

/// A request that asks for something: who, how patiently, under which id, and what.
#[derive(Debug)]
pub(crate) struct Asking<B = Body> {
    pub(crate) caller: Caller,
    pub(crate) patience: Patience,
    pub(crate) key: Option<CommandId>,
    pub(crate) headers: HeaderMap,
    body: B,
}

impl<B: FromRequest<Arc<Door>, Rejection = Problem>> FromRequest<Arc<Door>> for Asking<B> {
    type Rejection = Problem;

    async fn from_request(request: Request, door: &Arc<Door>) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        // Who it is first: a stranger's body is not read.
        let caller = Caller::from_request_parts(&mut parts, door).await?;
        let patience = Patience::from_request_parts(&mut parts, door).await?;
        let key = key(&parts.headers)?;
        let headers = parts.headers.clone();
        let body = B::from_request(Request::from_parts(parts, body), door).await?;
        Ok(Self { caller, patience, key, headers, body })
    }
}

impl<B: AsRef<[u8]>> Asking<B> {
    /// The command that the body is; `action` is the word of the path, where the path names one.
    pub(crate) fn command(&self, action: Option<&str>) -> Result<Command, Problem> {
        parse::read(self.body.as_ref(), action, &self.headers)
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for JsonBody {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// How long a caller is ready to wait, and since when it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) said: Said,
    since: Instant,
}

/// Until when an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    /// Then the caller is told what is so far.
    pub(crate) soft: Instant,
    /// Then it is told so without asking AWS any more.
    pub(crate) hard: Instant,
}

impl Deadline {
    /// What comes in time.
    pub(crate) async fn meets<T>(self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.hard, work).await.ok()
    }
}

/// What a caller says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// It does not say.
    Unsaid,
    /// Not at all.
    Async,
    /// So many seconds.
    Seconds(u64),
}

impl FromRequestParts<Arc<Door>> for Patience {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Door>) -> Result<Self, Problem> {
        let since = Instant::now();
        if let Some(text) = pairs(parts.uri.query()).remove("wait") {
            let seconds = text.parse().ok().filter(|seconds| *seconds <= WAIT_SECONDS_MAX);
            let said = seconds.map(Said::Seconds);
            return said.map(|said| Self { said, since }).ok_or_else(|| {
                let expected = format!("expected whole seconds from 0 to {WAIT_SECONDS_MAX}");
                Problem::invalid(format!("the query's `wait` is not a time to wait; {expected}"))
            });
        }
        Ok(Self { said: preferred(&parts.headers), since })
    }
}

/// What `Prefer` says. A preference that cannot be read is no preference (RFC 7240 §2); with `respond-async` a time is
/// how long to wait before (§4.1).
fn preferred(headers: &HeaderMap) -> Said {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut said = Said::Unsaid;
    for word in values.flat_map(|value| value.split([',', ';'])).map(str::trim) {
        if word.eq_ignore_ascii_case("respond-async") && said == Said::Unsaid {
            said = Said::Async;
        }
        let seconds =
            word.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("wait"));
        let seconds = seconds.and_then(|(_, value)| value.trim().trim_matches('"').parse().ok());
        if let Some(seconds) = seconds {
            return Said::Seconds(u64::min(seconds, WAIT_SECONDS_MAX));
        }
    }
    said
}

impl Patience {
    /// When to answer, where the caller leaves it to us for so long; and how long after that at the latest.
    pub(crate) fn until(self, seconds: u64, slack: u64) -> Deadline {
        let seconds = match self.said {
            Said::Unsaid => seconds,
            Said::Async => 0,
            Said::Seconds(seconds) => seconds,
        };
        let soft = self.since + Duration::from_secs(seconds);
        Deadline { soft, hard: soft + Duration::from_secs(slack) }
    }
}

/// The id that a caller gives its command.
fn key(headers: &HeaderMap) -> Result<Option<CommandId>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid("the header Idempotency-Key comes twice; expected it once"));
    }
    // The draft has it as a string of structured fields, in quotes; nobody sends it so, and everybody may.
    let text = value.to_str().unwrap_or_default();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let id = CommandId::parse(bare).map_err(|error| error.at("header Idempotency-Key"));
    id.map(Some).map_err(|error| Problem::invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn prefers(values: &[&str], expected: Said) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, value.parse().unwrap());
        }
        assert_eq!(preferred(&headers), expected, "{values:?}");
    }

    #[test]
    fn a_preference_is_read_as_the_rfc_has_it() {
        prefers(&[], Said::Unsaid);
        prefers(&["wait=25"], Said::Seconds(25));
        prefers(&["respond-async"], Said::Async);
        prefers(&["respond-async, wait=10"], Said::Seconds(10));
        prefers(&["handling=lenient; wait = \"7\""], Said::Seconds(7));
        prefers(&["return=minimal", "Wait=3"], Said::Seconds(3));
        prefers(&["wait=99999"], Said::Seconds(WAIT_SECONDS_MAX));
        prefers(&["wait=-1"], Said::Unsaid);
        prefers(&["awaits=5"], Said::Unsaid);
    }
}
