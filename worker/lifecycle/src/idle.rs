//! Idleness: what the answers of a policy's probes mean.
//!
//! *Theory.* All probes must say idle for `after`, inclusive, without a break. Each says one of: idle since a
//! time; idle over its whole look-back (which is its own, and so bounds nothing else); idle at this moment, and
//! then the memory knows since when without a break; active; unknown. *Unknown is not idle.* Idleness never
//! counts from before the floor: the target's readiness and its grace, the latest start, the latest keep-alive.
//!
//! *The probe itself as activity.* A backend that marks every request as activity reports, at the next probe,
//! the time of the last one. So the memory keeps when the last probe was made and what was real before it; a
//! reported time within that probe is the probe's own. Where a report did not move though we had asked in
//! between, the backend does not mark, and nothing more need be remembered. A backend that marks *before* it
//! answers reports the probe that it is answering: of what others did nothing is left to see, so it never
//! looks idle.
//!
//! *A moment's idleness has a memory with holes.* Between two readings anything may have happened; when they
//! lie further apart than `GAP_SECONDS_MAX` (or `after`), the count begins anew. So that it does not hang on
//! ticks, a count that runs sets a look of its own.
//!
//! *Invariant.* Pure: readings and memory in, verdict and memory out. The same function serves the tick's first
//! look, the pass that decides, and `lamplighter probe`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::HumanDuration;
use serde::{Deserialize, Serialize};

use crate::limits::{
    EPOCH_SECONDS_MAX, EPOCH_SECONDS_MIN, GAP_SECONDS_MAX, HOST_READING_SECONDS, IDLE_LOOK_SECONDS,
    OWN_PROBE_MILLIS,
};
use crate::pass::{add, later};
use crate::probe::{
    CommandReads, HttpProbe, HttpReads, IdleOverride, IdleSpec, MetricProbe, MetricReads, Probe,
    Reading, Round, Statistic,
};

/// Since when a probe that knows only the moment has said idle without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streak {
    /// Its first reading.
    pub since: Timestamp,
    /// Its last one.
    pub read_at: Timestamp,
}

/// Our last request to a backend that may count it as activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnProbe {
    /// Just before it.
    pub asked_at: Timestamp,
    /// Just after its answer.
    pub answered_at: Timestamp,
    /// What it reported.
    pub said: Timestamp,
    /// The last reported activity that was not ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real: Option<Timestamp>,
    /// Whether the backend marks our requests, once that showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marks: Option<bool>,
}

/// What the policy's command on the host last said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostReading {
    /// When it was learnt.
    pub at: Timestamp,
    /// What it said.
    pub reading: Reading,
}

/// What is remembered between readings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IdleMemory {
    /// By the probe's label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub streaks: BTreeMap<String, Streak>,
    /// By the probe's label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub own: BTreeMap<String, OwnProbe>,
    /// Since when a backend could not be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_since: Option<Timestamp>,
    /// When that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_said_at: Option<Timestamp>,
    /// The latest keep-alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_alive_at: Option<Timestamp>,
    /// The host's word, until it is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostReading>,
    /// A look of our own, where a count runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_at: Option<Timestamp>,
    /// Since when it was idle when its holds were ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_since: Option<Timestamp>,
    /// The first metric's value then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_level: Option<f64>,
}

impl IdleMemory {
    /// There is nothing to remember.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What one probe says.
#[derive(Debug, Clone, PartialEq)]
pub enum Says {
    /// Idle, since this time.
    IdleSince(Timestamp),
    /// Idle over its whole look-back.
    IdleOverLookBack,
    /// Active.
    Active,
    /// Nobody knows.
    Unknown {
        /// The backend did not answer at all.
        unreachable: bool,
    },
    /// The host was not asked yet.
    NotAsked,
}

/// A probe, what it says, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeWord {
    /// The probe's label.
    pub probe: String,
    /// What it says.
    pub says: Says,
    /// For people.
    pub detail: String,
    /// The value over the look-back, of a metric with a condition.
    pub level: Option<f64>,
}

