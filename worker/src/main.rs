//! x
mod config;
mod telemetry_setup;
fn main() {}
