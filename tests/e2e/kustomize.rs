//! `manifests/kustomize` and `examples/staging` do in a real kustomize what they are there for.

use crate::stage::Stage;
use feedwater::cli::check::check;
use feedwater::yaml;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What kustomize makes of a folder; Feedwater's kinds in it are in order.
async fn built(folder: &Path) -> Built {
    let text = Stage::info().kubectl().run(&["kustomize", &folder.to_string_lossy()]).await.unwrap();
    let report = check(&text).unwrap();
    assert!(report.faults.is_empty() && !report.checked.is_empty(), "{:?}", report.faults);
    Built(yaml::documents(&text).unwrap())
}

struct Built(Vec<Value>);

impl Built {
    /// The object of this kind whose name begins so.
    fn of(&self, kind: &str, name: &str) -> &Value {
        let called = |object: &Value| object["metadata"]["name"].as_str().unwrap().starts_with(name);
        let found = self.0.iter().find(|object| object["kind"] == kind && called(object));
        found.unwrap_or_else(|| panic!("no {kind} {name}: {:#?}", self.0))
    }

    fn spec(&self, kind: &str, name: &str) -> &Value {
        &self.of(kind, name)["spec"]
    }
}

/// A folder with this kustomization. Within the checkout: kustomize takes bases only by relative paths.
fn overlay(schema: &Value, kustomization: &Value) -> TempDir {
    let overlay = tempfile::Builder::new().prefix(".overlay-").tempdir_in(root().join("examples")).unwrap();
    fs::write(overlay.path().join("openapi.json"), schema.to_string()).unwrap();
    fs::write(overlay.path().join("kustomization.yaml"), kustomization.to_string()).unwrap();
    overlay
}

fn ours() -> Value {
    let text = fs::read_to_string(root().join("manifests/kustomize/openapi.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overlay_renames_what_fields_name_and_merges_lists_by_their_keys() {
    let staging = built(&root().join("examples/staging")).await;
    let revenue = staging.spec("ExtractRefresh", "revenue-staging");
    assert_eq!(revenue["siteRef"]["name"], "acme-staging");
    let upstreams = revenue["upstreams"].as_array().unwrap();
    let upstream = |name: &str| upstreams.iter().find(|upstream| upstream["name"] == name).unwrap();
    assert_eq!(upstreams.len(), 2, "merged by name, not replaced");
    assert_eq!(upstream("fx")["countsForFreshness"], false);
    assert_eq!(upstream("fx")["prefectDeployment"]["workspaceRef"]["name"], "prod-staging");
    assert_eq!(upstream("orders")["flowDeploymentRef"]["name"], "orders-nightly-staging");
    let weekly = &staging.spec("ExtractRefresh", "orders-staging")["schedules"];
    assert_eq!((&weekly[0]["start"], &weekly[0]["frequency"]), (&json!("11:00"), &json!("Weekly")));
    let orders = staging.spec("FlowDeployment", "orders-nightly-staging");
    assert_eq!(orders["workspaceRef"]["name"], "prod-staging");
    let nightly = &orders["schedules"];
    assert!(nightly[0]["active"] == false && nightly[0]["cron"].is_object(), "{nightly}");
    assert_eq!(
        staging.spec("PrefectWorkspace", "prod-staging")["apiUrl"],
        "https://prefect-staging.acme.example/api"
    );
}

/// A generated Secret has the hash of its content in its name: a rotation reaches those who name it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_the_cluster_are_renamed_and_follow_generated_secrets() {
    let secret = |name: &str| json!({"name": name, "namespace": "feedwater-system", "literals": ["a=b"]});
    let overlay = overlay(
        &ours(),
        &json!({
            "namePrefix": "staging-",
            "resources": ["../platform", "../sales"], "components": ["../../manifests/kustomize"],
            "openapi": {"path": "openapi.json"},
            "secretGenerator": [secret("tableau-pat"), secret("prefect")],
        }),
    );
    let built = built(overlay.path()).await;
    for (kind, name, way, generated) in [
        ("ClusterPrefectWorkspace", "staging-prod", "apiKey", "staging-prefect-"),
        ("ClusterTableauSite", "staging-acme", "personalAccessToken", "staging-tableau-pat-"),
    ] {
        let named = &built.spec(kind, name)["auth"][way]["secretRef"]["name"];
        assert_eq!(named, &built.of("Secret", generated)["metadata"]["name"]);
        let granted = &built.of("Role", "staging-feedwater-connections")["rules"][0]["resourceNames"];
        assert!(granted.as_array().unwrap().contains(named), "{granted}");
    }
    assert_eq!(built.spec("FlowDeployment", "staging-orders")["workspaceRef"]["name"], "staging-prod");
    let pipeline = built.spec("ExtractRefresh", "staging-pipeline");
    assert_eq!(pipeline["siteRef"]["name"], "staging-acme");
    assert_eq!(pipeline["upstreams"][1]["prefectDeployment"]["workspaceRef"]["name"], "staging-prod");
}

/// An Argo CD that is installed by kustomize keeps what it has, and gets ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_component_for_argo_cd_adds_to_its_configuration() {
    let kustomization = json!({"resources": ["argocd.json"], "components": ["../../manifests/argocd"]});
    let overlay = overlay(&ours(), &kustomization);
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm"},
        "data": {"url": "https://argocd.acme.example"}});
    fs::write(overlay.path().join("argocd.json"), theirs.to_string()).unwrap();
    let text = Stage::info().kubectl().run(&["kustomize", &overlay.path().to_string_lossy()]).await.unwrap();
    let data = yaml::documents(&text).unwrap().remove(0)["data"].clone();
    assert_eq!(data["url"], "https://argocd.acme.example");
    for crd in feedwater::api::schema::crds().unwrap() {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
        for what in ["health", "actions"] {
            let script = &data[format!("resource.customizations.{what}.feedwater.dev_{kind}")];
            assert!(script.as_str().is_some_and(|script| script.contains("return")), "{what} of {kind}");
        }
    }
}

/// What docs/gitops.md warns of, and its remedy: the schema of the cluster with ours in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_of_other_kinds_need_the_schema_of_the_cluster_beside_ours() {
    let container = |name: &str| json!({"name": name, "image": name});
    let deployment = |containers: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api"},
            "spec": {"template": {"spec": {"containers": containers}}}})
    };
    let fx = json!({"apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh", "metadata": {"name": "revenue"},
        "spec": {"upstreams": [{"name": "fx", "countsForFreshness": false}]}});
    let patched = json!([{"name": "app", "image": "app:2"}]);
    let kustomization = json!({
        "resources": ["../finance", "api.json"], "openapi": {"path": "openapi.json"},
        "patches": [{"patch": deployment(patched).to_string()}, {"patch": fx.to_string()}],
    });
    let text = Stage::info().kubectl().run(&["get", "--raw", "/openapi/v2"]).await.unwrap();
    let mut whole: Value = serde_json::from_str(&text).unwrap();
    merge(&mut whole, ours());
    for (schema, left) in [(ours(), 1), (whole, 2)] {
        let overlay = overlay(&schema, &kustomization);
        let both = deployment(json!([container("app"), container("sidecar")]));
        fs::write(overlay.path().join("api.json"), both.to_string()).unwrap();
        let built = built(overlay.path()).await;
        let containers = &built.spec("Deployment", "api")["template"]["spec"]["containers"];
        assert_eq!(containers.as_array().unwrap().len(), left, "{containers}");
        assert_eq!(built.spec("ExtractRefresh", "revenue")["upstreams"].as_array().unwrap().len(), 2);
    }
}

/// What `jq -s '.[0] * .[1]'` does.
fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}
