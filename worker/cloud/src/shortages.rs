//! What EC2 has no room for, and how it says so.

use serde::{Deserialize, Serialize};

/// What can be scarce; written `everything`, `spot`, `on-demand`, a subnet's id or an instance type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scarce {
    /// Every launch.
    Everything,
    /// Spot instances.
    Spot,
    /// All but spot instances.
    OnDemand,
    /// Launches into this subnet.
    Subnet(String),
    /// Launches of this instance type.
    InstanceType(String),
}

/// A text that names nothing that can be scarce.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected \"everything\", \"spot\", \"on-demand\", a subnet such as \"subnet-0a1b2c3d\" or an instance type such as \"t3.large\"; got \"{0}\""
)]
pub struct NotScarce(String);

impl TryFrom<String> for Scarce {
    type Error = NotScarce;

    fn try_from(text: String) -> Result<Self, NotScarce> {
        match text.as_str() {
            "everything" => Ok(Self::Everything),
            "spot" => Ok(Self::Spot),
            "on-demand" => Ok(Self::OnDemand),
            it if it.starts_with("subnet-") => Ok(Self::Subnet(text)),
            it if is_instance_type(it) => Ok(Self::InstanceType(text)),
            _ => Err(NotScarce(text)),
        }
    }
}

impl From<Scarce> for String {
    fn from(scarce: Scarce) -> Self {
        match scarce {
            Scarce::Everything => "everything".to_owned(),
            Scarce::Spot => "spot".to_owned(),
            Scarce::OnDemand => "on-demand".to_owned(),
            Scarce::Subnet(name) | Scarce::InstanceType(name) => name,
        }
    }
}

/// How a launch is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// `InsufficientInstanceCapacity`
    #[default]
    Capacity,
    /// `VcpuLimitExceeded`
    Vcpus,
    /// `MaxSpotInstanceCountExceeded`
    SpotCount,
    /// `InsufficientFreeAddressesInSubnet`
    Addresses,
    /// `ReservationCapacityExceeded`
    Reservation,
    /// A code that nobody has heard of yet.
    Novel,
}

/// Something is scarce: launches of it are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shortage {
    /// Which launches.
    pub of: Scarce,
    /// How they are refused.
    #[serde(default)]
    pub refusal: Refusal,
    /// How many more are; all where it is left out.
    #[serde(default)]
    pub times: Option<u32>,
}

impl Shortage {
    /// For want of capacity, for ever.
    #[must_use]
    pub fn of(of: Scarce) -> Self {
        Self { of, refusal: Refusal::Capacity, times: None }
    }
}

/// Whether it has the form of an instance type.
#[must_use]
pub fn is_instance_type(name: &str) -> bool {
    let word = |it: &str| {
        !it.is_empty()
            && it.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-')
    };
    name.split_once('.').is_some_and(|(family, size)| word(family) && word(size))
}
