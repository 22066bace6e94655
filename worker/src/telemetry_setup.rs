//! Where logs, traces and metrics go.
//!
//! *Logs* go to stderr, as JSON lines unless stderr is a terminal (`LAMPLIGHTER_LOG_FORMAT` is `json`
//! or `text` to choose), filtered by `LAMPLIGHTER_LOG`, else `RUST_LOG`. *Traces and metrics* go over
//! OTLP/HTTP where `OTEL_EXPORTER_OTLP_ENDPOINT` is set; the other `OTEL_*` variables count as the SDK
//! reads them.
//!
//! *Invariants.* An exporter that fails costs telemetry and nothing else: it runs on a thread of its
//! own, and what it cannot deliver is dropped. Only spans of our own crates are exported, so that
//! nothing a library writes into its spans (headers, bodies) leaves the process.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Libraries that say much at `info`; a filter of the user's may name them to hear them.
const QUIET: &str = "aws=warn,awsim=error,hyper=warn,h2=warn,reqwest=warn,rustls=warn,\
                     tower=warn,opentelemetry=warn,refinery=warn";
/// How long the last spans and metrics may take on the way out.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// The exporters; [`Exporters::finish`] sends what is left.
#[derive(Debug, Default)]
pub(crate) struct Exporters {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

impl Exporters {
    /// Exporters to an OTLP endpoint, or to what the `OTEL_*` variables say. Must not be called inside
    /// of an async runtime's task: the client that it makes blocks.
    fn to(endpoint: Option<&str>) -> Result<Self, ExporterBuildError> {
        let mut spans = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpJson);
        let mut metrics = opentelemetry_otlp::MetricExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpJson);
        if let Some(base) = endpoint.map(|base| base.trim_end_matches('/')) {
            spans = spans.with_endpoint(format!("{base}/v1/traces"));
            metrics = metrics.with_endpoint(format!("{base}/v1/metrics"));
        }
        let (spans, metrics) = (spans.build()?, metrics.build()?);
        let resource = resource();
        Ok(Self {
            traces: Some(
                SdkTracerProvider::builder()
                    .with_batch_exporter(spans)
                    .with_resource(resource.clone())
                    .build(),
            ),
            metrics: Some(
                SdkMeterProvider::builder()
                    .with_periodic_exporter(metrics)
                    .with_resource(resource)
                    .build(),
            ),
        })
    }

    /// The layer that turns spans of ours into spans of the trace.
    fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.traces.as_ref()?.tracer(lamplighter_runtime::telemetry::SCOPE);
        let ours = Targets::new().with_target("lamplighter", LevelFilter::INFO);
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_filter(ours);
        Some(layer)
    }

    /// Sends what is left and ends; a collector that does not answer costs three seconds.
    pub(crate) fn finish(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown_with_timeout(FLUSH_WITHIN)
        {
            tracing::debug!(%error, "the last spans were not delivered");
        }
        if let Some(metrics) = self.metrics
            && let Err(error) = metrics.shutdown_with_timeout(FLUSH_WITHIN)
        {
            tracing::debug!(%error, "the last metrics were not delivered");
        }
    }
}

fn resource() -> Resource {
    let builder = Resource::builder().with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        // Two workers of one name must not write into one series.
        KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
    ]);
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty());
    if named { builder.build() } else { builder.with_service_name("lamplighter").build() }
}

/// Installs everything for this process. `level` is the default one of our own logs.
pub(crate) fn install(env: &BTreeMap<String, String>, level: &str) -> Exporters {
    let set = |name: &str| env.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let wanted = set("LAMPLIGHTER_LOG").or(set("RUST_LOG")).unwrap_or(level);
    let (filter, bad_filter) = match EnvFilter::try_new(format!("{QUIET},{wanted}")) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(format!("{QUIET},{level}")), Some(error)),
    };
    let (exporters, trouble) = match set("OTEL_EXPORTER_OTLP_ENDPOINT") {
        None => (Exporters::default(), None),
        Some(_) => match Exporters::to(None) {
            Ok(exporters) => (exporters, None),
            Err(error) => (Exporters::default(), Some(error)),
        },
    };
    let json = match set("LAMPLIGHTER_LOG_FORMAT") {
        Some("json") => true,
        Some("text") => false,
        _ => !std::io::stderr().is_terminal(),
    };
    let colour = std::io::stderr().is_terminal() && !env.contains_key("NO_COLOR");
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).with_span_list(false).boxed()
    } else {
        lines.compact().with_ansi(colour).with_target(false).boxed()
    };
    let subscriber =
        tracing_subscriber::registry().with(lines.with_filter(filter)).with(exporters.layer());
    // Fails only where a subscriber is installed already: then that one serves.
    let _ = subscriber.try_init();
    global::set_text_map_propagator(TraceContextPropagator::new());
    if let Some(metrics) = &exporters.metrics {
        global::set_meter_provider(metrics.clone());
    }
    if let Some(error) = bad_filter {
        tracing::warn!(%error, "the log filter is not valid; expected one such as info,lamplighter_aws=debug");
    }
    if let Some(error) = trouble {
        tracing::warn!(%error, "no traces or metrics: OTEL_EXPORTER_OTLP_ENDPOINT cannot be used");
    }
    exporters
}

