//! End to end: the binary, real sockets, real SDKs.

mod bad_input;
mod harness;
mod journeys;
mod operations;
