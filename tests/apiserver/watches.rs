//! What happens is told.

use crate::server::{Server, version, word};
use serde_json::json;

pub async fn a_watch_tells_what_happens_from_a_version_on(server: &Server) {
    let old = server.created("old").await;
    server.created("a").await;
    let from = old["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = server.watch(&server.all(), &format!("resourceVersion={from}")).await;
    assert_eq!(
        watch.told().await,
        ("ADDED".into(), "a".into()),
        "what happened between the list and the watch"
    );
    let changed = server.merge(&server.one("old"), &json!({"spec": {"suspend": true}})).await.unwrap();
    let (what, object) = watch.next().await.unwrap();
    assert_eq!((&*what, version(&object)), ("MODIFIED", version(&changed)));
    assert_eq!(object["spec"]["suspend"], true);
    server.merge(&server.status("old"), &json!({"status": {"observedGeneration": 2}})).await.unwrap();
    assert_eq!(watch.told().await, ("MODIFIED".into(), "old".into()), "a status is told too");
    server.delete(&server.one("a"), None).await.unwrap();
    assert_eq!(watch.told().await, ("DELETED".into(), "a".into()));
}

pub async fn a_watch_without_a_version_begins_with_what_is_there(server: &Server) {
    server.created("a").await;
    server.created("b").await;
    let mut watch = server.watch(&server.all(), "").await;
    let mut told = vec![watch.told().await, watch.told().await];
    told.sort();
    assert_eq!(told, [("ADDED".into(), "a".into()), ("ADDED".into(), "b".into())]);
    server.created("c").await;
    assert_eq!(watch.told().await, ("ADDED".into(), "c".into()));
}

pub async fn initial_events_end_with_a_bookmark(server: &Server) {
    let made = server.created("a").await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = server.watch(&server.all(), query).await;
    assert_eq!(watch.told().await, ("ADDED".into(), "a".into()));
    let (what, mark) = watch.next().await.unwrap();
    assert_eq!(what, "BOOKMARK");
    assert_eq!(mark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(mark["kind"], "ExtractRefresh");
    assert!(version(&mark) >= version(&made));
}

pub async fn a_watch_ends_after_its_time_with_a_bookmark_before(server: &Server) {
    let from = word(&server.get(&server.all()).await.unwrap()["metadata"]["resourceVersion"]);
    let query = format!("resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=4");
    let mut watch = server.watch(&server.all(), &query).await;
    let made = server.created("a").await;
    assert_eq!(watch.told().await, ("ADDED".into(), "a".into()));
    let (what, mark) = watch.next().await.expect("a bookmark before the end");
    assert_eq!(what, "BOOKMARK");
    assert!(version(&mark) >= version(&made));
    while let Some((what, _)) = watch.next().await {
        assert_eq!(what, "BOOKMARK", "nothing else happens");
    }
}

pub async fn a_watch_of_one_object_tells_of_no_other(server: &Server) {
    let from = word(&server.get(&server.all()).await.unwrap()["metadata"]["resourceVersion"]);
    let query = format!("resourceVersion={from}&fieldSelector=metadata.name%3Dmine");
    let mut watch = server.watch(&server.all(), &query).await;
    server.created("other").await;
    server.created("mine").await;
    assert_eq!(watch.told().await, ("ADDED".into(), "mine".into()));
}

pub async fn what_is_forgotten_is_gone(server: &Server) {
    server.created("a").await;
    server.forget();
    let mut watch = server.watch(&server.all(), "resourceVersion=1").await;
    let (what, status) = watch.next().await.unwrap();
    assert_eq!(what, "ERROR");
    assert_eq!(
        (&status["kind"], &status["code"], &status["reason"]),
        (&json!("Status"), &json!(410), &json!("Expired"))
    );
    assert!(watch.next().await.is_none(), "and the watch ends");
}

pub async fn a_deletion_is_told_with_its_own_version(server: &Server) {
    let made = server.created("a").await;
    let from = word(&made["metadata"]["resourceVersion"]);
    let mut watch = server.watch(&server.all(), &format!("resourceVersion={from}")).await;
    server.delete(&server.one("a"), None).await.unwrap();
    let (what, object) = watch.next().await.unwrap();
    assert_eq!(what, "DELETED");
    assert!(version(&object) > version(&made), "who resumes from it does not see it twice");
}
