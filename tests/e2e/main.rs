//! End to end: the binary, real sockets, real SDKs.

mod bad_input;
mod edges;
mod harness;
mod journeys;
mod ministack;
mod operations;
mod telemetry;
