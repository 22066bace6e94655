//! SSM: the agents on the machines, and the commands they run.
//!
//! An agent is online a while after its machine is running. A command that is sent is delivered once its
//! agent is online, or times out undelivered; it runs for a while, and its result is what the script says
//! of the machine at the moment it ends. `SendCommand` knows no idempotency token: each call delivers.
//!
//! **Scripts** are not run by a shell. The model reads lines of the project's own script format, at the
//! start of a line: `token='…'`, `unit='…'`, `settle_seconds=N`, `check='is-enabled'`. A script with a
//! unit does what `systemctl is-active UNIT` does (or `is-enabled`). One with `bootstrap='…'` is a bootstrap
//! (`bootstraps`). One with `script_base64='…'` alone, a script of
//! the fleet's, comes to what the machine's behaviour says. A script with a token does so once
//! for a machine and token, whose first result a repeat prints again; [`Commands::executions`] counts what
//! really ran. Any other script succeeds and prints nothing.
//!
//! **Documents** are AWS's own for shell scripts, and those that the world was given by name: each of them is
//! a bootstrap with the parameters given.
//!
//! Not here: targets by tag, rate controls, output in S3, sessions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bootstraps;
use crate::machines::{Machine, MachineState};
use crate::queue::plus;
pub use crate::scripts::DOCUMENT;
use crate::scripts::Script;
use crate::{ServiceFault, World};

/// How many commands are remembered; the oldest that ended are forgotten first.
pub const COMMANDS_MAX: usize = 5_000;

/// Why a call to SSM was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Some instances are not managed, or not running.
    #[error("Instances [[{}]] not in a valid state for account {account}", ids.join(", "))]
    InvalidInstanceId {
        /// Which.
        ids: Vec<String>,
        /// Whose.
        account: String,
    },
    /// The same instance twice.
    #[error("You cannot specify an instance ID in more than one association.")]
    DuplicateInstanceId,
    /// Another document.
    #[error("Document with name {0} does not exist.")]
    InvalidDocument(String),
    /// The document's parameters.
    #[error("{0}")]
    InvalidParameters(String),
    /// Another parameter.
    #[error("{0}")]
    Validation(String),
    /// No such command on that instance, or not yet.
    #[error("An invocation for this command and instance does not exist.")]
    InvocationDoesNotExist,
    /// No such command.
    #[error("Command {0} does not exist.")]
    InvalidCommandId(String),
}

impl ServiceFault for CommandError {
    fn code(&self) -> &'static str {
        match self {
            Self::InvalidInstanceId { .. } => "InvalidInstanceId",
            Self::DuplicateInstanceId => "DuplicateInstanceId",
            Self::InvalidDocument(_) => "InvalidDocument",
            Self::InvalidParameters(_) => "InvalidParameters",
            Self::Validation(_) => "ValidationException",
            Self::InvocationDoesNotExist => "InvocationDoesNotExist",
            Self::InvalidCommandId(_) => "InvalidCommandId",
        }
    }
}

/// How far an invocation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Progress {
    /// Not delivered.
    Pending,
    /// Running on the machine.
    InProgress,
    /// Ended with 0.
    Success,
    /// Ended with another code.
    Failed,
    /// Called off.
    Cancelled,
    /// Never reached the machine in time.
    DeliveryTimedOut,
    /// Did not end in time.
    ExecutionTimedOut,
}

impl Progress {
    /// The field `Status`.
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::InProgress => "InProgress",
            Self::Success => "Success",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::DeliveryTimedOut | Self::ExecutionTimedOut => "TimedOut",
        }
    }

    /// The field `StatusDetails`.
    #[must_use]
    pub fn details(self) -> &'static str {
        match self {
            Self::DeliveryTimedOut => "Delivery Timed Out",
            Self::ExecutionTimedOut => "Execution Timed Out",
            other => other.status(),
        }
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn ended(self) -> bool {
        !matches!(self, Self::Pending | Self::InProgress)
    }
}

/// One command on one machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Invocation {
    /// The machine.
    pub instance_id: String,
    /// How far it has come.
    pub progress: Progress,
    /// When it reached the machine.
    pub delivered: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
    /// The exit code, -1 before it has one.
    pub response_code: i64,
    completes_at: Option<Timestamp>,
    /// Which boot it runs in: a stop kills it.
    boot: Option<Timestamp>,
}

