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
    /// Name of the flow (Prefect `flow.name`), as its `@flow` declares it, for example `orders`. The flow is created when missing.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^/%&><]+$"))]
    pub flow_name: String,
    /// Name of the deployment (Prefect `name`), for example `nightly`. Set it where this resource may be renamed: the one of the new name then takes the
    /// deployment over, with its runs. Unset: the name of this resource, so that another name of it declares another deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^/%&><]+$"))]
    pub deployment_name: Option<String>,
    /// What it is for, in Markdown (Prefect `description`), for example `Loads the orders of one region`. Unset: left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub description: Option<String>,
    /// Version of the deployment, any text (Prefect `version`), for example `"2026.11.3"`. Unset: left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub version: Option<String>,
    /// What this version of the code is, shown in the deployment's history (Prefect `version_info`), for example `{type: "vcs:git", version: abc123}`. Prefect
    /// Cloud only: a self-hosted server would drop it, so there the spec is refused. Unset: left as it is, also after it was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_info: Option<VersionInfo>,
    /// Tags of the deployment and its runs (Prefect `tags`), a set; our own mark is apart. For example `[finance]`; `[]` clears. Unset: left as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub tags: Option<Vec<String>>,
    /// File and function of the flow, relative to the working directory (Prefect `entrypoint`), for example `flows/orders.py:orders`.
    #[schemars(length(min = 1, max = 1024))]
    pub entrypoint: String,
    /// Directory the flow runs in, relative to remote storage or absolute (Prefect `path`), for example `/opt/flows`. Unset: left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
    /// Steps that fetch the code before a run (Prefect `pull_steps`), replaced as a whole, for example
    /// `[{prefect.deployments.steps.git_clone: {repository: https://git.acme.example/etl.git}}]`. `[]` clears. Unset: left as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_objects")]
    pub pull_steps: Option<Vec<Map<String, Value>>>,
    /// Where its runs are executed.
    pub work_pool: WorkPool,
    /// Default parameters of its runs (Prefect `parameters`), replaced as a whole, for example `{region: eu}`. `{}` clears. Numbers are compared by value:
    /// Kubernetes does not keep `1.0` apart from `1`. Prefect takes 512 KiB at most. Unset: left as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub parameters: Option<Map<String, Value>>,
    /// JSON schema of the parameters (Prefect `parameter_openapi_schema`), replaced as a whole, for example
    /// `{type: object, properties: {region: {type: string}}}`; `docs/prefect-fields.md` has the command that prints a flow's. Unset: left as it is.
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
    /// Values from Secrets, put into `jobVariables` and `parameters`, which are then declared as a whole. In Prefect everybody who may read the deployment sees them:
    /// blocks are better. A Secret that changes is written to Prefect at once. Unset: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]), validation = Rule::new("self.all(a, !self.exists(b, b.path.startsWith(a.path + '.')))").message("a path of valuesFrom may not lie within another"))]
    pub values_from: Option<Vec<ValueFrom>>,
    /// How many runs may go on at once, for example `{limit: 1, collisionStrategy: CancelNew}`. Unset: left as it is; at first as many as come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_limit: Option<ConcurrencyLimit>,
    /// true: Prefect schedules no runs (Prefect `paused`); runs that somebody starts go on. Unset: left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Labels of the deployment and its runs (Prefect `labels`): text, numbers, true or false, for example `{team: sales}`. Prefect takes them only when the deployment is created; a
    /// later change is told in the condition `Drifted` and not applied. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub labels: Option<Map<String, Value>>,
    /// When Prefect runs it, one entry per slug, for example `[{slug: nightly, cron: {expression: "0 2 * * *"}}]`. Schedules that others made are left alone. Unset: no schedule of ours, as
    /// with `[]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["slug".into()]))]
    pub schedules: Option<Vec<FlowSchedule>>,
    /// Schedules of the deployment that are not declared here: Report leaves them, Remove deletes them. Unset: Report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ForeignSchedules")]
    pub foreign_schedules: Option<ForeignSchedules>,
    /// What happens when somebody changes the deployment in Prefect. Unset: it is put right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_detection: Option<FlowDriftDetection>,
    /// Manage, or Observe: nothing is written to Prefect; `status.plan` says what would be. Unset: Manage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ManagementPolicy")]
    pub management_policy: Option<ManagementPolicy>,
    /// A deployment of that name that is there already and that no other resource or installation has: Fail waits for a person, Adopt takes it over. Unset: Fail.
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
    /// Name of the work pool (Prefect `work_pool_name`), for example `etl`. It must exist.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Name of the queue in it (Prefect `work_queue_name`), for example `fast`; made by Prefect when missing. Unset: the pool's default queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub work_queue: Option<String>,
}

