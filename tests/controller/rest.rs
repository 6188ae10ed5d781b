//! A resource at rest costs nothing, and work is proportional to what changed.

use crate::world::{NAMESPACE, POLL, World};
use feedwater::prefect::StateType;
use serde_json::json;
use std::collections::BTreeSet;
use tokio::time::sleep;

const MANY: usize = 40;

/// Many extracts, each after a flow of its own.
fn many(world: &World) {
    world.connections();
    for index in 0..MANY {
        let name = format!("extract-{index}");
        world.publish(&name);
        world.server.put("flowdeployments", World::flow(&name)).unwrap();
        world.server.put("extractrefreshes", World::refresh(&name, &[&name])).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn work_after_a_storm_is_proportional_to_what_changed() {
    let world = World::new();
    many(&world);
    let _operator = world.operator("one");
    world.settle().await;

    // Every watch begins anew with a list, and every event stream too.
    let written = world.writes().len();
    for plural in ["extractrefreshes", "flowdeployments", "prefectworkspaces", "tableausites", "secrets"] {
        world.server.expire(plural);
    }
    world.prefect.cut_events();
    sleep(POLL * 3).await;
    assert_eq!(world.writes().len(), written, "what nothing changed for is written");

    // During an outage one flow completes.
    world.complete("extract-7");
    world.settle().await;
    let changed: BTreeSet<String> = world.writes()[written..].iter().map(|call| call.name.clone()).collect();
    assert_eq!(changed, BTreeSet::from(["extract-7".to_owned()]), "one flow completed");
    assert_eq!(world.jobs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_do_not_grow_with_the_number_of_resources() {
    let mut calls = Vec::new();
    for resources in [1, MANY] {
        let world = World::new();
        if resources == 1 {
            world.with_orders();
        } else {
            many(&world);
        }
        let _operator = world.operator("one");
        world.settle().await;
        let before = world.troubles.log().len();
        sleep(POLL * 100).await;
        calls.push(world.troubles.log().len() - before);
    }
    assert_eq!(calls[0], calls[1], "calls at rest for one resource, and for {MANY}");
}

#[tokio::test(start_paused = true)]
async fn a_start_of_the_operator_writes_nothing() {
    let world = World::new();
    world.with_orders();
    let first = world.operator("one");
    world.settle().await;
    first.terminate().await.unwrap();
    let written = world.writes().len();
    let second = world.operator("two");
    sleep(POLL * 10).await;
    assert_eq!(world.writes()[written..], []);
    // It had taken over all the same.
    world.complete("orders");
    world.until("it refreshes", |world| world.jobs().len() == 1).await;
    drop(second);
}

/// Which of the two was the newest once depended on the order of a list.
#[tokio::test(start_paused = true)]
async fn two_runs_that_ended_at_the_same_moment_do_not_make_it_write_again_and_again() {
    let world = World::new();
    world.with_orders();
    let _operator = world.operator("one");
    world.settle().await;
    world.prefect.run(&World::deployment("orders"), StateType::Failed);
    world.prefect.run(&World::deployment("orders"), StateType::Completed);
    world.settle().await;
    let written = world.writes().len();
    for _ in 0..10 {
        world.prefect.state().runs.reverse();
        sleep(POLL).await;
    }
    assert_eq!(world.writes()[written..], []);
}

/// With schedules in Tableau beside: read in bulk, and written once.
#[tokio::test(start_paused = true)]
async fn schedules_at_rest_cost_no_call_each_and_no_write() {
    let mut calls = Vec::new();
    for resources in [1, MANY] {
        let world = World::new();
        world.connections();
        let mut site = world.server.object("tableausites", NAMESPACE, "acme").unwrap();
        site["spec"]["edition"] = json!("Cloud");
        world.server.put("tableausites", site).unwrap();
        for index in 0..resources {
            let name = format!("extract-{index}");
            world.publish(&name);
            let mut refresh = World::refresh(&name, &[]);
            refresh["spec"]["schedules"] = json!([
                {"name": "nightly", "frequency": "Daily", "start": "02:00"},
                {"name": "weekly", "frequency": "Weekly", "start": "05:00", "weekDays": ["Sunday"]},
            ]);
            world.server.put("extractrefreshes", refresh).unwrap();
        }
        let first = world.operator("one");
        world.until("all are made", |world| world.tableau.state().tasks.len() == 2 * resources).await;
        world.settle().await;
        let made = |world: &World| {
            let state = world.tableau.state();
            state.calls.iter().filter(|call| call.starts_with("create_task")).count()
        };
        assert_eq!(made(&world), 2 * resources, "each is made once");
        let (written, before) = (world.writes().len(), world.troubles.log().len());
        sleep(POLL * 100).await;
        calls.push(world.troubles.log().len() - before);
        assert_eq!(world.writes().len(), written);
        // Nor does a start: what is there is known.
        first.terminate().await.unwrap();
        let _second = world.operator("two");
        sleep(POLL * 20).await;
        assert_eq!((world.writes().len(), made(&world)), (written, 2 * resources));
    }
    assert_eq!(calls[0], calls[1], "calls at rest for one resource, and for {MANY}");
}
