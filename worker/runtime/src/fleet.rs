//! The fleet as the runtime sees it: the targets, and how a payload finds one.
//!
//! *Invariant.* A machine that is named in the fleet belongs to exactly one target (the fleet file is
//! refused otherwise); machines named by secrets are claimed in the table.

use std::collections::BTreeMap;

use lamplighter_events::{Command, InstanceId, TargetName, TargetRef};
use lamplighter_lifecycle::{NotAResource, Resource, ServiceId, TargetSpec};

/// The targets and schedules of a fleet file.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// By name.
    pub targets: BTreeMap<TargetName, TargetSpec>,
    /// `[defaults] target`
    pub default_target: Option<TargetName>,
    /// What each schedule's tick means, by rule name.
    pub rules: BTreeMap<String, Command>,
}

/// Why a command has no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unaddressed {
    /// No such target.
    #[error("unknown target {name:?}: the fleet has {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A machine that is in no target.
    #[error("no target of the fleet has the instance {0}")]
    UnknownInstance(InstanceId),
    /// Nothing named, and not exactly one to choose.
    #[error(
        "{action} names no target, and the fleet has {known}: name one as \"target\", or set \
         [defaults] target"
    )]
    Ambiguous {
        /// The action.
        action: &'static str,
        /// What there is.
        known: String,
    },
    /// A service that is in no target.
    #[error("no target of the fleet has the ECS service {0} (cluster/service)")]
    UnknownService(ServiceId),
    /// What names no service.
    #[error(transparent)]
    NoService(#[from] NotAResource),
}

impl Fleet {
    /// The target that a machine or service belongs to, by the fleet file alone.
    pub fn owner(&self, resource: &Resource) -> Option<&TargetName> {
        let mut specs = self.targets.values();
        specs.find(|spec| spec.resource().as_ref() == Some(resource)).map(|spec| &spec.name)
    }

    fn known(&self) -> String {
        match self.targets.len() {
            0 => "no targets".to_owned(),
            _ => {
                let names: Vec<&str> =
                    self.targets.keys().take(20).map(|name| name.as_str()).collect();
                let more = self.targets.len().saturating_sub(names.len());
                let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
                format!("{}{rest}", names.join(", "))
            }
        }
    }

    /// The target of a command. `claimed` is the owner of the payload's machine by the table. (A `check-idle`
    /// without a target means every target that has an idle policy: see `idle_check`.)
    pub fn address(
        &self,
        command: &Command,
        claimed: Option<&TargetName>,
    ) -> Result<&TargetSpec, Unaddressed> {
        let name = match &command.target {
            Some(TargetRef::Name(name)) => name.clone(),
            Some(TargetRef::Instance(instance)) => self
                .owner(&Resource::Instance(instance.clone()))
                .or(claimed)
                .cloned()
                .ok_or_else(|| Unaddressed::UnknownInstance(instance.clone()))?,
            Some(TargetRef::EcsService { cluster, service }) => {
                let id = ServiceId::parse(cluster, service)?;
                let owner = self.owner(&Resource::Service(id.clone())).or(claimed).cloned();
                owner.ok_or(Unaddressed::UnknownService(id))?
            }
            None => match (&self.default_target, self.targets.len()) {
                (Some(name), _) => name.clone(),
                (None, 1) => self
                    .targets
                    .keys()
                    .next()
                    .cloned()
                    .unwrap_or_else(|| unreachable!("a map of one has a first key")),
                _ => {
                    return Err(Unaddressed::Ambiguous {
                        action: command.action.as_str(),
                        known: self.known(),
                    });
                }
            },
        };
        match self.targets.get(&name) {
            Some(spec) => Ok(spec),
            None => Err(Unaddressed::Unknown { name: name.to_string(), known: self.known() }),
        }
    }
}
