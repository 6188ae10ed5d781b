//! `ClusterPrefectWorkspace` and `ClusterTableauSite`: the connections of their namespaced kinds, kept once for several namespaces, and who may do
//! what through them.

use super::common::standard_status_of;
use super::extract_refresh::TargetKind;
use super::prefect_workspace::{PrefectWorkspace, PrefectWorkspaceSpec, PrefectWorkspaceStatus};
use super::tableau_site::{TableauSite, TableauSiteSpec, TableauSiteStatus};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a Prefect API is, who we are there, and which namespaces may use it for what. Its Secrets are in the operator's namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "feedwater.dev",
    version = "v1alpha1",
    kind = "ClusterPrefectWorkspace",
    plural = "clusterprefectworkspaces",
    singular = "clusterprefectworkspace",
    shortname = "cpws",
    category = "feedwater",
    status = "PrefectWorkspaceStatus",
    derive = "PartialEq",
    doc = "A ClusterPrefectWorkspace is a connection to one Prefect workspace, used by the namespaces that it allows.",
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec..['apiUrl','workspaceId']"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = 1),
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
pub struct ClusterPrefectWorkspaceSpec {
    /// The connection itself.
    #[serde(flatten)]
    pub connection: PrefectWorkspaceSpec,
    /// Who may use it, and for what. An entry has to allow all that a resource asks for; one is enough. Unset: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<PrefectAllow>", length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub allow: Option<Vec<PrefectAllow>>,
}

/// What some namespaces may do in a Prefect workspace. What is not listed is not allowed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PrefectAllow {
    /// Name of this entry, used in messages.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Whom it allows something.
    pub namespaces: AllowedNamespaces,
    /// Flows that may be deployed, by name; `*` stands for any part of a name. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(max = 64), inner(length(min = 1, max = 253)))]
    pub flows: Option<Vec<String>>,
    /// Work pools that deployments may run in, which is the right to run code there; `*` stands for any part of a name. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(max = 64), inner(length(min = 1, max = 253)))]
    pub work_pools: Option<Vec<String>>,
    /// Deployments whose runs may be upstreams of an extract, as `flow/deployment`; `*` stands for any part of a name, `**` for everything, which
    /// `prefectRuns` needs. Unset: only those that a `FlowDeployment` of the namespace may declare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(max = 64), inner(length(min = 1, max = 512)))]
    pub upstreams: Option<Vec<String>>,
}

/// Namespaces. Where both names and a selector are given, a namespace has to be among the names and carry the labels.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.names) || has(self.selector)").message("set names, selector or both: an entry without them allows nobody"))]
pub struct AllowedNamespaces {
    /// Their names. Unset: `selector` says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1, max = 256), inner(length(min = 1, max = 63)))]
    pub names: Option<Vec<String>>,
    /// Labels that they carry. Whoever may label a Namespace decides by that who may use the connection. Unset: `names` says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NamespaceSelector")]
    pub selector: Option<NamespaceSelector>,
}

/// Chooses namespaces by their labels, as selectors of Kubernetes do: all of it has to hold.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.matchLabels) || has(self.matchExpressions)").message("set matchLabels, matchExpressions or both: an empty selector chooses nobody"))]
pub struct NamespaceSelector {
    /// Labels with these values, all of them. Unset: `matchExpressions` says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "labels")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// What else has to hold of the labels, all of it. Unset: `matchLabels` says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<LabelExpression>", length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Option<Vec<LabelExpression>>,
}

/// What has to hold of one label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.operator in ['In', 'NotIn'] ? has(self.values) : !has(self.values)").message("set values for In and NotIn, and only for these"))]
pub struct LabelExpression {
    /// Key of the label, for example `acme.example/team`.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// `In`: it is there, with one of `values`; `NotIn`: it is not there, or with none of them; `Exists`, `DoesNotExist`: whatever its value.
    #[schemars(schema_with = "operator")]
    pub operator: String,
    /// Of `In` and `NotIn`. Unset: with the other two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1, max = 64), inner(length(max = 63)))]
    pub values: Option<Vec<String>>,
}

/// Schema of an operator: one that is unknown is refused; should it be stored all the same, the rest of the object can still be read.
fn operator(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"] })
}

/// Schema of labels of which there has to be one.
fn labels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "minProperties": 1, "maxProperties": 16,
        "additionalProperties": { "type": "string", "maxLength": 63 }
    })
}

/// Which Tableau site, who we are there, and which namespaces may use it for what. Its Secrets are in the operator's namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "feedwater.dev",
    version = "v1alpha1",
    kind = "ClusterTableauSite",
    plural = "clustertableausites",
    singular = "clustertableausite",
    shortname = "ctsite",
    category = "feedwater",
    status = "TableauSiteStatus",
    derive = "PartialEq",
    doc = "A ClusterTableauSite is a connection to one site of Tableau Cloud or Tableau Server, used by the namespaces that it allows.",
    printcolumn(name = "Site", type_ = "string", json_path = ".spec['siteContentUrl','serverUrl']"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.serverUrl", priority = 1),
    printcolumn(name = "API", type_ = "string", json_path = ".status.restApiVersion", priority = 1),
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
pub struct ClusterTableauSiteSpec {
    /// The connection itself.
    #[serde(flatten)]
    pub connection: TableauSiteSpec,
    /// Who may use it, and for what. An entry has to allow all that a resource asks for; one is enough. Unset: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<TableauAllow>", length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub allow: Option<Vec<TableauAllow>>,
}

/// What some namespaces may do on a Tableau site. What is not listed is not allowed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TableauAllow {
    /// Name of this entry, used in messages.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Whom it allows something.
    pub namespaces: AllowedNamespaces,
    /// Projects whose contents may be refreshed, as paths: `*` stands for any part of a project's name, `**` for any projects below (`Finance/**` is
    /// Finance and everything in it), `\/` for a slash in a name. A content named by its LUID is judged by where it lies. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(max = 64), inner(length(min = 1, max = 2048)))]
    pub projects: Option<Vec<String>>,
    /// Kinds of contents that may be refreshed: Datasource, Workbook. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<TargetKind>", length(max = 2))]
    pub kinds: Option<Vec<TargetKind>>,
    /// Contents that may be refreshed, by name; `*` stands for any part of a name. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(max = 64), inner(length(min = 1, max = 255)))]
    pub names: Option<Vec<String>>,
    /// Shared schedules of a Tableau Server that `serverSchedule` may name; `*` stands for any part of a name. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(max = 64), inner(length(min = 1, max = 255)))]
    pub server_schedules: Option<Vec<String>>,
}

impl ClusterPrefectWorkspace {
    /// The connection without its rules: it is used as one of a namespace is.
    pub fn connection(&self) -> PrefectWorkspace {
        PrefectWorkspace {
            metadata: self.metadata.clone(),
            spec: self.spec.connection.clone(),
            status: self.status.clone(),
        }
    }
}

impl ClusterTableauSite {
    /// The connection without its rules: it is used as one of a namespace is.
    pub fn connection(&self) -> TableauSite {
        TableauSite {
            metadata: self.metadata.clone(),
            spec: self.spec.connection.clone(),
            status: self.status.clone(),
        }
    }
}

standard_status_of!(ClusterPrefectWorkspace, PrefectWorkspaceStatus);
standard_status_of!(ClusterTableauSite, TableauSiteStatus);
