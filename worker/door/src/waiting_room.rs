//! The waiting room: a link that wakes a machine, shows how far it is, and moves on.
//!
//! *Theory.* A link is followed by more than people: previews, scanners, a browser that guesses. So the GET only shows a
//! page, and the page's script (or, without scripts, its button) makes the POST that wakes. A link is seen by everybody
//! who sees a chat, a browser's history or a balancer's log, so it carries a signed code (`links`) and no token.
//!
//! *Invariant.* Nobody is led where the fleet does not say: `to` is checked at every step, and only what was checked is
//! given back.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use lamplighter_events::{
    Action, Command, FieldError, Holder, HumanDuration, TargetName, TargetRef,
};
use lamplighter_lifecycle::{Phase, TargetRecord, usual_start_seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

use crate::Door;
use crate::access::Caller;
use crate::api::SLACK_SECONDS;
use crate::assets;
use crate::assets::for_people;
use crate::inbound::{Deadline, JsonBody};
use crate::links::{CodeError, Grant, Purpose};
use crate::problem::Problem;
use crate::query::pairs;
use crate::settings::{Auth, Destination, Right};
use crate::targets::no_such_target;

/// The time that the queue may take.
const WAKE_WITHIN: Duration = Duration::from_secs(SLACK_SECONDS);
/// For whom a machine is woken where the token speaks for anyone.
const HOLDER: &str = "waiting-room";

/// What an expired link is called.
const EXPIRED: &str = "link-expired";

/// How far it is.
#[derive(Debug, Serialize)]
pub(crate) struct Progress {
    target: TargetName,
    phase: &'static str,
    step: Option<lamplighter_lifecycle::Step>,
    why: String,
    ready: bool,
    failed: Option<String>,
    since: Timestamp,
    usual_seconds: Option<u64>,
    elapsed_seconds: i64,
    to: String,
}

/// What whoever has the link alone is told: neither holders nor AWS's own words, which name accounts and roles.
fn in_general(record: &TargetRecord) -> &'static str {
    match record.phase {
        Phase::Off => "it is off",
        Phase::Starting => "it is starting",
        Phase::On if record.up.unit_down => "it runs, and does not do its work",
        Phase::On => "it is on",
        Phase::Stopping => "it is stopping",
        Phase::Failed => "it could not be started",
    }
}

impl Progress {
    /// `full`: for whoever may see the target anyway.
    fn of(record: &TargetRecord, to: &Url, now: Timestamp, full: bool) -> Self {
        let run = record.runs.last().filter(|run| run.until.is_none());
        let begun = run.map_or(record.since, |run| run.from);
        let failed = record.failure.as_ref().filter(|_| record.phase == Phase::Failed);
        Self {
            target: record.target.clone(),
            phase: record.phase_name(),
            step: record.step,
            why: if full { record.why.clone() } else { in_general(record).to_owned() },
            ready: record.is_ready(),
            failed: failed.map(|failure| match full {
                true => format!("{}: {}", failure.cause, failure.message),
                false => format!("{} ({})", in_general(record), failure.cause),
            }),
            since: record.since,
            usual_seconds: usual_start_seconds(&record.runs),
            elapsed_seconds: now.duration_since(begun).as_secs().max(0),
            to: to.to_string(),
        }
    }
}

/// A request to wait, that was found to be in order.
struct Admitted {
    caller: Caller,
    target: TargetName,
    to: Url,
    asked: bool,
}

