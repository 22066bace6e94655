//! What a user does on a good day, and what it costs by the endpoint's own count.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::harness::{FLEET, Local, eventually, http, send_raw};
use crate::wire::Wire;

const MACHINE: &str = "i-01f5d046c86e4f36e";

#[test]
fn a_json_message_wakes_a_machine_and_another_stops_it() {
    let local = Local::start(&[]);
    let start = r#"{"action":"start","target":"position-keeper","id":"wire-1","holder":"ann"}"#;
    send_raw(&local, &[start, start]);
    let outcome = eventually("the start is done", || {
        let answer = local.run(&["outcome", "wire-1", "--json"]);
        (answer.code == 0).then(|| answer.json())
    });
    assert_eq!(outcome["outcome"], "done");
    assert_eq!(outcome["answer"]["started"], json!(true));
    assert_eq!(local.count("ec2:StartInstances"), 1);
    assert_eq!(local.machine(MACHINE)["state"], "running");

    let status = local.json(&["status", "position-keeper"]);
    for field in [
        "target",
        "kind",
        "phase",
        "step",
        "wanted",
        "holds",
        "observed",
        "why",
        "since",
        "lock_status",
        "instance",
        "expires_at",
        "ec2_state",
        "service_state",
        "overall_status",
    ] {
        assert!(status.get(field).is_some(), "no {field} in {status}");
    }
    assert_eq!(status["phase"], "on");
    assert_eq!(status["lock_status"], "running");
    assert_eq!(status["service_state"], "active");
    assert_eq!(status["overall_status"], "running");

    let stop =
        local.run(&["send", "stop", "position-keeper", "--holder", "ann", "--wait", "--json"]);
    let stopped = stop.is(0).json();
    assert_eq!(stopped["answer"]["stopped"], json!(true));
    assert_eq!(local.machine(MACHINE)["state"], "stopped");
}

#[test]
fn a_waiting_send_shows_each_step_and_its_json_has_the_promised_fields() {
    // It looks some times a second: each step lasts longer than that here.
    let slow = FLEET.replace("boot = \"500ms\"", "boot = \"2s\"\ncommand = \"2s\"");
    let local = Local::with_fleet(&slow, &[]);
    let shown = local.run(&["send", "start", "position-keeper", "--wait"]);
    for word in ["wait-running", "verify-unit", "done"] {
        assert!(shown.is(0).stdout.contains(word), "{word} is not in {}", shown.stdout);
    }
    let outcome = local.json(&["send", "start", "position-keeper", "--wait"]);
    for field in ["command", "target", "outcome", "cause", "message", "answer", "took_ms"] {
        assert!(outcome.get(field).is_some(), "no {field} in {outcome}");
    }
    // Somebody else is refused, and the exit code says so.
    let refused =
        local.run(&["send", "start", "position-keeper", "--holder", "bob", "--wait", "--json"]);
    assert_eq!(refused.is(1).json()["cause"], "conflict");
}

#[test]
fn an_id_that_was_used_for_something_else_is_refused_and_not_taken_for_done() {
    let local = Local::start(&[]);
    local.run(&["send", "kill", "pyelli", "--id", "k1", "--wait"]).is(0);
    let reused = local.run(&["send", "start", "pyelli", "--id", "k1", "--wait", "--json"]);
    let reused = reused.is(1).json();
    assert_eq!((&reused["outcome"], &reused["cause"]), (&json!("rejected"), &json!("conflict")));
    assert_eq!(local.json(&["outcome", "k1"])["outcome"], "done", "the first outcome stands");
    assert_eq!(local.count("ec2:StartInstances"), 0);
}

#[test]
fn a_unit_that_fails_fails_the_start_with_its_cause_and_nothing_stays_on() {
    let local = Local::start(&[]);
    let answer = local.run(&["send", "start", "render-box", "--wait", "--json"]);
    let outcome = answer.is(1).json();
    assert_eq!((&outcome["outcome"], &outcome["cause"]), (&json!("failed"), &json!("unit-failed")));
    eventually("the machine is off again", || {
        let status = local.json(&["status", "render-box"]);
        (status["phase"] == "failed" && status["ec2_state"] == "stopped").then_some(())
    });
    assert!(
        local.run(&["why", "render-box"]).is(0).stdout.contains("systemctl is-active renderer")
    );
}

