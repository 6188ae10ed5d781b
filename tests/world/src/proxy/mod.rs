//! A reverse proxy for tests: it writes down every request, and breaks the line exactly where it is told to.
//!
//! It stands in front of a kube-apiserver ([`Proxy::of_cluster`]: TLS on both sides, the bearer token passes), of Prefect (websockets
//! pass) or of Tableau ([`Proxy::start`]). Each connection of a client has one connection of its own to the server behind, and requests and
//! answers are HTTP/1.1 read as bytes, so that what is not touched by a [`Rule`] is what the server sent.

mod events;
mod journal;
mod line;
mod message;
mod rule;
mod serve;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub use journal::{Class, Entry};
pub use rule::{Action, Answer, EventAction, Handle, Hook, Position, Rule, Verdict};

use journal::Journal;
use line::{Tls, Upstream};
use rule::Rules;

/// A proxy in front of one HTTP/1.1 server; dropping it closes every connection.
pub struct Proxy {
    url: String,
    state: Arc<State>,
    accept: JoinHandle<()>,
}

struct State {
    upstream: Mutex<Upstream>,
    tls: Option<TlsAcceptor>,
    mode: watch::Sender<Mode>,
    journal: Journal,
    rules: Arc<Rules>,
    order: Mutex<()>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mode {
    down: bool,
    cut_websockets: bool,
}

impl Proxy {
    /// A proxy on a free port in front of `target`, a URL such as `http://127.0.0.1:4200/api`.
    pub async fn start(target: &str) -> std::io::Result<Self> {
        Self::with_tls(target, None).await
    }

    /// A proxy on a free port in front of a world's kube-apiserver, whose administrator's kubeconfig this is. Its certificate is by the
    /// authority that the cluster's clients trust anyhow.
    pub async fn of_cluster(kubeconfig: &Path) -> std::io::Result<Self> {
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(kubeconfig)?)?;
        let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap_or_default();
        let tls = crate::controlplane::serving_files(kubeconfig);
        Self::with_tls(server, Some(Tls::read(&tls.authority, &tls.certificate, &tls.key)?)).await
    }

    async fn with_tls(target: &str, tls: Option<Tls>) -> std::io::Result<Self> {
        let target = url::Url::parse(target).map_err(std::io::Error::other)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut url = target.clone();
        let _ = url.set_port(Some(listener.local_addr()?.port()));
        let (server, client) = tls.map(|tls| (tls.server, tls.client)).unzip();
        let state = Arc::new(State {
            upstream: Mutex::new(Upstream { address: address(&target)?, tls: client }),
            tls: server,
            mode: watch::Sender::new(Mode::default()),
            journal: Journal::new(),
            rules: Arc::default(),
            order: Mutex::default(),
        });
        let accept = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { url: url.to_string().trim_end_matches('/').to_owned(), state, accept })
    }

    /// The target's URL with this proxy's port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts a rule in force. All rules that mean a call apply, in the order in which they were added.
    pub fn add(&self, rule: Rule) -> Handle {
        self.state.rules.add(rule)
    }

    /// Every request so far.
    pub fn journal(&self) -> Vec<Entry> {
        self.state.journal.read().clone()
    }

    /// What `look` finds in every request so far.
    pub fn read<T>(&self, look: impl FnOnce(&[Entry]) -> T) -> T {
        look(&self.state.journal.read())
    }

    /// Returns when `holds` says yes of every request so far; it is asked whenever something has changed.
    pub async fn until(&self, holds: impl Fn(&[Entry]) -> bool) {
        self.state.journal.until(holds).await;
    }

    /// Whether Prefect's event websocket (`…/events/out`) is refused; those that are open are closed at once.
    pub fn cut_websockets(&self, cut: bool) {
        self.state.mode.send_modify(|mode| mode.cut_websockets = cut);
    }

    /// Whether every connection is refused; those that are open are closed at once.
    pub fn set_down(&self, down: bool) {
        self.state.mode.send_modify(|mode| mode.down = down);
    }

    /// Another server behind the proxy from now on, by its URL: for one that was started again elsewhere.
    pub fn retarget(&self, target: &str) -> std::io::Result<()> {
        let target = url::Url::parse(target).map_err(std::io::Error::other)?;
        lock(&self.state.upstream).address = address(&target)?;
        Ok(())
    }

    /// How many requests came, by method and path without query (`GET /api/ready`).
    pub fn requests(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.state.journal.read().iter() {
            *counts.entry(entry.what()).or_insert(0) += 1;
        }
        counts
    }

    /// How many requests came in all.
    pub fn total(&self) -> usize {
        self.state.journal.read().len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set_down(true);
        self.accept.abort();
    }
}

impl State {
    fn upstream(&self) -> Upstream {
        lock(&self.upstream).clone()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if !state.mode.borrow().down {
            tokio::spawn(serve::serve(client, Arc::clone(&state)));
        }
    }
}

fn address(target: &url::Url) -> std::io::Result<SocketAddr> {
    let address = target.socket_addrs(|| None)?.first().copied();
    address.ok_or_else(|| std::io::Error::other("the target has no address"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
