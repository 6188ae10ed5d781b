//! The objects, their versions and their history.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::apply::{self, Managers};
use super::kinds::Kind;

/// Everything there is.
pub(super) struct Store {
    pub(super) kinds: Vec<Kind>,
    objects: BTreeMap<Key, Object>,
    version: u64,
    history: Vec<Event>,
    /// What happened up to here is not told any more.
    compacted: u64,
    /// The server's clock at the present request.
    pub(super) now: Timestamp,
    created: u64,
}

/// Plural, namespace, name: objects of a kind lie together, in the order lists have.
pub(super) type Key = (String, String, String);

#[derive(Clone)]
struct Object {
    value: Value,
    managers: Managers,
}

/// Something that happened to an object.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) version: u64,
    pub(super) at: Timestamp,
    pub(super) key: Key,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(super) what: &'static str,
    pub(super) object: Value,
}

/// Why something was not done, with its status code and reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such object.
    #[error("not found")]
    NotFound,
    /// There is one already.
    #[error("already exists")]
    AlreadyExists,
    /// Another write came between.
    #[error("the object has been modified; please apply your changes to the latest version and try again")]
    Conflict,
    /// Another manager has set a field to another value.
    #[error("conflict with another field manager")]
    Managed,
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// The namespace is being terminated.
    #[error("unable to create new content in namespace because it is being terminated")]
    Terminating,
    /// The server no longer knows what happened since then.
    #[error("too old resource version")]
    Expired,
    /// The format of the body is not one of ours.
    #[error("the body of the request was in an unknown format")]
    Unsupported,
    /// The request cannot be read.
    #[error("the request cannot be read")]
    BadRequest,
}

impl Refusal {
    pub(super) fn code(&self) -> (u16, &'static str) {
        match self {
            Self::NotFound => (404, "NotFound"),
            Self::AlreadyExists => (409, "AlreadyExists"),
            Self::Conflict | Self::Managed => (409, "Conflict"),
            Self::Invalid(_) => (422, "Invalid"),
            Self::Terminating => (403, "Forbidden"),
            Self::Expired => (410, "Expired"),
            Self::Unsupported => (415, "UnsupportedMediaType"),
            Self::BadRequest => (400, "BadRequest"),
        }
    }
}

/// How an object is written.
pub(super) enum Write<'a> {
    /// Its new form.
    Replace(Value),
    /// RFC 7386.
    Merge(&'a Value),
    /// Server-side apply.
    Apply { manager: &'a str, force: bool, body: &'a Value },
}

impl Store {
    pub(super) fn new(kinds: Vec<Kind>) -> Self {
        Self {
            kinds,
            objects: BTreeMap::new(),
            version: 1,
            history: Vec::new(),
            compacted: 0,
            now: Timestamp::UNIX_EPOCH,
            created: 0,
        }
    }

