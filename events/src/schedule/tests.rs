//! Rows: when an expression fires, and how a wrong one is refused.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Expression;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

/// The next two firings after a moment, in UTC.
#[track_caller]
fn check_in(name: &str, expression: &str, after: &str, expected: [&str; 2]) {
    let since: Timestamp = after.parse().unwrap();
    let expression = Expression::parse(expression).unwrap();
    let (zone, mut after) = (zone(name), since);
    for expected in expected {
        let next = expression.next_after(since, after, &zone);
        let shown = next.map_or_else(|| "never".to_owned(), |at| at.to_string());
        assert_eq!(shown, expected, "{expression:?} in {name}");
        after = next.unwrap_or(after);
    }
}

#[track_caller]
fn check(expression: &str, after: &str, expected: [&str; 2]) {
    check_in("UTC", expression, after, expected);
}

#[test]
fn rates_count_from_their_beginning() {
    check(
        "rate(5 minutes)",
        "2026-11-20T10:00:30Z",
        ["2026-11-20T10:05:30Z", "2026-11-20T10:10:30Z"],
    );
    check("rate(1 day)", "2026-11-20T10:00:00Z", ["2026-11-21T10:00:00Z", "2026-11-22T10:00:00Z"]);
    // Hours that pass, whatever the clock does.
    check_in(
        "Europe/Berlin",
        "rate(1 day)",
        "2026-03-28T12:00:00Z",
        ["2026-03-29T12:00:00Z", "2026-03-30T12:00:00Z"],
    );
}

#[test]
fn fields_are_lists_ranges_steps_and_names() {
    // 2026-11-20 is a Friday.
    let friday = "2026-11-20T17:45:00Z";
    check("cron(0 23 * * ? *)", friday, ["2026-11-20T23:00:00Z", "2026-11-21T23:00:00Z"]);
    check(
        "cron(5,35 17 * * ? *)",
        "2026-11-20T17:05:59Z",
        ["2026-11-20T17:35:00Z", "2026-11-21T17:05:00Z"],
    );
    check(
        "cron(0/15 8-17 ? * MON-FRI *)",
        friday,
        ["2026-11-23T08:00:00Z", "2026-11-23T08:15:00Z"],
    );
    check("cron(30 6 ? * 2 *)", friday, ["2026-11-23T06:30:00Z", "2026-11-30T06:30:00Z"]);
    check(
        "cron(0 0 ? * fri-MON *)",
        "2026-11-24T01:00:00Z",
        ["2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z"],
    );
    check("cron(0 22-1/2 * * ? *)", friday, ["2026-11-20T22:00:00Z", "2026-11-21T00:00:00Z"]);
    check("cron(0 0 1 JAN,7 ? *)", friday, ["2027-01-01T00:00:00Z", "2027-07-01T00:00:00Z"]);
    check("cron(0 0 1 1 ? 2027/2)", friday, ["2027-01-01T00:00:00Z", "2029-01-01T00:00:00Z"]);
    check("cron(* * * * ? *)", friday, ["2026-11-20T17:46:00Z", "2026-11-20T17:47:00Z"]);
}

#[test]
fn ends_of_months_and_leap_days_are_found() {
    let friday = "2026-11-20T10:00:00Z";
    check(
        "cron(0 0 L * ? *)",
        "2028-01-31T00:00:00Z",
        ["2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z"],
    );
    check("cron(0 0 L,15 2 ? 2027)", friday, ["2027-02-15T00:00:00Z", "2027-02-28T00:00:00Z"]);
    check("cron(0 0 31 * ? *)", friday, ["2026-12-31T00:00:00Z", "2027-01-31T00:00:00Z"]);
    check("cron(0 12 29 FEB ? *)", friday, ["2028-02-29T12:00:00Z", "2032-02-29T12:00:00Z"]);
    // 2100 is no leap year.
    check(
        "cron(0 12 29 2 ? *)",
        "2096-03-01T00:00:00Z",
        ["2104-02-29T12:00:00Z", "2108-02-29T12:00:00Z"],
    );
    // A February with five Sundays comes every 28 years.
    check("cron(0 0 ? 2 1#5 *)", friday, ["2032-02-29T00:00:00Z", "2060-02-29T00:00:00Z"]);
}

