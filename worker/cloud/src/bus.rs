//! EventBridge: buses, rules, schedules, and targets that are SQS queues.
//!
//! An event that a service inside emits, or that a caller puts, is matched against every enabled rule of
//! its bus and delivered in the same moment (but see [`crate::delivery`]). A schedule fires at its own time with AWS's "Scheduled
//! Event", to its own rule's targets alone. A delivery to a queue that does not exist is dropped and
//! counted, as EventBridge drops it after its retries.
//!
//! Not here: targets other than queues, archives, dead-letter queues of targets.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lamplighter_events::{Expression, ScheduleError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::pattern::{self, PatternError};
use crate::template::{Occasion, Transformer, at_path};
use crate::{ServiceFault, World};

/// The most entries of one PutEvents.
pub const ENTRIES_MAX: usize = 10;
/// The most bytes of one entry.
pub const ENTRY_BYTES_MAX: usize = 256 * 1024;
/// The most targets of one rule.
pub const TARGETS_MAX: usize = 5;

/// Why a call to EventBridge was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// No rule of this name.
    #[error("Rule {0} does not exist on EventBus {1}.")]
    RuleNotFound(String, String),
    /// No bus of this name.
    #[error("Event bus {0} does not exist.")]
    BusNotFound(String),
    /// A bus of this name exists.
    #[error("Event bus {0} already exists.")]
    BusExists(String),
    /// The pattern cannot be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The schedule cannot be read.
    #[error("Parameter ScheduleExpression is not valid. Reason: {0}.")]
    Schedule(#[from] ScheduleError),
    /// An expression that only EventBridge Scheduler knows.
    #[error("Parameter ScheduleExpression is not valid. Reason: a rule knows rate and cron alone.")]
    Once,
    /// A parameter is missing or out of range.
    #[error("{0}")]
    Validation(String),
    /// A rule with targets cannot be deleted.
    #[error("Rule can't be deleted since it has targets.")]
    HasTargets,
    /// Too many targets.
    #[error("The requested resource exceeds the maximum number allowed.")]
    LimitExceeded,
}

impl ServiceFault for BusError {
    fn code(&self) -> &'static str {
        match self {
            Self::RuleNotFound(..) | Self::BusNotFound(_) => "ResourceNotFoundException",
            Self::BusExists(_) => "ResourceAlreadyExistsException",
            Self::Pattern(_) => "InvalidEventPatternException",
            Self::Schedule(_) | Self::Once | Self::Validation(_) | Self::HasTargets => {
                "ValidationException"
            }
            Self::LimitExceeded => "LimitExceededException",
        }
    }
}

/// Where a rule sends what it matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The target's id within its rule.
    #[serde(rename = "Id")]
    pub id: String,
    /// The ARN of an SQS queue.
    #[serde(rename = "Arn")]
    pub arn: String,
    /// A constant in place of the event.
    #[serde(rename = "Input", default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// A part of the event in place of the whole.
    #[serde(rename = "InputPath", default, skip_serializing_if = "Option::is_none")]
    pub input_path: Option<String>,
    /// A template in place of the event.
    #[serde(rename = "InputTransformer", default, skip_serializing_if = "Option::is_none")]
    pub transformer: Option<Transformer>,
    /// The role EventBridge would use; kept, not read.
    #[serde(rename = "RoleArn", default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// How long EventBridge would retry; kept, not read.
    #[serde(rename = "RetryPolicy", default, skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<Value>,
}

/// One rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The bus it listens to.
    pub bus: String,
    /// Which events it wants, as it was given.
    pub pattern: Option<Value>,
    /// When it fires, as it was given.
    pub expression: Option<String>,
    /// Since when a rate counts.
    since: Timestamp,
    next_fire: Option<Timestamp>,
    /// Whether it works.
    pub enabled: bool,
    /// For people.
    pub description: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Targets by id.
    pub targets: BTreeMap<String, Target>,
}

/// What PutRule sets; a rule that exists keeps its targets and tags.
#[derive(Debug, Clone, Default)]
pub struct RuleSpec {
    /// The rule's name.
    pub name: String,
    /// The bus, `default` where empty.
    pub bus: String,
    /// The event pattern.
    pub pattern: Option<Value>,
    /// The schedule expression.
    pub expression: Option<String>,
    /// Made disabled.
    pub disabled: bool,
    /// For people.
    pub description: Option<String>,
    /// Tags, for a new rule.
    pub tags: BTreeMap<String, String>,
}

