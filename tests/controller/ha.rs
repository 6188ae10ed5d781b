//! Two replicas: who acts, and what becomes of the work when the one that acts ends, dies, or is cut off.

use crate::remote::{Remote, Trouble};
use crate::world::{POLL, Process, World};
use feedwater::controller::operator::OperatorError;
use feedwater::model::ids::Luid;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use world::apiserver::{Action, Verb};
use world::resources::condition;

const SECOND: Duration = Duration::from_secs(1);
/// Of the Lease.
const TTL: Duration = Duration::from_secs(15);
const KINDS: [&str; 4] = ["prefectworkspaces", "tableausites", "flowdeployments", "extractrefreshes"];

/// One replica acts and has everything in sync; the other stands by.
async fn two_replicas() -> (World, Luid, Process, Process) {
    let world = World::new();
    let luid = world.with_orders();
    let leader = world.operator("one");
    world.settle().await;
    let standby = world.operator("two");
    sleep(POLL * 3).await;
    (world, luid, leader, standby)
}

/// What was asked of the API server and of the services, by whom and when.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<Line>>>);

#[derive(Clone, Debug)]
struct Line {
    at: Instant,
    process: Arc<str>,
    what: String,
}

impl Journal {
    fn of(world: &World) -> Self {
        let journal = Self::default();
        let (kubernetes, services) = (journal.clone(), journal.clone());
        world.server.on_request(move |call| {
            kubernetes.note(&call.client, format!("{:?} {}/{}", call.verb, call.plural, call.subresource));
            Action::Pass
        });
        world.troubles.on_call(move |call| {
            services.note(&call.process, call.operation.to_owned());
            Trouble::None
        });
        journal
    }
    fn note(&self, process: &Arc<str>, what: String) {
        self.0.lock().unwrap().push(Line { at: Instant::now(), process: process.clone(), what });
    }
    fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap().clone()
    }
    /// When this process first did this.
    fn first(&self, process: &str, what: &str) -> Option<Instant> {
        let line = self.lines().into_iter().find(|line| &*line.process == process && line.what == what);
        line.map(|line| line.at)
    }
}

const DECIDED: &str = "Patch extractrefreshes/status";
const LEASE: &str = "Update leases/";

