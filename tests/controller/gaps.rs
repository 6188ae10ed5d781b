//! What completes while nobody counts for more than a day (the operator is down, a workspace suspended, a `FlowDeployment` away) is found afterwards,
//! however many other runs completed since.

use crate::world::{NAMESPACE, POLL, World};
use feedwater::model::parameters::Parameters;
use feedwater::prefect::{Run, StateType};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;
use world::resources::condition;

const HOUR: Duration = Duration::from_secs(3600);

/// An extract after the runs of the flow `orders` for this region; its name is the region's.
fn extract(world: &World, region: &str) {
    world.publish(region);
    let mut refresh = World::refresh(region, &["orders"]);
    let upstream = &mut refresh["spec"]["upstreams"][0];
    upstream["parameters"] = json!({"region": region});
    upstream["excludeStateNames"] = json!(["Skipped"]);
    world.server.put("extractrefreshes", refresh).unwrap();
}

fn both(world: &World) {
    // Days pass here; events and restarts have everything read at once all the same.
    world.connections_read_every(Duration::from_secs(600));
    let mut flow = World::flow("orders");
    flow["spec"]["deletionPolicy"] = json!("Orphan");
    flow["spec"]["adoptionPolicy"] = json!("Adopt");
    world.server.put("flowdeployments", flow).unwrap();
    extract(world, "eu");
    extract(world, "us");
}

/// A run for this region ends.
fn end(world: &World, region: &str, state: StateType, name: &str) -> Run {
    let mut run = world.prefect.run(&World::deployment("orders"), state);
    run.parameters = Parameters::of(json!({"region": region, "day": 1}).as_object().unwrap());
    name.clone_into(&mut run.state_name);
    *world.prefect.state().runs.last_mut().unwrap() = run.clone();
    run
}

fn complete(world: &World, region: &str) -> Run {
    end(world, region, StateType::Completed, "Completed")
}

fn refreshed_for(world: &World, name: &str) -> Vec<String> {
    let exr = world.exr(name);
    let history = exr["status"]["history"].as_array().cloned().unwrap_or_default();
    let runs = history.iter().rev().flat_map(|entry| entry["runs"].as_array().unwrap().clone());
    runs.map(|run| run.as_str().unwrap().to_owned()).collect()
}

/// One of `eu` completes, then so many of others, more than a day before anybody counts again.
async fn busy_gap(world: &World, others: usize) -> [String; 2] {
    sleep(HOUR).await;
    let eu = complete(world, "eu");
    sleep(HOUR).await;
    for _ in 0..others {
        complete(world, "us");
    }
    sleep(HOUR).await;
    end(world, "eu", StateType::Completed, "Skipped");
    let us = complete(world, "us");
    sleep(HOUR * 25).await;
    [eu.id.to_string(), us.id.to_string()]
}

