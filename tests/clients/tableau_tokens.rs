//! Signing in to Tableau with a JWT: one that we make, and one that an identity provider makes.

use crate::prefect::CANARY;
use crate::stub::{Reply, Stub, http, json, text};
use crate::tableau::{error, server_info, signed_in};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use feedwater::api::{RefreshType, TargetKind};
use feedwater::tableau::{
    ConnectedApp, Credential, IdentityClient, IdentityError, IdentityProvider, Questions, RefreshError,
    SCOPES, Tableau, TableauClient, TableauError,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use world::tableau::{Config, Edition, Script, Simulator, Step};

const DEADLINE: Duration = Duration::from_secs(3);

fn app(secret_id: &str, secret_value: &str) -> Credential {
    Credential::ConnectedApp(ConnectedApp {
        username: "svc@acme.com".into(),
        client_id: "app-1".into(),
        secret_id: secret_id.into(),
        secret_value: secret_value.into(),
    })
}

fn provider(idp: &Stub, client: IdentityClient, scopes: &[&str]) -> Credential {
    Credential::OAuthTrust(Box::new(IdentityProvider {
        http: http("idp", idp.url.as_str()),
        token_url: idp.url.join("/oauth/token").unwrap(),
        username: "svc@acme.com".into(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        client,
    }))
}

fn by_secret() -> IdentityClient {
    IdentityClient::Secret { id: "feed:water".into(), secret: format!("{CANARY}/+ ü").into() }
}

fn client(tableau: &str, credential: Credential) -> TableauClient {
    TableauClient::new(http("tableau", tableau), "acme", credential, Arc::new(|| true))
}

/// The header and the claims of the JWT in a sign-in.
fn opened(jwt: &str) -> (Value, Value) {
    let mut parts = jwt.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap());
    let mut part = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (part(), part())
}

/// An identity provider's token; nobody verifies it here.
pub fn token(claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&json!({"alg": "RS256"})), part(claims), BASE64_URL_SAFE_NO_PAD.encode(CANARY))
}

pub fn claims() -> Value {
    json!({"sub": "svc@acme.com", "aud": "tableau", "jti": "1", "exp": 1, "iss": "https://idp",
        "scp": ["tableau:content:read", "tableau:jobs:read", "tableau:tasks:*"]})
}

#[tokio::test]
async fn a_connected_apps_token_is_made_for_each_sign_in_by_tableaus_clock() {
    let stub = Stub::start(|seen| {
        let reply = match seen.target.as_str() {
            "/api/2.4/serverinfo" => server_info("3.27"),
            "/api/3.27/auth/signin" => signed_in("t"),
            _ => error(401, "401002"),
        };
        // Days ahead of ours.
        reply.with("date", "Thu, 26 Nov 2026 12:00:00 GMT")
    })
    .await;
    let client = client(stub.url.as_str(), app("secret-1", CANARY));
    assert_eq!(client.projects().await, Err(TableauError::MissingScope));
    let refused = client.refresh(TargetKind::Workbook, &"l".into(), RefreshType::Full, DEADLINE).await;
    assert_eq!(refused, Err(RefreshError::SignInRefused));
    let sign_ins: Vec<_> = stub.seen().into_iter().filter(|s| s.target.contains("signin")).collect();
    assert_eq!((sign_ins.len(), stub.count("/projects"), stub.count("/refresh")), (3, 2, 2));
    let mut ids = Vec::new();
    for seen in &sign_ins {
        let jwt = seen.json()["credentials"]["jwt"].as_str().unwrap().to_owned();
        assert_eq!(seen.json(), json!({"credentials": {"jwt": jwt, "site": {"contentUrl": "acme"}}}));
        let (header, claims) = opened(&jwt);
        assert_eq!(header, json!({"alg": "HS256", "typ": "JWT", "kid": "secret-1", "iss": "app-1"}));
        ids.push(claims["jti"].as_str().unwrap().to_owned());
        let expires = claims["exp"].as_i64().unwrap();
        let noon = "2026-11-26T12:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
        assert!((noon + 300..noon + 330).contains(&expires), "{expires}");
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "an id is used once");
    assert!(!format!("{client:?}").contains(CANARY));
}

#[tokio::test]
async fn what_takes_no_tokens_is_too_old() {
    for (version, expected) in [
        ("3.16", Some(TableauError::UnsupportedVersion { version: "3.16".into(), oldest: "3.17" })),
        ("3.17", None),
    ] {
        let stub = Stub::start(move |seen| match seen.target.as_str() {
            "/api/2.4/serverinfo" => server_info(version),
            _ => signed_in("t"),
        })
        .await;
        assert_eq!(client(stub.url.as_str(), app("s", "v")).site().await.err(), expected);
    }
}

