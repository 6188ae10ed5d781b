//! One run's part of the world: a namespace, a Tableau simulator, an operator for that namespace alone, and a fault proxy in front of each of
//! the three systems it talks to. The kube-apiserver is shared by all runs, a Prefect
//! by those that come one after the other.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::FaultsError;
use super::admin::{Admin, crs};
use super::point::System;
use crate::operator::{Operator, OperatorOptions};
use crate::prefect::Rest;
use crate::proxy::{Class, Proxy};
use crate::resources;
use crate::tableau::{Config, Edition, Simulator};

/// The site's content URL.
pub const SITE: &str = "acme";
/// How often the operator reads Prefect and Tableau.
const POLL: Duration = Duration::from_secs(1);
/// How long no call that changes something, and no job, means that nothing more will come: three polls.
pub const QUIET: Duration = POLL.saturating_mul(3);
/// How long anything that is waited for may take. Only a run that fails takes it.
pub const LIMIT: Duration = Duration::from_secs(90);

/// What all runs share.
#[derive(Clone)]
pub struct Shared {
    /// The cluster's administrator.
    pub admin: Arc<Admin>,
    /// The kubeconfig that tells where the kube-apiserver is.
    pub kubeconfig: PathBuf,
    /// The `feedwater` program.
    pub binary: PathBuf,
    /// The program that is started after a kill, where it is another.
    pub successor: Option<PathBuf>,
    /// More arguments of `feedwater run`.
    pub arguments: Vec<String>,
}

/// See the module.
pub struct Stage {
    /// The namespace of everything; also the operator's instance.
    pub namespace: String,
    /// The cluster's administrator.
    pub admin: Arc<Admin>,
    /// Tableau.
    pub simulator: Simulator,
    /// Prefect, as a person uses it.
    pub prefect: Rest,
    /// Which Tableau it is.
    pub edition: Edition,
    /// Where the run's log and what was seen lie.
    pub directory: PathBuf,
    /// Each is random, so that it can be looked for.
    secrets: Mutex<Secrets>,
    proxies: [Proxy; 3],
    /// A job waits for the act: that is quiet.
    held: AtomicBool,
}

#[derive(Default)]
struct Secrets {
    token_name: String,
    token_secret: String,
    username: String,
    password: String,
    /// All there ever were.
    all: Vec<String>,
}

