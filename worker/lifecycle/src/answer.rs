//! The kind's own fields of an outcome, named as the seeds' clients know them (SEEDS.md), and tokens.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::hold::Hold;
use crate::kinds::Kind;
use crate::observed::PowerState;
use crate::pass::Pass;
use crate::phase::Phase;
use crate::record::OpenCommand;
use crate::status::{ProvisionedStatus, StatusView};

type Fields = Map<String, Value>;

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

/// A service's counts as Fluidity's clients read them.
fn add_counts(pass: &Pass<'_>, fields: &mut Fields) {
    let seen = pass.seen().or(pass.record.observed.as_ref()).and_then(|seen| seen.service());
    let Some(seen) = seen else { return };
    for (name, count) in [
        ("desiredCount", seen.desired),
        ("runningCount", seen.running),
        ("pendingCount", seen.pending),
    ] {
        fields.insert(name.to_owned(), count.into());
    }
}

/// Seed 000: `{message, started, current_state, …}`; seed 001: `{status, desiredCount, …, message}`.
pub(crate) fn start(pass: &Pass<'_>, open: &OpenCommand, started: bool, message: &str) -> Fields {
    let kind = pass.kind();
    match kind {
        Kind::Launched => return created(pass, started, message),
        Kind::Instance | Kind::Service => {}
    }
    let view = view(pass);
    let mine = pass.record.holds_in_force(pass.now).find(|hold| hold.holder == open.holder);
    let mut fields = fields(json!({
        "message": message,
        "started": started,
        "current_state": current_state(pass),
        "status": view.overall_status,
        "instance": pass.record.resource,
        "holder": open.holder,
        "expires_at": mine.and_then(|hold| hold.until),
    }));
    match kind {
        Kind::Instance | Kind::Launched => {
            fields.insert("status".to_owned(), json!(view.instance_status));
        }
        Kind::Service => {
            add_counts(pass, &mut fields);
            fields.insert("status".to_owned(), open.wake_word().into());
            // Whoever is told that it is on need not wait.
            let ready = (pass.record.phase == Phase::On).then_some(pass.now);
            fields.insert("estimatedStartTime".to_owned(), json!(ready));
        }
    }
    fields
}

/// Seed 004: `{instance_id, blob_id, public_ip, status: "ready", message}`.
fn created(pass: &Pass<'_>, started: bool, message: &str) -> Fields {
    let mut fields = provisioned(pass);
    let status = fields.get("processing_status").cloned().unwrap_or_default();
    fields.insert("status".to_owned(), status);
    fields.insert("message".to_owned(), message.into());
    fields.insert("started".to_owned(), started.into());
    fields
}

/// A provisioned target as seed 004's clients know it: its parameters stand beside the rest.
fn provisioned(pass: &Pass<'_>) -> Fields {
    let view = ProvisionedStatus::of(&pass.record, pass.now);
    let mut fields = fields(serde_json::to_value(&view).unwrap_or_default());
    fields.insert("target".to_owned(), pass.record.target.as_str().into());
    fields
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

/// Seed 000: `{message, stopped, previous_state}`; seed 001's kill: `{status: "killed", desiredCount, message}`.
pub(crate) fn stop(pass: &Pass<'_>, open: &OpenCommand, stopped: bool, message: &str) -> Fields {
    let mut fields = fields(json!({
        "message": message,
        "stopped": stopped,
        "previous_state": open.found.map(PowerState::as_str),
        "held_by": holders(pass),
    }));
    match pass.kind() {
        Kind::Instance => {}
        Kind::Service => {
            add_counts(pass, &mut fields);
            let off = matches!(pass.record.phase, Phase::Off | Phase::Failed);
            let word = if stopped || (off && !pass.wanted()) { "killed" } else { "no_change" };
            fields.insert("status".to_owned(), word.into());
        }
        Kind::Launched => {
            fields.extend(provisioned(pass));
            let state = fields.get("processing_status").cloned().unwrap_or_default();
            fields.insert("status".to_owned(), state);
        }
    }
    fields
}

/// Seed 000: `{lock_status, instance_status, instance, expires_at}`.
pub(crate) fn status(pass: &Pass<'_>) -> Fields {
    let view = view(pass);
    let mut fields = fields(json!({
        "lock_status": view.lock_status,
        "instance_status": view.instance_status,
        "instance": view.instance,
        "expires_at": view.expires_at,
        "phase": pass.record.kind.phase_name(view.phase),
        "step": view.step,
        "holds": view.holds,
        "why": pass.record.why,
    }));
    match pass.kind() {
        Kind::Instance => {}
        Kind::Service => add_counts(pass, &mut fields),
        Kind::Launched => {
            fields.extend(provisioned(pass));
            fields.insert("state".to_owned(), current_state(pass).into());
        }
    }
    fields
}

/// What is known of how idle it is.
pub(crate) struct Idleness {
    /// Since when.
    pub(crate) since: Option<Timestamp>,
    /// The first metric's value.
    pub(crate) level: Option<f64>,
}

/// Seed 002: `{stopped, idle_seconds, threshold_seconds, message}`; seed 001: `{action, desiredCount,
/// runningCount, avgActiveConnections, idleDurationSeconds, message}`.
pub(crate) fn check_idle(
    pass: &Pass<'_>,
    open: &OpenCommand,
    stopped: bool,
    message: &str,
    idleness: &Idleness,
) -> Fields {
    let seconds = idle_seconds(idleness.since, pass.now);
    let threshold = pass.spec.idle.as_ref().map(|idle| idle.after.seconds());
    let mut fields = fields(json!({
        "stopped": stopped,
        "idle_seconds": seconds,
        "threshold_seconds": open.idle.after_seconds.or(threshold),
        "message": message,
        "held_by": holders(pass),
    }));
    match pass.kind() {
        Kind::Instance | Kind::Launched => {}
        Kind::Service => {
            add_counts(pass, &mut fields);
            let action = if stopped { "scaled_down" } else { "no_change" };
            fields.insert("action".to_owned(), action.into());
            fields.insert("avgActiveConnections".to_owned(), json!(idleness.level));
            fields.insert("idleDurationSeconds".to_owned(), json!(seconds));
        }
    }
    fields
}

pub(crate) fn keep_alive(pass: &Pass<'_>, message: &str) -> Fields {
    let until = pass.record.idle.kept_alive_at;
    let after = pass.spec.idle.as_ref().map(|idle| idle.after);
    let until = until.zip(after).map(|(at, after)| crate::time::add(at, after));
    fields(json!({ "message": message, "kept_alive_until": until }))
}

pub(crate) fn paused(pass: &Pass<'_>, paused: bool) -> Fields {
    let by = pass.record.paused.as_ref().map(|paused| paused.by.clone());
    fields(json!({ "paused": paused, "by": by }))
}

/// Since when the last look found it idle, as seconds.
fn idle_seconds(since: Option<Timestamp>, now: Timestamp) -> Option<i64> {
    since.map(|since| now.duration_since(since).as_secs().max(0))
}
