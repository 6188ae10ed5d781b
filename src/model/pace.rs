//! How many writes one server may have in flight. It begins with one and grows by one after a stretch of good answers while all slots were in
//! use; where the server is busy the number is halved and nothing is sent for a while (additive increase, multiplicative decrease).
//!
//! Why one at first: Prefect on `SQLite` answers 96 of 100 writes with 503 when eight are sent at once, and on `PostgreSQL` eight at once are
//! hardly faster than one (reference 17).

use super::time::Moment;
use std::time::Duration;

/// What a write came to, as far as it tells how busy the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// It was answered, with success or with a refusal.
    Answered,
    /// 503, a gateway's complaint, or no answer in time.
    Busy,
    /// 429, and for how long nothing is to be sent, if it said so.
    Throttled(Option<Duration>),
}

/// How far a server may be loaded now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    slots: usize,
    good: usize,
    cuts: u32,
    cut_at: Option<Moment>,
    until: Option<Moment>,
}

/// Good answers for each slot before one more is tried. Even a single client sees up to 5 % of its writes refused by `SQLite`.
const STRETCH: usize = 8;
/// The first and the longest silence after a 503; it doubles.
const BUSY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// The same after a 429 that does not say how long.
const THROTTLED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest silence that a `Retry-After` is believed.
const LONGEST: Duration = Duration::from_secs(300);

impl Default for Pace {
    fn default() -> Self {
        Self { slots: 1, good: 0, cuts: 0, cut_at: None, until: None }
    }
}

impl Pace {
    /// How many writes may be in flight at this time; none during a silence.
    pub fn slots(&self, now: Moment, ceiling: usize) -> usize {
        if self.silent_until(now).is_some() { 0 } else { self.slots.min(ceiling.max(1)) }
    }

    /// The end of the silence, if there is one.
    pub fn silent_until(&self, now: Moment) -> Option<Moment> {
        self.until.filter(|until| now < *until)
    }

    /// Takes in what a write came to: when it was sent, when it was answered, and how many were in flight then, it included.
    pub fn take(&mut self, load: Load, sent: Moment, now: Moment, in_flight: usize, ceiling: usize) {
        let (first, longest) = match load {
            Load::Answered => {
                self.grow(sent, in_flight, ceiling);
                return;
            }
            Load::Busy => BUSY,
            Load::Throttled(_) => THROTTLED,
        };
        // What was under way when the number was halved tells of the time before.
        if self.cut_at.is_none_or(|cut| sent > cut) {
            self.slots = (self.slots / 2).max(1);
            self.cuts = self.cuts.saturating_add(1);
            self.cut_at = Some(now);
        }
        self.good = 0;
        let silence = match load {
            Load::Throttled(Some(told)) => told.min(LONGEST),
            Load::Answered | Load::Busy | Load::Throttled(None) => {
                first.saturating_mul(2_u32.saturating_pow(self.cuts.saturating_sub(1))).min(longest)
            }
        };
        self.until = self.until.max(Some(now.plus(silence)));
    }

    fn grow(&mut self, sent: Moment, in_flight: usize, ceiling: usize) {
        if self.cut_at.is_none_or(|cut| sent > cut) {
            self.cuts = 0;
        }
        self.slots = self.slots.min(ceiling.max(1));
        // Slots that nobody needed prove nothing.
        if in_flight < self.slots {
            return;
        }
        self.good += 1;
        if self.good >= STRETCH * self.slots && self.slots < ceiling {
            (self.slots, self.good) = (self.slots + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILING: usize = 4;

    fn at(ms: u64) -> Moment {
        Moment(Duration::from_millis(ms))
    }

    /// A server's answers one after another, and how many may be in flight after each, and until when nothing is sent.
    #[test]
    fn it_grows_slowly_and_falls_at_once() {
        use Load::{Answered, Busy, Throttled};
        let mut pace = Pace::default();
        let mut now = 0;
        let mut step = |pace: &mut Pace, load: Load, times: usize| {
            for _ in 0..times {
                let free = pace.silent_until(at(now)).unwrap_or(at(now));
                let in_flight = pace.slots(free, CEILING);
                now = u64::try_from(free.0.as_millis()).unwrap() + 1;
                pace.take(load, free.plus(Duration::from_micros(500)), at(now), in_flight, CEILING);
            }
            let silence = pace.silent_until(at(now)).map_or(Duration::ZERO, |until| until.since(at(now)));
            (pace.slots(pace.silent_until(at(now)).unwrap_or(at(now)), CEILING), silence.as_millis())
        };
        let told = Throttled(Some(Duration::from_secs(7)));
        let too_long = Throttled(Some(Duration::from_secs(3600)));
        for (load, times, expected) in [
            (Answered, 7, (1, 0)),
            (Answered, 1, (2, 0)),
            (Answered, 15, (2, 0)),
            (Answered, 1, (3, 0)),
            (Answered, 24, (4, 0)),
            // The ceiling.
            (Answered, 1000, (4, 0)),
            (Busy, 1, (2, 250)),
            (Busy, 1, (1, 500)),
            (Busy, 1, (1, 1000)),
            (Busy, 20, (1, 30_000)),
            // One good answer, and a silence is short again.
            (Answered, 1, (1, 0)),
            (Busy, 1, (1, 250)),
            (Answered, 8, (2, 0)),
            (told, 1, (1, 7000)),
            (too_long, 1, (1, 300_000)),
            (Answered, 1, (1, 0)),
            (Throttled(None), 1, (1, 1000)),
            (Throttled(None), 10, (1, 60_000)),
        ] {
            assert_eq!(step(&mut pace, load, times), expected, "after {load:?} {times} times");
        }
    }

    #[test]
    fn several_refusals_of_one_moment_halve_once_and_the_longest_silence_counts() {
        let mut pace = Pace { slots: 4, ..Pace::default() };
        pace.take(Load::Busy, at(10), at(20), 4, 4);
        pace.take(Load::Throttled(Some(Duration::from_secs(9))), at(11), at(21), 3, 4);
        pace.take(Load::Busy, at(12), at(22), 2, 4);
        assert_eq!(pace.slots(at(10_000), 4), 2);
        assert_eq!(pace.silent_until(at(22)), Some(at(9021)));
        assert_eq!(pace.slots(at(9020), 4), 0);
    }

    #[test]
    fn slots_nobody_needs_are_not_made_more() {
        let mut pace = Pace { slots: 2, ..Pace::default() };
        for sent in 0..100 {
            pace.take(Load::Answered, at(sent), at(sent + 1), 1, 4);
        }
        assert_eq!(pace.slots(at(200), 4), 2);
        // A ceiling that was lowered holds at once, and one of nothing is one.
        assert_eq!((pace.slots(at(200), 1), pace.slots(at(200), 0)), (1, 1));
    }
}
