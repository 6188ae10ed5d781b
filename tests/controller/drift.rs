//! Others' changes, over hours.

use crate::world::{NAMESPACE, World};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;
use world::resources::condition;

fn describe(world: &World, text: &str) {
    let mut prefect = world.prefect.state();
    let there = prefect.deployments.values_mut().next().unwrap();
    there.fields.insert("description".into(), json!(text));
}

fn description(world: &World) -> String {
    let prefect = world.prefect.state();
    let there = prefect.deployments.values().next().unwrap();
    there.fields["description"].as_str().unwrap().to_owned()
}

fn drifted(world: &World) -> (String, String) {
    let flow = world.flow_object("orders");
    let (status, reason) = condition(&flow, "Drifted").unwrap();
    (status.to_owned(), reason.to_owned())
}

#[tokio::test(start_paused = true)]
async fn what_others_keep_changing_is_left_for_an_hour_and_costs_nothing_meanwhile() {
    let world = World::new();
    world.connections();
    let mut flow = World::flow("orders");
    flow["spec"]["description"] = json!("ours");
    world.server.put("flowdeployments", flow).unwrap();
    let first = world.operator("one");
    world.settle().await;
    for _ in 0..3 {
        describe(&world, "theirs");
        world.until("it is corrected", |world| description(world) == "ours").await;
        world.settle().await;
        assert_eq!(drifted(&world).1, "NoDrift");
    }
    describe(&world, "theirs");
    world.until("it is left", |world| drifted(world).1 == "DriftContested").await;
    let written = world.writes().len();
    sleep(Duration::from_secs(1500)).await;
    // Another process knows it, too.
    first.terminate().await.unwrap();
    let _second = world.operator("two");
    sleep(Duration::from_secs(1500)).await;
    assert_eq!(
        (world.writes().len(), description(&world).as_str()),
        (written, "theirs"),
        "at rest nothing is written"
    );
    world.until("it is corrected again", |world| description(world) == "ours").await;
    world.settle().await;
    assert_eq!(drifted(&world), ("False".to_owned(), "NoDrift".to_owned()));
}

/// Under `Warn` the word of others stands until the resource is edited, whatever else comes and goes in between.
#[tokio::test(start_paused = true)]
async fn what_others_changed_is_not_written_over_after_an_outage() {
    let world = World::new();
    world.connections();
    let token = || world.secret(NAMESPACE, "orders", &[("token", "hunter2")]);
    token();
    let mut flow = World::flow("orders");
    flow["spec"]["description"] = json!("ours");
    flow["spec"]["deletionPolicy"] = json!("Orphan");
    flow["spec"]["driftDetection"] = json!({"mode": "Warn"});
    let from = json!({"name": "orders", "key": "token"});
    flow["spec"]["valuesFrom"] = json!([{"path": "jobVariables.env.TOKEN", "secretKeyRef": from}]);
    world.server.put("flowdeployments", flow).unwrap();
    let first = world.operator("one");
    world.settle().await;
    describe(&world, "theirs");
    world.until("it is seen", |world| drifted(world).1 == "DriftDetected").await;

    let ready = |world: &World| condition(&world.flow_object("orders"), "Ready").unwrap().1.to_owned();
    let stands = |what: &str| {
        assert_eq!(
            (ready(&world).as_str(), drifted(&world).1.as_str()),
            ("InSync", "DriftDetected"),
            "{what}"
        );
        assert_eq!(description(&world), "theirs", "{what}");
    };
    world.server.remove("secrets", NAMESPACE, "orders").unwrap();
    world.until("the Secret is missed", |world| ready(world) == "SecretNotFound").await;
    first.terminate().await.unwrap();
    let _second = world.operator("two");
    sleep(Duration::from_secs(60)).await;
    token();
    world.settle().await;
    stands("a Secret was gone, and the process");

    world.server.remove("prefectworkspaces", NAMESPACE, "prod").unwrap();
    world.until("the workspace is missed", |world| ready(world) == "DependencyNotFound").await;
    world.connections();
    world.settle().await;
    stands("the connection was gone");

    let again = json!({"spec": {"tags": ["edited"]}});
    world.server.merge("flowdeployments", NAMESPACE, "orders", &again).unwrap();
    world.settle().await;
    assert_eq!((description(&world).as_str(), drifted(&world).1.as_str()), ("ours", "NoDrift"));
}
