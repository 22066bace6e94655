//! CloudWatch: the metrics of idle policies, hundreds in one GetMetricData.
//!
//! *Theory.* One call has one time span for all its queries, so it spans them all, and each query keeps
//! what lies in its own. A span begins and ends with whole periods, or CloudWatch would begin the periods
//! where the question begins: a call begins at a time that is a multiple of every period in it. The
//! period that has only begun is asked for too, since what happened in it is activity all the same.
//!
//! *Invariants.* Points stand newest first, each with the beginning of its period. What CloudWatch gives in part, or not, is no series: missing
//! values must not look like idleness. A query that CloudWatch refuses harms no other.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{
    Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, ScanBy, StatusCode,
};
use aws_smithy_types::DateTime;
use aws_smithy_types::retry::RetryConfig;
use jiff::Timestamp;
use lamplighter_events::Cause;
use lamplighter_lifecycle::{MetricProbe, Point, Reading, Resource};
use lamplighter_runtime::ports::{Applied, CallError, Disposition};

use crate::batch::{Each, Portion, Refused, Shared, apart, halves, in_order};
use crate::disposition::own_error;

/// CloudWatch's bound for the values of one page: what would pass it is asked for in another call.
const PAGE_VALUES: i64 = 100_800;
/// One query alone may have more than a page: seven days in seconds are six.
const PAGES_MAX: usize = 20;
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// One metric over one span.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) metric: MetricProbe,
    /// Epoch seconds, a multiple of the period; included.
    pub(crate) from: i64,
    /// Epoch seconds, a multiple of the period; excluded.
    pub(crate) to: i64,
}

impl Query {
    /// The question of a probe; what it lacks is for people.
    pub(crate) fn of(
        probe: &MetricProbe,
        resource: &Resource,
        now: Timestamp,
    ) -> Result<Self, String> {
        let mut metric = probe.clone();
        for (name, value) in &mut metric.dimensions {
            *value = fill(value, resource).map_err(|mark| {
                format!("the dimension {name} names {mark}, which a {} has not", resource.noun())
            })?;
        }
        let period = i64::from(probe.period_seconds.max(1));
        let back = probe.look_back.map_or(period, |look_back| probe.span_seconds(look_back));
        let now = now.as_second();
        let from = now.saturating_sub(back).div_euclid(period) * period;
        let to = (now.div_euclid(period) + 1) * period;
        Ok(Self { metric, from, to })
    }

    fn period(&self) -> i64 {
        i64::from(self.metric.period_seconds.max(1))
    }

    fn written(&self, id: String) -> MetricDataQuery {
        let dimensions = self
            .metric
            .dimensions
            .iter()
            .map(|(name, value)| Dimension::builder().name(name).value(value).build());
        let metric = Metric::builder()
            .namespace(&self.metric.namespace)
            .metric_name(&self.metric.name)
            .set_dimensions(Some(dimensions.collect()))
            .build();
        let stat = MetricStat::builder()
            .metric(metric)
            .period(i32::try_from(self.period()).unwrap_or(i32::MAX))
            .stat(self.metric.statistic.as_str())
            .build();
        MetricDataQuery::builder().id(id).metric_stat(stat).return_data(true).build()
    }
}

fn fill(value: &str, resource: &Resource) -> Result<String, &'static str> {
    let instance = resource.instance().map(|id| id.as_str());
    let cluster = resource.service().map(|id| id.cluster());
    let service = resource.service().map(|id| id.service());
    let mut filled = value.to_owned();
    for (mark, known) in
        [("{instance_id}", instance), ("{cluster}", cluster), ("{service}", service)]
    {
        if filled.contains(mark) {
            filled = filled.replace(mark, known.ok_or(mark)?);
        }
    }
    Ok(filled)
}

/// What was found for one query over the pages of an answer.
#[derive(Debug, Default)]
struct Found {
    points: Vec<(i64, f64)>,
    status: Option<StatusCode>,
    words: String,
}

impl Found {
    fn add(&mut self, result: &MetricDataResult) {
        let times = result.timestamps().iter().map(DateTime::secs);
        self.points.extend(times.zip(result.values().iter().copied()));
        self.status = result.status_code().cloned();
        let words = result.messages().iter().filter_map(|it| it.value());
        self.words.extend(words.map(|words| format!(": {words}")));
    }

    fn reading(mut self, query: &Query) -> Reading {
        let trouble = match &self.status {
            Some(StatusCode::Complete) => None,
            Some(StatusCode::PartialData) => Some("CloudWatch has only a part of its data"),
            Some(StatusCode::InternalError) => Some("CloudWatch had trouble of its own"),
            Some(StatusCode::Forbidden) => Some("CloudWatch may not be asked for it"),
            _ => Some("CloudWatch did not answer for it"),
        };
        if let Some(trouble) = trouble {
            return unknown(format!("{trouble}{}", self.words));
        }
        self.points.retain(|(at, _)| (query.from..query.to).contains(at));
        self.points.sort_by(|(left, _), (right, _)| right.cmp(left));
        let point =
            |(at, value): (i64, f64)| Some(Point { at: Timestamp::from_second(at).ok()?, value });
        Reading::Series { points: self.points.into_iter().filter_map(point).collect() }
    }
}

pub(crate) fn unknown(detail: String) -> Reading {
    Reading::Unknown { detail, unreachable: false }
}

