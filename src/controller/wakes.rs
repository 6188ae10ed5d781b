//! "Look again", by kind. A wake carries no data.

use super::index::Dependent;
use crate::api::{ExtractRefresh, FlowDeployment, PrefectWorkspace, TableauSite};
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
}

impl Wakes {
    /// Both ends.
    pub fn new() -> (Self, Wakeups) {
        let (flows, flows_rx) = unbounded_channel();
        let (refreshes, refreshes_rx) = unbounded_channel();
        let (workspaces, workspaces_rx) = unbounded_channel();
        let (sites, sites_rx) = unbounded_channel();
        (
            Self { flows, refreshes, workspaces, sites },
            Wakeups { flows: flows_rx, refreshes: refreshes_rx, workspaces: workspaces_rx, sites: sites_rx },
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

    /// Wakes a `PrefectWorkspace`.
    pub fn workspace(&self, name: &ObjectName) {
        let _ = self.workspaces.send(reference(name));
    }

    /// Wakes a `TableauSite`.
    pub fn site(&self, name: &ObjectName) {
        let _ = self.sites.send(reference(name));
    }
}

fn reference<K: kube::Resource<DynamicType = ()>>(name: &ObjectName) -> ObjectRef<K> {
    ObjectRef::new(&name.name).within(&name.namespace)
}