/// What all of them together come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleVerdict {
    /// Idle for long enough.
    Idle,
    /// Idle, and not yet for long enough.
    NotYet,
    /// Somebody is at work.
    Active,
    /// Nobody knows; which is not idle.
    Unknown,
    /// All others say idle: the host is to be asked.
    AskHost,
}

/// A judgement.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What it comes to.
    pub verdict: IdleVerdict,
    /// Why, as a sentence.
    pub why: String,
    /// Since when it is idle, where it is.
    pub since: Option<Timestamp>,
    /// How long it must be.
    pub after: HumanDuration,
    /// Each probe's word.
    pub words: Vec<ProbeWord>,
    /// What is to be remembered.
    pub memory: IdleMemory,
    /// The backend could not be reached for longer than the policy's limit.
    pub unreachable_for_long: bool,
}

impl Judged {
    /// The first metric's value.
    pub fn level(&self) -> Option<f64> {
        self.words.iter().find_map(|word| word.level)
    }
}

/// Judges rounds of readings, oldest first. `floor` is the time from before which idleness never counts.
pub fn judge(
    spec: &IdleSpec,
    over: IdleOverride,
    memory: &IdleMemory,
    rounds: &[Round],
    floor: Timestamp,
    now: Timestamp,
) -> Judged {
    let after = over.after_seconds.and_then(HumanDuration::from_seconds).unwrap_or(spec.after);
    let mut memory = memory.clone();
    let latest = rounds.last().map_or(now, |round| round.at);
    memory.host = memory.host.filter(|host| is_fresh(host, latest));
    let mut words = Vec::new();
    for round in rounds {
        words = spec
            .probes
            .iter()
            .zip(&round.readings)
            .map(|(probe, reading)| {
                read(probe, reading.as_ref(), &mut memory, round.at, after, over)
            })
            .collect();
        remember_reach(&mut memory, &words, round.at);
    }
    let floor = spec.grace.map_or(floor, |grace| add(floor, grace));
    let since = words
        .iter()
        .filter_map(|word| match word.says {
            Says::IdleSince(at) => Some(at),
            _ => None,
        })
        .fold(floor, Timestamp::max);
    let (verdict, why) = conclude(&words, since, after, now);
    let idle = matches!(verdict, IdleVerdict::Idle | IdleVerdict::NotYet);
    memory.look_at = next_look(spec, &memory, verdict, since, after, now);
    let limit = spec.unreachable_after.zip(memory.unreachable_since);
    Judged {
        unreachable_for_long: limit.is_some_and(|(limit, since)| now >= add(since, limit)),
        since: idle.then_some(since),
        verdict,
        why,
        after,
        words,
        memory,
    }
}

fn conclude(
    words: &[ProbeWord],
    since: Timestamp,
    after: HumanDuration,
    now: Timestamp,
) -> (IdleVerdict, String) {
    let find = |which: fn(&Says) -> bool| words.iter().find(|word| which(&word.says));
    if let Some(word) = find(|says| matches!(says, Says::Active)) {
        return (IdleVerdict::Active, format!("{}: {}", word.probe, word.detail));
    }
    if let Some(word) = find(|says| matches!(says, Says::Unknown { .. })) {
        let why = format!("unknown is not idle; {}: {}", word.probe, word.detail);
        return (IdleVerdict::Unknown, why);
    }
    if find(|says| matches!(says, Says::NotAsked)).is_some() {
        let why = "all else says idle; its host is asked".to_owned();
        return (IdleVerdict::AskHost, why);
    }
    let enough = add(since, after);
    let detail: Vec<&str> = words.iter().map(|word| word.detail.as_str()).collect();
    let detail = match detail.as_slice() {
        [] => String::new(),
        some => format!(" ({})", some.join("; ")),
    };
    if now >= enough {
        (IdleVerdict::Idle, format!("idle since {since:.0}, for {after} or longer{detail}"))
    } else {
        let why = format!("idle since {since:.0}, not yet for {after}{detail}");
        (IdleVerdict::NotYet, why)
    }
}

