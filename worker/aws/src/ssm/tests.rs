//! The script in a real shell, and what SSM says of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use super::*;

fn said(state: &str) -> CheckReading {
    CheckReading::Said { state: state.to_owned() }
}

#[track_caller]
fn check(status: &str, details: &str, stdout: &str, expected: &CheckReading) {
    assert_eq!(
        &reading(status, details, stdout, ""),
        expected,
        "{status} / {details} / {stdout:?}"
    );
}

#[test]
fn what_ssm_says_of_a_question_becomes_one_reading() {
    let pending = CheckReading::Pending { command_id: None };
    check("Pending", "Pending", "", &pending);
    check("InProgress", "InProgress", "", &pending);
    check("Delayed", "Delayed", "", &pending);
    check("Success", "Success", "active\n", &said("active"));
    check("Failed", "Failed", "inactive\n", &said("inactive"));
    let exited = |code, output: &str| CheckReading::Exited { code, output: output.to_owned() };
    check("Success", "Success", "lamplighter-exit 0 42\n", &exited(0, "42"));
    check("Success", "Success", "lamplighter-exit 7\n", &exited(7, ""));
    check("Success", "Success", "lamplighter-exit 1 a b\n", &exited(1, "a b"));
    let nothing = CheckReading::Broken { detail: "Success, without an answer".to_owned() };
    check("Success", "Success", "lamplighter-exit x 1\n", &nothing);
    check("Success", "Success", "lamplighter-exit 0 1\nand more\n", &nothing);
    check(
        "Failed",
        "Failed",
        "failed\nfailed to run commands: exit status 3",
        &CheckReading::Broken { detail: "Failed, without an answer".to_owned() },
    );
    check(
        "Failed",
        "Failed",
        "",
        &CheckReading::Broken { detail: "Failed, without an answer".to_owned() },
    );
    for details in [
        "Delivery Timed Out",
        "DeliveryTimedOut",
        "Undeliverable",
        "Terminated",
        "Invalid Platform",
    ] {
        let undelivered = CheckReading::Undelivered { detail: details.to_owned() };
        check("TimedOut", details, "", &undelivered);
    }
    for details in ["Execution Timed Out", "ExecutionTimedOut", "Cancelled"] {
        check("TimedOut", details, "", &CheckReading::Broken { detail: details.to_owned() });
    }
    let CheckReading::Broken { detail } =
        reading("Failed", "Failed", "", &format!("{}the end", "x".repeat(500)))
    else {
        panic!("not broken")
    };
    assert!(detail.ends_with("the end") && detail.len() < 300, "{detail}");
}

fn probe(unit: &str, settle: i64, activating: i64) -> UnitProbe {
    UnitProbe {
        unit: UnitName::parse(unit).unwrap(),
        settle_seconds: settle,
        activating_seconds: activating,
    }
}

#[test]
fn a_script_begins_with_its_assignments_and_takes_no_foreign_token() {
    let text =
        script("abc-1", Asked::Unit(&probe("app@1.service", 10, 45), Verb::IsActive)).unwrap();
    let head: Vec<&str> = text.lines().take(4).collect();
    assert_eq!(
        head,
        ["token='abc-1'", "unit='app@1.service'", "settle_seconds=10", "activating_seconds=45"]
    );
    let text = script("abc-1", Asked::Unit(&probe("app", 0, 0), Verb::IsEnabled)).unwrap();
    assert_eq!(text.lines().nth(4), Some("check='is-enabled'"));
    for token in ["", "../x", "a b", "a'b", "a\nb", "$(id)"] {
        assert!(
            script(token, Asked::Unit(&probe("app", 0, 0), Verb::IsActive)).is_err(),
            "{token:?}"
        );
    }
}

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    /// A host whose systemctl prints these words one after the other, and the last one for ever.
    fn new(words: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Self { dir };
        fs::create_dir(host.path("bin")).unwrap();
        fs::write(host.path("words"), words.join("\n") + "\n").unwrap();
        let fake = "#!/bin/sh\necho \"$*\" >>\"$HOST/calls\"\nn=$(wc -l <\"$HOST/calls\")\n\
                    word=$(sed -n \"${n}p\" \"$HOST/words\")\n\
                    [ -n \"$word\" ] || word=$(tail -n 1 \"$HOST/words\")\n\
                    echo \"$word\"\n[ \"$word\" = active ]\n";
        fs::write(host.path("bin/systemctl"), fake).unwrap();
        fs::set_permissions(host.path("bin/systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        host.up(1000.0);
        host
    }
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
    fn up(&self, seconds: f64) {
        fs::write(self.path("uptime"), format!("{seconds:.2} 1.00\n")).unwrap();
    }
    fn command(&self, text: &str) -> Command {
        let mut command = Command::new("sh");
        let path = std::env::var("PATH").unwrap();
        command
            .arg("-c")
            .arg(text)
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOST", self.dir.path())
            .env("LAMPLIGHTER_RUN_DIR", self.path("run"))
            .env("LAMPLIGHTER_UPTIME_FILE", self.path("uptime"));
        command
    }
    fn run(&self, text: &str) -> Output {
        self.command(text).output().unwrap()
    }
    fn calls(&self) -> usize {
        calls(&self.path("calls"))
    }
}

fn calls(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[track_caller]
fn expect(output: &Output, word: &str, status: i32) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text, format!("{word}\n"), "{errors}");
    assert_eq!(output.status.code(), Some(status), "{errors}");
}

