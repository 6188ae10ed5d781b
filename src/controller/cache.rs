//! Reads its own writes: the store's object, or the answer to our last write where that is newer [measured: without it, conflicts and
//! doubled writes].

use crate::guards::{Guard, holds};
use crate::model::ids::ObjectName;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Answers to our writes, by namespace and name, until the watch has caught up or the object is gone.
pub struct Cache<K> {
    wrote: Mutex<HashMap<Place, Arc<K>>>,
}

type Place = (Option<String>, Option<String>);

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { wrote: Mutex::default() }
    }
}

impl<K: Resource> Cache<K> {
    /// Remembers the API server's answer to a write of ours.
    pub fn wrote(&self, object: Arc<K>) {
        let mut wrote = self.lock();
        let place = place(&*object);
        if wrote.get(&place).is_none_or(|before| version(&**before) < version(&*object)) {
            wrote.insert(place, object);
        }
    }

    /// The newer of what the watch delivered and what we wrote under the same uid.
    pub fn newest(&self, seen: Arc<K>) -> Arc<K> {
        let mut wrote = self.lock();
        let place = place(&*seen);
        match wrote.get(&place) {
            Some(ours)
                if ours.uid() == seen.uid()
                    && version(&**ours) > version(&*seen)
                    && holds(Guard::NewestOfCache) =>
            {
                ours.clone()
            }
            Some(_) => {
                wrote.remove(&place);
                seen
            }
            None => seen,
        }
    }

    /// Forgets what is deleted.
    pub fn on_event(&self, event: &Event<K>) {
        match event {
            Event::Delete(object) => {
                self.lock().remove(&place(object));
            }
            // After a relist the store is whole; a write answered later than the list is newer and stays.
            Event::Init | Event::InitApply(_) | Event::InitDone | Event::Apply(_) => {}
        }
    }

    /// The watch has no object of this name: what we wrote is of one that is gone, also where the answer came after its end.
    pub fn gone(&self, name: &ObjectName) {
        let namespace = (!name.is_cluster()).then(|| name.namespace.to_string());
        self.lock().remove(&(namespace, Some(name.name.to_string())));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Place, Arc<K>>> {
        self.wrote.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place<K: Resource>(object: &K) -> Place {
    (object.namespace(), object.meta().name.clone())
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
                json!({ "metadata": { "namespace": "n", "name": "a", "uid": uid, "resourceVersion": version } }),
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
        assert_eq!(cache.newest(object("u", "10")).resource_version().unwrap(), "10");
        assert_eq!(cache.newest(object("u", "7")).resource_version().unwrap(), "7", "caught up: forgotten");
    }

    #[test]
    fn an_object_that_is_gone_leaves_nothing_behind() {
        let cache = Cache::default();
        cache.wrote(object("u", "9"));
        assert_eq!(cache.newest(object("namesake", "7")).uid().unwrap(), "namesake");
        assert_eq!(cache.lock().len(), 0);
        cache.wrote(object("u", "9"));
        cache.gone(&ObjectName { namespace: "n".into(), name: "a".into() });
        assert_eq!(cache.lock().len(), 0);
    }
}
