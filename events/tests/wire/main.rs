//! What is claimed of the wire as its users see it: fixtures, schemas, and properties of any input.

#![expect(clippy::unwrap_used, reason = "all of this is test code, helpers included")]

mod fixtures;
mod fuzz;
mod names;
mod properties;
mod schemas;
