//! The fakes do what was measured at the real services; a kinder fake would prove nothing.

use feedwater::api::{RefreshType, TargetKind};
use feedwater::clock::Clock;
use feedwater::model::ids::DeploymentName;
use feedwater::prefect::fake::FakePrefect;
use feedwater::prefect::{NewDeployment, NewSchedule, Prefect, PrefectError, RunQuery, StateType, States};
use feedwater::tableau::fake::FakeTableau;
use feedwater::tableau::{JobStatus, Questions, RefreshError, Tableau};
use futures::StreamExt;
use serde_json::{Map, Value, json};
use std::time::Duration;

fn clock() -> Clock {
    Clock::virtual_from("2026-11-24T12:00:00.5Z".parse().unwrap())
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn prefects_writes_cost_what_they_were_measured_to_cost() {
    let fake = FakePrefect::new(clock());
    let name = DeploymentName { flow: "orders".into(), deployment: "nightly".into() };
    let flow = fake.ensure_flow("orders").await.unwrap();
    let new = NewDeployment {
        name: "nightly".into(),
        fields: object(&json!({"tags": ["a"], "parameters": {"x": 1}, "work_pool_name": "pool"})).into(),
    };
    assert_eq!(fake.create_deployment(&flow, &new).await, Err(PrefectError::NotFound), "no such pool");
    fake.state().work_pools.insert("pool".into());
    let id = fake.create_deployment(&flow, &new).await.unwrap();
    let schedule = NewSchedule {
        slug: "daily".into(),
        active: true,
        rule: object(&json!({"rrule": "FREQ=DAILY"})),
        parameters: Map::new(),
        max_scheduled_runs: None,
    };
    fake.add_schedule(&id, &schedule).await.unwrap();
    assert_eq!(fake.add_schedule(&id, &schedule).await, Err(PrefectError::Conflict));
    let since = "2026-11-24T12:00:00Z".parse().unwrap();
    fake.schedule_runs(&id, since).await.unwrap();
    let kept = fake.deployment(&name).await.unwrap().unwrap();
    assert_eq!(kept.fields["work_queue_name"], json!("default"));
    assert_eq!(kept.schedules[0].rule["rrule"], json!("DTSTART:20200101T000000\nFREQ=DAILY"));

    assert!(fake.state().scheduled.contains(&id));
    fake.patch_deployment(&id, &Map::new()).await.unwrap();
    assert!(!fake.state().scheduled.contains(&id), "even an empty PATCH");
    fake.schedule_runs(&id, since).await.unwrap();
    fake.put_schedule(&id, &kept.schedules[0].id, &schedule).await.unwrap();
    assert!(!fake.state().scheduled.contains(&id));
    assert_eq!(fake.deployment(&name).await.unwrap().unwrap().schedules[0].id, kept.schedules[0].id);

    let bare = NewDeployment { name: "nightly".into(), fields: Map::new().into() };
    assert_eq!(fake.create_deployment(&flow, &bare).await.unwrap(), id, "an upsert");
    let over = fake.deployment(&name).await.unwrap().unwrap();
    assert_eq!((over.schedules.len(), &over.fields["parameters"]), (0, &json!({})));
    assert_eq!(over.tags, ["a"]);

    fake.lose_answer("delete_deployment");
    assert_eq!(fake.delete_deployment(&id).await, Err(PrefectError::Ambiguous));
    assert_eq!(fake.deployment(&name).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_forced_completion_keeps_its_old_end_time_and_is_told() {
    let fake = FakePrefect::new(clock());
    let name = DeploymentName { flow: "orders".into(), deployment: "nightly".into() };
    let mut events = fake.events().await.unwrap();
    let crashed = fake.run(&name, StateType::Crashed);
    tokio::time::advance(Duration::from_secs(60)).await;
    let completed = fake.set_state(&crashed.id, StateType::Completed).unwrap();
    assert_eq!(completed.ended_at, crashed.ended_at);
    assert!(completed.state_at > crashed.state_at && completed.state != crashed.state);
    let query = RunQuery { states: States::Completed, limit: 200, ..RunQuery::default() };
    assert_eq!(fake.runs(&query).await.unwrap(), [completed]);
    assert_eq!(events.next().await.unwrap().unwrap().run, crashed.id);
    assert_eq!(events.next().await.unwrap().unwrap().run, crashed.id);
    fake.cut_events();
    assert_eq!(events.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_its_retry_is_in_progress_and_one_that_waits_for_its_time_is_not() {
    let fake = FakePrefect::new(clock());
    let name = DeploymentName { flow: "orders".into(), deployment: "nightly".into() };
    let run = fake.run(&name, StateType::Scheduled);
    let query = RunQuery { states: States::InProgress, limit: 200, ..RunQuery::default() };
    assert_eq!(fake.runs(&query).await.unwrap(), []);
    for (state, is_in_progress) in [
        ((StateType::Pending, "Submitting"), true),
        ((StateType::Running, "Running"), true),
        ((StateType::Scheduled, "AwaitingRetry"), true),
        ((StateType::Paused, "Suspended"), true),
        ((StateType::Cancelling, "Cancelling"), true),
        ((StateType::Completed, "AwaitingRetry"), false),
    ] {
        let run = fake.set_state_named(&run.id, state.0, state.1).unwrap();
        assert_eq!(run.in_progress(), is_in_progress, "{state:?}");
        assert_eq!(fake.runs(&query).await.unwrap().len(), usize::from(is_in_progress), "{state:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn tableau_runs_one_refresh_of_a_content_at_a_time() {
    let clock = clock();
    let fake = FakeTableau::new(clock.clone());
    let project = fake.project("Finance", None);
    let luid = fake.publish(TargetKind::Datasource, "Sales", &project);
    let refresh = || fake.refresh(TargetKind::Datasource, &luid, RefreshType::Full, Duration::from_secs(1));
    fake.lose_refresh_answer();
    assert_eq!(refresh().await, Err(RefreshError::Ambiguous));
    assert_eq!(refresh().await, Err(RefreshError::AlreadyQueued), "it was started all the same");
    let since = clock.now();
    let row = fake.jobs(since, &Questions::default()).await.unwrap().remove(0);
    assert_eq!((row.status, row.title.as_deref()), (JobStatus::Pending, Some("Sales")));
    fake.advance(&row.id, JobStatus::InProgress).unwrap();
    assert_eq!(refresh().await, Err(RefreshError::AlreadyQueued));
    fake.advance(&row.id, JobStatus::Success).unwrap();
    let job = fake.job(&row.id).await.unwrap().job.unwrap();
    assert_eq!((job.status, job.content), (JobStatus::Success, Some(luid.clone())));
    assert_eq!(job.started_at, Some("2026-11-24T12:00:00Z".parse().unwrap()), "whole seconds");
    let next = refresh().await.unwrap();
    fake.cancel(&next).await.unwrap();
    assert_eq!(fake.job(&next).await.unwrap().job.unwrap().status, JobStatus::Cancelled);
    fake.forget(&next);
    assert_eq!(fake.job(&next).await.unwrap().job, None);
}
