//! Connections wait for those who need them to clean up, in whatever order things are deleted.

use crate::remote::Trouble;
use crate::turning::Attack;
use crate::world::{NAMESPACE, POLL, Process, World};
use feedwater::model::ids::DeploymentId;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use world::resources::{self, condition};

const IN_USE: &str = "feedwater.dev/in-use";
const CONNECTIONS: [(&str, &str); 2] = [("prefectworkspaces", "prod"), ("tableausites", "acme")];
/// Longer than anything takes that waits for no deadline.
const SOON: Duration = Duration::from_secs(60);

/// A namespace whose connections both have a Secret, with these flows, and these extracts with a schedule in Tableau; the operator lives
/// elsewhere.
async fn set(flows: &[&str], extracts: &[&str]) -> (World, Process) {
    let mut world = World::new();
    world.lease_namespace = "system".into();
    world.server.put("namespaces", resources::namespace("system")).unwrap();
    world.connections();
    world.secret(NAMESPACE, "prefect", &[("apiKey", "value")]);
    let mut workspace = world.server.object("prefectworkspaces", NAMESPACE, "prod").unwrap();
    workspace["spec"]["auth"] = json!({"apiKey": {"secretRef": {"name": "prefect"}}});
    world.server.put("prefectworkspaces", workspace).unwrap();
    let mut site = world.server.object("tableausites", NAMESPACE, "acme").unwrap();
    site["spec"]["edition"] = json!("Cloud");
    world.server.put("tableausites", site).unwrap();
    for flow in flows {
        world.server.put("flowdeployments", World::flow(flow)).unwrap();
    }
    for extract in extracts {
        world.publish(extract);
        world.server.put("extractrefreshes", scheduled(extract)).unwrap();
    }
    let operator = world.operator("one");
    world.settle().await;
    assert_eq!(made(&world), (flows.len(), extracts.len()));
    (world, operator)
}

fn scheduled(name: &str) -> Value {
    let mut extract = World::refresh(name, &[]);
    extract["spec"]["schedules"] = json!([{"name": "nightly", "frequency": "Daily", "start": "02:00"}]);
    extract
}

/// How much there is of ours in Prefect and in Tableau.
fn made(world: &World) -> (usize, usize) {
    (world.prefect.state().deployments.len(), world.tableau.state().tasks.len())
}

fn connection(world: &World, (plural, name): (&str, &str)) -> Option<Value> {
    world.server.object(plural, NAMESPACE, name)
}

fn held(world: &World, which: (&str, &str)) -> bool {
    connection(world, which).is_some_and(|object| object["metadata"]["finalizers"] == json!([IN_USE]))
}

fn remove(world: &World, plural: &str, name: &str) -> bool {
    world.server.remove(plural, NAMESPACE, name).unwrap()
}

fn message(object: &Value) -> &str {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|c| c["type"] == "Ready").unwrap()["message"].as_str().unwrap()
}

/// Nothing of the four kinds is left.
fn empty(world: &World) -> bool {
    let kinds = ["prefectworkspaces", "tableausites", "flowdeployments", "extractrefreshes"];
    kinds.iter().all(|plural| world.server.objects(plural).is_empty())
}

fn orphans(operator: &Process) -> Vec<String> {
    let text = operator.metrics.encode().unwrap();
    let lines = text.lines().filter(|line| line.starts_with("feedwater_orphans_total{"));
    lines.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect()
}

