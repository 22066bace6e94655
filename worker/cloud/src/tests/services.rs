//! Services with tasks that take time, and what goes wrong with them.
//!
//! A scheduler looks 1 s after a change, a task takes 4 s to run and 3 s to stop, and a health check
//! first speaks after 2 s. So a wake at 0 is `PROVISIONING` from 1, `PENDING` from 3, `RUNNING` from 5,
//! and steady at 6.

use jiff::SignedDuration;
use serde_json::Value;

use super::{at, bodies, queue};
use crate::bus::{RuleSpec, Target};
use crate::services::{
    Health, Rollout, ServiceError, ServiceSight, ServiceUpdate, StopCode, TaskStatus,
};
use crate::{ServiceBehaviour, ServiceFault as _, ServiceSeed, Timings, World};

pub(super) const CLUSTER: &str = "prod";
pub(super) const NAME: &str = "web";

/// A world with one service, with these fields of its seed.
pub(super) fn service_world(fields: &str) -> World {
    let timings = r#"{"placement":"1s","task_start":"4s","task_stop":"3s","health":"2s",
                      "scaling":"5s"}"#;
    let timings: Timings = serde_json::from_str(timings).unwrap();
    let mut world = World::new("000000000000", "us-east-1", timings, 1, at(0));
    let mut seed: Value = serde_json::from_str(fields).unwrap();
    seed["cluster"] = CLUSTER.into();
    seed["name"] = NAME.into();
    let seed: ServiceSeed = serde_json::from_value(seed).unwrap();
    world.seed_service(at(0), &seed);
    world
}

pub(super) fn scale(world: &mut World, seconds: i64, desired: i64) -> ServiceSight {
    let update = ServiceUpdate { desired: Some(desired), ..ServiceUpdate::default() };
    world.update_service(at(seconds), CLUSTER, NAME, &update).unwrap()
}

fn redeploy(world: &mut World, seconds: i64) {
    let update = ServiceUpdate { force: true, ..ServiceUpdate::default() };
    world.update_service(at(seconds), CLUSTER, NAME, &update).unwrap();
}

pub(super) fn sight(world: &mut World, seconds: i64) -> ServiceSight {
    let mut seen = world.describe_services(at(seconds), CLUSTER, &[NAME.to_owned()]).unwrap();
    seen.remove(0).unwrap()
}

fn behave(world: &mut World, fields: &str) {
    let behaviour: ServiceBehaviour = serde_json::from_str(fields).unwrap();
    world.services.get_mut(CLUSTER, NAME).unwrap().behaviour = behaviour;
}

/// Desired, running and pending at a moment.
#[track_caller]
fn counts(world: &mut World, seconds: i64, expected: (u32, u32, u32)) {
    let seen = sight(world, seconds);
    assert_eq!((seen.view.desired, seen.running(), seen.pending()), expected, "at {seconds}");
}

#[track_caller]
fn rollout(world: &mut World, seconds: i64, expected: Rollout) {
    assert_eq!(sight(world, seconds).view.deployments[0].rollout, expected, "at {seconds}");
}

/// The event log with the ids of tasks and deployments left out, the oldest first.
fn said(world: &mut World, seconds: i64) -> Vec<String> {
    let mut messages: Vec<String> = sight(world, seconds)
        .events
        .iter()
        .map(|event| {
            let message = event.message.strip_prefix("(service web) ").unwrap();
            let words = message.split(' ').map(|word| {
                let id = word.trim_start_matches("ecs-svc/").trim_end_matches([')', '.']);
                let hex = id.len() >= 19 && id.chars().all(|it| it.is_ascii_hexdigit());
                if hex { word.replace(id, "ID") } else { word.to_owned() }
            });
            words.collect::<Vec<_>>().join(" ")
        })
        .collect();
    messages.reverse();
    messages
}

fn statuses(world: &mut World, seconds: i64) -> Vec<TaskStatus> {
    world.advance(at(seconds));
    world.services.get(CLUSTER, NAME).unwrap().tasks().map(|task| task.view.status).collect()
}

/// How many tasks were ever started, as long as none is forgotten.
fn started(world: &mut World, seconds: i64) -> usize {
    statuses(world, seconds).len()
}

