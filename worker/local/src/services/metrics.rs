//! CloudWatch: putting data points, asking for statistics, listing metrics.
//!
//! Clients speak to it in one of three protocols: CBOR (the SDKs of today), JSON, and the query protocol
//! (older ones). Lists are written with the query protocol's wrapper `member`, which the gateway takes off
//! for the other two. Times are numbers, in text for whom asked in text.
//!
//! Not here: GetMetricStatistics, metric math, alarms.

use std::sync::Arc;

use async_trait::async_trait;
use awsim_core::{AwsError, Protocol, RequestContext, ServiceHandler};
use jiff::Timestamp;
use lamplighter_cloud::metrics::{
    Datum, MetricError, MetricName, MetricQuery, Statistic, StatisticSet,
};
use serde_json::{Value, json};

use crate::input::{integer, list, maybe_text, text};
use crate::shared::{Shared, epoch, refuse};

pub(crate) struct Metrics {
    pub(crate) shared: Arc<Shared>,
}

/// The most metrics of one page of ListMetrics.
const PAGE_MAX: usize = 500;

#[async_trait]
impl ServiceHandler for Metrics {
    fn service_name(&self) -> &'static str {
        "cloudwatch"
    }

    fn signing_name(&self) -> &'static str {
        "monitoring"
    }

    fn protocol(&self) -> Protocol {
        Protocol::AwsQuery
    }

    async fn handle(
        &self,
        operation: &str,
        input: Value,
        _ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        match operation {
            "PutMetricData" => self.put(&input),
            "GetMetricData" => self.get(&input),
            "ListMetrics" => self.list(&input),
            _ => Err(AwsError::unknown_operation(operation)),
        }
    }
}

impl Metrics {
    fn put(&self, input: &Value) -> Result<Value, AwsError> {
        if input.get("EntityMetricData").is_some() {
            return Err(invalid("EntityMetricData is not known here."));
        }
        let namespace = text(input, "Namespace");
        let data = list(input, "MetricData").iter().map(|it| datum(namespace, it));
        let data: Vec<Datum> = data.collect::<Result<_, _>>()?;
        self.shared
            .with(|world, now| world.put_metric_data(now, &data))
            .map_err(|error| refuse(&error))?;
        Ok(json!({}))
    }

    fn get(&self, input: &Value) -> Result<Value, AwsError> {
        let (start, end) = (time(input, "StartTime")?, time(input, "EndTime")?);
        let (Some(start), Some(end)) = (start, end) else {
            return Err(refuse(&MetricError::Missing("StartTime and EndTime".to_owned())));
        };
        let ascending = match text(input, "ScanBy") {
            "" | "TimestampDescending" => false,
            "TimestampAscending" => true,
            other => return Err(invalid(format!("The value {other} for ScanBy is not known."))),
        };
        let asked = list(input, "MetricDataQueries");
        let queries: Vec<MetricQuery> = asked.iter().map(query).collect::<Result<_, _>>()?;
        let found = self
            .shared
            .with(|world, now| world.get_metric_data(now, &queries, (start, end), ascending))
            .map_err(|error| refuse(&error))?;
        // Whoever asks in text, as in the query protocol, is answered in text.
        let in_text = input.get("StartTime").is_some_and(Value::is_string);
        let moment = |at: Timestamp| if in_text { at.to_string().into() } else { epoch(at) };
        let results: Vec<Value> = asked
            .iter()
            .zip(&queries)
            .zip(found)
            .filter(|((asked, _), _)| !matches!(truth(asked, "ReturnData"), Some(false)))
            .map(|((asked, query), points)| {
                let times: Vec<Value> = points.iter().map(|(at, _)| moment(*at)).collect();
                let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
                json!({
                    "Id": query.id,
                    "Label": maybe_text(asked, "Label").unwrap_or_else(|| query.metric.name.clone()),
                    "Timestamps": {"member": times},
                    "Values": {"member": values},
                    "StatusCode": "Complete",
                })
            })
            .collect();
        Ok(json!({"MetricDataResults": {"member": results}, "Messages": {"member": []}}))
    }

    fn list(&self, input: &Value) -> Result<Value, AwsError> {
        let (namespace, name) = (text(input, "Namespace"), text(input, "MetricName"));
        let wanted = list(input, "Dimensions");
        let all: Vec<(String, MetricName)> = self.shared.with(|world, _| {
            let fits = |metric: &&MetricName| {
                let given = |filter: &Value| {
                    let value = metric.dimensions.get(text(filter, "Name"));
                    let wanted = text(filter, "Value");
                    value.is_some_and(|value| wanted.is_empty() || value == wanted)
                };
                (namespace.is_empty() || metric.namespace == namespace)
                    && (name.is_empty() || metric.name == name)
                    && wanted.iter().all(given)
            };
            let found = world.metrics.iter().filter(fits).cloned();
            // A metric's whole name is the key by which pages follow one another.
            found
                .map(|it| (format!("{} {} {:?}", it.namespace, it.name, it.dimensions), it))
                .collect()
        });
        let mut all = all;
        all.sort_by(|(left, _), (right, _)| left.cmp(right));
        let after = input.get("NextToken").and_then(Value::as_str);
        let (page, token) = super::page(all, |(key, _)| key.as_str(), after, PAGE_MAX);
        let shown: Vec<Value> = page
            .iter()
            .map(|(_, it)| {
                let dimensions = it.dimensions.iter();
                let dimensions: Vec<Value> =
                    dimensions.map(|(name, value)| json!({"Name": name, "Value": value})).collect();
                json!({
                    "Namespace": it.namespace,
                    "MetricName": it.name,
                    "Dimensions": {"member": dimensions},
                })
            })
            .collect();
        let mut answer = json!({"Metrics": {"member": shown}});
        if let Some(token) = token {
            answer["NextToken"] = token.into();
        }
        Ok(answer)
    }
}

