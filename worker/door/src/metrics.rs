//! `/metrics`: what the door did, and how many targets are in which phase, for Prometheus.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use lamplighter_events::Action;
use lamplighter_lifecycle::Phase;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::Door;
use crate::access::Caller;
use crate::problem::Problem;
use crate::settings::Right;

/// From a read to seed 004's ten minutes.
const BUCKETS: [f64; 8] = [0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    action: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InPhase {
    phase: String,
}

/// The numbers.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    answered: Family<Answered, Counter>,
    took: Histogram,
    sent: Family<Sent, Counter>,
    waiting: Gauge<u64, AtomicU64>,
    watching: Gauge<u64, AtomicU64>,
    targets: Family<InPhase, Gauge<u64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("lamplighter");
        let answered = Family::default();
        registry.register("http_requests", "Requests, by route and status", answered.clone());
        let took = Histogram::new(BUCKETS);
        registry.register("http_request_seconds", "How long they took", took.clone());
        let sent = Family::default();
        registry.register("commands_sent", "Commands put on the queue", sent.clone());
        let waiting = Gauge::default();
        registry.register("waits", "Requests that wait for an outcome", waiting.clone());
        let watching = Gauge::default();
        registry.register("event_streams", "Open streams of events", watching.clone());
        let targets = Family::default();
        registry.register("targets", "Targets, by phase", targets.clone());
        Self { registry, answered, took, sent, waiting, watching, targets }
    }
}

impl Metrics {
    pub(crate) fn sent(&self, action: Action) {
        self.sent.get_or_create(&Sent { action: action.as_str().to_owned() }).inc();
    }

    /// `route` is the pattern, not the path: what strangers ask for must not become labels.
    pub(crate) fn answered(&self, route: &str, status: u16, took: Duration) {
        self.answered.get_or_create(&Answered { route: route.to_owned(), status }).inc();
        self.took.observe(took.as_secs_f64());
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(
    State(door): State<Arc<Door>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.need(Right::Read)?;
    if !caller.sees_all() {
        let detail = "these numbers are of all targets, and so for tokens of all";
        return Err(Problem::forbidden(detail));
    }
    let metrics = &door.metrics;
    metrics.waiting.set(u64::try_from(door.waits.taken()).unwrap_or(u64::MAX));
    metrics.watching.set(u64::try_from(door.live.watching()).unwrap_or(u64::MAX));
    let looked = door.all().await?;
    for phase in [Phase::Off, Phase::Starting, Phase::On, Phase::Stopping, Phase::Failed] {
        let count = looked.values().filter(|one| one.record.phase == phase).count();
        let label = InPhase { phase: phase.as_str().to_owned() };
        metrics.targets.get_or_create(&label).set(u64::try_from(count).unwrap_or(u64::MAX));
    }
    let mut text = String::new();
    encode(&mut text, &metrics.registry)
        .map_err(|_| Problem::unavailable("the numbers cannot be written"))?;
    // Older scrapers know the plain form alone, of which this text is one too.
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let media_type = match accept.contains("application/openmetrics-text") {
        true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        false => "text/plain; version=0.0.4; charset=utf-8",
    };
    Ok(([(CONTENT_TYPE, media_type)], text).into_response())
}
