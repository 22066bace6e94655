//! Idleness: a backend in every mood, and a machine that is stopped when it is surely idle, and only then.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::{Backend, Says, now};
use crate::harness::{Local, eventually, send_raw};

/// So long unused is idle, in every policy of this file.
const AFTER: Duration = Duration::from_secs(2);

/// One machine, and its policy's lines.
fn target(name: &str, id: u32, policy: &str) -> String {
    format!(
        "[targets.{name}]\nkind = \"ec2-instance\"\ninstance_id = \"i-{id:08x}\"\nsettle = \"200ms\"\n\
         poll = \"1s\"\n[targets.{name}.idle]\nafter = \"2s\"\n{policy}\n"
    )
}

fn http(url: &str) -> String {
    format!("http = {{ url = \"{url}/api/last-activity\", pointer = \"/last_activity\" }}")
}

const WORLD: &str = "[local]\nboot = \"300ms\"\nagent = \"300ms\"\nstop = \"300ms\"\n";

fn fleet(targets: &[String]) -> String {
    format!("{}{WORLD}", targets.concat())
}

fn last(at: f64) -> Says {
    Says::json(&json!({ "last_activity": at }))
}

fn check_idle(local: &Local, target: &str) -> Value {
    local.send(&["check-idle", target])["answer"].clone()
}

/// A backend that never gives leave to stop: started, checked twice with time between, and still on.
#[track_caller]
fn check_kept(says: impl Fn(u32, &str) -> Says + Send + Sync + 'static, words: &str) {
    let backend = Backend::start(says);
    let local = Local::with_fleet(&fleet(&[target("pyelli", 1, &http(&backend.url))]), &[]);
    local.run(&["send", "start", "pyelli", "--wait"]).is(0);
    std::thread::sleep(AFTER + Duration::from_millis(500));
    let answer = check_idle(&local, "pyelli");
    assert_eq!(answer["stopped"], json!(false), "{answer}");
    let message = answer["message"].as_str().expect("a message");
    assert!(message.contains(words), "{words:?} is not in {message}");
    let probed = local.json(&["probe", "pyelli"]);
    assert_ne!(probed["verdict"], "idle", "{probed}");
    assert_eq!(local.machine("i-00000001")["state"], "running");
    assert!(backend.asked() >= 2);
}

#[test]
fn an_active_backend_is_kept() {
    check_kept(|_, _| last(now()), "last activity at");
}

#[test]
fn a_backend_that_answers_nonsense_is_kept() {
    let local_page = |_: u32, _: &str| {
        Says::Body(200, "text/html", "<html>It works, since 0!</html>".to_owned())
    };
    check_kept(local_page, "unknown is not idle");
}

#[test]
fn a_backend_that_fails_is_kept() {
    check_kept(|_, _| Says::Body(500, "text/plain", "oops".to_owned()), "500");
}

#[test]
fn a_missing_field_is_not_read_as_zero() {
    check_kept(|_, _| Says::json(&json!({ "status": "ok" })), "last_activity");
    check_kept(|_, _| last(0.0), "no time");
}

#[test]
fn a_backend_whose_clock_is_ahead_is_kept() {
    check_kept(|_, _| last(now() + 3600.0), "ahead of now");
}

#[test]
fn a_redirect_that_leads_nowhere_is_unknown() {
    check_kept(|_, path| Says::Elsewhere(path.to_owned()), "unknown is not idle");
}

#[test]
fn an_answer_without_an_end_is_unknown() {
    check_kept(|_, _| Says::Endless, "unknown is not idle");
}

