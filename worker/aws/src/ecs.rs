//! ECS: services and their tasks, described together, and a desired count, set.
//!
//! *Theory.* DescribeServices takes ten services of one cluster. What asks at the same moment is sorted by
//! cluster and cut into such calls; a refusal that one service brought about is taken apart, so that it
//! harms no other. A cluster or service that ECS does not know is a state, not an error. Tasks are looked
//! at only where a plan asks for them, since that costs two calls a service.
//!
//! *Invariants.* A describe's time is taken just before its request. Nothing but the desired count is ever
//! changed, and no attempt is made after `act_by`. Trouble with the health of tasks is trouble: a service
//! whose health is not known must not pass for one without health checks.

use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::types::{
    Container, DeploymentRolloutState, DesiredStatus, HealthStatus, Service, Task,
};
use aws_smithy_types::retry::RetryConfig;
use jiff::Timestamp;
use lamplighter_events::Cause;
use lamplighter_lifecycle::{ObservePlan, ServiceId, ServiceSeen, TaskStopped};
use lamplighter_runtime::ports::{Applied, CallError, Clock, Disposition};
use tokio::sync::Semaphore;

use crate::attempts::Attempts;
use crate::batch::{Each, Portion, Refused, Shared, apart, halves, in_order};
use crate::disposition::{call_error, entry_error, own_error};
use crate::timeouts::act_timeouts;

const UPDATE: &str = "ecs:UpdateService";
const LIST_TASKS: &str = "ecs:ListTasks";
const DESCRIBE_TASKS: &str = "ecs:DescribeTasks";
/// ECS's bound for one DescribeServices.
const SERVICES_MAX: usize = 10;
/// DescribeServices at the same moment: ECS answers about twenty a second for long, and a tick of thousands asks
/// for hundreds.
const AT_ONCE_MAX: usize = 20;
/// ECS's bound for one DescribeTasks, and its page of ListTasks.
const TASKS_MAX: usize = 100;
/// ECS lists stopped tasks for about an hour, and running ones without end; a thousand tell enough.
const PAGES_MAX: usize = 10;
/// The newest say why nothing comes up; older ones say it again.
const STOPPED_MAX: usize = 10;
/// ECS's own words are a sentence or two; what a container says may be a page.
const REASON_CHARS_MAX: usize = 300;
/// How ECS's events begin to say that a task found no place.
const UNPLACED: [&str; 4] =
    ["was unable to place a task", "unable to start", "Capacity is unavailable", "RESOURCE:"];

/// The shared DescribeServices.
pub(crate) struct Services {
    client: Client,
    clock: Arc<dyn Clock>,
    places: Semaphore,
}

/// One service, and the time just before it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct ServiceDescribed {
    pub(crate) at: Timestamp,
    pub(crate) seen: ServiceSeen,
}

impl Services {
    pub(crate) fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, places: Semaphore::new(AT_ONCE_MAX) }
    }

    async fn request(
        &self,
        services: &[ServiceId],
        portion: Portion,
    ) -> Result<Each<ServiceId, ServiceDescribed>, Refused> {
        // Nobody closes it. What waits here has its whole time still before it.
        let _place = self.places.acquire().await;
        let at = self.clock.now();
        let cluster = services.first().map(ServiceId::cluster).unwrap_or_default();
        let call = self
            .client
            .describe_services()
            .cluster(cluster)
            .set_services(Some(services.iter().map(|id| id.service().to_owned()).collect()));
        let answer = match portion {
            Portion::Whole => call.send().await,
            Portion::Part => {
                let once = aws_sdk_ecs::Config::builder().retry_config(RetryConfig::disabled());
                call.customize().config_override(once).send().await
            }
        };
        let answer = answer.map_err(|error| Refused::of(Self::OPERATION, &error))?;
        let mut found = BTreeMap::new();
        let mut put = |name: &str, seen: Result<ServiceSeen, CallError>| {
            if let Some(id) = services.iter().find(|id| id.service() == name) {
                found.insert(id.clone(), seen.map(|seen| ServiceDescribed { at, seen }));
            }
        };
        for failure in answer.failures() {
            let name = last_part(failure.arn().unwrap_or_default());
            let seen = match failure.reason() {
                Some("MISSING") => Ok(ServiceSeen::default()),
                reason => {
                    let words = failure.detail().or(failure.arn());
                    Err(entry_error(Self::OPERATION, reason, words, true))
                }
            };
            put(name, seen);
        }
        for service in answer.services() {
            let arn = service.service_arn().unwrap_or_default();
            put(service.service_name().unwrap_or(last_part(arn)), Ok(seen(service)));
        }
        Ok(found)
    }
}

