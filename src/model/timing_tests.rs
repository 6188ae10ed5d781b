//! What each edition takes, what it is told, and what makes no difference.

use super::*;
use Edition::{Cloud, Server};
use serde_json::{Value, json};

fn declared(schedule: &Value, edition: Edition) -> Result<String, String> {
    let mut schedule = schedule.clone();
    schedule["name"] = json!("x");
    let schedule = serde_json::from_value(schedule).unwrap();
    Timing::declared(&schedule, edition).map(|timing| timing.to_string()).map_err(|error| error.0)
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn each_edition_is_told_what_it_can_run_and_the_rest_is_refused_with_what_is_nearest() {
    let table = [
        (
            json!({"frequency": "Hourly", "start": "06:00", "end": "20:00", "everyHours": 1}),
            Ok("Hourly 06:00-20:00 every hour"),
            Ok("Hourly 06:00-20:00 every hour"),
        ),
        (
            json!({"frequency": "Hourly", "start": "06:00", "end": "20:00", "everyMinutes": 60}),
            Ok("Hourly 06:00-20:00 every hour"),
            Err("use everyHours: 1"),
        ),
        (
            json!({"frequency": "Hourly", "start": "06:00", "end": "20:00", "everyMinutes": 30}),
            Err("use everyHours: 1"),
            Ok("Hourly 06:00-20:00 every 30 minutes"),
        ),
        (
            json!({"frequency": "Hourly", "start": "06:00", "end": "20:00", "everyHours": 4}),
            Err("frequency Daily with everyHours: 4"),
            Ok("Hourly 06:00-20:00 every 4 hours"),
        ),
        (
            json!({"frequency": "Hourly", "start": "06:00", "end": "20:00", "everyHours": 24}),
            Err("frequency Daily without everyHours"),
            Ok("Hourly 06:00-20:00 every 24 hours"),
        ),
        (
            json!({"frequency": "Hourly", "start": "06:00", "end": "20:00", "everyHours": 1, "weekDays": ["Monday"]}),
            Ok("Hourly 06:00-20:00 every hour on Monday"),
            Err("leave weekDays out"),
        ),
        (
            json!({"frequency": "Hourly", "start": "23:00", "end": "01:00", "everyHours": 1}),
            Err("later on the same day"),
            Ok("Hourly 23:00-01:00 every hour"),
        ),
        (
            json!({"frequency": "Hourly", "start": "06:00", "end": "20:30", "everyHours": 1}),
            Err("it could be 20:00"),
            Ok("Hourly 06:00-20:30 every hour"),
        ),
        (json!({"frequency": "Daily", "start": "02:00"}), Ok("Daily 02:00"), Ok("Daily 02:00")),
        (
            json!({"frequency": "Daily", "start": "02:00", "everyHours": 24}),
            Ok("Daily 02:00"),
            Ok("Daily 02:00"),
        ),
        (
            json!({"frequency": "Daily", "start": "02:00", "end": "08:00", "everyHours": 24}),
            Err("leave end and everyHours out"),
            Ok("Daily 02:00"),
        ),
        (json!({"frequency": "Daily", "start": "02:03"}), Err("start could be 02:00"), Ok("Daily 02:03")),
        (
            json!({"frequency": "Daily", "start": "02:00", "weekDays": ["Friday", "Monday"]}),
            Ok("Daily 02:00 on Monday, Friday"),
            Err("use frequency Weekly with these weekDays"),
        ),
        (
            json!({"frequency": "Daily", "start": "10:30", "end": "18:30", "everyHours": 4, "weekDays": ["Monday", "Friday"]}),
            Ok("Daily 10:30-18:30 every 4 hours on Monday, Friday"),
            Ok("Daily 10:30-18:30 every 4 hours on Monday, Friday"),
        ),
        (
            json!({"frequency": "Daily", "start": "10:30", "end": "18:30", "everyHours": 1}),
            Err("use frequency Hourly with everyHours: 1"),
            Err("use frequency Hourly with everyHours: 1"),
        ),
        (
            json!({"frequency": "Weekly", "start": "05:00", "weekDays": ["Sunday"]}),
            Ok("Weekly 05:00 on Sunday"),
            Ok("Weekly 05:00 on Sunday"),
        ),
        (
            json!({"frequency": "Weekly", "start": "05:00", "weekDays": ["Sunday", "Monday"]}),
            Err("use frequency Daily with these weekDays"),
            Ok("Weekly 05:00 on Monday, Sunday"),
        ),
        (
            json!({"frequency": "Monthly", "start": "05:00", "monthDays": ["LastDay", 15, 1]}),
            Ok("Monthly 05:00 on day 1, day 15, the last day"),
            Ok("Monthly 05:00 on day 1, day 15, the last day"),
        ),
        (
            json!({"frequency": "Monthly", "start": "05:00", "monthDays": ["First"], "weekDays": ["Monday"]}),
            Ok("Monthly 05:00 on the first Monday"),
            Ok("Monthly 05:00 on the first Monday"),
        ),
        (
            json!({"frequency": "Monthly", "start": "05:00", "monthDays": ["LastDay"], "weekDays": ["Friday"]}),
            Ok("Monthly 05:00 on the last Friday"),
            Ok("Monthly 05:00 on the last Friday"),
        ),
        (json!({"serverSchedule": "Nightly"}), Err("set frequency"), Err("set frequency")),
        (json!({"frequency": "Daily"}), Err("set start"), Err("set start")),
        (json!({"frequency": "Daily", "start": "24:00"}), Err("HH:MM"), Err("HH:MM")),
        (
            json!({"frequency": "Monthly", "start": "05:00", "monthDays": [32]}),
            Err("numbers from 1 to 31"),
            Err("numbers from 1 to 31"),
        ),
    ];
    for (schedule, cloud, server) in table {
        for (edition, expected) in [(Cloud, cloud), (Server, server)] {
            match (declared(&schedule, edition), expected) {
                (Ok(told), Ok(expected)) => assert_eq!(told, expected, "{edition:?} {schedule}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{edition:?} {schedule}: {error}"),
                (other, _) => panic!("{edition:?} {schedule}: {other:?}, not {expected:?}"),
            }
        }
    }
}

#[test]
fn what_tableau_adds_or_ignores_makes_no_difference() {
    let clock = |hour| Clock { hour, minute: 0 };
    let timing = |frequency, end: Option<u8>, intervals: &[Interval]| {
        let (end, intervals) = (end.map(clock), intervals.iter().copied().collect());
        Timing { frequency, start: clock(2), end, intervals }.normal()
    };
    let monday = Interval::WeekDay(WeekDay::Monday);
    let same = [
        (timing(Frequency::Weekly, Some(2), &[monday]), timing(Frequency::Weekly, None, &[monday])),
        (
            timing(Frequency::Monthly, Some(2), &[Interval::LastDay]),
            timing(Frequency::Monthly, None, &[Interval::LastDay]),
        ),
        (
            timing(Frequency::Daily, None, &[Interval::Hours(24), monday]),
            timing(Frequency::Daily, Some(2), &[monday, Interval::Hours(24)]),
        ),
        (timing(Frequency::Daily, Some(2), &[]), timing(Frequency::Daily, None, &[])),
        (
            timing(Frequency::Hourly, Some(5), &[Interval::Minutes(60)]),
            timing(Frequency::Hourly, Some(5), &[Interval::Hours(1)]),
        ),
    ];
    for (a, b) in same {
        assert_eq!(a, b);
    }
    assert_ne!(
        timing(Frequency::Daily, None, &[monday]),
        timing(Frequency::Daily, None, &[monday, Interval::Hours(24)]),
        "the trap of Tableau Cloud is a difference"
    );
    assert_ne!(timing(Frequency::Hourly, Some(5), &[]), timing(Frequency::Hourly, Some(6), &[]));
}

/// Everything that Cloud can run, the trap among it, with a few times of day: any two have two texts, as status compares them.
#[test]
fn on_cloud_two_definitions_have_two_texts() {
    let clocks = [(0, 0), (0, 5), (9, 30), (13, 30), (23, 30)].map(|(hour, minute)| Clock { hour, minute });
    let subsets = |all: &[Interval]| -> Vec<Vec<Interval>> {
        (1u32..1 << all.len())
            .map(|bits| (0..all.len()).filter(|n| bits & 1 << n != 0).map(|n| all[n]).collect())
            .collect()
    };
    let week = subsets(&WEEK.map(Interval::WeekDay));
    let days = [Interval::Day(1), Interval::Day(11), Interval::Day(15), Interval::Day(31), Interval::LastDay];
    let nth = NTH.iter().flat_map(|(_, nth)| WEEK.iter().map(|day| vec![Interval::Nth(*nth, *day)]));
    let months: Vec<_> = subsets(&days).into_iter().chain(nth).collect();
    let hours: Vec<_> = [2, 4, 6, 8, 12, 24].map(|hours| Some(Interval::Hours(hours))).to_vec();
    let mut known = std::collections::HashMap::new();
    let mut count = 0;
    let mut hold = |frequency, start, end, step: Option<Interval>, days: &Vec<Interval>| {
        let intervals = days.iter().copied().chain(step).collect();
        let timing = Timing { frequency, start, end, intervals }.normal();
        let text = timing.told(Cloud);
        count += 1;
        let before = known.entry(text.clone()).or_insert_with(|| timing.clone());
        assert_eq!(*before, timing, "both are told as {text}");
    };
    for start in clocks {
        let ends = || clocks.into_iter().filter(|end| end.minute == start.minute).map(Some);
        for days in &week {
            for step in [Some(Interval::Hours(1)), Some(Interval::Minutes(60))] {
                ends().filter(|end| *end > Some(start)).for_each(|end| {
                    hold(Frequency::Hourly, start, end, step, days);
                });
            }
            hold(Frequency::Daily, start, None, None, days);
            for step in &hours {
                ends().for_each(|end| hold(Frequency::Daily, start, end, *step, days));
            }
        }
        for day in WEEK {
            hold(Frequency::Weekly, start, None, None, &vec![Interval::WeekDay(day)]);
        }
        for days in &months {
            hold(Frequency::Monthly, start, None, None, days);
        }
    }
    assert!(count > 5_000, "{count}");
    let trap =
        Timing { frequency: Frequency::Daily, start: clocks[0], end: None, intervals: BTreeSet::new() };
    assert_eq!(
        (trap.told(Cloud), trap.told(Server)),
        ("Daily 00:00 every hour (no everyHours)".into(), "Daily 00:00".into())
    );
}
