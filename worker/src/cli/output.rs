//! How answers look: tables, sentences, times, colour.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};

use jiff::{SignedDuration, Timestamp};
use lamplighter_lifecycle::{Phase, StatusView};
use serde::Serialize;

/// Whether colours may be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    stdout: bool,
    stderr: bool,
}

impl Style {
    /// By the terminals and `NO_COLOR`.
    pub(crate) fn of(env: &BTreeMap<String, String>) -> Self {
        // no-color.org: present and not empty.
        let wanted = env.get("NO_COLOR").is_none_or(String::is_empty);
        Self {
            stdout: wanted && std::io::stdout().is_terminal(),
            stderr: wanted && std::io::stderr().is_terminal(),
        }
    }

    /// Never any.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { stdout: false, stderr: false }
    }

    /// Text for stdout in a colour.
    pub(crate) fn paint(self, code: &str, text: &str) -> String {
        if self.stdout { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Text for stderr in a colour.
    pub(crate) fn on_stderr(self, code: &str, text: &str) -> String {
        if self.stderr { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A phase in its colour.
    pub(crate) fn phase(self, phase: Phase, text: &str) -> String {
        let code = match phase {
            Phase::On => "32",
            Phase::Starting | Phase::Stopping => "33",
            Phase::Failed => "31",
            Phase::Off => "2",
        };
        self.paint(code, text)
    }
}

/// Prints to stdout. Whoever closed it (`| head`) has seen enough: no error, no panic.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

/// Prints a line to stdout.
pub(crate) fn line(text: &str) {
    print(&format!("{text}\n"));
}

/// Prints a value as indented JSON.
pub(crate) fn json<T: Serialize>(value: &T) {
    let text = serde_json::to_string_pretty(value)
        .expect("views have string keys and no failing serializers");
    line(&text);
}

/// Columns that are as wide as their widest cell; `paint` may colour a padded cell.
pub(crate) fn table(
    header: &[&str],
    rows: &[Vec<String>],
    paint: impl Fn(usize, usize, &str) -> String,
) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let last = header.len().saturating_sub(1);
    let mut text = String::new();
    let mut push = |cells: &mut dyn Iterator<Item = (usize, String)>| {
        let mut line = String::new();
        for (column, cell) in cells {
            line.push_str(&cell);
            if column != last {
                line.push_str("  ");
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    let padded = |column: usize, cell: &str| {
        let width = if column == last { 0 } else { widths[column] };
        format!("{cell:<width$}")
    };
    push(&mut header.iter().enumerate().map(|(column, cell)| (column, padded(column, cell))));
    for (index, row) in rows.iter().enumerate() {
        push(
            &mut row
                .iter()
                .enumerate()
                .map(|(column, cell)| (column, paint(index, column, &padded(column, cell)))),
        );
    }
    text
}

/// A length of time in its two largest units: `3m 20s`, `2h 5m`, `4d 1h`.
pub(crate) fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// A time without its fractions of seconds.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A service's tasks, in a few words.
pub(crate) fn counts(desired: i64, running: i64, pending: i64) -> String {
    let pending = if pending > 0 { format!(", {pending} pending") } else { String::new() };
    format!("{running} of {desired} tasks run{pending}")
}

/// Who wants it on, in a few words; `None` for nobody.
pub(crate) fn holders(view: &StatusView, now: Timestamp) -> Option<String> {
    let each: Vec<String> = view
        .holds
        .iter()
        .filter(|hold| hold.in_force(now))
        .map(|hold| match hold.until {
            Some(until) => format!("{} for {}", hold.holder, span(until.duration_since(now))),
            None => hold.holder.to_string(),
        })
        .collect();
    (!each.is_empty()).then(|| each.join(", "))
}

/// A phase and its step, and what else must be known at a glance.
pub(crate) fn state(view: &StatusView) -> String {
    let mut state = view.phase_word.to_owned();
    if let Some(step) = view.step {
        state.push_str(&format!(" ({})", step.as_str()));
    }
    if view.paused.is_some() {
        state.push_str(", paused");
    }
    if view.phase == Phase::On && view.overall_status == "error" {
        state.push_str(if view.service.is_some() { ", short of tasks" } else { ", unit down" });
    }
    state
}

/// The table of `status` and `watch`.
pub(crate) fn status_table(views: &[StatusView], now: Timestamp, style: Style) -> String {
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|view| {
            let seen = match view.observed_age_seconds {
                Some(age) => {
                    let ago = span(SignedDuration::from_secs(age));
                    match &view.service {
                        Some(its) => format!(
                            "{} {}/{}, {ago} ago",
                            view.ec2_state, its.running_count, its.desired_count
                        ),
                        None => format!("{}, {ago} ago", view.ec2_state),
                    }
                }
                None => "never".to_owned(),
            };
            let since = match view.rev {
                0 => "-".to_owned(),
                _ => span(now.duration_since(view.since)),
            };
            vec![
                view.target.to_string(),
                state(view),
                since,
                holders(view, now).unwrap_or_else(|| "-".to_owned()),
                seen,
                view.why.clone(),
            ]
        })
        .collect();
    let header = ["TARGET", "PHASE", "SINCE", "HELD BY", "SEEN", "WHY"];
    table(&header, &rows, |row, column, cell| match (column, views.get(row)) {
        (1, Some(view)) => style.phase(view.phase, cell),
        _ => cell.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use lamplighter_events::{Holder, InstanceId, TargetName};
    use lamplighter_lifecycle::{
        Hold, HoldKind, InstanceRef, Observed, Place, PowerState, Seen, Sent, ServiceId,
        ServiceSeen, ServiceSpec, Step, TargetRecord,
    };

    use super::*;
    use crate::config::{plain_instance, plain_target};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn view(name: &str, now: Timestamp, change: impl FnOnce(&mut TargetRecord)) -> StatusView {
        let id = InstanceId::parse("i-01234567").unwrap();
        view_of(name, Place::Instance(plain_instance(InstanceRef::Id(id))), now, change)
    }

    fn view_of(
        name: &str,
        place: Place,
        now: Timestamp,
        change: impl FnOnce(&mut TargetRecord),
    ) -> StatusView {
        let name = TargetName::parse(name).unwrap();
        let spec = plain_target(name.clone(), place);
        let resource = spec.resource().unwrap();
        let mut record = TargetRecord::first_contact(name, spec.kind(), resource, now);
        change(&mut record);
        StatusView::of(&record, &spec, now)
    }

    #[test]
    fn the_status_table_tells_phase_holders_and_reason() {
        let now = at("2026-11-20T10:00:00Z");
        let starting = view("position-keeper", now, |record| {
            record.rev = 3;
            record.phase = Phase::Starting;
            record.step = Some(Step::WaitRunning);
            record.since = at("2026-11-20T09:58:40Z");
            record.why = "EC2 accepted the start; waiting until the machine runs".to_owned();
            record.observed = Some(Observed::bare(at("2026-11-20T09:59:58Z"), PowerState::Pending));
            record.holds.push(Hold {
                id: "c-1".to_owned(),
                holder: Holder::parse("user-42").unwrap(),
                kind: HoldKind::Firm,
                from: at("2026-11-20T09:58:40Z"),
                until: Some(at("2026-11-20T12:00:00Z")),
                sent: Sent::new(now, "c-1"),
                reason: None,
            });
        });
        let service = ServiceId::parse("prod", "server").unwrap();
        let place =
            Place::Service(ServiceSpec { service, desired: 2, healthy: false, also: Vec::new() });
        let short = view_of("fluidity", place, now, |record| {
            record.rev = 9;
            record.phase = Phase::On;
            record.since = at("2026-11-20T08:00:00Z");
            record.up.unit_down = true;
            record.why = "it is wanted, and short of tasks".to_owned();
            let seen = Seen::Service(ServiceSeen::counts(2, 1, 1));
            record.observed = Some(Observed::of(at("2026-11-20T09:59:00Z"), seen));
        });
        let unseen = view("pyelli", now, |_| {});
        expect![[r#"
            TARGET           PHASE                    SINCE   HELD BY            SEEN                    WHY
            position-keeper  starting (wait-running)  1m 20s  user-42 for 2h 0m  pending, 2s ago         EC2 accepted the start; waiting until the machine runs
            fluidity         on, short of tasks       2h 0m   -                  pending 1/2, 1m 0s ago  it is wanted, and short of tasks
            pyelli           off                      -       -                  never                   nobody has looked at it yet
        "#]].assert_eq(&status_table(&[starting, short, unseen], now, Style::plain()));
    }

    #[track_caller]
    fn check(seconds: i64, expected: &str) {
        assert_eq!(span(SignedDuration::from_secs(seconds)), expected);
    }

    #[test]
    fn lengths_of_time_have_two_units() {
        check(-3, "0s");
        check(59, "59s");
        check(200, "3m 20s");
        check(7_500, "2h 5m");
        check(349_200, "4d 1h");
    }
}