/// One command that was sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Command {
    /// Its id.
    pub id: String,
    /// The document.
    pub document: String,
    /// The document's parameters.
    pub parameters: BTreeMap<String, Vec<String>>,
    /// The sender's comment.
    pub comment: String,
    /// When it was sent.
    pub requested: Timestamp,
    /// When it is given up if it was not delivered.
    pub expires: Timestamp,
    /// How long it may run, in seconds.
    pub execution_seconds: i64,
    /// By machine.
    pub invocations: BTreeMap<String, Invocation>,
}

impl Command {
    /// How far the command as a whole has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let all = || self.invocations.values().map(|it| it.progress);
        if all().all(|it| it == Progress::Pending) {
            return Progress::Pending;
        }
        if all().any(|it| !it.ended()) {
            return Progress::InProgress;
        }
        // The worst wins; the order of the variants is that of badness among the ended.
        all().max().unwrap_or(Progress::Success)
    }
}

impl Command {
    /// Whether a machine's agent has it.
    #[must_use]
    pub fn reached(&self, instance_id: &str) -> bool {
        let invocation = self.invocations.get(instance_id);
        invocation.is_some_and(|invocation| invocation.progress != Progress::Pending)
    }
}

/// What SendCommand takes.
#[derive(Debug, Clone, Default)]
pub struct CommandSpec {
    /// The document's name or ARN.
    pub document: String,
    /// The machines.
    pub instance_ids: Vec<String>,
    /// The document's parameters.
    pub parameters: BTreeMap<String, Vec<String>>,
    /// At most 100 characters.
    pub comment: String,
    /// How long delivery may take, in seconds.
    pub timeout_seconds: Option<i64>,
}

/// An agent as DescribeInstanceInformation shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentView {
    /// The machine.
    pub instance_id: String,
    /// `Online` or `ConnectionLost`.
    pub online: bool,
    /// When it was last heard.
    pub last_ping: Timestamp,
    /// The address.
    pub private_ip: String,
    /// The machine's name.
    pub name: String,
}

/// All commands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Commands {
    commands: BTreeMap<u64, Command>,
    by_id: BTreeMap<String, u64>,
    /// Those with an invocation that has not ended.
    open: BTreeSet<u64>,
    next_seq: u64,
    /// Documents of the fleet's own, by name.
    #[serde(default)]
    documents: BTreeSet<String>,
    /// How often a script really ran, by token; `""` are those without.
    executions: BTreeMap<String, u64>,
}

impl Commands {
    /// One by id.
    pub fn get(&self, id: &str) -> Result<&Command, CommandError> {
        self.by_id
            .get(id)
            .and_then(|seq| self.commands.get(seq))
            .ok_or_else(|| CommandError::InvalidCommandId(id.to_owned()))
    }

    /// All, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Command> {
        self.commands.values().rev()
    }

    /// How often the script of this token really ran, over all machines.
    #[must_use]
    pub fn executions(&self, token: &str) -> u64 {
        self.executions.get(token).copied().unwrap_or(0)
    }

    /// [`Commands::executions`] of every token.
    #[must_use]
    pub fn all_executions(&self) -> &BTreeMap<String, u64> {
        &self.executions
    }

    /// Makes a document of the fleet's own: a bootstrap with the parameters that it is given.
    pub fn insert_document(&mut self, name: &str) {
        self.documents.insert(name.to_owned());
    }

    fn insert(&mut self, command: Command) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.by_id.insert(command.id.clone(), seq);
        self.open.insert(seq);
        self.commands.insert(seq, command);
        if self.commands.len() > COMMANDS_MAX {
            let oldest = self.commands.keys().find(|seq| !self.open.contains(*seq)).copied();
            if let Some(command) = oldest.and_then(|seq| self.commands.remove(&seq)) {
                self.by_id.remove(&command.id);
            }
        }
    }
}

/// What follows from a request that SSM takes.
struct Checked {
    document: String,
    execution_seconds: i64,
    timeout_seconds: i64,
}

impl World {
    /// Whether the agent of this machine is online.
    #[must_use]
    pub fn agent_online(&self, machine: &Machine) -> bool {
        !self.machines.zones_out.contains(&machine.zone)
            && machine.agent_online_at(self.timings.agent).is_some_and(|at| at <= self.clock())
    }

