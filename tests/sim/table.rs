//! What DynamoDB holds: each record with its earlier versions, so that reads can lag.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{CommandId, TargetName};
use lamplighter_lifecycle::{CommandRecord, Resource, TargetRecord};
use lamplighter_runtime::ports::Commit;

/// How many versions a lagging read can look back.
const VERSIONS_MAX: usize = 64;

/// A record as it was written, with the nonce of its commit.
pub(crate) struct Version {
    pub(crate) at: Timestamp,
    pub(crate) nonce: String,
    pub(crate) record: TargetRecord,
    /// The format of the release that wrote it.
    pub(crate) format: u32,
}

/// What DynamoDB holds.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) versions: BTreeMap<TargetName, VecDeque<Version>>,
    pub(crate) commands: BTreeMap<CommandId, CommandRecord>,
    pub(crate) resources: BTreeMap<Resource, TargetName>,
    pub(crate) seats: BTreeMap<TargetName, BTreeSet<TargetName>>,
    /// The formats of the commands' items.
    pub(crate) command_formats: BTreeMap<CommandId, u32>,
    /// The indexes are short of capacity until then.
    pub(crate) index_throttled_until: Option<Timestamp>,
    /// How old an eventually consistent read is.
    pub(crate) lag: SignedDuration,
}

impl Table {
    pub(crate) fn records(&self) -> impl Iterator<Item = &TargetRecord> {
        self.versions.values().filter_map(|versions| versions.back()).map(|it| &it.record)
    }

    pub(crate) fn record(&self, target: &TargetName) -> Option<&TargetRecord> {
        self.newest(target).map(|version| &version.record)
    }

    /// A record is lost, as by a table that was restored to an earlier time.
    pub(crate) fn lose(&mut self, target: &TargetName) {
        self.versions.remove(target);
    }

    /// The targets that have a place of this template.
    pub(crate) fn seats(&self, template: &TargetName) -> impl Iterator<Item = &TargetName> {
        self.seats.get(template).into_iter().flatten()
    }

    pub(crate) fn newest(&self, target: &TargetName) -> Option<&Version> {
        self.versions.get(target).and_then(VecDeque::back)
    }

    /// What an eventually consistent read at `now` shows of each target.
    pub(crate) fn lagging(&self, now: Timestamp) -> impl Iterator<Item = &TargetRecord> {
        self.lagging_versions(now).map(|version| &version.record)
    }

    pub(crate) fn lagging_versions(&self, now: Timestamp) -> impl Iterator<Item = &Version> {
        let at = now - self.lag;
        self.versions
            .values()
            .filter_map(move |versions| versions.iter().rev().find(|version| version.at <= at))
    }

    /// The format of what is there.
    pub(crate) fn format_of(&self, target: &TargetName) -> Option<u32> {
        self.newest(target).map(|version| version.format)
    }

    pub(crate) fn write(&mut self, at: Timestamp, commit: &Commit, format: u32) {
        let versions = self.versions.entry(commit.record.target.clone()).or_default();
        let (nonce, record) = (commit.nonce.clone(), commit.record.clone());
        versions.push_back(Version { at, nonce, record, format });
        if versions.len() > VERSIONS_MAX {
            versions.pop_front();
        }
    }
}
