//! A team has a Prefect and a Tableau of its own, which answer with the ids of others, behind the connections of its namespace; then it names those of
//! the cluster. Nothing is done with these ids there.

use crate::remote::Lines;
use crate::tenants::{SITES, allowed, cluster};
use crate::world::{INSTANCE, NAMESPACE, POLL, Process, World};
use feedwater::clock::Clock;
use feedwater::controller::services::{PrefectAccess, Services, TableauAccess};
use feedwater::model::ids::{DeploymentId, Luid};
use feedwater::prefect::fake::FakePrefect;
use feedwater::prefect::{Deployment, Prefect, PrefectError};
use feedwater::tableau::fake::{FakeJob, FakeTableau};
use feedwater::tableau::{JobStatus, Leads, Tableau, TableauError};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use world::resources::{self, condition};

const EVIL: &str = "https://evil.example";

/// Leads to their servers where the URL says so.
struct Two {
    platform: Lines,
    evil: Evil,
}

#[derive(Clone)]
pub struct Evil {
    prefect: Arc<FakePrefect>,
    pub tableau: Arc<FakeTableau>,
}

impl Services for Two {
    fn prefect(&self, access: &PrefectAccess) -> Result<Arc<dyn Prefect>, PrefectError> {
        if access.api_url.starts_with(EVIL) {
            return Ok(self.evil.prefect.clone());
        }
        self.platform.prefect(access)
    }

    fn tableau(&self, access: &TableauAccess, leads: Leads) -> Result<Arc<dyn Tableau>, TableauError> {
        if access.server_url.starts_with(EVIL) {
            return Ok(self.evil.tableau.clone());
        }
        self.platform.tableau(access, leads)
    }
}

/// The platform's cluster, their servers, and connections of their namespace that lead there. On both sites is the data source `orders`; on the
/// platform's also `salaries`, of others.
pub struct Attack {
    pub world: World,
    pub evil: Evil,
    pub salaries: Luid,
    operator: Option<Process>,
}

impl Attack {
    pub fn new() -> Self {
        let (prefect, tableau) = allowed();
        let world = cluster(&prefect, &tableau);
        world.server.merge(SITES, "", "acme", &json!({"spec": {"edition": "Cloud"}})).unwrap();
        world.publish("orders");
        let hr = world.tableau.project("HR", None);
        let salaries = world.tableau.publish(feedwater::api::TargetKind::Datasource, "salaries", &hr);
        let clock = || Clock::virtual_from(world.now());
        let evil = Evil {
            prefect: Arc::new(FakePrefect::new(clock())),
            tableau: Arc::new(FakeTableau::new(clock())),
        };
        evil.prefect.state().work_pools.insert("etl".into());
        let finance = evil.tableau.project("Finance", None);
        evil.tableau.publish(feedwater::api::TargetKind::Datasource, "orders", &finance);
        world.secret(NAMESPACE, "theirs", &[("name", "token"), ("secret", "value")]);
        let mut site = resources::tableau_site(NAMESPACE, "acme", EVIL, "acme", "theirs");
        site["spec"]["edition"] = json!("Cloud");
        world.server.put("tableausites", site).unwrap();
        let at = format!("{EVIL}/api");
        world.server.put("prefectworkspaces", resources::prefect_workspace(NAMESPACE, "prod", &at)).unwrap();
        let mut attack = Self { world, evil, salaries, operator: None };
        attack.restart();
        attack
    }

    /// The operator, started anew.
    fn restart(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.kill();
        }
        let world = &self.world;
        let platform = Lines {
            process: "one".into(),
            clock: Clock::virtual_from(world.now()),
            prefect: world.prefect.clone(),
            tableau: world.tableau.clone(),
            troubles: world.troubles.clone(),
            truth: world.truth.clone(),
        };
        let services = Arc::new(Two { platform, evil: self.evil.clone() });
        self.operator = Some(world.operator_with("one", "feedwater", Some(services)));
    }

    pub fn merge(&self, plural: &str, spec: &Value) {
        self.world.server.merge(plural, NAMESPACE, "orders", &json!({ "spec": spec })).unwrap();
    }

    /// Calls to the platform's Tableau that have this in them.
    pub fn named(&self, id: &str) -> Vec<String> {
        let calls = self.world.tableau.state().calls.clone();
        calls.into_iter().filter(|call| call.split(' ').any(|word| word == id)).collect()
    }
}

pub fn to_the_cluster() -> Value {
    json!({"siteRef": {"kind": "ClusterTableauSite", "name": "acme"}})
}

