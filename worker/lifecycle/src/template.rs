//! What a machine for each request is made from: the launch, its parameters, its bootstrap.
//!
//! *Theory.* A template is the spec of many targets. Each is named after it with a suffix that follows from the
//! command's id, or from the value of the template's `dedupe` parameter: the same request twice is the same
//! target, and its record's condition is what makes it one machine, not a check.
//!
//! *Invariants.* A value reaches a host only if it matches its parameter's pattern, whole. Every launch has a
//! client token of its own, which follows from (target, when the way up began, its number); the same token always
//! goes with the same parameters of the launch.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lamplighter_events::{CommandId, HumanDuration, TargetName};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::json_size::json_bytes;
use crate::limits::PARAMETERS_BYTES_MAX;
use crate::resource::{LaunchToken, hex};
use crate::unit::UnitName;

/// Hexadecimal digits of a provisioned target's suffix: 64 bits, so that two requests do not meet by chance.
const SUFFIX_DIGITS: usize = 16;
/// The tag that says whose workers mind a machine: the command queue's name.
pub const OWNER_TAG: &str = "lamplighter:owner";
/// The tag with the target's name.
pub const TARGET_TAG: &str = "lamplighter:target";
/// The tag with the number of the launch.
pub const LAUNCH_TAG: &str = "lamplighter:launch";
/// The tag that the worker's rights stand on.
pub const MANAGED_TAG: &str = "lamplighter:managed";

/// A regular expression that a value must match as a whole.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Takes what the `regex` crate takes.
    ///
    /// # Errors
    /// In its words, where it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The text by itself first: a stray `)` must not close our own group.
        Regex::new(text).map_err(|error| error.to_string())?;
        let regex = Regex::new(&format!("^(?:{text})\\z")).map_err(|error| error.to_string())?;
        Ok(Self { text: text.to_owned(), regex })
    }
    /// Whether all of the value is as it says.
    pub fn fits(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// What a create may, or must, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// What a value looks like.
    pub pattern: Pattern,
    /// A create without it is refused.
    pub required: bool,
    /// What stands for it where a create does not say.
    pub default: Option<String>,
}

/// What is run on a machine before it counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "bootstrap", rename_all = "kebab-case")]
pub enum Bootstrap {
    /// A script, by the shipped document that runs shell scripts; parameters are its environment.
    Script {
        /// Its name, for people.
        name: String,
        /// The script.
        script: String,
        /// Run after it until it succeeds; empty: the script's own success is enough.
        check: String,
    },
    /// A document of SSM; parameters are the document's. SSM may run it twice.
    Document {
        /// Its name or ARN.
        name: String,
    },
}

impl Bootstrap {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Script { name, .. } | Self::Document { name } => name,
        }
    }
}

/// How machines are paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Market {
    /// On demand.
    #[default]
    OnDemand,
    /// Spot, or not at all.
    Spot,
    /// Spot, and on demand as the last resort.
    SpotThenOnDemand,
}

/// A template of the fleet: kind `ec2-template`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSpec {
    /// Its name in the fleet.
    pub template: TargetName,
    /// Whose workers mind its machines: the value of [`OWNER_TAG`].
    pub owner: String,
    /// `lt-…`, or its name.
    pub launch_template: String,
    /// A number, `$Default` or `$Latest`.
    pub version: String,
    /// In order of preference; none: the launch template's.
    pub subnets: Vec<String>,
    /// In order of preference; none: the launch template's.
    pub instance_types: Vec<String>,
    /// How they are paid for.
    pub market: Market,
    /// Beside those of ours.
    pub tags: BTreeMap<String, String>,
    /// What the machines' names begin with.
    pub name_prefix: String,
    /// It is not there before it has a public address.
    pub wait_for_public_ip: bool,
    /// The most machines at once.
    pub limit: u32,
    /// A machine lives no longer, whoever wants it.
    pub max_lifetime: Option<HumanDuration>,
    /// How long a failed start's machine is kept, where it is kept.
    pub keep_failed_for: Option<HumanDuration>,
    /// How long a record outlives its machine.
    pub retention: HumanDuration,
    /// The parameter by whose value two requests are the same.
    pub dedupe: Option<String>,
    /// What a create may say, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// A create must say one of these, where any are named.
    pub one_of: Vec<String>,
    /// What is run before it is ready.
    pub bootstrap: Option<Bootstrap>,
    /// The most that the bootstrap may take.
    pub bootstrap_timeout: HumanDuration,
    /// The unit that must be active afterwards.
    pub systemd_unit: Option<UnitName>,
    /// How often the unit is asked for while on; `None`: never.
    pub unit_check_every: Option<HumanDuration>,
    /// What an hour costs, in millionths of whatever currency the fleet thinks in.
    pub price_per_hour_millionths: Option<u64>,
}

