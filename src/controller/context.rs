//! What every reconcile is given.

use super::budgets::Budgets;
use super::cache::Cache;
use super::connections::Connections;
use super::index::Index;
use super::lanes::Lanes;
use super::ledger::Ledger;
use super::let_in::LetIn;
use super::reports::Reports;
use super::site::SiteSession;
use super::tenants::Tenants;
use super::wakes::{Wakes, reference};
use super::workspace::WorkspaceSession;
use super::written::Apis;
use crate::api::{
    ClusterPrefectWorkspace, ClusterTableauSite, ExtractRefresh, FlowDeployment, PrefectWorkspace,
    TableauSite,
};
use crate::clock::Clock;
use crate::controller::apiclock::ApiClock;
use crate::controller::secrets::Secrets;
use crate::controller::services::Services;
use crate::guards::{Guard, holds};
use crate::model::extract::ScheduleMemory;
use crate::model::flow::Memory;
use crate::model::ids::ObjectName;
use crate::runtime::lease::Handle;
use crate::runtime::metrics::Metrics;
use kube::Client;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::Store;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Shared by all controllers of the process.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Its clock.
    pub api_clock: ApiClock,
    /// Ours.
    pub clock: Clock,
    /// Clients of the two services.
    pub services: Arc<dyn Services>,
    /// Name of this installation in marks.
    pub instance: String,
    /// `--settle`.
    pub settle: Duration,
    /// `--cleanup-deadline`.
    pub cleanup_deadline: Duration,
    /// The lease.
    pub lease: Handle,
    /// All stores are filled.
    pub synced: Arc<AtomicBool>,
    /// Who depends on what.
    pub index: Arc<Index>,
    /// Who may use connections of the cluster.
    pub tenants: Tenants,
    /// Whom to wake.
    pub wakes: Wakes,
    /// Secrets in use.
    pub secrets: Secrets,
    /// Prefect workspaces in use.
    pub workspaces: Connections<WorkspaceSession>,
    /// Write slots of Prefect servers.
    pub lanes: Lanes,
    /// What is written to Prefect just now.
    pub written: Apis,
    /// Tableau sites in use.
    pub sites: Connections<SiteSession>,
    /// Which connections are let in.
    pub let_in: LetIn,
    /// Budgets of the Tableau sites.
    pub budgets: Budgets,
    /// The objects of each kind.
    pub objects: ObjectSets,
    /// Intents written and not spent.
    pub ledger: Ledger,
    /// What the flow model remembers between passes.
    pub memory: Mutex<HashMap<ObjectName, Memory>>,
    /// What the extract model remembers about schedules between passes.
    pub schedule_memory: Mutex<HashMap<ObjectName, ScheduleMemory>>,
    /// Refreshes shown in Prefect.
    pub reports: Reports,
    /// Kubernetes Events.
    pub recorder: Recorder,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// The objects of each kind.
pub struct ObjectSets {
    /// `PrefectWorkspace`.
    pub workspaces: Objects<PrefectWorkspace>,
    /// `TableauSite`.
    pub sites: Objects<TableauSite>,
    /// `ClusterPrefectWorkspace`.
    pub cluster_workspaces: Objects<ClusterPrefectWorkspace>,
    /// `ClusterTableauSite`.
    pub cluster_sites: Objects<ClusterTableauSite>,
    /// `FlowDeployment`.
    pub flows: Objects<FlowDeployment>,
    /// `ExtractRefresh`.
    pub refreshes: Objects<ExtractRefresh>,
}

impl ObjectSets {
    /// The connection to Prefect of that name, of a namespace or of the cluster.
    pub fn workspace(&self, name: &ObjectName) -> Option<Arc<PrefectWorkspace>> {
        if name.is_cluster() {
            return self.cluster_workspaces.get(name).map(|object| Arc::new(object.connection()));
        }
        self.workspaces.get(name)
    }

    /// The connection to Tableau of that name, of a namespace or of the cluster.
    pub fn site(&self, name: &ObjectName) -> Option<Arc<TableauSite>> {
        if name.is_cluster() {
            return self.cluster_sites.get(name).map(|object| Arc::new(object.connection()));
        }
        self.sites.get(name)
    }

    /// Every connection to Prefect.
    pub fn all_workspaces(&self) -> Vec<Arc<PrefectWorkspace>> {
        let mut all = self.workspaces.store.state();
        all.extend(self.cluster_workspaces.store.state().iter().map(|object| Arc::new(object.connection())));
        all
    }

    /// Every connection to Tableau.
    pub fn all_sites(&self) -> Vec<Arc<TableauSite>> {
        let mut all = self.sites.store.state();
        all.extend(self.cluster_sites.store.state().iter().map(|object| Arc::new(object.connection())));
        all
    }
}

/// The objects of a kind: what the watch delivered, and our own newer writes.
pub struct Objects<K: kube::runtime::reflector::Lookup<DynamicType = ()> + Clone + 'static> {
    /// What the watch delivered.
    pub store: Store<K>,
    /// Our own newer writes.
    pub cache: Arc<Cache<K>>,
}

impl<K> Objects<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    /// The object of that name, own writes included.
    pub fn get(&self, name: &ObjectName) -> Option<Arc<K>> {
        let seen = self.store.get(&reference(name));
        if seen.is_none() {
            self.cache.gone(name);
        }
        seen.map(|object| self.cache.newest(object))
    }
}

impl Context {
    /// Whether this process acts: it knows everything, and leads. By the time, not only by what the election says: one that stood still may
    /// get here before the election does.
    pub fn acts(&self) -> bool {
        self.synced.load(std::sync::atomic::Ordering::SeqCst) && self.lease.now().outlives(Duration::ZERO)
    }

    /// The fence: whether what is sent now and may take this long ends while this process certainly leads.
    pub fn may_send(&self, deadline: std::time::Duration) -> bool {
        self.lease.now().outlives(deadline) || !holds(Guard::LeaseFence)
    }
}
