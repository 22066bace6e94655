//! AWS's six-field cron: what each field may say, and the next minute that fits them all.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::ScheduleError;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// A month has no more than five of any day of the week.
const NTH_MAX: u16 = 5;
const SATURDAY: u16 = 7;

/// One of the six fields.
#[derive(Debug, Clone, Copy)]
struct Field {
    name: &'static str,
    low: u16,
    high: u16,
    names: &'static [&'static str],
    /// What may stand there beside values, lists, ranges and steps.
    more: &'static str,
}

const MINUTES: Field = Field { name: "minutes", low: 0, high: 59, names: &[], more: "" };
const HOURS: Field = Field { name: "hours", low: 0, high: 23, names: &[], more: "" };
const DAYS: Field = Field {
    name: "day-of-month",
    low: 1,
    high: 31,
    names: &[],
    more: ", ?, L (the last day), LW (the last weekday) or 15W (the weekday nearest to the 15th)",
};
const MONTH: Field = Field { name: "month", low: 1, high: 12, names: &MONTHS, more: "" };
const WEEKDAY: Field = Field {
    name: "day-of-week",
    low: 1,
    high: 7,
    names: &WEEKDAYS,
    more: ", ?, L (Saturday), 6L (the last Friday) or 6#3 (the third Friday); 1 is Sunday",
};
const YEAR: Field = Field { name: "year", low: 1970, high: 2199, names: &[], more: "" };

/// The values that each field allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    minutes: BTreeSet<u16>,
    hours: BTreeSet<u16>,
    day: Day,
    months: BTreeSet<u16>,
    years: BTreeSet<u16>,
}

/// Which days: one of the two fields, the other being `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Day {
    OfMonth { days: BTreeSet<u16>, nearest: BTreeSet<u16>, last: bool, last_weekday: bool },
    OfWeek { days: BTreeSet<u16>, last: BTreeSet<u16> },
    Nth { day: u16, nth: u16 },
}

impl Cron {
    /// Reads what stands between the parentheses.
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays, years] = fields[..] else {
            return Err(ScheduleError::Fields { text: text.to_owned(), found: fields.len() });
        };
        if (days == "?") == (weekdays == "?") {
            let (days, weekdays) = (days.to_owned(), weekdays.to_owned());
            return Err(ScheduleError::Days { days, weekdays });
        }
        Ok(Self {
            minutes: MINUTES.parse(minutes)?,
            hours: HOURS.parse(hours)?,
            day: if weekdays == "?" { days_of_month(days)? } else { days_of_week(weekdays)? },
            months: MONTH.parse(months)?,
            years: YEAR.parse(years)?,
        })
    }

    /// The first minute after `after` that fits, by a clock of this zone.
    ///
    /// Wall-clock times that follow that of `after` are enough to look at, also where the clock goes
    /// back: what it shows a second time has fired the first time, which is past.
    pub(super) fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let shown = zone.to_datetime(after);
        let first_year = u16::try_from(shown.year()).unwrap_or(0);
        for &year in self.years.range(first_year..) {
            for &month in &self.months {
                let first =
                    Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, 1).ok()?;
                if first.last_of_month() < shown.date() {
                    continue;
                }
                let days = first.series(jiff::ToSpan::days(1)).take(31);
                let days = days.take_while(|day| day.month() == first.month());
                for day in days.filter(|day| *day >= shown.date() && self.day.has(*day)) {
                    if let Some(at) = self.first_on(day, after, zone) {
                        return Some(at);
                    }
                }
            }
        }
        None
    }

    /// The first fitting minute of a day that comes after `after`.
    fn first_on(&self, day: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        for &hour in &self.hours {
            for &minute in &self.minutes {
                let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
                let shown = zone.to_ambiguous_timestamp(day.at(hour, minute, 0, 0));
                let offset = match shown.offset() {
                    // The clock leaps over it.
                    AmbiguousOffset::Gap { .. } => continue,
                    AmbiguousOffset::Unambiguous { offset } => offset,
                    // It is shown twice: the first time counts.
                    AmbiguousOffset::Fold { before, .. } => before,
                };
                let at = offset.to_timestamp(shown.datetime()).ok()?;
                if at > after {
                    return Some(at);
                }
            }
        }
        None
    }
}

impl Day {
    fn has(&self, day: Date) -> bool {
        let number = |value: i8| u16::try_from(value).unwrap_or(0);
        let weekday = number(day.weekday().to_sunday_one_offset());
        let (of_month, length) = (number(day.day()), number(day.days_in_month()));
        match self {
            Self::OfMonth { days, nearest, last, last_weekday } => {
                days.contains(&of_month)
                    || (*last && of_month == length)
                    || (*last_weekday && nearest_weekday(day, length) == Some(of_month))
                    || nearest.iter().any(|it| nearest_weekday(day, *it) == Some(of_month))
            }
            Self::OfWeek { days, last } => {
                days.contains(&weekday) || (last.contains(&weekday) && of_month + 7 > length)
            }
            Self::Nth { day, nth } => weekday == *day && (of_month - 1) / 7 + 1 == *nth,
        }
    }
}

