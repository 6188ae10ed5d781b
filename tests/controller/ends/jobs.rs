//! How jobs end.

use super::{Play, Scene, TIMEOUT, TWIN, page, publish, table, word};
use crate::world::{NAMESPACE, World};
use feedwater::api::RefreshType;
use feedwater::model::failures::Lasting;
use feedwater::tableau::{JobStatus, RefreshError, TableauError};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

struct Row {
    what: &'static str,
    spec: fn(&mut Value),
    play: Play,
    /// `LastRefreshSucceeded` and `Refreshing`.
    told: (&'static str, &'static str),
}

const DONE: (&str, &str) = ("True/Succeeded", "False/UpToDate");

fn rows() -> Vec<Row> {
    let row = |what, told, play: Play| Row { what, spec: |_| {}, play, told };
    let ours: Vec<Row> = vec![
        row("it succeeds", DONE, |s| Box::pin(async move { s.ends(&s.running().await, JobStatus::Success) })),
        row("it fails", ("False/Failed", "False/Retrying"), |s| {
            Box::pin(async move { s.ends(&s.running().await, JobStatus::Failed) })
        }),
        Row {
            spec: |spec| spec["retry"] = json!({"limit": 0}),
            ..row(
                "it fails, and the retries are used up",
                ("False/RetriesExhausted", "False/RetriesExhausted"),
                |s| Box::pin(async move { s.ends(&s.running().await, JobStatus::Failed) }),
            )
        },
        row(
            "it fails for a reason that a retry does not mend (the table below)",
            ("False/SourceCredentialsInvalid", "False/NotRetried"),
            |s| Box::pin(fails_for_good(s)),
        ),
        Row {
            spec: |spec| spec["refreshType"] = json!("IncrementalOrFull"),
            ..row(
                "an incremental one fails and asks for a full one, under `IncrementalOrFull`: that is started",
                ("False/Failed", "True/Queued"),
                |s| Box::pin(wants_full(s)),
            )
        },
        row("a person cancels it in Tableau", ("False/Cancelled", "False/Cancelled"), |s| {
            Box::pin(async move { s.ends(&s.running().await, JobStatus::Cancelled) })
        }),
        row(
            "it runs longer than `spec.timeout`: Feedwater cancels it",
            ("False/TimedOut", "False/Retrying"),
            |s| Box::pin(async move { drop(s.running().await) }),
        ),
        row("the same, and it succeeds before the cancel arrives", DONE, |s| Box::pin(too_late(s))),
        row("the same, and it may not be cancelled", ("Unknown/NotYetRefreshed", "True/Running"), |s| {
            Box::pin(uncancelled(s))
        }),
        row(
            "its record is gone from Tableau before its end was read",
            ("False/JobVanished", "False/Retrying"),
            |s| Box::pin(async move { s.world.tableau.forget(&s.running().await) }),
        ),
        row("it is stuck in the queue", ("Unknown/NotYetRefreshed", "True/Queued"), |s| {
            Box::pin(async move {
                s.queued().await;
                sleep(TIMEOUT + Duration::from_secs(60)).await;
            })
        }),
        row(
            "the target is edited while it runs; then it succeeds",
            ("False/Superseded", "True/Queued"),
            |s| Box::pin(superseded(s)),
        ),
        row(
            "the target is published anew while it runs (another LUID); then it succeeds",
            ("False/Superseded", "True/Queued"),
            |s| Box::pin(republished(s)),
        ),
        row(
            "the spec names another connection to the site, and the former is deleted before its end was read",
            ("False/JobVanished", "False/Retrying"),
            |s| Box::pin(without_its_connection(s)),
        ),
        row("the answer to its start is lost, and it is found; then it succeeds", DONE, |s| {
            Box::pin(async move {
                s.world.tableau.lose_refresh_answer();
                s.ends(&s.queued().await, JobStatus::Success);
            })
        }),
        row(
            "the answer to its start is lost, and there is none: another is started, and succeeds",
            DONE,
            |s| {
                Box::pin(async move {
                    s.world.tableau.fail_refresh(RefreshError::Ambiguous);
                    s.ends(&s.queued().await, JobStatus::Success);
                })
            },
        ),
    ];
    let adopted: Vec<Row> = vec![
        row("somebody else's, followed since it contains what is owed, succeeds", DONE, |s| {
            Box::pin(async move { s.ends(&adopted(s).await, JobStatus::Success) })
        }),
        row("somebody else's that is followed fails", ("False/Failed", "False/Retrying"), |s| {
            Box::pin(async move { s.ends(&adopted(s).await, JobStatus::Failed) })
        }),
        row("somebody else's that is followed is cancelled", ("False/Cancelled", "False/Retrying"), |s| {
            Box::pin(async move { s.ends(&adopted(s).await, JobStatus::Cancelled) })
        }),
        row(
            "the record of somebody else's that is followed is gone",
            ("False/JobVanished", "False/Retrying"),
            |s| Box::pin(async move { s.world.tableau.forget(&adopted(s).await) }),
        ),
    ];
    ours.into_iter().chain(adopted).collect()
}

