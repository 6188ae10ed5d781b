//! Prefect's event websocket (reference 11), as hints: every loss is made good by the poll.

use super::client::Auth;
use super::{PrefectError, RunEvent, TERMINAL, wire};
use crate::http::{Http, Outcome, USER_AGENT, Unreachable, is_tls};
use crate::model::time::sub;
use futures::stream::{self, BoxStream};
use futures::{SinkExt, StreamExt};
use reqwest::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use secrecy::ExposeSecret;
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};
use url::Url;

/// Silence after which a ping is sent, and after which again the connection is lost.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest message read; an event carries the labels and tags of a run, not its parameters.
const MOST_MESSAGE: usize = 4 << 20;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connects, signs in and subscribes. The stream ends after its first error.
pub(super) async fn open(
    http: &Http,
    auth: &Auth,
) -> Result<BoxStream<'static, Result<RunEvent, PrefectError>>, PrefectError> {
    let began = http.clock().moment();
    let result =
        timeout(http.timeouts().total, subscribe(http, auth)).await.unwrap_or(Err(PrefectError::TimedOut));
    let outcome = match &result {
        Ok(_) => Outcome::Success,
        Err(PrefectError::Unreachable(_)) => Outcome::Unreachable,
        Err(PrefectError::Ambiguous | PrefectError::TimedOut) => Outcome::Unanswered,
        Err(PrefectError::Unavailable) => Outcome::ServerError,
        Err(_) => Outcome::Refused,
    };
    http.record("events", outcome, http.clock().moment().since(began));
    let socket = result?;
    Ok(stream::unfold(Some(socket), |socket| async move {
        let mut socket = socket?;
        match next_event(&mut socket).await {
            Ok(event) => Some((Ok(event), Some(socket))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed())
}

async fn subscribe(http: &Http, auth: &Auth) -> Result<Socket, PrefectError> {
    let mut socket = connect(http).await?;
    // The secret is exposed only into the frame.
    let token = auth.token();
    let hello = json!({"type": "auth", "token": token.as_ref().map(ExposeSecret::expose_secret)});
    say(&mut socket, hello.to_string()).await?;
    let welcome = next_text(&mut socket).await?;
    if !welcome.contains("auth_success") {
        return Err(PrefectError::WrongServer);
    }
    // Without a far `until` no live event ever comes [measured].
    // `since` leaves room for a difference of clocks.
    let since = sub(http.clock().now(), Duration::from_secs(3600));
    let filter = json!({"type": "filter", "backfill": false, "filter": {
        "event": {"prefix": ["prefect.flow-run."]},
        "resource": {"labels": {"prefect.state-type": TERMINAL}},
        "occurred": {"since": since, "until": "2099-01-01T00:00:00Z"},
    }});
    say(&mut socket, filter.to_string()).await?;
    Ok(socket)
}

async fn connect(http: &Http) -> Result<Socket, PrefectError> {
    let url = http.url(&["events", "out"]).ok_or(PrefectError::WrongServer)?;
    let tcp = http.dial(&url).await?;
    let mut request = websocket_url(url).as_str().into_client_request().map_err(|e| connect_error(&e))?;
    let headers = request.headers_mut();
    headers.extend(http.headers().clone());
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("prefect"));
    headers.insert(reqwest::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    let config = WebSocketConfig::default().max_message_size(Some(MOST_MESSAGE));
    let tls = http.tls()?.map(Connector::Rustls);
    let (socket, _) =
        client_async_tls_with_config(request, tcp, Some(config), tls).await.map_err(|e| connect_error(&e))?;
    Ok(socket)
}

fn websocket_url(mut url: Url) -> Url {
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    // http(s) to ws(s) are all special schemes: the change cannot fail.
    let _ = url.set_scheme(scheme);
    url
}

fn connect_error(error: &Error) -> PrefectError {
    match error {
        Error::Http(answer) => match answer.status().as_u16() {
            401 => PrefectError::Unauthorized,
            403 => PrefectError::Forbidden,
            404 => PrefectError::NotFound,
            503 => PrefectError::Unavailable,
            other => PrefectError::Rejected(other),
        },
        Error::Tls(_) => Unreachable::Tls.into(),
        Error::Io(io) if is_tls(io) => Unreachable::Tls.into(),
        Error::Protocol(_) => PrefectError::WrongServer,
        _ => PrefectError::Ambiguous,
    }
}

async fn say(socket: &mut Socket, text: String) -> Result<(), PrefectError> {
    socket.send(Message::text(text)).await.map_err(|_| PrefectError::Ambiguous)
}

async fn next_event(socket: &mut Socket) -> Result<RunEvent, PrefectError> {
    loop {
        if let Some(event) = wire::event(&next_text(socket).await?) {
            return Ok(event);
        }
    }
}

/// The next text. Anything that comes, a pong too, shows that the connection lives.
async fn next_text(socket: &mut Socket) -> Result<String, PrefectError> {
    let mut asked = false;
    loop {
        let Ok(message) = timeout(SILENCE, socket.next()).await else {
            if asked {
                return Err(PrefectError::Ambiguous);
            }
            asked = true;
            socket.send(Message::Ping(bytes::Bytes::new())).await.map_err(|_| PrefectError::Ambiguous)?;
            continue;
        };
        asked = false;
        match message {
            Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
            Some(Ok(Message::Close(frame))) => return Err(closed(frame.as_ref())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(PrefectError::Ambiguous),
        }
    }
}

/// 1008: not let in; 1012: the server restarts.
fn closed(frame: Option<&CloseFrame>) -> PrefectError {
    match frame.map(|f| f.code) {
        Some(CloseCode::Policy) => PrefectError::Unauthorized,
        Some(CloseCode::Restart | CloseCode::Again | CloseCode::Away) => PrefectError::Unavailable,
        _ => PrefectError::Ambiguous,
    }
}