/// One entry of PutEvents.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// Who sends it.
    pub source: String,
    /// What kind of event it is.
    pub detail_type: String,
    /// JSON text of an object.
    pub detail: String,
    /// ARNs it is about.
    pub resources: Vec<String>,
    /// Name or ARN of the bus; empty is the default bus.
    pub bus: String,
    /// When it happened, if the sender says.
    pub time: Option<Timestamp>,
}

/// Why one entry failed while others did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryFailure {
    /// The code in `ErrorCode`.
    pub code: &'static str,
    /// The text in `ErrorMessage`.
    pub message: String,
}

/// All buses and rules.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bus {
    buses: BTreeSet<String>,
    /// By bus, then by name.
    rules: BTreeMap<String, BTreeMap<String, Rule>>,
    /// How many deliveries found no queue.
    pub failed_deliveries: u64,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            buses: BTreeSet::from(["default".to_owned()]),
            rules: BTreeMap::new(),
            failed_deliveries: 0,
        }
    }
}

/// A bus's name from its name or ARN; empty is `default`.
#[must_use]
pub fn bus_name(name_or_arn: &str) -> &str {
    match name_or_arn.rsplit_once("event-bus/") {
        Some((_, name)) => name,
        None if name_or_arn.is_empty() => "default",
        None => name_or_arn,
    }
}

impl Bus {
    /// The names of all buses.
    pub fn buses(&self) -> impl Iterator<Item = &str> {
        self.buses.iter().map(String::as_str)
    }

    /// Makes a bus.
    pub fn create(&mut self, name: &str) -> Result<(), BusError> {
        if !self.buses.insert(name.to_owned()) {
            return Err(BusError::BusExists(name.to_owned()));
        }
        Ok(())
    }

    /// Removes a bus with its rules.
    pub fn delete(&mut self, name: &str) {
        if name != "default" {
            self.buses.remove(name);
            self.rules.remove(name);
        }
    }

    fn check_bus(&self, name: &str) -> Result<(), BusError> {
        if self.buses.contains(name) {
            return Ok(());
        }
        Err(BusError::BusNotFound(name.to_owned()))
    }

    /// The rules of a bus in the order of their names.
    pub fn rules(&self, bus: &str) -> Result<impl Iterator<Item = &Rule>, BusError> {
        self.check_bus(bus)?;
        Ok(self.rules.get(bus).into_iter().flat_map(BTreeMap::values))
    }

    /// One rule.
    pub fn rule(&self, bus: &str, name: &str) -> Result<&Rule, BusError> {
        self.check_bus(bus)?;
        self.rules
            .get(bus)
            .and_then(|rules| rules.get(name))
            .ok_or_else(|| BusError::RuleNotFound(name.to_owned(), bus.to_owned()))
    }

    /// One rule, to change its tags or targets.
    pub fn rule_mut(&mut self, bus: &str, name: &str) -> Result<&mut Rule, BusError> {
        self.check_bus(bus)?;
        self.rules
            .get_mut(bus)
            .and_then(|rules| rules.get_mut(name))
            .ok_or_else(|| BusError::RuleNotFound(name.to_owned(), bus.to_owned()))
    }

    /// Removes a rule; one that is not there is no error, one with targets is.
    pub fn delete_rule(&mut self, bus: &str, name: &str) -> Result<(), BusError> {
        self.check_bus(bus)?;
        let Some(rules) = self.rules.get_mut(bus) else { return Ok(()) };
        if rules.get(name).is_some_and(|rule| !rule.targets.is_empty()) {
            return Err(BusError::HasTargets);
        }
        rules.remove(name);
        Ok(())
    }

    /// When a schedule fires next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.all_rules().filter_map(|rule| rule.next_fire).min()
    }

    /// Moves every schedule to its first fire after `now`.
    pub(crate) fn realign(&mut self, now: Timestamp) {
        for rule in self.rules.values_mut().flat_map(BTreeMap::values_mut) {
            rule.schedule_after(now);
        }
    }

    fn all_rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values().flat_map(BTreeMap::values)
    }
}

impl Rule {
    fn schedule_after(&mut self, now: Timestamp) {
        // It was read when it was put.
        let expression = self.expression.as_deref().filter(|_| self.enabled);
        let expression = expression.and_then(|text| Expression::parse(text).ok());
        self.next_fire = expression.and_then(|it| it.next_after(self.since, now, &TimeZone::UTC));
    }

    /// When it fires next by itself.
    #[must_use]
    pub fn next_fire(&self) -> Option<Timestamp> {
        self.next_fire
    }

