//! What is claimed of the wire as its users see it: fixtures, schemas, and properties of any input.

mod fixtures;
mod names;
mod properties;
mod schemas;
