//! What Tableau answers when a refresh is started.

use super::{Play, Scene, page, table};
use crate::remote::Trouble;
use feedwater::api::RefreshType;
use feedwater::model::ids::JobId;
use feedwater::tableau::{JobStatus, RefreshError, TableauError};
use serde_json::{Value, json};
use std::time::Duration;

struct Row {
    what: &'static str,
    spec: fn(&mut Value),
    play: Play,
    /// `Refreshing` and `Ready`.
    told: (&'static str, &'static str),
}

const FOLLOWED: (&str, &str) = ("True/Queued", "True/InSync");

/// The next start is refused so, and the flow completes.
fn refused(s: &Scene, error: RefreshError) {
    s.world.tableau.fail_refresh(error);
    s.completes();
}

fn row(what: &'static str, told: (&'static str, &'static str), play: Play) -> Row {
    Row { what, spec: |_| {}, play, told }
}

/// A job is there.
fn busy() -> Vec<Row> {
    vec![
        row("202", FOLLOWED, |s| Box::pin(async move { drop(s.queued().await) })),
        row(
            "409093, and a job of somebody else that contains what is owed is queued: it is followed",
            FOLLOWED,
            |s| {
                Box::pin(async move {
                    s.world.tableau.start_elsewhere(&s.luid, RefreshType::Full).unwrap();
                    s.queued().await;
                })
            },
        ),
        row(
            "409093, and a job of somebody else runs that began before",
            ("False/WaitingForOtherJob", "True/InSync"),
            |s| {
                Box::pin(async move {
                    let theirs = s.world.tableau.start_elsewhere(&s.luid, RefreshType::Full).unwrap();
                    s.ends(&theirs, JobStatus::InProgress);
                    s.completes();
                    let waits = |world: &crate::world::World| {
                        world.exr("orders")["status"]["attempt"]["waitsForJob"].is_string()
                    };
                    s.world.until("it is waited for", waits).await;
                })
            },
        ),
        row(
            "409093, and a run of Tableau's own schedule that began before, and a job of another tool that is queued: that contains what is owed and is followed",
            FOLLOWED,
            |s| {
                Box::pin(async move {
                    let (_, queued) = two_at_once(s);
                    s.completes();
                    assert_eq!(s.follows().await, queued);
                })
            },
        ),
        row(
            "409093, and a run of Tableau's own schedule and one of another tool are under way that began before",
            ("False/WaitingForOtherJob", "True/InSync"),
            |s| {
                Box::pin(async move {
                    let (_, tools) = two_at_once(s);
                    s.ends(&tools, JobStatus::InProgress);
                    s.completes();
                    s.says("Refreshing", "False/WaitingForOtherJob").await;
                    let waits = |world: &crate::world::World| {
                        world.exr("orders")["status"]["attempt"]["waitsForJob"].is_string()
                    };
                    s.world.until("one is waited for", waits).await;
                })
            },
        ),
        row("409093, and no job is seen", ("False/WaitingForOtherJob", "True/InSync"), |s| {
            Box::pin(async move {
                refused(s, RefreshError::AlreadyQueued);
                let read =
                    |world: &crate::world::World| world.tableau.operations().contains(&"jobs".to_owned());
                s.world.until("the list is read", read).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            })
        }),
        row(
            "409093, and the account may not list jobs (no site administrator)",
            ("False/JobListUnavailable", "True/InSync"),
            |s| Box::pin(async move { unlisted(s, RefreshError::AlreadyQueued) }),
        ),
        row("403, though the job was queued (a bug of Tableau): it is followed", FOLLOWED, |s| {
            Box::pin(async move {
                s.world.tableau.start_elsewhere(&s.luid, RefreshType::Full).unwrap();
                refused(s, RefreshError::Forbidden("403004".into()));
                s.follows().await;
            })
        }),
    ]
}

/// A run of Tableau's own schedule, and the job of another tool that is queued beside it: whether they exclude each other depends on their types.
fn two_at_once(s: &Scene) -> (JobId, JobId) {
    let native = s.world.tableau.start_elsewhere(&s.luid, RefreshType::Full).unwrap();
    let tools: JobId = "job-of-a-tool".into();
    {
        let mut state = s.world.tableau.state();
        let mut beside = state.jobs.iter().find(|found| found.job.id == native).unwrap().clone();
        beside.job.id = tools.clone();
        state.jobs.push(beside);
    }
    s.ends(&native, JobStatus::InProgress);
    (native, tools)
}

