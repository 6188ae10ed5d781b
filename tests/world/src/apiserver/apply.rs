//! Patches: RFC 7386, and server-side apply with atomic lists.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::store::Refusal;

/// Which manager has set which leaves, apart for the status and the rest.
pub(super) type Managers = BTreeMap<(String, String), BTreeSet<Vec<String>>>;

/// Who has set what in an object that was created by applying it.
pub(super) fn first(manager: &str, body: &Value) -> Managers {
    BTreeMap::from([((manager.to_owned(), String::new()), leaves(body))])
}

/// What a merge patch makes of a value.
pub(super) fn merged(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = match target {
        Value::Object(target) => target,
        _ => serde_json::Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            let inner = target.remove(name).unwrap_or_default();
            target.insert(name.clone(), merged(inner, value));
        }
    }
    Value::Object(target)
}

/// What applying `body` makes of an object: what the manager set before and no longer names goes, unless another manager has set it too.
pub(super) fn applied(
    current: &Value,
    managers: &mut Managers,
    (manager, scope): (&str, &str),
    force: bool,
    body: &Value,
) -> Result<Value, Refusal> {
    let me = (manager.to_owned(), scope.to_owned());
    let mine = leaves(body);
    for (other, theirs) in managers.iter_mut().filter(|(other, _)| **other != me) {
        let disputed: Vec<Vec<String>> = theirs
            .iter()
            .filter(|path| mine.contains(*path) && at(current, path) != at(body, path))
            .cloned()
            .collect();
        if !disputed.is_empty() && !force {
            return Err(Refusal::Managed);
        }
        let _ = other;
        for path in disputed {
            theirs.remove(&path);
        }
    }
    let before = managers.insert(me.clone(), mine.clone()).unwrap_or_default();
    let mut next = current.clone();
    for path in before.difference(&mine) {
        let shared = managers.iter().any(|(other, theirs)| *other != me && theirs.contains(path));
        if !shared {
            remove(&mut next, path);
        }
    }
    for path in &mine {
        if let Some(value) = at(body, path) {
            set(&mut next, path, value.clone());
        }
    }
    Ok(next)
}

/// Paths to everything that is no object with members, but what the server sets.
fn leaves(body: &Value) -> BTreeSet<Vec<String>> {
    fn walk(value: &Value, path: &mut Vec<String>, found: &mut BTreeSet<Vec<String>>) {
        match value.as_object().filter(|object| !object.is_empty()) {
            Some(object) => {
                for (name, inner) in object {
                    path.push(name.clone());
                    walk(inner, path, found);
                    path.pop();
                }
            }
            None => {
                found.insert(path.clone());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(body, &mut Vec::new(), &mut found);
    found.retain(|path| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        !matches!(
            path.as_slice(),
            ["apiVersion" | "kind"]
                | [
                    "metadata",
                    "name" | "namespace" | "resourceVersion" | "uid" | "creationTimestamp" | "generation"
                ]
        )
    });
    found
}

fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

fn set(value: &mut Value, path: &[String], new: Value) {
    let Some((name, rest)) = path.split_first() else {
        *value = new;
        return;
    };
    if !value.is_object() {
        *value = Value::Object(serde_json::Map::new());
    }
    if let Some(object) = value.as_object_mut() {
        set(object.entry(name.clone()).or_insert(Value::Null), rest, new);
    }
}

/// Takes a leaf away, and the objects it leaves empty.
fn remove(value: &mut Value, path: &[String]) {
    let (Some((name, rest)), Some(object)) = (path.split_first(), value.as_object_mut()) else { return };
    if rest.is_empty() {
        object.remove(name);
        return;
    }
    if let Some(inner) = object.get_mut(name) {
        remove(inner, rest);
        if inner.as_object().is_some_and(serde_json::Map::is_empty) {
            object.remove(name);
        }
    }
}
