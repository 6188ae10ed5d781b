//! The cases in which one refresh too many may be started (docs/trigger.md 9), each forced: exactly one extra, nothing lost, and it is counted.

use crate::remote::{Remote, Trouble};
use crate::world::{NAMESPACE, POLL, Process, World};
use feedwater::model::ids::Luid;
use feedwater::tableau::JobStatus;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;
use world::resources::condition;

const SECOND: Duration = Duration::from_secs(1);

/// An extract in sync, whose jobs are short: a second one is not held up by the first.
async fn world() -> (World, Luid, Process) {
    let world = World::new();
    {
        let mut engine = world.engine.lock().unwrap();
        (engine.queued, engine.running) = (Duration::ZERO, 2 * SECOND);
    }
    let luid = world.with_orders();
    let operator = world.operator("one");
    world.settle().await;
    (world, luid, operator)
}

/// While `true`, calls of this operation fare so; a refresh fares as `refresh` says, once.
fn while_on(world: &World, operation: &'static str, trouble: Trouble, refresh: Trouble) -> Arc<Mutex<bool>> {
    let on = Arc::new(Mutex::new(true));
    let (is_on, mut refresh) = (on.clone(), Some(refresh));
    world.troubles.on_call(move |call: &Remote| {
        if call.operation == "refresh" {
            refresh.take().unwrap_or(Trouble::None)
        } else if call.operation == operation && *is_on.lock().unwrap() {
            trouble
        } else {
            Trouble::None
        }
    });
    on
}

/// One extra, no loss, counted as this case and no other.
async fn one_extra(world: &World, luid: &Luid, operator: &Process, case: &str) {
    world.settle().await;
    let jobs = world.jobs_of(luid) + usize::from(case == "R4");
    assert_eq!(jobs, 2, "exactly one refresh too many: {:#}", world.exr("orders"));
    assert_eq!(condition(&world.exr("orders"), "Fresh"), Some(("True", "UpToDate")));
    let metrics = operator.metrics.encode().unwrap();
    let counted: Vec<&str> = metrics
        .lines()
        .filter(|l| l.starts_with("feedwater_possible_doubles_total") && !l.ends_with(" 0"))
        .collect();
    assert_eq!(counted, [format!(r#"feedwater_possible_doubles_total{{case="{case}"}} 1"#)]);
    // The next round is as if nothing had been.
    let before = world.jobs_of(luid);
    world.complete("orders");
    world.settle().await;
    assert_eq!(world.jobs_of(luid), before + 1);
}

#[tokio::test(start_paused = true)]
async fn r1_an_answer_is_lost_while_the_job_list_may_not_be_read() {
    let (world, luid, operator) = world().await;
    let forbidden = while_on(&world, "jobs", Trouble::Forbid, Trouble::LoseAnswer);
    world.complete("orders");
    world.until("the refresh is sent again", |world| world.jobs_of(&luid) == 2).await;
    world.settle().await;
    *forbidden.lock().unwrap() = false;
    one_extra(&world, &luid, &operator, "R1").await;
}

/// Each that may be one too many is counted, also where one answer after the other is lost.
#[tokio::test(start_paused = true)]
async fn r1_each_lost_answer_is_counted() {
    let (world, luid, operator) = world().await;
    let mut lost = 0;
    world.troubles.on_call(move |call: &Remote| match call.operation {
        "jobs" => Trouble::Forbid,
        "refresh" if lost < 3 => {
            lost += 1;
            Trouble::LoseAnswer
        }
        _ => Trouble::None,
    });
    world.complete("orders");
    world.until("the fourth is answered", |world| world.jobs_of(&luid) == 4).await;
    world.settle().await;
    let metrics = operator.metrics.encode().unwrap();
    assert!(metrics.contains(r#"feedwater_possible_doubles_total{case="R1"} 3"#), "{metrics}");
    assert_eq!(condition(&world.exr("orders"), "Ready"), Some(("True", "InSync")));
}

/// It stands still for a minute right before it writes to the socket; awake, it sends, and ends because its lease is lost.
#[tokio::test(start_paused = true)]
async fn r2_a_leader_is_frozen_between_its_look_at_the_lease_and_the_socket() {
    let (world, luid, frozen) = world().await;
    let sent = Arc::new(Mutex::new(false));
    let is_sent = sent.clone();
    world.troubles.on_call(move |call: &Remote| {
        if call.operation == "refresh" && &*call.process == "one" {
            *is_sent.lock().unwrap() = true;
            return Trouble::Late(60 * SECOND);
        }
        Trouble::None
    });
    world.complete("orders");
    world.until("it is about to send", |_| *sent.lock().unwrap()).await;
    frozen.kill();
    let successor = world.operator("two");
    world.until("its successor sends, not knowing", |world| world.jobs_of(&luid) == 1).await;
    // The successor cannot know that it was frozen; it counts what it sees: nothing of the intent within the settle time.
    one_extra(&world, &luid, &successor, "R3").await;
}

#[tokio::test(start_paused = true)]
async fn r3_a_request_arrives_later_than_the_settle_time() {
    let (world, luid, operator) = world().await;
    world.troubles.once("refresh", Trouble::Late(60 * SECOND));
    world.complete("orders");
    world.until("both have arrived", |world| world.jobs_of(&luid) == 2).await;
    one_extra(&world, &luid, &operator, "R3").await;
}

#[tokio::test(start_paused = true)]
async fn r3_the_job_list_lags_by_more_than_the_settle_time() {
    let (world, luid, operator) = world().await;
    let lags = while_on(&world, "jobs", Trouble::Empty, Trouble::LoseAnswer);
    world.complete("orders");
    world.until("the refresh is sent again", |world| world.jobs_of(&luid) == 2).await;
    *lags.lock().unwrap() = false;
    one_extra(&world, &luid, &operator, "R3").await;
}

#[tokio::test(start_paused = true)]
async fn r4_the_record_of_a_job_is_removed_before_its_end_was_read() {
    let (world, luid, operator) = world().await;
    let unread = while_on(&world, "job", Trouble::Lose, Trouble::None);
    world.complete("orders");
    let ended = |world: &World| world.jobs().iter().any(|job| job.job.status == JobStatus::Success);
    world.until("the refresh has ended", ended).await;
    world.tableau.forget(&world.jobs()[0].job.id);
    *unread.lock().unwrap() = false;
    one_extra(&world, &luid, &operator, "R4").await;
}

#[tokio::test(start_paused = true)]
async fn r5_status_is_lost() {
    let (world, luid, before) = world().await;
    world.complete("orders");
    world.settle().await;
    assert_eq!(world.jobs_of(&luid), 1);
    before.kill();
    // As a cluster that is restored from a backup without statuses.
    let lost = json!({"status": Value::Null});
    world.server.merge("extractrefreshes", NAMESPACE, "orders", &lost).unwrap();
    sleep(POLL).await;
    let operator = world.operator("two");
    one_extra(&world, &luid, &operator, "R5").await;
}
