//! Prefect is a real one: its worker runs the flows of this folder. Run by `cargo world test`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]
use std::time::Duration;

use serde_json::{Value, json};
use world::Info;
use world::prefect::Rest;

const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test]
async fn the_worker_runs_a_flow_that_delivers_and_one_that_does_not() {
    let info = Info::shared().unwrap();
    let rest = Rest::new(info.prefect_api_url.as_ref().unwrap()).unwrap();
    let orders = deployment(&rest, &info, "orders").await;
    let failing = deployment(&rest, &info, "failing").await;
    let good = rest.run(&orders).await.unwrap();
    let bad = rest.run(&failing).await.unwrap();
    let run = rest.until(&good, "COMPLETED", LIMIT).await.unwrap();
    assert_eq!(run["run_count"], 1);
    assert_eq!(run["parameters"], json!({"region": "us"}));
    rest.until(&bad, "FAILED", LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_completion_by_hand_looks_like_a_run() {
    let info = Info::shared().unwrap();
    let rest = Rest::new(info.prefect_api_url.as_ref().unwrap()).unwrap();
    let fx = deployment(&rest, &info, "fx").await;
    let run = rest.complete(&fx).await.unwrap();
    let run = rest.until(&run, "COMPLETED", LIMIT).await.unwrap();
    assert_eq!((&run["run_count"], &run["state_name"]), (&json!(1), &json!("Completed")));
    assert_ne!(run["end_time"], Value::Null);
}

async fn deployment(rest: &Rest, info: &Info, flow: &str) -> String {
    let id = rest.ensure_flow(flow).await.unwrap();
    let parameters = if flow == "orders" { json!({"region": "us"}) } else { json!({}) };
    let fields = json!({
        "name": "world", "flow_id": id, "entrypoint": format!("flows/{flow}.py:{flow}"),
        "work_pool_name": info.work_pool, "parameters": parameters,
    });
    rest.create_deployment(fields).await.unwrap()["id"].as_str().unwrap().to_owned()
}
