//! A `PrefectWorkspace` gets another name in Git, or the resources another one: what is there stays where it is the same Prefect.

use crate::remote::Trouble;
use crate::world::{INSTANCE, NAMESPACE, POLL, World};
use feedwater::prefect::{Deployment, NewDeployment, Prefect};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;
use world::resources::{self, condition};

const URL: &str = "https://prefect.example/api";

fn there(world: &World) -> Vec<Deployment> {
    world.prefect.state().deployments.values().cloned().collect()
}

fn workspace(world: &World, name: &str, url: &str) {
    world.server.put("prefectworkspaces", resources::prefect_workspace(NAMESPACE, name, url)).unwrap();
}

fn name_it(world: &World, workspace: &str) {
    let spec = json!({"spec": {"workspaceRef": {"name": workspace}}});
    world.server.merge("flowdeployments", NAMESPACE, "orders", &spec).unwrap();
}

fn remove(world: &World, workspace: &str) {
    world.server.remove("prefectworkspaces", NAMESPACE, workspace).unwrap();
}

fn exists(world: &World, workspace: &str) -> bool {
    world.server.object("prefectworkspaces", NAMESPACE, workspace).is_some()
}

fn settled(world: &World) -> Value {
    let flow = world.flow_object("orders");
    assert_eq!(condition(&flow, "Ready"), Some(("True", "InSync")));
    flow["status"].clone()
}

/// One in the workspace `prod`.
fn with_one(policy: Option<&str>) -> World {
    let world = World::new();
    world.connections();
    let mut flow = World::flow("orders");
    if let Some(policy) = policy {
        flow["spec"]["deletionPolicy"] = json!(policy);
    }
    world.server.put("flowdeployments", flow).unwrap();
    world
}

/// In whatever order the three files come, and however long each takes; also where the operator is started anew in between.
#[tokio::test(start_paused = true)]
async fn a_workspace_that_is_renamed_in_git_costs_no_deployment() {
    type Change = fn(&World);
    let (appears, changes, goes): (Change, Change, Change) =
        (|w| workspace(w, "production", URL), |w| name_it(w, "production"), |w| remove(w, "prod"));
    let orders = [
        [appears, changes, goes],
        [appears, goes, changes],
        [changes, appears, goes],
        [changes, goes, appears],
        [goes, appears, changes],
        [goes, changes, appears],
    ];
    for (nth, order) in orders.into_iter().enumerate() {
        for pause in [Duration::ZERO, Duration::from_secs(400)] {
            for policy in [None, Some("Orphan")] {
                let what = format!("{nth} {pause:?} {policy:?}");
                let world = with_one(policy);
                let mut operator = world.operator("one");
                world.settle().await;
                let (before, calls) = (there(&world), world.troubles.writes());
                for (step, change) in order.into_iter().enumerate() {
                    change(&world);
                    sleep(pause).await;
                    if nth % 2 == step && !pause.is_zero() {
                        operator.kill();
                        operator = world.operator("two");
                    }
                }
                world.until(&what, |world| !exists(world, "prod")).await;
                world.settle().await;
                assert_eq!(settled(&world)["workspace"], "production", "{what}");
                assert_eq!((there(&world), world.troubles.writes()), (before, calls), "{what}");
                let held = world.server.object("prefectworkspaces", NAMESPACE, "production").unwrap();
                let held = held["metadata"]["finalizers"] == json!(["feedwater.dev/in-use"]);
                assert_eq!(held, policy.is_none(), "{what}");

                // It is kept as ever, and goes as ever.
                world.server.remove("flowdeployments", NAMESPACE, "orders").unwrap();
                world.settle().await;
                assert_eq!(there(&world).len(), usize::from(policy.is_some()), "{what}");
            }
        }
    }
}

/// What only Prefect Cloud knows is judged by the connection that the spec names, not by the one that is left.
#[tokio::test(start_paused = true)]
async fn a_move_to_cloud_takes_what_is_for_cloud_only_along() {
    const CLOUD: &str = "https://api.prefect.cloud/api/accounts/a/workspaces/w";
    let world = with_one(None);
    let _operator = world.operator("one");
    world.settle().await;
    world.secret(NAMESPACE, "key", &[("apiKey", "value")]);
    let mut cloud = resources::prefect_workspace(NAMESPACE, "cloud", CLOUD);
    cloud["spec"]["auth"] = json!({"apiKey": {"secretRef": {"name": "key"}}});
    world.server.put("prefectworkspaces", cloud).unwrap();
    let info = json!({"type": "vcs:git", "version": "abc"});
    let moved = json!({"spec": {"workspaceRef": {"name": "cloud"}, "versionInfo": info}});
    world.server.merge("flowdeployments", NAMESPACE, "orders", &moved).unwrap();
    world.settle().await;
    assert_eq!(settled(&world)["workspace"], "cloud");
    // And back: it is refused before anything is left.
    let before = there(&world);
    name_it(&world, "prod");
    world.settle().await;
    assert_eq!(condition(&world.flow_object("orders"), "Ready"), Some(("False", "UnsupportedSpec")));
    assert_eq!(there(&world), before);
}