/// TLS for whoever asks rustls for a default: the OTLP exporter's client does.
pub(crate) fn install_tls() {
    // Fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use lamplighter_runtime::telemetry::{self, Meters};
    use serde_json::Value;

    use super::*;

    /// What was posted: path and body.
    type Posts = Arc<Mutex<Vec<(String, Value)>>>;

    /// An OTLP/HTTP collector of two paths. Its threads end with the process.
    fn collector() -> (String, Posts) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let posts = Posts::default();
        let kept = Arc::clone(&posts);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || take_posts(&stream, &kept));
            }
        });
        (endpoint, posts)
    }

    fn take_posts(stream: &TcpStream, posts: &Posts) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut length = 0;
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).unwrap();
                if header.trim().is_empty() {
                    break;
                }
                if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            // Kept before it is answered: whoever was answered may look.
            posts.lock().unwrap().push((path, serde_json::from_slice(&body).unwrap()));
            let mut stream = stream;
            let answer =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    }

    fn spans(posts: &Posts) -> Vec<Value> {
        let posts = posts.lock().unwrap();
        let each = posts.iter().filter(|(path, _)| path == "/v1/traces");
        each.flat_map(|(_, body)| body["resourceSpans"].as_array().cloned().unwrap_or_default())
            .flat_map(|resource| resource["scopeSpans"].as_array().cloned().unwrap_or_default())
            .flat_map(|scope| scope["spans"].as_array().cloned().unwrap_or_default())
            .collect()
    }

    fn metric(posts: &Posts, name: &str) -> Option<Value> {
        let posts = posts.lock().unwrap();
        let each = posts.iter().filter(|(path, _)| path == "/v1/metrics");
        each.flat_map(|(_, body)| body["resourceMetrics"].as_array().cloned().unwrap_or_default())
            .flat_map(|resource| resource["scopeMetrics"].as_array().cloned().unwrap_or_default())
            .flat_map(|scope| scope["metrics"].as_array().cloned().unwrap_or_default())
            .find(|metric| metric["name"] == name)
    }

    #[test]
    fn one_trace_goes_from_the_sender_through_a_message_to_the_collector() {
        install_tls();
        let (endpoint, posts) = collector();
        let exporters = Exporters::to(Some(&endpoint)).unwrap();
        let subscriber = tracing_subscriber::registry().with(exporters.layer());
        tracing::subscriber::with_default(subscriber, || {
            let carried = tracing::info_span!("send").in_scope(telemetry::traceparent);
            assert!(carried.is_some());
            let pass = tracing::info_span!("pass", command = "c-1");
            telemetry::join(&pass, carried.as_deref());
            pass.in_scope(|| {
                tracing::info_span!("act").in_scope(|| {});
                tracing::info_span!(target: "hyper::client", "request", authorization = "secret")
                    .in_scope(|| {});
            });
        });
        let meters = Meters::of(exporters.metrics.as_ref().unwrap());
        meters.received(3);
        meters.done("start", "ec2-instance");
        meters.command_to_ready_seconds("ec2-instance", 12.5);
        exporters.finish();

        let spans = spans(&posts);
        let span = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap();
        let (send, pass, act) = (span("send"), span("pass"), span("act"));
        assert_eq!(pass["traceId"], send["traceId"]);
        assert_eq!(pass["parentSpanId"], send["spanId"]);
        assert_eq!(act["traceId"], send["traceId"]);
        assert_eq!(act["parentSpanId"], pass["spanId"]);
        assert_eq!(spans.len(), 3, "another's span was exported: {spans:?}");

        let received = metric(&posts, "lamplighter.messages.received").unwrap();
        assert_eq!(received["unit"], "{message}");
        assert_eq!(received["sum"]["dataPoints"][0]["asInt"], "3");
        let done = metric(&posts, "lamplighter.commands.done").unwrap();
        let labels = done["sum"]["dataPoints"][0]["attributes"].to_string();
        assert!(labels.contains("ec2-instance") && labels.contains("start"), "{labels}");
        let ready = metric(&posts, "lamplighter.command.to_ready").unwrap();
        assert_eq!(ready["histogram"]["dataPoints"][0]["sum"], 12.5);
        let posts = posts.lock().unwrap();
        assert!(posts.iter().all(|(_, body)| body.to_string().contains("\"lamplighter\"")));
    }

    #[test]
    fn a_collector_that_is_not_there_harms_nobody() {
        install_tls();
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}", listener.local_addr().unwrap())
        };
        let exporters = Exporters::to(Some(&gone)).unwrap();
        let subscriber = tracing_subscriber::registry().with(exporters.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("pass").in_scope(|| {});
        });
        Meters::of(exporters.metrics.as_ref().unwrap()).received(1);
        exporters.finish();
    }
}
