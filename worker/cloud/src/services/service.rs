//! One service: its seed and behaviour, how it stands, and what a description shows of it.
//!
//! What is shown at an earlier moment is put together from two histories: the views of the service, kept
//! whenever one changed, and those of its tasks, from which the counts follow. Both are bounded, and so
//! are the events and the stopped tasks.
//!
//! Not here: what happens to it, which is the scheduler's.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::task::{Task, TaskStatus};
use crate::queue::plus;
use crate::timings::maybe_not_negative;

/// How many events of a service are kept, as ECS shows them.
pub const EVENTS_MAX: usize = 100;
/// How many past views of a service are kept for descriptions that lag.
const VIEWS_MAX: usize = 128;
/// How long a stopped task can be described; ECS says about an hour.
const STOPPED_KEPT: SignedDuration = SignedDuration::from_hours(1);
/// How many stopped tasks a service keeps at most: one that fails fast must not fill the world.
const STOPPED_MAX: usize = 50;

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
    pub(super) past: VecDeque<(Timestamp, ServiceView)>,
    /// The newest first, as ECS shows them.
    pub(super) events: VecDeque<ServiceEvent>,
    pub(super) tasks: Vec<Task>,
    /// When its scheduler looks next.
    pub(super) look: Option<Timestamp>,
    /// How many tasks in a row did not start.
    pub(super) failed_starts: u32,
    /// No task is started before.
    pub(super) not_before: Option<Timestamp>,
    /// Whether the last look found it steady.
    pub(super) steady: bool,
    /// Whether it has said that no task can be placed; said once until one can.
    pub(super) unplaced: bool,
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

impl Service {
    /// A service that is to be settled: without a deployment yet.
    pub(super) fn seeded(
        created: Timestamp,
        cluster: &str,
        seed: &ServiceSeed,
        task_definition: &str,
    ) -> Self {
        let image = match seed.image.as_str() {
            "" => format!("docker.io/library/{}:latest", seed.name),
            given => given.to_owned(),
        };
        Self {
            cluster: cluster.to_owned(),
            name: seed.name.clone(),
            launch_type: seed.launch_type,
            image,
            health_check: seed.health_check,
            circuit_breaker: seed.circuit_breaker,
            tags: seed.tags.clone(),
            created,
            behaviour: seed.behaviour.clone(),
            view: ServiceView {
                status: seed.status,
                desired: seed.desired,
                task_definition: task_definition.to_owned(),
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
        }
    }

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

    pub(super) fn remember(&mut self, at: Timestamp) {
        if self.past.back().is_some_and(|(_, last)| *last == self.view) {
            return;
        }
        self.past.push_back((at, self.view.clone()));
        if self.past.len() > VIEWS_MAX {
            self.past.pop_front();
        }
    }

    pub(super) fn forget_stopped(&mut self, at: Timestamp) {
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
