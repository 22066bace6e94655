//! A service's scheduler: what it does at each look, and what it says.
//!
//! A look replaces what is unhealthy, drains older deployments once the primary is ready, stops what is
//! too much, starts what is missing, and concludes whether the service is steady. It happens
//! [`crate::Timings::placement`] after anything changed.
//!
//! **Throttle.** Tasks that do not get to `RUNNING`, or cannot be placed, are tried again after a pause
//! that doubles with each failure in a row, up to 27 minutes for the first and one minute for the
//! second. ECS documents the throttle and its longest pause, not its steps: those are guessed. As
//! documented, a task that did run ends it, and one that ends after it ran does not begin it.
//!
//! **Circuit breaker.** Failures of the primary deployment add up until it is steady; at half the desired
//! count, at least 3 and at most 200, it is `FAILED`. A container that exits while the deployment is in
//! progress counts too (AWS's texts differ on that).

use jiff::{SignedDuration, Timestamp};

use super::notices::{self, Notice, Place};
use super::task::{Pace, Turn};
use super::{
    Deployment, EVENTS_MAX, Health, LaunchType, Rollout, Service, ServiceEvent, ServiceStatus,
    StopCode, Task, TaskStatus,
};
use crate::queue::plus;
use crate::{Ids, Timings};

/// The shortest time from a change to a look.
const LOOK_MIN: SignedDuration = SignedDuration::from_millis(1);
/// The longest pause before a task that does not start is tried again.
const THROTTLE_MAX: SignedDuration = SignedDuration::from_mins(27);
/// The longest pause before a task that cannot be placed is tried again.
const PLACEMENT_RETRY_MAX: SignedDuration = SignedDuration::from_mins(1);
/// After so many failures in a row a service says that it cannot start tasks.
const IMPAIRED_AFTER: u32 = 3;
/// The bounds of the circuit breaker's threshold.
const BREAKER: (u32, u32) = (3, 200);

/// What a service needs of its world while something happens to it.
pub(crate) struct Scene<'a> {
    pub(super) at: Timestamp,
    pub(super) timings: &'a Timings,
    pub(super) ids: &'a mut Ids,
    pub(super) place: Place<'a>,
    pub(super) notices: Vec<Notice>,
}

impl Scene<'_> {
    fn hex(&mut self) -> String {
        self.ids.uuid().replace('-', "")
    }

    fn deployment_id(&mut self) -> String {
        // Nineteen digits, as the real ones have.
        let number = 1_000_000_000_000_000_000 + self.ids.draw() % 8_000_000_000_000_000_000;
        format!("ecs-svc/{number}")
    }
}

fn in_progress(id: &str) -> String {
    format!("ECS deployment {id} in progress.")
}

fn completed(id: &str) -> String {
    format!("ECS deployment {id} completed.")
}

fn named(tasks: &[String]) -> String {
    tasks.iter().map(|id| format!("(task {id})")).collect::<Vec<_>>().join(" ")
}

impl Service {
    fn pace(&self, timings: &Timings) -> Pace {
        let behaviour = &self.behaviour;
        let no_image = || {
            let image = &self.image;
            format!(
                "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref {image}: {image}: not found"
            )
        };
        let health = behaviour.health.unwrap_or(timings.health);
        Pace {
            start: behaviour.start.unwrap_or(timings.task_start),
            stop: behaviour.stop.unwrap_or(timings.task_stop),
            health: self.health_check.then_some((health, !behaviour.never_healthy)),
            fails: if behaviour.no_image {
                Some(no_image())
            } else {
                behaviour.fails_to_start.clone()
            },
            exits_after: behaviour.exits_after,
            exit_code: behaviour.exit_code.unwrap_or(1),
        }
    }

    fn primary(&mut self) -> Option<&mut Deployment> {
        self.view.deployments.first_mut()
    }

    fn primary_id(&self) -> &str {
        self.view.deployments.first().map_or("", |it| it.id.as_str())
    }

    fn rollout(&self) -> Option<Rollout> {
        self.view.deployments.first().map(|it| it.rollout)
    }

    fn say(&mut self, scene: &mut Scene<'_>, text: &str) {
        let message = format!("(service {}) {text}", self.name);
        self.events.push_front(ServiceEvent { id: scene.ids.uuid(), at: scene.at, message });
        self.events.truncate(EVENTS_MAX);
    }

    pub(super) fn look_soon(&mut self, scene: &Scene<'_>) {
        // Never in the same moment: tasks that end as they start would go on for ever in it.
        let soon = plus(scene.at, scene.timings.placement.max(LOOK_MIN));
        self.look = Some(self.look.map_or(soon, |look| look.min(soon)));
    }

