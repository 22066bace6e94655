//! `schedule`: the fleet's schedules in AWS, and when they fire.
//!
//! The file says which there are; whether one is switched on is AWS's to know, so that `disable` lasts
//! until `enable`, whatever is applied between. `next` reads the file alone.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use lamplighter_aws::schedules::{
    self, Change, Difference, Home, Planned, Report, SchedulesError, owned_by,
};
use lamplighter_aws::setup::{Change as StepChange, SetupError, SetupStep};
use lamplighter_aws::{Aws, Names};
use lamplighter_events::{Command, Expression, TargetRef, Unit, nearest};
use lamplighter_runtime::ports::CallError;
use serde_json::{Value, json};

use super::{CliError, Context, output};
use crate::config::{Config, Origin, Schedule};
use crate::wiring;

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleVerb {
    /// Show what `apply` would change, and change nothing
    Plan,
    /// Make AWS's schedules those of the fleet file; touches only what is this fleet's, by its tag
    Apply,
    /// Print the coming firings, in UTC and by the schedule's own clock; asks nobody
    Next(NextArgs),
    /// Switch a schedule on
    Enable {
        /// The schedule
        name: String,
    },
    /// Switch a schedule off; it stays off, whatever is applied
    Disable {
        /// The schedule
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NextArgs {
    /// So many firings
    #[arg(long, value_name = "FIRINGS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Of this schedule alone
    #[arg(long)]
    name: Option<String>,
}

pub(super) async fn run(context: &Context, verb: ScheduleVerb) -> Result<ExitCode, CliError> {
    let config = context.config()?;
    // A fleet of variables names none, and an apply would take the file's away.
    if config.origin == Origin::Environment {
        return Err(CliError::Usage(
            "schedules are in a fleet file, and the fleet is made of environment variables alone: \
             name a file with --fleet FILE"
                .to_owned(),
        ));
    }
    let connect = async || {
        context.warn(&config);
        wiring::connect(None).await
    };
    match verb {
        ScheduleVerb::Next(args) => next(context, &config, &args),
        ScheduleVerb::Plan => {
            let (names, wish) = (wiring::names(&config), wiring::wish(&config));
            let report = schedules::plan(&connect().await?, &names, &wish).await;
            tell(context, &report.map_err(failed)?, false);
            Ok(ExitCode::SUCCESS)
        }
        ScheduleVerb::Apply => {
            let report = apply(&connect().await?, &config).await?;
            tell(context, &report, true);
            let left = report.schedules.iter().any(is_not_ours);
            Ok(ExitCode::from(u8::from(left)))
        }
        ScheduleVerb::Enable { name } => {
            switch(context, &config, &connect().await?, &name, true).await
        }
        ScheduleVerb::Disable { name } => {
            switch(context, &config, &connect().await?, &name, false).await
        }
    }
}

async fn apply(aws: &Aws, config: &Config) -> Result<Report, CliError> {
    schedules::apply(aws, &wiring::names(config), &wiring::wish(config)).await.map_err(failed)
}

/// `local`'s second act, after setting up.
#[cfg(feature = "local")]
pub(super) async fn apply_quietly(aws: &Aws, config: &Config) -> Result<(), CliError> {
    let report = apply(aws, config).await?;
    for planned in report.schedules.iter().filter(|it| is_not_ours(it)) {
        tracing::warn!("{}", sentence(planned));
    }
    tracing::debug!(schedules = report.schedules.len(), "schedules applied");
    Ok(())
}

fn is_not_ours(planned: &Planned) -> bool {
    matches!(planned.change, Change::NotOurs { .. })
}

/// Schedules that could not be worked on; where a call was refused, its hint is as good here.
fn failed(error: SchedulesError) -> CliError {
    let with = |source: CallError, what: &str| {
        let CallError { operation, cause, message, disposition, applied } = source;
        let message = format!("{message} (at the {what})");
        CliError::Call(CallError { operation, cause, message, disposition, applied })
    };
    match error {
        SchedulesError::Call { what, source }
        | SchedulesError::Queue(SetupError::Call { what, source }) => with(source, &what),
        SchedulesError::NoQueue(_)
        | SchedulesError::Meanwhile { .. }
        | SchedulesError::NotThere(_)
        | SchedulesError::NotOurs { .. } => CliError::Missing(error.to_string()),
        error => CliError::Failed { what: "schedules stopped", source: Box::new(error) },
    }
}

async fn switch(
    context: &Context,
    config: &Config,
    aws: &Aws,
    name: &str,
    enabled: bool,
) -> Result<ExitCode, CliError> {
    let names: Names = wiring::names(config);
    let answer = schedules::switch(aws, &names, &wiring::wish(config), name, enabled).await;
    let changed = match answer {
        // Neither in AWS nor in the file: a slip of the finger.
        Err(SchedulesError::NotThere(_)) if !config.schedules.contains_key(name) => {
            return Err(unknown(config, name));
        }
        answer => answer.map_err(failed)?,
    };
    if context.json {
        output::json(&json!({"name": name, "enabled": enabled, "changed": changed}));
        return Ok(ExitCode::SUCCESS);
    }
    let state = if enabled { "enabled" } else { "disabled" };
    let before = if changed { "" } else { ", as it was before" };
    output::line(&format!("{name} is {state}{before}"));
    Ok(ExitCode::SUCCESS)
}

fn unknown(config: &Config, name: &str) -> CliError {
    let known: Vec<&str> = config.schedules.keys().map(String::as_str).collect();
    let hint = match nearest(name, &known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => "it has no [schedules]".to_owned(),
        None => format!("expected one of {}", known.join(", ")),
    };
    CliError::Usage(format!("no schedule of {} is named {name:?}; {hint}", config.origin))
}

fn tell(context: &Context, report: &Report, done: bool) {
    if context.json {
        return output::json(report);
    }
    let line = |word: &str, colour: &str, text: &str| {
        let word = context.style.paint(colour, &format!("{word:<9}"));
        output::line(&format!("{word}  {text}"));
    };
    for SetupStep { what, change, note } in &report.needs {
        let (word, colour) = match (change, done) {
            (StepChange::Created, true) => ("added", "32"),
            (StepChange::Created, false) => ("add", "33"),
            (StepChange::Updated, true) => ("changed", "32"),
            (StepChange::Updated, false) => ("change", "33"),
            (StepChange::Exists, _) => ("unchanged", "2"),
            (StepChange::Skipped, _) => ("skipped", "33"),
        };
        let note = note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        line(word, colour, &format!("{what}{note}"));
    }
    for planned in &report.schedules {
        let (word, colour) = match (&planned.change, done) {
            (Change::Add, true) => ("added", "32"),
            (Change::Add, false) => ("add", "33"),
            (Change::Change { .. }, true) => ("changed", "32"),
            (Change::Change { .. }, false) => ("change", "33"),
            (Change::Remove, true) => ("removed", "32"),
            (Change::Remove, false) => ("remove", "33"),
            (Change::Unchanged, _) => ("unchanged", "2"),
            (Change::NotOurs { .. }, _) => ("not ours", "31"),
        };
        line(word, colour, &sentence(planned));
    }
}

/// What is planned about a schedule, after its verb.
fn sentence(planned: &Planned) -> String {
    let name = &planned.name;
    let what = match &planned.home {
        Home::Rule => format!("rule {name}"),
        Home::Scheduler(group) => format!("schedule {name} of group {group}"),
    };
    let rest = match &planned.change {
        Change::Add => {
            let zone = planned.zone.as_ref().map(|zone| format!(" in {zone}")).unwrap_or_default();
            format!(": {}{zone}", planned.expression.as_deref().unwrap_or_default())
        }
        Change::Change { differences } => {
            let each: Vec<String> = differences.iter().map(difference).collect();
            format!(": {}", each.join("; "))
        }
        Change::NotOurs { owner } => {
            return format!("{what}: {}; it was left alone", owned_by(owner.as_deref()));
        }
        Change::Remove | Change::Unchanged => String::new(),
    };
    let state = if planned.enabled { "" } else { ", disabled" };
    format!("{what}{rest}{state}")
}

fn difference(difference: &Difference) -> String {
    let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    format!("{} from {} to {}", difference.what, shown(&difference.from), shown(&difference.to))
}

/// One firing.
struct Firing<'c> {
    at: Timestamp,
    name: &'c str,
    zone: Option<&'c TimeZone>,
}

impl Firing<'_> {
    /// By the schedule's own clock, with what tells apart the hour that autumn shows twice.
    fn local(&self) -> Option<String> {
        let local = self.at.to_zoned(self.zone?.clone());
        Some(local.strftime("%a %Y-%m-%d %H:%M %Z").to_string())
    }
}

