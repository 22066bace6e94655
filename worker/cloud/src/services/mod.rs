//! ECS: clusters, and services with tasks that take time.
//!
//! Setting a desired count is level-triggered and answered at once; the service's scheduler looks a
//! little later ([`crate::Timings::placement`]) and starts or stops tasks, each of which takes its own
//! time ([`task`]). Counts are those of tasks: `running` is how many are `RUNNING`, `pending` how many
//! are before it; a task that is being stopped is in neither, though it still exists. So right after a
//! wake there is a moment of one desired, none running and none pending, as with the real service.
//!
//! **Deployments.** A new task definition, or a forced deployment, makes a new primary deployment, which
//! is `IN_PROGRESS` until the service is steady. A change of the desired count alone keeps the deployment
//! and its state: a service that is being scaled from 0 to 1 says `COMPLETED` all the while (AWS's texts
//! do not say what it does; [`ServiceBehaviour::scaling_rolls_out`] makes it the other way). With the
//! circuit breaker a deployment that fails too often is `FAILED`, and starts no task any more, whatever
//! the desired count, until a new deployment.
//!
//! A description may lag: with `describe_lag` set, a caller sees what was true that long ago, or with
//! `describes_go_back` anything up to that.
//!
//! Not here: load balancers, capacity providers, container instances, task definitions (any name is
//! taken), rollback, services that are made or deleted while the world runs, tasks that no service owns.

mod notices;
mod scheduler;
mod service;
pub mod task;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use notices::{Place, task_json};
pub use service::{
    Deployment, EVENTS_MAX, LaunchType, Rollout, ScalingSeed, Service, ServiceBehaviour,
    ServiceEvent, ServiceSeed, ServiceSight, ServiceStatus, ServiceView,
};
pub use task::{Health, StopCode, Task, TaskStatus, TaskView};

use crate::queue::plus;
use crate::{ServiceFault, World};
use notices::Notice;
use scheduler::Scene;

/// The most services of one DescribeServices, and of one page of ListServices by default.
pub const DESCRIBE_MAX: usize = 10;
/// The most tasks of one DescribeTasks, and clusters of one DescribeClusters.
pub const DESCRIBE_TASKS_MAX: usize = 100;
/// The cluster that is meant where none is named.
pub const DEFAULT_CLUSTER: &str = "default";

/// Why a call to ECS was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// No cluster of this name.
    #[error("Cluster not found.")]
    ClusterNotFound,
    /// No service of this name in that cluster.
    #[error("Service not found.")]
    ServiceNotFound,
    /// A service that was deleted, or is being deleted.
    #[error("Service was not ACTIVE.")]
    ServiceNotActive,
    /// A parameter that is missing or out of range.
    #[error("{0}")]
    InvalidParameter(String),
}

impl ServiceFault for ServiceError {
    fn code(&self) -> &'static str {
        match self {
            Self::ClusterNotFound => "ClusterNotFoundException",
            Self::ServiceNotFound => "ServiceNotFoundException",
            Self::ServiceNotActive => "ServiceNotActiveException",
            Self::InvalidParameter(_) => "InvalidParameterException",
        }
    }
}

/// What UpdateService changes.
#[derive(Debug, Clone, Default)]
pub struct ServiceUpdate {
    /// The desired count.
    pub desired: Option<i64>,
    /// What to run, by ARN, family or `family:revision`.
    pub task_definition: Option<String>,
    /// Start anew though nothing changed.
    pub force: bool,
}

/// How many of what a cluster has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClusterCounts {
    /// Services that are not deleted.
    pub services: u32,
    /// Tasks that run.
    pub running: u32,
    /// Tasks on their way to running.
    pub pending: u32,
}

/// All clusters with their services.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Services {
    /// By cluster, then by name.
    clusters: BTreeMap<String, BTreeMap<String, Service>>,
}

