//! Errors as RFC 9457 has them: `application/problem+json`, with what was wrong, where, and what was expected.
//!
//! *Invariant.* A problem says nothing that its caller might not know: no body, no token, no name of a target that
//! the caller may not see.

use std::ops::{Deref, DerefMut};

use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use lamplighter_events::Malformed;
use lamplighter_runtime::Unaddressed;
use lamplighter_runtime::ports::{Applied, CallError, Disposition};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

/// Its media type.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";
/// Passing trouble of AWS's is over after seconds, as a rule.
const RETRY_SECONDS: u64 = 2;

/// What went wrong; boxed, since every fallible step here may give one back.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<Told>);

impl Deref for Problem {
    type Target = Told;

    fn deref(&self) -> &Told {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Told {
        &mut self.0
    }
}

/// What is told of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Told {
    /// What sort of problem it is: `urn:lamplighter:` and a word.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: String,
    /// The status.
    status: u16,
    /// What is wrong, where, and what was expected.
    pub(crate) detail: String,
    /// More, where there is more to say: `command` is the id to send it again with.
    #[serde(flatten)]
    more: Map<String, Value>,
    #[serde(skip)]
    retry_after: Option<u64>,
    #[serde(skip)]
    allow: Option<HeaderValue>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Told {
            kind: format!("urn:lamplighter:{kind}"),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            more: Map::new(),
            retry_after: None,
            allow: None,
        }))
    }

    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).retry_after(RETRY_SECONDS)
    }

    pub(crate) fn not_allowed(allow: &'static str) -> Self {
        let detail = format!("this address does not take this method; expected {allow}");
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
        problem.allow = Some(HeaderValue::from_static(allow));
        problem
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(crate) fn retry_seconds(&self) -> Option<u64> {
        self.retry_after
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind.strip_prefix("urn:lamplighter:") == Some(kind)
    }

    fn headers(&self, response: &mut Response) {
        let headers = response.headers_mut();
        if self.status == 401 {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = &self.allow {
            headers.insert(ALLOW, allow.clone());
        }
    }

    /// In the seeds' form: their clients read `error` (000, 001, 002) or `detail` (004).
    pub(crate) fn in_seeds_form(&self) -> Response {
        let mut body = self.more.clone();
        for name in ["error", "detail"] {
            body.entry(name.to_owned()).or_insert_with(|| self.detail.clone().into());
        }
        let mut response = (self.status(), axum::Json(body)).into_response();
        self.headers(&mut response);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&*self.0).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        self.headers(&mut response);
        // The seeds' paths say it in their own form.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        Self::new(StatusCode::BAD_REQUEST, malformed.kind.as_str(), malformed.message)
    }
}

impl From<Unaddressed> for Problem {
    fn from(unaddressed: Unaddressed) -> Self {
        let detail = unaddressed.to_string();
        match unaddressed {
            Unaddressed::Unknown { .. }
            | Unaddressed::UnknownInstance(_)
            | Unaddressed::UnknownService(_)
            | Unaddressed::UnknownTemplate { .. } => {
                Self::new(StatusCode::NOT_FOUND, "unknown-target", detail)
            }
            Unaddressed::Ambiguous { .. }
            | Unaddressed::NoService(_)
            | Unaddressed::AmbiguousTemplate(_)
            | Unaddressed::IsTemplate(_) => Self::new(StatusCode::BAD_REQUEST, "no-target", detail),
        }
    }
}

/// The queue or the table did not do what was asked. AWS's words are for the log: they name accounts and roles.
impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        tracing::warn!(%error, cause = %error.cause, "a call failed");
        let what = match error.operation.split_once(':') {
            Some(("sqs", _)) => "the queue",
            Some(("dynamodb", _)) => "the table",
            _ => "AWS",
        };
        let told = match (error.disposition, error.applied) {
            (_, Applied::Perhaps) => "did not answer",
            (Disposition::Retry | Disposition::RetryAfter(_), _) => "cannot take it at the moment",
            (Disposition::Newer, _) => "holds what only a newer release can read",
            (Disposition::Park | Disposition::Fail, _) => "refused the door's call",
        };
        Self::unavailable(format!("{what} {told} ({})", error.cause))
    }
}
