//! Schedules in Tableau whose rights, lists and owners change.

use crate::world::{NAMESPACE, POLL, World};
use feedwater::tableau::TableauError;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;
use world::resources;

fn on_cloud() -> World {
    let world = World::new();
    world.connections();
    let mut site = world.server.object("tableausites", NAMESPACE, "acme").unwrap();
    site["spec"]["edition"] = json!("Cloud");
    world.server.put("tableausites", site).unwrap();
    world.publish("orders");
    world
}

/// An `ExtractRefresh` of `orders` with a nightly schedule.
fn nightly(name: &str) -> Value {
    let mut refresh = resources::extract_refresh(NAMESPACE, name, "acme", ("Finance", "orders"), &[]);
    refresh["spec"]["schedules"] = json!([{"name": "nightly", "frequency": "Daily", "start": "02:00"}]);
    refresh
}

fn condition(world: &World, name: &str, kind: &str) -> Value {
    let exr = world.server.object("extractrefreshes", NAMESPACE, name);
    let all = exr.map(|exr| exr["status"]["conditions"].clone()).unwrap_or_default();
    all.as_array().into_iter().flatten().find(|c| c["type"] == kind).cloned().unwrap_or_default()
}

fn count(world: &World, operation: &str) -> usize {
    world.tableau.operations().iter().filter(|call| *call == operation).count()
}

fn task_of(world: &World, name: &str) -> Value {
    world.exr(name)["status"]["schedules"][0]["taskId"].clone()
}

async fn in_sync(world: &World, name: &str) {
    let held = |world: &World| {
        condition(world, name, "Ready")["reason"] == "InSync"
            && world.exr(name)["status"]["schedules"][0]["definition"].is_string()
    };
    world.until("its schedule is there", held).await;
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_leaves_with_its_resource_is_not_taken_over_meanwhile() {
    let world = on_cloud();
    world.server.put("extractrefreshes", nightly("before")).unwrap();
    let _operator = world.operator("one");
    in_sync(&world, "before").await;

    sleep(POLL).await;
    // Renamed in Git, while Tableau refuses a deletion now and then.
    let mut new = nightly("later");
    new["spec"]["adoptionPolicy"] = json!("Adopt");
    new["spec"]["driftDetection"] = json!({"mode": "Warn"});
    world.server.put("extractrefreshes", new).unwrap();
    world
        .until("it waits its turn", |world| condition(world, "later", "Ready")["reason"] == "TargetConflict")
        .await;
    for _ in 0..2 {
        world.tableau.fail("delete_task", TableauError::Forbidden("403004".into()));
    }
    world.server.remove("extractrefreshes", NAMESPACE, "before").unwrap();
    world
        .until("the refusal is told", |world| {
            condition(world, "before", "Ready")["reason"] == "DeletionBlocked"
        })
        .await;
    sleep(POLL).await;
    assert_eq!(task_of(&world, "later"), Value::Null, "it is going");
    world
        .until("it is gone", |world| world.server.object("extractrefreshes", NAMESPACE, "before").is_none())
        .await;
    in_sync(&world, "later").await;
    let tasks = world.tableau.state().tasks.clone();
    assert_eq!((tasks.len(), task_of(&world, "later")), (1, json!(tasks[0].id.as_str())));
    assert_eq!((count(&world, "create_task"), count(&world, "delete_task")), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_refused_deletion_is_tried_ever_more_seldom_until_the_deadline() {
    let world = on_cloud();
    world.server.put("extractrefreshes", nightly("orders")).unwrap();
    let _operator = world.operator("one");
    in_sync(&world, "orders").await;
    for _ in 0..1000 {
        world.tableau.fail("delete_task", TableauError::Forbidden("403004".into()));
    }
    let began = world.now();
    world.server.remove("extractrefreshes", NAMESPACE, "orders").unwrap();
    world
        .until("the refusal is told", |world| {
            condition(world, "orders", "Ready")["reason"] == "DeletionBlocked"
        })
        .await;
    let told = condition(&world, "orders", "Ready")["message"].clone();
    assert!(told.as_str().unwrap().contains("forbids this account to delete schedule `nightly`"), "{told}");
    world
        .until("it lets go", |world| world.server.object("extractrefreshes", NAMESPACE, "orders").is_none())
        .await;
    let took = world.now().duration_since(began).as_secs();
    assert!((590..700).contains(&took), "{took}");
    let tries = count(&world, "delete_task");
    assert!((3..10).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_kept_from_the_account_is_neither_made_again_nor_forgotten() {
    let world = on_cloud();
    world.server.put("extractrefreshes", nightly("orders")).unwrap();
    let operator = world.operator("one");
    in_sync(&world, "orders").await;
    let task = task_of(&world, "orders");
    world.tableau.state().hidden.insert(task.as_str().unwrap().into());
    let denied = |world: &World| condition(world, "orders", "Ready")["reason"] == "PermissionDenied";
    world.until("it is told", denied).await;
    let calls = count(&world, "task");
    sleep(Duration::from_secs(3600)).await;
    assert!(count(&world, "task") - calls <= 7, "asked for seldom");
    // A new process knows no more.
    operator.terminate().await.unwrap();
    let _operator = world.operator("two");
    sleep(Duration::from_secs(600)).await;
    assert!(denied(&world));
    world.tableau.state().hidden.clear();
    in_sync(&world, "orders").await;
    assert_eq!((task_of(&world, "orders"), count(&world, "create_task")), (task, 1));
}
