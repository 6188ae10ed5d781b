//! Upstreams that are runs by their tags or work pool, whatever their flow (`prefectRuns`).

use crate::world::{NAMESPACE, POLL, World};
use feedwater::prefect::{Run, StateType};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;
use world::resources::condition;

/// An extract after runs of this choice, beside the flow `orders`, which any of the two refreshes.
fn extract(world: &World, name: &str, runs: &Value) {
    world.publish(name);
    let mut refresh = World::refresh(name, &["orders"]);
    let mut runs = runs.clone();
    runs["workspaceRef"] = json!({"name": "prod"});
    refresh["spec"]["upstreams"].as_array_mut().unwrap().push(json!({"name": "crm", "prefectRuns": runs}));
    refresh["spec"]["trigger"] = json!({"require": "Any"});
    world.server.put("extractrefreshes", refresh).unwrap();
}

/// A run of some flow with the tag `crm` completes.
fn complete(world: &World) -> Run {
    world.prefect.run_of("any", &["crm", "nightly"], Some("etl"), StateType::Completed)
}

fn connect(world: &World) {
    world.connections();
    world.server.put("flowdeployments", World::flow("orders")).unwrap();
}

fn refreshed_for(world: &World, name: &str) -> Vec<String> {
    let exr = world.exr(name);
    let history = exr["status"]["history"].as_array().cloned().unwrap_or_default();
    let runs = history.iter().rev().flat_map(|entry| entry["runs"].as_array().unwrap().clone());
    runs.map(|run| run.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_of_any_flow_refreshes_and_one_that_does_not_match_does_not() {
    let world = World::new();
    connect(&world);
    // Before anybody counted.
    complete(&world);
    sleep(POLL).await;
    for (name, runs) in [
        ("by-tag", json!({"tags": ["crm"]})),
        ("by-both", json!({"tags": ["nightly", "crm"], "workPool": "etl"})),
        ("by-pool", json!({"workPool": "etl"})),
        ("by-more", json!({"tags": ["crm", "hourly"]})),
        ("by-other", json!({"tags": ["crm"], "workPool": "other"})),
    ] {
        extract(&world, name, &runs);
    }
    let _operator = world.operator("one");
    world.settle().await;
    let exr = world.exr("by-tag");
    assert_eq!(condition(&exr, "UpstreamsHealthy"), Some(("True", "AllHealthy")), "{exr:#}");
    assert_eq!(exr["status"]["upstreams"][1]["new"], false);
    assert_eq!(world.jobs().len(), 0, "it completed before anybody counted");
    let run = complete(&world).id.to_string();
    world.settle().await;
    for name in ["by-tag", "by-both", "by-pool"] {
        assert_eq!(refreshed_for(&world, name), std::slice::from_ref(&run), "{name}");
    }
    assert_eq!(world.jobs().len(), 3);
    world.prefect.run_of("any", &["crm"], Some("etl"), StateType::Failed);
    world.settle().await;
    let exr = world.exr("by-tag");
    assert_eq!(condition(&exr, "UpstreamsHealthy"), Some(("False", "UpstreamFailing")), "{exr:#}");
    // The flow of the FlowDeployment runs in the pool, too: one run, two upstreams of it, one refresh.
    let own = world.complete("orders").id.to_string();
    world.settle().await;
    assert_eq!(refreshed_for(&world, "by-pool").last(), Some(&own));
    assert_eq!(world.jobs().len(), 3 + 5);
}

/// Each refresh is shown as a run of ours in that workspace: were it an occasion, each would cause the next.
#[tokio::test(start_paused = true)]
async fn runs_that_report_refreshes_are_no_occasions_whatever_their_tags() {
    let world = World::new();
    connect(&world);
    extract(&world, "orders", &json!({"tags": ["feedwater"]}));
    let _operator = world.operator("one");
    world.settle().await;
    world.complete("orders");
    world.settle().await;
    assert_eq!(world.jobs().len(), 1);
    // The fake keeps what is told apart; in Prefect these are runs like any others.
    let tags = ["feedwater", "tableau"];
    let report = world.prefect.run_of("tableau-extract-refresh", &tags, None, StateType::Completed);
    let labelled = world.prefect.run_of("any", &tags, None, StateType::Running);
    {
        let mut state = world.prefect.state();
        assert!(state.flows.contains_key("tableau-extract-refresh"), "it is told");
        assert_ne!(report.flow.as_str(), "flow-0");
        let run = state.runs.iter_mut().find(|run| run.id == labelled.id).unwrap();
        run.reports_refresh = true;
    }
    world.prefect.set_state(&labelled.id, StateType::Completed).unwrap();
    world.settle().await;
    assert_eq!(world.jobs().len(), 1);
    let real = world.prefect.run_of("any", &tags, None, StateType::Completed);
    world.settle().await;
    assert_eq!(refreshed_for(&world, "orders").last(), Some(&real.id.to_string()));
    assert_eq!(world.jobs().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_choice_is_another_upstream_and_the_old_one_keeps_its_mark_for_a_day() {
    let world = World::new();
    connect(&world);
    extract(&world, "crm", &json!({"tags": ["crm"]}));
    let first = world.operator("one");
    world.settle().await;
    complete(&world);
    world.settle().await;
    assert_eq!(world.jobs().len(), 1);
    let choose = |tags: Value| {
        let mut exr = world.exr("crm");
        exr["spec"]["upstreams"][1]["prefectRuns"]["tags"] = tags;
        world.server.put("extractrefreshes", exr).unwrap();
    };
    // One that is added counts from a little earlier on, where its workspace has not been read for it yet.
    sleep(Duration::from_secs(900)).await;
    choose(json!(["nightly"]));
    world.settle().await;
    assert_eq!(world.jobs().len(), 1, "what completed before it was chosen does not count");
    choose(json!(["crm"]));
    world.settle().await;
    first.kill();
    let _second = world.operator("two");
    sleep(POLL * 10).await;
    assert_eq!(world.jobs().len(), 1, "a revert refreshes nothing again, nor does a restart");
    let missed = complete(&world).id.to_string();
    world.settle().await;
    assert!(refreshed_for(&world, "crm").contains(&missed));
    assert_eq!(world.jobs().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_runs_by_a_tag_is_waited_for_and_its_reports_are_not() {
    let world = World::new();
    connect(&world);
    extract(&world, "orders", &json!({"tags": ["crm"]}));
    let trigger = json!({"spec": {"trigger": {"runningUpstreams": {"policy": "Wait"}}}});
    world.server.merge("extractrefreshes", NAMESPACE, "orders", &trigger).unwrap();
    let _operator = world.operator("one");
    world.settle().await;
    let report = world.prefect.run_of("any", &["crm"], None, StateType::Running);
    for run in world.prefect.state().runs.iter_mut().filter(|run| run.id == report.id) {
        run.reports_refresh = true;
    }
    let running = world.prefect.run_of("any", &["crm"], None, StateType::Running);
    world.complete("orders");
    let waits =
        |world: &World| condition(&world.exr("orders"), "Refreshing") == Some(("False", "UpstreamRunning"));
    world.until("it waits", waits).await;
    sleep(POLL * 4).await;
    assert!(waits(&world) && world.jobs().is_empty());
    world.prefect.set_state(&running.id, StateType::Completed).unwrap();
    world.settle().await;
    assert_eq!(world.exr("orders")["status"]["history"][0]["runCount"], 2);
    assert_eq!(world.jobs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_do_not_grow_with_the_number_of_choices() {
    let mut calls = Vec::new();
    for extracts in [2, 40] {
        let world = World::new();
        connect(&world);
        for index in 0..extracts {
            extract(&world, &format!("e{index}"), &json!({"tags": ["prod", format!("t{index}")]}));
        }
        let _operator = world.operator("one");
        world.settle().await;
        let (before, written) = (world.troubles.log().len(), world.writes().len());
        sleep(POLL * 100).await;
        calls.push(world.troubles.log().len() - before);
        assert_eq!(world.writes().len(), written);
    }
    assert_eq!(calls[0], calls[1], "calls at rest for two choices, and for 40");
}