impl Services {
    /// The names of all clusters.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.clusters.keys().map(String::as_str)
    }

    /// All services, by cluster and name.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.clusters.values().flat_map(BTreeMap::values)
    }

    /// One service.
    #[must_use]
    pub fn get(&self, cluster: &str, name: &str) -> Option<&Service> {
        self.clusters.get(cluster)?.get(name)
    }

    /// One service, to change its tags, or its behaviour without its scheduler noticing.
    pub fn get_mut(&mut self, cluster: &str, name: &str) -> Option<&mut Service> {
        self.clusters.get_mut(cluster)?.get_mut(name)
    }

    /// When a task changes, or a scheduler looks, next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.iter().filter_map(Service::next_due).min()
    }

    fn find(&self, cluster: &str, service: &str) -> Result<&Service, ServiceError> {
        let cluster = name_of(cluster, DEFAULT_CLUSTER);
        let services = self.clusters.get(cluster).ok_or(ServiceError::ClusterNotFound)?;
        // A whole ARN names its cluster too; the older kind of ARN does not.
        let path = service.rsplit_once(":service/").map_or(service, |(_, path)| path);
        let (named, name) = match path.split_once('/') {
            Some((named, name)) => (named, name),
            None => (cluster, path),
        };
        let found = services.get(name).filter(|_| named == cluster);
        found.ok_or(ServiceError::ServiceNotFound)
    }
}

/// The last part of an ARN, or the name itself.
fn name_of<'a>(name_or_arn: &'a str, default: &'a str) -> &'a str {
    let name = name_or_arn.rsplit('/').next().unwrap_or(name_or_arn);
    if name.is_empty() { default } else { name }
}

