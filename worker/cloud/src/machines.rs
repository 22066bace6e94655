//! EC2 instances: their states over time, and the units on them.
//!
//! Starting and stopping are level-triggered and take the time that [`Behaviour`] or the world's timings
//! give. Each change of state is one "EC2 Instance State-change Notification" on the default bus. A call
//! on several instances is done for all or for none.
//!
//! A description may lag: with `describe_lag` set, a caller sees what was true that long ago.
//!
//! Not here: launching (`RunInstances`, templates), volumes, networks beyond one address each.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::queue::plus;
use crate::timings::maybe_not_negative;
use crate::units::{Unit, UnitSeed, UnitState};
use crate::{ServiceFault, World};

/// How many past states of a machine are kept for descriptions that lag.
const VIEWS_MAX: usize = 16;

/// Why a call to EC2 was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// Some of the instances do not exist.
    #[error("{}", not_found_text(.0))]
    NotFound(Vec<String>),
    /// An id that cannot be one.
    #[error("Invalid id: \"{0}\"")]
    Malformed(String),
    /// The instance is in a state that does not allow it.
    #[error("The instance '{id}' is not in a state from which it can be {verb}.")]
    IncorrectState {
        /// The instance.
        id: String,
        /// `started` or `stopped`.
        verb: &'static str,
    },
    /// No host is free for it.
    #[error(
        "We currently do not have sufficient {0} capacity in the Availability Zone you requested. Our system will be working on provisioning additional capacity."
    )]
    InsufficientCapacity(String),
    /// The call would have succeeded.
    #[error("Request would have succeeded, but DryRun flag is set.")]
    DryRun,
    /// A parameter that is missing or wrong.
    #[error("{0}")]
    InvalidParameter(String),
}

fn not_found_text(ids: &[String]) -> String {
    if let [id] = ids {
        return format!("The instance ID '{id}' does not exist");
    }
    format!("The instance IDs '{}' do not exist", ids.join(", "))
}

impl ServiceFault for MachineError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "InvalidInstanceID.NotFound",
            Self::Malformed(_) => "InvalidInstanceID.Malformed",
            Self::IncorrectState { .. } => "IncorrectInstanceState",
            Self::InsufficientCapacity(_) => "InsufficientInstanceCapacity",
            Self::DryRun => "DryRunOperation",
            Self::InvalidParameter(_) => "InvalidParameterValue",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::InsufficientCapacity(_) => 500,
            Self::DryRun => 412,
            _ => 400,
        }
    }
}

/// The states of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    /// Accepted, not there yet.
    Pending,
    /// On.
    Running,
    /// On its way to stopped.
    Stopping,
    /// Off.
    Stopped,
    /// On its way to terminated.
    ShuttingDown,
    /// Gone.
    Terminated,
}

impl MachineState {
    /// EC2's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
        }
    }

    /// EC2's number for it.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
        }
    }
}

/// How one machine differs from the world's timings, and what goes wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// From an accepted start to running.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub boot: Option<SignedDuration>,
    /// From an accepted stop to stopped.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub stop: Option<SignedDuration>,
    /// From running to the agent being online.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub agent: Option<SignedDuration>,
    /// The agent never comes.
    pub agent_never: bool,
    /// A start is accepted and falls back to stopped after so long, with EC2's internal error.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub bounce: Option<SignedDuration>,
    /// Starts are refused for want of capacity.
    pub no_capacity: bool,
    /// What an idle policy's command exits with; 0 where it is left out.
    pub host_exit: Option<u8>,
    /// What it prints.
    pub host_output: Option<String>,
}

/// A machine that exists from the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSeed {
    /// `i-…`
    pub id: String,
    /// The `Name` tag.
    #[serde(default)]
    pub name: String,
    /// Units by name, without `.service`.
    #[serde(default)]
    pub units: BTreeMap<String, UnitSeed>,
    /// `stopped` (the default) or `running`, then long since.
    #[serde(default = "stopped")]
    pub state: MachineState,
    /// Other tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Its own behaviour.
    #[serde(default)]
    pub behaviour: Behaviour,
}

