//! Who may write to a remote now. A reconcile never waits for a busy or slow remote: without a pass it leaves its name and is woken later
//! [measured: one slow remote starves all the others otherwise].

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Called when a slot is free for the one who left the name.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The write slots of one origin.
pub struct Lane {
    inner: Mutex<Inner>,
}

struct Inner {
    limit: usize,
    busy: usize,
    waiting: BTreeMap<Priority, Queue>,
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
}

/// The right to write; gives the slot back when dropped.
pub struct Pass {
    lane: Arc<Lane>,
}

impl Lane {
    /// A lane with this many writes in flight at most.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(Inner { limit, busy: 0, waiting: BTreeMap::new() }) })
    }

    /// A pass, or `None` and `waker` is called once when a slot is free. Asking again with the same name keeps the place in the queue.
    pub fn enter(
        self: &Arc<Self>,
        namespace: &str,
        name: &str,
        priority: Priority,
        waker: Waker,
    ) -> Option<Pass> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.busy < inner.limit {
            inner.busy += 1;
            return Some(Pass { lane: self.clone() });
        }
        inner.waiting.entry(priority).or_default().push(namespace, name, waker);
        None
    }

    fn leave(&self) {
        let next = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.busy = inner.busy.saturating_sub(1);
            inner.waiting.values_mut().find_map(Queue::pop)
        };
        // The slot is free, not reserved: the woken one asks again, and whoever comes first takes it.
        if let Some(wake) = next {
            wake();
        }
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

    fn pop(&mut self) -> Option<Waker> {
        let namespace = self.turns.pop_front()?;
        let queue = self.by_namespace.get_mut(&namespace)?;
        let (name, waker) = queue.pop_front()?;
        let more = !queue.is_empty();
        self.known.remove(&(namespace.clone(), name));
        if more {
            self.turns.push_back(namespace);
        } else {
            self.by_namespace.remove(&namespace);
        }
        Some(waker)
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

    fn waker(log: &Arc<Mutex<Vec<String>>>, name: &str) -> Waker {
        let (log, name) = (log.clone(), name.to_owned());
        Arc::new(move || log.lock().unwrap().push(name.clone()))
    }

    #[test]
    fn slots_go_round_the_namespaces_and_changes_go_first() {
        let lane = Lane::new(1);
        let log = Arc::default();
        let mut pass = lane.enter("a", "busy", Priority::Rest, waker(&log, "busy"));
        assert!(pass.is_some());
        for (namespace, name) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a1")] {
            assert!(lane.enter(namespace, name, Priority::Rest, waker(&log, name)).is_none());
        }
        assert!(lane.enter("c", "c1", Priority::Changed, waker(&log, "c1")).is_none());
        for _ in 0..5 {
            drop(pass.take());
            pass = lane.enter("x", "x", Priority::Rest, waker(&log, "x"));
        }
        assert_eq!(*log.lock().unwrap(), ["c1", "a1", "b1", "a2"]);
    }
}
