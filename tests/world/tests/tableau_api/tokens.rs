//! JWTs, as Tableau's documentation has them: what is taken, what is refused, and what their scopes allow.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use reqwest::Method;
use ring::hmac;
use serde_json::{Value, json};
use world::tableau::{Config, Edition, ScopeHabits, Simulator};

use crate::client::{Answer, Client};

/// The simulator's clock is this machine's.
#[allow(clippy::disallowed_methods)]
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn signed(header: &Value, claims: &Value, secret: &str) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), text.as_bytes());
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}

fn header() -> Value {
    json!({"alg": "HS256", "typ": "JWT", "kid": "secret-1", "iss": "app-1"})
}

fn claims(id: &str, scopes: &[&str]) -> Value {
    json!({"iss": "app-1", "sub": "svc", "aud": "tableau", "jti": id, "exp": now() + 300, "scp": scopes})
}

async fn start(config: Config) -> (Simulator, String) {
    let tableau = Simulator::start(config).await.unwrap();
    tableau.add_site("acme");
    tableau.add_user("acme", "svc");
    tableau.add_connected_app("acme", "app-1", "secret-1", "value-1");
    let orders = tableau.add_datasource("acme", &["Finance"], "Orders", true);
    (tableau, orders)
}

async fn sign_in(tableau: &Simulator, version: &str, jwt: &str) -> Answer {
    let body = json!({"credentials": {"jwt": jwt, "site": {"contentUrl": "acme"}}});
    Client::new(tableau, version).json(Method::POST, "/auth/signin", &body).await
}

async fn with_scopes(tableau: &Simulator, id: &str, scopes: &[&str]) -> Client {
    let answer = sign_in(tableau, "3.27", &signed(&header(), &claims(id, scopes), "value-1")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let credentials = &answer.json()["credentials"];
    let mut client = Client::new(tableau, "3.27");
    client.token = credentials["token"].as_str().unwrap().into();
    client.site = credentials["site"]["id"].as_str().unwrap().into();
    client
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_refused() {
    let (tableau, _) = start(Config::default()).await;
    let good = || (header(), claims("good", &[]));
    let changed = |what: &str, name: &str, value: Value| {
        let (mut header, mut claims) = good();
        claims["jti"] = json!(format!("{what} {name} {value}"));
        let part = if what == "header" { &mut header } else { &mut claims };
        if value.is_null() {
            part.as_object_mut().unwrap().remove(name);
        } else {
            part[name] = value;
        }
        signed(&header, &claims, "value-1")
    };
    for (jwt, words) in [
        ("nonsense".to_owned(), "10084"),
        (signed(&good().0, &good().1, "value-2"), "signature"),
        (changed("header", "alg", json!("none")), "alg"),
        (changed("header", "alg", json!("RS256")), "alg"),
        (changed("header", "kid", json!("secret-2")), "127"),
        (changed("header", "kid", Value::Null), "127"),
        (changed("header", "iss", json!("app-2")), "10082"),
        (changed("claims", "iss", json!("app-2")), "10082"),
        (changed("claims", "sub", json!("SVC")), "(5:"),
        (changed("claims", "sub", Value::Null), "(5:"),
        (changed("claims", "aud", json!("other")), "aud"),
        (changed("claims", "exp", json!(now() - 1)), "exp"),
        (changed("claims", "exp", json!(now() + 660)), "exp"),
        (changed("claims", "exp", Value::Null), "exp"),
        (changed("claims", "nbf", json!(now() + 60)), "nbf"),
        (changed("claims", "scp", json!("tableau:tasks:run")), "scp"),
        (changed("claims", "scp", Value::Null), "scp"),
    ] {
        let answer = sign_in(&tableau, "3.27", &jwt).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "401001"), "{words}");
        assert!(answer.text.contains(words), "{words}: {}", answer.text);
    }
    let (header, claims) = good();
    let jwt = signed(&header, &claims, "value-1");
    assert_eq!(sign_in(&tableau, "3.16", &jwt).await.code(), "400000", "not known before 3.17");
    assert_eq!(sign_in(&tableau, "3.17", &jwt).await.status, 200);
    assert!(sign_in(&tableau, "3.17", &jwt).await.text.contains("10098"), "a token signs in once");
    tableau.remove_app_secret("acme", "app-1", "secret-1");
    let (header, mut claims) = good();
    claims["jti"] = json!("later");
    assert!(sign_in(&tableau, "3.27", &signed(&header, &claims, "value-1")).await.text.contains("127"));
}

#[tokio::test]
async fn a_call_without_its_scope_is_answered_like_a_session_that_ended() {
    let habits = ScopeHabits { update_task: "tableau:tasks:write", ..ScopeHabits::default() };
    let (tableau, orders) =
        start(Config { edition: Edition::Cloud, scopes: habits, ..Config::default() }).await;
    let calls = async |client: &Client| {
        let mut codes = Vec::new();
        for path in ["/projects", "/datasources", "/jobs", "/tasks/extractRefreshes"] {
            let answer = client.get(path).await;
            codes.push(if answer.status == 200 { String::new() } else { answer.code() });
        }
        let answer = client.refresh(&orders).await;
        codes.push(if answer.status < 300 { String::new() } else { answer.code() });
        codes
    };
    let no = "401002";
    let none = with_scopes(&tableau, "1", &[]).await;
    assert_eq!(calls(&none).await, [no, no, no, no, no]);
    let read = with_scopes(&tableau, "2", &["tableau:content:read", "tableau:jobs:read"]).await;
    assert_eq!(calls(&read).await, ["", "", "", no, no]);
    let wild = with_scopes(&tableau, "3", &["tableau:tasks:*"]).await;
    assert_eq!(calls(&wild).await, [no, no, no, "", ""]);
    // Neither has ended the other: a JWT's sign-in stands beside others.
    assert_eq!(calls(&read).await, ["", "", "", no, no]);
    let update = "/tasks/extractRefreshes/11111111-1111-1111-1111-111111111111";
    let by_name = with_scopes(&tableau, "4", &["tableau:tasks:update"]).await;
    assert_eq!(by_name.post(update, &json!({})).await.code(), no, "it may be called write");
    assert_ne!(wild.post(update, &json!({})).await.code(), no);
}
