//! Feedwater refreshes Tableau extracts when the Prefect flows that feed them have delivered.
//!
//! `api` ← `model` ← `prefect`, `tableau` ← `controller` ← `cli`; `runtime` knows none of `prefect`, `tableau`, `model`.

pub mod api;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod guards;
pub mod http;
pub mod model;
pub mod prefect;
pub mod runtime;
pub mod settings;
pub mod tableau;
pub mod yaml;
