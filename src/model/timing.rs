//! When Tableau runs a schedule by itself (tableau-rest.md 6): one normal form for what is declared, what is sent and what is read, and what each
//! edition can express. Nothing is rounded: what cannot be expressed is refused, with the nearest that can.

use crate::api::{Edition, Frequency, TableauSchedule, WeekDay};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeSet;
use std::fmt;

/// A definition in normal form: equal ones run at the same times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timing {
    /// How often.
    pub frequency: Frequency,
    /// First run of a day.
    pub start: Clock,
    /// Until when it runs again.
    pub end: Option<Clock>,
    /// Steps and days.
    pub intervals: BTreeSet<Interval>,
}

/// A time of day, without seconds: Tableau has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clock {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
}

/// One `interval` of Tableau's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interval {
    /// Hours from one run to the next.
    Hours(u8),
    /// Minutes from one run to the next.
    Minutes(u8),
    /// A day of the week.
    WeekDay(WeekDay),
    /// A day of the month.
    Day(u8),
    /// The last day of the month.
    LastDay,
    /// As in the first Monday.
    Nth(Nth, WeekDay),
    /// Days that a Server has taken and does not tell: `Customized Monthly`. Never declared.
    Untold,
}

/// Which one of a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Nth {
    First,
    Second,
    Third,
    Fourth,
    Fifth,
    Last,
}

/// All days of the week.
pub const WEEK: [WeekDay; 7] = [
    WeekDay::Monday,
    WeekDay::Tuesday,
    WeekDay::Wednesday,
    WeekDay::Thursday,
    WeekDay::Friday,
    WeekDay::Saturday,
    WeekDay::Sunday,
];

/// Tableau's words for [`Nth`].
pub const NTH: [(&str, Nth); 6] = [
    ("First", Nth::First),
    ("Second", Nth::Second),
    ("Third", Nth::Third),
    ("Fourth", Nth::Fourth),
    ("Fifth", Nth::Fifth),
    ("LastDay", Nth::Last),
];

/// An edition cannot run it: why, and the nearest that it can, one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotExpressible(pub String);

impl Timing {
    /// A definition as an edition has to be told.
    ///
    /// # Errors
    /// The edition cannot run it.
    pub fn declared(s: &TableauSchedule, edition: Edition) -> Result<Self, NotExpressible> {
        let declared = Declared::read(s)?;
        match edition {
            Edition::Cloud => declared.on_cloud(),
            Edition::Server => declared.on_server(),
        }
    }

    /// The same in normal form: what Tableau adds, leaves out or ignores makes no difference.
    #[must_use]
    pub fn normal(mut self) -> Self {
        if self.intervals.remove(&Interval::Minutes(60)) {
            self.intervals.insert(Interval::Hours(1));
        }
        let step = self.has_step();
        match self.frequency {
            Frequency::Daily => {
                if self.intervals.contains(&Interval::Hours(24)) {
                    self.end = Some(self.start);
                } else if !step {
                    self.end = None;
                }
            }
            Frequency::Weekly | Frequency::Monthly => self.end = None,
            Frequency::Hourly => {}
        }
        self
    }

    /// The same as a Server tells it that keeps the first Monday to itself; none: it has nothing to keep.
    #[must_use]
    pub fn untold(&self) -> Option<Self> {
        let kept = self.intervals.iter().any(|interval| matches!(interval, Interval::Nth(..)));
        kept.then(|| Self { intervals: BTreeSet::from([Interval::Untold]), ..self.clone() })
    }

    /// As an edition runs it: on Cloud the trap of 6.6 is told apart. Texts of what Cloud can run are equal exactly if the definitions are.
    pub fn told(&self, edition: Edition) -> String {
        let trap = edition == Edition::Cloud && self.frequency == Frequency::Daily && !self.has_step();
        let trap = if trap { " every hour (no everyHours)" } else { "" };
        format!("{}{trap}{}", self.times(), self.days())
    }

    fn has_step(&self) -> bool {
        self.intervals.iter().any(|i| matches!(i, Interval::Hours(_) | Interval::Minutes(_)))
    }

    fn times(&self) -> String {
        let mut text = format!("{:?} {}", self.frequency, self.start);
        let steps = self.intervals.iter().filter_map(|interval| match interval {
            Interval::Hours(1) => Some(" every hour".to_owned()),
            Interval::Hours(hours) => Some(format!(" every {hours} hours")),
            Interval::Minutes(minutes) => Some(format!(" every {minutes} minutes")),
            Interval::WeekDay(_)
            | Interval::Day(_)
            | Interval::LastDay
            | Interval::Nth(..)
            | Interval::Untold => None,
        });
        let steps: Vec<String> = steps.collect();
        let once = self.frequency == Frequency::Daily
            && self.intervals.contains(&Interval::Hours(24))
            && steps.len() == 1;
        if !once {
            text.extend(self.end.map(|end| format!("-{end}")));
            text.extend(steps);
        }
        text
    }

