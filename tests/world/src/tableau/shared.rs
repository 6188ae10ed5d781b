//! The state behind its lock, the clock that moves it, and the news of its changes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::clock::Clock;
use super::config::{Availability, Config};
use super::keys::KeyStore;
use super::state::State;
use super::truth::Truth;

/// What the servers and the handles share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) availability: watch::Sender<Availability>,
    pub(super) keys: KeyStore,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(config: Config) -> Self {
        let state = State {
            jobs_list_forbidden: !config.jobs_list_allowed,
            no_server_admin: !config.server_admin,
            no_data_management: !config.data_management,
            ..State::default()
        };
        Self {
            clock: Clock::start(config.date_skew),
            config,
            availability: watch::Sender::new(Availability::Up),
            keys: KeyStore::default(),
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
        }
    }

    /// Changes the state as it is now, and tells those who wait.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = Instant::now();
        let mut state = self.lock();
        state.advance(now, &self.config, &self.clock);
        let result = change(&mut state, now);
        // What was changed may have consequences at the same moment: a released job starts, a freed slot is taken.
        state.advance(now, &self.config, &self.clock);
        drop(state);
        self.tell();
        result
    }

    pub(super) fn truth(&self) -> Truth {
        self.advance();
        self.lock().truth(&self.clock)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Moves jobs when their time has come, so that those who wait for it hear of it. Never returns.
    pub(super) async fn drive(&self) {
        let mut changes = self.changes();
        loop {
            let next = self.advance();
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                // It cannot fail: the sender lives in this very struct.
                _ = changes.changed() => {}
            }
        }
    }

    /// Brings the jobs up to date; when something will happen next.
    fn advance(&self) -> Option<Instant> {
        let mut state = self.lock();
        let moved = state.advance(Instant::now(), &self.config, &self.clock);
        let next = state.next_change(&self.config, &self.clock);
        drop(state);
        if moved {
            self.tell();
        }
        next
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// A panic of another thread while it held the lock is that thread's to report.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
