//! What the simulation claims: each test is one claim, and each claim is checked in many worlds.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod broken;
mod bus;
mod crowds;
mod directed;
mod drills;
mod formats;
mod incidents;
mod pool;
mod rolling;
mod sent;
mod zones;
