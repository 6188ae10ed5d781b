//! `manifests/kustomize` knows every field of the CRDs that it has to know.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use feedwater::api::schema;
use feedwater::yaml;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/kustomize")
}

/// Kind and schema of the spec.
fn specs() -> Vec<(String, Value)> {
    let spec = |crd: Value| {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        (kind, schema.clone())
    };
    schema::crds().unwrap().into_iter().map(spec).collect()
}

/// Every field that names another object, as `kind path`.
fn references(kind: &str, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        if name.ends_with("Ref") {
            found.insert(format!("{kind} {path}/name"));
        }
        references(kind, field, &path, found);
    }
    if schema["items"].is_object() {
        references(kind, &schema["items"], path, found);
    }
}

#[test]
fn names_of_other_objects_follow_what_kustomize_renames() {
    let mut declared = BTreeSet::new();
    for (kind, schema) in specs() {
        references(&kind, &schema, "spec", &mut declared);
    }
    let text = fs::read_to_string(folder().join("name-reference.yaml")).unwrap();
    let known: Value = yaml::from_str(&text).unwrap();
    let fields =
        known["nameReference"].as_array().unwrap().iter().flat_map(|target| {
            target["fieldSpecs"].as_array().unwrap().iter().map(|field| {
                format!("{} {}", field["kind"].as_str().unwrap(), field["path"].as_str().unwrap())
            })
        });
    assert_eq!(fields.collect::<BTreeSet<_>>(), declared);
}

/// What of a schema kustomize needs to merge lists by their keys; none where there is no such list.
fn merging(schema: &Value) -> Option<Value> {
    let mut properties = Map::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(field) = merging(field) {
            properties.insert(name.clone(), field);
        }
    }
    if schema["x-kubernetes-list-type"] == "map" {
        let key = &schema["x-kubernetes-list-map-keys"][0];
        return Some(json!({
            "type": "array", "items": {"type": "object"},
            "x-kubernetes-patch-merge-key": key, "x-kubernetes-patch-strategy": "merge",
        }));
    }
    (!properties.is_empty()).then(|| json!({"type": "object", "properties": properties}))
}

#[test]
fn lists_are_merged_by_the_keys_of_the_crds() {
    let mut definitions = Map::new();
    for (kind, schema) in specs() {
        if let Some(spec) = merging(&schema) {
            let named = json!([{"group": "feedwater.dev", "version": "v1alpha1", "kind": kind}]);
            let whole = json!({"type": "object", "properties": {"spec": spec}, "x-kubernetes-group-version-kind": named});
            definitions.insert(format!("dev.feedwater.v1alpha1.{kind}"), whole);
        }
    }
    let text = format!("{}\n", serde_json::to_string_pretty(&json!({"definitions": definitions})).unwrap());
    let file = folder().join("openapi.json");
    if env::var_os("UPDATE").is_some() {
        fs::write(&file, &text).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == text, "manifests/kustomize/openapi.json is stale: UPDATE=1 cargo test --test kustomize");
}
