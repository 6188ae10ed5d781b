//! One test's part of the world: a namespace, an operator that serves only it, a Tableau simulator of its own, and the shared Prefect.

use feedwater::api::{ExtractRefresh, FlowDeployment, HasStatus, PrefectWorkspace, TableauSite};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use world::cluster::Kubectl;
use world::info::Info;
use world::operator::{Operator, OperatorOptions, install_namespaced};
use world::prefect::Rest;
use world::resources;
use world::tableau::{Config, Simulator, Truth};

/// How long anything may take before a test gives up. Generous: the machine has two cores and other tests run beside.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The site's content URL in every test.
pub const SITE: &str = "acme";

/// See the module. Dropping it stops the operator and the simulator.
pub struct Stage {
    /// The namespace of everything; also the operator's name and instance.
    pub namespace: String,
    /// The cluster's administrator.
    pub client: Client,
    /// The cluster's administrator, as a user.
    pub kubectl: Kubectl,
    /// Tableau.
    pub tableau: Simulator,
    /// Prefect, as a user.
    pub prefect: Rest,
    /// The operator.
    pub operator: Operator,
    /// The shared world.
    pub info: Info,
}

/// How a stage is set.
pub struct Setting {
    /// Poll interval of both connections.
    pub poll: &'static str,
    /// Prefect's API as the operator sees it; `None`: directly.
    pub prefect_url: Option<String>,
    /// The API server as the operator sees it; `None`: directly.
    pub api_server: Option<String>,
    /// The simulator.
    pub tableau: Config,
    /// More arguments of the operator.
    pub operator_args: Vec<String>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            poll: "1s",
            prefect_url: None,
            api_server: None,
            tableau: Config::default(),
            operator_args: vec!["--settle".into(), "2s".into()],
        }
    }
}

impl Stage {
    /// kubectl and kubeconfig of the shared cluster.
    pub fn cluster() -> (PathBuf, PathBuf) {
        let info = info();
        (info.kubectl, info.kubeconfig)
    }

    /// A stage with everything but flows and extracts: both connections are declared.
    pub async fn set(name: &str) -> Self {
        Self::set_with(name, Setting::default()).await
    }

    /// The same, with other settings.
    pub async fn set_with(name: &str, setting: Setting) -> Self {
        Self::set_in(info(), name, setting).await
    }

    /// The same, in another world.
    pub async fn set_in(info: Info, name: &str, setting: Setting) -> Self {
        let kubectl = info.kubectl();
        let namespace = format!("{name}-{}", &uuid::Uuid::new_v4().simple().to_string()[..6]);
        let manifests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("manifests/namespaced");
        install_namespaced(&kubectl, &manifests, &namespace).await.unwrap();
        let client = client(&info).await;

        let tableau = Simulator::start(setting.tableau).await.unwrap();
        tableau.add_site(SITE);
        tableau.add_pat(SITE, "feedwater", "first-secret", "feedwater");

        let mut options =
            OperatorOptions::namespaced(std::path::Path::new(env!("CARGO_BIN_EXE_feedwater")), &namespace);
        options.extra_args = setting.operator_args;
        options.api_server = setting.api_server;
        let operator = Operator::start(&kubectl, &info.directory.join(&namespace), options).await.unwrap();

        let api_url = info.prefect_api_url.clone().expect("the shared world has Prefect");
        let prefect = Rest::new(&api_url).unwrap();
        let stage = Self { namespace, client, kubectl, tableau, prefect, operator, info };
        let ns = &stage.namespace;
        let mut workspace =
            resources::prefect_workspace(ns, "prod", setting.prefect_url.as_ref().unwrap_or(&api_url));
        workspace["spec"]["pollInterval"] = setting.poll.into();
        let mut site = resources::tableau_site(ns, "acme", &stage.tableau.url(), SITE, "tableau-pat");
        site["spec"]["pollInterval"] = setting.poll.into();
        stage
            .apply(&[
                resources::secret_reader(ns, &["tableau-pat", "prefect"], ns),
                resources::personal_access_token(ns, "tableau-pat", "feedwater", "first-secret"),
                workspace,
                site,
            ])
            .await;
        stage
    }

    /// Applies objects as a user does.
    pub async fn apply(&self, objects: &[Value]) {
        self.kubectl.apply(&resources::list(objects).to_string()).await.unwrap();
    }

