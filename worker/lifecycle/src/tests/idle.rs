//! Rows of readings and what they mean.

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::HumanDuration;

use super::*;
use crate::address::HealthUrl;
use crate::probe::{
    CommandProbe, Condition, HttpProbe, MetricProbe, MetricReads, Missing, Point, Statistic,
};
use crate::watch::IdleWatch;

fn long(text: &str) -> HumanDuration {
    HumanDuration::parse(text).unwrap()
}

/// So many seconds after noon.
fn at(seconds: i64) -> Timestamp {
    let noon: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
    noon + SignedDuration::from_secs(seconds)
}

/// The same, as a backend writes it.
#[allow(clippy::cast_precision_loss)]
fn epoch_at(seconds: i64) -> f64 {
    at(seconds).as_second() as f64
}

fn http(reads: HttpReads) -> Probe {
    Probe::Http(HttpProbe {
        url: HealthUrl::parse("http://10.0.1.50:8000/api/last-activity").unwrap(),
        pointer: "/last_activity".to_owned(),
        reads,
        ignore_own: reads != HttpReads::Count,
    })
}

fn metric(reads: MetricReads, look_back: Option<&str>) -> Probe {
    Probe::Metric(MetricProbe {
        namespace: "Fluidity".to_owned(),
        name: "ActiveConnections".to_owned(),
        dimensions: BTreeMap::new(),
        statistic: match reads {
            MetricReads::IdleWhen(_) => Statistic::Average,
            MetricReads::Epoch => Statistic::Maximum,
        },
        period_seconds: 60,
        look_back: look_back.map(long),
        lag: long("3m"),
        missing: Missing::Unknown,
        reads,
    })
}

fn when(condition: &str) -> MetricReads {
    MetricReads::IdleWhen(Condition::parse(condition).unwrap())
}

fn command(reads: CommandReads) -> Probe {
    Probe::Command(CommandProbe { script: "true".to_owned(), reads, timeout_seconds: 30 })
}

fn policy(probes: Vec<Probe>) -> IdleSpec {
    IdleSpec { probes, ..IdleSpec::after(long("15m")) }
}

fn number(value: f64, asked: i64) -> Option<Reading> {
    let (asked_at, answered_at) = (at(asked), at(asked) + SignedDuration::from_millis(40));
    Some(Reading::Number { value, asked_at, answered_at, ahead_millis: Some(0) })
}

/// A point a minute, newest first, the newest of the minute in which `now` lies.
fn series_at(now: i64, values: &[f64]) -> Option<Reading> {
    let newest = now.div_euclid(60) * 60;
    let points =
        (0..).zip(values).map(|(ago, value)| Point { at: at(newest - 60 * ago), value: *value });
    Some(Reading::Series { points: points.collect() })
}

fn series(values: &[f64]) -> Option<Reading> {
    series_at(2000, values)
}

fn silence(unreachable: bool) -> Option<Reading> {
    Some(Reading::Unknown { detail: "nobody answers".to_owned(), unreachable })
}

fn round(seconds: i64, readings: Vec<Option<Reading>>) -> Round {
    Round { at: at(seconds), of: None, over: IdleOverride::default(), readings }
}

/// One round at `now`, of a target that was ready at noon.
#[track_caller]
fn once(spec: &IdleSpec, now: i64, readings: Vec<Option<Reading>>) -> Judged {
    let memory = IdleMemory::default();
    judge(spec, IdleOverride::default(), &memory, &[round(now, readings)], at(0), at(now))
}

#[track_caller]
fn check(spec: &IdleSpec, now: i64, readings: Vec<Option<Reading>>, expected: IdleVerdict) {
    let judged = once(spec, now, readings);
    assert_eq!(judged.verdict, expected, "{}", judged.why);
    assert!(!judged.why.is_empty());
}

use IdleVerdict::{Active, AskHost, Idle, NotYet, Unknown};

#[test]
fn a_reported_time_counts_from_itself_and_the_limit_is_inclusive() {
    let spec = policy(vec![http(HttpReads::Epoch)]);
    check(&spec, 2000, vec![number(epoch_at(1100), 2000)], Idle);
    check(&spec, 2000, vec![number(epoch_at(1101), 2000)], NotYet);
    check(&spec, 2000, vec![number(epoch_at(1100) + 0.25, 2000)], NotYet);
    let spec = policy(vec![http(HttpReads::IdleSeconds)]);
    check(&spec, 2000, vec![number(901.0, 2000)], Idle);
    check(&spec, 2000, vec![number(800.0, 2000)], NotYet);
}

