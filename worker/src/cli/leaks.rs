//! `leaks`: what EC2 has, what the records say and what the places say, where they do not agree.
//!
//! *Theory.* Workers put most of it right by themselves; this verb shows it to people, and with `--fix` asks for the
//! rest. The only thing that cannot be taken back is the end of a machine, so a machine is ended only by its own
//! id on the command line, and only while it is in the list and no record minds it: tags may have been copied by hand,
//! and a table may be another one than yesterday.
//!
//! *Invariants.* Without `--fix` nothing is written. An id that may not be ended is refused before anything is done.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use jiff::SignedDuration;
use lamplighter_events::{Action, Command, InstanceId, TargetName, TargetRef};
use lamplighter_lifecycle::{ACT_WITHIN_SECONDS, Effect};
use lamplighter_runtime::leaks::{Leak, LeakKind, find};
use lamplighter_runtime::ledger;
use lamplighter_runtime::ports::{CallError, Outgoing, Ports};
use serde_json::{Value, json};

use super::{CliError, Context, machines, output, send};
use crate::config::{Config, owner};
use crate::wiring;

/// What each kind is, and what `--fix` does about it.
const KINDS: &str = "\
What is listed, and what --fix does about it:
  orphan       A machine with our tags whose target has no record. A worker's sweep adopts it within minutes, and \
ends it if nobody holds it; --fix leaves it to the worker
  stray        A machine with our tags whose target minds another machine, or is none of this fleet: perhaps \
somebody's, with tags that were copied. --fix leaves it alone
  late         A machine that its record knows and should have ended: --fix asks a worker to look (`status`)
  gone         A record that is on and whose machine EC2 no longer has: --fix asks a worker to look
  stale-place  A place of a template that is taken by what has none: --fix gives it back, unless its record has \
changed meanwhile

No machine is ended unless its id is given: --fix --terminate ID, for an orphan or a stray alone.
What is under way settles by itself; look twice, some minutes apart, before you end anything.

Exit codes: 0, nothing is wrong, or all of it was put right at once; 1, something is, or is still on its way.";

#[derive(Debug, Args)]
#[command(after_help = KINDS)]
pub(crate) struct LeaksArgs {
    /// Put right what can be put right without ending a machine
    #[arg(long)]
    fix: bool,
    /// End this machine, an orphan or a stray of the list; once for each
    #[arg(long, value_name = "INSTANCE", requires = "fix", value_parser = InstanceId::parse)]
    terminate: Vec<InstanceId>,
}

