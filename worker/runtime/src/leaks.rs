//! What is not as it should be with the machines that are launched for requests: for `lamplighter leaks`.
//!
//! *Theory.* Three accounts must agree: what EC2 has, the records, and the places of each template. A worker keeps
//! them so; what is found here was changed from outside, or a worker is on its way there. So whoever reads the
//! list twice, some minutes apart, sees which of it is a leak.
//!
//! *Invariants.* Nothing is written. What is listed was read consistently, after the account that contradicts it:
//! a launch that is under way at this moment is none.
//!
//! *Not here.* The places of templates that left the fleet: nobody knows their names.

use std::collections::BTreeSet;

use jiff::Timestamp;
use lamplighter_events::{InstanceId, TargetName};
use lamplighter_lifecycle::{ObservePlan, Phase, PowerState, Standing, TargetRecord};

use crate::fleet::Fleet;
use crate::ledger::standing_of;
use crate::ports::{CallError, Ports, SHARDS, Stored, Tagged};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeakKind {
    /// A machine of a target that has no record.
    Orphan,
    /// A machine whose target minds another one, or is no target of the fleet.
    Stray,
    /// A machine that its record knows and should have ended.
    Late,
    /// A record that is on and whose machine is no more.
    Gone,
    /// A place that is taken by what has none.
    StalePlace,
}

impl LeakKind {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orphan => "orphan",
            Self::Stray => "stray",
            Self::Late => "late",
            Self::Gone => "gone",
            Self::StalePlace => "stale-place",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// What.
    pub kind: LeakKind,
    /// Its target, as the machine's tag, or the place, says: not checked.
    pub target: String,
    /// The machine.
    pub instance: Option<InstanceId>,
    /// Its type.
    pub instance_type: Option<String>,
    /// What it does.
    pub state: Option<PowerState>,
    /// Since when the machine, or the record's phase, is there.
    pub since: Option<Timestamp>,
    /// What the machine has cost since, in millionths, where the fleet names a price.
    pub cost_millionths: Option<u64>,
    /// The version of the record that it was judged by; 0: there is none.
    pub rev: u64,
}

/// Everything that is wrong, by kind and target. `owners`: whose machines are looked for.
///
/// # Errors
/// Where a call fails: half a list is none.
pub async fn find(
    ports: &Ports,
    fleet: &Fleet,
    owners: &BTreeSet<String>,
) -> Result<Vec<Leak>, CallError> {
    let mut leaks = Vec::new();
    for owner in owners {
        for tagged in ports.cloud.tagged(owner).await? {
            leaks.extend(machine(ports, fleet, tagged).await?);
        }
    }
    leaks.extend(gone(ports, fleet).await?);
    for template in fleet.templates.keys() {
        leaks.extend(places(ports, template).await?);
    }
    leaks.sort_by(|one, other| {
        (one.kind, &one.target, &one.instance).cmp(&(other.kind, &other.target, &other.instance))
    });
    Ok(leaks)
}

async fn machine(ports: &Ports, fleet: &Fleet, tagged: Tagged) -> Result<Option<Leak>, CallError> {
    let target = TargetName::parse(&tagged.target).ok();
    let stored = match &target {
        Some(target) => ports.store.look_up(target).await?,
        None => None,
    };
    // Nobody can tell here what a record says that only a newer release reads.
    if stored.as_ref().is_some_and(|stored| stored.record().is_none()) {
        return Ok(None);
    }
    let record = stored.map(Stored::shown);
    let kind = match standing_of(&tagged, fleet, record.as_ref()) {
        Standing::Minded => return Ok(None),
        // The next sweep ends both.
        Standing::Late | Standing::GivenUp => LeakKind::Late,
        Standing::Orphan => LeakKind::Orphan,
        Standing::Stray => LeakKind::Stray,
    };
    let spec = target.as_ref().and_then(|target| fleet.spec(target));
    let price = spec.and_then(|spec| spec.template()?.price_per_hour_millionths);
    let seconds = tagged.launched_at.map(|at| ports.clock.now().duration_since(at).as_secs());
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(Some(Leak {
        kind,
        target: tagged.target,
        instance: Some(tagged.instance),
        instance_type: Some(tagged.instance_type),
        state: Some(tagged.state),
        since: tagged.launched_at,
        cost_millionths: price.zip(seconds).map(|(price, long)| price.saturating_mul(long) / 3600),
        rev: record.map_or(0, |record| record.rev),
    }))
}

/// Whether the record says that its machine is there, and nobody is on the way to change that.
fn claims_a_machine(record: &TargetRecord) -> bool {
    let settled = record.phase == Phase::On || (record.phase == Phase::Failed && record.up.kept);
    settled && record.resource.instance().is_some()
}

/// Records that are on, and whose machines EC2 no longer has.
async fn gone(ports: &Ports, fleet: &Fleet) -> Result<Vec<Leak>, CallError> {
    let mut names = Vec::new();
    for shard in 0..SHARDS {
        names.extend(ports.store.up(shard).await?.into_iter().map(|line| line.target));
    }
    names.retain(|name| fleet.spec(name).is_some_and(|spec| spec.kind().is_created()));
    let records = ports.store.load_all(&names).await?;
    let records = records.iter().filter_map(Stored::record);
    let records: Vec<TargetRecord> =
        records.filter(|record| claims_a_machine(record)).cloned().collect();
    let plans: Vec<ObservePlan> =
        records.iter().map(|record| ObservePlan::bare(record.resource.clone())).collect();
    let mut leaks = Vec::new();
    for (record, seen) in records.iter().zip(ports.cloud.observe(&plans).await) {
        // What cannot be looked at is not known to be gone.
        let Ok(seen) = seen? else { continue };
        if !matches!(seen.state(), PowerState::Terminated | PowerState::Missing) {
            continue;
        }
        let Some(now) = ports.store.load(&record.target).await? else { continue };
        if claims_a_machine(&now) && now.resource == record.resource {
            leaks.push(Leak {
                kind: LeakKind::Gone,
                target: now.target.to_string(),
                instance: now.resource.instance().cloned(),
                instance_type: None,
                state: Some(seen.state()),
                since: Some(now.since),
                cost_millionths: None,
                rev: now.rev,
            });
        }
    }
    Ok(leaks)
}

/// Places of what has none by its own record.
async fn places(ports: &Ports, template: &TargetName) -> Result<Vec<Leak>, CallError> {
    let mut leaks = Vec::new();
    for target in ports.store.seats(template).await? {
        let stored = ports.store.look_up(&target).await?;
        let record = stored.as_ref().and_then(Stored::record);
        if record.is_some_and(|record| record.provision.seated)
            || stored.is_some() && record.is_none()
        {
            continue;
        }
        leaks.push(Leak {
            kind: LeakKind::StalePlace,
            target: target.to_string(),
            instance: record.and_then(|record| record.resource.instance().cloned()),
            instance_type: None,
            state: None,
            since: record.map(|record| record.since),
            cost_millionths: None,
            rev: record.map_or(0, |record| record.rev),
        });
    }
    if leaks.is_empty() {
        return Ok(leaks);
    }
    // A place is given back with the record's own write: what was given back meanwhile is none.
    let still = ports.store.seats(template).await?;
    leaks.retain(|leak| still.iter().any(|target| target.as_str() == leak.target));
    Ok(leaks)
}
