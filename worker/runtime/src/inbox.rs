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

use jiff::Timestamp;
use lamplighter_events::{
    Action, Cause, Command, CommandId, Holder, Inbound, Malformed, MalformedKind, Signal,
};
use lamplighter_lifecycle::{AcceptedCommand, Resource, SpotNotice, newsworthy, tick_expires_at};

use crate::attributes::trace_of;
use crate::idle_check;
use crate::outcomes::{Concluded, first_id, park};
use crate::ownership::owner_of;
use crate::ports::{Applied, CallError, Disposition, Received};
use crate::shared::Shared;
use crate::work::{Routed, Work};

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
                    command.expires = command.expires.or(Some(tick_expires_at(tick.scheduled)));
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
    match owner_of(&shared.fleet, &*shared.ports.store, &resource).await? {
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

fn waits_for_newer_fleet(shared: &Shared, message: &Received) -> bool {
    let age = shared.ports.clock.now().duration_since(message.sent_at);
    lamplighter_lifecycle::waits_for_newer_fleet(age, message.receives, shared.options.unknown_wait)
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
            owner_of(&shared.fleet, &*shared.ports.store, &resource).await?
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
