//! What passed: one entry per request.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use super::message::Head;

/// A request, and what is known of its answer by now.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place among all requests of this proxy, from 0.
    pub sequence: usize,
    /// `POST`.
    pub verb: String,
    /// The path without the query.
    pub path: String,
    /// What follows the question mark, else empty.
    pub query: String,
    /// Who asked: the `ServiceAccount` or user in a token or in basic authentication; empty when nothing tells. Never a secret.
    pub user: String,
    /// The request's body.
    pub body: Bytes,
    /// When the request had come.
    pub came: Timestamp,
    /// When its answer had been passed on, or its connection had ended.
    pub ended: Option<Timestamp>,
    /// The status that the server behind the proxy gave; of a request that was sent twice the last one.
    pub status: Option<u16>,
    /// How often it was sent to the server behind the proxy.
    pub sent: usize,
    /// What kind of request this is.
    pub class: Class,
}

/// What a request does, as far as its verb and path tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It changes nothing; also Prefect's reads by POST, and reviews of access.
    Read,
    /// It changes something.
    Write,
    /// Signing in to Tableau, or out.
    SignIn,
    /// A write to a `Lease`.
    Lease,
}

impl Entry {
    /// An entry for a request whose head this is.
    pub(super) fn of(head: &Head) -> Self {
        let [verb, target, _] = head.first_line();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        Self {
            sequence: 0,
            class: class(&verb, path),
            verb,
            path: path.to_owned(),
            query: query.to_owned(),
            user: user(head).unwrap_or_default(),
            body: Bytes::new(),
            came: crate::clock::now(),
            ended: None,
            status: None,
            sent: 0,
        }
    }

    /// `POST /api/flows/`.
    pub fn what(&self) -> String {
        format!("{} {}", self.verb, self.path)
    }

    /// Whether it is a watch of Kubernetes.
    pub fn is_watch(&self) -> bool {
        self.verb == "GET" && self.query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1")
    }

    /// Whether it changes something outside the operator: no reads by POST, no signing in, no lease.
    pub fn is_mutating(&self) -> bool {
        self.class == Class::Write
    }
}

fn class(verb: &str, path: &str) -> Class {
    if !matches!(verb, "POST" | "PUT" | "PATCH" | "DELETE") {
        return Class::Read;
    }
    let path = path.trim_end_matches('/');
    let last = path.rsplit('/').next().unwrap_or_default();
    if path.ends_with("/auth/signin") || path.ends_with("/auth/signout") {
        return Class::SignIn;
    }
    if path.contains("/apis/coordination.k8s.io/") {
        return Class::Lease;
    }
    let reads = ["filter", "count", "history", "paginate", "get_scheduled_flow_runs", "count-by"];
    let reviews =
        path.contains("/apis/authorization.k8s.io/") || path.contains("/apis/authentication.k8s.io/");
    if verb == "POST" && (reads.contains(&last) || reviews) { Class::Read } else { Class::Write }
}

/// The subject of a JSON web token, or the user of basic authentication.
fn user(head: &Head) -> Option<String> {
    let value = head.header("authorization")?;
    if let Some(token) = value.strip_prefix("Bearer ") {
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
        return claims["sub"].as_str().map(str::to_owned);
    }
    let pair = base64::engine::general_purpose::STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    String::from_utf8_lossy(&pair).split(':').next().map(str::to_owned)
}

/// All entries, and a bell that rings at each change.
pub(super) struct Journal {
    entries: Mutex<Vec<Entry>>,
    changed: watch::Sender<()>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { entries: Mutex::default(), changed: watch::Sender::new(()) }
    }

    pub(super) fn read(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry and returns its place.
    pub(super) fn add(&self, entry: &mut Entry) {
        let mut entries = self.read();
        entry.sequence = entries.len();
        entries.push(entry.clone());
        drop(entries);
        self.changed.send_replace(());
    }

    pub(super) fn change(&self, sequence: usize, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.read().get_mut(sequence) {
            change(entry);
        }
        self.changed.send_replace(());
    }

    /// Returns when `holds` says yes of the entries.
    pub(super) async fn until(&self, holds: impl Fn(&[Entry]) -> bool) {
        let mut changed = self.changed.subscribe();
        while !holds(&self.read()) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
