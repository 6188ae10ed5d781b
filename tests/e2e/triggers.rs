//! The main job: which completions make a refresh, and how many.

use crate::stage::{LIMIT, Setting, Stage, is};
use feedwater::api::{ExtractRefresh, JobOrigin, Outcome, RefreshType, TargetKind};
use serde_json::json;
use world::proxy::Proxy;
use world::tableau::{Kind, Outcome as JobOutcome, Script, Step};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completed_flow_refreshes_its_extract_and_a_failed_one_does_not() {
    let stage = Stage::set("main-job").await;
    let (orders, flow) = stage.orders().await;

    stage.prefect.run_in_state(&flow, "FAILED").await.unwrap();
    let failing = stage
        .extract("orders", "the failure seen", |e| is(e, "UpstreamsHealthy", "False", "UpstreamFailing"))
        .await;
    assert!(is_at_rest(&failing), "{failing:#?}");
    let run = stage.prefect.complete(&flow).await.unwrap();
    stage.refreshes(&orders, 1).await;
    let extract = stage.fresh("orders").await;
    let history = extract.status.unwrap().history;
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].runs, [run]);
    assert_eq!(history[0].origin, Some(JobOrigin::Ours));
    assert_eq!(stage.refreshed(&orders), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_that_a_real_worker_runs_refreshes_its_extract() {
    let stage = Stage::set("worker").await;
    let (orders, flow) = stage.orders().await;
    let run = stage.prefect.run(&flow).await.unwrap();
    stage.refreshes(&orders, 1).await;
    let status = stage.fresh("orders").await.status.unwrap();
    assert_eq!(status.history[0].runs, std::slice::from_ref(&run));
    let run = stage.prefect.until(&run, "COMPLETED", LIMIT).await.unwrap();
    let started: jiff::Timestamp = run["start_time"].as_str().unwrap().parse().unwrap();
    assert_eq!(status.data_time.unwrap().0, started, "the data is as old as the run that made it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_waits_for_both_upstreams_and_a_persons_refresh_takes_nothing_from_the_set() {
    let stage = Stage::set("both").await;
    let revenue = stage.datasource("Revenue");
    let (orders, fx) = (stage.flow("orders").await, stage.flow("fx").await);
    stage.declare("revenue", "Revenue", &["orders", "fx"]).await;

    stage.prefect.complete(&orders).await.unwrap();
    let waiting = stage
        .extract("revenue", "waiting for fx", |e| {
            is(e, "Refreshing", "False", "WaitingForUpstreams") && upstream_is_new(e, "orders")
        })
        .await;
    assert!(message(&waiting, "Refreshing").contains("fx"), "{}", message(&waiting, "Refreshing"));
    // A person's refresh contains the orders; it is nobody's business that it does.
    let theirs = stage.tableau.start_refresh(&revenue, Kind::Full, "ann").unwrap();
    stage.ended(&theirs).await;
    assert_eq!(stage.ours(&revenue), 0);

    stage.prefect.complete(&fx).await.unwrap();
    stage.refreshes(&revenue, 2).await;
    let history = stage.fresh("revenue").await.status.unwrap().history;
    assert_eq!((history.len(), history[0].run_count, stage.ours(&revenue)), (1, 2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_completions_during_a_running_refresh_make_exactly_one_more() {
    let stage = Stage::set("ten").await;
    let (orders, flow) = stage.orders().await;
    stage.tableau.script(&orders, running_until_released());

    stage.prefect.complete(&flow).await.unwrap();
    stage.extract("orders", "Running", |e| is(e, "Refreshing", "True", "Running")).await;
    let mut last = String::new();
    for _ in 0..10 {
        last = stage.prefect.complete(&flow).await.unwrap();
    }
    stage.extract("orders", "the tenth seen", |e| seen_run(e).as_deref() == Some(&last)).await;
    stage.tableau.script(&orders, Script::default());
    stage.tableau.release_jobs(&orders);
    let extract = stage
        .extract("orders", "two refreshes ended", |e| {
            is(e, "Refreshing", "False", "UpToDate")
                && e.status.as_ref().is_some_and(|s| s.history.len() == 2)
        })
        .await;
    assert_eq!(extract.status.unwrap().history[0].runs, [last]);
    assert_eq!(stage.refreshed(&orders), 2);
    stage.one_more("orders", &flow, &orders, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_run_set_to_completed_by_hand_is_a_completion() {
    let stage = Stage::set("by-hand").await;
    let (orders, flow) = stage.orders().await;
    let run = stage.prefect.run_in_state(&flow, "PENDING").await.unwrap();
    stage.prefect.set_state(&run, "CRASHED").await.unwrap();
    let failing = stage
        .extract("orders", "the crash seen", |e| is(e, "UpstreamsHealthy", "False", "UpstreamFailing"))
        .await;
    assert!(is_at_rest(&failing), "{failing:#?}");
    stage.prefect.set_state(&run, "COMPLETED").await.unwrap();
    stage.refreshes(&orders, 1).await;
    assert_eq!(stage.fresh("orders").await.status.unwrap().history[0].runs, [run]);
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_edited_while_its_job_runs_is_refreshed_and_the_old_job_is_not_credited() {
    let stage = Stage::set("edited").await;
    let (old, new) = (stage.datasource("Orders"), stage.datasource("Orders v2"));
    stage.tableau.script(&old, running_until_released());
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;
    stage.prefect.complete(&flow).await.unwrap();
    stage.extract("orders", "Running", |e| is(e, "Refreshing", "True", "Running")).await;

    stage.change::<ExtractRefresh>("orders", json!({"spec": {"target": {"name": "Orders v2"}}})).await;
    stage.extract("orders", "the edit taken", |e| is(e, "Ready", "True", "InSync")).await;
    stage.tableau.release_jobs(&old);
    stage.refreshes(&new, 1).await;
    let history = stage.fresh("orders").await.status.unwrap().history;
    assert_eq!(history[0].luid, new);
    assert_eq!(history[0].outcome, Outcome::Succeeded);
    assert_eq!(history[1].luid, old);
    assert_eq!(history[1].outcome, Outcome::Superseded);
    assert_eq!((stage.refreshed(&old), stage.refreshed(&new)), (1, 1));
    stage.one_more("orders", &flow, &new, 1).await;
    assert_eq!(stage.refreshed(&old), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_prefects_websocket_polling_is_enough() {
    let info = Stage::info();
    let proxy = Proxy::start(info.prefect_api_url.as_deref().unwrap()).await.unwrap();
    proxy.cut_websockets(true);
    let setting = Setting { poll: "2s", prefect_url: Some(proxy.url().to_owned()), ..Setting::default() };
    let stage = Stage::set_with("no-socket", setting).await;
    let (orders, flow) = stage.orders().await;
    stage.prefect.complete(&flow).await.unwrap();
    stage.refreshes(&orders, 1).await;
    stage.fresh("orders").await;
    assert!(stage.operator.metrics().await.unwrap().contains("feedwater_websockets 0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_prefects_websocket_nobody_waits_for_the_poll() {
    let stage = Stage::set_with("socket", Setting { poll: "10m", ..Setting::default() }).await;
    let (orders, flow) = stage.orders().await;
    stage.prefect.complete(&flow).await.unwrap();
    // The stage gives up long before the next poll.
    stage.refreshes(&orders, 1).await;
    stage.fresh("orders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_handled_once_also_across_a_restart() {
    let mut stage = Stage::set("request").await;
    let orders = stage.datasource("Orders");
    stage.apply(&[stage.extract_object("orders", "Orders", &[])]).await;
    stage.extract("orders", "Ready", |e| is(e, "Ready", "True", "InSync")).await;
    stage.ask("orders", "t1").await;
    stage.refreshes(&orders, 1).await;
    let done = stage.fresh("orders").await.status.unwrap();
    assert_eq!(done.last_handled_refresh_token.as_deref(), Some("t1"));
    assert_eq!(done.history[0].cause, "Requested");

    stage.operator.terminate().await;
    stage.operator.restart().await.unwrap();
    stage.ask("orders", "t2").await;
    stage
        .extract("orders", "the second request done", |e| {
            e.status.as_ref().is_some_and(|s| s.history.len() == 2)
        })
        .await;
    assert_eq!(stage.refreshed(&orders), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_it_only_counts_and_resumed_it_refreshes_once() {
    let stage = Stage::set("suspend").await;
    let (orders, witness) = (stage.datasource("Orders"), stage.datasource("Witness"));
    let flow = stage.flow("orders").await;
    let mut suspended = stage.extract_object("orders", "Orders", &["orders"]);
    suspended["spec"]["suspend"] = true.into();
    stage.apply(&[suspended]).await;
    stage.extract("orders", "Suspended", |e| is(e, "Ready", "True", "Suspended")).await;
    stage.declare("witness", "Witness", &["orders"]).await;
    let mut last = String::new();
    for n in 1..=3 {
        last = stage.prefect.complete(&flow).await.unwrap();
        // That the other extract was refreshed shows that this one would have been.
        stage.refreshes(&witness, n).await;
    }
    stage.extract("orders", "the third seen", |e| seen_run(e).as_deref() == Some(&last)).await;
    assert_eq!(stage.refreshed(&orders), 0);
    stage.change::<ExtractRefresh>("orders", json!({"spec": {"suspend": false}})).await;
    let history = stage.fresh("orders").await.status.unwrap().history;
    assert_eq!((history.len(), history[0].runs.clone()), (1, vec![last]));
    assert_eq!(stage.refreshed(&orders), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workbook_by_luid_refreshed_by_any_upstream_incrementally() {
    let stage = Stage::set("luid").await;
    let book = stage.tableau.add_workbook(crate::stage::SITE, &["Finance"], "Book", true);
    let (orders, _) = (stage.flow("orders").await, stage.flow("fx").await);
    let mut object = stage.extract_object("book", "-", &["orders", "fx"]);
    object["spec"]["target"] = json!({"kind": "Workbook", "luid": book});
    object["spec"]["trigger"] = json!({"require": "Any"});
    object["spec"]["refreshType"] = "Incremental".into();
    stage.apply(&[object]).await;
    stage.ready("book").await;
    stage.prefect.complete(&orders).await.unwrap();
    stage.refreshes(&book, 1).await;
    let status = stage.fresh("book").await.status.unwrap();
    let target = status.target.unwrap();
    assert_eq!((target.kind, target.refresh_type), (TargetKind::Workbook, RefreshType::Incremental));
    assert_eq!(target.name.as_deref(), Some("Book"));
    assert_eq!(stage.tableau.truth().refreshes_of(&book)[0].kind, Kind::Incremental);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_moves_is_not_found_and_one_published_anew_is_refreshed() {
    let stage = Stage::set("moves").await;
    let (orders, flow) = stage.orders().await;
    stage.prefect.complete(&flow).await.unwrap();
    stage.fresh("orders").await;

    stage.tableau.move_content(&orders, &["Archive"]);
    let lost = stage.extract("orders", "TargetNotFound", |e| is(e, "Ready", "False", "TargetNotFound")).await;
    assert!(message(&lost, "Ready").contains("Finance/Sales"), "{}", message(&lost, "Ready"));
    stage.tableau.move_content(&orders, &["Finance", "Sales"]);
    stage.extract("orders", "found again", |e| is(e, "Ready", "True", "InSync")).await;
    assert_eq!(stage.refreshed(&orders), 1, "a move is no new data");

    stage.tableau.remove_content(&orders);
    let anew = stage.datasource("Orders");
    stage.refreshes(&anew, 1).await;
    let history = stage.fresh("orders").await.status.unwrap().history;
    assert_eq!(history[0].cause, "Republished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_without_an_extract_says_so() {
    let stage = Stage::set("live").await;
    stage.tableau.add_datasource(crate::stage::SITE, &["Finance", "Sales"], "Live", false);
    stage.apply(&[stage.extract_object("live", "Live", &[])]).await;
    stage.extract("live", "NoExtract", |e| is(e, "Ready", "False", "NoExtract")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_of_two_acts_on_a_target_and_the_younger_takes_over() {
    let stage = Stage::set("rivals").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare("older", "Orders", &["orders"]).await;
    // Creation timestamps have whole seconds.
    stage.second_passes("older").await;
    stage.apply(&[stage.extract_object("younger", "Orders", &["orders"])]).await;
    let loser =
        stage.extract("younger", "TargetConflict", |e| is(e, "Stalled", "True", "TargetConflict")).await;
    assert!(message(&loser, "Ready").contains("older"), "{}", message(&loser, "Ready"));
    stage.prefect.complete(&flow).await.unwrap();
    stage.fresh("older").await;
    assert_eq!(stage.refreshed(&orders), 1);

    stage.delete::<ExtractRefresh>("older").await;
    stage.extract("younger", "Ready", |e| is(e, "Ready", "True", "InSync")).await;
    stage.prefect.complete(&flow).await.unwrap();
    stage.fresh("younger").await;
}

/// A job that starts at once and ends when it is released.
pub fn running_until_released() -> Script {
    Script { running: Step::UntilReleased, outcome: JobOutcome::Success, ..Script::default() }
}

/// Nothing was seen that counts, nothing is owed, nothing is under way.
fn is_at_rest(extract: &ExtractRefresh) -> bool {
    extract.status.as_ref().is_some_and(|status| {
        status.owed.is_none()
            && status.attempt.is_none()
            && status.marks.iter().all(|mark| mark.seen.is_none())
    })
}

/// The message of a condition.
pub fn message(extract: &ExtractRefresh, kind: &str) -> String {
    let conditions = extract.status.iter().flat_map(|s| &s.conditions);
    conditions.filter(|c| c.type_ == kind).map(|c| c.message.clone()).collect()
}

fn upstream_is_new(extract: &ExtractRefresh, name: &str) -> bool {
    extract.status.iter().flat_map(|s| &s.upstreams).any(|u| u.name == name && u.new)
}

/// The newest run that was seen of the first upstream.
pub fn seen_run(extract: &ExtractRefresh) -> Option<String> {
    let mark = extract.status.as_ref()?.marks.first()?;
    Some(mark.seen.as_ref()?.run_id.clone())
}
