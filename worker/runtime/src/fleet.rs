//! The fleet as the runtime sees it: the targets, and how a payload finds one.
//!
//! *Invariant.* A machine that is named in the fleet belongs to exactly one target (the fleet file is
//! refused otherwise); machines named by secrets are claimed in the table.

use std::borrow::Cow;
use std::collections::BTreeMap;

use lamplighter_events::{Command, CommandId, InstanceId, TargetName, TargetRef};
use lamplighter_lifecycle::{NotAResource, Resource, ServiceId, TargetSpec, TemplateSpec};

/// The targets and schedules of a fleet file.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// By name.
    pub targets: BTreeMap<TargetName, TargetSpec>,
    /// What targets are made from, by the template's name.
    pub templates: BTreeMap<TargetName, TargetSpec>,
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
    /// A service that is in no target, and that the fleet does not let a payload name.
    #[error(
        "no target of the fleet has the ECS service {0} (cluster/service), and none allows it with \"also\" \
         (which takes names in small letters that fit into a target's name)"
    )]
    UnknownService(ServiceId),
    /// What names no service.
    #[error(transparent)]
    NoService(#[from] NotAResource),
    /// No such template.
    #[error("unknown template {name:?}: the fleet has {known}")]
    UnknownTemplate {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A create that names no template, and not exactly one to choose.
    #[error("create names no template, and the fleet has {0}: name one as \"template\"")]
    AmbiguousTemplate(String),
    /// A template where a target is meant.
    #[error(
        "{0} is a template, not a target: name one of its machines, as the create's outcome and `lamplighter status` do"
    )]
    IsTemplate(TargetName),
}

impl Unaddressed {
    /// Whether it names something that another version of the fleet file may have.
    pub fn names_something(&self) -> bool {
        match self {
            Self::Unknown { .. }
            | Self::UnknownInstance(_)
            | Self::UnknownService(_)
            | Self::UnknownTemplate { .. } => true,
            Self::Ambiguous { .. }
            | Self::NoService(_)
            | Self::AmbiguousTemplate(_)
            | Self::IsTemplate(_) => false,
        }
    }
}

impl Fleet {
    /// A target: of the file, or one that a payload made. Its name says which: `TARGET.CLUSTER.SERVICE` is of a
    /// service that the file allows (ECS's names have no dots), `TEMPLATE.SUFFIX` is a machine of a template.
    pub fn spec(&self, name: &TargetName) -> Option<Cow<'_, TargetSpec>> {
        if let Some(spec) = self.targets.get(name) {
            return Some(Cow::Borrowed(spec));
        }
        let (rest, service) = name.as_str().rsplit_once('.')?;
        if let Some(template) = self.templates.get(rest) {
            let made = TemplateSpec::is_suffix(service);
            return made.then(|| Cow::Owned(TargetSpec { name: name.clone(), ..template.clone() }));
        }
        let (base, cluster) = rest.rsplit_once('.')?;
        let base = self.targets.get(base)?;
        let id = ServiceId::parse(cluster, service).ok()?;
        allowed(base, &id).map(|spec| Cow::Owned(spec.named(name.clone(), id)))
    }

    /// Whether there is such a target.
    pub fn has(&self, name: &TargetName) -> bool {
        self.spec(name).is_some()
    }

    /// The target that a machine or service belongs to, by the fleet file alone.
    pub fn owner(&self, resource: &Resource) -> Option<TargetName> {
        let mut specs = self.targets.values();
        let named = specs.find(|spec| spec.resource().as_ref() == Some(resource));
        named.map(|spec| spec.name.clone()).or_else(|| self.derived(resource.service()?))
    }

    /// The name of the target that a payload makes by naming this service.
    fn derived(&self, id: &ServiceId) -> Option<TargetName> {
        let base = self.targets.values().find(|spec| allowed(spec, id).is_some())?;
        TargetName::parse(&format!("{}.{}.{}", base.name, id.cluster(), id.service())).ok()
    }

    fn known(&self) -> String {
        names(&self.targets, "no targets")
    }

    /// The machine that a create means.
    fn template(&self, command: &Command, id: &CommandId) -> Result<TargetName, Unaddressed> {
        // Clients that know nothing of templates name it as they name a target.
        let named = command.template.as_ref().or_else(|| match &command.target {
            Some(TargetRef::Name(name)) if self.templates.contains_key(name) => Some(name),
            _ => None,
        });
        let known = || names(&self.templates, "no templates");
        let spec = match (named, &command.target) {
            (Some(name), _) => self.templates.get(name).ok_or_else(|| {
                Unaddressed::UnknownTemplate { name: name.to_string(), known: known() }
            })?,
            (None, None) if self.templates.len() == 1 => self
                .templates
                .values()
                .next()
                .unwrap_or_else(|| unreachable!("a map of one has a first value")),
            (None, None) => return Err(Unaddressed::AmbiguousTemplate(known())),
            // A create of a target of the file, or of one that exists: its kind refuses it, or its record takes it.
            (None, Some(_)) => return self.address(command, None).map(|spec| spec.name.clone()),
        };
        let target = spec.template().and_then(|it| it.target_of(id, &command.parameters));
        target.ok_or_else(|| Unaddressed::UnknownTemplate {
            name: spec.name.to_string(),
            known: known(),
        })
    }

    /// The target of a create: the machine of this command's id, or of its template's `dedupe` parameter.
    pub fn address_create(
        &self,
        command: &Command,
        id: &CommandId,
    ) -> Result<Cow<'_, TargetSpec>, Unaddressed> {
        let name = self.template(command, id)?;
        self.spec(&name)
            .ok_or_else(|| Unaddressed::Unknown { name: name.to_string(), known: self.known() })
    }

    /// The target of a command. `claimed` is the owner of the payload's machine by the table. (A `check-idle`
    /// without a target means every target that has an idle policy: see `idle_check`.)
    pub fn address(
        &self,
        command: &Command,
        claimed: Option<&TargetName>,
    ) -> Result<Cow<'_, TargetSpec>, Unaddressed> {
        let name = match &command.target {
            Some(TargetRef::Name(name)) if self.templates.contains_key(name) => {
                return Err(Unaddressed::IsTemplate(name.clone()));
            }
            Some(TargetRef::Name(name)) => name.clone(),
            Some(TargetRef::Instance(instance)) => self
                .owner(&Resource::Instance(instance.clone()))
                .or_else(|| claimed.cloned())
                .ok_or_else(|| Unaddressed::UnknownInstance(instance.clone()))?,
            Some(TargetRef::EcsService { cluster, service }) => {
                let id = ServiceId::parse(cluster, service)?;
                self.owner(&Resource::Service(id.clone())).ok_or(Unaddressed::UnknownService(id))?
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
        match self.spec(&name) {
            Some(spec) => Ok(spec),
            None => Err(Unaddressed::Unknown { name: name.to_string(), known: self.known() }),
        }
    }
}

