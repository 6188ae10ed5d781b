//! What must not be lost, nor doubled, when something breaks.

use crate::stage::{LIMIT, SITE, Setting, Stage, is};
use crate::triggers_help::{assert_ended, running, status};
use feedwater::api::{AttemptPhase, ExtractRefresh, JobOrigin, Outcome, TableauSite};
use std::time::Duration;
use tokio::time::Instant;
use world::info::Info;
use world::proxy::Proxy;
use world::resources;
use world::tableau::{Availability, Script};

/// A stage with a flow and an extract it feeds; the deployment's id and the data source's LUID.
async fn fed(stage: &Stage) -> (String, String) {
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;
    (flow, orders)
}

fn submitted(extract: &ExtractRefresh) -> bool {
    let attempt = extract.status.as_ref().and_then(|s| s.attempt.as_ref());
    attempt.is_some_and(|a| a.phase == AttemptPhase::Submitted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_the_answer_to_its_post_it_recovers_the_job() {
    let mut stage = Stage::set("killed").await;
    let (flow, orders) = fed(&stage).await;
    let hold = stage.tableau.hold_answer(&orders);
    let run = stage.prefect.complete(&flow).await.unwrap();
    hold.taken().await;
    stage.operator.kill().await;
    hold.release();
    stage.operator.restart().await.unwrap();

    let extract = stage.settled("orders", 1).await;
    let ended = &status(&extract).history[0];
    assert_ended(ended, Outcome::Succeeded, JobOrigin::Recovered);
    assert_eq!(ended.runs, [run]);
    assert_eq!(ended.job_id.as_deref(), Some(&*stage.tableau.truth().refreshes_of(&orders)[0].job));
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_costs_at_most_one_more_refresh_where_jobs_may_not_be_listed() {
    let mut stage = Stage::set("no-list").await;
    let (flow, orders) = fed(&stage).await;
    stage.tableau.set_jobs_list_allowed(false);
    let hold = stage.tableau.hold_answer(&orders);
    stage.prefect.complete(&flow).await.unwrap();
    hold.taken().await;
    stage.operator.kill().await;
    hold.release();
    stage.operator.restart().await.unwrap();

    let extract = stage.settled("orders", 1).await;
    assert_ended(&status(&extract).history[0], Outcome::Succeeded, JobOrigin::Ours);
    assert_eq!(stage.refreshed(&orders), 2, "the lost one and one more (R1)");
    let metrics = stage.operator.metrics().await.unwrap();
    assert!(metrics.contains(r#"feedwater_possible_doubles_total{case="R1"} 1"#), "{metrics}");
    stage.one_more("orders", &flow, &orders, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_runs_over_a_restart_is_followed_to_its_end() {
    let mut stage = Stage::set("followed").await;
    let (flow, orders) = fed(&stage).await;
    stage.tableau.script(&orders, running());
    stage.tableau.script(&orders, Script::default());
    stage.prefect.complete(&flow).await.unwrap();
    stage.extract("orders", "a job", submitted).await;
    stage.operator.terminate().await;
    stage.operator.restart().await.unwrap();
    stage.tableau.release_jobs(&orders);

    let extract = stage.settled("orders", 1).await;
    assert_ended(&status(&extract).history[0], Outcome::Succeeded, JobOrigin::Ours);
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_while_the_operator_is_down_are_refreshed_once() {
    let mut stage = Stage::set("down").await;
    let (flow, orders) = fed(&stage).await;
    stage.operator.terminate().await;
    stage.prefect.complete(&flow).await.unwrap();
    let last = stage.prefect.complete(&flow).await.unwrap();
    stage.operator.restart().await.unwrap();

    let extract = stage.settled("orders", 1).await;
    assert_eq!(status(&extract).history[0].runs, [last]);
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_told_once_and_healed_by_a_new_secret() {
    let stage = Stage::set("revoked").await;
    let (flow, orders) = fed(&stage).await;
    let before = stage.tableau.truth().count("signIn");
    stage.tableau.revoke_pat(SITE, "feedwater");
    let run = stage.prefect.complete(&flow).await.unwrap();
    stage.until::<TableauSite>("acme", "PatRevoked", |s| is(s, "Ready", "False", "PatRevoked")).await;
    stage.activity("orders", "False", "ConnectionUnavailable").await;
    // Many more reasons to ask Tableau, none of which is a reason to sign in.
    for _ in 0..5 {
        let last = stage.prefect.complete(&flow).await.unwrap();
        stage.sees("orders", "orders", &last).await;
    }
    let last = stage.prefect.complete(&flow).await.unwrap();
    stage.sees("orders", "orders", &last).await;
    let tried = stage.tableau.truth().count("signIn") - before;
    assert!(tried <= 8, "{tried} sign-ins with a revoked token");

    stage.tableau.add_pat(SITE, "feedwater", "second-secret", "feedwater");
    stage
        .apply(&[resources::personal_access_token(
            &stage.namespace,
            "tableau-pat",
            "feedwater",
            "second-secret",
        )])
        .await;
    stage.connected().await;
    let extract = stage.settled("orders", 1).await;
    assert_ended(&status(&extract).history[0], Outcome::Succeeded, JobOrigin::Ours);
    assert_eq!(status(&extract).history[0].runs, [last], "the newest, and with it {run}");
    stage.one_more("orders", &flow, &orders, 1).await;
}

/// Not a wait for anything: Tableau is really gone for that long.
const OUTAGE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_tableau_loses_nothing() {
    let stage = Stage::set("outage").await;
    let (flow, orders) = fed(&stage).await;
    let gone = Instant::now();
    stage.tableau.set_availability(Availability::Reset);
    let run = stage.prefect.complete(&flow).await.unwrap();
    stage.until::<TableauSite>("acme", "Unreachable", |s| is(s, "Ready", "False", "Unreachable")).await;
    stage.activity("orders", "False", "ConnectionUnavailable").await;
    tokio::time::sleep_until(gone + OUTAGE).await;
    let reset = stage.tableau.truth().connections_reset;
    assert!(reset < 60, "{reset} connections in a minute");
    stage.tableau.set_availability(Availability::Up);

    stage.until::<TableauSite>("acme", "Connected", |s| is(s, "Ready", "True", "Connected")).await;
    let extract = stage.settled("orders", 1).await;
    assert_eq!(status(&extract).history[0].runs, [run]);
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_a_broken_gateway_lose_and_double_nothing() {
    let stage = Stage::set("gateway").await;
    let (flow, orders) = fed(&stage).await;
    stage.tableau.set_availability(Availability::Refuse(502));
    stage.prefect.complete(&flow).await.unwrap();
    stage.until::<TableauSite>("acme", "not Ready", |s| is(s, "Ready", "False", "")).await;
    stage.tableau.set_availability(Availability::Up);
    stage.settled("orders", 1).await;
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_prefects_websocket_the_poll_sees_the_completion() {
    let proxy = proxy().await;
    let setting = Setting { poll: "2s", prefect_url: Some(proxy.url().to_owned()), ..Setting::default() };
    let stage = Stage::set_with("no-events", setting).await;
    let (flow, orders) = fed(&stage).await;
    proxy.cut_websockets(true);
    stage.prefect.complete(&flow).await.unwrap();
    stage.settled("orders", 1).await;
    stage.one_more("orders", &flow, &orders, 1).await;
    proxy.cut_websockets(false);
    stage.one_more("orders", &flow, &orders, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefects_events_wake_the_observer_long_before_the_poll() {
    let stage = Stage::set_with("events", Setting { poll: "10m", ..Setting::default() }).await;
    let (flow, orders) = fed(&stage).await;
    let started = Instant::now();
    stage.prefect.complete(&flow).await.unwrap();
    stage.refreshes(&orders, 1).await;
    assert!(started.elapsed() <= LIMIT, "the next poll is minutes away");
}

async fn proxy() -> Proxy {
    let info = Info::shared().unwrap_or_else(|error| panic!("{error}"));
    Proxy::start(&info.prefect_api_url.expect("the shared world has Prefect")).await.unwrap()
}
