//! Prefect's events, as hints. With them a completion is seen within a second; without them within the poll interval.

use super::workspace::{Hint, Setup};
use crate::prefect::Prefect;
use futures::StreamExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A connection that lived this long was good: the next failure starts waiting anew.
const GOOD: Duration = Duration::from_secs(30);
/// Tries in a row after which the stream counts as not to be had. A restart of the server fails fewer.
const GIVEN_UP: u32 = 5;

/// Keeps the event stream connected for as long as the session lives.
pub struct Events {
    client: Arc<dyn Prefect>,
    hints: UnboundedSender<Hint>,
    setup: Setup,
    live: Arc<Mutex<Option<bool>>>,
    failures: u32,
}

impl Events {
    /// `live` is told how it is.
    pub fn new(
        client: Arc<dyn Prefect>,
        hints: UnboundedSender<Hint>,
        setup: Setup,
        live: &Arc<Mutex<Option<bool>>>,
    ) -> Self {
        Self { client, hints, setup, live: live.clone(), failures: 0 }
    }

    /// Runs until the session ends.
    pub async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        loop {
            let began = self.setup.clock.moment();
            match self.client.events().await {
                Ok(mut events) => {
                    let _up = Up::new(&self.setup.connected);
                    self.failures = 0;
                    self.tell(true);
                    // What happened while nobody listened is read now, and every reconnect is a poll (reference 10).
                    if self.hints.send(Hint::Reconnected).is_err() {
                        return;
                    }
                    while let Some(event) = events.next().await {
                        match event {
                            Ok(event) => {
                                if self.hints.send(Hint::Run(event)).is_err() {
                                    return;
                                }
                            }
                            Err(error) => {
                                tracing::info!(%error, "Prefect's event stream ended; polling goes on");
                                break;
                            }
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "Prefect's event stream is not available; polling goes on");
                    self.failures = self.failures.saturating_add(1);
                    if self.failures >= GIVEN_UP {
                        self.tell(false);
                    }
                }
            }
            if self.setup.clock.moment().since(began) > GOOD {
                wait = FIRST_WAIT;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// The connections' status shows it.
    fn tell(&self, live: bool) {
        let before = self.live.lock().unwrap_or_else(PoisonError::into_inner).replace(live);
        if before != Some(live) {
            for user in self.setup.users.all() {
                self.setup.wakes.workspace(&user);
            }
        }
    }
}

/// Says that the stream is connected, and takes it back however the task ends.
struct Up<'a>(&'a Arc<dyn Fn(bool) + Send + Sync>);

impl<'a> Up<'a> {
    fn new(connected: &'a Arc<dyn Fn(bool) + Send + Sync>) -> Self {
        connected(true);
        Self(connected)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        (self.0)(false);
    }
}
