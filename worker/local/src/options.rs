//! What an endpoint is made of, and why it may not come up.

use std::path::PathBuf;

use lamplighter_cloud::{LaunchTemplateSeed, MachineSeed, ServiceSeed, Timings};
use serde::{Deserialize, Serialize};

use crate::faults::{Fault, Latency};

/// A secret that exists from the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSeed {
    /// Its name or its whole ARN.
    pub id: String,
    /// Its value, most often JSON text.
    pub value: String,
}

/// What to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on 127.0.0.1; 0 picks a free one.
    pub port: u16,
    /// The region that ARNs name.
    pub region: String,
    /// Twelve digits.
    pub account: String,
    /// Machines that exist from the beginning; one that a stored world knows stays as it was.
    pub machines: Vec<MachineSeed>,
    /// Launch templates that exist from the beginning; one that a stored world knows stays as it was.
    pub launch_templates: Vec<LaunchTemplateSeed>,
    /// The subnets that machines can be launched into; without any, every `subnet-…` will do.
    pub subnets: Vec<String>,
    /// Names of the fleet's own SSM documents, each of them a bootstrap.
    pub documents: Vec<String>,
    /// ECS services that exist from the beginning, with their clusters; the same holds for them.
    pub services: Vec<ServiceSeed>,
    /// Secrets that exist from the beginning; one that exists stays as it was.
    pub secrets: Vec<SecretSeed>,
    /// Log groups that exist.
    pub log_groups: Vec<String>,
    /// How long things take.
    pub timings: Timings,
    /// Where everything is kept across restarts; without it nothing is.
    pub data: Option<PathBuf>,
    /// An IAM policy document: what it does not allow is denied. Without it everything is allowed.
    pub policy: Option<PathBuf>,
    /// Faults in force from the beginning.
    pub faults: Vec<Fault>,
    /// Time that every call takes.
    pub latency: Option<Latency>,
    /// Fixes ids and drawn faults; `None` takes the time.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            machines: Vec::new(),
            launch_templates: Vec::new(),
            subnets: Vec::new(),
            documents: Vec::new(),
            services: Vec::new(),
            secrets: Vec::new(),
            log_groups: Vec::new(),
            timings: Timings::default(),
            data: None,
            policy: None,
            faults: Vec::new(),
            latency: None,
            seed: None,
        }
    }
}

/// Why the endpoint did not come up, or could not keep its state.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Somebody else listens there.
    #[error("port {port} on 127.0.0.1 is taken: choose another, or 0 for any free one")]
    PortTaken {
        /// The port asked for.
        port: u16,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The port cannot be listened on for another reason.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port asked for.
        port: u16,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file of the data directory cannot be read or written.
    #[error("cannot {verb} {path}", path = path.display())]
    File {
        /// `read`, `write`, `create`, …
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A snapshot is not one of ours, or not whole.
    #[error("the snapshot {path} is damaged ({reason}): move it away to begin with an empty world", path = path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The stored world belongs to another account or region.
    #[error("the snapshot {path} belongs to {stored}, not to {wanted}: give another data directory", path = path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Account and region in it.
        stored: String,
        /// Account and region asked for.
        wanted: String,
    },
    /// The policy file is no IAM policy document.
    #[error("the policy {path} is no IAM policy document: {reason}", path = path.display())]
    Policy {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A secret of the options cannot be made.
    #[error("the secret {id} cannot be made: {reason}")]
    Secret {
        /// Which.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
}
