//! Idleness: what the answers of a policy's probes mean.
//!
//! *Theory.* All probes must say idle for `after`, inclusive, without a break. Each says one of: idle since a
//! time; idle over its whole look-back (which is its own, and so bounds nothing else); idle at this moment, and
//! then the memory knows since when without a break; active; unknown. *Unknown is not idle.* Idleness never
//! counts from before the floor: the target's readiness and its grace, the latest start, the latest keep-alive.
//!
//! *Each word has an end.* A probe knows nothing of what came after its word's `until`: a metric's newest values are
//! on their way still (`series`), and an answer may show nothing but our own request (`own`). Idleness is known from
//! `since`, the latest beginning of all words, until the earliest of their ends, and that stretch must be `after` long.
//! How far an end may lie back is bounded where the word is made; beyond that it is unknown.
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
    CLEAR_SECONDS, EPOCH_SECONDS_MAX, GAP_SECONDS_MAX, HOST_READING_SECONDS, IDLE_LOOK_SECONDS,
    OWN_LOOK_SECONDS, OWN_PROBE_MILLIS,
};
use crate::own::{Asked, OwnProbe, OwnRequests, Shown};
use crate::probe::{
    CommandReads, HttpProbe, HttpReads, IdleOverride, IdleSpec, Probe, Reading, Round,
};
use crate::series;
use crate::series::{Silence, epoch};
use crate::time::{add, later};

/// Since when a probe that knows only the moment has said idle without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streak {
    /// Its first reading.
    pub since: Timestamp,
    /// Its last one.
    pub read_at: Timestamp,
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
    /// By the probe's label, as the previous release wrote it; the next round takes it over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub own: BTreeMap<String, OwnProbe>,
    /// Our own requests to its addresses.
    #[serde(default, skip_serializing_if = "OwnRequests::is_empty")]
    pub requests: OwnRequests,
    /// Since when a backend could not be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_since: Option<Timestamp>,
    /// When that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_said_at: Option<Timestamp>,
    /// When it was said that a metric's publisher is silent, until it is heard again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_said_at: Option<Timestamp>,
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
    /// It knows nothing of what came later.
    pub until: Timestamp,
    /// Its answer may show only our own requests, and the last one that showed more is too old: it is to be asked
    /// again, before the others.
    pub ask_first: bool,
    /// For people.
    pub detail: String,
    /// The value over the look-back, of a metric with a condition.
    pub level: Option<f64>,
    /// Whether the metric's publisher is heard, where CloudWatch answered.
    silence: Option<Silence>,
}

impl ProbeWord {
    fn tells_of_use(&self, after: HumanDuration) -> bool {
        match self.says {
            Says::Active => true,
            Says::IdleSince(at) => add(at, after) > self.until,
            Says::IdleOverLookBack | Says::Unknown { .. } | Says::NotAsked => false,
        }
    }
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
    /// Until when that is known.
    pub until: Timestamp,
    /// How long it must be.
    pub after: HumanDuration,
    /// Each probe's word.
    pub words: Vec<ProbeWord>,
    /// What is to be remembered.
    pub memory: IdleMemory,
    /// The backend could not be reached for longer than the policy's limit.
    pub unreachable_for_long: bool,
    /// Another probe tells of use that is not as old as the policy asks.
    pub is_used: bool,
    /// A metric's publisher has been silent for longer than its values can be late.
    pub silent_for_long: bool,
}

impl Judged {
    /// Which metric is silent, as a sentence.
    pub fn silence(&self) -> String {
        let silent = self.words.iter().find(|word| word.silence == Some(Silence::Long));
        silent.map(|word| format!("{} is silent: {}", word.probe, word.detail)).unwrap_or_default()
    }
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
    let floor = spec.grace.map_or(floor, |grace| add(floor, grace));
    let mut words = Vec::new();
    for round in rounds {
        let own = remember_requests(spec, &mut memory, round);
        let look = Look { spec, at: round.at, own, after, over, floor };
        words = spec
            .probes
            .iter()
            .zip(&round.readings)
            .map(|(probe, reading)| look.read(probe, reading.as_ref(), &mut memory))
            .collect();
        remember_reach(&mut memory, &words, round.at);
        remember_silence(&mut memory, &words);
    }
    let since = words
        .iter()
        .filter_map(|word| match word.says {
            Says::IdleSince(at) => Some(at),
            _ => None,
        })
        .fold(floor, Timestamp::max);
    let until = words.iter().map(|word| word.until).fold(now, Timestamp::min);
    let span = Span { since, until, after, now };
    let (verdict, why) = conclude(&words, span);
    let idle = matches!(verdict, IdleVerdict::Idle | IdleVerdict::NotYet);
    memory.look_at = next_look(spec, &memory, &words, verdict, span);
    let limit = spec.unreachable_after.zip(memory.unreachable_since);
    Judged {
        unreachable_for_long: limit.is_some_and(|(limit, since)| now >= add(since, limit)),
        is_used: words.iter().any(|word| word.tells_of_use(after)),
        silent_for_long: words.iter().any(|word| word.silence == Some(Silence::Long)),
        since: idle.then_some(since),
        until,
        verdict,
        why,
        after,
        words,
        memory,
    }
}

