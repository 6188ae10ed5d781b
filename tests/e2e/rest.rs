//! A resource at rest costs nothing.

use crate::stage::{LIMIT, SITE, Setting, Stage, is};
use feedwater::api::{ExtractRefresh, FlowDeployment};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use world::audit::{self, Marker};
use world::proxy::Proxy;

/// How long is looked. The poll interval is two seconds, so this is sixty cycles of each observer.
const WINDOW: Duration = Duration::from_secs(120);

/// What a while at rest cost.
#[derive(Debug)]
struct Cost {
    kubernetes_writes: Vec<String>,
    prefect: Cycles,
    tableau: Cycles,
}

/// The calls to one service, by method and path: how often each was made.
#[derive(Debug)]
struct Cycles(BTreeMap<String, usize>);

impl Cycles {
    /// How many cycles of the observer this was: each makes its most frequent call once. A busy machine makes fewer of them in the same time.
    fn count(&self) -> usize {
        self.0.values().copied().max().unwrap_or_default()
    }

    /// Whether a cycle of the one costs what a cycle of the other does: the calls of two cycles may be cut off at either end of the time.
    fn cost_what(&self, other: &Self) -> bool {
        let total = |cycles: &Self| cycles.0.values().sum::<usize>();
        let (here, there) = (total(self) * other.count(), total(other) * self.count());
        let slack = 2 * self.0.len().min(other.0.len()) * self.count().max(other.count());
        here.abs_diff(there) <= slack
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_rest_nothing_is_written_and_fifty_are_read_for_the_price_of_five() {
    let (few, many) = tokio::join!(at_rest("few", 5), at_rest("many", 50));
    for cost in [&few, &many] {
        assert_eq!(cost.kubernetes_writes, Vec::<String>::new());
        assert!(cost.prefect.count() > 20, "the observer of Prefect stands still: {cost:?}");
    }
    assert!(few.prefect.cost_what(&many.prefect), "{few:?} {many:?}");
    assert!(few.tableau.cost_what(&many.tableau), "{few:?} {many:?}");
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
        prefect: proxy.read(|calls| cycles(calls.iter().skip(prefect).map(world::proxy::Entry::what))),
        tableau: cycles(
            stage
                .tableau
                .truth()
                .requests
                .iter()
                .skip(tableau)
                .map(|call| format!("{} {}", call.method, call.path)),
        ),
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

fn cycles(calls: impl Iterator<Item = String>) -> Cycles {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(call).or_default() += 1;
    }
    Cycles(counts)
}
