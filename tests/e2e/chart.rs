//! `manifests/helm/feedwater` in the real helm: it declares what the kustomizations declare, and is installed, upgraded and removed.

use crate::stage::{LIMIT, client};
use feedwater::yaml;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use tokio::process::Command;
use tokio::time::{Instant, sleep};
use world::cluster::Kubectl;
use world::operator::{NAMESPACE, Operator, OperatorOptions};
use world::{Options, Progress, World, resources};

const CHART: &str = "manifests/helm/feedwater";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The real helm, with nothing of the machine's own configuration.
struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: tempfile::TempDir,
}

impl Helm {
    async fn of(kubeconfig: &Path) -> Self {
        let program = world::tools::helm(&Progress::silent()).await.unwrap();
        Self { program, kubeconfig: kubeconfig.to_owned(), home: tempfile::tempdir().unwrap() }
    }

    async fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String, String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .current_dir(root())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", &self.kubeconfig)
            .env("NO_PROXY", "127.0.0.1,localhost")
            .output()
            .await
            .unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }

    /// `helm template`, as objects by kind and name.
    async fn template(&self, namespace: &str, more: &[&str]) -> Objects {
        let arguments = [&["template", "feedwater", CHART, "--namespace", namespace], more].concat();
        by_name(&self.run(arguments).await.unwrap())
    }
}

type Objects = BTreeMap<String, Value>;

fn by_name(text: &str) -> Objects {
    let objects = yaml::documents(text).unwrap().into_iter().filter(|object| !object.is_null());
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    objects
        .map(|object| (format!("{} {}", word(&object["kind"]), word(&object["metadata"]["name"])), object))
        .collect()
}

