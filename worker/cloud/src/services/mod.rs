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
//! A description may lag: with `describe_lag` set, a caller sees what was true that long ago.
//!
//! Not here: load balancers, capacity providers, container instances, task definitions (any name is
//! taken), rollback, services that are made or deleted while the world runs, tasks that no service owns.

mod notices;
mod scheduler;
pub mod task;

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use notices::{Place, task_json};
pub use task::{Health, StopCode, Task, TaskStatus, TaskView};

use crate::queue::plus;
use crate::timings::maybe_not_negative;
use crate::{ServiceFault, World};
use notices::Notice;
use scheduler::Scene;

/// The most services of one DescribeServices, and of one page of ListServices by default.
pub const DESCRIBE_MAX: usize = 10;
/// The most tasks of one DescribeTasks, and clusters of one DescribeClusters.
pub const DESCRIBE_TASKS_MAX: usize = 100;
/// How many events of a service are kept, as ECS shows them.
pub const EVENTS_MAX: usize = 100;
/// How many past views of a service are kept for descriptions that lag.
const VIEWS_MAX: usize = 32;
/// How long a stopped task can be described; ECS says about an hour.
const STOPPED_KEPT: SignedDuration = SignedDuration::from_hours(1);
/// How many stopped tasks a service keeps at most: one that fails fast must not fill the world.
const STOPPED_MAX: usize = 50;
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

/// Whether a service exists in full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceStatus {
    /// It does.
    #[default]
    Active,
    /// It was deleted; tasks still run.
    Draining,
    /// It was deleted.
    Inactive,
}

impl ServiceStatus {
    /// ECS's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Draining => "DRAINING",
            Self::Inactive => "INACTIVE",
        }
    }
}

/// What tasks run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LaunchType {
    /// AWS's own machines.
    #[default]
    Fargate,
    /// Container instances, of which the model knows only whether they have room.
    Ec2,
}

impl LaunchType {
    /// ECS's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fargate => "FARGATE",
            Self::Ec2 => "EC2",
        }
    }
}

/// How one service differs from the world's timings, and what goes wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceBehaviour {
    /// From a task's placing to `RUNNING`.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub start: Option<SignedDuration>,
    /// From the decision to stop a task to `STOPPED`.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub stop: Option<SignedDuration>,
    /// From `RUNNING` to the first verdict of the health check.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub health: Option<SignedDuration>,
    /// The health check finds no task well: each is replaced.
    pub never_healthy: bool,
    /// A task ends by itself so long after it was `RUNNING`.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub exits_after: Option<SignedDuration>,
    /// With which code it ends; 1 where it is left out.
    pub exit_code: Option<i64>,
    /// No task starts, for this reason, such as `ResourceInitializationError: …`.
    pub fails_to_start: Option<String>,
    /// No task starts, since its image cannot be pulled.
    pub no_image: bool,
    /// No task can be placed.
    pub no_capacity: bool,
    /// A deployment in progress stays in progress.
    pub never_settles: bool,
    /// A change of the desired count puts the deployment back in progress.
    pub scaling_rolls_out: bool,
}

/// A service that exists from the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSeed {
    /// Its cluster's name; `default` where it is empty.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// How many tasks it wants; they run long since.
    pub desired: u32,
    /// Whether it was deleted.
    pub status: ServiceStatus,
    /// What its tasks run on.
    pub launch_type: LaunchType,
    /// `family:revision`; made from its name where it is empty.
    pub task_definition: String,
    /// Its image; made from its name where it is empty.
    pub image: String,
    /// Its container has a health check.
    pub health_check: bool,
    /// Its deployment circuit breaker is on.
    pub circuit_breaker: bool,
    /// The bounds of a scalable target, where it has one.
    pub scaling: Option<ScalingSeed>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Its own behaviour.
    pub behaviour: ServiceBehaviour,
}

/// A scalable target that exists from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalingSeed {
    /// The least desired count.
    pub min: u32,
    /// The greatest.
    pub max: u32,
}

/// How far a deployment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Rollout {
    /// On its way.
    InProgress,
    /// It was steady.
    Completed,
    /// The circuit breaker gave it up.
    Failed,
}

impl Rollout {
    /// ECS's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }
}

/// One deployment; the first of a service's is the primary, the others are being drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// `ecs-svc/…`
    pub id: String,
    /// The ARN of what it runs.
    pub task_definition: String,
    /// How many tasks it wants.
    pub desired: u32,
    /// How many of its tasks failed since it began, or was last steady.
    pub failed: u32,
    /// When it began.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// How far it has come.
    pub rollout: Rollout,
    /// Why it says so.
    pub reason: String,
}

/// What a description shows of a service beside its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Whether it was deleted.
    pub status: ServiceStatus,
    /// How many tasks it wants.
    pub desired: u32,
    /// The ARN of what its primary deployment runs.
    pub task_definition: String,
    /// The primary deployment first.
    pub deployments: Vec<Deployment>,
}

/// One line of a service's event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEvent {
    /// Its id.
    pub id: String,
    /// When it was written.
    pub at: Timestamp,
    /// What it says, in ECS's words.
    pub message: String,
}

