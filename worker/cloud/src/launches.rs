//! Launching machines from templates, and how they go.
//!
//! A launch with a client token happens once: the same token with the same parameters is answered with
//! the same machine, whatever has become of it, until a day after its end; with other parameters it is
//! refused. A launch that was refused has used no token. [`Launches::launched`] counts what really happened.
//!
//! **Visibility.** A machine is launched at once and described later: it is missing while `describe_lag` has
//! not passed, and by its id also while `not_found_for` has not.
//!
//! **Scarcity.** [`Shortage`]s of the world and of a template refuse launches, for ever or a number of times.
//!
//! Not here: launches without a template, several machines in one call, spot requests and prices, volumes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::launch_templates::TemplateData;
pub use crate::launch_templates::TemplateRef;
pub use crate::machines::Launch;
use crate::machines::{Machine, MachineError, MachineState, zone_a};
use crate::queue::plus;
pub use crate::shortages::{NotScarce, Refusal, Scarce, Shortage, is_instance_type};
use crate::units::Unit;
use crate::{ServiceFault as _, World};

/// The longest client token.
pub const TOKEN_CHARS_MAX: usize = 64;
/// How long after a machine's end its client token is remembered: EC2 promises so long and no longer.
pub const TOKEN_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// The most tags of one resource.
pub const TAGS_MAX: usize = 50;

/// What RunInstances takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The launch template.
    pub template: TemplateRef,
    /// A number, `$Default` (also where it is empty) or `$Latest`.
    pub version: String,
    /// What makes it happen once.
    pub client_token: Option<String>,
    /// How many there must be at least.
    pub min_count: u32,
    /// How many there may be; the model launches one.
    pub max_count: u32,
    /// In place of the template's subnet.
    pub subnet: Option<String>,
    /// In place of the template's instance type.
    pub instance_type: Option<String>,
    /// As a spot instance, asked for once.
    pub spot: bool,
    /// Tags of the machine, over the template's.
    pub tags: BTreeMap<String, String>,
    /// Tags of its volumes, which the model has none of.
    pub volume_tags: BTreeMap<String, String>,
    /// Whether it is only asked if it would succeed.
    pub dry_run: bool,
}

impl LaunchSpec {
    /// One machine from the default version of a template.
    #[must_use]
    pub fn new(template: TemplateRef) -> Self {
        Self {
            template,
            version: String::new(),
            client_token: None,
            min_count: 1,
            max_count: 1,
            subnet: None,
            instance_type: None,
            spot: false,
            tags: BTreeMap::new(),
            volume_tags: BTreeMap::new(),
            dry_run: false,
        }
    }
}

/// What RunInstances answers.
#[derive(Debug, Clone)]
pub struct Launched {
    /// The machine as it is now.
    pub machine: Machine,
    /// Whether this call launched it; a repeat did not.
    pub fresh: bool,
}

impl Shortage {
    fn meets(&self, wanted: &Wanted<'_>) -> bool {
        self.times != Some(0)
            && match &self.of {
                Scarce::Everything => true,
                Scarce::Spot => wanted.spot,
                Scarce::OnDemand => !wanted.spot,
                Scarce::Subnet(subnet) => wanted.subnet == Some(subnet),
                Scarce::InstanceType(name) => wanted.instance_type == name,
            }
    }
}

/// What a launch comes to, of what can be scarce.
struct Wanted<'a> {
    spot: bool,
    subnet: Option<&'a String>,
    instance_type: &'a str,
    region: &'a str,
    zone: &'a str,
}

impl Wanted<'_> {
    fn refused(&self, refusal: Refusal) -> MachineError {
        match refusal {
            Refusal::Capacity if self.spot => MachineError::InsufficientSpotCapacity,
            Refusal::Capacity => MachineError::InsufficientCapacity {
                instance_type: self.instance_type.to_owned(),
                region: self.region.to_owned(),
                zone: self.zone.to_owned(),
            },
            Refusal::Addresses => {
                MachineError::NoFreeAddresses(self.subnet.cloned().unwrap_or_default())
            }
            Refusal::Reservation => MachineError::ReservationUsedUp,
            Refusal::Novel => MachineError::Novel,
            Refusal::Vcpus => MachineError::VcpuLimitExceeded,
            Refusal::SpotCount => MachineError::SpotCountExceeded,
        }
    }
}

/// A client token that was used.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Used {
    spec: LaunchSpec,
    id: String,
    /// The machine as it ended, once it is described no more.
    buried: Option<Box<Machine>>,
}

/// What was launched, and what may be.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Launches {
    /// What is scarce, whatever the template; the first that meets a launch refuses it.
    pub shortages: Vec<Shortage>,
    /// The subnets that exist; where there is none, any `subnet-…` does.
    pub subnets: BTreeSet<String>,
    /// The letters of the subnets' zones; `a` where none is given.
    #[serde(default)]
    pub zones: BTreeMap<String, String>,
    used: BTreeMap<String, Used>,
    /// Client tokens to be forgotten, the first in front.
    expiring: VecDeque<(Timestamp, String)>,
    launched: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
}

