//! Prefect, as far as Feedwater needs it: one trait, its client, its wire format, its events, a fake.
//!
//! Facts: `reference/prefect-api.md` of the project's shared folder (3.4.8 to 3.9.1).

mod client;
mod csrf;
mod events;
pub mod fake;
mod find;
mod paging;
mod reporting;
mod wire;
mod wire_reports;

pub use client::{Auth, PrefectClient};
pub use find::Filter;
pub use reporting::{EnsuredRun, Reporting};

use crate::api::PrefectHosting;
pub use crate::model::deployments::{Deployment, NewDeployment, NewSchedule, Schedule};
use crate::model::ids::{DeploymentId, DeploymentName, FlowId, RunId, ScheduleId};
pub use crate::model::runs::{AWAITING_RETRY, IN_PROGRESS, Run, StateType, TERMINAL};
use crate::model::time::ClockReading;
use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::time::Duration;

/// One workspace under one credential. Reads may be repeated by the caller; writes are never repeated by the client.
#[async_trait]
pub trait Prefect: Reporting {
    /// What the server is; the first call to tell a wrong server, a wrong credential, an unreachable host apart.
    async fn probe(&self) -> Result<Server, PrefectError>;
    /// What the last answer said about the server's clock.
    fn clock(&self) -> Option<ClockReading>;

    /// Every deployment of these flows, all pages. Absence in it counts only after two such reads, or a `None` from [`Self::deployment`].
    async fn deployments(&self, flows: &[String]) -> Result<Vec<Deployment>, PrefectError>;
    /// One deployment by its names.
    async fn deployment(&self, name: &DeploymentName) -> Result<Option<Deployment>, PrefectError>;
    /// Whether the work pool exists.
    async fn work_pool_exists(&self, name: &str) -> Result<bool, PrefectError>;

    /// The flow of this name, if it is there. A flow keeps its name.
    async fn flow(&self, name: &str) -> Result<Option<FlowId>, PrefectError>;

    /// One page of runs, newest `end_time` first; of those in progress, which have none, by id.
    async fn runs(&self, query: &RunQuery) -> Result<Vec<Run>, PrefectError>;

    /// The flow of this name, created when missing.
    async fn ensure_flow(&self, name: &str) -> Result<FlowId, PrefectError>;
    /// Creates the deployment, without schedules. The server would overwrite an existing one: look first.
    async fn create_deployment(
        &self,
        flow: &FlowId,
        new: &NewDeployment,
    ) -> Result<DeploymentId, PrefectError>;
    /// Changes the named fields. Deletes future scheduled runs, even when nothing differs.
    async fn patch_deployment(
        &self,
        id: &DeploymentId,
        fields: &Map<String, Value>,
    ) -> Result<(), PrefectError>;
    /// Deletes the deployment; already gone is success.
    async fn delete_deployment(&self, id: &DeploymentId) -> Result<(), PrefectError>;
    /// Adds a schedule; existing scheduled runs are not touched.
    async fn add_schedule(&self, id: &DeploymentId, schedule: &NewSchedule) -> Result<(), PrefectError>;
    /// Replaces a schedule whole (what is left out would be cleared). Deletes future scheduled runs.
    async fn put_schedule(
        &self,
        id: &DeploymentId,
        schedule: &ScheduleId,
        new: &NewSchedule,
    ) -> Result<(), PrefectError>;
    /// Deletes a schedule; already gone is success.
    async fn delete_schedule(&self, id: &DeploymentId, schedule: &ScheduleId) -> Result<(), PrefectError>;
    /// Asks the server to schedule again from `since` on: makes good what a write dropped. Idempotent.
    async fn schedule_runs(&self, id: &DeploymentId, since: Timestamp) -> Result<(), PrefectError>;
    /// When those runs of a deployment's schedules, but for the `leaving` ones, were due that fell due by `before` and that nobody has taken, at most
    /// 200 of all, the last first.
    async fn late_runs(
        &self,
        id: &DeploymentId,
        before: Timestamp,
        leaving: &[ScheduleId],
    ) -> Result<Vec<Timestamp>, PrefectError>;
    /// Asks the server to schedule again what its schedules have due in this stretch, its ends included. Idempotent.
    async fn restore_runs(
        &self,
        id: &DeploymentId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(), PrefectError>;

    /// Events of terminal run states, live. The stream ends or yields an error when the connection is lost. Hints only.
    async fn events(&self) -> Result<BoxStream<'static, Result<RunEvent, PrefectError>>, PrefectError>;
}

/// What was found out about a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its version; Cloud tells none.
    pub version: Option<String>,
    /// Who runs it.
    pub hosting: PrefectHosting,
    /// It asks for CSRF tokens.
    pub csrf: bool,
}

