//! Everything an operator meets, and operators that can be killed.

use crate::remote::{Lines, Troubles};
use crate::truth::Truth;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use feedwater::api::TargetKind;
use feedwater::clock::Clock;
use feedwater::controller::apiclock::ApiClock;
use feedwater::controller::operator::{OperatorError, Parts, operate};
use feedwater::controller::services::Services;
use feedwater::model::ids::{DeploymentId, DeploymentName, Luid};
use feedwater::prefect::fake::{FakePrefect, State};
use feedwater::prefect::{Run, StateType};
use feedwater::runtime::metrics::Metrics;
use feedwater::runtime::shutdown::Shutdown;
use feedwater::settings::{LeaseSettings, Scope};
use feedwater::tableau::JobStatus;
use feedwater::tableau::fake::{FakeJob, FakeTableau};
use jiff::{SignedDuration, Timestamp};
use kube::client::ClientBuilder;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use world::apiserver::{ApiServer, Call, Kind};
use world::resources;

pub const NAMESPACE: &str = "finance";
pub const INSTANCE: &str = "test";
/// What the connections are read at.
pub const POLL: Duration = Duration::from_secs(30);
pub const SETTLE: Duration = Duration::from_secs(30);

/// Made once: worlds at random are made by the hundred.
static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let crds = feedwater::api::schema::crds().unwrap();
    crds.iter().map(|crd| Kind::of_crd(crd).unwrap()).collect()
});

/// See the module.
pub struct World {
    pub server: ApiServer,
    pub prefect: Arc<FakePrefect>,
    pub tableau: Arc<FakeTableau>,
    pub troubles: Troubles,
    pub engine: Arc<Mutex<Engine>>,
    pub truth: Truth,
    /// Which namespaces the operators serve.
    pub scope: Scope,
    /// The operators' `--cleanup-deadline`.
    pub cleanup: Duration,
    /// Where the operators' Lease is.
    pub lease_namespace: String,
    clock: Clock,
    skews: Skews,
    tasks: JoinSet<()>,
}

/// How far clocks are from the true one, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Skews {
    pub prefect: i64,
    pub tableau: i64,
    pub server: i64,
    pub operators: i64,
}

/// How Tableau works its queue off.
#[derive(Debug)]
pub struct Engine {
    /// Nothing moves.
    pub stopped: bool,
    /// How a job spends its time.
    pub queued: Duration,
    pub running: Duration,
    /// How the next jobs end; then they succeed.
    pub ends: VecDeque<JobStatus>,
}

impl World {
    /// An empty cluster with the namespace, an empty Prefect with the work pool, a site with the project `Finance`.
    pub fn new() -> Self {
        Self::with(Skews::default())
    }

