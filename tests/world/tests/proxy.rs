//! The proxy counts what passes and breaks the line exactly where it is told to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;

use axum::Router;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use world::proxy::Proxy;

const UPGRADE: &[u8] = b"GET /api/events/out HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const OPEN: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const FRAME: &[u8] = b"a frame that is no request\r\n\r\n";

#[tokio::test]
async fn every_request_on_a_connection_is_counted_without_its_query() {
    let target = server().await;
    let proxy = Proxy::start(&format!("{target}/api")).await.unwrap();
    let client = client();
    for n in 0..3 {
        let url = format!("{}/ready?n={n}", proxy.url());
        assert_eq!(client.get(url).send().await.unwrap().text().await.unwrap(), "yes");
    }
    let body = "x".repeat(300_000);
    let echoed = client.post(format!("{}/echo", proxy.url())).body(body.clone()).send().await.unwrap();
    assert_eq!(echoed.text().await.unwrap(), body);
    client.get(format!("{}/ready", proxy.url())).send().await.unwrap();
    let expected = BTreeMap::from([("GET /api/ready".to_owned(), 4), ("POST /api/echo".to_owned(), 1)]);
    assert_eq!(proxy.requests(), expected);
}

#[tokio::test]
async fn a_proxy_that_is_down_answers_nothing_and_comes_back() {
    let target = server().await;
    let proxy = Proxy::start(&format!("{target}/api")).await.unwrap();
    let (client, url) = (client(), format!("{}/ready", proxy.url()));
    client.get(&url).send().await.unwrap();
    proxy.set_down(true);
    assert!(client.get(&url).send().await.is_err());
    proxy.set_down(false);
    assert!(client.get(&url).send().await.is_ok());
}

#[tokio::test]
async fn cut_websockets_are_closed_and_other_connections_stay() {
    let proxy = Proxy::start(&echo().await).await.unwrap();
    let mut socket = connect(&proxy).await;
    let mut other = connect(&proxy).await;
    exchange(&mut socket, UPGRADE, OPEN).await;
    exchange(&mut socket, FRAME, FRAME).await;
    exchange(&mut other, b"GET /api/flows HTTP/1.1\r\n\r\n", EMPTY).await;

    proxy.cut_websockets(true);
    assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
    let mut refused = connect(&proxy).await;
    refused.write_all(UPGRADE).await.unwrap();
    assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0);
    exchange(&mut other, b"GET /api/flows HTTP/1.1\r\n\r\n", EMPTY).await;

    proxy.cut_websockets(false);
    exchange(&mut connect(&proxy).await, UPGRADE, OPEN).await;
    assert_eq!(proxy.requests()["GET /api/events/out"], 3);
}

async fn server() -> String {
    let routes = Router::new()
        .route("/api/ready", get(async || "yes"))
        .route("/api/echo", post(async |body: String| body));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, routes).await });
    url
}

/// A server that lets a websocket open, answers other requests without a body, and sends back whatever comes on a websocket.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = stream;
                loop {
                    let head = read_head(&mut stream).await?;
                    if head.contains("Upgrade: websocket") {
                        stream.write_all(OPEN).await?;
                        let (mut reads, mut writes) = stream.split();
                        return tokio::io::copy(&mut reads, &mut writes).await;
                    }
                    stream.write_all(EMPTY).await?;
                }
            });
        }
    });
    url
}

fn client() -> reqwest::Client {
    world::install_tls_provider();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.url().trim_start_matches("http://")).await.unwrap()
}

async fn exchange(stream: &mut TcpStream, bytes: &[u8], expected: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    let mut back = vec![0; expected.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, expected);
}

async fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}