/// One service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    /// Its cluster's name.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// What its tasks run on.
    pub launch_type: LaunchType,
    /// The image of its one container.
    pub image: String,
    /// Its container has a health check.
    pub health_check: bool,
    /// Its deployment circuit breaker is on.
    pub circuit_breaker: bool,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
    /// What goes wrong with it and how fast it is.
    pub behaviour: ServiceBehaviour,
    /// How it stands now.
    pub view: ServiceView,
    past: VecDeque<(Timestamp, ServiceView)>,
    /// The newest first, as ECS shows them.
    events: VecDeque<ServiceEvent>,
    tasks: Vec<Task>,
    /// When its scheduler looks next.
    look: Option<Timestamp>,
    /// How many tasks in a row did not start.
    failed_starts: u32,
    /// No task is started before.
    not_before: Option<Timestamp>,
    /// Whether the last look found it steady.
    steady: bool,
    /// Whether it has said that no task can be placed; said once until one can.
    unplaced: bool,
}

/// What a description shows of a service.
#[derive(Debug, Clone)]
pub struct ServiceSight {
    /// Its cluster's name.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// What its tasks run on.
    pub launch_type: LaunchType,
    /// Its deployment circuit breaker is on.
    pub circuit_breaker: bool,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
    /// Desired count and deployments.
    pub view: ServiceView,
    /// How many tasks run, and how many are on their way, of each deployment.
    pub counts: BTreeMap<String, (u32, u32)>,
    /// The newest first.
    pub events: Vec<ServiceEvent>,
}

impl ServiceSight {
    /// How many tasks run.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.counts.values().map(|(running, _)| running).sum()
    }

    /// How many tasks are on their way to running.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.counts.values().map(|(_, pending)| pending).sum()
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

    /// One service, to change its behaviour or tags.
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

impl Service {
    /// Its tasks in the order of their making, the stopped ones of the last hour among them.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter()
    }

    /// Its events, the newest first.
    pub fn events(&self) -> impl Iterator<Item = &ServiceEvent> {
        self.events.iter()
    }

    /// When a task of it changes, or its scheduler looks.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let task = self.tasks.iter().filter_map(Task::next_due).min();
        [task, self.look].into_iter().flatten().min()
    }

    /// What a description made at `at` shows.
    #[must_use]
    pub fn seen_at(&self, at: Timestamp) -> ServiceSight {
        let view = self.past.iter().rev().find(|(since, _)| *since <= at);
        let view = view.or_else(|| self.past.front()).map_or(&self.view, |(_, view)| view);
        let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for task in &self.tasks {
            let (running, pending) = counts.entry(task.deployment.clone()).or_default();
            match task.seen_at(at).map(|view| view.status) {
                Some(TaskStatus::Running) => *running += 1,
                Some(TaskStatus::Provisioning | TaskStatus::Pending) => *pending += 1,
                _ => {}
            }
        }
        ServiceSight {
            cluster: self.cluster.clone(),
            name: self.name.clone(),
            launch_type: self.launch_type,
            circuit_breaker: self.circuit_breaker,
            tags: self.tags.clone(),
            created: self.created,
            view: view.clone(),
            counts,
            events: self.events.iter().filter(|event| event.at <= at).cloned().collect(),
        }
    }

    fn remember(&mut self, at: Timestamp) {
        if self.past.back().is_some_and(|(_, last)| *last == self.view) {
            return;
        }
        self.past.push_back((at, self.view.clone()));
        if self.past.len() > VIEWS_MAX {
            self.past.pop_front();
        }
    }

    fn forget_stopped(&mut self, at: Timestamp) {
        let over = |task: &Task| task.view.status == TaskStatus::Stopped;
        let mut surplus =
            self.tasks.iter().filter(|it| over(it)).count().saturating_sub(STOPPED_MAX);
        self.tasks.retain(|task| {
            let old = task.view.stopped.is_some_and(|stopped| plus(stopped, STOPPED_KEPT) <= at);
            if !old && (surplus == 0 || !over(task)) {
                return true;
            }
            surplus = surplus.saturating_sub(1);
            false
        });
    }
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
        let or = |given: &str, made: String| if given.is_empty() { made } else { given.to_owned() };
        let task_definition = or(&seed.task_definition, format!("{}:1", seed.name));
        let task_definition = self.place().task_definition_arn(&task_definition);
        let mut service = Service {
            cluster: cluster.clone(),
            name: seed.name.clone(),
            launch_type: seed.launch_type,
            image: or(&seed.image, format!("docker.io/library/{}:latest", seed.name)),
            health_check: seed.health_check,
            circuit_breaker: seed.circuit_breaker,
            tags: seed.tags.clone(),
            created: hour_ago,
            behaviour: seed.behaviour.clone(),
            view: ServiceView {
                status: seed.status,
                desired: seed.desired,
                task_definition: task_definition.clone(),
                deployments: Vec::new(),
            },
            past: VecDeque::new(),
            events: VecDeque::new(),
            tasks: Vec::new(),
            look: None,
            failed_starts: 0,
            not_before: None,
            steady: true,
            unplaced: false,
        };
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
        let seen_at = self.seen_now(now);
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
        let seen_at = self.seen_now(now);
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
        let seen_at = self.seen_now(now);
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

    /// The essential container of every task that runs ends now, as after a crash. False where there is
    /// no such service.
    pub fn kill_tasks(&mut self, now: Timestamp, cluster: &str, service: &str) -> bool {
        let now = self.at(now);
        self.with_service(now, cluster, service, Service::crash)
    }

    fn seen_now(&mut self, now: Timestamp) -> Timestamp {
        plus(self.at(now), -self.timings.describe_lag)
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
