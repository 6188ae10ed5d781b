//! What a target can be.

use super::{LUID, Play, Scene, TWIN, page, publish, table};
use crate::world::World;
use feedwater::model::ids::{Luid, ProjectId};
use feedwater::tableau::{Content, TableauError};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

struct Row {
    what: &'static str,
    play: Play,
    ready: &'static str,
}

/// As long as it takes until contents are looked up again.
const LOOKED_UP: Duration = Duration::from_secs(301);
const IN_SYNC: &str = "True/InSync";

fn change(s: &Scene, change: impl Fn(&mut Content)) {
    let mut state = s.world.tableau.state();
    state.contents.iter_mut().filter(|content| content.luid == s.luid).for_each(change);
}

fn archive(s: &Scene) -> ProjectId {
    s.world.tableau.project("Archive", None)
}

fn remove(s: &Scene) {
    s.world.tableau.state().contents.retain(|content| content.luid != s.luid);
}

/// The spec names it by its LUID.
async fn by_luid(s: &Scene) {
    s.edit(|exr| exr["spec"]["target"] = json!({"kind": "Datasource", "luid": LUID}));
    sleep(Duration::from_secs(10)).await;
    s.says("Ready", IN_SYNC).await;
}

/// A namesake in the same project.
fn twin(s: &Scene) -> Luid {
    publish(&s.world, TWIN)
}

fn rows() -> Vec<Row> {
    let row = |what, ready, play: Play| Row { what, play, ready };
    vec![
        row("is named in the spec and was never there", "False/TargetNotFound", |s| {
            Box::pin(async move { s.edit(|exr| exr["spec"]["target"]["name"] = json!("odrers")) })
        }),
        row("is deleted, or hidden from the account", "False/TargetNotFound", |s| {
            Box::pin(async move { remove(s) })
        }),
        row("is missing from a list, which lags, and there by its LUID", IN_SYNC, |s| {
            Box::pin(async move {
                s.world.tableau.state().unlisted.insert(s.luid.clone());
                sleep(LOOKED_UP).await;
            })
        }),
        row("is moved", "False/TargetNotFound", |s| {
            Box::pin(async move {
                let archive = archive(s);
                change(s, |content| content.project = Some(archive.clone()));
            })
        }),
        row("is renamed", "False/TargetNotFound", |s| {
            Box::pin(async move { change(s, |content| content.name = "orders v1".into()) })
        }),
        row("is moved and renamed", "False/TargetNotFound", |s| {
            Box::pin(async move {
                let archive = archive(s);
                change(s, |content| {
                    content.project = Some(archive.clone());
                    content.name = "orders v1".into();
                });
            })
        }),
        row("is moved into a personal space", "False/TargetNotFound", |s| {
            Box::pin(async move { change(s, |content| content.project = None) })
        }),
        row("is named by its LUID, and moved or renamed: it is followed", IN_SYNC, |s| {
            Box::pin(async move {
                by_luid(s).await;
                change(s, |content| content.name = "orders v1".into());
                sleep(LOOKED_UP).await;
            })
        }),
        row("is named by its LUID, and the account may not see it", "False/PermissionDenied", |s| {
            Box::pin(async move {
                by_luid(s).await;
                for _ in 0..10 {
                    s.world.tableau.fail("content", TableauError::Forbidden("403004".into()));
                }
            })
        }),
        row("is one of several of that name", "False/TargetAmbiguous", |s| {
            Box::pin(async move { drop(twin(s)) })
        }),
        row("was one of several, and is alone again", IN_SYNC, |s| {
            Box::pin(async move {
                let twin = twin(s);
                s.says("Ready", "False/TargetAmbiguous").await;
                s.world.tableau.state().contents.retain(|content| content.luid != twin);
                s.says("Ready", IN_SYNC).await;
            })
        }),
        row("is deleted and published anew: another LUID", IN_SYNC, |s| {
            Box::pin(async move {
                remove(s);
                let anew = twin(s);
                let found = |world: &World| world.exr("orders")["status"]["attempt"]["luid"] == anew.as_str();
                s.world.until("it is refreshed", found).await;
                s.follows().await;
            })
        }),
        row("holds no extract any more: a live connection", "False/NoExtract", |s| {
            Box::pin(async move { change(s, |content| content.has_extracts = Some(false)) })
        }),
    ]
}

/// What was covered, and for how long the data is fresh.
fn kept(exr: &Value) -> Value {
    json!([exr["status"]["marks"][0]["covered"], exr["status"]["dataTime"], exr["status"]["history"]])
}

#[tokio::test(start_paused = true)]
async fn everything_a_target_can_be_is_said_and_nothing_that_passes_resets_anything() {
    let mut shown = Vec::new();
    for row in rows() {
        let mut scene = Scene::new(|_| {}).await;
        let job = scene.running().await;
        scene.ends(&job, feedwater::tableau::JobStatus::Success);
        scene.says("Refreshing", "False/UpToDate").await;
        scene.begins();
        let before = kept(&scene.exr());
        (row.play)(&scene).await;
        scene.says("Ready", row.ready).await;
        assert!(row.what.contains("another LUID") || kept(&scene.exr()) == before, "{}", row.what);
        let (ready, events, calls) = (scene.told("Ready"), scene.events(), scene.calls());
        shown.push(vec![row.what.into(), ready, events, calls]);
    }
    let head =
        ["the target", "`Ready`", "Events", "called in Tableau, beside the lists of every five minutes"];
    page("targets", &table(&head, &shown));
}
