//! Who may act on an extract or a deployment that two resources mean.

use crate::budget::Guarded;
use crate::remote::{Service, Trouble};
use crate::tenants::{SITES, allowed, label, rule};
use crate::turning::{Attack, to_the_cluster};
use crate::world::{INSTANCE, NAMESPACE, POLL, Process, World};
use feedwater::api::FINALIZER;
use feedwater::model::ids::Luid;
use feedwater::settings::Scope;
use feedwater::tableau::JobStatus;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::sleep;
use world::resources::{self, condition};

/// Another namespace, which reaches the same site by a connection of its own with this token, and the same Prefect with a key, if it has a Secret for it.
const OTHER: &str = "other";

fn shared(token: Option<&str>) -> World {
    let mut world = World::new();
    world.scope = Scope::Cluster;
    world.connections();
    world.server.put("namespaces", resources::namespace(OTHER)).unwrap();
    if let Some(token) = token {
        world.secret(OTHER, "tableau", &[("name", "token"), ("secret", token), ("apiKey", token)]);
    }
    let site = resources::tableau_site(OTHER, "acme", "https://tableau.example", "acme", "tableau");
    world.server.put("tableausites", site).unwrap();
    let mut workspace = resources::prefect_workspace(OTHER, "prod", "https://prefect.example/api");
    workspace["spec"]["auth"] = json!({"apiKey": {"secretRef": {"name": "tableau"}}});
    world.server.put("prefectworkspaces", workspace).unwrap();
    world
}

fn refresh(namespace: &str) -> Value {
    let mut refresh = resources::extract_refresh(namespace, "orders", "acme", ("Finance", "orders"), &[]);
    refresh["metadata"]["annotations"] = json!({"feedwater.dev/refresh-requested": "once"});
    refresh
}

fn guarded(world: &World, identity: &str) -> Process {
    let services = Arc::new(Guarded(world.prefect.clone(), world.tableau.clone()));
    world.operator_with(identity, "feedwater", Some(services))
}

/// The older one has what it declares, and then no operator runs.
async fn refreshed_by_the_older() -> (World, Luid) {
    let world = shared(Some("value"));
    let luid = world.publish("orders");
    world.server.put("extractrefreshes", refresh(NAMESPACE)).unwrap();
    let first = world.operator("one");
    world.until("the older is refreshed", |world| world.jobs_of(&luid) == 1).await;
    world.settle().await;
    first.kill();
    (world, luid)
}

/// The older one stays the owner while its own connection cannot be used: the younger would make everything of it twice.
#[tokio::test(start_paused = true)]
async fn the_older_keeps_its_extract_while_its_site_cannot_be_reached() {
    let (world, luid) = refreshed_by_the_older().await;

    world.server.remove("secrets", NAMESPACE, "tableau").unwrap();
    world.server.put("extractrefreshes", refresh(OTHER)).unwrap();
    let _second = world.operator("two");
    let younger = |world: &World| world.server.object("extractrefreshes", OTHER, "orders").unwrap();
    world
        .until("the younger is refused", |world| {
            let conditions = younger(world)["status"]["conditions"].clone();
            conditions.as_array().is_some_and(|all| all.iter().any(|c| c["reason"] == "TargetConflict"))
        })
        .await;
    sleep(POLL * 5).await;
    assert_eq!(world.jobs_of(&luid), 1, "{:#?}", younger(&world));
    world.server.remove("extractrefreshes", NAMESPACE, "orders").unwrap();
    world.until("the younger has its turn", |world| world.jobs_of(&luid) == 2).await;
}

type Words = fn(&World, &Value);

/// What the other one, which cannot sign in, says of itself: that it was there first, that it is about to refresh, that it takes its schedules away.
const WORDS: [(&str, Words); 3] = [
    ("it was there first", |world, target| say(world, &json!({"target": target}))),
    ("it refreshes", |world, target| {
        let attempt = json!({
            "id": "1", "phase": "Submitted", "jobId": "long", "intendedAt": "2026-11-25T06:00:00Z",
            "fence": "2026-11-25T06:00:00Z", "site": "acme", "siteLuid": target["siteLuid"], "kind": "Datasource",
            "luid": target["luid"], "refreshType": "Full",
        });
        say(world, &json!({"target": target, "attempt": attempt}));
    }),
    ("it goes", |world, target| {
        let schedules = json!([{"name": "nightly", "taskId": "some", "site": "acme"}]);
        say(world, &json!({"target": target, "schedules": schedules}));
        world.server.remove("extractrefreshes", OTHER, "orders").unwrap();
    }),
];

fn say(world: &World, status: &Value) {
    world.server.merge("extractrefreshes", OTHER, "orders", &json!({"status": status})).unwrap();
}

