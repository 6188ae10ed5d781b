//! Extract refresh tasks of Tableau, and the shared schedules of a Tableau Server.

use super::ids::{Luid, ServerScheduleId, TaskId};
use super::timing::Timing;
use crate::api::RefreshType;
use jiff::Timestamp;

/// A task: content that Tableau refreshes by a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The task.
    pub id: TaskId,
    /// What it refreshes; none: content that this account may not see.
    pub content: Option<Luid>,
    /// Full or Incremental.
    pub refresh_type: RefreshType,
    /// When.
    pub schedule: TaskSchedule,
    /// Its next run, by Tableau's word.
    pub next_run_at: Option<Timestamp>,
    /// Runs that failed one after another.
    pub failures: u32,
}

/// When a task runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskSchedule {
    /// Cloud: it carries its schedule; none: one that this build does not understand.
    Own(Option<Timing>),
    /// Server: a shared one.
    Shared {
        /// The schedule.
        id: ServerScheduleId,
        /// Its name.
        name: String,
        /// Whether an administrator lets it run.
        active: bool,
    },
}

/// A shared schedule of a Server, for extracts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSchedule {
    /// The schedule.
    pub id: ServerScheduleId,
    /// Its name, unique on the server.
    pub name: String,
    /// Whether an administrator lets it run.
    pub active: bool,
    /// When it was last changed, as told: its definition, which lists leave out, is asked for again when this differs.
    pub updated_at: String,
    /// Its definition, where it was asked for and is understood.
    pub timing: Option<Timing>,
}
