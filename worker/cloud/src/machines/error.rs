//! Why EC2 refuses, in its own codes and words.

use crate::ServiceFault;

/// Why a call to EC2 was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// Some of the instances do not exist.
    #[error("{}", not_found_text(.0))]
    NotFound(Vec<String>),
    /// An id that cannot be one.
    #[error("Invalid id: \"{0}\"")]
    Malformed(String),
    /// The instance is in a state that does not allow it.
    #[error("The instance '{id}' is not in a state from which it can be {verb}.")]
    IncorrectState {
        /// The instance.
        id: String,
        /// `started` or `stopped`.
        verb: &'static str,
    },
    /// An attribute of the instance forbids it.
    #[error(
        "The instance '{id}' may not be {verb}. Modify its '{attribute}' instance attribute and try again."
    )]
    Protected {
        /// The instance.
        id: String,
        /// `stopped` or `terminated`.
        verb: &'static str,
        /// `disableApiStop` or `disableApiTermination`.
        attribute: &'static str,
    },
    /// The call concerns a zone that is impaired.
    #[error("The server is overloaded and can't handle the request.")]
    ZoneImpaired,
    /// A spot instance that was asked for once cannot be stopped, only terminated.
    #[error(
        "You can't stop the Spot Instance '{0}' because it is associated with a one-time Spot Instance request. You can only stop Spot Instances associated with persistent Spot Instance requests."
    )]
    OneTimeSpot(String),
    /// No host is free for it.
    #[error(
        "We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested ({region}{zone}). Our system will be working on provisioning additional capacity. You can currently get {instance_type} capacity by not specifying an Availability Zone in your request or choosing {}.",
        elsewhere(region, zone)
    )]
    InsufficientCapacity {
        /// The instance type.
        instance_type: String,
        /// The region.
        region: String,
        /// The letter of the zone.
        zone: String,
    },
    /// No address is free in the subnet.
    #[error(
        "There are not enough free addresses in subnet '{0}' to satisfy the requested number of instances."
    )]
    NoFreeAddresses(String),
    /// The capacity reservation is used up.
    #[error(
        "The requested reservation does not have sufficient compatible and available capacity for this request."
    )]
    ReservationUsedUp,
    /// A code of tomorrow's.
    #[error("The launch was refused by a rule that is newer than this model.")]
    Novel,
    /// No spot host is free for it.
    #[error("There is no Spot capacity available that matches your request.")]
    InsufficientSpotCapacity,
    /// The account's quota of processors is used up.
    #[error(
        "You have requested more vCPU capacity than your current vCPU limit allows for the instance bucket that the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
    )]
    VcpuLimitExceeded,
    /// The account's quota of spot instances is used up.
    #[error("Max spot instance count exceeded")]
    SpotCountExceeded,
    /// A client token that was used with other parameters.
    #[error(
        "Arguments on this idempotent request are inconsistent with arguments used in previous request(s)."
    )]
    IdempotentParameterMismatch,
    /// No launch template has this id.
    #[error("The specified launch template, with template ID {0}, does not exist.")]
    TemplateIdNotFound(String),
    /// An id that cannot be a launch template's.
    #[error("Invalid launch template ID: '{0}'")]
    TemplateIdMalformed(String),
    /// No launch template has this name.
    #[error("The specified launch template, with template name {0}, does not exist.")]
    TemplateNameNotFound(String),
    /// A launch template of this name exists.
    #[error("Launch template name already in use.")]
    TemplateNameTaken,
    /// The launch template has no such version.
    #[error("Could not find the specified version {0} of the launch template.")]
    TemplateVersionNotFound(String),
    /// No subnet has this id.
    #[error("The subnet ID '{0}' does not exist")]
    SubnetNotFound(String),
    /// Parameters that exclude each other.
    #[error("{0}")]
    InvalidCombination(String),
    /// The call would have succeeded.
    #[error("Request would have succeeded, but DryRun flag is set.")]
    DryRun,
    /// A parameter that is missing or wrong.
    #[error("{0}")]
    InvalidParameter(String),
}

/// The other zones of a region.
fn elsewhere(region: &str, zone: &str) -> String {
    let others = ["a", "b", "c", "d"].into_iter().filter(|other| *other != zone);
    others.map(|other| format!("{region}{other}")).collect::<Vec<_>>().join(", ")
}

fn not_found_text(ids: &[String]) -> String {
    if let [id] = ids {
        return format!("The instance ID '{id}' does not exist");
    }
    format!("The instance IDs '{}' do not exist", ids.join(", "))
}

impl ServiceFault for MachineError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "InvalidInstanceID.NotFound",
            Self::Malformed(_) => "InvalidInstanceID.Malformed",
            Self::IncorrectState { .. } => "IncorrectInstanceState",
            Self::OneTimeSpot(_) => "UnsupportedOperation",
            Self::Protected { .. } => "OperationNotPermitted",
            Self::ZoneImpaired => "Unavailable",
            Self::InsufficientCapacity { .. } | Self::InsufficientSpotCapacity => {
                "InsufficientInstanceCapacity"
            }
            Self::NoFreeAddresses(_) => "InsufficientFreeAddressesInSubnet",
            Self::ReservationUsedUp => "ReservationCapacityExceeded",
            Self::Novel => "LaunchPostureViolation",
            Self::VcpuLimitExceeded => "VcpuLimitExceeded",
            Self::SpotCountExceeded => "MaxSpotInstanceCountExceeded",
            Self::IdempotentParameterMismatch => "IdempotentParameterMismatch",
            Self::TemplateIdNotFound(_) => "InvalidLaunchTemplateId.NotFound",
            Self::TemplateIdMalformed(_) => "InvalidLaunchTemplateId.Malformed",
            Self::TemplateNameNotFound(_) => "InvalidLaunchTemplateName.NotFoundException",
            Self::TemplateNameTaken => "InvalidLaunchTemplateName.AlreadyExistsException",
            Self::TemplateVersionNotFound(_) => "InvalidLaunchTemplateId.VersionNotFound",
            Self::SubnetNotFound(_) => "InvalidSubnetID.NotFound",
            Self::InvalidCombination(_) => "InvalidParameterCombination",
            Self::DryRun => "DryRunOperation",
            Self::InvalidParameter(_) => "InvalidParameterValue",
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::InsufficientCapacity { .. } | Self::InsufficientSpotCapacity => 500,
            Self::ZoneImpaired => 503,
            Self::DryRun => 412,
            _ => 400,
        }
    }
}
