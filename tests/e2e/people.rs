//! What people may do with Feedwater's kinds, through Kubernetes' own roles.

use crate::stage::{LIMIT, Stage};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const OF_CLUSTER: [&str; 2] = ["clusterprefectworkspaces", "clustertableausites"];
const KINDS: [&str; 4] = ["prefectworkspaces", "tableausites", "flowdeployments", "extractrefreshes"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_view_or_edit_a_namespace_may_do_so_with_what_feedwater_serves_in_it() {
    let info = Stage::info();
    let (kubectl, reviews) = (info.kubectl(), Api::all(crate::stage::client(&info).await));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/base/people.yaml");
    kubectl.run(&["apply", "--server-side", "-f", &file.to_string_lossy()]).await.unwrap();
    let namespace = format!("people-{}", &uuid::Uuid::new_v4().simple().to_string()[..6]);
    let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    kubectl.apply(&made.to_string()).await.unwrap();
    for role in ["view", "edit", "admin", "feedwater-team"] {
        kubectl.apply(&bound(&namespace, role).to_string()).await.unwrap();
    }

    let may = async |who: &str, verb: &str, resource: &str, namespace: &str| {
        let asked = reviews.create(&PostParams::default(), &review(who, verb, resource, namespace)).await;
        asked.unwrap().status.is_some_and(|SubjectAccessReviewStatus { allowed, .. }| allowed)
    };
    // Kubernetes adds the rules to its roles on its own time: the last of them is the sign that it has.
    let since = Instant::now();
    while !may("edit", "deletecollection", "extractrefreshes", &namespace).await
        || !may("view", "watch", "extractrefreshes", &namespace).await
        || !may("admin", "delete", "extractrefreshes", &namespace).await
    {
        assert!(since.elapsed() < LIMIT, "the rules never reach the roles view, edit and admin");
        sleep(Duration::from_millis(100)).await;
    }
    for kind in KINDS {
        for verb in ["get", "list", "watch"] {
            assert!(may("view", verb, kind, &namespace).await, "view: {verb} {kind}");
        }
        for verb in ["create", "update", "patch", "delete"] {
            assert!(!may("view", verb, kind, &namespace).await, "view: {verb} {kind}");
            assert!(may("edit", verb, kind, &namespace).await, "edit: {verb} {kind}");
            assert!(may("admin", verb, kind, &namespace).await, "admin: {verb} {kind}");
        }
        // Status is the operator's alone, and a namespace is no way into another.
        for verb in ["update", "patch"] {
            assert!(!may("admin", verb, &format!("{kind}/status"), &namespace).await, "{verb} {kind}/status");
        }
        assert!(!may("admin", "get", kind, "default").await, "another namespace: {kind}");
        // Who only binds flows and extracts to each other writes no connection, and no Secret by one.
        let of_team = ["flowdeployments", "extractrefreshes"].contains(&kind);
        for verb in ["create", "update", "patch", "delete"] {
            assert_eq!(may("feedwater-team", verb, kind, &namespace).await, of_team, "team: {verb} {kind}");
        }
        assert!(may("feedwater-team", "get", kind, &namespace).await, "team: get {kind}");
    }
    // Connections of the cluster are the platform's: no role in a namespace reaches them.
    let platform = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "feedwater-platform"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": namespace}],
    });
    kubectl.apply(&platform.to_string()).await.unwrap();
    while !may(&namespace, "create", OF_CLUSTER[0], "").await {
        assert!(since.elapsed() < LIMIT, "the binding is never in force");
        sleep(Duration::from_millis(100)).await;
    }
    for kind in OF_CLUSTER {
        for verb in ["create", "update", "patch", "delete", "deletecollection"] {
            for who in ["view", "edit", "admin"] {
                assert!(!may(who, verb, kind, "").await, "{who}: {verb} {kind}");
            }
            assert!(may(&namespace, verb, kind, "").await, "platform: {verb} {kind}");
        }
        assert!(!may(&namespace, "patch", &format!("{kind}/status"), "").await, "platform: {kind}/status");
    }
}

/// The user named like the role has it in this namespace.
fn bound(namespace: &str, role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": role, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": role}],
    })
}

fn review(who: &str, verb: &str, resource: &str, namespace: &str) -> SubjectAccessReview {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub.to_owned())),
        None => (resource, None),
    };
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(who.to_owned()),
            resource_attributes: Some(ResourceAttributes {
                group: Some("feedwater.dev".to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                namespace: Some(namespace.to_owned()),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}