fn stopped() -> MachineState {
    MachineState::Stopped
}

/// What a description shows of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineView {
    /// The state.
    pub state: MachineState,
    /// Why it last changed, with the time for what a user asked.
    pub transition_reason: String,
    /// Code and text, for what is not plain.
    pub state_reason: Option<(String, String)>,
    /// When it was last started.
    pub launched: Timestamp,
    /// Only while it is pending or running.
    pub public_ip: Option<String>,
}

/// One machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// `i-…`
    pub id: String,
    /// Tags, `Name` among them.
    pub tags: BTreeMap<String, String>,
    /// The instance type, a constant of the model.
    pub instance_type: String,
    /// The address inside, kept over stops.
    pub private_ip: String,
    /// The ARN of its instance profile.
    pub profile_arn: Option<String>,
    /// What goes wrong with it and how fast it is.
    pub behaviour: Behaviour,
    /// Units by name, without `.service`.
    pub units: BTreeMap<String, Unit>,
    /// Whether its agent was ever online.
    pub agent_registered: bool,
    /// When the agent was last heard.
    pub agent_last_ping: Option<Timestamp>,
    /// Since when it is running.
    pub running_since: Option<Timestamp>,
    /// The results of guarded scripts, by token: the guard lies on its disk and survives a stop.
    pub guards: BTreeMap<String, (i64, String)>,
    /// How often it went from off to pending.
    #[serde(default)]
    pub starts: u64,
    /// How often it went from on to stopping.
    #[serde(default)]
    pub stops: u64,
    /// The state now.
    pub view: MachineView,
    number: u8,
    next: Option<(Timestamp, MachineState)>,
    past: VecDeque<(Timestamp, MachineView)>,
}

impl Machine {
    /// The state now.
    #[must_use]
    pub fn state(&self) -> MachineState {
        self.view.state
    }

    /// What a description made at `at` shows.
    #[must_use]
    pub fn seen_at(&self, at: Timestamp) -> &MachineView {
        self.past
            .iter()
            .rev()
            .find(|(since, _)| *since <= at)
            .or_else(|| self.past.front())
            .map_or(&self.view, |(_, view)| view)
    }

    /// When its agent is online: `None` while it will not be by itself.
    #[must_use]
    pub fn agent_online_at(&self, default: SignedDuration) -> Option<Timestamp> {
        if self.behaviour.agent_never {
            return None;
        }
        Some(plus(self.running_since?, self.behaviour.agent.unwrap_or(default)))
    }

    fn next_due(&self) -> Option<Timestamp> {
        let unit = self.units.values().filter_map(Unit::next_due).min();
        [self.next.map(|(at, _)| at), unit].into_iter().flatten().min()
    }

    fn enter(&mut self, at: Timestamp, state: MachineState, agent: SignedDuration) {
        if self.agent_online_at(agent).is_some_and(|online| online <= at) {
            self.agent_registered = true;
            self.agent_last_ping = Some(at);
        }
        self.view.state = state;
        match state {
            MachineState::Running => {
                self.running_since = Some(at);
                for unit in self.units.values_mut() {
                    unit.boot(at);
                }
            }
            MachineState::Pending => {
                self.view.launched = at;
                self.view.public_ip = Some(format!("203.0.113.{}", self.number));
            }
            MachineState::Stopping
            | MachineState::Stopped
            | MachineState::ShuttingDown
            | MachineState::Terminated => {
                self.running_since = None;
                self.view.public_ip = None;
                for unit in self.units.values_mut() {
                    unit.halt();
                }
            }
        }
        self.past.push_back((at, self.view.clone()));
        if self.past.len() > VIEWS_MAX {
            self.past.pop_front();
        }
    }
}

/// A change as StartInstances and its like answer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The instance.
    pub id: String,
    /// Before the call.
    pub previous: MachineState,
    /// After the call.
    pub current: MachineState,
}

/// All machines.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Machines {
    machines: BTreeMap<String, Machine>,
    /// How many were ever made: addresses follow from it.
    made: u8,
}

