//! SSM: whether a machine's agent answers, and questions to its host.
//!
//! *Theory.* A question is some assignments, `guard.sh`, and a script that asks for a unit
//! (`unit_probe.sh`) or runs the fleet's own script (`idle_probe.sh`); the host prints one line. SendCommand
//! knows no token of its own, so ours stands in the comment (by which a question whose answer was lost is
//! found again) and in the script (which does its work once).
//!
//! *Invariants.* SendCommand is attempted once. Nothing becomes shell text that is not a checked unit
//! name, a checked token, a number or base64: the fleet's script is data to ours. Exit status 3 is an
//! answer ("not active"), not a failure.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::{InstanceInformationStringFilter, PingStatus};
use aws_smithy_types::retry::RetryConfig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use lamplighter_events::{Cause, InstanceId};
use lamplighter_lifecycle::{Agent, Bootstrap, CheckReading, Question, UnitName, UnitProbe};
use lamplighter_runtime::ports::{Applied, CallError, Clock, Disposition};

use crate::batch::{Each, Portion, Refused, Shared, apart, halves, in_order};
use crate::disposition::{ErrorCode, call_error, own_error};
use crate::ec2::names;
use crate::timeouts::act_timeouts;

const SEND: &str = "ssm:SendCommand";
const READ: &str = "ssm:GetCommandInvocation";
const LIST: &str = "ssm:ListCommands";
const GUARD: &str = include_str!("guard.sh");
const UNIT_PROBE: &str = include_str!("unit_probe.sh");
const IDLE_PROBE: &str = include_str!("idle_probe.sh");
const BOOTSTRAP: &str = include_str!("bootstrap.sh");
/// How the line begins by which the host says what the fleet's script came to.
const EXIT_MARK: &str = "lamplighter-exit ";
/// SSM takes 64 KiB of parameters in all; base64 makes four bytes of three.
const SCRIPT_BYTES_MAX: usize = 32 * 1024;
/// Beyond its own time: what `idle_probe.sh` leaves a script that will not end.
const KILL_SECONDS: i64 = 15;
const DOCUMENT: &str = "AWS-RunShellScript";
/// SSM's least: the record asks again under the same token when a question did not arrive.
const DELIVERY_SECONDS: i32 = 30;
/// Beyond the script's own waits: for the agent to pick it up and to report.
const EXECUTION_GRACE_SECONDS: i64 = 30;
/// A page of ListCommands at its largest.
const LIST_PAGE: i32 = 50;
/// A question is found by its token within minutes of being asked; 250 commands to one machine in that
/// time are not ours.
const LIST_PAGES_MAX: usize = 5;
/// What is kept of a script's error output.
const STDERR_CHARS_MAX: usize = 200;
/// Words that systemctl prints for `is-active` and `is-enabled`, and ours for silence.
const STATE_WORDS: &[&str] = &[
    "active",
    "reloading",
    "inactive",
    "failed",
    "activating",
    "deactivating",
    "maintenance",
    "refreshing",
    "unknown",
    "enabled",
    "enabled-runtime",
    "linked",
    "linked-runtime",
    "alias",
    "masked",
    "masked-runtime",
    "static",
    "indirect",
    "disabled",
    "generated",
    "transient",
    "bad",
    "not-found",
];

/// What the host is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    IsActive,
    IsEnabled,
}

/// The shared DescribeInstanceInformation.
pub(crate) struct Agents {
    pub(crate) client: Client,
}

impl Agents {
    async fn request(
        &self,
        ids: &[InstanceId],
        portion: Portion,
    ) -> Result<Each<InstanceId, Agent>, Refused> {
        let filter = InstanceInformationStringFilter::builder()
            .key("InstanceIds")
            .set_values(Some(ids.iter().map(ToString::to_string).collect()))
            .build()
            .map_err(|error| unusable(Self::OPERATION, error.to_string()))?;
        // What SSM leaves out never registered, or is stopped.
        let mut found: Each<InstanceId, Agent> =
            ids.iter().map(|id| (id.clone(), Ok(Agent::Unregistered))).collect();
        let mut heard = 0;
        let mut token: Option<String> = None;
        loop {
            let call = self
                .client
                .describe_instance_information()
                .filters(filter.clone())
                .max_results(LIST_PAGE)
                .set_next_token(token);
            let answer = match portion {
                Portion::Whole => call.send().await,
                Portion::Part => {
                    let once = aws_sdk_ssm::Config::builder().retry_config(RetryConfig::disabled());
                    call.customize().config_override(once).send().await
                }
            };
            let answer = answer.map_err(|error| Refused::of(Self::OPERATION, &error))?;
            for agent in answer.instance_information_list.unwrap_or_default() {
                let reading = match agent.ping_status {
                    Some(PingStatus::Online) => Agent::Online,
                    _ => Agent::Offline,
                };
                let id = agent.instance_id.and_then(|id| InstanceId::parse(&id).ok());
                if let Some(known) = id.and_then(|id| found.get_mut(&id)) {
                    *known = Ok(reading);
                    heard += 1;
                }
            }
            token = answer.next_token.filter(|token| !token.is_empty());
            // Each machine answers once; a token beyond that would be an endpoint's mistake.
            if token.is_none() || heard >= ids.len() {
                return Ok(found);
            }
        }
    }
}