/// Everything goes, here and there, before long.
async fn goes(world: &World, operator: &Process) {
    let begun = Instant::now();
    world.until("everything is gone", empty).await;
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    assert_eq!((made(world), orphans(operator)), ((0, 0), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_deleted_first_stays_for_its_users_and_goes_with_them() {
    let (world, operator) = set(&["orders"], &["orders"]).await;
    for which in CONNECTIONS {
        assert!(!remove(&world, which.0, which.1));
    }
    sleep(POLL * 4).await;
    let said = CONNECTIONS.map(|which| {
        let object = connection(&world, which).unwrap();
        assert_eq!(condition(&object, "Ready"), Some(("False", "InUse")));
        message(&object).to_owned()
    });
    assert!(said[0].contains("cleaned up in Prefect: FlowDeployment `orders`; delete"), "{}", said[0]);
    assert!(said[1].contains("cleaned up in Tableau: ExtractRefresh `orders`; delete"), "{}", said[1]);
    // What uses them goes on: a drift is put right.
    assert_eq!(condition(&world.flow_object("orders"), "Ready"), Some(("True", "InSync")));
    let change = json!({"spec": {"description": "changed"}});
    world.server.merge("flowdeployments", NAMESPACE, "orders", &change).unwrap();
    world
        .until("the change arrives", |world| {
            let prefect = world.prefect.state();
            prefect.deployments.values().all(|d| d.fields.get("description") == Some(&json!("changed")))
        })
        .await;
    world.settle().await;
    let written = world.writes().len();
    sleep(POLL * 20).await;
    assert_eq!(world.writes().len(), written, "a connection that is kept is written again and again");

    remove(&world, "flowdeployments", "orders");
    remove(&world, "extractrefreshes", "orders");
    goes(&world, &operator).await;
}

#[tokio::test(start_paused = true)]
async fn everything_deleted_at_once_is_cleaned_up_in_whatever_order() {
    let kinds = [
        ("secrets", vec!["prefect", "tableau"]),
        ("prefectworkspaces", vec!["prod"]),
        ("tableausites", vec!["acme"]),
        ("flowdeployments", vec!["orders", "stock"]),
        ("extractrefreshes", vec!["orders"]),
    ];
    for pause in [Duration::ZERO, Duration::from_millis(20), POLL] {
        for first in 0..kinds.len() {
            let (world, operator) = set(&["orders", "stock"], &["orders"]).await;
            for turn in 0..kinds.len() {
                let (plural, names) = &kinds[(first + turn) % kinds.len()];
                for name in names {
                    remove(&world, plural, name);
                }
                sleep(pause).await;
            }
            goes(&world, &operator).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_deleted_whole_is_cleaned_up_though_its_secrets_go_first() {
    let (world, operator) = set(&["orders", "stock"], &["orders"]).await;
    assert!(!world.server.remove("namespaces", "", NAMESPACE).unwrap());
    assert!(world.server.objects("secrets").is_empty(), "they went at once");
    goes(&world, &operator).await;
    assert_eq!(world.server.object("namespaces", "", NAMESPACE), None);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_reached_is_left_behind_at_the_deadline_and_no_later() {
    let (world, operator) = set(&["orders"], &["orders"]).await;
    world.troubles.on_call(|_| Trouble::Lose);
    sleep(POLL * 2).await;
    world.server.remove("namespaces", "", NAMESPACE).unwrap();
    let begun = Instant::now();
    sleep(world.cleanup / 2).await;
    for which in CONNECTIONS {
        let object = connection(&world, which).unwrap();
        assert_eq!(condition(&object, "Ready"), Some(("False", "InUse")));
        // A call that is lost is a 503 of Prefect here.
        let why = if which.0 == "tableausites" { "Unreachable" } else { "ServiceUnavailable" };
        assert!(message(&object).contains(&format!("cannot be used ({why})")), "{}", message(&object));
    }
    assert_eq!(condition(&world.flow_object("orders"), "Ready"), Some(("False", "DeletionBlocked")));
    let blocked = world.flow_object("orders");
    assert!(message(&blocked).contains("(ServiceUnavailable)"), "{}", message(&blocked));
    world.until("everything is gone", empty).await;
    assert!(begun.elapsed() < world.cleanup + SOON, "{:?}", begun.elapsed());
    assert_eq!((made(&world), orphans(&operator).len()), ((1, 1), 2));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_gone_and_forgotten_hold_nothing_up_beyond_the_deadline() {
    let (world, operator) = set(&["orders"], &["orders"]).await;
    operator.kill();
    world.server.remove("namespaces", "", NAMESPACE).unwrap();
    let begun = Instant::now();
    let operator = world.operator("two");
    sleep(world.cleanup / 2).await;
    let blocked = world.flow_object("orders");
    assert!(message(&blocked).contains("(SecretNotFound)"), "{}", message(&blocked));
    world.until("everything is gone", empty).await;
    assert!(begun.elapsed() < world.cleanup + SOON, "{:?}", begun.elapsed());
    assert_eq!((made(&world), orphans(&operator).len()), ((1, 1), 2));
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_starts_in_between_goes_on() {
    let (world, operator) = set(&["orders"], &["orders"]).await;
    operator.kill();
    for which in CONNECTIONS {
        remove(&world, which.0, which.1);
    }
    remove(&world, "flowdeployments", "orders");
    remove(&world, "extractrefreshes", "orders");
    let operator = world.operator("two");
    goes(&world, &operator).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_user_that_leaves_lets_the_connection_go() {
    let (world, operator) = set(&["orders", "stock", "sales"], &[]).await;
    remove(&world, "prefectworkspaces", "prod");
    remove(&world, "flowdeployments", "orders");
    world.until("one is gone", |world| made(world).0 == 2).await;
    world.settle().await;
    let workspace = connection(&world, CONNECTIONS[0]).unwrap();
    assert!(
        message(&workspace).contains(": FlowDeployment `sales` and FlowDeployment `stock`;"),
        "{}",
        message(&workspace)
    );
    // Moved to another connection, and left behind: neither needs it any more.
    let other = resources::prefect_workspace(NAMESPACE, "other", "https://prefect.example/api");
    world.server.put("prefectworkspaces", other).unwrap();
    let moved = json!({"spec": {"workspaceRef": {"name": "other"}}});
    world.server.merge("flowdeployments", NAMESPACE, "sales", &moved).unwrap();
    let orphan = json!({"spec": {"deletionPolicy": "Orphan"}});
    world.server.merge("flowdeployments", NAMESPACE, "stock", &orphan).unwrap();
    world.until("it is gone", |world| connection(world, CONNECTIONS[0]).is_none()).await;
    world.settle().await;
    assert_eq!(condition(&world.flow_object("sales"), "Ready"), Some(("True", "InSync")));
    assert_eq!((made(&world).0, orphans(&operator)), (2, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_held_before_the_first_write_through_it_and_only_while_it_is_needed() {
    let world = World::new();
    world.connections();
    let mut site = connection(&world, CONNECTIONS[1]).unwrap();
    site["spec"]["edition"] = json!("Cloud");
    world.server.put("tableausites", site).unwrap();
    let _operator = world.operator("one");
    world.settle().await;
    for which in CONNECTIONS {
        assert!(!held(&world, which), "nobody needs it");
    }
    let unheld = Arc::new(Mutex::new(Vec::new()));
    let (server, bad) = (world.server.clone(), unheld.clone());
    world.troubles.on_call(move |call| {
        let (plural, name) = CONNECTIONS[usize::from(call.service == crate::remote::Service::Tableau)];
        let object = server.object(plural, NAMESPACE, name).unwrap();
        if call.writes && object["metadata"]["finalizers"] != json!([IN_USE]) {
            bad.lock().unwrap().push(call.operation);
        }
        Trouble::None
    });
    world.publish("orders");
    world.server.put("flowdeployments", World::flow("orders")).unwrap();
    world.server.put("extractrefreshes", scheduled("orders")).unwrap();
    world.settle().await;
    assert_eq!(made(&world), (1, 1));
    assert_eq!(*unheld.lock().unwrap(), Vec::<&str>::new());
    let changes = |plural| {
        let all = world.writes();
        all.iter().filter(|call| call.plural == plural && call.subresource.is_empty()).count()
    };
    for (plural, name) in CONNECTIONS {
        assert!(held(&world, (plural, name)));
        assert_eq!(changes(plural), 1, "{plural}");
    }
    let written = world.writes().len();
    sleep(POLL * 100).await;
    assert_eq!(world.writes().len(), written, "at rest nothing is written");

    remove(&world, "flowdeployments", "orders");
    remove(&world, "extractrefreshes", "orders");
    world.settle().await;
    for (plural, name) in CONNECTIONS {
        let finalizers = &connection(&world, (plural, name)).unwrap()["metadata"]["finalizers"];
        assert!(finalizers.as_array().is_none_or(Vec::is_empty), "{finalizers}");
        assert_eq!(changes(plural), 2, "{plural}");
    }
    for (plural, name) in CONNECTIONS {
        assert!(remove(&world, plural, name), "who is not needed goes at once");
    }
}

/// As an upgrade finds it.
#[tokio::test(start_paused = true)]
async fn what_an_earlier_build_made_is_held_from_the_start() {
    let (world, operator) = set(&["orders"], &["orders"]).await;
    operator.terminate().await.unwrap();
    let bare = json!({"metadata": {"finalizers": null}});
    for (plural, name) in CONNECTIONS {
        world.server.merge(plural, NAMESPACE, name, &bare).unwrap();
    }
    let _operator = world.operator("two");
    world.settle().await;
    for which in CONNECTIONS {
        assert!(held(&world, which));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_begins_with_a_connection_that_is_being_deleted() {
    let (world, _operator) = set(&["orders"], &["orders"]).await;
    for which in CONNECTIONS {
        remove(&world, which.0, which.1);
    }
    world.publish("stock");
    world.server.put("flowdeployments", World::flow("stock")).unwrap();
    world.server.put("extractrefreshes", scheduled("stock")).unwrap();
    let asked = json!({"metadata": {"annotations": {"feedwater.dev/refresh-requested": "t1"}}});
    world.server.merge("extractrefreshes", NAMESPACE, "stock", &asked).unwrap();
    sleep(POLL * 6).await;
    let waits = Some(("Unknown", "ConnectionUnavailable"));
    assert_eq!(condition(&world.flow_object("stock"), "Ready"), waits);
    assert_eq!(condition(&world.exr("stock"), "Ready"), waits);
    assert_eq!((made(&world), world.jobs().len()), ((1, 1), 0));
    // It does not keep the connection either; and finds the next one of that name.
    remove(&world, "flowdeployments", "orders");
    remove(&world, "extractrefreshes", "orders");
    let gone = |world: &World| CONNECTIONS.iter().all(|which| connection(world, *which).is_none());
    world.until("the connections are gone", gone).await;
    world.connections();
    world
        .until("the new ones are made", |world| {
            made(world) == (1, 1) && condition(&world.exr("stock"), "Ready") == Some(("True", "InSync"))
        })
        .await;
}

/// Neither connection was ever there, or could ever be used: nothing was made, so nothing is waited for.
#[tokio::test(start_paused = true)]
async fn what_never_made_anything_goes_at_once_whatever_its_connection() {
    let world = World::new();
    world.connections();
    let absent = json!({"name": "absent"});
    let (mut flow, mut extract) = (World::flow("orders"), scheduled("orders"));
    flow["spec"]["workspaceRef"] = absent.clone();
    extract["spec"]["siteRef"] = absent;
    // Of another one the connection is there, and nobody answers.
    world.troubles.on_call(|_| Trouble::Lose);
    world.publish("stock");
    for (plural, object) in [
        ("flowdeployments", flow),
        ("extractrefreshes", extract),
        ("flowdeployments", World::flow("stock")),
        ("extractrefreshes", scheduled("stock")),
    ] {
        world.server.put(plural, object).unwrap();
    }
    let operator = world.operator("one");
    sleep(POLL * 4).await;
    assert_eq!(made(&world), (0, 0));
    let kinds = ["flowdeployments", "extractrefreshes"];
    for (plural, name) in kinds.iter().flat_map(|plural| [(*plural, "orders"), (*plural, "stock")]) {
        remove(&world, plural, name);
    }
    let gone = |world: &World| kinds.iter().all(|plural| world.server.objects(plural).is_empty());
    let begun = Instant::now();
    world.until("they are gone", gone).await;
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    assert_eq!(orphans(&operator), Vec::<String>::new());
}

/// The name of the resource is the deployment's where none is declared: another name is another deployment.
#[tokio::test(start_paused = true)]
async fn renamed_without_a_deployment_name_it_declares_another_deployment() {
    let (world, _operator) = set(&["orders"], &[]).await;
    let old = world.prefect.state().deployments.keys().next().cloned().unwrap();
    let mut renamed = World::flow("renamed");
    renamed["spec"]["flowName"] = json!("orders");
    remove(&world, "flowdeployments", "orders");
    world.server.put("flowdeployments", renamed).unwrap();
    world.settle().await;
    assert_eq!(world.server.object("flowdeployments", NAMESPACE, "orders"), None);
    let there = world.flow_object("renamed");
    assert_eq!(condition(&there, "Ready"), Some(("True", "InSync")));
    assert_eq!(there["status"]["fullName"], "orders/renamed");
    let state = world.prefect.state();
    assert!(!state.deployments.contains_key(&old) && state.deployments.len() == 1);
}

/// `orders` becomes `renamed` in Git, which declares the same deployment, and it is still that one.
async fn is_renamed_and_keeps(world: &World, id: &DeploymentId) {
    let mut renamed = World::flow("renamed");
    renamed["spec"]["flowName"] = json!("orders");
    renamed["spec"]["deploymentName"] = json!("orders");
    remove(world, "flowdeployments", "orders");
    world.server.put("flowdeployments", renamed).unwrap();
    world.settle().await;
    assert_eq!(world.server.object("flowdeployments", NAMESPACE, "orders"), None);
    assert_eq!(condition(&world.flow_object("renamed"), "Ready"), Some(("True", "InSync")));
    assert_eq!(world.prefect.state().deployments.keys().collect::<Vec<_>>(), [id]);
}

/// What to do before such a rename: what is declared stays the same, so nothing is written to Prefect, and then the rename keeps it.
#[tokio::test(start_paused = true)]
async fn naming_the_deployment_first_writes_nothing_and_keeps_it() {
    let (world, _operator) = set(&["orders"], &[]).await;
    let id = world.prefect.state().deployments.keys().next().cloned().unwrap();
    let writes = world.troubles.writes();
    let named = json!({"spec": {"deploymentName": "orders"}});
    world.server.merge("flowdeployments", NAMESPACE, "orders", &named).unwrap();
    world.settle().await;
    let seen = world.flow_object("orders");
    assert_eq!(seen["status"]["observedGeneration"], seen["metadata"]["generation"]);
    assert_eq!(world.troubles.writes(), writes);
    is_renamed_and_keeps(&world, &id).await;
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_renamed_hands_its_deployment_over_and_its_connection_stays_held() {
    let (world, operator) = set(&["orders"], &[]).await;
    let id = world.prefect.state().deployments.keys().next().cloned().unwrap();
    let held_before = world.server.history("prefectworkspaces").len();
    is_renamed_and_keeps(&world, &id).await;
    assert_eq!(world.server.history("prefectworkspaces").len(), held_before, "it is not let go in between");
    // Then everything goes at once: it is the heir's to delete.
    remove(&world, "prefectworkspaces", "prod");
    remove(&world, "flowdeployments", "renamed");
    remove(&world, "tableausites", "acme");
    goes(&world, &operator).await;
}

/// The connection that the spec names now may never tell anything.
#[tokio::test(start_paused = true)]
async fn a_site_that_is_left_goes_at_the_deadline_whatever_the_next_one_tells() {
    let attack = Attack::new();
    let mut refresh = World::refresh("orders", &[]);
    refresh["spec"]["schedules"] = json!([{"name": "nightly", "frequency": "Daily", "start": "02:00"}]);
    attack.world.server.put("extractrefreshes", refresh).unwrap();
    let in_sync = |world: &World| condition(&world.exr("orders"), "Ready") == Some(("True", "InSync"));
    attack.world.until("it is in sync", in_sync).await;
    let nowhere = json!({"siteRef": {"kind": "ClusterTableauSite", "name": "nowhere"}});
    attack.merge("extractrefreshes", &nowhere);
    sleep(POLL * 40).await;
    assert!(
        attack.world.exr("orders")["status"]["schedules"][0]["taskId"].is_string(),
        "nobody waits for it"
    );
    assert!(!attack.world.server.remove("tableausites", NAMESPACE, "acme").unwrap(), "it waits");
    attack
        .world
        .until("it goes", |world| world.server.object("tableausites", NAMESPACE, "acme").is_none())
        .await;
}
