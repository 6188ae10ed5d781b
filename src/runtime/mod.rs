//! What any operator needs around its work: the lease, metrics, the admin endpoint, logs, an orderly end. Knows nothing of Prefect,
//! Tableau, or what Feedwater decides.

pub mod admin;
pub mod instance;
pub mod lease;
pub mod lease_store;
pub mod metrics;
pub mod shutdown;
pub mod telemetry;
