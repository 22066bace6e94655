//! EC2 instances: their states over time, and the units on them.
//!
//! Starting and stopping are level-triggered and take the time that [`Behaviour`] or the world's timings
//! give. Each change of state is one "EC2 Instance State-change Notification" on the default bus. A call
//! on several instances is done for all or for none.
//!
//! A description may lag: with `describe_lag` set, a caller sees what was true that long ago.
//!
//! While a zone is impaired ([`Machines::zones_out`]), each call that names a machine in it fails as a whole, and so does
//! a description that names none; its machines' agents are not heard. What runs there goes on.
//!
//! A machine that was terminated is described for an hour, and then it never was.
//!
//! Not here: launching (`launches`, from `launch_templates`), volumes, networks beyond one address each.

mod behaviour;
mod bootstrap;
mod error;
mod launch;
mod state;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use behaviour::Behaviour;
pub use bootstrap::BootstrapRun;
pub use error::MachineError;
pub use launch::Launch;
pub use state::MachineState;

use crate::World;
use crate::queue::plus;
use crate::timings::Timings;
use crate::units::{Unit, UnitSeed, UnitState};

/// How long EC2 still shows a machine that was terminated.
pub const SHOWN_AFTER_END: SignedDuration = SignedDuration::from_hours(1);
/// How many past states of a machine are kept for descriptions that lag.
const VIEWS_MAX: usize = 64;

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
    /// The letter of its zone.
    #[serde(default = "zone_a")]
    pub zone: String,
    /// Other tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Its own behaviour.
    #[serde(default)]
    pub behaviour: Behaviour,
}

pub(crate) fn zone_a() -> String {
    "a".to_owned()
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
    /// The instance type; a constant of the model where it was not launched.
    pub instance_type: String,
    /// The letter of its zone.
    #[serde(default = "zone_a")]
    pub zone: String,
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
    /// The results of guarded scripts, by token: the guards lie on its disk and survive a stop.
    pub guards: BTreeMap<String, (i64, String)>,
    /// How often it went from off to pending.
    #[serde(default)]
    pub starts: u64,
    /// How often it went from on to stopping.
    #[serde(default)]
    pub stops: u64,
    /// How it came to be, where it was launched.
    #[serde(default)]
    pub launch: Option<Launch>,
    /// The bootstraps that began on it, in that order.
    #[serde(default)]
    pub bootstraps: Vec<BootstrapRun>,
    /// The state now.
    pub view: MachineView,
    number: u32,
    next: Option<(Timestamp, MachineState)>,
    /// When its public address comes, where it is still to come.
    #[serde(default)]
    address_at: Option<Timestamp>,
    /// When it is taken back, where that was announced.
    #[serde(default)]
    taken_at: Option<Timestamp>,
    past: VecDeque<(Timestamp, MachineView)>,
}

impl Machine {
    /// One that never ran; `number` fixes its addresses.
    pub(crate) fn new(id: &str, number: u32, made: Timestamp, behaviour: Behaviour) -> Self {
        Self {
            id: id.to_owned(),
            tags: BTreeMap::new(),
            instance_type: "t3.medium".to_owned(),
            zone: zone_a(),
            private_ip: match number {
                0..=255 => format!("10.0.1.{number}"),
                _ => format!("10.1.{}.{}", number / 256 % 256, number % 256),
            },
            profile_arn: None,
            behaviour,
            units: BTreeMap::new(),
            agent_registered: false,
            agent_last_ping: None,
            running_since: None,
            guards: BTreeMap::new(),
            starts: 0,
            stops: 0,
            launch: None,
            bootstraps: Vec::new(),
            view: MachineView {
                state: MachineState::Stopped,
                transition_reason: String::new(),
                state_reason: None,
                launched: made,
                public_ip: None,
            },
            number,
            next: None,
            address_at: None,
            taken_at: None,
            past: VecDeque::new(),
        }
    }

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

    /// When it was terminated.
    pub(crate) fn ended_at(&self) -> Option<Timestamp> {
        let (since, _) = self.past.back()?;
        (self.state() == MachineState::Terminated).then_some(*since)
    }

