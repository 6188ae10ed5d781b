//! Two owners of one resource, by server-side apply: what docs/gitops.md says of it.

use crate::stage::Stage;
use serde_json::{Value, json};
use world::cluster::Kubectl;

async fn apply(kubectl: &Kubectl, owner: &str, object: &Value) -> Result<String, String> {
    let arguments = ["apply", "--server-side", "--field-manager", owner, "-f", "-"];
    kubectl.run_with_input(&arguments, &object.to_string()).await.map_err(|error| error.to_string())
}

/// The names of the entries of a list.
fn names(object: &Value, list: &str, key: &str) -> Vec<String> {
    let entries = object["spec"][list].as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> =
        entries.iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_merge_by_their_keys_and_a_field_has_one_owner() {
    let stage = Stage::set("owners").await;
    let kubectl = stage.info.kubectl();
    let get = async |kind: &str| kubectl.get(&[kind, "orders", "-n", &stage.namespace]).await.unwrap();
    let extract = |spec: Value| {
        json!({"apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh",
            "metadata": {"name": "orders", "namespace": stage.namespace}, "spec": spec})
    };
    let upstream = |name: &str| json!({"name": name, "flowDeploymentRef": {"name": name}});
    let team = extract(json!({
        "siteRef": {"name": "acme"}, "target": {"kind": "Datasource", "projectPath": "Finance/Sales", "name": "Orders"},
        "upstreams": [upstream("orders")], "timeout": "1h", "suspend": true,
    }));
    apply(&kubectl, "team", &team).await.unwrap();

    // The platform adds an upstream, a schedule and a window; the team's stays, also when it applies its own again.
    let windows = json!([{"name": "night", "policy": "Deny", "schedule": "0 1 * * *", "duration": "1h", "timeZone": "UTC"}]);
    let schedules =
        json!([{"name": "weekly", "frequency": "Weekly", "start": "05:00", "weekDays": ["Sunday"]}]);
    let platform =
        extract(json!({"upstreams": [upstream("fx")], "schedules": schedules, "refreshWindows": windows}));
    apply(&kubectl, "platform", &platform).await.unwrap();
    apply(&kubectl, "team", &team).await.unwrap();
    let both = get("extractrefresh").await;
    assert_eq!(names(&both, "upstreams", "name"), ["fx", "orders"]);
    assert_eq!(names(&both, "schedules", "name"), ["weekly"]);
    assert_eq!(names(&both, "refreshWindows", "name"), ["night"]);

    // One field, two wills: said, not overwritten.
    let refused = apply(&kubectl, "platform", &extract(json!({"timeout": "2h"}))).await.unwrap_err();
    assert!(refused.contains(".spec.timeout") && refused.contains("\"team\""), "{refused}");

    // What one takes out goes, and nothing of the other.
    apply(&kubectl, "platform", &extract(json!({"schedules": schedules}))).await.unwrap();
    let left = get("extractrefresh").await;
    assert_eq!(names(&left, "upstreams", "name"), ["orders"]);
    assert_eq!(names(&left, "schedules", "name"), ["weekly"]);
    assert_eq!(names(&left, "refreshWindows", "name"), Vec::<String>::new());

    // A deployment's schedules merge by slug; what is atomic (tags, parameters) has one owner as a whole.
    let flow = |spec: Value| {
        json!({"apiVersion": "feedwater.dev/v1alpha1", "kind": "FlowDeployment",
            "metadata": {"name": "orders", "namespace": stage.namespace}, "spec": spec})
    };
    let schedule = |slug: &str| json!({"slug": slug, "cron": {"expression": "0 2 * * *"}});
    let team = flow(json!({
        "workspaceRef": {"name": "prod"}, "flowName": "orders", "entrypoint": "flows/orders.py:orders",
        "workPool": {"name": "etl"}, "suspend": true,
        "schedules": [schedule("nightly")], "parameters": {"region": "eu"}, "tags": ["finance"],
    }));
    apply(&kubectl, "team", &team).await.unwrap();
    apply(&kubectl, "platform", &flow(json!({"schedules": [schedule("catch-up")]}))).await.unwrap();
    assert_eq!(names(&get("flowdeployment").await, "schedules", "slug"), ["catch-up", "nightly"]);
    for (field, value) in [("parameters", json!({"base": "EUR"})), ("tags", json!(["audited"]))] {
        let refused = apply(&kubectl, "platform", &flow(json!({ field: value }))).await.unwrap_err();
        assert!(refused.contains(&format!(".spec.{field}")), "{refused}");
    }
}