#[test]
fn a_unit_that_dies_while_on_shows_as_error() {
    let local = Local::start(&[]);
    local.run(&["send", "start", "position-keeper", "--wait"]).is(0);
    local.control("POST", &format!("machines/{MACHINE}/units/positionkeeper/die"), "");
    // Seed 000's status asks the host; nobody has to wait for the next look by the clock.
    let status = local.json(&["send", "status", "position-keeper", "--wait"]);
    assert_eq!(status["answer"]["instance_status"]["overall_status"], "error");
    assert_eq!(local.json(&["status", "position-keeper"])["overall_status"], "error");
}

#[test]
fn a_machine_that_falls_back_is_reported_as_bounced() {
    let local = Local::start(&[]);
    local.control("PUT", &format!("machines/{MACHINE}"), r#"{"bounce":"1s"}"#);
    let answer = local.run(&["send", "start", "position-keeper", "--wait", "--json"]);
    assert_eq!(answer.is(1).json()["cause"], "bounced");
}

#[test]
fn a_start_and_a_pure_command_cost_what_the_budget_says() {
    let local = Local::start(&[]);
    // The sweep's first look is over.
    eventually("it has looked at the fleet", || {
        (local.count("ec2:DescribeInstances") > 0).then_some(())
    });
    let wire = Wire::to(&local);
    let writes = |local: &Local| {
        ["PutItem", "UpdateItem", "TransactWriteItems", "DeleteItem", "BatchWriteItem"]
            .iter()
            .map(|operation| local.count(&format!("dynamodb:{operation}")))
            .sum::<u64>()
    };
    local.control("DELETE", "calls", "");
    local.run(&["send", "start", "position-keeper", "--wait"]).is(0);
    wire.await_rest();
    assert_eq!(writes(&local), 6);
    let effects = local.count("ec2:StartInstances") + local.count("ssm:SendCommand");
    assert_eq!(effects, 2);
    let polls = local.count("ssm:DescribeInstanceInformation");
    let describes = local.count("ec2:DescribeInstances");
    assert!(describes <= 4 + polls, "{describes} describes, {polls} agent polls");

    local.control("DELETE", "calls", "");
    local.run(&["send", "start", "position-keeper", "--wait"]).is(0);
    wire.await_rest();
    assert_eq!(writes(&local), 2);
    assert_eq!(local.count("ec2:StartInstances"), 0);
}

#[test]
fn the_seeds_payloads_are_taken_as_they_stand() {
    let one = "[targets.backend]\nkind = \"ec2-instance\"\ninstance_id = \"i-0abc123def456\"\n\
               settle = \"1s\"\npoll = \"1s\"\n[local]\nboot = \"300ms\"\nstop = \"300ms\"\n";
    let local = Local::with_fleet(one, &[]);
    let function_url = json!({
        "version": "2.0", "rawPath": "/", "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": "POST", "path": "/"}},
        "body": "{\"action\": \"start\"}", "isBase64Encoded": false
    });
    send_raw(&local, &[&function_url.to_string()]);
    eventually("the start without a target is done", || {
        (local.json(&["status", "backend"])["phase"] == "on").then_some(())
    });
    send_raw(&local, &[r#"{"Action":"check_idle"}"#, r#"{"action":"stop"}"#]);
    eventually("it is off", || {
        (local.json(&["status", "backend"])["phase"] == "off").then_some(())
    });
}

#[test]
fn what_is_kept_in_a_directory_survives_a_restart_machines_too() {
    let data = tempfile::tempdir().expect("a directory");
    let path = data.path().to_str().expect("a plain path").to_owned();
    let local = Local::start(&["--data", &path]);
    local.run(&["send", "start", "position-keeper", "--id", "kept", "--wait"]).is(0);
    let local = local.restart(&["--data", &path]);
    assert_eq!(local.machine(MACHINE)["state"], "running");
    assert_eq!(local.json(&["status", "position-keeper"])["phase"], "on");
    assert_eq!(local.json(&["outcome", "kept"])["outcome"], "done");
    local.run(&["send", "stop", "position-keeper", "--wait"]).is(0);
}

#[test]
fn somebody_at_the_console_is_noticed_by_aws_own_event() {
    let local = Local::start(&[]);
    local.run(&["send", "start", "position-keeper", "--wait"]).is(0);
    local.control("POST", &format!("machines/{MACHINE}/stop"), "");
    eventually("the stop outside is recorded", || {
        (local.json(&["status", "position-keeper"])["phase"] == "off").then_some(())
    });
    assert!(local.run(&["history", "position-keeper"]).is(0).stdout.contains("outside"));
    local.control("POST", &format!("machines/{MACHINE}/start"), "");
    eventually("the machine is adopted", || {
        let status = local.json(&["status", "position-keeper"]);
        let adopted = status["holds"]
            .as_array()
            .is_some_and(|holds| holds.iter().any(|hold| hold["kind"] == "adopted"));
        adopted.then_some(())
    });
}

#[test]
fn the_endpoint_has_a_health_of_its_own_and_answers_only_this_machine() {
    let local = Local::start(&["--no-worker"]);
    assert_eq!(local.control("GET", "health", ""), json!({"status": "ok"}));
    let (status, _) = http(&local.endpoint, "GET", "/_lamplighter/nothing", "");
    assert_eq!(status, 404);
}

#[test]
fn targets_share_their_describes_and_a_bad_instance_harms_no_other() {
    let mut fleet = String::new();
    for number in 0..8 {
        fleet.push_str(&format!(
            "[targets.box-{number}]\nkind = \"ec2-instance\"\ninstance_id = \"i-0abc123def4{number:02}\"\n\
             settle = \"1s\"\npoll = \"1s\"\n"
        ));
    }
    let local = Local::with_fleet(&format!("{fleet}[local]\nboot = \"300ms\"\n"), &["--no-worker"]);
    // One more target, whose machine the endpoint does not have.
    let ghost = "[targets.ghost]\nkind = \"ec2-instance\"\ninstance_id = \"i-0fffffffffffffff0\"\n";
    std::fs::write(local.fleet(), format!("{fleet}{ghost}")).expect("a file");
    let _worker = local.worker("worker", &[]);
    send_raw(&local, &[r#"{"action":"start","target":"ghost","id":"ghost"}"#]);
    let bodies: Vec<String> = (0..8)
        .map(|number| json!({"action":"start","target":format!("box-{number}"),"id":format!("b{number}")}))
        .map(|body: Value| body.to_string())
        .collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    send_raw(&local, &bodies);
    for number in 0..8 {
        eventually("each is on", || {
            let answer = local.run(&["outcome", &format!("b{number}"), "--json"]);
            (answer.code == 0 && answer.json()["outcome"] == "done").then_some(())
        });
    }
    let ghost = eventually("the bad one has its own outcome", || {
        let answer = local.run(&["outcome", "ghost", "--json"]);
        let outcome: Value = serde_json::from_str(&answer.stdout).ok()?;
        outcome["outcome"].is_string().then_some(outcome)
    });
    assert_eq!((&ghost["outcome"], &ghost["cause"]), (&json!("failed"), &json!("not-found")));
    let calls = local.control("GET", "calls?since=0", "");
    let calls = calls.get("calls").unwrap_or(&calls).as_array().cloned().expect("a call log");
    let shared = calls.iter().filter(|call| call["operation"] == "DescribeInstances").any(|call| {
        let named = call["target"].as_str().unwrap_or_default();
        named.contains("i-0abc123def400") && named.contains("i-0abc123def407")
    });
    assert!(shared, "no describe named several machines: {calls:?}");
}

#[test]
fn a_target_with_a_health_address_is_on_only_when_that_answers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    // Sick twice, then well; it ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let word = match counted.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => "503 Service Unavailable",
                _ => "200 OK",
            };
            let mut head = [0; 1024];
            let _ = stream.read(&mut head);
            let answer =
                format!("HTTP/1.1 {word}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let fleet = format!(
        "[targets.backend]\nkind = \"ec2-instance\"\ninstance_id = \"i-0abc123def456\"\n\
         health = \"http://127.0.0.1:{port}/health\"\nsettle = \"1s\"\npoll = \"1s\"\n\
         [local]\nboot = \"300ms\"\n"
    );
    let local = Local::with_fleet(&fleet, &[]);
    let shown = local.run(&["send", "start", "backend", "--wait"]);
    assert!(shown.is(0).stdout.contains("verify-health"), "{}", shown.stdout);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}
