//! What both clients share: vetted addresses, timeouts, capped bodies, redaction.

mod address;
mod failure;
mod proxy;
mod trust;

pub use address::{AddressPolicy, AllowedHost, BadAllowedHost, Lookup, is_public};
pub(crate) use failure::is_tls;
pub use failure::{Failure, Unreachable};
pub use proxy::{BadProxy, ProxySettings};
pub use trust::{Authorities, BadCertificate};

use crate::clock::Clock;
use crate::model::time::ClockReading;
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, RETRY_AFTER};
pub use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
pub use reqwest::{Method, StatusCode};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use url::Url;

/// `User-Agent` of every request.
pub const USER_AGENT: &str = concat!("feedwater/", env!("CARGO_PKG_VERSION"));
/// Most bytes of a successful answer.
pub const MOST_BODY: usize = 32 << 20;
/// Most bytes of an answer that tells of an error; only its code is wanted.
pub const MOST_ERROR_BODY: usize = 64 << 10;

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connection, with TLS.
    pub connect: Duration,
    /// For the whole call, from sending to the end of the body, unless the call brings its own.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(30) }
    }
}

/// HTTP to one base URL: no redirects, no cookies, no proxy but that of the policy, and no request is ever repeated.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    policy: AddressPolicy,
    clock: Clock,
    base: Url,
    timeouts: Timeouts,
    service: &'static str,
    headers: HeaderMap,
    authorities: Option<Authorities>,
    observer: Option<Observer>,
    reading: Arc<Mutex<Option<ClockReading>>>,
}

impl Http {
    /// HTTP to `base`; `service` names the other side in metrics (`prefect`, `tableau`). Each has its own connections. The process must have
    /// installed its rustls provider.
    ///
    /// # Errors
    /// TLS cannot be set up (no root certificates).
    pub fn new(
        service: &'static str,
        policy: AddressPolicy,
        clock: Clock,
        base: Url,
        timeouts: Timeouts,
    ) -> Result<Self, Unreachable> {
        let client = connections(&policy, timeouts, None)?;
        let (headers, authorities, observer) = (HeaderMap::new(), None, None);
        let reading = Arc::default();
        Ok(Self { client, policy, clock, base, timeouts, service, headers, authorities, observer, reading })
    }

    /// The same, with these headers on every request. Those of a call come before them.
    #[must_use]
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// The same, believing in these authorities too.
    ///
    /// # Errors
    /// TLS cannot be set up with them.
    pub fn trusting(mut self, authorities: Authorities) -> Result<Self, Unreachable> {
        self.client = connections(&self.policy, self.timeouts, Some(&authorities))?;
        self.authorities = Some(authorities);
        Ok(self)
    }

    /// The headers of every request.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// TLS for a connection of [`Self::dial`], where it is not the usual one.
    ///
    /// # Errors
    /// It cannot be set up.
    pub fn tls(&self) -> Result<Option<Arc<rustls::ClientConfig>>, Unreachable> {
        self.authorities.as_ref().map(Authorities::for_socket).transpose()
    }

