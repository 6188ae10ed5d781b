//! `manifests/kustomize` knows every field of the CRDs that it has to know. What a real kustomize makes of it: `tests/e2e/kustomize.rs`.

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

/// What a field that names another object may lead to.
fn targets(field: &str) -> &'static [&'static str] {
    match field {
        "workspaceRef" => &["PrefectWorkspace", "ClusterPrefectWorkspace"],
        "siteRef" => &["TableauSite", "ClusterTableauSite"],
        "flowDeploymentRef" => &["FlowDeployment"],
        "secretRef" | "headersSecretRef" | "secretKeyRef" => &["Secret"],
        "caBundleRef" => &["Secret", "ConfigMap"],
        other => panic!("say here what {other} names"),
    }
}

/// Every field that names another object, as `kind path -> kind`.
fn references(kind: &str, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        if name.ends_with("Ref") {
            found.extend(targets(name).iter().map(|target| format!("{kind} {path}/name -> {target}")));
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
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let mut listed = BTreeSet::new();
    for target in known["nameReference"].as_array().unwrap() {
        let to = word(&target["kind"]);
        let ours = target["group"] == "feedwater.dev";
        assert_eq!(ours, !["Secret", "ConfigMap"].contains(&to.as_str()), "{target}");
        for field in target["fieldSpecs"].as_array().unwrap() {
            let line = format!("{} {} -> {to}", word(&field["kind"]), word(&field["path"]));
            assert!(listed.insert(line), "twice: {field}");
        }
    }
    assert_eq!(listed, declared);
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
fn lists_are_merged_by_the_keys_of_the_crds_and_the_kinds_of_the_cluster_are_known_as_such() {
    let mut definitions = Map::new();
    let mut paths = Map::new();
    // kustomize takes a kind for one in a namespace until it sees a path that has none, and then neither renames what names it nor what it names.
    for crd in schema::crds().unwrap().iter().filter(|crd| crd["spec"]["scope"] == "Cluster") {
        let names = &crd["spec"]["names"];
        let kind = json!({"group": "feedwater.dev", "version": "v1alpha1", "kind": names["kind"]});
        let path = format!("/apis/feedwater.dev/v1alpha1/{}/{{name}}", names["plural"].as_str().unwrap());
        let get = json!({"x-kubernetes-action": "get", "x-kubernetes-group-version-kind": kind});
        paths.insert(path, json!({ "get": get }));
    }
    for (kind, schema) in specs() {
        if let Some(spec) = merging(&schema) {
            let named = json!([{"group": "feedwater.dev", "version": "v1alpha1", "kind": kind}]);
            let whole = json!({"type": "object", "properties": {"spec": spec}, "x-kubernetes-group-version-kind": named});
            definitions.insert(format!("dev.feedwater.v1alpha1.{kind}"), whole);
        }
    }
    let whole = json!({"definitions": definitions, "paths": paths});
    let text = format!("{}\n", serde_json::to_string_pretty(&whole).unwrap());
    // kustomize reads it only from beside the kustomization, so that the example has a copy.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in [folder().join("openapi.json"), root.join("examples/staging/openapi.json")] {
        if env::var_os("UPDATE").is_some() {
            fs::write(&file, &text).unwrap();
        }
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert!(found == text, "{} is stale: UPDATE=1 cargo test --test kustomize", file.display());
    }
}
