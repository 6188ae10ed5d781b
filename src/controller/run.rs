//! The wiring of the process: one client, one lease, four controllers, one admin endpoint, and an orderly end.

use super::apiclock::ApiClock;
use super::cache::Cache;
use super::connections::Connections;
use super::context::{Context, ObjectSets, Objects};
use super::extracts::Extracts;
use super::flows::Flows;
use super::index::Index;
use super::ledger::Ledger;
use super::reconcile::{Subject, error_policy, reconcile};
use super::secrets::Secrets;
use super::services::RealServices;
use super::sites::Sites;
use super::wakes::{Wakes, Wakeups};
use super::watches;
use super::workspaces::Workspaces;
use crate::clock::Clock;
use crate::http::AddressPolicy;
use crate::runtime::admin::{self, Admin};
use crate::runtime::instance::{self, InstanceError};
use crate::runtime::lease::{Ended, Leading, Terms, elect};
use crate::runtime::lease_store::KubeLease;
use crate::runtime::metrics::Metrics;
use crate::runtime::shutdown::Shutdown;
use crate::settings::{Scope, Settings};
use futures::{FutureExt, StreamExt, TryStreamExt};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{Controller, Predicate, PredicateConfig, WatchStreamExt, controller, predicates};
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Reconciles at once, per kind. They wait for nothing but the API server, so a few keep many objects going.
const CONCURRENCY: u16 = 16;
/// Kinds that are watched.
const KINDS: u8 = 4;

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No cluster.
    #[error("no way to the Kubernetes API: {0}")]
    Kubeconfig(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No name for the marks.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The admin endpoint or the signal handlers.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Another process leads now: nothing in this one may go on.
    #[error("the lease is lost")]
    LeaseLost,
    /// Work in flight did not end in time.
    #[error(transparent)]
    Grace(#[from] crate::runtime::shutdown::GraceExpired),
    /// A controller ended by itself.
    #[error("a controller ended although nobody asked it to")]
    ControllerEnded,
}

/// Runs the operator until it is asked to end.
///
/// # Errors
/// See [`RunError`].
pub async fn run(settings: Settings) -> Result<(), RunError> {
    let clock = Clock::system();
    let shutdown = Shutdown::on_signals()?;
    let api_clock = ApiClock::new(clock.clone());
    let client = client(&api_clock).await?;
    let instance = match &settings.instance {
        Some(name) => name.clone(),
        None => instance::of_cluster(client.clone()).await?,
    };
    let metrics = Arc::new(Metrics::default());
    let services = Arc::new(RealServices {
        policy: AddressPolicy::new(settings.allowed_hosts.clone()),
        clock: clock.clone(),
        metrics: metrics.clone(),
    });

    let (ended_tx, ended_rx) = tokio::sync::oneshot::channel::<()>();
    let (lease, election) = elect(
        KubeLease::new(client.clone(), &settings.lease.namespace, &settings.lease.name),
        Terms::new(settings.lease.identity.clone()),
        clock.clone(),
        ended_rx.map(|_| ()),
    );
    let (wakes, wakeups) = Wakes::new();
    let (workspaces, workspaces_w) = objects();
    let (sites, sites_w) = objects();
    let (flows, flows_w) = objects();
    let (refreshes, refreshes_w) = objects();
    let reporter =
        Reporter { controller: "feedwater".into(), instance: Some(settings.lease.identity.clone()) };
    let ctx = Arc::new(Context {
        api_clock,
        clock,
        services,
        instance,
        settle: settings.settle,
        cleanup_deadline: settings.cleanup_deadline,
        lease: lease.clone(),
        synced: AtomicBool::new(false),
        index: Arc::new(Index::default()),
        secrets: Secrets::new(client.clone(), wakes.clone()),
        wakes,
        workspaces: Connections::default(),
        sites: Connections::default(),
        objects: ObjectSets { workspaces, sites, flows, refreshes },
        ledger: Ledger::default(),
        memory: std::sync::Mutex::default(),
        recorder: Recorder::new(client.clone(), reporter),
        metrics: metrics.clone(),
        client,
    });

    let admin = serve_admin(&settings, &ctx, shutdown.clone()).await?;
    let (all, alls) = everybody();
    let (filled, filled_rx) = watch::channel(0);
    let filled = Arc::new(filled);
    let controllers = controllers(
        &ctx,
        &settings.scope,
        wakeups,
        alls,
        &filled,
        &shutdown,
        Writers { workspaces: workspaces_w, sites: sites_w, flows: flows_w, refreshes: refreshes_w },
    );
    let begin = tokio::spawn(begin(ctx.clone(), filled_rx, all));

    let election = tokio::spawn(election);
    let work = async {
        controllers.await;
        // Nothing of ours is in flight any more: sign out, then give the lease back.
        for (_, link) in ctx.sites.all() {
            let _ = tokio::time::timeout(Duration::from_secs(3), link.session.client.sign_out()).await;
        }
    };
    let asked = shutdown.clone();
    let result = tokio::select! {
        ended = wait_for(election) => match ended {
            Some(Ended::Released) => Ok(()),
            Some(Ended::Lost) | None => Err(RunError::LeaseLost),
        },
        done = shutdown.clone().bound(settings.shutdown_grace, work) => match done {
            Ok(()) if asked.is_requested() => Ok(()),
            Ok(()) => Err(RunError::ControllerEnded),
            Err(grace) => Err(grace.into()),
        },
    };
    begin.abort();
    admin.abort();
    if result.is_ok() {
        let _ = ended_tx.send(());
        // The election writes the lease once more; a moment for it, no more.
        let mut leading = lease.leading();
        let _ =
            tokio::time::timeout(Duration::from_secs(3), leading.wait_for(|now| *now == Leading::No)).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tracing::info!(clean = result.is_ok(), "ended");
    result
}

async fn wait_for(election: tokio::task::JoinHandle<Ended>) -> Option<Ended> {
    election.await.ok()
}

/// The kube client, with its own retry off: a status write that is repeated by the transport could not be told from somebody else's.
async fn client(api_clock: &ApiClock) -> Result<Client, RunError> {
    let mut config = kube::Config::infer().await.map_err(|error| RunError::Kubeconfig(Box::new(error)))?;
    config.default_retry = false;
    let builder = kube::client::ClientBuilder::try_from(config)
        .map_err(|error| RunError::Kubeconfig(Box::new(error)))?;
    Ok(builder.with_layer(api_clock).build())
}

async fn serve_admin(
    settings: &Settings,
    ctx: &Arc<Context>,
    shutdown: Shutdown,
) -> Result<tokio::task::JoinHandle<()>, RunError> {
    let listener = TcpListener::bind(settings.admin_address).await?;
    let ready = ctx.clone();
    let admin = Admin {
        metrics: ctx.metrics.clone(),
        live: Arc::new(|| Ok(())),
        ready: Arc::new(move || {
            ready
                .synced
                .load(Ordering::SeqCst)
                .then_some(())
                .ok_or_else(|| "caches are being filled".to_owned())
        }),
    };
    Ok(tokio::spawn(async move {
        // Metrics and probes stay until the very end of the grace.
        let grace = async move {
            shutdown.requested().await;
            tokio::time::sleep(Duration::from_secs(30)).await;
        };
        if let Err(error) = admin::serve(listener, admin, grace).await {
            tracing::error!(%error, "the admin endpoint ended");
        }
    }))
}

/// Lets everybody look once the stores are filled and whenever this process begins to lead.
async fn begin(ctx: Arc<Context>, mut filled: watch::Receiver<u8>, all: Vec<UnboundedSender<()>>) {
    // Not by `Store::wait_until_ready`: it wakes one waiter only, and that is the Controller [measured, kube 5.0.0].
    if filled.wait_for(|kinds| *kinds == KINDS).await.is_err() {
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

fn everybody() -> (Vec<UnboundedSender<()>>, [UnboundedReceiver<()>; 4]) {
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

/// All four controllers, until the end.
fn controllers(
    ctx: &Arc<Context>,
    scope: &Scope,
    wakeups: Wakeups,
    alls: [UnboundedReceiver<()>; 4],
    filled: &Arc<watch::Sender<u8>>,
    shutdown: &Shutdown,
    writers: Writers,
) -> impl Future<Output = ()> + use<> {
    let [workspaces_all, sites_all, flows_all, refreshes_all] = alls;
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
    async move {
        tokio::join!(workspaces, sites, flows, refreshes);
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
        Scope::Namespace(namespace) => Api::namespaced(ctx.client.clone(), namespace),
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
