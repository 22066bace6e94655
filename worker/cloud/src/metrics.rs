//! CloudWatch's metrics: data points go in, statistics come out.
//!
//! A metric is its namespace, its name and exactly its dimensions: a query without dimensions sees
//! nothing of a metric that has some, and one with a unit sees only the points of that unit. Points are
//! kept as sets (count, sum, least, greatest), which is all that the five statistics need. A query's
//! periods begin at multiples of the period since the epoch; one without data has no value, and a query
//! without any is `Complete` and empty.
//!
//! A point is not seen before [`crate::Timings::metric_lag`] is over, and up to [`crate::Timings::metric_scatter`]
//! later, so that a period may be seen in part. What was put after others waits as long as they do, but for the scatter:
//! when the lag ends, it ends in the order of time.
//!
//! Not here: percentiles, metric math, insights, alarms, dashboards, paging (no answer gets that long),
//! anything that AWS's services publish themselves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::queue::plus;
use crate::{ServiceFault, World};

/// The most queries of one GetMetricData.
pub const QUERIES_MAX: usize = 500;
/// The most metrics of one PutMetricData.
pub const DATA_MAX: usize = 1_000;
/// The most dimensions of one metric.
pub const DIMENSIONS_MAX: usize = 30;
/// How many metrics are kept; a new one beyond that is refused, as the world must stay small.
pub const METRICS_MAX: usize = 1_000;
/// How many points of a metric are kept, the newest: more than a day of one each minute.
pub const POINTS_MAX: usize = 1_500;
/// How old a point may be when it is put.
const PAST_MAX: SignedDuration = SignedDuration::from_hours(14 * 24);
/// How far ahead it may be.
const FUTURE_MAX: SignedDuration = SignedDuration::from_hours(2);

/// Why a call to CloudWatch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// A parameter that is out of range.
    #[error("{0}")]
    InvalidValue(String),
    /// Parameters that do not go together.
    #[error("{0}")]
    InvalidCombination(String),
    /// A parameter that is missing.
    #[error("The parameter {0} is required.")]
    Missing(String),
    /// A query that cannot be read.
    #[error("{0}")]
    Validation(String),
}

impl ServiceFault for MetricError {
    fn code(&self) -> &'static str {
        match self {
            Self::InvalidValue(_) => "InvalidParameterValue",
            Self::InvalidCombination(_) => "InvalidParameterCombination",
            Self::Missing(_) => "MissingParameter",
            Self::Validation(_) => "ValidationError",
        }
    }
}

/// Several values as one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StatisticSet {
    /// How many.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl StatisticSet {
    /// A value that came `count` times.
    #[must_use]
    pub fn of(value: f64, count: f64) -> Self {
        Self { count, sum: value * count, min: value, max: value }
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    fn sound(&self) -> bool {
        let finite = [self.count, self.sum, self.min, self.max].iter().all(|it| it.is_finite());
        finite && self.count > 0.0 && self.min <= self.max
    }
}

/// What of a period is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// Sum by count.
    Average,
    /// The sum.
    Sum,
    /// The least.
    Minimum,
    /// The greatest.
    Maximum,
    /// How many.
    SampleCount,
}

impl Statistic {
    /// By CloudWatch's name for it; percentiles and their like are not known here.
    pub fn parse(name: &str) -> Result<Self, MetricError> {
        match name {
            "Average" => Ok(Self::Average),
            "Sum" => Ok(Self::Sum),
            "Minimum" => Ok(Self::Minimum),
            "Maximum" => Ok(Self::Maximum),
            "SampleCount" => Ok(Self::SampleCount),
            other => {
                Err(MetricError::Validation(format!("The statistic {other} is not known here.")))
            }
        }
    }

    fn of(self, set: &StatisticSet) -> f64 {
        match self {
            Self::Average => set.sum / set.count,
            Self::Sum => set.sum,
            Self::Minimum => set.min,
            Self::Maximum => set.max,
            Self::SampleCount => set.count,
        }
    }
}

