//! Values from Secrets, and what only Prefect Cloud takes, against the real Prefect and the real RBAC.

use crate::prefect_side::{corrected_by, drift_events, prefect};
use crate::stage::{Stage, is, told};
use feedwater::api::FlowDeployment;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use world::resources;

fn secret(stage: &Stage, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "orders", "namespace": stage.namespace}, "stringData": data})
}

async fn says(stage: &Stage, reason: &str, names: &str) {
    let said = |f: &FlowDeployment| is(f, "Ready", "False", reason) && told(f, "Ready").contains(names);
    stage.until("orders", reason, said).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_from_a_secret_reaches_prefect_follows_its_rotation_and_is_shown_nowhere() {
    let stage = Stage::set("values").await;
    let mut flow = stage.flow_object("orders");
    flow["spec"]["jobVariables"] = json!({"env": {"LOG_LEVEL": "INFO"}});
    flow["spec"]["driftDetection"] = json!({"mode": "Warn"});
    flow["spec"]["valuesFrom"] =
        json!([{"path": "jobVariables.env.TOKEN", "secretKeyRef": {"name": "orders", "key": "token"}}]);
    stage.apply(&[flow.clone()]).await;
    says(&stage, "SecretAccessDenied", "manifests/tenant").await;
    assert_eq!(prefect(&stage, "orders").await, None, "nothing is written without its values");

    let ns = &stage.namespace;
    stage.apply(&[resources::secret_reader(ns, &["tableau-pat", "prefect", "orders"], ns)]).await;
    says(&stage, "SecretNotFound", "`orders`").await;
    stage.apply(&[secret(&stage, &json!({"other": "x"}))]).await;
    says(&stage, "SecretKeyMissing", "`token`").await;
    stage.apply(&[secret(&stage, &json!({"token": "hunter2-first"}))]).await;
    stage.deployed("orders").await;
    let env = |there: &Value| there["job_variables"]["env"].clone();
    let there = prefect(&stage, "orders").await.unwrap();
    assert_eq!(env(&there), json!({"LOG_LEVEL": "INFO", "TOKEN": "hunter2-first"}));

    // Only its metadata: nobody's concern.
    stage.change::<Secret>("orders", json!({"metadata": {"labels": {"team": "bi"}}})).await;
    stage.flow("later").await;
    assert_eq!(prefect(&stage, "orders").await.unwrap()["updated"], there["updated"]);

    stage.apply(&[secret(&stage, &json!({"token": "hunter2-second"}))]).await;
    corrected_by(&stage, "orders", |there| env(there)["TOKEN"] == "hunter2-second").await;
    stage.deployed("orders").await;
    assert!(drift_events(&stage, "orders").await.is_empty(), "a rotation is no drift");

    stage.api::<Secret>().delete("orders", &kube::api::DeleteParams::default()).await.unwrap();
    says(&stage, "SecretNotFound", "`orders`").await;
    assert_eq!(
        env(&prefect(&stage, "orders").await.unwrap())["TOKEN"],
        "hunter2-second",
        "the last good state stays"
    );

    // Whoever may write a FlowDeployment would read in Prefect what a connection signs in with.
    flow["spec"]["valuesFrom"][0]["secretKeyRef"] = json!({"name": "tableau-pat", "key": "secret"});
    stage.apply(&[flow]).await;
    says(&stage, "SecretAccessDenied", "credentials of a connection").await;
    assert_eq!(env(&prefect(&stage, "orders").await.unwrap())["TOKEN"], "hunter2-second");

    let list = ListParams::default();
    let log = std::fs::read_to_string(stage.operator.log()).unwrap();
    let metrics = stage.operator.metrics().await.unwrap();
    let flows = stage.api::<FlowDeployment>().list(&list).await.unwrap();
    let statuses = serde_json::to_string(&flows.iter().map(|f| &f.status).collect::<Vec<_>>()).unwrap();
    let events = stage.api::<Event>().list(&list).await.unwrap();
    let events: Vec<String> = events.iter().map(|e| format!("{} {:?}", e.name_any(), e.message)).collect();
    let events = events.join("\n");
    assert!(log.len() > 200 && metrics.len() > 200 && statuses.len() > 200 && events.len() > 50);
    for (what, text) in [("log", &log), ("metrics", &metrics), ("status", &statuses), ("events", &events)] {
        for value in ["hunter2", "first-secret"] {
            assert!(!text.contains(value), "{value} is in the {what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_self_hosted_server_is_never_sent_version_info() {
    let stage = Stage::set("version-info").await;
    let id = stage.flow("orders").await;
    let before = prefect(&stage, "orders").await.unwrap();
    let info =
        json!({"spec": {"description": "changed", "versionInfo": {"type": "vcs:git", "version": "abc123"}}});
    stage.change::<FlowDeployment>("orders", info).await;
    let refused = |f: &FlowDeployment| {
        is(f, "Stalled", "True", "UnsupportedSpec") && told(f, "Ready").contains("Prefect Cloud only")
    };
    stage.until("orders", "UnsupportedSpec", refused).await;
    stage.flow("later").await;
    assert_eq!(prefect(&stage, "orders").await.unwrap()["updated"], before["updated"]);
    stage.change::<FlowDeployment>("orders", json!({"spec": {"versionInfo": null}})).await;
    assert_eq!(stage.deployed("orders").await, id);
    assert_eq!(prefect(&stage, "orders").await.unwrap()["description"], "changed");
}
