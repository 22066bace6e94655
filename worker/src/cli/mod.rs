//! The command line: what can be asked, and what every answer has in common.
//!
//! *Exit codes.* 0: done. 1: the outcome is failed or rejected, or something could not be done. 2: wrong
//! usage or a wrong fleet file. *Output.* Answers go to stdout, progress of the process (logs, warnings)
//! to stderr; `--json` prints one JSON value (`watch`: one a line). Colour only on a terminal, and
//! never where `NO_COLOR` is set.
//!
//! *Not here.* Deciding anything: commands go through the queue, as everybody's do.

mod check;
mod dlq;
mod error;
mod health;
mod leaks;
mod link;
#[cfg(feature = "local")]
mod local;
mod machines;
mod naming;
mod output;
mod probe;
mod run;
mod schedule;
mod send;
mod serve;
mod setup;
mod status;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::{self, Config, ConfigError};
pub(crate) use error::CliError;
use output::Style;

/// Keeps cloud compute on exactly while someone needs it.
#[derive(Debug, Parser)]
#[command(name = "lamplighter", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// The fleet file; `example` is the built-in one [default: ./lamplighter.toml]
    #[arg(long, global = true, env = "LAMPLIGHTER_FLEET", value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Work on the queue, until SIGTERM or Ctrl-C
    Run(run::RunArgs),
    /// Say whether a worker that `run --liveness-file` started still works; exit code 1 where it hangs
    Health(health::HealthArgs),
    /// Serve an AWS endpoint on this machine and work against it: no account needed
    #[cfg(feature = "local")]
    Local(local::LocalArgs),
    /// Serve HTTP before the queue and the table, until SIGTERM or Ctrl-C
    Serve(serve::ServeArgs),
    /// Make a token for the door: shown once, with its hash for the fleet file
    Token {
        /// Who gets it; its holder too, where the fleet file names no other
        name: String,
    },
    /// Make a link with which somebody may wake one target and see how far it is, until the link expires
    Link(link::LinkArgs),
    /// Create the queues, the table and the rules for AWS's signals, where they are missing
    Setup(setup::SetupArgs),
    /// Send a command
    Send(send::SendArgs),
    /// Show the outcome of a command
    Outcome {
        /// The command's id, as `send` printed it
        id: String,
    },
    /// Show what is known of one target, of a template's machines, or of all
    Status(status::StatusArgs),
    /// Say why a target is as it is
    Why {
        /// The target, or an instance id
        target: String,
    },
    /// Show what happened to a target
    History {
        /// The target, or an instance id
        target: String,
    },
    /// Show changes as they come, until Ctrl-C
    Watch {
        /// A target, an instance id, or a template; all of them where none is named
        target: Option<String>,
    },
    /// List launched machines, records and places that do not belong together
    Leaks(leaks::LeaksArgs),
    /// Ask a target's idle probes once, and say what their answers mean
    Probe(probe::ProbeArgs),
    /// Only observe a target from now on
    Pause(send::PauseArgs),
    /// Act on a target again
    Resume(send::PauseArgs),
    /// Look at messages that could not be worked on, and replay them
    #[command(subcommand)]
    Dlq(dlq::DlqVerb),
    /// Make the fleet's schedules in AWS, and say when they fire
    #[command(subcommand)]
    Schedule(schedule::ScheduleVerb),
    /// Check the fleet file, and with --aws what it names
    Check(check::CheckArgs),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// What every verb gets.
pub(crate) struct Context {
    fleet: Option<PathBuf>,
    json: bool,
    env: BTreeMap<String, String>,
    style: Style,
}

