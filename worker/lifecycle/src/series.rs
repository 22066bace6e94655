//! What the points of a metric prove.
//!
//! *Theory.* A point proves that its publisher was alive, and a missing one proves nothing: a machine that is too
//! busy to publish is the busiest of all. So each reading has an end of knowledge, `until`, and idleness is claimed
//! up to there and no further:
//!
//! - A point's value may cover only the first moments of its period, so knowledge ends at the *beginning* of the
//!   newest point: whoever published that has published everything before it. A period is complete when a later one
//!   has a point.
//! - Points arrive late and out of order, by at most the metric's `lag`. A period that ended less than `lag` ago may
//!   lack some of its values, so knowledge never reaches into it.
//! - The end of knowledge must be recent. A publisher that is alive has a point in each period, visible after `lag` at
//!   the latest, so knowledge is never older than `lag` and two periods. Where it is, the publisher is silent, and
//!   the reading is unknown.
//! - The look-back ends where knowledge ends, and begins its own length earlier. A hole of one period in ten is
//!   tolerated there, no two of them side by side and none in its last `lag`, where it may be a late point: a publisher
//!   whose interval is a little longer than the period leaves such holes, and loses nothing.
//!
//! Younger points prove no idleness, but they can refute it: the condition must also hold over the look-back that ends
//! now.
//!
//! *What may be missed.* Use after `until`: at most `lag` and two periods. Use that no point covers: a silence of
//! the publisher that leaves a point in every second period, which is shorter than three periods. Use of a metric
//! whose `missing` is `idle` while its publisher is dead: that is what the key says.
//!
//! *Invariant.* Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use lamplighter_events::HumanDuration;

use crate::limits::{EPOCH_SECONDS_MAX, EPOCH_SECONDS_MIN, OWN_PROBE_MILLIS};
use crate::probe::{MetricProbe, MetricReads, Missing, Point, Statistic};
use crate::time::later;

/// One in so many periods of a look-back may be without a point.
const HOLES_ONE_IN: usize = 10;

/// What a series says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    IdleSince(Timestamp),
    IdleOverLookBack,
    Active,
    Unknown,
}

/// Whether the publisher is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It is.
    None,
    /// The newest point is too old to prove anything.
    Short,
    /// And it has been for so long that this is no delay.
    Long,
}

/// A series, judged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    /// What was before this is known.
    pub(crate) until: Timestamp,
    pub(crate) silence: Silence,
    pub(crate) detail: String,
    /// The value over the look-back, where there is a condition.
    pub(crate) level: Option<f64>,
}

/// Judges a series that was read at `at`. Holes before `floor` do not matter, since idleness counts from no earlier.
pub(crate) fn judge(
    metric: &MetricProbe,
    points: &[Point],
    look_back: HumanDuration,
    floor: Timestamp,
    at: Timestamp,
) -> Judgement {
    let newest = points.iter().map(|point| point.at).max();
    let complete = begin(later(at, -seconds(metric.lag)), metric.period());
    let until = match metric.missing {
        Missing::Idle => complete,
        Missing::Unknown => newest.map_or(Timestamp::MIN, |newest| newest.min(complete)),
    };
    let silence = silence(metric, newest, look_back, floor, at);
    let (verdict, detail, level) = match metric.reads {
        MetricReads::Epoch => epoch_of(points, look_back, silence, newest, at),
        MetricReads::IdleWhen(_) => {
            value_of(metric, points, look_back, floor.min(at), until, silence, at)
        }
    };
    Judgement { verdict, until, silence, detail, level }
}

fn silence(
    metric: &MetricProbe,
    newest: Option<Timestamp>,
    look_back: HumanDuration,
    floor: Timestamp,
    at: Timestamp,
) -> Silence {
    if metric.missing == Missing::Idle {
        return Silence::None;
    }
    let patience = metric.patience_seconds();
    let oldest = later(at, -metric.span_seconds(look_back));
    let heard = newest.unwrap_or(oldest);
    // A publisher that begins with its machine has as long for its first point.
    match (at > later(heard, patience), at >= later(heard.max(floor), 2 * patience)) {
        (false, _) => Silence::None,
        (true, false) => Silence::Short,
        (true, true) => Silence::Long,
    }
}

type Word = (Verdict, String, Option<f64>);

fn unknown(detail: impl Into<String>) -> Word {
    (Verdict::Unknown, detail.into(), None)
}

fn silent(newest: Option<Timestamp>, look_back: HumanDuration) -> Word {
    match newest {
        None => unknown(format!("it has no data within {look_back}")),
        Some(newest) => unknown(format!(
            "its newest data are of {newest:.0}, and use since then may be unpublished"
        )),
    }
}

