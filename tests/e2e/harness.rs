//! The binary as its users run it: processes, sockets, exit codes, and nothing of its insides.
//!
//! Every test brings its own endpoint on a free port and its own directory; nothing is shared, and
//! nothing outlives the test (`Drop` kills what still runs).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A fleet whose machines are quick, so that a test takes seconds.
pub(crate) const FLEET: &str = r#"
[targets.position-keeper]
kind = "ec2-instance"
instance_id = "i-01f5d046c86e4f36e"
systemd_unit = "positionkeeper"
exclusive = true
settle = "1s"
poll = "1s"

[targets.pyelli]
kind = "ec2-instance"
instance_id = "i-0abc123def456"
settle = "1s"
poll = "1s"

[targets.render-box]
kind = "ec2-instance"
instance_id = { secret = "render", key = "RENDER_INSTANCE" }
systemd_unit = "renderer"
settle = "1s"
poll = "1s"

[local]
boot = "500ms"
agent = "300ms"
stop = "300ms"

[local.machines.render-box.units.renderer]
after_boot = "failed"
"#;

/// A template whose machines are quick, to be put behind [`FLEET`] or before it.
pub(crate) const TEMPLATE: &str = r#"
[templates.walrus]
kind = "ec2-template"
launch_template = "lt-0123456789abcdef0"
bootstrap = "walrus"
limit = 3
max_lifetime = "1h"
price_per_hour = 36.0
poll = "1s"

[local.launch_templates.lt-0123456789abcdef0]
boot = "500ms"
agent = "500ms"
bootstrap = "1s"
stop = "300ms"
"#;

/// How long a test waits for something that takes a second or two on an idle machine. It bounds a test that
/// would hang, and says nothing about speed: on a loaded machine the same takes many times as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    // target/<profile>/deps/<test>, or target/<profile>/bench
    let binary = test.ancestors().skip(1).take(2).map(|folder| folder.join("lamplighter"));
    let binary = binary.into_iter().find(|binary| binary.is_file());
    binary.expect("the binary is built: cargo build --workspace")
}

