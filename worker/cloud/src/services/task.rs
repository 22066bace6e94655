//! One task of a service: where it stands, and what moves it on.
//!
//! A task is placed (`PROVISIONING`), pulls its image (`PENDING`), runs, and ends. It ends by itself
//! (its essential container exits), because it could not start, or because its service no longer wants
//! it; whoever is first says why, and the reason stays. What a description shows at an earlier moment is
//! kept in `past`, which is bounded by the length of a task's life: each status is entered once.
//!
//! Not here: `ACTIVATING` (load balancers), several containers in one task, tasks that no service owns.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::queue::plus;

/// Where a task stands; ECS's `lastStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskStatus {
    /// Placed; its network is being made.
    Provisioning,
    /// Its image is being pulled.
    Pending,
    /// On.
    Running,
    /// Unwanted; being taken out of load balancers.
    Deactivating,
    /// Unwanted; its containers were told to end.
    Stopping,
    /// Its containers ended; its network is being taken down.
    Deprovisioning,
    /// Over.
    Stopped,
}

impl TaskStatus {
    /// ECS's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Provisioning => "PROVISIONING",
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Deactivating => "DEACTIVATING",
            Self::Stopping => "STOPPING",
            Self::Deprovisioning => "DEPROVISIONING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// What a container's health check says; `Unknown` also where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Health {
    /// Not said yet, or nobody asks.
    Unknown,
    /// Well.
    Healthy,
    /// Not well; the service replaces the task.
    Unhealthy,
}

impl Health {
    /// ECS's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
        }
    }
}

/// Who ended a task; ECS's `stopCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCode {
    /// It never ran.
    TaskFailedToStart,
    /// Its container ended by itself.
    EssentialContainerExited,
    /// Its service did not want it any more.
    ServiceSchedulerInitiated,
    /// Somebody called StopTask.
    UserInitiated,
}

impl StopCode {
    /// ECS's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TaskFailedToStart => "TaskFailedToStart",
            Self::EssentialContainerExited => "EssentialContainerExited",
            Self::ServiceSchedulerInitiated => "ServiceSchedulerInitiated",
            Self::UserInitiated => "UserInitiated",
        }
    }
}

/// What a description shows of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// `lastStatus`.
    pub status: TaskStatus,
    /// Whether `desiredStatus` is `RUNNING`; else `STOPPED`.
    pub wanted: bool,
    /// `healthStatus`.
    pub health: Health,
    /// Rises with every change.
    pub version: u32,
    /// When it last changed.
    pub updated: Timestamp,
    /// When its image began to be pulled.
    pub pull_started: Option<Timestamp>,
    /// When its image was there, or given up.
    pub pull_stopped: Option<Timestamp>,
    /// When it was `RUNNING`.
    pub started: Option<Timestamp>,
    /// When it was decided that it ends.
    pub stopping: Option<Timestamp>,
    /// When its container ended.
    pub execution_stopped: Option<Timestamp>,
    /// When it was `STOPPED`.
    pub stopped: Option<Timestamp>,
    /// Who ended it, and the text `stoppedReason`.
    pub stop: Option<(StopCode, String)>,
    /// Of its container, where that ran.
    pub exit_code: Option<i64>,
    /// `reason` of its container, where that could not be made.
    pub container_reason: Option<String>,
}

/// One task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Its container's own id.
    pub container_id: String,
    /// `ecs-svc/…`: who started it.
    pub deployment: String,
    /// The ARN of what it runs.
    pub task_definition: String,
    /// When it was placed.
    pub created: Timestamp,
    /// How it stands now.
    pub view: TaskView,
    next: Option<(Timestamp, TaskStatus)>,
    verdict: Option<Timestamp>,
    past: Vec<(Timestamp, TaskView)>,
}

/// How a task of a service fares, put together from the service's behaviour and the world's timings.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    pub(super) start: SignedDuration,
    pub(super) stop: SignedDuration,
    /// When a health check first speaks, and whether it finds the task well.
    pub(super) health: Option<(SignedDuration, bool)>,
    /// Why it cannot start, if it cannot.
    pub(super) fails: Option<String>,
    pub(super) exits_after: Option<SignedDuration>,
    pub(super) exit_code: i64,
}

/// What one step of a task was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It went on.
    Moved,
    /// It runs.
    Ran,
    /// It could not start.
    FailedToStart,
    /// Its container ended by itself.
    Exited,
    /// Its health check spoke.
    Judged,
    /// It is over.
    Stopped,
}

/// What `docker stop` leaves of a container that minds SIGTERM: 128 and the signal's number.
const EXIT_SIGTERM: i64 = 143;

impl Task {
    /// A task that was just placed.
    pub(super) fn placed(
        ids: (String, String),
        deployment: &str,
        task_definition: &str,
        at: Timestamp,
        pace: &Pace,
    ) -> Self {
        let view = TaskView {
            status: TaskStatus::Provisioning,
            wanted: true,
            health: Health::Unknown,
            version: 1,
            updated: at,
            pull_started: None,
            pull_stopped: None,
            started: None,
            stopping: None,
            execution_stopped: None,
            stopped: None,
            stop: None,
            exit_code: None,
            container_reason: None,
        };
        Self {
            id: ids.0,
            container_id: ids.1,
            deployment: deployment.to_owned(),
            task_definition: task_definition.to_owned(),
            created: at,
            past: vec![(at, view.clone())],
            view,
            next: Some((plus(at, pace.start / 2), TaskStatus::Pending)),
            verdict: None,
        }
    }

