//! `FlowDeployment`: a Prefect deployment and its schedules.

use super::common::{
    DeletionPolicy, Duration, Time, WorkspaceRef, free_object, free_objects, is_unseen, standard_status,
    unseen,
};
use super::tableau_schedule::{AdoptionPolicy, DriftMode, ForeignSchedules, ManagementPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A Prefect deployment as it should be. What is not set here is left as it is in Prefect; what was set and is removed is reverted.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "feedwater.dev",
    version = "v1alpha1",
    kind = "FlowDeployment",
    plural = "flowdeployments",
    singular = "flowdeployment",
    shortname = "fdep",
    category = "feedwater",
    namespaced,
    status = "FlowDeploymentStatus",
    derive = "PartialEq",
    doc = "A FlowDeployment is a deployment of a Prefect flow with its schedules, kept as declared.",
    selectable = ".spec.flowName",
    selectable = ".spec.workspaceRef.name",
    printcolumn(name = "Flow", type_ = "string", json_path = ".spec.flowName"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.workPool.name"),
    printcolumn(
        name = "Drifted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Drifted\")].status"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct FlowDeploymentSpec {
    /// The Prefect workspace that holds the deployment.
    pub workspace_ref: WorkspaceRef,
    /// Name of the flow (Prefect `flow.name`), as its `@flow` declares it. The flow is created when missing.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^/%&><]+$"))]
    pub flow_name: String,
    /// Name of the deployment (Prefect `name`). Unset: the name of this resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^/%&><]+$"))]
    pub deployment_name: Option<String>,
    /// What it is for (Prefect `description`). Unset: left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub description: Option<String>,
    /// Version of the deployment (Prefect `version`). Unset: left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub version: Option<String>,
    /// Tags of the deployment and its runs (Prefect `tags`), a set; our own mark is apart. `[]` clears. Unset: left as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub tags: Option<Vec<String>>,
    /// File and function of the flow, relative to the working directory (Prefect `entrypoint`), for example `flows/orders.py:orders`.
    #[schemars(length(min = 1, max = 1024))]
    pub entrypoint: String,
    /// Directory the flow runs in (Prefect `path`). Unset: left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
    /// Steps that fetch the code before a run (Prefect `pull_steps`), replaced as a whole. `[]` clears. Unset: left as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_objects")]
    pub pull_steps: Option<Vec<Map<String, Value>>>,
    /// Where its runs are executed.
    pub work_pool: WorkPool,
    /// Default parameters of its runs (Prefect `parameters`), replaced as a whole. `{}` clears. Unset: left as they are. Numbers are compared
    /// by value: Kubernetes does not keep `1.0` apart from `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub parameters: Option<Map<String, Value>>,
    /// JSON schema of the parameters (Prefect `parameter_openapi_schema`), replaced as a whole. Unset: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub parameter_open_api_schema: Option<Map<String, Value>>,
    /// true: Prefect refuses runs whose parameters violate the schema (Prefect `enforce_parameter_schema`). Unset: left as it is; at first true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforce_parameter_schema: Option<bool>,
    /// Settings of the work pool for runs of this deployment, such as `{env: {LOG_LEVEL: INFO}}` (Prefect `job_variables`), replaced as a whole.
    /// Visible in Prefect: put secrets into blocks. `{}` clears. Unset: left as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub job_variables: Option<Map<String, Value>>,
    /// How many runs may go on at once. Unset: left as it is; at first as many as come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_limit: Option<ConcurrencyLimit>,
    /// true: Prefect schedules no runs (Prefect `paused`); runs that somebody starts go on. Unset: left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Labels of the deployment and its runs (Prefect `labels`): text, numbers, true or false. Prefect takes them only when the deployment is created; a
    /// later change is told in the condition `Drifted` and not applied. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub labels: Option<Map<String, Value>>,
    /// When Prefect runs it, one entry per slug. Unset or `[]`: no schedule of ours. Schedules that others made are left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["slug".into()]))]
    pub schedules: Option<Vec<FlowSchedule>>,
    /// Schedules of the deployment that are not declared here: Report leaves them, Remove deletes them. Unset: Report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ForeignSchedules")]
    pub foreign_schedules: Option<ForeignSchedules>,
    /// What happens when somebody changes the deployment in Prefect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_detection: Option<FlowDriftDetection>,
    /// Manage, or Observe: nothing is written to Prefect; `status.plan` says what would be. Unset: Manage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ManagementPolicy")]
    pub management_policy: Option<ManagementPolicy>,
    /// A deployment of that name that is there already and carries nobody's mark: Fail waits for a person, Adopt takes it over. Unset: Fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AdoptionPolicy")]
    pub adoption_policy: Option<AdoptionPolicy>,
    /// What happens to the Prefect deployment when this resource is deleted: Delete or Orphan. Unset: Delete what Feedwater has created, Orphan what
    /// it has taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeletionPolicy")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// true: Feedwater leaves the Prefect deployment alone until it is false again; its schedules go on. Unset: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// The work pool (and queue) that executes the runs: the right to run code there.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WorkPool {
    /// Name of the work pool (Prefect `work_pool_name`). It must exist.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Name of the queue in it (Prefect `work_queue_name`); made by Prefect when missing. Unset: the pool's default queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub work_queue: Option<String>,
}

/// How many runs of the deployment may go on at once.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConcurrencyLimit {
    /// That many (Prefect `concurrency_limit`).
    #[schemars(range(min = 1, max = 100_000))]
    pub limit: i32,
    /// What becomes of one more: Enqueue, or `CancelNew` (Prefect `collision_strategy`). Unset: Prefect's, Enqueue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CollisionStrategy")]
    pub collision_strategy: Option<CollisionStrategy>,
    /// How long a run that starts holds its place without a sign of life (Prefect `grace_period_seconds`), 1m to 24h. Unset: Prefect's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('24h')").message("gracePeriod must be between 1m and 24h"))]
    pub grace_period: Option<Duration>,
}

/// What becomes of a run beyond the limit.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollisionStrategy {
    /// It waits.
    Enqueue,
    /// It is cancelled.
    CancelNew,
}

/// What happens when somebody changes the deployment in Prefect.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FlowDriftDetection {
    /// Enabled: corrected. Warn: told, and left until the spec is edited. Disabled: neither. Unset: Enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DriftMode")]
    pub mode: Option<DriftMode>,
    /// Fields of this spec that are set when the deployment is created and then left to others, such as `description`. Unset: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub ignore: Option<Vec<String>>,
}

