//! Tableau's own warning on data sources whose data is stale: set once, taken away once, whatever happens in between.

use crate::remote::{Remote, Trouble};
use crate::world::{INSTANCE, NAMESPACE, POLL, Process, World};
use feedwater::model::ids::Luid;
use feedwater::tableau::{STALE, TableauError};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;
use world::apiserver::Action;
use world::resources::{self, condition};

const HOUR: Duration = Duration::from_secs(3600);
const MINE: &str = "We know, and are on it";

/// An extract that wants to be warned of after an hour, and its flow.
fn warning(name: &str) -> Value {
    let mut refresh = World::refresh(name, &[name]);
    refresh["spec"]["freshness"] = json!({"failAfter": "1h", "dataQualityWarning": "WhenStale"});
    refresh
}

/// Fresh extracts of these names.
async fn fresh(names: &[&str]) -> (World, Vec<Luid>, Process) {
    let world = World::new();
    world.connections();
    let mut luids = Vec::new();
    for name in names {
        luids.push(world.publish(name));
        world.server.put("flowdeployments", World::flow(name)).unwrap();
        world.server.put("extractrefreshes", warning(name)).unwrap();
    }
    let operator = world.operator("one");
    world.settle().await;
    for name in names {
        world.complete(name);
    }
    world.settle().await;
    for name in names {
        assert_eq!(condition(&world.exr(name), "Fresh"), Some(("True", "UpToDate")));
    }
    (world, luids, operator)
}

/// What the warnings on a data source say.
fn on(world: &World, luid: &Luid) -> Vec<String> {
    let state = world.tableau.state();
    state.warnings.iter().filter(|(of, _)| of == luid).map(|(_, warning)| warning.message.clone()).collect()
}

fn state(world: &World, name: &str) -> Value {
    world.exr(name)["status"]["dataQualityWarning"]["state"].clone()
}

fn count(world: &World, operation: &str) -> usize {
    world.troubles.log().iter().filter(|call| call.operation == operation).count()
}

fn about_warnings(call: &Remote) -> bool {
    ["warnings", "set_warning", "delete_warning"].contains(&call.operation)
}