#[async_trait]
impl Shared for Agents {
    type Item = InstanceId;
    type Answer = Agent;
    const OPERATION: &'static str = "ssm:DescribeInstanceInformation";
    /// One page.
    const ITEMS_MAX: usize = 50;

    /// One id that SSM does not take fails the whole call: it has no agent, and the others are asked again.
    async fn call(&self, items: Vec<InstanceId>) -> Vec<Result<Agent, CallError>> {
        let not_taken = |error: &CallError| error.cause == Cause::AgentUnreachable;
        let request =
            |ids: Vec<InstanceId>, portion| async move { self.request(&ids, portion).await };
        let mut answers = apart(&items, not_taken, names, halves, request).await;
        for answer in answers.values_mut() {
            if answer.as_ref().is_err_and(not_taken) {
                *answer = Ok(Agent::Unregistered);
            }
        }
        in_order(Self::OPERATION, &items, |id| answers.get(id).cloned())
    }
}

/// What a host is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked<'a> {
    /// How a unit is.
    Unit(&'a UnitProbe, Verb),
    /// What the fleet's script comes to.
    Idle { script: &'a str, timeout_seconds: u32 },
    /// To make itself ready.
    Bootstrap {
        bootstrap: &'a Bootstrap,
        parameters: &'a BTreeMap<String, String>,
        timeout_seconds: u32,
    },
}

impl<'a> Asked<'a> {
    pub(crate) fn of(question: &'a Question) -> Self {
        match question {
            Question::Unit(probe) => Self::Unit(probe, Verb::IsActive),
            Question::Idle { script, timeout_seconds } => {
                Self::Idle { script, timeout_seconds: *timeout_seconds }
            }
            Question::Bootstrap { bootstrap, parameters, timeout_seconds } => {
                Self::Bootstrap { bootstrap, parameters, timeout_seconds: *timeout_seconds }
            }
        }
    }

    /// How long the host may take over it.
    fn execution_seconds(self) -> i64 {
        EXECUTION_GRACE_SECONDS
            + match self {
                Self::Unit(probe, _) => {
                    probe.settle_seconds.max(0) + probe.activating_seconds.max(0)
                }
                Self::Idle { timeout_seconds, .. } | Self::Bootstrap { timeout_seconds, .. } => {
                    i64::from(timeout_seconds) + KILL_SECONDS
                }
            }
    }
}

/// The script for a host.
///
/// # Errors
/// Where a token is not ours: it becomes part of a path and of shell text.
pub(crate) fn script(token: &str, asked: Asked<'_>) -> Result<String, CallError> {
    let token_fits = !token.is_empty()
        && token.len() <= 64
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !token_fits {
        return Err(unusable(SEND, format!("the token {token:?} is not one of ours")));
    }
    let (probe, verb) = match asked {
        Asked::Unit(probe, verb) => (probe, verb),
        Asked::Idle { script, timeout_seconds } => {
            if script.len() > SCRIPT_BYTES_MAX {
                let words = format!(
                    "the idle policy's command has {} bytes: expected at most {SCRIPT_BYTES_MAX}",
                    script.len()
                );
                return Err(unusable(SEND, words));
            }
            let script = BASE64.encode(script);
            // `timeout 0` would be none.
            let timeout_seconds = timeout_seconds.max(1);
            return Ok(format!(
                "token='{token}'\nscript_base64='{script}'\ntimeout_seconds={timeout_seconds}\n\
                 {GUARD}{IDLE_PROBE}"
            ));
        }
        Asked::Bootstrap {
            bootstrap: Bootstrap::Script { name, script, check },
            parameters,
            timeout_seconds,
        } => {
            return bootstrap_script(token, (name, script, check), parameters, timeout_seconds);
        }
        Asked::Bootstrap { bootstrap: Bootstrap::Document { .. }, .. } => return Ok(String::new()),
    };
    // A `UnitName` cannot be anything else; a script that runs as root is worth a second look.
    let unit =
        UnitName::parse(probe.unit.as_str()).map_err(|error| unusable(SEND, error.to_string()))?;
    let check = match verb {
        Verb::IsActive => "",
        Verb::IsEnabled => "check='is-enabled'\n",
    };
    Ok(format!(
        "token='{token}'\nunit='{}'\nsettle_seconds={}\nactivating_seconds={}\n{check}{GUARD}{UNIT_PROBE}",
        unit.as_str(),
        probe.settle_seconds.max(0),
        probe.activating_seconds.max(0),
    ))
}

/// The script that runs a bootstrap. Parameters are its environment, in base64, and never shell text.
fn bootstrap_script(
    token: &str,
    (name, script, check): (&str, &str, &str),
    parameters: &BTreeMap<String, String>,
    timeout_seconds: u32,
) -> Result<String, CallError> {
    let bytes = script.len() + check.len() + parameters.values().map(String::len).sum::<usize>();
    if bytes > SCRIPT_BYTES_MAX {
        let words = format!(
            "the bootstrap {name} has {bytes} bytes with its check and parameters: expected at most {SCRIPT_BYTES_MAX}"
        );
        return Err(unusable(SEND, words));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(unusable(SEND, format!("{name:?} is no bootstrap's name")));
    }
    let mut environment = String::new();
    for (parameter, value) in parameters {
        let name = environment_name(parameter)?;
        environment.push_str(&format!("{name}={}\n", BASE64.encode(value)));
    }
    Ok(format!(
        "token='{token}'\nbootstrap='{name}'\ntimeout_seconds={}\nenvironment_base64='{}'\n\
         script_base64='{}'\ncheck_base64='{}'\n{GUARD}{BOOTSTRAP}",
        timeout_seconds.max(1),
        BASE64.encode(environment),
        BASE64.encode(script),
        BASE64.encode(check),
    ))
}

/// `blob_id` is `LAMPLIGHTER_BLOB_ID` on the host: it can be none of the shell's own variables.
fn environment_name(parameter: &str) -> Result<String, CallError> {
    if parameter.is_empty() || !parameter.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(unusable(SEND, format!("{parameter:?} is no parameter's name")));
    }
    Ok(format!("LAMPLIGHTER_{}", parameter.to_ascii_uppercase()))
}

