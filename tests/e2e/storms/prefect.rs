//! Prefect.

use super::Storm;
use crate::stage::{Stage, is};
use feedwater::api::FlowDeployment;
use reqwest::Method;
use serde_json::json;
use world::prefect::{Installation, Rest, Server};
use world::progress::Progress;
use world::proxy::{Action, Answer, Rule};

/// As Prefect on SQLite does when its database is locked, and as it does when it is restarted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefect_is_busy_and_resets_and_each_completion_comes_through_once() {
    let storm = Storm::over("busy").await;
    let before = storm.prefect.total();
    let busy = storm.prefect.add(Rule::on("*", "/api/**", Action::Answer(Answer::status(503))));
    storm.prefect_is("False", "ServiceUnavailable").await;
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    storm.stage.change::<FlowDeployment>("orders", json!({"spec": {"description": "Loads orders"}})).await;
    let fired = busy.fired();
    let reset = storm.prefect.add(Rule::on("*", "/api/**", Action::Reset));
    busy.remove();
    reset.until_fired(3).await;
    reset.remove();
    storm.has_passed(1).await;
    let asked = storm.prefect.total() - before;
    assert!(asked < 400, "{asked} requests, {fired} of them refused");
    let path = format!("/deployments/{}", storm.flow);
    let deployment = storm.stage.prefect.call(Method::GET, &path, None).await.unwrap();
    assert_eq!(deployment["description"], "Loads orders");
}

/// A busy Prefect now and then is no news: SQLite refuses one call in many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_three_is_refused_and_nothing_is_lost() {
    let storm = Storm::over("hiccups").await;
    let refuse = |attempt| Rule::on("*", "/api/**", Action::Answer(Answer::status(503))).nth(attempt);
    let refused = [2, 3, 5, 8, 13].map(|attempt| storm.prefect.add(refuse(attempt)));
    storm.stage.change::<FlowDeployment>("orders", json!({"spec": {"description": "Loads orders"}})).await;
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    storm.has_passed(1).await;
    assert!(refused.iter().all(|refused| refused.fired() == 1), "fewer calls than expected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefect_is_wiped_and_its_deployments_are_made_again() {
    let mut storm = Storm::over("wiped").await;
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    storm.stage.fresh("orders").await;

    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::get(&Progress::default()).await.unwrap();
    let empty = Server::start(&installation, directory.path(), &Progress::default()).await.unwrap();
    let rest = Rest::new(empty.api_url()).unwrap();
    rest.call(Method::DELETE, &format!("/work_pools/{}", world::prefect::WORK_POOL), None).await.unwrap();
    storm.prefect.retarget(empty.api_url()).unwrap();
    let missing = |f: &FlowDeployment| is(f, "Ready", "False", "WorkPoolNotFound");
    storm.stage.until::<FlowDeployment>("orders", "WorkPoolNotFound", missing).await;
    rest.ensure_work_pool(world::prefect::WORK_POOL, world::layout::package()).await.unwrap();
    let old = storm.flow.clone();
    let anew = |f: &FlowDeployment| {
        is(f, "Ready", "True", "InSync")
            && f.status.as_ref().is_some_and(|s| s.deployment_id.as_ref().is_some_and(|id| *id != old))
    };
    let flow = storm.stage.until::<FlowDeployment>("orders", "made again", anew).await;
    storm.flow = flow.status.unwrap().deployment_id.unwrap();
    let mark = format!("feedwater:{0}/{0}/orders", storm.stage.namespace);
    let marked = json!({"deployments": {"tags": {"all_": [mark]}}});
    let all = rest.call(Method::POST, "/deployments/filter", Some(marked)).await.unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1, "made once, under its mark: {all}");
    storm.stage.prefect = rest;
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    storm.has_passed(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefect_answers_with_a_hundred_megabytes() {
    let storm = Storm::over("huge").await;
    let before = storm.peak_memory();
    let body = "[".to_owned() + &"0,".repeat(50 * 1024 * 1024) + "0]";
    let huge =
        storm.prefect.add(Rule::on("POST", "/api/**", Action::Answer(Answer::status(200).body(&body))));
    storm.prefect_is("False", "ConnectionLost").await;
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    huge.remove();
    storm.has_passed(1).await;
    let more = storm.peak_memory() - before;
    assert!(more < 100, "{more} MiB for an answer of 100");
}

/// Longer than a call may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefect_answers_too_late() {
    let storm = Storm::over("late").await;
    let stalled = storm.prefect.add(Rule::on("*", "/api/**", Action::Stall));
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    storm.prefect_is("False", "TimedOut").await;
    let stage: &Stage = &storm.stage;
    stage.change::<FlowDeployment>("orders", json!({"spec": {"description": "Loads orders"}})).await;
    stalled.remove();
    stalled.release();
    storm.has_passed(1).await;
}