/// To another credential, too: another session, which has read nothing yet.
#[tokio::test(start_paused = true)]
async fn a_change_on_the_way_is_written_once_and_through_the_new_connection() {
    let world = with_one(None);
    let _operator = world.operator("one");
    world.settle().await;
    let id = there(&world)[0].id.clone();
    world.secret(NAMESPACE, "key", &[("apiKey", "value")]);
    let mut next = resources::prefect_workspace(NAMESPACE, "production", URL);
    next["spec"]["auth"] = json!({"apiKey": {"secretRef": {"name": "key"}}});
    world.server.put("prefectworkspaces", next).unwrap();
    let mut flow = world.flow_object("orders");
    flow["spec"]["workspaceRef"]["name"] = json!("production");
    flow["spec"]["description"] = json!("Loads orders");
    world.server.put("flowdeployments", flow).unwrap();
    world.settle().await;
    settled(&world);
    let after = there(&world);
    assert_eq!((after.len(), &after[0].id), (1, &id));
    assert_eq!(after[0].fields["description"], "Loads orders");
    assert_eq!(after[0].tags, [format!("feedwater:{INSTANCE}/finance/orders")]);
    let patched = world.troubles.log().iter().filter(|call| call.operation == "patch_deployment").count();
    assert_eq!(patched, 1);
}

#[tokio::test(start_paused = true)]
async fn in_another_prefect_it_is_made_anew_and_nothing_is_left_behind() {
    let world = with_one(None);
    let _operator = world.operator("one");
    world.settle().await;
    let before = there(&world);
    name_it(&world, "staging");
    sleep(POLL * 20).await;
    assert_eq!(condition(&world.flow_object("orders"), "Ready"), Some(("False", "DependencyNotFound")));
    assert_eq!(there(&world), before, "who knows where it leads");
    // The fake is one Prefect behind whatever address.
    workspace(&world, "staging", "https://prefect.other.example/api");
    world.settle().await;
    settled(&world);
    let after = there(&world);
    assert!(after.len() == 1 && after[0].id != before[0].id, "{after:?}");
}

fn declares(name: &str, deployment: &str) -> Value {
    let mut flow = World::flow("orders");
    flow["metadata"]["name"] = json!(name);
    flow["spec"]["deploymentName"] = json!(deployment);
    flow
}

/// In whatever order the two files come: what the one leaves and the other declares is handed over, and is never deleted.
#[tokio::test(start_paused = true)]
async fn what_one_leaves_and_another_declares_is_handed_over() {
    for other_first in [true, false] {
        for pause in [Duration::ZERO, Duration::from_secs(2)] {
            let world = with_one(None);
            let _operator = world.operator("one");
            world.settle().await;
            let before = there(&world);
            let put = |flow: Value| {
                let _ = world.server.put("flowdeployments", flow);
            };
            let moves = || {
                let spec = json!({"spec": {"deploymentName": "hourly"}});
                world.server.merge("flowdeployments", NAMESPACE, "orders", &spec).unwrap();
            };
            if other_first {
                put(declares("other", "orders"));
                sleep(pause).await;
                moves();
            } else {
                moves();
                sleep(pause).await;
                put(declares("other", "orders"));
            }
            world.settle().await;
            let what = format!("{other_first} {pause:?}");
            let kept = there(&world).into_iter().find(|d| d.name == World::deployment("orders"));
            let kept = kept.expect(&what);
            if pause.is_zero() || other_first {
                assert_eq!(kept.id, before[0].id, "{what}");
            }
            assert!(
                kept.tags.contains(&format!("feedwater:{INSTANCE}/{NAMESPACE}/other")),
                "{what} {kept:?}"
            );
            assert_eq!(condition(&world.flow_object("other"), "Ready"), Some(("True", "InSync")), "{what}");
            assert_eq!(condition(&world.flow_object("orders"), "Ready"), Some(("True", "InSync")), "{what}");
            assert_eq!(there(&world).len(), 2, "{what}");
        }
    }
}

