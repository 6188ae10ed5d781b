//! A list that changes while it is read: rows are made, deleted and moved between two of its pages. Nothing that is there is ever taken for
//! absent, and nothing is seen twice.

use crate::stub::{Reply, Seen, Stub, json};
use feedwater::api::FlowDeployment;
use feedwater::clock::Clock;
use feedwater::controller::index::Index;
use feedwater::controller::lanes::Lane;
use feedwater::controller::wakes::Wakes;
use feedwater::controller::workspace::{DeploymentView, Hint, Setup, Users, WorkspaceSession};
use feedwater::model::ids::{DeploymentName, ObjectName};
use feedwater::prefect::{Auth, PrefectClient};
use feedwater::runtime::metrics::Metrics;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The server's page limit.
const PAGE: usize = 3;
/// The deployments that are watched; others come and go around them.
const OURS: [&str; 5] = ["c", "f", "i", "l", "o"];

/// What happens to the table after a page of it was given out.
type Change = fn(&mut Vec<String>);

struct Table {
    names: Vec<String>,
    changes: Vec<Change>,
    /// Complete lists to come that leave out this row, however they are read.
    hidden: Option<(&'static str, usize)>,
}

impl Table {
    fn page(&mut self, seen: &Seen) -> Reply {
        let body = seen.json();
        let number = |name: &str| usize::try_from(body[name].as_u64().unwrap()).unwrap();
        let (limit, offset) = (number("limit"), number("offset"));
        if limit > PAGE {
            let told = format!("Invalid limit: must be less than or equal to {PAGE}.");
            return json(422, &json!({"detail": told}));
        }
        // The alphabet is their age, too; of those of one name a database may give out any first.
        self.names.sort();
        if body["sort"] == "NAME_ASC" {
            if offset > 0 {
                self.names.reverse();
            }
            self.names.sort_by_key(|name| name_and_flow(name).0.to_owned());
        }
        let hidden = self.hidden.filter(|(_, lists)| *lists > 0).map(|(name, _)| name);
        let rows: Vec<&String> = self.names.iter().filter(|name| Some(name.as_str()) != hidden).collect();
        let page: Vec<Value> = rows.iter().skip(offset).take(limit).map(|name| row(name)).collect();
        if page.len() < limit
            && let Some((_, lists)) = &mut self.hidden
        {
            *lists = lists.saturating_sub(1);
        }
        if let Some(change) = self.changes.pop() {
            change(&mut self.names);
        }
        json(200, &json!(page))
    }
}

/// `a@b` is `a` of the flow `b`, which is not ours.
fn name_and_flow(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, "orders"))
}

fn row(name: &str) -> Value {
    let (deployment, flow) = name_and_flow(name);
    json!({"id": format!("id-{name}"), "name": deployment, "flow_id": flow, "schedules": []})
}

fn answer(table: &Mutex<Table>, seen: &Seen) -> Reply {
    let mut table = table.lock().unwrap();
    match seen.target.as_str() {
        "/api/admin/version" => json(200, &json!("3.9.1")),
        "/api/flows/filter" => json(200, &json!([{"id": "orders", "name": "orders"}])),
        "/api/deployments/filter" => table.page(seen),
        "/api/flow_runs/filter" => json(200, &json!([])),
        target => match target.strip_prefix("/api/deployments/name/orders/") {
            Some(name) if table.names.iter().any(|n| n == name) => json(200, &row(name)),
            Some(_) => json(404, &json!({"detail": "Deployment not found"})),
            None => json(422, &json!({"detail": "CSRF protection is disabled."})),
        },
    }
}

fn name(deployment: &str) -> DeploymentName {
    DeploymentName { flow: "orders".into(), deployment: deployment.into() }
}