    pub(super) fn kind(&self, plural: &str) -> Result<Kind, Refusal> {
        self.kinds.iter().find(|kind| kind.plural == plural).cloned().ok_or(Refusal::NotFound)
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn compact(&mut self) {
        // A write nobody watches, as etcd's own: what is read from now on is newer than what is forgotten.
        self.version += 1;
        self.compacted = self.version;
    }

    pub(super) fn find(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.objects.get(&key).map(|object| object.value.clone())
    }

    pub(super) fn all(&self, plural: &str) -> Vec<Value> {
        self.objects
            .iter()
            .filter(|((of, _, _), _)| of == plural)
            .map(|(_, object)| object.value.clone())
            .collect()
    }

    /// Objects of a kind as they were at a version.
    pub(super) fn at(&self, plural: &str, version: u64) -> Result<Vec<(Key, Value)>, Refusal> {
        let mut then: BTreeMap<Key, Value> = self
            .objects
            .iter()
            .filter(|((of, _, _), _)| of == plural)
            .map(|(key, object)| (key.clone(), object.value.clone()))
            .collect();
        if version < self.compacted {
            return Err(Refusal::Expired);
        }
        let after: Vec<&Event> = self.history.iter().filter(|event| event.key.0 == plural).collect();
        for (index, event) in after.iter().enumerate().rev().filter(|(_, event)| event.version > version) {
            let before = after[..index].iter().rev().find(|earlier| earlier.key == event.key);
            match before.filter(|earlier| earlier.what != "DELETED") {
                Some(earlier) => then.insert(event.key.clone(), earlier.object.clone()),
                None if event.what == "ADDED" => then.remove(&event.key),
                // What it was before the history begins is forgotten.
                None => return Err(Refusal::Expired),
            };
        }
        Ok(then.into_iter().collect())
    }

    /// What happened to a kind since a version.
    pub(super) fn since(&self, plural: &str, version: u64) -> Result<Vec<Event>, Refusal> {
        if version < self.compacted {
            return Err(Refusal::Expired);
        }
        let of_kind = |event: &&Event| event.key.0 == plural && event.version > version;
        Ok(self.history.iter().filter(of_kind).cloned().collect())
    }

    pub(super) fn history(&self, plural: &str) -> Vec<(Timestamp, Value)> {
        let of_kind = self.history.iter().filter(|event| event.key.0 == plural);
        of_kind.map(|event| (event.at, event.object.clone())).collect()
    }

    pub(super) fn last(&self, plural: &str, such: impl Fn(&Value) -> bool) -> Option<Value> {
        let mut of_kind = self.history.iter().rev().filter(|event| event.key.0 == plural);
        of_kind.find(|event| such(&event.object)).map(|event| event.object.clone())
    }

    pub(super) fn newest_events(&self, plural: &str, count: usize) -> Vec<Event> {
        let mut events: Vec<Event> =
            self.history.iter().rev().filter(|event| event.key.0 == plural).take(count).cloned().collect();
        events.reverse();
        events
    }

    /// Creates an object; the events of it come back with it.
    pub(super) fn create(
        &mut self,
        kind: &Kind,
        namespace: &str,
        mut value: Value,
        manager: Option<&str>,
    ) -> Result<(Value, Vec<Event>), Refusal> {
        self.created += 1;
        let generated = value["metadata"]["generateName"].as_str().map(|p| format!("{p}{:05}", self.created));
        let name = value["metadata"]["name"].as_str().map(str::to_owned).or(generated);
        let name = name.ok_or(Refusal::Invalid("name or generateName is required"))?;
        if value["metadata"]["namespace"].as_str().is_some_and(|own| own != namespace) {
            return Err(Refusal::BadRequest);
        }
        if kind.namespaced {
            let home = self.find("namespaces", "", namespace).ok_or(Refusal::NotFound)?;
            if !home["metadata"]["deletionTimestamp"].is_null() {
                return Err(Refusal::Terminating);
            }
        }
        let key = (kind.plural.clone(), namespace.to_owned(), name.clone());
        if self.objects.contains_key(&key) {
            return Err(Refusal::AlreadyExists);
        }
        let managers = manager.map(|by| apply::first(by, &value)).unwrap_or_default();
        if kind.has_status
            && let Some(object) = value.as_object_mut()
        {
            object.remove("status");
        }
        value["apiVersion"] = json!(kind.api_version());
        value["kind"] = json!(kind.kind);
        kind.default(&mut value);
        let metadata = &mut value["metadata"];
        metadata["name"] = json!(name);
        if kind.namespaced {
            metadata["namespace"] = json!(namespace);
        }
        metadata["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", self.created));
        metadata["creationTimestamp"] = json!(second(self.now));
        if let Some(metadata) = metadata.as_object_mut() {
            for field in ["deletionTimestamp", "resourceVersion", "managedFields", "selfLink"] {
                metadata.remove(field);
            }
        }
        if kind.has_status {
            metadata["generation"] = json!(1);
        }
        let event = self.commit("ADDED", key, Object { value, managers });
        Ok((event.object.clone(), vec![event]))
    }

