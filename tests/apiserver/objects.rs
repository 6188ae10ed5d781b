//! Objects come and go.

use crate::server::{Server, refused, version, word};
use serde_json::{Value, json};

const FINALIZER: &str = "feedwater.dev/conformance";

pub async fn creation_fills_in_what_the_server_alone_knows(server: &Server) {
    let mut asked = server.refresh("orders");
    asked["status"] = json!({"observedGeneration": 7});
    let made = server.post(&server.all(), &asked).await.unwrap();
    let metadata = &made["metadata"];
    assert_eq!(metadata["generation"], 1);
    assert_eq!(word(&metadata["uid"]).len(), 36);
    assert!(word(&metadata["creationTimestamp"]).parse::<jiff::Timestamp>().is_ok());
    assert!(version(&made) > 0);
    // A status cannot be created; the schema's default stands there.
    assert_eq!(made["status"], json!({"observedGeneration": -1}));
    assert_eq!(made["spec"], asked["spec"]);
    assert_eq!(bare(server.get(&server.one("orders")).await.unwrap()), bare(made));
}

pub async fn a_name_is_generated(server: &Server) {
    let mut asked = server.refresh("");
    asked["metadata"] = json!({"generateName": "orders-", "namespace": server.namespace});
    let made = server.post(&server.all(), &asked).await.unwrap();
    let name = word(&made["metadata"]["name"]);
    assert!(name.starts_with("orders-") && name.len() == "orders-".len() + 5, "{name}");
}

pub async fn what_exists_is_not_created_again(server: &Server) {
    server.created("orders").await;
    let again = server.post(&server.all(), &server.refresh("orders")).await;
    assert_eq!(again, refused(409, "AlreadyExists"));
}

pub async fn what_is_missing_is_not_found(server: &Server) {
    assert_eq!(server.get(&server.one("orders")).await, refused(404, "NotFound"));
    assert_eq!(server.delete(&server.one("orders"), None).await, refused(404, "NotFound"));
    let patch = json!({"spec": {"suspend": true}});
    assert_eq!(server.merge(&server.one("orders"), &patch).await, refused(404, "NotFound"));
    assert_eq!(
        server.put(&server.one("orders"), &with_version(server.refresh("orders"))).await,
        refused(404, "NotFound")
    );
}

fn with_version(mut object: Value) -> Value {
    object["metadata"]["resourceVersion"] = json!("1");
    object
}

pub async fn a_deletion_waits_for_finalizers(server: &Server) {
    let mut asked = server.refresh("orders");
    asked["metadata"]["finalizers"] = json!([FINALIZER]);
    server.post(&server.all(), &asked).await.unwrap();
    let marked = server.delete(&server.one("orders"), None).await.unwrap();
    assert_eq!(marked["kind"], "ExtractRefresh");
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["generation"], 2);
    let again = server.delete(&server.one("orders"), None).await.unwrap();
    assert_eq!(again["metadata"]["resourceVersion"], marked["metadata"]["resourceVersion"]);
    // A status is still written.
    server.merge(&server.status("orders"), &json!({"status": {"observedGeneration": 2}})).await.unwrap();
    let released =
        server.merge(&server.one("orders"), &json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert!(version(&released) > version(&marked));
    assert_eq!(server.get(&server.one("orders")).await, refused(404, "NotFound"));
}

pub async fn a_deletion_without_finalizers_is_done_at_once(server: &Server) {
    let made = server.created("orders").await;
    let gone = server.delete(&server.one("orders"), None).await.unwrap();
    assert_eq!((&gone["kind"], &gone["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(gone["details"]["uid"], made["metadata"]["uid"]);
    assert_eq!(server.get(&server.one("orders")).await, refused(404, "NotFound"));
    let anew = server.created("orders").await;
    assert_ne!(anew["metadata"]["uid"], made["metadata"]["uid"]);
}

pub async fn no_finalizer_is_added_to_what_is_being_deleted(server: &Server) {
    let mut asked = server.refresh("orders");
    asked["metadata"]["finalizers"] = json!([FINALIZER]);
    server.post(&server.all(), &asked).await.unwrap();
    server.delete(&server.one("orders"), None).await.unwrap();
    let more = json!({"metadata": {"finalizers": [FINALIZER, "feedwater.dev/other"]}});
    assert_eq!(server.merge(&server.one("orders"), &more).await, refused(422, "Invalid"));
    server.merge(&server.one("orders"), &json!({"metadata": {"finalizers": null}})).await.unwrap();
}

pub async fn preconditions_guard_a_deletion(server: &Server) {
    let made = server.created("orders").await;
    let condition = |field: &str, value: &Value| json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {field: value}});
    let other = json!("00000000-0000-4000-8000-00000000ffff");
    let wrong = server.delete(&server.one("orders"), Some(&condition("uid", &other))).await;
    assert_eq!(wrong, refused(409, "Conflict"));
    let wrong = server.delete(&server.one("orders"), Some(&condition("resourceVersion", &json!("1")))).await;
    assert_eq!(wrong, refused(409, "Conflict"));
    server.delete(&server.one("orders"), Some(&condition("uid", &made["metadata"]["uid"]))).await.unwrap();
}

pub async fn a_namespace_goes_with_what_it_holds(server: &Server) {
    let mut held = server.refresh("held");
    held["metadata"]["finalizers"] = json!([FINALIZER]);
    server.post(&server.all(), &held).await.unwrap();
    server.created("orders").await;
    let namespace = format!("/api/v1/namespaces/{}", server.namespace);
    let version = word(&server.get(&server.all()).await.unwrap()["metadata"]["resourceVersion"]);
    let mut watch = server.watch(&server.all(), &format!("resourceVersion={version}")).await;
    let leaving = server.delete(&namespace, None).await.unwrap();
    assert!(leaving["metadata"]["deletionTimestamp"].is_string());
    // In whatever order: one is gone, the other is marked.
    let mut told = vec![watch.told().await, watch.told().await];
    told.sort();
    assert_eq!(told, [("DELETED".into(), "orders".into()), ("MODIFIED".into(), "held".into())]);
    let refusal = server.post(&server.all(), &server.refresh("late")).await;
    assert_eq!(refusal, refused(403, "Forbidden"));
    server.merge(&server.one("held"), &json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert_eq!(watch.told().await, ("DELETED".into(), "held".into()));
}

/// Without what only the real server keeps.
pub fn bare(mut object: Value) -> Value {
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    object
}
