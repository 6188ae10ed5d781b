//! Prefect deployments and schedules as they are and as they shall be.

use super::ids::{DeploymentId, DeploymentName, ScheduleId};
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

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
    pub fields: Fields,
    /// Whether its `concurrency_limit` is that of a global concurrency limit with a name of its own, which others may share: a PATCH of the
    /// deployment would change that one, and a null delete it [Prefect 3.9.1, `_create_or_update_deployment_concurrency_limit`].
    pub shares_limit: bool,
    /// Its schedules, in no order.
    pub schedules: Vec<Schedule>,
    /// When the server changed it last.
    pub touched: Touched,
}

/// When the server changed each part of a deployment last (`updated`), by its clock. Two deployments that differ in nothing else are equal: a
/// worker that looks for work touches them, too.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// The deployment but for its schedules.
    pub fields: Option<Timestamp>,
    /// Its schedules.
    pub schedules: BTreeMap<ScheduleId, Timestamp>,
}

impl PartialEq for Touched {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A deployment as it is found when a whole server is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What Feedwater knows of it.
    pub deployment: Deployment,
    /// Names of what is set there and what a `FlowDeployment` has no field for.
    pub beyond: Vec<&'static str>,
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
    pub fields: Fields,
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

/// Fields of a deployment by the server's names. `parameters` and `job_variables` may hold what came out of a Secret: `Debug` shows none of it.
#[derive(Clone, Default, PartialEq)]
pub struct Fields(Map<String, Value>);

/// Fields whose values are not shown.
const HIDDEN: [&str; 2] = ["parameters", "job_variables"];

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_map();
        for (name, value) in &self.0 {
            if HIDDEN.contains(&name.as_str()) && !value.is_null() {
                shown.entry(name, &format_args!("[hidden]"));
            } else {
                shown.entry(name, value);
            }
        }
        shown.finish()
    }
}

impl Deref for Fields {
    type Target = Map<String, Value>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Fields {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl From<Map<String, Value>> for Fields {
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields)
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        Self::Object(fields.0)
    }
}

impl FromIterator<(String, Value)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let fields: Fields = json!({"description": "d", "parameters": {"a": "hunter2"}, "job_variables": {"env": {"T": "hunter2"}}})
            .as_object()
            .cloned()
            .unwrap()
            .into();
        let new = NewDeployment { name: "n".into(), fields };
        assert_eq!(
            format!("{new:?}"),
            r#"NewDeployment { name: "n", fields: {"description": String("d"), "job_variables": [hidden], "parameters": [hidden]} }"#
        );
    }
}