    /// Changes an object, or its status.
    pub(super) fn write(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        status: bool,
        write: Write,
    ) -> Result<(Value, Vec<Event>), Refusal> {
        let key = (kind.plural.clone(), namespace.to_owned(), name.to_owned());
        let current = self.objects.get(&key).ok_or(Refusal::NotFound)?.clone();
        let asked = match &write {
            Write::Replace(body) => body,
            Write::Merge(body) | Write::Apply { body, .. } => *body,
        };
        locked(&current.value, asked).map_err(|refusal| match &write {
            // A patch makes the new form first, and that may not have another uid.
            Write::Merge(patch) if !same(&current.value, patch, "uid") => {
                Refusal::Invalid("field is immutable")
            }
            Write::Merge(_) | Write::Replace(_) | Write::Apply { .. } => refusal,
        })?;
        let mut managers = current.managers.clone();
        let changed = match write {
            Write::Replace(body) => body,
            Write::Merge(patch) => apply::merged(current.value.clone(), patch),
            Write::Apply { manager, force, body } => {
                let scope = if status { "status" } else { "" };
                apply::applied(&current.value, &mut managers, (manager, scope), force, body)?
            }
        };
        let value = settled(kind, status, &current.value, changed)?;
        if value == current.value {
            if let Some(object) = self.objects.get_mut(&key) {
                object.managers = managers;
            }
            return Ok((value, Vec::new()));
        }
        let terminated = !value["metadata"]["deletionTimestamp"].is_null() && finalizers(&value).is_empty();
        let what = if terminated { "DELETED" } else { "MODIFIED" };
        let event = self.commit(what, key, Object { value, managers });
        let object = event.object.clone();
        let mut events = vec![event];
        events.extend(self.empty_namespaces());
        Ok((object, events))
    }

    /// Deletes an object, or marks it if it has finalizers. `true`: it is gone.
    pub(super) fn delete(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        preconditions: &Value,
    ) -> Result<(Value, bool, Vec<Event>), Refusal> {
        let key = (kind.plural.clone(), namespace.to_owned(), name.to_owned());
        let mut object = self.objects.get(&key).ok_or(Refusal::NotFound)?.clone();
        for field in ["uid", "resourceVersion"] {
            if preconditions[field].is_string() && preconditions[field] != object.value["metadata"][field] {
                return Err(Refusal::Conflict);
            }
        }
        let mut events = Vec::new();
        if kind.plural == "namespaces" {
            // The namespace controller's part, done at once.
            events = self.terminate(name)?;
            if !self.objects.keys().any(|(_, of, _)| of == name) {
                let event = self.commit("DELETED", key, object);
                let value = event.object.clone();
                events.push(event);
                return Ok((value, true, events));
            }
            object.value["status"] = json!({"phase": "Terminating"});
        } else if finalizers(&object.value).is_empty() {
            let event = self.commit("DELETED", key, object);
            let value = event.object.clone();
            events.push(event);
            events.extend(self.empty_namespaces());
            return Ok((value, true, events));
        }
        if !object.value["metadata"]["deletionTimestamp"].is_null() {
            return Ok((object.value, false, events));
        }
        object.value["metadata"]["deletionTimestamp"] = json!(second(self.now));
        object.value["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        if let Some(generation) = object.value["metadata"]["generation"].as_i64() {
            object.value["metadata"]["generation"] = json!(generation + 1);
        }
        let event = self.commit("MODIFIED", key, object);
        let value = event.object.clone();
        events.insert(0, event);
        Ok((value, false, events))
    }

