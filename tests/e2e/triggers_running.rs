//! A refresh that is due waits for what runs in the real Prefect.

use crate::stage::Stage;
use crate::triggers::message;
use crate::triggers_help::status;
use feedwater::api::ExtractRefresh;
use reqwest::Method;
use serde_json::json;

/// A run of `b` passes every state that is waited for; when it has completed, one refresh contains both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_in_progress_is_waited_for_in_each_of_its_states() {
    let stage = Stage::set("waits").await;
    let orders = stage.datasource("Orders");
    let (a, b) = (stage.flow("a").await, stage.flow("b").await);
    let trigger = json!({"require": "Any", "runningUpstreams": {"policy": "Wait"}});
    stage.declare_with("orders", "Orders", &["a", "b"], json!({ "trigger": trigger })).await;

    let running = stage.prefect.run_in_state(&b, "PENDING").await.unwrap();
    let completed = stage.prefect.complete(&a).await.unwrap();
    stage.activity("orders", "False", "UpstreamRunning").await;
    for (kind, name, doing) in [
        ("PENDING", "InfrastructurePending", "about to run"),
        ("RUNNING", "Running", "running"),
        ("SCHEDULED", "AwaitingRetry", "waiting for its retry"),
        ("PAUSED", "Suspended", "paused"),
        ("CANCELLING", "Cancelling", "being cancelled"),
    ] {
        // So far away that no worker takes it up.
        let details = json!({"scheduled_time": "2099-01-01T00:00:00Z"});
        let body = json!({"state": {"type": kind, "name": name, "state_details": details}, "force": true});
        let path = format!("/flow_runs/{running}/set_state");
        stage.prefect.call(Method::POST, &path, Some(body)).await.unwrap();
        let told = format!("`b` ({doing})");
        let extract = stage.extract("orders", &told, |e| message(e, "Refreshing").contains(&told)).await;
        assert!(status(&extract).next_eligible_time.is_some());
    }
    assert_eq!(stage.refreshed(&orders), 0);
    stage.prefect.set_state(&running, "COMPLETED").await.unwrap();
    let extract = stage.settled("orders", 1).await;
    let mut runs = status(&extract).history[0].runs.clone();
    let mut both = vec![completed, running];
    runs.sort();
    both.sort();
    assert_eq!(runs, both);
    stage.one_more("orders", &a, &orders, 1).await;

    // A request waits as well: it passes the gate, debounce and backoff, and nothing else.
    let abandoned = stage.prefect.run_in_state(&b, "RUNNING").await.unwrap();
    stage.prefect.complete(&a).await.unwrap();
    stage.activity("orders", "False", "UpstreamRunning").await;
    stage.ask("orders", "now").await;
    let handled = |e: &ExtractRefresh| status(e).last_handled_refresh_token.as_deref() == Some("now");
    let held = stage.extract("orders", "the request is taken up", handled).await;
    assert_eq!((status(&held).history.len(), stage.refreshed(&orders)), (2, 2));
    stage.prefect.set_state(&abandoned, "CANCELLED").await.unwrap();
    stage.extract("orders", "the request done", |e: &ExtractRefresh| status(e).history.len() == 3).await;
}
