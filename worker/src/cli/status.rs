//! `status`, `why` and `history`: what the records say, and with `--live` what AWS says now.
//!
//! Reading writes nothing, also when it observes.

use std::borrow::Cow;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use lamplighter_lifecycle::{
    Agent, CheckReading, HealthReading, IdleMemory, IdleSpec, LaunchRecord, ObservePlan, Observed,
    Probe, Seen, ServiceSeen, StatusView, TargetRecord, TargetSpec, plan_observation,
};
use lamplighter_runtime::ports::{Ports, Stored};
use serde_json::{Value, json};

use super::machines::{self, Machines};
use super::naming::{Named, named};
use super::{CliError, Context, output};
use crate::config::Config;
use crate::wiring;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// A target, an instance id, or a template; everything where none is named
    target: Option<String>,
    /// Observe now as well, without writing anything
    #[arg(long)]
    live: bool,
    /// Of templates, show the machines too that are gone and not yet forgotten; this reads the whole table
    #[arg(long)]
    all: bool,
}

/// A target's state, and what a look of this moment said.
struct Looked<'c> {
    spec: Cow<'c, TargetSpec>,
    view: StatusView,
    memory: IdleMemory,
    launch: Option<LaunchRecord>,
    live: Option<Result<Observed, String>>,
    /// Why its record cannot be read here, where it cannot.
    unreadable: Option<String>,
}

pub(super) async fn run(context: &Context, args: &StatusArgs) -> Result<ExitCode, CliError> {
    let config = context.config()?;
    let word = args.target.as_deref().map(|word| named(&config, word)).transpose()?;
    if args.all && matches!(word, Some(Named::Target(_) | Named::Instance(_))) {
        let message =
            "--all belongs to a template, or to no name at all: of one target all is shown";
        return Err(CliError::Usage(message.to_owned()));
    }
    let ports = wiring::ports(&wiring::connect(None).await?, &config)?;
    let now = ports.clock.now();
    let look = Look { ports: &ports, live: args.live, now };
    match word {
        None => everything(context, &config, &look, args.all).await?,
        Some(Named::Template(name)) => {
            let spec = config.fleet.templates.get(&name).and_then(TargetSpec::template);
            let Some(spec) = spec else { unreachable!("a template of the fleet was named") };
            let machines = machines::of(&ports, spec, args.all, now).await?;
            let looked = look.at_machines(&config, &machines).await;
            if context.json {
                output::json(&json!({
                    "template": name, "limit": spec.limit, "taken": machines.taken,
                    "machines": looked.iter().map(as_json).collect::<Vec<_>>(),
                }));
            } else {
                tell_machines(context, &machines, &looked, now);
            }
        }
        Some(one) => {
            let spec = one.spec(&config, &ports).await?;
            let stored = match ports.store.look_up(&spec.name).await? {
                Some(stored) => stored,
                None => Stored::Record(Box::new(unseen(&ports, &spec, now).await?)),
            };
            let looked = look.at(spec, stored).await;
            if context.json {
                output::json(&as_json(&looked));
            } else {
                output::print(&in_full(context, &looked, now));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The targets of the file, and the machines of each template.
async fn everything(
    context: &Context,
    config: &Config,
    look: &Look<'_>,
    all: bool,
) -> Result<(), CliError> {
    let names: Vec<_> = config.fleet.targets.keys().cloned().collect();
    let mut found = match names.is_empty() {
        true => Vec::new(),
        false => look.ports.store.load_all(&names).await?,
    };
    let mut looked = Vec::new();
    for spec in config.fleet.targets.values() {
        let place = found.iter().position(|stored| *stored.target() == spec.name);
        let stored = match place.map(|place| found.swap_remove(place)) {
            Some(stored) => stored,
            None => match unseen(look.ports, spec, look.now).await {
                Ok(record) => Stored::Record(Box::new(record)),
                // One that cannot be named from here hides no other.
                Err(error) => {
                    let warning = context.style.on_stderr("33", "warning:");
                    eprintln!("{warning} no worker has looked at {} yet: {error}", spec.name);
                    continue;
                }
            },
        };
        looked.push(look.at(Cow::Borrowed(spec), stored).await);
    }
    let mut made = Vec::new();
    for template in config.fleet.templates.values().filter_map(TargetSpec::template) {
        let machines = machines::of(look.ports, template, all, look.now).await?;
        let looked = look.at_machines(config, &machines).await;
        made.push((machines, looked));
    }
    if context.json {
        let each = looked.iter().chain(made.iter().flat_map(|(_, looked)| looked));
        output::json(&each.map(as_json).collect::<Vec<_>>());
        return Ok(());
    }
    if !looked.is_empty() || made.is_empty() {
        let views: Vec<StatusView> = looked.iter().map(|one| one.view.clone()).collect();
        output::print(&output::status_table(&views, look.now, context.style));
        tell_lives(&looked);
    }
    for (at, (machines, looked_at)) in made.iter().enumerate() {
        if at > 0 || !looked.is_empty() {
            output::line("");
        }
        tell_machines(context, machines, looked_at, look.now);
    }
    Ok(())
}

fn tell_machines(
    context: &Context,
    machines: &Machines<'_>,
    looked: &[Looked<'_>],
    now: Timestamp,
) {
    output::line(&machines::heading(machines));
    if looked.is_empty() {
        return;
    }
    let views: Vec<StatusView> = looked.iter().map(|one| one.view.clone()).collect();
    output::print(&machines::table(machines.spec, &views, now, context.style));
    tell_lives(looked);
}

fn tell_lives(looked: &[Looked<'_>]) {
    for one in looked {
        if let Some(live) = &one.live {
            output::line(&format!("{} now: {}", one.view.target, told_live(live)));
        }
    }
}

/// How things are looked at.
struct Look<'p> {
    ports: &'p Ports,
    live: bool,
    now: Timestamp,
}

impl Look<'_> {
    async fn at<'c>(&self, spec: Cow<'c, TargetSpec>, stored: Stored) -> Looked<'c> {
        let unreadable = stored.unreadable();
        let record = stored.shown();
        let live = match self.live {
            true => Some(observe(self.ports, &spec, &record).await),
            false => None,
        };
        let view = StatusView::of(&record, &spec, self.now);
        Looked {
            spec,
            view,
            memory: record.idle,
            launch: record.provision.launch,
            live,
            unreadable,
        }
    }

    async fn at_machines<'c>(
        &self,
        config: &'c Config,
        machines: &Machines<'_>,
    ) -> Vec<Looked<'c>> {
        let mut looked = Vec::new();
        for stored in &machines.records {
            // A name that only looks like one of the template's machines is none.
            if let Some(spec) = config.fleet.spec(stored.target()) {
                looked.push(self.at(spec, stored.clone()).await);
            }
        }
        looked
    }
}

