//! An orderly end: SIGTERM and SIGINT, and the time to finish what is in flight.

use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether the process was asked to end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Listens for SIGTERM and SIGINT from now on; must be called within a tokio runtime.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (ask, shutdown) = Self::by_hand();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "asked to end");
            ask.send_replace(true);
            ask.closed().await;
        });
        Ok(shutdown)
    }

    /// One that is asked by sending `true`.
    pub fn by_hand() -> (watch::Sender<bool>, Self) {
        let (ask, asked) = watch::channel(false);
        (ask, Self(asked))
    }

    /// Whether the process was asked to end.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the process is asked to end (also when nobody is left who could ask).
    pub async fn requested(mut self) {
        let _ = self.0.wait_for(|asked| *asked).await;
    }

    /// Runs `work` to its end, which `work` reaches by itself after the request, but at most `grace` beyond the request.
    ///
    /// # Errors
    /// The grace ran out: what was in flight is dropped.
    pub async fn bound<T>(self, grace: Duration, work: impl Future<Output = T>) -> Result<T, GraceExpired> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = async { self.requested().await; tokio::time::sleep(grace).await } => Err(GraceExpired(grace)),
        }
    }
}

/// Not everything had ended when the grace ran out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not everything in flight had ended {0:?} after the request to end")]
pub struct GraceExpired(Duration);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn work_has_exactly_the_grace_after_the_request() {
        let (ask, shutdown) = Shutdown::by_hand();
        let start = Instant::now();
        tokio::spawn(async move {
            // On paused time: the grace counts from the request, not from the start of the work.
            sleep(Duration::from_secs(60)).await;
            ask.send_replace(true);
            pending::<()>().await;
        });
        let grace = Duration::from_secs(25);
        let slow = shutdown.clone().bound(grace, sleep(Duration::from_secs(84))).await;
        assert_eq!(slow, Ok(()));
        let stuck = shutdown.bound(grace, pending::<()>()).await;
        assert_eq!(stuck, Err(GraceExpired(grace)));
        assert!(start.elapsed() >= Duration::from_secs(85));
    }
}