#[test]
fn what_is_no_time_is_unknown_and_never_idle() {
    let spec = policy(vec![http(HttpReads::Epoch)]);
    for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 900.0, epoch_at(0) * 1000.0] {
        check(&spec, 2000, vec![number(value, 2000)], Unknown);
    }
    // An hour ahead of us: whether it is idle nobody can say.
    check(&spec, 2000, vec![number(epoch_at(2000 + 3600), 2000)], Unknown);
    check(&spec, 2000, vec![silence(false)], Unknown);
    check(&spec, 2000, vec![silence(true)], Unknown);
    let spec = policy(vec![http(HttpReads::IdleSeconds)]);
    check(&spec, 2000, vec![number(-1.0, 2000)], Unknown);
    let spec = policy(vec![http(HttpReads::Count)]);
    check(&spec, 2000, vec![number(f64::NAN, 2000)], Unknown);
    check(&spec, 2000, vec![number(-1.0, 2000)], Unknown);
    // An answer of another sort.
    check(&spec, 2000, vec![series(&[0.0])], Unknown);
}

#[test]
fn a_backends_clock_is_set_right_by_its_date() {
    let spec = policy(vec![http(HttpReads::Epoch)]);
    let ahead = |value: f64| {
        let (asked_at, answered_at) = (at(2000), at(2000));
        Some(Reading::Number { value, asked_at, answered_at, ahead_millis: Some(3_600_000) })
    };
    check(&spec, 2000, vec![ahead(epoch_at(1000 + 3600))], Idle);
    check(&spec, 2000, vec![ahead(epoch_at(1500 + 3600))], NotYet);
}

#[test]
fn idleness_never_counts_from_before_the_floor() {
    let mut spec = policy(vec![http(HttpReads::Epoch)]);
    // Active last yesterday, ready at noon: a slow boot is not idle.
    check(&spec, 899, vec![number(epoch_at(-80_000), 899)], NotYet);
    check(&spec, 900, vec![number(epoch_at(-80_000), 900)], Idle);
    spec.grace = Some(long("5m"));
    check(&spec, 1199, vec![number(epoch_at(-80_000), 1199)], NotYet);
    check(&spec, 1200, vec![number(epoch_at(-80_000), 1200)], Idle);
    // Without any probe the floor alone counts: readiness, starts and keep-alives.
    check(&policy(vec![]), 899, vec![], NotYet);
    check(&policy(vec![]), 900, vec![], Idle);
}

#[test]
fn a_metric_is_judged_over_its_look_back() {
    let spec = policy(vec![metric(when("== 0"), Some("10m"))]);
    // Four minutes are younger than its lag, and ten are the look-back before.
    check(&spec, 2000, vec![series(&[0.0; 14])], Idle);
    check(&spec, 2000, vec![series(&[0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0])], Active);
    check(&spec, 2000, vec![series(&[])], Unknown);
    check(&spec, 2000, vec![series(&[0.0; 12])], Unknown);
    let mut spec = policy(vec![metric(when("< 5"), None)]);
    check(&spec, 2000, vec![series(&[4.0; 19])], Idle);
    if let Probe::Metric(metric) = &mut spec.probes[0] {
        metric.statistic = Statistic::Sum;
    }
    check(&spec, 2000, vec![series(&[4.0; 19])], Active);
}

#[test]
fn idleness_by_a_metric_must_be_known_for_its_whole_length() {
    let spec = policy(vec![metric(when("== 0"), None)]);
    // Ready at noon: a quarter of an hour is over, and the last minutes are not known yet.
    check(&spec, 900, vec![series_at(900, &[0.0; 40])], NotYet);
    check(&spec, 1079, vec![series_at(1079, &[0.0; 40])], NotYet);
    check(&spec, 1080, vec![series_at(1080, &[0.0; 40])], Idle);
    // A backend beside it that knows the moment changes nothing.
    let both = policy(vec![metric(when("== 0"), None), http(HttpReads::Epoch)]);
    let judged =
        |now: i64| once(&both, now, vec![series_at(now, &[0.0; 40]), number(epoch_at(100), now)]);
    assert_eq!((judged(1199).verdict, judged(1200).verdict), (NotYet, Idle));
    assert_eq!(judged(1199).until, at(960));
}

