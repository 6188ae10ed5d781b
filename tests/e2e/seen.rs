//! What people and machines see of the operator: logs, events, metrics, probes, an orderly end, and never a secret.

use crate::stage::{LIMIT, SITE, Stage, is};
use crate::triggers::running_until_released;
use feedwater::api::ExtractRefresh;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;
use world::resources;

/// A value that can stand nowhere by chance.
fn canary() -> String {
    format!("canary-{}", uuid::Uuid::new_v4().simple())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_found_in_any_log_status_event_or_metric() {
    let stage = Stage::set("canary").await;
    let orders = stage.datasource("Orders");
    let (token, parameter, wrong, refused) = (canary(), canary(), canary(), canary());
    // The token the operator signs in with from here on.
    stage.tableau.add_pat(SITE, "feedwater", &token, "feedwater");
    stage
        .apply(&[resources::personal_access_token(&stage.namespace, "tableau-pat", "feedwater", &token)])
        .await;
    let mut flow = stage.flow_object("orders");
    flow["spec"]["parameters"] = json!({ "password": parameter, "n": 1 });
    flow["spec"]["parameterOpenApiSchema"] =
        json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    stage.apply(&[flow.clone()]).await;
    let id = stage.deployed("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;
    stage.prefect.complete(&id).await.unwrap();
    stage.fresh("orders").await;
    // A value that is refused comes back in Prefect's answer.
    flow["spec"]["parameters"] = json!({ "password": parameter, "n": refused });
    stage.apply(&[flow]).await;
    // A token that is refused.
    stage
        .apply(&[resources::personal_access_token(&stage.namespace, "tableau-pat", "feedwater", &wrong)])
        .await;
    stage
        .until::<feedwater::api::TableauSite>("acme", "the wrong token refused", |s| {
            is(s, "Ready", "False", "")
        })
        .await;
    stage
        .until::<feedwater::api::FlowDeployment>("orders", "the parameters refused", |f| {
            is(f, "Ready", "False", "ParametersRejected")
        })
        .await;

    let log = std::fs::read_to_string(stage.operator.log()).unwrap();
    let metrics = stage.operator.metrics().await.unwrap();
    let kubectl = &stage.kubectl;
    let ns = stage.namespace.as_str();
    let events = kubectl.get(&["events.events.k8s.io", "--namespace", ns]).await.unwrap().to_string();
    assert!(events.contains("RefreshSucceeded"), "{events}");
    let mut statuses = String::new();
    for kind in ["prefectworkspaces", "tableausites", "flowdeployments", "extractrefreshes"] {
        let list = kubectl.get(&[kind, "--namespace", ns]).await.unwrap();
        for item in list["items"].as_array().unwrap() {
            statuses.push_str(&item["status"].to_string());
        }
    }
    assert!(log.len() > 200 && metrics.len() > 200 && statuses.len() > 200);
    for (what, text) in [("log", &log), ("metrics", &metrics), ("events", &events), ("status", &statuses)] {
        let secrets = [
            ("token", &token),
            ("parameter", &parameter),
            ("wrong token", &wrong),
            ("refused parameter", &refused),
        ];
        for (whose, secret) in secrets {
            assert!(!text.contains(secret.as_str()), "the {whose} is in the {what}");
        }
    }
    assert_eq!(stage.refreshed(&orders), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_end_it_finishes_what_is_in_flight_and_gives_the_lease_back() {
    let mut stage = Stage::set("ending").await;
    let (orders, flow) = stage.orders().await;
    stage.tableau.script(&orders, running_until_released());
    let hold = stage.tableau.hold_answer(&orders);
    stage.prefect.complete(&flow).await.unwrap();
    tokio::time::timeout(LIMIT, hold.taken()).await.unwrap();
    let log = stage.operator.log().to_owned();
    let asked = async {
        // The answer comes only after the operator was asked to end.
        loop {
            if std::fs::read_to_string(&log).unwrap_or_default().contains("asked to end") {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        drop(hold);
    };
    tokio::join!(stage.operator.terminate(), asked);
    // Nobody is left who could have written this later.
    let extract = stage.extract("orders", "there", |_| true).await;
    let attempt = extract.status.unwrap().attempt.unwrap();
    assert_eq!(attempt.job_id, Some(stage.tableau.truth().refreshes_of(&orders)[0].job.clone()));
    let lease = stage.api::<Lease>().get("feedwater").await.unwrap().spec.unwrap();
    assert_eq!(lease.holder_identity.as_deref().unwrap_or_default(), "", "{lease:?}");

    stage.operator.restart().await.unwrap();
    stage.tableau.release_jobs(&orders);
    stage.fresh("orders").await;
    assert_eq!(stage.refreshed(&orders), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_metrics_answer_and_a_person_can_read_what_is_described() {
    let stage = Stage::set("seen").await;
    stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.declare("orders", "Orders", &["orders"]).await;
    stage.prefect.complete(&flow).await.unwrap();
    stage.fresh("orders").await;
    let base = stage.operator.metrics_url().replace("/metrics", "");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["/livez", "/readyz"] {
        assert!(client.get(format!("{base}{path}")).send().await.unwrap().status().is_success(), "{path}");
    }
    let metrics = stage.operator.metrics().await.unwrap();
    for line in [
        "feedwater_leader 1",
        "feedwater_websockets 1",
        r#"feedwater_refreshes_total{outcome="Succeeded",origin="Ours"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    for line in stage.operator.log_lines() {
        assert!(
            line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
    let extract = stage.extract("orders", "there", |_| true).await;
    for condition in &extract.status.as_ref().unwrap().conditions {
        let message = &condition.message;
        assert!(!message.is_empty() && !message.ends_with('.') && !message.contains('\n'), "{message}");
    }
    let described =
        stage.kubectl.run(&["describe", "exr", "orders", "--namespace", &stage.namespace]).await.unwrap();
    for word in ["UpToDate", "RefreshStarted", "RefreshSucceeded", "Data Time"] {
        assert!(described.contains(word), "{word} is not in\n{described}");
    }
    // Of Prefect Cloud, where nobody is called, the workspace is what tells one from another.
    let workspace = uuid::Uuid::new_v4().to_string();
    let mut cloud = resources::prefect_workspace(&stage.namespace, "cloud", "");
    cloud["spec"] =
        json!({"cloud": {"accountId": uuid::Uuid::new_v4(), "workspaceId": workspace}, "suspend": true});
    stage.apply(&[cloud]).await;
    let mut columns = String::new();
    for kind in ["exr", "fdep", "pws", "tsite"] {
        columns += &stage.kubectl.run(&["get", kind, "--namespace", &stage.namespace]).await.unwrap();
    }
    assert!(columns.lines().all(|line| line.len() <= 100), "{columns}");
    let site = columns.lines().find(|line| line.starts_with("acme ")).unwrap();
    assert!(columns.contains(&workspace) && site.split_whitespace().nth(1) == Some(SITE), "{columns}");
    let _: &ExtractRefresh = &extract;
}
