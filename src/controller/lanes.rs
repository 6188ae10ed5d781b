//! Who may write to a remote now. A reconcile never waits for a busy or slow remote: without a pass it leaves its name and is woken later
//! [measured: one slow remote starves all the others otherwise].

use crate::clock::Clock;
use crate::model::connection::{ConnectionState, Weight};
use crate::model::ids::ObjectName;
use crate::model::pace::{Load, Pace};
use crate::model::time::Moment;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How long to wait to be called before asking again: a slot is offered once, and whoever it was offered to may have no more use for it.
pub const IN_LINE: Duration = Duration::from_secs(10);

/// How long a slot is kept for whoever it was offered to, from those who come after it: a woken reconcile asks within milliseconds.
const KEPT: Duration = Duration::from_secs(1);

/// Called when a slot is free for the one who left the name.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The write slots of one origin.
pub struct Lane {
    inner: Mutex<Inner>,
}

struct Inner {
    clock: Clock,
    limit: Limit,
    busy: usize,
    waiting: BTreeMap<Priority, Queue>,
    /// Who has been called and has not asked yet.
    offers: Vec<Offer>,
}

/// A slot that somebody was called for.
struct Offer {
    priority: Priority,
    namespace: String,
    name: String,
    /// Until then nobody of a lower priority takes it.
    until: Moment,
}

/// How many writes may be in flight.
enum Limit {
    Fixed(usize),
    Adaptive {
        pace: Pace,
        /// What each connection object allows; of those that count, the least holds.
        ceilings: BTreeMap<ObjectName, (usize, Weight)>,
    },
}

impl Limit {
    fn slots(&self, now: Moment) -> usize {
        match self {
            Self::Fixed(slots) => *slots,
            Self::Adaptive { pace, ceilings } => pace.slots(now, ceiling(ceilings)),
        }
    }
}

impl Inner {
    /// Slots that nobody has.
    fn free(&self, now: Moment) -> usize {
        self.limit.slots(now).saturating_sub(self.busy)
    }

    /// Slots that are kept for those who come before this priority, or for anybody.
    fn kept(&self, before: Option<Priority>, now: Moment) -> usize {
        let live = self.offers.iter().filter(|offer| now < offer.until);
        live.filter(|offer| before.is_none_or(|priority| offer.priority < priority)).count()
    }
}

/// The least of what is allowed. Nobody has said anything: one.
fn ceiling(ceilings: &BTreeMap<ObjectName, (usize, Weight)>) -> usize {
    Weight::least(ceilings.values().copied(), usize::min).unwrap_or(1)
}

/// The lanes of servers, by origin: all connections to one server share its lane.
#[derive(Default)]
pub struct Lanes(Mutex<HashMap<String, Weak<Lane>>>);

impl Lanes {
    /// The lane of an origin, which adapts to what the server bears.
    pub fn of(&self, origin: &str, clock: &Clock) -> Arc<Lane> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(origin).and_then(Weak::upgrade) {
            return lane;
        }
        let lane = Lane::adaptive(clock.clone());
        lanes.retain(|_, lane| lane.strong_count() > 0);
        lanes.insert(origin.to_owned(), Arc::downgrade(&lane));
        lane
    }
}

/// One queue per namespace, served in turn, so that a namespace with a thousand changes does not starve the next.
#[derive(Default)]
struct Queue {
    turns: VecDeque<String>,
    by_namespace: HashMap<String, VecDeque<(String, Waker)>>,
    known: HashSet<(String, String)>,
}

/// What goes first. Smaller is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody changed the resource.
    Changed,
    /// A refresh is due.
    Triggered,
    /// Everything else, the first look after a start among it.
    Rest,
    /// Telling others of what happened: whatever waits goes before it.
    Report,
}

/// The right to write; gives the slot back when dropped.
pub struct Pass {
    lane: Arc<Lane>,
}

impl Lane {
    /// A lane with this many writes in flight at most.
    pub fn new(limit: usize, clock: Clock) -> Arc<Self> {
        Self::with(Limit::Fixed(limit), clock)
    }

