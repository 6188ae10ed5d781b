//! A whole refresh, arranged and watched through the admin API alone.

use serde_json::{Value, json};
use world::tableau::{Config, Simulator};

use crate::client::{Client, text};

struct Admin {
    url: String,
    http: reqwest::Client,
}

impl Admin {
    async fn try_post(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.http.post(format!("{}{path}", self.url)).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.try_post(path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn truth(&self, query: &str) -> Value {
        serde_json::from_str(&text(&format!("{}/truth{query}", self.url)).await).unwrap()
    }
}

#[tokio::test]
async fn everything_can_be_done_from_outside() {
    let tableau = Simulator::start(Config::default()).await.unwrap();
    let mut client = Client::new(&tableau, "3.27");
    let admin = Admin { url: tableau.admin_url(), http: reqwest::Client::new() };

    client.site =
        admin.post("/sites", json!({"contentUrl": "acme"})).await["site"].as_str().unwrap().to_owned();
    let pat = json!({"site": "acme", "name": "demo", "secret": "s", "user": "robot"});
    admin.post("/pats", pat.clone()).await;
    let sign_in = client.sign_in("acme", "demo", "s").await.json();
    client.token = sign_in["credentials"]["token"].as_str().unwrap().to_owned();
    let project = admin.post("/projects", json!({"site": "acme", "path": ["Finance", "Sales"]})).await;
    let new = json!({"site": "acme", "project": ["Finance", "Sales"], "name": "Orders"});
    let orders = admin.post("/datasources", new.clone()).await["luid"].as_str().unwrap().to_owned();
    let board = admin.post("/workbooks", new).await["luid"].as_str().unwrap().to_owned();
    let seen = client.get(&format!("/datasources/{orders}")).await.json();
    assert_eq!(seen["datasource"]["project"]["id"], project["luid"]);

    let script =
        json!({"luid": orders, "queued": 0, "running": "untilReleased", "outcome": "failed", "notes": "no"});
    admin.post("/scripts", script).await;
    let hold = admin.post("/holds", json!({"luid": orders})).await["hold"].clone();
    let post = tokio::spawn({
        let (client, orders) = (client.clone(), orders.clone());
        async move { client.refresh(&orders).await }
    });
    admin.post("/holds/taken", json!({"hold": hold})).await;
    let duplicate = json!({"luid": orders, "kind": "full", "by": "ann"});
    assert_eq!(admin.try_post("/jobs", duplicate).await.0, 409);
    admin.post("/release", json!({"luid": orders})).await;
    admin.post("/holds/release", json!({"hold": hold})).await;
    let job = post.await.unwrap().json()["job"]["id"].clone();
    let by_hand = json!({"luid": board, "running": "untilReleased"});
    admin.post("/scripts", by_hand).await;
    let person = admin.post("/jobs", json!({"luid": board, "kind": "incremental", "by": "ann"})).await;
    admin.post("/cancel", json!({"job": person["job"]})).await;

    let truth = admin.truth("").await;
    let first = &truth["refreshes"][0];
    assert_eq!((&first["job"], &first["content"]), (&job, &json!(orders)));
    assert_eq!(first["outcome"], json!({"failed": {"notes": "no"}}));
    assert_eq!(first["requestedBy"], json!({"api": {"user": "robot"}}));
    let second = &truth["refreshes"][1];
    assert_eq!((&second["requestedBy"], &second["by"]), (&json!("person"), &json!("ann")));
    assert_eq!((&second["outcome"], &second["kind"]), (&json!("cancelled"), &json!("incremental")));
    let operations: Vec<_> =
        truth["requests"].as_array().unwrap().iter().map(|one| &one["operation"]).collect();
    assert_eq!(operations, ["signIn", "queryDatasource", "refreshDatasource"]);

    // Those who wait for the next request get it.
    let next = tokio::spawn(async move { admin.truth("?since=3&within=10").await });
    client.get("/jobs").await;
    let next = next.await.unwrap();
    assert_eq!((&next["requests"][0]["n"], next["requests"].as_array().unwrap().len()), (&json!(4), 1));
}

#[tokio::test]
async fn faults_and_ends_too() {
    let tableau = Simulator::start(Config::default()).await.unwrap();
    let site = tableau.add_site("acme");
    let client = Client::signed_in(&tableau, &site, "3.27").await;
    let orders = tableau.add_datasource("acme", &["A"], "Orders", true);
    let admin = Admin { url: tableau.admin_url(), http: reqwest::Client::new() };
    admin.post("/availability", json!({"state": "refuse", "status": 502})).await;
    assert_eq!(client.get("/jobs").await.status, 502);
    admin.post("/availability", json!({"state": "up"})).await;
    admin.post("/jobs-list", json!({"allowed": false})).await;
    assert_eq!(client.get("/jobs").await.code(), "403004");
    let warning = json!({"luid": orders, "type": "WARNING", "message": "mind the gap", "by": "ann"});
    let warning = admin.post("/warnings", warning).await["warning"].clone();
    admin.post("/warnings/change", json!({"warning": warning, "type": "STALE", "message": "old"})).await;
    let seen = &admin.truth("").await["warnings"][0];
    assert_eq!((&seen["id"], &seen["kind"], &seen["by"]), (&warning, &json!("STALE"), &json!("ann")));
    admin.post("/warnings/remove", json!({"warning": warning})).await;
    admin.post("/data-management", json!({"licensed": false})).await;
    let path = format!("/dataQualityWarnings/datasource/{orders}");
    assert_eq!(client.get(&path).await.code(), "403157");
    admin.post("/move", json!({"luid": orders, "project": ["B"]})).await;
    assert_eq!(
        client.get(&format!("/datasources/{orders}")).await.json()["datasource"]["project"]["name"],
        "B"
    );
    admin.post("/remove", json!({"luid": orders})).await;
    assert_eq!(client.get(&format!("/datasources/{orders}")).await.code(), "404004");
    admin.post("/sessions/end", json!({"site": "acme"})).await;
    assert_eq!(client.get("/datasources").await.code(), "401002");
    admin.post("/revoke", json!({"site": "acme", "name": "test"})).await;
    assert_eq!(client.sign_in("acme", "test", "secret").await.code(), "401001");

    let missing = [
        ("/revoke", json!({"site": "nowhere", "name": "x"})),
        ("/remove", json!({"luid": orders})),
        ("/scripts", json!({"luid": orders})),
        ("/jobs", json!({"luid": orders})),
        ("/cancel", json!({"job": "x"})),
        ("/holds/release", json!({"hold": "x"})),
        ("/warnings/remove", json!({"warning": "x"})),
    ];
    for (path, body) in missing {
        let (status, answer) = admin.try_post(path, body).await;
        assert!(status == 404 && answer["error"].is_string(), "{path}: {status} {answer}");
    }
    assert_eq!(admin.try_post("/sites", json!({"contentUrl": "x", "typo": 1})).await.0, 422);
}