/// Remembers a round's requests, of a round that is not judged: what they were told, and that they were ours.
pub fn remember_requests(
    spec: &IdleSpec,
    memory: &mut IdleMemory,
    round: &Round,
) -> Option<Timestamp> {
    let asked: Vec<Asked> = spec
        .probes
        .iter()
        .zip(&round.readings)
        .filter_map(|(probe, reading)| match (probe, reading) {
            (Probe::Http(http), Some(Reading::Number { .. })) => {
                let number = Number::of(reading.as_ref()?)?;
                let said = reported(http, &number).ok().filter(|_| http.ignore_own);
                let Number { asked_at, answered_at, .. } = number;
                Some(Asked { label: probe.label(), asked_at, answered_at, said })
            }
            _ => None,
        })
        .collect();
    if !asked.is_empty() {
        for (label, old) in std::mem::take(&mut memory.own) {
            memory.requests.take_over(&label, old);
        }
    }
    memory.requests.add(&asked)
}

/// The stretch of idleness that is known, and how long it must be.
#[derive(Clone, Copy)]
struct Span {
    since: Timestamp,
    until: Timestamp,
    after: HumanDuration,
    now: Timestamp,
}

impl Span {
    fn enough(self) -> Timestamp {
        add(self.since, self.after)
    }
    /// Long enough if what is not known was idle too.
    fn may_be_enough(self) -> bool {
        self.now >= self.enough()
    }
}

fn conclude(words: &[ProbeWord], span: Span) -> (IdleVerdict, String) {
    let find = |which: fn(&ProbeWord) -> bool| words.iter().find(|word| which(word));
    if let Some(word) = find(|word| matches!(word.says, Says::Active)) {
        return (IdleVerdict::Active, format!("{}: {}", word.probe, word.detail));
    }
    if let Some(word) = find(|word| matches!(word.says, Says::Unknown { .. })) {
        let why = format!("unknown is not idle; {}: {}", word.probe, word.detail);
        return (IdleVerdict::Unknown, why);
    }
    if find(|word| matches!(word.says, Says::NotAsked)).is_some() {
        let why = "all else says idle; its host is asked".to_owned();
        return (IdleVerdict::AskHost, why);
    }
    let Span { since, until, after, now } = span;
    if let Some(word) = find(|word| word.ask_first).filter(|_| span.may_be_enough()) {
        let why = format!(
            "idle since {since:.0}; {} is asked first next time: {}",
            word.probe, word.detail
        );
        return (IdleVerdict::NotYet, why);
    }
    let detail: Vec<&str> = words.iter().map(|word| word.detail.as_str()).collect();
    let detail = match detail.as_slice() {
        [] => String::new(),
        some => format!(" ({})", some.join("; ")),
    };
    let known = match later(until, 1) < now {
        true => format!(", known until {until:.0}"),
        false => String::new(),
    };
    if until >= span.enough() {
        (IdleVerdict::Idle, format!("idle since {since:.0}{known}, for {after} or longer{detail}"))
    } else {
        (IdleVerdict::NotYet, format!("idle since {since:.0}{known}, not yet for {after}{detail}"))
    }
}

