//! `manifests/kustomize` does in a real kustomize what it is there for.

use crate::stage::Stage;
use feedwater::yaml;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overlay_renames_what_fields_name_and_merges_lists_by_their_keys() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Within the checkout: kustomize takes bases only by relative paths.
    let overlay = tempfile::Builder::new().prefix(".overlay-").tempdir_in(root.join("examples")).unwrap();
    fs::copy(root.join("manifests/kustomize/openapi.json"), overlay.path().join("openapi.json")).unwrap();
    let patch = json!({
        "apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh", "metadata": {"name": "revenue"},
        "spec": {"upstreams": [{"name": "fx", "countsForFreshness": false}]},
    });
    let kustomization = json!({
        "namespace": "finance", "namePrefix": "staging-",
        "resources": ["../finance"], "components": ["../../manifests/kustomize"],
        "openapi": {"path": "openapi.json"},
        "secretGenerator": [{"name": "tableau-pat", "literals": ["name=a", "secret=b"]}],
        "patches": [{"patch": patch.to_string()}],
    });
    fs::write(overlay.path().join("kustomization.yaml"), kustomization.to_string()).unwrap();

    let text = Stage::info().kubectl().run(&["kustomize", &overlay.path().to_string_lossy()]).await.unwrap();
    let objects = yaml::documents(&text).unwrap();
    let of = |kind: &str, name: &str| -> &Value {
        let found = objects.iter().find(|object| {
            object["kind"] == kind && object["metadata"]["name"].as_str().unwrap().starts_with(name)
        });
        found.unwrap_or_else(|| panic!("no {kind} {name}:\n{text}"))
    };
    let revenue = &of("ExtractRefresh", "staging-revenue")["spec"];
    assert_eq!(revenue["siteRef"]["name"], "staging-acme");
    let upstreams = revenue["upstreams"].as_array().unwrap();
    let upstream = |name: &str| upstreams.iter().find(|upstream| upstream["name"] == name).unwrap();
    assert_eq!(upstreams.len(), 2, "merged by name, not replaced");
    assert_eq!(upstream("fx")["countsForFreshness"], false);
    assert_eq!(upstream("fx")["prefectDeployment"]["workspaceRef"]["name"], "staging-prod");
    assert_eq!(upstream("orders")["flowDeploymentRef"]["name"], "staging-orders-nightly");
    assert_eq!(
        of("FlowDeployment", "staging-orders-nightly")["spec"]["workspaceRef"]["name"],
        "staging-prod"
    );
    // A generated Secret has the hash of its content in its name: a rotation reaches those who name it.
    let secret = &of("Secret", "staging-tableau-pat-")["metadata"]["name"];
    let site = &of("TableauSite", "staging-acme")["spec"]["auth"]["personalAccessToken"]["secretRef"]["name"];
    assert_eq!(site, secret);
}
