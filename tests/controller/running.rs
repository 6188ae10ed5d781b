//! A refresh that is due waits for the upstreams that run (`trigger.runningUpstreams`), and Prefect is asked what runs only for it.

use crate::remote::Trouble;
use crate::world::{POLL, World};
use feedwater::model::ids::RunId;
use feedwater::prefect::{PrefectError, StateType};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;
use world::resources::condition;

/// An extract after either of two flows that waits for what runs, and how.
fn two(world: &World, running: &Value) {
    world.connections();
    for flow in ["a", "b"] {
        world.server.put("flowdeployments", World::flow(flow)).unwrap();
    }
    extract(world, "orders", running);
}

fn extract(world: &World, name: &str, running: &Value) {
    world.publish(name);
    let mut refresh = World::refresh(name, &["a", "b"]);
    refresh["spec"]["trigger"] = json!({"require": "Any", "runningUpstreams": running});
    world.server.put("extractrefreshes", refresh).unwrap();
}

/// A run of the flow begins; nobody is told of that.
fn begin(world: &World, flow: &str) -> RunId {
    world.prefect.run(&World::deployment(flow), StateType::Running).id
}

fn activity(world: &World, name: &str) -> String {
    condition(&world.exr(name), "Refreshing").map(|(_, reason)| reason.to_owned()).unwrap_or_default()
}

fn message(world: &World) -> String {
    let exr = world.exr("orders");
    let conditions = exr["status"]["conditions"].as_array().unwrap().clone();
    let refreshing = conditions.into_iter().find(|condition| condition["type"] == "Refreshing").unwrap();
    refreshing["message"].as_str().unwrap().to_owned()
}

/// How often it was asked which runs are in progress.
fn asked(world: &World) -> usize {
    world.prefect.state().calls.iter().filter(|call| *call == "runs in-progress").count()
}

