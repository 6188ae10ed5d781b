//! The operator as a whole, from parts: one lease, a controller for each kind, and an orderly end. It owns every task it starts: dropped, it leaves none
//! behind, as a process that is killed.

use super::apiclock::ApiClock;
use super::budgets::Budgets;
use super::cache::Cache;
use super::cluster_connections::{ClusterSites, ClusterWorkspaces};
use super::connections::Connections;
use super::context::{Context, ObjectSets, Objects};
use super::extract_metrics;
use super::extracts::Extracts;
use super::flows::Flows;
use super::index::Index;
use super::lanes::Lanes;
use super::ledger::Ledger;
use super::let_in::LetIn;
use super::publish::Ours;
use super::reconcile::{Subject, error_policy, reconcile};
use super::reports::{self, Reports};
use super::secrets::Secrets;
use super::services::Services;
use super::sites::Sites;
use super::tenants::{self, Tenants};
use super::wakes::{Wakes, Wakeups};
use super::watches;
use super::workspaces::Workspaces;
use super::written::Apis;
use crate::clock::Clock;
use crate::runtime::lease::{Ended, Leading, Terms, elect};
use crate::runtime::lease_store::KubeLease;
use crate::runtime::metrics::Metrics;
use crate::runtime::shutdown::{GraceExpired, Shutdown};
use crate::settings::{LeaseSettings, Scope};
use futures::future::OptionFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{Controller, Predicate, PredicateConfig, WatchStreamExt, controller, predicates};
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Reconciles at once, per kind. They wait for nothing but the API server, so a few keep many objects going.
const CONCURRENCY: u16 = 16;
/// The longest that giving the lease back and signing out may take.
const FAREWELL: Duration = Duration::from_secs(3);
/// Kinds that are watched in every scope, and those that are with the whole cluster: connections of the cluster, and Namespaces.
const KINDS: (u8, u8) = (4, 3);

/// What an operator is made of.
pub struct Parts {
    /// The API server, through [`Self::api_clock`]. Its own retry must be off.
    pub client: Client,
    /// What the API server's clock shows.
    pub api_clock: ApiClock,
    /// Where clients of Prefect and Tableau come from.
    pub services: Arc<dyn Services>,
    /// Time.
    pub clock: Clock,
    /// Name of the installation, in the marks on Prefect deployments.
    pub instance: String,
    /// Which namespaces are served.
    pub scope: Scope,
    /// See [`crate::settings::Settings::settle`].
    pub settle: Duration,
    /// See [`crate::settings::Settings::cleanup_deadline`].
    pub cleanup_deadline: Duration,
    /// See [`crate::settings::Settings::shutdown_grace`].
    pub shutdown_grace: Duration,
    /// The lease that makes one replica act.
    pub lease: LeaseSettings,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Set once the caches are filled.
    pub synced: Arc<AtomicBool>,
    /// When to end.
    pub shutdown: Shutdown,
}

/// Why an operator ends without having been asked to, or not as it should.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Another process leads now: nothing in this one may go on.
    #[error("the lease is lost")]
    LeaseLost,
    /// Work in flight did not end in time.
    #[error(transparent)]
    Grace(#[from] GraceExpired),
    /// A controller ended by itself.
    #[error("a controller ended although nobody asked it to")]
    ControllerEnded,
}

