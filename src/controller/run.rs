//! The process: settings, one client, the operator, its admin endpoint, and signals.

use super::apiclock::ApiClock;
use super::operator::{OperatorError, Parts, operate};
use super::services::RealServices;
use crate::clock::Clock;
use crate::http::{AddressPolicy, Timeouts};
use crate::runtime::admin::{self, Admin};
use crate::runtime::instance::{self, InstanceError};
use crate::runtime::metrics::Metrics;
use crate::runtime::shutdown::Shutdown;
use crate::settings::Settings;
use kube::Client;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

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
    /// The operator ended by itself, or not in time.
    #[error(transparent)]
    Operator(#[from] OperatorError),
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
    let instance = match settings.instance {
        Some(name) => name,
        None => instance::of_cluster(client.clone()).await?,
    };
    let metrics = Arc::new(Metrics::default());
    let synced = Arc::new(AtomicBool::new(false));
    // To the very end, whatever the grace is: metrics and probes go last.
    let _admin = serve_admin(settings.admin_address, &metrics, &synced).await?;
    let services = Arc::new(RealServices {
        policy: AddressPolicy::new(settings.allowed_hosts).with_proxy(settings.proxy),
        clock: clock.clone(),
        timeouts: Timeouts::default(),
        metrics: metrics.clone(),
        token_grants: settings.service_account_tokens,
    });
    let parts = Parts {
        client,
        api_clock,
        services,
        clock,
        instance,
        scope: settings.scope,
        settle: settings.settle,
        cleanup_deadline: settings.cleanup_deadline,
        shutdown_grace: settings.shutdown_grace,
        lease: settings.lease,
        metrics,
        synced,
        shutdown,
    };
    let result = Box::pin(operate(parts)).await;
    tracing::info!(clean = result.is_ok(), "ended");
    Ok(result?)
}

/// The kube client, with its own retry off: a status write that is repeated by the transport could not be told from somebody else's.
async fn client(api_clock: &ApiClock) -> Result<Client, RunError> {
    let mut config = kube::Config::infer().await.map_err(|error| RunError::Kubeconfig(Box::new(error)))?;
    config.default_retry = false;
    // A kubeconfig takes it from HTTPS_PROXY too, which speaks of Prefect and Tableau; in a cluster none is looked for.
    config.proxy_url = None;
    let builder = kube::client::ClientBuilder::try_from(config)
        .map_err(|error| RunError::Kubeconfig(Box::new(error)))?;
    Ok(builder.with_layer(api_clock).build())
}

/// Serves until what is returned is dropped.
async fn serve_admin(
    address: SocketAddr,
    metrics: &Arc<Metrics>,
    synced: &Arc<AtomicBool>,
) -> Result<JoinSet<()>, std::io::Error> {
    let listener = TcpListener::bind(address).await?;
    let synced = synced.clone();
    let filled = move || {
        synced.load(Ordering::SeqCst).then_some(()).ok_or_else(|| "caches are being filled".to_owned())
    };
    let admin = Admin { metrics: metrics.clone(), live: Arc::new(|| Ok(())), ready: Arc::new(filled) };
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        if let Err(error) = admin::serve(listener, admin).await {
            tracing::error!(%error, "the admin endpoint ended");
        }
    });
    Ok(serving)
}