#[tokio::test]
async fn an_identity_provider_is_asked_as_the_standard_says() {
    let idp =
        Stub::start(|_| json(200, &json!({"access_token": token(&claims()), "token_type": "Bearer"}))).await;
    let tableau = Stub::start(|seen| match seen.target.as_str() {
        "/api/2.4/serverinfo" => server_info("3.27"),
        _ => signed_in("t"),
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{CANARY}.account.token\n")).unwrap();
    let account = |id: Option<&str>| IdentityClient::ServiceAccount {
        file: file.path().into(),
        id: id.map(str::to_owned),
    };
    let ours = "tableau%3Acontent%3Aread+tableau%3Ajobs%3Aread+tableau%3Ajobs%3Aupdate+tableau%3Atasks%3A*";
    let assertion = format!(
        "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion={CANARY}.account.token"
    );
    for (who, scopes, sent) in [
        (by_secret(), &[][..], format!("grant_type=client_credentials&scope={ours}")),
        (
            account(None),
            &["api://feedwater/.default"],
            format!("grant_type=client_credentials&scope=api%3A%2F%2Ffeedwater%2F.default{assertion}"),
        ),
        (
            account(Some("id-1")),
            &[],
            format!("grant_type=client_credentials&scope={ours}{assertion}&client_id=id-1"),
        ),
    ] {
        let basic = matches!(who, IdentityClient::Secret { .. });
        let client = client(tableau.url.as_str(), provider(&idp, who, scopes));
        client.site().await.unwrap();
        let seen = idp.seen().pop().unwrap();
        assert_eq!(seen.line(), format!("POST /oauth/token {sent}"));
        assert_eq!(seen.headers["content-type"], "application/x-www-form-urlencoded");
        assert_eq!(seen.headers["accept"], "application/json");
        let authorization = seen.headers.get("authorization").map(String::as_str);
        // Both parts are form-encoded before they are put together: feed%3Awater:…%2F%2B+%C3%BC
        let pair = format!("feed%3Awater:{CANARY}%2F%2B+%C3%BC");
        let pair = format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair));
        assert_eq!(authorization, basic.then_some(pair.as_str()));
        let sign_in = tableau.seen().pop().unwrap().json();
        assert_eq!(
            sign_in,
            json!({"credentials": {"jwt": token(&claims()), "site": {"contentUrl": "acme"}}})
        );
        assert!(!format!("{client:?}").contains(CANARY));
    }
    std::fs::remove_file(file.path()).unwrap();
    let client = client(tableau.url.as_str(), provider(&idp, account(None), &[]));
    assert_eq!(client.site().await, Err(IdentityError::NoAssertion.into()));
}

#[tokio::test]
async fn what_an_identity_provider_answers_is_one_decision() {
    let oauth = |status, word: &str| json(status, &json!({"error": word, "error_description": CANARY}));
    let lacks = |claim: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        json(200, &json!({"access_token": token(&claims)}))
    };
    for (reply, expected, refused) in [
        (oauth(401, "invalid_client"), IdentityError::Refused, true),
        (oauth(400, "invalid_client"), IdentityError::Refused, true),
        (oauth(400, "unauthorized_client"), IdentityError::Refused, true),
        (text(401, ""), IdentityError::Refused, true),
        (oauth(400, "invalid_scope"), IdentityError::MissingScope, true),
        (text(404, "<html>"), IdentityError::WrongServer, true),
        (text(405, ""), IdentityError::WrongServer, true),
        (text(302, "").with("location", "/x"), IdentityError::WrongServer, true),
        (text(200, "<html>"), IdentityError::WrongServer, true),
        (json(200, &json!({"access_token": CANARY})), IdentityError::NoToken, true),
        (lacks("sub"), IdentityError::Claim("sub"), true),
        (lacks("scp"), IdentityError::Claim("scp"), true),
        (
            oauth(429, "slow_down").with("retry-after", "9"),
            IdentityError::Throttled { retry_after: Some(Duration::from_secs(9)) },
            false,
        ),
        (oauth(503, "temporarily_unavailable"), IdentityError::Unanswered, false),
        (Reply::Reset, IdentityError::Unanswered, false),
    ] {
        let reply = std::sync::Mutex::new(Some(reply));
        let good = || json(200, &json!({"access_token": token(&claims())}));
        let idp = Stub::start(move |_| reply.lock().unwrap().take().unwrap_or_else(good)).await;
        let tableau = Stub::start(|seen| match seen.target.as_str() {
            "/api/2.4/serverinfo" => server_info("3.27"),
            _ => signed_in("t"),
        })
        .await;
        let client = client(tableau.url.as_str(), provider(&idp, by_secret(), &[]));
        let got = client.site().await.unwrap_err();
        assert_eq!(got, TableauError::Identity(expected.clone()));
        assert!(!format!("{got} {got:?}").contains(CANARY));
        assert_eq!(tableau.count("signin"), 0);
        // A refusal stands for a while; what may be over is asked again at once.
        assert_eq!(client.site().await.is_err(), refused, "{expected:?}");
        assert_eq!(idp.seen().len(), if refused { 1 } else { 2 }, "{expected:?}");
    }
}

