//! The whole operator on virtual time: real controllers, observers and election, an API server in memory, and fakes of Prefect and Tableau.
//!
//! Nothing is mocked between them, and nothing waits: tokio's paused time leaps from timer to timer.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

mod budget;
mod first;
mod guards;
mod ha;
mod laws;
mod properties;
mod reached;
mod remote;
mod residues;
mod rest;
mod script;
mod stage;
mod truth;
mod weather;
mod world;
