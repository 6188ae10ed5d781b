//! What there is to know about a running world, as one JSON object.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cluster::Kubectl;

/// The variable that tells tests where the [`Info`] of the shared world lies.
pub const VARIABLE: &str = "FEEDWATER_WORLD";

/// Where everything of a running world is. Parts that were left out are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// The kubeconfig of the cluster's administrator.
    pub kubeconfig: PathBuf,
    /// The kubectl that fits the cluster.
    pub kubectl: PathBuf,
    /// The base of Prefect's REST API; it ends with `/api`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefect_api_url: Option<String>,
    /// The work pool that a worker polls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work_pool: Option<String>,
    /// The Tableau simulator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tableau_url: Option<String>,
    /// Where the simulator is scripted and its truth is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tableau_admin_url: Option<String>,
    /// The kube-apiserver's audit log, one JSON object a line.
    pub audit_log: PathBuf,
    /// The operator's log, one JSON object a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_log: Option<PathBuf>,
    /// The operator's metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_metrics_url: Option<String>,
    /// The folder of the Python flows, as the worker sees it.
    pub flows: PathBuf,
    /// Everything the world writes lies here.
    pub directory: PathBuf,
}

/// There is no shared world, or it cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum NoWorld {
    /// The tests were started without one.
    #[error(
        "this test needs the world, and {VARIABLE} is not set: run it with `cargo world test` (arguments go to nextest, such as a test's name)"
    )]
    NotStarted,
    /// The variable is there, the file is not.
    #[error("{VARIABLE} is {}, which cannot be read: {source}", path.display())]
    Unreadable {
        /// The variable's value.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Info {
    /// The world that `cargo world test` has started for all tests.
    pub fn shared() -> Result<Self, NoWorld> {
        let path = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).ok_or(NoWorld::NotStarted)?;
        Self::read(Path::new(&path))
    }

    /// Reads what [`Self::write`] wrote.
    pub fn read(path: &Path) -> Result<Self, NoWorld> {
        std::fs::read(path)
            .and_then(|text| serde_json::from_slice(&text).map_err(Into::into))
            .map_err(|source| NoWorld::Unreadable { path: path.to_owned(), source })
    }

    /// Writes it so that a reader sees all of it or nothing.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let fresh = path.with_extension("fresh");
        std::fs::write(&fresh, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(fresh, path)
    }

    /// kubectl as the cluster's administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubectl, &self.kubeconfig)
    }
}
