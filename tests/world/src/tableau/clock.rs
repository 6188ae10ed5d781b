//! The simulator's clock: it follows tokio's, so that paused time pauses Tableau too.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Turns tokio instants into dates.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    wall: Timestamp,
    origin: Instant,
    skew: SignedDuration,
}

impl Clock {
    /// A clock that shows this machine's time now; Tableau's is `skew` seconds ahead of it.
    // The operator's rule of one reader of the clock does not bind the world: this is another machine's clock.
    #[allow(clippy::disallowed_methods)]
    pub(super) fn start(skew: i64) -> Self {
        Self { wall: Timestamp::now(), origin: Instant::now(), skew: SignedDuration::from_secs(skew) }
    }

    /// The date by this machine's clock, as the truth log tells it.
    pub(super) fn true_time(&self, at: Instant) -> Timestamp {
        match at.checked_duration_since(self.origin) {
            Some(since) => self.wall + since,
            None => self.wall - self.origin.duration_since(at),
        }
    }

    /// The date by Tableau's clock, cut to the whole second as all of Tableau's dates are.
    pub(super) fn tableau_time(&self, at: Instant) -> Timestamp {
        let exact = self.true_time(at) + self.skew;
        Timestamp::from_second(exact.as_second()).unwrap_or(exact)
    }

    /// The moment at which Tableau's clock shows this date; the beginning for one before it.
    pub(super) fn instant(&self, at: Timestamp) -> Instant {
        let since = at.duration_since(self.wall + self.skew);
        let since = Duration::try_from(since).unwrap_or_default();
        self.origin.checked_add(since).unwrap_or(self.origin)
    }

    /// The value of a date attribute in a body.
    pub(super) fn body_date(&self, at: Instant) -> String {
        self.tableau_time(at).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// The value of the `Date` header.
    pub(super) fn header_date(&self, at: Instant) -> String {
        self.tableau_time(at).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}