/// Operates until it is asked to end.
///
/// # Errors
/// See [`OperatorError`].
pub async fn operate(parts: Parts) -> Result<(), OperatorError> {
    let Parts { client, scope, shutdown, shutdown_grace, .. } = &parts;
    let (ended_tx, ended_rx) = tokio::sync::oneshot::channel::<()>();
    let (lease, election) = elect(
        KubeLease::new(client.clone(), &parts.lease.namespace, &parts.lease.name),
        Terms::new(parts.lease.identity.clone()),
        parts.clock.clone(),
        ended_rx.map(|_| ()),
    );
    let (wakes, wakeups) = Wakes::new();
    let (workspaces, workspaces_w) = objects();
    let (sites, sites_w) = objects();
    let (cluster_workspaces, cluster_workspaces_w) = objects();
    let (cluster_sites, cluster_sites_w) = objects();
    let (flows, flows_w) = objects();
    let (refreshes, refreshes_w) = objects();
    let (reports, reports_begun) = Reports::new();
    let reporter = Reporter { controller: "feedwater".into(), instance: Some(parts.lease.identity.clone()) };
    let ctx = Arc::new(Context {
        api_clock: parts.api_clock.clone(),
        clock: parts.clock.clone(),
        services: parts.services.clone(),
        instance: parts.instance.clone(),
        settle: parts.settle,
        cleanup_deadline: parts.cleanup_deadline,
        lease,
        synced: parts.synced.clone(),
        index: Arc::new(Index::default()),
        secrets: Secrets::new(client.clone(), wakes.clone()),
        tenants: Tenants::new(scope, &parts.lease.namespace),
        wakes,
        workspaces: Connections::default(),
        lanes: Lanes::default(),
        written: Apis::default(),
        sites: Connections::default(),
        let_in: LetIn::default(),
        budgets: Budgets::default(),
        objects: ObjectSets { workspaces, sites, cluster_workspaces, cluster_sites, flows, refreshes },
        ledger: Ledger::default(),
        memory: std::sync::Mutex::default(),
        schedule_memory: std::sync::Mutex::default(),
        reports,
        recorder: Recorder::new(client.clone(), reporter),
        metrics: parts.metrics.clone(),
        client: client.clone(),
    });

    // The context holds the metrics: they must not hold it.
    let told = Arc::downgrade(&ctx);
    let freshness = move || told.upgrade().map(|ctx| extract_metrics::freshness(&ctx)).unwrap_or_default();
    ctx.metrics.extracts(Arc::new(freshness));
    let (all, alls) = everybody();
    let (filled, filled_rx) = watch::channel(0);
    let writers = Writers {
        workspaces: workspaces_w,
        sites: sites_w,
        cluster_workspaces: cluster_workspaces_w,
        cluster_sites: cluster_sites_w,
        flows: flows_w,
        refreshes: refreshes_w,
    };
    let kinds = match scope {
        Scope::Cluster => KINDS.0 + KINDS.1,
        Scope::Namespace(_) => KINDS.0,
    };
    let controllers = controllers(&ctx, scope, wakeups, alls, &Arc::new(filled), shutdown, writers);
    // Sets of one task each: a set that is dropped ends its tasks.
    let (mut election_task, mut begin_task, mut reports_task) =
        (JoinSet::new(), JoinSet::new(), JoinSet::new());
    election_task.spawn(election);
    reports_task.spawn(reports::run(ctx.clone(), reports_begun));
    begin_task.spawn(begin(ctx.clone(), (filled_rx, kinds), all));

    let result = tokio::select! {
        ended = election_task.join_next() => match ended {
            Some(Ok(Ended::Released)) => Ok(()),
            // Lost, or its task failed: either way nobody keeps the lease any more.
            Some(Ok(Ended::Lost) | Err(_)) | None => Err(OperatorError::LeaseLost),
        },
        done = shutdown.clone().bound(*shutdown_grace, controllers) => match done {
            Ok(()) if shutdown.is_requested() => Ok(()),
            Ok(()) => Err(OperatorError::ControllerEnded),
            Err(grace) => Err(grace.into()),
        },
    };
    if result.is_ok() {
        // Nothing of ours is in flight any more. The sessions end first, so that none signs in again when the successor has; but the successor
        // need not wait for Tableau's answers.
        reports_task.abort_all();
        ctx.workspaces.all().iter().for_each(|(_, link)| link.session.end());
        let goodbyes = ctx.sites.all().into_iter().map(|(_, link)| link.session.end()).collect::<Vec<_>>();
        let _ = ended_tx.send(());
        let farewell = async { tokio::join!(election_task.join_next(), futures::future::join_all(goodbyes)) };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
    result
}

/// Lets everybody look once the stores are filled and whenever this process begins to lead.
async fn begin(
    ctx: Arc<Context>,
    (mut filled, kinds): (watch::Receiver<u8>, u8),
    all: Vec<UnboundedSender<()>>,
) {
    // Not by `Store::wait_until_ready`: it wakes one waiter only, and that is the Controller [measured, kube 5.0.0].
    if filled.wait_for(|known| *known == kinds).await.is_err() {
        return;
    }
    ctx.synced.store(true, Ordering::SeqCst);
    tracing::info!("caches are filled");
    let mut leading = ctx.lease.leading();
    let mut led = false;
    loop {
        let leads = *leading.borrow_and_update() != Leading::No;
        if leads != led {
            ctx.metrics.leads(leads);
            led = leads;
            if leads {
                for everybody in &all {
                    // A closed channel: its controller has ended.
                    let _ = everybody.send(());
                }
            }
        }
        if leading.changed().await.is_err() {
            return;
        }
    }
}

fn everybody() -> (Vec<UnboundedSender<()>>, [UnboundedReceiver<()>; 6]) {
    let mut senders = Vec::new();
    let receivers = std::array::from_fn(|_| {
        let (tx, rx) = unbounded_channel();
        senders.push(tx);
        rx
    });
    (senders, receivers)
}

struct Writers {
    workspaces: Writer<crate::api::PrefectWorkspace>,
    sites: Writer<crate::api::TableauSite>,
    cluster_workspaces: Writer<crate::api::ClusterPrefectWorkspace>,
    cluster_sites: Writer<crate::api::ClusterTableauSite>,
    flows: Writer<crate::api::FlowDeployment>,
    refreshes: Writer<crate::api::ExtractRefresh>,
}

fn objects<K>() -> (Objects<K>, Writer<K>)
where
    K: kube::Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let (store, writer): (Store<K>, Writer<K>) = reflector::store();
    (Objects { store, cache: Arc::new(Cache::default()) }, writer)
}

