//! What `ExtractRefresh` knows: conditions for people, and the state machine (docs/trigger.md 1) for Feedwater.

use super::common::{Time, is_unseen, standard_status, unseen};
use super::data_quality_warning::WarningStatus;
use super::extract_effective::Effective;
use super::extract_refresh::{ExtractRefresh, RefreshType, TargetKind};
use super::flow_deployment::Drift;
use super::tableau_schedule::{ForeignSchedule, ScheduleIntent, ScheduleStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known about the extract: conditions for people, and the state machine of `docs/trigger.md` for Feedwater.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExtractRefreshStatus {
    /// Generation of the spec that this status speaks about; -1 = none yet.
    #[serde(default = "unseen", skip_serializing_if = "is_unseen")]
    pub observed_generation: i64,
    /// What the target was found to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,
    /// Start of the oldest upstream run that the extract contains: how old its data is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_time: Option<Time>,
    /// The newest completion of each upstream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub upstreams: Vec<UpstreamStatus>,
    /// Values in force where the spec is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
    /// The last value of the annotation `feedwater.dev/refresh-requested` that was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_refresh_token: Option<String>,
    /// Earliest moment of the next try, while one is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_eligible_time: Option<Time>,
    /// Completions from here on count, in Prefect's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Time>,
    /// What is known of each upstream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub marks: Vec<Mark>,
    /// The schedules of the spec as Tableau has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub schedules: Vec<ScheduleStatus>,
    /// A schedule that is about to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_intent: Option<ScheduleIntent>,
    /// Schedules of the extract that others made, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub foreign_schedules: Vec<ForeignSchedule>,
    /// Fields that Feedwater has applied; what leaves the spec is taken back by this list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 64)))]
    pub applied_fields: Vec<String>,
    /// Under `managementPolicy: Observe`: what would be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 600)))]
    pub plan: Vec<String>,
    /// The last difference found and put right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_drift: Option<Drift>,
    /// The data quality warning of ours that Tableau shows, or should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_quality_warning: Option<WarningStatus>,
    /// What must be refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed: Option<Owed>,
    /// The refresh under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// The last ten refreshes, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<HistoryEntry>,
    /// `Ready`, `Fresh`, `Refreshing`, `LastRefreshSucceeded`, `UpstreamsHealthy`, `Drifted`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What the target was found to be. Coverage speaks about exactly this; another LUID or type starts anew.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Datasource or Workbook.
    pub kind: TargetKind,
    /// LUID of the site.
    #[schemars(length(max = 64))]
    pub site_luid: String,
    /// LUID of the content.
    #[schemars(length(max = 64))]
    pub luid: String,
    /// Where it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub project_path: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub name: Option<String>,
    /// The refresh type that coverage speaks about, where an upstream has none of its own.
    pub refresh_type: RefreshType,
    /// Under `IncrementalOrFull`: Tableau has refused an incremental refresh of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full_only: bool,
}

/// One upstream as a person wants to see it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStatus {
    /// Name in the spec.
    #[schemars(length(max = 63))]
    pub name: String,
    /// The newest run that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub run_id: Option<String>,
    /// `Completed`, `None` (no run yet), `NotFound`, `Unread`.
    #[schemars(length(max = 32))]
    pub state: String,
    /// true: completed since it was last part of a refresh.
    pub new: bool,
}

/// One terminal state of a run that counts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Occasion {
    /// Id of the flow run.
    #[schemars(length(max = 64))]
    pub run_id: String,
    /// Id of its state: the identity of the occasion.
    #[schemars(length(max = 64))]
    pub state_id: String,
    /// Name of the state, unless it is `Completed`: a name that is excluded later does not count any more. A long name is shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub state_name: Option<String>,
    /// Timestamp of the state: the order of occasions, in Prefect's time.
    pub at: Time,
    /// When the run started (else when it was expected to): how old its data is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Tableau's time when the occasion was first seen, rounded up: a job started from here on contains it. Absent: Tableau has not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Time>,
}

/// A place in the order of occasions.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// Timestamp.
    pub at: Time,
    /// State id that stands there; absent for a baseline, which stands before every occasion of its moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub state_id: Option<String>,
    /// Start of the run that stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
}

/// What is known of one upstream.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// Name in the spec.
    #[schemars(length(max = 63))]
    pub name: String,
    /// What the upstream is: connection, flow and deployment. Another key under the same name is another upstream.
    #[schemars(length(max = 1024))]
    pub key: String,
    /// First seen in the spec, in Prefect's time.
    pub since: Time,
    /// Left the spec, in Prefect's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Time>,
    /// Newest occasion observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Occasion>,
    /// Newest occasion that has been used by a set; starts at the baseline.
    pub mark: Position,
    /// Newest occasion that a successful job contains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<Position>,
    /// The refresh type of its own, which `covered` speaks about; absent: that of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RefreshType")]
    pub refresh_type: Option<RefreshType>,
}

/// What must be refreshed: kept until a successful job contains all of it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Owed {
    /// When the first of it was owed.
    pub formed_at: Time,
    /// Occasions, the newest per upstream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub occasions: Vec<OwedOccasion>,
    /// Demands that are no occasion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub demands: Vec<Demand>,
    /// Failed tries so far.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub tries: i32,
    /// Consecutive refusals (no tries): they only lengthen the wait.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub refusals: i32,
    /// Not before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// Nothing more is tried until somebody asks or something new completes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// With `stopped`: why the last try failed, which a retry does not mend. Absent: the retries are used up, or a person cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub failure: Option<String>,
    /// Why the last POST was refused, a reason of `Refreshing` or `Ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub refused: Option<String>,
    /// Salted hash of the credential that was refused: another one is tried at once. Of no use to sign in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub refused_with: Option<String>,
}

