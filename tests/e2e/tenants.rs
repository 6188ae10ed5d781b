//! `examples/platform` and `examples/sales` as the platform's people and a team apply them, by the rights of `manifests/base` alone: allowed, taken
//! away by a label, given back, deleted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use feedwater::yaml;
use serde_json::{Value, json};
use world::cluster::Kubectl;
use world::operator::{NAMESPACE, OperatorOptions};
use world::prefect::Rest;
use world::tableau::{Config, Edition, Simulator, Truth};
use world::{Options, World, resources};

const LIMIT: Duration = Duration::from_secs(60);
const ORDERS: [&str; 3] = ["flowdeployment/orders", "-n", "sales"];
const PIPELINE: [&str; 3] = ["extractrefresh/pipeline", "-n", "sales"];
const SITE: &str = "acme";
/// Whom the examples give the namespace.
const TEAM: [&str; 2] = ["--as=anna", "--as-group=sales"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_team_that_has_nothing_but_its_namespace_does_what_it_is_allowed_and_no_more() {
    let operator = OperatorOptions::cluster_wide(Path::new(env!("CARGO_BIN_EXE_feedwater")));
    let options = Options { prefect: true, worker: true, operator: Some(operator), ..Options::default() };
    let world = World::start(options).await.unwrap();
    let (info, kubectl) = (world.info().clone(), world.info().kubectl());
    let api_url = info.prefect_api_url.clone().unwrap();
    let prefect = Rest::new(&api_url).unwrap();
    let tableau = Simulator::start(Config { edition: Edition::Cloud, ..Config::default() }).await.unwrap();
    tableau.add_site(SITE);
    tableau.add_pat(SITE, "feedwater", "first-secret", "feedwater");
    let pipeline = tableau.add_workbook(SITE, &["Sales", "Reports"], "Pipeline", true);
    let fx = another_teams(&prefect).await;

    let (platform, sales) = (platform(&info.directory, &api_url, &tableau.url()), sales(&info.directory));
    // The team's folder before the connections that it names: what is there first waits.
    let namespace = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/platform/sales.yaml");
    kubectl.run(&["apply", "--server-side", "-f", &namespace.to_string_lossy()]).await.unwrap();
    apply_as_team(&kubectl, &sales).await;
    until(&kubectl, &ORDERS, "DependencyNotFound").await;
    until(&kubectl, &PIPELINE, "DependencyNotFound").await;
    kubectl.run(&["apply", "--server-side", "-k", &platform]).await.unwrap();
    until(&kubectl, &ORDERS, "InSync").await;
    until(&kubectl, &["clusterprefectworkspace/prod"], "Connected").await;
    until(&kubectl, &["clustertableausite/acme"], "Connected").await;
    until(&kubectl, &PIPELINE, "InSync").await;
    let there = known(&prefect).await;
    same(&kubectl, &platform).await;
    same(&kubectl, &sales).await;

    // Both flows deliver, also the one that the team may only see, and its extract is refreshed.
    let orders = prefect.deployment("orders", "sales").await.unwrap().unwrap();
    prefect.complete(orders["id"].as_str().unwrap()).await.unwrap();
    prefect.complete(&fx).await.unwrap();
    let refreshed = |truth: &Truth| truth.refreshes_of(&pipeline).len() == 1;
    assert!(tableau.wait_for(LIMIT, refreshed).await.is_ok(), "{:?}", tableau.truth().refreshes);

    // The team reads no Secret, and neither sees nor writes the connections; the platform's people write them.
    for what in ["secrets", "configmaps"] {
        assert_eq!(may(&kubectl, "sales", "get", what, NAMESPACE).await, "false", "{what}");
    }
    for what in ["clusterprefectworkspaces", "clustertableausites"] {
        for verb in ["get", "update"] {
            assert_eq!(may(&kubectl, "sales", verb, what, "").await, "false", "{verb} {what}");
        }
        assert_eq!(may(&kubectl, "platform", "update", what, "").await, "true", "{what}");
    }
    assert_eq!(may(&kubectl, "sales", "update", "extractrefreshes", "sales").await, "true");
    no_more_than_its_quota(&kubectl).await;

    let label = "acme.example/team";
    kubectl.run(&["label", "namespace", "sales", &format!("{label}-")]).await.unwrap();
    let denied = until(&kubectl, &ORDERS, "AccessDenied").await;
    assert_eq!(resources::condition(&denied, "Stalled"), Some(("True", "AccessDenied")));
    until(&kubectl, &PIPELINE, "AccessDenied").await;
    // A change in Git does not get there, and what is there stays as it is.
    let change = json!({"spec": {"description": "changed"}}).to_string();
    let patch = ["patch", ORDERS[0], "-n", "sales", "--type=merge", "-p", &change];
    kubectl.run(&[&patch[..], &TEAM].concat()).await.unwrap();
    let seen = |object: &Value| {
        let generation = &object["metadata"]["generation"];
        let reason = resources::condition(object, "Ready").is_some_and(|(_, told)| told == "AccessDenied");
        reason && *generation == object["status"]["observedGeneration"] && *generation == 2
    };
    kubectl.until("the edit is seen", &ORDERS, LIMIT, seen).await.unwrap();
    assert_eq!(known(&prefect).await, there);

    kubectl.run(&["label", "namespace", "sales", &format!("{label}=sales")]).await.unwrap();
    until(&kubectl, &ORDERS, "InSync").await;
    until(&kubectl, &PIPELINE, "InSync").await;
    let now = prefect.deployment("orders", "sales").await.unwrap().unwrap();
    assert_eq!(now["description"], "changed");

    // Deleted first, a connection waits for whom it has made something in the other namespace; nothing was made through the other one.
    for (connection, reason) in
        [("clusterprefectworkspace/prod", "InUse"), ("clustertableausite/acme", "DependencyNotFound")]
    {
        kubectl.run(&["delete", connection, "--wait=false"]).await.unwrap();
        let told = if reason == "InUse" { [connection].to_vec() } else { PIPELINE.to_vec() };
        until(&kubectl, &told, reason).await;
    }
    kubectl.run(&[&["delete", "-k", &sales, "--timeout=60s"], &TEAM[..]].concat()).await.unwrap();
    assert_eq!(prefect.deployment("orders", "sales").await.unwrap(), None);
    kubectl.run(&["delete", "-k", &platform, "--ignore-not-found", "--timeout=60s"]).await.unwrap();
    assert!(prefect.deployment("fx", "hourly").await.unwrap().is_some());
    assert_eq!(tableau.truth().refreshes_of(&pipeline).len(), 1);
    let log = std::fs::read_to_string(info.operator_log.unwrap()).unwrap();
    assert!(!log.contains("forbidden"), "{log}");
}

/// `true` or `false`, as the API server answers of somebody in this group: `kubectl auth can-i` fails for a no as it does for anything else.
async fn may(kubectl: &Kubectl, group: &str, verb: &str, resource: &str, namespace: &str) -> String {
    let ours = if ["secrets", "configmaps"].contains(&resource) { "" } else { "feedwater.dev" };
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": "somebody", "groups": [group, "system:authenticated"],
            "resourceAttributes": {"group": ours, "resource": resource, "verb": verb, "namespace": namespace},
        },
    });
    let ask = ["create", "-o", "jsonpath={.status.allowed}", "-f", "-"];
    kubectl.run_with_input(&ask, &review.to_string()).await.unwrap()
}

