//! What a `FlowDeployment` may say beyond what runs where, and what was there before it, against the real Prefect.

use crate::prefect_side::{CREATE, FLOW, Line, prefect, schedule};
use crate::stage::{Setting, Stage, is};
use feedwater::api::FlowDeployment;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_setting_reaches_prefect_and_then_nothing_is_written() {
    let line = Line::start(&Stage::info().prefect_api_url.unwrap()).await;
    let setting = Setting { prefect_url: Some(line.url.clone()), ..Setting::default() };
    let stage = Stage::set_with("settings", setting).await;
    let mut flow = stage.flow_object("orders");
    let settings = json!({
        "parameterOpenApiSchema": {"type": "object", "properties": {"region": {"type": "string"}}},
        "enforceParameterSchema": false,
        "jobVariables": {"env": {"LOG_LEVEL": "INFO"}},
        "concurrencyLimit": {"limit": 2, "collisionStrategy": "CancelNew", "gracePeriod": "5m"},
        "paused": true,
        "labels": {"team": "sales"},
        "schedules": [{"slug": "noon", "cron": {"expression": "0 12 * * *"}, "parameters": {"region": "eu"}, "maxScheduledRuns": 5}],
    });
    flow["spec"].as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    stage.apply(&[flow.clone()]).await;
    stage.deployed("orders").await;
    let there = prefect(&stage, "orders").await.unwrap();
    let limit = |there: &Value| {
        let options = &there["concurrency_options"];
        (
            there["global_concurrency_limit"]["limit"].clone(),
            options["collision_strategy"].clone(),
            options["grace_period_seconds"].clone(),
        )
    };
    assert_eq!(limit(&there), (json!(2), json!("CANCEL_NEW"), json!(300)));
    assert_eq!((&there["enforce_parameter_schema"], &there["paused"]), (&json!(false), &json!(true)));
    assert_eq!(there["job_variables"], json!({"env": {"LOG_LEVEL": "INFO"}}));
    assert_eq!(there["labels"]["team"], "sales");
    let noon = schedule(&there, "noon");
    assert_eq!((&noon["parameters"], &noon["max_scheduled_runs"]), (&json!({"region": "eu"}), &json!(5)));

    let before = line.writes().len();
    stage.change::<FlowDeployment>("orders", json!({"spec": {"suspend": false}})).await;
    stage.deployed("orders").await;
    stage.flow("later").await;
    assert_eq!(line.writes_after(before), [FLOW, CREATE], "nothing differs");

    let edits = json!({"paused": false, "jobVariables": {}, "concurrencyLimit": {"limit": 3, "collisionStrategy": "Enqueue"}});
    flow["spec"].as_object_mut().unwrap().extend(edits.as_object().unwrap().clone());
    stage.apply(&[flow]).await;
    stage.deployed("orders").await;
    let there = prefect(&stage, "orders").await.unwrap();
    assert_eq!((&there["paused"], &there["job_variables"]), (&json!(false), &json!({})));
    assert_eq!((limit(&there).0, limit(&there).1), (json!(3), json!("ENQUEUE")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_observed_then_taken_over_and_left_in_the_end() {
    let stage = Stage::set("take-over").await;
    let mut flow = stage.flow_object("orders");
    let flow_id = stage.prefect.ensure_flow(flow["spec"]["flowName"].as_str().unwrap()).await.unwrap();
    let theirs = json!({"name": "orders", "flow_id": flow_id, "description": "by hand", "tags": ["crm"]});
    let theirs = stage.prefect.create_deployment(theirs).await.unwrap();
    let id = theirs["id"].as_str().unwrap();
    flow["spec"]["description"] = "Loads orders".into();
    flow["spec"]["adoptionPolicy"] = "Adopt".into();
    flow["spec"]["managementPolicy"] = "Observe".into();
    stage.apply(&[flow.clone()]).await;
    let plans = |f: &FlowDeployment| is(f, "Ready", "True", "Observing");
    let plan = stage.until("orders", "Observing", plans).await.status.unwrap().plan;
    assert!(
        plan[0].starts_with("adopt deployment") && plan.contains(&"change description".to_owned()),
        "{plan:?}"
    );
    assert_eq!(prefect(&stage, "orders").await.unwrap()["updated"], theirs["updated"]);

    stage.change::<FlowDeployment>("orders", json!({"spec": {"managementPolicy": "Manage"}})).await;
    assert_eq!(stage.deployed("orders").await, id);
    let there = prefect(&stage, "orders").await.unwrap();
    assert_eq!((&there["id"], &there["description"]), (&theirs["id"], &json!("Loads orders")));
    let status = stage.until::<FlowDeployment>("orders", "there", |_| true).await.status.unwrap();
    assert_eq!((status.adopted, status.plan.len()), (Some(true), 0));

    stage.delete::<FlowDeployment>("orders").await;
    assert_eq!(prefect(&stage, "orders").await.unwrap()["id"], theirs["id"], "it was there before");
}

/// Prefect would change that limit for all who share it, and delete it with the field.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_others_share_stays_as_it_is() {
    let stage = Stage::set("shared-limit").await;
    let mut flow = stage.flow_object("orders");
    flow["spec"]["concurrencyLimit"] = json!({"limit": 2});
    stage.apply(&[flow]).await;
    let id = stage.deployed("orders").await;
    let name = format!("{}-etl", stage.namespace);
    let call = |method, path: String, body| {
        let prefect = stage.prefect.clone();
        async move { prefect.call(method, &path, body).await }
    };
    let shared =
        call(Method::POST, "/v2/concurrency_limits/".into(), Some(json!({"name": name, "limit": 10})));
    let shared = shared.await.unwrap()["id"].as_str().unwrap().to_owned();
    call(Method::PATCH, format!("/deployments/{id}"), Some(json!({"global_concurrency_limit_id": shared})))
        .await
        .unwrap();
    let said =
        |f: &FlowDeployment| is(f, "Ready", "True", "InSync") && is(f, "Drifted", "True", "DriftDetected");
    stage.until::<FlowDeployment>("orders", "InSync, and Drifted", said).await;
    stage.change::<FlowDeployment>("orders", json!({"spec": {"concurrencyLimit": null}})).await;
    stage.deployed("orders").await;
    let kept = call(Method::GET, format!("/v2/concurrency_limits/{shared}"), None).await.unwrap();
    assert_eq!(kept["limit"], 10);
    let there = prefect(&stage, "orders").await.unwrap();
    assert_eq!(there["global_concurrency_limit"]["name"], name.as_str());
    stage.delete::<FlowDeployment>("orders").await;
}
