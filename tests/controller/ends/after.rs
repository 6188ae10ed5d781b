//! What starts again after an end.

use super::jobs::fails_for_good;
use super::{LONG, Play, Scene, after, page, table};
use feedwater::tableau::JobStatus;
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

/// What a person does, or Prefect.
type Act = fn(&Scene);

const ACTS: [(&str, Act); 5] = [
    ("a request", |s| {
        s.edit(|exr| exr["metadata"]["annotations"]["feedwater.dev/refresh-requested"] = json!("again"));
    }),
    ("an edit of the spec", |s| s.edit(|exr| exr["spec"]["priority"] = json!(60))),
    ("`suspend` set and taken back", |s| s.edit(|exr| exr["spec"]["suspend"] = json!(false))),
    ("new data at once", Scene::completes),
    ("nothing", |_| {}),
];

#[tokio::test(start_paused = true)]
async fn what_starts_again_after_an_end_and_when() {
    let ends: [(&str, &str, Play); 3] = [
        ("RetriesExhausted", "False/RetriesExhausted", |s| {
            Box::pin(async move { s.ends(&s.running().await, JobStatus::Failed) })
        }),
        ("NotRetried", "False/NotRetried", |s| Box::pin(fails_for_good(s))),
        ("Cancelled", "False/Cancelled", |s| {
            Box::pin(async move { s.ends(&s.running().await, JobStatus::Cancelled) })
        }),
    ];
    let mut shown = Vec::new();
    for (reason, told, play) in ends {
        let mut row = vec![format!("`{reason}`")];
        for (what, act) in ACTS {
            let scene = Scene::new(|spec| spec["retry"] = json!({"limit": 0})).await;
            play(&scene).await;
            scene.says("Refreshing", told).await;
            if what.contains("suspend") {
                scene.edit(|exr| exr["spec"]["suspend"] = json!(true));
                scene.says("Refreshing", "False/Suspended").await;
                sleep(Duration::from_secs(60)).await;
            }
            let (from, sent) = (scene.world.now(), scene.world.truth.log().posts.len());
            act(&scene);
            for _ in 0..LONG {
                if scene.world.truth.log().posts.len() > sent {
                    break;
                }
                sleep(Duration::from_secs(60)).await;
            }
            let next = scene.world.truth.log().posts.get(sent).map(|post| post.sent);
            row.push(next.map_or("nothing".into(), |at| after(at.duration_since(from).as_secs())));
        }
        shown.push(row);
    }
    let head: Vec<&str> = std::iter::once("after").chain(ACTS.map(|(what, _)| what)).collect();
    page("after", &table(&head, &shown));
}
