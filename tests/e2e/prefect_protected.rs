//! A Prefect that asks for credentials and CSRF tokens: what only the real server can show of 401, 403 and 409.

use crate::stage::{Stage, is, told};
use feedwater::api::{FlowDeployment, PrefectEvents, PrefectHosting, PrefectWorkspace};
use reqwest::Method;
use serde_json::json;
use world::prefect::{Installation, Rest, Server};
use world::progress::Progress;
use world::resources;

const AUTH: &str = "feedwater:s3cret";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_and_csrf_tokens_are_sent_where_the_server_asks_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::get(&Progress::default()).await.unwrap();
    let server =
        Server::start_protected(&installation, directory.path(), AUTH, &Progress::default()).await.unwrap();
    let rest = Rest::protected(server.api_url(), AUTH).await.unwrap();
    let stage = Stage::set("protected").await;
    let ns = &stage.namespace;
    let mut workspace = resources::prefect_workspace(ns, "prod", server.api_url());
    workspace["spec"]["pollInterval"] = "1s".into();
    stage.apply(&[workspace.clone()]).await;
    let refused = |w: &PrefectWorkspace| is(w, "Ready", "False", "CredentialsInvalid");
    let bare = stage.until::<PrefectWorkspace>("prod", "401 without credentials", refused).await;
    assert!(told(&bare, "Ready").contains("set spec.auth"), "{}", told(&bare, "Ready"));

    workspace["spec"]["auth"] = json!({"basic": {"secretRef": {"name": "prefect"}}});
    let secret = |password: &str| {
        resources::secret(ns, "prefect", &[("username", "feedwater"), ("password", password)])
    };
    stage.apply(&[secret("wrong-one"), workspace]).await;
    let wrong = |w: &PrefectWorkspace| refused(w) && told(w, "Ready").contains("the Secret");
    let wrong = stage.until::<PrefectWorkspace>("prod", "401 with wrong credentials", wrong).await;
    assert!(!serde_json::to_string(&wrong).unwrap().contains("wrong-one"));

    stage.apply(&[secret("s3cret")]).await;
    let known = |w: &PrefectWorkspace| {
        let server = w.status.as_ref().and_then(|status| status.server.as_ref());
        is(w, "Ready", "True", "Connected")
            && server.is_some_and(|server| {
                (server.hosting, server.csrf, server.events)
                    == (PrefectHosting::SelfHosted, true, Some(PrefectEvents::Live))
            })
    };
    let connected = stage.until::<PrefectWorkspace>("prod", "connected, with CSRF and events", known).await;
    assert!(connected.status.unwrap().version.unwrap().starts_with("3."));

    // Reads by POST, a flow, a deployment, a schedule and a change: all of them need the token.
    let mut flow = stage.flow_object("orders");
    flow["spec"]["schedules"] = json!([{"slug": "nightly", "cron": {"expression": "0 2 * * *"}}]);
    stage.apply(&[flow.clone()]).await;
    let id = stage.deployed("orders").await;
    flow["spec"]["description"] = json!("Loads orders");
    stage.apply(&[flow]).await;
    let path = format!("/deployments/{id}");
    let in_sync = |f: &FlowDeployment| {
        is(f, "Ready", "True", "InSync")
            && f.status.as_ref().is_some_and(|s| s.observed_generation >= 2 && s.pending_write.is_none())
    };
    stage.until::<FlowDeployment>("orders", "changed", in_sync).await;
    let there = rest.call(Method::GET, &path, None).await.unwrap();
    assert_eq!(
        (&there["description"], &there["schedules"][0]["slug"]),
        (&json!("Loads orders"), &json!("nightly"))
    );

    // 409: the server's own check of a change. What is wrong is said, the values are not.
    let mut typed = stage.flow_object("typed");
    typed["spec"]["parameterOpenApiSchema"] =
        json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    typed["spec"]["parameters"] = json!({"n": 1});
    stage.apply(&[typed.clone()]).await;
    stage.deployed("typed").await;
    typed["spec"]["parameters"] = json!({"n": "hunter2"});
    stage.apply(&[typed]).await;
    let rejected = |f: &FlowDeployment| is(f, "Ready", "False", "ParametersRejected");
    let rejected = stage.until::<FlowDeployment>("typed", "409", rejected).await;
    let status = serde_json::to_string(&rejected.status).unwrap();
    assert!(is(&rejected, "Drifted", "Unknown", "NotObserved") && !status.contains("hunter2"), "{status}");

    // Suspended: the server is not asked for anything any more.
    stage.change::<PrefectWorkspace>("prod", json!({"spec": {"suspend": true}})).await;
    let suspended = |w: &PrefectWorkspace| is(w, "Ready", "True", "Suspended");
    stage.until::<PrefectWorkspace>("prod", "suspended", suspended).await;
    let mut later = stage.flow_object("later");
    later["spec"]["description"] = json!("after the pause");
    stage.apply(&[later]).await;
    let waits = |f: &FlowDeployment| is(f, "Ready", "Unknown", "ConnectionUnavailable");
    stage.until::<FlowDeployment>("later", "waits", waits).await;
    stage.change::<PrefectWorkspace>("prod", json!({"spec": {"suspend": false}})).await;
    stage.deployed("later").await;
}
