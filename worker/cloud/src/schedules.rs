//! EventBridge Scheduler: groups with tags, and schedules that send to SQS queues.
//!
//! A schedule fires by a clock of its own zone, with what its target's `Input` says; the context
//! attributes (`<aws.scheduler.scheduled-time>` and its like) are filled in. A rate fires first when it
//! is made. As there, an update replaces everything, the state included: who leaves it out switches the
//! schedule on. A delivery to a queue that does not exist is dropped and counted.
//!
//! Not here: targets other than queues, start and end dates, flexible windows (the delivery is in the
//! moment, but see [`crate::delivery`]), dead-letter queues, deletion after completion, groups that take time to go.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lamplighter_events::{Expression, ScheduleError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::queue;
use crate::{ServiceFault, World};

/// The group that is always there.
pub const DEFAULT_GROUP: &str = "default";

/// Why a call to EventBridge Scheduler was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchedulerError {
    /// No such schedule.
    #[error("Schedule {0} does not exist.")]
    NoSchedule(String),
    /// No such group.
    #[error("Schedule group {0} does not exist.")]
    NoGroup(String),
    /// There is one of this name.
    #[error("{0} already exists.")]
    Conflict(String),
    /// The expression cannot be read.
    #[error("Invalid Schedule Expression {0}.")]
    Expression(#[from] ScheduleError),
    /// A parameter is missing or out of range.
    #[error("{0}")]
    Validation(String),
}

impl ServiceFault for SchedulerError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSchedule(_) | Self::NoGroup(_) => "ResourceNotFoundException",
            Self::Conflict(_) => "ConflictException",
            Self::Expression(_) | Self::Validation(_) => "ValidationException",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::NoSchedule(_) | Self::NoGroup(_) => 404,
            Self::Conflict(_) => 409,
            Self::Expression(_) | Self::Validation(_) => 400,
        }
    }
}

/// One group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
    /// Of the call that made it.
    token: Option<String>,
    schedules: BTreeMap<String, Schedule>,
}

/// What CreateSchedule and UpdateSchedule set: all of it, each time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// The name within its group.
    pub name: String,
    /// The group, `default` where empty.
    pub group: String,
    /// When it fires.
    pub expression: String,
    /// By whose clock; UTC where empty.
    pub zone: String,
    /// Whether it is switched off.
    pub disabled: bool,
    /// For people.
    pub description: Option<String>,
    /// `Target` as it was given: ARN, role, input, retries.
    pub target: Value,
    /// `FlexibleTimeWindow` as it was given.
    pub window: Value,
    /// The caller's token: the same again is the same call.
    pub token: Option<String>,
}

/// One schedule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Schedule {
    /// As it was set last.
    pub spec: ScheduleSpec,
    /// When it was made.
    pub created: Timestamp,
    /// When it was set last.
    pub changed: Timestamp,
    /// Since when a rate counts.
    since: Timestamp,
    next_fire: Option<Timestamp>,
}

/// All groups and their schedules.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Schedules {
    groups: BTreeMap<String, Group>,
    /// How many deliveries found no queue.
    pub failed_deliveries: u64,
}

impl Default for Schedules {
    fn default() -> Self {
        let group = Group {
            name: DEFAULT_GROUP.to_owned(),
            tags: BTreeMap::new(),
            created: Timestamp::UNIX_EPOCH,
            token: None,
            schedules: BTreeMap::new(),
        };
        Self { groups: BTreeMap::from([(group.name.clone(), group)]), failed_deliveries: 0 }
    }
}

fn group_or_default(name: &str) -> &str {
    if name.is_empty() { DEFAULT_GROUP } else { name }
}

fn well_named(kind: &str, name: &str) -> Result<(), SchedulerError> {
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if fits {
        return Ok(());
    }
    Err(SchedulerError::Validation(format!(
        "1 validation error detected: Value '{name}' at '{kind}' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[0-9a-zA-Z-_.]+$"
    )))
}

impl Schedules {
    /// All groups in the order of their names.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// One group.
    pub fn group(&self, name: &str) -> Result<&Group, SchedulerError> {
        self.groups.get(name).ok_or_else(|| SchedulerError::NoGroup(name.to_owned()))
    }

    /// One group, to change its tags.
    pub fn group_mut(&mut self, name: &str) -> Result<&mut Group, SchedulerError> {
        self.groups.get_mut(name).ok_or_else(|| SchedulerError::NoGroup(name.to_owned()))
    }

