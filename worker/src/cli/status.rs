//! `status`, `why` and `history`: what the records say, and with `--live` what AWS says now.
//!
//! Reading writes nothing, also when it observes.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use lamplighter_lifecycle::{
    Agent, CheckReading, HealthReading, IdleMemory, IdleSpec, ObservePlan, Observed, Probe, Seen,
    ServiceSeen, StatusView, TargetRecord, TargetSpec, plan_observation,
};
use lamplighter_runtime::ports::Ports;
use serde_json::{Value, json};

use super::{CliError, Context, find, known_name, output};
use crate::config::Config;
use crate::wiring;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The target; all of them where none is named
    target: Option<String>,
    /// Observe now as well, without writing anything
    #[arg(long)]
    live: bool,
}

/// A target's state, and what a look of this moment said.
struct Looked<'c> {
    spec: &'c TargetSpec,
    view: StatusView,
    memory: IdleMemory,
    live: Option<Result<Observed, String>>,
}

pub(super) async fn run(context: &Context, args: &StatusArgs) -> Result<ExitCode, CliError> {
    let config = context.config()?;
    let specs: Vec<&TargetSpec> = match &args.target {
        Some(name) => vec![find(&config, name)?],
        None => config.fleet.targets.values().collect(),
    };
    let ports = wiring::ports(&wiring::connect(None).await?, &config)?;
    let records = match specs.as_slice() {
        [one] => vec![ports.store.load(&one.name).await?],
        many => {
            let names: Vec<_> = many.iter().map(|spec| spec.name.clone()).collect();
            let found = ports.store.load_all(&names).await?;
            let record = |spec: &&TargetSpec| {
                found.iter().find(|record| record.target == spec.name).cloned()
            };
            many.iter().map(record).collect()
        }
    };
    let now = ports.clock.now();
    let mut looked = Vec::new();
    for (spec, record) in specs.into_iter().zip(records) {
        let record = match record {
            Some(record) => record,
            None => match unseen(&ports, spec, now).await {
                Ok(record) => record,
                // One that cannot be named from here hides no other.
                Err(error) if args.target.is_none() => {
                    let warning = context.style.on_stderr("33", "warning:");
                    eprintln!("{warning} no worker has looked at {} yet: {error}", spec.name);
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        let live = if args.live { Some(observe(&ports, spec, &record).await) } else { None };
        let view = StatusView::of(&record, spec, now);
        looked.push(Looked { spec, view, memory: record.idle, live });
    }
    if context.json {
        let mut values: Vec<Value> = looked.iter().map(as_json).collect();
        match (args.target.is_some(), values.pop()) {
            (true, Some(one)) => output::json(&one),
            (_, last) => {
                values.extend(last);
                output::json(&values);
            }
        }
    } else if let (Some(_), [one]) = (&args.target, looked.as_slice()) {
        output::print(&in_full(context, one, now));
    } else {
        let views: Vec<StatusView> = looked.iter().map(|one| one.view.clone()).collect();
        output::print(&output::status_table(&views, now, context.style));
        for one in &looked {
            if let Some(live) = &one.live {
                output::line(&format!("{} now: {}", one.view.target, told_live(live)));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What there is to say of a target before any worker looked at it.
pub(super) async fn unseen(
    ports: &Ports,
    spec: &TargetSpec,
    now: Timestamp,
) -> Result<TargetRecord, CliError> {
    let resource = match spec.resource() {
        Some(resource) => resource,
        None => ports.cloud.resolve(&spec.place).await?,
    };
    Ok(TargetRecord::first_contact(spec.name.clone(), spec.kind(), resource, now))
}

async fn observe(
    ports: &Ports,
    spec: &TargetSpec,
    record: &TargetRecord,
) -> Result<Observed, String> {
    let mut plan = plan_observation(record, spec, &[], ports.clock.now());
    plan.agent = spec.unit().is_some();
    plan.health.clone_from(&spec.health);
    let service = spec.service();
    plan.stopped_tasks = service.is_some();
    plan.task_health = service.is_some_and(|service| service.healthy);
    plan.bounds = service.is_some();
    look(ports, plan).await
}

/// One look, or why there was none.
pub(super) async fn look(ports: &Ports, plan: ObservePlan) -> Result<Observed, String> {
    match ports.cloud.observe(&[plan]).await.pop() {
        Some(Ok(Ok(seen))) => Ok(seen),
        Some(Ok(Err(trouble))) => Err(format!("{}: {}", trouble.cause, trouble.message)),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("nothing was answered".to_owned()),
    }
}

fn as_json(looked: &Looked<'_>) -> Value {
    let mut value = json!(looked.view);
    if let Some(idle) = &looked.spec.idle {
        let probes: Vec<String> = idle.probes.iter().map(Probe::label).collect();
        value["idle"] =
            json!({ "after": idle.after, "probes": probes, "remembered": looked.memory });
    }
    if let Some(hours) = &looked.spec.hours {
        value["hours"] = json!(hours.describe());
    }
    match &looked.live {
        None => {}
        Some(Ok(seen)) => value["live"] = json!(seen),
        Some(Err(problem)) => value["live"] = json!({ "error": problem }),
    }
    value
}

fn told_live(live: &Result<Observed, String>) -> String {
    let seen = match live {
        Ok(seen) => seen,
        Err(problem) => return format!("it could not be observed: {problem}"),
    };
    let mut told = vec![seen.state().as_str().to_owned()];
    match &seen.seen {
        Seen::Instance(instance) => told.extend(instance.reason.clone()),
        Seen::Service(service) => told.extend(told_service(service)),
    }
    told.extend(seen.agent.map(|agent| {
        let word = match agent {
            Agent::Online => "online",
            Agent::Offline => "not answering",
            Agent::Unregistered => "unknown to SSM",
        };
        format!("agent {word}")
    }));
    match &seen.check {
        Some(CheckReading::Said { state }) => told.push(format!("unit {state}")),
        Some(CheckReading::Pending { .. }) => told.push("the unit is being asked for".to_owned()),
        Some(CheckReading::Undelivered { detail } | CheckReading::Broken { detail }) => {
            told.push(format!("the unit could not be asked for: {detail}"));
        }
        Some(CheckReading::Absent | CheckReading::Exited { .. }) | None => {}
    }
    match &seen.health {
        Some(HealthReading::Healthy) => told.push("healthy".to_owned()),
        Some(HealthReading::Unhealthy { detail }) => told.push(format!("unhealthy: {detail}")),
        None => {}
    }
    told.join(", ")
}

/// ECS's words on a service.
fn told_service(service: &ServiceSeen) -> Vec<String> {
    let mut told = vec![output::counts(service.desired, service.running, service.pending)];
    told.extend(service.healthy.map(|healthy| format!("{healthy} healthy")));
    told.extend(
        service.bounds.map(|bounds| format!("scaling from {} to {}", bounds.min, bounds.max)),
    );
    told.extend(service.rollout_failed.iter().map(|why| format!("its deployment failed: {why}")));
    let unplaced = service.unplaced.as_ref();
    told.extend(unplaced.map(|(at, words)| format!("at {} ECS said: {words}", output::time(*at))));
    told.extend(
        service
            .stopped
            .first()
            .map(|task| format!("a task stopped at {}: {}", output::time(task.at), task.reason)),
    );
    told
}

/// An idle policy, and what is remembered of its probes.
fn told_idle(idle: &IdleSpec, memory: &IdleMemory) -> String {
    let probes: Vec<String> = idle.probes.iter().map(Probe::label).collect();
    let mut told = match probes.as_slice() {
        [] => vec![format!("after {} without a keep-alive", idle.after)],
        probes => vec![format!("after {} by {}", idle.after, probes.join(", "))],
    };
    if let Some(since) = memory.unreachable_since {
        told.push(format!("its backend has not answered since {}", output::time(since)));
    }
    if let Some(since) = memory.streaks.values().map(|streak| streak.since).max() {
        told.push(format!("idle since {}", output::time(since)));
    }
    if let Some(at) = memory.kept_alive_at {
        told.push(format!("kept alive at {}", output::time(at)));
    }
    if let Some(at) = memory.look_at {
        told.push(format!("asked again at {}", output::time(at)));
    }
    told.join("; ")
}

fn told_hours(view: &StatusView, spec: &TargetSpec, now: Timestamp) -> Option<String> {
    let hours = spec.hours.as_ref()?;
    let then = match (view.suppressed_until, hours.at(now)) {
        (Some(until), _) if until > now => {
            format!(
                "this window was ended early and does not come back before {}",
                output::time(until)
            )
        }
        (_, Some(window)) => format!("in force until {}", output::time(window.until)),
        (_, None) => match hours.next_from(now) {
            Some(from) => format!("next from {}", output::time(from)),
            None => "none comes within a year".to_owned(),
        },
    };
    Some(format!("{}; {then}", hours.describe()))
}

fn in_full(context: &Context, looked: &Looked<'_>, now: Timestamp) -> String {
    let view = &looked.view;
    let mut rows: Vec<(&str, String)> = vec![
        ("target", format!("{} ({}, {})", view.target, view.kind, view.instance)),
        ("phase", context.style.phase(view.phase, &output::state(view))),
    ];
    if view.rev > 0 {
        let ago = output::span(now.duration_since(view.since));
        rows.push(("since", format!("{} ({ago} ago)", output::time(view.since))));
    }
    rows.push(("why", view.why.clone()));
    if let Some(failure) = &view.failure {
        rows.push(("failure", format!("{}: {}", failure.cause, failure.message)));
    }
    if let Some(paused) = &view.paused {
        let reason = paused.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        rows.push(("paused", format!("by {} at {}{reason}", paused.by, output::time(paused.at))));
    }
    for hold in &view.holds {
        let until = match hold.until {
            Some(until) => format!("until {}", output::time(until)),
            None => "until it is released".to_owned(),
        };
        let reason = hold.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        rows.push(("hold", format!("{} ({}) {until}{reason}", hold.holder, hold.kind.as_str())));
    }
    if view.holds.is_empty() {
        rows.push(("hold", "none".to_owned()));
    }
    rows.extend(told_hours(view, looked.spec, now).map(|told| ("hours", told)));
    if let Some(idle) = &looked.spec.idle {
        rows.push(("idle", told_idle(idle, &looked.memory)));
    }
    let seen = match view.observed_age_seconds {
        Some(age) => {
            let age = output::span(jiff::SignedDuration::from_secs(age));
            match &view.service {
                Some(service) => format!(
                    "{}, {}, seen {age} ago",
                    view.ec2_state,
                    output::counts(
                        service.desired_count,
                        service.running_count,
                        service.pending_count
                    )
                ),
                None => {
                    format!("{}, unit {}, seen {age} ago", view.ec2_state, view.service_state)
                }
            }
        }
        None => "never".to_owned(),
    };
    rows.push(("observed", seen));
    if let Some(live) = &looked.live {
        rows.push(("now", told_live(live)));
    }
    if let Some(wake_at) = view.wake_at {
        rows.push(("next look", output::time(wake_at)));
    }
    rows.into_iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect()
}

/// A record that must be there.
async fn record_of(
    context: &Context,
    config: &Config,
    target: &str,
) -> Result<Option<TargetRecord>, CliError> {
    let name = known_name(config, target)?;
    let ports = wiring::ports(&wiring::connect(None).await?, config)?;
    let record = ports.store.load(&name).await?;
    if record.is_none() && !context.json {
        output::line(&format!("{name}: nobody has looked at it yet"));
    }
    Ok(record)
}

pub(super) async fn why(context: &Context, target: &str) -> Result<ExitCode, CliError> {
    let config = context.config_or_names()?;
    let record = record_of(context, &config, target).await?;
    if context.json {
        output::json(&match &record {
            Some(record) => json!({
                "target": record.target, "phase": record.phase, "step": record.step,
                "why": record.why, "since": record.since, "failure": record.failure,
                "wake_at": record.wake_at, "rev": record.rev,
            }),
            None => json!({ "target": target, "why": "nobody has looked at it yet" }),
        });
    } else if let Some(record) = record {
        let phase = context.style.phase(record.phase, record.phase.as_str());
        let step = record.step.map(|step| format!(" ({})", step.as_str())).unwrap_or_default();
        output::line(&format!("{} is {phase}{step}: {}", record.target, record.why));
        if let Some(failure) =
            record.failure.as_ref().filter(|it| !record.why.contains(&it.message))
        {
            output::line(&format!(
                "its last start failed ({}): {}",
                failure.cause, failure.message
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn history(context: &Context, target: &str) -> Result<ExitCode, CliError> {
    let config = context.config_or_names()?;
    let record = record_of(context, &config, target).await?;
    let entries = record.map(|record| record.history).unwrap_or_default();
    if context.json {
        output::json(&entries);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| vec![output::time(entry.at), entry.rev.to_string(), entry.what.clone()])
        .collect();
    if !rows.is_empty() {
        let table = output::table(&["TIME", "REV", "WHAT"], &rows, |_, _, cell| cell.to_owned());
        output::print(&table);
    }
    Ok(ExitCode::SUCCESS)
}
