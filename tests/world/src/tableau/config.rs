//! What a simulator is told: how it is set up, how jobs behave, whether it answers at all.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How one simulator is set up. Everything that real Tableau sites differ in is here.
// Each is a switch of its own, which one test or another turns.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone)]
pub struct Config {
    /// Port of the REST API on 127.0.0.1; a free one when `None`.
    pub port: Option<u16>,
    /// Port of the admin API on 127.0.0.1; a free one when `None`.
    pub admin_port: Option<u16>,
    /// Tableau Cloud refuses `GET /schedules`; Tableau Server answers it.
    pub edition: Edition,
    /// The newest REST API version, as `serverinfo` tells it. Every version from 2.4 up to it is answered.
    pub rest_api_version: String,
    /// How long a sign-in is good for, counted from the sign-in.
    pub token_lifetime: Duration,
    /// Extract refreshes that may be started over REST per site in any hour; one more is answered 429000.
    pub refreshes_per_hour: Option<u32>,
    /// Whether a 429000 carries `Retry-After` (in seconds); its text always names the minutes.
    pub retry_after_header: bool,
    /// Jobs of one site that run at the same time; the others wait in the queue.
    pub concurrent_jobs: usize,
    /// How long an ended job can still be read; afterwards 400031.
    pub job_retention: Duration,
    /// How long new and moved content is missing from lists (reading it by id is immediate).
    pub index_lag: Duration,
    /// Seconds by which Tableau's clock (the `Date` header and every date in a body) is ahead of this machine's.
    pub date_skew: i64,
    /// Whether the signed-in users may list jobs; 403004 when not.
    pub jobs_list_allowed: bool,
    /// IANA zone of the site (Cloud) or the server: schedules are read in it.
    pub time_zone: String,
    /// Whether the signed-in users administer the server: else they may not make schedules (403004).
    pub server_admin: bool,
    /// Scheduled runs that may fail one after another; at so many the task is suspended.
    pub failure_threshold: u32,
    /// What is not settled about tasks (`tableau-rest.md` 14).
    pub tasks: TaskHabits,
    /// What is not settled about scopes.
    pub scopes: ScopeHabits,
    /// Whether the site has Data Management, which data quality warnings need (403157 when not).
    pub data_management: bool,
    /// What becomes of a second warning on one data source: not settled.
    pub second_warning: SecondWarning,
    /// How the text of a warning is given back: not settled.
    pub warning_echo: WarningEcho,
    /// How jobs of content without a script of its own behave.
    pub default_script: Script,
}

impl Default for Config {
    /// Tableau Server 2025.3 with generous limits: nothing lags, jobs start at once and take 200 ms.
    fn default() -> Self {
        Self {
            port: None,
            admin_port: None,
            edition: Edition::Server,
            rest_api_version: "3.27".to_owned(),
            token_lifetime: Duration::from_secs(240 * 60),
            refreshes_per_hour: None,
            retry_after_header: true,
            concurrent_jobs: 100,
            job_retention: Duration::from_secs(24 * 60 * 60),
            index_lag: Duration::ZERO,
            date_skew: 0,
            jobs_list_allowed: true,
            time_zone: "UTC".to_owned(),
            server_admin: true,
            failure_threshold: 5,
            tasks: TaskHabits::default(),
            scopes: ScopeHabits::default(),
            data_management: true,
            second_warning: SecondWarning::Rejected,
            warning_echo: WarningEcho::AsSent,
            default_script: Script::default(),
        }
    }
}

/// Where the sources leave open how Tableau answers about tasks. Clients have to live with either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // open questions, each with two answers
pub struct TaskHabits {
    /// Status of a task's creation: 200 or 201.
    pub created: u16,
    /// The answer to a creation writes dates as `2026-11-24T10:00:00-0700`.
    pub offsets: bool,
    /// A single task is answered as `extractRefresh`; else within `task`.
    pub bare: bool,
    /// Incremental tasks are listed with type `IncrementExtractTask`; else with the attribute `incremental`.
    pub typed: bool,
    /// A task that is suspended still tells when it would run.
    pub suspended_runs: bool,
    /// `IncrementalRefresh`, or `IncrementalExtract` as the migration SDK has it.
    pub incremental: &'static str,
    /// A Server's definition of the first Monday of a month is told as `Customized Monthly`.
    pub customized: bool,
}

impl Default for TaskHabits {
    fn default() -> Self {
        Self {
            created: 200,
            offsets: false,
            bare: false,
            typed: true,
            suspended_runs: false,
            incremental: "IncrementalRefresh",
            customized: false,
        }
    }
}

impl TaskHabits {
    /// The other way in everything.
    pub fn other() -> Self {
        Self {
            created: 201,
            offsets: true,
            bare: true,
            typed: false,
            suspended_runs: true,
            incremental: "IncrementalExtract",
            customized: true,
        }
    }
}

/// Where the sources leave open which scope a call needs (`tableau-rest.md` 1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScopeHabits {
    /// For the update of a task: `tableau:tasks:update`, or `tableau:tasks:write` as one client has it.
    pub update_task: &'static str,
    /// For the shared schedules of a Server; none is known, and perhaps a JWT may not call them at all (`None`).
    pub schedules: Option<&'static str>,
    /// For data quality warnings; none is known either.
    pub warnings: Option<&'static str>,
}

impl Default for ScopeHabits {
    fn default() -> Self {
        Self { update_task: "tableau:tasks:update", schedules: None, warnings: None }
    }
}

/// What Tableau does with a data quality warning for a data source that has one (`tableau-rest.md` 9.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondWarning {
    /// 409.
    Rejected,
    /// It takes the place of the first.
    Replaces,
}

/// How Tableau gives back what a data quality warning says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarningEcho {
    /// To the letter.
    AsSent,
    /// As for a browser: signs escaped, and the lines ended as on Windows.
    Escaped,
}

/// Which Tableau is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// Tableau Cloud.
    Cloud,
    /// Tableau Server.
    Server,
}

/// How a job behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// How long it waits in the queue at least; it waits longer when [`Config::concurrent_jobs`] are running.
    pub queued: Step,
    /// How long it runs.
    pub running: Step,
    /// How it ends.
    pub outcome: Outcome,
}

impl Default for Script {
    /// Starts at once, runs for 200 ms, succeeds.
    fn default() -> Self {
        Self {
            queued: Step::For(Duration::ZERO),
            running: Step::For(Duration::from_millis(200)),
            outcome: Outcome::Success,
        }
    }
}

/// How long a part of a job's life takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So long.
    For(Duration),
    /// Until [`Simulator::release_jobs`](super::Simulator::release_jobs) is called for the job's content. A job that
    /// is to be released both from the queue and while it runs needs two calls.
    UntilReleased,
}

/// How a job ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// `finishCode` 0.
    Success,
    /// `finishCode` 1.
    Failed {
        /// What `extractRefreshJob/notes` tells.
        notes: String,
    },
    /// `finishCode` 2.
    Cancelled,
    /// The record of the job is removed at the moment it ends: 400031 from then on.
    Vanish,
}

/// What a refresh does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The whole extract is made anew.
    Full,
    /// New rows are added.
    Incremental,
}

/// Whether, and how, the REST API answers. The admin API always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// It answers.
    Up,
    /// Every connection is reset: the open ones at once, new ones right after they were accepted.
    Reset,
    /// Every request is answered with this HTTP status and a page that is neither XML nor JSON, as a gateway does.
    Refuse(u16),
    /// Requests are read and not answered.
    Hang,
}
