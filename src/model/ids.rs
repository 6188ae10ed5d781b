//! Identities. A newtype each, so that a run is never taken for its state.

use crate::api::{SiteKind, SiteRef, WorkspaceKind, WorkspaceRef};
use std::fmt;
use std::sync::Arc;

/// Most characters of an id of Tableau or Prefect in a status; theirs have 36.
pub const LONGEST: usize = 64;

/// Whether such a service can have answered with this id: what a status cannot keep would be asked for anew for ever.
pub fn is_id(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

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
    /// Its namespace; empty for an object of the cluster.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ObjectName {
    /// Whether it is in no namespace.
    pub fn is_cluster(&self) -> bool {
        self.namespace.is_empty()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_cluster() {
            return write!(f, "{CLUSTER}{}", self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A connection as a resource names it: one of its own namespace, or one of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionName {
    cluster: bool,
    name: Arc<str>,
}

/// Before the name of a connection of the cluster, where one word has to say which it is: no object has a colon in its name.
const CLUSTER: &str = "cluster:";

impl ConnectionName {
    /// One of the namespace of whoever names it.
    pub fn namespaced(name: &str) -> Self {
        Self { cluster: false, name: name.into() }
    }

    /// One of the cluster.
    pub fn cluster(name: &str) -> Self {
        Self { cluster: true, name: name.into() }
    }

    /// What this object is called by those who use it.
    pub fn of(object: &ObjectName) -> Self {
        Self { cluster: object.is_cluster(), name: object.name.clone() }
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    pub fn parse(text: &str) -> Self {
        text.strip_prefix(CLUSTER).map_or_else(|| Self::namespaced(text), Self::cluster)
    }

    /// The object that somebody of this namespace means.
    pub fn seen_from(&self, namespace: &Arc<str>) -> ObjectName {
        let namespace = if self.cluster { "".into() } else { namespace.clone() };
        ObjectName { namespace, name: self.name.clone() }
    }

    /// Whether it is one of the cluster.
    pub fn is_cluster(&self) -> bool {
        self.cluster
    }

    /// Kind and name, of one to Prefect.
    pub fn workspace(&self) -> String {
        format!("{}PrefectWorkspace `{}`", if self.cluster { "Cluster" } else { "" }, self.name)
    }

    /// Kind and name, of one to Tableau.
    pub fn site(&self) -> String {
        format!("{}TableauSite `{}`", if self.cluster { "Cluster" } else { "" }, self.name)
    }

    /// Where it would have to be, after "does not exist".
    pub fn place(&self) -> &'static str {
        if self.cluster { "" } else { " in this namespace" }
    }
}

/// One word: `prod`, or `cluster:prod`.
impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.cluster { CLUSTER } else { "" }, self.name)
    }
}

impl From<&WorkspaceRef> for ConnectionName {
    fn from(reference: &WorkspaceRef) -> Self {
        match reference.kind {
            None | Some(WorkspaceKind::PrefectWorkspace) => Self::namespaced(&reference.name),
            Some(WorkspaceKind::ClusterPrefectWorkspace) => Self::cluster(&reference.name),
        }
    }
}

impl From<&SiteRef> for ConnectionName {
    fn from(reference: &SiteRef) -> Self {
        match reference.kind {
            None | Some(SiteKind::TableauSite) => Self::namespaced(&reference.name),
            Some(SiteKind::ClusterTableauSite) => Self::cluster(&reference.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_a_status_can_keep() {
        let long = "a".repeat(64);
        for good in ["9f9e9d9c-8b8e-8f8e-7d7e-7b7c7d7e7f7a", "j1", &long] {
            assert!(is_id(good), "{good}");
        }
        for bad in ["", "a b", "ä", "a\n", &format!("{long}a")] {
            assert!(!is_id(bad), "{bad}");
        }
    }

    #[test]
    fn a_connection_is_one_word_and_comes_back_from_it() {
        for (one, word, object) in [
            (ConnectionName::namespaced("prod"), "prod", "finance/prod"),
            (ConnectionName::cluster("prod"), "cluster:prod", "cluster:prod"),
        ] {
            assert_eq!(one.to_string(), word);
            assert_eq!(ConnectionName::parse(word), one);
            let seen = one.seen_from(&"finance".into());
            assert_eq!(seen.to_string(), object);
            assert_eq!(ConnectionName::of(&seen), one);
        }
    }
}
