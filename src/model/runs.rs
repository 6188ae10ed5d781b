//! Prefect flow runs.

use super::ids::{DeploymentId, FlowId, RunId, StateId};
use super::parameters::Parameters;
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
    /// Its parameters, those of its deployment among them.
    pub parameters: Parameters,
    /// Its tags: those of its deployment and its own, not those of its flow [measured].
    pub tags: Vec<String>,
    /// The work pool that it was meant for when it was made, if any; subflows have none.
    pub work_pool: Option<String>,
    /// Whether it carries the label `feedwater.dev/refresh`: it reports a refresh, and is never an occasion.
    pub reports_refresh: bool,
}

impl Run {
    /// Whether it may soon deliver: taken, running, paused, being cancelled, or waiting for a retry of its own. One that merely waits for its time,
    /// or is late, is not.
    pub fn in_progress(&self) -> bool {
        match self.state_type {
            StateType::Pending | StateType::Running | StateType::Paused | StateType::Cancelling => true,
            StateType::Scheduled => self.state_name == AWAITING_RETRY,
            StateType::Completed
            | StateType::Failed
            | StateType::Cancelled
            | StateType::Crashed
            | StateType::Other => false,
        }
    }
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

/// The state types of a run in progress, by Prefect's names; one that waits for a retry is SCHEDULED, and only its name tells.
pub const IN_PROGRESS: [&str; 4] = ["PENDING", "RUNNING", "PAUSED", "CANCELLING"];

/// Name of the state of a run that waits for a retry (reference 9.2).
pub const AWAITING_RETRY: &str = "AwaitingRetry";
