//! Who may write over what.

use crate::objects::bare;
use crate::server::{Server, applied_status, refused, version};
use serde_json::{Value, json};

pub async fn a_stale_version_is_a_conflict(server: &Server) {
    let first = server.created("orders").await;
    let mut second = first.clone();
    second["spec"]["suspend"] = json!(true);
    server.put(&server.one("orders"), &second).await.unwrap();
    let mut late = first.clone();
    late["spec"]["suspend"] = json!(false);
    assert_eq!(server.put(&server.one("orders"), &late).await, refused(409, "Conflict"));
    let patch = json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "spec": {"suspend": false}});
    assert_eq!(server.merge(&server.one("orders"), &patch).await, refused(409, "Conflict"));
}

pub async fn a_write_without_a_version_is_unconditional(server: &Server) {
    let first = server.created("orders").await;
    server.merge(&server.one("orders"), &json!({"spec": {"suspend": true}})).await.unwrap();
    let patched = server.merge(&server.one("orders"), &json!({"spec": {"timeout": "1h"}})).await.unwrap();
    assert_eq!((&patched["spec"]["suspend"], &patched["spec"]["timeout"]), (&json!(true), &json!("1h")));
    assert!(version(&patched) > version(&first));
}

pub async fn only_a_new_spec_is_a_new_generation(server: &Server) {
    server.created("orders").await;
    let generation = |object: Value| object["metadata"]["generation"].as_i64().unwrap();
    let labelled = json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}});
    assert_eq!(generation(server.merge(&server.one("orders"), &labelled).await.unwrap()), 1);
    let status = json!({"status": {"observedGeneration": 1}});
    assert_eq!(generation(server.merge(&server.status("orders"), &status).await.unwrap()), 1);
    let spec = json!({"spec": {"suspend": true}});
    assert_eq!(generation(server.merge(&server.one("orders"), &spec).await.unwrap()), 2);
}

pub async fn a_write_that_changes_nothing_makes_no_version(server: &Server) {
    // The first of them may make one on the real server: who manages which field is written down then.
    let made = server.created("orders").await;
    let first = server.put(&server.one("orders"), &made).await.unwrap();
    let same = server.put(&server.one("orders"), &first).await.unwrap();
    assert_eq!(version(&same), version(&first));
    let same = server.merge(&server.one("orders"), &json!({"metadata": {"labels": null}})).await.unwrap();
    assert_eq!(version(&same), version(&first));
    let status = json!({"observedGeneration": 1});
    let body = applied_status(&status, None);
    let told = server.apply(&server.status("orders"), "feedwater", true, &body).await.unwrap();
    let again = server.apply(&server.status("orders"), "feedwater", true, &body).await.unwrap();
    assert_eq!(version(&again), version(&told));
}

pub async fn status_and_the_rest_are_written_apart(server: &Server) {
    let mut object = server.created("orders").await;
    object["spec"]["suspend"] = json!(true);
    object["status"]["observedGeneration"] = json!(5);
    let main = server.put(&server.one("orders"), &object).await.unwrap();
    assert_eq!((&main["spec"]["suspend"], &main["status"]["observedGeneration"]), (&json!(true), &json!(-1)));
    let mut object = main.clone();
    object["spec"]["suspend"] = json!(false);
    object["metadata"]["labels"] = json!({"a": "b"});
    object["status"]["observedGeneration"] = json!(5);
    let status = server.put(&server.status("orders"), &object).await.unwrap();
    assert_eq!(
        (&status["spec"]["suspend"], &status["status"]["observedGeneration"]),
        (&json!(true), &json!(5))
    );
    assert!(version(&status) > version(&main));
    let stale = server.put(&server.status("orders"), &object).await;
    assert_eq!(stale, refused(409, "Conflict"));
}

pub async fn null_in_a_merge_patch_removes(server: &Server) {
    server.created("orders").await;
    server.merge(&server.one("orders"), &json!({"spec": {"suspend": true, "timeout": "1h"}})).await.unwrap();
    let patched = server.merge(&server.one("orders"), &json!({"spec": {"timeout": null}})).await.unwrap();
    assert_eq!((&patched["spec"]["suspend"], &patched["spec"]["timeout"]), (&json!(true), &Value::Null));
}