    /// The same, with clocks that are wrong.
    pub fn with(skews: Skews) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let epoch: Timestamp = "2026-11-25T06:00:00Z".parse().unwrap();
        let clock = Clock::virtual_from(epoch);
        let skewed = |ms| Clock::virtual_from(epoch.checked_add(SignedDuration::from_millis(ms)).unwrap());
        let now = skewed(skews.server);
        let server = ApiServer::new(KINDS.iter().cloned(), move || now.now());
        server.put("namespaces", resources::namespace(NAMESPACE)).unwrap();
        let world = Self {
            truth: Truth::new(clock.clone(), server.clone()),
            server,
            prefect: Arc::new(FakePrefect::new(skewed(skews.prefect))),
            tableau: Arc::new(FakeTableau::new(skewed(skews.tableau))),
            scope: Scope::Namespace(NAMESPACE.into()),
            cleanup: Duration::from_secs(600),
            lease_namespace: NAMESPACE.into(),
            skews,
            troubles: Troubles::default(),
            engine: Arc::new(Mutex::new(Engine {
                stopped: false,
                queued: Duration::from_secs(3),
                running: Duration::from_secs(20),
                ends: VecDeque::new(),
            })),
            clock,
            tasks: JoinSet::new(),
        };
        world.prefect.state().work_pools.insert("etl".into());
        world.with_engine()
    }

    /// One workspace, one site and its Secret.
    pub fn connections(&self) {
        self.connections_read_every(POLL);
    }

    pub fn connections_read_every(&self, poll: Duration) {
        let poll = format!("{}s", poll.as_secs());
        self.secret(NAMESPACE, "tableau", &[("name", "token"), ("secret", "value")]);
        let mut workspace = resources::prefect_workspace(NAMESPACE, "prod", "https://prefect.example/api");
        workspace["spec"]["pollInterval"] = json!(poll);
        self.server.put("prefectworkspaces", workspace).unwrap();
        let mut site =
            resources::tableau_site(NAMESPACE, "acme", "https://tableau.example", "acme", "tableau");
        site["spec"]["pollInterval"] = json!(poll);
        self.server.put("tableausites", site).unwrap();
    }

    pub fn secret(&self, namespace: &str, name: &str, values: &[(&str, &str)]) {
        let data: Value = values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(BASE64_STANDARD.encode(value))))
            .collect();
        let metadata = json!({"name": name, "namespace": namespace});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data});
        self.server.put("secrets", secret).unwrap();
    }

    /// The `FlowDeployment` of a flow of the same name, with a schedule.
    pub fn flow(name: &str) -> Value {
        let mut flow = resources::flow_deployment(NAMESPACE, name, "prod", name);
        flow["spec"]["workPool"]["name"] = json!("etl");
        flow["spec"]["schedules"] = json!([{"slug": "nightly", "cron": {"expression": "0 2 * * *"}}]);
        flow
    }

    /// The `ExtractRefresh` of the data source of the same name, after these flows.
    pub fn refresh(name: &str, flows: &[&str]) -> Value {
        resources::extract_refresh(NAMESPACE, name, "acme", ("Finance", name), flows)
    }

    /// Publishes a data source in the project `Finance`.
    pub fn publish(&self, name: &str) -> Luid {
        let known = self.tableau.state().projects.first().map(|project| project.id.clone());
        let project = known.unwrap_or_else(|| self.tableau.project("Finance", None));
        self.tableau.publish(TargetKind::Datasource, name, &project)
    }

    /// The deployment that a flow of [`Self::flow`] becomes.
    pub fn deployment(name: &str) -> DeploymentName {
        DeploymentName { flow: name.into(), deployment: name.into() }
    }

    /// A run of a flow completes now.
    pub fn complete(&self, flow: &str) -> Run {
        self.prefect.run(&Self::deployment(flow), StateType::Completed)
    }

    pub fn exr(&self, name: &str) -> Value {
        self.server.object("extractrefreshes", NAMESPACE, name).unwrap()
    }

    pub fn flow_object(&self, name: &str) -> Value {
        self.server.object("flowdeployments", NAMESPACE, name).unwrap()
    }

    /// Every job of the site.
    pub fn jobs(&self) -> Vec<FakeJob> {
        self.tableau.state().jobs.clone()
    }

    /// How many jobs there were of a content.
    pub fn jobs_of(&self, luid: &Luid) -> usize {
        self.jobs().iter().filter(|job| job.job.content.as_ref() == Some(luid)).count()
    }

    /// Writes of operators to the API server, but for the Lease and Events.
    pub fn writes(&self) -> Vec<Call> {
        self.server.log().into_iter().map(|(call, _)| call).filter(matters).collect()
    }

    /// Every form an object of a kind ever had, with the true time it got it.
    pub fn history(&self, plural: &str) -> Vec<(Timestamp, Value)> {
        let skew = SignedDuration::from_millis(self.skews.server);
        let mut history = self.server.history(plural);
        for (at, _) in &mut history {
            *at = at.checked_sub(skew).unwrap();
        }
        history
    }

    /// Returns once nothing has been written, here or there, for three polls, and nothing is under way.
    pub async fn settle(&self) {
        let mut quiet = 0;
        for _ in 0..2000 {
            let before = self.activity();
            sleep(POLL).await;
            quiet = if self.activity() == before && !self.under_way() { quiet + 1 } else { 0 };
            if quiet == 3 {
                return;
            }
        }
        panic!("does not settle: {:#?}", self.server.objects("extractrefreshes"));
    }

    /// Waits for something that has to happen, in virtual time.
    pub async fn until(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        for _ in 0..36_000 {
            if happened(self) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!(
            "within an hour it did not happen that {what}: {:#?}",
            self.server.objects("extractrefreshes")
        );
    }

    /// An extract `orders` after a flow of the same name, seen in sync by `operator`.
    pub fn with_orders(&self) -> Luid {
        self.connections();
        let luid = self.publish("orders");
        self.server.put("flowdeployments", Self::flow("orders")).unwrap();
        self.server.put("extractrefreshes", Self::refresh("orders", &["orders"])).unwrap();
        luid
    }

    /// How much has been written, here and there.
    pub fn activity(&self) -> (usize, usize) {
        (self.server.count(matters), self.troubles.writes())
    }

    /// Whether a job runs or a refresh is owed.
    pub fn under_way(&self) -> bool {
        let jobs = self.jobs().iter().any(|job| job.job.completed_at.is_none());
        let owed = self.server.objects("extractrefreshes").iter().any(|exr| {
            let status = &exr["status"];
            let owed = status["owed"].is_object() && !status["owed"]["stopped"].is_string();
            (owed || status["attempt"].is_object()) && exr["spec"]["suspend"] != true
        });
        jobs && !self.engine.lock().unwrap().stopped || owed
    }

    /// Starts an operator.
    pub fn operator(&self, identity: &str) -> Process {
        self.operator_by_lease(identity, "feedwater")
    }

    /// Starts an operator that contends for this Lease: by another than the rest, it leads beside them.
    pub fn operator_by_lease(&self, identity: &str, lease: &str) -> Process {
        self.operator_with(identity, lease, None)
    }

    /// Starts an operator that reaches Prefect and Tableau in another way.
    pub fn operator_with(&self, identity: &str, lease: &str, services: Option<Arc<dyn Services>>) -> Process {
        let skew = SignedDuration::from_millis(self.skews.operators);
        let clock = Clock::virtual_from(self.now().checked_add(skew).unwrap());
        let api_clock = ApiClock::new(clock.clone());
        let client = ClientBuilder::new(self.server.door(identity), "default").with_layer(&api_clock).build();
        let (ask, shutdown) = Shutdown::by_hand();
        let metrics = Arc::new(Metrics::default());
        let lines = || Lines {
            process: identity.into(),
            clock: clock.clone(),
            prefect: self.prefect.clone(),
            tableau: self.tableau.clone(),
            troubles: self.troubles.clone(),
            truth: self.truth.clone(),
        };
        let services = services.unwrap_or_else(|| Arc::new(lines()));
        let parts = Parts {
            client,
            api_clock,
            services,
            clock,
            instance: INSTANCE.into(),
            scope: self.scope.clone(),
            settle: SETTLE,
            cleanup_deadline: self.cleanup,
            shutdown_grace: Duration::from_secs(25),
            lease: LeaseSettings {
                namespace: self.lease_namespace.clone(),
                name: lease.into(),
                identity: identity.into(),
            },
            metrics: metrics.clone(),
            synced: Arc::default(),
            shutdown,
        };
        let mut task = JoinSet::new();
        task.spawn(operate(parts));
        Process { task, ask, metrics }
    }

    /// Wall time of the cluster and its surroundings.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn with_engine(mut self) -> Self {
        let (tableau, engine, truth) = (self.tableau.clone(), self.engine.clone(), self.truth.clone());
        let clock = Clock::virtual_from(tableau_time(self.now(), self.skews));
        self.tasks.spawn(async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                work_off(&tableau, &mut engine.lock().unwrap(), clock.now(), &truth);
            }
        });
        let (prefect, mut known) = (self.prefect.clone(), BTreeSet::new());
        self.tasks.spawn(async move {
            loop {
                sleep(Duration::from_secs(5)).await;
                schedule(&mut prefect.state(), &mut known);
            }
        });
        self
    }
}

