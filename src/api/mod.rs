//! The kinds of `feedwater.dev/v1alpha1`: what users write and read. Types only; `model` gives them meaning.
//!
//! Rules of this API (kept by `tests/crds.rs`): unions are structs of optional members with a CEL rule, nothing under `spec` has a
//! default or is nullable, every string and list is bounded, every field is described. An optional enum, or one with `schema_with`, has
//! `with` and `serde(default)` beside: else the enum's description would stand in for the field's, or the field be required.

// clippy takes the repeated `name` and `type_` of several `printcolumn(…)` for duplicates.
#![allow(clippy::duplicated_attributes)]

mod cluster_connections;
mod common;
mod data_quality_warning;
mod extract_effective;
mod extract_refresh;
mod extract_refresh_status;
mod flow_deployment;
mod prefect_workspace;
mod refresh_window;
pub mod schema;
mod tableau_schedule;
mod tableau_site;

pub use cluster_connections::*;
pub use common::*;
pub use data_quality_warning::*;
pub use extract_effective::*;
pub use extract_refresh::*;
pub use extract_refresh_status::*;
pub use flow_deployment::*;
pub use prefect_workspace::*;
pub use refresh_window::*;
pub use tableau_schedule::*;
pub use tableau_site::*;

/// The API group of every kind.
pub const GROUP: &str = "feedwater.dev";
/// The served and stored version.
pub const VERSION: &str = "v1alpha1";
/// Annotation: one refresh now for each new value. Handled once; the value handled last is `status.lastHandledRefreshToken`.
pub const REFRESH_REQUESTED: &str = "feedwater.dev/refresh-requested";
/// Annotation: where counting of completions began; lets a restored cluster tell "new" from "status lost".
pub const BASELINE: &str = "feedwater.dev/baseline";
/// Finalizer of a resource that owns something outside the cluster.
pub const FINALIZER: &str = "feedwater.dev/cleanup";
/// Finalizer of a connection that others need to clean up.
pub const IN_USE: &str = "feedwater.dev/in-use";
