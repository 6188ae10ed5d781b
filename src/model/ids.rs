//! Identities. A newtype each, so that a run is never taken for its state.

use std::fmt;
use std::sync::Arc;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps the text of the identity.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }
            /// The text of the identity.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &self.0)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }
    };
}

id!(
    /// A Prefect flow (UUID).
    FlowId
);
id!(
    /// A Prefect deployment (UUID).
    DeploymentId
);
id!(
    /// A schedule of a Prefect deployment (UUID).
    ScheduleId
);
id!(
    /// A Prefect flow run (UUID).
    RunId
);
id!(
    /// A Prefect task run (UUID).
    TaskRunId
);
id!(
    /// A state of a Prefect flow run (UUID): the identity of an occasion.
    StateId
);
id!(
    /// A Tableau site (LUID).
    SiteLuid
);
id!(
    /// A Tableau data source or workbook (LUID).
    Luid
);
id!(
    /// A Tableau project (LUID).
    ProjectId
);
id!(
    /// A Tableau background job (LUID).
    JobId
);
id!(
    /// A Tableau extract refresh task (LUID).
    TaskId
);
id!(
    /// A shared schedule of a Tableau Server (LUID).
    ServerScheduleId
);
id!(
    /// A data quality warning of Tableau (LUID).
    WarningId
);

/// Flow name and deployment name: what names a deployment within a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeploymentName {
    /// Name of the flow.
    pub flow: Arc<str>,
    /// Name of the deployment.
    pub deployment: Arc<str>,
}

impl fmt::Display for DeploymentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.flow, self.deployment)
    }
}

/// Namespace and name of a resource of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
