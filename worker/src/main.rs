//! The `lamplighter` binary: reads the command line, wires the crates together, and says in one
//! sentence what went wrong.
//!
//! *Code map.* `cli/`: one file per verb. `config/`: the fleet file and the seeds' variables.
//! `wiring`: from a configuration to ports. `telemetry_setup`: logs, traces, metrics. The rules are in
//! crate lifecycle, the work in crate runtime, AWS in crate aws, the embedded endpoint in crate local.
//!
//! *Invariant.* Errors are shown here and nowhere else; no verb prints one and goes on.

mod cli;
mod config;
mod telemetry_setup;
mod wiring;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use cli::{Cli, CliError};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Variables that are not UTF-8 are none of ours.
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    telemetry_setup::install_tls();
    let exporters = telemetry_setup::install(&env, cli.log_level());
    let result = run(cli, env.clone());
    exporters.finish();
    match result {
        Ok(code) => code,
        Err(error) => ExitCode::from(tell(&error, &env)),
    }
}

fn run(cli: Cli, env: BTreeMap<String, String>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    // Boxed: the futures of all verbs together are too large for the main thread's stack.
    Ok(runtime.block_on(Box::pin(cli.run(env)))?)
}

/// Prints the error with its causes, and what to do; the exit code.
fn tell(error: &anyhow::Error, env: &BTreeMap<String, String>) -> u8 {
    let mut sentence = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some libraries repeat their source in their own words.
        if !sentence.contains(&cause) {
            sentence.push_str(": ");
            sentence.push_str(&cause);
        }
    }
    eprintln!("error: {sentence}");
    let known = error.downcast_ref::<CliError>();
    if let Some(hint) = known.and_then(|known| known.hint(env)) {
        eprintln!("hint: {hint}");
    }
    known.map_or(1, CliError::exit_code)
}
