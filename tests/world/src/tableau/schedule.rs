//! When a task runs (`tableau-rest.md` 6): what an edition accepts, how it is told, and the next run by the clock on the wall.

use std::fmt;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::config::Edition;
use super::element::Element;
use super::input::Input;
use super::refusal::Refusal;

/// A schedule's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timing {
    pub(super) frequency: Frequency,
    start: Time,
    end: Option<Time>,
    intervals: Vec<Interval>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frequency {
    Hourly,
    Daily,
    Weekly,
    Monthly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interval {
    Hours(i64),
    Minutes(i64),
    WeekDay(Weekday),
    Day(i8),
    LastDay,
    /// 1 to 5; 0 is the last.
    Nth(i8, Weekday),
}

const FREQUENCIES: [(&str, Frequency); 4] = [
    ("Hourly", Frequency::Hourly),
    ("Daily", Frequency::Daily),
    ("Weekly", Frequency::Weekly),
    ("Monthly", Frequency::Monthly),
];
const DAYS: [(&str, Weekday); 7] = [
    ("Sunday", Weekday::Sunday),
    ("Monday", Weekday::Monday),
    ("Tuesday", Weekday::Tuesday),
    ("Wednesday", Weekday::Wednesday),
    ("Thursday", Weekday::Thursday),
    ("Friday", Weekday::Friday),
    ("Saturday", Weekday::Saturday),
];
const ORDINALS: [(&str, i8); 6] =
    [("First", 1), ("Second", 2), ("Third", 3), ("Fourth", 4), ("Fifth", 5), ("LastDay", 0)];

impl Timing {
    /// From a `schedule` element with `frequency` and `frequencyDetails`; 409004 for what the edition does not accept.
    pub(super) fn read(schedule: &Input, edition: Edition) -> Result<Self, Refusal> {
        let frequency = schedule.attribute("frequency").unwrap_or_default();
        let frequency = *known(&FREQUENCIES, frequency).ok_or_else(|| bad("Invalid frequency."))?;
        let details =
            schedule.child("frequencyDetails").ok_or_else(|| bad("There are no frequency details."))?;
        details.allow(&["start", "end"], &["intervals"])?;
        let start = time(details.attribute("start"), edition)?.ok_or_else(|| bad("There is no start."))?;
        let end = time(details.attribute("end"), edition)?;
        let mut intervals = Vec::new();
        if let Some(list) = details.child("intervals") {
            list.allow_many(&[], "interval")?;
            for interval in list.children() {
                intervals.push(Interval::read(interval)?);
            }
        }
        let timing = Self { frequency, start, end, intervals };
        match edition {
            Edition::Cloud => timing.check_cloud()?,
            Edition::Server => timing.check_server()?,
        }
        Ok(timing)
    }

    fn check_cloud(&self) -> Result<(), Refusal> {
        let days = self.week_days().count();
        let whole_hours = |end: Time| end.minute() == self.start.minute();
        match self.frequency {
            Frequency::Hourly => {
                let every: Vec<_> = self.steps().collect();
                let hour = [Interval::Hours(1), Interval::Minutes(60)];
                check(every.len() == 1 && hour.contains(&every[0]), "Hourly schedules run every hour.")?;
                check(self.end.is_some_and(|end| whole_hours(end) && end > self.start), "Invalid end.")?;
                check(days > 0, NO_WEEK_DAY)
            }
            Frequency::Daily => {
                check(days > 0, NO_WEEK_DAY)?;
                check(!self.steps().any(|step| matches!(step, Interval::Minutes(_))), "Invalid minutes.")?;
                match self.hours() {
                    None => check(self.end.is_none(), "An end needs hours."),
                    Some(hours) => {
                        check([2, 4, 6, 8, 12, 24].contains(&hours), "Invalid hours.")?;
                        check(self.end.is_some_and(whole_hours), "Invalid end.")
                    }
                }
            }
            Frequency::Weekly => {
                check(days == 1 && self.intervals.len() == 1, "Weekly schedules have exactly one week day.")?;
                check(self.end.is_none(), "Weekly schedules have no end.")
            }
            Frequency::Monthly => self.check_monthly(),
        }
    }

    fn check_server(&self) -> Result<(), Refusal> {
        let steps: Vec<_> = self.steps().collect();
        match self.frequency {
            Frequency::Hourly => {
                let known = |step: &Interval| match step {
                    Interval::Hours(hours) => [1, 2, 4, 6, 8, 12, 24].contains(hours),
                    Interval::Minutes(minutes) => [15, 30, 60].contains(minutes),
                    _ => false,
                };
                check(
                    self.intervals.len() == 1 && steps.iter().all(known) && steps.len() == 1,
                    "Invalid interval.",
                )?;
                check(self.end.is_some(), "Hourly schedules have an end.")
            }
            // Intervals without hours are ignored.
            Frequency::Daily => check(
                self.hours().is_none_or(|hours| [2, 4, 6, 8, 12, 24].contains(&hours) && self.end.is_some()),
                "Invalid hours.",
            ),
            Frequency::Weekly => check(
                self.week_days().count() == self.intervals.len() && !self.intervals.is_empty(),
                NO_WEEK_DAY,
            ),
            Frequency::Monthly => self.check_monthly(),
        }
    }

    fn check_monthly(&self) -> Result<(), Refusal> {
        let day = |i: &Interval| matches!(i, Interval::Day(_) | Interval::LastDay | Interval::Nth(..));
        check(
            !self.intervals.is_empty() && self.intervals.iter().all(day),
            "Monthly schedules have a day of the month.",
        )?;
        check(self.end.is_none(), "Monthly schedules have no end.")
    }

    fn steps(&self) -> impl Iterator<Item = Interval> + '_ {
        self.intervals.iter().copied().filter(|i| matches!(i, Interval::Hours(_) | Interval::Minutes(_)))
    }

    /// Of several only the last counts.
    fn hours(&self) -> Option<i64> {
        let hours = |i: &Interval| if let Interval::Hours(hours) = i { Some(*hours) } else { None };
        self.intervals.iter().rev().find_map(hours)
    }

    fn week_days(&self) -> impl Iterator<Item = Weekday> + '_ {
        self.intervals.iter().filter_map(|i| if let Interval::WeekDay(day) = i { Some(*day) } else { None })
    }

    /// `frequencyDetails`, the steps first whatever order they came in.
    pub(super) fn element(&self) -> Element {
        let mut intervals: Vec<&Interval> = self.intervals.iter().collect();
        intervals.sort_by_key(|i| !matches!(i, Interval::Hours(_) | Interval::Minutes(_)));
        self.details(intervals.into_iter().map(Interval::element).collect())
    }

    /// The same where a Server does not tell the first Monday (6.7).
    pub(super) fn customized(&self) -> Element {
        if !self.intervals.iter().any(|interval| matches!(interval, Interval::Nth(..))) {
            return self.element();
        }
        self.details(vec![Element::new("interval").attribute("monthDay", "Customized Monthly")])
    }

    fn details(&self, intervals: Vec<Element>) -> Element {
        Element::new("frequencyDetails")
            .attribute("start", self.start.strftime("%H:%M:%S").to_string())
            .maybe("end", self.end.map(|end| end.strftime("%H:%M:%S").to_string()))
            .child(Element::list("intervals", intervals))
    }

    /// The first run after a moment, by the clock of `zone`. What the clock skips runs when it has been skipped; what it shows twice, once.
    pub(super) fn next_after(
        &self,
        after: Timestamp,
        zone: &TimeZone,
        edition: Edition,
    ) -> Option<Timestamp> {
        let first = zone.to_datetime(after).date().yesterday().ok()?;
        let runs = |date: Date| {
            let moments = self.of_day(date, edition).into_iter();
            moments
                .filter_map(|face| zone.to_ambiguous_timestamp(face).compatible().ok())
                .filter(|at| *at > after)
                .min()
        };
        // Runs of a day may reach into the next one.
        first.series(Span::new().days(1)).take(800).find_map(|date| {
            let (here, next) = (runs(date), date.tomorrow().ok().and_then(runs));
            here.into_iter().chain(next.filter(|_| here.is_some())).min()
        })
    }

    /// Runs that begin on a day; they may reach into the next.
    fn of_day(&self, date: Date, edition: Edition) -> Vec<DateTime> {
        let days: Vec<Weekday> = self.week_days().collect();
        let on = |empty: bool| if days.is_empty() { empty } else { days.contains(&date.weekday()) };
        let start = date.to_datetime(self.start);
        let every = |minutes: i64| -> Vec<DateTime> {
            let end = self.end.unwrap_or(self.start);
            let mut last = date.to_datetime(end);
            if end <= self.start {
                last = last.saturating_add(Span::new().days(1));
            }
            // A window of a whole day ends where the next begins.
            let inside = |at: &DateTime| if end == self.start { *at < last } else { *at <= last };
            start.series(Span::new().minutes(minutes)).take_while(inside).collect()
        };
        match self.frequency {
            Frequency::Hourly if on(true) => every(self.steps().next().map_or(60, Interval::minutes)),
            Frequency::Daily if on(true) => match (self.hours(), edition) {
                (Some(hours), _) => every(hours * 60),
                // The trap: Cloud runs it every hour.
                (None, Edition::Cloud) => every(60),
                (None, Edition::Server) => vec![start],
            },
            Frequency::Weekly if on(false) => vec![start],
            Frequency::Monthly if self.intervals.iter().any(|i| i.is_day(date)) => vec![start],
            _ => Vec::new(),
        }
    }
}