impl World {
    /// Region and account, as ARNs of ECS need them.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        Place { region: &self.region, account: &self.account }
    }

    /// Puts a service into the world, and its cluster; one that exists stays as it is.
    pub fn seed_service(&mut self, now: Timestamp, seed: &ServiceSeed) {
        let now = self.at(now);
        let cluster = name_of(&seed.cluster, DEFAULT_CLUSTER).to_owned();
        if self.services.get(&cluster, &seed.name).is_some() {
            return;
        }
        let hour_ago = plus(now, SignedDuration::from_hours(-1));
        let task_definition = match seed.task_definition.as_str() {
            "" => self.place().task_definition_arn(&seed.name),
            given => self.place().task_definition_arn(given),
        };
        let mut service = Service::seeded(hour_ago, &cluster, seed, &task_definition);
        self.stage(hour_ago, |scene| service.settle_long_since(scene, &task_definition));
        let services = self.services.clusters.entry(cluster.clone()).or_default();
        services.insert(seed.name.clone(), service);
        if let Some(bounds) = seed.scaling {
            self.seed_scaling(now, &cluster, &seed.name, bounds);
        }
    }

    /// Makes a cluster known without a service.
    pub fn seed_cluster(&mut self, name: &str) {
        self.services.clusters.entry(name.to_owned()).or_default();
    }

    /// What is seen of each of these services, or `None` for one that is missing; by name or ARN.
    pub fn describe_services(
        &mut self,
        now: Timestamp,
        cluster: &str,
        services: &[String],
    ) -> Result<Vec<Option<ServiceSight>>, ServiceError> {
        let seen_at = self.shown_at(now);
        if services.is_empty() {
            return Err(ServiceError::InvalidParameter("Services cannot be empty.".to_owned()));
        }
        if services.len() > DESCRIBE_MAX {
            return Err(ServiceError::InvalidParameter(format!(
                "Too many services: {} were given, at most {DESCRIBE_MAX} are allowed.",
                services.len()
            )));
        }
        let find = |service: &String| match self.services.find(cluster, service) {
            Ok(found) => Ok(Some(found.seen_at(seen_at))),
            Err(ServiceError::ServiceNotFound) => Ok(None),
            Err(error) => Err(error),
        };
        services.iter().map(find).collect()
    }

    /// UpdateService: what is seen right after, without a lag.
    pub fn update_service(
        &mut self,
        now: Timestamp,
        cluster: &str,
        service: &str,
        update: &ServiceUpdate,
    ) -> Result<ServiceSight, ServiceError> {
        let now = self.at(now);
        let found = self.services.find(cluster, service)?;
        if found.view.status != ServiceStatus::Active {
            return Err(ServiceError::ServiceNotActive);
        }
        let desired = match update.desired.map(u32::try_from) {
            None => None,
            Some(Ok(desired)) => Some(desired),
            Some(Err(_)) => {
                let text = "desiredCount must be a whole number of zero or more.";
                return Err(ServiceError::InvalidParameter(text.to_owned()));
            }
        };
        let (cluster, name) = (found.cluster.clone(), found.name.clone());
        let wanted = update.task_definition.as_deref();
        let task_definition = wanted.map(|given| self.place().task_definition_arn(given));
        self.with_service(now, &cluster, &name, |service, scene| {
            service.update(scene, desired, task_definition, update.force);
        });
        self.mind_bounds(now, &cluster, &name);
        // What takes no time is over at once.
        self.advance(now);
        Ok(self.services.find(&cluster, &name)?.seen_at(now))
    }

    /// How many of what a cluster has, by name or ARN; `None` for one that is missing.
    pub fn describe_cluster(&mut self, now: Timestamp, cluster: &str) -> Option<ClusterCounts> {
        let seen_at = self.shown_at(now);
        let services = self.services.clusters.get(name_of(cluster, DEFAULT_CLUSTER))?;
        let mut counts = ClusterCounts::default();
        for sight in services.values().map(|service| service.seen_at(seen_at)) {
            counts.services += u32::from(sight.view.status != ServiceStatus::Inactive);
            counts.running += sight.running();
            counts.pending += sight.pending();
        }
        Some(counts)
    }

    /// The names of a cluster's services.
    pub fn list_services(
        &mut self,
        now: Timestamp,
        cluster: &str,
    ) -> Result<Vec<String>, ServiceError> {
        self.at(now);
        let cluster = name_of(cluster, DEFAULT_CLUSTER);
        let services = self.services.clusters.get(cluster).ok_or(ServiceError::ClusterNotFound)?;
        let here = services.values().filter(|it| it.view.status != ServiceStatus::Inactive);
        Ok(here.map(|service| service.name.clone()).collect())
    }

    /// The tasks of a cluster, or of one service of it, with what is seen of each.
    pub fn seen_tasks(
        &mut self,
        now: Timestamp,
        cluster: &str,
        service: Option<&str>,
    ) -> Result<Vec<(&Service, &Task, &TaskView)>, ServiceError> {
        let seen_at = self.shown_at(now);
        let named = name_of(cluster, DEFAULT_CLUSTER);
        let services = self.services.clusters.get(named).ok_or(ServiceError::ClusterNotFound)?;
        let services: Vec<&Service> = match service {
            Some(service) => vec![self.services.find(cluster, service)?],
            None => services.values().collect(),
        };
        let tasks = services.into_iter().flat_map(|service| {
            service.tasks().filter_map(move |task| Some((service, task, task.seen_at(seen_at)?)))
        });
        Ok(tasks.collect())
    }

    /// Replaces what goes wrong with a service; its scheduler looks soon. False where there is none.
    pub fn set_behaviour(
        &mut self,
        now: Timestamp,
        cluster: &str,
        service: &str,
        behaviour: ServiceBehaviour,
    ) -> bool {
        let now = self.at(now);
        self.with_service(now, cluster, service, |service, scene| {
            service.behaviour = behaviour;
            service.look_soon(scene);
        })
    }

    /// The essential container of every task that runs ends now, as after a crash. False where there is
    /// no such service.
    pub fn kill_tasks(&mut self, now: Timestamp, cluster: &str, service: &str) -> bool {
        let now = self.at(now);
        self.with_service(now, cluster, service, Service::crash)
    }

    /// Does the one change of a task, or the one look of a scheduler, that is due first.
    pub(crate) fn step_service(&mut self, at: Timestamp) {
        let due = self.services.iter().find(|it| it.next_due().is_some_and(|due| due <= at));
        let Some((cluster, name)) = due.map(|it| (it.cluster.clone(), it.name.clone())) else {
            return;
        };
        self.with_service(at, &cluster, &name, Service::step);
    }

    /// Lets something happen to one service, and tells the bus.
    pub(crate) fn with_service(
        &mut self,
        at: Timestamp,
        cluster: &str,
        name: &str,
        happen: impl FnOnce(&mut Service, &mut Scene<'_>),
    ) -> bool {
        let services = self.services.clusters.get_mut(cluster);
        let Some(mut service) = services.and_then(|services| services.remove(name)) else {
            return false;
        };
        self.stage(at, |scene| happen(&mut service, scene));
        service.remember(at);
        service.forget_stopped(at);
        let services = self.services.clusters.entry(cluster.to_owned()).or_default();
        services.insert(name.to_owned(), service);
        true
    }

    fn stage(&mut self, at: Timestamp, happen: impl FnOnce(&mut Scene<'_>)) {
        let place = Place { region: &self.region, account: &self.account };
        let mut scene =
            Scene { at, timings: &self.timings, ids: &mut self.ids, place, notices: Vec::new() };
        happen(&mut scene);
        for Notice { detail_type, resource, detail } in scene.notices {
            self.emit(at, "aws.ecs", detail_type, &[resource], &detail);
        }
    }
}
