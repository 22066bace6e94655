//! What a target is, as the fleet file says it: already validated, with every default filled in.
//!
//! Parsing TOML and the seeds' environment variables is the binary's business; here a spec is data
//! that cannot be wrong: a `UnitName` is a systemd unit name and not shell text.

use lamplighter_events::{HumanDuration, InstanceId, TargetName};

use crate::address::HealthUrl;
use crate::hours::Hours;
use crate::kinds::Kind;
use crate::probe::IdleSpec;
use crate::resource::{Resource, ServiceId, ServicePattern};
use crate::template::TemplateSpec;
use crate::unit::UnitName;

/// Where the id of a machine comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceRef {
    /// Named in the fleet file.
    Id(InstanceId),
    /// A key of a JSON secret in Secrets Manager (seed 000: `SECRET_ARN`, `PK_INSTANCE`).
    Secret {
        /// Name or ARN of the secret.
        secret: String,
        /// The key in its JSON object.
        key: String,
    },
}

/// An EC2 instance that is started and stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSpec {
    /// Which machine.
    pub instance: InstanceRef,
    /// The unit that must be active before the target counts as on.
    pub systemd_unit: Option<UnitName>,
    /// How often the unit is asked for while the target is on; `None`: never.
    pub unit_check_every: Option<HumanDuration>,
}

/// An ECS service whose desired count is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Which service.
    pub service: ServiceId,
    /// The desired count that means on; at least 1.
    pub desired: i64,
    /// The running tasks must be `HEALTHY` by their containers' health checks.
    pub healthy: bool,
    /// Other services that a payload may name, which then are targets of their own with these settings.
    pub also: Vec<ServicePattern>,
}

/// What is switched on and off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Kind `ec2-instance`.
    Instance(InstanceSpec),
    /// Kind `ecs-service`.
    Service(ServiceSpec),
    /// Kind `ec2-template`.
    Template(Box<TemplateSpec>),
}

impl Place {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Instance(_) => Kind::Instance,
            Self::Service(_) => Kind::Service,
            Self::Template(_) => Kind::Launched,
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// From the accepted start to `running` (seed 000: 2 min).
    pub start_timeout: HumanDuration,
    /// How long it must have been up before it is verified (seed 000: 10 s). With a unit the host itself
    /// waits for this uptime, without one the record does.
    pub settle: HumanDuration,
    /// From the end of `start_timeout` to agent and unit being verified.
    pub ready_timeout: HumanDuration,
    /// From the unit's (or the settled machine's) readiness to a healthy answer (seed 002: 180 s).
    pub health_timeout: HumanDuration,
    /// From the accepted stop to `stopped`.
    pub stop_timeout: HumanDuration,
    /// Pause between looks while waiting; AWS's events usually come first.
    pub poll: HumanDuration,
}

/// One target of the fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetSpec {
    /// Its name.
    pub name: TargetName,
    /// The machine, or the service.
    pub place: Place,
    /// The address that must answer 2xx before the target counts as on.
    pub health: Option<HealthUrl>,
    /// How long things may take.
    pub timings: Timings,
    /// The CloudWatch log group that it ships its logs to.
    pub log_group: Option<String>,
    /// At most one holder at a time.
    pub exclusive: bool,
    /// No requested hold lasts longer than this.
    pub max_hold: Option<HumanDuration>,
    /// A start that failed keeps its hold, and so its machine, for somebody to look at.
    pub keep_failed: bool,
    /// Makes plain starts idle-bounded.
    pub idle: Option<IdleSpec>,
    /// Recurring windows in which it is wanted.
    pub hours: Option<Hours>,
}

impl TargetSpec {
    /// What it is.
    pub fn kind(&self) -> Kind {
        self.place.kind()
    }
    /// The machine, where it is one.
    pub fn instance(&self) -> Option<&InstanceSpec> {
        match &self.place {
            Place::Instance(instance) => Some(instance),
            Place::Service(_) | Place::Template(_) => None,
        }
    }
    /// The service, where it is one.
    pub fn service(&self) -> Option<&ServiceSpec> {
        match &self.place {
            Place::Service(service) => Some(service),
            Place::Instance(_) | Place::Template(_) => None,
        }
    }
    /// The template, where it is one, or of one.
    pub fn template(&self) -> Option<&TemplateSpec> {
        match &self.place {
            Place::Template(template) => Some(template),
            Place::Instance(_) | Place::Service(_) => None,
        }
    }
    /// What is switched, where the fleet file says it outright.
    pub fn resource(&self) -> Option<Resource> {
        match &self.place {
            Place::Instance(InstanceSpec { instance: InstanceRef::Id(id), .. }) => {
                Some(Resource::Instance(id.clone()))
            }
            Place::Instance(_) | Place::Template(_) => None,
            Place::Service(service) => Some(Resource::Service(service.service.clone())),
        }
    }
    /// The same settings for another service.
    pub fn named(&self, name: TargetName, id: ServiceId) -> Self {
        let mut spec = Self { name, ..self.clone() };
        if let Place::Service(service) = &mut spec.place {
            service.service = id;
            service.also.clear();
        }
        spec
    }
    /// The unit to be verified, where there is one.
    pub fn unit(&self) -> Option<&UnitName> {
        match &self.place {
            Place::Instance(instance) => instance.systemd_unit.as_ref(),
            Place::Template(template) => template.systemd_unit.as_ref(),
            Place::Service(_) => None,
        }
    }
    /// How often the unit is asked for.
    pub fn unit_check_every(&self) -> Option<HumanDuration> {
        match &self.place {
            Place::Instance(instance) => instance.unit_check_every,
            Place::Template(template) => template.unit_check_every,
            Place::Service(_) => None,
        }
    }
    /// Whether it is left alone before it counts as on. The shortest duration, a millisecond, is none at all.
    pub fn settles(&self) -> bool {
        self.timings.settle.millis() > 1
    }
    /// `settle` in whole seconds, rounded up, as the script on the host takes it.
    pub fn settle_seconds(&self) -> i64 {
        i64::try_from(self.timings.settle.millis().div_ceil(1000)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, fits: bool) {
        assert_eq!(UnitName::parse(name).is_ok(), fits, "{name:?}");
    }

    #[test]
    fn a_unit_name_is_never_shell_text() {
        check("positionkeeper", true);
        check("app@1.service", true);
        check("", false);
        check("-H", false);
        check("a b", false);
        check("a;reboot", false);
        check("$(id)", false);
        check("a'b", false);
        check("a\nb", false);
        check(&"a".repeat(129), false);
    }
}
