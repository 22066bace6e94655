//! Launch templates: named, numbered descriptions of what `RunInstances` launches.
//!
//! A version never changes; `$Default` and `$Latest` name one that may. Beside what EC2 keeps, a version
//! says how the machines behave that are launched from it, and a template what of it is scarce.
//!
//! Not here: deleting templates or versions, and what of a template the model has no use for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::World;
use crate::machines::{Behaviour, MachineError};
use crate::shortages::Shortage;
use crate::units::UnitSeed;

/// The image of a template that names none.
pub const IMAGE: &str = "ami-00000000000000001";
/// What comes before the name of a parameter that holds an image's id.
const BY_PARAMETER: &str = "resolve:ssm:";
/// The account's instance profile, which a template has that only says that it has one.
pub const PROFILE: &str = "lamplighter-managed";
/// The version that a launch takes which names none.
pub const DEFAULT_VERSION: &str = "$Default";
/// The most versions of one template, as EC2 has it.
pub const VERSIONS_MAX: usize = 10_000;

/// Which launch template is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TemplateRef {
    /// By `lt-…`.
    Id(String),
    /// By name.
    Name(String),
}

impl TemplateRef {
    /// An id where it begins as one, else a name.
    #[must_use]
    pub fn new(id_or_name: &str) -> Self {
        if id_or_name.starts_with("lt-") {
            Self::Id(id_or_name.to_owned())
        } else {
            Self::Name(id_or_name.to_owned())
        }
    }
}

/// Which instance profile a machine gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Profile {
    /// The account's own ([`PROFILE`]), or none: then its agent has no credentials and never comes.
    Own(bool),
    /// The one of this ARN or name.
    Named(String),
}

/// One version of a launch template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TemplateData {
    /// `ami-…`, or `resolve:ssm:` and the name of a parameter that holds it.
    pub image_id: String,
    /// A snapshot that a volume is made from.
    pub snapshot: Option<String>,
    /// The instance type.
    pub instance_type: String,
    /// The subnet; a launch may name another.
    pub subnet: Option<String>,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// The instance profile.
    pub profile: Profile,
    /// The size of the root volume in GiB.
    pub volume_gib: u32,
    /// Whether a machine gets a public address.
    pub public_ip: bool,
    /// Whether it describes network interfaces: then a launch must not name a subnet.
    pub interfaces: bool,
    /// Tags of what is launched.
    pub tags: BTreeMap<String, String>,
    /// How what is launched behaves.
    pub behaviour: Behaviour,
    /// The units on what is launched, by name, without `.service`.
    pub units: BTreeMap<String, UnitSeed>,
}

impl Default for TemplateData {
    fn default() -> Self {
        Self {
            image_id: IMAGE.to_owned(),
            snapshot: None,
            instance_type: "t3.medium".to_owned(),
            subnet: None,
            security_groups: Vec::new(),
            profile: Profile::Own(true),
            volume_gib: 8,
            public_ip: true,
            interfaces: false,
            tags: BTreeMap::new(),
            behaviour: Behaviour::default(),
            units: BTreeMap::new(),
        }
    }
}

impl TemplateData {
    /// The SSM parameter that holds the image's id, where it is named so.
    #[must_use]
    pub fn image_parameter(&self) -> Option<&str> {
        self.image_id.strip_prefix(BY_PARAMETER)
    }

    /// The id of the image; the model knows one image behind all parameters.
    #[must_use]
    pub fn resolved_image(&self) -> &str {
        if self.image_parameter().is_some() { IMAGE } else { &self.image_id }
    }

    /// The ARN of its instance profile, in an account.
    #[must_use]
    pub fn profile_arn(&self, account: &str) -> Option<String> {
        let name = match &self.profile {
            Profile::Own(false) => return None,
            Profile::Own(true) => PROFILE,
            Profile::Named(arn) if arn.starts_with("arn:") => return Some(arn.clone()),
            Profile::Named(name) => name,
        };
        Some(format!("arn:aws:iam::{account}:instance-profile/{name}"))
    }
}

/// A launch template that exists from the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchTemplateSeed {
    /// `lt-…`
    pub id: String,
    /// Its name; its id where it is empty.
    #[serde(default)]
    pub name: String,
    /// Its versions by number, 1 and upwards; a plain version 1 where it is empty.
    #[serde(default)]
    pub versions: BTreeMap<u32, TemplateData>,
    /// Which is `$Default`; the lowest where it is left out.
    #[serde(default)]
    pub default_version: Option<u32>,
    /// What launches from it are refused for.
    #[serde(default)]
    pub shortages: Vec<Shortage>,
}

/// One version with what EC2 notes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateVersion {
    /// For people.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it says.
    pub data: TemplateData,
}

/// One launch template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchTemplate {
    /// `lt-…`
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its own tags, not those of what it launches.
    pub tags: BTreeMap<String, String>,
    /// Which version is `$Default`.
    pub default_version: u32,
    /// All versions, never none.
    pub versions: BTreeMap<u32, TemplateVersion>,
    /// What launches from it are refused for.
    pub shortages: Vec<Shortage>,
}

impl LaunchTemplate {
    /// Which version is `$Latest`.
    #[must_use]
    pub fn latest_version(&self) -> u32 {
        self.versions.keys().next_back().copied().unwrap_or(self.default_version)
    }

    /// A version by number, `$Default` or `$Latest`; empty is `$Default`.
    pub fn version(&self, version: &str) -> Result<(u32, &TemplateVersion), MachineError> {
        let number = match version {
            "" | DEFAULT_VERSION => Some(self.default_version),
            "$Latest" => Some(self.latest_version()),
            number => number.parse().ok(),
        };
        number
            .and_then(|number| Some((number, self.versions.get(&number)?)))
            .ok_or_else(|| MachineError::TemplateVersionNotFound(version.to_owned()))
    }
}

