//! What a user asks for.
//!
//! A [`Command`] is what a body said once spellings, aliases and envelopes are gone: one form, so that its
//! [`fingerprint`](Command::fingerprint) is the same however it was spelled. What is absent stays absent;
//! defaults (message id, target of the fleet, shared holder) are the worker's to fill in.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::quoted;
use crate::{CommandId, Holder, HumanDuration, InstanceId, TargetName};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Hold a target on.
    Start,
    /// Drop the caller's hold.
    Stop,
    /// Drop every hold in force.
    Kill,
    /// Tell how it is.
    Status,
    /// End the holds of what is idle.
    CheckIdle,
    /// Count as activity.
    KeepAlive,
    /// Make a provisioned target.
    Create,
    /// Unmake a provisioned target.
    Destroy,
    /// Only observe from now on.
    Pause,
    /// Act again.
    Resume,
}

/// Text that names no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown action {}; expected one of {}", quoted(.text), Action::expected())]
pub struct UnknownAction {
    /// The text, whole: quote it before showing it.
    pub text: String,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 10] = [
        Self::Start,
        Self::Stop,
        Self::Kill,
        Self::Status,
        Self::CheckIdle,
        Self::KeepAlive,
        Self::Create,
        Self::Destroy,
        Self::Pause,
        Self::Resume,
    ];

    /// The canonical name, in kebab case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.names()[0]
    }

    /// The canonical name, then the other words for it, all in kebab case.
    #[must_use]
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Start => &["start", "wake"],
            Self::Stop => &["stop", "release"],
            Self::Kill => &["kill"],
            Self::Status => &["status"],
            Self::CheckIdle => &["check-idle", "sleep"],
            Self::KeepAlive => &["keep-alive"],
            Self::Create => &["create"],
            Self::Destroy => &["destroy", "delete"],
            Self::Pause => &["pause"],
            Self::Resume => &["resume"],
        }
    }

    /// Takes a name in kebab, snake or camel case, in capitals or not.
    ///
    /// # Errors
    /// Where no action has that name.
    pub fn parse(text: &str) -> Result<Self, UnknownAction> {
        // Longer than any name: not worth lowering a megabyte.
        if text.len() <= 32 {
            let lowered = text.to_ascii_lowercase();
            for action in Self::ALL {
                for name in action.names() {
                    if lowered == *name
                        || lowered == name.replace('-', "_")
                        || lowered == name.replace('-', "")
                    {
                        return Ok(action);
                    }
                }
            }
        }
        Err(UnknownAction { text: text.to_owned() })
    }

    /// Every name, for messages: `start (or wake), stop (or release), …`.
    #[must_use]
    pub fn expected() -> String {
        let each = Self::ALL.map(|action| match action.names() {
            [name, aliases @ ..] if !aliases.is_empty() => {
                format!("{name} (or {})", aliases.join(", "))
            }
            _ => action.as_str().to_owned(),
        });
        each.join(", ")
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Action {
    type Err = UnknownAction;
    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::parse(text)
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Which target a command means, as far as the payload says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetRef {
    /// By its name in the fleet.
    Name(TargetName),
    /// By its EC2 instance.
    Instance(InstanceId),
    /// By its ECS cluster and service, as Fluidity's clients do.
    EcsService {
        /// The cluster's name or ARN.
        cluster: String,
        /// The service's name or ARN.
        service: String,
    },
}

impl TargetRef {
    /// The name, where it was given by name.
    #[must_use]
    pub const fn name(&self) -> Option<&TargetName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Instance(_) | Self::EcsService { .. } => None,
        }
    }
}

impl fmt::Display for TargetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Instance(instance) => instance.fmt(f),
            Self::EcsService { cluster, service } => write!(f, "{cluster}/{service}"),
        }
    }
}

/// When the caller would call the target idle, in minutes; in Fluidity's payloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thresholds {
    /// Idle for this long counts as idle.
    pub idle_threshold_mins: Option<u32>,
    /// How far back the metrics are read.
    pub lookback_period_mins: Option<u32>,
}

/// What a user asks for, in the one form that is left when spellings and envelopes are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What is to be done.
    pub action: Action,
    /// With which target, where it was said.
    pub target: Option<TargetRef>,
    /// The sender's key, by which a repetition is told.
    pub id: Option<CommandId>,
    /// For whom.
    pub holder: Option<Holder>,
    /// The hold lasts this long (`for`); never together with `until`.
    pub hold_for: Option<HumanDuration>,
    /// The hold lasts till then.
    pub until: Option<Timestamp>,
    /// Why, in the sender's words: at most 512 characters.
    pub reason: Option<String>,
    /// After this it is rejected, not done late.
    pub expires: Option<Timestamp>,
    /// The caller's idea of idle.
    pub thresholds: Thresholds,
    /// Of a create: what the machine is made from.
    pub template: Option<TargetName>,
    /// Of a create: what the template's bootstrap is told, by names in snake case. Every other field of a create is
    /// one; whether the template has it, and takes its value, is the fleet's to say.
    pub parameters: BTreeMap<String, String>,
}

impl Command {
    /// A command of nothing but its action.
    #[must_use]
    pub const fn new(action: Action) -> Self {
        Self {
            action,
            target: None,
            id: None,
            holder: None,
            hold_for: None,
            until: None,
            reason: None,
            expires: None,
            thresholds: Thresholds { idle_threshold_mins: None, lookback_period_mins: None },
            template: None,
            parameters: BTreeMap::new(),
        }
    }

    /// The command in canonical spelling; parses back to an equal one.
    #[must_use]
    pub fn to_json(&self) -> Value {
        Value::Object(self.fields())
    }

    fn fields(&self) -> Map<String, Value> {
        let mut json = Map::new();
        let mut put = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(field.to_owned(), value);
            }
        };
        put("action", Some(self.action.as_str().into()));
        match &self.target {
            None => {}
            Some(TargetRef::Name(name)) => put("target", Some(name.as_str().into())),
            Some(TargetRef::Instance(id)) => put("instance_id", Some(id.as_str().into())),
            Some(TargetRef::EcsService { cluster, service }) => {
                put("cluster", Some(cluster.as_str().into()));
                put("service", Some(service.as_str().into()));
            }
        }
        put("id", self.id.as_ref().map(|id| id.as_str().into()));
        put("holder", self.holder.as_ref().map(|holder| holder.as_str().into()));
        put("for", self.hold_for.map(|long| long.to_string().into()));
        put("until", self.until.map(|until| until.to_string().into()));
        put("reason", self.reason.as_deref().map(Value::from));
        put("expires", self.expires.map(|expires| expires.to_string().into()));
        put("idle_threshold_mins", self.thresholds.idle_threshold_mins.map(Value::from));
        put("lookback_period_mins", self.thresholds.lookback_period_mins.map(Value::from));
        put("template", self.template.as_ref().map(|template| template.as_str().into()));
        for (name, value) in &self.parameters {
            put(name, Some(value.as_str().into()));
        }
        json
    }

    /// SHA-256, in hex, of what is asked, the id aside: the same id with another fingerprint is another command.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        // Sorted here, so that the fingerprint does not depend on how a map of JSON keeps its order.
        let mut sorted: BTreeMap<String, Value> = self.fields().into_iter().collect();
        sorted.remove("id");
        // Values are strings and whole numbers; writing them as JSON cannot fail.
        let canonical = serde_json::to_string(&sorted).expect("strings and numbers are JSON");
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(canonical.as_bytes()) {
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_json(&value).map_err(serde::de::Error::custom)
    }
}
