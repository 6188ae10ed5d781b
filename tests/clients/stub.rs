//! A server that answers by a script and remembers what it was asked.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use feedwater::clock::Clock;
use feedwater::http::{AddressPolicy, Http, Timeouts};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use url::Url;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Seen {
    /// `METHOD target body`.
    pub fn line(&self) -> String {
        format!("{} {} {}", self.method, self.target, self.body).trim_end().to_owned()
    }
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What is answered.
#[derive(Clone)]
pub enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The connection is dropped without an answer.
    Reset,
    /// Nothing ever comes.
    Silence,
    /// The same after a while.
    Late(Duration, Box<Reply>),
}

/// An answer in JSON.
pub fn json(status: u16, body: &Value) -> Reply {
    text(status, &body.to_string())
}

/// An answer of any kind.
pub fn text(status: u16, body: &str) -> Reply {
    Reply::Answer { status, headers: vec![], body: body.to_owned() }
}

impl Reply {
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }
}

pub struct Stub {
    pub url: Url,
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Stub {
    pub async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, script) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::new(script));
        let log = seen.clone();
        let app = axum::Router::new().fallback(move |request: Request| {
            let (log, script) = (log.clone(), script.clone());
            async move {
                let seen = record(request).await;
                log.lock().unwrap().push(seen.clone());
                answer(script(&seen)).await
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url: Url::parse(&format!("http://127.0.0.1:{port}")).unwrap(), port, seen }
    }

    /// Answers the same to everything.
    pub async fn always(status: u16, body: Value) -> Self {
        Self::start(move |_| json(status, &body)).await
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.line().contains(part)).count()
    }

    pub fn http(&self, service: &'static str, base: &str) -> Http {
        http(service, &format!("{}{base}", self.url.as_str().trim_end_matches('/')))
    }
}

/// An `Http` that may call this machine.
pub fn http(service: &'static str, base: &str) -> Http {
    with_policy(service, base, AddressPolicy::new(["127.0.0.1".parse().unwrap()]))
}

pub fn with_policy(service: &'static str, base: &str, policy: AddressPolicy) -> Http {
    // Only the first installation counts.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let timeouts = Timeouts { connect: Duration::from_secs(2), total: Duration::from_secs(5) };
    let clock = Clock::virtual_from("2026-11-24T12:00:00.5Z".parse().unwrap());
    Http::new(service, policy, clock, Url::parse(base).unwrap(), timeouts).unwrap()
}

async fn record(request: Request) -> Seen {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Seen {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().unwrap().to_string(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

async fn answer(reply: Reply) -> Response {
    match reply {
        Reply::Answer { status, headers, body } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap()
        }
        // A panic ends the connection's task; this kind prints nothing.
        Reply::Reset => std::panic::resume_unwind(Box::new(())),
        Reply::Silence => std::future::pending().await,
        Reply::Late(after, reply) => {
            tokio::time::sleep(after).await;
            Box::pin(answer(*reply)).await
        }
    }
}