    fn deploy(&mut self, scene: &mut Scene<'_>, task_definition: String, rollout: Rollout) {
        let id = scene.deployment_id();
        let reason = if rollout == Rollout::Completed { completed(&id) } else { in_progress(&id) };
        let deployment = Deployment {
            id,
            task_definition: task_definition.clone(),
            desired: self.view.desired,
            failed: 0,
            created: scene.at,
            updated: scene.at,
            rollout,
            reason,
        };
        self.view.task_definition = task_definition;
        self.view.deployments.insert(0, deployment);
    }

    fn tell_rollout(&self, scene: &mut Scene<'_>) {
        let Some(primary) = self.view.deployments.first() else { return };
        let reason = match primary.rollout {
            // The event has the singular where the description has the plural.
            Rollout::Failed => "ECS deployment circuit breaker: task failed to start.",
            Rollout::InProgress | Rollout::Completed => primary.reason.as_str(),
        };
        let notice = notices::deployment_changed(scene.place, self, primary, reason);
        scene.notices.push(notice);
    }

    /// Makes it what it would be after a long while without trouble.
    pub(super) fn settle_long_since(&mut self, scene: &mut Scene<'_>, task_definition: &str) {
        self.deploy(scene, task_definition.to_owned(), Rollout::Completed);
        let at_once = Pace {
            start: SignedDuration::ZERO,
            stop: SignedDuration::ZERO,
            health: self.health_check.then_some((SignedDuration::ZERO, true)),
            fails: None,
            exits_after: None,
            exit_code: 0,
        };
        for _ in 0..self.view.desired {
            let ids = (scene.hex(), scene.ids.uuid());
            let id = self.primary_id();
            let mut task = Task::placed(ids, id, task_definition, scene.at, &at_once);
            while task.step(scene.at, &at_once).is_some() {}
            self.tasks.push(task);
        }
        self.say(scene, "has reached a steady state.");
        self.remember(scene.at);
    }

    /// What UpdateService does.
    pub(crate) fn update(
        &mut self,
        scene: &mut Scene<'_>,
        desired: Option<u32>,
        task_definition: Option<String>,
        force: bool,
    ) {
        let at = scene.at;
        if let Some(desired) = desired.filter(|it| *it != self.view.desired) {
            self.view.desired = desired;
            let again = self.behaviour.scaling_rolls_out;
            if let Some(primary) = self.primary() {
                primary.desired = desired;
                primary.updated = at;
                if again && primary.rollout == Rollout::Completed {
                    primary.rollout = Rollout::InProgress;
                    primary.reason = in_progress(&primary.id);
                    self.tell_rollout(scene);
                }
            }
            self.look_soon(scene);
        }
        let changed = task_definition.filter(|it| *it != self.view.task_definition);
        if force || changed.is_some() {
            let task_definition = changed.unwrap_or_else(|| self.view.task_definition.clone());
            self.deploy(scene, task_definition, Rollout::InProgress);
            self.failed_starts = 0;
            self.not_before = None;
            self.tell_rollout(scene);
            self.look_soon(scene);
        }
    }

    /// The container of every task that runs ends by itself, now.
    pub(super) fn crash(&mut self, scene: &mut Scene<'_>) {
        let pace = self.pace(scene.timings);
        for index in 0..self.tasks.len() {
            let task = &mut self.tasks[index];
            if task.live() && task.view.status == TaskStatus::Running {
                task.exit(scene.at, &pace);
                self.turned(scene, index, Turn::Exited);
            }
        }
    }

    /// Does what is due first: a task's next step, or the scheduler's look.
    pub(super) fn step(&mut self, scene: &mut Scene<'_>) {
        let pace = self.pace(scene.timings);
        let tasks = self.tasks.iter().enumerate();
        let due = tasks.filter_map(|(index, task)| Some((task.next_due()?, index))).min();
        let due = due.filter(|(due, _)| *due <= scene.at);
        match due {
            Some((at, index)) if self.look.is_none_or(|look| at <= look) => {
                if let Some(turn) = self.tasks[index].step(scene.at, &pace) {
                    self.turned(scene, index, turn);
                }
            }
            _ => self.schedule(scene),
        }
    }

    /// A task changed: the bus and the scheduler hear of it.
    fn turned(&mut self, scene: &mut Scene<'_>, index: usize, turn: Turn) {
        if turn != Turn::Judged {
            let notice = notices::task_changed(scene.place, self, &self.tasks[index]);
            scene.notices.push(notice);
        }
        let deployment = self.tasks[index].deployment.clone();
        match turn {
            Turn::Moved => return,
            Turn::Ran => {
                self.failed_starts = 0;
                self.not_before = None;
            }
            Turn::FailedToStart => {
                self.count_failure(scene, &deployment);
                self.pause(scene, THROTTLE_MAX);
            }
            Turn::Exited if self.rollout() == Some(Rollout::InProgress) => {
                self.count_failure(scene, &deployment);
            }
            Turn::Exited | Turn::Judged | Turn::Stopped => {}
        }
        self.look_soon(scene);
    }

