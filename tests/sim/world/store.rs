//! The port to the table: conditional writes that are exact, and index reads that lag.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{CommandId, TargetName};
use lamplighter_lifecycle::{CommandRecord, IdleWatch, OUTBOX_BACKLOG_MAX, Resource, TargetRecord};
use lamplighter_runtime::ports::{
    CallError, Commit, Committed, PutCommand, SHARDS, Seat, SeatChange, Store, UpTarget,
};

use super::fault::{Gate, fail};
use super::{Sim, State};
use crate::breakage::{self, Breakage};
use crate::checker::{Around, Writer};

/// How many versions a lagging read can look back.
const VERSIONS_MAX: usize = 64;

/// How long a worker that looks at old holds takes to write.
const LOOKED_AWAY: Duration = Duration::from_secs(8);

/// A record as it was written, with the nonce of its commit.
struct Version {
    at: Timestamp,
    nonce: String,
    record: TargetRecord,
}

/// What DynamoDB holds.
#[derive(Default)]
pub(crate) struct Table {
    versions: BTreeMap<TargetName, VecDeque<Version>>,
    pub(crate) commands: BTreeMap<CommandId, CommandRecord>,
    resources: BTreeMap<Resource, TargetName>,
    seats: BTreeMap<TargetName, BTreeSet<TargetName>>,
    /// How old an eventually consistent read is.
    pub(super) lag: SignedDuration,
}

impl Table {
    pub(crate) fn records(&self) -> impl Iterator<Item = &TargetRecord> {
        self.versions.values().filter_map(|versions| versions.back()).map(|it| &it.record)
    }

    pub(crate) fn record(&self, target: &TargetName) -> Option<&TargetRecord> {
        self.newest(target).map(|version| &version.record)
    }

    /// A record is lost, as by a table that was restored to an earlier time.
    pub(super) fn lose(&mut self, target: &TargetName) {
        self.versions.remove(target);
    }

    /// The targets that have a place of this template.
    pub(crate) fn seats(&self, template: &TargetName) -> impl Iterator<Item = &TargetName> {
        self.seats.get(template).into_iter().flatten()
    }

    fn newest(&self, target: &TargetName) -> Option<&Version> {
        self.versions.get(target).and_then(VecDeque::back)
    }

    /// What an eventually consistent read at `now` shows of each target.
    fn lagging(&self, now: Timestamp) -> impl Iterator<Item = &TargetRecord> {
        let at = now - self.lag;
        self.versions
            .values()
            .filter_map(move |versions| versions.iter().rev().find(|version| version.at <= at))
            .map(|version| &version.record)
    }

    fn write(&mut self, at: Timestamp, commit: &Commit) {
        let versions = self.versions.entry(commit.record.target.clone()).or_default();
        let (nonce, record) = (commit.nonce.clone(), commit.record.clone());
        versions.push_back(Version { at, nonce, record });
        if versions.len() > VERSIONS_MAX {
            versions.pop_front();
        }
    }
}

#[async_trait]
impl Store for Sim {
    async fn load(&self, target: &TargetName) -> Result<Option<TargetRecord>, CallError> {
        self.call(
            "dynamodb:GetItem",
            || target.to_string(),
            |state, now| {
                let mut record = state.table.record(target).cloned();
                if let (Some(breakage), Some(record)) = (state.breakage, &mut record) {
                    breakage::read_wrongly(breakage, record, &state.secrets, now);
                }
                Ok(record)
            },
        )
        .await
    }

    async fn load_all(&self, targets: &[TargetName]) -> Result<Vec<TargetRecord>, CallError> {
        self.call("dynamodb:BatchGetItem", String::new, |state, now| {
            let records = state.table.lagging(now);
            Ok(records.filter(|record| targets.contains(&record.target)).cloned().collect())
        })
        .await
    }

    async fn load_command(&self, id: &CommandId) -> Result<Option<CommandRecord>, CallError> {
        self.call(
            "dynamodb:GetItem",
            || id.to_string(),
            |state, _| Ok(state.table.commands.get(id).cloned()),
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
        self.call("dynamodb:write", what, |state, now| Ok(apply(state, commit.clone(), now, by)))
            .await
    }

    async fn put_command(&self, command: &CommandRecord) -> Result<PutCommand, CallError> {
        self.call(
            "dynamodb:write",
            || format!("command {}", command.id),
            |state, _| {
                if let Some(existing) = state.table.commands.get(&command.id) {
                    return Ok(PutCommand::Exists(Box::new(existing.clone())));
                }
                state.table.commands.insert(command.id.clone(), command.clone());
                Ok(PutCommand::Done)
            },
        )
        .await
    }

    async fn due(&self, shard: u32, until: Timestamp) -> Result<Vec<TargetName>, CallError> {
        self.call("dynamodb:Query(due)", String::new, |state, now| {
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

    async fn records_of(&self, template: &TargetName) -> Result<Vec<TargetRecord>, CallError> {
        let prefix = format!("{template}.");
        self.call(
            "dynamodb:Scan",
            || template.to_string(),
            |state, _| {
                let made = |it: &&TargetRecord| it.target.as_str().starts_with(&prefix);
                Ok(state.table.records().filter(made).cloned().collect())
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
fn apply(state: &mut State, mut commit: Commit, now: Timestamp, by: Writer) -> Committed {
    let State { table, watch, world, backends, breakage, .. } = state;
    let broken = *breakage;
    let name = commit.record.target.clone();
    let there = table.newest(&name);
    if there.is_some_and(|version| version.nonce == commit.nonce) {
        return Committed::Done;
    }
    let rev = there.map_or(0, |version| version.record.rev);
    if rev != commit.expected_rev && broken != Some(Breakage::WritesWithoutCondition) {
        let stale = there.map(|version| &version.record);
        match stale.filter(|_| broken == Some(Breakage::LooksAtOldHolds)) {
            Some(there) if breakage::ends_idle_holds(there, &commit) => {
                commit.record.rev = rev + 1;
            }
            _ => return Committed::Fenced,
        }
    }
    if let Some(existing) = commit.accepted.as_ref().and_then(|it| table.commands.get(&it.id))
        && broken != Some(Breakage::ForgetsCommands)
    {
        return Committed::CommandExists(Box::new(existing.clone()));
    }
    if let Some(claimed) = &commit.claims
        && let Some(owner) = table.resources.get(claimed).filter(|owner| **owner != name)
    {
        return Committed::ResourceTaken(owner.clone());
    }
    if let Some(Seat { template, change: SeatChange::Take(limit) }) = &commit.seat {
        let full = |it: &BTreeSet<TargetName>| it.len() >= *limit as usize && !it.contains(&name);
        let counts = broken != Some(Breakage::CountsWithoutCondition);
        if counts && table.seats.get(template).is_some_and(full) {
            return Committed::Full;
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
    }
    for outcome in &commit.outcomes {
        if let Some(command) = table.commands.get_mut(&outcome.command) {
            command.outcome = Some(outcome.clone());
        }
    }
    table.write(now, &commit);
    Committed::Done
}

fn shard_of(target: &TargetName) -> u32 {
    target.as_str().bytes().map(u32::from).sum::<u32>() % SHARDS
}
