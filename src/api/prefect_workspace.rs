//! `PrefectWorkspace`: where Prefect is and who we are there.

use super::common::{CaBundleRef, Duration, SecretRef, Time, is_unseen, standard_status, unseen};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a Prefect API is, who we are there, and how often it is read.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "feedwater.dev",
    version = "v1alpha1",
    kind = "PrefectWorkspace",
    plural = "prefectworkspaces",
    singular = "prefectworkspace",
    shortname = "pws",
    category = "feedwater",
    namespaced,
    status = "PrefectWorkspaceStatus",
    derive = "PartialEq",
    doc = "A PrefectWorkspace is a connection to one Prefect workspace, used by the resources of its namespace.",
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
#[x_kube(
    validation = Rule::new("[has(self.apiUrl), has(self.cloud)].filter(x, x).size() == 1").message("set exactly one of apiUrl, cloud"),
    validation = Rule::new("has(self.cloud) == has(oldSelf.cloud) && (!has(self.cloud) || self.cloud == oldSelf.cloud)").message("cloud is immutable: make another connection for another workspace")
)]
pub struct PrefectWorkspaceSpec {
    /// Base URL of the API of a self-hosted server with its `/api`, for example `https://prefect.acme.internal/api`. https to public addresses;
    /// anything else only for hosts the operator is started with (`--allowed-hosts`). Unset: `cloud` says where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 8, max = 1024), regex(pattern = r"^https?://[^\s]+$"))]
    pub api_url: Option<String>,
    /// A workspace of Prefect Cloud. Immutable. Unset: `apiUrl` says where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PrefectCloud")]
    pub cloud: Option<PrefectCloud>,
    /// Who we are. Unset: no credentials are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<PrefectAuth>,
    /// A Secret whose every key is a header that is sent along, for example for a proxy in front of the server. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SecretRef")]
    pub headers_secret_ref: Option<SecretRef>,
    /// Certificates of a private authority, believed in beside the public ones. Unset: the public ones only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CaBundleRef")]
    pub ca_bundle_ref: Option<CaBundleRef>,
    /// How often the workspace is read; events shorten the wait. 1s to 10m. Unset: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')").message("pollInterval must be between 1s and 10m"))]
    pub poll_interval: Option<Duration>,
    /// How much is asked of the server. Unset: what its fields say when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PrefectLimits")]
    pub limits: Option<PrefectLimits>,
    /// `true`: no call goes to this workspace, and nothing that needs it goes on. Unset: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub suspend: Option<bool>,
    /// Whether each refresh of an extract that a flow of this workspace caused is shown there, as a run of the flow `tableau-extract-refresh` below
    /// the flow's own run. Enabled: it is; Disabled: nothing of refreshes is written to Prefect. Unset: Enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RefreshReports")]
    pub refresh_reports: Option<RefreshReports>,
}

/// Whether refreshes are shown in Prefect.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshReports {
    /// They are.
    Enabled,
    /// They are not: nothing of them is written to Prefect.
    Disabled,
}

/// Names a workspace of Prefect Cloud: both are in its address in the browser, `https://app.prefect.cloud/account/…/workspace/…`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PrefectCloud {
    /// Id of the account, a UUID.
    #[schemars(length(max = 36), regex(pattern = UUID))]
    pub account_id: String,
    /// Id of the workspace, a UUID.
    #[schemars(length(max = 36), regex(pattern = UUID))]
    pub workspace_id: String,
}

const UUID: &str = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";

/// How much is asked of a Prefect server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PrefectLimits {
    /// Most writes in flight at once to the server. It begins with one and adapts below this; of several connections to one server the lowest
    /// of those that are let in counts. 1 to 32. Unset: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 32))]
    pub max_concurrent_writes: Option<i32>,
}

/// Exactly one way to sign in.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.basic), has(self.apiKey)].filter(x, x).size() == 1").message("set exactly one of basic, apiKey"))]
pub struct PrefectAuth {
    /// Basic auth of a self-hosted server (`PREFECT_SERVER_API_AUTH_STRING`). Secret keys: `username`, `password`.
    /// Unset: another way is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<SecretAuth>,
    /// API key, sent as a bearer token. Secret key: `apiKey`. Unset: another way is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretAuth>,
}

/// Credentials taken from a Secret.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretAuth {
    /// The Secret that holds the credentials.
    pub secret_ref: SecretRef,
}

/// What is known about the connection.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PrefectWorkspaceStatus {
    /// Generation of the spec that this status speaks about; -1 = none yet.
    #[serde(default = "unseen", skip_serializing_if = "is_unseen")]
    pub observed_generation: i64,
    /// Version of the Prefect server, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// What was found out about the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<PrefectServer>,
    /// When the server first answered with the present credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_since: Option<Time>,
    /// `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What was found out about a server, and is acted on.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PrefectServer {
    /// Who runs it: Cloud, which tells no version, or `SelfHosted`.
    pub hosting: PrefectHosting,
    /// Whether it asks for CSRF tokens (`PREFECT_SERVER_CSRF_PROTECTION_ENABLED`); they are sent then.
    pub csrf: bool,
    /// How completions are learnt of: Live, at once by the websocket of events; Polling, once in `pollInterval`, since it cannot be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PrefectEvents")]
    pub events: Option<PrefectEvents>,
}

/// Who runs a Prefect server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefectHosting {
    /// Prefect.
    Cloud,
    /// Somebody else.
    SelfHosted,
}

/// How completions are learnt of.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefectEvents {
    /// At once, by the websocket of events.
    Live,
    /// Once in `pollInterval`: the websocket cannot be opened.
    Polling,
}

impl Default for PrefectWorkspaceStatus {
    fn default() -> Self {
        Self {
            observed_generation: unseen(),
            version: None,
            server: None,
            connected_since: None,
            conditions: Vec::new(),
        }
    }
}

standard_status!(PrefectWorkspace, PrefectWorkspaceStatus);