    /// Removes a group with its schedules.
    pub fn delete_group(&mut self, name: &str) -> Result<(), SchedulerError> {
        if name == DEFAULT_GROUP {
            return Err(SchedulerError::Validation("Group default cannot be deleted.".to_owned()));
        }
        self.group(name)?;
        self.groups.remove(name);
        Ok(())
    }

    /// The schedules of all groups, in the order of groups and names.
    pub fn iter(&self) -> impl Iterator<Item = &Schedule> {
        self.groups.values().flat_map(|group| group.schedules.values())
    }

    /// One schedule; an empty group is `default`.
    pub fn get(&self, group: &str, name: &str) -> Result<&Schedule, SchedulerError> {
        let found = self.group(group_or_default(group))?.schedules.get(name);
        found.ok_or_else(|| SchedulerError::NoSchedule(name.to_owned()))
    }

    /// Removes a schedule.
    pub fn delete(&mut self, group: &str, name: &str) -> Result<(), SchedulerError> {
        let found = self.group_mut(group_or_default(group))?.schedules.remove(name);
        found.map(drop).ok_or_else(|| SchedulerError::NoSchedule(name.to_owned()))
    }

    /// When one fires next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.iter().filter_map(|schedule| schedule.next_fire).min()
    }

    /// Moves every schedule to its first fire after `now`.
    pub(crate) fn realign(&mut self, now: Timestamp) {
        for schedule in self.groups.values_mut().flat_map(|group| group.schedules.values_mut()) {
            schedule.arm_after(now);
        }
    }
}

impl Schedule {
    fn arm_after(&mut self, now: Timestamp) {
        // Both were read when they were set.
        let expression = Expression::parse(&self.spec.expression).ok();
        let zone = zone_of(&self.spec.zone).ok();
        let armed = expression.zip(zone).filter(|_| !self.spec.disabled);
        self.next_fire = armed.and_then(|(it, zone)| it.next_after(self.since, now, &zone));
    }

    /// When it fires next.
    #[must_use]
    pub fn next_fire(&self) -> Option<Timestamp> {
        self.next_fire
    }
}

fn zone_of(name: &str) -> Result<TimeZone, SchedulerError> {
    let name = if name.is_empty() { "UTC" } else { name };
    TimeZone::get(name).map_err(|_| {
        SchedulerError::Validation(format!("Invalid ScheduleExpressionTimezone: {name}"))
    })
}

fn check(spec: &ScheduleSpec) -> Result<Expression, SchedulerError> {
    well_named("name", &spec.name)?;
    zone_of(&spec.zone)?;
    let expression = Expression::parse(&spec.expression)?;
    let required = |place: &Value, field: &str| {
        place[field].as_str().filter(|it| !it.is_empty()).map(str::to_owned).ok_or_else(|| {
            SchedulerError::Validation(format!(
                "1 validation error detected: Value null at '{field}' failed to satisfy constraint: Member must not be null"
            ))
        })
    };
    required(&spec.window, "Mode")?;
    required(&spec.target, "RoleArn")?;
    let arn = required(&spec.target, "Arn")?;
    if queue::queue_name_of(&arn).is_none() {
        return Err(SchedulerError::Validation(format!(
            "Provided Arn is not in correct format: {arn}; only SQS queues are targets here."
        )));
    }
    let age = &spec.target["RetryPolicy"]["MaximumEventAgeInSeconds"];
    if age.as_i64().is_some_and(|age| !(60..=86_400).contains(&age)) {
        return Err(SchedulerError::Validation(format!(
            "1 validation error detected: Value '{age}' at 'maximumEventAgeInSeconds' failed to satisfy constraint: 60 to 86400"
        )));
    }
    Ok(expression)
}

impl World {
    /// The ARN of a group.
    #[must_use]
    pub fn schedule_group_arn(&self, group: &str) -> String {
        format!("arn:aws:scheduler:{}:{}:schedule-group/{group}", self.region, self.account)
    }

    /// The ARN of a schedule.
    #[must_use]
    pub fn schedule_arn(&self, group: &str, name: &str) -> String {
        let group = group_or_default(group);
        format!("arn:aws:scheduler:{}:{}:schedule/{group}/{name}", self.region, self.account)
    }