/// The shared GetMetricData.
pub(crate) struct Metrics {
    pub(crate) client: Client,
}

impl Metrics {
    async fn request(
        &self,
        queries: &[Query],
        wanted: &[usize],
        unit: i64,
        portion: Portion,
    ) -> Result<Each<usize, Reading>, Refused> {
        let chosen = || wanted.iter().filter_map(|at| Some((*at, queries.get(*at)?)));
        let from = chosen().map(|(_, query)| query.from).min().unwrap_or(0);
        let to = chosen().map(|(_, query)| query.to).max().unwrap_or(0);
        let from = from.div_euclid(unit) * unit;
        let written: Vec<MetricDataQuery> =
            chosen().map(|(at, query)| query.written(format!("m{at}"))).collect();
        let mut found: BTreeMap<usize, Found> =
            chosen().map(|(at, _)| (at, Found::default())).collect();
        let mut token: Option<String> = None;
        for page in 0.. {
            let call = self
                .client
                .get_metric_data()
                .set_metric_data_queries(Some(written.clone()))
                .start_time(DateTime::from_secs(from))
                .end_time(DateTime::from_secs(to))
                .scan_by(ScanBy::TimestampDescending)
                .set_next_token(token);
            let answer = match portion {
                Portion::Whole => call.send().await,
                Portion::Part => {
                    let once =
                        aws_sdk_cloudwatch::Config::builder().retry_config(RetryConfig::disabled());
                    call.customize().config_override(once).send().await
                }
            };
            let answer = answer.map_err(|error| Refused::of(Self::OPERATION, &error))?;
            for result in answer.metric_data_results() {
                let id = result.id().and_then(|id| id.strip_prefix('m')?.parse().ok());
                if let Some(known) = id.and_then(|id: usize| found.get_mut(&id)) {
                    known.add(result);
                }
            }
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
            if page + 1 == PAGES_MAX {
                let words = format!("its answer has more than {PAGES_MAX} pages");
                let (cause, applied) = (Cause::Invalid, Applied::No);
                return Err(
                    own_error(Self::OPERATION, cause, Disposition::Fail, applied, words).into()
                );
            }
        }
        let readings = found
            .into_iter()
            .filter_map(|(at, found)| Some((at, Ok(found.reading(queries.get(at)?)))));
        Ok(readings.collect())
    }
}

#[async_trait]
impl Shared for Metrics {
    type Item = Query;
    type Answer = Reading;
    const OPERATION: &'static str = "cloudwatch:GetMetricData";
    /// CloudWatch's bound for one call.
    const ITEMS_MAX: usize = 500;
    /// Who asks for metrics has minutes, and the parts of a large tick come to it one after the other.
    const LINGER: Duration = Duration::from_millis(50);

    async fn call(&self, items: Vec<Query>) -> Vec<Result<Reading, CallError>> {
        let concerns_one = |error: &CallError| {
            error.applied == Applied::No
                && error.disposition == Disposition::Fail
                && error.cause == Cause::Invalid
        };
        let mut answers = BTreeMap::new();
        for Span { unit, places, .. } in spans(&items) {
            let request = |wanted: Vec<usize>, portion| {
                let items = &items;
                async move { self.request(items, &wanted, unit, portion).await }
            };
            answers.extend(apart(&places, concerns_one, |_, _| false, halves, request).await);
        }
        let places: Vec<usize> = (0..items.len()).collect();
        in_order(Self::OPERATION, &places, |at| answers.get(at).cloned())
    }
}

/// Queries that share a call, by their places.
struct Span {
    /// Its begin is a multiple of this, and so of every period in it.
    unit: i64,
    from: i64,
    to: i64,
    /// How many values a day of it has.
    values_a_day: i64,
    places: Vec<usize>,
}

impl Span {
    fn of(at: usize, query: &Query) -> Self {
        let period = query.period();
        let values_a_day = DAY_SECONDS / period + 1;
        Self { unit: period, from: query.from, to: query.to, values_a_day, places: vec![at] }
    }

    /// Both as one call, where that stays within a page.
    fn with(&self, other: &Self) -> Option<Self> {
        let unit = common_multiple(self.unit, other.unit);
        let (from, to) = (self.from.min(other.from), self.to.max(other.to));
        let values_a_day = self.values_a_day + other.values_a_day;
        let values = (to - from + unit).saturating_mul(values_a_day) / DAY_SECONDS;
        (unit <= DAY_SECONDS && values <= PAGE_VALUES).then(|| Self {
            unit,
            from,
            to,
            values_a_day,
            places: self.places.iter().chain(&other.places).copied().collect(),
        })
    }
}

/// As few spans as a page allows, the short look-backs together.
fn spans(queries: &[Query]) -> Vec<Span> {
    let mut places: Vec<usize> = (0..queries.len()).collect();
    places.sort_by_key(|at| (-queries[*at].from, queries[*at].period()));
    let mut spans: Vec<Span> = Vec::new();
    for at in places {
        let one = Span::of(at, &queries[at]);
        match spans.last().and_then(|last| last.with(&one)) {
            Some(both) => *spans.last_mut().expect("it was just read") = both,
            None => spans.push(one),
        }
    }
    spans
}

fn common_multiple(left: i64, right: i64) -> i64 {
    let (mut divisor, mut rest) = (left, right);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (left / divisor.max(1)).saturating_mul(right)
}

#[cfg(test)]
mod tests;
