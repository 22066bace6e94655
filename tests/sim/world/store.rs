//! The port to the table: conditional writes that are exact, and index reads that lag.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{Cause, CommandId, TargetName};
use lamplighter_lifecycle::{
    CommandRecord, IdleWatch, OUTBOX_BACKLOG_MAX, Resource, Seat, SeatChange, TargetRecord,
    stored_bytes,
};
use lamplighter_runtime::ports::{
    Applied, CallError, Commit, Committed, Disposition, PutCommand, SHARDS, Store, Stored, UpTarget,
};
use serde_json::{Value, json};

use super::{Sim, State};
use crate::breakage;
use crate::breakage::Breakage;
use crate::checker::{Around, Writer};
use crate::fault::{Gate, fail, newer};

/// How long a worker that looks at old holds takes to write.
const LOOKED_AWAY: Duration = Duration::from_secs(8);

/// DynamoDB refuses a larger item.
const ITEM_BYTES_MAX: usize = 400 * 1024;
/// DynamoDB refuses a larger transaction.
const TRANSACTION_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Of so many index queries one finds the index short of capacity.
const INDEX_THROTTLED_ONE_IN: u64 = 150;

/// What a worker of this format reads of an item.
fn stored(record: TargetRecord, format: u32, reads: u32) -> Stored {
    if format <= reads {
        return Stored::Record(Box::new(record));
    }
    let error = newer("dynamodb:GetItem", format, reads);
    let why = error.message.clone();
    let TargetRecord { target, kind, resource, phase, since, .. } = record;
    let outline = TargetRecord::outline(target, kind, resource, phase, since, why);
    Stored::Unreadable { outline: Box::new(outline), error }
}

/// The table's own words for what is too large, for good.
fn too_large(what: &str, bytes: usize) -> CallError {
    CallError {
        operation: "dynamodb:write",
        cause: Cause::Invalid,
        message: format!(
            "ValidationException: {what} size has exceeded the maximum: {bytes} bytes"
        ),
        disposition: Disposition::Fail,
        applied: Applied::No,
    }
}

fn bytes_of(item: &Value) -> usize {
    item.to_string().len()
}

/// DynamoDB's limits, for all that a commit writes.
fn check_size(commit: &Commit) -> Result<(), CallError> {
    let record = stored_bytes(&commit.record);
    let accepted = commit.accepted.as_ref().map_or(0, |command| bytes_of(&json!(command)));
    let outcomes = commit.outcomes.iter().map(|outcome| bytes_of(&json!(outcome)));
    let items: Vec<usize> = [record, accepted].into_iter().chain(outcomes).collect();
    if let Some(bytes) = items.iter().find(|bytes| **bytes > ITEM_BYTES_MAX) {
        return Err(too_large("Item", *bytes));
    }
    match items.iter().sum() {
        bytes if bytes > TRANSACTION_BYTES_MAX => Err(too_large("Transaction", bytes)),
        _ => Ok(()),
    }
}

/// An index that is short of capacity refuses queries, and the writes to the table that would change it.
fn index_has_capacity(
    state: &mut State,
    operation: &'static str,
    now: Timestamp,
) -> Result<(), CallError> {
    let State { table, chaos, index_chance, .. } = state;
    let unkind = chaos.as_ref().is_some_and(|chaos| now < chaos.until);
    if unkind && operation != "dynamodb:write" {
        let drawn = index_chance.next();
        if drawn.is_multiple_of(INDEX_THROTTLED_ONE_IN) {
            let long = SignedDuration::from_secs(i64::try_from(5 + drawn % 55).unwrap_or(5));
            table.index_throttled_until = Some(now + long);
        }
    }
    let throttled = unkind && table.index_throttled_until.is_some_and(|until| now < until);
    if throttled && (operation != "dynamodb:write" || index_chance.next().is_multiple_of(4)) {
        return Err(fail(operation, Gate::Closed));
    }
    Ok(())
}

#[async_trait]
impl Store for Sim {
    async fn look_up(&self, target: &TargetName) -> Result<Option<Stored>, CallError> {
        let reads = self.format();
        self.call(
            "dynamodb:GetItem",
            || target.to_string(),
            |state, now| {
                let mut record = state.table.record(target).cloned();
                if let (Some(breakage), Some(record)) = (state.breakage, &mut record) {
                    breakage::read_wrongly(breakage, record, &state.secrets, now);
                }
                let mut format = state.table.format_of(target).unwrap_or(reads);
                if state.breakage == Some(Breakage::ReadsNewerFormats) {
                    format = reads;
                }
                Ok(record.map(|record| stored(record, format, reads)))
            },
        )
        .await
    }

    async fn load_all(&self, targets: &[TargetName]) -> Result<Vec<Stored>, CallError> {
        let reads = self.format();
        self.call("dynamodb:BatchGetItem", String::new, |state, now| {
            let versions = state.table.lagging_versions(now);
            let asked = versions.filter(|version| targets.contains(&version.record.target));
            Ok(asked.map(|it| stored(it.record.clone(), it.format, reads)).collect())
        })
        .await
    }