/// A count that runs, a probe that is to be asked first, and an unreachable backend's limit are looked after without
/// a tick.
fn next_look(
    spec: &IdleSpec,
    memory: &IdleMemory,
    words: &[ProbeWord],
    verdict: IdleVerdict,
    span: Span,
) -> Option<Timestamp> {
    let now = span.now;
    let own = later(now, IDLE_LOOK_SECONDS).min(add(now, span.after));
    let counts = verdict == IdleVerdict::NotYet && !memory.streaks.is_empty();
    // Knowledge follows the time at its distance.
    let behind = now.duration_since(span.until);
    let enough = span.enough().saturating_add(behind).unwrap_or(Timestamp::MAX);
    let count = counts.then(|| own.min(enough));
    let first = verdict == IdleVerdict::NotYet
        && span.may_be_enough()
        && words.iter().any(|word| word.ask_first);
    let first = first.then(|| later(now, OWN_LOOK_SECONDS));
    let limit = spec
        .unreachable_after
        .zip(memory.unreachable_since)
        .map(|(limit, since)| add(since, limit))
        .filter(|at| *at > now);
    [count, first, limit].into_iter().flatten().min()
}

fn remember_reach(memory: &mut IdleMemory, words: &[ProbeWord], at: Timestamp) {
    if words.iter().any(|word| word.says == Says::Unknown { unreachable: true }) {
        memory.unreachable_since = memory.unreachable_since.or(Some(at));
    } else {
        memory.unreachable_since = None;
        memory.unreachable_said_at = None;
    }
}

/// It is said once, and once more when it was heard in between.
fn remember_silence(memory: &mut IdleMemory, words: &[ProbeWord]) {
    let heard = words.iter().filter_map(|word| word.silence);
    let silent = words.iter().any(|word| !matches!(word.silence, None | Some(Silence::None)));
    // Where CloudWatch did not answer, nothing is known of it.
    if heard.count() > 0 && !silent {
        memory.silent_said_at = None;
    }
}

/// One round, while it is read.
struct Look<'a> {
    spec: &'a IdleSpec,
    at: Timestamp,
    /// When its first HTTP probe was asked.
    own: Option<Timestamp>,
    after: HumanDuration,
    over: IdleOverride,
    floor: Timestamp,
}