fn unusable(operation: &'static str, message: String) -> CallError {
    own_error(operation, Cause::Invalid, Disposition::Fail, Applied::No, message)
}

fn comment(token: &str) -> String {
    format!("lamplighter {token}")
}

/// Sends a question; SSM's id of it.
pub(crate) async fn send(
    client: &Client,
    clock: &Arc<dyn Clock>,
    instance: &InstanceId,
    token: &str,
    asked: Asked<'_>,
    act_by: Timestamp,
) -> Result<Option<String>, CallError> {
    let script = script(token, asked)?;
    let execution = asked.execution_seconds();
    let once = aws_sdk_ssm::Config::builder()
        .retry_config(RetryConfig::disabled())
        .timeout_config(act_timeouts(SEND, clock.now(), act_by)?);
    let call = client.send_command();
    let call = match asked {
        Asked::Bootstrap { bootstrap: Bootstrap::Document { name }, parameters, .. } => {
            let parameters = parameters
                .iter()
                .map(|(name, value)| (name.clone(), vec![value.clone()]))
                .collect();
            call.document_name(name).set_parameters(Some(parameters))
        }
        _ => call
            .document_name(DOCUMENT)
            .parameters("commands", vec![script])
            .parameters("executionTimeout", vec![execution.to_string()]),
    };
    let answer = call
        .instance_ids(instance.as_str())
        .timeout_seconds(DELIVERY_SECONDS)
        .comment(comment(token))
        .customize()
        .config_override(once)
        .send()
        .await
        .map_err(|error| call_error(SEND, &error))?;
    Ok(answer.command.and_then(|command| command.command_id))
}

/// What became of a question: by SSM's id, or else by its token.
pub(crate) async fn read_check(
    client: &Client,
    instance: &InstanceId,
    command_id: Option<&str>,
    token: &str,
) -> Result<CheckReading, CallError> {
    if let Some(id) = command_id {
        return Ok(invocation(client, instance, id).await?.unwrap_or(CheckReading::Absent));
    }
    match find(client, instance, token).await? {
        None => Ok(CheckReading::Absent),
        // SSM lists a command a moment before its invocation.
        Some(id) => Ok(match invocation(client, instance, &id).await? {
            None | Some(CheckReading::Pending { .. }) => {
                CheckReading::Pending { command_id: Some(id) }
            }
            Some(reading) => reading,
        }),
    }
}

