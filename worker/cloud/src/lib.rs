//! A small model of AWS with a clock.
//!
//! One [`World`] holds the queues, the event bus, the schedules, the machines, their agents, the services with their
//! tasks, the metrics and the log groups of one account. It is a value: it knows no task, no socket and no time of its own. Every operation
//! takes `now`; [`World::advance`] lets everything happen that is due by then, in the order of time;
//! [`World::next_due`] says when something will happen next. So the same model serves a simulation on
//! a virtual clock and the embedded endpoint on the real one.
//!
//! Invariants:
//! - The world's clock never runs backwards: an earlier `now` is taken as the latest one seen.
//! - It is deterministic: ordered maps only, and ids come from a seeded generator inside the world.
//! - It is serialisable whole: a snapshot taken and loaded is the same world.
//! - Semantics are those of the real services where a caller can see them, error codes included.
//!
//! Deliberately not here: the wire (JSON, XML, signatures, checksums), identities and policies,
//! latency and injected faults of calls (whoever serves the model adds those), DynamoDB, secrets.

pub mod bootstraps;
pub mod bus;
pub mod commands;
pub mod delivery;
pub mod ids;
pub mod launch_templates;
pub mod launches;
pub mod logs;
pub mod machines;
pub mod message;
pub mod metrics;
pub mod pattern;
pub mod queue;
pub mod scaling;
pub mod schedules;
mod scripts;
pub mod services;
pub mod shortages;
pub mod template;
pub mod timings;
pub mod units;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use ids::Ids;
pub use launch_templates::{LaunchTemplateSeed, TemplateData};
pub use launches::{LaunchSpec, Launched, Scarce, Shortage, TemplateRef};
pub use machines::{Behaviour, Machine, MachineSeed, MachineState};
pub use services::{Service, ServiceBehaviour, ServiceSeed};
pub use timings::Timings;
pub use units::{Unit, UnitSeed, UnitState};

/// What every service error can say of itself, beside its text.
pub trait ServiceFault: std::error::Error {
    /// The error code as AWS spells it.
    fn code(&self) -> &'static str;
    /// The HTTP status AWS answers with.
    fn status(&self) -> u16 {
        400
    }
}

/// One account in one region, with all it holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct World {
    /// Twelve digits.
    pub account: String,
    /// The region that ARNs name.
    pub region: String,
    /// How long things take.
    pub timings: Timings,
    /// Each description lags by an amount of its own, up to `describe_lag`: a later one may show an older state.
    #[serde(default)]
    pub describes_go_back: bool,
    /// Guarded scripts note their results in memory (`/run`), which a stop forgets, and not on the disk.
    #[serde(default)]
    pub guards_in_memory: bool,
    /// The latest moment the world has seen.
    clock: Timestamp,
    ids: Ids,
    /// SQS.
    pub queues: queue::Queues,
    /// EventBridge.
    pub bus: bus::Bus,
    /// EventBridge Scheduler.
    #[serde(default)]
    pub schedules: schedules::Schedules,
    /// What EventBridge and its Scheduler have on the way to queues.
    #[serde(default)]
    pub deliveries: delivery::Deliveries,
    /// EC2.
    pub machines: machines::Machines,
    /// EC2: launch templates.
    #[serde(default)]
    pub launch_templates: launch_templates::LaunchTemplates,
    /// EC2: what was launched, and what may be.
    #[serde(default)]
    pub launches: launches::Launches,
    /// SSM: agents' commands.
    pub commands: commands::Commands,
    /// CloudWatch Logs: the groups that exist.
    pub log_groups: logs::LogGroups,
    /// ECS.
    #[serde(default)]
    pub services: services::Services,
    /// Application Auto Scaling.
    #[serde(default)]
    pub scaling: scaling::ScalableTargets,
    /// CloudWatch's metrics.
    #[serde(default)]
    pub metrics: metrics::Metrics,
}

