//! `send`, `outcome`, `pause` and `resume`: commands go through the queue, as everybody's do.
//!
//! Waiting is looking: at the command's item for its outcome, at the target's record for its steps.
//! Giving up waiting takes nothing back.

use lamplighter_runtime::owner_of;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use lamplighter_events::{
    Action, Cause, Command, CommandId, Holder, HumanDuration, Outcome, TargetName, TargetRef,
    Thresholds, Verdict,
};
use lamplighter_lifecycle::{CommandRecord, Phase, Resource, ServiceId, Step};
use lamplighter_runtime::ports::{CallError, Disposition, Outgoing, Ports};
use lamplighter_runtime::{TRACE_ATTRIBUTE, telemetry};
use serde_json::json;

use super::naming::{self, Named, named};
use super::{CliError, Context, machines, output};
use crate::config::Config;
use crate::wiring;

/// Between two looks: short enough to see each step, long enough to cost little.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// At first it looks more often, so that a short step is shown too.
const FIRST_LOOKS_EVERY: Duration = Duration::from_millis(150);
const FIRST_LOOKS_FOR: Duration = Duration::from_secs(20);
/// As every duration of ours, 366 days.
pub(super) const MINUTES_MAX: i64 = 366 * 24 * 60;

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// start, stop, kill, create, destroy, status, check-idle, keep-alive, pause, resume, …
    #[arg(value_parser = Action::parse)]
    action: Action,
    /// A target's name, an instance id, or an ECS service as cluster/service; with create, a template
    target: Option<String>,
    /// With create: a parameter of the template, such as blob_id=abc; once for each
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// Hold the target for so long, such as 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = HumanDuration::parse, conflicts_with = "until")]
    hold_for: Option<HumanDuration>,
    /// Hold the target until then, such as 2026-12-01T18:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// For whom
    #[arg(long, value_parser = Holder::parse)]
    holder: Option<Holder>,
    /// Why, for people
    #[arg(long)]
    reason: Option<String>,
    /// The command's id: sent again with the same one, nothing happens twice [default: a new one]
    #[arg(long, value_parser = CommandId::parse)]
    id: Option<CommandId>,
    /// Not to be done after this
    #[arg(long, value_name = "TIME")]
    expires: Option<Timestamp>,
    /// With check-idle: idle for so long is idle, whatever the policy says
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=MINUTES_MAX))]
    idle_threshold_minutes: Option<u32>,
    /// With check-idle: so far back metrics are read
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=MINUTES_MAX))]
    lookback_minutes: Option<u32>,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Args)]
struct WaitArgs {
    /// Wait for the outcome, and show each step
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this; the command itself goes on
    #[arg(long, value_name = "DURATION", requires = "wait", default_value = "15m", value_parser = HumanDuration::parse)]
    timeout: HumanDuration,
}

#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct PauseArgs {
    /// The target
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    target: Option<String>,
    /// Every target of the fleet, and every machine of its templates
    #[arg(long)]
    all: bool,
    /// For whom
    #[arg(long, value_parser = Holder::parse)]
    holder: Option<Holder>,
    /// Why, for people
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

pub(super) async fn run(context: &Context, args: SendArgs) -> Result<ExitCode, CliError> {
    let config = context.config_or_names()?;
    let (target, template) = match (&args.target, args.action) {
        (None, _) => (None, None),
        (Some(name), Action::Create) => match named(&config, name) {
            // Its record may be of another kind, or take it: the worker says.
            Ok(Named::Target(name)) if config.fleet.has(&name) => {
                (Some(TargetRef::Name(name)), None)
            }
            _ => (None, Some(naming::template(&config, name)?)),
        },
        (Some(name), _) => (Some(target_of(&config, name)?), None),
    };
    if !args.parameters.is_empty() && args.action != Action::Create {
        let message = "--set belongs to create alone: it tells what a new machine is made with";
        return Err(CliError::Usage(message.to_owned()));
    }
    let thresholds = Thresholds {
        idle_threshold_mins: args.idle_threshold_minutes,
        lookback_period_mins: args.lookback_minutes,
    };
    if thresholds != Thresholds::default() && args.action != Action::CheckIdle {
        let message = "--idle-threshold-minutes and --lookback-minutes belong to check-idle alone";
        return Err(CliError::Usage(message.to_owned()));
    }
    let command = Command {
        target,
        template,
        parameters: parameters(args.parameters)?,
        thresholds,
        id: Some(args.id.unwrap_or_else(new_id)),
        holder: args.holder,
        hold_for: args.hold_for,
        until: args.until,
        reason: args.reason,
        expires: args.expires,
        ..Command::new(args.action)
    };
    let ports = wiring::ports(&wiring::connect(None).await?, &config)?;
    send_all(context, &config, &ports, &[command], &args.wait).await
}