impl Machines {
    /// All, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Machine> {
        self.machines.values()
    }

    /// One by id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Machine> {
        self.machines.get(id)
    }

    /// One by id, to change its behaviour, tags or units.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Machine> {
        self.machines.get_mut(id)
    }

    /// When a machine or a unit changes next by itself.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.machines.values().filter_map(Machine::next_due).min()
    }

    /// The machines of these ids; an unknown or impossible one fails the whole call and is named.
    pub fn find(&self, ids: &[String]) -> Result<Vec<&Machine>, MachineError> {
        let missing: Vec<String> =
            ids.iter().filter(|id| !self.machines.contains_key(*id)).cloned().collect();
        if let Some(id) = missing.iter().find(|id| !is_instance_id(id)) {
            return Err(MachineError::Malformed(id.clone()));
        }
        if !missing.is_empty() {
            return Err(MachineError::NotFound(missing));
        }
        Ok(ids.iter().filter_map(|id| self.machines.get(id)).collect())
    }
}

fn is_instance_id(id: &str) -> bool {
    id.strip_prefix("i-").is_some_and(|hex| {
        (8..=17).contains(&hex.len()) && hex.chars().all(|it| it.is_ascii_hexdigit())
    })
}

impl World {
    /// Puts a machine into the world; one of this id that exists stays as it is, and gains what units it
    /// lacks.
    pub fn seed_machine(&mut self, now: Timestamp, seed: &MachineSeed) {
        let now = self.at(now);
        if let Some(machine) = self.machines.machines.get_mut(&seed.id) {
            let running = machine.running_since.is_some();
            for (name, unit) in &seed.units {
                machine.units.entry(name.clone()).or_insert_with(|| {
                    let mut unit = Unit::new(unit.clone());
                    if running {
                        unit.boot(now);
                    }
                    unit
                });
            }
            return;
        }
        self.machines.made = self.machines.made.wrapping_add(1).max(1);
        let number = self.machines.made;
        let agent = self.timings.agent;
        let hour_ago = plus(now, SignedDuration::from_hours(-1));
        let mut tags = seed.tags.clone();
        if !seed.name.is_empty() {
            tags.insert("Name".to_owned(), seed.name.clone());
        }
        let mut machine = Machine {
            id: seed.id.clone(),
            tags,
            instance_type: "t3.medium".to_owned(),
            private_ip: format!("10.0.1.{number}"),
            profile_arn: Some(format!(
                "arn:aws:iam::{}:instance-profile/lamplighter-managed",
                self.account
            )),
            behaviour: seed.behaviour.clone(),
            units: seed.units.iter().map(|(k, v)| (k.clone(), Unit::new(v.clone()))).collect(),
            agent_registered: !seed.behaviour.agent_never,
            agent_last_ping: (!seed.behaviour.agent_never).then_some(hour_ago),
            running_since: None,
            guards: BTreeMap::new(),
            starts: 0,
            stops: 0,
            view: MachineView {
                state: MachineState::Stopped,
                transition_reason: String::new(),
                state_reason: None,
                launched: hour_ago,
                public_ip: None,
            },
            number,
            next: None,
            past: VecDeque::new(),
        };
        if seed.state == MachineState::Running {
            machine.enter(hour_ago, MachineState::Pending, agent);
            machine.enter(hour_ago, MachineState::Running, agent);
            for unit in machine.units.values_mut() {
                unit.step(now);
                unit.step(now);
            }
        } else {
            machine.view.transition_reason = user_initiated(hour_ago);
            machine.view.state_reason = Some(user_shutdown());
            machine.enter(hour_ago, MachineState::Stopped, agent);
        }
        self.machines.machines.insert(seed.id.clone(), machine);
    }