/// A session that watches all of [`OURS`], and the table it reads.
async fn session(names: &[&str]) -> (Arc<WorkspaceSession>, Arc<Mutex<Table>>, Stub) {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let table = Arc::new(Mutex::new(Table { names, changes: Vec::new(), hidden: None }));
    let served = table.clone();
    let stub = Stub::start(move |seen| answer(&served, seen)).await;
    let clock = Clock::virtual_from("2026-11-24T12:00:00Z".parse().unwrap());
    let index = Arc::new(Index::default());
    for deployment in OURS {
        let flow: FlowDeployment = serde_json::from_value(json!({
            "apiVersion": "feedwater.dev/v1alpha1", "kind": "FlowDeployment",
            "metadata": {"name": deployment, "namespace": "a", "uid": deployment},
            "spec": {"workspaceRef": {"name": "prod"}, "flowName": "orders", "deploymentName": deployment,
                     "entrypoint": "x.py:x", "workPool": {"name": "etl"}},
            "status": {"fullName": format!("orders/{deployment}")}
        }))
        .unwrap();
        index.on_flow(&Event::Apply(flow));
    }
    let users = Arc::new(Users::default());
    users.add(ObjectName { namespace: "a".into(), name: "prod".into() }, Duration::from_secs(3600));
    let setup = Setup {
        clock: clock.clone(),
        index,
        wakes: Wakes::new().0,
        users,
        lane: Lane::adaptive(clock),
        written: Arc::default(),
        metrics: Arc::new(Metrics::default()),
        gap: Arc::new(|| false),
        cursor: Arc::new(|_, _| {}),
        connected: Arc::new(|_| {}),
    };
    let client = PrefectClient::new(stub.http("prefect", "/api"), Auth::None).unwrap();
    let session = WorkspaceSession::start(Arc::new(client), setup);
    (session, table, stub)
}

/// Has everything read once more, and returns when that is done.
async fn read_again(session: &WorkspaceSession) {
    let read_from = || session.snapshot().deployments[&name(OURS[0])].read_from;
    let before = read_from();
    session.hint(Hint::Interest);
    let done = async {
        while read_from() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done).await.unwrap();
}

async fn until_seen(session: &WorkspaceSession) {
    let done = async {
        while OURS.iter().any(|n| !matches!(session.deployment(&name(n)), DeploymentView::Present(_))) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done).await.unwrap();
}

#[tokio::test]
async fn a_page_that_changes_while_it_is_read_makes_nothing_absent() {
    let first: Change = |names| drop(names.remove(0));
    let before: Change = |names| names.insert(0, "a0".into());
    let moved: Change = |names| {
        names.retain(|name| name != "b");
        names.push("z".into());
    };
    let nothing: Change = |_| {};
    let all = ["0", "1", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
    for (what, changes) in [
        ("a row of the first page is deleted", vec![first]),
        ("one after each page", vec![first, first]),
        ("in each of three readings", vec![first, nothing, first, nothing, first]),
        ("a row is made before all", vec![before]),
        ("one moves from the front to the end", vec![moved]),
        ("both ways at once", vec![moved, before, first]),
    ] {
        let (session, table, _stub) = session(&all).await;
        until_seen(&session).await;
        table.lock().unwrap().changes = changes.into_iter().rev().collect();
        read_again(&session).await;
        assert!(table.lock().unwrap().changes.is_empty(), "{what}");
        for ours in OURS {
            let view = session.deployment(&name(ours));
            assert!(matches!(view, DeploymentView::Present(_)), "{what}: {ours} is {view:?}");
        }
        assert_eq!(session.snapshot().deployments.len(), OURS.len(), "{what}: each once");
    }
}

/// Even a list that lacks a row twice, as none that was read should, is not believed before the row was asked for by its name.
#[tokio::test]
async fn absence_from_two_lists_is_confirmed_by_name_and_a_404_is_believed() {
    let (session, table, stub) = session(&OURS).await;
    until_seen(&session).await;
    let names_asked = || stub.count("/deployments/name/");
    table.lock().unwrap().hidden = Some(("f", 2));
    read_again(&session).await;
    assert!(matches!(session.deployment(&name("f")), DeploymentView::Present(_)));
    assert_eq!(names_asked(), 1);

    table.lock().unwrap().names.retain(|name| name != "i");
    read_again(&session).await;
    assert_eq!(session.deployment(&name("i")), DeploymentView::Absent);
    assert_eq!(names_asked(), 2);
    for _ in 0..3 {
        read_again(&session).await;
    }
    assert_eq!(names_asked(), 2, "what is known to be absent costs no call each");
}

/// Deployments of one name in several flows: their order among each other is the database's, page by page.
#[tokio::test]
async fn names_that_repeat_across_flows_tear_no_list() {
    let (session, _, stub) = session(&["c", "c@1", "c@2", "c@3", "f", "i", "l", "o"]).await;
    until_seen(&session).await;
    let (refused, pages) = (1, 4);
    assert_eq!(stub.count("/deployments/filter"), refused + pages, "read once");
}

/// What a status says was made is asked for by its name, also by a process that has never seen it: else a deletion would leave it behind.
#[tokio::test]
async fn what_was_made_before_a_restart_is_not_absent_because_lists_lack_it() {
    let (session, table, stub) = session(&OURS).await;
    table.lock().unwrap().hidden = Some(("f", 2));
    until_seen(&session).await;
    assert_eq!(stub.count("/deployments/name/"), 1);
}
