//! Which installation this is: the part of our mark on Prefect deployments that tells two clusters apart.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};

/// The UID of the `kube-system` Namespace: it lives as long as the cluster and needs no configuration.
///
/// # Errors
/// It may not be read (an operator of one namespace usually may not), or the API server does not answer.
pub async fn of_cluster(client: Client) -> Result<String, InstanceError> {
    match Api::<Namespace>::all(client).get("kube-system").await {
        Ok(namespace) => namespace.uid().ok_or(InstanceError::Unknown),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Err(InstanceError::Forbidden),
        Err(kube::Error::Api(status)) if status.is_not_found() => Err(InstanceError::Unknown),
        Err(error) => Err(InstanceError::Kube(error)),
    }
}

/// Why the installation has no name.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// RBAC.
    #[error(
        "the Namespace kube-system may not be read; give the installation a name that no other has with --instance"
    )]
    Forbidden,
    /// No such Namespace, or one without UID.
    #[error(
        "the cluster has no Namespace kube-system; give the installation a name that no other has with --instance"
    )]
    Unknown,
    /// The API server.
    #[error("the Namespace kube-system cannot be read: {0}")]
    Kube(#[source] kube::Error),
}
