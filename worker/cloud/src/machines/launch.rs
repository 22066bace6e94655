//! How a machine came to be.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a machine came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// When.
    pub at: Timestamp,
    /// The client token that was given.
    pub client_token: Option<String>,
    /// The launch template's id.
    pub template_id: String,
    /// The number of its version.
    pub template_version: u32,
    /// Whether it is a spot instance.
    pub spot: bool,
    /// The image.
    pub image_id: String,
    /// The subnet, where the launch or the template named one.
    pub subnet: Option<String>,
    /// The security groups.
    pub security_groups: Vec<String>,
    /// Whether it gets a public address.
    pub public_ip: bool,
}