    /// The ids of all machines whose description at `now` passes `keep`, with that description.
    pub fn describe_machines(
        &mut self,
        now: Timestamp,
        ids: &[String],
        keep: impl Fn(&Machine, &MachineView) -> bool,
    ) -> Result<Vec<(Machine, MachineView)>, MachineError> {
        let now = self.at(now);
        let seen_at = plus(now, -self.timings.describe_lag);
        let found = if ids.is_empty() {
            self.machines.iter().collect()
        } else {
            self.machines.find(ids)?
        };
        Ok(found
            .into_iter()
            .map(|machine| (machine, machine.seen_at(seen_at)))
            .filter(|(machine, view)| keep(machine, view))
            .map(|(machine, view)| (machine.clone(), view.clone()))
            .collect())
    }

    /// StartInstances: all or none.
    pub fn start_machines(
        &mut self,
        now: Timestamp,
        ids: &[String],
        dry_run: bool,
    ) -> Result<Vec<StateChange>, MachineError> {
        let now = self.at(now);
        for machine in self.machines.find(ids)? {
            match machine.state() {
                MachineState::Pending | MachineState::Running => {}
                MachineState::Stopped if machine.behaviour.no_capacity => {
                    return Err(MachineError::InsufficientCapacity(machine.instance_type.clone()));
                }
                MachineState::Stopped => {}
                MachineState::Stopping | MachineState::ShuttingDown | MachineState::Terminated => {
                    let id = machine.id.clone();
                    return Err(MachineError::IncorrectState { id, verb: "started" });
                }
            }
        }
        if dry_run {
            return Err(MachineError::DryRun);
        }
        let boot = self.timings.boot;
        self.change(now, ids, |machine| {
            if machine.state() != MachineState::Stopped {
                return None;
            }
            machine.view.transition_reason = String::new();
            machine.view.state_reason = None;
            machine.starts += 1;
            machine.next = Some(match machine.behaviour.bounce {
                Some(after) => (plus(now, after), MachineState::Stopped),
                None => (plus(now, machine.behaviour.boot.unwrap_or(boot)), MachineState::Running),
            });
            Some(MachineState::Pending)
        })
    }

    /// StopInstances: all or none.
    pub fn stop_machines(
        &mut self,
        now: Timestamp,
        ids: &[String],
        dry_run: bool,
    ) -> Result<Vec<StateChange>, MachineError> {
        let now = self.at(now);
        for machine in self.machines.find(ids)? {
            let refused =
                [MachineState::Pending, MachineState::ShuttingDown, MachineState::Terminated];
            if refused.contains(&machine.state()) {
                let id = machine.id.clone();
                return Err(MachineError::IncorrectState { id, verb: "stopped" });
            }
        }
        if dry_run {
            return Err(MachineError::DryRun);
        }
        let stop = self.timings.stop;
        self.change(now, ids, |machine| {
            if machine.state() != MachineState::Running {
                return None;
            }
            machine.view.transition_reason = user_initiated(now);
            machine.view.state_reason = Some(user_shutdown());
            machine.stops += 1;
            let at = plus(now, machine.behaviour.stop.unwrap_or(stop));
            machine.next = Some((at, MachineState::Stopped));
            Some(MachineState::Stopping)
        })
    }

    /// TerminateInstances: all or none.
    pub fn terminate_machines(
        &mut self,
        now: Timestamp,
        ids: &[String],
        dry_run: bool,
    ) -> Result<Vec<StateChange>, MachineError> {
        let now = self.at(now);
        self.machines.find(ids)?;
        if dry_run {
            return Err(MachineError::DryRun);
        }
        let terminate = self.timings.terminate;
        self.change(now, ids, |machine| {
            if matches!(machine.state(), MachineState::ShuttingDown | MachineState::Terminated) {
                return None;
            }
            machine.view.transition_reason = user_initiated(now);
            machine.view.state_reason = Some(user_shutdown());
            machine.next = Some((plus(now, terminate), MachineState::Terminated));
            Some(MachineState::ShuttingDown)
        })
    }

