//! `lamplighter schedule`: the fleet's schedules as rules of EventBridge and schedules of EventBridge
//! Scheduler.
//!
//! *Theory.* Look at all that is there, compare (`plan`, pure), and do what is left to do. A schedule
//! without a zone is a rule that has its name; one with a zone is a schedule of Scheduler. What is ours
//! says so by the tag [`QUEUE_TAG`], whose value is the ARN of the command queue: it comes with the call
//! that makes a rule or a group, so that there is no moment in which something of ours is nobody's.
//!
//! *Dying half-way.* A rule is made with its tag, then gets its target; removed by taking its targets,
//! then itself. What dies between leaves a rule of ours without a target, which fires into nothing and
//! which the next apply completes or removes. The queue lets a rule send before the rule is made. Every
//! call sets a state and can be made again; a lost answer is found as done the next time.
//!
//! *What somebody else does meanwhile.* A rule or schedule is looked at once more before it is set, so
//! that a state is kept which was switched since the plan was made, and nothing is overwritten that
//! appeared since. (Between that look and the call EventBridge offers no condition.)
//!
//! *Not here.* What a tick means (the fleet gives rules their commands), rules for AWS's signals
//! (`setup`), deleting schedule groups: that would delete whatever anybody put into them.

mod plan;
mod policy;
mod rules;
mod scheduler;

use std::collections::BTreeMap;

use lamplighter_runtime::ports::CallError;
use serde::Serialize;

use crate::client::{Aws, ConnectError};
use crate::names::Names;
use crate::queue_policy::UnreadablePolicy;
use crate::setup::{Change as StepChange, FoundQueue, SetupError, SetupStep};
pub use plan::{Change, Difference, Home, Planned};
use plan::{Desired, Found, Owner};

/// Whose a rule or a group is: the ARN of a command queue. Machines and services have the same key with the value
/// `true` ([`lamplighter_lifecycle::MANAGED_TAG`]).
pub const QUEUE_TAG: &str = "lamplighter:managed";
/// For people who find it in the console.
const DESCRIPTION: &str =
    "A schedule of Lamplighter's fleet file; made by lamplighter schedule apply";
/// How long a tick is tried to be delivered, where AWS would try for a day. One that is an hour late is
/// worse than none: a `check-idle` has been asked anew since, and a start or a kill counts from when SQS
/// took it, so it would undo what people did after it was due.
const LATE_SECONDS_MAX: i32 = 300;

/// A schedule of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, which is its rule's.
    pub name: String,
    /// `rate(…)`, `cron(…)` or `at(…)`.
    pub expression: String,
    /// By whose clock; `None` makes it a rule.
    pub zone: Option<String>,
    /// Whether it fires from the beginning.
    pub enabled: bool,
}

/// All that the fleet says about schedules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The schedules.
    pub schedules: Vec<Wanted>,
    /// The schedule group for those with a zone.
    pub group: String,
    /// The role by which Scheduler sends; needed for those with a zone.
    pub role: Option<String>,
}

/// What would be done, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What the schedules need around them: the queue's policy, the group.
    pub needs: Vec<SetupStep>,
    /// The schedules, in the order in which they are worked on.
    pub schedules: Vec<Planned>,
}