/// Kubernetes itself counts what the team declares, and refuses what is too much.
async fn no_more_than_its_quota(kubectl: &Kubectl) {
    const COUNT: &str = "count/extractrefreshes.feedwater.dev";
    let quota = ["resourcequota/feedwater", "-n", "sales"];
    let counts = |quota: &Value| quota["status"]["used"][COUNT] == "1";
    kubectl.until("the quota counts", &quota, LIMIT, counts).await.unwrap();
    let change = |hard: &str| json!({"spec": {"hard": {COUNT: hard}}}).to_string();
    for (hard, refused) in [("1", true), ("200", false)] {
        let change = change(hard);
        kubectl.run(&[&["patch"], &quota[..], &["--type=merge", "-p", &change]].concat()).await.unwrap();
        let holds = |quota: &Value| quota["status"]["hard"][COUNT] == hard;
        kubectl.until("the quota holds", &quota, LIMIT, holds).await.unwrap();
        let second = resources::extract_refresh("sales", "second", "acme", ("Sales", "Other"), &[]);
        let create = [&["create", "--dry-run=server", "-f", "-"], &TEAM[..]].concat();
        let created = kubectl.run_with_input(&create, &second.to_string()).await;
        match created {
            Err(error) if refused => assert!(error.to_string().contains("exceeded quota"), "{error}"),
            other => assert!(!refused && other.is_ok(), "{other:?}"),
        }
    }
}

