//! What ECS says, read.

use aws_sdk_ecs::types::{Deployment, ServiceEvent, TaskStopCode};
use aws_smithy_types::DateTime;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn event(seconds: i64, message: &str) -> ServiceEvent {
    ServiceEvent::builder().created_at(DateTime::from_secs(seconds)).message(message).build()
}

fn service(status: &str) -> aws_sdk_ecs::types::builders::ServiceBuilder {
    Service::builder().status(status).desired_count(2).running_count(1).pending_count(1)
}

#[test]
fn a_describe_is_told_in_our_words() {
    let told = seen(&service("ACTIVE").build());
    assert_eq!(told, ServiceSeen::counts(2, 1, 1));
    for status in ["DRAINING", "INACTIVE"] {
        assert!(!seen(&service(status).build()).active, "{status}");
    }
}

#[test]
fn only_the_primary_deployment_can_have_failed() {
    let deployment = |status: &str, state, reason: &str| {
        let it = Deployment::builder().status(status).rollout_state(state);
        it.rollout_state_reason(reason).build()
    };
    let failed = DeploymentRolloutState::Failed;
    let running = DeploymentRolloutState::InProgress;
    let with = |deployments: Vec<Deployment>| {
        seen(&service("ACTIVE").set_deployments(Some(deployments)).build()).rollout_failed
    };
    let words = "tasks failed to start.";
    assert_eq!(with(vec![deployment("PRIMARY", failed.clone(), words)]).as_deref(), Some(words));
    assert_eq!(
        with(vec![deployment("PRIMARY", failed.clone(), "")]).as_deref(),
        Some("its deployment failed")
    );
    let old = deployment("ACTIVE", failed, words);
    assert_eq!(with(vec![deployment("PRIMARY", running, ""), old]), None);
}

#[test]
fn the_newest_word_on_a_task_without_a_place_is_kept() {
    let place = "(service s) was unable to place a task because no container instance met all";
    let capacity =
        "(service s) was unable to place a task. Reason: Capacity is unavailable at this time.";
    let with = |events: Vec<ServiceEvent>| {
        seen(&service("ACTIVE").set_events(Some(events)).build()).unplaced
    };
    assert_eq!(with(vec![event(30, "(service s) has reached a steady state.")]), None);
    let events = vec![event(10, place), event(30, "has started 1 tasks"), event(20, capacity)];
    assert_eq!(with(events), Some((at(20), capacity.to_owned())));
}

fn container(name: &str) -> aws_sdk_ecs::types::builders::ContainerBuilder {
    Container::builder().name(name)
}

#[track_caller]
fn check(task: &Task, expected: Option<(i64, Option<&str>, &str)>) {
    let told = task_stopped(task);
    let told = told.as_ref().map(|it| (it.at.as_second(), it.code.as_deref(), it.reason.as_str()));
    assert_eq!(told, expected);
}

#[test]
fn a_stopped_task_says_why_with_the_container_that_went_wrong() {
    let stopped = || {
        Task::builder()
            .stopped_at(DateTime::from_secs(50))
            .stopping_at(DateTime::from_secs(40))
            .stop_code(TaskStopCode::EssentialContainerExited)
            .stopped_reason("Essential container in task exited")
    };
    let code = Some("EssentialContainerExited");
    let words = "Essential container in task exited";
    check(&stopped().build(), Some((50, code, words)));
    let both = stopped()
        .containers(container("log").exit_code(0).build())
        .containers(container("app").exit_code(137).reason("OutOfMemoryError").build())
        .build();
    let told = "Essential container in task exited (app: OutOfMemoryError, exit code 137)";
    check(&both, Some((50, code, told)));
    let stopping = Task::builder().stopping_at(DateTime::from_secs(40)).build();
    check(&stopping, Some((40, None, "it stopped, and ECS does not say why")));
    check(&Task::builder().stopped_reason("x").build(), None);
}

#[test]
fn the_newest_ten_stopped_tasks_are_told() {
    let tasks: Vec<Task> = (0..30)
        .map(|n| Task::builder().stopped_at(DateTime::from_secs(n)).stopped_reason("x").build())
        .collect();
    let told = newest_stopped(&tasks);
    let seconds: Vec<i64> = told.iter().map(|it| it.at.as_second()).collect();
    assert_eq!(seconds, (20..30).rev().collect::<Vec<i64>>());
}

#[test]
fn only_healthy_counts_as_healthy() {
    let tasks = [HealthStatus::Healthy, "UNKNOWN".into(), HealthStatus::Unhealthy]
        .map(|health| Task::builder().health_status(health).build());
    assert_eq!(healthy(&tasks), 1);
    assert_eq!(healthy(&[Task::builder().build()]), 0);
}
