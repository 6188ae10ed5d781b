//! When refreshes may start, and how many: windows, priority, limits.

use super::common::Duration;
use super::extract_refresh::{Freshness, Retry};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A span of time that begins by a cron expression.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RefreshWindow {
    /// Name of this window, used in messages.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// Deny: no refresh starts inside. Allow: refreshes start only inside this or another Allow window. Deny wins.
    #[schemars(with = "WindowPolicy")]
    pub policy: WindowPolicy,
    /// When it begins: a cron expression of five fields, read in `timeZone`, for example `0 6 * * 1-5`. A beginning that daylight saving skips
    /// counts at the moment the clock jumps; one that it shows twice counts twice.
    #[schemars(length(min = 9, max = 255))]
    pub schedule: String,
    /// How long it lasts, in real time. 1m to 168h.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')").message("duration must be between 1m and 168h"))]
    pub duration: Duration,
    /// IANA time zone of `schedule`, for example `Europe/Berlin`. Unset: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

/// What a window does.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowPolicy {
    /// No refresh starts inside.
    Deny,
    /// Refreshes start only inside.
    Allow,
}

/// Which Tableau it is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Edition {
    /// Tableau Cloud.
    Cloud,
    /// Tableau Server.
    Server,
}

/// How much is asked of a site. Connections to one site share one budget; of those that are let in the smallest limit counts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct SiteLimits {
    /// Refreshes started in any sixty minutes, 1 to 10000. Unset: 60 on Tableau Cloud, which refuses more; none on Tableau Server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub refreshes_per_hour: Option<i32>,
    /// Refreshes of ours queued or running at once, 1 to 1000. Unset: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent_refreshes: Option<i32>,
    /// Questions about jobs in any twenty-four hours, 100 to 1000000; near it jobs are asked about more seldom. Unset: 20000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 1_000_000))]
    pub job_queries_per_day: Option<i32>,
}

/// What holds for every ExtractRefresh of the site that is silent about it: whole fields, never merged deeper.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RefreshDefaults {
    /// How old data may be. Unset: `Fresh` does not age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
    /// What happens after a failed refresh. Unset: three more tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Longest time a refresh may run before it is cancelled, counted from its start. 1m to 48h. Unset: 2h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('48h')").message("timeout must be between 1m and 48h"))]
    pub timeout: Option<Duration>,
    /// Place in the site's budget, 0 to 100. Unset: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub priority: Option<i32>,
    /// When refreshes may start; these hold besides those of an ExtractRefresh. Unset: at any time, as with `[]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub refresh_windows: Option<Vec<RefreshWindow>>,
}
