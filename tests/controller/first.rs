//! The main job, end to end.

use crate::world::{POLL, World};
use tokio::time::sleep;
use world::resources::condition;

#[tokio::test(start_paused = true)]
async fn a_completion_causes_one_refresh_and_then_nothing_is_written() {
    let world = World::new();
    world.connections();
    let luid = world.publish("orders");
    world.server.put("flowdeployments", World::flow("orders")).unwrap();
    world.server.put("extractrefreshes", World::refresh("orders", &["orders"])).unwrap();
    let operator = world.operator("one");
    world.settle().await;
    assert_eq!(condition(&world.flow_object("orders"), "Ready"), Some(("True", "InSync")));
    assert_eq!(world.jobs_of(&luid), 0);

    world.complete("orders");
    world.settle().await;
    assert_eq!(world.jobs_of(&luid), 1);
    let exr = world.exr("orders");
    assert_eq!(condition(&exr, "Fresh"), Some(("True", "UpToDate")), "{exr:#}");

    let (writes, calls) = (world.writes().len(), world.troubles.log().len());
    sleep(POLL * 100).await;
    assert_eq!(world.writes().len(), writes, "at rest nothing is written");
    assert!(world.troubles.log().len() - calls < 100 * 8, "at rest nothing is asked per resource");
    operator.terminate().await.unwrap();
}
