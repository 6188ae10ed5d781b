//! `FlowDeployment` against the real Prefect: what is written, how often, and what is left alone.

use crate::prefect_side::{
    CREATE, FLOW, Line, Runs, corrected_by, drift_events, prefect, schedule, schedule_ids, tags,
};
use crate::stage::{LIMIT, Setting, Stage, is};
use feedwater::api::{Drift, FlowDeployment};
use kube::ResourceExt;
use reqwest::Method;
use serde_json::{Value, json};
use world::layout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_created_by_one_post_as_declared_and_then_nothing_is_written() {
    let line = Line::start(&Stage::info().prefect_api_url.unwrap()).await;
    let stage = through(&line, "create").await;
    let mut flow = scheduled(&stage, "orders");
    flow["spec"]["parameters"] = json!({"region": "eu", "limit": 1.0});
    flow["spec"]["tags"] = json!(["finance", "nightly"]);
    stage.apply(&[flow.clone()]).await;
    let id = stage.deployed("orders").await;
    let there = prefect(&stage, "orders").await.unwrap();
    assert_eq!(there["id"], json!(id));
    assert_eq!(there["description"], "Loads orders");
    assert_eq!(there["entrypoint"], "flows/orders.py:orders");
    assert_eq!(
        (&there["parameters"]["region"], there["parameters"]["limit"].as_f64()),
        (&json!("eu"), Some(1.0))
    );
    let mark = format!("feedwater:{0}/{0}/orders", stage.namespace);
    assert_eq!(tags(&there), [&mark, "finance", "nightly"]);
    assert_eq!(schedule(&there, "cron")["schedule"]["cron"], "0 12 * * *");
    assert_eq!(schedule(&there, "cron")["schedule"]["timezone"], "Europe/Berlin");
    assert_eq!(schedule(&there, "interval")["schedule"]["interval"], 21600.0);
    assert!(
        schedule(&there, "rrule")["schedule"]["rrule"].as_str().unwrap().ends_with("FREQ=WEEKLY;BYDAY=MO")
    );
    assert_eq!(schedule(&there, "rrule")["active"], false);
    assert_eq!(line.count(CREATE), 1);

    // Applied again, and touched so that it is certainly looked at: nothing differs, so nothing is written.
    let (before, at_rest) = (line.writes().len(), there["updated"].clone());
    stage.apply(&[flow.clone()]).await;
    stage.change::<FlowDeployment>("orders", json!({"spec": {"suspend": false}})).await;
    stage.deployed("orders").await;
    // The bound: another resource is created meanwhile, over the same connection.
    stage.flow("later").await;
    let there = prefect(&stage, "orders").await.unwrap();
    assert_eq!(there["updated"], at_rest);
    // The flow is made sure of first.
    assert_eq!(line.writes_after(before), [FLOW, CREATE]);

    flow["spec"]["description"] = "Loads all orders".into();
    stage.apply(&[flow]).await;
    stage.deployed("orders").await;
    assert_eq!(prefect(&stage, "orders").await.unwrap()["description"], "Loads all orders");
    assert_eq!(line.count(CREATE), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_field_keeps_schedule_ids_and_every_scheduled_run() {
    let stage = Stage::set("change").await;
    let pool = idle_pool(&stage).await;
    let mut flow = often(&stage, "orders", &pool);
    stage.apply(&[flow.clone()]).await;
    let id = stage.deployed("orders").await;
    let before = Runs::made(&stage, &id, 25).await;
    let schedules = schedule_ids(&prefect(&stage, "orders").await.unwrap());

    flow["spec"]["description"] = "Loads all orders".into();
    stage.apply(&[flow.clone()]).await;
    stage.deployed("orders").await;
    let there = prefect(&stage, "orders").await.unwrap();
    assert_eq!(there["description"], "Loads all orders");
    assert_eq!(schedule_ids(&there), schedules);
    Runs::read(&stage, &id).await.hold(&before);

    // A changed schedule keeps its id as well, and the other one loses nothing.
    let others = before.of(&schedules[0].1);
    flow["spec"]["schedules"][1]["cron"]["expression"] = "0 13 * * *".into();
    stage.apply(&[flow]).await;
    stage.deployed("orders").await;
    let there = prefect(&stage, "orders").await.unwrap();
    assert_eq!(schedule(&there, "noon")["schedule"]["cron"], "0 13 * * *");
    assert_eq!(schedule_ids(&there), schedules);
    Runs::read(&stage, &id).await.hold(&others);
    stage.delete::<FlowDeployment>("orders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_corrected_and_named_and_what_is_not_declared_is_left_alone() {
    let stage = Stage::set("drift").await;
    let mut flow = scheduled(&stage, "orders");
    flow["spec"]["tags"] = json!(["finance"]);
    stage.apply(&[flow]).await;
    let id = stage.deployed("orders").await;
    let there = prefect(&stage, "orders").await.unwrap();
    let foreign = json!([{"active": true, "schedule": {"cron": "30 3 * * *", "timezone": "UTC"}}]);
    call(&stage, Method::POST, &format!("/deployments/{id}/schedules"), foreign).await;
    let cron = schedule(&there, "cron")["id"].as_str().unwrap().to_owned();
    let altered = json!({"schedule": {"cron": "59 23 * * *", "timezone": "UTC"}});
    call(&stage, Method::PATCH, &format!("/deployments/{id}/schedules/{cron}"), altered).await;
    let by_hand = json!({
        "description": "hunter2-description", "tags": ["hunter2-tag"],
        "version": "by hand", "path": "/by/hand", "parameters": {"by": "hand"},
    });
    call(&stage, Method::PATCH, &format!("/deployments/{id}"), by_hand).await;

    // It may come in two corrections, when a reading falls between the changes.
    let corrected = |there: &Value| {
        there["description"] == "Loads orders"
            && tags(there)[0].starts_with("feedwater:") | (tags(there)[0] == "finance")
            && schedule(there, "cron")["schedule"]["cron"] == "0 12 * * *"
    };
    let there = corrected_by(&stage, "orders", corrected).await;
    assert_eq!(schedule(&there, "cron")["id"], json!(cron));
    assert_eq!(tags(&there).len(), 2, "{there}");
    let foreign: Vec<&Value> =
        there["schedules"].as_array().unwrap().iter().filter(|s| s["slug"].is_null()).collect();
    assert_eq!(foreign.len(), 1);
    assert_eq!(foreign[0]["schedule"]["cron"], "30 3 * * *");
    assert_eq!((&there["version"], &there["path"]), (&json!("by hand"), &json!("/by/hand")));
    assert_eq!(there["parameters"], json!({"by": "hand"}));

    let seen = stage
        .until::<FlowDeployment>("orders", "at rest, with lastDrift", |f| {
            is(f, "Ready", "True", "InSync")
                && is(f, "Drifted", "False", "NoDrift")
                && f.status.as_ref().is_some_and(|s| s.last_drift.is_some() && s.pending_write.is_none())
        })
        .await;
    let events = drift_events(&stage, "orders").await;
    let said = events.join("\n");
    for name in ["description", "tags", "schedules/cron"] {
        assert!(said.contains(name), "{name} is not in {said}");
    }
    let Drift { fields, .. } = seen.status.clone().unwrap().last_drift.unwrap();
    assert!(fields.iter().all(|f| said.contains(f)) && !fields.is_empty(), "{fields:?}");
    let told = format!("{said}{}", serde_json::to_string(&seen.status).unwrap());
    assert!(!told.contains("hunter2") && !told.contains("59 23"), "values are nobody's business: {told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_leaves_the_spec_is_reverted_and_a_schedule_deleted() {
    let stage = Stage::set("revert").await;
    let mut flow = scheduled(&stage, "orders");
    flow["spec"]["tags"] = json!(["finance"]);
    flow["spec"]["parameters"] = json!({"region": "eu"});
    stage.apply(&[flow.clone()]).await;
    stage.deployed("orders").await;
    for field in ["description", "tags", "parameters"] {
        flow["spec"].as_object_mut().unwrap().remove(field);
    }
    flow["spec"]["schedules"].as_array_mut().unwrap().truncate(1);
    stage.apply(&[flow]).await;
    stage.deployed("orders").await;
    let there = prefect(&stage, "orders").await.unwrap();
    assert_eq!((&there["description"], &there["parameters"]), (&Value::Null, &json!({})));
    assert_eq!(tags(&there), [format!("feedwater:{0}/{0}/orders", stage.namespace)]);
    let slugs: Vec<String> = schedule_ids(&there).into_iter().map(|(slug, _)| slug).collect();
    assert_eq!(slugs, ["cron"]);
    assert!(drift_events(&stage, "orders").await.is_empty(), "an edit is no drift");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_deployment_is_not_touched_until_it_carries_our_mark() {
    let stage = Stage::set("adopt").await;
    let flow = stage.flow_object("orders");
    let flow_id = stage.prefect.ensure_flow(flow["spec"]["flowName"].as_str().unwrap()).await.unwrap();
    let theirs = json!({"name": "orders", "flow_id": flow_id, "description": "by hand", "tags": ["crm"]});
    let theirs = stage.prefect.create_deployment(theirs).await.unwrap();
    stage.apply(&[flow]).await;
    let refused = |f: &FlowDeployment| {
        is(f, "Ready", "False", "AdoptionRequired") && is(f, "Stalled", "True", "AdoptionRequired")
    };
    stage.until("orders", "AdoptionRequired", refused).await;
    stage.flow("later").await;
    let there = prefect(&stage, "orders").await.unwrap();
    assert_eq!((&there["id"], &there["updated"]), (&theirs["id"], &theirs["updated"]));
    // By its mark it is handed over.
    let mark = format!("feedwater:{0}/{0}/orders", stage.namespace);
    let id = theirs["id"].as_str().unwrap();
    call(&stage, Method::PATCH, &format!("/deployments/{id}"), json!({"tags": ["crm", mark]})).await;
    assert_eq!(stage.deployed("orders").await, id);
    assert_eq!(prefect(&stage, "orders").await.unwrap()["description"], "by hand");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_for_one_deployment_the_younger_waits_and_then_inherits_it() {
    let stage = Stage::set("conflict").await;
    let shared = |name: &str| {
        let mut flow = stage.flow_object(name);
        flow["spec"]["flowName"] = format!("{}-shared", stage.namespace).into();
        flow["spec"]["deploymentName"] = "shared".into();
        flow
    };
    // By name the younger would come first: it is age that decides.
    stage.apply(&[shared("zz-older")]).await;
    let id = stage.deployed("zz-older").await;
    stage.apply(&[shared("aa-younger")]).await;
    let refused =
        |f: &FlowDeployment| is(f, "Ready", "False", "TargetConflict") && is(f, "Stalled", "True", "");
    let younger = stage.until::<FlowDeployment>("aa-younger", "TargetConflict", refused).await;
    let message = serde_json::to_string(&younger.status).unwrap();
    assert!(message.contains("zz-older"), "{message}");
    stage.delete::<FlowDeployment>("zz-older").await;
    assert_eq!(stage.deployed("aa-younger").await, id);
    let flow = format!("{}-shared", stage.namespace);
    let there = stage.prefect.deployment(&flow, "shared").await.unwrap().unwrap();
    assert_eq!(tags(&there), [format!("feedwater:{0}/{0}/aa-younger", stage.namespace)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_deletes_the_deployment_unless_it_is_to_be_orphaned() {
    let stage = Stage::set("delete").await;
    stage.flow("orders").await;
    let held = stage.until::<FlowDeployment>("orders", "there", |_| true).await;
    assert_eq!(held.finalizers(), ["feedwater.dev/cleanup"]);
    let mut orphan = stage.flow_object("orphan");
    orphan["spec"]["deletionPolicy"] = "Orphan".into();
    stage.apply(&[orphan]).await;
    stage.deployed("orphan").await;
    stage.delete::<FlowDeployment>("orphan").await;
    stage.delete::<FlowDeployment>("orders").await;
    assert_eq!(prefect(&stage, "orders").await, None);
    assert!(prefect(&stage, "orphan").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_it_writes_nothing_and_afterwards_makes_up_for_it() {
    let stage = Stage::set("suspend").await;
    let mut flow = scheduled(&stage, "orders");
    stage.apply(&[flow.clone()]).await;
    let id = stage.deployed("orders").await;
    flow["spec"]["suspend"] = true.into();
    flow["spec"]["version"] = "2".into();
    stage.apply(&[flow]).await;
    stage.until::<FlowDeployment>("orders", "Suspended", |f| is(f, "Ready", "True", "Suspended")).await;
    call(&stage, Method::PATCH, &format!("/deployments/{id}"), json!({"description": "by hand"})).await;
    let at_rest = prefect(&stage, "orders").await.unwrap();
    stage.flow("later").await;
    assert_eq!(prefect(&stage, "orders").await.unwrap()["updated"], at_rest["updated"]);
    stage.change::<FlowDeployment>("orders", json!({"spec": {"suspend": null}})).await;
    let there = corrected_by(&stage, "orders", |there| there["version"] == "2").await;
    assert_eq!(there["description"], "Loads orders");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_pool_and_a_bad_cron_are_said_and_heal() {
    let stage = Stage::set("refused").await;
    let pool = format!("{}-pool", stage.namespace);
    let mut poolless = stage.flow_object("poolless");
    poolless["spec"]["workPool"]["name"] = pool.clone().into();
    let mut crooked = scheduled(&stage, "crooked");
    crooked["spec"]["schedules"][0]["cron"]["expression"] = "61 25 * * *".into();
    stage.apply(&[poolless, crooked.clone()]).await;
    let missing = stage
        .until::<FlowDeployment>("poolless", "WorkPoolNotFound", |f| {
            is(f, "Ready", "False", "WorkPoolNotFound")
        })
        .await;
    assert!(serde_json::to_string(&missing.status).unwrap().contains(&pool));
    let rejected = stage
        .until::<FlowDeployment>("crooked", "RemoteRejected", |f| is(f, "Ready", "False", "RemoteRejected"))
        .await;
    let told = serde_json::to_string(&rejected.status).unwrap();
    assert!(told.contains("cron") && !told.contains("61 25"), "the field is named, its value is not: {told}");
    let there = prefect(&stage, "crooked").await.unwrap();
    for other in ["interval", "rrule"] {
        assert_eq!(
            schedule(&there, other)["slug"],
            other,
            "one that is refused keeps no other from being made"
        );
    }

    stage.prefect.ensure_work_pool(&pool, layout::package()).await.unwrap();
    crooked["spec"]["schedules"][0]["cron"]["expression"] = "0 12 * * *".into();
    stage.apply(&[crooked]).await;
    stage.deployed("crooked").await;
    let healed = |f: &FlowDeployment| is(f, "Ready", "True", "InSync");
    stage.until::<FlowDeployment>("poolless", "InSync, by itself", healed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_a_write_and_its_repair_every_scheduled_run_is_there_once_afterwards() {
    let line = Line::start(&Stage::info().prefect_api_url.unwrap()).await;
    let setting = Setting { prefect_url: Some(line.url.clone()), ..Setting::default() };
    let mut stage = Stage::set_with("pending", setting).await;
    let pool = idle_pool(&stage).await;
    stage.apply(&[often(&stage, "orders", &pool)]).await;
    let id = stage.deployed("orders").await;
    let before = Runs::made(&stage, &id, 25).await;
    let asked = format!("POST /api/deployments/{id}/schedule");
    let at_first = line.count(&asked);

    let held = line.hold_answer(&format!("PATCH /api/deployments/{id}"));
    stage.change::<FlowDeployment>("orders", json!({"spec": {"description": "changed"}})).await;
    tokio::time::timeout(LIMIT, held.taken()).await.unwrap();
    stage.until::<FlowDeployment>("orders", "pendingWrite", owes).await;
    stage.operator.kill().await;
    line.release();
    stage.operator.restart().await.unwrap();
    stage
        .until::<FlowDeployment>("orders", "pendingWrite cleared", |f| {
            !owes(f) && is(f, "Ready", "True", "InSync")
        })
        .await;
    Runs::read(&stage, &id).await.hold(&before);
    assert_eq!(line.count(&format!("PATCH /api/deployments/{id}")), 1);
    assert_eq!(line.count(&asked), at_first + 1);
    stage.delete::<FlowDeployment>("orders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_repaired_without_a_restart() {
    let line = Line::start(&Stage::info().prefect_api_url.unwrap()).await;
    let stage = through(&line, "lost").await;
    let pool = idle_pool(&stage).await;
    stage.apply(&[often(&stage, "orders", &pool)]).await;
    let id = stage.deployed("orders").await;
    let before = Runs::made(&stage, &id, 25).await;
    let held = line.hold_answer(&format!("PATCH /api/deployments/{id}"));
    stage.change::<FlowDeployment>("orders", json!({"spec": {"description": "changed"}})).await;
    tokio::time::timeout(LIMIT, held.taken()).await.unwrap();
    line.release();
    stage
        .until::<FlowDeployment>("orders", "pendingWrite cleared", |f| {
            !owes(f) && is(f, "Ready", "True", "InSync")
        })
        .await;
    assert_eq!(prefect(&stage, "orders").await.unwrap()["description"], "changed");
    Runs::read(&stage, &id).await.hold(&before);
    assert_eq!(line.count(&format!("PATCH /api/deployments/{id}")), 1);
    stage.delete::<FlowDeployment>("orders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_by_hand_it_is_created_again_once() {
    let line = Line::start(&Stage::info().prefect_api_url.unwrap()).await;
    let stage = through(&line, "vanish").await;
    stage.apply(&[scheduled(&stage, "orders")]).await;
    let id = stage.deployed("orders").await;
    call(&stage, Method::DELETE, &format!("/deployments/{id}"), Value::Null).await;
    let again = stage
        .until::<FlowDeployment>("orders", "another deployment", |f| {
            is(f, "Ready", "True", "InSync")
                && f.status.as_ref().is_some_and(|s| s.deployment_id.as_ref().is_some_and(|now| *now != id))
        })
        .await;
    let status = again.status.unwrap();
    assert_eq!(status.last_drift.unwrap().fields, ["deployment"]);
    let there = prefect(&stage, "orders").await.unwrap();
    assert_eq!(there["id"], json!(status.deployment_id));
    assert_eq!(schedule_ids(&there).len(), 3);
    assert_eq!(drift_events(&stage, "orders").await.len(), 1);
    stage.flow("later").await;
    assert_eq!(line.count(CREATE), 3, "{:?}", line.writes());
}

async fn through(line: &Line, name: &str) -> Stage {
    Stage::set_with(name, Setting { prefect_url: Some(line.url.clone()), ..Setting::default() }).await
}

/// A flow with a schedule of each kind, none of them due soon.
fn scheduled(stage: &Stage, name: &str) -> Value {
    let mut flow = stage.flow_object(name);
    flow["spec"]["description"] = "Loads orders".into();
    flow["spec"]["schedules"] = json!([
        {"slug": "cron", "cron": {"expression": "0 12 * * *"}, "timeZone": "Europe/Berlin"},
        {"slug": "interval", "interval": {"every": "6h", "anchor": "2026-01-01T00:30:00Z"}},
        {"slug": "rrule", "rrule": {"rule": "FREQ=WEEKLY;BYDAY=MO"}, "active": false},
    ]);
    flow
}

/// A flow (to be deleted at the end: the server is shared) whose schedule falls due every other minute, on a pool where nobody picks the runs up: none of them may be lost.
fn often(stage: &Stage, name: &str, pool: &str) -> Value {
    let mut flow = stage.flow_object(name);
    flow["spec"]["workPool"]["name"] = pool.into();
    flow["spec"]["schedules"] = json!([
        {"slug": "often", "interval": {"every": "2m", "anchor": "2026-01-01T00:00:00Z"}},
        {"slug": "noon", "cron": {"expression": "0 12 * * *"}},
    ]);
    flow
}

async fn idle_pool(stage: &Stage) -> String {
    let pool = format!("{}-idle", stage.namespace);
    stage.prefect.ensure_work_pool(&pool, layout::package()).await.unwrap();
    pool
}

async fn call(stage: &Stage, method: Method, path: &str, body: Value) {
    let body = (!body.is_null()).then_some(body);
    stage.prefect.call(method, path, body).await.unwrap();
}

fn owes(flow: &FlowDeployment) -> bool {
    flow.status.as_ref().is_some_and(|s| s.pending_write.is_some())
}