    fn change(
        &mut self,
        now: Timestamp,
        ids: &[String],
        mut decide: impl FnMut(&mut Machine) -> Option<MachineState>,
    ) -> Result<Vec<StateChange>, MachineError> {
        let mut changes = Vec::new();
        let agent = self.timings.agent;
        for id in ids {
            let Some(machine) = self.machines.machines.get_mut(id) else { continue };
            let previous = machine.state();
            let entered = decide(machine);
            if let Some(state) = entered {
                machine.enter(now, state, agent);
            }
            let current = machine.state();
            changes.push(StateChange { id: id.clone(), previous, current });
            if let Some(state) = entered {
                self.emit_state(now, id, state);
            }
        }
        // What takes no time is over at once.
        self.advance(now);
        Ok(changes)
    }

    fn emit_state(&mut self, at: Timestamp, id: &str, state: MachineState) {
        let arn = self.machine_arn(id);
        let detail = json!({"instance-id": id, "state": state.name()});
        self.emit(at, "aws.ec2", "EC2 Instance State-change Notification", &[arn], &detail);
    }

    /// The ARN of an instance.
    #[must_use]
    pub fn machine_arn(&self, id: &str) -> String {
        format!("arn:aws:ec2:{}:{}:instance/{id}", self.region, self.account)
    }

    /// Does the one change of a machine or its units that is due first.
    pub(crate) fn step_machine(&mut self, at: Timestamp) {
        let mut entered = None;
        let agent = self.timings.agent;
        for machine in self.machines.machines.values_mut() {
            if machine.next_due().is_none_or(|due| due > at) {
                continue;
            }
            if let Some((due, state)) = machine.next
                && due <= at
            {
                machine.next = None;
                if machine.state() == MachineState::Pending && state == MachineState::Stopped {
                    let text = "Client.InternalError: Client error on launch";
                    machine.view.state_reason =
                        Some(("Client.InternalError".to_owned(), text.to_owned()));
                }
                machine.enter(due, state, agent);
                entered = Some((machine.id.clone(), state));
            }
            for unit in machine.units.values_mut() {
                unit.step(at);
            }
            break;
        }
        if let Some((id, state)) = entered {
            self.emit_state(at, &id, state);
        }
    }

    /// A unit ends badly by itself, now; the next boot starts it again.
    pub fn kill_unit(&mut self, now: Timestamp, id: &str, unit: &str) -> bool {
        self.touch_unit(now, id, unit, |unit, _, running| {
            if running {
                unit.die();
            }
        })
    }

    /// A unit is broken: it fails now and after every boot.
    pub fn fail_unit(&mut self, now: Timestamp, id: &str, unit: &str) -> bool {
        self.touch_unit(now, id, unit, |unit, _, running| unit.fail(running))
    }

    /// A unit is well again, now and after every boot.
    pub fn repair_unit(&mut self, now: Timestamp, id: &str, unit: &str) -> bool {
        self.touch_unit(now, id, unit, Unit::repair)
    }

    /// False where there is no such machine or unit.
    fn touch_unit(
        &mut self,
        now: Timestamp,
        id: &str,
        unit: &str,
        touch: impl FnOnce(&mut Unit, Timestamp, bool),
    ) -> bool {
        let now = self.at(now);
        let Some(machine) = self.machines.get_mut(id) else { return false };
        let running = machine.running_since.is_some();
        let Some(unit) = machine.units.get_mut(unit_name(unit)) else { return false };
        touch(unit, now, running);
        true
    }

    /// The state of a unit as `systemctl is-active` says it; `None` for an unknown unit or machine.
    #[must_use]
    pub fn unit_state(&self, id: &str, unit: &str) -> Option<UnitState> {
        self.machines.get(id)?.units.get(unit_name(unit)).map(|unit| unit.state)
    }
}

/// A unit's name without the suffix that systemd lets one leave out.
pub(crate) fn unit_name(name: &str) -> &str {
    name.strip_suffix(".service").unwrap_or(name)
}

fn user_initiated(at: Timestamp) -> String {
    let at = at.to_zoned(TimeZone::UTC);
    format!("User initiated ({})", at.strftime("%Y-%m-%d %H:%M:%S GMT"))
}

fn user_shutdown() -> (String, String) {
    let code = "Client.UserInitiatedShutdown";
    (code.to_owned(), format!("{code}: User initiated shutdown"))
}
