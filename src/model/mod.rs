//! What Feedwater decides, and nothing else: no client, no clock, no async. Everything here is a function of its arguments.

pub mod budget;
pub mod conditions;
pub mod connection;
pub mod contents;
pub mod deployments;
pub mod extract;
pub mod failures;
pub mod feeds;
pub mod flow;
pub mod globs;
pub mod heirs;
pub mod ids;
pub mod job_looks;
pub mod jobs;
pub mod pace;
pub mod parameters;
pub mod reports;
pub mod runs;
pub mod tasks;
pub mod tenancy;
pub mod time;
pub mod timing;
pub mod warnings;
pub mod windows;