    /// What a description made at `at` shows; `None` before it was placed.
    #[must_use]
    pub fn seen_at(&self, at: Timestamp) -> Option<&TaskView> {
        self.past.iter().rev().find(|(since, _)| *since <= at).map(|(_, view)| view)
    }

    /// When it changes next by itself.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        [self.next.map(|(at, _)| at), self.verdict].into_iter().flatten().min()
    }

    /// Whether it is one of those that its service counts on.
    #[must_use]
    pub fn live(&self) -> bool {
        self.view.wanted
    }

    /// Whether it does its work: it runs, and no health check is still to find it well.
    pub(super) fn ready(&self, checked: bool) -> bool {
        self.view.wanted
            && self.view.status == TaskStatus::Running
            && (!checked || self.view.health == Health::Healthy)
    }

    fn enter(&mut self, at: Timestamp, status: TaskStatus) {
        self.view.status = status;
        self.view.version += 1;
        self.view.updated = at;
        self.past.push((at, self.view.clone()));
    }

    /// Does what is due by `at`, if anything is.
    pub(super) fn step(&mut self, at: Timestamp, pace: &Pace) -> Option<Turn> {
        if self.verdict.is_some_and(|due| due <= at) {
            self.verdict = None;
            let well = pace.health.as_ref().is_none_or(|(_, well)| *well);
            self.view.health = if well { Health::Healthy } else { Health::Unhealthy };
            self.enter(at, self.view.status);
            return Some(Turn::Judged);
        }
        let (_, status) = self.next.filter(|(due, _)| *due <= at)?;
        self.next = None;
        Some(match status {
            TaskStatus::Pending => {
                self.view.pull_started = Some(at);
                let rest = plus(self.created, pace.start).max(at);
                self.next = Some((rest, TaskStatus::Running));
                self.enter(at, status);
                Turn::Moved
            }
            TaskStatus::Running => {
                self.view.pull_stopped = Some(at);
                if let Some(reason) = &pace.fails {
                    self.view.container_reason = Some(reason.clone());
                    self.end(at, StopCode::TaskFailedToStart, reason, None, pace);
                    return Some(Turn::FailedToStart);
                }
                self.view.started = Some(at);
                self.verdict = pace.health.as_ref().map(|(after, _)| plus(at, *after));
                self.next =
                    pace.exits_after.map(|after| (plus(at, after), TaskStatus::Deprovisioning));
                self.enter(at, status);
                Turn::Ran
            }
            TaskStatus::Deprovisioning if self.view.wanted => {
                self.exit(at, pace);
                Turn::Exited
            }
            TaskStatus::Deprovisioning => {
                self.view.execution_stopped = Some(at);
                self.view.exit_code = self.view.started.map(|_| EXIT_SIGTERM);
                self.next = Some((plus(at, pace.stop / 3), TaskStatus::Stopped));
                self.enter(at, status);
                Turn::Moved
            }
            TaskStatus::Stopped => {
                self.view.stopped = Some(at);
                self.enter(at, status);
                Turn::Stopped
            }
            TaskStatus::Provisioning | TaskStatus::Deactivating | TaskStatus::Stopping => {
                self.next = Some((plus(at, pace.stop / 3), TaskStatus::Deprovisioning));
                self.enter(at, status);
                Turn::Moved
            }
        })
    }

    /// Its essential container ends by itself, now.
    pub(super) fn exit(&mut self, at: Timestamp, pace: &Pace) {
        let reason = "Essential container in task exited";
        self.end(at, StopCode::EssentialContainerExited, reason, Some(pace.exit_code), pace);
    }

    /// It ended without being asked to.
    fn end(&mut self, at: Timestamp, code: StopCode, reason: &str, exit: Option<i64>, pace: &Pace) {
        self.view.wanted = false;
        self.view.stop = Some((code, reason.to_owned()));
        self.view.stopping = Some(at);
        self.view.execution_stopped = Some(at);
        self.view.exit_code = exit;
        self.verdict = None;
        self.next = Some((plus(at, pace.stop / 3), TaskStatus::Stopped));
        self.enter(at, TaskStatus::Deprovisioning);
    }

    /// Asks it to end; one that ends already goes on ending, and keeps its reason.
    pub(super) fn stop(
        &mut self,
        at: Timestamp,
        code: StopCode,
        reason: &str,
        pace: &Pace,
    ) -> bool {
        if !self.view.wanted {
            return false;
        }
        self.view.wanted = false;
        self.view.stop = Some((code, reason.to_owned()));
        self.view.stopping = Some(at);
        self.verdict = None;
        let third = plus(at, pace.stop / 3);
        // What does not run yet has nothing to take out of load balancers, and nothing to end.
        if self.view.status == TaskStatus::Running {
            self.next = Some((third, TaskStatus::Stopping));
            self.enter(at, TaskStatus::Deactivating);
        } else {
            self.next = Some((third, TaskStatus::Stopped));
            self.enter(at, TaskStatus::Deprovisioning);
        }
        true
    }
}