    /// The agents of running machines that ever registered, in the order of their machines' ids: DescribeInstanceInformation
    /// leaves stopped machines out. An id that is none of the account's fails the whole call.
    pub fn describe_agents(
        &mut self,
        now: Timestamp,
        ids: &[String],
    ) -> Result<Vec<AgentView>, CommandError> {
        let now = self.at(now);
        let unknown = |id: &&String| {
            self.machines.get(id).is_none_or(|it| it.state() == MachineState::Terminated)
        };
        let unknown: Vec<String> = ids.iter().filter(unknown).cloned().collect();
        if !unknown.is_empty() {
            let account = self.account.clone();
            return Err(CommandError::InvalidInstanceId { ids: unknown, account });
        }
        let agents = self
            .machines
            .iter()
            .filter(|machine| ids.is_empty() || ids.contains(&machine.id))
            .filter(|machine| machine.state() == MachineState::Running)
            .filter_map(|machine| {
                let online = self.agent_online(machine);
                let known = online || machine.agent_registered;
                known.then(|| AgentView {
                    instance_id: machine.id.clone(),
                    online,
                    last_ping: if online { now } else { machine.agent_last_ping.unwrap_or(now) },
                    private_ip: machine.private_ip.clone(),
                    name: machine.tags.get("Name").cloned().unwrap_or_default(),
                })
            })
            .collect();
        Ok(agents)
    }

