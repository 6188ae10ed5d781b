//! "Look again", by kind. A wake carries no data.

use super::index::Dependent;
use crate::api::{
    ClusterPrefectWorkspace, ClusterTableauSite, ExtractRefresh, FlowDeployment, PrefectWorkspace,
    TableauSite,
};
use crate::model::ids::ObjectName;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The sending ends.
#[derive(Clone)]
pub struct Wakes {
    flows: UnboundedSender<ObjectRef<FlowDeployment>>,
    refreshes: UnboundedSender<ObjectRef<ExtractRefresh>>,
    workspaces: UnboundedSender<ObjectRef<PrefectWorkspace>>,
    sites: UnboundedSender<ObjectRef<TableauSite>>,
    cluster_workspaces: UnboundedSender<ObjectRef<ClusterPrefectWorkspace>>,
    cluster_sites: UnboundedSender<ObjectRef<ClusterTableauSite>>,
}

/// The receiving ends, one per controller.
pub struct Wakeups {
    /// For the controller of `FlowDeployment`.
    pub flows: UnboundedReceiver<ObjectRef<FlowDeployment>>,
    /// For the controller of `ExtractRefresh`.
    pub refreshes: UnboundedReceiver<ObjectRef<ExtractRefresh>>,
    /// For the controller of `PrefectWorkspace`.
    pub workspaces: UnboundedReceiver<ObjectRef<PrefectWorkspace>>,
    /// For the controller of `TableauSite`.
    pub sites: UnboundedReceiver<ObjectRef<TableauSite>>,
    /// For the controller of `ClusterPrefectWorkspace`.
    pub cluster_workspaces: UnboundedReceiver<ObjectRef<ClusterPrefectWorkspace>>,
    /// For the controller of `ClusterTableauSite`.
    pub cluster_sites: UnboundedReceiver<ObjectRef<ClusterTableauSite>>,
}

impl Wakes {
    /// Both ends.
    pub fn new() -> (Self, Wakeups) {
        let (flows, flows_rx) = unbounded_channel();
        let (refreshes, refreshes_rx) = unbounded_channel();
        let (workspaces, workspaces_rx) = unbounded_channel();
        let (sites, sites_rx) = unbounded_channel();
        let (cluster_workspaces, cluster_workspaces_rx) = unbounded_channel();
        let (cluster_sites, cluster_sites_rx) = unbounded_channel();
        (
            Self { flows, refreshes, workspaces, sites, cluster_workspaces, cluster_sites },
            Wakeups {
                flows: flows_rx,
                refreshes: refreshes_rx,
                workspaces: workspaces_rx,
                sites: sites_rx,
                cluster_workspaces: cluster_workspaces_rx,
                cluster_sites: cluster_sites_rx,
            },
        )
    }

    // A closed channel means that its controller has ended, and then there is nobody to wake.

    /// Wakes a dependent.
    pub fn dependent(&self, who: &Dependent) {
        match who {
            Dependent::Flow(name) => {
                let _ = self.flows.send(reference(name));
            }
            Dependent::Refresh(name) => {
                let _ = self.refreshes.send(reference(name));
            }
        }
    }

    /// Wakes a connection to Prefect.
    pub fn workspace(&self, name: &ObjectName) {
        if name.is_cluster() {
            let _ = self.cluster_workspaces.send(reference(name));
        } else {
            let _ = self.workspaces.send(reference(name));
        }
    }

    /// Wakes a connection to Tableau.
    pub fn site(&self, name: &ObjectName) {
        if name.is_cluster() {
            let _ = self.cluster_sites.send(reference(name));
        } else {
            let _ = self.sites.send(reference(name));
        }
    }
}

/// An object as kube names it.
pub fn reference<K: kube::runtime::reflector::Lookup<DynamicType = ()>>(name: &ObjectName) -> ObjectRef<K> {
    let reference = ObjectRef::new(&name.name);
    if name.is_cluster() { reference } else { reference.within(&name.namespace) }
}
