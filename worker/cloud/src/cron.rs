//! Schedule expressions: `rate(5 minutes)` and AWS's six-field `cron(…)`, in UTC.
//!
//! `*`, `?`, lists, ranges, steps, names of months and days, and `L` as the last day of a month are
//! understood. `W`, `#` and a day of the week with `L` are refused by name.

use std::collections::BTreeSet;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use crate::queue::plus;

/// How far ahead a fire is looked for. An expression that fires on 29 February needs eight years
/// where a century lies between.
const DAYS_AHEAD_MAX: u32 = 366 * 9;

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither `rate(…)` nor `cron(…)`.
    #[error(
        "Parameter ScheduleExpression is not valid: \"{0}\" is neither rate(value unit) nor cron(six fields)."
    )]
    Form(String),
    /// A rate that is not a whole number above zero with its unit.
    #[error(
        "Parameter ScheduleExpression is not valid: \"{0}\" must be a whole number from 1 and minute(s), hour(s) or day(s); 1 takes the singular."
    )]
    Rate(String),
    /// A field of a cron expression.
    #[error("Parameter ScheduleExpression is not valid: {field} \"{value}\" {reason}.")]
    Field {
        /// Which of the six.
        field: &'static str,
        /// What it says.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// A schedule as it was parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// Every so many seconds since the rule was enabled.
    Rate {
        /// The period in seconds.
        seconds: i64,
    },
    /// At the minutes that all fields allow.
    Cron(Cron),
}

/// The allowed values of each field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cron {
    minutes: BTreeSet<u16>,
    hours: BTreeSet<u16>,
    /// `None`: `?`.
    days: Option<BTreeSet<u16>>,
    last_day: bool,
    months: BTreeSet<u16>,
    /// 1 is Sunday. `None`: `?`.
    weekdays: Option<BTreeSet<u16>>,
    years: BTreeSet<u16>,
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Schedule {
    /// Reads an expression.
    pub fn parse(expression: &str) -> Result<Self, ScheduleError> {
        let inner = |name: &str| expression.strip_prefix(name)?.strip_suffix(')');
        if let Some(rate) = inner("rate(") {
            return parse_rate(rate);
        }
        let Some(fields) = inner("cron(") else {
            return Err(ScheduleError::Form(expression.to_owned()));
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays, years] = fields[..] else {
            return Err(ScheduleError::Form(expression.to_owned()));
        };
        if (days == "?") == (weekdays == "?") {
            return Err(ScheduleError::Field {
                field: "day-of-month and day-of-week",
                value: format!("{days} {weekdays}"),
                reason: "must have ? in exactly one of the two",
            });
        }
        let last_day = days == "L";
        Ok(Self::Cron(Cron {
            minutes: parse_field("minutes", minutes, 0, 59, &[])?,
            hours: parse_field("hours", hours, 0, 23, &[])?,
            days: match days {
                "?" => None,
                "L" => Some(BTreeSet::new()),
                _ => Some(parse_field("day-of-month", days, 1, 31, &[])?),
            },
            last_day,
            months: parse_field("month", months, 1, 12, &MONTHS)?,
            weekdays: match weekdays {
                "?" => None,
                _ => Some(parse_field("day-of-week", weekdays, 1, 7, &WEEKDAYS)?),
            },
            years: parse_field("year", years, 1970, 2199, &[])?,
        }))
    }

    /// The first fire after `after`; a rate counts from `since`. `None`: never again.
    #[must_use]
    pub fn next_after(&self, since: Timestamp, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Rate { seconds } => {
                let passed = after.duration_since(since).as_secs().max(0);
                let periods = passed / seconds + 1;
                Some(plus(since, SignedDuration::from_secs(periods * seconds)))
            }
            Self::Cron(cron) => cron.next_after(after),
        }
    }
}

impl Cron {
    fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let zoned = after.to_zoned(TimeZone::UTC);
        let mut day = zoned.date();
        let now = (zoned.hour(), zoned.minute());
        for ahead in 0..DAYS_AHEAD_MAX {
            if self.has_day(day) {
                let first = ahead == 0;
                for &hour in &self.hours {
                    for &minute in &self.minutes {
                        let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
                        // A fire lies on the full minute, so the minute under way is past.
                        if first && (hour, minute) <= now {
                            continue;
                        }
                        let at = day.at(hour, minute, 0, 0).to_zoned(TimeZone::UTC).ok()?;
                        return Some(at.timestamp());
                    }
                }
            }
            day = day.checked_add(1.day()).ok()?;
        }
        None
    }

    fn has_day(&self, day: Date) -> bool {
        let has = |set: &BTreeSet<u16>, value: i16| {
            u16::try_from(value).is_ok_and(|it| set.contains(&it))
        };
        if !has(&self.years, day.year()) || !has(&self.months, i16::from(day.month())) {
            return false;
        }
        if let Some(days) = &self.days {
            let last = self.last_day && day.day() == day.days_in_month();
            return last || has(days, i16::from(day.day()));
        }
        let weekday = i16::from(day.weekday().to_sunday_one_offset());
        self.weekdays.as_ref().is_some_and(|weekdays| has(weekdays, weekday))
    }
}

