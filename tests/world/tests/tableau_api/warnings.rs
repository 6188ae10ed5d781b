//! Data quality warnings, as the reference tells.

use reqwest::Method;
use serde_json::{Value, json};
use world::tableau::{Config, SecondWarning, WarningEcho};

use crate::client::{Answer, Client, start};

fn stale(message: &str) -> Value {
    json!({"dataQualityWarning": {"type": "STALE", "isActive": "true", "isSevere": "false", "message": message}})
}

async fn delete(client: &Client, path: &str) -> Answer {
    let path = format!("/sites/{}/dataQualityWarnings/{path}", client.site);
    client.call(Method::DELETE, &path, &[("accept", "application/json")], String::new()).await.unwrap()
}

#[tokio::test]
async fn a_warning_is_set_read_and_taken_away() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &["Finance"], "Orders", true);
    let path = format!("/dataQualityWarnings/datasource/{orders}");
    assert_eq!(client.get(&path).await.json(), json!({"dataQualityWarningList": {}}));
    let set = client.post(&path, &stale("late")).await;
    assert_eq!(set.status, 200);
    let row = &set.json()["dataQualityWarningList"]["dataQualityWarning"][0];
    assert_eq!(client.get(&path).await.json(), set.json());
    for (field, value) in [
        ("contentId", json!(orders)),
        ("contentType", json!("DATASOURCE")),
        ("type", json!("STALE")),
        ("message", json!("late")),
        ("isActive", json!(true)),
        ("userDisplayName", json!("tester")),
    ] {
        assert_eq!(row[field], value, "{field}");
    }
    let truth = tableau.truth();
    assert_eq!((truth.warnings_of(&orders)[0].by.as_str(), truth.warnings.len()), ("tester", 1));
    assert_eq!(client.post(&path, &stale("again")).await.status, 409, "one each");

    let id = row["id"].as_str().unwrap();
    assert_eq!(delete(&client, id).await.status, 204);
    assert_eq!(delete(&client, id).await.status, 404);
    tableau.add_warning(&orders, "DEPRECATED", "Use another", "ann");
    assert_eq!(delete(&client, &format!("datasource/{orders}")).await.status, 204);
    assert_eq!(tableau.truth().warnings, []);
    tableau.add_warning(&orders, "DEPRECATED", "Use another", "ann");
    tableau.remove_content(&orders);
    assert_eq!((client.get(&path).await.code(), tableau.truth().warnings.len()), ("404004".into(), 0));
}

#[tokio::test]
async fn what_is_unknown_or_not_allowed_is_refused() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &["Finance"], "Orders", true);
    let board = tableau.add_workbook("acme", &["Finance"], "Board", true);
    let path = format!("/dataQualityWarnings/datasource/{orders}");
    let bad = |name: &str, value: Value| {
        let mut body = stale("late");
        body["dataQualityWarning"][name] = value;
        body
    };
    for body in [
        bad("type", json!("OLD")),
        bad("isActive", json!("perhaps")),
        bad("active", json!("true")),
        bad("site", json!({"id": "x"})),
        json!({}),
    ] {
        assert_eq!(client.post(&path, &body).await.code(), "400000", "{body}");
    }
    let of_board = format!("/dataQualityWarnings/datasource/{board}");
    assert_eq!(client.post(&of_board, &stale("late")).await.code(), "404004", "a workbook is no data source");
    tableau.set_leads(&orders, false);
    assert_eq!(client.post(&path, &stale("late")).await.code(), "403004");
    tableau.set_leads(&orders, true);
    tableau.set_data_management(false);
    assert_eq!(client.get(&path).await.code(), "403157");
    assert_eq!(client.post(&path, &stale("late")).await.code(), "403157");
    assert_eq!(tableau.truth().warnings, []);
}

#[tokio::test]
async fn a_second_one_may_take_the_place_of_the_first() {
    let habit = Config { second_warning: SecondWarning::Replaces, ..Config::default() };
    let (tableau, client) = start(habit).await;
    let orders = tableau.add_datasource("acme", &["Finance"], "Orders", true);
    let first = tableau.add_warning(&orders, "DEPRECATED", "Use another", "ann");
    let path = format!("/dataQualityWarnings/datasource/{orders}");
    assert_eq!(client.post(&path, &stale("late")).await.status, 200);
    let truth = tableau.truth();
    let left: Vec<_> = truth.warnings_of(&orders).iter().map(|w| (w.id == first, w.kind.as_str())).collect();
    assert_eq!(left, [(false, "STALE")]);
}

#[tokio::test]
async fn a_text_may_be_given_back_as_for_a_browser() {
    let said = "late: <b> & (more)\nsee a/b";
    for (warning_echo, told) in [
        (WarningEcho::AsSent, said),
        (WarningEcho::Escaped, "late: &#60;b&#62; &#38; &#40;more&#41;\r\nsee a&#47;b\r\n"),
    ] {
        let (tableau, client) = start(Config { warning_echo, ..Config::default() }).await;
        let orders = tableau.add_datasource("acme", &["Finance"], "Orders", true);
        let path = format!("/dataQualityWarnings/datasource/{orders}");
        for answer in [client.post(&path, &stale(said)).await, client.get(&path).await] {
            let row = &answer.json()["dataQualityWarningList"]["dataQualityWarning"][0];
            assert_eq!(row["message"], json!(told), "{warning_echo:?}");
        }
        assert_eq!(tableau.truth().warnings_of(&orders)[0].message, said);
    }
}
