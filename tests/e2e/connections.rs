//! What is wrong with a connection is said with its remedy, and heals as soon as that is applied.

use crate::stage::{LIMIT, SITE, Stage, is, told};
use feedwater::api::{ExtractRefresh, FlowDeployment, HasStatus, PrefectWorkspace, TableauSite};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;
use world::resources;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_secret_a_missing_key_and_a_wrong_token_are_told_apart_and_heal() {
    let stage = Stage::set("secret").await;
    stage.delete::<Secret>("tableau-pat").await;
    failed::<TableauSite>(&stage, "acme", "SecretNotFound", &["`tableau-pat`", "create it"]).await;

    let namespace = &stage.namespace;
    stage.apply(&[resources::secret(namespace, "tableau-pat", &[("name", "feedwater")])]).await;
    failed::<TableauSite>(&stage, "acme", "SecretKeyMissing", &["`tableau-pat`", "`secret`"]).await;

    stage.apply(&[token(&stage, "hunter2")]).await;
    stage
        .apply(&[resources::tableau_site(namespace, "wrong", &stage.tableau.url(), SITE, "tableau-pat")])
        .await;
    let site = failed::<TableauSite>(&stage, "wrong", "CredentialsInvalid", &["siteContentUrl"]).await;
    assert!(!serde_json::to_string(&site.status).unwrap().contains("hunter2"));

    stage.apply(&[token(&stage, "first-secret")]).await;
    connected::<TableauSite>(&stage, "wrong").await;
    connected::<TableauSite>(&stage, "acme").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_may_not_be_read_names_the_role_and_heals_when_it_is_there() {
    let stage = Stage::set("role").await;
    stage.connected().await;
    let ns = &stage.namespace;
    let site = resources::tableau_site(ns, "other", &stage.tableau.url(), SITE, "other-pat");
    stage
        .apply(&[resources::personal_access_token(ns, "other-pat", "feedwater", "first-secret"), site])
        .await;
    failed::<TableauSite>(&stage, "other", "SecretAccessDenied", &["`other-pat`", "manifests/tenant", ns])
        .await;
    stage.apply(&[resources::secret_reader(ns, &["tableau-pat", "prefect", "other-pat"], ns)]).await;
    connected::<TableauSite>(&stage, "other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_url_is_said_and_heals_when_it_is_corrected() {
    let stage = Stage::set("url").await;
    let ns = &stage.namespace;
    let prefect = stage.info.prefect_api_url.clone().unwrap();
    let closed = format!("http://127.0.0.1:{}", world::ports::free());
    let workspace = |name: &str, url: &str| resources::prefect_workspace(ns, name, url);
    let site = |name: &str, url: &str| resources::tableau_site(ns, name, url, SITE, "tableau-pat");
    let root = prefect.trim_end_matches("/api").to_owned();
    let objects = [
        workspace("forbidden", "https://10.11.12.13/api"),
        site("forbidden", "https://tableau.acme.internal"),
        workspace("confused", &format!("{}/api", stage.tableau.url())),
        workspace("no-path", &root),
        site("confused", &root),
        workspace("closed", &format!("{closed}/api")),
        site("closed", &closed),
    ];
    stage.apply(&objects).await;
    let flag = "--allowed-hosts=";
    let forbidden =
        failed::<PrefectWorkspace>(&stage, "forbidden", "HostNotAllowed", &[flag, "10.11.12.13"]).await;
    assert!(is(&forbidden, "Stalled", "True", "HostNotAllowed"));
    failed::<TableauSite>(&stage, "forbidden", "HostNotAllowed", &[flag, "tableau.acme.internal"]).await;
    let confused =
        failed::<PrefectWorkspace>(&stage, "confused", "WrongServer", &["not the API of Prefect"]).await;
    assert!(is(&confused, "Stalled", "True", "WrongServer"));
    failed::<PrefectWorkspace>(&stage, "no-path", "WrongServer", &["/api"]).await;
    failed::<TableauSite>(&stage, "confused", "WrongServer", &["not Tableau"]).await;
    failed::<PrefectWorkspace>(&stage, "closed", "Unreachable", &[&closed]).await;
    failed::<TableauSite>(&stage, "closed", "Unreachable", &[&closed]).await;

    for name in ["forbidden", "confused", "no-path", "closed"] {
        stage.apply(&[workspace(name, &prefect)]).await;
        let healed = connected::<PrefectWorkspace>(&stage, name).await;
        assert!(!is(&healed, "Stalled", "True", ""), "{healed:?}");
    }
    for name in ["forbidden", "confused", "closed"] {
        stage.apply(&[site(name, &stage.tableau.url())]).await;
        connected::<TableauSite>(&stage, name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_in_any_order_and_what_is_missing_is_waited_for() {
    let stage = Stage::set("order").await;
    let orders = stage.datasource("Orders");
    let mut extract = stage.extract_object("orders", "Orders", &["orders"]);
    extract["spec"]["siteRef"]["name"] = "later".into();
    stage.apply(&[extract]).await;
    let waits = |e: &ExtractRefresh| {
        is(e, "Ready", "Unknown", "DependencyNotFound") && is(e, "Reconciling", "True", "")
    };
    let waiting = stage.extract("orders", "DependencyNotFound", waits).await;
    assert!(told(&waiting, "Ready").contains("later"), "{}", told(&waiting, "Ready"));

    let mut flow = stage.flow_object("orders");
    flow["spec"]["workspaceRef"]["name"] = "later".into();
    stage.apply(&[flow]).await;
    let waits = |f: &FlowDeployment| {
        is(f, "Ready", "Unknown", "DependencyNotFound") && is(f, "Reconciling", "True", "")
    };
    let waiting = stage.until::<FlowDeployment>("orders", "DependencyNotFound", waits).await;
    assert!(told(&waiting, "Ready").contains("later"), "{}", told(&waiting, "Ready"));

    let ns = &stage.namespace;
    let mut site = resources::tableau_site(ns, "later", &stage.tableau.url(), SITE, "tableau-pat");
    site["spec"]["pollInterval"] = "1s".into();
    let mut workspace =
        resources::prefect_workspace(ns, "later", &stage.info.prefect_api_url.clone().unwrap());
    workspace["spec"]["pollInterval"] = "1s".into();
    stage.apply(&[site]).await;
    stage.apply(&[workspace]).await;
    let id = stage.deployed("orders").await;
    stage.ready("orders").await;
    stage.prefect.complete(&id).await.unwrap();
    stage.fresh("orders").await;
    assert_eq!(stage.refreshed(&orders), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_columns_of_every_kind_fit_a_terminal() {
    let stage = Stage::set("columns").await;
    stage.datasource("FX Rates (hourly)");
    // Names as long as a team's are; the states are the widest of each kind.
    let mut flow = stage.flow_object("crm-export");
    flow["spec"]["flowName"] = format!("{}-x", &stage.namespace[stage.namespace.len() - 6..]).into();
    flow["spec"]["workPool"]["name"] = "kubernetes-heavy".into();
    let extract = stage.extract_object("finance-fx-rates-hourly", "FX Rates (hourly)", &["crm-export"]);
    stage.apply(&[flow, extract]).await;
    stage
        .until::<FlowDeployment>("crm-export", "WorkPoolNotFound", |f| {
            is(f, "Ready", "False", "WorkPoolNotFound")
        })
        .await;
    stage.extract("finance-fx-rates-hourly", "seen", |e| !told(e, "Ready").is_empty()).await;
    stage.connected().await;
    for (kind, columns) in [
        ("prefectworkspaces", vec!["NAME", "WORKSPACE", "READY", "REASON", "AGE"]),
        ("tableausites", vec!["NAME", "SITE", "READY", "REASON", "AGE"]),
        ("flowdeployments", vec!["NAME", "FLOW", "POOL", "DRIFTED", "READY", "REASON", "AGE"]),
        ("extractrefreshes", vec!["NAME", "TARGET", "FRESH", "DATA", "ACTIVITY", "READY", "AGE"]),
    ] {
        let table = stage.kubectl.run(&["get", kind, "--namespace", &stage.namespace]).await.unwrap();
        let mut lines = table.lines();
        assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), columns);
        assert!(
            table.lines().count() >= 2 && table.lines().all(|line| line.trim_end().len() <= 100),
            "{table}"
        );
    }
}

/// A connection, once it is told what is wrong with it and what to do.
async fn failed<K>(stage: &Stage, name: &str, reason: &str, names: &[&str]) -> K
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + HasStatus
        + Clone
        + Debug
        + DeserializeOwned,
{
    let seen = stage.until::<K>(name, reason, |c| is(c, "Ready", "False", reason)).await;
    let message = told(&seen, "Ready");
    for what in names {
        assert!(message.contains(what), "{what} is not in: {message}");
    }
    seen
}

/// A connection, once it works.
async fn connected<K>(stage: &Stage, name: &str) -> K
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + HasStatus
        + Clone
        + Debug
        + DeserializeOwned,
{
    stage.until_within::<K>(2 * LIMIT, name, "Connected", |c| is(c, "Ready", "True", "Connected")).await
}

fn token(stage: &Stage, secret: &str) -> Value {
    resources::personal_access_token(&stage.namespace, "tableau-pat", "feedwater", secret)
}
