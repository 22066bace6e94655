//! `setup`: creates what is missing, and says what it found. A second run changes nothing.

use std::process::ExitCode;

use clap::Args;
use lamplighter_aws::Aws;
use lamplighter_aws::setup::{Change, SetupStep, apply, plan};
use lamplighter_runtime::ports::CallError;

use super::{CliError, Context, output};
use crate::config::Config;
use crate::wiring;

#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// Say what would be created, and create nothing
    #[arg(long)]
    dry_run: bool,
}

/// Sets up what a configuration names; also `local`'s first act.
pub(super) async fn set_up(aws: &Aws, config: &Config) -> Result<Vec<SetupStep>, CliError> {
    apply(aws, &wiring::names(config)).await.map_err(failed)
}

/// A setup that stopped; where a call was refused, its hint is as good here.
fn failed(error: lamplighter_aws::setup::SetupError) -> CliError {
    use lamplighter_aws::setup::SetupError;
    match error {
        SetupError::Call { what, source } => {
            let CallError { operation, cause, message, disposition, applied } = source;
            let message = format!("{message} (while setting up the {what})");
            CliError::Call(CallError { operation, cause, message, disposition, applied })
        }
        error => CliError::Failed { what: "setup stopped", source: Box::new(error) },
    }
}

pub(super) async fn run(context: &Context, args: &SetupArgs) -> Result<ExitCode, CliError> {
    let config = context.config_or_names()?;
    context.warn(&config);
    let aws = wiring::connect(None).await?;
    let steps = if args.dry_run {
        plan(&aws, &wiring::names(&config)).await.map_err(failed)?
    } else {
        set_up(&aws, &config).await?
    };
    if context.json {
        output::json(&steps);
        return Ok(ExitCode::SUCCESS);
    }
    for step in &steps {
        let (word, colour) = match (step.change, args.dry_run) {
            (Change::Created, false) => ("created", "32"),
            (Change::Created, true) => ("missing", "33"),
            (Change::Exists, _) => ("exists", "2"),
            (Change::Updated, false) => ("updated", "32"),
            (Change::Updated, true) => ("to update", "33"),
            (Change::Skipped, _) => ("skipped", "33"),
        };
        let note = step.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        let word = context.style.paint(colour, &format!("{word:<9}"));
        output::line(&format!("{word}  {}{note}", step.what));
    }
    Ok(ExitCode::SUCCESS)
}
