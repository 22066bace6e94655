//! `probe`: asks a target's idle probes once, and says what their answers mean.
//!
//! *Theory.* It is the question of a tick, with the record's own memory, judged by the same function; so what is
//! printed is what a `check-idle` of this moment would go by. Nothing is written: the memory that the answers
//! would make is thrown away.
//!
//! A backend may count the question as use. So the workers are sent what was asked and answered, and know it as our
//! own; where that cannot be sent, the question keeps the target on as any use does, and a line on standard error
//! says so. A command on the host is an SSM command, and is not sent unless `--host` asks for it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use lamplighter_events::HumanDuration;
use lamplighter_lifecycle::{
    ACT_WITHIN_SECONDS, CHECK_GRACE_SECONDS, CheckReading, CommandProbe, Effect, IdleOverride,
    IdleVerdict, Judged, ObservePlan, Observed, Phase, PowerState, Probe, Question, Reading,
    Resource, Says, TargetRecord, TargetSpec, ends_by_idleness, idle_floor, judge, plan_probes,
};
use lamplighter_runtime::asked_message;
use lamplighter_runtime::ports::Ports;
use serde_json::{Value, json};

use super::naming::named;
use super::send::MINUTES_MAX;
use super::{CliError, Context, output, status};
use crate::wiring;

/// Between two looks at what became of the host's command.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// The target, or an instance id
    target: String,
    /// Ask its host as well, where the policy has a command: that is sent by SSM
    #[arg(long)]
    host: bool,
    /// Idle for so long is idle, whatever the policy says
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=MINUTES_MAX))]
    idle_threshold_minutes: Option<u32>,
    /// So far back metrics are read
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=MINUTES_MAX))]
    lookback_minutes: Option<u32>,
}

/// What was learnt.
struct Told<'c> {
    spec: &'c TargetSpec,
    record: TargetRecord,
    seen: Result<Observed, String>,
    readings: Vec<Option<Reading>>,
    judged: Judged,
    now: Timestamp,
}