impl Launches {
    /// How many machines were really launched with this client token; `""` is for those without.
    #[must_use]
    pub fn launched(&self, client_token: &str) -> u64 {
        self.launched.get(client_token).copied().unwrap_or(0)
    }

    /// [`Launches::launched`] of every token.
    #[must_use]
    pub fn all_launched(&self) -> &BTreeMap<String, u64> {
        &self.launched
    }

    /// The letter of a subnet's zone.
    #[must_use]
    pub fn zone_of(&self, subnet: Option<&str>) -> String {
        subnet.and_then(|subnet| self.zones.get(subnet)).cloned().unwrap_or_else(zone_a)
    }

    /// How many launches were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }

    /// How many launches were refused, by EC2's code.
    #[must_use]
    pub fn all_refused(&self) -> &BTreeMap<String, u64> {
        &self.refused
    }
}

impl World {
    /// RunInstances from a launch template: one machine.
    pub fn run_machines(
        &mut self,
        now: Timestamp,
        spec: &LaunchSpec,
    ) -> Result<Launched, MachineError> {
        let now = self.at(now);
        let result = self.launch(now, spec);
        if let Err(error) = &result
            && *error != MachineError::DryRun
        {
            *self.launches.refused.entry(error.code().to_owned()).or_default() += 1;
        }
        result
    }

    fn launch(&mut self, now: Timestamp, spec: &LaunchSpec) -> Result<Launched, MachineError> {
        check_spec(spec)?;
        if let Some(machine) = self.launched_before(spec)? {
            return Ok(Launched { machine, fresh: false });
        }
        let template = self.launch_templates.get(&spec.template)?;
        let template_id = template.id.clone();
        let (template_version, version) = template.version(&spec.version)?;
        let data = version.data.clone();
        if data.interfaces && spec.subnet.is_some() {
            return Err(MachineError::InvalidCombination(
                "Network interfaces and an instance-level subnet ID may not be specified on the same request".to_owned(),
            ));
        }
        let subnet = spec.subnet.as_ref().or(data.subnet.as_ref()).cloned();
        if let Some(subnet) = &subnet {
            self.check_subnet(subnet)?;
        }
        if spec.dry_run {
            return Err(MachineError::DryRun);
        }
        let instance_type =
            spec.instance_type.clone().unwrap_or_else(|| data.instance_type.clone());
        let zone = self.launches.zone_of(subnet.as_deref());
        if self.machines.zones_out.contains(&zone) {
            return Err(MachineError::ZoneImpaired);
        }
        let region = self.region.clone();
        let wanted = Wanted {
            spot: spec.spot,
            subnet: subnet.as_ref(),
            instance_type: &instance_type,
            region: &region,
            zone: &zone,
        };
        self.check_capacity(&template_id, &data, &wanted)?;
        let launch = Launch {
            at: now,
            client_token: spec.client_token.clone(),
            template_id,
            template_version,
            spot: spec.spot,
            image_id: data.resolved_image().to_owned(),
            subnet,
            security_groups: data.security_groups.clone(),
            public_ip: data.public_ip,
        };
        let machine = self.make_machine(now, instance_type, &data, launch, &spec.tags);
        let token = spec.client_token.clone().unwrap_or_default();
        *self.launches.launched.entry(token.clone()).or_default() += 1;
        if spec.client_token.is_some() {
            let id = machine.id.clone();
            self.launches.used.insert(token, Used { spec: spec.clone(), id, buried: None });
        }
        self.machines.insert(machine.clone());
        self.tell_state(now, &machine.id, MachineState::Pending);
        // What takes no time is over at once; the answer still says what was launched.
        self.advance(now);
        Ok(Launched { machine, fresh: true })
    }

    fn make_machine(
        &mut self,
        now: Timestamp,
        instance_type: String,
        data: &TemplateData,
        launch: Launch,
        tags: &BTreeMap<String, String>,
    ) -> Machine {
        let id = format!("i-0{:016x}", self.ids.draw());
        let number = self.machines.next_number();
        let mut machine = Machine::new(&id, number, now, data.behaviour.clone());
        machine.instance_type = instance_type;
        machine.profile_arn = data.profile_arn(&self.account);
        machine.behaviour.agent_never |= machine.profile_arn.is_none();
        machine.units =
            data.units.iter().map(|(name, unit)| (name.clone(), Unit::new(unit.clone()))).collect();
        machine.tags = data.tags.clone();
        machine.tags.extend(tags.clone());
        let of_template = [
            ("aws:ec2launchtemplate:id", launch.template_id.clone()),
            ("aws:ec2launchtemplate:version", launch.template_version.to_string()),
        ];
        machine.tags.extend(of_template.map(|(key, value)| (key.to_owned(), value)));
        machine.zone = self.launches.zone_of(launch.subnet.as_deref());
        machine.launch = Some(launch);
        machine.set_out(now, &self.timings);
        machine.enter(now, MachineState::Pending, &self.timings);
        machine
    }