fn nightly(start: &str) -> Value {
    json!([{"name": "nightly", "frequency": "Daily", "start": start}])
}

/// What they do once the id stands in status.
type Turn = fn(&mut Attack);

const TURNS: [(&str, Turn); 8] = [
    ("it turns", |attack| attack.merge("extractrefreshes", &to_the_cluster())),
    ("it turns, with another schedule", |attack| {
        let mut spec = to_the_cluster();
        spec["schedules"] = nightly("03:00");
        attack.merge("extractrefreshes", &spec);
    }),
    ("it turns, and declares none", |attack| {
        let mut spec = to_the_cluster();
        spec["schedules"] = json!([]);
        spec["foreignSchedules"] = json!("Remove");
        attack.merge("extractrefreshes", &spec);
    }),
    ("it turns and is deleted at once", |attack| {
        attack.merge("extractrefreshes", &to_the_cluster());
        attack.world.server.remove("extractrefreshes", NAMESPACE, "orders").unwrap();
    }),
    ("their connection goes", |attack| {
        attack.world.server.remove("tableausites", NAMESPACE, "acme").unwrap();
        attack.merge("extractrefreshes", &to_the_cluster());
    }),
    ("their server refuses", |attack| {
        for _ in 0..1000 {
            attack.evil.tableau.fail("delete_task", TableauError::Forbidden("403004".into()));
        }
        attack.merge("extractrefreshes", &to_the_cluster());
    }),
    ("their connection is suspended", |attack| {
        attack.merge("extractrefreshes", &to_the_cluster());
        let leads = json!({"spec": {"suspend": true}});
        attack.world.server.merge("tableausites", NAMESPACE, "acme", &leads).unwrap();
    }),
    ("a new process sees it turned", |attack| {
        attack.merge("extractrefreshes", &to_the_cluster());
        attack.restart();
    }),
];