/// What was done about a leak.
enum Done {
    /// It is no more.
    Fixed(&'static str),
    /// Somebody was asked, or nothing could be done.
    Open(String),
}

impl Done {
    fn as_str(&self) -> &str {
        match self {
            Self::Fixed(what) => what,
            Self::Open(what) => what,
        }
    }
}

pub(super) async fn run(context: &Context, args: &LeaksArgs) -> Result<ExitCode, CliError> {
    let config = context.config()?;
    let ports = wiring::ports(&wiring::connect(None).await?, &config)?;
    let leaks = find(&ports, &config.fleet, &owners(&config)).await?;
    if let Some(id) = args.terminate.iter().find(|id| !may_end(&leaks, id)) {
        return Err(not_to_be_ended(&leaks, id));
    }
    let mut done = Vec::new();
    for leak in &leaks {
        let result = match args.fix {
            true => fix(&config, &ports, leak, &args.terminate).await?,
            false => Done::Open(advice(leak)),
        };
        done.push(result);
    }
    let wrong = done.iter().any(|done| matches!(done, Done::Open(_)));
    if context.json {
        let now = ports.clock.now();
        let each = leaks.iter().zip(&done).map(|(leak, done)| as_json(leak, done, args.fix, now));
        output::json(&each.collect::<Vec<_>>());
    } else if leaks.is_empty() {
        output::line("no leaks");
    } else {
        tell(context, &leaks, &done, args.fix, ports.clock.now());
    }
    Ok(ExitCode::from(u8::from(wrong)))
}

/// Whose machines are looked for: also where the last template has left the fleet file, its machines are ours.
fn owners(config: &Config) -> BTreeSet<String> {
    let mut owners: BTreeSet<String> =
        ledger::owners(&config.fleet).into_iter().map(str::to_owned).collect();
    owners.insert(owner(&config.commands).to_owned());
    owners
}

fn may_end(leaks: &[Leak], id: &InstanceId) -> bool {
    leaks.iter().any(|leak| {
        leak.instance.as_ref() == Some(id)
            && matches!(leak.kind, LeakKind::Orphan | LeakKind::Stray)
    })
}

fn not_to_be_ended(leaks: &[Leak], id: &InstanceId) -> CliError {
    let found = leaks.iter().find(|leak| leak.instance.as_ref() == Some(id));
    let why = match found {
        Some(leak) => {
            format!("{id} is {}, and minded by the record of {}", leak.kind.as_str(), leak.target)
        }
        None => format!("{id} is not in the list of leaks"),
    };
    CliError::Missing(format!(
        "{why}; only an orphan or a stray is ended by its id (a target's machine: `lamplighter send destroy`). \
         Nothing was done"
    ))
}

fn advice(leak: &Leak) -> String {
    let instance = leak.instance.as_ref().map(ToString::to_string).unwrap_or_default();
    match leak.kind {
        LeakKind::Orphan => "a worker adopts it within minutes".to_owned(),
        LeakKind::Stray => {
            format!("if it is nobody's: lamplighter leaks --fix --terminate {instance}")
        }
        LeakKind::Late | LeakKind::Gone => "a worker looks at it soon; --fix asks it to".to_owned(),
        LeakKind::StalePlace => "--fix gives the place back".to_owned(),
    }
}

async fn fix(
    config: &Config,
    ports: &Ports,
    leak: &Leak,
    to_end: &[InstanceId],
) -> Result<Done, CallError> {
    if let Some(id) = leak.instance.as_ref().filter(|id| to_end.contains(id))
        && matches!(leak.kind, LeakKind::Orphan | LeakKind::Stray)
    {
        let effect = Effect::TerminateInstance { instance: id.clone() };
        let act_by = ports.clock.now() + SignedDuration::from_secs(ACT_WITHIN_SECONDS);
        ports.cloud.execute(&effect, act_by).await?;
        return Ok(Done::Fixed("EC2 was told to terminate it"));
    }
    Ok(match (leak.kind, TargetName::parse(&leak.target)) {
        (LeakKind::Late | LeakKind::Gone, Ok(target)) => {
            let command = Command {
                target: Some(TargetRef::Name(target)),
                id: Some(send::new_id()),
                reason: Some("lamplighter leaks --fix".to_owned()),
                ..Command::new(Action::Status)
            };
            let body = command.to_json().to_string();
            let attributes = std::collections::BTreeMap::new();
            ports.queue.send(&Outgoing { body, attributes, delay_seconds: 0 }).await?;
            Done::Open("a worker was asked to look".to_owned())
        }
        (LeakKind::StalePlace, Ok(target)) => {
            let spec = config.fleet.spec(&target);
            let template = spec.as_ref().and_then(|spec| spec.template());
            let freed = match template {
                Some(it) => ports.store.free_seat(&it.template, &target, leak.rev).await?,
                None => false,
            };
            match freed {
                true => Done::Fixed("its place was given back"),
                false => Done::Open("its record has changed meanwhile: look again".to_owned()),
            }
        }
        (LeakKind::Orphan, _) => Done::Open("left to the workers, who adopt it".to_owned()),
        (LeakKind::Stray, _) => Done::Open("left alone: it is ended by its id".to_owned()),
        (_, Err(_)) => Done::Open("left alone: its target has no valid name".to_owned()),
    })
}

#[allow(clippy::cast_precision_loss)] // Exact up to nine billion.
fn cost(leak: &Leak) -> Option<f64> {
    leak.cost_millionths.map(|millionths| millionths as f64 / 1e6)
}

fn as_json(leak: &Leak, done: &Done, fix: bool, now: jiff::Timestamp) -> Value {
    let age = leak.since.map(|since| now.duration_since(since).as_secs().max(0));
    let mut value = json!({
        "leak": leak.kind.as_str(), "target": leak.target, "instance": leak.instance,
        "instance_type": leak.instance_type, "state": leak.state.map(|state| state.as_str()),
        "since": leak.since, "age_seconds": age, "cost": cost(leak),
    });
    match (fix, done) {
        (false, done) => value["advice"] = done.as_str().into(),
        (true, done) => {
            value["fixed"] = matches!(done, Done::Fixed(_)).into();
            value["did"] = done.as_str().into();
        }
    }
    value
}

fn tell(context: &Context, leaks: &[Leak], done: &[Done], fix: bool, now: jiff::Timestamp) {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows: Vec<Vec<String>> = leaks
        .iter()
        .zip(done)
        .map(|(leak, done)| {
            vec![
                leak.kind.as_str().to_owned(),
                if leak.target.is_empty() { "-".to_owned() } else { leak.target.clone() },
                or_none(leak.instance.as_ref().map(ToString::to_string)),
                or_none(leak.instance_type.clone()),
                or_none(leak.state.map(|state| state.as_str().to_owned())),
                or_none(leak.since.map(|since| output::span(now.duration_since(since)))),
                or_none(cost(leak).map(machines::money)),
                done.as_str().to_owned(),
            ]
        })
        .collect();
    let last = if fix { "DONE" } else { "WHAT TO DO" };
    let header = ["LEAK", "TARGET", "INSTANCE", "TYPE", "STATE", "AGE", "COST", last];
    output::print(&output::table(&header, &rows, |row, column, cell| {
        let fixed = matches!(done.get(row), Some(Done::Fixed(_)));
        match column {
            0 => context.style.paint(if fixed { "32" } else { "31" }, cell),
            _ => cell.to_owned(),
        }
    }));
}
