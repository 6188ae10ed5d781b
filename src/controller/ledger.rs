//! Intents that this process wrote and has not spent. Lost with the process, and that is its use: an intent that is not here may have been
//! sent, so it is recovered before anything is sent again.

use crate::model::time::Moment;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What this process knows about intents, by id.
#[derive(Default)]
pub struct Ledger {
    entries: Mutex<HashMap<String, Entry>>,
}

/// What this process knows about one intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Written by us and not sent by anybody.
    Unspent,
    /// Maybe sent; the settle time counts from here: the end of our own POST, else our first sight of the intent.
    Spent {
        /// See above.
        since: Moment,
    },
}

impl Ledger {
    /// The intent was just written to status by this process.
    pub fn wrote(&self, id: &str) {
        self.lock().insert(id.to_owned(), Entry::Unspent);
    }

    /// Takes the right to send, once. `false`: it may have been sent before.
    pub fn spend(&self, id: &str, now: Moment) -> bool {
        self.lock().insert(id.to_owned(), Entry::Spent { since: now }) == Some(Entry::Unspent)
    }

    /// Our own POST for it ended without a clear answer.
    pub fn ended(&self, id: &str, now: Moment) {
        self.lock().insert(id.to_owned(), Entry::Spent { since: now });
    }

    /// What is known; an intent never heard of is remembered as seen now.
    pub fn look(&self, id: &str, now: Moment) -> Entry {
        *self.lock().entry(id.to_owned()).or_insert(Entry::Spent { since: now })
    }

    /// The intent is settled.
    pub fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_intent_is_spent_once_and_never_after_a_restart() {
        let at = |s| Moment(Duration::from_secs(s));
        let ledger = Ledger::default();
        ledger.wrote("i");
        assert_eq!(ledger.look("i", at(1)), Entry::Unspent);
        assert!(ledger.spend("i", at(2)));
        assert!(!ledger.spend("i", at(3)));

        let restarted = Ledger::default();
        assert_eq!(restarted.look("i", at(5)), Entry::Spent { since: at(5) });
        assert_eq!(restarted.look("i", at(9)), Entry::Spent { since: at(5) });
        assert!(!restarted.spend("i", at(9)));
    }
}
