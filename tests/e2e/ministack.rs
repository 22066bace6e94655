//! The same worker against another team's emulator, reached by `AWS_ENDPOINT_URL` alone.
//!
//! *Theory.* What our own endpoint does not notice, since it shares our reading of AWS, another team's
//! may: names that are too short, answers in another form. `ministack` (PyPI, pinned in
//! `tests/requirements.txt`) has SQS, DynamoDB, EC2 and EventBridge's rules. It lacks two things on
//! purpose of ours: its machines change state without an event, so the worker polls; and without a
//! container behind them they have no SSM agent, so a start with a unit fails by its right cause.
//!
//! `LAMPLIGHTER_TEST_PYTHON` names a Python that has it, as `scripts/test` provides; a test without it
//! says that it is skipped.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use aws_sdk_ec2::types::InstanceStateName;
use serde_json::Value;

use crate::harness::{Answer, Process, eventually, lamplighter, sdk_of};

pub(crate) struct Ministack {
    worker: Option<Process>,
    _server: Process,
    pub(crate) endpoint: String,
    folder: tempfile::TempDir,
    /// Of the targets `plain` and `with-unit`.
    pub(crate) machines: [String; 2],
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

impl Ministack {
    /// The emulator with two stopped machines and a fleet of them; `None` where there is no Python.
    fn start() -> Option<Self> {
        Self::start_with(&["-m", "ministack"], "")
    }

    /// Started by these arguments of Python, with something more in the fleet file.
    fn start_with(python_arguments: &[&str], more: &str) -> Option<Self> {
        let Some(python) = std::env::var_os("LAMPLIGHTER_TEST_PYTHON") else {
            eprintln!("skipped: LAMPLIGHTER_TEST_PYTHON is not set (scripts/test sets it)");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let mut command = Command::new(PathBuf::from(python));
        command
            .args(python_arguments)
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("TMPDIR", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let server = Process::spawn(command, &folder.path().join("ministack.log"));
        let endpoint = format!("http://127.0.0.1:{port}");
        eventually("ministack listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
        });
        let machines = [stopped_machine(&endpoint), stopped_machine(&endpoint)];
        let fleet = format!(
            "[targets.plain]\nkind = \"ec2-instance\"\ninstance_id = \"{}\"\nsettle = \"1s\"\n\
             poll = \"1s\"\n\n[targets.with-unit]\nkind = \"ec2-instance\"\ninstance_id = \"{}\"\n\
             systemd_unit = \"keeper\"\npoll = \"1s\"\nstart_timeout = \"3s\"\nready_timeout = \"3s\"\n{more}",
            machines[0], machines[1]
        );
        std::fs::write(folder.path().join("lamplighter.toml"), fleet).expect("the fleet file");
        Some(Self { worker: None, _server: server, endpoint, folder, machines })
    }

    /// Set up, and with a worker.
    fn working() -> Option<Self> {
        Self::working_with(&["-m", "ministack"], "")
    }

    /// As [`Ministack::start_with`], set up, and with a worker.
    pub(crate) fn working_with(python_arguments: &[&str], more: &str) -> Option<Self> {
        let mut stack = Self::start_with(python_arguments, more)?;
        stack.run(&["setup"]).is(0);
        let mut command = stack.command();
        command.args(["run", "--unknown-wait", "off"]).stdout(Stdio::null());
        stack.worker = Some(Process::spawn(command, &stack.folder.path().join("worker.log")));
        Some(stack)
    }

    fn command(&self) -> Command {
        let mut command = lamplighter();
        command
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("LAMPLIGHTER_FLEET", self.folder.path().join("lamplighter.toml"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.command().args(arguments))
    }

    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).json()
    }

    /// EC2's own word.
    pub(crate) fn state(&self, machine: &str) -> InstanceStateName {
        on_its_own(async {
            let ec2 = aws_sdk_ec2::Client::new(&sdk_of(&self.endpoint).await);
            let answer = ec2.describe_instances().instance_ids(machine).send().await;
            answer
                .expect("EC2 describes it")
                .reservations()
                .iter()
                .flat_map(|reservation| reservation.instances())
                .find_map(|instance| instance.state()?.name().cloned())
                .expect("a machine has a state")
        })
    }

