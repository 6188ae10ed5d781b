//! Tableau.

use super::Storm;
use crate::stage::{Setting, is};
use crate::triggers::message;
use feedwater::api::{ExtractRefresh, JobOrigin};
use jiff::SignedDuration;
use std::sync::Arc;
use std::time::Duration;
use world::proxy::{Action, Answer, Position, Rule, Verdict};
use world::tableau::Config;

const REFRESH: &str = "/api/*/sites/*/datasources/*/refresh";

/// Waits until the completion is known and a second one is too: what is asked in vain meanwhile is counted after that.
async fn owed(storm: &Storm) {
    let seen = async |run: &str| {
        let is_seen = |e: &ExtractRefresh| {
            let owed = e.status.as_ref().and_then(|s| s.owed.as_ref());
            owed.is_some_and(|owed| owed.occasions.iter().any(|o| o.occasion.run_id == run))
                || e.status
                    .as_ref()
                    .is_some_and(|s| s.marks.iter().any(|m| m.seen.as_ref().is_some_and(|o| o.run_id == run)))
        };
        storm.stage.extract("orders", "seen", is_seen).await;
    };
    for _ in 0..3 {
        let run = storm.stage.prefect.complete(&storm.flow).await.unwrap();
        seen(&run).await;
    }
}

fn refreshes(storm: &Storm) -> Vec<jiff::Timestamp> {
    storm.tableau.read(|all| {
        all.iter().filter(|e| e.verb == "POST" && e.path.ends_with("/refresh")).map(|e| e.came).collect()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_wait_it_waits_as_long_as_it_is_told() {
    let storm = Storm::over("wait-told").await;
    let answer = Answer::status(429).header("Retry-After", "4");
    let throttled = storm.tableau.add(Rule::on("POST", REFRESH, Action::Answer(answer)).times(2));
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    throttled.until_fired(1).await;
    let held = storm
        .stage
        .extract("orders", "HeldByBudget", |e: &ExtractRefresh| is(e, "Refreshing", "False", "HeldByBudget"))
        .await;
    assert!(message(&held, "Refreshing").contains("Tableau"), "{}", message(&held, "Refreshing"));
    storm.has_passed(1).await;
    let sent = refreshes(&storm);
    for pair in sent[..3].windows(2) {
        assert!(pair[1].duration_since(pair[0]) >= SignedDuration::from_secs(4), "{sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_wait_without_a_time_it_waits_a_minute() {
    let storm = Storm::over("wait-untold").await;
    storm.tableau.add(Rule::on("POST", REFRESH, Action::Answer(Answer::status(429))).times(1));
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    let limit = Duration::from_secs(120);
    let covered = |e: &ExtractRefresh| is(e, "Fresh", "True", "UpToDate");
    storm.stage.until_within::<ExtractRefresh>(limit, "orders", "Fresh", covered).await;
    let sent = refreshes(&storm);
    assert_eq!(sent.len(), 2);
    assert!(sent[1].duration_since(sent[0]) >= SignedDuration::from_secs(55), "{sent:?}");
    storm.has_passed(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_throttled_for_a_while() {
    let storm = Storm::over("throttled").await;
    let throttled = storm.tableau.add(Rule::on("*", "/api/**", Action::Answer(Answer::status(429))));
    storm.tableau_is("False", "RateLimited").await;
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    owed(&storm).await;
    let fired = throttled.fired();
    assert!(fired < 30, "{fired} requests into a 429");
    throttled.remove();
    storm.has_passed(1).await;
}

/// Tableau ends the older session of a personal access token when somebody signs in with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_is_signed_in_elsewhere_once_and_then_again_and_again() {
    let storm = Storm::over("elsewhere").await;
    storm.stage.tableau.end_sessions(crate::stage::SITE);
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    storm.stage.fresh("orders").await;
    assert_eq!(storm.stage.refreshed(&storm.orders), 1, "once is mended by signing in again");

    let simulator = Arc::new(storm.stage.tableau.clone());
    let elsewhere = Action::hook(move |_| {
        let simulator = simulator.clone();
        async move {
            simulator.end_sessions(crate::stage::SITE);
            Verdict::GoOn
        }
    });
    let contested =
        storm.tableau.add(Rule::on("POST", "/api/*/auth/signin", elsewhere).at(Position::AfterApplied));
    storm.stage.tableau.end_sessions(crate::stage::SITE);
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    storm.tableau_is("False", "SessionContested").await;
    owed(&storm).await;
    let fired = contested.fired();
    assert!(fired < 20, "{fired} sign-ins against somebody else");
    contested.remove();
    storm.has_passed(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tableau_answers_with_a_hundred_megabytes() {
    let storm = Storm::over("huge-jobs").await;
    let before = storm.peak_memory();
    let body = format!(r#"{{"a":"{}"}}"#, "0".repeat(100 * 1024 * 1024));
    let huge = storm.tableau.add(Rule::on("GET", "/api/**", Action::Answer(Answer::status(200).body(&body))));
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    huge.until_fired(2).await;
    storm.tableau_is("False", "Unreachable").await;
    huge.remove();
    storm.has_passed(1).await;
    let more = storm.peak_memory() - before;
    assert!(more < 100, "{more} MiB for an answer of 100");
}

/// Longer than the POST's deadline and the settle time: its job is found all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tableau_answers_too_late() {
    let storm = Storm::over("late-job").await;
    let stalled =
        storm.tableau.add(Rule::on("POST", REFRESH, Action::Stall).at(Position::AfterApplied).times(1));
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    stalled.until_fired(1).await;
    let history = storm.stage.fresh("orders").await.status.unwrap().history;
    assert_eq!(history[0].origin, Some(JobOrigin::Recovered));
    stalled.release();
    storm.has_passed(1).await;
}

/// The answer is lost, and the job is not in the list for a while that is shorter than the settle time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_list_lags() {
    let setting = Setting { operator_args: vec!["--settle".into(), "10s".into()], ..Setting::default() };
    let storm = Storm::with("lags", setting).await;
    storm.tableau.add(Rule::on("POST", REFRESH, Action::Reset).at(Position::AfterApplied).times(1));
    let empty =
        r#"{"pagination":{"pageNumber":"1","pageSize":"1000","totalAvailable":"0"},"backgroundJobs":{}}"#;
    let lags = storm.tableau.add(Rule::on(
        "GET",
        "/api/*/sites/*/jobs",
        Action::Answer(Answer::status(200).body(empty)),
    ));
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    lags.until_fired(2).await;
    let recovering = |e: &ExtractRefresh| is(e, "Refreshing", "False", "Recovering");
    storm.stage.extract("orders", "Recovering", recovering).await;
    lags.remove();
    let history = storm.stage.fresh("orders").await.status.unwrap().history;
    assert_eq!(history[0].origin, Some(JobOrigin::Recovered));
    storm.has_passed(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tableaus_clock_is_a_minute_ahead() {
    clock_apart("ahead", 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tableaus_clock_is_a_minute_behind() {
    clock_apart("behind", -60).await;
}

/// Ours, a recovered one and somebody else's: each is proven by bounds of Tableau's clock, not by comparing it with another.
async fn clock_apart(name: &str, date_skew: i64) {
    let tableau = Config { date_skew, ..Config::default() };
    let storm = Storm::with(name, Setting { tableau, ..Setting::default() }).await;
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    storm.stage.fresh("orders").await;
    assert_eq!(storm.stage.refreshed(&storm.orders), 1);
    let lost =
        storm.tableau.add(Rule::on("POST", REFRESH, Action::Reset).at(Position::AfterApplied).times(1));
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    lost.until_fired(1).await;
    let recovered = |e: &ExtractRefresh| {
        e.status
            .as_ref()
            .is_some_and(|s| s.history.first().is_some_and(|h| h.origin == Some(JobOrigin::Recovered)))
    };
    storm.stage.extract("orders", "recovered", recovered).await;
    storm.has_passed(2).await;
}
