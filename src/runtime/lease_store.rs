//! Where a lease is kept: the API server, or a fake in tests.

use async_trait::async_trait;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};

/// Reads and writes one lease.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// The lease, if there is one.
    async fn get(&self) -> Result<Option<Lease>, StoreError>;
    /// Creates it; [`StoreError::Conflict`] when it exists by now. The store names it.
    async fn create(&self, lease: &Lease) -> Result<Lease, StoreError>;
    /// Replaces it under its `resourceVersion`; [`StoreError::Conflict`] when another write came between.
    async fn replace(&self, lease: &Lease) -> Result<Lease, StoreError>;
}

/// What went wrong with a lease.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote it meanwhile.
    #[error("the lease was written by another")]
    Conflict,
    /// No answer in time: the write may or may not have happened.
    #[error("no answer came in time")]
    NoAnswer,
    /// The API server refuses: RBAC, or something in the lease that it does not take.
    #[error("the API server refuses ({code}): {message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// What it says.
        message: String,
    },
    /// The API server cannot be reached, or its answer not be read.
    #[error(transparent)]
    Kube(kube::Error),
}

impl From<kube::Error> for StoreError {
    fn from(error: kube::Error) -> Self {
        match error {
            // Of either reason: `AlreadyExists`, `Conflict`.
            kube::Error::Api(status) if status.code == 409 => Self::Conflict,
            kube::Error::Api(status) => Self::Refused { code: status.code, message: status.message },
            error => Self::Kube(error),
        }
    }
}

/// A `Lease` of the API server.
#[derive(Clone, Debug)]
pub struct KubeLease {
    api: Api<Lease>,
    name: String,
}

impl KubeLease {
    /// The lease of this name in this namespace. The client must not repeat writes by itself.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned() }
    }
}

#[async_trait]
impl LeaseStore for KubeLease {
    async fn get(&self) -> Result<Option<Lease>, StoreError> {
        Ok(self.api.get_opt(&self.name).await?)
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, StoreError> {
        let mut lease = lease.clone();
        lease.metadata.name = Some(self.name.clone());
        Ok(self.api.create(&PostParams::default(), &lease).await?)
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, StoreError> {
        Ok(self.api.replace(&self.name, &PostParams::default(), lease).await?)
    }
}
