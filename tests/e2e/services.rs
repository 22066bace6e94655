//! An ECS service, as Fluidity's clients switch it: their payloads as they stand, and ECS's own reasons.

use serde_json::{Value, json};

use crate::harness::{Answer, Local, aws_json, eventually, lamplighter, put_metric, send_with};

const CLUSTER: &str = "fluidity-prod";
const SERVICE: &str = "fluidity-server-prod";
/// What Fluidity's wake and kill carry: no action, which each function knew by itself.
const PAYLOAD: &str = r#"{"clusterName":"fluidity-prod","serviceName":"fluidity-server-prod"}"#;

/// A service whose tasks are quick; `seed` is how it begins, and what goes wrong with it.
fn fleet(seed: &str) -> String {
    format!(
        r#"
[targets.fluidity]
kind = "ecs-service"
cluster = "{CLUSTER}"
service = "{SERVICE}"
settle = "1s"
poll = "1s"
start_timeout = "10s"
[targets.fluidity.idle]
after = "2s"
metrics = [
    {{ namespace = "Fluidity", name = "ActiveConnections", idle_when = "== 0", period = "1s", look_back = "30s", lag = "1s" }},
    {{ namespace = "Fluidity", name = "LastActivityEpochSeconds", reads = "epoch", period = "1s", look_back = "30s", lag = "1s" }},
]
[local]
placement = "100ms"
task_start = "700ms"
task_stop = "300ms"
scaling = "200ms"
[local.services.fluidity]
{seed}
"#
    )
}

fn service(local: &Local) -> Value {
    local.control("GET", &format!("services/{CLUSTER}/{SERVICE}"), "")
}

/// A value a second of the last twelve, as a publisher that is alive has put them.
fn publish(local: &Local, connections: f64, last_activity: f64) {
    for seconds_ago in 0..12 {
        put_metric(local, "ActiveConnections", connections, seconds_ago);
        put_metric(local, "LastActivityEpochSeconds", last_activity, seconds_ago);
    }
}

fn envelope(path: &str, payload: &str) -> String {
    // As a function's URL writes it: the payload is JSON text inside.
    json!({
        "version": "2.0", "rawPath": path, "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": "POST", "path": path}},
        "body": payload, "isBase64Encoded": false,
    })
    .to_string()
}

#[test]
fn fluidity_s_payloads_switch_its_service_as_they_stand() {
    let local = Local::with_fleet(&fleet(""), &[]);
    // The function's name is the message attribute; a second client does not wait for the first.
    let first = send_with(&local, PAYLOAD, &[("action", "wake")]);
    eventually("ECS is asked for a task", || {
        (service(&local)["desired"] == json!(1)).then_some(())
    });
    let second = send_with(&local, PAYLOAD, &[("action", "wake"), ("holder", "second")]);
    let woken = local.outcome(&first);
    assert_eq!(woken["outcome"], "done", "{woken}");
    let answer = &woken["answer"];
    assert_eq!(answer["status"], "waking", "{answer}");
    for (field, count) in [("desiredCount", 1), ("runningCount", 1), ("pendingCount", 0)] {
        assert_eq!(answer[field], json!(count), "{field} of {answer}");
    }
    assert!(answer["message"].is_string() && answer.get("estimatedStartTime").is_some());
    let second = local.outcome(&second);
    assert_eq!(second["answer"]["status"], "starting", "{second}");
    assert_eq!(local.count("ecs:UpdateService"), 1, "a client that retries starts no second task");

    let again = send_with(&local, &envelope("/wake", PAYLOAD), &[]);
    let again = local.outcome(&again);
    assert_eq!(again["answer"]["status"], "already_running", "{again}");

    let killed = send_with(&local, &envelope("/kill", PAYLOAD), &[]);
    let killed = local.outcome(&killed);
    assert_eq!(killed["outcome"], "done", "{killed}");
    assert_eq!(killed["answer"]["status"], "killed", "{killed}");
    assert_eq!(killed["answer"]["desiredCount"], json!(0));
    assert_eq!(service(&local)["running"], json!(0));
}

