//! Tableau's own data quality warning, which tells those who look at dashboards that data is stale.

use super::common::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether Tableau shows that data is stale.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataQualityWarning {
    /// No warning is set.
    Never,
    /// While `Fresh` is False with the reason Stale.
    WhenStale,
}

/// What is known of our warning on a data source.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WarningStatus {
    /// Where it stands. Waiting: there is none yet, and it is tried again. Setting: it is being set, and may be there. Set: it is there. Foreign: somebody
    /// else's is there, which stays. Refused: Tableau refuses it, and it is not tried again while this data is stale.
    pub state: WarningState,
    /// The TableauSite through which it is set.
    #[schemars(length(max = 261))]
    pub site: String,
    /// LUID of the data source that it is on.
    #[schemars(length(max = 64))]
    pub luid: String,
    /// Identity of the intent, until it is known what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub intent: Option<String>,
    /// Id of the warning in Tableau.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub id: Option<String>,
    /// Why Tableau refuses to set it, or to take it away: `PermissionDenied`, `MissingScope` or `RemoteRejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub refused: Option<String>,
    /// Salted hash of the credential that was refused: another one is tried at once. Of no use to sign in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub refused_with: Option<String>,
    /// Tries in a row that did not succeed: they only lengthen the wait.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub tries: i32,
    /// It is not tried again before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
}

/// Where a warning of ours stands.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningState {
    /// There is none yet; it is tried again.
    Waiting,
    /// It is being set, and may be there.
    Setting,
    /// It is there.
    Set,
    /// Somebody else's is there, which stays; ours is not set while this data is stale.
    Foreign,
    /// Tableau refuses it; it is not tried again while this data is stale.
    Refused,
}
