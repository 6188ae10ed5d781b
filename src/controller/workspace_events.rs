//! Prefect's events, as hints. With them a completion is seen within a second; without them within the poll interval.

use super::workspace::Hint;
use crate::clock::Clock;
use crate::prefect::Prefect;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A connection that lived this long was good: the next failure starts waiting anew.
const GOOD: Duration = Duration::from_secs(30);

/// Keeps the event stream connected for as long as the session lives.
pub async fn run(
    client: Arc<dyn Prefect>,
    hints: UnboundedSender<Hint>,
    clock: Clock,
    connected: Arc<dyn Fn(bool) + Send + Sync>,
) {
    let mut wait = FIRST_WAIT;
    loop {
        let began = clock.moment();
        match client.events().await {
            Ok(mut events) => {
                let _up = Up::new(&connected);
                // What happened while nobody listened is read now, and every reconnect is a poll (reference 10).
                if hints.send(Hint::Reconnected).is_err() {
                    return;
                }
                while let Some(event) = events.next().await {
                    match event {
                        Ok(event) => {
                            if hints.send(Hint::Run(event.run, event.deployment)).is_err() {
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
            }
        }
        if clock.moment().since(began) > GOOD {
            wait = FIRST_WAIT;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
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
