//! Prefect's REST API: what is sent, and what becomes of every answer.

use crate::stub::{Reply, Seen, Stub, json, text};
use feedwater::http::Unreachable;
use feedwater::model::ids::{DeploymentId, DeploymentName};
use feedwater::prefect::{
    Auth, NewDeployment, NewSchedule, Prefect, PrefectClient, PrefectError, Run, RunQuery, StateType, States,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Stands in for every secret.
pub const CANARY: &str = "canary-7d1f";

fn client(stub: &Stub) -> PrefectClient {
    let auth = Auth::Basic { username: "admin".into(), password: CANARY.into() };
    PrefectClient::new(stub.http("prefect", "/api"), auth).unwrap()
}

fn name(flow: &str, deployment: &str) -> DeploymentName {
    DeploymentName { flow: flow.into(), deployment: deployment.into() }
}

fn object(value: &Value) -> serde_json::Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn deployment_row() -> Value {
    json!({"id": "d1", "name": "nightly", "flow_id": "f1", "tags": ["a"], "paused": true, "version": "1",
        "description": null, "labels": {"x": 1}, "job_variables": {}, "parameters": {"n": 1.0},
        "work_pool_name": "pool", "work_queue_name": "default", "pull_steps": [],
        "schedules": [{"id": "s1", "slug": "daily", "active": true, "parameters": {"x": 2},
            "schedule": {"cron": "0 6 * * *", "timezone": null, "day_or": true}, "max_scheduled_runs": 5}]})
}

fn run_row(id: &str, end: &str) -> Value {
    json!({"id": id, "name": "happy-cat", "flow_id": "f1", "deployment_id": "d1", "labels": {"n": 1},
        "auto_scheduled": true, "start_time": null, "expected_start_time": "2026-11-24T11:00:00Z", "end_time": end,
        "state": {"id": format!("state-{id}"), "type": "COMPLETED", "name": "Skipped",
            "timestamp": "2026-11-24T11:59:00.123456Z"}})
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one list of all calls")]
async fn each_call_goes_out_as_the_reference_says() {
    let stub = Stub::start(|seen| match seen.target.as_str() {
        "/api/admin/version" => json(200, &json!("3.9.1")),
        target if target.contains("csrf") => json(422, &json!({"detail": "CSRF protection is disabled."})),
        "/api/flows/filter" => json(200, &json!([{"id": "f1", "name": "orders"}])),
        "/api/flow_runs/filter" => json(200, &json!([run_row("r1", "2026-11-24T12:00:00Z")])),
        target if target.ends_with("/filter") => json(200, &json!([deployment_row()])),
        target if target.contains("/name/") => json(200, &deployment_row()),
        "/api/flows/" | "/api/deployments/" => json(201, &json!({"id": "new"})),
        target if target.contains("work_pools") => json(200, &json!({})),
        _ => text(204, ""),
    })
    .await;
    let client = client(&stub);
    let id = DeploymentId::from("d1");
    let schedule = NewSchedule {
        slug: "daily".into(),
        active: false,
        rule: object(&json!({"cron": "0 6 * * *"})),
        parameters: object(&json!({"x": 2})),
        max_scheduled_runs: None,
    };

    let server = client.probe().await.unwrap();
    assert_eq!((server.version.as_deref(), server.csrf), (Some("3.9.1"), false));
    let listed = client.deployments(&["orders".into()]).await.unwrap();
    let one = client.deployment(&name("orders", "nightly 100%")).await.unwrap().unwrap();
    assert_eq!(listed, vec![one.clone()]);
    assert_eq!(one.name, name("orders", "nightly"));
    assert_eq!((one.paused, one.tags.as_slice()), (true, &["a".to_owned()][..]));
    let fields = json!({"version": "1", "parameters": {"n": 1.0}, "work_pool_name": "pool",
        "work_queue_name": "default", "pull_steps": [], "job_variables": {}, "labels": {"x": 1}, "paused": true});
    assert_eq!(Value::from(one.fields), fields, "the compared fields, without nulls");
    assert_eq!(one.schedules[0].max_scheduled_runs, Some(5));
    assert!(client.work_pool_exists("my pool").await.unwrap());
    let runs = client
        .runs(&RunQuery {
            deployments: vec![id.clone()],
            states: States::Ended,
            ended_after: Some("2026-11-24T10:00:00.5Z".parse().unwrap()),
            limit: 200,
            ..RunQuery::default()
        })
        .await
        .unwrap();
    assert_eq!(runs[0].state_type, StateType::Completed);
    assert_eq!((runs[0].state.as_str(), runs[0].state_name.as_str()), ("state-r1", "Skipped"));
    assert_eq!(runs[0].started_at, Some("2026-11-24T11:00:00Z".parse().unwrap()));
    assert_eq!(client.ensure_flow("orders").await.unwrap().as_str(), "new");
    let new = NewDeployment { name: "nightly".into(), fields: object(&json!({"tags": ["a"]})).into() };
    assert_eq!(client.create_deployment(&"f1".into(), &new).await.unwrap().as_str(), "new");
    client.patch_deployment(&id, &object(&json!({"version": null}))).await.unwrap();
    client.add_schedule(&id, &schedule).await.unwrap();
    client.put_schedule(&id, &"s1".into(), &schedule).await.unwrap();
    client.delete_schedule(&id, &"s1".into()).await.unwrap();
    client.schedule_runs(&id, "2026-11-24T10:00:00.25Z".parse().unwrap()).await.unwrap();
    let due: Vec<jiff::Timestamp> = vec!["2026-11-24T11:00:00Z".parse().unwrap()];
    assert_eq!(client.late_runs(&id, due[0], &["s1".into()]).await.unwrap(), due, "what its schedules made");
    client.restore_runs(&id, due[0], due[0]).await.unwrap();
    client.delete_deployment(&id).await.unwrap();

    let whole = r#"{"active":false,"parameters":{"x":2},"schedule":{"cron":"0 6 * * *"},"slug":"daily"}"#;
    let page = r#"{"flows":{"name":{"any_":["orders"]}},"limit":200,"offset":0,"sort":"CREATED_DESC"}"#;
    let mut lines: Vec<_> = stub.seen().iter().map(Seen::line).collect();
    assert!(lines.remove(1).starts_with("GET /api/csrf-token?client="));
    assert_eq!(
        lines,
        [
            "GET /api/admin/version".into(),
            format!("POST /api/flows/filter {page}"),
            format!("POST /api/deployments/filter {page}"),
            "GET /api/deployments/name/orders/nightly%20100%25".into(),
            "GET /api/work_pools/my%20pool".into(),
            concat!(
                r#"POST /api/flow_runs/filter {"flow_runs":{"deployment_id":{"any_":["d1"]},"#,
                r#""end_time":{"after_":"2026-11-24T10:00:00.5Z"},"#,
                r#""state":{"type":{"any_":["COMPLETED","FAILED","CRASHED","CANCELLED"]}}},"#,
                r#""limit":200,"offset":0,"sort":"END_TIME_DESC"}"#
            )
            .into(),
            r#"POST /api/flows/ {"name":"orders"}"#.into(),
            r#"POST /api/deployments/ {"flow_id":"f1","name":"nightly","tags":["a"]}"#.into(),
            r#"PATCH /api/deployments/d1 {"version":null}"#.into(),
            format!("POST /api/deployments/d1/schedules [{whole}]"),
            format!("PATCH /api/deployments/d1/schedules/s1 {whole}"),
            "DELETE /api/deployments/d1/schedules/s1".into(),
            r#"POST /api/deployments/d1/schedule {"start_time":"2026-11-24T10:00:00.25Z"}"#.into(),
            concat!(
                r#"POST /api/flow_runs/filter {"flow_runs":{"deployment_id":{"any_":["d1"]},"#,
                r#""expected_start_time":{"before_":"2026-11-24T11:00:00Z"},"#,
                r#""state":{"type":{"any_":["SCHEDULED"]}}},"limit":200,"sort":"EXPECTED_START_TIME_DESC"}"#
            )
            .into(),
            concat!(
                r#"POST /api/deployments/d1/schedule {"end_time":"2026-11-24T11:00:00Z","#,
                r#""start_time":"2026-11-24T11:00:00Z"}"#
            )
            .into(),
            "DELETE /api/deployments/d1".to_owned(),
        ]
    );
    for seen in stub.seen() {
        assert_eq!(seen.headers["authorization"], "Basic YWRtaW46Y2FuYXJ5LTdkMWY=");
        assert_eq!(seen.headers["accept"], "application/json");
        assert!(seen.headers["user-agent"].starts_with("feedwater/"));
        assert!(!seen.headers.contains_key("cookie"));
    }
}

#[tokio::test]
async fn an_api_key_is_a_bearer_and_none_is_nothing() {
    let stub = Stub::always(200, json!("3.9.1")).await;
    for auth in [Auth::ApiKey(CANARY.into()), Auth::None] {
        PrefectClient::new(stub.http("prefect", "/api/"), auth).unwrap().work_pool_exists("p").await.unwrap();
    }
    let header = |at: usize| stub.seen()[at].headers.get("authorization").cloned();
    assert_eq!(header(0), Some(format!("Bearer {CANARY}")));
    assert_eq!(header(1), None);
    let bad = PrefectClient::new(stub.http("prefect", ""), Auth::ApiKey("line\nbreak".into()));
    assert_eq!(bad.err(), Some(PrefectError::Unauthorized));
}

#[tokio::test]
async fn every_status_is_one_decision() {
    let throttled = || text(429, "").with("retry-after", "3");
    for (reply, expected) in [
        (text(401, ""), PrefectError::Unauthorized),
        (text(403, ""), PrefectError::Forbidden),
        (json(404, &json!({"detail": "Deployment not found."})), PrefectError::NotFound),
        (text(404, "404 page not found"), PrefectError::WrongServer),
        (text(409, ""), PrefectError::Conflict),
        (text(422, ""), PrefectError::Invalid { fields: vec!["the request".into()] }),
        (throttled(), PrefectError::Throttled { retry_after: Some(Duration::from_secs(3)) }),
        (text(503, ""), PrefectError::Unavailable),
        (text(500, ""), PrefectError::Rejected(500)),
        (text(302, "").with("location", "/login"), PrefectError::Rejected(302)),
        (text(502, ""), PrefectError::Ambiguous),
        (text(504, ""), PrefectError::Ambiguous),
        (Reply::Reset, PrefectError::Ambiguous),
        (Reply::Silence, PrefectError::TimedOut),
    ] {
        let (stub, client) = once(reply).await;
        let result = client.patch_deployment(&"d1".into(), &serde_json::Map::new()).await;
        assert_eq!(result, Err(expected));
        assert_eq!(stub.seen().len(), 1, "never repeated");
    }
    // Made, but the id cannot be read: not "nothing was made".
    let (_stub, client) = once(text(201, "<html>")).await;
    assert_eq!(client.ensure_flow("f").await.err(), Some(PrefectError::Ambiguous));
    let (_stub, client) = once(json(404, &json!({"detail": "Deployment not found."}))).await;
    assert_eq!(client.delete_deployment(&"d1".into()).await, Ok(()), "already gone");
    assert_eq!(client.delete_schedule(&"d1".into(), &"s1".into()).await, Ok(()));
    // Of a proxy while Prefect is rolled out: what is to go may still be there, and tick.
    let (_stub, client) = once(text(404, "404 page not found")).await;
    assert_eq!(client.delete_deployment(&"d1".into()).await, Err(PrefectError::WrongServer));
    assert_eq!(client.delete_schedule(&"d1".into(), &"s1".into()).await, Err(PrefectError::WrongServer));
}

/// A server with one answer for everything, and a client of it.
async fn once(reply: Reply) -> (Stub, PrefectClient) {
    let stub = Stub::start(move |_| reply.clone()).await;
    let client = client(&stub);
    (stub, client)
}

#[tokio::test]
async fn another_server_is_told_apart() {
    for (reply, expected) in [
        (text(200, "<html>"), PrefectError::WrongServer),
        (json(200, &json!({"version": "3.9.1"})), PrefectError::WrongServer),
        (json(200, &json!("welcome")), PrefectError::WrongServer),
        (text(404, "<html>"), PrefectError::WrongServer),
        (text(401, ""), PrefectError::Unauthorized),
        (text(503, ""), PrefectError::Unavailable),
    ] {
        let (_stub, client) = once(reply).await;
        assert_eq!(client.probe().await, Err(expected));
    }
}

#[tokio::test]
async fn an_answer_nested_without_end_is_refused() {
    let deep =
        |open: &str, close: &str| text(200, &format!("{}1{}", open.repeat(100_000), close.repeat(100_000)));
    for reply in [deep("[", "]"), deep(r#"{"name":"#, "}")] {
        let (_stub, client) = once(reply).await;
        assert_eq!(client.probe().await, Err(PrefectError::WrongServer));
        assert_eq!(client.deployment(&name("f", "d")).await, Err(PrefectError::WrongServer));
    }
}

#[tokio::test]
async fn only_prefects_own_404_means_absent() {
    let (_stub, client) = once(json(404, &json!({"detail": "Deployment not found"}))).await;
    assert_eq!(client.deployment(&name("f", "d")).await, Ok(None));
    assert_eq!(client.work_pool_exists("p").await, Ok(false));
    let (_stub, client) = once(text(404, "<html>no such backend")).await;
    assert_eq!(client.deployment(&name("f", "d")).await, Err(PrefectError::WrongServer));
    assert_eq!(client.work_pool_exists("p").await, Err(PrefectError::WrongServer));
}

#[tokio::test]
async fn names_cannot_leave_their_place_in_the_path() {
    let stub = Stub::always(404, json!({})).await;
    let client = client(&stub);
    client.work_pool_exists("a/../b?c#d").await.unwrap();
    assert_eq!(stub.seen()[0].target, "/api/work_pools/a%2F..%2Fb%3Fc%23d");
    let refused = PrefectError::Invalid { fields: vec!["name".into()] };
    assert_eq!(client.work_pool_exists("..").await, Err(refused.clone()));
    assert_eq!(client.deployment(&name("..", "d")).await, Err(refused));
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn a_422_gives_names_of_fields_and_nothing_else() {
    let (_stub, client) = once(json(
        422,
        &json!({"exception_message": "Invalid request received.", "request_body": {"env": CANARY},
            "exception_detail": [
                {"type": "x", "loc": ["body", "name"], "msg": CANARY, "input": CANARY},
                {"type": "x", "loc": ["body", 0, "schedule", "CronSchedule", "cron"], "input": CANARY},
                {"type": "x", "loc": ["body", 0, "schedule", "RRuleSchedule", "rrule"], "input": CANARY},
                {"type": "x", "loc": ["body", "schedules", 0, "slug"], "input": CANARY},
                {"type": "x", "loc": ["body", "parameters", CANARY], "input": CANARY},
                {"type": "x", "loc": ["body", format!("{CANARY} with spaces")], "input": CANARY}]}),
    ))
    .await;
    let error = client.patch_deployment(&"d1".into(), &serde_json::Map::new()).await.unwrap_err();
    let fields = ["name", "parameters", "schedule", "schedules.slug"].map(str::to_owned).to_vec();
    assert_eq!(error, PrefectError::Invalid { fields });
    assert!(!format!("{error} {error:?} {client:?}").contains(CANARY));
}

#[tokio::test]
async fn what_is_wrong_with_a_deployment_is_told_from_prefects_words_and_none_of_them_is_kept() {
    let invalid = |field: &str| PrefectError::Invalid { fields: vec![field.to_owned()] };
    let parameters = |fields: &[&str]| PrefectError::Parameters {
        fields: fields.iter().map(|f| (*f).to_owned()).collect(),
    };
    let enforced =
        "Error updating deployment: Cannot update parameters because parameter schema enforcement is enabled";
    let of_the_field = format!(
        "Error updating deployment: Validation failed for field 'region'. Failure reason: '{CANARY}' is not one of"
    );
    let odd = format!("Error updating deployment: Validation failed for field '{CANARY} x'.");
    let variables =
        format!("Error creating deployment: Validation failed for field 'env'. Failure reason: {CANARY}");
    for (status, told, expected) in [
        (409, enforced, parameters(&[])),
        (409, &*of_the_field, parameters(&["region"])),
        (409, &odd, parameters(&[])),
        (409, &variables, invalid("jobVariables")),
        (422, &variables, invalid("jobVariables")),
        (409, "Error creating deployment. Could not find infrastructure block", PrefectError::Conflict),
        (422, CANARY, invalid("the request")),
        (503, &variables, PrefectError::Unavailable),
    ] {
        let (_stub, client) = once(json(status, &json!({"detail": told}))).await;
        let error = client.patch_deployment(&"d1".into(), &serde_json::Map::new()).await.unwrap_err();
        assert_eq!(error, expected, "{status} {told}");
        assert!(!format!("{error} {error:?}").contains(CANARY));
    }
}

/// Rows of a list, cut by `limit` and `offset`, with the server's refusal of a limit above its own.
fn slice(seen: &Seen, rows: &[Value], most: u64) -> Reply {
    let (limit, offset) = (seen.json()["limit"].as_u64().unwrap(), seen.json()["offset"].as_u64().unwrap());
    if limit > most {
        return json(
            422,
            &json!({"detail": format!("Invalid limit: must be less than or equal to {most}.")}),
        );
    }
    let part: Vec<_> =
        rows.iter().skip(usize::try_from(offset).unwrap()).take(usize::try_from(limit).unwrap()).collect();
    json(200, &json!(part))
}

#[tokio::test]
async fn a_lowered_page_limit_is_learnt_once_and_all_pages_are_read() {
    let stub = Stub::start(|seen| {
        let rows: Vec<_> = (0..7)
            .map(|n| {
                let mut row = deployment_row();
                row["id"] = json!(format!("d{n}"));
                row
            })
            .collect();
        match seen.target.as_str() {
            "/api/flows/filter" => slice(seen, &[json!({"id": "f1", "name": "orders"})], 3),
            _ => slice(seen, &rows, 3),
        }
    })
    .await;
    assert_eq!(client(&stub).deployments(&["orders".into()]).await.unwrap().len(), 7);
    assert_eq!(stub.count("\"limit\":200"), 1);
    assert_eq!(stub.count("deployments/filter"), 4, "each page begins with the last row of the one before");
}

#[tokio::test]
async fn many_flows_are_asked_for_in_chunks() {
    let stub = Stub::always(200, json!([])).await;
    let flows: Vec<_> = (0..401).map(|n| format!("flow-{n}")).collect();
    assert_eq!(client(&stub).deployments(&flows).await.unwrap(), []);
    assert_eq!(stub.count("flows/filter"), 3);
}

#[tokio::test]
async fn runs_go_on_by_end_time_where_the_page_is_small() {
    // The fourth and fifth share an end: only among those an offset is used.
    let ends = ["12:00:05", "12:00:04", "12:00:03", "12:00:02", "12:00:02", "12:00:02", "12:00:01"];
    let stub = Stub::start(move |seen| {
        let before = seen.json()["flow_runs"]["end_time"]["before_"].as_str().unwrap_or("9").to_owned();
        let rows: Vec<_> = ends
            .iter()
            .enumerate()
            .map(|(n, end)| (n, format!("2026-11-24T{end}Z")))
            .filter(|(_, end)| *end <= before)
            .map(|(n, end)| run_row(&format!("r{n}"), &end))
            .collect();
        slice(seen, &rows, 2)
    })
    .await;
    let query = RunQuery { limit: 200, ..RunQuery::default() };
    let ids: Vec<_> = client(&stub).runs(&query).await.unwrap().iter().map(|r| r.id.to_string()).collect();
    assert_eq!(ids, ["r0", "r1", "r2", "r3", "r4", "r5", "r6"]);
}

#[tokio::test]
async fn runs_in_progress_are_told_by_their_types_and_a_retry_by_its_name() {
    let stub = Stub::start(|seen| {
        let rows: Vec<_> = (0..5)
            .map(|n| {
                let mut row = run_row(&format!("r{n}"), "2026-11-24T12:00:00Z");
                row["end_time"] = Value::Null;
                row["state"] = json!({"id": "s", "type": "SCHEDULED", "name": "AwaitingRetry",
                    "timestamp": "2026-11-24T11:59:00Z"});
                row
            })
            .collect();
        slice(seen, &rows, 3)
    })
    .await;
    let (deployments, states) = (vec![DeploymentId::from("d1")], States::InProgress);
    let query = RunQuery { deployments, states, limit: 200, ..RunQuery::default() };
    let runs = client(&stub).runs(&query).await.unwrap();
    let ids: Vec<_> = runs.iter().map(|run| run.id.as_str()).collect();
    assert_eq!(ids, ["r0", "r1", "r2", "r3", "r4"], "all pages, by offset");
    assert!(runs.iter().all(|run| run.tags.is_empty() && run.work_pool.is_none()), "a row may lack them");
    assert!(runs.iter().all(Run::in_progress));
    let filter = concat!(
        r#"{"deployment_id":{"any_":["d1"]},"state":{"name":{"any_":["AwaitingRetry"]},"operator":"or_","#,
        r#""type":{"any_":["PENDING","RUNNING","PAUSED","CANCELLING"]}}}"#
    );
    let lines: Vec<_> = stub.seen().iter().map(Seen::line).collect();
    for (line, (limit, offset)) in lines.iter().zip([(200, 0), (3, 0), (3, 3)]) {
        let body = format!(r#"{{"flow_runs":{filter},"limit":{limit},"offset":{offset},"sort":"ID_DESC"}}"#);
        assert_eq!(*line, format!("POST /api/flow_runs/filter {body}"));
    }
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn runs_are_chosen_by_tags_and_work_pool_and_a_flow_is_known_by_its_name() {
    let stub = Stub::start(|seen| match seen.target.as_str() {
        "/api/flows/name/my%20flow" => json(200, &json!({"id": "f1", "name": "my flow"})),
        "/api/flow_runs/filter" => {
            let mut row = run_row("r1", "2026-11-24T12:00:00Z");
            (row["tags"], row["work_pool_name"]) = (json!(["crm", "x"]), json!("etl"));
            json(200, &json!([row]))
        }
        _ => json(404, &json!({"detail": "Flow not found"})),
    })
    .await;
    let client = client(&stub);
    let (tags, states) = (vec!["crm".to_owned(), "x".to_owned()], States::Completed);
    let exactly = RunQuery {
        all_tags: tags.clone(),
        work_pools: vec!["etl".into()],
        states,
        limit: 1,
        ..RunQuery::default()
    };
    let runs = client.runs(&exactly).await.unwrap();
    assert_eq!((&runs[0].tags, runs[0].work_pool.as_deref()), (&tags, Some("etl")));
    client.runs(&RunQuery { any_tags: tags, limit: 200, ..RunQuery::default() }).await.unwrap();
    assert_eq!(client.flow("my flow").await, Ok(Some("f1".into())));
    assert_eq!(client.flow("other").await, Ok(None));
    let lines: Vec<_> = stub.seen().iter().map(Seen::line).collect();
    assert_eq!(
        lines,
        [
            concat!(
                r#"POST /api/flow_runs/filter {"flow_runs":{"state":{"type":{"any_":["COMPLETED"]}},"#,
                r#""tags":{"all_":["crm","x"]}},"limit":1,"offset":0,"sort":"END_TIME_DESC","#,
                r#""work_pools":{"name":{"any_":["etl"]}}}"#
            ),
            concat!(
                r#"POST /api/flow_runs/filter {"flow_runs":{"tags":{"any_":["crm","x"]}},"limit":200,"#,
                r#""offset":0,"sort":"END_TIME_DESC"}"#
            ),
            "GET /api/flows/name/my%20flow",
            "GET /api/flows/name/other",
        ]
    );
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_named_with_the_flag() {
    let http = crate::stub::http("prefect", "http://192.168.0.1/api");
    let error = PrefectClient::new(http, Auth::None).unwrap().probe().await.unwrap_err();
    assert_eq!(error, PrefectError::Unreachable(Unreachable::HostNotAllowed("192.168.0.1".into())));
    assert!(error.to_string().contains("--allowed-hosts"));
}
