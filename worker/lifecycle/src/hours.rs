//! Office hours: recurring windows in which a target is wanted.
//!
//! *Theory.* `weekly = "Mon-Fri 08:00-18:00"` in a zone, with `except` days. A window is what the clocks on
//! the wall of that zone say: on the day the clocks go forward it is an hour shorter, on the day they go back
//! an hour longer, never begun late nor ended early: a time that does not exist is taken as the same distance
//! after the gap; a time that exists twice begins a window at its first and ends one at its second occurrence.
//! Windows that touch or overlap are one. A window that ends before it begins ends on the next day. `except`
//! names the days on which no window *begins*.
//!
//! *Invariant.* Nothing here reads a clock: the question is always "at `now`".

use std::collections::BTreeSet;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// No year of office hours needs more; it bounds what a fleet file can ask for.
const PARTS_MAX: usize = 50;
/// How far ahead a next window is looked for: two weeks cover every weekly pattern, a year of `except`
/// days in a row covers none.
const AHEAD_DAYS: i64 = 370;

/// Why office hours were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    /// A part of `weekly` cannot be read.
    #[error(
        "weekly {part:?} {problem}: expected parts such as \"Mon-Fri 08:00-18:00\", separated by commas"
    )]
    Weekly {
        /// The part.
        part: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Not an IANA zone.
    #[error("zone {0:?} is not known: expected an IANA name such as \"Europe/Berlin\"")]
    Zone(String),
    /// Not a day.
    #[error("except {0:?} is not a day: expected \"2026-12-25\"")]
    Except(String),
}

/// One pattern: on these days from this time to that.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Weekly {
    /// From Monday.
    days: [bool; 7],
    from: Time,
    /// `None`: midnight at the end of the day.
    until: Option<Time>,
}

/// Recurring windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    parts: Vec<Weekly>,
    zone: TimeZone,
    zone_name: String,
    except: BTreeSet<Date>,
    text: String,
}

/// One occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// In force from here (inclusive).
    pub from: Timestamp,
    /// Up to here (exclusive).
    pub until: Timestamp,
}

impl Hours {
    /// Takes what the fleet file says.
    pub fn parse<'t>(
        weekly: &str,
        zone: &str,
        except: impl IntoIterator<Item = &'t str>,
    ) -> Result<Self, HoursError> {
        let parts: Vec<&str> = weekly.split([',', ';']).map(str::trim).collect();
        if parts.len() > PARTS_MAX {
            let part = weekly.chars().take(60).collect();
            return Err(HoursError::Weekly { part, problem: "has more than 50 parts" });
        }
        let mut read = Vec::new();
        for part in parts {
            let refuse = |problem| HoursError::Weekly { part: part.to_owned(), problem };
            read.push(weekly_part(part).map_err(refuse)?);
        }
        let known = TimeZone::get(zone).map_err(|_| HoursError::Zone(zone.to_owned()))?;
        let mut days = BTreeSet::new();
        for day in except {
            let date: Date = day.parse().map_err(|_| HoursError::Except(day.to_owned()))?;
            days.insert(date);
        }
        Ok(Self {
            parts: read,
            zone: known,
            zone_name: zone.to_owned(),
            except: days,
            text: weekly.to_owned(),
        })
    }

    /// The window that is in force, whole: windows that touch or overlap are one.
    pub fn at(&self, now: Timestamp) -> Option<Window> {
        let windows = self.around(now, 8);
        let inside = windows.iter().filter(|window| window.from <= now && now < window.until);
        let mut whole = inside.copied().reduce(join)?;
        // Each round takes in what touches; a week of parts is the most that can.
        for _ in 0..windows.len() {
            let touching = windows
                .iter()
                .filter(|window| window.from <= whole.until && window.until >= whole.from)
                .copied()
                .reduce(join)
                .map_or(whole, |more| join(whole, more));
            if touching == whole {
                break;
            }
            whole = touching;
        }
        Some(whole)
    }

    /// When the next window begins, after `now`.
    pub fn next_from(&self, now: Timestamp) -> Option<Timestamp> {
        let today = now.to_zoned(self.zone.clone()).date();
        (-1..=AHEAD_DAYS)
            .filter_map(|ahead| today.checked_add(Span::new().days(ahead)).ok())
            .flat_map(|day| self.on(day))
            .map(|window| window.from)
            .find(|from| *from > now)
    }

    /// As it was written, for people.
    pub fn describe(&self) -> String {
        format!("{} {}", self.text, self.zone_name)
    }

    /// The zone's name.
    pub fn zone(&self) -> &str {
        &self.zone_name
    }

    fn around(&self, now: Timestamp, days: i64) -> Vec<Window> {
        let today = now.to_zoned(self.zone.clone()).date();
        (-days..=days)
            .filter_map(|ahead| today.checked_add(Span::new().days(ahead)).ok())
            .flat_map(|day| self.on(day))
            .collect()
    }

    /// The windows that begin on a day, earliest first.
    fn on(&self, day: Date) -> Vec<Window> {
        if self.except.contains(&day) {
            return Vec::new();
        }
        let index = usize::try_from(day.weekday().to_monday_zero_offset()).unwrap_or(0);
        let mut windows: Vec<Window> = self
            .parts
            .iter()
            .filter(|part| part.days[index])
            .filter_map(|part| {
                let end_day = match part.until {
                    Some(until) if until > part.from => day,
                    _ => day.tomorrow().ok()?,
                };
                let from = self.earlier(day.to_datetime(part.from))?;
                let until =
                    self.later(end_day.to_datetime(part.until.unwrap_or(Time::midnight())))?;
                (from < until).then_some(Window { from, until })
            })
            .collect();
        windows.sort_by_key(|window| window.from);
        windows
    }

    fn earlier(&self, at: DateTime) -> Option<Timestamp> {
        // In a gap `compatible` moves on by the gap's length; of two it takes the first.
        self.zone.to_ambiguous_timestamp(at).compatible().ok()
    }

    fn later(&self, at: DateTime) -> Option<Timestamp> {
        self.zone.to_ambiguous_timestamp(at).later().ok()
    }
}