/// Our job fails as the table of the code knows it.
pub(super) async fn fails_for_good(s: &Scene) {
    let job = s.running().await;
    let mark =
        |found: &mut feedwater::tableau::fake::FakeJob| found.job.failure = Some(Lasting::SourceCredentials);
    s.world.tableau.state().jobs.iter_mut().filter(|found| found.job.id == job).for_each(mark);
    s.ends(&job, JobStatus::Failed);
}

/// Our job fails, and says that only a full refresh helps.
async fn wants_full(s: &Scene) {
    let job = s.running().await;
    for found in s.world.tableau.state().jobs.iter_mut().filter(|found| found.job.id == job) {
        assert_eq!(found.refresh_type, RefreshType::Incremental);
        found.job.wants_full = true;
    }
    s.ends(&job, JobStatus::Failed);
    s.says("LastRefreshSucceeded", "False/Failed").await;
    let full = s.follows().await;
    let started = s.world.jobs().into_iter().find(|found| found.job.id == full).unwrap();
    assert_eq!(started.refresh_type, RefreshType::Full);
}

/// Tableau knows nothing to cancel any more.
async fn too_late(s: &Scene) {
    let job = s.running().await;
    s.world.tableau.fail("cancel", TableauError::NotFound("404".into()));
    let asked = |world: &World| world.tableau.operations().contains(&"cancel".to_owned());
    s.world.until("it is to be cancelled", asked).await;
    s.ends(&job, JobStatus::Success);
}

/// It runs on.
async fn uncancelled(s: &Scene) {
    s.running().await;
    for _ in 0..100 {
        s.world.tableau.fail("cancel", TableauError::Forbidden("403004".into()));
    }
    let told = |world: &World| world.exr("orders")["status"]["attempt"]["blocked"] == 1;
    s.world.until("it is refused", told).await;
}

async fn republished(s: &Scene) {
    let job = s.running().await;
    s.world.tableau.state().contents.retain(|content| content.luid != s.luid);
    let anew = publish(&s.world, TWIN);
    let found = |world: &World| world.exr("orders")["status"]["target"]["luid"] == anew.as_str();
    s.world.until("it is found", found).await;
    s.ends(&job, JobStatus::Success);
    s.says("LastRefreshSucceeded", "False/Superseded").await;
    s.follows().await;
}

async fn without_its_connection(s: &Scene) {
    let job = s.running().await;
    let mut site = s.world.server.object("tableausites", NAMESPACE, "acme").unwrap();
    site["metadata"] = json!({"name": "acme-by-another-name", "namespace": NAMESPACE});
    site.as_object_mut().unwrap().remove("status");
    s.world.server.put("tableausites", site).unwrap();
    s.edit(|exr| exr["spec"]["siteRef"]["name"] = json!("acme-by-another-name"));
    let taken = |world: &World| {
        let exr = world.exr("orders");
        exr["status"]["observedGeneration"] == exr["metadata"]["generation"]
    };
    s.world.until("the edit is taken", taken).await;
    s.says("Ready", "True/InSync").await;
    assert_eq!(word(&s.exr(), "Refreshing"), "True/Running", "it is followed through the former");
    s.world.server.remove("tableausites", NAMESPACE, "acme").unwrap();
    s.says("LastRefreshSucceeded", "False/JobVanished").await;
    s.ends(&job, JobStatus::Success);
}

async fn superseded(s: &Scene) {
    s.world.publish("orders v2");
    let job = s.running().await;
    s.edit(|exr| exr["spec"]["target"]["name"] = json!("orders v2"));
    let taken = |world: &World| world.exr("orders")["status"]["target"]["name"] == "orders v2";
    s.world.until("the edit is taken", taken).await;
    s.ends(&job, JobStatus::Success);
    s.says("LastRefreshSucceeded", "False/Superseded").await;
    s.follows().await;
}

/// Somebody else's job stands in the queue when the flow completes.
async fn adopted(s: &Scene) -> feedwater::model::ids::JobId {
    let theirs = s.world.tableau.start_elsewhere(&s.luid, RefreshType::Full).unwrap();
    assert_eq!(s.queued().await, theirs);
    s.starts(&theirs).await;
    theirs
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_job_says_what_it_is_and_what_comes_next() {
    let mut shown = Vec::new();
    for row in rows() {
        let scene = Scene::new(row.spec).await;
        (row.play)(&scene).await;
        scene.says("LastRefreshSucceeded", row.told.0).await;
        scene.says("Refreshing", row.told.1).await;
        assert_eq!(word(&scene.exr(), "Ready"), "True/InSync", "{}", row.what);
        let (last, refreshing) = (scene.told("LastRefreshSucceeded"), scene.told("Refreshing"));
        let (events, calls) = (scene.events(), scene.calls());
        let then = scene.then().await;
        shown.push(vec![row.what.into(), last, refreshing, events, calls, then]);
    }
    let head = [
        "the job",
        "`LastRefreshSucceeded`",
        "`Refreshing`",
        "Events",
        "called in Tableau",
        "the next refresh",
    ];
    page("jobs", &table(&head, &shown));
}