#[async_trait]
impl Shared for Services {
    type Item = ServiceId;
    type Answer = ServiceDescribed;
    const OPERATION: &'static str = "ecs:DescribeServices";
    /// Ten full calls: the services of several clusters are sorted before they are cut into calls.
    const ITEMS_MAX: usize = SERVICES_MAX * 10;

    async fn call(&self, items: Vec<ServiceId>) -> Vec<Result<ServiceDescribed, CallError>> {
        let started = self.clock.now();
        let mut wanted = items.clone();
        wanted.sort();
        wanted.dedup();
        // Who may describe one service may be forbidden another.
        let concerns_one = |error: &CallError| {
            error.applied == Applied::No
                && error.disposition == Disposition::Fail
                && matches!(error.cause, Cause::Invalid | Cause::Denied)
        };
        let groups: Vec<&[ServiceId]> = wanted
            .chunk_by(|left, right| left.cluster() == right.cluster())
            .flat_map(|cluster| cluster.chunks(SERVICES_MAX))
            .collect();
        let asked = groups.iter().map(|group| {
            let request =
                |ids: Vec<ServiceId>, portion| async move { self.request(&ids, portion).await };
            apart(group, concerns_one, |_, _| false, halves, request)
        });
        let mut answers = BTreeMap::new();
        for group in join_all(asked).await {
            answers.extend(group);
        }
        for answer in answers.values_mut() {
            // The cluster is not there, and so nothing in it.
            if answer.as_ref().is_err_and(|error| {
                error.cause == Cause::NotFound && error.disposition == Disposition::Fail
            }) {
                *answer = Ok(ServiceDescribed { at: started, seen: ServiceSeen::default() });
            }
        }
        in_order(Self::OPERATION, &items, |id| answers.get(id).cloned())
    }
}

/// The last part of an ARN or a name.
fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// A describe in our words.
pub(crate) fn seen(service: &Service) -> ServiceSeen {
    let primary = service.deployments().iter().find(|it| it.status() == Some("PRIMARY"));
    let failed = primary
        .filter(|it| it.rollout_state() == Some(&DeploymentRolloutState::Failed))
        .map(|it| {
            let reason = it.rollout_state_reason().filter(|reason| !reason.is_empty());
            cut(reason.unwrap_or("its deployment failed"))
        });
    let unplaced = service
        .events()
        .iter()
        .filter_map(|event| Some((instant(event.created_at())?, event.message()?)))
        .filter(|(_, words)| UNPLACED.iter().any(|mark| words.contains(mark)))
        .max_by_key(|(at, _)| *at)
        .map(|(at, words)| (at, cut(words)));
    ServiceSeen {
        active: service.status() == Some("ACTIVE"),
        desired: service.desired_count().into(),
        running: service.running_count().into(),
        pending: service.pending_count().into(),
        rollout_failed: failed,
        unplaced,
        newest_event_at: service.events().iter().filter_map(|it| instant(it.created_at())).max(),
        ..ServiceSeen::default()
    }
}

fn cut(words: &str) -> String {
    let words = words.trim();
    match words.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}

fn instant(at: Option<&aws_smithy_types::DateTime>) -> Option<Timestamp> {
    Timestamp::from_millisecond(at?.to_millis().ok()?).ok()
}

/// Adds what the plan asks of the service's tasks.
pub(crate) async fn look_at_tasks(
    client: &Client,
    plan: &ObservePlan,
    service: &ServiceId,
    seen: &mut ServiceSeen,
) -> Result<(), CallError> {
    if !seen.active {
        return Ok(());
    }
    let stopped = async {
        match plan.stopped_tasks && seen.running < seen.desired {
            true => tasks(client, service, DesiredStatus::Stopped).await,
            false => Ok(Vec::new()),
        }
    };
    let running = async {
        match plan.task_health {
            true => tasks(client, service, DesiredStatus::Running).await.map(Some),
            false => Ok(None),
        }
    };
    let (stopped, running) = tokio::join!(stopped, running);
    let stopped = stopped.or_else(|error| match error.disposition {
        Disposition::Retry | Disposition::RetryAfter(_) => {
            tracing::warn!(%error, %service, "the service is observed without its stopped tasks");
            Ok(Vec::new())
        }
        Disposition::Fail | Disposition::Park | Disposition::Newer => Err(error),
    })?;
    seen.healthy = running?.map(|tasks| healthy(&tasks));
    seen.stopped = newest_stopped(&stopped);
    Ok(())
}

