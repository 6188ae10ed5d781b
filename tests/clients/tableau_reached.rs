//! How Tableau and the identity provider are reached where more than a URL is needed: a private authority, headers for a proxy in front, the
//! environment's proxy. By the services that the operator itself uses.

use crate::prefect::CANARY;
use crate::prefect_reached::{allowed, forward_proxy, private};
use crate::stub::{Stub, json};
use crate::tableau::{server_info, signed_in};
use crate::tableau_tokens::{claims, token};
use feedwater::clock::Clock;
use feedwater::controller::services::{
    RealServices, Services, TableauAccess, TableauCredential, TrustCredential,
};
use feedwater::http::{
    AddressPolicy, Authorities, HeaderMap, HeaderValue, ProxySettings, Timeouts, Unreachable,
};
use feedwater::runtime::metrics::Metrics;
use feedwater::tableau::{IdentityError, Tableau, TableauError};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// What both say to everything that they are asked here.
fn answer() -> String {
    json!({
        "serverInfo": {"productVersion": {"value": "2025.3.0", "build": "1"}, "restApiVersion": "3.27"},
        "access_token": token(&claims()),
        "credentials": {"site": {"id": "site-1", "contentUrl": "acme"}, "user": {"id": "u"}, "token": "t"},
        "projects": {},
    })
    .to_string()
}

fn reached(
    policy: AddressPolicy,
    server: &str,
    idp: &str,
    authority: Option<&str>,
) -> Result<Arc<dyn Tableau>, TableauError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let services = RealServices {
        policy,
        clock: Clock::virtual_from("2026-11-24T12:00:00Z".parse().unwrap()),
        timeouts: Timeouts { connect: Duration::from_secs(2), total: Duration::from_secs(5) },
        metrics: Arc::new(Metrics::default()),
        token_grants: Vec::new(),
    };
    let mut headers = HeaderMap::new();
    headers.insert("x-proxy-key", HeaderValue::from_static(CANARY));
    let credential = TableauCredential::OAuthTrust {
        username: "svc@acme.com".into(),
        token_url: format!("{idp}/oauth/token"),
        scopes: Vec::new(),
        client: TrustCredential::Secret { id: "feedwater".into(), secret: CANARY.into() },
    };
    let access = TableauAccess {
        server_url: server.to_owned(),
        content_url: "acme".into(),
        credential,
        headers,
        authorities: authority.map(|pem| Authorities::from_pem(pem.as_bytes()).unwrap()),
    };
    services.tableau(&access, Arc::new(|| true))
}

#[tokio::test]
async fn a_private_authority_is_believed_of_both_and_headers_for_a_proxy_in_front_go_to_tableau_alone() {
    let (port, authority, heads) = private(answer()).await;
    let inside = format!("https://127.0.0.1:{port}");
    let policy = || allowed(&["127.0.0.1"]);
    let open = Stub::start(|seen| match seen.target.as_str() {
        "/api/2.4/serverinfo" => server_info("3.27"),
        "/api/3.27/auth/signin" => signed_in("t"),
        _ => json(200, &json!({"projects": {}})),
    })
    .await;
    let open = open.url.as_str().trim_end_matches('/').to_owned();

    let untrusted = reached(policy(), &inside, &inside, None).unwrap();
    assert_eq!(untrusted.projects().await, Err(TableauError::Unreachable(Unreachable::Tls)));
    let untrusted = reached(policy(), &open, &inside, None).unwrap();
    let refused = TableauError::Identity(IdentityError::Unreachable(Unreachable::Tls));
    assert_eq!(untrusted.projects().await, Err(refused));
    assert_eq!(heads.lock().unwrap().len(), 0);

    let trusted = reached(policy(), &inside, &inside, Some(&authority)).unwrap();
    assert_eq!(trusted.projects().await, Ok(vec![]));
    let heads = heads.lock().unwrap();
    let of_idp = |head: &&String| head.starts_with("post /oauth/token ");
    assert_eq!((heads.len(), heads.iter().filter(of_idp).count()), (4, 1), "{heads:#?}");
    for head in heads.iter() {
        let key = head.contains(&format!("x-proxy-key: {CANARY}"));
        assert_eq!(key, !of_idp(&head), "{head}");
    }
}

#[tokio::test]
async fn both_are_reached_through_the_proxy_of_the_environment_and_past_it_where_it_says_so() {
    let (port, authority, _) = private(answer()).await;
    let (proxy, asked) = forward_proxy(port).await;
    let nameless: feedwater::http::Lookup =
        Arc::new(|_| Box::pin(async { Err(std::io::Error::other("no such name")) }));
    let client = |no: &str| {
        let settings = ProxySettings::new(&format!("http://who:{CANARY}@127.0.0.1:{proxy}"), no).unwrap();
        let policy = allowed(&["inside.test", "idp.test"]).with_proxy(Some(settings));
        let policy = policy.with_lookup(nameless.clone());
        reached(policy, "https://inside.test", "https://idp.test", Some(&authority)).unwrap()
    };
    let asked_for = |host: &str| {
        let heads = asked.lock().unwrap();
        let connect = format!("CONNECT {host}:443 HTTP/1.1\r\n");
        heads.iter().filter(|head| head.starts_with(&connect)).count()
    };
    // The names resolve at the proxy only.
    assert_eq!(client("").projects().await, Ok(vec![]));
    assert_eq!((asked_for("inside.test"), asked_for("idp.test")), (3, 1));
    for head in asked.lock().unwrap().drain(..) {
        assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic "), "{head}");
    }
    // NO_PROXY: directly.
    let past = client("idp.test").projects().await;
    assert_eq!(past, Err(TableauError::Identity(IdentityError::Unreachable(Unreachable::Dns))));
    assert_eq!((asked_for("inside.test"), asked_for("idp.test")), (1, 0), "only for Tableau's version");
    asked.lock().unwrap().clear();
    let past = client(".test").projects().await;
    assert_eq!(past, Err(TableauError::Unreachable(Unreachable::Dns)));
    assert_eq!(asked.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn neither_is_called_that_is_not_on_the_list() {
    let (proxy, asked) = forward_proxy(1).await;
    let policy = || {
        let settings = ProxySettings::new(&format!("http://127.0.0.1:{proxy}"), "").unwrap();
        allowed(&["inside.test"]).with_proxy(Some(settings))
    };
    let not_allowed = || Unreachable::HostNotAllowed("metadata.example".into());
    let refused = |server: &str, idp: &str| reached(policy(), server, idp, None).err();
    assert_eq!(
        refused("https://metadata.example", "https://inside.test"),
        Some(TableauError::Unreachable(not_allowed()))
    );
    assert_eq!(
        refused("https://inside.test", "https://metadata.example"),
        Some(TableauError::Identity(IdentityError::Unreachable(not_allowed())))
    );
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
}