/// An extract that is refreshed, after an older resource of a namespace that has not the right token (or none) has said that of itself.
async fn said(token: Option<&str>, words: Words) -> (World, Luid, Process) {
    let world = shared(token);
    let mut theirs = refresh(OTHER);
    theirs["metadata"]["finalizers"] = json!([FINALIZER]);
    world.server.put("extractrefreshes", theirs).unwrap();
    let luid = world.publish("orders");
    let operator = guarded(&world, "one");
    world.server.put("extractrefreshes", refresh(NAMESPACE)).unwrap();
    world.until("it is refreshed", |world| world.exr("orders")["status"]["history"].is_array()).await;
    let target = world.exr("orders")["status"]["target"].clone();
    let site = json!({"status": {"siteLuid": target["siteLuid"]}});
    world.server.merge("tableausites", OTHER, "acme", &site).unwrap();
    words(&world, &target);
    sleep(POLL).await;
    (world, luid, operator)
}

/// How long it takes until it is refreshed once more, asked for by this token.
async fn refreshed(world: &World, luid: &Luid, token: &str) -> SignedDuration {
    let (before, began) = (world.jobs_of(luid), world.now());
    let again = json!({"metadata": {"annotations": {"feedwater.dev/refresh-requested": token}}});
    world.server.merge("extractrefreshes", NAMESPACE, "orders", &again).unwrap();
    world.until("it is refreshed again", |world| world.jobs_of(luid) == before + 1).await;
    let took = world.now().duration_since(began);
    sleep(POLL * 3).await;
    assert_ne!(condition(&world.exr("orders"), "Ready"), Some(("False", "TargetConflict")));
    took
}

#[tokio::test(start_paused = true)]
async fn who_is_not_let_in_keeps_nobody_from_an_extract_whatever_its_status_says() {
    for (what, words) in WORDS {
        let (world, luid, operator) = said(Some("guessed"), words).await;
        let took = refreshed(&world, &luid, "again").await;
        assert!(took < SignedDuration::from_secs(60), "{what}: {took}");
        // Nor when the operator is started anew.
        operator.kill();
        let _operator = guarded(&world, "two");
        let took = refreshed(&world, &luid, "anew").await;
        assert!(took < SignedDuration::from_secs(60), "{what}: {took}");
    }
}