    /// Lets the next start wait, the longer the more failed in a row.
    fn pause(&mut self, scene: &mut Scene<'_>, longest: SignedDuration) {
        self.failed_starts = self.failed_starts.saturating_add(1);
        let base = scene.timings.task_start.max(SignedDuration::from_secs(1));
        // The first failure is tried again at once.
        let wait = match self.failed_starts {
            0 | 1 => SignedDuration::ZERO,
            n => base.checked_mul(1_i32 << (n - 2).min(20)).unwrap_or(longest).min(longest),
        };
        self.not_before = Some(plus(scene.at, wait));
        if self.failed_starts == IMPAIRED_AFTER {
            self.say(scene, "is unable to consistently start tasks successfully.");
            let action = ("WARN", "SERVICE_TASK_START_IMPAIRED");
            let notice = notices::service_action(scene.place, self, scene.at, action, None);
            scene.notices.push(notice);
        }
    }

    fn count_failure(&mut self, scene: &mut Scene<'_>, deployment: &str) {
        let (at, breaks) = (scene.at, self.circuit_breaker);
        let Some(primary) = self.primary().filter(|it| it.id == deployment) else { return };
        primary.failed += 1;
        primary.updated = at;
        let threshold = primary.desired.div_ceil(2).clamp(BREAKER.0, BREAKER.1);
        if breaks && primary.rollout == Rollout::InProgress && primary.failed >= threshold {
            primary.rollout = Rollout::Failed;
            primary.reason = "ECS deployment circuit breaker: tasks failed to start.".to_owned();
            let text =
                format!("(deployment {deployment}) deployment failed: tasks failed to start.");
            self.say(scene, &text);
            self.tell_rollout(scene);
        }
    }

    fn schedule(&mut self, scene: &mut Scene<'_>) {
        self.look = None;
        if self.view.status == ServiceStatus::Inactive {
            return;
        }
        let replaced = self.replace_unhealthy(scene);
        self.drain_older(scene);
        self.stop_surplus(scene);
        self.start_missing(scene, replaced);
        self.conclude(scene);
    }

    fn stop_tasks(
        &mut self,
        scene: &mut Scene<'_>,
        indices: &[usize],
        reason: &str,
    ) -> Vec<String> {
        let pace = self.pace(scene.timings);
        let mut stopped = Vec::new();
        for &index in indices {
            let task = &mut self.tasks[index];
            if task.stop(scene.at, StopCode::ServiceSchedulerInitiated, reason, &pace) {
                stopped.push(task.id.clone());
                let notice = notices::task_changed(scene.place, self, &self.tasks[index]);
                scene.notices.push(notice);
            }
        }
        if !stopped.is_empty() {
            let text = format!("has stopped {} running tasks: {}.", stopped.len(), named(&stopped));
            self.say(scene, &text);
        }
        stopped
    }

    fn indices(&self, keep: impl Fn(&Task) -> bool) -> Vec<usize> {
        let tasks = self.tasks.iter().enumerate();
        tasks.filter(|(_, task)| keep(task)).map(|(index, _)| index).collect()
    }

    fn replace_unhealthy(&mut self, scene: &mut Scene<'_>) -> usize {
        let sick = self.indices(|it| it.live() && it.view.health == Health::Unhealthy);
        for &index in &sick {
            let (id, deployment) =
                (self.tasks[index].id.clone(), self.tasks[index].deployment.clone());
            self.say(scene, &format!("(task {id}) failed container health checks."));
            self.count_failure(scene, &deployment);
        }
        self.stop_tasks(scene, &sick, "Task failed container health checks");
        sick.len()
    }

    fn ready(&self) -> usize {
        let primary = self.primary_id();
        let ours = self.tasks.iter().filter(|it| it.deployment == primary);
        ours.filter(|it| it.ready(self.health_check)).count()
    }

    fn drain_older(&mut self, scene: &mut Scene<'_>) {
        let primary = self.primary_id().to_owned();
        if self.ready() >= self.view.desired as usize {
            let older = self.indices(|it| it.live() && it.deployment != primary);
            let reason = format!("Scaling activity initiated by (deployment {primary})");
            self.stop_tasks(scene, &older, &reason);
        }
        let tasks = &self.tasks;
        self.view.deployments.retain(|deployment| {
            deployment.id == primary
                || tasks.iter().any(|it| {
                    it.deployment == deployment.id && it.view.status != TaskStatus::Stopped
                })
        });
    }

