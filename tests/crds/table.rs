//! `cel.yaml`: what the API server must accept, and what it must refuse with which words.

use feedwater::yaml;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One case.
#[derive(Debug)]
pub struct Case {
    /// Kind and name of the case, for messages.
    pub title: String,
    /// For an update: the object that is there before.
    pub before: Option<Value>,
    /// The object to be written.
    pub object: Value,
    /// What the refusal says; `None`: it is accepted.
    pub refused: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    base: Value,
    cases: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    #[serde(default)]
    before: Option<Value>,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    refused: Option<String>,
}

/// Every case, ready to be written.
pub fn cases() -> Vec<Case> {
    let kinds: BTreeMap<String, Kind> = yaml::from_str(include_str!("cel.yaml")).unwrap();
    let mut cases = Vec::new();
    for (kind, Kind { base, cases: rows }) in kinds {
        for (number, row) in rows.into_iter().enumerate() {
            let object = |patch: &Value| {
                let mut spec = base.clone();
                merge(&mut spec, patch);
                json!({
                    "apiVersion": "feedwater.dev/v1alpha1",
                    "kind": kind,
                    "metadata": { "name": format!("case-{number}") },
                    "spec": spec,
                })
            };
            cases.push(Case {
                title: format!("{kind}: {}", row.name),
                before: row.before.as_ref().map(object),
                object: object(&row.spec),
                refused: row.refused,
            });
        }
    }
    cases
}

/// JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        if !patch.is_null() {
            *target = patch.clone();
        }
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}