/// One way to launch: what differs from the launch template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchOption {
    /// The subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// The instance type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// A spot instance.
    #[serde(default)]
    pub spot: bool,
}

impl std::fmt::Display for LaunchOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.instance_type.as_deref().unwrap_or("the launch template's type");
        let place = self.subnet.as_deref().unwrap_or("its subnet");
        write!(f, "{kind} in {place}{}", if self.spot { ", spot" } else { "" })
    }
}

/// One `RunInstances`, frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The client token.
    pub token: LaunchToken,
    /// `lt-…`, or its name.
    pub launch_template: String,
    /// Its version.
    pub version: String,
    /// What differs from it.
    #[serde(flatten)]
    pub option: LaunchOption,
    /// Every tag, `Name` among them.
    pub tags: BTreeMap<String, String>,
}

/// Why a create's parameters are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadParameters(String);

impl TemplateSpec {
    /// The ways to launch, in order.
    pub fn options(&self) -> Vec<LaunchOption> {
        let some = |all: &[String]| match all {
            [] => vec![None],
            all => all.iter().cloned().map(Some).collect(),
        };
        let markets: &[bool] = match self.market {
            Market::OnDemand => &[false],
            Market::Spot => &[true],
            Market::SpotThenOnDemand => &[true, false],
        };
        let mut options = Vec::new();
        for spot in markets {
            for instance_type in some(&self.instance_types) {
                for subnet in some(&self.subnets) {
                    let instance_type = instance_type.clone();
                    options.push(LaunchOption { subnet, instance_type, spot: *spot });
                }
            }
        }
        options
    }

    /// A create's parameters with the defaults filled in.
    pub fn check(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, BadParameters> {
        let known = || match self.parameters.keys().cloned().collect::<Vec<_>>() {
            names if names.is_empty() => "it takes none".to_owned(),
            names => format!("expected {}", names.join(", ")),
        };
        if let Some(name) = given.keys().find(|name| !self.parameters.contains_key(*name)) {
            let template = &self.template;
            let text = format!("the template {template} takes no parameter {name:?}; {}", known());
            return Err(BadParameters(text));
        }
        let mut checked = BTreeMap::new();
        for (name, parameter) in &self.parameters {
            let Some(value) = given.get(name).or(parameter.default.as_ref()) else {
                if parameter.required {
                    return Err(BadParameters(format!("{name} is missing")));
                }
                continue;
            };
            if !parameter.pattern.fits(value) {
                let pattern = parameter.pattern.as_str();
                let shown: String = value.chars().take(60).collect();
                let text = format!("{name} {shown:?} does not match its pattern, {pattern}");
                return Err(BadParameters(text));
            }
            checked.insert(name.clone(), value.clone());
        }
        let bytes = json_bytes(&checked);
        if bytes > PARAMETERS_BYTES_MAX {
            let text = format!(
                "the parameters have {bytes} bytes together as JSON, defaults included; expected at most \
                 {PARAMETERS_BYTES_MAX}"
            );
            return Err(BadParameters(text));
        }
        if !self.one_of.is_empty() && !self.one_of.iter().any(|name| checked.contains_key(name)) {
            return Err(BadParameters(format!("{} is missing", self.one_of.join(" or "))));
        }
        Ok(checked)
    }

    /// The target that a create means: by its `dedupe` parameter, else by its id.
    pub fn target_of(
        &self,
        id: &CommandId,
        given: &BTreeMap<String, String>,
    ) -> Option<TargetName> {
        // Said, or by default: the same value is the same machine.
        let value = |name: &String| {
            let default = self.parameters.get(name).and_then(|it| it.default.as_ref());
            given.get(name).or(default)
        };
        let key = match self.dedupe.as_ref().and_then(value) {
            Some(value) => format!("value\0{value}"),
            None => format!("command\0{id}"),
        };
        let suffix = hex(&[self.template.as_str(), &key], SUFFIX_DIGITS);
        TargetName::parse(&format!("{}.{suffix}", self.template)).ok()
    }

    /// Whether this is the suffix of one of its targets.
    pub fn is_suffix(text: &str) -> bool {
        text.len() == SUFFIX_DIGITS
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    }

    /// The tags of a launch. `name` says when, to the second; the rest of it tells two of a second apart.
    pub fn launch_tags(
        &self,
        target: &TargetName,
        name: &str,
        number: u64,
    ) -> BTreeMap<String, String> {
        let mut tags = self.tags.clone();
        for (tag, value) in [
            ("Name", name.to_owned()),
            (MANAGED_TAG, "true".to_owned()),
            (OWNER_TAG, self.owner.clone()),
            (TARGET_TAG, target.to_string()),
            (LAUNCH_TAG, number.to_string()),
        ] {
            tags.insert(tag.to_owned(), value);
        }
        tags
    }

    /// Seed 004's `walrus-vm-YYYYMMDD-HHMMSS`, with four digits that tell two of a second apart.
    pub fn machine_name(&self, target: &TargetName, at: Timestamp) -> String {
        let time = at.to_zoned(TimeZone::UTC).strftime("%Y%m%d-%H%M%S");
        format!("{}-{time}-{}", self.name_prefix, hex(&[target.as_str()], 4))
    }
}

/// What is known of a provisioned target's machine beyond what EC2 says: the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRecord {
    /// What it was asked for with, defaults filled in.
    pub parameters: BTreeMap<String, String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// How many launches were decided; part of the token.
    pub number: u64,
    /// Which of the ways to launch is next.
    pub option: usize,
    /// The ways to launch that were refused during this start, each with its last refusal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
    /// How many launches of this start were refused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u32,
    /// The machine's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// When EC2 took the launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched_at: Option<Timestamp>,
    /// By which the host knows its bootstrap again: asked twice, it is run once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_token: Option<String>,
    /// The bootstrap has succeeded.
    #[serde(default)]
    pub bootstrapped: bool,
    /// EC2 said that it takes the machine back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted_at: Option<Timestamp>,
    /// When it was gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What an hour costs, as the fleet said at the launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_hour_millionths: Option<u64>,
    /// Launches without an answer that another way to launch was tried in place of. A machine of theirs is ended
    /// when a sweep finds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_up: Vec<GivenUpLaunch>,
}

