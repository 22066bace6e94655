//! The runtime, unchanged, in a simulated world.

mod checker;
mod crowd;
mod pool;
mod single_faults;
mod world;
