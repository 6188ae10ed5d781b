//! Secrets, watched one by one by name: the only right on them that a tenant's Role gives (API.md 1.7).

use super::wakes::Wakes;
use crate::model::ids::ObjectName;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// What is known of a Secret.
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

/// Who uses a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Referrer {
    /// A `PrefectWorkspace`.
    Workspace(ObjectName),
    /// A `TableauSite`.
    Site(ObjectName),
}

/// The Secrets in use.
pub struct Secrets {
    client: Client,
    wakes: Wakes,
    watched: Arc<Mutex<HashMap<ObjectName, Watched>>>,
}

struct Watched {
    view: SecretView,
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

    /// The Secret a referrer uses now, watched from now on; one it used before is let go. `None`: it uses none.
    pub fn follow(&self, referrer: &Referrer, secret: Option<&ObjectName>) -> Option<SecretView> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|name, entry| {
            if Some(name) != secret {
                entry.referrers.remove(referrer);
            }
            !entry.referrers.is_empty()
        });
        let secret = secret?;
        let entry = watched.entry(secret.clone()).or_insert_with(|| Watched {
            view: SecretView::Unread,
            referrers: HashSet::new(),
            task: self.watch(secret.clone()),
        });
        entry.referrers.insert(referrer.clone());
        Some(entry.view.clone())
    }

    /// Reads the Secret once, past the watch: to be called when its credential was refused, since a watch may lag (API.md 1.7). Whoever uses it
    /// is woken if it differs from what was known.
    pub fn read_again(&self, name: ObjectName) {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &name.namespace);
        let (watched, wakes) = (self.watched.clone(), self.wakes.clone());
        tokio::spawn(async move {
            let Ok(Some(secret)) = api.get_opt(&name.name).await else { return };
            let SecretView::Present(fresh) = present(secret) else { return };
            let differs = {
                let watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
                match watched.get(&name).map(|entry| &entry.view) {
                    Some(SecretView::Present(known)) => !same(known, &fresh),
                    Some(SecretView::Unread | SecretView::NotFound | SecretView::Forbidden) => true,
                    None => false,
                }
            };
            if differs {
                settle(&watched, &wakes, &name, SecretView::Present(fresh));
            }
        });
    }

    fn watch(&self, name: ObjectName) -> JoinHandle<()> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &name.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", name.name));
        let (watched, wakes) = (self.watched.clone(), self.wakes.clone());
        tokio::spawn(async move {
            let mut events = watcher(api, config).default_backoff().boxed();
            let mut arriving = None;
            let mut refused = 0_u32;
            while let Some(event) = events.next().await {
                let view = match event {
                    Ok(watcher::Event::Init) => {
                        arriving = None;
                        continue;
                    }
                    Ok(watcher::Event::InitApply(secret)) => {
                        arriving = Some(secret);
                        continue;
                    }
                    Ok(watcher::Event::InitDone) => arriving.take().map_or(SecretView::NotFound, present),
                    Ok(watcher::Event::Apply(secret)) => present(secret),
                    Ok(watcher::Event::Delete(_)) => SecretView::NotFound,
                    Err(error) if forbidden(&error) => {
                        // The watcher's own wait begins anew with each try.
                        if refused > 0 {
                            tokio::time::sleep(REFUSED * (1 << refused.min(4))).await;
                        }
                        refused += 1;
                        settle(&watched, &wakes, &name, SecretView::Forbidden);
                        continue;
                    }
                    Err(error) => {
                        // What was read stays in use.
                        tracing::warn!(secret = %name, %error, "a Secret cannot be watched");
                        continue;
                    }
                };
                refused = 0;
                settle(&watched, &wakes, &name, view);
            }
        })
    }
}

/// Takes a new view and wakes whoever uses the Secret.
fn settle(watched: &Mutex<HashMap<ObjectName, Watched>>, wakes: &Wakes, name: &ObjectName, view: SecretView) {
    let referrers: Vec<Referrer> = {
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = watched.get_mut(name) else { return };
        entry.view = view;
        entry.referrers.iter().cloned().collect()
    };
    for referrer in referrers {
        match referrer {
            Referrer::Workspace(name) => wakes.workspace(&name),
            Referrer::Site(name) => wakes.site(&name),
        }
    }
}

fn same(a: &BTreeMap<String, SecretString>, b: &BTreeMap<String, SecretString>) -> bool {
    a.len() == b.len()
        && a.iter().all(|(key, value)| {
            b.get(key).is_some_and(|other| other.expose_secret() == value.expose_secret())
        })
}

fn present(secret: Secret) -> SecretView {
    let keys = secret
        .data
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(key, value)| Some((key, SecretString::from(String::from_utf8(value.0).ok()?))))
        .collect();
    SecretView::Present(Arc::new(keys))
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