/// Without what a release adds to every object: its labels, and that CRDs stay. What selects Pods is left as it is: it has to be the same, since no
/// selector of a Deployment can be changed, and one installation could not be exchanged for the other.
fn plain(value: &Value) -> Value {
    const LABELS: [&str; 4] = [
        "app.kubernetes.io/instance",
        "app.kubernetes.io/version",
        "app.kubernetes.io/managed-by",
        "helm.sh/chart",
    ];
    match value {
        Value::Object(fields) => {
            let own = |name: &str| !LABELS.contains(&name) && name != "helm.sh/resource-policy";
            let fields = fields.iter().filter(|(name, _)| own(name));
            let selects = |name: &str| ["matchLabels", "selector"].contains(&name);
            let fields = fields.map(|(name, value)| {
                (name.clone(), if selects(name) { value.clone() } else { plain(value) })
            });
            // Labels of ours on a CRD, and a pull policy that is Kubernetes' own default for such a tag.
            fields.filter(|(name, _)| name != "imagePullPolicy").collect()
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// What of an object decides what it does.
fn essence(object: &Value) -> Value {
    let mut object = plain(object);
    if object["kind"] == "CustomResourceDefinition" {
        object["metadata"] = json!({"name": object["metadata"]["name"]});
    }
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_declares_what_the_kustomizations_declare() {
    let info = crate::stage::Stage::info();
    let helm = Helm::of(&info.kubeconfig).await;
    let kustomized = async |folder: &str| {
        by_name(&info.kubectl().run(&["kustomize", &root().join(folder).to_string_lossy()]).await.unwrap())
    };
    let same = |chart: &Objects, mut base: Objects| {
        // A namespace is made by whoever installs (helm's --create-namespace).
        base.retain(|name, _| !name.starts_with("Namespace "));
        let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(chart), names(&base));
        for (name, object) in &base {
            assert_eq!(essence(&chart[name]), essence(object), "{name}");
        }
    };
    same(&helm.template(NAMESPACE, &[]).await, kustomized("manifests/base").await);
    // One namespace; the kustomization leaves the instance's name to its overlay.
    let mut namespaced = helm.template("feedwater", &["--set", "scope=Namespace,instance=x"]).await;
    namespaced.retain(|name, _| !name.starts_with("CustomResourceDefinition "));
    let args = &mut namespaced.get_mut("Deployment feedwater").unwrap()["spec"]["template"]["spec"]["containers"]
        [0]["args"];
    args.as_array_mut().unwrap().retain(|arg| arg != "--instance=x");
    same(&namespaced, kustomized("manifests/namespaced").await);

    // The overlay for two nodes is one that kustomize builds, and the chart's NetworkPolicy is its own.
    let available = kustomized("manifests/high-availability").await;
    let pod = &available["Deployment feedwater"]["spec"]["template"]["spec"];
    assert_eq!(pod["topologySpreadConstraints"][0]["whenUnsatisfiable"], "DoNotSchedule");
    let guarded = helm.template(NAMESPACE, &["--set", "networkPolicy.enabled=true"]).await;
    let policy = "NetworkPolicy feedwater";
    assert_eq!(essence(&guarded[policy]), essence(&available[policy]));

    let apart = helm.template(NAMESPACE, &["--set", "crds.enabled=false"]).await;
    assert!(apart.keys().all(|name| !name.starts_with("CustomResourceDefinition ")));
    // What cannot be is refused, by the schema or by the chart, and the message names it.
    for (values, says) in [
        ("serviceAccount.create=false", "needs serviceAccount.name"),
        ("replicaCount=3", "replicaCount"),
        ("replicas=2", "replicas"),
        ("scope=namespace", "scope"),
        ("allowedHosts={https://prefect}", "allowedHosts"),
        ("allowedHosts={*.acme.example}", "allowedHosts"),
        ("instance=prod.eu", "instance"),
        ("scope=Namespace", "needs `instance`"),
    ] {
        let refused = helm.run(["template", "feedwater", CHART, "--set", values]).await.unwrap_err();
        assert!(refused.contains(says), "{values}: {refused}");
    }
    // A rule without ports would let everything out.
    let none = ["template", "feedwater", CHART, "--set-json", "networkPolicy.egressPorts=[]"];
    let refused = helm.run(none).await.unwrap_err();
    assert!(refused.contains("egressPorts"), "{refused}");
    let all = "networkPolicy.enabled=true,metrics.serviceMonitor.enabled=true,commonLabels.team=data,priorityClassName=high,\
               allowedHosts={prefect.data:4200,tableau},extraArgs={--log-format=text},serviceAccount.annotations.a=b,\
               image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    roles_accounts_and_names(&helm).await;
    let much = helm.template("data", &["--set", all]).await;
    let container = &much["Deployment feedwater"]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["args"],
        json!(["run", "--allowed-hosts=prefect.data:4200,tableau", "--log-format=text"])
    );
    assert!(container["image"].as_str().unwrap().starts_with("feedwater@sha256:"));
    assert!(much.contains_key("ServiceMonitor feedwater") && much.contains_key("ClusterRole data-feedwater"));
}

/// What a platform brings itself is left out, and names are as they are asked for.
async fn roles_accounts_and_names(helm: &Helm) {
    let set = async |values: &str| helm.template(NAMESPACE, &["--set", values]).await;
    let bare = set("rbac.create=false,serviceAccount.create=false,serviceAccount.name=mine").await;
    let wanted = ["CustomResourceDefinition ", "Deployment ", "PodDisruptionBudget "];
    assert!(bare.keys().all(|name| wanted.iter().any(|kind| name.starts_with(kind))), "{:?}", bare.keys());
    assert_eq!(bare["Deployment feedwater"]["spec"]["template"]["spec"]["serviceAccountName"], "mine");

    let apart = set("rbac.aggregateToPeople=false").await;
    for role in ["view", "edit", "team", "platform"] {
        let labels = apart[&format!("ClusterRole feedwater-{role}")]["metadata"]["labels"].to_string();
        assert!(!labels.contains("aggregate"), "{labels}");
    }
    let gone = set("crds.keep=false").await;
    let crds: Vec<_> =
        gone.iter().filter(|(name, _)| name.starts_with("CustomResourceDefinition ")).collect();
    let keeps = |crd: &Value| crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
    assert!(crds.len() == 6 && !crds.iter().any(|(_, crd)| keeps(crd)));

    let named = set("fullnameOverride=fw,nameOverride=feed").await;
    let deployment = &named["Deployment fw"]["spec"];
    let selects = json!({"app.kubernetes.io/name": "feed", "app.kubernetes.io/instance": "feedwater"});
    assert_eq!(deployment["selector"]["matchLabels"], selects);
    let (_, labels) = (&selects, &deployment["template"]["metadata"]["labels"]);
    assert!(selects.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value), "{labels}");
    assert_eq!(named["ClusterRoleBinding fw"]["subjects"][0]["name"], "fw");
    assert_eq!(deployment["template"]["spec"]["serviceAccountName"], "fw");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_installed_upgraded_and_removed_and_what_people_declared_stays() {
    let world = World::start(Options::default()).await.unwrap();
    let (info, kubectl) = (world.info().clone(), world.info().kubectl());
    let helm = Helm::of(&info.kubeconfig).await;
    let _ = kubectl.run(&["delete", "-k", &root().join("crds").to_string_lossy(), "--wait"]).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    kubectl.apply(&namespace.to_string()).await.unwrap();
    // No node runs here, so nothing waits for Pods.
    let release = async |words: &[&str]| {
        let arguments = [words, &["--namespace", NAMESPACE]].concat();
        helm.run(arguments).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    };
    // An earlier version first: an upgrade brings its CRDs up to date, and those that it had not.
    let earlier = earlier();
    release(&["install", "feedwater", &earlier.path().to_string_lossy()]).await;
    let crd = "customresourcedefinition/extractrefreshes.feedwater.dev";
    let schema = async || {
        let found = kubectl.get(&[crd]).await.unwrap();
        found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
    };
    let before = schema().await;
    release(&["upgrade", "feedwater", CHART]).await;
    assert_ne!(schema().await, before);
    kubectl.get(&["customresourcedefinition/clustertableausites.feedwater.dev"]).await.unwrap();
    let deployment = kubectl.get(&["deployment/feedwater", "-n", NAMESPACE]).await.unwrap();
    admitted(&kubectl, &deployment).await;
    // A second release serves a namespace of its own; the CRDs stay the first one's. (Beside one of the cluster it would serve what that serves: here it never runs.)
    let second = ["install", "feedwater", CHART, "-n", "apart", "--create-namespace", "--set"];
    let own = "scope=Namespace,instance=apart";
    let refused = helm.run([&second[..], &[own]].concat()).await.unwrap_err();
    assert!(refused.contains("invalid ownership metadata"), "{refused}");
    helm.run([&second[..], &[&format!("{own},crds.enabled=false")]].concat()).await.unwrap();
    helm.run(["uninstall", "feedwater", "-n", "apart"]).await.unwrap();

    // With the rights that the chart gives, and no other, the operator serves a namespace that has asked for nothing.
    let mut options = OperatorOptions::cluster_wide(Path::new(env!("CARGO_BIN_EXE_feedwater")));
    options.name = "charted".to_owned();
    let operator = Operator::start(&kubectl, &info.directory, options).await.unwrap();
    kubectl.apply(&resources::namespace("team").to_string()).await.unwrap();
    let orders = resources::extract_refresh("team", "orders", "acme", ("Finance", "Orders"), &["orders"]);
    kubectl.apply(&orders.to_string()).await.unwrap();
    let told = |object: &Value| !object["status"]["conditions"].is_null();
    until(&client(&info).await, told).await;
    assert!(!fs::read_to_string(operator.log()).unwrap().contains("forbidden"));

    release(&["upgrade", "feedwater", CHART, "--set", "replicaCount=1,networkPolicy.enabled=true"]).await;
    let found = kubectl.get(&["deployment/feedwater", "-n", NAMESPACE]).await.unwrap();
    assert_eq!(found["spec"]["replicas"], 1);
    kubectl.get(&["networkpolicy/feedwater", "-n", NAMESPACE]).await.unwrap();

    drop(operator);
    release(&["uninstall", "feedwater"]).await;
    assert!(kubectl.get(&["deployment/feedwater", "-n", NAMESPACE]).await.is_err());
    assert!(kubectl.get(&["clusterrole/feedwater"]).await.is_err());
    let stayed = kubectl.get(&["extractrefresh/orders", "-n", "team"]).await.unwrap();
    assert!(stayed["metadata"]["deletionTimestamp"].is_null(), "{stayed}");
    // The next installation takes them over, and the chart takes over that one, without a moment in which there is no Deployment.
    let base = root().join("manifests/base");
    kubectl.run(&["apply", "--server-side", "-k", &base.to_string_lossy()]).await.unwrap();
    let before = kubectl.get(&["deployment/feedwater", "-n", NAMESPACE]).await.unwrap();
    release(&["install", "feedwater", CHART, "--take-ownership"]).await;
    let after = kubectl.get(&["deployment/feedwater", "-n", NAMESPACE]).await.unwrap();
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm");
    kubectl.get(&["extractrefresh/orders", "-n", "team"]).await.unwrap();

    // Asked to, it takes the CRDs away as well.
    kubectl.run(&["delete", "extractrefresh/orders", "-n", "team", "--timeout=30s"]).await.unwrap();
    release(&["upgrade", "feedwater", CHART, "--set", "crds.keep=false"]).await;
    release(&["uninstall", "feedwater"]).await;
    kubectl.run(&["wait", "--for=delete", crd, "--timeout=30s"]).await.unwrap();
}

/// The chart of a version that had the CRDs of an earlier build.
fn earlier() -> tempfile::TempDir {
    let made = tempfile::tempdir().unwrap();
    let copy = |file: &str| {
        let to = made.path().join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root().join(CHART).join(file), to).unwrap();
    };
    for file in fs::read_dir(root().join(CHART).join("templates")).unwrap() {
        copy(&format!("templates/{}", file.unwrap().file_name().to_string_lossy()));
    }
    for file in ["values.yaml", "values.schema.json"] {
        copy(file);
    }
    let named = fs::read_to_string(root().join(CHART).join("Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    fs::write(made.path().join("Chart.yaml"), named.replace(version, "0.0.1")).unwrap();
    fs::create_dir_all(made.path().join("files/crds")).unwrap();
    for crd in fs::read_dir(root().join("tests/upgrade/6c51cc2/crds")).unwrap() {
        let crd = crd.unwrap();
        fs::copy(crd.path(), made.path().join("files/crds").join(crd.file_name())).unwrap();
    }
    made
}

/// The namespace lets the Deployment's Pod in, and not one with a single right more.
async fn admitted(kubectl: &Kubectl, deployment: &Value) {
    let pod = |privileged: bool| {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "namespace": NAMESPACE},
            "spec": deployment["spec"]["template"]["spec"]});
        if privileged {
            pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
        }
        pod.to_string()
    };
    let create = ["create", "--dry-run=server", "-f", "-"];
    kubectl.run_with_input(&create, &pod(false)).await.unwrap();
    let refused = kubectl.run_with_input(&create, &pod(true)).await.unwrap_err().to_string();
    assert!(refused.contains("PodSecurity"), "{refused}");
}

async fn until(client: &Client, holds: impl Fn(&Value) -> bool) {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("feedwater.dev", "v1alpha1", "ExtractRefresh"));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "team", &kind);
    let since = Instant::now();
    loop {
        let seen = api.get_opt("orders").await.unwrap().map(|object| serde_json::to_value(object).unwrap());
        if seen.as_ref().is_some_and(&holds) {
            return;
        }
        assert!(since.elapsed() < LIMIT, "it is never served: {seen:?}");
        sleep(std::time::Duration::from_millis(100)).await;
    }
}