    /// Whether its attributes allow that it is `stopped` or `terminated`: stop protection forbids both.
    fn check_protection(&self, verb: &'static str) -> Result<(), MachineError> {
        let attribute = match verb {
            _ if self.behaviour.disable_api_stop => "disableApiStop",
            "terminated" if self.behaviour.disable_api_termination => "disableApiTermination",
            _ => return Ok(()),
        };
        Err(MachineError::Protected { id: self.id.clone(), verb, attribute })
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
        [self.next.map(|(at, _)| at), self.address_at, self.taken_at, unit]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a description made at `now` shows it at all.
    fn is_visible(
        &self,
        now: Timestamp,
        shown_at: Timestamp,
        timings: &Timings,
        by_id: bool,
    ) -> bool {
        let Some(launch) = &self.launch else { return true };
        let not_found = self.behaviour.not_found_for.unwrap_or(timings.not_found_for);
        launch.at <= shown_at && (!by_id || plus(launch.at, not_found) <= now)
    }

    /// It is pending from now on, and what it was decided to become comes in its time.
    pub(crate) fn set_out(&mut self, now: Timestamp, timings: &Timings) {
        let fallback = match self.launch {
            Some(_) if self.starts == 0 => MachineState::Terminated,
            _ => MachineState::Stopped,
        };
        self.view.transition_reason = String::new();
        self.view.state_reason = None;
        self.starts += 1;
        self.next = Some(match self.behaviour.bounce {
            Some(after) => (plus(now, after), fallback),
            None => {
                let boot = self.behaviour.boot.unwrap_or(timings.boot);
                (plus(now, boot), MachineState::Running)
            }
        });
    }

    /// It is taken back at `at`, unless it has gone by then.
    pub(crate) fn take_back(&mut self, at: Timestamp) {
        self.taken_at = Some(at);
    }

    pub(crate) fn enter(&mut self, at: Timestamp, state: MachineState, timings: &Timings) {
        if self.agent_online_at(timings.agent).is_some_and(|online| online <= at) {
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
                if self.launch.as_ref().is_none_or(|launch| launch.public_ip) {
                    let after = self.behaviour.public_ip_after.unwrap_or(timings.public_ip_after);
                    if after.is_zero() {
                        self.view.public_ip = Some(self.public_address());
                    } else {
                        self.address_at = Some(plus(at, after));
                    }
                }
            }
            MachineState::Stopping
            | MachineState::Stopped
            | MachineState::ShuttingDown
            | MachineState::Terminated => {
                self.running_since = None;
                self.view.public_ip = None;
                self.address_at = None;
                for unit in self.units.values_mut() {
                    unit.halt();
                }
            }
        }
        self.note_view(at);
    }

    /// Guards that lay in memory are lost: a guarded script that is delivered again runs again.
    fn forget_guards(&mut self) {
        self.guards.clear();
        for run in &mut self.bootstraps {
            run.is_forgotten = true;
        }
    }

    fn note_view(&mut self, at: Timestamp) {
        self.past.push_back((at, self.view.clone()));
        if self.past.len() > VIEWS_MAX {
            self.past.pop_front();
        }
    }

    fn public_address(&self) -> String {
        match self.number {
            0..=255 => format!("203.0.113.{}", self.number),
            number => format!("198.18.{}.{}", number / 256 % 256, number % 256),
        }
    }

