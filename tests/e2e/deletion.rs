//! The examples as people use them: applied at once or in any order, and then nothing differs (`kubectl diff`); deleted at once, `kubectl delete
//! -k examples`, and with the whole namespace. The operator serves the whole cluster as far as its rights go, so that these do not go with the
//! namespace; it lives elsewhere.

use crate::stage::{LIMIT, SITE, Stage};
use feedwater::yaml;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use world::cluster::Kubectl;
use world::layout;
use world::operator::{Operator, OperatorOptions, install_namespaced};
use world::prefect::Rest;
use world::resources::{self, condition};
use world::tableau::{Availability, Config, Edition, Simulator, Truth};

/// A team's namespace, filled from `examples/`.
struct Team {
    namespace: String,
    /// The kustomization that is applied and deleted.
    overlay: PathBuf,
    kubectl: Kubectl,
    prefect: Rest,
    tableau: Simulator,
    operator: Operator,
    /// Where the operator lives.
    home: String,
    orders: String,
}

impl Team {
    async fn set() -> Self {
        let info = Stage::info();
        let kubectl = info.kubectl();
        let namespace = format!("team-{}", &uuid::Uuid::new_v4().simple().to_string()[..6]);
        let home = format!("{namespace}-operator");
        install_namespaced(&kubectl, &layout::manifests().join("base"), &home).await.unwrap();

        let tableau =
            Simulator::start(Config { edition: Edition::Cloud, ..Config::default() }).await.unwrap();
        tableau.add_site(SITE);
        tableau.add_pat(SITE, "feedwater", "first-secret", "feedwater");
        let orders = tableau.add_datasource(SITE, &["Finance", "Sales"], "Orders", true);
        tableau.add_workbook(SITE, &["Finance", "Reports"], "Revenue", true);

        let binary = Path::new(env!("CARGO_BIN_EXE_feedwater"));
        let mut options = OperatorOptions::namespaced(binary, &home);
        options.serves = Some(namespace.clone());
        let operator = Operator::start(&kubectl, &info.directory.join(&home), options).await.unwrap();

        let api_url = info.prefect_api_url.clone().unwrap();
        let overlay = info.directory.join(&namespace);
        write(&overlay, &namespace, &home, &api_url, &tableau.url());
        let prefect = Rest::new(&api_url).unwrap();
        Self { namespace, overlay, kubectl, prefect, tableau, operator, home, orders }
    }

    /// Another operator starts, which gives a deletion this long. The one before has ended.
    async fn succeeded_by(&mut self, deadline: &str) {
        let mut options = OperatorOptions::namespaced(Path::new(env!("CARGO_BIN_EXE_feedwater")), &self.home);
        options.serves = Some(self.namespace.clone());
        options.extra_args = vec!["--cleanup-deadline".into(), deadline.into()];
        let directory = Stage::info().directory.join(&self.home);
        self.operator = Operator::start(&self.kubectl, &directory, options).await.unwrap();
    }

    /// Tableau is down, the Secret goes with the namespace, and the operator that knew it is killed meanwhile: the deletion ends at the deadline,
    /// and what could not be cleaned up is left behind and told.
    async fn ends_though_nobody_can_clean_up(&mut self) {
        self.apply().await;
        self.operator.terminate().await;
        self.succeeded_by("15s").await;
        self.until("tableausite", "acme", "Connected").await;
        self.tableau.set_availability(Availability::Reset);
        let (kubectl, namespace) = (self.kubectl.clone(), self.namespace.clone());
        let delete = ["delete", "namespace", &namespace, "--wait=true", "--timeout=40s"];
        let (ended, ()) = tokio::join!(kubectl.run(&delete), async {
            self.until("extractrefresh", "orders", "DeletionBlocked").await;
            // The credentials are gone.
            let gone = ["wait", "--for=delete", "secret/tableau-pat", "-n", &namespace, "--timeout=20s"];
            kubectl.run(&gone).await.unwrap();
            self.operator.kill().await;
            self.succeeded_by("15s").await;
        });
        ended.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        // Prefect was there all the time; of Tableau's part the task is left.
        assert_eq!(self.deployed().await, [false, true], "{}", self.log());
        assert_eq!(self.tableau.truth().tasks_of(&self.orders).len(), 1, "{}", self.log());
        let metrics = self.operator.metrics().await.unwrap();
        let left =
            metrics.lines().filter(|l| l.starts_with("feedwater_orphans_total{") && !l.ends_with(" 0"));
        assert_eq!(left.count(), 1, "{metrics}");
    }

