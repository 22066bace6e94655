//! The pages: static files, compiled in, with a content policy that lets nothing else in.

use axum::extract::Path;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::problem::Problem;

/// Only what comes from here, no inline script or style, and in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The same for a page whose form may be led to these origins.
pub(crate) fn policy_for_forms<'o>(origins: impl Iterator<Item = &'o str>) -> String {
    let mut forms = "form-action 'self'".to_owned();
    for origin in origins {
        forms.push(' ');
        forms.push_str(origin);
    }
    POLICY.replace("form-action 'self'", &forms)
}

pub(crate) const INDEX: &str = include_str!("page/index.html");
pub(crate) const DOCS: &str = include_str!("page/docs.html");
pub(crate) const WAIT: &str = include_str!("page/wait.html");
pub(crate) const WAIT_ERROR: &str = include_str!("page/wait_error.html");

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("page/", $name)))),*];
    };
}
files![
    "actions.js",
    "api.js",
    "app.css",
    "app.js",
    "base.css",
    "board.js",
    "commands.js",
    "dialogs.js",
    "docs.css",
    "docs.js",
    "dom.js",
    "lamp.svg",
    "letters.js",
    "schema.js",
    "store.js",
    "target.js",
    "views.css",
    "wait.css",
    "wait.js",
    "week.js",
    "words.js",
];

/// A page.
pub(crate) fn html(status: StatusCode, page: String) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    (status, headers, page).into_response()
}

/// `GET /assets/{name}`
pub(crate) async fn asset(
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = FILES.iter().find(|(known, _)| *known == name);
    let (name, text) = found.ok_or_else(|| Problem::not_found("there is no such file"))?;
    let media_type = match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    };
    let hash = Sha256::digest(text.as_bytes());
    let tag = format!(
        "\"{}\"",
        hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>()
    );
    // A new version of the door must not meet an old script: asked for each time, sent when it changed.
    let cached = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (ETAG, tag.parse().unwrap_or(HeaderValue::from_static("\"\""))),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    Ok(match cached {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, *text).into_response(),
    })
}

/// `GET /`: the page.
pub(crate) async fn index() -> Response {
    html(StatusCode::OK, INDEX.to_owned())
}

/// Whether a request is a person's.
pub(crate) fn for_people(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}
