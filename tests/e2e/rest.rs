//! A resource at rest costs nothing.

use crate::stage::{LIMIT, SITE, Setting, Stage, is};
use feedwater::api::{ExtractRefresh, FlowDeployment};
use serde_json::Value;
use std::time::Duration;
use world::audit::{self, Marker};
use world::proxy::Proxy;

/// How long is looked. The poll interval is two seconds, so this is sixty cycles of each observer.
const WINDOW: Duration = Duration::from_secs(120);

/// What a while at rest cost.
#[derive(Debug)]
struct Cost {
    kubernetes_writes: Vec<String>,
    prefect: usize,
    tableau: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_rest_nothing_is_written_and_fifty_are_read_for_the_price_of_five() {
    let (few, many) = tokio::join!(at_rest("few", 5), at_rest("many", 50));
    for cost in [&few, &many] {
        assert_eq!(cost.kubernetes_writes, Vec::<String>::new());
        assert!(cost.prefect > 60, "the observer of Prefect stands still: {cost:?}");
    }
    // The two windows are not cut at the same point of a cycle.
    let same = |a: usize, b: usize| a.abs_diff(b) <= 6;
    assert!(same(few.prefect, many.prefect), "{few:?} {many:?}");
    assert!(same(few.tableau, many.tableau), "{few:?} {many:?}");
}

async fn at_rest(name: &str, count: usize) -> Cost {
    let info = Stage::info();
    let proxy = Proxy::start(info.prefect_api_url.as_deref().unwrap()).await.unwrap();
    let setting = Setting { poll: "2s", prefect_url: Some(proxy.url().to_owned()), ..Setting::default() };
    let stage = Stage::set_with(name, setting).await;
    stage.connected().await;
    let mut objects: Vec<Value> = Vec::new();
    for n in 0..count {
        let name = format!("n{n:02}");
        stage.tableau.add_datasource(SITE, &["Finance", "Sales"], &name, true);
        objects.push(stage.flow_object(&name));
        objects.push(stage.extract_object(&name, &name, &[&name]));
    }
    stage.apply(&objects).await;
    for n in 0..count {
        let name = format!("n{n:02}");
        // Fifty at once, on a Prefect that others use: it may answer 503, and is asked more seldom then.
        let in_sync = |f: &FlowDeployment| is(f, "Ready", "True", "InSync");
        stage.until_within(4 * LIMIT, &name, "InSync", in_sync).await;
        stage.ready(&name).await;
    }
    // One whole story, so that there is something in status: a completion, a refresh, its end.
    let first = stage.deployed("n00").await;
    stage.prefect.complete(&first).await.unwrap();
    stage.fresh("n00").await;
    stage.annotated(count).await;

    let marker = Marker::now(&stage.info.audit_log);
    let (prefect, tableau) = (proxy.total(), stage.tableau.truth().requests.len());
    // The length of the rest is what is tested.
    tokio::time::sleep(WINDOW).await;
    let cost = Cost {
        kubernetes_writes: audit::writes(&stage.info.audit_log, marker, &stage.operator.user())
            .unwrap()
            .iter()
            .filter(|entry| entry.resource != "leases")
            .map(audit::Entry::what)
            .collect(),
        prefect: proxy.total() - prefect,
        tableau: stage.tableau.truth().requests.len() - tableau,
    };
    // And it was at rest, not dead.
    stage.prefect.complete(&first).await.unwrap();
    stage
        .extract("n00", "the second refresh", |e: &ExtractRefresh| {
            e.status.as_ref().is_some_and(|s| s.history.len() == 2)
        })
        .await;
    cost
}