    /// `kubectl apply -k`, until everything is as declared, here and there.
    async fn apply(&self) {
        let overlay = self.overlay.to_string_lossy();
        self.kubectl.run(&["apply", "--server-side", "-k", &overlay]).await.unwrap();
        self.converged().await;
    }

    /// Each object by itself, the last of the files first; but for the namespace, which the API server wants to be there.
    async fn apply_backwards(&self) {
        let mut objects = self.objects().await;
        objects.sort_by_key(|object| object["kind"] != "Namespace");
        let namespaces = objects.iter().take_while(|object| object["kind"] == "Namespace").count();
        objects[namespaces..].reverse();
        for object in objects {
            self.kubectl.apply(&object.to_string()).await.unwrap();
        }
        self.converged().await;
    }

    /// What the overlay declares.
    async fn objects(&self) -> Vec<Value> {
        let text = self.kubectl.run(&["kustomize", &self.overlay.to_string_lossy()]).await.unwrap();
        yaml::documents(&text).unwrap()
    }

    /// What is in the cluster is what is in Git, whichever way it is asked, also where Git says `null`; that is refused by the API server when
    /// it is applied server-side, as of any kind.
    async fn differs_nowhere(&self) {
        let plain = resources::list(&self.objects().await).to_string();
        let mut nulls = self.objects().await;
        for object in &mut nulls {
            match object["kind"].as_str().unwrap() {
                "FlowDeployment" => object["spec"]["version"] = Value::Null,
                "ExtractRefresh" => object["spec"]["refreshWindows"] = Value::Null,
                "PrefectWorkspace" => object["spec"]["limits"] = Value::Null,
                "TableauSite" => object["spec"]["refreshDefaults"] = Value::Null,
                _ => {}
            }
        }
        let nulls = resources::list(&nulls).to_string();
        self.same(&["diff", "-f", "-"], &plain).await;
        self.same(&["diff", "--server-side", "-f", "-"], &plain).await;
        self.same(&["diff", "-f", "-"], &nulls).await;
        self.kubectl.run_with_input(&["apply", "-f", "-"], &nulls).await.unwrap();
        self.same(&["diff", "-f", "-"], &nulls).await;
        self.same(&["diff", "-f", "-"], &plain).await;
        let server_side = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
        let refused = self.kubectl.run_with_input(&server_side, &nulls).await.unwrap_err().to_string();
        assert!(refused.contains("spec.refreshWindows"), "{refused}");
    }

    /// `kubectl diff` ends with 1 where something differs.
    async fn same(&self, how: &[&str], objects: &str) {
        let differs = self.kubectl.run_with_input(how, objects).await;
        assert_eq!(differs.unwrap_or_else(|error| panic!("something differs: {error}")), "", "{how:?}");
    }

    /// Everything is as declared.
    async fn converged(&self) {
        for flow in ["orders-nightly", "fx-hourly"] {
            self.until("flowdeployment", flow, "InSync").await;
        }
        let made = |truth: &Truth| truth.tasks_of(&self.orders).len() == 1;
        assert!(self.tableau.wait_for(LIMIT, made).await.is_ok(), "no schedule\n{}", self.log());
        self.until("extractrefresh", "orders", "InSync").await;
        assert_eq!(self.deployed().await, [true, true]);
    }