#[tokio::test]
async fn ten_at_once_ask_the_identity_provider_once() {
    let idp = Stub::start(|_| json(200, &json!({"access_token": token(&claims())}))).await;
    let tableau = Stub::start(|seen| match seen.target.as_str() {
        "/api/2.4/serverinfo" => server_info("3.27"),
        target if target.contains("signin") => signed_in("t"),
        _ => json(200, &json!({"projects": {}})),
    })
    .await;
    let client = client(tableau.url.as_str(), provider(&idp, by_secret(), &[]));
    let all = futures::future::join_all((0..10).map(|_| client.projects())).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!((idp.seen().len(), tableau.count("signin"), tableau.count("/projects")), (1, 1, 10));
}

/// A key of an identity provider, with which it signs as ES256.
struct Signer {
    pair: EcdsaKeyPair,
    kid: String,
}

impl Signer {
    fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        Self { pair, kid: kid.into() }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let part = |bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({"kid": self.kid, "kty": "EC", "crv": "P-256", "x": part(&point[1..33]), "y": part(&point[33..])})
    }

    fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "ES256", "kid": self.kid})), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The simulator knows JWTs from Tableau's documentation, and refuses what it does not know.
#[tokio::test]
async fn the_simulator_takes_all_three() {
    let tableau = Simulator::start(Config { edition: Edition::Cloud, ..Config::default() }).await.unwrap();
    tableau.add_site("acme");
    tableau.add_user("acme", "svc@acme.com");
    tableau.add_pat("acme", "feedwater", "secret", "svc@acme.com");
    tableau.add_connected_app("acme", "app-1", "secret-1", "value-1");
    let orders = tableau.add_datasource("acme", &["Finance"], "Orders", true);
    tableau.script(&orders, Script { running: Step::UntilReleased, ..Script::default() });

    let signer = Arc::new(Signer::new("key-1"));
    let key = signer.clone();
    let count = std::sync::atomic::AtomicUsize::new(0);
    #[allow(clippy::disallowed_methods)] // the simulator's clock is this machine's
    let idp = Stub::start(move |seen| {
        if seen.target.contains("jwks") {
            return json(200, &json!({"keys": [key.jwk()]}));
        }
        let mut claims = claims();
        claims["scp"] = json!(SCOPES);
        claims["jti"] = json!(count.fetch_add(1, std::sync::atomic::Ordering::SeqCst).to_string());
        claims["exp"] = json!(jiff::Timestamp::now().as_second() + 300);
        json(200, &json!({"access_token": key.sign(&claims)}))
    })
    .await;
    tableau.register_authorization_server("acme", "https://idp", &format!("{}jwks", idp.url));

    let pat = Credential::PersonalAccessToken { name: "feedwater".into(), secret: "secret".into() };
    for (n, credential) in
        [pat, app("secret-1", "value-1"), provider(&idp, by_secret(), &[])].into_iter().enumerate()
    {
        let client = client(&tableau.url(), credential);
        assert_eq!(client.projects().await.unwrap().len(), 2);
        let luid = orders.as_str().into();
        let job = client.refresh(TargetKind::Datasource, &luid, RefreshType::Full, DEADLINE).await.unwrap();
        assert!(client.job(&job).await.unwrap().job.is_some());
        assert!(
            !client
                .jobs("2026-01-01T00:00:00Z".parse().unwrap(), &Questions::default())
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(client.tasks().await, Ok(vec![]));
        client.cancel(&job).await.unwrap();
        let truth = tableau.truth();
        assert_eq!(truth.count("signIn"), n + 1, "no call was refused");
        assert!(truth.requests.iter().all(|request| request.status < 400), "{truth:#?}");
    }
    for bad in [app("secret-2", "value-1"), app("secret-1", "value-2")] {
        assert_eq!(client(&tableau.url(), bad).site().await, Err(TableauError::SignInRefused));
    }
}
