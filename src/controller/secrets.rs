//! Secrets, and `ConfigMap`s with certificates, watched one by one by name: the only right on them that a tenant's Role gives (API.md 1.7).

use super::index::Dependent;
use super::wakes::Wakes;
use crate::model::ids::ObjectName;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// What holds keys with values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A Secret.
    Secret(ObjectName),
    /// A `ConfigMap`.
    ConfigMap(ObjectName),
}

/// What is known of a source.
#[derive(Clone, Debug)]
pub enum SecretView {
    /// Not read yet.
    Unread,
    /// There is none of that name.
    NotFound,
    /// RBAC forbids reading it.
    Forbidden,
    /// Its keys, those that are text.
    Present(Arc<BTreeMap<String, SecretString>>),
}

/// The wait after a second refusal; it doubles up to sixteen times that.
const REFUSED: Duration = Duration::from_secs(1);

/// Who uses a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Referrer {
    /// A `PrefectWorkspace`.
    Workspace(ObjectName),
    /// A `TableauSite`.
    Site(ObjectName),
    /// A `FlowDeployment`.
    Flow(ObjectName),
}

/// The sources in use.
pub struct Secrets {
    client: Client,
    wakes: Wakes,
    watched: Arc<Mutex<HashMap<Source, Watched>>>,
}

struct Watched {
    view: SecretView,
    /// The resource version at which what it holds was last seen to change.
    version: String,
    referrers: HashSet<Referrer>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Secrets {
    /// None in use.
    pub fn new(client: Client, wakes: Wakes) -> Self {
        Self { client, wakes, watched: Arc::default() }
    }

    /// The sources a referrer uses now, watched from now on; those it used before are let go.
    pub fn follow(&self, referrer: &Referrer, sources: &[Source]) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|source, entry| {
            if !sources.contains(source) {
                entry.referrers.remove(referrer);
            }
            !entry.referrers.is_empty()
        });
        for source in sources {
            let entry = watched.entry(source.clone()).or_insert_with(|| Watched {
                view: SecretView::Unread,
                version: String::new(),
                referrers: HashSet::new(),
                task: self.watch(source.clone()),
            });
            entry.referrers.insert(referrer.clone());
        }
    }

    /// What is known of a source that is followed.
    pub fn view(&self, source: &Source) -> SecretView {
        self.versioned(source).0
    }

    /// The same, with the resource version at which what it holds was last seen to change.
    pub fn versioned(&self, source: &Source) -> (SecretView, String) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let known = watched.get(source).map(|entry| (entry.view.clone(), entry.version.clone()));
        known.unwrap_or((SecretView::Unread, String::new()))
    }

    /// Reads the Secret once, past the watch: to be called when its credential was refused, since a watch may lag (API.md 1.7). Whoever uses it
    /// is woken if it differs from what was known.
    pub fn read_again(&self, name: ObjectName) {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &name.namespace);
        let (watched, wakes) = (self.watched.clone(), self.wakes.clone());
        tokio::spawn(async move {
            let Ok(Some(secret)) = api.get_opt(&name.name).await else { return };
            settle(&watched, &wakes, &Source::Secret(name), secret_keys(secret));
        });
    }

    fn watch(&self, source: Source) -> JoinHandle<()> {
        let (client, watched, wakes) = (self.client.clone(), self.watched.clone(), self.wakes.clone());
        match &source {
            Source::Secret(name) => {
                let api: Api<Secret> = Api::namespaced(client, &name.namespace);
                let name = name.name.clone();
                tokio::spawn(async move { keep(api, &name, &source, secret_keys, &watched, &wakes).await })
            }
            Source::ConfigMap(name) => {
                let api: Api<ConfigMap> = Api::namespaced(client, &name.namespace);
                let name = name.name.clone();
                tokio::spawn(async move { keep(api, &name, &source, map_keys, &watched, &wakes).await })
            }
        }
    }
}

/// Watches one object for as long as it is polled.
async fn keep<K>(
    api: Api<K>,
    name: &str,
    source: &Source,
    present: fn(K) -> Held,
    watched: &Mutex<HashMap<Source, Watched>>,
    wakes: &Wakes,
) where
    K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut arriving = None;
    let mut refused = 0_u32;
    while let Some(event) = events.next().await {
        let view = match event {
            Ok(watcher::Event::Init) => {
                arriving = None;
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                arriving = Some(object);
                continue;
            }
            Ok(watcher::Event::InitDone) => arriving.take().map_or_else(absent, present),
            Ok(watcher::Event::Apply(object)) => present(object),
            Ok(watcher::Event::Delete(_)) => absent(),
            Err(error) if forbidden(&error) => {
                // The watcher's own wait begins anew with each try.
                if refused > 0 {
                    tokio::time::sleep(REFUSED * (1 << refused.min(4))).await;
                }
                refused += 1;
                settle(watched, wakes, source, (SecretView::Forbidden, String::new()));
                continue;
            }
            Err(error) => {
                // What was read stays in use.
                tracing::warn!(?source, %error, "it cannot be watched");
                continue;
            }
        };
        refused = 0;
        settle(watched, wakes, source, view);
    }
}

/// What a source holds, and its resource version.
type Held = (SecretView, String);

/// Takes a new view and wakes whoever uses the source, if it holds something else than before: its metadata is nobody's concern.
fn settle(watched: &Mutex<HashMap<Source, Watched>>, wakes: &Wakes, source: &Source, (view, version): Held) {
    let referrers: Vec<Referrer> = {
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = watched.get_mut(source) else { return };
        if let (SecretView::Present(known), SecretView::Present(fresh)) = (&entry.view, &view)
            && same(known, fresh)
        {
            return;
        }
        (entry.view, entry.version) = (view, version);
        entry.referrers.iter().cloned().collect()
    };
    for referrer in referrers {
        match referrer {
            Referrer::Workspace(name) => wakes.workspace(&name),
            Referrer::Site(name) => wakes.site(&name),
            Referrer::Flow(name) => wakes.dependent(&Dependent::Flow(name)),
        }
    }
}

fn same(a: &BTreeMap<String, SecretString>, b: &BTreeMap<String, SecretString>) -> bool {
    a.len() == b.len()
        && a.iter().all(|(key, value)| {
            b.get(key).is_some_and(|other| other.expose_secret() == value.expose_secret())
        })
}

fn absent() -> Held {
    (SecretView::NotFound, String::new())
}

fn map_keys(map: ConfigMap) -> Held {
    let keys = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into()));
    (SecretView::Present(Arc::new(keys.collect())), map.metadata.resource_version.unwrap_or_default())
}

fn secret_keys(secret: Secret) -> Held {
    let version = secret.metadata.resource_version.unwrap_or_default();
    let keys = secret
        .data
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(key, value)| Some((key, SecretString::from(String::from_utf8(value.0).ok()?))))
        .collect();
    (SecretView::Present(Arc::new(keys)), version)
}

fn forbidden(error: &watcher::Error) -> bool {
    let cause = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => cause,
        watcher::Error::WatchError(status) => return status.is_forbidden(),
        watcher::Error::NoResourceVersion => return false,
    };
    matches!(cause, kube::Error::Api(status) if status.is_forbidden())
}