    /// A lane that begins with one write in flight and adapts.
    pub fn adaptive(clock: Clock) -> Arc<Self> {
        Self::with(Limit::Adaptive { pace: Pace::default(), ceilings: BTreeMap::new() }, clock)
    }

    fn with(limit: Limit, clock: Clock) -> Arc<Self> {
        let (waiting, offers) = (BTreeMap::new(), Vec::new());
        Arc::new(Self { inner: Mutex::new(Inner { clock, limit, busy: 0, waiting, offers }) })
    }

    /// How many writes a connection object allows at once, which counts for the others as long as it is let in; and how it is now.
    pub fn allow(&self, object: &ObjectName, most: usize, state: &ConnectionState) {
        if let Limit::Adaptive { ceilings, .. } = &mut self.lock().limit {
            let known = ceilings.get(object).map(|(_, weight)| *weight);
            ceilings.insert(object.clone(), (most, known.unwrap_or_default().after(state)));
        }
        self.wake();
    }

    /// A connection object is gone, or leads elsewhere.
    pub fn leave_out(&self, object: &ObjectName) {
        if let Limit::Adaptive { ceilings, .. } = &mut self.lock().limit {
            ceilings.remove(object);
        }
        self.wake();
    }

    /// Takes in what a call that was sent at `sent` says about the server's load.
    pub fn told(self: &Arc<Self>, load: Load, sent: Moment) {
        let silence = {
            let mut inner = self.lock();
            let (busy, now) = (inner.busy, inner.clock.moment());
            let Limit::Adaptive { pace, ceilings } = &mut inner.limit else { return };
            pace.take(load, sent, now, busy, ceiling(ceilings));
            pace.silent_until(now).map(|until| until.since(now))
        };
        if let Some(silence) = silence {
            // Nobody leaves the lane at the end of a silence; those who wait are to know of it.
            let lane = Arc::downgrade(self);
            tokio::spawn(async move {
                // A little longer: at its very end it would still be one.
                tokio::time::sleep(silence + Duration::from_millis(1)).await;
                if let Some(lane) = lane.upgrade() {
                    lane.wake();
                }
            });
        }
    }

    /// A pass, or `None` and `waker` is called once when a slot is free. Asking again with the same name keeps the place in the queue. A slot that
    /// somebody before it was called for is not free.
    pub fn enter(
        self: &Arc<Self>,
        namespace: &str,
        name: &str,
        priority: Priority,
        waker: Waker,
    ) -> Option<Pass> {
        let mut inner = self.lock();
        let now = inner.clock.moment();
        inner
            .offers
            .retain(|offer| now < offer.until && !(offer.namespace == namespace && offer.name == name));
        if inner.free(now) > inner.kept(Some(priority), now) {
            inner.busy += 1;
            return Some(Pass { lane: self.clone() });
        }
        inner.waiting.entry(priority).or_default().push(namespace, name, waker);
        None
    }

    /// Waits for a pass: for those who may wait, which no reconcile may.
    pub async fn pass(self: &Arc<Self>, namespace: &str, name: &str, priority: Priority) -> Pass {
        let free = Arc::new(Notify::new());
        loop {
            let wake = free.clone();
            let waker: Waker = Arc::new(move || wake.notify_one());
            if let Some(pass) = self.enter(namespace, name, priority, waker) {
                return pass;
            }
            // Called or not, it asks again.
            let _ = tokio::time::timeout(IN_LINE, free.notified()).await;
        }
    }

    fn leave(&self) {
        {
            let mut inner = self.lock();
            inner.busy = inner.busy.saturating_sub(1);
        }
        self.wake();
    }

