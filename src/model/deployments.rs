//! Prefect deployments and schedules as they are and as they shall be.

use super::ids::{DeploymentId, DeploymentName, ScheduleId};
use serde_json::{Map, Value};

/// A deployment as the server has it, with the fields Feedwater compares.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// Flow and deployment name.
    pub name: DeploymentName,
    /// `tags`.
    pub tags: Vec<String>,
    /// `paused`.
    pub paused: bool,
    /// The other fields as the server returns them, by the server's names: `description`, `version`, `entrypoint`, `path`, `pull_steps`,
    /// `parameters`, `parameter_openapi_schema`, `work_pool_name`, `work_queue_name`, `job_variables`, `enforce_parameter_schema`,
    /// `concurrency_limit` (from `global_concurrency_limit.limit`), `concurrency_options`, `paused`, `labels`. Absent = null.
    pub fields: Map<String, Value>,
    /// Its schedules, in no order.
    pub schedules: Vec<Schedule>,
}

/// A schedule as the server has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Its slug; schedules made by hand may have none.
    pub slug: Option<String>,
    /// `active`.
    pub active: bool,
    /// `schedule` as the server returns it (`cron`, `interval` or `rrule`, with the server's additions).
    pub rule: Map<String, Value>,
    /// `parameters`.
    pub parameters: Map<String, Value>,
    /// `max_scheduled_runs`.
    pub max_scheduled_runs: Option<i64>,
}

/// A deployment to be created: `fields` by the server's names, only those that are set.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDeployment {
    /// Name of the deployment.
    pub name: String,
    /// Everything but `name`, `flow_id` and `schedules`.
    pub fields: Map<String, Value>,
}

/// A schedule to be added or put in place of another.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSchedule {
    /// Its slug.
    pub slug: String,
    /// `active`.
    pub active: bool,
    /// `schedule`: `cron` or `interval` (seconds) or `rrule`, with `timezone`.
    pub rule: Map<String, Value>,
    /// `parameters`; those of the existing schedule when it is replaced and none are declared.
    pub parameters: Map<String, Value>,
    /// `max_scheduled_runs`; none: left as it is.
    pub max_scheduled_runs: Option<i64>,
}