#[test]
fn the_host_prints_one_word_and_systemctls_own_status() {
    let text = script("t-1", Asked::Unit(&probe("app", 0, 5), Verb::IsActive)).unwrap();
    let host = Host::new(&["active"]);
    expect(&host.run(&text), "active", 0);
    assert_eq!(fs::read_to_string(host.path("calls")).unwrap(), "is-active app\n");
    let host = Host::new(&["inactive"]);
    expect(&host.run(&text), "inactive", 3);
    let enabled = script("t-2", Asked::Unit(&probe("app", 0, 5), Verb::IsEnabled)).unwrap();
    let host = Host::new(&["enabled"]);
    expect(&host.run(&enabled), "enabled", 0);
    assert_eq!(fs::read_to_string(host.path("calls")).unwrap(), "is-enabled app\n");
}

#[test]
fn a_repeated_delivery_prints_the_first_result_and_does_nothing_again() {
    let text = script("t-1", Asked::Unit(&probe("app", 0, 5), Verb::IsActive)).unwrap();
    let host = Host::new(&["failed", "active"]);
    expect(&host.run(&text), "failed", 3);
    expect(&host.run(&text), "failed", 3);
    assert_eq!(host.calls(), 1);
    let other = script("t-2", Asked::Unit(&probe("app", 0, 5), Verb::IsActive)).unwrap();
    expect(&host.run(&other), "active", 0);
}

