//! A site that is suspended: not called, and nothing is lost meanwhile.

use crate::remote::{Service, Trouble};
use crate::world::{NAMESPACE, POLL, World};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;
use world::resources::{self, condition};

fn site(world: &World) -> Value {
    world.server.object("tableausites", NAMESPACE, "acme").unwrap()
}

fn suspend(world: &World, suspend: bool) {
    let mut site = site(world);
    site["spec"]["suspend"] = json!(suspend);
    world.server.put("tableausites", site).unwrap();
}

fn message(object: &Value, kind: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
    found["message"].as_str().unwrap().to_owned()
}

fn refreshing(world: &World) -> (String, String) {
    let exr = world.exr("orders");
    let (status, reason) = condition(&exr, "Refreshing").unwrap();
    (status.into(), reason.into())
}

/// The calls to Tableau, by their names.
fn calls(world: &World) -> Vec<&'static str> {
    let all = world.troubles.log().into_iter();
    all.filter(|call| call.service == Service::Tableau).map(|call| call.operation).collect()
}

/// Suspends it, and is there when everybody has heard of it.
async fn suspended(world: &World) -> usize {
    let before = calls(world).len();
    suspend(world, true);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(condition(&site(world), "Ready"), Some(("True", "Suspended")));
    assert_eq!(calls(world)[before..], ["sign_out"], "the session ends, and nothing else is called");
    before + 1
}

#[tokio::test(start_paused = true)]
async fn it_is_not_called_and_what_completes_meanwhile_is_refreshed_once_afterwards() {
    let world = World::new();
    let luid = world.with_orders();
    let operator = world.operator("one");
    world.settle().await;
    let before = suspended(&world).await;

    world.complete("orders");
    sleep(POLL * 20).await;
    assert_eq!(refreshing(&world), ("False".into(), "ConnectionUnavailable".into()));
    let said = message(&world.exr("orders"), "Refreshing");
    assert!(said.contains("TableauSite `acme` is not ready (Suspended)"), "{said}");
    assert_eq!(condition(&world.exr("orders"), "Ready"), Some(("True", "InSync")), "it is as declared");
    // Whoever comes meanwhile is told the same.
    world.publish("new");
    world.server.put("extractrefreshes", World::refresh("new", &["orders"])).unwrap();
    sleep(POLL).await;
    assert_eq!(condition(&world.exr("new"), "Ready"), Some(("Unknown", "ConnectionUnavailable")));
    // A new credential and the next process change nothing about it.
    world.secret(NAMESPACE, "tableau", &[("name", "token"), ("secret", "new")]);
    operator.terminate().await.unwrap();
    let _operator = world.operator("two");
    world.complete("orders");
    sleep(POLL * 20).await;
    assert_eq!(condition(&site(&world), "Ready"), Some(("True", "Suspended")));
    assert_eq!(calls(&world)[before..], [""; 0], "no call through it");
    let written = world.writes().len();
    sleep(POLL * 20).await;
    assert_eq!(world.writes().len(), written, "it rests");

    suspend(&world, false);
    world.settle().await;
    assert_eq!(condition(&site(&world), "Ready"), Some(("True", "Connected")));
    assert_eq!(world.jobs_of(&luid), 1, "of two completions");
    assert_eq!(condition(&world.exr("orders"), "LastRefreshSucceeded"), Some(("True", "Succeeded")));
}

/// What it came to is read afterwards; that counts, and what completed meanwhile is one more.
#[tokio::test(start_paused = true)]
async fn a_refresh_under_way_goes_on_in_tableau_and_is_looked_up_afterwards() {
    for again in [false, true] {
        let world = World::new();
        let luid = world.with_orders();
        let _operator = world.operator("one");
        world.settle().await;
        world.complete("orders");
        world.until("it runs", |world| refreshing(world).1 == "Running").await;
        let before = suspended(&world).await;
        if again {
            world.complete("orders");
        }
        sleep(POLL * 20).await;
        assert!(world.jobs().iter().all(|job| job.job.completed_at.is_some()), "Tableau went on");
        assert_eq!(calls(&world)[before..], [""; 0], "no call through it");
        assert_eq!(refreshing(&world).1, "Running");
        let said = message(&world.exr("orders"), "Refreshing");
        assert!(said.contains("TableauSite `acme` was suspended"), "{said}");

        suspend(&world, false);
        world.settle().await;
        assert_eq!(world.jobs_of(&luid), 1 + usize::from(again));
        let history = world.exr("orders")["status"]["history"].clone();
        let outcomes: Vec<_> = history.as_array().unwrap().iter().map(|entry| &entry["outcome"]).collect();
        assert!(outcomes.iter().all(|outcome| *outcome == "Succeeded"), "{history}");
        assert_eq!(world.exr("orders")["status"]["owed"], Value::Null);
    }
}

/// The call that is under way is the last, and its answer counts; one that was about to go out does not.
#[tokio::test(start_paused = true)]
async fn what_is_under_way_ends_where_the_site_is_suspended() {
    for held in ["site", "refresh"] {
        let world = World::new();
        let luid = world.with_orders();
        let _operator = world.operator("one");
        world.settle().await;
        world.troubles.once(held, Trouble::DelayAnswer(Duration::from_secs(5)));
        let begun = calls(&world).len();
        world.complete("orders");
        world.until("it is under way", |world| calls(world)[begun..].contains(&held)).await;
        suspend(&world, true);
        sleep(Duration::from_secs(1)).await;
        let later = calls(&world).len();
        sleep(POLL * 4).await;
        assert_eq!(calls(&world)[later..], ["sign_out"], "{held}: when it has ended");
        assert_eq!(world.jobs_of(&luid), usize::from(held == "refresh"), "{held}");

        suspend(&world, false);
        world.settle().await;
        assert_eq!(world.jobs_of(&luid), 1, "{held}");
        assert_eq!(condition(&world.exr("orders"), "LastRefreshSucceeded"), Some(("True", "Succeeded")));
    }
}

/// Schedules cannot be deleted through it; they are left behind at the deadline, or deleted when it is resumed before that.
#[tokio::test(start_paused = true)]
async fn what_is_deleted_meanwhile_waits_for_it_until_the_deadline() {
    for resumed in [true, false] {
        let world = World::new();
        world.connections();
        let mut cloud = site(&world);
        cloud["spec"]["edition"] = json!("Cloud");
        world.server.put("tableausites", cloud).unwrap();
        world.publish("orders");
        let mut exr = resources::extract_refresh(NAMESPACE, "orders", "acme", ("Finance", "orders"), &[]);
        exr["spec"]["schedules"] = json!([{"name": "nightly", "frequency": "Daily", "start": "02:00"}]);
        world.server.put("extractrefreshes", exr).unwrap();
        let _operator = world.operator("one");
        world.settle().await;
        assert_eq!(world.tableau.state().tasks.len(), 1);

        let before = suspended(&world).await;
        world.server.remove("extractrefreshes", NAMESPACE, "orders").unwrap();
        sleep(POLL * 4).await;
        assert_eq!(condition(&world.exr("orders"), "Ready"), Some(("False", "DeletionBlocked")));
        if resumed {
            suspend(&world, false);
        }
        let gone = |world: &World| world.server.object("extractrefreshes", NAMESPACE, "orders").is_none();
        world.until("it is gone", gone).await;
        assert_eq!(world.tableau.state().tasks.len(), usize::from(!resumed));
        assert_eq!(calls(&world).len() == before, !resumed, "no call through it");
    }
}