#[test]
fn seed_001_needs_both_metrics() {
    let spec = policy(vec![metric(when("== 0"), Some("10m")), metric(MetricReads::Epoch, None)]);
    let zeros = || series(&[0.0; 14]);
    check(&spec, 2000, vec![zeros(), series(&[epoch_at(800), epoch_at(900)])], Idle);
    check(&spec, 2000, vec![zeros(), series(&[epoch_at(901)])], NotYet);
    check(&spec, 2000, vec![series(&[1.0; 14]), series(&[epoch_at(900)])], Active);
    check(&spec, 2000, vec![zeros(), series(&[])], Unknown);
    check(&spec, 2000, vec![series(&[]), series(&[epoch_at(900)])], Unknown);
    check(&spec, 2000, vec![zeros(), series(&[0.0])], Unknown);
    check(&spec, 2000, vec![zeros(), series(&[epoch_at(9000)])], Unknown);
}

#[test]
fn the_callers_thresholds_stand_before_the_policys() {
    let spec = policy(vec![metric(when("== 0"), Some("10m")), metric(MetricReads::Epoch, None)]);
    let over =
        |after, look_back| IdleOverride { after_seconds: after, look_back_seconds: look_back };
    let judged = |over, zeros: usize| {
        let readings = vec![series(&vec![0.0; zeros]), series(&[epoch_at(1700)])];
        let memory = IdleMemory::default();
        judge(&spec, over, &memory, &[round(2000, readings)], at(0), at(2000)).verdict
    };
    assert_eq!(judged(over(None, None), 14), NotYet);
    assert_eq!(judged(over(Some(60), None), 14), Idle);
    // A longer look-back wants more data.
    assert_eq!(judged(over(Some(60), Some(1800)), 14), Unknown);
    assert_eq!(judged(over(Some(60), Some(1800)), 34), Idle);
}

#[test]
fn a_silent_publisher_is_said_once_until_it_is_heard_again() {
    let spec = policy(vec![metric(when("== 0"), Some("10m"))]);
    let mut memory = IdleMemory::default();
    let mut told = Vec::new();
    // It dies after its point of 12:30 and is back at 13:00.
    for now in [1850, 2100, 2400, 2700, 3000, 3900, 5400, 6000] {
        let alive = |minute: &i64| *minute <= 1800 || (3600..4500).contains(minute);
        let minutes = (0..=now / 60).rev().map(|minute| minute * 60).filter(alive);
        let points = minutes.map(|minute| Point { at: at(minute), value: 0.0 }).collect();
        let round = round(now, vec![Some(Reading::Series { points })]);
        let judged = judge(&spec, IdleOverride::default(), &memory, &[round], at(0), at(now));
        memory = judged.memory.clone();
        if judged.silent_for_long && memory.silent_said_at.is_none() {
            assert_eq!(judged.verdict, Unknown, "{}", judged.why);
            assert!(judged.silence().contains("ActiveConnections"), "{}", judged.silence());
            memory.silent_said_at = Some(at(now));
            told.push(now);
        }
    }
    assert_eq!(
        told,
        [2400, 5400],
        "ten minutes after its last point, and once more after it was heard"
    );
    // Where CloudWatch does not answer, nobody knows whether it is silent.
    memory.silent_said_at = Some(at(0));
    let judged = judge(
        &spec,
        IdleOverride::default(),
        &memory,
        &[round(2000, vec![silence(false)])],
        at(0),
        at(2000),
    );
    assert_eq!(judged.memory.silent_said_at, Some(at(0)));
}

/// Rounds at these times, each with a count.
#[track_caller]
fn counts(rounds: &[(i64, Option<f64>)], expected: IdleVerdict) -> IdleMemory {
    let spec = policy(vec![http(HttpReads::Count)]);
    let mut memory = IdleMemory::default();
    let mut verdict = Unknown;
    for (now, count) in rounds {
        let reading = count.map_or(silence(false), |count| number(count, *now));
        let round = round(*now, vec![reading]);
        let judged = judge(&spec, IdleOverride::default(), &memory, &[round], at(0), at(*now));
        verdict = judged.verdict;
        memory = judged.memory;
    }
    assert_eq!(verdict, expected, "{rounds:?}");
    memory
}

