//! The fault proxy does to a call, or to an event of a watch, what the script says, at the point it says, and to no other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::{get, post};
use futures::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, oneshot};
use world::proxy::{Action, Answer, Class, EventAction, Position, Proxy, Rule, Verdict};

/// What the server behind has been asked, and the line to its watches.
#[derive(Clone)]
struct Server {
    heard: Arc<Mutex<Vec<String>>>,
    events: broadcast::Sender<String>,
}

impl Server {
    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    async fn start() -> (Self, Proxy) {
        let server = Self { heard: Arc::default(), events: broadcast::Sender::new(16) };
        let routes = Router::new()
            .route("/write/{id}", post(write).delete(write))
            .route("/chunks", get(async || Body::from_stream(chunks())))
            .route("/watch", get(watch))
            .with_state(server.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, routes).await });
        (server, Proxy::start(&url).await.unwrap())
    }
}

async fn write(State(server): State<Server>, body: String) -> String {
    server.heard.lock().unwrap().push(body.clone());
    format!("heard {body}")
}

async fn watch(State(server): State<Server>) -> Body {
    let events = futures::stream::unfold(server.events.subscribe(), |mut events| async {
        let line = events.recv().await.ok()?;
        Some((Ok::<_, Infallible>(line), events))
    });
    Body::from_stream(events)
}

fn chunks() -> impl futures::Stream<Item = Result<Bytes, Infallible>> {
    futures::stream::iter((0..50).map(|n| Ok(Bytes::from(format!("chunk {n};")))))
}

fn client() -> reqwest::Client {
    world::install_tls_provider();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Writes once; the answer's text, else what kind of error it is.
async fn send(proxy: &Proxy, id: &str, body: &str) -> Result<(u16, String), &'static str> {
    let call = client().post(format!("{}/write/{id}?dry=no", proxy.url())).body(body.to_owned()).send().await;
    let answer = call.map_err(|_| "no answer")?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await.map_err(|_| "half an answer")?))
}

#[allow(clippy::unnecessary_wraps, reason = "as `send` returns it")]
fn heard(body: &str) -> Result<(u16, String), &'static str> {
    Ok((200, format!("heard {body}")))
}

#[tokio::test]
async fn a_call_is_lost_before_it_or_after_it_was_applied_and_only_the_one_that_is_meant() {
    let (server, proxy) = Server::start().await;
    let rule = |action, n| Rule::on("POST", "/write/*", action).nth(n);
    proxy.add(rule(Action::Drop, 2));
    proxy.add(rule(Action::Reset, 3).at(Position::AfterApplied));
    proxy.add(Rule::on("DELETE", "/write/*", Action::Drop));
    assert_eq!(send(&proxy, "a", "one").await, heard("one"));
    assert_eq!(send(&proxy, "b", "two").await, Err("no answer"));
    assert_eq!(send(&proxy, "b", "three").await, Err("no answer"));
    assert_eq!(send(&proxy, "a", "four").await, heard("four"));
    assert_eq!(server.heard(), ["one", "three", "four"]);

    let journal = proxy.journal();
    let told: Vec<_> = journal.iter().map(|e| (e.sequence, e.what(), e.sent, e.status)).collect();
    assert_eq!(
        told,
        [
            (0, "POST /write/a".to_owned(), 1, Some(200)),
            (1, "POST /write/b".to_owned(), 0, None),
            (2, "POST /write/b".to_owned(), 1, Some(200)),
            (3, "POST /write/a".to_owned(), 1, Some(200)),
        ]
    );
    assert!(journal.iter().all(|e| e.is_mutating() && e.query == "dry=no" && e.ended >= Some(e.came)));
    assert_eq!(journal[1].body, "two");
}

