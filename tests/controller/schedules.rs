//! Schedules in Tableau whose rights, lists and owners change.

use crate::world::{NAMESPACE, POLL, World};
use feedwater::api::RefreshType;
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

async fn gone(world: &World, name: &str) {
    world
        .until("it is gone", |world| world.server.object("extractrefreshes", NAMESPACE, name).is_none())
        .await;
}

#[tokio::test(start_paused = true)]
async fn renamed_in_git_it_hands_its_schedules_over_and_nothing_is_deleted() {
    let world = on_cloud();
    world.server.put("extractrefreshes", nightly("before")).unwrap();
    let _operator = world.operator("one");
    in_sync(&world, "before").await;
    let task = task_of(&world, "before");

    // Argo CD and Flux make the new one first.
    world.server.put("extractrefreshes", nightly("later")).unwrap();
    world
        .until("it waits its turn", |world| condition(world, "later", "Ready")["reason"] == "TargetConflict")
        .await;
    world.server.remove("extractrefreshes", NAMESPACE, "before").unwrap();
    gone(&world, "before").await;
    in_sync(&world, "later").await;
    world.settle().await;
    let tasks = world.tableau.state().tasks.len();
    assert_eq!((task_of(&world, "later"), tasks), (task, 1));
    assert_eq!((count(&world, "create_task"), count(&world, "delete_task")), (1, 0));

    // The one that has them takes them along in the end.
    world.server.remove("extractrefreshes", NAMESPACE, "later").unwrap();
    gone(&world, "later").await;
    assert_eq!(world.tableau.state().tasks.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_killed_while_schedules_are_handed_over_they_are_there_once() {
    // Before each write there is, and after each.
    for writes in 0..8 {
        let world = on_cloud();
        world.server.put("extractrefreshes", nightly("before")).unwrap();
        let operator = world.operator("one");
        in_sync(&world, "before").await;
        world.server.put("extractrefreshes", nightly("later")).unwrap();
        world
            .until("it waits its turn", |world| {
                condition(world, "later", "Ready")["reason"] == "TargetConflict"
            })
            .await;
        let written = world.writes().len();
        world.server.remove("extractrefreshes", NAMESPACE, "before").unwrap();
        world
            .until("so much is written, or all", |world| {
                world.writes().len() >= written + writes
                    || (world.server.object("extractrefreshes", NAMESPACE, "before").is_none()
                        && condition(world, "later", "Ready")["reason"] == "InSync")
            })
            .await;
        operator.kill();
        let _operator = world.operator("two");
        gone(&world, "before").await;
        in_sync(&world, "later").await;
        world.settle().await;
        let tasks = world.tableau.state().tasks.clone();
        assert_eq!(
            (tasks.len(), task_of(&world, "later")),
            (1, json!(tasks[0].id.as_str())),
            "after {writes} writes"
        );
        assert_eq!(count(&world, "delete_task"), 0, "after {writes} writes");
    }
}

#[tokio::test(start_paused = true)]
async fn who_keeps_no_schedules_inherits_none() {
    let world = on_cloud();
    world.server.put("extractrefreshes", nightly("before")).unwrap();
    let _operator = world.operator("one");
    in_sync(&world, "before").await;
    let mut other = nightly("later");
    other["spec"]["schedules"] = json!([]);
    world.server.put("extractrefreshes", other).unwrap();
    world.server.remove("extractrefreshes", NAMESPACE, "before").unwrap();
    gone(&world, "before").await;
    let left = world.tableau.state().tasks.len();
    assert_eq!((left, count(&world, "delete_task")), (0, 1));
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

/// By the rule that holds for every job; and nothing is asked once nothing is left to be contained.
#[tokio::test(start_paused = true)]
async fn a_run_of_a_schedule_is_credited_with_what_it_contains() {
    let world = on_cloud();
    for flow in ["a", "b"] {
        world.server.put("flowdeployments", World::flow(flow)).unwrap();
    }
    let mut refresh = World::refresh("orders", &["a", "b"]);
    refresh["spec"]["schedules"] = nightly("orders")["spec"]["schedules"].clone();
    world.server.put("extractrefreshes", refresh).unwrap();
    let _operator = world.operator("one");
    in_sync(&world, "orders").await;
    world.settle().await;
    world.complete("a");
    world.settle().await;
    assert_eq!(condition(&world, "orders", "Refreshing")["reason"], "WaitingForUpstreams");
    let luid = world.tableau.state().contents[0].luid.clone();
    world.tableau.start_elsewhere(&luid, RefreshType::Full).unwrap();
    let fresh = |world: &World| condition(world, "orders", "Fresh")["reason"] == "UpToDate";
    world.until("what it contains is credited", fresh).await;
    world.settle().await;
    let before = world.tableau.operations().len();
    let asked = |world: &World, what: &str| {
        world.tableau.operations()[before..].iter().filter(|call| *call == what).count()
    };
    sleep(POLL * 60).await;
    assert_eq!((asked(&world, "jobs"), asked(&world, "job")), (0, 0));
    let b = world.complete("b").id.to_string();
    world.until("it is refreshed for `b`", |world| world.jobs().len() == 2).await;
    world.settle().await;
    assert_eq!(world.exr("orders")["status"]["history"][0]["runs"], json!([b]));
}