#[test]
fn a_service_is_shown_by_its_counts() {
    let local = Local::with_fleet(&fleet(""), &[]);
    local.run(&["send", "start", "fluidity-prod/fluidity-server-prod", "--wait"]).is(0);
    let status = local.json(&["status", "fluidity", "--live"]);
    assert_eq!(status["kind"], "ecs-service");
    assert_eq!(status["instance"], "fluidity-prod/fluidity-server-prod");
    assert_eq!((&status["desiredCount"], &status["runningCount"]), (&json!(1), &json!(1)));
    assert_eq!(status["live"]["service"]["running"], json!(1), "{status}");
    let shown = local.run(&["status", "fluidity", "--live"]).is(0).stdout.clone();
    for words in ["1 of 1 tasks run", "after 2s by metric Fluidity/ActiveConnections"] {
        assert!(shown.contains(words), "{words:?} is not in {shown}");
    }
    assert!(local.run(&["status"]).is(0).stdout.contains("running 1/1"));
}

#[test]
fn an_idle_service_is_scaled_down_and_one_without_data_is_not() {
    let local = Local::with_fleet(&fleet(""), &[]);
    local.run(&["send", "start", "fluidity", "--wait"]).is(0);
    let check = || local.send(&["check-idle", "fluidity"])["answer"].clone();
    let kept = check();
    assert_eq!((&kept["action"], &kept["stopped"]), (&json!("no_change"), &json!(false)), "{kept}");
    assert!(kept["message"].as_str().unwrap().contains("no data"), "{kept}");

    // Somebody is connected, for the last minutes.
    publish(&local, 2.0, crate::backend::now());
    let busy = check();
    assert_eq!(busy["action"], "no_change", "{busy}");
    assert!(busy["avgActiveConnections"].as_f64().unwrap_or(0.0) > 0.0, "{busy}");
    let shown = local.run(&["probe", "fluidity"]).is(0).stdout.clone();
    assert!(shown.contains("active") && shown.contains("ActiveConnections"), "{shown}");
}

#[test]
fn sleep_without_a_payload_scales_an_idle_service_down() {
    let local = Local::with_fleet(&fleet(""), &[]);
    local.run(&["send", "start", "fluidity", "--wait"]).is(0);
    let probed = eventually("its readiness is two seconds ago", || {
        publish(&local, 0.0, crate::backend::now() - 1200.0);
        let probed = local.json(&["probe", "fluidity"]);
        (probed["verdict"] == "idle").then_some(probed)
    });
    assert!(probed["would"].as_str().unwrap().contains("stop it"), "{probed}");
    assert_eq!(service(&local)["desired"], json!(1), "whoever only asks stops nothing");
    publish(&local, 0.0, crate::backend::now() - 1200.0);
    let sleep = send_with(&local, "{}", &[("action", "sleep")]);
    assert_eq!(local.outcome(&sleep)["outcome"], "done");
    eventually("it is scaled down", || (service(&local)["running"] == json!(0)).then_some(()));
    let after = local.send(&["check-idle", "fluidity"])["answer"].clone();
    assert_eq!(after["action"], "no_change", "{after}");
}

#[test]
fn a_named_check_answers_as_fluidity_s_sleep_did() {
    let local = Local::with_fleet(&fleet(""), &[]);
    local.run(&["send", "start", "fluidity", "--wait"]).is(0);
    publish(&local, 0.0, crate::backend::now() - 1200.0);
    // The caller's own threshold goes before the policy's.
    let longer = local.send(&["check-idle", "fluidity", "--idle-threshold-minutes", "5"]);
    assert_eq!(longer["answer"]["action"], "no_change", "{longer}");
    assert_eq!(longer["answer"]["threshold_seconds"], json!(300), "{longer}");
    let answer = eventually("it is idle for two seconds", || {
        publish(&local, 0.0, crate::backend::now() - 1200.0);
        let answer = local.send(&["check-idle", "fluidity"])["answer"].clone();
        (answer["action"] == "scaled_down").then_some(answer)
    });
    assert_eq!(
        (&answer["stopped"], &answer["desiredCount"]),
        (&json!(true), &json!(0)),
        "{answer}"
    );
    assert_eq!(answer["avgActiveConnections"], json!(0.0), "{answer}");
    assert!(answer["idleDurationSeconds"].as_i64().unwrap_or(0) >= 2, "{answer}");
}

fn bounds(local: &Local) -> (Value, Value) {
    let (status, body) = aws_json(
        &local.endpoint,
        "application-autoscaling",
        "AnyScaleFrontendService.DescribeScalableTargets",
        r#"{"ServiceNamespace":"ecs"}"#,
    );
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let target = &body["ScalableTargets"][0];
    (target["MinCapacity"].clone(), target["MaxCapacity"].clone())
}