    /// The typed API of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until an object is as wanted, and returns it. `what` is named when it never is.
    pub async fn until<K>(&self, name: &str, what: &str, holds: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.until_within(LIMIT, name, what, holds).await
    }

    /// The same, for what takes longer by its nature.
    pub async fn until_within<K>(
        &self,
        limit: Duration,
        name: &str,
        what: &str,
        holds: impl Fn(&K) -> bool,
    ) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let (api, started) = (self.api::<K>(), Instant::now());
        loop {
            let seen = api.get_opt(name).await;
            if let Ok(Some(object)) = &seen
                && holds(object)
            {
                return object.clone();
            }
            assert!(
                started.elapsed() < limit,
                "{name} never came to be: {what}\nlast seen: {seen:#?}\noperator's log:\n{}",
                self.log_tail()
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The `ExtractRefresh`, as soon as it is as wanted.
    pub async fn extract(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&ExtractRefresh) -> bool,
    ) -> ExtractRefresh {
        self.until(name, what, holds).await
    }

    /// Waits until both connections are ready.
    pub async fn connected(&self) {
        self.until::<PrefectWorkspace>("prod", "Ready", |w| is(w, "Ready", "True", "Connected")).await;
        self.until::<TableauSite>("acme", "Ready", |s| is(s, "Ready", "True", "Connected")).await;
    }

    /// A flow of this test alone, declared by a `FlowDeployment` of that name; returns the deployment's id in Prefect once it is there.
    pub async fn flow(&self, name: &str) -> String {
        self.apply(&[self.flow_object(name)]).await;
        self.deployed(name).await
    }

    /// The object [`Self::flow`] applies: a flow name that no other test has.
    pub fn flow_object(&self, name: &str) -> Value {
        let mut flow = resources::flow_deployment(&self.namespace, name, "prod", "orders");
        flow["spec"]["flowName"] = format!("{}-{name}", self.namespace).into();
        flow
    }

    /// The id of a `FlowDeployment`'s deployment, once it is in sync.
    pub async fn deployed(&self, name: &str) -> String {
        let flow = self.until::<FlowDeployment>(name, "InSync", |f| is(f, "Ready", "True", "InSync")).await;
        flow.status.unwrap().deployment_id.unwrap()
    }

    /// A data source `Finance/Sales/<name>`; returns its LUID.
    pub fn datasource(&self, name: &str) -> String {
        self.tableau.add_datasource(SITE, &["Finance", "Sales"], name, true)
    }

    /// A data source `Orders`, fed by the flow `orders`, and the `ExtractRefresh` `orders` that says so; returns the LUID and the deployment's id.
    pub async fn orders(&self) -> (String, String) {
        let luid = self.datasource("Orders");
        let flow = self.flow("orders").await;
        self.declare("orders", "Orders", &["orders"]).await;
        (luid, flow)
    }

    /// An `ExtractRefresh` of `Finance/Sales/<data source>` fed by these `FlowDeployment`s.
    pub fn extract_object(&self, name: &str, datasource: &str, flows: &[&str]) -> Value {
        resources::extract_refresh(&self.namespace, name, "acme", ("Finance/Sales", datasource), flows)
    }

    /// Applies [`Self::extract_object`] and waits until it has taken its place: from here on completions count.
    pub async fn declare(&self, name: &str, datasource: &str, flows: &[&str]) {
        self.apply(&[self.extract_object(name, datasource, flows)]).await;
        self.ready(name).await;
    }

    /// Waits until an extract is ready and every upstream has its mark.
    pub async fn ready(&self, name: &str) -> ExtractRefresh {
        self.extract(name, "Ready, with a baseline", |e| {
            is(e, "Ready", "True", "InSync") && e.status.as_ref().is_some_and(|s| s.baseline.is_some())
        })
        .await
    }

    /// The shared world.
    pub fn info() -> Info {
        info()
    }

    /// Waits until an extract is fresh, nothing is under way, and the last refresh succeeded.
    pub async fn fresh(&self, name: &str) -> ExtractRefresh {
        self.extract(name, "Fresh", |e| {
            is(e, "Fresh", "True", "UpToDate")
                && is(e, "Refreshing", "False", "")
                && is(e, "LastRefreshSucceeded", "True", "Succeeded")
                && e.status.as_ref().is_some_and(|s| s.owed.is_none() && s.attempt.is_none())
        })
        .await
    }

    /// Waits until so many extracts carry the annotation that follows the first status: the last thing written before they rest.
    pub async fn annotated(&self, count: usize) {
        let started = Instant::now();
        loop {
            let all = self.api::<ExtractRefresh>().list(&kube::api::ListParams::default()).await.unwrap();
            let done = |e: &&ExtractRefresh| {
                e.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(feedwater::api::BASELINE))
            };
            if all.items.iter().filter(done).count() >= count {
                return;
            }
            assert!(started.elapsed() < LIMIT, "baselines are not written\n{}", self.log_tail());
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until a job has ended.
    pub async fn ended(&self, job: &str) {
        let ended = |truth: &Truth| truth.refreshes.iter().any(|r| r.job == job && r.ended.is_some());
        assert!(self.tableau.wait_for(LIMIT, ended).await.is_ok(), "job {job} does not end");
    }

    /// How many refreshes of a content we started.
    pub fn ours(&self, luid: &str) -> usize {
        let ours =
            |r: &&&world::tableau::Refresh| matches!(r.requested_by, world::tableau::RequestedBy::Api { .. });
        self.tableau.truth().refreshes_of(luid).iter().filter(ours).count()
    }

    /// Deletes an object and waits until it is gone.
    pub async fn delete<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let (api, started) = (self.api::<K>(), Instant::now());
        api.delete(name, &kube::api::DeleteParams::default()).await.unwrap();
        while api.get_opt(name).await.unwrap().is_some() {
            assert!(
                started.elapsed() < LIMIT,
                "{name} is not gone
{}",
                self.log_tail()
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the API server's clock shows another second than an object's creation.
    pub async fn second_passes(&self, name: &str) {
        let created = self.extract(name, "created", |_| true).await.metadata.creation_timestamp.unwrap().0;
        loop {
            // A dry run is stamped by the API server, and nothing is left of it.
            let probe = kube::api::PostParams { dry_run: true, ..Default::default() };
            let mut object: ExtractRefresh =
                serde_json::from_value(self.extract_object("probe", "-", &[])).unwrap();
            object.metadata.name = Some(format!("probe-{}", uuid::Uuid::new_v4().simple()));
            let made = self.api::<ExtractRefresh>().create(&probe, &object).await.unwrap();
            if made.metadata.creation_timestamp.unwrap().0 > created {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Changes an object by a merge patch.
    pub async fn change<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Asks for a refresh as a person does.
    pub async fn ask(&self, name: &str, token: &str) {
        let annotations = json!({ feedwater::api::REFRESH_REQUESTED: token });
        self.change::<ExtractRefresh>(name, json!({ "metadata": { "annotations": annotations } })).await;
    }

    /// Waits until so many refreshes of a content were started.
    pub async fn refreshes(&self, luid: &str, count: usize) {
        let enough = |truth: &Truth| truth.refreshes_of(luid).len() >= count;
        if let Err(truth) = self.tableau.wait_for(LIMIT, enough).await {
            panic!(
                "{count} refreshes of {luid} were expected, {} came\noperator's log:\n{}",
                truth.refreshes_of(luid).len(),
                self.log_tail()
            );
        }
    }

    /// How many refreshes of a content were started.
    pub fn refreshed(&self, luid: &str) -> usize {
        self.tableau.truth().refreshes_of(luid).len()
    }

    /// The end of the operator's log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.operator.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

/// Whether a condition has this status and reason, at the present generation.
pub fn is<K>(object: &K, kind: &str, status: &str, reason: &str) -> bool
where
    K: HasStatus + Resource,
{
    use feedwater::api::Conditioned;
    object.status().is_some_and(|s| {
        s.conditions().iter().any(|c| {
            c.type_ == kind
                && c.status == status
                && (reason.is_empty() || c.reason == reason)
                && c.observed_generation == object.meta().generation
        })
    })
}

/// The message of a condition; empty where there is none.
pub fn told<K: HasStatus>(object: &K, kind: &str) -> String {
    let conditions = object.status().into_iter().flat_map(feedwater::api::Conditioned::conditions);
    conditions.filter(|c| c.type_ == kind).map(|c| c.message.clone()).collect()
}

fn info() -> Info {
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Info::shared() {
        Ok(info) => info,
        Err(error) => panic!("{error}"),
    }
}

pub async fn client(info: &Info) -> Client {
    let kubeconfig = kube::config::Kubeconfig::read_from(&info.kubeconfig).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}