#[tokio::test(start_paused = true)]
async fn a_standby_fills_its_caches_and_calls_nobody() {
    let (world, luid, leader, _standby) = two_replicas().await;
    for round in 1..=2 {
        world.complete("orders");
        world.settle().await;
        assert_eq!(world.jobs_of(&luid), round);
    }
    let calls = world.troubles.log();
    assert!(calls.iter().all(|call| &*call.process == "one"), "a standby calls Prefect or Tableau");
    let asked = || world.server.log().into_iter().map(|(call, _)| call).filter(|call| &*call.client == "two");
    assert!(!asked().any(|call| call.verb.writes()), "a standby writes");
    assert!(!asked().any(|call| call.plural == "secrets"), "a standby reads Secrets");
    let filled = |kind: &&str| asked().any(|call| call.plural == **kind && call.verb == Verb::Watch);
    assert!(KINDS.iter().all(filled), "a standby has no caches");

    let reads = || asked().filter(|call| KINDS.contains(&&*call.plural) && call.verb == Verb::List).count();
    let before = reads();
    leader.terminate().await.unwrap();
    world.complete("orders");
    world.settle().await;
    assert_eq!(world.jobs_of(&luid), 3);
    assert_eq!(reads(), before, "its caches are filled anew when it takes over");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_ends_is_succeeded_within_two_seconds() {
    // At every phase of the look of the one and the renewal of the other.
    for phase in 0..20 {
        let (world, luid, leader, _standby) = two_replicas().await;
        sleep(Duration::from_millis(273) * phase).await;
        let journal = Journal::of(&world);
        world.complete("orders");
        let asked = Instant::now();
        leader.terminate().await.unwrap();
        world.settle().await;
        let decided = journal.first("two", DECIDED).unwrap() - asked;
        assert!(decided < 2 * SECOND, "phase {phase}: the first decision came after {decided:?}");
        assert_eq!(world.jobs_of(&luid), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tableau_that_does_not_answer_the_sign_out_holds_up_nobody_and_nothing_else_is_asked_meanwhile() {
    // A job is followed, and one of the phases has a read due while the sign-out hangs.
    for phase in 0..15 {
        let (world, luid, leader, _standby) = two_replicas().await;
        world.engine.lock().unwrap().running = 600 * SECOND;
        world.complete("orders");
        sleep(POLL * 8 + phase * POLL / 15).await;
        let journal = Journal::of(&world);
        let calls = journal.clone();
        world.troubles.on_call(move |Remote { process, operation, .. }| {
            calls.note(process, (*operation).to_owned());
            if *operation == "sign_out" { Trouble::Delay(60 * SECOND) } else { Trouble::None }
        });
        let asked = Instant::now();
        let end = tokio::spawn(leader.terminate());
        sleep(Duration::from_millis(1)).await;
        world.complete("orders");
        world.until("the next one decides", |_| journal.first("two", DECIDED).is_some()).await;
        assert!(asked.elapsed() < 2 * SECOND, "it waits for the sign-out: {:?}", asked.elapsed());
        end.await.unwrap().unwrap();
        let signed_out = journal.first("one", "sign_out").unwrap();
        let later = journal.lines().into_iter().find(|line| {
            &*line.process == "one" && line.at >= signed_out && line.what != "sign_out" && line.what != LEASE
        });
        assert!(later.is_none(), "phase {phase}: one that has taken leave asks again: {later:?}");
        world.settle().await;
        assert_eq!(world.jobs_of(&luid), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_succeeded_when_its_lease_is_over_and_not_before() {
    for phase in 0..10 {
        let (world, luid, leader, _standby) = two_replicas().await;
        let journal = Journal::of(&world);
        sleep(TTL + Duration::from_millis(555) * phase).await;
        leader.kill();
        let renewed = journal.lines().into_iter().rfind(|line| &*line.process == "one" && line.what == LEASE);
        let over = renewed.unwrap().at + TTL;
        world.complete("orders");
        world.settle().await;
        let acts = |line: &Line| &*line.process == "two" && !line.what.contains("leases");
        let acted = journal.lines().into_iter().find(acts).unwrap().at;
        assert!(acted >= over, "phase {phase}: it acts {:?} too early", over - acted);
        let decided = journal.first("two", DECIDED).unwrap();
        assert!(decided < over + 2 * SECOND, "phase {phase}: it decides {:?} late", decided - over);
        assert_eq!(world.jobs_of(&luid), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_ends_before_the_next_begins_and_does_nothing_when_it_is_back() {
    for phase in 0..6 {
        let (world, luid, mut leader, _standby) = two_replicas().await;
        let journal = Journal::of(&world);
        let (cut, calls) = (Instant::now(), journal.clone());
        // Nothing of its gets through for a minute; then everything does, late.
        let held = move || (cut + 60 * SECOND).saturating_duration_since(Instant::now());
        world.troubles.on_call(move |Remote { process, operation, .. }| {
            calls.note(process, (*operation).to_owned());
            if &**process == "one" { Trouble::Delay(held()) } else { Trouble::None }
        });
        let calls = journal.clone();
        world.server.on_request(move |call| {
            calls.note(&call.client, format!("{:?} {}/{}", call.verb, call.plural, call.subresource));
            if &*call.client == "one" { Action::Delay(held()) } else { Action::Pass }
        });
        sleep(phase * SECOND).await;
        world.complete("orders");
        world.until("the other one takes over", |_| journal.first("two", DECIDED).is_some()).await;
        assert!(matches!(leader.ended(), Some(Err(OperatorError::LeaseLost))), "two act at a time");
        world.settle().await;
        sleep(60 * SECOND).await;
        assert_eq!(world.jobs_of(&luid), 1, "phase {phase}");
        assert_eq!(condition(&world.exr("orders"), "Fresh"), Some(("True", "UpToDate")));
    }
}

#[tokio::test(start_paused = true)]
async fn two_that_lead_at_a_time_lose_nothing_and_double_nothing() {
    let world = World::new();
    let luid = world.with_orders();
    let _one = world.operator("one");
    let _two = world.operator_by_lease("two", "another");
    // Two that undo what the other does would never settle.
    world.settle().await;
    assert_eq!(world.prefect.state().deployments.len(), 1);
    for round in 1..=12 {
        world.complete("orders");
        world.settle().await;
        assert_eq!(world.jobs_of(&luid), round, "{:#?}", world.exr("orders"));
        assert_eq!(condition(&world.exr("orders"), "Fresh"), Some(("True", "UpToDate")));
    }
    let acted = |who: &str| world.writes().iter().any(|call| &*call.client == who);
    assert!(acted("one") && acted("two"), "only one of the two has led");
}