#[test]
fn a_wake_takes_its_time_and_begins_with_neither_running_nor_pending() {
    let mut world = service_world("{}");
    let seen = scale(&mut world, 0, 1);
    assert_eq!((seen.view.desired, seen.running(), seen.pending()), (1, 0, 0));
    counts(&mut world, 0, (1, 0, 0));
    counts(&mut world, 1, (1, 0, 1));
    assert_eq!(statuses(&mut world, 2), [TaskStatus::Provisioning]);
    assert_eq!(statuses(&mut world, 3), [TaskStatus::Pending]);
    counts(&mut world, 4, (1, 0, 1));
    counts(&mut world, 5, (1, 1, 0));
    assert_eq!(
        said(&mut world, 60),
        [
            "has reached a steady state.",
            "has started 1 tasks: (task ID).",
            "has reached a steady state."
        ]
    );
    assert_eq!(world.next_due(), None);
}

#[test]
fn a_service_that_goes_off_is_counted_off_before_its_task_is_gone() {
    let mut world = service_world(r#"{"desired":1}"#);
    counts(&mut world, 0, (1, 1, 0));
    scale(&mut world, 0, 0);
    counts(&mut world, 0, (0, 1, 0));
    counts(&mut world, 1, (0, 0, 0));
    assert_eq!(statuses(&mut world, 1), [TaskStatus::Deactivating]);
    assert_eq!(statuses(&mut world, 2), [TaskStatus::Stopping]);
    assert_eq!(statuses(&mut world, 3), [TaskStatus::Deprovisioning]);
    assert_eq!(statuses(&mut world, 4), [TaskStatus::Stopped]);
    let service = world.services.get(CLUSTER, NAME).unwrap();
    let deployment = service.view.deployments[0].id.clone();
    let view = service.tasks().next().unwrap().view.clone();
    let (code, reason) = view.stop.unwrap();
    assert_eq!(code, StopCode::ServiceSchedulerInitiated);
    assert_eq!(reason, format!("Scaling activity initiated by (deployment {deployment})"));
    assert_eq!((view.stopping, view.stopped), (Some(at(1)), Some(at(4))));
    let events = said(&mut world, 60);
    let last = ["has stopped 1 running tasks: (task ID).", "has reached a steady state."];
    assert_eq!(events[1..], last);
}

#[test]
fn a_desired_count_is_level_triggered() {
    let mut world = service_world("{}");
    scale(&mut world, 0, 1);
    scale(&mut world, 0, 1);
    scale(&mut world, 2, 1);
    scale(&mut world, 9, 1);
    assert_eq!(started(&mut world, 60), 1);
    // Down and up again before the scheduler looked: nothing happened.
    scale(&mut world, 60, 0);
    scale(&mut world, 60, 1);
    counts(&mut world, 90, (1, 1, 0));
    assert_eq!(started(&mut world, 90), 1);
    // Down and up again after it looked: the old task goes, a new one comes.
    scale(&mut world, 100, 0);
    scale(&mut world, 102, 1);
    assert_eq!(statuses(&mut world, 103), [TaskStatus::Deprovisioning, TaskStatus::Provisioning]);
    counts(&mut world, 120, (1, 1, 0));
}

#[test]
fn scaling_in_takes_what_does_not_run_yet() {
    let mut world = service_world(r#"{"desired":1}"#);
    scale(&mut world, 0, 3);
    counts(&mut world, 2, (3, 1, 2));
    scale(&mut world, 2, 1);
    counts(&mut world, 3, (1, 1, 0));
    let ends = [TaskStatus::Running, TaskStatus::Stopped, TaskStatus::Stopped];
    assert_eq!(statuses(&mut world, 9), ends);
}

fn rule(world: &mut World, detail_type: &str) {
    queue(world, "q", &[]);
    let pattern = serde_json::json!({"source": ["aws.ecs"], "detail-type": [detail_type]});
    let spec = RuleSpec { name: "r".into(), pattern: Some(pattern), ..RuleSpec::default() };
    world.put_rule(at(0), spec).unwrap();
    let target = r#"{"Id":"q","Arn":"arn:aws:sqs:us-east-1:000000000000:q"}"#;
    let target: Target = serde_json::from_str(target).unwrap();
    world.bus.rule_mut("default", "r").unwrap().put_targets(vec![target]).unwrap();
}

fn told(world: &World) -> Vec<Value> {
    bodies(world, "q").iter().map(|body| serde_json::from_str(body).unwrap()).collect()
}

#[test]
fn each_change_of_a_task_is_one_event_in_the_real_shape() {
    let mut world = service_world("{}");
    rule(&mut world, "ECS Task State Change");
    scale(&mut world, 0, 1);
    scale(&mut world, 10, 0);
    world.advance(at(60));
    let events = told(&world);
    let walk: Vec<(&str, &str, u64)> = events
        .iter()
        .map(|event| &event["detail"])
        .map(|it| {
            let text = |name: &str| it[name].as_str().unwrap();
            (text("lastStatus"), text("desiredStatus"), it["version"].as_u64().unwrap())
        })
        .collect();
    let expected = [
        ("PROVISIONING", "RUNNING", 1),
        ("PENDING", "RUNNING", 2),
        ("RUNNING", "RUNNING", 3),
        ("DEACTIVATING", "STOPPED", 4),
        ("STOPPING", "STOPPED", 5),
        ("DEPROVISIONING", "STOPPED", 6),
        ("STOPPED", "STOPPED", 7),
    ];
    assert_eq!(walk, expected);
    let last = &events[6];
    assert_eq!(last["resources"][0], last["detail"]["taskArn"]);
    let detail = &last["detail"];
    let arn = detail["taskArn"].as_str().unwrap();
    assert!(arn.starts_with("arn:aws:ecs:us-east-1:000000000000:task/prod/"), "{arn}");
    assert_eq!(detail["clusterArn"], "arn:aws:ecs:us-east-1:000000000000:cluster/prod");
    assert_eq!(detail["group"], "service:web");
    assert_eq!(detail["launchType"], "FARGATE");
    assert_eq!(detail["startedAt"], "2026-11-20T10:00:05Z");
    assert_eq!(detail["stoppedAt"], "2026-11-20T10:00:14Z");
    assert_eq!(detail["stopCode"], "ServiceSchedulerInitiated");
    assert_eq!(detail["containers"][0]["lastStatus"], "STOPPED");
    assert_eq!(detail["containers"][0]["exitCode"], 143);
    assert_eq!(detail.get("healthStatus"), None);
}

#[test]
fn a_change_of_the_count_keeps_the_deployment_unless_asked_otherwise() {
    let mut world = service_world("{}");
    let before = sight(&mut world, 0).view.deployments[0].id.clone();
    scale(&mut world, 0, 1);
    rollout(&mut world, 2, Rollout::Completed);
    assert_eq!(sight(&mut world, 9).view.deployments[0].id, before);
    assert_eq!(sight(&mut world, 9).view.deployments[0].desired, 1);

    behave(&mut world, r#"{"scaling_rolls_out":true}"#);
    scale(&mut world, 10, 2);
    rollout(&mut world, 15, Rollout::InProgress);
    rollout(&mut world, 16, Rollout::Completed);
    assert_eq!(sight(&mut world, 16).view.deployments[0].id, before);
}

#[test]
fn a_new_deployment_runs_before_the_old_one_is_drained() {
    let mut world = service_world(r#"{"desired":1}"#);
    rule(&mut world, "ECS Deployment State Change");
    redeploy(&mut world, 0);
    let seen = sight(&mut world, 1);
    assert_eq!((seen.view.deployments.len(), seen.running(), seen.pending()), (2, 1, 1));
    assert_eq!(seen.view.deployments[0].rollout, Rollout::InProgress);
    assert_eq!(seen.view.deployments[1].rollout, Rollout::Completed);
    counts(&mut world, 5, (1, 2, 0));
    counts(&mut world, 6, (1, 1, 0));
    rollout(&mut world, 9, Rollout::InProgress);
    rollout(&mut world, 10, Rollout::Completed);
    let seen = sight(&mut world, 10);
    assert_eq!(seen.view.deployments.len(), 1);
    let names: Vec<Value> =
        told(&world).iter().map(|event| event["detail"]["eventName"].clone()).collect();
    assert_eq!(names, ["SERVICE_DEPLOYMENT_IN_PROGRESS", "SERVICE_DEPLOYMENT_COMPLETED"]);
    let events = said(&mut world, 60);
    assert_eq!(events[events.len() - 2], "(deployment ecs-svc/ID) deployment completed.");

    let update =
        ServiceUpdate { task_definition: Some("web:2".into()), ..ServiceUpdate::default() };
    let seen = world.update_service(at(60), CLUSTER, NAME, &update).unwrap();
    let arn = "arn:aws:ecs:us-east-1:000000000000:task-definition/web:2";
    assert_eq!(seen.view.task_definition, arn);
    assert_eq!(seen.view.deployments.len(), 2);
    let again = world.update_service(at(61), CLUSTER, NAME, &update).unwrap();
    assert_eq!(again.view.deployments.len(), 2, "the same task definition deploys nothing");
}

#[test]
fn an_image_that_cannot_be_pulled_is_tried_ever_more_rarely() {
    let mut world = service_world("{}");
    rule(&mut world, "ECS Service Action");
    behave(&mut world, r#"{"no_image":true,"start":"2s"}"#);
    scale(&mut world, 0, 1);
    counts(&mut world, 3, (1, 0, 0));
    let view = world.services.get(CLUSTER, NAME).unwrap().tasks().next().unwrap().view.clone();
    let (code, reason) = view.stop.unwrap();
    assert_eq!(code, StopCode::TaskFailedToStart);
    assert!(reason.starts_with("CannotPullContainerError: pull image manifest"), "{reason}");
    assert_eq!(view.container_reason.as_deref(), Some(reason.as_str()));
    assert_eq!((view.started, view.exit_code), (None, None));
    world.advance(at(100));
    let service = world.services.get(CLUSTER, NAME).unwrap();
    let begun: Vec<i64> =
        service.tasks().map(|it| it.created.duration_since(at(0)).as_secs()).collect();
    // Each fails 2 s after it was placed; then 0 (and a look), 4, 8, 16 and 32 s of waiting.
    assert_eq!(begun, [1, 4, 10, 20, 38, 72]);
    let complaint = "is unable to consistently start tasks successfully.";
    let complaints = said(&mut world, 100).iter().filter(|it| *it == complaint).count();
    assert_eq!(complaints, 1);
    assert_eq!(told(&world)[0]["detail"]["eventName"], "SERVICE_TASK_START_IMPAIRED");
    assert_eq!(told(&world)[0]["detail"]["eventType"], "WARN");
    rollout(&mut world, 3_600, Rollout::Completed);

    // The image is there at last: the next try runs, and the pauses are forgotten.
    behave(&mut world, "{}");
    counts(&mut world, 7_200, (1, 1, 0));
    world.kill_tasks(at(7_200), CLUSTER, NAME);
    counts(&mut world, 7_201, (1, 0, 1));
}

#[test]
fn the_circuit_breaker_ends_a_deployment_for_good() {
    let mut world = service_world(r#"{"circuit_breaker":true}"#);
    rule(&mut world, "ECS Deployment State Change");
    behave(&mut world, r#"{"fails_to_start":"ResourceInitializationError: no secret"}"#);
    redeploy(&mut world, 0);
    scale(&mut world, 0, 1);
    rollout(&mut world, 60, Rollout::Failed);
    let seen = sight(&mut world, 60);
    assert_eq!(seen.view.deployments[0].failed, 3);
    let reason = "ECS deployment circuit breaker: tasks failed to start.";
    assert_eq!(seen.view.deployments[0].reason, reason);
    let events = said(&mut world, 60);
    assert!(
        events.contains(
            &"(deployment ecs-svc/ID) deployment failed: tasks failed to start.".to_owned()
        )
    );
    let last = &told(&world)[1]["detail"];
    assert_eq!(last["eventName"], "SERVICE_DEPLOYMENT_FAILED");
    assert_eq!(last["eventType"], "ERROR");
    assert_eq!(last["reason"], "ECS deployment circuit breaker: task failed to start.");

    // Well again, but a deployment that failed starts nothing, whatever the count.
    behave(&mut world, "{}");
    scale(&mut world, 60, 0);
    scale(&mut world, 70, 1);
    counts(&mut world, 600, (1, 0, 0));
    redeploy(&mut world, 600);
    counts(&mut world, 610, (1, 1, 0));
    rollout(&mut world, 610, Rollout::Completed);
}

#[test]
fn without_the_breaker_a_deployment_never_fails() {
    let mut world = service_world("{}");
    behave(&mut world, r#"{"exits_after":"0s"}"#);
    redeploy(&mut world, 0);
    scale(&mut world, 0, 1);
    rollout(&mut world, 3_600, Rollout::InProgress);
    assert!(sight(&mut world, 3_600).view.deployments[0].failed > 3);
}

#[test]
fn no_capacity_is_said_once_and_tried_until_there_is_some() {
    let mut world = service_world(r#"{"behaviour":{"no_capacity":true}}"#);
    rule(&mut world, "ECS Service Action");
    scale(&mut world, 0, 1);
    counts(&mut world, 120, (1, 0, 0));
    let expected = [
        "has reached a steady state.",
        "was unable to place a task. Reason: Capacity is unavailable at this time. Please try again later or in a different availability zone. For more information, see the Troubleshooting section of the Amazon ECS Developer Guide.",
        "is unable to consistently start tasks successfully.",
    ];
    assert_eq!(said(&mut world, 120), expected);
    let action = &told(&world)[0]["detail"];
    assert_eq!(action["eventName"], "SERVICE_TASK_PLACEMENT_FAILURE");
    assert_eq!(
        (&action["eventType"], &action["reason"]),
        (&"ERROR".into(), &"RESOURCE:FARGATE".into())
    );
    behave(&mut world, "{}");
    counts(&mut world, 190, (1, 1, 0));

    let mut world = service_world(r#"{"launch_type":"EC2","behaviour":{"no_capacity":true}}"#);
    scale(&mut world, 0, 1);
    let words =
        "was unable to place a task because no container instance met all of its requirements. ";
    assert!(said(&mut world, 2)[1].starts_with(words));
}

#[test]
fn a_task_that_is_never_healthy_runs_is_not_steady_and_is_replaced() {
    let seed = r#"{"health_check":true,"behaviour":{"never_healthy":true}}"#;
    let mut world = service_world(seed);
    scale(&mut world, 0, 1);
    counts(&mut world, 6, (1, 1, 0));
    let health = |world: &World| {
        let service = world.services.get(CLUSTER, NAME).unwrap();
        service.tasks().next().unwrap().view.health
    };
    assert_eq!(health(&world), Health::Unknown);
    counts(&mut world, 7, (1, 1, 0));
    assert_eq!(health(&world), Health::Unhealthy);
    counts(&mut world, 8, (1, 0, 1));
    let view = world.services.get(CLUSTER, NAME).unwrap().tasks().next().unwrap().view.clone();
    let expected =
        (StopCode::ServiceSchedulerInitiated, "Task failed container health checks".to_owned());
    assert_eq!(view.stop, Some(expected));
    let events = said(&mut world, 8);
    let expected = [
        "(task ID) failed container health checks.",
        "has stopped 1 running tasks: (task ID).",
        "has started 1 tasks: (task ID). Amazon ECS replaced 1 tasks due to an unhealthy status.",
    ];
    assert_eq!(events[2..], expected);
    behave(&mut world, "{}");
    world.advance(at(60));
    assert_eq!(said(&mut world, 60).last().unwrap(), "has reached a steady state.");
}

#[test]
fn without_a_health_check_health_is_unknown_and_nobody_minds() {
    let mut world = service_world(r#"{"behaviour":{"never_healthy":true}}"#);
    scale(&mut world, 0, 1);
    assert_eq!(started(&mut world, 600), 1);
    let task = world.services.get(CLUSTER, NAME).unwrap().tasks().next().unwrap();
    assert_eq!((task.view.health, task.view.status), (Health::Unknown, TaskStatus::Running));
}

#[test]
fn a_container_that_exits_is_started_again_without_a_pause() {
    let mut world = service_world(r#"{"behaviour":{"exits_after":"2s","exit_code":7}}"#);
    scale(&mut world, 0, 1);
    counts(&mut world, 6, (1, 1, 0));
    counts(&mut world, 7, (1, 0, 0));
    counts(&mut world, 8, (1, 0, 1));
    let view = world.services.get(CLUSTER, NAME).unwrap().tasks().next().unwrap().view.clone();
    let (code, reason) = view.stop.unwrap();
    assert_eq!(code, StopCode::EssentialContainerExited);
    assert_eq!(reason, "Essential container in task exited");
    assert_eq!(view.exit_code, Some(7));
    // Placed at 1, 8, 15, …: 4 s to run, 2 s of running, 1 s to be seen.
    assert_eq!(started(&mut world, 36), 6);
}

#[test]
fn a_crash_is_repaired_by_the_scheduler() {
    let mut world = service_world(r#"{"desired":2}"#);
    assert!(world.kill_tasks(at(0), CLUSTER, NAME));
    assert!(!world.kill_tasks(at(0), CLUSTER, "none"));
    counts(&mut world, 0, (2, 0, 0));
    counts(&mut world, 1, (2, 0, 2));
    counts(&mut world, 5, (2, 2, 0));
}

#[test]
fn a_deployment_that_never_settles_runs_all_the_same() {
    let mut world = service_world(r#"{"behaviour":{"never_settles":true}}"#);
    redeploy(&mut world, 0);
    scale(&mut world, 0, 1);
    counts(&mut world, 600, (1, 1, 0));
    rollout(&mut world, 600, Rollout::InProgress);
    assert_eq!(said(&mut world, 600).last().unwrap(), "has started 1 tasks: (task ID).");
    assert!(world.set_behaviour(at(600), CLUSTER, NAME, ServiceBehaviour::default()));
    assert!(!world.set_behaviour(at(600), CLUSTER, "none", ServiceBehaviour::default()));
    rollout(&mut world, 601, Rollout::Completed);
}

#[test]
fn a_description_lags_in_counts_deployments_tasks_and_events() {
    let mut world = service_world("{}");
    world.timings.describe_lag = SignedDuration::from_secs(3);
    let truth = scale(&mut world, 0, 1);
    assert_eq!(truth.view.desired, 1);
    counts(&mut world, 2, (0, 0, 0));
    assert!(world.seen_tasks(at(3), CLUSTER, Some(NAME)).unwrap().is_empty());
    counts(&mut world, 3, (1, 0, 0));
    assert_eq!(sight(&mut world, 3).events.len(), 1);
    counts(&mut world, 4, (1, 0, 1));
    assert_eq!(sight(&mut world, 4).events.len(), 2);
    counts(&mut world, 7, (1, 0, 1));
    let seen = world.seen_tasks(at(7), CLUSTER, None).unwrap();
    assert_eq!(seen[0].2.status, TaskStatus::Pending);
    counts(&mut world, 8, (1, 1, 0));
}

#[track_caller]
fn refused(cluster: &str, service: &str, desired: i64, expected: Result<(), &str>) {
    let mut world = service_world("{}");
    let gone = r#"{"cluster":"prod","name":"gone","status":"INACTIVE"}"#;
    world.seed_service(at(0), &serde_json::from_str(gone).unwrap());
    world.seed_cluster("empty");
    let update = ServiceUpdate { desired: Some(desired), ..ServiceUpdate::default() };
    let got = world.update_service(at(0), cluster, service, &update).map(|_| ());
    assert_eq!(got.as_ref().map_err(|error| error.code()), expected.as_ref().map_err(|it| *it));
}

#[test]
fn names_and_arns_are_taken_and_what_ecs_refuses_is_refused() {
    refused(CLUSTER, NAME, 1, Ok(()));
    let arn = "arn:aws:ecs:us-east-1:000000000000:cluster/prod";
    let service = "arn:aws:ecs:us-east-1:000000000000:service/prod/web";
    refused(arn, NAME, 0, Ok(()));
    refused(CLUSTER, service, 1, Ok(()));
    refused(CLUSTER, "arn:aws:ecs:us-east-1:000000000000:service/web", 1, Ok(()));
    refused("empty", service, 1, Err("ServiceNotFoundException"));
    refused(CLUSTER, "none", 1, Err("ServiceNotFoundException"));
    refused("empty", NAME, 1, Err("ServiceNotFoundException"));
    refused("none", NAME, 1, Err("ClusterNotFoundException"));
    refused("", NAME, 1, Err("ClusterNotFoundException"));
    refused(CLUSTER, "gone", 1, Err("ServiceNotActiveException"));
    refused(CLUSTER, NAME, -1, Err("InvalidParameterException"));
}

#[test]
fn a_description_names_what_is_missing_and_takes_ten_at_most() {
    let mut world = service_world("{}");
    let mut ask = |cluster: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let seen = world.describe_services(at(0), cluster, &names);
        seen.map(|seen| seen.iter().map(Option::is_some).collect::<Vec<bool>>())
    };
    assert_eq!(ask(CLUSTER, &["none", NAME]), Ok(vec![false, true]));
    assert_eq!(ask("none", &[NAME]), Err(ServiceError::ClusterNotFound));
    assert_eq!(ask(CLUSTER, &[]).unwrap_err().code(), "InvalidParameterException");
    assert_eq!(ask(CLUSTER, &[NAME; 11]).unwrap_err().code(), "InvalidParameterException");
    let counts = world.describe_cluster(at(0), CLUSTER).unwrap();
    assert_eq!((counts.services, counts.running, counts.pending), (1, 0, 0));
    assert_eq!(world.describe_cluster(at(0), "none"), None);
    assert_eq!(world.list_services(at(0), CLUSTER), Ok(vec![NAME.to_owned()]));
}

#[test]
fn a_service_that_exists_is_not_seeded_again() {
    let mut world = service_world("{}");
    scale(&mut world, 0, 2);
    let seed = format!(r#"{{"cluster":"{CLUSTER}","name":"{NAME}","desired":0}}"#);
    world.seed_service(at(1), &serde_json::from_str(&seed).unwrap());
    counts(&mut world, 9, (2, 2, 0));
}

#[test]
fn seeds_are_strict() {
    let error = serde_json::from_str::<ServiceSeed>(r#"{"name":"a","desire":1}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `desire`"), "{error}");
    let error = serde_json::from_str::<ServiceBehaviour>(r#"{"start":"-1s"}"#).unwrap_err();
    assert!(error.to_string().contains("zero or more"), "{error}");
}

#[test]
fn a_world_with_services_is_stored_whole_and_one_from_before_them_is_read() {
    let mut world = service_world(r#"{"scaling":{"min":1,"max":2}}"#);
    scale(&mut world, 0, 1);
    world.advance(at(3));
    let text = serde_json::to_string(&world).unwrap();
    let mut again: World = serde_json::from_str(&text).unwrap();
    world.advance(at(60));
    again.advance(at(60));
    assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&world).unwrap());

    let mut old: Value = serde_json::from_str(&text).unwrap();
    for later in ["services", "scaling", "metrics"] {
        old.as_object_mut().unwrap().remove(later).unwrap();
    }
    let old: World = serde_json::from_value(old).unwrap();
    assert_eq!(old.services.iter().count(), 0);
}

#[test]
fn a_service_that_fails_in_no_time_lets_time_go_on_and_stays_small() {
    let at_once = r#"{"desired":1,"behaviour":{"start":"0s","stop":"0s","exits_after":"0s"}}"#;
    let mut world = service_world(at_once);
    world.timings.placement = SignedDuration::ZERO;
    world.kill_tasks(at(0), CLUSTER, NAME);
    world.advance(at(1));
    world.timings.placement = SignedDuration::from_secs(2);
    world.advance(at(2_000));
    let service = world.services.get(CLUSTER, NAME).unwrap();
    assert!(service.tasks().count() < 60, "{}", service.tasks().count());
    assert!(service.events().count() <= 100);
}

#[test]
fn a_stopped_task_can_be_described_for_an_hour() {
    let mut world = service_world(r#"{"desired":1}"#);
    scale(&mut world, 0, 0);
    assert_eq!(started(&mut world, 3_000), 1);
    scale(&mut world, 4_000, 1);
    assert_eq!(statuses(&mut world, 4_010), [TaskStatus::Running]);
}