pub async fn applied_fields_go_when_they_are_no_longer_applied(server: &Server) {
    server.created("orders").await;
    let annotated = |annotations: Value| {
        json!({
            "apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh",
            "metadata": {"name": "orders", "annotations": annotations},
        })
    };
    let both = annotated(json!({"feedwater.dev/a": "1", "feedwater.dev/b": "2"}));
    server.apply(&server.one("orders"), "feedwater", true, &both).await.unwrap();
    server
        .merge(&server.one("orders"), &json!({"metadata": {"annotations": {"theirs": "3"}}}))
        .await
        .unwrap();
    let one = annotated(json!({"feedwater.dev/a": "1"}));
    let left = server.apply(&server.one("orders"), "feedwater", true, &one).await.unwrap();
    assert_eq!(left["metadata"]["annotations"], json!({"feedwater.dev/a": "1", "theirs": "3"}));
}

pub async fn another_managers_field_is_a_conflict_unless_forced(server: &Server) {
    server.created("orders").await;
    let suspended = |suspend: bool| {
        json!({
            "apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh", "metadata": {"name": "orders"},
            "spec": {"suspend": suspend},
        })
    };
    server.apply(&server.one("orders"), "gitops", false, &suspended(true)).await.unwrap();
    let refusal = server.apply(&server.one("orders"), "other", false, &suspended(false)).await;
    assert_eq!(refusal, refused(409, "Conflict"));
    let forced = server.apply(&server.one("orders"), "other", true, &suspended(false)).await.unwrap();
    assert_eq!(forced["spec"]["suspend"], false);
}

pub async fn an_applied_status_is_locked_by_its_version(server: &Server) {
    let made = server.created("orders").await;
    let status = json!({"observedGeneration": 1});
    let decided_on = &made["metadata"]["resourceVersion"];
    let told = server
        .apply(&server.status("orders"), "feedwater", true, &applied_status(&status, Some(decided_on)))
        .await
        .unwrap();
    assert_eq!(told["status"], status);
    let late = json!({"observedGeneration": 2});
    let refusal = server
        .apply(&server.status("orders"), "feedwater", true, &applied_status(&late, Some(decided_on)))
        .await;
    assert_eq!(refusal, refused(409, "Conflict"));
}

pub async fn an_applied_status_keeps_what_it_names_and_no_more(server: &Server) {
    server.created("orders").await;
    let condition = |kind: &str, reason: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": "It is so", "observedGeneration": 1,
            "lastTransitionTime": "2026-11-25T06:00:00Z",
        })
    };
    let apply = async |status: Value| {
        let body = applied_status(&status, None);
        server.apply(&server.status("orders"), "feedwater", true, &body).await.unwrap()["status"].clone()
    };
    let first = json!({
        "observedGeneration": 1, "lastHandledRefreshToken": "token",
        "conditions": [condition("Stalled", "TargetConflict"), condition("Ready", "InSync")],
    });
    assert_eq!(apply(first.clone()).await, first);
    let second = json!({"observedGeneration": 2, "conditions": [condition("Ready", "Suspended"), condition("Fresh", "UpToDate")]});
    assert_eq!(apply(second.clone()).await, second);
}

pub async fn apply_creates_what_is_missing(server: &Server) {
    let made = server.apply(&server.one("orders"), "gitops", true, &server.refresh("orders")).await.unwrap();
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(bare(server.get(&server.one("orders")).await.unwrap()), bare(made));
}

/// A uid in a body says which object is meant; in one with a version too, it locks. (It does not lock a status: the spike measured that.)
pub async fn the_uid_is_a_lock(server: &Server) {
    let mut made = server.created("orders").await;
    let other = json!("00000000-0000-4000-8000-00000000ffff");
    let patch = json!({"metadata": {"uid": other}, "spec": {"suspend": true}});
    assert_eq!(server.merge(&server.one("orders"), &patch).await, refused(422, "Invalid"));
    made["metadata"]["uid"] = other;
    assert_eq!(server.put(&server.one("orders"), &made).await, refused(409, "Conflict"));
}

pub async fn a_lease_is_compared_and_swapped(server: &Server) {
    let leases = server.in_namespace("apis/coordination.k8s.io/v1", "leases");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"},
        "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15},
    });
    let made = server.post(&leases, &lease).await.unwrap();
    let mut two = made.clone();
    two["spec"]["holderIdentity"] = json!("two");
    let mut three = made.clone();
    three["spec"]["holderIdentity"] = json!("three");
    let one = format!("{leases}/leader");
    server.put(&one, &two).await.unwrap();
    assert_eq!(server.put(&one, &three).await, refused(409, "Conflict"));
    assert_eq!(server.get(&one).await.unwrap()["spec"]["holderIdentity"], "two");
}

pub async fn a_missing_status_cannot_be_written(server: &Server) {
    let body = applied_status(&json!({"observedGeneration": 1}), None);
    let refusal = server.apply(&server.status("orders"), "feedwater", true, &body).await;
    assert_eq!(refusal, refused(404, "NotFound"));
}
