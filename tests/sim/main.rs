//! The runtime, unchanged, in a simulated world.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod checker;
mod crowd;
mod directed;
mod pool;
mod single_faults;
mod world;
