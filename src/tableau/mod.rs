//! Tableau's REST API, as far as Feedwater needs it: one trait, its client, signing in, its wire format, a fake.
//!
//! Facts: `reference/tableau-rest.md` of the project's shared folder.

mod auth;
mod client;
mod client_schedules;
mod client_warnings;
pub mod fake;
mod identity;
mod jwt;
mod lists;
mod wire;
mod wire_schedules;

pub use auth::{Credential, Leads};
pub use client::TableauClient;
pub use identity::{IdentityClient, IdentityProvider};
pub use jwt::{ConnectedApp, SCOPES};
pub use lists::Questions;

use crate::api::{RefreshType, TargetKind};
pub use crate::model::contents::{Content, Project};
use crate::model::ids::{JobId, Luid, ServerScheduleId, SiteLuid, TaskId, WarningId};
pub use crate::model::jobs::{Job, JobAnswer, JobRow, JobStatus};
pub use crate::model::tasks::{ServerSchedule, Task, TaskSchedule};
use crate::model::time::ClockReading;
use crate::model::timing::Timing;
pub use crate::model::warnings::{DataQualityWarning, STALE};
use async_trait::async_trait;
use jiff::Timestamp;
use std::time::Duration;

/// One site under one credential. The client signs in when needed, one sign-in at a time, and once more after a 401; it repeats no POST of
/// a refresh for any other reason.
#[async_trait]
pub trait Tableau: Send + Sync {
    /// Signs in if needed and tells what the site is.
    async fn site(&self) -> Result<Site, TableauError>;
    /// What the last answer said about Tableau's clock.
    fn clock(&self) -> Option<ClockReading>;
    /// Ends the session, best effort.
    async fn sign_out(&self);

    /// Every project, all pages.
    async fn projects(&self) -> Result<Vec<Project>, TableauError>;
    /// Contents of a kind with one of these names, all pages.
    async fn contents(&self, kind: TargetKind, names: &[String]) -> Result<Vec<Content>, TableauError>;
    /// Every content of a kind, all pages: the price of many LUIDs does not grow with their number.
    async fn all_contents(&self, kind: TargetKind) -> Result<Vec<Content>, TableauError>;
    /// One content by LUID.
    async fn content(&self, kind: TargetKind, luid: &Luid) -> Result<Option<Content>, TableauError>;

    /// Background jobs created at or after, all pages, oldest first. Needs a site administrator. `questions`: what it took, however it ended.
    async fn jobs(
        &self,
        created_after: Timestamp,
        questions: &Questions,
    ) -> Result<Vec<JobRow>, TableauError>;
    /// One job.
    async fn job(&self, id: &JobId) -> Result<JobAnswer, TableauError>;

    /// Every extract refresh task of the site that the account may see, in one answer.
    async fn tasks(&self) -> Result<Vec<Task>, TableauError>;
    /// One task; none: Tableau says that there is none of this id.
    async fn task(&self, id: &TaskId) -> Result<Option<Task>, TableauError>;
    /// Cloud: gives content a schedule of its own. Not idempotent; sent once (after a 401 once more), within this deadline.
    async fn create_task(
        &self,
        new: &NewTask,
        timing: &Timing,
        deadline: Duration,
    ) -> Result<TaskId, TableauError>;
    /// Cloud: replaces the schedule of a task.
    async fn update_task(&self, id: &TaskId, timing: &Timing) -> Result<(), TableauError>;
    /// Deletes a task; one that is gone is no error.
    async fn delete_task(&self, id: &TaskId) -> Result<(), TableauError>;

    /// Server: every shared schedule for extracts, all pages, without definitions.
    async fn server_schedules(&self) -> Result<Vec<ServerSchedule>, TableauError>;
    /// Server: the definition of a shared schedule; none: one that this build does not understand.
    async fn server_schedule(&self, id: &ServerScheduleId) -> Result<Option<Timing>, TableauError>;
    /// Server: makes a shared schedule. Its name is unique: a second one of the name is refused.
    async fn create_server_schedule(
        &self,
        name: &str,
        timing: &Timing,
    ) -> Result<ServerScheduleId, TableauError>;
    /// Server: adds content to a shared schedule, which makes a task that the answer does not name. Not idempotent; sent once (after a 401 once
    /// more), within this deadline.
    async fn attach(
        &self,
        new: &NewTask,
        schedule: &ServerScheduleId,
        deadline: Duration,
    ) -> Result<(), TableauError>;

    /// The data quality warnings on a data source, whoever set them; none on one that is gone.
    async fn warnings(&self, datasource: &Luid) -> Result<Vec<DataQualityWarning>, TableauError>;
    /// Sets one that says that the data is stale; its id, where the answer names it. Not idempotent; sent once (after a 401 once more), within
    /// this deadline.
    async fn set_warning(
        &self,
        datasource: &Luid,
        message: &str,
        deadline: Duration,
    ) -> Result<Option<WarningId>, TableauError>;
    /// Deletes one; one that is gone is no error.
    async fn delete_warning(&self, id: &WarningId) -> Result<(), TableauError>;

    /// Starts a refresh. The session is made sure of before; the POST itself has this deadline and is sent once (after a 401 once more).
    async fn refresh(
        &self,
        kind: TargetKind,
        luid: &Luid,
        refresh_type: RefreshType,
        deadline: Duration,
    ) -> Result<JobId, RefreshError>;
    /// Cancels a job.
    async fn cancel(&self, id: &JobId) -> Result<(), TableauError>;
}

