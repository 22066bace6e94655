//! What ECS tells the default bus: "ECS Task State Change", "ECS Deployment State Change" and
//! "ECS Service Action", in the real shapes; and the ARNs that these need.
//!
//! A task's detail and DescribeTasks's answer have one shape but for how they write a time, and for the
//! health, which the event leaves out as the real one does; so both come from [`task_json`].

use jiff::Timestamp;
use serde_json::{Value, json};

use super::task::{Task, TaskView};
use super::{Deployment, LaunchType, Service};

/// Region and account, of which ARNs are made.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The region.
    pub region: &'a str,
    /// Twelve digits.
    pub account: &'a str,
}

impl Place<'_> {
    fn arn(&self, resource: &str) -> String {
        format!("arn:aws:ecs:{}:{}:{resource}", self.region, self.account)
    }

    /// The ARN of a cluster.
    #[must_use]
    pub fn cluster_arn(&self, cluster: &str) -> String {
        self.arn(&format!("cluster/{cluster}"))
    }

    /// The ARN of a service.
    #[must_use]
    pub fn service_arn(&self, cluster: &str, service: &str) -> String {
        self.arn(&format!("service/{cluster}/{service}"))
    }

    /// The ARN of a task.
    #[must_use]
    pub fn task_arn(&self, cluster: &str, task: &str) -> String {
        self.arn(&format!("task/{cluster}/{task}"))
    }

    /// The ARN of a task definition, from its ARN, its family or `family:revision`.
    #[must_use]
    pub fn task_definition_arn(&self, given: &str) -> String {
        if given.starts_with("arn:") {
            return given.to_owned();
        }
        let revision = if given.contains(':') { "" } else { ":1" };
        self.arn(&format!("task-definition/{given}{revision}"))
    }
}

/// An event for the default bus.
pub(super) struct Notice {
    pub(super) detail_type: &'static str,
    pub(super) resource: String,
    pub(super) detail: Value,
}

/// A time as ECS's events write it.
pub(super) fn moment(at: Timestamp) -> Value {
    let millis = Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
    millis.to_string().into()
}

/// A task as ECS describes it; `time` says how a time is written.
#[must_use]
pub fn task_json(
    place: Place<'_>,
    service: &Service,
    task: &Task,
    view: &TaskView,
    time: fn(Timestamp) -> Value,
) -> Value {
    let arn = place.task_arn(&service.cluster, &task.id);
    let resource = format!("container/{}/{}/{}", service.cluster, task.id, task.container_id);
    let mut container = json!({
        "containerArn": place.arn(&resource),
        "taskArn": arn,
        "name": service.name,
        "image": service.image,
        "lastStatus": container_status(view),
        "networkInterfaces": [],
        "cpu": "0",
    });
    if let Some(code) = view.exit_code {
        container["exitCode"] = code.into();
    }
    if let Some(reason) = &view.container_reason {
        container["reason"] = reason.as_str().into();
    }
    let mut json = json!({
        "attachments": [],
        "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
        "availabilityZone": format!("{}a", place.region),
        "clusterArn": place.cluster_arn(&service.cluster),
        "connectivity": "CONNECTED",
        "connectivityAt": time(task.created),
        "containers": [container],
        "cpu": "256",
        "createdAt": time(task.created),
        "desiredStatus": if view.wanted { "RUNNING" } else { "STOPPED" },
        "enableExecuteCommand": false,
        "group": format!("service:{}", service.name),
        "launchType": service.launch_type.name(),
        "lastStatus": view.status.name(),
        "memory": "512",
        "overrides": {"containerOverrides": [{"name": service.name}]},
        "startedBy": task.deployment,
        "taskArn": arn,
        "taskDefinitionArn": task.task_definition,
        "version": view.version,
    });
    if service.launch_type == LaunchType::Fargate {
        json["platformVersion"] = "1.4.0".into();
        json["ephemeralStorage"] = json!({"sizeInGiB": 20});
    }
    let times = [
        ("pullStartedAt", view.pull_started),
        ("pullStoppedAt", view.pull_stopped),
        ("startedAt", view.started),
        ("stoppingAt", view.stopping),
        ("executionStoppedAt", view.execution_stopped),
        ("stoppedAt", view.stopped),
    ];
    for (name, at) in times {
        if let Some(at) = at {
            json[name] = time(at);
        }
    }
    if let Some((code, reason)) = &view.stop {
        json["stopCode"] = code.name().into();
        json["stoppedReason"] = reason.as_str().into();
    }
    json
}

fn container_status(view: &TaskView) -> &'static str {
    if view.execution_stopped.is_some() {
        "STOPPED"
    } else if view.started.is_some() {
        "RUNNING"
    } else {
        "PENDING"
    }
}

pub(super) fn task_changed(place: Place<'_>, service: &Service, task: &Task) -> Notice {
    let mut detail = task_json(place, service, task, &task.view, moment);
    detail["updatedAt"] = moment(task.view.updated);
    Notice {
        detail_type: "ECS Task State Change",
        resource: place.task_arn(&service.cluster, &task.id),
        detail,
    }
}

/// `name` is `IN_PROGRESS`, `COMPLETED` or `FAILED`.
pub(super) fn deployment_changed(
    place: Place<'_>,
    service: &Service,
    deployment: &Deployment,
    reason: &str,
) -> Notice {
    let name = deployment.rollout.name();
    Notice {
        detail_type: "ECS Deployment State Change",
        resource: place.service_arn(&service.cluster, &service.name),
        detail: json!({
            "eventType": if name == "FAILED" { "ERROR" } else { "INFO" },
            "eventName": format!("SERVICE_DEPLOYMENT_{name}"),
            "deploymentId": deployment.id,
            "updatedAt": moment(deployment.updated),
            "reason": reason,
        }),
    }
}

/// A service action: `INFO`, `WARN` or `ERROR`, its name, and why where it says.
pub(super) fn service_action(
    place: Place<'_>,
    service: &Service,
    at: Timestamp,
    (kind, name): (&str, &str),
    reason: Option<&str>,
) -> Notice {
    let mut detail = json!({
        "eventType": kind,
        "eventName": name,
        "clusterArn": place.cluster_arn(&service.cluster),
        "createdAt": moment(at),
    });
    if let Some(reason) = reason {
        detail["reason"] = reason.into();
    }
    Notice {
        detail_type: "ECS Service Action",
        resource: place.service_arn(&service.cluster, &service.name),
        detail,
    }
}
