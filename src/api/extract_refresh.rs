//! `ExtractRefresh`: which extract is fed by which flows, and how fresh it is.

use super::common::DeletionPolicy;
use super::common::{Duration, SiteRef, WorkspaceRef};
use super::extract_refresh_status::ExtractRefreshStatus;
use super::refresh_window::RefreshWindow;
use super::tableau_schedule::{
    AdoptionPolicy, DriftDetection, ForeignSchedules, ManagementPolicy, SuspendedSchedules, TableauSchedule,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.name"),
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
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ExtractRefreshSpec {
    /// The Tableau site that holds the extract.
    pub site_ref: SiteRef,
    /// The extract.
    pub target: Target,
    /// Full or Incremental. Incremental needs an incremental key in the extract. Unset: Full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RefreshType")]
    pub refresh_type: Option<RefreshType>,
    /// The flows that feed the extract. Unset or `[]`: refreshed only on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub upstreams: Option<Vec<Upstream>>,
    /// Which completions make a refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// What happens after a failed refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Longest time a refresh may run before it is cancelled, counted from its start. 1m to 48h. Unset: 2h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('48h')").message("timeout must be between 1m and 48h"))]
    pub timeout: Option<Duration>,
    /// Schedules that Tableau runs by itself, in the site's time zone, beside what the upstreams cause; a run that contains what is owed is not
    /// repeated. Unset or `[]`: none of ours; those that others made are left alone.
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
    /// What happens when somebody changes or deletes a schedule of ours in Tableau.
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
    /// What happens to the schedules when this resource is deleted: Delete or Orphan; contents are never deleted. Unset: Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeletionPolicy")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// When Feedwater may start refreshes; what is due outside waits, and nothing of it is dropped. Schedules that Tableau runs are not held.
    /// Unset or `[]`: at any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub refresh_windows: Option<Vec<RefreshWindow>>,
    /// Place in the site's budget, 0 to 100: the higher starts first; namespaces take turns whatever their priorities. Unset: 50.
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
    /// Datasource or Workbook.
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
#[x_kube(validation = Rule::new("[has(self.flowDeploymentRef), has(self.prefectDeployment)].filter(x, x).size() == 1").message("set exactly one of flowDeploymentRef, prefectDeployment"))]
pub struct Upstream {
    /// Name of this upstream, used in status and messages.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// A FlowDeployment of this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_deployment_ref: Option<FlowDeploymentRef>,
    /// A deployment in Prefect that somebody else manages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefect_deployment: Option<PrefectDeployment>,
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
    /// Name of the flow.
    #[schemars(length(min = 1, max = 255))]
    pub flow_name: String,
    /// Name of the deployment.
    #[schemars(length(min = 1, max = 255))]
    pub deployment_name: String,
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
}

/// What happens after a failed refresh.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Tries after the first, 0 to 20. Unset: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    pub limit: Option<i32>,
    /// Time between two tries.
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
