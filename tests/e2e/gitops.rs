//! What Flux (kstatus), `kubectl wait` and Argo CD (the Lua of `manifests/argocd`) make of our objects, at each moment of their life: at those that
//! `tests/controller/moments.rs` has recorded, at all that an earlier build has written, and in a real world.

use crate::stage::{SITE, Setting, Stage, is};
use feedwater::api::{ExtractRefresh, FlowDeployment, PrefectWorkspace};
use feedwater::yaml;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use world::cluster::KubectlError;
use world::progress::Progress;
use world::resources;
use world::tableau::{Config, Edition};

/// The program of `tests/world/go/gitops`, and the Lua that is shipped.
struct GitOps {
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    config: Value,
    _program: Child,
}

impl GitOps {
    async fn start() -> Self {
        let program = world::tools::gitops(&Progress::silent()).await.unwrap();
        let mut program = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/argocd/argocd-cm.yaml");
        let config: Value = yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let (questions, answers) = (program.stdin.take().unwrap(), program.stdout.take().unwrap());
        let answers = BufReader::new(answers).lines();
        Self { questions, answers, config: config["data"].clone(), _program: program }
    }

    async fn ask(&mut self, question: &Value) -> Value {
        self.questions.write_all(format!("{question}\n").as_bytes()).await.unwrap();
        let answer = self.answers.next_line().await.unwrap().expect("an answer");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["error"].is_null(), "{answer} to {question}");
        answer
    }

    /// What kstatus and Argo CD say of an object.
    async fn say(&mut self, object: &Value) -> (String, String) {
        let kstatus = self.ask(&json!({"kstatus": object})).await;
        (kstatus["status"].as_str().unwrap().to_owned(), self.health(object).await)
    }

    /// What Argo CD says of an object.
    async fn health(&mut self, object: &Value) -> String {
        let kind = object["kind"].as_str().unwrap();
        let health = &self.config[format!("resource.customizations.health.feedwater.dev_{kind}")];
        let health = json!({"health": health.as_str().expect("a script"), "object": object});
        let health = self.ask(&health).await;
        assert!(health["message"].is_string(), "{health}");
        health["status"].as_str().unwrap().to_owned()
    }

    /// The names of all actions on a kind, as they are defined.
    fn defined(&self, object: &Value) -> BTreeSet<String> {
        let actions = self.actions(object);
        let all = actions["definitions"].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Which actions Argo CD offers.
    async fn offers(&mut self, object: &Value) -> Vec<String> {
        let found =
            self.ask(&json!({"action": self.actions(object)["discovery.lua"], "object": object})).await;
        let offered = found.as_object().unwrap().iter().filter(|(_, action)| action["disabled"] == false);
        offered.map(|(name, _)| name.clone()).collect()
    }

    /// The object after an action.
    async fn act(&mut self, object: &Value, action: &str) -> Value {
        let actions = self.actions(object);
        let all = actions["definitions"].as_array().unwrap();
        let script = &all.iter().find(|one| one["name"] == action).unwrap()["action.lua"];
        self.ask(&json!({"action": script, "object": object})).await
    }

    fn actions(&self, object: &Value) -> Value {
        let kind = object["kind"].as_str().unwrap();
        let text = &self.config[format!("resource.customizations.actions.feedwater.dev_{kind}")];
        yaml::from_str(text.as_str().expect("actions")).unwrap()
    }
}

/// An object as a client reads it.
async fn read(stage: &Stage, kind: &str, name: &str) -> Value {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("feedwater.dev", "v1alpha1", kind));
    let api: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.namespace, &kind);
    serde_json::to_value(api.get(name).await.unwrap()).unwrap()
}

fn said(kstatus: &str, health: &str) -> (String, String) {
    (kstatus.to_owned(), health.to_owned())
}

/// What the operator has left, of every kind at each telling moment, and what is to be made of it.
fn moments() -> Vec<Value> {
    lines("tests/gitops/moments.jsonl")
}