#[tokio::test(start_paused = true)]
async fn ids_of_tasks_that_their_own_server_told_are_nothing_to_the_connection_of_the_cluster() {
    for (what, turn) in TURNS {
        for deleted in [false, true] {
            let mut attack = Attack::new();
            let mut refresh = World::refresh("orders", &[]);
            refresh["spec"]["schedules"] = nightly("02:00");
            attack.world.server.put("extractrefreshes", refresh).unwrap();
            let has = |world: &World| world.exr("orders")["status"]["schedules"][0]["definition"].is_string();
            attack.world.until("it has a task", has).await;
            let entry = attack.world.exr("orders")["status"]["schedules"][0].clone();
            assert_eq!(entry["site"], "acme");
            let id = entry["taskId"].as_str().unwrap().to_owned();
            // The same id, of a task that others have on the platform's site.
            let mut theirs = attack.evil.tableau.state().tasks[0].clone();
            theirs.content = Some(attack.salaries.clone());
            attack.world.tableau.state().tasks.push(theirs.clone());
            turn(&mut attack);
            sleep(POLL * 40).await;
            if deleted {
                let _ = attack.world.server.remove("extractrefreshes", NAMESPACE, "orders");
                sleep(POLL * 40).await;
            }
            assert_eq!(attack.named(&id), Vec::<String>::new(), "{what}, {deleted}");
            assert!(attack.world.tableau.state().tasks.contains(&theirs), "{what}, {deleted}");
            let made = attack.world.tableau.state().tasks.len() - 1;
            match attack.world.server.object("extractrefreshes", NAMESPACE, "orders") {
                None => assert_eq!(made, 0, "{what}: gone with all that it made"),
                Some(exr) => {
                    assert!(!deleted, "{what}: {exr:#}");
                    let declared = exr["spec"]["schedules"].as_array().unwrap().len();
                    assert_eq!(made, declared, "{what}: {exr:#}");
                    assert_eq!(condition(&exr, "Ready"), Some(("True", "InSync")), "{what}: {exr:#}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_their_own_server_told_is_neither_asked_for_nor_cancelled_through_the_connection_of_the_cluster()
 {
    for (what, turn) in TURNS {
        let mut attack = Attack::new();
        let mut refresh = World::refresh("orders", &[]);
        refresh["spec"]["schedules"] = json!([]);
        refresh["spec"]["timeout"] = json!("5m");
        refresh["spec"]["trigger"] = json!({"onCreate": "Refresh"});
        attack.world.server.put("extractrefreshes", refresh).unwrap();
        let has = |world: &World| world.exr("orders")["status"]["attempt"]["jobId"].is_string();
        attack.world.until("it has a job", has).await;
        let attempt = attack.world.exr("orders")["status"]["attempt"].clone();
        assert_eq!(attempt["site"], "acme");
        let id = attempt["jobId"].as_str().unwrap().to_owned();
        attack.evil.tableau.advance(&id.as_str().into(), JobStatus::InProgress).unwrap();
        sleep(POLL * 2).await;
        // The same id, of a refresh that others have under way on the platform's site.
        let FakeJob { mut job, refresh_type, .. } = attack.evil.tableau.state().jobs[0].clone();
        job.content = Some(attack.salaries.clone());
        attack.world.engine.lock().unwrap().running = Duration::from_secs(24 * 3600);
        attack.world.tableau.state().jobs.push(FakeJob { job, refresh_type, title: "salaries".into() });
        turn(&mut attack);
        sleep(POLL * 60).await;
        let gone = attack.world.server.remove("extractrefreshes", NAMESPACE, "orders");
        sleep(POLL * 4).await;
        assert_eq!(attack.named(&id), Vec::<String>::new(), "{what} {gone:?}");
        let job = &attack.world.tableau.state().jobs[0].job;
        assert_eq!((job.id.as_str(), job.status), (id.as_str(), JobStatus::InProgress), "{what}");
    }
}

/// A server of their own may call a job running for ever: that takes nobody a place on the platform's site, before a restart and after it.
#[tokio::test(start_paused = true)]
async fn a_job_elsewhere_takes_no_place_on_the_site_of_the_cluster() {
    for restarted in [false, true] {
        let mut attack = Attack::new();
        let one = json!({"spec": {"limits": {"maxConcurrentRefreshes": 1}}});
        attack.world.server.merge(SITES, "", "acme", &one).unwrap();
        let mut refresh = World::refresh("orders", &[]);
        refresh["spec"]["timeout"] = json!("24h");
        refresh["spec"]["trigger"] = json!({"onCreate": "Refresh"});
        attack.world.server.put("extractrefreshes", refresh).unwrap();
        let has = |world: &World| world.exr("orders")["status"]["attempt"]["jobId"].is_string();
        attack.world.until("it has a job", has).await;
        let id = attack.world.exr("orders")["status"]["attempt"]["jobId"].as_str().unwrap().to_owned();
        attack.evil.tableau.advance(&id.as_str().into(), JobStatus::InProgress).unwrap();
        attack.merge("extractrefreshes", &to_the_cluster());
        sleep(POLL * 3).await;
        if restarted {
            attack.restart();
            sleep(POLL * 3).await;
        }
        attack.world.publish("fx");
        let mut another = World::refresh("fx", &[]);
        another["spec"]["siteRef"] = to_the_cluster()["siteRef"].clone();
        another["spec"]["trigger"] = json!({"onCreate": "Refresh"});
        attack.world.server.put("extractrefreshes", another).unwrap();
        let done = |world: &World| {
            condition(&world.exr("fx"), "LastRefreshSucceeded") == Some(("True", "Succeeded"))
        };
        attack.world.until("the other one is refreshed", done).await;
        assert!(
            attack.world.exr("orders")["status"]["attempt"]["jobId"].is_string(),
            "it is still under way"
        );
    }
}

/// Nothing is lost by it: what the job was to contain is refreshed where the spec says.
#[tokio::test(start_paused = true)]
async fn what_was_under_way_elsewhere_is_refreshed_on_the_site_that_is_named_now() {
    let attack = Attack::new();
    let mut refresh = World::refresh("orders", &[]);
    refresh["spec"]["trigger"] = json!({"onCreate": "Refresh"});
    attack.world.server.put("extractrefreshes", refresh).unwrap();
    let has = |world: &World| world.exr("orders")["status"]["attempt"]["jobId"].is_string();
    attack.world.until("it has a job", has).await;
    attack.world.server.remove("tableausites", NAMESPACE, "acme").unwrap();
    attack.merge("extractrefreshes", &to_the_cluster());
    let done = |world: &World| {
        condition(&world.exr("orders"), "LastRefreshSucceeded") == Some(("True", "Succeeded"))
    };
    attack.world.until("it is refreshed", done).await;
    let history = attack.world.exr("orders")["status"]["history"].clone();
    let outcomes: Vec<&Value> = history.as_array().unwrap().iter().map(|entry| &entry["outcome"]).collect();
    assert_eq!(outcomes, ["Succeeded", "JobVanished"]);
    assert_eq!(attack.world.jobs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_their_own_server_told_is_nothing_to_the_connection_of_the_cluster() {
    type Change = fn(&Attack);
    let to_the_cluster = json!({"workspaceRef": {"kind": "ClusterPrefectWorkspace", "name": "prod"}});
    let leads: Change = |attack| {
        // Its own credentials are of no use there.
        let same = json!({"spec": {"apiUrl": "https://prefect.example/api", "suspend": true}});
        attack.world.server.merge("prefectworkspaces", NAMESPACE, "prod", &same).unwrap();
    };
    let goes: Change = |attack| {
        attack.world.server.remove("prefectworkspaces", NAMESPACE, "prod").unwrap();
    };
    for (what, before) in [("their connection leads to the platform's Prefect", leads), ("it goes", goes)] {
        for flow in ["orders", "payroll"] {
            for deleted in [false, true] {
                let what = format!("{what}, {flow}, {deleted}");
                let attack = Attack::new();
                // Ids that the platform's Prefect gives to nothing else.
                for noise in 0..10 {
                    attack.evil.prefect.ensure_flow(&format!("noise-{noise}")).await.unwrap();
                }
                let mut object = World::flow("orders");
                object["spec"]["flowName"] = json!(flow);
                attack.world.server.put("flowdeployments", object).unwrap();
                let has = |world: &World| world.flow_object("orders")["status"]["deploymentId"].is_string();
                attack.world.until("it is made", has).await;
                let id: DeploymentId =
                    attack.world.flow_object("orders")["status"]["deploymentId"].as_str().unwrap().into();
                // The same id, of a deployment that others have, which no mark tells from one of ours.
                let theirs = Deployment {
                    tags: vec!["theirs".into()],
                    ..attack.evil.prefect.state().deployments[&id].clone()
                };
                let flow_id = attack.evil.prefect.state().flows[flow].clone();
                attack.world.prefect.state().flows.insert(flow.into(), flow_id);
                attack.world.prefect.state().deployments.insert(id.clone(), theirs.clone());
                before(&attack);
                let mut spec = to_the_cluster.clone();
                spec["flowName"] = json!("orders");
                attack.merge("flowdeployments", &spec);
                sleep(POLL * 40).await;
                let told = attack.world.flow_object("orders");
                if flow == "orders" {
                    assert_eq!(
                        condition(&told, "Ready"),
                        Some(("False", "AdoptionRequired")),
                        "{what} {told:#}"
                    );
                } else {
                    assert_eq!(condition(&told, "Ready"), Some(("True", "InSync")), "{what} {told:#}");
                }
                if deleted {
                    attack.world.server.remove("flowdeployments", NAMESPACE, "orders").unwrap();
                    sleep(POLL * 40).await;
                    assert!(
                        attack.world.server.object("flowdeployments", NAMESPACE, "orders").is_none(),
                        "{what}"
                    );
                }
                let calls = attack.world.prefect.state().calls.clone();
                let named: Vec<_> = calls.iter().filter(|call| call.contains(id.as_str())).collect();
                assert!(named.is_empty(), "{what}: {named:?}");
                assert_eq!(attack.world.prefect.state().deployments[&id], theirs, "{what}");
            }
        }
    }
}

/// A team that had the platform's Prefect by a connection of its own goes over to the platform's.
#[tokio::test(start_paused = true)]
async fn a_deployment_with_our_mark_goes_on_through_the_connection_of_the_cluster() {
    let attack = Attack::new();
    let same = json!({"spec": {"apiUrl": "https://prefect.example/api"}});
    attack.world.server.merge("prefectworkspaces", NAMESPACE, "prod", &same).unwrap();
    attack.world.server.put("flowdeployments", World::flow("orders")).unwrap();
    attack.world.settle().await;
    let before = attack.world.prefect.state().deployments.clone();
    assert_eq!(before.len(), 1);
    let writes = attack.world.troubles.writes();
    attack.merge(
        "flowdeployments",
        &json!({"workspaceRef": {"kind": "ClusterPrefectWorkspace", "name": "prod"}}),
    );
    attack.world.settle().await;
    let flow = attack.world.flow_object("orders");
    assert_eq!(condition(&flow, "Ready"), Some(("True", "InSync")));
    let id = before.keys().next().unwrap();
    assert_eq!(
        (&flow["status"]["workspace"], &flow["status"]["deploymentId"]),
        (&json!("cluster:prod"), &json!(id.as_str()))
    );
    assert_eq!(
        (attack.world.prefect.state().deployments.clone(), attack.world.troubles.writes()),
        (before.clone(), writes)
    );
    assert_eq!(before[id].tags, [format!("feedwater:{INSTANCE}/finance/orders")]);
    attack.world.server.remove("flowdeployments", NAMESPACE, "orders").unwrap();
    attack.world.settle().await;
    assert!(attack.world.prefect.state().deployments.is_empty());
}

/// The same of tasks: the list of the new connection shows them on the target.
#[tokio::test(start_paused = true)]
async fn a_task_on_the_target_goes_on_through_the_connection_of_the_cluster() {
    let attack = Attack::new();
    let same = json!({"spec": {"serverUrl": "https://tableau.example"}});
    attack.world.server.merge("tableausites", NAMESPACE, "acme", &same).unwrap();
    let mut refresh = World::refresh("orders", &[]);
    refresh["spec"]["schedules"] = nightly("02:00");
    attack.world.server.put("extractrefreshes", refresh).unwrap();
    attack.world.settle().await;
    let before = attack.world.tableau.state().tasks.clone();
    assert_eq!(
        (before.len(), &attack.world.exr("orders")["status"]["schedules"][0]["site"]),
        (1, &json!("acme"))
    );
    attack.merge("extractrefreshes", &to_the_cluster());
    attack.world.settle().await;
    assert_eq!(attack.world.exr("orders")["status"]["schedules"][0]["site"], "cluster:acme");
    assert_eq!(attack.world.tableau.state().tasks.clone(), before);
    // The former connection is needed no more.
    attack.world.server.remove("tableausites", NAMESPACE, "acme").unwrap();
    attack
        .world
        .until("it goes", |world| world.server.object("tableausites", NAMESPACE, "acme").is_none())
        .await;
    attack.world.server.remove("extractrefreshes", NAMESPACE, "orders").unwrap();
    attack.world.settle().await;
    assert!(attack.world.tableau.state().tasks.is_empty());
}

/// A site that is left: what was made there goes, through the connection by which it was made, which stays as long as it is needed for that.
#[tokio::test(start_paused = true)]
async fn a_site_that_is_left_is_cleaned_up_through_its_own_connection() {
    let attack = Attack::new();
    let mut refresh = World::refresh("orders", &[]);
    refresh["spec"]["schedules"] = nightly("02:00");
    attack.world.server.put("extractrefreshes", refresh).unwrap();
    let in_sync = |world: &World| condition(&world.exr("orders"), "Ready") == Some(("True", "InSync"));
    attack.world.until("it is in sync", in_sync).await;
    sleep(POLL).await;
    attack
        .evil
        .tableau
        .fail("delete_task", TableauError::Throttled { retry_after: Some(Duration::from_secs(60)) });
    attack.merge("extractrefreshes", &to_the_cluster());
    sleep(Duration::from_secs(20)).await;
    assert!(!attack.world.server.remove("tableausites", NAMESPACE, "acme").unwrap(), "it waits");
    sleep(Duration::from_secs(20)).await;
    let waits = attack.world.server.object("tableausites", NAMESPACE, "acme").unwrap();
    assert_eq!(condition(&waits, "Ready"), Some(("False", "InUse")), "{waits:#}");
    attack
        .world
        .until("it goes", |world| world.server.object("tableausites", NAMESPACE, "acme").is_none())
        .await;
    attack.world.settle().await;
    assert!(in_sync(&attack.world));
    assert_eq!((attack.evil.tableau.state().tasks.len(), attack.world.tableau.state().tasks.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_is_killed_while_a_site_is_left_the_schedules_are_there_once_and_where_the_spec_says() {
    // Before each write there is, and after each.
    for writes in 0..8 {
        let mut attack = Attack::new();
        let mut refresh = World::refresh("orders", &[]);
        refresh["spec"]["schedules"] = nightly("02:00");
        attack.world.server.put("extractrefreshes", refresh).unwrap();
        let in_sync = |world: &World| condition(&world.exr("orders"), "Ready") == Some(("True", "InSync"));
        attack.world.until("it is in sync", in_sync).await;
        sleep(POLL * 2).await;
        let id = attack.world.exr("orders")["status"]["schedules"][0]["taskId"].as_str().unwrap().to_owned();
        let written = attack.world.writes().len();
        attack.merge("extractrefreshes", &to_the_cluster());
        let made = |world: &World| {
            in_sync(world) && world.exr("orders")["status"]["schedules"][0]["site"] == "cluster:acme"
        };
        attack
            .world
            .until("so much is written, or all", |world| {
                world.writes().len() >= written + writes || made(world)
            })
            .await;
        attack.restart();
        attack.world.until("it is there", made).await;
        attack.world.settle().await;
        let left = (attack.evil.tableau.state().tasks.len(), attack.world.tableau.state().tasks.len());
        assert_eq!((left, attack.named(&id)), ((0, 1), vec![]), "after {writes} writes");
    }
}