    pub(crate) fn reasons(&self) -> Vec<String> {
        let letters = self.json(&["dlq", "list"]);
        let list = letters.as_array().cloned().unwrap_or_default();
        let mut reasons: Vec<String> =
            list.iter().filter_map(|letter| letter["reason"].as_str().map(str::to_owned)).collect();
        reasons.sort();
        reasons
    }
}

pub(crate) fn on_its_own<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

fn stopped_machine(endpoint: &str) -> String {
    on_its_own(async {
        let ec2 = aws_sdk_ec2::Client::new(&sdk_of(endpoint).await);
        let launch = ec2.run_instances().image_id("ami-12345678").min_count(1).max_count(1);
        let launched = launch.send().await.expect("EC2 launches a machine");
        let machine = launched.instances().first().and_then(|it| it.instance_id());
        let machine = machine.expect("a machine has an id").to_owned();
        ec2.stop_instances().instance_ids(&machine).send().await.expect("EC2 stops it");
        machine
    })
}

#[test]
fn setup_makes_everything_there_and_a_second_one_finds_it() {
    let Some(stack) = Ministack::start() else { return };
    let first = stack.run(&["setup"]);
    assert!(first.is(0).stdout.contains("created"), "{}", first.stdout);
    let second = stack.run(&["setup"]);
    assert!(!second.is(0).stdout.contains("created"), "{}", second.stdout);
    assert!(!second.stdout.contains("updated"), "{}", second.stdout);
}

#[test]
fn a_machine_there_is_started_once_and_stopped_by_polling_alone() {
    let Some(stack) = Ministack::working() else { return };
    let machine = &stack.machines[0];
    let start = ["send", "start", "plain", "--holder", "me", "--id", "one", "--wait"];
    let first = stack.json(&start);
    assert_eq!(first["outcome"], "done", "{first}");
    assert_eq!(stack.state(machine), InstanceStateName::Running);
    assert_eq!(stack.json(&start), first);

    let status = stack.json(&["status", "plain"]);
    assert_eq!(status["phase"], "on");
    assert_eq!(status["instance"], machine.as_str());
    assert_eq!(status["ec2_state"], "running");
    assert!(stack.run(&["why", "plain"]).is(0).stdout.contains("held by me"));

    let stop = stack.json(&["send", "stop", "plain", "--holder", "me", "--wait"]);
    assert_eq!(stop["outcome"], "done", "{stop}");
    assert_eq!(stack.state(machine), InstanceStateName::Stopped);
    let history = stack.run(&["history", "plain"]);
    let told = &history.is(0).stdout;
    assert_eq!(told.matches("StartInstances").count(), 1, "{told}");
    assert_eq!(told.matches("StopInstances").count(), 1, "{told}");
}

#[test]
fn without_an_agent_there_a_start_with_a_unit_fails_as_agent_unreachable_and_is_wound_down() {
    let Some(stack) = Ministack::working() else { return };
    let answer = stack.run(&["send", "start", "with-unit", "--wait", "--json"]);
    let outcome = answer.is(1).json();
    assert_eq!(outcome["outcome"], "failed");
    assert_eq!(outcome["cause"], "agent-unreachable", "{outcome}");
    eventually("nothing stays on for a failed start", || {
        (stack.state(&stack.machines[1]) == InstanceStateName::Stopped).then_some(())
    });
}

#[test]
fn poison_there_is_a_dead_letter_with_its_reason_and_can_be_replayed() {
    let Some(stack) = Ministack::working() else { return };
    on_its_own(async {
        let sqs = aws_sdk_sqs::Client::new(&sdk_of(&stack.endpoint).await);
        let found = sqs.get_queue_url().queue_name("lamplighter-commands").send().await;
        let found = found.expect("setup made the queue");
        let url = found.queue_url().expect("a queue has a URL");
        for body in ["not json", r#"{"action":"start","target":"nobody","id":"lost"}"#] {
            let sent = sqs.send_message().queue_url(url).message_body(body).send().await;
            sent.expect("SQS takes the message");
        }
    });
    let expected = ["not-json", "unknown-target"];
    eventually("both are dead letters", || (stack.reasons() == expected).then_some(()));
    let outcome = stack.run(&["outcome", "lost", "--json"]);
    assert_eq!(outcome.is(1).json()["outcome"], "rejected");
    let replay = stack.json(&["dlq", "replay", "--reason", "unknown-target"]);
    assert_eq!(replay["replayed"], 1, "{replay}");
    eventually("it is no better now", || (stack.reasons() == expected).then_some(()));
}

/// ministack's EC2 sends no state changes, and its bus takes none from us (as AWS's): a look finds out.
#[test]
fn a_machine_that_was_stopped_outside_there_is_found_out_by_the_next_look() {
    let Some(stack) = Ministack::working() else { return };
    let machine = &stack.machines[0];
    stack.run(&["send", "start", "plain", "--wait"]).is(0);
    on_its_own(async {
        let ec2 = aws_sdk_ec2::Client::new(&sdk_of(&stack.endpoint).await);
        ec2.stop_instances().instance_ids(machine).send().await.expect("EC2 stops it");
    });
    stack.run(&["send", "status", "plain", "--wait"]).is(0);
    eventually("the worker knows that it is off", || {
        (stack.json(&["status", "plain"])["phase"] == "off").then_some(())
    });
    assert!(stack.run(&["history", "plain"]).is(0).stdout.contains("outside"));
}
