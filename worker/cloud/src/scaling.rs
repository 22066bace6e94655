//! Application Auto Scaling, as far as it meddles with a service's desired count.
//!
//! A scalable target gives `service/CLUSTER/SERVICE` a least and a greatest desired count. A count that
//! is outside these bounds is put back inside after a short while ([`crate::Timings::scaling`]): a
//! service that is to be off needs its `min` at 0 first. The real one looks when a target is registered
//! and whenever a policy's alarm asks for a change; the model, which knows no policies, looks after every
//! change of the count or of the bounds, which is what a service with a lively policy sees.
//!
//! Scaling out that is suspended leaves a count below `min` alone, scaling in one above `max`.
//!
//! Its descriptions lag as those of the services do.
//!
//! Not here: policies, scheduled actions, activities, other resources than ECS services.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::queue::plus;
use crate::services::{ScalingSeed, ServiceStatus};
use crate::{ServiceFault, World};

/// How many bounds of a target are remembered, for descriptions that lag.
const BOUNDS_MAX: usize = 32;
/// The one namespace the model knows.
pub const NAMESPACE: &str = "ecs";
/// The one dimension the model knows.
pub const DIMENSION: &str = "ecs:service:DesiredCount";

/// Why a call to Application Auto Scaling was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScalingError {
    /// A parameter that is missing or wrong.
    #[error("{0}")]
    Validation(String),
    /// No such target.
    #[error(
        "No scalable target found for service namespace: {NAMESPACE}, resource ID: {0}, scalable dimension: {DIMENSION}"
    )]
    ObjectNotFound(String),
}

impl ServiceFault for ScalingError {
    fn code(&self) -> &'static str {
        match self {
            Self::Validation(_) => "ValidationException",
            Self::ObjectNotFound(_) => "ObjectNotFoundException",
        }
    }
}

/// What of a target's scaling is suspended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// A count above `max` is left alone.
    #[serde(rename = "DynamicScalingInSuspended", default)]
    pub scaling_in: bool,
    /// A count below `min` is left alone.
    #[serde(rename = "DynamicScalingOutSuspended", default)]
    pub scaling_out: bool,
    /// Kept, not read: there are no scheduled actions.
    #[serde(rename = "ScheduledScalingSuspended", default)]
    pub scheduled: bool,
}

/// One scalable target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalableTarget {
    /// `service/CLUSTER/SERVICE`.
    pub resource_id: String,
    /// Its ARN's last part.
    pub id: String,
    /// The least desired count.
    pub min: u32,
    /// The greatest.
    pub max: u32,
    /// The role it would use; kept, not read.
    pub role_arn: Option<String>,
    /// What is suspended.
    pub suspended: Suspended,
    /// When it was registered.
    pub created: Timestamp,
    /// When the count is put back.
    due: Option<Timestamp>,
    /// Its bounds, the last ones at the back, each since when.
    #[serde(default)]
    past: VecDeque<(Timestamp, u32, u32)>,
}

impl ScalableTarget {
    /// With the bounds that a description shows of this moment.
    fn shown(&self, at: Timestamp) -> Self {
        let past = self.past.iter().rev().find(|(since, ..)| *since <= at);
        let (min, max) = match past.or_else(|| self.past.front()) {
            Some((_, min, max)) => (*min, *max),
            None => (self.min, self.max),
        };
        Self { min, max, ..self.clone() }
    }
}

/// What RegisterScalableTarget sets; what is left out stays as it was.
#[derive(Debug, Clone, Default)]
pub struct TargetSpec {
    /// The least desired count.
    pub min: Option<i64>,
    /// The greatest.
    pub max: Option<i64>,
    /// The role.
    pub role_arn: Option<String>,
    /// What is suspended.
    pub suspended: Option<Suspended>,
}

/// All scalable targets, by resource.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ScalableTargets {
    targets: BTreeMap<String, ScalableTarget>,
}

impl ScalableTargets {
    /// All, in the order of their resources.
    pub fn iter(&self) -> impl Iterator<Item = &ScalableTarget> {
        self.targets.values()
    }

    /// One by `service/CLUSTER/SERVICE`.
    #[must_use]
    pub fn get(&self, resource_id: &str) -> Option<&ScalableTarget> {
        self.targets.get(resource_id)
    }

    /// When a count is put back next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.iter().filter_map(|target| target.due).min()
    }
}

/// A service's resource id.
#[must_use]
pub fn resource_id(cluster: &str, service: &str) -> String {
    format!("service/{cluster}/{service}")
}

fn cluster_and_service(resource_id: &str) -> Option<(&str, &str)> {
    let (cluster, service) = resource_id.strip_prefix("service/")?.split_once('/')?;
    (!cluster.is_empty() && !service.is_empty() && !service.contains('/'))
        .then_some((cluster, service))
}

fn invalid(text: impl Into<String>) -> ScalingError {
    ScalingError::Validation(text.into())
}

impl World {
    /// The ARN of a scalable target.
    #[must_use]
    pub fn scalable_target_arn(&self, target: &ScalableTarget) -> String {
        format!(
            "arn:aws:application-autoscaling:{}:{}:scalable-target/{}",
            self.region, self.account, target.id
        )
    }