/// Who waits to move there learns that it is free, through whichever connection to that Prefect the other had it.
#[tokio::test(start_paused = true)]
async fn who_waits_for_what_is_kept_through_another_connection_is_handed_it() {
    let world = with_one(None);
    workspace(&world, "production", URL);
    let mut other = declares("other", "hourly");
    other["spec"]["workspaceRef"]["name"] = json!("production");
    world.server.put("flowdeployments", other).unwrap();
    let _operator = world.operator("one");
    world.settle().await;
    let hourly = |world: &World| there(world).into_iter().find(|d| &*d.name.deployment == "hourly");
    let id = hourly(&world).unwrap().id;
    let spec = json!({"spec": {"deploymentName": "hourly"}});
    world.server.merge("flowdeployments", NAMESPACE, "orders", &spec).unwrap();
    world.settle().await;
    assert_eq!(condition(&world.flow_object("orders"), "Ready"), Some(("False", "TargetConflict")));
    world.server.remove("flowdeployments", NAMESPACE, "other").unwrap();
    world.settle().await;
    settled(&world);
    assert_eq!(hourly(&world).map(|kept| kept.id), Some(id));
    assert_eq!(there(&world).len(), 1);
}

/// Names are swapped: nobody waits for ever.
#[tokio::test(start_paused = true)]
async fn two_that_swap_names_both_get_theirs() {
    let world = with_one(None);
    let _operator = world.operator("one");
    world.server.put("flowdeployments", declares("other", "hourly")).unwrap();
    world.settle().await;
    for (name, deployment) in [("orders", "hourly"), ("other", "orders")] {
        let spec = json!({"spec": {"deploymentName": deployment}});
        world.server.merge("flowdeployments", NAMESPACE, name, &spec).unwrap();
    }
    world.settle().await;
    for (name, deployment) in [("orders", "hourly"), ("other", "orders")] {
        assert_eq!(condition(&world.flow_object(name), "Ready"), Some(("True", "InSync")), "{name}");
        let mark = format!("feedwater:{INSTANCE}/{NAMESPACE}/{name}");
        let all = there(&world);
        assert!(all.iter().any(|d| *d.name.deployment == *deployment && d.tags.contains(&mark)), "{all:?}");
    }
}

