//! Traces and metrics, as the runtime makes them.
//!
//! *Theory.* One trace goes from the sender of a command through every wake-up and signal to its
//! outcome. Between messages it travels as a W3C `traceparent` (in a message attribute, in the
//! record): [`join`] takes one up, [`traceparent`] hands one on. Metrics are counted through
//! [`Meters`], whose instruments belong to whatever meter provider the binary installed.
//!
//! *Invariants.* Without a provider all of this does nothing and costs next to nothing. A label is a
//! word of ours (`&'static str`), never a piece of input: so there are few, and none is secret. A
//! broken `traceparent` is ignored; it must not cost anyone a command.
//!
//! *Not here.* Exporters, filters and their settings: the binary's `telemetry_setup`.

use opentelemetry::metrics::{Counter, Gauge, Histogram, MeterProvider};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, KeyValue, global};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The name of our meter and tracer.
pub const SCOPE: &str = "lamplighter";

/// Bounds of the histograms, seconds: from a pass of some milliseconds to a start of ten minutes.
const SECONDS_BOUNDS: [f64; 14] =
    [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0];

/// Makes `span` a child of the remote span that `traceparent` names; an absent or invalid one is
/// ignored. Must be called before the span is entered for the first time: its parent is fixed then.
pub fn join(span: &tracing::Span, traceparent: Option<&str>) {
    if let Some(parent) = traceparent.and_then(parse) {
        // Fails only where no trace layer is installed: then there is nothing to join.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// The W3C `traceparent` of the current span, if it is part of a trace.
#[must_use]
pub fn traceparent() -> Option<String> {
    let context = tracing::Span::current().context();
    let span = context.span();
    let at = span.span_context();
    at.is_valid().then(|| {
        let flags = at.trace_flags() & TraceFlags::SAMPLED;
        format!("00-{}-{}-{:02x}", at.trace_id(), at.span_id(), flags.to_u8())
    })
}

/// Whether [`join`] would take this up.
#[must_use]
pub fn is_traceparent(text: &str) -> bool {
    parse(text).is_some()
}

/// Version 00 has 55 bytes. Later versions may have more; it is kept in records, so not without end.
const TRACEPARENT_BYTES_MAX: usize = 128;

/// `00-<32 hex>-<16 hex>-<2 hex>`, all in lower case; a later version may have more after it.
fn parse(text: &str) -> Option<SpanContext> {
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    if text.len() > TRACEPARENT_BYTES_MAX {
        return None;
    }
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known_end = version != "00" || parts.next().is_none();
    let well_formed = hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && hex(span, 16)
        && hex(flags, 2)
        && known_end;
    if !well_formed {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

/// Every instrument; cheap to clone.
#[derive(Clone)]
pub struct Meters {
    received: Counter<u64>,
    done: Counter<u64>,
    rejected: Counter<u64>,
    failed: Counter<u64>,
    parked: Counter<u64>,
    redelivered: Counter<u64>,
    throttled: Counter<u64>,
    in_flight: Gauge<i64>,
    oldest_message: Gauge<f64>,
    oldest_event: Gauge<f64>,
    command: Histogram<f64>,
    command_to_ready: Histogram<f64>,
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

impl Meters {
    /// The instruments of the global meter provider: make them after it was installed.
    #[must_use]
    pub fn new() -> Self {
        Self::of(&*global::meter_provider())
    }

    /// The instruments of a given provider.
    #[must_use]
    pub fn of<P: MeterProvider + ?Sized>(provider: &P) -> Self {
        let meter =
            provider.meter_with_scope(opentelemetry::InstrumentationScope::builder(SCOPE).build());
        let counter = |name: &'static str, unit: &'static str, description: &'static str| {
            meter.u64_counter(name).with_unit(unit).with_description(description).build()
        };
        let seconds = |name: &'static str, description: &'static str| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(description)
                .with_boundaries(SECONDS_BOUNDS.to_vec())
                .build()
        };
        Self {
            received: counter(
                "lamplighter.messages.received",
                "{message}",
                "Messages taken from the command queue",
            ),
            done: counter("lamplighter.commands.done", "{command}", "Commands that ended as asked"),
            rejected: counter(
                "lamplighter.commands.rejected",
                "{command}",
                "Commands that were not begun",
            ),
            failed: counter(
                "lamplighter.commands.failed",
                "{command}",
                "Commands that were begun and did not succeed",
            ),
            parked: counter(
                "lamplighter.messages.parked",
                "{message}",
                "Messages sent to the dead letters",
            ),
            redelivered: counter(
                "lamplighter.messages.redelivered",
                "{message}",
                "Messages put back to be received again",
            ),
            throttled: counter(
                "lamplighter.calls.throttled",
                "{call}",
                "Calls that AWS refused for their pace",
            ),
            in_flight: meter
                .i64_gauge("lamplighter.messages.in_flight")
                .with_unit("{message}")
                .with_description("Messages being worked on now")
                .build(),
            oldest_message: meter
                .f64_gauge("lamplighter.messages.oldest_age")
                .with_unit("s")
                .with_description(
                    "Age of the oldest message of the last receive, since it was sent",
                )
                .build(),
            oldest_event: meter
                .f64_gauge("lamplighter.events.oldest_unsent_age")
                .with_unit("s")
                .with_description(
                    "Age of the oldest event that EventBridge has not taken, as the last sweep found it",
                )
                .build(),
            command: seconds(
                "lamplighter.command.duration",
                "From the sending of a command to its outcome",
            ),
            command_to_ready: seconds(
                "lamplighter.command.to_ready",
                "From the sending of a start to its target being on",
            ),
        }
    }

    /// That many messages were received.
    pub fn received(&self, messages: u64) {
        self.received.add(messages, &[]);
    }

    /// A command was done.
    pub fn done(&self, action: &'static str, kind: &'static str) {
        self.done.add(1, &[KeyValue::new("action", action), KeyValue::new("kind", kind)]);
    }

    /// A command was rejected; `kind` is empty where it had no target.
    pub fn rejected(&self, action: &'static str, kind: &'static str, cause: &'static str) {
        self.rejected.add(1, &labels(action, kind, cause));
    }

    /// A command failed.
    pub fn failed(&self, action: &'static str, kind: &'static str, cause: &'static str) {
        self.failed.add(1, &labels(action, kind, cause));
    }

    /// A message was parked.
    pub fn parked(&self, reason: &'static str) {
        self.parked.add(1, &[KeyValue::new("reason", reason)]);
    }

    /// A message was put back.
    pub fn redelivered(&self, cause: &'static str) {
        self.redelivered.add(1, &[KeyValue::new("cause", cause)]);
    }

    /// A call such as `ec2:StartInstances` was throttled.
    pub fn throttled(&self, operation: &'static str) {
        self.throttled.add(1, &[KeyValue::new("operation", operation)]);
    }

    /// So many messages are being worked on now.
    pub fn in_flight(&self, messages: i64) {
        self.in_flight.record(messages, &[]);
    }

    /// The oldest message of the last receive was sent so many seconds ago.
    pub fn oldest_message_seconds(&self, age_seconds: f64) {
        self.oldest_message.record(age_seconds, &[]);
    }

    /// The oldest event that waits in a record was decided so many seconds ago; 0 where none waits.
    pub fn oldest_event_seconds(&self, age_seconds: f64) {
        self.oldest_event.record(age_seconds, &[]);
    }

    /// A command took so many seconds from its sending to its outcome.
    pub fn command_seconds(&self, action: &'static str, kind: &'static str, seconds: f64) {
        self.command
            .record(seconds, &[KeyValue::new("action", action), KeyValue::new("kind", kind)]);
    }

    /// A start took so many seconds from its sending to its target being on.
    pub fn command_to_ready_seconds(&self, kind: &'static str, seconds: f64) {
        self.command_to_ready.record(seconds, &[KeyValue::new("kind", kind)]);
    }
}

fn labels(action: &'static str, kind: &'static str, cause: &'static str) -> [KeyValue; 3] {
    [KeyValue::new("action", action), KeyValue::new("kind", kind), KeyValue::new("cause", cause)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, valid: bool) {
        assert_eq!(parse(text).is_some(), valid, "{text:?}");
    }

    #[test]
    fn only_a_valid_traceparent_is_joined() {
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true);
        check(" 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00 ", true);
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later", true);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", false);
        check("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false);
        check("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01", false);
        check("00-4bf9-00f067aa0ba902b7-01", false);
        check("", false);
        check(&"0".repeat(100_000), false);
    }

    #[test]
    fn outside_a_trace_there_is_no_traceparent_and_nothing_to_join() {
        assert_eq!(traceparent(), None);
        let span = tracing::info_span!("pass");
        join(&span, Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        join(&span, None);
        let _in = span.enter();
        assert_eq!(traceparent(), None);
    }
}
