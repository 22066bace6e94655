//! The kind's own fields of an outcome, named as the seeds' clients know them (SEEDS.md), and tokens.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::hold::Hold;
use crate::observed::Ec2State;
use crate::pass::Pass;
use crate::record::{OpenCommand, TargetRecord};
use crate::status::StatusView;

type Fields = Map<String, Value>;

/// Names a question to a host: 32 hex digits of (target, generation, number). It fits into SSM's
/// comment (100 characters) and into a file name, and cannot be guessed to collide.
pub(crate) fn token(record: &TargetRecord) -> String {
    let mut hash = Sha256::new();
    hash.update(record.target.as_str());
    hash.update([0]);
    hash.update(record.instance.as_str());
    hash.update([0]);
    hash.update(record.generation.to_be_bytes());
    hash.update(record.checks.to_be_bytes());
    // A record that was deleted and made anew counts from 1 again; its host still knows old tokens.
    hash.update(record.since.as_millisecond().to_be_bytes());
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn fields(value: Value) -> Fields {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

pub(crate) fn holders(pass: &Pass<'_>) -> Vec<String> {
    pass.record.holds_in_force(pass.now).map(|hold| hold.holder.to_string()).collect()
}

fn current_state(pass: &Pass<'_>) -> &'static str {
    let seen = pass.seen().or(pass.record.observed.as_ref());
    seen.map_or("unknown", |seen| seen.state().as_str())
}

fn view(pass: &Pass<'_>) -> StatusView {
    StatusView::of(&pass.record, pass.spec, pass.now)
}

/// Seed 000: `{message, started, current_state, …}`.
pub(crate) fn start(pass: &Pass<'_>, open: &OpenCommand, started: bool, message: &str) -> Fields {
    let view = view(pass);
    let mine = pass.record.holds_in_force(pass.now).find(|hold| hold.holder == open.holder);
    fields(json!({
        "message": message,
        "started": started,
        "current_state": current_state(pass),
        "status": view.instance_status,
        "instance": pass.record.instance,
        "holder": open.holder,
        "expires_at": mine.and_then(|hold| hold.until),
    }))
}

/// Seed 000's 409: `{error, status, holder, expires_at}`.
pub(crate) fn conflict(pass: &Pass<'_>, held: &Hold, message: &str) -> Fields {
    fields(json!({
        "error": message,
        "started": false,
        "status": view(pass).instance_status,
        "holder": held.holder,
        "expires_at": held.until,
    }))
}

/// Seed 000: `{message, stopped, previous_state}`.
pub(crate) fn stop(pass: &Pass<'_>, open: &OpenCommand, stopped: bool, message: &str) -> Fields {
    fields(json!({
        "message": message,
        "stopped": stopped,
        "previous_state": open.found.map(Ec2State::as_str),
        "held_by": holders(pass),
    }))
}

/// Seed 000: `{lock_status, instance_status, instance, expires_at}`.
pub(crate) fn status(pass: &Pass<'_>) -> Fields {
    let view = view(pass);
    fields(json!({
        "lock_status": view.lock_status,
        "instance_status": view.instance_status,
        "instance": view.instance,
        "expires_at": view.expires_at,
        "phase": view.phase,
        "step": view.step,
        "holds": view.holds,
        "why": pass.record.why,
    }))
}

/// Seed 002: `{stopped, idle_seconds, threshold_seconds, message}`.
pub(crate) fn check_idle(pass: &Pass<'_>, message: &str) -> Fields {
    fields(json!({
        "stopped": false,
        "idle_seconds": null,
        "threshold_seconds": pass.spec.idle.as_ref().map(|idle| idle.after.seconds()),
        "message": message,
    }))
}

pub(crate) fn paused(pass: &Pass<'_>, paused: bool) -> Fields {
    let by = pass.record.paused.as_ref().map(|paused| paused.by.clone());
    fields(json!({ "paused": paused, "by": by }))
}
