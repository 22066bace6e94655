//! `scripts/soak`: crowds and drills for as long as you like, on all cores.
//!
//! Exits 0 when nothing was found, 1 on a finding (with the command that replays it step by step), 2 on
//! wrong usage.

#![allow(clippy::unwrap_used, reason = "a tool of the tests: a panic is a finding too")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use lamplighter_sim::crowd::{Play, Report, play, play_requests, play_without_bus};
use lamplighter_sim::drill::{EXERCISES, Exercise, IN_PAIRS, drill, length};
use lamplighter_sim::fault::Fault;
use lamplighter_sim::incidents::INCIDENTS;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// So many findings are printed; the rest are counted.
const SHOWN_MAX: usize = 5;
/// Calls after a command's end that are struck too: what it leaves behind.
const BEYOND: usize = 4;

/// Plays simulated worlds and asks the checker for D1 to D10 of DESIGN.md §7, and for the truths of
/// idleness, office hours and scaling.
#[derive(Debug, Parser)]
#[command(name = "scripts/soak")]
struct Arguments {
    /// How many crowds to play.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Threads; all cores if left out.
    #[arg(long)]
    jobs: Option<usize>,
    /// Instead of crowds: every single fault at every call of each action.
    #[arg(long, conflicts_with_all = ["pairs", "replay"])]
    singles: bool,
    /// Instead of crowds: every pair of faults at every two calls of what changes something.
    #[arg(long, conflicts_with = "replay")]
    pairs: bool,
    /// Crowds of requests: machines that are launched for somebody and ended.
    #[arg(long, conflicts_with_all = ["singles", "pairs"])]
    requests: bool,
    /// Crowds whose bus is away for good.
    #[arg(long, conflicts_with_all = ["singles", "pairs", "requests"])]
    no_bus: bool,
    /// Instead of crowds: public incidents, each with what it cost its users.
    #[arg(long, conflicts_with_all = ["singles", "pairs", "requests", "replay"])]
    incidents: bool,
    /// Plays one crowd aloud: each call, each decision and why.
    #[arg(long, value_name = "SEED")]
    replay: Option<u64>,
}

impl Arguments {
    fn play(&self) -> fn(u64, Play) -> Report {
        match (self.requests, self.no_bus) {
            (true, _) => play_requests,
            (_, true) => play_without_bus,
            _ => play,
        }
    }
}

/// Something to play.
enum Job {
    Crowd(u64),
    Requests(u64),
    NoBus(u64),
    Drill(Exercise, Vec<(usize, Fault)>),
}

/// What it came to.
struct Result {
    name: String,
    findings: Vec<String>,
    again: String,
    steps: usize,
    faults: usize,
    commands: usize,
}

impl Job {
    fn play(&self) -> Result {
        match self {
            Self::Crowd(seed) | Self::Requests(seed) | Self::NoBus(seed) => {
                let (report, flag) = match self {
                    Self::Requests(_) => (play_requests(*seed, Play::default()), "--requests "),
                    Self::NoBus(_) => (play_without_bus(*seed, Play::default()), "--no-bus "),
                    _ => (play(*seed, Play::default()), ""),
                };
                Result {
                    name: format!("seed {seed}"),
                    findings: report.findings.iter().map(ToString::to_string).collect(),
                    again: format!("scripts/soak {flag}--replay {seed}"),
                    steps: report.steps,
                    faults: report.faults,
                    commands: report.commands,
                }
            }
            Self::Drill(exercise, faults) => {
                let report = drill(*exercise, faults);
                let findings: Vec<String> =
                    report.findings.iter().map(ToString::to_string).collect();
                let again = if findings.is_empty() { String::new() } else { report.tale };
                Result {
                    name: format!("{} with {faults:?}", exercise.name()),
                    findings,
                    again,
                    steps: report.steps,
                    faults: report.faults,
                    commands: 1,
                }
            }
        }
    }
}

fn singles() -> Vec<Job> {
    let each = |exercise: Exercise| {
        (0..length(exercise) + BEYOND).flat_map(move |number| {
            Fault::EACH.map(|fault| Job::Drill(exercise, vec![(number, fault)]))
        })
    };
    EXERCISES.into_iter().flat_map(each).collect()
}

