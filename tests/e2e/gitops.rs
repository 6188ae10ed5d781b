//! What Flux (kstatus), `kubectl wait` and Argo CD (the Lua of `manifests/argocd`) make of our objects, at each moment of their life.

use crate::stage::{SITE, Stage, is};
use feedwater::api::{ExtractRefresh, FlowDeployment, PrefectWorkspace, TableauSite};
use feedwater::yaml;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use world::progress::Progress;

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
        let kind = object["kind"].as_str().unwrap();
        let health = &self.config[format!("resource.customizations.health.feedwater.dev_{kind}")];
        let health = json!({"health": health.as_str().expect("a script"), "object": object});
        let (kstatus, health) = (self.ask(&json!({"kstatus": object})).await, self.ask(&health).await);
        assert!(health["message"].is_string(), "{health}");
        let status = |answer: &Value| answer["status"].as_str().unwrap().to_owned();
        (status(&kstatus), status(&health))
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flux_and_argo_cd_are_told_the_truth_at_each_moment() {
    let mut stage = Stage::set("gitops").await;
    let mut tools = GitOps::start().await;
    stage.connected().await;
    let connection = read(&stage, "PrefectWorkspace", "prod").await;
    assert_eq!(tools.say(&connection).await, said("Current", "Healthy"));
    // Those of the cluster have the same conditions.
    for kind in ["ClusterPrefectWorkspace", "ClusterTableauSite"] {
        let mut of_cluster = connection.clone();
        of_cluster["kind"] = json!(kind);
        of_cluster["metadata"].as_object_mut().unwrap().remove("namespace");
        assert_eq!(tools.say(&of_cluster).await, said("Current", "Healthy"), "{kind}");
    }

    // Nobody has looked at it yet.
    stage.operator.kill().await;
    stage.tableau.add_datasource(SITE, &["Finance", "Sales"], "orders", true);
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

    // An edit that nobody has looked at yet is not what the conditions speak about.
    stage.operator.kill().await;
    stage.change::<ExtractRefresh>("orders", json!({"spec": {"suspend": true}})).await;
    let edited = read(&stage, "ExtractRefresh", "orders").await;
    assert_eq!(tools.say(&edited).await, said("InProgress", "Progressing"), "edited");
    stage.operator.restart().await.unwrap();
    stage.extract("orders", "Suspended", |e| is(e, "Ready", "True", "Suspended")).await;
    let suspended = read(&stage, "ExtractRefresh", "orders").await;
    assert_eq!(tools.say(&suspended).await, said("Current", "Suspended"));

    // The actions do with it what a person would.
    assert_eq!(tools.offers(&suspended).await, ["resume"]);
    let resumed = tools.act(&suspended, "resume").await;
    assert!(resumed["spec"]["suspend"].is_null(), "{resumed}");
    assert_eq!(tools.offers(&resumed).await, ["refresh-now", "suspend"]);
    assert_eq!(tools.act(&resumed, "suspend").await["spec"]["suspend"], true);
    let asked = tools.act(&resumed, "refresh-now").await;
    let token =
        asked["metadata"]["annotations"]["feedwater.dev/refresh-requested"].as_str().unwrap().to_owned();
    stage.change::<ExtractRefresh>("orders", json!({"spec": {"suspend": null}})).await;
    stage.ask("orders", &token).await;
    let handled = |e: &ExtractRefresh| {
        e.status.as_ref().is_some_and(|s| s.last_handled_refresh_token.as_deref() == Some(token.as_str()))
    };
    stage.extract("orders", "the token of Argo CD is handled", handled).await;

    // So do those of its site.
    let site = read(&stage, "TableauSite", "acme").await;
    assert_eq!(
        (tools.say(&site).await, tools.offers(&site).await),
        (said("Current", "Healthy"), vec!["suspend".into()])
    );
    let spec = tools.act(&site, "suspend").await["spec"].clone();
    stage.change::<TableauSite>("acme", json!({ "spec": spec })).await;
    let stopped = |s: &TableauSite| is(s, "Ready", "True", "Suspended");
    stage.until::<TableauSite>("acme", "Suspended", stopped).await;
    let site = read(&stage, "TableauSite", "acme").await;
    assert_eq!(
        (tools.say(&site).await, tools.offers(&site).await),
        (said("Current", "Suspended"), vec!["resume".into()])
    );
    assert!(tools.act(&site, "resume").await["spec"]["suspend"].is_null());
    stage.change::<TableauSite>("acme", json!({"spec": {"suspend": null}})).await;
    stage.until::<TableauSite>("acme", "Connected", |s| is(s, "Ready", "True", "Connected")).await;

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
    let mut younger = read(&stage, "ExtractRefresh", "younger").await;
    assert_eq!(tools.say(&younger).await, said("Failed", "Degraded"));
    for condition in younger["status"]["conditions"].as_array_mut().unwrap() {
        if condition["reason"] == "TargetConflict" {
            condition["reason"] = json!("AccessDenied");
        }
    }
    assert_eq!(tools.say(&younger).await, said("Failed", "Degraded"), "a connection does not allow it");

    // The promise of freshness is broken. (The shortest promise is a minute: the condition is put in as it will be.)
    stage.prefect.complete(&deployment).await.unwrap();
    stage.fresh("orders").await;
    let mut aged = read(&stage, "ExtractRefresh", "orders").await;
    assert_eq!(tools.say(&aged).await, said("Current", "Healthy"), "fresh");
    let fresh = aged["status"]["conditions"].as_array_mut().unwrap();
    let fresh = fresh.iter_mut().find(|condition| condition["type"] == "Fresh").unwrap();
    (fresh["status"], fresh["reason"]) = (json!("False"), json!("Stale"));
    assert_eq!(tools.say(&aged).await, said("Current", "Degraded"), "stale");

    // On its way out: a connection that is needed stays.
    let workspaces = stage.api::<PrefectWorkspace>();
    workspaces.delete("prod", &kube::api::DeleteParams::default()).await.unwrap();
    let leaving = |w: &PrefectWorkspace| is(w, "Ready", "False", "InUse");
    let left = stage.until::<PrefectWorkspace>("prod", "InUse", leaving).await;
    assert!(left.metadata.deletion_timestamp.is_some());
    let leaving = read(&stage, "PrefectWorkspace", "prod").await;
    assert_eq!(tools.say(&leaving).await, said("Terminating", "Progressing"));
}
