//! What is to happen to which request.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::journal::Entry;

/// A rule: which requests (or events of watches) it means, the how manieth of them, and what happens to it.
#[derive(Clone)]
pub struct Rule {
    verb: String,
    path: String,
    when: Vec<When>,
    skip: usize,
    times: usize,
    pub(super) effect: Effect,
}

type When = Arc<dyn Fn(&Entry) -> bool + Send + Sync>;
type EventWhen = Arc<dyn Fn(&Value) -> bool + Send + Sync>;

#[derive(Clone)]
pub(super) enum Effect {
    Call(Position, Action),
    Event(EventWhen, EventAction),
}

/// When during a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// The request has come and nothing of it was passed on.
    Before,
    /// The server has answered, and the client has seen nothing of it. Of a watch: the head of its answer has come.
    AfterApplied,
    /// The answer was written to the client.
    AfterAnswer,
}

/// What happens to a call.
#[derive(Clone)]
pub enum Action {
    /// Something of the test's own, awaited before anything goes on: see [`Action::hook`].
    Hook(Hook),
    /// The client's connection is closed in order.
    Drop,
    /// The client's connection is closed by RST.
    Reset,
    /// Everything waits.
    Delay(Duration),
    /// Everything waits until [`Handle::release`].
    Stall,
    /// This answer is given. At [`Position::Before`] the server behind hears nothing; later its answer is replaced.
    Answer(Answer),
    /// The answer's head and the first half of its body arrive, then the connection is closed; wherever the rule stands.
    Truncate,
    /// The request is sent twice, one after the other, and the second answer is passed on; wherever the rule stands.
    Duplicate,
}

/// See [`Action::hook`].
pub type Hook = Arc<dyn Fn(Entry) -> BoxFuture<'static, Verdict> + Send + Sync>;

/// What a hook wants to come after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The call goes on.
    GoOn,
    /// The client's connection is closed, the rest of the call does not happen.
    Drop,
}

impl Action {
    /// Calls `hook` with the request as known by then, and waits for its end.
    pub fn hook<F>(hook: impl Fn(Entry) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Verdict> + Send + 'static,
    {
        Self::Hook(Arc::new(move |entry| Box::pin(hook(entry))))
    }
}

/// What happens to an event of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventAction {
    /// This event and all later ones of the watch wait until [`Handle::release`].
    Hold,
    /// The client does not see it.
    Skip,
    /// After it, everything the watch has sent before is sent again.
    Replay,
    /// Instead of it comes the `ERROR` event of a resource version that is too old (410), and the end of the watch.
    Gone,
    /// The connection is closed in the middle of its line.
    CutMidLine,
}

/// An answer of the proxy itself.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    /// A status, with a Kubernetes `Status` as its body, which others do not look at.
    pub fn status(status: u16) -> Self {
        let reason = match status {
            409 => "Conflict",
            410 => "Expired",
            429 => "TooManyRequests",
            500..=599 => "InternalError",
            _ => "Unknown",
        };
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status,
            "reason": reason, "message": "by the fault proxy"});
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: body.to_string() }
    }

    /// With a header, such as `Retry-After`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// With another body.
    #[must_use]
    pub fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let headers: Vec<String> =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (status, length, body) = (self.status, self.body.len(), &self.body);
        format!(
            "HTTP/1.1 {status} By the fault proxy\r\n{}Content-Length: {length}\r\n\r\n{body}",
            headers.concat()
        )
        .into_bytes()
    }
}

impl Rule {
    /// What happens to the calls with this verb (`*`: any) and path, without query: `*` stands for one segment, `**` at the end for
    /// any rest. Each of them, at [`Position::Before`], unless said otherwise.
    pub fn on(verb: &str, path: &str, action: Action) -> Self {
        Self::new(verb, path, Effect::Call(Position::Before, action))
    }