pub(super) async fn run(context: &Context, args: &ProbeArgs) -> Result<ExitCode, CliError> {
    let config = context.config()?;
    let word = named(&config, &args.target)?;
    let ports = wiring::ports(&wiring::connect(None).await?, &config)?;
    let spec = word.spec(&config, &ports).await?;
    let spec = spec.as_ref();
    let Some(idle) = &spec.idle else {
        return Err(CliError::Usage(format!(
            "{} has no idle policy, so idleness never stops it; expected a target with one \
             ([targets.{}.idle] in the fleet file)",
            spec.name, spec.name
        )));
    };
    let record = match ports.store.load(&spec.name).await? {
        Some(record) => record,
        None => status::unseen(&ports, spec, ports.clock.now()).await?,
    };
    let mut plan = ObservePlan::bare(record.resource.clone());
    plan.agent = args.host && idle.host_command().is_some();
    let seen = status::look(&ports, plan).await;
    let minutes = |given: Option<u32>| given.map(|minutes| u64::from(minutes) * 60);
    let over = IdleOverride {
        after_seconds: minutes(args.idle_threshold_minutes),
        look_back_seconds: minutes(args.lookback_minutes),
    };
    // What cannot be observed has no addresses to fill in; metrics can be asked all the same.
    let nothing = Observed::bare(ports.clock.now(), PowerState::Missing);
    let from = seen.as_ref().unwrap_or(&nothing);
    let Some(plan) = plan_probes(spec, from, &record.resource, &record.idle, over) else {
        unreachable!("a policy was found above")
    };
    let mut round = ports.cloud.probe(&plan).await;
    if record.rev > 0 && !plan.http_order.is_empty() {
        let note = asked_message(&spec.name, &record.resource, &round);
        if let Err(error) = ports.queue.send(&note).await {
            eprintln!(
                "the workers cannot be told of these requests ({error}); a backend that counts requests as use keeps \
                 the target on for {} more",
                idle.after
            );
        }
    }
    let place = idle.probes.iter().position(|probe| matches!(probe, Probe::Command(_)));
    if args.host
        && let (Some(place), Some(command)) = (place, idle.host_command())
    {
        let reading = ask_host(&ports, &record.resource, from, command).await;
        if let Some(slot) = round.readings.get_mut(place) {
            *slot = Some(reading);
        }
    }
    let now = ports.clock.now();
    let floor = idle_floor(&record, now);
    let judged = judge(idle, over, &record.idle, std::slice::from_ref(&round), floor, now);
    let told = Told { spec, record, seen, readings: round.readings, judged, now };
    if context.json {
        output::json(&as_json(&told));
    } else {
        output::print(&as_text(context, &told));
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends the policy's command, and waits for what comes of it.
async fn ask_host(
    ports: &Ports,
    resource: &Resource,
    seen: &Observed,
    command: &CommandProbe,
) -> Reading {
    let unknown = |detail: String| Reading::Unknown { detail, unreachable: true };
    let Some(instance) = resource.instance().filter(|_| seen.state() == PowerState::Running) else {
        return unknown(format!("the machine is {}, so it was not asked", seen.state().as_str()));
    };
    let token = ports.clock.new_id().replace('-', "");
    let question =
        Question::Idle { script: command.script.clone(), timeout_seconds: command.timeout_seconds };
    let effect = Effect::SendCommand { instance: instance.clone(), token: token.clone(), question };
    let act_by = ports.clock.now().saturating_add(SignedDuration::from_secs(ACT_WITHIN_SECONDS));
    let sent = ports.cloud.execute(&effect, act_by.unwrap_or(Timestamp::MAX)).await;
    let id = match sent {
        Ok(id) => id,
        Err(error) => return unknown(format!("its host could not be asked: {error}")),
    };
    let patience = u64::from(command.timeout_seconds) + CHECK_GRACE_SECONDS.unsigned_abs();
    let until = Instant::now() + Duration::from_secs(patience);
    while Instant::now() < until {
        tokio::time::sleep(LOOK_EVERY).await;
        let mut plan = ObservePlan::bare(resource.clone());
        plan.check = Some((id.clone(), token.clone()));
        let Ok(seen) = status::look(ports, plan).await else { continue };
        match seen.check {
            Some(CheckReading::Exited { code, output }) => return Reading::Exit { code, output },
            Some(CheckReading::Undelivered { detail } | CheckReading::Broken { detail }) => {
                return unknown(detail);
            }
            Some(CheckReading::Said { state }) => {
                return unknown(format!("its host said {state:?}"));
            }
            Some(CheckReading::Absent | CheckReading::Pending { .. }) | None => {}
        }
    }
    unknown(format!("its host did not answer within {patience} s"))
}

/// An answer as it came, for people.
fn told_reading(reading: Option<&Reading>) -> String {
    match reading {
        None => "not asked".to_owned(),
        Some(Reading::Number { value, ahead_millis, .. }) => {
            let clock = ahead_millis.filter(|ahead| ahead.abs() >= 1000).map(|ahead| {
                let side = if ahead > 0 { "ahead of" } else { "behind" };
                format!(" (its clock is {} s {side} ours)", ahead.abs() / 1000)
            });
            format!("{value}{}", clock.unwrap_or_default())
        }
        Some(Reading::Series { points }) => match points.as_slice() {
            [] => "no data".to_owned(),
            // The newest few: enough to recognise the metric by.
            points @ [newest, ..] => {
                let shown: Vec<String> =
                    points.iter().take(5).map(|point| point.value.to_string()).collect();
                let more = if points.len() > shown.len() { ", …" } else { "" };
                format!(
                    "{} values, newest first: {}{more}; the newest is of {}",
                    points.len(),
                    shown.join(", "),
                    output::time(newest.at)
                )
            }
        },
        Some(Reading::Exit { code, output }) => {
            let first: String = output.lines().next().unwrap_or("").chars().take(60).collect();
            let said = if first.is_empty() { String::new() } else { format!(", said {first:?}") };
            format!("exit code {code}{said}")
        }
        Some(Reading::Unknown { .. }) => "no answer that can be used".to_owned(),
    }
}

fn word(says: &Says) -> &'static str {
    match says {
        Says::IdleSince(_) | Says::IdleOverLookBack => "idle",
        Says::Active => "active",
        Says::Unknown { unreachable: true } => "unreachable",
        Says::Unknown { unreachable: false } => "unknown",
        Says::NotAsked => "not asked",
    }
}

fn verdict(verdict: &IdleVerdict) -> &'static str {
    match verdict {
        IdleVerdict::Idle => "idle",
        IdleVerdict::NotYet => "not yet",
        IdleVerdict::Active => "active",
        IdleVerdict::Unknown => "unknown",
        IdleVerdict::AskHost => "not asked",
    }
}

