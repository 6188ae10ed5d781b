//! What becomes of a deployment when its resource is renamed, and who has the last word where others change it, against the real Prefect.

use crate::prefect_side::{Line, Runs, corrected_by, prefect, schedule_ids, tags};
use crate::stage::{LIMIT, Setting, Stage, is, told};
use feedwater::api::FlowDeployment;
use kube::api::DeleteParams;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use world::layout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_another_name_the_old_deployment_goes_or_stays_by_the_policy() {
    let line = Line::start(&Stage::info().prefect_api_url.unwrap()).await;
    let setting = Setting { prefect_url: Some(line.url.clone()), ..Setting::default() };
    let mut stage = Stage::set_with("renamed", setting).await;
    let flow = format!("{}-orders", stage.namespace);
    let first = stage.flow("orders").await;

    // Killed when Prefect has deleted the old one and nobody knows.
    let held = line.hold_answer(&format!("DELETE /api/deployments/{first}"));
    stage.change::<FlowDeployment>("orders", json!({"spec": {"deploymentName": "hourly"}})).await;
    tokio::time::timeout(LIMIT, held.taken()).await.unwrap();
    let status = stage.until::<FlowDeployment>("orders", "there", |_| true).await.status.unwrap();
    assert_eq!(
        (status.deployment_id.as_ref(), status.full_name),
        (Some(&first), Some(format!("{flow}/orders")))
    );
    stage.operator.kill().await;
    line.release();
    stage.operator.restart().await.unwrap();
    let second = stage.deployed("orders").await;
    assert_eq!(stage.prefect.deployment(&flow, "orders").await.unwrap(), None, "the old one is not leaked");
    assert_eq!(stage.prefect.deployment(&flow, "hourly").await.unwrap().unwrap()["id"], json!(second));

    let spec = json!({"deploymentName": "daily", "deletionPolicy": "Orphan"});
    stage.change::<FlowDeployment>("orders", json!({"spec": spec})).await;
    let third = stage.deployed("orders").await;
    assert_eq!(
        stage.prefect.deployment(&flow, "hourly").await.unwrap().unwrap()["id"],
        json!(second),
        "orphaned"
    );

    let spec = json!({"flowName": format!("{flow}-2"), "deletionPolicy": "Delete"});
    stage.change::<FlowDeployment>("orders", json!({"spec": spec})).await;
    let fourth = stage.deployed("orders").await;
    assert_ne!(third, fourth);
    assert_eq!(stage.prefect.deployment(&flow, "daily").await.unwrap(), None);
    let there = stage.prefect.deployment(&format!("{flow}-2"), "daily").await.unwrap().unwrap();
    assert_eq!(there["id"], json!(fourth));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_renamed_in_git_keeps_its_deployment_whichever_is_applied_first() {
    let mut stage = Stage::set("git-rename").await;
    let flow = format!("{}-shared", stage.namespace);
    let named = |name: &str| {
        let mut object = stage.flow_object(name);
        object["spec"]["flowName"] = flow.clone().into();
        object["spec"]["deploymentName"] = "shared".into();
        object["spec"]["schedules"] = json!([{"slug": "noon", "cron": {"expression": "0 12 * * *"}}]);
        object
    };
    let (before, between, after) = (named("before"), named("between"), named("after"));
    stage.apply(&[before]).await;
    let id = stage.deployed("before").await;
    let schedules = schedule_ids(&stage.prefect.deployment(&flow, "shared").await.unwrap().unwrap());

    // The new name is applied before the old one is pruned.
    stage.apply(&[between]).await;
    stage
        .until::<FlowDeployment>("between", "TargetConflict", |f| is(f, "Ready", "False", "TargetConflict"))
        .await;
    stage.delete::<FlowDeployment>("before").await;
    assert_eq!(stage.deployed("between").await, id);

    // The old one is pruned first, and its finalizer still stands when the new one comes.
    stage.operator.kill().await;
    stage.api::<FlowDeployment>().delete("between", &DeleteParams::default()).await.unwrap();
    stage.apply(&[after]).await;
    stage.operator.restart().await.unwrap();
    assert_eq!(stage.deployed("after").await, id);
    let started = tokio::time::Instant::now();
    while stage.api::<FlowDeployment>().get_opt("between").await.unwrap().is_some() {
        assert!(started.elapsed() < LIMIT, "the old one stays");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let there = stage.prefect.deployment(&flow, "shared").await.unwrap().unwrap();
    assert_eq!((&there["id"], schedule_ids(&there)), (&json!(id), schedules));
    assert_eq!(tags(&there), [format!("feedwater:{0}/{0}/after", stage.namespace)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_change_again_and_again_is_left_to_them_and_said() {
    let stage = Stage::set("contest").await;
    let mut flow = stage.flow_object("orders");
    flow["spec"]["description"] = "Loads orders".into();
    flow["spec"]["version"] = "1".into();
    stage.apply(&[flow]).await;
    let id = stage.deployed("orders").await;
    for n in 1..=3 {
        by_hand(&stage, &id, json!({"description": format!("theirs {n}")})).await;
        let counted = |f: &FlowDeployment| {
            let status = f.status.as_ref().unwrap();
            status.pending_write.is_none() && status.corrections.first().is_some_and(|c| c.at.len() == n)
        };
        stage.until::<FlowDeployment>("orders", "corrected, and nothing owed", counted).await;
        // By the time another deployment is there the correction was read back: what differs then is another change.
        stage.flow(&format!("later-{n}")).await;
    }
    by_hand(&stage, &id, json!({"description": "theirs 4"})).await;
    let left =
        |f: &FlowDeployment| is(f, "Drifted", "True", "DriftContested") && is(f, "Ready", "True", "InSync");
    let seen = stage.until::<FlowDeployment>("orders", "DriftContested", left).await;
    assert!(told(&seen, "Drifted").contains("description"), "{}", told(&seen, "Drifted"));
    assert_eq!(seen.status.as_ref().unwrap().contested, ["description"]);
    // Another field is still put right, which bounds that this one is not.
    by_hand(&stage, &id, json!({"version": "2"})).await;
    let there = corrected_by(&stage, "orders", |there| there["version"] == "1").await;
    assert_eq!(there["description"], "theirs 4");
    // They agree: it starts anew.
    by_hand(&stage, &id, json!({"description": "Loads orders"})).await;
    let agreed = |f: &FlowDeployment| {
        is(f, "Drifted", "False", "NoDrift") && f.status.as_ref().is_some_and(|s| s.contested.is_empty())
    };
    stage.until::<FlowDeployment>("orders", "NoDrift", agreed).await;
    by_hand(&stage, &id, json!({"description": "theirs 5"})).await;
    corrected_by(&stage, "orders", |there| there["description"] == "Loads orders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correction_that_prefect_refuses_is_said() {
    let stage = Stage::set("uncorrected").await;
    let pool = format!("{}-pool", stage.namespace);
    stage.prefect.ensure_work_pool(&pool, layout::package()).await.unwrap();
    let mut flow = stage.flow_object("orders");
    flow["spec"]["workPool"]["name"] = pool.clone().into();
    stage.apply(&[flow]).await;
    stage.deployed("orders").await;
    call(&stage, Method::DELETE, &format!("/work_pools/{pool}"), Value::Null).await;
    let failed = |f: &FlowDeployment| {
        is(f, "Drifted", "True", "CorrectionFailed") && is(f, "Ready", "False", "WorkPoolNotFound")
    };
    let seen = stage.until::<FlowDeployment>("orders", "CorrectionFailed", failed).await;
    assert!(told(&seen, "Ready").contains(&pool), "{}", told(&seen, "Ready"));
    stage.prefect.ensure_work_pool(&pool, layout::package()).await.unwrap();
    let healed =
        |f: &FlowDeployment| is(f, "Drifted", "False", "NoDrift") && is(f, "Ready", "True", "InSync");
    stage.until::<FlowDeployment>("orders", "healed", healed).await;
    assert_eq!(prefect(&stage, "orders").await.unwrap()["work_pool_name"], json!(pool));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_may_be_told_only_or_ignored_and_labels_are_told() {
    let stage = Stage::set("tolerant").await;
    let mut flow = stage.flow_object("orders");
    flow["spec"]["description"] = "Loads orders".into();
    flow["spec"]["version"] = "1".into();
    flow["spec"]["labels"] = json!({"team": "sales"});
    flow["spec"]["driftDetection"] = json!({"mode": "Warn"});
    stage.apply(&[flow.clone()]).await;
    let id = stage.deployed("orders").await;
    by_hand(&stage, &id, json!({"description": "theirs"})).await;
    let warned =
        |f: &FlowDeployment| is(f, "Drifted", "True", "DriftDetected") && is(f, "Ready", "True", "InSync");
    let seen = stage.until::<FlowDeployment>("orders", "Warn", warned).await;
    assert!(told(&seen, "Drifted").contains("description"), "{}", told(&seen, "Drifted"));
    assert_eq!(prefect(&stage, "orders").await.unwrap()["description"], "theirs");

    // An edit says the whole of it again; from then on the mode counts.
    flow["spec"]["driftDetection"] = json!({"mode": "Disabled"});
    stage.apply(&[flow.clone()]).await;
    stage.deployed("orders").await;
    assert_eq!(prefect(&stage, "orders").await.unwrap()["description"], "Loads orders");
    by_hand(&stage, &id, json!({"description": "theirs"})).await;
    stage.flow("later").await;
    let quiet = |f: &FlowDeployment| is(f, "Drifted", "False", "NoDrift") && is(f, "Ready", "True", "InSync");
    stage.until::<FlowDeployment>("orders", "Disabled", quiet).await;
    assert_eq!(prefect(&stage, "orders").await.unwrap()["description"], "theirs");

    flow["spec"]["driftDetection"] = json!({"ignore": ["description"]});
    stage.apply(&[flow.clone()]).await;
    stage.deployed("orders").await;
    by_hand(&stage, &id, json!({"version": "2"})).await;
    let there = corrected_by(&stage, "orders", |there| there["version"] == "1").await;
    assert_eq!(there["description"], "theirs", "ignored");

    flow["spec"]["labels"] = json!({"team": "finance"});
    stage.apply(&[flow]).await;
    let labels =
        |f: &FlowDeployment| is(f, "Drifted", "True", "DriftDetected") && is(f, "Ready", "True", "InSync");
    let seen = stage.until::<FlowDeployment>("orders", "labels", labels).await;
    assert!(told(&seen, "Drifted").contains("team"), "{}", told(&seen, "Drifted"));
    assert_eq!(prefect(&stage, "orders").await.unwrap()["labels"]["team"], "sales");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedules_of_others_go_where_that_is_declared_and_a_paused_deployment_gets_no_runs() {
    let stage = Stage::set("foreign").await;
    let pool = format!("{}-idle", stage.namespace);
    stage.prefect.ensure_work_pool(&pool, layout::package()).await.unwrap();
    let mut flow = stage.flow_object("orders");
    flow["spec"]["workPool"]["name"] = pool.into();
    flow["spec"]["schedules"] = json!([{"slug": "often", "interval": {"every": "2m"}}]);
    flow["spec"]["foreignSchedules"] = "Remove".into();
    stage.apply(&[flow.clone()]).await;
    let id = stage.deployed("orders").await;
    let before = Runs::made(&stage, &id, 20).await;
    let theirs = json!([
        {"active": true, "slug": "by-hand", "schedule": {"cron": "30 3 * * *", "timezone": "UTC"}},
        {"active": true, "schedule": {"cron": "0 7 * * *", "timezone": "UTC"}},
    ]);
    call(&stage, Method::POST, &format!("/deployments/{id}/schedules"), theirs).await;
    corrected_by(&stage, "orders", |there| there["schedules"].as_array().is_some_and(|all| all.len() == 1))
        .await;
    let settled = |f: &FlowDeployment| {
        is(f, "Drifted", "False", "NoDrift") && f.status.as_ref().is_some_and(|s| s.pending_write.is_none())
    };
    stage.until::<FlowDeployment>("orders", "settled", settled).await;
    Runs::read(&stage, &id).await.hold(&before);

    flow["spec"]["paused"] = true.into();
    stage.apply(&[flow.clone()]).await;
    stage.deployed("orders").await;
    flow["spec"]["description"] = "Loads orders".into();
    stage.apply(&[flow.clone()]).await;
    stage.deployed("orders").await;
    assert_eq!(prefect(&stage, "orders").await.unwrap()["paused"], true);
    Runs::scheduled(&stage, &id).await.none();
    flow["spec"]["paused"] = false.into();
    stage.apply(&[flow]).await;
    stage.deployed("orders").await;
    Runs::read(&stage, &id).await.of(&schedule_ids(&prefect(&stage, "orders").await.unwrap())[0].1);
    stage.delete::<FlowDeployment>("orders").await;
}

async fn by_hand(stage: &Stage, id: &str, fields: Value) {
    call(stage, Method::PATCH, &format!("/deployments/{id}"), fields).await;
}

async fn call(stage: &Stage, method: Method, path: &str, body: Value) {
    let body = (!body.is_null()).then_some(body);
    stage.prefect.call(method, path, body).await.unwrap();
}
