//! What a `PrefectWorkspace` allows: whether it is called at all, and which versions of Prefect.

use crate::remote::{Service, Trouble};
use crate::world::{NAMESPACE, POLL, World};
use feedwater::prefect::PrefectError;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;
use world::resources::condition;

fn change(world: &World, field: &str, value: Value) {
    let mut workspace = world.server.object("prefectworkspaces", NAMESPACE, "prod").unwrap();
    workspace["spec"][field] = value;
    world.server.put("prefectworkspaces", workspace).unwrap();
}

fn workspace(world: &World) -> Value {
    world.server.object("prefectworkspaces", NAMESPACE, "prod").unwrap()
}

fn message(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
    ready["message"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_suspended_workspace_is_not_called_and_nothing_is_lost_meanwhile() {
    let world = World::new();
    let luid = world.with_orders();
    let _operator = world.operator("one");
    world.settle().await;
    let server = &workspace(&world)["status"]["server"];
    assert_eq!(*server, json!({"hosting": "SelfHosted", "csrf": false, "events": "Live"}));

    change(&world, "suspend", json!(true));
    world.settle().await;
    assert_eq!(condition(&workspace(&world), "Ready"), Some(("True", "Suspended")));
    let calls = || world.troubles.log().into_iter().filter(|call| call.service == Service::Prefect).count();
    let before = calls();
    world.complete("orders");
    let mut flow = world.flow_object("orders");
    flow["spec"]["description"] = json!("Loads orders");
    world.server.put("flowdeployments", flow).unwrap();
    sleep(POLL * 20).await;
    assert_eq!(calls(), before, "no call through it");
    assert_eq!(condition(&world.flow_object("orders"), "Ready"), Some(("Unknown", "ConnectionUnavailable")));
    assert_eq!(condition(&world.exr("orders"), "Ready").map(|(status, _)| status), Some("True"));

    change(&world, "suspend", json!(false));
    world.settle().await;
    assert_eq!(condition(&world.flow_object("orders"), "Ready"), Some(("True", "InSync")));
    assert_eq!(world.jobs_of(&luid), 1, "what completed meanwhile was not missed, nor counted twice");
}

/// Of several writes, or of the calls of a report, the one that is under way is the last.
#[tokio::test(start_paused = true)]
async fn what_is_under_way_ends_where_the_workspace_is_suspended() {
    for held in ["patch_deployment", "ensure_run"] {
        let world = World::new();
        world.with_orders();
        let _operator = world.operator("one");
        world.settle().await;
        world.troubles.once(held, Trouble::DelayAnswer(Duration::from_secs(5)));
        let begun = world.troubles.log().len();
        if held == "ensure_run" {
            world.complete("orders");
        } else {
            let mut flow = world.flow_object("orders");
            flow["spec"]["description"] = json!("Loads orders");
            let noon = json!({"slug": "noon", "cron": {"expression": "0 12 * * *"}});
            flow["spec"]["schedules"].as_array_mut().unwrap().push(noon);
            world.server.put("flowdeployments", flow).unwrap();
        }
        let sent = |world: &World| world.troubles.log()[begun..].iter().any(|call| call.operation == held);
        world.until("the first call is under way", sent).await;
        change(&world, "suspend", json!(true));
        sleep(Duration::from_secs(1)).await;
        let suspended = world.troubles.log().len();
        world.settle().await;
        let calls = world.troubles.log();
        let later: Vec<_> = calls[suspended..].iter().filter(|c| c.service == Service::Prefect).collect();
        assert!(later.is_empty(), "{held}: {later:?}");

        change(&world, "suspend", json!(false));
        world.settle().await;
        assert_eq!(condition(&world.flow_object("orders"), "Ready"), Some(("True", "InSync")));
        if held == "ensure_run" {
            let shown =
                |world: &World| world.prefect.state().told.runs.iter().any(|run| !run.artifacts.is_empty());
            world.until("the refresh is shown", shown).await;
        }
    }
}

/// What waits for its turn keeps no session going that nobody uses any more.
#[tokio::test(start_paused = true)]
async fn a_report_that_waits_in_the_lane_keeps_nothing_going() {
    let world = World::new();
    let luid = world.with_orders();
    let _operator = world.operator("one");
    world.settle().await;
    // The server asks for silence, and then a refresh is to be told.
    let silence = Duration::from_secs(300);
    world.prefect.fail("patch_deployment", PrefectError::Throttled { retry_after: Some(silence) });
    let mut flow = world.flow_object("orders");
    flow["spec"]["description"] = json!("Loads orders");
    world.server.put("flowdeployments", flow).unwrap();
    let refused =
        |world: &World| condition(&world.flow_object("orders"), "Ready") == Some(("Unknown", "RateLimited"));
    world.until("it is refused", refused).await;
    world.complete("orders");
    world.until("there is something to tell", |world| world.jobs_of(&luid) == 1).await;
    sleep(Duration::from_secs(2)).await;

    change(&world, "suspend", json!(true));
    sleep(Duration::from_secs(1)).await;
    let calls = || world.troubles.log().into_iter().filter(|call| call.service == Service::Prefect).count();
    let before = calls();
    // Who still listens to its events would connect again, and ask anew what is there.
    world.prefect.cut_events();
    sleep(silence + POLL * 4).await;
    assert_eq!(calls(), before, "no call through it");

    change(&world, "suspend", json!(false));
    let shown = |world: &World| world.prefect.state().told.runs.iter().any(|run| !run.artifacts.is_empty());
    world.until("the refresh is shown", shown).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_server_is_told_and_one_that_is_too_old_is_left_alone_until_it_is_upgraded() {
    let world = World::new();
    world.prefect.state().version = Some("3.1.15".into());
    world.with_orders();
    let _operator = world.operator("one");
    world.settle().await;
    assert_eq!(condition(&workspace(&world), "Ready"), Some(("False", "UnsupportedVersion")));
    assert_eq!(condition(&workspace(&world), "Stalled"), Some(("True", "UnsupportedVersion")));
    assert!(message(&workspace(&world)).contains("3.2.0 or later"), "{}", message(&workspace(&world)));
    let calls = world.troubles.log().into_iter();
    let others: Vec<_> = calls
        .filter(|c| c.service == Service::Prefect && !["probe", "events"].contains(&c.operation))
        .collect();
    assert_eq!(others, [], "nothing is asked of it but what it is");

    world.prefect.state().version = Some("3.3.1".into());
    world
        .until("it is used", |world| {
            condition(&world.flow_object("orders"), "Ready") == Some(("True", "InSync"))
        })
        .await;
    assert_eq!(workspace(&world)["status"]["version"], "3.3.1");
    assert!(message(&workspace(&world)).contains("upgrade it to 3.4.8"), "{}", message(&workspace(&world)));
    let told = |reason: &str| {
        world.server.objects("events").iter().filter(|event| event["reason"] == reason).count()
    };
    world.settle().await;
    assert_eq!(told("OldVersion"), 1);

    // An upgrade ends the event stream.
    world.prefect.state().version = Some("3.9.1".into());
    world.prefect.cut_events();
    world.settle().await;
    assert_eq!(workspace(&world)["status"]["version"], "3.9.1");
    assert!(!message(&workspace(&world)).contains("upgrade"), "{}", message(&workspace(&world)));
}
