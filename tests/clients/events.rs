//! Prefect's websocket: the handshake, the events, and every way it ends.

use crate::prefect::CANARY;
use crate::stub::{http, with_policy};
use feedwater::http::AddressPolicy;
use feedwater::prefect::{Auth, Prefect, PrefectClient, PrefectError, RunEvent};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

type Socket = WebSocketStream<TcpStream>;

/// How the client connected: target and offered subprotocol.
type Greeting = Arc<Mutex<Vec<(String, String)>>>;

/// Serves one connection by a script; gives the base URL.
async fn server<F>(script: impl FnOnce(Socket) -> F + Send + 'static) -> (String, Greeting)
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api", listener.local_addr().unwrap());
    let greeting = Greeting::default();
    let log = greeting.clone();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        #[allow(clippy::result_large_err)] // tungstenite's signature
        let accept = |request: &Request, mut response: Response| {
            let protocol = &request.headers()["sec-websocket-protocol"];
            log.lock().unwrap().push((request.uri().to_string(), protocol.to_str().unwrap().to_owned()));
            response.headers_mut().insert("sec-websocket-protocol", protocol.clone());
            Ok(response)
        };
        script(tokio_tungstenite::accept_hdr_async(tcp, accept).await.unwrap()).await;
    });
    (base, greeting)
}

async fn hear(socket: &mut Socket) -> Value {
    serde_json::from_str(socket.next().await.unwrap().unwrap().to_text().unwrap()).unwrap()
}

async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

/// Plays the server's part of the handshake; gives what the client said.
async fn welcome(socket: &mut Socket) -> (Value, Value) {
    let auth = hear(socket).await;
    say(socket, json!({"type": "auth_success"})).await;
    (auth, hear(socket).await)
}

async fn close(socket: &mut Socket, code: u16) {
    let frame = CloseFrame { code: code.into(), reason: CANARY.into() };
    socket.send(Message::Close(Some(frame))).await.unwrap();
}

fn client(base: &str) -> PrefectClient {
    let auth = Auth::Basic { username: "admin".into(), password: CANARY.into() };
    PrefectClient::new(http("prefect", base), auth).unwrap()
}

fn run_event(run: &str) -> Value {
    json!({"type": "event", "event": {"event": "prefect.flow-run.Skipped",
        "resource": {"prefect.resource.id": format!("prefect.flow-run.{run}"), "prefect.state-type": "COMPLETED"},
        "related": [{"prefect.resource.id": "prefect.flow.f1", "prefect.resource.role": "flow"},
            {"prefect.resource.id": "prefect.deployment.d1", "prefect.resource.role": "deployment"},
            {"prefect.resource.id": "prefect.work-queue.q1", "prefect.resource.role": "work-queue",
                "prefect.resource.name": "default"},
            {"prefect.resource.id": "prefect.work-pool.p1", "prefect.resource.role": "work-pool",
                "prefect.resource.name": "etl", "prefect.work-pool.type": "process"},
            {"prefect.resource.id": "prefect.tag.crm", "prefect.resource.role": "tag"},
            {"prefect.resource.id": "prefect.tag.a.b", "prefect.resource.role": "tag"}]}})
}

#[tokio::test]
async fn the_handshake_then_events_then_a_cut() {
    let (told, hear_told) = tokio::sync::oneshot::channel();
    let (base, greeting) = server(|mut socket| async move {
        told.send(welcome(&mut socket).await).unwrap();
        say(&mut socket, run_event("r1")).await;
        say(
            &mut socket,
            json!({"type": "event", "event": {"resource": {"prefect.resource.id": "prefect.worker.w"}}}),
        )
        .await;
        socket.send(Message::text("not json")).await.unwrap();
        let mut bare = run_event("r2");
        bare["event"].as_object_mut().unwrap().remove("related");
        say(&mut socket, bare).await;
    })
    .await;
    let events: Vec<_> = client(&base).events().await.unwrap().collect().await;
    let (auth, filter) = hear_told.await.unwrap();

    let tags = vec!["crm".to_owned(), "a.b".to_owned()];
    let first =
        RunEvent { run: "r1".into(), deployment: Some("d1".into()), tags, work_pool: Some("etl".into()) };
    let second = RunEvent { run: "r2".into(), deployment: None, tags: Vec::new(), work_pool: None };
    assert_eq!(events, [Ok(first), Ok(second), Err(PrefectError::Ambiguous)], "and then it ends");
    assert_eq!(*greeting.lock().unwrap(), [("/api/events/out".to_owned(), "prefect".to_owned())]);
    assert_eq!(auth, json!({"type": "auth", "token": format!("admin:{CANARY}")}), "raw, not base64");
    assert_eq!(
        filter,
        json!({"type": "filter", "backfill": false, "filter": {
            "event": {"prefix": ["prefect.flow-run."]},
            "resource": {"labels": {"prefect.state-type": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}},
            // An hour before the test's clock.
            "occurred": {"since": filter["filter"]["occurred"]["since"], "until": "2099-01-01T00:00:00Z"}}})
    );
    assert!(filter["filter"]["occurred"]["since"].as_str().unwrap().starts_with("2026-11-24T11:00:0"));
}