/// A launch that was given up without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUpLaunch {
    /// Its client token.
    pub token: LaunchToken,
    /// When it was given up.
    pub at: Timestamp,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl LaunchRecord {
    /// A machine that is asked for.
    pub(crate) fn new(parameters: BTreeMap<String, String>, now: Timestamp) -> Self {
        Self {
            parameters,
            created_at: now,
            number: 0,
            option: 0,
            tried: Vec::new(),
            refused: 0,
            name: String::new(),
            launched_at: None,
            bootstrap_token: None,
            bootstrapped: false,
            interrupted_at: None,
            ended_at: None,
            price_per_hour_millionths: None,
            given_up: Vec::new(),
        }
    }

    /// What it has cost since its launch, in millionths; AWS bills by the second.
    pub fn cost_millionths(&self, now: Timestamp) -> Option<u64> {
        let from = self.launched_at?;
        let seconds = self.ended_at.unwrap_or(now).duration_since(from).as_secs().max(0);
        let seconds = u64::try_from(seconds).ok()?;
        Some(self.price_per_hour_millionths?.saturating_mul(seconds) / 3600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::token_of;

    #[track_caller]
    fn check(pattern: &str, value: &str, fits: bool) {
        assert_eq!(Pattern::parse(pattern).unwrap().fits(value), fits, "{pattern} {value:?}");
    }

    #[test]
    fn a_pattern_is_about_the_whole_value() {
        check("[a-z]+", "abc", true);
        check("[a-z]+", "abc;reboot", false);
        check("[a-z]+", "abc\n", false);
        check("a|b", "ab", false);
        check("(?m)^a$", "a\nb", false);
        assert!(Pattern::parse("(").is_err());
        assert!(Pattern::parse("a)|(b").is_err());
    }

    #[test]
    fn tokens_and_names_follow_from_what_they_are_for() {
        let target = TargetName::parse("walrus.0123456789abcdef").unwrap();
        let at: Timestamp = "2026-11-26T14:00:09Z".parse().unwrap();
        let later: Timestamp = "2026-11-26T14:00:10Z".parse().unwrap();
        assert_eq!(token_of(&target, at, 1), token_of(&target, at, 1));
        assert_ne!(token_of(&target, at, 1), token_of(&target, at, 2));
        assert_ne!(token_of(&target, at, 1), token_of(&target, later, 1));
        assert!(TemplateSpec::is_suffix("0123456789abcdef"));
        assert!(!TemplateSpec::is_suffix("0123456789ABCDEF"));
        assert!(!TemplateSpec::is_suffix("server"));
    }
}
