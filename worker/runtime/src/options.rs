//! How a worker works.

use std::time::Duration;

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Messages in hand at most.
    pub slots: usize,
    /// The visibility that a received message is kept under, seconds; heartbeats come every third.
    pub visibility_seconds: u32,
    /// The length of a long poll, 0 to 20 s.
    pub receive_wait: Duration,
    /// From the shutdown's beginning until everything is given back: less than the half minute after
    /// which ECS, and most others, kill what they told to end.
    pub drain: Duration,
    /// The pause between sweeps; each is jittered by a quarter.
    pub sweep_every: Duration,
    /// How old a message for what this fleet does not name may become before it is given up; zero gives it up at once.
    pub unknown_wait: Duration,
    /// Decide and say so, but write and do nothing.
    pub dry_run: bool,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            slots: 32,
            visibility_seconds: 60,
            receive_wait: Duration::from_secs(20),
            drain: Duration::from_secs(25),
            sweep_every: Duration::from_secs(60),
            // ECS replaces the workers of a small service within some minutes, and old and new ones are side by side
            // for about two of them.
            unknown_wait: Duration::from_secs(180),
            dry_run: false,
        }
    }
}
