//! Reads its own writes: the store's object, or the answer to our last write where that is newer [measured: without it, conflicts and
//! doubled writes].

use crate::guards::{Guard, holds};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Answers to our writes, by uid, until the watch has caught up.
pub struct Cache<K> {
    wrote: Mutex<HashMap<String, Arc<K>>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { wrote: Mutex::default() }
    }
}

impl<K: Resource> Cache<K> {
    /// Remembers the API server's answer to a write of ours.
    pub fn wrote(&self, object: Arc<K>) {
        if let Some(uid) = object.uid() {
            let mut wrote = self.lock();
            if wrote.get(&uid).is_none_or(|before| version(&**before) < version(&*object)) {
                wrote.insert(uid, object);
            }
        }
    }

    /// The newer of what the watch delivered and what we wrote under the same uid.
    pub fn newest(&self, seen: Arc<K>) -> Arc<K> {
        let Some(uid) = seen.uid() else { return seen };
        let mut wrote = self.lock();
        match wrote.get(&uid) {
            Some(ours) if version(&**ours) > version(&*seen) && holds(Guard::NewestOfCache) => ours.clone(),
            Some(_) => {
                wrote.remove(&uid);
                seen
            }
            None => seen,
        }
    }

    /// Forgets what is deleted; kept small by the watch.
    pub fn on_event(&self, event: &Event<K>) {
        match event {
            Event::Delete(object) => {
                if let Some(uid) = object.uid() {
                    self.lock().remove(&uid);
                }
            }
            // After a relist the store is whole; a write answered later than the list is newer and stays.
            Event::Init | Event::InitApply(_) | Event::InitDone | Event::Apply(_) => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<K>>> {
        self.wrote.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resource versions are ordered numbers within one kind (Kubernetes since 1.35 promises it; etcd always did).
fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    fn object(uid: &str, version: &str) -> Arc<ConfigMap> {
        Arc::new(
            serde_json::from_value(
                json!({ "metadata": { "name": "a", "uid": uid, "resourceVersion": version } }),
            )
            .unwrap(),
        )
    }

    #[test]
    fn the_newer_one_wins_under_the_same_uid() {
        let cache = Cache::default();
        cache.wrote(object("u", "9"));
        cache.wrote(object("u", "8"));
        assert_eq!(cache.newest(object("u", "7")).resource_version().unwrap(), "9");
        assert_eq!(cache.newest(object("other", "1")).resource_version().unwrap(), "1");
        assert_eq!(cache.newest(object("u", "10")).resource_version().unwrap(), "10");
        assert_eq!(cache.newest(object("u", "7")).resource_version().unwrap(), "7", "caught up: forgotten");
    }
}
