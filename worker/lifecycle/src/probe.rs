//! Idle policies and their probes: what is asked, and what was answered, as data.
//!
//! *Theory.* A policy is any number of probes, all of which must say idle. A probe either *reports a time*
//! (an HTTP address, a metric that holds epoch seconds), and then idleness counts from that time; or it has a
//! *look-back* (a metric with a condition), which is how long back it must have been idle; or it knows only
//! *this moment* (a count, an exit code), and then the record remembers since when it has said idle without
//! a break. What the answers mean is in `idle`; here they are only given names.
//!
//! *Not here.* How a probe is asked: the adapters.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lamplighter_events::HumanDuration;
use serde::{Deserialize, Serialize};

use crate::address::HealthUrl;
use crate::resource::Resource;

/// When a target counts as idle.
#[derive(Debug, Clone, PartialEq)]
pub struct IdleSpec {
    /// How long everything must have been idle (inclusive).
    pub after: HumanDuration,
    /// Idleness counts from this long after the target was ready.
    pub grace: Option<HumanDuration>,
    /// What is asked. All must say idle. Without any, it is idle when nobody keeps it alive.
    pub probes: Vec<Probe>,
    /// A backend that cannot be reached for longer than this raises `Attention`.
    pub unreachable_after: Option<HumanDuration>,
    /// And is then stopped.
    pub stop_unreachable: bool,
}

impl IdleSpec {
    /// A policy without probes.
    pub fn after(after: HumanDuration) -> Self {
        Self {
            after,
            grace: None,
            probes: Vec::new(),
            unreachable_after: None,
            stop_unreachable: false,
        }
    }
    /// The command on the host, where there is one.
    pub fn host_command(&self) -> Option<&CommandProbe> {
        self.probes.iter().find_map(|probe| match probe {
            Probe::Command(command) => Some(command),
            Probe::Http(_) | Probe::Metric(_) => None,
        })
    }
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// An address that answers JSON.
    Http(HttpProbe),
    /// A CloudWatch metric.
    Metric(MetricProbe),
    /// A command on the host, by SSM. At most one a policy.
    Command(CommandProbe),
}

impl Probe {
    /// Its name: the key of what is remembered of it, and what people read.
    pub fn label(&self) -> String {
        match self {
            Self::Http(http) => format!("http {}", http.url.as_str()),
            Self::Metric(metric) => format!("metric {}/{}", metric.namespace, metric.name),
            Self::Command(_) => "command".to_owned(),
        }
    }
}

/// What the number at the pointer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpReads {
    /// The time of the last activity, epoch seconds.
    Epoch,
    /// How long it has been idle, seconds.
    IdleSeconds,
    /// How many are at work: idle is 0.
    Count,
}

/// An HTTP probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// Where to ask, with `{private_ip}` and `{public_ip}` to be filled in.
    pub url: HealthUrl,
    /// RFC 6901 pointer to a number in the answer.
    pub pointer: String,
    /// What the number is.
    pub reads: HttpReads,
    /// What the probe itself causes there is no activity (SEEDS.md: compare with the last probe's time).
    pub ignore_own: bool,
}

/// CloudWatch's statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Statistic {
    Average,
    Maximum,
    Minimum,
    Sum,
    SampleCount,
}

impl Statistic {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Average, Self::Maximum, Self::Minimum, Self::Sum, Self::SampleCount];
    /// CloudWatch's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Average => "Average",
            Self::Maximum => "Maximum",
            Self::Minimum => "Minimum",
            Self::Sum => "Sum",
            Self::SampleCount => "SampleCount",
        }
    }
    /// CloudWatch's word, read.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// A comparison with a number, as `"== 0"` or `"< 5"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    comparison: Comparison,
    number: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    /// What is taken, in words.
    pub const EXPECTED: &str = "a comparison with a number, such as \"== 0\" or \"< 5\"";

    /// Takes `==`, `!=`, `<`, `<=`, `>` or `>=` and a finite number.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (comparison, number) = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ]
        .into_iter()
        .find_map(|(mark, comparison)| Some((comparison, text.strip_prefix(mark)?)))?;
        let number: f64 = number.trim().parse().ok()?;
        number.is_finite().then_some(Self { comparison, number })
    }

    /// Whether a value fulfils it.
    pub fn holds(self, value: f64) -> bool {
        match self.comparison {
            Comparison::Equal => value == self.number,
            Comparison::NotEqual => value != self.number,
            Comparison::Less => value < self.number,
            Comparison::LessOrEqual => value <= self.number,
            Comparison::Greater => value > self.number,
            Comparison::GreaterOrEqual => value >= self.number,
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark = match self.comparison {
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        };
        write!(f, "{mark} {}", self.number)
    }
}

/// What a metric says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricReads {
    /// Idle where its value over the look-back fulfils this.
    IdleWhen(Condition),
    /// Its largest value is the time of the last activity, epoch seconds.
    Epoch,
}

