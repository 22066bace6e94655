//! Rows of readings and what they mean.
