//! The control plane is a real one: rights, namespaces and the audit log behave. Run by `cargo world test`.

use std::time::Duration;

use serde_json::json;
use world::cluster::KubectlError;
use world::{Info, Options, World, audit};

#[tokio::test]
async fn a_service_account_may_do_what_its_role_says_and_nothing_else() {
    let info = Info::shared().unwrap();
    let admin = info.kubectl();
    let marker = audit::Marker::now(&info.audit_log);
    admin.apply(&account("rights").to_string()).await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let reader = admin.service_account("rights", "reader", &scratch.path().join("kubeconfig")).await.unwrap();

    let denied = reader.run(&["get", "configmaps", "--namespace", "rights"]).await;
    assert!(matches!(denied, Err(KubectlError::Failed { said, .. }) if said.contains("Forbidden")));
    let role = ["--namespace", "rights", "--verb=list", "--resource=configmaps"];
    admin.run(&[&["create", "role", "reader"], &role[..]].concat()).await.unwrap();
    let binding = ["--namespace", "rights", "--role=reader", "--serviceaccount=rights:reader"];
    admin.run(&[&["create", "rolebinding", "reader"], &binding[..]].concat()).await.unwrap();
    let list = ["configmaps", "--namespace", "rights"];
    reader.until("the role", &list, Duration::from_secs(20), |found| found["kind"] == "List").await.unwrap();
    let elsewhere = reader.run(&["get", "configmaps", "--namespace", "default"]).await;
    assert!(matches!(elsewhere, Err(KubectlError::Failed { .. })));

    let user = "system:serviceaccount:rights:reader";
    let asked: Vec<_> = audit::since(&info.audit_log, marker)
        .unwrap()
        .into_iter()
        .filter(|entry| entry.user == user && entry.resource == "configmaps")
        .collect();
    assert_eq!(asked.iter().filter(|entry| entry.code == 200).count(), 1);
    assert!(asked.iter().filter(|entry| entry.code == 403).count() >= 2);
    assert!(asked.iter().all(|entry| entry.verb == "list" && entry.user_agent.starts_with("kubectl/")));
    assert_eq!(audit::writes(&info.audit_log, marker, user).unwrap(), []);
}

#[tokio::test]
async fn a_deleted_namespace_goes_with_all_it_holds() {
    let info = Info::shared().unwrap();
    let kubectl = info.kubectl();
    kubectl.apply(&account("leaving").to_string()).await.unwrap();
    kubectl.run(&["delete", "namespace", "leaving", "--timeout=60s"]).await.unwrap();
    let left = kubectl.run(&["get", "namespace", "leaving", "--ignore-not-found"]).await.unwrap();
    assert_eq!(left, "");
}

#[tokio::test]
async fn an_owner_takes_what_it_owns_along() {
    let info = Info::shared().unwrap();
    let kubectl = info.kubectl();
    kubectl.apply(&account("owned").to_string()).await.unwrap();
    let owner = kubectl.get(&["serviceaccount", "reader", "--namespace", "owned"]).await.unwrap();
    let reference = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "name": "reader", "uid": owner["metadata"]["uid"],
    });
    let taken_along = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "owned", "namespace": "owned", "ownerReferences": [reference]},
    });
    kubectl.apply(&taken_along.to_string()).await.unwrap();
    kubectl.run(&["delete", "serviceaccount", "reader", "--namespace", "owned"]).await.unwrap();
    let wait = ["wait", "--for=delete", "configmap/owned", "--namespace", "owned", "--timeout=60s"];
    kubectl.run(&wait).await.unwrap();
}

#[tokio::test]
async fn a_second_world_runs_beside_the_first_and_leaves_nothing() {
    let shared = Info::shared().unwrap();
    let second = World::start(Options::default()).await.unwrap();
    let info = second.info().clone();
    let made = ["create", "namespace", "only-here"];
    info.kubectl().run(&made).await.unwrap();
    let there = shared.kubectl().run(&["get", "namespace", "only-here", "--ignore-not-found"]).await;
    assert_eq!(there.unwrap(), "");

    second.stop().await;
    assert!(!info.directory.exists());
    let gone = info.kubectl().run(&["get", "namespaces"]).await;
    assert!(matches!(gone, Err(KubectlError::Failed { .. })));
}

fn account(namespace: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": namespace}},
    ]})
}
