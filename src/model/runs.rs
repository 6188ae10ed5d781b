//! Prefect flow runs.

use super::ids::{DeploymentId, FlowId, RunId, StateId};
use jiff::Timestamp;

/// A flow run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Name of the run.
    pub name: String,
    /// The flow it ran.
    pub flow: FlowId,
    /// The deployment it came from; subflows have none.
    pub deployment: Option<DeploymentId>,
    /// Identity of its present state.
    pub state: StateId,
    /// `COMPLETED`, `FAILED`, …
    pub state_type: StateType,
    /// The state's name: `Completed`, `Cached`, or any a user chose.
    pub state_name: String,
    /// Timestamp of the state.
    pub state_at: Timestamp,
    /// `start_time`, else `expected_start_time`.
    pub started_at: Option<Timestamp>,
    /// `end_time`: may be that of an earlier crash.
    pub ended_at: Option<Timestamp>,
    /// Whether it carries the label `feedwater.dev/refresh`: it reports a refresh, and is never an occasion.
    pub reports_refresh: bool,
}

/// Types of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateType {
    /// Waiting for its time, or for a retry.
    Scheduled,
    /// Taken by a worker.
    Pending,
    /// Running.
    Running,
    /// Delivered.
    Completed,
    /// Ended with an error.
    Failed,
    /// Cancelled.
    Cancelled,
    /// The process died.
    Crashed,
    /// Paused.
    Paused,
    /// Being cancelled.
    Cancelling,
    /// One this build does not know.
    Other,
}

/// The state types that end a run, by Prefect's names.
pub const TERMINAL: [&str; 4] = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"];