    fn days(&self) -> String {
        let week: Vec<_> =
            WEEK.iter().filter(|day| self.intervals.contains(&Interval::WeekDay(**day))).collect();
        let days = week.iter().map(|day| format!("{day:?}")).filter(|_| week.len() < WEEK.len());
        let month = self.intervals.iter().filter_map(|interval| match interval {
            Interval::Day(day) => Some(format!("day {day}")),
            Interval::LastDay => Some("the last day".to_owned()),
            Interval::Nth(Nth::Last, day) => Some(format!("the last {day:?}")),
            Interval::Nth(nth, day) => Some(format!("the {} {day:?}", format!("{nth:?}").to_lowercase())),
            Interval::Untold => Some("days that the server does not tell".to_owned()),
            Interval::Hours(_) | Interval::Minutes(_) | Interval::WeekDay(_) => None,
        });
        let days: Vec<String> = days.chain(month).collect();
        if days.is_empty() { String::new() } else { format!(" on {}", days.join(", ")) }
    }
}

/// What is declared, before an edition is asked.
struct Declared {
    frequency: Frequency,
    start: Clock,
    end: Option<Clock>,
    hours: Option<u8>,
    minutes: Option<u8>,
    /// None: every day.
    week_days: Option<BTreeSet<WeekDay>>,
    month_days: BTreeSet<Interval>,
}

impl Declared {
    fn read(s: &TableauSchedule) -> Result<Self, NotExpressible> {
        let frequency = s.frequency.ok_or_else(|| no("set frequency or serverSchedule"))?;
        let clock = |text: &Option<String>| {
            text.as_deref().map(|t| Clock::read(t).ok_or_else(|| no("a time is HH:MM")))
        };
        let small = |number: Option<i32>| number.and_then(|number| u8::try_from(number).ok());
        let week_days: Option<BTreeSet<WeekDay>> =
            s.week_days.as_ref().filter(|days| !days.is_empty()).map(|days| days.iter().copied().collect());
        let month_days = s.month_days.iter().flatten().map(|day| month_day(day, week_days.as_ref()));
        let missing = match frequency {
            Frequency::Hourly => s.end.is_none() || (s.every_hours.is_none() && s.every_minutes.is_none()),
            Frequency::Daily => {
                s.every_minutes.is_some() || (s.end.is_none() && s.every_hours.is_some_and(|h| h != 24))
            }
            Frequency::Weekly => week_days.is_none(),
            Frequency::Monthly => s.month_days.as_ref().is_none_or(Vec::is_empty),
        };
        if missing {
            return Err(no(match frequency {
                Frequency::Hourly => "Hourly needs end, and everyHours or everyMinutes",
                Frequency::Daily => "Daily runs once, or with everyHours until end",
                Frequency::Weekly => "Weekly needs weekDays",
                Frequency::Monthly => "Monthly needs monthDays",
            }));
        }
        Ok(Self {
            frequency,
            start: clock(&s.start).ok_or_else(|| no("set start"))??,
            end: clock(&s.end).transpose()?,
            hours: small(s.every_hours),
            minutes: small(s.every_minutes),
            month_days: month_days.collect::<Result<_, _>>()?,
            week_days: if frequency == Frequency::Monthly { None } else { week_days },
        })
    }

    fn on_cloud(self) -> Result<Timing, NotExpressible> {
        for (field, clock) in [("start", Some(self.start)), ("end", self.end)] {
            if let Some(clock) = clock.filter(|clock| clock.minute % 5 != 0) {
                let near = Clock { minute: clock.minute / 5 * 5, ..clock };
                return Err(no(format!(
                    "Tableau Cloud takes times in steps of five minutes: {field} could be {near}"
                )));
            }
        }
        if let Some(end) = self.end.filter(|end| end.minute != self.start.minute) {
            let near = Clock { minute: self.start.minute, ..end };
            return Err(no(format!(
                "on Tableau Cloud end is a whole number of hours after start: it could be {near}"
            )));
        }
        match self.frequency {
            Frequency::Hourly => match (self.hours, self.minutes) {
                (Some(1), None) | (None, Some(60)) => {
                    if self.end.is_none_or(|end| end <= self.start) {
                        return Err(no(
                            "on Tableau Cloud the end of an Hourly schedule is later on the same day than its start",
                        ));
                    }
                    Ok(self.timing([Interval::Hours(1)], &WEEK))
                }
                (Some(24), _) => {
                    Err(no("Tableau Cloud runs Hourly every hour: use frequency Daily without everyHours"))
                }
                (Some(hours), _) => Err(no(format!(
                    "Tableau Cloud runs Hourly every hour: use frequency Daily with everyHours: {hours}"
                ))),
                (None, _) => {
                    Err(no("Tableau Cloud runs nothing more often than every hour: use everyHours: 1"))
                }
            },
            Frequency::Daily => match self.hours {
                None | Some(24) => {
                    if self.end.is_some_and(|end| end != self.start) {
                        return Err(no(
                            "a schedule that runs once a day has no end: leave end and everyHours out",
                        ));
                    }
                    // Without hours Cloud runs it every hour (the trap of 6.6).
                    let start = self.start;
                    Ok(Self { end: Some(start), ..self }.timing([Interval::Hours(24)], &WEEK))
                }
                Some(1) => Err(no(
                    "Daily runs every 2, 4, 6, 8, 12 or 24 hours: use frequency Hourly with everyHours: 1",
                )),
                Some(hours) => Ok(self.timing([Interval::Hours(hours)], &WEEK)),
            },
            Frequency::Weekly => match self.week_days.as_ref().map_or(0, BTreeSet::len) {
                1 => Ok(self.timing([], &[])),
                _ => Err(no(
                    "a Weekly schedule of Tableau Cloud has one of weekDays: use frequency Daily with these weekDays",
                )),
            },
            Frequency::Monthly => Ok(self.monthly()),
        }
    }

