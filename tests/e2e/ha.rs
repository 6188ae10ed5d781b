//! Two replicas, as shipped: which one acts, and what becomes of a refresh when that one ends, dies or freezes. How long a takeover took is
//! printed; only that it came, and what came of it, is asserted.

use crate::stage::{LIMIT, Stage};
use crate::triggers::running_until_released;
use feedwater::api::{JobOrigin, Outcome};
use jiff::Timestamp;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;
use world::operator::{Operator, OperatorOptions};
use world::proxy::{Action, Class, Entry, Position, Proxy, Rule};
use world::tableau::Script;

/// A replica, and the line on which it reaches the API server.
struct Replica {
    operator: Operator,
    line: Proxy,
}

impl Replica {
    /// Returns when it is Ready, as a leader or a standby.
    async fn start(stage: &Stage, name: &str) -> Self {
        let line = Proxy::of_cluster(&stage.info.kubeconfig).await.unwrap();
        let binary = Path::new(env!("CARGO_BIN_EXE_feedwater"));
        let mut options = OperatorOptions::namespaced(binary, &stage.namespace);
        options.name = format!("operator-{}-{name}", stage.namespace);
        options.api_server = Some(line.url().to_owned());
        options.extra_args = ["--settle", "2s", "--identity", name].map(str::to_owned).into();
        let directory = stage.info.directory.join(&stage.namespace);
        Self { operator: Operator::start(&stage.kubectl, &directory, options).await.unwrap(), line }
    }

    /// Its calls to Prefect and Tableau, by its own count.
    async fn calls(&self) -> Vec<String> {
        let metrics = self.operator.metrics().await.unwrap();
        metrics.lines().filter(|line| line.starts_with("feedwater_calls_total{")).map(str::to_owned).collect()
    }

    /// Returns when it has decided something: its first write of a status.
    async fn decides(&self) -> Timestamp {
        timeout(LIMIT, self.line.until(|entries| entries.iter().any(decides)))
            .await
            .expect("nobody takes over");
        self.line.read(|entries| entries.iter().find(|entry| decides(entry)).map(|entry| entry.came)).unwrap()
    }

    /// When it last renewed.
    fn last_lease_write(&self) -> Timestamp {
        self.line
            .read(|entries| entries.iter().rfind(|entry| writes_lease(entry)).map(|entry| entry.came))
            .unwrap()
    }

    /// When it said this in its log.
    fn said(&self, what: &str) -> Timestamp {
        let lines = self.operator.log_lines();
        let line = lines.iter().find(|line| line["message"].as_str().is_some_and(|said| said == what));
        line.expect(what)["timestamp"].as_str().unwrap().parse().unwrap()
    }
}

fn writes_lease(entry: &Entry) -> bool {
    entry.class == Class::Lease
}

fn decides(entry: &Entry) -> bool {
    entry.verb == "PATCH" && entry.path.ends_with("/status")
}

