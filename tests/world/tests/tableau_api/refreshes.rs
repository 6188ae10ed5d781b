//! Refreshes and their jobs.

use std::time::Duration;

use serde_json::{Value, json};
use world::tableau::{Config, Kind, Outcome, Refused, RequestedBy, Script, Simulator, Step};

use crate::client::{Client, start};

const WAIT: Duration = Duration::from_secs(10);

fn by_hand(outcome: Outcome) -> Script {
    Script { queued: Step::UntilReleased, running: Step::UntilReleased, outcome }
}

/// Lets the job of the content start, and waits until it has.
async fn started(tableau: &Simulator, luid: &str) {
    tableau.release_jobs(luid);
    let running = |refresh: &&world::tableau::Refresh| refresh.started.is_some() && refresh.ended.is_none();
    let wait = tableau.wait_for(WAIT, |truth| truth.refreshes_of(luid).iter().any(running));
    wait.await.unwrap();
}

/// Lets the running job of the content end, and waits until it has.
async fn ended(tableau: &Simulator, luid: &str) {
    tableau.release_jobs(luid);
    let wait = tableau
        .wait_for(WAIT, |truth| truth.refreshes_of(luid).iter().all(|refresh| refresh.ended.is_some()));
    wait.await.unwrap();
}

async fn job(client: &Client, id: &str) -> Value {
    client.get(&format!("/jobs/{id}")).await.json()["job"].clone()
}

async fn row(client: &Client, query: &str) -> Value {
    client.get(&format!("/jobs?{query}")).await.json()["backgroundJobs"]["backgroundJob"][0].clone()
}

#[tokio::test]
async fn a_job_waits_runs_and_ends() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &["Finance"], "Orders", true);
    let subject = json!({"id": orders, "name": "Orders"});
    let ends = [
        (Outcome::Success, "Success", "0", json!("Finished refresh of extracts for 'Orders'")),
        (Outcome::Failed { notes: "No <rows>.".to_owned() }, "Failed", "1", json!("No <rows>.")),
        (Outcome::Cancelled, "Cancelled", "2", Value::Null),
    ];
    for (outcome, status, finish_code, notes) in ends {
        tableau.script(&orders, by_hand(outcome));
        let answer = client.refresh(&orders).await;
        assert_eq!(answer.status, 202);
        let new = answer.json()["job"].clone();
        let id = new["id"].as_str().unwrap();
        let created = new["createdAt"].clone();
        let queued = json!({"id": id, "mode": "Asynchronous", "type": "RefreshExtract", "createdAt": created,
            "extractRefreshJob": {"datasource": subject}});
        assert_eq!(new, queued);

        let seen = job(&client, id).await;
        assert_eq!((&seen["progress"], &seen["startedAt"]), (&json!("0"), &Value::Null));
        assert_eq!(row(&client, "filter=title:eq:Orders,status:eq:Pending").await["id"], json!(id));
        assert_eq!(client.refresh(&orders).await.code(), "409093", "queued");

        started(&tableau, &orders).await;
        let seen = job(&client, id).await;
        assert!(seen["startedAt"].is_string() && seen["completedAt"].is_null(), "{seen}");
        assert_eq!((&seen["finishCode"], &seen["progress"]), (&Value::Null, &json!("0")));
        assert_eq!(client.refresh(&orders).await.code(), "409093", "running");
        assert!(matches!(tableau.start_refresh(&orders, Kind::Full, "ann"), Err(Refused::Duplicate(_))));

        ended(&tableau, &orders).await;
        let seen = job(&client, id).await;
        assert_eq!((&seen["finishCode"], &seen["progress"]), (&json!(finish_code), &json!("100")));
        assert_eq!((&seen["extractRefreshJob"]["notes"], seen["completedAt"].is_string()), (&notes, true));
        let row = row(&client, &format!("filter=status:eq:{status}")).await;
        assert_eq!(row["id"], json!(id));
        // What the detail has and the row has not: the content. What they call differently: the end.
        assert_eq!(row["endedAt"], seen["completedAt"]);
        assert_eq!((&row["title"], &row["priority"]), (&json!("Orders"), &json!("50")));
        assert!(!row.to_string().contains(&orders));
    }
    let outcomes: Vec<_> = tableau.truth().refreshes.iter().map(|one| one.outcome.clone().unwrap()).collect();
    assert_eq!(outcomes[0], Outcome::Success);
    assert_eq!(outcomes[2], Outcome::Cancelled);
}

