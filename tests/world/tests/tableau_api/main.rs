//! The simulator's two APIs, over plain HTTP.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used)]

mod admin;
mod client;
mod documented;
mod faults;
mod refreshes;
mod tokens;
mod warnings;