    /// The commands to a machine, the newest first: ListCommands leaves out those that did not reach it yet.
    pub fn commands_to<'w>(&'w self, instance_id: &str) -> impl Iterator<Item = &'w Command> {
        self.commands.newest_first().filter(|command| command.reached(instance_id))
    }

    /// The limits of one SendCommand, in SSM's words.
    fn check(&self, spec: &CommandSpec) -> Result<Checked, CommandError> {
        let document = spec.document.rsplit('/').next().unwrap_or_default().to_owned();
        let of_the_fleet = self.commands.documents.contains(&document);
        if document != DOCUMENT && !of_the_fleet {
            return Err(CommandError::InvalidDocument(spec.document.clone()));
        }
        let script = spec.parameters.get("commands").filter(|lines| !lines.is_empty());
        if script.is_none() && !of_the_fleet {
            return Err(CommandError::InvalidParameters(
                "Parameter \"commands\" requires a value.".to_owned(),
            ));
        }
        let execution_seconds = match spec.parameters.get("executionTimeout").map(Vec::as_slice) {
            None => 3600,
            Some([text]) => {
                text.parse().ok().filter(|it| (1..=172_800).contains(it)).ok_or_else(|| {
                    CommandError::InvalidParameters(format!(
                        "executionTimeout must be a number from 1 to 172800, not \"{text}\"."
                    ))
                })?
            }
            Some(_) => {
                return Err(CommandError::InvalidParameters(
                    "executionTimeout takes one value.".to_owned(),
                ));
            }
        };
        if spec.comment.chars().count() > 100 {
            return Err(CommandError::Validation(
                "1 validation error detected: Value at 'comment' failed to satisfy constraint: Member must have length less than or equal to 100".to_owned(),
            ));
        }
        let timeout_seconds = spec.timeout_seconds.unwrap_or(3600);
        if !(30..=2_592_000).contains(&timeout_seconds) {
            return Err(CommandError::Validation(
                "1 validation error detected: Value at 'timeoutSeconds' failed to satisfy constraint: Member must have value from 30 to 2592000".to_owned(),
            ));
        }
        if spec.instance_ids.is_empty() || spec.instance_ids.len() > 50 {
            return Err(CommandError::Validation(
                "InstanceIds must name 1 to 50 instances (targets by tag are not modelled)."
                    .to_owned(),
            ));
        }
        let distinct: BTreeSet<&String> = spec.instance_ids.iter().collect();
        if distinct.len() != spec.instance_ids.len() {
            return Err(CommandError::DuplicateInstanceId);
        }
        Ok(Checked { document, execution_seconds, timeout_seconds })
    }

    /// SendCommand: each call delivers.
    pub fn send_command(
        &mut self,
        now: Timestamp,
        spec: CommandSpec,
    ) -> Result<Command, CommandError> {
        let now = self.at(now);
        let Checked { document, execution_seconds, timeout_seconds } = self.check(&spec)?;
        let unreachable: Vec<String> = spec
            .instance_ids
            .iter()
            .filter(|id| {
                !self.machines.get(id).is_some_and(|machine| {
                    let known = machine.agent_registered || self.agent_online(machine);
                    known && machine.state() == MachineState::Running
                })
            })
            .cloned()
            .collect();
        if !unreachable.is_empty() {
            let account = self.account.clone();
            return Err(CommandError::InvalidInstanceId { ids: unreachable, account });
        }
        let invocations = spec
            .instance_ids
            .into_iter()
            .map(|instance_id| {
                let invocation = Invocation {
                    instance_id: instance_id.clone(),
                    progress: Progress::Pending,
                    delivered: None,
                    ended: None,
                    stdout: String::new(),
                    stderr: String::new(),
                    response_code: -1,
                    completes_at: None,
                    boot: None,
                };
                (instance_id, invocation)
            })
            .collect();
        let command = Command {
            id: self.ids.uuid(),
            document,
            parameters: spec.parameters,
            comment: spec.comment,
            requested: now,
            expires: plus(now, SignedDuration::from_secs(timeout_seconds)),
            execution_seconds,
            invocations,
        };
        self.commands.insert(command.clone());
        Ok(command)
    }

    /// GetCommandInvocation: what became of a command on a machine.
    pub fn command_invocation(
        &mut self,
        now: Timestamp,
        command_id: &str,
        instance_id: &str,
    ) -> Result<(Command, Invocation), CommandError> {
        let now = self.at(now);
        let command = self
            .commands
            .get(command_id)
            .ok()
            .filter(|command| plus(command.requested, self.timings.invocation) <= now)
            .ok_or(CommandError::InvocationDoesNotExist)?;
        let invocation =
            command.invocations.get(instance_id).ok_or(CommandError::InvocationDoesNotExist)?;
        Ok((command.clone(), invocation.clone()))
    }

    /// CancelCommand: what was not delivered is called off; what runs is killed.
    pub fn cancel_command(
        &mut self,
        now: Timestamp,
        command_id: &str,
        instance_ids: &[String],
    ) -> Result<(), CommandError> {
        let now = self.at(now);
        let command = self.commands.get(command_id)?;
        let open: Vec<String> = command
            .invocations
            .values()
            .filter(|it| !it.progress.ended())
            .filter(|it| instance_ids.is_empty() || instance_ids.contains(&it.instance_id))
            .map(|it| it.instance_id.clone())
            .collect();
        let seq = self.commands.by_id[command_id];
        for id in open {
            self.settle(now, seq, &id, Progress::Cancelled);
        }
        Ok(())
    }

    pub(crate) fn next_command_due(&self) -> Option<Timestamp> {
        self.open_invocations().filter_map(|(_, command, it)| self.due_of(command, it)).min()
    }

    fn open_invocations(&self) -> impl Iterator<Item = (u64, &Command, &Invocation)> {
        self.commands
            .open
            .iter()
            .filter_map(|seq| Some((*seq, self.commands.commands.get(seq)?)))
            .flat_map(|(seq, command)| {
                command.invocations.values().map(move |it| (seq, command, it))
            })
    }

    fn due_of(&self, command: &Command, invocation: &Invocation) -> Option<Timestamp> {
        let machine = self.machines.get(&invocation.instance_id);
        match invocation.progress {
            Progress::Pending => {
                let online = machine.and_then(|it| it.agent_online_at(self.timings.agent));
                let deliver = online.map(|at| at.max(command.requested));
                [deliver, Some(command.expires)].into_iter().flatten().min()
            }
            Progress::InProgress => {
                let alive = machine.is_some_and(|it| it.running_since == invocation.boot);
                let delivered = invocation.delivered.unwrap_or(command.requested);
                let limit = plus(delivered, SignedDuration::from_secs(command.execution_seconds));
                [invocation.completes_at.filter(|_| alive), Some(limit)].into_iter().flatten().min()
            }
            _ => None,
        }
    }

    /// Does the one step of an invocation that is due first.
    pub(crate) fn step_command(&mut self, at: Timestamp) {
        let due = self.open_invocations().find_map(|(seq, command, invocation)| {
            let due = self.due_of(command, invocation)?;
            (due <= at).then(|| (seq, invocation.instance_id.clone()))
        });
        let Some((seq, instance_id)) = due else { return };
        let Some(command) = self.commands.commands.get(&seq) else { return };
        let Some(invocation) = command.invocations.get(&instance_id) else { return };
        match invocation.progress {
            Progress::Pending if command.expires <= at => {
                self.settle(at, seq, &instance_id, Progress::DeliveryTimedOut);
            }
            Progress::Pending => self.deliver_command(at, seq, &instance_id),
            _ => {
                let alive = self
                    .machines
                    .get(&instance_id)
                    .is_some_and(|machine| machine.running_since == invocation.boot);
                if alive && invocation.completes_at.is_some_and(|completes| completes <= at) {
                    self.complete_command(at, seq, &instance_id);
                } else {
                    self.settle(at, seq, &instance_id, Progress::ExecutionTimedOut);
                }
            }
        }
    }

    fn deliver_command(&mut self, at: Timestamp, seq: u64, instance_id: &str) {
        let Some(machine) = self.machines.get_mut(instance_id) else { return };
        let boot = machine.running_since;
        let Some(command) = self.commands.commands.get_mut(&seq) else { return };
        let script = Script::of(&command.document, &command.parameters);
        let settle = SignedDuration::from_secs(script.settle_seconds);
        let settled = boot.map_or(at, |boot| plus(boot, settle));
        let completes = if script.bootstrap.is_some() {
            let delivery = bootstraps::deliver(machine, at, &command.id, &script, &self.timings);
            if delivery.runs {
                let token = script.token.unwrap_or_default();
                *self.commands.executions.entry(token.to_owned()).or_default() += 1;
            }
            delivery.completes
        } else {
            Some(plus(at, self.timings.command))
        };
        let Some(invocation) = command.invocations.get_mut(instance_id) else { return };
        invocation.delivered = Some(at);
        invocation.boot = boot;
        invocation.completes_at = completes.map(|completes| completes.max(settled));
        self.settle(at, seq, instance_id, Progress::InProgress);
    }

    fn complete_command(&mut self, at: Timestamp, seq: u64, instance_id: &str) {
        let Some(command) = self.commands.commands.get_mut(&seq) else { return };
        let Some(machine) = self.machines.get_mut(instance_id) else { return };
        let Some(invocation) = command.invocations.get_mut(instance_id) else { return };
        let script = Script::of(&command.document, &command.parameters);
        let token = script.token.unwrap_or_default();
        let (code, stdout) = if script.bootstrap.is_some() {
            let delivered = invocation.delivered.unwrap_or(at);
            let timings = &self.timings;
            match bootstraps::complete(machine, at, delivered, &command.id, &script, timings) {
                Ok(result) => result,
                Err(later) => {
                    invocation.completes_at = Some(later);
                    return;
                }
            }
        } else {
            let first = machine.guards.get(token).filter(|_| script.token.is_some()).cloned();
            first.unwrap_or_else(|| {
                let result = script.run(machine);
                *self.commands.executions.entry(token.to_owned()).or_default() += 1;
                if script.token.is_some() {
                    machine.guards.insert(token.to_owned(), result.clone());
                }
                result
            })
        };
        invocation.stdout = stdout;
        invocation.response_code = code;
        if code != 0 {
            invocation.stderr = format!("failed to run commands: exit status {code}");
        }
        let progress = if code == 0 { Progress::Success } else { Progress::Failed };
        self.settle(at, seq, instance_id, progress);
    }

    /// Sets an invocation's progress and tells the bus of it, and of the command where that changed too.
    fn settle(&mut self, at: Timestamp, seq: u64, instance_id: &str, progress: Progress) {
        let Some(command) = self.commands.commands.get_mut(&seq) else { return };
        let before = command.progress();
        let Some(invocation) = command.invocations.get_mut(instance_id) else { return };
        invocation.progress = progress;
        if progress.ended() {
            invocation.ended = Some(at);
        }
        let after = command.progress();
        if command.invocations.values().all(|it| it.progress.ended()) {
            self.commands.open.remove(&seq);
        }
        let command = command.clone();
        let resources = vec![self.machine_arn(instance_id)];
        let mut detail = json!({
            "command-id": command.id,
            "document-name": command.document,
            "instance-id": instance_id,
            "requested-date-time": command.requested.to_string(),
            "status": progress.status(),
        });
        let kind = "EC2 Command Invocation Status-change Notification";
        self.emit(at, "aws.ssm", kind, &resources, &detail);
        if before != after {
            if let Some(fields) = detail.as_object_mut() {
                fields.remove("instance-id");
                fields.insert("expire-after".to_owned(), command.expires.to_string().into());
                fields.insert("parameters".to_owned(), json!(command.parameters));
                fields.insert("status".to_owned(), after.status().into());
            }
            let all: Vec<String> =
                command.invocations.keys().map(|id| self.machine_arn(id)).collect();
            self.emit(at, "aws.ssm", "EC2 Command Status-change Notification", &all, &detail);
        }
    }
}
