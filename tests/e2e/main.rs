//! End to end: the binary, real sockets, real SDKs.

mod bad_input;
mod chaos;
mod crowd;
mod edges;
mod flood;
mod gang;
mod harness;
mod journeys;
mod ministack;
mod operations;
mod outages;
mod poison;
mod replay;
mod rights;
mod schedules;
mod telemetry;
mod ticks;
mod verbs;
mod wire;
