//! The runtime, unchanged, in a simulated world.

mod pool;
mod single_faults;
mod world;
