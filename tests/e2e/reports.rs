//! A refresh shown in the real Prefect, read back from there.

use crate::stage::{LIMIT, Stage, is};
use crate::triggers::running_until_released;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use world::tableau::{Outcome as JobOutcome, Script};

/// Asks Prefect until the answer holds.
pub async fn until(stage: &Stage, what: &str, ask: (&str, Value), holds: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let answer = stage.prefect.call(Method::POST, ask.0, Some(ask.1.clone())).await.unwrap();
        if holds(&answer) {
            return answer;
        }
        assert!(started.elapsed() < LIMIT, "{what} never came: {answer:#}\n{}", stage.log_tail());
        sleep(Duration::from_millis(200)).await;
    }
}

/// The one run below this run, in a state of this type.
async fn below(stage: &Stage, parent: &str, reached: &str) -> Value {
    let ask = json!({"flow_runs": {"parent_flow_run_id": {"any_": [parent]}}});
    let there = |runs: &Value| runs[0]["state_type"] == reached;
    let runs = until(stage, &format!("a run in {reached}"), ("/flow_runs/filter", ask), there).await;
    assert_eq!(runs.as_array().unwrap().len(), 1, "{runs:#}");
    runs[0].clone()
}

/// Types of the states a run went through.
async fn states(stage: &Stage, run: &Value) -> Vec<String> {
    let path = format!("/flow_run_states/?flow_run_id={}", run["id"].as_str().unwrap());
    let mut states = stage.prefect.call(Method::GET, &path, None).await.unwrap();
    let states = states.as_array_mut().unwrap();
    states.sort_by_key(|state| state["timestamp"].as_str().unwrap().to_owned());
    states.iter().map(|state| state["type"].as_str().unwrap().to_owned()).collect()
}

/// The markdown of its one artifact.
async fn artifact(stage: &Stage, run: &Value) -> String {
    let ask = json!({"artifacts": {"flow_run_id": {"any_": [run["id"]]}}});
    let there = |all: &Value| all.as_array().is_some_and(|all| !all.is_empty());
    let all = until(stage, "an artifact", ("/artifacts/filter", ask), there).await;
    assert_eq!((all.as_array().unwrap().len(), &all[0]["type"]), (1, &json!("markdown")), "{all:#}");
    all[0]["data"].as_str().unwrap().to_owned()
}

