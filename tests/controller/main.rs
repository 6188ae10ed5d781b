//! The whole operator on virtual time: real controllers, observers and election, an API server in memory, and fakes of Prefect and Tableau.
//!
//! Nothing is mocked between them, and nothing waits: tokio's paused time leaps from timer to timer.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

mod budget;
mod claims;
mod connection;
mod drift;
mod ends;
mod errors;
mod first;
mod gaps;
mod guards;
mod ha;
mod in_use;
mod laws;
mod moments;
mod moving;
mod properties;
mod reached;
mod remote;
mod reports;
mod reports_of_others;
mod residues;
mod rest;
mod running;
mod runs;
mod schedules;
mod script;
mod sign_in;
mod site_suspended;
mod stage;
mod status_told;
#[allow(dead_code)] // what only tests of the clients need
#[path = "../clients/stub.rs"]
mod stub;
mod tenants;
mod tenants_judged;
mod truth;
mod turning;
mod turns;
mod warnings;
mod weather;
mod world;
