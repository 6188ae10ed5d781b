//! One scenario for each safety of `src/guards.rs`: it fails, by the assertion that `tests/guards.txt` names, when that one is taken away.

use crate::remote::{Remote, Trouble};
use crate::world::{NAMESPACE, POLL, World};
use feedwater::api::RefreshType;
use feedwater::model::ids::JobId;
use feedwater::prefect::StateType;
use feedwater::tableau::JobStatus;
use jiff::SignedDuration;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use world::apiserver::{Action, Verb};
use world::resources::condition;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Jobs begin at once and are short, so that a second one is not held up by the first.
fn quick(world: &World) {
    let mut engine = world.engine.lock().unwrap();
    (engine.queued, engine.running) = (Duration::ZERO, 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn intent_before_post() {
    let world = World::new();
    quick(&world);
    let luid = world.with_orders();
    let operator = world.operator("one");
    world.settle().await;
    world.troubles.once("refresh", Trouble::DelayAnswer(HOUR));
    world.complete("orders");
    world.until("a refresh is started", |world| world.jobs_of(&luid) == 1).await;
    operator.kill();
    let _operator = world.operator("two");
    world.settle().await;
    assert_eq!(world.jobs_of(&luid), 1, "a refresh that was sent before the crash is sent again");
    assert_eq!(condition(&world.exr("orders"), "Fresh"), Some(("True", "UpToDate")));
}

#[tokio::test(start_paused = true)]
async fn resource_version() {
    let world = World::new();
    let luid = world.with_orders();
    let _operator = world.operator("one");
    world.settle().await;
    world.server.hold("extractrefreshes");
    // Another leader, of whose write the watch has not told yet.
    let client = kube::Client::new(world.server.door("other"), NAMESPACE);
    let api: Api<feedwater::api::ExtractRefresh> = Api::namespaced(client, NAMESPACE);
    let mut status = world.exr("orders")["status"].clone();
    status["lastHandledRefreshToken"] = json!("by-another");
    let body = json!({"apiVersion": "feedwater.dev/v1alpha1", "kind": "ExtractRefresh", "status": status});
    api.patch_status("orders", &PatchParams::apply("feedwater").force(), &Patch::Apply(&body)).await.unwrap();
    world.complete("orders");
    sleep(POLL * 2).await;
    let kept = |world: &World| world.exr("orders")["status"]["lastHandledRefreshToken"] == "by-another";
    assert!(kept(&world), "what another leader wrote is written over");
    world.server.release("extractrefreshes", 0);
    world.settle().await;
    assert!(kept(&world));
    assert_eq!(world.jobs_of(&luid), 1);
}

#[tokio::test(start_paused = true)]
async fn settle_time() {
    let world = World::new();
    quick(&world);
    let luid = world.with_orders();
    let _operator = world.operator("one");
    world.settle().await;
    world.troubles.once("refresh", Trouble::Late(20 * SECOND));
    world.complete("orders");
    world.settle().await;
    assert_eq!(world.jobs_of(&luid), 1, "a refresh that was still on its way is sent again");
}

#[tokio::test(start_paused = true)]
async fn lease_fence() {
    let world = World::new();
    let luid = world.with_orders();
    let first = world.operator("one");
    world.settle().await;
    let renewed = Arc::new(Mutex::new(None));
    let last = renewed.clone();
    let cut = Arc::new(Mutex::new(false));
    let is_cut = cut.clone();
    world.server.on_request(move |call| match (&*call.client, &*call.plural) {
        ("one", "leases") if *is_cut.lock().unwrap() => Action::Lose,
        ("one", "leases") => {
            *last.lock().unwrap() = Some(Instant::now());
            Action::Pass
        }
        _ => Action::Pass,
    });
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = sent.clone();
    world.troubles.on_call(move |Remote { process, operation, .. }| {
        if *operation == "refresh" {
            log.lock().unwrap().push((process.clone(), Instant::now()));
        }
        Trouble::None
    });
    sleep(20 * SECOND).await;
    *cut.lock().unwrap() = true;
    let end = renewed.lock().unwrap().unwrap() + 15 * SECOND;
    tokio::time::sleep_until(end - 6 * SECOND).await;
    world.complete("orders");
    let _second = world.operator("two");
    world.settle().await;
    let late = |(process, at): &(Arc<str>, Instant)| &**process == "one" && *at > end - 8 * SECOND;
    assert!(!sent.lock().unwrap().iter().any(late), "a refresh is sent that the lease may not outlive");
    assert_eq!(world.jobs_of(&luid), 1);
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn conflict_by_cause() {
    let world = World::new();
    let luid = world.with_orders();
    let _operator = world.operator("one");
    world.settle().await;
    world.engine.lock().unwrap().running = 60 * SECOND;
    let theirs: JobId = world.tableau.start_elsewhere(&luid, RefreshType::Full).unwrap();
    world.tableau.advance(&theirs, JobStatus::InProgress).unwrap();
    sleep(10 * SECOND).await;
    world.complete("orders");
    world.settle().await;
    assert_eq!(
        world.jobs_of(&luid),
        2,
        "a job that began before the new data was there is taken for one that contains it"
    );
    assert_eq!(condition(&world.exr("orders"), "Fresh"), Some(("True", "UpToDate")));
}

#[tokio::test(start_paused = true)]
async fn dirty_keys() {
    let world = World::new();
    world.with_orders();
    let _operator = world.operator("one");
    world.settle().await;
    let mut flow = World::flow("orders");
    flow["spec"]["description"] = json!("Loads orders");
    world.server.put("flowdeployments", flow).unwrap();
    world.settle().await;
    let patches = world.troubles.log().iter().filter(|call| call.operation == "patch_deployment").count();
    assert_eq!(patches, 1, "a change that was made is made again, before it was read");
}

#[tokio::test(start_paused = true)]
async fn newest_of_cache() {
    let world = World::new();
    let luid = world.with_orders();
    let _operator = world.operator("one");
    world.settle().await;
    world.server.hold("extractrefreshes");
    world.complete("orders");
    sleep(POLL * 4).await;
    let conflicts = world.server.log().into_iter().filter(|(call, code)| {
        call.plural == "extractrefreshes" && call.verb == Verb::Patch && *code == Some(409)
    });
    assert_eq!(conflicts.count(), 0, "a pass decides on what its own last write has changed");
    assert_eq!(world.jobs_of(&luid), 1);
    world.server.release("extractrefreshes", 0);
    world.settle().await;
    assert_eq!(world.jobs_of(&luid), 1);
}

#[tokio::test(start_paused = true)]
async fn cursor_overlap() {
    let world = World::new();
    let luid = world.with_orders();
    let _operator = world.operator("one");
    world.settle().await;
    // Committed late: it ended before what was read last, and no event tells of it.
    let mut late = world.prefect.run(&World::deployment("orders"), StateType::Running);
    late.state_type = StateType::Completed;
    late.state = "late".into();
    late.ended_at = Some(world.now().checked_sub(SignedDuration::from_secs(45)).unwrap());
    late.state_at = late.ended_at.unwrap();
    sleep(POLL).await;
    world.prefect.state().runs.retain(|run| run.id != late.id);
    world.prefect.state().runs.push(late);
    sleep(POLL * 3).await;
    assert_eq!(world.jobs_of(&luid), 1, "a completion that was committed late is not seen by the poll");
}

#[tokio::test(start_paused = true)]
async fn pending_write() {
    let world = World::new();
    world.with_orders();
    let operator = world.operator("one");
    world.settle().await;
    let id = world.prefect.state().deployments.keys().next().unwrap().clone();
    world.prefect.state().scheduled.insert(id.clone());
    world.troubles.once("patch_deployment", Trouble::DelayAnswer(HOUR));
    let mut flow = World::flow("orders");
    flow["spec"]["description"] = json!("Loads orders");
    world.server.put("flowdeployments", flow).unwrap();
    world.until("the scheduled runs are gone", |world| world.prefect.state().scheduled.is_empty()).await;
    operator.kill();
    let _operator = world.operator("two");
    world.settle().await;
    assert!(
        world.prefect.state().scheduled.contains(&id),
        "runs that a change made Prefect drop are not made good"
    );
}

#[tokio::test(start_paused = true)]
async fn two_complete_reads() {
    let world = World::new();
    world.with_orders();
    let _operator = world.operator("one");
    world.settle().await;
    world.troubles.once("deployments", Trouble::Empty);
    world.settle().await;
    let status = world.flow_object("orders")["status"].clone();
    assert!(
        status["lastDrift"].is_null(),
        "a deployment that one read lacked is taken for deleted: {status:#}"
    );
}
