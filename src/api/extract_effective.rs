//! What an `ExtractRefresh` comes to where its spec is silent.

use super::common::Duration;
use super::data_quality_warning::DataQualityWarning;
use super::extract_refresh::RefreshMode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Values in force where the spec is silent.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// Name of the target; its LUID until the name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub target: Option<String>,
    /// `All`, `Any` or a number.
    #[schemars(length(max = 8))]
    pub require: String,
    /// Full, Incremental or `IncrementalOrFull`.
    pub refresh_type: RefreshMode,
    /// How often a failed refresh is tried again.
    pub retry_limit: i32,
    /// Longest time a refresh may run.
    pub timeout: Duration,
    /// Place in the site's budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub priority: Option<i32>,
    /// Age from which `Fresh` is Late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_after: Option<Duration>,
    /// Age from which `Fresh` is Stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_after: Option<Duration>,
    /// Whether Tableau shows that data is stale: Never, or `WhenStale`; absent: Never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DataQualityWarning")]
    pub data_quality_warning: Option<DataQualityWarning>,
}
