//! B1: the bounds of Application Auto Scaling.
//!
//! After the repair bound a service that is on has the bounds that somebody last gave it, and one that we
//! turned off has 0 and 0. Where somebody changed them while a change of ours was in the air, either may
//! have won, and nothing is said.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::World;
use lamplighter_cloud::scaling::resource_id;
use lamplighter_lifecycle::{Bounds, Effect, Phase, Resource, ServiceId, TargetRecord};

use super::Watch;
use crate::rule::Rule;

/// A change of ours may come true as long after its permission as its signature lives.
const IN_THE_AIR: SignedDuration = SignedDuration::from_mins(16);
/// What was seen before a change of ours was decided is so old at most.
const SEEN_BEFORE: SignedDuration = SignedDuration::from_mins(2);

#[derive(Default)]
pub(super) struct Scaling {
    /// What somebody last set; `None` where nobody can say.
    theirs: BTreeMap<ServiceId, Option<Bounds>>,
    theirs_at: BTreeMap<ServiceId, Timestamp>,
    /// When a change of ours was last permitted.
    ours_at: BTreeMap<ServiceId, Timestamp>,
    /// Turned off by us, and nobody touched the bounds since.
    off_by_us: BTreeMap<ServiceId, bool>,
}

impl Scaling {
    /// An effect was permitted.
    pub(super) fn permitted(&mut self, effect: &Effect, lag: SignedDuration, now: Timestamp) {
        match effect {
            Effect::RegisterScalableTarget { service, .. } => {
                self.ours_at.insert(service.clone(), now);
                if self.theirs_at.get(service).is_some_and(|at| now < *at + SEEN_BEFORE + lag) {
                    self.theirs.insert(service.clone(), None);
                }
            }
            Effect::UpdateService { service, desired: 0 } => {
                self.off_by_us.insert(service.clone(), true);
            }
            _ => {}
        }
    }
}

impl Watch {
    /// A service had these bounds from the beginning.
    pub(crate) fn bounds_at_first(&mut self, service: &ServiceId, bounds: Bounds) {
        self.bounds.theirs.insert(service.clone(), Some(bounds));
    }

    /// Somebody gave a service bounds.
    pub(crate) fn bounds_by_somebody(
        &mut self,
        service: &ServiceId,
        bounds: Bounds,
        now: Timestamp,
    ) {
        let scaling = &mut self.bounds;
        let ours = scaling.ours_at.get(service).is_some_and(|at| now < *at + IN_THE_AIR);
        scaling.theirs.insert(service.clone(), Some(bounds).filter(|_| !ours));
        scaling.theirs_at.insert(service.clone(), now);
        scaling.off_by_us.remove(service);
    }

    pub(super) fn check_bounds(&mut self, record: &TargetRecord, world: &World, now: Timestamp) {
        let Resource::Service(service) = &record.resource else { return };
        let target = world.scaling.get(&resource_id(service.cluster(), service.service()));
        let Some(target) = target else { return };
        let has = Bounds { min: i64::from(target.min), max: i64::from(target.max) };
        let expected = match record.phase {
            Phase::On => self.bounds.theirs.get(service).copied().flatten(),
            Phase::Off => self.bounds.off_by_us.get(service).map(|_| Bounds::ZERO),
            Phase::Starting | Phase::Stopping | Phase::Failed => None,
        };
        if let Some(expected) = expected.filter(|expected| *expected != has) {
            let (name, phase) = (&record.target, record.phase);
            let what = format!("{name} ({phase:?}): bounds {has:?}, expected {expected:?}");
            self.wrong(Rule::B1, now, what);
        }
    }
}
