//! Rows of points and what they prove.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::*;
use crate::probe::Condition;

fn long(text: &str) -> HumanDuration {
    HumanDuration::parse(text).unwrap()
}

/// So many minutes after noon.
fn at(minutes: f64) -> Timestamp {
    let noon: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
    noon + SignedDuration::from_secs((minutes * 60.0) as i64)
}

fn metric(period: &str, lag: &str) -> MetricProbe {
    MetricProbe {
        namespace: "Backends".to_owned(),
        name: "ActiveConnections".to_owned(),
        dimensions: BTreeMap::new(),
        statistic: Statistic::Maximum,
        period_seconds: u32::try_from(long(period).seconds()).unwrap(),
        look_back: None,
        lag: long(lag),
        missing: Missing::Unknown,
        reads: MetricReads::IdleWhen(Condition::parse("== 0").unwrap()),
    }
}

fn points(minutes: impl IntoIterator<Item = i32>, value: f64) -> Vec<Point> {
    minutes.into_iter().map(|minute| Point { at: at(f64::from(minute)), value }).collect()
}

fn judged(metric: &MetricProbe, points: &[Point], look_back: &str, now: f64) -> Judgement {
    judge(metric, points, long(look_back), at(-1000.0), at(now))
}

#[track_caller]
fn check(metric: &MetricProbe, points: &[Point], look_back: &str, now: f64, expected: Verdict) {
    let judged = judged(metric, points, look_back, now);
    assert_eq!(judged.verdict, expected, "{judged:?}");
}

use Verdict::{Active, IdleOverLookBack, Unknown};

#[test]
fn a_publisher_that_died_an_hour_ago_proves_nothing_of_this_hour() {
    // Two hours are the look-back; more than half of its points are there, all of them idle.
    let old = points(-60..=61, 0.0);
    check(&metric("1m", "3m"), &old, "2h", 120.0, Unknown);
    // And it does while it is alive.
    check(&metric("1m", "3m"), &points(-60..=120, 0.0), "2h", 121.0, IdleOverLookBack);
}

#[test]
fn two_old_periods_of_five_minutes_prove_nothing_of_the_next_two() {
    let basic = metric("5m", "3m");
    let quiet = |until: i32| points((-60..=until).step_by(5), 0.0);
    // At 12:19 the points of 12:10 and 12:15 are due, and whoever works since 12:10 shows in none that is there.
    check(&basic, &quiet(5), "15m", 19.0, Unknown);
    check(&basic, &quiet(10), "15m", 19.0, IdleOverLookBack);
    // What they prove ends at 12:10.
    assert_eq!(judged(&basic, &quiet(10), "15m", 19.0).until, at(10.0));
    // A point that is there and not complete refutes it.
    let mut busy = quiet(10);
    busy.extend(points([15], 7.0));
    check(&basic, &busy, "15m", 19.0, Active);
}

#[test]
fn a_fleet_whose_metrics_all_come_late_is_not_idle() {
    let minutely = metric("1m", "3m");
    // CloudWatch shows nothing newer than ten minutes: five are the most that is believed.
    check(&minutely, &points(0..=50, 0.0), "15m", 60.0, Unknown);
    check(&minutely, &points(0..=54, 0.0), "15m", 60.0, Unknown);
    check(&minutely, &points(0..=55, 0.0), "15m", 60.0, IdleOverLookBack);
    check(&minutely, &points(0..=55, 0.0), "15m", 60.1, Unknown);
    // The fleet file says how late is usual.
    check(&metric("1m", "10m"), &points(0..=50, 0.0), "15m", 60.0, IdleOverLookBack);
}

#[test]
fn knowledge_ends_where_the_newest_point_begins_and_never_within_the_lag() {
    let until = |metric: &MetricProbe, newest: i32, now: f64| {
        judged(metric, &points(0..=newest, 0.0), "15m", now).until
    };
    // Its value may be that of the first second of its period.
    assert_eq!(until(&metric("1m", "1s"), 58, 60.0), at(58.0));
    // What ended less than three minutes ago may lack values.
    assert_eq!(until(&metric("1m", "3m"), 60, 60.5), at(57.0));
    assert_eq!(until(&metric("1m", "3m"), 55, 60.5), at(55.0));
    assert_eq!(until(&metric("5m", "3m"), 60, 62.0), at(0.0).max(at(55.0)));
}

#[test]
fn use_that_is_published_late_is_not_taken_for_a_hole() {
    // The point of 12:58 shows a use and is not there yet; younger ones are.
    let mut late = points(0..=57, 0.0);
    late.extend(points([59, 60], 0.0));
    let now = 60.5;
    assert_eq!(judged(&metric("1m", "3m"), &late, "15m", now).until, at(57.0));
    late.extend(points([58], 1.0));
    check(&metric("1m", "3m"), &late, "15m", now, Active);
}

