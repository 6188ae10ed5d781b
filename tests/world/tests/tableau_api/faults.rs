//! Answers that are held, and a Tableau that does not answer.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use world::tableau::{Availability, Config, Outcome, Simulator};

use crate::client::{Client, start};

const WAIT: Duration = Duration::from_secs(10);

async fn try_refresh(client: Client, luid: String) -> reqwest::Result<u16> {
    let path = format!("/sites/{}/datasources/{luid}/refresh", client.site);
    let body = "<tsRequest/>".to_owned();
    client.call(Method::POST, &path, &[], body).await.map(|answer| answer.status)
}

#[tokio::test]
async fn a_held_answer_comes_after_the_job_has_been_taken_and_even_done() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &[], "Orders", true);
    let hold = tableau.hold_answer(&orders);
    let post = tokio::spawn(try_refresh(client.clone(), orders.clone()));
    hold.taken().await;
    tableau.wait_for(WAIT, |truth| truth.refreshes.iter().any(|one| one.ended.is_some())).await.unwrap();
    // Others are answered meanwhile, also about the same content: only the next refresh is held.
    assert_eq!(client.refresh(&orders).await.status, 202);
    assert!(!post.is_finished());
    hold.release();
    assert_eq!(post.await.unwrap().unwrap(), 202);
}

#[tokio::test]
async fn a_hold_that_is_given_up_holds_nothing() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &[], "Orders", true);
    drop(tableau.hold_answer(&orders));
    assert_eq!(client.refresh(&orders).await.status, 202);
}

#[tokio::test]
async fn an_answer_can_be_lost_after_the_work_was_done() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &[], "Orders", true);
    let hold = tableau.hold_answer(&orders);
    let post = tokio::spawn(try_refresh(client.clone(), orders.clone()));
    hold.taken().await;
    tableau.set_availability(Availability::Reset);
    assert!(post.await.unwrap().is_err());
    tableau.set_availability(Availability::Up);
    let done = tableau.wait_for(WAIT, |truth| truth.refreshes[0].outcome == Some(Outcome::Success));
    done.await.unwrap();
    assert_eq!(client.get("/jobs").await.json()["pagination"]["totalAvailable"], "1");
}

#[tokio::test]
async fn connections_are_reset_old_and_new() {
    let (tableau, client) = start(Config::default()).await;
    // This client has an open connection by now.
    tableau.set_availability(Availability::Reset);
    tableau.wait_for(WAIT, |truth| truth.connections_reset > 0).await.unwrap();
    let before = tableau.truth();
    let orders = "x".to_owned();
    assert!(try_refresh(client.clone(), orders).await.is_err());
    let after = tableau.truth();
    assert!(after.connections_reset > before.connections_reset);
    assert_eq!(after.requests.len(), before.requests.len());
    tableau.set_availability(Availability::Up);
    assert_eq!(client.get("/jobs").await.status, 200);
}

#[tokio::test]
async fn a_gateway_can_answer_in_tableaus_place() {
    let (tableau, client) = start(Config::default()).await;
    tableau.set_availability(Availability::Refuse(503));
    let answer = client.get("/jobs").await;
    assert_eq!((answer.status, answer.header("content-type")), (503, "text/html"));
    let truth = tableau.truth();
    let last = truth.requests.last().unwrap();
    assert_eq!((last.operation, last.status, last.code), ("queryJobs", 503, None));
}

#[tokio::test]
async fn requests_can_be_read_and_never_answered() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &[], "Orders", true);
    tableau.set_availability(Availability::Hang);
    let post = tokio::spawn(try_refresh(client.clone(), orders));
    tableau.wait_for(WAIT, |truth| truth.count("refreshDatasource") == 1).await.unwrap();
    assert_eq!(tableau.truth().requests.last().unwrap().status, 0);
    assert!(!post.is_finished());
    tableau.set_availability(Availability::Up);
    assert_eq!(post.await.unwrap().unwrap(), 504);
    assert!(tableau.truth().refreshes.is_empty());
}

#[tokio::test]
async fn the_truth_log_has_every_request() {
    let (tableau, client) = start(Config::default()).await;
    client.call(Method::GET, "/nothing", &[("user-agent", "me")], String::new()).await.unwrap();
    client.get("/jobs?pageSize=0").await;
    let truth = tableau.truth();
    let told: Vec<_> =
        truth.requests.iter().map(|one| (one.n, one.operation, one.status, one.code)).collect();
    let expected = [
        (1, "signIn", 200, None),
        (2, "unknown", 404, Some("404003")),
        (3, "queryJobs", 400, Some("400007")),
    ];
    assert_eq!(told, expected);
    assert_eq!(truth.requests[1].user_agent.as_deref(), Some("me"));
    assert_eq!(truth.requests[2].site.as_deref(), Some(client.site.as_str()));
    assert_eq!(truth.requests[2].path, format!("/api/3.27/sites/{}/jobs", client.site));
    assert_eq!(truth.requests[2].query.as_deref(), Some("pageSize=0"));
}

#[tokio::test]
async fn it_stops_with_its_last_handle() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &[], "Orders", true);
    let _hold = tableau.hold_answer(&orders);
    let post = tokio::spawn(try_refresh(client.clone(), orders));
    tableau.wait_for(WAIT, |truth| truth.refreshes.len() == 1).await.unwrap();
    let clone: Simulator = tableau.clone();
    drop(tableau);
    assert_eq!(client.get("/jobs").await.status, 200);
    drop(clone);
    assert!(post.await.unwrap().is_err());
    assert!(client.call(Method::GET, "/serverinfo", &[], json!({}).to_string()).await.is_err());
}
