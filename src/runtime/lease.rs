//! Leader election over a `Lease`, by the rule of client-go: a lease has expired when its `renewTime` has not *changed* for its duration on
//! our own monotonic clock. Clocks of different machines are never compared.
//!
//! The leader publishes until when it certainly leads, as a fence: something that must not be done by two (a refresh POST) may start only
//! if it ends before. That moment is counted from *before* the renewal was sent, so it is over before anybody else can take the lease.

use super::lease_store::{LeaseStore, StoreError};
use crate::clock::Clock;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Whether this process leads, and until when it may count on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leading {
    /// Somebody else leads, or nobody.
    No,
    /// This process leads; before this moment nobody else does. Renewals move it on.
    Until(Instant),
}

impl Leading {
    /// Whether something that takes at most `deadline` may start now.
    pub fn outlives(self, deadline: Duration) -> bool {
        match self {
            Self::No => false,
            Self::Until(end) => end.saturating_duration_since(Instant::now()) > deadline,
        }
    }
}

/// How a lease is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who we are; unique per process, so that nobody else ever writes it.
    pub identity: String,
    /// How long a lease that is not renewed is respected. Renewed every third of it.
    pub duration: Duration,
}

impl Terms {
    /// The usual 15 seconds.
    pub fn new(identity: impl Into<String>) -> Self {
        Self { identity: identity.into(), duration: Duration::from_secs(15) }
    }
    fn renew_every(&self) -> Duration {
        self.duration / 3
    }
    /// Between two tries of what failed.
    fn retry_every(&self) -> Duration {
        self.duration / 7
    }
    /// Between two looks at a lease that somebody else holds: the longest that one that was given back lies unused. A look is one small read,
    /// which costs the API server less than a watch that is told of every renewal, and cannot go silent.
    fn look_every(&self) -> Duration {
        self.duration / 15
    }
}

/// How an election ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By our own will; a lease we held was given back.
    Released,
    /// The lease was held and lost: everything must stop at once, and the process end, so that nothing in memory outlives its lease.
    Lost,
}

/// What the rest of the process sees of the election. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    leading: watch::Receiver<Leading>,
    annotations: Arc<Mutex<Annotations>>,
}

#[derive(Debug, Default)]
struct Annotations {
    inherited: BTreeMap<String, String>,
    wanted: BTreeMap<String, String>,
    dropped: BTreeSet<String>,
}

impl Handle {
    /// The fence, as it changes.
    pub fn leading(&self) -> watch::Receiver<Leading> {
        self.leading.clone()
    }
    /// The fence as it is.
    pub fn now(&self) -> Leading {
        *self.leading.borrow()
    }
    /// The annotations the lease carried when it was won: what the leader before wrote down. Empty before.
    pub fn inherited(&self) -> BTreeMap<String, String> {
        lock(&self.annotations).inherited.clone()
    }
    /// An annotation as this process last set it, else as the leader before left it.
    pub fn annotation(&self, key: &str) -> Option<String> {
        let annotations = lock(&self.annotations);
        annotations.wanted.get(key).or_else(|| annotations.inherited.get(key)).cloned()
    }
    /// Writes an annotation with the next renewal (or release), and keeps it.
    ///
    /// # Errors
    /// The API server would refuse it, and with it every renewal.
    pub fn set_annotation(&self, key: &str, value: &str) -> Result<(), BadAnnotation> {
        check_annotation(key, value)?;
        let mut annotations = lock(&self.annotations);
        annotations.dropped.remove(key);
        annotations.wanted.insert(key.to_owned(), value.to_owned());
        Ok(())
    }
    /// Takes away, with the next renewal, those annotations whose key begins so and whose value is of no use: all together have a limit.
    pub fn drop_annotations(&self, prefix: &str, useless: impl Fn(&str) -> bool) {
        let mut annotations = lock(&self.annotations);
        let Annotations { inherited, wanted, dropped } = &mut *annotations;
        for all in [inherited, wanted] {
            all.retain(|key, value| {
                let goes = key.starts_with(prefix) && useless(value);
                if goes {
                    dropped.insert(key.clone());
                }
                !goes
            });
        }
    }
}

