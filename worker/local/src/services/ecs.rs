//! ECS: clusters, services and tasks; describing, listing, and setting a desired count.
//!
//! Not here: making and deleting services, running tasks by hand, and what an update may change beside
//! the count and the deployment; an update that asks for it is refused, not half done.

use std::sync::Arc;

use async_trait::async_trait;
use awsim_core::{AwsError, Protocol, RequestContext, ServiceHandler};
use lamplighter_cloud::services::{
    DEFAULT_CLUSTER, DESCRIBE_MAX, DESCRIBE_TASKS_MAX, Deployment, LaunchType, Place, ServiceError,
    ServiceSight, ServiceUpdate, task_json,
};
use serde_json::{Value, json};

use crate::input::{flag, integer, maybe_text, text, texts};
use crate::shared::{Shared, epoch, refuse};

pub(crate) struct Ecs {
    pub(crate) shared: Arc<Shared>,
}

/// The fields of UpdateService that the model acts on.
const UPDATES: [&str; 5] =
    ["cluster", "service", "desiredCount", "taskDefinition", "forceNewDeployment"];

#[async_trait]
impl ServiceHandler for Ecs {
    fn service_name(&self) -> &'static str {
        "ecs"
    }

    fn protocol(&self) -> Protocol {
        Protocol::AwsJson1_1
    }

    async fn handle(
        &self,
        operation: &str,
        input: Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        let place = Place { region: &ctx.region, account: &ctx.account_id };
        match operation {
            "DescribeServices" => self.describe_services(&input, place),
            "UpdateService" => self.update_service(&input, place),
            "ListServices" => self.list_services(&input, place),
            "DescribeClusters" => self.describe_clusters(&input, place),
            "ListTasks" => self.list_tasks(&input, place),
            "DescribeTasks" => self.describe_tasks(&input, place),
            _ => Err(AwsError::unknown_operation(operation)),
        }
    }
}

impl Ecs {
    fn describe_services(&self, input: &Value, place: Place<'_>) -> Result<Value, AwsError> {
        let (cluster, names) = (text(input, "cluster"), texts(input, "services"));
        let tags = wants_tags(input);
        let seen = self
            .shared
            .with(|world, now| world.describe_services(now, cluster, &names))
            .map_err(|error| refuse(&error))?;
        let (mut services, mut failures) = (Vec::new(), Vec::new());
        for (name, sight) in names.iter().zip(seen) {
            match sight {
                Some(sight) => services.push(service_json(place, &sight, tags)),
                None if name.starts_with("arn:") => failures.push(missing(name)),
                None => failures.push(missing(&place.service_arn(cluster_name(cluster), name))),
            }
        }
        Ok(json!({"services": services, "failures": failures}))
    }

    fn update_service(&self, input: &Value, place: Place<'_>) -> Result<Value, AwsError> {
        let fields = input.as_object().into_iter().flatten().map(|(name, _)| name);
        if let Some(name) = fields.into_iter().find(|name| !UPDATES.contains(&name.as_str())) {
            return Err(invalid(format!("{name} cannot be changed here.")));
        }
        let (cluster, service) = (text(input, "cluster"), text(input, "service"));
        if service.is_empty() {
            return Err(invalid("Service cannot be empty."));
        }
        let update = ServiceUpdate {
            desired: integer(input, "desiredCount")?,
            task_definition: maybe_text(input, "taskDefinition"),
            force: flag(input, "forceNewDeployment"),
        };
        let sight = self
            .shared
            .with(|world, now| world.update_service(now, cluster, service, &update))
            .map_err(|error| refuse(&error))?;
        Ok(json!({"service": service_json(place, &sight, false)}))
    }

    fn list_services(&self, input: &Value, place: Place<'_>) -> Result<Value, AwsError> {
        let cluster = text(input, "cluster");
        let names = self
            .shared
            .with(|world, now| world.list_services(now, cluster))
            .map_err(|error| refuse(&error))?;
        let arns: Vec<String> =
            names.iter().map(|name| place.service_arn(cluster_name(cluster), name)).collect();
        page_of(input, arns, "serviceArns", DESCRIBE_MAX)
    }