/// What a new task refreshes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// Data source or workbook.
    pub kind: TargetKind,
    /// Its LUID.
    pub luid: Luid,
    /// Full or Incremental.
    pub refresh_type: RefreshType,
}

/// What is behind the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// LUID of the site.
    pub luid: SiteLuid,
    /// REST API version in use.
    pub rest_api_version: String,
}

/// What a caller does differently. Never carries a response body.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum TableauError {
    /// 401001 at sign-in.
    #[error("Tableau refuses the sign-in")]
    SignInRefused,
    /// Another process leads now: a sign-in of this one would only end its session.
    #[error("another replica leads")]
    NotLeading,
    /// 401002 right after a sign-in: with a personal access token, somebody else signs in with it.
    #[error("Tableau ends the session at once: somebody else signs in with the same token")]
    SessionContested,
    /// 401002 right after a sign-in with a JWT: its scopes do not cover the call.
    #[error("Tableau refuses a call that the token's scopes do not cover")]
    MissingScope,
    /// The identity provider gives no token that is good.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// 403.
    #[error("Tableau forbids this call (code {0})")]
    Forbidden(String),
    /// 404 where the thing should exist.
    #[error("Tableau does not have it (code {0})")]
    NotFound(String),
    /// 429.
    #[error("Tableau asks to slow down")]
    Throttled {
        /// How long, if it said so.
        retry_after: Option<Duration>,
    },
    /// 5xx, a timeout or a reset: what was asked may or may not have happened.
    #[error("no usable answer came from Tableau")]
    Ambiguous,
    /// Any other 4xx, by code.
    #[error("Tableau refuses this call (code {0})")]
    Rejected(String),
    /// The answer is not Tableau's.
    #[error("the server there is not Tableau")]
    WrongServer,
    /// The server is older than the oldest supported.
    #[error("REST API {version} is too old: {oldest} is the oldest supported")]
    UnsupportedVersion {
        /// Its version.
        version: String,
        /// The oldest that knows all that is needed, among it the way to sign in.
        oldest: &'static str,
    },
    /// The request was not sent.
    #[error("Tableau cannot be reached: {0}")]
    Unreachable(#[from] crate::http::Unreachable),
}

/// Why an identity provider's token cannot be had or used. Never carries what it answered.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum IdentityError {
    /// This operator has no token of its `ServiceAccount` for that audience, provider and namespace.
    #[error("the operator has no ServiceAccount token for this identity provider")]
    NotGranted,
    /// The file with the `ServiceAccount`'s token cannot be read.
    #[error("the ServiceAccount's token cannot be read")]
    NoAssertion,
    /// It refuses the client.
    #[error("the identity provider refuses the client")]
    Refused,
    /// It does not know the scopes asked for, or its token lacks some of those that are needed.
    #[error("the identity provider does not grant the scopes")]
    MissingScope,
    /// Its token is no JWT.
    #[error("the identity provider's token is no JWT")]
    NoToken,
    /// This claim of its token is missing, or not as Tableau wants it.
    #[error("claim {0} of the identity provider's token is not as Tableau wants it")]
    Claim(&'static str),
    /// What answers is no token endpoint.
    #[error("what answers there is no OAuth token endpoint")]
    WrongServer,
    /// 429.
    #[error("the identity provider asks to slow down")]
    Throttled {
        /// How long, if it said so.
        retry_after: Option<Duration>,
    },
    /// 5xx, a timeout or a reset.
    #[error("no usable answer came from the identity provider")]
    Unanswered,
    /// The request was not sent.
    #[error("the identity provider cannot be reached: {0}")]
    Unreachable(#[from] crate::http::Unreachable),
}

impl IdentityError {
    /// Whether the provider has decided, and will not decide otherwise until somebody changes something.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Refused | Self::MissingScope | Self::NoToken | Self::Claim(_) | Self::WrongServer => true,
            Self::NotGranted
            | Self::NoAssertion
            | Self::Throttled { .. }
            | Self::Unanswered
            | Self::Unreachable(_) => false,
        }
    }
}

/// What became of a refresh POST: each variant is handled differently by docs/trigger.md 4.4.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum RefreshError {
    /// 409093: a job of this content is queued or running.
    #[error("a refresh of this content is already queued or running")]
    AlreadyQueued,
    /// 403: may hide a queued job.
    #[error("Tableau forbids the refresh (code {0})")]
    Forbidden(String),
    /// 409090: nothing to extract.
    #[error("the content holds no extract")]
    NoExtract,
    /// 404.
    #[error("Tableau does not have the content (code {0})")]
    NotFound(String),
    /// Sign-in refused, or 401 after one new sign-in: nothing was started.
    #[error("Tableau refuses the sign-in")]
    SignInRefused,
    /// 429: nothing was started.
    #[error("Tableau asks to slow down")]
    Throttled {
        /// How long, if it said so.
        retry_after: Option<Duration>,
    },
    /// Any other 4xx: nothing was started.
    #[error("Tableau refuses the refresh (code {0})")]
    Rejected(String),
    /// Nothing was sent.
    #[error("Tableau cannot be reached: {0}")]
    NotSent(#[from] crate::http::Unreachable),
    /// Timeout, reset, 5xx, an answer without a job: a job may or may not exist.
    #[error("no usable answer came from Tableau")]
    Ambiguous,
}