/// The binary without anything of the caller's environment that it reads.
pub(crate) fn lamplighter() -> Command {
    let mut command = Command::new(binary());
    command.env_clear();
    for kept in ["PATH", "HOME", "TMPDIR", "CARGO_LLVM_COV"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    // The mark by which the test script finds what a test left behind.
    for (name, value) in std::env::vars().filter(|(name, _)| name == "LAMPLIGHTER_TEST_RUN") {
        command.env(name, value);
    }
    command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .stdin(Stdio::null());
    command
}

/// A process that is killed when the test ends.
pub(crate) struct Process {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn spawn(mut command: Command, log: &Path) -> Self {
        let file = std::fs::File::create(log).expect("a log file");
        let child = command.stderr(file).spawn().expect("the binary starts");
        Self { child, log: log.to_owned() }
    }
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
    /// Where a door of its own listens, as its log says.
    pub(crate) fn listens_on(&self) -> String {
        eventually("the door is open", || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("the door is open"))?;
            let line: Value = serde_json::from_str(line).ok()?;
            line["address"].as_str().map(str::to_owned)
        })
    }
    /// The memory that it holds beside its own file, which is shared and can be dropped; `None` where
    /// there is no /proc.
    pub(crate) fn anonymous_kb(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }
    pub(crate) fn wait(&mut self) -> i32 {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("it did not end; its log:\n{}", self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// `lamplighter local`, ready.
pub(crate) struct Local {
    pub(crate) process: Process,
    pub(crate) endpoint: String,
    pub(crate) queue: String,
    pub(crate) door: String,
    pub(crate) folder: tempfile::TempDir,
    fleet: PathBuf,
}

impl Local {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::with_fleet(FLEET, arguments)
    }

    pub(crate) fn with_fleet(fleet: &str, arguments: &[&str]) -> Self {
        Self::with_env(fleet, &[], arguments)
    }

    /// With these variables beside what every run gets; a restart is without them.
    pub(crate) fn with_env(fleet: &str, env: &[(&str, &str)], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("lamplighter.toml");
        std::fs::write(&path, fleet).expect("the fleet file");
        Self::on(folder, path, env, arguments)
    }

    fn on(
        folder: tempfile::TempDir,
        fleet: PathBuf,
        env: &[(&str, &str)],
        arguments: &[&str],
    ) -> Self {
        let mut command = lamplighter();
        command.envs(env.iter().copied());
        command.args(["local", "--fleet"]).arg(&fleet).args(arguments);
        if !arguments.contains(&"--aws-port") {
            command.args(["--aws-port", "0"]);
        }
        if !arguments.contains(&"--http-port") {
            command.args(["--http-port", "0"]);
        }
        command.stdout(Stdio::piped());
        let mut process = Process::spawn(command, &folder.path().join("local.log"));
        let stdout = process.child.stdout.take().expect("a piped stdout");
        let (lines, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let (mut endpoint, mut queue, mut door) = (None, None, None);
        loop {
            let line = said.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                panic!("`lamplighter local` was never ready; its log:\n{}", process.log())
            });
            if let Some(url) = line.strip_prefix("endpoint") {
                endpoint = Some(url.trim().to_owned());
            } else if let Some(url) = line.strip_prefix("queue") {
                queue = Some(url.trim().to_owned());
            } else if let Some(url) = line.strip_prefix("page") {
                door = Some(url.trim().to_owned());
            } else if line.starts_with("ready") {
                break;
            }
        }
        Self {
            process,
            endpoint: endpoint.expect("it prints its endpoint"),
            queue: queue.expect("it prints its queue"),
            door: door.expect("it prints the address of its page"),
            folder,
            fleet,
        }
    }

    /// Ends it as Ctrl-C does, and starts it again on the same fleet and directory.
    pub(crate) fn restart(self, arguments: &[&str]) -> Self {
        self.restart_after("-INT", || {}, arguments)
    }

    /// Ends it by this signal, and starts it again when `meanwhile` is over.
    pub(crate) fn restart_after(
        mut self,
        signal: &str,
        meanwhile: impl FnOnce(),
        arguments: &[&str],
    ) -> Self {
        self.process.signal(signal);
        let code = self.process.wait();
        assert!(code == 0 || signal == "-KILL", "{}", self.process.log());
        meanwhile();
        Self::on(self.folder, self.fleet, &[], arguments)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = lamplighter();
        command
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("LAMPLIGHTER_FLEET", &self.fleet);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.command().args(arguments))
    }

    /// Runs with `--json` and reads what it printed.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let answer = self.run(&[arguments, &["--json"]].concat());
        answer.json()
    }

    /// A worker of its own against this endpoint.
    pub(crate) fn worker(&self, name: &str, arguments: &[&str]) -> Process {
        let mut command = self.command();
        command.arg("run").args(arguments).stdout(Stdio::null());
        // The tests' fleets change only where a test says so.
        if !arguments.contains(&"--unknown-wait") {
            command.args(["--unknown-wait", "off"]);
        }
        Process::spawn(command, &self.folder.path().join(format!("{name}.log")))
    }

    /// The door's address, without the token that stands in its page's.
    pub(crate) fn door_url(&self) -> &str {
        self.door.split("/#").next().unwrap_or_default()
    }

    pub(crate) fn fleet(&self) -> &Path {
        &self.fleet
    }

    /// The endpoint's own paths.
    #[track_caller]
    pub(crate) fn control(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, body) = http(&self.endpoint, method, &format!("/_lamplighter/{path}"), body);
        assert!(status < 300, "{method} {path}: {status} {body}");
        serde_json::from_str(&body).expect("the endpoint's own paths answer JSON")
    }

    /// How often an operation was called, by the endpoint's own count.
    pub(crate) fn count(&self, operation: &str) -> u64 {
        let counts = self.control("GET", "counts", "");
        counts[operation].as_u64().unwrap_or(0)
    }

    pub(crate) fn machine(&self, id: &str) -> Value {
        let machines = self.control("GET", "machines", "");
        let list = machines.get("machines").unwrap_or(&machines).as_array().cloned();
        list.unwrap_or_default()
            .into_iter()
            .find(|machine| machine["id"] == id)
            .unwrap_or_else(|| panic!("no machine {id} in {machines}"))
    }
}

