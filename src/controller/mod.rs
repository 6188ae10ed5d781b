//! The controller: reads (observers), decides (model), acts, publishes. DESIGN.md 2 of the agreement.

pub mod apiclock;
pub mod cache;
mod completions;
pub mod connections;
pub mod context;
mod extract_claims;
mod extract_observed;
pub mod extracts;
pub mod flows;
pub mod index;
pub mod lanes;
pub mod ledger;
pub mod operator;
mod publish;
pub mod reconcile;
pub mod run;
pub mod secrets;
pub mod services;
pub mod site;
mod site_observer;
pub mod sites;
pub mod wakes;
mod watches;
pub mod workspace;
mod workspace_events;
mod workspace_observer;
pub mod workspaces;