    fn on_server(self) -> Result<Timing, NotExpressible> {
        match self.frequency {
            Frequency::Hourly => {
                if self.week_days.is_some() {
                    return Err(no(
                        "an Hourly schedule of Tableau Server runs on every day: leave weekDays out, or use frequency Daily with everyHours from 2 on",
                    ));
                }
                let step = match (self.hours, self.minutes) {
                    (Some(hours), _) => Interval::Hours(hours),
                    (None, Some(minutes @ (15 | 30))) => Interval::Minutes(minutes),
                    (None, _) => {
                        return Err(no("Tableau Server takes everyMinutes 15 and 30: use everyHours: 1"));
                    }
                };
                Ok(self.timing([step], &[]))
            }
            Frequency::Daily => match self.hours {
                None | Some(24) if self.week_days.as_ref().is_some_and(|days| days.len() < WEEK.len()) => {
                    Err(no(
                        "a schedule of Tableau Server that runs once a day does so on every day: use frequency Weekly with these weekDays",
                    ))
                }
                None | Some(24) => Ok(Self { end: None, week_days: None, ..self }.timing([], &[])),
                Some(1) => Err(no(
                    "Daily runs every 2, 4, 6, 8, 12 or 24 hours: use frequency Hourly with everyHours: 1",
                )),
                Some(hours) => Ok(self.timing([Interval::Hours(hours)], &[])),
            },
            Frequency::Weekly => Ok(self.timing([], &[])),
            Frequency::Monthly => Ok(self.monthly()),
        }
    }

    /// `every_day`: the days of the week where none are declared.
    fn timing(self, steps: impl IntoIterator<Item = Interval>, every_day: &[WeekDay]) -> Timing {
        let days = self.week_days.unwrap_or_else(|| every_day.iter().copied().collect());
        let intervals = steps.into_iter().chain(days.into_iter().map(Interval::WeekDay)).collect();
        Timing { frequency: self.frequency, start: self.start, end: self.end, intervals }.normal()
    }

    fn monthly(self) -> Timing {
        Timing { frequency: self.frequency, start: self.start, end: None, intervals: self.month_days }
    }
}

fn month_day(day: &IntOrString, week_days: Option<&BTreeSet<WeekDay>>) -> Result<Interval, NotExpressible> {
    let week_day = week_days.and_then(|days| days.first());
    match (day, week_day) {
        (IntOrString::Int(day @ 1..=31), None) => Ok(Interval::Day(u8::try_from(*day).unwrap_or(1))),
        (IntOrString::String(text), None) if text == "LastDay" => Ok(Interval::LastDay),
        (IntOrString::String(text), Some(week_day)) => {
            let nth = NTH.iter().find(|(name, _)| name == text);
            nth.map(|(_, nth)| Interval::Nth(*nth, *week_day)).ok_or_else(|| no("monthDays: no such day"))
        }
        _ => Err(no(
            "monthDays are numbers from 1 to 31 and LastDay, or First to Fifth or LastDay with one of weekDays",
        )),
    }
}

fn no(why: impl Into<String>) -> NotExpressible {
    NotExpressible(why.into())
}

impl Clock {
    /// Reads `HH:MM` and `HH:MM:SS`.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(':').map(|part| part.parse::<u8>().ok());
        let (hour, minute) = (parts.next()??, parts.next()??);
        (hour < 24 && minute < 60).then_some(Self { hour, minute })
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour, self.minute)
    }
}

/// As people say it, and exact: `Daily 10:30-18:30 every 4 hours on Monday, Friday`.
impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(Edition::Server))
    }
}

#[cfg(test)]
#[path = "timing_tests.rs"]
mod tests;
