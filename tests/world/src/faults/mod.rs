//! The kill matrix: the real operator is killed at every call that it makes, and what is there in the end is held against a run without.
//!
//! A reference run of each [`Workload`] tells its calls. Then, for each of them and for each of three moments (before the call, after it was
//! applied with the answer withheld, after the answer), a run in a fresh namespace: SIGKILL at that point, a new start, and once nothing happens
//! any more the end is compared by the [oracle]: state, calls, refreshes in the simulator's truth, runs and deployments in Prefect,
//! secrets anywhere, panics.

mod admin;
mod matrix;
mod observe;
mod oracle;
mod plan;
mod point;
mod refreshes;
mod report;
mod run;
mod stage;
mod workload;

use std::path::PathBuf;

pub use matrix::{Matrix, Options, Subset, usual_jobs};
pub use oracle::Finding;
pub use point::{Case, Key, NoCase, Point, System};
pub use report::Report;
pub use workload::Workload;

/// Why a run, or the whole matrix, could not be done. What a run finds is no such error: see [`Finding`].
#[derive(Debug, thiserror::Error)]
pub enum FaultsError {
    /// The world does not run.
    #[error(transparent)]
    World(#[from] crate::WorldError),
    /// kubectl failed.
    #[error(transparent)]
    Kubectl(#[from] crate::cluster::KubectlError),
    /// The operator does not run.
    #[error(transparent)]
    Operator(#[from] crate::operator::OperatorError),
    /// No Prefect server could be started.
    #[error(transparent)]
    Server(#[from] crate::prefect::PrefectError),
    /// More runs at once than there are Prefect servers.
    #[error("more runs at once than Prefect servers")]
    NoPrefect,
    /// Prefect refused what a person asked of it.
    #[error(transparent)]
    Prefect(#[from] crate::prefect::RestError),
    /// No answer from the kube-apiserver.
    #[error("kube-apiserver: {0}")]
    Http(#[from] reqwest::Error),
    /// The kube-apiserver refused what its administrator asked of it.
    #[error("kube-apiserver answered {status} to {what}: {said}")]
    Kubernetes {
        /// The call.
        what: String,
        /// Its status.
        status: u16,
        /// The answer's body.
        said: String,
    },
    /// The administrator's kubeconfig or the manifests cannot be read.
    #[error("the administrator's kubeconfig or the manifests cannot be read")]
    Kubeconfig,
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Something did not come to be before any kill.
    #[error("{what}: not in time; see {}", directory.display())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// Where the run's log is.
        directory: PathBuf,
    },
    /// Two runs without kills ended differently.
    #[error("`{workload}` without kills does not always end the same: {differences}")]
    NotRepeatable {
        /// The workload.
        workload: Workload,
        /// What differed.
        differences: String,
    },
}
