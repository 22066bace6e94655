//! `watch`: changes as they come.
//!
//! On a terminal one table is redrawn in place; elsewhere, and with `--json`, each change is a line.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use lamplighter_events::TargetName;
use lamplighter_lifecycle::{Phase, StatusView};
use lamplighter_runtime::ports::Ports;

use super::naming::{Named, named};
use super::{CliError, Context, machines, output, status};
use crate::config::Config;
use crate::wiring;

/// Between two looks at the table.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is watched.
enum Watched {
    One(TargetName),
    Template(TargetName),
    Everything,
}

pub(super) async fn run(context: &Context, target: Option<&str>) -> Result<ExitCode, CliError> {
    let config = context.config()?;
    let word = target.map(|target| named(&config, target)).transpose()?;
    let ports = wiring::ports(&wiring::connect(None).await?, &config)?;
    let watched = match word {
        None => match config.fleet.targets.keys().next() {
            // Where there is just one, what hinders it is said.
            Some(only) if config.fleet.targets.len() == 1 && config.fleet.templates.is_empty() => {
                Watched::One(only.clone())
            }
            _ => Watched::Everything,
        },
        Some(Named::Template(name)) => Watched::Template(name),
        Some(one) => Watched::One(one.spec(&config, &ports).await?.name.clone()),
    };
    let redraw = std::io::stdout().is_terminal() && !context.json;
    let mut shutdown = std::pin::pin!(wiring::shutdown()?);
    let (mut shown, mut lines): (Vec<StatusView>, usize) = (Vec::new(), 0);
    loop {
        let names = names(&config, &ports, &watched, &shown).await?;
        let views = views(&config, &ports, &names, matches!(watched, Watched::One(_))).await?;
        if redraw {
            let table = output::status_table(&views, ports.clock.now(), context.style);
            // Up to the table's first line, and everything below it cleared.
            let up = if lines > 0 { format!("\u{1b}[{lines}A") } else { String::new() };
            output::print(&format!("{up}\u{1b}[J{table}"));
            lines = table.lines().count();
        } else {
            for view in &views {
                if !shown.iter().any(|before| same(before, view)) {
                    tell(context, view, ports.clock.now());
                }
            }
        }
        shown = views;
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Whose views are shown next. A machine that gave its place back is shown once more, at rest.
async fn names(
    config: &Config,
    ports: &Ports,
    watched: &Watched,
    shown: &[StatusView],
) -> Result<Vec<TargetName>, CliError> {
    let mut names = match watched {
        Watched::One(name) => vec![name.clone()],
        Watched::Template(template) => ports.store.seats(template).await?,
        Watched::Everything => {
            let mut names: Vec<TargetName> = config.fleet.targets.keys().cloned().collect();
            names.extend(machines::placed(&config.fleet, ports).await?);
            names
        }
    };
    let moving = shown.iter().filter(|view| !matches!(view.phase, Phase::Off | Phase::Failed));
    let left: Vec<TargetName> =
        moving.map(|view| view.target.clone()).filter(|name| !names.contains(name)).collect();
    names.extend(left);
    Ok(names)
}

async fn views(
    config: &Config,
    ports: &Ports,
    names: &[TargetName],
    must_be_there: bool,
) -> Result<Vec<StatusView>, CliError> {
    let records = match names.is_empty() {
        true => Vec::new(),
        false => ports.store.load_all(names).await?,
    };
    let now = ports.clock.now();
    let mut views = Vec::new();
    for name in names {
        let Some(spec) = config.fleet.spec(name) else { continue };
        let record = match records.iter().find(|stored| stored.target() == name) {
            Some(stored) => stored.clone().shown(),
            None => match status::unseen(ports, &spec, now).await {
                Ok(record) => record,
                Err(error) if must_be_there => return Err(error),
                // It is told as soon as a worker has looked at it.
                Err(_) => continue,
            },
        };
        views.push(StatusView::of(&record, &spec, now));
    }
    Ok(views)
}

/// Whether nothing differs that a watcher would want to know.
fn same(before: &StatusView, after: &StatusView) -> bool {
    before.target == after.target
        && before.phase == after.phase
        && before.step == after.step
        && before.why == after.why
        && before.holds == after.holds
        && before.overall_status == after.overall_status
        && before.paused == after.paused
        && before.service == after.service
        && before.suppressed_until == after.suppressed_until
        && addressed(before) == addressed(after)
}

/// A launched machine's id and address.
fn addressed(view: &StatusView) -> Option<(Option<&str>, Option<&str>)> {
    let seen = view.provisioned.as_ref()?;
    let id = seen.instance_id.as_ref().map(lamplighter_events::InstanceId::as_str);
    Some((id, seen.public_ip.as_deref()))
}

fn tell(context: &Context, view: &StatusView, now: jiff::Timestamp) {
    if context.json {
        output::line(&serde_json::json!(view).to_string());
        return;
    }
    let state = context.style.phase(view.phase, &output::state(view));
    output::line(&format!(
        "{}  {}  {state}  held by {}: {}",
        output::time(now),
        view.target,
        output::holders(view, now).as_deref().unwrap_or("nobody"),
        view.why
    ));
}