    /// Registers a target, or changes what is given of one that is registered.
    pub fn register_scalable_target(
        &mut self,
        now: Timestamp,
        resource_id: &str,
        spec: TargetSpec,
    ) -> Result<ScalableTarget, ScalingError> {
        let now = self.at(now);
        let (cluster, service) = cluster_and_service(resource_id).ok_or_else(|| {
            invalid("Unsupported service namespace, resource type or scalable dimension")
        })?;
        let found = self.services.get(cluster, service);
        if found.is_none_or(|it| it.view.status == ServiceStatus::Inactive) {
            return Err(invalid(format!("ECS service doesn't exist: {resource_id}")));
        }
        let old = self.scaling.targets.get(resource_id).cloned();
        let bound = |given: Option<i64>, old: Option<u32>, name: &str| {
            let Some(given) = given else {
                return old.ok_or_else(|| {
                    invalid(format!("{name} is required when registering a new scalable target"))
                });
            };
            u32::try_from(given).map_err(|_| invalid(format!("{name} must be 0 or greater")))
        };
        let min = bound(spec.min, old.as_ref().map(|it| it.min), "MinCapacity")?;
        let max = bound(spec.max, old.as_ref().map(|it| it.max), "MaxCapacity")?;
        if min > max {
            return Err(invalid("Maximum capacity cannot be less than minimum capacity"));
        }
        let (cluster, service) = (cluster.to_owned(), service.to_owned());
        let id = match &old {
            Some(old) => old.id.clone(),
            None => self.ids.uuid().replace('-', ""),
        };
        let mut past = old.as_ref().map(|it| it.past.clone()).unwrap_or_default();
        past.push_back((now, min, max));
        if past.len() > BOUNDS_MAX {
            past.pop_front();
        }
        let target = ScalableTarget {
            resource_id: resource_id.to_owned(),
            id,
            min,
            max,
            role_arn: spec.role_arn.or_else(|| old.as_ref().and_then(|it| it.role_arn.clone())),
            suspended: spec
                .suspended
                .or_else(|| old.as_ref().map(|it| it.suspended))
                .unwrap_or_default(),
            created: old.as_ref().map_or(now, |it| it.created),
            due: old.and_then(|it| it.due),
            past,
        };
        self.scaling.targets.insert(resource_id.to_owned(), target.clone());
        self.mind_bounds(now, &cluster, &service);
        Ok(target)
    }

    /// DescribeScalableTargets: all, in the order of their resources, as they are shown.
    pub fn describe_scalable_targets(&mut self, now: Timestamp) -> Vec<ScalableTarget> {
        let shown_at = self.shown_at(now);
        self.scaling.iter().map(|target| target.shown(shown_at)).collect()
    }

    /// Forgets a target: its service's count is let alone again.
    pub fn deregister_scalable_target(
        &mut self,
        now: Timestamp,
        resource_id: &str,
    ) -> Result<(), ScalingError> {
        self.at(now);
        let gone = self.scaling.targets.remove(resource_id);
        gone.map(|_| ()).ok_or_else(|| ScalingError::ObjectNotFound(resource_id.to_owned()))
    }

    pub(crate) fn seed_scaling(
        &mut self,
        now: Timestamp,
        cluster: &str,
        service: &str,
        bounds: ScalingSeed,
    ) {
        let spec = TargetSpec {
            min: Some(i64::from(bounds.min)),
            max: Some(i64::from(bounds.max.max(bounds.min))),
            ..TargetSpec::default()
        };
        // The service was seeded a moment ago; only a deleted one has no scalable target.
        let _ = self.register_scalable_target(now, &resource_id(cluster, service), spec);
    }

    /// What the count would be put back to, if it is out of bounds.
    fn bounded(&self, target: &ScalableTarget) -> Option<u32> {
        let (cluster, service) = cluster_and_service(&target.resource_id)?;
        let desired = self.services.get(cluster, service)?.view.desired;
        if desired < target.min && !target.suspended.scaling_out {
            return Some(target.min);
        }
        (desired > target.max && !target.suspended.scaling_in).then_some(target.max)
    }

    /// Looks at a service's bounds after its count or they changed.
    pub(crate) fn mind_bounds(&mut self, now: Timestamp, cluster: &str, service: &str) {
        let id = resource_id(cluster, service);
        let Some(target) = self.scaling.targets.get(&id) else { return };
        let out = self.bounded(target).is_some();
        let due = target.due.unwrap_or_else(|| plus(now, self.timings.scaling));
        if let Some(target) = self.scaling.targets.get_mut(&id) {
            target.due = out.then_some(due);
        }
    }

    /// Puts back the one count that is due first.
    pub(crate) fn step_scaling(&mut self, at: Timestamp) {
        let due = self.scaling.iter().find(|it| it.due.is_some_and(|due| due <= at));
        let Some(target) = due.cloned() else { return };
        let wanted = self.bounded(&target);
        if let Some(target) = self.scaling.targets.get_mut(&target.resource_id) {
            target.due = None;
        }
        if let (Some(desired), Some((cluster, service))) =
            (wanted, cluster_and_service(&target.resource_id))
        {
            self.with_service(at, cluster, service, |service, scene| {
                service.update(scene, Some(desired), None, false);
            });
        }
    }
}
