//! What really happened, for the reader outside: every request and every refresh.
//!
//! All times here are this machine's, not Tableau's (see [`Config::date_skew`](super::Config::date_skew)), and have
//! their full precision.

use jiff::Timestamp;
use serde::Serialize;

use super::config::{Kind, Outcome};

/// The truth at one moment.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Truth {
    /// Every request that was read, in the order in which the work was done.
    pub requests: Vec<Request>,
    /// Every refresh that was ever started, in the order of creation.
    pub refreshes: Vec<Refresh>,
    /// Every extract refresh task there is now, in the order of creation.
    pub tasks: Vec<TaskTruth>,
    /// The shared schedules of a Server there are now: name and definition.
    pub schedules: Vec<(String, String)>,
    /// Every data quality warning there is now, in the order of creation.
    pub warnings: Vec<WarningTruth>,
    /// Connections that were reset because of [`Availability::Reset`](super::Availability::Reset).
    pub connections_reset: u64,
}

impl Truth {
    /// How many requests asked for `operation`.
    pub fn count(&self, operation: &str) -> usize {
        self.requests.iter().filter(|request| request.operation == operation).count()
    }

    /// The tasks of one piece of content, oldest first.
    pub fn tasks_of(&self, luid: &str) -> Vec<&TaskTruth> {
        self.tasks.iter().filter(|task| task.content == luid).collect()
    }

    /// The data quality warnings on one data source, oldest first.
    pub fn warnings_of(&self, luid: &str) -> Vec<&WarningTruth> {
        self.warnings.iter().filter(|warning| warning.content == luid).collect()
    }

    /// The refreshes of one piece of content, oldest first.
    pub fn refreshes_of(&self, luid: &str) -> Vec<&Refresh> {
        self.refreshes.iter().filter(|refresh| refresh.content == luid).collect()
    }
}

/// One extract refresh task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskTruth {
    /// Its id.
    pub id: String,
    /// LUID of the data source or workbook.
    pub content: String,
    /// Its name.
    pub name: String,
    /// Full or incremental.
    pub kind: Kind,
    /// Its definition, such as `Daily 02:00-02:00 hours=24 weekDay=Monday`.
    pub timing: String,
    /// On a Server: name of the shared schedule.
    pub schedule: Option<String>,
    /// Its next run by Tableau's clock; none while suspended.
    pub next_run_at: Option<Timestamp>,
    /// Scheduled runs that failed since the last success.
    pub failures: u32,
    /// Tableau has stopped it.
    pub suspended: bool,
}

/// One data quality warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WarningTruth {
    /// Its id.
    pub id: String,
    /// LUID of the data source.
    pub content: String,
    /// `STALE`, `WARNING`, …
    pub kind: String,
    /// What it says.
    pub message: String,
    /// Whether it is shown.
    pub active: bool,
    /// Name of the user who set it.
    pub by: String,
}

/// One request.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// 1 for the first request, and so on.
    pub n: u64,
    /// When its work was done; an answer that is held is sent later.
    pub at: Timestamp,
    /// `GET`, `POST` …
    pub method: String,
    /// The path with the LUIDs in it, without the query.
    pub path: String,
    /// The query as it was sent.
    pub query: Option<String>,
    /// LUID of the site it was about.
    pub site: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// `serverInfo`, `signIn`, `signOut`, `queryUser`, `queryProjects`, `queryDatasources`, `queryDatasource`,
    /// `refreshDatasource`, `queryWorkbooks`, `queryWorkbook`, `refreshWorkbook`, `queryJobs`, `queryJob`,
    /// `cancelJob`, `queryExtractRefreshTasks`, `queryExtractRefreshTask`, `createExtractRefreshTask`,
    /// `updateExtractRefreshTask`, `deleteExtractRefreshTask`, `runExtractRefreshTask`, `querySchedules`, `querySchedule`,
    /// `createSchedule`, `updateSchedule`, `deleteSchedule`, `queryScheduleExtracts`, `addDatasourceToSchedule`,
    /// `addWorkbookToSchedule`, `queryDataQualityWarnings`, `addDataQualityWarning`, `deleteDataQualityWarning`,
    /// `deleteDataQualityWarnings` or `unknown`.
    pub operation: &'static str,
    /// The HTTP status; 0 when no answer was given ([`Availability::Hang`](super::Availability::Hang)).
    pub status: u16,
    /// Tableau's code, where the answer is an error of Tableau.
    pub code: Option<&'static str>,
}

/// One refresh.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refresh {
    /// Id of the job.
    pub job: String,
    /// LUID of the site.
    pub site: String,
    /// LUID of the data source or workbook.
    pub content: String,
    /// Its name when the job was created.
    pub name: String,
    /// Full or incremental.
    pub kind: Kind,
    /// Who asked for it.
    pub requested_by: RequestedBy,
    /// Name of the user or person who asked.
    pub by: String,
    /// When the job was created.
    pub created: Timestamp,
    /// When it left the queue; `None` while queued, and for ever when it was cancelled there.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

/// Who asked for a refresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RequestedBy {
    /// A client of the REST API, signed in as this user.
    Api {
        /// Name of the user.
        user: String,
    },
    /// A task whose time had come.
    Task {
        /// Id of the task.
        task: String,
    },
    /// A person, by [`Simulator::start_refresh`](super::Simulator::start_refresh).
    Person,
}