    /// Does what is due at `at`; the state that it entered, if it did.
    fn step(&mut self, at: Timestamp, timings: &Timings) -> Option<MachineState> {
        let mut entered = None;
        if self.taken_at.is_some_and(|due| due <= at) {
            self.taken_at = None;
            if !matches!(self.state(), MachineState::ShuttingDown | MachineState::Terminated) {
                let code = "Server.SpotInstanceTermination";
                self.view.transition_reason = code.to_owned();
                let text = format!("{code}: Spot instance termination");
                self.view.state_reason = Some((code.to_owned(), text));
                self.next = Some((plus(at, timings.terminate), MachineState::Terminated));
                entered = Some(MachineState::ShuttingDown);
            }
        } else if let Some((due, state)) = self.next
            && due <= at
        {
            self.next = None;
            if self.state() == MachineState::Pending && state != MachineState::Running {
                let text = "Client.InternalError: Client error on launch";
                self.view.state_reason = Some(("Client.InternalError".to_owned(), text.to_owned()));
            }
            entered = Some(state);
        }
        if let Some(state) = entered {
            self.enter(at, state, timings);
        }
        if self.address_at.is_some_and(|due| due <= at) {
            self.address_at = None;
            self.view.public_ip = Some(self.public_address());
            self.note_view(at);
        }
        for unit in self.units.values_mut() {
            unit.step(at);
        }
        entered
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
    /// The letters of the zones that are impaired.
    #[serde(default)]
    pub zones_out: BTreeSet<String>,
    /// How many were ever made: addresses follow from it.
    made: u32,
    /// Those that were terminated, the first to be shown no more in front.
    #[serde(default)]
    ended: VecDeque<(Timestamp, String)>,
    /// Those of the beginning that are shown no more: seeding them again must not revive them.
    #[serde(default)]
    buried: BTreeSet<String>,
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

    /// The number of the next machine.
    pub(crate) fn next_number(&mut self) -> u32 {
        self.made = self.made.wrapping_add(1).max(1);
        self.made
    }

    pub(crate) fn insert(&mut self, machine: Machine) {
        self.machines.insert(machine.id.clone(), machine);
    }

    /// Takes out the first machine that is shown no more at `now`.
    pub(crate) fn bury(&mut self, now: Timestamp) -> Option<Machine> {
        let (_, id) = self.ended.pop_front_if(|(until, _)| *until <= now)?;
        let machine = self.machines.remove(&id)?;
        if machine.launch.is_none() {
            self.buried.insert(id);
        }
        Some(machine)
    }

    /// The machines of these ids; an unknown or impossible one fails the whole call and is named, one in an impaired
    /// zone fails it without a name.
    pub fn find(&self, ids: &[String]) -> Result<Vec<&Machine>, MachineError> {
        let known = ids.iter().filter_map(|id| self.machines.get(id));
        if known.clone().any(|machine| self.zones_out.contains(&machine.zone)) {
            return Err(MachineError::ZoneImpaired);
        }
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
        if self.machines.buried.contains(&seed.id) {
            return;
        }
        let number = self.machines.next_number();
        let timings = &self.timings;
        let hour_ago = plus(now, SignedDuration::from_hours(-1));
        let mut machine = Machine::new(&seed.id, number, hour_ago, seed.behaviour.clone());
        machine.tags.clone_from(&seed.tags);
        machine.zone.clone_from(&seed.zone);
        if !seed.name.is_empty() {
            machine.tags.insert("Name".to_owned(), seed.name.clone());
        }
        machine.profile_arn =
            Some(format!("arn:aws:iam::{}:instance-profile/lamplighter-managed", self.account));
        machine.units = seed.units.iter().map(|(k, v)| (k.clone(), Unit::new(v.clone()))).collect();
        machine.agent_registered = !seed.behaviour.agent_never;
        machine.agent_last_ping = (!seed.behaviour.agent_never).then_some(hour_ago);
        if seed.state == MachineState::Running {
            machine.enter(hour_ago, MachineState::Pending, timings);
            machine.enter(hour_ago, MachineState::Running, timings);
            for unit in machine.units.values_mut() {
                unit.step(now);
                unit.step(now);
            }
        } else {
            machine.view.transition_reason = user_initiated(hour_ago);
            machine.view.state_reason = Some(user_shutdown());
            machine.enter(hour_ago, MachineState::Stopped, timings);
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
        let shown_at = self.shown_at(now);
        let now = self.clock;
        let by_id = !ids.is_empty();
        if !by_id && !self.machines.zones_out.is_empty() {
            return Err(MachineError::ZoneImpaired);
        }
        let found = if by_id { self.machines.find(ids)? } else { self.machines.iter().collect() };
        let (found, hidden): (Vec<&Machine>, Vec<&Machine>) =
            found.into_iter().partition(|it| it.is_visible(now, shown_at, &self.timings, by_id));
        if by_id && !hidden.is_empty() {
            return Err(MachineError::NotFound(hidden.iter().map(|it| it.id.clone()).collect()));
        }
        Ok(found
            .into_iter()
            .map(|machine| (machine, machine.seen_at(shown_at)))
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
                    return Err(MachineError::InsufficientCapacity {
                        instance_type: machine.instance_type.clone(),
                        region: self.region.clone(),
                        zone: machine.zone.clone(),
                    });
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
        let timings = self.timings.clone();
        self.change(now, ids, |machine| {
            if machine.state() != MachineState::Stopped {
                return None;
            }
            machine.set_out(now, &timings);
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
            if machine.launch.as_ref().is_some_and(|launch| launch.spot) {
                return Err(MachineError::OneTimeSpot(machine.id.clone()));
            }
            machine.check_protection("stopped")?;
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
        for machine in self.machines.find(ids)? {
            machine.check_protection("terminated")?;
        }
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
        for id in ids {
            let Some(machine) = self.machines.machines.get_mut(id) else { continue };
            let previous = machine.state();
            let entered = decide(machine);
            if let Some(state) = entered {
                machine.enter(now, state, &self.timings);
            }
            let current = machine.state();
            changes.push(StateChange { id: id.clone(), previous, current });
            if let Some(state) = entered {
                self.tell_state(now, id, state);
            }
        }
        // What takes no time is over at once.
        self.advance(now);
        Ok(changes)
    }

    /// Tells the bus of a state that was entered, and notes an end.
    pub(crate) fn tell_state(&mut self, at: Timestamp, id: &str, state: MachineState) {
        if state == MachineState::Terminated {
            self.machines.ended.push_back((plus(at, SHOWN_AFTER_END), id.to_owned()));
        }
        let goes_down = !matches!(state, MachineState::Pending | MachineState::Running);
        if self.guards_in_memory
            && goes_down
            && let Some(machine) = self.machines.get_mut(id)
        {
            machine.forget_guards();
        }
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
        let machines = &mut self.machines.machines;
        let due = |machine: &&mut Machine| machine.next_due().is_some_and(|due| due <= at);
        let Some(machine) = machines.values_mut().find(due) else { return };
        let id = machine.id.clone();
        if let Some(state) = machine.step(at, &self.timings) {
            self.tell_state(at, &id, state);
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
