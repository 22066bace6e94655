//! The simulation: the whole runtime, unchanged, in a world where everything that can go wrong does.
//!
//! *Theory.* `world` implements the runtime's ports over the small model of AWS (`worker/cloud`), on
//! tokio's paused clock: when every task waits, time jumps to the next timer. Every port call takes a
//! little time, drawn from a seed, and passes one gate, where a fault may strike. `checker` is told of
//! what happens and asks D1 to D10 of DESIGN.md §7; it shares no rule with `decide`. `drill` tries faults
//! at every call of one command; `crowd` lets people, consoles and crashes loose, by seed; `incidents` plays public
//! outages hour by hour. `table`, `backends` and `fault` are what the world is made of. `breakage` breaks the worker on purpose, to show that the checker can fail.
//!
//! *Invariant.* Same seed, same run, byte for byte: there is no other source of time, chance or order.
//!
//! A crate of its own, so that `scripts/soak` builds without the AWS SDKs, optimised, in seconds.
//!
//! Not here: the adapters and the wire (`tests/e2e`), and anything that a person's clock could show.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]
#![allow(clippy::large_futures, reason = "a run is one future on its own stack")]

pub mod backends;
pub mod breakage;
pub mod call;
pub mod checker;
pub mod crowd;
pub mod drill;
pub mod fault;
pub mod incidents;
mod launched;
pub mod rule;
pub mod staff;
mod table;
pub mod tale;
pub mod world;