#[test]
fn nearest_last_and_nth_days_are_found() {
    let friday = "2026-11-20T10:00:00Z";
    // 2026-08-15 is a Saturday, 2026-11-15 a Sunday.
    check(
        "cron(0 0 15W * ? *)",
        "2026-08-01T00:00:00Z",
        ["2026-08-14T00:00:00Z", "2026-09-15T00:00:00Z"],
    );
    check(
        "cron(0 0 15W 11 ? *)",
        "2026-11-01T00:00:00Z",
        ["2026-11-16T00:00:00Z", "2027-11-15T00:00:00Z"],
    );
    // It stays in its month: Saturday the 1st, and Sunday the 31st.
    check("cron(0 0 1W 8 ? 2026)", "2026-07-01T00:00:00Z", ["2026-08-03T00:00:00Z", "never"]);
    check("cron(0 0 31W 1 ? 2027)", friday, ["2027-01-29T00:00:00Z", "never"]);
    check("cron(0 0 LW 2 ? 2027)", friday, ["2027-02-26T00:00:00Z", "never"]);
    check("cron(0 0 ? * 6L *)", friday, ["2026-11-27T00:00:00Z", "2026-12-25T00:00:00Z"]);
    check("cron(0 0 ? * MONL *)", friday, ["2026-11-30T00:00:00Z", "2026-12-28T00:00:00Z"]);
    check("cron(0 0 ? * L *)", friday, ["2026-11-21T00:00:00Z", "2026-11-28T00:00:00Z"]);
    check("cron(0 0 ? * 6#3 *)", friday, ["2026-12-18T00:00:00Z", "2027-01-15T00:00:00Z"]);
    check("cron(0 0 ? * TUE#5 *)", friday, ["2026-12-29T00:00:00Z", "2027-03-30T00:00:00Z"]);
}

#[test]
fn what_can_never_be_never_fires() {
    let friday = "2026-11-20T10:00:00Z";
    check("cron(0 0 31 2 ? *)", friday, ["never", "never"]);
    check("cron(0 0 31W 4,6 ? *)", friday, ["never", "never"]);
    check("cron(0 0 1 1 ? 2025)", friday, ["never", "never"]);
    check("cron(0 0 1 1 ? 2199)", "2199-01-01T00:00:00Z", ["never", "never"]);
    let ever = |text: &str| Expression::parse(text).unwrap().ever_fires();
    assert!(!ever("cron(0 0 30,31 2 ? *)") && !ever("cron(0 0 29 2 ? 2027)"));
    // What is over did fire.
    assert!(ever("cron(0 0 1 1 ? 2025)") && ever("cron(0 0 29 2 ? *)") && ever("rate(1 day)"));
}

#[test]
fn a_time_that_the_clock_leaps_over_is_skipped() {
    // Berlin: 2027-03-28 has no 02:00 to 02:59.
    let eve = "2027-03-27T12:00:00Z";
    check_in(
        "Europe/Berlin",
        "cron(30 2 * * ? *)",
        eve,
        ["2027-03-29T00:30:00Z", "2027-03-30T00:30:00Z"],
    );
    check_in(
        "Europe/Berlin",
        "cron(0 3 * * ? *)",
        eve,
        ["2027-03-28T01:00:00Z", "2027-03-29T01:00:00Z"],
    );
    check_in(
        "Europe/Berlin",
        "cron(0/30 1-3 28 3 ? 2027)",
        "2027-03-28T00:00:00Z",
        ["2027-03-28T00:30:00Z", "2027-03-28T01:00:00Z"],
    );
    // Samoa leapt over the whole of 30 December 2011.
    check_in(
        "Pacific/Apia",
        "cron(0 12 30 * ? *)",
        "2011-12-01T00:00:00Z",
        ["2012-01-29T22:00:00Z", "2012-03-29T22:00:00Z"],
    );
}

#[test]
fn a_time_that_the_clock_shows_twice_fires_once() {
    // Berlin: 2026-10-25 has 02:00 to 02:59 twice.
    let eve = "2026-10-24T12:00:00Z";
    check_in(
        "Europe/Berlin",
        "cron(30 2 * * ? *)",
        eve,
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    );
    check_in(
        "Europe/Berlin",
        "cron(0/30 2-3 25 10 ? 2026)",
        "2026-10-25T00:15:00Z",
        ["2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z"],
    );
    // Whoever asks within the second 02:00 to 02:59 does not get it again.
    check_in(
        "Europe/Berlin",
        "cron(45 2 * * ? *)",
        "2026-10-25T01:10:00Z",
        ["2026-10-26T01:45:00Z", "2026-10-27T01:45:00Z"],
    );
    check_in(
        "Europe/Berlin",
        "cron(0 8 ? * MON-FRI *)",
        "2026-10-23T12:00:00Z",
        ["2026-10-26T07:00:00Z", "2026-10-27T07:00:00Z"],
    );
}

#[test]
fn at_is_once() {
    check("at(2026-12-01T18:00:00)", "2026-11-20T10:00:00Z", ["2026-12-01T18:00:00Z", "never"]);
    let eve = "2026-01-01T00:00:00Z";
    check_in("Europe/Berlin", "at(2026-10-25T02:30:00)", eve, ["2026-10-25T00:30:00Z", "never"]);
    check_in("Europe/Berlin", "at(2026-03-29T02:30:00)", eve, ["2026-03-29T01:30:00Z", "never"]);
}

/// A wrong expression, and all that is said of it.
#[track_caller]
fn refuse(expression: &str, said: &str) {
    let error = Expression::parse(expression).unwrap_err().to_string();
    assert_eq!(error, said);
}

