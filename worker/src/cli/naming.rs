//! What a word of the command line names: a target of the file, one that a payload made, a template, or a machine
//! by EC2's id.
//!
//! *Theory.* The fleet file knows its own targets and by their form the names of those that payloads make; whose an
//! instance is that the file does not name, the table knows. So a word is read first, without asking anybody, and
//! settled where the ports are at hand.

use lamplighter_runtime::owner_of;
use std::borrow::Cow;

use lamplighter_events::{InstanceId, TargetName, nearest};
use lamplighter_lifecycle::{Resource, TargetSpec};
use lamplighter_runtime::Unaddressed;
use lamplighter_runtime::ports::Ports;

use super::CliError;
use crate::config::{Config, Origin};

/// A word that names something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// A target.
    Target(TargetName),
    /// A template of the fleet.
    Template(TargetName),
    /// A machine, whosoever it is.
    Instance(InstanceId),
}

/// Reads a word; what can name nothing is refused, with the nearest name. Without a fleet every name may be one.
pub(super) fn named(config: &Config, text: &str) -> Result<Named, CliError> {
    if let Ok(name) = TargetName::parse(text) {
        if config.fleet.has(&name) {
            return Ok(Named::Target(name));
        }
        if config.fleet.templates.contains_key(&name) {
            return Ok(Named::Template(name));
        }
    }
    if let Ok(id) = InstanceId::parse(text) {
        return Ok(Named::Instance(id));
    }
    let name = TargetName::parse(text).map_err(|error| CliError::Usage(error.to_string()))?;
    if config.origin == Origin::Nowhere {
        return Ok(Named::Target(name));
    }
    Err(unknown_target(config, text))
}

impl Named {
    /// The target.
    pub(super) async fn target(
        self,
        config: &Config,
        ports: &Ports,
    ) -> Result<TargetName, CliError> {
        match self {
            Self::Target(name) => Ok(name),
            Self::Template(name) => Err(is_template(name)),
            Self::Instance(id) => {
                let resource = Resource::Instance(id);
                owner_of(&config.fleet, &*ports.store, &resource).await?.ok_or_else(|| {
                    CliError::Missing(format!(
                        "{resource} belongs to no target, by the fleet file and by the table; a machine that was \
                         launched for a request is forgotten some time after its end"
                    ))
                })
            }
        }
    }
}

impl Named {
    /// The target's spec.
    pub(super) async fn spec<'c>(
        self,
        config: &'c Config,
        ports: &Ports,
    ) -> Result<Cow<'c, TargetSpec>, CliError> {
        let name = self.target(config, ports).await?;
        config.fleet.spec(&name).ok_or_else(|| unknown_target(config, name.as_str()))
    }
}

/// A template where one of its machines is meant.
pub(super) fn is_template(name: TargetName) -> CliError {
    CliError::Usage(Unaddressed::IsTemplate(name).to_string())
}

/// A template of the fleet by its name. Without a fleet the worker's may have it.
pub(super) fn template(config: &Config, text: &str) -> Result<TargetName, CliError> {
    let name = TargetName::parse(text).map_err(|error| CliError::Usage(error.to_string()))?;
    let fleet = &config.fleet;
    if config.origin == Origin::Nowhere || fleet.templates.contains_key(&name) {
        return Ok(name);
    }
    let known: Vec<&str> = fleet.templates.keys().map(|name| name.as_str()).collect();
    let hint = match (known.as_slice(), nearest(text, &known)) {
        ([], _) => "it has no [templates]".to_owned(),
        (_, Some(near)) => format!("did you mean \"{near}\"?"),
        (known, None) => format!("expected one of {}", known.join(", ")),
    };
    Err(CliError::Usage(format!("no template of {} is named {text:?}; {hint}", config.origin)))
}

fn unknown_target(config: &Config, name: &str) -> CliError {
    let fleet = &config.fleet;
    let known: Vec<&str> =
        fleet.targets.keys().chain(fleet.templates.keys()).map(|name| name.as_str()).collect();
    let hint = match nearest(name, &known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("expected one of {}", known.join(", ")),
    };
    CliError::Usage(format!("no target of {} is named {name:?}; {hint}", config.origin))
}
