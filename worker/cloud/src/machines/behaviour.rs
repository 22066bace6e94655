//! How one machine differs from the others, and what goes wrong with it.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::timings::maybe_not_negative;

/// How one machine differs from the world's timings, and what goes wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// From an accepted start to running.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub boot: Option<SignedDuration>,
    /// From an accepted stop to stopped.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub stop: Option<SignedDuration>,
    /// From running to the agent being online.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub agent: Option<SignedDuration>,
    /// The agent never comes.
    pub agent_never: bool,
    /// A start is accepted and falls back to stopped after so long, with EC2's internal error.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub bounce: Option<SignedDuration>,
    /// Starts are refused for want of capacity.
    pub no_capacity: bool,
    /// Stop protection: stops and terminations are refused.
    pub disable_api_stop: bool,
    /// Termination protection.
    pub disable_api_termination: bool,
    /// What an idle policy's command exits with; 0 where it is left out.
    pub host_exit: Option<u8>,
    /// What it prints.
    pub host_output: Option<String>,
    /// From pending to its public address.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub public_ip_after: Option<SignedDuration>,
    /// How long after its launch a description by its id finds nothing.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub not_found_for: Option<SignedDuration>,
    /// How long a bootstrap takes.
    #[serde(deserialize_with = "maybe_not_negative")]
    pub bootstrap: Option<SignedDuration>,
    /// What it exits with; 0 where it is left out.
    pub bootstrap_exit: Option<u8>,
    /// What it prints.
    pub bootstrap_output: Option<String>,
    /// It never ends by itself, not even at its own timeout.
    pub bootstrap_hangs: bool,
}