#[test]
fn a_backend_that_hangs_is_kept_and_delays_no_other() {
    let slow = Backend::start(|_, _| Says::Nothing);
    let quick = Backend::start(|_, _| last(now() - 3600.0));
    let targets = [target("slow", 1, &http(&slow.url)), target("quick", 2, &http(&quick.url))];
    let local = Local::with_fleet(&fleet(&targets), &[]);
    local.run(&["send", "start", "slow", "--wait"]).is(0);
    eventually("the quick one is stopped while the slow one still hangs", || {
        local.run(&["send", "start", "quick", "--wait"]).is(0);
        std::thread::sleep(AFTER + Duration::from_millis(500));
        let given_up = slow.given_up();
        send_raw(&local, &[r#"{"action": "check_idle"}"#]);
        eventually("the quick one is stopped", || {
            (local.machine("i-00000002")["state"] == "stopped").then_some(())
        });
        // On a loaded machine the probe's five seconds may be over first: that tick shows nothing.
        (slow.given_up() == given_up).then_some(())
    });
    let answer = check_idle(&local, "slow");
    assert_eq!(answer["stopped"], json!(false), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("unknown is not idle"), "{answer}");
    assert_eq!(local.machine("i-00000001")["state"], "running");
}

#[test]
fn pyelli_s_tick_stops_an_idle_machine_once() {
    let backend = Backend::start(|_, _| last(now() - 3600.0));
    let local = Local::with_fleet(&fleet(&[target("pyelli", 1, &http(&backend.url))]), &[]);
    local.run(&["send", "start", "pyelli", "--wait"]).is(0);
    assert_eq!(check_idle(&local, "pyelli")["stopped"], json!(false), "it was started just now");
    std::thread::sleep(AFTER + Duration::from_millis(500));
    // Two ticks at once, as schedules deliver them now and then.
    let tick = r#"{"action": "check_idle"}"#;
    send_raw(&local, &[tick, tick]);
    eventually("the machine is stopped", || {
        (local.json(&["status", "pyelli"])["phase"] == "off").then_some(())
    });
    assert_eq!(local.machine("i-00000001")["state"], "stopped");
    assert_eq!(local.count("ec2:StopInstances"), 1);
    let asked = backend.asked();
    let answer = check_idle(&local, "pyelli");
    assert_eq!(answer["stopped"], json!(false), "{answer}");
    assert_eq!(backend.asked(), asked, "what is off costs nothing");
}

#[test]
fn a_named_check_answers_as_pyelli_s_did() {
    let backend = Backend::start(|_, _| last(now() - 3600.0));
    let local = Local::with_fleet(&fleet(&[target("pyelli", 1, &http(&backend.url))]), &[]);
    local.run(&["send", "start", "pyelli", "--wait"]).is(0);
    let answer = eventually("it is idle", || {
        let answer = check_idle(&local, "pyelli");
        (answer["stopped"] == json!(true)).then_some(answer)
    });
    assert_eq!(answer["threshold_seconds"], json!(2), "{answer}");
    assert!(answer["idle_seconds"].as_i64().unwrap_or(0) >= 2, "{answer}");
    assert!(answer["message"].is_string(), "{answer}");
}

#[test]
fn a_backend_that_takes_the_probe_for_activity_is_stopped_all_the_same() {
    // As SEEDS.md has it: every request is marked, our own too, and told at the next one.
    let marked = Mutex::new(now() - 3600.0);
    let backend = Backend::start(move |_, _| {
        let mut marked = marked.lock().unwrap();
        last(std::mem::replace(&mut *marked, now()))
    });
    let local = Local::with_fleet(&fleet(&[target("pyelli", 1, &http(&backend.url))]), &[]);
    local.run(&["send", "start", "pyelli", "--wait"]).is(0);
    check_idle(&local, "pyelli");
    // A report that lies within a request of the last five seconds cannot be told from a use just now, so the checks
    // lie further apart, as those of a schedule do.
    eventually("it is idle for long enough before our last request", || {
        std::thread::sleep(Duration::from_secs(6));
        (check_idle(&local, "pyelli")["stopped"] == json!(true)).then_some(())
    });
    assert_eq!(local.machine("i-00000001")["state"], "stopped");
}

#[test]
fn an_unreachable_backend_raises_attention_and_is_stopped_only_if_so_configured() {
    // A port that nobody listens on: it was bound a moment ago.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let policy = |then: &str| {
        let http = http(&format!("http://{gone}"));
        format!("unreachable_after = \"1s\"\nwhen_unreachable = \"{then}\"\n{http}")
    };
    let targets = [target("kept", 1, &policy("keep")), target("stopped", 2, &policy("stop"))];
    let local = Local::with_fleet(&fleet(&targets), &[]);
    for name in ["kept", "stopped"] {
        local.run(&["send", "start", name, "--wait"]).is(0);
    }
    let since = eventually("it is known to be unreachable", || {
        check_idle(&local, "kept");
        check_idle(&local, "stopped");
        let status = local.json(&["status", "kept"]);
        let since = &status["idle"]["remembered"]["unreachable_said_at"];
        since.is_string().then(|| since.clone())
    });
    assert!(since.is_string());
    eventually("the one that is to be stopped is", || {
        check_idle(&local, "stopped");
        (local.machine("i-00000002")["state"] == "stopped").then_some(())
    });
    let told = local.run(&["history", "stopped"]).is(0).stdout.clone();
    assert!(told.contains("cannot be reached"), "{told}");
    assert_eq!(check_idle(&local, "kept")["stopped"], json!(false));
    assert_eq!(local.machine("i-00000001")["state"], "running");
    let shown = local.run(&["status", "kept"]).is(0).stdout.clone();
    assert!(shown.contains("its backend has not answered since"), "{shown}");
}

#[test]
fn whoever_keeps_it_alive_keeps_it_on() {
    let targets = [target("box", 1, "keep_alive = true")];
    let local = Local::with_fleet(&fleet(&targets), &[]);
    local.run(&["send", "start", "box", "--wait"]).is(0);
    // The start is longer ago than the threshold: what keeps it on is the keep-alive alone.
    std::thread::sleep(AFTER);
    let answer = eventually("a check that came in time after the keep-alive", || {
        let began = Instant::now();
        let kept = local.send(&["keep-alive", "box"]);
        assert_eq!(kept["outcome"], "done", "{kept}");
        assert!(kept["answer"]["kept_alive_until"].is_string(), "{kept}");
        let answer = check_idle(&local, "box");
        // On a loaded machine the keep-alive itself may be longer ago by now: that check shows nothing.
        if began.elapsed() >= AFTER {
            local.run(&["send", "start", "box", "--wait"]).is(0);
            return None;
        }
        Some(answer)
    });
    assert_eq!(answer["stopped"], json!(false), "{answer}");
    let answer = eventually("nobody keeps it alive any more", || {
        let answer = check_idle(&local, "box");
        (answer["stopped"] == json!(true)).then_some(answer)
    });
    assert!(answer["idle_seconds"].as_i64().unwrap_or(0) >= 2, "{answer}");
}

#[test]
fn idleness_ends_its_own_holds_and_leaves_a_firm_one() {
    let backend = Backend::start(|_, _| last(now() - 3600.0));
    let local = Local::with_fleet(&fleet(&[target("pyelli", 1, &http(&backend.url))]), &[]);
    local.run(&["send", "start", "pyelli", "--holder", "ann", "--wait"]).is(0);
    local.run(&["send", "start", "pyelli", "--holder", "bob", "--for", "1h", "--wait"]).is(0);
    let holds = || {
        let status = local.json(&["status", "pyelli"]);
        let holds = status["holds"].as_array().cloned().unwrap_or_default();
        holds.iter().map(|hold| hold["holder"].clone()).collect::<Vec<Value>>()
    };
    eventually("ann's hold ends by idleness", || {
        let answer = check_idle(&local, "pyelli");
        assert_eq!(answer["stopped"], json!(false), "{answer}");
        (holds() == [json!("bob")]).then_some(())
    });
    let probed = local.json(&["probe", "pyelli"]);
    assert!(probed["would"].as_str().unwrap().contains("held by bob"), "{probed}");
    assert_eq!(local.machine("i-00000001")["state"], "running");
}

#[test]
fn a_command_on_the_host_is_asked_and_only_by_request_from_the_command_line() {
    let policy = "command = { script = \"exit 0\", reads = \"exit-code\" }";
    let local = Local::with_fleet(&fleet(&[target("box", 1, policy)]), &[]);
    local.run(&["send", "start", "box", "--wait"]).is(0);
    let shown = local.run(&["probe", "box"]).is(0).stdout.clone();
    assert!(shown.contains("not asked"), "{shown}");
    assert_eq!(local.count("ssm:SendCommand"), 0);
}

#[test]
fn a_machine_that_is_off_can_be_probed_and_one_without_a_policy_cannot() {
    let backend = Backend::start(|_, _| last(now() - 3600.0));
    let plain = "[targets.plain]\nkind = \"ec2-instance\"\ninstance_id = \"i-0000000a\"\n";
    let targets = [target("pyelli", 1, &http(&backend.url)), plain.to_owned()];
    let local = Local::with_fleet(&fleet(&targets), &[]);
    local.run(&["send", "status", "pyelli", "--wait"]).is(0);
    let shown = local.run(&["probe", "pyelli"]).is(0).stdout.clone();
    for words in ["stopped", "last activity at", "nothing: it is off"] {
        assert!(shown.contains(words), "{words:?} is not in {shown}");
    }
    local.run(&["probe", "plain"]).complains(2, &["no idle policy"]);
    local.run(&["probe", "pyeli"]).complains(2, &["did you mean", "pyelli"]);
}

#[test]
fn a_host_is_asked_once_and_its_word_keeps_one_machine_on_and_stops_the_other() {
    let policy = "command = { script = \"pgrep -x render\", reads = \"exit-code\" }";
    let hosts = "[local.machines.busy]\nhost_exit = 1\n[local.machines.free]\nhost_exit = 0\n";
    let fleet = fleet(&[target("busy", 1, policy), target("free", 2, policy)]) + hosts;
    let local = Local::with_fleet(&fleet, &[]);
    for name in ["busy", "free"] {
        local.run(&["send", "start", name, "--wait"]).is(0);
    }
    assert_eq!(local.count("ssm:SendCommand"), 0, "nobody has asked yet");
    let answer = check_idle(&local, "busy");
    assert_eq!(answer["stopped"], json!(false), "{answer}");
    let message = answer["message"].as_str().expect("a message");
    assert!(message.contains("its command exited with 1"), "{message}");
    // Its word begins the count, so nothing is stopped yet; two seconds later its own look ends it.
    let answer = check_idle(&local, "free");
    assert_eq!(answer["stopped"], json!(false), "{answer}");
    let message = answer["message"].as_str().expect("a message");
    assert!(message.contains("its command exited with 0"), "{message}");
    eventually("the one that is free is off", || {
        (local.json(&["status", "free"])["phase"] == "off").then_some(())
    });
    assert_eq!(local.machine("i-00000002")["state"], "stopped");
    assert_eq!(local.machine("i-00000001")["state"], "running");
    assert_eq!(local.json(&["status", "busy"])["phase"], "on");
    let told = local.run(&["history", "free"]).is(0).stdout.clone();
    assert!(told.contains("its command exited with 0"), "{told}");
    let calls = local.control("GET", "calls", "");
    let of = |operation: &str| {
        let calls = calls["calls"].as_array().into_iter().flatten();
        let of_it = calls.filter(|call| call["operation"] == operation);
        of_it.map(|call| call["target"].clone()).collect::<Vec<Value>>()
    };
    assert_eq!(of("SendCommand"), [json!("i-00000001"), json!("i-00000002")], "one question each");
    assert_eq!(of("StopInstances"), [json!("i-00000002")]);
}