fn epoch_of(
    points: &[Point],
    look_back: HumanDuration,
    silence: Silence,
    newest: Option<Timestamp>,
    at: Timestamp,
) -> Word {
    if silence != Silence::None {
        return silent(newest, look_back);
    }
    let Some(latest) = points.iter().map(|point| point.value).reduce(f64::max) else {
        return (Verdict::IdleOverLookBack, format!("no activity within {look_back}"), None);
    };
    match epoch(latest) {
        Ok(last) if last > later(at, OWN_PROBE_MILLIS / 1000) => {
            unknown(format!("it reports an activity at {last:.0}, which is ahead of now"))
        }
        Ok(last) => (Verdict::IdleSince(last), format!("last activity at {last:.0}"), None),
        Err(problem) => unknown(problem),
    }
}

fn value_of(
    metric: &MetricProbe,
    points: &[Point],
    look_back: HumanDuration,
    floor: Timestamp,
    until: Timestamp,
    silence: Silence,
    at: Timestamp,
) -> Word {
    let MetricReads::IdleWhen(condition) = metric.reads else {
        return unknown("it has no condition");
    };
    let period = metric.period();
    let back = seconds(look_back);
    let within = |from: Timestamp, to: Timestamp| -> Vec<f64> {
        let inside = points.iter().filter(|point| from <= point.at && point.at < to);
        inside.map(|point| point.value).collect()
    };
    let value = |values: &[f64]| (!values.is_empty()).then(|| aggregate(metric.statistic, values));
    let told = |value: f64| format!("{} over {look_back} is {value}", metric.statistic.as_str());
    // What is younger than knowledge may refute idleness.
    let lately = value(&within(begin(later(at, -back), period), Timestamp::MAX));
    if let Some(value) = lately.filter(|value| !condition.holds(*value)) {
        return (Verdict::Active, format!("{}, not {condition}", told(value)), Some(value));
    }
    if silence != Silence::None {
        return silent(points.iter().map(|point| point.at).max(), look_back);
    }
    let from = begin(later(until, -back), period);
    let proven = value(&within(from, until));
    if let Some(value) = proven.filter(|value| !condition.holds(*value)) {
        return (Verdict::Active, format!("{}, not {condition}", told(value)), Some(value));
    }
    let level = lately.or(proven);
    match metric.missing {
        Missing::Idle => {}
        Missing::Unknown => {
            let settled = later(until, -seconds(metric.lag));
            if let Some(detail) = too_many_holes(points, from.max(floor), settled, until, period) {
                return (Verdict::Unknown, detail, level);
            }
        }
    }
    let detail = match level {
        Some(value) => told(value),
        None => format!("no data within {look_back}, which counts as idle"),
    };
    (Verdict::IdleOverLookBack, detail, level)
}

/// Why the periods from `from` to `until` do not prove anything, if they do not.
fn too_many_holes(
    points: &[Point],
    from: Timestamp,
    settled: Timestamp,
    until: Timestamp,
    period: i64,
) -> Option<String> {
    let known: BTreeSet<Timestamp> = points.iter().map(|point| begin(point.at, period)).collect();
    let (mut periods, mut holes, mut severe, mut last_is_hole) = (0_usize, 0, false, false);
    // The first period that begins no earlier.
    let mut at = begin(later(from, period - 1), period);
    while at < until {
        let hole = !known.contains(&at);
        periods += 1;
        holes += usize::from(hole);
        severe |= hole && (last_is_hole || later(at, period) > settled);
        last_is_hole = hole;
        at = later(at, period);
    }
    let tolerated = periods / HOLES_ONE_IN;
    (severe || holes > tolerated).then(|| {
        format!("too little data: {holes} of {periods} periods before {until:.0} have none")
    })
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

/// Epoch seconds; a missing field that somebody read as 0 is no time.
pub(crate) fn epoch(seconds: f64) -> Result<Timestamp, String> {
    if !(EPOCH_SECONDS_MIN..EPOCH_SECONDS_MAX).contains(&seconds) {
        return Err(format!("{seconds} is no time of our days in epoch seconds"));
    }
    #[allow(clippy::cast_possible_truncation)]
    Timestamp::from_millisecond((seconds * 1000.0) as i64)
        .map_err(|_| format!("{seconds} is no time"))
}

/// The beginning of the period in which this lies.
fn begin(at: Timestamp, period: i64) -> Timestamp {
    let second = at.as_second().div_euclid(period) * period;
    Timestamp::from_second(second).unwrap_or(Timestamp::MIN)
}

fn seconds(long: HumanDuration) -> i64 {
    // Rounded up: half a second late is late.
    i64::try_from(long.millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

impl MetricProbe {
    /// The length of a period in seconds, at least one.
    pub fn period(&self) -> i64 {
        i64::from(self.period_seconds.max(1))
    }
    /// How old the newest point of a publisher that is alive may be, seconds.
    pub fn patience_seconds(&self) -> i64 {
        seconds(self.lag).saturating_add(2 * self.period())
    }
    /// How far back points are needed: for the look-back, which ends where knowledge ends, and to tell a publisher
    /// that is late from one that is silent.
    pub fn span_seconds(&self, look_back: HumanDuration) -> i64 {
        let patience = self.patience_seconds();
        seconds(look_back).saturating_add(self.period()).max(patience).saturating_add(patience)
    }
}

#[cfg(test)]
#[path = "tests/series.rs"]
mod tests;