pub(super) async fn pause(
    context: &Context,
    args: PauseArgs,
    action: Action,
) -> Result<ExitCode, CliError> {
    let config = if args.all { context.config()? } else { context.config_or_names()? };
    let one = args.target.as_deref().map(|name| target_of(&config, name)).transpose()?;
    let ports = wiring::ports(&wiring::connect(None).await?, &config)?;
    let targets = match one {
        Some(target) => vec![target],
        None => {
            let mut all: Vec<TargetName> = config.fleet.targets.keys().cloned().collect();
            all.extend(machines::placed(&config.fleet, &ports).await?);
            all.into_iter().map(TargetRef::Name).collect()
        }
    };
    if args.all && action == Action::Pause && !config.fleet.templates.is_empty() {
        let warning = context.style.on_stderr("33", "warning:");
        eprintln!(
            "{warning} only machines that are there are paused: a create makes one that is not"
        );
    }
    let commands: Vec<Command> = targets
        .into_iter()
        .map(|target| Command {
            target: Some(target),
            id: Some(new_id()),
            holder: args.holder.clone(),
            reason: args.reason.clone(),
            ..Command::new(action)
        })
        .collect();
    send_all(context, &config, &ports, &commands, &args.wait).await
}

/// Reads `NAME=VALUE` as the field of a create that it will be.
fn parameter(text: &str) -> Result<(String, String), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!("{text:?} has no \"=\"; expected NAME=VALUE, such as blob_id=abc"));
    };
    let mut fields = serde_json::Map::new();
    fields.insert(name.to_owned(), value.into());
    fields.insert("action".to_owned(), Action::Create.as_str().into());
    let field =
        || format!("{name:?} is a field of every command, and no parameter; expected NAME=VALUE");
    // What cannot be read as some field of ours is no parameter either.
    let read = Command::from_json(&fields.into()).map_err(|error| error.to_string())?;
    read.parameters.into_iter().next().ok_or_else(field)
}

fn parameters(given: Vec<(String, String)>) -> Result<BTreeMap<String, String>, CliError> {
    let mut parameters = BTreeMap::new();
    for (name, value) in given {
        if parameters.get(&name).is_some_and(|known| *known != value) {
            let message = format!("--set {name} is given twice, differently; expected one value");
            return Err(CliError::Usage(message));
        }
        parameters.insert(name, value);
    }
    Ok(parameters)
}

/// A name of the fleet, else an instance id or a service, else a name that the worker's fleet may know.
fn target_of(config: &Config, text: &str) -> Result<TargetRef, CliError> {
    if let Some((cluster, service)) = text.split_once('/') {
        let id = ServiceId::parse(cluster, service)
            .map_err(|error| CliError::Usage(error.to_string()))?;
        let (cluster, service) = (id.cluster().to_owned(), id.service().to_owned());
        return Ok(TargetRef::EcsService { cluster, service });
    }
    match named(config, text)? {
        Named::Target(name) => Ok(TargetRef::Name(name)),
        Named::Template(name) => Err(naming::is_template(name)),
        Named::Instance(id) => Ok(TargetRef::Instance(id)),
    }
}

/// The target of a command, where it is known before a worker has taken it. Whose a machine is that the fleet does
/// not name, the table knows.
async fn target_before(
    config: &Config,
    ports: &Ports,
    command: &Command,
) -> Result<Option<TargetName>, CallError> {
    let fleet = &config.fleet;
    let addressed = match (command.action, &command.id, &command.target) {
        // A check of the whole fleet has an outcome, and no target whose steps could be shown.
        (Action::CheckIdle, _, None) => return Ok(None),
        (Action::Create, Some(id), _) => fleet.address_create(command, id),
        (_, _, Some(TargetRef::Instance(id))) => {
            let resource = Resource::Instance(id.clone());
            let claimed = passing(owner_of(fleet, &*ports.store, &resource).await)?.flatten();
            fleet.address(command, claimed.as_ref())
        }
        _ => fleet.address(command, None),
    };
    let name = addressed.ok().map(|spec| spec.name.clone());
    Ok(name.or_else(|| command.target.as_ref().and_then(TargetRef::name).cloned()))
}

/// A new command's id.
pub(super) fn new_id() -> CommandId {
    CommandId::parse(&uuid::Uuid::new_v4().to_string()).expect("a UUID is a valid id")
}

/// The caller's trace, or one of its own, also where the process exports none: what follows can then
/// still be told together.
fn trace_of_sender(env: &BTreeMap<String, String>) -> String {
    let span = tracing::info_span!(target: "lamplighter::send", "send");
    let callers = env.get("TRACEPARENT").filter(|trace| telemetry::is_traceparent(trace));
    telemetry::join(&span, callers.map(String::as_str));
    span.in_scope(telemetry::traceparent).or_else(|| callers.cloned()).unwrap_or_else(|| {
        let span_id = uuid::Uuid::new_v4().simple().to_string();
        format!("00-{}-{}-01", uuid::Uuid::new_v4().simple(), &span_id[..16])
    })
}