/// Without a Secret it is never tried. What may be a Secret that comes late is waited for at a start, and no longer.
#[tokio::test(start_paused = true)]
async fn who_never_tries_to_be_let_in_is_waited_for_only_at_a_start() {
    for (what, words) in WORDS {
        let (world, luid, operator) = said(None, words).await;
        operator.kill();
        let _operator = guarded(&world, "two");
        let took = refreshed(&world, &luid, "again").await;
        assert!(took < SignedDuration::from_secs(400), "{what}: {took}");
        let took = refreshed(&world, &luid, "later").await;
        assert!(took < SignedDuration::from_secs(60), "{what}: {took}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_not_let_in_keeps_nobody_from_a_deployment() {
    let world = shared(Some("guessed"));
    let mut theirs = World::flow("orders");
    theirs["metadata"]["namespace"] = json!(OTHER);
    world.server.put("flowdeployments", theirs).unwrap();
    let _operator = guarded(&world, "one");
    sleep(POLL).await;
    world.server.put("flowdeployments", World::flow("orders")).unwrap();
    let made = |world: &World| condition(&world.flow_object("orders"), "Ready") == Some(("True", "InSync"));
    world.until("it is made", made).await;
    // Let in, it is the older; but what is made already keeps its mark.
    world.server.merge("prefectworkspaces", OTHER, "prod", &json!({"spec": {"auth": null}})).unwrap();
    let told = |world: &World| {
        let theirs = world.server.object("flowdeployments", OTHER, "orders").unwrap();
        condition(&theirs, "Ready") == Some(("False", "TargetConflict"))
    };
    world.until("the other one is told", told).await;
    assert!(made(&world), "{:#}", world.flow_object("orders"));
}

/// Whoever waits for one that is let in goes on when that one is not any more.
#[tokio::test(start_paused = true)]
async fn who_waits_goes_on_when_the_other_is_let_in_no_more() {
    let world = shared(Some("value"));
    world.server.put("extractrefreshes", refresh(OTHER)).unwrap();
    let luid = world.publish("orders");
    let _operator = guarded(&world, "one");
    world.until("the older is refreshed", |world| world.jobs_of(&luid) == 1).await;
    world.settle().await;
    world.server.put("extractrefreshes", refresh(NAMESPACE)).unwrap();
    let conflict =
        |world: &World| condition(&world.exr("orders"), "Ready") == Some(("False", "TargetConflict"));
    world.until("the younger is refused", conflict).await;
    world.secret(OTHER, "tableau", &[("name", "token"), ("secret", "guessed")]);
    world.until("the younger has its turn", |world| world.jobs_of(&luid) == 2).await;
    assert!(!conflict(&world));
}

/// An outage at a start that lasts longer than anybody is waited for: who comes back first has by that nothing of the others'.
#[tokio::test(start_paused = true)]
async fn who_comes_back_first_after_a_long_outage_takes_nothing_from_the_others() {
    let (world, luid) = refreshed_by_the_older().await;

    let down = Arc::new(AtomicBool::new(true));
    let is_down = down.clone();
    world.troubles.on_call(move |call| match call.service {
        Service::Tableau if is_down.load(Ordering::SeqCst) => Trouble::Lose,
        Service::Tableau | Service::Prefect => Trouble::None,
    });
    world.server.remove("secrets", NAMESPACE, "tableau").unwrap();
    world.server.put("extractrefreshes", refresh(OTHER)).unwrap();
    let _second = world.operator("two");
    sleep(POLL * 20).await;
    down.store(false, Ordering::SeqCst);
    let back = |world: &World| {
        let site = world.server.object("tableausites", OTHER, "acme").unwrap();
        condition(&site, "Ready") == Some(("True", "Connected"))
    };
    world.until("the younger is back", back).await;
    sleep(POLL * 2).await;
    world.secret(NAMESPACE, "tableau", &[("name", "token"), ("secret", "value")]);
    sleep(POLL * 30).await;
    let younger = world.server.object("extractrefreshes", OTHER, "orders").unwrap();
    assert_eq!(world.jobs_of(&luid), 1, "{younger:#}");
    assert_eq!(condition(&younger, "Ready"), Some(("False", "TargetConflict")));
}

/// However long it is suspended, and over a restart. Where it leads elsewhere whoever waits for it goes on.
#[tokio::test(start_paused = true)]
async fn a_deployment_stays_its_holders_while_its_connection_is_suspended() {
    let world = shared(Some("value"));
    let change = |spec: &Value| {
        world.server.merge("prefectworkspaces", OTHER, "prod", &json!({ "spec": spec })).unwrap();
    };
    change(&json!({"auth": null}));
    let mut theirs = World::flow("orders");
    theirs["metadata"]["namespace"] = json!(OTHER);
    world.server.put("flowdeployments", theirs).unwrap();
    let first = guarded(&world, "one");
    let marked = |world: &World, namespace: &str| {
        let mark = format!("feedwater:{INSTANCE}/{namespace}/orders");
        world.prefect.state().deployments.values().any(|there| there.tags.contains(&mark))
    };
    world.until("it is made", |world| marked(world, OTHER)).await;
    sleep(POLL * 12).await;
    change(&json!({"suspend": true}));
    let mut ours = World::flow("orders");
    ours["spec"]["adoptionPolicy"] = json!("Adopt");
    world.server.put("flowdeployments", ours).unwrap();
    let conflict =
        |world: &World| condition(&world.flow_object("orders"), "Ready") == Some(("False", "TargetConflict"));
    world.until("the other one is told", conflict).await;
    first.kill();
    let _second = guarded(&world, "two");
    sleep(POLL * 30).await;
    assert!(conflict(&world) && marked(&world, OTHER), "{:#}", world.flow_object("orders"));

    change(&json!({"apiUrl": "https://elsewhere.example/api"}));
    world.until("the other one has its turn", |world| marked(world, NAMESPACE)).await;
    assert!(!marked(&world, OTHER));
}

/// A server of their own calls a job running for ever; then they name the connection of the cluster, and a content that they may not have there.
#[tokio::test(start_paused = true)]
async fn a_job_elsewhere_keeps_nobody_from_an_extract() {
    let attack = Attack::new();
    let mut refresh = World::refresh("orders", &[]);
    refresh["spec"]["timeout"] = json!("24h");
    refresh["spec"]["trigger"] = json!({"onCreate": "Refresh"});
    attack.world.server.put("extractrefreshes", refresh.clone()).unwrap();
    let has = |world: &World| world.exr("orders")["status"]["attempt"]["jobId"].is_string();
    attack.world.until("it has a job", has).await;
    let id = attack.world.exr("orders")["status"]["attempt"]["jobId"].as_str().unwrap().to_owned();
    attack.evil.tableau.advance(&id.as_str().into(), JobStatus::InProgress).unwrap();
    attack.merge("extractrefreshes", &to_the_cluster());
    label(&attack.world, "nobody");
    let (_, mut rules) = allowed();
    rules[0]["namespaces"] = json!({"names": ["sales"]});
    rule(&attack.world, SITES, "acme", &rules);
    sleep(POLL * 3).await;
    attack.world.server.put("namespaces", resources::namespace("sales")).unwrap();
    refresh["metadata"]["namespace"] = json!("sales");
    refresh["spec"]["siteRef"] = to_the_cluster()["siteRef"].clone();
    attack.world.server.put("extractrefreshes", refresh).unwrap();
    let done = |world: &World| {
        let sales = world.server.object("extractrefreshes", "sales", "orders").unwrap();
        condition(&sales, "LastRefreshSucceeded") == Some(("True", "Succeeded"))
    };
    attack.world.until("the other one is refreshed", done).await;
    assert!(has(&attack.world), "it is still under way: {:#}", attack.world.exr("orders"));
}
