//! Which completions make a set, and what is refreshed.

use crate::stage::{SITE, Stage, is};
use crate::triggers_help::{assert_ended, status};
use feedwater::api::{ExtractRefresh, JobOrigin, Outcome};
use serde_json::json;
use std::time::Duration;

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
        refreshing.message.ends_with("completed too long ago for trigger.within: a"),
        "{}",
        refreshing.message
    );
    assert_eq!(stage.refreshed(&orders), 0);

    let (one, other) = tokio::join!(stage.prefect.complete(&a), stage.prefect.complete(&b));
    let extract = stage.settled("orders", 1).await;
    let mut runs = status(&extract).history[0].runs.clone();
    let mut both = vec![one.unwrap(), other.unwrap()];
    (runs.sort(), both.sort());
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
async fn targets_are_named_by_luid_and_may_be_workbooks() {
    let stage = Stage::set("kinds").await;
    let orders = stage.datasource("Orders");
    let board = stage.tableau.add_workbook(SITE, &["Finance", "Sales"], "Board", true);
    let flow = stage.flow("orders").await;
    let mut by_luid = stage.extract_object("by-luid", "Orders", &["orders"]);
    by_luid["spec"]["target"] = json!({ "kind": "Datasource", "luid": orders });
    let mut workbook = stage.extract_object("workbook", "Board", &["orders"]);
    workbook["spec"]["target"]["kind"] = "Workbook".into();
    stage.apply(&[by_luid, workbook]).await;
    stage.ready("by-luid").await;
    stage.ready("workbook").await;

    stage.prefect.complete(&flow).await.unwrap();
    stage.settled("by-luid", 1).await;
    stage.settled("workbook", 1).await;
    assert_eq!((stage.refreshed(&orders), stage.refreshed(&board)), (1, 1));
    assert_eq!(stage.tableau.truth().count("refreshWorkbook"), 1);
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
async fn a_target_published_anew_is_refreshed_once() {
    let stage = Stage::set("anew").await;
    let old = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;
    stage.one_more("orders", &flow, &old, 0).await;

    stage.tableau.remove_content(&old);
    let new = stage.datasource("Orders");
    let extract = stage.settled("orders", 2).await;
    let ended = &status(&extract).history[0];
    assert_ended(ended, Outcome::Succeeded, JobOrigin::Ours);
    assert_eq!((&*ended.cause, &ended.luid), ("Republished", &new));
    stage.one_more("orders", &flow, &new, 1).await;
    assert_eq!(stage.refreshed(&old), 1);
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
    assert!(conflict(&younger) && status(&younger).history.is_empty(), "{younger:#?}");

    stage.api::<ExtractRefresh>().delete("a-older", &Default::default()).await.unwrap();
    stage.ready("b-younger").await;
    let before = stage.settled("b-younger", 1).await;
    assert!(is(&before, "Fresh", "True", "UpToDate"));
    stage.one_more("b-younger", &flow, &orders, 3).await;
}