impl Door {
    /// Who waits for what, and where to.
    fn admit_to_wait(
        &self,
        target: &str,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Admitted, Problem> {
        let mut query = pairs(uri.query());
        let caller = match (query.remove("code"), query.remove("token")) {
            _ if self.access.auth() == Auth::None => Caller::Anyone,
            (Some(code), _) => self.of_code(&code, target)?,
            (None, Some(token)) if !headers.contains_key(AUTHORIZATION) => {
                self.of_token_in_url(&token)?
            }
            _ => self.access.caller(headers)?,
        };
        match &caller {
            // No token's name has a control character.
            Caller::Link(grant) => self.limits.token(&format!("\0link {}", grant.target))?,
            caller => caller.name().map_or(Ok(()), |name| self.limits.token(name))?,
        }
        caller.need(Right::Wait)?;
        let target =
            TargetName::parse(target).ok().filter(|name| self.fleet.has(name) && caller.sees(name));
        let target = target.ok_or_else(no_such_target)?;
        // A link says where it leads; what says nothing was cut off.
        let to = Some(query.get("to").map_or("", String::as_str));
        let to = self.http.leads(&target, to).ok_or_else(no_waiting_room)?;
        let to = to.map_err(|_| {
            Problem::invalid(
                "the link does not say, in `to`, an address that this waiting room may lead to",
            )
        })?;
        Ok(Admitted {
            caller,
            target,
            to,
            asked: query.get("asked").is_some_and(|asked| asked == "1"),
        })
    }
}

impl Door {
    /// Who has a link with this code.
    fn of_code(&self, code: &str, target: &str) -> Result<Caller, Problem> {
        let invalid = || Problem::unauthorized(CodeError::Invalid.to_string());
        let target = TargetName::parse(target).map_err(|_| invalid())?;
        let keys = self.link_keys().ok_or_else(invalid)?;
        match keys.verify(code, Purpose::Wait, &target, self.clock.now()) {
            Ok(grant) => Ok(Caller::Link(grant)),
            Err(CodeError::Invalid) => Err(invalid()),
            Err(expired @ CodeError::Expired(_)) => {
                Err(Problem::new(StatusCode::GONE, EXPIRED, expired.to_string()))
            }
        }
    }

    /// Who has a link of an earlier release, which carries a token.
    fn of_token_in_url(&self, token: &str) -> Result<Caller, Problem> {
        let caller = self.access.of_token(token)?;
        let name = caller.name().unwrap_or_default();
        let mut warned = self.tokens_in_urls.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.insert(name.to_owned()) {
            tracing::warn!(
                token = name,
                "a link to a waiting room carries this token, which whoever reads the load balancer's log can read; links \
                 with ?token= end with the next release: make links with `lamplighter link` or POST /v1/links, then \
                 replace the token"
            );
        }
        Ok(caller)
    }
}

fn no_waiting_room() -> Problem {
    Problem::not_found("this target has no waiting room; [http.wait.TARGET] gives it one")
}

/// What a link is to be for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkWanted {
    /// Which target it wakes.
    target: TargetName,
    /// How long it lasts, such as `"8h"`; from a minute to 30 days, and a day where nothing is said.
    #[serde(default, rename = "for")]
    lifetime: Option<HumanDuration>,
    /// Where it leads once the target is on; the first address of `[http.wait.TARGET]` where nothing is said.
    #[serde(default)]
    to: Option<String>,
    /// In whose name it wakes: the token's holder, or `waiting-room` for a token that speaks for anyone.
    #[serde(default)]
    holder: Option<Holder>,
}

/// A link to a waiting room.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LinkMade {
    /// The target that it wakes.
    target: TargetName,
    /// The link, from this door's address on.
    path: String,
    /// When it ends.
    #[schemars(with = "String", extend("format" = "date-time"))]
    expires_at: Timestamp,
}

