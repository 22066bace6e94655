//! From a message to work: parsed, and addressed to a target.
//!
//! What cannot be understood goes to the dead letters at once, with its reason as an attribute, and
//! with a rejected outcome where it had an id. It is never dropped and never tried to death. A message
//! that is nobody's (a signal of a foreign machine) is dropped, since it says nothing about ours.
//!
//! What names something that this worker's fleet does not have waits in the queue for some minutes, since a rolling
//! deployment has two fleets at work at once. It uses up no id meanwhile. See [`waits_for_newer_fleet`].

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{
    Action, Cause, Command, CommandId, Holder, Inbound, Malformed, MalformedKind, Signal,
};
use lamplighter_lifecycle::{AcceptedCommand, Resource, ServiceId, SpotNotice};

use crate::attributes::trace_of;
use crate::idle_check;
use crate::outcomes::{Concluded, first_id, park};
use crate::ports::{Applied, CallError, Disposition, Received};
use crate::shared::Shared;
use crate::work::{Routed, Work};

/// A tick is worth nothing long after it was due: a nightly stop that comes in the morning would stop what the
/// day has begun. Half an hour is some ticks of the usual five minutes, and a worker's longest restart.
const TICK_LIFE_SECONDS: i64 = 30 * 60;
/// What this fleet does not name is received at least this often before it is given up, however old it is. A message
/// that waited out an outage of all workers, and a replayed letter, meet more than one worker too.
const UNKNOWN_RECEIVES_MIN: u32 = 3;
/// The least pause between those receives; it grows as that of every redelivery. That makes seven receives in the usual
/// three minutes, so that even where half of the workers are old throughout, a message misses the newer fleet once in 128.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(20);

/// Reads a message and finds its target. `Err`: again later.
pub(crate) async fn route(shared: &Arc<Shared>, message: &Received) -> Result<Routed, CallError> {
    match lamplighter_events::parse(&message.body, &message.attributes, &shared.fleet.rules) {
        Ok(Inbound::Command(command)) => {
            let given = command.id.clone();
            let id = given.clone().unwrap_or_else(|| message_command_id(message));
            address(shared, message, message.sent_at, &command, id, given.is_some()).await
        }
        Ok(Inbound::Tick(tick)) => {
            let id = tick.command_id();
            let rule = tick.rule.clone();
            // What it asks was asked when it was due, however late it comes: a kill of eleven o'clock does
            // not end the hold of midnight.
            let sent_at = tick.scheduled.min(message.sent_at);
            match tick.command {
                Some(mut command) => {
                    let life = SignedDuration::from_secs(TICK_LIFE_SECONDS);
                    let expires = tick.scheduled.saturating_add(life).unwrap_or(Timestamp::MAX);
                    command.expires = command.expires.or(Some(expires));
                    address(shared, message, sent_at, &command, id, true).await
                }
                // The parser has refused a tick of an unknown rule; nothing is left to do here.
                None => park(shared, message, "unknown-rule", &rule, None).await,
            }
        }
        Ok(Inbound::Signal(signal)) => route_signal(shared, message, signal).await,
        Ok(Inbound::WakeUp(wake_up)) if shared.fleet.has(&wake_up.target) => {
            Ok(Routed::To(wake_up.target, Work::wake_up(wake_up.rev)))
        }
        Ok(Inbound::IdleShard(shard)) => {
            idle_check::ask_shard(shared, &shard).await?;
            Ok(Routed::Done)
        }
        Ok(Inbound::WakeUp(wake_up)) if waits_for_newer_fleet(shared, message) => {
            Err(unknown_for_now(shared, &format!("a wake-up for {}", wake_up.target)))
        }
        Ok(Inbound::WakeUp(wake_up)) => {
            tracing::info!(target_name = %wake_up.target, "a wake-up for a target that left the fleet");
            Ok(Routed::Done)
        }
        Err(malformed)
            if malformed.kind == MalformedKind::UnknownRule
                && waits_for_newer_fleet(shared, message) =>
        {
            Err(unknown_for_now(shared, &malformed.to_string()))
        }
        Err(malformed) => refuse_malformed(shared, message, malformed).await,
    }
}

fn message_command_id(message: &Received) -> CommandId {
    let first = first_id(message);
    // SQS ids are UUIDs; an endpoint with stranger ids still gets a stable one.
    CommandId::parse(first).unwrap_or_else(|_| {
        let safe: String = first.chars().filter(char::is_ascii_alphanumeric).take(128).collect();
        CommandId::parse(&format!("message:{safe}"))
            .unwrap_or_else(|_| unreachable!("a short alphanumeric word is an id"))
    })
}

/// What a signal is about, where that is worth a look. A machine that goes up says `running` soon after
/// `pending`, and a command that runs says how it ended: the former of each pair tells nothing that a
/// pass could act on. Of a task's many steps the end of its way up or down counts.
fn newsworthy(signal: Signal) -> Option<Resource> {
    match signal {
        Signal::Ec2StateChange { instance, state, .. } => {
            (state != "pending").then_some(Resource::Instance(instance))
        }
        Signal::Ec2SpotInterruption { instance, .. } => Some(Resource::Instance(instance)),
        Signal::SsmCommandStatus { instance, status, .. } => instance
            .filter(|_| !matches!(status.as_str(), "Pending" | "InProgress" | "Delayed"))
            .map(Resource::Instance),
        Signal::EcsTaskStateChange { cluster, group, last_status, .. } => {
            let service = group.strip_prefix("service:")?;
            let ended = matches!(last_status.as_str(), "RUNNING" | "STOPPED");
            let id = ServiceId::parse(&cluster, service).ok().filter(|_| ended)?;
            Some(Resource::Service(id))
        }
    }
}