    /// Adds or replaces targets.
    pub fn put_targets(&mut self, targets: Vec<Target>) -> Result<(), BusError> {
        let mut all = self.targets.clone();
        for target in targets {
            if target.id.is_empty() || target.id.len() > 64 {
                return Err(BusError::Validation(
                    "Parameter targets.id must have 1 to 64 characters.".to_owned(),
                ));
            }
            let inputs =
                [target.input.is_some(), target.input_path.is_some(), target.transformer.is_some()];
            if inputs.iter().filter(|given| **given).count() > 1 {
                return Err(BusError::Validation(format!(
                    "Only one of Input, InputPath, or InputTransformer must be provided for target {}.",
                    target.id
                )));
            }
            if target.input.as_ref().is_some_and(|it| serde_json::from_str::<Value>(it).is_err()) {
                return Err(BusError::Validation(format!(
                    "JSON text in the Input for target {} is invalid.",
                    target.id
                )));
            }
            all.insert(target.id.clone(), target);
        }
        if all.len() > TARGETS_MAX {
            return Err(BusError::LimitExceeded);
        }
        self.targets = all;
        Ok(())
    }
}

impl World {
    /// The ARN of a rule.
    #[must_use]
    pub fn rule_arn(&self, bus: &str, name: &str) -> String {
        let path = if bus == "default" { name.to_owned() } else { format!("{bus}/{name}") };
        format!("arn:aws:events:{}:{}:rule/{path}", self.region, self.account)
    }

    /// Makes or changes a rule and returns its ARN.
    pub fn put_rule(&mut self, now: Timestamp, spec: RuleSpec) -> Result<String, BusError> {
        let now = self.at(now);
        let bus = bus_name(&spec.bus).to_owned();
        self.bus.check_bus(&bus)?;
        let well_named = (1..=64).contains(&spec.name.len())
            && spec.name.chars().all(|it| it.is_ascii_alphanumeric() || ".-_".contains(it));
        if !well_named {
            return Err(BusError::Validation(format!(
                "Value '{}' at 'name' failed to satisfy constraint: 1 to 64 of [.\\-_A-Za-z0-9]",
                spec.name
            )));
        }
        if spec.pattern.is_none() && spec.expression.is_none() {
            return Err(BusError::Validation(
                "Parameter(s) EventPattern or ScheduleExpression must be specified.".to_owned(),
            ));
        }
        if spec.expression.is_some() && bus != "default" {
            return Err(BusError::Validation(
                "ScheduleExpression is supported only on the default event bus.".to_owned(),
            ));
        }
        if let Some(wanted) = &spec.pattern {
            pattern::validate(wanted)?;
        }
        let expression = spec.expression.as_deref().map(Expression::parse).transpose()?;
        if matches!(expression, Some(Expression::At(_))) {
            return Err(BusError::Once);
        }
        let arn = self.rule_arn(&bus, &spec.name);
        let rules = self.bus.rules.entry(bus.clone()).or_default();
        let old = rules.remove(&spec.name);
        // A rule put again unchanged keeps its rhythm.
        let since = old
            .as_ref()
            .filter(|old| old.expression == spec.expression && old.enabled != spec.disabled)
            .map_or(now, |old| old.since);
        let mut rule = Rule {
            name: spec.name.clone(),
            bus,
            pattern: spec.pattern,
            expression: spec.expression,
            since,
            next_fire: None,
            enabled: !spec.disabled,
            description: spec.description,
            tags: old.as_ref().map_or(spec.tags, |old| old.tags.clone()),
            targets: old.map_or_else(BTreeMap::new, |old| old.targets),
        };
        rule.schedule_after(now);
        rules.insert(spec.name, rule);
        Ok(arn)
    }

    /// Switches a rule on or off.
    pub fn set_rule_enabled(
        &mut self,
        now: Timestamp,
        bus: &str,
        name: &str,
        enabled: bool,
    ) -> Result<(), BusError> {
        let now = self.at(now);
        let rule = self.bus.rule_mut(bus, name)?;
        if rule.enabled != enabled {
            rule.enabled = enabled;
            rule.since = now;
            rule.schedule_after(now);
        }
        Ok(())
    }

    /// Takes up to ten events; each gets its id or its own failure.
    pub fn put_events(
        &mut self,
        now: Timestamp,
        entries: &[Entry],
    ) -> Result<Vec<Result<String, EntryFailure>>, BusError> {
        let now = self.at(now);
        if entries.is_empty() || entries.len() > ENTRIES_MAX {
            return Err(BusError::Validation(format!(
                "1 validation error detected: Value at 'entries' failed to satisfy constraint: Member must have length between 1 and {ENTRIES_MAX}"
            )));
        }
        Ok(entries.iter().map(|entry| self.put_entry(now, entry)).collect())
    }