/// What there is to say of a target before any worker looked at it.
pub(super) async fn unseen(
    ports: &Ports,
    spec: &TargetSpec,
    now: Timestamp,
) -> Result<TargetRecord, CliError> {
    if spec.kind().is_created() {
        return Err(CliError::Missing(format!(
            "nothing is known of {}: it was never asked for, no worker has taken it yet, or it is gone and \
             forgotten",
            spec.name
        )));
    }
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
    let bootstraps = spec.template().is_some_and(|template| template.bootstrap.is_some());
    plan.agent = spec.unit().is_some() || bootstraps;
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
    if let Some(why) = &looked.unreadable {
        value["unreadable"] = json!(why);
    }
    if let Some(idle) = &looked.spec.idle {
        let probes: Vec<String> = idle.probes.iter().map(Probe::label).collect();
        value["idle"] =
            json!({ "after": idle.after, "probes": probes, "remembered": looked.memory });
    }
    if let Some(hours) = &looked.spec.hours {
        value["hours"] = json!(hours.describe());
    }
    if let Some(template) = looked.spec.template() {
        let launch = looked.launch.as_ref();
        value["template"] = json!(template.template);
        value["launches"] = json!(launch.map_or(0, |launch| launch.number));
        value["refused"] = json!(launch.map(|launch| &launch.tried));
        value["ended_at"] = json!(launch.and_then(|launch| launch.ended_at));
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
    if let Some(at) = memory.silent_said_at {
        told.push(format!("a metric of it is silent, as was said at {}", output::time(at)));
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
    let what = match looked.spec.template() {
        Some(_) => view.kind.to_string(),
        None => format!("{}, {}", view.kind, view.instance),
    };
    let mut rows: Vec<(&str, String)> = vec![
        ("target", format!("{} ({what})", view.target)),
        ("phase", context.style.phase(view.phase, &output::state(view))),
    ];
    if view.rev > 0 {
        let ago = output::span(now.duration_since(view.since));
        rows.push(("since", format!("{} ({ago} ago)", output::time(view.since))));
    }
    rows.push(("why", view.why.clone()));
    rows.extend(machines::rows(&looked.spec, view, looked.launch.as_ref(), now));
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
    rows.extend(told_hours(view, &looked.spec, now).map(|told| ("hours", told)));
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
    let word = named(config, target)?;
    let ports = wiring::ports(&wiring::connect(None).await?, config)?;
    let name = word.target(config, &ports).await?;
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
                "target": record.target, "phase": record.phase_name(),
                "step": record.step,
                "why": record.why, "since": record.since, "failure": record.failure,
                "wake_at": record.wake_at, "rev": record.rev,
            }),
            None => json!({ "target": target, "why": "nobody has looked at it yet" }),
        });
    } else if let Some(record) = record {
        let phase = context.style.phase(record.phase, record.phase_name());
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