/// Whether a request to the API server writes what tells or decides something.
fn matters(call: &Call) -> bool {
    call.verb.writes() && call.plural != "leases" && call.plural != "events"
}

fn tableau_time(at: Timestamp, skews: Skews) -> Timestamp {
    at.checked_add(SignedDuration::from_millis(skews.tableau)).unwrap()
}

/// Prefect's own loop: deployments that are new get their scheduled runs. (That it would also give them to others, within minutes, is kept from
/// the operator, so that it shows when it forgot to ask.)
fn schedule(prefect: &mut State, known: &mut BTreeSet<DeploymentId>) {
    let ids: Vec<DeploymentId> = prefect.deployments.keys().cloned().collect();
    for id in ids {
        if scheduled(prefect, &id) && known.insert(id.clone()) {
            prefect.scheduled.insert(id);
        }
    }
}

/// Whether a deployment has to have scheduled runs.
pub fn scheduled(prefect: &State, id: &DeploymentId) -> bool {
    let deployment = &prefect.deployments[id];
    !deployment.paused && deployment.schedules.iter().any(|schedule| schedule.active)
}

fn work_off(tableau: &FakeTableau, engine: &mut Engine, now: Timestamp, truth: &Truth) {
    if engine.stopped {
        return;
    }
    let passed = |since: Option<Timestamp>, time: Duration| {
        since.is_some_and(|since| now.duration_since(since) >= SignedDuration::try_from(time).unwrap())
    };
    let jobs = tableau.state().jobs.clone();
    for FakeJob { job, .. } in jobs.iter().filter(|job| job.job.completed_at.is_none()) {
        let next = if job.started_at.is_none() && passed(job.created_at, engine.queued) {
            JobStatus::InProgress
        } else if passed(job.started_at, engine.running) {
            engine.ends.pop_front().unwrap_or(JobStatus::Success)
        } else {
            continue;
        };
        tableau.advance(&job.id, next).unwrap();
        truth.advanced(&job.id, job.content.as_ref().unwrap(), next);
    }
}

/// An operator. Dropped, it is killed between two of its steps.
pub struct Process {
    task: JoinSet<Result<(), OperatorError>>,
    ask: watch::Sender<bool>,
    pub metrics: Arc<Metrics>,
}

impl Process {
    /// SIGKILL.
    pub fn kill(self) {
        drop(self.task);
    }

    /// SIGTERM, to the end.
    pub async fn terminate(mut self) -> Result<(), OperatorError> {
        self.ask_to_end();
        self.task.join_next().await.unwrap().unwrap()
    }

    /// SIGTERM.
    pub fn ask_to_end(&self) {
        self.ask.send_replace(true);
    }

    /// Its end, if it has ended.
    pub fn ended(&mut self) -> Option<Result<(), OperatorError>> {
        self.task.try_join_next().map(Result::unwrap)
    }
}
