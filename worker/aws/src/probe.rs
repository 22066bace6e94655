//! The probes of idle policies: addresses that answer JSON, and metrics.
//!
//! *Theory.* An answer is read for one number and thrown away; whatever else comes (HTML, a redirect, a
//! page without end, silence) is unknown, in a few words. Each request says that it is a probe, so that a
//! backend can leave it out of its activity, and no connection is kept open, which could look like a user.
//! The backend's own clock is read from `Date`, as AWS's is: whole seconds, so half a second is added, and
//! compared with the middle between question and answer.
//!
//! *Invariants.* A probe takes five seconds in all, however the answer drips, and keeps 64 KiB at most. A
//! detail never holds an address (it may carry a token), nor more than a few characters of what came.
//! Unreachable is said only where no HTTP answer came at all. Probing never fails: trouble is a reading.
//!
//! *Not here.* What a reading means (`lifecycle::idle`); the command on a host (`ssm`).

use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lamplighter_lifecycle::{HttpProbe, Probe, ProbePlan, Reading, Round};
use lamplighter_runtime::ports::Clock;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::addresses::Addresses;
use crate::batch::Batcher;
use crate::client::Aws;
use crate::clock::read_date;
use crate::cloudwatch::{Metrics, Query, unknown};
use crate::health::{HealthError, client, silence};
use crate::secrets::Secrets;

/// As long as seed 002's client waited.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What is read of an answer; one number needs far less.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Dead backends hold a place for five seconds each. So many take fifty a second, and cost a worker less
/// than twenty megabytes.
const AT_ONCE_MAX: usize = 256;
/// What a detail quotes of an answer.
const QUOTE_CHARS_MAX: usize = 60;

/// Asks probes.
pub(crate) struct Probes {
    http: reqwest::Client,
    places: Semaphore,
    metrics: Batcher<Metrics>,
    addresses: Addresses,
    clock: Arc<dyn Clock>,
}