impl World {
    /// An empty world that starts at `now`; `seed` fixes every id it will ever make.
    #[must_use]
    pub fn new(account: &str, region: &str, timings: Timings, seed: u64, now: Timestamp) -> Self {
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            timings,
            describes_go_back: false,
            guards_in_memory: false,
            clock: now,
            ids: Ids::new(seed),
            queues: queue::Queues::default(),
            bus: bus::Bus::default(),
            schedules: schedules::Schedules::default(),
            deliveries: delivery::Deliveries::default(),
            machines: machines::Machines::default(),
            launch_templates: launch_templates::LaunchTemplates::default(),
            launches: launches::Launches::default(),
            commands: commands::Commands::default(),
            log_groups: logs::LogGroups::default(),
            services: services::Services::default(),
            scaling: scaling::ScalableTargets::default(),
            metrics: metrics::Metrics::default(),
        }
    }

    /// The latest moment the world has seen.
    #[must_use]
    pub fn clock(&self) -> Timestamp {
        self.clock
    }

    /// Lets everything happen that is due by `now`, in the order of time.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some((at, actor)) = self.next_action() {
            if at > now {
                break;
            }
            self.clock = self.clock.max(at);
            match actor {
                Actor::Machine => self.step_machine(at),
                Actor::Command => self.step_command(at),
                Actor::Service => self.step_service(at),
                Actor::Scaling => self.step_scaling(at),
                Actor::Rule => self.step_rules(at),
                Actor::Schedule => self.step_schedules(at),
                Actor::Delivery => self.step_deliveries(at),
            }
        }
        self.clock = self.clock.max(now);
        self.forget_machines();
    }

    /// When something will happen next by itself: a machine or a task changes, a command runs, a schedule
    /// fires or a message becomes visible. `None`: nothing will, until somebody asks for something.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let action = self.next_action().map(|(at, _)| at);
        let message = self.queues.next_visible(self.clock);
        [action, message].into_iter().flatten().min()
    }

    /// Skips the schedules that were missed while a stored world was not running: a fire for every
    /// missed minute would help nobody. Machines and commands catch up by [`World::advance`].
    pub fn resume(&mut self, now: Timestamp) {
        self.bus.realign(now);
        self.schedules.realign(now);
        self.advance(now);
    }

    fn next_action(&self) -> Option<(Timestamp, Actor)> {
        // A tie goes to the first named, so that an agent sees the machine it runs on.
        [
            self.machines.next_due().map(|at| (at, Actor::Machine)),
            self.next_command_due().map(|at| (at, Actor::Command)),
            self.services.next_due().map(|at| (at, Actor::Service)),
            self.scaling.next_due().map(|at| (at, Actor::Scaling)),
            self.bus.next_due().map(|at| (at, Actor::Rule)),
            self.schedules.next_due().map(|at| (at, Actor::Schedule)),
            self.deliveries.next_due().map(|at| (at, Actor::Delivery)),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }

    /// The moment whose state a description made at `now` shows.
    fn shown_at(&mut self, now: Timestamp) -> Timestamp {
        let now = self.at(now);
        let most = self.timings.describe_lag;
        let lag = match u64::try_from(most.as_millis()) {
            Ok(millis) if self.describes_go_back && millis > 0 => {
                let drawn = self.ids.draw() % (millis + 1);
                SignedDuration::from_millis(i64::try_from(drawn).unwrap_or(0))
            }
            _ => most,
        };
        queue::plus(now, -lag)
    }

    /// Brings the clock to `now` and everything due with it; operations begin with this.
    fn at(&mut self, now: Timestamp) -> Timestamp {
        self.advance(now);
        self.clock
    }
}

#[derive(Debug, Clone, Copy)]
enum Actor {
    Machine,
    Command,
    Service,
    Scaling,
    Rule,
    Schedule,
    Delivery,
}

#[cfg(test)]
mod tests;
