//! Sets, targets and retries over several rounds: what was used up, held or ended stays so until something new comes.

use crate::stage::{SITE, Stage, is};
use crate::triggers_help::{failing, status};
use feedwater::api::{ExtractRefresh, Stopped};
use serde_json::{Value, json};
use std::time::Duration;
use world::tableau::{Kind, Script};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_upstreams_refresh_only_together_and_a_persons_refresh_uses_up_neither() {
    let stage = Stage::set("together").await;
    let orders = stage.datasource("Orders");
    let witness = stage.datasource("Witness");
    let (a, b) = (stage.flow("a").await, stage.flow("b").await);
    stage.declare("orders", "Orders", &["a", "b"]).await;
    stage.declare("witness", "Witness", &["a"]).await;

    let first = stage.prefect.complete(&a).await.unwrap();
    stage.refreshes(&witness, 1).await;
    let waiting = stage.sees("orders", "a", &first).await;
    assert!(is(&waiting, "Refreshing", "False", "WaitingForUpstreams"), "{waiting:#?}");
    assert!(status(&waiting).owed.is_none());

    stage.tableau.start_refresh(&orders, Kind::Full, "ann").unwrap();
    let second = stage.prefect.complete(&a).await.unwrap();
    stage.refreshes(&witness, 2).await;
    stage.sees("orders", "a", &second).await;
    assert_eq!(stage.refreshed(&orders), 1, "only Ann's");

    let last = stage.prefect.complete(&b).await.unwrap();
    stage.refreshes(&orders, 2).await;
    let extract = stage.settled("orders", 1).await;
    let mut runs = status(&extract).history[0].runs.clone();
    let mut both = vec![second, last];
    runs.sort();
    both.sort();
    assert_eq!(runs, both);

    // The set is used up: neither alone makes another.
    let third = stage.prefect.complete(&b).await.unwrap();
    stage.sees("orders", "b", &third).await;
    stage.prefect.complete(&a).await.unwrap();
    stage.settled("orders", 2).await;
    assert_eq!(stage.refreshed(&orders), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_too_far_apart_make_no_set() {
    const WITHIN: Duration = Duration::from_secs(5);
    let stage = Stage::set("within").await;
    let orders = stage.datasource("Orders");
    let (a, b) = (stage.flow("a").await, stage.flow("b").await);
    stage.declare_with("orders", "Orders", &["a", "b"], json!({ "trigger": { "within": "5s" } })).await;

    stage.prefect.complete(&a).await.unwrap();
    // The spread is the matter of this test.
    tokio::time::sleep(WITHIN + Duration::from_secs(1)).await;
    let late = stage.prefect.complete(&b).await.unwrap();
    let waiting = stage.sees("orders", "b", &late).await;
    let conditions = &status(&waiting).conditions;
    let refreshing = conditions.iter().find(|c| c.type_ == "Refreshing").unwrap();
    assert_eq!(refreshing.reason, "WaitingForUpstreams");
    assert!(
        refreshing.message.ends_with("completed too long ago for trigger.within: `a`"),
        "{}",
        refreshing.message
    );
    assert_eq!(stage.refreshed(&orders), 0);

    // `a` last: it makes the set, with the newest of `b`.
    let other = stage.prefect.complete(&b).await.unwrap();
    let one = stage.prefect.complete(&a).await.unwrap();
    let extract = stage.settled("orders", 1).await;
    let mut runs = status(&extract).history[0].runs.clone();
    let mut both = vec![one, other];
    runs.sort();
    both.sort();
    assert_eq!(runs, both);
    assert_eq!(stage.refreshed(&orders), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_upstream_and_a_count_of_one_are_enough() {
    let stage = Stage::set("any").await;
    let (any, one) = (stage.datasource("Any"), stage.datasource("One"));
    let (a, b) = (stage.flow("a").await, stage.flow("b").await);
    stage.declare_with("any", "Any", &["a", "b"], json!({ "trigger": { "require": "Any" } })).await;
    stage.declare_with("one", "One", &["a", "b"], json!({ "trigger": { "require": 1 } })).await;
    for (round, flow) in [&a, &b, &b].into_iter().enumerate() {
        stage.prefect.complete(flow).await.unwrap();
        stage.settled("any", round + 1).await;
        stage.settled("one", round + 1).await;
        assert_eq!((stage.refreshed(&any), stage.refreshed(&one)), (round + 1, round + 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_target_is_missed_and_refreshed_once_it_is_back() {
    let stage = Stage::set("moved").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;

    stage.tableau.move_content(&orders, &["Archive"]);
    stage.extract("orders", "TargetNotFound", |e| is(e, "Ready", "False", "TargetNotFound")).await;
    let run = stage.prefect.complete(&flow).await.unwrap();
    let held = stage.sees("orders", "orders", &run).await;
    assert!(status(&held).owed.is_some() && is(&held, "Refreshing", "False", "Retrying"), "{held:#?}");
    assert_eq!(stage.refreshed(&orders), 0);

    stage.tableau.move_content(&orders, &["Finance", "Sales"]);
    stage.ready("orders").await;
    stage.settled("orders", 1).await;
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_without_an_extract_is_named_and_not_asked_to_refresh() {
    let stage = Stage::set("no-extract").await;
    let live = stage.tableau.add_datasource(SITE, &["Finance", "Sales"], "Live", false);
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.apply(&[stage.extract_object("live", "Live", &["orders"])]).await;
    stage.extract("live", "NoExtract", |e| is(e, "Ready", "False", "NoExtract")).await;
    stage.declare("orders", "Orders", &["orders"]).await;

    let run = stage.prefect.complete(&flow).await.unwrap();
    stage.settled("orders", 1).await;
    stage.sees("live", "orders", &run).await;
    stage.one_more("orders", &flow, &orders, 1).await;
    assert_eq!(stage.refreshed(&live), 0);
    assert_eq!(stage.tableau.truth().count("refreshDatasource"), 2, "both of Orders");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_on_one_target_the_older_acts_and_the_younger_takes_over() {
    let stage = Stage::set("two").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    // Of one second, the name decides.
    stage.declare("a-older", "Orders", &["orders"]).await;
    stage.apply(&[stage.extract_object("b-younger", "Orders", &["orders"])]).await;
    let conflict = |e: &ExtractRefresh| {
        is(e, "Stalled", "True", "TargetConflict") && is(e, "Ready", "False", "TargetConflict")
    };
    stage.extract("b-younger", "TargetConflict", conflict).await;

    let run = stage.prefect.complete(&flow).await.unwrap();
    stage.settled("a-older", 1).await;
    stage.sees("b-younger", "orders", &run).await;
    stage.one_more("a-older", &flow, &orders, 1).await;
    let younger = stage.api::<ExtractRefresh>().get("b-younger").await.unwrap();
    assert!(conflict(&younger), "{younger:#?}");
    assert_eq!(stage.refreshed(&orders), 2, "only the older one acts");

    stage.delete::<ExtractRefresh>("a-older").await;
    stage.ready("b-younger").await;
    // The older one's jobs count for it where they provably began after it had seen the completion; else it refreshes, once.
    stage.fresh("b-younger").await;
    let refreshed = stage.refreshed(&orders);
    assert!((2..=3).contains(&refreshed), "{refreshed}");
    stage.one_more("b-younger", &flow, &orders, refreshed).await;
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

fn once_again() -> Value {
    json!({ "retry": { "limit": 1, "backoff": { "duration": "1s", "maxDuration": "1s" } } })
}