    fn stop_surplus(&mut self, scene: &mut Scene<'_>) {
        let primary = self.primary_id().to_owned();
        let mut live = self.indices(|it| it.live() && it.deployment == primary);
        let surplus = live.len().saturating_sub(self.view.desired as usize);
        // What does not run yet goes first, then the newest.
        live.sort_by_key(|&index| {
            (self.tasks[index].view.status == TaskStatus::Running, usize::MAX - index)
        });
        live.truncate(surplus);
        let reason = format!("Scaling activity initiated by (deployment {primary})");
        self.stop_tasks(scene, &live, &reason);
    }

    fn start_missing(&mut self, scene: &mut Scene<'_>, replaced: usize) {
        let primary = self.primary_id().to_owned();
        let live = self.indices(|it| it.live() && it.deployment == primary).len();
        let missing = (self.view.desired as usize).saturating_sub(live);
        let starts = self.view.status == ServiceStatus::Active
            && self.rollout() != Some(Rollout::Failed)
            && missing > 0;
        if !starts {
            return;
        }
        if let Some(not_before) = self.not_before.filter(|it| *it > scene.at) {
            self.look = Some(not_before);
            return;
        }
        if self.behaviour.no_capacity {
            self.tell_unplaced(scene, &primary);
            return;
        }
        self.unplaced = false;
        let pace = self.pace(scene.timings);
        let mut started = Vec::new();
        for _ in 0..missing {
            let ids = (scene.hex(), scene.ids.uuid());
            started.push(ids.0.clone());
            let task = Task::placed(ids, &primary, &self.view.task_definition, scene.at, &pace);
            let notice = notices::task_changed(scene.place, self, &task);
            scene.notices.push(notice);
            self.tasks.push(task);
        }
        let mut text = format!("has started {missing} tasks: {}.", named(&started));
        if replaced > 0 {
            text += &format!(" Amazon ECS replaced {replaced} tasks due to an unhealthy status.");
        }
        self.say(scene, &text);
    }

    fn tell_unplaced(&mut self, scene: &mut Scene<'_>, primary: &str) {
        let more = "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide.";
        let (text, reason) = match self.launch_type {
            LaunchType::Fargate => (
                "was unable to place a task. Reason: Capacity is unavailable at this time. Please try again later or in a different availability zone.",
                "RESOURCE:FARGATE",
            ),
            LaunchType::Ec2 => (
                "was unable to place a task because no container instance met all of its requirements. The closest matching container-instance has insufficient memory available.",
                "RESOURCE:MEMORY",
            ),
        };
        // ECS leaves repeated messages out until the cause is gone.
        if !self.unplaced {
            self.say(scene, &format!("{text} {more}"));
            let action = ("ERROR", "SERVICE_TASK_PLACEMENT_FAILURE");
            let notice = notices::service_action(scene.place, self, scene.at, action, Some(reason));
            scene.notices.push(notice);
            self.unplaced = true;
        }
        self.count_failure(scene, primary);
        self.pause(scene, PLACEMENT_RETRY_MAX);
        if self.rollout() != Some(Rollout::Failed) {
            let soonest = plus(scene.at, scene.timings.placement.max(SignedDuration::from_secs(1)));
            self.look = self.not_before.map(|it| it.max(soonest));
        }
    }

    /// Whether it is steady now; said once, when it becomes so.
    fn conclude(&mut self, scene: &mut Scene<'_>) {
        let there = self.indices(|it| it.view.status != TaskStatus::Stopped).len();
        let unsettled = self.behaviour.never_settles && self.rollout() == Some(Rollout::InProgress);
        let steady = there == self.ready() && there == self.view.desired as usize && !unsettled;
        let before = std::mem::replace(&mut self.steady, steady);
        let ends = steady && self.rollout() == Some(Rollout::InProgress);
        if !steady || (before && !ends) {
            return;
        }
        let at = scene.at;
        if let Some(primary) = self.primary() {
            primary.failed = 0;
            if ends {
                primary.rollout = Rollout::Completed;
                primary.reason = completed(&primary.id);
                primary.updated = at;
                let text = format!("(deployment {}) deployment completed.", primary.id);
                self.say(scene, &text);
                self.tell_rollout(scene);
            }
        }
        self.say(scene, "has reached a steady state.");
        let action = ("INFO", "SERVICE_STEADY_STATE");
        let notice = notices::service_action(scene.place, self, at, action, None);
        scene.notices.push(notice);
    }
}