    /// Wakes as many as there are free slots. The woken one asks again; until then, and for a while, whoever comes after it gets none. Among equals
    /// the first to ask takes it.
    fn wake(&self) {
        let next: Vec<Waker> = {
            let mut inner = self.lock();
            let now = inner.clock.moment();
            inner.offers.retain(|offer| now < offer.until);
            let mut next = Vec::new();
            for _ in inner.kept(None, now)..inner.free(now) {
                let mut waiting = inner.waiting.iter_mut();
                let first = waiting.find_map(|(priority, queue)| Some((*priority, queue.pop()?)));
                let Some((priority, (namespace, name, waker))) = first else { break };
                inner.offers.push(Offer { priority, namespace, name, until: now.plus(KEPT) });
                next.push(waker);
            }
            next
        };
        for wake in next {
            wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, namespace: &str, name: &str, waker: Waker) {
        if !self.known.insert((namespace.to_owned(), name.to_owned())) {
            return;
        }
        let queue = self.by_namespace.entry(namespace.to_owned()).or_default();
        if queue.is_empty() {
            self.turns.push_back(namespace.to_owned());
        }
        queue.push_back((name.to_owned(), waker));
    }

    /// Namespace and name of the next, and how to call it.
    fn pop(&mut self) -> Option<(String, String, Waker)> {
        let namespace = self.turns.pop_front()?;
        let queue = self.by_namespace.get_mut(&namespace)?;
        let (name, waker) = queue.pop_front()?;
        let more = !queue.is_empty();
        let known = (namespace, name);
        self.known.remove(&known);
        let (namespace, name) = known;
        if more {
            self.turns.push_back(namespace.clone());
        } else {
            self.by_namespace.remove(&namespace);
        }
        Some((namespace, name, waker))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.lane.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::connection::Trouble;

    fn lane(slots: usize) -> Arc<Lane> {
        Lane::new(slots, Clock::virtual_from("2026-11-24T10:00:00Z".parse().unwrap()))
    }

    fn waker(log: &Arc<Mutex<Vec<String>>>, name: &str) -> Waker {
        let (log, name) = (log.clone(), name.to_owned());
        Arc::new(move || log.lock().unwrap().push(name.clone()))
    }

    #[tokio::test(start_paused = true)]
    async fn slots_go_round_the_namespaces_and_changes_go_first() {
        let lane = lane(1);
        let log = Arc::default();
        let mut pass = lane.enter("a", "busy", Priority::Rest, waker(&log, "busy"));
        assert!(pass.is_some());
        for (namespace, name) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a1")] {
            assert!(lane.enter(namespace, name, Priority::Rest, waker(&log, name)).is_none());
        }
        assert!(lane.enter("c", "c1", Priority::Changed, waker(&log, "c1")).is_none());
        for (namespace, called, priority) in [
            ("c", "c1", Priority::Changed),
            ("a", "a1", Priority::Rest),
            ("b", "b1", Priority::Rest),
            ("a", "a2", Priority::Rest),
        ] {
            drop(pass.take());
            assert_eq!(log.lock().unwrap().last().unwrap(), called);
            pass = lane.enter(namespace, called, priority, waker(&log, called));
            assert!(pass.is_some(), "{called}");
        }
        drop(pass);
        assert_eq!(log.lock().unwrap().len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_waits_until_nobody_else_does() {
        let lane = lane(1);
        let log = Arc::default();
        let pass = lane.enter("a", "busy", Priority::Rest, waker(&log, "busy"));
        let report = lane.pass("a", "report", Priority::Report);
        tokio::pin!(report);
        assert!(futures::poll!(&mut report).is_pending());
        assert!(lane.enter("a", "later", Priority::Rest, waker(&log, "later")).is_none());
        drop(pass);
        assert_eq!(*log.lock().unwrap(), ["later"], "it came later and goes first");
        assert!(futures::poll!(&mut report).is_pending());
        drop(lane.enter("a", "later", Priority::Rest, waker(&log, "later")));
        report.await;
    }

    /// A report is told call by call, and asks for the next slot in the very moment in which it gives one back: before whoever is called then.
    #[tokio::test(start_paused = true)]
    async fn a_report_does_not_take_again_what_it_has_given_back_for_a_change() {
        let lane = lane(1);
        let log = Arc::default();
        let first = lane.pass("a", "report", Priority::Report).await;
        assert!(lane.enter("b", "edit", Priority::Changed, waker(&log, "edit")).is_none());
        drop(first);
        let second = lane.pass("a", "report", Priority::Report);
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending(), "it is kept for the change");
        assert_eq!(*log.lock().unwrap(), ["edit"]);
        tokio::time::sleep(KEPT / 2).await;
        let edit = lane.enter("b", "edit", Priority::Changed, waker(&log, "edit"));
        assert!(edit.is_some());
        drop(edit);
        second.await;
        // What is kept for those of lower priority does not hold up a change, nor does what nobody asks for hold up anybody for long.
        let pass = lane.enter("a", "busy", Priority::Rest, waker(&log, "busy"));
        assert!(lane.enter("a", "rest", Priority::Rest, waker(&log, "rest")).is_none());
        drop(pass);
        drop(lane.enter("b", "edit", Priority::Changed, waker(&log, "edit")).unwrap());
        assert!(lane.enter("a", "report", Priority::Report, waker(&log, "report")).is_none());
        tokio::time::sleep(KEPT + Duration::from_millis(1)).await;
        assert!(lane.enter("a", "report", Priority::Report, waker(&log, "report")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_does_not_depend_on_those_who_were_called_before_it() {
        let lane = lane(1);
        let log = Arc::default();
        let pass = lane.enter("a", "busy", Priority::Rest, waker(&log, "busy"));
        assert!(lane.enter("a", "needless", Priority::Rest, waker(&log, "needless")).is_none());
        let report = lane.pass("a", "report", Priority::Report);
        tokio::pin!(report);
        assert!(futures::poll!(&mut report).is_pending());
        drop(pass);
        assert_eq!(*log.lock().unwrap(), ["needless"], "it is called, and writes nothing");
        assert!(tokio::time::timeout(IN_LINE + Duration::from_millis(1), report).await.is_ok());
    }

    /// One at first, more as the server bears it; at a refusal silence, whose end those who wait are told of.
    #[tokio::test(start_paused = true)]
    async fn a_lane_adapts_and_goes_on_by_itself_after_a_silence() {
        let clock = Clock::virtual_from("2026-11-24T10:00:00Z".parse().unwrap());
        let lanes = Lanes::default();
        let lane = lanes.of("https://prefect.example", &clock);
        assert!(Arc::ptr_eq(&lane, &lanes.of("https://prefect.example", &clock)), "one for a server");
        assert!(!Arc::ptr_eq(&lane, &lanes.of("https://other.example", &clock)));
        let object = |name: &str| ObjectName { namespace: "a".into(), name: name.into() };
        let connected = ConnectionState::Connected { version: "3.4".into() };
        lane.allow(&object("prod"), 4, &connected);
        lane.allow(&object("careful"), 2, &connected);
        let refused = ConnectionState::Failed(Trouble::CredentialsRefused { worked_before: false });
        lane.allow(&object("stranger"), 1, &refused);
        let log = Arc::default();
        let enter = |name: &str| lane.enter("a", name, Priority::Rest, waker(&log, name));
        for _ in 0..8 {
            let (pass, sent) = (enter("one"), clock.moment());
            assert!(pass.is_some() && enter("two").is_none(), "one at first");
            lane.told(Load::Answered, sent);
        }
        log.lock().unwrap().clear();
        let passes = (enter("one"), enter("two"), enter("three"));
        assert!(passes.0.is_some() && passes.1.is_some() && passes.2.is_none(), "two is the lower ceiling");
        lane.leave_out(&object("careful"));

        lane.told(Load::Throttled(Some(Duration::from_secs(5))), clock.moment());
        drop(passes);
        assert!(enter("three").is_none());
        // On paused time: just before it is over, and just after.
        tokio::time::sleep(Duration::from_millis(4900)).await;
        assert_eq!(*log.lock().unwrap(), Vec::<String>::new(), "Retry-After is obeyed");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(*log.lock().unwrap(), ["three"]);
        assert!(enter("three").is_some());
    }
}