/// A metric's name within its namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MetricName {
    /// Whose.
    pub namespace: String,
    /// Which.
    pub name: String,
    /// Of what.
    pub dimensions: BTreeMap<String, String>,
}

/// A data point to put.
#[derive(Debug, Clone)]
pub struct Datum {
    /// The metric.
    pub metric: MetricName,
    /// When it was so; now, where it is left out.
    pub time: Option<Timestamp>,
    /// `Count`, `Seconds`, …; `None`, where it is left out.
    pub unit: Option<String>,
    /// What was.
    pub set: StatisticSet,
}

/// One query of GetMetricData.
#[derive(Debug, Clone)]
pub struct MetricQuery {
    /// How its answer is told from the others'.
    pub id: String,
    /// The metric.
    pub metric: MetricName,
    /// In seconds.
    pub period: i64,
    /// What of each period.
    pub statistic: Statistic,
    /// Only points of this unit.
    pub unit: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Point {
    at: Timestamp,
    /// From when on it is seen.
    seen: Timestamp,
    unit: String,
    set: StatisticSet,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Metric {
    metric: MetricName,
    points: VecDeque<Point>,
    /// No point that comes later is seen before.
    flows: Timestamp,
}

/// All metrics.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// In the order of their names; JSON has no maps with such keys.
    all: Vec<Metric>,
}

impl Metrics {
    /// The names of all metrics, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &MetricName> {
        self.all.iter().map(|it| &it.metric)
    }

    fn find(&self, metric: &MetricName) -> Result<usize, usize> {
        self.all.binary_search_by(|it| it.metric.cmp(metric))
    }
}

fn check(now: Timestamp, datum: &Datum) -> Result<(), MetricError> {
    let MetricName { namespace, name, dimensions } = &datum.metric;
    if namespace.is_empty() || namespace.len() > 255 || namespace.starts_with("AWS/") {
        let text = format!("The value {namespace} for parameter Namespace is invalid.");
        return Err(MetricError::InvalidValue(text));
    }
    if name.is_empty() {
        return Err(MetricError::Missing("MetricData.member.1.MetricName".to_owned()));
    }
    let empty = dimensions.iter().any(|(name, value)| name.is_empty() || value.is_empty());
    if empty || dimensions.len() > DIMENSIONS_MAX {
        let text = format!(
            "The parameter MetricData.member.1.Dimensions must have at most {DIMENSIONS_MAX} members, none of them empty."
        );
        return Err(MetricError::InvalidValue(text));
    }
    if !datum.set.sound() {
        let text = "The parameter MetricData.member.1.Value must be a finite number.";
        return Err(MetricError::InvalidValue(text.to_owned()));
    }
    let time = datum.time.unwrap_or(now);
    if time < plus(now, -PAST_MAX) || time > plus(now, FUTURE_MAX) {
        let text = format!(
            "The parameter MetricData.member.1.Timestamp must specify a time no more than 2 weeks in the past and no more than 2 hours in the future; got {time}."
        );
        return Err(MetricError::InvalidValue(text));
    }
    Ok(())
}

fn check_query(query: &MetricQuery) -> Result<(), MetricError> {
    let id = query.id.as_str();
    let well = id.starts_with(|it: char| it.is_ascii_lowercase())
        && id.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
        && id.len() <= 255;
    if !well {
        return Err(MetricError::Validation(format!(
            "The value {id} for parameter Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$."
        )));
    }
    let period = query.period;
    if !([1, 5, 10, 20, 30].contains(&period) || period > 0 && period % 60 == 0) {
        return Err(MetricError::Validation(format!(
            "The value {period} for parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60."
        )));
    }
    Ok(())
}

