//! The kinds of target, and how they differ.
//!
//! *Theory.* The phases are the same for every kind. Where kinds differ, the phases ask [`Kind`] a named question. The
//! answers of a kind stand together in one [`Properties`] in a file of its own, so a new kind is a new file and one
//! line in `Kind::properties`; the compiler names every question that it must answer.
//!
//! *Not here.* What a kind does in a phase with the record in hand (`phases::{instance, service, launched}`).

mod instance;
mod launched;
mod service;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::phase::{Phase, Step};
use crate::resource::Resource;

/// What a target is. Its name is the same in the fleet file, in stored items, in events and in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// An EC2 instance that is started and stopped.
    #[serde(rename = "ec2-instance")]
    Instance,
    /// An ECS service whose desired count is set.
    #[serde(rename = "ecs-service")]
    Service,
    /// An EC2 instance that is launched for a request and terminated afterwards.
    #[serde(rename = "ec2-template")]
    Launched,
}

/// The answers of one kind.
struct Properties {
    name: &'static str,
    phase_names: PhaseNames,
    first_step: Step,
    accepted_step: Step,
    stop_step: Step,
    /// How it rests: "nobody wants it, and it is …".
    rest: &'static str,
    /// What a stop made of it: "it is …".
    stopped: &'static str,
    tells_steps: bool,
    stop_destroys: bool,
    counts_toward_limit: bool,
    turns_any_time: bool,
    runs_tasks: bool,
    tells_its_times: bool,
}

/// The names of the phases that differ by kind.
struct PhaseNames {
    off: &'static str,
    starting: &'static str,
    stopping: &'static str,
}

impl Kind {
    /// The kind that a resource suggests. For people, where a record says a kind that this release does not know.
    pub fn suggested_by(resource: &Resource) -> Self {
        match resource {
            Resource::Instance(_) => Self::Instance,
            Resource::Service(_) => Self::Service,
            Resource::Launch(_) => Self::Launched,
        }
    }

    /// The kind of a resource that a target of this kind has now. A service stays one until it is off, whatever the
    /// fleet names instead.
    pub(crate) fn of(resource: &Resource, named: Self) -> Self {
        match (resource, named) {
            (Resource::Service(_), _) => Self::Service,
            (Resource::Instance(_) | Resource::Launch(_), Self::Launched) => Self::Launched,
            (Resource::Instance(_) | Resource::Launch(_), Self::Instance | Self::Service) => {
                Self::Instance
            }
        }
    }

    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Instance, Self::Service, Self::Launched];

    fn properties(self) -> &'static Properties {
        match self {
            Self::Instance => &instance::PROPERTIES,
            Self::Service => &service::PROPERTIES,
            Self::Launched => &launched::PROPERTIES,
        }
    }

    /// Takes what `as_str` gives.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The name, as in the fleet file.
    pub fn as_str(self) -> &'static str {
        self.properties().name
    }

    /// The name of a phase: what is launched for each request is not merely off.
    pub fn phase_name(self, phase: Phase) -> &'static str {
        let names = &self.properties().phase_names;
        match phase {
            Phase::Off => names.off,
            Phase::Starting => names.starting,
            Phase::Stopping => names.stopping,
            Phase::On | Phase::Failed => phase.as_str(),
        }
    }

    /// The first step of a start.
    pub(crate) fn first_step(self) -> Step {
        self.properties().first_step
    }

    /// The step of a start that AWS accepted.
    pub(crate) fn accepted_step(self) -> Step {
        self.properties().accepted_step
    }

    /// The first step of a stop.
    pub(crate) fn stop_step(self) -> Step {
        self.properties().stop_step
    }

    /// "nobody wants it, and it is …"
    pub(crate) fn rest(self) -> &'static str {
        self.properties().rest
    }

    /// What a stop made of it: "it is …".
    pub(crate) fn stopped(self) -> &'static str {
        self.properties().stopped
    }

    /// A start takes minutes: each of its steps is an event, so that whoever waits sees how far it is.
    pub(crate) fn tells_steps(self) -> bool {
        self.properties().tells_steps
    }

    /// A stop ends the machine for good, so the target has another one next time.
    pub fn stop_destroys(self) -> bool {
        self.properties().stop_destroys
    }

    /// Each target counts toward the limit of its template, from before it is there until it is surely gone.
    pub(crate) fn counts_toward_limit(self) -> bool {
        self.properties().counts_toward_limit
    }

    /// AWS takes a start or a stop at any time, whatever state it is in.
    pub(crate) fn turns_any_time(self) -> bool {
        self.properties().turns_any_time
    }

    /// It consists of tasks. Some may be missing while it is on; ECS replaces them.
    pub(crate) fn runs_tasks(self) -> bool {
        self.properties().runs_tasks
    }

    /// AWS tells when it was last started, and when somebody stopped it.
    pub(crate) fn tells_its_times(self) -> bool {
        self.properties().tells_its_times
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_stored_under_its_name() {
        for kind in Kind::ALL {
            let stored = serde_json::to_value(kind).unwrap();
            assert_eq!(stored, kind.as_str());
            assert_eq!(serde_json::from_value::<Kind>(stored).unwrap(), kind);
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::parse("ec2-instanz"), None);
    }
}