/// What a version of the code is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    /// Kind of version (Prefect `type`), for example `vcs:git`.
    #[schemars(length(min = 1, max = 64))]
    pub r#type: String,
    /// The version (Prefect `version`), for example a commit.
    #[schemars(length(min = 1, max = 255))]
    pub version: String,
}

/// A value that comes from a Secret.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ValueFrom {
    /// Where it is put: field names from `jobVariables` or `parameters` on, with dots between them, for example `jobVariables.env.TOKEN`. What lies
    /// above it must be an object or absent; what lies there is replaced.
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = r"^(jobVariables|parameters)(\.[A-Za-z0-9_-]+)+$")
    )]
    pub path: String,
    /// The Secret it is taken from, as text and unchanged, for example `{name: orders, key: token}`.
    pub secret_key_ref: SecretKeyRef,
}

/// Names a key of a Secret in the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret, in the namespace of this resource. The operator must be allowed to read it (`manifests/tenant`); one that holds the credentials of a
    /// connection is refused.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it, for example `token`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// How many runs of the deployment may go on at once.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConcurrencyLimit {
    /// That many (Prefect `concurrency_limit`), for example `1`.
    #[schemars(range(min = 1, max = 100_000))]
    pub limit: i32,
    /// What becomes of one more: Enqueue, or `CancelNew` (Prefect `collision_strategy`). Unset: Prefect's, Enqueue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CollisionStrategy")]
    pub collision_strategy: Option<CollisionStrategy>,
    /// How long the infrastructure of a run may take to start before the run loses its place (Prefect `grace_period_seconds`), 1m to 24h, for
    /// example `10m`. Unset: Prefect's own.
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

/// What a deployment's drift is called by. A name that is none of these would be taken, and have no effect.
const IGNORABLE: &str = "self.all(n, n.startsWith('schedules/') || n in ['description', 'version', 'versionInfo', 'entrypoint', 'path', \
                         'pullSteps', 'parameters', 'parameterOpenApiSchema', 'workPool', 'jobVariables', 'enforceParameterSchema', \
                         'concurrencyLimit', 'concurrencyLimit.collisionStrategy', 'paused', 'tags', 'labels', 'schedules', \
                         'foreignSchedules'])";

/// What happens when somebody changes the deployment in Prefect.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FlowDriftDetection {
    /// Enabled: corrected. Warn: told, and left until the spec is edited. Disabled: neither. Unset: Enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DriftMode")]
    pub mode: Option<DriftMode>,
    /// Fields of this spec that are set when the deployment is created and then left to others, such as `description`, each as a whole; `schedules`
    /// means all of them, `schedules/<slug>` one, `foreignSchedules` those without a slug. Unset: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = Rule::new(IGNORABLE).message(
        "ignore takes whole fields: description, version, versionInfo, entrypoint, path, pullSteps, parameters, parameterOpenApiSchema, \
         workPool, jobVariables, enforceParameterSchema, concurrencyLimit, paused, tags, labels, schedules, schedules/<slug>, \
         foreignSchedules"))]
    pub ignore: Option<Vec<String>>,
}