    /// Makes a group and returns its ARN.
    pub fn create_schedule_group(
        &mut self,
        now: Timestamp,
        name: &str,
        tags: BTreeMap<String, String>,
        token: Option<String>,
    ) -> Result<String, SchedulerError> {
        let now = self.at(now);
        well_named("name", name)?;
        let arn = self.schedule_group_arn(name);
        if let Some(there) = self.schedules.groups.get(name) {
            if token.is_some() && there.token == token {
                return Ok(arn);
            }
            return Err(SchedulerError::Conflict(format!("Schedule group {name}")));
        }
        let (name, schedules) = (name.to_owned(), BTreeMap::new());
        let group = Group { name: name.clone(), tags, created: now, token, schedules };
        self.schedules.groups.insert(name, group);
        Ok(arn)
    }

    /// Makes a schedule and returns its ARN.
    pub fn create_schedule(
        &mut self,
        now: Timestamp,
        spec: ScheduleSpec,
    ) -> Result<String, SchedulerError> {
        let now = self.at(now);
        let expression = check(&spec)?;
        let arn = self.schedule_arn(&spec.group, &spec.name);
        let group = self.schedules.group_mut(group_or_default(&spec.group))?;
        if let Some(there) = group.schedules.get(&spec.name) {
            if spec.token.is_some() && there.spec.token == spec.token {
                return Ok(arn);
            }
            return Err(SchedulerError::Conflict(format!("Schedule {}", spec.name)));
        }
        let name = spec.name.clone();
        let mut schedule =
            Schedule { spec, created: now, changed: now, since: now, next_fire: None };
        if matches!(expression, Expression::Rate { .. }) && !schedule.spec.disabled {
            schedule.next_fire = Some(now);
        } else {
            schedule.arm_after(now);
        }
        group.schedules.insert(name, schedule);
        Ok(arn)
    }

    /// Sets a schedule that is there anew, all of it, and returns its ARN.
    pub fn update_schedule(
        &mut self,
        now: Timestamp,
        spec: ScheduleSpec,
    ) -> Result<String, SchedulerError> {
        let now = self.at(now);
        check(&spec)?;
        let arn = self.schedule_arn(&spec.group, &spec.name);
        let group = self.schedules.group_mut(group_or_default(&spec.group))?;
        let schedule = group.schedules.get_mut(&spec.name);
        let schedule = schedule.ok_or_else(|| SchedulerError::NoSchedule(spec.name.clone()))?;
        // What changed nothing of its rhythm keeps it.
        let old = &schedule.spec;
        let same = old.expression == spec.expression
            && old.zone == spec.zone
            && old.disabled == spec.disabled;
        schedule.spec = spec;
        schedule.changed = now;
        if !same {
            schedule.since = now;
            schedule.arm_after(now);
        }
        Ok(arn)
    }

    /// Fires the schedules that are due at `at`.
    pub(crate) fn step_schedules(&mut self, at: Timestamp) {
        let mut due = Vec::new();
        for schedule in self.schedules.groups.values_mut().flat_map(|it| it.schedules.values_mut())
        {
            if let Some(fired) = schedule.next_fire.filter(|fire| *fire <= at) {
                schedule.arm_after(at);
                due.push((schedule.spec.clone(), fired));
            }
        }
        for (spec, fired) in due {
            let arn = self.schedule_arn(&spec.group, &spec.name);
            let body = match spec.target["Input"].as_str() {
                Some(input) => self.filled_in(input, &arn, fired),
                None => {
                    let detail = json!("{}");
                    let kind = "Scheduled Event";
                    self.envelope(fired, "aws.scheduler", kind, &[arn], &detail).to_string()
                }
            };
            let arn = spec.target["Arn"].as_str().unwrap_or_default();
            if !self.deliver_to(at, arn, &body) {
                self.schedules.failed_deliveries += 1;
            }
        }
    }

    /// An input with its context attributes.
    fn filled_in(&mut self, input: &str, arn: &str, fired: Timestamp) -> String {
        // Whole seconds, as Scheduler gives them.
        let scheduled = Timestamp::from_second(fired.as_second()).unwrap_or(fired).to_string();
        let execution = self.ids.uuid();
        [
            ("<aws.scheduler.schedule-arn>", arn),
            ("<aws.scheduler.scheduled-time>", &*scheduled),
            ("<aws.scheduler.execution-id>", &*execution),
            ("<aws.scheduler.attempt-number>", "1"),
        ]
        .iter()
        .fold(input.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}
