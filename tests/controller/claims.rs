//! Who may act on an extract that two resources mean.

use crate::world::{NAMESPACE, POLL, World};
use feedwater::settings::Scope;
use serde_json::json;
use tokio::time::sleep;
use world::resources;

/// The older one stays the owner while its own connection cannot be used: the younger would make everything of it twice.
#[tokio::test(start_paused = true)]
async fn the_older_keeps_its_extract_while_its_site_cannot_be_reached() {
    let mut world = World::new();
    world.scope = Scope::Cluster;
    world.connections();
    world.server.put("namespaces", resources::namespace("other")).unwrap();
    world.secret("other", "tableau", &[("name", "token"), ("secret", "value")]);
    let site = resources::tableau_site("other", "acme", "https://tableau.example", "acme", "tableau");
    world.server.put("tableausites", site).unwrap();
    let luid = world.publish("orders");
    let refresh = |namespace: &str| {
        let mut refresh = resources::extract_refresh(namespace, "orders", "acme", ("Finance", "orders"), &[]);
        refresh["metadata"]["annotations"] = json!({"feedwater.dev/refresh-requested": "once"});
        refresh
    };
    world.server.put("extractrefreshes", refresh(NAMESPACE)).unwrap();
    let first = world.operator("one");
    world.until("the older is refreshed", |world| world.jobs_of(&luid) == 1).await;
    world.settle().await;
    first.kill();

    world.server.remove("secrets", NAMESPACE, "tableau").unwrap();
    world.server.put("extractrefreshes", refresh("other")).unwrap();
    let _second = world.operator("two");
    let younger = |world: &World| world.server.object("extractrefreshes", "other", "orders").unwrap();
    world
        .until("the younger is refused", |world| {
            let conditions = younger(world)["status"]["conditions"].clone();
            conditions.as_array().is_some_and(|all| all.iter().any(|c| c["reason"] == "TargetConflict"))
        })
        .await;
    sleep(POLL * 5).await;
    assert_eq!(world.jobs_of(&luid), 1, "{:#?}", younger(&world));
    world.server.remove("extractrefreshes", NAMESPACE, "orders").unwrap();
    world.until("the younger has its turn", |world| world.jobs_of(&luid) == 2).await;
}
