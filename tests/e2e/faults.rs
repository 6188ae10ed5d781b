//! What fails, hangs, lies or dies, and what becomes of a refresh then.

use crate::stage::{LIMIT, SITE, Setting, Stage, is};
use crate::triggers::{message, running_until_released};
use feedwater::api::{ExtractRefresh, JobOrigin, Outcome, TableauSite};
use serde_json::json;
use std::time::Duration;
use world::resources;
use world::tableau::{Availability, Config, Kind, Outcome as JobOutcome, Script, Step};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_tableau_holds_the_answer_it_finds_its_job_and_starts_no_second() {
    let mut stage = Stage::set("killed").await;
    let (orders, flow) = stage.orders().await;
    stage.tableau.script(&orders, running_until_released());
    let hold = stage.tableau.hold_answer(&orders);
    stage.prefect.complete(&flow).await.unwrap();
    tokio::time::timeout(LIMIT, hold.taken()).await.unwrap();
    stage.operator.kill().await;
    drop(hold);
    stage.operator.restart().await.unwrap();
    stage
        .extract("orders", "the job recovered", |e| {
            let attempt = e.status.as_ref().and_then(|s| s.attempt.as_ref());
            attempt.is_some_and(|a| a.job_id.is_some() && a.origin == Some(JobOrigin::Recovered))
        })
        .await;
    stage.tableau.release_jobs(&orders);
    let history = stage.fresh("orders").await.status.unwrap().history;
    assert_eq!((history.len(), history[0].origin), (1, Some(JobOrigin::Recovered)));
    assert_eq!(stage.refreshed(&orders), 1);
    stage.tableau.script(&orders, Script::default());
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_lost_to_a_reset_is_found_again_without_a_restart() {
    let stage = Stage::set("reset").await;
    let (orders, flow) = stage.orders().await;
    stage.tableau.script(&orders, running_until_released());
    let hold = stage.tableau.hold_answer(&orders);
    stage.prefect.complete(&flow).await.unwrap();
    tokio::time::timeout(LIMIT, hold.taken()).await.unwrap();
    stage.tableau.set_availability(Availability::Reset);
    let lost = |e: &ExtractRefresh| is(e, "Refreshing", "False", "Recovering");
    stage.extract("orders", "Recovering", lost).await;
    stage.tableau.set_availability(Availability::Up);
    drop(hold);
    stage.extract("orders", "Running", |e| is(e, "Refreshing", "True", "Running")).await;
    stage.tableau.release_jobs(&orders);
    let history = stage.fresh("orders").await.status.unwrap().history;
    assert_eq!(history[0].origin, Some(JobOrigin::Recovered));
    assert_eq!(stage.refreshed(&orders), 1);
    stage.tableau.script(&orders, Script::default());
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebodys_queued_refresh_is_taken_for_ours_since_it_will_contain_the_data() {
    let stage = Stage::set("queued").await;
    let orders = stage.datasource("Orders");
    let queued = Script { queued: Step::UntilReleased, ..Script::default() };
    stage.tableau.script(&orders, queued);
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;
    let theirs = stage.tableau.start_refresh(&orders, Kind::Full, "ann").unwrap();
    stage.prefect.complete(&flow).await.unwrap();
    stage
        .extract("orders", "their job adopted", |e| {
            let attempt = e.status.as_ref().and_then(|s| s.attempt.as_ref());
            attempt.is_some_and(|a| a.origin == Some(JobOrigin::Adopted))
        })
        .await;
    stage.tableau.release_jobs(&orders);
    let history = stage.fresh("orders").await.status.unwrap().history;
    assert_eq!(history[0].job_id.as_deref(), Some(&*theirs));
    assert_eq!(history[0].origin, Some(JobOrigin::Adopted));
    assert_eq!(stage.ours(&orders), 0);
    stage.tableau.script(&orders, Script::default());
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebodys_running_refresh_has_to_end_first_since_it_began_too_early() {
    let stage = Stage::set("running").await;
    let (orders, flow) = stage.orders().await;
    stage.tableau.script(&orders, running_until_released());
    let theirs = stage.tableau.start_refresh(&orders, Kind::Full, "ann").unwrap();
    let running =
        |t: &world::tableau::Truth| t.refreshes.iter().any(|r| r.job == theirs && r.started.is_some());
    assert!(stage.tableau.wait_for(LIMIT, running).await.is_ok());
    stage.prefect.complete(&flow).await.unwrap();
    stage
        .extract("orders", "waiting for theirs", |e| {
            is(e, "Refreshing", "False", "WaitingForOtherJob")
                && e.status
                    .as_ref()
                    .and_then(|s| s.attempt.as_ref())
                    .is_some_and(|a| a.waits_for_job.is_some())
        })
        .await;
    assert_eq!(stage.ours(&orders), 0);
    stage.tableau.script(&orders, Script::default());
    stage.tableau.release_jobs(&orders);
    let history = stage.fresh("orders").await.status.unwrap().history;
    assert_eq!((history.len(), history[0].origin), (1, Some(JobOrigin::Ours)));
    assert_eq!(stage.ours(&orders), 1);
    stage.one_more("orders", &flow, &orders, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_one_clear_condition_no_hot_loop_and_healed_by_a_new_secret() {
    let stage = Stage::set("revoked").await;
    let (orders, flow) = stage.orders().await;
    stage.tableau.revoke_pat(SITE, "feedwater");
    let sign_ins = stage.tableau.truth().count("signIn");
    stage.prefect.complete(&flow).await.unwrap();
    let site =
        stage.until::<TableauSite>("acme", "PatRevoked", |s| is(s, "Ready", "False", "PatRevoked")).await;
    let waiting = stage
        .extract("orders", "ConnectionUnavailable", |e| {
            is(e, "Refreshing", "False", "ConnectionUnavailable")
                && message(e, "Refreshing").contains("Revoked")
        })
        .await;
    let told = message(&waiting, "Refreshing");
    assert!(told.contains("acme") && told.contains("PatRevoked"), "{told}");
    assert!(is(&waiting, "Ready", "True", "InSync"), "an outage does not flip those that are in order");
    // Something else goes on meanwhile, which bounds the quiet: a second extract comes to wait as well.
    stage.datasource("Other");
    stage.apply(&[stage.extract_object("other", "Other", &["orders"])]).await;
    stage.ask("other", "now").await;
    stage.extract("other", "waits too", |e| is(e, "Refreshing", "False", "ConnectionUnavailable")).await;
    let tries = stage.tableau.truth().count("signIn") - sign_ins;
    assert!(tries <= 6, "{tries} sign-ins with a revoked token");
    assert_eq!(site.status.unwrap().conditions.iter().filter(|c| c.reason == "PatRevoked").count(), 1);

    stage.tableau.add_pat(SITE, "feedwater", "second-secret", "feedwater");
    let ns = &stage.namespace;
    stage.apply(&[resources::personal_access_token(ns, "tableau-pat", "feedwater", "second-secret")]).await;
    stage.until::<TableauSite>("acme", "Connected", |s| is(s, "Ready", "True", "Connected")).await;
    stage.fresh("orders").await;
    assert_eq!(stage.refreshed(&orders), 1);
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_tableau_loses_nothing() {
    let stage = Stage::set("outage").await;
    let (orders, flow) = stage.orders().await;
    stage.tableau.set_availability(Availability::Reset);
    stage.prefect.complete(&flow).await.unwrap();
    stage.prefect.complete(&flow).await.unwrap();
    stage
        .extract("orders", "the refresh owed", |e| e.status.as_ref().is_some_and(|s| s.owed.is_some()))
        .await;
    // The length of the outage is what is tested: retries and waits of the client have to outlast it.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.refreshed(&orders), 0);
    stage.tableau.set_availability(Availability::Up);
    stage.fresh("orders").await;
    assert_eq!(stage.refreshed(&orders), 1, "one for both");
    let reset = stage.tableau.truth().connections_reset;
    assert!(reset < 60, "{reset} connections in a minute");
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_while_the_operator_is_down_is_refreshed_once_when_it_is_back() {
    let mut stage = Stage::set("absent").await;
    let (orders, flow) = stage.orders().await;
    stage.operator.terminate().await;
    let run = stage.prefect.complete(&flow).await.unwrap();
    stage.operator.restart().await.unwrap();
    let history = stage.fresh("orders").await.status.unwrap().history;
    assert_eq!(history[0].runs, [run]);
    assert_eq!(stage.refreshed(&orders), 1);
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_job_is_followed_across_a_restart() {
    let mut stage = Stage::set("restart").await;
    let (orders, flow) = stage.orders().await;
    stage.tableau.script(&orders, running_until_released());
    stage.prefect.complete(&flow).await.unwrap();
    stage.extract("orders", "Running", |e| is(e, "Refreshing", "True", "Running")).await;
    stage.operator.kill().await;
    stage.tableau.release_jobs(&orders);
    stage.operator.restart().await.unwrap();
    let history = stage.fresh("orders").await.status.unwrap().history;
    assert_eq!((history.len(), history[0].origin), (1, Some(JobOrigin::Ours)));
    assert_eq!(stage.refreshed(&orders), 1);
    stage.tableau.script(&orders, Script::default());
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_tried_again_until_the_retries_are_used_up_and_new_data_gets_one_try() {
    let stage = Stage::set("fails").await;
    let orders = stage.datasource("Orders");
    let failing = Script {
        outcome: JobOutcome::Failed { notes: "no route to the database".into() },
        ..Script::default()
    };
    stage.tableau.script(&orders, failing);
    let flow = stage.flow("orders").await;
    let mut object = stage.extract_object("orders", "Orders", &["orders"]);
    object["spec"]["retry"] =
        json!({"limit": 2, "backoff": {"duration": "1s", "factor": 1, "maxDuration": "2s"}});
    stage.apply(&[object]).await;
    stage.ready("orders").await;
    stage.prefect.complete(&flow).await.unwrap();
    let exhausted = stage
        .extract("orders", "RetriesExhausted", |e| {
            is(e, "Refreshing", "False", "RetriesExhausted") && is(e, "LastRefreshSucceeded", "False", "")
        })
        .await;
    let status = exhausted.status.unwrap();
    assert_eq!(status.history.iter().filter(|h| h.outcome == Outcome::Failed).count(), 3);
    assert!(status.owed.is_some(), "nothing is forgotten");
    assert_eq!(stage.refreshed(&orders), 3);
    let told = serde_json::to_string(&status.conditions).unwrap();
    assert!(!told.contains("route"), "what Tableau says is not ours to spread: {told}");

    stage.tableau.script(&orders, Script::default());
    stage.prefect.complete(&flow).await.unwrap();
    stage.fresh("orders").await;
    assert_eq!(stage.refreshed(&orders), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_a_person_cancels_is_not_started_again_until_asked() {
    let stage = Stage::set("cancelled").await;
    let (orders, flow) = stage.orders().await;
    stage.tableau.script(&orders, running_until_released());
    stage.prefect.complete(&flow).await.unwrap();
    stage.extract("orders", "Running", |e| is(e, "Refreshing", "True", "Running")).await;
    let job = stage.tableau.truth().refreshes_of(&orders)[0].job.clone();
    stage.tableau.cancel_job(&job);
    stage
        .extract("orders", "Cancelled", |e| {
            is(e, "Refreshing", "False", "Cancelled") && is(e, "LastRefreshSucceeded", "False", "Cancelled")
        })
        .await;
    stage.tableau.script(&orders, Script::default());
    stage.ask("orders", "again").await;
    stage.fresh("orders").await;
    assert_eq!(stage.refreshed(&orders), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_vanishes_is_no_success() {
    let stage = Stage::set("vanished").await;
    let orders = stage.datasource("Orders");
    stage.tableau.script(&orders, Script { outcome: JobOutcome::Vanish, ..Script::default() });
    stage.tableau.script(&orders, Script::default());
    let flow = stage.flow("orders").await;
    let mut object = stage.extract_object("orders", "Orders", &["orders"]);
    object["spec"]["retry"] = json!({"backoff": {"duration": "1s"}});
    stage.apply(&[object]).await;
    stage.ready("orders").await;
    stage.prefect.complete(&flow).await.unwrap();
    let history = stage.fresh("orders").await.status.unwrap().history;
    let outcomes: Vec<Outcome> = history.iter().map(|h| h.outcome).collect();
    assert_eq!(outcomes, [Outcome::Succeeded, Outcome::JobVanished]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_job_list_may_not_be_read_a_lost_answer_is_said_and_sent_again() {
    let tableau = Config { jobs_list_allowed: false, ..Config::default() };
    let operator_args = vec!["--settle".into(), "5s".into()];
    let stage = Stage::set_with("no-list", Setting { tableau, operator_args, ..Setting::default() }).await;
    let (orders, flow) = stage.orders().await;
    let hold = stage.tableau.hold_answer(&orders);
    stage.prefect.complete(&flow).await.unwrap();
    tokio::time::timeout(LIMIT, hold.taken()).await.unwrap();
    stage.tableau.set_availability(Availability::Reset);
    // Which of the two depends on whether the next poll has noticed the outage already.
    stage
        .extract("orders", "the answer given up", |e| {
            is(e, "Refreshing", "False", "Recovering") || is(e, "Refreshing", "False", "JobListUnavailable")
        })
        .await;
    stage.tableau.set_availability(Availability::Up);
    drop(hold);
    stage
        .extract("orders", "JobListUnavailable", |e| is(e, "Refreshing", "False", "JobListUnavailable"))
        .await;
    stage.fresh("orders").await;
    // R1: at most one extra, and it is counted.
    assert_eq!(stage.refreshed(&orders), 2);
    let metrics = stage.operator.metrics().await.unwrap();
    assert!(metrics.contains(r#"feedwater_possible_doubles_total{case="R1"} 1"#), "{metrics}");
}