fn each_once(world: &World, [eu, us]: [String; 2]) {
    assert_eq!(refreshed_for(world, "eu"), [eu]);
    assert_eq!(refreshed_for(world, "us"), [us]);
    assert_eq!(world.jobs().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_completed_while_the_operator_was_down_is_found_behind_many_others() {
    let world = World::new();
    both(&world);
    let first = world.operator("one");
    world.settle().await;
    first.kill();
    let runs = busy_gap(&world, 450).await;
    let _second = world.operator("two");
    world.settle().await;
    each_once(&world, runs);
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_is_killed_while_it_looks_back_leaves_the_rest_to_the_next() {
    let world = World::new();
    both(&world);
    let first = world.operator("one");
    world.settle().await;
    first.kill();
    let runs = busy_gap(&world, 4000).await;
    let second = world.operator("two");
    // Both are read for, and only one was found at once.
    world.until("the newest is refreshed for", |world| world.jobs().len() == 1).await;
    sleep(Duration::from_secs(2)).await;
    second.kill();
    assert_eq!(world.jobs().len(), 1, "killed too late to show anything");
    let _third = world.operator("three");
    world.settle().await;
    each_once(&world, runs);
}

#[tokio::test(start_paused = true)]
async fn what_completed_while_the_workspace_was_suspended_is_found_though_others_read_the_same_prefect() {
    let world = World::new();
    both(&world);
    // Another object, another credential, the same API: its cursor goes on.
    world.secret(NAMESPACE, "prefect", &[("username", "u"), ("password", "p")]);
    let mut other = world.server.object("prefectworkspaces", NAMESPACE, "prod").unwrap();
    other["metadata"] = json!({"name": "other", "namespace": NAMESPACE});
    other["spec"]["auth"] = json!({"basic": {"secretRef": {"name": "prefect"}}});
    world.server.put("prefectworkspaces", other).unwrap();
    world.publish("spare");
    let mut spare = World::refresh("spare", &["orders"]);
    let there = json!({"workspaceRef": {"name": "other"}, "flowName": "orders", "deploymentName": "orders"});
    let asia = json!({"region": "asia"});
    spare["spec"]["upstreams"] = json!([{"name": "spare", "prefectDeployment": there, "parameters": asia}]);
    world.server.put("extractrefreshes", spare).unwrap();
    let _operator = world.operator("one");
    world.settle().await;
    let suspend = |suspend: bool| {
        let patch = json!({"spec": {"suspend": suspend}});
        world.server.merge("prefectworkspaces", NAMESPACE, "prod", &patch).unwrap();
    };
    suspend(true);
    let runs = busy_gap(&world, 450).await;
    assert_eq!(world.jobs().len(), 0);
    suspend(false);
    world.settle().await;
    each_once(&world, runs);
}

#[tokio::test(start_paused = true)]
async fn what_completed_while_the_flow_deployment_was_away_is_found_when_it_is_back() {
    for restart in [false, true] {
        let world = World::new();
        both(&world);
        let mut operator = Some(world.operator("one"));
        world.settle().await;
        // Not at first sight, where the newest is looked for anyway.
        complete(&world, "eu");
        complete(&world, "us");
        world.settle().await;
        assert_eq!(world.jobs().len(), 2);
        let flow = world.flow_object("orders");
        world.server.remove("flowdeployments", NAMESPACE, "orders").unwrap();
        sleep(POLL * 2).await;
        assert_eq!(world.exr("eu")["status"]["upstreams"][0]["state"], "NotFound");
        let runs = busy_gap(&world, 450).await;
        if restart {
            operator.take().unwrap().kill();
        }
        let mut back = flow;
        back["metadata"] = json!({"name": "orders", "namespace": NAMESPACE});
        world.server.put("flowdeployments", back).unwrap();
        if restart {
            operator = Some(world.operator("two"));
        }
        world.settle().await;
        let last = ["eu", "us"].map(|name| refreshed_for(&world, name).last().cloned());
        assert_eq!((last, world.jobs().len()), (runs.map(Some), 4));
        drop(operator);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_without_a_gap_asks_for_nothing_that_was_read_before() {
    let world = World::new();
    both(&world);
    let first = world.operator("one");
    world.settle().await;
    for _ in 0..450 {
        complete(&world, "us");
    }
    sleep(HOUR * 25).await;
    first.kill();
    world.prefect.state().calls.clear();
    let _second = world.operator("two");
    world.settle().await;
    let calls = world.prefect.state().calls.clone();
    assert!(calls.iter().any(|call| call == "runs"), "{calls:?}");
    assert!(calls.iter().all(|call| call != "runs completed"), "{calls:?}");
}

/// What fails for one region says nothing of another, and what completes for another mends nothing.
#[tokio::test(start_paused = true)]
async fn the_health_of_an_upstream_is_that_of_its_own_runs() {
    let world = World::new();
    both(&world);
    let _operator = world.operator("one");
    world.settle().await;
    let health = |name: &str| {
        let exr: Value = world.exr(name);
        condition(&exr, "UpstreamsHealthy").map(|(status, reason)| format!("{status} {reason}")).unwrap()
    };
    end(&world, "us", StateType::Failed, "Failed");
    world.settle().await;
    assert_eq!((health("eu").as_str(), health("us").as_str()), ("True AllHealthy", "False UpstreamFailing"));
    complete(&world, "eu");
    world.settle().await;
    assert_eq!((health("eu").as_str(), health("us").as_str()), ("True AllHealthy", "False UpstreamFailing"));
    end(&world, "us", StateType::Completed, "Skipped");
    world.settle().await;
    assert_eq!(health("us"), "True AllHealthy", "it was run, though there was nothing to do");
    assert_eq!(world.jobs().len(), 1);
}

/// A selection that is edited has a past of its own: until that was looked at, nothing is decided as if it had been.
#[tokio::test(start_paused = true)]
async fn what_an_edited_upstream_means_now_is_not_known_until_it_was_read() {
    let world = World::new();
    both(&world);
    // Three days ago.
    let asia = complete(&world, "asia");
    {
        let mut state = world.prefect.state();
        let run = state.runs.last_mut().unwrap();
        let long_ago = run.state_at - jiff::SignedDuration::from_hours(72);
        (run.state_at, run.ended_at) = (long_ago, Some(long_ago));
    }
    let _operator = world.operator("one");
    world.settle().await;
    let deployment = world.prefect.state().deployments.keys().next().cloned();
    world.prefect.state().runs[0].deployment = deployment;
    complete(&world, "us");
    world.settle().await;
    let edited = |region: &str| {
        let mut exr = world.exr("eu");
        exr["spec"]["upstreams"][0]["parameters"]["region"] = json!(region);
        let patch = json!({"spec": {"upstreams": exr["spec"]["upstreams"]}});
        world.server.merge("extractrefreshes", NAMESPACE, "eu", &patch).unwrap();
    };
    // Prefect does not answer when the spec has changed.
    for _ in 0..4 {
        world.prefect.fail("runs", feedwater::prefect::PrefectError::Unavailable);
    }
    edited("asia");
    sleep(Duration::from_secs(10)).await;
    let shown = |world: &World| world.exr("eu")["status"]["upstreams"][0].clone();
    assert_eq!(shown(&world)["state"], "Unread", "{}", shown(&world));
    sleep(HOUR).await;
    assert_eq!(
        (shown(&world)["state"].as_str(), shown(&world)["runId"].as_str()),
        (Some("Completed"), Some(asia.id.as_str()))
    );
    assert_eq!(refreshed_for(&world, "eu"), Vec::<String>::new(), "it completed before anybody meant it");
}

/// What a name that is excluded now had hidden counts, however the process ends that saw the edit.
#[tokio::test(start_paused = true)]
async fn what_an_excluded_name_had_hidden_is_found_by_the_process_after_the_edit() {
    let world = World::new();
    both(&world);
    world.server.put("flowdeployments", World::flow("stock")).unwrap();
    let mut exr = world.exr("eu");
    let mut upstreams = exr["spec"]["upstreams"].clone();
    let stock = json!({"name": "stock", "flowDeploymentRef": {"name": "stock"}});
    upstreams.as_array_mut().unwrap().push(stock);
    exr["spec"]["upstreams"] = upstreams.clone();
    world.server.put("extractrefreshes", exr).unwrap();
    let first = world.operator("one");
    world.settle().await;
    let hidden = complete(&world, "eu");
    sleep(HOUR).await;
    let cached = end(&world, "eu", StateType::Completed, "Cached");
    sleep(HOUR * 30).await;
    let shown = |world: &World| world.exr("eu")["status"]["upstreams"][0].clone();
    assert_eq!(shown(&world)["runId"], cached.id.as_str());
    assert_eq!(world.jobs().len(), 0, "it waits for the other upstream");
    // Prefect does not answer when the spec has changed, and the process ends before it does.
    for _ in 0..100 {
        world.prefect.fail("runs", feedwater::prefect::PrefectError::Unavailable);
    }
    upstreams[0]["excludeStateNames"] = json!(["Skipped", "Cached"]);
    let patch = json!({"spec": {"upstreams": upstreams}});
    world.server.merge("extractrefreshes", NAMESPACE, "eu", &patch).unwrap();
    sleep(Duration::from_secs(10)).await;
    first.kill();
    assert_eq!(
        (&shown(&world)["state"], &shown(&world)["runId"]),
        (&json!("Unread"), &Value::Null),
        "the edit was seen"
    );
    world.prefect.answers_again();
    let _second = world.operator("two");
    world.settle().await;
    assert_eq!(shown(&world)["runId"], hidden.id.as_str());
    let stock = world.complete("stock");
    world.settle().await;
    let mut runs = refreshed_for(&world, "eu");
    runs.sort();
    let mut both = [hidden.id.to_string(), stock.id.to_string()];
    both.sort();
    assert_eq!(runs, both);
}