/// One schedule of the deployment; exactly one of `cron`, `interval`, `rrule`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.cron), has(self.interval), has(self.rrule)].filter(x, x).size() == 1").message("set exactly one of cron, interval, rrule"))]
pub struct FlowSchedule {
    /// Identity of the schedule within the deployment (Prefect `slug`).
    #[schemars(length(min = 1, max = 100), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub slug: String,
    /// By a cron expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronSchedule>,
    /// At a fixed interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalSchedule>,
    /// By an RFC 5545 recurrence rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rrule: Option<RRuleSchedule>,
    /// IANA time zone the schedule is read in, for example `Europe/Berlin`. Unset: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Whether it makes runs (Prefect `active`). Unset: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Parameters of its runs, over those of the deployment (Prefect `parameters`), replaced as a whole. `{}` clears. Unset: left as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub parameters: Option<Map<String, Value>>,
    /// How many runs to come Prefect keeps scheduled (Prefect `max_scheduled_runs`), 1 to 50. Prefect cannot clear it: it stays until the schedule gets
    /// another slug. Unset: left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub max_scheduled_runs: Option<i32>,
}

/// A cron expression.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CronSchedule {
    /// Five fields (or six, with seconds last), or an alias such as `@daily`, as Prefect's croniter reads them.
    #[schemars(length(min = 1, max = 255))]
    pub expression: String,
    /// Day of month and day of week: true = either suffices, false = both must match (Prefect `day_or`). Unset: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_or: Option<bool>,
}

/// A fixed interval.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IntervalSchedule {
    /// Time between two runs, more than zero.
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')").message("every must be more than zero"))]
    pub every: Duration,
    /// A moment the interval is counted from (Prefect `anchor_date`). Unset: when Prefect first saw the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Time>,
}

/// A recurrence rule.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RRuleSchedule {
    /// RFC 5545, for example `FREQ=DAILY;BYHOUR=4`. Without DTSTART Prefect counts from 2020-01-01.
    #[schemars(length(min = 1, max = 6500))]
    pub rule: String,
}

/// What is known about the deployment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FlowDeploymentStatus {
    /// Generation of the spec that this status speaks about; -1 = none yet.
    #[serde(default = "unseen", skip_serializing_if = "is_unseen")]
    pub observed_generation: i64,
    /// Id of the deployment in Prefect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub deployment_id: Option<String>,
    /// The flow and deployment name that `deploymentId` had when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub full_name: Option<String>,
    /// The workspace that `deploymentId` is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub workspace: Option<String>,
    /// Fields and schedules (`schedules/<slug>`) that Feedwater has set; what leaves the spec is reverted by this list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 96), inner(length(max = 128)))]
    pub applied_fields: Vec<String>,
    /// Set before a write that makes Prefect drop future scheduled runs, cleared after Prefect was asked to schedule again from that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_write: Option<PendingWrite>,
    /// true: the deployment was there before and was taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<bool>,
    /// Under `managementPolicy: Observe`: what would be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub plan: Vec<String>,
    /// The last difference found and put right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_drift: Option<Drift>,
    /// `Ready`, `Drifted`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A write whose loss of scheduled runs is not made good yet.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PendingWrite {
    /// Prefect's time before the write.
    pub since: Time,
}

/// A difference between Prefect and the spec that nobody declared.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// When it was seen.
    pub at: Time,
    /// The fields that differed, by name only.
    #[schemars(length(max = 64), inner(length(max = 128)))]
    pub fields: Vec<String>,
}

impl Default for FlowDeploymentStatus {
    fn default() -> Self {
        Self {
            observed_generation: unseen(),
            deployment_id: None,
            full_name: None,
            workspace: None,
            applied_fields: Vec::new(),
            pending_write: None,
            adopted: None,
            plan: Vec::new(),
            last_drift: None,
            conditions: Vec::new(),
        }
    }
}

standard_status!(FlowDeployment, FlowDeploymentStatus);