fn next(context: &Context, config: &Config, args: &NextArgs) -> Result<ExitCode, CliError> {
    if let Some(name) = args.name.as_deref().filter(|name| !config.schedules.contains_key(*name)) {
        return Err(unknown(config, name));
    }
    let asked = |name: &str| args.name.as_deref().is_none_or(|wanted| wanted == name);
    let asked: Vec<(&str, &Schedule)> = config
        .schedules
        .iter()
        .map(|(name, schedule)| (name.as_str(), schedule))
        .filter(|(name, _)| asked(name))
        .collect();
    let count = usize::try_from(args.count).unwrap_or(usize::MAX);
    let firings = coming(&asked, Timestamp::now(), count);
    let rates: Vec<(&str, String)> =
        asked.iter().filter_map(|(name, it)| Some((*name, rhythm(&it.expression)?))).collect();
    let fires = |name: &str| firings.iter().any(|firing| firing.name == name);
    let over: Vec<&str> = asked
        .iter()
        .filter(|(name, it)| !fires(name) && next_of(it, Timestamp::now()).is_none())
        .map(|(name, _)| *name)
        .filter(|name| !rates.iter().any(|(rate, _)| rate == name))
        .collect();
    if context.json {
        let each: Vec<Value> = firings
            .iter()
            .map(|it| {
                json!({"name": it.name, "at": it.at, "local": it.local(),
                    "zone": it.zone.and_then(TimeZone::iana_name)})
            })
            .collect();
        let every: Vec<Value> =
            rates.iter().map(|(name, every)| json!({"name": name, "every": every})).collect();
        output::json(&json!({"firings": each, "rates": every, "over": over}));
        return Ok(ExitCode::SUCCESS);
    }
    if asked.is_empty() {
        output::line("the fleet has no schedules");
    }
    if !firings.is_empty() {
        let dash = || "-".to_owned();
        let rows: Vec<Vec<String>> = firings
            .iter()
            .map(|it| {
                let zone = it.zone.and_then(TimeZone::iana_name);
                let local = it.local().zip(zone);
                vec![
                    output::time(it.at),
                    local.map_or_else(dash, |(local, zone)| format!("{local} ({zone})")),
                    it.name.to_owned(),
                    config.fleet.rules.get(it.name).map_or_else(dash, asks),
                ]
            })
            .collect();
        let header = ["UTC", "BY ITS CLOCK", "SCHEDULE", "ASKS"];
        output::print(&output::table(&header, &rows, |_, _, cell| cell.to_owned()));
    }
    for (name, every) in rates {
        output::line(&format!("{name} fires {every}, counted from when it was made or enabled"));
    }
    for name in over {
        output::line(&format!("{name} never fires again"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The next firing of what has its times in itself.
fn next_of(schedule: &Schedule, after: Timestamp) -> Option<Timestamp> {
    match &schedule.expression {
        Expression::Rate { .. } => None,
        Expression::Cron(_) | Expression::At(_) => {
            let zone = schedule.zone.clone().unwrap_or(TimeZone::UTC);
            schedule.expression.next_after(after, after, &zone)
        }
    }
}

/// The first `count` firings of all of them together.
fn coming<'c>(
    schedules: &[(&'c str, &'c Schedule)],
    now: Timestamp,
    count: usize,
) -> Vec<Firing<'c>> {
    let mut firings: Vec<Firing<'c>> = Vec::new();
    for (name, schedule) in schedules {
        let first = next_of(schedule, now);
        let series = std::iter::successors(first, |last| next_of(schedule, *last));
        let zone = schedule.zone.as_ref();
        firings.extend(series.take(count).map(|at| Firing { at, name, zone }));
    }
    firings.sort_by_key(|firing| (firing.at, firing.name));
    firings.truncate(count);
    firings
}

/// `every 5 minutes`; `None` for what has its times in itself.
fn rhythm(expression: &Expression) -> Option<String> {
    let Expression::Rate { amount, unit } = expression else { return None };
    let unit = match unit {
        Unit::Minutes => "minute",
        Unit::Hours => "hour",
        Unit::Days => "day",
    };
    Some(match amount {
        1 => format!("every {unit}"),
        amount => format!("every {amount} {unit}s"),
    })
}

/// A command in two words.
fn asks(command: &Command) -> String {
    match &command.target {
        Some(TargetRef::Name(target)) => format!("{} {target}", command.action),
        _ => command.action.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(schedules: &str) -> Config {
        let text = format!(
            "[targets.a]\nkind = \"ec2-instance\"\ninstance_id = \"i-0123456789\"\n\
             [scheduler]\nrole = \"arn:aws:iam::123456789012:role/lamplighter\"\n{schedules}"
        );
        crate::config::parse("f.toml", &text).unwrap()
    }

    #[test]
    fn firings_come_in_the_order_of_time_by_each_ones_clock() {
        let config = config(
            "[schedules.berlin]\nexpression = \"cron(30 2 * * ? *)\"\nzone = \"Europe/Berlin\"\n\
             command = { action = \"start\", target = \"a\" }\n\
             [schedules.utc]\nexpression = \"cron(0 0 25 * ? *)\"\ncommand = { action = \"kill\", target = \"a\" }\n\
             [schedules.often]\nexpression = \"rate(1 hour)\"\ncommand = { action = \"check-idle\" }\n",
        );
        let all: Vec<(&str, &Schedule)> =
            config.schedules.iter().map(|(name, it)| (name.as_str(), it)).collect();
        let now = "2026-10-23T12:00:00Z".parse().unwrap();
        let said: Vec<String> = coming(&all, now, 4)
            .iter()
            .map(|it| format!("{} {} {}", it.at, it.name, it.local().unwrap_or_default()))
            .collect();
        let expected = [
            "2026-10-24T00:30:00Z berlin Sat 2026-10-24 02:30 CEST",
            "2026-10-25T00:00:00Z utc ",
            "2026-10-25T00:30:00Z berlin Sun 2026-10-25 02:30 CEST",
            "2026-10-26T01:30:00Z berlin Mon 2026-10-26 02:30 CET",
        ];
        assert_eq!(said, expected);
        assert_eq!(rhythm(&config.schedules["often"].expression).as_deref(), Some("every hour"));
        assert_eq!(asks(&config.fleet.rules["utc"]), "kill a");
        assert_eq!(asks(&config.fleet.rules["often"]), "check-idle");
    }

    #[test]
    fn an_unknown_schedule_is_refused_with_the_nearest() {
        let config = config(
            "[schedules.nightly]\nexpression = \"rate(1 day)\"\ncommand = { action = \"kill\", target = \"a\" }\n",
        );
        let said = unknown(&config, "nightli").to_string();
        assert!(said.contains("did you mean \"nightly\"?"), "{said}");
        let said = unknown(&config, "x").to_string();
        assert!(said.contains("expected one of nightly"), "{said}");
    }
}