/// The platform's folder as it is, but for the URLs, and with the Secrets that come from elsewhere.
fn platform(directory: &Path, prefect: &str, tableau: &str) -> String {
    let replace = |kind: &str, path: &str, value: &str| {
        let patch = json!([{"op": "replace", "path": path, "value": value}]).to_string();
        json!({"target": {"kind": kind}, "patch": patch})
    };
    let secrets = resources::list(&[
        resources::personal_access_token(NAMESPACE, "tableau-pat", "feedwater", "first-secret"),
        resources::secret(NAMESPACE, "prefect", &[("apiKey", "a-key")]),
    ]);
    let kustomization = json!({
        "resources": ["../../../examples/platform", "secrets.json"],
        "patches": [
            replace("ClusterPrefectWorkspace", "/spec/apiUrl", prefect),
            replace("ClusterTableauSite", "/spec/serverUrl", tableau),
        ],
    });
    let overlay = overlay(directory, "platform", &kustomization);
    std::fs::write(overlay.join("secrets.json"), secrets.to_string()).unwrap();
    overlay.to_string_lossy().into_owned()
}

/// The team's folder as it is.
fn sales(directory: &Path) -> String {
    let kustomization = json!({"resources": ["../../../examples/sales"]});
    overlay(directory, "sales", &kustomization).to_string_lossy().into_owned()
}

fn overlay(directory: &Path, name: &str, kustomization: &Value) -> PathBuf {
    let overlay = directory.join(name);
    std::fs::create_dir_all(&overlay).unwrap();
    std::fs::write(overlay.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    overlay
}

/// A deployment of another team, which Feedwater does not manage; returns its id.
async fn another_teams(prefect: &Rest) -> String {
    let flow = prefect.ensure_flow("fx").await.unwrap();
    let made = prefect.create_deployment(json!({"name": "hourly", "flow_id": flow})).await.unwrap();
    made["id"].as_str().unwrap().to_owned()
}

/// A binding that was just made is in force a moment later.
async fn apply_as_team(kubectl: &Kubectl, folder: &str) {
    let started = tokio::time::Instant::now();
    while let Err(error) = kubectl.run(&[&["apply", "--server-side", "-k", folder], &TEAM[..]].concat()).await
    {
        assert!(started.elapsed() < LIMIT, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What is in the cluster is what is in Git, also where Git says `null`.
async fn same(kubectl: &Kubectl, folder: &str) {
    let text = kubectl.run(&["kustomize", folder]).await.unwrap();
    let mut objects = yaml::documents(&text).unwrap();
    let plain = resources::list(&objects).to_string();
    for object in &mut objects {
        let unset = match object["kind"].as_str().unwrap() {
            "ClusterPrefectWorkspace" => "limits",
            "ClusterTableauSite" => "refreshDefaults",
            "FlowDeployment" => "version",
            "ExtractRefresh" => "refreshWindows",
            _ => continue,
        };
        object["spec"][unset] = Value::Null;
    }
    let nulls = resources::list(&objects).to_string();
    let (mine, servers) = (&["diff", "-f", "-"][..], &["diff", "--server-side", "-f", "-"][..]);
    for (how, objects) in [(mine, &plain), (servers, &plain), (mine, &nulls)] {
        let differs = kubectl.run_with_input(how, objects).await;
        assert_eq!(differs.unwrap_or_else(|error| panic!("something differs: {error}")), "", "{how:?}");
    }
}

async fn until(kubectl: &Kubectl, object: &[&str], reason: &str) -> Value {
    let holds = |object: &Value| resources::condition(object, "Ready").is_some_and(|(_, now)| now == reason);
    kubectl.until(reason, object, LIMIT, holds).await.unwrap_or_else(|error| panic!("{object:?}: {error}"))
}

/// The deployment, without what changes whenever a worker asks for work.
async fn known(prefect: &Rest) -> Value {
    let mut there = prefect.deployment("orders", "sales").await.unwrap().unwrap();
    for moving in ["last_polled", "status"] {
        there.as_object_mut().unwrap().remove(moving);
    }
    there
}