/// A count that runs, and an unreachable backend's limit, are looked after without a tick.
fn next_look(
    spec: &IdleSpec,
    memory: &IdleMemory,
    verdict: IdleVerdict,
    since: Timestamp,
    after: HumanDuration,
    now: Timestamp,
) -> Option<Timestamp> {
    let own = later(now, IDLE_LOOK_SECONDS).min(add(now, after));
    let counts = verdict == IdleVerdict::NotYet && !memory.streaks.is_empty();
    let count = counts.then(|| own.min(add(since, after)));
    let limit = spec
        .unreachable_after
        .zip(memory.unreachable_since)
        .map(|(limit, since)| add(since, limit))
        .filter(|at| *at > now);
    [count, limit].into_iter().flatten().min()
}

fn remember_reach(memory: &mut IdleMemory, words: &[ProbeWord], at: Timestamp) {
    if words.iter().any(|word| word.says == Says::Unknown { unreachable: true }) {
        memory.unreachable_since = memory.unreachable_since.or(Some(at));
    } else {
        memory.unreachable_since = None;
        memory.unreachable_said_at = None;
    }
}

fn read(
    probe: &Probe,
    reading: Option<&Reading>,
    memory: &mut IdleMemory,
    at: Timestamp,
    after: HumanDuration,
    over: IdleOverride,
) -> ProbeWord {
    let label = probe.label();
    let host = match probe {
        Probe::Command(_) => memory.host.clone().filter(|host| is_fresh(host, at)),
        Probe::Http(_) | Probe::Metric(_) => None,
    };
    let reading = reading.or(host.as_ref().map(|host| &host.reading));
    let mut level = None;
    let (says, detail) = match (probe, reading) {
        (_, Some(Reading::Unknown { detail, unreachable })) => {
            (Says::Unknown { unreachable: *unreachable }, detail.clone())
        }
        (
            Probe::Http(http),
            Some(Reading::Number { value, asked_at, answered_at, ahead_millis }),
        ) => {
            let number = Number {
                value: *value,
                asked_at: *asked_at,
                answered_at: *answered_at,
                ahead_millis: ahead_millis.unwrap_or(0),
            };
            read_number(http, &label, &number, memory)
        }
        (Probe::Metric(metric), Some(Reading::Series { values })) => {
            let look_back = over
                .look_back_seconds
                .and_then(HumanDuration::from_seconds)
                .or(metric.look_back)
                .unwrap_or(after);
            read_series(metric, values, look_back, at, &mut level)
        }
        (Probe::Command(command), Some(Reading::Exit { code, output })) => {
            read_exit(command.reads, *code, output)
        }
        (Probe::Command(_), None) => (Says::NotAsked, "its host was not asked yet".to_owned()),
        _ => {
            let detail = "its answer is of another sort than its question".to_owned();
            (Says::Unknown { unreachable: false }, detail)
        }
    };
    // Those that know only the moment say `IdleSince(at)`; their memory says since when really.
    let says = match knows_only_the_moment(probe) {
        true => keep_streak(memory, &label, says, at, after),
        false => says,
    };
    ProbeWord { probe: label, says, detail, level }
}

/// The host's word serves both rounds of one judgement, and no later one.
fn is_fresh(host: &HostReading, at: Timestamp) -> bool {
    at <= later(host.at, HOST_READING_SECONDS)
}

fn knows_only_the_moment(probe: &Probe) -> bool {
    match probe {
        Probe::Http(http) => http.reads == HttpReads::Count,
        Probe::Metric(_) => false,
        Probe::Command(_) => true,
    }
}

fn keep_streak(
    memory: &mut IdleMemory,
    label: &str,
    says: Says,
    at: Timestamp,
    after: HumanDuration,
) -> Says {
    match says {
        Says::IdleSince(_) => {
            let known = memory.streaks.get(label).copied();
            let since = known
                .filter(|streak| {
                    at <= later(streak.read_at, GAP_SECONDS_MAX).max(add(streak.read_at, after))
                })
                .map_or(at, |streak| streak.since);
            memory.streaks.insert(label.to_owned(), Streak { since, read_at: at });
            Says::IdleSince(since)
        }
        // Not being asked is no answer: the count goes on if the next one comes soon enough.
        Says::NotAsked => says,
        broken => {
            memory.streaks.remove(label);
            broken
        }
    }
}

