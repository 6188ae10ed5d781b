//! `TableauSite`: which site, and who we are there.

use super::common::{CaBundleRef, Duration, SecretRef, is_unseen, standard_status, unseen};
use super::prefect_workspace::SecretAuth;
use super::refresh_window::{Edition, RefreshDefaults, SiteLimits};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which Tableau site, who we are there, and how often it is read.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "feedwater.dev",
    version = "v1alpha1",
    kind = "TableauSite",
    plural = "tableausites",
    singular = "tableausite",
    shortname = "tsite",
    category = "feedwater",
    namespaced,
    status = "TableauSiteStatus",
    derive = "PartialEq",
    doc = "A TableauSite is a connection to one site of Tableau Cloud or Tableau Server, used by the resources of its namespace.",
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
#[x_kube(validation = Rule::new("has(self.siteContentUrl) == has(oldSelf.siteContentUrl) && (!has(self.siteContentUrl) || self.siteContentUrl == oldSelf.siteContentUrl)").message("siteContentUrl is immutable: make another connection for another site"))]
pub struct TableauSiteSpec {
    /// Base URL of the server or Cloud pod without `/api`, for example `https://10ay.online.tableau.com`. https to public addresses; anything
    /// else only for hosts the operator is started with (`--allowed-hosts`).
    #[schemars(length(min = 8, max = 1024), regex(pattern = r"^https?://[^\s]+$"))]
    pub server_url: String,
    /// Content URL of the site: the part after `/site/` in the browser's address. Immutable. Unset: the Default site.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    pub site_content_url: Option<String>,
    /// Who we are: exactly one way to sign in.
    pub auth: TableauAuth,
    /// A Secret whose every key is a header that is sent to Tableau, for example for a proxy in front of the server. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SecretRef")]
    pub headers_secret_ref: Option<SecretRef>,
    /// Certificates of a private authority, believed in beside the public ones, for Tableau and for the identity provider. Unset: the public
    /// ones only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CaBundleRef")]
    pub ca_bundle_ref: Option<CaBundleRef>,
    /// Cloud or Server: how schedules are kept and which limits hold. Unset: Cloud for hosts under `online.tableau.com`, else Server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Edition")]
    pub edition: Option<Edition>,
    /// How much is asked of the site. Unset: what its fields say when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<SiteLimits>,
    /// How often the site is read. 1s to 10m. Unset: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')").message("pollInterval must be between 1s and 10m"))]
    pub poll_interval: Option<Duration>,
    /// `true`: no call goes to this site once the session is signed out, and nothing that needs it goes on; what Tableau runs goes on there.
    /// Unset: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub suspend: Option<bool>,
    /// What holds where an ExtractRefresh of this site is silent. Unset: what the fields of ExtractRefresh say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_defaults: Option<RefreshDefaults>,
}

/// Exactly one way to sign in.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.personalAccessToken), has(self.connectedApp), has(self.oauthTrust)].filter(x, x).size() == 1").message("set exactly one of personalAccessToken, connectedApp, oauthTrust"))]
pub struct TableauAuth {
    /// Personal access token. Secret keys: `name`, `secret`. Tableau ends the older session when the same token signs in twice, so use it
    /// nowhere else. Unset: another way is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personal_access_token: Option<SecretAuth>,
    /// Connected app with direct trust: Feedwater makes the tokens. Needs REST API 3.17. Unset: another way is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ConnectedAppAuth")]
    pub connected_app: Option<ConnectedAppAuth>,
    /// Connected app with OAuth 2.0 trust: the company's identity provider makes the tokens. Needs REST API 3.17. Unset: another way is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OAuthTrust")]
    pub oauth_trust: Option<OAuthTrust>,
}

/// Signs in with a token that Feedwater makes with a secret of the connected app.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConnectedAppAuth {
    /// The Tableau user to sign in as, as Tableau writes it (case counts); on Cloud an e-mail address.
    #[schemars(length(min = 1, max = 255))]
    pub username: String,
    /// Secret keys: `clientId` of the app, `secretId` and `secretValue` of one of its secrets.
    pub secret_ref: SecretRef,
}

/// Signs in with a token of an identity provider, asked for by OAuth client credentials.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretRef) != has(self.serviceAccountToken)").message("set exactly one of secretRef, serviceAccountToken"))]
pub struct OAuthTrust {
    /// The Tableau user to sign in as; the provider puts it into claim `sub` of its tokens, and it is held against that.
    #[schemars(length(min = 1, max = 255))]
    pub username: String,
    /// The provider's token endpoint, for example `https://acme.okta.com/oauth2/default/v1/token`. https to public addresses; anything else only
    /// for hosts the operator is started with (`--allowed-hosts`).
    #[schemars(length(min = 8, max = 1024), regex(pattern = r"^https?://[^\s]+$"))]
    pub token_url: String,
    /// Client id and secret, sent as `client_secret_basic`. Secret keys: `clientId`, `clientSecret`. Unset: `serviceAccountToken` says who we are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SecretRef")]
    pub secret_ref: Option<SecretRef>,
    /// Without a secret: the token of the operator's own `ServiceAccount` as client assertion. Unset: `secretRef` says who we are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServiceAccountToken")]
    pub service_account_token: Option<ServiceAccountToken>,
    /// What the provider is asked for (OAuth `scope`), where it wants something else than Tableau's scopes by name, for example
    /// `api://feedwater/.default` for Entra ID. Unset: every scope that is used, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "Vec<String>",
        length(min = 1, max = 16),
        inner(length(min = 1, max = 255), regex(pattern = r"^[!#-\[\]-~]+$"))
    )]
    pub scopes: Option<Vec<String>>,
}

/// A token that the kubelet keeps fresh in a file of the operator's pod.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountToken {
    /// Audience of the token. The operator must be started with one of this audience for this `tokenUrl` and this namespace
    /// (`--service-account-token`).
    #[schemars(length(min = 1, max = 255))]
    pub audience: String,
    /// Client id, where the provider does not know the client by the token alone, as Entra ID. Unset: none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 255))]
    pub client_id: Option<String>,
}

/// What is known about the connection.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TableauSiteStatus {
    /// Generation of the spec that this status speaks about; -1 = none yet.
    #[serde(default = "unseen", skip_serializing_if = "is_unseen")]
    pub observed_generation: i64,
    /// LUID of the site behind the URL; another one there later is `SiteChanged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub site_luid: Option<String>,
    /// Version of Tableau's REST API that is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub rest_api_version: Option<String>,
    /// Keyed hash of the credential that last signed in: tells a revoked token from one that never worked. Not the credential, and of no use
    /// without the cluster's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub signed_in_with: Option<String>,
    /// `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl Default for TableauSiteStatus {
    fn default() -> Self {
        Self {
            observed_generation: unseen(),
            site_luid: None,
            rest_api_version: None,
            signed_in_with: None,
            conditions: Vec::new(),
        }
    }
}

standard_status!(TableauSite, TableauSiteStatus);