#[tokio::test]
async fn a_hook_is_awaited_at_its_position_before_anything_goes_on() {
    for position in [Position::Before, Position::AfterApplied, Position::AfterAnswer] {
        let (server, proxy) = Server::start().await;
        let (told, seen) = oneshot::channel();
        let told = Mutex::new(Some(told));
        let go = Arc::new(tokio::sync::Notify::new());
        let gate = Arc::clone(&go);
        let hook = Action::hook(move |entry| {
            let _ = told.lock().unwrap().take().unwrap().send((entry.sent, entry.status));
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Verdict::Drop
            }
        });
        let rule = proxy.add(Rule::on("POST", "/write/a", hook).at(position));
        let call = tokio::spawn({
            let url = format!("{}/write/a", proxy.url());
            async move { client().post(url).body("one").send().await?.text().await }
        });
        let at_hook = seen.await.unwrap();
        assert_eq!(rule.fired(), 1);
        let expected = if position == Position::Before { (0, None) } else { (1, Some(200)) };
        assert_eq!(at_hook, expected, "{position:?}");
        let answered = position == Position::AfterAnswer;
        if !answered {
            assert!(!call.is_finished());
        }
        go.notify_one();
        assert_eq!(call.await.unwrap().is_ok(), answered, "{position:?}");
        assert_eq!(server.heard().len(), expected.0);
    }
}

#[tokio::test]
async fn a_status_is_answered_without_the_server_and_later_in_its_place() {
    let (server, proxy) = Server::start().await;
    let busy = Answer::status(429).header("Retry-After", "7").body("slow down");
    proxy.add(Rule::on("*", "/write/**", Action::Answer(busy)).times(1));
    proxy.add(Rule::on("POST", "/write/b", Action::Answer(Answer::status(502))).at(Position::AfterApplied));
    let refused = client().post(format!("{}/write/a", proxy.url())).body("one").send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "7");
    assert_eq!((refused.status().as_u16(), refused.text().await.unwrap().as_str()), (429, "slow down"));
    assert_eq!(send(&proxy, "b", "two").await.unwrap().0, 502);
    assert_eq!(send(&proxy, "a", "three").await, heard("three"));
    assert_eq!(server.heard(), ["two", "three"]);
}

#[tokio::test]
async fn an_answer_is_truncated_whatever_its_frame() {
    let (_server, proxy) = Server::start().await;
    proxy.add(Rule::on("*", "/**", Action::Truncate).times(2));
    assert_eq!(send(&proxy, "a", "one").await, Err("half an answer"));
    let read = async || client().get(format!("{}/chunks", proxy.url())).send().await.unwrap().text().await;
    assert!(read().await.is_err());
    assert_eq!(read().await.unwrap(), (0..50).map(|n| format!("chunk {n};")).collect::<Vec<_>>().concat());
}

#[tokio::test]
async fn a_request_is_duplicated_delayed_and_stalled() {
    let (server, proxy) = Server::start().await;
    proxy.add(Rule::on("POST", "/write/a", Action::Duplicate).nth(1));
    assert_eq!(send(&proxy, "a", "one").await, heard("one"));
    assert_eq!(server.heard(), ["one", "one"]);
    assert_eq!(proxy.journal()[0].sent, 2);

    let delay = Duration::from_millis(150);
    proxy.add(Rule::on("POST", "/write/slow", Action::Delay(delay)));
    let before = tokio::time::Instant::now();
    assert_eq!(send(&proxy, "slow", "two").await, heard("two"));
    assert!(before.elapsed() >= delay);

    let stalled = proxy.add(Rule::on("POST", "/write/still", Action::Stall).at(Position::AfterApplied));
    let (answer, ()) = tokio::join!(send(&proxy, "still", "three"), async {
        stalled.until_fired(1).await;
        proxy.until(|journal| journal.iter().any(|e| e.path.ends_with("still") && e.status.is_some())).await;
        assert!(proxy.journal().iter().all(|e| !e.path.ends_with("still") || e.ended.is_none()));
        stalled.release();
    });
    assert_eq!(answer, heard("three"));
}

#[tokio::test]
async fn reads_by_post_signing_in_and_leases_are_told_apart() {
    let (_server, proxy) = Server::start().await;
    for (path, class) in [
        ("/api/deployments/filter", Class::Read),
        ("/api/deployments/", Class::Write),
        ("/api/flow_runs/8d0/set_state", Class::Write),
        ("/api/3.21/auth/signin", Class::SignIn),
        ("/api/3.21/auth/signout", Class::SignIn),
        ("/apis/coordination.k8s.io/v1/namespaces/n/leases", Class::Lease),
        ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", Class::Read),
        ("/apis/events.k8s.io/v1/namespaces/n/events", Class::Write),
    ] {
        client().post(format!("{}{path}", proxy.url())).send().await.unwrap();
        assert_eq!(proxy.journal().last().unwrap().class, class, "{path}");
    }
}

