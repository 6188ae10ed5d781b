//! Open watches.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::ApiServer;
use super::kinds::Kind;
use super::store::Event;

/// How often a watch that wants bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end it gets one more.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Watches {
    open: Vec<Watch>,
    held: HashMap<String, Vec<Event>>,
}

struct Watch {
    scope: Scope,
    lines: UnboundedSender<Line>,
}

/// What a watch is about.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) plural: String,
    pub(super) namespace: String,
    pub(super) name: Option<String>,
}

enum Line {
    Event(Bytes),
    /// The stream ends; broken off within a line if `true`.
    End(bool),
}

impl Scope {
    pub(super) fn includes(&self, (plural, namespace, name): &(String, String, String)) -> bool {
        *plural == self.plural
            && (self.namespace.is_empty() || *namespace == self.namespace)
            && self.name.as_ref().is_none_or(|wanted| wanted == name)
    }
}

impl Watches {
    /// Tells those whom it concerns, or keeps it while the kind is held.
    pub(super) fn tell(&mut self, event: &Event) {
        match self.held.get_mut(&event.key.0) {
            Some(held) => held.push(event.clone()),
            None => self.send(event),
        }
    }

    pub(super) fn send(&mut self, event: &Event) {
        let line = line(event.what, &event.object);
        self.open.retain(|watch| {
            !watch.scope.includes(&event.key) || watch.lines.send(Line::Event(line.clone())).is_ok()
        });
    }

    pub(super) fn hold(&mut self, plural: &str) {
        self.held.entry(plural.to_owned()).or_default();
    }

    pub(super) fn release(&mut self, plural: &str, skip: usize) {
        for event in self.held.remove(plural).unwrap_or_default().into_iter().skip(skip) {
            self.send(&event);
        }
    }

    pub(super) fn close(&mut self, plural: &str, mid_line: bool) {
        self.held.remove(plural);
        self.end(plural, || vec![Line::End(mid_line)]);
    }

    pub(super) fn expire(&mut self, plural: &str) {
        self.held.remove(plural);
        self.end(plural, || vec![Line::Event(expired()), Line::End(false)]);
    }

    fn end(&mut self, plural: &str, lines: impl Fn() -> Vec<Line>) {
        self.open.retain(|watch| {
            let ends = watch.scope.plural == plural;
            if ends {
                // Who is gone need not be told.
                for line in lines() {
                    let _ = watch.lines.send(line);
                }
            }
            !ends
        });
    }

    /// `None` while events of the kind are held: the watch has not seen the newest version.
    fn bookmark(&self, scope: &Scope, version: u64) -> Option<u64> {
        (!self.held.contains_key(&scope.plural)).then_some(version)
    }
}

/// A new watch; `first` is what it is told at once. To be called with the server's lock held by `watches`' owner, so that nothing comes between.
pub(super) fn open(
    watches: &mut Watches,
    server: &ApiServer,
    kind: &Kind,
    scope: Scope,
    first: Vec<Bytes>,
    bookmarks: bool,
    limit: Duration,
) -> Body {
    let (lines, arriving) = unbounded_channel();
    for line in first {
        // The receiver is right here.
        let _ = lines.send(Line::Event(line));
    }
    watches.open.push(Watch { scope: scope.clone(), lines });
    let now = Instant::now();
    let state = Stream {
        server: server.clone(),
        kind: kind.clone(),
        scope,
        arriving,
        end: now + limit,
        bookmark: bookmarks.then(|| next_bookmark(now, now + limit)),
    };
    Body::from_stream(futures::stream::unfold(Some(state), next))
}

/// A watch that is told only that it is too late.
pub(super) fn too_late() -> Body {
    Body::from(expired())
}

struct Stream {
    server: ApiServer,
    kind: Kind,
    scope: Scope,
    arriving: UnboundedReceiver<Line>,
    end: Instant,
    bookmark: Option<Instant>,
}

fn next_bookmark(now: Instant, end: Instant) -> Instant {
    let last = end - BOOKMARK_BEFORE_END;
    let next = now + BOOKMARK_EVERY;
    if now < last { next.min(last) } else { next }
}

type Chunk = Result<Bytes, super::Broken>;

async fn next(stream: Option<Stream>) -> Option<(Chunk, Option<Stream>)> {
    let mut stream = stream?;
    loop {
        let mark = stream.bookmark.unwrap_or(stream.end);
        tokio::select! {
            biased;
            line = stream.arriving.recv() => return match line? {
                Line::Event(line) => Some((Ok(line), Some(stream))),
                Line::End(false) => None,
                Line::End(true) => Some((Err(super::Broken), None)),
            },
            () = sleep_until(stream.end) => return None,
            () = sleep_until(mark) => {
                stream.bookmark = Some(next_bookmark(mark, stream.end));
                let version = {
                    let state = stream.server.state();
                    state.watches.bookmark(&stream.scope, state.store.version())
                };
                if let Some(version) = version {
                    return Some((Ok(bookmark(&stream.kind, version, false)), Some(stream)));
                }
            }
        }
    }
}

pub(super) fn line(what: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": what, "object": object})))
}

/// Where the watch has come to; `all`: the initial events end here.
pub(super) fn bookmark(kind: &Kind, version: u64, all: bool) -> Bytes {
    let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
    if all {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object = json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata});
    line("BOOKMARK", &object)
}

fn expired() -> Bytes {
    line("ERROR", &super::serve::status(&super::Refusal::Expired))
}
