use std::process::ExitCode;
use clap::Args;
use super::{CliError, Context};
#[derive(Debug, Args)]
pub(crate) struct CheckArgs { file: Option<std::path::PathBuf>, #[arg(long)] aws: bool }
pub(super) async fn run(_: &Context, _: CheckArgs) -> Result<ExitCode, CliError> { Ok(ExitCode::SUCCESS) }