const NO_WEEK_DAY: &str = "Hourly and Daily schedules must have at least one weekDay interval. Valid values for weekDay are 'Monday', \
    'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday' or 'Sunday'.. (0x5CE10192 : Provided schedule must have a weekday interval present)";

impl Interval {
    fn read(interval: &Input) -> Result<Self, Refusal> {
        interval.allow(&["hours", "minutes", "weekDay", "monthDay"], &[])?;
        let number = |name: &str| {
            interval.attribute(name).map(|text| text.parse::<i64>().map_err(|_| bad("No number.")))
        };
        let week_day =
            interval.attribute("weekDay").map(|day| known(&DAYS, day).ok_or_else(|| bad("Invalid weekDay.")));
        match (number("hours"), number("minutes"), week_day, interval.attribute("monthDay")) {
            (Some(hours), None, None, None) => Ok(Self::Hours(hours?)),
            (None, Some(minutes), None, None) => Ok(Self::Minutes(minutes?)),
            (None, None, Some(day), None) => Ok(Self::WeekDay(*day?)),
            (None, None, Some(day), Some(nth)) => {
                let nth = known(&ORDINALS, nth).ok_or_else(|| bad("Invalid monthDay."))?;
                Ok(Self::Nth(*nth, *day?))
            }
            (None, None, None, Some("LastDay")) => Ok(Self::LastDay),
            (None, None, None, Some(day)) => {
                let day = day.parse().ok().filter(|day| (1..=31).contains(day));
                Ok(Self::Day(day.ok_or_else(|| bad("Invalid monthDay."))?))
            }
            _ => Err(bad("An interval is one of hours, minutes, weekDay, monthDay.")),
        }
    }