fn lines(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kinds() -> BTreeSet<String> {
    let crds = feedwater::api::schema::crds().unwrap();
    crds.iter().map(|crd| crd["spec"]["names"]["kind"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_is_judged_rightly_at_every_recorded_moment() {
    let mut tools = GitOps::start().await;
    let (mut seen, mut unlike) = (BTreeSet::new(), Vec::new());
    for moment in moments() {
        let (object, what) = (&moment["object"], moment["moment"].as_str().unwrap());
        let kind = object["kind"].as_str().unwrap();
        let wanted = [&moment["kstatus"], &moment["argo"]].map(|word| word.as_str().unwrap().to_owned());
        let (flux, argo) = tools.say(object).await;
        if wanted != [flux.clone(), argo.clone()] {
            unlike.push(format!("{kind}: {what}: {flux} {argo}, not {wanted:?}"));
        }
        seen.insert((kind.to_owned(), wanted[1].clone()));

        // Whatever is missing, the script says something, and never that all is well.
        for missing in ["/status", "/status/conditions", "/status/observedGeneration"] {
            let mut less = object.clone();
            let (parent, name) = missing.rsplit_once('/').unwrap();
            less.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
            assert_eq!(tools.say(&less).await.1, "Progressing", "{kind}: {what}, without {missing}");
        }
        // Without what Kubernetes would always have, and what a condition need not have.
        let mut less = object.clone();
        less["metadata"].as_object_mut().unwrap().remove("generation");
        for condition in less["status"]["conditions"].as_array_mut().into_iter().flatten() {
            condition.as_object_mut().unwrap().remove("message");
        }
        let (_, same) = tools.say(&less).await;
        assert!(same == argo || what.starts_with("edited"), "{kind}: {what}: {same}, not {argo}");
        // A whole number is one, however it is written.
        let mut number = object.clone();
        number["metadata"]["generation"] = json!(object["metadata"]["generation"].as_f64().unwrap());
        assert_eq!(tools.health(&number).await, argo, "{kind}: {what}");
    }
    assert!(unlike.is_empty(), "{unlike:#?}");
    for kind in kinds() {
        for health in ["Progressing", "Healthy", "Suspended", "Degraded"] {
            assert!(seen.contains(&(kind.clone(), health.to_owned())), "no {kind} that is {health}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_build_has_written_is_judged_by_its_conditions() {
    let mut tools = GitOps::start().await;
    let mut all = 0;
    for kind in ["extractrefreshes", "flowdeployments", "prefectworkspaces", "tableausites"] {
        for object in lines(&format!("tests/upgrade/6c51cc2/{kind}.jsonl")) {
            let generation = object["metadata"]["generation"].as_i64();
            let condition = |kind: &str| resources::condition(&object, kind);
            let settled = object["status"]["observedGeneration"].as_i64() == generation;
            let working = condition("Reconciling").is_some();
            let wanted = match condition("Ready") {
                _ if !object["metadata"]["deletionTimestamp"].is_null() => ("Terminating", "Progressing"),
                Some((_, _)) if !settled => ("InProgress", "Progressing"),
                Some(("True", "Suspended")) => ("Current", "Suspended"),
                Some(("True", _)) if condition("Fresh") == Some(("False", "Stale")) => {
                    ("Current", "Degraded")
                }
                Some(("True", _)) => (if working { "InProgress" } else { "Current" }, "Healthy"),
                Some(("False", _)) if condition("Stalled").is_some() => ("Failed", "Degraded"),
                Some(("False", _)) => ("InProgress", "Degraded"),
                None | Some(_) => ("InProgress", "Progressing"),
            };
            assert_eq!(tools.say(&object).await, said(wanted.0, wanted.1), "{object}");
            all += 1;
        }
    }
    assert!(all > 100, "{all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_action_on_every_kind_does_what_it_says_and_nothing_else() {
    let mut tools = GitOps::start().await;
    let at = |kind: &str, what: &str| {
        let one = moments().into_iter().find(|m| m["object"]["kind"] == kind && m["moment"] == what);
        one.unwrap_or_else(|| panic!("no {kind} {what}"))["object"].clone()
    };
    for kind in kinds() {
        let (running, suspended) = (at(&kind, "as declared"), at(&kind, "suspended"));
        let refreshes = kind == "ExtractRefresh";
        let actions: &[&str] =
            if refreshes { &["refresh-now", "resume", "suspend"] } else { &["resume", "suspend"] };
        assert_eq!(tools.defined(&running), actions.iter().map(|&action| action.to_owned()).collect());
        let offered: Vec<&str> = actions.iter().copied().filter(|action| *action != "resume").collect();
        assert_eq!(
            (tools.offers(&running).await, tools.offers(&suspended).await),
            (offered.into_iter().map(str::to_owned).collect(), vec!["resume".to_owned()],),
            "{kind}"
        );

        let mut expected = running.clone();
        expected["spec"]["suspend"] = json!(true);
        assert_eq!(tools.act(&running, "suspend").await, expected, "{kind}");
        let mut expected = suspended.clone();
        expected["spec"].as_object_mut().unwrap().remove("suspend");
        assert_eq!(tools.act(&suspended, "resume").await, expected, "{kind}");
        if refreshes {
            let mut asked = tools.act(&running, "refresh-now").await;
            let annotations = asked["metadata"]["annotations"].as_object_mut().unwrap();
            assert!(
                annotations.remove(feedwater::api::REFRESH_REQUESTED).is_some_and(|token| token.is_string())
            );
            assert_eq!(asked, running);
            // The first annotation of all.
            let mut bare = running.clone();
            bare["metadata"].as_object_mut().unwrap().remove("annotations");
            let asked = tools.act(&bare, "refresh-now").await;
            assert!(asked["metadata"]["annotations"][feedwater::api::REFRESH_REQUESTED].is_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flux_and_argo_cd_are_told_the_truth_at_each_moment() {
    let tableau = Config { edition: Edition::Cloud, ..Config::default() };
    let mut stage = Stage::set_with("gitops", Setting { tableau, ..Setting::default() }).await;
    let mut tools = GitOps::start().await;
    stage.connected().await;
    staging_differs_nowhere(&stage).await;
    let connection = read(&stage, "PrefectWorkspace", "prod").await;
    assert_eq!(tools.say(&connection).await, said("Current", "Healthy"));

    // Nobody has looked at it yet.
    stage.operator.kill().await;
    let orders = stage.tableau.add_datasource(SITE, &["Finance", "Sales"], "orders", true);
    stage.apply(&[stage.extract_object("orders", "orders", &["orders"])]).await;
    let unseen = read(&stage, "ExtractRefresh", "orders").await;
    assert_eq!(tools.say(&unseen).await, said("InProgress", "Progressing"), "unseen");

    // Its upstream is not there yet: files come in any order.
    stage.operator.restart().await.unwrap();
    let missing = |e: &ExtractRefresh| is(e, "Ready", "Unknown", "DependencyNotFound");
    stage.extract("orders", "DependencyNotFound", missing).await;
    let waits = read(&stage, "ExtractRefresh", "orders").await;
    assert_eq!(tools.say(&waits).await, said("InProgress", "Progressing"), "waits for its upstream");

    let deployment = stage.flow("orders").await;
    stage.ready("orders").await;
    for kind in ["ExtractRefresh", "FlowDeployment"] {
        let ready = read(&stage, kind, "orders").await;
        assert_eq!(tools.say(&ready).await, said("Current", "Healthy"), "{kind}");
    }

    // The data, too.
    stage.prefect.complete(&deployment).await.unwrap();
    stage.fresh("orders").await;
    let fresh = read(&stage, "ExtractRefresh", "orders").await;
    assert_eq!(tools.say(&fresh).await, said("Current", "Healthy"), "fresh");
    waited(&stage, "condition=Ready").await.unwrap();
    waited(&stage, "condition=Fresh").await.unwrap();

    // An edit that nobody has looked at yet is not what the conditions speak about.
    stage.operator.kill().await;
    stage.change::<ExtractRefresh>("orders", json!({"spec": {"suspend": true}})).await;
    let edited = read(&stage, "ExtractRefresh", "orders").await;
    assert_eq!(tools.say(&edited).await, said("InProgress", "Progressing"), "edited");
    let (ready, data) = tokio::join!(waited(&stage, "condition=Ready"), waited(&stage, "condition=Fresh"));
    for told in [ready.unwrap_err(), data.unwrap_err()] {
        assert!(told.to_string().contains("timed out waiting"), "{told}");
    }
    stage.operator.restart().await.unwrap();
    stage.extract("orders", "Suspended", |e| is(e, "Ready", "True", "Suspended")).await;
    waited(&stage, "condition=Ready").await.unwrap();
    waited(&stage, "condition=Fresh").await.unwrap();
    let suspended = read(&stage, "ExtractRefresh", "orders").await;
    assert_eq!(tools.say(&suspended).await, said("Current", "Suspended"));

    // The actions do with it what a person would.
    let resumed = tools.act(&suspended, "resume").await;
    let asked = tools.act(&resumed, "refresh-now").await;
    let token =
        asked["metadata"]["annotations"]["feedwater.dev/refresh-requested"].as_str().unwrap().to_owned();
    stage.change::<ExtractRefresh>("orders", json!({"spec": {"suspend": null}})).await;
    stage.ask("orders", &token).await;
    let handled = |e: &ExtractRefresh| {
        e.status.as_ref().is_some_and(|s| s.last_handled_refresh_token.as_deref() == Some(token.as_str()))
    };
    stage.extract("orders", "the token of Argo CD is handled", handled).await;
    // As docs/gitops.md has it.
    waited(&stage, &format!("jsonpath={{.status.lastHandledRefreshToken}}={token}")).await.unwrap();
    let rests = "jsonpath={.status.conditions[?(@.type==\"Refreshing\")].reason}=UpToDate";
    waited_long(&stage, rests, "60s").await.unwrap();
    assert_eq!(stage.refreshed(&orders), 2);

    // Wrong, and expected to be mended there: kstatus waits for it; Argo CD shows it at once.
    let mut lacking = stage.flow_object("lacking");
    lacking["spec"]["workPool"]["name"] = json!("no-such-pool");
    stage.apply(&[lacking]).await;
    let no_pool = |f: &FlowDeployment| is(f, "Ready", "False", "WorkPoolNotFound");
    stage.until::<FlowDeployment>("lacking", "WorkPoolNotFound", no_pool).await;
    let lacking = read(&stage, "FlowDeployment", "lacking").await;
    assert_eq!(tools.say(&lacking).await, said("InProgress", "Degraded"));

    // Only a person can help: it has failed.
    stage.apply(&[stage.extract_object("younger", "orders", &["orders"])]).await;
    stage.extract("younger", "TargetConflict", |e| is(e, "Stalled", "True", "TargetConflict")).await;
    let younger = read(&stage, "ExtractRefresh", "younger").await;
    assert_eq!(tools.say(&younger).await, said("Failed", "Degraded"));

    // On its way out: a connection that is needed stays.
    let workspaces = stage.api::<PrefectWorkspace>();
    workspaces.delete("prod", &kube::api::DeleteParams::default()).await.unwrap();
    let leaving = |w: &PrefectWorkspace| is(w, "Ready", "False", "InUse");
    let left = stage.until::<PrefectWorkspace>("prod", "InUse", leaving).await;
    assert!(left.metadata.deletion_timestamp.is_some());
    let leaving = read(&stage, "PrefectWorkspace", "prod").await;
    assert_eq!(tools.say(&leaving).await, said("Terminating", "Progressing"));
}

/// `kubectl wait` for the extract `orders`, not for long.
async fn waited(stage: &Stage, what: &str) -> Result<String, KubectlError> {
    waited_long(stage, what, "2s").await
}

async fn waited_long(stage: &Stage, what: &str, limit: &str) -> Result<String, KubectlError> {
    let (what, limit) = (format!("--for={what}"), format!("--timeout={limit}"));
    stage.kubectl.run(&["wait", &what, "exr/orders", "-n", &stage.namespace, &limit]).await
}

/// `examples/staging`, but for the URLs, the namespaces, and the names of the flows: other tests share Prefect.
async fn staging_differs_nowhere(stage: &Stage) {
    const SITE: &str = "acme-staging";
    let namespace = &stage.namespace;
    stage.tableau.add_site(SITE);
    stage.tableau.add_pat(SITE, "feedwater", "first-secret", "feedwater");
    stage.tableau.add_datasource(SITE, &["Finance", "Sales"], "Orders", true);
    stage.tableau.add_workbook(SITE, &["Finance", "Reports"], "Revenue", true);
    let replace = |kind: &str, name: &str, path: &str, value: &str| {
        let patch = json!([{"op": "replace", "path": path, "value": value}]).to_string();
        json!({"target": {"kind": kind, "name": name}, "patch": patch})
    };
    let (orders, fx) = (format!("{namespace}-staged-orders"), format!("{namespace}-staged-fx"));
    let kustomization = json!({
        "namespace": namespace, "resources": ["../../../examples/staging"],
        "patches": [
            replace("PrefectWorkspace", ".*", "/spec/apiUrl", stage.info.prefect_api_url.as_ref().unwrap()),
            replace("PrefectWorkspace", ".*", "/spec/pollInterval", "1s"),
            replace("TableauSite", ".*", "/spec/serverUrl", &stage.tableau.url()),
            replace("RoleBinding", ".*", "/subjects/0/namespace", namespace),
            replace("FlowDeployment", "orders-nightly.*", "/spec/flowName", &orders),
            replace("FlowDeployment", "fx-hourly.*", "/spec/flowName", &fx),
            // What a patch names comes first in a merged list.
            replace("ExtractRefresh", "revenue.*", "/spec/upstreams/0/prefectDeployment/flowName", &fx),
        ],
    });
    let overlay = stage.info.directory.join(format!("{namespace}-staging"));
    std::fs::create_dir_all(&overlay).unwrap();
    std::fs::write(overlay.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    let objects = stage.kubectl.run(&["kustomize", &overlay.to_string_lossy()]).await.unwrap();
    stage.kubectl.apply(&objects).await.unwrap();
    for flow in ["orders-nightly-staging", "fx-hourly-staging"] {
        stage.deployed(flow).await;
    }
    for extract in ["orders-staging", "revenue-staging"] {
        stage.extract(extract, "InSync", |e| is(e, "Ready", "True", "InSync")).await;
    }
    for how in [&["diff", "-f", "-"][..], &["diff", "--server-side", "-f", "-"]] {
        let differs = stage.kubectl.run_with_input(how, &objects).await;
        assert_eq!(differs.unwrap_or_else(|error| panic!("something differs: {error}")), "", "{how:?}");
    }
}