    fn put_entry(&mut self, now: Timestamp, entry: &Entry) -> Result<String, EntryFailure> {
        let missing = [
            ("Source", &entry.source),
            ("DetailType", &entry.detail_type),
            ("Detail", &entry.detail),
        ];
        for (name, value) in missing {
            if value.is_empty() {
                return Err(EntryFailure {
                    code: "InvalidArgument",
                    message: format!(
                        "Parameter {name} is not valid. Reason: {name} is a required argument."
                    ),
                });
            }
        }
        if entry.source.starts_with("aws.") {
            return Err(EntryFailure {
                code: "NotAuthorizedForSourceException",
                message: "Not authorized for the source.".to_owned(),
            });
        }
        let size = entry.source.len() + entry.detail_type.len() + entry.detail.len();
        if size > ENTRY_BYTES_MAX {
            return Err(EntryFailure {
                code: "InvalidArgument",
                message: format!(
                    "Total size of the entry is over the limit of {ENTRY_BYTES_MAX} bytes."
                ),
            });
        }
        let detail = serde_json::from_str::<Value>(&entry.detail).ok().filter(Value::is_object);
        let Some(detail) = detail else {
            return Err(EntryFailure {
                code: "MalformedDetail",
                message: "Detail is malformed.".to_owned(),
            });
        };
        let bus = bus_name(&entry.bus).to_owned();
        self.bus.check_bus(&bus).map_err(|error| EntryFailure {
            code: "InvalidArgument",
            message: error.to_string(),
        })?;
        let time = entry.time.unwrap_or(now);
        let event =
            self.envelope(time, &entry.source, &entry.detail_type, &entry.resources, &detail);
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        self.publish(now, &bus, &event);
        Ok(id)
    }

    /// An event of AWS's own, on the default bus.
    pub(crate) fn emit(
        &mut self,
        now: Timestamp,
        source: &str,
        detail_type: &str,
        resources: &[String],
        detail: &Value,
    ) {
        let event = self.envelope(now, source, detail_type, resources, detail);
        self.publish(now, "default", &event);
    }

    pub(crate) fn envelope(
        &mut self,
        time: Timestamp,
        source: &str,
        detail_type: &str,
        resources: &[String],
        detail: &Value,
    ) -> Value {
        json!({
            "version": "0",
            "id": self.ids.uuid(),
            "detail-type": detail_type,
            "source": source,
            "account": self.account,
            // EventBridge gives whole seconds.
            "time": Timestamp::from_second(time.as_second()).unwrap_or(time).to_string(),
            "region": self.region,
            "resources": resources,
            "detail": detail,
        })
    }

    fn publish(&mut self, now: Timestamp, bus: &str, event: &Value) {
        let wanted_by: Vec<(String, Vec<Target>)> = self
            .bus
            .rules
            .get(bus)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|rule| rule.enabled)
            .filter(|rule| rule.pattern.as_ref().is_some_and(|it| pattern::matches(it, event)))
            .map(|rule| (rule.name.clone(), rule.targets.values().cloned().collect()))
            .collect();
        for (rule, targets) in wanted_by {
            self.deliver(now, bus, &rule, &targets, event);
        }
    }

    fn deliver(
        &mut self,
        now: Timestamp,
        bus: &str,
        rule: &str,
        targets: &[Target],
        event: &Value,
    ) {
        let rule_arn = self.rule_arn(bus, rule);
        let occasion = Occasion { rule_name: rule, rule_arn: &rule_arn, ingested: now };
        for target in targets {
            let body = if let Some(input) = &target.input {
                input.clone()
            } else if let Some(path) = &target.input_path {
                at_path(event, path).unwrap_or(&Value::Null).to_string()
            } else if let Some(transformer) = &target.transformer {
                transformer.render(event, occasion)
            } else {
                event.to_string()
            };
            if !self.deliver_to(now, &target.arn, &body) {
                self.bus.failed_deliveries += 1;
            }
        }
    }

    /// Fires the rules that are due at `at`.
    pub(crate) fn step_rules(&mut self, at: Timestamp) {
        let due: Vec<(String, String)> = self
            .bus
            .all_rules()
            .filter(|rule| rule.next_fire.is_some_and(|fire| fire <= at))
            .map(|rule| (rule.bus.clone(), rule.name.clone()))
            .collect();
        for (bus, name) in due {
            let arn = self.rule_arn(&bus, &name);
            let Ok(rule) = self.bus.rule_mut(&bus, &name) else { continue };
            let targets: Vec<Target> = rule.targets.values().cloned().collect();
            let fired = rule.next_fire.unwrap_or(at);
            rule.schedule_after(at);
            let event = self.envelope(fired, "aws.events", "Scheduled Event", &[arn], &json!({}));
            self.deliver(at, &bus, &name, &targets, &event);
        }
    }
}
