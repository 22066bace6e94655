//! `run`: a worker on the queue.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use lamplighter_runtime::{Worker, WorkerOptions};

use super::{CliError, Context};
use crate::config::Config;
use crate::wiring;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Decide and say so, but write and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Messages that are worked on at the same time
    #[arg(long, value_name = "SLOTS", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) workers: u16,
}

impl RunArgs {
    pub(crate) fn options(&self) -> WorkerOptions {
        WorkerOptions {
            slots: usize::from(self.workers),
            dry_run: self.dry_run,
            ..WorkerOptions::default()
        }
    }
}

pub(super) async fn run(context: &Context, args: &RunArgs) -> Result<ExitCode, CliError> {
    let config = context.config()?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let aws = wiring::connect(None).await?;
    let ports = wiring::ports(&aws, &config)?;
    tell(&config, &aws.region, args);
    let shutdown = wiring::shutdown()?;
    Worker::new(ports, Arc::new(config.fleet), args.options()).run(shutdown).await;
    Ok(ExitCode::SUCCESS)
}

fn tell(config: &Config, region: &str, args: &RunArgs) {
    tracing::info!(
        fleet = %config.origin, targets = config.fleet.targets.len(), queue = config.commands,
        table = config.table, region, slots = args.workers, dry_run = args.dry_run, "working"
    );
}