    async fn until(&self, kind: &str, name: &str, reason: &str) -> Value {
        let object = [kind, name, "--namespace", &self.namespace];
        let holds = |object: &Value| condition(object, "Ready").is_some_and(|(_, now)| now == reason);
        let seen = self.kubectl.until(reason, &object, LIMIT, holds).await;
        seen.unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// Whether Prefect has the deployment that goes with its resource, and the one that stays by its policy.
    async fn deployed(&self) -> [bool; 2] {
        let (orders, fx) = (format!("{}-orders", self.namespace), format!("{}-fx", self.namespace));
        let orders = self.prefect.deployment(&orders, "nightly").await.unwrap();
        let fx = self.prefect.deployment(&fx, "hourly").await.unwrap();
        [orders.is_some(), fx.is_some()]
    }

    /// Runs a deletion to its end; what it is of is gone within seconds, and nothing of ours is left but what is to stay.
    async fn deletes(&self, arguments: &[&str]) {
        let mut all = vec!["delete", "--wait=true", "--timeout=60s"];
        all.extend(arguments);
        let ended = self.kubectl.run(&all).await;
        ended.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        assert_eq!(self.deployed().await, [false, true], "{}", self.log());
        assert_eq!(self.tableau.truth().tasks_of(&self.orders).len(), 0, "{}", self.log());
        let metrics = self.operator.metrics().await.unwrap();
        let orphans =
            metrics.lines().find(|l| l.starts_with("feedwater_orphans_total{") && !l.ends_with(" 0"));
        assert_eq!(orphans, None);
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.operator.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

/// The examples as they are, but for the URLs, the namespaces, and the names of the flows: other tests share Prefect.
fn write(overlay: &Path, namespace: &str, home: &str, prefect: &str, tableau: &str) {
    let replace = |kind: &str, name: &str, path: &str, value: &str| {
        let patch = json!([{"op": "replace", "path": path, "value": value}]).to_string();
        json!({"target": {"kind": kind, "name": name}, "patch": patch})
    };
    let fx = format!("{namespace}-fx");
    let kustomization = json!({
        "namespace": namespace,
        "resources": ["../../../examples", "secrets.json"],
        "patches": [
            replace("PrefectWorkspace", "prod", "/spec/apiUrl", prefect),
            replace("TableauSite", "acme", "/spec/serverUrl", tableau),
            replace("RoleBinding", "feedwater-secrets", "/subjects/0/namespace", home),
            replace("FlowDeployment", "orders-nightly", "/spec/flowName", &format!("{namespace}-orders")),
            replace("FlowDeployment", "fx-hourly", "/spec/flowName", &fx),
            replace("ExtractRefresh", "revenue", "/spec/upstreams/1/prefectDeployment/flowName", &fx),
        ],
    });
    let secret =
        world::resources::personal_access_token(namespace, "tableau-pat", "feedwater", "first-secret");
    std::fs::create_dir_all(overlay).unwrap();
    std::fs::write(overlay.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    std::fs::write(overlay.join("secrets.json"), secret.to_string()).unwrap();
}

/// One test, since what gives the operator its rights in the whole cluster has one name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_deleted_at_once_leaves_nothing_behind() {
    let mut team = Team::set().await;
    let overlay = team.overlay.to_string_lossy().into_owned();

    team.apply().await;
    team.differs_nowhere().await;
    team.deletes(&["-k", &overlay]).await;

    team.apply_backwards().await;
    team.deletes(&["namespace", &team.namespace]).await;

    // Only the connections, first: what their owner sees, and that they go on.
    team.apply().await;
    let connections = ["prefectworkspace/prod", "tableausite/acme"];
    for (connection, user) in
        connections.iter().zip(["FlowDeployment `orders-nightly`", "ExtractRefresh `orders`"])
    {
        team.kubectl.run(&["delete", connection, "-n", &team.namespace, "--wait=false"]).await.unwrap();
        let (kind, name) = connection.split_once('/').unwrap();
        let held = team.until(kind, name, "InUse").await;
        assert!(held["status"].to_string().contains(user), "{held:#}");
        // The Event comes on its own.
        let begun = Instant::now();
        loop {
            let text = team.kubectl.run(&["describe", connection, "-n", &team.namespace]).await.unwrap();
            if text.split_once("\nEvents:").is_some_and(|(_, events)| events.contains("InUse")) {
                break;
            }
            assert!(begun.elapsed() < LIMIT, "no Event: {text}");
            sleep(Duration::from_millis(200)).await;
        }
        let table = team.kubectl.run(&["get", kind, "-n", &team.namespace]).await.unwrap();
        assert!(table.contains("False   InUse "), "{table}");
    }
    let change = r#"{"spec": {"description": "changed meanwhile"}}"#;
    let flow =
        ["patch", "flowdeployment", "orders-nightly", "-n", &team.namespace, "--type=merge", "-p", change];
    team.kubectl.run(&flow).await.unwrap();
    let begun = Instant::now();
    let flow = format!("{}-orders", team.namespace);
    while team.prefect.deployment(&flow, "nightly").await.unwrap().unwrap()["description"]
        != "changed meanwhile"
    {
        assert!(begun.elapsed() < LIMIT, "the flow does not go on\n{}", team.log());
        sleep(Duration::from_millis(200)).await;
    }
    team.deletes(&["-k", &overlay, "--ignore-not-found"]).await;
    team.ends_though_nobody_can_clean_up().await;

    let fx = team.prefect.deployment(&format!("{}-fx", team.namespace), "hourly").await.unwrap().unwrap();
    let path = format!("/deployments/{}", fx["id"].as_str().unwrap());
    team.prefect.call(Method::DELETE, &path, None).await.unwrap();
}
