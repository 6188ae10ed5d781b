//! A reverse proxy for tests: it counts requests, and breaks the line when told to.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy in front of one HTTP/1.1 server; dropping it closes every connection.
///
/// It forwards bytes as they are and reads along with what the client sends, so websockets pass.
pub struct Proxy {
    url: String,
    state: Arc<State>,
    accept: JoinHandle<()>,
}

struct State {
    target: SocketAddr,
    mode: watch::Sender<Mode>,
    requests: Mutex<BTreeMap<String, usize>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mode {
    down: bool,
    cut_websockets: bool,
}

impl Proxy {
    /// A proxy on a free port in front of `target`, a URL such as `http://127.0.0.1:4200/api`.
    pub async fn start(target: &str) -> std::io::Result<Self> {
        let target = url::Url::parse(target).map_err(std::io::Error::other)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut url = target.clone();
        let _ = url.set_port(Some(listener.local_addr()?.port()));
        let address = target.socket_addrs(|| None)?.first().copied();
        let address = address.ok_or_else(|| std::io::Error::other("the target has no address"))?;
        let (mode, _) = watch::channel(Mode::default());
        let state = Arc::new(State { target: address, mode, requests: Mutex::default() });
        let accept = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { url: url.to_string().trim_end_matches('/').to_owned(), state, accept })
    }

    /// The target's URL with this proxy's port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether Prefect's event websocket (`…/events/out`) is refused; those that are open are closed at once.
    pub fn cut_websockets(&self, cut: bool) {
        self.state.mode.send_modify(|mode| mode.cut_websockets = cut);
    }

    /// Whether every connection is refused; those that are open are closed at once.
    pub fn set_down(&self, down: bool) {
        self.state.mode.send_modify(|mode| mode.down = down);
    }

    /// How many requests came, by method and path without query (`GET /api/ready`).
    pub fn requests(&self) -> BTreeMap<String, usize> {
        self.state.counts().clone()
    }

    /// How many requests came in all.
    pub fn total(&self) -> usize {
        self.state.counts().values().sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set_down(true);
        self.accept.abort();
    }
}

impl State {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if !state.mode.borrow().down {
            tokio::spawn(serve(client, Arc::clone(&state)));
        }
    }
}

async fn serve(client: TcpStream, state: Arc<State>) {
    let mut mode = state.mode.subscribe();
    let Ok(server) = TcpStream::connect(state.target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut client_reads, mut client_writes) = client.into_split();
    let (mut server_reads, mut server_writes) = server.into_split();
    let websocket = watch::Sender::new(false);
    let mut is_websocket = websocket.subscribe();
    tokio::select! {
        // Whatever ends first ends both directions.
        _ = requests(&mut client_reads, &mut server_writes, &state, &websocket) => {}
        _ = tokio::io::copy(&mut server_reads, &mut client_writes) => {}
        _ = mode.wait_for(|mode| mode.down) => {}
        () = cut(state.mode.subscribe(), &mut is_websocket) => {}
    }
}

/// Returns once this connection is a websocket and websockets are cut.
async fn cut(mut mode: watch::Receiver<Mode>, websocket: &mut watch::Receiver<bool>) {
    if websocket.wait_for(|yes| *yes).await.is_ok() {
        let _ = mode.wait_for(|mode| mode.cut_websockets).await;
    } else {
        std::future::pending::<()>().await;
    }
}

/// Forwards requests and counts them.
async fn requests(
    client: &mut (impl AsyncRead + Unpin),
    server: &mut (impl AsyncWrite + Unpin),
    state: &State,
    websocket: &watch::Sender<bool>,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let Some(head) = head(client, &mut buffer).await? else { return Ok(()) };
        let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
        let (line, headers) = text.split_once("\r\n").unwrap_or((&text, ""));
        *state.counts().entry(what(line)).or_insert(0) += 1;
        if line.contains("/events/out") {
            websocket.send_replace(true);
            if state.mode.borrow().cut_websockets {
                return Ok(());
            }
        }
        match body(headers) {
            Body::Length(length) => {
                let have = buffer.len().min(head + length);
                server.write_all(&buffer[..have]).await?;
                buffer.drain(..have);
                let mut rest = (&mut *client).take((head + length - have) as u64);
                tokio::io::copy(&mut rest, server).await?;
            }
            Body::Unbounded => {
                server.write_all(&buffer).await?;
                tokio::io::copy(client, server).await?;
                return Ok(());
            }
        }
    }
}

/// Reads until the buffer holds a whole request head and returns its length; `None` at the end of the connection.
async fn head(client: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
    loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        if client.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// How a request goes on after its head.
enum Body {
    Length(usize),
    /// A websocket or a chunked body: what follows on this connection is forwarded but no longer read.
    Unbounded,
}

fn body(headers: &str) -> Body {
    let mut length = 0;
    for (name, value) in headers.lines().filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "upgrade" | "transfer-encoding" => return Body::Unbounded,
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    Body::Length(length)
}

/// `GET /api/ready` of `GET /api/ready?x=y HTTP/1.1`.
fn what(line: &str) -> String {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    format!("{method} {}", path.split('?').next().unwrap_or_default())
}