    /// What happens to the events (`ADDED`, `MODIFIED`, `DELETED`) of Kubernetes watches of this path.
    pub fn on_events(path: &str, action: EventAction) -> Self {
        let change: EventWhen =
            Arc::new(|event| matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED" | "DELETED")));
        Self::new("GET", path, Effect::Event(change, action))
    }

    fn new(verb: &str, path: &str, effect: Effect) -> Self {
        Self {
            verb: verb.to_owned(),
            path: path.to_owned(),
            when: Vec::new(),
            skip: 0,
            times: usize::MAX,
            effect,
        }
    }

    /// Another moment of the call.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        if let Effect::Call(at, _) = &mut self.effect {
            *at = position;
        }
        self
    }

    /// Only the `n`th (from 1) that fits everything else.
    #[must_use]
    pub fn nth(mut self, n: usize) -> Self {
        self.skip = n.saturating_sub(1);
        self.times = 1;
        self
    }

    /// Only the first `times` (after those that [`Self::nth`] skips).
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Only requests of which this holds, too; of a rule on events: only watches of which it holds.
    #[must_use]
    pub fn when(mut self, when: impl Fn(&Entry) -> bool + Send + Sync + 'static) -> Self {
        self.when.push(Arc::new(when));
        self
    }

    /// Only events (`{"type": …, "object": …}`) of which this holds, instead of all changes.
    #[must_use]
    pub fn when_event(mut self, when: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        if let Effect::Event(which, _) = &mut self.effect {
            *which = Arc::new(when);
        }
        self
    }

    fn fits(&self, entry: &Entry) -> bool {
        (self.verb == "*" || self.verb == entry.verb)
            && path_fits(&self.path, &entry.path)
            && self.when.iter().all(|when| when(entry))
    }
}

fn path_fits(pattern: &str, path: &str) -> bool {
    let segments = |path: &str| path.trim_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, path) = (segments(pattern), segments(path));
    let rest = pattern.last().is_some_and(|last| last == "**");
    let fixed = &pattern[..pattern.len() - usize::from(rest)];
    (if rest { path.len() >= fixed.len() } else { path.len() == fixed.len() })
        && fixed.iter().zip(&path).all(|(wanted, found)| wanted == "*" || wanted == found)
}

/// A rule in force.
#[derive(Clone)]
pub struct Handle(Arc<Armed>);

pub(super) struct Armed {
    pub(super) rule: Rule,
    seen: AtomicUsize,
    removed: AtomicBool,
    fired: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

impl Handle {
    /// How often it has fired.
    pub fn fired(&self) -> usize {
        *self.0.fired.borrow()
    }

    /// Returns when it has fired `times` times. Of a rule with a hook this is before the hook has ended.
    pub async fn until_fired(&self, times: usize) {
        let _ = self.0.fired.subscribe().wait_for(|fired| *fired >= times).await;
    }

    /// Lets go what is stalled or held, now and from now on.
    pub fn release(&self) {
        self.0.released.send_replace(true);
    }

    /// Ends the rule, and lets go what is stalled or held.
    pub fn remove(&self) {
        self.0.removed.store(true, Ordering::SeqCst);
        self.release();
    }
}

impl Armed {
    /// Counts one that fits; whether this one is meant.
    fn count(&self) -> bool {
        if self.removed.load(Ordering::SeqCst) {
            return false;
        }
        let before = self.seen.fetch_add(1, Ordering::SeqCst);
        let meant = before >= self.rule.skip && before - self.rule.skip < self.rule.times;
        if meant {
            self.fired.send_modify(|fired| *fired += 1);
        }
        meant
    }

    /// What is to happen to this event of a watch that fits, if anything.
    pub(super) fn event(&self, event: &Value) -> Option<EventAction> {
        match &self.rule.effect {
            Effect::Event(when, action) if when(event) && self.count() => Some(*action),
            _ => None,
        }
    }

    pub(super) async fn until_released(&self) {
        let _ = self.released.subscribe().wait_for(|released| *released).await;
    }
}

/// All rules of a proxy, in the order in which they were added.
#[derive(Default)]
pub(super) struct Rules(Mutex<Vec<Arc<Armed>>>);

impl Rules {
    pub(super) fn add(&self, rule: Rule) -> Handle {
        let armed = Arc::new(Armed {
            rule,
            seen: AtomicUsize::new(0),
            removed: AtomicBool::new(false),
            fired: watch::Sender::new(0),
            released: watch::Sender::new(false),
        });
        self.lock().push(Arc::clone(&armed));
        Handle(armed)
    }

    /// Counts a call, and returns what is to happen to it.
    pub(super) fn call(&self, entry: &Entry) -> Vec<Arc<Armed>> {
        let call = |armed: &&Arc<Armed>| matches!(armed.rule.effect, Effect::Call(..));
        self.lock().iter().filter(call).filter(|a| a.rule.fits(entry) && a.count()).cloned().collect()
    }

    /// The rules on events that fit a watch.
    pub(super) fn events(&self, entry: &Entry) -> Vec<Arc<Armed>> {
        let event = |armed: &&Arc<Armed>| matches!(armed.rule.effect, Effect::Event(..));
        self.lock().iter().filter(event).filter(|a| a.rule.fits(entry)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Armed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
