//! Runs by their tags and work pool, in the real Prefect.

use crate::reports::until;
use crate::stage::{Stage, is};
use crate::triggers_help::status;
use feedwater::api::FlowDeployment;
use reqwest::Method;
use serde_json::{Value, json};

/// An extract after runs with this tag or those that report refreshes, which carry the tag `feedwater`.
fn upstreams(tag: &str) -> Value {
    let workspace = json!({"name": "prod"});
    json!([
        {"name": "crm", "prefectRuns": {"workspaceRef": workspace, "tags": [tag]}},
        {"name": "in-pool", "prefectRuns": {"workspaceRef": workspace, "tags": [tag, "heavy"], "workPool": "etl"}},
        {"name": "reports", "prefectRuns": {"workspaceRef": workspace, "tags": ["feedwater", "tableau"]}},
    ])
}

impl Stage {
    /// A run without a deployment, with these tags, that completes.
    async fn complete_tagged(&self, flow: &str, tags: &[&str]) -> String {
        let flow = self.prefect.ensure_flow(flow).await.unwrap();
        let run = json!({"flow_id": flow, "tags": tags, "state": {"type": "PENDING"}});
        let run = self.prefect.call(Method::POST, "/flow_runs/", Some(run)).await.unwrap();
        let run = run["id"].as_str().unwrap().to_owned();
        self.prefect.set_state(&run, "RUNNING").await.unwrap();
        self.prefect.set_state(&run, "COMPLETED").await.unwrap();
        run
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_any_flow_refresh_by_their_tags_and_reports_of_refreshes_do_not() {
    let stage = Stage::set("tagged").await;
    let orders = stage.datasource("Orders");
    let tag = format!("crm-{}", stage.namespace);
    let flow = stage.flow("orders").await;
    let tags = json!({"spec": {"tags": [tag, "heavy"]}});
    stage.change::<FlowDeployment>("orders", tags).await;
    stage.deployed("orders").await;
    let before = stage.complete_tagged(&tag, &[&tag]).await;
    let fields = json!({"upstreams": upstreams(&tag), "trigger": {"require": "Any"}});
    stage.apply(&[stage.extract_with("orders", "Orders", &[], &fields)]).await;
    stage.extract("orders", "all read", |e| is(e, "UpstreamsHealthy", "True", "AllHealthy")).await;

    // Of a flow that has no deployment, with more tags than are asked for; the other is of another pool, that is of none.
    let run = stage.complete_tagged(&tag, &["x", &tag, "heavy"]).await;
    stage.refreshes(&orders, 1).await;
    let extract = stage.settled("orders", 1).await;
    let runs = status(&extract).history[0].runs.clone();
    assert!(runs.contains(&run) && !runs.contains(&before), "{runs:?}");
    let seen =
        |name: &str| status(&extract).upstreams.iter().find(|u| u.name == name).unwrap().run_id.clone();
    assert_eq!((seen("crm"), seen("in-pool")), (Some(run), None));

    // A run of a deployment has its tags, the mark of Feedwater among them, and was made for its work pool.
    let both = stage.prefect.complete(&flow).await.unwrap();
    let extract = stage.settled("orders", 2).await;
    let seen =
        |name: &str| status(&extract).upstreams.iter().find(|u| u.name == name).unwrap().run_id.clone();
    assert_eq!((seen("crm"), seen("in-pool")), (Some(both.clone()), Some(both)));

    // Each refresh was shown in Prefect, with the tags of the third upstream; the last of all is a run that counts.
    let ended =
        json!({"tags": {"all_": ["feedwater", "tableau"]}, "state": {"type": {"any_": ["COMPLETED"]}}});
    let label = json!(format!("{}/orders", stage.namespace));
    until(&stage, "both are shown", ("/flow_runs/filter", json!({"flow_runs": ended})), |runs| {
        let ours = |run: &&Value| run["labels"]["feedwater.dev/refresh"] == label;
        runs.as_array().into_iter().flatten().filter(ours).count() == 2
    })
    .await;
    let last = stage.complete_tagged(&tag, &[&tag]).await;
    let extract = stage.settled("orders", 3).await;
    let seen =
        |name: &str| status(&extract).upstreams.iter().find(|u| u.name == name).unwrap().run_id.clone();
    assert_eq!((seen("crm"), seen("reports")), (Some(last), None));
    assert_eq!(stage.refreshed(&orders), 3);
}