fn message(world: &World, name: &str, kind: &str) -> String {
    let exr = world.exr(name);
    let all = exr["status"]["conditions"].as_array().unwrap();
    all.iter().find(|c| c["type"] == kind).unwrap()["message"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn it_is_set_once_and_taken_away_once_and_costs_nothing_in_between() {
    let (world, luids, _operator) = fresh(&["orders", "stock"]).await;
    assert_eq!(count(&world, "warnings"), 0, "who is fresh is not asked about");
    world.until("both are shown", |world| luids.iter().all(|luid| on(world, luid).len() == 1)).await;
    world.settle().await;
    assert!(on(&world, &luids[0])[0].ends_with(&format!("(Feedwater {INSTANCE}/finance/orders)")));
    assert_eq!((state(&world, "orders"), state(&world, "stock")), (json!("Set"), json!("Set")));
    assert_eq!((count(&world, "warnings"), count(&world, "set_warning")), (2, 2));
    let (written, calls) =
        (world.writes().len(), world.troubles.log().iter().filter(|c| about_warnings(c)).count());
    sleep(HOUR * 3).await;
    assert_eq!(world.writes().len(), written, "at rest nothing is written");
    assert_eq!(world.troubles.log().iter().filter(|c| about_warnings(c)).count(), calls, "nor asked");

    world.complete("orders");
    world
        .until("it is fresh", |world| condition(&world.exr("orders"), "Fresh") == Some(("True", "UpToDate")))
        .await;
    world.until("it is shown no more", |world| on(world, &luids[0]).is_empty()).await;
    world.settle().await;
    assert_eq!((state(&world, "orders"), state(&world, "stock")), (Value::Null, json!("Set")));
    assert_eq!((count(&world, "warnings"), count(&world, "delete_warning")), (3, 1));
}

/// What befalls one call of the operator before it is killed.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A call about warnings, which is done or not.
    Call(&'static str, bool),
    /// The n-th write of a status from now on, which is done or not.
    Status(usize, bool),
}

/// The operator is killed in the midst of this, and another one goes on.
async fn kill_at(world: &World, operator: Process, fault: Fault, turn: impl FnOnce()) -> Process {
    let hit = Arc::new(Mutex::new(false));
    let mark = hit.clone();
    match fault {
        Fault::Call(operation, done) => world.troubles.on_call(move |call| {
            let mut hit = mark.lock().unwrap();
            if call.operation != operation || *hit {
                return Trouble::None;
            }
            *hit = true;
            if done { Trouble::DelayAnswer(HOUR) } else { Trouble::Delay(HOUR) }
        }),
        Fault::Status(nth, done) => {
            let mut seen = 0;
            world.server.on_request(move |request| {
                let mut hit = mark.lock().unwrap();
                if request.plural != "extractrefreshes" || request.subresource != "status" || *hit {
                    return Action::Pass;
                }
                seen += 1;
                *hit = seen > nth;
                match (*hit, done) {
                    (false, _) => Action::Pass,
                    (true, true) => Action::DelayAnswer(HOUR),
                    (true, false) => Action::Delay(HOUR),
                }
            });
        }
    }
    turn();
    world.until(&format!("{fault:?}"), |_| *hit.lock().unwrap()).await;
    sleep(Duration::from_secs(1)).await;
    operator.kill();
    world.troubles.on_call(|_| Trouble::None);
    world.server.on_request(|_| Action::Pass);
    world.operator("two")
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_call_there_is_one_while_it_is_stale_and_none_when_it_is_fresh() {
    let mut faults = Vec::new();
    for done in [true, false] {
        faults.extend(["warnings", "set_warning"].map(|operation| Fault::Call(operation, done)));
        faults.extend([0, 1].map(|nth| Fault::Status(nth, done)));
    }
    for fault in faults {
        let (world, luids, operator) = fresh(&["orders"]).await;
        let operator = kill_at(&world, operator, fault, || {}).await;
        world.until("it is set", |world| state(world, "orders") == "Set").await;
        world.settle().await;
        assert_eq!((on(&world, &luids[0]).len(), count(&world, "set_warning") <= 2), (1, true), "{fault:?}");
        drop(operator);
        let _third = world.operator("three");
        world.complete("orders");
        world.until("it is forgotten", |world| state(world, "orders").is_null()).await;
        world.settle().await;
        assert_eq!(on(&world, &luids[0]).len(), 0, "{fault:?}");
    }
    let mut faults = Vec::new();
    for done in [true, false] {
        faults.extend(["warnings", "delete_warning"].map(|operation| Fault::Call(operation, done)));
        // The intent of a refresh, its job, its end with the freshness, and that the warning is gone.
        faults.extend([3, 4].map(|nth| Fault::Status(nth, done)));
    }
    for fault in faults {
        let (world, luids, operator) = fresh(&["orders"]).await;
        world.until("it is set", |world| state(world, "orders") == "Set").await;
        world.settle().await;
        let _second = kill_at(&world, operator, fault, || {
            world.complete("orders");
        })
        .await;
        world.until("it is forgotten", |world| state(world, "orders").is_null()).await;
        world.settle().await;
        assert_eq!(on(&world, &luids[0]).len(), 0, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_neither_asked_for_again_nor_left_behind() {
    for fresh_again in [false, true] {
        let (world, luids, _operator) = fresh(&["orders"]).await;
        world.troubles.once("set_warning", Trouble::LoseAnswer);
        world.until("it is sent", |world| count(world, "set_warning") == 1).await;
        if fresh_again {
            world.complete("orders");
            world.until("it is forgotten", |world| state(world, "orders").is_null()).await;
        } else {
            world.until("it is found", |world| state(world, "orders") == "Set").await;
        }
        world.settle().await;
        assert_eq!(on(&world, &luids[0]).len(), usize::from(!fresh_again));
        assert_eq!(count(&world, "set_warning"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_persons_warning_is_never_touched() {
    let (world, luids, _operator) = fresh(&["orders", "stock"]).await;
    world.tableau.state().add_warning(&luids[0], STALE, MINE);
    world.until("it is told", |world| state(world, "orders") == "Foreign").await;
    world.until("the other is set", |world| state(world, "stock") == "Set").await;
    // A person makes ours their own.
    for (of, warning) in &mut world.tableau.state().warnings {
        if *of == luids[1] {
            warning.message = MINE.into();
        }
    }
    let told = message(&world, "orders", "Fresh");
    assert!(told.contains("somebody else's data quality warning"), "{told}");
    sleep(HOUR * 2).await;
    for flow in ["orders", "stock"] {
        world.complete(flow);
    }
    world
        .until("both are over", |world| ["orders", "stock"].iter().all(|of| state(world, of).is_null()))
        .await;
    for extract in ["orders", "stock"] {
        world.server.remove("extractrefreshes", NAMESPACE, extract).unwrap();
    }
    world.settle().await;
    assert_eq!((on(&world, &luids[0]), on(&world, &luids[1])), (vec![MINE.into()], vec![MINE.into()]));
    assert_eq!((count(&world, "set_warning"), count(&world, "delete_warning")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn it_leaves_with_its_resource_and_its_connection_waits_for_it() {
    for first in ["extractrefreshes", "tableausites", "namespaces"] {
        let (world, luids, _operator) = fresh(&["orders"]).await;
        world.until("it is set", |world| state(world, "orders") == "Set").await;
        world.settle().await;
        let site = world.server.object("tableausites", NAMESPACE, "acme").unwrap();
        assert_eq!(site["metadata"]["finalizers"], json!(["feedwater.dev/in-use"]));
        match first {
            "namespaces" => assert!(!world.server.remove("namespaces", "", NAMESPACE).unwrap()),
            "tableausites" => {
                assert!(!world.server.remove("tableausites", NAMESPACE, "acme").unwrap(), "it waits");
                sleep(POLL * 4).await;
                assert_eq!(on(&world, &luids[0]).len(), 1);
                world.server.remove("extractrefreshes", NAMESPACE, "orders").unwrap();
            }
            _ => assert!(!world.server.remove("extractrefreshes", NAMESPACE, "orders").unwrap()),
        }
        world.until("it is gone", |world| world.server.objects("extractrefreshes").is_empty()).await;
        assert_eq!(on(&world, &luids[0]).len(), 0, "{first}");
    }
    let (world, luids, _operator) = fresh(&["orders"]).await;
    world.until("it is set", |world| state(world, "orders") == "Set").await;
    let orphan = json!({"spec": {"deletionPolicy": "Orphan"}});
    world.server.merge("extractrefreshes", NAMESPACE, "orders", &orphan).unwrap();
    world.settle().await;
    world.server.remove("extractrefreshes", NAMESPACE, "orders").unwrap();
    world.until("it is gone", |world| world.server.objects("extractrefreshes").is_empty()).await;
    assert_eq!(on(&world, &luids[0]).len(), 1, "Orphan leaves it");
}

#[tokio::test(start_paused = true)]
async fn the_connection_is_held_before_the_first_warning() {
    let (world, _luids, _operator) = fresh(&["orders"]).await;
    let (server, bad) = (world.server.clone(), Arc::new(Mutex::new(Vec::new())));
    let unheld = bad.clone();
    world.troubles.on_call(move |call| {
        let held = |plural, name, finalizer: &str| {
            let object = server.object(plural, NAMESPACE, name).unwrap();
            object["metadata"]["finalizers"] == json!([finalizer])
        };
        let both = held("tableausites", "acme", "feedwater.dev/in-use")
            && held("extractrefreshes", "orders", "feedwater.dev/cleanup");
        if call.operation == "set_warning" && !both {
            unheld.lock().unwrap().push(call.operation);
        }
        Trouble::None
    });
    world.until("it is set", |world| state(world, "orders") == "Set").await;
    assert_eq!(*bad.lock().unwrap(), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn what_fails_about_warnings_is_no_trouble_of_the_site_nor_of_refreshes() {
    let (world, luids, _operator) = fresh(&["orders", "stock"]).await;
    world.troubles.on_call(|call| if about_warnings(call) { Trouble::LoseAnswer } else { Trouble::None });
    world.until("it was tried", |world| count(world, "warnings") > 0).await;
    sleep(HOUR).await;
    let site = world.server.object("tableausites", NAMESPACE, "acme").unwrap();
    assert_eq!(condition(&site, "Ready"), Some(("True", "Connected")));
    let tried = world.troubles.log().iter().filter(|c| about_warnings(c)).count();
    assert!((2..30).contains(&tried), "{tried} calls in an hour");
    let jobs = world.jobs_of(&luids[0]);
    world.complete("orders");
    world.until("it is refreshed", |world| world.jobs_of(&luids[0]) == jobs + 1).await;
    world.troubles.on_call(|_| Trouble::None);
    world.until("the other is shown", |world| state(world, "stock") == "Set").await;
    world.settle().await;
    assert_eq!((on(&world, &luids[0]).len(), on(&world, &luids[1]).len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn scopes_that_lack_are_asked_about_once_for_the_site_and_rights_once_for_each() {
    let names = ["a", "b", "c"];
    for (error, calls, said) in [
        (TableauError::MissingScope, 1, "sign in with a personal access token"),
        (TableauError::Forbidden("403157".into()), 3, "the site needs Data Management"),
    ] {
        let (world, luids, _operator) = fresh(&names).await;
        for _ in 0..calls {
            world.tableau.fail("warnings", error.clone());
        }
        world
            .until("all are refused", |world| names.iter().all(|name| state(world, name) == "Refused"))
            .await;
        world.settle().await;
        assert_eq!(count(&world, "warnings"), calls);
        let told = message(&world, "a", "Fresh");
        assert!(told.contains(said), "{told}");
        let written = world.writes().len();
        sleep(HOUR * 3).await;
        assert_eq!((world.writes().len(), count(&world, "warnings")), (written, calls));
        assert_eq!(on(&world, &luids[0]).len(), 0);
        // Somebody grants it, and says so by an edit.
        world.tableau.state().calls.clear();
        let edit = json!({"spec": {"freshness": {"failAfter": "59m"}}});
        world.server.merge("extractrefreshes", NAMESPACE, "a", &edit).unwrap();
        sleep(HOUR).await;
        assert_eq!(on(&world, &luids[0]).len(), 1);
    }
}

/// What a site says for all holds for its data sources, and is no fault of its workbooks.
#[tokio::test(start_paused = true)]
async fn a_sites_defaults_may_ask_for_it() {
    let world = World::new();
    world.connections();
    let mut site = world.server.object("tableausites", NAMESPACE, "acme").unwrap();
    site["spec"]["refreshDefaults"] =
        json!({"freshness": {"failAfter": "30m", "dataQualityWarning": "WhenStale"}});
    world.server.put("tableausites", site).unwrap();
    let luid = world.publish("orders");
    let project = world.tableau.state().projects[0].id.clone();
    world.tableau.publish(feedwater::api::TargetKind::Workbook, "board", &project);
    let mut board = resources::extract_refresh(NAMESPACE, "board", "acme", ("Finance", "board"), &[]);
    board["spec"]["target"]["kind"] = json!("Workbook");
    for mut refresh in [World::refresh("orders", &[]), board] {
        refresh["spec"]["trigger"] = json!({"onCreate": "Refresh"});
        world.server.put("extractrefreshes", refresh).unwrap();
    }
    let _operator = world.operator("one");
    world.until("it is shown", |world| on(world, &luid).len() == 1).await;
    world.settle().await;
    assert_eq!(condition(&world.exr("board"), "Fresh"), Some(("False", "Stale")));
    assert_eq!(condition(&world.exr("board"), "Ready"), Some(("True", "InSync")));
    assert_eq!((world.tableau.state().warnings.len(), state(&world, "board")), (1, Value::Null));
}

/// The connection that it was set through waits for it, though the extract names another by now.
#[tokio::test(start_paused = true)]
async fn it_is_taken_away_where_it_was_when_the_connection_goes_in_the_same_apply() {
    for gone_first in [false, true] {
        let (world, luids, _operator) = fresh(&["orders"]).await;
        world.until("it is set", |world| state(world, "orders") == "Set").await;
        world.settle().await;
        let mut second = world.server.object("tableausites", NAMESPACE, "acme").unwrap();
        second["metadata"] = json!({"name": "second", "namespace": NAMESPACE});
        second["status"] = Value::Null;
        world.server.put("tableausites", second).unwrap();
        world.settle().await;
        let moves = json!({"spec": {"siteRef": {"name": "second"}}});
        if gone_first {
            assert!(!world.server.remove("tableausites", NAMESPACE, "acme").unwrap(), "it waits");
        }
        world.server.merge("extractrefreshes", NAMESPACE, "orders", &moves).unwrap();
        if !gone_first {
            world.server.remove("tableausites", NAMESPACE, "acme").unwrap();
        }
        world
            .until("the connection is gone", |world| {
                world.server.object("tableausites", NAMESPACE, "acme").is_none()
            })
            .await;
        assert_eq!(count(&world, "delete_warning"), 1, "{gone_first}");
        world.settle().await;
        let left = on(&world, &luids[0]).len();
        assert_eq!(left, usize::from(state(&world, "orders") == "Set"), "{gone_first}");
        world.server.remove("extractrefreshes", NAMESPACE, "orders").unwrap();
        world.until("it is gone", |world| world.server.objects("extractrefreshes").is_empty()).await;
        assert_eq!(on(&world, &luids[0]).len(), 0, "{gone_first}");
    }
}

/// Tableau may give the text back otherwise than it was sent.
#[tokio::test(start_paused = true)]
async fn ours_is_known_however_its_text_is_given_back() {
    let (world, luids, operator) = fresh(&["orders"]).await;
    world.tableau.state().escapes = true;
    // Found by what it says, since the answer is lost, and by another process once more.
    world.troubles.once("set_warning", Trouble::LoseAnswer);
    world.until("it is set", |world| state(world, "orders") == "Set").await;
    operator.kill();
    let _next = world.operator("two");
    world.complete("orders");
    world.until("it is forgotten", |world| state(world, "orders").is_null()).await;
    world.settle().await;
    assert_eq!((on(&world, &luids[0]).len(), count(&world, "set_warning")), (0, 1));
}
