//! When a schedule fires: `rate(5 minutes)`, AWS's six-field `cron(…)`, and `at(2026-12-01T18:00:00)`.
//!
//! *Theory.* One reader for everybody: the fleet file is refused by the grammar that the model of AWS
//! fires by, and `lamplighter schedule next` prints what both mean. The grammar is that of EventBridge's
//! "Cron expressions reference": lists, ranges, steps and names in every field; `L` and `W` as days of a
//! month, `L` and `#` as days of a week, and `?` in exactly one of the two.
//!
//! *Clocks that change.* A cron expression is about a wall clock. As AWS's Knowledge Center says ("How can I
//! adjust my Amazon EventBridge schedule for daylight saving?"): a time that the clock leaps over in spring is
//! skipped, and one that it shows twice in autumn fires once. AWS does not say which of the two moments it is,
//! nor what an `at(…)` in a gap is: here it is the first, and the moment that the clock would have shown
//! it, so that what was asked for once is not lost. A rate counts hours that pass, whatever a clock
//! shows.
//!
//! *Invariants.* A pure function of its arguments. Every search ends: at the last year of the field.
//!
//! *Not here.* Since when a rate counts (whoever made the rule knows), and what a tick means.

mod cron;
#[cfg(test)]
mod tests;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::error::quoted;
pub use cron::Cron;

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// None of the three forms.
    #[error(
        "{} is not an expression; expected \"rate(5 minutes)\", \"cron(0 23 * * ? *)\" or \"at(2026-12-01T18:00:00)\"",
        quoted(.text)
    )]
    Form {
        /// As it was given.
        text: String,
    },
    /// A rate that AWS does not take.
    #[error(
        "rate: {} {problem}; expected a whole number from 1 and its unit, as in \"rate(5 minutes)\" or \"rate(1 hour)\"",
        quoted(.text)
    )]
    Rate {
        /// What stands between the parentheses.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Too few fields, or too many.
    #[error(
        "cron: {} has {found} fields; expected six: minutes, hours, day-of-month, month, day-of-week, year",
        quoted(.text)
    )]
    Fields {
        /// What stands between the parentheses.
        text: String,
        /// How many there are.
        found: usize,
    },
    /// Both days, or neither.
    #[error(
        "cron: day-of-month is {} and day-of-week is {}; expected ? in exactly one of the two",
        quoted(.days), quoted(.weekdays)
    )]
    Days {
        /// The third field.
        days: String,
        /// The fifth.
        weekdays: String,
    },
    /// One of the six fields.
    #[error("cron: {field} {} {problem}; expected {expected}", quoted(.value))]
    Field {
        /// Which of the six.
        field: &'static str,
        /// All of it.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What it may be.
        expected: String,
    },
    /// No date and time.
    #[error("at: {} is no date and time; expected one without a zone, as in \"at(2026-12-01T18:00:00)\"", quoted(.text))]
    At {
        /// What stands between the parentheses.
        text: String,
    },
}

/// What a rate counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `minute`, `minutes`
    Minutes,
    /// `hour`, `hours`
    Hours,
    /// Of 24 hours each: `day`, `days`
    Days,
}

impl Unit {
    fn seconds(self) -> i64 {
        match self {
            Self::Minutes => 60,
            Self::Hours => 3_600,
            Self::Days => 86_400,
        }
    }
}

/// An expression as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Again and again, after so much time.
    Rate {
        /// How many.
        amount: i64,
        /// Of what.
        unit: Unit,
    },
    /// Whenever all fields fit.
    Cron(Box<Cron>),
    /// Once.
    At(DateTime),
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// Where AWS would not take it; the error names the field and what was expected.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let inner = |name: &str| text.strip_prefix(name)?.strip_suffix(')');
        if let Some(rate) = inner("rate(") {
            return parse_rate(rate);
        }
        if let Some(fields) = inner("cron(") {
            return Ok(Self::Cron(Box::new(Cron::parse(fields)?)));
        }
        let Some(at) = inner("at(") else {
            return Err(ScheduleError::Form { text: text.to_owned() });
        };
        // jiff would also take a date alone, or a space between: AWS does not.
        let form = at.len() == "2026-12-01T18:00:00".len() && at.as_bytes().get(10) == Some(&b'T');
        let at = at
            .parse()
            .ok()
            .filter(|_| form)
            .ok_or_else(|| ScheduleError::At { text: at.to_owned() })?;
        Ok(Self::At(at))
    }

    /// The first firing after `after`, by a clock of this zone; a rate counts from `since`. `None`: it
    /// never fires again.
    #[must_use]
    pub fn next_after(
        &self,
        since: Timestamp,
        after: Timestamp,
        zone: &TimeZone,
    ) -> Option<Timestamp> {
        match self {
            Self::Rate { amount, unit } => {
                let period = amount.checked_mul(unit.seconds())?;
                let passed = after.duration_since(since).as_secs().max(0);
                let ahead = (passed / period + 1).checked_mul(period)?;
                since.checked_add(SignedDuration::from_secs(ahead)).ok()
            }
            Self::Cron(cron) => cron.next_after(after, zone),
            Self::At(at) => {
                let at = zone.to_ambiguous_timestamp(*at).compatible().ok()?;
                (at > after).then_some(at)
            }
        }
    }

    /// Whether there is any time at which it fires: the 31st of February is none.
    #[must_use]
    pub fn ever_fires(&self) -> bool {
        match self {
            Self::Rate { .. } | Self::At(_) => true,
            Self::Cron(cron) => cron.next_after(Timestamp::UNIX_EPOCH, &TimeZone::UTC).is_some(),
        }
    }
}

fn parse_rate(text: &str) -> Result<Expression, ScheduleError> {
    let wrong = |problem| ScheduleError::Rate { text: text.to_owned(), problem };
    let (amount, unit) = text.split_once(' ').ok_or_else(|| wrong("has no unit"))?;
    let digits = !amount.is_empty() && amount.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Err(wrong("has no whole number"));
    }
    let amount: i64 = amount.parse().map_err(|_| wrong("has too large a number"))?;
    let unit = match (amount, unit) {
        (0, _) => return Err(wrong("never fires")),
        (1, "minute") | (2.., "minutes") => Unit::Minutes,
        (1, "hour") | (2.., "hours") => Unit::Hours,
        (1, "day") | (2.., "days") => Unit::Days,
        (1, "minutes" | "hours" | "days") => {
            return Err(wrong("says 1 with a plural unit, which AWS refuses"));
        }
        (_, "minute" | "hour" | "day") => {
            return Err(wrong("has a singular unit, which AWS refuses"));
        }
        _ => return Err(wrong("has an unknown unit")),
    };
    if amount.checked_mul(unit.seconds()).is_none() {
        return Err(wrong("has too large a number"));
    }
    Ok(Expression::Rate { amount, unit })
}
