//! Data quality warnings over REST: what becomes of every answer.

use crate::stub::{Reply, json};
use crate::tableau::{client, error, site};
use feedwater::tableau::{DataQualityWarning, Tableau, TableauError};
use serde_json::{Value, json};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(3);
const SAYS: &str = "The data is old. (Feedwater finance/orders)";

fn row(id: &str, kind: &str, message: &str) -> Value {
    json!({"id": id, "userDisplayName": "Alice", "contentId": "l1", "contentType": "DATASOURCE", "type": kind,
        "message": message, "isActive": "true", "isSevere": false, "createdAt": "2026-11-24T12:00:00Z",
        "site": {"id": "site-1"}, "owner": {"id": "u"}})
}

fn list(rows: &Value) -> Reply {
    json(200, &json!({"dataQualityWarningList": {"dataQualityWarning": rows}}))
}

fn warning(id: &str, kind: &str, message: &str) -> DataQualityWarning {
    DataQualityWarning { id: id.into(), kind: kind.into(), message: message.into() }
}

#[tokio::test]
async fn each_answer_is_read_as_the_reference_says() {
    let stub = site(|seen| match seen.method.as_str() {
        "GET" | "POST" => list(&json!([row("w1", "DEPRECATED", "Use another"), row("w2", "STALE", SAYS)])),
        _ => json(204, &Value::Null),
    })
    .await;
    let client = client(&stub);
    let there = client.warnings(&"l1".into()).await.unwrap();
    assert_eq!(there, [warning("w1", "DEPRECATED", "Use another"), warning("w2", "STALE", SAYS)]);
    assert_eq!(
        client.set_warning(&"l1".into(), SAYS, DEADLINE).await,
        Ok(Some("w2".into())),
        "not another's"
    );
    assert_eq!(client.delete_warning(&"w2".into()).await, Ok(()));
}

/// What the answer to a creation says may be escaped, and still names the warning.
#[tokio::test]
async fn ours_is_known_however_its_text_is_given_back() {
    let escaped = "The data is old. &#40;Feedwater finance&#x2F;orders&#41;\r\n";
    let stub =
        site(move |_| list(&json!([row("w1", "STALE", "The data is old."), row("w2", "STALE", escaped)])))
            .await;
    let set = client(&stub).set_warning(&"l1".into(), SAYS, DEADLINE).await;
    assert_eq!(set, Ok(Some("w2".into())));
}

#[tokio::test]
async fn every_shape_of_an_answer_is_read() {
    let one = row("w2", "STALE", SAYS);
    let shapes = [
        (json!({"dataQualityWarningList": {"dataQualityWarning": [one]}}), 1),
        (json!({"dataQualityWarningList": {"dataQualityWarning": one}}), 1),
        (json!({"dataQualityWarningList": {}}), 0),
        (json!({"dataQualityWarning": one}), 1),
        (json!({}), 0),
    ];
    for (body, count) in shapes {
        let stub = site(move |_| json(200, &body)).await;
        let client = client(&stub);
        assert_eq!(client.warnings(&"l1".into()).await.unwrap().len(), count);
        let set = client.set_warning(&"l1".into(), SAYS, DEADLINE).await.unwrap();
        assert_eq!(set.is_some(), count == 1, "an answer without it tells nothing of it");
    }
    let silent = site(|_| list(&json!([{"id": "w3"}]))).await;
    assert_eq!(client(&silent).warnings(&"l1".into()).await.unwrap(), [warning("w3", "", "")]);
    for body in
        [json!({"dataQualityWarningList": {"dataQualityWarning": [{"type": "STALE"}]}}), json!({"x": 1})]
    {
        let stub = site(move |_| json(200, &body)).await;
        let read = client(&stub).warnings(&"l1".into()).await;
        assert_eq!(read, Err(TableauError::WrongServer), "a row without an id is not left out");
        let set = client(&stub).set_warning(&"l1".into(), SAYS, DEADLINE).await;
        assert_eq!(set, Ok(None), "it is set all the same");
    }
}

#[tokio::test]
async fn what_is_gone_has_none_and_what_is_refused_says_so() {
    let gone = site(|_| error(404, "404004")).await;
    assert_eq!(client(&gone).warnings(&"l1".into()).await, Ok(Vec::new()));
    assert_eq!(client(&gone).delete_warning(&"w".into()).await, Ok(()));
    let not_there = TableauError::NotFound("404004".into());
    assert_eq!(client(&gone).set_warning(&"l1".into(), SAYS, DEADLINE).await, Err(not_there));
    for (status, code, expected) in [
        (403, "403157", TableauError::Forbidden("403157".into())),
        (404, "404000", TableauError::NotFound("404000".into())),
        (409, "409120", TableauError::Rejected("409120".into())),
        (500, "500000", TableauError::Ambiguous),
        (401, "401002", TableauError::SessionContested),
    ] {
        let stub = site(move |_| error(status, code)).await;
        let client = client(&stub);
        assert_eq!(client.warnings(&"l1".into()).await, Err(expected.clone()), "{code}");
        assert_eq!(client.set_warning(&"l1".into(), SAYS, DEADLINE).await, Err(expected.clone()), "{code}");
        assert_eq!(client.delete_warning(&"w".into()).await, Err(expected), "{code}");
    }
}
