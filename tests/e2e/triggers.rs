//! The main job and what must not disturb it.

use crate::stage::{Stage, is};
use crate::triggers_help::{assert_ended, queued, running, status};
use feedwater::api::{AttemptPhase, JobOrigin, Outcome};
use serde_json::json;
use world::tableau::{Kind, Script};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completed_flow_refreshes_its_extract_and_a_failed_one_does_not() {
    let stage = Stage::set("main-job").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;

    stage.prefect.run_in_state(&flow, "FAILED").await.unwrap();
    stage
        .extract("orders", "UpstreamFailing", |e| is(e, "UpstreamsHealthy", "False", "UpstreamFailing"))
        .await;
    let run = stage.prefect.complete(&flow).await.unwrap();
    stage.refreshes(&orders, 1).await;
    let extract = stage
        .extract("orders", "Fresh", |e| {
            is(e, "Fresh", "True", "UpToDate")
                && is(e, "LastRefreshSucceeded", "True", "Succeeded")
                && is(e, "UpstreamsHealthy", "True", "AllHealthy")
        })
        .await;
    let history = &status(&extract).history;
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].runs, [run]);
    assert_ended(&history[0], Outcome::Succeeded, JobOrigin::Ours);
    assert_eq!(stage.refreshed(&orders), 1);
}

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
    (runs.sort(), both.sort());
    assert_eq!(runs, both);

    // The set is used up: neither alone makes another.
    let third = stage.prefect.complete(&b).await.unwrap();
    stage.sees("orders", "b", &third).await;
    stage.prefect.complete(&a).await.unwrap();
    stage.settled("orders", 2).await;
    assert_eq!(stage.refreshed(&orders), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_completions_during_a_refresh_make_exactly_one_more() {
    let stage = Stage::set("ten").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;
    stage.tableau.script(&orders, running());
    stage.tableau.script(&orders, Script::default());

    stage.prefect.complete(&flow).await.unwrap();
    stage.refreshes(&orders, 1).await;
    stage.activity("orders", "True", "Running").await;
    let mut last = String::new();
    for _ in 0..10 {
        last = stage.prefect.complete(&flow).await.unwrap();
    }
    stage.sees("orders", "orders", &last).await;
    assert_eq!(stage.refreshed(&orders), 1);
    stage.tableau.release_jobs(&orders);

    let extract = stage.settled("orders", 2).await;
    assert_eq!(status(&extract).history[0].runs, [last]);
    assert_eq!(stage.refreshed(&orders), 2);
    stage.one_more("orders", &flow, &orders, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_queued_job_is_adopted() {
    let stage = Stage::set("adopt").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;
    stage.tableau.script(&orders, queued());
    stage.tableau.script(&orders, Script::default());

    let anns = stage.tableau.start_refresh(&orders, Kind::Full, "ann").unwrap();
    let run = stage.prefect.complete(&flow).await.unwrap();
    let adopted = stage
        .extract("orders", "Ann's job adopted", |e| {
            e.status.iter().filter_map(|s| s.attempt.as_ref()).any(|a| a.origin == Some(JobOrigin::Adopted))
        })
        .await;
    assert!(is(&adopted, "Refreshing", "True", "Queued"), "{adopted:#?}");
    stage.tableau.release_jobs(&orders);

    let extract = stage.settled("orders", 1).await;
    let ended = &status(&extract).history[0];
    assert_ended(ended, Outcome::Succeeded, JobOrigin::Adopted);
    assert_eq!((ended.job_id.as_deref(), &ended.runs[..]), (Some(anns.as_str()), &[run][..]));
    assert!(is(&extract, "Fresh", "True", "UpToDate"));
    assert_eq!(stage.refreshed(&orders), 1, "only Ann's");
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_running_job_is_waited_for_and_then_exactly_one_of_ours_runs() {
    let stage = Stage::set("other-job").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;
    stage.tableau.script(&orders, running());
    stage.tableau.script(&orders, Script::default());

    let anns = stage.tableau.start_refresh(&orders, Kind::Full, "ann").unwrap();
    let begun = |t: &world::tableau::Truth| t.refreshes_of(&orders).iter().any(|r| r.started.is_some());
    stage.tableau.wait_for(crate::stage::LIMIT, begun).await.unwrap();
    let run = stage.prefect.complete(&flow).await.unwrap();
    let waiting = stage
        .extract("orders", "waits for Ann's job", |e| {
            e.status
                .iter()
                .filter_map(|s| s.attempt.as_ref())
                .any(|a| a.waits_for_job.as_deref() == Some(&*anns))
        })
        .await;
    assert!(is(&waiting, "Refreshing", "False", "WaitingForOtherJob"), "{waiting:#?}");
    assert_eq!(stage.refreshed(&orders), 1);
    stage.tableau.release_jobs(&orders);

    let extract = stage.settled("orders", 1).await;
    let ended = &status(&extract).history[0];
    assert_ended(ended, Outcome::Succeeded, JobOrigin::Ours);
    assert_eq!(ended.runs, [run]);
    assert_eq!(stage.refreshed(&orders), 2);
    stage.one_more("orders", &flow, &orders, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_run_set_to_completed_by_hand_refreshes() {
    let stage = Stage::set("by-hand").await;
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;

    let run = stage.prefect.run_in_state(&flow, "PENDING").await.unwrap();
    stage.prefect.set_state(&run, "RUNNING").await.unwrap();
    stage.prefect.set_state(&run, "CRASHED").await.unwrap();
    stage
        .extract("orders", "UpstreamFailing", |e| is(e, "UpstreamsHealthy", "False", "UpstreamFailing"))
        .await;
    assert_eq!(stage.refreshed(&orders), 0);

    stage.prefect.set_state(&run, "COMPLETED").await.unwrap();
    let extract = stage.settled("orders", 1).await;
    assert_eq!(status(&extract).history[0].runs, [run]);
    stage.extract("orders", "AllHealthy", |e| is(e, "UpstreamsHealthy", "True", "AllHealthy")).await;
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_edited_while_its_job_runs_is_refreshed_and_the_old_job_is_not_credited() {
    let stage = Stage::set("edited").await;
    let (orders, returns) = (stage.datasource("Orders"), stage.datasource("Returns"));
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;
    stage.tableau.script(&orders, running());

    let run = stage.prefect.complete(&flow).await.unwrap();
    stage.activity("orders", "True", "Running").await;
    stage.edit("orders", json!({ "target": { "name": "Returns" } })).await;
    let edited = stage
        .extract("orders", "the new target", |e| {
            e.status.iter().filter_map(|s| s.target.as_ref()).any(|t| t.luid == returns)
        })
        .await;
    assert_eq!(
        status(&edited).attempt.as_ref().map(|a| a.phase),
        Some(AttemptPhase::Submitted),
        "followed to its end"
    );
    stage.tableau.release_jobs(&orders);

    let extract = stage.settled("orders", 2).await;
    let [new, old] = &status(&extract).history[..] else { panic!("{extract:#?}") };
    assert_ended(new, Outcome::Succeeded, JobOrigin::Ours);
    assert_ended(old, Outcome::Superseded, JobOrigin::Ours);
    assert_eq!((&new.luid, &old.luid), (&returns, &orders));
    assert_eq!((&new.runs[..], &old.runs[..]), (&[run.clone()][..], &[run][..]));
    assert_eq!((stage.refreshed(&orders), stage.refreshed(&returns)), (1, 1));
    stage.one_more("orders", &flow, &returns, 1).await;
    assert_eq!(stage.refreshed(&orders), 1);
}