/// One schedule of the deployment; exactly one of `cron`, `interval`, `rrule`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.cron), has(self.interval), has(self.rrule)].filter(x, x).size() == 1").message("set exactly one of cron, interval, rrule"))]
pub struct FlowSchedule {
    /// Identity of the schedule within the deployment (Prefect `slug`), for example `nightly`.
    #[schemars(length(min = 1, max = 100), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub slug: String,
    /// By a cron expression. Unset: `interval` or `rrule` says when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronSchedule>,
    /// At a fixed interval. Unset: `cron` or `rrule` says when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalSchedule>,
    /// By an RFC 5545 recurrence rule. Unset: `cron` or `interval` says when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rrule: Option<RRuleSchedule>,
    /// IANA time zone the schedule is read in, for example `Europe/Berlin`. Unset: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Whether it makes runs (Prefect `active`). Unset: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Parameters of its runs, over those of the deployment (Prefect `parameters`), replaced as a whole, for example `{region: us}`. `{}` clears. Unset: left as they are.
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
    /// Five fields (or six, with seconds last), or an alias such as `@daily`, as Prefect's croniter reads them, for example `0 2 * * *`.
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
    /// Time between two runs (Prefect `interval`), more than zero, for example `1h30m`.
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')").message("every must be more than zero"))]
    pub every: Duration,
    /// A moment the interval is counted from (Prefect `anchor_date`), for example `"2026-01-01T00:15:00Z"`. Unset: when Prefect first saw the schedule.
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
    #[schemars(length(max = 261))]
    pub workspace: Option<String>,
    /// Fields, schedules (`schedules/<slug>`), their parameters (`scheduleParameters/<slug>`) and labels (`labels/<key>`) that Feedwater has set; what
    /// leaves the spec is reverted by this list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 192), inner(length(max = 128)))]
    pub applied_fields: Vec<String>,
    /// The Secrets of `spec.valuesFrom` as they were when Prefect was last seen to have their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<AppliedSecret>,
    /// Set before a write that makes Prefect drop future scheduled runs or adds a schedule, cleared after Prefect was asked to schedule from that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_write: Option<PendingWrite>,
    /// Generation of the spec that `deploymentId` last had as a whole: while it is that of the resource, a difference is somebody else's change and no
    /// edit that is still to be written. 0: it has had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_sync_generation: Option<i64>,
    /// true: the deployment was there before and was taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<bool>,
    /// Under `managementPolicy: Observe`: what would be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub plan: Vec<String>,
    /// How often each field that others changed was put right lately; a new generation starts anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub corrections: Vec<Correction>,
    /// Fields that are not put right for now, since others changed them again and again; see `Drifted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 128)))]
    pub contested: Vec<String>,
    /// The last difference found and put right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_drift: Option<Drift>,
    /// `Ready`, `Drifted`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A Secret whose values were set.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AppliedSecret {
    /// Name of the Secret, in this namespace.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its `metadata.resourceVersion` then.
    #[schemars(length(max = 64))]
    pub resource_version: String,
}

/// A write whose loss of scheduled runs is not made good yet.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PendingWrite {
    /// Prefect's time before the write; where others had changed the deployment just before, the time of that.
    pub since: Time,
    /// When each run was due that no worker had taken by then: a schedule's deletion makes Prefect drop those as well. Unset: not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub late: Option<Vec<Time>>,
}

/// A field that others changed and Feedwater put right.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Correction {
    /// Its name, as in `appliedFields`.
    #[schemars(length(max = 128))]
    pub field: String,
    /// When, the last three times.
    #[schemars(length(max = 3))]
    pub at: Vec<Time>,
}

/// A difference between Prefect and the spec that nobody declared.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// When it was seen, in our time.
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
            secrets: Vec::new(),
            pending_write: None,
            in_sync_generation: None,
            adopted: None,
            plan: Vec::new(),
            corrections: Vec::new(),
            contested: Vec::new(),
            last_drift: None,
            conditions: Vec::new(),
        }
    }
}

standard_status!(FlowDeployment, FlowDeploymentStatus);