    fn describe_clusters(&self, input: &Value, place: Place<'_>) -> Result<Value, AwsError> {
        let mut names = texts(input, "clusters");
        if names.is_empty() {
            names.push(DEFAULT_CLUSTER.to_owned());
        }
        bounded("Clusters", names.len())?;
        let (mut clusters, mut failures) = (Vec::new(), Vec::new());
        for name in &names {
            let counts = self.shared.with(|world, now| world.describe_cluster(now, name));
            let name = cluster_name(name);
            let Some(counts) = counts else {
                failures.push(missing(&place.cluster_arn(name)));
                continue;
            };
            clusters.push(json!({
                "clusterArn": place.cluster_arn(name),
                "clusterName": name,
                "status": "ACTIVE",
                "registeredContainerInstancesCount": 0,
                "runningTasksCount": counts.running,
                "pendingTasksCount": counts.pending,
                "activeServicesCount": counts.services,
                "statistics": [],
                "tags": [],
                "settings": [{"name": "containerInsights", "value": "disabled"}],
                "capacityProviders": [],
                "defaultCapacityProviderStrategy": [],
            }));
        }
        Ok(json!({"clusters": clusters, "failures": failures}))
    }

    fn list_tasks(&self, input: &Value, place: Place<'_>) -> Result<Value, AwsError> {
        let wanted = match text(input, "desiredStatus") {
            "" | "RUNNING" => Some(true),
            "STOPPED" => Some(false),
            // ECS takes this and never has such a task.
            "PENDING" => None,
            other => return Err(invalid(format!("{other} is no desiredStatus."))),
        };
        let service = Some(text(input, "serviceName")).filter(|name| !name.is_empty());
        let only = |name: &str| Some(text(input, name).to_owned()).filter(|it| !it.is_empty());
        let (family, started_by, launch_type) =
            (only("family"), only("startedBy"), only("launchType"));
        let arns = self.shared.with(|world, now| {
            let seen = world.seen_tasks(now, text(input, "cluster"), service)?;
            let kept = seen.into_iter().filter(|(service, task, view)| {
                let revision = task.task_definition.rsplit('/').next().unwrap_or_default();
                let named = revision.split(':').next().unwrap_or_default();
                Some(view.wanted) == wanted
                    && family.as_deref().is_none_or(|it| it == named)
                    && started_by.as_ref().is_none_or(|it| *it == task.deployment)
                    && launch_type.as_deref().is_none_or(|it| it == service.launch_type.name())
            });
            Ok(kept.map(|(service, task, _)| place.task_arn(&service.cluster, &task.id)).collect())
        });
        let mut arns: Vec<String> = arns.map_err(|error: ServiceError| refuse(&error))?;
        arns.sort();
        page_of(input, arns, "taskArns", DESCRIBE_TASKS_MAX)
    }

    fn describe_tasks(&self, input: &Value, place: Place<'_>) -> Result<Value, AwsError> {
        let (cluster, names) = (text(input, "cluster"), texts(input, "tasks"));
        if names.is_empty() {
            return Err(invalid("Tasks cannot be empty."));
        }
        bounded("Tasks", names.len())?;
        let found = self.shared.with(|world, now| {
            let seen = world.seen_tasks(now, cluster, None)?;
            let describe = |name: &String| {
                let id = name.rsplit('/').next().unwrap_or(name);
                let (service, task, view) = seen.iter().find(|(_, task, _)| task.id == id)?;
                let mut json = task_json(place, service, task, view, epoch);
                json["healthStatus"] = view.health.name().into();
                json["containers"][0]["healthStatus"] = view.health.name().into();
                json["tags"] = json!([]);
                Some(json)
            };
            Ok(names.iter().map(|name| describe(name).ok_or(name)).collect())
        });
        let found: Vec<Result<Value, &String>> =
            found.map_err(|error: ServiceError| refuse(&error))?;
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for one in found {
            match one {
                Ok(task) => tasks.push(task),
                Err(name) if name.starts_with("arn:") => failures.push(missing(name)),
                Err(name) => failures.push(missing(&place.task_arn(cluster_name(cluster), name))),
            }
        }
        Ok(json!({"tasks": tasks, "failures": failures}))
    }
}

