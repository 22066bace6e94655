//! `health`: whether the worker beside it still works, by the file that its receive loop touches.
//!
//! It is what a container's health check runs, and a timer on a host: no shell, no port, no call to AWS.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use lamplighter_events::HumanDuration;
use serde_json::json;

use super::{CliError, Context, output};

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// The file that `lamplighter run --liveness-file` touches
    #[arg(long, env = super::run::LIVENESS_FILE, value_name = "FILE")]
    liveness_file: PathBuf,
    /// A worker whose receive loop has not turned for longer hangs; one that waits turns each 20 seconds
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = longest)]
    max_age: HumanDuration,
}

fn longest(text: &str) -> Result<HumanDuration, String> {
    HumanDuration::parse(text).map_err(|error| error.to_string())
}

pub(super) fn run(context: &Context, args: &HealthArgs) -> Result<ExitCode, CliError> {
    let path = args.liveness_file.display();
    let modified = std::fs::metadata(&args.liveness_file).and_then(|file| file.modified());
    let modified = modified.map_err(|error| {
        CliError::Missing(format!("the liveness file {path}: {error}; does the worker run?"))
    })?;
    // A time ahead of this clock is no sign of a hang.
    let age = SystemTime::now().duration_since(modified).unwrap_or(Duration::ZERO).as_secs();
    if age > args.max_age.seconds() {
        return Err(CliError::Missing(format!(
            "the worker hangs: its receive loop last turned {age} s ago, and {} is allowed",
            args.max_age
        )));
    }
    if context.json {
        output::json(&json!({"healthy": true, "age_seconds": age}));
    } else {
        output::print(&format!("healthy: the receive loop turned {age} s ago\n"));
    }
    Ok(ExitCode::SUCCESS)
}