#[test]
fn autoscaling_s_bounds_are_put_away_with_the_service_and_come_back_with_it() {
    let seed = "running = 2\nscaling = { min = 2, max = 4 }";
    let local = Local::with_fleet(&fleet(seed), &[]);
    let killed = local.send(&["kill", "fluidity"]);
    assert_eq!(killed["answer"]["status"], "killed", "{killed}");
    assert_eq!(bounds(&local), (json!(0), json!(0)));
    assert_eq!(service(&local)["desired"], json!(0), "nothing scales it up again");
    let woken = local.send(&["wake", "fluidity"]);
    assert_eq!(woken["outcome"], "done", "{woken}");
    assert_eq!(bounds(&local), (json!(2), json!(4)));
    assert_eq!(service(&local)["desired"], json!(2), "its bounds allow no fewer");
}

/// A wake of a service that does not come up, the cause, and ECS's words.
#[track_caller]
fn check_failure(seed: &str, cause: &str, words: &str) {
    let local = Local::with_fleet(&fleet(seed), &[]);
    let failed = local.send(&["wake", "fluidity"]);
    assert_eq!(
        (&failed["outcome"], &failed["cause"]),
        (&json!("failed"), &json!(cause)),
        "{failed}"
    );
    let message = failed["message"].as_str().expect("a message");
    assert!(message.contains(words), "{words:?} is not in {message}");
    eventually("ECS goes on no more", || (service(&local)["desired"] == json!(0)).then_some(()));
    let why = local.run(&["why", "fluidity"]).is(0).stdout.clone();
    assert!(why.contains(words), "{words:?} is not in {why}");
}

#[test]
fn an_image_that_cannot_be_pulled_is_told_in_ecs_s_words() {
    check_failure("no_image = true", "not-found", "CannotPullContainerError");
}

#[test]
fn tasks_that_stop_at_once_are_told_in_ecs_s_words() {
    check_failure("exits_after = \"200ms\"\nexit_code = 3", "unit-failed", "Essential container");
}

#[test]
fn a_service_without_room_is_told_in_ecs_s_words() {
    check_failure("no_capacity = true", "capacity", "unable to");
}

#[test]
fn a_service_that_nobody_has_and_one_that_ecs_has_not_are_told_apart() {
    let local = Local::with_fleet(&fleet(""), &[]);
    // With an id of its own, since what has none is parked without an outcome.
    let other = r#"{"clusterName":"another","serviceName":"server","id":"other-1"}"#;
    send_with(&local, other, &[("action", "wake")]);
    let refused = local.outcome("other-1");
    assert_eq!(refused["outcome"], "rejected", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("another/server"), "{refused}");
}

#[test]
fn a_service_that_ecs_has_not_fails_its_wake() {
    // A worker of another fleet on the same queue.
    let alone = Local::with_fleet(&fleet(""), &["--no-worker"]);
    let path = alone.folder.path().join("ghost.toml");
    let ghost = fleet("").replace(SERVICE, "ghost");
    std::fs::write(&path, ghost).expect("a file");
    let path = path.to_str().expect("a plain path");
    let _worker = alone.worker("ghost", &["--fleet", path]);
    let failed = alone.send(&["wake", "fluidity", "--fleet", path]);
    assert_eq!((&failed["outcome"], &failed["cause"]), (&json!("failed"), &json!("not-found")));
    let message = failed["message"].as_str().expect("a message");
    assert!(message.contains("ghost") || message.contains("ECS"), "{message}");
}

#[test]
fn fluidity_s_variables_alone_are_a_fleet() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let check = |variables: &[(&str, &str)]| {
        let mut command = lamplighter();
        command.args(["check"]).current_dir(folder.path()).envs(variables.iter().copied());
        Answer::of(&mut command)
    };
    let cluster = ("ECS_CLUSTER_NAME", CLUSTER);
    let told = check(&[cluster, ("ECS_SERVICE_NAME", SERVICE), ("IDLE_THRESHOLD_MINUTES", "20")]);
    for words in ["environment variables: 1 target", "fluidity, made from ECS_CLUSTER_NAME"] {
        assert!(told.is(0).stdout.contains(words), "{words:?} is not in {}", told.stdout);
    }
    check(&[cluster]).complains(2, &["ECS_CLUSTER_NAME is set and ECS_SERVICE_NAME is not"]);
    let both = [cluster, ("ECS_SERVICE_NAME", SERVICE), ("INSTANCE_ID", "i-0abc123def456")];
    check(&both).complains(2, &["INSTANCE_ID and ECS_CLUSTER_NAME are both set"]);
}