/// All controllers, until the end.
fn controllers(
    ctx: &Arc<Context>,
    scope: &Scope,
    wakeups: Wakeups,
    alls: [UnboundedReceiver<()>; 6],
    filled: &Arc<watch::Sender<u8>>,
    shutdown: &Shutdown,
    writers: Writers,
) -> impl Future<Output = ()> + use<> {
    let [workspaces_all, sites_all, flows_all, refreshes_all, cluster_workspaces_all, cluster_sites_all] =
        alls;
    let serves_cluster = *scope == Scope::Cluster;
    let workspaces = one::<Workspaces>(
        ctx,
        scope,
        writers.workspaces,
        ctx.objects.workspaces.store.clone(),
        watches::on_workspace,
        wakeups.workspaces,
        workspaces_all,
        filled,
        shutdown,
    );
    let sites = one::<Sites>(
        ctx,
        scope,
        writers.sites,
        ctx.objects.sites.store.clone(),
        watches::on_site,
        wakeups.sites,
        sites_all,
        filled,
        shutdown,
    );
    let flows = one::<Flows>(
        ctx,
        scope,
        writers.flows,
        ctx.objects.flows.store.clone(),
        watches::on_flow,
        wakeups.flows,
        flows_all,
        filled,
        shutdown,
    );
    let refreshes = one::<Extracts>(
        ctx,
        scope,
        writers.refreshes,
        ctx.objects.refreshes.store.clone(),
        watches::on_refresh,
        wakeups.refreshes,
        refreshes_all,
        filled,
        shutdown,
    );
    let cluster_workspaces = serves_cluster.then(|| {
        one::<ClusterWorkspaces>(
            ctx,
            scope,
            writers.cluster_workspaces,
            ctx.objects.cluster_workspaces.store.clone(),
            watches::on_cluster_workspace,
            wakeups.cluster_workspaces,
            cluster_workspaces_all,
            filled,
            shutdown,
        )
    });
    let cluster_sites = serves_cluster.then(|| {
        one::<ClusterSites>(
            ctx,
            scope,
            writers.cluster_sites,
            ctx.objects.cluster_sites.store.clone(),
            watches::on_cluster_site,
            wakeups.cluster_sites,
            cluster_sites_all,
            filled,
            shutdown,
        )
    });
    let namespaces = serves_cluster.then(|| namespaces(ctx.clone(), filled.clone(), shutdown.clone()));
    let (cluster_workspaces, cluster_sites) =
        (OptionFuture::from(cluster_workspaces), OptionFuture::from(cluster_sites));
    let namespaces = OptionFuture::from(namespaces);
    async move {
        tokio::join!(workspaces, sites, flows, refreshes, cluster_workspaces, cluster_sites, namespaces);
    }
}

/// Watches the Namespaces, of which only the labels matter, until the end.
async fn namespaces(ctx: Arc<Context>, filled: Arc<watch::Sender<u8>>, shutdown: Shutdown) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(ctx.client.clone());
    let mut first = Some(filled);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let mut events = Box::pin(events.take_until(Box::pin(shutdown.requested())));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                tenants::on_namespace(&ctx, &event);
                if matches!(event, watcher::Event::InitDone)
                    && let Some(filled) = first.take()
                {
                    filled.send_modify(|kinds| *kinds += 1);
                }
            }
            Err(error) => tracing::warn!(%error, "Namespaces cannot be watched"),
        }
    }
}

#[allow(clippy::too_many_arguments)] // the seven things one controller consists of, at the one place that has them
fn one<S: Subject>(
    ctx: &Arc<Context>,
    scope: &Scope,
    writer: Writer<S::Object>,
    store: Store<S::Object>,
    on_event: fn(&Context, &watcher::Event<S::Object>),
    wakes: UnboundedReceiver<ObjectRef<S::Object>>,
    all: UnboundedReceiver<()>,
    filled: &Arc<watch::Sender<u8>>,
    shutdown: &Shutdown,
) -> impl Future<Output = ()> + Send + use<S> {
    let api: Api<S::Object> = match scope {
        Scope::Cluster => Api::all(ctx.client.clone()),
        Scope::Namespace(namespace) => S::Object::api(ctx.client.clone(), namespace),
    };
    let hooked = ctx.clone();
    let mut first = Some(filled.clone());
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| {
            object.managed_fields_mut().clear();
            object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
        })
        .reflect(writer)
        .inspect_ok(move |event| {
            on_event(&hooked, event);
            if let (watcher::Event::InitDone, Some(filled)) = (event, &first) {
                filled.send_modify(|kinds| *kinds += 1);
                first = None;
            }
        })
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers).combine(predicates::annotations),
            PredicateConfig::default(),
        );
    Controller::for_stream(stream, store)
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .reconcile_on(UnboundedReceiverStream::new(wakes))
        .reconcile_all_on(UnboundedReceiverStream::new(all))
        .graceful_shutdown_on(shutdown.clone().requested())
        .run(reconcile::<S>, error_policy::<S>, ctx.clone())
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "controller");
            }
        })
}
