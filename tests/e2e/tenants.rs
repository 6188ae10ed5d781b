//! A connection of the cluster in the real cluster, by the rights of `manifests/base` alone: allowed, taken away by a label, given back.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use world::operator::{NAMESPACE, OperatorOptions};
use world::prefect::{Rest, WORK_POOL};
use world::{Options, World, resources};

const LIMIT: Duration = Duration::from_secs(60);
const ORDERS: [&str; 3] = ["flowdeployment/orders", "-n", "sales"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_decides_who_may_use_a_connection_of_the_cluster() {
    let operator = OperatorOptions::cluster_wide(Path::new(env!("CARGO_BIN_EXE_feedwater")));
    let options = Options { prefect: true, worker: true, operator: Some(operator), ..Options::default() };
    let world = World::start(options).await.unwrap();
    let (info, kubectl) = (world.info().clone(), world.info().kubectl());
    let api_url = info.prefect_api_url.clone().unwrap();
    let prefect = Rest::new(&api_url).unwrap();

    let team = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sales", "labels": {"team": "sales"}}});
    let selector = json!({"selector": {"matchLabels": {"team": "sales"}}});
    let mut flow = resources::flow_deployment("sales", "orders", "prod", "orders");
    flow["spec"]["workspaceRef"]["kind"] = "ClusterPrefectWorkspace".into();
    let workspace = json!({
        "apiVersion": "feedwater.dev/v1alpha1", "kind": "ClusterPrefectWorkspace", "metadata": {"name": "prod"},
        "spec": {
            "apiUrl": api_url, "pollInterval": "1s", "headersSecretRef": {"name": "prefect-proxy"},
            "allow": [{"name": "sales", "namespaces": selector, "flows": ["orders"], "workPools": [WORK_POOL]}],
        },
    });
    let all = [
        team,
        // What the connection names is beside the operator, which may read that and nothing else.
        resources::secret(NAMESPACE, "prefect-proxy", &[("x-team", "platform")]),
        resources::secret_reader(NAMESPACE, &["prefect-proxy"], NAMESPACE),
        workspace,
        flow,
    ];
    kubectl.apply(&resources::list(&all).to_string()).await.unwrap();
    let ready = |reason: &'static str| {
        move |object: &Value| resources::condition(object, "Ready").is_some_and(|(_, told)| told == reason)
    };
    kubectl.until("it is in sync", &ORDERS, LIMIT, ready("InSync")).await.unwrap();
    let there = known(&prefect).await;
    kubectl
        .until("it is connected", &["clusterprefectworkspace/prod"], LIMIT, ready("Connected"))
        .await
        .unwrap();

    kubectl.run(&["label", "namespace", "sales", "team-"]).await.unwrap();
    let denied = kubectl.until("it is denied", &ORDERS, LIMIT, ready("AccessDenied")).await.unwrap();
    assert_eq!(resources::condition(&denied, "Stalled"), Some(("True", "AccessDenied")));
    // A change in Git does not get there, and what is there stays as it is.
    let change = json!({"spec": {"description": "changed"}}).to_string();
    kubectl
        .run(&["patch", "flowdeployment", "orders", "-n", "sales", "--type=merge", "-p", &change])
        .await
        .unwrap();
    let seen = |object: &Value| {
        let generation = &object["metadata"]["generation"];
        *generation == object["status"]["observedGeneration"]
            && *generation == 2
            && ready("AccessDenied")(object)
    };
    kubectl.until("the edit is seen", &ORDERS, LIMIT, seen).await.unwrap();
    assert_eq!(known(&prefect).await, there);

    kubectl.run(&["label", "namespace", "sales", "team=sales"]).await.unwrap();
    kubectl.until("it is in sync", &ORDERS, LIMIT, ready("InSync")).await.unwrap();
    let now = prefect.deployment("orders", "orders").await.unwrap().unwrap();
    assert_eq!(now["description"], "changed");

    // Deleted first, the connection waits for its user in the other namespace.
    kubectl.run(&["delete", "clusterprefectworkspace", "prod", "--wait=false"]).await.unwrap();
    kubectl.until("it waits", &["clusterprefectworkspace/prod"], LIMIT, ready("InUse")).await.unwrap();
    kubectl.run(&["delete", "flowdeployment", "orders", "-n", "sales", "--timeout=60s"]).await.unwrap();
    assert_eq!(prefect.deployment("orders", "orders").await.unwrap(), None);
    kubectl.run(&["wait", "--for=delete", "clusterprefectworkspace/prod", "--timeout=60s"]).await.unwrap();
    let log = std::fs::read_to_string(info.operator_log.unwrap()).unwrap();
    assert!(!log.contains("forbidden"), "{log}");
}

/// The deployment, without what changes whenever a worker asks for work.
async fn known(prefect: &Rest) -> Value {
    let mut there = prefect.deployment("orders", "orders").await.unwrap().unwrap();
    for moving in ["last_polled", "status"] {
        there.as_object_mut().unwrap().remove(moving);
    }
    there
}