/// How many are `HEALTHY`. A task without a health check says `UNKNOWN`, as one says whose check has not
/// ended yet, so whoever asks for health waits for it.
fn healthy(tasks: &[Task]) -> i64 {
    let healthy = tasks.iter().filter(|task| task.health_status() == Some(&HealthStatus::Healthy));
    i64::try_from(healthy.count()).unwrap_or(i64::MAX)
}

fn newest_stopped(tasks: &[Task]) -> Vec<TaskStopped> {
    let mut stopped: Vec<TaskStopped> = tasks.iter().filter_map(task_stopped).collect();
    stopped
        .sort_by(|left, right| right.at.cmp(&left.at).then_with(|| left.reason.cmp(&right.reason)));
    stopped.truncate(STOPPED_MAX);
    stopped
}

fn task_stopped(task: &Task) -> Option<TaskStopped> {
    // One that still stops has said why already.
    let at = instant(task.stopped_at())
        .or_else(|| instant(task.execution_stopped_at()))
        .or_else(|| instant(task.stopping_at()))?;
    let code = task.stop_code().map(|code| code.as_str().to_owned());
    let reason = task.stopped_reason().unwrap_or_default();
    let blamed = |it: &&Container| {
        it.exit_code().is_some_and(|code| code != 0) || it.reason().is_some_and(|it| !it.is_empty())
    };
    // ECS does not say here which container is essential: the one that went wrong is the one to name.
    let container = task.containers().iter().find(blamed).or(task.containers().first());
    let words = container.map(|it| {
        let exit = it.exit_code().map(|code| format!("exit code {code}"));
        let parts = [it.reason().map(ToOwned::to_owned), exit];
        let words: Vec<String> = parts.into_iter().flatten().filter(|it| !it.is_empty()).collect();
        (it.name().unwrap_or("its container"), words.join(", "))
    });
    let reason = match words {
        Some((name, words)) if !words.is_empty() => format!("{reason} ({name}: {words})"),
        _ if reason.is_empty() => "it stopped, and ECS does not say why".to_owned(),
        _ => reason.to_owned(),
    };
    Some(TaskStopped { at, code, reason: cut(&reason) })
}

async fn tasks(
    client: &Client,
    service: &ServiceId,
    status: DesiredStatus,
) -> Result<Vec<Task>, CallError> {
    let arns = match list_tasks(client, service, &status).await {
        // It went away since it was described.
        Err(error) if error.cause == Cause::NotFound && error.disposition == Disposition::Fail => {
            Vec::new()
        }
        listed => listed?,
    };
    let mut tasks = Vec::new();
    for some in arns.chunks(TASKS_MAX) {
        let answer = client
            .describe_tasks()
            .cluster(service.cluster())
            .set_tasks(Some(some.to_vec()))
            .send()
            .await
            .map_err(|error| call_error(DESCRIBE_TASKS, &error))?;
        tasks.extend(answer.tasks.unwrap_or_default());
    }
    Ok(tasks)
}

async fn list_tasks(
    client: &Client,
    service: &ServiceId,
    status: &DesiredStatus,
) -> Result<Vec<String>, CallError> {
    let mut arns = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let answer = client
            .list_tasks()
            .cluster(service.cluster())
            .service_name(service.service())
            .desired_status(status.clone())
            .set_next_token(token)
            .send()
            .await
            .map_err(|error| call_error(LIST_TASKS, &error))?;
        arns.extend(answer.task_arns.unwrap_or_default());
        token = answer.next_token.filter(|token| !token.is_empty());
        if token.is_none() {
            break;
        }
    }
    Ok(arns)
}

/// Sets the desired count, and nothing else.
pub(crate) async fn update(
    client: &Client,
    clock: &Arc<dyn Clock>,
    service: &ServiceId,
    desired: i64,
    act_by: Timestamp,
) -> Result<(), CallError> {
    let count = i32::try_from(desired).ok().filter(|count| *count >= 0).ok_or_else(|| {
        let words = format!("{desired} is no desired count");
        own_error(UPDATE, Cause::Invalid, Disposition::Fail, Applied::No, words)
    })?;
    let attempts = Attempts::default();
    let limits =
        aws_sdk_ecs::Config::builder().timeout_config(act_timeouts(UPDATE, clock.now(), act_by)?);
    client
        .update_service()
        .cluster(service.cluster())
        .service(service.service())
        .desired_count(count)
        .customize()
        .config_override(limits)
        .interceptor(attempts.clone())
        .send()
        .await
        .map(drop)
        .map_err(|error| attempts.correct(call_error(UPDATE, &error)))
}

#[cfg(test)]
mod tests;
