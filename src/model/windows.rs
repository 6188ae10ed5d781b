//! Refresh windows: when Feedwater may start a refresh. A window begins by a cron expression in its time zone and lasts for its duration of
//! real time. Daylight saving: a beginning that the clock skips counts at the moment the clock jumps; one that it shows twice counts twice.

use crate::api::{RefreshWindow, WindowPolicy};
use crate::model::time::{add, parse_duration, sub};
use cronexpr::{Crontab, MakeTimestamp};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};
use std::time::Duration;

/// A window, parsed.
#[derive(Clone, Debug)]
pub struct Window {
    /// As declared.
    pub declared: RefreshWindow,
    cron: Crontab,
    zone: TimeZone,
    duration: Duration,
}

impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        self.declared == other.declared
    }
}

/// Whether a refresh may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// It may not.
    Held {
        /// The Deny window that holds it; none: it is outside of every Allow window.
        by: Option<String>,
        /// When it may; none: not within the days that are looked at.
        until: Option<Timestamp>,
    },
}

/// More than the difference of any two offsets of a zone around a change.
const MARGIN: Duration = Duration::from_secs(2 * 3600);
/// Windows that join one another are not followed further than this: none says when it is over by its first week.
const HORIZON: Duration = Duration::from_secs(8 * 24 * 3600);

impl Window {
    /// Reads a window.
    ///
    /// # Errors
    /// One sentence, which names the window and the field.
    pub fn parse(w: &RefreshWindow) -> Result<Self, String> {
        let wrong = |field: &str, why: &str| format!("refreshWindows `{}`: {field}: {why}", w.name);
        let zone = TimeZone::get(w.time_zone.as_deref().unwrap_or("UTC"))
            .map_err(|_| wrong("timeZone", "is no IANA time zone; one is for example `Europe/Berlin`"))?;
        let duration =
            parse_duration(&w.duration.0).map_err(|error| wrong("duration", &error.to_string()))?;
        if !(Duration::from_secs(60)..=Duration::from_secs(168 * 3600)).contains(&duration) {
            return Err(wrong("duration", "must be between 1m and 168h"));
        }
        // The expression is read on the face of the clock; what an hour of it means is for the zone to say, above.
        let five = w.schedule.split_whitespace().count() == 5;
        let cron = cronexpr::parse_crontab(&format!("{} UTC", w.schedule))
            .ok()
            .filter(|_| five)
            .ok_or_else(|| wrong("schedule", "no cron expression of five fields such as `0 6 * * 1-5`"))?;
        let window = Self { declared: w.clone(), cron, zone, duration };
        if window.faces(DateTime::constant(2024, 1, 1, 0, 0, 0, 0)).next().is_none() {
            return Err(wrong("schedule", "names no day that exists"));
        }
        Ok(window)
    }

    /// When the last of its spans that hold this moment ends; none: it is inside none.
    fn end_at(&self, at: Timestamp) -> Option<Timestamp> {
        let face = |at| self.zone.to_datetime(at);
        let last = face(add(at, MARGIN));
        self.faces(face(sub(at, self.duration + MARGIN)))
            .take_while(|start| *start <= last)
            .flat_map(|start| self.moments(start))
            .filter(|start| *start <= at && at < add(*start, self.duration))
            .max()
            .map(|start| add(start, self.duration))
    }

    /// When it begins next, after this moment.
    fn next_start(&self, at: Timestamp) -> Option<Timestamp> {
        let later = |start: DateTime| self.moments(start).into_iter().filter(|moment| *moment > at).min();
        let faces = self.faces(self.zone.to_datetime(sub(at, MARGIN)));
        let (first, found) = faces.into_iter().find_map(|start| Some((start, later(start)?)))?;
        // Around a change a later face may come at an earlier moment.
        let near = self.faces(first).take_while(|start| *start <= shifted(first, MARGIN));
        near.filter_map(later).chain([found]).min()
    }

    /// Beginnings as the clock's face shows them, after this one.
    fn faces(&self, after: DateTime) -> impl Iterator<Item = DateTime> + '_ {
        let start = TimeZone::UTC.to_timestamp(after).unwrap_or(Timestamp::MIN);
        let all = self.cron.iter_after(MakeTimestamp(start)).ok().into_iter().flatten();
        all.map_while(|next| Some(next.ok()?.datetime()))
    }

    fn moments(&self, face: DateTime) -> Vec<Timestamp> {
        let at = |offset: jiff::tz::Offset| offset.to_timestamp(face).ok();
        match self.zone.to_ambiguous_timestamp(face).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset).into_iter().collect(),
            AmbiguousOffset::Fold { before, after } => {
                [at(before), at(after)].into_iter().flatten().collect()
            }
            AmbiguousOffset::Gap { before, .. } => {
                let skipped = at(before).map(|moment| add(moment, Duration::from_nanos(1)));
                skipped
                    .and_then(|moment| self.zone.preceding(moment).next())
                    .map(|t| t.timestamp())
                    .into_iter()
                    .collect()
            }
        }
    }
}