/// Why schedules cannot be looked at or changed. What was done before is done; a second run goes on.
#[derive(Debug, thiserror::Error)]
pub enum SchedulesError {
    /// A name in the fleet file.
    #[error("the fleet file names something that cannot be used")]
    Name(#[source] ConnectError),
    /// The queue cannot be read.
    #[error("the command queue cannot be looked at")]
    Queue(#[source] SetupError),
    /// The queue's policy is none.
    #[error("the command queue does not let the schedules send")]
    Policy(#[source] UnreadablePolicy),
    /// There is no queue.
    #[error("the command queue {0} does not exist: run `lamplighter setup` first")]
    NoQueue(String),
    /// AWS refused.
    #[error("the {what} cannot be worked on")]
    Call {
        /// Kind and name.
        what: String,
        /// What AWS said.
        #[source]
        source: CallError,
    },
    /// Somebody else was at it.
    #[error("the {what} was {done} by somebody else meanwhile, and was left alone: look again")]
    Meanwhile {
        /// Kind and name.
        what: String,
        /// `made` or `removed`.
        done: &'static str,
    },
    /// A zone, and no role.
    #[error("the schedule {0} has a zone, and no role is named by which it may send")]
    NoRole(String),
    /// An answer or a request that lacks what it must have.
    #[error("{what}: there is no {missing}")]
    Incomplete {
        /// Kind and name.
        what: String,
        /// What was missing.
        missing: &'static str,
    },
    /// No such schedule in AWS.
    #[error("no schedule {0} is in AWS: `lamplighter schedule apply` makes it")]
    NotThere(String),
    /// There is one, of somebody else's.
    #[error("the {home} {name} is not this fleet's ({}), and was left alone", owned_by(.owner.as_deref()))]
    NotOurs {
        /// Its name.
        name: String,
        /// Where it lives.
        home: Home,
        /// The queue of the fleet that it belongs to, if it is one's.
        owner: Option<String>,
    },
}

/// Whose it is, in words.
#[must_use]
pub fn owned_by(owner: Option<&str>) -> String {
    match owner {
        Some(queue) => format!("its tag {QUEUE_TAG} names {queue}"),
        None => format!("it has no tag {QUEUE_TAG}"),
    }
}

pub(crate) fn failed(what: &str, source: CallError) -> SchedulesError {
    SchedulesError::Call { what: what.to_owned(), source }
}

/// What `apply` would do. Changes nothing.
///
/// # Errors
/// Where AWS refuses a look, or there is no command queue.
pub async fn plan(aws: &Aws, names: &Names, wish: &Wish) -> Result<Report, SchedulesError> {
    Sight::look(aws, names, wish).await?.report(wish)
}

/// Makes AWS's schedules the fleet's, and touches nothing that is not.
///
/// # Errors
/// Where AWS refuses, or there is no command queue.
pub async fn apply(aws: &Aws, names: &Names, wish: &Wish) -> Result<Report, SchedulesError> {
    let sight = Sight::look(aws, names, wish).await?;
    let report = sight.report(wish)?;
    // First what is needed around them: a rule that fires and may not send loses its ticks.
    if let Some(policy) = sight.new_policy(wish)? {
        policy::put(aws, &sight.queue, policy).await?;
    }
    if sight.makes_group(wish) {
        scheduler::make_group(aws, &wish.group, &sight.queue.arn).await?;
    }
    for planned in &report.schedules {
        match &planned.home {
            Home::Rule => rules::carry_out(aws, planned, &sight.queue.arn).await?,
            Home::Scheduler(group) => {
                let role = wish.role.as_deref();
                scheduler::carry_out(aws, planned, group, &sight.queue.arn, role).await?;
            }
        }
    }
    Ok(report)
}

/// Switches a schedule of ours on or off in AWS; whether that changed anything.
///
/// # Errors
/// Where there is none, it is not ours, or AWS refuses.
pub async fn switch(
    aws: &Aws,
    names: &Names,
    wish: &Wish,
    name: &str,
    enabled: bool,
) -> Result<bool, SchedulesError> {
    let sight = Sight::look(aws, names, wish).await?;
    let named = || sight.found.iter().filter(|it| it.name == name);
    let mut changed = false;
    // One that an apply left in both places is switched in both.
    for found in named().filter(|it| it.owner == Owner::Us) {
        if found.enabled != enabled {
            match &found.home {
                Home::Rule => rules::switch(aws, name, enabled).await?,
                Home::Scheduler(group) => scheduler::switch(aws, group, name, enabled).await?,
            }
            changed = true;
        }
    }
    if named().any(|it| it.owner == Owner::Us) {
        return Ok(changed);
    }
    Err(match named().next() {
        Some(other) => SchedulesError::NotOurs {
            name: name.to_owned(),
            home: other.home.clone(),
            owner: match &other.owner {
                Owner::Other(queue) => Some(queue.clone()),
                Owner::Us | Owner::Nobody => None,
            },
        },
        None => SchedulesError::NotThere(name.to_owned()),
    })
}

/// All that was found.
struct Sight {
    queue: FoundQueue,
    found: Vec<Found>,
    groups: BTreeMap<String, Owner>,
    /// Why Scheduler was not looked at.
    blind: Option<CallError>,
}

impl Sight {
    async fn look(aws: &Aws, names: &Names, wish: &Wish) -> Result<Self, SchedulesError> {
        names.check().map_err(SchedulesError::Name)?;
        let queue = FoundQueue::find(aws, &names.commands).await.map_err(SchedulesError::Queue)?;
        let queue = queue.ok_or_else(|| SchedulesError::NoQueue(names.commands.clone()))?;
        let of = |wanted: &&Wanted| wanted.zone.is_none();
        let rules: Vec<&str> =
            wish.schedules.iter().filter(of).map(|it| it.name.as_str()).collect();
        let mut found = rules::look(aws, &rules, &queue.arn).await?;
        let zoned = rules.len() < wish.schedules.len();
        let (groups, blind) = match scheduler::look(aws, &wish.group, &queue.arn).await {
            Ok((groups, schedules)) => {
                found.extend(schedules);
                (groups, None)
            }
            // Who uses no zones needs neither the service nor rights to it.
            Err(SchedulesError::Call { source, .. }) if !zoned => (BTreeMap::new(), Some(source)),
            Err(error) => return Err(error),
        };
        Ok(Self { queue, found, groups, blind })
    }

    fn report(&self, wish: &Wish) -> Result<Report, SchedulesError> {
        let desired: Vec<Desired> =
            wish.schedules.iter().map(|wanted| desired(wanted, wish, &self.queue.arn)).collect();
        let change = |changed: bool, to: StepChange| if changed { to } else { StepChange::Exists };
        let policy = change(self.new_policy(wish)?.is_some(), StepChange::Updated);
        let mut needs = vec![SetupStep::new("policy of the command queue", policy)];
        if zoned(wish) {
            let what = format!("schedule group {}", wish.group);
            let made = change(self.makes_group(wish), StepChange::Created);
            needs.push(SetupStep::new(what, made));
        }
        if let Some(why) = &self.blind {
            needs.push(SetupStep::new("EventBridge Scheduler", StepChange::Skipped).noting(
                format!(
                    "no schedule has a zone, and it could not be looked at for older ones: {why}"
                ),
            ));
        }
        Ok(Report { needs, schedules: plan::plan(&desired, &self.found, &self.groups) })
    }

    fn new_policy(&self, wish: &Wish) -> Result<Option<String>, SchedulesError> {
        let rules = wish.schedules.iter().filter(|it| it.zone.is_none());
        let rules: Vec<&str> = rules.map(|it| it.name.as_str()).collect();
        policy::wanted(self.queue.policy(), &self.queue.arn, &rules).map_err(SchedulesError::Policy)
    }

    fn makes_group(&self, wish: &Wish) -> bool {
        zoned(wish) && !self.groups.contains_key(&wish.group)
    }
}

fn zoned(wish: &Wish) -> bool {
    wish.schedules.iter().any(|it| it.zone.is_some())
}

fn desired(wanted: &Wanted, wish: &Wish, queue_arn: &str) -> Desired {
    let (home, shape) = match &wanted.zone {
        None => (Home::Rule, rules::shape(wanted, queue_arn)),
        Some(zone) => {
            let role = wish.role.as_deref();
            (Home::Scheduler(wish.group.clone()), scheduler::shape(wanted, zone, queue_arn, role))
        }
    };
    Desired { home, name: wanted.name.clone(), enabled: wanted.enabled, shape }
}

/// Whose something is that has this tag.
fn owner(tag: Option<&str>, queue_arn: &str) -> Owner {
    match tag {
        Some(tag) if tag == queue_arn => Owner::Us,
        Some(tag) => Owner::Other(tag.to_owned()),
        None => Owner::Nobody,
    }
}