#[tokio::test]
async fn scripts_queue_up_and_the_last_one_stays() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &[], "Orders", true);
    for notes in ["first", "second"] {
        let outcome = Outcome::Failed { notes: notes.to_owned() };
        tableau.script(&orders, Script { running: Step::For(Duration::ZERO), outcome, ..Script::default() });
    }
    for expected in ["first", "second", "second"] {
        let id = client.refresh(&orders).await.json()["job"]["id"].as_str().unwrap().to_owned();
        ended(&tableau, &orders).await;
        assert_eq!(job(&client, &id).await["extractRefreshJob"]["notes"], json!(expected));
    }
}

#[tokio::test]
async fn full_and_incremental_are_told_apart_in_the_list_only() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &[], "Orders", true);
    let board = tableau.add_workbook("acme", &[], "Board", true);
    let refresh = format!("/workbooks/{board}/refresh");
    let incremental = json!({"extractRefresh": {"incremental": "true"}});
    let old = Client { base: client.base.replace("3.27", "3.24"), ..client.clone() };
    assert_eq!(old.post(&refresh, &incremental).await.code(), "400000", "since 3.25");
    assert_eq!(old.post(&refresh, &json!({"extractRefresh": {}})).await.status, 202);
    ended(&tableau, &board).await;
    let answer = client.post(&refresh, &incremental).await.json();
    assert_eq!(answer["job"]["extractRefreshJob"], json!({"workbook": {"id": board, "name": "Board"}}));
    assert_eq!(answer["job"]["type"], "RefreshExtract");
    ended(&tableau, &board).await;
    assert_eq!(client.refresh(&orders).await.status, 202);
    let row = row(&client, "filter=jobType:in:%5Bincrement_extracts%5D").await;
    assert_eq!((&row["id"], &row["title"]), (&answer["job"]["id"], &json!("Board")));
    let kinds: Vec<_> = tableau.truth().refreshes.iter().map(|refresh| refresh.kind).collect();
    assert_eq!(kinds, [Kind::Full, Kind::Incremental, Kind::Full]);
}

#[tokio::test]
async fn what_has_no_extract_or_is_not_there_is_refused() {
    let (tableau, client) = start(Config::default()).await;
    let live = tableau.add_datasource("acme", &[], "Live", false);
    let answer = client.refresh(&live).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "409090"));
    assert!(matches!(tableau.start_refresh(&live, Kind::Full, "ann"), Err(Refused::NoExtract(_))));
    assert!(matches!(tableau.start_refresh("x", Kind::Full, "ann"), Err(Refused::Missing(_))));
    assert_eq!(client.refresh("x").await.code(), "404004");
    assert_eq!(client.post("/workbooks/x/refresh", &json!({})).await.code(), "404006");
    assert!(tableau.truth().refreshes.is_empty());
}

#[tokio::test]
async fn jobs_are_cancelled_by_clients_and_by_persons() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &[], "Orders", true);
    tableau.script(&orders, by_hand(Outcome::Success));
    let cancel = async |id: &str| {
        let path = format!("/sites/{}/jobs/{id}", client.site);
        client.call(reqwest::Method::PUT, &path, &[], String::new()).await.unwrap()
    };
    // By a client, in the queue: it never starts.
    let first = client.refresh(&orders).await.json()["job"]["id"].as_str().unwrap().to_owned();
    let answer = cancel(&first).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    let seen = job(&client, &first).await;
    assert_eq!((&seen["finishCode"], &seen["startedAt"]), (&json!("2"), &Value::Null));
    // By a person, while it runs.
    let second = tableau.start_refresh(&orders, Kind::Incremental, "ann").unwrap();
    started(&tableau, &orders).await;
    tableau.cancel_job(&second);
    assert_eq!(job(&client, &second).await["finishCode"], "2");
    // An end is an end.
    tableau.script(&orders, Script { running: Step::For(Duration::ZERO), ..Script::default() });
    let third = client.refresh(&orders).await.json()["job"]["id"].as_str().unwrap().to_owned();
    ended(&tableau, &orders).await;
    assert_eq!(cancel(&third).await.status, 200);
    assert_eq!(job(&client, &third).await["finishCode"], "0");
    assert!(cancel("x").await.text.contains("400031"));

    let truth = tableau.truth();
    let api = RequestedBy::Api { user: "tester".to_owned() };
    let who: Vec<_> = truth.refreshes.iter().map(|one| (&one.requested_by, one.by.as_str())).collect();
    assert_eq!(who, [(&api, "tester"), (&RequestedBy::Person, "ann"), (&api, "tester")]);
    assert!(truth.refreshes[0].started.is_none() && truth.refreshes[1].started.is_some());
}