/// A file gets another name, and what it is then cannot be used at once: its spec is wrong, or its connection, which was renamed as well, is not ready.
/// It is waited for. As long as that takes, nothing is deleted; at the end the deployment stays.
#[tokio::test(start_paused = true)]
async fn what_an_heir_declares_that_cannot_act_yet_is_not_deleted() {
    type Change = fn(&World);
    fn production(spec: &Value) -> Value {
        let mut next = resources::prefect_workspace(NAMESPACE, "production", URL);
        next["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        next
    }
    let put = |world: &World, kind: &str, object: Value| {
        let _ = world.server.put(kind, object);
    };
    let template = json!({"region": {"__prefect_kind": "json", "value": "1"}});
    let (nothing, by_key): (Change, _) =
        (|_| {}, json!({"auth": {"apiKey": {"secretRef": {"name": "key"}}}}));
    let cases: [(&str, Value, Option<Value>, Change); 4] = [
        ("a wrong spec", json!({"parameters": template}), None, |world| {
            let spec = json!({"spec": {"parameters": null}});
            world.server.merge("flowdeployments", NAMESPACE, "other", &spec).unwrap();
        }),
        ("no Secret", json!({"workspaceRef": {"name": "production"}}), Some(by_key), |world| {
            world.secret(NAMESPACE, "key", &[("apiKey", "value")]);
        }),
        (
            "suspended",
            json!({"workspaceRef": {"name": "production"}}),
            Some(json!({"suspend": true})),
            |world| {
                let spec = json!({"spec": {"suspend": false}});
                world.server.merge("prefectworkspaces", NAMESPACE, "production", &spec).unwrap();
            },
        ),
        ("no connection", json!({"workspaceRef": {"name": "production"}}), None, |world| {
            workspace(world, "production", URL);
        }),
    ];
    for (what, spec, connection, mend) in cases {
        for mend in [Some(mend), None] {
            let world = with_one(None);
            let _operator = world.operator("one");
            world.settle().await;
            let before = there(&world);
            let mut other = declares("other", "orders");
            other["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            if let Some(connection) = &connection {
                put(&world, "prefectworkspaces", production(connection));
            }
            put(&world, "flowdeployments", other);
            sleep(POLL).await;
            world.server.remove("flowdeployments", NAMESPACE, "orders").unwrap();
            sleep(Duration::from_secs(90)).await;
            let gone = |world: &World| world.server.object("flowdeployments", NAMESPACE, "orders").is_none();
            assert_eq!((there(&world), gone(&world)), (before.clone(), false), "{what}");
            mend.unwrap_or(nothing)(&world);
            world.until(what, gone).await;
            world.until(what, |world| there(world).len() == 1).await;
            sleep(POLL * 4).await;
            let kept = there(&world);
            assert_eq!((kept.len(), &kept[0].id), (1, &before[0].id), "{what}");
            let theirs = kept[0].tags.contains(&format!("feedwater:{INSTANCE}/{NAMESPACE}/other"));
            let is = condition(&world.flow_object("other"), "Ready") == Some(("True", "InSync"));
            assert_eq!((theirs, is), (mend.is_some(), mend.is_some()), "{what}");
        }
    }
}

/// It is expected, and stands in nobody's way: neither in that of one who declares the same, nor in another namespace or another Prefect.
#[tokio::test(start_paused = true)]
async fn who_is_only_expected_takes_nothing_from_others() {
    let world = with_one(None);
    let mut wrong = declares("other", "hourly");
    wrong["spec"]["parameters"] = json!({"region": {"__prefect_kind": "json", "value": "1"}});
    world.server.put("flowdeployments", wrong).unwrap();
    workspace(&world, "staging", "https://prefect.other.example/api");
    let mut elsewhere = declares("elsewhere", "orders");
    elsewhere["spec"]["workspaceRef"]["name"] = json!("staging");
    elsewhere["spec"]["parameters"] = json!({"region": {"__prefect_kind": "json", "value": "1"}});
    world.server.put("flowdeployments", elsewhere).unwrap();
    let _operator = world.operator("one");
    sleep(POLL).await;
    world.server.put("flowdeployments", declares("third", "hourly")).unwrap();
    world.settle().await;
    assert_eq!(condition(&world.flow_object("third"), "Ready"), Some(("True", "InSync")));
    assert_eq!(there(&world).len(), 2);
    world.server.remove("flowdeployments", NAMESPACE, "orders").unwrap();
    sleep(POLL).await;
    assert_eq!(there(&world).len(), 1, "nobody declares it there");
}

/// A connection that signs in with the Secret `key`.
fn by_key(world: &World, name: &str, spec: &Value) {
    let mut connection = resources::prefect_workspace(NAMESPACE, name, URL);
    connection["spec"] = spec.clone();
    connection["spec"]["auth"] = json!({"apiKey": {"secretRef": {"name": "key"}}});
    world.server.put("prefectworkspaces", connection).unwrap();
}

/// What is there goes on until there can be a new one, and goes then.
#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_for_a_place_that_cannot_be_had() {
    type Change = fn(&World);
    /// How it is prepared, what is declared, what is told, and how it is mended.
    type Case = (&'static str, Change, Value, (&'static str, &'static str), Change);
    const ID: &str = "0b0e7cf0-4f3c-4f0e-9d5b-3a3f3f1d6a01";
    const ELSEWHERE: &str = "https://prefect.other.example/api";
    let to = |workspace: &str| json!({"workspaceRef": {"name": workspace}});
    let unused: Change = |_| {};
    let cases: [Case; 5] = [
        (
            "the Cloud, without the Secret",
            |world| by_key(world, "cloud", &json!({"cloud": {"accountId": ID, "workspaceId": ID}})),
            json!({"workspaceRef": {"name": "cloud"}, "versionInfo": {"type": "vcs:git", "version": "abc"}}),
            ("Unknown", "ConnectionUnavailable"),
            |world| world.secret(NAMESPACE, "key", &[("apiKey", "value")]),
        ),
        (
            "a connection that is suspended",
            |world| {
                workspace(world, "staging", ELSEWHERE);
                let spec = json!({"spec": {"suspend": true}});
                world.server.merge("prefectworkspaces", NAMESPACE, "staging", &spec).unwrap();
            },
            to("staging"),
            ("Unknown", "ConnectionUnavailable"),
            |world| {
                let spec = json!({"spec": {"suspend": false}});
                world.server.merge("prefectworkspaces", NAMESPACE, "staging", &spec).unwrap();
            },
        ),
        (
            "a connection that is being deleted",
            |world| {
                let mut connection = resources::prefect_workspace(NAMESPACE, "staging", ELSEWHERE);
                connection["metadata"]["finalizers"] = json!(["example.com/other"]);
                world.server.put("prefectworkspaces", connection).unwrap();
                remove(world, "staging");
            },
            to("staging"),
            ("Unknown", "ConnectionUnavailable"),
            |world| {
                let none = json!({"metadata": {"finalizers": []}});
                world.server.merge("prefectworkspaces", NAMESPACE, "staging", &none).unwrap();
                workspace(world, "staging", ELSEWHERE);
            },
        ),
        (
            "somebody else's",
            unused,
            json!({"deploymentName": "manual"}),
            ("False", "AdoptionRequired"),
            |world| {
                let spec = json!({"spec": {"adoptionPolicy": "Adopt"}});
                world.server.merge("flowdeployments", NAMESPACE, "orders", &spec).unwrap();
            },
        ),
        (
            "another's",
            |world| {
                world.server.put("flowdeployments", declares("other", "hourly")).unwrap();
            },
            json!({"deploymentName": "hourly"}),
            ("False", "TargetConflict"),
            |world| {
                world.server.remove("flowdeployments", NAMESPACE, "other").unwrap();
            },
        ),
    ];
    for (what, prepare, spec, told, mend) in cases {
        let world = with_one(None);
        let _operator = world.operator("one");
        let flow = world.prefect.ensure_flow("orders").await.unwrap();
        let manual = NewDeployment { name: "manual".into(), fields: serde_json::Map::new().into() };
        world.prefect.create_deployment(&flow, &manual).await.unwrap();
        prepare(&world);
        world.settle().await;
        let before = there(&world);
        world.server.merge("flowdeployments", NAMESPACE, "orders", &json!({ "spec": spec })).unwrap();
        sleep(POLL * 20).await;
        let flow = world.flow_object("orders");
        assert_eq!((condition(&flow, "Ready"), there(&world)), (Some(told), before.clone()), "{what}");
        assert_eq!(flow["status"]["fullName"], "orders/orders", "{what}");
        mend(&world);
        world.settle().await;
        let status = settled(&world);
        let wanted = spec["deploymentName"].as_str().unwrap_or("orders");
        assert_eq!(status["fullName"], format!("orders/{wanted}"), "{what}");
        let former = before.iter().find(|one| one.name == World::deployment("orders")).unwrap();
        assert!(there(&world).iter().all(|one| one.id != former.id), "{what}: the former one is gone");
        let mark = format!("feedwater:{INSTANCE}/{NAMESPACE}/orders");
        let marked = there(&world).iter().filter(|one| one.tags.contains(&mark)).count();
        assert_eq!(marked, 1, "{what}");
    }
}

/// Seconds pass until Prefect has done what it is told, and the heir has a connection of its own: what it has read says nothing of that.
#[tokio::test(start_paused = true)]
async fn an_heir_that_goes_while_it_is_given_a_deployment_leaves_nothing_behind() {
    for renamed in [false, true] {
        let world = with_one(None);
        let _operator = world.operator("one");
        world.secret(NAMESPACE, "key", &[("apiKey", "value")]);
        by_key(&world, "production", &json!({"apiUrl": URL}));
        world.settle().await;
        let mut other = declares("other", "orders");
        other["spec"]["workspaceRef"]["name"] = json!("production");
        world.server.put("flowdeployments", other).unwrap();
        world.settle().await;
        assert_eq!(condition(&world.flow_object("other"), "Ready"), Some(("False", "TargetConflict")));
        world.troubles.once("patch_deployment", Trouble::Delay(Duration::from_secs(6)));
        world.server.remove("flowdeployments", NAMESPACE, "orders").unwrap();
        world
            .until("it is being given", |world| {
                world.troubles.log().iter().any(|call| call.operation == "patch_deployment")
            })
            .await;
        if renamed {
            let spec = json!({"spec": {"deploymentName": "hourly"}});
            world.server.merge("flowdeployments", NAMESPACE, "other", &spec).unwrap();
        } else {
            world.server.remove("flowdeployments", NAMESPACE, "other").unwrap();
        }
        world.settle().await;
        let left: Vec<_> = there(&world).into_iter().map(|one| one.name.to_string()).collect();
        let expected: &[&str] = if renamed { &["orders/hourly"] } else { &[] };
        assert_eq!(left, expected);
    }
}
