//! `ExtractRefresh`: which extract is fed by which flows, and how fresh it is.

use super::common::DeletionPolicy;
use super::common::{Duration, SiteRef, WorkspaceRef, free_object};
use super::data_quality_warning::DataQualityWarning;
use super::extract_refresh_status::ExtractRefreshStatus;
use super::refresh_window::RefreshWindow;
use super::tableau_schedule::{
    AdoptionPolicy, DriftDetection, ForeignSchedules, ManagementPolicy, SuspendedSchedules, TableauSchedule,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An extract, the flows that feed it, and when their completions refresh it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "feedwater.dev",
    version = "v1alpha1",
    kind = "ExtractRefresh",
    plural = "extractrefreshes",
    singular = "extractrefresh",
    shortname = "exr",
    category = "feedwater",
    namespaced,
    status = "ExtractRefreshStatus",
    derive = "PartialEq",
    doc = "An ExtractRefresh refreshes a Tableau extract when the Prefect flows that feed it have delivered, and says how fresh it is.",
    selectable = ".spec.siteRef.name",
    selectable = ".spec.target.name",
    printcolumn(name = "Target", type_ = "string", json_path = ".status.effective.target"),
    printcolumn(
        name = "Fresh",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Fresh\")].status"
    ),
    printcolumn(name = "Data", type_ = "date", json_path = ".status.dataTime"),
    printcolumn(
        name = "Activity",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Refreshing\")].reason"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextEligibleTime", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.trigger) || !has(self.trigger.require) || type(self.trigger.require) != int || self.trigger.require <= (has(self.upstreams) ? self.upstreams.size() : 0)").message("trigger.require is more than there are upstreams"))]
#[x_kube(validation = Rule::new("self.target.kind == 'Datasource' || !has(self.freshness) || !has(self.freshness.dataQualityWarning) || self.freshness.dataQualityWarning == 'Never'").message("freshness.dataQualityWarning is for data sources: Tableau keeps warnings on data sources, not on workbooks"))]
pub struct ExtractRefreshSpec {
    /// The Tableau site that holds the extract.
    pub site_ref: SiteRef,
    /// The data source or workbook that holds the extract.
    pub target: Target,
    /// How much is loaded: Full; Incremental, which needs an incremental key in the extract; or `IncrementalOrFull`: incremental, and full from then on
    /// if Tableau refuses that (until this resource is edited or the extract is published anew). Unset: Full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RefreshMode")]
    pub refresh_type: Option<RefreshMode>,
    /// The flows that feed the extract. Unset: refreshed only on request, as with `[]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub upstreams: Option<Vec<Upstream>>,
    /// Which completions make a refresh. Unset: a new one of every upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// How old the data may be before `Fresh` says so. Unset: what `refreshDefaults` of the TableauSite says, else `Fresh` does not age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
    /// What happens after a failed refresh. Unset: what `refreshDefaults` of the TableauSite says, else three more tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Longest time a refresh may run before it is cancelled, counted from its start. 1m to 48h. Unset: what `refreshDefaults` of the TableauSite
    /// says, else 2h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('48h')").message("timeout must be between 1m and 48h"))]
    pub timeout: Option<Duration>,
    /// Schedules that Tableau runs by itself, in the site's time zone, beside what the upstreams cause; a run that contains what is owed is not
    /// repeated. Unset: none of ours, as with `[]`; those that others made are left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub schedules: Option<Vec<TableauSchedule>>,
    /// Schedules of the extract that others made: Report lists them in status, Remove deletes them. Unset: Report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ForeignSchedules")]
    pub foreign_schedules: Option<ForeignSchedules>,
    /// Schedules of ours that Tableau has suspended, after failures or because nobody uses the content: Report says so, Recreate deletes and makes
    /// them again, at most once a day. Unset: Report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SuspendedSchedules")]
    pub suspended_schedules: Option<SuspendedSchedules>,
    /// What happens when somebody changes or deletes a schedule of ours in Tableau. Unset: it is put right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_detection: Option<DriftDetection>,
    /// Manage, or Observe: nothing is written to Tableau and no refresh is started; `status.plan` says which schedules would be. Unset: Manage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ManagementPolicy")]
    pub management_policy: Option<ManagementPolicy>,
    /// A schedule that is there already, as declared: Fail waits for a person, Adopt takes it over. Unset: Fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AdoptionPolicy")]
    pub adoption_policy: Option<AdoptionPolicy>,
    /// What happens to the schedules, and to a data quality warning of ours, when this resource is deleted: Delete or Orphan; contents are never
    /// deleted. Unset: Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeletionPolicy")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// When Feedwater may start refreshes; what is due outside waits, and nothing of it is dropped. Schedules that Tableau runs are not held.
    /// Those of `refreshDefaults` of the TableauSite hold besides. Unset: none of its own, as with `[]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub refresh_windows: Option<Vec<RefreshWindow>>,
    /// Place in the site's budget, 0 to 100: the higher starts first; namespaces take turns whatever their priorities. Unset: what
    /// `refreshDefaults` of the TableauSite says, else 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub priority: Option<i32>,
    /// true: Feedwater starts no refresh and leaves the schedules as they are; completions are still counted and a running refresh is still followed. Going back to false gives
    /// at most one refresh. Unset: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// A published data source or a workbook, by project path and name or by LUID.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.luid) ? (!has(self.name) && !has(self.projectPath)) : (has(self.name) && has(self.projectPath))").message("set either luid, or both projectPath and name"))]
pub struct Target {
    /// What holds it: Datasource, a published data source, or Workbook.
    pub kind: TargetKind,
    /// Path of the project from the top, for example `Finance/Sales`; `\/` is a slash within a name. Unset: `luid` names the extract.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub project_path: Option<String>,
    /// Name of the data source or workbook, exactly. Unset: `luid` names the extract.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub name: Option<String>,
    /// LUID of the data source or workbook. Unset: `projectPath` and `name` name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 36, max = 36),
        regex(pattern = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
    )]
    pub luid: Option<String>,
}

