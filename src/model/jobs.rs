//! Tableau background jobs, as the list and as the single job tell of them.

use super::failures::Lasting;
use super::ids::{JobId, Luid};
use super::time::Moment;
use crate::api::RefreshType;
use jiff::Timestamp;

/// A row of the job list. It has no content LUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// The job.
    pub id: JobId,
    /// Where it stands.
    pub status: JobStatus,
    /// What it refreshes by (none: not an extract refresh).
    pub refresh_type: Option<RefreshType>,
    /// Name of the content.
    pub title: Option<String>,
    /// When it was queued.
    pub created_at: Option<Timestamp>,
    /// When it started, whole seconds.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Queued.
    Pending,
    /// Running.
    InProgress,
    /// Ended well.
    Success,
    /// Ended with an error.
    Failed,
    /// Cancelled.
    Cancelled,
}

/// A job read by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The job.
    pub id: JobId,
    /// Where it stands: ended only with `completedAt`, whatever `finishCode` says; failed also with an error among its notes.
    pub status: JobStatus,
    /// LUID of what it refreshes, if it says so.
    pub content: Option<Luid>,
    /// When it was queued.
    pub created_at: Option<Timestamp>,
    /// When it started, whole seconds.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// It failed, and what Tableau says about it is known to mean this.
    pub failure: Option<Lasting>,
    /// It failed, and says that only a full refresh helps.
    pub wants_full: bool,
}

/// What asking for a job gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobAnswer {
    /// Just before the request went out.
    pub asked: Moment,
    /// The job; `None`: Tableau no longer knows it (400031, 404): its end is unknown.
    pub job: Option<Job>,
}
