//! End to end: the binary, real sockets, real SDKs.

mod backend;
mod bad_input;
mod chaos;
mod crowd;
mod edges;
mod flood;
mod gang;
mod harness;
mod hours;
mod idle;
mod journeys;
mod machines;
mod ministack;
mod operations;
mod outages;
mod poison;
mod replay;
mod requests;
mod rights;
mod schedules;
mod services;
mod telemetry;
mod tick_calls;
mod ticks;
mod verbs;
mod wire;
