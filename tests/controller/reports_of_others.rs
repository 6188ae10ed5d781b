//! A team has a Tableau of its own, which calls a job as one on the platform's site is called, and shares a Prefect with those who refresh there.

use crate::tenants::{flow, refresh};
use crate::turning::Attack;
use crate::world::{NAMESPACE, POLL, World};
use feedwater::prefect::StateType;
use feedwater::tableau::JobStatus;
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

fn number(id: &str) -> u64 {
    id.rsplit('-').next().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_their_own_server_says_of_a_job_is_not_told_of_that_of_others() {
    let attack = Attack::new();
    let world = &attack.world;
    (0..50).for_each(|n| drop(world.tableau.project(&format!("project-{n}"), None)));
    world.engine.lock().unwrap().running = Duration::from_secs(1800);
    world.publish("fx");
    world.server.put("flowdeployments", flow("orders")).unwrap();
    let mut honest = refresh("fx", &["orders"]);
    honest["spec"]["schedules"] = json!([]);
    world.server.put("extractrefreshes", honest).unwrap();
    let mut theirs = World::refresh("orders", &["orders"]);
    theirs["spec"]["suspend"] = json!(true);
    world.server.put("extractrefreshes", theirs).unwrap();
    sleep(POLL * 4).await;
    world.complete("orders");
    let told = |world: &World| world.prefect.state().told.runs.clone();
    let runs = |world: &World| told(world).iter().any(|run| run.state_types().contains(&StateType::Running));
    world.until("it is told", runs).await;
    let job = world.exr("fx")["status"]["attempt"]["jobId"].as_str().unwrap().to_owned();
    while number(attack.evil.tableau.project("x", None).as_str()) < number(&job) - 1 {}
    attack.merge("extractrefreshes", &json!({"suspend": false}));
    let has = |world: &World| world.exr("orders")["status"]["attempt"]["jobId"] == json!(job);
    world.until("theirs is called the same", has).await;
    let id = job.as_str().into();
    attack.evil.tableau.advance(&id, JobStatus::InProgress).unwrap();
    attack.evil.tableau.advance(&id, JobStatus::Failed).unwrap();
    world.until("theirs has failed", |world| world.exr("orders")["status"]["history"].is_array()).await;
    sleep(POLL * 2).await;
    // Theirs may have tried again by then, as another job.
    let all: Vec<_> = told(world).into_iter().filter(|run| run.new.idempotency_key == job).collect();
    let states: Vec<_> = all.iter().map(feedwater::prefect::fake::ToldRun::state_types).collect();
    assert_eq!(states, [[StateType::Pending, StateType::Running]], "{all:#?}");
    world.server.merge("extractrefreshes", NAMESPACE, "orders", &json!({"spec": {"suspend": true}})).unwrap();
    let ended = |world: &World| told(world)[0].state_types().last() == Some(&StateType::Completed);
    world.until("its own end is told", ended).await;
    assert_eq!(told(world)[0].new.labels["feedwater.dev/refresh"], json!("finance/fx"));
}