impl Stage {
    /// A stage with an operator that has nothing to do yet.
    pub async fn set(
        shared: &Shared,
        prefect_url: &str,
        namespace: &str,
        directory: &Path,
        tableau: Config,
    ) -> Result<(Self, Operator), FaultsError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| FaultsError::File { path, source }
        };
        std::fs::create_dir_all(directory).map_err(file(directory))?;
        let edition = tableau.edition;
        let simulator = Simulator::start(tableau).await.map_err(file(directory))?;
        simulator.add_site(SITE);
        let proxies = [
            Proxy::of_cluster(&shared.kubeconfig).await.map_err(file(&shared.kubeconfig))?,
            Proxy::start(prefect_url).await.map_err(file(directory))?,
            Proxy::start(&simulator.url()).await.map_err(file(directory))?,
        ];
        let kubeconfig = directory.join("operator.kubeconfig");
        shared.admin.install(namespace, proxies[0].url(), &kubeconfig).await?;
        let options = OperatorOptions {
            name: "operator".to_owned(),
            extra_args: ["--settle", "1s"]
                .map(str::to_owned)
                .into_iter()
                .chain(shared.arguments.clone())
                .collect(),
            ..OperatorOptions::namespaced(&shared.binary, namespace)
        };
        let operator = Operator::start_as(kubeconfig, directory, options).await?;
        let stage = Self {
            namespace: namespace.to_owned(),
            admin: Arc::clone(&shared.admin),
            simulator,
            prefect: Rest::new(prefect_url)?,
            edition,
            directory: directory.to_owned(),
            secrets: Mutex::default(),
            proxies,
            held: AtomicBool::new(false),
        };
        stage.new_secrets();
        Ok((stage, operator))
    }

    /// The proxy in front of a system.
    pub fn proxy(&self, system: System) -> &Proxy {
        match system {
            System::Kubernetes => &self.proxies[0],
            System::Prefect => &self.proxies[1],
            System::Tableau => &self.proxies[2],
        }
    }

    /// The Secrets, the right to read them, and both connections.
    pub fn connections(&self) -> Vec<Value> {
        let ns = &self.namespace;
        let prefect = self.proxy(System::Prefect).url();
        let mut workspace = resources::prefect_workspace(ns, "prod", prefect);
        workspace["spec"]["auth"] = json!({"basic": {"secretRef": {"name": "prefect"}}});
        workspace["spec"]["pollInterval"] = "1s".into();
        let tableau = self.proxy(System::Tableau).url();
        let mut site = resources::tableau_site(ns, "acme", tableau, SITE, "tableau-pat");
        site["spec"]["pollInterval"] = "1s".into();
        if self.edition == Edition::Cloud {
            site["spec"]["edition"] = "Cloud".into();
        }
        let mut all = vec![resources::secret_reader(ns, &["tableau-pat", "prefect"], ns)];
        all.extend(self.secret_objects());
        all.extend([workspace, site]);
        all
    }

    fn secret_objects(&self) -> [Value; 2] {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let ns = &self.namespace;
        let prefect = [("username", &*secrets.username), ("password", &*secrets.password)];
        [
            resources::personal_access_token(ns, "tableau-pat", &secrets.token_name, &secrets.token_secret),
            resources::secret(ns, "prefect", &prefect),
        ]
    }

    /// Makes other secrets; Tableau refuses the old ones from now on.
    fn new_secrets(&self) {
        let secret = || format!("canary-{}", uuid::Uuid::new_v4().simple());
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        if !secrets.token_name.is_empty() {
            self.simulator.revoke_pat(SITE, &secrets.token_name);
        }
        let [name, token, username, password] = [secret(), secret(), secret(), secret()];
        self.simulator.add_pat(SITE, &name, &token, "feedwater");
        let pair = crate::cluster::base64(&format!("{username}:{password}"));
        secrets.all.extend([&name, &token, &username, &password, &pair].map(Clone::clone));
        secrets.all.extend([&name, &token, &username, &password].map(|text| crate::cluster::base64(text)));
        (secrets.token_name, secrets.token_secret) = (name, token);
        (secrets.username, secrets.password) = (username, password);
    }

    /// Replaces all credentials, as a rotation does.
    pub async fn rotate(&self) -> Result<(), FaultsError> {
        self.new_secrets();
        self.admin.apply(&resources::list(&self.secret_objects())).await
    }

    /// Every secret there ever was, also in base64.
    pub fn all_secrets(&self) -> Vec<String> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// The `FlowDeployment`; null when there is none.
    pub async fn flow(&self) -> Result<Value, FaultsError> {
        let path = format!("{}/orders", crs(&self.namespace, "flowdeployments"));
        Ok(self.admin.get(&path).await?.unwrap_or_default())
    }

    /// The `ExtractRefresh`; null when there is none.
    pub async fn extract(&self) -> Result<Value, FaultsError> {
        let path = format!("{}/orders", crs(&self.namespace, "extractrefreshes"));
        Ok(self.admin.get(&path).await?.unwrap_or_default())
    }

    /// The deployments of this run, whoever made them.
    pub async fn deployments(&self) -> Result<Vec<Value>, FaultsError> {
        self.filter("deployments", json!({})).await
    }

    /// The flow runs of this run, by the time they were expected to start.
    pub async fn runs(&self) -> Result<Vec<Value>, FaultsError> {
        self.filter("flow_runs", json!({"sort": "EXPECTED_START_TIME_ASC"})).await
    }

    async fn filter(&self, what: &str, mut body: Value) -> Result<Vec<Value>, FaultsError> {
        body["flows"] = json!({"name": {"any_": [format!("{}-orders", self.namespace)]}});
        let found = self.prefect.call(Method::POST, &format!("/{what}/filter"), Some(body)).await?;
        Ok(found.as_array().cloned().unwrap_or_default())
    }

    /// Runs of the schedule whose time has come and that nobody has taken.
    pub async fn runs_due(&self) -> Result<Vec<Value>, FaultsError> {
        let now = crate::clock::now();
        let due = |run: &Value| {
            run["state"]["type"] == "SCHEDULED" && expected(run).is_some_and(|expected| expected <= now)
        };
        Ok(self.runs().await?.into_iter().filter(due).collect())
    }

    /// A run of the flow, from its beginning to its end.
    pub async fn complete(&self) -> Result<(), FaultsError> {
        self.prefect.complete(&self.deployment().await?).await?;
        Ok(())
    }

    /// The id of the flow's deployment.
    pub async fn deployment(&self) -> Result<String, FaultsError> {
        let found = self.prefect.deployment(&format!("{}-orders", self.namespace), "orders").await?;
        Ok(found.map(|found| found["id"].as_str().unwrap_or_default().to_owned()).unwrap_or_default())
    }

    /// The oldest run that the schedule has made and nobody has taken runs to its end, as a worker would do it.
    pub async fn complete_a_tick(&self) -> Result<(), FaultsError> {
        let due = self.runs_due().await?;
        let id = due.first().and_then(|run| run["id"].as_str()).unwrap_or_default().to_owned();
        self.prefect.set_state(&id, "RUNNING").await?;
        self.prefect.set_state(&id, "COMPLETED").await?;
        Ok(())
    }

    /// Waits until something holds.
    pub async fn until(
        &self,
        what: &'static str,
        holds: impl AsyncFn() -> Result<bool, FaultsError>,
    ) -> Result<(), FaultsError> {
        let started = Instant::now();
        while !holds().await? {
            if started.elapsed() > LIMIT {
                return Err(FaultsError::Timeout { what, directory: self.directory.clone() });
            }
            sleep(Duration::from_millis(150)).await;
        }
        Ok(())
    }

    /// Whether a job waits for the act.
    pub fn hold_jobs(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// For how much longer it must be quiet until it has been so for `time`: no call that changes something, no job under way.
    pub fn until_quiet(&self, time: Duration) -> Duration {
        let now = crate::clock::now();
        let last = System::ALL.map(|system| {
            self.proxy(system).read(|journal| {
                let writes =
                    journal.iter().filter(|entry| matches!(entry.class, Class::Write | Class::SignIn));
                // One that stays open with a client that was killed has ended for us when its answer came.
                let ended = |e: &crate::proxy::Entry| e.ended.or(e.status.map(|_| e.came)).unwrap_or(now);
                writes.map(ended).max()
            })
        });
        let jobs = self.simulator.truth().refreshes;
        let held = self.held.load(Ordering::SeqCst);
        let jobs = jobs.iter().filter_map(|refresh| refresh.ended.or((!held).then_some(now))).max();
        let last = last.into_iter().chain([jobs]).flatten().max();
        let quiet = last.map_or(time, |last| duration(now.duration_since(last)));
        time.saturating_sub(quiet)
    }

    /// As if the term of a killed leader had passed: the lease is nobody's, and what is written on it stays.
    pub async fn expire_lease(&self) -> Result<(), FaultsError> {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/feedwater", self.namespace);
        self.admin.merge(&path, json!({"spec": {"holderIdentity": null}})).await
    }

    /// Takes away what would go on to cost something: Prefect's scheduler does not know that the run is over.
    pub async fn clear(&self) -> Result<(), FaultsError> {
        for deployment in self.deployments().await? {
            let id = deployment["id"].as_str().unwrap_or_default();
            let _ = self.prefect.call(Method::DELETE, &format!("/deployments/{id}"), None).await;
        }
        Ok(())
    }
}

/// When a run was to start.
pub fn expected(run: &Value) -> Option<Timestamp> {
    run["expected_start_time"].as_str()?.parse().ok()
}

fn duration(time: SignedDuration) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}