    fn terminate(&mut self, namespace: &str) -> Result<Vec<Event>, Refusal> {
        let inside: Vec<Key> = self.objects.keys().filter(|(_, of, _)| of == namespace).cloned().collect();
        let mut events = Vec::new();
        for (plural, _, name) in inside {
            let kind = self.kind(&plural)?;
            // Deleting the last of them may end the namespace itself.
            match self.delete(&kind, namespace, &name, &Value::Null) {
                Ok((_, _, more)) => events.extend(more),
                Err(Refusal::NotFound) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(events)
    }

    /// Namespaces that only waited for their last object.
    fn empty_namespaces(&mut self) -> Vec<Event> {
        let ended: Vec<(Key, Object)> = self
            .objects
            .iter()
            .filter(|((plural, _, name), object)| {
                plural == "namespaces"
                    && !object.value["metadata"]["deletionTimestamp"].is_null()
                    && !self.objects.keys().any(|(_, of, _)| of == name)
            })
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        ended.into_iter().map(|(key, object)| self.commit("DELETED", key, object)).collect()
    }

    fn commit(&mut self, what: &'static str, key: Key, mut object: Object) -> Event {
        self.version += 1;
        object.value["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let event = Event {
            version: self.version,
            at: self.now,
            key: key.clone(),
            what,
            object: object.value.clone(),
        };
        self.history.push(event.clone());
        if what == "DELETED" {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key, object);
        }
        event
    }
}

/// A resource version in the body is an optimistic lock, and so is a uid.
fn locked(current: &Value, body: &Value) -> Result<(), Refusal> {
    if same(current, body, "resourceVersion") && same(current, body, "uid") {
        Ok(())
    } else {
        Err(Refusal::Conflict)
    }
}

/// Whether a body means this object by a field of its metadata, or leaves it open.
fn same(current: &Value, body: &Value, field: &str) -> bool {
    let asked = &body["metadata"][field];
    !asked.is_string() || *asked == current["metadata"][field]
}

/// What of a changed object takes effect: the status, or everything but the status and what the server alone sets.
fn settled(kind: &Kind, status: bool, current: &Value, mut changed: Value) -> Result<Value, Refusal> {
    if status {
        let mut next = current.clone();
        match changed.get_mut("status").map(Value::take) {
            Some(given) => next["status"] = given,
            None => drop(next.as_object_mut().map(|object| object.remove("status"))),
        }
        kind.default(&mut next);
        return Ok(next);
    }
    if kind.has_status
        && let Some(object) = changed.as_object_mut()
    {
        object.remove("status");
        if let Some(kept) = current.get("status") {
            object.insert("status".into(), kept.clone());
        }
    }
    changed["apiVersion"] = current["apiVersion"].clone();
    changed["kind"] = current["kind"].clone();
    let metadata = changed["metadata"].as_object_mut().ok_or(Refusal::Invalid("metadata is required"))?;
    metadata.remove("managedFields");
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match current["metadata"].get(field) {
            Some(kept) => metadata.insert(field.into(), kept.clone()),
            None => metadata.remove(field),
        };
    }
    for field in ["finalizers", "annotations", "labels", "ownerReferences"] {
        let empty = |value: &Value| {
            value.is_null()
                || value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty)
        };
        if metadata.get(field).is_some_and(empty) {
            metadata.remove(field);
        }
    }
    kind.default(&mut changed);
    let before = finalizers(current);
    let deleting = !current["metadata"]["deletionTimestamp"].is_null();
    if deleting && finalizers(&changed).iter().any(|finalizer| !before.contains(finalizer)) {
        return Err(Refusal::Invalid("no new finalizers can be added if the object is being deleted"));
    }
    let spec = |object: &Value| {
        let mut rest = object.clone();
        if let Some(rest) = rest.as_object_mut() {
            for field in ["metadata", "status"] {
                rest.remove(field);
            }
        }
        rest
    };
    if let Some(generation) = current["metadata"]["generation"].as_i64()
        && spec(current) != spec(&changed)
    {
        changed["metadata"]["generation"] = json!(generation + 1);
    }
    Ok(changed)
}

fn finalizers(object: &Value) -> Vec<&str> {
    let finalizers = object["metadata"]["finalizers"].as_array();
    finalizers.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
