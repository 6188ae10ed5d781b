//! A write slot is had in turns: nobody keeps it for as long as he has something to write.

use crate::world::World;
use jiff::SignedDuration;
use serde_json::json;
use world::resources::condition;

#[tokio::test(start_paused = true)]
async fn late_runs_are_asked_for_again_some_at_a_time_and_each_once() {
    let world = World::new();
    world.connections();
    let mut flow = World::flow("orders");
    let noon = json!({"slug": "noon", "cron": {"expression": "0 12 * * *"}});
    flow["spec"]["schedules"].as_array_mut().unwrap().push(noon);
    world.server.put("flowdeployments", flow).unwrap();
    let _operator = world.operator("one");
    world.settle().await;
    let late: Vec<_> =
        (1..=25).map(|n| world.now().checked_sub(SignedDuration::from_mins(n)).unwrap()).collect();
    {
        let mut prefect = world.prefect.state();
        let id = prefect.deployments.keys().next().unwrap().clone();
        prefect.late.extend(late.iter().map(|due| (id.clone(), *due)));
    }
    let begun = world.troubles.log().len();
    let mut flow = world.flow_object("orders");
    flow["spec"]["schedules"] = json!([flow["spec"]["schedules"][0]]);
    world.server.put("flowdeployments", flow).unwrap();
    world.settle().await;
    assert_eq!(condition(&world.flow_object("orders"), "Ready"), Some(("True", "InSync")));
    assert_eq!(world.prefect.state().late.len(), late.len());
    let calls = world.troubles.log();
    let turns: Vec<usize> = calls[begun..]
        .split(|call| call.operation != "restore_runs")
        .map(<[_]>::len)
        .filter(|length| *length > 0)
        .collect();
    assert_eq!(turns, [9, 10, 6], "the first turn deletes the schedule, too");
}