impl World {
    /// PutMetricData: all or none.
    pub fn put_metric_data(&mut self, now: Timestamp, data: &[Datum]) -> Result<(), MetricError> {
        let now = self.at(now);
        if data.is_empty() {
            return Err(MetricError::Missing("MetricData".to_owned()));
        }
        if data.len() > DATA_MAX {
            return Err(MetricError::InvalidValue(format!(
                "The collection MetricData must not have a size greater than {DATA_MAX}."
            )));
        }
        data.iter().try_for_each(|datum| check(now, datum))?;
        let new: BTreeSet<&MetricName> = data.iter().map(|datum| &datum.metric).collect();
        let new = new.into_iter().filter(|metric| self.metrics.find(metric).is_err()).count();
        if self.metrics.all.len() + new > METRICS_MAX {
            let text = format!("At most {METRICS_MAX} metrics are kept here.");
            return Err(MetricError::InvalidValue(text));
        }
        for datum in data {
            let index = self.metrics.find(&datum.metric).unwrap_or_else(|index| {
                let metric = datum.metric.clone();
                let points = VecDeque::new();
                self.metrics.all.insert(index, Metric { metric, points, flows: now });
                index
            });
            let scatter = match self.timings.metric_scatter.as_millis() {
                0 => SignedDuration::ZERO,
                most => SignedDuration::from_millis(
                    (self.ids.draw() % most.unsigned_abs() as u64) as i64,
                ),
            };
            let Metric { points, flows, .. } = &mut self.metrics.all[index];
            *flows = plus(now, self.timings.metric_lag).max(*flows);
            points.push_back(Point {
                at: datum.time.unwrap_or(now),
                seen: plus(*flows, scatter),
                unit: datum.unit.clone().unwrap_or_else(|| "None".to_owned()),
                set: datum.set,
            });
            if points.len() > POINTS_MAX {
                points.pop_front();
            }
        }
        Ok(())
    }

    /// GetMetricData: for each query the periods that have data, the newest first unless `ascending`.
    pub fn get_metric_data(
        &mut self,
        now: Timestamp,
        queries: &[MetricQuery],
        (start, end): (Timestamp, Timestamp),
        ascending: bool,
    ) -> Result<Vec<Vec<(Timestamp, f64)>>, MetricError> {
        let now = self.at(now);
        if queries.is_empty() {
            return Err(MetricError::Missing("MetricDataQueries".to_owned()));
        }
        if queries.len() > QUERIES_MAX {
            return Err(MetricError::Validation(format!(
                "The collection MetricDataQueries must not have a size greater than {QUERIES_MAX}."
            )));
        }
        if start >= end {
            let text = "The parameter StartTime must be less than the parameter EndTime.";
            return Err(MetricError::Validation(text.to_owned()));
        }
        for (index, query) in queries.iter().enumerate() {
            check_query(query)?;
            if queries[..index].iter().any(|other| other.id == query.id) {
                let text = format!(
                    "The values for parameter id in MetricDataQueries are not unique: {}.",
                    query.id
                );
                return Err(MetricError::Validation(text));
            }
        }
        Ok(queries
            .iter()
            .map(|query| {
                let mut series = self.series(query, now, start, end);
                if !ascending {
                    series.reverse();
                }
                series
            })
            .collect())
    }

    fn series(
        &self,
        query: &MetricQuery,
        now: Timestamp,
        start: Timestamp,
        end: Timestamp,
    ) -> Vec<(Timestamp, f64)> {
        let Ok(index) = self.metrics.find(&query.metric) else { return Vec::new() };
        let begin = |at: Timestamp| at.as_second().div_euclid(query.period) * query.period;
        let mut periods: BTreeMap<i64, StatisticSet> = BTreeMap::new();
        let points = self.metrics.all[index].points.iter();
        for point in points.filter(|it| it.seen <= now && it.at < end) {
            let wanted = query.unit.as_ref().is_none_or(|unit| *unit == point.unit);
            // The first period is whole, though the question began inside it.
            if wanted && begin(point.at) >= begin(start) {
                let period = periods.entry(begin(point.at));
                period.and_modify(|set| *set = set.with(point.set)).or_insert(point.set);
            }
        }
        let value = |(second, set): (i64, StatisticSet)| {
            Some((Timestamp::from_second(second).ok()?, query.statistic.of(&set)))
        };
        periods.into_iter().filter_map(value).collect()
    }
}
