use std::process::ExitCode;
use clap::{Args, Subcommand};
use super::{CliError, Context};
#[derive(Debug, Subcommand)]
pub(crate) enum DlqVerb {
    /// List
    List,
    /// Show
    Show { id: String },
    /// Replay
    Replay(ReplayArgs),
}
#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "which", args = ["all", "id", "reason"])]
pub(crate) struct ReplayArgs {
    #[arg(long)] all: bool,
    #[arg(long)] id: Option<String>,
    #[arg(long)] reason: Option<String>,
    #[arg(long, default_value_t = 10)] rate: u32,
}
pub(super) async fn run(_: &Context, _: DlqVerb) -> Result<ExitCode, CliError> { Ok(ExitCode::SUCCESS) }