impl Look<'_> {
    fn read(&self, probe: &Probe, reading: Option<&Reading>, memory: &mut IdleMemory) -> ProbeWord {
        let host = match probe {
            Probe::Command(_) => memory.host.clone().filter(|host| is_fresh(host, self.at)),
            Probe::Http(_) | Probe::Metric(_) => None,
        };
        let mut word = ProbeWord {
            probe: probe.label(),
            says: Says::NotAsked,
            until: self.at,
            ask_first: false,
            detail: String::new(),
            level: None,
            silence: None,
        };
        let reading = reading.or(host.as_ref().map(|host| &host.reading));
        (word.says, word.detail) = match (probe, reading) {
            (_, Some(Reading::Unknown { detail, unreachable })) => {
                (Says::Unknown { unreachable: *unreachable }, detail.clone())
            }
            (Probe::Http(http), Some(reading @ Reading::Number { .. })) => {
                match Number::of(reading) {
                    Some(number) => self.read_number(http, &number, &memory.requests, &mut word),
                    None => unknown("it is no number"),
                }
            }
            (Probe::Metric(metric), Some(Reading::Series { points })) => {
                let look_back = self
                    .over
                    .look_back_seconds
                    .and_then(HumanDuration::from_seconds)
                    .or(metric.look_back)
                    .unwrap_or(self.after);
                let judged = series::judge(metric, points, look_back, self.floor, self.at);
                (word.until, word.level) = (judged.until.min(self.at), judged.level);
                word.silence = Some(judged.silence);
                let says = match judged.verdict {
                    series::Verdict::IdleSince(since) => Says::IdleSince(since),
                    series::Verdict::IdleOverLookBack => Says::IdleOverLookBack,
                    series::Verdict::Active => Says::Active,
                    series::Verdict::Unknown => Says::Unknown { unreachable: false },
                };
                (says, judged.detail)
            }
            (Probe::Command(command), Some(Reading::Exit { code, output })) => {
                read_exit(command.reads, *code, output)
            }
            (Probe::Command(_), None) => (Says::NotAsked, "its host was not asked yet".to_owned()),
            _ => unknown("its answer is of another sort than its question"),
        };
        // Those that know only the moment say `IdleSince(at)`; their memory says since when really.
        if knows_only_the_moment(probe) {
            word.says = keep_streak(memory, &word.probe, word.says, self.at, self.after);
        }
        word
    }

    fn read_number(
        &self,
        http: &HttpProbe,
        number: &Number,
        requests: &OwnRequests,
        word: &mut ProbeWord,
    ) -> (Says, String) {
        if http.reads == HttpReads::Count {
            return match number.value {
                0.0 => (Says::IdleSince(number.asked_at), "it counts 0".to_owned()),
                count if count > 0.0 => (Says::Active, format!("it counts {count}")),
                count => unknown(format!("it counts {count}, which is no count")),
            };
        }
        let reported = match reported(http, number) {
            Ok(reported) => reported,
            Err(problem) => return unknown(problem),
        };
        let seen = (Says::IdleSince(reported), format!("last activity at {reported:.0}"));
        if !http.ignore_own || requests.is_unmarked(&word.probe) {
            return seen;
        }
        let shown = self.own.and_then(|from| requests.shown(&word.probe, from));
        match shown {
            Some(Shown::Use(_)) | None => seen,
            Some(Shown::JustNow) => {
                let detail = format!(
                    "last activity at {reported:.0}, while it was being asked: somebody is there, or it counts the \
                     probe before it answers, and then nothing of others' is left to see"
                );
                (Says::Active, detail)
            }
            Some(Shown::Ours { use_before }) => {
                let detail = format!(
                    "last activity at {use_before:.0}; that at {reported:.0} was our own request"
                );
                (Says::IdleSince(use_before), detail)
            }
            Some(Shown::Blurred { use_before, clear_at }) => {
                word.until = clear_at.unwrap_or(Timestamp::MIN);
                word.ask_first = later(word.until, self.clear_seconds()) < self.at;
                let detail = format!(
                    "last activity at {use_before:.0}; that at {reported:.0} may be our own request just before"
                );
                (Says::IdleSince(use_before), detail)
            }
        }
    }

    /// How old the last answer of an HTTP probe that showed more than our own request may be.
    fn clear_seconds(&self) -> i64 {
        let http = self.spec.probes.iter().filter(|probe| matches!(probe, Probe::Http(_)));
        i64::try_from(http.count()).unwrap_or(i64::MAX).saturating_mul(CLEAR_SECONDS)
    }
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
        Says::IdleSince(asked_at) => {
            let known = memory.streaks.get(label).copied();
            let since = known
                .filter(|streak| {
                    at <= later(streak.read_at, GAP_SECONDS_MAX).max(add(streak.read_at, after))
                })
                .map_or(asked_at.max(at), |streak| streak.since);
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

impl Number {
    fn of(reading: &Reading) -> Option<Self> {
        match reading {
            Reading::Number { value, asked_at, answered_at, ahead_millis } => Some(Self {
                value: *value,
                asked_at: *asked_at,
                answered_at: *answered_at,
                ahead_millis: ahead_millis.unwrap_or(0),
            }),
            _ => None,
        }
    }
}

fn unknown(detail: impl Into<String>) -> (Says, String) {
    (Says::Unknown { unreachable: false }, detail.into())
}

/// The time of the latest activity, by our clock; or why it is none.
fn reported(http: &HttpProbe, number: &Number) -> Result<Timestamp, String> {
    let reported = match http.reads {
        HttpReads::Count => return Err("it is a count".to_owned()),
        HttpReads::IdleSeconds => {
            if !(0.0..=EPOCH_SECONDS_MAX).contains(&number.value) {
                return Err(format!("it says idle for {} s, which is no time", number.value));
            }
            millis_before(number.answered_at, number.value * 1000.0)
        }
        HttpReads::Epoch => {
            let at = epoch(number.value)?;
            at.saturating_sub(SignedDuration::from_millis(number.ahead_millis)).unwrap_or(at)
        }
    };
    let tolerance = SignedDuration::from_millis(OWN_PROBE_MILLIS);
    if reported > number.answered_at.saturating_add(tolerance).unwrap_or(Timestamp::MAX) {
        return Err(format!(
            "it reports an activity at {reported:.0}, which is ahead of now: its clock or ours is wrong"
        ));
    }
    Ok(reported)
}

fn millis_before(at: Timestamp, millis: f64) -> Timestamp {
    // Bounded by the caller, so it fits.
    #[allow(clippy::cast_possible_truncation)]
    at.saturating_sub(SignedDuration::from_millis(millis as i64)).unwrap_or(Timestamp::MIN)
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