#[test]
fn a_wrong_form_is_refused() {
    let forms =
        "expected \"rate(5 minutes)\", \"cron(0 23 * * ? *)\" or \"at(2026-12-01T18:00:00)\"";
    for text in ["every monday", "", "rate(5 minutes", "cron 0 23 * * ? *", "Rate(5 minutes)"] {
        refuse(text, &format!("{text:?} is not an expression; {forms}"));
    }
    for at in ["2026-12-01", "2026-12-01 18:00:00", "2026-13-01T18:00:00", "2026-12-01T18:00:00Z"] {
        refuse(
            &format!("at({at})"),
            &format!(
                "at: {at:?} is no date and time; expected one without a zone, as in \"at(2026-12-01T18:00:00)\""
            ),
        );
    }
}

#[track_caller]
fn refuse_rate(rate: &str, problem: &str) {
    refuse(
        &format!("rate({rate})"),
        &format!(
            "rate: {rate:?} {problem}; expected a whole number from 1 and its unit, as in \"rate(5 minutes)\" or \"rate(1 hour)\""
        ),
    );
}

#[test]
fn a_wrong_rate_is_refused_for_what_is_wrong() {
    refuse_rate("1 minutes", "says 1 with a plural unit, which AWS refuses");
    refuse_rate("5 minute", "has a singular unit, which AWS refuses");
    refuse_rate("0 minutes", "never fires");
    refuse_rate("-5 minutes", "has no whole number");
    refuse_rate("+5 minutes", "has no whole number");
    refuse_rate("1.5 hours", "has no whole number");
    refuse_rate(" minutes", "has no whole number");
    refuse_rate("5 parsecs", "has an unknown unit");
    refuse_rate("5  minutes", "has an unknown unit");
    refuse_rate("5", "has no unit");
    refuse_rate("99999999999999999999 days", "has too large a number");
    refuse_rate("999999999999999999 days", "has too large a number");
}

#[test]
fn a_wrong_cron_is_refused_with_its_field() {
    refuse(
        "cron(0 23 * * *)",
        "cron: \"0 23 * * *\" has 5 fields; expected six: minutes, hours, day-of-month, month, day-of-week, year",
    );
    refuse(
        "cron(0 23 * * * *)",
        "cron: day-of-month is \"*\" and day-of-week is \"*\"; expected ? in exactly one of the two",
    );
    refuse(
        "cron(0 23 ? * ? *)",
        "cron: day-of-month is \"?\" and day-of-week is \"?\"; expected ? in exactly one of the two",
    );
    refuse(
        "cron(60 23 * * ? *)",
        "cron: minutes \"60\" is none of its values; expected 0 to 59 or *, alone or in lists (a,b), ranges (a-b) and steps (a/n)",
    );
    refuse(
        "cron(0 0 1 JANUARY ? *)",
        "cron: month \"JANUARY\" is none of its values; expected 1 to 12, JAN to DEC or *, alone or in lists (a,b), ranges (a-b) and steps (a/n)",
    );
}

/// The field of a refused cron, and what is wrong with it.
#[track_caller]
fn refuse_field(fields: &str, field: &str, problem: &str) {
    let error = Expression::parse(&format!("cron({fields})")).unwrap_err().to_string();
    let said = error.split_once(';').map_or(&*error, |(said, _)| said);
    assert!(said.starts_with(&format!("cron: {field} \"")), "{error}");
    assert!(said.ends_with(problem), "{error}");
}

#[test]
fn each_field_says_what_is_wrong_with_it() {
    refuse_field("0 24 * * ? *", "hours", "none of its values");
    refuse_field("0,x 0 * * ? *", "minutes", "has a part, \"x\", that is none of its values");
    refuse_field("0, 0 * * ? *", "minutes", "has an empty part");
    refuse_field("? 0 * * ? *", "minutes", "none of its values");
    refuse_field("0/0 0 * * ? *", "minutes", "a step that is not a number from 1 to 60");
    refuse_field("0/90 0 * * ? *", "minutes", "a step that is not a number from 1 to 60");
    refuse_field("+5 0 * * ? *", "minutes", "none of its values");
    refuse_field("0 0 0 * ? *", "day-of-month", "none of its values");
    refuse_field("0 0 32W * ? *", "day-of-month", "none of its values");
    refuse_field("0 0 1-5W * ? *", "day-of-month", "none of its values");
    refuse_field("0 0 6#3 * ? *", "day-of-month", "none of its values");
    refuse_field("0 0 ? * 0 *", "day-of-week", "none of its values");
    refuse_field("0 0 ? * 8L *", "day-of-week", "none of its values");
    refuse_field("0 0 ? * 6#6 *", "day-of-week", "is not a day of the week, # and 1 to 5");
    refuse_field("0 0 ? * 3#1,6#3 *", "day-of-week", "has # in a list");
    refuse_field("0 0 ? * 3W *", "day-of-week", "none of its values");
    refuse_field("0 0 * 13 ? *", "month", "none of its values");
    refuse_field("0 0 * * ? 1969", "year", "none of its values");
    refuse_field("0 0 * * ? 2200", "year", "none of its values");
}