/// Which runs to read. A run must match all parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunQuery {
    /// Of these deployments (empty: of any).
    pub deployments: Vec<DeploymentId>,
    /// These runs (empty: any).
    pub runs: Vec<RunId>,
    /// With all of these tags.
    pub all_tags: Vec<String>,
    /// With any of these tags (empty: with any or none).
    pub any_tags: Vec<String>,
    /// In one of these work pools (empty: in any or none).
    pub work_pools: Vec<String>,
    /// In one of these states.
    pub states: States,
    /// `end_time` at or after.
    pub ended_after: Option<Timestamp>,
    /// `end_time` at or before.
    pub ended_before: Option<Timestamp>,
    /// Rows to skip: only to be used inside one `end_time`, or among those that have none.
    pub offset: u32,
    /// Most rows, at most 200.
    pub limit: u32,
}

/// What is asked of a run's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum States {
    /// Nothing.
    #[default]
    Any,
    /// It has ended, whatever way.
    Ended,
    /// It is COMPLETED.
    Completed,
    /// It is in progress ([`Run::in_progress`]). A terminal state that a user named `AwaitingRetry` may be among them.
    InProgress,
}

/// Something happened to a run: look at it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEvent {
    /// The run.
    pub run: RunId,
    /// Its deployment, if it has one.
    pub deployment: Option<DeploymentId>,
    /// Its tags, and those of its flow.
    pub tags: Vec<String>,
    /// The work pool that it was made for, if any.
    pub work_pool: Option<String>,
}

/// What a caller does differently. Never carries a response body (a 422 echoes the request, secrets included).
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum PrefectError {
    /// 401: the credential is wrong.
    #[error("Prefect refuses the credentials")]
    Unauthorized,
    /// 403.
    #[error("Prefect forbids this call")]
    Forbidden,
    /// 404 where the thing should exist.
    #[error("Prefect does not have it")]
    NotFound,
    /// 409: uniqueness, or something else that is there.
    #[error("Prefect reports a conflict")]
    Conflict,
    /// 409: the parameters of a deployment are not as their schema wants; which, by name only, where that is told.
    #[error("Prefect does not accept the parameters {}", fields.join(", "))]
    Parameters {
        /// Names of parameters, never values.
        fields: Vec<String>,
    },
    /// 422: the request is not valid; the offending fields, by name only.
    #[error("Prefect does not accept {}", fields.join(", "))]
    Invalid {
        /// Names of fields, never values.
        fields: Vec<String>,
    },
    /// 429.
    #[error("Prefect asks to slow down")]
    Throttled {
        /// How long, if it said so.
        retry_after: Option<Duration>,
    },
    /// 503: nothing was done [measured]; try again.
    #[error("Prefect is busy")]
    Unavailable,
    /// Any other status.
    #[error("Prefect answered with status {0}")]
    Rejected(u16),
    /// The answer is not Prefect's.
    #[error("the server there is not Prefect")]
    WrongServer,
    /// The server is too old; its version.
    #[error("Prefect {0} is too old")]
    UnsupportedVersion(String),
    /// The request may or may not have arrived (the connection ended after it was sent, or a gateway gave up).
    #[error("no answer came from Prefect")]
    Ambiguous,
    /// The request may or may not have arrived (no answer in time).
    #[error("no answer came from Prefect in time")]
    TimedOut,
    /// The request was not sent.
    #[error("Prefect cannot be reached: {0}")]
    Unreachable(#[from] crate::http::Unreachable),
}
