//! `watch`: changes as they come.
//!
//! On a terminal one table is redrawn in place; elsewhere, and with `--json`, each change is a line.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use lamplighter_lifecycle::{StatusView, TargetSpec};
use lamplighter_runtime::ports::Ports;

use super::{CliError, Context, find, output, status};
use crate::wiring;

/// Between two looks at the table.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &Context, target: Option<&str>) -> Result<ExitCode, CliError> {
    let config = context.config()?;
    let specs: Vec<&TargetSpec> = match target {
        Some(name) => vec![find(&config, name)?],
        None => config.fleet.targets.values().collect(),
    };
    let ports = wiring::ports(&wiring::connect(None).await?, &config)?;
    let redraw = std::io::stdout().is_terminal() && !context.json;
    let mut shutdown = std::pin::pin!(wiring::shutdown()?);
    let (mut shown, mut lines) = (Vec::new(), 0);
    loop {
        let views = views(&ports, &specs).await?;
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
            shown = views;
        }
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn views(ports: &Ports, specs: &[&TargetSpec]) -> Result<Vec<StatusView>, CliError> {
    let names: Vec<_> = specs.iter().map(|spec| spec.name.clone()).collect();
    let records = ports.store.load_all(&names).await?;
    let now = ports.clock.now();
    let mut views = Vec::new();
    for spec in specs {
        let record = match records.iter().find(|record| record.target == spec.name) {
            Some(record) => record.clone(),
            None => match status::unseen(ports, spec, now).await {
                Ok(record) => record,
                // It is told as soon as a worker has looked at it.
                Err(_) if specs.len() > 1 => continue,
                Err(error) => return Err(error),
            },
        };
        views.push(StatusView::of(&record, spec, now));
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
