//! The main job and what must not disturb it.

use crate::stage::{Stage, is};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completed_flow_refreshes_its_extract_and_a_failed_one_does_not() {
    let stage = Stage::set("main-job").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;

    stage.prefect.run_in_state(&flow, "FAILED").await.unwrap();
    let run = stage.prefect.complete(&flow).await.unwrap();
    stage.refreshes(&orders, 1).await;
    let extract = stage
        .extract("orders", "Fresh", |e| {
            is(e, "Fresh", "True", "UpToDate") && is(e, "LastRefreshSucceeded", "True", "Succeeded")
        })
        .await;
    let history = extract.status.unwrap().history;
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].runs, [run]);
    assert_eq!(stage.refreshed(&orders), 1);
}