#[tokio::test]
async fn without_auth_the_token_is_null_and_with_a_key_it_is_the_key() {
    for (auth, token) in [(Auth::None, Value::Null), (Auth::ApiKey(CANARY.into()), json!(CANARY))] {
        let (told, hear_told) = tokio::sync::oneshot::channel();
        let (base, _) = server(|mut socket| async move {
            told.send(welcome(&mut socket).await.0).unwrap();
        })
        .await;
        let client = PrefectClient::new(http("prefect", &base), auth).unwrap();
        let _events = client.events().await.unwrap();
        assert_eq!(hear_told.await.unwrap()["token"], token);
    }
}

#[tokio::test]
async fn close_codes_are_decisions() {
    for (code, expected) in [
        (1008, PrefectError::Unauthorized),
        (1012, PrefectError::Unavailable),
        (1000, PrefectError::Ambiguous),
    ] {
        let before = server(move |mut socket| async move {
            hear(&mut socket).await;
            close(&mut socket, code).await;
        });
        let got = client(&before.await.0).events().await.err();
        assert_eq!(got, Some(expected.clone()), "{code} instead of a welcome");

        let after = server(move |mut socket| async move {
            welcome(&mut socket).await;
            close(&mut socket, code).await;
        });
        let mut events = client(&after.await.0).events().await.unwrap();
        assert_eq!(events.next().await, Some(Err(expected)), "{code} later");
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test]
async fn a_server_without_websockets_is_an_error_by_its_status() {
    for (status, expected) in [
        (403, PrefectError::Forbidden),
        (401, PrefectError::Unauthorized),
        (200, PrefectError::Rejected(200)),
    ] {
        let stub = crate::stub::Stub::always(status, json!({})).await;
        let client = PrefectClient::new(stub.http("prefect", "/api"), Auth::None).unwrap();
        assert_eq!(client.events().await.err(), Some(expected));
    }
}

#[tokio::test]
async fn https_becomes_wss_and_its_failure_is_told() {
    let stub = crate::stub::Stub::always(200, json!({})).await;
    let base = format!("https://127.0.0.1:{}/api", stub.port);
    let got = PrefectClient::new(http("prefect", &base), Auth::None).unwrap().events().await.err();
    assert_eq!(got, Some(PrefectError::Unreachable(feedwater::http::Unreachable::Tls)));
}

#[tokio::test]
async fn the_websocket_keeps_to_the_same_addresses() {
    let policy = AddressPolicy::new([])
        .with_lookup(Arc::new(|_| Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) })));
    for (base, host) in
        [("https://rebound.example/api", "rebound.example"), ("http://127.0.0.1:1/api", "127.0.0.1")]
    {
        let client = PrefectClient::new(with_policy("prefect", base, policy.clone()), Auth::None).unwrap();
        let refused = feedwater::http::Unreachable::HostNotAllowed(host.into());
        assert_eq!(client.events().await.err(), Some(PrefectError::Unreachable(refused)));
    }
}

#[tokio::test]
async fn a_connection_that_does_not_even_pong_is_lost() {
    let (base, _) = server(|mut socket| async move {
        welcome(&mut socket).await;
        // Not reading: no pong goes out.
        std::future::pending::<()>().await;
    })
    .await;
    let mut events = client(&base).events().await.unwrap();
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    assert_eq!(events.next().await, Some(Err(PrefectError::Ambiguous)));
    assert_eq!(began.elapsed().as_secs(), 60);
}