/// What holds the extract.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetKind {
    /// A published data source.
    Datasource,
    /// A workbook with its embedded extracts.
    Workbook,
}

/// How much of the extract is loaded, as asked for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefreshMode {
    /// Everything.
    Full,
    /// Only new rows.
    Incremental,
    /// Only new rows; everything if Tableau refuses that.
    IncrementalOrFull,
}

/// How much of the extract is loaded.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefreshType {
    /// Everything.
    Full,
    /// Only new rows.
    Incremental,
}

/// A flow that feeds the extract; exactly one source.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.flowDeploymentRef), has(self.prefectDeployment), has(self.prefectRuns)].filter(x, x).size() == 1").message("set exactly one of flowDeploymentRef, prefectDeployment, prefectRuns"))]
pub struct Upstream {
    /// Name of this upstream, used in status and messages.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// A FlowDeployment of this namespace. Unset: another source is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_deployment_ref: Option<FlowDeploymentRef>,
    /// A deployment in Prefect that somebody else manages. Unset: another source is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefect_deployment: Option<PrefectDeployment>,
    /// Runs in Prefect by their tags or work pool, whatever their flow. Unset: another source is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefect_runs: Option<PrefectRuns>,
    /// Only runs with these parameters count, for example `{region: eu}`; they may have more, and those that a run takes from its deployment count too. Values
    /// are compared whole, numbers by value. Other parameters are another upstream, which starts anew. Unset: every run counts, as with `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub parameters: Option<Map<String, Value>>,
    /// Of the refresh that this upstream causes: Full or Incremental. A full one contains an incremental one, so a set with one of each makes one full
    /// refresh. Unset: `refreshType` of the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RefreshType")]
    pub refresh_type: Option<RefreshType>,
    /// Completed runs whose state has one of these names do not count, for example `Skipped` or `Cached`. Names are compared exactly. Unset: every
    /// completed run counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub exclude_state_names: Option<Vec<String>>,
    /// false: its data may be as old as it wants; `status.dataTime` and `Fresh` go by the other upstreams. Unset: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts_for_freshness: Option<bool>,
}

/// Names a FlowDeployment in the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FlowDeploymentRef {
    /// Name of the FlowDeployment.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Names a deployment in Prefect.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PrefectDeployment {
    /// The Prefect workspace that holds it.
    pub workspace_ref: WorkspaceRef,
    /// Name of the flow in Prefect, exactly.
    #[schemars(length(min = 1, max = 255))]
    pub flow_name: String,
    /// Name of the deployment in Prefect, exactly.
    #[schemars(length(min = 1, max = 255))]
    pub deployment_name: String,
}

/// Chooses runs in Prefect, of any flow and with or without a deployment; a run must match all that is set. Runs that report refreshes never match.
/// Another choice is another upstream, which starts anew.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.workPool) || (has(self.tags) && self.tags.size() > 0)").message("set tags, workPool or both"))]
pub struct PrefectRuns {
    /// The Prefect workspace that holds them.
    pub workspace_ref: WorkspaceRef,
    /// Tags that a run must carry, all of them: its own and those of its deployment; those of its flow are not its own in Prefect, and a subflow has
    /// none of its parent's. Unset: any, as with `[]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = Rule::new("self.all(tag, !tag.startsWith('feedwater:'))").message("tags that begin with feedwater: are marks of FlowDeployments: use flowDeploymentRef"))]
    pub tags: Option<Vec<String>>,
    /// Name of the work pool that a run must have been made for. Unset: any, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub work_pool: Option<String>,
}

