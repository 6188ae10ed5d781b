//! A Kubernetes API server in memory: a tower service without a socket, so that a whole controller runs on tokio's paused time.
//!
//! It keeps what a controller leans on (resource versions, optimistic locks, generations, the status subresource, finalizers, watches with
//! their bookmarks and their ends) and knows no admission, no RBAC, no schema beyond defaults. Lists are atomic to its server-side apply, which
//! is right for fields of one manager. The suite of `tests/apiserver` holds it to the real one.

mod apply;
mod faults;
mod kinds;
mod route;
mod serve;
mod store;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use jiff::Timestamp;
use serde_json::Value;

pub use faults::{Action, Call, Verb};
pub use kinds::Kind;
pub use store::Refusal;

use faults::Faults;
use store::{Store, Write};
use watch::Watches;

/// The server. Cheap to clone; clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<Mutex<State>>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

struct State {
    store: Store,
    watches: Watches,
    faults: Faults,
}

impl ApiServer {
    /// An empty server of these kinds and the built-in ones of [`Kind::built_in`]; `now` is its clock.
    pub fn new(
        kinds: impl IntoIterator<Item = Kind>,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        let kinds = Kind::built_in().into_iter().chain(kinds).collect();
        let state =
            State { store: Store::new(kinds), watches: Watches::default(), faults: Faults::default() };
        Self { state: Arc::new(Mutex::new(state)), now: Arc::new(now) }
    }

    /// A way in for a client that is known to [`Call::client`] by this name: what `kube::Client::new` wants.
    pub fn door(&self, client: &str) -> Door {
        Door { server: self.clone(), client: client.into() }
    }

    /// Decides about every request to come. The last one given counts.
    pub fn on_request(&self, decide: impl FnMut(&Call) -> Action + Send + 'static) {
        self.state().faults.decide = Box::new(decide);
    }

    /// Every request so far, with the status it was answered; `None`: no answer was given.
    pub fn log(&self) -> Vec<(Call, Option<u16>)> {
        self.state().faults.log.clone()
    }

    /// How many requests so far are such.
    pub fn count(&self, such: impl Fn(&Call) -> bool) -> usize {
        self.state().faults.log.iter().filter(|(call, _)| such(call)).count()
    }

    /// The object as it is, past all faults.
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state().store.find(plural, namespace, name)
    }

    /// All objects of a kind, past all faults.
    pub fn objects(&self, plural: &str) -> Vec<Value> {
        self.state().store.all(plural)
    }

    /// What a person does, past all faults: creates the object, or replaces everything of it but its status.
    ///
    /// # Errors
    /// As the server refuses it.
    pub fn put(&self, plural: &str, mut object: Value) -> Result<Value, Refusal> {
        let state = &mut *self.state();
        let kind = state.store.kind(plural)?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let (object, events) = if let Some(there) = state.store.find(plural, &namespace, &name) {
            let finalizers = there["metadata"]["finalizers"].clone();
            object["metadata"]["finalizers"] = finalizers;
            state.store.write(&kind, &namespace, &name, false, Write::Replace(object))?
        } else {
            state.store.create(&kind, &namespace, object, None)?
        };
        for event in &events {
            state.watches.tell(event);
        }
        Ok(object)
    }

    /// What a person does, past all faults: a merge patch, of the status too if it names one.
    ///
    /// # Errors
    /// As the server refuses it.
    pub fn merge(&self, plural: &str, namespace: &str, name: &str, patch: &Value) -> Result<Value, Refusal> {
        let state = &mut *self.state();
        let kind = state.store.kind(plural)?;
        let status = patch.get("status").is_some();
        let (object, events) = state.store.write(&kind, namespace, name, status, Write::Merge(patch))?;
        for event in &events {
            state.watches.tell(event);
        }
        Ok(object)
    }

    /// What a person does, past all faults: deletes an object. `true`: it is gone at once.
    ///
    /// # Errors
    /// As the server refuses it.
    pub fn remove(&self, plural: &str, namespace: &str, name: &str) -> Result<bool, Refusal> {
        let state = &mut *self.state();
        let kind = state.store.kind(plural)?;
        let (_, gone, events) = state.store.delete(&kind, namespace, name, &Value::Null)?;
        for event in &events {
            state.watches.tell(event);
        }
        Ok(gone)
    }

    /// The newest resource version.
    pub fn version(&self) -> u64 {
        self.state().store.version()
    }

    /// Forgets the history: a watch from before is told 410, and so is a page of a list begun before.
    pub fn compact(&self) {
        self.state().store.compact();
    }

    /// Holds back the events of a kind's watches until [`Self::release`].
    pub fn hold(&self, plural: &str) {
        self.state().watches.hold(plural);
    }

    /// Lets go what was held, less the first `skip` events, which are lost.
    pub fn release(&self, plural: &str, skip: usize) {
        self.state().watches.release(plural, skip);
    }

    /// Sends the newest `count` events of a kind to its watches once more.
    pub fn replay(&self, plural: &str, count: usize) {
        let state = &mut *self.state();
        for event in state.store.newest_events(plural, count) {
            state.watches.send(&event);
        }
    }

    /// Ends the watches of a kind; within a line, if `mid_line`.
    pub fn close(&self, plural: &str, mid_line: bool) {
        self.state().watches.close(plural, mid_line);
    }

    /// Tells the watches of a kind 410 and ends them.
    pub fn expire(&self, plural: &str) {
        self.state().watches.expire(plural);
    }

    /// Every form an object of a kind ever had, with the time it got it; the last one of those that are gone too.
    pub fn history(&self, plural: &str) -> Vec<(Timestamp, Value)> {
        self.state().store.history(plural)
    }

    /// The last form of any object of a kind that was such.
    pub fn last(&self, plural: &str, such: impl Fn(&Value) -> bool) -> Option<Value> {
        self.state().store.last(plural, such)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.store.now = self.now();
        state
    }

    fn now(&self) -> Timestamp {
        (self.now)()
    }
}

/// See [`ApiServer::door`].
#[derive(Clone)]
pub struct Door {
    server: ApiServer,
    client: Arc<str>,
}

/// The connection broke: whether the request was carried out is not to be seen.
#[derive(Debug, thiserror::Error)]
#[error("the connection broke")]
pub struct Broken;

impl<B> tower::Service<Request<B>> for Door
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { server, client } = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(Body::new(body), usize::MAX).await?;
            serve::serve(&server, client, &parts, &body).await.map_err(Into::into)
        })
    }
}