/// The events of assets that tell of a run.
async fn assets(stage: &Stage, run: &Value, event: &str) -> Value {
    let resource = format!("prefect.flow-run.{}", run["id"].as_str().unwrap());
    let ask = json!({"filter": {"event": {"name": [event]}, "any_resource": {"id": [resource]},
        "occurred": {"since": "2026-01-01T00:00:00Z"}}, "limit": 50});
    until(stage, event, ("/events/filter", ask), |events| events["total"] != 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_is_a_run_below_the_run_that_a_real_worker_ran() {
    let stage = Stage::set("shown").await;
    let (orders, flow) = stage.orders().await;
    stage.tableau.script(&orders, running_until_released());
    let cause = stage.prefect.run(&flow).await.unwrap();
    // The flow has written a table, as Prefect's own asset decorator tells it.
    let table = format!("postgres://prod/{}/orders", stage.namespace);
    let made = json!([{"id": uuid::Uuid::new_v4(), "occurred": feedwater::clock::Clock::system().now(), "payload": {},
        "event": "prefect.asset.materialization.succeeded", "resource": {"prefect.resource.id": table},
        "related": [{"prefect.resource.id": format!("prefect.flow-run.{cause}"), "prefect.resource.role": "flow-run"}]}]);
    stage.prefect.call(Method::POST, "/events", Some(made)).await.unwrap();
    assets(&stage, &json!({"id": cause}), "prefect.asset.materialization.succeeded").await;

    let running = below(&stage, &cause, "RUNNING").await;
    assert_eq!(running["name"], "Finance/Sales/Orders");
    assert_eq!(running["tags"], json!(["feedwater", "tableau"]));
    assert_eq!(running["labels"]["feedwater.dev/refresh"], format!("{}/orders", stage.namespace));
    stage.tableau.release_jobs(&orders);
    let run = below(&stage, &cause, "COMPLETED").await;
    assert_eq!(run["id"], running["id"]);
    assert_eq!(states(&stage, &run).await, ["PENDING", "RUNNING", "COMPLETED"]);
    let job = stage.tableau.truth().refreshes_of(&orders)[0].job.clone();
    let text = artifact(&stage, &run).await;
    for part in ["Finance/Sales/Orders", &cause, &job, "| Took |", "[Open in Tableau](http"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let ask = json!({"logs": {"flow_run_id": {"any_": [run["id"]]}}, "sort": "TIMESTAMP_ASC"});
    let logs = until(&stage, "log lines", ("/logs/filter", ask), |logs| logs[4].is_object()).await;
    assert!(logs[2]["message"].as_str().unwrap().contains(&cause), "{logs:#}");
    assert!(logs[4]["message"].as_str().unwrap().starts_with("The extract is refreshed"), "{logs:#}");
    let event = &assets(&stage, &run, "prefect.asset.materialization.succeeded").await["events"][0];
    let asset = event["resource"]["prefect.resource.id"].as_str().unwrap();
    assert!(
        asset.starts_with("tableau://") && asset.ends_with(&format!("/acme/datasources/{orders}")),
        "{asset}"
    );
    let parents =
        event["related"].as_array().unwrap().iter().filter(|r| r["prefect.resource.role"] == "asset");
    assert_eq!(parents.map(|r| &r["prefect.resource.id"]).collect::<Vec<_>>(), [&json!(table)]);
    // What Prefect's own page of the upstream's run draws.
    let graph = stage.prefect.call(Method::GET, &format!("/flow_runs/{cause}/graph-v2"), None).await.unwrap();
    assert!(graph.to_string().contains("tableau-extract-refresh / Finance/Sales/Orders"), "{graph:#}");

    // No report is an occasion, and the next refresh adds nothing here.
    stage.fresh("orders").await;
    stage.tableau.script(&orders, Script::default());
    stage.one_more("orders", &flow, &orders, 1).await;
    below(&stage, &cause, "COMPLETED").await;
    let metrics = stage.operator.metrics().await.unwrap();
    let shown = metrics.lines().find(|line| line.starts_with(r#"feedwater_reports_total{outcome="Shown"}"#));
    assert!(shown.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_fails_is_a_failed_run() {
    let stage = Stage::set("shown-failed").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    let mut extract = stage.extract_object("orders", "Orders", &["orders"]);
    extract["spec"]["retry"] = json!({"limit": 0});
    stage.apply(&[extract]).await;
    stage.ready("orders").await;
    let notes = "no route to the database";
    let failed = JobOutcome::Failed { notes: notes.into() };
    stage.tableau.script(&orders, Script { outcome: failed, ..Script::default() });
    let cause = stage.prefect.complete(&flow).await.unwrap();
    let run = below(&stage, &cause, "FAILED").await;
    assert_eq!(states(&stage, &run).await, ["PENDING", "RUNNING", "FAILED"]);
    assert!(run["state"]["message"].as_str().unwrap().contains("the job in Tableau says why"), "{run:#}");
    let text = artifact(&stage, &run).await;
    assert!(text.contains("failed") && !text.contains(notes), "{text}");
    assets(&stage, &run, "prefect.asset.materialization.failed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_a_person_cancels_is_a_cancelled_run() {
    let stage = Stage::set("shown-cancelled").await;
    let (orders, flow) = stage.orders().await;
    stage.tableau.script(&orders, running_until_released());
    let cause = stage.prefect.complete(&flow).await.unwrap();
    below(&stage, &cause, "RUNNING").await;
    let job = stage.tableau.truth().refreshes_of(&orders)[0].job.clone();
    stage.tableau.cancel_job(&job);
    let run = below(&stage, &cause, "CANCELLED").await;
    assert_eq!(states(&stage, &run).await, ["PENDING", "RUNNING", "CANCELLED"]);
    assert!(artifact(&stage, &run).await.contains("cancelled in Tableau"));
    stage.extract("orders", "cancelled", |e| is(e, "Refreshing", "False", "Cancelled")).await;
}