/// Which completions make a refresh.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.require) || (type(self.require) == int ? (self.require >= 1 && self.require <= 32) : (self.require == 'All' || self.require == 'Any'))").message("require must be All, Any or a number from 1 to 32"))]
pub struct Trigger {
    /// How many distinct upstreams must have completed anew: All, Any or a number from 1 to 32. Unset: All.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require: Option<IntOrString>,
    /// Greatest spread between the completions of one refresh; older ones are left out. Unset: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Duration>,
    /// Waits for more completions before it refreshes. Unset: it does not wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debounce: Option<Debounce>,
    /// Whether a refresh that is due waits while an upstream has a run in progress, so that it contains what that run delivers. Unset: Ignore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_upstreams: Option<RunningUpstreams>,
    /// Whether the extract is refreshed once when this resource is new, or means another extract than before: Ignore or Refresh. Unset: Ignore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OnCreate")]
    pub on_create: Option<OnCreate>,
}

/// How a refresh waits for more completions, so that several close to one another cause one refresh.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.max) || duration(self.quiet) <= duration(self.max)").message("debounce.quiet must not be longer than debounce.max"))]
pub struct Debounce {
    /// The refresh starts when no upstream has completed for this long. 1s to 24h.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("quiet must be between 1s and 24h"))]
    pub quiet: Duration,
    /// It waits no longer than this after it has become due. 1s to 24h. Unset: 15m, or `quiet` where that is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("max must be between 1s and 24h"))]
    pub max: Option<Duration>,
}

/// What becomes of a refresh that is due while an upstream has a run in progress in Prefect: PENDING, RUNNING, PAUSED, CANCELLING, or waiting for a
/// retry of its own (`AwaitingRetry`). A run that has not changed its state for 24h is not waited for, and an Event names it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunningUpstreams {
    /// Wait, or Ignore: the refresh starts whatever runs.
    pub policy: RunningPolicy,
    /// It waits no longer than this after the refresh has become due, also where Prefect cannot be asked. 1s to 24h. Unset: 30m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("runningUpstreams.max must be between 1s and 24h"))]
    pub max: Option<Duration>,
}

/// What a run in progress does to a refresh that is due.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunningPolicy {
    /// It holds it.
    Wait,
    /// Nothing.
    Ignore,
}

/// What a new resource does.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCreate {
    /// It waits for completions.
    Ignore,
    /// It refreshes the extract once.
    Refresh,
}

/// How old the data of the extract may be. Age counts from the start of the oldest upstream run that the extract contains; without upstreams,
/// from the start of the last refresh that succeeded.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.warnAfter) || !has(self.failAfter) || duration(self.warnAfter) <= duration(self.failAfter)").message("freshness.warnAfter must not be longer than freshness.failAfter"))]
#[x_kube(validation = Rule::new("!has(self.dataQualityWarning) || self.dataQualityWarning == 'Never' || has(self.failAfter)").message("freshness.dataQualityWarning: WhenStale needs freshness.failAfter, which says when data is stale"))]
pub struct Freshness {
    /// From this age on `Fresh` is False with the reason Late. At least 1m. Unset: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m')").message("warnAfter must be at least 1m"))]
    pub warn_after: Option<Duration>,
    /// From this age on `Fresh` is False with the reason Stale. At least 1m. Unset: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m')").message("failAfter must be at least 1m"))]
    pub fail_after: Option<Duration>,
    /// `WhenStale`: while `Fresh` is False with the reason Stale, Tableau shows its data quality warning (type STALE) on the data source and on what is
    /// made of it. Only a warning that Feedwater set is ever taken away. Needs `failAfter`, and Data Management on the site; workbooks have none,
    /// whatever `refreshDefaults` say. Never: none is set. Unset: Never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DataQualityWarning")]
    pub data_quality_warning: Option<DataQualityWarning>,
}

/// What happens after a failed refresh.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Tries after the first, 0 to 20. Unset: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    pub limit: Option<i32>,
    /// Time between two tries. Unset: 1m, then twice as long each time, at most 30m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

/// Time between two tries: `duration`, then times `factor` each, at most `maxDuration`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// The first wait. Unset: 1m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Growth from one wait to the next, 1 to 10. Unset: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub factor: Option<i32>,
    /// The longest wait. Unset: 30m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Duration>,
}