    /// The same, telling `observer` of every call.
    #[must_use]
    pub fn observed_by(mut self, observer: Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// The base URL with these path segments appended, percent-encoded; an empty last one ends the path with a slash. `None` for `.` and
    /// `..`, which no URL can carry.
    pub fn url(&self, segments: &[&str]) -> Option<Url> {
        if segments.iter().any(|s| matches!(*s, "." | "..")) {
            return None;
        }
        let mut url = self.base.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend(segments);
        Some(url)
    }

    /// Whether a URL may be called at all, as far as can be said without resolving it.
    ///
    /// # Errors
    /// Its host is not allowed.
    pub fn check(&self, url: &Url) -> Result<(), Unreachable> {
        self.policy.check(url)
    }

    /// What the newest answer said about the other side's clock.
    pub fn reading(&self) -> Option<ClockReading> {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock this was made with.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Longest wait for a connection and for a call.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Sends once. Any status is an answer.
    ///
    /// # Errors
    /// There is no whole answer, and whether the request can have arrived.
    pub async fn send(&self, call: Call) -> Result<Answer, Failure> {
        let (operation, began) = (call.operation, self.clock.moment());
        let result = self.exchange(call).await;
        self.record(operation, Outcome::of(&result), self.clock.moment().since(began));
        result
    }

    /// Tells the observer of a call that did not go through [`Self::send`].
    pub fn record(&self, operation: &'static str, outcome: Outcome, duration: Duration) {
        tracing::debug!(service = self.service, operation, ?outcome, ?duration, "called");
        if let Some(observer) = &self.observer {
            observer(&CallRecord { service: self.service, operation, outcome, duration });
        }
    }

    /// A TCP connection to a URL's host, under the same policy.
    ///
    /// # Errors
    /// The host is not allowed, does not resolve, or does not accept.
    pub async fn dial(&self, url: &Url) -> Result<TcpStream, Unreachable> {
        self.policy.check(url)?;
        let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or(Unreachable::Dns)?;
        let through = self.policy.proxy(url);
        let connect = async {
            let (far, far_port) = through
                .as_ref()
                .map_or(Some((host, port)), proxy::Through::address)
                .ok_or(Unreachable::Dns)?;
            let addresses = self.policy.resolve(far, far_port).await?;
            let mut stream =
                TcpStream::connect(addresses.as_slice()).await.map_err(|_| Unreachable::Connect)?;
            if let Some(through) = &through {
                through.tunnel(&mut stream, host, port).await?;
            }
            Ok(stream)
        };
        tokio::time::timeout(self.timeouts.connect, connect).await.map_err(|_| Unreachable::Connect)?
    }

    async fn exchange(&self, call: Call) -> Result<Answer, Failure> {
        self.check(&call.url)?;
        let mut headers = self.headers.clone();
        headers.extend(call.headers);
        let mut request = self.client.request(call.method, call.url).headers(headers);
        request = match call.body {
            Body::Json(value) => request.json(&value),
            Body::Form(text) => request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(text),
            // hyper would leave it out, and some gateways answer that with 411.
            Body::Empty => request.header(CONTENT_LENGTH, "0"),
            Body::None => request,
        };
        if let Some(deadline) = call.deadline {
            request = request.timeout(deadline);
        }
        let sent = self.clock.moment();
        let response = request.send().await?;
        let received = self.clock.moment();
        let date = response.headers().get(DATE).and_then(http_date);
        if let Some(date) = date {
            self.keep(ClockReading { date, sent, received });
        }
        let status = response.status();
        let retry_after = retry_after(response.headers(), date.unwrap_or_else(|| self.clock.now()));
        let body = read(response, if status.is_success() { MOST_BODY } else { MOST_ERROR_BODY }).await;
        // The status of an error says enough even when its body is cut off or endless.
        let body = if status.is_success() { body? } else { body.unwrap_or_default() };
        Ok(Answer { status, body, retry_after })
    }

    fn keep(&self, new: ClockReading) {
        let mut newest = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.is_none_or(|old| old.received < new.received) {
            *newest = Some(new);
        }
    }
}

fn connections(
    policy: &AddressPolicy,
    timeouts: Timeouts,
    authorities: Option<&Authorities>,
) -> Result<reqwest::Client, Unreachable> {
    // The environment's proxy is the policy's business: reqwest's own look at it is off.
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .dns_resolver(policy.clone())
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .connect_timeout(timeouts.connect)
        .timeout(timeouts.total);
    if let Some(proxy) = policy.proxy_settings() {
        builder = builder.proxy(proxy.for_client().map_err(|_| Unreachable::Connect)?);
    }
    if let Some(authorities) = authorities {
        builder = builder.tls_certs_merge(authorities.for_client()?);
    }
    builder.build().map_err(|_| Unreachable::Tls)
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("service", &self.service)
            .field("host", &self.base.host_str())
            .finish_non_exhaustive()
    }
}

/// A header of somebody's own, marked as secret; surrounding white space is not part of its value. None: it is none.
pub fn secret_header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// A request.
pub struct Call {
    /// Its name in metrics.
    pub operation: &'static str,
    /// Its method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Its headers; secret ones are marked sensitive.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Body,
    /// Its own limit of time.
    pub deadline: Option<Duration>,
}

impl Call {
    /// A call that wants JSON.
    pub fn new(operation: &'static str, method: Method, url: Url) -> Self {
        let headers =
            HeaderMap::from_iter([(reqwest::header::ACCEPT, HeaderValue::from_static("application/json"))]);
        Self { operation, method, url, headers, body: Body::None, deadline: None }
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(mut self, body: serde_json::Value) -> Self {
        self.body = Body::Json(body);
        self
    }

    /// With a form, encoded as such.
    #[must_use]
    pub fn form(mut self, body: String) -> Self {
        self.body = Body::Form(body);
        self
    }

    /// With a body of no bytes.
    #[must_use]
    pub fn empty(mut self) -> Self {
        self.body = Body::Empty;
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// What a request carries.
pub enum Body {
    /// Nothing.
    None,
    /// A body of length zero.
    Empty,
    /// JSON.
    Json(serde_json::Value),
    /// `application/x-www-form-urlencoded`; may hold secrets.
    Form(String),
}

/// An answer. Its body may echo secrets: it goes into no log, error or status.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body; of an error at most [`MOST_ERROR_BODY`], else empty.
    pub body: Bytes,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// Is told of every call, once.
pub type Observer = Arc<dyn Fn(&CallRecord) + Send + Sync>;

/// One call, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRecord {
    /// Whom.
    pub service: &'static str,
    /// What for.
    pub operation: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub duration: Duration,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A 2xx.
    Success,
    /// A 3xx, not followed.
    Redirect,
    /// A 4xx but 429.
    Refused,
    /// 429.
    Throttled,
    /// A 5xx.
    ServerError,
    /// It was not sent.
    Unreachable,
    /// It was sent, and no whole answer came.
    Unanswered,
}

impl Outcome {
    fn of(result: &Result<Answer, Failure>) -> Self {
        match result {
            Ok(answer) => Self::of_status(answer.status),
            Err(Failure::NotSent(_)) => Self::Unreachable,
            Err(Failure::Unanswered | Failure::TimedOut) => Self::Unanswered,
        }
    }

    /// By status alone.
    pub fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            429 => Self::Throttled,
            400..=499 => Self::Refused,
            500.. => Self::ServerError,
            300..=399 => Self::Redirect,
            _ => Self::Success,
        }
    }
}

async fn read(response: reqwest::Response, most: usize) -> Result<Bytes, Failure> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(Failure::from)?;
        if body.len() + chunk.len() > most {
            tracing::warn!(most, "an answer was longer than allowed and was dropped");
            return Err(Failure::Unanswered);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

fn http_date(value: &HeaderValue) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(value.to_str().ok()?).ok()
}

/// Seconds, or a date to be read against the other side's own clock.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    if let Some(seconds) = value.to_str().ok().and_then(|s| s.trim().parse().ok()) {
        return Some(Duration::from_secs(seconds));
    }
    Some(Duration::try_from(http_date(value)?.duration_since(now)).unwrap_or_default())
}