impl Local {
    /// The outcome of a command, as soon as there is one.
    #[track_caller]
    pub(crate) fn outcome(&self, id: &str) -> Value {
        eventually(&format!("{id} has an outcome"), || {
            let answer = self.run(&["outcome", id, "--json"]);
            let outcome = answer.stdout.starts_with('{').then(|| answer.json())?;
            (!outcome["outcome"].is_null()).then_some(outcome)
        })
    }

    /// Sends and waits, whatever comes of it.
    #[track_caller]
    pub(crate) fn send(&self, arguments: &[&str]) -> Value {
        let answer = self.run(&[&["send"], arguments, &["--wait", "--json"]].concat());
        assert_ne!(answer.code, 2, "{}", answer.stderr);
        answer.json()
    }
}

/// What a command of ours said.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    pub(crate) fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().expect("the binary runs");
        Self {
            code: status.code().unwrap_or(-1),
            stdout: String::from_utf8(stdout).expect("its output is text"),
            stderr: String::from_utf8(stderr).expect("its errors are text"),
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {:?} {:?}", self.stdout, self.stderr))
    }

    #[track_caller]
    pub(crate) fn is(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The clear error: one that names these words, and shows no insides.
    #[track_caller]
    pub(crate) fn complains(&self, code: i32, words: &[&str]) {
        self.is(code);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in: {}", self.stderr);
        }
        for inside in ["panicked", "RUST_BACKTRACE", "SdkError", "DispatchFailure("] {
            assert!(!self.stderr.contains(inside), "{}", self.stderr);
        }
    }
}

/// One call of an AWS JSON service without its SDK. The endpoint reads the service from the scope.
pub(crate) fn aws_json(
    endpoint: &str,
    service: &str,
    operation: &str,
    body: &str,
) -> (u16, String) {
    let headers = format!(
        "X-Amz-Target: {operation}\r\n{}Content-Type: application/x-amz-json-1.1\r\n",
        scope(service)
    );
    request(endpoint, "POST", "/", &headers, body)
}

/// Tags a machine by EC2's own call.
pub(crate) fn tag(local: &Local, machine: &str, tags: &[(&str, &str)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut call = aws_sdk_ec2::Client::new(&sdk(local).await).create_tags().resources(machine);
        for (key, value) in tags {
            call = call.tags(aws_sdk_ec2::types::Tag::builder().key(*key).value(*value).build());
        }
        call.send().await.expect("EC2 takes the tags");
    });
}

/// One call of DynamoDB on the fleet's table.
#[track_caller]
pub(crate) fn table(local: &Local, operation: &str, mut request: Value) -> Value {
    request["TableName"] = "lamplighter".into();
    let operation = format!("DynamoDB_20120810.{operation}");
    let (status, answer) = aws_json(&local.endpoint, "dynamodb", &operation, &request.to_string());
    assert_eq!(status, 200, "{operation}: {answer}");
    serde_json::from_str(&answer).expect("DynamoDB answers JSON")
}

/// Gives a place of a template to somebody by hand.
#[track_caller]
pub(crate) fn seat(local: &Local, template: &str, target: &str) {
    let request = serde_json::json!({
        "Key": {"pk": {"S": format!("TEMPLATE#{template}")}, "sk": {"S": "SEATS"}},
        "UpdateExpression": "ADD seats :me",
        "ExpressionAttributeValues": {":me": {"SS": [target]}},
    });
    table(local, "UpdateItem", request);
}