#[test]
fn a_moments_idleness_must_last_without_a_break() {
    let zero = Some(0.0);
    counts(&[(1000, zero)], NotYet);
    counts(&[(1000, zero), (1300, zero), (1600, zero), (1900, zero)], Idle);
    counts(&[(1000, zero), (1300, zero), (1600, zero), (1899, zero)], NotYet);
    counts(&[(1000, zero), (1300, Some(2.0)), (1600, zero), (1900, zero)], NotYet);
    // Unknown is a break too: anything may have happened.
    counts(&[(1000, zero), (1300, None), (1600, zero), (1900, zero)], NotYet);
    // A tick that comes an hour late says nothing of that hour.
    counts(&[(1000, zero), (4600, zero)], NotYet);
    counts(&[(1000, zero), (1900, zero)], Idle);
}

#[test]
fn a_count_that_runs_looks_again_by_itself() {
    let memory = counts(&[(1000, Some(0.0))], NotYet);
    assert_eq!(memory.look_at, Some(at(1300)));
    let memory = counts(&[(1000, Some(0.0)), (1300, Some(0.0)), (1700, Some(0.0))], NotYet);
    assert_eq!(memory.look_at, Some(at(1900)));
    let memory = counts(&[(1000, Some(0.0)), (1300, Some(3.0))], Active);
    assert!(memory.is_empty(), "{memory:?}");
}

/// A backend that counts requests as activity: `marks` before it answers, after it, or never. `users` are
/// active at these times; we ask at each of `asks`. The last verdict.
fn backend(marks: &str, users: &[i64], asks: &[i64]) -> (IdleVerdict, usize) {
    let spec = policy(vec![http(HttpReads::Epoch)]);
    let mut memory = IdleMemory::default();
    let mut last = 0;
    let mut writes = 0;
    let mut verdict = Unknown;
    for ask in asks {
        let user = users.iter().filter(|user| **user <= *ask).max().copied().unwrap_or(0);
        last = last.max(user);
        if marks == "before" {
            last = *ask;
        }
        let reading = number(epoch_at(last), *ask);
        if marks == "after" {
            last = *ask;
        }
        let round = round(*ask, vec![reading]);
        let judged = judge(&spec, IdleOverride::default(), &memory, &[round], at(0), at(*ask));
        writes += usize::from(judged.memory != memory);
        (verdict, memory) = (judged.verdict, judged.memory);
    }
    (verdict, writes)
}

#[test]
fn a_backend_that_counts_the_probe_as_activity_is_stopped_all_the_same() {
    let ticks: Vec<i64> = (0..=4).map(|tick| 1000 + 300 * tick).collect();
    // Last used at 1100: idle at 2000 by the policy, and the probes at 1000, 1300, 1600, 1900 are ours.
    assert_eq!(backend("after", &[1100], &ticks).0, Idle);
    // Somebody is there between two ticks: that is no probe.
    assert_eq!(backend("after", &[1100, 1750], &ticks).0, NotYet);
    // Asked once more right after: the first of the two is our own as well.
    assert_eq!(backend("after", &[1100], &[1000, 1300, 1600, 2000, 2001]).0, Idle);
    assert_eq!(backend("never", &[1100], &ticks).0, Idle);
}

#[test]
fn a_backend_that_marks_before_it_answers_never_looks_idle() {
    let ticks: Vec<i64> = (0..=9).map(|tick| 1000 + 300 * tick).collect();
    assert_eq!(backend("before", &[1100], &ticks).0, Active);
}

#[test]
fn a_backend_that_does_not_mark_costs_no_memory_for_long() {
    let ticks: Vec<i64> = (0..=9).map(|tick| 1500 + 300 * tick).collect();
    let (_, writes) = backend("never", &[1100], &ticks);
    assert_eq!(writes, 2, "the first probe, and that it does not mark");
    // Where it marks, each probe must be remembered.
    let (_, writes) = backend("after", &[1100], &ticks);
    assert_eq!(writes, ticks.len());
}

#[test]
fn the_host_is_asked_last_and_its_word_serves_one_judgement() {
    let spec = policy(vec![http(HttpReads::Epoch), command(CommandReads::ExitCode)]);
    let idle = || number(epoch_at(100), 2000);
    check(&spec, 2000, vec![idle(), None], AskHost);
    // Whoever is active anyway need not be asked.
    check(&spec, 1000, vec![number(epoch_at(990), 1000), None], AskHost);
    check(&spec, 2000, vec![silence(true), None], Unknown);

    let judged = |memory: &IdleMemory, now: i64| {
        let round = round(now, vec![number(epoch_at(100), now), None]);
        judge(&spec, IdleOverride::default(), memory, &[round], at(0), at(now))
    };
    let told = |memory: IdleMemory, now: i64, code: i64| {
        let reading = Reading::Exit { code, output: String::new() };
        IdleMemory { host: Some(HostReading { at: at(now), reading }), ..memory }
    };
    let first = judged(&told(IdleMemory::default(), 2000, 0), 2001);
    assert_eq!(first.verdict, NotYet, "a moment's idleness: {}", first.why);
    let later = judged(&told(first.memory.clone(), 2300, 0), 2301);
    let later = judged(&told(later.memory, 2600, 0), 2601);
    let later = judged(&told(later.memory, 2901, 0), 2902);
    assert_eq!(later.verdict, Idle, "{}", later.why);
    assert_eq!(judged(&told(first.memory.clone(), 2300, 1), 2301).verdict, Active);
    assert_eq!(judged(&told(first.memory.clone(), 2300, 2), 2301).verdict, Unknown);
    // Its word is old after a minute.
    assert_eq!(judged(&told(first.memory, 2300, 0), 2400).verdict, AskHost);
}