    async fn load_command(&self, id: &CommandId) -> Result<Option<CommandRecord>, CallError> {
        let reads = self.format();
        self.call(
            "dynamodb:GetItem",
            || id.to_string(),
            |state, _| match state.table.command_formats.get(id) {
                Some(format) if *format > reads => Err(newer("dynamodb:GetItem", *format, reads)),
                _ => Ok(state.table.commands.get(id).cloned()),
            },
        )
        .await
    }

    async fn load_commands(&self, ids: &[CommandId]) -> Result<Vec<CommandRecord>, CallError> {
        self.call("dynamodb:BatchGetItem", String::new, |state, _| {
            let once: BTreeSet<&CommandId> = ids.iter().collect();
            let found = once.into_iter().filter_map(|id| state.table.commands.get(id));
            Ok(found.cloned().collect())
        })
        .await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, CallError> {
        let cursed = |it: &CommandRecord| self.lock().cursed.contains(it.id.as_str());
        assert!(!commit.accepted.as_ref().is_some_and(cursed), "cursed");
        let by = Writer {
            worker: self.worker(),
            worker_now: self.worker_now(),
            decided: self.true_now(),
            format: self.format(),
        };
        let record = &commit.record;
        let is_full = |it: TargetRecord| it.outbox.len() >= OUTBOX_BACKLOG_MAX;
        if self.broken(Breakage::WaitsForTheBus)
            && commit.accepted.is_some()
            && self.record_of(&record.target).is_some_and(is_full)
        {
            return Err(fail("dynamodb:write", Gate::Closed));
        }
        if self.broken(Breakage::LooksAtOldHolds) {
            let there = self.record_of(&record.target);
            if there.is_some_and(|there| breakage::ends_idle_holds(&there, commit)) {
                // Whoever comes meanwhile is the one that it overlooks.
                tokio::time::sleep(LOOKED_AWAY).await;
            }
        }
        let what = || {
            let step = record.step.map_or("", |step| step.as_str());
            let effect = record.doing.as_ref().filter(|doing| doing.nonce == commit.nonce);
            let effect = effect.map(|doing| format!(" [{}]", doing.effect.operation()));
            let (effect, phase) = (effect.unwrap_or_default(), record.phase.as_str());
            format!("{} rev {}: {phase} {step}{effect}: {}", record.target, record.rev, record.why)
        };
        self.call("dynamodb:write", what, |state, now| {
            index_has_capacity(state, "dynamodb:write", now)?;
            check_size(commit)?;
            apply(state, commit.clone(), now, by)
        })
        .await
    }

    async fn put_command(&self, command: &CommandRecord) -> Result<PutCommand, CallError> {
        let format = self.format();
        self.call(
            "dynamodb:write",
            || format!("command {}", command.id),
            |state, _| {
                if let Some(existing) = state.table.commands.get(&command.id) {
                    let there = state.table.command_formats.get(&command.id).copied();
                    if let Some(there) = there.filter(|there| *there > format) {
                        return Err(newer("dynamodb:write", there, format));
                    }
                    return Ok(PutCommand::Exists(Box::new(existing.clone())));
                }
                state.table.command_formats.insert(command.id.clone(), format);
                state.table.commands.insert(command.id.clone(), command.clone());
                Ok(PutCommand::Done)
            },
        )
        .await
    }

    async fn due(&self, shard: u32, until: Timestamp) -> Result<Vec<TargetName>, CallError> {
        self.call("dynamodb:Query(due)", String::new, |state, now| {
            index_has_capacity(state, "dynamodb:Query(due)", now)?;
            if state.breakage == Some(Breakage::NeverLooksAgain) {
                return Ok(Vec::new());
            }
            let due = |record: &&TargetRecord| {
                shard_of(&record.target) == shard && record.wake_at.is_some_and(|at| at <= until)
            };
            Ok(state.table.lagging(now).filter(due).map(|it| it.target.clone()).collect())
        })
        .await
    }

    async fn up(&self, shard: u32) -> Result<Vec<UpTarget>, CallError> {
        self.call("dynamodb:Query(up)", String::new, |state, now| {
            index_has_capacity(state, "dynamodb:Query(up)", now)?;
            if state.breakage == Some(Breakage::NeverLooksAgain) {
                return Ok(Vec::new());
            }
            let up = |record: &&TargetRecord| shard_of(&record.target) == shard && record.is_up();
            let broken = state.breakage;
            let line = |record: &TargetRecord| {
                let mut record = record.clone();
                if let Some(breakage) = broken {
                    breakage::read_wrongly(breakage, &mut record, &state.secrets, now);
                }
                UpTarget {
                    target: record.target.clone(),
                    resource: record.resource.clone(),
                    phase: record.phase,
                    watch: IdleWatch::of(&record),
                }
            };
            Ok(state.table.lagging(now).filter(up).map(line).collect())
        })
        .await
    }

    async fn seats(&self, template: &TargetName) -> Result<Vec<TargetName>, CallError> {
        self.call(
            "dynamodb:GetItem",
            || template.to_string(),
            |state, _| Ok(state.table.seats(template).cloned().collect()),
        )
        .await
    }

    async fn records_of(&self, template: &TargetName) -> Result<Vec<Stored>, CallError> {
        let (prefix, reads) = (format!("{template}."), self.format());
        self.call(
            "dynamodb:Scan",
            || template.to_string(),
            |state, _| {
                let newest = state.table.versions.values().filter_map(VecDeque::back);
                let made = newest.filter(|it| it.record.target.as_str().starts_with(&prefix));
                Ok(made.map(|it| stored(it.record.clone(), it.format, reads)).collect())
            },
        )
        .await
    }

    async fn free_seat(
        &self,
        template: &TargetName,
        target: &TargetName,
        rev: u64,
    ) -> Result<bool, CallError> {
        self.call(
            "dynamodb:write",
            || format!("the place of {target}"),
            |state, _| {
                let known = state.table.record(target).map_or(0, |record| record.rev);
                if known != rev {
                    return Ok(false);
                }
                if let Some(seats) = state.table.seats.get_mut(template) {
                    seats.remove(target);
                }
                Ok(true)
            },
        )
        .await
    }

    async fn owner(&self, resource: &Resource) -> Result<Option<TargetName>, CallError> {
        self.call(
            "dynamodb:GetItem",
            || resource.to_string(),
            |state, _| Ok(state.table.resources.get(resource).cloned()),
        )
        .await
    }
}

/// One conditional write, as a transaction makes it.
fn apply(
    state: &mut State,
    mut commit: Commit,
    now: Timestamp,
    by: Writer,
) -> Result<Committed, CallError> {
    let State { table, watch, world, backends, breakage, .. } = state;
    let broken = *breakage;
    let name = commit.record.target.clone();
    let there = table.newest(&name);
    if there.is_some_and(|version| version.nonce == commit.nonce) {
        return Ok(Committed::Done);
    }
    let rev = there.map_or(0, |version| version.record.rev);
    if rev != commit.expected_rev && broken != Some(Breakage::WritesWithoutCondition) {
        let stale = there.map(|version| &version.record);
        match stale.filter(|_| broken == Some(Breakage::LooksAtOldHolds)) {
            Some(there) if breakage::ends_idle_holds(there, &commit) => {
                commit.record.rev = rev + 1;
            }
            _ => return Ok(Committed::Fenced),
        }
    }
    if let Some(existing) = commit.accepted.as_ref().and_then(|it| table.commands.get(&it.id))
        && broken != Some(Breakage::ForgetsCommands)
    {
        let there = table.command_formats.get(&existing.id).copied();
        if let Some(there) = there.filter(|there| *there > by.format) {
            return Err(newer("dynamodb:write", there, by.format));
        }
        return Ok(Committed::CommandExists(Box::new(existing.clone())));
    }
    if let Some(claimed) = &commit.claims
        && let Some(owner) = table.resources.get(claimed).filter(|owner| **owner != name)
    {
        return Ok(Committed::ResourceTaken(owner.clone()));
    }
    if let Some(Seat { template, change: SeatChange::Take(limit) }) = &commit.seat {
        let full = |it: &BTreeSet<TargetName>| it.len() >= *limit as usize && !it.contains(&name);
        let counts = broken != Some(Breakage::CountsWithoutCondition);
        if counts && table.seats.get(template).is_some_and(full) {
            return Ok(Committed::Full);
        }
    }
    if let Some(breakage) = broken {
        breakage::write_wrongly(breakage, &mut commit, there.map(|version| &version.record));
    }
    let around = Around { table, world, backends };
    watch.committed(there.map(|version| &version.record), &commit, &around, by, now);
    if let Some(seat) = &commit.seat {
        let seats = table.seats.entry(seat.template.clone()).or_default();
        match seat.change {
            SeatChange::Take(_) | SeatChange::Force => drop(seats.insert(name.clone())),
            SeatChange::Leave => drop(seats.remove(&name)),
        }
    }
    if let Some(claimed) = &commit.claims {
        table.resources.insert(claimed.clone(), name);
    }
    if let Some(accepted) = &commit.accepted {
        table.commands.insert(accepted.id.clone(), accepted.clone());
        table.command_formats.insert(accepted.id.clone(), by.format);
    }
    for outcome in &commit.outcomes {
        if let Some(command) = table.commands.get_mut(&outcome.command) {
            command.outcome = Some(outcome.clone());
            table.command_formats.insert(outcome.command.clone(), by.format);
        }
    }
    table.write(now, &commit, by.format);
    Ok(Committed::Done)
}

fn shard_of(target: &TargetName) -> u32 {
    target.as_str().bytes().map(u32::from).sum::<u32>() % SHARDS
}
