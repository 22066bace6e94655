use std::process::ExitCode;
use lamplighter_aws::Aws;
use super::{CliError, Context};
use crate::config::Config;
pub(super) struct Made;
impl Made { pub(super) fn queue_url(&self) -> String { String::new() } }
pub(super) async fn set_up(_: &Aws, _: &Config) -> Result<Made, CliError> { Ok(Made) }
pub(super) async fn run(_: &Context) -> Result<ExitCode, CliError> { Ok(ExitCode::SUCCESS) }
