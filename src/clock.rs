//! The only reader of the clock.

use crate::model::time::Moment;
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Wall time and this process's monotonic time. Cheap to clone; clones share the order of their moments.
/// Built inside a tokio runtime; with paused time both follow it.
#[derive(Clone, Debug)]
pub struct Clock {
    epoch: Timestamp,
    start: Instant,
    wall: Wall,
    last: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug)]
enum Wall {
    System,
    Virtual,
}

impl Clock {
    /// The machine's clock.
    #[allow(clippy::disallowed_methods)] // the one place
    pub fn system() -> Self {
        Self { epoch: Timestamp::now(), start: Instant::now(), wall: Wall::System, last: Arc::default() }
    }

    /// A clock that shows `epoch` now and follows tokio's (possibly paused) time.
    pub fn virtual_from(epoch: Timestamp) -> Self {
        Self { epoch, start: Instant::now(), wall: Wall::Virtual, last: Arc::default() }
    }

    /// Wall time to the millisecond, for what is written down and read by people.
    #[allow(clippy::disallowed_methods)] // the one place
    pub fn now(&self) -> Timestamp {
        let now = match self.wall {
            Wall::System => Timestamp::now(),
            Wall::Virtual => crate::model::time::add(self.epoch, self.start.elapsed()),
        };
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// A moment later than every moment given before.
    pub fn moment(&self) -> Moment {
        let elapsed = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let before = self
            .last
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(elapsed.max(last + 1)))
            .unwrap_or_default();
        Moment(Duration::from_nanos(elapsed.max(before + 1)))
    }
}
