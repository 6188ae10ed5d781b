//! Failures, people who intervene, and what starts again.

use crate::stage::{Stage, is};
use crate::triggers_help::{assert_ended, ending, failing, running, status};
use feedwater::api::{AttemptPhase, JobOrigin, Outcome, Stopped};
use serde_json::{Value, json};
use world::tableau::{Outcome as Ends, Script};

fn once_again() -> Value {
    json!({ "retry": { "limit": 1, "backoff": { "duration": "1s", "maxDuration": "1s" } } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_are_used_up_and_new_data_or_a_person_starts_again() {
    let mut stage = Stage::set("retries").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare_with("orders", "Orders", &["orders"], once_again()).await;
    stage.tableau.script(&orders, failing());

    stage.prefect.complete(&flow).await.unwrap();
    let extract = stage.activity("orders", "False", "RetriesExhausted").await;
    assert!(is(&extract, "LastRefreshSucceeded", "False", "RetriesExhausted"), "{extract:#?}");
    assert!(is(&extract, "Fresh", "Unknown", "NotYetRefreshed"));
    assert_eq!(status(&extract).history.len(), 2);
    assert_eq!(stage.refreshed(&orders), 2, "one try and one more");

    // New data is worth one try.
    stage.prefect.complete(&flow).await.unwrap();
    let again = |s: &feedwater::api::ExtractRefreshStatus| {
        s.history.len() == 3 && s.owed.as_ref().is_some_and(|o| o.stopped == Some(Stopped::Exhausted))
    };
    stage.extract("orders", "exhausted again", |e| e.status.as_ref().is_some_and(again)).await;
    assert_eq!(stage.refreshed(&orders), 3);

    stage.tableau.script(&orders, Script::default());
    stage.ask("orders", "please").await;
    let extract = stage.settled("orders", 4).await;
    assert!(
        is(&extract, "LastRefreshSucceeded", "True", "Succeeded")
            && is(&extract, "Fresh", "True", "UpToDate")
    );
    assert_eq!(status(&extract).last_handled_refresh_token.as_deref(), Some("please"));
    assert_eq!(status(&extract).history[0].cause, "Requested");

    // The request is handled once, also over a restart; another token is another request.
    stage.operator.terminate().await;
    stage.operator.restart().await.unwrap();
    stage.one_more("orders", &flow, &orders, 4).await;
    stage.ask("orders", "once more").await;
    stage.settled("orders", 6).await;
    assert_eq!(stage.refreshed(&orders), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_a_person_cancels_is_not_started_again_until_asked() {
    let stage = Stage::set("cancelled").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare_with("orders", "Orders", &["orders"], once_again()).await;
    stage.tableau.script(&orders, running());
    stage.tableau.script(&orders, Script::default());

    stage.prefect.complete(&flow).await.unwrap();
    let extract = stage
        .extract("orders", "a job", |e| {
            let attempt = e.status.as_ref().and_then(|s| s.attempt.as_ref());
            attempt.is_some_and(|a| a.phase == AttemptPhase::Submitted)
        })
        .await;
    let job = status(&extract).attempt.as_ref().unwrap().job_id.clone().unwrap();
    stage.tableau.cancel_job(&job);
    let extract = stage.activity("orders", "False", "Cancelled").await;
    assert!(is(&extract, "LastRefreshSucceeded", "False", "Cancelled"));
    assert_ended(&status(&extract).history[0], Outcome::Cancelled, JobOrigin::Ours);

    stage.ask("orders", "now").await;
    let extract = stage.settled("orders", 2).await;
    assert_ended(&status(&extract).history[0], Outcome::Succeeded, JobOrigin::Ours);
    assert_eq!(stage.refreshed(&orders), 2);
    stage.one_more("orders", &flow, &orders, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_vanished_is_no_success() {
    let stage = Stage::set("vanished").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare_with("orders", "Orders", &["orders"], once_again()).await;
    stage.tableau.script(&orders, ending(Ends::Vanish));
    stage.tableau.script(&orders, Script::default());

    stage.prefect.complete(&flow).await.unwrap();
    let extract = stage.settled("orders", 2).await;
    let [new, old] = &status(&extract).history[..] else { panic!("{extract:#?}") };
    assert_ended(old, Outcome::JobVanished, JobOrigin::Ours);
    assert_ended(new, Outcome::Succeeded, JobOrigin::Ours);
    assert_eq!(stage.refreshed(&orders), 2);
    stage.one_more("orders", &flow, &orders, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_it_counts_and_resumed_it_refreshes_once() {
    let stage = Stage::set("suspended").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;
    stage.edit("orders", json!({ "suspend": true })).await;
    stage.activity("orders", "False", "Suspended").await;
    let mut last = String::new();
    for _ in 0..3 {
        last = stage.prefect.complete(&flow).await.unwrap();
        stage.sees("orders", "orders", &last).await;
    }
    stage.ask("orders", "not while suspended").await;
    let suspended = stage
        .extract("orders", "the request taken", |e| status(e).last_handled_refresh_token.is_some())
        .await;
    assert!(status(&suspended).owed.is_some() && status(&suspended).attempt.is_none(), "{suspended:#?}");
    assert_eq!(stage.refreshed(&orders), 0);

    stage.edit("orders", json!({ "suspend": false })).await;
    let extract = stage.settled("orders", 1).await;
    assert_eq!(status(&extract).history[0].runs, [last]);
    stage.one_more("orders", &flow, &orders, 1).await;
}