fn shifted(face: DateTime, by: Duration) -> DateTime {
    Span::try_from(by).ok().and_then(|by| face.checked_add(by).ok()).unwrap_or(DateTime::MAX)
}

/// Whether a refresh may start now. Deny wins; where there are Allow windows, it has to be inside one.
pub fn gate(windows: &[Window], now: Timestamp) -> Gate {
    let Some((by, mut until)) = held(windows, now) else { return Gate::Open };
    let horizon = add(now, HORIZON);
    while let Some(at) = until {
        match held(windows, at) {
            None => return Gate::Held { by, until },
            Some((_, next)) => until = next.filter(|_| at < horizon),
        }
    }
    Gate::Held { by, until: None }
}

/// The Deny window that holds this moment, if one does.
pub fn denied(windows: &[Window], at: Timestamp) -> Option<&str> {
    of(windows, WindowPolicy::Deny).find(|w| w.end_at(at).is_some()).map(|w| w.declared.name.as_str())
}

/// What holds this moment, and when that, by itself, ends.
fn held(windows: &[Window], at: Timestamp) -> Option<(Option<String>, Option<Timestamp>)> {
    let denying = of(windows, WindowPolicy::Deny).find_map(|w| Some((w, w.end_at(at)?)));
    if let Some((window, end)) = denying {
        return Some((Some(window.declared.name.clone()), Some(end)));
    }
    let mut allowing = of(windows, WindowPolicy::Allow).peekable();
    allowing.peek()?;
    let allowed = of(windows, WindowPolicy::Allow).any(|w| w.end_at(at).is_some());
    (!allowed).then(|| (None, allowing.filter_map(|w| w.next_start(at)).min()))
}