impl Cli {
    /// The level of our own logs where nothing else is said: whoever serves tells what it does, whoever
    /// only asks keeps quiet.
    pub(crate) fn log_level(&self) -> &'static str {
        match self.verb {
            Verb::Run(_) | Verb::Serve(_) => "info",
            #[cfg(feature = "local")]
            Verb::Local(_) => "info",
            _ => "warn",
        }
    }

    /// Does what was asked.
    pub(crate) async fn run(self, env: BTreeMap<String, String>) -> Result<ExitCode, CliError> {
        let style = Style::of(&env);
        let context = Context { fleet: self.fleet, json: self.json, env, style };
        match self.verb {
            Verb::Run(args) => run::run(&context, &args).await,
            Verb::Health(args) => health::run(&context, &args),
            #[cfg(feature = "local")]
            Verb::Local(args) => local::run(&context, args).await,
            Verb::Serve(args) => serve::run(&context, &args).await,
            Verb::Token { name } => serve::token(&context, &name),
            Verb::Link(args) => link::run(&context, args).await,
            Verb::Setup(args) => setup::run(&context, &args).await,
            Verb::Send(args) => send::run(&context, args).await,
            Verb::Outcome { id } => send::outcome(&context, &id).await,
            Verb::Status(args) => status::run(&context, &args).await,
            Verb::Why { target } => status::why(&context, &target).await,
            Verb::History { target } => status::history(&context, &target).await,
            Verb::Watch { target } => watch::run(&context, target.as_deref()).await,
            Verb::Leaks(args) => leaks::run(&context, &args).await,
            Verb::Probe(args) => probe::run(&context, &args).await,
            Verb::Pause(args) => {
                send::pause(&context, args, lamplighter_events::Action::Pause).await
            }
            Verb::Resume(args) => {
                send::pause(&context, args, lamplighter_events::Action::Resume).await
            }
            Verb::Dlq(verb) => dlq::run(&context, verb).await,
            Verb::Schedule(verb) => schedule::run(&context, verb).await,
            Verb::Check(args) => check::run(&context, args).await,
            Verb::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "lamplighter", &mut script);
                output::print(&String::from_utf8_lossy(&script));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl Context {
    /// The fleet; without one it is an error.
    fn config(&self) -> Result<Config, CliError> {
        Ok(config::load(self.fleet.as_deref(), &self.env)?)
    }

    /// The fleet, or the default names where there is none: for whoever only sends or reads.
    fn config_or_names(&self) -> Result<Config, CliError> {
        match config::load(self.fleet.as_deref(), &self.env) {
            Err(ConfigError::Absent) => Ok(Config::nameless()),
            other => Ok(other?),
        }
    }

    /// Says what is valid and will surprise.
    fn warn(&self, config: &Config) {
        for warning in &config.warnings {
            eprintln!("{} {warning}", self.style.on_stderr("33", "warning:"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, fits: bool) {
        let parsed = Cli::try_parse_from(line.split(' '));
        assert_eq!(parsed.is_ok(), fits, "{line}: {parsed:?}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_can_be_asked_is_taken_and_the_rest_refused() {
        check("lamplighter run --dry-run --workers 4", true);
        check("lamplighter run --workers 0", false);
        check("lamplighter run --liveness-file /dev/shm/alive", true);
        check("lamplighter health --liveness-file /dev/shm/alive --max-age 90s", true);
        check("lamplighter health --liveness-file /dev/shm/alive --max-age soon", false);
        check("lamplighter health", false);
        check("lamplighter send start position-keeper --holder me --for 2h --wait", true);
        check("lamplighter --json send wake position-keeper --until 2030-01-01T00:00:00Z", true);
        check("lamplighter send start position-keeper --for -1h", false);
        check(
            "lamplighter send start position-keeper --for 1h --until 2030-01-01T00:00:00Z",
            false,
        );
        check("lamplighter send dance position-keeper", false);
        check("lamplighter send start x --timeout 5m", false);
        check("lamplighter send start x --wait --timeout 5m", true);
        check("lamplighter status --json --fleet f.toml", true);
        check("lamplighter status x --live", true);
        check("lamplighter probe", false);
        check("lamplighter probe x --host --json", true);
        check("lamplighter send check-idle --idle-threshold-minutes 20 --lookback-minutes 5", true);
        check("lamplighter send check-idle x --idle-threshold-minutes 0", false);
        check("lamplighter send create walrus --set blob_id=abc --set object_id=0x1 --wait", true);
        check("lamplighter send create --set blob_id=", true);
        for bad in ["blob_id", "=abc", "1st=abc", "target=abc", "action=stop", "for=2h"] {
            check(&format!("lamplighter send create --set {bad}"), false);
        }
        check("lamplighter status walrus --all", true);
        check("lamplighter leaks", true);
        check("lamplighter leaks --fix --terminate i-0abc123def456 --json", true);
        check("lamplighter leaks --terminate i-0abc123def456", false);
        check("lamplighter leaks --fix --terminate walrus", false);
        check("lamplighter pause", false);
        check("lamplighter pause --all", true);
        check("lamplighter pause x --all", false);
        check("lamplighter dlq replay", false);
        check("lamplighter dlq replay --all --rate 5", true);
        check("lamplighter dlq replay --reason not-json", true);
        check("lamplighter schedule plan --json", true);
        check("lamplighter schedule next --count 3 --name nightly", true);
        check("lamplighter schedule next --count 0", false);
        check("lamplighter schedule disable nightly", true);
        check("lamplighter schedule enable", false);
        check("lamplighter schedule", false);
        check("lamplighter check --aws", true);
        check("lamplighter serve", true);
        check("lamplighter serve --listen 0.0.0.0:8080", true);
        check("lamplighter serve --listen 8080", false);
        check("lamplighter token ci", true);
        check("lamplighter token", false);
        check("lamplighter link pyelli --for 7d --to https://app.example.com/ --holder ann", true);
        check("lamplighter link pyelli --door door.example.com", false);
        check("lamplighter link pyelli --for a-week", false);
        check("lamplighter link", false);
        check("lamplighter completions bash", true);
        check("lamplighter", false);
        #[cfg(feature = "local")]
        {
            check(
                "lamplighter local --aws-port 0 --latency 5 --fault kind=throttle,service=ec2",
                true,
            );
            check("lamplighter local --http-port 0", true);
            check("lamplighter local --aws-port 70000", false);
            check("lamplighter local --fault kind=sometimes", false);
        }
    }
}
