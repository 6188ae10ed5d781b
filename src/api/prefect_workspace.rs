//! `PrefectWorkspace`: where Prefect is and who we are there.

use super::common::{Duration, SecretRef, Time, is_unseen, standard_status, unseen};
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
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.apiUrl"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
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
pub struct PrefectWorkspaceSpec {
    /// Base URL of the API with its `/api`, for example `https://prefect.acme.internal/api`. https to public addresses; anything else only
    /// for hosts the operator is started with (`--allowed-hosts`).
    #[schemars(length(min = 8, max = 1024), regex(pattern = r"^https?://[^\s]+$"))]
    pub api_url: String,
    /// Who we are. Unset: no credentials are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<PrefectAuth>,
    /// How often the workspace is read; events shorten the wait. 1s to 10m. Unset: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')").message("pollInterval must be between 1s and 10m"))]
    pub poll_interval: Option<Duration>,
}

/// Exactly one way to sign in.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.basic), has(self.apiKey)].filter(x, x).size() == 1").message("set exactly one of basic, apiKey"))]
pub struct PrefectAuth {
    /// Basic auth of a self-hosted server (`PREFECT_SERVER_API_AUTH_STRING`). Secret keys: `username`, `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<SecretAuth>,
    /// API key, sent as a bearer token. Secret key: `apiKey`.
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
    /// When the server first answered with the present credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_since: Option<Time>,
    /// `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl Default for PrefectWorkspaceStatus {
    fn default() -> Self {
        Self { observed_generation: unseen(), version: None, connected_since: None, conditions: Vec::new() }
    }
}

standard_status!(PrefectWorkspace, PrefectWorkspaceStatus);
