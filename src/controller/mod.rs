//! The controller: reads (observers), decides (model), acts, publishes. DESIGN.md 2 of the agreement.

pub mod apiclock;
pub mod cache;
pub mod index;
pub mod lanes;
pub mod ledger;
pub mod site;
mod site_observer;
pub mod wakes;
pub mod workspace;
mod workspace_events;
mod workspace_observer;
