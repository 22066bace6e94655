//! `run`: a worker on the queue.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lamplighter_events::HumanDuration;
use lamplighter_runtime::{Liveness, Worker, WorkerOptions};

use super::{CliError, Context};
use crate::config::Config;
use crate::wiring;

/// Names the file that a worker's receive loop touches, for `run` and for `health`.
pub(super) const LIVENESS_FILE: &str = "LAMPLIGHTER_LIVENESS_FILE";

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Decide and say so, but write and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Messages that are worked on at the same time
    #[arg(long, value_name = "SLOTS", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) workers: u16,
    /// How long a message for a target, template or schedule that the fleet file does not have waits for a worker with a
    /// newer file, as in a rolling deployment [default: 3m; of `local`, whose worker has the only file: off]
    #[arg(long, value_name = "DURATION|off", value_parser = unknown_wait)]
    pub(crate) unknown_wait: Option<UnknownWait>,
    /// Touch this file whenever the receive loop turns; `lamplighter health` looks at it
    #[arg(long, env = LIVENESS_FILE, value_name = "FILE")]
    pub(crate) liveness_file: Option<PathBuf>,
}

/// Zero where nothing waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnknownWait(pub(crate) Duration);

/// Longer than any deployment, and far below the queue's retention, at whose end a message is lost.
const UNKNOWN_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

fn unknown_wait(text: &str) -> Result<UnknownWait, String> {
    let expected = "\"off\", or a duration up to a day, such as \"3m\"";
    match (text, HumanDuration::parse(text)) {
        ("off", _) => Ok(UnknownWait(Duration::ZERO)),
        (_, Ok(wait)) if wait.std() <= UNKNOWN_WAIT_MAX => Ok(UnknownWait(wait.std())),
        _ => Err(format!("expected {expected}")),
    }
}

impl RunArgs {
    pub(crate) fn options(&self) -> WorkerOptions {
        let usual = WorkerOptions::default();
        WorkerOptions {
            slots: usize::from(self.workers),
            dry_run: self.dry_run,
            unknown_wait: self.unknown_wait.map_or(usual.unknown_wait, |wait| wait.0),
            ..usual
        }
    }

    pub(crate) fn liveness(&self) -> Result<Liveness, CliError> {
        let Some(path) = &self.liveness_file else { return Ok(Liveness::default()) };
        Liveness::at(path).map_err(|error| CliError::Failed {
            what: "the liveness file cannot be written",
            source: format!("{}: {error}", path.display()).into(),
        })
    }
}

pub(super) async fn run(context: &Context, args: &RunArgs) -> Result<ExitCode, CliError> {
    let config = context.config()?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let liveness = args.liveness()?;
    let aws = wiring::connect(None).await?;
    let ports = wiring::ports(&aws, &config)?;
    tell(&config, &aws.region, args);
    let shutdown = wiring::shutdown()?;
    let worker = Worker::new(ports, Arc::new(config.fleet), args.options());
    worker.with_liveness(liveness).run(shutdown).await;
    Ok(ExitCode::SUCCESS)
}

fn tell(config: &Config, region: &str, args: &RunArgs) {
    tracing::info!(
        fleet = %config.origin, targets = config.fleet.targets.len(), queue = config.commands,
        table = config.table, region, slots = args.workers, dry_run = args.dry_run, "working"
    );
}