/// All launch templates.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LaunchTemplates {
    templates: BTreeMap<String, LaunchTemplate>,
}

impl LaunchTemplates {
    /// All, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &LaunchTemplate> {
        self.templates.values()
    }

    /// One by id or name.
    pub fn get(&self, which: &TemplateRef) -> Result<&LaunchTemplate, MachineError> {
        let id = self.id_of(which)?;
        self.templates.get(&id).ok_or(MachineError::TemplateIdNotFound(id))
    }

    /// One by id or name, to change its tags, its default version or what of it is scarce.
    pub fn get_mut(&mut self, which: &TemplateRef) -> Result<&mut LaunchTemplate, MachineError> {
        let id = self.id_of(which)?;
        self.templates.get_mut(&id).ok_or(MachineError::TemplateIdNotFound(id))
    }

    /// Deletes one by id or name, and what it was.
    pub fn remove(&mut self, which: &TemplateRef) -> Result<LaunchTemplate, MachineError> {
        let id = self.id_of(which)?;
        self.templates.remove(&id).ok_or(MachineError::TemplateIdNotFound(id))
    }

    fn id_of(&self, which: &TemplateRef) -> Result<String, MachineError> {
        match which {
            TemplateRef::Id(id) if !is_template_id(id) => {
                Err(MachineError::TemplateIdMalformed(id.clone()))
            }
            TemplateRef::Id(id) => Ok(id.clone()),
            TemplateRef::Name(name) => self
                .iter()
                .find(|template| template.name == *name)
                .map(|template| template.id.clone())
                .ok_or_else(|| MachineError::TemplateNameNotFound(name.clone())),
        }
    }
}

/// Whether it has the form of a launch template's id.
#[must_use]
pub fn is_template_id(id: &str) -> bool {
    id.strip_prefix("lt-").is_some_and(|hex| {
        (8..=17).contains(&hex.len()) && hex.chars().all(|it| it.is_ascii_hexdigit())
    })
}

/// What CreateLaunchTemplate and CreateLaunchTemplateVersion take beside the template's name.
#[derive(Debug, Clone, Default)]
pub struct NewVersion {
    /// For people.
    pub description: String,
    /// What it says.
    pub data: TemplateData,
}

impl World {
    /// Puts a launch template into the world; one of this id that exists stays as it is.
    pub fn seed_launch_template(&mut self, now: Timestamp, seed: &LaunchTemplateSeed) {
        let now = self.at(now);
        if self.launch_templates.templates.contains_key(&seed.id) {
            return;
        }
        let mut versions: BTreeMap<u32, TemplateVersion> = seed
            .versions
            .iter()
            .map(|(number, data)| (*number, first(now, data.clone())))
            .collect();
        if versions.is_empty() {
            versions.insert(1, first(now, TemplateData::default()));
        }
        let lowest = versions.keys().next().copied().unwrap_or(1);
        let default_version =
            seed.default_version.filter(|it| versions.contains_key(it)).unwrap_or(lowest);
        let template = LaunchTemplate {
            id: seed.id.clone(),
            name: if seed.name.is_empty() { seed.id.clone() } else { seed.name.clone() },
            created: now,
            tags: BTreeMap::new(),
            default_version,
            versions,
            shortages: seed.shortages.clone(),
        };
        self.launch_templates.templates.insert(seed.id.clone(), template);
    }

    /// CreateLaunchTemplate: its first version is its default.
    pub fn create_launch_template(
        &mut self,
        now: Timestamp,
        name: &str,
        version: NewVersion,
        tags: BTreeMap<String, String>,
    ) -> Result<LaunchTemplate, MachineError> {
        let now = self.at(now);
        let well_named = (3..=128).contains(&name.len())
            && name.chars().all(|it| it.is_ascii_alphanumeric() || "().-/_".contains(it));
        if !well_named {
            return Err(MachineError::InvalidParameter(format!(
                "Launch template name '{name}' must have 3 to 128 of [a-zA-Z0-9().-/_]."
            )));
        }
        if self.launch_templates.iter().any(|template| template.name == name) {
            return Err(MachineError::TemplateNameTaken);
        }
        let id = format!("lt-0{:016x}", self.ids.draw());
        let template = LaunchTemplate {
            id: id.clone(),
            name: name.to_owned(),
            created: now,
            tags,
            default_version: 1,
            versions: BTreeMap::from([(1, made(now, version))]),
            shortages: Vec::new(),
        };
        self.launch_templates.templates.insert(id, template.clone());
        Ok(template)
    }

    /// CreateLaunchTemplateVersion: the next number; the default stays.
    pub fn create_launch_template_version(
        &mut self,
        now: Timestamp,
        which: &TemplateRef,
        version: NewVersion,
    ) -> Result<(LaunchTemplate, u32), MachineError> {
        let now = self.at(now);
        let template = self.launch_templates.get_mut(which)?;
        if template.versions.len() >= VERSIONS_MAX {
            return Err(MachineError::InvalidParameter(format!(
                "A launch template has at most {VERSIONS_MAX} versions."
            )));
        }
        let number = template.latest_version().saturating_add(1);
        template.versions.insert(number, made(now, version));
        Ok((template.clone(), number))
    }

    /// The ARN of a launch template.
    #[must_use]
    pub fn launch_template_arn(&self, id: &str) -> String {
        format!("arn:aws:ec2:{}:{}:launch-template/{id}", self.region, self.account)
    }
}

fn first(now: Timestamp, data: TemplateData) -> TemplateVersion {
    TemplateVersion { description: String::new(), created: now, data }
}

fn made(now: Timestamp, version: NewVersion) -> TemplateVersion {
    TemplateVersion { description: version.description, created: now, data: version.data }
}
