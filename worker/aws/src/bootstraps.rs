//! The bootstraps that are shipped: what they run on a fresh host.
//!
//! *Not here.* Which parameters they take: the binary's configuration. How they get onto the host: `ssm`.

/// Brings a model from Walrus: its head says what it takes and how it ends.
pub const WALRUS: &str = include_str!("bootstraps/walrus.sh");
/// Whether that model runs, or has ended with success.
pub const WALRUS_CHECK: &str = include_str!("bootstraps/walrus_check.sh");
