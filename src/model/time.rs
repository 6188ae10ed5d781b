//! Two kinds of time: `jiff::Timestamp` for what is written down, [`Moment`] for order and waiting within this process.

use jiff::Timestamp;
use std::time::Duration;

/// A moment of this process's monotonic time, unique and ever growing: it orders reads and acknowledged writes and measures waits.
/// A read is stamped *before* its first request goes out. Never written down: it means nothing to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub Duration);

impl Moment {
    /// This moment plus a length of time.
    #[must_use]
    pub fn plus(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length))
    }
    /// Time since an earlier moment; zero if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// What an answer's `Date` header says about another system's clock. `Date` has whole seconds, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The header.
    pub date: Timestamp,
    /// Just before the request went out.
    pub sent: Moment,
    /// Just after the head of the answer came in.
    pub received: Moment,
}

impl ClockReading {
    /// The other clock shows at least this at `now`.
    pub fn lower(&self, now: Moment) -> Timestamp {
        add(self.date, now.since(self.received))
    }
    /// The other clock shows at most this at `now`: `Date` + 1 s + time since the request was sent (docs/trigger.md 3).
    pub fn upper(&self, now: Moment) -> Timestamp {
        add(self.date, now.since(self.sent) + Duration::from_secs(1))
    }
}

/// Adds a length of time, at the end of time if it would pass it.
pub fn add(at: Timestamp, length: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(length).ok().and_then(|d| at.checked_add(d).ok()).unwrap_or(Timestamp::MAX)
}

/// Takes a length of time away, at the beginning of time if it would pass it.
pub fn sub(at: Timestamp, length: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(length).ok().and_then(|d| at.checked_sub(d).ok()).unwrap_or(Timestamp::MIN)
}

/// Rounds up to a whole second: Tableau's own times have no fraction.
pub fn ceil_second(at: Timestamp) -> Timestamp {
    let fraction = at.subsec_nanosecond();
    if fraction == 0 {
        return at;
    }
    let floor = at.as_second();
    Timestamp::from_second(if fraction > 0 { floor + 1 } else { floor }).unwrap_or(Timestamp::MAX)
}

/// A Gateway API duration: `26h`, `90m`, `1h30m`, `500ms`.
///
/// # Errors
/// The text is not one (the CRD's pattern rules that out, an older stored object need not).
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration(text.chars().take(24).collect());
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let (unit, length) = if let Some(r) = rest.strip_prefix("ms") {
            (r, Duration::from_millis(number))
        } else if let Some(r) = rest.strip_prefix('h') {
            (r, Duration::from_secs(number.saturating_mul(3600)))
        } else if let Some(r) = rest.strip_prefix('m') {
            (r, Duration::from_secs(number.saturating_mul(60)))
        } else if let Some(r) = rest.strip_prefix('s') {
            (r, Duration::from_secs(number))
        } else {
            return Err(bad());
        };
        rest = unit;
        total = total.saturating_add(length);
    }
    Ok(total)
}

/// Text that is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a duration such as `26h` or `90m`")]
pub struct BadDuration(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gateway_apis() {
        assert_eq!(parse_duration("26h"), Ok(Duration::from_secs(26 * 3600)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "5", "h", "1d", "-1s", "1h 2m"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_second_is_rounded_up_only_when_it_is_broken() {
        let at = |s: &str| s.parse::<Timestamp>().unwrap();
        assert_eq!(ceil_second(at("2026-11-24T10:00:00Z")), at("2026-11-24T10:00:00Z"));
        assert_eq!(ceil_second(at("2026-11-24T10:00:00.000001Z")), at("2026-11-24T10:00:01Z"));
    }
}