fn invalid(text: impl Into<String>) -> AwsError {
    refuse(&MetricError::Validation(text.into()))
}

/// A truth value, in text or not.
fn truth(input: &Value, name: &str) -> Option<bool> {
    match input.get(name)? {
        Value::Bool(given) => Some(*given),
        Value::String(given) => given.parse().ok(),
        _ => None,
    }
}

/// A number, in text or not.
fn number(value: &Value) -> Result<f64, AwsError> {
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| {
        refuse(&MetricError::InvalidValue(format!("The value {value} must be a number.")))
    })
}

/// A time: seconds since the epoch, or RFC 3339.
fn time(input: &Value, name: &str) -> Result<Option<Timestamp>, AwsError> {
    let Some(value) = input.get(name).filter(|it| !it.is_null()) else { return Ok(None) };
    let wrong = || {
        let text = format!("The parameter {name} must be a timestamp; got {value}.");
        refuse(&MetricError::InvalidValue(text))
    };
    if let Some(text) = value.as_str()
        && let Ok(at) = text.parse::<Timestamp>()
    {
        return Ok(Some(at));
    }
    let seconds = number(value).map_err(|_| wrong())?;
    #[allow(clippy::cast_possible_truncation)] // Out of range is out of the timestamp's range too.
    let millis = (seconds * 1000.0).round() as i64;
    Timestamp::from_millisecond(millis).map(Some).map_err(|_| wrong())
}

fn metric(namespace: &str, input: &Value) -> MetricName {
    let dimensions = list(input, "Dimensions").iter();
    MetricName {
        namespace: namespace.to_owned(),
        name: text(input, "MetricName").to_owned(),
        dimensions: dimensions
            .map(|it| (text(it, "Name").to_owned(), text(it, "Value").to_owned()))
            .collect(),
    }
}

fn datum(namespace: &str, input: &Value) -> Result<Datum, AwsError> {
    let both =
        "The parameters Value, Values and StatisticValues are mutually exclusive; one is required.";
    let given = ["Value", "Values", "StatisticValues"].map(|name| input.get(name).is_some());
    if given.iter().filter(|given| **given).count() != 1 {
        return Err(refuse(&MetricError::InvalidCombination(both.to_owned())));
    }
    let set = if let Some(value) = input.get("Value") {
        StatisticSet::of(number(value)?, 1.0)
    } else if let Some(set) = input.get("StatisticValues") {
        let part = |name: &str| number(set.get(name).unwrap_or(&Value::Null));
        StatisticSet {
            count: part("SampleCount")?,
            sum: part("Sum")?,
            min: part("Minimum")?,
            max: part("Maximum")?,
        }
    } else {
        counted(list(input, "Values"), list(input, "Counts"))?
    };
    Ok(Datum {
        metric: metric(namespace, input),
        time: time(input, "Timestamp")?,
        unit: maybe_text(input, "Unit"),
        set,
    })
}

/// Values, each with how often it came; once where no counts are given.
fn counted(values: &[Value], counts: &[Value]) -> Result<StatisticSet, AwsError> {
    if values.is_empty() || !(counts.is_empty() || counts.len() == values.len()) {
        let text = "Values must not be empty, and Counts must have as many members or none.";
        return Err(refuse(&MetricError::InvalidCombination(text.to_owned())));
    }
    let mut all: Option<StatisticSet> = None;
    for (index, value) in values.iter().enumerate() {
        let count = counts.get(index).map_or(Ok(1.0), number)?;
        let one = StatisticSet::of(number(value)?, count);
        all = Some(all.map_or(one, |all| all.with(one)));
    }
    all.ok_or_else(|| refuse(&MetricError::Missing("Values".to_owned())))
}

fn query(input: &Value) -> Result<MetricQuery, AwsError> {
    let Some(stat) = input.get("MetricStat") else {
        return Err(invalid("Only queries with MetricStat are known here, no expressions."));
    };
    let asked = stat.get("Metric").unwrap_or(&Value::Null);
    let period = integer(stat, "Period")?.or(integer(input, "Period")?);
    Ok(MetricQuery {
        id: text(input, "Id").to_owned(),
        metric: metric(text(asked, "Namespace"), asked),
        period: period.ok_or_else(|| refuse(&MetricError::Missing("Period".to_owned())))?,
        statistic: Statistic::parse(text(stat, "Stat")).map_err(|error| refuse(&error))?,
        unit: maybe_text(stat, "Unit"),
    })
}