fn join(one: Window, other: Window) -> Window {
    Window { from: one.from.min(other.from), until: one.until.max(other.until) }
}

fn weekly_part(part: &str) -> Result<Weekly, &'static str> {
    let (days, times) = part.split_once(' ').ok_or("lacks days or times")?;
    let (from, until) = times.trim().split_once('-').ok_or("lacks a range of times")?;
    let from = time(from.trim()).ok_or("begins at no time of day")?;
    let until = match until.trim() {
        "24:00" => None,
        text => Some(time(text).ok_or("ends at no time of day")?),
    };
    if until == Some(from) {
        return Err("begins and ends at the same time");
    }
    Ok(Weekly { days: weekdays(days)?, from, until })
}

fn weekdays(text: &str) -> Result<[bool; 7], &'static str> {
    let mut days = [false; 7];
    let unknown = "names a day that is none of Mon, Tue, Wed, Thu, Fri, Sat, Sun, daily";
    if text.eq_ignore_ascii_case("daily") {
        return Ok([true; 7]);
    }
    for one in text.split('+') {
        let (first, last) = one.split_once('-').unwrap_or((one, one));
        let mut day = weekday(first).ok_or(unknown)?;
        let last = weekday(last).ok_or(unknown)?;
        // `Sat-Mon` wraps around the week's end.
        loop {
            days[usize::try_from(day.to_monday_zero_offset()).unwrap_or(0)] = true;
            if day == last {
                break;
            }
            day = day.next();
        }
    }
    Ok(days)
}

fn weekday(text: &str) -> Option<Weekday> {
    let text = text.to_ascii_lowercase();
    let named = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    named
        .into_iter()
        .find(|(name, _)| text == *name || (text.len() == 3 && name.starts_with(&text)))
        .map(|(_, day)| day)
}