#[tokio::test]
async fn jobs_vanish_by_script_and_after_the_retention() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &[], "Orders", true);
    tableau.script(&orders, by_hand(Outcome::Vanish));
    let id = tableau.start_refresh(&orders, Kind::Full, "ann").unwrap();
    started(&tableau, &orders).await;
    assert_eq!(job(&client, &id).await["progress"], "0");
    ended(&tableau, &orders).await;
    let answer = client.get(&format!("/jobs/{id}")).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "400031"));
    assert_eq!(client.get("/jobs").await.json()["backgroundJobs"], json!({}));

    let (tableau, client) = start(Config { job_retention: Duration::ZERO, ..Config::default() }).await;
    let orders = tableau.add_datasource("acme", &[], "Orders", true);
    let id = client.refresh(&orders).await.json()["job"]["id"].as_str().unwrap().to_owned();
    ended(&tableau, &orders).await;
    assert_eq!(client.get(&format!("/jobs/{id}")).await.code(), "400031");
    assert_eq!(tableau.truth().refreshes[0].outcome, Some(Outcome::Success));
}

#[tokio::test]
async fn only_so_many_jobs_run_at_a_time() {
    let (tableau, client) = start(Config { concurrent_jobs: 1, ..Config::default() }).await;
    let [a, b] = ["A", "B"].map(|name| tableau.add_datasource("acme", &[], name, true));
    let script = Script { queued: Step::For(Duration::ZERO), ..by_hand(Outcome::Success) };
    tableau.script(&a, script.clone());
    tableau.script(&b, script);
    client.refresh(&a).await;
    let second = client.refresh(&b).await.json()["job"]["id"].as_str().unwrap().to_owned();
    assert_eq!(job(&client, &second).await["startedAt"], Value::Null);
    ended(&tableau, &a).await;
    assert!(job(&client, &second).await["startedAt"].is_string());
}

#[tokio::test]
async fn the_budget_of_starts_is_kept_and_only_starts_count() {
    let (tableau, client) = start(Config { refreshes_per_hour: Some(2), ..Config::default() }).await;
    let [a, b, c] = ["A", "B", "C"].map(|name| tableau.add_datasource("acme", &[], name, true));
    tableau.script(&a, by_hand(Outcome::Success));
    tableau.start_refresh(&c, Kind::Full, "ann").unwrap();
    assert_eq!(client.refresh(&a).await.status, 202);
    assert_eq!(client.refresh(&a).await.code(), "409093");
    assert_eq!(client.refresh(&b).await.status, 202);
    ended(&tableau, &c).await;
    let answer = client.refresh(&c).await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "429000"));
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!((3500..=3600).contains(&wait), "{wait}");
    let detail = answer.json()["error"]["detail"].clone();
    assert_eq!(detail, "Too many requests for 'api.rest.refresh_extracts'. Please retry after 60 minutes.");
    assert_eq!(tableau.truth().refreshes_of(&c).len(), 1);
}

#[tokio::test]
async fn listing_jobs_may_be_forbidden_while_reading_one_is_not() {
    let (tableau, client) = start(Config { jobs_list_allowed: false, ..Config::default() }).await;
    let orders = tableau.add_datasource("acme", &[], "Orders", true);
    let id = client.refresh(&orders).await.json()["job"]["id"].as_str().unwrap().to_owned();
    let answer = client.get("/jobs").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "403004"));
    assert_eq!(job(&client, &id).await["id"], json!(id));
    tableau.set_jobs_list_allowed(true);
    assert_eq!(row(&client, "").await["id"], json!(id));
}

/// With tokio's clock paused, an hour passes at once, and Tableau's clock with it.
#[tokio::test(start_paused = true)]
async fn time_is_tokios() {
    let tableau = Simulator::start(Config::default()).await.unwrap();
    tableau.add_site("acme");
    let orders = tableau.add_datasource("acme", &[], "Orders", true);
    let hour = Duration::from_secs(3600);
    tableau.script(
        &orders,
        Script { queued: Step::For(hour), running: Step::For(2 * hour), ..Script::default() },
    );
    tableau.start_refresh(&orders, Kind::Full, "ann").unwrap();
    let wait = tableau.wait_for(4 * hour, |truth| truth.refreshes[0].ended.is_some());
    wait.await.unwrap();
    let refresh = tableau.truth().refreshes[0].clone();
    assert_eq!(refresh.started.unwrap(), refresh.created + hour);
    assert_eq!(refresh.ended.unwrap(), refresh.created + 3 * hour);
    assert!(tableau.wait_for(hour, |truth| truth.refreshes.len() > 1).await.is_err());
}
