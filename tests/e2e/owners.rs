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
    let value = |path: &str| json!({"path": path, "secretKeyRef": {"name": "values", "key": "value"}});
    let team = flow(json!({
        "workspaceRef": {"name": "prod"}, "flowName": "orders", "entrypoint": "flows/orders.py:orders",
        "workPool": {"name": "etl"}, "suspend": true,
        "schedules": [schedule("nightly")], "parameters": {"region": "eu"}, "tags": ["finance"],
        "valuesFrom": [value("parameters.token")],
    }));
    apply(&kubectl, "team", &team).await.unwrap();
    let added = json!({"schedules": [schedule("catch-up")], "valuesFrom": [value("jobVariables.env.PROXY")]});
    apply(&kubectl, "platform", &flow(added)).await.unwrap();
    let both = get("flowdeployment").await;
    assert_eq!(names(&both, "schedules", "slug"), ["catch-up", "nightly"]);
    assert_eq!(names(&both, "valuesFrom", "path"), ["jobVariables.env.PROXY", "parameters.token"]);
    for (field, value) in [("parameters", json!({"base": "EUR"})), ("tags", json!(["audited"]))] {
        let refused = apply(&kubectl, "platform", &flow(json!({ field: value }))).await.unwrap_err();
        assert!(refused.contains(&format!(".spec.{field}")), "{refused}");
    }

    // Who may use a connection of the cluster: one writes the connection, another lets a team in.
    let name = format!("owners-{}", stage.namespace);
    let connection = |spec: Value| {
        json!({"apiVersion": "feedwater.dev/v1alpha1", "kind": "ClusterPrefectWorkspace",
            "metadata": {"name": name}, "spec": spec})
    };
    let rule = |team: &str| json!({"name": team, "namespaces": {"names": [team]}, "flows": ["*"]});
    let ours =
        json!({"apiUrl": "https://prefect.acme.example/api", "suspend": true, "allow": [rule("sales")]});
    apply(&kubectl, "platform", &connection(ours)).await.unwrap();
    apply(&kubectl, "onboarding", &connection(json!({"allow": [rule("crm")]}))).await.unwrap();
    let both = kubectl.get(&["clusterprefectworkspace", &name]).await.unwrap();
    kubectl.run(&["delete", "clusterprefectworkspace", &name]).await.unwrap();
    assert_eq!(names(&both, "allow", "name"), ["crm", "sales"]);
}
