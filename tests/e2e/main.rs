//! End to end: the binary, real sockets, real SDKs.

mod bad_input;
mod edges;
mod flood;
mod harness;
mod journeys;
mod ministack;
mod operations;
mod poison;
mod replay;
mod rights;
mod telemetry;
mod ticks;
mod verbs;
mod wire;
