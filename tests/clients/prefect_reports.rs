//! What Prefect is told of refreshes: what is sent, against a server that takes nothing it does not know.

use crate::stub::{Seen, Stub, json, text};
use feedwater::model::reports::{Artifact, AssetEvent, LogLine, NewRun, NewTaskRun, RunState, Whose};
use feedwater::prefect::{Auth, EnsuredRun, PrefectClient, PrefectError, Reporting, StateType};
use serde_json::{Map, Value, json};

const CANARY: &str = "canary-52aa";

fn client(stub: &Stub) -> PrefectClient {
    PrefectClient::new(stub.http("prefect", "/api"), Auth::ApiKey(CANARY.into())).unwrap()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn task() -> NewTaskRun {
    NewTaskRun {
        run: "r0".into(),
        task_key: "tableau-extract-refresh".into(),
        dynamic_key: "job".into(),
        name: "Orders".into(),
        tags: vec!["tableau".into()],
    }
}

fn run() -> NewRun {
    NewRun {
        name: "Orders".into(),
        idempotency_key: "job".into(),
        tags: vec!["tableau".into()],
        labels: object(&json!({"feedwater.dev/refresh": "finance/orders"})),
        parameters: object(&json!({"cause": "Upstreams"})),
        parent: Some("t1".into()),
        state: RunState { state_type: StateType::Pending, name: None, message: "Queued".into() },
    }
}

fn event() -> AssetEvent {
    AssetEvent {
        id: "11111111-2222-4333-8444-555555555555".into(),
        occurred: "2026-11-24T12:00:00Z".parse().unwrap(),
        event: "prefect.asset.materialization.succeeded",
        asset: "tableau://x/acme/datasources/l1".into(),
        name: "Orders".into(),
        url: "https://x/#/1".into(),
        parents: vec!["postgres://prod/orders".into()],
        run_name: "Orders".into(),
    }
}

#[tokio::test]
async fn each_call_goes_out_as_the_reference_says() {
    let row = json!({"id": "r1", "flow_id": "f1", "state_type": "RUNNING", "name": "Orders", "state": {},
        "labels": {"tableau.site": "s1", "tableau.job": "job", "feedwater.dev/refresh": "finance/orders"}});
    let stub = Stub::start(move |seen| match seen.target.as_str() {
        "/api/task_runs/" => json(201, &json!({"id": "t1"})),
        "/api/flow_runs/" => json(201, &row),
        "/api/flow_runs/filter" => json(200, &json!([row])),
        "/api/flow_runs/r1/set_state" => json(201, &json!({"state": {}, "status": "ACCEPT", "details": {}})),
        "/api/logs/" => text(201, "null"),
        "/api/logs/filter" => json(200, &json!([{"name": "feedwater.ended"}, {"name": "feedwater.queued"}])),
        "/api/artifacts/filter" => json(200, &json!([{"id": "a1"}])),
        "/api/artifacts/" => json(201, &json!({"id": "a1"})),
        "/api/events/filter" => json(
            200,
            &json!({"total": 2, "next_page": null, "events": [
                {"resource": {"prefect.resource.id": "b://2"}}, {"resource": {"prefect.resource.id": "a://1"}},
                {"resource": {"prefect.resource.id": "b://2"}}]}),
        ),
        "/api/events" => text(204, ""),
        other => panic!("{other}"),
    })
    .await;
    let client = client(&stub);
    let whose = Whose { site: Some("s1".to_owned()), refresh: Some("finance/orders".to_owned()) };
    let found =
        EnsuredRun { id: "r1".into(), flow: "f1".into(), state: StateType::Running, made: true, whose };
    assert_eq!(client.ensure_task_run(&task()).await.unwrap().as_str(), "t1");
    assert_eq!(client.ensure_run(&"f1".into(), &run()).await, Ok(found.clone()));
    let known = EnsuredRun { made: false, ..found };
    assert_eq!(client.find_run("tableau-extract-refresh", "job").await, Ok(Some(known)));
    let failed = RunState {
        state_type: StateType::Failed,
        name: Some("TimedOut"),
        message: "It took too long".into(),
    };
    client.set_run_state(&"r1".into(), &failed).await.unwrap();
    let line = LogLine { logger: "feedwater.ended", level: 40, message: "It took too long".into() };
    client.log(&"r1".into(), "2026-11-24T12:00:00Z".parse().unwrap(), &[line]).await.unwrap();
    assert_eq!(client.loggers(&"r1".into()).await.unwrap(), ["feedwater.ended", "feedwater.queued"]);
    assert!(client.has_artifact(&"r1".into()).await.unwrap());
    let artifact =
        Artifact { key: "tableau-orders".into(), description: "Orders".into(), markdown: "| |".into() };
    client.add_artifact(&"r1".into(), &artifact).await.unwrap();
    let since = "2026-11-23T12:00:00Z".parse().unwrap();
    assert_eq!(client.assets_made_by(&["r0".into()], since).await.unwrap(), ["a://1", "b://2"]);
    client.emit(&"r1".into(), &"f1".into(), &event()).await.unwrap();

    let lines: Vec<_> = stub.seen().iter().map(Seen::line).collect();
    assert_eq!(
        lines,
        [
            concat!(
                r#"POST /api/task_runs/ {"dynamic_key":"job","flow_run_id":"r0","name":"Orders","#,
                r#""state":{"type":"PENDING"},"tags":["tableau"],"task_key":"tableau-extract-refresh"}"#
            ),
            concat!(
                r#"POST /api/flow_runs/ {"flow_id":"f1","idempotency_key":"job","#,
                r#""labels":{"feedwater.dev/refresh":"finance/orders"},"name":"Orders","#,
                r#""parameters":{"cause":"Upstreams"},"parent_task_run_id":"t1","#,
                r#""state":{"message":"Queued","type":"PENDING"},"tags":["tableau"]}"#
            ),
            concat!(
                r#"POST /api/flow_runs/filter {"flow_runs":{"idempotency_key":{"any_":["job"]}},"#,
                r#""flows":{"name":{"any_":["tableau-extract-refresh"]}},"limit":1}"#
            ),
            concat!(
                r#"POST /api/flow_runs/r1/set_state {"force":true,"state":{"message":"It took too long","#,
                r#""name":"TimedOut","type":"FAILED"}}"#
            ),
            concat!(
                r#"POST /api/logs/ [{"flow_run_id":"r1","level":40,"message":"It took too long","#,
                r#""name":"feedwater.ended","timestamp":"2026-11-24T12:00:00Z"}]"#
            ),
            concat!(
                r#"POST /api/logs/filter {"limit":200,"logs":{"flow_run_id":{"any_":["r1"]}},"#,
                r#""sort":"TIMESTAMP_DESC"}"#
            ),
            r#"POST /api/artifacts/filter {"artifacts":{"flow_run_id":{"any_":["r1"]}},"limit":1}"#,
            concat!(
                r#"POST /api/artifacts/ {"data":"| |","description":"Orders","flow_run_id":"r1","#,
                r#""key":"tableau-orders","type":"markdown"}"#
            ),
            concat!(
                r#"POST /api/events/filter {"filter":{"any_resource":{"id":["prefect.flow-run.r0"]},"#,
                r#""event":{"name":["prefect.asset.materialization.succeeded"]},"#,
                r#""occurred":{"since":"2026-11-23T12:00:00Z"}},"limit":50}"#
            ),
            concat!(
                r#"POST /api/events [{"event":"prefect.asset.materialization.succeeded","#,
                r#""id":"11111111-2222-4333-8444-555555555555","occurred":"2026-11-24T12:00:00Z","#,
                r#""payload":{},"related":["#,
                r#"{"prefect.resource.id":"postgres://prod/orders","prefect.resource.role":"asset"},"#,
                r#"{"prefect.resource.id":"tableau","prefect.resource.role":"asset-materialized-by"},"#,
                r#"{"prefect.resource.id":"prefect.flow-run.r1","prefect.resource.name":"Orders","#,
                r#""prefect.resource.role":"flow-run"},"#,
                r#"{"prefect.resource.id":"prefect.flow.f1","prefect.resource.role":"flow"}],"#,
                r#""resource":{"prefect.asset.url":"https://x/#/1","#,
                r#""prefect.resource.id":"tableau://x/acme/datasources/l1","prefect.resource.name":"Orders"}}]"#
            ),
        ]
    );
}

#[tokio::test]
async fn what_was_there_is_told_apart_from_what_was_made() {
    for (status, made) in [(200, false), (201, true)] {
        let row = json!({"id": "r1", "flow_id": "f1", "state_type": "COMPLETED"});
        let stub = Stub::always(status, row).await;
        let found = client(&stub).ensure_run(&"f1".into(), &run()).await.unwrap();
        assert_eq!((found.made, found.state), (made, StateType::Completed));
    }
    let stub = Stub::always(200, json!([])).await;
    assert_eq!(client(&stub).find_run("f", "job").await, Ok(None));
    assert_eq!(client(&stub).has_artifact(&"r1".into()).await, Ok(false));
    // Made, but what cannot be read: not "nothing was made".
    let stub = Stub::always(201, json!("<html>")).await;
    assert_eq!(client(&stub).ensure_run(&"f1".into(), &run()).await, Err(PrefectError::Ambiguous));
    assert_eq!(client(&stub).ensure_task_run(&task()).await, Err(PrefectError::Ambiguous));
}

/// The status of the answer does not tell it (reference 9.4).
#[tokio::test]
async fn a_state_that_is_not_accepted_is_no_success() {
    let state = RunState { state_type: StateType::Completed, name: None, message: "Done".into() };
    for status in ["REJECT", "WAIT", "ABORT"] {
        let stub = Stub::always(201, json!({"state": {"message": CANARY}, "status": status})).await;
        let refused = client(&stub).set_run_state(&"r1".into(), &state).await;
        assert_eq!(refused, Err(PrefectError::Conflict), "{status}");
    }
    let stub = Stub::always(
        422,
        json!({"exception_detail": [{"loc": ["body", "state", "timestamp"], "input": CANARY}]}),
    )
    .await;
    let error = client(&stub).set_run_state(&"r1".into(), &state).await.unwrap_err();
    assert_eq!(error, PrefectError::Invalid { fields: vec!["state.timestamp".into()] });
    assert_eq!(stub.seen().len(), 1, "never repeated");
}
