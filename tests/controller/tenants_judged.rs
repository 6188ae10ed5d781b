//! Connections of the cluster: what is read for those who are not allowed, and what is waited for while it is not known who is.

use crate::tenants::{
    DENIED, IN_SYNC, SITES, allowed, cluster, flow, label, made, refresh, rule, state, team, working,
};
use crate::world::{INSTANCE, NAMESPACE, POLL, World};
use serde_json::json;
use tokio::time::sleep;
use world::resources;

#[tokio::test(start_paused = true)]
async fn what_is_denied_is_not_read_and_what_may_be_seen_is_counted() {
    let (world, _operator, luid) = working().await;
    // The site is closed to it, and Prefect is not: what completes is counted.
    rule(&world, SITES, "acme", &json!([]));
    world.until("it is revoked", |world| state(world)[1] == DENIED[1]).await;
    world.complete("orders");
    world.until("it is owed", |world| world.exr("orders")["status"]["owed"].is_object()).await;
    label(&world, "sales");
    world.until("all is revoked", |world| state(world) == DENIED).await;
    sleep(POLL * 2).await;
    let calls = world.troubles.log().len();
    sleep(POLL * 40).await;
    let more = &world.troubles.log()[calls..];
    assert!(more.is_empty(), "nothing is read for those who may see nothing: {more:?}");
    world.complete("orders");
    label(&world, "finance");
    rule(&world, SITES, "acme", &allowed().1);
    world.settle().await;
    assert_eq!((state(&world), made(&world), world.jobs_of(&luid)), (IN_SYNC, (1, 1), 1));
}

#[tokio::test(start_paused = true)]
async fn who_moves_to_a_namespace_whose_labels_are_not_read_yet_keeps_what_it_made() {
    let (world, _operator, _) = working().await;
    let task = world.tableau.state().tasks[0].id.clone();
    // The Namespace is not seen yet, nor what it may.
    world.server.hold("namespaces");
    let mut namespace = resources::namespace("moved");
    namespace["metadata"]["labels"] = json!({"team": "finance"});
    world.server.put("namespaces", namespace).unwrap();
    for (plural, mut object) in
        [("flowdeployments", flow("orders")), ("extractrefreshes", refresh("orders", &["orders"]))]
    {
        object["metadata"]["namespace"] = json!("moved");
        world.server.put(plural, object).unwrap();
        world.server.remove(plural, NAMESPACE, "orders").unwrap();
    }
    sleep(POLL * 4).await;
    assert_eq!(made(&world), (1, 1), "it is waited for");
    world.server.release("namespaces", 0);
    let gone = |world: &World| {
        ["flowdeployments", "extractrefreshes"]
            .iter()
            .all(|plural| world.server.object(plural, NAMESPACE, "orders").is_none())
    };
    world.until("both are handed over", gone).await;
    world.settle().await;
    assert_eq!((made(&world), world.tableau.state().tasks[0].id.clone()), ((1, 1), task));
    let mark = format!("feedwater:{INSTANCE}/moved/orders");
    assert!(world.prefect.state().deployments.values().all(|d| d.tags.contains(&mark)));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_older_one_goes_on_when_that_turns_out_not_to_be_allowed() {
    let (prefect, tableau) = allowed();
    let world = cluster(&prefect, &tableau);
    let _operator = world.operator("one");
    sleep(POLL).await;
    world.server.hold("namespaces");
    world.server.put("namespaces", resources::namespace("sales")).unwrap();
    for (plural, mut object) in
        [("flowdeployments", flow("orders")), ("extractrefreshes", refresh("orders", &[]))]
    {
        object["metadata"]["namespace"] = json!("sales");
        world.server.put(plural, object).unwrap();
    }
    sleep(POLL * 2).await;
    team(&world);
    sleep(POLL * 4).await;
    assert_eq!(made(&world), (0, 0), "nobody knows whose it is");
    world.server.release("namespaces", 0);
    world.settle().await;
    assert_eq!((state(&world), made(&world)), (IN_SYNC, (1, 1)));
}