impl Probes {
    pub(crate) fn new(
        aws: &Aws,
        secrets: Arc<Secrets>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HealthError> {
        Ok(Self {
            http: probe_client()?,
            places: Semaphore::new(AT_ONCE_MAX),
            metrics: Batcher::new(Metrics { client: aws.cloudwatch.clone() }),
            addresses: Addresses::new(secrets),
            clock,
        })
    }

    /// All but the host's command: the addresses one after the other, since each may count the others' requests, and
    /// the metrics meanwhile.
    pub(crate) async fn ask(&self, plan: &ProbePlan) -> Round {
        // A place before the round's time is taken: what was read after a wait must not pass for older than it
        // is. Nobody closes the semaphore.
        let _place = match plan.http_order.is_empty() {
            true => None,
            false => self.places.acquire().await.ok(),
        };
        let at = self.clock.now();
        let metrics = join_all(plan.probes.iter().map(|probe| self.ask_metric(plan, probe, at)));
        let (mut readings, told) = tokio::join!(metrics, self.ask_addresses(plan));
        for (place, reading) in told {
            if let Some(slot) = readings.get_mut(place) {
                *slot = Some(reading);
            }
        }
        Round { at, of: Some(plan.resource.clone()), over: plan.over, readings }
    }

    async fn ask_metric(&self, plan: &ProbePlan, probe: &Probe, at: Timestamp) -> Option<Reading> {
        let Probe::Metric(metric) = probe else { return None };
        Some(match Query::of(metric, &plan.resource, at) {
            Ok(query) => match self.metrics.call(query).await {
                Ok(reading) => reading,
                Err(error) => unknown(error.to_string()),
            },
            Err(lacking) => unknown(lacking),
        })
    }

    /// Where one does not answer the others are not waited for: all must say idle.
    async fn ask_addresses(&self, plan: &ProbePlan) -> Vec<(usize, Reading)> {
        let mut told = Vec::new();
        let mut gone = false;
        for place in &plan.http_order {
            let Some(Probe::Http(http)) = plan.probes.get(*place) else { continue };
            let reading = match gone {
                true => {
                    unknown("it was not asked, since another address did not answer".to_owned())
                }
                false => self.ask_http(plan, http).await,
            };
            gone |= matches!(reading, Reading::Unknown { unreachable: true, .. });
            told.push((*place, reading));
        }
        told
    }

    async fn ask_http(&self, plan: &ProbePlan, probe: &HttpProbe) -> Reading {
        let (private, public) = (plan.private_ip.as_deref(), plan.public_ip.as_deref());
        let url = match self.addresses.fill(&probe.url, private, public).await {
            Ok(url) => url,
            Err(detail) => return unknown(detail),
        };
        ask(&self.http, &*self.clock, &url, &probe.pointer).await
    }
}

fn probe_client() -> Result<reqwest::Client, HealthError> {
    let mark = HeaderName::from_static("x-lamplighter-probe");
    let headers = HeaderMap::from_iter([(mark, HeaderValue::from_static("1"))]);
    client("lamplighter-probe", TIMEOUT, |builder| {
        builder.default_headers(headers).pool_max_idle_per_host(0)
    })
}

async fn ask(http: &reqwest::Client, clock: &dyn Clock, url: &str, pointer: &str) -> Reading {
    let asked_at = clock.now();
    let answer = match http.get(url).send().await {
        Ok(answer) => answer,
        Err(error) => {
            return Reading::Unknown { detail: silence(&error, TIMEOUT), unreachable: true };
        }
    };
    let headed_at = clock.now().max(asked_at);
    let date = answer.headers().get(DATE).and_then(|date| read_date(date.to_str().ok()?));
    let status = answer.status();
    if status.is_redirection() {
        return unknown(format!("it redirects (HTTP {}), which is not followed", status.as_u16()));
    }
    if !status.is_success() {
        return unknown(format!("it answers HTTP {}", status.as_u16()));
    }
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.map(|kind| format!(" ({})", quote(kind))).unwrap_or_default();
    let body = match read(answer).await {
        Ok(body) => body,
        Err(detail) => return unknown(detail),
    };
    let answered_at = clock.now().max(headed_at);
    let Ok(json) = serde_json::from_slice::<Value>(&body) else {
        return unknown(format!("it answers no JSON{kind}"));
    };
    match number(&json, pointer) {
        Ok(value) => Reading::Number {
            value,
            asked_at,
            answered_at,
            ahead_millis: date.map(|date| ahead_millis(date, asked_at, headed_at)),
        },
        Err(detail) => unknown(detail),
    }
}

/// The beginning of a body, where that is all of it.
async fn read(mut answer: reqwest::Response) -> Result<Vec<u8>, String> {
    let too_long = || format!("its answer is longer than {} KiB", BODY_BYTES_MAX / 1024);
    if answer.content_length().is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > BODY_BYTES_MAX => return Err(too_long()),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) if error.is_timeout() => {
                return Err(format!("its answer has no end within {} s", TIMEOUT.as_secs()));
            }
            Err(_) => return Err("its answer broke off".to_owned()),
        }
    }
}

fn number(json: &Value, pointer: &str) -> Result<f64, String> {
    let wrong = |found: &str| Err(format!("{found} at {}: expected a number", quote(pointer)));
    match json.pointer(pointer) {
        None => wrong("it has nothing"),
        Some(Value::Null) => wrong("it has null"),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(number) if number.is_finite() => Ok(number),
            _ => wrong("it has a number beyond all bounds"),
        },
        Some(Value::String(text)) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => wrong(&format!("it has {:?}", quote(text))),
        },
        Some(Value::Bool(_)) => wrong("it has a truth value"),
        Some(Value::Array(_)) => wrong("it has a list"),
        Some(Value::Object(_)) => wrong("it has an object"),
    }
}

fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How far the backend's clock is ahead of ours.
fn ahead_millis(date: Timestamp, asked_at: Timestamp, answered_at: Timestamp) -> i64 {
    let (asked, answered) = (asked_at.as_millisecond(), answered_at.as_millisecond());
    date.as_millisecond() + 500 - (asked + (answered - asked) / 2)
}

#[cfg(test)]
mod tests;