struct Number {
    value: f64,
    asked_at: Timestamp,
    answered_at: Timestamp,
    ahead_millis: i64,
}

fn unknown(detail: impl Into<String>) -> (Says, String) {
    (Says::Unknown { unreachable: false }, detail.into())
}

fn read_number(
    http: &HttpProbe,
    label: &str,
    number: &Number,
    memory: &mut IdleMemory,
) -> (Says, String) {
    let reported = match http.reads {
        HttpReads::Count => {
            return match number.value {
                0.0 => (Says::IdleSince(number.asked_at), "it counts 0".to_owned()),
                count if count > 0.0 => (Says::Active, format!("it counts {count}")),
                count => unknown(format!("it counts {count}, which is no count")),
            };
        }
        HttpReads::IdleSeconds => {
            if !(0.0..=EPOCH_SECONDS_MAX).contains(&number.value) {
                return unknown(format!("it says idle for {} s, which is no time", number.value));
            }
            millis_before(number.answered_at, number.value * 1000.0)
        }
        HttpReads::Epoch => match epoch(number.value) {
            Ok(at) => {
                at.saturating_sub(SignedDuration::from_millis(number.ahead_millis)).unwrap_or(at)
            }
            Err(problem) => return unknown(problem),
        },
    };
    let tolerance = SignedDuration::from_millis(OWN_PROBE_MILLIS);
    if reported > number.answered_at.saturating_add(tolerance).unwrap_or(Timestamp::MAX) {
        return unknown(format!(
            "it reports an activity at {reported:.0}, which is ahead of now: its clock or ours is wrong"
        ));
    }
    if !http.ignore_own {
        return (Says::IdleSince(reported), format!("last activity at {reported:.0}"));
    }
    let (own, word) = without_own(memory.own.get(label).copied(), number, reported);
    match own {
        Some(own) => memory.own.insert(label.to_owned(), own),
        None => None,
    };
    word
}

/// Takes our own requests out of what a backend reports. The memory changes only while it must.
fn without_own(
    before: Option<OwnProbe>,
    number: &Number,
    reported: Timestamp,
) -> (Option<OwnProbe>, (Says, String)) {
    let within = |from: Timestamp, until: Timestamp| {
        let tolerance = SignedDuration::from_millis(OWN_PROBE_MILLIS);
        let from = from.saturating_sub(tolerance).unwrap_or(Timestamp::MIN);
        let until = until.saturating_add(tolerance).unwrap_or(Timestamp::MAX);
        (from..=until).contains(&reported)
    };
    let seen = (Says::IdleSince(reported), format!("last activity at {reported:.0}"));
    if before.is_some_and(|own| own.marks == Some(false)) {
        return (None, seen);
    }
    let this = |real, marks| {
        let (asked_at, answered_at) = (number.asked_at, number.answered_at);
        Some(OwnProbe { asked_at, answered_at, said: reported, real, marks })
    };
    // The last probe's before this one's: two rounds may follow each other within the tolerance.
    if let Some(own) = before.filter(|own| within(own.asked_at, own.answered_at)) {
        let real = own.real.unwrap_or(own.asked_at);
        let detail = format!("last activity at {real:.0}; that at {reported:.0} was our own probe");
        return (this(own.real, Some(true)), (Says::IdleSince(real), detail));
    }
    if within(number.asked_at, number.answered_at) {
        // Or somebody's use just then: a later probe that meets this one's time must not take it for ours,
        // and look past it at something older.
        let real = Some(number.asked_at);
        let detail = format!(
            "last activity at {reported:.0}, while it was being asked: somebody is there, or it marks the probe \
             before it answers, and then nothing of others' is left to see"
        );
        return (this(real, before.and_then(|own| own.marks)), (Says::Active, detail));
    }
    let unmoved = before.is_some_and(|own| {
        own.said.duration_since(reported).as_millis().abs() <= i128::from(OWN_PROBE_MILLIS)
    });
    let marks = match (before.and_then(|own| own.marks), unmoved) {
        (Some(true), _) => Some(true),
        (_, true) => Some(false),
        (known, false) => known,
    };
    (this(Some(reported), marks), seen)
}

