//! Workers of one queue, as processes that can be killed and replaced, each with a log of its own.

use std::path::PathBuf;
use std::process::Stdio;

use crate::harness::{Local, Process};

/// The access key of every worker, so that a fault can be meant for them alone.
pub(crate) const WORKER: &str = "worker";

pub(crate) struct Gang {
    workers: Vec<Process>,
    /// The logs of all that ever were.
    logs: Vec<PathBuf>,
}

impl Gang {
    pub(crate) fn new(local: &Local, size: usize) -> Self {
        let mut gang = Self { workers: Vec::new(), logs: Vec::new() };
        gang.add(local, size);
        gang
    }

    fn make(&mut self, local: &Local) -> Process {
        let log = local.folder.path().join(format!("worker-{}.log", self.logs.len()));
        let mut command = local.command();
        command.args(["run", "--unknown-wait", "off"]);
        command.env("AWS_ACCESS_KEY_ID", WORKER).stdout(Stdio::null());
        self.logs.push(log.clone());
        Process::spawn(command, &log)
    }

    /// `kill -9`, and another one at once.
    pub(crate) fn kill(&mut self, local: &Local, at: usize) {
        let new = self.make(local);
        drop(std::mem::replace(&mut self.workers[at], new));
    }

    /// All get this signal.
    pub(crate) fn tell(&self, signal: &str) {
        self.workers.iter().for_each(|worker| worker.signal(signal));
    }

    /// Whether none of them lives.
    pub(crate) fn have_ended(&mut self) -> bool {
        self.workers.iter_mut().all(|worker| !matches!(worker.child.try_wait(), Ok(None)))
    }

    /// All are told to end, and end well; their logs.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Vec<String> {
        let mut logs = Vec::new();
        for mut worker in self.workers.drain(..) {
            if matches!(worker.child.try_wait(), Ok(None)) {
                worker.signal("-TERM");
            }
            assert_eq!(worker.wait(), 0, "{}", worker.log());
            logs.push(worker.log());
        }
        logs
    }

    /// So many more.
    pub(crate) fn add(&mut self, local: &Local, size: usize) {
        for _ in 0..size {
            let worker = self.make(local);
            self.workers.push(worker);
        }
    }

    /// What the one that was made last has logged so far.
    pub(crate) fn log_of_newest(&self) -> String {
        let log = self.logs.last().expect("there was a worker");
        std::fs::read_to_string(log).expect("its log")
    }

    /// Every line that any of them ever logged.
    pub(crate) fn log(&self) -> String {
        let read = |log| std::fs::read_to_string(log).expect("its log");
        self.logs.iter().map(read).collect()
    }

    /// Nothing of ours fell over, and nobody has to read the insides of a library.
    #[track_caller]
    pub(crate) fn check_logs(&self) {
        for line in self.log().lines() {
            for inside in ["panicked", "SdkError", "DispatchFailure", "RUST_BACKTRACE"] {
                assert!(!line.contains(inside), "{line}");
            }
        }
    }
}
