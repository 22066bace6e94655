//! What can go wrong at the edge, in one sentence and a hint.

use std::collections::BTreeMap;

use lamplighter_aws::ConnectError;
use lamplighter_events::Cause;
use lamplighter_runtime::ports::CallError;

use crate::config::ConfigError;

/// Why a verb could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// There is no fleet, or a wrong one.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// AWS cannot be called at all.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What was asked for is not there, or did not come in time.
    #[error("{0}")]
    Missing(String),
    /// Setting up, looking at dead letters or checking failed.
    #[error("{what}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The embedded endpoint did not come up.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Local(#[from] lamplighter_local::LocalError),
    /// The process cannot listen for signals.
    #[error("cannot listen for signals")]
    Signals(#[from] std::io::Error),
}

impl CliError {
    /// 2 for what the user wrote, 1 for what the world did.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) | Self::Connect(ConnectError::Invalid { .. }) => 2,
            Self::Connect(_) | Self::Call(_) | Self::Missing(_) | Self::Failed { .. } => 1,
            #[cfg(feature = "local")]
            Self::Local(_) => 1,
            Self::Signals(_) => 1,
        }
    }

    /// What to do about it, where that is not in the sentence.
    pub(crate) fn hint(&self, env: &BTreeMap<String, String>) -> Option<String> {
        match self {
            Self::Config(ConfigError::Absent) => Some(
                "name a file with --fleet FILE, or try the built-in one with --fleet example"
                    .to_owned(),
            ),
            Self::Call(error) if error.cause == Cause::Denied => {
                Some("`lamplighter check --aws` tells which rights are missing".to_owned())
            }
            // The adapters know the cases that have a remedy, and name it.
            Self::Call(error) if error.message.contains("lamplighter setup") => None,
            // No answer at all, or none that says no.
            Self::Call(error) if error.cause == Cause::Deadline => Some(no_answer(env)),
            _ => None,
        }
    }
}

/// Whom it asked: an SDK's error names no address.
fn no_answer(env: &BTreeMap<String, String>) -> String {
    let named: Vec<String> = env
        .iter()
        .filter(|(name, url)| name.starts_with("AWS_ENDPOINT_URL") && !url.is_empty())
        .map(|(name, url)| format!("{name}={url}"))
        .collect();
    if named.is_empty() {
        return "check the network and AWS_REGION; AWS_ENDPOINT_URL is not set".to_owned();
    }
    format!("it was sent to {}: does that run (`lamplighter local`)?", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_it_asked_is_named() {
        let env = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, url)| ((*name).to_owned(), (*url).to_owned())).collect()
        };
        let hint = no_answer(&env(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), ("HOME", "/")]));
        assert!(hint.contains("http://127.0.0.1:9") && !hint.contains("HOME"), "{hint}");
        let hint = no_answer(&env(&[("AWS_ENDPOINT_URL_SQS", "http://q:1")]));
        assert!(hint.contains("AWS_ENDPOINT_URL_SQS=http://q:1"), "{hint}");
        assert!(no_answer(&env(&[("AWS_ENDPOINT_URL", "")])).contains("not set"));
    }
}