fn millis_before(at: Timestamp, millis: f64) -> Timestamp {
    // Bounded by the caller, so it fits.
    #[allow(clippy::cast_possible_truncation)]
    at.saturating_sub(SignedDuration::from_millis(millis as i64)).unwrap_or(Timestamp::MIN)
}

/// Epoch seconds; a missing field that somebody read as 0 is no time.
fn epoch(seconds: f64) -> Result<Timestamp, String> {
    if !(EPOCH_SECONDS_MIN..EPOCH_SECONDS_MAX).contains(&seconds) {
        return Err(format!("{seconds} is no time of our days in epoch seconds"));
    }
    #[allow(clippy::cast_possible_truncation)]
    Timestamp::from_millisecond((seconds * 1000.0) as i64)
        .map_err(|_| format!("{seconds} is no time"))
}

fn read_series(
    metric: &MetricProbe,
    values: &[f64],
    look_back: HumanDuration,
    at: Timestamp,
    level: &mut Option<f64>,
) -> (Says, String) {
    let period = u64::from(metric.period_seconds.max(1));
    let expected = usize::try_from((look_back.seconds() / period).max(1)).unwrap_or(usize::MAX);
    if values.is_empty() {
        return unknown(format!("it has no data within {look_back}"));
    }
    match metric.reads {
        MetricReads::Epoch => {
            let latest = values.iter().copied().fold(f64::MIN, f64::max);
            match epoch(latest) {
                Ok(last) if last > later(at, OWN_PROBE_MILLIS / 1000) => {
                    unknown(format!("it reports an activity at {last:.0}, which is ahead of now"))
                }
                Ok(last) => (Says::IdleSince(last), format!("last activity at {last:.0}")),
                Err(problem) => unknown(problem),
            }
        }
        MetricReads::IdleWhen(condition) => {
            // Data comes late by a period or two, so half of them is enough.
            if values.len() * 2 < expected {
                return unknown(format!(
                    "too little data: {} of {expected} periods within {look_back}",
                    values.len()
                ));
            }
            let value = aggregate(metric.statistic, values);
            *level = Some(value);
            let detail = format!("{} over {look_back} is {value}", metric.statistic.as_str());
            match condition.holds(value) {
                true => (Says::IdleOverLookBack, detail),
                false => (Says::Active, format!("{detail}, not {condition}")),
            }
        }
    }
}

fn aggregate(statistic: Statistic, values: &[f64]) -> f64 {
    match statistic {
        Statistic::Maximum => values.iter().copied().fold(f64::MIN, f64::max),
        Statistic::Minimum => values.iter().copied().fold(f64::MAX, f64::min),
        Statistic::Sum | Statistic::SampleCount => values.iter().sum(),
        #[allow(clippy::cast_precision_loss)]
        Statistic::Average => values.iter().sum::<f64>() / values.len() as f64,
    }
}

fn read_exit(reads: CommandReads, code: i64, output: &str) -> (Says, String) {
    // Any time: the streak knows better.
    let idle = Says::IdleSince(Timestamp::MIN);
    match (reads, code) {
        (CommandReads::ExitCode, 0) => (idle, "its command exited with 0".to_owned()),
        (CommandReads::ExitCode, 1) => (Says::Active, "its command exited with 1".to_owned()),
        (CommandReads::Number(condition), 0) => {
            let said: String =
                output.trim().lines().next().unwrap_or("").chars().take(40).collect();
            match said.trim().parse::<f64>() {
                Ok(value) if value.is_finite() && condition.holds(value) => {
                    (idle, format!("its command says {value}"))
                }
                Ok(value) if value.is_finite() => {
                    (Says::Active, format!("its command says {value}, not {condition}"))
                }
                _ => unknown(format!("its command says {said:?}, which is no number")),
            }
        }
        (_, code) => unknown(format!("its command exited with {code}")),
    }
}

#[cfg(test)]
#[path = "tests/idle.rs"]
mod tests;