fn pairs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for exercise in IN_PAIRS {
        let calls = length(exercise) + BEYOND;
        for first in 0..calls {
            for second in first + 1..calls + BEYOND {
                for one in Fault::EACH {
                    for other in Fault::EACH {
                        jobs.push(Job::Drill(exercise, vec![(first, one), (second, other)]));
                    }
                }
            }
        }
    }
    jobs
}

/// The simulated time of a log line is in the calls around it.
struct NoTime;

impl FormatTime for NoTime {
    fn format_time(&self, _: &mut Writer<'_>) -> std::fmt::Result {
        Ok(())
    }
}

fn replay(seed: u64, play: fn(u64, Play) -> Report) -> ExitCode {
    tracing_subscriber::fmt()
        .with_timer(NoTime)
        .with_ansi(false)
        .with_env_filter("lamplighter_runtime=debug")
        .with_writer(std::io::stdout)
        .init();
    let how = Play { breakage: None, loud: true };
    let report = play(seed, how);
    println!();
    for finding in &report.findings {
        println!("{finding}");
    }
    println!("seed {seed}: {} findings, {} steps", report.findings.len(), report.steps);
    if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.replay {
        return replay(seed, arguments.play());
    }
    if arguments.incidents {
        return incidents();
    }
    let jobs = match (arguments.singles, arguments.pairs) {
        (true, _) => singles(),
        (_, true) => pairs(),
        _ => {
            let of = match (arguments.requests, arguments.no_bus) {
                (true, _) => Job::Requests,
                (_, true) => Job::NoBus,
                _ => Job::Crowd,
            };
            (arguments.start..arguments.start + arguments.seeds).map(of).collect()
        }
    };
    let threads = arguments.jobs.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    soak(&jobs, threads.max(1))
}

fn incidents() -> ExitCode {
    let mut clean = true;
    for incident in &INCIDENTS {
        let report = lamplighter_sim::incidents::play(incident, 1, None);
        println!("{report}\n    {}", incident.source);
        clean &= report.is_clean();
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn soak(jobs: &[Job], threads: usize) -> ExitCode {
    let bar = ProgressBar::new(jobs.len() as u64);
    let style = "{wide_bar} {pos}/{len} {per_sec} {eta} left {msg}";
    bar.set_style(ProgressStyle::with_template(style).unwrap());
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let [steps, faults, commands] = [0; 3].map(AtomicUsize::new);
    let failed: Mutex<Vec<Result>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = job.play();
                    steps.fetch_add(result.steps, Ordering::Relaxed);
                    faults.fetch_add(result.faults, Ordering::Relaxed);
                    commands.fetch_add(result.commands, Ordering::Relaxed);
                    if !result.findings.is_empty() {
                        let mut failed = failed.lock().unwrap();
                        if failed.len() < SHOWN_MAX {
                            bar.suspend(|| show(&result));
                        }
                        failed.push(result);
                        bar.set_message(format!("{} failed", failed.len()));
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    let rate = |of: usize| of as f64 / seconds;
    println!(
        "{} worlds in {seconds:.1} s on {threads} threads: {:.1}/s",
        jobs.len(),
        rate(jobs.len())
    );
    for (name, of) in [("steps", count(&steps)), ("faults", count(&faults))] {
        println!("{of} {name}: {:.0}/s", rate(of));
    }
    println!("{} commands", count(&commands));
    let failed = failed.into_inner().unwrap();
    if failed.is_empty() {
        println!("nothing was found");
        return ExitCode::SUCCESS;
    }
    println!("{} worlds failed:", failed.len());
    for one in &failed {
        println!("  {}: {}", one.name, one.findings[0]);
    }
    ExitCode::FAILURE
}

fn show(result: &Result) {
    println!("{}:", result.name);
    for finding in result.findings.iter().take(SHOWN_MAX) {
        println!("    {finding}");
    }
    println!("    {}", result.again);
}