/// `POST /v1/links`
pub(crate) async fn make_link(
    State(door): State<Arc<Door>>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    caller.need(Right::Link)?;
    let wanted: LinkWanted = serde_json::from_slice(&body).map_err(|error| {
        let expected = "expected {\"target\": \"…\", \"for\": \"8h\", \"to\": \"https://…\"}";
        Problem::invalid(format!("the body: {error}; {expected}"))
    })?;
    let target = Some(wanted.target).filter(|name| door.fleet.has(name) && caller.sees(name));
    let target = target.ok_or_else(no_such_target)?;
    let invalid = |error: FieldError| Problem::invalid(error.to_string());
    let to = door.http.leads(&target, wanted.to.as_deref()).ok_or_else(no_waiting_room)?;
    let to = to.map_err(invalid)?;
    let holder = caller.holder(wanted.holder)?;
    let grant = Grant::new(Purpose::Wait, target, holder, wanted.lifetime, door.clock.now());
    let grant = grant.map_err(invalid)?;
    let keys = door.link_keys().ok_or_else(|| {
        Problem::not_found(
            "this door has no key for links; [http] links_secret names the secret with it",
        )
    })?;
    let made = LinkMade {
        path: keys.wait_path(&grant, &to),
        target: grant.target,
        expires_at: grant.expires,
    };
    tracing::info!(by = caller.name(), target = %made.target, expires = %made.expires_at, "a link was made");
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

fn see_other(to: &str) -> Response {
    match HeaderValue::from_str(to) {
        Ok(to) => (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response(),
        Err(_) => Problem::invalid("this address cannot be led to").into_response(),
    }
}

/// `GET /wait/{target}`
pub(crate) async fn page(
    State(door): State<Arc<Door>>,
    Path(target): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let admitted = match door.admit_to_wait(&target, &uri, &headers) {
        Ok(admitted) => admitted,
        Err(problem) => return told(&problem),
    };
    if admitted.asked {
        match door.store.load(&admitted.target).await {
            Ok(Some(record)) if record.is_ready() => {
                return see_other(admitted.to.as_str());
            }
            Ok(_) => {}
            // The page asks again.
            Err(error) => tracing::debug!(%error, "cannot see how far it is"),
        }
    }
    // Without scripts its form is led on by redirects, which browsers hold to the form's policy; and its origin is sent.
    let leads = door.http.wait.get(&admitted.target).into_iter().flatten();
    let origins: BTreeSet<String> = leads.map(Destination::origin).collect();
    let mut page = assets::html(StatusCode::OK, assets::WAIT.to_owned());
    let policy = assets::policy_for_forms(origins.iter().map(String::as_str));
    if let Ok(policy) = policy.parse() {
        page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    page.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    page
}

/// An error as a page.
fn told(problem: &Problem) -> Response {
    let title = match problem.status() {
        StatusCode::GONE => "This link has expired",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "This link may not do that",
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "Not at the moment",
        _ => "This link leads nowhere",
    };
    let page = assets::WAIT_ERROR
        .replace("{{title}}", &escaped(title))
        .replace("{{detail}}", &escaped(&problem.detail.replace('`', "")));
    assets::html(problem.status(), page)
}

/// Text as HTML shows it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Braces: what is filled in second must not fill in what was filled in first.
            '{' => escaped.push_str("&#123;"),
            char => escaped.push(char),
        }
    }
    escaped
}

/// `POST /wait/{target}`
pub(crate) async fn wake(
    State(door): State<Arc<Door>>,
    Path(target): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let is_form = headers
        .get(CONTENT_TYPE)
        .is_some_and(|it| it.as_bytes().starts_with(b"application/x-www-form"));
    let by_form = for_people(&headers) && is_form;
    match waken(&door, &target, &uri, &headers).await {
        Ok(_) if by_form => {
            // The same page, which now knows that it was asked for.
            let query = uri.query().unwrap_or_default();
            see_other(&format!("{}?{query}&asked=1", uri.path()))
        }
        Ok(progress) => (StatusCode::ACCEPTED, Json(progress)).into_response(),
        Err(problem) if by_form => told(&problem),
        Err(problem) => problem.into_response(),
    }
}

async fn waken(
    door: &Arc<Door>,
    target: &str,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Progress, Problem> {
    let Admitted { caller, target, to, .. } = door.admit_to_wait(target, uri, headers)?;
    let mut command = Command::new(Action::Start);
    command.target = Some(TargetRef::Name(target.clone()));
    command.reason = Some("somebody is in the waiting room".to_owned());
    if caller.speaks_for() == "*" {
        command.holder = Holder::parse(HOLDER).ok();
    }
    let asked = door.admit_wake(&caller, command).await?;
    let now = Instant::now();
    let deadline = Deadline { soft: now, hard: now + WAKE_WITHIN };
    door.send(&asked, headers, deadline).await?;
    progress(door, &caller, &target, &to).await
}

async fn progress(
    door: &Door,
    caller: &Caller,
    target: &TargetName,
    to: &Url,
) -> Result<Progress, Problem> {
    let now = door.clock.now();
    if let Some(record) = door.store.load(target).await? {
        return Ok(Progress::of(&record, to, now, caller.has(Right::Read)));
    }
    Ok(Progress {
        target: target.clone(),
        phase: Phase::Off.as_str(),
        step: None,
        why: "nobody has looked at it yet".to_owned(),
        ready: false,
        failed: None,
        since: now,
        usual_seconds: None,
        elapsed_seconds: 0,
        to: to.to_string(),
    })
}

/// `GET /wait/{target}/state`
pub(crate) async fn state(
    State(door): State<Arc<Door>>,
    Path(target): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Progress>, Problem> {
    let Admitted { caller, target, to, .. } = door.admit_to_wait(&target, &uri, &headers)?;
    Ok(Json(progress(&door, &caller, &target, &to).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_into_a_page_stays_text() {
        assert_eq!(
            escaped("<a href='x'>&\"{{detail}}"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&#123;&#123;detail}}"
        );
    }
}