fn of(windows: &[Window], policy: WindowPolicy) -> impl Iterator<Item = &Window> {
    windows.iter().filter(move |w| w.declared.policy == policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;

    fn window(policy: WindowPolicy, schedule: &str, duration: &str, zone: &str) -> Window {
        Window::parse(&declared(policy, schedule, duration, zone)).unwrap()
    }
    fn declared(policy: WindowPolicy, schedule: &str, duration: &str, zone: &str) -> RefreshWindow {
        RefreshWindow {
            name: schedule.chars().filter(char::is_ascii_alphanumeric).collect(),
            policy,
            schedule: schedule.into(),
            duration: api::Duration(duration.into()),
            time_zone: Some(zone.into()),
        }
    }
    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }
    /// When it opens, as seen at `now`; "open" where it is.
    fn opens(windows: &[Window], now: &str) -> String {
        match gate(windows, at(now)) {
            Gate::Open => "open".into(),
            Gate::Held { until: Some(until), .. } => until.to_string(),
            Gate::Held { until: None, .. } => "never".into(),
        }
    }

    #[test]
    fn deny_wins_and_where_allow_exists_it_must_be_inside_one() {
        use WindowPolicy::{Allow, Deny};
        let business = window(Deny, "0 6 * * 1-5", "4h", "Europe/Berlin");
        let night = window(Allow, "0 20 * * *", "12h", "Europe/Berlin");
        let lunch = window(Deny, "0 10 * * *", "1h", "Europe/Berlin");
        // Wednesday, winter time: Berlin is one hour ahead.
        let table: [(&[&Window], &str, &str); 9] = [
            (&[], "2026-11-25T06:00:00Z", "open"),
            (&[&business], "2026-11-25T04:59:59Z", "open"),
            (&[&business], "2026-11-25T05:00:00Z", "2026-11-25T09:00:00Z"),
            (&[&business], "2026-11-25T08:59:59Z", "2026-11-25T09:00:00Z"),
            (&[&business], "2026-11-25T09:00:00Z", "open"),
            (&[&business], "2026-11-28T06:00:00Z", "open"),
            (&[&business, &lunch], "2026-11-25T06:00:00Z", "2026-11-25T10:00:00Z"),
            (&[&night], "2026-11-25T12:00:00Z", "2026-11-25T19:00:00Z"),
            (&[&night, &business], "2026-11-25T06:00:00Z", "2026-11-25T19:00:00Z"),
        ];
        for (windows, now, expected) in table {
            let windows: Vec<Window> = windows.iter().map(|w| (*w).clone()).collect();
            assert_eq!(opens(&windows, now), expected, "{now}");
        }
        assert_eq!(
            denied(std::slice::from_ref(&business), at("2026-11-25T06:00:00Z")),
            Some("06*15".replace('*', "").as_str())
        );
        assert_eq!(denied(&[night], at("2026-11-25T12:00:00Z")), None);
    }

    #[test]
    fn daylight_saving_nights() {
        // Berlin skips 02:00 to 03:00 on 29 March (01:00Z) and shows it twice on 25 October (00:00Z and 01:00Z).
        let at_half_past_two = [window(WindowPolicy::Deny, "30 2 * * *", "1h", "Europe/Berlin")];
        let across = [window(WindowPolicy::Deny, "0 1 * * *", "4h", "Europe/Berlin")];
        // New York skips 02:00 to 03:00 on 8 March (07:00Z) and shows 01:00 to 02:00 twice on 1 November (05:00Z and 06:00Z).
        let new_york = [window(WindowPolicy::Deny, "30 2 * * *", "1h", "America/New_York")];
        let twice = [window(WindowPolicy::Deny, "30 1 * * *", "15m", "America/New_York")];
        let allow = [window(WindowPolicy::Allow, "30 2 * * *", "1h", "Europe/Berlin")];
        let table = [
            (&at_half_past_two, "2026-03-28T01:30:00Z", "2026-03-28T02:30:00Z"),
            (&at_half_past_two, "2026-03-29T00:59:59Z", "open"),
            (&at_half_past_two, "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"),
            (&at_half_past_two, "2026-03-29T02:00:00Z", "open"),
            (&at_half_past_two, "2026-10-25T00:29:59Z", "open"),
            (&at_half_past_two, "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"),
            (&at_half_past_two, "2026-10-25T02:30:00Z", "open"),
            (&across, "2026-03-29T00:00:00Z", "2026-03-29T04:00:00Z"),
            (&across, "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z"),
            (&new_york, "2026-03-08T06:59:59Z", "open"),
            (&new_york, "2026-03-08T07:00:00Z", "2026-03-08T08:00:00Z"),
            (&twice, "2026-11-01T05:30:00Z", "2026-11-01T05:45:00Z"),
            (&twice, "2026-11-01T05:50:00Z", "open"),
            (&twice, "2026-11-01T06:30:00Z", "2026-11-01T06:45:00Z"),
            (&allow, "2026-03-28T22:00:00Z", "2026-03-29T01:00:00Z"),
            (&allow, "2026-10-24T22:00:00Z", "2026-10-25T00:30:00Z"),
        ];
        for (windows, now, expected) in table {
            assert_eq!(opens(windows, now), expected, "{now} {:?}", windows[0].declared);
        }
    }

    #[test]
    fn month_ends_and_windows_without_end() {
        let last = [window(WindowPolicy::Allow, "0 5 L * *", "2h", "UTC")];
        assert_eq!(opens(&last, "2028-02-01T00:00:00Z"), "2028-02-29T05:00:00Z");
        assert_eq!(opens(&last, "2026-04-30T06:59:59Z"), "open");
        assert_eq!(opens(&last, "2026-04-30T07:00:00Z"), "2026-05-31T05:00:00Z");
        let always = [window(WindowPolicy::Deny, "* * * * *", "168h", "UTC")];
        assert_eq!(opens(&always, "2026-11-25T00:00:00Z"), "never");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let table = [
            (("0 6 * * 1-5", "4h", "Mars/Base"), "timeZone"),
            (("0 6 * *", "4h", "UTC"), "schedule"),
            (("0 6 * * 8", "4h", "UTC"), "schedule"),
            (("0 6 * * 1 UTC", "4h", "UTC"), "schedule"),
            (("0 0 30 2 *", "4h", "UTC"), "schedule"),
            (("0 6 * * *", "59s", "UTC"), "duration"),
            (("0 6 * * *", "169h", "UTC"), "duration"),
            (("0 6 * * *", "1d", "UTC"), "duration"),
        ];
        for ((schedule, duration, zone), field) in table {
            let error = Window::parse(&declared(WindowPolicy::Deny, schedule, duration, zone)).unwrap_err();
            assert!(error.contains(&format!("{field}:")), "{schedule} {duration} {zone}: {error}");
        }
    }
}
