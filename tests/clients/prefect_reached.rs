//! How Prefect is reached where more than a URL is needed: CSRF tokens, headers for a proxy in front, a private authority, the environment's
//! proxy, Cloud.

use crate::prefect::CANARY;
use crate::stub::{Seen, Stub, json, text, with_policy};
use feedwater::api::PrefectHosting;
use feedwater::http::{
    AddressPolicy, Authorities, Failure, HeaderMap, HeaderValue, Http, ProxySettings, Unreachable,
};
use feedwater::prefect::{Auth, Prefect, PrefectClient, PrefectError};
use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Map, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

/// A server with CSRF protection: each token it gives out ends the one before.
async fn protected(given: Arc<AtomicUsize>) -> Stub {
    Stub::start(move |seen: &Seen| {
        let client = seen.headers.get("prefect-csrf-client");
        let token = seen.headers.get("prefect-csrf-token");
        let valid = format!("token-{}", given.load(Ordering::SeqCst));
        match (seen.method.as_str(), token) {
            ("GET", _) if seen.target.starts_with("/api/csrf-token?client=") => {
                let number = given.fetch_add(1, Ordering::SeqCst) + 1;
                json(200, &json!({"token": format!("token-{number}"), "expiration": "2026-11-24T13:00:00Z"}))
            }
            ("GET", _) => json(200, &json!("3.9.1")),
            (_, None) => json(403, &json!({"detail": "Missing CSRF token."})),
            (_, Some(token)) if *token == valid && client.is_some() => text(204, ""),
            (_, Some(_)) => json(403, &json!({"detail": "Invalid CSRF token or client identifier."})),
        }
    })
    .await
}

fn client(http: Http) -> PrefectClient {
    let auth = Auth::Basic { username: "admin".into(), password: CANARY.into() };
    PrefectClient::new(http, auth).unwrap()
}

#[tokio::test]
async fn a_csrf_token_is_fetched_where_one_is_asked_for_and_again_when_it_has_expired() {
    let given = Arc::new(AtomicUsize::new(0));
    let stub = protected(given.clone()).await;
    let client = client(stub.http("prefect", "/api"));
    assert!(client.probe().await.unwrap().csrf);
    let patch = async || client.patch_deployment(&"d1".into(), &Map::new()).await;
    patch().await.unwrap();
    patch().await.unwrap();
    assert_eq!((stub.count("PATCH"), stub.count("csrf-token")), (2, 1), "one token serves");
    // It expires, or the server was restarted without its database.
    given.store(7, Ordering::SeqCst);
    let all = futures::future::join_all((0..5).map(|_| patch())).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(stub.count("csrf-token"), 2, "one call fetches for all that were refused");
    let ids: std::collections::BTreeSet<_> =
        stub.seen().iter().filter_map(|seen| seen.headers.get("prefect-csrf-client").cloned()).collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn protection_that_is_turned_on_later_is_noticed_and_a_plain_403_stays_one() {
    let stub = protected(Arc::default()).await;
    client(stub.http("prefect", "/api")).delete_deployment(&"d1".into()).await.unwrap();
    assert_eq!((stub.count("DELETE"), stub.count("csrf-token")), (2, 1));

    let stub = Stub::always(403, json!({"detail": "Forbidden"})).await;
    let error = client(stub.http("prefect", "/api")).delete_deployment(&"d1".into()).await;
    assert_eq!((error, stub.seen().len()), (Err(PrefectError::Forbidden), 1));
}

#[tokio::test]
async fn cloud_is_asked_for_neither_its_version_nor_a_token() {
    for (reply, expected) in
        [(200, None), (404, Some(PrefectError::WrongServer)), (401, Some(PrefectError::Unauthorized))]
    {
        let stub = Stub::always(reply, json!([])).await;
        let http = stub.http("prefect", "/api/accounts/a/workspaces/w");
        let client =
            PrefectClient::new(http, Auth::ApiKey(CANARY.into())).unwrap().hosted(PrefectHosting::Cloud);
        let server = client.probe().await;
        assert_eq!(server.as_ref().err(), expected.as_ref());
        if let Ok(server) = server {
            assert_eq!((server.version, server.hosting, server.csrf), (None, PrefectHosting::Cloud, false));
        }
        let lines: Vec<_> = stub.seen().iter().map(Seen::line).collect();
        assert_eq!(lines, [r#"POST /api/accounts/a/workspaces/w/flows/filter {"limit":1}"#]);
    }
}

#[tokio::test]
async fn headers_for_a_proxy_in_front_go_with_every_call_and_ours_come_first() {
    let stub = Stub::always(200, json!({})).await;
    let mut headers = HeaderMap::new();
    headers.insert("cf-access-client-secret", HeaderValue::from_static(CANARY));
    headers.insert("accept", HeaderValue::from_static("text/html"));
    let http = stub.http("prefect", "/api").with_headers(headers);
    client(http).work_pool_exists("p").await.unwrap();
    let seen = &stub.seen()[0].headers;
    assert_eq!(
        (seen["cf-access-client-secret"].as_str(), seen["accept"].as_str()),
        (CANARY, "application/json")
    );
}

/// A server behind TLS by a private authority, which answers this to every call and also speaks Prefect's websocket: its port, the authority's
/// certificate, and the heads of the requests.
pub async fn private(answers: impl Into<String>) -> (u16, String, Arc<Mutex<Vec<String>>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1", "inside.test", "idp.test"].map(str::to_owned);
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let (log, answers) = (heads.clone(), answers.into());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, log, answers) = (acceptor.clone(), log.clone(), answers.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut first = [0; 1];
                if stream.read_exact(&mut first).await.is_err() {
                    return;
                }
                let mut head = String::from_utf8(first.to_vec()).unwrap();
                while !head.ends_with("\r\n\r\n") {
                    head.push(char::from(stream.read_u8().await.unwrap()));
                }
                log.lock().unwrap().push(head.to_ascii_lowercase());
                if head.to_ascii_lowercase().contains("upgrade: websocket") {
                    welcome(stream, &head).await;
                    return;
                }
                let length = head.to_ascii_lowercase().lines().find_map(|line| {
                    line.strip_prefix("content-length:").map(|length| length.trim().parse().unwrap())
                });
                let mut body = vec![0; length.unwrap_or_default()];
                stream.read_exact(&mut body).await.unwrap();
                let length = answers.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answers}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
    });
    (port, authority, heads)
}