    fn element(&self) -> Element {
        let interval = Element::new("interval");
        match self {
            Self::Hours(hours) => interval.attribute("hours", hours.to_string()),
            Self::Minutes(minutes) => interval.attribute("minutes", minutes.to_string()),
            Self::WeekDay(day) => interval.attribute("weekDay", name(&DAYS, day)),
            Self::Day(day) => interval.attribute("monthDay", day.to_string()),
            Self::LastDay => interval.attribute("monthDay", "LastDay"),
            Self::Nth(nth, day) => {
                interval.attribute("weekDay", name(&DAYS, day)).attribute("monthDay", name(&ORDINALS, nth))
            }
        }
    }

    fn minutes(self) -> i64 {
        match self {
            Self::Hours(hours) => hours * 60,
            Self::Minutes(minutes) => minutes,
            Self::WeekDay(_) | Self::Day(_) | Self::LastDay | Self::Nth(..) => 60,
        }
    }

    fn is_day(&self, date: Date) -> bool {
        let last = date.last_of_month();
        match *self {
            Self::Day(day) => date.day() == day,
            Self::LastDay => date == last,
            Self::Nth(0, day) => date.weekday() == day && date.day() > last.day() - 7,
            Self::Nth(nth, day) => date.weekday() == day && (date.day() - 1) / 7 + 1 == nth,
            Self::Hours(_) | Self::Minutes(_) | Self::WeekDay(_) => false,
        }
    }
}

impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(&FREQUENCIES, self))
    }
}

/// For readers of the truth: `Daily 02:00-02:00 hours=24 weekDay=Monday`.
impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.frequency, self.start.strftime("%H:%M"))?;
        if let Some(end) = self.end {
            write!(f, "-{}", end.strftime("%H:%M"))?;
        }
        let mut parts: Vec<String> = self
            .intervals
            .iter()
            .map(|i| match i {
                Interval::Hours(hours) => format!("hours={hours}"),
                Interval::Minutes(minutes) => format!("minutes={minutes}"),
                Interval::WeekDay(day) => format!("weekDay={}", name(&DAYS, day)),
                Interval::Day(day) => format!("monthDay={day}"),
                Interval::LastDay => "monthDay=LastDay".to_owned(),
                Interval::Nth(nth, day) => {
                    format!("monthDay={} weekDay={}", name(&ORDINALS, nth), name(&DAYS, day))
                }
            })
            .collect();
        parts.sort();
        parts.iter().try_for_each(|part| write!(f, " {part}"))
    }
}

/// `HH:mm:ss`; Cloud wants minutes in steps of five.
fn time(text: Option<&str>, edition: Edition) -> Result<Option<Time>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let time = Time::strptime("%H:%M:%S", text).ok().filter(|_| text.len() == 8);
    let time = time.ok_or_else(|| bad("Invalid time."))?;
    let fits = time.second() == 0 && (edition == Edition::Server || time.minute() % 5 == 0);
    check(fits, "Invalid time.")?;
    Ok(Some(time))
}

fn known<'a, T>(table: &'a [(&str, T)], name: &str) -> Option<&'a T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

fn name<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name)
}

fn check(holds: bool, detail: &str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(bad(detail)) }
}

fn bad(detail: &str) -> Refusal {
    Refusal::schedule(detail)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
