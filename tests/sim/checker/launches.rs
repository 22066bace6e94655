//! Machines that are launched: one for a target, no more than the limit, none that nobody minds.
//!
//! *Truth.* The model's machines with our owner's tag, whatever any record says.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::{Machine, MachineState, World};
use lamplighter_events::TargetName;
use lamplighter_lifecycle::{OWNER_TAG, Resource, TARGET_TAG};

use super::{Watch, is_wanted};
use crate::rule::Rule;
use crate::table::Table;

/// A worker's clock is right within this.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(2);

/// What is known of them beforehand.
#[derive(Debug, Default)]
pub(super) struct Launches {
    owner: String,
    limits: BTreeMap<TargetName, usize>,
    /// What was complained of already.
    said: BTreeSet<String>,
}

fn is_there(machine: &Machine) -> bool {
    machine.state() != MachineState::Terminated
}

fn target_of(machine: &Machine) -> &str {
    machine.tags.get(TARGET_TAG).map_or("", String::as_str)
}

impl Watch {
    /// Whose machines are minded, and how many of each template there may be.
    pub(crate) fn limit_machines(
        &mut self,
        owner: &str,
        limits: impl IntoIterator<Item = (TargetName, usize)>,
    ) {
        self.launches.owner = owner.to_owned();
        self.launches.limits.extend(limits);
    }

    fn ours<'w>(&self, world: &'w World) -> Vec<&'w Machine> {
        let owner = self.launches.owner.clone();
        let ours = |it: &&Machine| it.tags.get(OWNER_TAG).is_some_and(|it| *it == owner);
        world.machines.iter().filter(|it| is_there(it)).filter(ours).collect()
    }

    /// After a launch: nobody has two machines, and no template too many. A machine whose launch came true after its
    /// target had given it up is one too many, and nobody's fault: in the end it is gone (`check_ledger`).
    pub(crate) fn check_launch(&mut self, world: &World, table: &Table, now: Timestamp) {
        let ours = self.ours(world);
        let came_late = |machine: &&Machine| {
            let Some(launch) = &machine.launch else { return false };
            let record = table.records().find(|it| it.target.as_str() == target_of(machine));
            let given_up = record.and_then(|record| record.provision.launch.as_ref()).into_iter();
            given_up.flat_map(|launch| &launch.given_up).any(|given_up| {
                Some(given_up.token.as_str()) == launch.client_token.as_deref()
                    && launch.at + CLOCKS_DIFFER > given_up.at
            })
        };
        let ours: Vec<&Machine> = ours.into_iter().filter(|it| !came_late(it)).collect();
        let mut by_target: BTreeMap<&str, usize> = BTreeMap::new();
        let mut by_template: BTreeMap<&str, usize> = BTreeMap::new();
        for machine in &ours {
            let target = target_of(machine);
            *by_target.entry(target).or_default() += 1;
            *by_template.entry(target.split('.').next().unwrap_or_default()).or_default() += 1;
        }
        for (target, count) in by_target.into_iter().filter(|(_, count)| *count > 1) {
            if self.launches.said.insert(target.to_owned()) {
                self.wrong(Rule::D4, now, format!("{target} has {count} machines"));
            }
        }
        for (template, count) in by_template {
            let limit = self.launches.limits.get(template).copied().unwrap_or(usize::MAX);
            if count > limit && self.launches.said.insert(template.to_owned()) {
                let what = format!("{template} has {count} machines, and may have {limit}");
                self.wrong(Rule::L1, now, what);
            }
        }
    }

    /// When all is quiet: every machine of ours has a record that minds and wants it, and every place one too.
    pub(super) fn check_ledger(&mut self, table: &Table, world: &World, now: Timestamp) {
        for machine in self.ours(world) {
            let minding = table.records().find(|record| {
                let id = record.resource.instance().map(lamplighter_events::InstanceId::as_str);
                id == Some(machine.id.as_str())
            });
            let id = &machine.id;
            match minding {
                None => self.wrong(Rule::D4, now, format!("{id} is there, and no record minds it")),
                Some(record) if !is_wanted(record, now) => {
                    let what = format!("{id} is there, and nobody wants it: {}", record.why);
                    self.wrong(Rule::D1, now, what);
                }
                Some(_) => {}
            }
        }
        let templates: Vec<TargetName> = self.launches.limits.keys().cloned().collect();
        for template in templates {
            let seats: BTreeSet<&TargetName> = table.seats(&template).collect();
            let seated: BTreeSet<&TargetName> = table
                .records()
                .filter(|record| record.provision.seated)
                .map(|record| &record.target)
                .filter(|target| target.as_str().split('.').next() == Some(template.as_str()))
                .collect();
            if seats != seated {
                let what = format!("{template}: places of {seats:?}, records of {seated:?}");
                self.wrong(Rule::L1, now, what);
            }
            for record in table.records().filter(|record| seats.contains(&record.target)) {
                if !is_wanted(record, now) && !matches!(record.resource, Resource::Launch(_)) {
                    let what =
                        format!("{} keeps a place for nobody: {}", record.target, record.why);
                    self.wrong(Rule::L1, now, what);
                }
            }
        }
    }
}