fn invalid(text: impl Into<String>) -> AwsError {
    refuse(&ServiceError::InvalidParameter(text.into()))
}

fn bounded(what: &str, count: usize) -> Result<(), AwsError> {
    if count > DESCRIBE_TASKS_MAX {
        return Err(invalid(format!(
            "{what} cannot have more than {DESCRIBE_TASKS_MAX} elements."
        )));
    }
    Ok(())
}

fn missing(arn: &str) -> Value {
    json!({"arn": arn, "reason": "MISSING"})
}

fn wants_tags(input: &Value) -> bool {
    texts(input, "include").iter().any(|it| it == "TAGS")
}

fn cluster_name(name_or_arn: &str) -> &str {
    let name = name_or_arn.rsplit('/').next().unwrap_or(name_or_arn);
    if name.is_empty() { DEFAULT_CLUSTER } else { name }
}

fn page_of(input: &Value, arns: Vec<String>, field: &str, limit: usize) -> Result<Value, AwsError> {
    let limit = match integer(input, "maxResults")? {
        None => limit,
        Some(given @ 1..=100) => usize::try_from(given).unwrap_or(limit),
        Some(_) => return Err(invalid("maxResults must be from 1 to 100.")),
    };
    let after = input.get("nextToken").and_then(Value::as_str);
    let (page, token) = super::page(arns, |arn| arn.as_str(), after, limit);
    let mut answer = json!({field: page});
    if let Some(token) = token {
        answer["nextToken"] = token.into();
    }
    Ok(answer)
}

fn deployment_json(sight: &ServiceSight, index: usize, it: &Deployment) -> Value {
    let (running, pending) = sight.counts.get(&it.id).copied().unwrap_or_default();
    let mut json = json!({
        "id": it.id,
        "status": if index == 0 { "PRIMARY" } else { "ACTIVE" },
        "taskDefinition": it.task_definition,
        "desiredCount": it.desired,
        "pendingCount": pending,
        "runningCount": running,
        "failedTasks": it.failed,
        "createdAt": epoch(it.created),
        "updatedAt": epoch(it.updated),
        "launchType": sight.launch_type.name(),
        "rolloutState": it.rollout.name(),
        "rolloutStateReason": it.reason,
    });
    if sight.launch_type == LaunchType::Fargate {
        json["platformVersion"] = "1.4.0".into();
        json["platformFamily"] = "Linux".into();
    }
    json
}

fn service_json(place: Place<'_>, sight: &ServiceSight, tags: bool) -> Value {
    let deployments = sight.view.deployments.iter().enumerate();
    let deployments: Vec<Value> =
        deployments.map(|(index, it)| deployment_json(sight, index, it)).collect();
    let events: Vec<Value> = sight
        .events
        .iter()
        .map(|it| json!({"id": it.id, "createdAt": epoch(it.at), "message": it.message}))
        .collect();
    let mut json = json!({
        "serviceArn": place.service_arn(&sight.cluster, &sight.name),
        "serviceName": sight.name,
        "clusterArn": place.cluster_arn(&sight.cluster),
        "loadBalancers": [],
        "serviceRegistries": [],
        "status": sight.view.status.name(),
        "desiredCount": sight.view.desired,
        "runningCount": sight.running(),
        "pendingCount": sight.pending(),
        "launchType": sight.launch_type.name(),
        "taskDefinition": sight.view.task_definition,
        "deploymentConfiguration": {
            "deploymentCircuitBreaker": {"enable": sight.circuit_breaker, "rollback": false},
            "maximumPercent": 200,
            "minimumHealthyPercent": 100,
        },
        "deployments": deployments,
        "events": events,
        "createdAt": epoch(sight.created),
        "placementConstraints": [],
        "placementStrategy": [],
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "enableECSManagedTags": false,
        "propagateTags": "NONE",
        "enableExecuteCommand": false,
    });
    if sight.launch_type == LaunchType::Fargate {
        json["platformVersion"] = "LATEST".into();
        json["platformFamily"] = "Linux".into();
    }
    if tags {
        let tags = sight.tags.iter().map(|(key, value)| json!({"key": key, "value": value}));
        json["tags"] = tags.collect();
    }
    json
}