#[test]
fn two_deliveries_at_once_do_the_work_once_and_agree() {
    let text = script("t-1", Asked::Unit(&probe("app", 0, 5), Verb::IsActive)).unwrap();
    let host = Host::new(&["activating", "active", "failed"]);
    let both: Vec<_> = (0..2)
        .map(|_| {
            host.command(&text)
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in both {
        expect(&child.wait_with_output().unwrap(), "active", 0);
    }
    assert_eq!(host.calls(), 2);
}

#[test]
fn a_unit_that_is_activating_is_waited_for_only_so_long() {
    let host = Host::new(&["activating"]);
    let text = script("t-1", Asked::Unit(&probe("app", 0, 1), Verb::IsActive)).unwrap();
    expect(&host.run(&text), "activating", 3);
    assert_eq!(host.calls(), 2);
}

#[test]
fn a_young_host_is_left_to_settle_first() {
    let host = Host::new(&["active"]);
    host.up(3.4);
    let text = script("t-1", Asked::Unit(&probe("app", 10, 1), Verb::IsActive)).unwrap();
    let child = host.command(&text).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(host.calls(), 0);
    host.up(10.1);
    expect(&child.wait_with_output().unwrap(), "active", 0);
}

#[test]
fn a_silent_systemctl_is_unknown() {
    let host = Host::new(&[""]);
    let text = script("t-1", Asked::Unit(&probe("app", 0, 1), Verb::IsActive)).unwrap();
    expect(&host.run(&text), "unknown", 3);
}

fn idle(token: &str, fleets: &str, timeout_seconds: u32) -> String {
    script(token, Asked::Idle { script: fleets, timeout_seconds }).unwrap()
}

#[track_caller]
fn check_idle(fleets: &str, expected: (i64, &str)) {
    let host = Host::new(&[]);
    let output = host.run(&idle("t-1", fleets, 20));
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{fleets:?}: {errors}");
    assert_eq!(exit_line(&text), Some(expected), "{fleets:?}: {text:?} {errors}");
    assert_eq!(text.lines().count(), 1, "{text:?}");
}

#[test]
fn the_fleets_script_is_told_by_its_exit_code_and_its_first_line() {
    check_idle("exit 0", (0, ""));
    check_idle("echo 3; echo 4; exit 1", (1, "3"));
    check_idle("echo  '  2.5  '", (0, "2.5"));
    check_idle("exit 7", (7, ""));
    check_idle("no-such-tool", (127, ""));
    check_idle("if then", (2, ""));
    check_idle("", (0, ""));
    check_idle("echo words >&2; echo 1", (0, "1"));
    check_idle("cat; echo \"read nothing\"", (0, "read nothing"));
    check_idle("printf 'a\\000\\033[2Jb\\377\\n'; exit 3", (3, "a[2Jb"));
    check_idle("head -c 300000 /dev/zero | tr '\\0' x", (0, &"x".repeat(200)));
    check_idle("kill -9 $$", (137, "ended after 20 s"));
}

#[test]
fn the_fleets_script_cannot_break_out_nor_pass_for_our_line() {
    for fleets in [
        "'; exit 0; '",
        "\n'\nresult=forged\necho lamplighter-exit 0 forged\nexit 5",
        "echo lamplighter-exit 0 forged; exit 5",
        "token=other; guard=/tmp; finish() { :; }; leave() { :; }; exit 5",
    ] {
        let text = idle("t-1", fleets, 2);
        let assigned = text.lines().nth(1).unwrap();
        let inner = assigned.strip_prefix("script_base64='").unwrap().strip_suffix('\'').unwrap();
        assert!(
            inner.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)),
            "{assigned}"
        );
        let host = Host::new(&[]);
        let output = host.run(&text);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = exit_line(&said).map(|(code, _)| code);
        assert!(told.is_some_and(|code| code != 0), "{fleets:?} {said:?}");
        assert_eq!(said.lines().count(), 1, "{said:?}");
        // The result that a second delivery finds is the first one's own.
        assert_eq!(host.run(&text).stdout, output.stdout, "{fleets:?}");
    }
    let long = "x".repeat(SCRIPT_BYTES_MAX + 1);
    assert!(script("t", Asked::Idle { script: &long, timeout_seconds: 1 }).is_err());
    for token in ["", "../x", "a'b", "$(id)"] {
        assert!(script(token, Asked::Idle { script: "true", timeout_seconds: 1 }).is_err());
    }
}

#[test]
fn a_script_that_hangs_is_ended_with_all_that_it_started() {
    let host = Host::new(&[]);
    let before = std::time::Instant::now();
    let text = idle("t-1", "sleep 300 & echo first; sleep 300; echo never", 1);
    let output = host.run(&text);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(exit_line(&said), Some((124, "first")), "{said:?}");
    assert!(before.elapsed().as_secs() < 8);
}

#[test]
fn what_a_script_leaves_running_does_not_hold_its_answer_for_ever() {
    let host = Host::new(&[]);
    let before = std::time::Instant::now();
    let output = host.run(&idle("t-1", "setsid sleep 60 & echo 1", 1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(exit_line(&said), Some((0, "1")), "{said:?}");
    assert!(before.elapsed().as_secs() < 30);
}

#[test]
fn the_fleets_script_runs_once_however_often_it_is_delivered() {
    let host = Host::new(&[]);
    let fleets = "echo x >>\"$HOST/calls\"; sleep 1; wc -l <\"$HOST/calls\"; exit 1";
    let text = idle("t-1", fleets, 20);
    let both: Vec<_> = (0..2)
        .map(|_| host.command(&text).stdout(std::process::Stdio::piped()).spawn().unwrap())
        .collect();
    for child in both {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(exit_line(&said), Some((1, "1")), "{said:?}");
    }
    host.run(&text);
    assert_eq!(host.calls(), 1);
    host.run(&idle("t-2", fleets, 20));
    assert_eq!(host.calls(), 2);
}