    /// The machine that this client token launched; other parameters are refused.
    fn launched_before(&self, spec: &LaunchSpec) -> Result<Option<Machine>, MachineError> {
        let token = spec.client_token.as_deref();
        let Some(used) = token.and_then(|token| self.launches.used.get(token)) else {
            return Ok(None);
        };
        if (LaunchSpec { dry_run: used.spec.dry_run, ..spec.clone() }) != used.spec {
            return Err(MachineError::IdempotentParameterMismatch);
        }
        if spec.dry_run {
            return Err(MachineError::DryRun);
        }
        Ok(self.machines.get(&used.id).or(used.buried.as_deref()).cloned())
    }

    fn check_subnet(&self, subnet: &str) -> Result<(), MachineError> {
        let subnets = &self.launches.subnets;
        let known = if subnets.is_empty() {
            subnet.starts_with("subnet-")
        } else {
            subnets.contains(subnet)
        };
        if known { Ok(()) } else { Err(MachineError::SubnetNotFound(subnet.to_owned())) }
    }

    fn check_capacity(
        &mut self,
        template_id: &str,
        data: &TemplateData,
        wanted: &Wanted<'_>,
    ) -> Result<(), MachineError> {
        if data.behaviour.no_capacity {
            return Err(wanted.refused(Refusal::Capacity));
        }
        let template = TemplateRef::Id(template_id.to_owned());
        let of_template = &mut self.launch_templates.get_mut(&template)?.shortages;
        let mut all = self.launches.shortages.iter_mut().chain(of_template);
        let Some(shortage) = all.find(|it| it.meets(wanted)) else { return Ok(()) };
        if let Some(left) = &mut shortage.times {
            *left -= 1;
        }
        Err(wanted.refused(shortage.refusal))
    }

    /// EC2 warns that it takes a spot machine back, and does so `spot_notice` later. False where there is no
    /// such machine, or it is none that could be taken.
    pub fn interrupt_spot(&mut self, now: Timestamp, id: &str) -> bool {
        let now = self.at(now);
        let notice = self.timings.spot_notice;
        let Some(machine) = self.machines.get_mut(id) else { return false };
        let alive = matches!(machine.state(), MachineState::Pending | MachineState::Running);
        if !alive || !machine.launch.as_ref().is_some_and(|launch| launch.spot) {
            return false;
        }
        machine.take_back(plus(now, notice));
        // EC2 names the zone in place of region and account here.
        let zone = self.machines.get(id).map_or_else(zone_a, |machine| machine.zone.clone());
        let arn = format!("arn:aws:ec2:{}{zone}:instance/{id}", self.region);
        let detail = json!({"instance-id": id, "instance-action": "terminate"});
        self.emit(now, "aws.ec2", "EC2 Spot Instance Interruption Warning", &[arn], &detail);
        self.advance(now);
        true
    }

    /// Forgets the machines that ended long since, and later their client tokens.
    pub(crate) fn forget_machines(&mut self) {
        let now = self.clock();
        while let Some(machine) = self.machines.bury(now) {
            let token = machine.launch.as_ref().and_then(|it| it.client_token.clone());
            let Some(token) = token else { continue };
            if let Some(used) = self.launches.used.get_mut(&token) {
                let ended = machine.ended_at().unwrap_or(now);
                used.buried = Some(Box::new(machine));
                self.launches.expiring.push_back((plus(ended, TOKEN_KEPT), token));
            }
        }
        while let Some((_, token)) = self.launches.expiring.pop_front_if(|(at, _)| *at <= now) {
            self.launches.used.remove(&token);
        }
    }
}

/// What is wrong with a launch whatever the world holds.
fn check_spec(spec: &LaunchSpec) -> Result<(), MachineError> {
    let invalid = |text: String| Err(MachineError::InvalidParameter(text));
    if let Some(token) = &spec.client_token
        && (token.is_empty() || token.len() > TOKEN_CHARS_MAX || !token.is_ascii())
    {
        return invalid(format!(
            "Invalid client token: it must have 1 to {TOKEN_CHARS_MAX} ASCII characters."
        ));
    }
    if spec.min_count == 0 || spec.max_count < spec.min_count {
        return invalid(format!(
            "Invalid value '{}' for minCount or '{}' for maxCount: 1 <= minCount <= maxCount.",
            spec.min_count, spec.max_count
        ));
    }
    if spec.min_count > 1 {
        return invalid(
            "minCount must be 1: several machines in one call are not modelled.".into(),
        );
    }
    if let Some(name) = &spec.instance_type
        && !is_instance_type(name)
    {
        return invalid(format!("Invalid value '{name}' for InstanceType."));
    }
    check_tags(&spec.tags)?;
    check_tags(&spec.volume_tags)
}

/// What EC2 refuses of tags that a caller gives.
pub fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), MachineError> {
    if tags.len() > TAGS_MAX {
        return Err(MachineError::InvalidParameter(format!(
            "A resource can have at most {TAGS_MAX} tags."
        )));
    }
    if let Some(key) = tags.keys().find(|key| key.to_ascii_lowercase().starts_with("aws:")) {
        return Err(MachineError::InvalidParameter(format!(
            "Tag keys starting with 'aws:' are reserved for internal use: {key}"
        )));
    }
    Ok(())
}