/// There is none.
fn refusals() -> Vec<Row> {
    vec![
        row("403", ("False/Retrying", "False/PermissionDenied"), |s| {
            Box::pin(async move { refused(s, RefreshError::Forbidden("403004".into())) })
        }),
        row("409090", ("False/Retrying", "False/NoExtract"), |s| {
            Box::pin(async move { refused(s, RefreshError::NoExtract) })
        }),
        row("404", ("False/Retrying", "False/TargetNotFound"), |s| {
            Box::pin(async move { refused(s, RefreshError::NotFound("404004".into())) })
        }),
        row("any other 4xx", ("False/Retrying", "False/RemoteRejected"), |s| {
            Box::pin(async move { refused(s, RefreshError::Rejected("400009".into())) })
        }),
        Row {
            spec: |spec| spec["refreshType"] = json!("IncrementalOrFull"),
            ..row(
                "400 to an incremental refresh, under `IncrementalOrFull`: a full one is started",
                FOLLOWED,
                |s| {
                    Box::pin(async move {
                        refused(s, RefreshError::Rejected("400000".into()));
                        s.follows().await;
                    })
                },
            )
        },
        row("429, retry after 29 minutes", ("False/HeldByBudget", "True/InSync"), |s| {
            let retry_after = Some(Duration::from_secs(29 * 60));
            Box::pin(async move { refused(s, RefreshError::Throttled { retry_after }) })
        }),
        row("401, and after a new sign-in again", ("False/ConnectionUnavailable", "True/InSync"), |s| {
            Box::pin(async move { refused(s, RefreshError::SignInRefused) })
        }),
    ]
}

/// Nobody knows.
fn lost() -> Vec<Row> {
    vec![
        row("the request is not sent: no connection", ("False/ConnectionUnavailable", "True/InSync"), |s| {
            Box::pin(async move {
                s.world.troubles.once("refresh", Trouble::Lose);
                s.completes();
            })
        }),
        row("5xx, a timeout, a reset: a job may be there or not", ("False/Recovering", "True/InSync"), |s| {
            Box::pin(async move { refused(s, RefreshError::Ambiguous) })
        }),
        row(
            "the same, and the account may not list jobs",
            ("False/JobListUnavailable", "True/InSync"),
            |s| Box::pin(async move { unlisted(s, RefreshError::Ambiguous) }),
        ),
        row(
            "the same again and again: it is started ever more seldom",
            ("False/Retrying", "False/RemoteFailed"),
            |s| {
                Box::pin(async move {
                    for _ in 0..2 {
                        s.world.tableau.fail_refresh(RefreshError::Ambiguous);
                    }
                    refused(s, RefreshError::Ambiguous);
                    let twice =
                        |world: &crate::world::World| world.exr("orders")["status"]["owed"]["refusals"] == 3;
                    s.world.until("three were not answered", twice).await;
                })
            },
        ),
    ]
}

/// The job list may not be read.
fn unlisted(s: &Scene, error: RefreshError) {
    for _ in 0..100 {
        s.world.tableau.fail("jobs", TableauError::Forbidden("403004".into()));
    }
    refused(s, error);
}

#[tokio::test(start_paused = true)]
async fn every_answer_to_a_start_says_what_it_is_and_what_comes_next() {
    let mut shown = Vec::new();
    for row in busy().into_iter().chain(refusals()).chain(lost()) {
        let scene = Scene::new(row.spec).await;
        (row.play)(&scene).await;
        scene.says("Refreshing", row.told.0).await;
        scene.says("Ready", row.told.1).await;
        let (refreshing, ready) = (scene.told("Refreshing"), scene.told("Ready"));
        let (events, calls) = (scene.events(), scene.calls());
        let then = scene.then().await;
        let ready = if ready.starts_with("True") { "True".into() } else { ready };
        shown.push(vec![row.what.into(), refreshing, ready, events, calls, then]);
    }
    let head =
        ["Tableau answers", "`Refreshing`", "`Ready`", "Events", "called in Tableau", "the next refresh"];
    page("answers", &table(&head, &shown));
}
