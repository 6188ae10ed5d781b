//! Data quality warnings that Tableau shows on published data sources, and on what is made of them.

use super::ids::WarningId;

/// The type of those that say that data is old; what else there is, only people set.
pub const STALE: &str = "STALE";

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataQualityWarning {
    /// The warning.
    pub id: WarningId,
    /// Its type, such as [`STALE`].
    pub kind: String,
    /// What it says; people may change that.
    pub message: String,
}