#[test]
fn a_hosts_number_is_its_first_line() {
    let below = Condition::parse("< 5").unwrap();
    let spec = policy(vec![command(CommandReads::Number(below))]);
    let verdict = |code: i64, output: &str| {
        let reading = Reading::Exit { code, output: output.to_owned() };
        let host = Some(HostReading { at: at(2000), reading });
        let memory = IdleMemory { host, ..IdleMemory::default() };
        let round = round(2000, vec![None]);
        judge(&spec, IdleOverride::default(), &memory, &[round], at(0), at(2000)).verdict
    };
    assert_eq!(verdict(0, "3.5\n"), NotYet);
    assert_eq!(verdict(0, "7"), Active);
    assert_eq!(verdict(0, "three"), Unknown);
    assert_eq!(verdict(0, ""), Unknown);
    assert_eq!(verdict(0, "nan"), Unknown);
    assert_eq!(verdict(1, "3"), Unknown);
}

#[test]
fn a_backend_out_of_reach_is_counted_from_its_first_silence() {
    let mut spec = policy(vec![http(HttpReads::Epoch)]);
    spec.unreachable_after = Some(long("10m"));
    let mut memory = IdleMemory::default();
    let mut long_gone = Vec::new();
    for (now, reachable) in [(0, true), (300, false), (899, false), (900, false), (1200, true)] {
        let reading = if reachable { number(epoch_at(0), now) } else { silence(true) };
        let round = round(now, vec![reading]);
        let judged = judge(&spec, IdleOverride::default(), &memory, &[round], at(0), at(now));
        long_gone.push(judged.unreachable_for_long);
        memory = judged.memory;
    }
    assert_eq!(long_gone, [false, false, false, true, false]);
    assert_eq!(memory.unreachable_since, None);
    // One that answers nonsense is reachable.
    assert_eq!(once(&spec, 300, vec![silence(false)]).memory.unreachable_since, None);
}

#[test]
fn a_tick_gives_a_pass_only_to_what_would_change() {
    let mut watch = IdleWatch { floor: at(0), memory: IdleMemory::default() };
    let mut spec = policy(vec![metric(when("== 0"), Some("10m"))]);
    let pass = |watch: &IdleWatch, spec: &IdleSpec, now: i64, reading: Option<Reading>| {
        let round = round(now, vec![reading]);
        watch.judge(spec, IdleOverride::default(), &round, at(now)).1
    };
    assert!(!pass(&watch, &spec, 2000, series(&[1.0; 14])), "active");
    assert!(!pass(&watch, &spec, 500, series_at(500, &[])), "no data yet");
    assert!(pass(&watch, &spec, 2000, series(&[])), "no data for long: it is to be said");
    assert!(!pass(&watch, &spec, 300, series_at(300, &[0.0; 10])), "not yet");
    assert!(pass(&watch, &spec, 2000, series(&[0.0; 14])), "idle");
    watch.memory.silent_said_at = Some(at(1900));
    assert!(!pass(&watch, &spec, 2000, series(&[])), "it was said");
    watch.memory.silent_said_at = None;
    spec.probes = vec![http(HttpReads::Count)];
    assert!(!pass(&watch, &spec, 2000, number(1.0, 2000)), "active, and nothing to forget");
    assert!(pass(&watch, &spec, 2000, number(0.0, 2000)), "a count begins");
    watch.memory = counts(&[(1700, Some(0.0))], NotYet);
    assert!(pass(&watch, &spec, 2000, number(1.0, 2000)), "a count is broken");
    assert!(pass(&watch, &spec, 2000, silence(true)), "out of reach since now");
}
