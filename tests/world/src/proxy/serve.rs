//! One connection of a client: request after request, each passed on over a connection of its own to the server behind.

use std::io::Result;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::journal::Entry;
use super::line::Line;
use super::message::{Body, Head};
use super::rule::{Action, Armed, Effect, Position, Verdict};
use super::{Mode, State, events};

/// What comes after a call, or after a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Close,
    Reset,
}

/// Serves a client until one side ends, or the proxy is told to break the line.
pub(super) async fn serve(client: TcpStream, state: Arc<State>) {
    let _ = client.set_nodelay(true);
    let client = match &state.tls {
        None => Line::new(client),
        Some(tls) => match tls.accept(client).await {
            Ok(stream) => Line::new(stream),
            Err(_) => return,
        },
    };
    let websocket = watch::Sender::new(false);
    let mut is_websocket = websocket.subscribe();
    let mut mode = state.mode.subscribe();
    tokio::select! {
        () = Connection { client, upstream: None, state: Arc::clone(&state), websocket }.run() => {}
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

struct Connection {
    client: Line,
    /// One for one, as if the client were connected to the server itself.
    upstream: Option<Line>,
    state: Arc<State>,
    websocket: watch::Sender<bool>,
}

impl Connection {
    async fn run(mut self) {
        match self.calls().await {
            Ok(Next::Reset) => self.client.reset(),
            _ => self.client.close().await,
        }
    }

    async fn calls(&mut self) -> Result<Next> {
        loop {
            let head = tokio::select! {
                head = Head::read(&mut self.client) => head?,
                // A server that closes an idle connection is seen to do so.
                () = closed(self.upstream.as_mut()) => None,
            };
            let Some(head) = head else { return Ok(Next::Close) };
            let mut entry = Entry::of(&head);
            let body = head.request_body();
            entry.body = body.all(&mut self.client).await?;
            let next = self.call(&head, body, entry).await?;
            if next != Next::GoOn {
                return Ok(next);
            }
        }
    }

    async fn call(&mut self, head: &Head, body: Body, mut entry: Entry) -> Result<Next> {
        // Counted and written down in one go, so that the order of both is the same.
        let rules = {
            let _one_at_a_time = self.state.order.lock();
            self.state.journal.add(&mut entry);
            self.state.rules.call(&entry)
        };
        let call = Call { number: entry.sequence, entry, rules };
        let mut request = head.raw.to_vec();
        request.extend_from_slice(&body.framed(&call.entry.body));
        request.extend_from_slice(body.end());
        let next = self.exchange(&call, &request).await;
        self.state.journal.change(call.number, |entry| entry.ended = Some(crate::clock::now()));
        next
    }

    async fn exchange(&mut self, call: &Call, request: &[u8]) -> Result<Next> {
        if let Some(next) = self.act(call, Position::Before).await? {
            return Ok(next);
        }
        if call.entry.path.ends_with("/events/out") {
            self.websocket.send_replace(true);
            if self.state.mode.borrow().cut_websockets {
                return Ok(Next::Close);
            }
        }
        if call.has(|action| matches!(action, Action::Duplicate)) {
            let mut extra = self.state.upstream().connect().await?;
            let (head, body) = self.ask(call, &mut extra, request).await?;
            let _ = (head, body.all(&mut extra).await?);
        }
        let mut upstream = match self.upstream.take() {
            Some(upstream) => upstream,
            None => self.state.upstream().connect().await?,
        };
        let (head, body) = self.ask(call, &mut upstream, request).await?;
        let next = self.answer(call, &mut upstream, &head, body).await?;
        let last = body == Body::ToTheEnd
            || head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.upstream = Some(upstream);
        Ok(if last && next == Next::GoOn { Next::Close } else { next })
    }

    /// Sends the request and reads the head of the answer; those before it (1xx) are passed on.
    async fn ask(&mut self, call: &Call, upstream: &mut Line, request: &[u8]) -> Result<(Head, Body)> {
        self.state.journal.change(call.number, |entry| entry.sent += 1);
        upstream.send(request).await?;
        loop {
            let Some(head) = Head::read(upstream).await? else {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            };
            let status = head.status();
            if matches!(status, 100 | 102..=199) {
                self.client.send(&head.raw).await?;
                continue;
            }
            self.state.journal.change(call.number, |entry| entry.status = Some(status));
            let body = head.answer_body(&call.entry.verb);
            return Ok((head, body));
        }
    }

    async fn answer(
        &mut self,
        call: &Call,
        upstream: &mut Line,
        head: &Head,
        mut body: Body,
    ) -> Result<Next> {
        if head.status() == 101 {
            self.client.send(&head.raw).await?;
            self.client.join(upstream).await?;
            return Ok(Next::Close);
        }
        let frame = body;
        let truncate = call.has(|action| matches!(action, Action::Truncate));
        let mut whole = None;
        if !call.entry.is_watch() && (truncate || call.stands_at(Position::AfterApplied)) {
            whole = Some(body.all(upstream).await?);
        }
        if let Some(next) = self.act(call, Position::AfterApplied).await? {
            return Ok(next);
        }
        if let (true, Some(whole)) = (truncate, &whole) {
            return self.truncated(head, frame, whole).await;
        }
        self.client.send(&head.raw).await?;
        if let Some(whole) = whole {
            self.client.send(&frame.framed(&whole)).await?;
            self.client.send(frame.end()).await?;
        } else if call.entry.is_watch() && head.status() == 200 {
            let rules = self.state.rules.clone();
            let next = events::pass(&mut self.client, upstream, body, &rules, &call.entry).await?;
            if next != Next::GoOn {
                return Ok(next);
            }
        } else {
            while let Some(bytes) = body.next(upstream).await? {
                self.client.send(&frame.framed(&bytes)).await?;
            }
            self.client.send(frame.end()).await?;
        }
        Ok(self.act(call, Position::AfterAnswer).await?.unwrap_or(Next::GoOn))
    }

    /// The head, and half of what it announces.
    async fn truncated(&mut self, head: &Head, frame: Body, whole: &Bytes) -> Result<Next> {
        self.client.send(&head.raw).await?;
        let framed = frame.framed(whole);
        self.client.send(&framed[..framed.len() / 2]).await?;
        Ok(Next::Close)
    }

    /// Does what the rules want at this position; `Some` when the call is over.
    async fn act(&mut self, call: &Call, position: Position) -> Result<Option<Next>> {
        for (rule, at, action) in call.actions() {
            if at != position {
                continue;
            }
            match action {
                Action::Hook(hook) => {
                    let entry = self.state.journal.read()[call.number].clone();
                    if hook(entry).await == Verdict::Drop {
                        return Ok(Some(Next::Close));
                    }
                }
                Action::Drop => return Ok(Some(Next::Close)),
                Action::Reset => return Ok(Some(Next::Reset)),
                Action::Delay(time) => tokio::time::sleep(*time).await,
                Action::Stall => rule.until_released().await,
                Action::Answer(answer) if position != Position::AfterAnswer => {
                    self.client.send(&answer.bytes()).await?;
                    return Ok(Some(Next::GoOn));
                }
                Action::Answer(_) | Action::Truncate | Action::Duplicate => {}
            }
        }
        Ok(None)
    }
}

/// Waits for the end of a connection to the server behind, while nothing is asked of it.
async fn closed(upstream: Option<&mut Line>) {
    match upstream {
        Some(upstream) => upstream.closed().await,
        None => std::future::pending().await,
    }
}

/// A request and what is to happen to it.
struct Call {
    number: usize,
    entry: Entry,
    rules: Vec<Arc<Armed>>,
}

impl Call {
    fn actions(&self) -> impl Iterator<Item = (&Arc<Armed>, Position, &Action)> {
        self.rules.iter().filter_map(|rule| match &rule.rule.effect {
            Effect::Call(position, action) => Some((rule, *position, action)),
            Effect::Event(..) => None,
        })
    }

    fn has(&self, which: impl Fn(&Action) -> bool) -> bool {
        self.actions().any(|(_, _, action)| which(action))
    }

    fn stands_at(&self, position: Position) -> bool {
        self.actions().any(|(_, at, _)| at == position)
    }
}