async fn find(
    client: &Client,
    instance: &InstanceId,
    token: &str,
) -> Result<Option<String>, CallError> {
    let wanted = comment(token);
    let mut next: Option<String> = None;
    for _ in 0..LIST_PAGES_MAX {
        let answer = client
            .list_commands()
            .instance_id(instance.as_str())
            .max_results(LIST_PAGE)
            .set_next_token(next)
            .send()
            .await
            .map_err(|error| call_error(LIST, &error))?;
        let found = answer
            .commands
            .unwrap_or_default()
            .into_iter()
            .find(|command| command.comment.as_deref() == Some(&wanted));
        if let Some(id) = found.and_then(|command| command.command_id) {
            return Ok(Some(id));
        }
        next = answer.next_token.filter(|token| !token.is_empty());
        if next.is_none() {
            break;
        }
    }
    Ok(None)
}

async fn invocation(
    client: &Client,
    instance: &InstanceId,
    command_id: &str,
) -> Result<Option<CheckReading>, CallError> {
    use aws_sdk_ssm::error::ProvideErrorMetadata;
    let answer = client
        .get_command_invocation()
        .command_id(command_id)
        .instance_id(instance.as_str())
        .send()
        .await;
    match answer {
        // A document of the fleet's own knows nothing of our line.
        Ok(answer) if answer.document_name().is_some_and(|name| name != DOCUMENT) => {
            Ok(Some(document_reading(
                answer.status().map_or("", |status| status.as_str()),
                answer.status_details().unwrap_or_default(),
                i64::from(answer.response_code()),
                answer.standard_output_content().unwrap_or_default(),
                answer.standard_error_content().unwrap_or_default(),
            )))
        }
        Ok(answer) => Ok(Some(reading(
            answer.status().map_or("", |status| status.as_str()),
            answer.status_details().unwrap_or_default(),
            answer.standard_output_content().unwrap_or_default(),
            answer.standard_error_content().unwrap_or_default(),
        ))),
        Err(error) => match ErrorCode::parse(error.code(), 400) {
            ErrorCode::NoSuchCommand => Ok(None),
            _ => Err(call_error(READ, &error)),
        },
    }
}

/// SSM's status, its details and the script's output as one reading. SSM writes its details with and
/// without spaces, by operation.
fn reading(status: &str, details: &str, stdout: &str, stderr: &str) -> CheckReading {
    let said = if details.is_empty() { status } else { details };
    let plain: String = said.chars().filter(char::is_ascii_alphanumeric).collect();
    match plain.to_ascii_lowercase().as_str() {
        "pending" | "inprogress" | "delayed" | "cancelling" => {
            CheckReading::Pending { command_id: None }
        }
        "deliverytimedout" | "undeliverable" | "terminated" | "invalidplatform"
        | "accessdenied" => CheckReading::Undelivered { detail: said.to_owned() },
        "success" | "failed" => match (state_word(stdout), exit_line(stdout)) {
            (Some(word), _) => CheckReading::Said { state: word.to_owned() },
            (None, Some((code, output))) => {
                CheckReading::Exited { code, output: output.to_owned() }
            }
            (None, None) => broken(&format!("{said}, without an answer"), stderr),
        },
        _ => broken(said, stderr),
    }
}

/// What a document of the fleet's own came to: its exit code, and the last line that it printed.
fn document_reading(
    status: &str,
    details: &str,
    code: i64,
    stdout: &str,
    stderr: &str,
) -> CheckReading {
    match status {
        "Success" | "Failed" => {
            let failed = status == "Failed";
            let code = if failed { code.max(1) } else { 0 };
            let said = if failed && !stderr.trim().is_empty() { stderr } else { stdout };
            let line: String =
                last_line(said).unwrap_or("").chars().take(STDERR_CHARS_MAX).collect();
            CheckReading::Exited { code, output: line }
        }
        _ => reading(status, details, "", stderr),
    }
}

fn broken(said: &str, stderr: &str) -> CheckReading {
    let stderr = stderr.trim();
    let skipped = stderr.chars().count().saturating_sub(STDERR_CHARS_MAX);
    let end: String = stderr.chars().skip(skipped).collect();
    let detail = if end.is_empty() { said.to_owned() } else { format!("{said}: {end}") };
    CheckReading::Broken { detail }
}

fn last_line(stdout: &str) -> Option<&str> {
    stdout.lines().map(str::trim).rfind(|line| !line.is_empty())
}

fn state_word(stdout: &str) -> Option<&str> {
    last_line(stdout).filter(|word| STATE_WORDS.contains(word))
}

/// The exit code and the first line that `idle_probe.sh` reports.
fn exit_line(stdout: &str) -> Option<(i64, &str)> {
    let told = last_line(stdout)?.strip_prefix(EXIT_MARK)?;
    let (code, output) = told.split_once(' ').unwrap_or((told, ""));
    Some((code.parse().ok()?, output.trim()))
}

#[cfg(test)]
mod tests;