async fn held(world: &World) {
    world
        .until("it waits for b", |world| {
            activity(world, "orders") == "UpstreamRunning" && message(world).contains("`b` (running)")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_waited_for_and_one_refresh_contains_both() {
    let world = World::new();
    two(&world, &json!({"policy": "Wait"}));
    let _operator = world.operator("one");
    world.settle().await;
    let run = begin(&world, "b");
    assert_eq!(asked(&world), 0, "nothing is owed");
    world.complete("a");
    held(&world).await;
    let (polled, written) = (asked(&world), world.writes().len());
    sleep(POLL * 10).await;
    assert!((9..=11).contains(&(asked(&world) - polled)), "one question with each poll");
    assert_eq!((world.writes().len(), world.jobs().len()), (written, 0), "waiting writes nothing");
    let eligible: jiff::Timestamp =
        world.exr("orders")["status"]["nextEligibleTime"].as_str().unwrap().parse().unwrap();
    assert!(eligible > world.now(), "{eligible}");

    // A retry of its own is still to come.
    world.prefect.set_state_named(&run, StateType::Scheduled, "AwaitingRetry").unwrap();
    world
        .until("it waits for the retry", |world| message(world).contains("`b` (waiting for its retry)"))
        .await;
    world.prefect.set_state(&run, StateType::Completed).unwrap();
    world.settle().await;
    let exr = world.exr("orders");
    assert_eq!(exr["status"]["history"][0]["runCount"], 2, "{exr:#}");
    assert_eq!((world.jobs().len(), activity(&world, "orders")), (1, "UpToDate".to_owned()));
    let asked_before = asked(&world);
    sleep(POLL * 20).await;
    assert_eq!(asked(&world), asked_before, "at rest nothing is asked");
}

#[tokio::test(start_paused = true)]
async fn it_waits_no_longer_than_max_across_a_crash_and_without_an_answer() {
    for refused in [false, true] {
        let world = World::new();
        two(&world, &json!({"policy": "Wait", "max": "20m"}));
        let first = world.operator("one");
        world.settle().await;
        world.prefect.state().refuses_in_progress = refused;
        begin(&world, "b");
        world.complete("a");
        let waits = |world: &World| activity(world, "orders") == "UpstreamRunning";
        world.until("it waits", waits).await;
        let formed = world.now();
        sleep(Duration::from_secs(300)).await;
        first.kill();
        let _second = world.operator("two");
        // Others are seen as ever.
        let newer = world.complete("a");
        sleep(Duration::from_secs(800)).await;
        assert!(waits(&world) && world.jobs().is_empty(), "refused: {refused}");
        assert_eq!(world.exr("orders")["status"]["upstreams"][0]["runId"], newer.id.as_str());
        world.until("it starts", |world| !world.jobs().is_empty()).await;
        let waited = world.now().duration_since(formed).unsigned_abs();
        let most = Duration::from_secs(20 * 60 + 60);
        assert!(
            waited >= Duration::from_secs(20 * 60 - 5) && waited < most,
            "refused: {refused}, {waited:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_move_is_not_waited_for_and_an_event_names_it() {
    let world = World::new();
    two(&world, &json!({"policy": "Wait"}));
    let _operator = world.operator("one");
    world.settle().await;
    let run = begin(&world, "b");
    world.prefect.state().runs[0].state_at -= SignedDuration::from_hours(25);
    world.complete("a");
    world.settle().await;
    assert_eq!(world.jobs().len(), 1);
    let events = world.server.objects("events");
    let named = events.iter().find(|event| event["reason"] == "UpstreamStuck").unwrap();
    assert!(named["note"].as_str().unwrap().contains(run.as_str()), "{named:#}");
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_too_and_whoever_ignores_what_runs_asks_nothing() {
    let world = World::new();
    two(&world, &json!({"policy": "Wait"}));
    extract(&world, "ignoring", &json!({"policy": "Ignore"}));
    let _operator = world.operator("one");
    world.settle().await;
    let b = begin(&world, "b");
    world.complete("a");
    held(&world).await;
    world.until("the other does not wait", |world| activity(world, "ignoring") == "UpToDate").await;
    let metadata = json!({"metadata": {"annotations": {"feedwater.dev/refresh-requested": "now"}}});
    world.server.merge("extractrefreshes", crate::world::NAMESPACE, "orders", &metadata).unwrap();
    sleep(POLL * 4).await;
    assert_eq!(world.jobs().len(), 1, "a request skips no run that may deliver");
    world.prefect.set_state(&b, StateType::Failed).unwrap();
    world.until("it is refreshed", |world| world.jobs().len() == 2).await;
    world.settle().await;
    let before = asked(&world);
    world.complete("a");
    world.until("the other is refreshed again", |world| world.jobs().len() == 3).await;
    assert!(asked(&world) > before, "the one that waits asks again");
}

#[tokio::test(start_paused = true)]
async fn many_that_wait_cost_one_question() {
    let mut calls = Vec::new();
    for resources in [1, 40] {
        let world = World::new();
        two(&world, &json!({"policy": "Wait"}));
        for index in 1..resources {
            extract(&world, &format!("extract-{index}"), &json!({"policy": "Wait"}));
        }
        let _operator = world.operator("one");
        world.settle().await;
        begin(&world, "b");
        world.complete("a");
        held(&world).await;
        sleep(POLL).await;
        let before = world.troubles.log().len();
        sleep(POLL * 20).await;
        calls.push(world.troubles.log().len() - before);
        assert!(world.jobs().is_empty());
    }
    assert_eq!(calls[0], calls[1], "calls for one that waits, and for 40");
}

/// It is asked what runs before it is asked what has ended, and nothing comes of the first answer without the second: else what ends between the
/// two would be neither.
#[tokio::test(start_paused = true)]
async fn what_ends_while_prefect_is_asked_is_in_the_refresh() {
    ends_at(2, Trouble::None).await;
    ends_at(1, Trouble::Lose).await;
}

/// With this question of a poll the run ends; the second question fares so.
async fn ends_at(question: u32, second: Trouble) {
    let world = World::new();
    two(&world, &json!({"policy": "Wait"}));
    let _operator = world.operator("one");
    world.settle().await;
    // Only polls.
    for _ in 0..200 {
        world.prefect.fail("events", PrefectError::Ambiguous);
    }
    world.prefect.cut_events();
    let run = begin(&world, "b");
    world.complete("a");
    held(&world).await;
    // Between two polls.
    sleep(Duration::from_secs(5)).await;
    let (prefect, mut questions) = (world.prefect.clone(), 0);
    world.troubles.on_call(move |call| {
        if call.operation != "runs" {
            return Trouble::None;
        }
        questions += 1;
        if questions == question {
            prefect.set_state(&run, StateType::Completed).unwrap();
        }
        if questions == 2 { second } else { Trouble::None }
    });
    world.settle().await;
    assert_eq!(world.exr("orders")["status"]["history"][0]["runCount"], 2);
    assert_eq!(world.jobs().len(), 1);
}