/// What a `check-idle` of this moment would do.
fn would(told: &Told<'_>) -> String {
    let (record, spec, judged) = (&told.record, told.spec, &told.judged);
    let names = |which: &dyn Fn(bool) -> bool| -> Vec<String> {
        let holds = record.holds_in_force(told.now);
        let each = holds.filter(|hold| which(ends_by_idleness(hold, spec)));
        each.map(|hold| hold.holder.to_string()).collect()
    };
    let (ended, kept) = (names(&|ends| ends), names(&|ends| !ends));
    if record.rev == 0 {
        return "nothing: no worker has looked at it yet".to_owned();
    }
    if record.phase != Phase::On {
        return format!("nothing: it is {}", record.phase.as_str());
    }
    if let Some(paused) = &record.paused {
        return format!("nothing: paused by {}", paused.by);
    }
    if ended.is_empty() {
        return match kept.as_slice() {
            [] => "nothing: nobody holds it, so it stops anyway".to_owned(),
            kept => format!("nothing: held by {}, which idleness does not end", kept.join(", ")),
        };
    }
    let gone =
        judged.unreachable_for_long && spec.idle.as_ref().is_some_and(|it| it.stop_unreachable);
    match (&judged.verdict, gone) {
        (IdleVerdict::Idle, _) | (_, true) => {
            let then = match kept.as_slice() {
                [] => "stop it".to_owned(),
                kept => format!("leave it on for {}", kept.join(", ")),
            };
            format!("ask once more, end the hold of {}, and {then}", ended.join(", "))
        }
        (IdleVerdict::AskHost, _) => "ask its host, since all else says idle".to_owned(),
        (IdleVerdict::NotYet, _) => {
            // Knowledge follows the time at its distance.
            let behind = told.now.duration_since(judged.until);
            let at = judged
                .since
                .and_then(|since| since.checked_add(judged.after.as_signed()).ok())
                .and_then(|enough| enough.checked_add(behind).ok())
                .filter(|at| *at > told.now);
            let at = at.map(|at| format!(" before {}", output::time(at))).unwrap_or_default();
            format!("nothing{at}")
        }
        (IdleVerdict::Active, _) => "nothing: somebody is at work".to_owned(),
        (IdleVerdict::Unknown, _) => "nothing: unknown is not idle".to_owned(),
    }
}

fn state_of(told: &Told<'_>) -> String {
    match &told.seen {
        Ok(seen) if seen.state() == PowerState::Running => "running".to_owned(),
        Ok(seen) => {
            format!("{}; a check-idle would not ask anybody", seen.state().as_str())
        }
        Err(problem) => format!("it could not be observed: {problem}"),
    }
}

fn as_text(context: &Context, told: &Told<'_>) -> String {
    let judged = &told.judged;
    let mut text = format!("{:<10} {}\n", "target", told.spec.name);
    let mut row = |name: &str, value: &str| text.push_str(&format!("{name:<10} {value}\n"));
    row("now", &state_of(told));
    if judged.words.is_empty() {
        row("probes", "none: it is idle when nobody keeps it alive");
    }
    for (word_of, reading) in judged.words.iter().zip(&told.readings) {
        let word = word(&word_of.says);
        let colour = match word_of.says {
            Says::IdleSince(_) | Says::IdleOverLookBack => "32",
            Says::Active => "36",
            Says::Unknown { .. } | Says::NotAsked => "33",
        };
        let hint = match (&word_of.says, reading) {
            (Says::NotAsked, None) => " (--host asks it)",
            _ => "",
        };
        row("probe", &word_of.probe);
        row("  answer", &format!("{}{hint}", told_reading(reading.as_ref())));
        row("  means", &format!("{}: {}", context.style.paint(colour, word), word_of.detail));
    }
    if let Some(at) = told.record.idle.kept_alive_at {
        row("kept alive", &output::time(at));
    }
    row("verdict", &format!("{}: {}", verdict(&judged.verdict), judged.why));
    if let Some(since) = judged.since {
        let long = output::span(told.now.duration_since(since));
        row("idle since", &format!("{} ({long}, of {})", output::time(since), judged.after));
        if told.now.duration_since(judged.until).as_secs() > 1 && judged.until >= since {
            row("known", &format!("until {}", output::time(judged.until)));
        }
    }
    if let Some(since) = judged.memory.unreachable_since {
        let long = if judged.unreachable_for_long { ", which is too long" } else { "" };
        row("no answer", &format!("since {}{long}", output::time(since)));
    }
    row("check-idle", &format!("would do: {}", would(told)));
    text
}

fn as_json(told: &Told<'_>) -> Value {
    let judged = &told.judged;
    let probes: Vec<Value> = judged
        .words
        .iter()
        .zip(&told.readings)
        .map(|(word_of, reading)| {
            let since = match word_of.says {
                Says::IdleSince(at) => Some(at),
                _ => None,
            };
            json!({
                "probe": word_of.probe, "reading": reading, "says": word(&word_of.says),
                "idle_since": since, "detail": word_of.detail,
            })
        })
        .collect();
    let state = told.seen.as_ref().map(|seen| seen.state().as_str()).ok();
    let after: HumanDuration = judged.after;
    json!({
        "target": told.spec.name, "phase": told.record.phase, "state": state,
        "problem": told.seen.as_ref().err(), "probes": probes,
        "verdict": verdict(&judged.verdict), "why": judged.why, "idle_since": judged.since,
        "known_until": judged.until,
        "after": after, "unreachable_since": judged.memory.unreachable_since,
        "unreachable_for_long": judged.unreachable_for_long, "would": would(told), "at": told.now,
    })
}