/// A client of the watch.
struct Watch {
    answer: futures::stream::BoxStream<'static, reqwest::Result<Bytes>>,
    read: String,
}

impl Watch {
    async fn open(proxy: &Proxy) -> Self {
        let answer = client().get(format!("{}/watch?watch=true", proxy.url())).send().await.unwrap();
        Self { answer: answer.bytes_stream().boxed(), read: String::new() }
    }

    /// The next name of an event; `None` when the watch ends, `Some("…")` when it breaks off in half a line.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.read.split_once('\n') {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                let name = event["object"]["name"].as_str().map(str::to_owned);
                self.read = rest.into();
                return name.or_else(|| Some(format!("{} {}", event["type"], event["object"]["code"])));
            }
            match self.answer.next().await {
                Some(Ok(bytes)) => self.read += std::str::from_utf8(&bytes).unwrap(),
                Some(Err(_)) => return Some("…".to_owned()).filter(|_| !self.read.is_empty()),
                None => return None,
            }
        }
    }
}

impl Server {
    /// Sends events in such pieces that a line never comes alone.
    fn tell(&self, names: &[&str]) {
        let text = names
            .iter()
            .map(|name| format!("{}\n", serde_json::json!({"type": "MODIFIED", "object": {"name": name}})))
            .collect::<Vec<_>>()
            .concat();
        let half = text.len() / 2;
        for piece in [&text[..half], &text[half..]] {
            self.events.send(piece.to_owned()).unwrap();
        }
    }
}

#[tokio::test]
async fn events_are_skipped_replayed_and_held() {
    let (server, proxy) = Server::start().await;
    proxy.add(Rule::on_events("/watch", EventAction::Skip).nth(2));
    let replay = |event: &serde_json::Value| event["object"]["name"] == "d";
    proxy.add(Rule::on_events("/watch", EventAction::Replay).when_event(replay));
    let is_e = |event: &serde_json::Value| event["object"]["name"] == "e";
    let hold = proxy.add(Rule::on_events("/watch", EventAction::Hold).when_event(is_e));
    let mut watch = Watch::open(&proxy).await;
    server.tell(&["a", "b", "c", "d", "e", "f"]);
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(watch.next().await.unwrap());
    }
    assert_eq!(seen, ["a", "c", "d", "a", "c"]);
    hold.until_fired(1).await;
    assert!(futures::poll!(Box::pin(watch.next())).is_pending());
    hold.release();
    assert_eq!(watch.next().await.unwrap(), "e");
    assert_eq!(watch.next().await.unwrap(), "f");
}

#[tokio::test]
async fn a_watch_is_gone_and_cut_in_the_middle_of_a_line() {
    let (server, proxy) = Server::start().await;
    let nth = |n, action| Rule::on_events("/watch", action).nth(n);
    proxy.add(nth(2, EventAction::Gone));
    proxy.add(nth(2, EventAction::CutMidLine));
    let mut watch = Watch::open(&proxy).await;
    server.tell(&["a", "b"]);
    assert_eq!(watch.next().await.unwrap(), "a");
    assert_eq!(watch.next().await.unwrap(), "\"ERROR\" 410");
    assert_eq!(watch.next().await, None);

    let mut watch = Watch::open(&proxy).await;
    server.tell(&["c"]);
    assert_eq!(watch.next().await.unwrap(), "…");

    let gone = proxy.add(Rule::on("GET", "/watch", Action::Answer(Answer::status(410))));
    let answer = client().get(format!("{}/watch?watch=1", proxy.url())).send().await.unwrap();
    assert_eq!(answer.status(), 410);
    gone.remove();
    let mut watch = Watch::open(&proxy).await;
    server.tell(&["d"]);
    assert_eq!(watch.next().await.unwrap(), "d");
}

#[tokio::test]
async fn a_proxy_finds_a_server_that_moved() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let (_server, proxy) = Server::start().await;
    let routes = Router::new().fallback(async || COUNT.fetch_add(1, Ordering::SeqCst).to_string());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    proxy.retarget(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async { axum::serve(listener, routes).await });
    assert_eq!(send(&proxy, "a", "one").await, Ok((200, "0".to_owned())));
}