fn names(of: &BTreeMap<TargetName, TargetSpec>, none: &str) -> String {
    match of.len() {
        0 => none.to_owned(),
        _ => {
            let names: Vec<&str> = of.keys().take(20).map(|name| name.as_str()).collect();
            let more = of.len().saturating_sub(names.len());
            let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("{}{rest}", names.join(", "))
        }
    }
}

/// The spec whose settings a service gets that is not its own, if it allows that.
fn allowed<'s>(base: &'s TargetSpec, id: &ServiceId) -> Option<&'s TargetSpec> {
    let service = base.service()?;
    let other = service.service != *id;
    (other && service.also.iter().any(|pattern| pattern.allows(id))).then_some(base)
}

#[cfg(test)]
mod tests {
    use lamplighter_events::{Action, HumanDuration};
    use lamplighter_lifecycle::{Place, ServicePattern, ServiceSpec, Timings};

    use super::*;

    fn fleet(also: &[&str]) -> Fleet {
        let long = HumanDuration::from_seconds(60).unwrap();
        let name = TargetName::parse("fluidity").unwrap();
        let spec = TargetSpec {
            name: name.clone(),
            place: Place::Service(ServiceSpec {
                service: ServiceId::parse("fluidity-prod", "server").unwrap(),
                desired: 1,
                healthy: false,
                also: also.iter().map(|text| ServicePattern::parse(text).unwrap()).collect(),
            }),
            health: None,
            timings: Timings {
                start_timeout: long,
                settle: long,
                ready_timeout: long,
                health_timeout: long,
                stop_timeout: long,
                poll: long,
            },
            log_group: None,
            exclusive: false,
            max_hold: None,
            keep_failed: false,
            idle: None,
            hours: None,
        };
        Fleet { targets: BTreeMap::from([(name, spec)]), ..Fleet::default() }
    }

    /// Whose command it is that names this service.
    #[track_caller]
    fn check(also: &[&str], cluster: &str, service: &str, expected: Option<&str>) {
        let fleet = fleet(also);
        let target =
            TargetRef::EcsService { cluster: cluster.to_owned(), service: service.to_owned() };
        let command = Command { target: Some(target), ..Command::new(Action::Start) };
        let spec = fleet.address(&command, None);
        let name = spec.as_ref().ok().map(|spec| spec.name.as_str());
        assert_eq!(name, expected, "{cluster}/{service}: {spec:?}");
        if let Ok(spec) = spec {
            let id = ServiceId::parse(cluster, service).unwrap();
            assert_eq!(spec.resource(), Some(Resource::Service(id)));
            assert_eq!(fleet.spec(&spec.name).as_deref(), Some(&*spec), "found by its name");
        }
    }

    #[test]
    fn a_payload_may_name_a_service_itself_where_the_fleet_allows_it() {
        let also = ["fluidity-*/server"];
        check(&[], "fluidity-prod", "server", Some("fluidity"));
        check(&[], "fluidity-dev", "server", None);
        check(&also, "fluidity-prod", "server", Some("fluidity"));
        check(&also, "fluidity-dev", "server", Some("fluidity.fluidity-dev.server"));
        check(&also, "billing", "server", None);
        check(&also, "fluidity-dev", "database", None);
        // What does not fit into a target's name is to be a target of the file.
        check(&also, "fluidity-DEV", "server", None);
        let arn = "arn:aws:ecs:eu-central-1:1:service/fluidity-dev/server";
        check(&also, "fluidity-dev", arn, Some("fluidity.fluidity-dev.server"));
    }

    #[test]
    fn a_made_up_name_is_no_target() {
        let fleet = fleet(&["fluidity-*/server"]);
        for name in ["fluidity.billing.server", "other.fluidity-dev.server", "fluidity.server"] {
            assert!(!fleet.has(&TargetName::parse(name).unwrap()), "{name}");
        }
    }
}