/// The weekday nearest to a day of this month, without leaving the month: the Friday before a Saturday,
/// the Monday after a Sunday, else the other way round. `None` where the month has no such day.
fn nearest_weekday(month: Date, day: u16) -> Option<u16> {
    let wanted = Date::new(month.year(), month.month(), i8::try_from(day).ok()?).ok()?;
    let length = u16::try_from(month.days_in_month()).ok()?;
    Some(match wanted.weekday().to_sunday_one_offset() {
        1 if day == length => day - 2,
        1 => day + 1,
        7 if day == 1 => day + 2,
        7 => day - 1,
        _ => day,
    })
}

fn days_of_month(text: &str) -> Result<Day, ScheduleError> {
    let (mut nearest, mut last, mut last_weekday) = (BTreeSet::new(), false, false);
    let days = DAYS.parse_with(text, |part| {
        match (part, part.strip_suffix('W')) {
            ("L", _) => last = true,
            ("LW", _) => last_weekday = true,
            (_, Some(day)) => {
                nearest.insert(DAYS.one(day)?);
            }
            _ => return None,
        }
        Some(())
    })?;
    Ok(Day::OfMonth { days, nearest, last, last_weekday })
}

fn days_of_week(text: &str) -> Result<Day, ScheduleError> {
    if let Some((day, nth)) = text.split_once('#') {
        if text.contains(',') {
            return Err(WEEKDAY.wrong(text, "has # in a list"));
        }
        let nth = nth.parse().ok().filter(|nth| (1..=NTH_MAX).contains(nth));
        return match WEEKDAY.one(day).zip(nth) {
            Some((day, nth)) => Ok(Day::Nth { day, nth }),
            None => Err(WEEKDAY.wrong(text, "is not a day of the week, # and 1 to 5")),
        };
    }
    let (mut last, mut saturday) = (BTreeSet::new(), false);
    let mut days = WEEKDAY.parse_with(text, |part| {
        match part.strip_suffix('L')? {
            "" => saturday = true,
            day => {
                last.insert(WEEKDAY.one(day)?);
            }
        }
        Some(())
    })?;
    days.extend(saturday.then_some(SATURDAY));
    Ok(Day::OfWeek { days, last })
}

impl Field {
    fn wrong(&self, text: &str, problem: impl Into<String>) -> ScheduleError {
        let names = match self.names {
            [] => String::new(),
            [first, .., last] => format!(", {first} to {last}"),
            [only] => format!(", {only}"),
        };
        ScheduleError::Field {
            field: self.name,
            value: text.to_owned(),
            problem: problem.into(),
            expected: format!(
                "{} to {}{names} or *, alone or in lists (a,b), ranges (a-b) and steps (a/n){}",
                self.low, self.high, self.more
            ),
        }
    }

    /// A value by its number or name.
    fn one(&self, text: &str) -> Option<u16> {
        if let Some(index) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return u16::try_from(index).ok().map(|index| index + self.low);
        }
        // `+5` is a number to the standard library.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|value| digits && (self.low..=self.high).contains(value))
    }

    fn parse(&self, text: &str) -> Result<BTreeSet<u16>, ScheduleError> {
        self.parse_with(text, |_| None)
    }

    /// Reads a list, whose parts are `special` or as in every field.
    fn parse_with(
        &self,
        text: &str,
        mut special: impl FnMut(&str) -> Option<()>,
    ) -> Result<BTreeSet<u16>, ScheduleError> {
        let mut values = BTreeSet::new();
        for part in text.split(',') {
            if special(part).is_none() {
                values.extend(self.part(text, part)?);
            }
        }
        Ok(values)
    }

    fn part(&self, text: &str, part: &str) -> Result<Vec<u16>, ScheduleError> {
        let count = self.high - self.low + 1;
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<u16>().ok().filter(|step| (1..=count).contains(step));
                let problem = || format!("has a step that is not a number from 1 to {count}");
                (range, Some(step.ok_or_else(|| self.wrong(text, problem()))?))
            }
            None => (part, None),
        };
        let bounds = match range.split_once('-') {
            _ if range == "*" => Some((self.low, self.high)),
            Some((from, to)) => self.one(from).zip(self.one(to)),
            None => self.one(range).map(|it| (it, if step.is_some() { self.high } else { it })),
        };
        let Some((from, to)) = bounds else {
            let problem = match part {
                "" => "has an empty part".to_owned(),
                _ if part == text => "is none of its values".to_owned(),
                _ => format!(
                    "has a part, {}, that is none of its values",
                    crate::error::quoted(part)
                ),
            };
            return Err(self.wrong(text, problem));
        };
        let step = usize::from(step.unwrap_or(1));
        Ok(if from <= to {
            (from..=to).step_by(step).collect()
        } else {
            // FRI-MON runs over the end of the week.
            (from..=self.high).chain(self.low..=to).step_by(step).collect()
        })
    }
}