/// An occasion that is owed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OwedOccasion {
    /// Key of the upstream.
    #[schemars(length(max = 1024))]
    pub key: String,
    /// The occasion.
    pub occasion: Occasion,
    /// The refresh type of its own that its upstream has; absent: that of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RefreshType")]
    pub refresh_type: Option<RefreshType>,
}

/// A demand for one refresh.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    /// What asks.
    pub kind: DemandKind,
    /// The token of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub token: Option<String>,
    /// Tableau's time when it was first seen, rounded up; absent: Tableau has not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Time>,
}

/// What asks for a refresh beside completions.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemandKind {
    /// The annotation `feedwater.dev/refresh-requested`.
    Requested,
    /// The target was published anew under another LUID.
    Republished,
    /// The resource is new, or means another extract: `trigger.onCreate`.
    Created,
}

/// Why nothing more is tried.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Retries used up, or of no use (`failure`).
    Exhausted,
    /// A person cancelled our job.
    Cancelled,
}

/// Where an attempt stands.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptPhase {
    /// Written down; not known to be sent.
    Intended,
    /// Tableau has a job for it.
    Submitted,
    /// It ran too long; cancelling is written down.
    Cancelling,
}

/// Whose job it is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobOrigin {
    /// Tableau answered our POST with it.
    Ours,
    /// Found after an answer was lost.
    Recovered,
    /// Somebody else's, which contains what is owed.
    Adopted,
}

/// The one refresh under way.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Identity of the intent.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Where it stands.
    pub phase: AttemptPhase,
    /// When it was written down, our time.
    pub intended_at: Time,
    /// Tableau's time then, rounded up: our POST waits for it, so that our job starts after it.
    pub fence: Time,
    /// The connection through which it is made, as `prod`, or `cluster:prod`: its job is followed and cancelled through no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 261))]
    pub site: Option<String>,
    /// LUID of the site.
    #[schemars(length(max = 64))]
    pub site_luid: String,
    /// Kind of the content.
    pub kind: TargetKind,
    /// LUID of the content.
    #[schemars(length(max = 64))]
    pub luid: String,
    /// Full or Incremental.
    pub refresh_type: RefreshType,
    /// The newest occasion per upstream that its job contains (by key).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub seen: Vec<Contained>,
    /// Demands that its job satisfies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub demands: Vec<Demand>,
    /// Id of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub job_id: Option<String>,
    /// Whose job it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<JobOrigin>,
    /// When Tableau started it, Tableau's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Consecutive times another job of the target was in the way without one being seen.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub blocked: i32,
    /// Not before this (after a refusal for a duplicate).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// A job of somebody else on the target that has to end first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub waits_for_job: Option<String>,
}

/// An occasion that a job contains.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Contained {
    /// Key of the upstream.
    #[schemars(length(max = 1024))]
    pub key: String,
    /// Id of the run.
    #[schemars(length(max = 64))]
    pub run_id: String,
    /// The place of the occasion.
    pub position: Position,
}

/// How a refresh ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Refreshed.
    Succeeded,
    /// Tableau says it failed.
    Failed,
    /// A person cancelled it.
    Cancelled,
    /// It ran longer than `timeout` and was cancelled.
    TimedOut,
    /// Tableau no longer knows the job: whether it succeeded is unknown.
    JobVanished,
    /// The target or the refresh type was changed meanwhile.
    Superseded,
}

/// One refresh that ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// What made it: `Upstreams`, `Requested`, `Republished`, `Created`.
    #[schemars(length(max = 64))]
    pub cause: String,
    /// At most five run ids it contains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(max = 64)))]
    pub runs: Vec<String>,
    /// How many it contains.
    #[schemars(range(min = 0, max = 64))]
    pub run_count: i32,
    /// Id of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub job_id: Option<String>,
    /// Whose job it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<JobOrigin>,
    /// The connection through which it was, as `schedules[].site`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 261))]
    pub site: Option<String>,
    /// LUID of the content.
    #[schemars(length(max = 64))]
    pub luid: String,
    /// Full or Incremental.
    pub refresh_type: RefreshType,
    /// When Tableau started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When Tableau ended it, else when we learned of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed, where Tableau's words are known to mean that a retry does not mend it; for example `SourceCredentialsInvalid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub failure: Option<String>,
}

impl Default for ExtractRefreshStatus {
    fn default() -> Self {
        Self {
            observed_generation: unseen(),
            target: None,
            data_time: None,
            upstreams: Vec::new(),
            effective: None,
            last_handled_refresh_token: None,
            next_eligible_time: None,
            baseline: None,
            marks: Vec::new(),
            schedules: Vec::new(),
            schedule_intent: None,
            foreign_schedules: Vec::new(),
            applied_fields: Vec::new(),
            plan: Vec::new(),
            last_drift: None,
            data_quality_warning: None,
            owed: None,
            attempt: None,
            history: Vec::new(),
            conditions: Vec::new(),
        }
    }
}

standard_status!(ExtractRefresh, ExtractRefreshStatus);