/// One POST to an AWS REST service without its SDK.
pub(crate) fn aws_rest(endpoint: &str, service: &str, path: &str, body: &str) -> (u16, String) {
    let headers = format!("{}Content-Type: application/json\r\n", scope(service));
    request(endpoint, "POST", path, &headers, body)
}

fn scope(service: &str) -> String {
    format!(
        "Authorization: AWS4-HMAC-SHA256 Credential=test/20261120/us-east-1/{service}/aws4_request, \
         SignedHeaders=host, Signature=0\r\n"
    )
}

/// One plain HTTP request, for what no SDK speaks.
pub(crate) fn http(endpoint: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    request(endpoint, method, path, "Content-Type: application/json\r\n", body)
}

fn request(endpoint: &str, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let authority =
        endpoint.strip_prefix("http://").expect("a plain endpoint").trim_end_matches('/');
    let mut stream = TcpStream::connect(authority).expect("the endpoint listens");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\
         {headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("a request can be sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer comes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// Waits until `probe` has an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, probe)
}

/// For what takes longer than a few seconds on an idle machine.
#[track_caller]
pub(crate) fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Sends raw bodies as any SQS client does.
pub(crate) fn send_raw(local: &Local, bodies: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let sqs = aws_sdk_sqs::Client::new(&sdk(local).await);
        for body in bodies {
            sqs.send_message()
                .queue_url(&local.queue)
                .message_body(*body)
                .send()
                .await
                .expect("SQS takes the message");
        }
    });
}

/// Sends one raw body with message attributes, as any SQS client does; the message's id, by which a command
/// without an id of its own goes.
pub(crate) fn send_with(local: &Local, body: &str, attributes: &[(&str, &str)]) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let sqs = aws_sdk_sqs::Client::new(&sdk(local).await);
        let mut message = sqs.send_message().queue_url(&local.queue).message_body(body);
        for (name, value) in attributes {
            let value = aws_sdk_sqs::types::MessageAttributeValue::builder()
                .data_type("String")
                .string_value(*value)
                .build()
                .expect("a text has a type");
            message = message.message_attributes(*name, value);
        }
        let sent = message.send().await.expect("SQS takes the message");
        sent.message_id.expect("SQS names the message")
    })
}

/// PutMetricData, by the protocol that needs no library: one value, so many seconds ago.
#[track_caller]
pub(crate) fn put_metric(local: &Local, name: &str, value: f64, seconds_ago: u64) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let at = now.expect("a clock after 1970").as_secs() - seconds_ago;
    let form = format!(
        "Action=PutMetricData&Version=2010-08-01&Namespace=Fluidity&MetricData.member.1.MetricName={name}\
         &MetricData.member.1.Timestamp={at}&MetricData.member.1.Value={value}"
    );
    let headers =
        format!("{}Content-Type: application/x-www-form-urlencoded\r\n", scope("monitoring"));
    let (status, answer) = request(&local.endpoint, "POST", "/", &headers, &form);
    assert_eq!(status, 200, "{answer}");
}

/// How long a message that a worker had in hand when it died stays away. The product's minute would only
/// make a test longer.
pub(crate) fn set_visibility(local: &Local, seconds: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        aws_sdk_sqs::Client::new(&sdk(local).await)
            .set_queue_attributes()
            .queue_url(&local.queue)
            .attributes(
                aws_sdk_sqs::types::QueueAttributeName::VisibilityTimeout,
                seconds.to_string(),
            )
            .send()
            .await
            .expect("SQS takes the attribute");
    });
}

async fn sdk(local: &Local) -> aws_config::SdkConfig {
    sdk_of(&local.endpoint).await
}

/// An SDK's configuration for any plain endpoint.
pub(crate) async fn sdk_of(endpoint: &str) -> aws_config::SdkConfig {
    let http = aws_smithy_http_client::Builder::new().build_http();
    aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
        .http_client(http)
        .endpoint_url(endpoint)
        .region("us-east-1")
        .credentials_provider(aws_credential_types::Credentials::new(
            "test", "test", None, None, "test",
        ))
        .load()
        .await
}
