//! How questions to CloudWatch are put together, and what its answers mean.

use aws_sdk_cloudwatch::types::MessageData;
use lamplighter_events::HumanDuration;
use lamplighter_lifecycle::{Condition, MetricReads, Missing, Statistic};

use super::*;

fn probe(period_seconds: u32, look_back_seconds: u64) -> MetricProbe {
    MetricProbe {
        namespace: "Fluidity".to_owned(),
        name: "ActiveConnections".to_owned(),
        dimensions: BTreeMap::new(),
        statistic: Statistic::Average,
        period_seconds,
        look_back: HumanDuration::from_seconds(look_back_seconds),
        lag: HumanDuration::from_seconds(180).unwrap(),
        missing: Missing::Unknown,
        reads: MetricReads::IdleWhen(Condition::parse("== 0").unwrap()),
    }
}

fn query(period_seconds: u32, look_back_seconds: u64, now: i64) -> Query {
    let resource = Resource::parse("c/s").unwrap();
    let now = Timestamp::from_second(now).unwrap();
    Query::of(&probe(period_seconds, look_back_seconds), &resource, now).unwrap()
}

#[test]
fn a_span_is_whole_periods_that_hold_all_of_the_look_back_and_now() {
    let check = |period, look_back, now, expected: (i64, i64)| {
        let query = query(period, look_back, now);
        assert_eq!((query.from, query.to), expected, "{period} {look_back} {now}");
        assert!(query.from <= now - look_back as i64 && query.to > now);
    };
    // Its lag and two periods older, since the look-back ends where knowledge ends.
    check(60, 600, 6_000, (5_040, 6_060));
    check(60, 600, 6_059, (5_040, 6_060));
    check(60, 600, 6_001, (5_040, 6_060));
    check(300, 600, 6_059, (4_200, 6_300));
    check(300, 60, 6_059, (4_200, 6_300));
}

#[test]
fn what_a_dimension_names_is_filled_in_or_said_to_lack() {
    let check = |value: &str, resource: &str, expected: Result<&str, &str>| {
        let resource = Resource::parse(resource).unwrap();
        let found = fill(value, &resource);
        assert_eq!(found.as_deref().map_err(|it| *it), expected, "{value}");
    };
    check("plain", "c/s", Ok("plain"));
    check("{cluster}-{service}", "c/s", Ok("c-s"));
    check("{instance_id}", "i-0abc123def456", Ok("i-0abc123def456"));
    check("{instance_id}", "c/s", Err("{instance_id}"));
    check("{service}", "i-0abc123def456", Err("{service}"));
    let mut lacking = probe(60, 60);
    lacking.dimensions.insert("InstanceId".to_owned(), "{instance_id}".to_owned());
    let resource = Resource::parse("c/s").unwrap();
    let words = Query::of(&lacking, &resource, Timestamp::UNIX_EPOCH).unwrap_err();
    assert_eq!(words, "the dimension InstanceId names {instance_id}, which a service has not");
}

#[track_caller]
fn check_spans(queries: &[Query], expected: &[usize]) {
    let spans = spans(queries);
    let sizes: Vec<usize> = spans.iter().map(|span| span.places.len()).collect();
    assert_eq!(sizes, expected);
    let mut places: Vec<usize> = spans.iter().flat_map(|span| span.places.clone()).collect();
    places.sort_unstable();
    assert_eq!(places, (0..queries.len()).collect::<Vec<usize>>());
    for span in &spans {
        for at in &span.places {
            assert_eq!(span.unit % queries[*at].period(), 0);
        }
    }
}

#[test]
fn queries_share_a_call_unless_its_answer_would_pass_a_page() {
    let short = query(60, 600, 1_000_000);
    check_spans(&vec![short.clone(); 80], &[80]);
    check_spans(&vec![short.clone(); 500], &[500]);
    let mixed = [short.clone(), query(300, 900, 1_000_000), query(3_600, 86_400, 1_000_000)];
    check_spans(&mixed, &[3]);
    // A week in minutes would make a week of all the others.
    let mut week = vec![short; 499];
    week.push(query(60, 7 * 86_400, 1_000_000));
    check_spans(&week, &[499, 1]);
    // 420 and 86 400 seconds have no common multiple within a day.
    check_spans(&[query(420, 420, 1_000_000), query(86_400, 86_400, 1_000_000)], &[1, 1]);
}

fn result(status: StatusCode, points: &[(i64, f64)]) -> MetricDataResult {
    points
        .iter()
        .fold(MetricDataResult::builder().status_code(status), |it, (at, value)| {
            it.timestamps(DateTime::from_secs(*at)).values(*value)
        })
        .build()
}

#[test]
fn pages_of_one_query_are_one_series_newest_first_within_its_own_span() {
    let query = query(60, 180, 1_020);
    let mut found = Found::default();
    found.add(&result(StatusCode::PartialData, &[(1_020, 4.0), (960, 3.0)]));
    found.add(&result(StatusCode::Complete, &[(840, 1.0), (780, 9.0), (900, 2.0)]));
    let Reading::Series { points } = found.reading(&query) else { panic!("no series") };
    let points: Vec<(i64, f64)> = points.iter().map(|it| (it.at.as_second(), it.value)).collect();
    assert_eq!(points, [(1_020, 4.0), (960, 3.0), (900, 2.0), (840, 1.0), (780, 9.0)]);
}

#[test]
fn what_is_given_in_part_or_not_at_all_is_no_series() {
    let query = query(60, 180, 1_020);
    for status in [StatusCode::PartialData, StatusCode::InternalError, StatusCode::Forbidden] {
        let mut found = Found::default();
        found.add(&result(status.clone(), &[(960, 0.0)]));
        let reading = found.reading(&query);
        assert!(matches!(reading, Reading::Unknown { unreachable: false, .. }), "{status:?}");
    }
    let missing = Found::default().reading(&query);
    assert_eq!(missing, unknown("CloudWatch did not answer for it".to_owned()));
    let words = MessageData::builder().code("ArchiveLimit").value("too many").build();
    let mut found = Found::default();
    found.add(
        &MetricDataResult::builder().status_code(StatusCode::Forbidden).messages(words).build(),
    );
    let Reading::Unknown { detail, .. } = found.reading(&query) else { panic!("a series") };
    assert!(detail.ends_with(": too many"), "{detail}");
}