async fn route_signal(
    shared: &Shared,
    message: &Received,
    signal: Signal,
) -> Result<Routed, CallError> {
    let notice = match &signal {
        Signal::Ec2SpotInterruption { instance, at, .. } => {
            Some(SpotNotice { instance: instance.clone(), at: *at })
        }
        _ => None,
    };
    let Some(resource) = newsworthy(signal) else { return Ok(Routed::Done) };
    let owner = match shared.fleet.owner(&resource) {
        Some(owner) => Some(owner),
        // A service is always named by the fleet, so nobody need be asked whose another one is.
        None if resource.service().is_some() => None,
        None => shared.ports.store.owner(&resource).await?,
    };
    match owner {
        Some(owner) if shared.fleet.has(&owner) => {
            let mut look = Work::look();
            if let Work::Nudge { notice: place, .. } = &mut look {
                *place = notice;
            }
            Ok(Routed::To(owner, look))
        }
        // A record has it, and so some fleet had it, or has it now.
        Some(owner) if waits_for_newer_fleet(shared, message) => {
            Err(unknown_for_now(shared, &format!("a signal of {resource}, which is {owner}'s")))
        }
        _ => {
            tracing::debug!(%resource, "a signal of what is nobody's");
            Ok(Routed::Done)
        }
    }
}

/// Whether a message for what this fleet does not name goes back to the queue: while it is young, and until it was
/// received some times. During a rolling deployment old and new workers take from the same queue for minutes, and
/// an old one must not reject what the new fleet names.
fn waits_for_newer_fleet(shared: &Shared, message: &Received) -> bool {
    let wait = shared.options.unknown_wait;
    let age = shared.ports.clock.now().duration_since(message.sent_at);
    let is_young = Duration::try_from(age).is_ok_and(|age| age < wait) || age.is_negative();
    !wait.is_zero() && (is_young || message.receives < UNKNOWN_RECEIVES_MIN)
}

fn unknown_for_now(shared: &Shared, what: &str) -> CallError {
    CallError {
        operation: "lamplighter:Route",
        cause: Cause::NotFound,
        message: format!("{what}; it waits for a worker with a newer fleet file"),
        disposition: Disposition::RetryAfter(UNKNOWN_PAUSE.min(shared.options.unknown_wait)),
        applied: Applied::No,
    }
}

async fn address(
    shared: &Arc<Shared>,
    message: &Received,
    sent_at: Timestamp,
    command: &Command,
    id: CommandId,
    had_id: bool,
) -> Result<Routed, CallError> {
    let claimed = match &command.target {
        Some(lamplighter_events::TargetRef::Instance(instance)) => {
            let resource = Resource::Instance(instance.clone());
            match shared.fleet.owner(&resource) {
                Some(_) => None,
                None => shared.ports.store.owner(&resource).await?,
            }
        }
        _ => None,
    };
    let fingerprint = command.fingerprint();
    if command.target.is_none() && command.action == Action::CheckIdle {
        return idle_check::share_out(shared, message, command, &id).await;
    }
    let addressed = match command.action {
        Action::Create => shared.fleet.address_create(command, &id),
        _ => shared.fleet.address(command, claimed.as_ref()),
    };
    match addressed {
        Err(unaddressed)
            if unaddressed.names_something() && waits_for_newer_fleet(shared, message) =>
        {
            Err(unknown_for_now(shared, &unaddressed.to_string()))
        }
        Err(unaddressed) => {
            let id = had_id.then_some(id);
            let text = unaddressed.to_string();
            let refusal = Concluded {
                action: Some(command.action),
                ..Concluded::rejected(id, fingerprint, Cause::NotFound, text)
            };
            park(shared, message, "unknown-target", &unaddressed.to_string(), Some(refusal)).await
        }
        Ok(spec) => {
            let accepted = AcceptedCommand {
                id,
                fingerprint,
                action: command.action,
                holder: command.holder.clone().unwrap_or_else(Holder::shared),
                sent_at,
                hold_for: command.hold_for,
                until: command.until,
                reason: command.reason.clone(),
                expires: command.expires,
                trace: trace_of(message),
                idle: idle_check::override_of(&command.thresholds),
                parameters: command.parameters.clone(),
            };
            Ok(Routed::To(spec.name.clone(), Work::Command(Box::new(accepted))))
        }
    }
}

async fn refuse_malformed(
    shared: &Shared,
    message: &Received,
    malformed: Malformed,
) -> Result<Routed, CallError> {
    let text = malformed.to_string();
    // What cannot be read has no canonical form, and so no fingerprint.
    let none = String::new();
    let refusal = Concluded {
        action: malformed.action,
        target: malformed.target,
        ..Concluded::rejected(malformed.command, none, Cause::Invalid, text.clone())
    };
    park(shared, message, malformed.kind.as_str(), &text, Some(refusal)).await
}