#[test]
fn older_holes_are_few_and_none_is_long() {
    let minutely = metric("1m", "3m");
    let without = |missing: &[i32]| points((0..=60).filter(|at| !missing.contains(at)), 0.0);
    check(&minutely, &without(&[50]), "15m", 60.0, IdleOverLookBack);
    check(&minutely, &without(&[50, 47]), "15m", 60.0, Unknown);
    check(&minutely, &without(&[50, 47]), "20m", 60.0, IdleOverLookBack);
    check(&minutely, &without(&[50, 49]), "40m", 60.0, Unknown);
    // It may be late, as may be all within three minutes before 12:57.
    check(&minutely, &without(&[54]), "15m", 60.0, Unknown);
    check(&minutely, &without(&[53]), "15m", 60.0, IdleOverLookBack);
    // Where there are few periods, each counts.
    check(&minutely, &without(&[50]), "9m", 60.0, Unknown);
    check(&minutely, &without(&[40]), "9m", 60.0, IdleOverLookBack);
}

#[test]
fn a_look_back_ends_where_knowledge_ends() {
    let minutely = metric("1m", "3m");
    // Used last in the minute of 12:41; known until 12:57.
    let mut used = points(0..=60, 0.0);
    used[41].value = 1.0;
    check(&minutely, &used, "16m", 60.0, Active);
    check(&minutely, &used, "15m", 60.0, IdleOverLookBack);
    used[41].value = 0.0;
    used[42].value = 1.0;
    check(&minutely, &used, "15m", 60.0, Active);
}

#[test]
fn holes_from_before_the_floor_do_not_matter() {
    let minutely = metric("1m", "3m");
    let since_ready = points(50..=60, 0.0);
    let judged =
        |floor: f64| judge(&minutely, &since_ready, long("30m"), at(floor), at(60.0)).verdict;
    assert_eq!(judged(0.0), Unknown);
    assert_eq!(judged(50.0), IdleOverLookBack);
    assert_eq!(judged(48.0), Unknown, "ready for two minutes and not heard");
}

#[test]
fn a_time_that_a_metric_holds_is_as_old_as_its_publisher() {
    let mut last = metric("1m", "3m");
    last.reads = MetricReads::Epoch;
    let told = |newest: i32| {
        #[allow(clippy::cast_precision_loss)]
        let value = at(10.0).as_second() as f64;
        judged(&last, &points(0..=newest, value), "10m", 60.0).verdict
    };
    assert_eq!(told(60), Verdict::IdleSince(at(10.0)));
    assert_eq!(told(55), Verdict::IdleSince(at(10.0)));
    assert_eq!(told(54), Unknown);
}

#[test]
fn a_metric_that_is_published_only_while_it_counts_is_idle_without_points() {
    let mut sparse = metric("1m", "3m");
    sparse.missing = Missing::Idle;
    check(&sparse, &[], "15m", 60.0, IdleOverLookBack);
    let judged = judged(&sparse, &points([40], 3.0), "15m", 60.0);
    assert_eq!((judged.verdict, judged.until), (IdleOverLookBack, at(57.0)));
    check(&sparse, &points([42], 3.0), "15m", 60.0, Active);
    check(&sparse, &points([59], 3.0), "15m", 60.0, Active);
    sparse.reads = MetricReads::Epoch;
    check(&sparse, &[], "15m", 60.0, IdleOverLookBack);
}

#[test]
fn a_publisher_is_silent_after_twice_the_time_that_its_points_may_take() {
    let minutely = metric("1m", "3m");
    let silence = |newest: Option<i32>, floor: f64, now: f64| {
        let points = points(newest, 0.0);
        judge(&minutely, &points, long("15m"), at(floor), at(now)).silence
    };
    assert_eq!(silence(Some(55), 0.0, 60.0), Silence::None);
    assert_eq!(silence(Some(55), 0.0, 60.1), Silence::Short);
    assert_eq!(silence(Some(55), 0.0, 64.9), Silence::Short);
    assert_eq!(silence(Some(55), 0.0, 65.0), Silence::Long);
    assert_eq!(silence(None, 0.0, 65.0), Silence::Long);
    // A publisher that begins with its machine has as long.
    assert_eq!(silence(None, 60.0, 69.9), Silence::Short);
    assert_eq!(silence(None, 60.0, 70.0), Silence::Long);
    let mut sparse = minutely.clone();
    sparse.missing = Missing::Idle;
    assert_eq!(judge(&sparse, &[], long("15m"), at(0.0), at(60.0)).silence, Silence::None);
}

#[test]
fn the_points_that_are_read_reach_back_far_enough_for_both() {
    let check = |period: &str, lag: &str, look_back: &str| {
        let metric = metric(period, lag);
        let span = metric.span_seconds(long(look_back));
        let needed = metric.patience_seconds() + i64::try_from(long(look_back).seconds()).unwrap();
        assert!(span >= needed + metric.period() && span >= 2 * metric.patience_seconds());
    };
    check("1m", "3m", "15m");
    check("1m", "3m", "1m");
    check("5m", "1s", "5m");
    check("1s", "10m", "1s");
}