/// One replica leads and has everything in sync, the other stands by. Also the data source's LUID and the deployment's id.
async fn two_replicas(name: &str) -> (Stage, Replica, Replica, String, String) {
    let mut stage = Stage::set(name).await;
    stage.operator.terminate().await;
    let leader = Replica::start(&stage, "one").await;
    let (orders, flow) = stage.orders().await;
    let standby = Replica::start(&stage, "two").await;
    (stage, leader, standby, orders, flow)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_signs_in_to_nothing_and_takes_over_when_the_leader_ends() {
    let (stage, mut leader, standby, orders, flow) = two_replicas("ends").await;
    stage.one_more("orders", &flow, &orders, 0).await;
    assert_eq!(standby.calls().await, [""; 0], "a standby calls Prefect or Tableau");
    assert!(!leader.calls().await.is_empty());
    let asked = standby.line.journal();
    assert!(!asked.iter().any(Entry::is_mutating), "a standby writes");
    assert!(!asked.iter().any(|entry| entry.path.contains("/secrets")), "a standby reads Secrets");
    for kind in ["prefectworkspaces", "tableausites", "flowdeployments", "extractrefreshes"] {
        let held = asked.iter().any(|entry| entry.is_watch() && entry.path.ends_with(kind));
        assert!(held, "a standby has no cache of {kind}");
    }

    let ((), run) = tokio::join!(leader.operator.terminate(), stage.prefect.complete(&flow));
    let decided = standby.decides().await;
    println!("from SIGTERM to the first decision: {:#}", decided.duration_since(leader.said("asked to end")));
    let history = stage.settled("orders", 2).await.status.unwrap().history;
    assert_eq!(history[0].runs, [run.unwrap()]);
    assert_eq!(stage.refreshed(&orders), 2);
    stage.one_more("orders", &flow, &orders, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_with_a_refresh_on_its_way_is_succeeded_and_the_refresh_is_found() {
    let (stage, mut leader, standby, orders, flow) = two_replicas("dies").await;
    stage.tableau.script(&orders, running_until_released());
    let hold = stage.tableau.hold_answer(&orders);
    stage.prefect.complete(&flow).await.unwrap();
    timeout(LIMIT, hold.taken()).await.unwrap();
    leader.operator.kill().await;
    drop(hold);
    let decided = standby.decides().await;
    println!(
        "from the last renewal to the first decision: {:#}",
        decided.duration_since(leader.last_lease_write())
    );
    stage.tableau.release_jobs(&orders);
    let history = stage.settled("orders", 1).await.status.unwrap().history;
    assert_eq!(history[0].origin, Some(JobOrigin::Recovered));
    assert_eq!(stage.refreshed(&orders), 1);
    stage.tableau.script(&orders, Script::default());
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_frozen_before_it_sends_does_not_send_when_it_wakes() {
    let (stage, mut leader, standby, orders, flow) = two_replicas("frozen").await;
    let intends = |entry: &Entry| String::from_utf8_lossy(&entry.body).contains(r#""phase":"Intended""#);
    // The intent is written; the next thing is to send.
    let written = Rule::on("PATCH", "/**", Action::Stall).at(Position::AfterApplied).when(intends).nth(1);
    let written = leader.line.add(written);
    let run = stage.prefect.complete(&flow).await.unwrap();
    timeout(LIMIT, written.until_fired(1)).await.expect("no intent is written");
    leader.operator.freeze();
    written.release();
    standby.decides().await;
    let history = stage.settled("orders", 1).await.status.unwrap().history;
    assert_eq!(history[0].runs, [run]);
    assert_eq!(stage.refreshed(&orders), 1);
    wakes(&stage, &mut leader).await;
    assert_eq!(stage.refreshed(&orders), 1, "it sends what the other has sent");
    stage.one_more("orders", &flow, &orders, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_frozen_before_it_has_the_answer_changes_nothing_when_it_wakes() {
    let (stage, mut leader, standby, orders, flow) = two_replicas("frozen-late").await;
    let hold = stage.tableau.hold_answer(&orders);
    stage.prefect.complete(&flow).await.unwrap();
    timeout(LIMIT, hold.taken()).await.unwrap();
    leader.operator.freeze();
    drop(hold);
    standby.decides().await;
    let extract = stage.settled("orders", 1).await;
    let newest = &extract.status.as_ref().unwrap().history[0];
    assert_eq!((newest.outcome, newest.origin), (Outcome::Succeeded, Some(JobOrigin::Recovered)));
    wakes(&stage, &mut leader).await;
    let later = stage.extract("orders", "there", |_| true).await;
    assert_eq!(later.metadata.resource_version, extract.metadata.resource_version, "{later:#?}");
    assert_eq!(stage.refreshed(&orders), 1);
    stage.one_more("orders", &flow, &orders, 1).await;
}

/// The leader that was succeeded wakes: it ends at once, and disturbs nobody.
async fn wakes(stage: &Stage, leader: &mut Replica) {
    let writes = |entries: &[Entry]| entries.iter().filter(|entry| entry.is_mutating()).count();
    let (before, signed_in) = (leader.line.read(writes), stage.tableau.truth().count("signIn"));
    leader.operator.thaw();
    let ended = timeout(Duration::from_secs(20), leader.operator.ended()).await.expect("it goes on").unwrap();
    assert!(!ended.success(), "it takes itself for one that was asked to end");
    assert_eq!(leader.line.read(writes), before, "it writes");
    assert_eq!(stage.tableau.truth().count("signIn"), signed_in, "it signs in again");
}