fn parse_rate(rate: &str) -> Result<Schedule, ScheduleError> {
    let wrong = || ScheduleError::Rate(rate.to_owned());
    let (number, unit) = rate.trim().split_once(' ').ok_or_else(wrong)?;
    let number: i64 = number.parse().ok().filter(|it| *it > 0).ok_or_else(wrong)?;
    let seconds = match (unit.trim(), number) {
        ("minute", 1) | ("minutes", 2..) => 60,
        ("hour", 1) | ("hours", 2..) => 3600,
        ("day", 1) | ("days", 2..) => 86_400,
        _ => return Err(wrong()),
    };
    Ok(Schedule::Rate { seconds: number.checked_mul(seconds).ok_or_else(wrong)? })
}

fn parse_field(
    field: &'static str,
    text: &str,
    low: u16,
    high: u16,
    names: &[&str],
) -> Result<BTreeSet<u16>, ScheduleError> {
    let wrong = |reason| ScheduleError::Field { field, value: text.to_owned(), reason };
    let one = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match named {
            Some(index) => u16::try_from(index).ok().map(|index| index + low),
            None => text.parse().ok(),
        };
        value.filter(|value| (low..=high).contains(value))
    };
    let mut values = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<u16>().ok().filter(|step| *step > 0);
                (range, Some(step.ok_or_else(|| wrong("has a step that is not a number above 0"))?))
            }
            None => (part, None),
        };
        let bounds = match range.split_once('-') {
            _ if range == "*" => Some((low, high)),
            Some((from, to)) => one(from).zip(one(to)),
            None => one(range).map(|value| (value, if step.is_some() { high } else { value })),
        };
        let Some((from, to)) = bounds else {
            let special = range.contains(['L', 'W', '#', '?']) && one(range).is_none();
            return Err(wrong(if special {
                "uses L, W, # or ? in a way that is not supported here"
            } else {
                "is not a value, name, list, range or step of this field"
            }));
        };
        let step = usize::from(step.unwrap_or(1));
        if from <= to {
            values.extend((from..=to).step_by(step));
        } else {
            // FRI-MON runs over the end of the week.
            values.extend((from..=high).chain(low..=to).step_by(step));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, after: &str, expected: &str) {
        let after: Timestamp = after.parse().unwrap();
        let next = Schedule::parse(expression).unwrap().next_after(after, after);
        let next = next.map_or_else(|| "never".to_owned(), |at| at.to_string());
        assert_eq!(next, expected, "{expression}");
    }

    #[test]
    fn schedules_fire_when_aws_would() {
        // 2026-11-20 is a Friday.
        check("rate(5 minutes)", "2026-11-20T10:00:30Z", "2026-11-20T10:05:30Z");
        check("rate(1 day)", "2026-11-20T10:00:00Z", "2026-11-21T10:00:00Z");
        check("cron(0 23 * * ? *)", "2026-11-20T10:00:00Z", "2026-11-20T23:00:00Z");
        check("cron(0 23 * * ? *)", "2026-11-20T23:00:00Z", "2026-11-21T23:00:00Z");
        check("cron(0/15 8-17 ? * MON-FRI *)", "2026-11-20T17:45:00Z", "2026-11-23T08:00:00Z");
        check("cron(30 6 ? * 2 *)", "2026-11-20T10:00:00Z", "2026-11-23T06:30:00Z");
        check("cron(0 0 L * ? *)", "2026-02-01T00:00:00Z", "2026-02-28T00:00:00Z");
        check("cron(0 12 29 FEB ? *)", "2026-11-20T10:00:00Z", "2028-02-29T12:00:00Z");
        check("cron(0 0 ? * FRI-MON *)", "2026-11-24T01:00:00Z", "2026-11-27T00:00:00Z");
        check("cron(0 0 1 1 ? 2025)", "2026-11-20T10:00:00Z", "never");
        check("cron(5,35 14 * * ? *)", "2026-11-20T14:05:59Z", "2026-11-20T14:35:00Z");
    }

    #[track_caller]
    fn refuse(expression: &str, part: &str) {
        let error = Schedule::parse(expression).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn a_wrong_expression_is_refused_with_its_reason() {
        refuse("every day", "neither rate");
        refuse("rate(5)", "whole number");
        refuse("rate(1 minutes)", "singular");
        refuse("rate(0 minutes)", "whole number");
        refuse("cron(0 23 * * *)", "six fields");
        refuse("cron(0 23 * * * *)", "exactly one");
        refuse("cron(60 23 * * ? *)", "minutes \"60\"");
        refuse("cron(0 23 15W * ? *)", "not supported");
        refuse("cron(0 23 ? * 6#3 *)", "not supported");
        refuse("cron(0/0 23 * * ? *)", "step");
    }
}