/// What a period without a point means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Its publisher may be dead, so nothing is known.
    Unknown,
    /// Idleness: the metric is published only while there is something to count.
    Idle,
}

/// A CloudWatch probe.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricProbe {
    /// The namespace.
    pub namespace: String,
    /// The metric's name.
    pub name: String,
    /// By which it is told from others of its name, with `{instance_id}`, `{cluster}` and `{service}` filled in.
    pub dimensions: BTreeMap<String, String>,
    /// How the values of a period become one.
    pub statistic: Statistic,
    /// The length of a period, seconds.
    pub period_seconds: u32,
    /// How far back it is read; the policy's `after` where it says nothing.
    pub look_back: Option<HumanDuration>,
    /// How late its values arrive, at most.
    pub lag: HumanDuration,
    /// What a period without a point means.
    pub missing: Missing,
    /// What it says.
    pub reads: MetricReads,
}

/// What a command on the host says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CommandReads {
    /// Idle where it exits with 0, active with 1; anything else is unknown.
    ExitCode,
    /// Idle where the number that it prints fulfils this.
    Number(Condition),
}

/// A command on the host: text of the fleet file, never of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandProbe {
    /// The shell script.
    pub script: String,
    /// What it says.
    pub reads: CommandReads,
    /// It is ended after this long, seconds.
    pub timeout_seconds: u32,
}

/// A metric's value of one period.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When its period begins.
    pub at: Timestamp,
    /// The statistic of what was published for that period so far.
    pub value: f64,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reading", rename_all = "kebab-case")]
pub enum Reading {
    /// The number at an HTTP probe's pointer.
    Number {
        /// The number.
        value: f64,
        /// Just before it was asked, by our clock.
        asked_at: Timestamp,
        /// Just after it had answered, by our clock.
        answered_at: Timestamp,
        /// How far the backend's clock is ahead of ours, milliseconds, as its `Date` told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ahead_millis: Option<i64>,
    },
    /// A metric's points, newest first; without data there are none.
    Series {
        /// One for each period that has data.
        points: Vec<Point>,
    },
    /// What a command on the host came to.
    Exit {
        /// Its exit code.
        code: i64,
        /// The beginning of what it printed.
        output: String,
    },
    /// Nobody knows.
    Unknown {
        /// Why.
        detail: String,
        /// The backend did not answer at all.
        unreachable: bool,
    },
}

/// The answers to all probes of a policy but the host's command, at one time, in their order. (The place of
/// the command holds `None`.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Just before the first was asked, by our clock.
    pub at: Timestamp,
    /// Whose probes they are; absent in a message of the previous release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Resource>,
    /// The caller's own idea of idle, by which it was asked.
    pub over: IdleOverride,
    /// In the order of the policy's probes.
    pub readings: Vec<Option<Reading>>,
}

impl Round {
    /// Whether it tells of this resource. A target may get another one between the question and the pass.
    pub(crate) fn is_of(&self, resource: &Resource) -> bool {
        self.of.as_ref().is_none_or(|of| of == resource)
    }
}

/// Whom to ask what.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbePlan {
    /// Whose probes they are.
    pub resource: Resource,
    /// For `{private_ip}`.
    pub private_ip: Option<String>,
    /// For `{public_ip}`.
    pub public_ip: Option<String>,
    /// The policy's probes, each metric with the look-back that counts.
    pub probes: Vec<Probe>,
    /// The places of the HTTP probes in `probes`, in the order in which they are asked. Each is asked when the one
    /// before it has answered: an answer shows whose requests came before it.
    pub http_order: Vec<usize>,
    /// The caller's own idea of idle; it goes into the round.
    pub over: IdleOverride,
}

/// The caller's own idea of idle, from a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleOverride {
    /// In place of the policy's `after`, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_seconds: Option<u64>,
    /// In place of every metric's look-back, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_back_seconds: Option<u64>,
}

impl IdleOverride {
    /// The caller named nothing.
    pub fn is_none(&self) -> bool {
        self.after_seconds.is_none() && self.look_back_seconds.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, value: f64, expected: Option<bool>) {
        assert_eq!(Condition::parse(text).map(|it| it.holds(value)), expected, "{text} {value}");
    }

    #[test]
    fn a_condition_is_a_comparison_with_a_number() {
        check("== 0", 0.0, Some(true));
        check("==0", 0.5, Some(false));
        check("< 5", 4.9, Some(true));
        check("<= 5", 5.0, Some(true));
        check("> 1e3", 1000.0, Some(false));
        check(">= -1", -1.0, Some(true));
        check("!= 2", 2.0, Some(false));
        check("0", 0.0, None);
        check("== NaN", 0.0, None);
        check("< inf", 0.0, None);
        check("=> 1", 0.0, None);
        check("", 0.0, None);
    }
}