/// The server's part of Prefect's handshake, over any stream whose request was read already.
async fn welcome(mut stream: tokio_rustls::server::TlsStream<TcpStream>, head: &str) {
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.unwrap().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-protocol: prefect\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    let role = tokio_tungstenite::tungstenite::protocol::Role::Server;
    let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(stream, role, None).await;
    let _hello = socket.next().await;
    futures::SinkExt::send(&mut socket, Message::text(r#"{"type": "auth_success"}"#)).await.unwrap();
    let _filter = socket.next().await;
    // Until the client has had enough.
    let _ = socket.next().await;
}

pub fn allowed(hosts: &[&str]) -> AddressPolicy {
    AddressPolicy::new(hosts.iter().map(|host| host.parse().unwrap()))
}

#[tokio::test]
async fn a_private_authority_is_believed_where_it_is_named_and_the_websocket_believes_it_too() {
    let (port, authority, heads) = private("{}").await;
    let url = format!("https://127.0.0.1:{port}/api");
    let untrusted = client(with_policy("prefect", &url, allowed(&["127.0.0.1"])));
    let refused = PrefectError::Unreachable(Unreachable::Tls);
    assert_eq!(untrusted.work_pool_exists("p").await, Err(refused.clone()));
    assert_eq!(untrusted.events().await.err(), Some(refused));

    let mut headers = HeaderMap::new();
    headers.insert("x-proxy-key", HeaderValue::from_static(CANARY));
    let http = with_policy("prefect", &url, allowed(&["127.0.0.1"])).with_headers(headers);
    let trusted = client(http.trusting(Authorities::from_pem(authority.as_bytes()).unwrap()).unwrap());
    assert_eq!(trusted.work_pool_exists("p").await, Ok(true));
    drop(trusted.events().await.unwrap());
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 2);
    for head in heads.iter() {
        assert!(head.contains(&format!("x-proxy-key: {CANARY}")), "{head}");
    }
}

/// A proxy that connects everything to one port of this machine, and remembers what it was asked.
pub async fn forward_proxy(port: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let log = heads.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let log = log.clone();
            tokio::spawn(async move {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    head.push(char::from(near.read_u8().await.unwrap()));
                }
                log.lock().unwrap().push(head);
                near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (own, heads)
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used_for_named_hosts_and_past_it_nothing_changes() {
    let (port, authority, _) = private("{}").await;
    let (proxy, asked) = forward_proxy(port).await;
    let settings =
        |no: &str| Some(ProxySettings::new(&format!("http://who:{CANARY}@127.0.0.1:{proxy}"), no).unwrap());
    let http = |policy: AddressPolicy| {
        let http = with_policy("prefect", "https://inside.test/api", policy);
        http.trusting(Authorities::from_pem(authority.as_bytes()).unwrap()).unwrap()
    };
    // The name resolves at the proxy only.
    let through = client(http(allowed(&["inside.test"]).with_proxy(settings(""))));
    assert_eq!(through.work_pool_exists("p").await, Ok(true));
    drop(through.events().await.unwrap());
    let heads = asked.lock().unwrap().clone();
    assert_eq!(heads.len(), 2, "calls and the websocket");
    for head in &heads {
        assert!(head.starts_with("CONNECT inside.test:443 HTTP/1.1\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic "), "{head}");
    }
    let nameless: feedwater::http::Lookup =
        Arc::new(|_| Box::pin(async { Err(std::io::Error::other("no such name")) }));
    let past = allowed(&["inside.test"]).with_proxy(settings(".test")).with_lookup(nameless);
    let past = client(http(past)).work_pool_exists("p").await;
    assert_eq!(past, Err(PrefectError::Unreachable(Unreachable::Dns)), "NO_PROXY: directly");
    assert_eq!(asked.lock().unwrap().len(), 2);
}

/// The proxy resolves the name: what it dials cannot be vetted. So without a list nothing goes through it.
#[tokio::test]
async fn a_proxy_is_no_way_around_the_rule_of_addresses() {
    let (proxy, asked) = forward_proxy(1).await;
    let settings = ProxySettings::new(&format!("http://127.0.0.1:{proxy}"), "").unwrap();
    let refused = |host: &str| Unreachable::HostNotAllowed(host.to_owned());
    for (policy, host) in
        [(allowed(&[]), "metadata.example"), (allowed(&["inside.test"]), "metadata.example")]
    {
        let policy = policy.with_proxy(Some(settings.clone()));
        let http = with_policy("prefect", &format!("https://{host}/api"), policy);
        let call =
            feedwater::http::Call::new("test", feedwater::http::Method::GET, http.url(&["x"]).unwrap());
        assert_eq!(http.send(call).await.err(), Some(Failure::NotSent(refused(host))));
        assert_eq!(client(http).events().await.err(), Some(PrefectError::Unreachable(refused(host))));
    }
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
}