async fn send_all(
    context: &Context,
    config: &Config,
    ports: &Ports,
    commands: &[Command],
    wait: &WaitArgs,
) -> Result<ExitCode, CliError> {
    let trace = trace_of_sender(&context.env);
    for command in commands {
        let attributes = BTreeMap::from([(TRACE_ATTRIBUTE.to_owned(), trace.clone())]);
        let body = command.to_json().to_string();
        ports.queue.send(&Outgoing { body, attributes, delay_seconds: 0 }).await?;
        if !wait.wait && !context.json {
            output::line(&id_of(command));
        }
    }
    if !wait.wait && context.json {
        let sent = commands.iter().map(|command| sent_json(config, command));
        let sent: Vec<serde_json::Value> = sent.collect();
        told_json(&sent);
    }
    let mut worst = ExitCode::SUCCESS;
    let mut results = Vec::new();
    for command in commands.iter().filter(|_| wait.wait) {
        let (result, code) = await_outcome(context, config, ports, command, wait.timeout).await?;
        results.push(result);
        if code != ExitCode::SUCCESS {
            worst = code;
        }
    }
    if context.json && wait.wait {
        told_json(&results);
    }
    Ok(worst)
}

fn id_of(command: &Command) -> String {
    command.id.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn sent_json(config: &Config, command: &Command) -> serde_json::Value {
    let target = command.target.as_ref().map(ToString::to_string);
    // The machine has its name before it is asked for.
    let made = command.id.as_ref().filter(|_| command.action == Action::Create);
    let made = made.and_then(|id| config.fleet.address_create(command, id).ok());
    let target = made.map(|spec| spec.name.to_string()).or(target);
    json!({ "command": command.id, "action": command.action, "target": target })
}

/// One value for one command, a list for several.
fn told_json(values: &[serde_json::Value]) {
    match values {
        [one] => output::json(one),
        many => output::json(&many),
    }
}

/// The JSON of an outcome; what is not known is null, so that every key is always there.
fn outcome_json(outcome: &Outcome) -> serde_json::Value {
    json!({
        "command": outcome.command, "target": outcome.target, "action": outcome.action,
        "outcome": outcome.outcome, "cause": outcome.cause, "message": outcome.message,
        "answer": outcome.answer, "at": outcome.at, "took_ms": outcome.took_ms,
    })
}

fn exit_of(outcome: &Outcome) -> ExitCode {
    match outcome.outcome {
        Verdict::Done => ExitCode::SUCCESS,
        Verdict::Rejected | Verdict::Failed => ExitCode::from(1),
    }
}

fn told_outcome(context: &Context, outcome: &Outcome) {
    let verdict = match (outcome.outcome, outcome.cause) {
        (Verdict::Done, _) => context.style.paint("32", "done"),
        (verdict, Some(cause)) => context.style.paint("31", &format!("{verdict} ({cause})")),
        (verdict, None) => context.style.paint("31", verdict.as_str()),
    };
    output::line(&format!("{verdict}: {} ({})", outcome.message, elapsed(outcome.took_ms)));
    if outcome.action == Some(Action::Create) {
        for (name, field) in
            [("target", "target"), ("instance", "instance_id"), ("address", "public_ip")]
        {
            if let Some(value) = outcome.answer.get(field).and_then(serde_json::Value::as_str) {
                output::line(&format!("{name:<8}  {value}"));
            }
        }
    }
}

fn elapsed(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

/// What of a record is a step worth showing.
type Shown = (Phase, Option<Step>, String);

async fn await_outcome(
    context: &Context,
    config: &Config,
    ports: &Ports,
    command: &Command,
    timeout: HumanDuration,
) -> Result<(serde_json::Value, ExitCode), CliError> {
    let Some(id) = &command.id else { unreachable!("every command that is sent here has an id") };
    let action = command.action;
    let mut target = target_before(config, ports, command).await?;
    let started = Instant::now();
    let mut shown: Option<Shown> = None;
    if !context.json {
        let named = target.as_ref().map(ToString::to_string);
        let named = named.or_else(|| command.target.as_ref().map(ToString::to_string));
        let whom = named.map(|name| format!(" of {name}")).unwrap_or_default();
        output::line(&format!("sent {action}{whom}, id {id}"));
    }
    loop {
        let item = passing(ports.store.load_command(id).await)?.flatten();
        // Whose machine stands in a secret, or in another fleet file, the worker knows.
        target = target.or_else(|| item.as_ref().and_then(|item| item.target.clone()));
        if let Some(target) = &target
            && !context.json
        {
            show_step(context, ports, target, started, &mut shown, item.is_some()).await?;
        }
        if let Some(first) = item.as_ref().filter(|item| item.fingerprint != command.fingerprint())
        {
            // The worker refuses ours, and the outcome under this id is another command's.
            return Ok(told_used_id(context, id, first, started));
        }
        if let Some(CommandRecord { outcome: Some(outcome), .. }) = item {
            if !context.json {
                told_outcome(context, &outcome);
            }
            return Ok((outcome_json(&outcome), exit_of(&outcome)));
        }
        if started.elapsed() >= timeout.std() {
            let taken = if item.is_some() { "" } else { "; no worker has taken it yet" };
            let message = format!(
                "no outcome within {timeout}{taken}. The command goes on: `lamplighter outcome {id}` \
                 tells when it has ended"
            );
            if !context.json {
                output::line(&context.style.paint("31", &message));
            }
            let waited = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let result = json!({
                "command": id, "target": target, "action": action, "outcome": null, "cause": null,
                "message": message, "answer": {}, "at": null, "took_ms": waited,
            });
            return Ok((result, ExitCode::from(1)));
        }
        let first = started.elapsed() < FIRST_LOOKS_FOR;
        tokio::time::sleep(if first { FIRST_LOOKS_EVERY } else { LOOK_EVERY }).await;
    }
}

/// The id was used before with another payload: that command's outcome is not ours.
fn told_used_id(
    context: &Context,
    id: &CommandId,
    first: &CommandRecord,
    started: Instant,
) -> (serde_json::Value, ExitCode) {
    let was = first.action.map_or("another command", Action::as_str);
    let message = format!(
        "the id {id} was used before with another payload ({was}, sent {}); send this one with an id \
         of its own",
        output::time(first.sent_at)
    );
    if !context.json {
        output::line(&context.style.paint("31", &format!("rejected (conflict): {message}")));
    }
    let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let result = json!({
        "command": id, "target": first.target, "action": null, "outcome": "rejected",
        "cause": "conflict", "message": message, "answer": {}, "at": null, "took_ms": took,
    });
    (result, ExitCode::from(1))
}

/// A passing failure of a look is no reason to stop waiting.
fn passing<T>(result: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match result {
        Ok(value) => Ok(Some(value)),
        // What is missing or forbidden will not be there at the next look.
        Err(error) if matches!(error.cause, Cause::NotFound | Cause::Denied) => Err(error),
        Err(error) => match error.disposition {
            Disposition::Retry | Disposition::RetryAfter(_) | Disposition::Newer => {
                tracing::debug!(%error, "looking again");
                Ok(None)
            }
            Disposition::Park | Disposition::Fail => Err(error),
        },
    }
}

async fn show_step(
    context: &Context,
    ports: &Ports,
    target: &TargetName,
    started: Instant,
    shown: &mut Option<Shown>,
    taken: bool,
) -> Result<(), CliError> {
    // What was there before a worker took the command is not its doing.
    let Some(record) = passing(ports.store.load(target).await)?.flatten().filter(|_| taken) else {
        return Ok(());
    };
    let now = (record.phase, record.step, record.why.clone());
    if shown.as_ref() == Some(&now) {
        return Ok(());
    }
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    // The words of a launched machine are longer.
    let (wide, wider) = if record.provision.launch.is_some() { (12, 20) } else { (8, 18) };
    let word = record.phase_name();
    let phase = context.style.phase(record.phase, &format!("{word:<wide$}"));
    let step = record.step.map_or("", Step::as_str);
    output::line(&format!("{:>8}  {phase}  {step:<wider$}  {}", elapsed(millis), record.why));
    *shown = Some(now);
    Ok(())
}

pub(super) async fn outcome(context: &Context, id: &str) -> Result<ExitCode, CliError> {
    let id = CommandId::parse(id).map_err(|error| CliError::Usage(error.to_string()))?;
    let config = context.config_or_names()?;
    let ports = wiring::ports(&wiring::connect(None).await?, &config)?;
    let Some(record) = ports.store.load_command(&id).await? else {
        return Err(CliError::Missing(format!(
            "no command with the id {id} is known: it was never sent, no worker has taken it yet, or it \
             ended more than 45 days ago"
        )));
    };
    match &record.outcome {
        Some(outcome) => {
            if context.json {
                output::json(&outcome_json(outcome));
            } else {
                told_outcome(context, outcome);
            }
            Ok(exit_of(outcome))
        }
        None => {
            let message = format!(
                "it was taken at {} and has no outcome yet",
                output::time(record.accepted_at)
            );
            if context.json {
                output::json(&json!({
                    "command": id, "target": record.target, "action": record.action, "outcome": null,
                    "cause": null, "message": message, "answer": {}, "at": null, "took_ms": null,
                }));
            } else {
                output::line(&message);
            }
            Ok(ExitCode::from(1))
        }
    }
}