/// `HH:MM`.
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| -> Option<i8> {
        let fits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| text.parse().ok()).flatten()
    };
    Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(weekly: &str, except: &[&str]) -> Hours {
        Hours::parse(weekly, "Europe/Berlin", except.iter().copied()).unwrap()
    }

    /// `at` is UTC; expected as UTC.
    #[track_caller]
    fn check(weekly: &str, at: &str, expected: Option<(&str, &str)>) {
        let window = hours(weekly, &["2026-12-25"]).at(at.parse().unwrap());
        let expected = expected.map(|(from, until)| Window {
            from: from.parse().unwrap(),
            until: until.parse().unwrap(),
        });
        assert_eq!(window, expected, "{weekly} at {at}");
    }

    #[test]
    fn a_window_is_what_the_wall_clock_of_its_zone_says() {
        let office = "Mon-Fri 08:00-18:00";
        let thursday = Some(("2026-11-26T07:00:00Z", "2026-11-26T17:00:00Z"));
        check(office, "2026-11-26T06:59:59Z", None);
        check(office, "2026-11-26T07:00:00Z", thursday);
        check(office, "2026-11-26T16:59:59Z", thursday);
        check(office, "2026-11-26T17:00:00Z", None);
        check(office, "2026-11-28T12:00:00Z", None);
        check(
            office,
            "2026-07-02T06:00:00Z",
            Some(("2026-07-02T06:00:00Z", "2026-07-02T16:00:00Z")),
        );
        check(office, "2026-12-25T12:00:00Z", None);
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = "Thu 22:00-06:00";
        let it = Some(("2026-11-26T21:00:00Z", "2026-11-27T05:00:00Z"));
        check(night, "2026-11-26T23:30:00Z", it);
        check(night, "2026-11-27T04:59:00Z", it);
        check(night, "2026-11-27T21:30:00Z", None);
        // Christmas day begins no window; the night before reaches into it.
        check(
            "daily 22:00-06:00",
            "2026-12-25T03:00:00Z",
            Some(("2026-12-24T21:00:00Z", "2026-12-25T05:00:00Z")),
        );
        check("daily 22:00-06:00", "2026-12-25T22:00:00Z", None);
    }

    #[test]
    fn the_clocks_going_forward_or_back_begin_nothing_late_and_end_nothing_early() {
        // 2026-03-29 02:00 to 03:00 does not exist in Berlin.
        check(
            "Sun 02:30-05:00",
            "2026-03-29T01:30:00Z",
            Some(("2026-03-29T01:30:00Z", "2026-03-29T03:00:00Z")),
        );
        check(
            "Sun 00:30-02:30",
            "2026-03-29T01:15:00Z",
            Some(("2026-03-28T23:30:00Z", "2026-03-29T01:30:00Z")),
        );
        // 2026-10-25 02:30 is there twice: begins at the first, ends at the second.
        check(
            "Sun 02:30-04:00",
            "2026-10-25T00:30:00Z",
            Some(("2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z")),
        );
        check(
            "Sun 01:00-02:30",
            "2026-10-25T01:15:00Z",
            Some(("2026-10-24T23:00:00Z", "2026-10-25T01:30:00Z")),
        );
    }

    #[test]
    fn windows_that_touch_are_one() {
        let whole = Some(("2026-11-26T07:00:00Z", "2026-11-26T17:00:00Z"));
        check("Thu 08:00-12:00, Thu 12:00-18:00", "2026-11-26T08:00:00Z", whole);
        check("Thu 08:00-13:00, Thu 12:00-18:00", "2026-11-26T16:00:00Z", whole);
        check(
            "Wed-Thu 00:00-24:00",
            "2026-11-26T12:00:00Z",
            Some(("2026-11-24T23:00:00Z", "2026-11-26T23:00:00Z")),
        );
    }

    #[test]
    fn the_next_window_skips_what_is_excepted() {
        let office = hours("Mon-Fri 08:00-18:00", &["2026-12-25"]);
        let next = |at: &str| office.next_from(at.parse().unwrap()).unwrap().to_string();
        assert_eq!(next("2026-12-24T08:00:00Z"), "2026-12-28T07:00:00Z");
        assert_eq!(next("2026-11-26T06:00:00Z"), "2026-11-26T07:00:00Z");
    }

    #[track_caller]
    fn refused(weekly: &str, problem: &str) {
        let error = Hours::parse(weekly, "UTC", []).unwrap_err().to_string();
        assert!(error.contains(problem), "{weekly}: {error}");
    }

    #[test]
    fn what_is_no_window_is_refused_with_what_was_expected() {
        refused("", "lacks days or times");
        refused("Mon-Fri", "lacks days or times");
        refused("Mon-Fri 08:00", "lacks a range of times");
        refused("Mon-Fri 8:00-18:00", "begins at no time of day");
        refused("Mon-Fri 08:00-25:00", "ends at no time of day");
        refused("Mon-Fri 08:00-08:00", "begins and ends at the same time");
        refused("Funday 08:00-18:00", "names a day that is none of");
        let zone = Hours::parse("daily 08:00-18:00", "Europe/Atlantis", []).unwrap_err();
        assert!(zone.to_string().contains("IANA"), "{zone}");
        let day = Hours::parse("daily 08:00-18:00", "UTC", ["25.12.2026"]).unwrap_err();
        assert!(day.to_string().contains("2026-12-25"), "{day}");
    }
}