/// Prepares an election: what the process sees of it, and the future that runs it until `release` resolves or a held lease is lost. Let
/// `release` resolve only when what was in flight has ended.
pub fn elect<S: LeaseStore>(
    store: S,
    terms: Terms,
    clock: Clock,
    release: impl Future<Output = ()> + Send,
) -> (Handle, impl Future<Output = Ended> + Send) {
    let (leading, receiver) = watch::channel(Leading::No);
    let annotations = Arc::<Mutex<Annotations>>::default();
    let handle = Handle { leading: receiver, annotations: annotations.clone() };
    let mut elector = Elector { store, terms, clock, leading, annotations, observed: None };
    (handle, async move {
        let ended = tokio::select! {
            biased;
            () = release => None,
            () = elector.run() => Some(Ended::Lost),
        };
        elector.leading.send_replace(Leading::No);
        if let Some(lost) = ended {
            return lost;
        }
        elector.give_back().await;
        Ended::Released
    })
}

struct Elector<S> {
    store: S,
    terms: Terms,
    clock: Clock,
    leading: watch::Sender<Leading>,
    annotations: Arc<Mutex<Annotations>>,
    observed: Option<Observed>,
}

/// The lease as last seen, and since when its holder and `renewTime` have stood.
struct Observed {
    lease: Lease,
    since: Instant,
}

impl<S: LeaseStore> Elector<S> {
    /// Returns when a held lease is lost.
    async fn run(&mut self) {
        let mut end = self.win().await;
        tracing::info!(identity = self.terms.identity, "leading");
        loop {
            self.leading.send_replace(Leading::Until(end));
            sleep(self.terms.renew_every()).await;
            match self.renew_before(end).await {
                Some(later) => end = later,
                None => break,
            }
        }
        tracing::error!(identity = self.terms.identity, "the lease is lost");
    }

    async fn win(&mut self) -> Instant {
        loop {
            let wait = match self.try_to_win().await {
                Ok(Some(end)) => return end,
                Ok(None) => self.terms.look_every(),
                Err(error) => {
                    tracing::warn!(%error, "the lease cannot be read or written");
                    self.terms.retry_every()
                }
            };
            sleep(wait).await;
        }
    }

