//! Points in, statistics out.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::{at, world};
use crate::metrics::{
    Datum, MetricError, MetricName, MetricQuery, POINTS_MAX, QUERIES_MAX, Statistic, StatisticSet,
};
use crate::{ServiceFault as _, World};

fn metric(dimensions: &[(&str, &str)]) -> MetricName {
    MetricName {
        namespace: "Fluidity".to_owned(),
        name: "ActiveConnections".to_owned(),
        dimensions: dimensions.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

fn datum(seconds: i64, value: f64) -> Datum {
    let time = Some(at(seconds));
    Datum { metric: metric(&[]), time, unit: None, set: StatisticSet::of(value, 1.0) }
}

fn query(statistic: Statistic) -> MetricQuery {
    MetricQuery { id: "q".to_owned(), metric: metric(&[]), period: 60, statistic, unit: None }
}

fn put(world: &mut World, points: &[(i64, f64)]) {
    let data: Vec<Datum> = points.iter().map(|(seconds, value)| datum(*seconds, *value)).collect();
    world.put_metric_data(at(0), &data).unwrap();
}

/// The values of the first ten minutes, the oldest first.
#[track_caller]
fn values(world: &mut World, query: &MetricQuery, expected: &[(i64, f64)]) {
    let range = (at(0), at(600));
    let mut all = world.get_metric_data(at(600), std::slice::from_ref(query), range, true).unwrap();
    let got: Vec<(i64, f64)> = all
        .remove(0)
        .into_iter()
        .map(|(time, value)| (time.duration_since(at(0)).as_secs(), value))
        .collect();
    assert_eq!(got, expected);
}

#[test]
fn each_statistic_is_taken_of_each_period_that_has_data() {
    let mut world = world();
    put(&mut world, &[(0, 1.0), (59, 4.0), (60, 0.0), (185, 2.0)]);
    values(&mut world, &query(Statistic::Average), &[(0, 2.5), (60, 0.0), (180, 2.0)]);
    values(&mut world, &query(Statistic::Sum), &[(0, 5.0), (60, 0.0), (180, 2.0)]);
    values(&mut world, &query(Statistic::Minimum), &[(0, 1.0), (60, 0.0), (180, 2.0)]);
    values(&mut world, &query(Statistic::Maximum), &[(0, 4.0), (60, 0.0), (180, 2.0)]);
    values(&mut world, &query(Statistic::SampleCount), &[(0, 2.0), (60, 1.0), (180, 1.0)]);
    let all = MetricQuery { period: 600, ..query(Statistic::Maximum) };
    values(&mut world, &all, &[(0, 4.0)]);
}

#[test]
fn a_metric_is_its_dimensions_too_and_a_unit_selects() {
    let mut world = world();
    let of = |service: &str, unit: Option<&str>| Datum {
        metric: metric(&[("Service", service)]),
        unit: unit.map(str::to_owned),
        ..datum(0, 3.0)
    };
    world.put_metric_data(at(0), &[of("a", None), of("b", Some("Count"))]).unwrap();
    values(&mut world, &query(Statistic::Sum), &[]);
    let asked = |service: &str, unit: Option<&str>| MetricQuery {
        metric: metric(&[("Service", service)]),
        unit: unit.map(str::to_owned),
        ..query(Statistic::Sum)
    };
    values(&mut world, &asked("a", None), &[(0, 3.0)]);
    values(&mut world, &asked("a", Some("Count")), &[]);
    values(&mut world, &asked("b", Some("Count")), &[(0, 3.0)]);
    values(&mut world, &asked("c", None), &[]);
    assert_eq!(world.metrics.iter().count(), 2);
}

#[test]
fn the_newest_comes_first_the_end_is_left_out_and_the_first_period_is_whole() {
    let mut world = world();
    put(&mut world, &[(0, 1.0), (60, 2.0), (120, 3.0)]);
    let queries = [query(Statistic::Sum)];
    let range = (at(59), at(120));
    let found = world.get_metric_data(at(600), &queries, range, false).unwrap();
    assert_eq!(found, [vec![(at(60), 2.0), (at(0), 1.0)]]);
}

#[test]
fn sets_and_counted_values_are_points_too() {
    let mut world = world();
    let set = StatisticSet { count: 4.0, sum: 8.0, min: 1.0, max: 5.0 };
    let counted = StatisticSet::of(2.0, 3.0).with(StatisticSet::of(10.0, 1.0));
    let data = [Datum { set, ..datum(0, 0.0) }, Datum { set: counted, ..datum(60, 0.0) }];
    world.put_metric_data(at(0), &data).unwrap();
    values(&mut world, &query(Statistic::Average), &[(0, 2.0), (60, 4.0)]);
    values(&mut world, &query(Statistic::Maximum), &[(0, 5.0), (60, 10.0)]);
}

#[test]
fn a_point_is_seen_when_its_lag_is_over() {
    let mut world = world();
    world.timings.metric_lag = SignedDuration::from_secs(90);
    world.advance(at(60));
    let data = [Datum { time: None, ..datum(0, 1.0) }];
    world.put_metric_data(at(60), &data).unwrap();
    let queries = [query(Statistic::Sum)];
    let mut seen = |seconds| {
        let range = (at(0), at(600));
        world.get_metric_data(at(seconds), &queries, range, true).unwrap()[0].len()
    };
    assert_eq!((seen(149), seen(150)), (0, 1));
}

#[test]
fn a_lag_ends_in_the_order_of_time_and_a_period_may_be_seen_in_part() {
    let mut world = world();
    let puts = |world: &mut World, seconds: i64| {
        world.advance(at(seconds));
        let data = [Datum { time: None, ..datum(0, 1.0) }];
        world.put_metric_data(at(seconds), &data).unwrap();
    };
    let queries = [query(Statistic::Sum)];
    let seen = |world: &mut World, seconds: i64| -> Vec<f64> {
        let range = (at(0), at(3600));
        let series = world.get_metric_data(at(seconds), &queries, range, true).unwrap();
        series[0].iter().map(|(_, value)| *value).collect()
    };
    world.timings.metric_lag = SignedDuration::from_secs(600);
    puts(&mut world, 10);
    world.timings.metric_lag = SignedDuration::ZERO;
    puts(&mut world, 70);
    assert!(seen(&mut world, 609).is_empty());
    assert_eq!(seen(&mut world, 610), [1.0, 1.0]);
    // Ten points of one period, of which some come up to a minute later.
    world.timings.metric_scatter = SignedDuration::from_secs(60);
    (0..10).for_each(|second| puts(&mut world, 1200 + second));
    let partly = seen(&mut world, 1230)[2];
    assert!(0.0 < partly && partly < 10.0, "{partly}");
    assert_eq!(seen(&mut world, 1270)[2], 10.0);
}

#[test]
fn a_metric_keeps_its_newest_points_only() {
    let mut world = world();
    let extra = 10;
    for _ in 0..POINTS_MAX + extra {
        put(&mut world, &[(0, 1.0)]);
    }
    #[allow(clippy::cast_precision_loss)] // A small number.
    let kept = POINTS_MAX as f64;
    values(&mut world, &query(Statistic::SampleCount), &[(0, kept)]);
}

#[track_caller]
fn refuse_put(change: impl FnOnce(&mut Datum), code: &str) {
    let mut bad = datum(0, 1.0);
    change(&mut bad);
    let mut world = world();
    let error = world.put_metric_data(at(0), &[datum(0, 1.0), bad]).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert_eq!(world.metrics.iter().count(), 0, "all or none");
}

#[test]
fn what_cloudwatch_does_not_take_is_refused_whole() {
    refuse_put(|it| it.metric.namespace = "AWS/ECS".into(), "InvalidParameterValue");
    refuse_put(|it| it.metric.name = String::new(), "MissingParameter");
    refuse_put(|it| it.set = StatisticSet::of(f64::NAN, 1.0), "InvalidParameterValue");
    refuse_put(|it| it.set = StatisticSet::of(1.0, 0.0), "InvalidParameterValue");
    refuse_put(|it| it.time = Some(at(3 * 3600)), "InvalidParameterValue");
    refuse_put(|it| it.time = Some(at(-15 * 24 * 3600)), "InvalidParameterValue");
    let many =
        |n: i32| (0..n).map(|i| (format!("d{i}"), "v".to_owned())).collect::<BTreeMap<_, _>>();
    refuse_put(|it| it.metric.dimensions = many(31), "InvalidParameterValue");
    assert_eq!(world().put_metric_data(at(0), &[]).unwrap_err().code(), "MissingParameter");
}

#[track_caller]
fn refuse_get(queries: &[MetricQuery], start: i64, part: &str) {
    let error = world().get_metric_data(at(9), queries, (at(start), at(9)), true).unwrap_err();
    assert!(matches!(error, MetricError::Validation(_)), "{error:?}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let good = || query(Statistic::Sum);
    refuse_get(&[good()], 9, "StartTime must be less");
    refuse_get(&[good(), good()], 0, "not unique");
    refuse_get(&[MetricQuery { id: "Q".into(), ..good() }], 0, "pattern");
    refuse_get(&[MetricQuery { period: 45, ..good() }], 0, "multiple of 60");
    let many: Vec<MetricQuery> =
        (0..=QUERIES_MAX).map(|i| MetricQuery { id: format!("q{i}"), ..good() }).collect();
    refuse_get(&many, 0, "greater than 500");
    world().get_metric_data(at(9), &many[1..], (at(0), at(9)), true).unwrap();
    assert_eq!(Statistic::parse("p99").unwrap_err().code(), "ValidationError");
}