    async fn try_to_win(&mut self) -> Result<Option<Instant>, StoreError> {
        let found = self.bounded(self.store.get()).await?;
        let before = found.as_ref().and_then(|lease| lease.metadata.annotations.clone()).unwrap_or_default();
        let next = match found {
            None => self.claimed(Lease::default()),
            Some(lease) => {
                self.observe(lease);
                match &self.observed {
                    Some(observed) if observed.is_free_for(&self.terms.identity) => {
                        self.claimed(observed.lease.clone())
                    }
                    _ => return Ok(None),
                }
            }
        };
        let sent = Instant::now();
        match self.write(&next).await {
            Ok(()) => {
                lock(&self.annotations).inherited = before;
                Ok(Some(sent + self.terms.duration))
            }
            Err(StoreError::Conflict) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Renews, trying again until `end`; `None` when the lease is lost.
    async fn renew_before(&mut self, end: Instant) -> Option<Instant> {
        let renewed = async {
            loop {
                let sent = Instant::now();
                match self.renew().await {
                    Ok(true) => return Some(sent + self.terms.duration),
                    Ok(false) => return None,
                    Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
                }
                sleep(self.terms.retry_every()).await;
            }
        };
        tokio::select! {
            biased;
            () = sleep_until(end) => None,
            renewed = renewed => renewed,
        }
    }

    /// `false`: somebody else holds it.
    async fn renew(&mut self) -> Result<bool, StoreError> {
        let Some(held) = self.observed.as_ref().map(|observed| observed.lease.clone()) else {
            return Ok(false);
        };
        match self.write(&self.renewed(held)).await {
            Ok(()) => Ok(true),
            // Either somebody took the lease, or a renewal of ours arrived whose answer was lost, or a person edited its metadata.
            // Only we write our identity, so the holder tells.
            Err(StoreError::Conflict) => match self.bounded(self.store.get()).await? {
                Some(lease) if holder(&lease) == Some(&self.terms.identity) => {
                    self.observe(lease);
                    Err(StoreError::Conflict)
                }
                _ => Ok(false),
            },
            Err(error) => Err(error),
        }
    }

    /// Best effort. What we saw last may be old: the answer to a claim or a renewal may have been lost, or not awaited.
    async fn give_back(&mut self) {
        let ours = |lease: &Lease| holder(lease) == Some(&self.terms.identity);
        let mut held = self.observed.take().map(|observed| observed.lease).filter(ours);
        for _ in 0..2 {
            let lease = match held.take() {
                Some(lease) => lease,
                None => match self.bounded(self.store.get()).await {
                    Ok(Some(lease)) if ours(&lease) => lease,
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(%error, "the lease cannot be read");
                        continue;
                    }
                },
            };
            match self.bounded(self.store.replace(&self.given_back(lease))).await {
                Ok(_) => return tracing::info!(identity = self.terms.identity, "the lease is given back"),
                Err(error) => tracing::warn!(%error, "the lease could not be given back"),
            }
        }
    }

    fn given_back(&self, lease: Lease) -> Lease {
        let mut lease = self.renewed(lease);
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        lease
    }

    async fn write(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let written = if lease.metadata.resource_version.is_none() {
            self.bounded(self.store.create(lease)).await?
        } else {
            self.bounded(self.store.replace(lease)).await?
        };
        self.observe(written);
        Ok(())
    }

    /// A request that hangs must not cost the lease.
    async fn bounded<T>(
        &self,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        timeout(self.terms.renew_every(), request).await.unwrap_or(Err(StoreError::NoAnswer))
    }

    fn observe(&mut self, lease: Lease) {
        let stands = self.observed.as_ref().is_some_and(|before| {
            holder(&before.lease) == holder(&lease) && renew_time(&before.lease) == renew_time(&lease)
        });
        let since = match &self.observed {
            Some(before) if stands => before.since,
            _ => Instant::now(),
        };
        self.observed = Some(Observed { lease, since });
    }

    fn claimed(&self, lease: Lease) -> Lease {
        let mut lease = self.renewed(lease);
        if let Some(spec) = &mut lease.spec {
            spec.acquire_time.clone_from(&spec.renew_time);
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |n| n.saturating_add(1)));
        }
        lease
    }

    fn renewed(&self, mut lease: Lease) -> Lease {
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        spec.holder_identity = Some(self.terms.identity.clone());
        spec.lease_duration_seconds = Some(i32::try_from(self.terms.duration.as_secs()).unwrap_or(i32::MAX));
        spec.renew_time = Some(MicroTime(self.clock.now()));
        let annotations = lock(&self.annotations);
        if !annotations.wanted.is_empty() || !annotations.dropped.is_empty() {
            let all = lease.metadata.annotations.get_or_insert_default();
            all.retain(|key, _| !annotations.dropped.contains(key));
            all.extend(annotations.wanted.clone());
        }
        lease
    }
}

impl Observed {
    /// Held by nobody any more, or by ourselves: a claim of ours whose answer did not arrive.
    fn is_free_for(&self, identity: &String) -> bool {
        let seconds = self.lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let respected = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        holder(&self.lease).is_none_or(|holder| holder == identity) || self.since.elapsed() > respected
    }
}

/// An annotation that the API server would refuse.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` cannot be an annotation: one prefix, one slash, a name of at most 63, a value of at most 1 KiB"
)]
pub struct BadAnnotation(String);

/// The rules of Kubernetes for annotation keys. All annotations together may have 256 KiB, so a value is kept small.
fn check_annotation(key: &str, value: &str) -> Result<(), BadAnnotation> {
    let bad = || BadAnnotation(key.chars().take(64).collect());
    let (prefix, name) = key.split_once('/').ok_or_else(bad)?;
    let edges = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let prefix_fits = edges(prefix)
        && prefix.len() <= 253
        && prefix.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c));
    let name_fits = edges(name)
        && name.len() <= 63
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if prefix_fits && name_fits && value.len() <= 1024 { Ok(()) } else { Err(bad()) }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

fn renew_time(lease: &Lease) -> Option<&MicroTime> {
    lease.spec.as_ref()?.renew_time.as_ref()
}

/// What is behind the lock is whole after every statement, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "lease_laws.rs"]
mod laws;
